package mailauth

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"
)

// txt is a DNS of TXT records that can be changed and broken.
type txt struct {
	mu      sync.Mutex
	records map[string][]string
	broken  bool
	asked   int
}

func newTXT() *txt { return &txt{records: map[string][]string{}} }

func (d *txt) set(name string, records ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.records[strings.ToLower(name)] = records
}

func (d *txt) LookupTXT(_ context.Context, name string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	if d.broken {
		return nil, &net.DNSError{Err: "server failure", IsTemporary: true}
	}
	if r := d.records[strings.ToLower(strings.TrimSuffix(name, "."))]; len(r) > 0 {
		return r, nil
	}
	return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
}

func (d *txt) LookupMX(context.Context, string) ([]*net.MX, error) {
	return nil, errors.New("not asked")
}
func (d *txt) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return nil, errors.New("not asked")
}
func (d *txt) LookupAddr(context.Context, string) ([]string, error) {
	return nil, errors.New("not asked")
}
func (d *txt) verify(t testing.TB, mail []byte) []*dkim.Verification {
	t.Helper()
	v, err := dkim.VerifyWithOptions(bytes.NewReader(mail), &dkim.VerifyOptions{LookupTXT: func(n string) ([]string, error) { return d.LookupTXT(context.Background(), n) }})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func rsaKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func edKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func keyFile(t testing.TB, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return "file:" + path
}

func record(t testing.TB, key crypto.Signer) string {
	t.Helper()
	_, r, err := keyRecord(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newSigner(t testing.TB, cfg SignConfig) *Signer {
	t.Helper()
	s, err := NewSigner(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Refresh(context.Background())
	return s
}

func split(mail string) ([]byte, func() io.Reader) {
	header, body, _ := strings.Cut(mail, "\r\n\r\n")
	return []byte(header + "\r\n\r\n"), func() io.Reader { return strings.NewReader(body) }
}

func sign(t testing.TB, s *Signer, domain, mail string) string {
	t.Helper()
	h, b := split(mail)
	f, err := s.DKIM(context.Background(), domain, nil, h, b)
	if err != nil {
		t.Fatal(err)
	}
	return string(f)
}

const plainMail = "From: A <a@example.org>\r\nTo: b@example.net\r\nSubject: =?utf-8?q?x?=\r\n folded\t here  \r\n" +
	"Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@example.org>\r\nReceived: one\r\nReceived: two\r\n\r\nhello  \t you \r\n\r\n  \r\nend\r\n\r\n\r\n"

// TestDKIM_Verifies: what we sign, go-msgauth's verifier takes, whatever the body.
func TestDKIM_Verifies(t *testing.T) {
	t.Parallel()
	dns, r, e := newTXT(), rsaKey(t), edKey(t)
	dns.set("r._domainkey.example.org", record(t, r))
	dns.set("e._domainkey.example.org", record(t, e))
	s := newSigner(t, SignConfig{DNS: dns, Domains: []DomainKeys{{"Example.org", []KeyConfig{{Selector: "r", Source: keyFile(t, r)}, {Selector: "e", Source: keyFile(t, e)}}}}})
	head := "From: a@example.org\r\nSubject:x\r\n\r\n"
	for name, mail := range map[string]string{
		"usual":             plainMail,
		"empty body":        head,
		"only empty lines":  head + "\r\n\r\n\r\n",
		"only white space":  head + " \t\r\n \r\n",
		"no last line end":  head + "text",
		"white space last":  head + "text \t",
		"leading lines":     head + "\r\n\r\ntext\r\n",
		"eight bits":        "From: a@example.org\r\nSubject: gr\xc3\xbc\xdfe\r\n\r\nna\xc3\xafve \xff\xfe\r\n",
		"long line":         head + strings.Repeat("x ", 60_000) + "\r\n",
		"many empty lines":  head + "a" + strings.Repeat("\r\n", 50_000) + "b\r\n",
		"list":              "List-Id: <x.example.org>\r\nList-Unsubscribe: <mailto:x@example.org>\r\n" + plainMail,
		"doubled field":     "Subject: again\r\nTo: c@example.net\r\n" + plainMail,
		"space before name": "From : a@example.org\r\nSubject\t: y\r\n\r\nx\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fields := sign(t, s, "example.org", mail)
			v := dns.verify(t, []byte(fields+mail))
			if len(v) != 2 {
				t.Fatalf("%d signatures, want 2:\n%s", len(v), fields)
			}
			for _, v := range v {
				if v.Err != nil || v.Domain != "example.org" {
					t.Errorf("%s: %v\n%s", v.Domain, v.Err, fields)
				}
			}
			for line := range strings.SplitSeq(fields, "\r\n") {
				if len(line) > 78 {
					t.Errorf("a line of %d bytes: %s", len(line), line)
				}
			}
			// Over-signing: a field added on top breaks it.
			for _, add := range []string{"From: evil@example.com", "Subject: evil", "Cc: evil@example.com", "Reply-To: evil@example.com", "Content-Type: text/html"} {
				for _, v := range dns.verify(t, []byte(add+"\r\n"+fields+mail)) {
					if v.Err == nil {
						t.Errorf("still good with %q on top", add)
					}
				}
			}
		})
	}
}

func TestDKIM_Domains(t *testing.T) {
	t.Parallel()
	dns, k := newTXT(), rsaKey(t)
	dns.set("s._domainkey.example.org", record(t, k))
	dns.set("s._domainkey.sub.example.org", record(t, k))
	src := keyFile(t, k)
	s := newSigner(t, SignConfig{DNS: dns, Domains: []DomainKeys{{"example.org", []KeyConfig{{Selector: "s", Source: src}}}, {"sub.example.org", []KeyConfig{{Selector: "s", Source: src}}}}})
	for from, want := range map[string]string{
		"example.org": "d=example.org;", "EXAMPLE.org.": "d=example.org;", "sub.example.org": "d=sub.example.org;",
		"deep.sub.example.org": "d=sub.example.org;", "other.example.org": "d=example.org;", "notexample.org": "", "org": "", "": "", "example.com": "",
	} {
		got := sign(t, s, from, plainMail)
		if (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q", from, got)
		}
	}
}

// TestDKIM_SignedAlready: a good-looking signature of our domain is left alone;
// one that says nothing does not keep us from signing.
func TestDKIM_SignedAlready(t *testing.T) {
	t.Parallel()
	dns, k := newTXT(), rsaKey(t)
	dns.set("s._domainkey.example.org", record(t, k))
	now := time.Unix(1_800_000_000, 0)
	s := newSigner(t, SignConfig{DNS: dns, Now: func() time.Time { return now }, Domains: []DomainKeys{{"example.org", []KeyConfig{{Selector: "s", Source: keyFile(t, k)}}}}})
	ours := sign(t, s, "example.org", plainMail)
	theirs := strings.ReplaceAll(ours, "d=example.org", "d=example.net")
	for name, tt := range map[string]struct {
		mail  string
		again bool
	}{
		"ours":                {ours + plainMail, false},
		"simple body":         {strings.Replace(ours, "relaxed/relaxed", "relaxed/simple", 1) + plainMail, false},
		"another domain's":    {theirs + plainMail, true},
		"body changed":        {strings.Replace(ours+plainMail, "hello", "hullo", 1), true},
		"expired":             {strings.Replace(ours, "v=1;", "v=1; x=1700000000;", 1) + plainMail, true},
		"part of the body":    {strings.Replace(ours, "v=1;", "v=1; l=0;", 1) + plainMail, true},
		"sha1":                {strings.Replace(ours, "rsa-sha256", "rsa-sha1", 1) + plainMail, true},
		"without From":        {strings.ReplaceAll(ours, "From", "Xrom") + plainMail, true},
		"nonsense":            {"DKIM-Signature: d=example.org\r\n" + plainMail, true},
		"nonsense, then ours": {"DKIM-Signature: ;;\r\n" + ours + plainMail, false},
	} {
		if got := sign(t, s, "example.org", tt.mail); (got != "") != tt.again {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// failing breaks after some bytes.
type failing struct{ r io.Reader }

func (f failing) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err == io.EOF {
		err = errors.New("disk trouble")
	}
	return n, err
}

func TestDKIM_Faults(t *testing.T) {
	t.Parallel()
	dns, k := newTXT(), rsaKey(t)
	s := newSigner(t, SignConfig{DNS: dns, Domains: []DomainKeys{{"example.org", []KeyConfig{{Selector: "s", Source: keyFile(t, k)}}}}})
	h, b := split(plainMail)
	if f, err := s.DKIM(context.Background(), "example.org", nil, h, func() io.Reader { return failing{b()} }); err == nil || f != nil {
		t.Errorf("a body that could not be read was signed: %q", f)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if f, err := s.DKIM(ctx, "example.org", nil, h, b); !errors.Is(err, context.Canceled) || f != nil {
		t.Errorf("%q %v", f, err)
	}
	tr := &transit{keys: map[int]crypto.Signer{1: k}, err: errors.New("down")}
	s = newSigner(t, SignConfig{DNS: dns, Transit: tr, Domains: []DomainKeys{{"example.org", []KeyConfig{{Selector: "s", Source: "bao:mail"}}}}})
	if f, err := s.DKIM(context.Background(), "example.org", nil, h, b); err == nil || f != nil {
		t.Errorf("no key, but %q", f)
	}
	tr.err = nil
	s.Refresh(context.Background())
	tr.err = errors.New("down")
	if f, err := s.DKIM(context.Background(), "example.org", nil, h, b); err == nil || f != nil {
		t.Errorf("no signature, but %q", f)
	}
}

// FuzzCanonical: our canonical forms are the ones go-msgauth makes: each takes
// the other's signatures, whatever the mail.
func FuzzCanonical(f *testing.F) {
	dns, e := newTXT(), edKey(f)
	dns.set("e._domainkey.example.org", record(f, e))
	s := newSigner(f, SignConfig{DNS: dns, Domains: []DomainKeys{{"example.org", []KeyConfig{{Selector: "e", Source: keyFile(f, e)}}}}})
	f.Add("x", "a \r\n\r\n b\r\n", uint8(3))
	f.Add(" folded\r\n\there ", "\r\n\r\n", uint8(0))
	f.Add("\xff", " \t", uint8(1))
	f.Fuzz(func(t *testing.T, subject, body string, mode uint8) {
		// The gateway refuses a bare CR or makes CRLF of a bare LF before anything reads a mail.
		body = crlf(body)
		subject = strings.NewReplacer("\r", "", "\n", "\r\n ").Replace(subject)
		mail := "From: a@example.org\r\nSubject:" + subject + "x\r\n\r\n" + body
		for _, v := range dns.verify(t, []byte(sign(t, s, "example.org", mail)+mail)) {
			if v.Err != nil {
				t.Fatalf("go-msgauth does not take ours: %v\n%q", v.Err, mail)
			}
		}
		forms := []dkim.Canonicalization{dkim.CanonicalizationSimple, dkim.CanonicalizationRelaxed}
		var out bytes.Buffer
		err := dkim.Sign(&out, strings.NewReader(mail), &dkim.SignOptions{Domain: "example.org", Selector: "e", Signer: e,
			HeaderCanonicalization: forms[mode&1], BodyCanonicalization: forms[mode>>1&1], HeaderKeys: []string{"From", "Subject", "Subject"}})
		if err != nil {
			t.Skip()
		}
		if err := verifyPlain(dns, out.String()); err != nil {
			t.Fatalf("we do not take go-msgauth's: %v\n%q", err, out.String())
		}
	})
}

func crlf(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r", ""), "\n", "\r\n")
}

// verifyPlain checks a DKIM-Signature with the machinery of the chains.
func verifyPlain(dns Resolver, mail string) error {
	h, b := split(mail)
	f := splitFields(h)
	at := f.byName["dkim-signature"]
	if len(at) != 1 {
		return fmt.Errorf("%d signatures", len(at))
	}
	v := newVerifier(context.Background(), dns, f, time.Now())
	defer v.close()
	list, _ := readSignatures(f, "")
	v.wantDKIM(list)
	got := v.dkim(list, v.readBody(b))
	if got[0].Result != Pass {
		return fmt.Errorf("%s: %s", got[0].Result, got[0].Reason)
	}
	return nil
}

func TestVerify_MsgauthSigns(t *testing.T) {
	t.Parallel()
	dns, r, e := newTXT(), rsaKey(t), edKey(t)
	dns.set("r._domainkey.example.org", record(t, r))
	dns.set("e._domainkey.example.org", record(t, e))
	for _, hc := range []dkim.Canonicalization{dkim.CanonicalizationSimple, dkim.CanonicalizationRelaxed} {
		for _, bc := range []dkim.Canonicalization{dkim.CanonicalizationSimple, dkim.CanonicalizationRelaxed} {
			for sel, key := range map[string]crypto.Signer{"r": r, "e": e} {
				for _, mail := range []string{plainMail, "From: a@example.org\r\n\r\n", "From:a@example.org\r\n\r\n\r\n\r\n", "From: a@example.org\r\n\r\nx", "From: a@example.org\r\n\r\n x \t y\r\n \r\n"} {
					var out bytes.Buffer
					if err := dkim.Sign(&out, strings.NewReader(mail), &dkim.SignOptions{Domain: "example.org", Selector: sel, Signer: key, HeaderCanonicalization: hc, BodyCanonicalization: bc}); err != nil {
						t.Fatal(err)
					}
					if err := verifyPlain(dns, out.String()); err != nil {
						t.Errorf("%s/%s %s: %v\n%s", hc, bc, sel, err, out.String())
					}
					if verifyPlain(dns, strings.Replace(out.String(), "From:", "From: x", 1)) == nil {
						t.Errorf("%s/%s %s: a changed From verifies", hc, bc, sel)
					}
				}
			}
		}
	}
}
