package policy

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// NormaliseDomain makes the form in which domains are compared: lower case
// A-labels (RFC 5890), no dot at the end.
func NormaliseDomain(name string) (string, error) {
	n := strings.TrimSuffix(strings.TrimSpace(name), ".")
	a, err := idna.New(idna.MapForLookup(), idna.BidiRule(), idna.VerifyDNSLength(true), idna.StrictDomainName(true)).ToASCII(n)
	if err != nil || a == "" || len(a) > 253 || !strings.Contains(a, ".") || net.ParseIP(a) != nil {
		return "", &InvalidError{"name", fmt.Sprintf("%q is not a domain name", name)}
	}
	return strings.ToLower(a), nil
}

// CheckNextHop accepts host:port, a list of those with commas between, one of
// the names of routes, and "".
func CheckNextHop(hop string, names ...string) error {
	if hop == "" || slices.Contains(names, hop) {
		return nil
	}
	for h := range strings.SplitSeq(hop, ",") {
		host, port, err := net.SplitHostPort(strings.TrimSpace(h))
		n, perr := strconv.Atoi(port)
		if err != nil || perr != nil || host == "" || n < 1 || n > 65535 || strings.ContainsAny(host, " /\\@\r\n\t") {
			return &InvalidError{"next_hop", fmt.Sprintf("%q is not host:port, a list of those, or the name of a configured route", hop)}
		}
	}
	return nil
}
