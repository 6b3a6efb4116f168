package alerting

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/alerting/rule"
	"mailward/internal/pg"
)

// packed is a rule that is on from the start.
type packed struct {
	key  string
	spec rule.Spec
}

// pack is the default rules. Thresholds are such that a quiet installation hears
// nothing, and a broken one within a minute or two.
func pack() []packed {
	base := func(name, metric string, threshold float64, sev rule.Severity) rule.Spec {
		return rule.Spec{Name: name, Metric: metric, Compare: rule.Above, Threshold: threshold, Cooldown: time.Hour, Severity: sev, Missing: rule.Keep}
	}
	each := func(s rule.Spec) rule.Spec { s.Each = true; return s }
	lasting := func(s rule.Spec, d time.Duration) rule.Spec { s.For = d; return s }
	window := func(s rule.Spec, d time.Duration) rule.Spec { s.Window = d; return s }
	database := lasting(each(base("Database down", "component_down", 0, rule.Critical)), 20*time.Second)
	database.Subjects, database.Inhibits = []string{"postgresql"}, []string{"*"}
	unusual := lasting(each(base("Far more mail held than usual", "quarantine_rate_5min", 5, rule.Warn)), 5*time.Minute)
	unusual.Compare, unusual.Window = rule.Times, 15*time.Minute
	return []packed{
		{"phishing_spike", each(base("Phishing spike", "phishing_rate_5min", 30, rule.Critical))},
		{"malware_spike", each(base("Malware wave", "malware_hits_5min", 10, rule.Critical))},
		{"dlp_hits", each(base("Many mails with confidential content", "dlp_hits_per_hour", 20, rule.Warn))},
		{"quarantine_unusual", unusual},
		{"mails_put_off", lasting(base("Many mails are put off", "tempfail_rate_5min", 50, rule.Warn), 5*time.Minute)},
		{"mails_not_handled", lasting(base("Mails cannot be handled", "mails_not_handled_5min", 5, rule.Critical), time.Minute)},
		{"scan_slow", lasting(base("Scanning is slow", "scan_latency_p95_ms", 20_000, rule.Warn), 10*time.Minute)},
		{"delivery_stuck", lasting(base("Delivery queue is stuck", "delivery_queue_age_minutes", 60, rule.Warn), 5*time.Minute)},
		{"sandbox_failing", lasting(base("The sandbox fails", "sandbox_failures", 20, rule.Warn), 5*time.Minute)},
		{"sandbox_stuck", lasting(base("Mail waits long for the sandbox", "sandbox_queue_age_minutes", 30, rule.Warn), 5*time.Minute)},
		{"sandbox_late", base("Malicious, and already delivered", "sandbox_late_malicious", 0, rule.Critical)},
		{"coverage_late", each(base("Delivered, and found bad afterwards", "coverage_late_hits", 0, rule.Critical))},
		{"login_failures", base("Many failed sign-ins", "login_failures_5min", 20, rule.Warn)},
		{"break_glass", base("Emergency account used", "break_glass_logins", 0, rule.Critical)},
		{"logins_waiting", base("Sign-ins wait for the audit", "logins_waiting_for_audit", 0, rule.Critical)},
		{"privileged_acts", base("Unusually many privileged acts", "privileged_acts_per_hour", 200, rule.Warn)},
		{"audit_tamper", base("Attempt to change the audit", "audit_tamper_attempts", 0, rule.Critical)},
		{"audit_unwritable", base("The audit cannot be written", "audit_write_failures", 0, rule.Critical)},
		{"audit_seal_overdue", lasting(base("Seal of the audit is overdue", "audit_seal_lag_seconds", 300, rule.Critical), time.Minute)},
		{"audit_stream", base("A copy of the audit does not leave the machine", "audit_stream_failures", 0, rule.Warn)},
		{"forged_release", base("Release without a decision", "forged_releases", 0, rule.Critical)},
		{"incident_due", base("A report of an incident is due soon", "incident_reports_due", 0, rule.Warn)},
		{"incident_overdue", base("A report of an incident is overdue", "incident_reports_overdue", 0, rule.Critical)},
		{"notifications_failing", window(base("Notifications do not arrive", "notification_failures", 5, rule.Warn), 15*time.Minute)},
		{"detection_failed", lasting(each(base("An engine does not detect", "detection_failed", 0, rule.Critical)), 30*time.Second)},
		{"feeds_old", lasting(each(base("A threat feed is old", "cti_sync_lag_minutes", 24*60, rule.Warn)), 10*time.Minute)},
		{"database_down", database},
		{"component_down", lasting(each(base("Component down", "component_down", 0, rule.Critical)), time.Minute)},
		{"component_degraded", lasting(each(base("Component degraded", "component_degraded", 0, rule.Info)), 15*time.Minute)},
	}
}

// PackKey is the key of the default rule that has a name from the start; "" where
// none has: somebody has given it one.
func PackKey(name string) string {
	for _, p := range pack() {
		if p.spec.Name == name {
			return p.key
		}
	}
	return ""
}

// InstallPack puts the default rules in, each once: one that somebody has changed
// or deleted stays as it is.
func (s *Store) InstallPack(ctx context.Context) error {
	system := pg.System("alert rules", "default pack")
	return s.db.Act(ctx, system, func(ctx context.Context, tx pgx.Tx) error {
		for _, p := range pack() {
			if err := p.spec.Check(); err != nil {
				return fmt.Errorf("default rule %s: %w", p.key, err)
			}
			spec, err := json.Marshal(p.spec)
			if err != nil {
				return err
			}
			id, err := uuid.NewV7()
			if err != nil {
				return err
			}
			tag, err := tx.Exec(ctx, insertRuleSQL, id, nil, p.key, spec)
			if err != nil {
				return fmt.Errorf("default rule %s: %w", p.key, err)
			}
			if tag.RowsAffected() == 0 {
				continue
			}
			if _, err := tx.Exec(ctx, insertVersionSQL, id, 1, spec, "", nil, "System"); err != nil {
				return fmt.Errorf("default rule %s: %w", p.key, err)
			}
		}
		return nil
	})
}
