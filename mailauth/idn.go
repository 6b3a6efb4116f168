package mailauth

import (
	"errors"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// lookup is UTS 46 as it is used for looking names up: mapped, so that names
// which a resolver takes for the same are the same here.
var lookup = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.VerifyDNSLength(true), idna.StrictDomainName(true), idna.Transitional(false))

var errNoDomain = errors.New("no domain name")

// maxName is the longest name that DNS has (RFC 1035 §2.3.4), as it is written.
const maxName = 253

// aLabels is a domain as DNS knows it: U-labels made A-labels (RFC 5890 §2.3),
// lower case, without a final dot.
func aLabels(domain string) (string, error) {
	domain = strings.TrimSuffix(domain, ".")
	if strings.IndexFunc(domain, func(r rune) bool { return r > 0x7f }) >= 0 {
		a, err := lookup.ToASCII(domain)
		if err != nil || !utf8.ValidString(domain) {
			return "", errNoDomain
		}
		domain = a
	}
	if !askable(domain) {
		return "", errNoDomain
	}
	return strings.ToLower(domain), nil
}

// hostName is aLabels of a name with at least two labels.
func hostName(domain string) (string, error) {
	d, err := aLabels(domain)
	if err != nil || !strings.Contains(d, ".") {
		return "", errNoDomain
	}
	return d, nil
}

// askable says whether a name can be asked for at all (RFC 1035 §2.3.4). Odd
// characters are none of its business, unless they have a meaning to us.
func askable(domain string) bool {
	if len(domain) > maxName {
		return false
	}
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
	}
	for _, c := range []byte(domain) {
		if c <= ' ' || c > '~' || strings.IndexByte(`\"()<>[]@,;:`, c) >= 0 {
			return false
		}
	}
	return true
}
