package seal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/approval"
	"mailward/audit"
	"mailward/audit/proof"
	"mailward/internal/pg"
	"mailward/internal/testenv"
)

// oldMonth makes a month of two years ago with three events in it, as a
// superuser can who takes the guards down: nobody else can write into the past.
func oldMonth(t *testing.T, db *testenv.DB) string {
	t.Helper()
	month := time.Now().UTC().AddDate(-2, 0, 0)
	part := "event_sec_400d_" + month.Format("2006_01")
	_, err := db.Admin(t).Exec(context.Background(), strings.NewReplacer("PART", part, "MONTH", "'"+month.Format("2006-01-01")+"'::timestamptz").Replace(`
		SET timezone = 'UTC';
		SELECT audit.maintenance('test', 'a month of the past');
		SELECT guard.add_partition('audit', 'event_sec_400d', 'PART', format('FOR VALUES FROM (%L) TO (%L)', audit.uuid_at(MONTH), audit.uuid_at(MONTH + interval '1 month')));
		DO $$ DECLARE r record; BEGIN FOR r IN SELECT unnest(ARRAY['audit.event', 'audit.event_sec_400d', 'audit.PART', 'audit.unsequenced']) t LOOP EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER', r.t); END LOOP; END $$;
		INSERT INTO audit.event (id, retention, recorded_at, db_role, bytes, action, phase, outcome, actor_type)
		SELECT id, 'sec-400d', MONTH + interval '1 day', 'mailward_app', convert_to(format('{"id": "%s", "action": "auth.login", "class": {"retention": "sec-400d"}, "actor": {"id": ""}, "outcome": {"result": "success"}}', id), 'UTF8'), 'auth.login', 'result', 'success', 'system'
		FROM (SELECT (left(audit.uuid_at(MONTH + interval '1 day')::text, 14) || '7' || substr(gen_random_uuid()::text, 16))::uuid AS id FROM generate_series(1, 3)) x;
		INSERT INTO audit.unsequenced SELECT id, retention, recorded_at FROM audit.event WHERE recorded_at < now() - interval '1 year';
		DO $$ DECLARE r record; BEGIN FOR r IN SELECT t.tgrelid::regclass AS t, t.tgname FROM pg_trigger t WHERE t.tgenabled = 'D' AND NOT t.tgisinternal LOOP EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', r.t, r.tgname); END LOOP; END $$;`))
	if err != nil {
		t.Fatal(err)
	}
	return part
}

func TestPurge(t *testing.T) {
	t.Parallel()
	r, ctx := newRig(t), context.Background()
	who := pg.Operator("erika@host")
	part := oldMonth(t, r.db)
	r.act(2, audit.Logout)
	var no *audit.RefusedError
	if _, err := r.Audit.Purge(ctx, who, part, "time is over", nil); !errors.As(err, &no) || !strings.Contains(no.Reason, "not sealed") {
		t.Fatalf("deleted before it was sealed: %v", err)
	}
	r.seal()
	admin := r.db.Admin(t)
	if _, err := admin.Exec(ctx, `INSERT INTO setting (key, value) VALUES ('four_eyes', '"required"') ON CONFLICT (key) DO UPDATE SET value = excluded.value`); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Audit.Purge(ctx, who, part, "time is over", nil); !errors.As(err, &no) || !strings.Contains(no.Reason, "second person") {
		t.Fatalf("deleted by one person: %v", err)
	}
	if _, err := r.Audit.Purge(ctx, who, "event_sec_400d_"+time.Now().UTC().Format("2006_01"), "x", nil); !errors.As(err, &no) || !strings.Contains(no.Reason, "no month whose time is over") {
		t.Fatalf("a month of today: %v", err)
	}
	list, err := r.Audit.Purgeable(ctx)
	if err != nil || len(list) != 1 || list[0].Partition != part || list[0].WhyNot != "" {
		t.Fatalf("%+v, %v", list, err)
	}
	if m := list[0]; m.Events != 3 || m.Values != 0 || !strings.Contains(m.LegalBasis, "2024/2690") || m.Class != "sec-400d" {
		t.Errorf("what would go: %+v", m)
	}
	subject, protocol := twoDelete(t, r, part)
	p, err := r.Audit.List(ctx, audit.Filter{Action: audit.Login})
	if err != nil || len(p.Items) != 0 {
		t.Errorf("%d events left, %v", len(p.Items), err)
	}
	ev, err := r.Audit.Get(ctx, protocol)
	if err != nil || !strings.Contains(string(ev.Bytes), `"events": 3`) || !strings.Contains(string(ev.Bytes), subject.String()) {
		t.Errorf("protocol %s, %v", ev.Bytes, err)
	}
	r.act(0, "")
	if res, err := r.Audit.Verify(ctx); err != nil || res.Problem != "" {
		t.Errorf("%+v, %v", res, err)
	}
	if f, err := r.Audit.Findings(ctx); err != nil || len(f) > 0 {
		t.Errorf("guards: %v, %v", f, err)
	}
	rep := r.verify(r.bundle(Part{}), proof.Options{})
	if rep.Problem != "" || rep.Purged != 3 {
		t.Errorf("%+v", rep)
	}
	// A deletion of many events has several lines: only the signature over the files does not fit.
	apart := rewrite(t, r.bundle(Part{}), func(name string, b []byte) []byte {
		var p proof.BundlePurge
		if name != proof.FilePurged {
			return b
		}
		if err := json.Unmarshal(b, &p); err != nil || p.Number == nil || len(p.Seqs) != 3 {
			t.Fatalf("%s, %v", b, err)
		}
		b = nil
		for _, one := range inLines([]proof.BundlePurge{p}, 2) {
			line, err := json.Marshal(one)
			if err != nil {
				t.Fatal(err)
			}
			b = append(append(b, line...), '\n')
		}
		if n := bytes.Count(b, []byte("\n")); n != 2 {
			t.Fatalf("%d lines", n)
		}
		return b
	})
	if rep := r.verify(apart, proof.Options{}); rep.Purged != 3 || !strings.Contains(rep.Problem, "beside its events") {
		t.Errorf("in several lines: %+v", rep)
	}
	// A protocol does not cover others than those that it is about.
	broken := rewrite(t, r.bundle(Part{}), func(name string, b []byte) []byte {
		if name == proof.FilePurged {
			return bytes.Replace(b, []byte(`"seqs":[`), fmt.Appendf(nil, `"seqs":[%d,`, 5), 1)
		}
		return b
	})
	if rep := r.verify(broken, proof.Options{}); !strings.Contains(rep.Problem, "is not about the events") {
		t.Errorf("%+v", rep)
	}
}

// twoDelete has one person ask for the deletion of a month and another agree. It
// returns the request and the protocol.
func twoDelete(t *testing.T, r *rig, part string) (request, protocol uuid.UUID) {
	t.Helper()
	ctx, asks := context.Background(), approval.New(r.db.DB, r.Audit, nil)
	var people [2]pg.Actor
	for i := range people {
		people[i] = pg.Actor{Type: pg.ActorUser, UserID: uuid.Must(uuid.NewV7())}
		if _, err := r.db.Admin(t).Exec(ctx, "INSERT INTO user_account (id, email, name, password_hash) VALUES ($1, $2, 'A', 'x')", people[i].UserID, people[i].UserID.String()+"@ours.example"); err != nil {
			t.Fatal(err)
		}
	}
	waiting, err := asks.ChangeRetention(ctx, people[0], nil, approval.RetentionChange{Partition: part}, "time is over")
	if err != nil || !waiting {
		t.Fatalf("asked: %v, %v", waiting, err)
	}
	page, err := asks.List(ctx, approval.Filter{Installation: true, Kind: approval.Retention})
	if err != nil || len(page.Items) != 1 {
		t.Fatalf("%+v, %v", page, err)
	}
	request = page.Items[0].ID
	if err := asks.DecideRetention(ctx, people[0], nil, request, true, "me too"); !errors.Is(err, approval.ErrSamePerson) {
		t.Fatalf("one person alone: %v", err)
	}
	if err := asks.DecideRetention(ctx, people[1], nil, request, true, "the law says so"); err != nil {
		t.Fatal(err)
	}
	done, err := r.Audit.List(ctx, audit.Filter{Action: "audit.partition.purged"})
	if err != nil || len(done.Items) != 1 {
		t.Fatalf("%d protocols, %v", len(done.Items), err)
	}
	return request, done.Items[0].ID
}

// TestPurge_WhatNeedsTheMonth: a month stays while somebody needs it, and while it is
// not known why it is not whole.
func TestPurge_WhatNeedsTheMonth(t *testing.T) {
	t.Parallel()
	r, ctx := newRig(t), context.Background()
	part, item := oldMonth(t, r.db), uuid.Must(uuid.NewV7())
	r.act(1, audit.Logout)
	r.seal()
	admin := r.db.Admin(t)
	do := func(sql string, args ...any) {
		t.Helper()
		if _, err := admin.Exec(ctx, sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	want := func(why string) {
		t.Helper()
		list, err := r.Audit.Purgeable(ctx)
		if err != nil || len(list) != 1 || list[0].WhyNot != why {
			t.Errorf("%+v, %v, want %q", list, err, why)
		}
		var no *audit.RefusedError
		if _, err := r.Audit.Purge(ctx, pg.Operator("x"), part, "time is over", nil); why != "" && (!errors.As(err, &no) || !strings.Contains(no.Reason, why)) {
			t.Errorf("deleted: %v, want %q", err, why)
		}
	}
	r.attack(fmt.Sprintf("UPDATE audit.%s SET target_ids = ARRAY['%s']", part, item))
	do("SET session_replication_role = replica") // references to what is not the matter here
	do(`INSERT INTO quarantine_item (id, workspace_id, mail_id, class, received_at, expires_at, envelope_from, size, sha256, blob_name, legal_hold_at)
		VALUES ($1, '00000000-0000-7000-8000-000000000001', $1, 'malware', now(), now(), '', 1, sha256(''), '', now())`, item)
	want("a legal hold is on a mail that events of it are about")
	do("UPDATE quarantine_item SET legal_hold_at = NULL")
	do(`INSERT INTO evidence_export (id, workspace_id, case_id, item_ids, language, reason, detail, mode, requested_name, intent_event_id, state)
		VALUES ($1, '00000000-0000-7000-8000-000000000001', $1, ARRAY[$1::uuid], 'en', 'x', '{}', 'single_operator', 'x', $1, 'running')`, item)
	want("an export of evidence that is not done needs events of it")
	do("UPDATE evidence_export SET state = 'failed'")
	do("INSERT INTO audit_export (id, owner_id, format) VALUES ($1, $1, 'csv')", item)
	want("an export of the audit is under way")
	do("UPDATE audit_export SET state = 'complete'")
	release, err := r.Audit.HoldMonths(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want("an export of the audit is under way")
	release()
	r.attack("INSERT INTO audit.anchor (id, origin, size, name, kind, target, ok) SELECT gen_random_uuid(), c.origin, c.size, 'tsa', 'tsa', '', false FROM audit.checkpoint c LIMIT 1")
	want("no anchor has a checkpoint of it yet")
	r.attack("UPDATE audit.anchor SET ok = true, size = (SELECT max(size) FROM audit.checkpoint)")
	r.attack(fmt.Sprintf("DELETE FROM audit.%[1]s WHERE id = (SELECT min(id::text)::uuid FROM audit.%[1]s)", part))
	want("events of it are missing or without a number")
}

// TestPurge_WhileABundleIsWritten: the bundle is of before the deletion or of after it,
// and fits both times.
func TestPurge_WhileABundleIsWritten(t *testing.T) {
	t.Parallel()
	r, ctx := newRig(t), context.Background()
	part := oldMonth(t, r.db)
	r.act(1, audit.Logout)
	r.seal()
	var refused error
	var out bytes.Buffer
	once := writerFunc(func(p []byte) (int, error) {
		if out.Len() == 0 {
			_, refused = r.Audit.Purge(ctx, pg.Operator("x"), part, "time is over", nil)
		}
		return out.Write(p)
	})
	if _, err := r.WriteBundle(ctx, once, Part{}); err != nil {
		t.Fatal(err)
	}
	var no *audit.RefusedError
	if !errors.As(refused, &no) || !strings.Contains(no.Reason, "an export of the audit is under way") {
		t.Errorf("deleted under a bundle: %v", refused)
	}
	if rep := r.verify(out.Bytes(), proof.Options{}); rep.Problem != "" || rep.Purged != 0 {
		t.Errorf("%+v", rep)
	}

	// The other way round: the bundle waits for the deletion.
	tx, err := r.db.Admin(t).Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, "SELECT audit.purge_month($1, 'time is over')", part); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	out.Reset()
	go func() { _, err := r.WriteBundle(ctx, &out, Part{}); written <- err }()
	waits := false
	for deadline := time.Now().Add(15 * time.Second); !waits; time.Sleep(10 * time.Millisecond) {
		if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 16 AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))").Scan(&waits); err != nil || time.Now().After(deadline) {
			t.Fatalf("the bundle does not wait: %v", err)
		}
	}
	if _, err := r.Audit.Purge(ctx, pg.Operator("x"), part, "time is over", nil); !errors.As(err, &no) || !strings.Contains(no.Reason, "another deletion") {
		t.Errorf("two at once: %v", err)
	}
	if err := errors.Join(tx.Commit(ctx), <-written); err != nil {
		t.Fatal(err)
	}
	if rep := r.verify(out.Bytes(), proof.Options{}); rep.Problem != "" || rep.Purged != 3 {
		t.Errorf("%+v", rep)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
