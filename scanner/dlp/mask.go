package dlp

import (
	"slices"
	"strings"
	"unicode"
)

// mask keeps so much of a match that two of them can be told apart, and not
// enough to use one: the first four and last two characters of a long one, less
// of a short one. Spaces and signs stay, so that its shape is seen.
func mask(s string) string {
	total := 0
	for _, r := range s {
		if inValue(r) {
			total++
		}
	}
	head, tail := 4, 2
	switch {
	case total < 5:
		head, tail = 0, 0
	case total < 8:
		head, tail = 1, 0
	case total < 13:
		head, tail = 2, 1
	}
	n := 0
	return strings.Map(func(r rune) rune {
		if !inValue(r) {
			return r
		}
		n++
		if n <= head || n > total-tail {
			return r
		}
		return '*'
	}, s)
}

func inValue(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) || r == '<' }

// span is a stretch of a text.
type span struct{ start, end int }

// maskSpans masks stretches of a text; they may overlap.
func maskSpans(s string, spans []span) string {
	slices.SortFunc(spans, func(a, b span) int { return a.start - b.start })
	var out strings.Builder
	at := 0
	for i := 0; i < len(spans); {
		from, to := spans[i].start, spans[i].end
		for i++; i < len(spans) && spans[i].start < to; i++ {
			to = max(to, spans[i].end)
		}
		out.WriteString(s[at:from])
		out.WriteString(mask(s[from:to]))
		at = to
	}
	out.WriteString(s[at:])
	return out.String()
}
