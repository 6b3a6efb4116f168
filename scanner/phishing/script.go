package phishing

import (
	_ "embed"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

//go:embed confusables.txt
var confusablesTXT string

// confusables are letters that look like Latin ones (UTS #39).
var confusables = func() *strings.Replacer {
	var pairs []string
	for line := range strings.Lines(confusablesTXT) {
		like, letters, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || like == "#" {
			continue
		}
		for _, r := range letters {
			pairs = append(pairs, string(r), like)
		}
	}
	return strings.NewReplacer(pairs...)
}()

// plain is text for comparing: small letters, one blank, no marks, and letters
// that look like Latin ones as those.
func plain(s string) string {
	if out, ok := plainASCII(s); ok {
		return out
	}
	s = strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) || unicode.Is(unicode.Cf, r) {
			return -1
		}
		if r == '’' || r == '‘' {
			return '\''
		}
		return r
	}, norm.NFKD.String(strings.ToLower(s)))
	return strings.Join(strings.Fields(confusables.Replace(s)), " ")
}

// plainASCII is plain for ASCII, in one go; false: s has other letters.
func plainASCII(s string) (string, bool) {
	out := make([]byte, 0, len(s))
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 0x80:
			return "", false
		case c >= 'A' && c <= 'Z':
			out = append(out, c+'a'-'A')
		case c != ' ' && (c < '\t' || c > '\r'):
			out = append(out, c)
		case len(out) > 0 && out[len(out)-1] != ' ':
			out = append(out, ' ')
		}
	}
	return strings.TrimSuffix(string(out), " "), true
}

// mixed is a word of s in which letters of several alphabets look like one, or
// with marks that belong to another alphabet.
func mixed(s string) (string, bool) {
	for word := range strings.FieldsSeq(s) {
		latin, other := false, false
		for _, r := range word {
			switch {
			case unicode.Is(unicode.Latin, r):
				latin = true
			case unicode.In(r, unicode.Cyrillic, unicode.Greek, unicode.Armenian, unicode.Arabic, unicode.Hebrew):
				other = true
			case latin && unicode.Is(unicode.Mn, r) && !(r >= 0x300 && r <= 0x36f):
				other = true // a mark of another alphabet on a Latin letter
			}
		}
		// One µ or Ω beside a unit is physics.
		if latin && other && len([]rune(word)) > 2 {
			return word, true
		}
	}
	return "", false
}

// similar says whether a differs from b in one place, or in two that are swapped.
func similar(a, b string) bool {
	if a == b || len(a) < len(b)-1 || len(a) > len(b)+1 {
		return false
	}
	i, j := 0, 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	for j < min(len(a), len(b))-i && a[len(a)-1-j] == b[len(b)-1-j] {
		j++
	}
	x, y := a[i:len(a)-j], b[i:len(b)-j]
	return len(x) <= 1 && len(y) <= 1 || len(x) == 2 && len(y) == 2 && x[0] == y[1] && x[1] == y[0]
}

// skeleton is a domain label as an eye takes it.
func skeleton(label string) string { return twins.Replace(plain(label)) }

// twins are signs and pairs of signs that an eye takes for others.
var twins = strings.NewReplacer("rn", "m", "vv", "w", "0", "o", "1", "l", "3", "e", "5", "s", "i", "l", "cl", "d")
