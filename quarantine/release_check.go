package quarantine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
	"mailward/policy"
)

// ReleasedCopy is what a delivery is about to send.
type ReleasedCopy struct {
	Item, Recipient uuid.UUID
	Address         string
	BlobName        string
}

// CheckRelease says whether a delivery is what people have decided, by what the
// audit says: the intent is there, by the same person, for this item and these
// recipients, and where two people are needed another one agreed. The address
// and the bytes must be the item's own. The worker asks before each attempt, in
// its transaction.
func (s *Store) CheckRelease(ctx context.Context, tx pgx.Tx, releaseID uuid.UUID, c ReleasedCopy) (intent uuid.UUID, err error) {
	var rel release
	if err := rel.scan(tx.QueryRow(ctx, releaseSQL, releaseID)); errors.Is(err, pgx.ErrNoRows) {
		return uuid.Nil, fmt.Errorf("%w: there is no such release", ErrReleaseForged)
	} else if err != nil {
		return uuid.Nil, fmt.Errorf("read release: %w", err)
	}
	if err := checkMode(ctx, tx, rel); err != nil {
		return uuid.Nil, err
	}
	if rel.Item != c.Item || !slices.Contains(rel.Recipients, c.Recipient) {
		return uuid.Nil, fmt.Errorf("%w: it does not name the recipient", ErrReleaseForged)
	}
	var same bool
	if err := tx.QueryRow(ctx, sameCopySQL, c.Item, c.Recipient, c.Address, c.BlobName).Scan(&same); err != nil {
		return uuid.Nil, fmt.Errorf("compare delivery with item: %w", err)
	}
	if !same {
		return uuid.Nil, fmt.Errorf("%w: its address or mail is not the item's", ErrReleaseForged)
	}
	if rel.State != "approved" && rel.State != "done" {
		return uuid.Nil, fmt.Errorf("%w: it is %s", ErrReleaseForged, rel.State)
	}
	want := expected{action: audit.ReleaseExecute, mode: rel.Mode, by: rel.RequestedBy.String(), actor: pg.ActorUser, class: rel.Class}
	switch {
	case rel.AskedBy != nil:
		want.by, want.actor = "", pg.ActorRecipient
	case rel.Mode == BySandbox:
		want.action, want.by, want.actor, want.class = audit.SandboxRelease, "", pg.ActorSystem, ""
	}
	if rel.Mode == Required {
		want.action = audit.ReleaseRequest
	}
	want.targets = append(slices.Clone(rel.Recipients), rel.ID, rel.Item)
	if err := checkEvent(ctx, tx, rel.Intent, want); err != nil {
		return uuid.Nil, err
	}
	if rel.Mode == Required {
		if err := checkApprovals(ctx, tx, rel); err != nil {
			return uuid.Nil, err
		}
	}
	return rel.Intent, nil
}

// checkMode makes sure that the rules of the time of a release let so many
// people decide as did.
func checkMode(ctx context.Context, tx pgx.Tx, rel release) error {
	var allowed bool
	if err := tx.QueryRow(ctx, modeAllowedSQL, rel.ID, classNames(takesTwo())).Scan(&allowed); err != nil {
		return fmt.Errorf("look up the rules of a release: %w", err)
	}
	if !allowed {
		return fmt.Errorf("%w: it skips the second person that was needed", ErrReleaseForged)
	}
	return nil
}

// expected is what the event behind a release should say.
type expected struct {
	action, mode, by string
	actor            pg.ActorType
	class            policy.Class // of the item at the time; "": not compared
	targets          []uuid.UUID  // exactly these
}

// checkEvent compares an event's bytes with what they should say.
func checkEvent(ctx context.Context, tx pgx.Tx, id uuid.UUID, want expected) error {
	var b []byte
	if err := tx.QueryRow(ctx, eventBytesSQL, id).Scan(&b); errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("%w: the audit has no event for it", ErrReleaseForged)
	} else if err != nil {
		return fmt.Errorf("read audit event: %w", err)
	}
	var e struct {
		Action   string
		Actor    struct{ ID, Type string }
		Approval struct{ Mode string }
		Targets  []struct{ ID, Type, Label string }
	}
	if err := json.Unmarshal(b, &e); err != nil {
		return fmt.Errorf("%w: its event cannot be read", ErrReleaseForged)
	}
	got, ok := map[string]bool{}, true
	for _, t := range e.Targets {
		got[t.ID] = true
		ok = ok && (want.class == "" || t.Type != "quarantine_item" || t.Label == string(want.class))
	}
	ok = ok && e.Action == want.action && e.Approval.Mode == want.mode && e.Actor.ID == want.by && e.Actor.Type == string(want.actor) && len(got) == len(want.targets)
	for _, t := range want.targets {
		ok = ok && got[t.String()]
	}
	if !ok {
		return fmt.Errorf("%w: its event tells of something else", ErrReleaseForged)
	}
	return nil
}

func checkApprovals(ctx context.Context, tx pgx.Tx, rel release) error {
	rows, err := tx.Query(ctx, approvalsSQL, rel.ID)
	if err != nil {
		return fmt.Errorf("read approvals: %w", err)
	}
	type approval struct{ Approver, Event uuid.UUID }
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[approval])
	if err != nil {
		return fmt.Errorf("read approvals: %w", err)
	}
	for _, a := range found {
		if a.Approver == rel.RequestedBy {
			continue
		}
		if err := checkEvent(ctx, tx, a.Event, expected{action: audit.ReleaseApprove, mode: rel.Mode, by: a.Approver.String(), actor: pg.ActorUser, targets: []uuid.UUID{rel.ID, rel.Item}}); err == nil {
			return nil
		} else if !errors.Is(err, ErrReleaseForged) {
			return err
		}
	}
	return fmt.Errorf("%w: no second person agreed", ErrReleaseForged)
}
