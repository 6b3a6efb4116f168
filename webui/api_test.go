package webui

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"mailward/audit"
	"mailward/identity"
	"mailward/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func TestAPI_RightsOfEachRole(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	it := s.hold("bob@ours.example")
	item := "/quarantine/" + it.ID.String()
	tokens := map[identity.Role]string{}
	for _, r := range identity.Roles() {
		tokens[r] = s.token(r)
	}
	for _, c := range []struct {
		method, path, body string
		allowed            []identity.Role
	}{
		{"GET", "/health", "", identity.Roles()},
		{"GET", "/messages", "", []identity.Role{identity.Admin, identity.Approver, identity.Analyst, identity.Auditor, identity.Viewer}},
		{"GET", "/quarantine", "", []identity.Role{identity.Admin, identity.Approver, identity.Analyst, identity.Auditor, identity.Viewer}},
		{"GET", item, "", []identity.Role{identity.Admin, identity.Approver, identity.Analyst, identity.Auditor, identity.Viewer}},
		{"GET", item + "/raw", "", []identity.Role{identity.Admin, identity.Analyst}},
		{"GET", "/audit/events", "", []identity.Role{identity.Admin, identity.Auditor}},
		{"GET", "/audit/feed", "", []identity.Role{identity.Admin, identity.Auditor}},
		{"GET", "/policies/*", "", []identity.Role{identity.Admin, identity.Approver, identity.Analyst, identity.Auditor, identity.Viewer}},
		{"GET", "/users", "", []identity.Role{identity.Admin}},
		{"GET", "/alerts", "", identity.Roles()},
		{"GET", "/alerts/rules", "", identity.Roles()},
		{"GET", "/metrics/mails_5min", "", identity.Roles()},
		{"POST", "/alerts/silences", `{"reason":"maintenance","seconds":60}`, []identity.Role{identity.Admin, identity.Approver, identity.Analyst, identity.Operator}},
		{"POST", "/alerts/rules", `{"name":"x","metric":"mails_5min","threshold":1}`, []identity.Role{identity.Admin, identity.Operator}},
		{"GET", "/alerts/channels", "", []identity.Role{identity.Admin, identity.Operator}},
		{"GET", "/tokens", "", []identity.Role{identity.Admin}},
		{"POST", "/domains", `{"name":"x.example"}`, []identity.Role{identity.Admin}},
	} {
		for role, token := range tokens {
			status, _, body := s.call(token, c.method, c.path, c.body)
			may := false
			for _, r := range c.allowed {
				may = may || r == role
			}
			if got := status < 300; got != may || !may && status != http.StatusForbidden {
				t.Errorf("%s %s as %s: %d %s", c.method, c.path, role, status, body)
			}
		}
		if status, m, _ := s.call("", c.method, c.path, c.body); status != http.StatusUnauthorized || m["status"] != 401.0 {
			t.Errorf("%s %s without a token: %d %v", c.method, c.path, status, m)
		}
		if status, _, _ := s.call("mw_0000", c.method, c.path, c.body); status != http.StatusUnauthorized {
			t.Errorf("%s %s with a token that was made up: %d", c.method, c.path, status)
		}
	}
	// Also what was refused is on record.
	eventually(t, "refused calls in the audit", func() bool {
		refused := 0
		for _, e := range s.events(audit.APICall) {
			if e["outcome"].(map[string]any)["result"] == "refused" {
				refused++
			}
		}
		return refused > 20
	})
}

func TestAPI_ReleaseAndRawAreOnRecord(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	it := s.hold("bob@ours.example", "carol@ours.example")
	token, path := s.token(identity.Analyst), "/quarantine/"+it.ID.String()
	status, m, _ := s.call(token, "GET", "/quarantine?class=malware&class=spam&limit=10", "")
	items, _ := m["items"].([]any)
	if status != 200 || len(items) != 1 || items[0].(map[string]any)["mail_id"] != it.MailID.String() {
		t.Fatalf("list: %d %v", status, m)
	}
	if status, _, raw := s.call(token, "GET", path+"/raw", ""); status != 200 || raw != "Subject: x\r\n\r\nbad things\r\n" {
		t.Errorf("raw: %d %q", status, raw)
	}
	eventually(t, "intent and result of the download", func() bool { return len(s.events(audit.RawDownload)) == 2 })
	if status, m, _ := s.call(token, "POST", path+"/release", `{"reason":"  "}`); status != 422 || m["title"] == nil {
		t.Errorf("release without a reason: %d %v", status, m)
	}
	if status, m, _ := s.call(token, "POST", path+"/release", `{"reason":"false alarm","recipients":["nobody@ours.example"]}`); status != 422 {
		t.Errorf("release to a stranger: %d %v", status, m)
	}
	if status, m, _ := s.call(token, "POST", path+"/release", `{"reason":"false alarm","recipients":["bob@ours.example"]}`); status != 200 || m["state"] == nil {
		t.Errorf("release: %d %v", status, m)
	}
	if status, _, _ := s.call(token, "POST", path+"/release", `{"reason":"again","recipients":["bob@ours.example"]}`); status != 409 {
		t.Errorf("second release: %d", status)
	}
	if status, _, _ := s.call(token, "GET", "/quarantine/"+uuid.NewString(), ""); status != 404 {
		t.Errorf("an item that is not there: %d", status)
	}
	if status, _, _ := s.call(token, "GET", "/quarantine/no-id", ""); status != 422 && status != 404 {
		t.Errorf("an id that is none: %d", status)
	}
}

func TestAPI_DomainsPoliciesAccounts(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	token := s.token(identity.Admin)
	status, m, body := s.call(token, "POST", "/domains", `{"name":"Ours.Example","next_hop":"10.0.0.5:25"}`)
	if status != 201 || m["name"] != "ours.example" {
		t.Fatalf("create domain: %d %s", status, body)
	}
	if status, _, _ := s.call(token, "POST", "/domains", `{"name":"ours.example","next_hop":"10.0.0.5:25"}`); status != 409 {
		t.Errorf("the same domain again: %d", status)
	}
	for _, bad := range []string{`{"name":"no domain!"}`, `{"name":"x.example","next_hop":"nowhere"}`, `{"name":"x.example","unknown":1}`, `{`, `{"name":5}`} {
		if status, _, body := s.call(token, "POST", "/domains", bad); status != 422 && status != 400 {
			t.Errorf("%s: %d %s", bad, status, body)
		}
	}
	if status, m, body := s.call(token, "PUT", "/policies/ours.example", `{"actions":{"spam":"reject"}}`); status != 200 || m["version"] != 1.0 {
		t.Fatalf("put policy: %d %s", status, body)
	}
	if status, _, _ := s.call(token, "PUT", "/policies/ours.example", `{"actions":{"spam":"tag"},"version":7}`); status != 409 {
		t.Errorf("a stale version: %d", status)
	}
	if status, m, _ := s.call(token, "GET", "/policies/ours.example", ""); status != 200 || fmt.Sprint(m["actions"]) != "map[spam:reject]" {
		t.Errorf("get policy: %d %v", status, m)
	}
	auth := `{"actions":{"spam":"reject"},"auth":{"dmarc":"honour","trusted_arc_sealers":["Lists.example.net"]},"version":1}`
	if status, m, body := s.call(token, "PUT", "/policies/ours.example", auth); status != 200 || m["auth"].(map[string]any)["dmarc"] != "honour" || m["direction"] != "inbound" {
		t.Errorf("settings for senders: %d %s", status, body)
	}
	if status, m, _ := s.call(token, "GET", "/policies/ours.example?direction=outbound", ""); status != 200 || m["inherited"] != true || m["direction"] != "outbound" || m["auth"] != nil {
		t.Errorf("get outbound policy: %d %v", status, m)
	}
	if status, _, body := s.call(token, "DELETE", "/policies/ours.example", ""); status != 204 {
		t.Errorf("back to the default policy: %d %s", status, body)
	}
	if status, m, _ := s.call(token, "GET", "/policies/ours.example", ""); status != 200 || m["inherited"] != true {
		t.Errorf("a policy that was deleted: %d %v", status, m)
	}
	if status, _, body := s.call(token, "DELETE", "/policies/*", ""); status != 422 {
		t.Errorf("the default policy deleted: %d %s", status, body)
	}
	if status, m, body := s.call(token, "PUT", "/policies/ours.example", `{"actions":{"spam":"reject"},"auth":{"trusted_arc_sealers":[]},"version":0}`); status != 200 || fmt.Sprint(m["auth"].(map[string]any)["trusted_arc_sealers"]) != "[]" {
		t.Errorf("a policy that trusts nobody: %d %s", status, body)
	}
	if status, _, _ := s.call(token, "PUT", "/policies/ours.example", `{"actions":{"spam":"tag"},"version":0}`); status != 409 {
		t.Errorf("a first policy where there is one: %d", status)
	}
	for call, bad := range map[string]string{"/policies/ours.example": `{"actions":{"spam":"tag"},"auth":{"dmarc":"strict"}}`, "/policies/*": `{"actions":{"spam":"tag"},"auth":{"trusted_arc_sealers":["no domain"]}}`,
		"/policies/*?direction=outbound": `{"actions":{"spam":"tag"},"auth":{"dmarc":"report"}}`, "/policies/*?direction=sideways": `{"actions":{"spam":"tag"}}`} {
		if status, _, body := s.call(token, "PUT", call, bad); status != 422 {
			t.Errorf("%s %s: %d %s", call, bad, status, body)
		}
	}
	if status, _, body := s.call(token, "GET", "/messages?direction=outbound", ""); status != 200 {
		t.Errorf("outbound mails: %d %s", status, body)
	}
	if status, _, body := s.call(token, "GET", "/quarantine?direction=outbound", ""); status != 200 {
		t.Errorf("outbound items: %d %s", status, body)
	}
	e := s.events("policy.create")
	if len(e) != 2 || e[0]["actor"].(map[string]any)["email"] != "admin@ours.example" || e[0]["request"].(map[string]any)["path"] != apiPrefix+"/policies/{domain}" {
		t.Errorf("record of the policy: %v", e)
	}
	status, m, body = s.call(token, "POST", "/users", `{"email":"eve@ours.example","password":"`+sitePassword+`","roles":["viewer"]}`)
	if status != 201 || strings.Contains(body, "argon2") || m["email"] != "eve@ours.example" {
		t.Fatalf("create user: %d %s", status, body)
	}
	if status, _, _ := s.call(token, "POST", "/users", `{"email":"x@ours.example","password":"short","roles":["viewer"]}`); status != 422 {
		t.Errorf("a short password: %d", status)
	}
	status, m, body = s.call(token, "POST", "/tokens", `{"name":"ci","role":"viewer"}`)
	plain, _ := m["token"].(string)
	if status != 201 || plain == "" {
		t.Fatalf("create token: %d %s", status, body)
	}
	if status, _, _ := s.call(plain, "GET", "/messages", ""); status != 200 {
		t.Errorf("the new token: %d", status)
	}
	if _, _, body := s.call(token, "GET", "/tokens", ""); strings.Contains(body, plain) {
		t.Error("the list shows the secret")
	}
	if status, _, _ := s.call(token, "DELETE", "/tokens/"+m["id"].(string), ""); status != 204 {
		t.Errorf("revoke: %d", status)
	}
	if status, _, _ := s.call(plain, "GET", "/messages", ""); status != 401 {
		t.Errorf("the revoked token: %d", status)
	}
	if status, _, _ := s.call(token, "DELETE", "/domains/ours.example", ""); status != 204 {
		t.Errorf("delete domain: %d", status)
	}
}

func TestSession_InTheBrowser(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	jar, err := cookiejar.New(nil)
	must(t, err)
	c := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	do := func(method, path string, form url.Values, header ...string) *http.Response {
		t.Helper()
		req, err := http.NewRequest(method, s.URL+path, strings.NewReader(form.Encode()))
		must(t, err)
		if form != nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		for i := 0; i+1 < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := c.Do(req)
		must(t, err)
		res.Body.Close()
		return res
	}
	if res := do("GET", "/quarantine?q=1", nil); res.StatusCode != 303 || res.Header.Get("Location") != "/login?next="+url.QueryEscape("/quarantine?q=1") {
		t.Errorf("without a login: %d %s", res.StatusCode, res.Header.Get("Location"))
	}
	if res := do("GET", "/quarantine", nil, "HX-Request", "true"); res.StatusCode != 401 || res.Header.Get("HX-Redirect") == "" {
		t.Errorf("a fragment without a login: %d", res.StatusCode)
	}
	login := url.Values{"email": {"admin@ours.example"}, "password": {sitePassword}, "next": {"/"}}
	if res := do("POST", "/login", login, "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"); res.StatusCode != 403 {
		t.Errorf("a login that another site sends: %d", res.StatusCode)
	}
	res := do("POST", "/login", login)
	if res.StatusCode != 303 {
		t.Fatalf("login: %d", res.StatusCode)
	}
	k := res.Cookies()[0]
	if k.Name != "mailward_session" || !k.HttpOnly || k.SameSite != http.SameSiteLaxMode {
		t.Errorf("cookie %+v", k)
	}
	for _, path := range []string{"/", "/quarantine", "/messages", "/health", "/audit", apiPrefix + "/messages"} {
		if res := do("GET", path, nil); res.StatusCode != 200 || res.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
	eventually(t, "page views on record", func() bool { return len(s.events(audit.PageView)) >= 5 })
	// What keeps the polling of one page off the record hides no other page.
	do("GET", "/queue", nil, "HX-Request", "true", "HX-Target", "section#health")
	eventually(t, "the view of a page that claims to be polling", func() bool {
		return slices.ContainsFunc(s.events(audit.PageView), func(e map[string]any) bool { return text(e, "request", "path") == "/queue" })
	})
	if res := do("POST", "/logout", url.Values{}); res.StatusCode != 303 {
		t.Errorf("logout: %d", res.StatusCode)
	}
	if res := do("GET", "/audit", nil); res.StatusCode != 303 {
		t.Errorf("after logout: %d", res.StatusCode)
	}
}

func TestServer_ProbesAndDocument(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	for path, want := range map[string]int{"/livez": 200, "/healthz": 200, "/readyz": 200, "/metrics": 200, "/nowhere": 404, apiPrefix + "/nowhere": 404} {
		res, err := s.Client().Get(s.URL + path)
		must(t, err)
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: %d %s", path, res.StatusCode, b)
		}
		if path == "/healthz" && bytes.Contains(b, []byte("ostgre")) {
			t.Errorf("healthz tells details: %s", b)
		}
	}
	for path, want := range map[string]int{"/login": 200, "/livez": 200, apiPrefix + "/openapi.json": 200, "/quarantine": 303} {
		c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		res, err := c.Head(s.URL + path)
		must(t, err)
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != want || len(b) > 0 {
			t.Errorf("HEAD %s: %d and %d bytes", path, res.StatusCode, len(b))
		}
	}
	_, doc, _ := s.call("", "GET", "/openapi.json", "")
	paths, _ := doc["paths"].(map[string]any)
	for _, p := range []string{"/health", "/messages", "/messages/{id}", "/quarantine", "/quarantine/{id}", "/quarantine/{id}/raw", "/quarantine/{id}/headers", "/quarantine/{id}/body", "/quarantine/{id}/parts/{n}", "/quarantine/{id}/release", "/quarantine/{id}/approve",
		"/quarantine/{id}/deny", "/quarantine/{id}/delete", "/approvals", "/audit/events", "/domains", "/policies/{domain}", "/users", "/tokens"} {
		if paths[p] == nil {
			t.Errorf("the document lacks %s", p)
		}
	}
}

func TestServer_DatabaseAway(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	token := s.token(identity.Admin)
	s.db.Pool.Close()
	if status, m, body := s.call(token, "GET", "/messages", ""); status < 500 || m["title"] == nil || strings.Contains(body, "pool") {
		t.Errorf("%d %s", status, body)
	}
	for _, path := range []string{"/livez", "/login"} {
		res, err := s.Client().Get(s.URL + path)
		must(t, err)
		res.Body.Close()
		if res.StatusCode != 200 {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
}

// TestRoutes_EachHasItsRightAndAction walks everything that can be called.
func TestRoutes_EachHasItsRightAndAction(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	public := map[string]bool{"/assets/*": true, "/login": true, "/prefs": true, "/livez": true, "/healthz": true, "/readyz": true, "/metrics": true,
		apiPrefix + "/openapi.json": true, apiPrefix + "/openapi.yaml": true, "/digest/:token": true}
	onlyLogin := map[string]bool{"/logout": true, "/password": true, "/confirm": true, "/sign": true}
	for _, r := range s.srv.routes {
		switch {
		case r.Public != (public[r.Path] || strings.HasPrefix(r.Path, "/login/")):
			t.Errorf("%s %s: public %v", r.Method, r.Path, r.Public)
		case !r.Public && r.Action == "":
			t.Errorf("%s %s is on record under no action", r.Method, r.Path)
		case !r.Public && r.Right == "" && !onlyLogin[r.Path] && !strings.HasPrefix(r.Path, "/settings"):
			t.Errorf("%s %s needs no right", r.Method, r.Path)
		}
	}
	for _, r := range s.srv.echo.Routes() {
		if strings.HasPrefix(r.Path, apiPrefix+"/openapi") {
			continue
		}
		if _, ok := s.srv.find(r.Method, r.Path); !ok && r.Method != "echo_route_not_found" {
			t.Errorf("%s %s is not in the table", r.Method, r.Path)
		}
	}
}
