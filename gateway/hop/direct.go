package hop

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	"golang.org/x/net/idna"
)

// Bounds of one delivery to a domain of the world.
const (
	hostsMost     = 5
	addressesMost = 10
)

// Resolver is what mx: routes ask: internal/dns. Names that do not exist are a
// *net.DNSError with IsNotFound, all other trouble is temporary.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
	// Secure also says whether DNSSEC vouches for the answer, or for its absence.
	Secure(ctx context.Context, name string, qtype uint16) (rrs []dns.RR, secure bool, err error)
}

func isNotFound(err error) bool {
	var d *net.DNSError
	return errors.As(err, &d) && d.IsNotFound
}

// exchange is one mail server of a domain.
type exchange struct {
	host     string
	pref     uint16
	implicit bool // the domain has no MX: its own name
}

// direct gives the addresses of a domain's mail servers (RFC 5321 §5.1). What
// they are is looked up as late as possible: the first one mostly takes the mail.
func (p *Sender) direct(ctx context.Context, s *settings, domain string) iter.Seq2[endpoint, error] {
	return func(yield func(endpoint, error) bool) {
		domain, list, secure, err := s.exchanges(ctx, domain)
		if err != nil {
			yield(endpoint{}, err)
			return
		}
		sts := p.policies.find(ctx, s, domain)
		left := addressesMost
		for _, x := range list[:min(len(list), hostsMost)] {
			at, err := s.locate(ctx, x.host, secure)
			if errors.Is(err, errNoAddress) && x.implicit {
				err = refused("5.1.2", "The domain has no mail server", 550)
			}
			var d demand
			if err == nil {
				d, err = s.demandOf(ctx, domain, at, sts)
			}
			if err != nil {
				if !yield(endpoint{}, err) {
					return
				}
				continue
			}
			for _, a := range at.addrs[:min(len(at.addrs), left)] {
				left--
				addr := net.JoinHostPort(a.String(), s.Port)
				key := fmt.Sprintf("mx %s %s %s", x.host, addr, d.kind(domain))
				if !yield(endpoint{key: key, addr: addr, route: &s.Direct, demand: d, times: s.Direct.Timeouts.steps(false)}, nil) {
					return
				}
			}
		}
	}
}

// kind keeps connections apart that were made under other demands.
func (d demand) kind(domain string) string {
	if d.dane != nil {
		return "dane " + domain // the domain's name may be what the certificate was checked for
	}
	return string(d.mode)
}

// refused is what a hop that we know not to exist would say.
func refused(enhanced, text string, code int) error {
	return fmt.Errorf("%w: %w", ErrNoRoute, &Reply{Code: code, Enhanced: enhanced, Text: text, Ours: true})
}

// exchanges are the mail servers of a domain, the best first. secure says that
// DNSSEC vouches for the list.
func (s *settings) exchanges(ctx context.Context, domain string) (name string, list []exchange, secure bool, err error) {
	if s.DNS == nil {
		return "", nil, false, fmt.Errorf("%w: delivery by MX is not set up", ErrNoRoute)
	}
	name, err = idna.Lookup.ToASCII(strings.ToLower(strings.TrimSuffix(domain, ".")))
	if err != nil || !strings.Contains(name, ".") || net.ParseIP(name) != nil {
		return "", nil, false, fmt.Errorf("%w: mx:%s", ErrNoRoute, Harmless(domain, 100))
	}
	rrs, secure, err := s.DNS.Secure(ctx, name, dns.TypeMX)
	if err != nil && !isNotFound(err) {
		return "", nil, false, fmt.Errorf("%w: MX of %s: %w", ErrConnect, name, err)
	}
	for _, rr := range rrs {
		if m, ok := rr.(*dns.MX); ok {
			list = append(list, exchange{host: strings.ToLower(strings.TrimSuffix(m.Mx, ".")), pref: m.Preference})
		}
	}
	if len(list) == 0 {
		return name, []exchange{{host: name, implicit: true}}, secure, nil // RFC 5321 §5.1
	}
	if len(list) == 1 && list[0].host == "" { // RFC 7505 §3
		return "", nil, false, refused("5.1.10", "The domain takes no mail", 556)
	}
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	slices.SortStableFunc(list, func(a, b exchange) int { return int(a.pref) - int(b.pref) })
	list, err = s.beforeUs(list)
	return name, list, secure, err
}

// beforeUs leaves out the servers that are not better than ourselves, so that no
// mail goes in circles (RFC 5321 §5.1).
func (s *settings) beforeUs(list []exchange) ([]exchange, error) {
	us := slices.IndexFunc(list, func(x exchange) bool { return strings.EqualFold(x.host, s.Hostname) })
	if us < 0 {
		return list, nil
	}
	best := slices.IndexFunc(list, func(x exchange) bool { return x.pref >= list[us].pref })
	if best == 0 {
		return nil, refused("5.4.6", "Mail for the domain would loop back to us", 554)
	}
	return list[:best], nil
}

var errNoAddress = fmt.Errorf("%w: a mail server without an address", ErrConnect)

// place is where a mail server is.
type place struct {
	host   string // as the MX has it
	end    string // where its CNAMEs lead
	addrs  []netip.Addr
	secure bool // DNSSEC vouches for all of it
}

// locate looks up the addresses of a host, and leaves out those where no mail
// server of the world can be: a domain's owner shall not have us connect to our
// own network.
func (s *settings) locate(ctx context.Context, host string, secure bool) (place, error) {
	at := place{host: host, end: host, secure: secure}
	if _, ok := dns.IsDomainName(host); !ok || host == "" || net.ParseIP(host) != nil {
		return at, fmt.Errorf("%w: the MX %s is no host name", ErrConnect, Harmless(host, 100))
	}
	absent, private := 0, false
	var trouble error
	for _, qtype := range []uint16{dns.TypeAAAA, dns.TypeA} {
		rrs, signed, err := s.DNS.Secure(ctx, host, qtype)
		at.secure = at.secure && signed
		switch {
		case isNotFound(err):
			absent++
		case err != nil:
			trouble = err
		}
		for _, rr := range rrs {
			a, end, ok := address(rr)
			switch {
			case !ok:
			case !s.AllowPrivate && !isPublic(a):
				private = true
			default:
				at.addrs, at.end = append(at.addrs, a), end
			}
		}
	}
	switch {
	case len(at.addrs) > 0 && (trouble == nil || !secure):
		// RFC 7672 §2.1.3: else breaking one answer would switch DANE off.
		return at, nil
	case private:
		return at, fmt.Errorf("%w: %s has only addresses of private networks", ErrConnect, host)
	case absent == 2:
		return at, fmt.Errorf("%w: %s", errNoAddress, host)
	}
	return at, fmt.Errorf("%w: addresses of %s: %w", ErrConnect, host, trouble)
}

func address(rr dns.RR) (a netip.Addr, owner string, ok bool) {
	var ip net.IP
	switch v := rr.(type) {
	case *dns.A:
		ip = v.A
	case *dns.AAAA:
		ip = v.AAAA
	default:
		return a, "", false
	}
	a, ok = netip.AddrFromSlice(ip)
	return a.Unmap(), strings.ToLower(strings.TrimSuffix(rr.Header().Name, ".")), ok
}

// special are networks that are not of the world, beside those that netip knows
// (RFC 6890).
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"),
}

func isPublic(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsGlobalUnicast() && !a.IsPrivate() && !slices.ContainsFunc(special, func(n netip.Prefix) bool { return n.Contains(a) })
}

// demandOf is what the domain has published about TLS with one of its servers:
// DANE (RFC 7672), or else MTA-STS (RFC 8461 §2: it never weakens DANE).
func (s *settings) demandOf(ctx context.Context, domain string, at place, sts *stsPolicy) (demand, error) {
	d := demand{mode: s.Direct.TLS, name: at.host, roots: s.Direct.Roots}
	if d.mode == "" {
		d.mode = TLSMay
	}
	if at.secure {
		found, err := s.tlsa(ctx, domain, at)
		if err != nil {
			return d, err
		}
		if found != nil {
			d.mode, d.dane, d.name = TLSRequire, found, found.names[0]
			return d, nil
		}
	}
	switch {
	case sts == nil || sts.mode != stsEnforce:
		return d, nil
	case !sts.allows(at.host):
		return d, fmt.Errorf("%w: %s is no mail server of %s by its MTA-STS policy", ErrConnect, at.host, domain)
	}
	d.mode = TLSVerify
	return d, nil
}

// tlsa asks for the records of a server, below the name where its CNAMEs lead
// and then below its own (RFC 7672 §2.2.2). It gives nil where there are none.
// Where the answer is in doubt, the server must not be used (§2.1.2).
func (s *settings) tlsa(ctx context.Context, domain string, at place) (*dane, error) {
	for _, base := range slices.Compact([]string{at.end, at.host}) {
		rrs, secure, err := s.DNS.Secure(ctx, "_"+s.Port+"._tcp."+base, dns.TypeTLSA)
		if err != nil && !isNotFound(err) {
			return nil, fmt.Errorf("%w: TLSA of %s: %w", ErrConnect, base, err)
		}
		if secure && len(rrs) > 0 {
			return newDANE(rrs, base, at.host, domain), nil
		}
	}
	return nil, nil
}
