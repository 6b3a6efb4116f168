package meter

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// Watched is a metric of Prometheus that a metric of ours is made of.
type Watched struct {
	Metric string
	Scale  float64 // of gauges; 0: 1
}

// Watch makes metrics of what the program counts for Prometheus anyhow: of
// counters what was added since the last time, of gauges how they stand.
func Watch(m *Meter, from prometheus.Gatherer, names map[string]Watched, log *slog.Logger) Source {
	last := map[string]float64{}
	return func(_ context.Context, at time.Time) {
		families, err := from.Gather()
		if err != nil {
			log.Debug("some metrics are missing", "error", err) // what is there is there
		}
		for _, f := range families {
			w, ok := names[f.GetName()]
			if !ok {
				continue
			}
			total, gauge := 0.0, false
			for _, x := range f.GetMetric() {
				total += x.GetCounter().GetValue() + x.GetGauge().GetValue()
				gauge = x.GetGauge() != nil
			}
			if gauge {
				m.Gauge(at, w.Metric, "", total*orOne(w.Scale))
			} else if d := total - last[f.GetName()]; d > 0 {
				m.CountAt(at, w.Metric, uuid.Nil, "", d)
			}
			last[f.GetName()] = total
		}
	}
}

func orOne(f float64) float64 {
	if f == 0 {
		return 1
	}
	return f
}
