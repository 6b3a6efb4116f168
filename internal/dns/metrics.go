package dns

import "github.com/prometheus/client_golang/prometheus"

// metrics are for the operator: how the resolver does.
type metrics struct {
	queries *prometheus.CounterVec
	hits    prometheus.Counter
	dead    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, c *cache) *metrics {
	m := &metrics{
		queries: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mailward_dns_queries_total", Help: "Questions to resolvers by result: a response code, timeout, error, refused (too many at a time) or quiet (not asked, as it did not answer before)."}, []string{"result"}),
		hits:    prometheus.NewCounter(prometheus.CounterOpts{Name: "mailward_dns_cache_hits_total", Help: "Questions answered from the cache."}),
		dead:    prometheus.NewCounter(prometheus.CounterOpts{Name: "mailward_dns_resolver_silent_total", Help: "Times that a resolver was found not to answer at all."}),
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(m.queries, m.hits, m.dead,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "mailward_dns_cache_entries", Help: "Answers in the cache."}, func() float64 { n, _ := c.len(); return float64(n) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "mailward_dns_cache_bytes", Help: "Bytes of the answers in the cache, about."}, func() float64 { _, n := c.len(); return float64(n) }))
	return m
}
