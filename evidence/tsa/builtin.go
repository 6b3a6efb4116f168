package tsa

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"

	"github.com/digitorus/timestamp"
)

// builtInPolicy is under the arc for examples: no authority has such a policy.
var builtInPolicy = asn1.ObjectIdentifier{2, 999, 3161, 1}

// Local is the built-in authority.
type Local struct {
	Root, Cert *x509.Certificate
	Key        crypto.Signer
	Now        func() time.Time
}

// Name implements [Authority].
func (Local) Name() string { return "built-in, for tests and demonstration" }

// Roots implements [Authority].
func (l Local) Roots() []*x509.Certificate { return []*x509.Certificate{l.Root} }

// BuiltIn implements [Authority].
func (Local) BuiltIn() bool { return true }

// Stamp implements [Authority].
func (l Local) Stamp(_ context.Context, data []byte) (Stamp, error) {
	q, nonce, err := query(data)
	if err != nil {
		return Stamp{}, err
	}
	req, err := timestamp.ParseRequest(q)
	if err != nil {
		return Stamp{}, fmt.Errorf("read time stamp query: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 63))
	if err != nil {
		return Stamp{}, fmt.Errorf("make serial: %w", err)
	}
	ts := &timestamp.Timestamp{HashAlgorithm: req.HashAlgorithm, HashedMessage: req.HashedMessage, Time: l.Now().UTC(), Nonce: req.Nonce, Policy: builtInPolicy,
		SerialNumber: serial, Accuracy: time.Second, Certificates: []*x509.Certificate{l.Root}, AddTSACertificate: true}
	body, err := ts.CreateResponseWithOpts(l.Cert, l.Key, crypto.SHA256)
	if err != nil {
		return Stamp{}, fmt.Errorf("sign time stamp: %w", err)
	}
	st, err := read(body, nonce, data, l.Roots())
	st.BuiltIn = true
	return st, err
}
