package gateway

import (
	"bytes"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestWire_HungUpBeforeDATA: a session that was ended while a recipient was looked
// up takes no mail any more. The body of its last mail is at its end, so that
// an empty mail went out.
func TestWire_HungUpBeforeDATA(t *testing.T) {
	t.Parallel()
	const mail = "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"
	n := 0
	mails, replies := converseWith(t, []byte("EHLO c.example\r\n"+mail+"first\r\n.\r\n"+mail), hooks{rcpt: func(w *wire) {
		if n++; n == 2 {
			w.hangUpIfIdle()
		}
	}})
	if len(mails) != 1 || !strings.HasSuffix(replies, replyFor(errShuttingDown).line()) {
		t.Errorf("%q\n%s", mails, replies)
	}
	w := &wire{dots: dots{ended: true}}
	if b, err := io.ReadAll(w.body()); err != io.ErrUnexpectedEOF {
		t.Errorf("a body without 354: %q, %v", b, err)
	}
}

// TestWire_ReplyBeforeGoodbye: whose mail is taken hears so, whenever we shut down.
func TestWire_ReplyBeforeGoodbye(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"DATA\r\nx\r\n.\r\n", "BDAT 3 LAST\r\nx\r\n", "BDAT 3\r\nx\r\nBDAT 0 LAST\r\n"} {
		var closing atomic.Bool
		mails, replies := converseWith(t, []byte(hello+body+"NOOP\r\n"), hooks{closed: closing.Load, data: func(w *wire, _ error) {
			closing.Store(true)
			w.hangUpIfIdle()
		}})
		if len(mails) != 1 || !strings.HasSuffix(replies, "250 2.0.0 OK: queued\r\n"+replyFor(errShuttingDown).line()) {
			t.Errorf("%q: %q\n%s", body, mails, replies)
		}
	}
}

// TestWire_ChunksGivenUp: who gives a mail up between two chunks begins another one
// only when nobody is at work on the first: its result was that of the second,
// 250 for a mail that was not taken among them.
func TestWire_ChunksGivenUp(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"RSET", "EHLO c.example", "HELO c.example"} {
		var atWork atomic.Int32
		atWork.Store(1) // for the first mail; the second is not counted
		mails, replies := converseWith(t, []byte(hello+"BDAT 3\r\nabc"+verb+"\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT 2 LAST\r\nde"), hooks{
			data: func(_ *wire, err error) {
				if err != nil {
					time.Sleep(20 * time.Millisecond)
					atWork.Store(0)
				}
			},
			reset: func() {
				if atWork.Load() != 0 {
					t.Errorf("%s: reset with a mail under way", verb)
				}
			}})
		if len(mails) != 1 || mails[0] != "de" || strings.Count(replies, "\r\n250 2.1.0") != 2 || strings.Count(replies, "OK: queued") != 1 || strings.Contains(replies, "\r\n4") {
			t.Errorf("%s: %q\n%s", verb, mails, replies)
		}
	}
	mails, replies := converse(t, []byte(hello+"BDAT 3\r\nabcQUIT\r\n"))
	if len(mails) != 0 || !strings.HasSuffix(replies, "250 2.0.0 Continue\r\n221 2.0.0 Bye\r\n") {
		t.Errorf("QUIT: %q\n%s", mails, replies)
	}
}

// TestWire_DATAToNoEnd: DATA and BDAT that nobody takes bring no mail forward.
func TestWire_DATAToNoEnd(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"DATA\r\n", "BDAT 1\r\nx"} {
		if _, replies := converse(t, []byte("EHLO c.example\r\n"+strings.Repeat(line, emptyCommands+1))); !strings.Contains(replies, "\r\n421 4.7.0") {
			t.Errorf("%q: %.300s", line, replies)
		}
	}
}

// TestWire_HELO: RFC 5321 §4.1.1.1 and RFC 2034 §4.
func TestWire_HELO(t *testing.T) {
	t.Parallel()
	if _, replies := converse(t, []byte("HELO c.example\r\n")); !strings.HasSuffix(replies, "\r\n250 mx.ours.example\r\n") {
		t.Error(replies)
	}
}

// drip is a client that says one octet at a time.
type drip struct {
	script
	until []time.Time
}

func (d *drip) Read(p []byte) (int, error)          { return d.in.Read(p[:1]) }
func (d *drip) SetReadDeadline(end time.Time) error { d.until = append(d.until, end); return nil }

// TestWire_SlowCommand: a command has to be whole in time. With an octet now and
// then a client could hold a connection for days.
func TestWire_SlowCommand(t *testing.T) {
	t.Parallel()
	for _, said := range []string{"NOOP\r\n", strings.Repeat("x", 2*commandLimit) + "\r\n"} {
		d := &drip{script: script{in: bytes.NewReader([]byte(said)), end: make(chan struct{})}}
		w := newWire(d, &wireOptions{patience: func() time.Duration { return time.Minute }}, func() {})
		w.readLine()
		for i, end := range d.until[1:] {
			if end.After(d.until[1]) {
				t.Fatalf("octet %d of %.10q has until %v, the second one had until %v", i+1, said, end, d.until[1])
			}
		}
	}
}
