// Package dns asks the DNS, for everything that needs it: sender
// authentication and DNSBLs while a mail comes in, next hops when it goes out.
//
// All questions go to a recursive resolver (dns.server, or the system's) and
// through one cache. A question never takes longer than its caller's context,
// nor than a few seconds; trouble is a temporary *net.DNSError and never looks
// like "there is no such name". Names are always absolute: no search list.
package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	miekg "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// What a *net.DNSError of this package wraps where IsNotFound is set.
var (
	ErrNoName = errors.New("dns: the name does not exist") // NXDOMAIN
	ErrNoData = errors.New("dns: the name has no such record")
)

// Config is where and how to ask.
type Config struct {
	// Servers are recursive resolvers, host:port, in order of preference.
	// Default: those of /etc/resolv.conf.
	Servers []string

	// TrustAD believes a resolver that is not on this machine when it says that
	// an answer was validated by DNSSEC. The way to it must be safe then.
	TrustAD bool

	// NoCache asks anew each time.
	NoCache bool

	// Try is how long one server may take to answer. Default: 1s.
	Try time.Duration
}

// Limits of one question.
const (
	defaultTry  = time.Second
	lookupLimit = 5 * time.Second // also when the caller waits longer
	maxTries    = 3
	maxChain    = 8   // CNAMEs that are followed
	maxFlying   = 500 // questions on the wire at a time
	maxWaiting  = 4000
)

// Resolver asks and remembers. It is safe for concurrent use.
type Resolver struct {
	cfg     Config
	servers []*server
	cache   *cache
	flights flights
	wire    chan struct{} // one token for each question on the wire
	metrics *metrics
	now     func() time.Time
}

// New returns a Resolver. It asks nothing yet. reg may be nil.
func New(cfg Config, reg prometheus.Registerer) (*Resolver, error) {
	if cfg.Try <= 0 {
		cfg.Try = defaultTry
	}
	if len(cfg.Servers) == 0 {
		cfg.Servers = systemServers("/etc/resolv.conf")
	}
	r := &Resolver{cfg: cfg, cache: newCache(maxEntries, maxBytes), wire: make(chan struct{}, maxFlying), now: time.Now}
	for _, addr := range cfg.Servers {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, fmt.Errorf("resolver %q: %w", addr, err)
		}
		ip, err := netip.ParseAddr(host)
		loopback := err == nil && ip.IsLoopback() || host == "localhost"
		r.servers = append(r.servers, &server{addr: addr, trusted: cfg.TrustAD || loopback})
	}
	r.metrics = newMetrics(reg, r.cache)
	return r, nil
}

// systemServers is what the machine is set up to ask; without anything, as
// everywhere else, a resolver on the machine itself (resolv.conf(5)).
func systemServers(path string) []string {
	conf, err := miekg.ClientConfigFromFile(path)
	if err != nil || len(conf.Servers) == 0 {
		return []string{"127.0.0.1:53"}
	}
	var out []string
	for _, s := range conf.Servers[:min(len(conf.Servers), 3)] {
		out = append(out, net.JoinHostPort(s, conf.Port))
	}
	return out
}

// LookupTXT returns the TXT records of a name, each put together from its parts.
func (r *Resolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	a, err := r.lookup(ctx, name, miekg.TypeTXT)
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, len(a.rrs))
	for _, rr := range a.rrs {
		if t, ok := rr.(*miekg.TXT); ok {
			out = append(out, unescape(strings.Join(t.Txt, "")))
		}
	}
	return out, nil
}

// LookupMX returns the mail servers of a name, the preferred ones first. A
// null MX (RFC 7505) is the host ".".
func (r *Resolver) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	a, err := r.lookup(ctx, name, miekg.TypeMX)
	if err != nil {
		return nil, err
	}
	out := make([]*net.MX, 0, len(a.rrs))
	for _, rr := range a.rrs {
		if m, ok := rr.(*miekg.MX); ok {
			out = append(out, &net.MX{Host: m.Mx, Pref: m.Preference})
		}
	}
	sortMX(out)
	return out, nil
}

// LookupIPAddr returns the addresses of a host, of both families. Where only
// one family could be asked, its addresses are the answer.
func (r *Resolver) LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error) {
	addrs, err := r.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	out := make([]net.IPAddr, 0, len(addrs))
	for _, a := range addrs {
		out = append(out, net.IPAddr{IP: net.IP(a.AsSlice()), Zone: a.Zone()})
	}
	return out, nil
}

// LookupNetIP is LookupIPAddr for one family (ip4, ip6) or both (ip).
func (r *Resolver) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	type result struct {
		addrs []netip.Addr
		err   error
	}
	ask := func(qtype uint16) result {
		a, err := r.lookup(ctx, host, qtype)
		if err != nil {
			return result{err: err}
		}
		return result{addrs: addresses(a.rrs)}
	}
	switch network {
	case "ip4":
		v4 := ask(miekg.TypeA)
		return v4.addrs, v4.err
	case "ip6":
		v6 := ask(miekg.TypeAAAA)
		return v6.addrs, v6.err
	}
	six := make(chan result, 1)
	go func() { six <- ask(miekg.TypeAAAA) }()
	v4 := ask(miekg.TypeA)
	v6 := <-six
	if all := append(v4.addrs, v6.addrs...); len(all) > 0 {
		return all, nil
	}
	// "No such name" only where both families say so.
	if isNotFound(v4.err) {
		return nil, v6.err
	}
	return nil, v4.err
}

func addresses(rrs []miekg.RR) []netip.Addr {
	var out []netip.Addr
	for _, rr := range rrs {
		var ip net.IP
		switch v := rr.(type) {
		case *miekg.A:
			ip = v.A
		case *miekg.AAAA:
			ip = v.AAAA
		}
		if a, ok := netip.AddrFromSlice(ip); ok {
			if rr.Header().Rrtype == miekg.TypeA {
				a = a.Unmap()
			}
			out = append(out, a)
		}
	}
	return out
}

// LookupAddr returns the names that an address has in the reverse tree.
func (r *Resolver) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	name, err := miekg.ReverseAddr(addr)
	if err != nil {
		return nil, &net.DNSError{Err: "no IP address", Name: addr, UnwrapErr: err}
	}
	a, err := r.lookup(ctx, name, miekg.TypePTR)
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, len(a.rrs))
	for _, rr := range a.rrs {
		if p, ok := rr.(*miekg.PTR); ok {
			out = append(out, p.Ptr)
		}
	}
	return out, nil
}

// Secure returns the records of a name, and whether all of the answer was
// validated by DNSSEC; that also holds for the answer that there are none,
// which is an error with IsNotFound. CNAMEs are followed: the records' owner is
// the name at the end. A name that a resolver found bogus is a temporary error.
func (r *Resolver) Secure(ctx context.Context, name string, qtype uint16) (rrs []miekg.RR, secure bool, err error) {
	a, err := r.lookup(ctx, name, qtype)
	if a == nil {
		return nil, false, err
	}
	out := make([]miekg.RR, 0, len(a.rrs))
	for _, rr := range a.rrs {
		out = append(out, miekg.Copy(rr)) // the cache's own stay as they are
	}
	return out, a.secure, err
}

func isNotFound(err error) bool {
	var d *net.DNSError
	return errors.As(err, &d) && d.IsNotFound
}
