package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"mailward/gateway/facts"
	"mailward/internal/pg"
	"mailward/internal/testenv"
	"mailward/policy"
	"mailward/quarantine"
	"mailward/quarantine/sandbox"
	"mailward/scanner/cape"
)

// subjectParts is a sidecar whose only part is the subject of the mail, as
// fakeScanner says it too.
type subjectParts struct{ down atomic.Bool }

var errNoPart = errors.New("no such part")

func (s *subjectParts) Part(_ context.Context, f *os.File, sum string) ([]byte, error) {
	if s.down.Load() {
		return nil, errors.New("the sidecar is down")
	}
	mail, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
	_, rest, _ := bytes.Cut(mail, []byte("Subject: "))
	subject, _, _ := bytes.Cut(rest, []byte("\r\n"))
	if got := sha256.Sum256(subject); hex.EncodeToString(got[:]) != sum {
		return nil, errNoPart
	}
	return subject, err
}

// sandboxed is a gateway with a sandbox.
type sandboxed struct {
	*fixture
	cape  *testenv.Cape
	parts *subjectParts
	q     *sandbox.Queue
	cfg   sandbox.Config
}

func newSandboxed(t *testing.T, change func(*sandbox.Config)) *sandboxed {
	t.Helper()
	s := &sandboxed{fixture: newFixture(t, false), cape: testenv.NewCape(t), parts: &subjectParts{}, cfg: sandbox.DefaultConfig()}
	s.cfg.PollEvery, s.cfg.Lease = 30*time.Millisecond, 2*time.Second
	if change != nil {
		change(&s.cfg)
	}
	s.q = s.newQueue()
	s.held.UseSandbox(s.q)
	s.srv.cfg.SandboxConfigured = true
	return s
}

func (s *sandboxed) newQueue() *sandbox.Queue {
	s.t.Helper()
	client, err := cape.New(cape.Config{URL: s.cape.URL, RetryPause: time.Millisecond})
	fatal(s.t, err)
	q, err := sandbox.New(s.cfg, sandbox.Deps{Log: slog.New(slog.DiscardHandler), DB: s.db.DB, Store: s.held, Audit: s.audit, Cape: client, Parts: s.parts, NoPart: errNoPart, Policies: s.srv.deps.Policies, Heard: s.heard})
	fatal(s.t, err)
	return q
}

func (s *sandboxed) heard(ctx context.Context, item quarantine.Item) (policy.Input, error) {
	row, _, err := s.srv.deps.Ledger.Get(ctx, item.MailID)
	return facts.Stored(row), err
}

// run starts a process that works on the queue; calling the result kills it.
func (s *sandboxed) run(q *sandbox.Queue) (kill func()) {
	s.t.Helper()
	workers := river.NewWorkers()
	conf := &river.Config{Schema: pg.RiverSchema, Workers: workers, Logger: slog.New(slog.DiscardHandler), Queues: map[string]river.QueueConfig{},
		FetchCooldown: 5 * time.Millisecond, FetchPollInterval: 20 * time.Millisecond}
	fatal(s.t, q.Jobs(workers, conf))
	client, err := river.NewClient(riverpgxv5.New(s.db.Pool), conf)
	fatal(s.t, err)
	fatal(s.t, client.Start(context.Background()))
	end := func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		client.StopAndCancel(ctx)
	}
	s.t.Cleanup(end)
	return end
}

// late makes the deadline of everything that waits come now.
func (s *sandboxed) late() {
	s.t.Helper()
	_, err := s.db.Admin(s.t).Exec(context.Background(), "UPDATE sandbox_hold SET deadline = now() WHERE decided_at IS NULL")
	fatal(s.t, err)
}

// decided waits for the end of a question.
func (s *sandboxed) decided(it quarantine.Item, want policy.SandboxVerdict) quarantine.Item {
	s.t.Helper()
	s.wait("decision of the sandbox", func() bool {
		return s.count("SELECT count(*) FROM sandbox_hold WHERE item_id = $1 AND verdict = $2", it.ID, string(want)) == 1
	})
	got, err := s.held.Get(context.Background(), it.ID)
	fatal(s.t, err)
	return got
}

func TestSandbox_CleanIsDelivered(t *testing.T) {
	t.Parallel()
	s := newSandboxed(t, nil)
	s.cape.Hold(true)
	it := s.heldItem("clean script", "bob@ours.example", "carol@ours.example")
	if it.State != quarantine.Held || it.Class != policy.Clean {
		t.Fatalf("state %s, class %s", it.State, it.Class)
	}
	s.work()
	s.run(s.q)
	s.wait("submission", func() bool { return s.count("SELECT count(*) FROM sandbox_task WHERE state = 'submitted'") == 1 })
	got, err := s.held.Get(context.Background(), it.ID)
	fatal(t, err)
	if len(got.Sandbox) != 1 || got.Sandbox[0].State != "submitted" || got.Sandbox[0].Verdict != "" || got.Sandbox[0].Name != "run.sh" || got.Sandbox[0].Deadline.Before(time.Now().Add(14*time.Minute)) {
		t.Errorf("progress %+v", got.Sandbox)
	}
	s.wantHop(0)
	s.cape.Hold(false)
	got = s.wantState(it, quarantine.Released)
	for _, m := range s.wantHop(2) {
		if !bytes.HasSuffix(m.Data, []byte("Subject: clean script\r\n\r\nbody of clean script\r\n")) {
			t.Errorf("%s", m.Data)
		}
	}
	if len(s.cape.Tasks()) != 1 || got.Sandbox[0].Verdict != policy.SandboxClean {
		t.Errorf("tasks %v, %+v", s.cape.Tasks(), got.Sandbox)
	}
	for what, sql := range map[string]string{
		"the verdict":         "SELECT count(*) FROM audit.event WHERE action = 'quarantine.sandbox.verdict'",
		"the intent":          "SELECT count(*) FROM audit.event WHERE action = 'quarantine.release.sandbox' AND convert_from(bytes, 'UTF8')::jsonb #>> '{actor,type}' = 'system'",
		"the release":         "SELECT count(*) FROM release WHERE mode = 'sandbox' AND requested_by IS NULL AND state IN ('approved', 'done')",
		"the end of the hold": "SELECT count(*) FROM audit.event WHERE action = 'sandbox.hold.update'",
	} {
		if n := s.count(sql); n != 1 {
			t.Errorf("%s is on record %d times", what, n)
		}
	}
}

func TestSandbox_MaliciousIsMalware(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]testenv.CapeResult{"malicious": {Score: 9, Family: "Emotet", Signature: "ransomware"}, "suspicious": {Score: 5}} {
		t.Run(name, func(t *testing.T) {
			s := newSandboxed(t, nil)
			s.cape.Result(nil, r)
			s.work()
			s.run(s.q)
			it := s.decided(s.heldItem("clean script"), policy.SandboxVerdict(name))
			want := map[string]policy.Class{"malicious": policy.Malware, "suspicious": policy.Suspicious}[name]
			if it.State != quarantine.Quarantined || it.Class != want || len(it.Findings) != 1 || it.Findings[0].Engine != "sandbox" || it.Findings[0].Class != want {
				t.Errorf("state %s, class %s, findings %+v", it.State, it.Class, it.Findings)
			}
			time.Sleep(100 * time.Millisecond)
			s.wantHop(0)
		})
	}
}

// TestSandbox_SameFileOnce: a file that became several tasks is as bad as the
// worst of them, and the same file in two mails is sent once.
func TestSandbox_SameFileOnce(t *testing.T) {
	t.Parallel()
	s := newSandboxed(t, nil)
	s.cape.PerFile(3)
	s.work()
	first := s.heldItem("clean script again", "bob@ours.example")
	s.wantReply(s.send("clean script again", "carol@ours.example"), 250)
	s.run(s.q)
	s.run(s.newQueue()) // two processes
	s.wantState(first, quarantine.Released)
	s.wait("both decided", func() bool { return s.count("SELECT count(*) FROM sandbox_hold WHERE verdict = 'clean'") == 2 })
	if n := s.cape.Calls("create"); n != 1 {
		t.Errorf("submitted %d times", n)
	}
	// The verdict is still good a little later.
	s.wantReply(s.send("clean script again", "dave@ours.example"), 250)
	s.wait("the third", func() bool { return s.count("SELECT count(*) FROM sandbox_hold WHERE verdict = 'clean'") == 3 })
	if n := s.cape.Calls("create"); n != 1 {
		t.Errorf("submitted %d times, with a verdict at hand", n)
	}
	s.wait("three mails", func() bool { return len(s.hop.Messages()) == 3 })
}

func TestSandbox_NoVerdict(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		spoil func(s *sandboxed)
		late  bool
	}{
		"down until the deadline":  {func(s *sandboxed) { s.cape.Fail(testenv.CapeDown) }, true},
		"no answer but a page":     {func(s *sandboxed) { s.cape.Fail(testenv.CapePage) }, true},
		"switched off":             {func(s *sandboxed) { s.cape.Fail(testenv.CapeDisabled) }, true},
		"throttled":                {func(s *sandboxed) { s.cape.Fail(testenv.CapeThrottled) }, true},
		"a wrong token":            {func(s *sandboxed) { s.cape.Token("another") }, true},
		"slow":                     {func(s *sandboxed) { s.cape.Hold(true) }, true},
		"reported without report":  {func(s *sandboxed) { s.cape.Fail(testenv.CapeNoReport) }, true},
		"report broken off":        {func(s *sandboxed) { s.cape.Fail(testenv.CapeCutReport) }, true},
		"the analysis failed":      {func(s *sandboxed) { s.cape.Stick("failed_analysis") }, false},
		"too big for it":           {func(s *sandboxed) { s.cape.Fail(testenv.CapeTooBig) }, false},
		"nothing ran":              {func(s *sandboxed) { s.cape.Result(nil, testenv.CapeResult{Idle: true}) }, false},
		"the sidecar does not say": {func(s *sandboxed) { s.parts.down.Store(true) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSandboxed(t, nil)
			tt.spoil(s)
			s.work()
			s.run(s.q)
			it := s.heldItem("clean script")
			if tt.late {
				s.wait("a try", func() bool {
					return s.count("SELECT count(*) FROM sandbox_task WHERE attempts > 0 OR error <> ''") == 1
				})
				if n := s.count("SELECT count(*) FROM sandbox_hold WHERE decided_at IS NULL"); n != 1 {
					t.Error("decided before the deadline")
				}
				s.late()
			}
			it = s.decided(it, policy.NoVerdict)
			if it.State != quarantine.Quarantined || it.Class != policy.Clean || !strings.Contains(strings.Join(it.Reasons, " "), "no verdict from the sandbox") {
				t.Errorf("state %s, class %s, reasons %v", it.State, it.Class, it.Reasons)
			}
			s.wantHop(0)
		})
	}
}

// TestSandbox_StoredButFailed: the answer to the submission is lost. The file is
// looked for and not sent again.
func TestSandbox_StoredButFailed(t *testing.T) {
	t.Parallel()
	s := newSandboxed(t, nil)
	s.cape.Fail(testenv.CapeStoresFails)
	s.work()
	it := s.heldItem("clean script")
	s.run(s.q)
	s.wait("the first try", func() bool { return s.cape.Calls("create") == 1 })
	s.cape.Fail(testenv.CapeFine)
	s.wantState(it, quarantine.Released)
	if n := s.cape.Calls("create"); n != 1 {
		t.Errorf("submitted %d times", n)
	}
	s.wantHop(1)
}

// TestSandbox_Duplicate: CAPE has the file already, from somebody else.
func TestSandbox_Duplicate(t *testing.T) {
	t.Parallel()
	s := newSandboxed(t, nil)
	client, err := cape.New(cape.Config{URL: s.cape.URL})
	fatal(t, err)
	_, err = client.Submit(context.Background(), cape.File{Name: "x", Data: []byte("clean script")}, "somebody else")
	fatal(t, err)
	s.cape.Fail(testenv.CapeDuplicate)
	s.work()
	s.run(s.q)
	s.wantState(s.heldItem("clean script"), quarantine.Released)
}

// TestSandbox_KilledBetween: the process that had a task in hand is gone; another
// one goes on when the lease is over.
func TestSandbox_KilledBetween(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"submitting", "submitted"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			s := newSandboxed(t, nil)
			s.cape.Hold(true)
			kill := s.run(s.q)
			it := s.heldItem("clean script")
			s.wait("submission", func() bool { return s.count("SELECT count(*) FROM sandbox_task WHERE state = 'submitted'") == 1 })
			kill()
			_, err := s.db.Admin(t).Exec(context.Background(), "UPDATE sandbox_task SET state = $1, cape_ids = CASE $1 WHEN 'submitting' THEN '{}' ELSE cape_ids END, lease_until = now() + interval '300 milliseconds'", state)
			fatal(t, err)
			s.cape.Hold(false)
			s.work()
			s.run(s.newQueue())
			s.wantState(it, quarantine.Released)
			if n := s.cape.Calls("create"); n != 1 {
				t.Errorf("submitted %d times", n)
			}
			s.wantHop(1)
		})
	}
}

// TestSandbox_Budget: what is over the budget waits, with its deadline running.
func TestSandbox_Budget(t *testing.T) {
	t.Parallel()
	s := newSandboxed(t, func(c *sandbox.Config) { c.InFlight = 1 })
	s.cape.Hold(true)
	s.work()
	s.run(s.q)
	first := s.heldItem("clean script one")
	s.wait("the first", func() bool { return s.cape.Calls("create") == 1 })
	second := s.heldItem("clean script two")
	time.Sleep(300 * time.Millisecond)
	if n := s.cape.Calls("create"); n != 1 {
		t.Errorf("%d tasks in flight, 1 allowed", n)
	}
	s.cape.Hold(false)
	s.wantState(first, quarantine.Released)
	s.wantState(second, quarantine.Released)

	s = newSandboxed(t, func(c *sandbox.Config) { c.TasksPerMinute = 1 })
	s.work()
	s.run(s.q)
	s.wantState(s.heldItem("clean script one"), quarantine.Released)
	second = s.heldItem("clean script two")
	time.Sleep(300 * time.Millisecond)
	if n := s.cape.Calls("create"); n != 1 {
		t.Errorf("%d tasks in a minute, 1 allowed", n)
	}
	s.late()
	if it := s.decided(second, policy.NoVerdict); it.State != quarantine.Quarantined {
		t.Errorf("state %s", it.State)
	}
}

// TestSandbox_PersonFirst: what a person has done with the mail stays.
func TestSandbox_PersonFirst(t *testing.T) {
	t.Parallel()
	s := newSandboxed(t, nil)
	s.cape.Hold(true)
	s.run(s.q)
	it := s.heldItem("clean script")
	_, err := s.held.Delete(context.Background(), s.analyst, nil, it.ID, "not wanted")
	fatal(t, err)
	if got := s.decided(it, policy.NoVerdict); got.State != quarantine.Deleted {
		t.Errorf("state %s", got.State)
	}
}

// TestSandbox_Forged: a release in System's name that the program did not write
// is not delivered.
func TestSandbox_Forged(t *testing.T) {
	t.Parallel()
	s := newSandboxed(t, nil)
	it := s.heldItem("malware held")
	_, err := s.db.Admin(t).Exec(context.Background(), `WITH r AS (
		INSERT INTO release (id, workspace_id, item_id, recipient_ids, intent_event_id, reason, mode, state)
		SELECT gen_random_uuid(), i.workspace_id, i.id, array_agg(q.id), (SELECT id FROM audit.event WHERE action = 'quarantine.item.create'), 'because', 'sandbox', 'approved'
		FROM quarantine_item i JOIN quarantine_recipient q ON q.item_id = i.id WHERE i.id = $1 GROUP BY i.id RETURNING *)
		INSERT INTO delivery (id, workspace_id, kind, mail_id, item_id, release_id, recipient_id, envelope_from, recipient, blob_name, give_up_at)
		SELECT gen_random_uuid(), i.workspace_id, 'release', i.mail_id, i.id, r.id, q.id, i.envelope_from, q.address, i.blob_name, now() + interval '1 day'
		FROM r JOIN quarantine_item i ON i.id = r.item_id JOIN quarantine_recipient q ON q.item_id = i.id`, it.ID)
	fatal(t, err)
	s.work()
	s.wait("failed delivery", func() bool { return s.count("SELECT count(*) FROM delivery WHERE state = 'failed'") == 1 })
	s.wantHop(0)
}

// TestSandbox_AskedByAPerson: the answer about a quarantined mail is shown, and
// lets nothing out.
func TestSandbox_AskedByAPerson(t *testing.T) {
	t.Parallel()
	s := newSandboxed(t, nil)
	s.work()
	s.run(s.q)
	ctx := context.Background()
	it := s.heldItem("malware script")
	if it.State != quarantine.Quarantined {
		t.Fatalf("state %s", it.State)
	}
	if err := s.q.Send(ctx, s.analyst, nil, it, ""); !errors.Is(err, quarantine.ErrReasonRequired) {
		t.Errorf("%v", err)
	}
	fatal(t, s.q.Send(ctx, s.analyst, nil, it, "is it really?"))
	it = s.decided(it, policy.SandboxClean)
	if it.State != quarantine.Quarantined || it.Class != policy.Malware || it.Sandbox[0].Verdict != policy.SandboxClean {
		t.Errorf("%s %s %+v", it.State, it.Class, it.Sandbox)
	}
	if n := s.count("SELECT count(*) FROM audit.event WHERE action = 'quarantine.sandbox.request'"); n != 1 {
		t.Errorf("%d events", n)
	}
	text := s.heldItem("malware without a file")
	if err := s.q.Send(ctx, s.analyst, nil, text, "x"); !errors.Is(err, quarantine.ErrNothingToRun) {
		t.Errorf("%v", err)
	}
	s.wantHop(0)
}

// TestSandbox_LostJob: a question whose job is gone gets another one.
func TestSandbox_LostJob(t *testing.T) {
	t.Parallel()
	s := newSandboxed(t, nil)
	it := s.heldItem("clean script")
	_, err := s.db.Admin(t).Exec(context.Background(), "DELETE FROM river.river_job")
	fatal(t, err)
	s.work()
	s.run(s.q)
	s.wantState(it, quarantine.Released)
}

// TestSandbox_DecidedAnew: the policy of the moment counts, not the one of the
// arrival.
func TestSandbox_DecidedAnew(t *testing.T) {
	t.Parallel()
	s := newSandboxed(t, nil)
	it := s.heldItem("suspicious script")
	if it.State != quarantine.Held {
		t.Fatalf("state %s", it.State)
	}
	actions := policy.DefaultActions(policy.Inbound)
	actions[policy.Suspicious] = policy.Quarantine
	_, err := s.srv.deps.Policies.PutPolicy(context.Background(), pg.Operator("root"), policy.Policy{Workspace: policy.DefaultWorkspace, Domain: "*", Actions: actions}, nil)
	fatal(t, err)
	s.run(s.q)
	if got := s.decided(it, policy.SandboxClean); got.State != quarantine.Quarantined {
		t.Errorf("state %s", got.State)
	}
	var versions string
	fatal(t, s.db.Pool.QueryRow(context.Background(), "SELECT policies #>> '{0,policy_version}' FROM sandbox_hold WHERE item_id = $1", it.ID).Scan(&versions))
	if versions != "1" {
		t.Errorf("policy version of the arrival: %q", versions)
	}
}
