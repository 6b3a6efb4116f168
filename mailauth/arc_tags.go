package mailauth

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxTags bounds a tag list. The longest list in use has about fifteen.
const maxTags = 50

// tags is a tag list of RFC 6376 §3.2: DKIM-Signature, the ARC fields and key
// records are written in it. Names are case-sensitive, values are trimmed.
type tags map[string]string

// parseTags reads a tag list. One bad or doubled tag makes the whole list bad,
// as RFC 6376 §3.2 says; unknown tags are kept and ignored by all readers.
func parseTags(s string) (tags, error) {
	t := tags{}
	for len(s) > 0 {
		spec, rest, more := strings.Cut(s, ";")
		s = rest
		name, value, ok := strings.Cut(spec, "=")
		name, value = trimFWS(name), trimFWS(value)
		if !ok {
			if name == "" && !more && len(t) > 0 {
				break // white space after the last semicolon
			}
			return nil, errors.New("malformed tag list")
		}
		if !tagName(name) {
			return nil, errors.New("malformed tag name")
		}
		if _, twice := t[name]; twice {
			return nil, fmt.Errorf("tag %s twice", name)
		}
		if !tagValue(value) {
			return nil, fmt.Errorf("tag %s has a bad value", name)
		}
		if t[name] = value; len(t) > maxTags {
			return nil, errors.New("too many tags")
		}
	}
	return t, nil
}

func tagName(s string) bool {
	for i, c := range []byte(s) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || (c < '0' || c > '9') && c != '_') {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// tagValue holds what RFC 6376 §3.2 lets stand in a value: printable ASCII and
// folding white space. Bytes above 127 are let through in tags nobody reads
// (a note n= in a key record); the readers of the others check their own.
func tagValue(s string) bool {
	for _, c := range []byte(s) {
		if c < 0x20 && c != '\t' && c != '\r' && c != '\n' || c == 0x7f {
			return false
		}
	}
	return true
}

// withoutSignature is a field with the value of its b= tag left out, the rest
// kept byte for byte (RFC 6376 §3.7), and without its last CRLF.
func withoutSignature(raw []byte) []byte {
	raw = trimCRLF(raw)
	start := strings.IndexByte(string(raw), ':') + 1
	for start <= len(raw) {
		end := len(raw)
		if i := strings.IndexByte(string(raw[start:]), ';'); i >= 0 {
			end = start + i
		}
		spec := string(raw[start:end])
		if name, _, ok := strings.Cut(spec, "="); ok && trimFWS(name) == "b" {
			out := append([]byte(nil), raw[:start+len(name)+1]...)
			return append(out, raw[end:]...)
		}
		start = end + 1
	}
	return raw
}

// base64Tag decodes a value in which white space may stand anywhere, and which
// need not be filled up with = (RFC 6376 §2.10).
func (t tags) base64Tag(name string) ([]byte, error) {
	v := stripFWS(t[name])
	if v == "" {
		return nil, fmt.Errorf("no %s=", name)
	}
	bare := strings.TrimRight(v, "=")
	b, err := base64.RawStdEncoding.DecodeString(bare)
	if err != nil || len(v)-len(bare) > 2 {
		return nil, fmt.Errorf("%s= is no base64", name)
	}
	return b, nil
}

// number reads a count of seconds (t=, x=); ok is false where there is none.
func (t tags) number(name string) (n int64, ok bool, err error) {
	v, ok := t[name]
	if !ok {
		return 0, false, nil
	}
	if len(v) == 0 || len(v) > 12 || strings.Trim(v, "0123456789") != "" {
		return 0, true, fmt.Errorf("%s= is no time", name)
	}
	n, err = strconv.ParseInt(v, 10, 64)
	return n, true, err
}

// instance reads i= of an ARC field: 1 to 50 (RFC 8617 §4.2.1).
func instance(v string) (int, error) {
	if len(v) == 0 || len(v) > 2 || strings.Trim(v, "0123456789") != "" {
		return 0, errors.New("bad instance")
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > maxInstances {
		return 0, errors.New("bad instance")
	}
	return n, nil
}

// resultsInstance reads i= at the start of an ARC-Authentication-Results, where
// comments may stand (RFC 8617 §4.1.1), and returns what follows: an
// Authentication-Results.
func resultsInstance(value string) (n int, results string, ok bool) {
	s := skipCFWS(value)
	if s, ok = strings.CutPrefix(s, "i"); !ok {
		return 0, "", false
	}
	if s, ok = strings.CutPrefix(skipCFWS(s), "="); !ok {
		return 0, "", false
	}
	s = skipCFWS(s)
	rest := strings.TrimLeft(s, "0123456789")
	n, err := instance(s[:len(s)-len(rest)])
	if rest, ok = strings.CutPrefix(skipCFWS(rest), ";"); !ok || err != nil {
		return 0, "", false
	}
	return n, trimFWS(rest), true
}

// skipCFWS is s without the white space and comments at its start.
func skipCFWS(s string) string {
	for {
		s = strings.TrimLeft(s, fws)
		if !strings.HasPrefix(s, "(") {
			return s
		}
		end := skipComment(s)
		if end < 0 {
			return ""
		}
		s = s[end+1:]
	}
}

// dnsName says whether s can be asked for in the DNS. Underscores are let
// through: selectors have them.
func dnsName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

const fws = " \t\r\n"

func trimFWS(s string) string { return strings.Trim(s, fws) }

func stripFWS(s string) string {
	if !strings.ContainsAny(s, fws) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(fws, r) {
			return -1
		}
		return r
	}, s)
}
