package webui

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/descope/virtualwebauthn"
	"github.com/google/uuid"

	"mailward/audit"
	"mailward/identity"
	"mailward/internal/pg"
)

// browser is a client with cookies that follows no redirect.
type testBrowser struct {
	s *realSite
	c *http.Client
}

func (s *realSite) browser() *testBrowser {
	jar, err := cookiejar.New(nil)
	must(s.t, err)
	return &testBrowser{s, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (b *testBrowser) do(method, path string, form url.Values) (status int, to, body string) {
	b.s.t.Helper()
	req, err := http.NewRequest(method, b.s.URL+path, strings.NewReader(form.Encode()))
	must(b.s.t, err)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := b.c.Do(req)
	must(b.s.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(b.s.t, err)
	return res.StatusCode, res.Header.Get("Location"), string(text)
}

func TestSignIn_AdminHelpsOthers(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	ctx := context.Background()
	bob, err := s.ids.CreateUser(ctx, pg.Operator("root"), identity.NewUser{Email: "bob@ours.example", Password: sitePassword, Roles: []identity.Role{identity.Viewer}})
	must(t, err)
	scoped, _, err := s.ids.CreateToken(ctx, pg.Operator("root"), identity.NewToken{Role: identity.Admin, OwnerID: s.admin.ID, Workspace: identity.DefaultWorkspace})
	must(t, err)
	cookie, _, err := s.ids.Login(ctx, bob.Email, sitePassword, netip.MustParseAddr("192.0.2.7"), "")
	must(t, err)
	who := "/users/" + bob.ID.String()

	status, m, _ := s.call(scoped, "GET", who+"/sessions", "")
	items, _ := m["items"].([]any)
	if status != 200 || len(items) != 1 {
		t.Fatalf("sessions: %d %v", status, m)
	}
	session := items[0].(map[string]any)["id"].(string)
	if status, _, _ := s.call(scoped, "DELETE", "/users/"+s.admin.ID.String()+"/sessions/"+session, ""); status != http.StatusForbidden {
		t.Errorf("as another account's: %d", status)
	}
	if status, _, _ := s.call(scoped, "DELETE", who+"/sessions/"+session, ""); status != http.StatusNoContent {
		t.Errorf("revoke: %d", status)
	}
	if _, err := s.ids.Session(ctx, cookie); err == nil {
		t.Error("the session is still open")
	}
	status, m, _ = s.call(scoped, "POST", who+"/password", "")
	once, _ := m["password"].(string)
	if status != 200 || len(once) < 16 {
		t.Fatalf("reset: %d %v", status, m)
	}
	if _, p, err := s.ids.Login(ctx, bob.Email, once, netip.MustParseAddr("192.0.2.7"), ""); err != nil || !p.User.MustChangePassword {
		t.Errorf("with the one-time password: %v", err)
	}
	// Whoever changes how an account signs in becomes that account.
	for _, path := range []string{"/password", "/factors"} {
		method := map[string]string{"/password": "POST", "/factors": "DELETE"}[path]
		if status, _, _ := s.call(scoped, method, "/users/"+s.admin.ID.String()+path, ""); status != http.StatusForbidden {
			t.Errorf("%s of an account with roles in the installation: %d", path, status)
		}
		if status, _, _ := s.call(s.token(identity.Viewer), method, who+path, ""); status != http.StatusForbidden {
			t.Errorf("%s by a viewer: %d", path, status)
		}
		if status, _, _ := s.call(scoped, method, "/users/"+uuid.NewString()+path, ""); status != http.StatusNotFound {
			t.Errorf("%s of nobody: %d", path, status)
		}
	}
}

func TestSignIn_PagesOfNobodyAndOfAPerson(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	b := s.browser()
	for path, want := range map[string]int{"/login/sso/none": 404, "/login/sso/none/callback?state=x&code=y": 404, "/login/sso/none/frontchannel?sid=x": 404, "/login/second": 303, "/settings": 303, "/confirm": 303} {
		if status, _, _ := b.do("GET", path, nil); status != want {
			t.Errorf("GET %s: %d, want %d", path, status, want)
		}
	}
	if status, _, _ := b.do("POST", "/login/sso/none/backchannel", url.Values{"logout_token": {"x"}}); status != 404 {
		t.Errorf("back channel of nobody: %d", status)
	}
	if status, _, _ := b.do("POST", "/login/passkey", url.Values{"step": {"x"}, "answer": {"{}"}}); status != http.StatusUnauthorized {
		t.Errorf("a made-up passkey: %d", status)
	}
	if status, to, _ := b.do("POST", "/login", url.Values{"email": {s.admin.Email}, "password": {sitePassword}, "next": {"/settings"}}); status != 303 || to != "/settings" {
		t.Fatalf("login: %d %s", status, to)
	}
	status, _, body := b.do("GET", "/settings", nil)
	if status != 200 || !strings.Contains(body, "This one") {
		t.Errorf("settings: %d", status)
	}
	// Too long ago to change one's own factors.
	_, err := s.db.Admin(t).Exec(context.Background(), "UPDATE session SET authenticated_at = now() - interval '1 hour'")
	must(t, err)
	for _, path := range []string{"/settings/totp", "/settings/recovery"} {
		if status, to, _ := b.do("POST", path, nil); status != 303 || !strings.HasPrefix(to, "/confirm") {
			t.Errorf("%s: %d %s", path, status, to)
		}
	}
	before := b.c.Jar.Cookies(must1(url.Parse(s.URL)))
	if status, to, _ := b.do("POST", "/confirm", url.Values{"password": {sitePassword}, "next": {"//evil.example"}}); status != 303 || to != "/" {
		t.Errorf("confirm: %d %s", status, to)
	}
	after := b.c.Jar.Cookies(must1(url.Parse(s.URL)))
	if before[0].Value == after[0].Value {
		t.Error("the cookie is the same after a step-up")
	}
	if status, to, _ := b.do("POST", "/settings/totp", nil); status != 303 || to != "/settings/totp" {
		t.Errorf("after the step-up: %d %s", status, to)
	}
}

func must1[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestSignIn_ReleaseIsSigned(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	it := s.hold("bob@ours.example", "eve@ours.example")
	b := s.browser()
	b.do("POST", "/login", url.Values{"email": {s.admin.Email}, "password": {sitePassword}})

	rp := virtualwebauthn.RelyingParty{Name: "Mailward", ID: "mailward.ours.example", Origin: "https://mailward.ours.example"}
	device := virtualwebauthn.NewAuthenticatorWithOptions(virtualwebauthn.AuthenticatorOptions{UserHandle: s.admin.ID[:]})
	key := virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2)
	begin := func(path string, form url.Values) (string, string) {
		t.Helper()
		status, _, body := b.do("POST", path, form)
		var c struct {
			Options json.RawMessage `json:"options"`
			Step    string          `json:"step"`
		}
		if status != 200 || json.Unmarshal([]byte(body), &c) != nil {
			t.Fatalf("%s: %d %s", path, status, body)
		}
		return string(c.Options), c.Step
	}
	options, step := begin("/settings/passkeys/begin", nil)
	made := must1(virtualwebauthn.ParseAttestationOptions(options))
	if status, _, body := b.do("POST", "/settings/passkeys", url.Values{"step": {step}, "name": {"key"}, "answer": {virtualwebauthn.CreateAttestationResponse(rp, device, key, *made)}}); status != 200 || !strings.Contains(body, "codes") {
		t.Fatalf("passkey: %d", status)
	}
	path := "/quarantine/" + it.ID.String() + "/release"
	form := func(to ...string) url.Values {
		return url.Values{"reason": {"confirmed by phone"}, "recipient": to}
	}
	sign := func(f url.Values) url.Values {
		options, step := begin("/sign", url.Values{"act": {path}, "fields": {string(must1(json.Marshal(f)))}})
		key.Counter++
		out := form(f["recipient"]...)
		out.Set("step", step)
		out.Set("answer", virtualwebauthn.CreateAssertionResponse(rp, device, key, *must1(virtualwebauthn.ParseAssertionOptions(options))))
		return out
	}
	if status, _, _ := b.do("POST", path, form("bob@ours.example")); status != http.StatusUnprocessableEntity {
		t.Errorf("unsigned: %d", status)
	}
	other := sign(form("bob@ours.example"))
	other["recipient"] = []string{"bob@ours.example", "eve@ours.example"}
	if status, _, _ := b.do("POST", path, other); status != http.StatusUnprocessableEntity {
		t.Errorf("signed for one recipient, sent for two: %d", status)
	}
	if n := len(s.events(audit.ReleaseExecute)); n != 0 {
		t.Fatalf("%d releases", n)
	}
	if status, _, body := b.do("POST", path, sign(form("bob@ours.example"))); status != 303 {
		t.Fatalf("signed: %d %s", status, body)
	}
	a, _ := s.events(audit.ReleaseExecute)[0]["attestation"].(map[string]any)
	if a["by"] != "passkey" || !strings.Contains(a["act"].(string), "confirmed by phone") {
		t.Errorf("on record: %v", a)
	}
	// A program has no passkey, and the record says so.
	it = s.hold("carl@ours.example")
	if status, _, body := s.call(s.token(identity.Analyst), "POST", "/quarantine/"+it.ID.String()+"/release", `{"reason":"by the ticket system"}`); status >= 300 {
		t.Fatalf("%d %s", status, body)
	}
	if a := s.events(audit.ReleaseExecute)[0]["attestation"].(map[string]any); a["by"] != "server" {
		t.Errorf("by token: %v", a)
	}
}
