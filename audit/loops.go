package audit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

// Advisory locks of the loops: one process at a time does each.
const (
	lockClass = 7238191
	lockGuard = 4
)

const (
	lockWatchEvery   = time.Second
	lockWatchTimeout = 5 * time.Second
)

const (
	sequenceEvery = 250 * time.Millisecond
	sequenceBatch = 1000
	guardEvery    = time.Minute
	attemptsEvery = 5 * time.Second
	tamperBatch   = 200
)

const (
	partitionsEvery = time.Hour
	// partitionsAgain is after a try that met an open transaction.
	partitionsAgain = 5 * time.Minute
)

// RunSequencer numbers new events until ctx ends. Many processes may run it;
// the database lets one work at a time.
func (l *Log) RunSequencer(ctx context.Context) error {
	return every(ctx, sequenceEvery, func() {
		for ctx.Err() == nil {
			n, err := l.sequenceWaiting(ctx)
			if err != nil {
				l.log.Error("audit events not numbered", "error", err)
			}
			if err != nil || n < sequenceBatch {
				return
			}
		}
	})
}

// sequenceWaiting is Sequence where there is something to number: the look costs the
// database a tenth of what a transaction does, and mostly finds nothing.
func (l *Log) sequenceWaiting(ctx context.Context) (n int, err error) {
	var waits bool
	if err := l.db.QueryRow(ctx, unsequencedSQL).Scan(&waits); err != nil {
		return 0, fmt.Errorf("look for events without a number: %w", err)
	}
	if !waits {
		return 0, nil
	}
	return l.Sequence(ctx)
}

// Sequence numbers one batch and says how many events were in it; -1 when
// another process is at it.
func (l *Log) Sequence(ctx context.Context) (n int, err error) {
	err = l.db.Act(ctx, pg.System("sequencer", "schedule"), func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, sequenceSQL, sequenceBatch).Scan(&n)
	})
	return n, err
}

// SequenceAll numbers what waits, unless another process is at it.
func (l *Log) SequenceAll(ctx context.Context) error {
	for {
		if n, err := l.Sequence(ctx); err != nil || n <= 0 {
			return err
		}
	}
}

// RunGuard turns traces of attempts into events at once, checks the guards each
// minute, and makes events of new faults.
func (l *Log) RunGuard(ctx context.Context) error {
	return l.Lead(ctx, lockGuard, func(ctx context.Context) error {
		known := map[string]bool{}
		var checked time.Time
		check := func() error {
			if err := l.reportAttempts(ctx); err != nil {
				return err
			}
			if time.Since(checked) < guardEvery {
				return nil
			}
			checked = time.Now()
			return l.reportFindings(ctx, known)
		}
		if err := check(); err != nil {
			return err
		}
		return everyErr(ctx, attemptsEvery, check)
	})
}

// attempt is one refused change of what is guarded.
type attempt struct {
	ID                              int64
	At                              time.Time
	Operation, Object, Session, Cur string
	Client, Application, Query      string
}

// event tells of an attempt. The statement can hold anything, so it is kept
// apart like a personal value.
func (a attempt) event() Event {
	return Event{Action: GuardViolation, Outcome: "refused", Severity: "critical", Retention: Retention3Years,
		Actor: pg.System("audit guard", "tamper trace"), Targets: []Target{{Type: "database_object", ID: a.Object}},
		OutcomeDetail: fmt.Sprintf("%s on %s by the database role %s at %s was refused", a.Operation, a.Object, a.Session, a.At.UTC().Format(time.RFC3339)),
		After: map[string]any{"attempt": a.ID, "at": a.At.UTC().Format(time.RFC3339Nano), "operation": a.Operation, "session_role": a.Session,
			"set_role": a.Cur, "client": Personal(a.Client), "application": a.Application, "query": Personal(a.Query)}}
}

// reportAttempts makes one event of each attempt, exactly once: the note that it
// was reported is in the same transaction.
func (l *Log) reportAttempts(ctx context.Context) error {
	for {
		n := 0
		err := l.db.Act(ctx, pg.System("audit guard", "tamper trace"), func(ctx context.Context, tx pgx.Tx) error {
			rows, err := tx.Query(ctx, tamperSQL, tamperBatch)
			if err != nil {
				return fmt.Errorf("read tamper traces: %w", err)
			}
			found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[attempt])
			if err != nil {
				return fmt.Errorf("read tamper traces: %w", err)
			}
			for _, a := range found {
				if _, err := l.Append(ctx, tx, a.event()); err != nil {
					return err
				}
				l.log.Error("attempt to change the audit refused", "operation", a.Operation, "object", a.Object, "role", a.Session)
			}
			n = len(found)
			return nil
		})
		if err != nil || n < tamperBatch {
			return err
		}
	}
}

// findingsAge is how old an answer of [Log.Findings] may be: Health asks for it all the
// time, and several pages do, and it costs the database nearly a tenth of a second. The
// answer says how old it is.
const findingsAge = guardEvery / 2

// Findings lists what is wrong with the guards now, or was a moment ago.
func (l *Log) Findings(ctx context.Context) ([]string, error) {
	found, _, err := l.Checked(ctx)
	return found, err
}

// Checked is Findings with the time of the self-check that it comes from.
func (l *Log) Checked(ctx context.Context) ([]string, time.Time, error) {
	return l.checked(ctx, findingsAge)
}

func (l *Log) checked(ctx context.Context, age time.Duration) ([]string, time.Time, error) {
	l.mu.Lock()
	defer l.mu.Unlock() // who comes meanwhile takes the same answer
	if time.Since(l.foundAt) < age {
		return slices.Clone(l.found), l.foundAt, nil
	}
	rows, err := l.db.Query(ctx, findingsSQL)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("check audit guards: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("check audit guards: %w", err)
	}
	l.found, l.foundAt = found, time.Now()
	return slices.Clone(found), l.foundAt, nil
}

func (l *Log) reportFindings(ctx context.Context, known map[string]bool) error {
	found, _, err := l.checked(ctx, 0)
	if err != nil {
		return err
	}
	for _, f := range found {
		if known[f] {
			continue
		}
		l.log.Error("audit guard violated", "finding", f)
		err := l.Record(ctx, Event{Action: GuardViolation, Outcome: "failure", Severity: "critical", Retention: Retention3Years,
			Actor: pg.System("audit guard", "self-check"), OutcomeDetail: f})
		if err != nil {
			return err
		}
	}
	maps.DeleteFunc(known, func(f string, _ bool) bool { return !slices.Contains(found, f) })
	for _, f := range found {
		known[f] = true
	}
	return nil
}

// RunPartitions makes the partitions of the coming days, each hour.
func (l *Log) RunPartitions(ctx context.Context) error {
	wait := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = partitionsEvery
		if err := l.makePartitions(ctx); err != nil && ctx.Err() == nil {
			wait = partitionsAgain
			l.log.Warn("partitions not made, trying again; the default ones take what comes", "error", err)
		}
	}
}

func (l *Log) makePartitions(ctx context.Context) error {
	return l.db.Act(ctx, pg.System("partitions", "schedule"), func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, makePartitionsSQL); err != nil {
			return fmt.Errorf("make partitions: %w", err)
		}
		return nil
	})
}

// Lead runs fn while this process holds the lock, which one process of the
// installation does at a time. It waits and tries again when it does not, or when
// fn fails, until ctx ends.
func (l *Log) Lead(ctx context.Context, lock int, fn func(context.Context) error) error {
	for {
		if err := l.leadOnce(ctx, lock, fn); err != nil && ctx.Err() == nil {
			l.log.Error("audit loop failed, trying again", "lock", lock, "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

func (l *Log) leadOnce(ctx context.Context, lock int, fn func(context.Context) error) error {
	conn, err := l.db.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect for lock: %w", err)
	}
	defer conn.Release()
	var mine bool
	if err := conn.QueryRow(ctx, tryLockSQL, lockClass, lock).Scan(&mine); err != nil || !mine {
		return err
	}
	// The lock belongs to the connection: closing it gives the lock back, also
	// after a failure.
	defer conn.Conn().Close(context.WithoutCancel(ctx))
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		cancel(watch(ctx, conn.Conn()))
	}()
	err = fn(ctx)
	cancel(nil)
	<-watched
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// watch returns when the connection that holds a lock is gone, and with it the
// lock: somebody else leads then.
func watch(ctx context.Context, conn *pgx.Conn) error {
	return everyErr(ctx, lockWatchEvery, func() error {
		ctx, cancel := context.WithTimeout(ctx, lockWatchTimeout)
		defer cancel()
		if err := conn.Ping(ctx); err != nil {
			return fmt.Errorf("connection that holds the lock: %w", err)
		}
		return nil
	})
}

func every(ctx context.Context, d time.Duration, fn func()) error {
	return everyErr(ctx, d, func() error { fn(); return nil })
}

func everyErr(ctx context.Context, d time.Duration, fn func() error) error {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if err := fn(); err != nil {
				return err
			}
		}
	}
}

// Status is how the audit is.
type Status struct {
	Waiting        int       // events not numbered yet
	OldestWaiting  time.Time // zero: none
	LastSeq        int64     // -1: none
	TamperAttempts int       // of the last 24 hours
	Guard          string    // full or reduced
}

// Status reads the counters that Health and the dashboard show.
func (l *Log) Status(ctx context.Context) (s Status, err error) {
	var oldest *time.Time
	err = l.db.QueryRow(ctx, statusSQL).Scan(&s.Waiting, &oldest, &s.LastSeq, &s.TamperAttempts, &s.Guard)
	if oldest != nil {
		s.OldestWaiting = *oldest
	}
	return s, err
}
