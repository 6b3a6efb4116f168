package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

// Policies lists all policies.
func (s *Store) Policies(ctx context.Context) ([]Policy, error) {
	rows, err := s.db.Query(ctx, policiesSQL)
	if err != nil {
		return nil, fmt.Errorf("read policies: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Policy, error) { return scanPolicy(row) })
}

func scanPolicy(row pgx.Row) (p Policy, err error) {
	var actions, auth []byte
	if err = row.Scan(&p.ID, &p.Workspace, &p.Domain, &p.Direction, &actions, &auth, &p.Version, &p.UpdatedAt); err != nil {
		return p, err
	}
	if p.Direction == Inbound {
		p.Auth = &AuthSettings{}
		if err := json.Unmarshal(auth, p.Auth); err != nil {
			return p, fmt.Errorf("policy of %s: auth: %w", p.Domain, err)
		}
	}
	return p, json.Unmarshal(actions, &p.Actions)
}

// Policy reads the policy of one domain, or "*". A domain that we serve without
// a policy of its own gives the workspace's, marked as inherited, version 0.
func (s *Store) Policy(ctx context.Context, workspace uuid.UUID, domain string, dir Direction) (Policy, error) {
	domain, err := keptName(domain)
	if err != nil {
		return Policy{}, ErrNotFound
	}
	all, err := s.Policies(ctx)
	if err != nil {
		return Policy{}, err
	}
	for _, p := range all {
		if p.Workspace == workspace && p.Domain == domain && p.Direction == dir {
			return p, nil
		}
	}
	r, ok := s.Lookup("postmaster@" + domain)
	snap := s.snap.Load()
	if ok && snap != nil && r.Domain.Workspace == workspace {
		p := snap.policyFor(r.Domain, dir)
		p.Domain, p.Version, p.Inherited = r.Domain.Name, 0, true
		return p, nil
	}
	return Policy{}, ErrNotFound
}

// PutPolicy changes the policy of a domain that we serve, or of "*", and makes
// it where there is none. Without Auth the settings that were there stay.
// version is the one that the caller has read, 0 where there was none: when
// somebody else has changed the policy since, it is [ErrConflict]. nil is for
// who wants this policy whatever was there.
func (s *Store) PutPolicy(ctx context.Context, actor pg.Actor, p Policy, version *int64) (Policy, error) {
	actions, auth, err := s.checkPolicy(&p)
	if err != nil {
		return Policy{}, err
	}
	err = s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		if version != nil && *version != 0 {
			p, err = scanPolicy(tx.QueryRow(ctx, updatePolicySQL, p.Workspace, p.Domain, p.Direction, actions, auth, *version))
			return err
		}
		query := putPolicySQL
		if version != nil {
			query = insertPolicySQL
		}
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		p, err = scanPolicy(tx.QueryRow(ctx, query, id, p.Workspace, p.Domain, p.Direction, actions, auth))
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return Policy{}, ErrConflict
	}
	if err != nil {
		return Policy{}, fmt.Errorf("store policy of %s: %w", p.Domain, err)
	}
	return p, s.Load(ctx)
}

// DeletePolicy takes a domain's own policy away, so that the workspace's is in
// force for it. The workspace's own, "*", stays: without it nothing is decided.
func (s *Store) DeletePolicy(ctx context.Context, actor pg.Actor, workspace uuid.UUID, domain string, dir Direction) error {
	if domain == "*" {
		return &InvalidError{"domain", "must not be *: the default policy can be changed, not deleted"}
	}
	domain, err := keptName(domain)
	if err != nil {
		return ErrNotFound
	}
	err = s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, deletePolicySQL, workspace, domain, dir)
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

// checkPolicy fills in what is left out, and encodes what is kept as JSON.
func (s *Store) checkPolicy(p *Policy) (actions, auth []byte, err error) {
	if p.Workspace == uuid.Nil {
		p.Workspace = DefaultWorkspace
	}
	if p.Direction == "" {
		p.Direction = Inbound
	}
	if p.Domain, err = keptName(p.Domain); err != nil {
		return nil, nil, err
	}
	if p.Domain != "*" {
		if r, ok := s.Lookup("x@" + p.Domain); !ok || r.Domain.Workspace != p.Workspace {
			return nil, nil, ErrNotFound
		}
	}
	if p.Direction != Inbound && p.Direction != Outbound {
		return nil, nil, &InvalidError{"direction", fmt.Sprintf("must be inbound or outbound, is %q", p.Direction)}
	}
	if err := checkActions(p.Actions); err != nil {
		return nil, nil, err
	}
	if actions, err = json.Marshal(p.Actions); err != nil {
		return nil, nil, fmt.Errorf("encode policy: %w", err)
	}
	if p.Auth == nil {
		return actions, nil, nil
	}
	if p.Direction == Outbound {
		return nil, nil, &InvalidError{"auth", "is about mail that comes in: leave it out for outbound"}
	}
	if err := p.Auth.check(); err != nil {
		return nil, nil, err
	}
	auth, err = json.Marshal(p.Auth)
	return actions, auth, err
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
	if len(actions) == 0 {
		return &InvalidError{"actions", "must name at least one class"}
	}
	return nil
}
