package webui

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"mailward/approval"
	"mailward/identity"
	"mailward/quarantine"
)

type workspaceInput struct {
	Body struct {
		Name   string `json:"name" minLength:"1" maxLength:"100"`
		Reason string `json:"reason,omitempty" maxLength:"500" doc:"why; it goes on record"`
	}
}

type workspaceChange struct {
	ByID
	Body struct {
		Name     string `json:"name,omitempty" maxLength:"100" doc:"empty: it stays"`
		Archived *bool  `json:"archived,omitempty" doc:"nothing new is made in an archived workspace"`
		Reason   string `json:"reason" minLength:"3" maxLength:"500" doc:"why; it goes on record"`
	}
}

// visibleWorkspaces is nil for all.
func visibleWorkspaces(p identity.Principal) []uuid.UUID {
	if p.CanInstall(identity.WorkspacesWrite) {
		return nil
	}
	list, all := p.Workspaces(identity.HealthRead) // every role has it
	if all {
		return nil
	}
	return list
}

func (s *Server) registerWorkspaces() {
	ids := s.deps.Identity
	register(s, endpoint{http.MethodGet, "/workspaces", "list-workspaces", "The workspaces in which you have a role; all for who runs the installation", identity.HealthRead, 0},
		func(ctx context.Context, p identity.Principal, _ *struct{}) (*list[identity.Workspace], error) {
			ws, err := ids.ListWorkspaces(ctx, visibleWorkspaces(p))
			return page(ws, ""), err
		})
	register(s, endpoint{http.MethodPost, "/workspaces", "create-workspace", "Makes a workspace; you become its administrator", identity.WorkspacesWrite, http.StatusCreated},
		func(ctx context.Context, p identity.Principal, in *workspaceInput) (*one[identity.Workspace], error) {
			if err := s.stepUp(ctx, p); err != nil {
				return nil, err
			}
			w, err := ids.CreateWorkspace(ctx, p, in.Body.Name, in.Body.Reason)
			return &one[identity.Workspace]{Body: w}, err
		})
	register(s, endpoint{http.MethodPatch, "/workspaces/{id}", "change-workspace", "Renames a workspace, archives it or opens it again", identity.WorkspacesWrite, 0},
		func(ctx context.Context, p identity.Principal, in *workspaceChange) (out *one[identity.Workspace], err error) {
			if err := s.stepUp(ctx, p); err != nil {
				return nil, err
			}
			out = &one[identity.Workspace]{}
			if in.Body.Name != "" {
				if out.Body, err = ids.RenameWorkspace(ctx, p, in.uuid(), in.Body.Name, in.Body.Reason); err != nil {
					return nil, err
				}
			}
			if in.Body.Archived != nil {
				out.Body, err = ids.ArchiveWorkspace(ctx, p, in.uuid(), *in.Body.Archived, in.Body.Reason)
			}
			return out, err
		})
}

type approvalFilter struct {
	Paging
	Query     string `query:"q" maxLength:"200" doc:"a part of the reason, of who asked, or of what will be done"`
	Kind      string `query:"kind" enum:"release,role_grant,export,retention,legal_hold,release_rule"`
	State     string `query:"state" enum:"requested,decided,all" default:"requested"`
	Workspace string `query:"workspace_id" format:"uuid"`
}

// approvalsVisible is what a principal may see of requests: those of the
// workspaces whose mail they may see, and those of the installation for who runs
// or audits it.
func (s *Server) approvalsVisible(ctx context.Context, p identity.Principal) (approval.Filter, error) {
	ws, _, err := s.deps.Identity.WorkspacesOf(ctx, p, identity.ViewMeta)
	return approval.Filter{Workspaces: ws, Installation: p.CanInstall(identity.WorkspacesWrite) || p.CanInstall(identity.AuditRead)}, err
}

func (s *Server) registerApprovals() {
	asks := s.deps.Identity.Approvals()
	register(s, endpoint{http.MethodGet, "/approvals", "list-approvals", "Requests for a second person, newest first, as far as they are yours to see", identity.HealthRead, 0},
		func(ctx context.Context, p identity.Principal, in *approvalFilter) (*list[approval.Request], error) {
			f, err := s.approvalsVisible(ctx, p)
			if err != nil {
				return nil, err
			}
			f.Query, f.Kind, f.Cursor, f.Limit = in.Query, approval.Kind(in.Kind), in.Cursor, in.Limit
			if f.State = in.State; f.State == "all" {
				f.State = ""
			}
			if w, err := uuid.Parse(in.Workspace); err == nil {
				f.Workspaces, f.Installation = only(f.Workspaces, w), false
			}
			got, err := asks.List(ctx, f)
			return page(got.Items, got.Next), err
		})
	for verb, yes := range map[string]bool{"approve": true, "deny": false} {
		register(s, endpoint{http.MethodPost, "/approvals/{id}/" + verb, verb + "-request", "A second person's word on a request; it needs the right approve in its workspace, or workspaces_write for the installation", identity.HealthRead, 0},
			func(ctx context.Context, p identity.Principal, in *decision) (*one[approval.Request], error) {
				f, err := s.approvalsVisible(ctx, p)
				if err != nil {
					return nil, err
				}
				r, err := decideRequest(ctx, s.deps, p, f, in.uuid(), yes, in.Body.Reason)
				return &one[approval.Request]{Body: r}, err
			})
	}
}

// only is w where it is one of list.
func only(list []uuid.UUID, w uuid.UUID) []uuid.UUID {
	for _, x := range list {
		if x == w {
			return []uuid.UUID{w}
		}
	}
	return []uuid.UUID{}
}

// mayDecide says whether a principal may decide on a request at all: with the
// right in its workspace, or for who runs the installation.
func mayDecide(p identity.Principal, r approval.Request) bool {
	if r.Workspace == nil {
		return p.CanInstall(identity.WorkspacesWrite)
	}
	return p.Can(identity.Approve, *r.Workspace)
}

// decideRequest does what the kind of a request asks for. A request that may not
// be seen is not there.
func decideRequest(ctx context.Context, d Deps, p identity.Principal, f approval.Filter, id uuid.UUID, yes bool, comment string) (approval.Request, error) {
	f.ID = id
	asks := d.Identity.Approvals()
	r, err := asks.Get(ctx, f)
	if err != nil || !mayDecide(p, r) {
		if err == nil {
			err = approval.ErrNotFound
		}
		return r, err
	}
	switch {
	case r.Kind == approval.RoleGrant:
		err = d.Identity.DecideGrant(ctx, p, id, yes, comment)
	case r.Kind == approval.Retention:
		err = asks.DecideRetention(ctx, p.Actor(), p.RoleNames(), id, yes, comment)
	case r.Kind == approval.Export && d.Evidence != nil:
		err = d.Evidence.Decide(ctx, p.Actor(), p.RoleNames(), id, yes, comment)
	case r.Kind == approval.LegalHold:
		err = d.Quarantine.DecideHold(ctx, p.Actor(), p.RoleNames(), id, yes, comment)
	case r.Kind == approval.ReleaseRule:
		err = d.Quarantine.DecideRule(ctx, p.Actor(), p.RoleNames(), id, yes, comment)
	case r.Kind != approval.Release || r.ItemID == nil:
		err = approval.ErrNotFound
	case r.State != "requested":
		err = approval.ErrState
	default:
		_, err = d.Quarantine.Decide(ctx, p.Actor(), p.RoleNames(), *r.ItemID, quarantine.Word{Release: id, Yes: yes, Comment: comment})
	}
	if err != nil {
		return r, err
	}
	return asks.Get(ctx, f)
}
