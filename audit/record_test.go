package audit

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
	"mailward/internal/testenv"
)

// TestRecord_TogetherAndApart: writers at once share transactions, and one whose
// event is refused takes no other with it.
func TestRecord_TogetherAndApart(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	const writers = 40
	atOnce := func(bad func(i int) bool) {
		t.Helper()
		var wg sync.WaitGroup
		start := make(chan struct{})
		errs := make([]error, writers)
		for i := range writers {
			ev := Event{Action: Login, Actor: pg.System("x", "y")}
			if bad(i) {
				ev.Retention = "for-ever" // no such class
			}
			wg.Go(func() {
				<-start
				errs[i] = l.Record(ctx, ev)
			})
		}
		close(start)
		wg.Wait()
		for i, err := range errs {
			if bad(i) != (err != nil) {
				t.Errorf("writer %d: %v", i, err)
			}
		}
	}
	atOnce(func(int) bool { return false })
	var transactions int
	if err := db.QueryRow(ctx, "SELECT count(DISTINCT xmin::text) FROM audit.event WHERE action = 'auth.login'").Scan(&transactions); err != nil || transactions >= writers {
		t.Errorf("%d transactions for %d events, %v", transactions, writers, err)
	}
	atOnce(func(i int) bool { return i%10 == 3 })
	if n, want := number(t, l, Login), 2*writers-4; n != want {
		t.Errorf("%d events, want %d", n, want)
	}
}

// TestAppend_OneIDOneClass: an id that stands in one class is refused in another,
// while it waits for its number and after it has it.
func TestAppend_OneIDOneClass(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	first := Event{ID: uuid.Must(uuid.NewV7()), Action: Login, Actor: pg.System("x", "y"), Retention: Retention400Days}
	enc := prepared(t, l, first).enc
	write := func(e encoded) error {
		return db.Act(ctx, pg.System("x", "y"), func(ctx context.Context, tx pgx.Tx) error { return l.append(ctx, tx, e) })
	}
	if err := write(enc); err != nil {
		t.Fatal(err)
	}
	other := first
	other.Retention = Retention3Years
	for _, state := range []string{"waiting", "numbered"} {
		if err := write(prepared(t, l, other).enc); !pg.IsUnique(err, "") {
			t.Errorf("%s: the id in another class: %v", state, err)
		}
		if err := write(prepared(t, l, first).enc); !pg.IsUnique(err, "") || !strings.Contains(err.Error(), "another event has the id") {
			t.Errorf("%s: the id with other bytes: %v", state, err)
		}
		if err := write(enc); err != nil {
			t.Errorf("%s: the same bytes again: %v", state, err)
		}
		if _, err := l.Sequence(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if n := number(t, l, Login); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

// TestRecord_PersonalValuesOfAnyPath: all values are taken by one statement, new and
// known subjects and paths with quotes alike; one that the event does not commit to
// is refused wherever it stands.
func TestRecord_PersonalValuesOfAnyPath(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	who := pg.Actor{Type: pg.ActorUser, UserID: uuid.New(), Email: "bob@ours.example"}
	for _, key := range []string{"address", `a"b\c`, "ä b"} {
		for _, value := range []string{"x@ours.example", "bob@ours.example", "x@ours.example"} {
			ev := Event{ID: uuid.Must(uuid.NewV7()), Action: Login, Actor: who, After: map[string]any{key: Personal(value)}}
			if err := l.Record(ctx, ev); err != nil {
				t.Fatalf("%s: %v", key, err)
			}
			r, err := l.Get(ctx, ev.ID)
			if err != nil {
				t.Fatal(err)
			}
			if got := at(r.Fields(), "change", "after", key); got != value {
				t.Errorf("%s is %q, want %q", key, got, value)
			}
		}
	}
	for i := range 2 {
		p := prepared(t, l, Event{Action: Login, Actor: who, After: map[string]any{"address": Personal("x@ours.example")}})
		p.enc.pii = strings.Replace(p.enc.pii, []string{"bob@", "x@"}[i], "eve@", 1)
		if err := l.record(ctx, who, []encoded{p.enc}); err == nil || !strings.Contains(err.Error(), "does not commit") {
			t.Errorf("a swapped value: %v", err)
		}
	}
}
