package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
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

// delivery is a row of the queue, claimed by us.
type delivery struct {
	ID, Workspace, MailID        uuid.UUID
	Kind                         string
	ItemID, ReleaseID, Recipient *uuid.UUID
	From, To                     string
	Key                          []byte
	Name                         string
	Edits                        []byte
	Trace                        []byte
	EightBit                     bool
	Attempts                     int
	GiveUpAt                     time.Time
	DotSentAt                    *time.Time
}

// errNoRoute may be mended by who sets up the domain, so it is tried again.
var errNoRoute = errors.New("queue: no next hop for the recipient")

func (d delivery) mail() Mail {
	return Mail{Workspace: d.Workspace, Envelope: message.Envelope{ID: d.MailID, From: d.From}}
}

// deliver makes one attempt and notes how it went.
func (q *Queue) deliver(ctx context.Context, d delivery) {
	log := q.log.With("mail", d.MailID, "delivery", d.ID, "kind", d.Kind)
	stop := q.keepLease(ctx, d.ID)
	defer stop()
	if d.DotSentAt != nil {
		// An earlier worker died between the dot and the reply.
		q.finish(ctx, log, d, "outcome_unknown", "", hop.Reply{Text: "the reply was lost with the process that waited for it"}, uuid.Nil)
		return
	}
	intent, err := q.begin(ctx, d)
	switch {
	case errors.Is(err, quarantine.ErrReleaseForged):
		q.forged(ctx, log, d, err)
		return
	case err != nil:
		log.Error("delivery not begun", "error", err)
		return // The lease ends, and it is tried again.
	}
	route, res := q.attempt(ctx, d)
	var no *hop.Reply
	switch {
	case res.Err == nil && len(res.Refused) == 0:
		q.finish(ctx, log, d, "delivered", route, res.Reply, intent)
	case res.ReplyLost:
		q.finish(ctx, log, d, "outcome_unknown", route, hop.Reply{Text: "the last reply was lost: " + hop.Harmless(res.Err.Error(), 150)}, intent)
	case errors.As(res.Err, &no) && no.Code/100 == 5:
		q.finish(ctx, log, d, "failed", route, *no, intent)
	case errors.Is(res.Err, hop.ErrEightBit), errors.Is(res.Err, quarantine.ErrBlobDamaged), errors.Is(res.Err, quarantine.ErrBlobMissing), errors.Is(res.Err, message.ErrRanges):
		q.finish(ctx, log, d, "failed", route, hop.Reply{Text: hop.Harmless(res.Err.Error(), 200)}, intent)
	case time.Now().After(d.GiveUpAt):
		q.finish(ctx, log, d, "failed", route, hop.Reply{Code: 550, Text: "given up: " + hop.Harmless(res.Err.Error(), 200)}, intent)
	default:
		q.retry(ctx, log, d, route, res.Err)
	}
}

// begin checks a release against the audit, and notes that it is on its way.
func (q *Queue) begin(ctx context.Context, d delivery) (intent uuid.UUID, err error) {
	if d.Kind != "release" {
		return uuid.Nil, nil
	}
	if d.ReleaseID == nil || d.ItemID == nil || d.Recipient == nil {
		return uuid.Nil, fmt.Errorf("%w: it names no release", quarantine.ErrReleaseForged)
	}
	err = q.deps.DB.Act(ctx, pg.System("delivery", "release "+d.ReleaseID.String()), func(ctx context.Context, tx pgx.Tx) error {
		if intent, err = q.deps.Quarantine.CheckRelease(ctx, tx, *d.ReleaseID, quarantine.ReleasedCopy{Item: *d.ItemID, Recipient: *d.Recipient, Address: d.To, BlobName: d.Name}); err != nil {
			return err
		}
		return q.deps.Quarantine.SetDelivery(ctx, tx, *d.ItemID, *d.Recipient, quarantine.Delivering, 0, "")
	})
	return intent, err
}

// attempt hands the mail to the next hop of its recipient.
func (q *Queue) attempt(ctx context.Context, d delivery) (string, hop.Result) {
	route := q.deps.Policies.DefaultHop()
	if r, ok := q.deps.Policies.Lookup(d.To); ok {
		route = r.Domain.NextHop
	}
	if route == "" {
		return "", hop.Result{Err: errNoRoute}
	}
	var edits []message.Range
	if err := json.Unmarshal(d.Edits, &edits); err != nil {
		return route, hop.Result{Err: fmt.Errorf("%w: %w", message.ErrRanges, err)}
	}
	blob, err := q.deps.Quarantine.Blobs().Open(ctx, quarantine.Ref{Name: d.Name, Key: d.Key})
	if err != nil {
		return route, hop.Result{Err: err}
	}
	defer blob.Close()
	t := hop.Transfer{From: d.From, To: []hop.Recipient{{Address: d.To}}, EightBit: d.EightBit, Head: d.Trace, Body: io.Reader(message.WithoutStream(blob, edits))}
	t.BeforeDot = func(map[string]*hop.Reply) error { return q.aboutToHandOver(ctx, d) }
	return route, q.deps.Hops.Send(ctx, route, t)
}

// aboutToHandOver commits that the dot goes out next: whatever happens from
// here on, the mail is not sent a second time.
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

// finish notes the end of a delivery: in the queue, at the item, in the audit
// and in the ledger. It tries until the database takes it, since the fact is made.
func (q *Queue) finish(ctx context.Context, log *slog.Logger, d delivery, state, route string, r hop.Reply, intent uuid.UUID) {
	err := q.insist(ctx, func(ctx context.Context) error {
		return q.deps.DB.Act(ctx, pg.System("delivery", d.Kind), func(ctx context.Context, tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, finishSQL, d.ID, q.owner, state, route, r.Code, r.Text)
			if err != nil || tag.RowsAffected() == 0 {
				return err // Done already, by a commit whose answer was lost.
			}
			return q.record(ctx, tx, d, state, route, r, intent)
		})
	})
	if err != nil {
		log.Error("end of delivery not noted", "state", state, "error", err)
		return
	}
	log.Info("delivery ended", "state", state, "next_hop", route, "code", r.Code)
	q.metrics.deliveries.WithLabelValues(d.Kind, state).Inc()
	outcome := map[string]ledger.OutcomeState{"delivered": ledger.Relayed, "failed": ledger.Failed, "outcome_unknown": ledger.OutcomeUnknown}[state]
	q.deps.Ledger.Outcome(ledger.Outcome{MailID: d.MailID, Recipient: d.To, State: outcome, NextHop: route, Code: r.Code, Text: d.Kind + ": " + r.Text, At: time.Now()})
	if state == "failed" && d.Kind == "relay" {
		if _, err := q.Undeliverable(ctx, d.mail(), route, map[string]*hop.Reply{d.To: &r}); err != nil {
			log.Error("sender not told of the failure", "error", err)
		}
	}
}

// record writes the result of a released copy.
func (q *Queue) record(ctx context.Context, tx pgx.Tx, d delivery, state, route string, r hop.Reply, intent uuid.UUID) error {
	if d.Kind != "release" || d.ItemID == nil || d.Recipient == nil || d.ReleaseID == nil {
		return nil
	}
	st := map[string]quarantine.State{"delivered": quarantine.Released, "failed": quarantine.Failed, "outcome_unknown": quarantine.OutcomeUnknown}[state]
	if err := q.deps.Quarantine.SetDelivery(ctx, tx, *d.ItemID, *d.Recipient, st, r.Code, r.Text); err != nil {
		return err
	}
	if err := q.deps.Quarantine.CloseRelease(ctx, tx, *d.ReleaseID); err != nil {
		return err
	}
	ev := audit.Event{Action: audit.ReleaseResult, Workspace: d.Workspace, Actor: pg.System("delivery", "release "+d.ReleaseID.String()), Retention: audit.Retention3Years,
		Targets:     []audit.Target{{Type: "quarantine_item", ID: d.ItemID.String()}, {Type: "release", ID: d.ReleaseID.String()}, {Type: "quarantine_recipient", ID: d.Recipient.String(), PII: d.To}},
		OutcomeCode: fmt.Sprint(r.Code), OutcomeDetail: r.Text, After: map[string]any{"state": string(st), "next_hop": route, "attempts": d.Attempts},
		Correlation: audit.Correlation{MailID: d.MailID.String(), ItemID: d.ItemID.String()}}
	if intent != uuid.Nil {
		ev.Correlation.CausationID = intent.String()
	}
	switch state {
	case "failed":
		ev.Outcome = "failure"
	case "outcome_unknown":
		ev.Outcome = "unknown"
	}
	_, err := q.deps.Audit.Append(ctx, tx, ev)
	return err
}

// forged ends a delivery that no person has decided on, and raises the alarm.
func (q *Queue) forged(ctx context.Context, log *slog.Logger, d delivery, why error) {
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
	q.finish(ctx, log, d, "failed", "", hop.Reply{Text: "no matching decision of a person is on record"}, uuid.Nil)
}

func (q *Queue) retry(ctx context.Context, log *slog.Logger, d delivery, route string, why error) {
	var no *hop.Reply
	r := hop.Reply{Text: hop.Harmless(why.Error(), 200)}
	if errors.As(why, &no) {
		r = *no
	}
	wait := backoff(d.Attempts)
	log.Info("delivery put off", "next_hop", route, "error", why, "again_in", wait.String())
	err := q.insist(ctx, func(ctx context.Context) error {
		return q.deps.DB.Act(ctx, pg.System("delivery", d.Kind), func(ctx context.Context, tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, retrySQL, d.ID, q.owner, wait, route, r.Code, r.Text); err != nil {
				return err
			}
			if d.Kind == "release" {
				return q.deps.Quarantine.SetDelivery(ctx, tx, *d.ItemID, *d.Recipient, quarantine.ReleaseScheduled, r.Code, r.Text)
			}
			return nil
		})
	})
	if err != nil {
		log.Error("delivery not put off; it is taken up when its lease ends", "error", err)
	}
}
