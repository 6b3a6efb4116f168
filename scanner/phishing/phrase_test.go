package phishing

import "testing"

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
