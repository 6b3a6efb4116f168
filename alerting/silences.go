package alerting

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/alerting/rule"
	"mailward/internal/pg"
)

var (
	silencesSQL      = pg.Query(queryFiles, "silences")
	insertSilenceSQL = pg.Query(queryFiles, "insert_silence")
	endSilenceSQL    = pg.Query(queryFiles, "end_silence")
	insertAckSQL     = pg.Query(queryFiles, "insert_ack")
	markAckedSQL     = pg.Query(queryFiles, "mark_acked")
)

// maxSilence is the longest one.
const maxSilence = 90 * 24 * time.Hour

// Silence keeps alerts from being sent for a time. They are seen and shown.
type Silence struct {
	ID        uuid.UUID `json:"id"`
	Workspace uuid.UUID `json:"workspace_id"` // zero: everywhere
	Rule      uuid.UUID `json:"rule_id"`      // zero: all
	Subject   string    `json:"subject"`      // "": all
	Reason    string    `json:"reason"`
	Author    string    `json:"author"`
	StartsAt  time.Time `json:"starts_at"`
	EndsAt    time.Time `json:"ends_at"`
	EndedAt   time.Time `json:"ended_at,omitzero"` // before its time
}

// Active says whether it is in force.
func (s Silence) Active(now time.Time) bool {
	return s.EndedAt.IsZero() && !now.Before(s.StartsAt) && now.Before(s.EndsAt)
}

// covers says whether it is about an alert.
func (s Silence) covers(r rule.Rule, k rule.Key) bool {
	return (s.Workspace == uuid.Nil || s.Workspace == k.Workspace) && (s.Rule == uuid.Nil || s.Rule == r.ID) && (s.Subject == "" || s.Subject == k.Subject)
}

// Silences lists those of the last 30 days, or those in force.
func (s *Store) Silences(ctx context.Context, inForce bool) ([]Silence, error) {
	rows, err := s.db.Query(ctx, silencesSQL, inForce)
	if err != nil {
		return nil, fmt.Errorf("read silences: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (x Silence, err error) {
		var ended *time.Time
		err = row.Scan(&x.ID, &x.Workspace, &x.Rule, &x.Subject, &x.Reason, &x.Author, &x.StartsAt, &x.EndsAt, &ended)
		x.EndedAt = orZero(ended)
		return x, err
	})
}

// Silence begins a silence of a length.
func (s *Store) Silence(ctx context.Context, who Person, x Silence, length time.Duration) (uuid.UUID, error) {
	x.Reason, x.Subject = strings.TrimSpace(x.Reason), strings.ToLower(strings.TrimSpace(x.Subject))
	if !goodReason(x.Reason) {
		return uuid.Nil, ErrReasonRequired
	}
	if length < time.Minute || length > maxSilence {
		return uuid.Nil, &rule.InvalidError{Field: "length", Problem: "must be a minute to 90 days"}
	}
	if len(x.Subject) > 255 {
		return uuid.Nil, &rule.InvalidError{Field: "subject", Problem: "must have 255 characters at most"}
	}
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, err
	}
	err = s.db.Act(pg.WithReason(ctx, x.Reason), who.Actor, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, insertSilenceSQL, id, pg.NullID(x.Workspace), pg.NullID(x.Rule), x.Subject, x.Reason, who.id(), who.Name, length)
		return err
	})
	if pg.IsForeignKey(err) {
		return uuid.Nil, ErrNotFound
	}
	if err != nil {
		return uuid.Nil, fmt.Errorf("store silence: %w", err)
	}
	return id, nil
}

// EndSilence ends one before its time.
func (s *Store) EndSilence(ctx context.Context, who Person, id uuid.UUID) error {
	err := s.act(ctx, who, endSilenceSQL, id)
	if errors.Is(err, ErrConflict) {
		return ErrNotFound
	}
	return err
}

// Ack takes an alert in hand: it reminds nobody any more in this episode.
func (s *Store) Ack(ctx context.Context, who Person, alert uuid.UUID, note string) error {
	note = strings.TrimSpace(note)
	if len([]rune(note)) > 500 {
		return ErrReasonRequired
	}
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	err = s.db.Act(pg.WithReason(ctx, note), who.Actor, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, insertAckSQL, id, alert, note, who.id(), who.Name)
		if err == nil && tag.RowsAffected() == 0 {
			return ErrNotFiring
		}
		if err == nil {
			_, err = tx.Exec(ctx, markAckedSQL, alert)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("acknowledge alert %s: %w", alert, err)
	}
	return nil
}
