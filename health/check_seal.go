package health

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	// sealLag is how long a numbered event may be without a signed checkpoint.
	// One is made each minute.
	sealLag = 5 * time.Minute
	// streamLag is how long an event may wait for its copy to leave.
	streamLag = time.Minute
)

// Anchor is somebody who is given checkpoints.
type Anchor struct {
	Name, Kind string
	LastOK     time.Time // zero: never
	Failing    bool
	Late       bool
	Detail     string
}

// Stream is a copy of the record that goes elsewhere, where some of it waits.
type Stream struct {
	Name      string
	Waiting   int64
	OldestAge time.Duration
}

// SealStatus is what the check needs to know about the seal of the audit.
type SealStatus struct {
	Origin    string
	Size      uint64
	SignedAt  time.Time // zero: never
	Unsealed  int64
	OldestAge time.Duration // of those
	Refused   string        // why the tree is not signed
	Anchors   []Anchor
	Streams   []Stream
}

// Seal checks that checkpoints are signed and leave our reach.
func Seal(status func(ctx context.Context) (SealStatus, error)) Component {
	return Component{
		Name: "audit_seal", Title: "Seal of the audit", Group: "audit", Effect: Weakens,
		Meaning: "Mail flows and acts are recorded. What is recorded meanwhile could be changed unseen until it is sealed. Look at PostgreSQL and the worker first.",
		Check: func(ctx context.Context) Result {
			s, err := status(ctx)
			if err != nil {
				return lookupFailed("The seal of the audit", err)
			}
			return judgeSeal(s)
		},
	}
}

func judgeSeal(s SealStatus) Result {
	r := Result{State: Up, Facts: map[string]string{"origin": s.Origin, "sealed_events": strconv.FormatUint(s.Size, 10), "unsealed_events": strconv.FormatInt(s.Unsealed, 10)}}
	if !s.SignedAt.IsZero() {
		r.Facts["sealed_at"] = s.SignedAt.UTC().Format(time.RFC3339)
	}
	var failing, late []string
	for _, a := range s.Anchors {
		last := "never"
		if !a.LastOK.IsZero() {
			last = a.LastOK.UTC().Format(time.RFC3339)
		}
		r.Facts["anchor_"+a.Name] = a.Kind + ", last taken " + last
		switch {
		case a.Failing:
			failing = append(failing, a.Name+" ("+a.Kind+"): "+a.Detail)
		case a.Late:
			late = append(late, a.Name+" ("+a.Kind+"), last taken "+last)
		}
	}
	var held []string
	for _, st := range s.Streams {
		if st.OldestAge > streamLag {
			held = append(held, fmt.Sprintf("%s: %d events wait, the oldest for %s", st.Name, st.Waiting, seconds(st.OldestAge)))
		}
	}
	switch {
	case s.Refused != "":
		r.State, r.Code, r.Detail = Down, "refused", s.Refused
		r.Reason = "The audit is not signed any more, because it does not contain what was signed before: it was changed, or the database was restored. Mail flows and acts are recorded. Find out which; after a lawful restore run: mailward audit reanchor --reason ..."
	case s.Unsealed > 0 && s.OldestAge > sealLag:
		r.State, r.Code = Degraded, "seal_lag"
		r.Reason = fmt.Sprintf("%d events are not sealed, the oldest for %s. Mail flows and acts are recorded. Check that a process with the worker part runs, and that its signing key can be reached.", s.Unsealed, seconds(s.OldestAge))
	case len(failing) > 0:
		r.State, r.Code, r.Detail = Degraded, "anchor_failed", joinLimited(failing, 5)
		r.Reason = "Checkpoints are signed, but not all of those who should hold a copy take them: " + joinLimited(failing, 3) + ". Mail flows; they are tried again by themselves."
	case len(late) > 0:
		r.State, r.Code, r.Detail = Degraded, "anchor_late", joinLimited(late, 5)
		r.Reason = "Checkpoints are signed, but no copy has gone outside for more than twice the time that is set: " + joinLimited(late, 3) + ". Mail flows and acts are recorded. Check that a process with the worker part runs."
	case len(held) > 0:
		r.State, r.Code, r.Detail = Degraded, "stream_lag", strings.Join(held, "; ")
		r.Reason = "Copies of the record do not leave this machine: " + joinLimited(held, 3) + ". Mail flows and nothing is lost; they are sent when the other side takes them again."
	case len(s.Anchors) == 0:
		r.Code = "no_anchor"
		r.Reason = "Checkpoints are signed. Nobody outside holds one (audit.anchors is empty), so root on this machine could still rewrite the record and sign it anew."
	default:
		r.Reason = "Checkpoints are signed, and others hold copies."
	}
	return r
}
