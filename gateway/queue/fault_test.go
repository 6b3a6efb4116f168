package queue

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/gateway/hop"
	"mailward/internal/pg"
)

// outage takes the database away from the program until back is called.
func (f *fixture) outage() (back func()) {
	f.t.Helper()
	ctx := context.Background()
	cfg := f.db.Admin(f.t).Config().Copy()
	name := cfg.Database
	cfg.Database = "postgres"
	run := func(sql string, args ...any) {
		f.t.Helper()
		admin, err := pgx.ConnectConfig(ctx, cfg)
		fatal(f.t, err)
		defer admin.Close(ctx)
		_, err = admin.Exec(ctx, sql, args...)
		fatal(f.t, err)
	}
	allow := "ALTER DATABASE " + pgx.Identifier{name}.Sanitize() + " ALLOW_CONNECTIONS "
	run(allow + "false")
	run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND usename = 'mailward_app'", name)
	return func() { f.t.Helper(); run(allow + "true") }
}

// away waits until the program feels the outage.
func (f *fixture) away() {
	f.t.Helper()
	f.wait("outage", func() bool {
		return pg.IsUnavailable(f.db.Pool.Ping(context.Background()))
	})
}

// TestFault_DatabaseAwayAtTheDot: what cannot be noted is not handed over, and
// is tried again when the database is back.
func TestFault_DatabaseAwayAtTheDot(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.later(f.mail(), rcpt("bob@ours.example"))[0]
	d := f.claim(f.queue, []string{f.hop.Addr}, []int32{1})
	back := f.outage()
	f.away()
	done := make(chan struct{})
	go func() { f.queue.deliver(context.Background(), d); close(done) }()
	select {
	case <-done:
		t.Fatal("the attempt ended although it could not be noted")
	case <-time.After(500 * time.Millisecond): // It insists, without an end of its own.
	}
	back()
	<-done
	if n := len(f.hop.Messages()); n != 0 {
		t.Errorf("%d mails were handed over without a note of it", n)
	}
	if n := f.count("SELECT count(*) FROM delivery WHERE id = $1 AND state = 'queued' AND attempts = 1", id); n != 1 {
		t.Errorf("the delivery is %s", f.state(id))
	}
	f.exec("UPDATE delivery SET next_attempt_at = now()")
	f.work(f.queue)
	f.wantState(id, Delivered)
	if n := len(f.hop.Messages()); n != 1 {
		t.Errorf("%d copies", n)
	}
}

// TestFault_DatabaseAwayAtTheEnd: the hop has the mail, so that must be noted
// when the database is back, and the mail not sent again.
func TestFault_DatabaseAwayAtTheEnd(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.later(f.mail(), rcpt("bob@ours.example"))[0]
	d := f.claim(f.queue, []string{f.hop.Addr}, []int32{1})
	back := f.outage()
	f.away()
	done := make(chan struct{})
	go func() {
		f.queue.finish(context.Background(), slog.New(slog.DiscardHandler), d, end{state: Delivered, route: d.Destination, reply: hop.Reply{Code: 250, Text: "ok"}})
		close(done)
	}()
	select {
	case <-done:
		t.Fatal("the end was given up although it could not be noted")
	case <-time.After(300 * time.Millisecond):
	}
	back()
	<-done
	if s := f.state(id); s != Delivered {
		t.Errorf("the delivery is %s", s)
	}
}

// TestFault_StoredButFailed: the commit of an end was done and its answer lost.
// The second try changes nothing and tells nobody twice.
func TestFault_StoredButFailed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.later(f.mail(), rcpt("bob@ours.example"))[0]
	d := f.claim(f.queue, []string{f.hop.Addr}, []int32{1})
	e := end{state: Failed, route: d.Destination, reply: hop.Reply{Code: 550, Enhanced: "5.1.1", Text: "no"}, attempt: attempt{id: uuid.Must(uuid.NewV7()), number: 1, began: time.Now()}}
	fatal(t, f.queue.tell(context.Background(), d, &e))
	for range 2 {
		f.queue.finish(context.Background(), slog.New(slog.DiscardHandler), d, e)
	}
	if s := f.state(id); s != Failed {
		t.Errorf("the delivery is %s", s)
	}
	for what, sql := range map[string]string{"notifications": "SELECT count(*) FROM delivery WHERE kind = 'dsn'", "attempts": "SELECT count(*) FROM delivery_attempt"} {
		if n := f.count(sql); n != 1 {
			t.Errorf("%d %s, want 1", n, what)
		}
	}
}

// TestFault_DatabaseAwayAtTheCheck: a release that cannot be checked is neither
// sent nor taken for a forged one.
func TestFault_DatabaseAwayAtTheCheck(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.later(f.mail(), rcpt("bob@ours.example"))[0]
	d := f.claim(f.queue, []string{f.hop.Addr}, []int32{1})
	some := uuid.New()
	d.Kind, d.ItemID, d.ReleaseID, d.Recipient = Release, &some, &some, &some
	back := f.outage()
	f.away()
	f.queue.deliver(context.Background(), d)
	back()
	if n := len(f.hop.Messages()); n != 0 {
		t.Errorf("%d mails were sent unchecked", n)
	}
	if s, n := f.state(id), f.events("guard.violation"); s != "delivering" || n != 0 {
		t.Errorf("the delivery is %s, %d alarms", s, n)
	}
}

// TestFault_WorkerOutlivesTheDatabase: it goes on by itself.
func TestFault_WorkerOutlivesTheDatabase(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.work(f.queue)
	back := f.outage()
	f.away()
	back()
	f.wantState(f.later(f.mail(), rcpt("bob@ours.example"))[0], Delivered)
}

// TestFault_NotificationCannotBeKept: a delivery does not end as failed while
// its sender cannot be told.
func TestFault_NotificationCannotBeKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.later(f.mail(), rcpt("bob@ours.example"))[0]
	d := f.claim(f.queue, []string{f.hop.Addr}, []int32{1})
	fatal(t, os.RemoveAll(f.blobs))
	fatal(t, os.WriteFile(f.blobs, nil, 0o600))
	f.queue.expireOne(context.Background(), waiting{D: d, Code: 550, Text: "no"})
	if s := f.state(id); s != "delivering" {
		t.Errorf("the delivery is %s", s)
	}
}
