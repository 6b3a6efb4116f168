package identity

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/audit"
	"mailward/identity/sso"
)

// What real providers do, and people with several tabs.

func TestSSO_TwoTabsAtOnce(t *testing.T) {
	t.Parallel()
	s := newSSO(t, nil)
	ctx := context.Background()
	one, browser, err := s.store.StartSSO(ctx, "corp", ForLogin, "/a", "", Principal{})
	if err != nil {
		t.Fatal(err)
	}
	two, again, err := s.store.StartSSO(ctx, "corp", ForLogin, "/b", browser, Principal{})
	if err != nil || again != browser {
		t.Fatalf("the second tab changes the cookie of the first: %v", err)
	}
	// A first sign-in at once in both: one account, and both get in.
	var wg sync.WaitGroup
	results, failures := make([]SSOResult, 2), make([]error, 2)
	for i, address := range []string{one, two} {
		back := s.visit(address, "anna")
		wg.Go(func() {
			results[i], failures[i] = s.store.FinishSSO(ctx, "corp", browser, back.Get("state"), back.Get("code"), "", Principal{}, from, "")
		})
	}
	wg.Wait()
	for i, next := range []string{"/a", "/b"} {
		if failures[i] != nil || results[i].Next != next || results[i].Token == "" {
			t.Errorf("tab %d: %+v, %v", i+1, results[i], failures[i])
		}
	}
	var accounts, grants int
	if err := s.store.db.QueryRow(ctx, "SELECT (SELECT count(*) FROM user_account WHERE email = 'anna@ours.example'), (SELECT count(*) FROM role_grant WHERE granted_by = 'sso:corp')").Scan(&accounts, &grants); err != nil || accounts != 1 || grants != 2 {
		t.Errorf("%d accounts, %d roles, %v", accounts, grants, err)
	}
	for _, action := range []string{"user.create", "external_identity.create", "role.create"} {
		rows := count(t, s.store, action, "success")
		if len(rows) == 0 {
			t.Errorf("%s is not on record", action)
			continue
		}
		auth := rows[0].Fields()["auth"].(map[string]any)
		if auth["provider"] != "corp" || auth["protocol"] != "oidc" || auth["issuer"] != s.idp.Issuer {
			t.Errorf("%s on record without the provider: %v", action, auth)
		}
	}
}

// Dex, LemonLDAP::NG and others leave the claim out for people in no group.
func TestSSO_LastGroupGoesWithItsClaim(t *testing.T) {
	t.Parallel()
	s := newSSO(t, nil)
	_, p := s.mustLogin("anna")
	s.idp.SetClaims("anna", map[string]any{})
	if _, err := s.login("anna"); !errors.Is(err, ErrNoRole) {
		t.Errorf("in no group any more: %v", err)
	}
	roles, install, err := s.store.Grants(context.Background(), p.User.ID)
	if err != nil || len(roles)+len(install) != 0 {
		t.Errorf("roles that are left: %v %v %v", roles, install, err)
	}
}

// App roles are whole, also for people whose groups are too many.
func TestSSO_RolesBesideAnOverageOfGroups(t *testing.T) {
	t.Parallel()
	s := newSSO(t, func(c *sso.Config) { c.GroupsClaim = "roles" })
	over := map[string]any{"_claim_names": map[string]string{"groups": "src1"}, "_claim_sources": map[string]any{"src1": map[string]string{"endpoint": "https://graph.example/"}}, "roles": []string{"soc"}}
	s.idp.SetClaims("anna", over)
	if _, p := s.mustLogin("anna"); !p.Can(Release, DefaultWorkspace) {
		t.Errorf("%v", p.RoleNames())
	}
	delete(over, "roles")
	s.idp.SetClaims("anna", over)
	if _, err := s.login("anna"); !errors.Is(err, ErrNoRole) {
		t.Errorf("without an app role: %v", err)
	}
}

// LemonLDAP::NG 2.21 writes no exp, as the drafts of the standard.
func TestSSO_LogoutTokenOfADraft(t *testing.T) {
	t.Parallel()
	s := newSSO(t, nil)
	token, _ := s.mustLogin("anna")
	raw := s.idp.Sign(t, map[string]any{"iss": s.idp.Issuer, "aud": []string{"mailward", "another"}, "sub": "anna", "sid": "s-anna", "iat": time.Now().Unix(), "jti": uuid.NewString(),
		"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}})
	if err := s.store.BackChannelLogout(context.Background(), "corp", raw); err != nil {
		t.Fatal(err)
	}
	if _, err := s.store.Session(context.Background(), token); !errors.Is(err, ErrNoSession) {
		t.Errorf("after the logout: %v", err)
	}
}

// A provider that names its session in logout tokens and not in ID tokens.
func TestSSO_LogoutOfASessionWithoutName(t *testing.T) {
	t.Parallel()
	s := newSSO(t, nil)
	ctx := context.Background()
	named, _ := s.mustLogin("anna")
	s.idp.SetClaims("anna", map[string]any{"groups": []string{"soc"}})
	unnamed, _ := s.mustLogin("anna")
	raw := s.idp.Sign(t, map[string]any{"iss": s.idp.Issuer, "aud": "mailward", "sub": "anna", "sid": "another", "iat": time.Now().Unix(), "jti": uuid.NewString(),
		"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}})
	if err := s.store.BackChannelLogout(ctx, "corp", raw); err != nil {
		t.Fatal(err)
	}
	if _, err := s.store.Session(ctx, unnamed); !errors.Is(err, ErrNoSession) {
		t.Errorf("the session without a name there: %v", err)
	}
	if _, err := s.store.Session(ctx, named); err != nil {
		t.Errorf("that of another session there: %v", err)
	}
}

func TestSSO_MadeUpAnswersDoNotFillTheRecord(t *testing.T) {
	t.Parallel()
	s := newSSO(t, nil)
	ctx := context.Background()
	var throttled *ThrottledError
	for range perAddress + 20 {
		_, err := s.store.FinishSSO(ctx, "corp", "", "made up", "made up", "", Principal{}, from, "")
		if !errors.Is(err, ErrStep) && !errors.As(err, &throttled) {
			t.Fatal(err)
		}
	}
	if throttled == nil || len(count(t, s.store, audit.LoginFailed, "failure")) != perAddress || len(count(t, s.store, audit.Lockout, "success")) != 1 {
		t.Errorf("%v; on record: %d and %d", throttled, len(count(t, s.store, audit.LoginFailed, "failure")), len(count(t, s.store, audit.Lockout, "success")))
	}
	s.mustLogin("anna") // who has something to show gets in
}

// slowProvider is one whose answers take as long as we wait at most.
type slowProvider struct {
	clock *clock
	calls atomic.Int32
	next  http.RoundTripper // nil: no answer
}

func (p *slowProvider) RoundTrip(r *http.Request) (*http.Response, error) {
	p.calls.Add(1)
	if p.next != nil {
		return p.next.RoundTrip(r)
	}
	p.clock.add(10 * time.Second)
	return nil, errors.New("timeout")
}

func TestSSO_ProviderIsAskedAnew(t *testing.T) {
	t.Parallel()
	s := newSSO(t, nil)
	ctx := context.Background()
	slow := &slowProvider{clock: s.clock}
	p := sso.New(sso.Config{Name: "x", Issuer: s.idp.Issuer, ClientID: "c"}, callback, &http.Client{Transport: slow}, s.clock.now)
	for range 5 {
		if _, _, err := p.Start(ctx, false); !errors.Is(err, sso.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	if n := slow.calls.Load(); n != 1 {
		t.Errorf("five people waited for %d tries", n)
	}
	slow.next = http.DefaultTransport
	s.clock.add(11 * time.Second)
	if _, _, err := p.Start(ctx, false); err != nil || slow.calls.Load() != 2 {
		t.Errorf("after it came back: %v", err)
	}
	// A key that was taken back, or an endpoint that moved, is heard of without a restart.
	s.clock.add(2 * time.Hour)
	if _, _, err := p.Start(ctx, false); err != nil || slow.calls.Load() != 3 {
		t.Errorf("two hours later: %v, %d calls", err, slow.calls.Load())
	}
	slow.next = nil
	s.clock.add(2 * time.Hour)
	for range 3 {
		if _, _, err := p.Start(ctx, false); err != nil || slow.calls.Load() != 4 {
			t.Errorf("while it is away: %v, %d calls", err, slow.calls.Load())
		}
	}
}

// An account whose address was not verified at first gets it when it is, and never
// that of another account.
func TestSSO_AddressVerifiedLater(t *testing.T) {
	t.Parallel()
	s := newSSO(t, nil)
	ctx := context.Background()
	_, p := s.mustLogin("ursel")
	c := sso.Claims{Provider: "corp", Issuer: s.idp.Issuer, Subject: "ursel"}
	for _, step := range []struct{ says, has string }{{"", p.User.Email}, {"erika@ours.example", p.User.Email}, {"Ursel@ours.example", "ursel@ours.example"}, {"another@ours.example", "ursel@ours.example"}} {
		c.Email = step.says
		if err := s.store.replacePlaceholder(ctx, c, p.User.ID); err != nil {
			t.Fatal(err)
		}
		if u, err := s.store.user(ctx, userByIDSQL, p.User.ID); err != nil || u.Email != step.has {
			t.Errorf("after %q: %s, %v", step.says, u.Email, err)
		}
	}
	if rows := count(t, s.store, "user.update", "success"); len(rows) == 0 || rows[0].Fields()["auth"].(map[string]any)["provider"] != "corp" {
		t.Errorf("on record: %v", rows)
	}
}

// What a provider could not or would not do is on record too.
func TestSSO_RefusalsOnRecord(t *testing.T) {
	t.Parallel()
	s := newSSO(t, nil)
	ctx := context.Background()
	raw := s.idp.Sign(t, map[string]any{"iss": s.idp.Issuer, "aud": "mailward", "sub": "anna", "iat": time.Now().Unix(), "jti": uuid.NewString(),
		"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": nil}})
	if err := s.store.BackChannelLogout(ctx, "corp", raw); !errors.Is(err, sso.ErrInvalid) {
		t.Errorf("an event that is no object: %v", err)
	}
	if err := s.store.FrontChannelLogout(ctx, "corp", "https://evil.example", "x"); !errors.Is(err, sso.ErrInvalid) {
		t.Errorf("another issuer: %v", err)
	}
	rows := count(t, s.store, audit.SSOLogout, "refused")
	if len(rows) != 2 {
		t.Fatalf("%d refused logouts on record", len(rows))
	}
	if auth := rows[0].Fields()["auth"].(map[string]any); auth["provider"] != "corp" {
		t.Errorf("%v", auth)
	}
	_, admin := signIn(t, s.store)
	if err := s.store.link(ctx, admin, sso.Claims{Provider: "corp", Issuer: s.idp.Issuer, Subject: "x"}); err != nil {
		t.Fatal(err)
	}
	if err := s.store.link(ctx, admin, sso.Claims{Provider: "corp", Issuer: s.idp.Issuer, Subject: "x"}); !errors.Is(err, ErrTaken) {
		t.Errorf("a link that is there: %v", err)
	}
	if rows := count(t, s.store, audit.LoginFailed, "refused"); len(rows) != 1 {
		t.Errorf("%d refused links on record", len(rows))
	}
	s.store.providers[0].Provider = sso.New(sso.Config{Name: "corp", Issuer: "http://127.0.0.1:1", ClientID: "c"}, callback, nil, nil)
	if _, _, err := s.store.StartSSO(ctx, "corp", ForLogin, "/", "", Principal{}); !errors.Is(err, sso.ErrUnavailable) {
		t.Fatal(err)
	}
	if rows := count(t, s.store, audit.LoginFailed, "failure"); len(rows) != 1 || rows[0].Fields()["outcome"].(map[string]any)["code"] != "provider_unavailable" {
		t.Errorf("on record: %v", rows)
	}
}
