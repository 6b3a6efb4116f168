package quarantine

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

var holdsSQL = pg.Query(queryFiles, "holds")

// HoldPlace is a place in the list of legal holds; the zero one is its beginning.
type HoldPlace struct {
	At time.Time
	ID uuid.UUID
}

// Holds lists the items of these workspaces that are under a legal hold, the newest
// hold first, and where the list goes on; nil: it does not.
func (s *Store) Holds(ctx context.Context, workspaces []uuid.UUID, after HoldPlace, limit int) (list []Item, next *HoldPlace, err error) {
	if workspaces == nil {
		workspaces = []uuid.UUID{} // none, and not NULL
	}
	var at *time.Time
	if !after.At.IsZero() {
		at = &after.At
	}
	rows, err := s.db.Query(ctx, holdsSQL, pg.PlanAnew, workspaces, at, after.ID, limit+1)
	if err != nil {
		return nil, nil, fmt.Errorf("read legal holds: %w", err)
	}
	if list, err = pgx.CollectRows(rows, scanItem); err != nil {
		return nil, nil, fmt.Errorf("read legal holds: %w", err)
	}
	if len(list) > limit {
		list = list[:limit]
		next = &HoldPlace{At: *list[limit-1].LegalHoldAt, ID: list[limit-1].ID}
	}
	return list, next, s.addRecipients(ctx, list)
}
