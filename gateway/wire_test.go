package gateway

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"maps"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// script is a client that says everything at once and then goes away.
type script struct {
	in  *bytes.Reader
	mu  sync.Mutex // guards out
	out bytes.Buffer
	end chan struct{}
	off sync.Once
}

func (s *script) Read(p []byte) (int, error) { return s.in.Read(p) }

func (s *script) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(p)
}

func (s *script) Close() error                     { s.off.Do(func() { close(s.end) }); return nil }
func (s *script) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 25} }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4000} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// oneConn is a listener with one connection.
type oneConn struct {
	c    net.Conn
	once sync.Once
	end  chan struct{}
}

func (l *oneConn) Accept() (c net.Conn, err error) {
	l.once.Do(func() { c = l.c })
	if c == nil {
		<-l.end
		return nil, net.ErrClosed
	}
	return c, nil
}
func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// bodies takes mails as a session does, and keeps their bodies.
type bodies struct {
	wire  *wire
	mails *[]string
	hooks
}

// hooks are called in the middle of a session, where they are not nil.
type hooks struct {
	reset  func()
	rcpt   func(w *wire)
	data   func(w *wire, err error) // the body was read
	closed func() bool
}

func (b *bodies) Reset() {
	if b.reset != nil {
		b.reset()
	}
}
func (b *bodies) Logout() error                        { return nil }
func (b *bodies) Mail(string, *smtp.MailOptions) error { return nil }

func (b *bodies) Rcpt(string, *smtp.RcptOptions) error {
	if b.rcpt != nil {
		b.rcpt(b.wire)
	}
	return nil
}

func (b *bodies) Data(r io.Reader) error {
	r = b.wire.source(r)
	got, err := io.ReadAll(r)
	if b.data != nil {
		b.data(b.wire, err)
	}
	if err != nil {
		return reply(err)
	}
	*b.mails = append(*b.mails, string(got))
	return nil
}

// converse plays one client against the wire and go-smtp.
func converse(t testing.TB, said []byte) (mails []string, replies string) {
	t.Helper()
	return converseWith(t, said, hooks{})
}

func converseWith(t testing.TB, said []byte, h hooks) (mails []string, replies string) {
	t.Helper()
	c := &script{in: bytes.NewReader(said), end: make(chan struct{})}
	opt := &wireOptions{hostname: "mx.ours.example", features: func(*wire) []string { return []string{"PIPELINING", "CHUNKING"} },
		patience: func() time.Duration { return time.Minute }, bad: func(_ *wire, n int) error {
			if n > 5 {
				return errTooManyCommands
			}
			return nil
		}, closing: h.closed}
	w := newWire(c, opt, func() {})
	srv := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &bodies{w, &mails, h}, nil }))
	srv.MaxRecipients = 2 * emptyCommands
	srv.Domain, srv.EnableDSN, srv.EnableSMTPUTF8, srv.ErrorLog = "mx.ours.example", true, true, smtpLog{slog.New(slog.DiscardHandler)}
	l := &oneConn{c: w, end: c.end}
	done := make(chan struct{})
	go func() { srv.Serve(l); close(done) }()
	select {
	case <-c.end:
	case <-time.After(5 * time.Second):
		t.Fatalf("the session does not end after %q", said)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		t.Fatalf("go-smtp does not end after %q: %v", said, err)
	}
	<-done
	c.mu.Lock()
	defer c.mu.Unlock()
	return mails, c.out.String()
}

// TestWire_ManyRecipients: they are no commands to no end, those neither that
// have to come in another mail.
func TestWire_ManyRecipients(t *testing.T) {
	t.Parallel()
	rcpt := strings.Repeat("RCPT TO:<c@d.example>\r\n", 3*emptyCommands)
	mails, replies := converse(t, []byte("EHLO c.example\r\nMAIL FROM:<a@b.example>\r\n"+rcpt+"DATA\r\n\r\nx\r\n.\r\nQUIT\r\n"))
	if len(mails) != 1 || !strings.HasSuffix(replies, "221 2.0.0 Bye\r\n") {
		t.Errorf("%q\n%.400s", mails, replies)
	}
	if n := strings.Count(replies, "452 4.5.3"); n != emptyCommands {
		t.Errorf("%d of %d were one too many", n, 3*emptyCommands)
	}
	_, replies = converse(t, []byte("EHLO c.example\r\n"+strings.Repeat("MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nRSET\r\n", emptyCommands)))
	if !strings.Contains(replies, "421 4.7.0") {
		t.Errorf("%.400s", replies)
	}
}

// TestWire_Source: who takes chunks does not take the next mail's body.
func TestWire_Source(t *testing.T) {
	t.Parallel()
	r, _ := io.Pipe()
	w := &wire{mode: modeBody}
	if k, ok := w.source(r).(*chunks); !ok || k.Reader != io.Reader(r) {
		t.Error("chunks are read from the body of DATA")
	}
	if _, ok := w.source(strings.NewReader("")).(*bodyReader); !ok {
		t.Error("DATA is not read from the wire")
	}
}

// TestWire_ChunkCutOff: who goes away within a chunk, or is too slow, may come
// again.
func TestWire_ChunkCutOff(t *testing.T) {
	t.Parallel()
	mails, replies := converse(t, []byte(hello+"BDAT 20 LAST\r\nSubject: x\r\n"))
	if len(mails) > 0 || !strings.Contains(replies, "\r\n451 4.3.0") || strings.Contains(replies, "\r\n554") {
		t.Errorf("%q\n%s", mails, replies)
	}
}

const hello = "EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"

func TestWire_Converse(t *testing.T) {
	t.Parallel()
	mails, replies := converse(t, []byte(hello+"DATA\r\nSubject: x\r\n\r\n..y\r\n.\r\nQUIT\r\n"))
	if len(mails) != 1 || mails[0] != "Subject: x\r\n\r\n.y\r\n" || !strings.HasSuffix(replies, "221 2.0.0 Bye\r\n") {
		t.Errorf("%q\n%s", mails, replies)
	}
}

var replyForm = regexp.MustCompile(`\A([2-5][0-9][0-9][ -][^\r\n]*\r\n)*\z`)

var chunkLine = regexp.MustCompile(`(?i)BDAT[ \t]+0*([0-9]{1,10})[^\r\n]*\r?\n`)

// chunksOf is all that could be a chunk of a BDAT in what a client said, in order.
func chunksOf(said string) (list []string) {
	for at := 0; ; {
		m := chunkLine.FindStringSubmatchIndex(said[at:])
		if m == nil {
			return list
		}
		n, err := strconv.Atoi(said[at+m[2] : at+m[3]])
		at += m[1]
		if err == nil && n <= len(said)-at {
			list = append(list, said[at:at+n])
		}
	}
}

// madeOf says whether a mail is some of the chunks, in order, one behind the other.
func madeOf(mail string, chunks []string) bool {
	ends := map[int]bool{0: true} // where a chunk may end that stands in the mail
	for _, c := range chunks {
		for at := range maps.Clone(ends) {
			if strings.HasPrefix(mail[at:], c) {
				ends[at+len(c)] = true
			}
		}
	}
	return ends[len(mail)]
}

func TestMadeOf(t *testing.T) {
	t.Parallel()
	said := hello + "BDAT 3\r\nabcBDAT 2 LAST\r\nde"
	for mail, want := range map[string]bool{"abcde": true, "de": true, "abcBDAT": false, "abcd": false, "deabc": false} {
		if got := madeOf(mail, chunksOf(said)); got != want {
			t.Errorf("%q: %v", mail, got)
		}
	}
}

// FuzzDialog: whatever a client says, the session ends, every reply is one, and
// a body ends where RFC 5321 §4.1.1.4 says and nowhere else.
func FuzzDialog(f *testing.F) {
	for _, s := range []string{
		hello + "DATA\r\nSubject: x\r\n\r\n..y\r\n.\r\nQUIT\r\n", hello + "DATA\r\nx\n.\nMAIL FROM:<e@v.il>\r\n.\r\n", hello + "DATA\r\nx\r\n.\rRSET\r\n.\r\n",
		hello + "DATA\r\nx\r\r\n.\r\nRSET\r\n", hello + "BDAT 3\r\nabcBDAT 0 LAST\r\nQUIT\r\n", hello + "BDAT 99999999999 LAST\r\n", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "STARTTLS\r\nEHLO x\r\n",
		"EHLO x\r\nMAIL FROM:<> SIZE=99999999999999999999 BODY=8BITMIME\r\nRCPT TO:<Postmaster>\r\n", "\x00\r\n\r\r\nHELO\r\n", strings.Repeat("A", 5000) + "\r\nNOOP\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		mails, replies := converse(t, said)
		if !replyForm.MatchString(replies) {
			t.Errorf("after %q: %q", said, replies)
		}
		// What was said, with the dot of each line taken off (RFC 5321 §4.5.2), has
		// each mail in one piece, and behind it the empty rest of the line of its end.
		plain := strings.ReplaceAll(string(said), "\r\n.", "\r\n")
		for _, m := range mails {
			dotted := (m == "" || strings.HasSuffix(m, "\r\n")) && strings.Contains(plain, m+"\r\n")
			if !dotted && !madeOf(m, chunksOf(string(said))) {
				t.Errorf("%q became the mail %q", said, m)
			}
		}
	})
}
