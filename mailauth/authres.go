package mailauth

import "strings"

// methodResult is what an Authentication-Results says of one method.
type methodResult struct {
	method, result string            // lower case
	properties     map[string]string // "header.d" and such, also without a type, as Exchange writes "action"; "" where two differ
}

// parseResults reads the value of an Authentication-Results (RFC 8601 §2.2).
// Comments and quoted text are only that, whatever stands in them: much of it
// was written by the sender of the mail. A result that cannot be read is left
// out; false: nothing can be read.
func parseResults(s string) (authserv string, list []methodResult, ok bool) {
	pieces, ok := splitResults(s)
	if !ok || len(pieces[0]) == 0 || len(pieces[0]) > 2 || len(pieces[0]) == 2 && pieces[0][1] != (word{value: "1"}) {
		return "", nil, false
	}
	id := pieces[0][0]
	if id.name != "" || id.value == "" {
		return "", nil, false
	}
	for _, words := range pieces[1:] {
		if len(words) == 0 || words[0].name == "" {
			continue // "none", or nonsense
		}
		method, _, _ := strings.Cut(words[0].name, "/") // its version
		r := methodResult{method: method, result: strings.ToLower(words[0].value), properties: map[string]string{}}
		for _, w := range words[1:] {
			if have, twice := r.properties[w.name]; twice && have != w.value {
				w.value = ""
			}
			r.properties[w.name] = w.value
		}
		list = append(list, r)
	}
	return id.value, list, true
}

// word is a piece of a result: a value, or name=value.
type word struct{ name, value string }

// splitResults takes a value apart at the semicolons and white space that have a
// meaning. False where a comment or a quoted string does not end.
func splitResults(s string) ([][]word, bool) {
	pieces := [][]word{nil}
	var r wordReader
	end := func() {
		if w, ok := r.take(); ok {
			pieces[len(pieces)-1] = append(pieces[len(pieces)-1], w)
		}
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '(':
			n := skipComment(s[i:])
			if n < 0 {
				return nil, false
			}
			i += n
			r.gap = true
		case strings.IndexByte(fws, c) >= 0:
			r.gap = true
		case c == ';':
			end()
			pieces = append(pieces, nil)
		default:
			if r.parts(c) {
				end()
			}
			n := r.put(s[i:])
			if n < 0 {
				return nil, false
			}
			i += n
		}
	}
	end()
	return pieces, true
}

// wordReader puts one word together.
type wordReader struct {
	name, value strings.Builder
	equals      bool // name is complete
	valued      bool // and there is something behind it, if only ""
	any         bool
	gap         bool // white space or a comment since the last byte
}

// parts says whether a gap before c ends the word: there may be one on both
// sides of the first equals sign.
func (r *wordReader) parts(c byte) bool {
	gap := r.gap
	r.gap = false
	if !gap || !r.any {
		return false
	}
	if r.equals {
		return r.valued
	}
	return c != '='
}

// put takes the byte at the start of s, or all of a quoted string, and returns
// how many more it took; -1 where the string does not end.
func (r *wordReader) put(s string) int {
	r.any, r.valued = true, r.equals
	to := &r.value
	if !r.equals {
		to = &r.name
	}
	switch {
	case s[0] == '"':
		n := skipQuoted(s)
		if n < 0 {
			return -1
		}
		if !r.equals {
			to.WriteByte(quotedByte) // no name is quoted
		}
		for i := 1; i < n; i++ {
			if s[i] == '\\' && i+1 < n {
				i++
			}
			to.WriteByte(s[i])
		}
		return n
	case s[0] == '=' && !r.equals:
		r.equals = true
	default:
		to.WriteByte(s[0])
	}
	return 0
}

// take ends the word.
func (r *wordReader) take() (word, bool) {
	w := word{name: strings.ToLower(r.name.String()), value: r.value.String()}
	if !r.equals { // not a pair
		w.name, w.value = "", strings.Trim(r.name.String(), string(quotedByte))
	}
	any := r.any
	*r = wordReader{}
	return w, any
}
