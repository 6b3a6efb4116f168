package sandbox

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the queue's counters and gauges.
type metrics struct {
	failures prometheus.Counter
	tasks    *prometheus.CounterVec
	late     *prometheus.CounterVec
	decided  *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, q *Queue) *metrics {
	m := &metrics{
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "mailward_sandbox_failures_total", Help: "Calls to the sandbox that failed, and files without a verdict (sandbox_failures)."}),
		tasks:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mailward_sandbox_tasks_total", Help: "Files that the sandbox has ended with."}, []string{"verdict"}),
		late:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mailward_sandbox_late_malicious_total", Help: "Mails that the sandbox called malicious after they were decided (sandbox_late_malicious)."}, []string{"delivered"}),
		decided:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mailward_sandbox_decided_total", Help: "Held mails that were decided."}, []string{"verdict"}),
	}
	if reg != nil {
		reg.MustRegister(m.failures, m.tasks, m.late, m.decided,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "mailward_sandbox_queue_age_minutes", Help: "How long the oldest held mail has waited for the sandbox (sandbox_queue_age_minutes)."}, q.age))
	}
	return m
}

// age is read when somebody asks, so that any process can say it.
func (q *Queue) age() float64 {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	s, err := q.Status(ctx)
	if err != nil || s.Oldest.IsZero() {
		return 0
	}
	return max(0, time.Since(s.Oldest).Minutes())
}
