package audit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"mailward/internal/pg"
	"mailward/internal/testenv"
)

// refused runs a statement on a connection of its own and wants it refused and
// traced.
func refused(t *testing.T, db *testenv.DB, watch *pgx.Conn, sql string) {
	t.Helper()
	ctx := context.Background()
	traces := func() (n int) {
		err := watch.QueryRow(ctx, "SELECT (SELECT count(*) FROM audit.tamper_attempt) + (SELECT count(*) FROM audit.tamper_spare)").Scan(&n)
		if err != nil {
			t.Fatalf("after %s: %v", sql, err)
		}
		return n
	}
	before := traces()
	c, err := pgx.Connect(ctx, db.AdminURL)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	_, err = c.Exec(ctx, sql)
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.Code != "42501" {
		t.Errorf("%s: %v, want it refused", sql, err)
	}
	if traces() <= before {
		t.Errorf("%s: no trace (%v)", sql, err)
	}
}

// TestGuard_RefusesTheWaysAround is the second table of attacks: not on the
// rows, but on what protects them, and on what is not protected by the first.
func TestGuard_RefusesTheWaysAround(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	if err := l.Record(ctx, Event{Action: Login, Actor: pg.System("x", "y"), Targets: []Target{{Type: "x", ID: "1", PII: "bob@ours.example"}}}); err != nil {
		t.Fatal(err)
	}
	admin := db.Admin(t)
	var part string
	if err := admin.QueryRow(ctx, "SELECT tableoid::regclass::text FROM audit.event WHERE action = 'auth.login'").Scan(&part); err != nil || !strings.Contains(part, "_20") {
		t.Fatalf("the event is in %q, %v", part, err)
	}
	forged := `SELECT gen_random_uuid(), 'sec-400d', now(), 'mailward_app', NULL, '{}'::bytea, NULL, 'auth.login', 'result', 'success', 'user'`
	const columns = "(id, retention, recorded_at, db_role, client_addr, bytes, workspace_id, action, phase, outcome, actor_type)"
	// A table is only truncated together with all that refer to it.
	var held string
	if err := admin.QueryRow(ctx, `WITH RECURSIVE r AS (SELECT 'quarantine_item'::regclass::oid AS t
		UNION SELECT c.conrelid FROM pg_constraint c JOIN r ON c.confrelid = r.t WHERE c.contype = 'f')
		SELECT string_agg(t::regclass::text, ', ') FROM r`).Scan(&held); err != nil || !strings.Contains(held, "release") {
		t.Fatalf("tables that refer to held mail: %q, %v", held, err)
	}
	for _, sql := range []string{
		// Events that did not come through append.
		"INSERT INTO audit.event " + columns + " " + forged,
		"INSERT INTO " + part + " " + columns + " " + forged,
		"SET session_replication_role = replica; INSERT INTO audit.event " + columns + " " + forged,
		"INSERT INTO audit.event " + columns + " SELECT " + strings.Trim(columns, "()") + " FROM audit.event ON CONFLICT (retention, id) DO UPDATE SET action = 'x'",
		"MERGE INTO audit.event t USING audit.event s ON t.id = s.id WHEN MATCHED THEN UPDATE SET action = 'x'",
		"WITH x AS (UPDATE audit.event SET action = 'x' RETURNING 1) SELECT * FROM x",
		"INSERT INTO audit.leaf VALUES (99, gen_random_uuid(), 'x', sha256(''))",
		"INSERT INTO audit.pii VALUES (gen_random_uuid(), 'x', 'y', sha256(''), '')",
		// What the sequencer and the stream stand on.
		"DELETE FROM audit.unsequenced", "UPDATE audit.unsequenced SET id = gen_random_uuid()", "TRUNCATE audit.unsequenced",
		"INSERT INTO audit.unsequenced VALUES (gen_random_uuid(), 'x', now())",
		"INSERT INTO audit.stream_cursor VALUES ('stdout', 9999)", "DELETE FROM audit.stream_cursor",
		// Traces, and the keys.
		"DELETE FROM audit.tamper_attempt", "TRUNCATE audit.tamper_attempt", "INSERT INTO audit.tamper_reported VALUES (1)", "DELETE FROM audit.tamper_reported",
		"BEGIN; LOCK TABLE audit.tamper_attempt; DELETE FROM audit.event; COMMIT",
		"UPDATE guard.secret SET key = ''", "TRUNCATE guard.secret", "UPDATE guard.maintenance SET at = now()", "DELETE FROM guard.manifest",
		// The schema.
		"ALTER TABLE audit.event DETACH PARTITION audit.event_incident", "ALTER TABLE audit.event OWNER TO postgres", "CREATE INDEX ON audit.leaf (retention)",
		"CREATE TABLE audit.x (a int)", "CREATE FUNCTION guard.x() RETURNS int LANGUAGE sql AS 'SELECT 1'", "ALTER FUNCTION audit.append OWNER TO mailward_app",
		"GRANT SELECT ON guard.secret TO mailward_app", "GRANT EXECUTE ON FUNCTION guard.keyed_hash(text, text) TO PUBLIC", "GRANT CREATE ON SCHEMA audit TO mailward_app",
		"GRANT UPDATE ON mail TO mailward_app", "ALTER DEFAULT PRIVILEGES IN SCHEMA audit GRANT DELETE ON TABLES TO mailward_app",
		"ALTER TABLE audit.event ENABLE ROW LEVEL SECURITY", "COMMENT ON TABLE audit.event IS 'x'",
		// Changes of audited rows that no row trigger sees.
		"ALTER TABLE policy ALTER COLUMN version TYPE int USING 0", "CREATE TABLE p2 () INHERITS (policy)", "CREATE TABLE p3 (LIKE policy INCLUDING ALL); ALTER TABLE p3 INHERIT policy",
		"CREATE TRIGGER a BEFORE UPDATE ON policy FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
		"CREATE RULE r AS ON UPDATE TO policy DO INSTEAD NOTHING", "ALTER TABLE policy RENAME TO p4", "ALTER TABLE policy DROP COLUMN version", "DROP TABLE policy CASCADE",
		"ALTER TRIGGER mailward_record ON policy RENAME TO x", "ALTER TABLE policy DISABLE TRIGGER USER", "TRUNCATE " + held,
		// The guard itself, also with the name hidden.
		"ALTER SERVER mailward_loopback OPTIONS (SET dbname 'postgres')", "DROP USER MAPPING FOR mailward_guard SERVER mailward_loopback", "DROP EXTENSION dblink CASCADE",
		"DO $$ BEGIN EXECUTE 'DROP FUNCTION gu' || 'ard.refuse_ddl() CASCADE'; END $$", "SET search_path = guard; DROP FUNCTION refuse_ddl() CASCADE",
		`DROP FUNCTION U&"\0067uard".refuse_ddl() CASCADE`, "DROP OWNED BY mailward_guard", "ALTER SCHEMA guard RENAME TO g", "SELECT guard.seal()",
	} {
		if sql == "SELECT guard.seal()" {
			if _, err := db.Admin(t).Exec(ctx, sql); err == nil {
				t.Error("guard.seal works outside of maintenance")
			}
			continue
		}
		refused(t, db, admin, sql)
	}
	// As the owner of the tables, too.
	for _, sql := range []string{"DELETE FROM audit.event", "TRUNCATE audit.leaf", "INSERT INTO audit.event " + columns + " " + forged, "ALTER TABLE audit.event DISABLE TRIGGER ALL", "DROP TABLE audit.pii"} {
		refused(t, db, admin, "SET ROLE mailward_owner; "+sql)
	}
	if f, err := l.Findings(ctx); err != nil || len(f) > 0 {
		t.Errorf("guards after all attacks: %v, %v", f, err)
	}
	var role string
	if err := admin.QueryRow(ctx, "SELECT current_role_name FROM audit.tamper_attempt WHERE object = 'audit.leaf' AND operation = 'TRUNCATE' ORDER BY id DESC LIMIT 1").Scan(&role); err != nil || role != "mailward_owner" {
		t.Errorf("the trace names the role %q, %v", role, err)
	}
}

// TestGuard_Finds has what cannot be refused: the self-check says so.
func TestGuard_Finds(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	ctx := context.Background()
	for name, c := range map[string]struct{ do, want string }{
		"a superuser is made":         {"CREATE ROLE mailward_test_evil SUPERUSER", "superuser mailward_test_evil is new"},
		"somebody becomes the owner":  {"GRANT mailward_owner TO mailward_app", "member mailward_app of mailward_owner is new"},
		"the event triggers go first": {"ALTER EVENT TRIGGER mailward_ddl DISABLE", "event trigger mailward_ddl is changed"},
		"a trigger is off": {"ALTER EVENT TRIGGER mailward_ddl DISABLE; ALTER TABLE audit.event_incident_default DISABLE TRIGGER mailward_no_change",
			"trigger mailward_no_change on audit.event_incident_default is missing or not always on"},
		"a function is another": {"ALTER EVENT TRIGGER mailward_ddl DISABLE; CREATE OR REPLACE FUNCTION guard.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
			"function guard.refuse() is changed"},
		"the recorded columns are fewer": {`ALTER EVENT TRIGGER mailward_ddl DISABLE; ALTER EVENT TRIGGER mailward_drop DISABLE; DROP TRIGGER mailward_record ON policy;
			CREATE TRIGGER mailward_record AFTER DELETE ON policy FOR EACH ROW EXECUTE FUNCTION guard.record_change('policy', 'id', '', '', 'sec-3y', 'D');
			ALTER TABLE policy ENABLE ALWAYS TRIGGER mailward_record`, "trigger mailward_record on public.policy is changed"},
		"a trigger swallows events": {`ALTER EVENT TRIGGER mailward_ddl DISABLE; CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
			CREATE TRIGGER swallow BEFORE INSERT ON audit.event_incident_default FOR EACH ROW EXECUTE FUNCTION swallow()`,
			"trigger swallow on audit.event_incident_default is new and not ours"},
		"a trigger of a partition is made anew with nothing to do": {`ALTER EVENT TRIGGER mailward_ddl DISABLE; ALTER EVENT TRIGGER mailward_drop DISABLE; DROP TRIGGER mailward_no_change ON audit.event_incident_default;
			CREATE TRIGGER mailward_no_change BEFORE UPDATE OR DELETE ON audit.event_incident_default FOR EACH STATEMENT WHEN (false) EXECUTE FUNCTION guard.refuse();
			ALTER TABLE audit.event_incident_default ENABLE ALWAYS TRIGGER mailward_no_change`,
			"trigger mailward_no_change on audit.event_incident_default is missing or not always on"},
		"a trigger looks at another column": {`ALTER EVENT TRIGGER mailward_ddl DISABLE; ALTER EVENT TRIGGER mailward_drop DISABLE; DROP TRIGGER mailward_no_change ON audit.leaf;
			CREATE TRIGGER mailward_no_change BEFORE UPDATE OF retention OR DELETE ON audit.leaf FOR EACH STATEMENT EXECUTE FUNCTION guard.refuse();
			ALTER TABLE audit.leaf ENABLE ALWAYS TRIGGER mailward_no_change`, "trigger mailward_no_change on audit.leaf is changed"},
		"a condition is another": {`ALTER EVENT TRIGGER mailward_ddl DISABLE; ALTER EVENT TRIGGER mailward_drop DISABLE; DROP TRIGGER mailward_record_write ON blob;
			CREATE TRIGGER mailward_record_write AFTER INSERT OR DELETE OR UPDATE ON blob FOR EACH ROW WHEN (false)
			EXECUTE FUNCTION guard.record_change('blob', 'id,name,wrapped_by,missing_at', 'wrapped_key', '', 'sec-3y', 'IUD');
			ALTER TABLE blob ENABLE ALWAYS TRIGGER mailward_record_write`, "trigger mailward_record_write on public.blob is changed"},
		"an event is gone": {`ALTER EVENT TRIGGER mailward_ddl DISABLE; ALTER TABLE audit.unsequenced DISABLE TRIGGER USER; DELETE FROM audit.unsequenced`,
			"trigger mailward_only_sequence on audit.unsequenced is changed"},
	} {
		t.Run(name, func(t *testing.T) {
			c2, err := pgx.Connect(ctx, db.AdminURL)
			if err != nil {
				t.Fatal(err)
			}
			defer c2.Close(ctx)
			if _, err := c2.Exec(ctx, "BEGIN; "+c.do); err != nil {
				t.Fatal(err)
			}
			rows, err := c2.Query(ctx, "SELECT * FROM guard.findings()")
			if err != nil {
				t.Fatal(err)
			}
			found, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil || !strings.Contains(strings.Join(found, "\n"), c.want) {
				t.Errorf("findings %q, %v, want %q", found, err, c.want)
			}
		})
	}
}

// TestMaintenance_IsOnRecord also where the function for it is passed by.
func TestMaintenance_IsOnRecord(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	admin := db.Admin(t)
	for _, sql := range []string{
		"BEGIN; SELECT audit.maintenance('0006', 'a reason'); CREATE TABLE audit.later (a int); COMMIT",
		"BEGIN; INSERT INTO guard.maintenance (xid, version, reason) VALUES (pg_current_xact_id(), 'by hand', 'none'); DROP TABLE audit.later; COMMIT",
	} {
		if _, err := admin.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	p, err := l.List(ctx, Filter{Action: "guard.maintenance"})
	if err != nil || len(p.Items) < 2 || at(p.Items[0].Fields(), "reason", "code") != "by hand" || at(p.Items[1].Fields(), "reason", "text") != "a reason" {
		t.Fatalf("%d records of maintenance, %v", len(p.Items), err)
	}
	// The next transaction is closed again.
	refused(t, db, admin, "CREATE TABLE audit.again (a int)")
	if _, err := db.Pool.Exec(ctx, "SELECT audit.maintenance('x', 'y')"); err == nil {
		t.Error("the program may open the guarded schemas")
	}
}

func TestAttempts_ReportedOnceInAnyOrder(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	admin := db.Admin(t)
	insert := "SET ROLE mailward_trace; INSERT INTO audit.tamper_attempt (operation, object, session_role, current_role_name, query) VALUES ('DELETE', 'audit.event', 'x', 'y', 'DELETE /* bob@ours.example */')"
	slow, err := pgx.Connect(ctx, db.AdminURL)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close(ctx)
	if _, err := slow.Exec(ctx, "BEGIN; "+insert); err != nil { // takes the lower id, is seen later
		t.Fatal(err)
	}
	if _, err := admin.Exec(ctx, insert+"; RESET ROLE"); err != nil {
		t.Fatal(err)
	}
	want := func(n int) {
		t.Helper()
		if err := l.reportAttempts(ctx); err != nil {
			t.Fatal(err)
		}
		p, err := l.List(ctx, Filter{Action: GuardViolation})
		if err != nil || len(p.Items) != n {
			t.Fatalf("%d events, want %d (%v)", len(p.Items), n, err)
		}
		for _, r := range p.Items {
			if strings.Contains(string(r.Bytes), "bob@ours.example") {
				t.Error("the statement's text is in the bytes")
			}
		}
	}
	want(1)
	want(1)
	if _, err := slow.Exec(ctx, "COMMIT"); err != nil {
		t.Fatal(err)
	}
	want(2)
	want(2)
}

func TestPartitions(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	admin := db.Admin(t)
	count := func() (n int) {
		if err := admin.QueryRow(ctx, "SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relkind IN ('r', 'p')").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	// Somebody holds the table: nobody may queue behind us.
	if _, err := admin.Exec(ctx, "BEGIN; LOCK TABLE mail IN ROW EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	before, start := count(), time.Now()
	_, err := db.Pool.Exec(ctx, "SELECT guard.make_partitions('50 days')")
	if !pg.IsLockTimeout(err) || time.Since(start) > 3*time.Second {
		t.Errorf("beside an open transaction: %v after %v", err, time.Since(start))
	}
	if _, err := admin.Exec(ctx, "COMMIT"); err != nil || count() != before {
		t.Errorf("%d partitions, had %d, %v", count(), before, err)
	}
	// A row in the default partition keeps only its own day from being made.
	_, err = db.Pool.Exec(ctx, `INSERT INTO mail_outcome (id, mail_id, recipient, state) VALUES (audit.uuid_at(now() + interval '40 days'), gen_random_uuid(), 'x', 'relayed')`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Pool.Exec(ctx, "SELECT guard.make_partitions('1000 years')"); err != nil {
		t.Fatal(err)
	}
	after := count()
	if after-before < 50 || after-before > 140 {
		t.Errorf("%d new partitions", after-before)
	}
	// New ones are guarded like the old ones, and the next run has nothing to do.
	if f, err := l.Findings(ctx); err != nil || len(f) > 0 {
		t.Errorf("findings %v, %v", f, err)
	}
	if err := l.makePartitions(ctx); err != nil || count() != after {
		t.Errorf("again: %d, had %d, %v", count(), after, err)
	}
	// A partition must be there for now, by the clock of UTC in any time zone.
	for _, zone := range []string{"Pacific/Kiritimati", "America/Los_Angeles"} {
		var part string
		id := uuid.Must(uuid.NewV7())
		if _, err := admin.Exec(ctx, fmt.Sprintf("SET timezone = '%s'", zone)); err != nil {
			t.Fatal(err)
		}
		err := admin.QueryRow(ctx, "INSERT INTO mail_outcome (id, mail_id, recipient, state) VALUES ($1, $1, 'x', 'relayed') RETURNING tableoid::regclass::text", id).Scan(&part)
		if want := "mail_outcome_" + time.Now().UTC().Format("2006_01_02"); err != nil || part != want {
			t.Errorf("in %s the row is in %s, want %s (%v)", zone, part, want, err)
		}
	}
}

// TestGuard_FitsInAnotherCluster: what the self-check compares names roles, and not
// their numbers, which a restore into another cluster changes.
func TestGuard_FitsInAnotherCluster(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	var named, numbered int
	err := db.Admin(t).QueryRow(context.Background(), `SELECT count(*) FILTER (WHERE i.detail LIKE '%mailward_app %'),
		count(*) FILTER (WHERE EXISTS (SELECT FROM pg_roles r WHERE r.rolname LIKE 'mailward\_%' AND i.detail ~ ('\m' || r.oid || '\M')))
		FROM guard.inventory() i WHERE i.kind IN ('schema', 'table', 'default rights')`).Scan(&named, &numbered)
	if err != nil || named < 50 || numbered != 0 {
		t.Errorf("%d things name the program's role, %d have the number of a role, %v", named, numbered, err)
	}
}
