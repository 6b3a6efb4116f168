package sidecar

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
)

// Mail clients disagree about what is not written as the standards have it. So
// there can be several readings of a header, of a type, of a boundary; all of
// them are looked at, and that there are several is an anomaly.

func (h header) all(name string) (values []string) {
	for _, f := range h {
		if f.Name == name {
			values = append(values, f.Value)
		}
	}
	return values
}

// add appends what is not there yet.
func add(have []string, more ...string) []string {
	for _, m := range more {
		if !slices.Contains(have, m) {
			have = append(have, m)
		}
	}
	return have
}

// contentType is one reading of what a part says it is.
type contentType struct {
	kind   string
	params map[string]string
	line   string
}

func (t contentType) multipart() bool {
	return strings.HasPrefix(t.kind, "multipart/") || t.params["boundary"] != ""
}

// contentTypes are the types that a part says it has; usually one.
func contentTypes(h header) (types []contentType) {
	lines := h.all("content-type")
	if len(lines) == 0 {
		lines = []string{""}
	}
	for _, l := range add(nil, lines...) {
		kind, params := parseContentType(l)
		types = append(types, contentType{kind, params, l})
	}
	return types
}

// boundaries are those by which a body may be cut; usually one. What does not
// occur in the body is none, as long as another one does.
func boundaries(types []contentType, body []byte) (all []string) {
	for _, t := range types {
		for _, b := range add(nil, append([]string{t.params["boundary"]}, otherBoundaries(t.line)...)...) {
			if b = strings.TrimRight(b, " \t"); b != "" {
				all = add(all, b)
			}
		}
	}
	if len(all) < 2 {
		return all
	}
	cut := slices.DeleteFunc(slices.Clone(all), func(b string) bool {
		pieces, _ := cutBoundary(body, b, 1)
		return len(pieces) < 2
	})
	if len(cut) == 0 {
		return all[:1]
	}
	return cut
}

var boundaryValue = regexp.MustCompile(`(?i)boundary\s*=\s*(?:"((?:[^"\\]|\\.)*)"?|([^\s;]+))`)

// otherBoundaries are what a type may also be read to have for a boundary: a
// second parameter, one in a comment, a value cut at a character that would have
// to be quoted.
func otherBoundaries(line string) (all []string) {
	for _, m := range boundaryValue.FindAllStringSubmatch(line, 8) {
		all = append(all, m[1]+m[2])
		if strings.Contains(m[1], `\`) {
			all = append(all, unquote(`"`+m[1]+`"`))
		}
		if i := strings.IndexAny(m[2], "\"()<>@,\\/[]?"); i > 0 {
			all = append(all, m[2][:i])
		}
	}
	return all
}

// longerLines says whether body has lines that start with a boundary and go on,
// without being the boundary of a part inside: some clients cut there too.
func longerLines(body []byte, boundary string) bool {
	sep := []byte("--" + boundary)
	for at, n := 0, 0; n < 1000; {
		i := bytes.Index(body[at:], sep)
		if i < 0 {
			return false
		}
		if i += at; i == 0 || body[i-1] != '\n' {
			at = i + 1
			continue
		}
		n++
		at = i + len(sep)
		line := body[at:]
		if end := bytes.IndexByte(line, '\n'); end >= 0 {
			line = line[:end]
		}
		line = bytes.TrimRight(line, "\r \t")
		if len(line) == 0 || bytes.HasPrefix(line, []byte("--")) {
			continue
		}
		whole := append([]byte(boundary), bytes.TrimSuffix(line, []byte("--"))...)
		if !bytes.Contains(body, append([]byte{'"'}, whole...)) && !bytes.Contains(body, append([]byte{'='}, whole...)) {
			return true
		}
	}
	return true
}

// split is an entity in its two halves.
type split struct{ head, body []byte }

// otherHeads are the other places where a client may see the end of a header,
// and the header with what some take for line ends, or do not see at all.
func otherHeads(head, body []byte) (all []split, odd string) {
	if bytes.IndexByte(head, 0) >= 0 || bytes.Count(head, []byte{'\r'}) != bytes.Count(head, []byte("\r\n")) {
		odd = "a header with NUL or bare CR"
		whole := bytes.ReplaceAll(head, []byte("\r\n"), []byte("\n"))
		whole = bytes.ReplaceAll(whole, []byte("\r"), []byte("\n"))
		all = append(all, split{bytes.ReplaceAll(whole, []byte{0}, nil), body})
	}
	at := 0
	for line := range bytes.Lines(head) {
		l := bytes.TrimRight(line, "\r\n")
		blank := len(bytes.TrimSpace(l)) == 0
		fold := len(l) > 0 && (l[0] == ' ' || l[0] == '\t')
		junk := !fold && bytes.IndexByte(l, ':') <= 0 && !bytes.HasPrefix(l, []byte("From ")) && !bytes.HasPrefix(l, []byte(">From "))
		if at > 0 && (blank || junk) {
			odd = "a header with a line that may be its end"
			rest := append(append([]byte{}, head[at:]...), '\n')
			if blank {
				rest = rest[len(line):]
			}
			return append(all, split{head[:at], append(rest, body...)}), odd
		}
		at += len(line)
	}
	return all, odd
}
