package alerting

import (
	"context"
	"slices"
	"strings"

	"github.com/google/uuid"

	"mailward/alerting/meter"
	"mailward/audit"
)

// Record counts what the audit has recorded. It is a sink of the audit, so one
// process of an installation does it, with a place that is kept, and what was
// recorded while nobody counted is counted when it is not too old.
type Record struct{ Meter *meter.Meter }

// Name implements [audit.Sink].
func (Record) Name() string { return "alerts" }

// Lock implements [audit.Sink].
func (Record) Lock() int { return audit.LockAlerts }

// counted are the acts that have a metric of their own.
var counted = map[string]string{
	audit.LoginFailed: "login_failures_5min", audit.MFAFailed: "login_failures_5min",
	audit.BreakGlass: "break_glass_logins", audit.GuardViolation: "audit_tamper_attempts",
	audit.SinkFailed: "audit_stream_failures", audit.AnchorFailed: "audit_stream_failures",
}

// privileged are the acts that few may do; a name that ends in a dot is of all
// that begins so.
var privileged = []string{"role.", "user.", "token.", "setting.", "workspace.", "domain.", "policy.", "yara.set.", "yara.file.", "dlp.", "alert.rule.", "alert.channel.", "alert.silence.", "alert.reaction.",
	audit.RawDownload, audit.ViewBody, audit.ViewPart, audit.ReleaseExecute, audit.ReleaseApprove, audit.ItemDelete, audit.AuditExport, audit.PIIErased, audit.PartitionPurged, audit.Reanchor, audit.SealKey}

func isPrivileged(action string) bool {
	return slices.ContainsFunc(privileged, func(p string) bool { return action == p || strings.HasSuffix(p, ".") && strings.HasPrefix(action, p) })
}

// Send implements [audit.Sink].
func (r Record) Send(_ context.Context, lines []audit.Line) error {
	for _, line := range lines {
		w, err := uuid.Parse(text(line.Fields["workspace_id"]))
		if err != nil {
			w = uuid.Nil
		}
		if metric, ok := counted[line.Action]; ok {
			r.Meter.CountAt(line.Time, metric, w, "", 1)
		}
		actor, _ := line.Fields["actor"].(map[string]any)
		// An act that is announced and then done counts once; what the program does
		// by itself is no privilege.
		if isPrivileged(line.Action) && text(line.Fields["phase"]) != "intent" && text(actor["type"]) != "system" {
			r.Meter.CountAt(line.Time, "privileged_acts_per_hour", w, "", 1)
		}
	}
	return nil
}

func text(v any) string { s, _ := v.(string); return s }
