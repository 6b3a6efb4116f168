package policy

import (
	"math/rand/v2"
	"net"
	"strings"
	"testing"
)

// TestPlainName: what is taken for a plain name is what IDNA makes of it.
func TestPlainName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"example.org": true, "a-b.example": true, "1.2.example": true, "x.1a": true, strings.Repeat("a", 63) + ".de": true,
		"": false, "example": false, ".example.org": false, "example.org.": false, "a..b": false, "-a.example": false, "a-.example": false, "a.b-": false,
		"xn--mnchen-3ya.de": false, "a--b.example": false, "Example.org": false, "a_b.example": false, "münchen.de": false, "1.2.3.4": false, "a.7": false,
		strings.Repeat("a", 64) + ".de": false, strings.Repeat("a.", 127) + "de": false,
	} {
		if got := PlainName(name); got != want {
			t.Errorf("PlainName(%q) = %v", name, got)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	plain := 0
	for range 200_000 {
		b := make([]byte, 3+rng.IntN(12))
		for i := range b {
			b[i] = "abxn019-..._A\xc3\xa4"[rng.IntN(15)]
		}
		name := string(b)
		if !PlainName(name) {
			continue
		}
		plain++
		if a, err := domains.ToASCII(name); err != nil || a != name || net.ParseIP(name) != nil {
			t.Fatalf("%q is taken for a plain name, and is %q, %v", name, a, err)
		}
	}
	if plain < 1000 {
		t.Errorf("only %d plain names were tried", plain)
	}
}
