package policy

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

var (
	measuresSQL     = pg.Query(queryFiles, "measures")
	pauseReleaseSQL = pg.Query(queryFiles, "pause_release")
)

func (s *Store) measuresInForce(ctx context.Context) ([]*Measure, error) {
	rows, err := s.db.Query(ctx, measuresSQL)
	if err != nil {
		return nil, fmt.Errorf("read reactions: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*Measure, error) {
		m := &Measure{}
		err := row.Scan(&m.ID, &m.Workspace, &m.Kind, &m.Trial, &m.Domain, &m.Direction, &m.Match, &m.Value, &m.Divisor, &m.Most, &m.Cause, &m.Ends, &m.Taken)
		return m, err
	})
	if err != nil {
		return nil, fmt.Errorf("read reactions: %w", err)
	}
	return slices.DeleteFunc(list, func(m *Measure) bool {
		err := m.compile() // was checked when it began: somebody has been at the table
		if err != nil {
			s.log.Error("a reaction cannot be used", "reaction", m.ID, "error", err)
		}
		return err != nil
	}), nil
}

// Measures are the reactions in force that may still touch mail of a workspace.
// It reads memory only: one ends on time, also while the database is away.
func (s *Store) Measures(workspace uuid.UUID) (list []*Measure) {
	snap := s.snap.Load()
	if snap == nil || len(snap.measures) == 0 {
		return nil
	}
	now := s.now()
	s.touches.mu.Lock()
	defer s.touches.mu.Unlock()
	for _, m := range snap.measures {
		if (m.Workspace == uuid.Nil || m.Workspace == workspace) && now.Before(m.Ends) && s.touches.room(m, now) {
			list = append(list, m)
		}
	}
	return list
}

// Paused says whether a reaction holds a release back, for a worker that may ask
// the database: what is held back once is so until the reaction ends. why names it.
func (s *Store) Paused(ctx context.Context, workspace uuid.UUID, domain string, mail uuid.UUID) (why string, err error) {
	snap := s.snap.Load()
	if snap == nil {
		return "", nil
	}
	for _, m := range snap.measures {
		if m.Kind != MeasurePause || m.Workspace != uuid.Nil && m.Workspace != workspace || m.Domain != "" && m.Domain != domain || !s.now().Before(m.Ends) {
			continue
		}
		var paused bool
		err := s.db.Act(ctx, reactionActor, func(ctx context.Context, tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, lockReactionSQL, m.ID); err != nil {
				return err
			}
			return tx.QueryRow(ctx, pauseReleaseSQL, m.ID, mail).Scan(&paused)
		})
		if err != nil {
			return "", fmt.Errorf("ask whether releases are paused: %w", err)
		}
		if paused && !m.Trial {
			why = m.Cause
		}
	}
	return why, nil
}

// Tighter says how many times tighter the limits of clients and senders are for
// now; trial: that it is only to be counted.
func (s *Store) Tighter() (by int, trial bool) {
	m := s.tightening()
	if m == nil {
		return 1, false
	}
	return m.Divisor, m.Trial
}

// Refused counts a refusal that only the tighter limits make, or would make. False
// means that they may not: there have been as many as there may be, or nobody knows.
func (s *Store) Refused() bool {
	m := s.tightening()
	if m == nil {
		return false
	}
	id, err := uuid.NewV7()
	if err != nil {
		return false
	}
	ok, err := s.Touch(context.Background(), id, []*Measure{m})
	if err != nil {
		s.log.Warn("a reaction that tightens limits is not asked", "reaction", m.ID, "error", err)
	}
	return ok && err == nil
}

// tightening is the strictest of those in force; one that is meant counts before
// one that is tried.
func (s *Store) tightening() (best *Measure) {
	for _, m := range s.Measures(uuid.Nil) {
		if m.Kind == MeasureTighten && (best == nil || best.Trial && !m.Trial || best.Trial == m.Trial && m.Divisor > best.Divisor) {
			best = m
		}
	}
	return best
}
