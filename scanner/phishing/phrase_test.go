package phishing

import (
	"strings"
	"testing"
)

// The index finds what a search for each phrase finds.
func TestPhrases_LikeASearch(t *testing.T) {
	t.Parallel()
	d, err := load()
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, list := range d.Words {
		for _, w := range list {
			texts = append(texts, w, "x"+w, w+"x", "so: "+w+", and", w+" "+w, w[:len(w)-1], "é"+w)
		}
	}
	for _, text := range texts {
		found := d.phrases.in(text)
		for name, list := range d.Words {
			for i, w := range list {
				if got, want := found[name][i], hasWord(text, w); got != want {
					t.Fatalf("%q in %q: %v, want %v", w, text, got, want)
				}
			}
		}
	}
}

// TestPlain_ASCII: the quick way for ASCII says what the way for all letters says.
func TestPlain_ASCII(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", " ", "A  b\r\n\tC ", "\vx\f y\x00", "no change", "\x1f\x7f ok", "END "} {
		got, ok := plainASCII(s)
		if want := strings.Join(strings.Fields(strings.ToLower(s)), " "); !ok || got != want {
			t.Errorf("plainASCII(%q) = %q, %v; want %q", s, got, ok, want)
		}
	}
	if _, ok := plainASCII("Grüße"); ok {
		t.Error("Grüße is taken for ASCII")
	}
}
