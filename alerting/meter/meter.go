// Package meter counts what happens, for the rules of alerts. The gateway calls it at
// the end of a mail's path, once the decision is on record. Counting is an
// addition in memory; every ten seconds one batch goes to the database, from
// each process of the installation. With the database away the counts of the
// last hour are kept and go later, at the times they belong to.
package meter

import (
	"cmp"
	"context"
	"embed"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"mailward/alerting/rule"
	"mailward/internal/pg"
)

//go:embed queries/*.sql
var queryFiles embed.FS

var (
	noteBatchSQL = pg.Query(queryFiles, "note_batch")
	addSQL       = pg.Query(queryFiles, "add")
)

const (
	// Step is the length of the smallest bucket.
	Step = 10 * time.Second
	// Alive is the metric by which a process says that it counts.
	Alive = "alive"
	// maxKeys bounds a bucket: the domains beyond it count only in the sum of all.
	maxKeys = 20_000
	// maxBuckets is how many wait for the database: an hour.
	maxBuckets = 360
	// maxRows bounds a batch, which has at least one bucket: what has waited for the
	// database goes in several.
	maxRows = 20_000
	// writeLimit is for one batch.
	writeLimit = 8 * time.Second
	// sampleLimit is for all sources.
	sampleLimit = 2 * time.Second
)

// steps are the lengths of buckets in seconds, each batch adds to all of them.
var steps = []int{10, 300, 3600}

type key struct {
	metric    string
	workspace uuid.UUID
	subject   string
	slot      int
}

type cell struct {
	count    int64
	sum, max float64
}

// Source is asked right after the end of each bucket, for what stood then.
type Source func(ctx context.Context, at time.Time)

// Meter holds the counts of this process.
type Meter struct {
	db      *pg.DB
	log     *slog.Logger
	now     func() time.Time
	node    string
	id      uuid.UUID
	counter *prometheus.CounterVec
	sources []Source

	mu      sync.Mutex // guards what follows; held for an addition only
	buckets map[int64]map[key]cell

	writing sync.Mutex // guards batch and unsure
	batch   int64
	unsure  []row // a batch that may have been stored
}

// Options of a Meter.
type Options struct {
	Node    string
	Metrics prometheus.Registerer // may be nil
	Now     func() time.Time      // default time.Now
	Log     *slog.Logger
}

// New returns an empty Meter.
func New(db *pg.DB, o Options) (*Meter, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	m := &Meter{db: db, log: o.Log, now: o.Now, node: o.Node, id: id, buckets: map[int64]map[key]cell{},
		counter: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mailward_alerting_counted_total", Help: "What rules of alerts count, by metric and domain."}, []string{"metric", "domain"})}
	if o.Metrics != nil {
		if err := o.Metrics.Register(m.counter); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Ask adds a source. Call it before [Meter.Run].
func (m *Meter) Ask(f Source) { m.sources = append(m.sources, f) }

// Count adds n to a count, of all and of a domain where there is one.
func (m *Meter) Count(metric string, workspace uuid.UUID, domain string, n float64) {
	m.CountAt(m.now(), metric, workspace, domain, n)
}

// CountAt is Count for something that happened at a time.
func (m *Meter) CountAt(at time.Time, metric string, workspace uuid.UUID, domain string, n float64) {
	m.add(at, key{metric: metric, workspace: workspace, subject: domain}, n)
	m.counter.WithLabelValues(metric, domain).Add(max(n, 0))
}

// Gauge notes a value as it is at a time.
func (m *Meter) Gauge(at time.Time, metric, subject string, v float64) {
	m.add(at, key{metric: metric, subject: subject}, v)
}

// Latency notes how long something took, in milliseconds.
func (m *Meter) Latency(metric string, workspace uuid.UUID, domain string, ms float64) {
	m.add(m.now(), key{metric: metric, workspace: workspace, subject: domain, slot: rule.SlotOf(ms)}, ms)
}

func (m *Meter) add(at time.Time, k key, v float64) {
	b := at.Unix() / int64(Step/time.Second)
	m.mu.Lock()
	defer m.mu.Unlock()
	cells := m.buckets[b]
	if cells == nil {
		oldest := m.now().Unix()/int64(Step/time.Second) - maxBuckets
		if b < oldest {
			return // nobody evaluates it any more
		}
		maps.DeleteFunc(m.buckets, func(at int64, _ map[key]cell) bool { return at < oldest })
		cells = map[key]cell{}
		m.buckets[b] = cells
	}
	c, known := cells[k]
	if !known && len(cells) >= maxKeys {
		return
	}
	if c.count == 0 || v > c.max {
		c.max = v
	}
	c.count++
	c.sum += v
	cells[k] = c
}

// row is one cell on its way to the database.
type row struct {
	key
	at   int64 // begin, seconds
	step int
	cell
}

// take removes the oldest buckets that are over at a time, or any, for one batch.
func (m *Meter) take(all bool) (rows []row) {
	now := m.now().Unix() / int64(Step/time.Second)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range slices.Sorted(maps.Keys(m.buckets)) {
		cells := m.buckets[b]
		if b >= now && !all || len(rows) > 0 && len(rows)+len(cells) > maxRows {
			break
		}
		for k, c := range cells {
			rows = append(rows, row{k, b * 10, 10, c})
		}
		delete(m.buckets, b)
	}
	return rows
}

// putBack keeps what could not be written, as far as an hour goes.
func (m *Meter) putBack(rows []row) {
	m.mu.Lock()
	defer m.mu.Unlock()
	oldest := m.now().Unix()/int64(Step/time.Second) - maxBuckets
	for _, r := range rows {
		b := r.at / 10
		if b < oldest {
			continue
		}
		if m.buckets[b] == nil {
			m.buckets[b] = map[key]cell{}
		}
		c := m.buckets[b][r.key]
		if c.count == 0 || r.max > c.max {
			c.max = r.max
		}
		c.count, c.sum = c.count+r.count, c.sum+r.sum
		m.buckets[b][r.key] = c
	}
}

// Run writes a batch right after the end of each bucket until ctx ends, and
// then the rest.
func (m *Meter) Run(ctx context.Context) error {
	for {
		wait := Step - time.Duration(m.now().UnixNano()%int64(Step)) + 50*time.Millisecond
		select {
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeLimit)
			defer cancel()
			if err := m.flush(ctx, true); err != nil {
				m.log.Warn("last counts for alerts not written", "error", err)
			}
			return nil
		case <-time.After(wait):
		}
		if err := m.Flush(ctx); err != nil && ctx.Err() == nil {
			m.log.Warn("counts for alerts not written yet", "error", err)
		}
	}
}

// Flush writes the buckets that are over.
func (m *Meter) Flush(ctx context.Context) error { return m.flush(ctx, false) }

func (m *Meter) flush(ctx context.Context, all bool) error {
	m.writing.Lock()
	defer m.writing.Unlock()
	m.sample(ctx)
	if len(m.unsure) > 0 {
		if err := m.write(ctx, m.unsure); err != nil {
			return err
		}
		m.unsure = nil
	}
	for {
		rows := m.take(all)
		if len(rows) == 0 {
			return nil
		}
		m.batch++
		err := m.write(ctx, rows)
		if err != nil && pg.IsUnavailable(err) {
			m.unsure = rows // it may have been stored: the same batch again, under its number
			return err
		}
		if err != nil {
			m.putBack(rows)
			return err
		}
	}
}

// sample asks the sources. What they say now belongs to the bucket that has just
// ended: an alert must not wait for another one.
func (m *Meter) sample(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, sampleLimit)
	defer cancel()
	at := m.now().Add(-Step)
	m.Gauge(at, Alive, m.node, 1)
	for _, f := range m.sources {
		f(ctx, at)
	}
}

// write stores one batch, once: a number that is already there adds nothing.
func (m *Meter) write(ctx context.Context, rows []row) error {
	all := rollUp(rows)
	var in struct {
		metric, subject []string
		step, slot      []int
		at              []time.Time
		workspace       []uuid.UUID
		count           []int64
		sum, max        []float64
	}
	for _, r := range all {
		in.metric, in.subject = append(in.metric, r.metric), append(in.subject, r.subject)
		in.step, in.slot = append(in.step, r.step), append(in.slot, r.slot)
		in.at, in.workspace = append(in.at, time.Unix(r.at, 0).UTC()), append(in.workspace, r.workspace)
		in.count, in.sum, in.max = append(in.count, r.count), append(in.sum, r.sum), append(in.max, r.max)
	}
	ctx, cancel := context.WithTimeout(ctx, writeLimit)
	defer cancel()
	err := m.db.Act(ctx, pg.System("alert metrics", "schedule"), func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, noteBatchSQL, m.id, m.node, m.batch)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		_, err = tx.Exec(ctx, addSQL, in.metric, in.step, in.at, in.workspace, in.subject, in.slot, in.count, in.sum, in.max)
		return err
	})
	if err != nil {
		return fmt.Errorf("write counts for alerts: %w", err)
	}
	return nil
}

// rollUp gives the cells of all lengths: of the sum of all domains and of each
// one, in the order of the primary key, so that no two processes wait for each other.
func rollUp(rows []row) []row {
	type place struct {
		key
		at   int64
		step int
	}
	cells := map[place]cell{}
	for _, r := range rows {
		keys := []key{r.key}
		if sums(r.metric) && r.subject != "" {
			whole := r.key
			whole.subject = ""
			keys = append(keys, whole)
		}
		for _, step := range steps {
			for _, k := range keys {
				p := place{k, r.at - r.at%int64(step), step}
				c := cells[p]
				if c.count == 0 || r.max > c.max {
					c.max = r.max
				}
				c.count, c.sum = c.count+r.count, c.sum+r.sum
				cells[p] = c
			}
		}
	}
	out := make([]row, 0, len(cells))
	for p, c := range cells {
		out = append(out, row{p.key, p.at, p.step, c})
	}
	slices.SortFunc(out, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.metric, b.metric), cmp.Compare(a.step, b.step), cmp.Compare(a.at, b.at),
			slices.Compare(a.workspace[:], b.workspace[:]), cmp.Compare(a.subject, b.subject), cmp.Compare(a.slot, b.slot))
	})
	return out
}

// sums says whether the parts of a metric have a sum worth having: a node's
// sign of life has none.
func sums(metric string) bool { return metric != Alive }
