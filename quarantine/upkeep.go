package quarantine

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

// Expire ends the items whose time is over: the bytes go, the rows stay. Mail
// that is on its way out is left alone. It returns how many it ended.
func (s *Store) Expire(ctx context.Context) (int, error) {
	rows, err := s.db.Query(ctx, expiredSQL, s.now(), 500)
	if err != nil {
		return 0, fmt.Errorf("find expired items: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return 0, fmt.Errorf("find expired items: %w", err)
	}
	n := 0
	errs := []error{s.ExpireMarks(ctx)}
	for _, id := range ids {
		if err := s.expireOne(ctx, id); err != nil {
			errs = append(errs, err)
			continue
		}
		n++
	}
	return n, errors.Join(errs...)
}

func (s *Store) expireOne(ctx context.Context, id uuid.UUID) error {
	item, err := s.Get(ctx, id)
	if err != nil {
		return err
	}
	var gone bool
	err = s.db.Act(ctx, pg.System("quarantine expiry", "end of the retention time"), func(ctx context.Context, tx pgx.Tx) error {
		all, err := lockRecipients(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := notOnHold(ctx, tx, id); err != nil {
			return err
		}
		var ids []uuid.UUID
		for _, r := range all {
			switch r.State {
			case Delivering, ReleaseScheduled:
				return ErrState
			case Held, Quarantined, ReleaseRequested, Denied, Failed:
				ids = append(ids, r.ID)
			}
		}
		if err := setStates(ctx, tx, id, ids, Expired); err != nil {
			return err
		}
		gone, err = removeItemBlob(ctx, tx, item)
		return err
	})
	if err != nil {
		return fmt.Errorf("expire item %s: %w", id, err)
	}
	if !gone {
		return nil
	}
	return s.blobs.remove(ctx, item.ref.Name)
}
