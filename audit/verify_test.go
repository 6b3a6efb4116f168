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
		"search facts":  {"UPDATE audit.event SET facts = facts || '{\"route\": \"/else\"}' WHERE action = 'auth.login'", "found under other words"},
		"search ids":    {"UPDATE audit.event SET links = links[2:] WHERE action = 'auth.login'", "found under other words"},
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

// TestVerify_ChangedBeforeItsNumber: the leaf is made from the hash that was taken when
// the event was written, so that the moment until it is numbered is no gap.
func TestVerify_ChangedBeforeItsNumber(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ do, want string }{
		"bytes": {"UPDATE audit.event SET bytes = replace(convert_from(bytes, 'UTF8'), 'auth.login', 'auth.logon')::bytea WHERE action = 'auth.login'", "was changed"},
		"gone":  {"DELETE FROM audit.event WHERE action = 'auth.login'", "is gone"},
	} {
		db := testenv.Postgres(t)
		l, ctx := newLog(db), context.Background()
		if err := l.Record(ctx, Event{Action: Login, Actor: pg.System("x", "y")}); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Admin(t).Exec(ctx, `ALTER EVENT TRIGGER mailward_ddl DISABLE;
			DO $$ DECLARE r record; BEGIN FOR r IN SELECT relid FROM pg_partition_tree('audit.event') LOOP EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER', r.relid::regclass); END LOOP; END $$; `+c.do); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Sequence(ctx); err != nil {
			t.Fatal(err)
		}
		if res, err := l.Verify(ctx); err != nil || !strings.Contains(res.Problem, c.want) {
			t.Errorf("%s: %+v, %v, want %q", name, res, err, c.want)
		}
	}
}

// TestPartitions_KeepBytesInTheRow: each month, those to come too, stores events
// as migration 0042 says.
func TestPartitions_KeepBytesInTheRow(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	var months, others int
	if err := db.Admin(t).QueryRow(context.Background(), `SELECT count(*), count(*) FILTER (WHERE c.reloptions IS DISTINCT FROM '{toast_tuple_target=8160}')
		FROM (SELECT guard.make_partitions('62 days')) made, pg_partition_tree('audit.event') p JOIN pg_class c ON c.oid = p.relid WHERE p.isleaf`).Scan(&months, &others); err != nil || months < 9 || others != 0 {
		t.Errorf("%d of %d partitions, %v", others, months, err)
	}
}
