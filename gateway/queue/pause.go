package queue

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

// pausedFor is how long a release that a reaction holds back waits before it is
// looked at again: the reaction may be undone at any time.
const pausedFor = 15 * time.Second

// ours is the domain of ours that a delivery is of: the recipient's, or for outbound
// mail the sender's; "" where it is of none.
func (q *Queue) ours(d delivery) string {
	for _, address := range []string{d.To, d.From} {
		if r, ok := q.deps.Policies.Lookup(address); ok && r.Domain.Workspace == d.Workspace {
			return r.Domain.Name
		}
	}
	return ""
}

// paused gives a release back that a reaction to an alert holds in the
// quarantine, and says whether it did. It is no attempt: nobody was asked.
func (q *Queue) paused(ctx context.Context, log *slog.Logger, d delivery) bool {
	why, err := q.deps.Policies.Paused(ctx, d.Workspace, q.ours(d), d.MailID)
	switch {
	case err != nil:
		log.Error("delivery not begun", "error", err)
		return true // The lease ends, and it is tried again.
	case why == "":
		return false
	}
	log.Info("release held back by a reaction to an alert", "cause", why)
	err = q.insist(ctx, func(ctx context.Context) error {
		return q.deps.DB.Act(ctx, pg.System("delivery", d.Kind), func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, pauseSQL, d.ID, q.owner, pausedFor, "releases are paused by a reaction to an alert: "+why)
			return err
		})
	})
	if err != nil {
		log.Error("delivery not put off; it is taken up when its lease ends", "error", err)
	}
	return true
}
