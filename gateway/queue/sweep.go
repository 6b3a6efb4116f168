package queue

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/gateway/hop"
	"mailward/internal/pg"
)

// sweepMost bounds one transaction of the sweep: it makes notifications.
const sweepMost = 50

// sweep does what goes by the clock and not by attempts, every few seconds: it
// puts back what dead workers have left, ends what has waited for too long, and
// tells senders of what is late. So a destination that rests delays neither.
func (q *Queue) sweep(ctx context.Context) {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		for what, fn := range map[string]func(context.Context) error{"deliveries of dead workers": q.reclaim, "deliveries that are too old": q.expire, "late deliveries": q.warn, "age of the queue": q.measure} {
			if err := fn(ctx); err != nil && ctx.Err() == nil {
				q.log.Error("delivery queue not swept", "what", what, "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (q *Queue) measure(ctx context.Context) error {
	s, err := q.Status(ctx)
	if err == nil {
		q.metrics.status(s)
	}
	return err
}

func (q *Queue) reclaim(ctx context.Context) error {
	return q.deps.DB.Act(ctx, pg.System("delivery", "lease"), func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, reclaimSQL)
		if err != nil {
			return fmt.Errorf("put deliveries back: %w", err)
		}
		if tag.RowsAffected() > 0 {
			q.log.Warn("deliveries of a dead worker put back", "count", tag.RowsAffected())
			q.nudge()
		}
		return nil
	})
}

// waiting is a delivery together with the last that was heard of it.
type waiting struct {
	D         delivery
	Code      int
	Text      string
	DestError string // why its destination rests, or ""
}

func scanWaiting(r pgx.CollectableRow) (w waiting, err error) {
	d := &w.D
	err = r.Scan(&d.ID, &d.Workspace, &d.MailID, &d.Kind, &d.ItemID, &d.ReleaseID, &d.Recipient, &d.From, &d.To, &d.Key, &d.Name, &d.Edits, &d.Trace,
		&d.UTF8, &d.EightBit, &d.Attempts, &d.CreatedAt, &d.GiveUpAt, &d.DotSentAt, &d.Destination, &d.Size, &d.ReceivedAt, &d.Ret, &d.EnvID, &d.Notify, &d.ORCPT, &d.Tell,
		&w.Code, &w.Text, &w.DestError)
	return w, err
}

// reply is the last that was heard.
func (w waiting) reply() hop.Reply {
	if w.DestError != "" {
		return hop.Reply{Text: w.DestError}
	}
	return hop.ReadReply(w.Code, w.Text)
}

// expire ends deliveries whose time is over, as failed.
func (q *Queue) expire(ctx context.Context) error {
	for ctx.Err() == nil {
		var found []waiting
		err := q.deps.DB.Act(ctx, pg.System("delivery", "end of its time"), func(ctx context.Context, tx pgx.Tx) error {
			rows, err := tx.Query(ctx, expiredSQL, q.owner, leaseTime, sweepMost)
			if err != nil {
				return err
			}
			found, err = pgx.CollectRows(rows, scanWaiting)
			return err
		})
		if err != nil {
			return fmt.Errorf("find deliveries that are too old: %w", err)
		}
		for _, w := range found {
			q.expireOne(ctx, w)
		}
		if len(found) < sweepMost {
			break
		}
	}
	return nil
}

func (q *Queue) expireOne(ctx context.Context, w waiting) {
	d := w.D
	log := q.log.With("mail", d.MailID, "delivery", d.ID, "kind", d.Kind)
	e := end{state: Failed, route: d.Destination, reply: w.reply(), gaveUp: true}
	if d.DotSentAt != nil {
		e.state = OutcomeUnknown
	} else if err := q.tell(ctx, d, &e); err != nil {
		log.Error("sender not told; the delivery ends when that is possible", "error", err)
		return // The lease ends, and it is found again.
	}
	q.finish(ctx, log, d, e)
}

// warn tells senders that a mail is late, once, in the same transaction in
// which that is noted.
func (q *Queue) warn(ctx context.Context) error {
	for ctx.Err() == nil {
		n := 0
		err := q.deps.DB.Act(ctx, pg.System("delivery", "late mail"), func(ctx context.Context, tx pgx.Tx) error {
			rows, err := tx.Query(ctx, lateSQL, sweepMost)
			if err != nil {
				return err
			}
			found, err := pgx.CollectRows(rows, scanWaiting)
			if err != nil {
				return err
			}
			n = len(found)
			ids := make([]uuid.UUID, n)
			for i, w := range found {
				ids[i] = w.D.ID
			}
			for _, group := range byMail(found) {
				if err := q.warnSender(ctx, tx, group); err != nil {
					return err
				}
			}
			_, err = tx.Exec(ctx, warnedSQL, ids)
			return err
		})
		if err != nil {
			return fmt.Errorf("tell senders of late mail: %w", err)
		}
		if n < sweepMost {
			break
		}
	}
	return nil
}

// byMail groups deliveries, so that recipients with the same fate share one notification.
func byMail(list []waiting) (groups [][]waiting) {
	for _, w := range list {
		i := slices.IndexFunc(groups, func(g []waiting) bool { return g[0].D.MailID == w.D.MailID && g[0].D.From == w.D.From })
		if i < 0 {
			groups = append(groups, []waiting{w})
			continue
		}
		groups[i] = append(groups[i], w)
	}
	return groups
}

func (q *Queue) warnSender(ctx context.Context, tx pgx.Tx, group []waiting) error {
	var fates []fate
	for _, w := range group {
		fates = append(fates, fate{rcpt: w.D.rcpt(), action: actionDelayed, reply: w.reply(), until: w.D.GiveUpAt})
	}
	dsn, err := q.notification(ctx, q.mail(group[0].D), fates)
	if err != nil || dsn == nil {
		return err
	}
	dsn.wait = 0
	return q.write(ctx, tx, *dsn)
}
