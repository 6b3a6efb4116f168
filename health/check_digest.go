package health

import (
	"context"
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
		Meaning: say("m.digest"),
		Check: func(ctx context.Context) Result {
			s, err := status(ctx)
			if err != nil {
				return lookupFailed("digest", err)
			}
			return judgeDigest(s)
		},
	}
}

func judgeDigest(s DigestStatus) Result {
	if s.Enabled == 0 {
		return Result{State: NotConfigured, Code: "off", Reason: say("digest.off")}
	}
	r := Result{State: Up, Reason: say("digest.ok"), Facts: map[string]string{"workspaces": strconv.Itoa(s.Enabled), "failed": strconv.Itoa(s.Failed)}}
	if !s.Last.IsZero() {
		r.Facts["last_run"] = s.Last.UTC().Format(time.RFC3339)
	}
	switch {
	case s.Late > digestLate:
		r.State, r.Code, r.Reason = Degraded, "late", say("digest.late", span(s.Late))
	case s.Failed > 0 || s.Error != "":
		r.State, r.Code, r.Reason = Degraded, "failed", say("digest.failed", num(s.Failed))
	}
	return r
}
