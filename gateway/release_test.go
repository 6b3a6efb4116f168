package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/gateway/queue"
	"mailward/internal/testenv"
	"mailward/policy"
	"mailward/quarantine"
)

func (f *fixture) heldItem(subject string, to ...string) quarantine.Item {
	f.t.Helper()
	f.wantReply(f.send(subject, to...), 250)
	p, err := f.held.List(context.Background(), quarantine.Filter{Workspaces: []uuid.UUID{policy.DefaultWorkspace}, Query: subject})
	if err != nil || len(p.Items) != 1 {
		f.t.Fatalf("items %v, %v", p.Items, err)
	}
	return p.Items[0]
}

func (f *fixture) release(it quarantine.Item) {
	f.t.Helper()
	_, err := f.held.Release(context.Background(), f.analyst, nil, it.ID, quarantine.ReleaseRequest{Reason: "test"})
	fatal(f.t, err)
}

func (f *fixture) wantState(it quarantine.Item, want quarantine.State) quarantine.Item {
	f.t.Helper()
	var got quarantine.Item
	f.wait(fmt.Sprintf("state %s", want), func() bool {
		var err error
		got, err = f.held.Get(context.Background(), it.ID)
		return err == nil && got.State == want
	})
	return got
}

func TestRelease(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	f.work()
	it := f.heldItem("malware released", "bob@ours.example", "carol@ours.example")
	f.release(it)
	got := f.wantState(it, quarantine.Released)
	for _, m := range f.wantHop(2) {
		if !bytes.HasSuffix(m.Data, []byte("Subject: malware released\r\n\r\nbody of malware released\r\n")) || len(m.To) != 1 {
			t.Errorf("to %v: %s", m.To, m.Data)
		}
	}
	for _, r := range got.Recipients {
		if r.ReplyCode != 250 || r.ReplyText == "" {
			t.Errorf("reply of the next hop is not stored: %+v", r)
		}
	}
	f.wait("events", func() bool {
		return f.count("SELECT count(*) FROM audit.event WHERE action = 'quarantine.release.result' AND outcome = 'success'") == 2
	})
	if n := f.count("SELECT count(*) FROM release WHERE state = 'done'"); n != 1 {
		t.Errorf("%d releases are done", n)
	}
}

func TestRelease_LostReplyIsNotSentAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	it := f.heldItem("malware lost")
	f.hop.Fail(testenv.DropAfterDot)
	f.work()
	f.release(it)
	f.wantState(it, quarantine.OutcomeUnknown)
	f.hop.Fail(testenv.NoFault)
	time.Sleep(1500 * time.Millisecond) // longer than the worker's poll
	f.wantHop(1)
}

// TestRelease_WorkerDiedAfterTheDot leaves a row as a kill between the dot and
// the reply would.
func TestRelease_WorkerDiedAfterTheDot(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	it := f.heldItem("malware killed")
	f.release(it)
	_, err := f.db.Admin(t).Exec(context.Background(), "UPDATE delivery SET state = 'delivering', dot_sent_at = now(), lease_until = now() - interval '1 second', lease_owner = 'dead'")
	fatal(t, err)
	f.work()
	f.wantState(it, quarantine.OutcomeUnknown)
	f.wantHop(0)
}

func TestRelease_WorkerDiedBeforeTheDot(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	it := f.heldItem("malware killed early")
	f.release(it)
	_, err := f.db.Admin(t).Exec(context.Background(), "UPDATE delivery SET state = 'delivering', lease_until = now() - interval '1 second', lease_owner = 'dead'")
	fatal(t, err)
	f.work()
	f.wantState(it, quarantine.Released)
	f.wantHop(1)
}

func TestRelease_RefusedAndPutOff(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	f.work()
	it := f.heldItem("malware put off")
	f.hop.Refuse(451)
	f.release(it)
	f.wait("first attempt", func() bool {
		return f.count("SELECT count(*) FROM delivery WHERE state = 'queued' AND attempts = 1 AND reply_code = 451") == 1
	})
	f.hop.Refuse(0)
	_, err := f.db.Admin(t).Exec(context.Background(), "UPDATE delivery SET next_attempt_at = now()")
	fatal(t, err)
	f.wantState(it, quarantine.Released)

	f.hop.Refuse(550)
	it = f.heldItem("malware refused")
	f.release(it)
	got := f.wantState(it, quarantine.Failed)
	if got.Recipients[0].ReplyCode != 550 {
		t.Errorf("%+v", got.Recipients[0])
	}
	f.hop.Refuse(0)
	f.release(it) // A person may try again.
	f.wantState(it, quarantine.Released)
}

func TestRelease_Forged(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	it := f.heldItem("malware forged")
	f.release(it)
	_, err := f.db.Admin(t).Exec(context.Background(), "UPDATE delivery SET recipient = 'eve@ours.example'")
	fatal(t, err)
	f.work()
	f.wantState(it, quarantine.Failed)
	f.wantHop(0)
	f.wait("alarm", func() bool { return f.count("SELECT count(*) FROM audit.event WHERE action = 'guard.violation'") == 1 })
}

// TestRelease_TakenOut: a released mail that a person takes out of the delivery
// queue is back in quarantine, and can be released again.
func TestRelease_TakenOut(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	it := f.heldItem("malware taken out")
	f.release(it)
	var id uuid.UUID
	fatal(t, f.db.Pool.QueryRow(context.Background(), "SELECT id FROM delivery WHERE kind = 'release'").Scan(&id))
	fatal(t, f.queue.Delete(context.Background(), queue.Person{Actor: f.analyst, Reason: "the wrong one"}, id, true))
	f.wantState(it, quarantine.Failed)
	if n := f.count("SELECT count(*) FROM delivery WHERE kind = 'dsn'"); n != 0 {
		t.Error("the sender of malware was told that it did not arrive")
	}
	if n := f.count("SELECT count(*) FROM audit.event WHERE action = 'queue.delete'"); n != 1 {
		t.Errorf("%d events", n)
	}
	if n := f.count("SELECT count(*) FROM release WHERE state = 'approved'"); n != 0 {
		t.Error("the release is still open")
	}
	f.work()
	f.release(it)
	f.wantState(it, quarantine.Released)
	f.wantHop(1)
}

// TestRelease_CarriesWishes: what the client asked to hear of a held mail goes
// on with its release.
func TestRelease_CarriesWishes(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	f.hop.Features("PIPELINING", "8BITMIME", "DSN")
	f.newHops()
	_, err := f.srv.deps.Hops.Check(context.Background(), f.hop.Addr) // learns what the hop can do
	fatal(t, err)
	f.srv.deps.Policies.SetStatic(routesTo(f.hop.Addr))
	c := f.dial()
	c.say("MAIL FROM:<erika@sender.example> RET=HDRS ENVID=e1")
	f.wantReply(c.say("RCPT TO:<bob@ours.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;bobby@ours.example"), 250)
	c.say("DATA")
	io.WriteString(c, "Subject: malware with wishes\r\n\r\nx\r\n.\r\n")
	f.wantReply(c.reply(), 250)
	p, err := f.held.List(context.Background(), quarantine.Filter{Workspaces: []uuid.UUID{policy.DefaultWorkspace}, Query: "with wishes"})
	if err != nil || len(p.Items) != 1 {
		t.Fatalf("%v %v", p.Items, err)
	}
	f.release(p.Items[0])
	if n := f.count("SELECT count(*) FROM delivery WHERE ret = 'HDRS' AND envid = 'e1' AND notify = 'SUCCESS,DELAY' AND orcpt = 'rfc822;bobby@ours.example'"); n != 1 {
		t.Error("the wishes are lost")
	}
}
