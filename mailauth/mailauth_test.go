package mailauth

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"
	"github.com/foxcpp/go-mockdns"

	"mailward/internal/message"
)

func spool(t *testing.T, mail string) *message.Spool {
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

func TestCheck(t *testing.T) {
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	var signed bytes.Buffer
	plain := "From: a@signed.example\r\nSubject: x\r\n\r\nhello\r\n"
	err = dkim.Sign(&signed, strings.NewReader(plain), &dkim.SignOptions{Domain: "signed.example", Selector: "s", Signer: crypto.Signer(priv), HeaderKeys: []string{"From", "Subject"}})
	if err != nil {
		t.Fatal(err)
	}
	dns := &mockdns.Resolver{Zones: map[string]mockdns.Zone{
		"good.example.":                {TXT: []string{"v=spf1 ip4:192.0.2.0/24 -all"}},
		"hard.example.":                {TXT: []string{"v=spf1 -all"}},
		"broken.example.":              {Err: &net.DNSError{Err: "server failure", IsTemporary: true}},
		"s._domainkey.signed.example.": {TXT: []string{"v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(pub)}},
		"client.example.":              {TXT: []string{"v=spf1 ip4:192.0.2.1 -all"}},
	}}
	for name, tt := range map[string]struct{ from, mail, want string }{
		"spf pass":       {"a@good.example", plain, "spf=pass"},
		"spf fail":       {"a@hard.example", plain, "spf=fail"},
		"spf none":       {"a@nothing.example", plain, "spf=none"},
		"dns trouble":    {"a@broken.example", plain, "spf=temperror"},
		"null sender":    {"", plain, "spf=pass"},
		"no signature":   {"a@good.example", plain, "dkim=none"},
		"signed":         {"a@good.example", signed.String(), "dkim=pass header.d=signed.example"},
		"body changed":   {"a@good.example", strings.Replace(signed.String(), "hello", "hullo", 1), "dkim=fail"},
		"hostile sender": {"a@good.example;dkim=pass\r\nX: y", plain, "spf="},
		"signature bomb": {"a@good.example", strings.Repeat("DKIM-Signature: v=1; a=rsa-sha256; d=x; s=y; bh=z; b=q; h=From\r\n", 50) + plain, "dkim="},
	} {
		t.Run(name, func(t *testing.T) {
			env := message.Envelope{ClientIP: netip.MustParseAddr("192.0.2.1"), Helo: "client.example", From: tt.from}
			got := New(dns).Check(context.Background(), env, spool(t, tt.mail))
			if !strings.Contains(got.Header, tt.want) || strings.ContainsAny(got.Header, "\r\n") || len(got.JSON) == 0 {
				t.Errorf("%q %s, want %q", got.Header, got.JSON, tt.want)
			}
		})
	}
}
