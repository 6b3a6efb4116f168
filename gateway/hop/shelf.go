package hop

import (
	"context"
	"encoding/json"
	"strings"
	"time"
)

// Shelf keeps what was learned of hosts and domains for the next process. It may
// lose anything: a failure is a thing that is not there.
type Shelf interface {
	Get(ctx context.Context, key string) (value []byte, ok bool)
	Put(ctx context.Context, key string, value []byte, keep time.Duration)
}

const (
	// featuresKeep is how long a host that does not answer counts for what it offered.
	featuresKeep = 30 * 24 * time.Hour
	// featuresAgain is how often what did not change is put away anew.
	featuresAgain = time.Hour
)

// learn remembers what a host offers, also for a process that starts while it is
// away.
func (p *Sender) learn(ctx context.Context, s *settings, ep endpoint, offered map[string]string) {
	f := featuresOf(offered)
	if !p.known.learn(ep.key, f, time.Now()) || s.Shelf == nil || ep.isOfWorld() {
		return
	}
	if b, err := json.Marshal(f); err == nil {
		s.Shelf.Put(context.WithoutCancel(ctx), featuresKey(ep), b, featuresKeep)
	}
}

// remind recalls what a host offered to a process before this one. A host that is
// down when we start would else have its clients bounce what it can carry.
func (p *Sender) remind(ctx context.Context, s *settings, ep endpoint) {
	if _, known := p.known.recall(ep.key); known || s.Shelf == nil || ep.isOfWorld() {
		return
	}
	b, ok := s.Shelf.Get(context.WithoutCancel(ctx), featuresKey(ep))
	var f Features
	if ok && json.Unmarshal(b, &f) == nil {
		p.known.recalled(ep.key, f)
	}
}

func featuresKey(ep endpoint) string { return "features:" + ep.key }

// isOfWorld says whether a host was found in DNS: what EHLO offers does not depend on it.
func (ep endpoint) isOfWorld() bool { return strings.HasPrefix(ep.key, "mx ") }

// keptPolicy is an MTA-STS policy on the shelf.
type keptPolicy struct {
	ID    string    `json:"id"`
	Mode  string    `json:"mode"`
	MX    []string  `json:"mx"`
	Until time.Time `json:"until"`
}

// keepSTS puts a policy away for its max_age: a restart while its file cannot be had
// must not switch it off (RFC 8461 §3.3 and §10.2).
func (s *settings) keepSTS(ctx context.Context, domain string, e *stsEntry) {
	if s.Shelf == nil {
		return
	}
	if b, err := json.Marshal(keptPolicy{e.id, e.policy.mode, e.policy.mx, e.until}); err == nil {
		s.Shelf.Put(context.WithoutCancel(ctx), "mta-sts:"+domain, b, max(e.policy.maxAge, time.Second))
	}
}

// keptSTS finds a policy that is still in force, or nil.
func (s *settings) keptSTS(ctx context.Context, domain string) *keptPolicy {
	if s.Shelf == nil {
		return nil
	}
	b, ok := s.Shelf.Get(ctx, "mta-sts:"+domain)
	var k keptPolicy
	if !ok || json.Unmarshal(b, &k) != nil || time.Now().After(k.Until) {
		return nil
	}
	return &k
}
