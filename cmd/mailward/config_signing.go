package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"mailward/gateway"
	"mailward/health"
	"mailward/internal/bao"
	"mailward/mailauth"
)

// Signing is what our own mail is signed with, and what is sealed that we pass on.
type Signing struct {
	Domains map[string][]SigningKey `yaml:"domains"`
	ARC     SealingKey              `yaml:"arc"`
}

// SigningKey is one key of a domain.
type SigningKey struct {
	Selector  string    `yaml:"selector"`
	Key       string    `yaml:"key"` // file:/path or bao:NAME
	NotBefore time.Time `yaml:"not_before"`
	NotAfter  time.Time `yaml:"not_after"`
}

// SealingKey is the key of ARC seals; without a domain nothing is sealed.
type SealingKey struct {
	Domain   string `yaml:"domain"`
	Selector string `yaml:"selector"`
	Key      string `yaml:"key"`
}

// OpenBao keeps keys.
type OpenBao struct {
	URL       string `yaml:"url"`
	RoleID    Secret `yaml:"role_id"`
	SecretID  Secret `yaml:"secret_id"`
	Namespace string `yaml:"namespace"`
	CAFile    string `yaml:"ca_file"`
}

// used says whether anything is signed or sealed.
func (s *Signing) used() bool { return len(s.Domains) > 0 || s.ARC.Domain != "" }

// config is the settings as package mailauth knows them.
func (s *Signing) config(hostname string) mailauth.SignConfig {
	cfg := mailauth.SignConfig{Hostname: hostname}
	for _, d := range slices.Sorted(maps.Keys(s.Domains)) {
		keys := mailauth.DomainKeys{Domain: d}
		for _, k := range s.Domains[d] {
			keys.Keys = append(keys.Keys, mailauth.KeyConfig{Selector: k.Selector, Source: k.Key, NotBefore: k.NotBefore, NotAfter: k.NotAfter})
		}
		cfg.Domains = append(cfg.Domains, keys)
	}
	if s.ARC.Domain != "" {
		cfg.Seal = &mailauth.Key{Domain: s.ARC.Domain, Keys: []mailauth.KeyConfig{{Selector: s.ARC.Selector, Source: s.ARC.Key}}}
	}
	return cfg
}

// noTransit stands for an OpenBao that is set up, where only that counts.
type noTransit struct{ mailauth.Transit }

func (c *Config) validateSigning(p *problems) {
	if a := c.Signing.ARC; a.Domain == "" && a != (SealingKey{}) {
		p.add("signing.arc", "has a key and no domain")
	}
	cfg := c.Signing.config(c.Hostname)
	if c.OpenBao.URL != "" {
		cfg.Transit = noTransit{}
		if err := c.OpenBao.config().Validate(); err != nil {
			p.add("openbao", "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	} else if c.OpenBao.RoleID.Value() != "" || c.OpenBao.SecretID.Value() != "" {
		p.add("openbao.url", "is needed with a role_id or secret_id")
	}
	if err := cfg.Validate(); err != nil {
		for _, line := range strings.Split(err.Error(), "\n") {
			p.add("signing", "%s", strings.TrimPrefix(line, "dkim: "))
		}
	}
}

// config gives secrets as they were read at the start.
func (o *OpenBao) config() bao.Config {
	given := func(s Secret) bao.Secret {
		if s.Value() == "" {
			return nil
		}
		return func() (string, error) { return s.Value(), nil }
	}
	return bao.Config{Address: o.URL, Namespace: o.Namespace, CACert: o.CAFile, RoleID: given(o.RoleID), SecretID: given(o.SecretID)}
}

// secretsLimit bounds how long a start waits for OpenBao to tell its secrets.
const secretsLimit = 15 * time.Second

// resolve reads the secrets that the configuration keeps in OpenBao, each as
// bao:PATH#FIELD of its key-value store.
func (o *OpenBao) resolve(kept map[string]*Secret) (errs []error) {
	if len(kept) == 0 {
		return nil
	}
	client, err := bao.New(o.config(), slog.New(slog.DiscardHandler))
	if err != nil {
		return []error{fmt.Errorf("%s: is kept in OpenBao, and openbao.url, role_id and secret_id do not say where that is", strings.Join(slices.Sorted(maps.Keys(kept)), ", "))}
	}
	ctx, cancel := context.WithTimeout(context.Background(), secretsLimit)
	defer func() {
		cancel()
		client.Run(ctx) // gives the token back
	}()
	for _, key := range slices.Sorted(maps.Keys(kept)) {
		path, field, ok := strings.Cut(strings.TrimPrefix(kept[key].reference, "bao:"), "#")
		if !ok || field == "" {
			errs = append(errs, fmt.Errorf("%s: a secret in OpenBao is bao:PATH#FIELD", key))
			continue
		}
		data, _, err := client.KVGet(ctx, path)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
			continue
		}
		if kept[key].value, ok = data[field].(string); !ok || kept[key].value == "" {
			errs = append(errs, fmt.Errorf("%s: the secret %s has no text %s", key, path, field))
		}
	}
	return errs
}

// openBao makes the client of OpenBao, where it is set up.
func (p *program) openBao() (err error) {
	if p.conf.OpenBao.URL != "" && p.bao == nil {
		p.bao, err = bao.New(p.conf.OpenBao.config(), p.log)
	}
	return err
}

// buildSigning makes the client of OpenBao and our signer, where they are set up.
// The keys' state is asked once here, so that the first mail finds it known.
func (p *program) buildSigning(ctx context.Context) (err error) {
	if err := p.openBao(); err != nil {
		return err
	}
	if !p.conf.Signing.used() {
		return nil
	}
	if p.signer, err = mailauth.NewSigner(p.signConfig(&p.conf, p.log)); err != nil {
		return err
	}
	p.signer.Refresh(ctx)
	return nil
}

func (p *program) signConfig(c *Config, log *slog.Logger) mailauth.SignConfig {
	cfg := c.Signing.config(c.Hostname)
	cfg.DNS, cfg.Log = p.dns, log
	if p.bao != nil {
		cfg.Transit = p.bao
	}
	return cfg
}

// reloadSigning takes other keys into use, or keeps the old ones.
func (p *program) reloadSigning(c *Config) {
	if p.signer == nil {
		if c.Signing.used() {
			p.log.Error("signing was not set up at the start: restart to use it")
		}
		return
	}
	if err := p.signer.Reload(p.signConfig(c, p.log)); err != nil {
		p.log.Error("signing keys not reloaded, the old ones stay in force", "error", err)
	}
}

// gatewaySigner is nil where nothing is signed.
func (p *program) gatewaySigner() gateway.Signer {
	if p.signer == nil {
		return nil
	}
	return p.signer
}

// keyComponents are the checks of what is set up of OpenBao and of signing.
func (p *program) keyComponents() (list []health.Component) {
	if p.bao != nil {
		list = append(list, health.OpenBao(p.baoStatus))
	}
	if p.signer != nil {
		list = append(list, health.DKIM(func(ctx context.Context) (keys []health.Key) {
			for _, k := range p.signer.Status(ctx) {
				keys = append(keys, health.Key{Name: strings.TrimPrefix(k.Selector+" of "+k.Domain, " of "), Missing: k.Record == "", Active: k.Active, Published: k.Published, Reason: k.Reason, NotAfter: k.NotAfter})
			}
			return keys
		}, time.Now))
	}
	return list
}

func (p *program) baoStatus(ctx context.Context) (health.BaoStatus, error) {
	h, err := p.bao.Health(ctx)
	s := health.BaoStatus{Version: h.Version, Sealed: err == nil && !h.Ready(), Standby: h.Standby}
	if err != nil || s.Sealed {
		return s, err
	}
	s.TokenExpires, err = p.bao.Token(ctx)
	s.Denied = errors.Is(err, bao.ErrDenied)
	return s, err
}

type dkimCmd struct{}

// Run prints what belongs into the DNS for our keys, and whether it is there.
func (dkimCmd) Run(ctx context.Context, c *cli, e *env) error {
	conf, err := c.load(e)
	if err != nil {
		return err
	}
	if !conf.Signing.used() {
		return errors.New("no keys are configured: see signing in `mailward config`")
	}
	p := &program{conf: conf, log: quiet(e.err)}
	if p.dns, err = conf.DNS.resolver(nil); err != nil {
		return err
	}
	if err := p.buildSigning(ctx); err != nil {
		return err
	}
	missing := 0
	for _, k := range p.signer.Status(ctx) {
		if k.Record == "" {
			fmt.Fprintf(e.out, "; %s: no keys: %s\n", k.Domain, k.Reason)
			missing++
			continue
		}
		if k.Published != "yes" {
			missing++
		}
		fmt.Fprintf(e.out, "; %s key of %s, %s; signs now: %t; published: %s %s\n%s IN TXT%s\n", k.Use, k.Domain, k.Algorithm, k.Active, k.Published, k.Reason, k.Name, txtStrings(k.Record))
	}
	if missing > 0 {
		return exitCode{1, nil}
	}
	return nil
}

// txtStrings writes a value as strings of at most 255 bytes (RFC 1035 §3.3).
func txtStrings(v string) string {
	var b strings.Builder
	for part := range slices.Chunk([]byte(v), 255) {
		fmt.Fprintf(&b, " %q", part)
	}
	return b.String()
}
