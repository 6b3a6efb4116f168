package webui

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"mailward/identity"
)

// token is an API token as the API shows one; Token only once.
type token struct {
	ID         uuid.UUID        `json:"id"`
	Name       string           `json:"name"`
	Role       identity.Role    `json:"role"`
	Scopes     []identity.Right `json:"scopes" nullable:"false" doc:"rights; none: all that the role has"`
	Workspace  *uuid.UUID       `json:"workspace_id"`
	Owner      string           `json:"owner"`
	CreatedAt  time.Time        `json:"created_at"`
	ExpiresAt  *time.Time       `json:"expires_at"`
	RevokedAt  *time.Time       `json:"revoked_at"`
	LastUsedAt *time.Time       `json:"last_used_at"`
	LastUsedIP *netip.Addr      `json:"last_used_ip"`
	Token      string           `json:"token,omitempty" doc:"the secret, shown this once"`
}

func tokenOf(t identity.APIToken) token {
	return token{ID: t.ID, Name: t.Name, Role: t.Role, Scopes: append([]identity.Right{}, t.Scopes...), Workspace: t.Workspace, Owner: t.OwnerEmail,
		CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt, RevokedAt: t.RevokedAt, LastUsedAt: t.LastUsedAt, LastUsedIP: t.LastUsedIP}
}

type tokenInput struct {
	Body struct {
		Name      string           `json:"name" minLength:"1" maxLength:"100"`
		Role      identity.Role    `json:"role"`
		Scopes    []identity.Right `json:"scopes,omitempty" maxItems:"30" doc:"rights; none: all that the role has"`
		ExpiresAt time.Time        `json:"expires_at,omitempty" doc:"none: it does not expire"`
		Workspace string           `json:"workspace_id,omitempty" format:"uuid" doc:"empty: the default workspace"`
	}
}

type rotateInput struct {
	ByID
	Body struct {
		GraceHours int `json:"grace_hours,omitempty" minimum:"0" maximum:"168" doc:"how long the old secret still counts"`
	}
}

func (s *Server) registerTokens() {
	ids := s.deps.Identity
	register(s, endpoint{http.MethodGet, "/tokens", "list-tokens", "API tokens, without their secrets", identity.TokensWrite, 0},
		func(ctx context.Context, p identity.Principal, _ *struct{}) (*list[token], error) {
			ts, err := ids.VisibleTokens(ctx, p)
			if err != nil {
				return nil, err
			}
			var out []token
			for _, t := range ts {
				out = append(out, tokenOf(t))
			}
			return page(out, ""), nil
		})
	register(s, endpoint{http.MethodPost, "/tokens", "create-token", "Makes an API token of your own; it counts as you, and can do nothing that you cannot", identity.TokensWrite, http.StatusCreated},
		func(ctx context.Context, p identity.Principal, in *tokenInput) (*one[token], error) {
			if err := s.fresh(p); err != nil {
				return nil, err
			}
			w, err := workspaceFor(p, in.Body.Workspace, identity.TokensWrite)
			if err != nil {
				return nil, err
			}
			n := identity.NewToken{Name: in.Body.Name, Role: in.Body.Role, Scopes: in.Body.Scopes, OwnerID: p.User.ID, Workspace: w, Expires: in.Body.ExpiresAt}
			if !p.MayHandOut(n) {
				return nil, errHandOut()
			}
			plain, t, err := ids.CreateToken(ctx, p.Actor(), n)
			out := tokenOf(t)
			out.Token = plain
			return &one[token]{Body: out}, err
		})
	register(s, endpoint{http.MethodPost, "/tokens/{id}/rotate", "rotate-token", "Gives a token of your own a new secret", identity.TokensWrite, 0},
		func(ctx context.Context, p identity.Principal, in *rotateInput) (*one[token], error) {
			if err := s.fresh(p); err != nil {
				return nil, err
			}
			t, err := ownToken(ctx, ids, p, in.uuid())
			if err != nil {
				return nil, err
			}
			plain, err := ids.RotateToken(ctx, p.Actor(), t.ID, time.Duration(in.Body.GraceHours)*time.Hour)
			out := tokenOf(t)
			out.Token = plain
			return &one[token]{Body: out}, err
		})
	register(s, endpoint{http.MethodDelete, "/tokens/{id}", "revoke-token", "Ends an API token", identity.TokensWrite, http.StatusNoContent},
		func(ctx context.Context, p identity.Principal, in *ByID) (*nothing, error) {
			t, err := visibleToken(ctx, ids, p, in.uuid())
			if err != nil {
				return nil, err
			}
			return &nothing{}, ids.RevokeToken(ctx, p.Actor(), t.ID)
		})
}

// visibleToken is one token that a principal may see, and so end.
func visibleToken(ctx context.Context, ids *identity.Store, p identity.Principal, id uuid.UUID) (identity.APIToken, error) {
	ts, err := ids.VisibleTokens(ctx, p)
	if err != nil {
		return identity.APIToken{}, err
	}
	for _, t := range ts {
		if t.ID == id {
			return t, nil
		}
	}
	return identity.APIToken{}, identity.ErrNotFound
}

func errHandOut() error {
	return huma.Error403Forbidden("a token makes or renews no token that can do more than itself, or for longer")
}

// ownToken is one token of the principal's own: whoever gets a secret acts as its
// owner, so nobody else does. A token renews itself, or one that can do no more.
func ownToken(ctx context.Context, ids *identity.Store, p identity.Principal, id uuid.UUID) (identity.APIToken, error) {
	t, err := visibleToken(ctx, ids, p, id)
	if err == nil && t.OwnerID != p.User.ID {
		return identity.APIToken{}, huma.Error403Forbidden("only its owner may have the secret of a token")
	}
	if err == nil && t.ID != p.TokenID {
		n := identity.NewToken{Role: t.Role, Scopes: t.Scopes}
		if t.Workspace != nil {
			n.Workspace = *t.Workspace
		}
		if t.ExpiresAt != nil {
			n.Expires = *t.ExpiresAt
		}
		if !p.MayHandOut(n) {
			return identity.APIToken{}, errHandOut()
		}
	}
	return t, err
}
