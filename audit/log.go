package audit

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
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
	holdingSQL        = pg.Query(queryFiles, "holding")
	actionsSQL        = pg.Query(queryFiles, "actions")
	feedSQL           = pg.Query(queryFiles, "feed")
	tokensSQL         = pg.Query(queryFiles, "tokens")
	getSQL            = pg.Query(queryFiles, "get")
	piiSQL            = pg.Query(queryFiles, "pii")
	sequenceSQL       = pg.Query(queryFiles, "sequence")
	unsequencedSQL    = pg.Query(queryFiles, "unsequenced")
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
	later chan pending
	alone group
	clock clock

	mu      sync.Mutex // guards found, foundAt, and lets one ask at a time
	found   []string
	foundAt time.Time

	failures atomic.Int64 // events that could not be written
}

// pending is an event that waits to be written with others.
type pending struct {
	ev  Event
	enc encoded
}

const (
	// laterLimit bounds the events of API calls that wait for the database.
	laterLimit = 4096
	// recordTries is how often an event is sent where the connection broke. The
	// database knows an event that it has already, so this never writes it twice.
	recordTries = 3
	// flushTimeout bounds one batch, so that a hanging database shows in the log.
	flushTimeout = 10 * time.Second
	// retryLater is how long what could not be written waits for the next try.
	retryLater = time.Second
)

// New returns a Log. [Log.RunLater] has to run for [Log.RecordLater] to work.
func New(db *pg.DB, opt Options) *Log {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	return &Log{db: db, obs: opt.Observer, now: opt.Now, log: opt.Log, later: make(chan pending, laterLimit)}
}

// Append writes an event in the caller's transaction, so that the act and its
// record are there together or not at all. It returns the event's id.
func (l *Log) Append(ctx context.Context, tx pgx.Tx, ev Event) (uuid.UUID, error) {
	if err := l.complete(ctx, &ev); err != nil {
		return uuid.Nil, err
	}
	enc, err := ev.encode(l.obs, l.clock.state())
	if err != nil {
		return uuid.Nil, err
	}
	return enc.id, l.append(ctx, tx, enc)
}

func (l *Log) append(ctx context.Context, tx pgx.Tx, enc encoded) error {
	if _, err := tx.Exec(ctx, appendSQL, enc.id, enc.bytes, enc.pii); err != nil {
		if ctx.Err() == nil {
			l.failures.Add(1)
		}
		return fmt.Errorf("append audit event %s: %w: %w", enc.action, ErrUnwritable, err)
	}
	return nil
}

// Failures is how often this process could not write to the record.
func (l *Log) Failures() int64 { return l.failures.Load() }

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
	setDefault(&ev.Correlation.CausationID, causationFrom(ctx))
	why := pg.WhyFrom(ctx)
	setDefault(&ev.Reason, why.Text)
	setDefault(&ev.ReasonCode, why.Code)
	setDefault(&ev.Ticket, why.Ticket)
	setDefault(&ev.LegalBasis, why.LegalBasis)
	ev.Emergency = ev.Emergency || why.Emergency
	if ev.Actor.TokenID != uuid.Nil {
		setDefault(&ev.Request.ClientID, ev.Actor.TokenID.String())
	}
	if ev.Actor.Type == "" {
		ev.Actor.Type = pg.ActorUnknown
	}
	if ev.Attestation == nil {
		ev.Attestation = attestationFor(ctx, ev)
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
