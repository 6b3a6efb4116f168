package sidecar

import (
	"bytes"
	"encoding/base64"
	"regexp"
	"strings"
)

var headerComment = regexp.MustCompile(`\([^()]*\)`)

// encodings are the transfer encodings by which a part may be read, and what is
// odd about how it names them. Usually there is one.
func encodings(h header, ct string, body []byte) (names []string, odd string) {
	lines := h.all("content-transfer-encoding")
	if len(lines) > 1 {
		odd = "several content-transfer-encoding lines"
	}
	for _, line := range lines {
		raw := strings.ToLower(line)
		name := strings.Trim(headerComment.ReplaceAllString(raw, ""), " \t\"';,")
		name, _, _ = strings.Cut(name, ";")
		name = strings.Join(strings.Fields(name), "")
		if name != raw {
			odd = "a transfer encoding that is not written as it should be"
			names = add(names, "binary")
		}
		switch name {
		case "", "7bit", "8bit", "binary":
			names = add(names, "binary")
		case "base64", "quoted-printable":
			names = add(names, name)
		case "x-uuencode", "uuencode", "x-uue", "uue":
			names = add(names, "uuencode")
		default:
			odd = "an unknown transfer encoding"
			names = add(names, "binary", "base64", "quoted-printable")
		}
	}
	if len(lines) == 0 {
		names = []string{"binary"}
		if ct != "" && !strings.HasPrefix(ct, "text/") && !strings.HasPrefix(ct, "message/") && looksBase64(body) {
			return append(names, "base64"), "base64 that is not said to be base64"
		}
	}
	return names, odd
}

// looksBase64 says whether a body is lines of base64 and nothing else.
func looksBase64(body []byte) bool {
	if len(body) < 24 {
		return false
	}
	letters := 0
	for _, c := range body {
		switch {
		case base64Table[c] >= 0:
			letters++
		case c != '\r' && c != '\n' && c != '=':
			return false
		}
	}
	return letters >= 20
}

// decodings undoes a transfer encoding, in each way that mail clients have. odd
// names what a strict reader would have stumbled over.
func (b *buffers) decodings(name string, body []byte) (data [][]byte, odd string) {
	switch name {
	case "base64":
		return b.decodeBase64(body)
	case "quoted-printable":
		return [][]byte{decodeQP(body)}, ""
	case "uuencode":
		if u := uuParts(body); len(u) > 0 {
			return [][]byte{u[0].data}, ""
		}
		return [][]byte{body}, "uuencode that does not decode"
	default:
		return [][]byte{body}, ""
	}
}

// decodeCTE is the most usual of the decodings.
func decodeCTE(cte string, body []byte) (data []byte, odd string) {
	all, odd := (*buffers)(nil).decodings(cte, body)
	return all[0], odd
}

var base64Table = func() (t [256]int8) {
	for i := range t {
		t[i] = -1
	}
	for i, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/" {
		t[c] = int8(i)
	}
	return t
}()

// decodeBase64 reads on where strict decoders stop. Where the body is no clean
// base64, there are more readings: one that stops at the padding, and one that
// takes padding for junk.
func (b *buffers) decodeBase64(body []byte) (data [][]byte, odd string) {
	// The usual case is clean, and fast: lines of base64 that end in CRLF.
	out := b.get(base64.StdEncoding.DecodedLen(len(body)))
	if n, err := DecodeLines(out, body); err == nil {
		return [][]byte{out[:n]}, ""
	}
	compact := make([]byte, 0, len(body))
	for _, c := range body {
		if c != '\r' && c != '\n' && c != ' ' && c != '\t' {
			compact = append(compact, c)
		}
	}
	if n, err := base64.StdEncoding.Decode(out, compact); err == nil {
		return [][]byte{out[:n]}, ""
	}
	whole, stop, junk := base64Resuming(out[:0], compact)
	if junk {
		odd = "base64 with foreign characters"
	}
	if stop < 0 {
		return [][]byte{whole}, odd
	}
	return [][]byte{whole, whole[:stop], base64Ignoring(compact)}, "base64 with padding in the middle"
}

// base64Resuming skips junk and goes on behind padding. stop is how much there
// was before padding that more follows, or -1.
func base64Resuming(out, compact []byte) (data []byte, stop int, junk bool) {
	var acc uint32
	bits, padded := 0, -1
	stop = -1
	for _, c := range compact {
		v := base64Table[c]
		switch {
		case v >= 0:
			if padded >= 0 && stop < 0 {
				stop = padded
			}
			acc, bits = acc<<6|uint32(v), bits+6
			if bits >= 8 {
				bits -= 8
				out = append(out, byte(acc>>bits))
			}
		case c == '=':
			acc, bits = 0, 0
			if padded < 0 {
				padded = len(out)
			}
		default:
			junk = true
		}
	}
	return out, stop, junk
}

// base64Ignoring takes padding for junk, so that the bits run on over it.
func base64Ignoring(compact []byte) []byte {
	out := make([]byte, 0, base64.StdEncoding.DecodedLen(len(compact)))
	var acc uint32
	bits := 0
	for _, c := range compact {
		if v := base64Table[c]; v >= 0 {
			acc, bits = acc<<6|uint32(v), bits+6
			if bits >= 8 {
				bits -= 8
				out = append(out, byte(acc>>bits))
			}
		}
	}
	return out
}

// decodeQP decodes quoted-printable; what is no escape stays.
func decodeQP(body []byte) []byte {
	out := make([]byte, 0, len(body))
	for {
		i := bytes.IndexByte(body, '=')
		if i < 0 {
			return append(out, body...)
		}
		out = append(out, body[:i]...)
		body = body[i+1:]
		if len(body) >= 2 {
			if hi, lo := unhex(body[0]), unhex(body[1]); hi >= 0 && lo >= 0 {
				out = append(out, byte(hi<<4|lo))
				body = body[2:]
				continue
			}
		}
		// A soft line break, also with blanks before the line end.
		j := 0
		for j < len(body) && (body[j] == ' ' || body[j] == '\t' || body[j] == '\r') {
			j++
		}
		if j < len(body) && body[j] == '\n' {
			body = body[j+1:]
			continue
		}
		out = append(out, '=')
	}
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
