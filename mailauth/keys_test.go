package mailauth

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailward/internal/bao"
)

var _ Transit = (*bao.Client)(nil)

// transit is OpenBao's transit engine, as Transit shows it.
type transit struct {
	keys map[int]crypto.Signer
	err  error
}

func (f *transit) TransitKeys(context.Context, string) (map[int]crypto.PublicKey, error) {
	out := map[int]crypto.PublicKey{}
	for v, k := range f.keys {
		out[v] = k.Public()
	}
	return out, f.err
}

func (f *transit) TransitSign(_ context.Context, _ string, v int, digest []byte, alg string) ([]byte, error) {
	if f.err != nil {
		return nil, f.err
	}
	if alg == algEd25519 {
		return f.keys[v].Sign(rand.Reader, digest, crypto.Hash(0))
	}
	return f.keys[v].Sign(rand.Reader, digest, crypto.SHA256)
}

func activeKeys(s *Signer) string {
	var out []string
	for _, k := range s.Status(context.Background()) {
		if k.Active {
			out = append(out, k.Selector)
		}
	}
	return strings.Join(out, " ")
}

func TestRotation_Files(t *testing.T) {
	t.Parallel()
	day := func(n int) time.Time { return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC) }
	k1, k2, e1 := rsaKey(t), rsaKey(t), edKey(t)
	keys := []KeyConfig{
		{Selector: "new", Source: keyFile(t, k2), NotBefore: day(10)},
		{Selector: "old", Source: keyFile(t, k1), NotBefore: day(1), NotAfter: day(20)},
		{Selector: "ed", Source: keyFile(t, e1), NotBefore: day(1)},
	}
	for name, tt := range map[string]struct {
		day       int
		published string
		want      string
	}{
		"before the new one":        {5, "old new", "old"},
		"both":                      {12, "old new", "new"},
		"the new one unpublished":   {12, "old", "old"},
		"expired, only published":   {25, "old", "old"},
		"expired":                   {25, "old new", "new"},
		"expired, ed stays":         {25, "old ed", "ed"},
		"both algorithms":           {12, "old new ed", "new ed"},
		"none published":            {12, "", "old"},
		"none published, expired":   {25, "", "ed"},
		"another key's record":      {12, "old new=ed", "old"},
		"revoked":                   {12, "old new=revoked", "old"},
		"two records":               {12, "old new=two", "old"},
		"before all: nothing works": {0, "old new ed", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dns := newTXT()
			own := map[string]string{"old": record(t, k1), "new": record(t, k2), "ed": record(t, e1), "revoked": "v=DKIM1; k=rsa; p="}
			for p := range strings.FieldsSeq(tt.published) {
				sel, of, other := strings.Cut(p, "=")
				switch {
				case of == "two":
					dns.set(sel+"._domainkey.example.org", own[sel], own["ed"])
				case other:
					dns.set(sel+"._domainkey.example.org", own[of])
				default:
					dns.set(sel+"._domainkey.example.org", own[sel])
				}
			}
			s := newSigner(t, SignConfig{DNS: dns, Now: func() time.Time { return day(tt.day) }, Domains: []DomainKeys{{"example.org", keys}}})
			got := strings.Fields(activeKeys(s))
			if want := strings.Fields(tt.want); len(got) != len(want) || !sameSet(got, want) {
				t.Errorf("active %q, want %q", got, tt.want)
			}
		})
	}
}

func sameSet(a, b []string) bool {
	seen := map[string]bool{}
	for _, s := range a {
		seen[s] = true
	}
	for _, s := range b {
		if !seen[s] {
			return false
		}
	}
	return true
}

// TestRotation_Transit: a new version in OpenBao signs once it is published;
// trouble with DNS or OpenBao changes nothing, nor does a reload.
func TestRotation_Transit(t *testing.T) {
	t.Parallel()
	dns, tr := newTXT(), &transit{keys: map[int]crypto.Signer{1: rsaKey(t)}}
	cfg := SignConfig{DNS: dns, Transit: tr, Domains: []DomainKeys{{"example.org", []KeyConfig{{Selector: "mw", Source: "bao:mail"}}}}}
	dns.set("mwv1._domainkey.example.org", record(t, tr.keys[1]))
	s := newSigner(t, cfg)
	ctx := context.Background()
	want := func(step, keys string) {
		t.Helper()
		if got := activeKeys(s); got != keys {
			t.Fatalf("%s: active %q, want %q", step, got, keys)
		}
		if f := sign(t, s, "example.org", plainMail); len(dns.records) > 0 && !dns.broken && dns.verify(t, []byte(f+plainMail))[0].Err != nil {
			t.Fatalf("%s: does not verify", step)
		}
	}
	want("first", "mwv1")
	tr.keys[2] = rsaKey(t)
	s.Refresh(ctx)
	want("rotated, not published", "mwv1")
	var publish KeyStatus
	for _, k := range s.Status(ctx) {
		if k.Selector == "mwv2" {
			publish = k
		}
	}
	if publish.Published != "no" || publish.Name != "mwv2._domainkey.example.org." {
		t.Fatalf("%+v", publish)
	}
	dns.set(strings.TrimSuffix(publish.Name, "."), publish.Record)
	dns.broken = true
	s.Refresh(ctx)
	want("DNS trouble", "mwv1")
	dns.broken = false
	s.Refresh(ctx)
	want("published", "mwv2")
	dns.broken = true
	s.Refresh(ctx)
	want("DNS trouble later", "mwv2")
	if err := s.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	want("reload", "mwv2")
	tr.err = errors.New("sealed")
	s.Refresh(ctx)
	if got := activeKeys(s); got != "mwv2" {
		t.Errorf("OpenBao trouble: active %q", got)
	}
	tr.err, dns.broken = nil, false
	delete(tr.keys, 2)
	s.Refresh(ctx)
	want("version withdrawn", "mwv1")
}

func TestRun_Ends(t *testing.T) {
	t.Parallel()
	dns := newTXT()
	s := newSigner(t, SignConfig{DNS: dns, Domains: []DomainKeys{{"example.org", []KeyConfig{{Selector: "s", Source: keyFile(t, edKey(t))}}}}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("still running")
	}
}

func TestNewSigner_Refuses(t *testing.T) {
	t.Parallel()
	good := keyFile(t, edKey(t))
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	open := strings.TrimPrefix(keyFile(t, edKey(t)), "file:")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	noPEM := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(noPEM, []byte("the secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	one := func(k ...KeyConfig) SignConfig { return SignConfig{Domains: []DomainKeys{{"example.org", k}}} }
	for name, tt := range map[string]struct {
		cfg  SignConfig
		want string
	}{
		"short key":     {one(KeyConfig{Selector: "s", Source: keyFile(t, small)}), "2048"},
		"open file":     {one(KeyConfig{Selector: "s", Source: "file:" + open}), "everybody"},
		"no PEM":        {one(KeyConfig{Selector: "s", Source: "file:" + noPEM}), "no PEM"},
		"folder":        {one(KeyConfig{Selector: "s", Source: "file:" + t.TempDir()}), "selector s"},
		"missing":       {one(KeyConfig{Selector: "s", Source: "file:/nowhere/at/all"}), "selector s"},
		"no scheme":     {one(KeyConfig{Selector: "s", Source: "/key.pem"}), "file:PATH"},
		"no bao":        {one(KeyConfig{Selector: "s", Source: "bao:x"}), "not set up"},
		"bad selector":  {one(KeyConfig{Selector: "a b", Source: good}), "no selector"},
		"same selector": {one(KeyConfig{Selector: "s", Source: good}, KeyConfig{Selector: "S", Source: good}), "twice"},
		"dates":         {one(KeyConfig{Selector: "s", Source: good, NotBefore: now, NotAfter: now}), "not_after"},
		"no keys":       {one(), "no key"},
		"bad domain":    {SignConfig{Domains: []DomainKeys{{"a;b", []KeyConfig{{Selector: "s", Source: good}}}}}, "no domain"},
		"twice":         {SignConfig{Domains: []DomainKeys{{"a.org", []KeyConfig{{Selector: "s", Source: good}}}, {"A.org", []KeyConfig{{Selector: "s", Source: good}}}}}, "twice"},
		"seal, no host": {SignConfig{Seal: &Key{"a.org", []KeyConfig{{Selector: "s", Source: good}}}}, "host name"},
	} {
		_, err := NewSigner(tt.cfg)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "the secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := newSigner(t, one(KeyConfig{Selector: "s", Source: good}))
	if err := s.Reload(one(KeyConfig{Selector: "t", Source: "file:" + noPEM})); err == nil {
		t.Error("a bad reload was taken")
	}
	if st := s.Status(context.Background()); len(st) != 1 || st[0].Selector != "s" {
		t.Errorf("a bad reload changed the keys: %+v", st)
	}
}
