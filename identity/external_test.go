package identity

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/audit"
	"mailward/identity/sso"
	"mailward/internal/pg"
	"mailward/internal/testenv"
)

const callback = "http://localhost:1/login/sso/corp/callback"

type ssoSite struct {
	t     *testing.T
	store *Store
	idp   *testenv.OpenID
	clock *clock
}

func newSSO(t *testing.T, change func(*sso.Config)) *ssoSite {
	t.Helper()
	idp := testenv.OpenIDProvider(t, callback, "http://localhost:1/login", map[string]testenv.OpenIDUser{
		"anna":  {Name: "Anna Analyst", Password: "pw", Email: "Anna@ours.example", EmailVerified: true, Claims: map[string]any{"groups": []string{"soc", "audit"}, "sid": "s-anna"}},
		"otto":  {Name: "Otto Outsider", Password: "pw", Email: "otto@ours.example", EmailVerified: true, Claims: map[string]any{"groups": []string{"sales"}}},
		"erika": {Name: "Erika Evil", Password: "pw", Email: "erika@ours.example", EmailVerified: true, Claims: map[string]any{"groups": []string{"soc"}}},
		"ursel": {Name: "Ursel Unverified", Password: "pw", Email: "ursel@ours.example", Claims: map[string]any{"groups": []string{"soc"}}},
	})
	cfg := sso.Config{Name: "corp", Title: "Corp", Issuer: idp.Issuer, ClientID: "mailward", ClientSecret: "secret", Scopes: []string{"profile", "email"}}
	if change != nil {
		change(&cfg)
	}
	s := &ssoSite{t: t, idp: idp}
	s.store, _, s.clock = newFullStore(t, func(o *Options) {
		o.Providers = []SSO{{Provider: sso.New(cfg, callback, nil, nil), Roles: []RoleOfGroup{{Group: "soc", Role: Analyst}, {Group: "audit", Role: Auditor, Workspace: "*"}, {Group: "lost", Role: Admin, Workspace: "no such workspace"}}}}
	})
	return s
}

var requestID = regexp.MustCompile(`name="id" value="([^"]+)"`)

// visit is the browser at the provider: it logs in there and comes back with
// what the provider put into the address.
func (s *ssoSite) visit(address, user string) url.Values {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	back := url.Values{}
	c := &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), callback) {
			back = r.URL.Query()
			return http.ErrUseLastResponse
		}
		return nil
	}}
	r, err := c.Get(address)
	if err != nil {
		s.t.Fatal(err)
	}
	page, err := io.ReadAll(r.Body)
	r.Body.Close()
	m := requestID.FindSubmatch(page)
	if err != nil || m == nil {
		s.t.Fatalf("no login page at %s: %s", address, page)
	}
	if r, err = c.PostForm(s.idp.Issuer+"/login/username", url.Values{"username": {user}, "password": {"pw"}, "id": {string(m[1])}}); err != nil {
		s.t.Fatal(err)
	}
	r.Body.Close()
	return back
}

func (s *ssoSite) login(user string) (string, error) {
	s.t.Helper()
	address, step, err := s.store.StartSSO(context.Background(), "corp", ForLogin, "/quarantine", "", Principal{})
	if err != nil {
		return "", err
	}
	back := s.visit(address, user)
	res, err := s.store.FinishSSO(context.Background(), "corp", step, back.Get("state"), back.Get("code"), back.Get("error"), Principal{}, from, "Mozilla/5.0")
	return res.Token, err
}

func (s *ssoSite) mustLogin(user string) (string, Principal) {
	s.t.Helper()
	token, err := s.login(user)
	if err != nil {
		s.t.Fatal(err)
	}
	p, err := s.store.Session(context.Background(), token)
	if err != nil {
		s.t.Fatal(err)
	}
	return token, p
}

func TestSSO_AccountAndRolesComeFromTheProvider(t *testing.T) {
	t.Parallel()
	s := newSSO(t, nil)
	ctx := context.Background()
	_, p := s.mustLogin("anna")
	if p.User.Email != "anna@ours.example" || p.User.Name != "Anna Analyst" || !p.Can(Release, DefaultWorkspace) || !p.Can(AuditExport, uuid.Nil) || p.Can(UsersWrite, uuid.Nil) {
		t.Fatalf("%+v: %v", p.User, p.RoleNames())
	}
	// The provider stands in every event of the session, those of triggers too.
	if err := s.store.SetState(ctx, p.Actor(), p.User.ID, "active"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.store.CreateUser(ctx, p.Actor(), NewUser{Email: "x@ours.example", Password: password}); err != nil {
		t.Fatal(err)
	}
	for _, action := range []string{audit.Login, "user.create"} {
		f := count(t, s.store, action, "success")[0].Fields()["auth"].(map[string]any)
		if f["method"] != "sso" || f["provider"] != "corp" || f["protocol"] != "oidc" || f["issuer"] != s.idp.Issuer || f["session_id"] != p.SessionID.String() {
			t.Errorf("%s on record: %v", action, f)
		}
	}
	// The account is the subject's, whatever address it has now, and the groups count anew.
	s.idp.SetClaims("anna", map[string]any{"groups": []string{"soc"}})
	_, again := s.mustLogin("anna")
	if again.User.ID != p.User.ID || again.Can(AuditExport, uuid.Nil) || !again.Can(Release, DefaultWorkspace) {
		t.Errorf("with fewer groups: %v", again.RoleNames())
	}
	// Too many groups for the token are not a loss of groups (Entra ID's overage).
	s.idp.SetClaims("anna", map[string]any{"_claim_names": map[string]string{"groups": "src1"}, "_claim_sources": map[string]any{"src1": map[string]string{"endpoint": "https://graph.example/"}}})
	if _, over := s.mustLogin("anna"); !over.Can(Release, DefaultWorkspace) {
		t.Errorf("with an overage: %v", over.RoleNames())
	}
	s.idp.SetClaims("anna", map[string]any{"groups": []string{"sales"}})
	if _, err := s.login("anna"); !errors.Is(err, ErrNoRole) {
		t.Errorf("without any role left: %v", err)
	}
}

func TestSSO_WhoIsKeptOut(t *testing.T) {
	t.Parallel()
	s := newSSO(t, nil)
	ctx := context.Background()
	if _, err := s.login("otto"); !errors.Is(err, ErrNoRole) {
		t.Errorf("no group of ours: %v", err)
	}
	// The provider says an address that an account here has: it proves nothing.
	if _, err := s.login("erika"); !errors.Is(err, ErrTaken) {
		t.Errorf("the address of the admin: %v", err)
	}
	_, p := s.mustLogin("ursel")
	if !strings.HasSuffix(p.User.Email, "@corp.invalid") {
		t.Errorf("an address that is not verified: %s", p.User.Email)
	}
	rows := count(t, s.store, audit.LoginFailed, "failure")
	if len(rows) != 2 || rows[0].Fields()["auth"].(map[string]any)["provider"] != "corp" || rows[0].Fields()["actor"].(map[string]any)["type"] != "unknown" {
		t.Errorf("%d failures on record", len(rows))
	}
	// The admin links the two herself; then it opens hers.
	_, admin := signIn(t, s.store)
	address, step, err := s.store.StartSSO(ctx, "corp", ForLink, "/settings", "", admin)
	if err != nil {
		t.Fatal(err)
	}
	back := s.visit(address, "erika")
	if _, err := s.store.FinishSSO(ctx, "corp", step, back.Get("state"), back.Get("code"), "", admin, from, ""); err != nil {
		t.Fatal(err)
	}
	if _, linked := s.mustLogin("erika"); linked.User.ID != admin.User.ID {
		t.Errorf("after the link: %s", linked.User.Email)
	}
	if err := s.store.SetState(ctx, pg.Operator("root"), p.User.ID, "disabled"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.login("ursel"); !errors.Is(err, ErrNoRole) {
		t.Errorf("a disabled account: %v", err)
	}
}

func TestSSO_OnlyTheBrowserThatBegan(t *testing.T) {
	t.Parallel()
	s := newSSO(t, nil)
	ctx := context.Background()
	start := func() (string, string) {
		address, step, err := s.store.StartSSO(ctx, "corp", ForLogin, "/", "", Principal{})
		if err != nil {
			t.Fatal(err)
		}
		return address, step
	}
	finish := func(step, state, code string) error {
		_, err := s.store.FinishSSO(ctx, "corp", step, state, code, "", Principal{}, from, "")
		return err
	}
	address, step := start()
	u, err := url.Parse(address)
	if err != nil || u.Query().Get("code_challenge_method") != "S256" || len(u.Query().Get("nonce")) < 20 || len(u.Query().Get("state")) < 20 {
		t.Errorf("address: %s", address)
	}
	back := s.visit(address, "anna")
	if err := finish(step, "another", back.Get("code")); !errors.Is(err, ErrStep) {
		t.Errorf("another state: %v", err)
	}
	_, elsewhere := start()
	if err := finish(elsewhere, back.Get("state"), back.Get("code")); !errors.Is(err, ErrStep) {
		t.Errorf("another browser: %v", err)
	}
	if err := finish(step, back.Get("state"), back.Get("code")); err != nil {
		t.Errorf("an answer that was made up used up the step: %v", err)
	}
	if err := finish(step, back.Get("state"), back.Get("code")); !errors.Is(err, ErrStep) {
		t.Errorf("the step was taken already: %v", err)
	}
	if n := len(count(t, s.store, audit.LoginFailed, "failure")); n != 3 {
		t.Errorf("%d of 3 failures on record", n)
	}
	// A code that was meant for another browser fails for its PKCE verifier.
	address, _ = start()
	stolen := s.visit(address, "anna")
	address, step = start()
	mine := s.visit(address, "otto")
	if err := finish(step, mine.Get("state"), stolen.Get("code")); !errors.Is(err, sso.ErrRefused) {
		t.Errorf("a stolen code: %v", err)
	}
	// The key changed between two logins.
	s.idp.Rotate()
	s.mustLogin("anna")
}

func TestSSO_Logout(t *testing.T) {
	t.Parallel()
	s := newSSO(t, nil)
	ctx := context.Background()
	token, _ := s.mustLogin("anna")
	good := func() map[string]any {
		now := time.Now()
		return map[string]any{"iss": s.idp.Issuer, "aud": "mailward", "sub": "anna", "sid": "s-anna", "iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(), "jti": uuid.NewString(),
			"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}}
	}
	for name, spoil := range map[string]func(map[string]any){
		"nonce":          func(c map[string]any) { c["nonce"] = "x" },
		"no event":       func(c map[string]any) { delete(c, "events") },
		"for another":    func(c map[string]any) { c["aud"] = "other" },
		"another issuer": func(c map[string]any) { c["iss"] = "https://evil.example" },
		"nobody":         func(c map[string]any) { delete(c, "sub"); delete(c, "sid") },
		"no jti":         func(c map[string]any) { delete(c, "jti") },
		"ended":          func(c map[string]any) { c["exp"] = time.Now().Add(-time.Hour).Unix() },
		"old":            func(c map[string]any) { c["iat"] = time.Now().Add(-time.Hour).Unix() },
		"from tomorrow":  func(c map[string]any) { c["iat"] = time.Now().Add(time.Hour).Unix() },
	} {
		c := good()
		spoil(c)
		if err := s.store.BackChannelLogout(ctx, "corp", s.idp.Sign(t, c)); !errors.Is(err, sso.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.store.Session(ctx, token); err != nil {
		t.Fatalf("ended by a token that does not hold: %v", err)
	}
	c := good()
	c["sid"] = "of nobody"
	if err := s.store.BackChannelLogout(ctx, "corp", s.idp.Sign(t, c)); err != nil {
		t.Errorf("a session that is not there: %v", err)
	}
	raw := s.idp.Sign(t, good())
	if err := s.store.BackChannelLogout(ctx, "corp", raw); err != nil {
		t.Fatal(err)
	}
	if _, err := s.store.Session(ctx, token); !errors.Is(err, ErrNoSession) {
		t.Errorf("after the logout: %v", err)
	}
	if err := s.store.BackChannelLogout(ctx, "corp", raw); !errors.Is(err, sso.ErrInvalid) {
		t.Errorf("the same token again: %v", err)
	}
	f := count(t, s.store, audit.SessionRevoke, "")[0].Fields()
	if f["actor"].(map[string]any)["type"] != "system" || f["auth"].(map[string]any)["provider"] != "corp" {
		t.Errorf("on record: %v %v", f["actor"], f["auth"])
	}

	token, _ = s.mustLogin("anna")
	for _, wrong := range [][2]string{{"https://evil.example", "s-anna"}, {"", ""}} {
		if err := s.store.FrontChannelLogout(ctx, "corp", wrong[0], wrong[1]); !errors.Is(err, sso.ErrInvalid) {
			t.Errorf("front channel %v: %v", wrong, err)
		}
	}
	if err := s.store.FrontChannelLogout(ctx, "corp", "", "s-anna"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.store.Session(ctx, token); !errors.Is(err, ErrNoSession) {
		t.Errorf("after the front-channel logout: %v", err)
	}

	// Our own logout leads to the provider's, with the token as a hint.
	_, p := s.mustLogin("anna")
	address, err := s.store.Logout(ctx, p, "http://localhost:1/login")
	u, perr := url.Parse(address)
	if err != nil || perr != nil || !strings.HasPrefix(address, s.idp.Issuer) || u.Query().Get("id_token_hint") == "" || u.Query().Get("client_id") != "mailward" {
		t.Fatalf("%q, %v, %v", address, err, perr)
	}
	r, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Get(address)
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusFound || r.Header.Get("Location") != "http://localhost:1/login" {
		t.Errorf("the provider's answer: %d %s", r.StatusCode, r.Header.Get("Location"))
	}
}

func TestSSO_StepUp(t *testing.T) {
	t.Parallel()
	s := newSSO(t, nil)
	ctx := context.Background()
	_, p := s.mustLogin("anna")
	for _, user := range []string{"ursel", "anna"} {
		address, step, err := s.store.StartSSO(ctx, "corp", ForConfirm, "/settings", "", p)
		if err != nil || !strings.Contains(address, "prompt=login") {
			t.Fatalf("%s, %v", address, err)
		}
		back := s.visit(address, user)
		res, err := s.store.FinishSSO(ctx, "corp", step, back.Get("state"), back.Get("code"), "", p, from, "")
		if user == "anna" && (err != nil || res.Token == "") || user != "anna" && !errors.Is(err, ErrOtherPerson) {
			t.Errorf("%s: %v", user, err)
		}
	}
	if len(count(t, s.store, audit.StepUp, "success")) != 1 || len(count(t, s.store, audit.StepUp, "failure")) != 1 {
		t.Error("the step-ups are not on record")
	}
}

func TestSSO_RequireMFA(t *testing.T) {
	t.Parallel()
	s := newSSO(t, func(c *sso.Config) { c.RequireMFA = true; c.GroupsClaim = "realm_access.roles" })
	s.idp.SetClaims("anna", map[string]any{"realm_access": map[string]any{"roles": []string{"soc"}}})
	if _, err := s.login("anna"); !errors.Is(err, sso.ErrRefused) {
		t.Errorf("without a second factor: %v", err)
	}
	s.idp.SetClaims("anna", map[string]any{"realm_access": map[string]any{"roles": []string{"soc"}}, "acr": "phr"})
	if _, p := s.mustLogin("anna"); !p.MFA {
		t.Error("the second factor is not noted")
	}
}

func TestSSO_ProviderThatDoesNotFit(t *testing.T) {
	t.Parallel()
	// Entra ID's shared tenants answer with a template for an issuer.
	var srv *httptest.Server
	srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewEncoder(w).Encode(map[string]any{"issuer": "https://login.microsoftonline.com/{tenantid}/v2.0", "jwks_uri": srv.URL, "token_endpoint": srv.URL, "authorization_endpoint": srv.URL}); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(srv.Close)
	for _, issuer := range []string{srv.URL, "http://127.0.0.1:1"} {
		p := sso.New(sso.Config{Name: "x", Issuer: issuer, ClientID: "c"}, callback, nil, nil)
		if _, _, err := p.Start(context.Background(), false); !errors.Is(err, sso.ErrUnavailable) {
			t.Errorf("%s: %v", issuer, err)
		}
	}
}
