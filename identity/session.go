package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
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

// Login opens a session. An unknown address, a wrong password and an account
// that is not open all give ErrBadCredentials, after the same time. Every
// outcome is in the audit; a login that cannot be recorded fails.
func (s *Store) Login(ctx context.Context, email, password string, from netip.Addr, userAgent string) (string, Principal, error) {
	claimed := strings.ToLower(strings.TrimSpace(email))
	if len(claimed) > 254 {
		claimed = claimed[:254]
	}
	if until, ok := s.throttle.Attempt(ctx, claimed, from); !ok {
		return "", Principal{}, s.loginFailed(ctx, claimed, "throttled", &ThrottledError{Until: until})
	}
	u, err := s.user(ctx, userByEmailSQL, claimed)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return "", Principal{}, err
	}
	ok, err := s.hasher.matches(ctx, password, u.passwordHash)
	if err != nil {
		return "", Principal{}, err
	}
	switch {
	case !ok:
		return "", Principal{}, s.loginFailed(ctx, claimed, "bad_credentials", ErrBadCredentials)
	case u.State != "active":
		return "", Principal{}, s.loginFailed(ctx, claimed, "account_"+u.State, ErrBadCredentials)
	}
	token, p, err := s.openSession(ctx, u, from, userAgent)
	if err != nil {
		return "", Principal{}, err
	}
	s.throttle.Succeeded(ctx, claimed, from)
	return token, p, nil
}

// loginFailed records a failure and returns cause. The claimed address is no
// identity: the actor is unknown.
func (s *Store) loginFailed(ctx context.Context, claimed, code string, cause error) error {
	ev := audit.Event{Action: audit.LoginFailed, Outcome: "failure", OutcomeCode: code, Severity: "warning", Actor: pg.Actor{Type: pg.ActorUnknown, AuthMethod: "password"},
		Targets: []audit.Target{{Type: "account", PII: claimed}}}
	if code == "throttled" {
		ev.Outcome = "refused"
	}
	if err := s.record.Record(ctx, ev); err != nil {
		return fmt.Errorf("record failed login: %w", err)
	}
	return cause
}

func (s *Store) openSession(ctx context.Context, u User, from netip.Addr, userAgent string) (string, Principal, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", Principal{}, fmt.Errorf("make session id: %w", err)
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	token := base64.RawURLEncoding.EncodeToString(secret)
	sum := sha256.Sum256([]byte(token))
	now := s.now()
	p := Principal{User: u, SessionID: id, AuthenticatedAt: now, Method: "password"}
	if p.Roles, p.InstallRoles, err = s.Grants(ctx, u.ID); err != nil {
		return "", Principal{}, err
	}
	var ip *netip.Addr
	if from.IsValid() {
		a := from.Unmap().WithZone("")
		ip = &a
	}
	err = s.db.Act(ctx, p.Actor(), func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, insertSessionSQL, id, sum[:], u.ID, now, now.Add(sessionLife), ip, agentClass(userAgent)); err != nil {
			return fmt.Errorf("insert session: %w", err)
		}
		if _, err := tx.Exec(ctx, loggedInSQL, u.ID, now); err != nil {
			return fmt.Errorf("note login: %w", err)
		}
		_, err := s.record.Append(ctx, tx, audit.Event{Action: audit.Login, Actor: p.Actor(), Roles: p.RoleNames(),
			Targets: []audit.Target{{Type: "session", ID: id.String()}}})
		return err
	})
	return token, p, err
}

// agentClass keeps of a browser's name only what kind of thing it is.
func agentClass(ua string) string {
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
	sum := sha256.Sum256([]byte(token))
	var p Principal
	var userID uuid.UUID
	var seen time.Time
	now := s.now()
	err := s.db.QueryRow(ctx, sessionSQL, sum[:], now, now.Add(-sessionIdle)).Scan(&p.SessionID, &userID, &seen, &p.AuthenticatedAt, &p.Method)
	if errors.Is(err, pgx.ErrNoRows) {
		return Principal{}, ErrNoSession
	}
	if err != nil {
		return Principal{}, fmt.Errorf("read session: %w", err)
	}
	if err := s.load(ctx, &p, userID); err != nil {
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

// Logout ends the session.
func (s *Store) Logout(ctx context.Context, p Principal) error {
	return s.db.Act(ctx, p.Actor(), func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, endSessionSQL, p.SessionID, s.now()); err != nil {
			return fmt.Errorf("end session: %w", err)
		}
		_, err := s.record.Append(ctx, tx, audit.Event{Action: audit.Logout, Actor: p.Actor(), Roles: p.RoleNames(),
			Targets: []audit.Target{{Type: "session", ID: p.SessionID.String()}}})
		return err
	})
}

// verify checks the principal's own password again, throttled like a login.
func (s *Store) verify(ctx context.Context, p Principal, password string) error {
	r, _ := pg.RequestFrom(ctx)
	if until, ok := s.throttle.Attempt(ctx, p.User.Email, r.SourceIP); !ok {
		return s.stepUpFailed(ctx, p, "throttled", &ThrottledError{Until: until})
	}
	u, err := s.user(ctx, userByIDSQL, p.User.ID)
	if err != nil {
		return err
	}
	ok, err := s.hasher.matches(ctx, password, u.passwordHash)
	if err != nil {
		return err
	}
	if !ok {
		return s.stepUpFailed(ctx, p, "bad_credentials", ErrBadCredentials)
	}
	s.throttle.Succeeded(ctx, p.User.Email, r.SourceIP)
	return nil
}

func (s *Store) stepUpFailed(ctx context.Context, p Principal, code string, cause error) error {
	err := s.record.Record(ctx, audit.Event{Action: audit.StepUp, Outcome: "failure", OutcomeCode: code, Severity: "warning",
		Actor: p.Actor(), Roles: p.RoleNames(), Targets: []audit.Target{{Type: "session", ID: p.SessionID.String()}}})
	if err != nil {
		return fmt.Errorf("record failed step-up: %w", err)
	}
	return cause
}

// ConfirmPassword takes the password once more before an act that needs it
// (step-up), and notes the time.
func (s *Store) ConfirmPassword(ctx context.Context, p Principal, password string) error {
	if err := s.verify(ctx, p, password); err != nil {
		return err
	}
	return s.db.Act(ctx, p.Actor(), func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, stepUpSQL, p.SessionID, s.now()); err != nil {
			return fmt.Errorf("note step-up: %w", err)
		}
		_, err := s.record.Append(ctx, tx, audit.Event{Action: audit.StepUp, Actor: p.Actor(), Roles: p.RoleNames(),
			Targets: []audit.Target{{Type: "session", ID: p.SessionID.String()}}})
		return err
	})
}

// ChangePassword sets a new one and ends the person's other sessions.
func (s *Store) ChangePassword(ctx context.Context, p Principal, old, fresh string) error {
	if err := s.verify(ctx, p, old); err != nil {
		return err
	}
	if fresh == old {
		return fmt.Errorf("%w: it is the old one", ErrWeakPassword)
	}
	if err := checkPassword(fresh, p.User.Email); err != nil {
		return err
	}
	hash, err := s.hasher.hash(ctx, fresh)
	if err != nil {
		return err
	}
	return s.db.Act(ctx, p.Actor(), func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, setPasswordSQL, p.User.ID, hash); err != nil {
			return fmt.Errorf("store password: %w", err)
		}
		if _, err := tx.Exec(ctx, endSessionsSQL, p.User.ID, p.SessionID); err != nil {
			return fmt.Errorf("end other sessions: %w", err)
		}
		_, err := s.record.Append(ctx, tx, audit.Event{Action: audit.PasswordChange, Actor: p.Actor(), Roles: p.RoleNames(), Retention: audit.Retention3Years,
			Targets: []audit.Target{{Type: "user_account", ID: p.User.ID.String()}}})
		return err
	})
}
