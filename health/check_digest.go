package health

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// digestLate is how long a digest may be overdue before that is spoken of: the
// job looks every half minute.
const digestLate = 15 * time.Minute

// DigestStatus is what the check needs to know about the mails to recipients.
type DigestStatus struct {
	Enabled int // workspaces that want them
	Last    time.Time
	Failed  int
	Late    time.Duration
	Error   string
}

// Digest checks that recipients are told what is held for them.
func Digest(status func(ctx context.Context) (DigestStatus, error)) Component {
	return Component{
		Name: "digest", Title: "Digests", Group: "delivery", Effect: Weakens,
		Meaning: "Mail flows and is held as always. Recipients do not hear what is held for them. Look at the worker and the delivery queue first.",
		Check: func(ctx context.Context) Result {
			s, err := status(ctx)
			if err != nil {
				return lookupFailed("The state of the digests", err)
			}
			return judgeDigest(s)
		},
	}
}

func judgeDigest(s DigestStatus) Result {
	if s.Enabled == 0 {
		return Result{State: NotConfigured, Code: "off", Reason: "No workspace sends digests."}
	}
	r := Result{State: Up, Reason: "Recipients are told what is held for them.", Facts: map[string]string{"workspaces": strconv.Itoa(s.Enabled), "failed": strconv.Itoa(s.Failed)}}
	if !s.Last.IsZero() {
		r.Facts["last_run"] = s.Last.UTC().Format(time.RFC3339)
	}
	switch {
	case s.Late > digestLate:
		r.State, r.Code, r.Reason = Degraded, "late", fmt.Sprintf("Digests are overdue by %s.", s.Late.Round(time.Minute))
	case s.Failed > 0 || s.Error != "":
		r.State, r.Code, r.Reason = Degraded, "failed", fmt.Sprintf("%d recipients could not be told in the last run. The log of the worker says why.", s.Failed)
	}
	return r
}
