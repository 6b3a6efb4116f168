package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
	"mailward/quarantine"
)

var (
	lockSQL             = pg.Query(queryFiles, "lock")
	retryNowSQL         = pg.Query(queryFiles, "retry_now")
	retryDestinationSQL = pg.Query(queryFiles, "retry_destination")
	deleteSQL           = pg.Query(queryFiles, "delete")
	readSQL             = pg.Query(queryFiles, "read")
)

// Person is who acts on the queue, and why.
type Person struct {
	Actor  pg.Actor
	Roles  []string
	Reason string
}

func (p *Person) check() error {
	if p.Reason = strings.ToValidUTF8(strings.ReplaceAll(strings.TrimSpace(p.Reason), "\x00", ""), ""); p.Reason == "" {
		return ErrReasonRequired
	}
	return nil
}

// Retry makes a delivery due now. The worker checks it as it would have later.
func (q *Queue) Retry(ctx context.Context, who Person, id uuid.UUID) error {
	if err := who.check(); err != nil {
		return err
	}
	return q.act(ctx, who, id, audit.QueueRetry, func(ctx context.Context, tx pgx.Tx, e Entry) (map[string]any, error) {
		if _, err := tx.Exec(ctx, retryNowSQL, id); err != nil {
			return nil, err
		}
		// A destination that rests is tried as well: a person says that it is up.
		_, err := tx.Exec(ctx, destinationUpSQL, e.Destination)
		return map[string]any{"next_attempt": "now"}, err
	})
}

// RetryDestination makes all that waits for a destination due now, in the given
// workspaces, and says how many those are. Each workspace that is concerned has
// it on record.
func (q *Queue) RetryDestination(ctx context.Context, who Person, workspaces []uuid.UUID, destination string) (n int64, err error) {
	if err := who.check(); err != nil {
		return 0, err
	}
	err = q.deps.DB.Act(pg.WithReason(ctx, who.Reason), who.Actor, func(ctx context.Context, tx pgx.Tx) error {
		type share struct {
			Workspace uuid.UUID
			Count     int64
		}
		rows, err := tx.Query(ctx, retryDestinationSQL, destination, workspaces)
		if err != nil {
			return err
		}
		shares, err := pgx.CollectRows(rows, pgx.RowToStructByPos[share])
		if err != nil {
			return err
		}
		if len(shares) == 0 {
			return ErrNotFound
		}
		if _, err := tx.Exec(ctx, destinationUpSQL, destination); err != nil {
			return err
		}
		for _, s := range shares {
			n += s.Count
			ev := audit.Event{Action: audit.QueueRetry, Workspace: s.Workspace, Actor: who.Actor, Roles: who.Roles, Reason: who.Reason, Retention: audit.Retention3Years,
				Targets: []audit.Target{{Type: "destination", ID: destination}}, After: map[string]any{"deliveries": s.Count, "next_attempt": "now"}}
			if _, err := q.deps.Audit.Append(ctx, tx, ev); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("retry destination %s: %w", destination, err)
	}
	q.nudge()
	return n, nil
}

// Delete takes a delivery out of the queue: its recipient does not get the mail.
// notify tells the sender, where it may be told. The copy of a held mail is then
// failed, so that it can be released again.
func (q *Queue) Delete(ctx context.Context, who Person, id uuid.UUID, notify bool) error {
	if err := who.check(); err != nil {
		return err
	}
	var dsn *row
	if notify {
		var err error
		if dsn, err = q.farewell(ctx, id); err != nil {
			return err
		}
	}
	return q.act(ctx, who, id, audit.QueueDelete, func(ctx context.Context, tx pgx.Tx, e Entry) (map[string]any, error) {
		if _, err := tx.Exec(ctx, deleteSQL, id); err != nil {
			return nil, err
		}
		if e.ItemID != nil && e.recipient != nil && e.release != nil {
			if err := q.deps.Quarantine.SetDelivery(ctx, tx, *e.ItemID, *e.recipient, quarantine.Delivered{State: quarantine.Failed, Text: "taken out of the delivery queue"}); err != nil {
				return nil, err
			}
			if err := q.deps.Quarantine.CloseRelease(ctx, tx, *e.release); err != nil {
				return nil, err
			}
		}
		if dsn != nil {
			if err := q.write(ctx, tx, *dsn); err != nil {
				return nil, err
			}
		}
		return map[string]any{"state": "deleted", "sender_told": dsn != nil}, nil
	})
}

// act locks a delivery that waits, changes it, and puts both on record in one
// transaction.
func (q *Queue) act(ctx context.Context, who Person, id uuid.UUID, action string, change func(context.Context, pgx.Tx, Entry) (map[string]any, error)) error {
	err := q.deps.DB.Act(pg.WithReason(ctx, who.Reason), who.Actor, func(ctx context.Context, tx pgx.Tx) error {
		var state string
		if err := tx.QueryRow(ctx, lockSQL, id).Scan(&state); err != nil {
			if errors.Is(err, pgx.ErrNoRows) {
				return ErrNotFound
			}
			return err
		}
		switch state {
		case "queued":
		case "delivering":
			return ErrUnderWay
		default:
			return ErrState
		}
		e, err := q.entry(ctx, tx, id)
		if err != nil {
			return err
		}
		after, err := change(ctx, tx, e)
		if err != nil {
			return err
		}
		ev := audit.Event{Action: action, Workspace: e.Workspace, Actor: who.Actor, Roles: who.Roles, Reason: who.Reason, Retention: audit.Retention3Years,
			Targets: []audit.Target{{Type: "delivery", ID: id.String(), Label: e.Kind}, {Type: "mailbox", ID: e.Destination, PII: e.To}},
			Before:  map[string]any{"state": e.State, "attempts": e.Attempts}, After: after, Correlation: audit.Correlation{MailID: e.MailID.String()}}
		if e.ItemID != nil {
			ev.Correlation.ItemID = e.ItemID.String()
		}
		_, err = q.deps.Audit.Append(ctx, tx, ev)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s %s: %w", action, id, err)
	}
	q.nudge()
	return nil
}

// farewell makes the notification for the sender of a delivery that a person
// takes out. nil: nobody is to be told.
func (q *Queue) farewell(ctx context.Context, id uuid.UUID) (*row, error) {
	d, err := q.read(ctx, id)
	if err != nil || d.Kind != Relay {
		return nil, err
	}
	dsn, err := q.notification(ctx, q.mail(d), []fate{{rcpt: d.rcpt(), action: actionFailed, taken: true}})
	if dsn != nil {
		dsn.wait = 0
	}
	return dsn, err
}

// read is a delivery as the worker knows it.
func (q *Queue) read(ctx context.Context, id uuid.UUID) (delivery, error) {
	rows, err := q.deps.DB.Query(ctx, readSQL, id)
	if err != nil {
		return delivery{}, fmt.Errorf("read delivery %s: %w", id, err)
	}
	d, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[delivery])
	if errors.Is(err, pgx.ErrNoRows) {
		return d, ErrNotFound
	}
	if err != nil {
		return d, fmt.Errorf("read delivery %s: %w", id, err)
	}
	return d, nil
}
