package webui

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"mailward/audit"
	"mailward/identity"
	"mailward/internal/pg"
	"mailward/internal/testenv"
)

func TestAPI_AuditEvents(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	must(t, s.audit.Record(context.Background(), audit.Event{Action: audit.Login, Actor: pg.System("x", "y"), Reason: "=cmd()"}))
	token := s.token(identity.Auditor)
	status, m, _ := s.call(token, "GET", "/audit/events?action=auth.*", "")
	items, _ := m["items"].([]any)
	if status != 200 || len(items) != 1 {
		t.Fatalf("%d %v", status, m)
	}
	for _, field := range []string{"schema", "id", "time", "actor", "auth", "source", "application", "request", "correlation", "targets", "change", "reason", "approval", "observer", "class", "seq", "leaf_hash", "recorded_at"} {
		if _, ok := items[0].(map[string]any)[field]; !ok {
			t.Errorf("an event has no %s", field)
		}
	}
	_, _, body := s.call(token, "GET", "/audit/events?action=auth.login", "", "Accept", "text/csv")
	recs, err := csv.NewReader(strings.NewReader(body)).ReadAll()
	if err != nil || len(recs) != 2 || !strings.Contains(body, "'=cmd()") {
		t.Errorf("csv %q, %v", body, err)
	}
	_, m, body = s.call(token, "GET", "/audit/events?action=auth.login", "", "Accept", "application/x-ndjson")
	if m["action"] != "auth.login" {
		t.Errorf("ndjson %q", body)
	}
	if n := len(s.events(audit.AuditExport)); n != 4 { // each an intent and a result
		t.Errorf("%d events of exports, want 4", n)
	}
	// Pages hang together.
	for range 5 {
		must(t, s.audit.Record(context.Background(), audit.Event{Action: audit.Logout, Actor: pg.System("x", "y")}))
	}
	seen, cursor := map[string]bool{}, ""
	for range 4 {
		_, m, body := s.call(token, "GET", "/audit/events?action=auth.logout&limit=2&cursor="+url.QueryEscape(cursor), "")
		list, _ := m["items"].([]any)
		for _, e := range list {
			seen[e.(map[string]any)["id"].(string)] = true
		}
		if cursor, _ = m["next_cursor"].(string); cursor == "" {
			break
		} else if len(list) != 2 {
			t.Fatal(body)
		}
	}
	if len(seen) != 5 {
		t.Errorf("%d events over the pages, want 5", len(seen))
	}
	if status, _, _ := s.call(token, "GET", "/audit/events?cursor=x", ""); status != 422 {
		t.Errorf("a bad cursor: %d", status)
	}
}

// A copy of the audit by its numbers: complete, and resumed where it stopped.
func TestAPI_AuditFeed(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	token := s.token(identity.Auditor)
	for range 5 {
		must(t, s.audit.Record(context.Background(), audit.Event{Action: audit.Logout, Actor: pg.System("x", "y")}))
	}
	for n := 1; n > 0; {
		var err error
		if n, err = s.audit.Sequence(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	next, expect := 0.0, 0.0
	for {
		status, m, body := s.call(token, "GET", fmt.Sprintf("/audit/feed?limit=4&cursor=%.0f", next), "")
		items, _ := m["items"].([]any)
		if status != 200 {
			t.Fatal(body)
		}
		for _, e := range items {
			if seq, _ := e.(map[string]any)["seq"].(float64); seq != expect {
				t.Fatalf("number %v, want %v", seq, expect)
			}
			expect++
		}
		if next, _ = m["next_cursor"].(float64); next == m["head"] {
			break
		}
	}
	if expect < 6 {
		t.Errorf("%v events", expect)
	}
	_, m, _ := s.call(token, "GET", "/audit/feed?action=auth.logout&limit=500", "")
	if items, _ := m["items"].([]any); len(items) != 5 || m["next_cursor"].(float64) < expect {
		t.Errorf("with a filter: %d events, next %v", len(items), m["next_cursor"])
	}
	for _, bad := range []string{"-1", "x"} {
		if status, _, _ := s.call(token, "GET", "/audit/feed?cursor="+bad, ""); status != 422 {
			t.Errorf("cursor %s: %d", bad, status)
		}
	}
}

// The example of docs/audit.md is run as it stands there.
func TestAPI_AuditFeedExampleCopiesEachEventOnce(t *testing.T) {
	t.Parallel()
	testenv.Require(t, "go")
	s := newRealSite(t, identity.SingleOperator)
	token, file := s.token(identity.Auditor), filepath.Join(t.TempDir(), "events.ndjson")
	program := filepath.Join(t.TempDir(), "copyaudit")
	if out, err := exec.Command("go", "build", "-o", program, "../docs/examples/copyaudit").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	copied := func() string {
		for n := 1; n > 0; {
			var err error
			if n, err = s.audit.Sequence(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(program, s.URL, file)
		cmd.Env = append(os.Environ(), "MAILWARD_TOKEN="+token)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return string(out)
		}
		return ""
	}
	numbers := func() (list []int64) {
		b, err := os.ReadFile(file)
		must(t, err)
		for line := range strings.Lines(string(b)) {
			var ev struct{ Seq int64 }
			must(t, json.Unmarshal([]byte(line), &ev))
			list = append(list, ev.Seq)
		}
		return list
	}
	record := func() {
		must(t, s.audit.Record(context.Background(), audit.Event{Action: audit.Logout, Actor: pg.System("x", "y")}))
	}
	record()
	if msg := copied(); msg != "" {
		t.Fatal(msg)
	}
	first := len(numbers())
	// A run that was killed has written more than it could say.
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString(`{"half`)
	must(t, errors.Join(err, f.Close()))
	record()
	if msg := copied(); msg != "" {
		t.Fatal(msg)
	}
	list := numbers()
	if len(list) <= first {
		t.Errorf("%d events after %d", len(list), first)
	}
	for i, n := range list {
		if n != int64(i) {
			t.Fatalf("number %d stands at %d", n, i)
		}
	}
	token = s.token(identity.Viewer)
	if msg := copied(); !strings.Contains(msg, "403") {
		t.Errorf("somebody who may not export: %q", msg)
	}
}

// Each question of the audit page finds what it asks for, and not what stands
// beside it.
func TestAudit_QuestionsFindTheirAnswers(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	token := s.token(identity.Auditor)
	actor := pg.Actor{Type: pg.ActorUser, UserID: uuid.New(), Email: "erika@ours.example", AuthMethod: "password"}
	mail := uuid.NewString()
	record := func(ev audit.Event) string {
		ev.ID, ev.Actor = uuid.Must(uuid.NewV7()), actor
		must(t, s.audit.Record(context.Background(), ev))
		return ev.ID.String()
	}
	alone := record(audit.Event{Action: audit.ReleaseExecute, Approval: &audit.Approval{Mode: "single_operator"}})
	agreed := record(audit.Event{Action: audit.ReleaseExecute, Approval: &audit.Approval{Mode: "required", Approvers: []string{"x"}}})
	policy := record(audit.Event{Action: "policy.update", Before: map[string]any{"spam": "tag"}, After: map[string]any{"spam": "hold"}})
	opened := record(audit.Event{Action: audit.ViewBody, Targets: []audit.Target{{Type: "quarantine_item", ID: mail}}})
	other := record(audit.Event{Action: audit.ViewBody, Targets: []audit.Target{{Type: "quarantine_item", ID: uuid.NewString()}}})
	role := record(audit.Event{Action: "role.create"})
	gap := record(audit.Event{Action: audit.SinkFailed})
	export := record(audit.Event{Action: audit.AuditExport})
	for key, want := range map[string]struct{ more, found, left string }{
		"releases": {"", alone, agreed}, "policies": {"&actor=erika@ours.example", policy, role}, "opened": {"&target=" + mail, opened, other},
		"roles": {"", role, policy}, "gaps": {"", gap, role}, "complete": {"", export, opened}, "exports": {"", export, opened},
	} {
		found := false
		for _, q := range (auditView{}).questions() {
			if q.Key != key {
				continue
			}
			found = true
			u, err := url.Parse(q.Href)
			must(t, err)
			v := u.Query()
			v.Del("range") // the API has from and to
			status, _, body := s.call(token, "GET", "/audit/events?"+v.Encode()+want.more, "")
			if status != 200 || !strings.Contains(body, want.found) || strings.Contains(body, want.left) {
				t.Errorf("%s: %d, finds it: %v, finds its neighbour: %v", key, status, strings.Contains(body, want.found), strings.Contains(body, want.left))
			}
		}
		if !found {
			t.Errorf("no question %s", key)
		}
	}
}
