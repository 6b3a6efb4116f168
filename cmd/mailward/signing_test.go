package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailward/internal/testenv"
)

// TestDKIM_Command prints what to publish, and sees when it is there.
func TestDKIM_Command(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "s1.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	record := `s1._domainkey.example.org. IN TXT "v=DKIM1; k=ed25519; p=` + base64.StdEncoding.EncodeToString(pub) + `"`
	for zone, want := range map[string]int{"": 1, record + "\n": 0} {
		server := testenv.DNS(t, zone)
		conf := filepath.Join(dir, fmt.Sprintf("%d.yaml", want))
		text := fmt.Sprintf("dns: {server: %q}\nsigning: {domains: {example.org: [{selector: s1, key: %q, not_before: 2026-11-01}]}}\n", server.Addr, "file:"+file)
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		code := run(context.Background(), env{args: []string{"--config", conf, "dkim"}, out: &out, err: &errs})
		if code != want || !strings.Contains(out.String(), record+"\n") {
			t.Errorf("code %d, want %d: %s%s", code, want, &out, &errs)
		}
	}
}
