package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"mailward/audit"
	"mailward/identity"
	"mailward/internal/testenv"
)

// TestSignIn hands an installation with a provider of single sign-on to the
// browser, and then looks at what stands in the record.
func TestSignIn(t *testing.T) {
	t.Parallel()
	testenv.Require(t, "node", "chromium-headless-shell")
	hop := testenv.NextHop(t)
	s := newServer(t, hop.Addr, "")
	site := "http://localhost:" + s.http[strings.LastIndex(s.http, ":")+1:]
	idp := testenv.OpenIDProvider(t, site+"/login/sso/corp/callback", site+"/login", map[string]testenv.OpenIDUser{
		"anna": {Name: "Anna Analyst", Password: "pw", Email: "anna@ours.example", EmailVerified: true, Claims: map[string]any{"groups": []string{"soc"}, "sid": "s-anna"}},
		"otto": {Name: "Otto Outsider", Password: "pw", Email: "otto@ours.example", EmailVerified: true, Claims: map[string]any{"groups": []string{"sales"}}},
	})
	conf, err := os.OpenFile(s.conf, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conf, "oidc: {corp: {title: Example Corp, issuer: %q, client_id: mailward, client_secret: secret, roles: [{group: soc, role: analyst}]}}\n", idp.Issuer)
	if err := conf.Close(); err != nil {
		t.Fatal(err)
	}
	s.env = []string{"MAILWARD_HTTP_PUBLIC_URL=" + site}
	s.start()
	if r := s.sendMail("mallory@sender.example", []string{"bob@ours.example"}, yaraOnly("Invoice 4711")); code(r) != 250 {
		t.Fatal(r)
	}
	script := "../webui/e2e/signin.test.mjs"
	if _, err := os.ReadFile(script); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", "--test", "--test-reporter=spec", "e2e/signin.test.mjs")
	cmd.Dir = filepath.Join("..", "webui")
	cmd.Env = append(os.Environ(), "BASE_URL="+site, "ADMIN_EMAIL="+adminEmail, "ADMIN_PASSWORD="+adminPassword)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("browser: %v\n%s", err, out.String())
	}
	t.Log(tail(out.String(), 20))

	// The release was signed, and that can be checked without the server.
	a := s.api("admin")
	f := a.event(t, audit.ReleaseExecute)["attestation"].(map[string]any)
	bytesOf := func(name string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(fmt.Sprint(f[name]))
		if err != nil {
			t.Fatal(name, err)
		}
		return b
	}
	signed := audit.Attestation{Act: fmt.Sprint(f["act"]), PublicKey: bytesOf("public_key"), AuthenticatorData: bytesOf("authenticator_data"), ClientData: bytesOf("client_data"), Signature: bytesOf("signature")}
	if err := identity.VerifyAttestation(signed); err != nil || !strings.Contains(signed.Act, "confirmed by phone") || !strings.Contains(signed.Act, "bob@ours.example") {
		t.Errorf("what was signed: %v, %s", err, signed.Act)
	}
	if auth := a.event(t, audit.Logout)["auth"].(map[string]any); auth["provider"] != "corp" || auth["method"] != "sso" {
		t.Errorf("the logout of the single sign-on: %v", auth)
	}
}

// event is the newest event of an action.
func (a *api) event(t *testing.T, action string) map[string]any {
	t.Helper()
	var page struct {
		Items []json.RawMessage `json:"items"`
	}
	a.do(http.MethodGet, "audit/events?limit=1&action="+action, nil, &page)
	if len(page.Items) == 0 {
		t.Fatalf("no %s on record", action)
	}
	var m map[string]any
	if err := json.Unmarshal(page.Items[0], &m); err != nil {
		t.Fatal(err)
	}
	return m
}
