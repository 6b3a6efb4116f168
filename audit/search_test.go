package audit

import (
	"bytes"
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"mailward/internal/pg"
	"mailward/internal/testenv"
)

func TestList_EveryFilterFindsItsOwn(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l := newLog(db)
	ws, session, user, item, incident := seedWorkspace(t, db), uuid.New(), uuid.New(), uuid.NewString(), uuid.NewString()
	ctx := pg.WithRequest(context.Background(), pg.Request{ID: "r1", Method: "POST", Path: "/quarantine/{id}/release", Application: "web-ui", SourceIP: netip.MustParseAddr("192.0.2.7")})
	wanted := Event{ID: uuid.Must(uuid.NewV7()), Action: ReleaseExecute, Outcome: "refused", Workspace: ws, Retention: Retention3Years,
		Actor:    pg.Actor{Type: pg.ActorUser, UserID: user, SessionID: session, Email: "Erika@ours.example", AuthMethod: "password"},
		Targets:  []Target{{Type: "quarantine_item", ID: item, PII: "bob@ours.example"}},
		Approval: &Approval{Mode: "single_operator"}, Correlation: Correlation{ItemID: item, CausationID: incident}}
	other := Event{Action: Login, Actor: pg.System("test", "noise"), Targets: []Target{{Type: "setting", ID: "four_eyes"}}}
	if err := l.Record(ctx, wanted); err != nil {
		t.Fatal(err)
	}
	if err := l.Record(context.Background(), other); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]Filter{
		"actor's address": {Actor: "erika@OURS.example"}, "actor's id": {Actor: user.String()}, "action": {Action: ReleaseExecute},
		"prefix": {Action: "quarantine.*"}, "several actions": {Action: "auth.logout, quarantine.release.execute"}, "outcome": {Outcome: "refused"},
		"workspace": {Workspace: ws, Method: "password"}, "own workspaces": {Workspaces: []uuid.UUID{ws}, NoInstallation: true, Method: "password"}, "target": {Target: item},
		"IP": {IP: "192.0.2.7"}, "IP mapped to v6": {IP: "::ffff:192.0.2.7"}, "application": {Application: "web-ui"}, "route": {Route: "/quarantine/{id}/release"},
		"method": {Method: "password"}, "provider": {Provider: "local"}, "approval": {Approval: "none"},
		"session": {Link: session.String()}, "object": {Link: item}, "cause": {Link: incident}, "itself": {Link: wanted.ID.String()}, "actor's link": {Link: strings.ToUpper(user.String())},
		"text: id": {Query: session.String()}, "text: part of the action": {Query: "release.exec"}, "text: actor": {Query: "erika@ours.example"},
		"text: target's address": {Query: "bob@ours.example"}, "text: IP": {Query: "192.0.2.7"},
		"together": {Actor: "erika@ours.example", Action: "quarantine.*", IP: "192.0.2.7", Query: "bob@ours.example", Outcome: "refused"},
	} {
		p, err := l.List(ctx, f)
		if err != nil || len(p.Items) != 1 || p.Items[0].ID != wanted.ID {
			t.Errorf("%s: %d events, %v", name, len(p.Items), err)
		}
	}
	for name, f := range map[string]Filter{
		"another address": {Actor: "bob@ours.example"}, "no such action": {Action: "zzz.*"}, "another workspace": {Workspace: uuid.New()},
		"approved": {Approval: "given"}, "no such id": {Link: uuid.NewString()}, "no such text": {Query: "zzzz"}, "actor who is another": {Actor: "erika@ours.example", Query: "192.0.2.8"},
	} {
		if p, err := l.List(ctx, f); err != nil || len(p.Items) != 0 {
			t.Errorf("%s: %d events, %v", name, len(p.Items), err)
		}
	}
	for name, newer := range map[string]bool{"newer than itself": false, "newer than what came before": true} {
		f := Filter{Outcome: "refused", Newer: wanted.ID}
		if newer {
			f.Newer[15]-- // the id before
			f.Newer[6] = 0x70
			f.Newer[7] = 0
		}
		if p, err := l.List(ctx, f); err != nil || (len(p.Items) == 1) != newer {
			t.Errorf("%s: %d events, %v", name, len(p.Items), err)
		}
	}
	if p, err := l.List(ctx, Filter{Query: "four_eyes"}); err != nil || len(p.Items) == 0 {
		t.Errorf("a target by its name: %d events, %v", len(p.Items), err)
	}
}

// A value that most events hold is looked for a few events at a time: pages have no
// gap and no double where another filter lets few of them through, or one event
// holds it twice.
func TestList_AValueThatManyEventsHold(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	box := func(id string) Target { return Target{Type: "mailbox", ID: id, PII: "bob@ours.example"} }
	var wanted []uuid.UUID
	for i := range 60 {
		ev := Event{ID: uuid.Must(uuid.NewV7()), Action: Login, Actor: pg.System("test", "noise"), Targets: []Target{box("1"), box("2")}}
		if i == 0 || i == 1 || i == 30 {
			ev.Outcome = "refused"
			wanted = append([]uuid.UUID{ev.ID}, wanted...)
		}
		if err := l.Record(ctx, ev); err != nil {
			t.Fatal(err)
		}
	}
	pages := func(f Filter) (got []uuid.UUID) {
		for {
			p, err := l.List(ctx, f)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range p.Items {
				got = append(got, r.ID)
			}
			if f.Cursor = p.Next; f.Cursor == "" {
				return got
			}
		}
	}
	if got := pages(Filter{Query: "bob@ours.example", Outcome: "refused", Limit: 1}); !slices.Equal(got, wanted) {
		t.Errorf("refused: %v, want %v", got, wanted)
	}
	all := pages(Filter{Query: "bob@ours.example", Limit: 7})
	if unique := slices.Compact(slices.Clone(all)); len(all) != 60 || len(unique) != 60 || !slices.IsSortedFunc(all, func(a, b uuid.UUID) int { return bytes.Compare(b[:], a[:]) }) {
		t.Errorf("all: %d events, %d of them once, or not newest first", len(all), len(unique))
	}
	if got := pages(Filter{Query: "bob@ours.example", Newer: wanted[0], Limit: 4}); len(got) != 29 {
		t.Errorf("newer than the 31st: %d events, want 29", len(got))
	}
}

func seedWorkspace(t *testing.T, db *testenv.DB) (id uuid.UUID) {
	t.Helper()
	id = uuid.New()
	if _, err := db.Admin(t).Exec(context.Background(), "INSERT INTO workspace (id, name) VALUES ($1, $2)", id, "w "+id.String()); err != nil {
		t.Fatal(err)
	}
	return id
}

// A program that copies the audit while 16 writers commit sees every event once
// and in order, and so does one that copies with a filter.
func TestFeed_NothingIsSkippedWhileSixteenWrite(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	const writers, each = 16, 40
	written := make(chan struct{})
	stop := make(chan struct{})
	var numbering sync.WaitGroup
	numbering.Go(func() {
		for {
			if _, err := l.Sequence(ctx); err != nil {
				t.Error(err)
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	go func() {
		defer close(written)
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					action := APICall
					if i%4 == 0 {
						action = ViewBody
					}
					if err := l.Record(ctx, Event{Action: action, Actor: pg.System("writer", string(rune('a'+w)))}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
	}()
	read := func(f Filter, check func(Row)) {
		next, over := int64(0), false
		for {
			p, err := l.Feed(ctx, next, f)
			if err != nil {
				t.Error(err)
				return
			}
			for _, r := range p.Items {
				check(r)
			}
			next = p.Next
			if over && next == p.Head {
				return
			}
			if s, err := l.Status(ctx); err == nil && s.Waiting == 0 {
				select {
				case <-written:
					over = true // one more round: what was numbered meanwhile
				default:
				}
			}
		}
	}
	var readers sync.WaitGroup
	all, some, expect := map[uuid.UUID]bool{}, map[uuid.UUID]bool{}, int64(0)
	readers.Go(func() {
		read(Filter{Limit: 7}, func(r Row) {
			if *r.Seq != expect {
				t.Errorf("number %d after %d", *r.Seq, expect-1)
			}
			expect = *r.Seq + 1
			all[r.ID] = true
		})
	})
	readers.Go(func() {
		read(Filter{Limit: 3, Action: "quarantine.*"}, func(r Row) {
			if some[r.ID] {
				t.Errorf("event %s twice", r.ID)
			}
			some[r.ID] = true
		})
	})
	readers.Wait()
	close(stop)
	numbering.Wait()
	if len(all) < writers*each || int64(len(all)) != expect {
		t.Errorf("%d events of at least %d, numbers up to %d", len(all), writers*each, expect)
	}
	if len(some) != writers*each/4 {
		t.Errorf("the filter gave %d events, want %d", len(some), writers*each/4)
	}
}

// What retention has deleted is told from what somebody has taken away.
func TestFeed_SaysWhatIsGoneAndWhy(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	var ids []uuid.UUID
	for range 6 {
		ev := Event{ID: uuid.Must(uuid.NewV7()), Action: Login, Actor: pg.System("x", "y")}
		if err := l.Record(ctx, ev); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, ev.ID)
	}
	if _, err := l.Sequence(ctx); err != nil {
		t.Fatal(err)
	}
	all, err := l.Feed(ctx, 0, Filter{})
	if err != nil || len(all.Gone) != 0 {
		t.Fatalf("gone before anything went: %v, %v", all.Gone, err)
	}
	seq := map[uuid.UUID]int64{}
	for _, r := range all.Items {
		seq[r.ID] = *r.Seq
	}
	protocol := uuid.Must(uuid.NewV7())
	for _, sql := range []string{"ALTER EVENT TRIGGER mailward_ddl DISABLE", "DO $$ DECLARE r record; BEGIN FOR r IN SELECT c.oid::regclass AS t FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace WHERE s.nspname = 'audit' AND c.relkind IN ('r', 'p') LOOP EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER', r.t); END LOOP; END $$"} {
		if _, err := db.Admin(t).Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.Admin(t).Exec(ctx, "INSERT INTO audit.purge (event_id, retention, from_id, end_id, events) VALUES ($1, 'sec-400d', $2, $3, 2)", protocol, ids[0], ids[2]); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Admin(t).Exec(ctx, "DELETE FROM audit.event WHERE id = ANY ($1)", []uuid.UUID{ids[0], ids[1], ids[4]}); err != nil {
		t.Fatal(err)
	}
	p, err := l.Feed(ctx, 0, Filter{})
	if err != nil || len(p.Gone) != 2 || p.Next != all.Next {
		t.Fatalf("gone: %+v, %v", p, err)
	}
	if g := p.Gone[0]; g.First != seq[ids[0]] || g.Last != seq[ids[1]] || g.Protocol == nil || *g.Protocol != protocol {
		t.Errorf("deleted when their time was over: %+v", g)
	}
	if g := p.Gone[1]; g.First != seq[ids[4]] || g.Last != g.First || g.Protocol != nil {
		t.Errorf("taken away: %+v", g)
	}
	if p, err := l.Feed(ctx, 0, Filter{Action: Login}); err != nil || p.Gone != nil || len(p.Items) != 3 {
		t.Errorf("with a filter nothing is known about gaps: %+v, %v", p, err)
	}
}
