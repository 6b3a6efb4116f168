package webui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime/quotedprintable"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"mailward/gateway/queue"
	"mailward/identity"
	"mailward/internal/pg"
	"mailward/policy"
	"mailward/quarantine"
	"mailward/quarantine/digest"
)

// newDigestSite serves a domain, to which digests can go.
func newDigestSite(t *testing.T) *realSite {
	t.Helper()
	s := newRealSite(t, identity.SingleOperator)
	_, err := s.db.Admin(t).Exec(t.Context(), "INSERT INTO domain (id, workspace_id, name, next_hop) VALUES (gen_random_uuid(), $1, 'ours.example', '127.0.0.1:1') ON CONFLICT DO NOTHING", policy.DefaultWorkspace)
	must(t, err)
	must(t, s.srv.deps.Policies.Load(t.Context()))
	return s
}

func (s *realSite) putDigests(set digest.Timetable) {
	s.t.Helper()
	must(s.t, s.digests.Put(s.t.Context(), pg.Actor{Type: pg.ActorUser, UserID: s.admin.ID, Email: s.admin.Email}, policy.DefaultWorkspace, set, "test"))
}

// digestOf is the text of the newest digest that waits in the delivery queue.
func (s *realSite) digestOf() string {
	s.t.Helper()
	var ref quarantine.Ref
	must(s.t, s.db.Pool.QueryRow(context.Background(), "SELECT b.wrapped_key, b.name FROM delivery d JOIN blob b ON b.name = d.blob_name WHERE d.kind = 'dsn' ORDER BY d.id DESC LIMIT 1").Scan(&ref.Key, &ref.Name))
	r, err := s.held.Blobs().Open(context.Background(), ref)
	must(s.t, err)
	defer r.Close()
	raw, err := io.ReadAll(r)
	must(s.t, err)
	if h := string(raw); !strings.Contains(h, "Auto-Submitted: auto-generated\r\n") || !strings.Contains(h, "List-Id: <quarantine.mx.ours.example>\r\n") || !strings.Contains(h, "text/html") {
		s.t.Errorf("digest:\n%.600s", h)
	}
	plain, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(string(raw))))
	must(s.t, err)
	return string(plain)
}

func (s *realSite) follow(method, path string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequest(method, s.URL+path, nil)
	must(s.t, err)
	res, err := http.DefaultClient.Do(req)
	must(s.t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	must(s.t, err)
	return res.StatusCode, string(b)
}

func (s *realSite) recipientState(address string) (st string) {
	s.t.Helper()
	must(s.t, s.db.Pool.QueryRow(context.Background(), "SELECT state FROM quarantine_recipient WHERE address = $1", address).Scan(&st))
	return st
}

var linkOf = regexp.MustCompile(`http://mx\.ours\.example(/digest/[A-Za-z0-9_-]+)`)

// TestDigestLinks: a digest tells of what its workspace wants told, never of
// malware; whoever follows its links does nothing; its form acts once, as the
// recipient; and a link that was tampered with is none.
func TestDigestLinks(t *testing.T) {
	t.Parallel()
	s, ctx := newDigestSite(t), context.Background()
	set := digest.Timetable{Enabled: true, Hours: []int{8}, Weekdays: []int{1}, TimeZone: "Europe/Berlin", Language: "de", Release: []policy.Class{policy.Spam}, Request: []policy.Class{policy.Phishing}}
	s.putDigests(set)
	for to, class := range map[string]string{"spam@ours.example": "spam", "phish@ours.example": "phishing", "virus@ours.example": "malware"} {
		id := s.hold(to).ID
		_, err := s.db.Admin(t).Exec(ctx, "UPDATE quarantine_item SET class = $2 WHERE id = $1", id, class)
		must(t, err)
	}
	system := pg.System("digest", "test")
	if err := s.digests.Send(ctx, system, policy.DefaultWorkspace, set, "virus@ours.example", true); err == nil {
		t.Error("a digest told of malware")
	}
	must(t, s.digests.Send(ctx, system, policy.DefaultWorkspace, set, "spam@ours.example", false))
	link := linkOf.FindStringSubmatch(s.digestOf())[1]
	if err := s.digests.Send(ctx, system, policy.DefaultWorkspace, set, "spam@ours.example", false); err == nil {
		t.Error("told twice of the same")
	}
	for range 3 { // a scanner of links
		if code, text := s.follow("GET", link); code != 200 || !strings.Contains(text, "spam@ours.example") || !strings.Contains(text, "Mail an mich zustellen") {
			t.Fatalf("%d %.900s", code, text)
		}
	}
	if st := s.recipientState("spam@ours.example"); st != "quarantined" {
		t.Fatalf("following a link made it %s", st)
	}
	forged := link[:len(link)-2] + "AA"
	if code, _ := s.follow("POST", forged); code != http.StatusGone {
		t.Errorf("forged link: %d", code)
	}
	if code, text := s.follow("POST", link); code != 200 || !strings.Contains(text, "unterwegs") {
		t.Fatalf("%d %.600s", code, text)
	}
	if st := s.recipientState("spam@ours.example"); st != "release_scheduled" {
		t.Errorf("after the form: %s", st)
	}
	if code, _ := s.follow("POST", link); code != http.StatusGone {
		t.Errorf("used twice: %d", code)
	}
	var n int
	must(t, s.db.Pool.QueryRow(ctx, "SELECT count(*) FROM audit.event WHERE convert_from(bytes, 'UTF8')::jsonb #>> '{actor,type}' = 'recipient' AND action = 'quarantine.release.execute'").Scan(&n))
	if n != 1 {
		t.Errorf("%d acts of the recipient on record, want 1", n)
	}
	must(t, s.digests.Send(ctx, system, policy.DefaultWorkspace, set, "phish@ours.example", false))
	if code, text := s.follow("POST", linkOf.FindStringSubmatch(s.digestOf())[1]); code != 200 || !strings.Contains(text, "gebeten") {
		t.Errorf("%d %.600s", code, text)
	}
	if st := s.recipientState("phish@ours.example"); st != "release_requested" {
		t.Errorf("a request: %s", st)
	}
	for range 2*linksPerMinute + 1 { // a minute may end on the way
		if code, _ := s.follow("GET", forged); code == http.StatusTooManyRequests {
			return
		}
	}
	t.Error("guessing is not slowed down")
}

// TestDigests_TellOfEachOnce: what came before a digest and was held after it is
// told by the next one, so is what did not fit, and of two runs at the same time
// one tells.
func TestDigests_TellOfEachOnce(t *testing.T) {
	t.Parallel()
	s, ctx := newDigestSite(t), context.Background()
	set := digest.Timetable{Enabled: true, Hours: []int{8, 9, 10}, Weekdays: []int{1, 2, 3, 4, 5, 6, 7}, TimeZone: "UTC", Language: "en", Release: []policy.Class{policy.Spam}, Request: []policy.Class{}}
	s.putDigests(set)
	for i := range 52 {
		s.holdMail(fmt.Sprint("spam ", i), "many@ours.example")
	}
	late := s.holdMail("late", "late@ours.example").ID
	s.holdMail("not late", "late@ours.example")
	_, err := s.db.Admin(t).Exec(ctx, "UPDATE quarantine_item SET class = 'spam'")
	must(t, err)
	// It waits for the sandbox, while a newer one is told of.
	wait := func(state string) {
		_, err := s.db.Admin(t).Exec(ctx, "UPDATE quarantine_recipient SET state = $2 WHERE item_id = $1", late, state)
		must(t, err)
		_, err = s.db.Admin(t).Exec(ctx, "UPDATE quarantine_item SET received_at = received_at - interval '1 hour' WHERE id = $1", late)
		must(t, err)
	}
	wait("held")
	now := time.Now().UTC().Truncate(24 * time.Hour).Add(24*time.Hour + 8*time.Hour + time.Minute) // tomorrow, eight o'clock
	digests := digest.New(digest.Config{Hostname: "mx.ours.example", PublicURL: "http://mx.ours.example", Key: []byte("key")},
		digest.Deps{Log: s.srv.deps.Log, DB: s.db.DB, Held: s.held, Audit: s.audit, Postman: queue.NewLetters(s.queue, nil), Now: func() time.Time { return now }})
	var sent, links int
	run := func(wantSent, wantLinks int) {
		t.Helper()
		must(t, digests.Due(ctx))
		var mails, all int
		must(t, s.db.Pool.QueryRow(ctx, "SELECT (SELECT count(*) FROM delivery WHERE kind = 'dsn'), (SELECT count(*) FROM digest_link)").Scan(&mails, &all))
		if mails-sent != wantSent || all-links != wantLinks {
			t.Errorf("%d mails with %d links, want %d with %d", mails-sent, all-links, wantSent, wantLinks)
		}
		sent, links = mails, all
	}
	run(0, 0) // the first look only notes the time
	now = now.Add(time.Hour)
	run(2, 51)
	run(0, 0) // nobody is told twice at one time
	wait("quarantined")
	now = now.Add(time.Hour)
	run(2, 3)

	_, err = s.db.Admin(t).Exec(ctx, "DELETE FROM digest_link")
	must(t, err)
	results := make(chan error, 8)
	for range cap(results) {
		go func() {
			results <- digests.Send(ctx, pg.System("digest", "test"), policy.DefaultWorkspace, set, "late@ours.example", false)
		}()
	}
	told := 0
	for range cap(results) {
		switch err := <-results; {
		case err == nil:
			told++
		case !errors.Is(err, digest.ErrNothing):
			t.Error(err)
		}
	}
	if told != 1 {
		t.Errorf("told %d times at once, want 1", told)
	}
}

// TestDigestLink_OfAnotherClass: a mail that is of a graver class by the time the
// form is sent is not released by it.
func TestDigestLink_OfAnotherClass(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	it := s.hold("spam@ours.example")
	_, err := s.held.Release(context.Background(), pg.Actor{Type: pg.ActorRecipient, Email: "spam@ours.example"}, nil, it.ID,
		quarantine.ReleaseRequest{Reason: "wanted", Recipients: []string{"spam@ours.example"}, AskedBy: it.Recipients[0].ID, AskedAs: policy.Spam})
	if !errors.Is(err, quarantine.ErrState) {
		t.Errorf("malware by the link for spam: %v", err)
	}
}
