package hop

import (
	"bufio"
	"bytes"
	"context"
	"strings"
	"testing"

	"mailward/internal/testenv"
)

// TestSend_ReusedConnectionDied: a connection that was kept for the next mail
// and has died must not cost that mail.
func TestSend_ReusedConnectionDied(t *testing.T) {
	t.Parallel()
	h := testenv.NextHop(t)
	s := New(Config{Hostname: "mx.ours.example"})
	defer s.Close()
	send := func() {
		t.Helper()
		res := s.Send(context.Background(), h.Addr, Transfer{From: "a@sender.example", To: []Recipient{{Address: "bob@ours.example"}}, Body: strings.NewReader("Subject: x\r\n\r\n")})
		if res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	send()
	c := s.take(h.Addr)
	if c == nil {
		t.Fatal("no connection was kept")
	}
	c.Close()
	s.put(h.Addr, c)
	send()
	if n := len(h.Messages()); n != 2 {
		t.Errorf("%d mails at the hop, want 2", n)
	}
}

func FuzzReadReply(f *testing.F) {
	f.Add([]byte("250-a\r\n250 b\r\n"))
	f.Add([]byte("250"))
	f.Add([]byte("999 x\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &conn{r: bufio.NewReaderSize(bytes.NewReader(b), replyLine)}
		code, lines, err := c.readReply()
		if err != nil {
			return
		}
		if code < 200 || code > 599 || len(lines) == 0 || len(lines) > replyLines {
			t.Errorf("%d %v", code, lines)
		}
		if r := newReply(code, lines); strings.ContainsAny(r.Text+r.Enhanced, "\r\n") {
			t.Errorf("%+v", r)
		}
	})
}

func FuzzStuffer(f *testing.F) {
	f.Add([]byte(".a\r\n..b\r\n"), 3)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		var out bytes.Buffer
		s := stuffer{w: bufio.NewWriter(&out), lineStart: true}
		cut = max(0, min(cut, len(b)))
		s.write(b[:cut])
		s.write(b[cut:])
		s.w.Flush()
		if bytes.HasPrefix(out.Bytes(), []byte(".\r\n")) || bytes.Contains(out.Bytes(), []byte("\r\n.\r\n")) {
			t.Errorf("%q became %q, which ends a mail", b, out.Bytes())
		}
	})
}
