package e2e

import (
	"bytes"
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
	testenv.Require(t, "node", "chromium")
	hop := testenv.NextHop(t)
	s := newServer(t, hop.Addr, "")
	conf, err := os.ReadFile(s.conf)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.conf, bytes.Replace(conf, []byte("four_eyes: single_operator"), []byte("four_eyes: required"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	site := "http://localhost:" + s.http[strings.LastIndex(s.http, ":")+1:]
	s.env = []string{"MAILWARD_HTTP_PUBLIC_URL=" + site}
	s.start()
	const second = "second@" + ourDomain
	make := exec.Command(filepath.Join(binDir, "mailward"), "user", "create", "--email", second, "--name", "Second Person", "--role", "approver", "--install-role", "operator", "--password-stdin", "--config", s.conf)
	make.Env = append(os.Environ(), s.env...)
	make.Stdin = strings.NewReader(adminPassword)
	if out, err := make.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command("node", "--test", "--test-reporter=spec", "e2e/people.test.mjs")
	cmd.Dir = filepath.Join("..", "webui")
	cmd.Env = append(os.Environ(), "BASE_URL="+site, "ADMIN_EMAIL="+adminEmail, "ADMIN_PASSWORD="+adminPassword, "SECOND_EMAIL="+second)
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
