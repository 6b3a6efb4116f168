package sso

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// StatusError is an answer of the provider other than 200.
type StatusError struct{ Status int }

// Error implements error.
func (e *StatusError) Error() string { return "sso: the provider answered " + strconv.Itoa(e.Status) }

// checkLimit bounds what a check reads.
const checkLimit = 1 << 20

// Check reads the provider's description and keys anew, past what is known of
// them, and counts the keys. For Health.
func (p *Provider) Check(ctx context.Context) (keys int, err error) {
	var about struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := p.read(ctx, strings.TrimSuffix(p.cfg.Issuer, "/")+"/.well-known/openid-configuration", &about); err != nil {
		return 0, fmt.Errorf("read the description of %s: %w", p.cfg.Name, err)
	}
	// OpenID Connect Discovery §4.3: the issuer must be the one that was asked.
	if about.Issuer != p.cfg.Issuer || about.Keys == "" {
		return 0, fmt.Errorf("%w: the description of %s is of the issuer %q", ErrInvalid, p.cfg.Name, about.Issuer)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := p.read(ctx, about.Keys, &set); err != nil {
		return 0, fmt.Errorf("read the keys of %s: %w", p.cfg.Name, err)
	}
	return len(set.Keys), nil
}

func (p *Provider) read(ctx context.Context, address string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return fmt.Errorf("%w: its address is none", ErrInvalid)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return &StatusError{resp.StatusCode}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, checkLimit))
	if err != nil {
		return err
	}
	if json.Unmarshal(body, into) != nil {
		return fmt.Errorf("%w: it answers without JSON", ErrInvalid)
	}
	return nil
}
