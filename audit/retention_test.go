package audit

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"mailward/internal/pg"
	"mailward/internal/testenv"
)

// TestErase is COMPLIANCE's "erase personal data, verify still says yes".
func TestErase(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	who := pg.Actor{Type: pg.ActorUser, UserID: uuid.New(), Email: "Erika@ours.example"}
	for range 3 {
		if err := l.Record(ctx, Event{Action: Login, Actor: who, Targets: []Target{{Type: "mailbox", ID: "1", PII: "bob@ours.example"}}}); err != nil {
			t.Fatal(err)
		}
	}
	admin := db.Admin(t)
	var clear int
	if err := admin.QueryRow(ctx, "SELECT count(*) FROM audit.pii p WHERE p::text ILIKE '%erika%' OR p.value IS NOT NULL OR position('\x6f7572732e6578616d706c65'::bytea IN p.sealed) > 0").Scan(&clear); err != nil || clear != 0 {
		t.Errorf("%d values in the clear, %v", clear, err)
	}
	if _, err := l.Erase(ctx, pg.Operator("x"), "erika@ours.example", "", "asked for"); !errors.Is(err, ErrIncomplete) {
		t.Errorf("erased without a legal basis: %v", err)
	}
	n, err := l.Erase(ctx, pg.Operator("x"), "erika@ours.example", "Art. 17(1)(a) GDPR", "asked for by letter")
	if err != nil || n != 3 {
		t.Fatalf("%d values erased, %v", n, err)
	}
	if _, err := l.Sequence(ctx); err != nil {
		t.Fatal(err)
	}
	p, err := l.List(ctx, Filter{Action: Login})
	if err != nil || len(p.Items) != 3 {
		t.Fatal(err)
	}
	for _, r := range p.Items {
		if m := r.Fields(); at(m, "actor", "email") != Erased || !strings.Contains(targetList(m), "bob@ours.example") {
			t.Errorf("after the erasure: %v", m)
		}
	}
	if p, err := l.List(ctx, Filter{Actor: "erika@ours.example"}); err != nil || len(p.Items) != 0 {
		t.Errorf("%d events are found by an erased address, %v", len(p.Items), err)
	}
	var keys int
	if err := admin.QueryRow(ctx, "SELECT count(*) FROM guard.subject WHERE hash = guard.keyed_hash('blind', 'erika@ours.example')").Scan(&keys); err != nil || keys != 0 {
		t.Errorf("%d keys of an erased person, %v", keys, err)
	}
	p, err = l.List(ctx, Filter{Action: PIIErased})
	if err != nil || len(p.Items) != 1 || strings.Contains(strings.ToLower(string(p.Items[0].Bytes)), "erika") || at(p.Items[0].Fields(), "reason", "code") != "Art. 17(1)(a) GDPR" || at(p.Items[0].Fields(), "reason", "text") != "asked for by letter" {
		t.Errorf("the erasure on record: %v", err)
	}
	if res, err := l.Verify(ctx); err != nil || res.Problem != "" {
		t.Errorf("%+v, %v", res, err)
	}
	if f, err := l.Findings(ctx); err != nil || len(f) > 0 {
		t.Errorf("guards: %v, %v", f, err)
	}
	// Who comes back is somebody new.
	if err := l.Record(ctx, Event{Action: Login, Actor: who}); err != nil {
		t.Fatal(err)
	}
	if p, err := l.List(ctx, Filter{Actor: "erika@ours.example"}); err != nil || len(p.Items) != 1 {
		t.Errorf("%d events of the new one, %v", len(p.Items), err)
	}
	for _, sql := range []string{"DELETE FROM audit.pii", "DELETE FROM guard.subject", "UPDATE guard.subject SET key = sha256('')", "UPDATE audit.pii SET sealed = ''", "INSERT INTO guard.subject VALUES (sha256('x'), '', sha256(''))"} {
		refused(t, db, admin, sql)
	}
}

// TestReveal_OfAChangedValue: one value that does not decrypt hides no other.
func TestReveal_OfAChangedValue(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	if err := l.Record(ctx, Event{Action: Login, Actor: pg.Actor{Type: pg.ActorUser, UserID: uuid.New(), Email: "erika@ours.example"}, Targets: []Target{{Type: "m", ID: "1", PII: "bob@ours.example"}}}); err != nil {
		t.Fatal(err)
	}
	_, err := db.Admin(t).Exec(ctx, "ALTER EVENT TRIGGER mailward_ddl DISABLE; ALTER TABLE audit.pii DISABLE TRIGGER USER; UPDATE audit.pii SET sealed = sha256('') WHERE path = 'actor.email'")
	if err != nil {
		t.Fatal(err)
	}
	p, err := l.List(ctx, Filter{Action: Login})
	if err != nil || len(p.Items) != 1 || at(p.Items[0].Fields(), "actor", "email") != Mismatch || !strings.Contains(targetList(p.Items[0].Fields()), "bob@ours.example") {
		t.Errorf("%v", err)
	}
}
