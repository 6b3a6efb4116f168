package mailauth

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// The grammar of RFC 7208 §12, in which exp= is read like any domain.
const (
	spfExpand   = `%(?:\{[slodiphvSLODIPHV](?:0*[1-9][0-9]*)?[rR]?[-.+,/_=]*\}|%|_|-)`
	spfMacros   = `(?:` + spfExpand + `|[!-$&-~])*`
	spfTopLabel = `(?:[A-Za-z0-9]*[A-Za-z][A-Za-z0-9]*|[A-Za-z0-9]+-[A-Za-z0-9-]*[A-Za-z0-9])`
	spfDomain   = spfMacros + `(?:\.` + spfTopLabel + `\.?|` + spfExpand + `)`
	spfCIDR     = `(?:/(0|[1-9][0-9]?))?(?://(0|[1-9][0-9]{0,2}))?`
)

var (
	spfModifier  = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9._-]*)=(.*)$`)
	spfWord      = regexp.MustCompile(`^[-+?~]?(?i:all|ptr)$`)
	spfWithName  = regexp.MustCompile(`^[-+?~]?(?i:include|exists|ptr):` + spfDomain + `$`)
	spfAddresses = regexp.MustCompile(`^[-+?~]?(?i:a|mx)(?::` + spfDomain + `)??` + spfCIDR + `$`)
	spfIP        = regexp.MustCompile(`^[-+?~]?(?i:ip)([46]):([^/]*)(?:/(0|[1-9][0-9]{0,2}))?$`)
	spfTarget    = regexp.MustCompile(`^` + spfDomain + `$`)
	spfText      = regexp.MustCompile(`^` + spfMacros + `$`)
)

var errSPFSyntax = errors.New("syntax error in the record")

// LookupTXT also finds an error in a record, wherever it stands: RFC 7208 §4.6
// makes the whole record one then, and the library looks only as far as the
// first match. It is told in the library's way, as trouble that will stay.
func (r *spfResolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	name, ok := spfName(name)
	if !ok {
		return nil, errSPFName
	}
	list, err := r.dns.LookupTXT(ctx, name)
	if err != nil {
		return nil, r.heard(ctx, err)
	}
	var record string
	records := 0
	for _, s := range list {
		if v, _, _ := strings.Cut(s, " "); strings.EqualFold(v, "v=spf1") {
			record = s
			records++
		}
	}
	if records == 1 && !validSPF(record) {
		return nil, &net.DNSError{Err: errSPFSyntax.Error(), UnwrapErr: errSPFSyntax}
	}
	return list, nil
}

// validSPF says whether a record follows the grammar.
func validSPF(record string) bool {
	_, terms, _ := strings.Cut(record, " ")
	seen := map[string]bool{}
	for term := range strings.SplitSeq(terms, " ") {
		if term == "" {
			continue
		}
		m := spfModifier.FindStringSubmatch(term)
		if m == nil {
			if !validMechanism(term) {
				return false
			}
			continue
		}
		value := spfText
		if n := strings.ToLower(m[1]); n == "redirect" || n == "exp" {
			if value = spfTarget; seen[n] { // RFC 7208 §6: once at most
				return false
			}
			seen[n] = true
		}
		if !value.MatchString(m[2]) {
			return false
		}
	}
	return true
}

func validMechanism(term string) bool {
	if spfWord.MatchString(term) || spfWithName.MatchString(term) {
		return true
	}
	if m := spfAddresses.FindStringSubmatch(term); m != nil {
		return atMost(m[1], 32) && atMost(m[2], 128)
	}
	m := spfIP.FindStringSubmatch(term)
	if m == nil {
		return false
	}
	a, err := netip.ParseAddr(m[2])
	if err != nil || a.Zone() != "" {
		return false
	}
	if m[1] == "4" {
		return a.Is4() && atMost(m[3], 32)
	}
	return a.Is6() && atMost(m[3], 128)
}

func atMost(number string, most int) bool {
	n, err := strconv.Atoi(number)
	return number == "" || err == nil && n <= most
}
