package mailauth

import (
	"errors"
	"slices"
	"strings"
)

const (
	// maxAuthors bounds the addresses of one From.
	maxAuthors = 100
	// maxShown bounds the domains that are asked about where From names several.
	maxShown = 5
)

// AuthorDomain is the domain of the author that a header names, in A-labels; ""
// where it does not name exactly one, and then the second result says why.
func AuthorDomain(header []byte) (domain, problem string) { return authorDomain(splitFields(header)) }

// authorDomain is the domain of a mail's author (RFC 9989 §5.3.1), in A-labels.
// Where there is not exactly one, or mail programs could read From in more than
// one way, it is "" and the second result says why.
func authorDomain(f *fields) (domain, problem string) {
	switch at := f.named("from"); len(at) {
	case 0:
		return "", "no From field"
	case 1:
		domains, err := fromDomains(f.list[at[0]])
		if err != nil {
			return "", note(err)
		}
		for _, d := range domains {
			if d != domains[0] {
				return "", "addresses of several domains in From"
			}
		}
		return domains[0], ""
	default:
		return "", "several From fields"
	}
}

// shownDomains are the domains that a reader may see as the author's where there
// is not exactly one: of all From fields, each once, the first ones.
func shownDomains(f *fields) (list []string) {
	for _, at := range f.named("from") {
		domains, err := fromDomains(f.list[at])
		if err != nil {
			domains = looseDomains(string(f.list[at].raw))
		}
		for _, d := range domains {
			if len(list) < maxShown && !slices.Contains(list, d) {
				list = append(list, d)
			}
		}
	}
	return list
}

// looseDomains is what follows an @ in a field that cannot be read: mail programs
// show something of it all the same.
func looseDomains(raw string) (list []string) {
	parts := strings.Split(raw, "@")
	for _, s := range parts[1:min(len(parts), maxAuthors)] {
		if end := strings.IndexFunc(s, notInDomain); end >= 0 {
			s = s[:end]
		}
		if d, err := hostName(strings.TrimRight(s, ".")); err == nil {
			list = append(list, d)
		}
	}
	return list
}

func notInDomain(r rune) bool {
	return r < 0x80 && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.", r)
}

func fromDomains(from field) ([]string, error) {
	value := string(trimCRLF(from.raw))
	return domainsOf(value[strings.IndexByte(value, ':')+1:])
}

// domainsOf reads the domains of an address list, groups included (RFC 5322
// §3.4). What is no address, such as a name with a comma that should have been
// quoted, is passed over; what could be one and cannot be read is an error.
func domainsOf(value string) ([]string, error) {
	var p addressReader
	if err := p.read(value); err != nil {
		return nil, err
	}
	if len(p.addresses) == 0 {
		return nil, errors.New("no address in From")
	}
	var out []string
	for _, a := range p.addresses {
		d, err := domainOf(a)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// addressReader takes an address list apart. Quoted text is kept as a single
// byte, since nothing in it has a meaning; comments are left out.
type addressReader struct {
	addresses []string
	item      strings.Builder // what stands before an angle bracket, or alone
	angle     strings.Builder
	inAngle   bool
	hadAngle  bool
}

const quotedByte = '\x01'

var errFrom = errors.New("malformed From")

func (p *addressReader) read(s string) error {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			end := skipQuoted(s[i:])
			if end < 0 {
				return errFrom
			}
			p.put(quotedByte)
			i += end
		case c == '(':
			end := skipComment(s[i:])
			if end < 0 {
				return errFrom
			}
			p.put(' ') // it parts words, as white space does
			i += end
		case c < ' ' && c != '\t' && c != '\r' && c != '\n', c == 0x7f, c == '\\':
			return errFrom
		case p.inAngle && c == '>':
			p.addresses, p.inAngle = append(p.addresses, p.angle.String()), false
			p.angle.Reset()
			p.item.Reset()
		case p.inAngle && c == '<', !p.inAngle && c == '>', c == '<' && p.hadAngle:
			return errFrom
		case c == '<':
			p.inAngle, p.hadAngle = true, true
		case !p.inAngle && (c == ',' || c == ';'):
			if err := p.end(); err != nil {
				return err
			}
		case !p.inAngle && c == ':': // the name of a group ends; one with an @ is what some take for the address
			if strings.Contains(p.item.String(), "@") {
				return errFrom
			}
			p.item.Reset()
		default:
			p.put(c)
		}
		if len(p.addresses) > maxAuthors {
			return errors.New("too many addresses in From")
		}
	}
	if p.inAngle {
		return errFrom
	}
	return p.end()
}

func (p *addressReader) put(c byte) {
	if p.inAngle {
		p.angle.WriteByte(c)
	} else {
		p.item.WriteByte(c)
	}
}

// end ends one entry of the list. Without an angle bracket it is an address
// itself if it looks like one; behind one, nothing may.
func (p *addressReader) end() error {
	if strings.Contains(p.item.String(), "@") {
		if p.hadAngle {
			return errFrom
		}
		p.addresses = append(p.addresses, p.item.String())
	}
	p.item.Reset()
	p.hadAngle = false
	return nil
}

// skipQuoted is where the quoted string at the start of s ends, -1 where it does not.
func skipQuoted(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

// skipComment is where the comment at the start of s ends, -1 where it does not.
func skipComment(s string) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// domainOf is the domain of an address, in A-labels.
func domainOf(address string) (string, error) {
	a := trimFWS(address)
	if strings.HasPrefix(a, "@") { // a route (RFC 5322 §4.4): what counts is behind it
		_, rest, ok := strings.Cut(a, ":")
		if !ok {
			return "", errFrom
		}
		a = rest
	}
	local, domain, ok := strings.Cut(a, "@")
	if !ok || trimFWS(local) == "" || strings.Contains(domain, "@") {
		return "", errors.New("an address without a domain in From")
	}
	joined, ok := joinDots(domain)
	d, err := aLabels(joined)
	if err != nil || !ok {
		return "", errors.New("an address without a domain name in From")
	}
	return d, nil
}

// joinDots takes white space out of a domain, where it may be: at its ends and
// beside a dot (RFC 5322 §4.4). In between it would make one name of two.
func joinDots(s string) (string, bool) {
	words := strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(fws, r) })
	for i := 1; i < len(words); i++ {
		if !strings.HasSuffix(words[i-1], ".") && !strings.HasPrefix(words[i], ".") {
			return "", false
		}
	}
	return strings.Join(words, ""), true
}
