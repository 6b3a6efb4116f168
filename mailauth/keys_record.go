package mailauth

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

const (
	algRSA     = "rsa-sha256"
	algEd25519 = "ed25519-sha256"

	// RFC 8301 §3.2: shorter keys count as no key. Longer ones cost too much
	// time to be asked for by strangers.
	minRSABits = 1024
	maxRSABits = 8192
	// maxRecord bounds a key record; an RSA-8192 key needs 1.5 kB.
	maxRecord = 8 << 10
)

// errTemporary marks trouble that says nothing about the signature.
var errTemporary = errors.New("mailauth: temporary trouble")

var errAlgorithm = errors.New("key of another algorithm")

// publicKey is what a key record says.
type publicKey struct {
	alg  string
	key  crypto.PublicKey
	test bool // t=y

	strict bool // t=s: not for subdomains in i=
}

// lookupKey asks for the key of a signature. An error is errTemporary, or the
// key cannot be used.
func lookupKey(ctx context.Context, dns Resolver, domain, selector string) (publicKey, error) {
	name := selector + "._domainkey." + domain
	txt, err := dns.LookupTXT(ctx, name)
	if err != nil {
		var de *net.DNSError
		if ctx.Err() == nil && errors.As(err, &de) && de.IsNotFound {
			return publicKey{}, errors.New("no key record")
		}
		return publicKey{}, fmt.Errorf("%w: look up the key of %s", errTemporary, safe(domain))
	}
	// RFC 6376 §3.6.2.2 leaves several undefined; verifiers in use refuse them.
	switch len(txt) {
	case 0:
		return publicKey{}, errors.New("no key record")
	case 1:
		return parseKeyRecord(txt[0])
	default:
		return publicKey{}, errors.New("several records in place of one key")
	}
}

// parseKeyRecord reads a key record (RFC 6376 §3.6.1).
func parseKeyRecord(s string) (publicKey, error) {
	if len(s) > maxRecord {
		return publicKey{}, errors.New("key record too long")
	}
	t, err := parseTags(s)
	if err != nil {
		return publicKey{}, fmt.Errorf("key record: %w", err)
	}
	if v, ok := t["v"]; ok && (v != "DKIM1" || !strings.HasPrefix(strings.TrimLeft(s, fws), "v")) {
		return publicKey{}, errors.New("key record of an unknown version")
	}
	if h, ok := t["h"]; ok && !slices.Contains(colonList(h), "sha256") {
		return publicKey{}, errors.New("key not meant for SHA-256")
	}
	if l, ok := t["s"]; ok && !slices.Contains(colonList(l), "*") && !slices.Contains(colonList(l), "email") {
		return publicKey{}, errors.New("key not meant for mail")
	}
	if p, ok := t["p"]; !ok {
		return publicKey{}, errors.New("key record without a key")
	} else if stripFWS(p) == "" {
		return publicKey{}, errors.New("key revoked")
	}
	raw, err := t.base64Tag("p")
	if err != nil {
		return publicKey{}, fmt.Errorf("key record: %w", err)
	}
	flags := colonList(t["t"])
	k := publicKey{test: slices.Contains(flags, "y"), strict: slices.Contains(flags, "s")}
	switch kind, ok := t["k"]; {
	case !ok || kind == "rsa":
		k.alg = algRSA
		k.key, err = rsaPublic(raw)
	case kind == "ed25519" && len(raw) == ed25519.PublicKeySize:
		k.alg, k.key = algEd25519, ed25519.PublicKey(raw)
	default:
		err = errors.New("key of an unknown kind")
	}
	return k, err
}

// rsaPublic reads both forms in use: SubjectPublicKeyInfo, and the bare
// RSAPublicKey that RFC 6376 §3.6.1 names.
func rsaPublic(der []byte) (*rsa.PublicKey, error) {
	var key *rsa.PublicKey
	if p, err := x509.ParsePKIXPublicKey(der); err == nil {
		key, _ = p.(*rsa.PublicKey)
	} else if p, err := x509.ParsePKCS1PublicKey(der); err == nil {
		key = p
	}
	switch {
	case key == nil:
		return nil, errors.New("key cannot be read")
	case key.N.BitLen() < minRSABits:
		return nil, errors.New("key shorter than 1024 bits")
	case key.N.BitLen() > maxRSABits:
		return nil, errors.New("key too long")
	}
	return key, nil
}

// verify checks a signature over the hash of a header. Ed25519 signs that hash
// as its message (RFC 8463 §3).
func (k publicKey) verify(alg string, digest, sig []byte) error {
	if alg != k.alg {
		return errAlgorithm
	}
	ok := false
	switch key := k.key.(type) {
	case *rsa.PublicKey:
		ok = rsa.VerifyPKCS1v15(key, crypto.SHA256, digest, sig) == nil
	case ed25519.PublicKey:
		ok = ed25519.Verify(key, digest, sig)
	}
	if !ok {
		return errors.New("signature does not verify")
	}
	return nil
}

// keyRecord is what is to be published for a key, and the algorithm it is for.
func keyRecord(pub crypto.PublicKey) (alg, record string, err error) {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(k)
		if err != nil {
			return "", "", fmt.Errorf("encode public key: %w", err)
		}
		return algRSA, "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der), nil
	case ed25519.PublicKey:
		return algEd25519, "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(k), nil
	default:
		return "", "", fmt.Errorf("a key of kind %T cannot sign mail", pub)
	}
}

func samePublic(a, b crypto.PublicKey) bool {
	e, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && e.Equal(b)
}

func colonList(s string) []string {
	if s == "" {
		return nil
	}
	l := strings.Split(s, ":")
	for i := range l {
		l[i] = trimFWS(l[i])
	}
	return l
}
