package quarantine

import (
	"context"
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

// Approve is a second person's yes to the oldest request for an item.
func (s *Store) Approve(ctx context.Context, actor pg.Actor, roles []string, id uuid.UUID, comment string) (Item, error) {
	return s.Decide(ctx, actor, roles, id, Word{Yes: true, Comment: comment})
}

// Deny is a second person's no.
func (s *Store) Deny(ctx context.Context, actor pg.Actor, roles []string, id uuid.UUID, comment string) (Item, error) {
	return s.Decide(ctx, actor, roles, id, Word{Comment: comment})
}

// Word is what a second person says to a request.
type Word struct {
	Release uuid.UUID // zero: the oldest request for the item
	Yes     bool
	Comment string // why not; it must be given with a no
}

// Decide puts a second person's word on record, and with a yes hands the mail to
// the delivery queue. That person has not asked, and is no recipient of it.
func (s *Store) Decide(ctx context.Context, actor pg.Actor, roles []string, id uuid.UUID, w Word) (Item, error) {
	w.Comment = strings.TrimSpace(clean(w.Comment))
	if !w.Yes && w.Comment == "" {
		return Item{}, ErrReasonRequired
	}
	item, err := s.Get(ctx, id)
	if err != nil {
		return Item{}, err
	}
	var only *uuid.UUID
	if w.Release != uuid.Nil {
		only = &w.Release
	}
	err = s.db.Act(pg.WithReason(ctx, w.Comment), actor, func(ctx context.Context, tx pgx.Tx) error {
		all, err := lockRecipients(ctx, tx, item.ID)
		if err != nil {
			return err
		}
		var rel release
		if err := rel.scan(tx.QueryRow(ctx, pendingReleaseSQL, item.ID, only)); errors.Is(err, pgx.ErrNoRows) {
			return ErrState
		} else if err != nil {
			return fmt.Errorf("read the request: %w", err)
		}
		if rel.ExpiresAt != nil && rel.ExpiresAt.Before(s.now()) {
			return ErrState // Its time is over; the sweep will say so.
		}
		if err := approval.SecondPerson(ctx, tx, actor, rel.RequestedBy, s.now()); err != nil {
			return err
		}
		var own bool
		if err := tx.QueryRow(ctx, isRecipientSQL, item.ID, actor.UserID).Scan(&own); err != nil {
			return fmt.Errorf("look whether the second person is a recipient: %w", err)
		}
		if own && w.Yes { // To keep one's own mail held takes nobody else.
			return ErrOwnMail
		}
		return s.writeDecision(ctx, tx, actor, roles, item, all, rel, w.Comment, w.Yes)
	})
	if err != nil {
		return Item{}, fmt.Errorf("decide on release of item %s: %w", id, err)
	}
	return s.Get(ctx, id)
}

func (s *Store) writeDecision(ctx context.Context, tx pgx.Tx, actor pg.Actor, roles []string, item Item, all []ItemRecipient, rel release, comment string, yes bool) error {
	action, state := audit.ReleaseApprove, "approved"
	if !yes {
		action, state = audit.ReleaseDeny, "denied"
	}
	event, err := s.audit.Append(ctx, tx, audit.Event{Action: action, Workspace: item.Workspace, Actor: actor, Roles: roles, Reason: comment, Retention: audit.Retention3Years,
		Targets:     []audit.Target{{Type: "quarantine_item", ID: item.ID.String(), Label: string(item.Class)}, {Type: "release", ID: rel.ID.String()}},
		Approval:    &audit.Approval{Mode: rel.Mode, RequestedBy: rel.askedBy().String(), Approvers: []string{actor.UserID.String()}},
		Correlation: audit.Correlation{MailID: item.MailID.String(), ItemID: item.ID.String(), CausationID: rel.Intent.String()}})
	if err != nil {
		return err
	}
	approvalID, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make approval id: %w", err)
	}
	if _, err := tx.Exec(ctx, insertApprovalSQL, approvalID, item.Workspace, rel.ID, rel.person(), actor.UserID, state, comment, event); err != nil {
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
		if err := s.queue(ctx, tx, rel, chosen, s.cfg.TakeBack); err != nil {
			return err
		}
		return setStates(ctx, tx, item.ID, rel.Recipients, ReleaseScheduled)
	}
	// A copy that may have arrived is no denied one: nobody may think that it did not.
	var denied, unknown []uuid.UUID
	for _, r := range rel.Recipients {
		if rel.prior[r] == OutcomeUnknown {
			unknown = append(unknown, r)
		} else {
			denied = append(denied, r)
		}
	}
	if err := setStates(ctx, tx, item.ID, unknown, OutcomeUnknown); err != nil {
		return err
	}
	return setStates(ctx, tx, item.ID, denied, Denied)
}

// person is the account that asked; nil where a recipient did.
func (r release) person() *uuid.UUID {
	if r.RequestedBy == uuid.Nil {
		return nil
	}
	return &r.RequestedBy
}

// askedBy is the account that asked, or else the recipient.
func (r release) askedBy() uuid.UUID {
	if r.AskedBy != nil {
		return *r.AskedBy
	}
	return r.RequestedBy
}

// ExpireRequests ends requests that nobody has answered in time. The copies are
// what they were before. It returns how many it ended.
func (s *Store) ExpireRequests(ctx context.Context) (n int, err error) {
	actor := pg.System("quarantine expiry", "end of a request's time")
	err = s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		rels, err := readReleases(ctx, tx, expiredRequestsSQL, s.now(), 200)
		if err != nil {
			return err
		}
		for _, rel := range rels {
			if err := s.expireRequest(ctx, tx, actor, rel); err != nil {
				return err
			}
		}
		n = len(rels)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("end requests that nobody answered: %w", err)
	}
	return n, nil
}

func (s *Store) expireRequest(ctx context.Context, tx pgx.Tx, actor pg.Actor, rel release) error {
	all, err := lockRecipients(ctx, tx, rel.Item)
	if err != nil {
		return err
	}
	var waiting []uuid.UUID
	for _, r := range all {
		if r.State == ReleaseRequested && slices.Contains(rel.Recipients, r.ID) {
			waiting = append(waiting, r.ID)
		}
	}
	if err := restoreStates(ctx, tx, rel, waiting); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, decideReleaseSQL, rel.ID, "expired"); err != nil {
		return fmt.Errorf("end request: %w", err)
	}
	var ev = audit.Event{Action: audit.ReleaseExpire, Actor: actor, Retention: audit.Retention3Years,
		Targets:     []audit.Target{{Type: "quarantine_item", ID: rel.Item.String()}, {Type: "release", ID: rel.ID.String()}},
		Correlation: audit.Correlation{ItemID: rel.Item.String(), CausationID: rel.Intent.String()}}
	var mail uuid.UUID
	if err := tx.QueryRow(ctx, itemPlaceSQL, rel.Item).Scan(&ev.Workspace, &mail); err != nil {
		return fmt.Errorf("read item: %w", err)
	}
	ev.Correlation.MailID = mail.String()
	_, err = s.audit.Append(ctx, tx, ev)
	return err
}
