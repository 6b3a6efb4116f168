package approval

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

var (
	dueNoticesSQL  = pg.Query(queryFiles, "due_notices")
	claimNoticeSQL = pg.Query(queryFiles, "claim_notice")
	toldSQL        = pg.Query(queryFiles, "told")
)

// noticeEvery is how often requests are looked for that nobody was told of.
const noticeEvery = 10 * time.Second

// Postman queues a mail of ours for delivery.
type Postman interface {
	Notice(ctx context.Context, to, subject, text string) (id uuid.UUID, err error)
}

// Waiting is a request, as a mail about it says it: what exactly will be done
// stands on the page alone, since the mail may go over open lines.
type Waiting struct {
	ID        uuid.UUID
	Kind      Kind
	Workspace string // empty: the installation
	By        string // mail address
	At        time.Time
}

// Notices are the mails to those who can decide on a request.
type Notices struct {
	Postman Postman
	// Compose writes the mail in the person's language.
	Compose func(locale string, waiting []Waiting) (subject, text string)
	// Deciders are the roles that decide in a workspace, and InstallDeciders those
	// that decide for the whole installation.
	Deciders, InstallDeciders []string
	Log                       *slog.Logger
}

// recipient is somebody who is to be told, and of what.
type recipient struct {
	user          uuid.UUID
	email, locale string
	waiting       []Waiting
}

// RunNotices tells people of requests until ctx ends. Each is told once of each
// request, by one of the processes; a mail that could not be queued is tried
// again, a few times.
func (s *Store) RunNotices(ctx context.Context, n Notices) error {
	t := time.NewTicker(noticeEvery)
	defer t.Stop()
	for {
		if err := s.Tell(ctx, n); err != nil && ctx.Err() == nil {
			n.Log.Warn("people not told of requests that wait", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

// Tell sends what is due now.
func (s *Store) Tell(ctx context.Context, n Notices) error {
	due, err := s.due(ctx, n)
	if err != nil {
		return err
	}
	for _, to := range due {
		if err := s.tell(ctx, n, to); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) due(ctx context.Context, n Notices) (out []*recipient, err error) {
	rows, err := s.db.Query(ctx, dueNoticesSQL, n.Deciders, n.InstallDeciders, s.now().Add(-freshFor))
	if err != nil {
		return nil, fmt.Errorf("look who is to be told: %w", err)
	}
	var w Waiting
	var r recipient
	_, err = pgx.ForEachRow(rows, []any{&w.ID, &w.Kind, &w.Workspace, &w.By, &w.At, &r.user, &r.email, &r.locale}, func() error {
		if len(out) == 0 || out[len(out)-1].user != r.user {
			one := r
			out = append(out, &one)
		}
		last := out[len(out)-1]
		last.waiting = append(last.waiting, w)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look who is to be told: %w", err)
	}
	return out, nil
}

// postman is who writes: no person does.
var postman = pg.System("approval notices", "a request waits for a second person")

func (s *Store) tell(ctx context.Context, n Notices, to *recipient) error {
	var mine []Waiting
	var ids []uuid.UUID
	err := s.db.Act(ctx, postman, func(ctx context.Context, tx pgx.Tx) error {
		for _, w := range to.waiting {
			tag, err := tx.Exec(ctx, claimNoticeSQL, w.ID, to.user)
			if err != nil {
				return fmt.Errorf("claim notice: %w", err)
			}
			if tag.RowsAffected() == 1 {
				mine, ids = append(mine, w), append(ids, w.ID)
			}
		}
		return nil
	})
	if err != nil || len(mine) == 0 {
		return err
	}
	subject, text := n.Compose(to.locale, mine)
	delivery, err := n.Postman.Notice(ctx, to.email, subject, text)
	if err != nil {
		// The claim stays: it is tried again after a while.
		n.Log.Warn("somebody could not be told of a request", "user", to.user, "error", err)
		return nil
	}
	return s.db.Act(ctx, postman, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, toldSQL, ids, to.user, delivery); err != nil {
			return fmt.Errorf("note who was told: %w", err)
		}
		return nil
	})
}
