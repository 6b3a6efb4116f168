package gateway

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/internal/dns"
	"mailward/internal/message"
	"mailward/internal/pg"
	"mailward/internal/testenv"
	"mailward/mailauth"
	"mailward/policy"
	"mailward/quarantine"
)

// outbound lets the loopback relay through a smarthost, which is the fixture's hop.
func (f *fixture) outbound(change func(*Config)) {
	f.t.Helper()
	routes := routesTo(f.hop.Addr)
	routes.Outbound = f.hop.Addr
	f.srv.deps.Policies.SetStatic(routes)
	f.listen(func(c *Config) {
		c.OutboundFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		if change != nil {
			change(c)
		}
	})
}

func (f *fixture) rcpt(from, to string) string {
	c := f.dial()
	f.wantReply(c.say("MAIL FROM:<"+from+">"), 250)
	return c.say("RCPT TO:<" + to + ">")
}

// TestRelay_StrangersHaveNone is the classical list of open relays.
func TestRelay_StrangersHaveNone(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	routes := routesTo(f.hop.Addr)
	routes.Outbound, routes.Default = f.hop.Addr, f.hop.Addr // ways out are there
	f.srv.deps.Policies.SetStatic(routes)
	for _, from := range []string{"", "a@world.example", "a@ours.example"} {
		for _, to := range []string{"x@world.example", "x%world.example@ours.example", "x@world.example@ours.example", `"x@world.example"@ours.example`, "@ours.example:x@world.example",
			`"x%world.example"@ours.example`, "world.example!x@ours.example", "world.example!x", "x%world.example", "x@[127.0.0.1]", "x@[IPv6:::1]", "x@127.0.0.1", "x@ours.example.", "x@localhost",
			`"x@world.example"`, "ours.example!world.example!x@ours.example", "@ours.example,@sender.example:x@world.example", "x@ours.example.world.example"} {
			r := f.rcpt(from, to)
			if to == "x@ours.example." { // our own domain, as an absolute name
				continue
			}
			if strings.HasPrefix(r, "2") || strings.HasPrefix(r, "4") {
				t.Errorf("from <%s> to <%s>: %s", from, to, r)
			}
		}
	}
}

func TestOutbound(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	f.outbound(nil)
	msg := "From: bob@ours.example\r\nSubject: out\r\n\r\nx\r\n"
	f.wantReply(f.dial().send("bob@ours.example", []string{"x@world.example", "y@else.example"}, msg), 250)
	m := f.wantHop(1)[0]
	if len(m.To) != 2 || !strings.Contains(string(m.Data), "X-Mailward-ID: ") || strings.Contains(string(m.Data), "Verdict") || strings.Contains(string(m.Data), "Authentication-Results") {
		t.Errorf("to %v: %s", m.To, m.Data)
	}
	f.wantReply(f.dial().send("", []string{"x@world.example"}, msg), 250)
	f.wantReply(f.rcpt("a@world.example", "x@world.example"), 550) // not one of our senders
	f.wantReply(f.rcpt("a@world.example", "bob@ours.example"), 250)
	f.wantReply(f.rcpt("bob@ours.example", "x@[192.0.2.1]"), 550)
	c := f.dial()
	c.say("MAIL FROM:<bob@ours.example>")
	f.wantReply(c.say("RCPT TO:<bob@ours.example>"), 250)
	if r := c.say("RCPT TO:<x@world.example>"); !strings.HasPrefix(r, "452 4.5.3") {
		t.Errorf("two directions in one transaction: %s", r)
	}
	// A held mail knows its direction, and spam of our own is held.
	f.wantReply(f.dial().send("bob@ours.example", []string{"x@world.example"}, "From: bob@ours.example\r\nSubject: spam\r\n\r\nx\r\n"), 250)
	f.wait("rows", func() bool {
		return f.count("SELECT count(*) FROM mail WHERE direction = 'outbound'") == 3 && f.count("SELECT count(*) FROM quarantine_item WHERE direction = 'outbound'") == 1
	})
	f.outbound(func(c *Config) { c.AnySender = true })
	f.wantReply(f.rcpt("a@world.example", "x@world.example"), 250)
	// To the MX of each domain: a transaction has one.
	routes := routesTo(f.hop.Addr)
	routes.Outbound = "mx"
	f.srv.deps.Policies.SetStatic(routes)
	c = f.dial()
	c.say("MAIL FROM:<bob@ours.example>")
	f.wantReply(c.say("RCPT TO:<x@world.example>"), 250)
	f.wantReply(c.say("RCPT TO:<y@world.example>"), 250)
	f.wantReply(c.say("RCPT TO:<x@else.example>"), 452)
}

// resolver asks a DNS server of the test.
func resolver(t testing.TB, zone string) *dns.Resolver {
	t.Helper()
	r, err := dns.New(dns.Config{Servers: []string{testenv.DNS(t, zone).Addr}, Try: time.Second}, nil)
	fatal(t, err)
	return r
}

// signingKey makes a key in a file, and its record.
func signingKey(t testing.TB, selector, domain string) (file, record string) {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	fatal(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(k)
	fatal(t, err)
	path := filepath.Join(t.TempDir(), "key.pem")
	fatal(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	pub, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	fatal(t, err)
	b64 := base64.StdEncoding.EncodeToString(pub)
	return "file:" + path, fmt.Sprintf("%s._domainkey.%s. TXT \"v=DKIM1; k=rsa; p=%s\" \"%s\"\n", selector, domain, b64[:200], b64[200:])
}

func newSigner(t testing.TB, cfg mailauth.SignConfig) *mailauth.Signer {
	t.Helper()
	s, err := mailauth.NewSigner(cfg)
	fatal(t, err)
	s.Refresh(context.Background())
	return s
}

// checked is what a receiver finds out about a mail.
func checked(t testing.TB, r *dns.Resolver, data []byte) mailauth.Result {
	t.Helper()
	cfg := message.DefaultConfig()
	cfg.Dir, cfg.MinFree = t.TempDir(), 0
	sp, err := message.NewSpooler(cfg)
	fatal(t, err)
	s, err := sp.FromBytes(data)
	fatal(t, err)
	defer s.Close()
	return mailauth.New(r).Check(context.Background(), message.Envelope{From: "bob@ours.example", Helo: "mx.ours.example", ClientIP: netip.MustParseAddr("127.0.0.1")}, s)
}

func TestOutbound_IsSigned(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	oldKey, oldRecord := signingKey(t, "old", "ours.example")
	newKey, newRecord := signingKey(t, "new", "ours.example")
	zone := oldRecord + newRecord + "_dmarc.ours.example. TXT \"v=DMARC1; p=reject\"\nours.example. TXT \"v=spf1 -all\"\n"
	r := resolver(t, zone)
	now := time.Now()
	clock := func() time.Time { return now }
	s := newSigner(t, mailauth.SignConfig{DNS: r, Now: clock, Domains: []mailauth.DomainKeys{{Domain: "ours.example", Keys: []mailauth.KeyConfig{
		{Selector: "old", Source: oldKey, NotAfter: now.Add(2 * time.Hour)}, {Selector: "new", Source: newKey, NotBefore: now.Add(time.Hour)}}}}})
	f.srv.deps.Signer = s
	f.outbound(nil)
	msg := "From: bob@ours.example\r\nAuthentication-Results: mx.ours.example; dkim=pass\r\nSubject: out\r\n\r\n..x\r\n"
	want := func(selector string, n int) {
		t.Helper()
		f.wantReply(f.dial().send("bob@ours.example", []string{"x@world.example"}, msg), 250)
		data := f.wantHop(n)[n-1].Data
		got := checked(t, r, data)
		if got.DMARC.Result != mailauth.Pass || len(got.DKIM) != 1 || got.DKIM[0].Selector != selector || !strings.HasPrefix(string(data), "DKIM-Signature:") {
			t.Errorf("%+v\n%s", got, data)
		}
	}
	want("old", 1)
	now = now.Add(90 * time.Minute) // the new key's time has come
	s.Refresh(context.Background())
	want("new", 2)
	// A held mail is signed as it will be sent.
	f.wantReply(f.dial().send("bob@ours.example", []string{"x@world.example"}, strings.Replace(msg, "out", "spam", 1)), 250)
	page, err := f.held.List(context.Background(), quarantine.Filter{Workspaces: []uuid.UUID{policy.DefaultWorkspace}})
	fatal(t, err)
	f.release(page.Items[0])
	f.work()
	f.wait("released mail", func() bool { return len(f.hop.Messages()) == 3 })
	if got := checked(t, r, f.hop.Messages()[2].Data); got.DMARC.Result != mailauth.Pass {
		t.Errorf("released: %+v", got)
	}
	// What comes in has no signature of ours.
	f.wantReply(f.dial().send("bob@ours.example", []string{"bob@ours.example"}, msg), 250)
	if d := f.wantHop(4)[3].Data; strings.Contains(string(d), "DKIM-Signature") {
		t.Errorf("inbound mail was signed: %s", d)
	}
}

// away is an OpenBao that does not answer.
type away struct{}

func (away) DKIM(context.Context, string, []byte, []byte, func() io.Reader) ([]byte, error) {
	return nil, errors.New("bao: not reachable")
}

func (away) Seal(context.Context, mailauth.ARC, string, []byte, []byte, func() io.Reader) ([]byte, error) {
	return nil, errors.New("bao: not reachable")
}

func TestOutbound_KeyAway(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	f.srv.deps.Signer = away{}
	f.outbound(nil)
	r := f.dial().send("bob@ours.example", []string{"x@world.example"}, "From: bob@ours.example\r\n\r\nx\r\n")
	if !strings.HasPrefix(r, "451 4.7.1") || strings.Contains(r, "bao") {
		t.Errorf("unsigned: %s", r)
	}
	f.wantHop(0)
	f.listen(func(c *Config) { c.OutboundFrom = nil })
	f.wantReply(f.send("in"), 250) // unsealed, and on record
	f.wantHop(1)
	f.wait("records", func() bool {
		return f.count("SELECT count(*) FROM mail WHERE reasons::text LIKE '%without an ARC seal%' AND action = 'deliver'") == 1 &&
			f.count("SELECT count(*) FROM mail WHERE reasons::text LIKE '%cannot be signed for ours.example%' AND action = 'defer'") == 1
	})
}

func (f *fixture) dmarc(mode policy.DMARCMode, sealers ...string) {
	f.t.Helper()
	_, err := f.srv.deps.Policies.PutPolicy(context.Background(), pg.Operator("test"), policy.Policy{Domain: "ours.example", Actions: map[policy.Class]policy.Action{policy.Spam: policy.Tag},
		Auth: &policy.AuthSettings{DMARC: mode, TrustedARCSealers: sealers}}, nil)
	fatal(f.t, err)
}

func TestDMARC_BySetting(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	f.srv.deps.Auth = mailauth.New(resolver(t, `
_dmarc.bank.example. TXT "v=DMARC1; p=reject"
_dmarc.soft.example. TXT "v=DMARC1; p=quarantine"
_dmarc.test.example. TXT "v=DMARC1; p=reject; t=y"
bank.example. TXT "v=spf1 -all"
soft.example. TXT "v=spf1 -all"
test.example. TXT "v=spf1 -all"
`))
	f.listen(func(*Config) {})
	spoof := func(domain string, to ...string) string {
		if to == nil {
			to = []string{"bob@ours.example"}
		}
		return f.dial().send("evil@"+domain, to, "From: The Bank <a@"+domain+">\r\nSubject: money\r\n\r\n"+time.Now().String()+"\r\n")
	}
	held := func() int { return f.count("SELECT count(*) FROM quarantine_item WHERE class = 'phishing'") }
	f.wantReply(spoof("bank.example"), 250) // the default: quarantine
	if held() != 1 {
		t.Error("not held")
	}
	f.dmarc(policy.Honour)
	if r := spoof("bank.example"); !strings.HasPrefix(r, "550 5.7.26 ") || !strings.Contains(r, "bank.example") {
		t.Errorf("honour: %s", r)
	}
	// A second author does not get it around that.
	if r := f.dial().send("x@evil.example", []string{"bob@ours.example"}, "From: x@evil.example, a@bank.example\r\nSubject: money\r\n\r\nhello\r\n"); !strings.HasPrefix(r, "550 5.7.26 ") || !strings.Contains(r, "bank.example") {
		t.Errorf("two authors: %s", r)
	}
	f.wantReply(spoof("soft.example"), 250)
	f.wantReply(spoof("test.example"), 250)
	f.wantReply(spoof("bank.example", "bob@ours.example", "eve@sender.example"), 250) // another domain quarantines, so nobody is refused
	if held() != 4 {
		t.Errorf("%d held, want 4", held())
	}
	f.wantHop(0)
	f.dmarc(policy.ReportOnly)
	f.wantReply(spoof("bank.example"), 250)
	if d := string(f.wantHop(1)[0].Data); !strings.Contains(d, "dmarc=fail") {
		t.Errorf("no result: %s", d)
	}
	f.wait("findings", func() bool {
		return f.count("SELECT count(*) FROM mail WHERE findings::text LIKE '%DMARC.Reject%'") == 4
	})
	// A person's word stands: what was held is delivered, and not held again.
	items, err := f.held.List(context.Background(), quarantine.Filter{Workspaces: []uuid.UUID{policy.DefaultWorkspace}})
	fatal(t, err)
	f.release(items.Items[len(items.Items)-1])
	f.work()
	f.wait("released mail", func() bool { return len(f.hop.Messages()) == 2 })
	if held() != 4 {
		t.Error("released mail was held again")
	}
}

func TestDMARC_ForwardedMail(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	author, authorRecord := signingKey(t, "s1", "bank.example")
	list, listRecord := signingKey(t, "arc", "list.example")
	r := resolver(t, authorRecord+listRecord+"_dmarc.bank.example. TXT \"v=DMARC1; p=reject\"\nbank.example. TXT \"v=spf1 -all\"\n")
	f.srv.deps.Auth = mailauth.New(r)
	f.listen(func(*Config) {})
	header, body := []byte("From: a@bank.example\r\nSubject: news\r\n\r\n"), func() io.Reader { return strings.NewReader("hello\r\n") }
	by := newSigner(t, mailauth.SignConfig{DNS: r, Domains: []mailauth.DomainKeys{{Domain: "bank.example", Keys: []mailauth.KeyConfig{{Selector: "s1", Source: author}}}}})
	sig, err := by.DKIM(context.Background(), "bank.example", nil, header, body)
	fatal(t, err)
	was := checked(t, r, append(append(sig, header...), "hello\r\n"...))
	if was.DMARC.Result != mailauth.Pass {
		t.Fatalf("%+v", was)
	}
	// The list changes the subject, which breaks the signature, and seals.
	header = append(sig, "From: a@bank.example\r\nSubject: [list] news\r\n\r\n"...)
	ls := newSigner(t, mailauth.SignConfig{DNS: r, Hostname: "mx.list.example", Seal: &mailauth.Key{Domain: "list.example", Keys: []mailauth.KeyConfig{{Selector: "arc", Source: list}}}})
	forward := func(results string) string {
		seal, err := ls.Seal(context.Background(), mailauth.ARC{Result: mailauth.None}, results, nil, header, body)
		fatal(t, err)
		return f.dial().send("list@list.example", []string{"bob@ours.example"}, string(seal)+string(header)+"hello\r\n")
	}
	good := "mx.list.example; " + was.Header
	f.dmarc(policy.Honour)
	f.wantReply(forward(good), 550)
	f.dmarc(policy.Honour, "other.example")
	f.wantReply(forward(good), 550)
	f.dmarc(policy.Honour, "list.example")
	f.wantReply(forward(good), 250)
	f.wantReply(forward("mx.list.example; dmarc=fail header.from=bank.example"), 550)
	f.wantReply(forward("mx.list.example; dmarc=pass header.from=evil.example"), 550)
	f.wantReply(forward("mx.list.example; none"), 550)
	f.wantHop(1)
}

func TestInbound_IsSealed(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	key, record := signingKey(t, "arc", "ours.example")
	r := resolver(t, record)
	f.srv.deps.Auth = mailauth.New(r)
	f.srv.deps.Signer = newSigner(t, mailauth.SignConfig{DNS: r, Hostname: "mx.ours.example", Seal: &mailauth.Key{Domain: "ours.example", Keys: []mailauth.KeyConfig{{Selector: "arc", Source: key}}}})
	f.listen(func(*Config) {})
	f.wantReply(f.send("sealed"), 250)
	d := f.wantHop(1)[0].Data
	got := checked(t, r, d)
	if got.ARC.Result != mailauth.Pass || got.ARC.Sealers[0] != "ours.example" || got.ARC.Seen[0].AuthServ != "mx.ours.example" {
		t.Errorf("%+v\n%s", got.ARC, d)
	}
}

// TestSign_WithEd25519 keeps both algorithms on the path.
func TestSign_WithEd25519(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	pub, k, err := ed25519.GenerateKey(rand.Reader)
	fatal(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(k)
	fatal(t, err)
	path := filepath.Join(t.TempDir(), "ed.pem")
	fatal(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	r := resolver(t, "ed._domainkey.ours.example. TXT \"v=DKIM1; k=ed25519; p="+base64.StdEncoding.EncodeToString(pub)+"\"\n")
	f.srv.deps.Signer = newSigner(t, mailauth.SignConfig{DNS: r, Domains: []mailauth.DomainKeys{{Domain: "ours.example", Keys: []mailauth.KeyConfig{{Selector: "ed", Source: "file:" + path}}}}})
	f.outbound(nil)
	f.wantReply(f.dial().send("bob@ours.example", []string{"x@world.example"}, "From: Bob <bob@sub.ours.example>\r\n\r\nx\r\n"), 250)
	if got := checked(t, r, f.wantHop(1)[0].Data); len(got.DKIM) != 1 || got.DKIM[0].Result != mailauth.Pass {
		t.Errorf("%+v", got.DKIM)
	}
}

// transit is an OpenBao with one key, which can go away.
type transit struct {
	key  ed25519.PrivateKey
	away atomic.Bool
}

func (o *transit) TransitKeys(context.Context, string) (map[int]crypto.PublicKey, error) {
	if o.away.Load() {
		return nil, errors.New("bao: not reachable")
	}
	return map[int]crypto.PublicKey{1: o.key.Public()}, nil
}

func (o *transit) TransitSign(_ context.Context, _ string, _ int, digest []byte, _ string) ([]byte, error) {
	if o.away.Load() {
		return nil, errors.New("bao: not reachable")
	}
	return ed25519.Sign(o.key, digest), nil
}

// TestOutbound_KeyInOpenBao: signed while it is there, 451 while it is not,
// signed again when it is back.
func TestOutbound_KeyInOpenBao(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	fatal(t, err)
	o := &transit{key: key}
	r := resolver(t, "s1v1._domainkey.ours.example. TXT \"v=DKIM1; k=ed25519; p="+base64.StdEncoding.EncodeToString(pub)+"\"\n")
	s := newSigner(t, mailauth.SignConfig{DNS: r, Transit: o, Domains: []mailauth.DomainKeys{{Domain: "ours.example", Keys: []mailauth.KeyConfig{{Selector: "s1", Source: "bao:mail"}}}}})
	f.srv.deps.Signer = s
	f.outbound(nil)
	send := func() string {
		return f.dial().send("bob@ours.example", []string{"x@world.example"}, "From: bob@ours.example\r\n\r\nx\r\n")
	}
	f.wantReply(send(), 250)
	o.away.Store(true)
	f.wantReply(send(), 451)
	s.Refresh(context.Background())
	f.wantReply(send(), 451)
	// Mail in the name of a domain without a key needs none.
	f.wantReply(f.dial().send("eve@sender.example", []string{"x@world.example"}, "From: eve@sender.example\r\n\r\nx\r\n"), 250)
	o.away.Store(false)
	f.wantReply(send(), 250)
	for i, want := range []int{1, 0, 1} {
		if got := checked(t, r, f.wantHop(3)[i].Data); len(got.DKIM) != want || want == 1 && got.DKIM[0].Result != mailauth.Pass {
			t.Errorf("mail %d: %+v", i, got.DKIM)
		}
	}
}
