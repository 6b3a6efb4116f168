package limit

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Status is what the guard does, for Health and a page.
type Status struct {
	Redis    string           // "up", "down", or "none" where none is configured
	Refusals map[string]int64 // by kind, since the start
	Clients  int              // connected to this process
	Tracked  int              // counters in this process
	Lists    []ListStatus
}

// ListStatus is how one DNSBL does.
type ListStatus struct {
	Zone                             string
	Asked, Hits, Errors, Unavailable int64
	Suspended                        bool // it names every address
	NoTestEntry                      bool // it lacks the entry that all lists have
	LastTrouble                      time.Time
	LastError                        string
}

// stats counts for Prometheus and for [Status].
type stats struct {
	refusals *prometheus.CounterVec
	lookups  *prometheus.CounterVec

	mu     sync.Mutex // guards byKind
	byKind map[string]int64
}

func newStats(reg prometheus.Registerer, g *Guard) *stats {
	s := &stats{
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mailward_limit_refusals_total", Help: "Refusals at the edge by kind."}, []string{"kind"}),
		lookups:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mailward_limit_dnsbl_total", Help: "Questions to DNSBLs by result."}, []string{"result"}),
		byKind:   map[string]int64{},
	}
	for _, k := range []string{KindBanned, KindConnections, KindConnectionRate, KindMailRate, KindRecipientRate, KindByteRate, KindSenderRate, KindBadCommands, KindDNSBL, KindGreylist} {
		s.refusals.WithLabelValues(k)
	}
	for _, r := range []string{"hit", "clear", "error", "unavailable", "busy", "late"} {
		s.lookups.WithLabelValues(r)
	}
	if reg == nil {
		return s
	}
	reg.MustRegister(s.refusals, s.lookups,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "mailward_limit_redis_up", Help: "1 while limits are shared through Redis."}, func() float64 {
			if g.redis.state() == "up" {
				return 1
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "mailward_limit_counters", Help: "Counters that this process holds."}, func() float64 { return float64(g.local.len()) }))
	return s
}

func (s *stats) refused(kind string) {
	s.refusals.WithLabelValues(kind).Inc()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byKind[kind]++
}

func (s *stats) lookup(result string) { s.lookups.WithLabelValues(result).Inc() }

// Status says how the guard does.
func (g *Guard) Status() Status {
	st := Status{Redis: g.redis.state(), Refusals: map[string]int64{}, Tracked: g.local.len(), Lists: g.dnsbl.status()}
	g.mu.Lock()
	st.Clients = len(g.open)
	g.mu.Unlock()
	g.stats.mu.Lock()
	defer g.stats.mu.Unlock()
	for k, n := range g.stats.byKind {
		st.Refusals[k] = n
	}
	return st
}
