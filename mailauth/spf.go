package mailauth

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"

	"blitiri.com.ar/go/spf"

	"mailward/internal/message"
)

// checkSPF checks both identities (RFC 7208 §2.3, §2.4): MAIL FROM, and the name
// that the client gave itself. For the null sender HELO stands in for both.
func (c *Checker) checkSPF(ctx context.Context, env message.Envelope) (mailFrom, helo SPF) {
	_, domain, ok := cutLast(env.From, "@")
	if !ok || domain == "" {
		helo = c.spf(ctx, env.ClientIP, env.Helo, "", "helo")
		return helo, helo
	}
	var wg sync.WaitGroup
	wg.Go(func() { helo = c.spf(ctx, env.ClientIP, env.Helo, "", "helo") })
	mailFrom = c.spf(ctx, env.ClientIP, env.Helo, env.From, "mailfrom")
	wg.Wait()
	return mailFrom, helo
}

// spf asks about one identity; sender is "" for HELO's.
func (c *Checker) spf(ctx context.Context, ip netip.Addr, helo, sender, identity string) SPF {
	r := SPF{Result: None, Identity: identity}
	if !ip.IsValid() {
		return r
	}
	ip = ip.Unmap() // RFC 7208 §5: an IPv4 address mapped into IPv6 is IPv4
	local, domain := "postmaster", helo
	if sender != "" {
		local, domain, _ = cutLast(sender, "@")
	}
	name, err := hostName(domain)
	if err != nil { // RFC 7208 §4.3: no name that can be looked up, also an address literal
		r.Domain, r.Reason = safeName(domain), note(err)
		return r
	}
	r.Domain = name
	// A quoted local part may hold an @, at which the library would cut: the
	// sender could choose another domain than the one that he is known by.
	if local = strings.ReplaceAll(local, "@", "_"); local == "" {
		local = "postmaster"
	}
	dns := &spfResolver{dns: c.dns, ip: ip}
	res, err := spf.CheckHostWithSender(net.IP(ip.AsSlice()), helo, local+"@"+name, spf.WithContext(ctx), spf.WithResolver(dns))
	r.Result = string(res)
	var d *net.DNSError
	switch {
	case dns.late && r.Result != Pass:
		// The library takes some trouble for "no match", as RFC 7208 §5.5 wants for
		// ptr; but when our time is up nobody knows what else would have matched.
		r.Result, r.Reason = TempError, "DNS trouble"
	case err == nil || r.Result != PermError && r.Result != TempError: // else "matched all" and the like
	case errors.Is(err, errSPFSyntax):
		r.Reason = note(errSPFSyntax)
	case errors.As(err, &d): // which name of whose is not for the header
		r.Reason = "DNS trouble"
	default:
		r.Reason = note(err)
	}
	return r
}

// spfResolver asks DNS as RFC 7208 wants it. It is used by one goroutine.
type spfResolver struct {
	dns  Resolver
	ip   netip.Addr
	late bool // a question had no answer when our time was up
}

// spfName is a name as it is asked for, macros expanded, with its final dot: an
// address that a macro gave is a name here too. What is too long loses labels on
// its left (RFC 7208 §7.3). False: nothing matches. Bytes beyond ASCII are of a
// local part, and match nothing (RFC 8616 §4).
func spfName(s string) (string, bool) {
	s = strings.TrimSuffix(s, ".")
	for ok := true; len(s) > maxName; {
		if _, s, ok = strings.Cut(s, "."); !ok {
			return "", false
		}
	}
	return s + ".", strings.IndexFunc(s, func(r rune) bool { return r > 0x7e }) < 0
}

var errSPFName = &net.DNSError{Err: "no domain name", IsNotFound: true}

// heard notes that a question came to nothing for want of time.
func (r *spfResolver) heard(ctx context.Context, err error) error {
	if err != nil && !isMissing(err) && ctx.Err() != nil {
		r.late = true
	}
	return err
}

func (r *spfResolver) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	name, ok := spfName(name)
	if !ok {
		return nil, errSPFName
	}
	list, err := r.dns.LookupMX(ctx, name)
	return list, r.heard(ctx, err)
}

func (r *spfResolver) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	list, err := r.dns.LookupAddr(ctx, addr)
	return list, r.heard(ctx, err)
}

// LookupIPAddr asks for the family of the client (RFC 7208 §5.3), and for an
// IPv6 client also for IPv4, which "exists" wants whoever the client is (§5.7).
// Trouble with any of them is trouble: half of the addresses could make a fail
// of what nobody knows.
func (r *spfResolver) LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error) {
	host, ok := spfName(host)
	if !ok {
		return nil, errSPFName
	}
	families := []string{"ip4"}
	if r.ip.Is6() {
		families = []string{"ip6", "ip4"}
	}
	var out []net.IPAddr
	var none error
	for _, f := range families {
		addrs, err := r.dns.LookupNetIP(ctx, f, host)
		var d *net.DNSError
		if errors.As(err, &d) && d.IsNotFound {
			none = d
			continue
		}
		if err != nil {
			return nil, r.heard(ctx, err)
		}
		for _, a := range addrs {
			out = append(out, net.IPAddr{IP: net.IP(a.AsSlice())})
		}
	}
	if len(out) == 0 {
		return nil, none
	}
	return out, nil
}
