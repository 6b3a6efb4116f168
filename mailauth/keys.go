package mailauth

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// SignConfig is what mail is signed and sealed with.
type SignConfig struct {
	Hostname string       // the authserv-id that seals name
	Domains  []DomainKeys // whose mail is signed
	Seal     *Key         // what chains are sealed with; nil: not at all
	Transit  Transit      // for keys "bao:NAME"
	DNS      Resolver     // tells which keys are published
	Now      func() time.Time
	Log      *slog.Logger
}

// DomainKeys is the keys of one domain. Several of one algorithm are a
// rotation; one of each algorithm sign side by side.
type DomainKeys struct {
	Domain string
	Keys   []KeyConfig
}

// Key is the domain and keys of the ARC seals. It rotates as the others do.
type Key = DomainKeys

// KeyConfig is one key, or with "bao:" all versions of one.
type KeyConfig struct {
	Selector  string
	Source    string // "file:/path.pem"; "bao:NAME": version N has the selector Selector+"v"+N
	NotBefore time.Time
	NotAfter  time.Time
}

// Transit signs with keys that never leave OpenBao. bao.Client is one.
type Transit interface {
	// TransitKeys returns the public keys that can sign, by version.
	TransitKeys(ctx context.Context, key string) (map[int]crypto.PublicKey, error)
	// TransitSign signs a SHA-256 digest: alg is "rsa-sha256" (PKCS #1 v1.5) or
	// "ed25519-sha256" (the digest is the message, RFC 8463).
	TransitSign(ctx context.Context, key string, version int, digest []byte, alg string) ([]byte, error)
}

// transitTimeout bounds one question to OpenBao: a mail waits for it.
const transitTimeout = 5 * time.Second

// signKey is one key that can sign. It does not change; what DNS says of it is
// a new one.
type signKey struct {
	domain, selector    string
	source              string
	alg, record         string
	notBefore, notAfter time.Time
	sign                func(ctx context.Context, digest []byte) ([]byte, error)

	published publication
	reason    string // why it is not known as published
	checked   time.Time
}

// publication is what DNS said last about a key.
type publication int

const (
	pubUnknown publication = iota // DNS was not asked, or never answered
	pubMissing                    // no such record, or another key in it
	pubThere
)

// Validate reports every mistake that can be seen without opening a key.
func (c SignConfig) Validate() error {
	var errs []error
	seen := map[string]bool{}
	domains := c.Domains
	if c.Seal != nil {
		domains = append(slices.Clone(domains), *c.Seal)
	}
	for i, d := range domains {
		isSeal := c.Seal != nil && i == len(domains)-1
		if !dnsName(d.Domain) || !strings.Contains(d.Domain, ".") {
			errs = append(errs, fmt.Errorf("dkim: %q is no domain", d.Domain))
		}
		if name := strings.ToLower(d.Domain); !isSeal && seen[name] {
			errs = append(errs, fmt.Errorf("dkim: %s is listed twice", d.Domain))
		} else if !isSeal {
			seen[name] = true
		}
		if len(d.Keys) == 0 {
			errs = append(errs, fmt.Errorf("dkim: %s has no key", d.Domain))
		}
		selectors := map[string]bool{}
		for _, k := range d.Keys {
			if err := k.validate(c.Transit != nil); err != nil {
				errs = append(errs, fmt.Errorf("dkim: %s: %w", d.Domain, err))
			}
			if s := strings.ToLower(k.Selector); selectors[s] {
				errs = append(errs, fmt.Errorf("dkim: %s: selector %s is used twice", d.Domain, k.Selector))
			} else {
				selectors[s] = true
			}
		}
	}
	if c.Seal != nil && !dnsName(c.Hostname) {
		errs = append(errs, fmt.Errorf("dkim: sealing needs a host name, %q is none", c.Hostname))
	}
	return errors.Join(errs...)
}

func (k KeyConfig) validate(haveBao bool) error {
	scheme, name, _ := strings.Cut(k.Source, ":")
	switch {
	case !dnsName(k.Selector):
		return fmt.Errorf("%q is no selector", k.Selector)
	case scheme != "file" && scheme != "bao" || name == "":
		return fmt.Errorf("selector %s: the key must be file:PATH or bao:NAME", k.Selector)
	case scheme == "bao" && !haveBao:
		return fmt.Errorf("selector %s: the key is in OpenBao, which is not set up", k.Selector)
	case scheme == "bao" && strings.ContainsAny(name, "/?#%"):
		return fmt.Errorf("selector %s: %q is no name of a transit key", k.Selector, name)
	case !k.NotAfter.IsZero() && !k.NotBefore.Before(k.NotAfter):
		return fmt.Errorf("selector %s: not_after is not later than not_before", k.Selector)
	}
	return nil
}

// fileKey reads a private key in PEM: PKCS #8, or PKCS #1 for RSA.
func fileKey(domain string, c KeyConfig) (*signKey, error) {
	path := strings.TrimPrefix(c.Source, "file:")
	raw, err := readSecret(path)
	if err != nil {
		return nil, fmt.Errorf("dkim: read the key of selector %s: %w", c.Selector, err)
	}
	signer, err := parsePrivate(raw)
	clear(raw)
	if err != nil {
		return nil, fmt.Errorf("dkim: read the key of selector %s from %s: %w", c.Selector, path, err)
	}
	k, err := newSignKey(domain, c.Selector, c, signer.Public())
	if err != nil {
		return nil, err
	}
	opts := crypto.SignerOpts(crypto.SHA256)
	if k.alg == algEd25519 {
		opts = crypto.Hash(0) // the digest is the message (RFC 8463 §3)
	}
	k.sign = func(_ context.Context, digest []byte) ([]byte, error) { return signer.Sign(rand.Reader, digest, opts) }
	return k, nil
}

// readSecret reads a small file that others must not read.
func readSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, errors.New("not a file")
	}
	if st.Mode().Perm()&0o007 != 0 {
		return nil, errors.New("everybody on this host can open it: take the rights of others away")
	}
	return io.ReadAll(io.LimitReader(f, 64<<10))
}

// parsePrivate never says more of a bad key than that it is bad.
func parsePrivate(raw []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	if rsaKey, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return checkPrivate(rsaKey)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("neither a PKCS #8 nor a PKCS #1 key")
	}
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("not a key that signs")
	}
	return checkPrivate(s)
}

// checkPrivate holds keys to RFC 8301 §3.2: signers use 2048 bits or more, and
// verifiers need not take more than 4096.
func checkPrivate(s crypto.Signer) (crypto.Signer, error) { return s, checkPublic(s.Public()) }

func checkPublic(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case ed25519.PublicKey:
		return nil
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 4096 {
			return fmt.Errorf("an RSA key must have 2048 to 4096 bits, this one has %d", n)
		}
		return nil
	default:
		return fmt.Errorf("a key of kind %T cannot sign mail", pub)
	}
}

func newSignKey(domain, selector string, c KeyConfig, pub crypto.PublicKey) (*signKey, error) {
	alg, record, err := keyRecord(pub)
	if err != nil {
		return nil, fmt.Errorf("dkim: selector %s: %w", selector, err)
	}
	return &signKey{
		domain: strings.ToLower(domain), selector: selector, source: c.Source, alg: alg, record: record,
		notBefore: c.NotBefore, notAfter: c.NotAfter, reason: "DNS was not asked yet",
	}, nil
}

// transitKeys makes one key of each version that OpenBao can sign with.
func transitKeys(ctx context.Context, t Transit, domain string, c KeyConfig) ([]*signKey, error) {
	ctx, cancel := context.WithTimeout(ctx, transitTimeout)
	defer cancel()
	name := strings.TrimPrefix(c.Source, "bao:")
	versions, err := t.TransitKeys(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("dkim: ask OpenBao for the key of selector %s: %w", c.Selector, err)
	}
	var keys []*signKey
	for _, n := range slices.Sorted(maps.Keys(versions)) {
		selector := fmt.Sprintf("%sv%d", c.Selector, n)
		if err := checkPublic(versions[n]); err != nil {
			return nil, fmt.Errorf("dkim: selector %s: %w", selector, err)
		}
		k, err := newSignKey(domain, selector, c, versions[n])
		if err != nil {
			return nil, err
		}
		k.sign = func(ctx context.Context, digest []byte) ([]byte, error) {
			ctx, cancel := context.WithTimeout(ctx, transitTimeout)
			defer cancel()
			return t.TransitSign(ctx, name, n, digest, k.alg)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// sameKey says whether two are one key at one place in the DNS.
func sameKey(a, b *signKey) bool {
	return a.domain == b.domain && a.selector == b.selector && a.record == b.record
}
