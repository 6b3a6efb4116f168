package webui

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/labstack/echo/v4"
	"golang.org/x/text/language"
)

func show(t *testing.T, s string, limit int) string {
	t.Helper()
	var b bytes.Buffer
	if err := foreign(s, limit).Render(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(strings.TrimPrefix(b.String(), `<bdi lang="" dir="auto">`), "</bdi>")
}

func TestForeign(t *testing.T) {
	t.Parallel()
	odd := func(s string) string { return `<span class="oddchar">` + s + `</span>` }
	for in, want := range map[string]string{
		"plain":                          "plain",
		`"><img src=x onerror=alert(1)>`: `&#34;&gt;&lt;img src=x onerror=alert(1)&gt;`,
		"a\u202eb":                       "a" + odd("U+202E") + "b",
		"a\u200bb":                       "a" + odd("U+200B") + "b",
		"a\x00b":                         "a" + odd("U+0000") + "b",
		"a\xffb":                         "a" + odd("?") + "b",
		"👨\u200d👩":                       "👨\u200d👩",
		"a\u200db":                       "a" + odd("U+200D") + "b",
		"a\nb":                           "a\nb",
		"schön 日本":                       "schön 日本",
	} {
		if got := show(t, in, 0); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := show(t, strings.Repeat("ä", 50), 10); got != strings.Repeat("ä", 10)+"…" {
		t.Errorf("cut to %q", got)
	}
}

func FuzzForeign(f *testing.F) {
	f.Add("\u202e\xff<script>")
	f.Fuzz(func(t *testing.T, s string) {
		got := show(t, s, 200)
		rest := regexp.MustCompile(`<span class="oddchar">(U\+[0-9A-F]{4,6}|\?)</span>`).ReplaceAllString(got, "")
		if strings.ContainsAny(rest, "<>\"\x00\u202e\u2066") {
			t.Errorf("%q gives %q", s, got)
		}
	})
}

var (
	useRe    = regexp.MustCompile(`\b(?:T|N|Has)\("([a-zA-Z0-9_.]+)"(\s*\+)?`)
	wordRe   = regexp.MustCompile(`\bword\("([a-zA-Z0-9_.]+)"`)
	stringRe = regexp.MustCompile(`"((?:flash|error|act\.wrong|body|did)\.[a-zA-Z0-9_.]*)"`)
)

// usedKeys finds the keys in the sources: whole ones, and beginnings that a
// value is added to.
func usedKeys(t *testing.T) (whole map[string]bool, begins []string) {
	t.Helper()
	whole = map[string]bool{}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name := f.Name()
		if !strings.HasSuffix(name, ".templ") && !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_templ.go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range useRe.FindAllStringSubmatch(string(src), -1) {
			if m[2] != "" || strings.HasSuffix(m[1], ".") {
				begins = append(begins, m[1])
			} else {
				whole[m[1]] = true
			}
		}
		for _, m := range wordRe.FindAllStringSubmatch(string(src), -1) {
			begins = append(begins, m[1]+".")
		}
		for _, m := range stringRe.FindAllStringSubmatch(string(src), -1) {
			if strings.HasSuffix(m[1], ".") || strings.HasPrefix(m[1], "error.") {
				begins = append(begins, m[1])
			} else {
				whole[m[1]] = true
			}
		}
	}
	return whole, begins
}

func TestCatalogues(t *testing.T) {
	t.Parallel()
	c, err := newCatalog()
	if err != nil {
		t.Fatal(err)
	}
	en, de := c.texts[language.English], c.texts[language.German]
	whole, begins := usedKeys(t)
	for key := range whole {
		_, plain := en[key]
		_, plural := en[key+".other"]
		if !plain && !plural && !strings.HasPrefix(key, "error.") {
			t.Errorf("missing: %s", key)
		}
	}
	for key, text := range en {
		if _, ok := de[key]; !ok {
			t.Errorf("missing in German: %s", key)
		}
		if strings.TrimSpace(text) == "" || strings.TrimSpace(de[key]) == "" {
			t.Errorf("empty: %s", key)
		}
		for i := range 5 {
			if v := fmt.Sprintf("{%d}", i); strings.Contains(text, v) != strings.Contains(de[key], v) {
				t.Errorf("%s: %s is in one language only", key, v)
			}
		}
		base := strings.TrimSuffix(strings.TrimSuffix(key, ".one"), ".other")
		if !whole[key] && !whole[base] && !slices.ContainsFunc(begins, func(b string) bool { return strings.HasPrefix(key, b) }) {
			t.Errorf("unused: %s", key)
		}
	}
	for key := range de {
		if _, ok := en[key]; !ok {
			t.Errorf("only in German: %s", key)
		}
	}
}

// TestTimelineSpeaks: whatever is recorded of a held mail has words on its timeline.
func TestTimelineSpeaks(t *testing.T) {
	t.Parallel()
	c, err := newCatalog()
	if err != nil {
		t.Fatal(err)
	}
	src, err := os.ReadFile("../audit/actions.go")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`= +"((?:quarantine|digest|evidence)\.[a-z_.]+)"`).FindAllStringSubmatch(string(src), -1)
	if len(found) < 40 {
		t.Fatalf("only %d actions found", len(found))
	}
	for _, m := range found {
		if _, ok := c.texts[language.English]["did."+m[1]]; !ok {
			t.Errorf("missing: did.%s", m[1])
		}
	}
}

func TestNumbersAndTimes(t *testing.T) {
	t.Parallel()
	c, err := newCatalog()
	if err != nil {
		t.Fatal(err)
	}
	en, de := c.pick("en-GB"), c.pick("de-AT,en;q=0.5")
	en.zone, de.zone = time.UTC, time.UTC
	for got, want := range map[string]string{
		en.Int(1234567): "1,234,567", de.Int(1234567): "1.234.567", en.Float(31.7, 1): "31.7", de.Float(31.7, 1): "31,7",
		en.Short(testNow): "24 Nov 09:41", de.Short(testNow): "24.11. 09:41", en.N("unit.days", 1): "1 day", en.N("unit.days", 3): "3 days", de.N("unit.days", 1): "1 Tag",
		en.Full(testNow): "Tue 24 Nov 2026, 09:41:30 UTC", de.Full(testNow): "Di, 24.11.2026, 09:41:30 UTC", de.Millis(1420): "1,42 s", en.Bytes(48213): "47.1 KiB",
		c.pick("fr", "").Code(): "en", c.pick("", "de").Code(): "de",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestAssets(t *testing.T) {
	t.Parallel()
	a := loadAssets(fstest.MapFS{
		"manifest.json": {Data: []byte(`{"app.js":"app-1.js"}`)}, "app-1.js": {Data: []byte("plain")}, "app-1.js.br": {Data: []byte("brotli")}, "app-1.js.gz": {Data: []byte("gzip")}, "secret.txt": {Data: []byte("x")},
	})
	e := echo.New()
	e.GET("/assets/*", a.serve)
	for _, c := range []struct {
		path, accept, body, encoding string
		status                       int
	}{
		{"/assets/app-1.js", "", "plain", "", 200}, {"/assets/app-1.js", "gzip, deflate, br", "brotli", "br", 200}, {"/assets/app-1.js", "gzip", "gzip", "gzip", 200}, {"/assets/app-1.js", "br;q=0, gzip", "gzip", "gzip", 200},
		{"/assets/manifest.json", "", "", "", 404}, {"/assets/secret.txt", "", "", "", 404}, {"/assets/../assets.go", "", "", "", 404}, {"/assets/app-1.js.br", "", "", "", 404},
	} {
		req := httptest.NewRequest(http.MethodGet, c.path, nil)
		req.Header.Set("Accept-Encoding", c.accept)
		rec := httptest.NewRecorder()
		e.ServeHTTP(rec, req)
		if rec.Code != c.status || c.status == 200 && (rec.Body.String() != c.body || rec.Header().Get("Content-Encoding") != c.encoding || !strings.Contains(rec.Header().Get("Cache-Control"), "immutable") || rec.Header().Get("Vary") != "Accept-Encoding") {
			t.Errorf("%s with %q: %d %q %v", c.path, c.accept, rec.Code, rec.Body, rec.Header())
		}
	}
}

// Without node the pages still work: plain, and they say why.
func TestAssets_NotBuilt(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.pages.assets = loadAssets(fstest.MapFS{".placeholder": {}})
	body := s.get(t, "/quarantine")
	if !strings.Contains(body, "make build") || !strings.Contains(body, "/assets/fallback.css") || strings.Contains(body, "<script") {
		t.Error("the page does not say that the assets were not built")
	}
	if rec := s.call(t, http.MethodGet, "/assets/fallback.css", nil); rec.Code != http.StatusOK {
		t.Errorf("the plain style sheet: %d", rec.Code)
	}
}

// The sources keep the rules that the policy relies on.
func TestTemplates_HaveNoInlineCode(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	bad := regexp.MustCompile(`\sstyle=|\son[a-z]+=|hx-on|js:|templ\.Raw|<script>`)
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".templ") {
			continue
		}
		src, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if m := bad.Find(src); m != nil {
			t.Errorf("%s: %q", f.Name(), m)
		}
	}
}
