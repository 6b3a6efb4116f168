package health

import (
	"context"
	"strconv"
	"time"
)

// SandboxStatus is how the sandbox and the mail that waits for it are.
type SandboxStatus struct {
	Version           string
	Machines, Free    int
	Denied            bool // it answers, but does not take our token
	Waiting, InFlight int
	Oldest            time.Time // zero: nothing waits
	NoVerdict         int       // held mails that got none in the last hour
}

// sandboxLate is when a waiting mail is spoken of. An analysis takes minutes.
const sandboxLate = 30 * time.Minute

// Sandbox checks CAPE. ask is nil where none is set up.
func Sandbox(ask func(context.Context) (SandboxStatus, error)) Component {
	meaning := say("m.sandbox")
	return Component{
		Name: "sandbox", Title: "Sandbox", Group: "engines", Effect: Weakens, Meaning: meaning,
		Check: func(ctx context.Context) Result {
			if ask == nil {
				return Result{State: NotConfigured, Reason: say("sandbox.none")}
			}
			s, err := ask(ctx)
			return judgeSandbox(s, err, time.Now(), meaning)
		},
	}
}

func judgeSandbox(s SandboxStatus, err error, now time.Time, meaning Text) Result {
	r := Result{State: Up, Detail: detail(err), Facts: map[string]string{"waiting": strconv.Itoa(s.Waiting), "in_flight": strconv.Itoa(s.InFlight), "no_verdict_last_hour": strconv.Itoa(s.NoVerdict)}}
	age := time.Duration(0)
	if !s.Oldest.IsZero() {
		age = max(0, now.Sub(s.Oldest))
		r.Facts["queue_age_minutes"] = strconv.Itoa(int(age.Minutes()))
	}
	if err == nil {
		r.Facts["version"], r.Facts["machines"], r.Facts["machines_free"] = s.Version, strconv.Itoa(s.Machines), strconv.Itoa(s.Free)
	}
	switch {
	case s.Denied:
		r.State, r.Code, r.Reason = NotAuthorised, "refused", say("sandbox.refused").with(meaning).and("sandbox.refused.do")
	case err != nil:
		r.State, r.Code, r.Reason = Down, "unreachable", say("sandbox.silent").with(meaning)
	case s.Machines == 0:
		r.State, r.Code, r.Reason = Degraded, "no_machine", say("sandbox.no_machine").with(meaning)
	case age > sandboxLate:
		r.State, r.Code, r.Reason = Degraded, "late", say("sandbox.late", span(age)).with(meaning)
	case s.Waiting > 0:
		r.Reason = say("sandbox.waiting", num(s.Waiting))
	default:
		r.Reason = say("sandbox.ok")
	}
	return r
}
