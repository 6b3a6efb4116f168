package quarantine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"mailward/internal/pg"
	"mailward/policy"
)

// bulks are acts whose asker may do all that allowed says.
func (f *fixture) bulks(allowed func() error) *Bulks {
	return NewBulks(f.Store, slog.New(slog.DiscardHandler), func(_ context.Context, a pg.Actor) (Asker, error) {
		if err := allowed(); err != nil {
			return Asker{}, err
		}
		for _, u := range f.users {
			if u.UserID == a.UserID {
				return f.asker(u), nil
			}
		}
		return Asker{}, ErrAskerGone
	})
}

func (f *fixture) asker(a pg.Actor) Asker {
	return Asker{Actor: a, Roles: []string{"analyst"}, May: func(BulkAct, uuid.UUID) bool { return true }}
}

func always() error { return nil }

func (f *fixture) holdSome(t *testing.T, n int) (out []uuid.UUID) {
	t.Helper()
	for i := range n {
		out = append(out, f.hold(t, fmt.Sprint("bulk ", uuid.New(), i), fmt.Sprintf("box%d@ours.example", i)))
	}
	return out
}

func wanted(act BulkAct, items ...uuid.UUID) BulkAsk {
	return BulkAsk{ID: uuid.Must(uuid.NewV7()), Act: act, Reason: "the same campaign", Workspaces: []uuid.UUID{policy.DefaultWorkspace}, Items: items}
}

// finish works until the act has ended.
func (b *Bulks) finished(t *testing.T, owner pg.Actor, id uuid.UUID) Bulk {
	t.Helper()
	for range 20 {
		if _, err := b.Next(context.Background()); err != nil {
			t.Fatal(err)
		}
		k, err := b.Get(context.Background(), owner.UserID, id)
		if err != nil {
			t.Fatal(err)
		}
		if k.State != "running" {
			return k
		}
	}
	t.Fatal("the act does not end")
	return Bulk{}
}

func TestBulk_SaysWhatBecameOfEachItem(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t, SingleOperator), context.Background()
	b, items := f.bulks(always), f.holdSome(t, 3)
	if _, err := f.Delete(ctx, f.users[0], nil, items[1], "alone"); err != nil {
		t.Fatal(err)
	}
	a := wanted(BulkDelete, append(items, uuid.Must(uuid.NewV7()), items[0])...)
	k, err := b.Start(ctx, f.asker(f.users[0]), a)
	if err != nil || k.Total != 3 || k.State != "running" {
		t.Fatalf("%+v, %v", k, err)
	}
	k = b.finished(t, f.users[0], a.ID)
	if k.State != "done" || k.Done != 2 || k.Refused != 1 || k.Items[1].State != "refused" || k.Items[1].Detail != "state" || k.Items[0].State != "done" {
		t.Errorf("%+v", k)
	}
	// Each is an act of the person, with the start as its cause and the same reason.
	n := f.count(t, `SELECT count(*) FROM audit.event WHERE action = 'quarantine.delete' AND actor_id = $1 AND convert_from(bytes, 'UTF8')::jsonb #>> '{correlation,causation_id}' = $2
		AND convert_from(bytes, 'UTF8')::jsonb #>> '{reason,text}' = 'the same campaign'`, f.users[0].UserID.String(), k.EventID.String())
	if n != 2 {
		t.Errorf("%d acts on record with their cause, want 2", n)
	}
	if n := f.count(t, "SELECT count(*) FROM audit.event WHERE action IN ('quarantine.bulk.start', 'quarantine.bulk.end')"); n != 2 {
		t.Errorf("%d events of the whole, want its start and its end", n)
	}
	// The same form again is the same act, also when it is over.
	if again, err := b.Start(ctx, f.asker(f.users[0]), a); err != nil || again.State != "done" || again.EventID != k.EventID {
		t.Errorf("sent twice: %+v, %v", again, err)
	}
	// Nobody else sees it, or takes its id.
	if _, err := b.Get(ctx, f.users[1].UserID, a.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("another person reads it: %v", err)
	}
	if _, err := b.Start(ctx, f.asker(f.users[1]), a); !errors.Is(err, ErrNotFound) {
		t.Errorf("another person takes its id: %v", err)
	}
}

func TestBulk_ReleaseWaitsForSecondPerson(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t, Required), context.Background()
	b, items := f.bulks(always), f.holdSome(t, 2)
	a := wanted(BulkRelease, items...)
	if _, err := b.Start(ctx, f.asker(f.users[0]), a); err != nil {
		t.Fatal(err)
	}
	if k := b.finished(t, f.users[0], a.ID); k.Waiting != 2 {
		t.Errorf("%+v", k)
	}
	// One's own requests are not for oneself to decide on.
	own := wanted(BulkDeny, items...)
	if _, err := b.Start(ctx, f.asker(f.users[0]), own); err != nil {
		t.Fatal(err)
	}
	if k := b.finished(t, f.users[0], own.ID); k.Refused != 2 || k.Items[0].Detail != "same_person" {
		t.Errorf("own requests: %+v", k)
	}
	deny := wanted(BulkDeny, items...)
	if _, err := b.Start(ctx, f.asker(f.users[1]), deny); err != nil {
		t.Fatal(err)
	}
	if k := b.finished(t, f.users[1], deny.ID); k.Done != 2 {
		t.Errorf("%+v", k)
	}
	if n := f.count(t, "SELECT count(*) FROM quarantine_item WHERE state = 'denied'"); n != 2 {
		t.Errorf("%d denied", n)
	}
}

// TestBulk_GoesOnAfterItsProcessDied kills the process in the middle; another one
// does the rest, and nothing twice.
func TestBulk_GoesOnAfterItsProcessDied(t *testing.T) {
	t.Parallel()
	f := newFixture(t, SingleOperator)
	items := f.holdSome(t, 5)
	ctx, kill := context.WithCancel(context.Background())
	var calls atomic.Int32
	dying := f.bulks(func() error {
		if calls.Add(1) == 3 {
			kill()
		}
		return nil
	})
	a := wanted(BulkRelease, items...)
	if _, err := dying.Start(ctx, f.asker(f.users[0]), a); err != nil {
		t.Fatal(err)
	}
	if _, err := dying.Next(ctx); err == nil {
		t.Fatal("the dying process did all")
	}
	next := f.bulks(always)
	if more, err := next.Next(context.Background()); err != nil || more {
		t.Fatalf("an act that somebody works on was taken: %v, %v", more, err)
	}
	k, err := next.Get(context.Background(), f.users[0].UserID, a.ID)
	if err != nil || k.Done != 2 || k.State != "running" {
		t.Fatalf("%+v, %v", k, err)
	}
	if _, err := f.db.Admin(t).Exec(context.Background(), "UPDATE quarantine_bulk SET lease_until = now() - interval '1 s'"); err != nil {
		t.Fatal(err)
	}
	if k = next.finished(t, f.users[0], a.ID); k.Done != 5 || k.State != "done" {
		t.Errorf("%+v", k)
	}
	if n := f.count(t, "SELECT count(*) FROM release"); n != 5 {
		t.Errorf("%d releases for 5 items", n)
	}
}

// TestBulk_WaitsForTheRecord takes the audit away in the middle.
func TestBulk_WaitsForTheRecord(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t, SingleOperator), context.Background()
	items := f.holdSome(t, 4)
	audit := func(sql string) {
		t.Helper()
		_, err := f.db.Admin(t).Exec(ctx, "BEGIN; SELECT audit.maintenance('test', 'a full disk'); "+sql+"; COMMIT")
		if err != nil {
			t.Fatal(err)
		}
	}
	calls := 0
	b := f.bulks(func() error {
		if calls++; calls == 3 {
			audit("REVOKE EXECUTE ON FUNCTION audit.append(uuid, bytea, jsonb) FROM mailward_app")
		}
		return nil
	})
	a := wanted(BulkDelete, items...)
	if _, err := b.Start(ctx, f.asker(f.users[0]), a); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Next(ctx); err != nil {
		t.Fatal(err)
	}
	k, err := b.Get(ctx, f.users[0].UserID, a.ID)
	if err != nil || k.Done != 2 || k.State != "running" || k.Trouble != "record" {
		t.Fatalf("%+v, %v", k, err)
	}
	if n := f.count(t, "SELECT count(*) FROM quarantine_item WHERE state = 'deleted'"); n != 2 {
		t.Errorf("%d items deleted, want the 2 on record", n)
	}
	audit("GRANT EXECUTE ON FUNCTION audit.append(uuid, bytea, jsonb) TO mailward_app")
	if _, err := f.db.Admin(t).Exec(ctx, "UPDATE quarantine_bulk SET next_try_at = now()"); err != nil {
		t.Fatal(err)
	}
	if k = b.finished(t, f.users[0], a.ID); k.Done != 4 || k.Trouble != "" {
		t.Errorf("%+v", k)
	}
}

func TestBulk_EndsWhereNothingMayBeDoneAnyMore(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t, SingleOperator), context.Background()
	// The person logs out after the first item.
	calls := 0
	b := f.bulks(func() error {
		if calls++; calls > 1 {
			return ErrAskerGone
		}
		return nil
	})
	a := wanted(BulkDelete, f.holdSome(t, 3)...)
	if _, err := b.Start(ctx, f.asker(f.users[0]), a); err != nil {
		t.Fatal(err)
	}
	if k := b.finished(t, f.users[0], a.ID); k.State != "stopped" || k.Trouble != "session" || k.Done != 1 || k.Refused != 2 || k.Items[2].Detail != "session" {
		t.Errorf("logged out: %+v", k)
	}
	// Somebody adds an item at psql to what was decided.
	b = f.bulks(always)
	items := f.holdSome(t, 2)
	a = wanted(BulkDelete, items[0])
	if _, err := b.Start(ctx, f.asker(f.users[0]), a); err != nil {
		t.Fatal(err)
	}
	_, err := f.db.Admin(t).Exec(ctx, "INSERT INTO quarantine_bulk_item (bulk_id, number, item_id, workspace_id) VALUES ($1, 9, $2, $3)", a.ID, items[1], policy.DefaultWorkspace)
	if err != nil {
		t.Fatal(err)
	}
	if k := b.finished(t, f.users[0], a.ID); k.State != "stopped" || k.Trouble != "forged" || k.Done != 0 {
		t.Errorf("forged: %+v", k)
	}
	if n := f.count(t, "SELECT count(*) FROM audit.event WHERE action = 'quarantine.bulk_item.create'"); n != 1 {
		t.Errorf("%d records of the row written by hand", n)
	}
}

func TestBulk_ByFilter(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t, SingleOperator), context.Background()
	b := f.bulks(always)
	for n := range 4 {
		f.sample(t, n, nil)
	}
	a := wanted(BulkDelete)
	a.Filter, a.Query, a.Expected = Filter{Workspaces: a.Workspaces, Symbol: "SIGN_2"}, "symbol=SIGN_2", 9
	if _, err := b.Start(ctx, f.asker(f.users[0]), a); !errors.Is(err, ErrBulkChanged) {
		t.Errorf("another number than was seen: %v", err)
	}
	a.Expected = 1
	if k, err := b.Start(ctx, f.asker(f.users[0]), a); err != nil || k.Total != 1 || k.Cut {
		t.Fatalf("%+v, %v", k, err)
	}
	if k := b.finished(t, f.users[0], a.ID); k.Done != 1 {
		t.Errorf("%+v", k)
	}
	// Where the person has no right, nothing is selected.
	a = wanted(BulkDelete)
	a.Filter, a.Workspaces, a.Expected = Filter{Workspaces: a.Workspaces}, nil, 0
	if _, err := b.Start(ctx, f.asker(f.users[0]), a); !errors.Is(err, ErrBulkEmpty) {
		t.Errorf("without a right: %v", err)
	}
}
