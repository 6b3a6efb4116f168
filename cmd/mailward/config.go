package main

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"mailward/policy"
	"mailward/quarantine"
)

// Config is everything that an operator can set. reference.yaml explains each
// key; a test holds the two together.
type Config struct {
	Hostname    string           `yaml:"hostname"`
	DataDir     string           `yaml:"data_dir"`
	SMTP        SMTP             `yaml:"smtp"`
	Relay       Relay            `yaml:"relay"`
	Queue       Queue            `yaml:"queue"`
	Quarantine  Quarantine       `yaml:"quarantine"`
	DNS         DNS              `yaml:"dns"`
	Limits      Limits           `yaml:"limits"`
	Greylisting Greylisting      `yaml:"greylisting"`
	HTTP        HTTP             `yaml:"http"`
	Login       Login            `yaml:"login"`
	OIDC        map[string]*OIDC `yaml:"oidc"`
	Database    SecretURL        `yaml:"database"`
	Redis       SecretURL        `yaml:"redis"`
	ClamAV      ClamAV           `yaml:"clamav"`
	Scanner     ScannerConf      `yaml:"scanner"`
	Phishing    Phishing         `yaml:"phishing"`
	Rspamd      Rspamd           `yaml:"rspamd"`
	Sandbox     Sandbox          `yaml:"sandbox"`
	Intel       Intel            `yaml:"intel"`
	Mailcow     MailcowConf      `yaml:"mailcow"`
	OpenBao     OpenBao          `yaml:"openbao"`
	Signing     Signing          `yaml:"signing"`
	Audit       Audit            `yaml:"audit"`
	Alerts      Alerts           `yaml:"alerts"`
	Health      HealthConf       `yaml:"health"`
	Evidence    Evidence         `yaml:"evidence"`
	Debug       Debug            `yaml:"debug"`
	Bootstrap   Bootstrap        `yaml:"bootstrap"`
}

// SMTP is how mail comes in.
type SMTP struct {
	Listen            []string `yaml:"listen"`
	LMTPListen        []string `yaml:"lmtp_listen"`
	ProxyProtocolFrom []string `yaml:"proxy_protocol_from"`
	XForwardFrom      []string `yaml:"xforward_from"`
	MaxMessageSize    Size     `yaml:"max_message_size"`
	MaxRecipients     int      `yaml:"max_recipients"`
	MaxConnections    int      `yaml:"max_connections"`
	BareNewline       string   `yaml:"bare_newline"`
	TLS               TLS      `yaml:"tls"`
}

// TLS is a certificate for STARTTLS.
type TLS struct {
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
}

// Relay is where mail goes.
type Relay struct {
	Default         string            `yaml:"default"`
	Domains         map[string]string `yaml:"domains"`
	Routes          map[string]*Route `yaml:"routes"`
	MX              MX                `yaml:"mx"`
	OutboundFrom    []string          `yaml:"outbound_from"`
	RecipientCheck  string            `yaml:"recipient_check"`
	Recipients      map[string]string `yaml:"recipients"`
	Outbound        string            `yaml:"outbound"`
	OutboundSenders string            `yaml:"outbound_senders"`
}

// HTTP is the web UI and the API.
type HTTP struct {
	Listen         string   `yaml:"listen"`
	PublicURL      string   `yaml:"public_url"`
	TrustedProxies []string `yaml:"trusted_proxies"`
}

// SecretURL is the address of a server, which may hold a password.
type SecretURL struct {
	URL Secret `yaml:"url"`
}

// ClamAV is the clamd that scans.
type ClamAV struct {
	Address  string `yaml:"address"`
	Scan     string `yaml:"scan"`
	Database string `yaml:"database"`
}

// ScannerConf is the sidecar.
type ScannerConf struct {
	Socket    string   `yaml:"socket"`
	YaraRules []string `yaml:"yara_rules"`
	// ManagedRules is the folder through which rule sets of the web UI get to the
	// scanner.
	ManagedRules string   `yaml:"managed_rules"`
	Engines      []string `yaml:"engines"`
	Slots        int      `yaml:"slots"`
}

// uses says whether an engine is asked about mails.
func (s *ScannerConf) uses(engine string) bool { return slices.Contains(s.Engines, engine) }

// Phishing is what the judge of phishing has to know of us.
type Phishing struct {
	People []string `yaml:"people"`
}

// Rspamd is another engine, where it is set.
type Rspamd struct {
	URL      string `yaml:"url"`
	Password Secret `yaml:"password"`
}

// Bootstrap is read at the first start only.
type Bootstrap struct {
	AdminEmail    string `yaml:"admin_email"`
	AdminPassword Secret `yaml:"admin_password"`
	FourEyes      string `yaml:"four_eyes"`
}

// DefaultConfig is what holds where nothing else is said: everything on the
// loopback, with servers of our own.
func DefaultConfig() Config {
	limits, greylisting := defaultLimits()
	return Config{
		Hostname:   "mailward.localhost",
		DataDir:    "/var/lib/mailward",
		SMTP:       SMTP{Listen: []string{"127.0.0.1:2525"}, MaxMessageSize: 50 << 20, MaxRecipients: 1000, MaxConnections: 1000, BareNewline: "reject"},
		Queue:      defaultQueue(),
		Quarantine: Quarantine{TakeBack: quarantine.DefaultConfig().TakeBack},
		DNS:        DNS{Cache: true},
		Relay:      Relay{MX: defaultMX(), RecipientCheck: "next_hop", OutboundSenders: "own"},
		Limits:     limits, Greylisting: greylisting,
		HTTP:    HTTP{Listen: "127.0.0.1:8080"},
		Login:   defaultLogin(),
		Sandbox: defaultSandbox(),
		Mailcow: MailcowConf{Recipients: true},
		Audit:   defaultAudit(), Evidence: defaultEvidence(),
		Scanner: ScannerConf{YaraRules: []string{"/etc/mailward/yara"}, Engines: []string{"yara", "clamav"}},
	}
}

// problems collects mistakes, so that all are told at once.
type problems struct{ list []error }

func (p *problems) add(key, format string, args ...any) {
	p.list = append(p.list, fmt.Errorf("%s %s", key, fmt.Sprintf(format, args...)))
}

func (p *problems) check(ok bool, key, format string, args ...any) {
	if !ok {
		p.add(key, format, args...)
	}
}

// Validate reports every setting that cannot work, not only the first.
func (c *Config) Validate() error {
	p := &problems{}
	p.check(validHostname(c.Hostname), "hostname", "must be a host name such as mx.example.org, is %q", c.Hostname)
	p.check(filepath.IsAbs(c.DataDir), "data_dir", "must be an absolute path, is %q", c.DataDir)
	c.SMTP.validate(p)
	c.Relay.validate(p)
	c.DNS.validate(p)
	p.check(validAddress(c.HTTP.Listen), "http.listen", "must be host:port, is %q", c.HTTP.Listen)
	for _, cidr := range c.HTTP.TrustedProxies {
		_, err := netip.ParsePrefix(cidr)
		p.check(err == nil, "http.trusted_proxies", "must hold CIDRs such as 127.0.0.1/32, has %q", cidr)
	}
	if u := c.HTTP.PublicURL; u != "" {
		parsed, err := url.Parse(u)
		p.check(err == nil && (parsed.Scheme == "http" || parsed.Scheme == "https") && parsed.Host != "" && strings.Trim(parsed.Path, "/") == "",
			"http.public_url", "must be like https://mailward.example.org, is %q", u)
	}
	c.validateLogin(p)
	c.validateLimits(p)
	c.validateServers(p)
	c.validateEvidence(p)
	c.Mailcow.validate(p)
	c.Sandbox.validate(p)
	c.Audit.validate(p, c.OpenBao.URL != "")
	c.Intel.validate(p)
	c.Alerts.validate(p)
	c.Health.validate(p)
	c.validateSigning(p)
	c.Queue.validate(p)
	c.Quarantine.validate(p, c.OpenBao.URL != "")
	c.Debug.validate(p)
	c.Bootstrap.validate(p)
	return errors.Join(p.list...)
}

func (s *SMTP) validate(p *problems) {
	s.validateListeners(p)
	p.check(len(s.Listen) > 0, "smtp.listen", "must name at least one address")
	for _, a := range s.Listen {
		p.check(validAddress(a), "smtp.listen", "must be host:port, is %q", a)
	}
	for _, cidr := range s.ProxyProtocolFrom {
		_, err := netip.ParsePrefix(cidr)
		p.check(err == nil, "smtp.proxy_protocol_from", "must hold CIDRs such as 10.0.0.5/32, has %q", cidr)
	}
	for _, cidr := range s.XForwardFrom {
		_, err := netip.ParsePrefix(cidr)
		p.check(err == nil, "smtp.xforward_from", "must hold CIDRs such as 10.0.0.5/32, has %q", cidr)
	}
	p.check(s.MaxMessageSize >= 64<<10 && s.MaxMessageSize <= 1<<30, "smtp.max_message_size", "must be between 64KiB and 1GiB, is %s", s.MaxMessageSize)
	p.check(s.BareNewline == "reject" || s.BareNewline == "normalise", "smtp.bare_newline", "must be reject or normalise, is %q", s.BareNewline)
	p.check((s.TLS.CertFile == "") == (s.TLS.KeyFile == ""), "smtp.tls", "needs both cert_file and key_file, or neither")
	for _, file := range []struct{ key, path string }{{"cert_file", s.TLS.CertFile}, {"key_file", s.TLS.KeyFile}} {
		if file.path != "" {
			f, err := os.Open(file.path)
			p.check(err == nil, "smtp.tls."+file.key, "cannot be read: %v", err)
			f.Close()
		}
	}
}

func (r *Relay) validate(p *problems) {
	r.validateRecipients(p)
	r.validateRoutes(p)
	r.validateOutbound(p)
	names := slices.Collect(maps.Keys(r.Routes))
	const want = "must be host:port, a list of those, or the name of one of relay.routes, is %q"
	p.check(policy.CheckNextHop(r.Default, names...) == nil, "relay.default", want, r.Default)
	for _, name := range slices.Sorted(maps.Keys(r.Domains)) {
		hop := r.Domains[name]
		clean, err := policy.NormaliseDomain(name)
		p.check(err == nil && clean != "*", "relay.domains", "has %q, which is no domain", name)
		switch {
		case hop != "":
			p.check(policy.CheckNextHop(hop, names...) == nil, "relay.domains."+name, want, hop)
		case r.Default == "":
			p.add("relay.domains."+name, "names no next hop, and relay.default is empty")
		}
	}
}

func (c *Config) validateServers(p *problems) {
	if u := c.Database.URL.Value(); u != "" {
		// The parser's own message may hold the password.
		_, err := pgx.ParseConfig(u)
		p.check(err == nil, "database.url", "is not a PostgreSQL connection string")
	}
	if u := c.Redis.URL.Value(); u != "" {
		_, err := redis.ParseURL(u)
		p.check(err == nil, "redis.url", "is not a Redis URL such as redis://host:6379 or unix:///path")
	}
	if a := c.ClamAV.Address; a != "" {
		path, unix := strings.CutPrefix(a, "unix:")
		p.check(unix && filepath.IsAbs(path) || !unix && validAddress(a), "clamav.address", "must be unix:/path or host:port, is %q", a)
	}
	p.check(slices.Contains([]string{"", "whole", "split"}, c.ClamAV.Scan), "clamav.scan", "must be whole or split, is %q", c.ClamAV.Scan)
	p.check(c.ClamAV.Database == "" || filepath.IsAbs(c.ClamAV.Database), "clamav.database", "must be an absolute path, is %q", c.ClamAV.Database)
	p.check(len(c.Phishing.People) <= maxPeople, "phishing.people", "must not have more than %d names", maxPeople)
	for _, name := range c.Phishing.People {
		p.check(strings.Contains(strings.TrimSpace(name), " ") && len(name) <= 200, "phishing.people", "must hold full names such as Erika Mustermann, has %q", name)
	}
	if u := c.Rspamd.URL; u != "" {
		parsed, err := url.Parse(u)
		p.check(err == nil && (parsed.Scheme == "http" || parsed.Scheme == "https") && parsed.Host != "" && parsed.User == nil && strings.Trim(parsed.Path, "/") == "" && parsed.RawQuery == "",
			"rspamd.url", "must be like http://127.0.0.1:11333, is %q", u)
	}
	p.check(c.Scanner.Socket == "" || filepath.IsAbs(c.Scanner.Socket), "scanner.socket", "must be an absolute path, is %q", c.Scanner.Socket)
	p.check(c.Scanner.ManagedRules == "" || filepath.IsAbs(c.Scanner.ManagedRules), "scanner.managed_rules", "must be an absolute path, is %q", c.Scanner.ManagedRules)
	for _, e := range c.Scanner.Engines {
		p.check(e == "yara" || e == "clamav", "scanner.engines", "must hold yara and clamav, or be empty, has %q", e)
	}
	p.check(c.Scanner.Slots >= 0 && c.Scanner.Slots <= 256, "scanner.slots", "must be 0 (automatic) to 256, is %d", c.Scanner.Slots)
	for _, d := range c.Scanner.YaraRules {
		p.check(filepath.IsAbs(d), "scanner.yara_rules", "must hold absolute paths, has %q", d)
	}
}

// maxPeople bounds the names that every mail's sender is compared with.
const maxPeople = 1000

func (b *Bootstrap) validate(p *problems) {
	if b.AdminEmail != "" {
		a, err := mail.ParseAddress(b.AdminEmail)
		p.check(err == nil && a.Address == b.AdminEmail, "bootstrap.admin_email", "must be an e-mail address, is %q", b.AdminEmail)
	}
	p.check(slices.Contains([]string{"", "required", "single_operator"}, b.FourEyes), "bootstrap.four_eyes", "must be required or single_operator, is %q", b.FourEyes)
}

// embeddedSink says whether accepted mail stays on this machine, because no
// next hop is set anywhere in the file.
func (c *Config) embeddedSink() bool { return c.Relay.Default == "" && len(c.Relay.Domains) == 0 }

func validAddress(a string) bool {
	_, port, err := net.SplitHostPort(a)
	if err != nil {
		return false
	}
	n, err := net.LookupPort("tcp", port)
	return err == nil && n >= 0 && n < 65536
}

func validHostname(h string) bool {
	if h == "" || len(h) > 253 || strings.HasPrefix(h, ".") || strings.HasSuffix(h, ".") {
		return false
	}
	for _, label := range strings.Split(h, ".") {
		if label == "" || len(label) > 63 || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return false
		}
		for _, c := range label {
			if !(c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') {
				return false
			}
		}
	}
	return true
}
