package mailauth

import (
	"context"
	"crypto"
	"crypto/rsa"
	"fmt"
	"io"
	"math/big"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"mailward/internal/dns"
	"mailward/internal/message"
	"mailward/internal/testenv"
)

// longSigner is a name that, cut off after 200 characters, is below good.example.
var longSigner = strings.Repeat("a", 61) + "." + strings.Repeat("a", 62) + "." + strings.Repeat("a", 62) + ".good.example.evil.example"

var forger = message.Envelope{ClientIP: netip.MustParseAddr("192.0.2.66"), Helo: "mx.evil.example", From: "x@evil.example"}

// A long name is never taken for the shorter one that it begins with.
func TestCheck_LongSigner(t *testing.T) {
	t.Parallel()
	key := edKey(t)
	r, _ := asker(t, `_dmarc.good.example. IN TXT "v=DMARC1; p=reject"
		s._domainkey.`+longSigner+`. IN TXT "`+record(t, key)+`"`)
	got := New(r).Check(t.Context(), forger, spool(t, signWith(t, key, "From: a@good.example\r\n\r\nhello\r\n", tag("d", longSigner))))
	if got.DMARC.Result != Fail || got.DKIM[0].Result != Pass || got.DKIM[0].Domain != longSigner {
		t.Errorf("%s", got.JSON)
	}
	if s := seen(1, "x", "mx; dkim=pass header.d="+longSigner); len(s.DKIM) != 1 || s.DKIM[0].Domain != longSigner {
		t.Errorf("%+v", s)
	}
	if s := seen(1, "x", "mx; dmarc=pass header.from="+strings.Repeat("a.", 150)+"example"); s.From != "" {
		t.Errorf("%+v", s)
	}
}

// What the sender makes as long as it likes pushes nothing out of the header.
func TestCheck_LongTags(t *testing.T) {
	t.Parallel()
	r, _ := asker(t, `_dmarc.good.example. IN TXT "v=DMARC1; p=reject"`)
	long := strings.Repeat("x", 62)
	name := strings.Join([]string{long, long, long, "evil.example"}, ".")
	field := "DKIM-Signature: v=1; a=" + strings.Repeat("z", 250) + "; d=" + name + "; s=" + long + "." + long + "." + long + "; i=" + strings.Repeat("\"@/", 80) + "@" + name + "; h=From; bh=AAAA; b=////////\r\n"
	got := New(r).Check(t.Context(), message.Envelope{ClientIP: forger.ClientIP, Helo: name, From: strings.Repeat("y", 60) + "@" + name},
		spool(t, strings.Repeat(field, 8)+"From: a@good.example\r\n\r\nhello\r\n"))
	if n := strings.Count(got.Header, "dkim=permerror"); len(got.Header) > maxResults || n != maxSignatures || !strings.Contains(got.Header, "dmarc=fail header.from=good.example policy.dmarc=reject") {
		t.Errorf("%d bytes, %d signatures: %s", len(got.Header), n, got.Header)
	}
	wellFormed(t, got)
}

// strictResult is one result of RFC 8601 §2.2, as strict as can be: what we write
// needs no more.
var strictResult = regexp.MustCompile(`^[a-z]+=[a-z]+( reason="[^"\\;]*")?( (smtp|header|policy)\.[a-z-]+=(` +
	`[A-Za-z0-9._+-]+|"[^"\\;]*"|([A-Za-z0-9_+-]+(\.[A-Za-z0-9_+-]+)*)?@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+))*$`)

// A forger adds a second author, and DMARC of the first counts all the same.
func TestCheck_SeveralAuthors(t *testing.T) {
	t.Parallel()
	r, _ := asker(t, `_dmarc.good.example. IN TXT "v=DMARC1; p=reject"
		_dmarc.mild.example. IN TXT "v=DMARC1; p=quarantine"
		evil.example. IN TXT "v=spf1 +all"
		_dmarc.evil.example. IN TXT "v=DMARC1; p=reject"`)
	for header, want := range map[string]string{
		"From: a@good.example, x@evil.example":                               Reject,
		"From: x@evil.example, a@good.example":                               Reject,
		"From: G: a@mild.example, x@evil.example;":                           Quarantine,
		"From: a@mild.example, a@good.example, x@evil.example":               Reject,
		"From: x@evil.example\r\nFrom: a@good.example":                       Reject,
		"From: a@good.example\r\nFrom: \"broken":                             Reject,
		"From: \"Boss <a@good.example>":                                      Reject,
		"From: (Boss <a@good.example.>":                                      Reject,
		"From: a@good.example x.evil.example":                                Reject,
		"From: x@evil.example@Good.example":                                  Reject,
		"From: <x@evil.example> a@good\u3002example":                         Reject,
		"From: a@[192.0.2.1], a@, @":                                         None,
		"From: x@evil.example\r\nFrom: y@evil.example":                       None,
		"From: x@evil.example, y@nothing.example":                            None,
		"From: x@evil.example":                                               None,
		"Subject: no From":                                                   None,
		"From: " + strings.Repeat("x@evil.example, ", 90) + "a@good.example": Reject,
	} {
		got := New(r).Check(t.Context(), forger, spool(t, header+"\r\n\r\nhello\r\n"))
		if got.DMARC.Wanted() != want {
			t.Errorf("%s: wants %s, not %s: %s", header, got.DMARC.Wanted(), want, got.Header)
		}
		if one := header == "From: x@evil.example"; one != (got.DMARC.Result == Pass) || one != (got.From != "") {
			t.Errorf("%s: %s", header, got.JSON)
		}
		wellFormed(t, got)
	}
}

// What the sender has a sealer quote is no result of the sealer.
func TestSeen_Quoted(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ results, dmarc, from, dkim string }{
		{"mx; spf=pass (domain of a;dmarc=pass header.from=good.example; designates) smtp.mailfrom=x; dkim=none", "", "", "none "},
		{`mx; spf=pass reason="x; dmarc=pass header.from=good.example" smtp.mailfrom="a; dkim=pass header.d=good.example"@x`, "", "", ""},
		{`mx; dmarc=fail (p=reject header.from=good.example) header.from=evil.example`, Fail, "evil.example", ""},
		{`mx; "dmarc=pass" header.from=good.example`, "", "", ""},
		{"mx; dmarc=pass header.from=good.example; dmarc=pass header.from=evil.example", PermError, "good.example", ""},
		{"mx; dmarc=pass header.from=good.example header.from=evil.example", Pass, "", ""},
		{"mx; dmarc=pass (unclosed; header.from=good.example", "", "", ""},
		{`mx; dmarc=pass header.from="good.example`, "", "", ""},
		{"dmarc=pass header.from=good.example; spf=pass", "", "", ""}, // no authserv-id
		{"mx 2; dmarc=pass", "", "", ""},
		{"mx (a (nested; one) \\) x) 1 (b);\r\n\tdmarc (c) = (d) pass (e) header.from (f) = (g) a@Good.Example", Pass, "good.example", ""},
		{`"mx"; dmarc/1=PASS reason="" header.from="b` + "\u00fc" + `cher.example"; dkim=pass header.i=@good.example`, Pass, "xn--bcher-kva.example", "pass good.example"},
		// Exchange Online.
		{"mx.microsoft.com 1; spf=pass (sender ip is 192.0.2.1) smtp.rcpttodomain=ours.example smtp.mailfrom=good.example; dmarc=pass (p=reject sp=reject pct=100) action=none header.from=good.example; dkim=pass (signature was verified) header.d=good.example; arc=pass (0 oda=1 ltdi=1 spf=[1,1,smtp.mailfrom=good.example] dkim=[1,1,header.d=good.example] dmarc=[1,1,header.from=good.example])", Pass, "good.example", "pass good.example"},
		// Google.
		{"mx.google.com; dkim=pass header.i=@good.example header.s=s header.b=Ab12=/+x; spf=pass (google.com: domain of a@good.example designates 192.0.2.1 as permitted sender) smtp.mailfrom=a@good.example; dmarc=pass (p=REJECT sp=REJECT dis=NONE) header.from=good.example", Pass, "good.example", "pass good.example"},
	} {
		got := seen(1, "x", tt.results)
		dkim := ""
		for _, d := range got.DKIM {
			dkim += d.Result + " " + d.Domain
		}
		if got.DMARC != tt.dmarc || got.From != tt.from || dkim != tt.dkim {
			t.Errorf("%s\n%+v", tt.results, got)
		}
	}
}

// FuzzResults: whatever stands in comments or quotes is no result.
func FuzzResults(f *testing.F) {
	f.Add(`a;dmarc=pass header.from=b`)
	f.Add(`(x) "y\" \) ;`)
	f.Fuzz(func(t *testing.T, s string) {
		parseResults(s)
		escaped := strings.NewReplacer(`\`, `\\`, `(`, `\(`, `)`, `\)`, `"`, `\"`).Replace(s)
		for _, v := range []string{"mx; spf=pass (" + escaped + ") smtp.helo=x", `mx; spf=pass reason="` + escaped + `" smtp.helo=x`} {
			id, list, ok := parseResults(v)
			if !ok || id != "mx" || len(list) != 1 || list[0].method != "spf" || list[0].properties["smtp.helo"] != "x" {
				t.Fatalf("%q: %v %q %+v", v, ok, id, list)
			}
		}
	})
}

func TestSPF_Names(t *testing.T) {
	t.Parallel()
	x := strings.Repeat("x", 60)
	r, _ := asker(t, `
		long.example. IN TXT "v=spf1 exists:%{l}.%{l}.%{l}.%{l}.spf.long.example -all"
		`+x+"."+x+"."+x+`.spf.long.example. IN A 127.0.0.2
		address.example. IN TXT "v=spf1 exists:%{i} a:%{i} -all"
		wide.example. IN TXT "v=spf1 exists:%{l}.wide.example -all"
		\195\188.wide.example. IN A 127.0.0.2
		mixed.example. IN TXT "v=spf1 ip4:192.0.2.99 a:mx.mixed.example -all"
		mx.mixed.example. IN A 192.0.2.66`)
	for _, tt := range []struct{ sender, want string }{
		{x + "@long.example", Pass},   // RFC 7208 §7.3: labels are taken away on the left
		{"a@address.example", Fail},   // an address is a name like any other here
		{"\u00fc@wide.example", Fail}, // RFC 8616 §4
		{"a@mixed.example", Pass},
	} {
		if got := New(r).spf(t.Context(), forger.ClientIP, "h.example", tt.sender, "mailfrom"); got.Result != tt.want {
			t.Errorf("%s: %+v, want %s", tt.sender, got, tt.want)
		}
	}
}

// RFC 7208 §5.5 takes trouble with ptr for no match. When our time is up it is
// trouble, not a fail.
func TestSPF_NoTimeForPTR(t *testing.T) {
	t.Parallel()
	server := testenv.DNS(t, `ptr.example. IN TXT "v=spf1 ptr -all"`)
	server.Fail("66.2.0.192.in-addr.arpa", testenv.DNSSilent)
	r, err := dns.New(dns.Config{Servers: []string{server.Addr}, Try: time.Minute}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if got := New(r).spf(ctx, forger.ClientIP, "h.example", "a@ptr.example", "mailfrom"); got.Result != TempError {
		t.Errorf("%+v", got)
	}
}

// RFC 8616 §5: in an internationalised header d=, s= and i= may have U-labels.
func TestDKIM_ULabels(t *testing.T) {
	t.Parallel()
	key, dns := edKey(t), newTXT()
	dns.set("s._domainkey.xn--bcher-kva.example", record(t, key))
	m := signWith(t, key, plainMail, tag("d", "b\u00fccher.example"), tag("i", "x@news.B\u00fccher.example"))
	if got, _ := verifyDKIM(dns, m, "xn--bcher-kva.example"); got[0].Result != Pass || got[0].Identity != "x@news.xn--bcher-kva.example" {
		t.Errorf("%+v", got)
	}
}

// A signature is not there for itself: a signer that names DKIM-Signature once
// more than there are, as it does with others, signed none.
func TestDKIM_SignaturesInH(t *testing.T) {
	t.Parallel()
	key, dns := edKey(t), newTXT()
	dns.set("s._domainkey.example.org", record(t, key))
	all := tag("h", "From:DKIM-Signature:DKIM-Signature")
	one := signWith(t, key, plainMail, all)
	two := signWith(t, key, one, all)
	for _, m := range []string{one, two} {
		// The older one was made without the newer, which nobody can tell from one
		// that was added later.
		if got, _ := verifyDKIM(dns, m, "example.org"); got[0].Result != Pass {
			t.Errorf("%+v", got)
		}
	}
	if got, _ := verifyDKIM(dns, strings.Replace(two, "DKIM-Signature:", "X-Gone:", 1), "example.org"); got[0].Result != Pass {
		t.Errorf("%+v", got)
	}
}

// RFC 6376 §2.10: base64 need not be filled up.
func TestDKIM_Unpadded(t *testing.T) {
	t.Parallel()
	key, dns := edKey(t), newTXT()
	rec := record(t, key)
	dns.set("s._domainkey.example.org", strings.TrimRight(rec, "="))
	m := signWith(t, key, plainMail)
	header, body, _ := strings.Cut(m, "From: ")
	if !strings.HasSuffix(header, "==\r\n") || !strings.HasSuffix(rec, "=") {
		t.Fatal(header)
	}
	m = strings.TrimSuffix(header, "==\r\n") + "\r\nFrom: " + body
	if got, _ := verifyDKIM(dns, m, "example.org"); got[0].Result != Pass {
		t.Errorf("%+v", got)
	}
	for _, bad := range []string{"===", "=A"} {
		dns.set("s._domainkey.example.org", strings.TrimRight(rec, "=")+bad)
		if got, _ := verifyDKIM(dns, m, "example.org"); got[0].Result != PermError {
			t.Errorf("%s: %+v", bad, got)
		}
	}
}

// A chain cannot have the body hashed once for each of its sets.
func TestARC_ManyLengths(t *testing.T) {
	t.Parallel()
	f := newForge(t, edKey(t))
	m := plainMail
	for i := range 20 {
		m = f.add(m, set{ams: tag("l", fmt.Sprint(i+1))})
	}
	h, _ := split(m)
	v := newVerifier(t.Context(), f.dns, splitFields(h), dkimNow)
	defer v.close()
	c := readChain(v.fields)
	if v.wantARC(c); c.err != nil || len(v.bodies) > 0 {
		t.Errorf("%v, %d hashes", c.err, len(v.bodies))
	}
}

// That a body took long to read says nothing of DNS: a forger could send one.
func TestVerifier_LongBody(t *testing.T) {
	t.Parallel()
	key, dns := edKey(t), newTXT()
	dns.set("s._domainkey.example.org", record(t, key))
	h, body := split(signWith(t, key, plainMail))
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the time for questions is up
	v := newVerifier(ctx, dns, splitFields(h), dkimNow)
	v.reading = t.Context()
	defer v.close()
	list, _ := readSignatures(v.fields, "example.org")
	v.wantDKIM(list)
	if got := v.dkim(list, v.readBody(body)); got[0].Result != Pass {
		t.Errorf("%+v", got)
	}
}

// The example of RFC 8463, appendix A: one mail with two signatures.
func TestDKIM_RFC8463(t *testing.T) {
	t.Parallel()
	dns := newTXT()
	dns.set("brisbane._domainkey.football.example.com", "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
	dns.set("test._domainkey.football.example.com", "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB")
	m := strings.ReplaceAll(`DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
`, "\n", "\r\n")
	got, _ := verifyDKIM(dns, m, "football.example.com")
	if len(got) != 2 || got[0].Result != Pass || got[0].Algorithm != algEd25519 || got[1].Result != Pass || got[1].Algorithm != algRSA {
		t.Errorf("%+v", got)
	}
}

// Keys that are no keys, or cost too much.
func TestParseKeyRecord_Hostile(t *testing.T) {
	t.Parallel()
	for _, bits := range []int{16384, 8200} {
		if _, err := parseKeyRecord(record(t, bigKey(bits))); err == nil {
			t.Errorf("%d bits", bits)
		}
	}
	for _, s := range []string{"k=ed25519; p=AAAA", "k=ed25519; p=" + strings.Repeat("A", 88), "v=DKIM1; k=rsa", "p=", "v=DKIM1 ; p=AAAA", "k=rsa; k=rsa; p=AAAA"} {
		if _, err := parseKeyRecord(s); err == nil {
			t.Errorf("%s is a key", s)
		}
	}
}

// bigKey is the public half of an RSA key with so many bits.
type bigKey int

func (k bigKey) Public() crypto.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), uint(k)-1)
	return &rsa.PublicKey{N: n.Add(n, big.NewInt(297)), E: 65537}
}

func (bigKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, nil }

// A header of very many names costs no index of them; those that are asked for
// are found all the same, in any case and with blanks around them.
func TestFields_VeryMany(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&b, "%x:\r\n", i)
	}
	f := splitFields([]byte("X-ONE \t: 1\r\n" + b.String() + "x-one: 2\r\nFROM: a\r\n:\r\nno colon\r\n\r\nX-One: body\r\n"))
	got := f.pick([]string{"x-one", "ffff", "x-one", "x-one", "from", "no colon"}, nil)
	if len(got) != 4 || string(got[0].raw) != "x-one: 2\r\n" || string(got[2].raw) != "X-ONE \t: 1\r\n" || len(f.byName) > 10 {
		t.Errorf("%q, %d names", got, len(f.byName))
	}
}
