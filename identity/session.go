package identity

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
)

const (
	sessionIdle = 8 * time.Hour
	sessionLife = 24 * time.Hour
	// touchEvery bounds how often a session's or token's last use is stored.
	touchEvery = time.Minute
)

// What ends a session.
const (
	endedByLogout   = "logout"
	endedByPerson   = "person"
	endedByAdmin    = "admin"
	endedByProvider = "provider"
	endedByPassword = "password"
)

// way is how a person came in.
type way struct {
	Method                                string // password, password+totp, password+recovery, passkey, sso
	Provider, Protocol, Issuer            string
	Subject, ProviderSession, ProviderKey string // at the provider of a single sign-on; ProviderKey is the ID token
	MFA                                   bool
}

// openSession lets u in. The session and its record are there together; with the
// record unwritable, the login is kept on the disk and recorded later.
func (s *Store) openSession(ctx context.Context, u User, how way, from netip.Addr, userAgent string) (string, Principal, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", Principal{}, fmt.Errorf("make session id: %w", err)
	}
	token, hash := newSecret()
	now := s.now()
	p := Principal{User: u, SessionID: id, AuthenticatedAt: now, Method: how.Method, Provider: how.Provider, Protocol: how.Protocol, Issuer: how.Issuer, MFA: how.MFA}
	if p.Roles, p.InstallRoles, err = s.Grants(ctx, u.ID); err != nil {
		return "", Principal{}, err
	}
	var idToken []byte
	if how.ProviderKey != "" {
		if idToken, err = s.seal(ctx, u.ID, "id_token", how.ProviderKey); err != nil {
			return "", Principal{}, err
		}
	}
	events := []audit.Event{{Action: audit.Login, Actor: p.Actor(), Roles: p.RoleNames(), Targets: []audit.Target{{Type: "session", ID: id.String()}}}}
	if u.BreakGlass {
		events = append(events, audit.Event{Action: audit.BreakGlass, Severity: "critical", Actor: p.Actor(), Roles: p.RoleNames(), Retention: audit.Retention3Years,
			Targets: []audit.Target{{Type: "user_account", ID: u.ID.String()}, {Type: "session", ID: id.String()}}})
	}
	err = s.recorded(ctx, p.Actor(), events, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, insertSessionSQL, id, hash, u.ID, now, now.Add(s.policy.Life), storable(from), AgentClass(userAgent),
			how.Method, how.Provider, how.Protocol, how.Issuer, how.Subject, how.ProviderSession, idToken, how.MFA); err != nil {
			return fmt.Errorf("insert session: %w", err)
		}
		if _, err := tx.Exec(ctx, loggedInSQL, u.ID, now); err != nil {
			return fmt.Errorf("note login: %w", err)
		}
		return nil
	})
	if err != nil {
		return "", Principal{}, err
	}
	if u.BreakGlass {
		s.breakGlass.Inc()
		s.log.Error("the account for emergencies was used", "user", u.ID, "session", id, "from", from)
	}
	return token, p, s.checkEnrolment(ctx, &p)
}

// SessionLife is how long a session lasts at most.
func (s *Store) SessionLife() time.Duration { return s.policy.Life }

// storable is an address as the database keeps it, or null.
func storable(from netip.Addr) *netip.Addr {
	if !from.IsValid() {
		return nil
	}
	a := from.Unmap().WithZone("")
	return &a
}

// AgentClass keeps of a browser's name only what kind of thing it is.
func AgentClass(ua string) string {
	switch {
	case ua == "":
		return ""
	case strings.Contains(ua, "Mozilla/"):
		return "browser"
	case strings.HasPrefix(ua, "curl/"), strings.HasPrefix(ua, "Wget/"):
		return "command line"
	}
	return "program"
}

// Session finds who has the cookie. ErrNoSession says that nobody has.
func (s *Store) Session(ctx context.Context, token string) (Principal, error) {
	if token == "" {
		return Principal{}, ErrNoSession
	}
	var p Principal
	var userID uuid.UUID
	var seen time.Time
	now := s.now()
	err := s.db.QueryRow(ctx, sessionSQL, hashOf(token), now, now.Add(-s.policy.Idle)).Scan(&p.SessionID, &userID, &seen, &p.AuthenticatedAt, &p.Method, &p.Provider, &p.Protocol, &p.Issuer, &p.MFA)
	if errors.Is(err, pgx.ErrNoRows) {
		return Principal{}, ErrNoSession
	}
	if err != nil {
		return Principal{}, fmt.Errorf("read session: %w", err)
	}
	if err := s.load(ctx, &p, userID); err != nil {
		return Principal{}, err
	}
	if err := s.checkEnrolment(ctx, &p); err != nil {
		return Principal{}, err
	}
	if now.Sub(seen) > touchEvery {
		err := s.db.Act(ctx, p.Actor(), func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, touchSessionSQL, p.SessionID, now)
			return err
		})
		if err != nil {
			s.log.Warn("use of a session not noted", "error", err)
		}
	}
	return p, nil
}

// load fills in the account and its roles; an account that is not open has none.
func (s *Store) load(ctx context.Context, p *Principal, user uuid.UUID) (err error) {
	if p.User, err = s.user(ctx, userByIDSQL, user); err != nil {
		return err
	}
	if p.User.State != "active" {
		return ErrNoSession
	}
	p.Roles, p.InstallRoles, err = s.Grants(ctx, user)
	return err
}

func sessionTarget(id uuid.UUID) []audit.Target {
	return []audit.Target{{Type: "session", ID: id.String()}}
}

// Logout ends the session. The address that it returns, if any, is where the
// browser ends the session of a single sign-on too; back is where it comes back to.
func (s *Store) Logout(ctx context.Context, p Principal, back string) (string, error) {
	next := s.providerLogout(ctx, p, back)
	return next, s.db.Act(ctx, p.Actor(), func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, endSessionSQL, p.SessionID, s.now(), endedByLogout); err != nil {
			return fmt.Errorf("end session: %w", err)
		}
		_, err := s.record.Append(ctx, tx, audit.Event{Action: audit.Logout, Actor: p.Actor(), Roles: p.RoleNames(), Targets: sessionTarget(p.SessionID)})
		return err
	})
}

// SessionInfo is one open session, for the person whose it is.
type SessionInfo struct {
	ID                             uuid.UUID
	CreatedAt, LastSeen, ExpiresAt time.Time
	Method, Provider               string
	MFA                            bool
	From                           *netip.Addr
	Agent                          string
}

// Sessions lists an account's open sessions, the last used first.
func (s *Store) Sessions(ctx context.Context, user uuid.UUID) ([]SessionInfo, error) {
	now := s.now()
	rows, err := s.db.Query(ctx, sessionsSQL, user, now, now.Add(-s.policy.Idle))
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (i SessionInfo, err error) {
		err = row.Scan(&i.ID, &i.CreatedAt, &i.LastSeen, &i.ExpiresAt, &i.Method, &i.Provider, &i.MFA, &i.From, &i.Agent)
		return i, err
	})
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	return list, nil
}

// RevokeSession ends a session of user, which is the principal's own account or,
// for an admin, another's. A session of anybody else is not there.
func (s *Store) RevokeSession(ctx context.Context, p Principal, user, session uuid.UUID) error {
	var owner uuid.UUID
	err := s.db.QueryRow(ctx, sessionOwnerSQL, session).Scan(&owner)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && owner != user {
		return ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("read session: %w", err)
	}
	by := endedByPerson
	if p.User.ID != user {
		by = endedByAdmin
	}
	return s.db.Act(ctx, p.Actor(), func(ctx context.Context, tx pgx.Tx) error {
		return s.endOne(ctx, tx, p.Actor(), p.RoleNames(), user, session, by)
	})
}

// endOne ends one session and says so.
func (s *Store) endOne(ctx context.Context, tx pgx.Tx, actor pg.Actor, roles []string, user, session uuid.UUID, by string) error {
	if _, err := tx.Exec(ctx, endSessionSQL, session, s.now(), by); err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	_, err := s.record.Append(ctx, tx, audit.Event{Action: audit.SessionRevoke, Actor: actor, Roles: roles, ReasonCode: by,
		Targets: append(sessionTarget(session), audit.Target{Type: "user_account", ID: user.String()})})
	return err
}

// RevokeOthers ends all of the person's sessions but this one.
func (s *Store) RevokeOthers(ctx context.Context, p Principal) error {
	return s.db.Act(ctx, p.Actor(), func(ctx context.Context, tx pgx.Tx) error {
		return s.endOthers(ctx, tx, p.Actor(), p.RoleNames(), p.User.ID, p.SessionID, endedByPerson)
	})
}

// endOthers ends an account's sessions, with the exception of one that stays.
func (s *Store) endOthers(ctx context.Context, tx pgx.Tx, actor pg.Actor, roles []string, user, stays uuid.UUID, by string) error {
	tag, err := tx.Exec(ctx, endSessionsSQL, user, stays, by)
	if err != nil {
		return fmt.Errorf("end sessions: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return nil
	}
	_, err = s.record.Append(ctx, tx, audit.Event{Action: audit.SessionRevoke, Actor: actor, Roles: roles, ReasonCode: by,
		Targets: []audit.Target{{Type: "user_account", ID: user.String()}}, After: map[string]any{"ended": tag.RowsAffected()}})
	return err
}

// stepUp notes that the person has just shown again who they are. The cookie
// changes with it (session fixation); the new one is returned.
func (s *Store) stepUp(ctx context.Context, p Principal, method string) (string, error) {
	token, hash := newSecret()
	actor := p.Actor()
	actor.AuthMethod = method
	return token, s.db.Act(ctx, p.Actor(), func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, stepUpSQL, p.SessionID, s.now(), hash)
		if err != nil {
			return fmt.Errorf("note step-up: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return ErrNoSession
		}
		_, err = s.record.Append(ctx, tx, audit.Event{Action: audit.StepUp, Actor: actor, Roles: p.RoleNames(), Targets: sessionTarget(p.SessionID)})
		return err
	})
}

func (s *Store) stepUpFailed(ctx context.Context, p Principal, method, code string, cause error) error {
	actor := p.Actor()
	actor.AuthMethod = method
	err := s.record.Record(ctx, audit.Event{Action: audit.StepUp, Outcome: "failure", OutcomeCode: code, Severity: "warning",
		Actor: actor, Roles: p.RoleNames(), Targets: sessionTarget(p.SessionID)})
	if err != nil {
		return fmt.Errorf("record failed step-up: %w", err)
	}
	return cause
}
