package bao

import (
	"context"
	"fmt"

	"github.com/openbao/openbao/api/v2"
)

// rewrapMost is how many ciphertexts go in one call: with wrapped data keys far
// below what the server takes and what we read of an answer.
const rewrapMost = 500

// TransitRewrapAll is [Client.TransitRewrap] for many, in their order. It is all
// of them or an error: a caller that wants to know which one is at fault asks for
// each alone.
//
// The server rewraps without associated data (it has no field for it), so what was
// encrypted with some cannot be rewrapped.
func (c *Client) TransitRewrapAll(ctx context.Context, key string, ciphertexts []string) ([]string, error) {
	out := make([]string, 0, len(ciphertexts))
	for len(ciphertexts) > 0 {
		n := min(rewrapMost, len(ciphertexts))
		part, err := c.rewrapBatch(ctx, key, ciphertexts[:n])
		if err != nil {
			return nil, err
		}
		out, ciphertexts = append(out, part...), ciphertexts[n:]
	}
	return out, nil
}

func (c *Client) rewrapBatch(ctx context.Context, key string, ciphertexts []string) ([]string, error) {
	batch := make([]map[string]any, len(ciphertexts))
	for i, s := range ciphertexts {
		batch[i] = map[string]any{"ciphertext": s}
	}
	var out struct {
		Results []struct {
			Ciphertext string `json:"ciphertext"`
			Error      string `json:"error"`
		} `json:"batch_results"`
	}
	if err := c.transit(ctx, "rewrap", "rewrap", key, map[string]any{"batch_input": batch}, &out); err != nil {
		return nil, err
	}
	if len(out.Results) != len(ciphertexts) {
		return nil, fmt.Errorf("rewrap with key %s: %w", key, errAnswer)
	}
	next := make([]string, len(ciphertexts))
	for i, r := range out.Results {
		if r.Error != "" { // not repeated: it may hold what was sent
			return nil, fmt.Errorf("rewrap with key %s: %w: one of %d", key, ErrBadRequest, len(ciphertexts))
		}
		if _, _, err := unprefix(r.Ciphertext); err != nil {
			return nil, fmt.Errorf("rewrap with key %s: %w", key, err)
		}
		next[i] = r.Ciphertext
	}
	return next, nil
}

// TransitLatest is the newest version of a key, with which the server encrypts.
func (c *Client) TransitLatest(ctx context.Context, key string) (int, error) {
	var out struct {
		Latest int `json:"latest_version"`
	}
	if err := c.transit(ctx, "read", "keys", key, nil, &out); err != nil {
		return 0, err
	}
	if out.Latest < 1 {
		return 0, fmt.Errorf("read key %s: %w", key, errAnswer)
	}
	return out.Latest, nil
}

// TransitRotate makes a new version of a key. The policy must allow "update" of
// keys/NAME/rotate; where an administrator rotates, it need not.
func (c *Client) TransitRotate(ctx context.Context, key string) error {
	const what = "rotate"
	if err := name(key); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	path := c.cfg.MountTransit + "/keys/" + key + "/rotate"
	return c.call(ctx, what+" key "+key, func(ctx context.Context, a *api.Client) error {
		_, err := a.Logical().WriteWithContext(ctx, path, nil) // 204, or the key's data
		return err
	})
}
