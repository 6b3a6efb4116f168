// Package phishing judges what a mail says and who it says it comes from: signs
// of phishing and of spam, each with a name, a weight and an explanation.
//
// On a mail's path it comes after the sidecar has read the mail and the sender
// has been checked. It computes from what these two found, and opens, fetches
// and asks for nothing. A sign is never a verdict: the signs of a mail add up,
// and each recipient's policy says from which sum on the mail is of a class.
package phishing

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"mailward/policy"
	"mailward/scanner"
)

// Config says what is known of the own side. Each func may be nil, must not
// block, and may be called from several goroutines.
type Config struct {
	// Served returns the domains of a workspace, in lower case. Those of a mail's
	// recipients count in any case.
	Served func(workspace uuid.UUID) []string
	// People returns the display names of a workspace's own people, in lower case.
	People func(workspace uuid.UUID) []string
	// Off are signs that are not looked for, by name: for measuring.
	Off []string
	// Now is the time against which dates are held. Default: time.Now.
	Now func() time.Time
	// Hostname is ours: nobody else has received the mail under it.
	Hostname string
}

// Engine is the judge. Its findings bear the name of the engine phishing or spam,
// since all signs count for spam, and only some for phishing.
type Engine struct {
	cfg   Config
	data  *data
	signs map[string]sign
}

// sign is a symbol, and for what it counts.
type sign struct {
	Symbol
	engine string
}

const spamEngine = "spam"

// New returns the judge.
func New(cfg Config) (*Engine, error) {
	d, err := load()
	if err != nil {
		return nil, fmt.Errorf("phishing: %w", err)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	e, s := &Engine{cfg: cfg, data: d, signs: map[string]sign{}}, Symbols()
	for engine, list := range map[string][]Symbol{policy.PhishingEngine: s.Phishing, spamEngine: s.Spam} {
		for _, one := range list {
			if !slices.Contains(cfg.Off, one.Name) {
				e.signs[one.Name] = sign{one, engine}
			}
		}
	}
	return e, nil
}

// Name implements [scanner.Judge].
func (*Engine) Name() string { return policy.PhishingEngine }

// Judge implements [scanner.Judge]. Outbound mail is judged alike: a mailbox
// that was taken over sends phishing too.
func (e *Engine) Judge(_ context.Context, q scanner.Question) ([]policy.Finding, scanner.Info, error) {
	m := e.mail(q)
	findPhishing(m)
	findSpam(m)
	return m.found, scanner.Info{}, nil
}

// sign notes a sign once, with what shows it.
func (m *mail) sign(name, shown string) {
	s, ok := m.e.signs[name]
	if !ok || m.has(name) {
		return
	}
	reason := s.Text
	if shown = strings.TrimSpace(shown); shown != "" {
		reason += ": " + short(shown)
	}
	m.found = append(m.found, policy.Finding{Engine: s.engine, Name: name, Score: s.Weight, Reason: reason})
}

func (m *mail) has(name string) bool {
	return slices.ContainsFunc(m.found, func(f policy.Finding) bool { return f.Name == name })
}

// short bounds what a reason shows of a mail.
func short(s string) string {
	const most = 80
	r := []rune(s)
	if len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
