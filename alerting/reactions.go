package alerting

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/alerting/rule"
	"mailward/internal/pg"
	"mailward/policy"
)

var (
	reactionsSQL      = pg.Query(queryFiles, "reactions")
	insertReactionSQL = pg.Query(queryFiles, "insert_reaction")
	undoReactionSQL   = pg.Query(queryFiles, "undo_reaction")
	reactionsDueSQL   = pg.Query(queryFiles, "reactions_due")
	reactionsOverSQL  = pg.Query(queryFiles, "reactions_over")
	endReactionSQL    = pg.Query(queryFiles, "end_reaction")
	fillReactionSQL   = pg.Query(queryFiles, "fill_reaction")
	touchedSQL        = pg.Query(queryFiles, "touched")
)

const (
	// reactWithin is how long an alert may fire already when its reaction begins:
	// what was seen late, or who gives a rule one later, surprises nobody.
	reactWithin = 5 * time.Minute
	// maxReactions of one rule are in force at a time, whatever it watches.
	maxReactions = 20
)

// Reaction is one that was begun: what a rule, or a person, has done for a time.
// The gateway's processes read it from package policy.
type Reaction struct {
	ID        uuid.UUID         `json:"id"`
	Workspace uuid.UUID         `json:"workspace_id"` // zero: everywhere
	Rule      uuid.UUID         `json:"rule_id"`      // zero: begun without one
	Alert     uuid.UUID         `json:"alert_id"`
	Kind      rule.ReactionKind `json:"kind"`
	DryRun    bool              `json:"dry_run"`
	Domain    string            `json:"domain"` // of ours; "": all
	Direction string            `json:"direction"`
	Match     string            `json:"match"`
	Value     string            `json:"value"`
	Divisor   int               `json:"divisor"`
	Most      int               `json:"most"`
	Cause     string            `json:"cause"` // the rule's name, or the person's
	Reason    string            `json:"reason"`
	Author    string            `json:"author"`
	StartsAt  time.Time         `json:"starts_at"`
	EndsAt    time.Time         `json:"ends_at"`
	FullAt    time.Time         `json:"full_at,omitzero"` // it has touched as much as it may
	EndedAt   time.Time         `json:"ended_at,omitzero"`
	EndKind   string            `json:"end_kind"` // time or undo
	EndedBy   string            `json:"ended_by"`
	EndReason string            `json:"end_reason"`
	Touched   int               `json:"touched"` // mails, refusals or releases
}

// Active says whether it is in force.
func (r Reaction) Active(now time.Time) bool { return r.EndedAt.IsZero() && now.Before(r.EndsAt) }

// Reactions lists the newest, those in force first. The filter's ID is of one
// reaction; those of the whole installation are seen by everybody.
func (s *Store) Reactions(ctx context.Context, f AlertFilter, alert uuid.UUID) ([]Reaction, error) {
	rows, err := s.db.Query(ctx, reactionsSQL, pg.PlanAnew, f.workspaces(), f.Open, pg.NullID(f.ID), pg.NullID(alert))
	if err != nil {
		return nil, fmt.Errorf("read reactions: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r Reaction, err error) {
		var full, ended *time.Time
		err = row.Scan(&r.ID, &r.Workspace, &r.Rule, &r.Alert, &r.Kind, &r.DryRun, &r.Domain, &r.Direction, &r.Match, &r.Value, &r.Divisor, &r.Most,
			&r.Cause, &r.Reason, &r.Author, &r.StartsAt, &r.EndsAt, &full, &ended, &r.EndKind, &r.EndedBy, &r.EndReason, &r.Touched)
		r.FullAt, r.EndedAt = orZero(full), orZero(ended)
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("read reactions: %w", err)
	}
	return list, nil
}

// Reaction finds one that the filter lets through.
func (s *Store) Reaction(ctx context.Context, f AlertFilter, id uuid.UUID) (Reaction, error) {
	f.ID, f.Open = id, false
	list, err := s.Reactions(ctx, f, uuid.Nil)
	if err == nil && len(list) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Reaction{}, err
	}
	return list[0], nil
}

// Touch is one thing that a reaction has touched: a mail, or of tightened limits
// a refusal.
type Touch struct {
	Mail uuid.UUID `json:"mail_id"`
	At   time.Time `json:"at"`
}

// Touched lists the newest things that a reaction has touched.
func (s *Store) Touched(ctx context.Context, id uuid.UUID, limit int) ([]Touch, error) {
	rows, err := s.db.Query(ctx, touchedSQL, id, limit)
	if err != nil {
		return nil, fmt.Errorf("read what a reaction touched: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Touch])
}

// NewReaction is one that a person begins.
type NewReaction struct {
	rule.Reaction
	Workspace, Rule, Alert uuid.UUID // zero: everywhere, none, none
	Domain                 string    // of ours; "": all
	Cause                  string    // "": the person
}

// ForAlert is the reaction of an alert's rule, for this alert.
func ForAlert(a Alert) (n NewReaction, ok bool) {
	if a.Spec.Reaction == nil {
		return n, false
	}
	return NewReaction{*a.Spec.Reaction, a.Workspace, a.Rule, a.ID, domainOf(a.Spec, a.Subject), a.Spec.Name}, true
}

// domainOf is the domain of ours that the reaction of a rule is about.
func domainOf(s rule.Spec, subject string) string {
	if m, _ := rule.MetricNamed(s.Metric); m.Of == "domain" && s.Reaction.Kind != rule.Tighten {
		return subject
	}
	return ""
}

// StartReaction begins a reaction by a person's word.
func (s *Store) StartReaction(ctx context.Context, who Person, n NewReaction, reason string) (uuid.UUID, error) {
	reason = strings.TrimSpace(reason)
	if !goodReason(reason) {
		return uuid.Nil, ErrReasonRequired
	}
	if n.Domain = strings.TrimSpace(n.Domain); n.Domain != "" {
		name, err := policy.NormaliseDomain(n.Domain)
		if err != nil {
			return uuid.Nil, &rule.InvalidError{Field: "domain", Problem: "is not a domain name"}
		}
		n.Domain = name
	}
	if n.Cause == "" {
		n.Cause = who.Name
	}
	if err := n.Check(n.Domain != ""); err != nil {
		return uuid.Nil, err
	}
	if err := s.checkReaction(&n.Reaction, n.Workspace); err != nil {
		return uuid.Nil, err
	}
	id, err := s.begin(ctx, who, n, nil, reason)
	if pg.IsForeignKey(err) {
		err = ErrNotFound
	}
	if err != nil {
		return uuid.Nil, fmt.Errorf("begin reaction: %w", err)
	}
	return id, nil
}

// checkReaction refuses what cannot be done here.
func (s *Store) checkReaction(r *rule.Reaction, workspace uuid.UUID) (err error) {
	switch {
	case r.Kind == rule.Sandbox && !s.cfg.Sandbox:
		return &rule.InvalidError{Field: "reaction", Problem: "needs a sandbox, and none is set up"}
	case r.Kind == rule.Tighten && workspace != uuid.Nil:
		return &rule.InvalidError{Field: "reaction", Problem: "can tighten limits of the whole installation only: they are not told apart by workspace"}
	case r.Match == "":
		return nil
	}
	if r.Value, err = policy.CheckMatch(r.Match, r.Value); err != nil {
		return &rule.InvalidError{Field: "reaction", Problem: "looks for what cannot be found: " + err.Error()}
	}
	return nil
}

// begin stores a reaction; [ErrRunning] where the same one is in force.
func (s *Store) begin(ctx context.Context, who Person, n NewReaction, episode *int64, reason string) (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return id, err
	}
	direction := n.Direction
	if direction == "both" {
		direction = ""
	}
	err = s.db.Act(pg.WithReason(ctx, reason), who.Actor, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, insertReactionSQL, id, pg.NullID(n.Workspace), pg.NullID(n.Rule), pg.NullID(n.Alert), episode, n.Kind, n.DryRun, n.Domain, direction, n.Match, n.Value,
			max(n.Divisor, 1), n.Most, n.Cause, reason, who.id(), who.Name, n.Lasts)
		if err == nil && tag.RowsAffected() == 0 {
			return ErrRunning
		}
		return err
	})
	return id, err
}

// UndoReaction ends one before its time. What it holds stays held: letting mail
// go is a release, with all that this takes.
func (s *Store) UndoReaction(ctx context.Context, who Person, id uuid.UUID, reason string) error {
	reason = strings.TrimSpace(reason)
	if !goodReason(reason) {
		return ErrReasonRequired
	}
	if err := s.act(pg.WithReason(ctx, reason), who, undoReactionSQL, id, who.Name, who.id(), reason); err != nil {
		return fmt.Errorf("undo reaction %s: %w", id, err)
	}
	return nil
}

// byRule is the program acting for a rule, or for who began a reaction without one.
func byRule(name string, id uuid.UUID) Person {
	if id == uuid.Nil {
		return Person{Actor: pg.System("alert reaction", "begun by "+name), Name: "System"}
	}
	return Person{Actor: pg.System("alert reaction", fmt.Sprintf("rule %q (%s)", name, id)), Name: "System"}
}

// due is an alert whose reaction is to begin.
type due struct {
	alert, rule, workspace uuid.UUID
	subject                string
	episode                int64
	spec                   rule.Spec
	last                   time.Time // when the one before began; zero: there was none
	running                int       // of the rule
	now                    time.Time
}

// react begins, marks and ends reactions. It goes by what is in the database, so
// that whoever evaluates next does what a killed process has left undone.
func (s *Store) react(ctx context.Context) error {
	if err := s.endReactions(ctx); err != nil {
		return err
	}
	rows, err := s.db.Query(ctx, reactionsDueSQL, reactWithin)
	if err != nil {
		return fmt.Errorf("look for reactions that are due: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d due, err error) {
		var spec []byte
		var last *time.Time
		if err = row.Scan(&d.alert, &d.rule, &d.workspace, &d.subject, &d.episode, &spec, &last, &d.running, &d.now); err == nil {
			d.last, err = orZero(last), json.Unmarshal(spec, &d.spec)
		}
		return d, err
	})
	if err != nil {
		return fmt.Errorf("look for reactions that are due: %w", err)
	}
	begun := map[uuid.UUID]int{}
	for _, d := range list {
		if d.running+begun[d.rule] >= maxReactions || d.now.Sub(d.last) < d.spec.Cooldown {
			continue
		}
		ok, err := s.reactTo(ctx, d)
		if err != nil {
			return err
		}
		if ok {
			begun[d.rule]++
		}
	}
	return nil
}

// reactTo begins the reaction for one alert, and says whether it did.
func (s *Store) reactTo(ctx context.Context, d due) (bool, error) {
	n := NewReaction{*d.spec.Reaction, d.workspace, d.rule, d.alert, domainOf(d.spec, d.subject), d.spec.Name}
	if err := s.checkReaction(&n.Reaction, d.workspace); err != nil {
		s.log.Warn("a reaction cannot begin", "rule", d.spec.Name, "error", err)
		return false, nil
	}
	about := d.subject
	if about == "" {
		about = "everything"
	}
	id, err := s.begin(ctx, byRule(d.spec.Name, d.rule), n, &d.episode, fmt.Sprintf("the alert of the rule %q fires for %s", d.spec.Name, about))
	switch {
	case err == nil:
		s.log.Warn("a reaction to an alert begins", "reaction", id, "kind", n.Kind, "dry_run", n.DryRun, "rule", d.spec.Name, "subject", d.subject, "lasts", n.Lasts.String())
		return true, nil
	case errors.Is(err, ErrRunning):
		return false, nil
	case pg.IsForeignKey(err):
		s.log.Error("a reaction is about what there is not", "rule", d.spec.Name, "workspace", d.workspace)
		return false, nil // the others must not wait for this one
	}
	return false, fmt.Errorf("begin reaction of rule %s: %w", d.rule, err)
}

// endReactions ends those whose time is over, and marks those that are full.
func (s *Store) endReactions(ctx context.Context) error {
	type over struct {
		ID, Rule uuid.UUID
		Cause    string
		Ended    bool
	}
	rows, err := s.db.Query(ctx, reactionsOverSQL)
	if err != nil {
		return fmt.Errorf("look for reactions that are over: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[over])
	if err != nil {
		return fmt.Errorf("look for reactions that are over: %w", err)
	}
	for _, o := range list {
		sql, reason := fillReactionSQL, "it has touched as much as it may"
		if o.Ended {
			sql, reason = endReactionSQL, "its time is over"
		}
		err := s.db.Act(pg.WithReason(ctx, reason), byRule(o.Cause, o.Rule).Actor, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, sql, o.ID)
			return err
		})
		if err != nil {
			return fmt.Errorf("end reaction %s: %w", o.ID, err)
		}
		s.log.Info("a reaction to an alert changed", "reaction", o.ID, "cause", o.Cause, "why", reason)
	}
	return nil
}
