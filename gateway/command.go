package gateway

import (
	"bytes"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"mailward/internal/message"
)

// verbs are what a client may say. go-smtp answers each of them, but the last two.
var verbs = []string{"EHLO", "HELO", "LHLO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "VRFY", "EXPN", "HELP", "QUIT", "STARTTLS", "XFORWARD"}

// blanks is what may stand at the end of a command.
const blanks = " \t\r\n"

func verbOf(line []byte) string {
	word, _, _ := bytes.Cut(bytes.TrimRight(line, blanks), []byte(" "))
	if len(word) > 8 {
		return ""
	}
	return strings.ToUpper(string(word))
}

// badLine says what makes a line no command at all.
func badLine(line []byte) error {
	if bytes.IndexByte(bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r")), '\r') >= 0 || bytes.IndexByte(line, 0) >= 0 {
		return errCommandBytes
	}
	verb := verbOf(line)
	switch verb {
	case "GET", "POST", "PUT", "HEAD", "CONNECT", "OPTIONS", "HOST:", "PROXY":
		// A browser or a proxy that was made to talk to us: what follows is its body.
		return errNotSMTP
	case "AUTH":
		return errNoAuth
	}
	if !slices.Contains(verbs, verb) {
		return errUnknownCommand
	}
	return nil
}

func chunkSize(line []byte) (int64, error) {
	var n int64
	fields := bytes.Fields(line)
	if len(fields) < 2 || len(fields) > 3 || len(fields) == 3 && !bytes.EqualFold(fields[2], []byte("LAST")) || len(fields[1]) > 10 {
		return 0, errChunkSize
	}
	for _, d := range fields[1] {
		if d < '0' || d > '9' {
			return 0, errChunkSize
		}
		n = n*10 + int64(d-'0')
	}
	if n >= 1<<32 {
		return 0, errChunkSize // go-smtp counts in 32 bits.
	}
	return n, nil
}

// Lengths of parameters (RFC 3461 §4.2 and §4.4), as they are on the wire.
const (
	envIDLimit = 100
	orcptLimit = 500
)

// badParameter says what is wrong with the parameters of MAIL or RCPT that
// go-smtp would not mind, or would take for another mistake.
func badParameter(line []byte) error {
	var seen []string
	for word := range bytes.FieldsSeq(line[pathEnd(line):]) {
		name, value, _ := strings.Cut(string(word), "=")
		name = strings.ToUpper(name)
		if slices.Contains(seen, name) {
			return errTwice // Which of them counts would be anybody's guess.
		}
		seen = append(seen, name)
		switch {
		case name == "SIZE" && isHuge(value):
			return message.ErrTooBig // RFC 1870 §6.1: too big, however big.
		case name == "ENVID" && len(value) > envIDLimit, name == "ORCPT" && len(value) > orcptLimit:
			return errLongParameter
		}
	}
	return nil
}

// isHuge says whether a size has more digits than any limit.
func isHuge(digits string) bool {
	digits = strings.TrimLeft(digits, "0")
	return len(digits) > 9 && strings.Trim(digits, "0123456789") == ""
}

// pathEnd is where the path of MAIL or RCPT ends and its parameters begin. A
// quoted local part may have a > in it, and so may a parameter (AUTH=<>).
func pathEnd(line []byte) int {
	i, quoted := bytes.IndexByte(line, '<'), false
	if _, rest, ok := bytes.Cut(line, []byte{':'}); ok && i < 0 {
		rest = bytes.TrimLeft(rest, blanks) // without brackets, as some say it
		if end := bytes.IndexAny(rest, blanks); end >= 0 {
			return len(line) - len(rest) + end
		}
		return len(line)
	}
	for ; i >= 0 && i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == '>' && !quoted:
			return i + 1
		}
	}
	return len(line) // No path: go-smtp says so.
}

// takeORCPT takes ORCPT out of RCPT, to be passed on as it is. go-smtp knows few
// of its types, such as x400, and they are an open list (RFC 3461 §4.2); nor does
// it know bytes above 127 in xtext, as Postfix writes them for an address that
// needs SMTPUTF8. What is malformed it is left to refuse, and so is utf-8, which is no
// xtext (RFC 6533 §3).
func takeORCPT(line []byte) (rest []byte, orcpt string) {
	path := pathEnd(line)
	for word := range bytes.FieldsSeq(line[path:]) {
		name, value, _ := strings.Cut(string(word), "=")
		kind, address, ok := strings.Cut(value, ";")
		if !strings.EqualFold(name, "ORCPT") || !ok || strings.EqualFold(kind, "utf-8") || !isAtom(kind) || !isXtext(address) {
			continue
		}
		at := path + bytes.Index(line[path:], word)
		return slices.Concat(line[:at], line[at+len(word):]), value
	}
	return line, ""
}

// wholePostmaster gives the postmaster without a domain (RFC 5321 §4.5.1) ours:
// go-smtp knows no address without one.
func (c *wire) wholePostmaster(line []byte) []byte {
	const short = "<postmaster>"
	if i := bytes.IndexByte(line, '<'); i >= 0 && len(line) >= i+len(short) && bytes.EqualFold(line[i:i+len(short)], []byte(short)) {
		return slices.Concat(line[:i], []byte("<postmaster@"+c.opt.hostname+">"), line[i+len(short):])
	}
	return line
}

// pathsAhead are the recipients that the client has sent already, as they are
// on the wire, up to the first command that is another one. They are not taken,
// and those that are not simple are left out. Only the goroutine that reads may call it.
func (c *wire) pathsAhead() (paths []string) {
	for rest := c.buf[c.r:c.w]; ; {
		line, more, ok := bytes.Cut(rest, []byte{'\n'})
		if !ok || verbOf(line[:min(len(line), len("RCPT "))]) != "RCPT" {
			return paths
		}
		rest = more
		_, path, _ := bytes.Cut(line, []byte{'<'})
		path, _, ok = bytes.Cut(path, []byte{'>'})
		if ok && !bytes.ContainsAny(path, `"\`) {
			paths = append(paths, string(path))
		}
	}
}

func isAtom(s string) bool { return s != "" && strings.Trim(s, letters) == "" }

// isXtext: RFC 3461 §4. What it stands for may be UTF-8, but has no control
// characters.
func isXtext(s string) bool {
	v, ok := message.FromXtext(s)
	return ok && v != "" && utf8.ValidString(v) && !strings.ContainsFunc(v, unicode.IsControl)
}
