package queue

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/textproto"
	"strings"
	"testing"
	"time"

	gomessage "github.com/emersion/go-message"
	_ "github.com/emersion/go-message/charset"
	"github.com/google/uuid"

	"mailward/gateway/hop"
	"mailward/gateway/ledger"
	"mailward/internal/testenv"
)

// parsed is a notification as a mail program reads it.
type parsed struct {
	header gomessage.Header
	types  []string
	text   string
	msg    textproto.MIMEHeader
	rcpts  []textproto.MIMEHeader
	rest   string // the third part
}

// parse reads a notification with a library that knows nothing of ours.
func parse(t testing.TB, b []byte) (p parsed) {
	t.Helper()
	e, err := gomessage.Read(bytes.NewReader(b))
	if err != nil {
		t.Fatalf("%v in\n%s", err, b)
	}
	p.header = e.Header
	mr := e.MultipartReader()
	if mr == nil {
		t.Fatalf("no multipart:\n%s", b)
	}
	for {
		part, err := mr.NextPart()
		if err == io.EOF {
			return p
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, b)
		}
		kind, _, _ := part.Header.ContentType()
		body, err := io.ReadAll(part.Body)
		if err != nil {
			t.Fatal(err)
		}
		p.types = append(p.types, kind)
		switch {
		case kind == "text/plain":
			p.text = string(body)
		case strings.HasSuffix(kind, "delivery-status"):
			r := textproto.NewReader(bufio.NewReader(bytes.NewReader(body)))
			if p.msg, err = r.ReadMIMEHeader(); err != nil {
				t.Fatalf("%v in\n%s", err, body)
			}
			for {
				h, err := r.ReadMIMEHeader()
				if len(h) > 0 {
					p.rcpts = append(p.rcpts, h)
				}
				if err != nil {
					break
				}
			}
		default:
			p.rest = string(body)
		}
	}
}

func testReport(change ...func(*report)) report {
	r := report{id: uuid.MustParse("01890000-0000-7000-8000-000000000001"), mailID: uuid.MustParse("01890000-0000-7000-8000-000000000002"), boundary: "b1", hostname: "mx.ours.example",
		sender: "erika@sender.example", arrived: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), now: time.Date(2026, 1, 2, 4, 4, 5, 0, time.UTC),
		header: []byte("Message-ID: <m1@sender.example>\r\nSubject: hi\r\n"),
		fates:  []fate{{rcpt: rcpt("bob@ours.example"), action: actionFailed, reply: hop.Reply{Code: 550, Enhanced: "5.1.1", Text: "no such user"}}}}
	for _, c := range change {
		c(&r)
	}
	return r
}

func (r report) bytes() []byte {
	before, after := r.render()
	return append(before, after...)
}

func TestReport_Structure(t *testing.T) {
	t.Parallel()
	b := testReport(func(r *report) {
		r.envID = "QQ+2B314"
		r.fates[0].rcpt.ORCPT = "rfc822;Bob+2Btag@ours.example"
		r.fates = append(r.fates, fate{rcpt: rcpt("eve@ours.example"), action: actionFailed, gaveUp: true, reply: hop.Reply{Text: "hop: next hop cannot be reached: 10.0.0.7:25"}})
	}).bytes()
	p := parse(t, b)
	if got := strings.Join(p.types, " "); got != "text/plain message/delivery-status text/rfc822-headers" {
		t.Errorf("parts %s", got)
	}
	kind, params, _ := p.header.ContentType()
	if kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Errorf("%s %v", kind, params)
	}
	for name, want := range map[string]string{"To": "<erika@sender.example>", "Auto-Submitted": "auto-replied", "From": "Mail Delivery System <postmaster@mx.ours.example>", "References": "<m1@sender.example>", "Mime-Version": "1.0"} {
		if got := p.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for name, want := range map[string]string{"Reporting-Mta": "dns; mx.ours.example", "Original-Envelope-Id": "QQ+314", "Arrival-Date": "Fri, 02 Jan 2026 03:04:05 +0000"} {
		if got := p.msg.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if len(p.rcpts) != 2 {
		t.Fatalf("%d recipients", len(p.rcpts))
	}
	for i, want := range []map[string]string{
		{"Original-Recipient": "rfc822; Bob+tag@ours.example", "Final-Recipient": "rfc822; bob@ours.example", "Action": "failed", "Status": "5.1.1", "Diagnostic-Code": "smtp; 550 5.1.1 no such user"},
		{"Original-Recipient": "", "Final-Recipient": "rfc822; eve@ours.example", "Action": "failed", "Status": "4.4.7", "Diagnostic-Code": ""},
	} {
		for name, v := range want {
			if got := p.rcpts[i].Get(name); got != v {
				t.Errorf("recipient %d, %s: %q, want %q", i, name, got, v)
			}
		}
	}
	for _, want := range []string{"could not be delivered to", "konnte nicht zugestellt werden", "<bob@ours.example>", "550 5.1.1 no such user", "Empfängers war nicht erreichbar"} {
		if !strings.Contains(p.text, want) {
			t.Errorf("the text lacks %q:\n%s", want, p.text)
		}
	}
	if bytes.Contains(b, []byte("10.0.0.7")) {
		t.Error("the address of a next hop is told to the world")
	}
	if p.rest != "Message-ID: <m1@sender.example>\r\nSubject: hi\r\n" {
		t.Errorf("headers %q", p.rest)
	}
	wantASCII(t, b)
}

func wantASCII(t testing.TB, b []byte) {
	t.Helper()
	for _, c := range b {
		if c >= 0x80 || c < 0x20 && c != '\r' && c != '\n' && c != '\t' {
			t.Fatalf("byte %#x in a report that should be ASCII", c)
		}
	}
}

func TestReport_Actions(t *testing.T) {
	t.Parallel()
	until := time.Date(2026, 1, 7, 0, 0, 0, 0, time.UTC)
	p := parse(t, testReport(func(r *report) {
		r.fates = []fate{{rcpt: rcpt("bob@ours.example"), action: actionDelayed, until: until, reply: hop.Reply{Text: "10.0.0.7 is down"}}}
	}).bytes())
	if h := p.rcpts[0]; h.Get("Action") != "delayed" || h.Get("Status") != "4.4.1" || h.Get("Will-Retry-Until") != "Wed, 07 Jan 2026 00:00:00 +0000" {
		t.Errorf("%v", h)
	}
	p = parse(t, testReport(func(r *report) {
		r.fates = []fate{{rcpt: rcpt("bob@ours.example"), action: actionRelayed}}
	}).bytes())
	if h := p.rcpts[0]; h.Get("Action") != "relayed" || h.Get("Status") != "2.0.0" || h.Get("Diagnostic-Code") != "" {
		t.Errorf("%v", h)
	}
	// A code of the wrong class is not taken over: programs believe the class.
	p = parse(t, testReport(func(r *report) { r.fates[0].reply.Enhanced = "2.1.5" }).bytes())
	if s := p.rcpts[0].Get("Status"); s != "5.0.0" {
		t.Error(s)
	}
}

func TestReport_InternationalisedAddresses(t *testing.T) {
	t.Parallel()
	// To a sender with an ASCII address, all of it is ASCII (RFC 6533 §3).
	b := testReport(func(r *report) { r.fates[0].rcpt.Address = "jürgen+x@ours.example" }).bytes()
	wantASCII(t, b)
	p := parse(t, b)
	if got := p.rcpts[0].Get("Final-Recipient"); got != `utf-8; j\x{FC}rgen\x{2B}x@ours.example` {
		t.Error(got)
	}
	// To one with an address outside of ASCII, it is a global report.
	p = parse(t, testReport(func(r *report) {
		r.utf8, r.sender, r.fates[0].rcpt.Address = true, "erika@müller.example", "jürgen@ours.example"
		r.fates[0].rcpt.ORCPT = "utf-8;jürgen@ours.example"
		r.header = []byte("Subject: grüße\r\n")
	}).bytes())
	if got := strings.Join(p.types, " "); got != "text/plain message/global-delivery-status message/global-headers" {
		t.Error(got)
	}
	if h := p.rcpts[0]; h.Get("Final-Recipient") != "utf-8; jürgen@ours.example" || h.Get("Original-Recipient") != "utf-8; jürgen@ours.example" {
		t.Errorf("%v", h)
	}
	if to := p.header.Get("To"); to != "<erika@müller.example>" || p.rest != "Subject: grüße\r\n" {
		t.Errorf("To %q, headers %q", to, p.rest)
	}
}

func TestXtext(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"": "", "a+2Bb": "a+b", "+3D": "=", "+": "+", "+2": "+2", "+zz": "+zz", "a+0Ab": "a\nb"} {
		if got := fromXtext(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func TestWants(t *testing.T) {
	t.Parallel()
	for notify, want := range map[string]string{"": "FAILURE DELAY", "NEVER": "", "SUCCESS": "SUCCESS", "FAILURE,DELAY": "FAILURE DELAY", "success,failure": "SUCCESS FAILURE"} {
		var got []string
		for _, w := range []string{notifySuccess, notifyFailure, notifyDelay} {
			if wants(notify, w) {
				got = append(got, w)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %v", notify, got)
		}
	}
}

// FuzzReport writes reports about mails that somebody made to break them: a
// report is parsed as what it is, whatever was put into it.
func FuzzReport(f *testing.F) {
	f.Add("erika@sender.example", "bob@ours.example", "rfc822;bob+40x", "id+2B", "550", "5.1.1", "no\r\nBcc: x", []byte("Subject: a\r\n\r\n--b1--\r\n"), false)
	f.Add("\"a b\"@x", "a>\r\nTo: b", "utf-8;\xff", "\x00", "x", "5.1.1.1", "\u2028\u202e", []byte("\n.\n\r"), true)
	f.Fuzz(func(t *testing.T, sender, to, orcpt, envID, code, enhanced, text string, header []byte, global bool) {
		boundary := "mailward-" + uuid.NewString()
		b := testReport(func(r *report) {
			r.boundary, r.utf8, r.sender, r.envID, r.header = boundary, global, sender, envID, header[:min(len(header), headerMost)]
			r.fates = []fate{{rcpt: hop.Recipient{Address: to, ORCPT: orcpt}, action: actionFailed, reply: hop.Reply{Code: len(code), Enhanced: enhanced, Text: text}}}
		}).bytes()
		if !global {
			wantASCII(t, b)
		}
		for l := range bytes.SplitSeq(b, []byte("\r\n")) {
			if len(l) > 998 || bytes.ContainsAny(l, "\r\n\x00") {
				t.Fatalf("line of %d bytes: %q", len(l), l)
			}
		}
		p := parse(t, b)
		if len(p.types) != 2 && len(p.types) != 3 || p.types[0] != "text/plain" || !strings.HasSuffix(p.types[1], "delivery-status") {
			t.Fatalf("parts %v", p.types)
		}
		if p.header.Len() > 10 || p.header.Has("Bcc") {
			t.Fatalf("header fields: %v", p.header.Map())
		}
		if len(p.rcpts) != 1 || p.rcpts[0].Get("Action") != "failed" || !statusCode(p.rcpts[0].Get("Status")) {
			t.Fatalf("recipients %v of\n%s", p.rcpts, b)
		}
		for name := range p.rcpts[0] {
			switch name {
			case "Original-Recipient", "Final-Recipient", "Action", "Status", "Diagnostic-Code":
			default:
				t.Fatalf("field %s", name)
			}
		}
	})
}

// failed makes a hop refuse a mail for good, and returns the notifications of it.
func (f *fixture) failed(m Mail, to hop.Recipient) []testenv.Message {
	f.t.Helper()
	f.hop.RefuseRcpt(to.Address, 550)
	id := f.later(m, to)[0]
	f.work(f.queue)
	f.wantState(id, Failed)
	if f.count("SELECT count(*) FROM delivery WHERE kind = 'dsn'") == 0 {
		return nil
	}
	return f.dsns(1)
}

func TestDSN_Failed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	m := f.failed(f.mail(func(m *Mail) { m.Envelope.EnvID = "env1" }), hop.Recipient{Address: "bob@ours.example", ORCPT: "rfc822;bobby@ours.example"})
	if len(m) != 1 || m[0].To[0] != "erika@sender.example" {
		t.Fatalf("%v", m)
	}
	p := parse(t, m[0].Data)
	h := p.rcpts[0]
	if p.msg.Get("Original-Envelope-Id") != "env1" || h.Get("Original-Recipient") != "rfc822; bobby@ours.example" || h.Get("Status") != "5.1.1" || p.rest != "Message-ID: <m1@sender.example>\r\nSubject: late\r\n" {
		t.Errorf("%v %v %q", p.msg, h, p.rest)
	}
	if n := f.count("SELECT count(*) FROM delivery WHERE kind = 'dsn' AND notify = 'NEVER' AND envelope_from = ''"); n != 1 {
		t.Error("the notification itself may be notified about")
	}
}

func TestDSN_Full(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	m := f.failed(f.mail(func(m *Mail) { m.Envelope.Ret = "FULL" }), rcpt("bob@ours.example"))
	if p := parse(t, m[0].Data); p.types[2] != "message/rfc822" || p.rest != mailText {
		t.Errorf("%v %q", p.types, p.rest)
	}
}

// TestDSN_NotTold: the null sender, a forged one, and one that does not want to
// know hear nothing, and neither does anybody of a notification that fails.
func TestDSN_NotTold(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*Mail)
		notify string
	}{
		"null sender":     {func(m *Mail) { m.Envelope.From = "" }, ""},
		"forged":          {func(m *Mail) { m.Suspect = true }, ""},
		"never":           {func(*Mail) {}, "NEVER"},
		"only of success": {func(*Mail) {}, "SUCCESS"},
		"no route":        {func(m *Mail) { m.Envelope.From = "x@foreign.example" }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			if m := f.failed(f.mail(c.change), hop.Recipient{Address: "bob@ours.example", Notify: c.notify}); m != nil {
				t.Errorf("%v", m)
			}
		})
	}
}

func TestDSN_NoLoop(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.hop.RefuseRcpt("erika@sender.example", 550)
	f.hop.RefuseRcpt("bob@ours.example", 550)
	f.later(f.mail(), rcpt("bob@ours.example"))
	f.work(f.queue)
	f.wait("end of both", func() bool { return f.count("SELECT count(*) FROM delivery WHERE state = 'failed'") == 2 })
	if n := f.count("SELECT count(*) FROM delivery"); n != 2 {
		t.Errorf("%d deliveries: a notification was answered", n)
	}
}

func TestDSN_ManyRecipientsInOne(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	no := hop.Reply{Code: 550, Enhanced: "5.1.1", Text: "no"}
	ids, err := f.queue.Undeliverable(context.Background(), f.mail(), f.hop.Addr, []Refusal{{rcpt("a@ours.example"), no}, {hop.Recipient{Address: "b@ours.example", Notify: "NEVER"}, no}, {rcpt("c@ours.example"), no}})
	fatal(t, err)
	f.exec("UPDATE delivery SET next_attempt_at = now()")
	f.work(f.queue)
	f.wantState(ids[0], Delivered)
	p := parse(t, f.dsns(1)[0].Data)
	if len(p.rcpts) != 2 || strings.Contains(p.text, "b@ours.example") {
		t.Errorf("%v", p.rcpts)
	}
	f.wait("word about the one that is not told", func() bool {
		return f.count("SELECT count(*) FROM mail_outcome WHERE state = $1 AND recipient = 'b@ours.example'", string(ledger.Failed)) == 1
	})
}

func TestDSN_Delayed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.hop.RefuseRcpt("bob@ours.example", 450)
	f.hop.RefuseRcpt("eve@ours.example", 450)
	f.hop.RefuseRcpt("mute@ours.example", 450)
	f.later(f.mail(), rcpt("bob@ours.example"), rcpt("eve@ours.example"), hop.Recipient{Address: "mute@ours.example", Notify: "FAILURE"})
	if n := f.count("SELECT count(*) FROM delivery WHERE warn_at IS NOT NULL"); n != 2 {
		t.Fatalf("%d are to be warned of", n)
	}
	f.work(f.queue)
	f.wait("attempts", func() bool {
		return f.count("SELECT count(*) FROM delivery WHERE kind = 'relay' AND attempts = 1 AND state = 'queued'") == 3
	})
	f.exec("UPDATE delivery SET warn_at = now() WHERE warn_at IS NOT NULL")
	fatal(t, f.queue.warn(context.Background()))
	fatal(t, f.queue.warn(context.Background())) // once is enough
	p := parse(t, f.dsns(1)[0].Data)
	if len(p.rcpts) != 2 || p.rcpts[0].Get("Action") != "delayed" || p.rcpts[0].Get("Diagnostic-Code") != "smtp; 450 4.1.1 not here" {
		t.Errorf("%v", p.rcpts)
	}
}

func TestDSN_Relayed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.later(f.mail(), hop.Recipient{Address: "bob@ours.example", Notify: "SUCCESS"})[0]
	f.work(f.queue)
	f.wantState(id, Delivered)
	p := parse(t, f.dsns(1)[0].Data)
	if p.rcpts[0].Get("Action") != "relayed" {
		t.Errorf("%v", p.rcpts)
	}
	// A hop that takes such wishes over reports itself.
	g := newFixture(t)
	g.hop.Features("PIPELINING", "DSN")
	id = g.later(g.mail(), hop.Recipient{Address: "bob@ours.example", Notify: "SUCCESS"})[0]
	g.work(g.queue)
	g.wantState(id, Delivered)
	if n := g.count("SELECT count(*) FROM delivery WHERE kind = 'dsn'"); n != 0 {
		t.Errorf("%d notifications besides the hop's", n)
	}
}

func TestExpire(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("INSERT INTO delivery_destination (name, failures, down_until, last_error) VALUES ('127.0.0.1:1', 3, now() + interval '1 hour', 'connect 127.0.0.1:1: refused')")
	id := f.later(f.mail(), rcpt("bob@dead.example"))[0]
	f.exec("UPDATE delivery SET give_up_at = now()")
	f.work(f.queue)
	f.wantState(id, Failed)
	p := parse(t, f.dsns(1)[0].Data)
	if h := p.rcpts[0]; h.Get("Action") != "failed" || h.Get("Status") != "4.4.7" {
		t.Errorf("%v", h)
	}
	if bytes.Contains(f.dsns(1)[0].Data, []byte("127.0.0.1")) {
		t.Error("our insides are told to the world")
	}
	f.wait("outcome", func() bool {
		return f.count("SELECT count(*) FROM mail_outcome WHERE state = 'failed' AND text LIKE 'relay: given up: %'") == 1
	})
}

// TestReport_EightBit: what holds a mail in 8bit says so as well (RFC 2045 §6.4).
func TestReport_EightBit(t *testing.T) {
	t.Parallel()
	for _, eightBit := range []bool{true, false} {
		r := report{hostname: "mx.ours.example", sender: "a@sender.example", boundary: "b", full: true, eightBit: eightBit, fates: []fate{{rcpt: hop.Recipient{Address: "bob@ours.example"}, action: actionFailed}}}
		before, after := r.render()
		head, _, _ := strings.Cut(string(before), "\r\n\r\n")
		if strings.Contains(head, "\r\nContent-Transfer-Encoding: 8bit") != eightBit {
			t.Errorf("8-bit mail %v:\n%s", eightBit, head)
		}
		if p := parse(t, []byte(string(before)+"Subject: \xc3\xbc\r\n\r\nx\r\n"+string(after))); len(p.types) != 3 {
			t.Errorf("%q", p.types)
		}
	}
}
