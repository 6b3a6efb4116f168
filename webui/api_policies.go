package webui

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"mailward/identity"
	"mailward/policy"
)

type domainInput struct {
	Body struct {
		Name      string `json:"name" minLength:"1" maxLength:"253"`
		NextHop   string `json:"next_hop,omitempty" maxLength:"300" doc:"host:port; empty: the configured default"`
		Workspace string `json:"workspace_id,omitempty" format:"uuid" doc:"empty: the default workspace"`
	}
}

type ByDomain struct {
	Domain string `path:"domain" maxLength:"253" doc:"a domain, or * for the default"`
}

// ByPolicy names one policy.
type ByPolicy struct {
	ByDomain
	Direction policy.Direction `query:"direction" enum:"inbound,outbound" default:"inbound" doc:"outbound: of mail that the domain sends"`
}

type policyInput struct {
	ByPolicy
	Body struct {
		Actions map[policy.Class]policy.Action `json:"actions" doc:"what is done with mail of each class; one that is not named falls back to the default policy"`
		Auth    *policy.AuthSettings           `json:"auth,omitempty" doc:"what is made of the sender's authentication; left out: as it is"`
		PolicyLines
		Version *int64 `json:"version,omitempty" minimum:"0" doc:"the version that you have read; 0: there was none; left out: whatever was there"`
	}
}

func (s *Server) registerPolicy() {
	register(s, endpoint{http.MethodGet, "/domains", "list-domains", "Domains that we serve", identity.ViewMeta, 0},
		func(ctx context.Context, p identity.Principal, _ *struct{}) (*list[policy.Domain], error) {
			all, err := s.deps.Policies.Domains(ctx)
			if err != nil {
				return nil, err
			}
			var mine []policy.Domain
			for _, d := range all {
				if p.Can(identity.ViewMeta, d.Workspace) {
					mine = append(mine, d)
				}
			}
			return page(mine, ""), nil
		})
	register(s, endpoint{http.MethodPost, "/domains", "create-domain", "Serves one more domain", identity.DomainWrite, http.StatusCreated},
		func(ctx context.Context, p identity.Principal, in *domainInput) (*one[policy.Domain], error) {
			w, err := workspaceFor(p, in.Body.Workspace, identity.DomainWrite)
			if err != nil {
				return nil, err
			}
			d, err := s.deps.Policies.CreateDomain(ctx, p.Actor(), policy.NewDomain{Workspace: w, Name: in.Body.Name, NextHop: in.Body.NextHop})
			return &one[policy.Domain]{Body: d}, err
		})
	register(s, endpoint{http.MethodDelete, "/domains/{domain}", "delete-domain", "Ends our service for a domain", identity.DomainWrite, http.StatusNoContent},
		func(ctx context.Context, p identity.Principal, in *ByDomain) (*nothing, error) {
			all, err := s.deps.Policies.Domains(ctx)
			if err != nil {
				return nil, err
			}
			for _, d := range all {
				if d.Name == in.Domain && p.Can(identity.DomainWrite, d.Workspace) {
					return &nothing{}, s.deps.Policies.DeleteDomain(ctx, p.Actor(), d.Name)
				}
			}
			return nil, policy.ErrNotFound
		})
	register(s, endpoint{http.MethodGet, "/policies/{domain}", "get-policy", "What is done with mail to a domain, or from it", identity.ViewMeta, 0},
		func(ctx context.Context, p identity.Principal, in *ByPolicy) (*one[policy.Policy], error) {
			w, err := s.workspaceOfDomain(p, in.Domain, identity.ViewMeta)
			if err != nil {
				return nil, err
			}
			pol, err := s.deps.Policies.Policy(ctx, w, in.Domain, in.Direction)
			return &one[policy.Policy]{Body: pol}, err
		})
	register(s, endpoint{http.MethodPut, "/policies/{domain}", "put-policy", "Changes what is done with mail to a domain, or from it", identity.PolicyWrite, 0},
		func(ctx context.Context, p identity.Principal, in *policyInput) (*one[policy.Policy], error) {
			w, err := s.workspaceOfDomain(p, in.Domain, identity.PolicyWrite)
			if err != nil {
				return nil, err
			}
			return s.putLayer(ctx, p, policy.Policy{Workspace: w, Domain: in.Domain, Direction: in.Direction, Actions: in.Body.Actions, Auth: in.Body.Auth}, in.Body.PolicyLines, in.Body.Version)
		})
	register(s, endpoint{http.MethodDelete, "/policies/{domain}", "delete-policy", "Takes a domain's own policy away: the default policy is in force again", identity.PolicyWrite, http.StatusNoContent},
		func(ctx context.Context, p identity.Principal, in *ByPolicy) (*nothing, error) {
			w, err := s.workspaceOfDomain(p, in.Domain, identity.PolicyWrite)
			if err != nil {
				return nil, err
			}
			return &nothing{}, s.deps.Policies.DeletePolicy(ctx, p.Actor(), w, in.Domain, in.Direction)
		})
}

// workspaceFor is the workspace that somebody may make something in.
func workspaceFor(p identity.Principal, asked string, right identity.Right) (uuid.UUID, error) {
	w := identity.DefaultWorkspace
	if asked != "" {
		var err error
		if w, err = uuid.Parse(asked); err != nil {
			return w, huma.Error422UnprocessableEntity("workspace_id is no id")
		}
	}
	if !p.Can(right, w) {
		return w, huma.Error403Forbidden("this needs the right " + string(right) + " in the workspace")
	}
	return w, nil
}

// workspaceOfDomain is where a domain belongs; the default policy is the
// default workspace's.
func (s *Server) workspaceOfDomain(p identity.Principal, domain string, right identity.Right) (uuid.UUID, error) {
	w := identity.DefaultWorkspace
	if domain != "*" {
		r, ok := s.deps.Policies.Lookup("postmaster@" + domain)
		if !ok {
			return w, policy.ErrNotFound
		}
		w = r.Domain.Workspace
	}
	if !p.Can(right, w) {
		return w, policy.ErrNotFound
	}
	return w, nil
}

// PolicyLines are the lines of a policy beside actions and authentication. One
// that is left out stays as it is; an empty one is inherited from then on.
type PolicyLines struct {
	Thresholds    *policy.Thresholds       `json:"thresholds,omitempty" doc:"sums of signs from which a mail is of a class"`
	Weights       map[string]float64       `json:"weights,omitempty" doc:"in place of the scores of signs, by symbol"`
	EngineFailure map[string]policy.Action `json:"engine_failure,omitempty" doc:"defer or quarantine, by engine that gives no answer; * is every other one"`
	Sandbox       json.RawMessage          `json:"sandbox,omitempty" doc:"which files go to the sandbox, and what happens when it is late"`
	DLPSets       *[]string                `json:"dlp_sets,omitempty" doc:"sets of DLP rules that count"`
}

// onto puts the lines that are given into a layer.
func (l PolicyLines) onto(p *policy.Policy) {
	if l.Thresholds != nil {
		p.Thresholds = *l.Thresholds
	}
	if l.Weights != nil {
		p.Weights = l.Weights
	}
	if l.EngineFailure != nil {
		p.EngineFailure = l.EngineFailure
	}
	if l.Sandbox != nil {
		if p.Sandbox = l.Sandbox; string(l.Sandbox) == "null" || string(l.Sandbox) == "{}" {
			p.Sandbox = nil
		}
	}
	if l.DLPSets != nil {
		p.DLPSets = *l.DLPSets
	}
}

// layerTries is how often a change that names no version is tried again when
// somebody else was quicker.
const layerTries = 3

// putLayer changes a layer. What the caller leaves out stays, so it is read
// first; without a version it is read again when it has changed meanwhile.
func (s *Server) putLayer(ctx context.Context, p identity.Principal, change policy.Policy, lines PolicyLines, version *int64) (*one[policy.Policy], error) {
	for try := 1; ; try++ {
		now, err := s.deps.Policies.Layer(ctx, change)
		if err != nil && !errors.Is(err, policy.ErrNotFound) {
			return nil, err
		}
		next := now
		next.Workspace, next.Domain, next.Group, next.Direction = change.Workspace, change.Domain, change.Group, change.Direction
		if change.Actions != nil {
			next.Actions = change.Actions
		}
		if change.Auth != nil {
			next.Auth = change.Auth
		}
		lines.onto(&next)
		expected := &now.Version
		if version != nil {
			expected = version
		}
		stored, err := s.deps.Policies.PutPolicy(ctx, p.Actor(), next, expected)
		if errors.Is(err, policy.ErrConflict) && version == nil && try < layerTries {
			continue
		}
		return &one[policy.Policy]{Body: stored}, err
	}
}
