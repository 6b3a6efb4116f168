package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/gateway/hop"
	"mailward/gateway/ledger"
	"mailward/internal/message"
	"mailward/internal/pg"
	"mailward/quarantine"
)

// delivery is a row of the queue, in the order of the columns that the queries give.
type delivery struct {
	ID, Workspace, MailID        uuid.UUID
	Kind                         string
	ItemID, ReleaseID, Recipient *uuid.UUID
	From, To                     string
	Key                          []byte
	Name                         string
	Edits                        []byte
	Trace                        []byte
	UTF8, EightBit               bool
	Attempts                     int
	CreatedAt, GiveUpAt          time.Time
	DotSentAt                    *time.Time
	Destination                  string
	Size                         int64
	ReceivedAt                   time.Time
	Ret, EnvID, Notify, ORCPT    string
	Tell                         bool
}

func (d delivery) rcpt() hop.Recipient {
	return hop.Recipient{Address: d.To, Notify: d.Notify, ORCPT: d.ORCPT}
}

// mail is what a notification about the delivery is made from.
func (q *Queue) mail(d delivery) Mail {
	return Mail{Workspace: d.Workspace, Size: d.Size, EightBit: d.EightBit, Suspect: !d.Tell,
		Envelope: message.Envelope{ID: d.MailID, From: d.From, ReceivedAt: d.ReceivedAt, SMTPUTF8: d.UTF8, Ret: d.Ret, EnvID: d.EnvID},
		Open: func(ctx context.Context) (io.ReadCloser, error) {
			return q.deps.Quarantine.Blobs().Open(ctx, quarantine.Ref{Name: d.Name, Key: d.Key})
		}}
}

// States in which a delivery ends.
const (
	Delivered      = "delivered"
	Failed         = "failed"
	OutcomeUnknown = "outcome_unknown"
)

// end is how an attempt went. An empty state means that there will be another.
type end struct {
	state       string
	route       string
	reply       hop.Reply // code 0: not the next hop's words
	gaveUp      bool      // the delivery ends because its time is over
	wishesTaken bool      // the next hop tells the sender what it wishes to hear (RFC 3461)
	intent      uuid.UUID // of a release
	dsn         *row      // for the sender, written together with the end
	attempt     attempt
}

// text is the end in words.
func (e end) text() string {
	if e.gaveUp {
		return "given up: " + e.reply.Text
	}
	return e.reply.Text
}

// said is what an item keeps of the end: the reply with its enhanced code.
func (e end) said() string {
	if e.gaveUp {
		return e.text()
	}
	return e.reply.Line()
}

// attempt is a line of a delivery's history.
type attempt struct {
	id        uuid.UUID
	number    int
	began     time.Time
	host, tls string
}

// attemptsKept bounds the history of one delivery.
const attemptsKept = 20

// errNoRoute may be mended by who sets up the domain, so it is tried again.
var errNoRoute = errors.New("queue: no next hop for the recipient")

// deliver makes one attempt and notes how it went.
func (q *Queue) deliver(ctx context.Context, d delivery) {
	log := q.log.With("mail", d.MailID, "delivery", d.ID, "kind", d.Kind)
	stop := q.keepLease(ctx, d.ID)
	defer stop()
	e := end{route: d.Destination, attempt: attempt{number: d.Attempts, began: time.Now()}}
	var err error
	if e.attempt.id, err = uuid.NewV7(); err != nil {
		log.Error("delivery not begun", "error", err)
		return
	}
	if d.DotSentAt != nil {
		// An earlier worker died between the dot and the reply.
		e.state, e.reply = OutcomeUnknown, hop.Reply{Text: "the reply was lost with the process that waited for it"}
		q.finish(ctx, log, d, e)
		return
	}
	if now := q.destination(d.To, d.From); now != d.Destination {
		q.reroute(ctx, log, d, now)
		return
	}
	if d.Kind == Release && q.paused(ctx, log, d) {
		return
	}
	e.intent, err = q.begin(ctx, d)
	switch {
	case errors.Is(err, quarantine.ErrReleaseForged):
		q.forged(ctx, log, d, e, err)
		return
	case err != nil:
		log.Error("delivery not begun", "error", err)
		return // The lease ends, and it is tried again.
	}
	if d.Kind == Release {
		if err = q.deps.Quarantine.ScanBeforeRelease(ctx, *d.ReleaseID, *d.ItemID, d.ID, q.owner); errors.Is(err, quarantine.ErrStopped) {
			log.Warn("release stopped: the engines found worse than was known", "item", d.ItemID)
			q.metrics.deliveries.WithLabelValues(d.Kind, "stopped").Inc()
			return
		} else if err != nil {
			// It waits, and is not lost: whoever looks sees why.
			e.reply = hop.Reply{Text: "it waits, since it could not be scanned again: " + hop.Harmless(err.Error(), 200)}
			q.putOff(ctx, log, d, e, err)
			return
		}
	}
	res := q.attempt(ctx, d)
	e.attempt.host, e.attempt.tls = res.Host, res.TLS
	q.noteDestination(ctx, log, d.Destination, res.Err)
	judge(d, res, time.Now(), &e)
	if e.state != "" {
		if err = q.tell(ctx, d, &e); err == nil {
			q.finish(ctx, log, d, e)
			return
		}
		if e.state == Delivered {
			log.Error("sender not told of the delivery", "error", err)
			q.finish(ctx, log, d, e)
			return
		}
		// The end waits until its notification can be kept.
		res.Err = err
	}
	q.putOff(ctx, log, d, e, res.Err)
}

// judge says how a delivery ends after an attempt; no state: it goes on.
func judge(d delivery, res hop.Result, now time.Time, e *end) {
	var no *hop.Reply
	said := errors.As(res.Err, &no)
	switch {
	case res.Err == nil && len(res.Refused) == 0:
		e.state, e.reply, e.wishesTaken = Delivered, res.Reply, res.DSN
		return
	case said:
		e.reply = *no
	case res.Err != nil:
		e.reply = hop.Reply{Text: hop.Harmless(res.Err.Error(), 200)}
	}
	enhanced, hopeless := hopeless(res.Err)
	switch {
	case res.ReplyLost && d.Kind == Release:
		// A person decided on one copy. It may have gone; a person looks.
		e.state, e.reply.Text = OutcomeUnknown, "the last reply was lost: "+e.reply.Text
	case hopeless:
		e.state, e.reply.Enhanced = Failed, enhanced
	case said && no.Code/100 == 5:
		e.state = Failed
	case now.After(d.GiveUpAt):
		e.state, e.gaveUp = Failed, true
	}
}

// hopeless says whether another try cannot go better, whatever the hop, and the
// status code (RFC 3463) that says why.
func hopeless(err error) (status string, yes bool) {
	switch {
	case errors.Is(err, hop.ErrEightBit):
		return "5.6.3", true
	case errors.Is(err, hop.ErrUTF8):
		return "5.6.7", true
	case errors.Is(err, hop.ErrBareNewline), errors.Is(err, message.ErrHiddenEnd):
		return "5.6.0", true
	case errors.Is(err, quarantine.ErrBlobDamaged), errors.Is(err, quarantine.ErrBlobMissing), errors.Is(err, message.ErrRanges):
		return "5.3.0", true
	}
	return "", false
}

// begin checks a release against the audit, and notes that it is on its way.
func (q *Queue) begin(ctx context.Context, d delivery) (intent uuid.UUID, err error) {
	if d.Kind != Release {
		return uuid.Nil, nil
	}
	if d.ReleaseID == nil || d.ItemID == nil || d.Recipient == nil {
		return uuid.Nil, fmt.Errorf("%w: it names no release", quarantine.ErrReleaseForged)
	}
	err = q.deps.DB.Act(ctx, pg.System("delivery", "release "+d.ReleaseID.String()), func(ctx context.Context, tx pgx.Tx) error {
		if intent, err = q.deps.Quarantine.CheckRelease(ctx, tx, *d.ReleaseID, quarantine.ReleasedCopy{Item: *d.ItemID, Recipient: *d.Recipient, Address: d.To, BlobName: d.Name}); err != nil {
			return err
		}
		return q.deps.Quarantine.SetDelivery(ctx, tx, *d.ItemID, *d.Recipient, quarantine.Delivered{State: quarantine.Delivering})
	})
	return intent, err
}

// attempt hands the mail to the next hop of its recipient.
func (q *Queue) attempt(ctx context.Context, d delivery) hop.Result {
	if d.Destination == noDestination {
		return hop.Result{Err: errNoRoute}
	}
	var edits []message.Range
	if err := json.Unmarshal(d.Edits, &edits); err != nil {
		return hop.Result{Err: fmt.Errorf("%w: %w", message.ErrRanges, err)}
	}
	blob, err := q.deps.Quarantine.Blobs().Open(ctx, quarantine.Ref{Name: d.Name, Key: d.Key})
	if err != nil {
		return hop.Result{Err: err}
	}
	defer blob.Close()
	head := d.Trace
	if d.Kind == Release {
		mark, err := q.mark(ctx, d)
		if err != nil {
			return hop.Result{Err: err}
		}
		head = slices.Concat(d.Trace, mark)
	}
	t := hop.Transfer{From: d.From, To: []hop.Recipient{d.rcpt()}, UTF8: d.UTF8, Ret: d.Ret, EnvID: d.EnvID, Size: d.Size + int64(len(head)),
		EightBit: d.EightBit, Head: head, Body: io.Reader(message.WithoutStream(blob, edits)),
		DotBy: time.Now().Add(attemptTime), Patient: true}
	t.BeforeDot = func(map[string]*hop.Reply) error { return q.aboutToHandOver(ctx, d) }
	return q.deps.Hops.Send(ctx, d.Destination, t)
}

// mark is the line by which a released copy passes when it comes by once more.
func (q *Queue) mark(ctx context.Context, d delivery) ([]byte, error) {
	item, err := q.deps.Quarantine.Get(ctx, *d.ItemID)
	if err != nil {
		return nil, err
	}
	return q.deps.Quarantine.Mark(ctx, *d.ReleaseID, item, *d.Recipient)
}

// aboutToHandOver commits that the dot goes out next: whatever happens from
// here on, a release is not sent a second time.
func (q *Queue) aboutToHandOver(ctx context.Context, d delivery) error {
	return q.deps.DB.Act(ctx, pg.System("delivery", d.Kind), func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, dotSQL, d.ID, q.owner)
		if err != nil {
			return fmt.Errorf("note the hand-over: %w", err)
		}
		if tag.RowsAffected() != 1 {
			return errors.New("the delivery is not ours any more")
		}
		return nil
	})
}

// noteDestination lets a destination rest that cannot be reached, with all that
// waits for it, and ends the rest of one that can.
func (q *Queue) noteDestination(ctx context.Context, log *slog.Logger, name string, err error) {
	q.mu.Lock()
	troubled := q.troubled[name]
	q.mu.Unlock()
	down, why := errors.Is(err, hop.ErrConnect), err
	if !down && !troubled || ctx.Err() != nil {
		return
	}
	err = q.deps.DB.Act(ctx, pg.System("delivery", "destination"), func(ctx context.Context, tx pgx.Tx) error {
		if !down {
			_, err := tx.Exec(ctx, destinationUpSQL, name)
			return err
		}
		waits := make([]time.Duration, len(steps))
		for i := range waits {
			waits[i] = backoff(i + 1)
		}
		_, err := tx.Exec(ctx, destinationDownSQL, name, waits, hop.Harmless(why.Error(), 200))
		return err
	})
	if err != nil {
		log.Warn("state of destination not noted", "destination", name, "error", err)
	}
}

// finish notes the end of a delivery: in the queue, at the item, in the audit
// and in the ledger. It tries until the database takes it, since the fact is made.
func (q *Queue) finish(ctx context.Context, log *slog.Logger, d delivery, e end) {
	err := q.insist(ctx, func(ctx context.Context) error {
		return q.deps.DB.Act(ctx, pg.System("delivery", d.Kind), func(ctx context.Context, tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, finishSQL, d.ID, q.owner, e.state, e.route, e.reply.Code, e.text())
			if err != nil || tag.RowsAffected() == 0 {
				return err // Done already, by a commit whose answer was lost.
			}
			if err := q.recordAttempt(ctx, tx, d, e, e.state); err != nil {
				return err
			}
			if e.dsn != nil {
				if err := q.write(ctx, tx, *e.dsn); err != nil {
					return err
				}
			}
			return q.record(ctx, tx, d, e)
		})
	})
	if err != nil {
		log.Error("end of delivery not noted", "state", e.state, "error", err)
		return
	}
	log.Info("delivery ended", "state", e.state, "next_hop", e.route, "code", e.reply.Code)
	q.metrics.deliveries.WithLabelValues(d.Kind, e.state).Inc()
	outcome := map[string]ledger.OutcomeState{Delivered: ledger.Relayed, Failed: ledger.Failed, OutcomeUnknown: ledger.OutcomeUnknown}[e.state]
	q.deps.Ledger.Outcome(ledger.Outcome{MailID: d.MailID, Recipient: d.To, State: outcome, NextHop: e.route, Code: e.reply.Code, Text: d.Kind + ": " + e.text(), At: time.Now()})
}

func (q *Queue) recordAttempt(ctx context.Context, tx pgx.Tx, d delivery, e end, result string) error {
	a := e.attempt
	if a.id == uuid.Nil {
		return nil // It ended without one: its time was over.
	}
	_, err := tx.Exec(ctx, insertAttemptSQL, a.id, d.ID, a.number, a.began, int(time.Since(a.began).Milliseconds()), result, e.route, a.host, a.tls, e.reply.Code, e.text())
	if err != nil {
		return fmt.Errorf("note the attempt: %w", err)
	}
	if a.number > attemptsKept {
		if _, err := tx.Exec(ctx, trimAttemptsSQL, d.ID, a.number-attemptsKept); err != nil {
			return fmt.Errorf("trim the attempts: %w", err)
		}
	}
	return nil
}

// record writes the result of a released copy.
func (q *Queue) record(ctx context.Context, tx pgx.Tx, d delivery, e end) error {
	if d.Kind != Release || d.ItemID == nil || d.Recipient == nil || d.ReleaseID == nil {
		return nil
	}
	st := map[string]quarantine.State{Delivered: quarantine.Released, Failed: quarantine.Failed, OutcomeUnknown: quarantine.OutcomeUnknown}[e.state]
	if err := q.deps.Quarantine.SetDelivery(ctx, tx, *d.ItemID, *d.Recipient, quarantine.Delivered{State: st, Code: e.reply.Code, Text: e.said(), Host: e.attempt.host}); err != nil {
		return err
	}
	if err := q.deps.Quarantine.CloseRelease(ctx, tx, *d.ReleaseID); err != nil {
		return err
	}
	ev := audit.Event{Action: audit.ReleaseResult, Workspace: d.Workspace, Actor: pg.System("delivery", "release "+d.ReleaseID.String()), Retention: audit.Retention3Years,
		Targets:     []audit.Target{{Type: "quarantine_item", ID: d.ItemID.String()}, {Type: "release", ID: d.ReleaseID.String()}, {Type: "quarantine_recipient", ID: d.Recipient.String(), PII: d.To}},
		OutcomeCode: fmt.Sprint(e.reply.Code), OutcomeDetail: e.text(), DetailNames: true, After: map[string]any{"state": string(st), "next_hop": e.route, "attempts": d.Attempts},
		Correlation: audit.Correlation{MailID: d.MailID.String(), ItemID: d.ItemID.String()}}
	if e.intent != uuid.Nil {
		ev.Correlation.CausationID = e.intent.String()
	}
	switch e.state {
	case Failed:
		ev.Outcome = "failure"
	case OutcomeUnknown:
		ev.Outcome = "unknown"
	}
	_, err := q.deps.Audit.Append(ctx, tx, ev)
	return err
}

// forged ends a delivery that no person has decided on, and raises the alarm.
func (q *Queue) forged(ctx context.Context, log *slog.Logger, d delivery, e end, why error) {
	log.Error("release without a matching decision: not delivered", "error", why)
	q.metrics.forged.Inc()
	ev := audit.Event{Action: audit.GuardViolation, Workspace: d.Workspace, Outcome: "refused", Severity: "critical", Retention: audit.Retention3Years,
		Actor: pg.System("delivery", "check of a release"), Targets: []audit.Target{{Type: "delivery", ID: d.ID.String()}}, OutcomeDetail: why.Error()}
	if d.ItemID != nil {
		ev.Targets = append(ev.Targets, audit.Target{Type: "quarantine_item", ID: d.ItemID.String()})
	}
	if err := q.insist(ctx, func(ctx context.Context) error { return q.deps.Audit.Record(ctx, ev) }); err != nil {
		log.Error("violation not recorded", "error", err)
	}
	e.state, e.reply = Failed, hop.Reply{Text: "no matching decision of a person is on record"}
	q.finish(ctx, log, d, e)
}

func (q *Queue) putOff(ctx context.Context, log *slog.Logger, d delivery, e end, why error) {
	wait := backoff(d.Attempts)
	log.Info("delivery put off", "next_hop", e.route, "error", why, "again_in", wait.String())
	err := q.insist(ctx, func(ctx context.Context) error {
		return q.deps.DB.Act(ctx, pg.System("delivery", d.Kind), func(ctx context.Context, tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, retrySQL, d.ID, q.owner, wait, e.route, e.reply.Code, e.reply.Line())
			if err != nil || tag.RowsAffected() == 0 {
				return err
			}
			if err := q.recordAttempt(ctx, tx, d, e, "put_off"); err != nil {
				return err
			}
			if d.Kind == Release {
				return q.deps.Quarantine.SetDelivery(ctx, tx, *d.ItemID, *d.Recipient, quarantine.Delivered{State: quarantine.ReleaseScheduled, Code: e.reply.Code, Text: e.said(), Host: e.attempt.host})
			}
			return nil
		})
	})
	if err != nil {
		log.Error("delivery not put off; it is taken up when its lease ends", "error", err)
	}
}

// reroute gives a delivery back whose destination has changed while it waited:
// the new one has its own queue.
func (q *Queue) reroute(ctx context.Context, log *slog.Logger, d delivery, to string) {
	err := q.deps.DB.Act(ctx, pg.System("delivery", d.Kind), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, rerouteSQL, d.ID, q.owner, to)
		return err
	})
	if err != nil {
		log.Error("delivery not given another route; it is taken up when its lease ends", "error", err)
	}
}
