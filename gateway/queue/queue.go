// Package queue delivers what was accepted and could not be passed on at once:
// released mails, recipients that the next hop refused for now, and the
// notifications to senders that follow from what went wrong for good.
//
// On a mail's path it comes after the gateway has said 250, or just before: the
// gateway makes a row durable with [Queue.Later] or [Queue.Undeliverable] before
// the next hop takes the mail for the others. A release is a row that the
// quarantine has written. [Queue.Run] claims what is due, checks it and hands it
// over through package hop; any number of processes may run it.
//
// One row is one recipient. Rows wait by destination, which is the route that
// the policies name, so that one that is dead holds up nobody else.
package queue

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
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
	insertSQL          = pg.Query(queryFiles, "insert_delivery")
	beginSQL           = pg.Query(queryFiles, "begin")
	cancelSQL          = pg.Query(queryFiles, "cancel")
	unroutedSQL        = pg.Query(queryFiles, "unrouted")
	setDestinationSQL  = pg.Query(queryFiles, "set_destination")
	destinationsSQL    = pg.Query(queryFiles, "destinations")
	destinationDownSQL = pg.Query(queryFiles, "destination_down")
	destinationUpSQL   = pg.Query(queryFiles, "destination_up")
	claimSQL           = pg.Query(queryFiles, "claim")
	reclaimSQL         = pg.Query(queryFiles, "reclaim")
	rerouteSQL         = pg.Query(queryFiles, "reroute")
	expiredSQL         = pg.Query(queryFiles, "expired")
	lateSQL            = pg.Query(queryFiles, "late")
	warnedSQL          = pg.Query(queryFiles, "warned")
	renewSQL           = pg.Query(queryFiles, "renew")
	dotSQL             = pg.Query(queryFiles, "dot")
	finishSQL          = pg.Query(queryFiles, "finish")
	pauseSQL           = pg.Query(queryFiles, "pause")
	retrySQL           = pg.Query(queryFiles, "retry")
	insertAttemptSQL   = pg.Query(queryFiles, "insert_attempt")
	trimAttemptsSQL    = pg.Query(queryFiles, "trim_attempts")
	queueAgeSQL        = pg.Query(queryFiles, "queue_age")
)

// Config holds the queue's settings.
type Config struct {
	// Hostname is what we call ourselves in notifications.
	Hostname string
	// Lifetime is how long a mail is tried (RFC 5321 §4.5.4.1: at least 4 to 5 days). Default: 5 days.
	Lifetime time.Duration
	// WarnAfter is when a sender hears that a mail is late; 0: never. Default: 4 hours.
	WarnAfter time.Duration
}

// DefaultConfig returns the settings used where nothing else is said.
func DefaultConfig(hostname string) Config {
	return Config{Hostname: hostname, Lifetime: 5 * 24 * time.Hour, WarnAfter: 4 * time.Hour}
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
	cursor  string // where the next look at the destinations begins; [Queue.Run]'s own

	mu       sync.Mutex      // guards busy, troubled
	busy     map[string]int  // attempts under way, by destination
	troubled map[string]bool // destinations that could not be reached when we last looked
}

// New returns a Queue that delivers nothing until [Queue.Run].
func New(cfg Config, deps Deps) *Queue {
	host, _ := os.Hostname()
	return &Queue{cfg: cfg, deps: deps, log: deps.Log, metrics: newMetrics(deps.Metrics), owner: fmt.Sprintf("%s/%d/%s", host, os.Getpid(), uuid.NewString()),
		wake: make(chan struct{}, 1), slots: make(chan struct{}, parallel), busy: map[string]int{}, troubled: map[string]bool{}}
}

// The kinds of delivery.
const (
	Release = "release" // a person let a held mail go
	Relay   = "relay"   // the next hop did not take it while the client waited
	DSN     = "dsn"     // a notification of ours
)

// Mail is a mail that we answer for.
type Mail struct {
	Workspace uuid.UUID
	Envelope  message.Envelope
	Header    []byte          // as received, as far as it is known; nil: it is read from Open
	Edits     []message.Range // fields that are not passed on
	Trace     []byte          // our lines on top
	Size      int64
	Sum       []byte // SHA-256 of it as received; nil: not known
	EightBit  bool
	// Suspect mail likely has a forged sender, who is told nothing (RFC 5321 §6.2).
	Suspect bool
	// Open reads the mail as it was received.
	Open func(context.Context) (io.ReadCloser, error)
}

// notBegun is how long the rows of a session wait, until it is surely over: if
// the next hop does not take the mail for the others after all, they are taken
// back, and if it does, [Queue.Begin] ends the wait.
const notBegun = 10 * time.Minute // the gateway waits 9:30 for a next hop

// Later keeps a mail for recipients that were refused for now. After an error
// nothing of it may be believed to be there.
func (q *Queue) Later(ctx context.Context, m Mail, refused []Refusal) (ids []uuid.UUID, err error) {
	c := quarantine.Content{Workspace: m.Workspace, Sum: m.Sum, Open: m.Open}
	err = q.deps.Quarantine.Keep(ctx, c, func(k *quarantine.Kept) (err error) {
		rows := make([]row, len(refused))
		for i, no := range refused {
			if rows[i], err = q.newRow(Relay, m, no.Recipient, k); err != nil {
				return err
			}
			rows[i].reply = no.Reply
		}
		ids, err = q.insert(ctx, m.Envelope.ID, rows)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("keep mail for later: %w", err)
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

// Begin ends the wait of rows that [Queue.Later] and [Queue.Undeliverable] have
// made: the mail is ours to answer for. Without it they begin by themselves, later.
func (q *Queue) Begin(ctx context.Context, mail uuid.UUID, ids []uuid.UUID) error {
	err := q.deps.DB.Act(ctx, pg.System("gateway", "mail "+mail.String()), func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, beginSQL, ids, backoff(1)); err != nil {
			return fmt.Errorf("begin deliveries: %w", err)
		}
		return nil
	})
	if err == nil {
		q.nudge()
	}
	return err
}

// row is a delivery that is not in the database yet.
type row struct {
	id          uuid.UUID
	kind        string
	mail        Mail
	rcpt        hop.Recipient
	blob        *quarantine.Kept
	destination string
	tell        bool
	wait        time.Duration
	reply       hop.Reply // why it waits; empty where nobody was asked yet
}

func (q *Queue) newRow(kind string, m Mail, to hop.Recipient, blob *quarantine.Kept) (row, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return row{}, fmt.Errorf("make delivery id: %w", err)
	}
	return row{id: id, kind: kind, mail: m, rcpt: to, blob: blob, destination: q.destination(to.Address, m.Envelope.From), tell: !m.Suspect, wait: notBegun}, nil
}

// insert writes rows in one transaction.
func (q *Queue) insert(ctx context.Context, mail uuid.UUID, rows []row) (ids []uuid.UUID, err error) {
	err = q.deps.DB.Act(ctx, pg.System("gateway", "mail "+mail.String()), func(ctx context.Context, tx pgx.Tx) error {
		for _, r := range rows {
			if err := q.write(ctx, tx, r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		ids = append(ids, r.id)
	}
	return ids, nil
}

func (q *Queue) write(ctx context.Context, tx pgx.Tx, r row) error {
	m, now := r.mail, time.Now()
	name, err := q.deps.Quarantine.Claim(ctx, tx, r.blob)
	if err != nil {
		return err
	}
	skip, trace := m.Edits, m.Trace
	if skip == nil {
		skip = []message.Range{}
	}
	if trace == nil {
		trace = []byte{} // a nil slice would be NULL
	}
	edits, err := json.Marshal(skip)
	if err != nil {
		return fmt.Errorf("encode header edits: %w", err)
	}
	arrived := m.Envelope.ReceivedAt
	if arrived.IsZero() {
		arrived = now
	}
	var warn *time.Time
	if r.kind == Relay && q.cfg.WarnAfter > 0 && m.Envelope.From != "" && r.tell && wants(r.rcpt.Notify, notifyDelay) {
		at := now.Add(q.cfg.WarnAfter)
		warn = &at
	}
	_, err = tx.Exec(ctx, insertSQL, r.id, m.Workspace, r.kind, m.Envelope.ID, m.Envelope.From, r.rcpt.Address, name, edits, trace,
		m.Envelope.SMTPUTF8, m.EightBit, r.destination, m.Size, arrived, m.Envelope.Ret, m.Envelope.EnvID, r.rcpt.Notify, r.rcpt.ORCPT, r.tell, warn, now.Add(q.cfg.Lifetime), r.wait, r.reply.Code, r.reply.Line())
	if err != nil {
		return fmt.Errorf("queue delivery: %w", err)
	}
	return nil
}

// noDestination is where mail waits that has no route.
const noDestination = "none"

// route is the next hop of a recipient; "" where there is none.
func (q *Queue) route(to, _ string) string {
	return q.deps.Policies.Route(to)
}

// destination is what a recipient's row waits under.
func (q *Queue) destination(to, from string) string {
	if r := q.route(to, from); r != "" {
		return r
	}
	return noDestination
}

// statusCap is where exact counting ends.
const statusCap = 1_000_000

// Status is how the delivery queue is.
type Status struct {
	Waiting int       // capped at a million
	Oldest  time.Time // zero: none waits
}

// Status reads it.
func (q *Queue) Status(ctx context.Context) (s Status, err error) {
	var oldest *time.Time
	if err := q.deps.DB.QueryRow(ctx, queueAgeSQL, statusCap).Scan(&s.Waiting, &oldest); err != nil {
		return s, fmt.Errorf("read the delivery queue: %w", err)
	}
	if oldest != nil {
		s.Oldest = *oldest
	}
	return s, nil
}
