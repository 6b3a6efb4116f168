package audit

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
	"mailward/internal/testenv"
)

// TestTamper attacks the record in every way that SQL has, as the program, as
// the owner of the tables, and as a superuser.
func TestTamper(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	if err := l.Record(ctx, Event{Action: Login, Actor: pg.System("x", "y"), Reason: "the one to keep"}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Sequence(ctx); err != nil {
		t.Fatal(err)
	}
	admin := db.Admin(t)
	rows, err := admin.Query(ctx, `SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = 'audit' AND c.relkind IN ('r', 'p') AND (c.relname IN ('event', 'leaf', 'pii') OR c.relispartition) ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) < 10 {
		t.Fatalf("tables %v, %v", tables, err)
	}
	column := map[string]string{"audit.leaf": "retention", "audit.pii": "value"}
	for _, table := range tables {
		col := column[table]
		if col == "" {
			col = "action"
		}
		for _, q := range []string{
			"UPDATE %s SET " + col + " = 'x'", "DELETE FROM %s", "DELETE FROM %s WHERE false", "TRUNCATE %s", "BEGIN; DELETE FROM %s; ROLLBACK",
			"SET session_replication_role = replica; DELETE FROM %s", "ALTER TABLE %s DISABLE TRIGGER ALL", "ALTER TABLE %s DISABLE TRIGGER mailward_no_change",
			"DROP TRIGGER mailward_no_change ON %s", "DROP TABLE %s CASCADE", "ALTER TABLE %s RENAME TO x",
			"CREATE RULE r AS ON INSERT TO %s DO INSTEAD NOTHING", "ALTER TABLE %s ENABLE ROW LEVEL SECURITY", "GRANT DELETE ON %s TO mailward_app",
			"MERGE INTO %[1]s t USING %[1]s s ON false WHEN MATCHED THEN DELETE",
		} {
			sql := fmt.Sprintf(strings.ReplaceAll(q, "%s", "%[1]s"), table)
			for _, role := range []string{"postgres", "mailward_owner"} {
				if role == "mailward_owner" {
					if strings.Contains(sql, "session_replication_role") {
						continue // denied to the owner before it starts
					}
					sql = "SET ROLE mailward_owner; " + sql
				}
				attack(t, db, admin, sql)
			}
		}
	}
	for _, sql := range []string{
		"DROP SCHEMA audit CASCADE", "DROP SCHEMA guard CASCADE", "ALTER SCHEMA audit RENAME TO x", "DROP FUNCTION guard.refuse() CASCADE",
		"DROP FUNCTION guard.refuse_ddl() CASCADE", "DROP EXTENSION dblink CASCADE", "DROP SERVER mailward_loopback CASCADE", "DROP OWNED BY mailward_owner CASCADE",
		"CREATE OR REPLACE FUNCTION guard.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
		"ALTER TABLE policy DISABLE TRIGGER mailward_record", "DROP TRIGGER mailward_record ON policy", "TRUNCATE policy CASCADE", "TRUNCATE domain",
	} {
		attack(t, db, admin, sql)
	}
	if f, err := l.Findings(ctx); err != nil || len(f) > 0 {
		t.Errorf("guards after all attacks: %v, %v", f, err)
	}
	if res, err := l.Verify(ctx); err != nil || res.Problem != "" {
		t.Errorf("verify: %+v, %v", res, err)
	}
	if err := l.reportAttempts(ctx); err != nil {
		t.Fatal(err)
	}
	if err := l.reportAttempts(ctx); err != nil {
		t.Fatal(err)
	}
	var traces, events int
	if err := admin.QueryRow(ctx, "SELECT (SELECT count(*) FROM audit.tamper_attempt), (SELECT count(*) FROM audit.event WHERE action = 'guard.violation')").Scan(&traces, &events); err != nil {
		t.Fatal(err)
	}
	if traces != events {
		t.Errorf("%d traces became %d events", traces, events)
	}
}

// attack runs one statement on a connection of its own and wants it refused or
// without effect, and traced.
func attack(t *testing.T, db *testenv.DB, watch *pgx.Conn, sql string) {
	t.Helper()
	ctx := context.Background()
	state := func() (events, traces int) {
		if err := watch.QueryRow(ctx, `SELECT (SELECT count(*) FROM audit.event WHERE convert_from(bytes, 'UTF8') LIKE '%the one to keep%' AND action = 'auth.login'),
			(SELECT count(*) FROM audit.tamper_attempt)`).Scan(&events, &traces); err != nil {
			t.Fatalf("after %s: %v", sql, err)
		}
		return events, traces
	}
	_, before := state()
	c, err := pgx.Connect(ctx, db.AdminURL)
	if err != nil {
		t.Fatal(err)
	}
	_, execErr := c.Exec(ctx, sql)
	c.Close(ctx)
	events, after := state()
	if events != 1 {
		t.Fatalf("%s: the event is gone or changed", sql)
	}
	if after <= before {
		t.Errorf("%s: no trace (%v)", sql, execErr)
	}
}

func TestProgramMayNotTouchTheRecord(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	ctx := context.Background()
	for _, sql := range []string{
		"INSERT INTO audit.leaf VALUES (0, gen_random_uuid(), 'x', sha256(''))", "UPDATE audit.event SET action = 'x'", "DELETE FROM audit.pii",
		"INSERT INTO audit.event SELECT * FROM audit.event", "SELECT * FROM guard.secret", "SELECT guard.keyed_hash('mask', 'x')",
		"CREATE TABLE audit.x (a int)", "SET ROLE mailward_owner", "DELETE FROM audit.unsequenced", "UPDATE mail SET subject = ''", "DELETE FROM release", "TRUNCATE policy",
	} {
		if _, err := db.Pool.Exec(ctx, sql); err == nil {
			t.Errorf("the runtime role may %s", sql)
		}
	}
	admin, err := pg.Open(ctx, db.AdminURL, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if err := admin.CheckPrivileges(ctx); err == nil {
		t.Error("a superuser passes as runtime role")
	}
}

func TestQueries_Prepare(t *testing.T) {
	t.Parallel()
	testenv.PrepareQueries(t, queryFiles)
}
