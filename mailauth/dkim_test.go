package mailauth

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

var dkimNow = time.Unix(1_800_000_000, 0)

// signWith puts a signature with any tags on top of a mail, and signs what it
// made: bh= is of the body as far as l= says, h= decides what is covered.
func signWith(t testing.TB, key crypto.Signer, mail string, changes ...func([]string) []string) string {
	t.Helper()
	header, body := split(mail)
	alg := algEd25519
	if _, ok := key.(*rsa.PrivateKey); ok {
		alg = algRSA
	}
	list := []string{"v=1", "a=" + alg, "c=relaxed/relaxed", "d=example.org", "s=s", "t=1700000000", "h=From:To:Subject:Date", "bh="}
	for _, c := range changes {
		list = c(list)
	}
	tt, err := parseTags(strings.Join(list, "; "))
	if err != nil {
		tt = tags{}
	}
	form, err := formOf(tt)
	if err != nil {
		form = bodyForm{limit: noLimit}
	}
	sum := newBodyHash(form.relaxed)
	sum.limit = form.limit
	if err := hashBody(context.Background(), body(), sum); err != nil {
		t.Fatal(err)
	}
	if i := slices.Index(list, "bh="); i >= 0 {
		list[i] += base64.StdEncoding.EncodeToString(sum.sum())
	}
	field := "DKIM-Signature: " + strings.Join(list, ";\r\n\t") + "; b="
	h, _, _ := canonOf(tt)
	canon := simpleHeader
	if h == "relaxed" {
		canon = relaxedHeader
	}
	digest := hashFields(canon, splitFields(header).pick(colonList(strings.ToLower(tt["h"])), nil), []byte(field))
	var sig []byte
	switch k := key.(type) {
	case *rsa.PrivateKey:
		sig, err = rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, digest)
	case ed25519.PrivateKey:
		sig = ed25519.Sign(k, digest)
	}
	if err != nil {
		t.Fatal(err)
	}
	return field + base64.StdEncoding.EncodeToString(sig) + "\r\n" + mail
}

// verifyDKIM checks a mail's signatures, and nothing else of it.
func verifyDKIM(dns Resolver, mail, from string) ([]DKIM, int) {
	h, b := split(mail)
	v := newVerifier(context.Background(), dns, splitFields(h), dkimNow)
	defer v.close()
	list, unchecked := readSignatures(v.fields, from)
	v.wantDKIM(list)
	return v.dkim(list, v.readBody(b)), unchecked
}

func TestDKIM(t *testing.T) {
	t.Parallel()
	key := rsaKey(t)
	ed := edKey(t)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	good := record(t, key)
	replace := func(old, with string) func(string) string {
		return func(m string) string { return strings.Replace(m, old, with, 1) }
	}
	for _, tt := range []struct {
		name    string
		key     crypto.Signer // nil: RSA-2048
		record  string        // "": the key's
		change  []func([]string) []string
		spoil   func(string) string
		want    string
		reason  string
		flagged func(DKIM) bool
	}{
		{name: "rsa", want: Pass, flagged: func(d DKIM) bool {
			return d.Domain == "example.org" && d.Selector == "s" && d.Algorithm == algRSA && d.Bits == 2048 && !d.Weak && len(d.Signature) == 8
		}},
		{name: "ed25519", key: ed, want: Pass, flagged: func(d DKIM) bool { return !d.Weak && d.Bits == 0 }},
		{name: "simple", change: []func([]string) []string{tag("c", "simple/simple")}, want: Pass},
		{name: "simple header only", change: []func([]string) []string{tag("c", "simple/relaxed")}, want: Pass},
		{name: "no c=", change: []func([]string) []string{tag("c", "")}, want: Pass},
		{name: "1024 bits", key: weak, want: Pass, flagged: func(d DKIM) bool { return d.Weak && d.Bits == 1024 }},
		{name: "testing", record: good + "; t=y", want: Pass, flagged: func(d DKIM) bool { return d.Testing }},
		{name: "i= below d=", change: []func([]string) []string{tag("i", "x@news.example.org")}, want: Pass},
		{name: "i= below d=, t=s", record: good + "; t=s", change: []func([]string) []string{tag("i", "x@news.example.org")}, want: PermError, reason: "not for subdomains"},
		{name: "i= of d=, t=s", record: good + "; t=s:y", change: []func([]string) []string{tag("i", "@example.org")}, want: Pass},
		{name: "i= elsewhere", change: []func([]string) []string{tag("i", "x@evilexample.org")}, want: PermError},
		{name: "i= without @", change: []func([]string) []string{tag("i", "example.org")}, want: PermError},
		{name: "l= of all", change: []func([]string) []string{tag("l", fmt.Sprint(len("hello world\r\n")))}, want: Pass, flagged: func(d DKIM) bool { return !d.Partial }},
		{name: "l= of a part", change: []func([]string) []string{tag("l", "5")}, want: Policy, reason: "8 bytes of the body", flagged: func(d DKIM) bool { return d.Partial }},
		{name: "l= and text added", change: []func([]string) []string{tag("l", "13")}, spoil: func(m string) string { return m + "more\r\n" }, want: Policy, flagged: func(d DKIM) bool { return d.Partial }},
		{name: "l=0", change: []func([]string) []string{tag("l", "0")}, want: Policy},
		{name: "l= beyond the end", change: []func([]string) []string{tag("l", "13")}, spoil: replace("hello world\r\n", "hello\r\n"), want: Fail},
		{name: "l= of nonsense", change: []func([]string) []string{tag("l", "+5")}, want: PermError},
		{name: "expired", change: []func([]string) []string{tag("x", "1700000001")}, want: PermError, reason: "expired"},
		{name: "expires later", change: []func([]string) []string{tag("x", "1900000000")}, want: Pass},
		{name: "expires before it was made", change: []func([]string) []string{tag("x", "1600000000")}, want: PermError},
		{name: "From not signed", change: []func([]string) []string{tag("h", "To:Subject")}, want: PermError, reason: "From field is not signed"},
		{name: "no h=", change: []func([]string) []string{tag("h", "")}, want: PermError},
		{name: "no d=", change: []func([]string) []string{tag("d", "")}, want: PermError},
		{name: "no bh=", change: []func([]string) []string{tag("bh", "")}, want: PermError},
		{name: "no v=", change: []func([]string) []string{tag("v", "")}, want: PermError},
		{name: "v=2", change: []func([]string) []string{tag("v", "2")}, want: PermError},
		{name: "rsa-sha1", change: []func([]string) []string{tag("a", "rsa-sha1")}, want: PermError, reason: "rsa-sha1"},
		{name: "another algorithm than the key's", change: []func([]string) []string{tag("a", algEd25519)}, want: PermError},
		{name: "unknown canonicalisation", change: []func([]string) []string{tag("c", "nowsp/simple")}, want: PermError},
		{name: "unknown query", change: []func([]string) []string{tag("q", "http")}, want: PermError},
		{name: "known query", change: []func([]string) []string{tag("q", "http:dns/txt")}, want: Pass},
		{name: "unknown tag", change: []func([]string) []string{tag("zz", "1")}, want: Pass},
		{name: "a tag that ends in b", change: []func([]string) []string{tag("zb", "x")}, want: Pass},
		{name: "two d=", spoil: replace("d=example.org", "d=example.org; d=evil.example"), want: PermError},

		{name: "body changed", spoil: replace("hello", "hullo"), want: Fail, reason: "body hash"},
		{name: "body white space", spoil: replace("hello world\r\n", "hello \t world  \r\n\r\n\r\n"), want: Pass},
		{name: "body white space, simple", change: []func([]string) []string{tag("c", "relaxed/simple")}, spoil: replace("hello world", "hello  world"), want: Fail},
		{name: "subject changed", spoil: replace("Subject: x", "Subject: y"), want: Fail, reason: "does not verify"},
		{name: "subject folded", spoil: replace("Subject: x", "SUBJECT:\r\n\tx"), want: Pass},
		{name: "unsigned field added", spoil: func(m string) string { return "X-A: b\r\n" + m }, want: Pass},
		{name: "a second From on top", spoil: func(m string) string { return "From: evil@evil.example\r\n" + m }, want: Policy, reason: "From that is not signed"},
		{name: "a second From, oversigned", change: []func([]string) []string{tag("h", "From:From:Subject")}, spoil: func(m string) string { return "From: evil@evil.example\r\n" + m }, want: Fail},
		{name: "a missing field signed, then added", change: []func([]string) []string{tag("h", "From:Reply-To")}, spoil: func(m string) string { return "Reply-To: evil@evil.example\r\n" + m }, want: Fail},

		{name: "no key", record: "-", want: PermError, reason: "no key record"},
		{name: "key revoked", record: "v=DKIM1; p=", want: PermError, reason: "revoked"},
		{name: "key of nonsense", record: "v=DKIM1; p=!!!", want: PermError},
		{name: "another key", record: record(t, rsaKey(t)), want: Fail},
		{name: "key for SHA-1 only", record: good + "; h=sha1", want: PermError},
		{name: "key for something else", record: good + "; s=tlsrpt", want: PermError},
		{name: "DNS trouble", record: "!", want: TempError},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k := tt.key
			if k == nil {
				k = key
			}
			dns := newTXT()
			switch tt.record {
			case "":
				dns.set("s._domainkey.example.org", record(t, k))
			case "-":
			case "!":
				dns.broken = true
			default:
				dns.set("s._domainkey.example.org", tt.record)
			}
			m := signWith(t, k, "From: a@example.org\r\nTo: b@example.net\r\nSubject: x\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\n\r\nhello world\r\n", tt.change...)
			if tt.spoil != nil {
				m = tt.spoil(m)
			}
			got, _ := verifyDKIM(dns, m, "example.org")
			if len(got) != 1 || got[0].Result != tt.want || !strings.Contains(got[0].Reason, tt.reason) || tt.flagged != nil && !tt.flagged(got[0]) {
				t.Errorf("%+v, want %s", got, tt.want)
			}
			if (got[0].Result == Pass) != (got[0].Reason == "") {
				t.Errorf("reason %q for %s", got[0].Reason, got[0].Result)
			}
		})
	}
}

// The author's own signatures are checked, however many others stand before them.
func TestDKIM_BestFirst(t *testing.T) {
	t.Parallel()
	dns, key := newTXT(), edKey(t)
	for _, d := range []string{"example.org", "news.example.org", "other.example"} {
		dns.set("s._domainkey."+d, record(t, key))
	}
	m := signWith(t, key, plainMail, tag("d", "news.example.org"))
	m = signWith(t, key, m)
	for range 30 {
		m = signWith(t, key, m, tag("d", "other.example"))
	}
	m = strings.Repeat("DKIM-Signature: v=1; nonsense\r\n", 30) + m
	got, unchecked := verifyDKIM(dns, m, "example.org")
	if len(got) != maxSignatures || unchecked != 62-maxSignatures || got[0].Domain != "example.org" || got[1].Domain != "news.example.org" || got[2].Domain != "other.example" {
		t.Errorf("%d unchecked: %+v", unchecked, got)
	}
	for _, d := range got {
		if d.Result != Pass {
			t.Errorf("%+v", d)
		}
	}
	if dns.asked > 3 {
		t.Errorf("asked %d times for three keys", dns.asked)
	}
}

// counter reads a body and counts what is read of it.
type counter struct {
	r io.Reader
	n *int64
}

func (c counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	*c.n += int64(n)
	return n, err
}

// However many signatures and sets there are, the body is read once.
func TestVerifier_ReadsTheBodyOnce(t *testing.T) {
	t.Parallel()
	key := edKey(t)
	f := newForge(t, key)
	f.dns.set("s._domainkey.example.org", record(t, key))
	m := f.chain(3)
	m = signWith(t, key, m)
	m = signWith(t, key, m, tag("c", "simple/simple"))
	m = signWith(t, key, m, tag("l", "2"))
	h, b := split(m)
	v := newVerifier(context.Background(), f.dns, splitFields(h), dkimNow)
	defer v.close()
	list, _ := readSignatures(v.fields, "")
	c := readChain(v.fields)
	v.wantDKIM(list)
	v.wantARC(c)
	var read int64
	err := v.readBody(func() io.Reader { return counter{b(), &read} })
	size, _ := io.Copy(io.Discard, b())
	if err != nil || read != size {
		t.Errorf("read %d bytes of %d: %v", read, size, err)
	}
	got := v.dkim(list, nil)
	if got[0].Result != Policy || got[1].Result != Pass || got[2].Result != Pass {
		t.Errorf("%+v", got)
	}
	if arc := v.arc(c, nil); arc.Result != Pass || len(arc.Seen) != 3 || arc.Seen[0].DMARC != Pass {
		t.Errorf("%+v", arc)
	}
}

// FuzzDKIM: no signature field makes the verifier panic or pass.
func FuzzDKIM(f *testing.F) {
	key := edKey(f)
	dns := newTXT()
	dns.set("s._domainkey.example.org", record(f, key))
	good := signWith(f, key, plainMail, tag("l", "3"))
	f.Add(good[:strings.Index(good, "From:")], record(f, key))
	f.Add("DKIM-Signature: v=1; a=rsa-sha256; d=x; s=y; bh=z; b=q; h=From; c=/; l=; x=1; t=2\r\n", "v=DKIM1; k=rsa; p=MA==; t=s:y; h=sha256")
	f.Fuzz(func(t *testing.T, fields, record string) {
		parseKeyRecord(record)
		got, _ := verifyDKIM(dns, fields+plainMail, "example.org")
		if len(got) > maxSignatures {
			t.Fatal(len(got))
		}
		for _, d := range got {
			if d.Result == Pass || d.Result == "" || strings.ContainsAny(d.header(), "\r\n") {
				t.Fatalf("%+v", d)
			}
		}
	})
}

// BenchmarkVerify is a mail of 20 MB with two signatures.
func BenchmarkVerify(b *testing.B) {
	key := rsaKey(b)
	dns := newTXT()
	dns.set("s._domainkey.example.org", record(b, key))
	line := strings.Repeat("QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5eg", 1)[:70] + "\r\n"
	m := "From: a@example.org\r\nSubject: x\r\n\r\n" + strings.Repeat(line, 20<<20/len(line))
	m = signWith(b, key, m)
	m = signWith(b, key, m)
	b.SetBytes(int64(len(m)))
	for b.Loop() {
		if got, _ := verifyDKIM(dns, m, "example.org"); got[0].Result != Pass || got[1].Result != Pass {
			b.Fatal(got)
		}
	}
}
