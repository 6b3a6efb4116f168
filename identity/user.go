package identity

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"net/mail"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"mailward/approval"
	"mailward/audit"
	"mailward/internal/pg"
)

//go:embed queries/*.sql
var queryFiles embed.FS

var (
	userByEmailSQL   = pg.Query(queryFiles, "user_by_email")
	userByIDSQL      = pg.Query(queryFiles, "user_by_id")
	usersSQL         = pg.Query(queryFiles, "users")
	insertUserSQL    = pg.Query(queryFiles, "insert_user")
	insertGrantSQL   = pg.Query(queryFiles, "insert_grant")
	grantsSQL        = pg.Query(queryFiles, "grants")
	setPasswordSQL   = pg.Query(queryFiles, "set_password")
	setPreferenceSQL = pg.Query(queryFiles, "set_preferences")
	setStateSQL      = pg.Query(queryFiles, "set_state")
	insertSessionSQL = pg.Query(queryFiles, "insert_session")
	sessionSQL       = pg.Query(queryFiles, "session")
	touchSessionSQL  = pg.Query(queryFiles, "touch_session")
	endSessionSQL    = pg.Query(queryFiles, "end_session")
	endSessionsSQL   = pg.Query(queryFiles, "end_sessions")
	stepUpSQL        = pg.Query(queryFiles, "step_up")
	loggedInSQL      = pg.Query(queryFiles, "logged_in")
	insertTokenSQL   = pg.Query(queryFiles, "insert_token")
	tokenSQL         = pg.Query(queryFiles, "token")
	touchTokenSQL    = pg.Query(queryFiles, "touch_token")
	tokensSQL        = pg.Query(queryFiles, "tokens")
	revokeTokenSQL   = pg.Query(queryFiles, "revoke_token")
	rotateTokenSQL   = pg.Query(queryFiles, "rotate_token")
	bootLockSQL      = pg.Query(queryFiles, "bootstrap_lock")
	anyUserSQL       = pg.Query(queryFiles, "any_user")
	initSettingSQL   = pg.Query(queryFiles, "init_setting")
	workspacesSQL    = pg.Query(queryFiles, "workspaces")
)

// What the package answers where it refuses.
var (
	ErrBadCredentials = errors.New("identity: wrong address or password")
	ErrNoSession      = errors.New("identity: no session")
	ErrNotFound       = errors.New("identity: not found")
	ErrExists         = errors.New("identity: an account has this address already")
	ErrWeakPassword   = errors.New("identity: password too short, too long or too easy")
	ErrInvalid        = errors.New("identity: not valid")
	ErrLastAdmin      = errors.New("identity: somebody has to stay who can do this: the last administrator of a workspace, or the last operator")
	ErrReasonRequired = errors.New("identity: a reason is required")
	ErrBeyondToken    = errors.New("identity: a token gives nobody a right that it has not itself")
	ErrArchived       = errors.New("identity: the workspace is archived")
	ErrInUse          = errors.New("identity: the workspace still serves domains")
	ErrNameTaken      = errors.New("identity: a workspace has this name already")
)

// ThrottledError means that too many logins failed; no password is looked at
// until then.
type ThrottledError struct{ Until time.Time }

func (e *ThrottledError) Error() string {
	return "identity: too many failed logins, wait until " + e.Until.UTC().Format(time.RFC3339)
}

// User is an account.
type User struct {
	ID                 uuid.UUID
	Email, Name        string
	State              string // active, locked, disabled
	MustChangePassword bool
	Locale, Theme      string
	CreatedAt          time.Time
	LastLoginAt        *time.Time
	BreakGlass         bool // for emergencies: its use is alarmed
	passwordHash       string
}

// Label is the name to show.
func (u User) Label() string {
	if u.Name != "" {
		return u.Name
	}
	return u.Email
}

// HasPassword says whether the account can log in with one.
func (u User) HasPassword() bool { return u.passwordHash != "" }

// Principal is who calls: a person with a session, or a token, which counts as
// its owner.
type Principal struct {
	User            User
	SessionID       uuid.UUID
	TokenID         uuid.UUID
	Roles           map[uuid.UUID][]Role
	InstallRoles    []Role
	AuthenticatedAt time.Time // last time that the person showed who they are
	Method          string    // password, password+totp, password+recovery, passkey, sso or token

	// Whose word for the person was taken: local, or a provider of single sign-on
	// with its protocol and issuer; and whether two factors were shown.
	Provider, Protocol, Issuer string
	MFA                        bool
	// EnrolBy is by when a second factor has to be there, where one is wanted and
	// there is none; after that MustEnrol is set and the roles are gone.
	EnrolBy   time.Time
	MustEnrol bool

	limit *tokenLimit // of a token
}

// Actor is the principal as the audit and the database know it.
func (p Principal) Actor() pg.Actor {
	return pg.Actor{Type: pg.ActorUser, UserID: p.User.ID, Email: p.User.Email, Display: p.User.Name,
		SessionID: p.SessionID, TokenID: p.TokenID, AuthMethod: p.Method, Provider: p.Provider, Protocol: p.Protocol, Issuer: p.Issuer, MFA: p.MFA}
}

// Options are what a Store needs beside the database.
type Options struct {
	Now      func() time.Time // default time.Now
	Log      *slog.Logger
	Throttle *Throttle // default: counters of this process alone
	// Cost of password hashes; tests make it small. Zero: 64 MiB, 3 rounds.
	Memory, Rounds uint32
	Policy         Policy
	Providers      []SSO
	// Sealer keeps secrets that have to be read again. Without one there is no
	// app with codes and no spool of logins.
	Sealer Sealer
	// SpoolDir is where logins wait while the audit cannot be written.
	SpoolDir  string
	PublicURL string                // our address, to which browsers bind passkeys
	Metrics   prometheus.Registerer // may be nil
}

// Policy is what an installation wants of those who sign in.
type Policy struct {
	Name                string        // of the installation, in an app with codes
	RequireSecondFactor bool          // of people with a password here
	Grace               time.Duration // from the first login on, to set one up
	Idle, Life          time.Duration // of a session. Default: 8 and 24 hours
}

// Sealer encrypts small secrets; aad says what they are for.
type Sealer interface {
	Wrap(ctx context.Context, plain, aad []byte) ([]byte, error)
	Unwrap(ctx context.Context, sealed, aad []byte) ([]byte, error)
}

// Store is the accounts, sessions and tokens.
type Store struct {
	db       *pg.DB
	record   *audit.Log
	asks     *approval.Store
	now      func() time.Time
	log      *slog.Logger
	throttle *Throttle
	hasher   *hasher

	policy    Policy
	providers []SSO
	sealer    Sealer
	spoolDir  string
	webauthn  *webauthn.WebAuthn // nil: no passkeys at our address

	breakGlass, spooled prometheus.Counter
	waiting             prometheus.Gauge
}

// New returns a Store. Of what it is given only the public address can be wrong,
// and the configuration has looked at that.
func New(db *pg.DB, record *audit.Log, opt Options) (*Store, error) {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Throttle == nil {
		opt.Throttle = NewThrottle(nil, opt.Log)
	}
	if opt.Policy.Idle == 0 {
		opt.Policy.Idle = sessionIdle
	}
	if opt.Policy.Life == 0 {
		opt.Policy.Life = sessionLife
	}
	s := &Store{db: db, record: record, asks: approval.New(db, record, opt.Now), now: opt.Now, log: opt.Log, throttle: opt.Throttle, hasher: newHasher(opt.Memory, opt.Rounds),
		policy: opt.Policy, providers: opt.Providers, sealer: opt.Sealer, spoolDir: opt.SpoolDir,
		breakGlass: prometheus.NewCounter(prometheus.CounterOpts{Name: "mailward_break_glass_logins_total", Help: "Logins to an account for emergencies."}),
		spooled:    prometheus.NewCounter(prometheus.CounterOpts{Name: "mailward_logins_spooled_total", Help: "Logins, right or wrong, that could not be recorded at once."}),
		waiting:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "mailward_logins_waiting", Help: "Logins on the disk that wait for the audit."}),
	}
	if opt.Metrics != nil {
		for _, c := range []prometheus.Collector{s.breakGlass, s.spooled, s.waiting} {
			if err := opt.Metrics.Register(c); err != nil {
				return nil, fmt.Errorf("register metrics of logins: %w", err)
			}
		}
	}
	var err error
	if s.webauthn, err = newWebAuthn(opt.PublicURL, opt.Policy.Name); err != nil {
		return nil, fmt.Errorf("set up passkeys: %w", err)
	}
	return s, nil
}

// NormaliseEmail is the one way in which an address is written here.
func NormaliseEmail(s string) (string, error) {
	s = strings.ToLower(strings.TrimSpace(s))
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s || len(s) > 254 || strings.ContainsAny(s, " \"<>") {
		return "", fmt.Errorf("%w: %q is no mail address", ErrInvalid, s)
	}
	return s, nil
}

func scanUser(row pgx.CollectableRow) (u User, err error) {
	err = row.Scan(&u.ID, &u.Email, &u.Name, &u.State, &u.MustChangePassword, &u.Locale, &u.Theme, &u.CreatedAt, &u.LastLoginAt, &u.passwordHash, &u.BreakGlass)
	return u, err
}

func (s *Store) user(ctx context.Context, query string, arg any) (User, error) {
	rows, err := s.db.Query(ctx, query, arg)
	if err != nil {
		return User{}, fmt.Errorf("read account: %w", err)
	}
	u, err := pgx.CollectExactlyOneRow(rows, scanUser)
	if errors.Is(err, pgx.ErrNoRows) {
		return User{}, ErrNotFound
	}
	if err != nil {
		return User{}, fmt.Errorf("read account: %w", err)
	}
	return u, nil
}

// UserByEmail reads one account.
func (s *Store) UserByEmail(ctx context.Context, email string) (User, error) {
	return s.user(ctx, userByEmailSQL, strings.ToLower(strings.TrimSpace(email)))
}

// Users lists all accounts.
func (s *Store) Users(ctx context.Context) ([]User, error) {
	rows, err := s.db.Query(ctx, usersSQL)
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	us, err := pgx.CollectRows(rows, scanUser)
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return us, nil
}

// Grants are the roles of an account: per workspace, and of the installation.
func (s *Store) Grants(ctx context.Context, user uuid.UUID) (map[uuid.UUID][]Role, []Role, error) {
	rows, err := s.db.Query(ctx, grantsSQL, user)
	if err != nil {
		return nil, nil, fmt.Errorf("read roles: %w", err)
	}
	roles, install := map[uuid.UUID][]Role{}, []Role(nil)
	var w *uuid.UUID
	var r Role
	_, err = pgx.ForEachRow(rows, []any{&w, &r}, func() error {
		if w == nil {
			install = append(install, r)
		} else {
			roles[*w] = append(roles[*w], r)
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read roles: %w", err)
	}
	return roles, install, nil
}

// NewUser is an account to be made.
type NewUser struct {
	Email, Name, Password string
	Roles                 []Role    // in Workspace
	Workspace             uuid.UUID // zero: the default one
	InstallRoles          []Role
	MustChange            bool
}

// CreateUser makes an account. The database records it and each of its roles.
func (s *Store) CreateUser(ctx context.Context, actor pg.Actor, n NewUser) (User, error) {
	var id uuid.UUID
	err := s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) (err error) {
		id, err = s.createUser(ctx, tx, actor, n)
		return err
	})
	if err != nil {
		return User{}, err
	}
	return s.user(ctx, userByIDSQL, id)
}

func (s *Store) createUser(ctx context.Context, tx pgx.Tx, actor pg.Actor, n NewUser) (uuid.UUID, error) {
	email, err := NormaliseEmail(n.Email)
	if err != nil {
		return uuid.Nil, err
	}
	if err := checkPassword(n.Password, email, n.Name); err != nil {
		return uuid.Nil, err
	}
	for _, r := range append(append([]Role{}, n.Roles...), n.InstallRoles...) {
		if !ValidRole(r) {
			return uuid.Nil, fmt.Errorf("%w: there is no role %q", ErrInvalid, r)
		}
	}
	hash, err := s.hasher.hash(ctx, n.Password)
	if err != nil {
		return uuid.Nil, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, fmt.Errorf("make account id: %w", err)
	}
	by := maker(actor)
	_, err = tx.Exec(ctx, insertUserSQL, id, email, n.Name, hash, n.MustChange, by)
	if pg.IsUnique(err, "user_account_email_idx") {
		return uuid.Nil, ErrExists
	}
	if err != nil {
		return uuid.Nil, fmt.Errorf("insert account: %w", err)
	}
	if n.Workspace == uuid.Nil {
		n.Workspace = DefaultWorkspace
	}
	if err := s.grant(ctx, tx, id, &n.Workspace, n.Roles, by); err != nil {
		return uuid.Nil, err
	}
	return id, s.grant(ctx, tx, id, nil, n.InstallRoles, by)
}

func (s *Store) grant(ctx context.Context, tx pgx.Tx, user uuid.UUID, workspace *uuid.UUID, roles []Role, by string) error {
	for _, r := range roles {
		id, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("make id of role grant: %w", err)
		}
		if _, err := tx.Exec(ctx, insertGrantSQL, id, user, workspace, r, by); err != nil {
			return fmt.Errorf("grant role %s: %w", r, err)
		}
	}
	return nil
}

// SetPreferences notes the language and theme that a person chose.
func (s *Store) SetPreferences(ctx context.Context, p Principal, locale, theme string) error {
	return s.db.Act(ctx, p.Actor(), func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, setPreferenceSQL, p.User.ID, locale, theme); err != nil {
			return fmt.Errorf("store preferences: %w", err)
		}
		return nil
	})
}

// SetState locks, disables or opens an account again, and ends its sessions
// unless it is open. The last administrator of a workspace, and the last operator,
// stay open.
func (s *Store) SetState(ctx context.Context, actor pg.Actor, user uuid.UUID, state string) error {
	return s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockRolesSQL); err != nil {
			return fmt.Errorf("wait for other changes of roles: %w", err)
		}
		tag, err := tx.Exec(ctx, setStateSQL, user, state)
		if err != nil {
			return fmt.Errorf("set state of account: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return ErrNotFound
		}
		if state == "active" {
			return nil
		}
		if err := s.someoneLeft(ctx, tx, user); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, endSessionsSQL, user, uuid.Nil, endedByAdmin); err != nil {
			return fmt.Errorf("end sessions: %w", err)
		}
		return nil
	})
}

// WorkspacesOf lists the workspaces in which the principal has a right, by
// name where it has it in every one. all says so.
func (s *Store) WorkspacesOf(ctx context.Context, p Principal, right Right) (list []uuid.UUID, all bool, err error) {
	list, all = p.Workspaces(right)
	if !all {
		return list, false, nil
	}
	rows, err := s.db.Query(ctx, workspacesSQL)
	if err != nil {
		return nil, false, fmt.Errorf("list workspaces: %w", err)
	}
	if list, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID]); err != nil {
		return nil, false, fmt.Errorf("list workspaces: %w", err)
	}
	return list, true, nil
}
