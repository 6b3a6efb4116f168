package identity

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/audit"
	"mailward/internal/pg"
)

// Each test is something that somebody from outside, or with a part of what it takes,
// could do to the sign-in.

func stranger(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, byte(i / perPair), 9}) }

func TestThrottle_OneAddressUsesUpNoAccount(t *testing.T) {
	t.Parallel()
	throttle := NewThrottle(nil, slog.New(slog.DiscardHandler))
	ctx, account := context.Background(), uuid.NewString()
	for range 4 * perAccount {
		throttle.Attempt(ctx, account, netip.MustParseAddr("198.51.100.66"), nil)
	}
	if v := throttle.Attempt(ctx, account, netip.MustParseAddr("203.0.113.5"), nil); !v.OK() {
		t.Errorf("one address keeps the owner out of where they have never been: %+v", v)
	}
}

func TestLogin_AFloodDoesNotFillTheRecord(t *testing.T) {
	t.Parallel()
	s, _, _ := newStore(t)
	firstAdmin(t, s)
	ctx := context.Background()
	var throttled *ThrottledError
	for i := range perAddress + 30 {
		_, _, err := s.Login(ctx, "erika@ours.example", "wrong", from, "")
		if i >= perPair && !errors.As(err, &throttled) {
			t.Fatalf("try %d: %v", i, err)
		}
	}
	// Up to the limit of the address each is there, with its lock-outs.
	if n := len(count(t, s, audit.LoginFailed, "")); n != perAddress+1 {
		t.Errorf("%d failures on record, want %d", n, perAddress+1)
	}
	locked := count(t, s, audit.Lockout, "")
	var codes []any
	for _, r := range locked {
		codes = append(codes, r.Fields()["outcome"].(map[string]any)["code"])
	}
	if len(codes) != 2 || codes[0] != "locked_address" || codes[1] != "locked_pair" {
		t.Errorf("lock-outs: %v", codes)
	}
	if _, _, err := s.Login(ctx, "erika@ours.example", password, netip.MustParseAddr("203.0.113.5"), ""); err != nil {
		t.Errorf("the owner, from elsewhere: %v", err)
	}
}

func TestSecondFactor_WhoHasThePasswordKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	s, _, c := newFullStore(t, nil)
	ctx := context.Background()
	_, p := signIn(t, s)
	_, codes := enrolTOTP(t, s, c, p)
	begin := func(from netip.Addr) string {
		t.Helper()
		var second *SecondFactorError
		if _, _, err := s.Login(ctx, "erika@ours.example", password, from, ""); !errors.As(err, &second) {
			t.Fatal(err)
		}
		return second.Step
	}
	step := begin(stranger(0))
	for i := range perAccount + 5 {
		if _, _, err := s.FinishLogin(ctx, step, "000000", stranger(i), ""); err == nil {
			t.Fatal("a made-up code")
		}
	}
	var throttled *ThrottledError
	if _, _, err := s.FinishLogin(ctx, step, codes[0], netip.MustParseAddr("203.0.113.5"), ""); !errors.As(err, &throttled) {
		t.Errorf("from an address that was never seen: %v", err)
	}
	if _, _, err := s.FinishLogin(ctx, begin(from), codes[0], from, ""); err != nil {
		t.Errorf("the owner, from where they were before: %v", err)
	}
}

func TestPassword_NoLoginIsFinishedWithTheOldOne(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, change := range map[string]func(*Store, Principal) error{
		"changed by its owner": func(s *Store, p Principal) error { return s.ChangePassword(ctx, p, password, "another good password") },
		"reset by an admin": func(s *Store, p Principal) error {
			_, err := s.ResetPassword(ctx, pg.Operator("root"), nil, p.User.ID)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _, c := newFullStore(t, nil)
			_, p := signIn(t, s)
			_, codes := enrolTOTP(t, s, c, p)
			var second *SecondFactorError
			if _, _, err := s.Login(ctx, "erika@ours.example", password, stranger(0), ""); !errors.As(err, &second) {
				t.Fatal(err)
			}
			if err := change(s, p); err != nil {
				t.Fatal(err)
			}
			if _, _, err := s.FinishLogin(ctx, second.Step, codes[0], stranger(0), ""); !errors.Is(err, ErrStep) {
				t.Errorf("a login that began with the old password: %v", err)
			}
		})
	}
}

func TestPasskey_MadeUpAnswersDoNotFillTheRecord(t *testing.T) {
	t.Parallel()
	s, _, _ := newFullStore(t, nil)
	ctx := pg.WithRequest(context.Background(), pg.Request{SourceIP: from})
	var throttled *ThrottledError
	for range perAddress + 10 {
		_, step, err := s.BeginPasskeyLogin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err = s.PasskeyLogin(ctx, step, []byte("{}"), from, ""); !errors.Is(err, ErrPasskey) && !errors.As(err, &throttled) {
			t.Fatal(err)
		}
	}
	if n, locked := len(count(t, s, audit.LoginFailed, "failure")), len(count(t, s, audit.Lockout, "")); n != perAddress || locked != 1 {
		t.Errorf("%d failures and %d lock-outs on record", n, locked)
	}
}

func TestSteps_OneAddressBeginsNotWithoutEnd(t *testing.T) {
	t.Parallel()
	s, db, _ := newFullStore(t, nil)
	ctx := pg.WithRequest(context.Background(), pg.Request{SourceIP: from})
	for range begunEach {
		s.throttle.Begun(ctx, from)
	}
	var throttled *ThrottledError
	if _, _, err := s.BeginPasskeyLogin(ctx); !errors.As(err, &throttled) {
		t.Errorf("%v", err)
	}
	if _, _, err := s.BeginPasskeyLogin(pg.WithRequest(ctx, pg.Request{SourceIP: stranger(0)})); err != nil {
		t.Errorf("somebody else: %v", err)
	}
	var n int
	if err := db.Pool.QueryRow(ctx, "SELECT count(*) FROM sign_in_step").Scan(&n); err != nil || n != 1 {
		t.Errorf("%d steps, %v", n, err)
	}
}

// TestToken_GivesNobodyMoreThanItHas: a token that may only make accounts would else
// be one that may do everything, by the account that it makes.
func TestToken_GivesNobodyMoreThanItHas(t *testing.T) {
	t.Parallel()
	s, _, _ := newStore(t)
	firstAdmin(t, s)
	ctx := context.Background()
	owner, err := s.FirstAdmin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	bearer := func(n NewToken) Principal {
		t.Helper()
		n.OwnerID = owner.ID
		plain, _, err := s.CreateToken(ctx, pg.Operator("root"), n)
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.Token(ctx, plain)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	narrow := bearer(NewToken{Role: Admin, Scopes: []Right{UsersWrite, ViewMeta, HealthRead, AlertsRead}})
	full := bearer(NewToken{Role: Admin, Workspace: DefaultWorkspace})
	u, err := s.CreateUser(ctx, pg.Operator("root"), NewUser{Email: "bob@ours.example", Password: password, Roles: []Role{Viewer}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		who  Principal
		role Role
		want error
	}{{narrow, Admin, ErrBeyondToken}, {narrow, Analyst, ErrBeyondToken}, {narrow, Viewer, nil}, {full, Admin, nil}, {full, Auditor, nil}} {
		if _, err := s.GrantRole(ctx, c.who, RoleChange{User: u.ID, Workspace: DefaultWorkspace, Role: c.role, Reason: "test"}); !errors.Is(err, c.want) {
			t.Errorf("grant %s: %v, want %v", c.role, err, c.want)
		}
	}
	if _, _, err := s.AddUser(ctx, narrow, NewUser{Email: "eve@ours.example", Password: password, Roles: []Role{Admin}}, "test"); !errors.Is(err, ErrBeyondToken) {
		t.Errorf("an account with more rights: %v", err)
	}
	if _, err := s.UserByEmail(ctx, "eve@ours.example"); !errors.Is(err, ErrNotFound) {
		t.Errorf("the account is there all the same: %v", err)
	}
}

// TestStepUp_TheOldCookieIsNotFresh: a cookie that somebody has copied goes on for the
// minute that calls under way need, but is no proof of who comes with it.
func TestStepUp_TheOldCookieIsNotFresh(t *testing.T) {
	t.Parallel()
	s, _, c := newFullStore(t, nil)
	ctx := context.Background()
	old, p := signIn(t, s)
	c.add(time.Hour)
	fresh, err := s.ConfirmPassword(ctx, p, password)
	if err != nil {
		t.Fatal(err)
	}
	for cookie, want := range map[string]error{old: ErrStepUp, fresh: nil} {
		p, err := s.Session(ctx, cookie)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.RecoveryCodes(ctx, p); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
}

// TestSSO_ALinkIsNotForEver: whoever had an account for a moment may have linked it with
// one of theirs. Its owner, or an admin, takes that away with all that it opened.
func TestSSO_ALinkIsNotForEver(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, end := range map[string]func(*Store, Principal) error{
		"by its owner": func(s *Store, p Principal) error { return s.Unlink(ctx, p, "corp") },
		"by an admin": func(s *Store, p Principal) error {
			return s.ResetFactors(ctx, pg.Operator("root"), nil, p.User.ID)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSSO(t, nil)
			_, admin := signIn(t, s.store)
			address, step, err := s.store.StartSSO(ctx, "corp", ForLink, "/settings", "", admin)
			if err != nil {
				t.Fatal(err)
			}
			back := s.visit(address, "erika")
			if _, err := s.store.FinishSSO(ctx, "corp", step, back.Get("state"), back.Get("code"), "", admin, from, ""); err != nil {
				t.Fatal(err)
			}
			token, _ := s.mustLogin("erika")
			_, anna := s.mustLogin("anna") // an account without a password
			if err := s.store.Unlink(ctx, anna, "corp"); !errors.Is(err, ErrInvalid) {
				t.Errorf("the only way in: %v", err)
			}
			if err := end(s.store, admin); err != nil {
				t.Fatal(err)
			}
			if _, err := s.store.Session(ctx, token); !errors.Is(err, ErrNoSession) {
				t.Errorf("what the link had opened: %v", err)
			}
			if _, err := s.login("erika"); !errors.Is(err, ErrTaken) {
				t.Errorf("the link that was taken away: %v", err)
			}
			if n := len(count(t, s.store, "external_identity.delete", "")); n != 1 {
				t.Errorf("%d on record", n)
			}
			if err := s.store.ResetFactors(ctx, pg.Operator("root"), nil, anna.User.ID); err != nil {
				t.Fatal(err)
			}
			if _, err := s.login("anna"); err != nil {
				t.Errorf("an account without a password keeps its link: %v", err)
			}
		})
	}
}
