package bao

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestTransitSign(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c := f.client(t, nil)
	ctx := context.Background()
	digest := sha256.Sum256([]byte("a header"))
	rsaKeys, err := c.TransitKeys(ctx, "rsa")
	if err != nil || len(rsaKeys) != 2 {
		t.Fatal(rsaKeys, err)
	}
	edKeys, err := c.TransitKeys(ctx, "ed")
	if err != nil || len(edKeys) != 2 {
		t.Fatal(edKeys, err)
	}
	for v := 1; v <= 2; v++ {
		sig, err := c.TransitSign(ctx, "rsa", v, digest[:], RSASHA256)
		if err != nil || rsa.VerifyPKCS1v15(rsaKeys[v].(*rsa.PublicKey), crypto.SHA256, digest[:], sig) != nil {
			t.Errorf("rsa v%d does not verify: %v", v, err)
		}
		sig, err = c.TransitSign(ctx, "ed", v, digest[:], Ed25519SHA256)
		if err != nil || !ed25519.Verify(edKeys[v].(ed25519.PublicKey), digest[:], sig) {
			t.Errorf("ed25519 v%d does not verify: %v", v, err)
		}
	}
	f.set(func() { f.minSign = 2 })
	if keys, err := c.TransitKeys(ctx, "rsa"); err != nil || len(keys) != 1 || keys[2] == nil {
		t.Errorf("a version that signs no more is offered: %v %v", keys, err)
	}
	for name, tt := range map[string]struct {
		key     string
		version int
		alg     string
		want    error
	}{
		"no such key":     {"nothing", 1, Ed25519, ErrBadRequest},
		"no such version": {"ed", 7, Ed25519, ErrBadRequest},
		"version 0":       {"ed", 0, Ed25519, ErrBadRequest},
		"algorithm":       {"ed", 1, "md5", ErrBadRequest},
		"another path":    {"../../sys/raw", 1, Ed25519, ErrBadRequest},
	} {
		if _, err := c.TransitSign(ctx, tt.key, tt.version, digest[:], tt.alg); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.TransitKeys(ctx, "nothing"); !errors.Is(err, ErrNotFound) {
		t.Errorf("keys of nothing: %v", err)
	}
	if _, err := c.TransitKeys(ctx, "aes"); !errors.Is(err, ErrBadRequest) {
		t.Errorf("keys of a cipher: %v", err)
	}
}

func TestTransitCipher(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c := f.client(t, nil)
	ctx := context.Background()
	ct, err := c.TransitEncrypt(ctx, "aes", []byte("plain"), []byte("item 7"))
	if err != nil {
		t.Fatal(err)
	}
	if p, err := c.TransitDecrypt(ctx, "aes", ct, []byte("item 7")); err != nil || string(p) != "plain" {
		t.Errorf("%q %v", p, err)
	}
	if _, err := c.TransitDecrypt(ctx, "aes", ct, []byte("item 8")); !errors.Is(err, ErrBadRequest) {
		t.Errorf("another item's: %v", err)
	}
	if _, err := c.TransitRewrap(ctx, "aes", ct); !errors.Is(err, ErrBadRequest) {
		t.Errorf("rewrapped although it is bound: %v", err)
	}
	if ct, err = c.TransitEncrypt(ctx, "aes", []byte("plain"), nil); err != nil {
		t.Fatal(err)
	}
	next, err := c.TransitRewrap(ctx, "aes", ct)
	if err != nil || !strings.HasPrefix(next, "vault:v2:") {
		t.Errorf("%q %v", next, err)
	}
}

func TestTransitRewrapAll(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c := f.client(t, nil)
	ctx := context.Background()
	var old []string
	for i := range rewrapMost + 3 { // two calls
		ct, err := c.TransitEncrypt(ctx, "aes", []byte(strconv.Itoa(i)), nil)
		if err != nil {
			t.Fatal(err)
		}
		old = append(old, ct)
	}
	if err := c.TransitRotate(ctx, "aes"); err != nil {
		t.Fatal(err)
	}
	if v, err := c.TransitLatest(ctx, "aes"); err != nil || v != 3 {
		t.Errorf("version %d, %v", v, err)
	}
	next, err := c.TransitRewrapAll(ctx, "aes", old)
	if err != nil || len(next) != len(old) {
		t.Fatal(len(next), err)
	}
	for i, ct := range next {
		if p, err := c.TransitDecrypt(ctx, "aes", ct, nil); err != nil || string(p) != strconv.Itoa(i) || !strings.HasPrefix(ct, "vault:v3:") {
			t.Fatalf("%d: %q, %q, %v", i, ct, p, err)
		}
	}
	if got, err := c.TransitRewrapAll(ctx, "aes", append(old[:2:2], "vault:x")); !errors.Is(err, ErrBadRequest) || got != nil {
		t.Errorf("one that is none: %v, %v", got, err)
	}
	f.set(func() {
		f.answer = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/rewrap/") {
				return false
			}
			reply(w, "data", map[string]any{"batch_results": []any{}})
			return true
		}
	})
	if _, err := c.TransitRewrapAll(ctx, "aes", old[:2]); err == nil {
		t.Error("an answer with nothing in it was taken")
	}
	for _, bad := range []string{"../sys", ""} {
		if err := c.TransitRotate(ctx, bad); !errors.Is(err, ErrBadRequest) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestKV(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c := f.client(t, nil)
	ctx := context.Background()
	if _, v, err := c.KVGet(ctx, "mail/head"); !errors.Is(err, ErrNotFound) || v != 0 {
		t.Fatal(v, err)
	}
	if v, err := c.KVPutCAS(ctx, "mail/head", map[string]any{"size": "1"}, 0); err != nil || v != 1 {
		t.Fatal(v, err)
	}
	if _, err := c.KVPutCAS(ctx, "mail/head", map[string]any{"size": "2"}, 0); !errors.Is(err, ErrConflict) {
		t.Errorf("a lost race: %v", err)
	}
	data, v, err := c.KVGet(ctx, "mail/head")
	if err != nil || v != 1 || data["size"] != "1" {
		t.Errorf("%v %d %v", data, v, err)
	}
	f.set(func() { f.kv["mail/head"] = append(f.kv["mail/head"], nil) })
	if _, v, err := c.KVGet(ctx, "mail/head"); !errors.Is(err, ErrNotFound) || v != 2 {
		t.Errorf("deleted: %d %v", v, err)
	}
	if _, _, err := c.KVGet(ctx, "a/../../sys"); !errors.Is(err, ErrBadRequest) {
		t.Errorf("another path: %v", err)
	}
}

// TestCall_DeadToken: a token that died costs one login, for all callers together.
func TestCall_DeadToken(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c := f.client(t, nil)
	var mu sync.Mutex
	now := time.Now()
	c.now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	ctx := context.Background()
	if _, err := c.TransitKeys(ctx, "ed"); err != nil {
		t.Fatal(err)
	}
	f.set(func() { clear(f.tokens) })
	mu.Lock()
	now = now.Add(time.Minute)
	mu.Unlock()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := c.TransitKeys(ctx, "ed"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	f.set(func() {
		if f.logins != 2 {
			t.Errorf("%d logins, want 2", f.logins)
		}
	})
}

// TestCall_Forbidden: what the policy forbids makes no storm of logins.
func TestCall_Forbidden(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.deny = "transit/"
	c := f.client(t, nil)
	for range 10 {
		if _, err := c.TransitKeys(context.Background(), "ed"); !errors.Is(err, ErrDenied) {
			t.Fatal(err)
		}
	}
	if f.set(func() {}); f.logins > 2 {
		t.Errorf("%d logins", f.logins)
	}
}

func TestLogin_Refused(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c := f.client(t, func(cfg *Config) { cfg.SecretID = func() (string, error) { return "wrong-secret", nil } })
	for range 5 {
		_, err := c.TransitKeys(context.Background(), "ed")
		if !errors.Is(err, ErrDenied) || strings.Contains(err.Error(), "wrong-secret") {
			t.Fatal(err)
		}
	}
	if f.set(func() {}); f.logins != 1 {
		t.Errorf("%d logins within %v", f.logins, loginEvery)
	}
	c = f.client(t, func(cfg *Config) { cfg.SecretID = func() (string, error) { return "", errors.New("content-of-file") } })
	if _, err := c.TransitKeys(context.Background(), "ed"); !errors.Is(err, ErrUnavailable) || strings.Contains(err.Error(), "content-of-file") {
		t.Error(err)
	}
}

func TestKeepAlive(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c := f.client(t, nil)
	now := time.Now()
	c.now = func() time.Time { return now }
	ctx := context.Background()
	if _, err := c.TransitKeys(ctx, "ed"); err != nil {
		t.Fatal(err)
	}
	c.keepAlive(ctx)
	if f.renewals != 0 {
		t.Error("renewed before it was due")
	}
	now = now.Add(14 * time.Minute)
	c.keepAlive(ctx)
	if f.renewals != 1 || f.logins != 1 || !c.state().expires.Equal(now.Add(20*time.Minute)) {
		t.Errorf("renewals %d logins %d, expires in %v", f.renewals, f.logins, c.state().expires.Sub(now))
	}
	// Near its longest life the lease no longer grows: log in.
	f.set(func() { f.lease = 1 })
	now = now.Add(19 * time.Minute)
	c.keepAlive(ctx)
	if f.logins != 2 {
		t.Errorf("%d logins at the end of the token's life", f.logins)
	}
	c.revoke(ctx)
	if f.revoked != 1 || len(f.tokens) != 1 { // the old one dies by its lease
		t.Errorf("revoked %d, left %d", f.revoked, len(f.tokens))
	}
}

func TestHealthAndTrouble(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c := f.client(t, nil)
	ctx := context.Background()
	if h, err := c.Health(ctx); err != nil || !h.Ready() || h.Version == "" {
		t.Errorf("%+v %v", h, err)
	}
	f.set(func() { f.sealed = true })
	if h, err := c.Health(ctx); err != nil || h.Ready() || !h.Sealed {
		t.Errorf("%+v %v", h, err)
	}
	if _, err := c.TransitKeys(ctx, "ed"); !errors.Is(err, ErrSealed) {
		t.Errorf("sealed: %v", err)
	}
}

// TestHostileServer: answers of any kind are trouble, never a signature, and
// what we sent is in no error.
func TestHostileServer(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(http.ResponseWriter){
		"not JSON":        func(w http.ResponseWriter) { io.WriteString(w, "<html>") },
		"empty":           func(w http.ResponseWriter) {},
		"204":             func(w http.ResponseWriter) { w.WriteHeader(204) },
		"redirect":        func(w http.ResponseWriter) { w.Header().Set("Location", "http://192.0.2.1/"); w.WriteHeader(307) },
		"endless":         func(w http.ResponseWriter) { io.WriteString(w, `{"data":{"signature":"`+strings.Repeat("A", 5<<20)) },
		"other version":   func(w http.ResponseWriter) { reply(w, "data", map[string]any{"signature": "vault:v2:AAAA"}) },
		"no prefix":       func(w http.ResponseWriter) { reply(w, "data", map[string]any{"signature": "AAAA"}) },
		"not base64":      func(w http.ResponseWriter) { reply(w, "data", map[string]any{"signature": "vault:v1:__"}) },
		"no signature":    func(w http.ResponseWriter) { reply(w, "data", map[string]any{}) },
		"wrong type":      func(w http.ResponseWriter) { reply(w, "data", map[string]any{"signature": 7}) },
		"busy":            func(w http.ResponseWriter) { fail(w, 429, "s.token-1") },
		"repeats secrets": func(w http.ResponseWriter) { fail(w, 500, "s.token-1", secretID) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if strings.Contains(r.URL.Path, "/sign/") {
					answer(w)
					return true
				}
				return false
			}
			sig, err := f.client(t, nil).TransitSign(context.Background(), "ed", 1, []byte("x"), Ed25519)
			if err == nil || sig != nil {
				t.Fatalf("a signature: %q", sig)
			}
			if strings.Contains(err.Error(), "token-1") || strings.Contains(err.Error(), secretID) {
				t.Errorf("a secret in %q", err)
			}
		})
	}
}

// TestSilentServer: the timeout bounds a call, and the caller's own is shorter.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	stop := make(chan struct{})
	defer close(stop)
	f.answer = func(http.ResponseWriter, *http.Request) bool { <-stop; return true }
	c := f.client(t, func(cfg *Config) { cfg.Timeout = 50 * time.Millisecond })
	if _, err := c.TransitKeys(context.Background(), "ed"); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestEnvironmentIsNotRead(t *testing.T) {
	t.Setenv("BAO_TOKEN", "s.stray")
	t.Setenv("VAULT_TOKEN", "s.stray")
	t.Setenv("BAO_ADDR", "http://192.0.2.1:1")
	f := newFake(t)
	c := f.client(t, nil)
	if c.api.Token() != "" || c.api.Address() != f.url {
		t.Errorf("token %q address %q", c.api.Token(), c.api.Address())
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	s := Secret(func() (string, error) { return "x", nil })
	for name, tt := range map[string]struct {
		cfg  Config
		want string
	}{
		"good":           {Config{Address: "https://bao.example:8200", Token: s}, ""},
		"good, loopback": {Config{Address: "http://127.0.0.1:8200", RoleID: s, SecretID: s}, ""},
		"good, allowed":  {Config{Address: "http://bao:8200", Token: s, PlainHTTP: true}, ""},
		"in the clear":   {Config{Address: "http://bao:8200", Token: s}, "could be read"},
		"password":       {Config{Address: "https://a:b@bao:8200", Token: s}, "password"},
		"no address":     {Config{Token: s}, "bao.address"},
		"no login":       {Config{Address: "https://bao:8200"}, "either"},
		"two logins":     {Config{Address: "https://bao:8200", Token: s, RoleID: s, SecretID: s}, "either"},
		"half a login":   {Config{Address: "https://bao:8200", RoleID: s}, "either"},
	} {
		_, err := New(tt.cfg, slog.New(slog.DiscardHandler))
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c := f.client(t, nil)
	if at, err := c.Token(t.Context()); err != nil || time.Until(at) < 10*time.Minute {
		t.Errorf("%v, %v", at, err)
	}
	f.mu.Lock()
	f.deny = "auth/token/lookup-self"
	f.mu.Unlock()
	if _, err := c.Token(t.Context()); !errors.Is(err, ErrDenied) {
		t.Errorf("a token that is not taken: %v", err)
	}
}
