package intel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
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
		err := f.store.db.QueryRow(ctx, claimFeedSQL, cfg.Name, f.store.now(), f.store.now().Add(claimFor)).Scan(&last.etag, &last.modified, &last.cursor, &last.rows)
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
	state, error string
	added        int
	alarm        bool
	a            answer
	bytes        int64
}

// run reads one feed and writes down how it went.
func (f *Feeds) run(ctx context.Context, cfg FeedConfig, last feedState) error {
	begin := f.store.now()
	limited, cancel := context.WithTimeout(ctx, feedTime)
	defer cancel()
	c := newClient(cfg)
	r := f.sync(limited, c, last)
	r.bytes = c.read
	if cfg.Sightings && r.state != "failed" {
		if err := f.tell(limited, c); err != nil {
			text, _ := shownError(err)
			f.log.Warn("sightings not told", "feed", cfg.Name, "error", text)
		}
	}
	if r.error != "" {
		f.log.Warn("feed of threat intelligence not taken", "feed", cfg.Name, "state", r.state, "error", r.error)
	} else {
		f.log.Info("feed of threat intelligence read", "feed", cfg.Name, "state", r.state, "rows", len(r.a.list), "added", r.added)
	}
	next := begin.Add(cfg.Interval)
	if r.error != "" {
		next = begin.Add(min(cfg.Interval, retryAfter))
	}
	good := r.error == ""
	// Also where we are being stopped: the claim is to end.
	ctx, cancelWrite := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancelWrite()
	_, err := f.store.db.Exec(ctx, endFeedSQL, cfg.Name, begin, f.store.now(), next, good, r.a.etag, r.a.modified, r.a.cursor, r.a.unchanged, r.a.complete, len(r.a.list), r.error, r.alarm,
		r.state, r.added, r.a.refused, r.bytes, runsKept)
	if err != nil {
		return fmt.Errorf("write down the run of feed %s: %w", cfg.Name, err)
	}
	return nil
}

// sync reads a feed and stores it. One that has lost more than half of its rows
// is not believed: somebody has broken it, or has it emptied.
func (f *Feeds) sync(ctx context.Context, c *client, last feedState) (r result) {
	var err error
	if r.a, err = c.fetch(ctx, last, f.store.now()); err != nil {
		r.state = "failed"
		r.error, r.alarm = shownError(err)
		return r
	}
	if r.a.unchanged {
		r.state = "unchanged"
		return r
	}
	if n := int64(len(r.a.list)); r.a.complete && last.rows > shrinkRows && n*2 < last.rows {
		r.state, r.alarm = "refused", true
		r.error = "it has " + strconv.FormatInt(n, 10) + " rows and had " + strconv.FormatInt(last.rows, 10) + ": less than half is not believed"
		return r
	}
	if err := f.store.Retract(ctx, c.cfg.Name, r.a.gone); err != nil {
		r.state, r.error = "failed", "it could not be stored"
		return r
	}
	if r.added, err = f.store.Put(ctx, c.cfg.Name, r.a.list); err != nil {
		f.log.Error("feed of threat intelligence not stored", "feed", c.cfg.Name, "error", err)
		r.state, r.error = "failed", "it could not be stored"
		return r
	}
	r.state = "ok"
	return r
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
		if err := c.sight(ctx, values, f.store.now()); err != nil {
			return err
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
		err = row.Scan(&s.Name, &s.Type, &s.LastGoodAt, &s.LastRunAt, &s.NextRunAt, &s.Running, &s.Rows, &s.LagMinutes, &s.Alarm, &s.Error)
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
func (f *Feeds) SyncNow(ctx context.Context, name string) error {
	tag, err := f.store.db.Exec(ctx, syncNowSQL, name, f.store.now())
	if err != nil {
		return fmt.Errorf("make feed %s due: %w", name, err)
	}
	if tag.RowsAffected() == 0 {
		return ErrNotFound
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
