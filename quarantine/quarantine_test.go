package quarantine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/approval"
	"mailward/audit"
	"mailward/internal/message"
	"mailward/internal/pg"
	"mailward/internal/testenv"
	"mailward/policy"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

type fixture struct {
	*Store
	db    *testenv.DB
	audit *audit.Log
	sp    *message.Spooler
	users []pg.Actor
}

func newFixture(t *testing.T, mode string) *fixture {
	t.Helper()
	db := testenv.Postgres(t)
	dir := t.TempDir()
	key, err := OpenLocalKey(filepath.Join(dir, "keys", "blob.key"))
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := NewBlobs(filepath.Join(dir, "blobs"), key)
	if err != nil {
		t.Fatal(err)
	}
	cfg := message.DefaultConfig()
	cfg.Dir, cfg.MinFree = filepath.Join(dir, "spool"), 0
	sp, err := message.NewSpooler(cfg)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	al := audit.New(db.DB, audit.Options{})
	f := &fixture{Store: New(Config{KeepFor: 30 * 24 * time.Hour, GiveUpAfter: time.Hour}, db.DB, blobs, al, log), db: db, audit: al, sp: sp}
	admin := db.Admin(t)
	if _, err := admin.Exec(context.Background(), "INSERT INTO setting (key, value) VALUES ('four_eyes', to_jsonb($1::text))", mode); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		f.users = append(f.users, f.newUser(t, fmt.Sprintf("u%d@ours.example", i), ""))
	}
	return f
}

// folder is where the blobs are.
func (f *fixture) folder() string { return f.blobs.folder.(*Dir).path }

// files are the blobs and whatever else is there.
func (f *fixture) files(t *testing.T) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(f.folder(), "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// age makes files older than a sweep waits.
func (f *fixture) age(t *testing.T, files ...string) {
	t.Helper()
	old := time.Now().Add(-2 * sweepAge)
	for _, name := range files {
		if err := os.Chtimes(name, old, old); err != nil {
			t.Fatal(err)
		}
	}
}

// read gives the bytes of an item.
func (f *fixture) read(t *testing.T, id uuid.UUID) (string, error) {
	t.Helper()
	it, err := f.Get(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	r, err := f.Raw(context.Background(), it)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), err
}

func (f *fixture) newUser(t *testing.T, email, createdBy string) pg.Actor {
	t.Helper()
	id, sid := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	_, err := f.db.Admin(t).Exec(context.Background(), `WITH u AS (INSERT INTO user_account (id, email, created_by) VALUES ($1, $2, $3) RETURNING id)
		INSERT INTO session (id, token_hash, user_id, expires_at) SELECT $4, sha256($5), u.id, now() + interval '1 day' FROM u`, id, email, createdBy, sid, sid[:])
	if err != nil {
		t.Fatal(err)
	}
	return pg.Actor{Type: pg.ActorUser, UserID: id, Email: email, SessionID: sid, AuthMethod: "password"}
}

func (f *fixture) hold(t *testing.T, body string, to ...string) uuid.UUID {
	t.Helper()
	id, err := f.Hold(context.Background(), f.request(t, body, to...))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (f *fixture) request(t *testing.T, body string, to ...string) Hold {
	t.Helper()
	sp, err := f.sp.FromBytes([]byte("Subject: x\r\n\r\n" + body + "\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sp.Close)
	h := Hold{Envelope: message.Envelope{ID: uuid.Must(uuid.NewV7()), ReceivedAt: time.Now(), From: "m@evil.example", Recipients: to}, Spool: sp,
		Workspace: policy.DefaultWorkspace, Class: policy.Malware, Reasons: []string{"EICAR"}, Report: policy.Report{Subject: "x\x00\xff",
			Findings: []policy.Finding{{Engine: "clamav", Name: "Eicar", Class: policy.Malware, Reason: "nul \x00 inside"}}}}
	for _, a := range to {
		h.Recipients = append(h.Recipients, policy.RecipientDecision{Address: a, Domain: "ours.example", Action: policy.Quarantine})
	}
	return h
}

func (f *fixture) count(t *testing.T, sql string, args ...any) (n int) {
	t.Helper()
	if err := f.db.Pool.QueryRow(context.Background(), sql, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestHold_IsThereWhole(t *testing.T) {
	t.Parallel()
	f := newFixture(t, SingleOperator)
	ctx := context.Background()
	id := f.hold(t, "bad things", "bob@ours.example", "carol@ours.example")
	it, err := f.Get(ctx, id)
	if err != nil || it.State != Quarantined || len(it.Recipients) != 2 || len(it.Findings) != 1 {
		t.Fatalf("%+v, %v", it, err)
	}
	r, err := f.Raw(ctx, it)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	r.Close()
	if err != nil || string(b) != "Subject: x\r\n\r\nbad things\r\n" {
		t.Errorf("%q, %v", b, err)
	}
	file, err := f.File(ctx, it)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt([]byte("x"), 0); err == nil {
		t.Error("the decrypted mail can be written to")
	}
	if n := f.count(t, "SELECT count(*) FROM audit.event WHERE action = 'quarantine.item.create'"); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
	// The client's second try, after a reply that was lost, makes no second item.
	h := f.request(t, "bad things", "CAROL@ours.example", "bob@ours.example")
	again, err := f.Hold(ctx, h)
	if err != nil || again != id {
		t.Errorf("a second try made item %s (%v), want %s", again, err, id)
	}
	// Once somebody has acted on it, the same mail is a new one: it must not vanish.
	if _, err := f.Delete(ctx, f.users[0], nil, id, "done"); err != nil {
		t.Fatal(err)
	}
	if again, err := f.Hold(ctx, h); err != nil || again == id {
		t.Errorf("a mail after the deletion fell into the deleted item (%v)", err)
	}
}

func TestHold_TransactionFails(t *testing.T) {
	t.Parallel()
	f := newFixture(t, SingleOperator)
	ctx := context.Background()
	_, err := f.db.Admin(t).Exec(ctx, "BEGIN; SELECT audit.maintenance('test', 'fault injection'); REVOKE INSERT ON quarantine_recipient FROM mailward_app; COMMIT")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Hold(ctx, f.request(t, "x", "bob@ours.example")); err == nil {
		t.Fatal("a mail was held although it could not be")
	}
	if n := f.count(t, "SELECT count(*) FROM quarantine_item"); n != 0 {
		t.Errorf("%d items without an event", n)
	}
	files, _ := filepath.Glob(filepath.Join(f.folder(), "*", "*"))
	if len(files) != 1 {
		t.Fatalf("%d blobs, want the one without a row", len(files))
	}
	if n, err := f.Sweep(ctx); err != nil || n.Removed != 0 || n.Files != 1 {
		t.Errorf("a young file was swept: %+v, %v", n, err)
	}
	f.age(t, files...)
	if n, err := f.Sweep(ctx); err != nil || n.Removed != 1 {
		t.Errorf("swept %+v, %v; want 1", n, err)
	}
}

func TestRelease_OnceUnderManyClicks(t *testing.T) {
	t.Parallel()
	f := newFixture(t, SingleOperator)
	ctx := context.Background()
	id := f.hold(t, "x", "bob@ours.example", "carol@ours.example")
	var won, state atomic.Int32
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			req := ReleaseRequest{Reason: "by phone"}
			if i%2 == 0 {
				req.Recipients = []string{"Bob@ours.example"}
			}
			switch _, err := f.Release(ctx, f.users[i%2], nil, id, req); {
			case err == nil:
				won.Add(1)
			case errors.Is(err, ErrState):
				state.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := f.count(t, "SELECT count(*) FROM delivery"); n != 2 {
		t.Errorf("%d deliveries for 2 recipients (%d clicks won)", n, won.Load())
	}
	it, err := f.Get(ctx, id)
	if err != nil || it.State != ReleaseScheduled {
		t.Errorf("item is %s, %v", it.State, err)
	}
	if _, err := f.Delete(ctx, f.users[0], nil, id, "x"); !errors.Is(err, ErrState) {
		t.Errorf("deleting a mail that is on its way: %v", err)
	}
}

func TestRelease_Refuses(t *testing.T) {
	t.Parallel()
	f := newFixture(t, SingleOperator)
	ctx := context.Background()
	id := f.hold(t, "x", "bob@ours.example")
	for _, tt := range []struct {
		id   uuid.UUID
		req  ReleaseRequest
		want error
	}{
		{id, ReleaseRequest{}, ErrReasonRequired},
		{id, ReleaseRequest{Reason: " \t\x00"}, ErrReasonRequired},
		{id, ReleaseRequest{Reason: "x", Recipients: []string{"eve@ours.example"}}, ErrNoRecipient},
		{uuid.New(), ReleaseRequest{Reason: "x"}, ErrNotFound},
	} {
		if _, err := f.Release(ctx, f.users[0], nil, tt.id, tt.req); !errors.Is(err, tt.want) {
			t.Errorf("%+v: %v, want %v", tt.req, err, tt.want)
		}
	}
	if n := f.count(t, "SELECT count(*) FROM release"); n != 0 {
		t.Errorf("%d releases", n)
	}
}

func TestRelease_NeedsTwoPeople(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Required)
	ctx := context.Background()
	id := f.hold(t, "x", "bob@ours.example")
	it, err := f.Release(ctx, f.users[0], nil, id, ReleaseRequest{Reason: "please"})
	if err != nil || it.State != ReleaseRequested || f.count(t, "SELECT count(*) FROM delivery") != 0 {
		t.Fatalf("%s, %v", it.State, err)
	}
	puppet := f.newUser(t, "puppet@ours.example", f.users[0].UserID.String())
	for name, who := range map[string]pg.Actor{"the same person": f.users[0], "an account that they have made": puppet, "nobody": pg.System("x", "y")} {
		if _, err := f.Approve(ctx, who, nil, id, ""); !errors.Is(err, approval.ErrSamePerson) {
			t.Errorf("%s approves: %v", name, err)
		}
	}
	if it, err = f.Approve(ctx, f.users[1], nil, id, "fine"); err != nil || it.State != ReleaseScheduled {
		t.Fatalf("%s, %v", it.State, err)
	}
	if _, err := f.Approve(ctx, f.users[1], nil, id, "again"); !errors.Is(err, ErrState) {
		t.Errorf("a second yes: %v", err)
	}
	wantReleaseChecks(t, f, "")

	id = f.hold(t, "y", "bob@ours.example")
	if _, err := f.Release(ctx, f.users[0], nil, id, ReleaseRequest{Reason: "please"}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Deny(ctx, f.users[1], nil, id, ""); !errors.Is(err, ErrReasonRequired) {
		t.Errorf("a no without a reason: %v", err)
	}
	if it, err := f.Deny(ctx, f.users[1], nil, id, "no"); err != nil || it.State != Denied {
		t.Errorf("%s, %v", it.State, err)
	}
}

// wantReleaseChecks asks CheckRelease about every delivery. problem is "" or a
// part of the wanted error.
func wantReleaseChecks(t *testing.T, f *fixture, problem string) {
	t.Helper()
	ctx := context.Background()
	rows, err := f.db.Pool.Query(ctx, "SELECT release_id, item_id, recipient_id, recipient, blob_name FROM delivery WHERE kind = 'release'")
	if err != nil {
		t.Fatal(err)
	}
	type pair struct {
		Release, Item, Recipient uuid.UUID
		Address, Blob            string
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[pair])
	if err != nil || len(all) == 0 {
		t.Fatalf("%d deliveries, %v", len(all), err)
	}
	for _, p := range all {
		err := f.db.Act(ctx, pg.System("test", "x"), func(ctx context.Context, tx pgx.Tx) error {
			_, err := f.CheckRelease(ctx, tx, p.Release, ReleasedCopy{Item: p.Item, Recipient: p.Recipient, Address: p.Address, BlobName: p.Blob})
			return err
		})
		if problem == "" && err != nil || problem != "" && (!errors.Is(err, ErrReleaseForged) || !strings.Contains(err.Error(), problem)) {
			t.Errorf("check: %v, want %q", err, problem)
		}
	}
}

func TestCheckRelease_Forged(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ mode, sql, problem string }{
		"as it was decided":               {SingleOperator, "SELECT 1", ""},
		"another recipient":               {SingleOperator, "UPDATE release SET recipient_ids = ARRAY[gen_random_uuid()]", "does not name the recipient"},
		"an event that is not there":      {SingleOperator, "UPDATE release SET intent_event_id = gen_random_uuid()", "no event"},
		"an event of something else":      {SingleOperator, "UPDATE release SET intent_event_id = (SELECT id FROM audit.event WHERE action = 'quarantine.item.create')", "something else"},
		"another address":                 {SingleOperator, "UPDATE delivery SET recipient = 'eve@evil.example'", "address or mail"},
		"another mail":                    {SingleOperator, "UPDATE delivery SET blob_name = 'aa/' || gen_random_uuid()", "address or mail"},
		"one person where two are needed": {SingleOperator, `UPDATE setting SET value = '"required"', updated_at = now() - interval '1 hour' WHERE key = 'four_eyes'`, "second person"},
		"an intent added at psql": {SingleOperator, `WITH e AS (SELECT guard.new_id() AS new, x.bytes, x.id FROM audit.event x WHERE x.action = 'quarantine.release.execute'),
			a AS (SELECT e.new, audit.append(e.new, convert_to(replace(convert_from(e.bytes, 'UTF8'), e.id::text, e.new::text), 'UTF8')) FROM e)
			UPDATE release SET intent_event_id = a.new FROM a`, "no event"},
		"another person":              {SingleOperator, "UPDATE release SET requested_by = (SELECT id FROM user_account WHERE email = 'u1@ours.example')", "something else"},
		"the need of a second person": {SingleOperator, "UPDATE release SET mode = 'required'", "something else"},
		"approved by hand": {Required, `UPDATE release SET state = 'approved';
			INSERT INTO delivery (id, workspace_id, kind, mail_id, item_id, release_id, recipient_id, envelope_from, recipient, blob_name, give_up_at)
			SELECT gen_random_uuid(), r.workspace_id, 'release', i.mail_id, i.id, r.id, r.recipient_ids[1], '', 'bob@ours.example', i.blob_name, now() FROM release r JOIN quarantine_item i ON i.id = r.item_id`, "no second person"},
		"an approval by hand": {Required, `UPDATE release SET state = 'approved';
			INSERT INTO approval (id, workspace_id, subject_type, subject_id, requested_by, approver_id, decision, event_id)
			SELECT gen_random_uuid(), workspace_id, 'release', id, requested_by, (SELECT id FROM user_account WHERE email = 'u1@ours.example'), 'approved', intent_event_id FROM release;
			INSERT INTO delivery (id, workspace_id, kind, mail_id, item_id, release_id, recipient_id, envelope_from, recipient, blob_name, give_up_at)
			SELECT gen_random_uuid(), r.workspace_id, 'release', i.mail_id, i.id, r.id, r.recipient_ids[1], '', 'bob@ours.example', i.blob_name, now() FROM release r JOIN quarantine_item i ON i.id = r.item_id`, "no second person"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, tt.mode)
			id := f.hold(t, "x", "bob@ours.example")
			if _, err := f.Release(context.Background(), f.users[0], nil, id, ReleaseRequest{Reason: "x"}); err != nil {
				t.Fatal(err)
			}
			if _, err := f.db.Admin(t).Exec(context.Background(), tt.sql); err != nil {
				t.Fatal(err)
			}
			wantReleaseChecks(t, f, tt.problem)
		})
	}
}

func TestExpire(t *testing.T) {
	t.Parallel()
	f := newFixture(t, SingleOperator)
	ctx := context.Background()
	gone, stays := f.hold(t, "old", "bob@ours.example"), f.hold(t, "on its way", "bob@ours.example")
	if _, err := f.Release(ctx, f.users[0], nil, stays, ReleaseRequest{Reason: "x"}); err != nil {
		t.Fatal(err)
	}
	f.now = func() time.Time { return time.Now().Add(31 * 24 * time.Hour) }
	if n, err := f.Expire(ctx); err != nil || n != 1 {
		t.Errorf("%d expired, %v; want 1", n, err)
	}
	it, err := f.Get(ctx, gone)
	if err != nil || it.State != Expired {
		t.Errorf("%s, %v", it.State, err)
	}
	if _, err := f.Raw(ctx, it); !errors.Is(err, ErrGone) {
		t.Errorf("bytes of an expired item: %v", err)
	}
	if _, err := f.Release(ctx, f.users[0], nil, gone, ReleaseRequest{Reason: "x"}); !errors.Is(err, ErrGone) {
		t.Errorf("release of an expired item: %v", err)
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	f := newFixture(t, SingleOperator)
	ctx := context.Background()
	for i := range 23 {
		f.hold(t, fmt.Sprint("mail ", i), fmt.Sprintf("u%d@ours.example", i%3))
	}
	seen := map[uuid.UUID]bool{}
	flt := Filter{Workspaces: []uuid.UUID{policy.DefaultWorkspace}, Limit: 10}
	for {
		p, err := f.List(ctx, flt)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range p.Items {
			if seen[i.ID] || len(i.Recipients) != 1 {
				t.Errorf("item %s twice, or without its recipient", i.ID)
			}
			seen[i.ID] = true
		}
		if flt.Cursor = p.Next; p.Next == "" {
			break
		}
	}
	if len(seen) != 23 {
		t.Errorf("%d items, want 23", len(seen))
	}
	for name, tt := range map[string]struct {
		f    Filter
		want int
	}{
		"recipient":          {Filter{Query: "U1@ours"}, 8},
		"wildcards are text": {Filter{Query: "u%@ours"}, 0},
		"class":              {Filter{Classes: []policy.Class{policy.Spam}}, 0},
		"state":              {Filter{States: []State{Quarantined}}, 23},
		"domain":             {Filter{Domain: "ours.example"}, 23},
		"part of a domain":   {Filter{Domain: "example"}, 0},
		"from the future":    {Filter{From: time.Now().Add(time.Hour)}, 0},
	} {
		tt.f.Workspaces, tt.f.Limit = flt.Workspaces, 100
		p, err := f.List(ctx, tt.f)
		if err != nil || len(p.Items) != tt.want {
			t.Errorf("%s: %d items, %v; want %d", name, len(p.Items), err, tt.want)
		}
		if c, err := f.Count(ctx, tt.f); err != nil || c.Total != tt.want {
			t.Errorf("%s: count %d, %v; want %d", name, c.Total, err, tt.want)
		}
	}
	if p, err := f.List(ctx, Filter{}); err != nil || len(p.Items) != 0 {
		t.Errorf("without a workspace: %d items, %v", len(p.Items), err)
	}
	if _, err := f.List(ctx, Filter{Cursor: "nonsense"}); !errors.Is(err, ErrBadCursor) {
		t.Errorf("bad cursor: %v", err)
	}
}

func TestQueries_Prepare(t *testing.T) {
	t.Parallel()
	testenv.PrepareQueries(t, queryFiles)
}

// TestHold_RecordQuotesNoMail: what a sign says of a mail can be an address or a name,
// which must not stand in bytes that cannot be erased.
func TestHold_RecordQuotesNoMail(t *testing.T) {
	t.Parallel()
	f := newFixture(t, SingleOperator)
	h := f.request(t, "bad things", "bob@ours.example")
	h.Report.Findings = []policy.Finding{{Engine: "phishing", Name: "REPLY_TO_OTHER", Class: policy.Malware, Reason: "answers go elsewhere: erika@elsewhere.example"}}
	h.Reasons = []string{h.Report.Findings[0].Reason}
	if _, err := f.Hold(context.Background(), h); err != nil {
		t.Fatal(err)
	}
	var bytes string
	if err := f.db.Admin(t).QueryRow(context.Background(), "SELECT convert_from(bytes, 'UTF8') FROM audit.event WHERE action = $1", audit.ItemCreate).Scan(&bytes); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(bytes, "erika") || strings.Contains(bytes, "bob@") || !strings.Contains(bytes, "phishing: REPLY_TO_OTHER") {
		t.Errorf("on record: %s", bytes)
	}
}
