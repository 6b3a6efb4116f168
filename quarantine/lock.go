package quarantine

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/approval"
	"mailward/audit"
	"mailward/internal/pg"
)

var (
	setHoldSQL  = pg.Query(queryFiles, "set_hold")
	liftHoldSQL = pg.Query(queryFiles, "lift_hold")
	onHoldSQL   = pg.Query(queryFiles, "on_hold")
)

// SetHold keeps an item whatever its time: it is neither deleted nor does it
// expire until the hold is lifted.
func (s *Store) SetHold(ctx context.Context, actor pg.Actor, roles []string, id uuid.UUID, reason string) (Item, error) {
	if reason = strings.TrimSpace(clean(reason)); reason == "" {
		return Item{}, ErrReasonRequired
	}
	item, err := s.Get(ctx, id)
	if err != nil {
		return Item{}, err
	}
	err = s.db.Act(pg.WithReason(ctx, reason), actor, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := lockRecipients(ctx, tx, id); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, setHoldSQL, id, reason)
		if err != nil {
			return fmt.Errorf("set legal hold: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return ErrState // It is held already, or its bytes are gone.
		}
		_, err = s.audit.Append(ctx, tx, holdLockEvent(item, audit.LegalHoldSet, actor, roles, reason))
		return err
	})
	if err != nil {
		return Item{}, fmt.Errorf("hold item %s: %w", id, err)
	}
	return s.Get(ctx, id)
}

func holdLockEvent(item Item, action string, actor pg.Actor, roles []string, reason string) audit.Event {
	return audit.Event{Action: action, Workspace: item.Workspace, Actor: actor, Roles: roles, Reason: reason, Retention: audit.Retention3Years,
		Targets:     []audit.Target{{Type: "quarantine_item", ID: item.ID.String(), Label: string(item.Class)}},
		Correlation: audit.Correlation{MailID: item.MailID.String(), ItemID: item.ID.String()}}
}

// LiftHold ends a hold where one person is enough; where four eyes are wanted it
// waits for a second one, and waiting says so.
func (s *Store) LiftHold(ctx context.Context, actor pg.Actor, roles []string, id uuid.UUID, reason string) (waiting bool, err error) {
	if reason = strings.TrimSpace(clean(reason)); reason == "" {
		return false, ErrReasonRequired
	}
	item, err := s.Get(ctx, id)
	if err != nil {
		return false, err
	}
	if item.LegalHoldAt == nil {
		return false, ErrState
	}
	err = s.db.Act(pg.WithReason(ctx, reason), actor, func(ctx context.Context, tx pgx.Tx) error {
		mode, err := approval.FourEyes(ctx, tx)
		if err != nil {
			return err
		}
		if waiting = mode == Required; waiting {
			_, err := s.asks().Ask(ctx, tx, actor, roles, approval.Ask{Workspace: &item.Workspace, Kind: approval.LegalHold, Action: audit.LegalHoldAsk, Reason: reason,
				Detail: map[string]any{"item_id": id.String()}, Targets: []audit.Target{{Type: "quarantine_item", ID: id.String(), Label: string(item.Class)}}})
			return err
		}
		return s.lift(ctx, tx, actor, roles, item, reason)
	})
	if err != nil {
		return false, fmt.Errorf("lift hold of item %s: %w", id, err)
	}
	return waiting, nil
}

func (s *Store) asks() *approval.Store { return approval.New(s.db, s.audit, s.now) }

func (s *Store) lift(ctx context.Context, tx pgx.Tx, actor pg.Actor, roles []string, item Item, reason string) error {
	if _, err := lockRecipients(ctx, tx, item.ID); err != nil {
		return err
	}
	tag, err := tx.Exec(ctx, liftHoldSQL, item.ID)
	if err != nil {
		return fmt.Errorf("lift legal hold: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrState
	}
	_, err = s.audit.Append(ctx, tx, holdLockEvent(item, audit.LegalHoldLift, actor, roles, reason))
	return err
}

// DecideHold is a second person's word on a hold that is to be lifted.
func (s *Store) DecideHold(ctx context.Context, actor pg.Actor, roles []string, request uuid.UUID, yes bool, comment string) error {
	comment = strings.TrimSpace(clean(comment))
	return s.db.Act(pg.WithReason(ctx, comment), actor, func(ctx context.Context, tx pgx.Tx) error {
		p, err := s.asks().Decide(ctx, tx, actor, roles, request, approval.Word{Yes: yes, Comment: comment, Action: decided(yes, audit.LegalHoldApprove, audit.LegalHoldDeny)})
		if err != nil || !yes {
			return err
		}
		var d struct {
			Item uuid.UUID `json:"item_id"`
		}
		if err := json.Unmarshal(p.Detail, &d); err != nil || p.Kind != approval.LegalHold {
			return approval.ErrForged
		}
		item, err := s.Get(ctx, d.Item)
		if err != nil {
			return err
		}
		return s.lift(ctx, tx, actor, roles, item, p.Reason)
	})
}

func decided(yes bool, approve, deny string) string {
	if yes {
		return approve
	}
	return deny
}

// notOnHold refuses what a legal hold forbids. The item's recipients are locked.
func notOnHold(ctx context.Context, tx pgx.Tx, id uuid.UUID) error {
	var held bool
	if err := tx.QueryRow(ctx, onHoldSQL, id).Scan(&held); err != nil {
		return fmt.Errorf("look for a legal hold: %w", err)
	}
	if held {
		return ErrLegalHold
	}
	return nil
}

// ChangeRule sets what a workspace wants of a class. A rule that lets fewer people
// decide waits for a second person where four eyes are wanted, and waiting says so.
func (s *Store) ChangeRule(ctx context.Context, actor pg.Actor, roles []string, workspace uuid.UUID, r Rule, reason string) (waiting bool, err error) {
	if reason = strings.TrimSpace(clean(reason)); reason == "" {
		return false, ErrReasonRequired
	}
	if !r.valid() {
		return false, ErrBadRule
	}
	if waiting, err = s.Loosens(ctx, workspace, r); err != nil || !waiting {
		if err == nil {
			err = s.PutRule(ctx, actor, workspace, r, reason)
		}
		return false, err
	}
	if err := s.stillOf(ctx, workspace, r); err != nil {
		return false, err
	}
	err = s.db.Act(pg.WithReason(ctx, reason), actor, func(ctx context.Context, tx pgx.Tx) error {
		_, err := s.asks().Ask(ctx, tx, actor, roles, approval.Ask{Workspace: &workspace, Kind: approval.ReleaseRule, Action: audit.ReleaseRuleAsk, Reason: reason,
			Detail: map[string]any{"class": string(r.Class), "people": r.People, "request_hours": r.RequestHours, "keep_days": r.KeepDays, "version": r.Version}})
		return err
	})
	if err != nil {
		return false, fmt.Errorf("ask for a rule of the quarantine: %w", err)
	}
	return true, nil
}

// stillOf refuses to ask for what nobody could agree to: somebody else has changed
// the rule since it was looked at.
func (s *Store) stillOf(ctx context.Context, workspace uuid.UUID, r Rule) error {
	rules, err := s.Rules(ctx, workspace)
	if err != nil {
		return err
	}
	for _, now := range rules {
		if now.Class == r.Class && now.Version != r.Version {
			return ErrState
		}
	}
	return nil
}

// DecideRule is a second person's word on a rule that waits.
func (s *Store) DecideRule(ctx context.Context, actor pg.Actor, roles []string, request uuid.UUID, yes bool, comment string) error {
	comment = strings.TrimSpace(clean(comment))
	return s.db.Act(pg.WithReason(ctx, comment), actor, func(ctx context.Context, tx pgx.Tx) error {
		p, err := s.asks().Decide(ctx, tx, actor, roles, request, approval.Word{Yes: yes, Comment: comment, Action: decided(yes, audit.ReleaseRuleApprove, audit.ReleaseRuleDeny)})
		if err != nil || !yes {
			return err
		}
		var r Rule
		if err := json.Unmarshal(p.Detail, &r); err != nil || p.Kind != approval.ReleaseRule || p.Workspace == nil || !r.valid() {
			return approval.ErrForged
		}
		return putRule(ctx, tx, *p.Workspace, r)
	})
}
