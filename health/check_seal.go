package health

import (
	"context"
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
		Meaning: say("m.audit_seal"),
		Check: func(ctx context.Context) Result {
			s, err := status(ctx)
			if err != nil {
				return lookupFailed("seal", err)
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
	var failing, late, held []string // with what only people who look for the cause want
	var lateOnes, heldOnes Text
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
			lateOnes = lateOnes.with(lateAnchor(a))
		}
	}
	for _, st := range s.Streams {
		if st.OldestAge > streamLag {
			one := say("seal.stream_one", plain(st.Name), num(st.Waiting), span(st.OldestAge))
			held, heldOnes = append(held, one.String()), heldOnes.with(one)
		}
	}
	switch {
	case s.Refused != "":
		r.State, r.Code, r.Detail = Down, "refused", s.Refused
		r.Reason = say("seal.refused")
	case s.Unsealed > 0 && s.OldestAge > sealLag:
		r.State, r.Code = Degraded, "seal_lag"
		r.Reason = say("seal.lag", num(s.Unsealed), span(s.OldestAge))
	case len(failing) > 0:
		r.State, r.Code, r.Detail = Degraded, "anchor_failed", joinLimited(failing, 5)
		r.Reason = say("seal.anchor_failed", several(failing, 3))
	case len(late) > 0:
		r.State, r.Code, r.Detail = Degraded, "anchor_late", joinLimited(late, 5)
		r.Reason = say("seal.anchor_late").with(lateOnes[:min(len(lateOnes), 3)]).and("seal.anchor_late.do")
	case len(held) > 0:
		r.State, r.Code, r.Detail = Degraded, "stream_lag", strings.Join(held, " ")
		r.Reason = say("seal.stream_lag").with(heldOnes[:min(len(heldOnes), 3)]).and("seal.stream_lag.do")
	case len(s.Anchors) == 0:
		r.Code = "no_anchor"
		r.Reason = say("seal.no_anchor")
	default:
		r.Reason = say("seal.ok")
	}
	return r
}

func lateAnchor(a Anchor) Text {
	name := plain(a.Name + " (" + a.Kind + ")")
	if a.LastOK.IsZero() {
		return say("seal.never_taken", name)
	}
	return say("seal.last_taken", name, moment(a.LastOK))
}
