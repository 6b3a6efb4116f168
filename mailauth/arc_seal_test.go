package mailauth

import (
	"context"
	"crypto"
	"io"
	"strings"
	"testing"
	"time"
)

func sealer(t testing.TB, dns *txt, domain string, key crypto.Signer) *Signer {
	dns.set("s._domainkey."+domain, record(t, key))
	return newSigner(t, SignConfig{Hostname: "mx." + domain, DNS: dns, Seal: &Key{domain, []KeyConfig{{Selector: "s", Source: keyFile(t, key)}}}})
}

func pass(t testing.TB, s *Signer, dns *txt, results, mail string) (string, ARC) {
	t.Helper()
	h, b := split(mail)
	arc := verifyARC(context.Background(), dns, h, b, time.Now())
	f, err := s.Seal(context.Background(), arc, results, nil, h, b)
	if err != nil {
		t.Fatal(err)
	}
	return string(f) + mail, arc
}

// TestSeal: three sealers pass a mail on; one of them changes it.
func TestSeal(t *testing.T) {
	t.Parallel()
	dns := newTXT()
	a, b := sealer(t, dns, "one.example", rsaKey(t)), sealer(t, dns, "two.example", edKey(t))
	long := "mx.one.example;\r\n\tspf=pass smtp.mailfrom=example.org;\r\n dkim=pass header.d=example.org header.s=s;" + strings.Repeat(" dkim=fail header.d=x.example;", 20) + " dmarc=pass\r\nX-Injected: 1"
	m, _ := pass(t, a, dns, long, plainMail)
	m, first := pass(t, b, dns, "mx.two.example; arc=pass", m)
	if first.Result != Pass || strings.Contains(m, "\r\nX-Injected") {
		t.Fatalf("%+v\n%s", first, m)
	}
	m, _ = pass(t, a, dns, "mx.one.example; none", strings.Replace(m, "hello", "hi", 1)) // changed: it fails from here
	h, body := split(m)
	if got := verifyARC(context.Background(), dns, h, body, time.Now()); got.Result != Fail || got.Instances != 3 || !strings.Contains(m, "cv=fail") {
		t.Errorf("%+v", got)
	}
	// The seal of a failed chain covers its own set alone.
	fs := splitFields(h)
	c := readChain(fs)
	v := newVerifier(context.Background(), dns, fs, time.Now())
	if err := v.seal(c.sets[2:]); err != nil {
		t.Errorf("the seal of the failed chain: %v", err)
	}
	// It is the chain's end.
	if next, _ := pass(t, b, dns, "x", m); next != m {
		t.Error("a failed chain was sealed again")
	}
}

func TestSeal_GoodChainGoesOn(t *testing.T) {
	t.Parallel()
	dns := newTXT()
	a, b := sealer(t, dns, "one.example", rsaKey(t)), sealer(t, dns, "two.example", edKey(t))
	m := plainMail
	for i := range maxInstances {
		var arc ARC
		if m, arc = pass(t, []*Signer{a, b}[i%2], dns, "mx; none", m); i > 0 && arc.Result != Pass {
			t.Fatalf("i=%d: %+v", i, arc)
		}
	}
	last, arc := pass(t, a, dns, "mx; none", m)
	if arc.Result != Pass || arc.Instances != 50 || last != m {
		t.Errorf("after 50 sets: %+v, sealed again: %v", arc.Result, last != m)
	}
	if got := arc.Sealers; got[0] != "one.example" || got[49] != "two.example" {
		t.Error(got)
	}
}

func TestSeal_Not(t *testing.T) {
	t.Parallel()
	dns, k := newTXT(), rsaKey(t)
	s := sealer(t, dns, "one.example", k)
	h, b := split(plainMail)
	ctx := context.Background()
	if f, err := s.Seal(ctx, ARC{Result: TempError}, "x", nil, h, b); f != nil || err != nil {
		t.Errorf("DNS trouble was sealed: %q %v", f, err)
	}
	if f, err := s.Seal(ctx, ARC{Result: None}, "x", nil, h, func() io.Reader { return failing{b()} }); f != nil || err == nil {
		t.Errorf("an unreadable mail was sealed: %q", f)
	}
	dns.set("s._domainkey.one.example")
	s.Refresh(ctx)
	if f, err := s.Seal(ctx, ARC{Result: None}, "x", nil, h, b); f != nil || err != nil {
		t.Errorf("sealed with a key that is not published: %q %v", f, err)
	}
	off := newSigner(t, SignConfig{})
	if f, err := off.Seal(ctx, ARC{Result: None}, "x", nil, h, b); f != nil || err != nil {
		t.Errorf("sealed without a key: %q %v", f, err)
	}
	// A malformed chain gets the next number and cv=fail.
	bad := "ARC-Seal: i=4; nonsense=1\r\n" + plainMail
	m, arc := pass(t, sealer(t, newTXT(), "one.example", k), dns, "x", bad)
	if arc.Result != Fail || !strings.Contains(m, "i=5") || !strings.Contains(m, "cv=fail") {
		t.Errorf("%+v\n%s", arc, m)
	}
}
