package audit

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
	"mailward/internal/testenv"
)

// asSuperuser runs sql on a connection of its own, whose counters the server has
// taken over when it is closed.
func asSuperuser(t *testing.T, db *testenv.DB, sql string) error {
	t.Helper()
	ctx := context.Background()
	c, err := pgx.Connect(ctx, db.AdminURL)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	_, err = c.Exec(ctx, sql)
	return err
}

// TestReplica_EnableIsNotEnough: a trigger that is on, but not always, does not
// fire in replica mode. Ours are always on; one that is made less is found.
func TestReplica_EnableIsNotEnough(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	if err := l.Record(ctx, Event{Action: Login, Actor: pg.System("x", "y")}); err != nil {
		t.Fatal(err)
	}
	const lie = "SET session_replication_role = replica; UPDATE audit.event SET outcome = 'failure'"
	if err := asSuperuser(t, db, lie); err == nil || !strings.Contains(err.Error(), "append-only") {
		t.Fatalf("in replica mode with triggers that are always on: %v", err)
	}
	if err := asSuperuser(t, db, `ALTER EVENT TRIGGER mailward_ddl DISABLE; DO $$ DECLARE r record; BEGIN
		FOR r IN SELECT tgrelid::regclass t, tgname FROM pg_trigger WHERE tgrelid::regclass::text LIKE 'audit.event%' AND NOT tgisinternal AND tgname LIKE 'mailward_no%'
		LOOP EXECUTE format('ALTER TABLE %s ENABLE TRIGGER %I', r.t, r.tgname); END LOOP; END $$`); err != nil {
		t.Fatal(err)
	}
	if err := asSuperuser(t, db, lie); err != nil {
		t.Fatalf("ENABLE alone refuses in replica mode, so ALWAYS would not be needed: %v", err)
	}
	found, err := l.Findings(ctx)
	if text := strings.Join(found, "\n"); err != nil || !strings.Contains(text, "trigger mailward_no_change on audit.event_sec_400d is missing or not always on") {
		t.Errorf("findings %q, %v", text, err)
	}
}

// TestCounters_TellOfAMoment: who takes the guards down, changes rows and puts all
// back as it was has moved the server's counters.
func TestCounters_TellOfAMoment(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	if err := l.Record(ctx, Event{Action: Login, Actor: pg.System("x", "y")}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Sequence(ctx); err != nil {
		t.Fatal(err)
	}
	if f, err := l.Findings(ctx); err != nil || len(f) > 0 {
		t.Fatalf("before: %v, %v", f, err)
	}
	all := func(do string) string {
		return `DO $$ DECLARE r record; BEGIN FOR r IN SELECT tgrelid::regclass t, tgname FROM pg_trigger WHERE NOT tgisinternal
			AND (tgrelid::regclass::text LIKE 'audit.event%' OR tgrelid = 'audit.leaf'::regclass) LOOP EXECUTE format('ALTER TABLE %s ` + do + ` TRIGGER %I', r.t, r.tgname); END LOOP; END $$; `
	}
	if err := asSuperuser(t, db, "ALTER EVENT TRIGGER mailward_ddl DISABLE; "+all("DISABLE")+
		"UPDATE audit.event SET outcome = 'failure' WHERE action = 'auth.login'; UPDATE audit.event SET outcome = 'success' WHERE action = 'auth.login'; DELETE FROM audit.leaf WHERE seq = 0; "+
		all("ENABLE ALWAYS")+"ALTER EVENT TRIGGER mailward_ddl ENABLE ALWAYS"); err != nil {
		t.Fatal(err)
	}
	l = newLog(db) // it keeps its answer for some seconds
	found, err := l.Findings(ctx)
	text := strings.Join(found, "\n")
	if err != nil || !strings.Contains(text, "2 changed and 0 deleted rows in audit.event_sec_400d_") || !strings.Contains(text, "0 changed and 1 deleted rows in audit.leaf,") || strings.Contains(text, "trigger ") {
		t.Errorf("findings %q, %v", text, err)
	}
}

// TestTrace_OutlivesTheRollback: the row of the trace comes over a connection of
// its own, and the line in the server's log needs no transaction at all.
func TestTrace_OutlivesTheRollback(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	ctx := context.Background()
	const mark = "/* the one that is rolled back */"
	if err := asSuperuser(t, db, "BEGIN; DELETE FROM audit.event "+mark+"; ROLLBACK"); err == nil {
		t.Error("it went through")
	}
	var n int
	if err := db.Admin(t).QueryRow(ctx, "SELECT count(*) FROM audit.tamper_attempt WHERE position($1 IN query) > 0", mark).Scan(&n); err != nil || n != 1 {
		t.Errorf("%d traces, %v", n, err)
	}
	cfg, err := pgx.ParseConfig(db.AdminURL)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(filepath.Dir(cfg.Host), "log", "postgres.log")
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// The server writes the statement below the line, in the same message.
		_, after, ok := strings.Cut(string(b), mark)
		if ok && strings.Contains(string(b), "mailward-tamper operation=DELETE object=audit.event session_role=postgres") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no line in the server's log (%d bytes of it after the statement)", len(after))
		}
	}
}
