// Package rule is the pure part of alerting: what can be watched, what a rule
// says, and how the state of an alert follows from buckets of a metric and the
// state before. It asks no clock and no database, so the same code judges now,
// catches up after an outage, and says how often a rule would have fired.
package rule

import "time"

// Kind is how the buckets of a metric become one value.
type Kind string

// The kinds.
const (
	Count Kind = "count" // how many in the window
	Gauge Kind = "gauge" // the highest in the window
	P95   Kind = "p95"   // 95 of 100 are not above it
)

// Metric is one thing that can be watched.
type Metric struct {
	Name   string
	Kind   Kind
	Unit   string // mails, minutes, milliseconds, seconds, acts, components, files, events, reports
	Of     string // what it is told apart by: domain, component, or ""
	Window time.Duration
	// Missing says why there are no values, where nothing measures it yet.
	Missing string
}

// metrics are all of them. The first fifteen names are promised to the outside.
var metrics = []Metric{
	{Name: "phishing_rate_5min", Kind: Count, Unit: "mails", Of: "domain", Window: 5 * time.Minute},
	{Name: "malware_hits_5min", Kind: Count, Unit: "mails", Of: "domain", Window: 5 * time.Minute},
	{Name: "dlp_hits_per_hour", Kind: Count, Unit: "mails", Of: "domain", Window: time.Hour},
	{Name: "sandbox_failures", Kind: Count, Unit: "events", Window: 15 * time.Minute},
	{Name: "sandbox_queue_age_minutes", Kind: Gauge, Unit: "minutes", Window: time.Minute},
	{Name: "cti_sync_lag_minutes", Kind: Gauge, Unit: "minutes", Of: "component", Window: time.Minute},
	{Name: "quarantine_rate_5min", Kind: Count, Unit: "mails", Of: "domain", Window: 5 * time.Minute},
	{Name: "tempfail_rate_5min", Kind: Count, Unit: "mails", Of: "domain", Window: 5 * time.Minute},
	{Name: "scan_latency_p95_ms", Kind: P95, Unit: "milliseconds", Of: "domain", Window: 5 * time.Minute},
	{Name: "delivery_queue_age_minutes", Kind: Gauge, Unit: "minutes", Window: time.Minute},
	{Name: "login_failures_5min", Kind: Count, Unit: "events", Window: 5 * time.Minute},
	{Name: "audit_tamper_attempts", Kind: Count, Unit: "events", Window: 5 * time.Minute},
	{Name: "audit_seal_lag_seconds", Kind: Gauge, Unit: "seconds", Window: time.Minute},
	{Name: "privileged_acts_per_hour", Kind: Count, Unit: "acts", Window: time.Hour},
	{Name: "component_down", Kind: Gauge, Unit: "components", Of: "component", Window: time.Minute},

	{Name: "mails_5min", Kind: Count, Unit: "mails", Of: "domain", Window: 5 * time.Minute},
	{Name: "component_degraded", Kind: Gauge, Unit: "components", Of: "component", Window: time.Minute},
	{Name: "detection_failed", Kind: Gauge, Unit: "components", Of: "component", Window: time.Minute},
	{Name: "break_glass_logins", Kind: Count, Unit: "events", Window: 5 * time.Minute},
	{Name: "audit_write_failures", Kind: Count, Unit: "events", Window: 5 * time.Minute},
	{Name: "logins_waiting_for_audit", Kind: Gauge, Unit: "events", Window: time.Minute},
	{Name: "audit_stream_failures", Kind: Count, Unit: "events", Window: 15 * time.Minute},
	{Name: "forged_releases", Kind: Count, Unit: "events", Window: 5 * time.Minute},
	{Name: "sandbox_late_malicious", Kind: Count, Unit: "mails", Window: 5 * time.Minute},
	{Name: "coverage_late_hits", Kind: Count, Unit: "mails", Of: "domain", Window: 15 * time.Minute},
	{Name: "mails_not_handled_5min", Kind: Count, Unit: "mails", Of: "domain", Window: 5 * time.Minute},
	{Name: "incident_reports_due", Kind: Gauge, Unit: "reports", Window: time.Minute},
	{Name: "incident_reports_overdue", Kind: Gauge, Unit: "reports", Window: time.Minute},
	{Name: "notification_failures", Kind: Count, Unit: "events", Window: 15 * time.Minute},
}

// Metrics lists everything that can be watched.
func Metrics() []Metric { return append([]Metric(nil), metrics...) }

// MetricNamed finds one.
func MetricNamed(name string) (Metric, bool) {
	for _, m := range metrics {
		if m.Name == name {
			return m, true
		}
	}
	return Metric{}, false
}
