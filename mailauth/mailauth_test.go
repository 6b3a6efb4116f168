package mailauth

import (
	"context"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/authres"

	"mailward/internal/dns"
	"mailward/internal/message"
	"mailward/internal/testenv"
)

func spool(t testing.TB, mail string) *message.Spool {
	t.Helper()
	cfg := message.DefaultConfig()
	cfg.Dir, cfg.MinFree = t.TempDir(), 0
	s, err := message.NewSpooler(cfg)
	if err != nil {
		t.Fatal(err)
	}
	sp, err := s.FromBytes([]byte(mail))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sp.Close)
	return sp
}

const checkZone = `
good.example.    IN TXT "v=spf1 ip4:192.0.2.0/24 -all"
_dmarc.good.example. IN TXT "v=DMARC1; p=reject; sp=quarantine"
hard.example.    IN TXT "v=spf1 -all"
_dmarc.hard.example. IN TXT "v=DMARC1; p=reject; t=y"
broken.example.  IN TXT "v=spf1 -all"
bounces.good.example. IN TXT "v=spf1 a:mx.client.example -all"
mx.client.example. IN A 192.0.2.1
mx.client.example. IN TXT "v=spf1 a -all"
1.2.0.192.in-addr.arpa. IN PTR mx.client.example.
xn--bcher-kva.example. IN TXT "v=spf1 ip4:192.0.2.1 -all"
_dmarc.xn--bcher-kva.example. IN TXT "v=DMARC1; p=quarantine"
`

func TestCheck(t *testing.T) {
	t.Parallel()
	key := edKey(t)
	rec := record(t, key)
	r, server := asker(t, checkZone+`s._domainkey.good.example. IN TXT "`+rec+`"`)
	server.Fail("broken.example", testenv.DNSServFail)
	mail := func(from string) string { return "From: " + from + "\r\nSubject: x\r\n\r\nhello\r\n" }
	signed := signWith(t, key, mail("A <a@good.example>"), tag("d", "good.example"), tag("i", "@good.example"))
	for name, tt := range map[string]struct {
		sender, mail string
		want         []string // pieces of the header
		check        func(Result) bool
	}{
		"all is well": {"b@bounces.good.example", signed, []string{
			"spf=pass smtp.mailfrom=bounces.good.example", "spf=pass smtp.helo=mx.client.example",
			"dkim=pass header.d=good.example header.i=@good.example header.s=s header.a=ed25519-sha256 header.b=",
			"dmarc=pass header.from=good.example policy.dmarc=reject", "iprev=pass policy.iprev=192.0.2.1",
		}, func(r Result) bool {
			return r.DMARC.SPFAligned && r.DMARC.DKIMAligned && r.DKIM[0].Aligned && r.DMARC.Wanted() == None && r.IPRev.Name == "mx.client.example"
		}},
		"forged":                     {"x@elsewhere.example", mail("a@good.example"), []string{"spf=none smtp.mailfrom=elsewhere.example", "dkim=none", "dmarc=fail header.from=good.example policy.dmarc=reject"}, func(r Result) bool { return r.DMARC.Wanted() == Reject }},
		"forged subdomain":           {"x@elsewhere.example", mail("a@sub.good.example"), []string{"dmarc=fail header.from=sub.good.example policy.dmarc=quarantine"}, func(r Result) bool { return r.DMARC.OrgDomain == "good.example" && r.DMARC.Tag == "sp" }},
		"in testing":                 {"x@hard.example", mail("a@hard.example"), []string{"spf=fail smtp.mailfrom=hard.example", "dmarc=fail header.from=hard.example policy.dmarc=reject"}, func(r Result) bool { return r.DMARC.Wanted() == Quarantine }},
		"no record":                  {"x@nothing.example", mail("a@nothing.example"), []string{"spf=none", "dmarc=none header.from=nothing.example"}, nil},
		"DNS trouble":                {"x@broken.example", mail("a@good.example"), []string{`spf=temperror reason="DNS trouble" smtp.mailfrom=broken.example`, "dmarc=fail"}, nil},
		"null sender":                {"", signed, []string{"spf=pass smtp.helo=mx.client.example", "dmarc=pass"}, func(r Result) bool { return r.SPF.Identity == "helo" && !strings.Contains(r.Header, "smtp.mailfrom") }},
		"changed":                    {"x@elsewhere.example", strings.Replace(signed, "hello", "hullo", 1), []string{`dkim=fail reason="body hash does not match"`, "dmarc=fail"}, nil},
		"no From":                    {"b@bounces.good.example", "Subject: x\r\n\r\n", []string{`dmarc=permerror reason="no From field"`}, func(r Result) bool { return r.From == "" && r.FromProblem != "" }},
		"two From":                   {"b@bounces.good.example", "From: a@good.example\r\nFrom: x@evil.example\r\n\r\n", []string{`dmarc=permerror reason="several From fields"`}, nil},
		"two domains":                {"b@bounces.good.example", mail("a@good.example, x@evil.example"), []string{`dmarc=permerror`}, nil},
		"U-labels":                   {"x@b\u00fccher.example", mail("a@b\u00fccher.example"), []string{"smtp.mailfrom=xn--bcher-kva.example", "dmarc=pass header.from=xn--bcher-kva.example policy.dmarc=quarantine"}, nil},
		"hostile sender":             {"a@good.example;dkim=pass\r\nX: y", mail("a@good.example"), []string{"spf=none"}, nil},
		"@ in quotes":                {`"a@good.example"@hard.example`, mail("a@good.example"), []string{"spf=fail smtp.mailfrom=hard.example", "dmarc=fail"}, nil},
		"@ in quotes, the other way": {`"a@hard.example"@good.example`, mail("a@good.example"), []string{"spf=pass smtp.mailfrom=good.example"}, nil},
		"signature bomb":             {"a@good.example", strings.Repeat("DKIM-Signature: v=1; a=rsa-sha256; d=x; s=y; bh=z; b=q; h=From\r\n", 50) + mail("a@good.example"), []string{"dkim=permerror"}, func(r Result) bool { return len(r.DKIM) == maxSignatures && r.Unchecked == 45 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := message.Envelope{ClientIP: netip.MustParseAddr("192.0.2.1"), Helo: "mx.client.example", From: tt.sender}
			got := New(r).Check(t.Context(), env, spool(t, tt.mail))
			for _, w := range tt.want {
				if !strings.Contains(got.Header, w) {
					t.Errorf("no %q in\n%s", w, strings.ReplaceAll(got.Header, "; ", ";\n"))
				}
			}
			if tt.check != nil && !tt.check(got) {
				t.Errorf("%s", got.JSON)
			}
			wellFormed(t, got)
		})
	}
}

// wellFormed: the header can be read by others, and the record back.
func wellFormed(t *testing.T, got Result) {
	t.Helper()
	if strings.IndexFunc(got.Header, func(r rune) bool { return r < ' ' || r > '~' }) >= 0 {
		t.Errorf("not fit for a header: %q", got.Header)
	}
	if _, list, err := authres.Parse("mx.example; " + got.Header); err != nil || len(list) < 3 {
		t.Errorf("%q: %d results, %v", got.Header, len(list), err)
	}
	for s := range strings.SplitSeq(got.Header, "; ") {
		if !strictResult.MatchString(s) {
			t.Errorf("a strict reader stops at %q", s)
		}
	}
	var back Result
	if err := json.Unmarshal(got.JSON, &back); err != nil || back.DMARC != got.DMARC || back.SPF != got.SPF {
		t.Errorf("%s: %v", got.JSON, err)
	}
}

// Whatever DNS does, a mail waits no longer than its budget, and nothing is
// known then: no pass, and no fail either.
func TestCheck_SilentDNS(t *testing.T) {
	t.Parallel()
	server := testenv.DNS(t, "")
	server.Fail("", testenv.DNSSilent)
	r, err := dns.New(dns.Config{Servers: []string{server.Addr}, Try: time.Minute}, nil)
	if err != nil {
		t.Fatal(err)
	}
	key := edKey(t)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond) // in place of the budget
	defer cancel()
	begin := time.Now()
	env := message.Envelope{ClientIP: netip.MustParseAddr("192.0.2.1"), Helo: "mx.client.example", From: "a@good.example"}
	got := New(r).Check(ctx, env, spool(t, signWith(t, key, plainMail)))
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	if got.SPF.Result != TempError || got.HELO.Result != TempError || got.DKIM[0].Result != TempError || got.DMARC.Result != TempError || got.IPRev.Result != TempError {
		t.Errorf("%s", got.JSON)
	}
	wellFormed(t, got)
}

func TestCheckSPF_HalfOfTheAddresses(t *testing.T) {
	t.Parallel()
	r, server := asker(t, `d.example. IN TXT "v=spf1 a:h.example -all"
		e.example. IN TXT "v=spf1 exists:h.example -all"
		h.example. IN A 192.0.2.1`)
	server.Fail("AAAA h.example", testenv.DNSServFail)
	c := New(r)
	for _, tt := range []struct{ ip, domain, want string }{
		{"192.0.2.1", "d.example", Pass},
		{"192.0.2.2", "d.example", Fail},
		{"::ffff:192.0.2.1", "d.example", Pass},
		{"2001:db8::1", "d.example", TempError}, // not fail: nobody knows
		{"192.0.2.2", "e.example", Pass},
	} {
		if got := c.spf(t.Context(), netip.MustParseAddr(tt.ip), "h.example", "a@"+tt.domain, "mailfrom"); got.Result != tt.want {
			t.Errorf("%s %s: %+v", tt.ip, tt.domain, got)
		}
	}
}

func TestIPRev(t *testing.T) {
	t.Parallel()
	r, server := asker(t, `
		1.2.0.192.in-addr.arpa. IN PTR one.example.
		2.2.0.192.in-addr.arpa. IN PTR elsewhere.example.
		3.2.0.192.in-addr.arpa. IN PTR gone.example.
		4.2.0.192.in-addr.arpa. IN PTR gone.example.
		4.2.0.192.in-addr.arpa. IN PTR one.example.
		5.2.0.192.in-addr.arpa. IN PTR slow.example.
		1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. IN PTR one.example.
		one.example. IN A 192.0.2.1
		one.example. IN A 192.0.2.4
		one.example. IN AAAA 2001:db8::1
		elsewhere.example. IN A 192.0.2.99`)
	server.Fail("slow.example", testenv.DNSServFail)
	server.Fail("7.2.0.192.in-addr.arpa", testenv.DNSServFail)
	for ip, want := range map[string]string{
		"192.0.2.1": Pass, "192.0.2.2": Fail, "192.0.2.3": Fail, "192.0.2.4": Pass, "192.0.2.5": TempError, "192.0.2.6": PermError, "192.0.2.7": TempError,
		"2001:db8::1": Pass, "::ffff:192.0.2.1": Pass,
	} {
		if got := New(r).iprev(t.Context(), netip.MustParseAddr(ip)); got.Result != want {
			t.Errorf("%s: %+v, want %s", ip, got, want)
		}
	}
	if got := New(r).iprev(t.Context(), netip.Addr{}); got.Result != "" {
		t.Errorf("%+v", got)
	}
}

func TestMethod_Quotes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ got, want string }{
		{method("spf", "", ""), "spf=none"},
		{method("spf", Pass, "", "smtp.mailfrom", "example.org", "x.y", ""), "spf=pass smtp.mailfrom=example.org"},
		{method("dkim", Fail, `a "b" \c`, "header.i", "o'x y@example.org"), `dkim=fail reason="a _b_ _c" header.i="o'x y@example.org"`},
		{method("iprev", Pass, "", "policy.iprev", "2001:db8::1"), `iprev=pass policy.iprev="2001:db8::1"`},
		{method("dkim", Pass, "a; b", "header.i", "@example.org"), `dkim=pass reason="a_ b" header.i=@example.org`},
		{method("dkim", Pass, "", "header.i", "a@b@example.org"), `dkim=pass header.i="a@b@example.org"`},
		{method("dkim", Pass, "", "header.i", "a..b@example.org"), `dkim=pass header.i="a..b@example.org"`},
		{method("dkim", Pass, "", "header.i", "a@-x.example.org"), `dkim=pass header.i="a@-x.example.org"`},
		{method("dkim", Pass, "", "header.i", "a@localhost"), `dkim=pass header.i="a@localhost"`},
	} {
		if tt.got != tt.want {
			t.Errorf("%s, want %s", tt.got, tt.want)
		}
	}
}

func TestARC_Trusted(t *testing.T) {
	t.Parallel()
	chain := ARC{Result: Pass, Seen: []Seen{{Instance: 1, Sealer: "a.example", DMARC: Pass}, {Instance: 2, Sealer: "b.example", DMARC: Fail}, {Instance: 3, Sealer: "c.example", DMARC: Fail}}}
	for _, tt := range []struct {
		trust string
		want  int // instance, 0: none
	}{{"a b c", 1}, {"b c", 2}, {"c", 3}, {"a c", 3}, {"a b", 0}, {"a", 0}, {"", 0}} {
		got, ok := chain.Trusted(func(d string) bool { return strings.Contains(tt.trust, d[:1]) })
		if got.Instance != tt.want || ok != (tt.want > 0) {
			t.Errorf("trusting %q: %+v", tt.trust, got)
		}
	}
	chain.Result = Fail
	if _, ok := chain.Trusted(func(string) bool { return true }); ok {
		t.Error("a failed chain is believed")
	}
}

func TestSeen(t *testing.T) {
	t.Parallel()
	s := seen(2, "Sealer.Example", "mx.sealer.example; spf=fail smtp.mailfrom=list.example; dkim=pass header.d=Example.org; dkim=fail header.d=b.example; dmarc=pass (p=reject) header.from=example.org; arc=pass")
	if s.Instance != 2 || s.Sealer != "sealer.example" || s.AuthServ != "mx.sealer.example" || s.SPF != Fail || s.DMARC != Pass || s.From != "example.org" ||
		len(s.DKIM) != 2 || s.DKIM[0] != (DKIM{Result: Pass, Domain: "example.org"}) {
		t.Errorf("%+v", s)
	}
	if s := seen(1, "x", "mx; dmarc=pass; dmarc=fail"); s.DMARC != PermError {
		t.Errorf("two results that differ: %+v", s)
	}
	for _, bad := range []string{"", ";;;", "mx", strings.Repeat("x", maxSeen+1), "mx; dmarc", "((("} {
		if s := seen(1, "x", bad); s.DMARC == Pass {
			t.Errorf("%q: %+v", bad, s)
		}
	}
}
