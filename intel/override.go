package intel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
	"mailward/policy"
)

// Errors of the store.
var (
	ErrNotFound       = errors.New("intel: not found")
	ErrBadCursor      = errors.New("intel: bad cursor")
	ErrReasonRequired = errors.New("intel: a reason is required")
)

// allowMost is how long an allow may last: a site that is cleaned up today can be
// taken over again.
const allowMost = 366 * 24 * time.Hour

func scanOverride(row pgx.CollectableRow) (o Override, err error) {
	err = row.Scan(&o.ID, &o.Workspace, &o.Effect, &o.Kind, &o.Value, &o.Class, &o.Owner, &o.Reason, &o.ExpiresAt, &o.CreatedBy, &o.Version, &o.CreatedAt, &o.UpdatedAt)
	return o, err
}

func invalid(field, format string, args ...any) error {
	return &policy.InvalidError{Field: field, Problem: fmt.Sprintf(format, args...)}
}

func (o *Override) check(now time.Time) error {
	v, err := Parse(o.Kind, o.Value)
	if err != nil {
		return invalid("value", "%s", strings.TrimPrefix(err.Error(), errValue.Error()+": "))
	}
	o.Kind, o.Value = v.Kind, v.Text
	o.Owner, o.Reason = strings.TrimSpace(o.Owner), strings.TrimSpace(o.Reason)
	switch o.Effect {
	case Block:
		if o.Class = cmp.Or(o.Class, policy.Phishing); !slices.Contains(Classes(), o.Class) {
			return invalid("class", "must be malware, phishing, suspicious or spam")
		}
		if why := v.Harmless(); why != "" {
			return invalid("value", "%s: a block of it would stop half of all mail", why)
		}
	case Allow:
		o.Class = ""
		if o.ExpiresAt == nil || o.ExpiresAt.After(now.Add(allowMost)) {
			return invalid("expires_at", "must be given for an allow, and be within a year")
		}
	default:
		return invalid("effect", "must be allow or block")
	}
	switch {
	case o.ExpiresAt != nil && !o.ExpiresAt.After(now):
		return invalid("expires_at", "is past")
	case len(o.Reason) < 3 || len(o.Reason) > 500:
		return invalid("reason", "must be said, in 500 bytes at most")
	case o.Owner == "" || len(o.Owner) > 320:
		return invalid("owner", "must be somebody who can be asked")
	}
	return nil
}

// AddOverride makes an override; it is in force from then on.
func (s *Store) AddOverride(ctx context.Context, actor pg.Actor, o Override) (Override, error) {
	err := o.check(s.now())
	if err != nil {
		return Override{}, err
	}
	if o.ID, err = uuid.NewV7(); err != nil {
		return Override{}, fmt.Errorf("make id of override: %w", err)
	}
	o.CreatedBy = cmp.Or(actor.Email, actor.Display, string(actor.Type))
	err = s.db.Act(pg.WithReason(ctx, o.Reason), actor, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, insertOverrideSQL, o.ID, o.Workspace, o.Effect, o.Kind, o.Value, o.Class, o.Owner, o.Reason, o.ExpiresAt, o.CreatedBy, maxOverrides)
		if err == nil && tag.RowsAffected() == 0 {
			return invalid("value", "cannot be added: there are %d overrides already", maxOverrides)
		}
		return err
	})
	if err != nil {
		return Override{}, fmt.Errorf("store override: %w", err)
	}
	if err := s.LoadOverrides(ctx); err != nil {
		return Override{}, err
	}
	return s.Override(ctx, o.ID)
}

// Override reads one.
func (s *Store) Override(ctx context.Context, id uuid.UUID) (Override, error) {
	rows, err := s.db.Query(ctx, getOverrideSQL, id)
	if err != nil {
		return Override{}, fmt.Errorf("read override %s: %w", id, err)
	}
	o, err := pgx.CollectExactlyOneRow(rows, scanOverride)
	if errors.Is(err, pgx.ErrNoRows) {
		return o, ErrNotFound
	}
	return o, err
}

// EndOverride takes one away. The reason goes on record.
func (s *Store) EndOverride(ctx context.Context, actor pg.Actor, id uuid.UUID, reason string) error {
	if len(strings.TrimSpace(reason)) < 3 {
		return ErrReasonRequired
	}
	err := s.db.Act(pg.WithReason(ctx, reason), actor, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, deleteOverrideSQL, id)
		if err == nil && tag.RowsAffected() == 0 {
			return ErrNotFound
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("delete override %s: %w", id, err)
	}
	return s.LoadOverrides(ctx)
}

// OverrideFilter selects overrides. Those of the installation are always among
// them, as they count for everybody.
type OverrideFilter struct {
	Workspaces []uuid.UUID
	Query      string
	State      string // active, ended or ""
	Cursor     string
	Limit      int // default 50, at most 500
}

// Overrides reads one page, newest first.
func (s *Store) Overrides(ctx context.Context, f OverrideFilter) (list []Override, next string, err error) {
	var cursor *uuid.UUID
	if f.Cursor != "" {
		id, err := uuid.Parse(f.Cursor)
		if err != nil {
			return nil, "", ErrBadCursor
		}
		cursor = &id
	}
	limit := min(cmp.Or(max(f.Limit, 0), 50), 500)
	like := ""
	if q := strings.ToValidUTF8(strings.ReplaceAll(strings.TrimSpace(f.Query), "\x00", ""), ""); q != "" {
		like = "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(strings.ToLower(refang.Replace(q))) + "%"
	}
	rows, err := s.db.Query(ctx, listOverridesSQL, pg.PlanAnew, append([]uuid.UUID{}, f.Workspaces...), f.State, s.now(), cursor, limit+1, like)
	if err != nil {
		return nil, "", fmt.Errorf("list overrides: %w", err)
	}
	if list, err = pgx.CollectRows(rows, scanOverride); err != nil {
		return nil, "", fmt.Errorf("list overrides: %w", err)
	}
	if len(list) > limit {
		list = list[:limit]
		next = list[limit-1].ID.String()
	}
	return list, next, nil
}
