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
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailward/internal/testenv"
)

// TestLoadConfig_SecretsInOpenBao reads a password from a key-value store.
func TestLoadConfig_SecretsInOpenBao(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/auth/approle/login":
			io.WriteString(w, `{"auth": {"client_token": "t", "lease_duration": 60}}`)
		case "/v1/secret/data/mailward/db":
			io.WriteString(w, `{"data": {"data": {"url": "postgres://app:hunter2@db/mailward"}, "metadata": {"version": 1}}}`)
		default:
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, `{"errors": []}`)
		}
	}))
	defer srv.Close()
	environ := []string{"MAILWARD_OPENBAO_URL=" + srv.URL, "MAILWARD_OPENBAO_ROLE_ID=r", "MAILWARD_OPENBAO_SECRET_ID=s"}
	c, err := loadConfig("", append(environ, "MAILWARD_DATABASE_URL=bao:mailward/db#url"))
	if err != nil || c.Database.URL.Value() != "postgres://app:hunter2@db/mailward" {
		t.Errorf("%q, %v", c.Database.URL.Value(), err)
	}
	for ref, want := range map[string]string{"bao:mailward/db#no": "has no text no", "bao:mailward/db": "bao:PATH#FIELD", "bao:else#url": "not found"} {
		if _, err := loadConfig("", append(environ, "MAILWARD_DATABASE_URL="+ref)); err == nil || !strings.Contains(err.Error(), "database.url") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if _, err := loadConfig("", []string{"MAILWARD_DATABASE_URL=bao:mailward/db#url"}); err == nil || !strings.Contains(err.Error(), "kept in OpenBao") {
		t.Errorf("without OpenBao: %v", err)
	}
}

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
