// Package sso lets people in by the word of an OpenID provider: the code flow
// with PKCE, and the logouts that a provider starts.
//
// It knows protocol and no accounts: it turns an answer of a provider into
// [Claims], of which each value was checked, and says nothing about who may do
// what. The traps of Entra ID and Keycloak are dealt with here.
package sso

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/time/rate"
)

const (
	// leeway is how far a provider's clock may be off.
	leeway = time.Minute
	// discoverEvery bounds how often a provider that does not answer is asked.
	discoverEvery = 10 * time.Second
	// knownFor is how long its description and keys are believed without asking
	// anew: a key that it has taken back must not count here for ever.
	knownFor    = time.Hour
	callTimeout = 10 * time.Second
)

// Errors that callers tell apart.
var (
	ErrUnavailable = errors.New("sso: the provider does not answer")
	ErrRefused     = errors.New("sso: the provider refused")
	ErrInvalid     = errors.New("sso: the provider's answer is not valid")
	ErrBusy        = errors.New("sso: too many logout tokens at once")
)

// Config is one provider.
type Config struct {
	Name     string // in addresses and in the record
	Title    string // on the button
	Issuer   string
	ClientID string
	// ClientSecret may be empty: a public client has PKCE alone.
	ClientSecret string
	Scopes       []string // beside openid
	// Algorithms that a token may be signed with. Default: RS256, PS256, ES256.
	Algorithms []string
	// GroupsClaim is where the groups stand, with dots for what lies deeper:
	// groups, roles, realm_access.roles. Default: groups.
	GroupsClaim string
	// TrustEmail takes an address that the provider does not call verified. Entra
	// ID never says email_verified; only set this where the provider's addresses
	// cannot be chosen by their owners.
	TrustEmail bool
	// RequireMFA refuses who did not show a second factor there (amr, acr).
	RequireMFA bool
	// MFAValues of amr or acr stand for a second factor. Default: mfa, otp, hwk,
	// swk, fido, pop and phr, phrh.
	MFAValues []string
}

// Provider talks to one provider.
type Provider struct {
	cfg      Config
	redirect string // where the provider sends people back
	client   *http.Client
	now      func() time.Time
	logouts  *rate.Limiter // anybody may send a logout token, and each may have the keys fetched

	mu     sync.Mutex // guards what follows; held while the provider is asked
	found  *oidc.Provider
	since  time.Time // of found
	tried  time.Time // without success
	failed error
	end    string // end_session_endpoint
}

// New returns a Provider. It asks nobody yet: a provider that is down must not
// keep the gateway from starting. redirect is our own callback address.
func New(cfg Config, redirect string, client *http.Client, now func() time.Time) *Provider {
	if len(cfg.Algorithms) == 0 {
		cfg.Algorithms = []string{oidc.RS256, oidc.PS256, oidc.ES256}
	}
	if cfg.GroupsClaim == "" {
		cfg.GroupsClaim = "groups"
	}
	if len(cfg.MFAValues) == 0 {
		cfg.MFAValues = []string{"mfa", "otp", "hwk", "swk", "fido", "pop", "phr", "phrh"}
	}
	if client == nil {
		client = &http.Client{Timeout: callTimeout}
	}
	if now == nil {
		now = time.Now
	}
	return &Provider{cfg: cfg, redirect: redirect, client: client, now: now, logouts: rate.NewLimiter(10, 50)}
}

// Name is the provider's name in addresses and in the record.
func (p *Provider) Name() string { return p.cfg.Name }

// Title is what its button says.
func (p *Provider) Title() string {
	if p.cfg.Title != "" {
		return p.cfg.Title
	}
	return p.cfg.Name
}

// Issuer is who signs its tokens.
func (p *Provider) Issuer() string { return p.cfg.Issuer }

// discover reads the provider's description (OpenID Connect Discovery §4), and
// again when it is old. Its issuer must be ours to the letter, so the shared tenants
// of Entra ID, whose issuer is a template, are refused: name the tenant.
func (p *Provider) discover(ctx context.Context) (*oidc.Provider, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found != nil && p.now().Sub(p.since) < knownFor {
		return p.found, nil
	}
	if p.failed != nil && p.now().Sub(p.tried) < discoverEvery {
		return p.found, p.failure()
	}
	found, end, err := p.describeAnew(ctx)
	if err != nil {
		// From the end of the try on: those who waited for it do not each wait as long.
		p.failed, p.tried = err, p.now()
		return p.found, p.failure()
	}
	p.found, p.end, p.since, p.failed = found, end, p.now(), nil
	return found, nil
}

// failure is that of the last try, where nothing older is known. The caller holds mu.
func (p *Provider) failure() error {
	if p.found != nil {
		return nil // its old description; who comes is let in by its answer
	}
	return p.failed
}

func (p *Provider) describeAnew(ctx context.Context) (found *oidc.Provider, end string, err error) {
	// The keys are fetched later with this context: it must not end with a request.
	found, err = oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), p.client), p.cfg.Issuer)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	var more struct {
		End string `json:"end_session_endpoint"`
	}
	if err := found.Claims(&more); err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return found, more.End, nil
}

func (p *Provider) oauth(found *oidc.Provider) *oauth2.Config {
	return &oauth2.Config{ClientID: p.cfg.ClientID, ClientSecret: p.cfg.ClientSecret, Endpoint: found.Endpoint(), RedirectURL: p.redirect,
		Scopes: append([]string{oidc.ScopeOpenID}, p.cfg.Scopes...)}
}

// Request is what has to be kept until the person comes back.
type Request struct {
	State, Nonce, Verifier string
	Fresh                  bool // the person had to sign in anew
}

// Start makes the address to which the browser is sent. With fresh the provider
// has to ask the person again, whatever session it has.
func (p *Provider) Start(ctx context.Context, fresh bool) (string, Request, error) {
	found, err := p.discover(ctx)
	if err != nil {
		return "", Request{}, err
	}
	r := Request{State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(), Fresh: fresh}
	opts := []oauth2.AuthCodeOption{oidc.Nonce(r.Nonce), oauth2.S256ChallengeOption(r.Verifier)}
	if fresh {
		opts = append(opts, oauth2.SetAuthURLParam("prompt", "login"), oauth2.SetAuthURLParam("max_age", "0"))
	}
	return p.oauth(found).AuthCodeURL(r.State, opts...), r, nil
}

// Finish trades the code for a token, and checks that (OpenID Connect Core
// §3.1.3.7): signature, issuer, audience, times, nonce.
func (p *Provider) Finish(ctx context.Context, r Request, code string) (Claims, error) {
	found, err := p.discover(ctx)
	if err != nil {
		return Claims{}, err
	}
	ctx = oidc.ClientContext(ctx, p.client)
	tok, err := p.oauth(found).Exchange(ctx, code, oauth2.VerifierOption(r.Verifier))
	if err != nil {
		var refused *oauth2.RetrieveError
		if errors.As(err, &refused) {
			return Claims{}, fmt.Errorf("%w: code for token: %s", ErrRefused, refused.ErrorCode)
		}
		return Claims{}, fmt.Errorf("%w: code for token: %w", ErrUnavailable, err)
	}
	raw, ok := tok.Extra("id_token").(string)
	if !ok {
		return Claims{}, fmt.Errorf("%w: there is no id_token: is the scope openid allowed for this client?", ErrInvalid)
	}
	idt, err := p.verify(ctx, found, raw)
	if err != nil {
		return Claims{}, err
	}
	if idt.Nonce != r.Nonce {
		return Claims{}, fmt.Errorf("%w: the nonce is not the one that was sent", ErrInvalid)
	}
	c, err := p.claims(idt, raw)
	if err != nil {
		return Claims{}, err
	}
	if r.Fresh && p.now().Sub(c.AuthTime) > 5*time.Minute {
		return Claims{}, fmt.Errorf("%w: the person was not asked anew", ErrInvalid)
	}
	heard := c.complete() || p.askUserinfo(ctx, found, tok, &c)
	c.GroupsKnown = c.hasGroups || heard && !c.overage
	return c, nil
}

// verify checks an ID token (OpenID Connect Core §3.1.3.7).
func (p *Provider) verify(ctx context.Context, found *oidc.Provider, raw string) (*oidc.IDToken, error) {
	// The library gives nbf five minutes; exp gets our leeway.
	idt, err := p.signed(ctx, found, raw, oidc.Config{Now: func() time.Time { return p.now().Add(-leeway) }})
	if err != nil {
		return nil, err
	}
	if len(idt.Audience) > 1 {
		var c struct {
			AZP string `json:"azp"`
		}
		if err := idt.Claims(&c); err != nil || c.AZP != p.cfg.ClientID {
			return nil, fmt.Errorf("%w: the token is for several, and not first for us (azp)", ErrInvalid)
		}
	}
	return idt, nil
}

// signed checks what ID tokens and logout tokens have in common: signature,
// issuer, audience, and that they are not from the future. A key that is not known
// yet is fetched by the library.
func (p *Provider) signed(ctx context.Context, found *oidc.Provider, raw string, cfg oidc.Config) (*oidc.IDToken, error) {
	cfg.ClientID, cfg.SupportedSigningAlgs = p.cfg.ClientID, p.cfg.Algorithms
	idt, err := found.VerifierContext(oidc.ClientContext(context.WithoutCancel(ctx), p.client), &cfg).Verify(ctx, raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if idt.IssuedAt.After(p.now().Add(leeway)) {
		return nil, fmt.Errorf("%w: the token is from the future: compare the clocks", ErrInvalid)
	}
	return idt, nil
}

// LogoutURL is where the browser goes to end the session at the provider too
// (RP-Initiated Logout §2), or "" where it has no such place.
func (p *Provider) LogoutURL(ctx context.Context, idToken, back string) string {
	if _, err := p.discover(ctx); err != nil {
		return ""
	}
	p.mu.Lock()
	end := p.end
	p.mu.Unlock()
	u, err := url.Parse(end)
	if err != nil || end == "" {
		return ""
	}
	q := u.Query()
	q.Set("client_id", p.cfg.ClientID)
	q.Set("post_logout_redirect_uri", back)
	if idToken != "" {
		q.Set("id_token_hint", idToken)
	}
	u.RawQuery = q.Encode()
	return u.String()
}

func (c Config) shows(values []string) bool {
	return slices.ContainsFunc(values, func(v string) bool { return slices.Contains(c.MFAValues, v) })
}
