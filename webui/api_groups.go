package webui

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"mailward/identity"
	"mailward/policy"
)

type groupBody struct {
	Name      string   `json:"name" minLength:"1" maxLength:"100"`
	Members   []string `json:"members" minItems:"1" maxItems:"2000" doc:"addresses and patterns: cfo@example.org, sales-*@example.org; without a domain for all: hr-*"`
	Rank      int      `json:"rank,omitempty" minimum:"0" maximum:"1000" doc:"of two groups with the same recipient, the higher one counts"`
	Version   int64    `json:"version,omitempty" minimum:"0" doc:"of a group that is changed: the version that you have read"`
	Workspace string   `json:"workspace_id,omitempty" format:"uuid" doc:"empty: the default workspace"`
}

type groupInput struct{ Body groupBody }

type groupChange struct {
	ByID
	Body groupBody
}

// ByGroup names one layer of a group.
type ByGroup struct {
	ByID
	Direction policy.Direction `query:"direction" enum:"inbound,outbound" default:"inbound" doc:"outbound: of mail that the group sends"`
}

type groupPolicyInput struct {
	ByGroup
	Body struct {
		Actions map[policy.Class]policy.Action `json:"actions,omitempty" doc:"left out: as it is"`
		Auth    *policy.AuthSettings           `json:"auth,omitempty" doc:"left out: as it is"`
		PolicyLines
		Version *int64 `json:"version,omitempty" minimum:"0" doc:"the version that you have read; 0: there was none; left out: whatever was there"`
	}
}

// group finds a group in which the caller has a right.
func (s *Server) group(p identity.Principal, id uuid.UUID, right identity.Right) (policy.Group, error) {
	g, ok := s.deps.Policies.Group(id)
	if !ok || !p.Can(right, g.Workspace) {
		return policy.Group{}, policy.ErrNotFound
	}
	return g, nil
}

func (s *Server) registerGroups() {
	register(s, endpoint{http.MethodGet, "/policy-groups", "list-policy-groups", "Groups of recipients with a policy of their own", identity.ViewMeta, 0},
		func(ctx context.Context, p identity.Principal, _ *struct{}) (*list[policy.Group], error) {
			ws, _, err := s.deps.Identity.WorkspacesOf(ctx, p, identity.ViewMeta)
			if err != nil {
				return nil, err
			}
			got, err := s.deps.Policies.Groups(ctx, ws)
			return page(got, ""), err
		})
	register(s, endpoint{http.MethodPost, "/policy-groups", "create-policy-group", "Makes a group of recipients", identity.PolicyWrite, http.StatusCreated},
		func(ctx context.Context, p identity.Principal, in *groupInput) (*one[policy.Group], error) {
			w, err := workspaceFor(p, in.Body.Workspace, identity.PolicyWrite)
			if err != nil {
				return nil, err
			}
			g, err := s.deps.Policies.PutGroup(ctx, p.Actor(), policy.Group{Workspace: w, Name: in.Body.Name, Members: in.Body.Members, Rank: in.Body.Rank})
			return &one[policy.Group]{Body: g}, err
		})
	register(s, endpoint{http.MethodPut, "/policy-groups/{id}", "put-policy-group", "Changes a group of recipients", identity.PolicyWrite, 0},
		func(ctx context.Context, p identity.Principal, in *groupChange) (*one[policy.Group], error) {
			g, err := s.group(p, in.uuid(), identity.PolicyWrite)
			if err != nil {
				return nil, err
			}
			g.Name, g.Members, g.Rank, g.Version = in.Body.Name, in.Body.Members, in.Body.Rank, in.Body.Version
			g, err = s.deps.Policies.PutGroup(ctx, p.Actor(), g)
			return &one[policy.Group]{Body: g}, err
		})
	register(s, endpoint{http.MethodDelete, "/policy-groups/{id}", "delete-policy-group", "Removes a group of recipients and its policies", identity.PolicyWrite, http.StatusNoContent},
		func(ctx context.Context, p identity.Principal, in *ByID) (*nothing, error) {
			g, err := s.group(p, in.uuid(), identity.PolicyWrite)
			if err != nil {
				return nil, err
			}
			return &nothing{}, s.deps.Policies.DeleteGroup(ctx, p.Actor(), g.Workspace, g.ID)
		})
	s.registerGroupPolicies()
}

func (s *Server) registerGroupPolicies() {
	register(s, endpoint{http.MethodGet, "/policy-groups/{id}/policy", "get-group-policy", "The lines that a group's policy sets", identity.ViewMeta, 0},
		func(ctx context.Context, p identity.Principal, in *ByGroup) (*one[policy.Policy], error) {
			g, err := s.group(p, in.uuid(), identity.ViewMeta)
			if err != nil {
				return nil, err
			}
			pol, err := s.deps.Policies.Layer(ctx, policy.Policy{Workspace: g.Workspace, Domain: "*", Group: g.ID, Direction: in.Direction})
			return &one[policy.Policy]{Body: pol}, err
		})
	register(s, endpoint{http.MethodPut, "/policy-groups/{id}/policy", "put-group-policy", "Changes what is done with mail to a group, or from it", identity.PolicyWrite, 0},
		func(ctx context.Context, p identity.Principal, in *groupPolicyInput) (*one[policy.Policy], error) {
			g, err := s.group(p, in.uuid(), identity.PolicyWrite)
			if err != nil {
				return nil, err
			}
			return s.putLayer(ctx, p, policy.Policy{Workspace: g.Workspace, Domain: "*", Group: g.ID, Direction: in.Direction, Actions: in.Body.Actions, Auth: in.Body.Auth}, in.Body.PolicyLines, in.Body.Version)
		})
	register(s, endpoint{http.MethodDelete, "/policy-groups/{id}/policy", "delete-group-policy", "Takes a group's policy away", identity.PolicyWrite, http.StatusNoContent},
		func(ctx context.Context, p identity.Principal, in *ByGroup) (*nothing, error) {
			g, err := s.group(p, in.uuid(), identity.PolicyWrite)
			if err != nil {
				return nil, err
			}
			return &nothing{}, s.deps.Policies.DeleteLayer(ctx, p.Actor(), policy.Policy{Workspace: g.Workspace, Domain: "*", Group: g.ID, Direction: in.Direction})
		})
}

type entryFilter struct {
	Paging
	Query string `query:"q" maxLength:"200" doc:"part of value, reason, owner or domain"`
	Kind  string `query:"kind" enum:"allow,block"`
	Match string `query:"match" enum:"sender,sender_domain,client,link_domain,attachment,subject"`
	State string `query:"state" enum:"active,ended"`
}

type entryBody struct {
	Domain    string           `json:"domain,omitempty" maxLength:"253" doc:"of ours that it is for; empty or *: all of the workspace"`
	Group     string           `json:"group_id,omitempty" format:"uuid" doc:"that it is for; empty: everybody"`
	Direction policy.Direction `json:"direction,omitempty" enum:"inbound,outbound"`
	Kind      string           `json:"kind" enum:"allow,block"`
	Match     string           `json:"match" enum:"sender,sender_domain,client,link_domain,attachment,subject" doc:"an allow takes the first three and attachment: anybody can write the rest into a mail"`
	Value     string           `json:"value" minLength:"1" maxLength:"320"`
	Classes   []policy.Class   `json:"classes,omitempty" maxItems:"9" doc:"that an allow lifts; never malware or unscannable"`
	Class     policy.Class     `json:"class,omitempty" doc:"that a block gives; default spam"`
	Action    policy.Action    `json:"action,omitempty" doc:"that a block asks for: quarantine (default) or reject"`
	Owner     string           `json:"owner,omitempty" maxLength:"320" doc:"who answers for it; default: you"`
	Reason    string           `json:"reason" minLength:"3" maxLength:"500"`
	ExpiresAt time.Time        `json:"expires_at,omitempty" doc:"of an allow: default in 90 days, at most a year"`
	Version   int64            `json:"version,omitempty" minimum:"0" doc:"of an entry that is changed: the version that you have read"`
	Workspace string           `json:"workspace_id,omitempty" format:"uuid" doc:"empty: the default workspace"`
}

type entryInput struct{ Body entryBody }

type entryChange struct {
	ByID
	Body entryBody
}

type entryDelete struct {
	ByID
	Body struct {
		Reason string `json:"reason" minLength:"3" maxLength:"500" doc:"why; it goes on record"`
	}
}

// policyEntry is an entry under a name of its own: the API has other entries.
type policyEntry struct{ policy.Entry }

// entry makes the entry that a caller describes.
func (b entryBody) entry(p identity.Principal) policy.Entry {
	e := policy.Entry{Domain: b.Domain, Direction: b.Direction, Kind: b.Kind, Match: b.Match, Value: b.Value, Classes: b.Classes, Class: b.Class, Action: b.Action,
		Owner: b.Owner, Reason: b.Reason, Version: b.Version}
	if e.Owner == "" {
		e.Owner = p.User.Email
	}
	if g, err := uuid.Parse(b.Group); err == nil {
		e.Group = g
	}
	if !b.ExpiresAt.IsZero() {
		e.ExpiresAt = &b.ExpiresAt
	}
	return e
}

func (s *Server) registerEntries() {
	store := s.deps.Policies
	find := func(ctx context.Context, p identity.Principal, id uuid.UUID, right identity.Right) (policy.Entry, error) {
		e, err := store.Entry(ctx, id)
		if err == nil && !p.Can(right, e.Workspace) {
			return policy.Entry{}, policy.ErrNotFound
		}
		return e, err
	}
	register(s, endpoint{http.MethodGet, "/policy-entries", "list-policy-entries", "Entries that allow or block, newest first", identity.ViewMeta, 0},
		func(ctx context.Context, p identity.Principal, in *entryFilter) (*list[policyEntry], error) {
			ws, _, err := s.deps.Identity.WorkspacesOf(ctx, p, identity.ViewMeta)
			if err != nil {
				return nil, err
			}
			got, next, err := store.ListEntries(ctx, policy.EntryFilter{Workspaces: ws, Query: in.Query, Kind: in.Kind, Match: in.Match, State: in.State, Cursor: in.Cursor, Limit: in.Limit})
			var out []policyEntry
			for _, e := range got {
				out = append(out, policyEntry{e})
			}
			return page(out, next), err
		})
	register(s, endpoint{http.MethodPost, "/policy-entries", "create-policy-entry", "Allows or blocks a sender, with an owner, a reason and an end", identity.PolicyWrite, http.StatusCreated},
		func(ctx context.Context, p identity.Principal, in *entryInput) (*one[policyEntry], error) {
			w, err := workspaceFor(p, in.Body.Workspace, identity.PolicyWrite)
			if err != nil {
				return nil, err
			}
			e := in.Body.entry(p)
			e.Workspace = w
			e, err = store.PutEntry(ctx, p.Actor(), e)
			return &one[policyEntry]{Body: policyEntry{e}}, err
		})
	register(s, endpoint{http.MethodGet, "/policy-entries/{id}", "get-policy-entry", "One entry", identity.ViewMeta, 0},
		func(ctx context.Context, p identity.Principal, in *ByID) (*one[policyEntry], error) {
			e, err := find(ctx, p, in.uuid(), identity.ViewMeta)
			return &one[policyEntry]{Body: policyEntry{e}}, err
		})
	register(s, endpoint{http.MethodPut, "/policy-entries/{id}", "put-policy-entry", "Changes an entry", identity.PolicyWrite, 0},
		func(ctx context.Context, p identity.Principal, in *entryChange) (*one[policyEntry], error) {
			was, err := find(ctx, p, in.uuid(), identity.PolicyWrite)
			if err != nil {
				return nil, err
			}
			e := in.Body.entry(p)
			e.ID, e.Workspace = was.ID, was.Workspace
			e, err = store.PutEntry(ctx, p.Actor(), e)
			return &one[policyEntry]{Body: policyEntry{e}}, err
		})
	register(s, endpoint{http.MethodDelete, "/policy-entries/{id}", "delete-policy-entry", "Removes an entry", identity.PolicyWrite, http.StatusNoContent},
		func(ctx context.Context, p identity.Principal, in *entryDelete) (*nothing, error) {
			e, err := find(ctx, p, in.uuid(), identity.PolicyWrite)
			if err != nil {
				return nil, err
			}
			return &nothing{}, store.DeleteEntry(ctx, p.Actor(), e.Workspace, e.ID, in.Body.Reason)
		})
}
