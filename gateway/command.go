package gateway

import (
	"bytes"
	"slices"
	"strings"
)

// verbs are what a client may say. go-smtp answers each of them.
var verbs = []string{"EHLO", "HELO", "LHLO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "VRFY", "EXPN", "HELP", "QUIT", "STARTTLS"}

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

// hugeSize says whether MAIL declares a size of more digits than any limit has.
func hugeSize(line []byte) bool {
	for _, word := range bytes.Fields(line) {
		if digits, ok := bytes.CutPrefix(bytes.ToUpper(word), []byte("SIZE=")); ok {
			digits = bytes.TrimLeft(digits, "0")
			return len(digits) > 9 && len(bytes.Trim(digits, "0123456789")) == 0
		}
	}
	return false
}

// takeORCPT takes an ORCPT of a type out of RCPT that go-smtp does not know, such
// as x400: the types are an open list, and are passed on as they are (RFC 3461
// §4.2).
func takeORCPT(line []byte) (rest []byte, orcpt string) {
	path := bytes.LastIndexByte(line, '>') + 1
	for word := range bytes.FieldsSeq(line[path:]) {
		name, value, _ := strings.Cut(string(word), "=")
		kind, address, ok := strings.Cut(value, ";")
		if !strings.EqualFold(name, "ORCPT") || !ok || strings.EqualFold(kind, "rfc822") || strings.EqualFold(kind, "utf-8") || !isAtom(kind) || !isXtext(address) {
			continue
		}
		at := path + bytes.Index(line[path:], word)
		return slices.Concat(line[:at], line[at+len(word):]), value
	}
	return line, ""
}

func isAtom(s string) bool { return s != "" && strings.Trim(s, letters) == "" }

// isXtext: RFC 3461 §4.
func isXtext(s string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+' && (i+2 >= len(s) || strings.Trim(s[i+1:i+3], "0123456789ABCDEF") != ""), c < '!', c > '~', c == '=':
			return false
		}
	}
	return s != ""
}
