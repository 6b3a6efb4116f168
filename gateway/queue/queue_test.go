package queue

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/gateway/hop"
	"mailward/gateway/ledger"
	"mailward/internal/message"
	"mailward/internal/pg"
	"mailward/internal/testenv"
	"mailward/policy"
	"mailward/quarantine"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// fixture is a queue with a database, a blob folder and a next hop of its own.
type fixture struct {
	t      testing.TB
	db     *testenv.DB
	hop    *testenv.Hop
	hops   *hop.Sender
	blobs  string // their folder
	deps   Deps
	queue  *Queue
	person pg.Actor
}

const mailText = "Message-ID: <m1@sender.example>\r\nSubject: late\r\n\r\nbody\r\n"

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{t: t, db: testenv.Postgres(t), hop: testenv.NextHop(t)}
	ctx := context.Background()
	log := slog.New(slog.DiscardHandler)
	dir := t.TempDir()
	key, err := quarantine.OpenLocalKey(filepath.Join(dir, "blob.key"))
	fatal(t, err)
	f.blobs = filepath.Join(dir, "blobs")
	blobs, err := quarantine.NewBlobs(f.blobs, key)
	fatal(t, err)
	trail := audit.New(f.db.DB, audit.Options{})
	routes := policy.StaticRoutes{Domains: map[string]string{"ours.example": f.hop.Addr, "sender.example": f.hop.Addr, "dead.example": "127.0.0.1:1"}}
	policies := policy.NewStore(f.db.DB, routes, log)
	fatal(t, policies.Load(ctx))
	l := ledger.New(f.db.DB, log)
	f.hops = hop.New(hop.Config{Hostname: "mx.ours.example"})
	f.deps = Deps{Log: log, DB: f.db.DB, Policies: policies, Ledger: l, Quarantine: quarantine.New(quarantine.Config{KeepFor: 30 * 24 * time.Hour, GiveUpAfter: time.Hour}, f.db.DB, blobs, trail, log), Audit: trail, Hops: f.hops}
	f.queue = f.newQueue()
	id := uuid.Must(uuid.NewV7())
	f.person = pg.Actor{Type: pg.ActorUser, UserID: id, Email: "soc@ours.example", SessionID: uuid.Must(uuid.NewV7())}
	f.exec("INSERT INTO user_account (id, email) VALUES ($1, 'soc@ours.example')", id)
	t.Cleanup(func() { f.hops.Close(); l.Close() })
	return f
}

func (f *fixture) newQueue() *Queue { return New(DefaultConfig("mx.ours.example"), f.deps) }

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) exec(sql string, args ...any) {
	f.t.Helper()
	_, err := f.db.Admin(f.t).Exec(context.Background(), sql, args...)
	fatal(f.t, err)
}

func (f *fixture) count(sql string, args ...any) (n int) {
	f.t.Helper()
	fatal(f.t, f.db.Pool.QueryRow(context.Background(), sql, args...).Scan(&n))
	return n
}

func (f *fixture) wait(what string, ok func() bool) {
	f.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("no %s", what)
		}
	}
}

// mail is one that was accepted.
func (f *fixture) mail(change ...func(*Mail)) Mail {
	m := Mail{Workspace: policy.DefaultWorkspace, Size: int64(len(mailText)), Trace: []byte("X-Mailward-ID: x\r\n"),
		Envelope: message.Envelope{ID: uuid.Must(uuid.NewV7()), From: "erika@sender.example", ReceivedAt: time.Now()},
		Open:     func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(mailText)), nil }}
	for _, c := range change {
		c(&m)
	}
	return m
}

// later queues a mail, due at once.
func (f *fixture) later(m Mail, to ...hop.Recipient) []uuid.UUID {
	f.t.Helper()
	var refused []Refusal
	for _, r := range to {
		refused = append(refused, Refusal{r, hop.Reply{Code: 451, Enhanced: "4.2.0", Text: "Later"}})
	}
	ids, err := f.queue.Later(context.Background(), m, refused)
	fatal(f.t, err)
	f.exec("UPDATE delivery SET next_attempt_at = now() WHERE id = ANY ($1)", ids)
	return ids
}

func rcpt(addr string) hop.Recipient { return hop.Recipient{Address: addr} }

// work runs a worker until the test ends or stop is called.
func (f *fixture) work(q *Queue) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { q.Run(ctx); close(done) }()
	stop = func() { cancel(); <-done }
	f.t.Cleanup(stop)
	return stop
}

func (f *fixture) state(id uuid.UUID) (s string) {
	f.t.Helper()
	fatal(f.t, f.db.Pool.QueryRow(context.Background(), "SELECT state FROM delivery WHERE id = $1", id).Scan(&s))
	return s
}

func (f *fixture) wantState(id uuid.UUID, want string) {
	f.t.Helper()
	f.wait(fmt.Sprintf("state %s of %s", want, id), func() bool { return f.state(id) == want })
}

// dsns are the notifications that reached the sender.
func (f *fixture) dsns(n int) (list []testenv.Message) {
	f.t.Helper()
	f.wait(fmt.Sprintf("%d notifications", n), func() bool {
		list = nil
		for _, m := range f.hop.Messages() {
			if m.From == "" {
				list = append(list, m)
			}
		}
		return len(list) >= n
	})
	if len(list) > n {
		f.t.Fatalf("%d notifications, want %d", len(list), n)
	}
	return list
}

func TestQueries_Prepare(t *testing.T) {
	t.Parallel()
	testenv.PrepareQueries(t, queryFiles)
}

func TestPlan(t *testing.T) {
	t.Parallel()
	ready := func(names ...string) (d []destination) {
		for _, n := range names {
			d = append(d, destination{Name: n, Ready: true})
		}
		return d
	}
	for name, c := range map[string]struct {
		dests []destination
		busy  map[string]int
		free  int
		want  string
		next  string
	}{
		"nothing":             {nil, nil, 20, "", ""},
		"one has a bound":     {ready("a"), nil, 20, "a:5", ""},
		"what is under way":   {ready("a"), map[string]int{"a": 4}, 20, "a:1", ""},
		"full":                {ready("a"), map[string]int{"a": 5}, 20, "", ""},
		"in turn":             {ready("a", "b", "c"), nil, 7, "a:3 b:2 c:2", ""},
		"too few for all":     {ready("a", "b", "c"), nil, 2, "a:1 b:1", "b"},
		"too few, some full":  {ready("a", "b", "c", "d"), map[string]int{"b": 5}, 2, "a:1 c:1", "c"},
		"not due":             {[]destination{{Name: "a"}, {Name: "b", Ready: true}}, nil, 20, "b:5", ""},
		"one try for trouble": {[]destination{{Name: "a", Ready: true, Troubled: true}, {Name: "b", Ready: true}}, nil, 20, "a:1 b:5", ""},
		"trouble under way":   {[]destination{{Name: "a", Ready: true, Troubled: true}}, map[string]int{"a": 1}, 20, "", ""},
	} {
		names, counts, next := plan(c.dests, c.busy, c.free)
		var got []string
		for i := range names {
			got = append(got, fmt.Sprintf("%s:%d", names[i], counts[i]))
		}
		if s := strings.Join(got, " "); s != c.want || next != c.next {
			t.Errorf("%s: %q, next %q", name, s, next)
		}
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]time.Duration{0: 30 * time.Second, 1: 30 * time.Second, 2: 2 * time.Minute, 5: 30 * time.Minute, 6: time.Hour, 1000: time.Hour} {
		if got := backoff(n); got < want || got > want+want/5 {
			t.Errorf("%d: %v", n, got)
		}
	}
}

func TestDeliver_RetriesAndRemembers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.hop.Refuse(451)
	id := f.later(f.mail(), rcpt("bob@ours.example"))[0]
	f.work(f.queue)
	f.wait("first attempt", func() bool {
		return f.count("SELECT count(*) FROM delivery WHERE attempts = 1 AND state = 'queued' AND reply_code = 451") == 1
	})
	f.hop.Refuse(0)
	f.exec("UPDATE delivery SET next_attempt_at = now()")
	f.wantState(id, Delivered)
	if m := f.hop.Messages(); len(m) != 1 || string(m[0].Data) != "X-Mailward-ID: x\r\n"+mailText {
		t.Errorf("%v", m)
	}
	if n := f.count("SELECT count(*) FROM delivery_attempt WHERE delivery_id = $1 AND (number, result, code) IN ((1, 'put_off', 451), (2, 'delivered', 250))", id); n != 2 {
		t.Errorf("%d attempts as they were", n)
	}
}

func TestDeliver_AttemptsAreBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.hop.Refuse(451)
	id := f.later(f.mail(), rcpt("bob@ours.example"))[0]
	f.exec("INSERT INTO delivery_attempt SELECT gen_random_uuid(), $1, n, now(), 1, 'put_off' FROM generate_series(1, 30) n", id)
	f.exec("UPDATE delivery SET attempts = 30")
	f.work(f.queue)
	f.wait("attempt 31", func() bool { return f.count("SELECT count(*) FROM delivery_attempt WHERE number = 31") == 1 })
	if n := f.count("SELECT count(*) FROM delivery_attempt"); n != attemptsKept {
		t.Errorf("%d attempts kept", n)
	}
}

// TestDeliver_LostReplyIsSentAgain: no person decided on one copy of a queued
// mail, so it is sent rather twice than never.
func TestDeliver_LostReplyIsSentAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.hop.Fail(testenv.DropAfterDot)
	id := f.later(f.mail(), rcpt("bob@ours.example"))[0]
	f.work(f.queue)
	f.wait("first attempt", func() bool {
		return f.count("SELECT count(*) FROM delivery WHERE attempts = 1 AND state = 'queued' AND dot_sent_at IS NULL") == 1
	})
	f.hop.Fail(testenv.NoFault)
	f.exec("UPDATE delivery SET next_attempt_at = now()")
	f.wantState(id, Delivered)
	if n := len(f.hop.Messages()); n != 2 {
		t.Errorf("%d copies", n)
	}
}

// TestDeliver_KilledBetweenDotAndReply leaves a row as a kill would.
func TestDeliver_KilledBetweenDotAndReply(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.later(f.mail(), rcpt("bob@ours.example"))[0]
	f.exec("UPDATE delivery SET state = 'delivering', dot_sent_at = now(), lease_owner = 'dead', lease_until = now() - interval '1 second'")
	f.work(f.queue)
	f.wantState(id, Delivered)
}

// TestDeliver_LeaseLost: a worker whose claim has gone to another one must not
// send the dot.
func TestDeliver_LeaseLost(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.later(f.mail(), rcpt("bob@ours.example"))[0]
	names, counts := []string{f.hop.Addr}, []int32{1}
	d := f.claim(f.queue, names, counts)
	f.exec("UPDATE delivery SET lease_owner = 'another', dot_sent_at = NULL")
	f.queue.deliver(context.Background(), d)
	if n := len(f.hop.Messages()); n != 0 {
		t.Errorf("%d copies were sent by a worker that had lost its claim", n)
	}
	if s := f.state(id); s != "delivering" {
		t.Errorf("the other worker's row is %s", s)
	}
}

func (f *fixture) claim(q *Queue, names []string, counts []int32) (d delivery) {
	f.t.Helper()
	rows, err := f.db.Query(context.Background(), claimSQL, q.owner, leaseTime, names, counts)
	fatal(f.t, err)
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[delivery])
	fatal(f.t, err)
	if len(list) != 1 {
		f.t.Fatalf("%d rows claimed", len(list))
	}
	return list[0]
}

func TestWorkers_ManyShareTheQueue(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	m := f.mail()
	var to []hop.Recipient
	for i := range 60 {
		to = append(to, rcpt(fmt.Sprintf("r%d@ours.example", i)))
	}
	f.later(m, to...)
	for range 3 {
		f.work(f.newQueue())
	}
	f.wait("end of all", func() bool { return f.count("SELECT count(*) FROM delivery WHERE state = 'delivered'") == len(to) })
	got := map[string]int{}
	for _, m := range f.hop.Messages() {
		got[m.To[0]]++
	}
	for a, n := range got {
		if n != 1 {
			t.Errorf("%s got %d copies", a, n)
		}
	}
	if len(got) != len(to) {
		t.Errorf("%d recipients got it", len(got))
	}
}

// TestDestination_DeadDelaysNobody: ten thousand mails for a dead destination
// are put off after one attempt, and mail for another one goes at once.
func TestDestination_DeadDelaysNobody(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.later(f.mail(), rcpt("bob@ours.example"))[0]
	f.exec(`INSERT INTO delivery (id, workspace_id, kind, mail_id, envelope_from, recipient, blob_name, destination, next_attempt_at, give_up_at)
		SELECT gen_random_uuid(), workspace_id, kind, mail_id, envelope_from, n || '@dead.example', blob_name, '127.0.0.1:1', now() - interval '1 hour', give_up_at
		FROM delivery, generate_series(1, 10000) n WHERE id = $1`, id)
	f.work(f.queue)
	f.wantState(id, Delivered)
	f.wait("rest of the dead one", func() bool {
		return f.count("SELECT count(*) FROM delivery_destination WHERE name = '127.0.0.1:1' AND down_until > now()") == 1
	})
	f.wait("end of the attempts", func() bool { return f.count("SELECT count(*) FROM delivery WHERE state = 'delivering'") == 0 })
	if n := f.count("SELECT count(*) FROM delivery WHERE attempts > 0 AND destination = '127.0.0.1:1'"); n > perDestination {
		t.Errorf("%d of the dead destination's mails were tried", n)
	}
	// When its rest is over one mail tries it, not five.
	tried := f.count("SELECT sum(attempts)::int FROM delivery WHERE destination = '127.0.0.1:1'")
	f.exec("UPDATE delivery_destination SET down_until = now()")
	f.wait("second rest", func() bool { return f.count("SELECT count(*) FROM delivery_destination WHERE failures = 2") == 1 })
	if n := f.count("SELECT sum(attempts)::int FROM delivery WHERE destination = '127.0.0.1:1'"); n != tried+1 {
		t.Errorf("%d attempts after the rest, want 1", n-tried)
	}
}

func TestDestination_IsUpAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("INSERT INTO delivery_destination (name, failures, down_until) VALUES ($1, 3, now())", f.hop.Addr)
	a := f.later(f.mail(), rcpt("a@ours.example"), rcpt("b@ours.example"))
	f.work(f.queue)
	f.wantState(a[0], Delivered)
	f.wantState(a[1], Delivered)
	if n := f.count("SELECT count(*) FROM delivery_destination"); n != 0 {
		t.Error("the destination is still in trouble")
	}
}

// TestDestination_RouteChanges: what waits for a dead hop goes elsewhere when
// the domain gets another route.
func TestDestination_RouteChanges(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.later(f.mail(), rcpt("bob@ours.example"))[0]
	f.exec("UPDATE delivery SET destination = '127.0.0.1:1'")
	f.work(f.queue)
	f.wantState(id, Delivered)
}

// TestClaim_UsesTheIndex: what a claim reads must not grow with the queue.
func TestClaim_UsesTheIndex(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.later(f.mail(), rcpt("bob@ours.example"))[0]
	f.exec(`INSERT INTO delivery (id, workspace_id, kind, mail_id, envelope_from, recipient, blob_name, destination, next_attempt_at, give_up_at)
		SELECT gen_random_uuid(), workspace_id, kind, mail_id, envelope_from, recipient, blob_name, 'hop' || n % 50, now() - interval '1 hour', give_up_at
		FROM delivery, generate_series(1, 50000) n WHERE id = $1`, id)
	f.exec("ANALYZE delivery")
	for name, q := range map[string]struct {
		sql  string
		args []any
	}{
		"destinations": {destinationsSQL, []any{"", 500}},
		"claim":        {claimSQL, []any{"me", leaseTime, []string{"hop1", "hop2"}, []int32{5, 5}}},
		"expired":      {expiredSQL, []any{"me", leaseTime, 50}},
		"late":         {lateSQL, []any{50}},
		"unrouted":     {unroutedSQL, []any{500}},
		"reclaim":      {reclaimSQL, nil},
	} {
		rows, err := f.db.Admin(t).Query(context.Background(), "EXPLAIN (ANALYZE, BUFFERS) "+q.sql, q.args...)
		fatal(t, err)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		fatal(t, err)
		plan := strings.Join(lines, "\n")
		if strings.Contains(plan, "Seq Scan on delivery ") || strings.Contains(plan, "Seq Scan on delivery d") {
			t.Errorf("%s reads the whole queue:\n%s", name, plan)
		}
	}
}
