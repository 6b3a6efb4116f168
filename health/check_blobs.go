package health

import (
	"context"
	"strconv"
	"strings"
	"time"
)

// sweepLate is when a sweep is overdue: there is one each hour.
const sweepLate = 3 * time.Hour

// BlobStatus is what the check needs to know about the bytes of held mail.
type BlobStatus struct {
	FailingSince time.Time // zero: the last mail was stored
	Full         bool
	Trouble      string

	Missing      int
	MissingSince time.Time
	SweptAt      time.Time
	Refused      int // files without a row that a sweep did not dare to remove
	SweepTrouble string
	UnknownKeys  []string
}

// Blobs checks that mail can be stored encrypted, and that what was stored is there.
func Blobs(status func(ctx context.Context) (BlobStatus, error), now func() time.Time) Component {
	return Component{
		Name: "blobs", Title: "Store of held mail", Group: "stores", Effect: Weakens,
		Meaning: say("m.blobs"),
		Check: func(ctx context.Context) Result {
			s, err := status(ctx)
			if err != nil {
				return lookupFailed("blobs", err)
			}
			return judgeBlobs(s, now())
		},
	}
}

func judgeBlobs(s BlobStatus, now time.Time) Result {
	r := Result{State: Up, Reason: say("blobs.ok"), Facts: map[string]string{"missing": strconv.Itoa(s.Missing)}}
	if !s.SweptAt.IsZero() {
		r.Facts["swept_at"] = s.SweptAt.UTC().Format(time.RFC3339)
	}
	switch {
	case !s.FailingSince.IsZero() && s.Full:
		r.State, r.Code, r.Detail = Down, "full", s.Trouble
		r.Reason = say("blobs.full")
	case !s.FailingSince.IsZero():
		r.State, r.Code, r.Detail = Down, "unwritable", s.Trouble
		r.Reason = say("blobs.unwritable")
	case len(s.UnknownKeys) > 0:
		r.State, r.Code = Down, "key_missing"
		r.Reason = say("blobs.key_missing", plain(strings.Join(s.UnknownKeys, ", ")))
	case s.Missing > 0:
		r.State, r.Code = Degraded, "missing"
		r.Reason = say("blobs.missing", num(s.Missing), moment(s.MissingSince))
	case s.Refused > 0:
		r.State, r.Code = Degraded, "orphans"
		r.Reason = say("blobs.orphans", num(s.Refused))
	case s.SweepTrouble != "":
		r.State, r.Code, r.Detail = Degraded, "sweep_failed", s.SweepTrouble
		r.Reason = say("blobs.sweep_failed")
	case !s.SweptAt.IsZero() && now.Sub(s.SweptAt) > sweepLate:
		r.State, r.Code = Degraded, "sweep_late"
		r.Reason = say("blobs.sweep_late", span(now.Sub(s.SweptAt)))
	}
	return r
}
