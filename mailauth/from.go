package mailauth

import (
	"errors"
	"strings"
)

// maxAuthors bounds the addresses of one From.
const maxAuthors = 100

// AuthorDomain is the domain of the author that a header names, in A-labels; ""
// where it does not name exactly one, and then the second result says why.
func AuthorDomain(header []byte) (domain, problem string) { return authorDomain(splitFields(header)) }

// authorDomain is the domain of a mail's author (RFC 9989 §5.3.1), in A-labels.
// Where there is not exactly one, or mail programs could read From in more than
// one way, it is "" and the second result says why.
func authorDomain(f *fields) (domain, problem string) {
	switch at := f.byName["from"]; len(at) {
	case 0:
		return "", "no From field"
	case 1:
		value := string(trimCRLF(f.list[at[0]].raw))
		domains, err := domainsOf(value[strings.IndexByte(value, ':')+1:])
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
			i += end
		case c < ' ' && c != '\t' && c != '\r' && c != '\n', c == 0x7f, c == '\\':
			return errFrom
		case p.inAngle && c == '>':
			p.addresses, p.inAngle = append(p.addresses, p.angle.String()), false
			p.angle.Reset()
		case p.inAngle && c == '<', !p.inAngle && c == '>', c == '<' && p.hadAngle:
			return errFrom
		case c == '<':
			p.inAngle, p.hadAngle = true, true
		case !p.inAngle && (c == ',' || c == ';'):
			p.end()
		case !p.inAngle && c == ':': // the name of a group ends
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
	p.end()
	return nil
}

func (p *addressReader) put(c byte) {
	if p.inAngle {
		p.angle.WriteByte(c)
	} else {
		p.item.WriteByte(c)
	}
}

// end ends one entry of the list. Without an angle bracket it is an address
// itself if it looks like one.
func (p *addressReader) end() {
	if !p.hadAngle && strings.Contains(p.item.String(), "@") {
		p.addresses = append(p.addresses, p.item.String())
	}
	p.item.Reset()
	p.hadAngle = false
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
	d, err := aLabels(stripFWS(domain))
	if err != nil {
		return "", errors.New("an address without a domain name in From")
	}
	return d, nil
}
