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
	all   int // on record one by one, in this window
	count map[netip.Prefix]tally
}

// tally is the calls of one network in a window.
type tally struct{ seen, written int }

// refusedSum is how many calls of a network are not on record one by one.
type refusedSum struct {
	from netip.Prefix
	n    int
}

func newRefusals(now func() time.Time, report func(netip.Prefix, int)) *refusals {
	return &refusals{now: now, report: report, count: map[netip.Prefix]tally{}}
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

// one counts a refusal and says whether it goes on record by itself. What does
// not is summed up when the window is over.
func (r *refusals) one(from netip.Addr) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.now(); !now.Before(r.until) {
		// One a window, and it ends with its last line: nobody waits here for the record.
		go r.tell(r.sums())
		r.until = now.Add(refusalWindow)
		time.AfterFunc(refusalWindow, r.end) // a flood that stops is summed up too
	}
	n := network(from)
	if _, known := r.count[n]; !known && len(r.count) >= refusalNetworks {
		n = netip.Prefix{}
	}
	t := r.count[n]
	t.seen++
	alone := t.written < refusalsEach && r.all < refusalsTogether
	if alone {
		t.written++
		r.all++
	}
	r.count[n] = t
	return alone
}

// end closes a window that is over.
func (r *refusals) end() {
	r.mu.Lock()
	var sums []refusedSum
	if !r.now().Before(r.until) {
		sums = r.sums()
	}
	r.mu.Unlock()
	r.tell(sums)
}

// tell reports what a window has come to. It is called without the lock, since the
// record may make it wait.
func (r *refusals) tell(sums []refusedSum) {
	for _, s := range sums {
		r.report(s.from, s.n)
	}
}

// sums takes what the window has come to, and begins anew. At most a hundred
// networks get a line of their own. The caller holds the lock.
func (r *refusals) sums() (out []refusedSum) {
	const lines = 100
	rest := 0
	for from, t := range r.count {
		left := t.seen - t.written
		switch {
		case left == 0:
		case len(out) == lines || !from.IsValid():
			rest += left
		default:
			out = append(out, refusedSum{from, left})
		}
	}
	if rest > 0 {
		out = append(out, refusedSum{netip.Prefix{}, rest})
	}
	clear(r.count)
	r.all = 0
	return out
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
