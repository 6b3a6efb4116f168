package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
)

// maxPasskeys bounds how many a person has.
const maxPasskeys = 20

var (
	// ErrNoPasskeys means that browsers would not make passkeys for our address.
	ErrNoPasskeys = errors.New("identity: passkeys need a public address with a host name, over https or on localhost")
	// ErrPasskey means that the answer of the authenticator does not hold.
	ErrPasskey = errors.New("identity: the passkey's answer is not valid")
)

// newWebAuthn returns nil where our address can have no passkeys: browsers bind
// them to a host name and want a secure context.
func newWebAuthn(publicURL, name string) (*webauthn.WebAuthn, error) {
	u, err := url.Parse(publicURL)
	if err != nil || u.Hostname() == "" {
		return nil, nil
	}
	host := u.Hostname()
	if _, err := netip.ParseAddr(host); err == nil || u.Scheme != "https" && host != "localhost" {
		return nil, nil
	}
	return webauthn.New(&webauthn.Config{
		RPID: host, RPDisplayName: "Mailward " + name, RPOrigins: []string{u.Scheme + "://" + u.Host}, AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{ResidentKey: protocol.ResidentKeyRequirementRequired, UserVerification: protocol.VerificationRequired},
		Timeouts: webauthn.TimeoutsConfig{
			Login:        webauthn.TimeoutConfig{Enforce: true, Timeout: stepLife, TimeoutUVD: stepLife},
			Registration: webauthn.TimeoutConfig{Enforce: true, Timeout: stepLife, TimeoutUVD: stepLife},
		},
	})
}

// PasskeysWork says whether passkeys can be used at our address.
func (s *Store) PasskeysWork() bool { return s.webauthn != nil }

// Passkey is one of a person's.
type Passkey struct {
	ID         uuid.UUID
	Name       string
	CreatedAt  time.Time
	LastUsedAt *time.Time
	credential webauthn.Credential
}

// Passkeys lists a person's, the oldest first.
func (s *Store) Passkeys(ctx context.Context, user uuid.UUID) ([]Passkey, error) {
	rows, err := s.db.Query(ctx, passkeysSQL, user)
	if err != nil {
		return nil, fmt.Errorf("list passkeys: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (k Passkey, err error) {
		var id, record []byte
		if err := row.Scan(&k.ID, &id, &record, &k.Name, &k.CreatedAt, &k.LastUsedAt); err != nil {
			return k, err
		}
		return k, json.Unmarshal(record, &k.credential)
	})
	if err != nil {
		return nil, fmt.Errorf("list passkeys: %w", err)
	}
	return list, nil
}

// holder is an account as WebAuthn sees it.
type holder struct {
	user User
	keys []Passkey
}

func (h holder) WebAuthnID() []byte          { return h.user.ID[:] }
func (h holder) WebAuthnName() string        { return h.user.Email }
func (h holder) WebAuthnDisplayName() string { return h.user.Label() }
func (h holder) WebAuthnCredentials() (list []webauthn.Credential) {
	for _, k := range h.keys {
		list = append(list, k.credential)
	}
	return list
}

func (s *Store) holder(ctx context.Context, u User) (holder, error) {
	keys, err := s.Passkeys(ctx, u.ID)
	return holder{user: u, keys: keys}, err
}

// BeginPasskeyAdd starts the making of a passkey (WebAuthn §7.1): options are
// for the browser, and the step for [Store.AddPasskey].
func (s *Store) BeginPasskeyAdd(ctx context.Context, p Principal) (options any, stepToken string, err error) {
	if s.webauthn == nil {
		return nil, "", ErrNoPasskeys
	}
	if err := s.fresh(p); err != nil {
		return nil, "", err
	}
	h, err := s.holder(ctx, p.User)
	if err != nil {
		return nil, "", err
	}
	if len(h.keys) >= maxPasskeys {
		return nil, "", fmt.Errorf("%w: %d passkeys are the most", ErrInvalid, maxPasskeys)
	}
	var known []protocol.CredentialDescriptor
	for _, c := range h.WebAuthnCredentials() {
		known = append(known, c.Descriptor())
	}
	creation, session, err := s.webauthn.BeginRegistration(h, webauthn.WithExclusions(known))
	if err != nil {
		return nil, "", fmt.Errorf("begin passkey: %w", err)
	}
	stepToken, err = s.newStep(ctx, stepPasskeyAdd, step{User: p.User.ID, Session: p.SessionID}, session)
	return creation, stepToken, err
}

// AddPasskey keeps the passkey that the browser made, and returns recovery codes
// where the account has none yet.
func (s *Store) AddPasskey(ctx context.Context, p Principal, stepToken, name string, response []byte) ([]string, error) {
	if s.webauthn == nil {
		return nil, ErrNoPasskeys
	}
	if err := s.fresh(p); err != nil {
		return nil, err
	}
	var session webauthn.SessionData
	of, err := s.takeStep(ctx, stepPasskeyAdd, stepToken, &session)
	if err != nil {
		return nil, err
	}
	if of.User != p.User.ID || of.Session != p.SessionID {
		return nil, ErrStep
	}
	if name = strings.TrimSpace(name); name == "" || len([]rune(name)) > 100 {
		return nil, fmt.Errorf("%w: a passkey needs a name of at most 100 characters", ErrInvalid)
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(response)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPasskey, err)
	}
	c, err := s.webauthn.CreateCredential(holder{user: p.User}, session, parsed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPasskey, err)
	}
	record, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode passkey: %w", err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make id of passkey: %w", err)
	}
	err = s.db.Act(ctx, p.Actor(), func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, insertPasskeySQL, id, p.User.ID, c.ID, record, name, s.now()); err != nil {
			if pg.IsUnique(err, "passkey_credential_id_key") {
				return ErrConfirmed
			}
			return fmt.Errorf("store passkey: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.firstRecoveryCodes(ctx, p)
}

// RemovePasskey takes one of the person's own away.
func (s *Store) RemovePasskey(ctx context.Context, p Principal, id uuid.UUID) error {
	if err := s.fresh(p); err != nil {
		return err
	}
	return s.changeFactors(ctx, p, deletePasskeySQL, p.User.ID, id)
}

// BeginPasskeyLogin starts a login by passkey alone: the browser finds out who
// it is. It counts as two factors, as the device asks for a PIN or a finger.
func (s *Store) BeginPasskeyLogin(ctx context.Context) (options any, stepToken string, err error) {
	if s.webauthn == nil {
		return nil, "", ErrNoPasskeys
	}
	if err := s.mayBegin(ctx); err != nil {
		return nil, "", err
	}
	assertion, session, err := s.webauthn.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return nil, "", fmt.Errorf("begin login by passkey: %w", err)
	}
	stepToken, err = s.newStep(ctx, stepPasskeyLogin, step{}, session)
	return assertion, stepToken, err
}

// PasskeyLogin opens a session by passkey.
func (s *Store) PasskeyLogin(ctx context.Context, stepToken string, response []byte, from netip.Addr, userAgent string) (string, Principal, error) {
	if s.webauthn == nil {
		return "", Principal{}, ErrNoPasskeys
	}
	who := attempt{key: "passkey", from: from, method: "passkey", target: audit.Target{Type: "passkey", ID: "unknown"}, action: audit.LoginFailed}
	var session webauthn.SessionData
	if _, err := s.takeStep(ctx, stepPasskeyLogin, stepToken, &session); err != nil {
		return "", Principal{}, err
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(response)
	if err != nil {
		return "", Principal{}, s.failedPasskey(ctx, who, "bad_answer", fmt.Errorf("%w: %w", ErrPasskey, err))
	}
	var h holder
	c, err := s.webauthn.ValidateDiscoverableLogin(func(_, handle []byte) (webauthn.User, error) {
		id, err := uuid.FromBytes(handle)
		if err != nil {
			return nil, err
		}
		u, err := s.user(ctx, userByIDSQL, id)
		if err != nil {
			return nil, err
		}
		h, err = s.holder(ctx, u)
		return h, err
	}, session, parsed)
	if h.user.ID != uuid.Nil {
		who.target = audit.Target{Type: "user_account", ID: h.user.ID.String()}
	}
	if err == nil {
		err = s.usedPasskey(ctx, h.user.ID, c)
	}
	if err != nil {
		return "", Principal{}, s.failedPasskey(ctx, who, "bad_answer", fmt.Errorf("%w: %w", ErrPasskey, err))
	}
	if h.user.State != "active" {
		return "", Principal{}, s.failedPasskey(ctx, who, "account_"+h.user.State, ErrPasskey)
	}
	return s.openSession(ctx, h.user, way{Method: "passkey", Provider: "local", MFA: true}, from, userAgent)
}

// failedPasskey records a failure. Anybody can make up answers of a passkey: beyond a
// number from one network only the lock-out is on record.
func (s *Store) failedPasskey(ctx context.Context, a attempt, code string, cause error) error {
	switch v := s.throttle.Address(ctx, "passkey", a.from); {
	case v.First:
		if err := s.recordOrSpool(ctx, lockout(a, v)); err != nil {
			return fmt.Errorf("record failed login: %w", err)
		}
		return cause
	case !v.OK():
		return &ThrottledError{Until: v.Until}
	}
	return s.failed(ctx, a, code, cause)
}

// usedPasskey stores the counter of the authenticator. One that goes back means
// that there is a copy (WebAuthn §6.1.1), and that is refused.
func (s *Store) usedPasskey(ctx context.Context, user uuid.UUID, c *webauthn.Credential) error {
	if c.Authenticator.CloneWarning {
		return errors.New("the counter of the passkey went back: there may be a copy of it")
	}
	record, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode passkey: %w", err)
	}
	return s.db.Act(ctx, anonymous, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, usePasskeySQL, user, c.ID, record, s.now())
		if err != nil {
			return fmt.Errorf("note use of passkey: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return ErrNotFound
		}
		return nil
	})
}
