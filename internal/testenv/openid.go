package testenv

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// OpenID is a real OpenID provider in this process: zitadel's, with its login
// page. Its accounts are in memory.
type OpenID struct {
	*storage.Storage
	Issuer string

	mu     sync.Mutex // guards what follows
	claims map[string]map[string]any
	keys   []*signingKey
	back   []string // where a logout may lead
}

// OpenIDUser is an account there.
type OpenIDUser struct {
	Name, Password, Email string
	EmailVerified         bool
	Claims                map[string]any // more of them: groups, sid, amr
}

// OpenIDProvider starts a provider with one client, "mailward" with the secret
// "secret", and these accounts by their ids.
func OpenIDProvider(t testing.TB, redirect, back string, users map[string]OpenIDUser) *OpenID {
	t.Helper()
	var handler http.Handler
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	t.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	p := &OpenID{Issuer: "http://localhost:" + u.Port(), claims: map[string]map[string]any{}, back: []string{back}}
	accounts := map[string]*storage.User{}
	for id, a := range users {
		first, last, _ := strings.Cut(a.Name, " ")
		accounts[id] = &storage.User{ID: id, Username: id, Password: a.Password, FirstName: first, LastName: last, Email: a.Email, EmailVerified: a.EmailVerified}
		p.claims[id] = a.Claims
	}
	b, err := json.Marshal(accounts)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "accounts.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	store, err := storage.StoreFromFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p.Storage = storage.NewStorageWithClients(store, map[string]*storage.Client{"mailward": storage.WebClient("mailward", "secret", redirect)})
	p.Rotate()
	handler = exampleop.SetupServer(p.Issuer, p, nil, false)
	return p
}

// SetClaims changes what the provider says of an account beside its address and name.
func (p *OpenID) SetClaims(user string, c map[string]any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.claims[user] = c
}

// Rotate has the provider sign with a new key; the old one is gone.
func (p *OpenID) Rotate() {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err) // no random numbers
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = []*signingKey{{id: rand.Text(), key: key}}
}

// Sign makes a token of these claims, as a logout token is one.
func (p *OpenID) Sign(t testing.TB, claims map[string]any) string {
	t.Helper()
	p.mu.Lock()
	key := p.keys[0]
	p.mu.Unlock()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key.key, KeyID: key.id}}, (&jose.SignerOptions{}).WithType("logout+jwt"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(b)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

type signingKey struct {
	id  string
	key *rsa.PrivateKey
}

func (k *signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.RS256 }
func (k *signingKey) Algorithm() jose.SignatureAlgorithm          { return jose.RS256 }
func (k *signingKey) Key() any                                    { return k.key }
func (k *signingKey) ID() string                                  { return k.id }
func (k *signingKey) Use() string                                 { return "sig" }

type publicKey struct{ *signingKey }

func (k publicKey) Key() any { return &k.key.PublicKey }

// SigningKey is the storage's, with a key that changes.
func (p *OpenID) SigningKey(context.Context) (op.SigningKey, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keys[0], nil
}

// KeySet is what the provider publishes.
func (p *OpenID) KeySet(context.Context) (list []op.Key, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.keys {
		list = append(list, publicKey{k})
	}
	return list, nil
}

// SetUserinfoFromRequest fills the ID token.
func (p *OpenID) SetUserinfoFromRequest(ctx context.Context, info *oidc.UserInfo, token op.IDTokenRequest, scopes []string) error {
	if err := p.Storage.SetUserinfoFromRequest(ctx, info, token, scopes); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, v := range maps.All(p.claims[token.GetSubject()]) {
		info.AppendClaims(k, v)
	}
	return nil
}

type client struct {
	op.Client
	back []string
}

func (c client) PostLogoutRedirectURIs() []string { return c.back }
func (c client) DevMode() bool                    { return true } // plain http on the loopback

// GetClientByClientID is the storage's, with the addresses after a logout.
func (p *OpenID) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := p.Storage.GetClientByClientID(ctx, id)
	if err != nil {
		return nil, err
	}
	return client{c, p.back}, nil
}
