package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"mailward/gateway/hop"
	"mailward/internal/dns"
	"mailward/policy"
)

// Route is a way to hosts that belong together.
type Route struct {
	Hosts                 []RouteHost   `yaml:"hosts"`
	TLS                   string        `yaml:"tls"`
	CAFile                string        `yaml:"ca_file"`
	Fingerprints          []string      `yaml:"fingerprints"`
	ServerName            string        `yaml:"server_name"`
	Auth                  RouteAuth     `yaml:"auth"`
	Bind                  string        `yaml:"bind"`
	XForward              bool          `yaml:"xforward"`
	MaxConnections        int           `yaml:"max_connections"`
	MaxMailsPerConnection int           `yaml:"max_mails_per_connection"`
	MaxMailsPerMinute     int           `yaml:"max_mails_per_minute"`
	Idle                  time.Duration `yaml:"idle"`
	Timeouts              RouteTimeouts `yaml:"timeouts"`
}

// RouteHost is one host of a route.
type RouteHost struct {
	Address  string `yaml:"address"`
	Priority int    `yaml:"priority"`
}

// RouteAuth is how we log in.
type RouteAuth struct {
	User       string `yaml:"user"`
	Password   Secret `yaml:"password"`
	Mechanism  string `yaml:"mechanism"`
	AllowClear bool   `yaml:"allow_clear"`
}

// RouteTimeouts are how long a host may take.
type RouteTimeouts struct {
	Connect time.Duration `yaml:"connect"`
	Reply   time.Duration `yaml:"reply"`
	Final   time.Duration `yaml:"final"`
}

// MX is how mail goes to the servers of the world.
type MX struct {
	TLS                   string `yaml:"tls"`
	Bind                  string `yaml:"bind"`
	MaxConnections        int    `yaml:"max_connections"`
	AllowPrivateAddresses bool   `yaml:"allow_private_addresses"`
}

func defaultMX() MX { return MX{TLS: "may", MaxConnections: 20} }

var routeName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)

func (r *Relay) validateRoutes(p *problems) {
	for _, name := range slices.Sorted(maps.Keys(r.Routes)) {
		key := "relay.routes." + name
		p.check(routeName.MatchString(name) && name != "mx", key, "must have a name of a-z, 0-9, _ and -, not mx")
		if route := r.Routes[name]; route != nil {
			route.validate(p, key)
		} else {
			p.add(key+".hosts", "must name at least one host")
		}
	}
	p.check(slices.Contains([]string{"may", "none", "require"}, r.MX.TLS), "relay.mx.tls", "must be may, none or require, is %q", r.MX.TLS)
	checkBind(p, "relay.mx.bind", r.MX.Bind)
	p.check(r.MX.MaxConnections >= 1 && r.MX.MaxConnections <= 1000, "relay.mx.max_connections", "must be 1 to 1000, is %d", r.MX.MaxConnections)
}

func checkBind(p *problems, key, bind string) {
	_, err := netip.ParseAddr(bind)
	p.check(bind == "" || err == nil, key, "must be an IP address of this machine, is %q", bind)
}

func (r *Route) validate(p *problems, key string) {
	p.check(len(r.Hosts) > 0 && len(r.Hosts) <= 32, key+".hosts", "must name 1 to 32 hosts")
	seen := map[string]bool{}
	for _, h := range r.Hosts {
		p.check(policy.CheckNextHop(h.Address) == nil && strings.Contains(h.Address, ":") && !strings.Contains(h.Address, ","), key+".hosts", "must have addresses host:port, has %q", h.Address)
		p.check(!seen[h.Address], key+".hosts", "has %q twice", h.Address)
		seen[h.Address] = true
	}
	p.check(slices.Contains([]string{"", "none", "may", "require", "verify"}, r.TLS), key+".tls", "must be none, may, require or verify, is %q", r.TLS)
	p.check(r.TLS == "verify" || r.CAFile == "" && len(r.Fingerprints) == 0 && r.ServerName == "", key+".tls", "must be verify for ca_file, fingerprints or server_name to mean anything")
	if r.CAFile != "" {
		_, err := readRoots(r.CAFile)
		p.check(err == nil, key+".ca_file", "cannot be used: %v", err)
	}
	for _, f := range r.Fingerprints {
		_, err := parseFingerprint(f)
		p.check(err == nil, key+".fingerprints", "must be SHA-256 in 64 hex digits, has %q", f)
	}
	p.check(r.ServerName == "" || validHostname(r.ServerName), key+".server_name", "must be a host name, is %q", r.ServerName)
	r.Auth.validate(p, key+".auth", r.TLS)
	checkBind(p, key+".bind", r.Bind)
	for _, n := range []struct {
		key  string
		n    int
		most int
	}{{"max_connections", r.MaxConnections, 1000}, {"max_mails_per_connection", r.MaxMailsPerConnection, 100_000}, {"max_mails_per_minute", r.MaxMailsPerMinute, 1_000_000}} {
		p.check(n.n >= 0 && n.n <= n.most, key+"."+n.key, "must be 0 to %d, is %d", n.most, n.n)
	}
	for _, d := range []struct {
		key  string
		d    time.Duration
		most time.Duration
	}{{"idle", r.Idle, 5 * time.Minute}, {"timeouts.connect", r.Timeouts.Connect, time.Minute}, {"timeouts.reply", r.Timeouts.Reply, 5 * time.Minute}, {"timeouts.final", r.Timeouts.Final, time.Hour}} {
		p.check(d.d == 0 || d.d >= 100*time.Millisecond && d.d <= d.most, key+"."+d.key, "must be 0 (the default), or 100ms to %s, is %s", d.most, d.d)
	}
}

func (a *RouteAuth) validate(p *problems, key, tls string) {
	if *a == (RouteAuth{}) {
		return
	}
	p.check(a.User != "" && a.Password.reference != "", key, "needs user and password")
	p.check(slices.Contains([]string{"", "SCRAM-SHA-256", "PLAIN", "LOGIN"}, a.Mechanism), key+".mechanism", "must be SCRAM-SHA-256, PLAIN or LOGIN, is %q", a.Mechanism)
	switch tls {
	case "require", "verify":
		p.check(!a.AllowClear, key+".allow_clear", "means nothing with tls: %s", tls)
	case "none":
		p.check(a.AllowClear, key, "would send the password in clear: set tls to require or verify, or allow_clear to true")
	default:
		p.add(key, "needs tls: require or verify (or none, with allow_clear: true)")
	}
}

func readRoots(file string) (*x509.CertPool, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s has no certificate in PEM", file)
	}
	return pool, nil
}

// parseFingerprint takes what openssl prints, too: pairs with colons between.
func parseFingerprint(s string) (sum [sha256.Size]byte, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	if err != nil || len(b) != len(sum) {
		return sum, fmt.Errorf("%q is no SHA-256", s)
	}
	return [sha256.Size]byte(b), nil
}

// resolveSecrets looks up the passwords of routes.
func (r *Relay) resolveSecrets(getenv func(string) (string, bool)) (errs []error) {
	for _, name := range slices.Sorted(maps.Keys(r.Routes)) {
		if route := r.Routes[name]; route != nil {
			if err := route.Auth.Password.resolve(getenv); err != nil {
				errs = append(errs, fmt.Errorf("relay.routes.%s.auth.password: %w", name, err))
			}
		}
	}
	return errs
}

// static is where mail goes by the file.
func (r *Relay) static() policy.StaticRoutes {
	return policy.StaticRoutes{Default: r.Default, Domains: r.Domains, Names: slices.Sorted(maps.Keys(r.Routes)), Outbound: r.Outbound}
}

// hopConfig is how mail goes out. The configuration is valid, but a file may
// have gone since.
func (c *Config) hopConfig(resolver *dns.Resolver) (hop.Config, error) {
	out := hop.Config{Hostname: c.Hostname, Routes: map[string]hop.Route{}, AllowPrivate: c.Relay.MX.AllowPrivateAddresses,
		Direct: hop.Route{TLS: hop.TLSMode(c.Relay.MX.TLS), Bind: bindAddress(c.Relay.MX.Bind), MaxConnections: c.Relay.MX.MaxConnections}}
	if resolver != nil {
		out.DNS = resolver
	}
	for name, r := range c.Relay.Routes {
		route, err := r.route()
		if err != nil {
			return out, fmt.Errorf("relay.routes.%s: %w", name, err)
		}
		out.Routes[name] = route
	}
	return out, nil
}

func bindAddress(s string) netip.Addr {
	a, _ := netip.ParseAddr(s) // "" is none
	return a
}

func (r *Route) route() (hop.Route, error) {
	out := hop.Route{TLS: hop.TLSMode(r.TLS), ServerName: r.ServerName, Bind: bindAddress(r.Bind), XForward: r.XForward, MaxConnections: r.MaxConnections,
		MaxMailsPerConnection: r.MaxMailsPerConnection, MaxMailsPerMinute: r.MaxMailsPerMinute, Idle: r.Idle,
		Timeouts: hop.Timeouts{Connect: r.Timeouts.Connect, Reply: r.Timeouts.Reply, Final: r.Timeouts.Final}}
	for _, h := range r.Hosts {
		out.Hosts = append(out.Hosts, hop.Host{Address: h.Address, Priority: h.Priority})
	}
	for _, f := range r.Fingerprints {
		sum, err := parseFingerprint(f)
		if err != nil {
			return out, err
		}
		out.Fingerprints = append(out.Fingerprints, sum)
	}
	if r.CAFile != "" {
		var err error
		if out.Roots, err = readRoots(r.CAFile); err != nil {
			return out, fmt.Errorf("ca_file: %w", err)
		}
	}
	if r.Auth.User != "" {
		out.Auth = &hop.Auth{User: r.Auth.User, Password: r.Auth.Password.Value(), Mechanism: r.Auth.Mechanism, Clear: r.Auth.AllowClear}
	}
	return out, nil
}
