package identity

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/identity/sso"
	"mailward/internal/pg"
)

// providerLogout is where the browser ends its session at the provider.
func (s *Store) providerLogout(ctx context.Context, p Principal, back string) string {
	if p.Protocol != "oidc" {
		return ""
	}
	var name string
	var sealed []byte
	if err := s.db.QueryRow(ctx, sessionTokenSQL, p.SessionID).Scan(&name, &sealed); err != nil {
		s.log.Warn("provider of a session not read", "error", err)
		return ""
	}
	prov, err := s.provider(name)
	if err != nil {
		return ""
	}
	var hint string
	if sealed != nil {
		if hint, err = s.unseal(ctx, p.User.ID, "id_token", sealed); err != nil {
			s.log.Warn("logout at the provider goes without a hint", "error", err)
		}
	}
	return prov.LogoutURL(ctx, hint, back)
}

// BackChannelLogout ends what the provider says has ended (Back-Channel Logout
// 1.0 §2.5). Sessions that are not there are no error.
func (s *Store) BackChannelLogout(ctx context.Context, name, logoutToken string) error {
	prov, err := s.provider(name)
	if err != nil {
		return err
	}
	l, err := prov.Logout(ctx, logoutToken)
	if err != nil {
		return s.refusedLogout(ctx, prov, "back-channel logout", err)
	}
	err = s.endAtProvider(ctx, name, l, "back-channel logout", func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, purgeLogoutTokensSQL, s.now()); err != nil {
			return fmt.Errorf("take out old logout tokens: %w", err)
		}
		tag, err := tx.Exec(ctx, insertLogoutTokenSQL, hashOf(l.Issuer+"\x00"+l.ID), l.Expires)
		if err != nil {
			return fmt.Errorf("note logout token: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return fmt.Errorf("%w: this logout token was used already", sso.ErrInvalid)
		}
		return nil
	})
	return s.refusedLogout(ctx, prov, "back-channel logout", err)
}

// refusedLogout puts on record that a logout was not believed: a provider whose
// logouts count for nothing, or somebody who pretends to be one. What comes from one
// network beyond a number is only in the log.
func (s *Store) refusedLogout(ctx context.Context, prov SSO, cause string, err error) error {
	if !errors.Is(err, sso.ErrInvalid) {
		return err
	}
	r, _ := pg.RequestFrom(ctx)
	if !s.throttle.Address(ctx, "logout", r.SourceIP).OK() {
		return err
	}
	actor := anonymous
	actor.Provider, actor.Protocol, actor.Issuer = prov.Name(), "oidc", prov.Issuer()
	ev := audit.Event{Action: audit.SSOLogout, Outcome: "refused", OutcomeCode: "not_valid", Severity: "warning", Actor: actor, ReasonCode: cause,
		Targets: []audit.Target{{Type: "provider", ID: prov.Name()}}}
	if failed := s.record.Record(ctx, ev); failed != nil {
		s.log.Error("a refused logout is not on record", "error", failed)
	}
	return err
}

// FrontChannelLogout ends the sessions of a provider's session, which a hidden
// frame names. Entra ID leaves the issuer out; a session's name cannot be guessed.
func (s *Store) FrontChannelLogout(ctx context.Context, name, issuer, session string) error {
	prov, err := s.provider(name)
	if err != nil {
		return err
	}
	if session == "" || issuer != "" && issuer != prov.Issuer() {
		return s.refusedLogout(ctx, prov, "front-channel logout", fmt.Errorf("%w: it names no session of this provider", sso.ErrInvalid))
	}
	return s.endAtProvider(ctx, name, sso.Logout{Issuer: prov.Issuer(), Session: session}, "front-channel logout", func(pgx.Tx) error { return nil })
}

func (s *Store) endAtProvider(ctx context.Context, name string, l sso.Logout, cause string, first func(pgx.Tx) error) error {
	actor := ssoActor(name, l.Issuer, cause)
	return s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		if err := first(tx); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, providerSessionsSQL, l.Issuer, l.Session, l.Subject)
		if err != nil {
			return fmt.Errorf("find sessions: %w", err)
		}
		type open struct{ Session, User uuid.UUID }
		list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[open])
		if err != nil {
			return fmt.Errorf("find sessions: %w", err)
		}
		for _, o := range list {
			if err := s.endOne(ctx, tx, actor, nil, o.User, o.Session, endedByProvider); err != nil {
				return err
			}
		}
		return nil
	})
}
