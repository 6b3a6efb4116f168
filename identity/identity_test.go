package identity

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"mailward/audit"
	"mailward/internal/pg"
	"mailward/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

const password = "correct horse battery"

var from = netip.MustParseAddr("192.0.2.7")

type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.at }
func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	c.at = c.at.Add(d)
	c.mu.Unlock()
}

func newStore(t *testing.T) (*Store, *testenv.DB, *clock) {
	t.Helper()
	db := testenv.Postgres(t)
	c := &clock{at: time.Now()}
	log := audit.New(db.DB, audit.Options{Observer: audit.Observer{Node: "test"}})
	s, err := New(db.DB, log, Options{Now: c.now, Memory: 64, Rounds: 1})
	if err != nil {
		t.Fatal(err)
	}
	return s, db, c
}

func firstAdmin(t *testing.T, s *Store) {
	t.Helper()
	if _, err := s.Bootstrap(context.Background(), Bootstrap{Email: "Erika@ours.example", Password: password}); err != nil {
		t.Fatal(err)
	}
}

func count(t *testing.T, s *Store, action, outcome string) []audit.Row {
	t.Helper()
	p, err := s.record.List(context.Background(), audit.Filter{Action: action, Outcome: outcome, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return p.Items
}

func TestBootstrap_OnceEvenByMany(t *testing.T) {
	t.Parallel()
	s, _, _ := newStore(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	created := 0
	var once string
	for range 4 {
		wg.Go(func() {
			r, err := s.Bootstrap(context.Background(), Bootstrap{FourEyes: Required})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if r.Created {
				created++
				once = r.OneTimePassword
			}
		})
	}
	wg.Wait()
	if created != 1 || once == "" {
		t.Fatalf("created %d times, one-time password %q", created, once)
	}
	_, p, err := s.Login(context.Background(), "admin@localhost", once, from, "")
	if err != nil {
		t.Fatal(err)
	}
	if !p.User.MustChangePassword || p.Can(ViewMeta, uuid.Nil) {
		t.Error("the one-time password opens everything")
	}
	if err := s.ChangePassword(context.Background(), p, once, password); err != nil {
		t.Fatal(err)
	}
	_, p, err = s.Login(context.Background(), "admin@localhost", password, from, "")
	if err != nil || !p.Can(Release, DefaultWorkspace) || !p.Can(AuditRead, uuid.Nil) || !p.Can(UsersWrite, DefaultWorkspace) {
		t.Errorf("admin's rights: %v %v %v", p.Roles, p.InstallRoles, err)
	}
}

func TestLogin_RecordsEveryOutcome(t *testing.T) {
	t.Parallel()
	s, db, c := newStore(t)
	firstAdmin(t, s)
	ctx := pg.WithRequest(context.Background(), pg.Request{SourceIP: from, Application: "web-ui"})
	token, p, err := s.Login(ctx, " ERIKA@ours.example ", password, from, "Mozilla/5.0 (X11)")
	if err != nil {
		t.Fatal(err)
	}
	ok := count(t, s, audit.Login, "success")
	if len(ok) != 1 || ok[0].Fields()["actor"].(map[string]any)["email"] != "erika@ours.example" {
		t.Fatalf("%d logins on record", len(ok))
	}
	for _, who := range []string{"erika@ours.example", "nobody@ours.example"} {
		if _, _, err := s.Login(ctx, who, "wrong password here", from, ""); !errors.Is(err, ErrBadCredentials) {
			t.Errorf("%s: %v", who, err)
		}
	}
	bad := count(t, s, audit.LoginFailed, "failure")
	if len(bad) != 2 {
		t.Fatalf("%d failures on record, want 2", len(bad))
	}
	for _, r := range bad {
		if r.Fields()["actor"].(map[string]any)["type"] != "unknown" || bytes.Contains(r.Bytes, []byte("ours.example")) {
			t.Errorf("failed login: %s", r.Bytes)
		}
	}
	var stored int
	if err := db.Admin(t).QueryRow(ctx, "SELECT count(*) FROM session WHERE encode(token_hash, 'escape') LIKE '%' || $1 || '%'", token).Scan(&stored); err != nil || stored != 0 {
		t.Error("the cookie itself is in the database")
	}

	got, err := s.Session(ctx, token)
	if err != nil || got.SessionID != p.SessionID || got.User.Email != "erika@ours.example" {
		t.Fatalf("session: %+v, %v", got, err)
	}
	if _, err := s.Session(ctx, token+"x"); !errors.Is(err, ErrNoSession) {
		t.Errorf("a cookie that was made up: %v", err)
	}
	c.add(7 * time.Hour)
	if _, err := s.Session(ctx, token); err != nil {
		t.Errorf("after 7 hours: %v", err)
	}
	c.add(9 * time.Hour)
	if _, err := s.Session(ctx, token); !errors.Is(err, ErrNoSession) {
		t.Errorf("idle for 9 hours: %v", err)
	}
	token, p, err = s.Login(ctx, "erika@ours.example", password, from, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Logout(ctx, p, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Session(ctx, token); !errors.Is(err, ErrNoSession) {
		t.Errorf("after logout: %v", err)
	}
	if len(count(t, s, audit.Logout, "")) != 1 {
		t.Error("logout is not on record")
	}
}

func TestLogin_WithoutARecordThereIsNone(t *testing.T) {
	t.Parallel()
	s, db, _ := newStore(t)
	firstAdmin(t, s)
	// The audit cannot be written: its function is taken from the program.
	_, err := db.Admin(t).Exec(context.Background(), `BEGIN; SELECT audit.maintenance('test', 'no appends');
		REVOKE EXECUTE ON FUNCTION audit.append(uuid, bytea, jsonb) FROM mailward_app; COMMIT`)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Login(context.Background(), "erika@ours.example", password, from, ""); err == nil {
		t.Error("a login went through unrecorded")
	}
	var n int
	if err := db.Pool.QueryRow(context.Background(), "SELECT count(*) FROM session").Scan(&n); err != nil || n != 0 {
		t.Errorf("%d sessions, %v", n, err)
	}
}

func TestLogin_IsThrottled(t *testing.T) {
	t.Parallel()
	for name, client := range map[string]func() *redis.Client{
		"without Redis": func() *redis.Client { return nil },
		"Redis does not answer": func() *redis.Client {
			return redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialTimeout: 50 * time.Millisecond})
		},
		"with Redis": func() *redis.Client {
			opt, err := redis.ParseURL(testenv.Redis(t))
			if err != nil {
				t.Fatal(err)
			}
			return redis.NewClient(opt)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, _, _ := newStore(t)
			s.throttle = NewThrottle(client(), slog.New(slog.DiscardHandler))
			who := strings.ReplaceAll(name, " ", "") + "@ours.example"
			if _, err := s.Bootstrap(context.Background(), Bootstrap{Email: who, Password: password}); err != nil {
				t.Fatal(err)
			}
			var throttled *ThrottledError
			for i := range perPair {
				if _, _, err := s.Login(context.Background(), who, "wrong", from, ""); !errors.Is(err, ErrBadCredentials) {
					t.Fatalf("try %d: %v", i, err)
				}
			}
			if _, _, err := s.Login(context.Background(), who, password, from, ""); !errors.As(err, &throttled) || time.Until(throttled.Until) < time.Minute {
				t.Errorf("the right password after %d wrong ones: %v", perPair, err)
			}
			if len(count(t, s, audit.LoginFailed, "refused")) != 1 {
				t.Error("the refusal is not on record")
			}
			// Somebody else's failures do not lock the owner out.
			if _, _, err := s.Login(context.Background(), who, password, netip.MustParseAddr("2001:db8::1"), ""); err != nil {
				t.Errorf("from another address: %v", err)
			}
		})
	}
}

func TestThrottle_SharedByProcesses(t *testing.T) {
	t.Parallel()
	opt, err := redis.ParseURL(testenv.Redis(t))
	if err != nil {
		t.Fatal(err)
	}
	a, b := NewThrottle(redis.NewClient(opt), slog.Default()), NewThrottle(redis.NewClient(opt), slog.Default())
	account := uuid.NewString()
	for range perPair {
		a.Attempt(context.Background(), account, from, nil)
	}
	if b.Attempt(context.Background(), account, from, nil).OK() {
		t.Error("another process starts counting anew")
	}
	a.Succeeded(context.Background(), account, from)
	if !NewThrottle(redis.NewClient(opt), slog.Default()).Attempt(context.Background(), account, from, nil).OK() {
		t.Error("still locked after a success")
	}
}

func TestPassword_ChangeEndsOtherSessions(t *testing.T) {
	t.Parallel()
	s, _, c := newStore(t)
	firstAdmin(t, s)
	ctx := context.Background()
	other, _, err := s.Login(ctx, "erika@ours.example", password, from, "")
	if err != nil {
		t.Fatal(err)
	}
	mine, p, err := s.Login(ctx, "erika@ours.example", password, from, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, weak := range []string{"short", "aaaaaaaaaaaaaa", "erika@ours.example", password, "1234567890123456", strings.Repeat("x1", 300)} {
		if err := s.ChangePassword(ctx, p, password, weak); !errors.Is(err, ErrWeakPassword) {
			t.Errorf("%q: %v", weak, err)
		}
	}
	if err := s.ChangePassword(ctx, p, "not the old one", "another good password"); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("wrong old password: %v", err)
	}
	if err := s.ChangePassword(ctx, p, password, "another good password"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Session(ctx, other); !errors.Is(err, ErrNoSession) {
		t.Errorf("the other session: %v", err)
	}
	c.add(time.Hour)
	rotated, err := s.ConfirmPassword(ctx, p, "another good password")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Session(ctx, mine); err != nil {
		t.Errorf("a call that was under way with the old cookie: %v", err)
	}
	got, err := s.Session(ctx, rotated)
	if err != nil || c.now().Sub(got.AuthenticatedAt).Abs() > time.Second {
		t.Errorf("step-up is not noted: %v, %v", got.AuthenticatedAt, err)
	}
	rows := count(t, s, "user.update", "")
	if len(rows) == 0 || rows[0].Fields()["actor"].(map[string]any)["email"] != "erika@ours.example" {
		t.Error("the change of the password hash is not on record as hers")
	}
	if bytes.Contains(rows[0].Bytes, []byte("argon2id")) {
		t.Error("the record holds the hash")
	}
}

func TestToken_CountsAsItsOwner(t *testing.T) {
	t.Parallel()
	s, db, c := newStore(t)
	firstAdmin(t, s)
	ctx := context.Background()
	owner, err := s.FirstAdmin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	plain, tok, err := s.CreateToken(ctx, pg.Operator("root"), NewToken{Name: "ci", Role: Analyst, OwnerID: owner.ID, Expires: c.now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Token(ctx, plain)
	if err != nil || p.User.ID != owner.ID || !p.Can(Release, DefaultWorkspace) || p.Can(AuditRead, uuid.Nil) || p.Can(UsersWrite, uuid.Nil) {
		t.Fatalf("token: %+v, %v", p, err)
	}
	// What is done with it is on record as done by its owner.
	err = db.Act(ctx, p.Actor(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE policy SET version = version + 1")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f := count(t, s, "policy.update", "")[0].Fields()
	if a := f["actor"].(map[string]any); a["id"] != owner.ID.String() || f["auth"].(map[string]any)["credential_id"] != tok.ID.String() {
		t.Errorf("actor %v, auth %v", a, f["auth"])
	}
	made := count(t, s, "token.create", "")
	if len(made) != 1 || bytes.Contains(made[0].Bytes, []byte(plain)) || made[0].Fields()["actor"].(map[string]any)["type"] != "operator" {
		t.Errorf("token.create: %v", made)
	}
	for _, bad := range []string{"", plain + "0", "mw_", strings.ToUpper(plain), strings.TrimPrefix(plain, TokenPrefix)} {
		if _, err := s.Token(ctx, bad); !errors.Is(err, ErrNoSession) {
			t.Errorf("token %q: %v", bad, err)
		}
	}
	c.add(2 * time.Hour)
	if _, err := s.Token(ctx, plain); !errors.Is(err, ErrNoSession) {
		t.Errorf("an expired token: %v", err)
	}
	plain, tok, err = s.CreateToken(ctx, pg.Operator("root"), NewToken{Role: Viewer, OwnerID: owner.ID})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RevokeToken(ctx, p.Actor(), tok.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Token(ctx, plain); !errors.Is(err, ErrNoSession) {
		t.Errorf("a revoked token: %v", err)
	}
	if ts, err := s.Tokens(ctx); err != nil || len(ts) != 2 || ts[0].OwnerEmail != owner.Email {
		t.Errorf("list: %+v, %v", ts, err)
	}
}

func TestUser_LockedAccountIsOutAtOnce(t *testing.T) {
	t.Parallel()
	s, _, _ := newStore(t)
	firstAdmin(t, s)
	ctx := context.Background()
	u, err := s.CreateUser(ctx, pg.Operator("root"), NewUser{Email: "bob@ours.example", Password: password, Roles: []Role{Viewer}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateUser(ctx, pg.Operator("root"), NewUser{Email: "BOB@ours.example", Password: password}); !errors.Is(err, ErrExists) {
		t.Errorf("the same address twice: %v", err)
	}
	for _, bad := range []NewUser{{Email: "no address", Password: password}, {Email: "x@y.example", Password: "short"}, {Email: "x@y.example", Password: password, Roles: []Role{"god"}}} {
		if _, err := s.CreateUser(ctx, pg.Operator("root"), bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	cookie, p, err := s.Login(ctx, "bob@ours.example", password, from, "")
	if err != nil || !p.Can(ViewMeta, DefaultWorkspace) || p.Can(ViewMeta, uuid.New()) || p.Can(ViewBody, DefaultWorkspace) {
		t.Fatalf("%+v, %v", p, err)
	}
	token, _, err := s.CreateToken(ctx, p.Actor(), NewToken{Role: Viewer, OwnerID: u.ID})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetState(ctx, pg.Operator("root"), u.ID, "locked"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Session(ctx, cookie); !errors.Is(err, ErrNoSession) {
		t.Errorf("session of a locked account: %v", err)
	}
	if _, err := s.Token(ctx, token); !errors.Is(err, ErrNoSession) {
		t.Errorf("token of a locked account: %v", err)
	}
	if _, _, err := s.Login(ctx, "bob@ours.example", password, from, ""); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("login to a locked account: %v", err)
	}
}

func TestQueries_Prepare(t *testing.T) {
	t.Parallel()
	testenv.PrepareQueries(t, queryFiles)
}
