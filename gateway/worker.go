package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
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

// Times of the delivery queue.
const (
	pollEvery   = time.Second
	leaseTime   = time.Minute      // a delivery whose worker died is taken up after this
	attemptTime = 15 * time.Minute // for one attempt
	parallel    = 8                // deliveries of one process at a time
)

// backoff says how long to wait after the n-th attempt that failed.
func backoff(n int) time.Duration {
	steps := []time.Duration{30 * time.Second, 2 * time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute}
	if n-1 < len(steps) {
		return steps[max(n-1, 0)]
	}
	return time.Hour
}

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

// Worker delivers what was released, and what could not be passed on at once.
type Worker struct {
	s     *Server
	owner string
	log   *slog.Logger
	wake  chan struct{}
	slots chan struct{}
}

// Worker returns the delivery worker of this process.
func (s *Server) Worker() *Worker {
	host, _ := os.Hostname()
	return &Worker{s: s, owner: fmt.Sprintf("%s/%d/%s", host, os.Getpid(), uuid.NewString()), log: s.log,
		wake: make(chan struct{}, 1), slots: make(chan struct{}, parallel)}
}

// Run delivers until ctx ends, and then waits for what is under way.
func (w *Worker) Run(ctx context.Context) error {
	var listening sync.WaitGroup
	listening.Go(func() { w.listen(ctx) })
	defer listening.Wait()
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	for {
		if err := w.round(ctx); err != nil && ctx.Err() == nil {
			w.log.Error("delivery queue not read", "error", err)
		}
		select {
		case <-ctx.Done():
			for range parallel {
				w.slots <- struct{}{}
			}
			return nil
		case <-t.C:
		case <-w.wake:
		}
	}
}

// listen wakes the worker when the database says that a delivery was added.
func (w *Worker) listen(ctx context.Context) {
	for ctx.Err() == nil {
		if conn, err := w.s.deps.DB.Acquire(ctx); err == nil {
			if _, err = conn.Exec(ctx, "LISTEN mailward_delivery"); err == nil {
				for err == nil {
					if _, err = conn.Conn().WaitForNotification(ctx); err == nil {
						select {
						case w.wake <- struct{}{}:
						default:
						}
					}
				}
			}
			conn.Conn().Close(context.WithoutCancel(ctx))
			conn.Release()
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// round claims what is due, as much as there are free slots.
func (w *Worker) round(ctx context.Context) error {
	free := parallel - len(w.slots)
	if free == 0 {
		return nil
	}
	var due []delivery
	err := w.s.deps.DB.Act(ctx, pg.System("delivery", "queue"), func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, claimSQL, w.owner, leaseTime, free)
		if err != nil {
			return err
		}
		due, err = pgx.CollectRows(rows, pgx.RowToStructByPos[delivery])
		return err
	})
	if err != nil {
		return fmt.Errorf("claim deliveries: %w", err)
	}
	for _, d := range due {
		w.slots <- struct{}{}
		go func() {
			defer func() { <-w.slots }()
			// What was begun is brought to an end, also while we stop.
			ctx, cancel := context.WithTimeout(w.s.base, attemptTime)
			defer cancel()
			w.deliver(ctx, d)
		}()
	}
	return nil
}

// deliver makes one attempt and notes how it went.
func (w *Worker) deliver(ctx context.Context, d delivery) {
	log := w.log.With("mail", d.MailID, "delivery", d.ID, "kind", d.Kind)
	stop := w.keepLease(ctx, d.ID)
	defer stop()
	if d.DotSentAt != nil {
		// An earlier worker died between the dot and the reply.
		w.finish(ctx, log, d, "outcome_unknown", "", hop.Reply{Text: "the reply was lost with the process that waited for it"}, uuid.Nil)
		return
	}
	intent, err := w.begin(ctx, d)
	switch {
	case errors.Is(err, quarantine.ErrReleaseForged):
		w.forged(ctx, log, d, err)
		return
	case err != nil:
		log.Error("delivery not begun", "error", err)
		return // The lease ends, and it is tried again.
	}
	route, res := w.attempt(ctx, d)
	var no *hop.Reply
	switch {
	case res.Err == nil && len(res.Refused) == 0:
		w.finish(ctx, log, d, "delivered", route, res.Reply, intent)
	case res.ReplyLost:
		w.finish(ctx, log, d, "outcome_unknown", route, hop.Reply{Text: "the last reply was lost: " + hop.Harmless(res.Err.Error(), 150)}, intent)
	case errors.As(res.Err, &no) && no.Code/100 == 5:
		w.finish(ctx, log, d, "failed", route, *no, intent)
	case errors.Is(res.Err, hop.ErrEightBit), errors.Is(res.Err, quarantine.ErrBlobDamaged), errors.Is(res.Err, quarantine.ErrBlobMissing), errors.Is(res.Err, message.ErrRanges):
		w.finish(ctx, log, d, "failed", route, hop.Reply{Text: hop.Harmless(res.Err.Error(), 200)}, intent)
	case time.Now().After(d.GiveUpAt):
		w.finish(ctx, log, d, "failed", route, hop.Reply{Code: 550, Text: "given up: " + hop.Harmless(res.Err.Error(), 200)}, intent)
	default:
		w.retry(ctx, log, d, route, res.Err)
	}
}

// begin checks a release against the audit, and notes that it is on its way.
func (w *Worker) begin(ctx context.Context, d delivery) (intent uuid.UUID, err error) {
	if d.Kind != "release" {
		return uuid.Nil, nil
	}
	if d.ReleaseID == nil || d.ItemID == nil || d.Recipient == nil {
		return uuid.Nil, fmt.Errorf("%w: it names no release", quarantine.ErrReleaseForged)
	}
	err = w.s.deps.DB.Act(ctx, pg.System("delivery", "release "+d.ReleaseID.String()), func(ctx context.Context, tx pgx.Tx) error {
		if intent, err = w.s.deps.Quarantine.CheckRelease(ctx, tx, *d.ReleaseID, quarantine.ReleasedCopy{Item: *d.ItemID, Recipient: *d.Recipient, Address: d.To, BlobName: d.Name}); err != nil {
			return err
		}
		return w.s.deps.Quarantine.SetDelivery(ctx, tx, *d.ItemID, *d.Recipient, quarantine.Delivering, 0, "")
	})
	return intent, err
}

// attempt hands the mail to the next hop of its recipient.
func (w *Worker) attempt(ctx context.Context, d delivery) (string, hop.Result) {
	route := w.s.defaultHop()
	if r, ok := w.s.deps.Policies.Lookup(d.To); ok {
		route = r.Domain.NextHop
	}
	if route == "" {
		return "", hop.Result{Err: errNoRoute}
	}
	var edits []message.Range
	if err := json.Unmarshal(d.Edits, &edits); err != nil {
		return route, hop.Result{Err: fmt.Errorf("%w: %w", message.ErrRanges, err)}
	}
	blob, err := w.s.deps.Quarantine.Blobs().Open(ctx, quarantine.Ref{Name: d.Name, Key: d.Key})
	if err != nil {
		return route, hop.Result{Err: err}
	}
	defer blob.Close()
	t := hop.Transfer{From: d.From, To: []hop.Recipient{{Address: d.To}}, EightBit: d.EightBit, Head: d.Trace, Body: io.Reader(message.WithoutStream(blob, edits))}
	t.BeforeDot = func(map[string]*hop.Reply) error { return w.aboutToHandOver(ctx, d) }
	return route, w.s.deps.Hops.Send(ctx, route, t)
}

// aboutToHandOver commits that the dot goes out next: whatever happens from
// here on, the mail is not sent a second time.
func (w *Worker) aboutToHandOver(ctx context.Context, d delivery) error {
	return w.s.deps.DB.Act(ctx, pg.System("delivery", d.Kind), func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, dotSQL, d.ID, w.owner)
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
func (w *Worker) finish(ctx context.Context, log *slog.Logger, d delivery, state, route string, r hop.Reply, intent uuid.UUID) {
	err := w.insist(ctx, func(ctx context.Context) error {
		return w.s.deps.DB.Act(ctx, pg.System("delivery", d.Kind), func(ctx context.Context, tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, finishSQL, d.ID, w.owner, state, route, r.Code, r.Text)
			if err != nil || tag.RowsAffected() == 0 {
				return err // Done already, by a commit whose answer was lost.
			}
			return w.record(ctx, tx, d, state, route, r, intent)
		})
	})
	if err != nil {
		log.Error("end of delivery not noted", "state", state, "error", err)
		return
	}
	log.Info("delivery ended", "state", state, "next_hop", route, "code", r.Code)
	w.s.metrics.deliveries.WithLabelValues(d.Kind, state).Inc()
	outcome := map[string]ledger.OutcomeState{"delivered": ledger.Relayed, "failed": ledger.Failed, "outcome_unknown": ledger.OutcomeUnknown}[state]
	w.s.deps.Ledger.Outcome(ledger.Outcome{MailID: d.MailID, Recipient: d.To, State: outcome, NextHop: route, Code: r.Code, Text: d.Kind + ": " + r.Text, At: time.Now()})
	if state == "failed" && d.Kind == "relay" {
		if _, err := w.s.bounce(ctx, d.Workspace, d.MailID, d.From, d.To, nil, &r, route); err != nil {
			log.Error("sender not told of the failure", "error", err)
		}
	}
}

// record writes the result of a released copy.
func (w *Worker) record(ctx context.Context, tx pgx.Tx, d delivery, state, route string, r hop.Reply, intent uuid.UUID) error {
	if d.Kind != "release" || d.ItemID == nil || d.Recipient == nil || d.ReleaseID == nil {
		return nil
	}
	st := map[string]quarantine.State{"delivered": quarantine.Released, "failed": quarantine.Failed, "outcome_unknown": quarantine.OutcomeUnknown}[state]
	if err := w.s.deps.Quarantine.SetDelivery(ctx, tx, *d.ItemID, *d.Recipient, st, r.Code, r.Text); err != nil {
		return err
	}
	if err := w.s.deps.Quarantine.CloseRelease(ctx, tx, *d.ReleaseID); err != nil {
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
	_, err := w.s.deps.Audit.Append(ctx, tx, ev)
	return err
}

// forged ends a delivery that no person has decided on, and raises the alarm.
func (w *Worker) forged(ctx context.Context, log *slog.Logger, d delivery, why error) {
	log.Error("release without a matching decision: not delivered", "error", why)
	w.s.metrics.forged.Inc()
	ev := audit.Event{Action: audit.GuardViolation, Workspace: d.Workspace, Outcome: "refused", Severity: "critical", Retention: audit.Retention3Years,
		Actor: pg.System("delivery", "check of a release"), Targets: []audit.Target{{Type: "delivery", ID: d.ID.String()}}, OutcomeDetail: why.Error()}
	if d.ItemID != nil {
		ev.Targets = append(ev.Targets, audit.Target{Type: "quarantine_item", ID: d.ItemID.String()})
	}
	if err := w.insist(ctx, func(ctx context.Context) error { return w.s.deps.Audit.Record(ctx, ev) }); err != nil {
		log.Error("violation not recorded", "error", err)
	}
	w.finish(ctx, log, d, "failed", "", hop.Reply{Text: "no matching decision of a person is on record"}, uuid.Nil)
}

func (w *Worker) retry(ctx context.Context, log *slog.Logger, d delivery, route string, why error) {
	var no *hop.Reply
	r := hop.Reply{Text: hop.Harmless(why.Error(), 200)}
	if errors.As(why, &no) {
		r = *no
	}
	wait := backoff(d.Attempts)
	log.Info("delivery put off", "next_hop", route, "error", why, "again_in", wait.String())
	err := w.insist(ctx, func(ctx context.Context) error {
		return w.s.deps.DB.Act(ctx, pg.System("delivery", d.Kind), func(ctx context.Context, tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, retrySQL, d.ID, w.owner, wait, route, r.Code, r.Text); err != nil {
				return err
			}
			if d.Kind == "release" {
				return w.s.deps.Quarantine.SetDelivery(ctx, tx, *d.ItemID, *d.Recipient, quarantine.ReleaseScheduled, r.Code, r.Text)
			}
			return nil
		})
	})
	if err != nil {
		log.Error("delivery not put off; it is taken up when its lease ends", "error", err)
	}
}

// insist repeats a write while the database is away.
func (w *Worker) insist(ctx context.Context, fn func(context.Context) error) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 10*time.Second) {
		err := fn(ctx)
		if err == nil || !pg.IsUnavailable(err) || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

// keepLease renews our claim while an attempt goes on.
func (w *Worker) keepLease(ctx context.Context, id uuid.UUID) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(leaseTime / 3)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				err := w.s.deps.DB.Act(ctx, pg.System("delivery", "lease"), func(ctx context.Context, tx pgx.Tx) error {
					_, err := tx.Exec(ctx, renewSQL, id, w.owner, leaseTime)
					return err
				})
				if err != nil && ctx.Err() == nil {
					w.log.Warn("lease of delivery not renewed", "delivery", id, "error", err)
				}
			}
		}
	}()
	return func() { cancel(); <-done }
}

// QueueStatus is how the delivery queue is.
type QueueStatus struct {
	Waiting int
	Oldest  time.Time // zero: none waits
}

// QueueStatus reads it, for Health.
func (w *Worker) QueueStatus(ctx context.Context) (q QueueStatus, err error) {
	var oldest *time.Time
	err = w.s.deps.DB.QueryRow(ctx, queueAgeSQL).Scan(&q.Waiting, &oldest)
	if oldest != nil {
		q.Oldest = *oldest
	}
	return q, err
}
