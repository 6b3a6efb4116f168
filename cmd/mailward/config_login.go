package main

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"mailward/identity"
	"mailward/identity/sso"
)

// Login is what we want of people who sign in.
type Login struct {
	SecondFactor string        `yaml:"second_factor"`
	Grace        time.Duration `yaml:"grace"`
	SessionIdle  time.Duration `yaml:"session_idle"`
	SessionLife  time.Duration `yaml:"session_life"`
}

// OIDC is one provider of single sign-on.
type OIDC struct {
	Title        string      `yaml:"title"`
	Issuer       string      `yaml:"issuer"`
	ClientID     string      `yaml:"client_id"`
	ClientSecret Secret      `yaml:"client_secret"`
	Scopes       []string    `yaml:"scopes"`
	Algorithms   []string    `yaml:"algorithms"`
	GroupsClaim  string      `yaml:"groups_claim"`
	TrustEmail   bool        `yaml:"trust_email"`
	RequireMFA   bool        `yaml:"require_mfa"`
	MFAValues    []string    `yaml:"mfa_values"`
	Roles        []GroupRole `yaml:"roles"`
}

// GroupRole gives a role to the people of a group.
type GroupRole struct {
	Group     string        `yaml:"group"`
	Role      identity.Role `yaml:"role"`
	Workspace string        `yaml:"workspace"`
}

func defaultLogin() Login {
	return Login{SecondFactor: "optional", Grace: 7 * 24 * time.Hour, SessionIdle: 8 * time.Hour, SessionLife: 24 * time.Hour}
}

// providerName goes into addresses, into the record and into placeholder addresses.
var providerName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// algorithms are those of tokens that a provider alone can make: none is no
// signature, and HS* would let everybody with the client's secret sign.
var algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

func (c *Config) validateLogin(p *problems) {
	l := c.Login
	p.check(l.SecondFactor == "optional" || l.SecondFactor == "required", "login.second_factor", "must be optional or required, is %q", l.SecondFactor)
	p.check(l.Grace >= 0 && l.Grace <= 90*24*time.Hour, "login.grace", "must be 0 to 2160h, is %s", l.Grace)
	p.check(l.SessionIdle >= 5*time.Minute && l.SessionIdle <= l.SessionLife, "login.session_idle", "must be at least 5m and no longer than login.session_life, is %s", l.SessionIdle)
	p.check(l.SessionLife <= 30*24*time.Hour, "login.session_life", "must be at most 720h, is %s", l.SessionLife)
	for _, name := range slices.Sorted(maps.Keys(c.OIDC)) {
		key := "oidc." + name
		p.check(providerName.MatchString(name) && name != "local", key, "must be named with lower case letters, digits and hyphens, and not local")
		if c.OIDC[name] == nil {
			p.add(key, "is empty")
			continue
		}
		c.OIDC[name].validate(p, key)
	}
	p.check(len(c.OIDC) == 0 || c.HTTP.PublicURL != "", "http.public_url", "must be set for single sign-on: the provider sends people back there")
}

func (o *OIDC) validate(p *problems, key string) {
	u, err := url.Parse(o.Issuer)
	local := err == nil && (u.Hostname() == "localhost" || u.Hostname() == "127.0.0.1")
	p.check(err == nil && u.Host != "" && u.RawQuery == "" && u.Fragment == "" && (u.Scheme == "https" || u.Scheme == "http" && local), key+".issuer", "must be like https://idp.example.org/realms/main, is %q", o.Issuer)
	for _, shared := range []string{"/common/", "/organizations/", "/consumers/", "{"} {
		p.check(!strings.Contains(o.Issuer, shared), key+".issuer", "must name one tenant by its id: with %s anybody's tenant could sign people in", strings.Trim(shared, "/"))
	}
	p.check(o.ClientID != "", key+".client_id", "must be set")
	for _, a := range o.Algorithms {
		p.check(slices.Contains(algorithms, a), key+".algorithms", "must hold some of %s, has %q", strings.Join(algorithms, ", "), a)
	}
	p.check(len(o.Roles) > 0, key+".roles", "must give at least one group a role, else nobody gets in")
	for _, r := range o.Roles {
		p.check(r.Group != "", key+".roles", "has an entry without a group")
		p.check(identity.ValidRole(r.Role), key+".roles", "has %q, which is no role", r.Role)
	}
}

// resolveOIDC looks up the secrets of providers.
func (c *Config) resolveOIDC(getenv func(string) (string, bool)) (errs []error) {
	for _, name := range slices.Sorted(maps.Keys(c.OIDC)) {
		if o := c.OIDC[name]; o != nil {
			if err := o.ClientSecret.resolve(getenv); err != nil {
				errs = append(errs, fmt.Errorf("oidc.%s.client_secret: %w", name, err))
			}
		}
	}
	return errs
}

// providers are those of the configuration, by name.
func (c *Config) providers() (list []identity.SSO) {
	client := &http.Client{Timeout: 10 * time.Second}
	for _, name := range slices.Sorted(maps.Keys(c.OIDC)) {
		o := c.OIDC[name]
		scopes := o.Scopes
		if scopes == nil {
			scopes = []string{"profile", "email"}
		}
		one := identity.SSO{Provider: sso.New(sso.Config{
			Name: name, Title: o.Title, Issuer: o.Issuer, ClientID: o.ClientID, ClientSecret: o.ClientSecret.Value(), Scopes: scopes,
			Algorithms: o.Algorithms, GroupsClaim: o.GroupsClaim, TrustEmail: o.TrustEmail, RequireMFA: o.RequireMFA, MFAValues: o.MFAValues,
		}, webAddress(*c)+"/login/sso/"+name+"/callback", client, nil)}
		for _, r := range o.Roles {
			one.Roles = append(one.Roles, identity.RoleOfGroup{Group: r.Group, Role: r.Role, Workspace: r.Workspace})
		}
		list = append(list, one)
	}
	return list
}
