package webui

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"mailward/audit"
	"mailward/audit/seal"
	"mailward/gateway/hop"
	"mailward/gateway/ledger"
	"mailward/gateway/queue"
	"mailward/health"
	"mailward/identity"
	"mailward/intel"
	"mailward/internal/message"
	"mailward/internal/pg"
	"mailward/internal/testenv"
	"mailward/policy"
	"mailward/quarantine"
	"mailward/scanner"
	"mailward/scanner/dlp"
	"mailward/scanner/ruleset"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

const sitePassword = "correct horse battery"

// realSite is a whole web server on a real database.
type realSite struct {
	*httptest.Server
	t      *testing.T
	srv    *Server
	db     *testenv.DB
	ids    *identity.Store
	audit  *audit.Log
	seal   *seal.Sealer
	held   *quarantine.Store
	ledger *ledger.Ledger
	queue  *queue.Queue
	spool  *message.Spooler
	admin  identity.User

	sidecar *scanner.Sidecar
	rules   *ruleset.Store
	intel   *intel.Store
	feeds   *intel.Feeds
}

func newRealSite(t *testing.T, fourEyes string) *realSite {
	t.Helper()
	return newRealSiteWith(t, fourEyes, scanner.NewSidecar(scanner.SidecarConfig{Socket: "/nowhere"}))
}

// newRealSiteWith is for tests that need a scanner, too.
func newRealSiteWith(t *testing.T, fourEyes string, sidecar *scanner.Sidecar) *realSite {
	t.Helper()
	db := testenv.Postgres(t)
	ctx, stop := context.WithCancel(context.Background())
	log, dir := slog.New(slog.DiscardHandler), t.TempDir()
	s := &realSite{t: t, db: db, sidecar: sidecar, audit: audit.New(db.DB, audit.Options{Observer: audit.Observer{Node: "test"}})}
	done := make(chan error, 1)
	go func() { done <- s.audit.RunLater(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	key, err := quarantine.OpenLocalKey(filepath.Join(dir, "keys", "blob.key"))
	must(t, err)
	s.ids, err = identity.New(db.DB, s.audit, identity.Options{Memory: 64, Rounds: 1, Sealer: key, PublicURL: "https://mailward.ours.example", SpoolDir: filepath.Join(dir, "logins")})
	must(t, err)
	blobs, err := quarantine.NewBlobs(filepath.Join(dir, "blobs"), key)
	must(t, err)
	s.held = quarantine.New(quarantine.DefaultConfig(), db.DB, blobs, s.audit, log)
	s.ledger = ledger.New(db.DB, log)
	t.Cleanup(s.ledger.Close)
	cfg := message.DefaultConfig()
	cfg.Dir, cfg.MinFree = filepath.Join(dir, "spool"), 0
	s.spool, err = message.NewSpooler(cfg)
	must(t, err)
	policies := policy.NewStore(db.DB, policy.StaticRoutes{Default: "127.0.0.1:25"}, log)
	must(t, policies.Load(ctx))
	sets := dlp.NewStore(db.DB, log)
	must(t, sets.Load(ctx))
	hops := hop.New(hop.Config{Hostname: "mx.ours.example"})
	t.Cleanup(hops.Close)
	s.queue = queue.New(queue.DefaultConfig("mx.ours.example"), queue.Deps{Log: log, DB: db.DB, Policies: policies, Ledger: s.ledger, Quarantine: s.held, Audit: s.audit, Hops: hops})
	s.rules = ruleset.New(t.TempDir(), ruleset.Deps{DB: db.DB, Sidecar: s.sidecar, Quarantine: s.held, Audit: s.audit, Log: log})
	s.intel = intel.NewStore(db.DB, s.audit, log)
	s.feeds = intel.NewFeeds(s.intel, nil, log)
	mon := health.New([]health.Component{health.PostgreSQL(db.DB)}, log)
	_, err = s.ids.Bootstrap(ctx, identity.Bootstrap{Email: "admin@ours.example", Password: sitePassword, FourEyes: fourEyes})
	must(t, err)
	s.admin, err = s.ids.UserByEmail(ctx, "admin@ours.example")
	must(t, err)
	keyDir := t.TempDir()
	s.seal = seal.New(seal.Config{Origin: "mx.ours.example/audit"}, seal.Deps{DB: db.DB, Audit: s.audit, Keys: seal.Local{Dir: keyDir}, Local: seal.File{Path: filepath.Join(keyDir, "head.json")}})
	s.srv, err = New(Config{Hostname: "mx.ours.example", Version: "test"}, Deps{Log: log, Audit: s.audit, Seal: s.seal, Identity: s.ids, Quarantine: s.held, Ledger: s.ledger, Queue: s.queue,
		Policies: policies, DLP: sets, Rules: s.rules, Intel: s.intel, Feeds: s.feeds, Health: mon, Metrics: prometheus.NewRegistry()})
	must(t, err)
	s.Server = httptest.NewServer(s.srv.Handler())
	t.Cleanup(s.Server.Close)
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *realSite) token(role identity.Role) string {
	s.t.Helper()
	plain, _, err := s.ids.CreateToken(context.Background(), pg.Operator("root"), identity.NewToken{Name: "t", Role: role, OwnerID: s.admin.ID})
	must(s.t, err)
	return plain
}

func (s *realSite) hold(to ...string) quarantine.Item {
	s.t.Helper()
	sp, err := s.spool.FromBytes([]byte("Subject: x\r\n\r\nbad things\r\n"))
	must(s.t, err)
	defer sp.Close()
	h := quarantine.Hold{Envelope: message.Envelope{ID: uuid.Must(uuid.NewV7()), ReceivedAt: time.Now(), From: "m@evil.example", Recipients: to}, Spool: sp,
		Workspace: policy.DefaultWorkspace, Class: policy.Malware, Report: policy.Report{Subject: "x", Findings: []policy.Finding{{Engine: "clamav", Name: "Eicar", Class: policy.Malware}}}}
	for _, a := range to {
		h.Recipients = append(h.Recipients, policy.RecipientDecision{Address: a, Domain: "ours.example", Action: policy.Quarantine})
	}
	id, err := s.held.Hold(context.Background(), h)
	must(s.t, err)
	it, err := s.held.Get(context.Background(), id)
	must(s.t, err)
	return it
}

// call makes one call with a token and reads the answer.
func (s *realSite) call(token, method, path, body string, header ...string) (int, map[string]any, string) {
	s.t.Helper()
	req, err := http.NewRequest(method, s.URL+apiPrefix+path, strings.NewReader(body))
	must(s.t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := s.Client().Do(req)
	must(s.t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	must(s.t, err)
	var m map[string]any
	_ = json.Unmarshal(b, &m)
	return res.StatusCode, m, string(b)
}

func (s *realSite) events(action string) []map[string]any {
	s.t.Helper()
	p, err := s.audit.List(context.Background(), audit.Filter{Action: action, Limit: 1000})
	must(s.t, err)
	var out []map[string]any
	for _, r := range p.Items {
		out = append(out, r.Fields())
	}
	return out
}

// eventually waits for what is written a moment later.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not seen within 5 s: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

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
	for _, p := range []string{"/health", "/messages", "/messages/{id}", "/quarantine", "/quarantine/{id}", "/quarantine/{id}/raw", "/quarantine/{id}/release", "/quarantine/{id}/approve",
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
		apiPrefix + "/openapi.json": true, apiPrefix + "/openapi.yaml": true}
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
