// Package queue delivers what was accepted and could not be passed on at once:
// released mails, recipients that the next hop refused for now, and the
// notifications to senders that follow from what it refused for good.
//
// On a mail's path it comes after the gateway has said 250, or just before: the
// gateway makes a row durable with [Queue.Later] or [Queue.Undeliverable] before
// the next hop takes the mail for the others. A release is a row that the
// quarantine has written. [Queue.Run] claims what is due, checks it and hands it
// over through package hop; any number of processes may run it.
package queue

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"mailward/audit"
	"mailward/gateway/hop"
	"mailward/gateway/ledger"
	"mailward/internal/message"
	"mailward/internal/pg"
	"mailward/policy"
	"mailward/quarantine"
)

//go:embed queries/*.sql
var queryFiles embed.FS

var (
	insertSQL   = pg.Query(queryFiles, "insert_delivery")
	cancelSQL   = pg.Query(queryFiles, "cancel")
	claimSQL    = pg.Query(queryFiles, "claim")
	renewSQL    = pg.Query(queryFiles, "renew")
	dotSQL      = pg.Query(queryFiles, "dot")
	finishSQL   = pg.Query(queryFiles, "finish")
	retrySQL    = pg.Query(queryFiles, "retry")
	queueAgeSQL = pg.Query(queryFiles, "queue_age")
)

// giveUpAfter is how long a mail is tried (RFC 5321 §4.5.4.1).
const giveUpAfter = 5 * 24 * time.Hour

// Config holds the queue's settings.
type Config struct {
	Hostname string
}

// Deps are the parts that the queue works with.
type Deps struct {
	Log        *slog.Logger
	DB         *pg.DB
	Policies   *policy.Store
	Ledger     *ledger.Ledger
	Quarantine *quarantine.Store
	Audit      *audit.Log
	Hops       *hop.Sender           // whoever made it closes it
	Metrics    prometheus.Registerer // may be nil
}

// Queue is the delivery queue, and this process's worker on it.
type Queue struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	metrics *metrics
	owner   string
	wake    chan struct{}
	slots   chan struct{}
}

// New returns a Queue that delivers nothing until [Queue.Run].
func New(cfg Config, deps Deps) *Queue {
	host, _ := os.Hostname()
	return &Queue{cfg: cfg, deps: deps, log: deps.Log, metrics: newMetrics(deps.Metrics), owner: fmt.Sprintf("%s/%d/%s", host, os.Getpid(), uuid.NewString()),
		wake: make(chan struct{}, 1), slots: make(chan struct{}, parallel)}
}

// metrics are the queue's counters.
type metrics struct {
	deliveries *prometheus.CounterVec
	forged     prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mailward_gateway_deliveries_total", Help: "Ended deliveries of the queue."}, []string{"kind", "state"}),
		forged:     prometheus.NewCounter(prometheus.CounterOpts{Name: "mailward_gateway_forged_releases_total", Help: "Releases that no person had decided on."}),
	}
	if reg != nil {
		reg.MustRegister(m.deliveries, m.forged)
	}
	return m
}

// Mail is a mail that we answer for.
type Mail struct {
	Workspace uuid.UUID
	Envelope  message.Envelope
	Header    []byte          // as received, as far as it is known
	Edits     []message.Range // fields that are not passed on
	Trace     []byte          // our lines on top
	EightBit  bool
}

// Later keeps a mail for recipients that cannot get it now. The rows are due
// when the session that they come from is surely over. After an error nothing
// of it may be believed to be there.
func (q *Queue) Later(ctx context.Context, m Mail, body io.Reader, to []hop.Recipient) (ids []uuid.UUID, err error) {
	ref, err := q.deps.Quarantine.Blobs().Put(ctx, body)
	if err != nil {
		return nil, fmt.Errorf("keep mail for later: %w", err)
	}
	for _, r := range to {
		id, err := q.insert(ctx, delivery{Workspace: m.Workspace, MailID: m.Envelope.ID, Kind: "relay", From: m.Envelope.From, To: r.Address, Key: ref.Key, Name: ref.Name, Trace: m.Trace, EightBit: m.EightBit}, m.Edits)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// Cancel takes rows back that [Queue.Later] and [Queue.Undeliverable] have made:
// the next hop did not take the mail after all, so it stays the client's.
func (q *Queue) Cancel(ctx context.Context, mail uuid.UUID, ids []uuid.UUID) error {
	return q.deps.DB.Act(ctx, pg.System("gateway", "mail "+mail.String()), func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, cancelSQL, ids); err != nil {
			return fmt.Errorf("cancel deliveries: %w", err)
		}
		return nil
	})
}

func (q *Queue) insert(ctx context.Context, d delivery, skip []message.Range) (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, fmt.Errorf("make delivery id: %w", err)
	}
	if skip == nil {
		skip = []message.Range{}
	}
	if d.Trace == nil {
		d.Trace = []byte{}
	}
	edits, err := json.Marshal(skip)
	if err != nil {
		return uuid.Nil, fmt.Errorf("encode header edits: %w", err)
	}
	err = q.deps.DB.Act(ctx, pg.System("gateway", "mail "+d.MailID.String()), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, insertSQL, id, d.Workspace, d.Kind, d.MailID, d.From, d.To, d.Key, d.Name, edits, d.Trace, d.EightBit, time.Now().Add(giveUpAfter))
		return err
	})
	if err != nil {
		return uuid.Nil, fmt.Errorf("queue delivery: %w", err)
	}
	return id, nil
}

// Status is how the delivery queue is.
type Status struct {
	Waiting int
	Oldest  time.Time // zero: none waits
}

// Status reads it.
func (q *Queue) Status(ctx context.Context) (s Status, err error) {
	var oldest *time.Time
	if err := q.deps.DB.QueryRow(ctx, queueAgeSQL).Scan(&s.Waiting, &oldest); err != nil {
		return s, fmt.Errorf("read the delivery queue: %w", err)
	}
	if oldest != nil {
		s.Oldest = *oldest
	}
	return s, nil
}
