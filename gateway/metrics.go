package gateway

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mailward/policy"
)

// metrics are the gateway's counters.
type metrics struct {
	mails       *prometheus.CounterVec
	decisions   *prometheus.CounterVec
	seconds     prometheus.Histogram
	sessions    prometheus.Gauge
	relayDenied prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		mails:       prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mailward_gateway_mails_total", Help: "Mails by what became of them."}, []string{"result"}),
		decisions:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mailward_gateway_decisions_total", Help: "Decisions by class and action."}, []string{"class", "action"}),
		seconds:     prometheus.NewHistogram(prometheus.HistogramOpts{Name: "mailward_gateway_handle_seconds", Help: "Time from the last dot to our reply.", Buckets: prometheus.ExponentialBuckets(0.005, 2, 14)}),
		sessions:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "mailward_gateway_sessions", Help: "SMTP sessions that are open."}),
		relayDenied: prometheus.NewCounter(prometheus.CounterOpts{Name: "mailward_gateway_relay_denied_total", Help: "Recipients of domains that are not ours."}),
	}
	for _, r := range []string{"relayed", "not_relayed", "failed", "not_taken"} {
		m.mails.WithLabelValues(r)
	}
	if reg != nil {
		reg.MustRegister(m.mails, m.decisions, m.seconds, m.sessions, m.relayDenied)
	}
	return m
}

func (m *metrics) observe(begin time.Time) { m.seconds.Observe(time.Since(begin).Seconds()) }

func (m *metrics) decided(d policy.Decision) {
	m.decisions.WithLabelValues(string(d.Class), string(d.Action)).Inc()
}
