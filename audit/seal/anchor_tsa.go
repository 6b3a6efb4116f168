package seal

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"time"

	"github.com/digitorus/timestamp"

	"mailward/audit/proof"
)

// TSA has a time stamp authority (RFC 3161) sign the hash of the note. Its
// receipt is the whole token.
type TSA struct {
	URL    string
	Roots  *x509.CertPool // nil: the token is kept, and not called trusted
	Client *http.Client
}

// Kind implements [Anchor].
func (TSA) Kind() string { return "tsa" }

// Target implements [Anchor].
func (t TSA) Target() string { return t.URL }

// answerLimit bounds what is read of an answer of another side.
const answerLimit = 1 << 20

// Send asks for a token over SHA-256 of the signed note.
func (t TSA) Send(ctx context.Context, c Signed) ([]byte, string, error) {
	nonce, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 63))
	if err != nil {
		return nil, "", fmt.Errorf("make nonce: %w", err)
	}
	query, err := timestamp.CreateRequest(strings.NewReader(c.Note), &timestamp.RequestOptions{Hash: crypto.SHA256, Certificates: true, Nonce: nonce})
	if err != nil {
		return nil, "", fmt.Errorf("make time stamp query: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.URL, bytes.NewReader(query))
	if err != nil {
		return nil, "", errors.New("the address of the time stamp authority is none")
	}
	req.Header.Set("Content-Type", "application/timestamp-query")
	resp, err := t.Client.Do(req)
	if err != nil {
		return nil, "", fmt.Errorf("ask for a time stamp: %w", plain(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	if err != nil {
		return nil, "", fmt.Errorf("read time stamp: %w", plain(err))
	}
	// Some authorities answer 200 with a page of HTML.
	if kind := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || !strings.HasPrefix(kind, "application/timestamp-reply") {
		return nil, "", fmt.Errorf("the time stamp authority answered %d %q", resp.StatusCode, kind)
	}
	ts, err := timestamp.ParseResponse(body)
	if err != nil {
		return nil, "", fmt.Errorf("time stamp refused or not readable: %w", err)
	}
	if ts.Nonce == nil || ts.Nonce.Cmp(nonce) != 0 {
		return nil, "", errors.New("the time stamp answers another query")
	}
	_, trusted, err := proof.CheckToken(ts.RawToken, c.Note, t.Roots)
	if err != nil {
		return nil, "", err
	}
	words := "its authority is trusted"
	if !trusted {
		words = "its authority was not checked (no ca_file)"
	}
	return ts.RawToken, fmt.Sprintf("time stamp of %s, serial %s; %s", ts.Time.UTC().Format(time.RFC3339), ts.SerialNumber, words), nil
}
