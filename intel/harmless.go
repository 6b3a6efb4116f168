package intel

import (
	_ "embed"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/net/publicsuffix"
)

// harmlessFile lists what must never be an indicator: a name, or with a dot in
// front all names under it too; an address; a digest.
//
//go:embed data/harmless.txt
var harmlessFile string

var harmless = sync.OnceValue(func() map[string]bool {
	m := map[string]bool{}
	for line := range strings.Lines(harmlessFile) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line != "" {
			m[line] = true
		}
	}
	return m
})

// Harmless says why a value must not be an indicator, or nothing. One that would
// match half of all mail does more harm than good, whoever says it is bad.
func (v Value) Harmless() string {
	switch v.Kind {
	case Domain:
		return harmlessName(v.Text)
	case URL:
		host := hostOf(v.Text)
		if why := harmlessIP(host); why != "" {
			return why
		}
		if _, rest, _ := strings.Cut(v.Text, "://"); strings.TrimSuffix(rest, "/") == host || strings.TrimSuffix(rest, "/") == "["+host+"]" {
			return harmlessName(host)
		}
	case IP:
		return harmlessIP(v.Text)
	case SHA256:
		if harmless()[v.Text] {
			return "is the digest of an empty or everyday file"
		}
	}
	return ""
}

func harmlessName(name string) string {
	if s, _ := publicsuffix.PublicSuffix(name); s == name {
		return "is a public suffix, under which anybody has names"
	}
	bare := strings.TrimPrefix(name, "www.")
	if harmless()[name] || harmless()[bare] || harmless()["."+bare] {
		return "is a domain that nearly everybody uses"
	}
	for _, parent := range parents(name) {
		if harmless()["."+parent] {
			return "is a domain that nearly everybody uses"
		}
	}
	return ""
}

func harmlessIP(s string) string {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return ""
	case !a.IsGlobalUnicast() || a.IsPrivate():
		return "is an address of no use in the internet"
	case harmless()[a.String()]:
		return "is an address that nearly everybody uses"
	}
	return ""
}

// parents are the names above a name, up to the one that somebody has
// registered.
func parents(name string) (list []string) {
	suffix, _ := publicsuffix.PublicSuffix(name)
	for {
		_, rest, ok := strings.Cut(name, ".")
		if !ok || rest == suffix || len(rest) <= len(suffix) {
			return list
		}
		list, name = append(list, rest), rest
	}
}
