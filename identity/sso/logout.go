package sso

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// logoutEvent is the key that a logout token must have (Back-Channel Logout §2.4).
const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// Logout is what a provider says has ended.
type Logout struct {
	Issuer, Subject, Session string
	ID                       string // jti, to know it again
	Expires                  time.Time
}

// maxAge is how old a logout token may be.
const maxAge = 10 * time.Minute

// Logout checks a logout token (Back-Channel Logout §2.6). Who sent it is known
// by its signature alone, so anybody may call.
func (p *Provider) Logout(ctx context.Context, raw string) (Logout, error) {
	if !p.logouts.Allow() {
		return Logout{}, ErrBusy
	}
	found, err := p.discover(ctx)
	if err != nil {
		return Logout{}, err
	}
	// Drafts of the standard had no exp, and providers go by them (LemonLDAP::NG);
	// where there is one it counts.
	idt, err := p.signed(ctx, found, raw, oidc.Config{SkipExpiryCheck: true})
	if err != nil {
		return Logout{}, err
	}
	var d document
	if err := idt.Claims(&d); err != nil {
		return Logout{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	var events, event document
	if json.Unmarshal(d["events"], &events) != nil || json.Unmarshal(events[logoutEvent], &event) != nil || event == nil {
		return Logout{}, fmt.Errorf("%w: the token is not about a logout", ErrInvalid)
	}
	// A nonce would make an ID token pass for a logout token.
	if _, has := d["nonce"]; has {
		return Logout{}, fmt.Errorf("%w: a logout token has no nonce", ErrInvalid)
	}
	l := Logout{Issuer: idt.Issuer, Subject: idt.Subject, Session: d.text("sid"), ID: d.text("jti"), Expires: p.now().Add(maxAge + leeway)}
	switch {
	case !idt.Expiry.IsZero() && p.now().Add(-leeway).After(idt.Expiry):
		return Logout{}, fmt.Errorf("%w: the token has ended", ErrInvalid)
	case l.Subject == "" && l.Session == "":
		return Logout{}, fmt.Errorf("%w: the token names neither a person nor a session", ErrInvalid)
	case l.ID == "":
		return Logout{}, fmt.Errorf("%w: the token has no jti", ErrInvalid)
	case p.now().Sub(idt.IssuedAt) > maxAge:
		return Logout{}, fmt.Errorf("%w: the token is old", ErrInvalid)
	}
	return l, nil
}
