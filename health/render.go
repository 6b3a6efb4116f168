package health

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ContentType is that of [Report.HealthJSON].
const ContentType = "application/health+json"

// healthJSON is the document of draft-inadarei-api-health-check-06, which
// never became an RFC but is what monitors read.
type healthJSON struct {
	Status string                 `json:"status"`
	Output string                 `json:"output,omitempty"`
	Checks map[string][]checkJSON `json:"checks,omitempty"`
}

type checkJSON struct {
	ComponentID   string  `json:"componentId"`
	ComponentType string  `json:"componentType"`
	ObservedValue float64 `json:"observedValue"`
	ObservedUnit  string  `json:"observedUnit"`
	Status        string  `json:"status"`
	Time          string  `json:"time"`
	Output        string  `json:"output,omitempty"`
}

// HealthJSON renders the report for monitors. Without detail, for callers that
// are not logged in, it holds the status alone. The HTTP status goes with it:
// 503 when mail stands still, 200 otherwise, because a weakened gateway must
// not be taken out of service.
func (r Report) HealthJSON(detail bool) (code int, body []byte) {
	doc := healthJSON{Status: word(r.State)}
	code = http.StatusOK
	if doc.Status == "fail" {
		code = http.StatusServiceUnavailable
	}
	if detail {
		if doc.Status != "pass" {
			doc.Output = r.Reason
		}
		doc.Checks = make(map[string][]checkJSON, len(r.Components))
		for _, s := range r.Components {
			c := checkJSON{
				ComponentID: s.Name, ComponentType: "component", ObservedValue: s.LatencyMS, ObservedUnit: "ms",
				Status: word(s.State), Time: s.CheckedAt.UTC().Format(time.RFC3339Nano),
			}
			if s.Group == "stores" {
				c.ComponentType = "datastore"
			}
			if c.Status != "pass" {
				c.Output = s.Reason
			}
			key := checkKey(s.Name)
			doc.Checks[key] = append(doc.Checks[key], c)
		}
	}
	body, err := json.Marshal(doc)
	if err != nil { // strings and numbers only: cannot happen, and must not look healthy
		return http.StatusInternalServerError, []byte(`{"status":"fail"}`)
	}
	return code, body
}

// checkKey is "component:measurement". A component's name may hold no colon
// there, so the next hops share one key and differ in componentId.
func checkKey(name string) string {
	for i := range len(name) {
		if name[i] == ':' {
			return name[:i] + ":responseTime"
		}
	}
	return name + ":responseTime"
}

func word(s State) string {
	switch s {
	case Up, NotConfigured, Maintenance:
		return "pass"
	case Degraded, Unknown:
		return "warn"
	}
	return "fail"
}

// Describe is part of prometheus.Collector.
func (m *Monitor) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect reports the last known states as metrics. It asks nobody: a scrape
// must not hang on a component.
func (m *Monitor) Collect(ch chan<- prometheus.Metric) {
	state := prometheus.NewDesc("mailward_health_component_state", "1 for the state that a component is in, 0 for the others.", []string{"component", "state"}, nil)
	checked := prometheus.NewDesc("mailward_health_checked_timestamp_seconds", "When the components were last checked.", nil, nil)
	r := m.Latest()
	for _, c := range r.Components {
		for _, s := range States() {
			value := 0.0
			if c.State == s {
				value = 1
			}
			ch <- prometheus.MustNewConstMetric(state, prometheus.GaugeValue, value, c.Name, string(s))
		}
	}
	ch <- prometheus.MustNewConstMetric(checked, prometheus.GaugeValue, float64(r.At.UnixMilli())/1000)
}
