package webui

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"mailward/alerting"
	"mailward/alerting/channel"
	"mailward/audit"
	"mailward/audit/seal"
	"mailward/evidence"
	"mailward/evidence/store"
	"mailward/evidence/tsa"
	"mailward/gateway/hop"
	"mailward/gateway/ledger"
	"mailward/gateway/queue"
	"mailward/health"
	"mailward/identity"
	"mailward/incident"
	"mailward/intel"
	"mailward/internal/message"
	"mailward/internal/pg"
	"mailward/internal/testenv"
	"mailward/mailcow"
	"mailward/policy"
	"mailward/quarantine"
	"mailward/quarantine/digest"
	"mailward/scanner"
	"mailward/scanner/dlp"
	"mailward/scanner/ruleset"
)

const sitePassword = "correct horse battery"

// realSite is a whole web server on a real database.
type realSite struct {
	*httptest.Server
	t        *testing.T
	srv      *Server
	db       *testenv.DB
	ids      *identity.Store
	audit    *audit.Log
	seal     *seal.Sealer
	held     *quarantine.Store
	bulks    *quarantine.Bulks
	coverage *quarantine.Coverage
	digests  *digest.Store
	ledger   *ledger.Ledger
	queue    *queue.Queue
	spool    *message.Spooler
	admin    identity.User

	sidecar *scanner.Sidecar
	rules   *ruleset.Store
	intel   *intel.Store
	feeds   *intel.Feeds
	exports *evidence.Store
	mailcow *testenv.Mailcow
	alerts  *alerting.Store
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
	s.held = quarantine.New(quarantine.Config{KeepFor: 30 * 24 * time.Hour, GiveUpAfter: time.Hour}, db.DB, blobs, s.audit, log)
	s.coverage = quarantine.NewCoverage(s.held, log, func(uuid.UUID, []string) {})
	s.bulks = quarantine.NewBulks(s.held, log, NewBulkAskers(s.ids))
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
	cases, err := incident.NewStore(db.DB, nil)
	must(t, err)
	hops := hop.New(hop.Config{Hostname: "mx.ours.example"})
	t.Cleanup(hops.Close)
	s.queue = queue.New(queue.DefaultConfig("mx.ours.example"), queue.Deps{Log: log, DB: db.DB, Policies: policies, Ledger: s.ledger, Quarantine: s.held, Audit: s.audit, Hops: hops})
	s.rules = ruleset.New(t.TempDir(), ruleset.Deps{DB: db.DB, Sidecar: s.sidecar, Quarantine: s.held, Audit: s.audit, Log: log})
	s.intel = intel.NewStore(db.DB, s.audit, log)
	s.feeds = intel.NewFeeds(s.intel, nil, log)
	s.alerts, err = alerting.New(alerting.Config{Node: "test", Secrets: map[string]string{"hook": "whsec_" + strings.Repeat("A", 44)}}, alerting.Deps{DB: db.DB, Log: log, Audit: s.audit, Sender: channel.NewSender(channel.Config{Hostname: "mx.ours.example"})})
	must(t, err)
	s.mailcow = testenv.StartMailcow(t, marker+".example")
	cow := &mailcow.Directory{Client: mailcow.New(mailcow.Config{URL: s.mailcow.URL, Key: testenv.MailcowKey}), NextHop: "10.0.0.9:25", Record: s.audit}
	mon := health.New([]health.Component{health.PostgreSQL(db.DB)}, log)
	_, err = s.ids.Bootstrap(ctx, identity.Bootstrap{Email: "admin@ours.example", Password: sitePassword, FourEyes: fourEyes})
	must(t, err)
	s.admin, err = s.ids.UserByEmail(ctx, "admin@ours.example")
	must(t, err)
	keyDir := t.TempDir()
	s.seal = seal.New(seal.Config{Origin: "mx.ours.example/audit"}, seal.Deps{DB: db.DB, Audit: s.audit, Keys: seal.Local{Dir: keyDir}, Local: seal.File{Path: filepath.Join(keyDir, "head.json")}})
	stamps, err := tsa.OpenLocal(keyDir, "mx.ours.example", time.Now)
	must(t, err)
	signer, err := tsa.OpenSigner(keyDir, "mx.ours.example", time.Now)
	must(t, err)
	s.exports = evidence.New(evidence.Config{Hostname: "mx.ours.example", Version: "test"}, evidence.Deps{DB: db.DB, Audit: s.audit, Seal: s.seal, Quarantine: s.held, Ledger: s.ledger, Approvals: s.ids.Approvals(),
		Vault: store.Folder{Dir: filepath.Join(dir, "evidence")}, TSA: stamps, Signer: signer, Keys: seal.Local{Dir: filepath.Join(keyDir, "receipt")}, Log: log})
	s.digests = digest.New(digest.Config{Hostname: "mx.ours.example", PublicURL: "http://mx.ours.example", Key: []byte("a key of a test")},
		digest.Deps{Log: log, DB: db.DB, Held: s.held, Audit: s.audit, Postman: queue.NewLetters(s.queue, nil)})
	s.srv, err = New(Config{Hostname: "mx.ours.example", Version: "test"}, Deps{Log: log, Audit: s.audit, Seal: s.seal, Evidence: s.exports, Identity: s.ids, Quarantine: s.held, Bulks: s.bulks, Coverage: s.coverage, Digests: s.digests, Ledger: s.ledger, Queue: s.queue,
		Policies: policies, DLP: sets, Incidents: cases, Rules: s.rules, Alerts: s.alerts, Intel: s.intel, Feeds: s.feeds, Mailcow: cow, Health: mon, Metrics: prometheus.NewRegistry()})
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

func (s *realSite) hold(to ...string) quarantine.Item { return s.holdMail("bad things", to...) }

// holdMail is for a test that holds several: the same bytes again are a retry.
func (s *realSite) holdMail(body string, to ...string) quarantine.Item {
	s.t.Helper()
	sp, err := s.spool.FromBytes([]byte("Subject: x\r\n\r\n" + body + "\r\n"))
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
