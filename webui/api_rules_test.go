package webui

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"mailward/identity"
	"mailward/internal/pg"
	"mailward/internal/testenv"
	"mailward/policy"
	"mailward/scanner"
	"mailward/scanner/ruleset"
)

func newRulesSite(t *testing.T) *realSite {
	t.Helper()
	s := newRealSiteWith(t, identity.SingleOperator, scanner.NewSidecar(scanner.SidecarConfig{Socket: testenv.SidecarWith(t, "--workers", "1").Address}))
	return s
}

// asked makes a call and reads its answer into v.
func (s *realSite) asked(token, method, path, body string, want int, v any) {
	s.t.Helper()
	code, _, text := s.call(token, method, path, body)
	if code != want {
		s.t.Fatalf("%s %s: %d, want %d\n%s", method, path, code, want, text)
	}
	if v != nil {
		must(s.t, json.Unmarshal([]byte(text), v))
	}
}

func TestAPI_RuleSets(t *testing.T) {
	t.Parallel()
	s := newRulesSite(t)
	operator, viewer, analyst := s.token(identity.Operator), s.token(identity.Viewer), s.token(identity.Analyst)
	var set ruleset.Set
	s.asked(operator, "POST", "/yara/sets", `{"name":"One","class":"malware","score":9,"source":"rule ApiOne { condition: false }"}`, 201, &set)
	path := "/yara/sets/" + set.ID.String()
	for _, c := range []struct {
		who, method, path, body string
		want                    int
		has                     string
	}{
		{viewer, "GET", "/yara/sets", "", 403, ""},
		{analyst, "GET", "/yara/sets", "", 200, `"name":"One"`},
		{analyst, "GET", path, "", 200, "rule ApiOne"},
		{analyst, "GET", "/yara/sets/" + uuid.NewString(), "", 404, ""},
		{analyst, "POST", "/yara/sets", `{"name":"Two","source":"rule X { condition: false }"}`, 403, ""},
		{analyst, "PUT", path, `{"name":"One","source":"rule X { condition: false }","version":1}`, 403, ""},
		{analyst, "DELETE", path + "?version=1", "", 403, ""},
		{analyst, "POST", path + "/check", `{}`, 403, ""},
		{analyst, "POST", path + "/backtest", `{}`, 403, ""},
		{operator, "POST", "/yara/sets", `{"name":"one","source":"rule X { condition: false }"}`, 409, "exists already"},
		{operator, "POST", "/yara/sets", `{"name":"Two","source":"rule ApiOne { condition: false }"}`, 422, "the set One has a rule of this name"},
		{operator, "POST", "/yara/sets", `{"name":"Two","source":"\nrule Two {\n condition: 1 + }"}`, 422, "source:3"},
		{operator, "POST", "/yara/sets", `{"name":"Two","class":"clean","source":"rule X { condition: false }"}`, 422, ""},
		{operator, "POST", path + "/check", `{}`, 200, `"ok":true`},
		{operator, "POST", path + "/check", `{"source":"include \"x\""}`, 200, `"ok":false`},
		{operator, "PUT", path, `{"name":"One","source":"rule X { condition: false }","version":7}`, 409, "somebody else"},
		{operator, "PUT", path, `{"name":"One","source":"rule ApiNew { condition: false }","version":1,"use":false}`, 200, `"latest":2`},
		{operator, "PUT", path, `{"name":"One","source":"rule ApiNew { condition: false }","version":2,"enabled":true}`, 200, `"enabled":true`},
		{operator, "POST", path + "/backtest", `{"mails":1001}`, 422, ""},
		{operator, "POST", path + "/backtest", `{"number":9}`, 404, ""},
		{operator, "DELETE", path + "?version=1", "", 409, ""},
	} {
		code, _, text := s.call(c.who, c.method, c.path, c.body)
		if code != c.want || !strings.Contains(text, c.has) {
			t.Errorf("%s %s %s: %d, want %d with %q\n%s", c.method, c.path, c.body, code, c.want, c.has, text)
		}
	}
	big := `{"source":` + string(must2(json.Marshal("rule Big { condition: false }\n"+strings.Repeat("// \"quoted\"\n", 70_000)))) + `}`
	s.asked(operator, "POST", path+"/check", big, 200, nil)
}

func must2(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// An admin of one workspace does not change what meets everybody's mail.
func TestAPI_RuleSetsAreTheInstallations(t *testing.T) {
	t.Parallel()
	s := newRulesSite(t)
	u, err := s.ids.CreateUser(context.Background(), pg.Operator("root"), identity.NewUser{Email: "ws@ours.example", Password: sitePassword, Roles: []identity.Role{identity.Admin}})
	must(t, err)
	plain, _, err := s.ids.CreateToken(context.Background(), pg.Operator("root"), identity.NewToken{Name: "t", Role: identity.Admin, OwnerID: u.ID, Workspace: policy.DefaultWorkspace})
	must(t, err)
	s.asked(plain, "GET", "/yara/sets", "", http.StatusOK, nil)
	s.asked(plain, "POST", "/yara/sets", `{"name":"X","source":"rule X { condition: false }"}`, http.StatusForbidden, nil)
}

// A trial hides the mails of workspaces that one may not see, and looks into
// none that the person may not look into.
func TestAPI_Backtest(t *testing.T) {
	t.Parallel()
	s := newRulesSite(t)
	s.hold("bob@ours.example")
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.rules.RunBacktests(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	operator, admin := s.token(identity.Operator), s.token(identity.Admin)
	var set ruleset.Set
	s.asked(operator, "POST", "/yara/sets", `{"name":"All","source":"rule All { condition: true }"}`, 201, &set)
	path := "/yara/sets/" + set.ID.String() + "/backtest"
	for who, mails := range map[string]int{operator: 0, admin: 1} {
		var b ruleset.Backtest
		s.asked(who, "POST", path, `{}`, http.StatusAccepted, &b)
		for !b.Ended() {
			s.asked(who, "GET", path+"/"+b.ID.String(), "", 200, &b)
		}
		if b.State != "done" || b.Result.Mails != mails || b.Result.HitMails != mails || b.Result.HitSamples != 5 {
			t.Errorf("%d mails: %+v", mails, b)
		}
		if mails == 0 {
			continue
		}
		s.asked(operator, "GET", path+"/"+b.ID.String(), "", 200, &b)
		for _, h := range b.Result.Hits {
			if h.Item != nil {
				t.Errorf("an operator sees the mail %s", h.Item)
			}
		}
	}
	s.asked(admin, "GET", "/yara/sets/"+uuid.NewString()+"/backtest/"+uuid.NewString(), "", 404, nil)
}
