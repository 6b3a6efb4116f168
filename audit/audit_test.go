package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
	"mailward/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func newLog(db *testenv.DB) *Log {
	return New(db.DB, Options{Observer: Observer{Node: "test", Version: "1"}})
}

func TestRecord_PersonalValuesAreNotInTheBytes(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	ctx = pg.WithRequest(ctx, pg.Request{Method: "POST", Path: "/login", SourceIP: netip.MustParseAddr("192.0.2.7")})
	err := l.Record(ctx, Event{Action: Login, Actor: pg.Actor{Type: pg.ActorUser, UserID: uuid.New(), Email: "Erika@ours.example", AuthMethod: "password"},
		Targets: []Target{{Type: "mailbox", ID: "1", PII: "bob@ours.example"}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, actor := range []string{"erika@ours.example", "user"} {
		p, err := l.List(ctx, Filter{Actor: actor})
		if err != nil || len(p.Items) != 1 {
			t.Fatalf("list by actor %s: %d events, %v", actor, len(p.Items), err)
		}
		r := p.Items[0]
		for _, secret := range []string{"ours.example", "192.0.2.7"} {
			if bytes.Contains(bytes.ToLower(r.Bytes), []byte(secret)) {
				t.Errorf("the event's bytes hold %s", secret)
			}
		}
		m := r.Fields()
		if at(m, "actor", "email") != "Erika@ours.example" || at(m, "source", "ip") != "192.0.2.7" || !strings.Contains(targetList(m), "bob@ours.example") {
			t.Errorf("values are not resolved: %v", m)
		}
	}
}

func TestAppend_Refuses(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	old, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	old[1]-- // some hours ago
	if err := l.Record(ctx, Event{ID: old, Action: Login, Actor: pg.System("x", "y")}); err == nil {
		t.Error("an event with an old id was taken")
	}
	id := uuid.Must(uuid.NewV7())
	ev := Event{ID: id, Time: time.Now(), Action: Login, Actor: pg.System("x", "y")}
	if err := ev2(l, &ev); err != nil {
		t.Fatal(err)
	}
	enc, err := ev.encode(l.obs, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := enc.bytes
	app := func(b []byte) error {
		return db.Act(ctx, pg.System("x", "y"), func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, appendSQL, id, b, "[]")
			return err
		})
	}
	if err := app(b); err != nil {
		t.Fatal(err)
	}
	// The first try failed but was stored: the second changes nothing.
	if err := app(b); err != nil {
		t.Errorf("retry with the same bytes: %v", err)
	}
	if err := app(bytes.Replace(b, []byte(`"1"`), []byte(`"2"`), 1)); err == nil {
		t.Error("other bytes under the same id were taken")
	}
	p, err := l.List(ctx, Filter{Query: id.String()})
	if err != nil || len(p.Items) != 1 {
		t.Errorf("%d events, want 1 (%v)", len(p.Items), err)
	}
}

func ev2(l *Log, ev *Event) error { return l.complete(context.Background(), ev) }

func TestSequence_GaplessUnderManyWriters(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	const writers, each = 8, 40
	stop, done := make(chan struct{}), make(chan struct{})
	for range 2 { // two processes that both want to number
		go func() {
			for {
				select {
				case <-stop:
					done <- struct{}{}
					return
				default:
					if _, err := l.Sequence(ctx); err != nil {
						t.Error(err)
					}
				}
			}
		}()
	}
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				if err := l.Record(ctx, Event{Action: APICall, Actor: pg.System("x", "y")}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	<-done
	<-done
	for {
		if n, err := l.Sequence(ctx); err != nil || n == 0 {
			break
		}
	}
	res, err := l.Verify(ctx)
	if err != nil || res.Problem != "" || res.Events < writers*each {
		t.Errorf("verify: %+v, %v", res, err)
	}
	s, err := l.Status(ctx)
	if err != nil || s.Waiting != 0 || s.LastSeq != res.Events-1 || s.Guard != "full" {
		t.Errorf("status %+v, %v", s, err)
	}
}

func TestStream_EachEventOnceInOrder(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	var out bytes.Buffer
	for round := range 3 {
		if err := l.Record(ctx, Event{Action: Login, Actor: pg.Actor{Type: pg.ActorUser, UserID: uuid.New(), Email: "a@ours.example"}, Reason: fmt.Sprint(round)}); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Sequence(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := l.sinkBatch(ctx, Writer{&out}); err != nil {
			t.Fatal(err)
		}
	}
	want := 0.0
	logins := 0
	for line := range strings.Lines(out.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("not JSON: %q", line)
		}
		if m["seq"] != want {
			t.Errorf("seq %v, want %v", m["seq"], want)
		}
		if m["action"] == Login && at(m, "actor", "email") == "a@ours.example" {
			logins++
		}
		want++
	}
	if logins != 3 {
		t.Errorf("%d logins streamed, want 3", logins)
	}
}

func TestRecordLater_WritesAllAtTheEnd(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l := newLog(db)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.RunLater(ctx) }()
	for range 30 {
		l.RecordLater(ctx, Event{Action: APICall, Actor: pg.Actor{Type: pg.ActorUnknown}, Request: pg.Request{Method: "GET", Path: "/x", Status: 401}})
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	p, err := l.List(context.Background(), Filter{Action: "api.*"})
	if err != nil || len(p.Items) != 30 {
		t.Errorf("%d events, want 30 (%v)", len(p.Items), err)
	}
}

func TestList_PagesWithoutGapsOrDoubles(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	for range 25 {
		if err := l.Record(ctx, Event{Action: APICall, Actor: pg.System("x", "y")}); err != nil {
			t.Fatal(err)
		}
	}
	if p, err := l.List(ctx, Filter{Skip: []string{APICall}, Limit: 100}); err != nil || slices.ContainsFunc(p.Items, func(r Row) bool { return r.Fields()["action"] == APICall }) {
		t.Errorf("a list that leaves calls out has some (%v)", err)
	}
	seen := map[uuid.UUID]bool{}
	f := Filter{Action: APICall, Limit: 10}
	for pages := 1; ; pages++ {
		p, err := l.List(ctx, f)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range p.Items {
			if seen[r.ID] {
				t.Errorf("%s twice", r.ID)
			}
			seen[r.ID] = true
		}
		if f.Cursor = p.Next; p.Next == "" {
			if len(seen) != 25 || pages != 3 {
				t.Errorf("%d events on %d pages", len(seen), pages)
			}
			break
		}
	}
	if _, err := l.List(ctx, Filter{Cursor: "'; DROP TABLE"}); err == nil {
		t.Error("a bad cursor was taken")
	}
}

func TestExport_CSVHasNoFormulasAndIsCountedAndHashed(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	for _, reason := range []string{"=HYPERLINK(1)", "+1", "-1", "@x", "\tx", "two\r\nlines, \"quoted\""} {
		if err := l.Record(ctx, Event{Action: Login, Actor: pg.System("x", "y"), Reason: reason}); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	begun, err := l.BeginExport(ctx, Event{Action: AuditExport, Actor: pg.Operator("x")})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Export(ctx, begun, Selection{Filter: Filter{Action: Login}, Format: CSVPlain}, &b); err != nil {
		t.Fatal(err)
	}
	p, err := l.List(ctx, Filter{Action: AuditExport, Link: begun.ID.String(), Limit: 1})
	if err != nil || len(p.Items) != 1 {
		t.Fatal(err)
	}
	m := p.Items[0].Fields()
	if hash := sha256.Sum256(b.Bytes()); at(m, "phase") != "result" || at(m, "change", "after", "count") != "6" || at(m, "change", "after", "sha256") != hex.EncodeToString(hash[:]) ||
		at(m, "correlation", "causation_id") != begun.ID.String() || at(m, "change", "after", "first") > at(m, "change", "after", "last") {
		t.Errorf("the end of the export on record: %v", m)
	}
	recs, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(recs) != 7 {
		t.Fatalf("%d records, %v", len(recs), err)
	}
	for _, rec := range recs[1:] {
		for _, cell := range rec {
			if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
				t.Errorf("cell %q starts a formula", cell)
			}
		}
	}
}

func TestRowChanges(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	ws := uuid.MustParse("00000000-0000-7000-8000-000000000001")

	err := db.Act(pg.WithReason(ctx, "new customer"), pg.Operator("root@host"), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO domain (id, workspace_id, name) VALUES ($1, $2, 'new.example')", uuid.Must(uuid.NewV7()), ws)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	wantEvent(t, l, "domain.create", "operator", "new customer")

	admin := db.Admin(t)
	for _, q := range []string{
		`UPDATE policy SET actions = actions || '{"spam": "reject"}'`,
		// A claim from anybody but the runtime role is not believed.
		`BEGIN; SELECT set_config('mailward.claim', '{"type":"system","job":"x"}', true); UPDATE domain SET next_hop = 'evil:25'; COMMIT`,
	} {
		if _, err := admin.Exec(ctx, q); err != nil {
			t.Fatal(err)
		}
	}
	wantEvent(t, l, "policy.update", "database", "")
	wantEvent(t, l, "domain.update", "database", "")
	if _, err := admin.Exec(ctx, "TRUNCATE policy"); err == nil {
		t.Error("TRUNCATE of policy went through")
	}

	// A write around Act has no actor that could be named.
	if _, err := db.Pool.Exec(ctx, "UPDATE policy SET version = version + 1"); err != nil {
		t.Fatal(err)
	}
	wantEvent(t, l, "policy.update", "unknown", "")

	// Secrets are in no event.
	err = db.Act(ctx, pg.System("test", "x"), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO user_account (id, email, password_hash) VALUES ($1, 'u@ours.example', '$argon2id$secret')", uuid.Must(uuid.NewV7()))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	r := wantEvent(t, l, "user.create", "system", "")
	if bytes.Contains(r.Bytes, []byte("argon2id")) || bytes.Contains(r.Bytes, []byte("u@ours.example")) {
		t.Errorf("the event holds a secret or an address: %s", r.Bytes)
	}
	if at(r.Fields(), "change", "after", "email") != "u@ours.example" {
		t.Error("the address is not resolved")
	}
}

func wantEvent(t *testing.T, l *Log, action, actor, reason string) Row {
	t.Helper()
	p, err := l.List(context.Background(), Filter{Action: action, Limit: 1})
	if err != nil || len(p.Items) != 1 {
		t.Fatalf("no event %s: %v", action, err)
	}
	m := p.Items[0].Fields()
	if at(m, "actor", "type") != actor || at(m, "reason", "text") != reason {
		t.Errorf("%s by %s because %q, want %s because %q", action, at(m, "actor", "type"), at(m, "reason", "text"), actor, reason)
	}
	return p.Items[0]
}

func TestOpenTransactionDelaysNobody(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	admin := db.Admin(t)
	if _, err := admin.Exec(ctx, `BEGIN; UPDATE policy SET version = version + 1`); err != nil {
		t.Fatal(err)
	}
	ctx2, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := l.Record(ctx2, Event{Action: Login, Actor: pg.System("x", "y")}); err != nil {
		t.Errorf("append beside an open transaction: %v", err)
	}
	if _, err := l.Sequence(ctx2); err != nil {
		t.Errorf("sequencing beside an open transaction: %v", err)
	}
	admin.Exec(ctx, "ROLLBACK")
}
