package audit

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"mailward/internal/testenv"
)

// recorded are the tables whose changes record themselves, with a change that
// somebody could make at psql. Where there is none, rows are needed that only the
// program makes; its package's tests change those.
var recorded = map[string]string{
	"workspace":    "UPDATE workspace SET name = 'Changed'",
	"setting":      "INSERT INTO setting (key, value) VALUES ('x', '1')",
	"user_account": "INSERT INTO user_account (id, email) VALUES (gen_random_uuid(), 'eve@ours.example')",
	"role_grant":   "INSERT INTO role_grant (id, user_id, role) SELECT gen_random_uuid(), id, 'auditor' FROM user_account WHERE email = 'eve@ours.example'",
	"api_token":    "INSERT INTO api_token (id, token_hash, role, owner_id) SELECT gen_random_uuid(), 'x', 'admin', id FROM user_account WHERE email = 'eve@ours.example'",
	"domain":       "INSERT INTO domain (id, workspace_id, name) SELECT gen_random_uuid(), id, 'x.example' FROM workspace",
	"policy":       `UPDATE policy SET actions = actions || '{"spam": "deliver"}' WHERE direction = 'inbound'`,
	"approval_request": `INSERT INTO approval_request (id, kind, detail, requested_by, reason, intent_event_id)
		SELECT gen_random_uuid(), 'role_grant', '{}', id, 'x', gen_random_uuid() FROM user_account WHERE email = 'eve@ours.example'`,
	"recipient_group": "INSERT INTO recipient_group (id, workspace_id, name, members) SELECT gen_random_uuid(), id, 'g', '{}' FROM workspace",
	"policy_entry":    `INSERT INTO policy_entry (id, workspace_id, kind, match, value, owner, reason) SELECT gen_random_uuid(), id, 'block', 'sender', 'x@y.example', 'o', 'r' FROM workspace`,
	"dlp_set":         "UPDATE dlp_set SET enabled = NOT enabled WHERE id = (SELECT id FROM dlp_set LIMIT 1)",
}

// TestRowsRecordThemselves_AtPsql changes each table as a superuser would: the
// event is there with both sides, and says that it was the database; TRUNCATE,
// which would leave no record, is refused.
func TestRowsRecordThemselves_AtPsql(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	conn, ctx := db.Admin(t), context.Background()
	rows, err := conn.Query(ctx, `SELECT c.relname::text, split_part(encode(g.tgargs, 'escape'), '\000', 1) FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
		WHERE g.tgname = 'mailward_record' AND c.relnamespace = 'public'::regnamespace ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	type table struct{ Name, Object string }
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[table])
	if err != nil || len(tables) < 18 {
		t.Fatalf("%d tables, %v", len(tables), err)
	}
	objects := map[string]string{}
	for _, x := range tables {
		objects[x.Name] = x.Object
		var pgErr *pgconn.PgError
		if _, err := conn.Exec(ctx, "TRUNCATE "+pgx.Identifier{x.Name}.Sanitize()+" CASCADE"); !errors.As(err, &pgErr) || pgErr.Code != "42501" {
			t.Errorf("TRUNCATE %s: %v", x.Name, err)
		}
	}
	for _, name := range []string{"workspace", "setting", "user_account", "role_grant", "api_token", "domain", "policy", "approval_request", "recipient_group", "policy_entry", "dlp_set"} {
		if objects[name] == "" {
			t.Errorf("%s does not record itself", name)
			continue
		}
		if _, err := conn.Exec(ctx, recorded[name]); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var kind, role string
		var sides bool
		err := conn.QueryRow(ctx, `SELECT e ->> 'type', e ->> 'display', hash FROM (
			SELECT convert_from(bytes, 'UTF8')::jsonb -> 'actor' AS e, convert_from(bytes, 'UTF8')::jsonb #>> '{change,after_sha256}' IS NOT NULL AS hash, convert_from(bytes, 'UTF8')::jsonb AS all
			FROM audit.event) x WHERE "all" ->> 'action' LIKE $1 || '.%' AND "all" #>> '{targets,0,type}' = $2 LIMIT 1`, objects[name], name).Scan(&kind, &role, &sides)
		if err != nil || kind != "database" || role != "postgres" || !sides {
			t.Errorf("%s: actor %q %q, both sides %v, %v", name, kind, role, sides, err)
		}
	}
}
