package health

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"mailward/internal/pg"
	"mailward/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// Every query file must be one that the migrated schema and the runtime role
// can run.
func TestQueries_PrepareAgainstTheSchema(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	files, err := fs.Glob(queries, "queries/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, f := range files {
		text, _ := queries.ReadFile(f)
		if _, err := conn.Prepare(t.Context(), f, string(text)); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
}

func TestRealPostgreSQL(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	r := PostgreSQL(db).Check(t.Context())
	want{Up, "", "PostgreSQL"}.check(t, "real", r)
	if r.Facts["version"] == "" || r.Facts["connections"] == "0" || r.Latency <= 0 {
		t.Errorf("%+v", r)
	}
	want{Up, "", "Nothing waits"}.check(t, "queue", DeliveryQueue(db, time.Now).Check(t.Context()))

	if _, err := db.Admin(t).Exec(t.Context(), "ALTER ROLE mailward_app IN DATABASE "+pgx.Identifier{dbName(t, db)}.Sanitize()+" SET default_transaction_read_only = on"); err != nil {
		t.Fatal(err)
	}
	readOnly, err := pg.Open(t.Context(), db.URL, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer readOnly.Close()
	want{Down, "read_only", "primary"}.check(t, "read only", PostgreSQL(readOnly).Check(t.Context()))
}

func dbName(t *testing.T, db *testenv.DB) (name string) {
	t.Helper()
	if err := db.QueryRow(t.Context(), "SELECT current_database()").Scan(&name); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestRealPostgreSQL_PoolThatIsUsedUp(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	var held []interface{ Release() }
	for range db.Config().MaxConns {
		c, err := db.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	m := New([]Component{PostgreSQL(db)}, quiet(), withLimit(200*time.Millisecond))
	began := time.Now()
	s := m.Check(t.Context()).Components[0]
	if s.State != Down || time.Since(began) > time.Second {
		t.Errorf("%s after %v: %s", s.State, time.Since(began), s.Detail)
	}
	for _, c := range held {
		c.Release()
	}
}

func TestRealRedis(t *testing.T) {
	t.Parallel()
	opt, err := redis.ParseURL(testenv.Redis(t))
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(opt)
	defer client.Close()
	r := Redis(client).Check(t.Context())
	want{Up, "", "Redis"}.check(t, "real", r)
	if r.Facts["version"] == "" || r.Facts["memory"] == "" {
		t.Errorf("facts %v", r.Facts)
	}
	gone := redis.NewClient(&redis.Options{Network: "unix", Addr: t.TempDir() + "/none.sock", MaxRetries: -1})
	defer gone.Close()
	want{Down, "unreachable", "Mail flows"}.check(t, "gone", Redis(gone).Check(t.Context()))
}

func TestDBStore_KeepsStatesAcrossRestarts(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	store := NewDBStore(db.DB)
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	clock := WithClock(func() time.Time { return now })
	start := now
	state := Up
	list := []Component{
		{Name: "a", Title: "A", Check: func(context.Context) Result { return Result{State: state} }},
		fixedState("never", Down),
	}

	first := New(list, quiet(), clock, WithStore(store))
	k := newKeeper(first)
	first.Check(t.Context())
	k.keep(t.Context())
	now, state = now.Add(10*time.Second), Down
	first.Check(t.Context())
	k.keep(t.Context())
	if saved := load(t, store)["a"]; saved.State != Down || !saved.Since.Equal(start.Add(10*time.Second)) || !saved.LastGood.Equal(start) {
		t.Fatalf("stored %+v", saved)
	}
	if saved := load(t, store)["never"]; saved.State != Down || !saved.LastGood.IsZero() {
		t.Errorf("stored %+v", saved)
	}

	now = now.Add(time.Minute) // a short restart
	second := New(list, quiet(), clock, WithStore(store))
	if err := second.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := second.Check(t.Context()).Components[0]
	if !s.Since.Equal(start.Add(10*time.Second)) || s.LastGood == nil || !s.LastGood.Equal(start) {
		t.Errorf("after a short restart: since %v, last good %v", s.Since, s.LastGood)
	}

	now = now.Add(time.Hour) // nobody looked for an hour
	third := New(list, quiet(), clock, WithStore(store))
	if err := third.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	s = third.Check(t.Context()).Components[0]
	if !s.Since.Equal(now) || s.LastGood == nil || !s.LastGood.Equal(start) {
		t.Errorf("after a long silence: since %v, last good %v", s.Since, s.LastGood)
	}

	now = now.Add(time.Second) // a restart during which the state changed
	k3 := newKeeper(third)
	k3.keep(t.Context())
	now, state = now.Add(5*time.Second), Up
	fourth := New(list, quiet(), clock, WithStore(store))
	if err := fourth.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := fourth.Check(t.Context()).Components[0]; !s.Since.Equal(now) || len(fourth.History("a").Changes) != 1 {
		t.Errorf("a change across the restart: since %v, changes %v", s.Since, fourth.History("a").Changes)
	}
}

func load(t *testing.T, s Store) map[string]Saved {
	t.Helper()
	list, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]Saved{}
	for _, v := range list {
		found[v.Component] = v
	}
	return found
}

// faultyStore fails while told to, either before it stored or after.
type faultyStore struct {
	saves        int
	failing      bool
	storedAnyway bool
	kept         map[string]Saved
}

func (f *faultyStore) Load(context.Context) ([]Saved, error) { return nil, errors.New("down") }

func (f *faultyStore) Save(_ context.Context, list []Saved) error {
	f.saves++
	if f.failing && !f.storedAnyway {
		return errors.New("down")
	}
	for _, s := range list {
		f.kept[s.Component] = s
	}
	if f.failing {
		return errors.New("lost the answer")
	}
	return nil
}

func TestKeeper_WritesOnChangeAndHeartbeatAndAfterAnOutage(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	state := Up
	var log strings.Builder
	f := &faultyStore{kept: map[string]Saved{}}
	m := New([]Component{{Name: "a", Title: "A", Check: func(context.Context) Result { return Result{State: state} }}},
		slog.New(slog.NewTextHandler(&log, nil)), WithClock(func() time.Time { return now }), WithStore(f))
	if m.Restore(t.Context()) == nil {
		t.Error("a store that cannot be read was not reported")
	}
	k := newKeeper(m)
	step := func(d time.Duration, saves int, what string) {
		t.Helper()
		now = now.Add(d)
		m.Check(t.Context())
		k.keep(t.Context())
		if f.saves != saves {
			t.Errorf("%s: %d writes, want %d", what, f.saves, saves)
		}
	}
	step(0, 1, "first")
	step(2*time.Second, 1, "unchanged")
	step(2*time.Second, 1, "unchanged")
	step(time.Minute, 2, "heartbeat")
	state = Down
	step(2*time.Second, 3, "change")
	state, f.failing = Up, true
	step(2*time.Second, 4, "change, store down")
	step(2*time.Second, 5, "tried again")
	if f.kept["a"].State != Down || strings.Count(log.String(), "store health states") != 1 {
		t.Errorf("kept %s, log %s", f.kept["a"].State, log.String())
	}
	f.storedAnyway = true
	step(2*time.Second, 6, "stored, but the answer was lost")
	f.failing = false
	step(2*time.Second, 7, "stored again, harmless")
	step(2*time.Second, 7, "unchanged")
	if f.kept["a"].State != Up {
		t.Errorf("kept %s", f.kept["a"].State)
	}
}
