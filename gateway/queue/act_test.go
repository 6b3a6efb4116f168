package queue

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"slices"

	"mailward/gateway/hop"
	"mailward/policy"
)

var here = []uuid.UUID{policy.DefaultWorkspace}

func (f *fixture) who(reason string) Person {
	return Person{Actor: f.person, Roles: []string{"admin"}, Reason: reason}
}

func (f *fixture) events(action string) int {
	f.t.Helper()
	return f.count("SELECT count(*) FROM audit.event WHERE action = $1", action)
}

func TestList(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	m := f.mail()
	ids := f.later(m, rcpt("bob@ours.example"), rcpt("eve@dead.example"))
	f.later(f.mail(), rcpt("ann@ours.example"))
	ctx := context.Background()
	for name, tt := range map[string]struct {
		filter Filter
		want   int
	}{
		"all":         {Filter{}, 3},
		"one mail":    {Filter{MailID: m.Envelope.ID}, 2},
		"destination": {Filter{Destination: "127.0.0.1:1"}, 1},
		"state":       {Filter{States: []string{"delivered"}}, 0},
		"kind":        {Filter{Kinds: []string{Relay}}, 3},
		"recipient":   {Filter{Query: "EVE@"}, 1},
		"percent":     {Filter{Query: "%"}, 0},
		"NUL":         {Filter{Query: "b\x00ob"}, 1},
		"id":          {Filter{Query: ids[0].String()}, 1},
	} {
		tt.filter.Workspaces = here
		p, err := f.queue.List(ctx, tt.filter)
		if err != nil || len(p.Items) != tt.want {
			t.Errorf("%s: %d deliveries, want %d (%v)", name, len(p.Items), tt.want, err)
		}
	}
	first, err := f.queue.List(ctx, Filter{Workspaces: here, Limit: 2})
	fatal(t, err)
	second, err := f.queue.List(ctx, Filter{Workspaces: here, Limit: 2, Cursor: first.Next})
	if err != nil || len(first.Items) != 2 || len(second.Items) != 1 || second.Next != "" || second.Items[0].ID == first.Items[1].ID {
		t.Errorf("pages of %d and %d, %v", len(first.Items), len(second.Items), err)
	}
	var oldest []uuid.UUID
	for cursor, more := "", true; more; more = cursor != "" {
		p, err := f.queue.List(ctx, Filter{Workspaces: here, Oldest: true, Limit: 2, Cursor: cursor})
		fatal(t, err)
		for _, e := range p.Items {
			oldest = append(oldest, e.ID)
		}
		cursor = p.Next
	}
	if want := []uuid.UUID{second.Items[0].ID, first.Items[1].ID, first.Items[0].ID}; !slices.Equal(oldest, want) || want[0] != ids[0] {
		t.Errorf("oldest first: %v, want %v", oldest, want)
	}
	if p, err := f.queue.List(ctx, Filter{Workspaces: []uuid.UUID{uuid.New()}}); err != nil || len(p.Items) != 0 {
		t.Errorf("another workspace sees %d deliveries, %v", len(p.Items), err)
	}
	if _, err := f.queue.List(ctx, Filter{Workspaces: here, Cursor: "x"}); !errors.Is(err, ErrBadCursor) {
		t.Errorf("bad cursor: %v", err)
	}
	waiting, err := f.queue.Waiting(ctx, here)
	if err != nil || len(waiting) != 2 || waiting[0].Count != 2 || waiting[0].Destination != f.hop.Addr {
		t.Errorf("%+v, %v", waiting, err)
	}
}

func TestRetry(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.later(f.mail(), rcpt("bob@ours.example"))[0]
	f.exec("UPDATE delivery SET next_attempt_at = now() + interval '1 hour' WHERE id = $1", id)
	ctx := context.Background()
	if err := f.queue.Retry(ctx, f.who(" "), id); !errors.Is(err, ErrReasonRequired) {
		t.Errorf("without a reason: %v", err)
	}
	if err := f.queue.Retry(ctx, f.who("why not"), uuid.New()); !errors.Is(err, ErrNotFound) {
		t.Errorf("what is not there: %v", err)
	}
	f.work(f.queue)
	fatal(t, f.queue.Retry(ctx, f.who("the server is back"), id))
	f.wantState(id, Delivered)
	if n := f.events("queue.retry"); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
	if err := f.queue.Retry(ctx, f.who("again"), id); !errors.Is(err, ErrState) {
		t.Errorf("what has ended: %v", err)
	}
	e, tries, err := f.queue.Get(ctx, id)
	if err != nil || e.State != Delivered || len(tries) != 1 || tries[0].Result != "delivered" {
		t.Errorf("%+v %+v %v", e, tries, err)
	}
}

func TestRetryDestination(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ids := f.later(f.mail(), rcpt("bob@ours.example"), rcpt("eve@ours.example"))
	f.exec("UPDATE delivery SET next_attempt_at = now() + interval '1 hour'")
	ctx := context.Background()
	if _, err := f.queue.RetryDestination(ctx, f.who("up"), []uuid.UUID{uuid.New()}, f.hop.Addr); !errors.Is(err, ErrNotFound) {
		t.Errorf("another workspace's: %v", err)
	}
	other := uuid.New()
	f.exec("INSERT INTO workspace (id, name) VALUES ($1, 'other')", other)
	f.exec("UPDATE delivery SET workspace_id = $2 WHERE id = $1", ids[1], other)
	f.work(f.queue)
	if n, err := f.queue.RetryDestination(ctx, f.who("up"), append(here, other), f.hop.Addr); err != nil || n != 2 {
		t.Fatalf("%d, %v", n, err)
	}
	for _, id := range ids {
		f.wantState(id, Delivered)
	}
	if n := f.events("queue.retry"); n != 2 {
		t.Errorf("%d events, want one for each workspace", n)
	}
}

func TestDelete(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ids := f.later(f.mail(), rcpt("bob@dead.example"), rcpt("eve@dead.example"), hop.Recipient{Address: "ann@dead.example", Notify: "NEVER"})
	f.exec("UPDATE delivery SET next_attempt_at = now() + interval '1 hour'")
	ctx := context.Background()
	fatal(t, f.queue.Delete(ctx, f.who("sent by mistake"), ids[0], true))
	fatal(t, f.queue.Delete(ctx, f.who("sent by mistake"), ids[1], false))
	fatal(t, f.queue.Delete(ctx, f.who("sent by mistake"), ids[2], true))
	if n := f.count("SELECT count(*) FROM delivery WHERE state = 'deleted'"); n != 3 {
		t.Errorf("%d deleted, want 3", n)
	}
	if n := f.count("SELECT count(*) FROM delivery WHERE kind = 'dsn' AND recipient = 'erika@sender.example'"); n != 1 {
		t.Errorf("%d notifications, want 1: one was not wanted by us, one not by the sender", n)
	}
	if n := f.events("queue.delete"); n != 3 {
		t.Errorf("%d events, want 3", n)
	}
	if err := f.queue.Delete(ctx, f.who("again"), ids[0], false); !errors.Is(err, ErrState) {
		t.Errorf("what is gone: %v", err)
	}
	f.work(f.queue)
	f.wait("notification at the sender", func() bool { return len(f.hop.Messages()) == 1 })
	if m := string(f.hop.Messages()[0].Data); !strings.Contains(m, "bob@dead.example") || !strings.Contains(m, "have ended the delivery") || strings.Contains(m, "eve@dead.example") {
		t.Errorf("the notification:\n%s", m)
	}
}

// TestDelete_UnderWay: what a worker has in hand cannot be taken from it.
func TestDelete_UnderWay(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.later(f.mail(), rcpt("bob@ours.example"))[0]
	f.exec("UPDATE delivery SET state = 'delivering', lease_owner = 'x', lease_until = $2 WHERE id = $1", id, time.Now().Add(time.Hour))
	if err := f.queue.Delete(context.Background(), f.who("now"), id, false); !errors.Is(err, ErrUnderWay) {
		t.Errorf("%v", err)
	}
	if err := f.queue.Retry(context.Background(), f.who("now"), id); !errors.Is(err, ErrUnderWay) {
		t.Errorf("%v", err)
	}
	if n := f.events("queue.delete") + f.events("queue.retry"); n != 0 {
		t.Errorf("%d events of acts that did not happen", n)
	}
}
