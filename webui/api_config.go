package webui

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"mailward/identity"
	"mailward/internal/pg"
)

// account is a user as the API shows one.
type account struct {
	ID          uuid.UUID        `json:"id"`
	Email       string           `json:"email"`
	Name        string           `json:"name"`
	State       string           `json:"state"`
	Roles       []identity.Role  `json:"roles" nullable:"false"`
	Grants      []identity.Grant `json:"grants" nullable:"false" doc:"roles with their workspaces, as far as they are yours to see"`
	Waiting     []identity.Role  `json:"waiting_roles,omitempty" doc:"roles that wait for a second person"`
	CreatedAt   time.Time        `json:"created_at"`
	LastLoginAt *time.Time       `json:"last_login_at"`
}

func accountOf(a identity.Account) account {
	out := account{ID: a.ID, Email: a.Email, Name: a.Name, State: a.State, Roles: []identity.Role{}, Grants: append([]identity.Grant{}, a.Grants...), CreatedAt: a.CreatedAt, LastLoginAt: a.LastLoginAt}
	for _, g := range a.Grants {
		if !slices.Contains(out.Roles, g.Role) {
			out.Roles = append(out.Roles, g.Role)
		}
	}
	return out
}

type accountInput struct {
	Body struct {
		Email      string          `json:"email" maxLength:"254"`
		Name       string          `json:"name,omitempty" maxLength:"200"`
		Password   string          `json:"password" minLength:"12" maxLength:"512" doc:"to be changed at the first login"`
		Roles      []identity.Role `json:"roles" minItems:"1" maxItems:"6"`
		MustChange *bool           `json:"must_change_password,omitempty" doc:"default true"`
		Workspace  string          `json:"workspace_id,omitempty" format:"uuid" doc:"empty: the default workspace"`
		Reason     string          `json:"reason,omitempty" maxLength:"500" doc:"why; it goes on record"`
	}
}

type accountFilter struct {
	Paging
	Query string        `query:"q" maxLength:"200" doc:"part of address or name"`
	State string        `query:"state" enum:"active,locked,disabled"`
	Role  identity.Role `query:"role"`
}

type stateInput struct {
	ByID
	Body struct {
		State  string `json:"state" enum:"active,locked,disabled"`
		Reason string `json:"reason" minLength:"3" maxLength:"500" doc:"why; it goes on record"`
	}
}

type grantInput struct {
	ByID
	Body struct {
		Role      identity.Role `json:"role"`
		Workspace string        `json:"workspace_id,omitempty" format:"uuid" doc:"empty: the whole installation (operator, auditor)"`
		Reason    string        `json:"reason" minLength:"3" maxLength:"500" doc:"why; it goes on record"`
	}
}

func (s *Server) registerAccounts() {
	ids := s.deps.Identity
	register(s, endpoint{http.MethodGet, "/users", "list-users", "Accounts by address: those with a role in your workspaces", identity.UsersWrite, 0},
		func(ctx context.Context, p identity.Principal, in *accountFilter) (*list[account], error) {
			f := ids.UsersVisibleTo(p)
			f.Query, f.State, f.Role, f.Cursor, f.Limit = in.Query, in.State, in.Role, in.Cursor, in.Limit
			us, next, err := ids.ListUsers(ctx, f)
			var out []account
			for _, u := range us {
				out = append(out, accountOf(u))
			}
			return page(out, next), err
		})
	register(s, endpoint{http.MethodPost, "/users", "create-user", "Makes an account", identity.UsersWrite, http.StatusCreated},
		func(ctx context.Context, p identity.Principal, in *accountInput) (*one[account], error) {
			w, err := workspaceFor(p, in.Body.Workspace, identity.UsersWrite)
			if err != nil {
				return nil, err
			}
			if err := s.stepUp(ctx, p); err != nil {
				return nil, err
			}
			if in.Body.Reason == "" {
				in.Body.Reason = "new account"
			}
			u, waiting, err := ids.AddUser(ctx, p, identity.NewUser{Email: in.Body.Email, Name: in.Body.Name, Password: in.Body.Password, Roles: in.Body.Roles,
				Workspace: w, MustChange: in.Body.MustChange == nil || *in.Body.MustChange}, in.Body.Reason)
			if err != nil {
				return nil, err
			}
			a, err := ids.AccountFor(ctx, p, u.ID)
			out := accountOf(a)
			out.Waiting = waiting
			return &one[account]{Body: out}, err
		})
	register(s, endpoint{http.MethodGet, "/users/{id}", "get-user", "One account", identity.UsersWrite, 0},
		func(ctx context.Context, p identity.Principal, in *ByID) (*one[account], error) {
			a, err := ids.AccountFor(ctx, p, in.uuid())
			return &one[account]{Body: accountOf(a)}, err
		})
	register(s, endpoint{http.MethodPost, "/users/{id}/state", "set-user-state", "Suspends an account and ends its sessions, or opens it again", identity.UsersWrite, 0},
		func(ctx context.Context, p identity.Principal, in *stateInput) (*one[account], error) {
			a, err := ids.AccountFor(ctx, p, in.uuid())
			if err != nil {
				return nil, err
			}
			if !p.MaySetState(a) {
				return nil, huma.Error403Forbidden("this account has roles that you do not administer")
			}
			if err := s.stepUp(ctx, p); err != nil {
				return nil, err
			}
			if err := ids.SetState(pg.WithReason(ctx, in.Body.Reason), p.Actor(), a.ID, in.Body.State); err != nil {
				return nil, err
			}
			a, err = ids.AccountFor(ctx, p, a.ID)
			return &one[account]{Body: accountOf(a)}, err
		})
	for _, verb := range []string{"grant", "revoke"} {
		register(s, endpoint{http.MethodPost, "/users/{id}/" + verb, verb + "-role", "Gives or takes a role; a role given may wait for a second person", identity.UsersWrite, 0},
			func(ctx context.Context, p identity.Principal, in *grantInput) (*one[account], error) {
				return s.changeRole(ctx, p, verb, in)
			})
	}
}

func (s *Server) changeRole(ctx context.Context, p identity.Principal, verb string, in *grantInput) (*one[account], error) {
	ids := s.deps.Identity
	a, err := ids.AccountFor(ctx, p, in.uuid())
	if err != nil {
		return nil, err
	}
	c := identity.RoleChange{User: a.ID, Role: in.Body.Role, Reason: in.Body.Reason}
	if in.Body.Workspace != "" {
		if c.Workspace, err = uuid.Parse(in.Body.Workspace); err != nil {
			return nil, identity.ErrNotFound
		}
	}
	if !p.MayChangeRole(c.Workspace) {
		return nil, huma.Error403Forbidden("this needs the right users_write in the workspace")
	}
	if err := s.stepUp(ctx, p); err != nil {
		return nil, err
	}
	waiting := false
	if verb == "grant" {
		waiting, err = ids.GrantRole(ctx, p, c)
	} else {
		err = ids.RevokeRole(ctx, p, c)
	}
	if err != nil {
		return nil, err
	}
	if a, err = ids.AccountFor(ctx, p, a.ID); errors.Is(err, identity.ErrNotFound) {
		a, err = identity.Account{ID: in.uuid()}, nil // it is out of sight now
	}
	out := accountOf(a)
	if waiting {
		out.Waiting = []identity.Role{c.Role}
	}
	return &one[account]{Body: out}, err
}
