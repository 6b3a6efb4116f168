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
	"sync/atomic"
	"testing"
	"time"

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

// deadResolver never answers before its context ends.
type deadResolver struct {
	mockdns.Resolver
	asked atomic.Int32
}

func (d *deadResolver) LookupTXT(ctx context.Context, _ string) ([]string, error) {
	d.asked.Add(1)
	<-ctx.Done()
	return nil, &net.DNSError{IsTimeout: true}
}

// TestCached_DeadResolver: mail waits for a dead resolver a few times, not each time.
func TestCached_DeadResolver(t *testing.T) {
	dead := &deadResolver{}
	now := time.Now()
	c := &cached{next: dead, now: func() time.Time { return now }, entries: map[string]entry{}}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	for range 10 {
		now = now.Add(time.Millisecond)
		if _, err := c.LookupTXT(ctx, now.String()); err == nil {
			t.Fatal("an answer of a dead resolver")
		}
	}
	if n := dead.asked.Load(); n != troubleMost {
		t.Errorf("asked %d times, want %d", n, troubleMost)
	}
	now = now.Add(troubleQuiet + time.Second)
	c.LookupTXT(ctx, "again")
	if n := dead.asked.Load(); n != troubleMost+1 {
		t.Errorf("not asked again after a while: %d", n)
	}
}

func TestCached_Remembers(t *testing.T) {
	var asked atomic.Int32
	r := Cached(counting{&mockdns.Resolver{Zones: map[string]mockdns.Zone{"a.example.": {TXT: []string{"x"}}}}, &asked})
	for range 5 {
		if v, err := r.LookupTXT(context.Background(), "a.example"); err != nil || len(v) != 1 {
			t.Fatal(v, err)
		}
		if _, err := r.LookupTXT(context.Background(), "missing.example"); err == nil {
			t.Fatal("an answer for a name that is not there")
		}
	}
	if asked.Load() != 2 {
		t.Errorf("asked %d times, want 2", asked.Load())
	}
}

type counting struct {
	Resolver
	n *atomic.Int32
}

func (c counting) LookupTXT(ctx context.Context, name string) ([]string, error) {
	c.n.Add(1)
	return c.Resolver.LookupTXT(ctx, name)
}
