package webui

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/google/uuid"

	"mailward/audit"
	"mailward/gateway/ledger"
	"mailward/gateway/whatif"
	"mailward/identity"
	"mailward/policy"
)

type effectiveInput struct {
	Address   string           `query:"address" maxLength:"320" doc:"of ours, with all that counts for it"`
	Domain    string           `query:"domain" maxLength:"253" doc:"of ours; * or nothing: the workspace"`
	Group     string           `query:"group" format:"uuid"`
	Direction policy.Direction `query:"direction" enum:"inbound,outbound" default:"inbound"`
}

// effective is a policy that is in force, line by line.
type effective struct {
	Settings []policy.Setting `json:"settings" nullable:"false"`
	Groups   []policy.Group   `json:"groups" nullable:"false" doc:"that count for the address, the highest last"`
}

type whatifInput struct {
	Body struct {
		Domain    string                         `json:"domain,omitempty" maxLength:"253" doc:"of the layer that would change; empty or *: the workspace's"`
		Group     string                         `json:"group_id,omitempty" format:"uuid" doc:"of the layer that would change"`
		Direction policy.Direction               `json:"direction,omitempty" enum:"inbound,outbound"`
		Actions   map[policy.Class]policy.Action `json:"actions,omitempty" doc:"left out: as it is"`
		Auth      *policy.AuthSettings           `json:"auth,omitempty" doc:"left out: as it is"`
		PolicyLines
		MailID string         `json:"mail_id,omitempty" format:"uuid" doc:"one mail that was decided on; else all of the last days"`
		Days   int            `json:"days,omitempty" minimum:"1" maximum:"30" doc:"default 7"`
		So     *whatif.Result `json:"so_far,omitempty" doc:"the answer before, to go on from its next_cursor"`
	}
}

// whatifAnswer is what a change would do.
type whatifAnswer struct {
	Result whatif.Result `json:"result"`
	Copies []whatif.Copy `json:"copies,omitempty" doc:"of the one mail that was asked for"`
}

func (s *Server) registerWhatIf() {
	register(s, endpoint{http.MethodGet, "/policy-effective", "get-effective-policy", "The policy that is in force for an address, a domain or a group, and where each line comes from", identity.ViewMeta, 0},
		func(_ context.Context, p identity.Principal, in *effectiveInput) (*one[effective], error) {
			sc, err := s.scope(p, in)
			if err != nil {
				return nil, err
			}
			pol, groups, err := s.deps.Policies.Effective(sc)
			return &one[effective]{Body: effective{Settings: pol.Settings(), Groups: append([]policy.Group{}, groups...)}}, err
		})
	register(s, endpoint{http.MethodPost, "/policy-whatif", "try-policy", "What a changed policy would do with a mail of the ledger, or with all of the last days; nothing is saved", identity.PolicyWrite, 0}, s.tryPolicy)
}

// scope is what a caller asks about, where they may see it.
func (s *Server) scope(p identity.Principal, in *effectiveInput) (policy.Scope, error) {
	sc := policy.Scope{Workspace: identity.DefaultWorkspace, Domain: in.Domain, Address: in.Address, Direction: in.Direction}
	if r, ok := s.deps.Policies.Lookup(in.Address); ok {
		sc.Workspace = r.Domain.Workspace
	} else if r, ok := s.deps.Policies.Lookup("postmaster@" + in.Domain); ok {
		sc.Workspace = r.Domain.Workspace
	}
	if in.Group != "" {
		id, err := uuid.Parse(in.Group)
		if err != nil {
			return sc, policy.ErrNotFound
		}
		g, err := s.group(p, id, identity.ViewMeta)
		if err != nil {
			return sc, err
		}
		sc.Group, sc.Workspace = g.ID, g.Workspace
	}
	if !p.Can(identity.ViewMeta, sc.Workspace) {
		return sc, policy.ErrNotFound
	}
	return sc, nil
}

func (s *Server) tryPolicy(ctx context.Context, p identity.Principal, in *whatifInput) (*one[whatifAnswer], error) {
	b := in.Body
	draft := policy.Policy{Domain: b.Domain, Direction: b.Direction, Workspace: identity.DefaultWorkspace}
	if draft.Domain == "" {
		draft.Domain = "*"
	}
	if draft.Direction == "" {
		draft.Direction = policy.Inbound
	}
	var err error
	if b.Group != "" {
		id, _ := uuid.Parse(b.Group)
		g, err := s.group(p, id, identity.PolicyWrite)
		if err != nil {
			return nil, err
		}
		draft.Group, draft.Workspace = g.ID, g.Workspace
	} else if draft.Workspace, err = s.workspaceOfDomain(p, draft.Domain, identity.PolicyWrite); err != nil {
		return nil, err
	}
	was, err := s.deps.Policies.Layer(ctx, draft)
	if err != nil && !errors.Is(err, policy.ErrNotFound) {
		return nil, err
	}
	was.Workspace, was.Domain, was.Group, was.Direction = draft.Workspace, draft.Domain, draft.Group, draft.Direction
	if b.Actions != nil {
		was.Actions = b.Actions
	}
	if b.Auth != nil {
		was.Auth = b.Auth
	}
	b.PolicyLines.onto(&was)
	trial, err := newTrial(s.deps.Policies, was, s.cfg.Sandbox)
	if err != nil {
		return nil, err
	}
	var out whatifAnswer
	if b.MailID != "" {
		id, _ := uuid.Parse(b.MailID)
		row, err := s.trialMail(ctx, p, id, was.Workspace)
		if err != nil {
			return nil, err
		}
		if err := recordTrial(ctx, s.deps.Audit, p.Actor(), p.RoleNames(), was, audit.Correlation{MailID: id.String()}); err != nil {
			return nil, err
		}
		out.Copies, out.Result.Unserved = trial.Row(row)
	} else {
		if err := recordTrial(ctx, s.deps.Audit, p.Actor(), p.RoleNames(), was, audit.Correlation{}); err != nil {
			return nil, err
		}
		if b.So != nil {
			out.Result = *b.So
		}
		if out.Result, err = trial.Batch(ctx, s.deps.Ledger, was.Workspace, s.now().Add(-days(b.Days)), out.Result); err != nil {
			return nil, err
		}
	}
	out.Result.Finish()
	return &one[whatifAnswer]{Body: out}, nil
}

func days(n int) time.Duration {
	if n <= 0 {
		n = 7
	}
	return time.Duration(min(n, 30)) * 24 * time.Hour
}

// trialMail reads a mail of the workspace whose policy is tried.
func (s *Server) trialMail(ctx context.Context, p identity.Principal, id, workspace uuid.UUID) (ledger.Row, error) {
	row, _, err := s.deps.Ledger.Get(ctx, id)
	if err == nil && (row.Workspace != workspace || !p.Can(identity.ViewMeta, row.Workspace)) {
		err = ledger.ErrNotFound
	}
	return row, err
}
