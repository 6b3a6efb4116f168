package intel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"mailward/audit"
	"mailward/internal/pg"
)

const (
	claimFor   = feedTime + time.Minute // then another process may think that this one is dead
	lookEvery  = 30 * time.Second
	shrinkRows = 20 // a feed of fewer rows may lose half of them
	runsKept   = 200
	sightMost  = 100 // values of one call
	retryAfter = 15 * time.Minute
)

// feedState is what the last run has left.
type feedState struct {
	etag, modified, cursor string
	rows                   int64
	claim                  time.Time // until when the feed is ours
}

// FeedState is how a feed fares.
type FeedState struct {
	Name       string     `json:"name"`
	Type       string     `json:"type"`
	LastGoodAt *time.Time `json:"last_good_at"`
	LastRunAt  *time.Time `json:"last_run_at"`
	NextRunAt  time.Time  `json:"next_run_at"`
	Running    bool       `json:"running"`
	Rows       int64      `json:"rows" doc:"of the last complete answer"`
	LagMinutes float64    `json:"lag_minutes" doc:"since the last good run, or since the feed is there"`
	Late       bool       `json:"late" doc:"the lag is over twice the interval"`
	Alarm      bool       `json:"alarm"`
	Code       string     `json:"code,omitempty" doc:"of the error"`
	Error      string     `json:"error,omitempty"`
}

// Run takes up feeds that are due, until ctx ends.
func (f *Feeds) Run(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.store.db.Listen(ctx, "mailward_feed", changed)
	}()
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		if err := f.runDue(ctx); err != nil && ctx.Err() == nil {
			f.log.Error("feeds of threat intelligence not read", "error", err)
		}
		select {
		case <-ctx.Done():
			<-done
			return nil
		case <-t.C:
		case <-changed:
		}
	}
}

// runDue runs each feed that is due and that no other process has.
func (f *Feeds) runDue(ctx context.Context) error {
	for _, cfg := range f.cfg {
		if _, err := f.store.db.Exec(ctx, addFeedSQL, cfg.Name, cfg.Type); err != nil {
			return fmt.Errorf("note feed %s: %w", cfg.Name, err)
		}
		var last feedState
		err := f.store.db.QueryRow(ctx, claimFeedSQL, cfg.Name, f.store.now(), f.store.now().Add(claimFor)).Scan(&last.etag, &last.modified, &last.cursor, &last.rows, &last.claim)
		if errors.Is(err, pgx.ErrNoRows) {
			continue
		}
		if err != nil {
			return fmt.Errorf("take feed %s: %w", cfg.Name, err)
		}
		if err := f.run(ctx, cfg, last); err != nil {
			return err
		}
	}
	return nil
}

// result is what the record says of a run.
type result struct {
	state string
	fault *errFeed // nil: it went well
	counts
	a     answer
	bytes int64
}

func (r *result) fail(state string, fault *errFeed) { r.state, r.fault = state, fault }

// run reads one feed, and stores what it says together with how that went.
func (f *Feeds) run(ctx context.Context, cfg FeedConfig, last feedState) error {
	begin := f.store.now()
	limited, cancel := context.WithTimeout(ctx, cmp.Or(cfg.limit, feedTime))
	defer cancel()
	c := newClient(cfg)
	r := f.read(limited, c, last)
	r.bytes = c.read
	// How a run failed is written down also where we are being stopped or out of
	// time: the claim is to end.
	if r.state == "ok" {
		if err := f.end(limited, cfg, last, &r, begin); err != nil {
			f.log.Error("feed of threat intelligence not stored", "feed", cfg.Name, "error", err)
			r.a = answer{}
			r.fail("failed", &errFeed{text: "it could not be stored", code: CodeNotStored})
		}
	}
	if r.state != "ok" {
		after, cancelWrite := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancelWrite()
		if err := f.end(after, cfg, last, &r, begin); err != nil {
			return fmt.Errorf("write down the run of feed %s: %w", cfg.Name, err)
		}
	}
	if r.fault != nil {
		f.log.Warn("feed of threat intelligence not taken", "feed", cfg.Name, "state", r.state, "error", r.fault.text)
	} else {
		f.log.Info("feed of threat intelligence read", "feed", cfg.Name, "state", r.state, "rows", r.a.rows(), "added", r.added)
	}
	if cfg.Sightings && r.state != "failed" {
		if err := f.tell(limited, c); err != nil {
			f.log.Warn("sightings not told", "feed", cfg.Name, "error", shownError(err).text)
		}
	}
	return nil
}

// read asks the feed. One that has lost more than half of its rows is not
// believed: somebody has broken it, or has it emptied.
func (f *Feeds) read(ctx context.Context, c *client, last feedState) (r result) {
	var err error
	if r.a, err = c.fetch(ctx, last, f.store.now()); err != nil {
		r.a = answer{}
		r.fail("failed", shownError(err))
		return r
	}
	if r.state = "ok"; r.a.unchanged {
		r.state = "unchanged"
		return r
	}
	if n := r.a.rows(); r.a.complete && last.rows > shrinkRows && n*2 < last.rows {
		r.fail("refused", &errFeed{text: fmt.Sprintf("it has %d rows and had %d: less than half is not believed", n, last.rows), code: CodeShrunk, alarm: true})
		return r
	}
	harmless, err := f.store.harmlessLists(ctx)
	if err != nil {
		f.log.Error("warninglists not read", "feed", c.cfg.Name, "error", err)
		r.fail("failed", &errFeed{text: "it could not be stored", code: CodeNotStored})
		return r
	}
	rows := len(r.a.list)
	r.a.list = slices.DeleteFunc(r.a.list, func(i Indicator) bool { return i.Class != Breach && harmless.has(Value{i.Kind, i.Value}) != "" })
	r.a.refused += rows - len(r.a.list)
	return r
}

// end stores what a run has read, how it went, and the record of it: all or
// nothing, and nothing where another process has taken the feed over.
func (f *Feeds) end(ctx context.Context, cfg FeedConfig, last feedState, r *result, begin time.Time) error {
	actor := pg.System("feed "+cfg.Name, "sync")
	return f.store.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		r.counts = counts{}
		if r.state == "ok" {
			if err := f.keep(ctx, tx, cfg, r); err != nil {
				return err
			}
		}
		next, fault := begin.Add(cfg.Interval), errFeed{}
		if r.fault != nil {
			fault = *r.fault
			if next = begin.Add(max(min(cfg.Interval, retryAfter), fault.after)); fault.code == CodeStopped {
				next = begin
			}
		}
		tag, err := tx.Exec(ctx, endFeedSQL, cfg.Name, begin, f.store.now(), next, r.fault == nil, r.a.etag, r.a.modified, r.a.cursor, r.a.unchanged, r.a.complete, r.a.rows(), fault.text, fault.alarm,
			r.state, r.added, r.a.refused, r.bytes, runsKept, fault.code, last.claim)
		if err == nil && tag.RowsAffected() == 0 {
			return fmt.Errorf("intel: another process has taken feed %s over", cfg.Name)
		}
		if err != nil || r.counts == (counts{}) {
			return err // Nothing has changed, so there is no act to record.
		}
		_, err = f.store.record.Append(ctx, tx, audit.Event{Action: audit.IntelSync, Actor: actor, Targets: []audit.Target{{Type: "feed", ID: cfg.Name}},
			After: map[string]any{"type": cfg.Type, "rows": r.a.rows(), "added": r.added, "updated": r.updated, "removed": r.gone, "refused": r.a.refused}})
		return err
	})
}

func (f *Feeds) keep(ctx context.Context, tx pgx.Tx, cfg FeedConfig, r *result) (err error) {
	if r.a.warning != nil {
		return r.a.warning.store(ctx, tx, &r.counts)
	}
	if r.counts, err = f.store.put(ctx, tx, cfg.Name, r.a.list); err != nil {
		return err
	}
	return f.store.retract(ctx, tx, cfg.Name, r.a.gone, &r.counts)
}

// tell gives a feed's server the values that were found in mails since the last
// time.
func (f *Feeds) tell(ctx context.Context, c *client) error {
	rows, err := f.store.db.Query(ctx, untoldSQL, c.cfg.Name)
	if err != nil {
		return fmt.Errorf("read sightings: %w", err)
	}
	type untold struct {
		Key   int64
		Value string
		Hits  int64
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[untold])
	if err != nil {
		return fmt.Errorf("read sightings: %w", err)
	}
	for part := range slices.Chunk(list, sightMost) {
		var values []string
		var keys, hits []int64
		for _, u := range part {
			values, keys, hits = append(values, u.Value), append(keys, u.Key), append(hits, u.Hits)
		}
		taken, err := c.sight(ctx, values, f.store.now())
		if err != nil {
			return err
		}
		if !taken {
			f.log.Warn("sightings not taken by the feed's server", "feed", c.cfg.Name, "values", len(values))
		}
		if _, err := f.store.db.Exec(ctx, toldSQL, c.cfg.Name, keys, hits); err != nil {
			return fmt.Errorf("note sightings: %w", err)
		}
	}
	return nil
}

// States says how all configured feeds fare.
func (f *Feeds) States(ctx context.Context) ([]FeedState, error) {
	rows, err := f.store.db.Query(ctx, feedStatesSQL, f.store.now())
	if err != nil {
		return nil, fmt.Errorf("read states of feeds: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s FeedState, err error) {
		err = row.Scan(&s.Name, &s.Type, &s.LastGoodAt, &s.LastRunAt, &s.NextRunAt, &s.Running, &s.Rows, &s.LagMinutes, &s.Alarm, &s.Code, &s.Error)
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("read states of feeds: %w", err)
	}
	list := []FeedState{}
	for _, cfg := range f.cfg {
		for _, s := range all {
			if s.Name == cfg.Name {
				s.Late = s.LagMinutes > 2*cfg.Interval.Minutes()
				list = append(list, s)
			}
		}
	}
	return list, nil
}

// SyncNow makes a feed due.
func (f *Feeds) SyncNow(ctx context.Context, who Person, name string) error {
	err := f.store.db.Act(ctx, who.Actor, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, syncNowSQL, name, f.store.now())
		if err == nil && tag.RowsAffected() == 0 {
			return ErrNotFound
		}
		if err == nil {
			_, err = f.store.record.Append(ctx, tx, audit.Event{Action: audit.IntelSyncNow, Actor: who.Actor, Roles: who.Roles, Targets: []audit.Target{{Type: "feed", ID: name}}})
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("make feed %s due: %w", name, err)
	}
	return nil
}

var lagDesc = prometheus.NewDesc("mailward_cti_sync_lag_minutes", "Minutes since a feed of threat intelligence was last read well.", []string{"feed"}, nil)

// Describe is part of prometheus.Collector.
func (f *Feeds) Describe(ch chan<- *prometheus.Desc) { ch <- lagDesc }

// Collect is part of prometheus.Collector.
func (f *Feeds) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	states, err := f.States(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(lagDesc, err)
		return
	}
	for _, s := range states {
		ch <- prometheus.MustNewConstMetric(lagDesc, prometheus.GaugeValue, s.LagMinutes, s.Name)
	}
}
