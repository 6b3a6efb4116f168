package alerting

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/alerting/channel"
	"mailward/alerting/rule"
	"mailward/audit"
	"mailward/internal/pg"
	"mailward/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

var admin = Person{Actor: pg.Operator("root@test"), Name: "Root"}

// hook is a webhook of somebody else.
type hook struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []string
	status int
}

func newHook(t *testing.T) *hook {
	t.Helper()
	h := &hook{status: 200}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.bodies = append(h.bodies, string(b))
		w.WriteHeader(h.status)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) answer(status int) { h.mu.Lock(); defer h.mu.Unlock(); h.status = status }
func (h *hook) got() []string     { h.mu.Lock(); defer h.mu.Unlock(); return slices.Clone(h.bodies) }

type fixture struct {
	*Store
	t    *testing.T
	db   *testenv.DB
	hook *hook
}

func newStore(t *testing.T, db *testenv.DB, node string) *Store {
	t.Helper()
	record := audit.New(db.DB, audit.Options{})
	s, err := New(Config{Node: node, Secrets: map[string]string{"hook": "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 32)),
		"00000000-0000-7000-8000-000000000002/hook": "https://hooks.example/two"}}, Deps{
		DB: db.DB, Log: slog.New(slog.DiscardHandler), Audit: record,
		Sender: channel.NewSender(channel.Config{Hostname: "mx.test", PublicURL: "https://mail.test", AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}),
		Lead: func(ctx context.Context, fn func(context.Context) error) error {
			return record.Lead(ctx, audit.LockRules, fn)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, db: testenv.Postgres(t), hook: newHook(t)}
	f.Store = newStore(t, f.db, "a")
	if err := f.InstallPack(t.Context()); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) exec(sql string, args ...any) {
	f.t.Helper()
	if _, err := f.db.Admin(f.t).Exec(f.t.Context(), sql, args...); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) one(sql string, args ...any) (n int) {
	f.t.Helper()
	if err := f.db.QueryRow(f.t.Context(), sql, args...).Scan(&n); err != nil {
		f.t.Fatal(err)
	}
	return n
}

// channel makes a webhook that takes everything.
func (f *fixture) channel(change func(*Channel)) Channel {
	f.t.Helper()
	c := Channel{Name: "soc", Kind: channel.Webhook, Target: f.hook.URL, Secret: "hook", Everything: true, Enabled: true, PerMinute: 100}
	if change != nil {
		change(&c)
	}
	c, err := f.PutChannel(f.t.Context(), admin, c)
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

// bucket puts a value in, at so long ago; and something counted then.
func (f *fixture) bucket(metric, subject string, ago time.Duration, v float64) {
	f.t.Helper()
	at := time.Now().UTC().Add(-ago)
	for _, step := range []int{10, 300, 3600} {
		for _, m := range [][2]string{{metric, subject}, {metric, ""}, {"alive", "a"}} {
			f.exec(`INSERT INTO metric_bucket VALUES ($1, $2, $3, '00000000-0000-0000-0000-000000000000', $4, 0, 1, $5, $5)
				ON CONFLICT (metric, step, at, workspace_id, subject, slot) DO UPDATE SET sum = metric_bucket.sum + excluded.sum, max = greatest(metric_bucket.max, excluded.max)`,
				m[0], step, at.Truncate(time.Duration(step)*time.Second), m[1], v)
		}
	}
}

// clock makes the evaluation believe that it stopped so long ago.
func (f *fixture) clock(ago time.Duration) {
	f.exec(`INSERT INTO alert_clock VALUES (true, $1, 'test', 0) ON CONFLICT (one) DO UPDATE SET evaluated = excluded.evaluated`, time.Now().UTC().Add(-ago).Truncate(rule.Step))
}

// evaluate makes up for so long.
func (f *fixture) evaluate(ago time.Duration) {
	f.t.Helper()
	f.clock(ago)
	if err := f.Evaluate(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) alert(name string) Alert {
	f.t.Helper()
	list, err := f.Alerts(f.t.Context(), AlertFilter{All: true})
	if err != nil {
		f.t.Fatal(err)
	}
	for _, a := range list {
		if a.Spec.Name == name {
			return a
		}
	}
	return Alert{}
}

// deliver makes one try with everything that waits.
func (f *fixture) deliver() {
	f.t.Helper()
	rows, err := f.db.Query(f.t.Context(), "SELECT id FROM alert_notification WHERE state = 'queued' ORDER BY id")
	if err != nil {
		f.t.Fatal(err)
	}
	var ids []uuid.UUID
	for rows.Next() {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			f.t.Fatal(err)
		}
		ids = append(ids, id)
	}
	for _, id := range ids {
		_, _ = f.send(f.t.Context(), id, false) // what became of it is in the row
	}
}

// The whole story: a spike fires, the alert names the domain and leads to
// its quarantine, somebody takes it in hand, and when it is over that is said.
func TestEvaluate_PhishingSpike(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.channel(nil)
	f.bucket("phishing_rate_5min", "ours.example", 45*time.Second, 31)
	f.evaluate(20 * time.Second)
	a := f.alert("Phishing spike")
	if a.State != rule.Firing || a.Subject != "ours.example" || a.Value == nil || *a.Value != 31 || a.NotifiedAt.IsZero() {
		t.Fatalf("%+v", a)
	}
	f.deliver()
	got := f.hook.got()
	if len(got) != 1 || !strings.Contains(got[0], `quarantine?class=phishing\u0026domain=ours.example`) || !strings.Contains(got[0], "Phishing spike – ours.example") {
		t.Fatalf("sent %q", got)
	}
	if n := f.one("SELECT count(*) FROM river.river_job WHERE kind = 'alert_notify'"); n != 1 {
		t.Errorf("%d jobs", n)
	}
	if err := f.Ack(t.Context(), admin, a.ID, "looking"); err != nil {
		t.Fatal(err)
	}
	if err := f.Ack(t.Context(), admin, a.ID, "me too"); !errors.Is(err, ErrNotFiring) {
		t.Errorf("acknowledged twice: %v", err)
	}
	f.exec("UPDATE alert SET notified_at = now() - interval '2 hours'") // a reminder would be due
	f.evaluate(20 * time.Second)
	if a := f.alert("Phishing spike"); a.State != rule.Acknowledged || a.AckedBy != "Root" || a.Silent != "acknowledged" {
		t.Errorf("%+v", a)
	}
	f.exec("DELETE FROM metric_bucket WHERE metric = 'phishing_rate_5min'")
	f.evaluate(20 * time.Second)
	f.deliver()
	if a, got := f.alert("Phishing spike"), f.hook.got(); a.State != rule.Resolved || len(got) != 2 || !strings.Contains(got[1], `"resolved"`) {
		t.Errorf("%s: %q", a.State, got)
	}
	events, _, err := f.Events(t.Context(), AlertFilter{All: true, ID: a.ID}, "", 10)
	if err != nil || len(events) < 2 || events[0].Phase != rule.Resolved {
		t.Errorf("%v: %+v", err, events)
	}
	if n, err := f.Firing(t.Context(), AlertFilter{All: true}); err != nil || n[rule.Critical] != 0 {
		t.Errorf("%v: %v", err, n)
	}
	f.wantOnRecord(a)
}

// wantOnRecord looks for the beginning and the end of an alert in the audit, where they
// are sealed.
func (f *fixture) wantOnRecord(a Alert) {
	f.t.Helper()
	ended, cancel := context.WithCancel(f.t.Context())
	cancel()
	if err := f.deps.Audit.RunLater(ended); err != nil { // writes what waits
		f.t.Fatal(err)
	}
	page, err := f.deps.Audit.List(f.t.Context(), audit.Filter{Action: audit.AlertFired + "," + audit.AlertEnded, Target: a.ID.String()})
	if err != nil || len(page.Items) != 2 {
		f.t.Fatalf("%d events, %v", len(page.Items), err)
	}
	begin, end := page.Items[1].Fields(), page.Items[0].Fields()
	change, _ := begin["change"].(map[string]any)
	after, _ := change["after"].(map[string]any)
	if begin["action"] != audit.AlertFired || begin["severity"] != "critical" || after["value"] != "31" || after["threshold"] != "30" || after["metric"] != "phishing_rate_5min" || !strings.Contains(fmt.Sprint(begin["targets"]), "ours.example") {
		f.t.Errorf("its beginning on record: %v", begin)
	}
	if end["action"] != audit.AlertEnded {
		f.t.Errorf("its end on record: %v", end)
	}
}

// TestLateHits_SayWhoHasTheMail: an alarm about mail that was found bad after it
// was delivered names it and its recipients, and keeps their addresses nowhere.
func TestLateHits_SayWhoHasTheMail(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.channel(nil)
	asked := ""
	f.deps.Late = func(_ context.Context, _ uuid.UUID, domain string, sandbox bool, since time.Time) ([]channel.Hit, error) {
		asked = fmt.Sprintf("%s %t %t", domain, sandbox, time.Since(since) < 2*time.Hour)
		return []channel.Hit{{Class: "malware", Found: []string{"Emotet"}, Holders: []channel.HitHolder{{Address: "anna@ours.example", Since: since, Seconds: 7200}}}}, nil
	}
	f.bucket("coverage_late_hits", "ours.example", 45*time.Second, 1)
	f.evaluate(20 * time.Second)
	f.deliver()
	got := strings.Join(f.hook.got(), "\n")
	if asked != "ours.example false true" || !strings.Contains(got, `"recipients":[{"address":"anna@ours.example"`) || !strings.Contains(got, "Emotet") {
		t.Errorf("asked for %q, sent %s", asked, got)
	}
	if n := f.one("SELECT count(*) FROM alert_notification n WHERE n::text LIKE '%anna@%'"); n != 0 {
		t.Error("the address is kept")
	}
}

func TestEvaluate_CatchesUp(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.channel(nil)
	f.exec(`INSERT INTO metric_bucket SELECT 'alive', 10, date_bin('10 seconds', t, '2000-01-01'), '00000000-0000-0000-0000-000000000000', 'b', 0, 1, 1, 1
		FROM generate_series(now() - interval '6 hours', now(), interval '10 seconds') t`)
	f.bucket("malware_hits_5min", "ours.example", 3*time.Hour, 12)
	f.evaluate(5 * time.Hour)
	if n := f.one("SELECT count(*) FROM alert_event e JOIN alert a ON a.id = e.alert_id JOIN alert_rule r ON r.id = a.rule_id WHERE r.pack = 'malware_spike' AND e.phase = 'firing' AND e.late"); n != 1 {
		t.Errorf("%d late events of firing", n)
	}
	f.deliver()
	got := f.hook.got()
	if len(got) != 1 || strings.Count(got[0], "Malware wave") != 4 || !strings.Contains(got[0], `"late":true`) { // name and title, of alarm and end
		t.Errorf("one message with alarm and end, not %d: %q", len(got), got)
	}
	f.clock(-time.Hour) // the clock went back by an hour
	for range 2 {
		if err := f.Evaluate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := f.one("SELECT count(*) FROM alert_clock WHERE evaluated < now()"); n != 1 || len(f.hook.got()) != 1 {
		t.Error("after a clock that went back, nothing is evaluated")
	}
}

func TestMoments(t *testing.T) {
	t.Parallel()
	end := time.Date(2026, 3, 3, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		lag         time.Duration
		n           int
		first, step time.Duration
	}{{10 * time.Second, 1, 0, 0}, {time.Minute, 6, 50 * time.Second, 10 * time.Second}, {10 * time.Minute, 60, 590 * time.Second, 10 * time.Second},
		{5 * time.Hour, 60, 5*time.Hour - 5*time.Minute, 5 * time.Minute}, {1000 * time.Hour, 60, 24*time.Hour - 24*time.Minute, 24 * time.Minute}} {
		got := moments(end.Add(-tt.lag), end)
		if len(got) != tt.n || !got[len(got)-1].Equal(end) || end.Sub(got[0]) != tt.first || len(got) > 1 && got[1].Sub(got[0]) != tt.step {
			t.Errorf("%v: %d from %v", tt.lag, len(got), end.Sub(got[0]))
		}
	}
}

// However many evaluate, each time is judged once; and when the one that leads is
// killed, another goes on where it was.
func TestRun_TwoProcessesAndAKilledLeader(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.channel(nil)
	b := newStore(t, f.db, "b")
	f.bucket("phishing_rate_5min", "ours.example", 45*time.Second, 31)
	f.clock(20 * time.Second)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s := []*Store{f.Store, b}[i%2]
			if err := s.Evaluate(t.Context()); err != nil && !errors.Is(err, errOvertaken) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	count := "SELECT count(*) FROM alert_notification"
	if n := f.one(count); n != 1 {
		t.Fatalf("%d notifications", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer func() { cancel(); wg.Wait() }()
	leader := func() int {
		return f.one("SELECT coalesce(min(pid), 0) FROM pg_locks WHERE locktype = 'advisory' AND classid = 7238191 AND objid = $1 AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())", audit.LockRules)
	}
	// A step that fails, as one that the clock was moved under, is begun anew.
	run := func(s *Store) {
		for ctx.Err() == nil {
			_ = s.Run(ctx)
		}
	}
	wg.Go(func() { run(f.Store) })
	waitFor(t, func() bool { return leader() != 0 })
	wg.Go(func() { run(b) })
	node := func(name string) bool { return f.one("SELECT count(*) FROM alert_clock WHERE node = $1", name) == 1 }
	f.exec("UPDATE alert_clock SET node = 'nobody'")
	f.clock(30 * time.Second)
	waitFor(t, func() bool { return node("a") || node("b") })
	first := 0
	waitFor(t, func() bool { first = leader(); return first != 0 })
	// The process dies: its loop ends, and so does its connection.
	f.exec("SELECT pg_terminate_backend($1)", first)
	waitFor(t, func() bool { l := leader(); return l != 0 && l != first })
	f.exec("UPDATE alert_clock SET node = 'nobody'")
	f.clock(30 * time.Second)
	waitFor(t, func() bool { return node("a") || node("b") })
	if n := f.one(count); n != 1 {
		t.Errorf("%d notifications after another took over, within the cooldown", n)
	}
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatal("it did not happen")
}

func TestSend(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.channel(func(c *Channel) { c.PerMinute = 2 })
	state := func(id uuid.UUID) (st, text string, tries int) {
		if err := f.db.QueryRow(t.Context(), "SELECT state, error, tries FROM alert_notification WHERE id = $1", id).Scan(&st, &text, &tries); err != nil {
			t.Fatal(err)
		}
		return st, text, tries
	}
	try := func(last bool) (uuid.UUID, time.Duration, error) {
		id, err := f.Test(t.Context(), admin, c.ID)
		if err != nil {
			t.Fatal(err)
		}
		again, err := f.send(t.Context(), id, last)
		return id, again, err
	}
	f.hook.answer(503)
	id, again, err := try(false)
	if st, text, tries := state(id); err == nil || again != 0 || st != "queued" || tries != 1 || !strings.Contains(text, "503") {
		t.Errorf("temporary: %v, %v, %s, %q, %d tries", err, again, st, text, tries)
	}
	f.hook.answer(200)
	if again, err = f.send(t.Context(), id, false); err != nil || again != 0 {
		t.Error(err)
	}
	if st, text, _ := state(id); st != "sent" || text != "" {
		t.Errorf("%s %q", st, text)
	}
	f.hook.answer(410)
	id, again, err = try(false)
	if st, _, _ := state(id); err != nil || again != 0 || st != "failed" {
		t.Errorf("permanent: %v, %s", err, st)
	}
	id, again, err = try(false)
	if st, _, tries := state(id); err != nil || again != slotWait || st != "queued" || tries != 0 {
		t.Errorf("third in a minute: %v, again in %v, %s, %d tries", err, again, st, tries)
	}
	f.exec("UPDATE alert_notification SET tried_at = tried_at - interval '2 minutes'")
	f.hook.answer(500)
	if _, err := f.send(t.Context(), id, true); err != nil {
		t.Error(err)
	}
	if st, _, _ := state(id); st != "failed" {
		t.Errorf("after the last try: %s", st)
	}
	list, _, err := f.Notifications(t.Context(), []uuid.UUID{c.ID}, "", 2)
	if err != nil || len(list) != 2 || !list[0].Message.Test || list[0].State != "failed" {
		t.Errorf("%v: %+v", err, list)
	}
	// A job that died with its process gets a follower.
	f.exec("UPDATE alert_notification SET state = 'queued', created_at = now() - interval '3 minutes', tried_at = NULL WHERE id = $1", id)
	f.exec("UPDATE river.river_job SET state = 'running', attempted_at = now() - interval '3 minutes' WHERE args ->> 'notification' = $1", id.String())
	for range 2 {
		if err := f.revive(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := f.one("SELECT count(*) FROM river.river_job WHERE args ->> 'notification' = $1", id.String()); n != 2 {
		t.Errorf("%d jobs, want the dead one and one that follows it", n)
	}
}

func TestSilence_AndRulesThatEnd(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.channel(nil)
	if _, err := f.Silence(t.Context(), admin, Silence{Reason: "x"}, time.Hour); !errors.Is(err, ErrReasonRequired) {
		t.Errorf("without a reason: %v", err)
	}
	id, err := f.Silence(t.Context(), admin, Silence{Reason: "maintenance", Subject: "Ours.Example"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	f.bucket("phishing_rate_5min", "ours.example", 45*time.Second, 31)
	f.evaluate(20 * time.Second)
	if a := f.alert("Phishing spike"); a.State != rule.Firing || a.Silent != "silenced" || f.one("SELECT count(*) FROM alert_notification") != 0 {
		t.Fatalf("%+v", a)
	}
	if err := f.EndSilence(t.Context(), admin, id); err != nil {
		t.Fatal(err)
	}
	if err := f.EndSilence(t.Context(), admin, id); !errors.Is(err, ErrNotFound) {
		t.Errorf("ended twice: %v", err)
	}
	f.evaluate(20 * time.Second)
	f.deliver()
	if len(f.hook.got()) != 1 {
		t.Fatalf("after the silence: %q", f.hook.got())
	}
	r, err := f.Rule(t.Context(), f.alert("Phishing spike").Rule)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.SwitchRule(t.Context(), admin, r.ID, r.Version, false, "noisy today"); err != nil {
		t.Fatal(err)
	}
	f.evaluate(20 * time.Second)
	f.deliver()
	if got := f.hook.got(); len(got) != 2 || !strings.Contains(got[1], `"notice":"resolved"`) || f.alert("Phishing spike").State != rule.Inactive {
		t.Errorf("a rule that was switched off leaves its alert open: %q", got)
	}
	for _, action := range []string{"alert.silence.create", "alert.silence.update", "alert.rule.update", "alert.channel.create"} {
		if f.one("SELECT count(*) FROM audit.event WHERE action = $1", action) == 0 {
			t.Errorf("%s is not on record", action)
		}
	}
}

func TestQueries_Prepare(t *testing.T) {
	t.Parallel()
	testenv.PrepareQueries(t, queryFiles)
}
