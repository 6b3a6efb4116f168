package hop

import (
	"strconv"
	"strings"
	"sync"
	"time"
)

// Features is what a route can carry, as its hosts said in EHLO.
type Features struct {
	SMTPUTF8     bool
	DSN          bool
	EightBitMIME bool
	Chunking     bool
	Size         int64 // the largest mail in octets that one of them takes; 0: not said
	Recipients   int   // how many of them a mail may have (RFC 9422, RCPTMAX); 0: not said
}

// and is what both can carry. The size is that of either: what one host does not
// take is offered to the next.
func (f Features) and(g Features) Features {
	size := max(f.Size, g.Size)
	if f.Size == 0 || g.Size == 0 {
		size = 0
	}
	most := min(f.Recipients, g.Recipients)
	if most == 0 {
		most = max(f.Recipients, g.Recipients)
	}
	return Features{SMTPUTF8: f.SMTPUTF8 && g.SMTPUTF8, DSN: f.DSN && g.DSN, EightBitMIME: f.EightBitMIME && g.EightBitMIME,
		Chunking: f.Chunking && g.Chunking, Size: size, Recipients: most}
}

func featuresOf(offered map[string]string) Features {
	has := func(name string) bool { _, ok := offered[name]; return ok }
	f := Features{SMTPUTF8: has("SMTPUTF8"), DSN: has("DSN"), EightBitMIME: has("8BITMIME"), Chunking: has("CHUNKING")}
	if n, err := strconv.ParseInt(strings.TrimSpace(offered["SIZE"]), 10, 64); err == nil && n > 0 {
		f.Size = n // RFC 1870 §4: 0 or nothing is no limit
	}
	f.Recipients = limitOf(offered, "RCPTMAX")
	return f
}

// limitOf is one of the limits that a host says it has (RFC 9422 §4), or 0.
func limitOf(offered map[string]string, name string) (n int) {
	for limit := range strings.FieldsSeq(strings.ToUpper(offered["LIMITS"])) {
		if value, ok := strings.CutPrefix(limit, name+"="); ok {
			n, _ = strconv.Atoi(value)
		}
	}
	return max(n, 0)
}

// knownMost bounds the hosts whose features are remembered.
const knownMost = 10_000

// memory remembers what hosts offered when they were last spoken to.
type memory struct {
	mu    sync.Mutex // guards hosts
	hosts map[string]known
}

type known struct {
	Features
	put time.Time // on the shelf
}

// learn says whether that has to be put away.
func (m *memory) learn(key string, f Features, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	old, ok := m.hosts[key]
	fresh := !ok || old.Features != f || now.Sub(old.put) > featuresAgain
	if fresh {
		m.note(key, known{f, now})
	}
	return fresh
}

// recalled notes what is known from before, unless the host has answered since.
func (m *memory) recalled(key string, f Features) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.hosts[key]; !ok {
		m.note(key, known{Features: f})
	}
}

// note wants m.mu held.
func (m *memory) note(key string, k known) {
	if m.hosts == nil {
		m.hosts = map[string]known{}
	}
	if _, known := m.hosts[key]; !known && len(m.hosts) >= knownMost {
		for some := range m.hosts {
			delete(m.hosts, some)
			break
		}
	}
	m.hosts[key] = k
}

func (m *memory) recall(key string) (Features, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.hosts[key]
	return k.Features, ok
}

// Features says what a route can carry: what all of its hosts can that have
// been spoken to, or what they offered last where they do not answer. It asks
// nobody; ok is false before the first connection is tried, which a mail,
// [Sender.Verify] or [Sender.Check] does, and for mx: routes.
func (p *Sender) Features(route string) (all Features, ok bool) {
	if strings.HasPrefix(route, mxPrefix) {
		return Features{}, false
	}
	list, err := p.settings.Load().listed(route)
	if err != nil {
		return Features{}, false
	}
	for _, ep := range list {
		f, known := p.known.recall(ep.key)
		switch {
		case known && ok:
			all = all.and(f)
		case known:
			all, ok = f, true
		}
	}
	return all, ok
}
