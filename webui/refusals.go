package webui

import (
	"context"
	"encoding/hex"
	"net/netip"
	"strings"
	"sync"
	"time"

	"mailward/audit"
	"mailward/internal/pg"
)

// Calls that nobody is logged in for are on record one by one, but not without
// end: whoever floods the API must not fill the audit.
const (
	refusalWindow    = time.Minute
	refusalsEach     = 20   // of one network in a window, one by one
	refusalsTogether = 600  // of all networks in a window, one by one
	refusalNetworks  = 4096 // that are told apart
)

// refusals counts calls without a login by the network that they came from.
type refusals struct {
	now    func() time.Time
	report func(from netip.Prefix, n int) // zero: networks that were too many to tell apart

	mu    sync.Mutex // guards the rest
	until time.Time
	all   int
	count map[netip.Prefix]int
}

func newRefusals(now func() time.Time, report func(netip.Prefix, int)) *refusals {
	return &refusals{now: now, report: report, count: map[netip.Prefix]int{}}
}

// network is what one customer has: an address, or the /64 of IPv6.
func network(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// one counts a refusal and says whether it goes on record by itself. The first
// one after a window brings the summaries of what did not.
func (r *refusals) one(from netip.Addr) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.now(); !now.Before(r.until) {
		r.flush()
		r.until = now.Add(refusalWindow)
		// A flood that stops is summed up too.
		if r.report != nil {
			time.AfterFunc(refusalWindow, r.end)
		}
	}
	n := network(from)
	if _, known := r.count[n]; !known && len(r.count) >= refusalNetworks {
		n = netip.Prefix{}
	}
	r.count[n]++
	if r.count[n] > refusalsEach || r.all >= refusalsTogether {
		return false
	}
	r.all++
	return true
}

// end closes a window that is over.
func (r *refusals) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.now().Before(r.until) {
		r.flush()
	}
}

// flush sums up the window. At most a hundred networks get a line of their own.
func (r *refusals) flush() {
	const lines = 100
	rest, n := 0, 0
	for from, count := range r.count {
		left := count - refusalsEach
		if left <= 0 {
			continue
		}
		if n++; n > lines || !from.IsValid() {
			rest += left
			continue
		}
		r.report(from, left)
	}
	if rest > 0 {
		r.report(netip.Prefix{}, rest)
	}
	clear(r.count)
	r.all = 0
}

// recordRefusals puts on record how many calls of a network were not written one
// by one.
func (s *Server) recordRefusals(from netip.Prefix, n int) {
	ev := audit.Event{Action: audit.APIRefused, Outcome: "refused", OutcomeCode: "too_many", Severity: "warning", Actor: pg.Actor{Type: pg.ActorAnonymous, AuthMethod: "none"},
		After: map[string]any{"calls": n, "window_s": int(refusalWindow.Seconds())}, Request: pg.Request{Application: "api", SourceIP: from.Addr()}}
	if !from.IsValid() {
		ev.OutcomeDetail = "several networks together"
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	s.deps.Audit.RecordLater(ctx, ev)
}

// traceID is that of a traceparent header (W3C Trace Context §3.2), or "".
func traceID(header string) string {
	parts := strings.Split(header, "-")
	if len(parts) < 4 || len(parts[1]) != 32 || strings.Trim(parts[1], "0") == "" {
		return ""
	}
	if _, err := hex.DecodeString(parts[1]); err != nil {
		return ""
	}
	return parts[1]
}
