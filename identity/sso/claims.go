package sso

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// Claims are what a provider says of a person.
type Claims struct {
	Provider, Issuer string
	// Subject is the person at the issuer: sub, or at Entra ID oid, since its sub
	// differs for each application.
	Subject string
	Session string // sid: their session there
	Email   string // "" where the provider does not vouch for it
	Name    string
	Groups  []string
	// GroupsKnown is false where the provider left them out because they are too
	// many (Entra ID's overage), or could not be asked for them. Then their roles stay
	// as they are. A claim that is not there is known: many providers leave it out for
	// people in no group.
	GroupsKnown bool
	MFA         bool
	AuthTime    time.Time
	IDToken     string

	sub       string // as it stands in the token
	hasEmail  bool
	hasGroups bool
	overage   bool
}

func (c Claims) complete() bool { return c.hasEmail && c.hasGroups }

// document is the claims of a token, or of an answer of userinfo.
type document map[string]json.RawMessage

func (d document) text(name string) string {
	var s string
	if json.Unmarshal(d[name], &s) != nil {
		return ""
	}
	return s
}

// truth reads true, and "true" as some providers write it.
func (d document) truth(name string) bool {
	var b bool
	return json.Unmarshal(d[name], &b) == nil && b || d.text(name) == "true"
}

func (d document) list(path string) (list []string, ok bool) {
	raw, ok := d[path]
	if !ok {
		head, rest, deeper := strings.Cut(path, ".")
		var inner document
		if !deeper || json.Unmarshal(d[head], &inner) != nil {
			return nil, false
		}
		return inner.list(rest)
	}
	if json.Unmarshal(raw, &list) == nil {
		return list, true
	}
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}, true
	}
	return nil, false
}

// overage says whether the groups were left out because there are too many.
func (d document) overage() bool {
	var names document
	if json.Unmarshal(d["_claim_names"], &names) == nil {
		if _, ok := names["groups"]; ok {
			return true
		}
	}
	return d.truth("hasgroups")
}

func (p *Provider) claims(idt *oidc.IDToken, raw string) (Claims, error) {
	var d document
	if err := idt.Claims(&d); err != nil {
		return Claims{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	c := Claims{Provider: p.cfg.Name, Issuer: idt.Issuer, Subject: idt.Subject, sub: idt.Subject, Session: d.text("sid"), IDToken: raw}
	if d.text("tid") != "" && d.text("oid") != "" {
		c.Subject = d.text("tid") + "/" + d.text("oid")
	}
	if c.Subject == "" {
		return Claims{}, fmt.Errorf("%w: the token names no subject", ErrInvalid)
	}
	var at int64
	if json.Unmarshal(d["auth_time"], &at) == nil {
		c.AuthTime = time.Unix(at, 0)
	}
	amr, _ := d.list("amr")
	c.MFA = p.cfg.shows(append(amr, d.text("acr")))
	p.describe(&c, d)
	return c, nil
}

// describe reads what both a token and userinfo can hold.
func (p *Provider) describe(c *Claims, d document) {
	if c.Name == "" {
		c.Name = d.text("name")
	}
	if e := d.text("email"); e != "" && !c.hasEmail {
		c.hasEmail = true
		if p.cfg.TrustEmail || d.truth("email_verified") || d.truth("xms_edov") {
			c.Email = e
		}
	}
	// An overage is one of groups: app roles (groups_claim: roles) are always whole.
	over := p.cfg.GroupsClaim == "groups" && d.overage()
	c.overage = c.overage || over
	if list, ok := d.list(p.cfg.GroupsClaim); ok && !c.hasGroups && !over {
		c.Groups, c.hasGroups = list, true
	}
}

// askUserinfo looks for what the token did not say, and says whether all was heard
// that the provider has to say. Without an answer the person comes in with what there is.
func (p *Provider) askUserinfo(ctx context.Context, found *oidc.Provider, tok *oauth2.Token, c *Claims) bool {
	if found.UserInfoEndpoint() == "" {
		return true
	}
	info, err := found.UserInfo(ctx, oauth2.StaticTokenSource(tok))
	if err != nil {
		return false
	}
	var d document
	// The answer must be about the same person (OpenID Connect Core §5.3.2).
	if info.Claims(&d) != nil || info.Subject != c.sub {
		return false
	}
	p.describe(c, d)
	return true
}

// Missing says what the configuration asks for and the token does not have.
func (p *Provider) Missing(c Claims) string {
	if p.cfg.RequireMFA && !c.MFA {
		return "second_factor"
	}
	return ""
}
