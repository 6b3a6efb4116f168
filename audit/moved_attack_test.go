package audit

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
	"mailward/internal/testenv"
)

// TestGuard_RefusesWhatIsMoved is the third table of attacks: what is taken out of the
// guarded schemas, or let in from outside, and what takes the language of the guards.
func TestGuard_RefusesWhatIsMoved(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	if err := l.Record(ctx, Event{Action: Login, Actor: pg.System("x", "y")}); err != nil {
		t.Fatal(err)
	}
	admin := db.Admin(t)
	var part string
	if err := admin.QueryRow(ctx, "SELECT tableoid::regclass::text FROM audit.event WHERE action = 'auth.login'").Scan(&part); err != nil {
		t.Fatal(err)
	}
	const none = "'00000000-0000-0000-0000-000000000000'"
	for _, sql := range []string{
		// Out of the schema, where no guard is put back and none is missed.
		"ALTER TABLE " + part + " SET SCHEMA public", "ALTER TABLE audit.leaf SET SCHEMA public", "ALTER FUNCTION guard.refuse() SET SCHEMA public",
		"ALTER TABLE audit.event_incident SET SCHEMA public", "ALTER ROUTINE guard.keyed_hash(text, text) SET SCHEMA public",
		// In from outside: its rows are events, and it has no guards.
		"CREATE TABLE public.evil PARTITION OF audit.event FOR VALUES IN ('mine')",
		"CREATE TABLE public.evil PARTITION OF audit.event_incident FOR VALUES FROM (" + none + ") TO ('00000000-0000-0000-0000-000000000001')",
		"CREATE TABLE public.evil (LIKE audit.event INCLUDING ALL); ALTER TABLE audit.event ATTACH PARTITION public.evil FOR VALUES IN ('mine')",
		// The language that the guards are written in.
		"DROP EXTENSION plpgsql CASCADE", `DROP EXTENSION "plpgsql" CASCADE`, "DROP LANGUAGE plpgsql CASCADE", "ALTER EXTENSION plpgsql DROP LANGUAGE plpgsql",
		"DROP EXTENSION pgcrypto CASCADE",
		// What should stand, with the name of the function that may write it in a comment.
		"DO $$ BEGIN UPDATE guard.manifest SET detail = 'x' /* guard.seal() */; END $$",
		"DO $$ BEGIN DELETE FROM guard.manifest WHERE /* guard.seal() line 1 */ kind = 'touched'; END $$",
		// Rows by other ways than INSERT, and names that hide what is meant.
		"COPY audit.event (id, retention, recorded_at, db_role, bytes, action, phase, outcome, actor_type) FROM PROGRAM 'true'",
		"COPY " + part + " (id, retention, recorded_at, db_role, bytes, action, phase, outcome, actor_type) FROM PROGRAM 'true'",
		"TRUNCATE audit.event CASCADE", "TRUNCATE audit.origin CASCADE", "SET search_path = audit, guard; DELETE FROM event",
		"CREATE TEMP TABLE event (LIKE audit.event); SET search_path = pg_temp; DELETE FROM audit.event",
		"CREATE POLICY p ON audit.event USING (false)", "ALTER TABLE " + part + " FORCE ROW LEVEL SECURITY",
	} {
		refused(t, db, admin, sql)
	}
	if f, err := l.Findings(ctx); err != nil || len(f) > 0 {
		t.Errorf("guards after all attacks: %v, %v", f, err)
	}
}

// sealHere notes what stands in this copy of the database as what should stand.
func sealHere(t *testing.T, db *testenv.DB) {
	t.Helper()
	if err := asSuperuser(t, db, "SELECT audit.maintenance('test', 'the guards of this copy'); SELECT guard.seal()"); err != nil {
		t.Fatal(err)
	}
}

// TestGuard_FindsWhatWasChangedBack: a trigger that was off for a moment, in which a row
// was changed without a record, stands as it should, and was written by another transaction.
func TestGuard_FindsWhatWasChangedBack(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	ctx := context.Background()
	sealHere(t, db)
	if f, err := newLog(db).Findings(ctx); err != nil || len(f) > 0 {
		t.Fatalf("before: %v, %v", f, err)
	}
	if err := asSuperuser(t, db, `ALTER EVENT TRIGGER mailward_ddl DISABLE; ALTER TABLE setting DISABLE TRIGGER mailward_record;
		INSERT INTO setting (key, value) VALUES ('unseen', '1'); ALTER TABLE setting ENABLE ALWAYS TRIGGER mailward_record; ALTER EVENT TRIGGER mailward_ddl ENABLE ALWAYS`); err != nil {
		t.Fatal(err)
	}
	found, err := newLog(db).Findings(ctx)
	if err != nil || len(found) != 2 || !slices.ContainsFunc(found, func(f string) bool {
		return strings.HasPrefix(f, "trigger mailward_record on public.setting was changed since")
	}) ||
		!slices.ContainsFunc(found, func(f string) bool { return strings.HasPrefix(f, "event trigger mailward_ddl was changed since") }) {
		t.Errorf("findings %q, %v", found, err)
	}
	// Partitions come and go, and a migration says that it changed something.
	sealHere(t, db)
	if _, err := db.Pool.Exec(ctx, "SELECT guard.make_partitions('60 days')"); err != nil {
		t.Fatal(err)
	}
	if err := asSuperuser(t, db, "SELECT guard.add_partition('audit', 'event_incident', 'event_incident_2031_01', format('FOR VALUES FROM (%L) TO (%L)', audit.uuid_at('2031-01-01'), audit.uuid_at('2031-02-01')))"); err != nil {
		t.Fatal(err)
	}
	if f, err := newLog(db).Findings(ctx); err != nil || len(f) > 0 {
		t.Errorf("after: %v, %v", f, err)
	}
	// No event trigger sees who writes into the catalogue.
	for _, table := range []string{"audit.event_incident_default", "audit.event_incident_2031_01", "audit.leaf"} {
		if err := asSuperuser(t, db, strings.ReplaceAll(`SET allow_system_table_mods = on; UPDATE pg_trigger SET tgenabled = 'D' WHERE tgrelid = 'TABLE'::regclass AND tgname = 'mailward_no_change';
			UPDATE pg_trigger SET tgenabled = 'A' WHERE tgrelid = 'TABLE'::regclass AND tgname = 'mailward_no_change'`, "TABLE", table)); err != nil {
			t.Fatal(err)
		}
		if f, err := newLog(db).Findings(ctx); err != nil || !slices.ContainsFunc(f, func(f string) bool {
			return strings.HasPrefix(f, "trigger mailward_no_change on "+table+" was changed since")
		}) {
			t.Errorf("%s: %v, %v", table, f, err)
		}
	}
}

// TestAttempts_Swallowed: who takes traces as if to tell of them, and does not, is found.
func TestAttempts_Swallowed(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	if err := asSuperuser(t, db, "DELETE FROM audit.event"); err == nil {
		t.Fatal("events were deleted")
	}
	if err := l.reportAttempts(ctx); err != nil {
		t.Fatal(err)
	}
	if f, err := newLog(db).Findings(ctx); err != nil || len(f) > 0 {
		t.Fatalf("where an event tells of it: %v, %v", f, err)
	}
	if err := asSuperuser(t, db, "DELETE FROM audit.leaf"); err == nil {
		t.Fatal("leaves were deleted")
	}
	if err := asSuperuser(t, db, "SELECT * FROM audit.take_tamper_attempts(1000)"); err != nil {
		t.Fatal(err)
	}
	found, err := newLog(db).Findings(ctx)
	if err != nil || len(found) != 1 || !strings.HasPrefix(found[0], "1 traces of attempts count as told") {
		t.Errorf("findings %q, %v", found, err)
	}
}

// TestActor_WhoBecameTheProgram: a superuser who takes the program's role on has not
// logged in as it, and his words about who acts count for nothing.
func TestActor_WhoBecameTheProgram(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	const write = "INSERT INTO setting (key, value) VALUES ('k%d', '1')"
	if err := asSuperuser(t, db, `SET SESSION AUTHORIZATION mailward_app;
		SELECT set_config('mailward.claim', '{"type": "system", "job": "not me"}', true), set_config('mailward.context', '{"source_ip": "192.0.2.99", "reason": "made up"}', true); `+fmt.Sprintf(write, 1)); err != nil {
		t.Fatal(err)
	}
	err := db.Act(ctx, pg.System("really", "y"), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, fmt.Sprintf(write, 2))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := l.List(ctx, Filter{Action: "setting.create"})
	if err != nil || len(p.Items) < 2 {
		t.Fatalf("%d events, %v", len(p.Items), err)
	}
	mine, forged := p.Items[0].Fields(), p.Items[1].Fields()
	if at(mine, "actor", "type") != "system" || at(mine, "actor", "job", "name") != "really" || at(mine, "attestation", "by") != "database" {
		t.Errorf("the program: %v", mine["actor"])
	}
	if at(forged, "actor", "type") != "database" || at(forged, "actor", "display") != "postgres" || at(forged, "reason", "text") != "" || at(forged, "source", "ip") == "192.0.2.99" ||
		at(forged, "observer", "database_role") != "postgres" {
		t.Errorf("somebody who became the program: %v %v %v", forged["actor"], forged["reason"], forged["observer"])
	}
}

// TestErase_WhatIsQuoted: the bytes of an event name nobody, also where an event quotes
// what was signed or answered, or a row has a list; an erasure reaches all of these.
func TestErase_WhatIsQuoted(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	const bob = "bob@ours.example"
	who := pg.Actor{Type: pg.ActorUser, UserID: uuid.New(), Email: "erika@ours.example", Display: "Erika Mustermann"}
	if err := l.Record(ctx, Event{Action: ReleaseExecute, Actor: who, OutcomeDetail: "550 <" + bob + "> unknown", DetailNames: true, Targets: []Target{{Type: "mailbox", ID: "1", PII: bob}},
		Attestation: &Attestation{Act: `{"email": "` + bob + `"}`, Signature: []byte("s")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Admin(t).Exec(ctx, "INSERT INTO recipient_group (id, workspace_id, name, members) SELECT gen_random_uuid(), id, 'g', '{bob@ours.example,carol@ours.example}' FROM workspace LIMIT 1"); err != nil {
		t.Fatal(err)
	}
	read := func() (act, group map[string]any) {
		for action, m := range map[string]*map[string]any{ReleaseExecute: &act, "group.create": &group} {
			p, err := l.List(ctx, Filter{Action: action})
			if err != nil || len(p.Items) != 1 {
				t.Fatalf("%s: %d events, %v", action, len(p.Items), err)
			}
			for _, name := range []string{"ours.example", "Mustermann"} {
				if strings.Contains(string(p.Items[0].Bytes), name) {
					t.Errorf("%s is in the bytes: %s", name, p.Items[0].Bytes)
				}
			}
			*m = p.Items[0].Fields()
		}
		return act, group
	}
	act, group := read()
	if at(act, "actor", "display") != who.Email || at(act, "outcome", "detail") != "550 <"+bob+"> unknown" || !strings.Contains(at(act, "attestation", "act"), bob) || at(group, "change", "after", "members") != `["bob@ours.example","carol@ours.example"]` {
		t.Errorf("as it is read: %v, %v", act, group)
	}
	if n, events, err := l.CountPersonal(ctx, bob); err != nil || n != 4 || events != 2 {
		t.Errorf("%d values of %d events would go, %v", n, events, err)
	}
	if n, err := l.Erase(ctx, pg.Operator("x"), bob, "Art. 17(1)(a) GDPR", "asked for"); err != nil || n != 4 {
		t.Errorf("%d values erased, %v", n, err)
	}
	act, group = read()
	if at(act, "actor", "email") != who.Email || at(act, "outcome", "detail") != Erased || at(act, "attestation", "act") != Erased || at(group, "change", "after", "members") != `["`+Erased+`","carol@ours.example"]` {
		t.Errorf("after the erasure: %v, %v", act, group)
	}
	if n, err := l.Erase(ctx, pg.Operator("x"), who.Email, "Art. 17(1)(a) GDPR", "asked for"); err != nil || n != 1 {
		t.Errorf("%d values of who acted erased, %v", n, err)
	}
}

// TestVerify_LostValues: what guards one table goes by the call stack, and a superuser who
// knows that gets past it. The event says that somebody acted, and the check that the name is gone.
func TestVerify_LostValues(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"the value": "DO $$ BEGIN DELETE FROM audit.pii WHERE path = 'actor.email' /* audit.remove_values(bytea[],uuid[]) */; END $$",
		"its key":   "DO $$ BEGIN DELETE FROM guard.subject /* guard.forget(bytea[]) */; END $$",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.Postgres(t)
			l, ctx := newLog(db), context.Background()
			for _, who := range []string{"erika@ours.example", "bob@ours.example"} {
				if err := l.Record(ctx, Event{Action: Login, Actor: pg.Actor{Type: pg.ActorUser, UserID: uuid.New(), Email: who}}); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := l.Erase(ctx, pg.Operator("x"), "bob@ours.example", "Art. 17(1)(a) GDPR", "asked for"); err != nil {
				t.Fatal(err)
			}
			if err := l.SequenceAll(ctx); err != nil {
				t.Fatal(err)
			}
			if res, err := l.Verify(ctx); err != nil || res.Problem != "" {
				t.Fatalf("after an erasure: %+v, %v", res, err)
			}
			if err := asSuperuser(t, db, sql); err != nil {
				t.Fatal(err)
			}
			if res, err := l.Verify(ctx); err != nil || !strings.HasPrefix(res.Problem, "1 values of who acted") {
				t.Errorf("%+v, %v", res, err)
			}
		})
	}
}
