package quarantine

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
)

// Delete gives a held mail up for good: no recipient gets it any more, and its
// bytes go, unless the same mail is held in another item: then they are no longer
// to be had through this one, and go with the last.
func (s *Store) Delete(ctx context.Context, actor pg.Actor, roles []string, id uuid.UUID, reason string) (Item, error) {
	reason = strings.TrimSpace(clean(reason))
	if reason == "" {
		return Item{}, ErrReasonRequired
	}
	item, err := s.Get(ctx, id)
	if err != nil {
		return Item{}, err
	}
	var gone bool
	err = s.db.Act(pg.WithReason(ctx, reason), actor, func(ctx context.Context, tx pgx.Tx) error {
		all, err := lockRecipients(ctx, tx, item.ID)
		if err != nil {
			return err
		}
		if err := notOnHold(ctx, tx, item.ID); err != nil {
			return err
		}
		item.Recipients = all
		if !item.Deletable() {
			return ErrState
		}
		var ids []uuid.UUID
		for _, r := range all {
			if r.State == Held || r.State == Quarantined || r.State == Failed || r.State == Denied {
				ids = append(ids, r.ID)
			}
		}
		_, err = s.audit.Append(ctx, tx, audit.Event{Action: audit.ItemDelete, Workspace: item.Workspace, Actor: actor, Roles: roles, Reason: reason, Retention: audit.Retention3Years,
			Targets:     []audit.Target{{Type: "quarantine_item", ID: item.ID.String(), Label: string(item.Class)}},
			Correlation: audit.Correlation{MailID: item.MailID.String(), ItemID: item.ID.String()}})
		if err != nil {
			return err
		}
		if err := setStates(ctx, tx, item.ID, ids, Deleted); err != nil {
			return err
		}
		gone, err = removeItemBlob(ctx, tx, item)
		return err
	})
	if err != nil {
		return Item{}, fmt.Errorf("delete item %s: %w", id, err)
	}
	if !gone { // the same mail is held in another item
		return s.Get(ctx, id)
	}
	if err := s.blobs.remove(ctx, item.ref.Name); err != nil {
		s.log.Error("bytes of a deleted item stay until the next sweep", "item", id, "error", err)
	}
	return s.Get(ctx, id)
}
