package webui

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/audit"
	"mailward/gateway/ledger"
	"mailward/identity"
	"mailward/policy"
)

// decided puts a mail into the ledger.
func (s *realSite) decided(to string, class policy.Class, findings ...policy.Finding) ledger.Row {
	s.t.Helper()
	r := ledger.Row{ID: uuid.Must(uuid.NewV7()), Workspace: policy.DefaultWorkspace, ReceivedAt: time.Now(), Subject: "quarterly numbers", HeaderFrom: "a@x.example", SHA256: strings.Repeat("ab", 32),
		Class: class, Action: policy.Tag, Recipients: []policy.RecipientDecision{{Address: to, Action: policy.Tag}}, Findings: findings}
	must(s.t, s.ledger.Decided(context.Background(), r))
	return r
}

func TestAPI_GroupsAndLayers(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	admin, viewer := s.token(identity.Admin), s.token(identity.Viewer)
	want := func(status int, token, method, path, body string) map[string]any {
		t.Helper()
		got, m, text := s.call(token, method, path, body)
		if got != status {
			t.Errorf("%s %s %s: %d %s, want %d", method, path, body, got, text, status)
		}
		return m
	}
	want(201, admin, "POST", "/domains", `{"name":"ours.example","next_hop":"10.0.0.5:25"}`)
	want(403, viewer, "POST", "/policy-groups", `{"name":"Finance","members":["cfo@ours.example"]}`)
	g := want(201, admin, "POST", "/policy-groups", `{"name":"Finance","members":["CFO@ours.example","fin-*"],"rank":5}`)
	group := "/policy-groups/" + fmt.Sprint(g["id"])
	want(409, admin, "POST", "/policy-groups", `{"name":"finance","members":["x@ours.example"]}`)
	want(422, admin, "POST", "/policy-groups", `{"name":"Bad","members":["no address at all"]}`)
	want(404, admin, "GET", group+"/policy", "")
	p := want(200, admin, "PUT", group+"/policy", `{"thresholds":{"phishing":3},"weights":{"link":2},"version":0}`)
	if p["version"] != 1.0 {
		t.Errorf("%v", p)
	}
	want(409, admin, "PUT", group+"/policy", `{"thresholds":{"phishing":4},"version":0}`)
	p = want(200, admin, "PUT", group+"/policy", `{"thresholds":{"phishing":4}}`)
	if fmt.Sprint(p["weights"]) != "map[link:2]" {
		t.Errorf("what was left out went: %v", p)
	}
	p = want(200, admin, "PUT", group+"/policy", `{"weights":{},"engine_failure":{"clamav":"quarantine"},"dlp_sets":["cards"],"sandbox":{"timeout":"15m"}}`)
	if p["weights"] != nil || p["sandbox"] == nil {
		t.Errorf("%v", p)
	}
	want(422, admin, "PUT", group+"/policy", `{"engine_failure":{"clamav":"deliver"}}`)
	e := want(200, viewer, "GET", "/policy-effective?address=cfo%40ours.example", "")
	var lines []string
	for _, x := range e["settings"].([]any) {
		l := x.(map[string]any)
		lines = append(lines, fmt.Sprintf("%s=%s (%s)", l["line"], l["value"], l["origin"].(map[string]any)["layer"]))
	}
	for _, line := range []string{"action.spam=tag (workspace)", "threshold.phishing=4 (group)", "threshold.spam=5 (built-in)", "engine.clamav=quarantine (group)", "engine.*=defer (built-in)", "auth.dmarc=quarantine (built-in)", "dlp_sets=cards (group)"} {
		if !strings.Contains(strings.Join(lines, "\n"), line) {
			t.Errorf("no line %s in\n%s", line, strings.Join(lines, "\n"))
		}
	}
	want(404, viewer, "GET", "/policy-effective?address=x%40else.example", "")
	want(204, admin, "DELETE", group+"/policy", "")
	want(404, admin, "DELETE", group+"/policy", "")
	want(200, admin, "PUT", group, `{"name":"Finance","members":["cfo@ours.example"],"version":1}`)
	want(409, admin, "PUT", group, `{"name":"Finance","members":["cfo@ours.example"],"version":1}`)
	want(204, admin, "DELETE", group, "")
	want(404, admin, "DELETE", group, "")
}

func TestAPI_PolicyEntries(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	admin, analyst := s.token(identity.Admin), s.token(identity.Analyst)
	body := `{"kind":"allow","match":"sender_domain","value":"Partner.example","classes":["spam"],"reason":"our newsletter"}`
	if status, _, _ := s.call(analyst, "POST", "/policy-entries", body); status != http.StatusForbidden {
		t.Errorf("as analyst: %d", status)
	}
	status, e, text := s.call(admin, "POST", "/policy-entries", body)
	if status != 201 || e["value"] != "partner.example" || e["owner"] != "admin@ours.example" || e["created_by"] != "admin@ours.example" || e["expires_at"] == nil {
		t.Fatalf("%d %s", status, text)
	}
	for _, bad := range []string{`{"kind":"allow","match":"sender_domain","value":"x.example","classes":["malware"],"reason":"never"}`, `{"kind":"allow","match":"subject","value":"x","classes":["spam"],"reason":"never"}`,
		`{"kind":"block","match":"sender","value":"nobody","reason":"no address"}`, `{"kind":"block","match":"sender_domain","value":"x.example","reason":"else","domain":"else.example"}`} {
		if status, m, _ := s.call(admin, "POST", "/policy-entries", bad); status != 422 || m["detail"] == nil {
			t.Errorf("%s: %d %v", bad, status, m)
		}
	}
	path := "/policy-entries/" + fmt.Sprint(e["id"])
	change := `{"kind":"block","match":"sender_domain","value":"partner.example","reason":"it was sold","version":1}`
	if status, m, text := s.call(admin, "PUT", path, change); status != 200 || m["version"] != 2.0 || m["action"] != "quarantine" {
		t.Errorf("%d %s", status, text)
	}
	if status, _, _ := s.call(admin, "PUT", path, change); status != 409 {
		t.Errorf("with an old version: %d", status)
	}
	for range 3 {
		if status, _, text := s.call(admin, "POST", "/policy-entries", `{"kind":"block","match":"client","value":"192.0.2.0/24","reason":"a wave"}`); status != 201 {
			t.Fatalf("%d %s", status, text)
		}
	}
	seen, cursor := 0, ""
	for range 5 {
		_, m, _ := s.call(analyst, "GET", "/policy-entries?state=active&limit=2&cursor="+cursor, "")
		seen += len(m["items"].([]any))
		if cursor, _ = m["next_cursor"].(string); cursor == "" {
			break
		}
	}
	if seen != 4 {
		t.Errorf("%d entries over the pages", seen)
	}
	if status, _, _ := s.call(admin, "DELETE", path, `{"reason":""}`); status != 422 {
		t.Errorf("deleted without a reason: %d", status)
	}
	if status, _, text := s.call(admin, "DELETE", path, `{"reason":"it is over"}`); status != 204 {
		t.Errorf("%d %s", status, text)
	}
	if ev := s.events("policy_entry.delete"); len(ev) != 1 || ev[0]["reason"].(map[string]any)["text"] != "it is over" {
		t.Errorf("on record: %v", ev)
	}
}

func TestAPI_WhatIf(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	admin := s.token(identity.Admin)
	s.call(admin, "POST", "/domains", `{"name":"ours.example","next_hop":"10.0.0.5:25"}`)
	spam := s.decided("bob@ours.example", policy.Spam, policy.Finding{Engine: "yara", Name: "junk", Class: policy.Spam})
	s.decided("bob@ours.example", policy.Clean)
	if status, _, _ := s.call(s.token(identity.Analyst), "POST", "/policy-whatif", `{}`); status != http.StatusForbidden {
		t.Errorf("as analyst: %d", status)
	}
	status, m, text := s.call(admin, "POST", "/policy-whatif", `{"domain":"ours.example","actions":{"spam":"reject"},"days":7}`)
	res, _ := m["result"].(map[string]any)
	if status != 200 || res["mails"] != 2.0 || res["changed"] != 1.0 || len(res["examples"].([]any)) != 1 || res["next_cursor"] != nil {
		t.Fatalf("%d %s", status, text)
	}
	status, m, text = s.call(admin, "POST", "/policy-whatif", `{"domain":"ours.example","actions":{"spam":"reject"},"mail_id":"`+spam.ID.String()+`"}`)
	copies, _ := m["copies"].([]any)
	if status != 200 || len(copies) != 1 || copies[0].(map[string]any)["after"].(map[string]any)["action"] != "reject" || copies[0].(map[string]any)["before"].(map[string]any)["action"] != "tag" {
		t.Errorf("%d %s", status, text)
	}
	if ev := s.events(audit.PolicyTry); len(ev) != 2 {
		t.Errorf("%d trials on record", len(ev))
	}
	if status, m, _ := s.call(admin, "GET", "/policies/ours.example", ""); status != 200 || m["inherited"] != true {
		t.Errorf("a trial has saved something: %v", m)
	}
	for _, bad := range []string{`{"domain":"else.example"}`, `{"mail_id":"` + uuid.NewString() + `"}`, `{"group_id":"` + uuid.NewString() + `"}`} {
		if status, _, _ := s.call(admin, "POST", "/policy-whatif", bad); status != 404 {
			t.Errorf("%s: %d", bad, status)
		}
	}
}
