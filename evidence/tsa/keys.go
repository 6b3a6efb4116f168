package tsa

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// Pair is a key and its certificate.
type Pair struct {
	Cert *x509.Certificate
	Key  crypto.Signer
	Root *x509.Certificate // that vouches for it
}

// certLife is for how long our own certificates count. Stamps and signatures
// stay checkable after that, at the time of the stamp.
const certLife = 10 * 365 * 24 * time.Hour

// use says what a certificate of ours is for.
type use struct {
	name  string // of its file
	label string // its common name begins with this
	stamp bool   // signs time stamps
}

// OpenLocal reads the built-in authority's key from dir, or makes it.
func OpenLocal(dir, hostname string, now func() time.Time) (Local, error) {
	p, err := open(dir, hostname, use{name: "tsa", label: "Mailward built-in time stamps (demonstration)", stamp: true}, now())
	return Local{Root: p.Root, Cert: p.Cert, Key: p.Key, Now: now}, err
}

// OpenSigner reads the key that signs PDFs from dir, or makes it. Its certificate
// is our own: who checks it needs to have been told of its root.
func OpenSigner(dir, hostname string, now func() time.Time) (Pair, error) {
	return open(dir, hostname, use{name: "pdf", label: "Mailward evidence"}, now())
}

func open(dir, hostname string, u use, now time.Time) (p Pair, err error) {
	path := filepath.Join(dir, u.name+".pem")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if b, err = generate(hostname, u, now); err == nil {
			err = writeOnce(path, b)
		}
		if errors.Is(err, fs.ErrExist) { // another process was faster
			b, err = os.ReadFile(path)
		}
	}
	if err != nil {
		return p, fmt.Errorf("key of evidence %s: %w", u.name, err)
	}
	return ParsePair(b)
}

// ParsePair reads a private key and certificates in PEM: the signer's, and those
// above it.
func ParsePair(b []byte) (p Pair, err error) {
	chain, err := ParsePEM(b)
	if err != nil {
		return p, err
	}
	p.Cert, p.Root = chain[0], chain[len(chain)-1]
	for rest := b; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return p, errors.New("no private key in PEM")
		}
		if block.Type != "PRIVATE KEY" && block.Type != "EC PRIVATE KEY" && block.Type != "RSA PRIVATE KEY" {
			continue
		}
		key, err := parseKey(block.Bytes)
		if err != nil {
			return p, err
		}
		p.Key = key
		public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
		if !ok || !public.Equal(p.Cert.PublicKey) {
			return p, errors.New("the private key does not belong to the certificate")
		}
		return p, nil
	}
}

func parseKey(der []byte) (crypto.Signer, error) {
	if k, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		if s, ok := k.(crypto.Signer); ok {
			return s, nil
		}
	}
	if k, err := x509.ParseECPrivateKey(der); err == nil {
		return k, nil
	}
	if k, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return k, nil
	}
	return nil, errors.New("the private key cannot be read") // the cause may quote it
}

// generate makes a root that signs one certificate and is then forgotten, and
// that certificate with its key.
func generate(hostname string, u use, now time.Time) ([]byte, error) {
	rootKey, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	key, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	subject := func(role string) pkix.Name {
		return pkix.Name{CommonName: u.label + role, Organization: []string{hostname}}
	}
	root := &x509.Certificate{Subject: subject(" root"), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	leaf := &x509.Certificate{Subject: subject(""), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment}
	if u.stamp { // RFC 3161 §2.3: its one use, and critical
		eku, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
		if err != nil {
			return nil, fmt.Errorf("make certificate: %w", err)
		}
		leaf.KeyUsage = x509.KeyUsageDigitalSignature
		leaf.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: eku}}
	}
	rootCert, err := certify(root, root, rootKey.Public(), rootKey, now)
	if err != nil {
		return nil, err
	}
	cert, err := certify(leaf, rootCert, key.Public(), rootKey, now)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), PEM(cert, rootCert)...), nil
}

func certify(c, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer, now time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make serial: %w", err)
	}
	c.SerialNumber, c.NotBefore, c.NotAfter = serial, now.Add(-time.Hour), now.Add(certLife)
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, signer)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// writeOnce makes a file that only we can read, whole or not at all, and never
// over another one.
func writeOnce(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Link(f.Name(), path)
}
