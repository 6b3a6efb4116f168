package evidence

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/approval"
	"mailward/audit"
	"mailward/audit/seal"
	"mailward/evidence/store"
	"mailward/evidence/tsa"
	"mailward/gateway/ledger"
	"mailward/internal/message"
	"mailward/internal/pg"
	"mailward/internal/testenv"
	"mailward/policy"
	"mailward/quarantine"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

const original = "From: CEO <ceo@ours.example>\r\nTo: anna@ours.example\r\nSubject: Invoice\r\nContent-Type: text/html\r\n\r\n" +
	"<p>Pay <a href=\"https://evil.example/login\">https://bank.example</a> now\xe2\x80\xae</p><script>alert(1)</script>\r\n"

type fixture struct {
	*Store
	t     *testing.T
	db    *testenv.DB
	dir   string
	sp    *message.Spooler
	users []pg.Actor
}

func newFixture(t *testing.T, mode string) *fixture {
	t.Helper()
	db, dir, ctx := testenv.Postgres(t), t.TempDir(), context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	key, err := quarantine.OpenLocalKey(filepath.Join(dir, "keys", "blob.key"))
	must(err)
	blobs, err := quarantine.NewBlobs(filepath.Join(dir, "blobs"), key)
	must(err)
	cfg := message.DefaultConfig()
	cfg.Dir, cfg.MinFree = filepath.Join(dir, "spool"), 0
	sp, err := message.NewSpooler(cfg)
	must(err)
	stamps, err := tsa.OpenLocal(filepath.Join(dir, "keys"), "mx.ours.example", time.Now)
	must(err)
	signer, err := tsa.OpenSigner(filepath.Join(dir, "keys"), "mx.ours.example", time.Now)
	must(err)
	log := slog.New(slog.DiscardHandler)
	al := audit.New(db.DB, audit.Options{Observer: audit.Observer{Node: "test", Version: "1"}})
	sealer := seal.New(seal.Config{Origin: "mx.ours.example/audit"}, seal.Deps{DB: db.DB, Audit: al, Keys: seal.Local{Dir: filepath.Join(dir, "seal")}, Local: seal.File{Path: filepath.Join(dir, "head", "head.json")}})
	led := ledger.New(db.DB, log)
	t.Cleanup(func() { led.Close() })
	f := &fixture{t: t, db: db, dir: dir, sp: sp, Store: New(Config{Hostname: "mx.ours.example", Version: "1"}, Deps{DB: db.DB, Audit: al, Seal: sealer,
		Quarantine: quarantine.New(quarantine.DefaultConfig(), db.DB, blobs, al, log), Ledger: led, Approvals: approval.New(db.DB, al, nil), Vault: store.Folder{Dir: filepath.Join(dir, "evidence")},
		TSA: stamps, Signer: signer, Keys: seal.Local{Dir: filepath.Join(dir, "keys", "receipt")}, Log: log,
		View: func(_ context.Context, f *os.File) (View, error) {
			b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
			_, body, _ := bytes.Cut(b, []byte("\r\n\r\n"))
			return View{Headers: []Header{{"Subject", "Invoice"}}, HTML: string(body)}, err
		}})}
	_, err = db.Admin(t).Exec(ctx, "INSERT INTO setting (key, value) VALUES ('four_eyes', to_jsonb($1::text))", mode)
	must(err)
	for _, email := range []string{"anna@ours.example", "otto@ours.example"} {
		id, sid := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
		_, err := db.Admin(t).Exec(ctx, `WITH u AS (INSERT INTO user_account (id, email, name) VALUES ($1, $2, $2) RETURNING id)
			INSERT INTO session (id, token_hash, user_id, expires_at) SELECT $3, sha256($4), u.id, now() + interval '1 day' FROM u`, id, email, sid, sid[:])
		must(err)
		f.users = append(f.users, pg.Actor{Type: pg.ActorUser, UserID: id, Email: email, SessionID: sid, AuthMethod: "password"})
	}
	return f
}

func (f *fixture) hold(class policy.Class, text string) uuid.UUID {
	f.t.Helper()
	sp, err := f.sp.FromBytes([]byte(text))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(sp.Close)
	id, err := f.Quarantine.Hold(context.Background(), quarantine.Hold{Envelope: message.Envelope{ID: uuid.Must(uuid.NewV7()), ReceivedAt: time.Now(), From: "billing@evil.example", Recipients: []string{"anna@ours.example"}}, Spool: sp,
		Workspace: policy.DefaultWorkspace, Class: class, Reasons: []string{"ClamAV found malware"}, Auth: []byte(`{"spf":{"result":"fail","domain":"evil.example"},"dmarc":{"result":"fail","policy":"reject"}}`),
		Report: policy.Report{Subject: "Invoice", HeaderFrom: "CEO <ceo@ours.example>", Findings: []policy.Finding{{Engine: "clamav", Name: "Eicar", Class: class, Reason: "A signature matched"}},
			Engines: []policy.EngineAnswer{{Engine: "clamav", Version: "1.4.6", Answered: true}}},
		Recipients: []policy.RecipientDecision{{Address: "anna@ours.example", Domain: "ours.example", Action: policy.Quarantine}}})
	if err != nil {
		f.t.Fatal(err)
	}
	return id
}

func request(items ...uuid.UUID) Request {
	return Request{Items: items, Case: Case{"INC-2026-0042", "Wave of false invoices", "Report to the authority"}, Reason: "needed for the report", Language: "en"}
}

// export asks and makes.
func (f *fixture) export(req Request) Export {
	f.t.Helper()
	ctx := context.Background()
	e, err := f.Ask(ctx, f.users[0], []string{"analyst"}, req)
	if err != nil {
		f.t.Fatal(err)
	}
	return f.made(e.ID)
}

func (f *fixture) made(id uuid.UUID) Export {
	f.t.Helper()
	f.Log = slog.New(slog.NewTextHandler(testWriter{f.t}, nil))
	if _, err := f.Next(context.Background()); err != nil {
		f.t.Fatal(err)
	}
	e, err := f.Get(context.Background(), id)
	if err != nil {
		f.t.Fatal(err)
	}
	return e
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) { w.t.Log(string(b)); return len(b), nil }

// unpacked downloads a bundle and lays it out in a folder.
func (f *fixture) unpacked(e Export) string {
	f.t.Helper()
	d, err := f.Open(context.Background(), f.users[0], nil, e, "")
	if err != nil {
		f.t.Fatal(err)
	}
	var b bytes.Buffer
	if err := d.Send(&b); err != nil {
		f.t.Fatal(err)
	}
	dir := f.t.TempDir()
	if err := os.WriteFile(filepath.Join(f.dir, "bundle.zip"), b.Bytes(), 0o600); err != nil {
		f.t.Fatal(err)
	}
	z, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		f.t.Fatal(err)
	}
	if err := os.CopyFS(dir, z); err != nil {
		f.t.Fatal(err)
	}
	return dir
}

func (f *fixture) events(action string) int {
	f.t.Helper()
	p, err := f.Audit.List(context.Background(), audit.Filter{Action: action, Limit: 100})
	if err != nil {
		f.t.Fatal(err)
	}
	return len(p.Items)
}

func TestExport_TwoPeople(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t, approval.Required), context.Background()
	e, err := f.Ask(ctx, f.users[0], nil, request(f.hold(policy.Malware, original)))
	if err != nil || e.State != Requested || e.RequestID == nil {
		t.Fatalf("%+v, %v", e, err)
	}
	if f.made(e.ID).State != Requested || f.events(audit.EvidenceRead) != 0 {
		t.Fatal("made before anybody agreed")
	}
	if err := f.Decide(ctx, f.users[0], nil, *e.RequestID, true, "fine"); !errors.Is(err, approval.ErrSamePerson) {
		t.Fatalf("one person is two: %v", err)
	}
	if err := f.Decide(ctx, f.users[1], nil, *e.RequestID, true, "fine"); err != nil {
		t.Fatal(err)
	}
	if err := f.Decide(ctx, f.users[1], nil, *e.RequestID, false, "no"); !errors.Is(err, approval.ErrState) {
		t.Errorf("decided twice: %v", err)
	}
	if e = f.made(e.ID); e.State != Done || e.ApproverEmail != "otto@ours.example" || e.WORM != "none" || e.RetainUntil != nil {
		t.Fatalf("%+v", e)
	}
	chain, err := f.Custody(ctx, e.ID)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range chain {
		got = append(got, c.Event)
	}
	if want := []string{"acquired", "requested", "approved", "read", "stored", "sealed"}; len(got) != len(want) {
		t.Errorf("chain of custody: %v", got)
	}
	no, err := f.Ask(ctx, f.users[0], nil, request(f.hold(policy.Phishing, original+"2")))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Decide(ctx, f.users[1], nil, *no.RequestID, false, "not needed"); err != nil {
		t.Fatal(err)
	}
	if no = f.made(no.ID); no.State != Denied {
		t.Errorf("%+v", no)
	}
	if _, err := f.Ask(ctx, pg.Operator("root@gw"), nil, request(e.Items[0])); !errors.Is(err, ErrTwo) {
		t.Errorf("the command line goes round the second person: %v", err)
	}
	if p, err := f.List(ctx, Filter{Workspaces: []uuid.UUID{policy.DefaultWorkspace}, Query: "inc-2026", State: Done}); err != nil || len(p.Items) != 1 {
		t.Errorf("%d exports, %v", len(p.Items), err)
	}
	if p, err := f.List(ctx, Filter{Workspaces: []uuid.UUID{uuid.New()}}); err != nil || len(p.Items) != 0 {
		t.Errorf("%d exports of others, %v", len(p.Items), err)
	}
}

// TestExport_ForgedRowIsRefused: what somebody writes at psql is no decision.
func TestExport_ForgedRowIsRefused(t *testing.T) {
	t.Parallel()
	type forgery struct{ name, sql string }
	for mode, list := range map[string][]forgery{
		approval.Required: {
			{"approved by hand", "UPDATE evidence_export SET state = 'approved' WHERE id = '%s'"},
			{"request too", "UPDATE evidence_export SET state = 'approved' WHERE id = '%s'; UPDATE approval_request SET state = 'approved'"},
		},
		approval.SingleOperator: {
			{"another mail decided", "UPDATE evidence_export SET detail = jsonb_set(detail, '{items}', '[\"x\"]') WHERE id = '%s'"},
			{"another mail read", "UPDATE evidence_export SET item_ids = ARRAY['00000000-0000-7000-8000-000000000009'::uuid] WHERE id = '%s'"},
			{"another language", "UPDATE evidence_export SET detail = detail || '{\"language\": \"de\"}' WHERE id = '%s'"},
			{"four eyes switched on", "UPDATE setting SET value = '\"required\"' WHERE key = 'four_eyes' AND '%s' <> ''"},
		},
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			f, ctx := newFixture(t, mode), context.Background()
			admin, item := f.db.Admin(t), f.hold(policy.Malware, original)
			for i, c := range list {
				e, err := f.Ask(ctx, f.users[0], nil, request(item))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := admin.Exec(ctx, fmt.Sprintf(c.sql, e.ID)); err != nil {
					t.Fatal(err)
				}
				if e = f.made(e.ID); e.State != Failed || e.Error != "forged" || f.events(audit.EvidenceRead) != 0 || f.events(audit.EvidenceFailed) != i+1 {
					t.Errorf("%s: %+v", c.name, e)
				}
			}
		})
	}
}

// TestExport_RefusedWithoutRecord: with the audit unwritable nothing is asked for,
// read or downloaded.
func TestExport_RefusedWithoutRecord(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t, approval.SingleOperator), context.Background()
	item := f.hold(policy.Malware, original)
	e := f.export(request(item))
	if e.State != Done {
		t.Fatalf("%+v", e)
	}
	waiting, err := f.Ask(ctx, f.users[0], nil, request(item))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.db.Admin(t).Exec(ctx, "ALTER EVENT TRIGGER mailward_ddl DISABLE; REVOKE EXECUTE ON FUNCTION audit.append(uuid, bytea, jsonb) FROM mailward_app, PUBLIC"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Ask(ctx, f.users[0], nil, request(item)); !errors.Is(err, audit.ErrUnwritable) {
		t.Errorf("asked: %v", err)
	}
	if _, err := f.Next(ctx); !errors.Is(err, audit.ErrUnwritable) {
		t.Errorf("made: %v", err)
	}
	if w, err := f.Get(ctx, waiting.ID); err != nil || w.State != Approved {
		t.Errorf("%+v, %v", w, err)
	}
	if _, err := f.Open(ctx, f.users[0], nil, e, ""); !errors.Is(err, audit.ErrUnwritable) {
		t.Errorf("downloaded: %v", err)
	}
	if chain, err := f.Custody(ctx, e.ID); err != nil || chain[len(chain)-1].Event == "downloaded" {
		t.Errorf("%+v, %v", chain, err)
	}
}

// TestDownload_IsOnRecordAndCompared: each download is an event and a step of the
// chain, and nothing of a file that was changed goes out.
func TestDownload_IsOnRecordAndCompared(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t, approval.SingleOperator), context.Background()
	e := f.export(request(f.hold(policy.Malware, original)))
	f.unpacked(e)
	if n := f.events(audit.EvidenceDownload); n != 2 {
		t.Errorf("%d events of one download, want intent and result", n)
	}
	chain, err := f.Custody(ctx, e.ID)
	if err != nil || chain[len(chain)-1].Event != "downloaded" || chain[len(chain)-1].Actor != "anna@ours.example" {
		t.Errorf("%+v, %v", chain, err)
	}
	for _, file := range e.Files {
		if file.Name == "original.eml" {
			path := filepath.Join(f.dir, "evidence", file.Object.Key)
			if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte(original[:len(original)-1]+"X"), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range []string{"", "original.eml"} {
		if _, err := f.Open(ctx, f.users[0], nil, e, name); !errors.Is(err, ErrDamaged) {
			t.Errorf("%q of changed evidence: %v", name, err)
		}
	}
	if f.events(audit.EvidenceDamaged) != 2 {
		t.Error("the damage is not on record")
	}
	if d, err := f.Open(ctx, f.users[0], nil, e, "report.pdf"); err != nil || d.Bytes == 0 {
		t.Errorf("another file: %v", err)
	}
	if _, err := f.Open(ctx, f.users[0], nil, e, "../x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// TestExport_ChangedBytesAreNotExported: the mail must be the one that came in.
func TestExport_ChangedBytesAreNotExported(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t, approval.SingleOperator), context.Background()
	item := f.hold(policy.Malware, original)
	e, err := f.Ask(ctx, f.users[0], nil, request(item))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.db.Admin(t).Exec(ctx, "UPDATE quarantine_item SET sha256 = sha256('x') WHERE id = $1", item); err != nil {
		t.Fatal(err)
	}
	if e = f.made(e.ID); e.State != Failed || e.Error != "damaged" || f.events(audit.EvidenceFailed) != 1 {
		t.Errorf("%+v", e)
	}
}

func TestQueries_Prepare(t *testing.T) {
	t.Parallel()
	testenv.PrepareQueries(t, queryFiles)
}
