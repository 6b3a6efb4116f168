package health

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

const (
	keepMinutes = 30 * 24 * time.Hour
	keepHours   = 396 * 24 * time.Hour // 13 months
	// rollUpEvery is how often hours are made of minutes.
	rollUpEvery = 10 * time.Minute
	// unwrittenMost bounds what is kept while the database is away: some hours of an
	// installation with many components. Its own outage is what the history is for.
	unwrittenMost = 20_000
)

// minute gathers the checks of a component in one minute.
type minute struct {
	at              time.Time
	good, slow, bad int
	worst           State
	latencies       []float64
}

func (m *minute) add(s State, latency float64) {
	switch s {
	case Up, NotConfigured:
		m.good++
	case Degraded:
		m.slow++
	case Down, NotAuthorised:
		m.bad++
	}
	if m.worst == "" || rank(s) > rank(m.worst) {
		m.worst = s
	}
	m.latencies = append(m.latencies, latency)
}

func rank(s State) int { return slices.Index(States(), s) }

// Minute is what a process saw of a component in one minute.
type Minute struct {
	Component       string
	At              time.Time
	Checks          int
	Good, Slow, Bad int
	Worst           State
	P50, P95        float64
}

func (m *minute) done(component string) Minute {
	slices.Sort(m.latencies)
	return Minute{Component: component, At: m.at, Checks: len(m.latencies), Good: m.good, Slow: m.slow, Bad: m.bad, Worst: m.worst, P50: quantile(m.latencies, 0.5), P95: quantile(m.latencies, 0.95)}
}

// quantile of sorted values.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// unwritten is what has to go to the history; guarded by Monitor.mu.
type unwritten struct {
	minutes []Minute
	changes []Changed
}

// Changed is a change of state on its way to the history, or from it.
type Changed struct {
	ID        uuid.UUID `json:"-"`
	Component string    `json:"-"`
	At        time.Time `json:"at"`
	Node      string    `json:"node"`
	Before    State     `json:"before"`
	State     State     `json:"state"`
	Code      string    `json:"code"`
	Reason    string    `json:"reason"`
	Says      Text      `json:"-"` // nothing of changes that were kept before there was this
}

// count adds a check to its minute. It needs m.mu.
func (m *Monitor) count(mem *memory, name string, at time.Time, s State, latency float64) {
	if m.past == nil {
		return
	}
	begin := at.UTC().Truncate(time.Minute)
	if !mem.minute.at.Equal(begin) {
		if len(mem.minute.latencies) > 0 {
			m.waiting.minutes = append(m.waiting.minutes, mem.minute.done(name))
		}
		mem.minute = minute{at: begin}
	}
	mem.minute.add(s, latency)
	if over := len(m.waiting.minutes) - unwrittenMost; over > 0 {
		m.waiting.minutes = slices.Delete(m.waiting.minutes, 0, over)
	}
}

// note keeps a change for the history. It needs m.mu.
func (m *Monitor) note(c Component, at time.Time, before State, res Result) {
	if m.past == nil || len(m.waiting.changes) >= unwrittenMost {
		return
	}
	id, err := uuid.NewV7()
	if err != nil {
		return
	}
	m.waiting.changes = append(m.waiting.changes, Changed{ID: id, Component: c.Name, At: at, Before: before, State: res.State, Code: res.Code, Reason: res.Reason.String(), Says: res.Reason})
}

// Past keeps the history of components in the database.
type Past struct {
	db   *pg.DB
	node string
}

// NewPast returns a Past of a node.
func NewPast(db *pg.DB, node string) *Past { return &Past{db: db, node: node} }

// WithPast lets the history be kept.
func WithPast(p *Past) Option { return func(m *Monitor) { m.past = p } }

// keepPast writes what is over, and once in a while rolls up and cleans. What
// cannot be written waits.
func (m *Monitor) keepPast(ctx context.Context, rolled *time.Time) error {
	if m.past == nil {
		return nil
	}
	m.mu.Lock()
	w := m.waiting
	m.waiting = unwritten{}
	m.mu.Unlock()
	if err := m.past.save(ctx, w); err != nil {
		m.mu.Lock()
		m.waiting.minutes = append(w.minutes, m.waiting.minutes...)
		m.waiting.changes = append(w.changes, m.waiting.changes...)
		m.mu.Unlock()
		return err
	}
	now := m.now()
	if now.Sub(*rolled) < rollUpEvery && !now.Before(*rolled) {
		return nil
	}
	if err := m.past.RollUp(ctx, now); err != nil {
		return err
	}
	*rolled = now
	return nil
}

func (p *Past) save(ctx context.Context, w unwritten) error {
	if len(w.minutes)+len(w.changes) == 0 {
		return nil
	}
	err := p.db.Act(ctx, pg.System("health", "history"), func(ctx context.Context, tx pgx.Tx) error {
		b := &pgx.Batch{}
		for _, x := range w.minutes {
			b.Queue(saveMinuteSQL, x.Component, x.At, p.node, x.Checks, x.Good, x.Slow, x.Bad, x.Worst, x.P50, x.P95)
		}
		for _, c := range w.changes {
			b.Queue(saveChangeSQL, c.ID, c.Component, p.node, c.At, c.Before, c.State, c.Code, c.Reason, c.Says)
		}
		return tx.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return fmt.Errorf("store the history of health: %w", err)
	}
	return nil
}

var (
	saveMinuteSQL  = pg.Query(queries, "save_minute")
	saveChangeSQL  = pg.Query(queries, "save_change")
	rollUpSQL      = pg.Query(queries, "roll_up")
	cleanSQL       = pg.Query(queries, "clean_history")
	pastMinutesSQL = pg.Query(queries, "past_minutes")
	pastHoursSQL   = pg.Query(queries, "past_hours")
	changesSQL     = pg.Query(queries, "changes")
)

// RollUp makes hours of minutes and removes what is past its time. Any process may
// do it, and several at once.
func (p *Past) RollUp(ctx context.Context, now time.Time) error {
	err := p.db.Act(ctx, pg.System("health", "retention"), func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, rollUpSQL, States(), now); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, cleanSQL, now.Add(-keepMinutes), now.Add(-keepHours))
		return err
	})
	if err != nil {
		return fmt.Errorf("roll the history of health up: %w", err)
	}
	return nil
}

// Slot is a stretch of a component's history.
type Slot struct {
	At     time.Time `json:"at"`
	Checks int64     `json:"checks"`
	Good   int64     `json:"good"`
	Slow   int64     `json:"slow"`
	Bad    int64     `json:"bad"`
	Worst  State     `json:"worst"`
	P50    float64   `json:"p50_ms"`
	P95    float64   `json:"p95_ms"`
}

// minutesUpTo is the longest time that is read from minutes.
const minutesUpTo = 26 * time.Hour

// Read is the history from a time on in slots of equal length, by component; the
// name is one component's, or empty for all.
func (p *Past) Read(ctx context.Context, name string, from time.Time, slot, span time.Duration) (map[string][]Slot, error) {
	sql := pastHoursSQL
	if span <= minutesUpTo {
		sql = pastMinutesSQL
	}
	rows, err := p.db.Query(ctx, sql, name, from, slot, States())
	if err != nil {
		return nil, fmt.Errorf("read the history of health: %w", err)
	}
	out := map[string][]Slot{}
	var c string
	var s Slot
	_, err = pgx.ForEachRow(rows, []any{&c, &s.At, &s.Checks, &s.Good, &s.Slow, &s.Bad, &s.Worst, &s.P50, &s.P95}, func() error {
		out[c] = append(out[c], s)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the history of health: %w", err)
	}
	return out, nil
}

// Changes are the last changes of a component, the newest first.
func (p *Past) Changes(ctx context.Context, name string, most int) ([]Changed, error) {
	rows, err := p.db.Query(ctx, changesSQL, name, most)
	if err != nil {
		return nil, fmt.Errorf("read changes of health: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (c Changed, err error) {
		c.Component = name
		err = row.Scan(&c.At, &c.Node, &c.Before, &c.State, &c.Code, &c.Reason, &c.Says)
		return c, err
	})
}

// Read is [Past.Read]; nothing where no history is kept.
func (m *Monitor) Read(ctx context.Context, name string, from time.Time, slot, span time.Duration) (map[string][]Slot, error) {
	if m.past == nil {
		return nil, nil
	}
	return m.past.Read(ctx, name, from, slot, span)
}

// Changes are the last changes of a component, the newest first; without a kept
// history those that this process has seen.
func (m *Monitor) Changes(ctx context.Context, name string, most int) (list []Changed, err error) {
	if m.past != nil {
		return m.past.Changes(ctx, name, most)
	}
	for _, c := range slices.Backward(m.History(name).Changes) {
		if len(list) < most {
			list = append(list, Changed{At: c.At, Before: c.From, State: c.To, Reason: c.Reason, Says: c.Says})
		}
	}
	return list, nil
}

const (
	// flapWindow and flapChanges: so many changes in so short a time are one thing
	// to know, not many.
	flapWindow  = 5 * time.Minute
	flapChanges = 6
	// calmFor is how long a component has to stay as it is to be believed again.
	calmFor = time.Minute
)

// damped is the state that is shown: of a component that comes and goes the worst
// one that it had, until it stays as it is. It needs m.mu.
func (mem *memory) damped(at time.Time, c Component, res Result) Result {
	if mem.raw != res.State {
		mem.raw = res.State
		mem.turns = append(mem.turns, turn{at, res.State})
	}
	mem.turns = slices.DeleteFunc(mem.turns, func(t turn) bool { return at.Sub(t.at) > flapWindow || t.at.After(at) })
	if n := len(mem.turns); n > flapChanges {
		mem.flaps = true
	} else if n == 0 || at.Sub(mem.turns[n-1].at) >= calmFor {
		mem.flaps = false
	}
	if mem.flaps && len(mem.turns) > 0 && at.Sub(mem.turns[len(mem.turns)-1].at) >= calmFor {
		mem.flaps, mem.turns = false, nil
	}
	if !mem.flaps {
		return res
	}
	worst := slices.MaxFunc(mem.turns, func(a, b turn) int { return cmp.Compare(rank(a.state), rank(b.state)) }).state
	res.Reason = say("flapping", c.titled(), num(len(mem.turns)), span(flapWindow)).with(res.Reason)
	res.State, res.Code = worst, "flapping"
	return res
}

type turn struct {
	at    time.Time
	state State
}
