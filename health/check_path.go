package health

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// Hop is what a check of a next hop found.
type Hop struct {
	Hosts    []string // each in a few words
	Warnings Text     // what does not stop mail
}

// NextHop checks a mail server that we relay to, or the hosts of a route,
// through the function of the gateway that speaks SMTP: a connection, and a
// greeting that welcomes us.
func NextHop(addr string, check func(ctx context.Context, addr string) (Hop, error)) Component {
	meaning := say("m.next_hop", plain(addr))
	return Component{
		Name: "next_hop:" + addr, Title: "Next hop " + addr, Group: "next_hop", Effect: StopsAsGroup, Meaning: meaning,
		Check: func(ctx context.Context) Result {
			began := time.Now()
			hop, err := check(ctx, addr)
			r := Result{State: Up, Latency: time.Since(began), Facts: map[string]string{"address": addr}}
			if len(hop.Hosts) > 0 {
				r.Facts["hosts"] = joinLimited(hop.Hosts, 8)
			}
			if err != nil {
				r.State, r.Code, r.Detail = Down, "unreachable", err.Error()
				r.Reason = say("next_hop.silent", plain(addr)).with(meaning)
				return r
			}
			r.Reason = say("next_hop.ok", plain(addr))
			if len(hop.Warnings) > 0 {
				r.State, r.Code = Degraded, "next_hop_warning"
				r.Reason = r.Reason.and("next_hop.flows").with(hop.Warnings[:min(len(hop.Warnings), 5)])
			}
			return r
		},
	}
}

// HostUnused, CertificateEnded and CertificateEnds are warnings about a host of a
// route.
func HostUnused(host string) Text { return say("next_hop.unused", plain(host)) }

// CertificateEnded is one of them.
func CertificateEnded(host string, at time.Time) Text {
	return say("next_hop.cert_ended", plain(host), day(at))
}

// CertificateEnds is one of them.
func CertificateEnds(host string, at time.Time) Text {
	return say("next_hop.cert_ends", plain(host), day(at))
}

// Listener checks that our own SMTP server takes connections.
func Listener(accepting func() error) Component {
	meaning := say("m.smtp")
	return Component{
		Name: "smtp", Title: "SMTP server", Group: "delivery", Effect: Stops, Ready: true, Meaning: meaning,
		Check: func(context.Context) Result {
			if err := accepting(); err != nil {
				return Result{State: Down, Code: "not_listening", Detail: err.Error(), Reason: say("smtp.not_listening").with(meaning)}
			}
			return Result{State: Up, Reason: say("smtp.ok")}
		},
	}
}

const (
	// sequencerLag is how long an event may be without its number. The
	// sequencer runs every 250 ms.
	sequencerLag = 5 * time.Second
)

// AuditStatus is what the check needs to know about the audit.
type AuditStatus struct {
	Unsequenced    int           // events without a number yet
	OldestAge      time.Duration // of those
	LastSeq        int64
	TamperAttempts int      // in the last 24 hours
	GuardLevel     string   // "full", "reduced", or "" when it did not say
	Findings       []string // what the self-check of the guard found missing
	CheckedAt      time.Time
}

// Audit checks that events are numbered in time and that nothing that guards
// them was taken away.
func Audit(status func(ctx context.Context) (AuditStatus, error)) Component {
	return Component{
		Name: "audit", Title: "Audit", Group: "audit", Effect: Weakens,
		Meaning: say("m.audit"),
		Check: func(ctx context.Context) Result {
			s, err := status(ctx)
			if err != nil {
				return lookupFailed("audit", err)
			}
			return judgeAudit(s)
		},
	}
}

func judgeAudit(s AuditStatus) Result {
	r := Result{State: Up, Facts: map[string]string{
		"unsequenced": strconv.Itoa(s.Unsequenced), "last_seq": strconv.FormatInt(s.LastSeq, 10),
		"tamper_attempts_24h": strconv.Itoa(s.TamperAttempts),
	}}
	if s.GuardLevel != "" {
		r.Facts["guard"] = s.GuardLevel
	}
	if !s.CheckedAt.IsZero() {
		r.Facts["guard_checked_at"] = s.CheckedAt.UTC().Format(time.RFC3339)
	}
	if s.Unsequenced > 0 {
		r.Facts["oldest_unsequenced_seconds"] = strconv.Itoa(int(s.OldestAge.Seconds()))
	}
	switch {
	case len(s.Findings) > 0:
		r.State, r.Code, r.Detail = Down, "guard_broken", joinLimited(s.Findings, 5)
		r.Reason = say("audit.guard_broken")
	case s.TamperAttempts > 0:
		r.State, r.Code = Degraded, "tamper_attempts"
		r.Reason = say("audit.tamper", num(s.TamperAttempts))
	case s.Unsequenced > 0 && s.OldestAge > sequencerLag:
		r.State, r.Code = Degraded, "sequencer_lag"
		r.Reason = say("audit.sequencer_lag", num(s.Unsequenced), span(s.OldestAge))
	case s.GuardLevel == "reduced":
		r.State, r.Code = Degraded, "guard_reduced"
		r.Reason = say("audit.guard_reduced")
	default:
		r.Reason = say("audit.ok")
	}
	return r
}

func joinLimited(list []string, limit int) string {
	text := ""
	for i, s := range list {
		if i == limit {
			return fmt.Sprintf("%s; and %d more", text, len(list)-limit)
		}
		if i > 0 {
			text += "; "
		}
		text += s
	}
	return text
}
