package health

import (
	"context"
	"fmt"
	"maps"
	"time"
)

const (
	// oldSignatures is when a signature database counts as stale: freshclam
	// fetches at least daily.
	oldSignatures = 48 * time.Hour
)

// EngineInfo is what a scan engine says about itself.
type EngineInfo struct {
	Version      string
	Database     string    // version of its signatures or rules; empty: it did not say
	DatabaseTime time.Time // when they were made; zero: it did not say
	Detail       string
	Facts        map[string]string
}

// EngineCheck asks an engine for its information through the client that scans.
type EngineCheck func(ctx context.Context) (EngineInfo, error)

// ClamAV checks clamd: that it answers, and how old its signatures are.
// testSet says whether we started it ourselves with the test signatures; it
// may be nil.
func ClamAV(check EngineCheck, testSet func() bool, now func() time.Time) Component {
	meaning := say("m.engine").and("m.clamav")
	return Component{
		Name: "clamav", Title: "ClamAV", Group: "engines", Effect: Stops, Ready: true, Meaning: meaning,
		Check: func(ctx context.Context) Result {
			info, err := check(ctx)
			if err != nil {
				return Result{State: Down, Code: "unreachable", Detail: err.Error(), Reason: say("answers_not", plain("ClamAV")).with(meaning)}
			}
			return judgeClamAV(info, testSet != nil && testSet(), now())
		},
	}
}

func judgeClamAV(info EngineInfo, testSet bool, now time.Time) Result {
	r := Result{State: Up, Facts: engineFacts(info), Detail: info.Detail}
	age := now.Sub(info.DatabaseTime)
	if !info.DatabaseTime.IsZero() {
		r.Facts["signature_age_hours"] = fmt.Sprint(int(max(0, age).Hours()))
	}
	switch {
	case testSet:
		r.State, r.Code = Degraded, "test_signatures"
		r.Facts["signatures"] = "test set"
		r.Reason = say("clamav.test_signatures")
	case info.Facts["tells_limits"] == "false":
		r.State, r.Code = Degraded, "limits_fail_open"
		r.Reason = say("clamav.limits_fail_open")
	case info.Database == "" || info.DatabaseTime.IsZero():
		r.State, r.Code = Degraded, "no_official_signatures"
		r.Facts["signatures"] = "local only"
		r.Reason = say("clamav.no_official")
	case age > oldSignatures:
		r.State, r.Code = Degraded, "stale_signatures"
		r.Reason = say("clamav.stale", span(age))
	case age < -oldSignatures:
		r.State, r.Code = Degraded, "future_signatures"
		r.Reason = say("clamav.future")
	default:
		r.Reason = say("clamav.ok", span(max(0, age)))
	}
	return r
}

// Rspamd checks rspamd: that it answers.
func Rspamd(check EngineCheck) Component {
	meaning := say("m.engine").and("m.rspamd")
	return Component{
		Name: "rspamd", Title: "rspamd", Group: "engines", Effect: Stops, Meaning: meaning,
		Check: func(ctx context.Context) Result {
			began := time.Now()
			info, err := check(ctx)
			r := Result{State: Up, Latency: time.Since(began), Facts: engineFacts(info), Reason: say("rspamd.ok")}
			if err != nil {
				r.State, r.Code, r.Detail, r.Reason = Down, "unreachable", err.Error(), say("answers_not", plain("rspamd")).with(meaning)
			}
			return r
		},
	}
}

func engineFacts(info EngineInfo) map[string]string {
	facts := map[string]string{}
	maps.Copy(facts, info.Facts)
	if info.Version != "" {
		facts["version"] = info.Version
	}
	if info.Database != "" {
		facts["database"] = info.Database
	}
	if !info.DatabaseTime.IsZero() {
		facts["database_time"] = info.DatabaseTime.UTC().Format(time.RFC3339)
	}
	return facts
}

// ScanProbe has the engine scan a small harmless message and fails when there
// is no answer, or when the answer is not "nothing found".
type ScanProbe func(ctx context.Context) error

// Scanner checks the sidecar: that it answers, which rules it has, and that it
// really scans. probe may be nil.
func Scanner(check EngineCheck, probe ScanProbe) Component {
	meaning := say("m.engine").and("m.scanner")
	return Component{
		Name: "scanner", Title: "Scanner", Group: "engines", Effect: Stops, Ready: true, Meaning: meaning,
		Check: func(ctx context.Context) Result {
			began := time.Now()
			info, err := check(ctx)
			r := Result{State: Up, Latency: time.Since(began), Facts: engineFacts(info), Detail: info.Detail}
			if err != nil {
				r.State, r.Code, r.Detail = Down, "unreachable", err.Error()
				r.Reason = say("scanner.silent").with(meaning)
				return r
			}
			if info.Facts["rules"] == "0" {
				r.State, r.Code = Degraded, "no_rules"
				r.Reason = say("scanner.no_rules")
				return r
			}
			if probe == nil {
				r.Reason = say("scanner.answers")
				return r
			}
			if err := probe(ctx); err != nil {
				r.State, r.Code, r.Detail = Down, "scan_failed", err.Error()
				r.Reason = say("scanner.scan_failed").with(meaning)
				return r
			}
			r.Reason = say("scanner.ok")
			return r
		},
	}
}

// OrOff replaces the check of an engine that was switched off: mail passes
// without it, and nothing may look as if it did not.
func OrOff(c Component, off bool) Component {
	if off {
		c.Check = func(context.Context) Result {
			return Result{State: Down, Code: "switched_off", Reason: say("switched_off", c.titled())}
		}
	}
	return c
}
