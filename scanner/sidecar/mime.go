package sidecar

import (
	"bytes"
	"io"
	"mime"
	"net/url"
	"regexp"
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
// What says how a part is to be read is remembered even behind that.
const maxFields = 5000

func parseHeader(head []byte) header {
	var h header
	var folded strings.Builder // of the last field, so that many folds cost no more than their bytes
	end := func() {
		if len(h) > 0 && folded.Len() > 0 {
			h[len(h)-1].Value = strings.TrimSpace(h[len(h)-1].Value + folded.String())
			folded.Reset()
		}
	}
	kept := true
	for line := range bytes.Lines(head) {
		l := strings.TrimRight(string(line), "\r\n")
		if len(l) > 0 && (l[0] == ' ' || l[0] == '\t') && len(h) > 0 {
			if kept {
				folded.WriteByte(' ')
				folded.WriteString(strings.TrimSpace(l))
			}
			continue
		}
		name, value, ok := strings.Cut(l, ":")
		if !ok {
			continue
		}
		name = strings.ToLower(strings.TrimSpace(name))
		if kept = len(h) < maxFields || strings.HasPrefix(name, "content-") || name == "from" || name == "reply-to" || name == "subject"; !kept {
			continue
		}
		end()
		h = append(h, HeaderField{Name: name, Value: strings.TrimSpace(value)})
	}
	end()
	return h
}

var wordDecoder = mime.WordDecoder{CharsetReader: func(cs string, r io.Reader) (io.Reader, error) { return charset.NewReaderLabel(cs, r) }}

// wordsMost bounds what is decoded of one field, in bytes: no client shows more.
const wordsMost = 64 << 10

// brokenWord is an encoded word whose base64 lacks its padding, which clients forgive.
var brokenWord = regexp.MustCompile(`=\?[^?\s]{1,40}\?[bB]\?([A-Za-z0-9+/]+)=?\?=`)

// decodeWords decodes RFC 2047 words; what does not decode stays as it is.
func decodeWords(s string) string {
	if !strings.Contains(s, "=?") || len(s) > wordsMost {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	s = brokenWord.ReplaceAllStringFunc(s, func(word string) string {
		i := strings.LastIndexByte(word[:len(word)-2], '?') + 1
		text := strings.TrimRight(word[i:len(word)-2], "=")
		return word[:i] + text + strings.Repeat("=", (4-len(text)%4)%4) + "?="
	})
	out, err := wordDecoder.DecodeHeader(s)
	if err != nil {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	return strings.ToValidUTF8(out, "\uFFFD")
}

// again is behind the name of a parameter that has another value as well: the last
// one of the same name, or the plain one beside that of RFC 2231.
const again = " again"

// wordRun is encoded words in a row: the white space between them counts for nothing.
var wordRun = regexp.MustCompile(`=\?[^?\s]{1,40}\?[bBqQ]\?[^?]*\?=(?:\s+=\?[^?\s]{1,40}\?[bBqQ]\?[^?]*\?=)*`)

var quoteEscaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// decodeAddresses is decodeWords for a list of addresses. What an encoded word
// holds is part of a name (RFC 2047 §5), whatever it looks like: it is quoted
// where a reader could take it for an address, a comment or the end of one.
func decodeAddresses(s string) string {
	if !strings.Contains(s, "=?") || len(s) > wordsMost {
		return decodeWords(s)
	}
	var b strings.Builder
	at, inside := 0, false
	for _, m := range wordRun.FindAllStringIndex(s, -1) {
		between, word := s[at:m[0]], s[m[0]:m[1]]
		for i := 0; i < len(between); i++ {
			switch between[i] {
			case '\\':
				i++
			case '"':
				inside = !inside
			}
		}
		b.WriteString(between)
		text := decodeWords(word)
		switch {
		case text == word:
			b.WriteString(word)
		case inside:
			b.WriteString(quoteEscaper.Replace(text))
		case strings.ContainsAny(text, "()<>[]:;@,\"\\"):
			b.WriteString(`"` + quoteEscaper.Replace(text) + `"`)
		default:
			b.WriteString(text)
		}
		at = m[1]
	}
	b.WriteString(s[at:])
	return strings.ToValidUTF8(b.String(), "\uFFFD")
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
		if _, dup := params[k]; dup {
			k += again
		}
		params[k] = val
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
		if plain := params[base]; plain != "" && plain != b.String() {
			params[base+again] = plain // Clients that do not know RFC 2231 take this one.
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
	label := ""
	if first {
		if parts := strings.SplitN(s, "'", 3); len(parts) == 3 {
			label, s = parts[0], parts[2]
		}
	}
	d, err := url.PathUnescape(s)
	if err != nil {
		return s
	}
	if label != "" && !strings.EqualFold(label, "utf-8") && len(d) < wordsMost {
		return toUTF8([]byte(d), label)
	}
	return strings.ToValidUTF8(d, "\uFFFD")
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
	return cutLines(body, boundary, limit, false)
}

// cutLines is cutBoundary for strict clients and for lax ones, which take every
// line that starts like the boundary for one.
func cutLines(body []byte, boundary string, limit int, lax bool) (pieces [][]byte, terminated bool) {
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
		if len(tail) > 0 && !bytes.HasPrefix(tail, []byte("--")) && !lax {
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
