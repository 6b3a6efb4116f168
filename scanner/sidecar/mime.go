package sidecar

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/html/charset"
)

// header is the fields of one entity: names in lower case, values unfolded, in
// the order of the mail.
type header []HeaderField

func (h header) get(name string) string {
	for _, f := range h {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

func (h header) count(name string) (n int) {
	for _, f := range h {
		if f.Name == name {
			n++
		}
	}
	return n
}

// splitHeader cuts an entity at its first empty line. Bare LF counts as a line
// end here: mail clients take it for one.
func splitHeader(data []byte) (head, body []byte) {
	if bytes.HasPrefix(data, []byte("\r\n")) {
		return nil, data[2:]
	}
	if bytes.HasPrefix(data, []byte("\n")) {
		return nil, data[1:]
	}
	// Line by line: a search for either kind of empty line would run through all of the body.
	for at := 0; ; {
		i := bytes.IndexByte(data[at:], '\n')
		if i < 0 {
			return data, nil
		}
		at += i + 1
		switch rest := data[at:]; {
		case bytes.HasPrefix(rest, []byte("\r\n")):
			return data[:at], rest[2:]
		case bytes.HasPrefix(rest, []byte("\n")):
			return data[:at], rest[1:]
		}
	}
}

// maxFields bounds what is remembered of a header; its bytes are bounded before.
const maxFields = 5000

func parseHeader(head []byte) header {
	var h header
	for line := range bytes.Lines(head) {
		l := strings.TrimRight(string(line), "\r\n")
		if len(l) > 0 && (l[0] == ' ' || l[0] == '\t') && len(h) > 0 {
			h[len(h)-1].Value += " " + strings.TrimSpace(l)
			continue
		}
		name, value, ok := strings.Cut(l, ":")
		if !ok || len(h) >= maxFields {
			continue
		}
		h = append(h, HeaderField{Name: strings.ToLower(strings.TrimSpace(name)), Value: strings.TrimSpace(value)})
	}
	return h
}

var wordDecoder = mime.WordDecoder{CharsetReader: func(cs string, r io.Reader) (io.Reader, error) { return charset.NewReaderLabel(cs, r) }}

// decodeWords decodes RFC 2047 words; what does not decode stays as it is.
func decodeWords(s string) string {
	out, err := wordDecoder.DecodeHeader(s)
	if err != nil {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	return strings.ToValidUTF8(out, "\uFFFD")
}

var boundaryParam = regexp.MustCompile(`(?i)boundary\s*=\s*(?:"([^"]*)"?|([^\s;]+))`)

// parseContentType reads a type and its parameters, as forgivingly as mail
// clients do: broken quotes, missing semicolons and RFC 2231 pieces included.
func parseContentType(v string) (string, map[string]string) {
	params := map[string]string{}
	ct, rest, _ := strings.Cut(v, ";")
	ct = strings.ToLower(strings.TrimSpace(ct))
	if i := strings.IndexAny(ct, " \t("); i >= 0 {
		ct = ct[:i]
	}
	pieces := map[string]string{}
	for _, p := range splitParams(rest) {
		k, val, ok := strings.Cut(p, "=")
		if !ok {
			continue
		}
		k, val = strings.ToLower(strings.TrimSpace(k)), unquote(strings.TrimSpace(val))
		if base, n, star := rfc2231(k); n >= 0 || star {
			if star {
				val = percentDecode(val, n <= 0)
			}
			if n < 0 {
				n = 0
			}
			pieces[base+"*"+strconv.Itoa(n)] = val
			continue
		}
		if _, dup := params[k]; !dup {
			params[k] = val
		}
	}
	for k := range pieces {
		base, n, _ := strings.Cut(k, "*")
		if n != "0" {
			continue
		}
		var b strings.Builder
		for i := 0; i < 100; i++ {
			val, ok := pieces[base+"*"+strconv.Itoa(i)]
			if !ok {
				break
			}
			b.WriteString(val)
		}
		params[base] = b.String()
	}
	if params["boundary"] == "" {
		if m := boundaryParam.FindStringSubmatch(v); m != nil {
			params["boundary"] = strings.TrimSpace(m[1] + m[2])
		}
	}
	if params["boundary"] == "" {
		delete(params, "boundary")
	}
	return ct, params
}

// splitParams cuts at semicolons that are not in quotes.
func splitParams(s string) []string {
	var out []string
	quoted, start := false, 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quoted:
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ';' && !quoted:
			out = append(out, s[start:i])
			start = i + 1
		}
	}
	return append(out, s[start:])
}

func unquote(s string) string {
	if !strings.HasPrefix(s, `"`) {
		return s
	}
	var b strings.Builder
	for i := 1; i < len(s) && s[i] != '"'; i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// rfc2231 reads name*, name*0 and name*0*: the name, the number (-1: none), and
// whether the value is encoded.
func rfc2231(k string) (base string, n int, encoded bool) {
	base, rest, ok := strings.Cut(k, "*")
	if !ok {
		return k, -1, false
	}
	if rest == "" {
		return base, -1, true
	}
	rest, encoded = strings.CutSuffix(rest, "*")
	n, err := strconv.Atoi(rest)
	if err != nil || n < 0 {
		return base, -1, encoded
	}
	return base, n, encoded
}

func percentDecode(s string, first bool) string {
	if first {
		if parts := strings.SplitN(s, "'", 3); len(parts) == 3 {
			s = parts[2]
		}
	}
	if d, err := url.PathUnescape(s); err == nil {
		return strings.ToValidUTF8(d, "\uFFFD")
	}
	return s
}

// guessBoundary finds the boundary of a multipart that does not name it: the
// first line that looks like one.
func guessBoundary(body []byte) string {
	for line := range bytes.Lines(body[:min(len(body), 64<<10)]) {
		l := strings.TrimRight(string(line), "\r\n \t")
		if strings.HasPrefix(l, "--") && len(l) > 4 && len(l) < 200 {
			return l[2:]
		}
	}
	return ""
}

// cutBoundary cuts a body at the lines that start with its boundary, into at
// most limit pieces: preamble, parts and, when it is terminated, what follows.
func cutBoundary(body []byte, boundary string, limit int) (pieces [][]byte, terminated bool) {
	sep := []byte("--" + strings.TrimRight(boundary, " \t"))
	start, at := 0, 0
	for len(pieces) < limit {
		i := bytes.Index(body[at:], sep)
		if i < 0 {
			break
		}
		i += at
		if i > 0 && body[i-1] != '\n' {
			at = i + 1
			continue
		}
		end := i + len(sep)
		lineEnd := bytes.IndexByte(body[end:], '\n')
		if lineEnd < 0 {
			lineEnd = len(body) - end
		} else {
			lineEnd++
		}
		tail := bytes.TrimRight(body[end:end+lineEnd], "\r\n \t")
		if len(tail) > 0 && !bytes.HasPrefix(tail, []byte("--")) {
			at = i + 1 // A longer boundary that starts like this one.
			continue
		}
		pieces = append(pieces, bytes.TrimSuffix(bytes.TrimSuffix(body[start:i], []byte("\n")), []byte("\r")))
		start, at = end+lineEnd, end+lineEnd
		if bytes.HasPrefix(tail, []byte("--")) {
			return append(pieces, body[start:]), true
		}
	}
	return append(pieces, body[start:]), false
}

// decodeCTE undoes the transfer encoding. odd names what a strict reader would
// have stumbled over.
func decodeCTE(cte string, body []byte) (data []byte, odd string) {
	switch cte {
	case "base64":
		return decodeBase64(body)
	case "quoted-printable":
		return decodeQP(body), ""
	case "", "7bit", "8bit", "binary":
		return body, ""
	case "x-uuencode", "uuencode", "x-uue":
		if u := uuParts(body); len(u) > 0 {
			return u[0].data, ""
		}
		return body, "uuencode that does not decode"
	default:
		return body, "an unknown transfer encoding"
	}
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

// decodeBase64 reads on where strict decoders stop: junk is skipped, and after
// padding in the middle it goes on with what follows.
func decodeBase64(body []byte) (data []byte, odd string) {
	// The usual case is clean, and fast: lines of base64 that end in CRLF.
	out := make([]byte, base64.StdEncoding.DecodedLen(len(body)))
	if n, err := base64.StdEncoding.Decode(out, body); err == nil {
		return out[:n], ""
	}
	compact := make([]byte, 0, len(body))
	for _, c := range body {
		if c != '\r' && c != '\n' && c != ' ' && c != '\t' {
			compact = append(compact, c)
		}
	}
	if n, err := base64.StdEncoding.Decode(out, compact); err == nil {
		return out[:n], ""
	}
	out = out[:0]
	var acc uint32
	bits := 0
	for i, c := range compact {
		v := base64Table[c]
		switch {
		case v >= 0:
			acc, bits = acc<<6|uint32(v), bits+6
			if bits >= 8 {
				bits -= 8
				out = append(out, byte(acc>>bits))
			}
		case c == '=':
			acc, bits = 0, 0
			if slices.ContainsFunc(compact[i:], func(c byte) bool { return base64Table[c] >= 0 }) {
				odd = "base64 with padding in the middle"
			}
		default:
			odd = "base64 with foreign characters"
		}
	}
	return out, odd
}

// decodeQP decodes quoted-printable; what is no escape stays.
func decodeQP(body []byte) []byte {
	out := make([]byte, 0, len(body))
	for i := 0; i < len(body); i++ {
		if body[i] != '=' {
			out = append(out, body[i])
			continue
		}
		rest := body[i+1:]
		if len(rest) >= 2 {
			if v, err := strconv.ParseUint(string(rest[:2]), 16, 8); err == nil {
				out = append(out, byte(v))
				i += 2
				continue
			}
		}
		// A soft line break, also with blanks before the line end.
		j := 0
		for j < len(rest) && (rest[j] == ' ' || rest[j] == '\t' || rest[j] == '\r') {
			j++
		}
		if j < len(rest) && rest[j] == '\n' {
			i += j + 1
			continue
		}
		out = append(out, '=')
	}
	return out
}

type uuPart struct {
	name string
	data []byte
}

var uuBegin = regexp.MustCompile(`(?m)^begin(?:-base64)? [0-7]{3,4} ([^\r\n]{1,200})\r?$`)

// uuParts finds uuencoded files in text: mail clients show them as attachments.
func uuParts(data []byte) []uuPart {
	if !bytes.Contains(data, []byte("begin")) {
		return nil
	}
	var out []uuPart
	for _, m := range uuBegin.FindAllSubmatchIndex(data, 20) {
		var b []byte
		for line := range bytes.Lines(data[min(m[1]+1, len(data)):]) {
			line = bytes.TrimRight(line, "\r\n")
			if len(line) == 0 || bytes.Equal(line, []byte("end")) || line[0] < 0x20 || line[0] > 0x60 {
				break
			}
			n := int(line[0]-0x20) & 0x3f
			if n == 0 {
				break
			}
			b = append(b, uuLine(line[1:], n)...)
		}
		if len(b) > 0 {
			out = append(out, uuPart{name: string(data[m[2]:m[3]]), data: b})
		}
	}
	return out
}

func uuLine(s []byte, n int) []byte {
	out := make([]byte, 0, n+3)
	for i := 0; i < len(s) && len(out) < n; i += 4 {
		var q [4]byte
		for j := range q {
			if i+j < len(s) {
				q[j] = (s[i+j] - 0x20) & 0x3f
			}
		}
		out = append(out, q[0]<<2|q[1]>>4, q[1]<<4|q[2]>>2, q[2]<<6|q[3])
	}
	return out[:min(n, len(out))]
}
