package queue

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the queue's counters and gauges.
type metrics struct {
	deliveries *prometheus.CounterVec
	forged     prometheus.Counter
	dsns       *prometheus.CounterVec
	waiting    prometheus.Gauge
	oldest     prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mailward_gateway_deliveries_total", Help: "Ended deliveries of the queue."}, []string{"kind", "state"}),
		forged:     prometheus.NewCounter(prometheus.CounterOpts{Name: "mailward_gateway_forged_releases_total", Help: "Releases that no person had decided on."}),
		dsns:       prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mailward_queue_notifications_total", Help: "Notifications to senders that were queued."}, []string{"action"}),
		waiting:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "mailward_queue_waiting", Help: "Deliveries that wait, up to a million."}),
		oldest:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "mailward_queue_age_seconds", Help: "How long the oldest delivery has waited."}),
	}
	if reg != nil {
		reg.MustRegister(m.deliveries, m.forged, m.dsns, m.waiting, m.oldest)
	}
	return m
}

func (m *metrics) status(s Status) {
	m.waiting.Set(float64(s.Waiting))
	age := 0.0
	if !s.Oldest.IsZero() {
		age = max(0, time.Since(s.Oldest).Seconds())
	}
	m.oldest.Set(age)
}
