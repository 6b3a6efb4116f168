package audit

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

//go:embed queries/*.sql
var queryFiles embed.FS

var (
	appendSQL         = pg.Query(queryFiles, "append")
	listSQL           = pg.Query(queryFiles, "list")
	getSQL            = pg.Query(queryFiles, "get")
	piiSQL            = pg.Query(queryFiles, "pii")
	sequenceSQL       = pg.Query(queryFiles, "sequence")
	cursorSQL         = pg.Query(queryFiles, "cursor")
	streamSQL         = pg.Query(queryFiles, "stream")
	streamedSQL       = pg.Query(queryFiles, "streamed")
	findingsSQL       = pg.Query(queryFiles, "findings")
	tamperSQL         = pg.Query(queryFiles, "take_tamper_attempts")
	statusSQL         = pg.Query(queryFiles, "status")
	tryLockSQL        = pg.Query(queryFiles, "try_lock")
	makePartitionsSQL = pg.Query(queryFiles, "make_partitions")
	verifySQL         = pg.Query(queryFiles, "verify")
)

// ErrNotFound means that there is no such event, or not for the one who asks.
var ErrNotFound = errors.New("audit: event not found")

// Observer is who writes: it stands in each event.
type Observer struct{ Node, Version string }

// Options are what a Log needs beside the database.
type Options struct {
	Observer
	Now func() time.Time // default time.Now
	Log *slog.Logger
}

// Log writes and reads the audit.
type Log struct {
	db    *pg.DB
	obs   Observer
	now   func() time.Time
	log   *slog.Logger
	later chan Event
}

// laterLimit bounds the events of API calls that wait for the database.
const laterLimit = 4096

// New returns a Log. [Log.RunLater] has to run for [Log.RecordLater] to work.
func New(db *pg.DB, opt Options) *Log {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	return &Log{db: db, obs: opt.Observer, now: opt.Now, log: opt.Log, later: make(chan Event, laterLimit)}
}

// Append writes an event in the caller's transaction, so that the act and its
// record are there together or not at all. It returns the event's id.
func (l *Log) Append(ctx context.Context, tx pgx.Tx, ev Event) (uuid.UUID, error) {
	if err := l.complete(ctx, &ev); err != nil {
		return uuid.Nil, err
	}
	b, pii, err := ev.encode(l.obs)
	if err != nil {
		return uuid.Nil, err
	}
	values := []byte("[]")
	if len(pii) > 0 {
		if values, err = json.Marshal(pii); err != nil {
			return uuid.Nil, fmt.Errorf("encode personal values of %s: %w", ev.Action, err)
		}
	}
	if _, err := tx.Exec(ctx, appendSQL, ev.ID, b, string(values)); err != nil {
		return uuid.Nil, fmt.Errorf("append audit event %s: %w", ev.Action, err)
	}
	return ev.ID, nil
}

// complete fills in what the caller left to us.
func (l *Log) complete(ctx context.Context, ev *Event) error {
	if ev.ID == uuid.Nil {
		id, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("make event id: %w", err)
		}
		ev.ID = id
	}
	if ev.Time.IsZero() {
		ev.Time = l.now()
	}
	if ev.Request == (pg.Request{}) {
		ev.Request, _ = pg.RequestFrom(ctx)
	}
	if ev.Actor.Type == "" {
		ev.Actor.Type = pg.ActorUnknown
	}
	setDefault(&ev.Phase, "result")
	setDefault(&ev.Outcome, "success")
	setDefault(&ev.Severity, "notice")
	setDefault(&ev.Retention, Retention400Days)
	return nil
}

func setDefault(s *string, v string) {
	if *s == "" {
		*s = v
	}
}

// Record writes an event in a transaction of its own, for an act that changes
// no row. An error means that the act must not happen.
func (l *Log) Record(ctx context.Context, ev Event) error {
	return l.db.Act(ctx, ev.Actor, func(ctx context.Context, tx pgx.Tx) error {
		_, err := l.Append(ctx, tx, ev)
		return err
	})
}

// RecordLater writes an event within about 100 ms, together with others. It is
// for the results of ordinary calls, which happened whether or not the record
// can be written. It waits when too many are waiting already.
func (l *Log) RecordLater(ctx context.Context, ev Event) {
	if ev.Time.IsZero() {
		ev.Time = l.now()
	}
	if ev.Request == (pg.Request{}) {
		ev.Request, _ = pg.RequestFrom(ctx)
	}
	select {
	case l.later <- ev:
	case <-ctx.Done():
		l.log.Error("audit event lost: the queue is full", "action", ev.Action)
	}
}

// RunLater writes the events of RecordLater until ctx ends, and then the rest.
func (l *Log) RunLater(ctx context.Context) error {
	const every, most = 100 * time.Millisecond, 500
	var batch []Event
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case ev := <-l.later:
			if batch = append(batch, ev); len(batch) < most {
				continue
			}
		case <-tick.C:
		case <-ctx.Done():
			return l.drainLater(batch)
		}
		batch = l.flush(ctx, batch)
	}
}

func (l *Log) drainLater(batch []Event) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for {
		select {
		case ev := <-l.later:
			batch = append(batch, ev)
		default:
			if left := l.flush(ctx, batch); len(left) > 0 {
				return fmt.Errorf("%d audit events of API calls could not be written", len(left))
			}
			return nil
		}
	}
}

// flush writes a batch in one transaction and returns what has to be tried
// again: all of it when the database cannot be reached.
func (l *Log) flush(ctx context.Context, batch []Event) []Event {
	if len(batch) == 0 {
		return nil
	}
	err := l.db.Act(ctx, pg.System("audit", "api calls"), func(ctx context.Context, tx pgx.Tx) error {
		for _, ev := range batch {
			if _, err := l.Append(ctx, tx, ev); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		return nil
	}
	l.log.Error("audit events of API calls not written yet", "count", len(batch), "error", err)
	if !pg.IsUnavailable(err) && len(batch) > 1 {
		// One bad event must not take the others with it.
		for _, ev := range batch {
			if err := l.Record(ctx, ev); err != nil {
				l.log.Error("audit event lost", "action", ev.Action, "error", err)
			}
		}
		return nil
	}
	if len(batch) == 1 && !pg.IsUnavailable(err) {
		return nil
	}
	if len(batch) > laterLimit {
		l.log.Error("audit events lost: the database is away for too long", "count", len(batch)-laterLimit)
		batch = batch[len(batch)-laterLimit:]
	}
	return batch
}
