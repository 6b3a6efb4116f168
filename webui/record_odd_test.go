package webui

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/approval"
	"mailward/audit"
	"mailward/identity"
)

// TestOddCallsAreOnRecord sends what never comes to an ordinary end: each call is on
// record all the same, and nothing that the caller made up stands in it.
func TestOddCallsAreOnRecord(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	s.srv.echo.GET(apiPrefix+"/crash/:id", func(echo.Context) error { panic("a mistake of ours") })
	admin := s.token(identity.Admin)
	const person = "alice.long.name@of-a-person.examp.or" // as long as an id
	for i, c := range []struct {
		name, method, path string
		header             []string
		status             int
		route              string
	}{
		{"from another site", "POST", "/tokens", []string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}, 403, "/api/v1/tokens"},
		{"a handler that crashes", "GET", "/crash/" + uuid.NewString(), nil, 500, "/api/v1/crash/{id}"},
		{"HEAD", "HEAD", "/messages", nil, 200, "/api/v1/messages"},
		{"an address in place of an id", "GET", "/messages/" + person, nil, 422, "/api/v1/messages/{id}"},
	} {
		if status, _, body := s.call(admin, c.method, c.path, "", c.header...); status != c.status {
			t.Errorf("%s: %d %s", c.name, status, body)
		}
		eventually(t, "the event of "+c.name, func() bool { return len(s.events(audit.APICall)) == i+1 })
		e := s.events(audit.APICall)[0]
		req := e["request"].(map[string]any)
		if req["method"] != c.method || req["path"] != c.route || req["status"] != float64(c.status) || e["actor"].(map[string]any)["id"] != s.admin.ID.String() || strings.Contains(fmt.Sprint(e), person) {
			t.Errorf("%s is on record as %v", c.name, e)
		}
	}
}

// TestAlmostTheAPI: a program that misspells the prefix is answered as a program, and
// what it tried is on record with whose token it was.
func TestAlmostTheAPI(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	admin := s.token(identity.Admin)
	for i, path := range []string{"//api/v1/messages", "/API/v1/messages", "/api", "/x/../api/v1/messages", "/api/v1/nowhere"} {
		req := must1(http.NewRequest("GET", s.URL+path, nil))
		req.Header.Set("Authorization", "Bearer "+admin)
		res := must1(s.Client().Do(req))
		res.Body.Close()
		if res.StatusCode != http.StatusNotFound || res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s", path, res.StatusCode, res.Header.Get("Content-Type"))
		}
		eventually(t, "the event of "+path, func() bool { return len(s.events(audit.APICall)) == i+1 })
		e := s.events(audit.APICall)[0]
		if e["actor"].(map[string]any)["id"] != s.admin.ID.String() || e["request"].(map[string]any)["status"] != 404.0 {
			t.Errorf("%s is on record as %v", path, e)
		}
	}
	res := must1(s.Client().Get(s.URL + "/apiary"))
	res.Body.Close()
	if res.Header.Get("Content-Type") == "application/problem+json" {
		t.Error("a page that only begins so is not the API")
	}
}

// TestBodyThatBreaksOff: the caller has hung up in the middle of a call, which is no
// failure of ours.
func TestBodyThatBreaksOff(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	c := must1(net.Dial("tcp", s.Listener.Addr().String())).(*net.TCPConn)
	defer c.Close()
	_, err := fmt.Fprintf(c, "POST %s/tokens HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"name\":", apiPrefix, s.token(identity.Admin))
	must(t, err)
	must(t, c.CloseWrite())
	answer, _ := io.ReadAll(c)
	if !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") {
		t.Errorf("%.200s", answer)
	}
	eventually(t, "the event", func() bool { return len(s.events(audit.APICall)) == 1 })
	e := s.events(audit.APICall)[0]
	if e["request"].(map[string]any)["status"] != 400.0 || e["outcome"].(map[string]any)["result"] != "failure" {
		t.Errorf("on record: %v", e)
	}
	// One that is too big is still told so.
	if status, _, _ := s.call(s.token(identity.Admin), "POST", "/tokens", `{"name":"`+strings.Repeat("x", maxBody)+`"}`); status != http.StatusRequestEntityTooLarge {
		t.Errorf("too big: %d", status)
	}
}

// TestFilterOfNothing: a filter that was given and holds nothing must not show and
// hand out everything.
func TestFilterOfNothing(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	admin := s.token(identity.Admin)
	for _, path := range []string{"/audit/events?actor=%00", "/audit/events?q=%20%00", "/audit/events?ip=%20", "/audit/feed?action=%00", "/audit/events?format=ndjson&target=%00"} {
		if status, _, body := s.call(admin, "GET", path, ""); status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %.200s", path, status, body)
		}
	}
	if n := len(s.events(audit.AuditExport)); n != 0 {
		t.Errorf("%d exports on record that were never begun", n)
	}
	b := s.browser()
	b.do("POST", "/login", url.Values{"email": {s.admin.Email}, "password": {sitePassword}})
	for _, path := range []string{"/audit?actor=%00", "/audit/exports?q=%00", "/audit/export?format=csv&actor=%00"} {
		if status, _, _ := b.do("GET", path, nil); status != http.StatusBadRequest {
			t.Errorf("%s: %d", path, status)
		}
	}
	if status, _, _ := b.do("GET", "/audit?actor=%20", nil); status != http.StatusOK {
		t.Errorf("spaces are taken off a form's field: %d", status)
	}
}

// TestNULIsTheCallersMistake: PostgreSQL takes no NUL in a text, which is not to look
// like a fault of ours.
func TestNULIsTheCallersMistake(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	admin := s.token(identity.Admin)
	for path, body := range map[string]string{
		"POST /tokens":         `{"name":"a\u0000b","role":"viewer"}`,
		"POST /users":          `{"email":"n@ours.example","name":"a\u0000b","password":"` + sitePassword + `","roles":["viewer"]}`,
		"GET /users?q=%00":     "",
		"GET /approvals?q=%00": "",
	} {
		method, path, _ := strings.Cut(path, " ")
		if status, _, answer := s.call(admin, method, path, body); status != http.StatusUnprocessableEntity {
			t.Errorf("%s %s: %d %s", method, path, status, answer)
		}
	}
	b := s.browser()
	if status, _, _ := b.do("POST", "/login", url.Values{"email": {"admin\x00@ours.example"}, "password": {sitePassword}}); status != http.StatusUnauthorized {
		t.Errorf("login: %d", status)
	}
	if n := len(s.events(audit.LoginFailed)); n != 1 {
		t.Errorf("%d failed logins on record, want 1", n)
	}
}

// TestTokens_HandOutNoMoreThanTheyHave: a token does not get rid of its limits by
// making another one, or by taking the secret of another one of its owner.
func TestTokens_HandOutNoMoreThanTheyHave(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	ctx := context.Background()
	soon := time.Now().Add(time.Hour)
	made := func(n identity.NewToken) (string, string) {
		n.Name, n.OwnerID = "t", s.admin.ID
		plain, tok, err := s.ids.CreateToken(ctx, pgOperator(), n)
		must(t, err)
		return plain, tok.ID.String()
	}
	_, wide := made(identity.NewToken{Role: identity.Admin})
	narrow, own := made(identity.NewToken{Role: identity.Admin, Scopes: []identity.Right{identity.TokensWrite, identity.ViewMeta}})
	short, _ := made(identity.NewToken{Role: identity.Admin, Expires: soon})
	here, _ := made(identity.NewToken{Role: identity.Admin, Workspace: identity.DefaultWorkspace})
	for _, c := range []struct {
		token, path, body string
		want              int
	}{
		{narrow, "/tokens", `{"name":"n","role":"admin"}`, 403},
		{narrow, "/tokens", `{"name":"n","role":"admin","scopes":["view_body"]}`, 403},
		{narrow, "/tokens", `{"name":"n","role":"viewer"}`, 403},
		{narrow, "/tokens", `{"name":"n","role":"admin","scopes":["view_meta"]}`, 201},
		{narrow, "/tokens/" + wide + "/rotate", `{}`, 403},
		{short, "/tokens", `{"name":"n","role":"admin"}`, 403},
		{short, "/tokens", `{"name":"n","role":"admin","expires_at":"` + soon.Add(time.Minute).UTC().Format(time.RFC3339) + `"}`, 403},
		{short, "/tokens", `{"name":"n","role":"viewer","expires_at":"` + soon.Add(-time.Minute).UTC().Format(time.RFC3339) + `"}`, 201},
		{here, "/tokens/" + wide + "/rotate", `{}`, 403},
		{here, "/tokens", `{"name":"n","role":"admin"}`, 201},
		{narrow, "/tokens/" + own + "/rotate", `{}`, 200},
	} {
		if status, _, body := s.call(c.token, "POST", c.path, c.body); status != c.want {
			t.Errorf("%s %s: %d %s, want %d", c.path, c.body, status, body, c.want)
		}
	}
}

// TestSecondPerson_NotOneWhosePasswordTheOtherHasSet: who resets the password of an
// approver can sign in as the approver, so for a day the two are not two people.
func TestSecondPerson_NotOneWhosePasswordTheOtherHasSet(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.Required)
	ctx := context.Background()
	for _, email := range []string{"second@ours.example", "third@ours.example"} {
		_, err := s.ids.CreateUser(ctx, pgOperator(), identity.NewUser{Email: email, Password: sitePassword, Roles: []identity.Role{identity.Approver, identity.Admin}})
		must(t, err)
	}
	principal := func(email string) identity.Principal {
		u, err := s.ids.UserByEmail(ctx, email)
		must(t, err)
		plain, _, err := s.ids.CreateToken(ctx, pgOperator(), identity.NewToken{Name: "t", Role: identity.Admin, OwnerID: u.ID})
		must(t, err)
		p, err := s.ids.Token(ctx, plain)
		must(t, err)
		return p
	}
	first, second, third := principal(s.admin.Email), principal("second@ours.example"), principal("third@ours.example")
	ask := func(p identity.Principal) uuid.UUID {
		waiting, err := s.ids.GrantRole(ctx, p, identity.RoleChange{User: s.admin.ID, Workspace: identity.DefaultWorkspace, Role: identity.Analyst, Reason: "needs it"})
		if err != nil || !waiting {
			t.Fatal(waiting, err)
		}
		l, err := s.ids.Approvals().List(ctx, approval.Filter{Workspaces: []uuid.UUID{identity.DefaultWorkspace}, State: "requested"})
		must(t, err)
		return l.Items[0].ID
	}
	_, err := s.ids.ResetPassword(ctx, first.Actor(), first.RoleNames(), second.User.ID)
	must(t, err)
	must(t, s.ids.ResetFactors(ctx, third.Actor(), third.RoleNames(), first.User.ID))
	id := ask(first)
	for name, p := range map[string]identity.Principal{"whose password was set by who asks": second, "who took the factors of who asks": third} {
		if err := s.ids.DecideGrant(ctx, p, id, true, "fine"); err == nil || !strings.Contains(err.Error(), approval.ErrSamePerson.Error()) {
			t.Errorf("somebody %s decides: %v", name, err)
		}
	}
	if err := s.ids.DecideGrant(ctx, third, ask(second), true, "fine"); err != nil {
		t.Errorf("two who have nothing to do with each other: %v", err)
	}
}

// TestStepUp_AlsoOverTheAPI: what a page does only for who has shown lately who they
// are, the API does not do for the same cookie without it.
func TestStepUp_AlsoOverTheAPI(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	ctx := context.Background()
	bob, err := s.ids.CreateUser(ctx, pgOperator(), identity.NewUser{Email: "bob@ours.example", Password: sitePassword, Roles: []identity.Role{identity.Viewer}})
	must(t, err)
	token, made, err := s.ids.CreateToken(ctx, pgOperator(), identity.NewToken{Name: "t", Role: identity.Admin, OwnerID: s.admin.ID})
	must(t, err)
	b := s.browser()
	b.login(s.admin.Email)
	_, err = s.db.Admin(t).Exec(ctx, "UPDATE session SET authenticated_at = now() - interval '1 hour'")
	must(t, err)
	for path, body := range map[string]string{
		"POST /users": `{"email":"new@ours.example","password":"` + sitePassword + `","roles":["admin"]}`,
		"POST /users/" + bob.ID.String() + "/grant":  `{"role":"admin","workspace_id":"` + identity.DefaultWorkspace.String() + `","reason":"because"}`,
		"POST /users/" + bob.ID.String() + "/revoke": `{"role":"viewer","workspace_id":"` + identity.DefaultWorkspace.String() + `","reason":"because"}`,
		"POST /users/" + bob.ID.String() + "/state":  `{"state":"disabled","reason":"because"}`,
		"POST /tokens": `{"name":"t","role":"admin"}`,
		"POST /tokens/" + made.ID.String() + "/rotate": `{}`,
		"POST /workspaces": `{"name":"New","reason":"because"}`,
		"PATCH /workspaces/" + identity.DefaultWorkspace.String(): `{"name":"Other","reason":"because"}`,
		"POST /audit/retention":                                   `{"class":"sec-400d","keep_days":90,"reason":"because"}`,
	} {
		method, path, _ := strings.Cut(path, " ")
		req, err := http.NewRequest(method, s.URL+apiPrefix+path, strings.NewReader(body))
		must(t, err)
		req.Header.Set("Content-Type", "application/json")
		res, err := b.c.Do(req)
		must(t, err)
		answer, err := io.ReadAll(res.Body)
		must(t, err)
		res.Body.Close()
		if res.StatusCode != http.StatusForbidden || !strings.Contains(string(answer), "step_up_required") {
			t.Errorf("%s %s an hour after the login: %d %s", method, path, res.StatusCode, answer)
		}
	}
	if status, _, body := s.call(token, "POST", "/users/"+bob.ID.String()+"/state", `{"state":"disabled","reason":"because"}`); status != http.StatusOK {
		t.Errorf("a token, which has no password: %d %s", status, body)
	}
}

// TestPage_DatabaseAway: a page that waits for the database in vain says that it will
// pass, like the API does.
func TestPage_DatabaseAway(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	rec := httptest.NewRecorder()
	must(t, s.srv.pages.fail(s.srv.echo.NewContext(httptest.NewRequest(http.MethodPost, "/login", nil), rec), http.StatusInternalServerError, fmt.Errorf("read account: %w", context.DeadlineExceeded)))
	if rec.Code != http.StatusServiceUnavailable {
		t.Errorf("%d", rec.Code)
	}
}

func TestApprovals_EachKindCanBeAskedFor(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	admin := s.token(identity.Admin)
	for _, kind := range approval.Kinds() {
		if status, _, body := s.call(admin, "GET", "/approvals?kind="+string(kind), ""); status != http.StatusOK {
			t.Errorf("%s: %d %s", kind, status, body)
		}
	}
}
