package alerting

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/alerting/rule"
	"mailward/internal/pg"
)

var (
	rulesSQL         = pg.Query(queryFiles, "rules")
	insertRuleSQL    = pg.Query(queryFiles, "insert_rule")
	insertVersionSQL = pg.Query(queryFiles, "insert_version")
	updateRuleSQL    = pg.Query(queryFiles, "update_rule")
	switchRuleSQL    = pg.Query(queryFiles, "switch_rule")
	deleteRuleSQL    = pg.Query(queryFiles, "delete_rule")
	versionsSQL      = pg.Query(queryFiles, "versions")
	activeRulesSQL   = pg.Query(queryFiles, "active_rules")
)

// Rule is a rule as people see it.
type Rule struct {
	ID        uuid.UUID `json:"id"`
	Workspace uuid.UUID `json:"workspace_id"` // zero: the installation's, over all
	Pack      string    `json:"pack,omitempty"`
	Enabled   bool      `json:"enabled"`
	Number    int       `json:"number"` // of the version in use
	Spec      rule.Spec `json:"spec"`
	Version   int64     `json:"version"`
	UpdatedAt time.Time `json:"updated_at"`
	ChangedBy string    `json:"changed_by"`
	ChangedAt time.Time `json:"changed_at"`
	Reason    string    `json:"reason,omitempty"`
	LastFired time.Time `json:"last_fired,omitzero"`
	Fired7d   int       `json:"fired_7d"`
}

// Version of a rule.
type Version struct {
	Number    int       `json:"number"`
	Spec      rule.Spec `json:"spec"`
	Reason    string    `json:"reason"`
	Author    string    `json:"author"`
	CreatedAt time.Time `json:"created_at"`
}

func scanRule(row pgx.CollectableRow) (r Rule, err error) {
	var spec []byte
	var fired *time.Time
	err = row.Scan(&r.ID, &r.Workspace, &r.Pack, &r.Enabled, &r.Number, &spec, &r.Version, &r.UpdatedAt, &r.ChangedBy, &r.ChangedAt, &r.Reason, &fired, &r.Fired7d)
	if err == nil {
		r.LastFired, err = orZero(fired), json.Unmarshal(spec, &r.Spec)
	}
	return r, err
}

// Rules lists all rules by name.
func (s *Store) Rules(ctx context.Context) ([]Rule, error) {
	rows, err := s.db.Query(ctx, rulesSQL, nil)
	if err != nil {
		return nil, fmt.Errorf("read alert rules: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanRule)
	if err != nil {
		return nil, fmt.Errorf("read alert rules: %w", err)
	}
	return list, nil
}

// Rule finds one.
func (s *Store) Rule(ctx context.Context, id uuid.UUID) (Rule, error) {
	rows, err := s.db.Query(ctx, rulesSQL, id)
	if err != nil {
		return Rule{}, fmt.Errorf("read alert rule: %w", err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, scanRule)
	if errors.Is(err, pgx.ErrNoRows) {
		return Rule{}, ErrNotFound
	}
	return r, err
}

// Versions of a rule, the newest first.
func (s *Store) Versions(ctx context.Context, id uuid.UUID) ([]Version, error) {
	rows, err := s.db.Query(ctx, versionsSQL, id)
	if err != nil {
		return nil, fmt.Errorf("read versions of alert rule: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (v Version, err error) {
		var spec []byte
		if err = row.Scan(&v.Number, &spec, &v.Reason, &v.Author, &v.CreatedAt); err == nil {
			err = json.Unmarshal(spec, &v.Spec)
		}
		return v, err
	})
}

// PutRule makes a rule, or a new version of the one with its id that is still of
// its version. A rule about what is critical needs a reason.
func (s *Store) PutRule(ctx context.Context, who Person, r Rule, reason string) (Rule, error) {
	if err := r.Spec.Check(); err != nil {
		return Rule{}, err
	}
	reason = strings.TrimSpace(reason)
	if len([]rune(reason)) > 500 || r.ID != uuid.Nil && r.Spec.Severity == rule.Critical && !goodReason(reason) {
		return Rule{}, ErrReasonRequired
	}
	if err := s.checkChannels(ctx, r); err != nil {
		return Rule{}, err
	}
	if r.Spec.Reaction != nil {
		if err := s.checkReaction(r.Spec.Reaction, r.Workspace); err != nil {
			return Rule{}, err
		}
	}
	spec, err := json.Marshal(r.Spec)
	if err != nil {
		return Rule{}, fmt.Errorf("encode alert rule: %w", err)
	}
	id := r.ID
	err = s.db.Act(pg.WithReason(ctx, reason), who.Actor, func(ctx context.Context, tx pgx.Tx) (err error) {
		number := 1
		if r.ID == uuid.Nil {
			if id, err = uuid.NewV7(); err != nil {
				return err
			}
			_, err = tx.Exec(ctx, insertRuleSQL, id, pg.NullID(r.Workspace), nil, spec)
		} else {
			err = tx.QueryRow(ctx, updateRuleSQL, id, r.Version, spec, r.Enabled).Scan(&number)
			if errors.Is(err, pgx.ErrNoRows) {
				return ErrConflict
			}
		}
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, insertVersionSQL, id, number, spec, reason, who.id(), who.Name)
		return err
	})
	if err != nil {
		return Rule{}, fmt.Errorf("store alert rule %s: %w", r.Spec.Name, err)
	}
	return s.Rule(ctx, id)
}

// checkChannels refuses channels that are not there or belong to others.
func (s *Store) checkChannels(ctx context.Context, r Rule) error {
	if len(r.Spec.Channels) == 0 {
		return nil
	}
	all, err := s.Channels(ctx)
	if err != nil {
		return err
	}
	for _, id := range r.Spec.Channels {
		if !slices.ContainsFunc(all, func(c Channel) bool { return c.ID == id && c.serves(r.Workspace) }) {
			return &rule.InvalidError{Field: "channels", Problem: "has one that there is not"}
		}
	}
	return nil
}

// Revert makes an old version the newest one.
func (s *Store) Revert(ctx context.Context, who Person, id uuid.UUID, version int64, number int, reason string) (Rule, error) {
	if !goodReason(strings.TrimSpace(reason)) {
		return Rule{}, ErrReasonRequired
	}
	r, err := s.Rule(ctx, id)
	if err != nil {
		return Rule{}, err
	}
	list, err := s.Versions(ctx, id)
	if err != nil {
		return Rule{}, err
	}
	i := slices.IndexFunc(list, func(v Version) bool { return v.Number == number })
	if i < 0 {
		return Rule{}, ErrNotFound
	}
	r.Version, r.Spec = version, list[i].Spec
	return s.PutRule(ctx, who, r, reason)
}

// SwitchRule switches a rule on or off.
func (s *Store) SwitchRule(ctx context.Context, who Person, id uuid.UUID, version int64, on bool, reason string) error {
	if !on && !goodReason(strings.TrimSpace(reason)) {
		return ErrReasonRequired
	}
	return s.act(pg.WithReason(ctx, strings.TrimSpace(reason)), who, switchRuleSQL, id, version, on)
}

// DeleteRule removes a rule. What it has seen stays.
func (s *Store) DeleteRule(ctx context.Context, who Person, id uuid.UUID, version int64, reason string) error {
	if !goodReason(strings.TrimSpace(reason)) {
		return ErrReasonRequired
	}
	return s.act(pg.WithReason(ctx, strings.TrimSpace(reason)), who, deleteRuleSQL, id, version)
}

// act runs one statement that has to meet a row.
func (s *Store) act(ctx context.Context, who Person, sql string, args ...any) error {
	return s.db.Act(ctx, who.Actor, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, sql, args...)
		return changed(tag.RowsAffected(), err)
	})
}

// activeRules are those that are evaluated.
func (s *Store) activeRules(ctx context.Context) ([]rule.Rule, error) {
	rows, err := s.db.Query(ctx, activeRulesSQL)
	if err != nil {
		return nil, fmt.Errorf("read alert rules: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (r rule.Rule, err error) {
		var spec []byte
		if err = row.Scan(&r.ID, &r.Number, &r.Workspace, &spec); err == nil {
			err = json.Unmarshal(spec, &r.Spec)
		}
		return r, err
	})
}
