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

	engineMeaning = "No mail is accepted, because nothing passes unscanned: senders hear 451 and try again later, nothing is lost."
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
	const meaning = engineMeaning + " Check that clamd runs and that clamav.address is right."
	return Component{
		Name: "clamav", Title: "ClamAV", Group: "engines", Effect: Stops, Ready: true, Meaning: meaning,
		Check: func(ctx context.Context) Result {
			info, err := check(ctx)
			if err != nil {
				return Result{State: Down, Code: "unreachable", Detail: err.Error(), Reason: "ClamAV does not answer. " + meaning}
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
		r.Reason = "ClamAV runs on a test set that knows only the EICAR test file. Mail flows, but this is no protection against real malware. Install clamav-freshclam, let it fetch the signatures, and restart."
	case info.Facts["tells_limits"] == "false":
		r.State, r.Code = Degraded, "limits_fail_open"
		r.Reason = "ClamAV does not tell when it stopped at one of its limits. Mail with files that are bigger than it looks into is taken as not scannable; all other mail flows. Set AlertExceedsMax yes in clamd.conf, and MaxFileSize, MaxScanSize and StreamMaxLength above your largest mail."
	case info.Database == "" || info.DatabaseTime.IsZero():
		r.State, r.Code = Degraded, "no_official_signatures"
		r.Facts["signatures"] = "local only"
		r.Reason = "ClamAV has loaded no official signature database, only local signatures. Mail flows, but most real malware is not known to it. Let freshclam fetch the signatures."
	case age > oldSignatures:
		r.State, r.Code = Degraded, "stale_signatures"
		r.Reason = fmt.Sprintf("The signatures of ClamAV are %s old. Mail flows, but new malware may not be known. Check that freshclam runs and reaches its server.", seconds(age))
	case age < -oldSignatures:
		r.State, r.Code = Degraded, "future_signatures"
		r.Reason = "The signatures of ClamAV are dated in the future. Mail flows and is scanned, but the age of the signatures cannot be judged. Check the clocks of this machine and of clamd's."
	default:
		r.Reason = fmt.Sprintf("ClamAV answers; its signatures are %s old.", seconds(max(0, age)))
	}
	return r
}

// Rspamd checks rspamd: that it answers.
func Rspamd(check EngineCheck) Component {
	const meaning = engineMeaning + " Check that rspamd runs and that rspamd.url is right."
	return Component{
		Name: "rspamd", Title: "rspamd", Group: "engines", Effect: Stops, Meaning: meaning,
		Check: func(ctx context.Context) Result {
			began := time.Now()
			info, err := check(ctx)
			r := Result{State: Up, Latency: time.Since(began), Facts: engineFacts(info), Reason: "rspamd answers."}
			if err != nil {
				r.State, r.Code, r.Detail, r.Reason = Down, "unreachable", err.Error(), "rspamd does not answer. "+meaning
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
	const meaning = engineMeaning + " Look at the log of mailward-scanner; with the embedded default it is started again by itself."
	return Component{
		Name: "scanner", Title: "Scanner", Group: "engines", Effect: Stops, Ready: true, Meaning: meaning,
		Check: func(ctx context.Context) Result {
			began := time.Now()
			info, err := check(ctx)
			r := Result{State: Up, Latency: time.Since(began), Facts: engineFacts(info), Detail: info.Detail}
			if err != nil {
				r.State, r.Code, r.Detail = Down, "unreachable", err.Error()
				r.Reason = "The scanner does not answer. " + meaning
				return r
			}
			if info.Facts["rules"] == "0" {
				r.State, r.Code = Degraded, "no_rules"
				r.Reason = "The scanner has loaded no YARA rule. Mail flows and ClamAV scans it, but no rule can hit. Check scanner.yara_rules."
				return r
			}
			if probe == nil {
				r.Reason = "The scanner answers."
				return r
			}
			if err := probe(ctx); err != nil {
				r.State, r.Code, r.Detail = Down, "scan_failed", err.Error()
				r.Reason = "The scanner answers, but it did not scan a small test message. " + meaning
				return r
			}
			r.Reason = "The scanner answers and has just scanned a test message."
			return r
		},
	}
}

// OrOff replaces the check of an engine that was switched off: mail passes
// without it, and nothing may look as if it did not.
func OrOff(c Component, off bool) Component {
	if off {
		c.Check = func(context.Context) Result {
			return Result{State: Down, Code: "switched_off", Reason: c.Title + " is switched off: mail passes without being scanned by it. That is for measuring only; put it back into scanner.engines and restart."}
		}
	}
	return c
}
