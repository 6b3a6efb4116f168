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

// openSession is a session as the API shows one.
type openSession struct {
	ID        uuid.UUID   `json:"id"`
	CreatedAt time.Time   `json:"created_at"`
	LastSeen  time.Time   `json:"last_seen_at"`
	ExpiresAt time.Time   `json:"expires_at"`
	Method    string      `json:"method" doc:"password, password+totp, password+recovery, passkey or sso"`
	Provider  string      `json:"provider" doc:"local, or the name of a provider of single sign-on"`
	MFA       bool        `json:"mfa"`
	From      *netip.Addr `json:"source_ip"`
	Agent     string      `json:"user_agent_class"`
}

type oneTimePassword struct {
	Password string `json:"password" doc:"shown this once; it must be changed at the first login"`
}

type sessionOfUser struct {
	ByID
	Session string `path:"session" format:"uuid"`
}

// registerSignInAPI is how an admin helps others who cannot sign in, or ends
// what they have open.
func (s *Server) registerSignInAPI() {
	ids := s.deps.Identity
	register(s, endpoint{http.MethodPost, "/users/{id}/password", "reset-password", "Gives an account a one-time password and ends its sessions", identity.UsersWrite, 0},
		func(ctx context.Context, p identity.Principal, in *ByID) (*one[oneTimePassword], error) {
			if err := s.mayBecome(ctx, p, in.uuid()); err != nil {
				return nil, err
			}
			once, err := ids.ResetPassword(ctx, p.Actor(), p.RoleNames(), in.uuid())
			return &one[oneTimePassword]{Body: oneTimePassword{once}}, err
		})
	register(s, endpoint{http.MethodDelete, "/users/{id}/factors", "reset-factors", "Takes an account's second factors, recovery codes and, where it has a password, links with single sign-on away, and ends its sessions", identity.UsersWrite, http.StatusNoContent},
		func(ctx context.Context, p identity.Principal, in *ByID) (*nothing, error) {
			if err := s.mayBecome(ctx, p, in.uuid()); err != nil {
				return nil, err
			}
			return &nothing{}, ids.ResetFactors(ctx, p.Actor(), p.RoleNames(), in.uuid())
		})
	register(s, endpoint{http.MethodGet, "/users/{id}/sessions", "list-sessions", "An account's open sessions", identity.UsersWrite, 0},
		func(ctx context.Context, p identity.Principal, in *ByID) (*list[openSession], error) {
			if err := s.mayManage(ctx, p, in.uuid()); err != nil {
				return nil, err
			}
			open, err := ids.Sessions(ctx, in.uuid())
			out := []openSession{}
			for _, o := range open {
				out = append(out, openSession(o))
			}
			return page(out, ""), err
		})
	register(s, endpoint{http.MethodDelete, "/users/{id}/sessions/{session}", "revoke-session", "Ends a session of an account", identity.UsersWrite, http.StatusNoContent},
		func(ctx context.Context, p identity.Principal, in *sessionOfUser) (*nothing, error) {
			if err := s.mayManage(ctx, p, in.uuid()); err != nil {
				return nil, err
			}
			id, err := uuid.Parse(in.Session)
			if err != nil {
				return nil, identity.ErrNotFound
			}
			return &nothing{}, ids.RevokeSession(ctx, p, in.uuid(), id)
		})
}

// fresh wants a person at a browser to have shown lately who they are.
func (s *Server) fresh(p identity.Principal) error {
	if s.shownLately(p) {
		return nil
	}
	return errStepUp
}

// mayBecome says whether p may change how an account signs in. That is to become it:
// a token must have each right that the account has.
func (s *Server) mayBecome(ctx context.Context, p identity.Principal, user uuid.UUID) error {
	if err := s.mayManage(ctx, p, user); err != nil {
		return err
	}
	roles, install, err := s.deps.Identity.Grants(ctx, user)
	if err != nil {
		return err
	}
	roles[uuid.Nil] = install
	for w, list := range roles {
		for _, r := range list {
			if !p.MayGive(r, w) {
				return identity.ErrBeyondToken
			}
		}
	}
	return nil
}

// mayManage says whether p may look after the sign-ins of an account: it has to have
// the right wherever the account has a role.
func (s *Server) mayManage(ctx context.Context, p identity.Principal, user uuid.UUID) error {
	if err := s.fresh(p); err != nil {
		return err
	}
	roles, install, err := s.deps.Identity.Grants(ctx, user)
	if err != nil {
		return err
	}
	if _, all := p.Workspaces(identity.UsersWrite); all {
		return nil
	}
	for w := range roles {
		if !p.Can(identity.UsersWrite, w) {
			return identity.ErrNotFound
		}
	}
	if len(install) > 0 {
		return huma.Error403Forbidden("this account has a role in the whole installation: use mailward user reset on the host")
	}
	if len(roles) == 0 {
		return identity.ErrNotFound
	}
	return nil
}
