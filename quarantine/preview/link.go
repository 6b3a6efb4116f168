package preview

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

// Link is one link of a mail: what a reader sees, and where it leads. Nothing
// in it can be clicked.
type Link struct {
	Text    string `json:"text"`
	Target  string `json:"target"`         // hxxps://evil[.]example/login
	Host    string `json:"host,omitempty"` // as it is looked up: without a password before it, in ASCII
	Differs bool   `json:"differs"`        // the text names another host
}

// linkOf compares a link's words with its target.
func linkOf(text, href string) Link {
	text = strings.Join(strings.Fields(text), " ")
	l := Link{Text: visible(text, maxWords), Target: Defang(href), Host: strings.ReplaceAll(HostOf(href), ".", "[.]")}
	if host := named(text); host != "" {
		l.Differs = site(host) != site(HostOf(href))
	}
	return l
}

var addressLike = regexp.MustCompile(`(?i)^(https?://|www\.)?((?:[\p{L}\p{N}_-]+\.)+[\p{L}\p{N}-]{2,})(?::[0-9]+)?(?:[/?#]\S*)?$`)

// named is the host that a link's words name, if they look like an address:
// "Rechnung.pdf" does not.
func named(text string) string {
	m := addressLike.FindStringSubmatch(text)
	if m == nil {
		return ""
	}
	host := ascii(m[2])
	if _, icann := publicsuffix.PublicSuffix(host); m[1] == "" && !icann {
		return ""
	}
	if strings.EqualFold(m[1], "www.") {
		host = "www." + host
	}
	return host
}

// site is what somebody has registered: two hosts of one site are no lie.
func site(host string) string {
	if s, err := publicsuffix.EffectiveTLDPlusOne(host); err == nil {
		return s
	}
	return host
}

func ascii(host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if a, err := idna.Lookup.ToASCII(host); err == nil {
		return a
	}
	return host
}

// cleaned is an address as a browser reads it: blanks and control characters
// around it and line ends within it do not count (WHATWG URL).
func cleaned(href string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || r == '\n' || r == '\r' {
			return -1
		}
		return r
	}, strings.TrimFunc(href, func(r rune) bool { return r <= ' ' }))
}

// scripted says whether an address is script rather than a place.
func scripted(href string) bool {
	scheme, _, _ := strings.Cut(strings.ToLower(cleaned(href)), ":")
	return scheme == "javascript" || scheme == "vbscript" || scheme == "data" || scheme == "livescript"
}

// HostOf is the host that a browser would ask: https://bank.example@evil.example/
// leads to evil.example, and so does https:\\evil.example.
func HostOf(href string) string {
	s := cleaned(href)
	scheme, rest, ok := strings.Cut(s, ":")
	switch strings.ToLower(scheme) {
	case "http", "https", "ftp":
		if !ok {
			return ""
		}
		rest = strings.TrimLeft(strings.ReplaceAll(rest, `\`, "/"), "/")
	case "mailto":
		rest, _, _ = strings.Cut(rest, "?")
		_, rest, _ = strings.Cut(rest, "@")
	default:
		if !strings.HasPrefix(s, "//") {
			return ""
		}
		rest = strings.TrimLeft(s, "/")
	}
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	rest = rest[strings.LastIndexByte(rest, '@')+1:]
	if i := strings.LastIndexByte(rest, ':'); i >= 0 && !strings.HasSuffix(rest, "]") {
		rest = rest[:i]
	}
	if dec, err := url.PathUnescape(rest); err == nil {
		rest = dec
	}
	return visible(ascii(rest), 255)
}

var (
	deadScheme = strings.NewReplacer("http", "hxxp", "ftp", "fxp")
	deadHost   = strings.NewReplacer(".", "[.]", "@", "[at]")
)

// Defang writes an address so that no program makes a link of it, and no
// character of it hides.
func Defang(href string) string {
	s := visible(cleaned(href), maxTarget)
	scheme, rest, ok := strings.Cut(s, ":")
	switch low := strings.ToLower(scheme); {
	case !ok:
		return strings.ReplaceAll(s, ".", "[.]")
	case low == "http" || low == "https" || low == "ftp":
		rest = strings.TrimLeft(strings.ReplaceAll(rest, `\`, "/"), "/")
		end := strings.IndexAny(rest, "/?#")
		if end < 0 {
			end = len(rest)
		}
		// Only the host is where it leads, but a path may hold a whole address.
		return deadScheme.Replace(low) + "://" +
			strings.ReplaceAll(deadHost.Replace(rest[:end])+rest[end:], "://", "[://]")
	case low == "mailto":
		return "mailto:" + deadHost.Replace(rest)
	default:
		return scheme + "[:]" + strings.ReplaceAll(rest, "://", "[://]")
	}
}

var linkLike = regexp.MustCompile(`(?i)\b(?:https?|ftp)://[^\s<>"']+|\bwww\.[^\s<>"']+`)

// DefangText does it to all addresses in a text.
func DefangText(s string) string { return linkLike.ReplaceAllStringFunc(s, Defang) }

// TextLinks are the addresses in a text, which most mail clients make links of.
func TextLinks(s string) (out []Link) {
	for _, m := range linkLike.FindAllString(s[:min(len(s), maxSource)], maxLinks) {
		m = strings.TrimRight(m, ".,;:!?)]}")
		href := m
		if !strings.Contains(m, "://") {
			href = "http://" + m
		}
		out = append(out, Link{Target: Defang(href), Host: strings.ReplaceAll(HostOf(href), ".", "[.]")})
	}
	return out
}

// oddRunes turn text around; runeName is what is shown in their place.
const oddRunes = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\x00"

func runeName(r rune) string { return fmt.Sprintf("U+%04X", r) }

// visible is text of a stranger in which no character hides, up to n of them.
func visible(s string, n int) string {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		if n--; n < 0 {
			b.WriteString("…")
			break
		}
		if r == ' ' || unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString("[" + runeName(r) + "]")
		}
	}
	return b.String()
}
