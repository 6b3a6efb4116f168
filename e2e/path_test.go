package e2e

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"mailward/internal/testenv"
)

// bodyBelowHeaders cuts the lines that the gateway put on top. It fails the
// test when what is left is not what was sent.
func wantBelowOurHeaders(t *testing.T, got, sent []byte) {
	t.Helper()
	i := bytes.Index(got, sent)
	if i < 0 || len(got) != i+len(sent) {
		t.Fatalf("the mail at the next hop does not end in the %d bytes sent (got %d bytes, sent part at %d)", len(sent), len(got), i)
	}
	top := string(got[:i])
	for _, h := range []string{"Received: ", "X-Mailward-ID: ", "X-Mailward-Verdict: ", "Authentication-Results: mx.ours.example"} {
		if strings.Count("\r\n"+top, "\r\n"+h) != 1 {
			t.Errorf("our header %q stands %d times on top, want once:\n%s", h, strings.Count("\r\n"+top, "\r\n"+h), top)
		}
	}
}

func TestMailPath(t *testing.T) {
	t.Parallel()
	hop := testenv.NextHop(t)
	s := startServer(t, hop.Addr, "")
	a := s.api("admin")

	arrives := func(subject string, msg []byte) func(t *testing.T) {
		return func(t *testing.T) {
			if r := s.sendMail("erika@sender.example", []string{"bob@ours.example"}, msg); code(r) != 250 {
				t.Fatalf("reply %q, want 250", r)
			}
			m := waitForMail(t, hop, subject)
			wantBelowOurHeaders(t, m, msg)
		}
	}
	eightBit := text("eight-bit", "Grüße aus Köln, ünd Ärger mit 8 Bit: \xe4\xf6\xfc")
	t.Run("clean mail arrives as it was", arrives("clean", text("clean", "Good morning.")))
	t.Run("8-bit mail", arrives("eight-bit", eightBit))
	t.Run("dots", arrives("dots", text("dots", ".\r\n..\r\n.leading\r\nend.")))
	t.Run("20 MB mail", arrives("big", attachment("big", "data.bin", "application/octet-stream", noise(1, 14<<20))))
	t.Run("empty body", arrives("empty-body", []byte("From: a@sender.example\r\nSubject: empty-body\r\n\r\n")))

	for name, msg := range map[string][]byte{
		"eicar-plain":  text("eicar-plain", string(eicar())),
		"eicar-base64": attachment("eicar-base64", "a.com", "application/octet-stream", eicar()),
		"eicar-zip":    attachment("eicar-zip", "a.zip", "application/zip", zipped(t, "a.com", eicar())),
		"eicar-zipzip": attachment("eicar-zipzip", "a.zip", "application/zip", zipped(t, "b.zip", zipped(t, "a.com", eicar()))),
	} {
		t.Run(name, func(t *testing.T) {
			if r := s.sendMail("mallory@sender.example", []string{"bob@ours.example"}, msg); code(r) != 250 {
				t.Fatalf("reply %q, want 250 (held)", r)
			}
			it := a.itemBySubject(name)
			if it.Class != "malware" || it.State != "quarantined" {
				t.Errorf("item is %s/%s, want malware/quarantined", it.Class, it.State)
			}
			wantClamFinding(t, a, it.ID)
			wantNotAtHop(t, hop, name)
		})
	}

	t.Run("a mail that only a YARA rule hits", func(t *testing.T) {
		if r := s.sendMail("mallory@sender.example", []string{"bob@ours.example"}, yaraOnly("yara-only")); code(r) != 250 {
			t.Fatalf("reply %q, want 250", r)
		}
		it := a.itemBySubject("yara-only")
		if len(it.Findings) == 0 || it.Findings[0].Engine != "yara" {
			t.Errorf("findings %+v, want one of engine yara", it.Findings)
		}
		wantNotAtHop(t, hop, "yara-only")
	})
	t.Run("bare LF is refused", func(t *testing.T) {
		r := s.sendMail("erika@sender.example", []string{"bob@ours.example"}, bytes.Replace(text("bare-lf", "one\r\ntwo"), []byte("one\r\n"), []byte("one\n"), 1))
		if code(r) != 554 {
			t.Errorf("reply %q, want 554", r)
		}
		wantNotAtHop(t, hop, "bare-lf")
	})
	t.Run("no open relay", func(t *testing.T) {
		c := dialSMTP(t, s.smtp)
		c.send("MAIL FROM:<erika@sender.example>\r\n")
		for _, rcpt := range []string{"x@elsewhere.example", "x%elsewhere.example@", `"x@elsewhere.example"@other.example`, "@ours.example:x@elsewhere.example"} {
			if r, _ := c.send("RCPT TO:<" + rcpt + ">\r\n"); code(r) < 500 {
				t.Errorf("RCPT TO:<%s>: %q, want 5xx", rcpt, r)
			}
		}
		if r, _ := c.send("RCPT TO:<x@elsewhere.example>\r\n"); code(r) != 550 {
			t.Errorf("foreign domain: %q, want 550", r)
		}
	})
	t.Run("null sender", func(t *testing.T) {
		msg := text("bounce", "Your mail could not be delivered.")
		if r := s.sendMail("", []string{"bob@ours.example"}, msg); code(r) != 250 {
			t.Fatalf("reply %q, want 250", r)
		}
		wantBelowOurHeaders(t, waitForMail(t, hop, "bounce"), msg)
	})
	t.Run("forged headers of ours are taken out", func(t *testing.T) {
		clean := text("forged", "hello")
		forged := append([]byte("X-Mailward-Verdict: clean; 0;\r\n folded\r\nAuthentication-Results: mx.ours.example; spf=pass\r\n"), clean...)
		if r := s.sendMail("erika@sender.example", []string{"bob@ours.example"}, forged); code(r) != 250 {
			t.Fatalf("reply %q, want 250", r)
		}
		wantBelowOurHeaders(t, waitForMail(t, hop, "forged"), clean)
	})
	t.Run("every mail is in the ledger with the versions of who looked", func(t *testing.T) {
		var page struct {
			Items []map[string]any `json:"items"`
		}
		if c := a.do("GET", "messages?limit=200", nil, &page); c != 200 || len(page.Items) < 11 {
			t.Fatalf("GET messages: %d with %d items", c, len(page.Items))
		}
	})
}

func wantClamFinding(t *testing.T, a *api, id string) {
	t.Helper()
	var raw []byte
	if c := a.do("GET", "quarantine/"+id, nil, &raw); c != 200 {
		t.Fatalf("GET quarantine/%s: %d %s", id, c, raw)
	}
	var it struct {
		Findings []struct{ Engine, Name string } `json:"findings"`
		Engines  []struct{ Engine, Version, Database string }
	}
	if err := json.Unmarshal(raw, &it); err != nil {
		t.Fatal(err)
	}
	found, version := false, false
	for _, f := range it.Findings {
		found = found || f.Engine == "clamav" && strings.Contains(strings.ToUpper(f.Name), "EICAR")
	}
	for _, e := range it.Engines {
		version = version || e.Engine == "clamav" && strings.Contains(e.Version, "ClamAV")
	}
	if !found || !version {
		t.Errorf("item lacks the EICAR signature name of clamav (%v) or its version (%v): %s", found, version, raw)
	}
}

// waitForMail waits until the hop has a mail with this subject.
func waitForMail(t *testing.T, hop *testenv.Hop, subject string) []byte {
	t.Helper()
	var found []byte
	eventually(t, 15*time.Second, "mail with subject "+subject+" at the next hop", func() bool {
		for _, m := range hop.Messages() {
			if bytes.Contains(m.Data, []byte("\nSubject: "+subject+"\r\n")) {
				found = m.Data
				return true
			}
		}
		return false
	})
	return found
}

func wantNotAtHop(t *testing.T, hop *testenv.Hop, subject string) {
	t.Helper()
	for _, m := range hop.Messages() {
		if bytes.Contains(m.Data, []byte("\nSubject: "+subject+"\r\n")) {
			t.Errorf("mail %q is at the next hop", subject)
		}
	}
}
