package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/audit"
	"mailward/internal/message"
	"mailward/internal/pg"
	"mailward/policy"
	"mailward/quarantine"
)

var errKilled = errors.New("the process was killed")

// life is one process: it is killed at one of its writing transactions, before
// or after that is stored, and does nothing any more from then on.
type life struct {
	mu     sync.Mutex
	at     int // number of the transaction; 0: it lives
	stored bool
	n      int
	dead   bool
	names  []string
	kill   func()
}

func (l *life) fault(a pg.Actor, stored bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return errKilled
	}
	if !stored {
		l.n++
		l.names = append(l.names, string(a.Type)+" "+a.Job)
	}
	if l.n == l.at && stored == l.stored {
		l.dead = true
		l.kill()
		return errKilled
	}
	return nil
}

// releaseFaults is a queue with one held mail, whose parts can be killed.
type releaseFaults struct {
	*fixture
	held    *quarantine.Store
	blobs   *quarantine.Blobs
	spooler *message.Spooler
	second  pg.Actor
}

// agreeing engines find nothing that is worse.
type agreeing struct{}

func (agreeing) Rescan(context.Context, uuid.UUID, io.Reader) (policy.Report, error) {
	return policy.Report{Engines: []policy.EngineAnswer{{Engine: "clamav", Answered: true}}}, nil
}

func newReleaseFaults(t *testing.T, mode string) *releaseFaults {
	f := &releaseFaults{fixture: newFixture(t)}
	f.blobs, f.held = f.deps.Quarantine.Blobs(), f.deps.Quarantine
	cfg := message.DefaultConfig()
	cfg.Dir, cfg.MinFree = filepath.Join(t.TempDir(), "spool"), 0
	var err error
	f.spooler, err = message.NewSpooler(cfg)
	fatal(t, err)
	f.exec("INSERT INTO setting (key, value) VALUES ('four_eyes', to_jsonb($1::text))", mode)
	id := uuid.Must(uuid.NewV7())
	f.second = pg.Actor{Type: pg.ActorUser, UserID: id, Email: "lead@ours.example", SessionID: uuid.Must(uuid.NewV7())}
	f.exec("INSERT INTO user_account (id, email) VALUES ($1, 'lead@ours.example')", id)
	for _, a := range []pg.Actor{f.person, f.second} {
		f.exec("INSERT INTO session (id, token_hash, user_id, expires_at) VALUES ($1, sha256($2), $3, now() + interval '1 day')", a.SessionID, a.SessionID[:], a.UserID)
	}
	return f
}

func (f *releaseFaults) hold() uuid.UUID {
	f.t.Helper()
	sp, err := f.spooler.FromBytes([]byte("Subject: x\r\nMessage-ID: <" + uuid.NewString() + "@x>\r\n\r\n" + uuid.NewString() + "\r\n"))
	fatal(f.t, err)
	f.t.Cleanup(sp.Close)
	id, err := f.held.Hold(context.Background(), quarantine.Hold{Envelope: message.Envelope{ID: uuid.Must(uuid.NewV7()), ReceivedAt: time.Now(), From: "m@evil.example"}, Spool: sp,
		Workspace: policy.DefaultWorkspace, Class: policy.Malware, Reasons: []string{"x"}, Report: policy.Report{Subject: "x"},
		Recipients: []policy.RecipientDecision{{Address: "bob@ours.example", Domain: "ours.example", Action: policy.Quarantine}}})
	fatal(f.t, err)
	return id
}

// process is the store and the queue of one life.
func (f *releaseFaults) process(l *life) (*quarantine.Store, *Queue) {
	log := slog.New(slog.DiscardHandler)
	db := f.db.DB.WithFaults(l.fault)
	trail := audit.New(db, audit.Options{})
	held := quarantine.New(quarantine.Config{KeepFor: time.Hour, GiveUpAfter: time.Hour}, db, f.blobs, trail, log)
	held.UseEngines(agreeing{})
	deps := f.deps
	deps.DB, deps.Quarantine, deps.Audit = db, held, trail
	return held, New(DefaultConfig("mx.ours.example"), deps)
}

// run lives one life: people decide, and the worker delivers until the copy has
// an end or the process is dead.
func (f *releaseFaults) run(item uuid.UUID, l *life, two bool) {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	l.kill = cancel
	held, q := f.process(l)
	// A person clicks again where nothing came back, and is told no where it was done.
	held.Release(ctx, f.person, nil, item, quarantine.ReleaseRequest{Reason: "test"})
	if two {
		held.Approve(ctx, f.second, nil, item, "yes")
	}
	done := make(chan struct{})
	go func() { q.Run(ctx); close(done) }()
	f.wait("end of a life", func() bool {
		l.mu.Lock()
		dead := l.dead
		l.mu.Unlock()
		return dead || f.settled(item)
	})
	cancel()
	<-done
}

func (f *releaseFaults) itemState(item uuid.UUID) quarantine.State {
	f.t.Helper()
	it, err := f.held.Get(context.Background(), item)
	fatal(f.t, err)
	return it.State
}

func (f *releaseFaults) settled(item uuid.UUID) bool {
	st := f.itemState(item)
	return st == quarantine.Released || st == quarantine.OutcomeUnknown || st == quarantine.Failed
}

func (f *releaseFaults) copies(item uuid.UUID) (n int) {
	it, err := f.held.Get(context.Background(), item)
	fatal(f.t, err)
	for _, m := range f.hop.Messages() {
		if strings.Contains(string(m.Data), it.MessageID) && it.MessageID != "" {
			n++
		}
	}
	return n
}

// TestRelease_KilledAtEveryStep kills the process at each writing transaction of
// a release, before it and just after it was stored, and has another one go on,
// with people who click again. The next hop never gets two copies. It gets one,
// except where nobody can know: then the copy says so, and is sent again on a
// person's word alone.
func TestRelease_KilledAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{quarantine.SingleOperator, quarantine.Required} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			f := newReleaseFaults(t, mode)
			whole := &life{}
			item := f.holdMarked()
			f.run(item, whole, mode == quarantine.Required)
			if f.itemState(item) != quarantine.Released || f.copies(item) != 1 {
				t.Fatalf("without a fault: %s, %d copies", f.itemState(item), f.copies(item))
			}
			t.Logf("%d steps: %q", whole.n, whole.names)
			for at := 1; at <= whole.n; at++ {
				for _, stored := range []bool{false, true} {
					f.killAt(at, stored, mode == quarantine.Required)
				}
			}
		})
	}
}

func (f *releaseFaults) killAt(at int, stored, two bool) {
	f.t.Helper()
	name := fmt.Sprintf("killed at step %d, stored %v", at, stored)
	item := f.holdMarked()
	first := &life{at: at, stored: stored}
	f.run(item, first, two)
	// Its lease ends, and another process goes on.
	f.exec("UPDATE delivery SET lease_until = now() - interval '1 second' WHERE state = 'delivering' AND item_id = $1", item)
	f.run(item, &life{}, two)
	st, n := f.itemState(item), f.copies(item)
	switch {
	case n > 1:
		f.t.Errorf("%s: %d copies", name, n)
	case st == quarantine.Released && n != 1:
		f.t.Errorf("%s: released, and no copy arrived", name)
	case st == quarantine.OutcomeUnknown:
		f.again(name, item, n)
	case st != quarantine.Released:
		f.t.Errorf("%s: %s", name, st)
	}
}

// again sends a copy once more whose end nobody knows: not without the word.
func (f *releaseFaults) again(name string, item uuid.UUID, before int) {
	f.t.Helper()
	ctx := context.Background()
	if _, err := f.held.Release(ctx, f.person, nil, item, quarantine.ReleaseRequest{Reason: "test"}); !errors.Is(err, quarantine.ErrState) {
		f.t.Errorf("%s: sent again without a word: %v", name, err)
	}
	if _, err := f.held.Release(ctx, f.person, nil, item, quarantine.ReleaseRequest{Reason: "asked bob", Again: true, Recipients: []string{"bob@ours.example"}}); err != nil {
		f.t.Errorf("%s: %v", name, err)
		return
	}
	if f.itemState(item) == quarantine.ReleaseRequested {
		_, err := f.held.Approve(ctx, f.second, nil, item, "yes")
		fatal(f.t, err)
	}
	f.run(item, &life{}, false)
	if st, n := f.itemState(item), f.copies(item); st != quarantine.Released || n != before+1 {
		f.t.Errorf("%s, sent again: %s, %d copies", name, st, n)
	}
}

// holdMarked holds a mail that the next hop's copies can be told by.
func (f *releaseFaults) holdMarked() uuid.UUID {
	item := f.hold()
	f.exec("UPDATE quarantine_item SET message_id = $2 WHERE id = $1", item, f.bodyOf(item))
	return item
}

func (f *releaseFaults) bodyOf(item uuid.UUID) string {
	it, err := f.held.Get(context.Background(), item)
	fatal(f.t, err)
	r, err := f.held.Raw(context.Background(), it)
	fatal(f.t, err)
	defer r.Close()
	b, err := io.ReadAll(r)
	fatal(f.t, err)
	_, body, _ := strings.Cut(string(b), "\r\n\r\n")
	return strings.TrimSpace(body)
}

// TestRelease_TakenBack: what has not begun is taken back, and what has is not.
func TestRelease_TakenBack(t *testing.T) {
	t.Parallel()
	f := newReleaseFaults(t, quarantine.SingleOperator)
	ctx := context.Background()
	slow := quarantine.New(quarantine.Config{KeepFor: time.Hour, GiveUpAfter: time.Hour, TakeBack: time.Hour}, f.db.DB, f.blobs, f.deps.Audit, f.deps.Log)
	item := f.holdMarked()
	it, err := slow.Release(ctx, f.person, nil, item, quarantine.ReleaseRequest{Reason: "test"})
	fatal(t, err)
	if it.State != quarantine.ReleaseScheduled || len(it.Releases) != 1 || it.Releases[0].BeginsAt == nil {
		t.Fatalf("%s, %+v", it.State, it.Releases)
	}
	if it, err = slow.TakeBack(ctx, f.person, nil, item, "wrong mail"); err != nil || it.State != quarantine.Quarantined {
		t.Fatalf("%s, %v", it.State, err)
	}
	if _, err := slow.TakeBack(ctx, f.person, nil, item, ""); !errors.Is(err, quarantine.ErrTooLate) {
		t.Errorf("taken back twice: %v", err)
	}
	if n := f.count("SELECT count(*) FROM audit.event WHERE action = 'quarantine.release.cancel'"); n != 1 {
		t.Errorf("%d events", n)
	}
	f.run(item, &life{}, false) // It can be released again, and goes out once.
	if f.copies(item) != 1 {
		t.Errorf("%d copies", f.copies(item))
	}
	if _, err := slow.TakeBack(ctx, f.person, nil, item, ""); !errors.Is(err, quarantine.ErrTooLate) {
		t.Errorf("taken back when it was out: %v", err)
	}
}

// said are engines that answer what a test tells them.
type said struct {
	mu     sync.Mutex
	report policy.Report
}

func (s *said) say(r policy.Report) { s.mu.Lock(); defer s.mu.Unlock(); s.report = r }

func (s *said) Rescan(context.Context, uuid.UUID, io.Reader) (policy.Report, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.report, nil
}

// TestRelease_ScannedAgain: with engines silent a release waits and is not lost;
// what is worse than was known stops it, and a person can insist.
func TestRelease_ScannedAgain(t *testing.T) {
	t.Parallel()
	f := newReleaseFaults(t, quarantine.SingleOperator)
	ctx := context.Background()
	engines := &said{report: policy.Report{Engines: []policy.EngineAnswer{{Engine: "clamav", Error: "down"}}}}
	f.held.UseEngines(engines)
	item := f.holdMarked()
	f.exec("UPDATE quarantine_item SET class = 'spam' WHERE id = $1", item)
	_, err := f.held.Release(ctx, f.person, nil, item, quarantine.ReleaseRequest{Reason: "test"})
	fatal(t, err)
	f.work(f.queue)
	f.wait("release that waits", func() bool {
		it, err := f.held.Get(ctx, item)
		fatal(t, err)
		return it.State == quarantine.ReleaseScheduled && len(it.Releases) == 1 && strings.Contains(it.Releases[0].Waits, "could not be scanned")
	})
	up := []policy.EngineAnswer{{Engine: "clamav", Version: "1.4", Answered: true}}
	engines.say(policy.Report{Engines: up, Findings: []policy.Finding{{Engine: "clamav", Name: "Win.Late", Class: policy.Malware}}})
	f.exec("UPDATE delivery SET next_attempt_at = now() WHERE item_id = $1", item)
	f.wait("stopped release", func() bool { return f.itemState(item) == quarantine.Quarantined })
	it, err := f.held.Get(ctx, item)
	fatal(t, err)
	if it.Class != policy.Malware || it.StoppedAt == nil || it.Rescan == nil || !it.Rescan.Worse || len(f.hop.Messages()) != 0 {
		t.Fatalf("%s, stopped %v, %+v, %d copies", it.Class, it.StoppedAt, it.Rescan, len(f.hop.Messages()))
	}
	if n := f.count("SELECT count(*) FROM audit.event WHERE action = 'quarantine.release.stopped'"); n != 1 {
		t.Errorf("%d events", n)
	}
	if _, err := f.held.Release(ctx, f.person, nil, item, quarantine.ReleaseRequest{Reason: "test"}); !errors.Is(err, quarantine.ErrStopped) {
		t.Errorf("released without insisting: %v", err)
	}
	_, err = f.held.Release(ctx, f.person, nil, item, quarantine.ReleaseRequest{Reason: "a test file", Insist: true})
	fatal(t, err)
	f.wait("release", func() bool { return f.itemState(item) == quarantine.Released })
	if n := f.copies(item); n != 1 {
		t.Errorf("%d copies", n)
	}
	it, err = f.held.Get(ctx, item)
	fatal(t, err)
	if r := it.Recipients[0]; r.ReplyCode != 250 || r.ReplyHost == "" || r.ReplyAt == nil || r.ReplyText == "" {
		t.Errorf("reply of the next hop: %+v", r)
	}
}

// TestRelease_WorseByAnotherScan: what a person's scan finds while a release waits is
// the item's already when the worker's scan comes, and stops the release all the
// same; also where only the name is new and the class is not.
func TestRelease_WorseByAnotherScan(t *testing.T) {
	t.Parallel()
	for name, class := range map[string]string{"graver": "spam", "another malware": "malware"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newReleaseFaults(t, quarantine.SingleOperator)
			ctx := context.Background()
			engines := &said{report: policy.Report{Engines: []policy.EngineAnswer{{Engine: "clamav", Version: "1.4", Answered: true}},
				Findings: []policy.Finding{{Engine: "clamav", Name: "Win.Late", Class: policy.Malware}}}}
			f.held.UseEngines(engines)
			item := f.holdMarked()
			f.exec("UPDATE quarantine_item SET class = $2 WHERE id = $1", item, class)
			_, err := f.held.Release(ctx, f.person, nil, item, quarantine.ReleaseRequest{Reason: "test"})
			fatal(t, err)
			_, err = f.held.Rescan(ctx, f.person, nil, item, "a second look")
			fatal(t, err)
			f.work(f.queue)
			f.wait("stopped release", func() bool { return f.itemState(item) == quarantine.Quarantined })
			if n := len(f.hop.Messages()); n != 0 {
				t.Errorf("%d copies went out", n)
			}
		})
	}
}
