package queue

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

// Times and bounds of the worker.
const (
	pollEvery      = time.Second
	sweepEvery     = 10 * time.Second
	leaseTime      = time.Minute      // a delivery whose worker died is taken up after this
	attemptTime    = 15 * time.Minute // for one attempt, until the next hop has the mail
	answerTime     = time.Hour        // for its answer: the most that timeouts.final of a route can be
	stopTime       = time.Minute      // for what is under way when the program stops
	parallel       = 20               // attempts of one process at a time
	perDestination = 5                // of these, to one destination
	lookMost       = 500              // destinations looked at in one go
	routeMost      = 500              // rows without a destination, likewise
)

// steps are the waits after the first failed attempts; then it is hourly.
var steps = []time.Duration{30 * time.Second, 2 * time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour}

// backoff says how long to wait after the n-th attempt that failed. What failed
// together must not come back together.
func backoff(n int) time.Duration {
	d := steps[max(0, min(n, len(steps))-1)]
	return d + rand.N(d/5)
}

// Run delivers until ctx ends, and then gives what is under way some time.
func (q *Queue) Run(ctx context.Context) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var helpers sync.WaitGroup
	helpers.Go(func() { q.listen(ctx) })
	helpers.Go(func() { q.sweep(ctx) })
	defer helpers.Wait()
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	for {
		more, err := q.round(ctx, base)
		if err != nil && ctx.Err() == nil {
			q.log.Error("delivery queue not read", "error", err)
		}
		if more && err == nil && ctx.Err() == nil {
			continue
		}
		select {
		case <-ctx.Done():
			stop := time.AfterFunc(stopTime, cancel)
			defer stop.Stop()
			for range parallel {
				q.slots <- struct{}{}
			}
			return nil
		case <-t.C:
		case <-q.wake:
		}
	}
}

func (q *Queue) nudge() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// listen wakes the worker when the database says that a delivery was added.
func (q *Queue) listen(ctx context.Context) {
	for ctx.Err() == nil {
		if conn, err := q.deps.DB.Acquire(ctx); err == nil {
			if _, err = conn.Exec(ctx, "LISTEN mailward_delivery"); err == nil {
				for err == nil {
					if _, err = conn.Conn().WaitForNotification(ctx); err == nil {
						q.nudge()
					}
				}
			}
			conn.Conn().Close(context.WithoutCancel(ctx))
			conn.Release()
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// round looks for what is due and starts as much of it as there are free slots.
// more says that there are destinations that it has not looked at yet.
func (q *Queue) round(ctx, base context.Context) (more bool, err error) {
	free := parallel - len(q.slots)
	if free == 0 {
		return false, nil
	}
	if err := q.findRoutes(ctx); err != nil {
		return false, err
	}
	dests, err := q.look(ctx)
	if err != nil {
		return false, err
	}
	names, counts, next := plan(dests, q.underWay(dests), free)
	more = next != ""
	if next == "" && len(dests) == lookMost {
		next, more = dests[len(dests)-1].Name, true
	}
	q.cursor = next
	if len(names) == 0 {
		return more, nil
	}
	var due []delivery
	err = q.deps.DB.Act(ctx, pg.System("delivery", "queue"), func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, claimSQL, q.owner, leaseTime, names, counts)
		if err != nil {
			return err
		}
		due, err = pgx.CollectRows(rows, pgx.RowToStructByPos[delivery])
		return err
	})
	if err != nil {
		return false, fmt.Errorf("claim deliveries: %w", err)
	}
	for _, d := range due {
		q.start(base, d)
	}
	return more && len(q.slots) < parallel, nil
}

// start delivers in the background. What was begun is brought to an end, also
// while we stop.
func (q *Queue) start(base context.Context, d delivery) {
	q.slots <- struct{}{}
	q.mu.Lock()
	q.busy[d.Destination]++
	q.mu.Unlock()
	go func() {
		defer func() {
			q.mu.Lock()
			if q.busy[d.Destination]--; q.busy[d.Destination] == 0 {
				delete(q.busy, d.Destination)
			}
			q.mu.Unlock()
			<-q.slots
			q.nudge()
		}()
		ctx, cancel := context.WithTimeout(base, attemptTime+answerTime)
		defer cancel()
		q.deliver(ctx, d)
	}()
}

// destination is one that something waits for.
type destination struct {
	Name     string
	Ready    bool // something is due, and it does not rest
	Troubled bool // it could not be reached last time: one attempt is enough
}

func (q *Queue) look(ctx context.Context) ([]destination, error) {
	rows, err := q.deps.DB.Query(ctx, destinationsSQL, q.cursor, lookMost)
	if err != nil {
		return nil, fmt.Errorf("look for destinations: %w", err)
	}
	dests, err := pgx.CollectRows(rows, pgx.RowToStructByPos[destination])
	if err != nil {
		return nil, fmt.Errorf("look for destinations: %w", err)
	}
	return dests, nil
}

// underWay says how many attempts there are to each destination, and remembers
// which of them are in trouble.
func (q *Queue) underWay(dests []destination) map[string]int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := make(map[string]int, len(dests))
	for _, d := range dests {
		n[d.Name] = q.busy[d.Name]
		if d.Troubled {
			q.troubled[d.Name] = true
		} else {
			delete(q.troubled, d.Name)
		}
	}
	return n
}

// plan shares free slots between destinations: one for each in turn, up to the
// most that a destination may have. next is where the following round goes on,
// where the slots did not suffice to give each destination one.
func plan(dests []destination, busy map[string]int, free int) (names []string, counts []int32, next string) {
	at := map[string]int{}
	for given := true; given && free > 0; {
		given = false
		for _, d := range dests {
			most := perDestination
			if d.Troubled {
				most = 1
			}
			i, seen := at[d.Name]
			have := busy[d.Name]
			if seen {
				have += int(counts[i])
			}
			if !d.Ready || have >= most {
				continue
			}
			if free == 0 {
				if !seen {
					return names, counts, names[len(names)-1]
				}
				return names, counts, ""
			}
			if !seen {
				at[d.Name] = len(names)
				names, counts = append(names, d.Name), append(counts, 0)
			}
			counts[at[d.Name]]++
			free--
			given = true
		}
	}
	return names, counts, ""
}

// findRoutes gives rows a destination that came without one: releases.
func (q *Queue) findRoutes(ctx context.Context) error {
	type unrouted struct {
		ID       uuid.UUID
		To, From string
	}
	rows, err := q.deps.DB.Query(ctx, unroutedSQL, routeMost)
	if err != nil {
		return fmt.Errorf("look for new deliveries: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[unrouted])
	if err != nil || len(found) == 0 {
		return err
	}
	ids, dests := make([]uuid.UUID, len(found)), make([]string, len(found))
	for i, f := range found {
		ids[i], dests[i] = f.ID, q.destination(f.To, f.From)
	}
	return q.deps.DB.Act(ctx, pg.System("delivery", "queue"), func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, setDestinationSQL, ids, dests); err != nil {
			return fmt.Errorf("note where deliveries go: %w", err)
		}
		return nil
	})
}

// keepLease renews our claim while an attempt goes on. An attempt is never broken
// off for it: what was sent was sent.
func (q *Queue) keepLease(ctx context.Context, id uuid.UUID) (stop func()) {
	renew := func(ctx context.Context) error {
		return q.deps.DB.Act(ctx, pg.System("delivery", "lease"), func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, renewSQL, id, q.owner, leaseTime)
			return err
		})
	}
	_, stop = pg.KeepLease(ctx, leaseTime/3, renew, func(err error) {
		q.log.Warn("lease of delivery not renewed", "delivery", id, "error", err)
	})
	return stop
}

// insist repeats a write while the database is away.
func (q *Queue) insist(ctx context.Context, fn func(context.Context) error) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 10*time.Second) {
		err := fn(ctx)
		if err == nil || !pg.IsUnavailable(err) && !pg.IsConflict(err) || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}
