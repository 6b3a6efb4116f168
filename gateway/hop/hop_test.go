package hop

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"mailward/internal/testenv"
)

const mailText = "Subject: x\r\n\r\n.dots\r\n..\r\ntext\r\n"

func sender(t testing.TB, cfg Config) *Sender {
	t.Helper()
	cfg.Hostname = "mx.ours.example"
	s := New(cfg)
	t.Cleanup(s.Close)
	return s
}

func transfer(to ...string) Transfer {
	t := Transfer{From: "a@sender.example", Head: []byte("Received: by us\r\n"), Body: strings.NewReader(mailText)}
	for _, a := range to {
		t.To = append(t.To, Recipient{Address: a})
	}
	return t
}

// bob is a transfer that nothing is wrong with.
func bob() Transfer { return transfer("bob@ours.example") }

func TestSend(t *testing.T) {
	t.Parallel()
	for _, features := range [][]string{{"PIPELINING", "SIZE 1000", "8BITMIME"}, {}} {
		h := testenv.NextHop(t)
		h.Features(features...)
		h.RefuseRcpt("eve@ours.example", 550)
		s := sender(t, Config{})
		for range 3 {
			var seen map[string]*Reply
			tr := transfer("bob@ours.example", "eve@ours.example", "eve@ours.example")
			tr.BeforeDot = func(refused map[string]*Reply) error {
				seen = refused
				if len(h.Messages())%2 == 1 {
					return errors.New("the record cannot be written")
				}
				return nil
			}
			before := len(h.Messages())
			res := s.Send(context.Background(), h.Addr, tr)
			if (res.Err != nil) != (before%2 == 1) || seen["eve@ours.example"] == nil || len(seen) != 1 {
				t.Fatalf("%v: %+v %v", features, res, seen)
			}
		}
		got := h.Messages()
		if len(got) != 1 || string(got[0].Data) != "Received: by us\r\n"+mailText || strings.Join(got[0].To, " ") != "bob@ours.example" {
			t.Errorf("%v: %q", features, got)
		}
	}
}

// TestSend_AllRefused: the transaction is taken back, so that the connection
// serves the next mail, also where the hop takes DATA all the same.
func TestSend_AllRefused(t *testing.T) {
	t.Parallel()
	for _, features := range []string{"PIPELINING", "SIZE"} {
		for to, code := range map[string]int{"eve@ours.example": 550, "later@ours.example eve@ours.example": 452, "eve@ours.example later@ours.example": 452} {
			h := testenv.NextHop(t)
			h.Features(features)
			h.RefuseRcpt("eve@ours.example", 550)
			h.RefuseRcpt("later@ours.example", 452)
			s := sender(t, Config{})
			var no *Reply
			res := s.Send(context.Background(), h.Addr, transfer(strings.Fields(to)...))
			if !errors.As(res.Err, &no) || no.Code != code || len(res.Refused) != len(strings.Fields(to)) {
				t.Errorf("%s: %+v, want %d", to, res, code)
			}
			if res := s.Send(context.Background(), h.Addr, bob()); res.Err != nil {
				t.Error(res.Err)
			}
			if n := h.Connections(); n != 1 {
				t.Errorf("%s: %s: %d connections, want one for both", features, to, n)
			}
		}
	}
}

func TestSend_ManyRecipients(t *testing.T) {
	t.Parallel()
	h := testenv.NextHop(t)
	s := sender(t, Config{})
	var to []string
	for i := range 3*groupMost + 1 {
		to = append(to, strings.Repeat("x", i%60+1)+"@ours.example")
	}
	if res := s.Send(context.Background(), h.Addr, transfer(to...)); res.Err != nil {
		t.Fatal(res.Err)
	}
	if got := h.Messages(); len(got) != 1 || strings.Join(got[0].To, " ") != strings.Join(to, " ") {
		t.Errorf("%d mails", len(got))
	}
}

// TestSend_ReusedConnectionDied: a connection that was kept for the next mail
// and has died must not cost that mail.
func TestSend_ReusedConnectionDied(t *testing.T) {
	t.Parallel()
	h := testenv.NextHop(t)
	s := sender(t, Config{})
	send := func() {
		t.Helper()
		if res := s.Send(context.Background(), h.Addr, bob()); res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	send()
	pe := s.peers[h.Addr]
	if len(pe.idle) != 1 {
		t.Fatal("no connection was kept")
	}
	pe.idle[0].Close()
	send()
	h.Say("MAIL", "421 4.3.2 too long\r\n") // the hop ends the kept connection at MAIL
	if res := s.Send(context.Background(), h.Addr, bob()); res.Err == nil {
		t.Error("421 was taken for a yes")
	}
	if n := h.Connections(); n != 3 {
		t.Errorf("%d connections, want a new one in place of each that died", n)
	}
	h.SayNothingElse()
	send()
	if n := len(h.Messages()); n != 3 {
		t.Errorf("%d mails at the hop, want 3", n)
	}
}

// TestSend_DSN and the like: parameters go out where the hop offers them.
func TestSend_Parameters(t *testing.T) {
	t.Parallel()
	full := Transfer{From: "a@sender.example", Size: 20, EightBit: true, Ret: "HDRS", EnvID: "id+2B1", Body: strings.NewReader("x: ü\r\n"),
		To: []Recipient{{Address: "bob@ours.example", Notify: "SUCCESS,DELAY", ORCPT: "rfc822;bob+2B@ours.example"}}}
	utf8 := full
	utf8.From, utf8.UTF8 = "ä@sender.example", true
	evil := full
	evil.EnvID, evil.To = "x BODY=BINARYMIME", []Recipient{{Address: "bob@ours.example", ORCPT: "a\r\nDATA"}}
	line := full
	line.From = "a@sender.example>\r\nRSET"
	path, quoted := full, full
	path.From, quoted.From = "ceo@ours.example> x@sender.example", `"a> \" x"@sender.example`
	for _, c := range []struct {
		name       string
		t          Transfer
		features   string
		mail, rcpt string
		err        error
	}{
		{"all", full, "PIPELINING,SIZE,8BITMIME,DSN", "MAIL FROM:<a@sender.example> SIZE=20 BODY=8BITMIME RET=HDRS ENVID=id+2B1", "RCPT TO:<bob@ours.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;bob+2B@ours.example", nil},
		{"no DSN", full, "8BITMIME", "MAIL FROM:<a@sender.example> BODY=8BITMIME", "RCPT TO:<bob@ours.example>", nil},
		{"no 8BITMIME", full, "DSN", "", "", ErrEightBit},
		{"SMTPUTF8", utf8, "8BITMIME,SMTPUTF8", "MAIL FROM:<ä@sender.example> BODY=8BITMIME SMTPUTF8", "RCPT TO:<bob@ours.example>", nil},
		{"no SMTPUTF8", utf8, "8BITMIME", "", "", ErrUTF8},
		{"too big", full, "8BITMIME,SIZE 19", "", "", &Reply{Code: 552}},
		{"evil parameters", evil, "8BITMIME,DSN", "MAIL FROM:<a@sender.example> BODY=8BITMIME RET=HDRS", "RCPT TO:<bob@ours.example>", nil},
		{"evil address", line, "8BITMIME,DSN", "", "", errAddress},
		{"address that ends its path", path, "8BITMIME,DSN", "", "", errAddress},
		{"quoted", quoted, "8BITMIME", `MAIL FROM:<"a> \" x"@sender.example> BODY=8BITMIME`, "RCPT TO:<bob@ours.example>", nil},
		{"nobody", Transfer{}, "PIPELINING", "", "", errNobody},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := testenv.NextHop(t)
			h.Features(strings.Split(c.features, ",")...)
			if c.t.Body != nil {
				c.t.Body = strings.NewReader("x: y\r\n")
			}
			res := sender(t, Config{}).Send(context.Background(), h.Addr, c.t)
			want, _ := c.err.(*Reply)
			var no *Reply
			if errors.As(res.Err, &no) && want != nil && no.Code == want.Code {
				res.Err = c.err
			}
			if !errors.Is(res.Err, c.err) || res.DSN != strings.Contains(c.features, "DSN") {
				t.Fatalf("%+v, want %v", res, c.err)
			}
			commands := h.Commands()
			if c.mail == "" && len(commands) > 1 || c.mail != "" && (commands[1] != c.mail || commands[2] != c.rcpt) {
				t.Errorf("%q", commands)
			}
		})
	}
}

// TestSend_HostileHop: whatever a hop says, nothing is taken for a yes that is
// none, and no connection is used again that is out of step.
func TestSend_HostileHop(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, step, says string
		lost             bool // the hop may have the mail
		accepted         bool
	}{
		{"354 twice", "DATA", "354 go\r\n354 go\r\n", false, false},
		{"the last reply before the mail", "DATA", "354 go\r\n250 taken\r\n", true, false},
		{"a refusal before the mail", "DATA", "354 go\r\n452 4.3.1 full\r\n", false, false},
		{"354 to the dot", "DOT", "354 go\r\n", true, false},
		{"nonsense to the dot", "DOT", "hello\r\n", true, false},
		{"a code of its own", "DOT", "999 x\r\n", true, false},
		{"mixed codes", "DOT", "250-x\r\n550 y\r\n", true, false},
		{"two replies to the dot", "DOT", "250 ok\r\n250 ok\r\n", false, true},
		{"250 to DATA", "DATA", "250 ok\r\n", false, false},
		{"220 to MAIL", "MAIL", "220 ok\r\n", false, false},
		{"nothing to RCPT", "RCPT", "", false, false},
		{"a long line", "MAIL", "250 " + strings.Repeat("x", replyLine) + "\r\n", false, false},
		{"many lines", "MAIL", strings.Repeat("250-x\r\n", replyLines) + "250 x\r\n", false, false},
		{"EHLO with a reply more", "EHLO", "250-hop\r\n250 PIPELINING\r\n250 ok\r\n", false, false},
		{"a bare greeting", "CONNECT", "hello\r\n", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := testenv.NextHop(t)
			h.Say(c.step, c.says)
			s := sender(t, Config{})
			res := s.Send(context.Background(), h.Addr, bob())
			if (res.Err == nil) != c.accepted || res.ReplyLost != c.lost {
				t.Errorf("%+v", res)
			}
			if pe := s.peers[h.Addr]; len(pe.idle) > 0 {
				if c.step != "DOT" || !c.accepted || pe.take() != nil {
					t.Error("the connection was kept")
				}
			}
		})
	}
}

// TestSend_RepliesAhead: a reply that came before its command is not taken for
// the answer to it.
func TestSend_RepliesAhead(t *testing.T) {
	t.Parallel()
	h := testenv.NextHop(t)
	h.Say("EHLO", "250-hop\r\n250 8BITMIME\r\n250 ok\r\n250 ok\r\n354 go\r\n")
	res := sender(t, Config{}).Send(context.Background(), h.Addr, bob())
	if !errors.Is(res.Err, errUnasked) || len(h.Commands()) != 1 {
		t.Errorf("%+v after %q", res, h.Commands())
	}
}

// TestConn_IsQuiet: what a hop says after its reply, or its goodbye, makes a
// kept connection unfit.
func TestConn_IsQuiet(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, says := range []string{"250 ok\r\n", ""} {
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		hop, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c := &conn{Conn: nc, raw: nc, r: bufio.NewReader(nc)}
		if !c.isQuiet() {
			t.Error("a silent hop is heard")
		}
		pe := &peer{}
		pe.keep(c, time.Minute)
		io.WriteString(hop, says)
		if says == "" {
			hop.Close()
		}
		eventually(t, func() bool { return !c.isQuiet() })
		if pe.take() != nil {
			t.Errorf("taken after %q", says)
		}
		hop.Close()
	}
}

func TestSend_TimesOut(t *testing.T) {
	t.Parallel()
	h := testenv.NextHop(t)
	h.Fail(testenv.HangAfterDot)
	s := sender(t, Config{Routes: map[string]Route{"slow": {Hosts: []Host{{Address: h.Addr}}, Timeouts: Timeouts{Final: 20 * time.Millisecond}}}})
	if res := s.Send(context.Background(), "slow", bob()); res.Err == nil || !res.ReplyLost {
		t.Errorf("%+v", res)
	}
	ctx, cancel := context.WithCancel(context.Background())
	tr := bob()
	tr.BeforeDot = func(map[string]*Reply) error { time.AfterFunc(20*time.Millisecond, cancel); return nil }
	if res := s.Send(ctx, h.Addr, tr); res.Err == nil || !res.ReplyLost {
		t.Errorf("cancelled: %+v", res)
	}
}

// TestSend_DotBy: a mail that is not out in time is not handed over; one that is
// out is waited for as long as the route says, or until the same time.
func TestSend_DotBy(t *testing.T) {
	t.Parallel()
	h := testenv.NextHop(t)
	s := sender(t, Config{Routes: map[string]Route{"slow": {Hosts: []Host{{Address: h.Addr}}, Timeouts: Timeouts{Final: time.Minute}}}})
	tr := bob()
	tr.DotBy = time.Now().Add(20 * time.Millisecond)
	late := make(chan struct{})
	time.AfterFunc(30*time.Millisecond, func() { close(late) })
	tr.BeforeDot = func(map[string]*Reply) error { <-late; return nil }
	if res := s.Send(context.Background(), h.Addr, tr); !errors.Is(res.Err, context.DeadlineExceeded) && !errors.Is(res.Err, ErrConnect) || res.ReplyLost || len(h.Messages()) != 0 {
		t.Errorf("late: %+v, %d mails", res, len(h.Messages()))
	}
	answer := make(chan struct{})
	h.HoldDot(answer)
	tr = bob()
	tr.DotBy = time.Now().Add(time.Second)
	if res := s.Send(context.Background(), h.Addr, tr); !res.ReplyLost {
		t.Errorf("no time of its own: %+v", res)
	}
	tr = bob()
	tr.DotBy = time.Now().Add(time.Second)
	time.AfterFunc(1050*time.Millisecond, func() { close(answer) })
	if res := s.Send(context.Background(), "slow", tr); res.Err != nil {
		t.Errorf("slow: %+v", res)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.HoldDot(ctx.Done())
	tr = bob()
	tr.DotBy = time.Now().Add(time.Minute)
	tr.BeforeDot = func(map[string]*Reply) error { time.AfterFunc(20*time.Millisecond, cancel); return nil }
	if res := s.Send(ctx, h.Addr, tr); res.Err == nil || !res.ReplyLost {
		t.Errorf("the caller gave up: %+v", res)
	}
}

// TestTimeouts: what RFC 5321 §4.5.3.2 asks for, less where another host could
// still be tried, and what the configuration says.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	const s, m = time.Second, time.Minute
	for _, c := range []struct {
		conf    Timeouts
		patient bool
		want    times
	}{
		{Timeouts{}, true, times{connect: 30 * s, greeting: 5 * m, command: 5 * m, data: 2 * m, block: 3 * m, final: 10 * m}},
		{Timeouts{}, false, times{connect: 10 * s, greeting: 30 * s, command: 30 * s, data: 30 * s, block: 3 * m}},
		{Timeouts{Final: 9 * m}, false, times{connect: 10 * s, greeting: 30 * s, command: 30 * s, data: 30 * s, block: 3 * m, final: 9 * m}},
		{Timeouts{Connect: s, Reply: 2 * s, Final: 3 * s}, true, times{connect: s, greeting: 2 * s, command: 2 * s, data: 2 * s, block: 3 * m, final: 3 * s}},
		{Timeouts{Reply: 2 * m}, false, times{connect: 10 * s, greeting: 2 * m, command: 2 * m, data: 2 * m, block: 3 * m}},
	} {
		if got := c.conf.steps(c.patient); got != c.want {
			t.Errorf("%+v, patient %v: %+v", c.conf, c.patient, got)
		}
	}
}

// pipe is a connection of which only what we write is of interest.
type pipe struct {
	net.Conn
	bytes.Buffer
}

func (p *pipe) Write(b []byte) (int, error)      { return p.Buffer.Write(b) }
func (p *pipe) Read([]byte) (int, error)         { return 0, io.EOF }
func (p *pipe) SetDeadline(time.Time) error      { return nil }
func (p *pipe) Close() error                     { return nil }
func (p *pipe) SetReadDeadline(time.Time) error  { return nil }
func (p *pipe) SetWriteDeadline(time.Time) error { return nil }

// wire gives what goes out for a mail, to the byte.
func wire(t testing.TB, tr Transfer) (string, error) {
	p := &pipe{}
	b := newBody(&conn{Conn: p}, tr.Raw)
	defer b.free()
	if err := b.fill(context.Background(), &tr); err != nil {
		return p.String(), err
	}
	if err := b.end(context.Background()); err != nil {
		t.Fatal(err)
	}
	return p.String(), nil
}

// cut is a reader that gives its bytes in two pieces.
func cut(b []byte, at int) io.Reader {
	at = max(0, min(at, len(b)))
	return io.MultiReader(bytes.NewReader(b[:at]), bytes.NewReader(b[at:]))
}

// TestBody_NoOtherEnd: no variant of an end of data leaves that some server may
// take for one, wherever a read cuts it.
func TestBody_NoOtherEnd(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\r.\r\n", "\r\r\n.\r\n", "\n\r.\r\n", "\r\n\r.\r\n", "\n\n.\r\n", "\r\n.\r\r\n", "\r", "\n", "\r\n\r", "\n\r"} {
		in := []byte("Subject: x\r\n\r\ntext" + end + "MAIL FROM:<evil@example.org>\r\n")
		for at := range in {
			if out, err := wire(t, Transfer{Body: cut(in, at)}); !errors.Is(err, ErrBareNewline) {
				t.Fatalf("%q, cut at %d, became %q: %v", in, at, out, err)
			}
		}
	}
	if _, err := wire(t, Transfer{Head: []byte("Received: x\r\n y\n"), Body: strings.NewReader("")}); !errors.Is(err, ErrBareNewline) {
		t.Errorf("in the head: %v", err)
	}
	if _, err := wire(t, Transfer{Body: strings.NewReader("x\r")}); !errors.Is(err, ErrBareNewline) {
		t.Errorf("at the end: %v", err)
	}
}

func TestBody(t *testing.T) {
	t.Parallel()
	big := strings.Repeat(".\r\n..\r\n"+strings.Repeat("x", 3000)+"\r\n", 200)
	for in, want := range map[string]string{
		"":               ".\r\n",
		"a":              "a\r\n.\r\n",
		".":              "..\r\n.\r\n",
		".\r\n":          "..\r\n.\r\n",
		"\r\n.\r\n":      "\r\n..\r\n.\r\n",
		"a.\r\n.b\r\n.c": "a.\r\n..b\r\n..c\r\n.\r\n",
		big:              "." + strings.ReplaceAll(big, "\n.", "\n..") + ".\r\n",
	} {
		for _, at := range []int{0, 1, 2, 3, 4, 5, len(in) / 2, len(in) - 1} {
			got, err := wire(t, Transfer{Body: cut([]byte(in), at)})
			if err != nil || got != want {
				t.Fatalf("%.40q, cut at %d: %.60q %v", in, at, got, err)
			}
		}
	}
	trouble := errors.New("disk")
	if _, err := wire(t, Transfer{Body: io.MultiReader(strings.NewReader("a"), iotestErr{trouble})}); !errors.Is(err, trouble) || !errors.Is(err, errLocal) {
		t.Errorf("a source that breaks: %v", err)
	}
}

type iotestErr struct{ err error }

func (e iotestErr) Read([]byte) (int, error) { return 0, e.err }

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

// FuzzBody compares with the rule of RFC 5321 §4.5.2 in its simplest form.
func FuzzBody(f *testing.F) {
	f.Add([]byte(".a\r\n..b\r\n"), 3)
	f.Add([]byte("a\r\n.\r\nb\n"), 4)
	f.Fuzz(func(t *testing.T, b []byte, at int) {
		got, err := wire(t, Transfer{Body: cut(b, at)})
		rest := strings.ReplaceAll(string(b), "\r\n", "")
		if strings.ContainsAny(rest, "\r\n") {
			if !errors.Is(err, ErrBareNewline) {
				t.Errorf("%q became %q: %v", b, got, err)
			}
			return
		}
		want := strings.ReplaceAll("\r\n"+string(b), "\r\n.", "\r\n..")[2:]
		if !strings.HasSuffix(want, "\r\n") && want != "" {
			want += "\r\n"
		}
		if err != nil || got != want+".\r\n" {
			t.Errorf("%q became %q, want %q: %v", b, got, want+".\r\n", err)
		}
	})
}
