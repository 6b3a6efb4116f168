package sidecar

import (
	"strings"
	"testing"
)

// beginLines lets no text pass by in which one of the patterns finds something.
func TestBeginLines(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][2]bool{
		"":                                    {},
		"begin":                               {true, false},
		"begin 644 a":                         {true, false},
		"we begin 644 a\nbeg\n begin 644 a\n": {},
		"a\nbegin-base64 644 a\r\n":           {true, false},
		"a\r\n=ybegin line=1 name=a\r\n":      {false, true},
		"=ybegin line=1 name=a":               {false, true},
		"=ybegins\n=ybeg":                     {},
		"\n\n\nbegin 644 a\n=ybegin name=a\n": {true, true},
		"a\rbegin 644 a":                      {},
	} {
		uu, y := beginLines([]byte(text))
		if uu != want[0] || y != want[1] {
			t.Errorf("%q: %v %v, want %v", text, uu, y, want)
		}
		if uuBegin.MatchString(text) && !uu || yBegin.MatchString(text) && !y {
			t.Errorf("%q: a pattern finds what beginLines does not", text)
		}
	}
	if out := uuParts([]byte(strings.Repeat("beginning to begin\r\n", 1000))); out != nil {
		t.Errorf("%d files in prose", len(out))
	}
}
