package policy

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

var domains = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.VerifyDNSLength(true), idna.StrictDomainName(true))

// PlainName says whether a name is a domain name as most are: lower-case letters,
// digits and single hyphens within labels, and a last label that is no number.
// IDNA leaves such a name as it is, and takes a hundred times as long to say so.
func PlainName(n string) bool {
	if len(n) > 253 || len(n) == 0 {
		return false
	}
	label, letter, dots := 0, false, 0 // length of the label, whether it has a letter
	last := byte('.')
	for i := range len(n) {
		c := n[i]
		switch {
		case c >= 'a' && c <= 'z':
			letter = true
		case c >= '0' && c <= '9':
		case c == '-' && last != '.' && last != '-':
		case c == '.' && label > 0 && last != '-':
			label, letter, dots, last = 0, false, dots+1, c
			continue
		default:
			return false
		}
		if label++; label > 63 {
			return false
		}
		last = c
	}
	return dots > 0 && letter && last != '-'
}

// NormaliseDomain makes the form in which domains are compared: lower case
// A-labels (RFC 5890), no dot at the end.
func NormaliseDomain(name string) (string, error) {
	n := strings.TrimSuffix(strings.TrimSpace(name), ".")
	if PlainName(n) {
		return n, nil
	}
	a, err := domains.ToASCII(n)
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
