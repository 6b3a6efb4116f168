// Package tsa gets time stamps (RFC 3161) for evidence.
//
// A stamp comes from an authority of the configuration, or from one that is
// built in. The built-in one is for tests and demonstrations: it is the same
// program that says what the time was, so its stamps prove nothing to others, and
// everything that shows them says so.
package tsa

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/digitorus/pkcs7"
	"github.com/digitorus/timestamp"

	"mailward/audit/proof"
)

// Stamp is a token, and what is needed to check it in years to come.
type Stamp struct {
	Response []byte // as the authority sent it, for openssl ts -in
	Token    []byte
	Time     time.Time
	Policy   string
	Signer   *x509.Certificate
	Chain    []*x509.Certificate // all certificates of the token
	Trusted  bool                // by the roots of the configuration
	BuiltIn  bool
}

// Authority gives stamps.
type Authority interface {
	Stamp(ctx context.Context, data []byte) (Stamp, error)
	Name() string               // as people read it
	Roots() []*x509.Certificate // that are trusted; none: nobody said
	BuiltIn() bool
}

// answerLimit bounds what is read of an answer of another side.
const answerLimit = 1 << 20

// Remote is an authority of the world.
type Remote struct {
	URL    string
	Trust  []*x509.Certificate // nil: the token is kept, and not called trusted
	Client *http.Client
}

// Name implements [Authority].
func (r Remote) Name() string { return r.URL }

// Roots implements [Authority].
func (r Remote) Roots() []*x509.Certificate { return r.Trust }

// BuiltIn implements [Authority].
func (Remote) BuiltIn() bool { return false }

// Stamp asks for a token over SHA-256 of data.
func (r Remote) Stamp(ctx context.Context, data []byte) (Stamp, error) {
	query, nonce, err := query(data)
	if err != nil {
		return Stamp{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, bytes.NewReader(query))
	if err != nil {
		return Stamp{}, errors.New("the address of the time stamp authority is none")
	}
	req.Header.Set("Content-Type", "application/timestamp-query")
	resp, err := r.Client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the address can hold a secret
		}
		return Stamp{}, fmt.Errorf("ask for a time stamp: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	if err != nil {
		return Stamp{}, fmt.Errorf("read time stamp: %w", err)
	}
	// Some authorities answer 200 with a page of HTML.
	if kind := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || !strings.HasPrefix(kind, "application/timestamp-reply") {
		return Stamp{}, fmt.Errorf("ask for a time stamp: %w", &AnswerError{Status: resp.StatusCode, Kind: kind})
	}
	st, err := read(body, nonce, data, r.Trust)
	if err != nil {
		return Stamp{}, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	return st, nil
}

// ErrAnswer means that what came is a time stamp that we do not take.
var ErrAnswer = errors.New("tsa: the answer is not taken")

// AnswerError is an answer that is no time stamp.
type AnswerError struct {
	Status int
	Kind   string // of content
}

// Error implements error.
func (e *AnswerError) Error() string {
	return fmt.Sprintf("the time stamp authority answered %d %q", e.Status, e.Kind)
}

func query(data []byte) ([]byte, *big.Int, error) {
	nonce, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 63))
	if err != nil {
		return nil, nil, fmt.Errorf("make nonce: %w", err)
	}
	q, err := timestamp.CreateRequest(bytes.NewReader(data), &timestamp.RequestOptions{Hash: crypto.SHA256, Certificates: true, Nonce: nonce})
	if err != nil {
		return nil, nil, fmt.Errorf("make time stamp query: %w", err)
	}
	return q, nonce, nil
}

// read takes an answer apart, and takes it only if it is the one to our query.
func read(body []byte, nonce *big.Int, data []byte, roots []*x509.Certificate) (Stamp, error) {
	ts, err := timestamp.ParseResponse(body)
	if err != nil {
		return Stamp{}, fmt.Errorf("time stamp refused or not readable: %w", err)
	}
	if ts.Nonce == nil || ts.Nonce.Cmp(nonce) != 0 {
		return Stamp{}, errors.New("the time stamp answers another query")
	}
	at, trusted, err := proof.CheckToken(ts.RawToken, string(data), Pool(roots))
	if err != nil {
		return Stamp{}, err
	}
	p7, err := pkcs7.Parse(ts.RawToken)
	if err != nil {
		return Stamp{}, fmt.Errorf("time stamp: %w", err)
	}
	return Stamp{Response: body, Token: ts.RawToken, Time: at.UTC(), Policy: ts.Policy.String(), Signer: p7.GetOnlySigner(), Chain: p7.Certificates, Trusted: trusted}, nil
}

// Pool is nil for no certificates.
func Pool(list []*x509.Certificate) *x509.CertPool {
	if len(list) == 0 {
		return nil
	}
	p := x509.NewCertPool()
	for _, c := range list {
		p.AddCert(c)
	}
	return p
}

// PEM writes certificates, one after the other.
func PEM(list ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range list {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return b.Bytes()
}

// ParsePEM reads certificates.
func ParsePEM(b []byte) (list []*x509.Certificate, err error) {
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read certificate: %w", err)
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		return nil, errors.New("no certificate in PEM")
	}
	return list, nil
}
