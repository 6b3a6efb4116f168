package preview

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	nethtml "golang.org/x/net/html"
)

// The rules of the oracle are written out here, not taken from the sanitiser.
var (
	harmless = strings.Fields("html head body p br hr div span b strong i em u s small sub sup blockquote pre code h1 h2 h3 h4 h5 h6 ul ol li dl dt dd " +
		"table thead tbody tfoot colgroup tr td th caption center font img")
	ofElement = map[string]*regexp.Regexp{
		"class": regexp.MustCompile(`^mw-[a-z]+$`), "colspan": regexp.MustCompile(`^\d{1,3}$`), "rowspan": regexp.MustCompile(`^\d{1,3}$`),
		"align": regexp.MustCompile(`^[a-z]+$`), "dir": regexp.MustCompile(`^[a-z]+$`), "alt": regexp.MustCompile(`^$`),
		"style": regexp.MustCompile(`^(?:(?:color|background-color|font-size|font-weight|font-style|text-align|text-decoration|vertical-align|padding(?:-[a-z]+)?|border(?:-[a-z]+)?): [a-z0-9#%. -]*(?:rgba?\([0-9., %]+\))?(?:; ?|$))+$`),
		"src":   regexp.MustCompile(`^data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/]*=*$`),
	}
)

// wrong is what a browser could make of the output that it must not: the output
// is parsed again, by another parser than the one that made it.
func wrong(out string) string {
	doc, err := nethtml.Parse(strings.NewReader("<!DOCTYPE html><body>" + out + "</body>"))
	if err != nil {
		return err.Error()
	}
	for n := range doc.Descendants() {
		switch n.Type {
		case nethtml.CommentNode:
			return "a comment"
		case nethtml.ElementNode:
			if n.Namespace != "" || !slices.Contains(harmless, n.Data) {
				return "an element " + n.Namespace + " " + n.Data
			}
			for _, a := range n.Attr {
				re := ofElement[a.Key]
				if a.Namespace != "" || re == nil || !re.MatchString(a.Val) || a.Key == "src" && n.Data != "img" || strings.Contains(a.Val, "--") {
					return fmt.Sprintf("an attribute %s=%.100q of %s", a.Key, a.Val, n.Data)
				}
			}
		}
	}
	return ""
}

func hostile(t testing.TB) map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/hostile/*.html")
	if err != nil || len(files) < 10 {
		t.Fatalf("hostile mails: %v, %v", files, err)
	}
	out := map[string]string{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(filepath.Base(f), ".html")] = string(b)
	}
	return out
}

func TestHTML_HostileMails(t *testing.T) {
	t.Parallel()
	for name, source := range hostile(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := HTML(source, Options{})
			if w := wrong(got.HTML); w != "" {
				t.Errorf("%s in\n%s", w, got.HTML)
			}
			if !strings.Contains(got.HTML, "seen") {
				t.Errorf("the words are gone: %s", got.HTML)
			}
			if !got.Removed.Any() && name != "css-position" {
				t.Error("nothing is said to be removed")
			}
		})
	}
}

// The oracle finds each kind of thing, or it would prove nothing.
func TestOracle(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"<script>", "<a href=x>x</a>", `<img src="http://x/">`, `<p onclick=x>`, `<p style="background:url(x)">`, "<svg></svg>", "<!-- x -->", `<p style="position: fixed">`, `<p class="card">`, `<p style="color: red; top: 1px">`} {
		if wrong(bad) == "" {
			t.Errorf("%s passes", bad)
		}
	}
	if w := wrong(`<p style="color: red; padding: 1px 2px">x</p>`); w != "" {
		t.Error(w)
	}
}

func TestHTML(t *testing.T) {
	t.Parallel()
	png := append([]byte("\x89PNG\r\n\x1a\n"), make([]byte, 40)...)
	for name, tt := range map[string]struct{ in, want string }{
		"words":               {`<p>One &amp; <b>two</b></p>`, `<p>One &amp; <b>two</b></p>`},
		"looks":               {`<td width=5 style="color:RED !important;position:fixed;font-size:0" bgcolor="#FFF" colspan=2 onclick=x>a</td>`, `<td style="color: red; background-color: #fff" colspan="2">a</td>`},
		"a link":              {`<a href="http://evil.example/x?a=1" target=_blank>here</a>`, `<span class="mw-link">here</span> <code class="mw-target">hxxp://evil[.]example/x?a=1</code>`},
		"a link that lies":    {`<a href="http://evil.example/">https://www.bank.com/</a>`, `<span class="mw-link">https://www.bank.com/</span> <code class="mw-lie">hxxp://evil[.]example/</code>`},
		"an anchor":           {`<a href="#top" name=x>up</a>`, `<span class="mw-link">up</span>`},
		"a remote image":      {`<img src="https://t.example/p.gif" width=160 height=42 alt="Logo">`, `<span class="mw-removed">[image hxxps://t[.]example/p.gif (160 × 42) “Logo”]</span>`},
		"a pixel":             {`<img src="https://t.example/p.gif" width=1 height=1>`, `<span class="mw-removed">[pixel hxxps://t[.]example/p.gif (1 × 1)]</span>`},
		"an enclosed image":   {`<img src="cid:logo%40x">`, `<img src="data:image/png;base64,` + base64.StdEncoding.EncodeToString(png) + `" alt="">`},
		"an image in a URL":   {`<img src="data:image/gif;base64,` + base64.StdEncoding.EncodeToString(png) + `">`, `<img src="data:image/png;base64,` + base64.StdEncoding.EncodeToString(png) + `" alt="">`},
		"no image":            {`<img src="cid:page">`, `<span class="mw-removed">[image cid[:]page]</span>`},
		"a form":              {`<form action="//evil.example/f"><input type=password name=pw></form>`, `<div class="mw-form"><span class="mw-removed">[form //evil[.]example/f]</span><span class="mw-removed">[field input password pw]</span></div>`},
		"left open":           {`<div><table><tr><td>a<td>b<tr><td>c`, `<div><table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table></div>`},
		"closed too often":    {`a</div></p></td>b`, `ab`},
		"a cell is a bound":   {`<div><table><tr><td>a</div>b</td></tr></table></div>`, `<div><table><tr><td>ab</td></tr></table></div>`},
		"paragraphs":          {`<p>a<p>b<div>c</div>`, `<p>a</p><p>b</p><div>c</div>`},
		"a turned text":       {"a\u202eb", `a<span class="mw-odd">U+202E</span>b`},
		"our marks":           {`<span class="mw-removed" id=a>x</span>`, `<span>x</span>`},
		"noscript is shown":   {`<noscript><b>on</b></noscript>`, `<b>on</b>`},
		"words of no element": {`<svg><text>in</text></svg><o:p>out</o:p>`, `inout`},
		"raw text":            {`<script>a<b></script><style>b</style><title>c</title><xmp>d<b></xmp>e`, `d&lt;b&gt;e`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := HTML(tt.in, Options{Images: []Image{{CID: "<logo@x>", Data: png}, {CID: "page", Data: []byte("<svg onload=x>")}}})
			if strip := strings.ReplaceAll(got.HTML, "&#34;", `"`); strip != tt.want {
				t.Errorf("got  %s\nwant %s", strip, tt.want)
			}
			if w := wrong(got.HTML); w != "" {
				t.Error(w)
			}
		})
	}
}

func TestHTML_SaysWhatItRemoved(t *testing.T) {
	t.Parallel()
	got := HTML(`<script>x</script><p onclick=x style="background:url(x)">a</p><form></form><iframe></iframe><svg></svg><img src=http://a.example/1><img src=http://a.example/2 width=1>
		<meta http-equiv=Refresh content=0><base href=x><link rel=stylesheet href=x><td background=x><a href="javascript:x">y</a>`, Options{}).Removed
	want := Removed{Scripts: 3, Forms: 1, Frames: 1, Objects: 1, Images: 2, Pixels: 1, Fetches: 3, Moves: 2, Links: 1}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// Whatever comes, time and output are bounded. The bound here is far above what
// is measured (BenchmarkHTML), so that a busy machine does not fail it.
func TestHTML_HugeAndDeep(t *testing.T) {
	t.Parallel()
	for name, unit := range map[string]string{
		"paragraphs": "<p>word</p>", "deep": "<div>", "deep inline": "<b><i>", "tables": "<table><tr><td>", "open cells": "<td>x", "images": "<img src=//a>", "links": "<a href=//a>x",
		"forms": "<form>", "cid": "<img src=cid:a>", "attributes": `<p a1 b2 c3 d4 e5 style="color:red;color:red">`, "comments": "<!--", "tags": "<", "ends": "</b>", "entities": "&lt;", "scripts": "<script>x</script>", "odd": "\u202e",
		"quotes": `<a href="`, "selects": "<select><option>", "svg": "<svg><g>", "templates": "<template>",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source := strings.Repeat(unit, 5<<20/len(unit))
			began := time.Now()
			got := HTML(source, Options{Images: []Image{{CID: "a", Data: append([]byte("GIF89a"), make([]byte, 50)...)}}})
			if d := time.Since(began); d > 10*time.Second {
				t.Errorf("took %v", d)
			}
			if !got.Removed.Cut {
				t.Error("it does not say that it was cut")
			}
			if n := len(got.HTML); n > maxOutput+maxImages*4/3+1<<20 {
				t.Errorf("%d bytes came out", n)
			}
		})
	}
}

func BenchmarkHTML_FiveMegabytes(b *testing.B) {
	source := strings.Repeat(`<table bgcolor="#ffffff"><tr><td style="padding: 4px; color: #333333"><a href="https://a.example/x">Offer</a> of the <b>week</b> <img src="https://a.example/p.png"></td></tr></table>`, 5<<20/180)
	b.SetBytes(int64(len(source)))
	for b.Loop() {
		HTML(source, Options{})
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	got, cut := Text("<style>x</style><p>One  two<br>three</p><noscript>four</noscript><script>y</script><a href='http://a.example/'>five</a>")
	if want := "One two\nthree\nfour [hxxp://a[.]example/] five"; got != want || cut {
		t.Errorf("%q, want %q", got, want)
	}
	if _, cut := Text(strings.Repeat("<p>x", 1<<20)); !cut {
		t.Error("it does not say that it was cut")
	}
}

func TestLinks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text, href, target, host string
		differs                  bool
	}{
		{"here", "http://a.example/x.html", "hxxp://a[.]example/x.html", "a[.]example", false},
		{"https://www.bank.com/login", "https://bank.com.evil.example/", "hxxps://bank[.]com[.]evil[.]example/", "bank[.]com[.]evil[.]example", true},
		{"www.bank.com", "https://login.bank.com/", "hxxps://login[.]bank[.]com/", "login[.]bank[.]com", false},
		{"bank.com", "https://bank.com@evil.example/", "hxxps://bank[.]com[at]evil[.]example/", "evil[.]example", true},
		{"Rechnung.pdf", "https://a.example/", "hxxps://a[.]example/", "a[.]example", false},
		{"x", `https:\\evil.example\path`, "hxxps://evil[.]example/path", "evil[.]example", false},
		{"x", " ht\ntp://evil.example/?u=https://bank.com/ ", "hxxp://evil[.]example/?u=https[://]bank.com/", "evil[.]example", false},
		{"x", "//evil.example/p", "//evil[.]example/p", "evil[.]example", false},
		{"x", "mailto:a@b.example?subject=s", "mailto:a[at]b[.]example?subject=s", "b[.]example", false},
		{"x", "javascript:alert(1)", "javascript[:]alert(1)", "", false},
		{"x", "https://bänk.example:8443/\u202egnp", "hxxps://bänk[.]example:8443/[U+202E]gnp", "xn--bnk-qla[.]example", false},
		{"x", "https://%65vil.example/", "hxxps://%65vil[.]example/", "evil[.]example", false},
		{"bank.com", "https://bank.com/", "hxxps://bank[.]com/", "bank[.]com", false},
	} {
		got := linkOf(tt.text, tt.href)
		if want := (Link{tt.text, tt.target, tt.host, tt.differs}); got != want {
			t.Errorf("%q %q:\ngot  %+v\nwant %+v", tt.text, tt.href, got, want)
		}
	}
	if got := DefangText("see http://a.example/x, or www.b.example."); got != "see hxxp://a[.]example/x, or www[.]b[.]example[.]" {
		t.Error(got)
	}
	if got := TextLinks("see http://a.example/x, or www.b.example."); len(got) != 2 || got[0].Target != "hxxp://a[.]example/x" || got[1].Host != "www[.]b[.]example" {
		t.Errorf("%+v", got)
	}
}

func FuzzHTML(f *testing.F) {
	for _, s := range hostile(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := HTML(s, Options{Images: []Image{{CID: "a", Data: []byte("GIF89a")}}})
		if w := wrong(got.HTML); w != "" {
			t.Errorf("%q gives %s in %q", s, w, got.HTML)
		}
	})
}

func FuzzDefang(f *testing.F) {
	for _, s := range []string{"http://a.example/", "https:\\\\a@b.example", "//x", "javascript:alert(1)", "mailto:a@b", "ftp://x/http://y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Defang(s)
		if linkLike.MatchString(got) || strings.ContainsAny(got, oddRunes) {
			t.Errorf("%q gives %q", s, got)
		}
		HostOf(s)
	})
}

func TestDocument(t *testing.T) {
	t.Parallel()
	if !bytes.Contains(Document("<x>", "<p>a</p>"), []byte("<title>&lt;x&gt;</title>")) {
		t.Error("the title is not escaped")
	}
}
