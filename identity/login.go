package identity

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
)

// knownFor is how long a network from which somebody came in counts as theirs.
const knownFor = 90 * 24 * time.Hour

// SecondFactorError means that the password was right and a second factor is
// still to be shown. Step is for [Store.FinishLogin].
type SecondFactorError struct {
	Step    string
	Factors Factors
}

func (e *SecondFactorError) Error() string { return "identity: a second factor is needed" }

// Login opens a session by password. An unknown address, a wrong password and an
// account that is not open all give ErrBadCredentials, after the same time. An
// account with a second factor gives a [SecondFactorError]. Every outcome is in
// the audit; a login that can be neither recorded nor kept for it fails.
func (s *Store) Login(ctx context.Context, email, password string, from netip.Addr, userAgent string) (string, Principal, error) {
	claimed := strings.ToLower(strings.TrimSpace(email))
	if len(claimed) > 254 {
		claimed = claimed[:254]
	}
	// PostgreSQL takes neither; a try must not escape the record by them.
	claimed = strings.ToValidUTF8(strings.ReplaceAll(claimed, "\x00", "\uFFFD"), "\uFFFD")
	who := attempt{key: claimed, from: from, method: "password", target: audit.Target{Type: "account", PII: claimed}, action: audit.LoginFailed}
	if err := s.mayTry(ctx, who, func() bool { return s.knows(ctx, claimed, from) }); err != nil {
		return "", Principal{}, err
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
		return "", Principal{}, s.failed(ctx, who, "bad_credentials", ErrBadCredentials)
	case u.State != "active":
		return "", Principal{}, s.failed(ctx, who, "account_"+u.State, ErrBadCredentials)
	}
	f, err := s.Factors(ctx, u.ID)
	if err != nil {
		return "", Principal{}, err
	}
	if f.Any() {
		token, err := s.newStep(ctx, stepSecondFactor, step{User: u.ID}, struct{}{})
		if err != nil {
			return "", Principal{}, err
		}
		return "", Principal{}, &SecondFactorError{Step: token, Factors: f}
	}
	token, p, err := s.openSession(ctx, u, way{Method: "password", Provider: "local"}, from, userAgent)
	if err != nil {
		return "", Principal{}, err
	}
	s.throttle.Succeeded(ctx, claimed, from)
	return token, p, nil
}

// FinishLogin takes the second factor of a login whose password was right: a
// code of the app, or a recovery code in its place.
func (s *Store) FinishLogin(ctx context.Context, stepToken, code string, from netip.Addr, userAgent string) (string, Principal, error) {
	var none struct{}
	of, err := s.peekStep(ctx, stepSecondFactor, stepToken, &none)
	if err != nil {
		return "", Principal{}, err
	}
	u, err := s.user(ctx, userByIDSQL, of.User)
	if err != nil {
		return "", Principal{}, err
	}
	who := attempt{key: u.ID.String() + " second", from: from, method: "totp", target: audit.Target{Type: "user_account", ID: u.ID.String()}, action: audit.MFAFailed}
	// Whoever has the password must not keep its owner out.
	if err := s.mayTry(ctx, who, func() bool { return s.knows(ctx, u.Email, from) }); err != nil {
		return "", Principal{}, err
	}
	if u.State != "active" {
		return "", Principal{}, s.failed(ctx, who, "account_"+u.State, ErrBadCredentials)
	}
	method, err := s.useCode(ctx, u, code)
	if errors.Is(err, ErrBadCredentials) {
		return "", Principal{}, s.failed(ctx, who, "bad_code", ErrBadCredentials)
	}
	if err != nil {
		return "", Principal{}, err
	}
	if _, err := s.takeStep(ctx, stepSecondFactor, stepToken, &none); err != nil {
		return "", Principal{}, err
	}
	token, p, err := s.openSession(ctx, u, way{Method: "password+" + method, Provider: "local", MFA: true}, from, userAgent)
	if err != nil {
		return "", Principal{}, err
	}
	s.throttle.Succeeded(ctx, who.key, from)
	s.throttle.Succeeded(ctx, u.Email, from)
	return token, p, nil
}

// knows says whether the account has come in from this network lately. Then a
// wide attack on the account does not keep its owner out.
func (s *Store) knows(ctx context.Context, email string, from netip.Addr) bool {
	var known bool
	if err := s.db.QueryRow(ctx, knownNetworkSQL, email, networkOf(from), s.now().Add(-knownFor)).Scan(&known); err != nil {
		s.log.Warn("networks of an account not read", "error", err)
		return false
	}
	return known
}

// attempt is one try to show who one is.
type attempt struct {
	key    string // what is counted
	from   netip.Addr
	method string
	target audit.Target
	action string // of a failure
}

// mayTry counts a try, and refuses it where there were too many. Of a flood from one
// address only its lock-out is on record: whoever goes on must not fill the record, or
// the spool without which nobody gets in while the record cannot be written.
func (s *Store) mayTry(ctx context.Context, a attempt, known func() bool) error {
	v := s.throttle.Attempt(ctx, a.key, a.from, known)
	if v.OK() {
		return nil
	}
	if v.Flood {
		return &ThrottledError{Until: v.Until}
	}
	if v.First {
		if err := s.recordOrSpool(ctx, lockout(a, v)); err != nil {
			return err
		}
		s.log.Warn("logins are refused for a while", "limit", v.Limit, "until", v.Until)
	}
	return s.failed(ctx, a, "throttled", &ThrottledError{Until: v.Until})
}

// lockout is the event of the first try that is too many.
func lockout(a attempt, v Verdict) audit.Event {
	ev := a.event("locked_" + v.Limit)
	ev.Action, ev.Outcome, ev.Retention = audit.Lockout, "success", audit.Retention3Years
	ev.After = map[string]any{"until": v.Until.UTC().Format(time.RFC3339)}
	return ev
}

// event is a failure. What was claimed is no identity: the actor is unknown.
func (a attempt) event(code string) audit.Event {
	ev := audit.Event{Action: a.action, Outcome: "failure", OutcomeCode: code, Severity: "warning", Targets: []audit.Target{a.target},
		Actor: pg.Actor{Type: pg.ActorUnknown, AuthMethod: a.method}}
	if code == "throttled" {
		ev.Outcome = "refused"
	}
	return ev
}

// failed records a failure and returns cause.
func (s *Store) failed(ctx context.Context, a attempt, code string, cause error) error {
	if err := s.recordOrSpool(ctx, a.event(code)); err != nil {
		return fmt.Errorf("record failed login: %w", err)
	}
	return cause
}

// verify checks the principal's own password again, throttled like a login.
func (s *Store) verify(ctx context.Context, p Principal, password string) error {
	r, _ := pg.RequestFrom(ctx)
	if v := s.throttle.Attempt(ctx, p.User.Email, r.SourceIP, func() bool { return true }); !v.OK() {
		return s.stepUpFailed(ctx, p, "password", "throttled", &ThrottledError{Until: v.Until})
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
		return s.stepUpFailed(ctx, p, "password", "bad_credentials", ErrBadCredentials)
	}
	s.throttle.Succeeded(ctx, p.User.Email, r.SourceIP)
	return nil
}

// ConfirmPassword takes the password once more before an act that needs it
// (step-up), and notes the time. It returns the session's new cookie.
func (s *Store) ConfirmPassword(ctx context.Context, p Principal, password string) (string, error) {
	if err := s.verify(ctx, p, password); err != nil {
		return "", err
	}
	return s.stepUp(ctx, p, "password")
}

// ChangePassword sets a new one and ends the person's other sessions.
func (s *Store) ChangePassword(ctx context.Context, p Principal, old, fresh string) error {
	if err := s.verify(ctx, p, old); err != nil {
		return err
	}
	if normal(fresh) == normal(old) {
		return fmt.Errorf("%w: it is the old one", ErrWeakPassword)
	}
	if err := checkPassword(fresh, p.User.Email, p.User.Name); err != nil {
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
		if _, err := tx.Exec(ctx, endSessionsSQL, p.User.ID, p.SessionID, endedByPassword); err != nil {
			return fmt.Errorf("end other sessions: %w", err)
		}
		if _, err := tx.Exec(ctx, endStepsSQL, p.User.ID); err != nil {
			return fmt.Errorf("end logins that are half done: %w", err)
		}
		_, err := s.record.Append(ctx, tx, audit.Event{Action: audit.PasswordChange, Actor: p.Actor(), Roles: p.RoleNames(), Retention: audit.Retention3Years,
			Targets: []audit.Target{{Type: "user_account", ID: p.User.ID.String()}}})
		return err
	})
}
