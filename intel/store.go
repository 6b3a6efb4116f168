package intel

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
)

const (
	lookLimit    = 200 * time.Millisecond // for one question to the database
	askMost      = 200                    // keys of one question: as many hits say enough
	pollEvery    = 15 * time.Second       // for when a notification was lost
	rebuildEvery = 6 * time.Hour          // expired keys leave the filter then
	hitsEvery    = 5 * time.Second
	hitsMost     = 10_000 // that wait to be counted
	sweepEvery   = 10 * time.Minute
	sweepMost    = 5_000 // rows at a time
	maxOverrides = 10_000
)

// Store has the indicators, and knows in memory which there may be. Safe for
// several goroutines.
type Store struct {
	db     *pg.DB
	record *audit.Log
	log    *slog.Logger
	now    func() time.Time
	lists  []string // names of the feeds whose warninglists count

	filter    atomic.Pointer[filter] // nil: not yet read; then the database is asked about all
	overrides atomic.Pointer[overrideSet]
	newest    atomic.Pointer[time.Time] // added_at of the newest key known

	load  sync.Mutex
	built time.Time // guarded by load, as the next: when the filter was read anew
	since string    // transactions from this one on were not all over when keys were read last

	mu   sync.Mutex
	hits map[hitKey]hit // guarded by mu; not yet written
}

type hitKey struct {
	key    int64
	source string
}

type hit struct {
	count int64
	last  time.Time
}

// NewStore returns a Store that asks the database about everything until
// [Store.Load] or [Store.Run]. Without a record nothing can be imported.
func NewStore(db *pg.DB, record *audit.Log, log *slog.Logger) *Store {
	return &Store{db: db, record: record, log: log, now: time.Now, hits: map[hitKey]hit{}}
}

// Run keeps the memory fresh: at once when the database says that something
// changed, and every few seconds. It returns when ctx ends.
func (s *Store) Run(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.db.Listen(ctx, "mailward_intel", changed)
	}()
	poll, hits := time.NewTicker(pollEvery), time.NewTicker(hitsEvery)
	defer poll.Stop()
	defer hits.Stop()
	for {
		if err := s.Load(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("threat intelligence not read, what is known stays in force", "error", err)
		}
		for wait := true; wait; {
			wait = false
			select {
			case <-ctx.Done():
				s.writeHits(context.WithoutCancel(ctx))
				<-done
				return nil
			case <-poll.C:
			case <-changed:
			case <-hits.C:
				s.writeHits(ctx)
				wait = true
			}
		}
	}
}

// RunSweep takes expired indicators away until ctx ends.
func (s *Store) RunSweep(ctx context.Context) error {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("expired indicators not deleted", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

func (s *Store) sweep(ctx context.Context) error {
	for {
		tag, err := s.db.Exec(ctx, sweepSQL, s.now(), sweepMost)
		if err != nil {
			return fmt.Errorf("delete expired indicators: %w", err)
		}
		if tag.RowsAffected() < sweepMost {
			return nil
		}
	}
}

// Load reads the overrides, and the keys that were added since the last time; all
// of them where the filter is new or has become too small.
func (s *Store) Load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := s.LoadOverrides(ctx); err != nil {
		return err
	}
	s.load.Lock()
	defer s.load.Unlock()
	// Asked before the keys are: what is added in between is read twice, and never missed.
	var horizon string
	if err := s.db.QueryRow(ctx, horizonSQL).Scan(&horizon); err != nil {
		return fmt.Errorf("read horizon of indicators: %w", err)
	}
	f := s.filter.Load()
	if f != nil && !f.full() && s.now().Sub(s.built) < rebuildEvery {
		if err := s.readKeys(ctx, f, s.since); err != nil {
			return err
		}
		s.since = horizon
		return nil
	}
	count := 0
	if err := s.db.QueryRow(ctx, countSQL).Scan(&count); err != nil {
		return fmt.Errorf("count indicators: %w", err)
	}
	f = newFilter(count + count/2)
	s.newest.Store(&time.Time{})
	if err := s.readKeys(ctx, f, "0"); err != nil {
		return err
	}
	f.held.Store(int64(count))
	s.built, s.since = s.now(), horizon
	s.filter.Store(f)
	return nil
}

func (s *Store) readKeys(ctx context.Context, f *filter, since string) error {
	rows, err := s.db.Query(ctx, keysSQL, since)
	if err != nil {
		return fmt.Errorf("read keys of indicators: %w", err)
	}
	newest := *s.newest.Load()
	var key int64
	var added time.Time
	_, err = pgx.ForEachRow(rows, []any{&key, &added}, func() error {
		if !f.has(key) {
			f.add(key)
		}
		if added.After(newest) {
			newest = added
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read keys of indicators: %w", err)
	}
	s.newest.Store(&newest)
	return nil
}

// find reads the indicators of some values. Those that the filter does not have
// cost no question.
func (s *Store) find(ctx context.Context, values []Value) (map[Value][]Indicator, error) {
	f := s.filter.Load()
	var keys []int64
	for _, v := range values {
		if k := v.key(); f == nil || f.has(k) {
			if keys = append(keys, k); len(keys) == askMost {
				break
			}
		}
	}
	if len(keys) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	rows, err := s.db.Query(ctx, findSQL, keys, s.now())
	if err != nil {
		return nil, fmt.Errorf("look up indicators: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanIndicator)
	if err != nil {
		return nil, fmt.Errorf("look up indicators: %w", err)
	}
	found := map[Value][]Indicator{}
	for _, i := range list {
		v := Value{i.Kind, i.Value}
		found[v] = append(found[v], i)
	}
	return found, nil
}

func scanIndicator(row pgx.CollectableRow) (i Indicator, err error) {
	err = row.Scan(&i.Kind, &i.Value, &i.Source, &i.Class, &i.Confidence, &i.FirstSeen, &i.LastSeen, &i.ExpiresAt, &i.Note, &i.Reference, &i.Hits, &i.LastHitAt)
	return i, err
}

// counted notes that an indicator was found in a mail. It does not wait.
func (s *Store) counted(i Indicator) {
	k := hitKey{i.key(), i.Source}
	s.mu.Lock()
	defer s.mu.Unlock()
	if h, ok := s.hits[k]; ok || len(s.hits) < hitsMost {
		s.hits[k] = hit{h.count + 1, s.now()}
	}
}

// writeHits saves what was counted. What the database does not take is lost: it
// is a number for people, and a sighting less.
func (s *Store) writeHits(ctx context.Context) {
	s.mu.Lock()
	hits := s.hits
	s.hits = map[hitKey]hit{}
	s.mu.Unlock()
	if len(hits) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var (
		keys    []int64
		sources []string
		counts  []int64
		last    []time.Time
	)
	for k, h := range hits {
		keys, sources, counts, last = append(keys, k.key), append(sources, k.source), append(counts, h.count), append(last, h.last)
	}
	if _, err := s.db.Exec(ctx, countHitsSQL, keys, sources, counts, last); err != nil {
		s.log.Warn("hits of indicators not counted", "indicators", len(hits), "error", err)
	}
}

// overrideSet is all overrides in memory. It is never changed, only replaced.
type overrideSet struct {
	byValue map[Value][]Override
}

// get is what is said of a value in a workspace now: a block before an allow.
func (o *overrideSet) get(workspace uuid.UUID, v Value, now time.Time) (found *Override) {
	if o == nil {
		return nil
	}
	for i := range o.byValue[v] {
		x := &o.byValue[v][i]
		if x.Workspace != nil && *x.Workspace != workspace || x.ExpiresAt != nil && !x.ExpiresAt.After(now) {
			continue
		}
		if x.Effect == Block {
			return x
		}
		found = x
	}
	return found
}

// LoadOverrides reads what is in force of overrides.
func (s *Store) LoadOverrides(ctx context.Context) error {
	rows, err := s.db.Query(ctx, overridesSQL, s.now())
	if err != nil {
		return fmt.Errorf("read overrides: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanOverride)
	if err != nil {
		return fmt.Errorf("read overrides: %w", err)
	}
	set := &overrideSet{map[Value][]Override{}}
	for _, o := range list {
		v := Value{o.Kind, o.Value}
		set.byValue[v] = append(set.byValue[v], o)
	}
	s.overrides.Store(set)
	return nil
}
