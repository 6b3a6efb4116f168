package audit

import (
	"context"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
	"mailward/internal/testenv"
)

// TestVerify_NamesWhatWasChanged is a superuser who has taken the guards down
// first, which nothing in the database can prevent.
func TestVerify_NamesWhatWasChanged(t *testing.T) {
	t.Parallel()
	const disarm = `ALTER EVENT TRIGGER mailward_ddl DISABLE; ALTER EVENT TRIGGER mailward_drop DISABLE;
		DO $$ DECLARE r record; BEGIN FOR r IN SELECT c.oid::regclass AS t FROM pg_class c WHERE c.relnamespace = 'audit'::regnamespace AND c.relkind IN ('r', 'p')
			LOOP EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER', r.t); END LOOP; END $$; `
	for name, c := range map[string]struct{ do, want string }{
		"bytes":         {"UPDATE audit.event SET bytes = replace(convert_from(bytes, 'UTF8'), 'auth.login', 'auth.logon')::bytea WHERE action = 'auth.login'", "was changed"},
		"time":          {"UPDATE audit.event SET recorded_at = recorded_at - interval '1 second' WHERE action = 'auth.login'", "was changed"},
		"search column": {"UPDATE audit.event SET action = 'auth.logout' WHERE action = 'auth.login'", "found under other words"},
		"event gone":    {"DELETE FROM audit.event WHERE action = 'auth.login'", "is gone"},
		"leaf gone":     {"DELETE FROM audit.leaf l USING audit.event e WHERE e.id = l.event_id AND e.action = 'auth.login'", "is missing"},
		"both gone":     {"DELETE FROM audit.leaf l USING audit.event e WHERE e.id = l.event_id AND e.action = 'auth.login'; DELETE FROM audit.event WHERE action = 'auth.login'", "is missing"},
		"put in":        {"INSERT INTO audit.event SELECT (e).* FROM (SELECT e FROM audit.event e WHERE action = 'auth.login') x; ", "without a number"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.Postgres(t)
			l, ctx := newLog(db), context.Background()
			for _, action := range []string{Login, Logout} {
				if err := l.Record(ctx, Event{Action: action, Actor: pg.System("x", "y")}); err != nil {
					t.Fatal(err)
				}
				if _, err := l.Sequence(ctx); err != nil {
					t.Fatal(err)
				}
			}
			if res, err := l.Verify(ctx); err != nil || res.Problem != "" || res.Events < 2 {
				t.Fatalf("before: %+v, %v", res, err)
			}
			do := c.do
			if name == "put in" {
				do = strings.Replace(`INSERT INTO audit.event (id, retention, recorded_at, db_role, bytes, action, phase, outcome, actor_type)
					SELECT 'ID', retention, recorded_at, db_role, bytes, action, phase, outcome, actor_type FROM audit.event WHERE action = 'auth.login'`, "ID", uuid.Must(uuid.NewV7()).String(), 1)
			}
			if _, err := db.Admin(t).Exec(ctx, disarm+do); err != nil {
				t.Fatal(err)
			}
			if res, err := l.Verify(ctx); err != nil || !strings.Contains(res.Problem, c.want) {
				t.Errorf("%+v, %v, want %q", res, err, c.want)
			}
		})
	}
}

// BenchmarkAppend is one event in a transaction of its own, as a login is.
func BenchmarkAppend(b *testing.B) {
	db := testenv.Postgres(b)
	l, ctx := newLog(db), context.Background()
	ev := Event{Action: Login, Actor: pg.Actor{Type: pg.ActorUser, UserID: uuid.New(), Email: "bob@ours.example"}, Targets: []Target{{Type: "session", ID: "1"}}}
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			if err := l.Record(ctx, ev); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("eight at once", func(b *testing.B) {
		b.SetParallelism(4)
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				if err := l.Record(ctx, ev); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("in a batch of 100", func(b *testing.B) {
		for b.Loop() {
			err := db.Act(ctx, ev.Actor, func(ctx context.Context, tx pgx.Tx) error {
				for range 100 {
					if _, err := l.Append(ctx, tx, ev); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}
