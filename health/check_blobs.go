package health

import (
	"context"
	"fmt"
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
		Meaning: "Clean mail flows. What must be held or queued is not accepted (451 or 452), and senders try again. Look at the disk of data_dir, the bucket and OpenBao.",
		Check: func(ctx context.Context) Result {
			s, err := status(ctx)
			if err != nil {
				return lookupFailed("The state of the store of held mail", err)
			}
			return judgeBlobs(s, now())
		},
	}
}

func judgeBlobs(s BlobStatus, now time.Time) Result {
	r := Result{State: Up, Reason: "Held mail can be stored, and what was stored is there.", Facts: map[string]string{"missing": strconv.Itoa(s.Missing)}}
	if !s.SweptAt.IsZero() {
		r.Facts["swept_at"] = s.SweptAt.UTC().Format(time.RFC3339)
	}
	switch {
	case !s.FailingSince.IsZero() && s.Full:
		r.State, r.Code, r.Detail = Down, "full", s.Trouble
		r.Reason = "There is no room for held mail. What must be held or queued is refused for now (452), and senders try again; nothing is lost. Make room."
	case !s.FailingSince.IsZero():
		r.State, r.Code, r.Detail = Down, "unwritable", s.Trouble
		r.Reason = "Held mail cannot be stored. What must be held or queued is refused for now (451), and senders try again; nothing is lost. Look at the disk of data_dir, the bucket and OpenBao."
	case len(s.UnknownKeys) > 0:
		r.State, r.Code = Down, "key_missing"
		r.Reason = fmt.Sprintf("Held mail was encrypted with keys that are not here (%s): it can be neither read nor released. Restore data_dir/keys from your backup.", strings.Join(s.UnknownKeys, ", "))
	case s.Missing > 0:
		r.State, r.Code = Degraded, "missing"
		r.Reason = fmt.Sprintf("The bytes of %d stored mails are gone since %s: they can be neither read nor released. Restore data_dir/blobs from your backup.", s.Missing, s.MissingSince.UTC().Format("2006-01-02 15:04"))
	case s.Refused > 0:
		r.State, r.Code = Degraded, "orphans"
		r.Reason = fmt.Sprintf("%d files of held mail are in no row of the database, more than are in one: they were left alone. Is this the right database, or an old copy of it?", s.Refused)
	case s.SweepTrouble != "":
		r.State, r.Code, r.Detail = Degraded, "sweep_failed", s.SweepTrouble
		r.Reason = "Held mail whose time is over could not be cleared away completely. Mail flows. Look at the log of the worker."
	case !s.SweptAt.IsZero() && now.Sub(s.SweptAt) > sweepLate:
		r.State, r.Code = Degraded, "sweep_late"
		r.Reason = fmt.Sprintf("Nobody has looked for %s whether the bytes of held mail are there. Mail flows. Look at the worker.", now.Sub(s.SweptAt).Round(time.Minute))
	}
	return r
}
