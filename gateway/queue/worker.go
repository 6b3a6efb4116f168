package queue

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

// Times of the delivery queue.
const (
	pollEvery   = time.Second
	leaseTime   = time.Minute      // a delivery whose worker died is taken up after this
	attemptTime = 15 * time.Minute // for one attempt
	stopTime    = time.Minute      // for what is under way when the program stops
	parallel    = 8                // deliveries of one process at a time
)

// backoff says how long to wait after the n-th attempt that failed.
func backoff(n int) time.Duration {
	steps := []time.Duration{30 * time.Second, 2 * time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute}
	if n-1 < len(steps) {
		return steps[max(n-1, 0)]
	}
	return time.Hour
}

// Run delivers until ctx ends, and then gives what is under way some time.
func (q *Queue) Run(ctx context.Context) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var listening sync.WaitGroup
	listening.Go(func() { q.listen(ctx) })
	defer listening.Wait()
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	for {
		if err := q.round(ctx, base); err != nil && ctx.Err() == nil {
			q.log.Error("delivery queue not read", "error", err)
		}
		select {
		case <-ctx.Done():
			time.AfterFunc(stopTime, cancel)
			for range parallel {
				q.slots <- struct{}{}
			}
			return nil
		case <-t.C:
		case <-q.wake:
		}
	}
}

// listen wakes the worker when the database says that a delivery was added.
func (q *Queue) listen(ctx context.Context) {
	for ctx.Err() == nil {
		if conn, err := q.deps.DB.Acquire(ctx); err == nil {
			if _, err = conn.Exec(ctx, "LISTEN mailward_delivery"); err == nil {
				for err == nil {
					if _, err = conn.Conn().WaitForNotification(ctx); err == nil {
						select {
						case q.wake <- struct{}{}:
						default:
						}
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

// round claims what is due, as much as there are free slots.
func (q *Queue) round(ctx, base context.Context) error {
	free := parallel - len(q.slots)
	if free == 0 {
		return nil
	}
	var due []delivery
	err := q.deps.DB.Act(ctx, pg.System("delivery", "queue"), func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, claimSQL, q.owner, leaseTime, free)
		if err != nil {
			return err
		}
		due, err = pgx.CollectRows(rows, pgx.RowToStructByPos[delivery])
		return err
	})
	if err != nil {
		return fmt.Errorf("claim deliveries: %w", err)
	}
	for _, d := range due {
		q.slots <- struct{}{}
		go func() {
			defer func() { <-q.slots }()
			// What was begun is brought to an end, also while we stop.
			ctx, cancel := context.WithTimeout(base, attemptTime)
			defer cancel()
			q.deliver(ctx, d)
		}()
	}
	return nil
}

// keepLease renews our claim while an attempt goes on.
func (q *Queue) keepLease(ctx context.Context, id uuid.UUID) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(leaseTime / 3)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				err := q.deps.DB.Act(ctx, pg.System("delivery", "lease"), func(ctx context.Context, tx pgx.Tx) error {
					_, err := tx.Exec(ctx, renewSQL, id, q.owner, leaseTime)
					return err
				})
				if err != nil && ctx.Err() == nil {
					q.log.Warn("lease of delivery not renewed", "delivery", id, "error", err)
				}
			}
		}
	}()
	return func() { cancel(); <-done }
}

// insist repeats a write while the database is away.
func (q *Queue) insist(ctx context.Context, fn func(context.Context) error) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 10*time.Second) {
		err := fn(ctx)
		if err == nil || !pg.IsUnavailable(err) || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}
