package gateway

import (
	"fmt"
	"sync"
	"testing"

	"github.com/google/uuid"

	"mailward/policy"
)

// tally is a Counter that remembers.
type tally struct {
	mu sync.Mutex
	n  map[string]float64
}

func (c *tally) Count(metric string, w uuid.UUID, domain string, n float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w != policy.DefaultWorkspace {
		metric = "of another workspace: " + metric
	}
	c.n[metric+" "+domain] += n
}

func (c *tally) Latency(metric string, w uuid.UUID, domain string, ms float64) {
	if ms >= 0 {
		c.Count(metric, w, domain, 1)
	}
}

// What alerts are made of: each mail once for each of our domains that it is for.
func TestCounter_HearsOfEveryMail(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	c := &tally{n: map[string]float64{}}
	f.srv.deps.Counter = c
	f.wantReply(f.send("clean"), 250)
	f.wantReply(f.send("phishing", "a@ours.example", "b@ours.example"), 250)
	f.wantReply(f.send("malware"), 250)
	f.scan.down.Store(true)
	f.wantReply(f.send("clean, put off"), 451)
	c.mu.Lock()
	defer c.mu.Unlock()
	want := map[string]float64{"mails_5min": 4, "scan_latency_p95_ms": 4, "phishing_rate_5min": 1, "malware_hits_5min": 1, "quarantine_rate_5min": 2, "tempfail_rate_5min": 1}
	for metric, n := range want {
		if got := c.n[metric+" ours.example"]; got != n {
			t.Errorf("%s: %v, want %v", metric, got, n)
		}
	}
	if len(c.n) != len(want) {
		t.Error(fmt.Sprint("more than that: ", c.n))
	}
}
