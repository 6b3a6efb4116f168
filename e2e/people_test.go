package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailward/internal/testenv"
)

// TestPeople hands an installation that wants four eyes, with two people in it, to
// the browser: workspaces, users, tokens and what waits for a second person. Then
// it looks for the mail that told the second one.
func TestPeople(t *testing.T) {
	t.Parallel()
	testenv.Require(t, "node", "chromium-headless-shell")
	hop := testenv.NextHop(t)
	s := newServer(t, hop.Addr, "")
	// What is taken back is taken back by hand: the default time, not that of other tests.
	s.editConf("four_eyes: single_operator", "four_eyes: required", "take_back: 1s", "take_back: 10s")
	site := "http://localhost:" + s.http[strings.LastIndex(s.http, ":")+1:]
	s.env = []string{"MAILWARD_HTTP_PUBLIC_URL=" + site}
	s.start()
	const second = "second@" + ourDomain
	s.addPerson(second, "Second Person", "--role", "approver", "--install-role", "operator")
	s.addPerson("ana@"+ourDomain, "Ana Analyst", "--role", "analyst")
	s.addPerson("otto@"+ourDomain, "Otto Approver", "--role", "approver")
	s.addPerson("olga@"+ourDomain, "Olga Approver", "--role", "approver")
	outsideURL := outside(t, s, hop)
	s.wantDigests(t)
	readScripts(t)
	// One after the other, in this order: digests are sent while the first one goes on.
	cmd := exec.Command("node", "--test", "--test-concurrency=1", "--test-reporter=spec", "e2e/people.test.mjs", "e2e/recipients.test.mjs", "e2e/release.test.mjs")
	cmd.Dir = filepath.Join("..", "webui")
	cmd.Env = append(os.Environ(), "BASE_URL="+site, "ADMIN_EMAIL="+adminEmail, "ADMIN_PASSWORD="+adminPassword, "SECOND_EMAIL="+second, "OUTSIDE_URL="+outsideURL)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("browser: %v\n%s", err, out.String())
	}
	t.Log(tail(out.String(), 20))
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		for _, m := range hop.Messages() {
			if strings.Contains(string(m.Data), "To: <"+second+">") && strings.Contains(string(m.Data), "second person") {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("the second person was told nothing")
		}
	}
}

// wantDigests has the default workspace tell its recipients, in German, now: of two
// mails that bob can have, and one that carol can ask for.
func (s *server) wantDigests(t *testing.T) {
	t.Helper()
	a := s.api("admin")
	hours := []int{}
	for h := range 24 {
		hours = append(hours, h)
	}
	for path, body := range map[string]any{
		"POST policy-entries": map[string]any{"kind": "block", "match": "sender_domain", "value": "bulk.example", "class": "spam", "action": "quarantine", "reason": "bulk mail"},
		"PUT digest": map[string]any{"enabled": true, "hours": hours, "weekdays": []int{1, 2, 3, 4, 5, 6, 7}, "time_zone": "Europe/Berlin", "language": "de",
			"release": []string{"spam"}, "request": []string{"phishing"}, "version": 1, "reason": "agreed with the works council"},
	} {
		var said json.RawMessage
		method, path, _ := strings.Cut(path, " ")
		if c := a.do(method, path, body, &said); c >= 300 {
			t.Fatalf("%s %s: %d %s", method, path, c, said)
		}
	}
	for _, m := range []struct {
		from, to string
		msg      []byte
	}{
		{"news@bulk.example", "bob@ours.example", bytes.Replace(text("offer", "Buy now."), []byte("Subject: offer"), []byte("Subject: Offer & <b>more</b>: https://shop.bulk.example"), 1)},
		{"news@bulk.example", "bob@ours.example", text("Second offer", "Buy now, please.")},
		{"mallory@sender.example", "carol@ours.example", htmlMail("Password of carol")},
	} {
		if r := s.sendMail(m.from, []string{m.to}, m.msg); code(r) != 250 {
			t.Fatalf("%q", r)
		}
	}
	s.digestsAreDue()
}
