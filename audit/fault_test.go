package audit

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
	"mailward/internal/testenv"
)

func prepared(t *testing.T, l *Log, ev Event) pending {
	t.Helper()
	p, err := l.prepare(context.Background(), ev)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func number(t *testing.T, l *Log, action string) int {
	t.Helper()
	p, err := l.List(context.Background(), Filter{Action: action, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return len(p.Items)
}

// TestFlush_FailedButStored is the fault that a broken connection hides: the
// batch was written, and is sent again.
func TestFlush_FailedButStored(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	batch := []pending{prepared(t, l, Event{Action: APICall}), prepared(t, l, Event{Action: APICall, Targets: []Target{{Type: "x", ID: "1", PII: "bob@ours.example"}}})}
	for range 3 {
		if left := l.flush(ctx, batch); len(left) != 0 {
			t.Fatalf("%d events left", len(left))
		}
	}
	if n := number(t, l, APICall); n != 2 {
		t.Errorf("%d events, want 2", n)
	}
	// One bad event takes no other with it.
	bad := prepared(t, l, Event{Action: APICall, Retention: "for-ever"})
	good := prepared(t, l, Event{Action: APICall})
	if left := l.flush(ctx, []pending{bad, good}); len(left) != 0 {
		t.Errorf("%d events left", len(left))
	}
	if n := number(t, l, APICall); n != 3 {
		t.Errorf("%d events, want 3", n)
	}
	// One that waited for an hour is written with its old time and a new id.
	old := prepared(t, l, Event{Action: Logout, Time: time.Now().Add(-time.Hour), ID: oldID(t)})
	if left := l.flush(ctx, []pending{old}); len(left) != 0 {
		t.Errorf("%d events left", len(left))
	}
	p, err := l.List(ctx, Filter{Action: Logout})
	if err != nil || len(p.Items) != 1 || p.Items[0].ID == old.enc.id || at(p.Items[0].Fields(), "time") != old.ev.Time.UTC().Format("2006-01-02T15:04:05.000000Z") {
		t.Errorf("the late event: %+v, %v", p.Items, err)
	}
}

// oldID is a UUIDv7 of an hour ago.
func oldID(t *testing.T) uuid.UUID {
	t.Helper()
	id := uuid.Must(uuid.NewV7())
	ms := time.Now().Add(-time.Hour).UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	return id
}

func TestFlush_DatabaseAway(t *testing.T) {
	t.Parallel()
	gone, err := pg.Open(context.Background(), "postgres://x@127.0.0.1:1/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close()
	l := New(gone, Options{})
	batch := []pending{prepared(t, l, Event{Action: APICall})}
	if left := l.flush(context.Background(), batch); len(left) != 1 || left[0].enc.id != batch[0].enc.id {
		t.Errorf("left %v, want the batch", left)
	}
	if err := l.Record(context.Background(), Event{Action: Login}); err == nil {
		t.Error("an act went through unrecorded")
	}
}

func TestRecord_AfterTheServerCutsConnections(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	for range 5 {
		if err := l.Record(ctx, Event{Action: Login}); err != nil {
			t.Fatal(err)
		}
		_, err := db.Admin(t).Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'mailward_app'")
		if err != nil {
			t.Fatal(err)
		}
	}
	db.Pool.Reset() // reads do not try again
	if n := number(t, l, Login); n != 5 {
		t.Errorf("%d events, want 5", n)
	}
}

func TestAppend_RefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	app := func(e encoded) error { return l.record(ctx, pg.System("x", "y"), []encoded{e}) }
	ok := prepared(t, l, Event{Action: Login, Targets: []Target{{Type: "x", ID: "1", PII: "bob@ours.example"}}}).enc
	change := func(f func(*encoded)) encoded {
		e := ok
		e.id = uuid.Must(uuid.NewV7())
		e.bytes = bytes.ReplaceAll(ok.bytes, []byte(ok.id.String()), []byte(e.id.String()))
		f(&e)
		return e
	}
	for name, e := range map[string]encoded{
		"another value than committed to": change(func(e *encoded) { e.pii = strings.Replace(e.pii, "bob", "eve", 1) }),
		"a value at another place":        change(func(e *encoded) { e.pii = strings.Replace(e.pii, "targets.0.value", "actor.email", 1) }),
		"an id that is not in the bytes":  change(func(e *encoded) { e.id = uuid.Must(uuid.NewV7()) }),
		"a random id":                     {id: uuid.New(), bytes: ok.bytes, pii: ok.pii},
		"no action": change(func(e *encoded) {
			e.bytes = bytes.Replace(e.bytes, []byte(`"action":"auth.login"`), []byte(`"action":""`), 1)
		}),
		"not JSON": change(func(e *encoded) { e.bytes = []byte("x") }),
	} {
		if err := app(e); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := app(ok); err != nil {
		t.Fatal(err)
	}
	// The same id in another class would stop the sequencer.
	twin := ok
	twin.bytes = bytes.Replace(ok.bytes, []byte(Retention400Days), []byte(Retention3Years), 1)
	if err := app(twin); err == nil {
		t.Error("the same id in another class was taken")
	}
}

// TestSequence_KilledLeader kills the one who numbers, in the middle.
func TestSequence_KilledLeader(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	for range 20 {
		if err := l.Record(ctx, Event{Action: APICall}); err != nil {
			t.Fatal(err)
		}
	}
	leader, err := pgx.Connect(ctx, db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer leader.Close(ctx)
	if _, err := leader.Exec(ctx, "BEGIN; SELECT audit.sequence(5)"); err != nil {
		t.Fatal(err)
	}
	if n, err := l.Sequence(ctx); err != nil || n != -1 {
		t.Errorf("beside a leader: %d, %v", n, err)
	}
	if _, err := db.Admin(t).Exec(ctx, "SELECT pg_terminate_backend($1)", leader.PgConn().PID()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); ; {
		n, err := l.Sequence(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if n >= 20 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody took over")
		}
	}
	if res, err := l.Verify(ctx); err != nil || res.Problem != "" || res.Events < 20 {
		t.Errorf("%+v, %v", res, err)
	}
}

// brokenWriter fails at its second line.
type brokenWriter struct {
	bytes.Buffer
	left int
}

func (w *brokenWriter) Write(b []byte) (int, error) {
	if w.left--; w.left < 0 {
		return 0, errors.New("broken")
	}
	return w.Buffer.Write(b)
}

func TestStream_LosesNothingWhenTheWriterFails(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	for range 5 {
		if err := l.Record(ctx, Event{Action: Login}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Sequence(ctx); err != nil {
		t.Fatal(err)
	}
	w := &brokenWriter{left: 2}
	if _, err := l.sinkBatch(ctx, Writer{w}); err == nil {
		t.Fatal("the failure of the writer is not seen")
	}
	w.left = 1000
	for {
		n, err := l.sinkBatch(ctx, Writer{w})
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
	}
	if n := strings.Count(w.String(), `"action":"auth.login"`); n < 5 {
		t.Errorf("%d events streamed, want at least 5", n)
	}
}

func TestRunSink_TakesOverWhenTheConnectionIsCut(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l := newLog(db)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 2)
	r := &lockedBuffer{}
	go func() { done <- l.RunSink(ctx, Writer{r}) }()
	go func() { done <- l.RunSequencer(ctx) }()
	for i := range 2 {
		if err := l.Record(ctx, Event{Action: Login}); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(15 * time.Second); strings.Count(r.String(), `"action":"auth.login"`) <= i; {
			if time.Now().After(deadline) {
				t.Fatalf("event %d is not streamed", i)
			}
			time.Sleep(20 * time.Millisecond)
		}
		_, err := db.Admin(t).Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'mailward_app'")
		if err != nil {
			t.Fatal(err)
		}
	}
	stop()
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestRunSink_RecoversAfterARestart: what failed before a restart is on record as
// mended after it, once.
func TestRunSink_RecoversAfterARestart(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	for _, step := range []struct {
		left              int // lines that are taken
		failed, recovered int
	}{{0, 1, 0}, {1000, 1, 1}, {1000, 1, 1}} {
		l := newLog(db)
		ctx, stop := context.WithCancel(context.Background())
		if err := l.Record(ctx, Event{Action: Login}); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 2)
		go func() { done <- l.RunSink(ctx, Writer{&brokenWriter{left: step.left}}) }()
		go func() { done <- l.RunSequencer(ctx) }()
		// Over when all is streamed, with the event of the stream itself; where it is broken, when that is told.
		over := func() bool {
			list, err := l.Sinks(ctx)
			s, serr := l.Status(ctx)
			if err != nil || serr != nil {
				t.Fatal(err, serr)
			}
			streamed := s.Waiting == 0 && len(list) == 1 && list[0].Waiting == 0
			return number(t, l, SinkFailed) >= step.failed && number(t, l, SinkRecovered) >= step.recovered && (step.left == 0 || streamed)
		}
		for deadline := time.Now().Add(15 * time.Second); !over(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%+v: not told", step)
			}
		}
		stop()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if f, r := number(t, l, SinkFailed), number(t, l, SinkRecovered); f != step.failed || r != step.recovered {
			t.Errorf("%d failures and %d recoveries on record, want %+v", f, r, step)
		}
	}
}

// lockedBuffer is written by one goroutine and read by another.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestRow_ShowsASwappedValue(t *testing.T) {
	t.Parallel()
	ev := Event{Action: Login, Actor: pg.Actor{Type: pg.ActorUser, Email: "bob@ours.example"}, Retention: Retention400Days,
		Before: map[string]any{"address": Personal("x@ours.example"), "n": 1}, After: map[string]any{"address": Personal("y@ours.example"), "n": 1}}
	enc, err := ev.encode(Observer{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"ours.example"} {
		if bytes.Contains(enc.bytes, []byte(s)) {
			t.Errorf("the bytes hold %s", s)
		}
	}
	r := Row{Bytes: enc.bytes, pii: map[string]personal{"actor.email": {value: "eve@ours.example", salt: make([]byte, 16)}}}
	if got := at(r.Fields(), "actor", "email"); got != Mismatch {
		t.Errorf("a swapped value shows as %q", got)
	}
	if got := at(r.Fields(), "change", "before", "address"); got != Erased {
		t.Errorf("an erased value shows as %q", got)
	}
	if got := at(r.Fields(), "change", "diff"); got != `["address"]` {
		t.Errorf("diff %s", got)
	}
}
