package webui

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/gateway/hop"
	"mailward/gateway/queue"
	"mailward/identity"
	"mailward/internal/message"
	"mailward/internal/pg"
	"mailward/policy"
)

// later puts a mail into the delivery queue.
func (s *realSite) later(workspace uuid.UUID, to string) string {
	s.t.Helper()
	const text = "Subject: late\r\n\r\nbody\r\n"
	ids, err := s.queue.Later(context.Background(), queue.Mail{Workspace: workspace, Size: int64(len(text)),
		Envelope: message.Envelope{ID: uuid.Must(uuid.NewV7()), From: "erika@sender.example", ReceivedAt: time.Now()},
		Open:     func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }}, []queue.Refusal{{Recipient: hop.Recipient{Address: to}}})
	must(s.t, err)
	return ids[0].String()
}

func TestAPI_Queue(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	one, two := s.later(policy.DefaultWorkspace, "bob@ours.example"), s.later(policy.DefaultWorkspace, "eve@ours.example")
	admin, viewer := s.token(identity.Admin), s.token(identity.Viewer)
	for _, c := range []struct {
		who, method, path, body string
		want                    int
		has                     string
	}{
		{viewer, "GET", "/queue", "", 200, "bob@ours.example"},
		{viewer, "GET", "/queue?state=delivered", "", 200, `"items":[]`},
		{viewer, "GET", "/queue?state=nonsense", "", 422, ""},
		{viewer, "GET", "/queue?cursor=x", "", 422, "cursor"},
		{viewer, "GET", "/queue?mail_id=x", "", 422, "mail_id"},
		{viewer, "GET", "/queue?order=oldest", "", 200, two},
		{viewer, "GET", "/queue?order=sideways", "", 422, "order"},
		{viewer, "GET", "/queue/destinations", "", 200, "127.0.0.1:25"},
		{viewer, "GET", "/queue/" + one, "", 200, `"tries":[]`},
		{viewer, "GET", "/queue/" + uuid.NewString(), "", 404, ""},
		{viewer, "POST", "/queue/" + one + "/retry", `{"reason":"because"}`, 403, ""},
		{viewer, "POST", "/queue/" + one + "/delete", `{"reason":"because"}`, 403, ""},
		{viewer, "POST", "/queue/retry", `{"destination":"127.0.0.1:25","reason":"because"}`, 403, ""},
		{admin, "POST", "/queue/" + one + "/retry", `{"reason":" "}`, 422, "reason"},
		{admin, "POST", "/queue/" + one + "/retry", `{"reason":"the server is back"}`, 200, `"state":"queued"`},
		{admin, "POST", "/queue/retry", `{"destination":"nowhere:25","reason":"x y z"}`, 404, ""},
		{admin, "POST", "/queue/retry", `{"destination":"127.0.0.1:25","reason":"the server is back"}`, 200, `"deliveries":2`},
		{admin, "POST", "/queue/" + two + "/delete", `{"reason":"sent by mistake","notify_sender":true}`, 200, `"state":"deleted"`},
		{admin, "POST", "/queue/" + two + "/delete", `{"reason":"once more"}`, 409, ""},
	} {
		status, _, body := s.call(c.who, c.method, c.path, c.body)
		if status != c.want || !strings.Contains(body, c.has) || strings.Contains(body, "queue: ") {
			t.Errorf("%s %s %s: %d %s, want %d with %s", c.method, c.path, c.body, status, body, c.want, c.has)
		}
	}
	if n := len(s.events("queue.retry")); n != 2 {
		t.Errorf("%d retries on record, want 2", n)
	}
	if n := len(s.events("queue.delete")); n != 1 {
		t.Errorf("%d deletions on record, want 1", n)
	}
}

// TestAPI_QueueOfAnotherWorkspace: what is not ours to see is not there.
func TestAPI_QueueOfAnotherWorkspace(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	other := uuid.Must(uuid.NewV7())
	_, err := s.db.Admin(t).Exec(context.Background(), "INSERT INTO workspace (id, name) VALUES ($1, 'other')", other)
	must(t, err)
	foreign := s.later(other, "bob@other.example")
	analyst, _, err := s.ids.CreateToken(context.Background(), pg.Operator("root"), identity.NewToken{Name: "t", Role: identity.Analyst, OwnerID: s.admin.ID, Workspace: policy.DefaultWorkspace})
	must(t, err)
	if _, _, body := s.call(analyst, "GET", "/queue", ""); strings.Contains(body, "bob@other.example") {
		t.Errorf("another workspace's delivery in the list: %s", body)
	}
	for method, path := range map[string]string{"GET": "", "POST": "/retry"} {
		body := ""
		if method == "POST" {
			body = `{"reason":"because"}`
		}
		if status, _, text := s.call(analyst, method, "/queue/"+foreign+path, body); status != http.StatusNotFound {
			t.Errorf("%s %s: %d %s", method, path, status, text)
		}
	}
}
