package quarantine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/approval"
	"mailward/internal/pg"
	"mailward/policy"
)

var (
	rulesSQL   = pg.Query(queryFiles, "rules")
	ruleSQL    = pg.Query(queryFiles, "rule")
	putRuleSQL = pg.Query(queryFiles, "put_rule")
)

// requestFor is how long a request waits for a second person where nothing else
// is said.
const requestFor = 72 * time.Hour

// takesTwo are the classes whose release takes two people where the installation
// wants four eyes and the workspace says nothing: what may do harm, and what may
// be that and could not be told.
func takesTwo() []policy.Class {
	return []policy.Class{policy.Malware, policy.Phishing, policy.DLP, policy.Suspicious, policy.Unscannable}
}

func classNames(list []policy.Class) []string {
	out := make([]string, len(list))
	for i, c := range list {
		out[i] = string(c)
	}
	return out
}

// HeldClasses are those that mail can be held as.
func HeldClasses() []policy.Class {
	return slices.DeleteFunc(policy.Classes(), func(c policy.Class) bool { return c == policy.Clean })
}

// Rule is what a workspace wants of a class of held mail. What is zero follows
// the installation.
type Rule struct {
	Class        policy.Class `json:"class"`
	People       int          `json:"people" enum:"0,1,2" doc:"that a release takes; 0: as the installation says"`
	RequestHours int          `json:"request_hours" minimum:"0" maximum:"720" doc:"that a request waits; 0: 72"`
	KeepDays     int          `json:"keep_days" minimum:"0" maximum:"3650" doc:"that the mail is kept; 0: as the installation says"`
	Version      int64        `json:"version"`
	// Mode is what a release takes now.
	Mode string `json:"mode"`
}

func (r Rule) valid() bool {
	return slices.Contains(HeldClasses(), r.Class) && r.People >= 0 && r.People <= 2 && r.RequestHours >= 0 && r.RequestHours <= 720 && r.KeepDays >= 0 && r.KeepDays <= 3650
}

// Rules lists those of a workspace, one for each class.
func (s *Store) Rules(ctx context.Context, workspace uuid.UUID) ([]Rule, error) {
	four, err := s.FourEyes(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := s.db.Query(ctx, rulesSQL, workspace)
	if err != nil {
		return nil, fmt.Errorf("read rules of the quarantine: %w", err)
	}
	set := map[policy.Class]Rule{}
	var r Rule
	_, err = pgx.ForEachRow(rows, []any{&r.Class, &r.People, &r.RequestHours, &r.KeepDays, &r.Version}, func() error {
		set[r.Class] = r
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read rules of the quarantine: %w", err)
	}
	var out []Rule
	for _, c := range HeldClasses() {
		r := set[c]
		r.Class, r.Mode = c, mode(four, c, r.People)
		out = append(out, r)
	}
	return out, nil
}

// mode is how many people a release of a class takes.
func mode(four string, c policy.Class, people int) string {
	switch {
	case people == 2:
		return Required
	case four == SingleOperator:
		return SingleOperator
	case people == 1 || !slices.Contains(takesTwo(), c):
		return OnePerson
	}
	return Required
}

// ReleaseMode says what a release of a class takes in a workspace now.
func (s *Store) ReleaseMode(ctx context.Context, workspace uuid.UUID, c policy.Class) (string, error) {
	r, err := releaseRule(ctx, s.db, workspace, c)
	return r.Mode, err
}

// rule is what counts for one release or one held mail.
type rule struct {
	Mode string
	Wait time.Duration // of a request
	Keep time.Duration // 0: as the installation says
}

type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func releaseRule(ctx context.Context, q querier, workspace uuid.UUID, c policy.Class) (rule, error) {
	four, err := approval.FourEyes(ctx, q)
	if err != nil {
		return rule{}, err
	}
	var people, hours, days int
	if err := q.QueryRow(ctx, ruleSQL, workspace, string(c)).Scan(&people, &hours, &days); err != nil {
		return rule{}, fmt.Errorf("read rule of the quarantine: %w", err)
	}
	r := rule{Mode: mode(four, c, people), Wait: requestFor, Keep: time.Duration(days) * 24 * time.Hour}
	if hours > 0 {
		r.Wait = time.Duration(hours) * time.Hour
	}
	return r, nil
}

// Loosens says whether a rule lets fewer people decide than the one in force:
// that itself takes two people where the installation wants four eyes.
func (s *Store) Loosens(ctx context.Context, workspace uuid.UUID, r Rule) (bool, error) {
	four, err := s.FourEyes(ctx)
	if err != nil || four == SingleOperator {
		return false, err
	}
	now, err := s.ReleaseMode(ctx, workspace, r.Class)
	return now == Required && mode(four, r.Class, r.People) != Required, err
}

// PutRule sets what a workspace wants of a class, if its rule is still of the
// version that was looked at: else it is [ErrState].
func (s *Store) PutRule(ctx context.Context, actor pg.Actor, workspace uuid.UUID, r Rule, reason string) error {
	if !r.valid() {
		return ErrBadRule
	}
	return s.db.Act(pg.WithReason(ctx, reason), actor, func(ctx context.Context, tx pgx.Tx) error { return putRule(ctx, tx, workspace, r) })
}

func putRule(ctx context.Context, tx pgx.Tx, workspace uuid.UUID, r Rule) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make rule id: %w", err)
	}
	tag, err := tx.Exec(ctx, putRuleSQL, id, workspace, string(r.Class), r.People, r.RequestHours, r.KeepDays, r.Version)
	if err != nil {
		return fmt.Errorf("store rule of the quarantine: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrState
	}
	return nil
}
