package mailauth

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
)

// maxNames bounds how many names of an address are looked up.
const maxNames = 5

// iprev asks whether the client's address has a name that leads back to it (RFC
// 8601 §3).
func (c *Checker) iprev(ctx context.Context, ip netip.Addr) IPRev {
	if !ip.IsValid() {
		return IPRev{}
	}
	ip = ip.Unmap().WithZone("")
	r := IPRev{Result: Fail, IP: ip.String()}
	names, err := c.dns.LookupAddr(ctx, ip.String())
	switch {
	case isMissing(err): // RFC 8601 §2.7.3: nothing is there to be compared
		r.Result, r.Reason = PermError, "the address has no name"
		return r
	case err != nil:
		r.Result, r.Reason = TempError, "DNS trouble"
		return r
	}
	family := "ip4"
	if ip.Is6() {
		family = "ip6"
	}
	names = names[:min(len(names), maxNames)]
	results := make([]string, len(names))
	var wg sync.WaitGroup
	for i, n := range names {
		wg.Go(func() {
			addrs, err := c.dns.LookupNetIP(ctx, family, n)
			switch {
			case slices.ContainsFunc(addrs, func(a netip.Addr) bool { return a.Unmap() == ip }):
				results[i] = Pass
			case err != nil && !isMissing(err):
				results[i] = TempError
			default:
				results[i] = Fail
			}
		})
	}
	wg.Wait()
	for _, result := range []string{Pass, TempError} {
		if i := slices.Index(results, result); i >= 0 {
			name, err := hostName(names[i])
			if err != nil {
				name = safeName(names[i])
			}
			r.Result, r.Name = result, name
			if result == TempError {
				r.Reason = "DNS trouble"
			}
			return r
		}
	}
	r.Reason = "no name of the address leads back to it"
	return r
}

// isMissing says whether DNS knows that there is nothing.
func isMissing(err error) bool {
	var d *net.DNSError
	return errors.As(err, &d) && d.IsNotFound
}
