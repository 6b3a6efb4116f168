package phishing

import (
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"

	"mailward/scanner/content"
)

// target is where a link leads.
type target struct {
	content.Link
	scheme, host string // lower case; host in its readable form
	puny, ip     bool
	user         string // before an @
	path, query  string
}

// parseTarget reads a link as forgivingly as browsers do: backslashes, missing
// slashes and foreign schemes included.
func parseTarget(l content.Link) (t target, ok bool) {
	s := strings.TrimFunc(strings.TrimSpace(strings.ReplaceAll(l.Target, `\`, "/")), func(r rune) bool { return r <= ' ' })
	t.Link = l
	scheme, rest, found := strings.Cut(s, ":")
	scheme = strings.ToLower(scheme)
	switch {
	case found && (scheme == "javascript" || scheme == "data" || scheme == "vbscript"):
		t.scheme = scheme
		return t, true
	case found && (scheme == "http" || scheme == "https" || scheme == "ftp"):
		t.scheme, rest = scheme, strings.TrimLeft(rest, "/")
	case strings.HasPrefix(s, "//"):
		t.scheme, rest = "https", strings.TrimLeft(s, "/")
	case strings.HasPrefix(strings.ToLower(s), "www."), l.Kind == content.LinkCode && bareHost(s):
		t.scheme, rest = "http", s
	default:
		return t, false
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority := rest[:end]
	t.path, t.query, _ = strings.Cut(rest[end:], "?")
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		t.user, authority = authority[:i], authority[i+1:]
	}
	t.setHost(authority)
	return t, t.host != ""
}

// bareHost says whether a telephone takes the text of a code for an address, without
// a scheme.
func bareHost(s string) bool {
	host := s
	if i := strings.IndexAny(s, "/?#:"); i >= 0 {
		host = s[:i]
	}
	_, icann := publicsuffix.PublicSuffix(strings.ToLower(host))
	return icann && strings.Contains(host, ".") && !strings.ContainsAny(s, " \r\n@") && exists(strings.ToLower(host))
}

func (t *target) setHost(authority string) {
	if d, err := url.PathUnescape(authority); err == nil {
		authority = d
	}
	if !strings.HasPrefix(authority, "[") {
		authority, _, _ = strings.Cut(authority, ":")
	}
	host := strings.TrimSuffix(strings.ToLower(strings.Trim(authority, "[]")), ".")
	if _, err := netip.ParseAddr(host); err == nil || numeric(host) {
		t.host, t.ip = host, true
		return
	}
	if strings.ContainsFunc(host, func(r rune) bool { return r >= 0x80 }) { // IDNA leaves all others as they are
		if ascii, err := idna.Lookup.ToASCII(host); err == nil {
			host = ascii
		}
	}
	t.puny = strings.HasPrefix(host, "xn--") || strings.Contains(host, ".xn--")
	t.host = readable(host)
}

// readable is a host as people see it, without A-labels.
func readable(host string) string {
	if !strings.Contains(host, "xn--") {
		return host
	}
	if u, err := idna.ToUnicode(host); err == nil {
		return u
	}
	return host
}

// numeric is an IP address in a spelling that only browsers know: 0x7f000001.
func numeric(host string) bool {
	if host == "" {
		return false
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	digits := strings.TrimPrefix(last, "0x")
	if digits == "" {
		return false
	}
	return strings.Trim(digits, "0123456789") == "" || digits != last && strings.Trim(digits, "0123456789abcdef") == ""
}

// registrable is the domain that somebody has registered; where there is none,
// the host itself.
func registrable(host string) string {
	if d, err := publicsuffix.EffectiveTLDPlusOne(host); err == nil {
		return d
	}
	return host
}

// exists says whether a domain can exist, by its suffix.
func exists(host string) bool {
	suffix, icann := publicsuffix.PublicSuffix(host)
	return host != suffix && (icann || strings.Contains(suffix, "."))
}

// shownHost is the domain that a link's words show, if they show one.
func shownHost(text string) (string, bool) {
	text = strings.TrimSpace(text)
	if text == "" || strings.ContainsAny(text, " \n@") || len(text) > 200 {
		return "", false
	}
	s := text
	if !strings.Contains(s, "://") {
		s = "http://" + s
	}
	t, ok := parseTarget(content.Link{Target: s})
	if !ok || t.ip || !exists(t.host) || !strings.Contains(t.host, ".") {
		return "", false
	}
	if _, icann := publicsuffix.PublicSuffix(t.host); !icann && !strings.Contains(text, "://") {
		return "", false
	}
	return t.host, true
}

// opaque is a path or query that is one long random string.
func (t target) opaque() bool {
	path := strings.Trim(t.path, "/")
	for segment := range strings.SplitSeq(path, "/") {
		if len(segment) >= 30 && !strings.ContainsAny(segment, ".-_ ") && randomness(segment) {
			return true
		}
	}
	return false
}

// randomness is a string of letters in both cases and digits, without order.
func randomness(s string) bool {
	changes, upper, lower := 0, false, false
	kind := func(c byte) int {
		switch {
		case c >= '0' && c <= '9':
			return 0
		case c >= 'A' && c <= 'Z':
			upper = true
			return 1
		default:
			lower = true
			return 2
		}
	}
	last := kind(s[0])
	for i := 1; i < len(s); i++ {
		if k := kind(s[i]); k != last {
			changes, last = changes+1, k
		}
	}
	return upper && lower && changes >= 6
}

// redirects says whether the link names another site in what it asks for.
func (t target) redirects() (string, bool) {
	q := t.path + "?" + t.query
	for range 3 { // a redirect of a redirect is escaped twice
		d, err := url.QueryUnescape(q)
		if err != nil || d == q {
			break
		}
		q = d
	}
	i := strings.Index(strings.ToLower(q), "=http")
	if i < 0 {
		return "", false
	}
	to, ok := parseTarget(content.Link{Target: q[i+1:]})
	if !ok || to.host == "" || registrable(to.host) == registrable(t.host) {
		return "", false
	}
	return to.host, true
}
