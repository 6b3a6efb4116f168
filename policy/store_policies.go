package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

// Policies lists all policies, each a layer of its own.
func (s *Store) Policies(ctx context.Context) ([]Policy, error) {
	rows, err := s.db.Query(ctx, policiesSQL)
	if err != nil {
		return nil, fmt.Errorf("read policies: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Policy, error) { return scanPolicy(row) })
}

// storedLines is how the lines of a policy beside actions and authentication
// are kept.
type storedLines struct {
	Thresholds    Thresholds         `json:"thresholds,omitzero"`
	Weights       map[string]float64 `json:"weights,omitempty"`
	EngineFailure map[string]Action  `json:"engine_failure,omitempty"`
	Sandbox       json.RawMessage    `json:"sandbox,omitempty"`
	DLPSets       []string           `json:"dlp_sets,omitzero"`
}

func scanPolicy(row pgx.Row) (p Policy, err error) {
	var actions, auth, lines []byte
	var group *uuid.UUID
	if err = row.Scan(&p.ID, &p.Workspace, &p.Domain, &group, &p.Direction, &actions, &auth, &lines, &p.Version, &p.UpdatedAt); err != nil {
		return p, err
	}
	if group != nil {
		p.Group = *group
	}
	if p.Direction == Inbound {
		p.Auth = &AuthSettings{}
		if err := json.Unmarshal(auth, p.Auth); err != nil {
			return p, fmt.Errorf("policy of %s: auth: %w", p.Domain, err)
		}
	}
	var l storedLines
	if err := json.Unmarshal(lines, &l); err != nil {
		return p, fmt.Errorf("policy of %s: lines: %w", p.Domain, err)
	}
	p.Thresholds, p.Weights, p.EngineFailure, p.Sandbox, p.DLPSets = l.Thresholds, l.Weights, l.EngineFailure, l.Sandbox, l.DLPSets
	return p, json.Unmarshal(actions, &p.Actions)
}

// Policy reads the policy of one domain, or "*". A domain that we serve without
// a policy of its own gives the workspace's, marked as inherited, version 0.
func (s *Store) Policy(ctx context.Context, workspace uuid.UUID, domain string, dir Direction) (Policy, error) {
	domain, err := keptName(domain)
	if err != nil {
		return Policy{}, ErrNotFound
	}
	p, err := s.Layer(ctx, Policy{Workspace: workspace, Domain: domain, Direction: dir})
	if !errors.Is(err, ErrNotFound) {
		return p, err
	}
	r, ok := s.Lookup("postmaster@" + domain)
	snap := s.snap.Load()
	if ok && snap != nil && r.Domain.Workspace == workspace {
		p, _ := snap.policyFor(r.Domain, dir, "")
		p.Domain, p.Version, p.Inherited = r.Domain.Name, 0, true
		return p, nil
	}
	return Policy{}, ErrNotFound
}

// Layer reads one layer from the database: that of which's workspace, domain,
// group and direction.
func (s *Store) Layer(ctx context.Context, which Policy) (Policy, error) {
	var err error
	if which.Domain, err = keptName(which.Domain); err != nil {
		return Policy{}, ErrNotFound
	}
	all, err := s.Policies(ctx)
	if err != nil {
		return Policy{}, err
	}
	for _, p := range all {
		if p.key() == which.key() {
			return p, nil
		}
	}
	return Policy{}, ErrNotFound
}

// PutPolicy sets one layer: of a workspace ("*"), of a domain that we serve, or
// of a group. What p leaves out is inherited from then on. version is the one
// that the caller has read, 0 where there was none: when somebody else has
// changed the layer since, it is [ErrConflict]. nil is for who wants this
// policy whatever was there.
func (s *Store) PutPolicy(ctx context.Context, actor pg.Actor, p Policy, version *int64) (Policy, error) {
	if err := s.checkPolicy(&p); err != nil {
		return Policy{}, err
	}
	actions, auth, lines, err := p.encode()
	if err != nil {
		return Policy{}, fmt.Errorf("encode policy of %s: %w", p.Domain, err)
	}
	var stored Policy
	err = s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		was, err := scanPolicy(tx.QueryRow(ctx, lockPolicySQL, p.Workspace, p.Domain, pg.NullID(p.Group), p.Direction))
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if version != nil && *version != was.Version {
			return ErrConflict
		}
		if was.ID != uuid.Nil {
			stored, err = scanPolicy(tx.QueryRow(ctx, updatePolicySQL, was.ID, actions, auth, lines))
			return err
		}
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		stored, err = scanPolicy(tx.QueryRow(ctx, insertPolicySQL, id, p.Workspace, p.Domain, pg.NullID(p.Group), p.Direction, actions, auth, lines))
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrConflict // somebody has just made it
		}
		return err
	})
	if err != nil {
		return Policy{}, fmt.Errorf("store policy of %s: %w", p.Domain, err)
	}
	return stored, s.Load(ctx)
}

// DeletePolicy takes a domain's own policy away, so that the workspace's is in
// force for it. The workspace's own, "*", stays: without it nothing is decided.
func (s *Store) DeletePolicy(ctx context.Context, actor pg.Actor, workspace uuid.UUID, domain string, dir Direction) error {
	return s.DeleteLayer(ctx, actor, Policy{Workspace: workspace, Domain: domain, Direction: dir})
}

// DeleteLayer takes the layer away that which names: all of its lines are
// inherited from then on.
func (s *Store) DeleteLayer(ctx context.Context, actor pg.Actor, which Policy) error {
	if which.Domain == "*" && which.Group == uuid.Nil {
		return &InvalidError{"domain", "must not be *: the default policy can be changed, not deleted"}
	}
	domain, err := keptName(which.Domain)
	if err != nil {
		return ErrNotFound
	}
	err = s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, deletePolicySQL, which.Workspace, domain, pg.NullID(which.Group), which.Direction)
		if err == nil && tag.RowsAffected() == 0 {
			return ErrNotFound
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("delete policy of %s: %w", domain, err)
	}
	return s.Load(ctx)
}

// keptName is the name under which a policy is kept: a domain, or "*".
func keptName(domain string) (string, error) {
	if domain == "*" {
		return domain, nil
	}
	return NormaliseDomain(domain)
}

// encode makes the JSON that is kept of a policy.
func (p Policy) encode() (actions, auth, lines []byte, err error) {
	if p.Actions == nil {
		p.Actions = map[Class]Action{}
	}
	if p.Auth == nil {
		p.Auth = &AuthSettings{}
	}
	var errs [3]error
	actions, errs[0] = json.Marshal(p.Actions)
	auth, errs[1] = json.Marshal(p.Auth)
	lines, errs[2] = json.Marshal(storedLines{p.Thresholds, p.Weights, p.EngineFailure, p.Sandbox, p.DLPSets})
	return actions, auth, lines, errors.Join(errs[:]...)
}

// checkPolicy fills in what is left out, and refuses what cannot work.
func (s *Store) checkPolicy(p *Policy) (err error) {
	if p.Workspace == uuid.Nil {
		p.Workspace = DefaultWorkspace
	}
	if p.Direction == "" {
		p.Direction = Inbound
	}
	if p.Domain, err = keptName(p.Domain); err != nil {
		return err
	}
	if p.Group != uuid.Nil {
		if g, ok := s.Group(p.Group); !ok || g.Workspace != p.Workspace || p.Domain != "*" {
			return ErrNotFound
		}
	}
	if p.Domain != "*" {
		if r, ok := s.Lookup("x@" + p.Domain); !ok || r.Domain.Workspace != p.Workspace {
			return ErrNotFound
		}
	}
	if p.Direction != Inbound && p.Direction != Outbound {
		return &InvalidError{"direction", fmt.Sprintf("must be inbound or outbound, is %q", p.Direction)}
	}
	if err := checkActions(p.Actions); err != nil {
		return err
	}
	if err := p.checkLines(); err != nil {
		return err
	}
	if p.Auth == nil {
		return nil
	}
	if p.Direction == Outbound {
		return &InvalidError{"auth", "is about mail that comes in: leave it out for outbound"}
	}
	return p.Auth.check()
}

func checkActions(actions map[Class]Action) error {
	for c, a := range actions {
		if !slices.Contains(Classes(), c) {
			return &InvalidError{"actions", fmt.Sprintf("names a class %q that does not exist", c)}
		}
		if !slices.Contains(Actions(), a) {
			return &InvalidError{"actions", fmt.Sprintf("names an action %q that does not exist", a)}
		}
	}
	return nil
}

// Bounds of a policy's lines.
const (
	maxThreshold = 1000.0
	maxWeight    = 100.0
	maxWeights   = 500
	maxEngines   = 50
	maxSets      = 200
	maxSandbox   = 16 << 10 // bytes
)

// checkLines refuses lines that cannot work.
func (p *Policy) checkLines() error {
	for _, t := range []float64{p.Thresholds.Spam, p.Thresholds.Phishing} {
		if math.IsNaN(t) || t < 0 || t > maxThreshold {
			return &InvalidError{"thresholds", fmt.Sprintf("must be over 0 and %g at most; 0 is as the layer below has it", maxThreshold)}
		}
	}
	if c := p.Thresholds.Intel; math.IsNaN(c) || c < 0 || c > 100 {
		return &InvalidError{"thresholds", "of intel is a confidence from 1 to 100; 0 is as the layer below has it"}
	}
	if len(p.Weights) > maxWeights || len(p.EngineFailure) > maxEngines || len(p.DLPSets) > maxSets || len(p.Sandbox) > maxSandbox {
		return &InvalidError{"policy", "has more weights, engines or sets than can be"}
	}
	for symbol, w := range p.Weights {
		if !goodName(symbol) || math.IsNaN(w) || math.Abs(w) > maxWeight {
			return &InvalidError{"weights", fmt.Sprintf("has %q: a symbol's name has no spaces, and its weight is -%g to %g", symbol, maxWeight, maxWeight)}
		}
	}
	for engine, a := range p.EngineFailure {
		if !goodName(engine) || a != Defer && a != Quarantine {
			// Hold would let the mail go once the sandbox is content: it is no
			// stand-in for an engine that has said nothing.
			return &InvalidError{"engine_failure", fmt.Sprintf("of %q must be defer or quarantine: what an engine has not seen never passes", engine)}
		}
	}
	for _, set := range p.DLPSets {
		if !goodName(strings.ReplaceAll(set, " ", "_")) {
			return &InvalidError{"dlp_sets", fmt.Sprintf("has %q, which cannot be a set's name", set)}
		}
	}
	if _, err := ParseSandbox(p.Sandbox); err != nil {
		return err
	}
	return nil
}

func goodName(s string) bool {
	return s != "" && len(s) <= 200 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == 0xfffd })
}

// With is the store as it would be with p as one of its layers: to find out what
// a policy would do before it is saved. It is for [Store.Lookup] and
// [Store.Outbound] only.
func (s *Store) With(p Policy) (*Store, error) {
	if err := s.checkPolicy(&p); err != nil {
		return nil, err
	}
	snap := s.snap.Load()
	if snap == nil {
		return nil, ErrNotFound
	}
	changed := *snap
	changed.policies = maps.Clone(snap.policies)
	if p.ID == uuid.Nil {
		if p.ID = changed.policies[p.key()].ID; p.ID == uuid.Nil {
			p.ID = uuid.New() // a layer that is not there yet
		}
	}
	changed.policies[p.key()] = p
	draft := &Store{db: s.db, log: s.log, now: s.now}
	draft.static.Store(s.static.Load())
	draft.snap.Store(&changed)
	return draft, nil
}
