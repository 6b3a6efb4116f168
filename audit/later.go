package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"mailward/internal/pg"
)

// RecordLater writes an event within about 100 ms, together with others. It is
// for the results of ordinary calls, which happened whether or not the record
// can be written. It waits when too many are waiting already.
func (l *Log) RecordLater(ctx context.Context, ev Event) {
	p, err := l.prepare(ctx, ev)
	if err != nil {
		l.log.Error("audit event lost", "action", ev.Action, "error", err)
		return
	}
	select {
	case l.later <- p:
	case <-ctx.Done():
		l.log.Error("audit event lost: the queue is full", "action", ev.Action)
	}
}

// prepare makes the bytes at once: a second try must send the same ones.
func (l *Log) prepare(ctx context.Context, ev Event) (pending, error) {
	if err := l.complete(ctx, &ev); err != nil {
		return pending{}, err
	}
	enc, err := ev.encode(l.obs, l.clock.state())
	return pending{ev: ev, enc: enc}, err
}

// RunLater writes the events of RecordLater until ctx ends, and then the rest.
func (l *Log) RunLater(ctx context.Context) error {
	const every, most = 100 * time.Millisecond, 500
	var batch []pending
	var again time.Time // what could not be written is not tried before
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		in := l.later
		if len(batch) >= laterLimit {
			in = nil // the database is away: callers wait
		}
		select {
		case p := <-in:
			if batch = append(batch, p); len(batch)%most != 0 {
				continue
			}
		case <-tick.C:
		case <-ctx.Done():
			return l.drainLater(batch)
		}
		if time.Now().Before(again) {
			continue
		}
		// A log that says ten times a second that a disk is full helps to fill it.
		if batch = l.flush(context.WithoutCancel(ctx), batch); len(batch) > 0 {
			again = time.Now().Add(retryLater)
		}
	}
}

func (l *Log) drainLater(batch []pending) error {
	for {
		select {
		case p := <-l.later:
			batch = append(batch, p)
		default:
			if left := l.flush(context.Background(), batch); len(left) > 0 {
				return fmt.Errorf("%d audit events of API calls could not be written", len(left))
			}
			return nil
		}
	}
}

// flush writes what waits, and returns what has to be tried again: all of it
// when the database cannot be reached. A bad event is written alone, so that it
// takes no other with it.
func (l *Log) flush(ctx context.Context, batch []pending) []pending {
	if len(batch) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	actor := pg.System("audit", "api calls")
	encs := make([]encoded, len(batch))
	for i, p := range batch {
		encs[i] = p.enc
	}
	err := l.record(ctx, actor, encs)
	if err == nil {
		return nil
	}
	l.log.Error("audit events of API calls not written yet", "count", len(batch), "error", err)
	if pg.IsUnavailable(err) {
		return batch
	}
	var left []pending
	for i, p := range batch {
		err := l.record(ctx, actor, encs[i:i+1])
		if isStaleID(err) {
			err = l.recordAnew(ctx, p.ev)
		}
		switch {
		case err == nil:
		case pg.IsUnavailable(err):
			return append(left, slices.Clone(batch[i:])...)
		default:
			l.log.Error("audit event lost", "action", p.ev.Action, "error", err)
		}
	}
	return left
}

// isStaleID says whether the database refused an event because its id is too
// old. It looks for the id first, so this one was not stored.
func isStaleID(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == "22008"
}

// recordAnew writes an event that has waited too long under a new id. Its time
// stays what it was.
func (l *Log) recordAnew(ctx context.Context, ev Event) error {
	ev.ID = uuid.Nil
	return l.Record(ctx, ev)
}
