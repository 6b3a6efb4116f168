package webui

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"mailward/approval"
	"mailward/identity"
)

func (s *realSite) person(email string) stranger {
	s.t.Helper()
	cookie, _, err := s.ids.Login(context.Background(), email, sitePassword, netip.MustParseAddr("192.0.2.9"), "")
	must(s.t, err)
	return stranger{name: email, cookie: cookie}
}

func (w stranger) post(s *realSite, path string, form url.Values) (int, string) {
	return w.ask(s, http.MethodPost, path, form.Encode(), "application/x-www-form-urlencoded")
}

// TestPeople_TwoPeopleGiveARole goes the whole way in the browser: somebody asks,
// the wrong ones may not agree, the right one does, and the last administrator
// stays.
func TestPeople_TwoPeopleGiveARole(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.Required)
	ctx := context.Background()
	first := s.person(s.admin.Email)
	second, err := s.ids.CreateUser(ctx, pgOperator(), identity.NewUser{Email: "second@ours.example", Password: sitePassword, Roles: []identity.Role{identity.Approver}})
	must(t, err)
	space := identity.DefaultWorkspace.String()
	form := url.Values{"email": {"new@ours.example"}, "first": {sitePassword}, "workspace": {space}, "role": {"analyst"}, "reason": {"joins the SOC"}}
	if status, body := first.post(s, "/users", form); status != http.StatusSeeOther {
		t.Fatalf("create: %d %s", status, body)
	}
	u, err := s.ids.UserByEmail(ctx, "new@ours.example")
	must(t, err)
	roles, _, err := s.ids.Grants(ctx, u.ID)
	must(t, err)
	if len(roles) != 0 {
		t.Fatalf("a role without a second person: %v", roles)
	}
	waits, err := s.ids.Approvals().List(ctx, approval.Filter{Workspaces: nil, State: "requested", Installation: true})
	must(t, err)
	if len(waits.Items) != 0 {
		t.Error("a request is seen without a workspace")
	}
	_, m, _ := s.call(s.token(identity.Admin), "GET", "/approvals", "")
	id := m["items"].([]any)[0].(map[string]any)["id"].(string)
	if status, _ := first.post(s, "/approvals/"+id+"/approve", url.Values{"reason": {"I agree with myself"}}); status != http.StatusConflict {
		t.Errorf("one person alone: %d", status)
	}
	other := s.person(second.Email)
	_, page := other.ask(s, "GET", "/approvals", "", "")
	for _, want := range []string{"new@ours.example", "Analyst", "joins the SOC", "/approvals/" + id + "/approve", ">1<"} {
		if !strings.Contains(page, want) {
			t.Errorf("the inbox lacks %q", want)
		}
	}
	if status, body := other.post(s, "/approvals/"+id+"/approve", url.Values{"reason": {"known to me"}}); status != http.StatusSeeOther {
		t.Fatalf("approve: %d %s", status, body)
	}
	if roles, _, err = s.ids.Grants(ctx, u.ID); err != nil || len(roles[identity.DefaultWorkspace]) != 1 {
		t.Errorf("after the second person: %v, %v", roles, err)
	}
	if status, _ := other.post(s, "/approvals/"+id+"/deny", url.Values{"reason": {"changed my mind"}}); status != http.StatusConflict {
		t.Errorf("decided twice: %d", status)
	}
	if _, page := other.ask(s, "GET", "/approvals?state=decided&q=SOC", "", ""); !strings.Contains(page, "known to me") {
		t.Error("the decision is not shown")
	}
	for action, n := range map[string]int{"role.grant.request": 1, "role.grant.approve": 1, "role.create": 5} {
		if got := len(s.events(action)); got != n {
			t.Errorf("%d events %s, want %d", got, action, n)
		}
	}
	path := "/users/" + s.admin.ID.String()
	for act, form := range map[string]url.Values{"/revoke": {"workspace": {space}, "role": {"admin"}}, "/state": {"state": {"disabled"}}} {
		form.Set("reason", "clean up")
		if status, _ := first.post(s, path+act, form); status != http.StatusConflict {
			t.Errorf("the last administrator goes by %s: %d", act, status)
		}
	}
	for _, view := range []string{"/users", "/users?q=new&state=active&role=analyst", path, "/approvals", "/approvals?state=all&kind=role_grant"} {
		for _, lang := range []string{"de", "en"} {
			req, _ := http.NewRequest("GET", s.URL+view, nil)
			req.Header.Set("Accept-Language", lang)
			req.AddCookie(&http.Cookie{Name: "mailward_session", Value: first.cookie})
			res, err := s.Client().Do(req)
			must(t, err)
			b, err := io.ReadAll(res.Body)
			must(t, err)
			res.Body.Close()
			body := string(b)
			if res.StatusCode != http.StatusOK {
				t.Errorf("%s: %d", view, res.StatusCode)
			}
			wantSafe(t, lang+" "+view, res.Header, body)
		}
	}
}

// TestApproval_ARowByHandIsNoRequest changes a request at psql after it was made.
func TestApproval_ARowByHandIsNoRequest(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.Required)
	ctx := context.Background()
	_, err := s.ids.CreateUser(ctx, pgOperator(), identity.NewUser{Email: "second@ours.example", Password: sitePassword, Roles: []identity.Role{identity.Approver}})
	must(t, err)
	admin := s.token(identity.Admin)
	status, m, body := s.call(admin, "POST", "/users", `{"email":"new@ours.example","password":"`+sitePassword+`","roles":["viewer"]}`)
	if status != 201 || m["waiting_roles"] == nil {
		t.Fatalf("%d %s", status, body)
	}
	_, err = s.db.Admin(t).Exec(ctx, `UPDATE approval_request SET detail = jsonb_set(detail, '{role}', '"admin"')`)
	must(t, err)
	_, m, _ = s.call(admin, "GET", "/approvals", "")
	id := m["items"].([]any)[0].(map[string]any)["id"].(string)
	other := s.person("second@ours.example")
	if status, _ := other.post(s, "/approvals/"+id+"/approve", url.Values{"reason": {"fine with me"}}); status != http.StatusConflict {
		t.Errorf("a request that was changed by hand: %d", status)
	}
	if e := s.events("approval_request.update"); len(e) != 1 || e[0]["actor"].(map[string]any)["type"] != "database" {
		t.Errorf("the change by hand: %v", e)
	}
}
