package mailauth

import (
	"context"
	"strings"
	"sync"
)

// RFC 9989 §4.10: of a long name only itself and the last seven labels are asked.
const (
	maxTreeQueries = 8
	treeLabels     = maxTreeQueries - 1
)

// step is what the walk found at one name.
type step struct {
	domain string
	record *dmarcRecord // nil: there is none
	err    error        // DNS gave no answer
}

// treeNames is the names that a walk from a domain asks, longest first.
func treeNames(domain string) []string {
	out := []string{domain}
	labels := strings.Split(domain, ".")
	for i := max(1, len(labels)-treeLabels); i < len(labels); i++ {
		out = append(out, strings.Join(labels[i:], "."))
	}
	return out
}

// treeWalk asks for the records at a domain and above it (RFC 9989 §4.10). The
// names are asked at the same time, then looked at in their order: a walk from
// label to label would wait for each.
func treeWalk(ctx context.Context, dns Resolver, domain string) []step {
	names := treeNames(domain)
	out := make([]step, len(names))
	var wg sync.WaitGroup
	for i, n := range names {
		wg.Go(func() { out[i] = lookUpDMARC(ctx, dns, n) })
	}
	wg.Wait()
	for i, s := range out {
		if s.record != nil && s.record.psd != "u" {
			return out[:i+1] // the walk stops here
		}
	}
	return out
}

// lookUpDMARC asks for the record of one domain. Several records are as none.
func lookUpDMARC(ctx context.Context, dns Resolver, domain string) step {
	s := step{domain: domain}
	name := "_dmarc." + domain
	if !askable(name) {
		return s
	}
	list, err := dns.LookupTXT(ctx, name)
	if isMissing(err) {
		return s
	}
	if err != nil {
		s.err = err
		return s
	}
	n := 0
	for _, txt := range list {
		if r, ok := parseDMARC(txt); ok {
			s.record = r
			n++
		}
	}
	if n > 1 {
		s.record = nil
	}
	return s
}

// organization picks the organizational domain of where a walk began (RFC 9989
// §4.10.2). Where DNS left a gap that could matter it is an error.
func organization(walk []step) (string, error) {
	start := walk[0].domain
	org, found := start, false
	for i, s := range walk {
		if s.err != nil {
			return "", s.err
		}
		if s.record == nil {
			continue
		}
		switch {
		case s.record.psd == "n":
			return s.domain, nil
		case s.record.psd == "y" && i > 0:
			return below(s.domain, start), nil
		}
		org, found = s.domain, true // the last one found has the fewest labels
	}
	if !found {
		return start, nil
	}
	return org, nil
}

// below is the domain one label below parent on the way to domain.
func below(parent, domain string) string {
	rest := strings.TrimSuffix(domain, "."+parent)
	return rest[strings.LastIndexByte(rest, '.')+1:] + "." + parent
}
