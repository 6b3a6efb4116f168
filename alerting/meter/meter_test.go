package meter

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"mailward/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// clock is a time that the test sets.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.t }
func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func newMeter(t *testing.T, db *testenv.DB, c *clock, node string) *Meter {
	t.Helper()
	m, err := New(db.DB, Options{Node: node, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func sumOf(t *testing.T, db *testenv.DB, metric string, step int, subject string) (sum float64, rows int) {
	t.Helper()
	err := db.QueryRow(t.Context(), "SELECT coalesce(sum(sum), 0), count(*) FROM metric_bucket WHERE metric = $1 AND step = $2 AND subject = $3", metric, step, subject).Scan(&sum, &rows)
	if err != nil {
		t.Fatal(err)
	}
	return sum, rows
}

func TestMeter_AllProcessesAddUp(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	c := &clock{t: time.Date(2026, 3, 3, 12, 0, 1, 0, time.UTC)}
	a, b, w := newMeter(t, db, c, "a"), newMeter(t, db, c, "b"), uuid.New()
	var wg sync.WaitGroup
	for _, m := range []*Meter{a, b} {
		for range 4 {
			wg.Go(func() {
				for range 250 {
					m.Count("phishing_rate_5min", w, "x.example", 1)
					m.Count("phishing_rate_5min", w, "y.example", 1)
				}
			})
		}
	}
	wg.Wait()
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if sum, _ := sumOf(t, db, "phishing_rate_5min", 10, "x.example"); sum != 0 {
		t.Errorf("a bucket that is not over was written: %v", sum)
	}
	c.add(Step)
	for _, m := range []*Meter{a, b} {
		if err := m.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range steps {
		x, rows := sumOf(t, db, "phishing_rate_5min", step, "x.example")
		all, _ := sumOf(t, db, "phishing_rate_5min", step, "")
		if x != 2000 || all != 4000 || rows != 1 {
			t.Errorf("step %d: %v of x.example in %d rows, %v of all", step, x, rows, all)
		}
	}
	if _, rows := sumOf(t, db, Alive, 10, "a"); rows != 2 { // at two flushes
		t.Errorf("%d signs of life", rows)
	}
}

// An answer that was lost does not make anything count twice, and a database that
// is away loses nothing of the last hour.
func TestMeter_LostAnswer(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	c := &clock{t: time.Date(2026, 3, 3, 12, 0, 1, 0, time.UTC)}
	m := newMeter(t, db, c, "a")
	m.Count("mails_5min", uuid.Nil, "x.example", 7)
	c.add(Step)
	rows := m.take(false)
	m.batch++
	if err := m.write(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	m.unsure = rows // as if the answer had not come
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Flush(cancelled); err == nil {
		t.Fatal("flushed without a database")
	}
	m.Count("mails_5min", uuid.Nil, "x.example", 5)
	c.add(5 * time.Minute)
	if err := m.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if sum, n := sumOf(t, db, "mails_5min", 10, "x.example"); sum != 12 || n != 2 {
		t.Errorf("%v in %d buckets, want 12 in 2", sum, n)
	}
	m.CountAt(c.now().Add(-2*time.Hour), "mails_5min", uuid.Nil, "x.example", 1) // too old: dropped
	m.CountAt(c.now().Add(-30*time.Minute), "mails_5min", uuid.Nil, "x.example", 1)
	if err := m.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if sum, _ := sumOf(t, db, "mails_5min", 10, "x.example"); sum != 13 {
		t.Errorf("%v, want 13", sum)
	}
}

// TestMeter_LongOutage: with the database away for hours, memory holds one of them,
// which goes in batches of bounded size once it is back.
func TestMeter_LongOutage(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	c := &clock{t: time.Date(2026, 3, 3, 12, 0, 1, 0, time.UTC)}
	m := newMeter(t, db, c, "a")
	for range 3 * maxBuckets {
		for i := range 80 {
			m.Count("mails_5min", uuid.Nil, fmt.Sprint("d", i, ".example"), 1)
		}
		c.add(Step)
	}
	if n := len(m.buckets); n > maxBuckets+1 {
		t.Fatalf("%d buckets are kept, want at most %d", n, maxBuckets+1)
	}
	kept := float64(len(m.buckets))
	if err := m.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if sum, _ := sumOf(t, db, "mails_5min", 10, "d7.example"); sum != kept {
		t.Errorf("%v written, want %v", sum, kept)
	}
	if m.batch < 2 {
		t.Errorf("all in %d batch", m.batch)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	c := &clock{t: time.Date(2026, 3, 3, 12, 0, 1, 0, time.UTC)}
	m, err := New(nil, Options{Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	counter := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "failures_total"}, []string{"why"})
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "age_seconds"})
	reg.MustRegister(counter, gauge)
	ask := Watch(m, reg, map[string]Watched{"failures_total": {Metric: "f"}, "age_seconds": {Metric: "age", Scale: 1.0 / 60}}, slog.New(slog.DiscardHandler))
	counter.WithLabelValues("a").Add(2)
	counter.WithLabelValues("b").Add(3)
	gauge.Set(120)
	ask(t.Context(), c.now())
	ask(t.Context(), c.now())
	counter.WithLabelValues("a").Add(1)
	ask(t.Context(), c.now())
	c.add(Step)
	got := map[string]cell{}
	for _, r := range m.take(false) {
		got[r.metric] = r.cell
	}
	if got["f"].sum != 6 || got["age"].max != 2 {
		t.Errorf("%+v", got)
	}
}

func BenchmarkCount(b *testing.B) {
	m, err := New(nil, Options{})
	if err != nil {
		b.Fatal(err)
	}
	w := uuid.New()
	for b.Loop() {
		m.Count("mails_5min", w, "x.example", 1)
	}
}

func TestQueries_Prepare(t *testing.T) {
	t.Parallel()
	testenv.PrepareQueries(t, queryFiles)
}
