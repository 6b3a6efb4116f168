package intel

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"

	"golang.org/x/net/idna"

	"mailward/policy"
)

// Kind is what an indicator names.
type Kind string

// The kinds.
const (
	Domain Kind = "domain"
	URL    Kind = "url"
	IP     Kind = "ip"
	Email  Kind = "email"
	SHA256 Kind = "sha256"
)

// Kinds lists all kinds.
func Kinds() []string {
	return []string{string(Domain), string(URL), string(IP), string(Email), string(SHA256)}
}

// maxValue bounds a value; a longer URL of a mail is not looked up.
const maxValue = 2048

// Value is an indicator's value in the one form in which all are compared.
type Value struct {
	Kind Kind
	Text string
}

// key is what a value is looked up by. The table has no room for all of them in
// memory, but it has for eight bytes of each.
func (v Value) key() int64 {
	var b [maxValue + 8]byte
	n := copy(b[:], v.Kind)
	b[n] = 0
	n += 1 + copy(b[n+1:], v.Text)
	sum := sha256.Sum256(b[:n])
	return int64(binary.BigEndian.Uint64(sum[:]))
}

// errValue says why a text is no indicator.
var errValue = errors.New("intel: no indicator")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errValue, fmt.Sprintf(format, args...))
}

// refang undoes what analysts do to an indicator so that nobody clicks it.
var refang = strings.NewReplacer("[.]", ".", "(.)", ".", "{.}", ".", "[dot]", ".", "(dot)", ".", "[DOT]", ".", "[:]", ":", "[:", ":", "[/]", "/",
	"[@]", "@", "[at]", "@", "(at)", "@", "(@)", "@")

// defanged are the schemes as analysts write them, and as they are.
var defanged = []struct{ from, to string }{{"hxxps:", "https:"}, {"hxxp:", "http:"}, {"h**ps:", "https:"}, {"h**p:", "http:"}, {"fxp:", "ftp:"}}

// visible says whether a text is of the visible letters of ASCII alone, as nearly
// all values are.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// clean takes away defanging, and what no value has.
func clean(raw string) (string, error) {
	if len(raw) > 2*maxValue {
		return "", bad("it is too long")
	}
	s := strings.TrimSpace(raw)
	if !visible(s) {
		// WHATWG URL: tabs and newlines within are left out by browsers.
		s = strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f || r == 0x200b || r == 0xfeff {
				return -1
			}
			return r
		}, strings.TrimSpace(strings.ToValidUTF8(s, "")))
	}
	if strings.ContainsAny(s, "[({") && !strings.Contains(s, "[::") && !looksIPv6(s) {
		s = refang.Replace(s)
	}
	for _, d := range defanged {
		if len(s) >= len(d.from) && strings.EqualFold(s[:len(d.from)], d.from) {
			s = d.to + s[len(d.from):]
			break
		}
	}
	if s == "" {
		return "", bad("it is empty")
	}
	return s, nil
}

// looksIPv6 says whether brackets in a text are those around an address.
func looksIPv6(s string) bool {
	open, end := strings.IndexByte(s, '['), strings.IndexByte(s, ']')
	if open < 0 || end < open {
		return false
	}
	_, err := netip.ParseAddr(s[open+1 : end])
	return err == nil
}

// Parse reads a value of a kind, or, where kind is empty, of the kind that it
// looks like.
func Parse(kind Kind, raw string) (Value, error) {
	s, err := clean(raw)
	if err != nil {
		return Value{}, err
	}
	if kind == "" {
		kind = guess(s)
	}
	v := Value{Kind: kind}
	switch kind {
	case Domain:
		v.Text, err = domainName(s)
	case URL:
		v.Text, err = canonicalURL(s)
	case IP:
		v.Text, err = ipAddress(s)
	case Email:
		v.Text, err = emailAddress(s)
	case SHA256:
		v.Text, err = hash(s)
	default:
		return Value{}, bad("there is no kind %q", kind)
	}
	if err == nil && len(v.Text) > maxValue {
		err = bad("it is too long")
	}
	if err != nil {
		return Value{}, err
	}
	return v, nil
}

func guess(s string) Kind {
	switch {
	case strings.Contains(s, "://"), strings.Contains(s, `:\\`):
		return URL
	case len(s) == 64 && isHex(s):
		return SHA256
	}
	if _, err := ipAddress(s); err == nil {
		return IP
	}
	switch {
	case strings.ContainsAny(s, "/?"):
		return URL
	case strings.Contains(s, "@"):
		return Email
	}
	return Domain
}

func isHex(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil
}

func hash(s string) (string, error) {
	if len(s) != 64 || !isHex(s) {
		return "", bad("%.20q is no SHA-256 digest", s)
	}
	return strings.ToLower(s), nil
}

// ipAddress reads an address, also one with a port behind it.
func ipAddress(s string) (string, error) {
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		p, err := netip.ParseAddrPort(s)
		if err != nil {
			return "", bad("%.60q is no address", s)
		}
		a = p.Addr()
	}
	return a.WithZone("").Unmap().String(), nil
}

// names maps as browsers do (UTS #46), without their refusal of what is odd but
// works, such as underscores.
var names = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false), idna.BidiRule())

// domainName is a name in A-labels, as IDNA2008 has them (RFC 5891).
func domainName(s string) (string, error) {
	s = strings.TrimSuffix(strings.TrimPrefix(s, "*."), ".")
	if policy.PlainName(s) {
		return s, nil
	}
	ascii, err := names.ToASCII(s)
	ascii = strings.ToLower(strings.TrimSuffix(ascii, "."))
	if err != nil || len(ascii) > 253 || !strings.Contains(ascii, ".") {
		return "", bad("%.60q is no domain name", s)
	}
	// Bytes that are no text become an A-label that nothing can be made of.
	if strings.Contains(ascii, "xn--") {
		if again, err := names.ToASCII(ascii); err != nil || again != ascii {
			return "", bad("%.60q is no domain name", s)
		}
	}
	for label := range strings.SplitSeq(ascii, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return "", bad("%.60q is no domain name", s)
		}
	}
	if last := ascii[strings.LastIndexByte(ascii, '.')+1:]; strings.Trim(last, "0123456789") == "" {
		return "", bad("%.60q is no domain name", s)
	}
	return ascii, nil
}

// emailAddress lowers the local part too: no provider of note tells them apart.
func emailAddress(s string) (string, error) {
	s = strings.Trim(strings.TrimPrefix(s, "mailto:"), "<>")
	i := strings.LastIndexByte(s, '@')
	if i < 1 || i > 64 || strings.ContainsAny(s[:i], " \"<>()[]@,;:\\") {
		return "", bad("%.60q is no address", s)
	}
	d, err := domainName(s[i+1:])
	if err != nil {
		return "", err
	}
	return strings.ToLower(s[:i]) + "@" + d, nil
}

// canonicalURL is a web address in the form that any client would make of it:
// RFC 3986 §6.2.2, and the WHATWG URL standard where browsers are laxer.
// http and https are one, since feeds name either; user, fragment and default
// port say nothing of the place.
func canonicalURL(s string) (string, error) {
	scheme, rest, ok := strings.Cut(s, ":")
	if scheme = strings.ToLower(scheme); !ok || scheme != "http" && scheme != "https" && scheme != "ftp" {
		if strings.Contains(s, "://") {
			return "", bad("%.20q is no scheme of the web", scheme)
		}
		scheme, rest = "http", s
	}
	rest = strings.TrimLeft(strings.ReplaceAll(beforeQuery(rest), `\`, "/")+rest[len(beforeQuery(rest)):], "/")
	rest, _, _ = strings.Cut(rest, "#")
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	authority, tail := rest[:end], rest[end:]
	authority = authority[strings.LastIndexByte(authority, '@')+1:]
	host, port, err := hostPort(authority)
	if err != nil {
		return "", err
	}
	if scheme == "http" && port == "80" || scheme == "https" && port == "443" || scheme == "ftp" && port == "21" {
		port = ""
	}
	if port != "" {
		port = ":" + port
	}
	if scheme == "https" {
		scheme = "http"
	}
	p, query, hasQuery := strings.Cut(tail, "?")
	out := scheme + "://" + host + port + cleanPath(p)
	if hasQuery && query != "" {
		out += "?" + escapes(query)
	}
	return out, nil
}

func beforeQuery(s string) string {
	if i := strings.IndexAny(s, "?#"); i >= 0 {
		return s[:i]
	}
	return s
}

// hostPort takes an authority apart. An address is written as browsers read it,
// also where it hides as a number.
func hostPort(a string) (host, port string, err error) {
	if i := strings.LastIndexByte(a, ':'); i >= 0 && !strings.HasSuffix(a, "]") {
		a, port = a[:i], a[i+1:]
		if n, err := strconv.ParseUint(port, 10, 16); err == nil {
			port = strconv.FormatUint(n, 10)
		} else if port != "" {
			return "", "", bad("%.20q is no port", port)
		}
	}
	if strings.HasPrefix(a, "[") {
		ip, err := netip.ParseAddr(strings.Trim(a, "[]"))
		if err != nil {
			return "", "", bad("%.60q is no address", a)
		}
		return "[" + ip.WithZone("").String() + "]", port, nil
	}
	if u, err := url.PathUnescape(a); err == nil {
		a = u
	}
	if ip, ok := ipv4Number(strings.TrimSuffix(a, ".")); ok {
		return ip, port, nil
	}
	host, err = domainName(a)
	return host, port, err
}

// ipv4Number reads what the WHATWG URL standard calls an IPv4 number: up to four
// parts, each decimal, octal or hexadecimal, the last as wide as what is left.
func ipv4Number(s string) (string, bool) {
	if s == "" || strings.IndexByte("0123456789abcdefABCDEFxX", s[len(s)-1]) < 0 {
		return "", false
	}
	parts := strings.Split(s, ".")
	if len(parts) > 4 {
		return "", false
	}
	var sum uint64
	for i, p := range parts {
		base := 10
		if l := strings.ToLower(p); strings.HasPrefix(l, "0x") {
			p, base = l[2:]+"0"[:boolInt(len(l) == 2)], 16
		} else if len(p) > 1 && p[0] == '0' {
			base = 8
		}
		n, err := strconv.ParseUint(p, base, 32)
		if err != nil {
			return "", false
		}
		if i < len(parts)-1 {
			if n > 255 {
				return "", false
			}
			sum += n << (8 * (3 - i))
			continue
		}
		if n >= 1<<(8*(5-len(parts))) {
			return "", false
		}
		sum += n
	}
	return netip.AddrFrom4([4]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}).String(), true
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func cleanPath(p string) string {
	p = escapes(p)
	if p == "" {
		return "/"
	}
	slash := strings.HasSuffix(p, "/") || strings.HasSuffix(p, "/.") || strings.HasSuffix(p, "/..")
	if p = path.Clean("/" + p); slash && p != "/" {
		p += "/"
	}
	return p
}

const unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"

// escapes decodes what needs no escape, and writes all others in one way: RFC
// 3986 §6.2.2.1 and §6.2.2.2.
func escapes(s string) string {
	if !strings.ContainsAny(s, "%\"<>`") && visible(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				if strings.IndexByte(unreserved, byte(n)) >= 0 {
					b.WriteByte(byte(n))
				} else {
					fmt.Fprintf(&b, "%%%02X", n)
				}
				i += 2
				continue
			}
		}
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>`", c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

// hostOf is the host of a canonical URL, without brackets.
func hostOf(canonical string) string {
	_, rest, _ := strings.Cut(canonical, "://")
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		rest = rest[:i]
	}
	if strings.HasPrefix(rest, "[") {
		return rest[1:max(1, strings.IndexByte(rest, ']'))]
	}
	host, _, _ := strings.Cut(rest, ":")
	return host
}
