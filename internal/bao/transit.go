package bao

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strconv"
	"strings"

	"github.com/openbao/openbao/api/v2"
)

// How TransitSign signs.
const (
	// RSASHA256 is PKCS #1 v1.5 over a SHA-256 digest, which is the input.
	RSASHA256 = "rsa-sha256"
	// Ed25519 signs the input as it is.
	Ed25519 = "ed25519"
	// Ed25519SHA256 is RFC 8463's name: the input, a SHA-256 digest, is the message.
	Ed25519SHA256 = "ed25519-sha256"
)

// maxVersions bounds how many versions of a key are looked at.
const maxVersions = 1000

// name refuses what could reach another path than that of a key.
func name(s string) error {
	if s == "" || len(s) > 200 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" || strings.Contains(s, "..") {
		return fmt.Errorf("%w: not the name of a key", ErrBadRequest)
	}
	return nil
}

// transit sends one request to the transit engine and decodes its data.
func (c *Client) transit(ctx context.Context, what, op, key string, in map[string]any, out any) error {
	verb, rest, _ := strings.Cut(op, " ")
	if err := name(key); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	path := c.cfg.MountTransit + "/" + verb + "/" + key + rest
	return c.call(ctx, what+" with key "+key, func(ctx context.Context, a *api.Client) error {
		var s *api.Secret
		var err error
		if in == nil {
			s, err = a.Logical().ReadWithContext(ctx, path)
		} else {
			s, err = a.Logical().WriteWithContext(ctx, path, in)
		}
		if err != nil {
			return err
		}
		return decode(s, out)
	})
}

// decode puts an answer's data into a struct.
func decode(s *api.Secret, out any) error {
	if s == nil || s.Data == nil {
		return ErrNotFound // a 404 has an empty error list, and no error
	}
	raw, err := json.Marshal(s.Data)
	if err == nil {
		err = json.Unmarshal(raw, out)
	}
	if err != nil {
		return errAnswer // without the cause: it could quote the data
	}
	return nil
}

// TransitSign signs input with one version of a key. It never takes another
// version than was asked for.
func (c *Client) TransitSign(ctx context.Context, key string, version int, input []byte, alg string) ([]byte, error) {
	if version < 1 {
		return nil, fmt.Errorf("sign: %w: no version of a key", ErrBadRequest)
	}
	in := map[string]any{"input": base64.StdEncoding.EncodeToString(input), "key_version": version}
	op := "sign"
	switch alg {
	case RSASHA256:
		// The server's default for RSA is PSS, which no verifier of mail knows.
		op, in["prehashed"], in["signature_algorithm"] = "sign /sha2-256", true, "pkcs1v15"
	case Ed25519, Ed25519SHA256:
	default:
		return nil, fmt.Errorf("sign: %w: unknown algorithm", ErrBadRequest)
	}
	var out struct {
		Signature string `json:"signature"`
	}
	if err := c.transit(ctx, "sign", op, key, in, &out); err != nil {
		return nil, err
	}
	got, sig, err := unprefix(out.Signature)
	if err != nil || got != version {
		return nil, fmt.Errorf("sign with key %s: %w", key, errAnswer)
	}
	return sig, nil
}

// unprefix takes "vault:vN:BASE64" apart. The prefix is the same on OpenBao.
func unprefix(s string) (version int, data []byte, err error) {
	v, b64, ok := strings.Cut(strings.TrimPrefix(s, "vault:v"), ":")
	if !ok || !strings.HasPrefix(s, "vault:v") {
		return 0, nil, errAnswer
	}
	if version, err = strconv.Atoi(v); err != nil {
		return 0, nil, errAnswer
	}
	if data, err = base64.StdEncoding.DecodeString(b64); err != nil || len(data) == 0 {
		return 0, nil, errAnswer
	}
	return version, data, nil
}

// TransitKeys returns the public keys of all versions that may sign.
func (c *Client) TransitKeys(ctx context.Context, key string) (map[int]crypto.PublicKey, error) {
	var out struct {
		Type string                     `json:"type"`
		Keys map[string]json.RawMessage `json:"keys"`
		// Versions below it verify, but sign no more; 0 means the latest only
		// for encryption, and no bound for signatures.
		Min int `json:"min_encryption_version"`
	}
	if err := c.transit(ctx, "read", "keys", key, nil, &out); err != nil {
		return nil, err
	}
	if len(out.Keys) == 0 || len(out.Keys) > maxVersions {
		return nil, fmt.Errorf("read key %s: %w", key, errAnswer)
	}
	keys := map[int]crypto.PublicKey{}
	for v, raw := range out.Keys {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("read key %s: %w", key, errAnswer)
		}
		if n < out.Min {
			continue
		}
		// A symmetric key has a number here instead.
		var k struct {
			PublicKey string `json:"public_key"`
		}
		if json.Unmarshal(raw, &k) != nil || k.PublicKey == "" {
			return nil, fmt.Errorf("read key %s: %w: not a key that signs", key, ErrBadRequest)
		}
		if keys[n], err = parsePublic(k.PublicKey); err != nil {
			return nil, fmt.Errorf("read key %s: %w", key, err)
		}
	}
	return keys, nil
}

// parsePublic reads PEM (RSA, ECDSA) or the bare base64 of an Ed25519 key.
func parsePublic(s string) (crypto.PublicKey, error) {
	if block, _ := pem.Decode([]byte(s)); block != nil {
		k, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, errAnswer
		}
		return k, nil
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s))
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return nil, errAnswer
	}
	return ed25519.PublicKey(raw), nil
}

// aad is the associated data, where there is some: what a ciphertext is bound to.
func aad(in map[string]any, bound []byte) map[string]any {
	if len(bound) > 0 {
		in["associated_data"] = base64.StdEncoding.EncodeToString(bound)
	}
	return in
}

// TransitEncrypt encrypts with the newest version of a key. bound must be given
// again to decrypt. The policy should allow no "create": the server makes a new
// key of an unknown name then.
func (c *Client) TransitEncrypt(ctx context.Context, key string, plain, bound []byte) (string, error) {
	var out struct {
		Ciphertext string `json:"ciphertext"`
	}
	in := aad(map[string]any{"plaintext": base64.StdEncoding.EncodeToString(plain)}, bound)
	if err := c.transit(ctx, "encrypt", "encrypt", key, in, &out); err != nil {
		return "", err
	}
	if _, _, err := unprefix(out.Ciphertext); err != nil {
		return "", fmt.Errorf("encrypt with key %s: %w", key, err)
	}
	return out.Ciphertext, nil
}

// TransitDecrypt decrypts what TransitEncrypt made.
func (c *Client) TransitDecrypt(ctx context.Context, key, ciphertext string, bound []byte) ([]byte, error) {
	var out struct {
		Plaintext string `json:"plaintext"`
	}
	if err := c.transit(ctx, "decrypt", "decrypt", key, aad(map[string]any{"ciphertext": ciphertext}, bound), &out); err != nil {
		return nil, err
	}
	plain, err := base64.StdEncoding.DecodeString(out.Plaintext)
	if err != nil {
		return nil, fmt.Errorf("decrypt with key %s: %w", key, errAnswer)
	}
	return plain, nil
}

// TransitRewrap brings a ciphertext to the newest version of its key, without
// showing us what is in it.
func (c *Client) TransitRewrap(ctx context.Context, key, ciphertext string) (string, error) {
	var out struct {
		Ciphertext string `json:"ciphertext"`
	}
	if err := c.transit(ctx, "rewrap", "rewrap", key, map[string]any{"ciphertext": ciphertext}, &out); err != nil {
		return "", err
	}
	if _, _, err := unprefix(out.Ciphertext); err != nil {
		return "", fmt.Errorf("rewrap with key %s: %w", key, err)
	}
	return out.Ciphertext, nil
}
