package webui

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/gateway/queue"
	"mailward/policy"
)

// fakeQueue is a delivery queue in memory.
type fakeQueue struct {
	items []queue.Entry
	done  []string
}

func testDeliveries() []queue.Entry {
	e := func(n int, kind, state, to, text string) queue.Entry {
		return queue.Entry{ID: id(900 + n), Workspace: policy.DefaultWorkspace, MailID: id(1), Kind: kind, State: state, From: "erika@sender.example", To: to, Destination: "10.0.0.5:25",
			Size: 4711, Attempts: 3, CreatedAt: testNow.Add(-time.Hour), NextAttemptAt: testNow.Add(20 * time.Minute), GiveUpAt: testNow.Add(100 * time.Hour), Code: 451, Text: text}
	}
	return []queue.Entry{e(1, queue.Relay, "queued", "bob@ours.example", "4.3.2 try later"), e(2, queue.DSN, "queued", hostileSubject, hostileSubject), e(3, queue.Release, "delivered", "eve@ours.example", "2.0.0 Ok")}
}

func (f *fakeQueue) List(_ context.Context, q queue.Filter) (queue.Page, error) {
	if q.Cursor != "" {
		return queue.Page{}, queue.ErrBadCursor
	}
	var p queue.Page
	for _, e := range f.items {
		if (q.States == nil || slices.Contains(q.States, e.State)) && (q.Query == "" || strings.Contains(e.To, q.Query)) && slices.Contains(q.Workspaces, e.Workspace) {
			p.Items = append(p.Items, e)
		}
	}
	if q.Oldest {
		slices.Reverse(p.Items)
	}
	return p, nil
}

func (f *fakeQueue) Get(_ context.Context, want uuid.UUID) (queue.Entry, []queue.Try, error) {
	for _, e := range f.items {
		if e.ID == want {
			return e, []queue.Try{{Number: 3, At: testNow.Add(-time.Minute), TookMS: 12, Result: "put_off", Host: "10.0.0.5:25", Code: 451, Text: e.Text}}, nil
		}
	}
	return queue.Entry{}, nil, queue.ErrNotFound
}

func (f *fakeQueue) Waiting(context.Context, []uuid.UUID) ([]queue.Waiting, error) {
	since := testNow.Add(-30 * time.Minute)
	return []queue.Waiting{{Destination: "10.0.0.5:25", Count: 1200, Oldest: testNow.Add(-2 * time.Hour), NextAttempt: testNow, DownSince: &since, LastError: "connection refused"}}, nil
}

func (f *fakeQueue) Retry(_ context.Context, who queue.Person, e uuid.UUID) error {
	f.done = append(f.done, "retry "+e.String()+" "+who.Reason)
	return nil
}

func (f *fakeQueue) RetryDestination(_ context.Context, who queue.Person, ws []uuid.UUID, d string) (int64, error) {
	f.done = append(f.done, "destination "+d+" "+who.Reason)
	return int64(len(ws)), nil
}

func (f *fakeQueue) Delete(_ context.Context, who queue.Person, e uuid.UUID, notify bool) error {
	if notify {
		who.Reason += " (told)"
	}
	f.done = append(f.done, "delete "+e.String()+" "+who.Reason)
	return nil
}

func TestQueue_Pages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	list := s.get(t, "/queue")
	for _, want := range []string{"bob@ours.example", "10.0.0.5:25", "1,200", "connection refused", "4.3.2 try later", `name="reason"`} {
		if !strings.Contains(list, want) {
			t.Errorf("the list lacks %q", want)
		}
	}
	if strings.Contains(list, "eve@ours.example") {
		t.Error("what has ended is shown among what waits")
	}
	if all := s.get(t, "/queue?state=all"); !strings.Contains(all, "eve@ours.example") {
		t.Error("what has ended cannot be seen")
	}
	oldest := s.get(t, "/queue?state=all&order=oldest")
	if at := strings.Index(oldest, "eve@ours.example"); at < 0 || at > strings.Index(oldest, "bob@ours.example") || !strings.Contains(oldest, `<option value="oldest" selected`) {
		t.Error("the oldest does not come first")
	}
	one := s.get(t, "/queue/"+id(901).String())
	for _, want := range []string{"put off", "/messages/" + id(1).String(), "act=retry", "act=delete"} {
		if !strings.Contains(strings.ToLower(one), want) {
			t.Errorf("the delivery lacks %q", want)
		}
	}
	if ended := s.get(t, "/queue/"+id(903).String()); strings.Contains(ended, "act=delete") {
		t.Error("a delivery that has ended can be deleted")
	}
	if r := s.call(t, http.MethodGet, "/queue/"+id(5).String(), nil); r.Code != http.StatusNotFound {
		t.Errorf("a delivery that is not there: %d", r.Code)
	}
}

func TestQueue_Acts(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	waits := "/queue/" + id(901).String()
	for path, form := range map[string]url.Values{waits + "/retry": {"reason": {"x"}}, waits + "/delete": {}} {
		if r := s.call(t, http.MethodPost, path, form); r.Code != http.StatusUnprocessableEntity {
			t.Errorf("%s without a reason: %d", path, r.Code)
		}
	}
	if len(s.queue.done) != 0 {
		t.Fatalf("done without a reason: %v", s.queue.done)
	}
	for _, step := range []struct {
		path string
		form url.Values
		want string
	}{
		{waits + "/retry", url.Values{"reason": {"the server is back"}}, "retry " + id(901).String() + " the server is back"},
		{waits + "/delete", url.Values{"reason": {"sent by mistake"}, "notify": {"yes"}}, "delete " + id(901).String() + " sent by mistake (told)"},
		{"/queue/retry", url.Values{"reason": {"it is up"}, "destination": {"10.0.0.5:25"}}, "destination 10.0.0.5:25 it is up"},
	} {
		if r := s.call(t, http.MethodPost, step.path, step.form); r.Code != http.StatusSeeOther {
			t.Errorf("%s: %d", step.path, r.Code)
		}
		if n := len(s.queue.done); n == 0 || s.queue.done[n-1] != step.want {
			t.Errorf("%s: %v", step.path, s.queue.done)
		}
	}
	// Without the right there is no button, and no act behind it.
	s.accounts.person.can = func(right string, _ uuid.UUID) bool { return right == rightViewMeta }
	if one := s.get(t, waits); strings.Contains(one, "act=delete") || strings.Contains(one, "act=retry") {
		t.Error("buttons without the right")
	}
	n := len(s.queue.done)
	for _, path := range []string{waits + "/retry", waits + "/delete", "/queue/retry"} {
		if r := s.call(t, http.MethodPost, path, url.Values{"reason": {"because"}, "destination": {"10.0.0.5:25"}}); r.Code != http.StatusForbidden {
			t.Errorf("%s without the right: %d", path, r.Code)
		}
	}
	if len(s.queue.done) != n {
		t.Errorf("done without the right: %v", s.queue.done[n:])
	}
}
