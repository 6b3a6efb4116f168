package pg_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
	"mailward/internal/testenv"
	"mailward/migrations"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

var discard = slog.New(slog.DiscardHandler)

// emptyDatabase makes a database that nothing was migrated into.
func emptyDatabase(t *testing.T, owner string) (url string) {
	t.Helper()
	db := testenv.Postgres(t)
	admin := db.Admin(t)
	name := fmt.Sprintf("empty%d", time.Now().UnixNano())
	ctx := context.Background()
	if _, err := admin.Exec(ctx, "CREATE DATABASE "+name+" OWNER "+owner); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := admin.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	return db.AdminURL + " dbname=" + name
}

func TestMigrate_ByManyAtOnceAndAgain(t *testing.T) {
	url, ctx := emptyDatabase(t, "postgres"), context.Background()
	var wg sync.WaitGroup
	var mu sync.Mutex
	applied := 0
	for range 3 {
		wg.Go(func() {
			rep, err := pg.Migrate(ctx, url, pg.MigrateOptions{Version: "1"}, discard)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			applied += len(rep.Applied)
			if rep.Guard != "full" || len(rep.Findings) != 0 {
				t.Errorf("%+v", rep)
			}
		})
	}
	wg.Wait()
	if files, _ := fs.Glob(migrations.Files, "*.sql"); applied != len(files) {
		t.Errorf("%d files applied, want each once", applied)
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}

	// An open transaction does not keep the program from starting.
	exec("BEGIN; UPDATE policy SET version = version + 1")
	if _, err := pg.Migrate(ctx, url, pg.MigrateOptions{}, discard); err != nil {
		t.Errorf("beside an open transaction: %v", err)
	}
	exec("ROLLBACK")

	exec("UPDATE migration_file SET sha256 = 'x' WHERE name LIKE '0002%'")
	if _, err := pg.Migrate(ctx, url, pg.MigrateOptions{}, discard); !errors.Is(err, pg.ErrChangedMigration) || !strings.Contains(err.Error(), "0002") {
		t.Errorf("a changed file: %v", err)
	}
	exec("DELETE FROM migration_file WHERE name LIKE '0002%'; INSERT INTO migration_file (name, sha256) VALUES ('9999_later.sql', 'x')")
	if _, err := pg.Migrate(ctx, url, pg.MigrateOptions{}, discard); !errors.Is(err, pg.ErrNewerSchema) {
		t.Errorf("a newer database: %v", err)
	}
	exec("DELETE FROM migration_file WHERE name LIKE '9999%'")

	// What the self-check complains about stays so until somebody accepts it.
	exec("ALTER EVENT TRIGGER mailward_rewrite DISABLE")
	rep, err := pg.Migrate(ctx, url, pg.MigrateOptions{}, discard)
	if err != nil || len(rep.Findings) != 1 {
		t.Fatalf("%+v, %v", rep, err)
	}
	rep, err = pg.Migrate(ctx, url, pg.MigrateOptions{AcceptGuard: true}, discard)
	if err != nil || len(rep.Findings) != 0 {
		t.Fatalf("%+v, %v", rep, err)
	}
	var reason string
	err = conn.QueryRow(ctx, "SELECT convert_from(bytes, 'UTF8')::jsonb #>> '{reason,text}' FROM audit.event WHERE action = 'guard.maintenance' ORDER BY id DESC LIMIT 1").Scan(&reason)
	if err != nil || !strings.Contains(reason, "mailward_rewrite") {
		t.Errorf("the record of it says %q, %v", reason, err)
	}

	// A trace that lost its way is mended.
	exec("BEGIN; SELECT audit.maintenance('x', 'y'); ALTER SERVER mailward_loopback OPTIONS (SET port '1'); COMMIT")
	if rep, err := pg.Migrate(ctx, url, pg.MigrateOptions{}, discard); err != nil || len(rep.Findings) != 0 {
		t.Errorf("%+v, %v", rep, err)
	}
}

// TestMigrate_WithoutASuperuser is the outside PostgreSQL that gives us none.
func TestMigrate_WithoutASuperuser(t *testing.T) {
	ctx := context.Background()
	db := testenv.Postgres(t)
	admin := db.Admin(t)
	if _, err := admin.Exec(ctx, "CREATE ROLE limited LOGIN CREATEROLE"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := admin.Exec(ctx, "DROP ROLE limited"); err != nil {
			t.Log(err)
		}
	})
	url := emptyDatabase(t, "limited")
	rep, err := pg.Migrate(ctx, url+" options='-c role=limited'", pg.MigrateOptions{Version: "1"}, discard)
	if err != nil {
		t.Fatal(err)
	}
	if rep.Guard != "reduced" || len(rep.Findings) != 0 {
		t.Errorf("%+v", rep)
	}
	conn, err := pgx.Connect(ctx, url+" options='-c role=limited'")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	for _, sql := range []string{"DELETE FROM audit.event", "TRUNCATE audit.leaf", "UPDATE audit.event SET action = 'x'"} {
		if _, err := conn.Exec(ctx, sql); err == nil {
			t.Errorf("%s went through", sql)
		}
	}
	if _, err := conn.Exec(ctx, "UPDATE policy SET version = version + 1 WHERE direction = 'inbound'"); err != nil {
		t.Error(err)
	}
	var n int
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM audit.event WHERE action = 'policy.update'").Scan(&n); err != nil || n != 1 {
		t.Errorf("%d records, %v", n, err)
	}
}

// TestCheckPrivileges gives the runtime role too much in many ways.
func TestCheckPrivileges(t *testing.T) {
	ctx := context.Background()
	db := testenv.Postgres(t)
	if err := db.CheckPrivileges(ctx); err != nil {
		t.Fatalf("the role that migrate makes: %v", err)
	}
	admin := db.Admin(t)
	maintained := func(sql string) string { return "BEGIN; SELECT audit.maintenance('x', 'y'); " + sql + "; COMMIT" }
	for want, c := range map[string][2]string{
		"is a superuser":                {"ALTER ROLE mailward_app SUPERUSER", "ALTER ROLE mailward_app NOSUPERUSER"},
		"may create roles":              {"ALTER ROLE mailward_app CREATEROLE", "ALTER ROLE mailward_app NOCREATEROLE"},
		"is a member of mailward_owner": {"GRANT mailward_owner TO mailward_app", "REVOKE mailward_owner FROM mailward_app"},
		"is a member of mailward_guard": {"GRANT mailward_guard TO mailward_app", "REVOKE mailward_guard FROM mailward_app"},
		"is a member of postgres":       {"GRANT postgres TO mailward_app", "REVOKE postgres FROM mailward_app"},
		"has DELETE on audit.event":     {maintained("GRANT DELETE ON audit.event TO mailward_app"), maintained("REVOKE DELETE ON audit.event FROM mailward_app")},
		"has UPDATE on audit.leaf":      {maintained("GRANT UPDATE (leaf_hash) ON audit.leaf TO mailward_app"), maintained("REVOKE UPDATE (leaf_hash) ON audit.leaf FROM mailward_app")},
		"may read guard.secret":         {maintained("GRANT SELECT ON guard.secret TO mailward_app"), maintained("REVOKE SELECT ON guard.secret FROM mailward_app")},
		"may DELETE mail":               {maintained("GRANT DELETE ON mail TO mailward_app"), maintained("REVOKE DELETE ON mail FROM mailward_app")},
		"objects in schema public":      {maintained("GRANT CREATE ON SCHEMA public TO mailward_app"), maintained("REVOKE CREATE ON SCHEMA public FROM mailward_app")},
		"may create schemas":            {"GRANT CREATE ON DATABASE " + admin.Config().Database + " TO mailward_app", "REVOKE CREATE ON DATABASE " + admin.Config().Database + " FROM mailward_app"},
		"session_replication_role":      {"GRANT SET ON PARAMETER session_replication_role TO mailward_app", "REVOKE SET ON PARAMETER session_replication_role FROM mailward_app"},
	} {
		if _, err := admin.Exec(ctx, c[0]); err != nil {
			t.Fatalf("%s: %v", c[0], err)
		}
		err := db.CheckPrivileges(ctx)
		if !errors.Is(err, pg.ErrOverPrivileged) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", c[0], err, want)
		}
		if _, err := admin.Exec(ctx, c[1]); err != nil {
			t.Fatalf("%s: %v", c[1], err)
		}
	}
	if err := db.CheckPrivileges(ctx); err != nil {
		t.Errorf("in the end: %v", err)
	}
	su, err := pg.Open(ctx, db.AdminURL, discard)
	if err != nil {
		t.Fatal(err)
	}
	defer su.Close()
	if err := su.CheckPrivileges(ctx); !errors.Is(err, pg.ErrOverPrivileged) {
		t.Errorf("the superuser: %v", err)
	}
}

func TestAct_SurvivesCutConnections(t *testing.T) {
	ctx := context.Background()
	db := testenv.Postgres(t)
	admin := db.Admin(t)
	for range 3 {
		calls := 0
		err := db.Act(ctx, pg.System("test", "x"), func(ctx context.Context, tx pgx.Tx) error {
			calls++
			var claim string
			if err := tx.QueryRow(ctx, "SELECT current_setting('mailward.claim')").Scan(&claim); err != nil {
				return err
			}
			if !strings.Contains(claim, `"job":"test"`) {
				t.Errorf("claim %s", claim)
			}
			return nil
		})
		if err != nil || calls != 1 {
			t.Errorf("%d calls, %v", calls, err)
		}
		if _, err := admin.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'mailward_app'"); err != nil {
			t.Fatal(err)
		}
	}
	// What fails inside is not tried again.
	calls := 0
	err := db.Act(ctx, pg.System("test", "x"), func(ctx context.Context, tx pgx.Tx) error {
		calls++
		_, err := admin.Exec(ctx, "SELECT pg_terminate_backend($1)", tx.Conn().PgConn().PID())
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "SELECT 1")
		return err
	})
	if err == nil || calls != 1 || !pg.IsUnavailable(err) {
		t.Errorf("%d calls, unavailable %v, %v", calls, pg.IsUnavailable(err), err)
	}
	// The claim is gone with its transaction.
	db.Pool.Reset()
	var left string
	if err := db.Pool.QueryRow(ctx, "SELECT coalesce(current_setting('mailward.claim', true), '')").Scan(&left); err != nil || left != "" {
		t.Errorf("claim %q outside of a transaction, %v", left, err)
	}
}
