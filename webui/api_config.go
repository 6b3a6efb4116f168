package webui

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"mailward/identity"
)

// account is a user as the API shows one.
type account struct {
	ID          uuid.UUID       `json:"id"`
	Email       string          `json:"email"`
	Name        string          `json:"name"`
	State       string          `json:"state"`
	Roles       []identity.Role `json:"roles" nullable:"false"`
	CreatedAt   time.Time       `json:"created_at"`
	LastLoginAt *time.Time      `json:"last_login_at"`
}

func accountOf(u identity.User, roles []identity.Role) account {
	return account{ID: u.ID, Email: u.Email, Name: u.Name, State: u.State, Roles: append([]identity.Role{}, roles...), CreatedAt: u.CreatedAt, LastLoginAt: u.LastLoginAt}
}

type accountInput struct {
	Body struct {
		Email      string          `json:"email" maxLength:"254"`
		Name       string          `json:"name,omitempty" maxLength:"200"`
		Password   string          `json:"password" minLength:"12" maxLength:"512" doc:"to be changed at the first login"`
		Roles      []identity.Role `json:"roles" minItems:"1" maxItems:"6"`
		MustChange *bool           `json:"must_change_password,omitempty" doc:"default true"`
		Workspace  string          `json:"workspace_id,omitempty" format:"uuid" doc:"empty: the default workspace"`
	}
}

// token is an API token as the API shows one; Token only once.
type token struct {
	ID         uuid.UUID     `json:"id"`
	Name       string        `json:"name"`
	Role       identity.Role `json:"role"`
	Workspace  *uuid.UUID    `json:"workspace_id"`
	Owner      string        `json:"owner"`
	CreatedAt  time.Time     `json:"created_at"`
	ExpiresAt  *time.Time    `json:"expires_at"`
	RevokedAt  *time.Time    `json:"revoked_at"`
	LastUsedAt *time.Time    `json:"last_used_at"`
	Token      string        `json:"token,omitempty" doc:"the secret, shown this once"`
}

func tokenOf(t identity.APIToken) token {
	return token{ID: t.ID, Name: t.Name, Role: t.Role, Workspace: t.Workspace, Owner: t.OwnerEmail, CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt, RevokedAt: t.RevokedAt, LastUsedAt: t.LastUsedAt}
}

type tokenInput struct {
	Body struct {
		Name      string        `json:"name" minLength:"1" maxLength:"100"`
		Role      identity.Role `json:"role"`
		ExpiresAt time.Time     `json:"expires_at,omitempty" doc:"none: it does not expire"`
		Workspace string        `json:"workspace_id,omitempty" format:"uuid" doc:"empty: the default workspace"`
	}
}

func (s *Server) registerAccounts() {
	ids := s.deps.Identity
	register(s, endpoint{http.MethodGet, "/users", "list-users", "Accounts", identity.UsersWrite, 0},
		func(ctx context.Context, _ identity.Principal, _ *struct{}) (*list[account], error) {
			us, err := ids.Users(ctx)
			if err != nil {
				return nil, err
			}
			var out []account
			for _, u := range us {
				roles, install, err := ids.Grants(ctx, u.ID)
				if err != nil {
					return nil, err
				}
				out = append(out, accountOf(u, rolesOf(identity.Principal{Roles: roles, InstallRoles: install})))
			}
			return page(out, ""), nil
		})
	register(s, endpoint{http.MethodPost, "/users", "create-user", "Makes an account", identity.UsersWrite, http.StatusCreated},
		func(ctx context.Context, p identity.Principal, in *accountInput) (*one[account], error) {
			w, err := workspaceFor(p, in.Body.Workspace, identity.UsersWrite)
			if err != nil {
				return nil, err
			}
			u, err := ids.CreateUser(ctx, p.Actor(), identity.NewUser{Email: in.Body.Email, Name: in.Body.Name, Password: in.Body.Password, Roles: in.Body.Roles,
				Workspace: w, MustChange: in.Body.MustChange == nil || *in.Body.MustChange})
			return &one[account]{Body: accountOf(u, in.Body.Roles)}, err
		})
	register(s, endpoint{http.MethodGet, "/tokens", "list-tokens", "API tokens, without their secrets", identity.TokensWrite, 0},
		func(ctx context.Context, p identity.Principal, _ *struct{}) (*list[token], error) {
			ts, err := ids.Tokens(ctx)
			if err != nil {
				return nil, err
			}
			var out []token
			for _, t := range ts {
				if t.Workspace == nil || p.Can(identity.TokensWrite, *t.Workspace) {
					out = append(out, tokenOf(t))
				}
			}
			return page(out, ""), nil
		})
	register(s, endpoint{http.MethodPost, "/tokens", "create-token", "Makes an API token of your own; it counts as you", identity.TokensWrite, http.StatusCreated},
		func(ctx context.Context, p identity.Principal, in *tokenInput) (*one[token], error) {
			w, err := workspaceFor(p, in.Body.Workspace, identity.TokensWrite)
			if err != nil {
				return nil, err
			}
			plain, t, err := ids.CreateToken(ctx, p.Actor(), identity.NewToken{Name: in.Body.Name, Role: in.Body.Role, OwnerID: p.User.ID, Workspace: w, Expires: in.Body.ExpiresAt})
			out := tokenOf(t)
			out.Token = plain
			return &one[token]{Body: out}, err
		})
	register(s, endpoint{http.MethodDelete, "/tokens/{id}", "revoke-token", "Ends an API token", identity.TokensWrite, http.StatusNoContent},
		func(ctx context.Context, p identity.Principal, in *ByID) (*nothing, error) {
			ts, err := ids.Tokens(ctx)
			if err != nil {
				return nil, err
			}
			for _, t := range ts {
				if t.ID == in.uuid() && (t.OwnerID == p.User.ID || t.Workspace != nil && p.Can(identity.TokensWrite, *t.Workspace)) {
					return &nothing{}, ids.RevokeToken(ctx, p.Actor(), t.ID)
				}
			}
			return nil, identity.ErrNotFound
		})
}

func rolesOf(p identity.Principal) []identity.Role {
	var out []identity.Role
	for _, r := range p.RoleNames() {
		out = append(out, identity.Role(r))
	}
	return out
}
