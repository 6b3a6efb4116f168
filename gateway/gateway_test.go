package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"mailward/gateway/hop"
	"mailward/internal/message"
	"mailward/internal/pg"
	"mailward/internal/testenv"
	"mailward/policy"
	"mailward/quarantine"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func TestRelay_BytesAndHeaders(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	for name, msg := range map[string]string{
		"plain":     "Subject: a\r\n\r\nhello\r\n",
		"dots":      "Subject: b\r\n\r\n.\r\n..\r\n.x\r\n\r\n.\r\n",
		"no body":   "Subject: c\r\n\r\n",
		"no header": "\r\nonly a body\r\n",
		"8-bit":     "Subject: d\r\n\r\n\xe4\xff\x00\r\n",
		"big":       "Subject: e\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 40_000),
		"long line": "Subject: f\r\n\r\n" + strings.Repeat("y", 30_000) + "\r\n",
	} {
		before := len(f.hop.Messages())
		r := f.dial().send("", []string{"bob@ours.example"}, msg)
		f.wantReply(r, 250)
		m := f.wantHop(before + 1)[before]
		if !bytes.HasSuffix(m.Data, []byte(msg)) || m.From != "" {
			t.Errorf("%s: the mail changed on its way", name)
		}
		top := string(m.Data[:len(m.Data)-len(msg)])
		for _, h := range []string{"Received: from client.example ([127.0.0.1])", "Authentication-Results: mx.ours.example; none", "X-Mailward-ID: ", "X-Mailward-Verdict: clean; 0.0; nothing found"} {
			if strings.Count(top, h) != 1 {
				t.Errorf("%s: header %q is there %d times", name, h, strings.Count(top, h))
			}
		}
	}
}

func TestHeaders_NothingCanBeInjected(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	c := f.dial()
	c.say("EHLO a\tb(c)<d>;e")
	f.wantReply(c.send("x@sender.example", []string{"bob@ours.example"}, "Subject: spam\r\n\r\nx\r\n"), 250)
	data := string(f.wantHop(1)[0].Data)
	if strings.Contains(data, "\r\nInjected") || !strings.Contains(data, "X-Spam-Flag: YES\r\n") {
		t.Errorf("headers: %s", data)
	}
}

// TestSession_Quit: the reply to QUIT goes out before the connection ends.
func TestSession_Quit(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	c := f.dial()
	f.wantReply(c.say("QUIT"), 221)
	if r := c.reply(); r != "EOF" {
		t.Errorf("after QUIT: %q", r)
	}
}

func TestSession_Refusals(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	c := f.dial()
	c.say("MAIL FROM:<a@sender.example>")
	f.wantReply(c.say("RCPT TO:<x@foreign.example>"), 550)
	f.wantReply(c.say("RCPT TO:<x@sub.ours.example>"), 550)
	f.wantReply(c.say("DATA"), 503)
	f.wantReply(c.say("RCPT TO:<bob@OURS.example>"), 250)
	f.wantReply(c.say("RCPT TO:<bob@OURS.example>"), 250)
	f.wantReply(c.say("RCPT TO:<x@other.example>"), 452)
	f.wantReply(c.say("VRFY bob"), 252)
	f.wantReply(c.say("RSET"), 250)
	f.wantReply(c.say("MAIL FROM:<a@sender.example> SIZE=99999999"), 552)
	f.wantReply(c.say("MAIL FROM:<a@sender.example> SIZE=8388608"), 250)
	f.wantReply(f.dial().send("a@sender.example", []string{"bob@ours.example"}, "Subject: x\r\n\r\n"+strings.Repeat(strings.Repeat("x", 998)+"\r\n", 8400)), 552)
	f.wantReply(f.dial().send("a@sender.example", []string{"bob@ours.example"}, strings.Repeat("Received: x\r\n", 51)+"\r\nx\r\n"), 554)
	f.wantHop(0)
}

// TestSmuggling sends every known way to end a mail early. Either the mail is
// refused, or all of it arrives as one.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	for _, normalise := range []bool{false, true} {
		f := newFixture(t, normalise)
		for _, end := range []string{"\n.\n", "\n.\r\n", "\r.\r", "\r.\r\n", "\r\n.\n", "\r\n.\r", "\r\r\n.\r\n", "\r\n\x00.\r\n", "\n\n.\r\n", "\r\n.\r\r\n",
			"\n.\r", "\r.\n", "\r\n\x00.\n", "\r\n\x00.\r", "\r\n.\x00\r\n", "\r\n..\x00\r\n", "\r\n\x00\x00.\x00\r\n", "\r\r\n.\r\r\n", "\r\x00\n.\r\n", "\r\n.\r\x00\n"} {
			before := len(f.hop.Messages())
			c := f.dial()
			c.say("MAIL FROM:<a@sender.example>")
			c.say("RCPT TO:<bob@ours.example>")
			c.say("DATA")
			io.WriteString(c, "Subject: one\r\n\r\nfirst"+end+"MAIL FROM:<evil@sender.example>\r\nRCPT TO:<bob@ours.example>\r\nDATA\r\nSubject: two\r\n\r\nsecond\r\n.\r\n")
			r := c.reply()
			got := f.hop.Messages()[before:]
			if strings.HasPrefix(r, "250") && (len(got) != 1 || strings.Contains(got[0].From, "evil")) || !strings.HasPrefix(r, "250") && len(got) != 0 {
				t.Errorf("end %q (normalise %v): reply %q, %d mails arrived", end, normalise, r, len(got))
			}
			for _, m := range got {
				for line := range bytes.SplitSeq(m.Data, []byte("\r\n")) {
					if len(line) > 1 && string(bytes.ReplaceAll(line, []byte{0}, nil)) == "." {
						t.Errorf("end %q: an end went on that NULs hide", end)
					}
				}
				if bytes.Contains(bytes.ReplaceAll(m.Data, []byte("\r\n"), nil), []byte("\n")) || bytes.Contains(bytes.ReplaceAll(m.Data, []byte("\r\n"), nil), []byte("\r")) {
					t.Errorf("end %q: a bare CR or LF went on", end)
				}
			}
		}
	}
}

func TestBDAT(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	c := f.dial()
	c.say("MAIL FROM:<a@sender.example>")
	c.say("RCPT TO:<bob@ours.example>")
	io.WriteString(c, "BDAT 12\r\nSubject: x\r\n")
	f.wantReply(c.reply(), 250)
	io.WriteString(c, "BDAT 9 LAST\r\n\r\n.\r\nhi\r\n")
	f.wantReply(c.reply(), 250)
	if !bytes.HasSuffix(f.wantHop(1)[0].Data, []byte("Subject: x\r\n\r\n.\r\nhi\r\n")) {
		t.Error("the mail changed on its way")
	}
}

// newHops forgets the connections to next hops, and what they can do.
func (f *fixture) newHops() {
	f.srv.deps.Hops.Close()
	f.srv.deps.Hops = hop.New(hop.Config{Hostname: "mx.ours.example"})
}

func TestNextHop_Faults(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	for fault, code := range map[testenv.Fault]int{testenv.DropAfterDot: 451, testenv.StopMidReply: 451, testenv.Nonsense: 451, testenv.HugeReply: 451, testenv.DropAtMail: 451, testenv.RefuseConnect: 451} {
		f.newHops()
		f.hop.Fail(fault)
		f.wantReply(f.send(fmt.Sprint("fault ", fault)), code)
		f.hop.Fail(testenv.NoFault)
		f.wantReply(f.send(fmt.Sprint("after ", fault)), 250)
	}
	for _, code := range []int{450, 452, 550, 552, 554} {
		f.hop.Refuse(code)
		r := f.send("refused")
		f.wantReply(r, code)
		if !strings.Contains(r, "not taken") {
			t.Errorf("the hop's words are lost: %q", r)
		}
	}
	f.hop.Refuse(0)
	f.hop.RefuseRcpt("bob@ours.example", 550)
	f.wantReply(f.send("nobody"), 550)
	f.hop.RefuseRcpt("bob@ours.example", 0)
	f.hop.Features("SIZE 1000")
	f.newHops()
	f.wantReply(f.send("without pipelining"), 250)
	f.wantReply(f.send("eight bit \xe4"), 554)
	f.hop.Close()
	f.wantReply(f.send("nobody there"), 451)
}

// TestNextHop_Slow: a next hop that has the mail and is slow to say so has the time
// that is left; where its route says so it is waited for longer, or each try of the
// client makes a duplicate (RFC 1047); but not for ever.
func TestNextHop_Slow(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	f.srv.limits.handle = 2 * time.Second
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	f.hop.HoldDot(ctx.Done())
	f.wantReply(f.send("no time of its own"), 451)
	f.wait("the outcome", func() bool { return f.count("SELECT count(*) FROM mail_outcome WHERE state = 'outcome_unknown'") == 1 })

	f.srv.deps.Hops.Reload(hop.Config{Hostname: "mx.ours.example", Routes: map[string]hop.Route{f.hop.Addr: {Hosts: []hop.Host{{Address: f.hop.Addr}}, Timeouts: hop.Timeouts{Final: 9 * time.Minute}}}})
	answer := make(chan struct{})
	f.hop.HoldDot(answer)
	f.hop.RefuseRcpt("carol@ours.example", 450)
	time.AfterFunc(2500*time.Millisecond, func() { close(answer) })
	said := make(chan string)
	go func() { said <- f.send("slow", "bob@ours.example", "carol@ours.example") }()
	f.wait("the mail to be with the hop", func() bool { return len(f.hop.Messages()) == 2 })
	if n := f.count("SELECT count(*) FROM delivery WHERE next_attempt_at > now() + interval '9 minutes 45 seconds'"); n != 1 {
		t.Error("the delivery to the other recipient begins while it is open whether the hop takes the mail")
	}
	f.wantReply(<-said, 250)
	if n := f.count("SELECT count(*) FROM delivery WHERE next_attempt_at < now() + interval '1 minute'"); n != 1 {
		t.Error("it does not begin after the answer")
	}
	f.hop.HoldDot(ctx.Done())
	f.srv.limits.answer = 2 * time.Second
	f.wantReply(f.send("too slow"), 451)
	f.wait("the outcome", func() bool { return f.count("SELECT count(*) FROM mail_outcome WHERE state = 'outcome_unknown'") == 2 })
}

func TestRelay_SomeRecipientsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	f.hop.RefuseRcpt("later@ours.example", 450)
	f.hop.RefuseRcpt("never@ours.example", 550)
	f.wantReply(f.send("split", "bob@ours.example", "later@ours.example", "never@ours.example"), 250)
	if m := f.wantHop(1)[0]; strings.Join(m.To, ",") != "bob@ours.example" {
		t.Errorf("went to %v", m.To)
	}
	if n := f.count("SELECT count(*) FROM delivery WHERE kind = 'relay' AND recipient = 'later@ours.example' AND reply_code = 450 AND reply_text <> ''"); n != 1 {
		t.Errorf("%d deliveries for later", n)
	}
	if n := f.count("SELECT count(*) FROM delivery WHERE kind = 'dsn' AND recipient = 'erika@sender.example' AND envelope_from = ''"); n != 1 {
		t.Errorf("%d notifications to the sender", n)
	}
	if n := f.count("SELECT count(*) FROM delivery WHERE (kind = 'dsn') = (next_attempt_at <= now()) AND next_attempt_at < now() + interval '1 minute'"); n != 2 {
		t.Errorf("%d rows begin in time: the notification at once, the other after the first wait", n)
	}
	f.hop.RefuseRcpt("later@ours.example", 0)
	_, err := f.db.Admin(t).Exec(context.Background(), "UPDATE delivery SET next_attempt_at = now()")
	fatal(t, err)
	f.work()
	f.wait("delivery of both", func() bool { return len(f.hop.Messages()) == 3 })
	for _, m := range f.hop.Messages()[1:] {
		switch {
		case m.To[0] == "later@ours.example" && bytes.HasSuffix(m.Data, []byte("body of split\r\n")) && bytes.Contains(m.Data, []byte("X-Mailward-ID")):
		case m.To[0] == "erika@sender.example" && m.From == "" && bytes.Contains(m.Data, []byte("Final-Recipient: rfc822; never@ours.example")):
		default:
			t.Errorf("unexpected mail to %v: %s", m.To, m.Data)
		}
	}
}

// TestRelay_RefusedAfterAll: what was kept for some recipients goes when the next
// hop then refuses the mail itself, since the client keeps all of it.
func TestRelay_RefusedAfterAll(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	f.hop.RefuseRcpt("later@ours.example", 450)
	f.hop.RefuseRcpt("never@ours.example", 550)
	f.hop.Refuse(451)
	f.wantReply(f.send("not taken", "bob@ours.example", "later@ours.example", "never@ours.example"), 451)
	if n := f.count("SELECT count(*) FROM delivery WHERE state <> 'cancelled'"); n != 0 {
		t.Errorf("%d deliveries are left of a mail that stays the client's", n)
	}
	if n := f.count("SELECT count(*) FROM delivery WHERE state = 'cancelled'"); n != 2 {
		t.Errorf("%d deliveries were cancelled, want 2", n)
	}
}

// TestMixed_RefusedBesideHeld: one recipient's copy is held, the other's next
// hop refuses it for good. A 5xx would say that nobody got it.
func TestMixed_RefusedBesideHeld(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	ctx := context.Background()
	op := pg.Operator("test")
	_, err := f.srv.deps.Policies.PutPolicy(ctx, op, policy.Policy{Domain: "sender.example", Actions: map[policy.Class]policy.Action{policy.Spam: policy.Quarantine, policy.Encrypted: policy.Quarantine}}, nil)
	fatal(t, err)
	f.hop.Refuse(554)
	f.wantReply(f.send("encrypted mixed", "bob@ours.example", "eve@sender.example"), 250)
	if n := f.count("SELECT count(*) FROM quarantine_recipient WHERE address = 'eve@sender.example'"); n != 1 {
		t.Errorf("%d copies are held", n)
	}
	if n := f.count("SELECT count(*) FROM delivery WHERE kind = 'dsn' AND recipient = 'erika@sender.example'"); n != 1 {
		t.Errorf("%d notifications to the sender", n)
	}
	f.wantReply(f.send("spam mixed", "bob@ours.example", "eve@sender.example"), 250)
	if n := f.count("SELECT count(*) FROM delivery WHERE kind = 'dsn'"); n != 1 {
		t.Errorf("the sender of spam, who is likely forged, was told: %d notifications", n)
	}
	f.wait("word of it on record", func() bool {
		return f.count("SELECT count(*) FROM mail_outcome WHERE state = 'failed' AND text LIKE '%likely forged%'") == 1
	})
	f.hop.Refuse(451)
	f.wantReply(f.send("spam mixed again", "bob@ours.example", "eve@sender.example"), 451)
}

// work runs the delivery worker until the test ends.
func (f *fixture) work() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { f.queue.Run(ctx); close(done) }()
	f.t.Cleanup(func() { cancel(); <-done })
}

func TestHold(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	f.wantReply(f.send("malware one"), 250)
	f.wantReply(f.send("malware one"), 250) // the same mail again: the client's second try
	f.wantHop(0)
	if n := f.count("SELECT count(*) FROM quarantine_item WHERE class = 'malware'"); n != 1 {
		t.Errorf("%d items, want 1", n)
	}
	f.scan.down.Store(true)
	f.wantReply(f.send("clean while down"), 451)
	f.wantReply(f.send("malware while down"), 250) // a hit stays a hit
	f.wantHop(0)
	f.wait("ledger row that names the engine", func() bool {
		return f.count(`SELECT count(*) FROM mail WHERE action = 'defer' AND engines @> '[{"engine": "clamav", "answered": false}]'`) == 1
	})
}

// TestStoresFail breaks each store in turn: nothing is lost, nothing goes on unrecorded.
func TestStoresFail(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		sql            string
		clean, hostile int
	}{
		"the ledger":     {"REVOKE INSERT ON mail FROM mailward_app", 451, 451},
		"the quarantine": {"REVOKE INSERT ON quarantine_item FROM mailward_app", 250, 451},
		"the audit":      {"REVOKE EXECUTE ON FUNCTION audit.append(uuid, bytea, jsonb) FROM mailward_app", 250, 451},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, false)
			_, err := f.db.Admin(t).Exec(context.Background(), "BEGIN; SELECT audit.maintenance('test', 'fault injection'); "+tt.sql+"; COMMIT")
			fatal(t, err)
			f.wantReply(f.send("clean"), tt.clean)
			f.wantReply(f.send("malware"), tt.hostile)
			want := 0
			if tt.clean == 250 {
				want = 1
			}
			f.wantHop(want)
		})
	}
}

// TestDiskFull: without room for held or queued mail the client hears 452, nobody
// gets a copy, and with room again its next try is held.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	f.hop.RefuseRcpt("carol@ours.example", 451)
	f.room.full.Store(true)
	for _, c := range []*client{f.dial(), f.dial()} {
		if got := c.send("erika@sender.example", []string{"bob@ours.example"}, "Subject: malware\r\n\r\nx\r\n"); !strings.HasPrefix(got, "452 4.3.1 ") {
			t.Errorf("malware: %q", got)
		}
	}
	f.wantReply(f.send("clean, one later", "bob@ours.example", "carol@ours.example"), 452)
	f.wantHop(0)
	f.wantReply(f.send("clean"), 250) // what needs no room goes on
	if n := f.count("SELECT (SELECT count(*) FROM quarantine_item) + (SELECT count(*) FROM delivery WHERE state <> 'cancelled') + (SELECT count(*) FROM blob)"); n != 0 {
		t.Errorf("%d rows of mails that were refused", n)
	}
	f.room.full.Store(false)
	f.wantReply(f.send("malware"), 250)
	f.wantReply(f.send("clean, one later", "bob@ours.example", "carol@ours.example"), 250)
	if n := f.count("SELECT (SELECT count(*) FROM quarantine_item) + (SELECT count(*) FROM delivery)"); n != 2 {
		t.Errorf("%d rows", n)
	}
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	idle := f.dial()
	silent := f.tcp(t) // has not said EHLO
	f.wantReply(silent.reply(), 220)
	busy := f.dial()
	busy.say("MAIL FROM:<a@sender.example>")
	busy.say("RCPT TO:<bob@ours.example>")
	busy.say("DATA")
	time.Sleep(50 * time.Millisecond)
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		done <- f.srv.Shutdown(ctx)
	}()
	f.wantReply(idle.reply(), 421)
	f.wantReply(silent.reply(), 421)
	io.WriteString(busy, "Subject: last\r\n\r\nx\r\n.\r\n")
	f.wantReply(busy.reply(), 250)
	if err := <-done; err != nil {
		t.Error(err)
	}
	f.wantHop(1)
}

func TestReply(t *testing.T) {
	id := uuid.New()
	for err, want := range map[error]string{
		io.ErrUnexpectedEOF: "451", message.ErrBareNewline: "554", message.ErrTooBig: "552", message.ErrDiskFull: "452", quarantine.ErrDiskFull: "452", fmt.Errorf("x: %w", &pgconn.PgError{Code: "53100"}): "452", errRelayDenied: "550", errLoop: "554",
		&hop.Reply{Code: 421, Text: "bye"}: "451", &hop.Reply{Code: 550, Enhanced: "5.1.1", Text: "no such user"}: "550", &hop.Reply{Code: 354}: "451",
		fmt.Errorf("secret 10.0.0.1: %w", hop.ErrConnect): "451", fmt.Errorf("10.0.0.1: %w", hop.ErrBusy): "451", hop.ErrUTF8: "550", hop.ErrBareNewline: "554", hop.ErrNoRoute: "451",
	} {
		got := reply(withID(err, id)).Error()
		if !strings.Contains(got, want) || !strings.Contains(got, id.String()) || strings.Contains(got, "10.0.0.1") {
			t.Errorf("%v: %q, want %s", err, got, want)
		}
	}
	if reply(nil) != nil {
		t.Error("no failure, but a reply")
	}
}
