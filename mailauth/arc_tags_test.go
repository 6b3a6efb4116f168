package mailauth

import "testing"

func TestParseTags(t *testing.T) {
	t.Parallel()
	for in, ok := range map[string]bool{
		"a=b": true, "a=b;": true, " a = b ; c=d ; ": true, "a=": true, "": true, "a=b=c": true, "a_1=x": true,
		";": false, "a": false, "a=b;;c=d": false, "=b": false, "a=b; a=c": false, "a b=c": false, "1a=b": false, "a=\x00": false, "a=b;c": false,
	} {
		if _, err := parseTags(in); (err == nil) != ok {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// FuzzTags: what is read as a tag list holds what it says, and taking the
// signature out takes nothing else.
func FuzzTags(f *testing.F) {
	f.Add("a=b; b= x y ;c=d")
	f.Add("b=")
	f.Fuzz(func(t *testing.T, s string) {
		tags, err := parseTags(s)
		if err != nil {
			return
		}
		bare, err := parseTags(string(withoutSignature([]byte("X:" + s))[2:]))
		if _, had := tags["b"]; err != nil || had && bare["b"] != "" {
			t.Fatalf("%q: %v %q", s, err, bare)
		}
		for n, v := range tags {
			if n != "b" && bare[n] != v {
				t.Fatalf("%q: %s is %q, was %q", s, n, bare[n], v)
			}
		}
	})
}
