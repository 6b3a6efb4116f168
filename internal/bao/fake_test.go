package bao

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	roleID   = "role-id-value"
	secretID = "secret-id-value"
	space    = "mail/gate"
)

// fake is an OpenBao as far as this package asks for it, with its habits: bad
// credentials are a 400, an empty 404 has an empty error list, a deleted secret
// a 404 with a body, RSA signs PSS unless told.
type fake struct {
	t   *testing.T
	url string

	mu       sync.Mutex // guards all below
	tokens   map[string]bool
	logins   int
	renewals int
	revoked  int
	lease    int
	sealed   bool
	deny     string // paths with this prefix are forbidden
	answer   func(w http.ResponseWriter, r *http.Request) bool
	kv       map[string][]map[string]any // nil: deleted
	rsa      []*rsa.PrivateKey
	ed       []ed25519.PrivateKey
	minSign  int
	aes      int // newest version of the cipher
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{t: t, tokens: map[string]bool{}, lease: 1200, aes: 2, kv: map[string][]map[string]any{}}
	for range 2 {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		_, e, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		f.rsa, f.ed = append(f.rsa, k), append(f.ed, e)
	}
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	f.url = srv.URL
	return f
}

func (f *fake) client(t *testing.T, change func(*Config)) *Client {
	t.Helper()
	cfg := Config{
		Address: f.url, Namespace: space,
		RoleID:   func() (string, error) { return roleID, nil },
		SecretID: func() (string, error) { return secretID + "\n", nil },
	}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (f *fake) set(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
}

func fail(w http.ResponseWriter, status int, texts ...string) {
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"errors": append([]string{}, texts...)})
}

func reply(w http.ResponseWriter, key string, v any) {
	json.NewEncoder(w).Encode(map[string]any{"request_id": "x", key: v})
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	if f.answer != nil && f.answer(w, r) {
		return
	}
	if path == "sys/health" {
		if f.sealed && r.URL.Query().Get("sealedcode") == "" {
			w.WriteHeader(503)
		} else if f.sealed {
			w.WriteHeader(299)
		}
		json.NewEncoder(w).Encode(map[string]any{"initialized": true, "sealed": f.sealed, "version": "2.6.2"})
		return
	}
	if f.sealed {
		fail(w, 503, "Vault is sealed")
		return
	}
	if r.Header.Get("X-Vault-Namespace") != space || r.Header.Get("X-Vault-Request") != "true" {
		fail(w, 404)
		return
	}
	var in map[string]any
	if r.Method == "PUT" || r.Method == "POST" {
		json.NewDecoder(r.Body).Decode(&in)
	}
	if path == "auth/approle/login" {
		f.login(w, in)
		return
	}
	token := r.Header.Get("X-Vault-Token")
	if !f.tokens[token] || f.deny != "" && strings.HasPrefix(path, f.deny) {
		fail(w, 403, "permission denied", token) // it repeats what it was sent
		return
	}
	switch {
	case path == "auth/token/lookup-self":
		reply(w, "data", map[string]any{"ttl": f.lease, "renewable": true})
	case path == "auth/token/renew-self":
		f.renewals++
		reply(w, "auth", map[string]any{"client_token": token, "lease_duration": f.lease, "renewable": true})
	case path == "auth/token/revoke-self":
		f.revoked++
		delete(f.tokens, token)
		w.WriteHeader(204)
	case strings.HasPrefix(path, "transit/"):
		f.transit(w, strings.Split(path, "/")[1:], in)
	case strings.HasPrefix(path, "secret/data/"):
		f.secret(w, strings.TrimPrefix(path, "secret/data/"), in)
	default:
		fail(w, 404)
	}
}

func (f *fake) login(w http.ResponseWriter, in map[string]any) {
	f.logins++
	if in["role_id"] != roleID || in["secret_id"] != secretID {
		fail(w, 400, "invalid role or secret ID")
		return
	}
	token := fmt.Sprintf("s.token-%d", f.logins)
	f.tokens[token] = true
	reply(w, "auth", map[string]any{"client_token": token, "lease_duration": f.lease, "renewable": true, "policies": []string{"mail"}})
}

func (f *fake) transit(w http.ResponseWriter, p []string, in map[string]any) {
	key := p[1]
	if key != "rsa" && key != "ed" && key != "aes" {
		if p[0] == "keys" {
			fail(w, 404)
			return
		}
		fail(w, 400, "encryption key not found")
		return
	}
	switch p[0] {
	case "keys":
		if len(p) == 3 && p[2] == "rotate" {
			f.aes++
			w.WriteHeader(204)
			return
		}
		f.keys(w, key)
	case "sign":
		f.sign(w, p, in)
	case "encrypt":
		reply(w, "data", map[string]any{"ciphertext": "vault:v1:" + seal(in["plaintext"], in["associated_data"]), "key_version": 1})
	case "rewrap":
		f.rewrap(w, in)
	case "decrypt":
		plain, bound := open(in["ciphertext"].(string))
		if a, _ := in["associated_data"].(string); a != bound {
			fail(w, 400, "cipher: message authentication failed")
			return
		}
		reply(w, "data", map[string]any{"plaintext": plain})
	}
}

// rewrap has no associated data, as the server has none, and a batch with one bad
// part is a 400 that holds the results of all.
func (f *fake) rewrap(w http.ResponseWriter, in map[string]any) {
	one := func(c string) (map[string]any, bool) {
		plain, bound := open(c)
		if !strings.HasPrefix(c, "vault:v") || bound != "" {
			return map[string]any{"error": "cipher: message authentication failed"}, false
		}
		return map[string]any{"ciphertext": fmt.Sprintf("vault:v%d:%s", f.aes, seal(plain, "")), "key_version": f.aes}, true
	}
	if batch, ok := in["batch_input"].([]any); ok {
		results, good := []any{}, true
		for _, b := range batch {
			r, ok := one(b.(map[string]any)["ciphertext"].(string))
			results, good = append(results, r), good && ok
		}
		if !good {
			w.WriteHeader(400)
		}
		reply(w, "data", map[string]any{"batch_results": results})
		return
	}
	r, ok := one(in["ciphertext"].(string))
	if !ok {
		fail(w, 400, "cipher: message authentication failed")
		return
	}
	reply(w, "data", r)
}

// seal stands for a cipher: it keeps what it was given.
func seal(plain, bound any) string {
	b, _ := bound.(string)
	return base64.StdEncoding.EncodeToString([]byte(plain.(string) + "|" + b))
}

func open(c string) (plain, bound string) {
	raw, _ := base64.StdEncoding.DecodeString(c[strings.LastIndex(c, ":")+1:])
	plain, bound, _ = strings.Cut(string(raw), "|")
	return plain, bound
}

func (f *fake) keys(w http.ResponseWriter, key string) {
	keys := map[string]any{}
	for i := range 2 {
		n := fmt.Sprint(i + 1)
		switch key {
		case "rsa":
			der, _ := x509.MarshalPKIXPublicKey(f.rsa[i].Public())
			keys[n] = map[string]any{"public_key": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}
		case "ed":
			keys[n] = map[string]any{"public_key": base64.StdEncoding.EncodeToString(f.ed[i].Public().(ed25519.PublicKey))}
		default:
			keys[n] = time.Now().Unix()
		}
	}
	reply(w, "data", map[string]any{"type": key, "keys": keys, "latest_version": f.aes, "min_encryption_version": f.minSign})
}

func (f *fake) sign(w http.ResponseWriter, p []string, in map[string]any) {
	input, err := base64.StdEncoding.DecodeString(in["input"].(string))
	n := int(in["key_version"].(float64))
	if err != nil || n < 1 || n > 2 {
		fail(w, 400, "cannot sign with that version")
		return
	}
	var sig []byte
	switch {
	case p[1] == "ed":
		sig = ed25519.Sign(f.ed[n-1], input)
	case in["signature_algorithm"] == "pkcs1v15" && in["prehashed"] == true && p[2] == "sha2-256":
		sig, err = rsa.SignPKCS1v15(rand.Reader, f.rsa[n-1], crypto.SHA256, input)
	default:
		sum := sha256.Sum256(input)
		sig, err = rsa.SignPSS(rand.Reader, f.rsa[n-1], crypto.SHA256, sum[:], nil)
	}
	if err != nil {
		fail(w, 400, err.Error())
		return
	}
	reply(w, "data", map[string]any{"signature": fmt.Sprintf("vault:v%d:%s", n, base64.StdEncoding.EncodeToString(sig)), "key_version": n})
}

func (f *fake) secret(w http.ResponseWriter, path string, in map[string]any) {
	have := f.kv[path]
	meta := func() map[string]any {
		return map[string]any{"version": len(f.kv[path]), "created_time": "2026-01-02T03:04:05Z", "deletion_time": "", "destroyed": false, "custom_metadata": nil}
	}
	switch {
	case in == nil && len(have) == 0:
		fail(w, 404)
	case in == nil && have[len(have)-1] == nil:
		w.WriteHeader(404)
		reply(w, "data", map[string]any{"data": nil, "metadata": meta()})
	case in == nil:
		reply(w, "data", map[string]any{"data": have[len(have)-1], "metadata": meta()})
	default:
		cas := in["options"].(map[string]any)["cas"].(float64)
		if int(cas) != len(have) {
			fail(w, 400, "check-and-set parameter did not match the current version")
			return
		}
		f.kv[path] = append(have, in["data"].(map[string]any))
		reply(w, "data", meta())
	}
}
