package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"mailward/internal/pg"
)

var (
	countValueSQL = pg.Query(queryFiles, "count_personal")
	holdMonthsSQL = pg.Query(queryFiles, "hold_months")
	letMonthsSQL  = pg.Query(queryFiles, "let_months")
	eraseSQL      = pg.Query(queryFiles, "erase")
	purgeableSQL  = pg.Query(queryFiles, "purgeable")
	purgeMonthSQL = pg.Query(queryFiles, "purge_month")
	retentionSQL  = pg.Query(queryFiles, "retention")
	setKeepSQL    = pg.Query(queryFiles, "set_retention")
)

// ErrIncomplete means that an erasure or a deletion lacks what it has to say.
var ErrIncomplete = errors.New("audit: a value, a reason and a legal basis are needed")

// Erase removes a personal value (an address, an IP address) from all events,
// with the key that it was encrypted under, and says how many there were. The
// events, their leaves and every proof stay as they are; what was streamed or
// exported before is not reached. The erasure itself is on record, without the value.
func (l *Log) Erase(ctx context.Context, who pg.Actor, value, legalBasis, reason string) (n int64, err error) {
	if value == "" || legalBasis == "" || reason == "" {
		return 0, ErrIncomplete
	}
	err = l.db.Act(pg.WithReason(ctx, reason), who, func(ctx context.Context, tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, eraseSQL, clean(value), clean(legalBasis)).Scan(&n); err != nil {
			return fmt.Errorf("erase personal value: %w", err)
		}
		return nil
	})
	return n, err
}

// CountPersonal says how many values an erasure would remove, and from how many events.
func (l *Log) CountPersonal(ctx context.Context, value string) (values, events int64, err error) {
	if err := l.db.QueryRow(ctx, countValueSQL, clean(value)).Scan(&values, &events); err != nil {
		return 0, 0, fmt.Errorf("count personal values: %w", err)
	}
	return values, events, nil
}

// RetentionClass is how long events of a class are kept.
type RetentionClass struct {
	Class      string
	Keep       string
	YearEnd    bool // to the end of the year in which the time ends
	LegalBasis string
}

// Retention lists the classes.
func (l *Log) Retention(ctx context.Context) ([]RetentionClass, error) {
	rows, err := l.db.Query(ctx, retentionSQL)
	if err != nil {
		return nil, fmt.Errorf("read retention classes: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[RetentionClass])
	if err != nil {
		return nil, fmt.Errorf("read retention classes: %w", err)
	}
	return list, nil
}

// Month is a month of events whose time is over.
type Month struct {
	Partition, Class string
	Month, KeptUntil time.Time
	WhyNot           string // why it cannot be deleted yet; "": it can
	LegalBasis       string // on which it was kept
	Events           int64  // that would go
	Values           int64  // personal ones, that would go with them
}

// Purgeable lists what may be deleted, the oldest month first.
func (l *Log) Purgeable(ctx context.Context) ([]Month, error) {
	rows, err := l.db.Query(ctx, purgeableSQL)
	if err != nil {
		return nil, fmt.Errorf("look for events past their time: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Month])
	if err != nil {
		return nil, fmt.Errorf("look for events past their time: %w", err)
	}
	return list, nil
}

// RefusedError is the database's reason for not deleting a month.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return e.Reason }

// Purge deletes the events of one month, after the event that is the protocol of
// it. approval is what a second person has agreed to (approval.subject_id of the
// kind retention, with the partition as its comment): the database asks for it
// where the installation wants four eyes.
func (l *Log) Purge(ctx context.Context, who pg.Actor, partition, reason string, approval *uuid.UUID) (protocol uuid.UUID, err error) {
	if reason == "" {
		return protocol, ErrIncomplete
	}
	err = l.db.Act(pg.WithReason(ctx, reason), who, func(ctx context.Context, tx pgx.Tx) error {
		protocol, err = l.PurgeIn(ctx, tx, partition, reason, approval)
		return err
	})
	return protocol, err
}

// SetRetention changes how long events of a class are kept, and says whether
// there is such a class. The database records it.
func (l *Log) SetRetention(ctx context.Context, tx pgx.Tx, class string, days int) (bool, error) {
	tag, err := tx.Exec(ctx, setKeepSQL, class, days)
	if err != nil {
		return false, fmt.Errorf("change retention of %s: %w", class, err)
	}
	return tag.RowsAffected() == 1, nil
}

// PurgeIn is [Log.Purge] in the caller's transaction.
func (l *Log) PurgeIn(ctx context.Context, tx pgx.Tx, partition, reason string, approval *uuid.UUID) (protocol uuid.UUID, err error) {
	err = tx.QueryRow(ctx, purgeMonthSQL, partition, clean(reason), approval).Scan(&protocol)
	var no *pgconn.PgError
	if errors.As(err, &no) && no.Code == "42501" {
		return protocol, &RefusedError{no.Message}
	}
	if errors.As(err, &no) && no.Code == "55P03" {
		return protocol, &RefusedError{fmt.Sprintf("%s cannot go: somebody reads the record at the moment, for longer than two seconds; try again", partition)}
	}
	if err != nil {
		return protocol, fmt.Errorf("delete %s: %w", partition, err)
	}
	return protocol, nil
}

// lockMonths is held shared by whoever writes an export; audit.purge_month wants it alone.
const lockMonths = 16

// HoldMonths keeps the months of the record from being deleted until release is
// called: what reads it page by page would have one half from before the deletion and
// one from after it. A deletion that is under way is waited for.
func (l *Log) HoldMonths(ctx context.Context) (release func(), err error) {
	conn, err := l.db.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to hold the months of the record: %w", err)
	}
	release = func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockWatchTimeout)
		defer cancel()
		if _, err := conn.Exec(ctx, letMonthsSQL, lockClass, lockMonths); err != nil {
			_ = conn.Conn().Close(ctx) // nobody else may get it with its lock
		}
		conn.Release()
	}
	if _, err := conn.Exec(ctx, holdMonthsSQL, lockClass, lockMonths); err != nil {
		release()
		return nil, fmt.Errorf("hold the months of the record: %w", err)
	}
	return release, nil
}
