package quarantine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/approval"
	"mailward/audit"
	"mailward/internal/pg"
)

// The ways in which a release needs other people.
const (
	SingleOperator = approval.SingleOperator
	Required       = approval.Required
)

// ReleaseRequest is what a person wants released.
type ReleaseRequest struct {
	Reason     string
	Recipients []string // addresses; none: all that can be released
}

// FourEyes reads the installation's setting.
func (s *Store) FourEyes(ctx context.Context) (string, error) { return approval.FourEyes(ctx, s.db) }

// Release puts a person's decision on record and, where one person is enough,
// hands the mail to the delivery queue; otherwise it waits for a second one.
// The rows of the recipients are locked, so that of two clicks one wins and
// the other gets [ErrState].
func (s *Store) Release(ctx context.Context, actor pg.Actor, roles []string, id uuid.UUID, req ReleaseRequest) (Item, error) {
	reason := strings.TrimSpace(clean(req.Reason))
	if reason == "" {
		return Item{}, ErrReasonRequired
	}
	mode, err := s.FourEyes(ctx)
	if err != nil {
		return Item{}, err
	}
	item, err := s.Get(ctx, id)
	if err != nil {
		return Item{}, err
	}
	if item.BlobRemovedAt != nil {
		return Item{}, ErrGone
	}
	err = s.db.Act(pg.WithReason(ctx, reason), actor, func(ctx context.Context, tx pgx.Tx) error {
		chosen, err := s.lockAndChoose(ctx, tx, item, req.Recipients)
		if err != nil {
			return err
		}
		return s.writeRelease(ctx, tx, actor, roles, item, chosen, reason, mode)
	})
	if err != nil {
		return Item{}, fmt.Errorf("release item %s: %w", id, err)
	}
	return s.Get(ctx, id)
}

// lockAndChoose locks the item's recipients and picks those that are asked for.
func (s *Store) lockAndChoose(ctx context.Context, tx pgx.Tx, item Item, addresses []string) ([]ItemRecipient, error) {
	all, err := lockRecipients(ctx, tx, item.ID)
	if err != nil {
		return nil, err
	}
	var chosen []ItemRecipient
	if len(addresses) == 0 {
		chosen = slices.DeleteFunc(slices.Clone(all), func(r ItemRecipient) bool { return !r.State.releasable() })
	}
	for _, a := range addresses {
		i := slices.IndexFunc(all, func(r ItemRecipient) bool { return strings.EqualFold(r.Address, a) })
		switch {
		case i < 0:
			return nil, ErrNoRecipient
		case !all[i].State.releasable():
			return nil, ErrState
		case !slices.ContainsFunc(chosen, func(r ItemRecipient) bool { return r.ID == all[i].ID }):
			chosen = append(chosen, all[i])
		}
	}
	if len(chosen) == 0 {
		return nil, ErrState
	}
	return chosen, nil
}

func lockRecipients(ctx context.Context, tx pgx.Tx, item uuid.UUID) ([]ItemRecipient, error) {
	rows, err := tx.Query(ctx, lockRecipientsSQL, item)
	if err != nil {
		return nil, fmt.Errorf("lock recipients: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (r ItemRecipient, err error) {
		err = row.Scan(&r.ID, &r.Address, &r.State, &r.ReplyCode, &r.ReplyText, &r.UpdatedAt)
		return r, err
	})
}

func (s *Store) writeRelease(ctx context.Context, tx pgx.Tx, actor pg.Actor, roles []string, item Item, chosen []ItemRecipient, reason, mode string) error {
	action, state, next := audit.ReleaseExecute, "approved", ReleaseScheduled
	if mode == Required {
		action, state, next = audit.ReleaseRequest, "requested", ReleaseRequested
	}
	releaseID, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make release id: %w", err)
	}
	ids := make([]uuid.UUID, len(chosen))
	targets := []audit.Target{{Type: "quarantine_item", ID: item.ID.String(), Label: string(item.Class)}, {Type: "release", ID: releaseID.String()}}
	for i, r := range chosen {
		ids[i] = r.ID
		targets = append(targets, audit.Target{Type: "quarantine_recipient", ID: r.ID.String(), PII: r.Address})
	}
	intent, err := s.audit.Append(ctx, tx, audit.Event{Action: action, Phase: "intent", Workspace: item.Workspace, Actor: actor, Roles: roles, Targets: targets,
		Reason: reason, Retention: audit.Retention3Years, Approval: &audit.Approval{Mode: mode, RequestedBy: actor.UserID.String(), Approvers: []string{}},
		Correlation: audit.Correlation{MailID: item.MailID.String(), ItemID: item.ID.String()}})
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, insertReleaseSQL, releaseID, item.Workspace, item.ID, ids, intent, actor.UserID, reason, mode, state); err != nil {
		return fmt.Errorf("insert release: %w", err)
	}
	if mode == SingleOperator {
		if err := s.queue(ctx, tx, releaseID, chosen); err != nil {
			return err
		}
	}
	return setStates(ctx, tx, item.ID, ids, next)
}

// queue writes one delivery per recipient. An index of the database allows at
// most one that is under way or done.
func (s *Store) queue(ctx context.Context, tx pgx.Tx, releaseID uuid.UUID, to []ItemRecipient) error {
	for _, r := range to {
		id, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("make delivery id: %w", err)
		}
		_, err = tx.Exec(ctx, insertDeliverySQL, id, r.ID, releaseID, s.now().Add(s.cfg.GiveUpAfter))
		if pg.IsUnique(err, "delivery_once_idx") {
			return ErrState
		}
		if err != nil {
			return fmt.Errorf("queue delivery: %w", err)
		}
	}
	return nil
}

func setStates(ctx context.Context, tx pgx.Tx, item uuid.UUID, recipients []uuid.UUID, st State) error {
	if _, err := tx.Exec(ctx, setStateSQL, recipients, string(st)); err != nil {
		return fmt.Errorf("set state of recipients: %w", err)
	}
	return refreshItemState(ctx, tx, item)
}

// refreshItemState stores what follows from the recipients' states.
func refreshItemState(ctx context.Context, tx pgx.Tx, item uuid.UUID) error {
	all, err := lockRecipients(ctx, tx, item)
	if err != nil {
		return err
	}
	states := make([]State, len(all))
	for i, r := range all {
		states[i] = r.State
	}
	if _, err := tx.Exec(ctx, deriveStateSQL, item, string(derive(states))); err != nil {
		return fmt.Errorf("set state of item: %w", err)
	}
	return nil
}

// SetDelivery is the worker's: it notes how the delivery of one copy goes and
// what the next hop said, in the worker's transaction.
func (s *Store) SetDelivery(ctx context.Context, tx pgx.Tx, item, recipient uuid.UUID, st State, code int, text string) error {
	// All rows of the item, in order: two copies may end at the same moment.
	if _, err := lockRecipients(ctx, tx, item); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, setReplySQL, recipient, code, clean(text)); err != nil {
		return fmt.Errorf("store reply of next hop: %w", err)
	}
	return setStates(ctx, tx, item, []uuid.UUID{recipient}, st)
}

// CloseRelease ends a release when none of its deliveries is under way any more.
func (s *Store) CloseRelease(ctx context.Context, tx pgx.Tx, releaseID uuid.UUID) error {
	if _, err := tx.Exec(ctx, closeReleaseSQL, releaseID); err != nil {
		return fmt.Errorf("close release: %w", err)
	}
	return nil
}

// Approve is a second person's yes to a requested release.
func (s *Store) Approve(ctx context.Context, actor pg.Actor, roles []string, id uuid.UUID, comment string) (Item, error) {
	return s.decide(ctx, actor, roles, id, comment, true)
}

// Deny is a second person's no.
func (s *Store) Deny(ctx context.Context, actor pg.Actor, roles []string, id uuid.UUID, comment string) (Item, error) {
	if strings.TrimSpace(comment) == "" {
		return Item{}, ErrReasonRequired
	}
	return s.decide(ctx, actor, roles, id, comment, false)
}

func (s *Store) decide(ctx context.Context, actor pg.Actor, roles []string, id uuid.UUID, comment string, yes bool) (Item, error) {
	item, err := s.Get(ctx, id)
	if err != nil {
		return Item{}, err
	}
	comment = strings.TrimSpace(clean(comment))
	err = s.db.Act(pg.WithReason(ctx, comment), actor, func(ctx context.Context, tx pgx.Tx) error {
		all, err := lockRecipients(ctx, tx, item.ID)
		if err != nil {
			return err
		}
		var rel release
		if err := rel.scan(tx.QueryRow(ctx, pendingReleaseSQL, item.ID)); errors.Is(err, pgx.ErrNoRows) {
			return ErrState
		} else if err != nil {
			return fmt.Errorf("read the request: %w", err)
		}
		if err := approval.SecondPerson(ctx, tx, actor, rel.RequestedBy, s.now()); err != nil {
			return err
		}
		return s.writeDecision(ctx, tx, actor, roles, item, all, rel, comment, yes)
	})
	if err != nil {
		return Item{}, fmt.Errorf("decide on release of item %s: %w", id, err)
	}
	return s.Get(ctx, id)
}

func (s *Store) writeDecision(ctx context.Context, tx pgx.Tx, actor pg.Actor, roles []string, item Item, all []ItemRecipient, rel release, comment string, yes bool) error {
	action, word, state, next := audit.ReleaseApprove, "approved", "approved", ReleaseScheduled
	if !yes {
		action, word, state, next = audit.ReleaseDeny, "denied", "denied", Denied
	}
	event, err := s.audit.Append(ctx, tx, audit.Event{Action: action, Workspace: item.Workspace, Actor: actor, Roles: roles, Reason: comment, Retention: audit.Retention3Years,
		Targets:     []audit.Target{{Type: "quarantine_item", ID: item.ID.String(), Label: string(item.Class)}, {Type: "release", ID: rel.ID.String()}},
		Approval:    &audit.Approval{Mode: rel.Mode, RequestedBy: rel.RequestedBy.String(), Approvers: []string{actor.UserID.String()}},
		Correlation: audit.Correlation{MailID: item.MailID.String(), ItemID: item.ID.String(), CausationID: rel.Intent.String()}})
	if err != nil {
		return err
	}
	approvalID, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make approval id: %w", err)
	}
	if _, err := tx.Exec(ctx, insertApprovalSQL, approvalID, item.Workspace, rel.ID, rel.RequestedBy, actor.UserID, word, comment, event); err != nil {
		return fmt.Errorf("insert approval: %w", err)
	}
	if _, err := tx.Exec(ctx, decideReleaseSQL, rel.ID, state); err != nil {
		return fmt.Errorf("decide release: %w", err)
	}
	chosen := slices.DeleteFunc(slices.Clone(all), func(r ItemRecipient) bool { return !slices.Contains(rel.Recipients, r.ID) })
	if item.BlobRemovedAt != nil || slices.ContainsFunc(chosen, func(r ItemRecipient) bool { return r.State != ReleaseRequested }) {
		return ErrState // It has expired while it waited.
	}
	if yes {
		if err := s.queue(ctx, tx, rel.ID, chosen); err != nil {
			return err
		}
	}
	return setStates(ctx, tx, item.ID, rel.Recipients, next)
}

// Delete gives a held mail up for good: no recipient gets it any more, and its
// bytes go.
func (s *Store) Delete(ctx context.Context, actor pg.Actor, roles []string, id uuid.UUID, reason string) (Item, error) {
	reason = strings.TrimSpace(clean(reason))
	if reason == "" {
		return Item{}, ErrReasonRequired
	}
	item, err := s.Get(ctx, id)
	if err != nil {
		return Item{}, err
	}
	err = s.db.Act(pg.WithReason(ctx, reason), actor, func(ctx context.Context, tx pgx.Tx) error {
		all, err := lockRecipients(ctx, tx, item.ID)
		if err != nil {
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
		_, err = tx.Exec(ctx, blobRemovedSQL, item.ID)
		return err
	})
	if err != nil {
		return Item{}, fmt.Errorf("delete item %s: %w", id, err)
	}
	if err := s.blobs.Remove(item.ref); err != nil {
		s.log.Error("bytes of a deleted item stay until the next sweep", "item", id, "error", err)
	}
	return s.Get(ctx, id)
}

// release is a row of that table.
type release struct {
	ID, Item, Intent, RequestedBy uuid.UUID
	Recipients                    []uuid.UUID
	Mode, State                   string
}

func (r *release) scan(row pgx.Row) error {
	return row.Scan(&r.ID, &r.Item, &r.Recipients, &r.Intent, &r.RequestedBy, &r.Mode, &r.State)
}

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
	var allowed bool
	err = tx.QueryRow(ctx, releaseSQL, releaseID).Scan(&rel.ID, &rel.Item, &rel.Recipients, &rel.Intent, &rel.RequestedBy, &rel.Mode, &rel.State, &allowed)
	if errors.Is(err, pgx.ErrNoRows) {
		return uuid.Nil, fmt.Errorf("%w: there is no such release", ErrReleaseForged)
	}
	if err != nil {
		return uuid.Nil, fmt.Errorf("read release: %w", err)
	}
	if !allowed {
		return uuid.Nil, fmt.Errorf("%w: it skips the second person that was needed", ErrReleaseForged)
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
	want := audit.ReleaseExecute
	by := rel.RequestedBy.String()
	switch rel.Mode {
	case Required:
		want = audit.ReleaseRequest
	case BySandbox:
		want, by = audit.SandboxRelease, ""
	}
	if err := checkEvent(ctx, tx, rel.Intent, want, rel.Mode, by, append(slices.Clone(rel.Recipients), rel.ID, rel.Item)); err != nil {
		return uuid.Nil, err
	}
	if rel.Mode == Required {
		if err := checkApprovals(ctx, tx, rel); err != nil {
			return uuid.Nil, err
		}
	}
	return rel.Intent, nil
}

// checkEvent compares an event's bytes with what they should say: the action,
// how many people it needs, the person ("" is System), and exactly these targets.
func checkEvent(ctx context.Context, tx pgx.Tx, id uuid.UUID, action, mode, by string, targets []uuid.UUID) error {
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
		Targets  []struct{ ID string }
	}
	if err := json.Unmarshal(b, &e); err != nil {
		return fmt.Errorf("%w: its event cannot be read", ErrReleaseForged)
	}
	got := map[string]bool{}
	for _, t := range e.Targets {
		got[t.ID] = true
	}
	ok := e.Action == action && e.Approval.Mode == mode && e.Actor.ID == by && (by == "") == (e.Actor.Type == string(pg.ActorSystem)) && len(got) == len(targets)
	for _, t := range targets {
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
		if err := checkEvent(ctx, tx, a.Event, audit.ReleaseApprove, rel.Mode, a.Approver.String(), []uuid.UUID{rel.ID, rel.Item}); err == nil {
			return nil
		} else if !errors.Is(err, ErrReleaseForged) {
			return err
		}
	}
	return fmt.Errorf("%w: no second person agreed", ErrReleaseForged)
}
