// Package ledger keeps one row for every decision on a mail, and what became
// of each recipient's copy.
//
// On a mail's path it stands between the decision and everything that follows:
// nothing is relayed, held or refused before [Ledger.Decided] has returned.
// Many mails are decided at the same time, so their rows are written together,
// in one transaction, and share one flush to disk.
package ledger

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/message"
	"mailward/internal/pg"
	"mailward/policy"
)

//go:embed queries/*.sql
var queryFiles embed.FS

var (
	insertMailSQL    = pg.Query(queryFiles, "insert_mail")
	insertOutcomeSQL = pg.Query(queryFiles, "insert_outcome")
	listSQL          = pg.Query(queryFiles, "list")
	getSQL           = pg.Query(queryFiles, "get")
	outcomesSQL      = pg.Query(queryFiles, "outcomes")
	statsSQL         = pg.Query(queryFiles, "stats")
	decisionsSQL     = pg.Query(queryFiles, "decisions")
)

// Errors.
var (
	ErrNotFound  = errors.New("ledger: mail not found")
	ErrBadCursor = errors.New("ledger: bad cursor")
	errClosed    = errors.New("ledger: stopped")
)

const (
	batchMost   = 256              // rows of one transaction
	queueLength = 1024             // rows that may wait for one
	writeLimit  = 10 * time.Second // for one transaction
	writers     = 2                // transactions at the same time: one is flushed while the next one fills
	// outcomeWait is how long an outcome waits for a decision to share its
	// transaction with. Nobody waits for an outcome.
	outcomeWait = 200 * time.Millisecond
)

// Row is one decision.
type Row struct {
	ID           uuid.UUID                  `json:"id"`
	Workspace    uuid.UUID                  `json:"workspace_id"`
	ReceivedAt   time.Time                  `json:"received_at"`
	Direction    policy.Direction           `json:"direction"`
	Node         string                     `json:"node"`
	ClientIP     string                     `json:"client_ip"`
	Helo         string                     `json:"helo"`
	TLS          string                     `json:"tls"`
	EnvelopeFrom string                     `json:"envelope_from"`
	Recipients   []policy.RecipientDecision `json:"recipients"`
	HeaderFrom   string                     `json:"header_from"`
	Subject      string                     `json:"subject"`
	MessageID    string                     `json:"message_id"`
	Size         int64                      `json:"size"`
	SHA256       string                     `json:"sha256"`
	Class        policy.Class               `json:"class"`
	Action       policy.Action              `json:"action"`
	Score        float64                    `json:"score"`
	Reasons      []string                   `json:"reasons"`
	Findings     []policy.Finding           `json:"findings"`
	Engines      []policy.EngineAnswer      `json:"engines"`
	Parts        []policy.Part              `json:"parts"`
	LinkDomains  []string                   `json:"link_domains,omitempty"` // that the mail links to
	Auth         json.RawMessage            `json:"auth"`
	HeaderEdits  []message.Range            `json:"-"`
	RawHeader    []byte                     `json:"-"`
	ScanMS       int64                      `json:"scan_ms"`
}

// OutcomeState says what became of one recipient's copy.
type OutcomeState string

// The outcomes.
const (
	Relayed        OutcomeState = "relayed"
	Refused        OutcomeState = "refused" // by the next hop, for good or for now
	Quarantined    OutcomeState = "quarantined"
	Deferred       OutcomeState = "deferred" // by us: try again
	Rejected       OutcomeState = "rejected" // by us
	Queued         OutcomeState = "queued"   // accepted, to be passed on later
	Failed         OutcomeState = "failed"
	OutcomeUnknown OutcomeState = "outcome_unknown"
)

// Outcome is what became of one recipient's copy.
type Outcome struct {
	ID        uuid.UUID    `json:"id"`
	MailID    uuid.UUID    `json:"mail_id"`
	Recipient string       `json:"recipient"`
	State     OutcomeState `json:"state"`
	NextHop   string       `json:"next_hop,omitempty"`
	Code      int          `json:"code,omitempty"`
	Text      string       `json:"text,omitempty"`
	At        time.Time    `json:"at"`
}

// write is one row that waits for its transaction: a decision, or an outcome.
type write struct {
	mail    []any // the parameters of a decision
	outcome Outcome
	done    chan error // nil: nobody waits
}

// Ledger writes and reads the rows.
type Ledger struct {
	db    *pg.DB
	log   *slog.Logger
	queue chan write
	stop  chan struct{}
	once  sync.Once
	wg    sync.WaitGroup
}

// New returns a Ledger whose writers run until [Ledger.Close].
func New(db *pg.DB, log *slog.Logger) *Ledger {
	l := &Ledger{db: db, log: log, queue: make(chan write, queueLength), stop: make(chan struct{})}
	for range writers {
		l.wg.Go(l.writeLoop)
	}
	return l
}

// Close writes what still waits and stops.
func (l *Ledger) Close() {
	l.once.Do(func() { close(l.stop) })
	l.wg.Wait()
}

// Decided writes the row of a decision. When it returns nil, the row is on
// disk; after an error nothing may follow from the decision.
func (l *Ledger) Decided(ctx context.Context, r Row) error {
	args, err := r.args()
	if err != nil {
		return fmt.Errorf("encode ledger row of mail %s: %w", r.ID, err)
	}
	w := write{mail: args, done: make(chan error, 1)}
	select {
	case l.queue <- w:
	case <-ctx.Done():
		return fmt.Errorf("ledger row of mail %s: %w", r.ID, ctx.Err())
	case <-l.stop:
		return errClosed
	}
	select {
	case err := <-w.done:
		if err != nil {
			return fmt.Errorf("ledger row of mail %s: %w", r.ID, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("ledger row of mail %s: %w", r.ID, ctx.Err())
	}
}

// Outcome notes what became of a copy. It does not wait: by then the fact is
// made, and a decision without an outcome is looked for anyway.
func (l *Ledger) Outcome(o Outcome) {
	var err error
	if o.ID, err = uuid.NewV7(); err != nil {
		l.log.Error("outcome not noted", "mail", o.MailID, "error", err)
		return
	}
	o.Recipient, o.Text = clean(o.Recipient), clean(o.Text)
	select {
	case l.queue <- write{outcome: o}:
	case <-l.stop:
		l.log.Error("outcome not noted: the ledger is stopped", "mail", o.MailID, "state", o.State)
	}
}

// writeLoop owns a batch at a time: it takes what is there, at least one row.
// Outcomes alone wait a little for a decision that comes by.
func (l *Ledger) writeLoop() {
	for {
		var batch []write
		select {
		case w := <-l.queue:
			batch = append(batch, w)
		case <-l.stop:
			if batch = l.take(nil); len(batch) == 0 {
				return
			}
		}
		batch = l.take(batch)
		if !slices.ContainsFunc(batch, waitedFor) {
			batch = l.linger(batch)
		}
		l.commit(batch)
	}
}

// waitedFor says whether somebody waits for a row to be on disk.
func waitedFor(w write) bool { return w.done != nil }

// linger collects more until a row comes that somebody waits for.
func (l *Ledger) linger(batch []write) []write {
	t := time.NewTimer(outcomeWait)
	defer t.Stop()
	for len(batch) < batchMost {
		select {
		case w := <-l.queue:
			if batch = append(batch, w); waitedFor(w) {
				return l.take(batch)
			}
		case <-t.C:
			return batch
		case <-l.stop:
			return batch
		}
	}
	return batch
}

func (l *Ledger) take(batch []write) []write {
	for len(batch) < batchMost {
		select {
		case w := <-l.queue:
			batch = append(batch, w)
		default:
			return batch
		}
	}
	return batch
}

// commit writes a batch. When the database refuses it, each row gets a try of
// its own, so that one bad row does not take the others with it. A row that is
// there already was stored by a try that seemed to fail.
func (l *Ledger) commit(batch []write) {
	err := l.writeAll(batch)
	if err != nil && len(batch) > 1 && !pg.IsUnavailable(err) {
		l.log.Error("ledger batch refused, trying row by row", "rows", len(batch), "error", err)
		for _, w := range batch {
			if err = l.writeAll([]write{w}); isThere(err) {
				err = nil
			}
			l.finish(w, err)
		}
		return
	}
	if len(batch) == 1 && isThere(err) {
		err = nil
	}
	for _, w := range batch {
		l.finish(w, err)
	}
}

// isThere says whether a row was refused for its id: the tables have no other
// unique key.
func isThere(err error) bool { return pg.IsUnique(err, "") }

func (l *Ledger) finish(w write, err error) {
	if w.done != nil {
		w.done <- err
	} else if err != nil {
		l.log.Error("outcome not noted", "mail", w.outcome.MailID, "recipient_state", w.outcome.State, "error", err)
	}
}

func (l *Ledger) writeAll(batch []write) error {
	ctx, cancel := context.WithTimeout(context.Background(), writeLimit)
	defer cancel()
	b := &pgx.Batch{}
	var outcomes []Outcome
	for _, w := range batch {
		if w.mail != nil {
			b.Queue(insertMailSQL, w.mail...)
		} else {
			outcomes = append(outcomes, w.outcome)
		}
	}
	if len(outcomes) > 0 {
		b.Queue(insertOutcomeSQL, outcomeArgs(outcomes)...)
	}
	// A batch outside of a transaction is one by itself, and needs one round
	// trip less. The ledger has no row triggers that ask for an actor.
	return l.db.SendBatch(ctx, b).Close()
}

// clean makes text that PostgreSQL takes: one subject with a NUL would
// otherwise refuse a whole batch.
func clean(s string) string { return pg.Text(s) }
