package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailward/evidence/store"
	"mailward/health"
	"mailward/identity/sso"
	"mailward/internal/worm"
)

// certificateUntil makes a server certificate for 127.0.0.1 that ends at a time,
// and a file with it for who is to believe it.
func certificateUntil(t *testing.T, until time.Time) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "double"}, NotBefore: until.Add(-2 * 365 * 24 * time.Hour), NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

// rightAnswers are what the servers of others say when all is well.
func rightAnswers(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.URL.Path == "/api/v1/get/status/containers":
		fmt.Fprint(w, `{"postfix-mailcow":{"type":"info","container":"postfix-mailcow","state":"running","started_at":"2026-11-22T21:00:08Z","image":"mailcow/postfix:1.42"}}`)
	case r.URL.Path == "/servers/getVersion":
		fmt.Fprint(w, `{"version":"2.5.1","pymisp_recommended_version":"2.5.0","perm_sync":false}`)
	case r.URL.Path == "/.well-known/openid-configuration":
		fmt.Fprintf(w, `{"issuer":"https://%s","jwks_uri":"https://%s/keys"}`, r.Host, r.Host)
	case r.URL.Path == "/keys":
		fmt.Fprint(w, `{"keys":[{"kty":"RSA","kid":"1"},{"kty":"RSA","kid":"2"}]}`)
	case strings.HasPrefix(r.URL.Path, "/bucket"):
		fmt.Fprint(w, `<?xml version="1.0"?><ObjectLockConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>`)
	default:
		fmt.Fprint(w, `{"status":"ok","pong":true}`)
	}
}

// servicesOf are the components of others' servers, at one address.
func servicesOf(t *testing.T, address, caFile string) []health.Component {
	t.Helper()
	key := "env:KEY"
	c := HealthConf{HTTP: []HTTPCheck{{Name: "soar", Title: "Orchestrator", URL: address + "/ping", Body: "pong", CAFile: caFile, Headers: map[string]*Secret{"Authorization": {reference: key}}}}}
	if errs := c.resolveSecrets(func(string) (string, bool) { return "Bearer s3cret", true }, nil); len(errs) > 0 {
		t.Fatal(errs)
	}
	list, err := c.components()
	if err != nil {
		t.Fatal(err)
	}
	cow, err := MailcowConf{URL: address, CAFile: caFile, Key: Secret{value: "k", reference: "k"}}.component()
	if err != nil {
		t.Fatal(err)
	}
	list = append(list, cow...)
	roots, err := pool(caFile)
	if err != nil {
		t.Fatal(err)
	}
	provider := sso.New(sso.Config{Name: "corp", Issuer: address}, "", health.Client(roots), nil)
	vault := store.S3{Bucket: worm.Bucket{Endpoint: strings.TrimPrefix(address, "http://"), Name: "bucket", AccessKey: "a", SecretKey: "b", PlainHTTP: true}}
	if strings.HasPrefix(address, "https:") {
		vault.Bucket.Endpoint, vault.Bucket.PlainHTTP = strings.TrimPrefix(address, "https://"), false
	}
	conf := DefaultConfig()
	conf.Evidence.TSA = StampConf{URL: address + "/tsa"}
	stamp, err := conf.tsaComponent()
	if err != nil {
		t.Fatal(err)
	}
	return append(list, health.MISP("main", address, "key", roots), stamp,
		health.Provider("corp", "Corp", func(ctx context.Context) (int, error) {
			n, err := provider.Check(ctx)
			return n, providerError(err)
		}),
		health.EvidenceStore(func(ctx context.Context) (health.Vault, error) { return checkVault(ctx, vault) }))
}

// hanging says nothing until the client goes. What it was sent is read first: a
// server does not notice the end of a connection before that.
func hanging(_ http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

type faulty struct {
	name    string
	handler http.HandlerFunc
	until   time.Duration     // of the certificate
	closed  bool              // nobody listens
	want    map[string]string // state and code by component; "" is every other
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		fmt.Fprint(w, `{"type":"error","msg":"authentication failed"}`)
	}
}

// TestServices_Faults: what each of others' servers may do to us, and the state
// that is shown. All of them at once, through the clients that are used.
func TestServices_Faults(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	for _, f := range []faulty{
		{name: "all is well", handler: rightAnswers, until: year, want: map[string]string{"": "up "}},
		{name: "down", closed: true, until: year, want: map[string]string{"": "down unreachable"}},
		{name: "hangs", until: year, handler: hanging, want: map[string]string{"": "down timeout"}},
		{name: "slow", until: year, handler: func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(1100 * time.Millisecond)
			rightAnswers(w, r)
		}, want: map[string]string{"": "degraded slow", "oidc:corp": "down timeout"}}, // it is asked twice
		{name: "401", until: year, handler: status(401), want: map[string]string{"": "not_authorised refused"}},
		{name: "403", until: year, handler: status(403), want: map[string]string{"": "not_authorised refused"}},
		{name: "500", until: year, handler: status(500), want: map[string]string{"": "down server_error", "evidence_store": "down unreachable"}},
		{name: "429", until: year, handler: status(429), want: map[string]string{"": "degraded too_many", "evidence_store": "down unreachable"}},
		{name: "redirected", until: year, handler: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", http.StatusFound) }, want: map[string]string{"": "down wrong_status", "evidence_store": "down unreachable"}},
		{name: "200 with an error", until: year, handler: func(w http.ResponseWriter, r *http.Request) { status(200)(w, r) },
			want: map[string]string{"": "down error_body", "oidc:corp": "down wrong_body", "tsa": "down wrong_body", "evidence_store": "down unreachable"}},
		{name: "200 with something else", until: year, handler: func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>Welcome to nginx</html>") },
			want: map[string]string{"": "down wrong_body", "evidence_store": "down unreachable"}},
		{name: "200 and nothing", until: year, handler: func(http.ResponseWriter, *http.Request) {},
			want: map[string]string{"": "down wrong_body", "mailcow": "not_authorised refused", "evidence_store": "down unreachable"}},
		{name: "certificate expired", until: -time.Hour, handler: rightAnswers, want: map[string]string{"": "down tls_expired"}},
		{name: "certificate ends soon", until: 48 * time.Hour, handler: rightAnswers, want: map[string]string{"http:soar": "degraded tls_expires", "mailcow": "degraded tls_expires", "misp:main": "degraded tls_expires", "": "up "}},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			f.check(t)
		})
	}
}

func (f faulty) check(t *testing.T) {
	cert, file := certificateUntil(t, time.Now().Add(f.until))
	srv := httptest.NewUnstartedServer(f.handler)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.StartTLS()
	defer srv.Close()
	if f.closed {
		srv.Close()
	}
	list := servicesOf(t, srv.URL, file)
	began := time.Now()
	r := health.New(list, slog.New(slog.DiscardHandler)).Check(t.Context())
	if took := time.Since(began); took > 2500*time.Millisecond {
		t.Errorf("the answer took %v", took)
	}
	for _, s := range r.Components {
		// These two believe the system's certificates alone, and have no double that
		// gives real stamps here: only what comes before that counts.
		if s.Name == "tsa" || s.Name == "evidence_store" {
			if f.name != "down" && f.name != "certificate expired" {
				continue
			}
		}
		want, ok := f.want[s.Name]
		if !ok {
			want = f.want[""]
		}
		if got := string(s.State) + " " + s.Code; got != want {
			t.Errorf("%s: %s (%s; %s), want %s", s.Name, got, s.Reason, s.Detail, want)
		}
		if strings.Contains(s.Reason+s.Detail, "s3cret") {
			t.Errorf("%s shows a secret: %s %s", s.Name, s.Reason, s.Detail)
		}
		if s.State != health.Up && !strings.Contains(s.Reason, "Mail flows") && !strings.Contains(s.Reason, "mail") {
			t.Errorf("%s: %q does not say what it means for mail", s.Name, s.Reason)
		}
	}
}

// The store and the authority over plain HTTP, where the double can stand in.
func TestServices_FaultsWithoutTLS(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]struct {
		handler     http.HandlerFunc
		vault, stmp string
	}{
		"all is well":             {rightAnswers, "up ", "down wrong_body"},
		"hangs":                   {hanging, "down timeout", "down timeout"},
		"401":                     {status(401), "not_authorised refused", "not_authorised refused"},
		"403":                     {status(403), "not_authorised refused", "not_authorised refused"},
		"500":                     {status(500), "down ", "down server_error"}, // the client tries again until its time is over
		"200 with something else": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>Welcome") }, "down unreachable", "down wrong_body"},
		"no Object Lock": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(404)
			fmt.Fprint(w, `<?xml version="1.0"?><Error><Code>ObjectLockConfigurationNotFoundError</Code></Error>`)
		}, "down no_lock", "down wrong_status"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(f.handler)
			defer srv.Close()
			var list []health.Component
			for _, c := range servicesOf(t, srv.URL, "") {
				if c.Name == "tsa" || c.Name == "evidence_store" {
					list = append(list, c)
				}
			}
			for _, s := range health.New(list, slog.New(slog.DiscardHandler)).Check(t.Context()).Components {
				want := map[string]string{"tsa": f.stmp, "evidence_store": f.vault}[s.Name]
				if got := string(s.State) + " " + s.Code; !strings.HasPrefix(got, want) {
					t.Errorf("%s: %s (%s; %s), want %s", s.Name, got, s.Reason, s.Detail, want)
				}
			}
		})
	}
}

// A refused key must not be shown again and again: mailcow shuts us out, SMTP too.
func TestMailcow_IsLeftAloneAfterARefusedKey(t *testing.T) {
	t.Parallel()
	asked := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		status(401)(w, r)
	}))
	defer srv.Close()
	c := health.Mailcow(srv.URL, "old", nil)
	r := c.Check(t.Context())
	if r.State != health.NotAuthorised || r.RetryAfter < time.Hour || asked != 1 {
		t.Errorf("%+v, asked %d times", r, asked)
	}
}
