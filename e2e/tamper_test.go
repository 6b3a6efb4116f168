package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mailward/internal/testenv"
)

// TestAuditCannotBeChanged attacks the record as a superuser at psql.
func TestAuditCannotBeChanged(t *testing.T) {
	hop := testenv.NextHop(t)
	s := startServer(t, hop.Addr, "")
	s.sendMail("mallory@sender.example", []string{"bob@ours.example"}, text("tamper", string(eicar())))
	s.api("admin").itemBySubject("tamper")
	ctx := context.Background()
	db := s.db()

	tables := []string{"audit.event"}
	rows, err := db.Query(ctx, `SELECT inhrelid::regclass::text FROM pg_inherits
		WHERE inhparent IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit.event'::regclass)`)
	if err != nil {
		t.Fatal(err)
	}
	leaves, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(leaves) == 0 {
		t.Fatalf("partitions of audit.event: %v, %v", leaves, err)
	}
	tables = append(tables, leaves...)

	for _, table := range tables {
		for name, sql := range map[string]string{
			"update":                  "UPDATE " + table + " SET recorded_at = now()",
			"delete":                  "DELETE FROM " + table,
			"delete that hits no row": "DELETE FROM " + table + " WHERE false",
			"truncate":                "TRUNCATE " + table,
			"rolled back":             "BEGIN; DELETE FROM " + table + "; ROLLBACK",
			"replica role":            "SET session_replication_role = replica; DELETE FROM " + table,
			"disable trigger":         "ALTER TABLE " + table + " DISABLE TRIGGER ALL",
		} {
			t.Run(table+": "+name, func(t *testing.T) {
				events, traces := count(t, db, "audit.event"), count(t, db, "audit.tamper_attempt")
				attacker, err := s.dbAs("postgres")
				if err != nil {
					t.Fatal(err)
				}
				_, execErr := attacker.Exec(ctx, sql)
				attacker.Close(ctx)
				if n := count(t, db, "audit.event"); n < events {
					t.Errorf("%d events before, %d after", events, n)
				}
				if n := count(t, db, "audit.tamper_attempt"); n <= traces {
					t.Errorf("no trace row was left (statement said: %v)", execErr)
				}
			})
		}
	}
	t.Run("drop trigger by the owner", func(t *testing.T) {
		var table, trigger string
		err := db.QueryRow(ctx, `SELECT tgrelid::regclass::text, quote_ident(tgname) FROM pg_trigger
			WHERE tgrelid = 'audit.event'::regclass AND NOT tgisinternal LIMIT 1`).Scan(&table, &trigger)
		if err != nil {
			t.Fatal(err)
		}
		traces := count(t, db, "audit.tamper_attempt")
		if _, err := db.Exec(ctx, fmt.Sprintf("SET ROLE mailward_owner; DROP TRIGGER %s ON %s", trigger, table)); err == nil {
			t.Error("DROP TRIGGER went through")
		}
		db.Exec(ctx, "RESET ROLE")
		if n := count(t, db, "audit.tamper_attempt"); n <= traces {
			t.Error("no trace row was left")
		}
	})
}

func TestPolicyChangeAtPsqlIsRecordedAndDelaysNobody(t *testing.T) {
	hop := testenv.NextHop(t)
	s := startServer(t, hop.Addr, "")
	a := s.api("admin")
	ctx := context.Background()
	db := s.db()
	if _, err := db.Exec(ctx, `BEGIN; UPDATE policy SET actions = actions || '{"spam": "quarantine"}'`); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if r := s.sendMail("erika@sender.example", []string{"bob@ours.example"}, text("while-open", "x")); code(r) != 250 {
		t.Errorf("with an open transaction on policy: %q", r)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("the mail took %v", d)
	}
	if r := s.sendMail("mallory@sender.example", []string{"bob@ours.example"}, text("held-while-open", string(eicar()))); code(r) != 250 {
		t.Errorf("infected mail with an open transaction on policy: %q", r)
	}
	if _, err := db.Exec(ctx, "COMMIT"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "policy.update event made in psql", func() bool {
		var page struct {
			Items []struct {
				Actor  struct{ Type string }
				Change struct{ Before, After map[string]any }
			} `json:"items"`
		}
		a.do("GET", "audit/events?action=policy.update", nil, &page)
		return len(page.Items) == 1 && page.Items[0].Actor.Type == "database" && page.Items[0].Change.Before != nil && page.Items[0].Change.After != nil
	})
}

func count(t *testing.T, db *pgx.Conn, table string) (n int) {
	t.Helper()
	if err := db.QueryRow(context.Background(), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
