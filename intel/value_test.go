package intel

import (
	"strconv"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"hxxps://evil[.]example/a":                           "url http://evil.example/a",
		"hXXp[:]//evil(.)example":                            "url http://evil.example/",
		"HTTPS://user:pw@EVIL.example:443/./a/../b?x=1#frag": "url http://evil.example/b?x=1",
		"http://evil.example:8080/%7euser/%2f":               "url http://evil.example:8080/~user/%2F",
		`http:\\evil.example\login`:                          "url http://evil.example/login",
		"http://evil.exa\nmple/":                             "url http://evil.example/",
		"http://0x7f.1/":                                     "url http://127.0.0.1/",
		"http://3221225985/x":                                "url http://192.0.2.1/x",
		"http://[2001:db8::1]:80/":                           "url http://[2001:db8::1]/",
		"evil.example/path":                                  "url http://evil.example/path",
		"http://bücher.example/":                             "url http://xn--bcher-kva.example/",
		"ftp://evil.example/x":                               "url ftp://evil.example/x",
		"Evil[dot]Example.":                                  "domain evil.example",
		"*.evil.example":                                     "domain evil.example",
		"_x.evil.example":                                    "domain _x.evil.example",
		"Mallory[@]Evil[.]example":                           "email mallory@evil.example",
		"192.0.2[.]7":                                        "ip 192.0.2.7",
		"192.0.2.7:8080":                                     "ip 192.0.2.7",
		"::ffff:192.0.2.7":                                   "ip 192.0.2.7",
		"[2001:db8::5]:443":                                  "ip 2001:db8::5",
		strings.Repeat("AB", 32):                             "sha256 " + strings.Repeat("ab", 32),
		"":                                                   "", "localhost": "", "javascript://x": "", "a b.example": "", "http://": "", "evil..example": "", "256.1.1.1": "",
	} {
		v, err := Parse("", raw)
		got := ""
		if err == nil {
			got = string(v.Kind) + " " + v.Text
		}
		if got != want {
			t.Errorf("%q is %q (%v), want %q", raw, got, err, want)
		}
	}
}

// What one reading makes must be read the same again, or a feed and a mail would
// never meet.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"hxxp://evil[.]example/a?b#c", "http://0x7f.1:80/%41/../", "a@b.example", "[::1]", "bücher.example", "http://a.example/%zz\\", "http://[::1%25x]/"} {
		f.Add("", s)
		f.Add("url", s)
	}
	f.Fuzz(func(t *testing.T, kind, raw string) {
		v, err := Parse(Kind(kind), raw)
		if err != nil {
			return
		}
		v.Harmless()
		_ = v.key()
		again, err := Parse(v.Kind, v.Text)
		if err != nil || again != v {
			t.Errorf("%q is %+v, and that again %+v, %v", raw, v, again, err)
		}
		if back, err := Parse(v.Kind, Defang(v.Text)); v.Kind == Domain && (err != nil || back != v) {
			t.Errorf("%q defanged is %+v, %v", v.Text, back, err)
		}
	})
}

func TestHarmless(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]bool{
		"google.com": true, "www.google.com": true, "fonts.gstatic.com": true, "co.uk": true, "github.io": true, "evil.github.io": false, "https://drive.google.com/": true,
		"https://drive.google.com/file/1": false, "8.8.8.8": true, "10.1.2.3": true, "127.0.0.1": true, "http://192.168.1.1/x": true, "192.0.2.9": false, "evil.example": false,
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855": true,
	} {
		v, err := Parse("", raw)
		if err != nil || (v.Harmless() != "") != want {
			t.Errorf("%s: %q, %v", raw, v.Harmless(), err)
		}
	}
}

func TestFilter(t *testing.T) {
	t.Parallel()
	f := newFilter(100_000)
	key := func(n int) int64 {
		return Value{Domain, strings.Repeat("x", n%50) + string(rune('a'+n%26)) + strconv.Itoa(n)}.key()
	}
	for n := range 100_000 {
		f.add(key(n))
	}
	wrong := 0
	for n := range 100_000 {
		if !f.has(key(n)) {
			t.Fatal("a key is lost")
		}
		if f.has(key(n + 100_000)) {
			wrong++
		}
	}
	if wrong > 200 {
		t.Errorf("%d of 100,000 strange keys are taken for known", wrong)
	}
}
