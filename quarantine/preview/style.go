package preview

import (
	"html"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/microcosm-cc/bluemonday"
	nethtml "golang.org/x/net/html"
)

func set(names ...string) map[string]bool {
	m := map[string]bool{}
	for _, n := range names {
		m[n] = true
	}
	return m
}

var inlineNames = []string{"b", "strong", "i", "em", "u", "s", "small", "sub", "sup", "span", "font", "code", "br"}

var blockNames = []string{"p", "hr", "div", "blockquote", "pre", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "dl", "dt", "dd",
	"table", "thead", "tbody", "tfoot", "tr", "td", "th", "caption", "center"}

var (
	inline     = set(inlineNames...)
	allowed    = set(slices.Concat(inlineNames, blockNames)...)
	tableParts = set("table", "thead", "tbody", "tfoot", "tr", "td", "th", "caption")
)

// The grammar of values. None has a bracket but those of rgb(), a quote, a
// backslash or a slash, so that no function, no address and no escape fits.
const (
	colour = `(?:#[0-9a-f]{3,8}|[a-z]{3,20}|rgba?\([0-9., %]{1,40}\))`
	length = `(?:0|[0-9]{1,3}(?:\.[0-9]{1,4})?(?:px|pt|em|%))` // never negative: nothing leaves its place
)

// properties are those that are shown, with their values. What is not here,
// position and its kin among it, is dropped; so are style sheets, which with
// attribute selectors are a way to read a page.
var properties = map[string]*regexp.Regexp{
	"color":            whole(colour),
	"background-color": whole(colour),
	"font-size":        whole(`(?:[6-9]|[1-7][0-9])(?:\.[0-9]{1,4})?p[xt]|(?:[5-9][0-9]|[12][0-9]{2})%|(?:0\.[6-9][0-9]{0,3}|[1-4](?:\.[0-9]{1,4})?)r?em|(?:xx?-)?(?:small|large)|medium|smaller|larger`),
	"font-weight":      whole(`normal|bold|bolder|lighter|[1-9]00`),
	"font-style":       whole(`normal|italic|oblique`),
	"text-align":       whole(`left|right|center|justify`),
	"text-decoration":  whole(`none|underline|line-through`),
	"vertical-align":   whole(`top|middle|bottom|baseline`),
	"padding":          whole(length + `(?: ` + length + `){0,3}`),
	"padding-left":     whole(length), "padding-right": whole(length), "padding-top": whole(length), "padding-bottom": whole(length),
	"border":        whole(length + ` (?:none|solid|dashed|dotted) ` + colour),
	"border-bottom": whole(length + ` (?:none|solid|dashed|dotted) ` + colour),
	"border-top":    whole(length + ` (?:none|solid|dashed|dotted) ` + colour),
}

func whole(pattern string) *regexp.Regexp { return regexp.MustCompile(`^(?:` + pattern + `)$`) }

// Bounds of one style attribute.
const (
	maxStyle        = 4000
	maxDeclarations = 60
)

// style leaves the declarations that are only looks, in a fixed form.
func style(value string) string {
	if len(value) > maxStyle {
		return ""
	}
	var out []string
	for decl := range strings.SplitSeq(value, ";") {
		name, v, ok := strings.Cut(decl, ":")
		name = strings.ToLower(strings.TrimSpace(name))
		v = strings.Join(strings.Fields(strings.ToLower(strings.TrimSuffix(strings.TrimSpace(v), "!important"))), " ")
		if name == "background" {
			name = "background-color" // where it is one
		}
		if re := properties[name]; ok && re != nil && re.MatchString(v) && len(out) < maxDeclarations {
			out = append(out, name+": "+v)
		}
	}
	return strings.Join(out, "; ")
}

var loads = regexp.MustCompile(`(?i)url\s*\(|image-set|@import|@font-face|\\[0-9a-f]|src\s*\(|expression\s*\(|behaviou?r\s*:|-moz-binding`)

// wouldLoad says whether a style asks for something from elsewhere, or hides
// what it asks for.
func wouldLoad(style string) bool { return loads.MatchString(style) }

var (
	span  = whole(`[1-9][0-9]{0,2}`)
	align = whole(`left|right|center|justify|char`)
	tint  = whole(colour)
)

// looks are the attributes of an element that is shown.
func looks(t nethtml.Token) string {
	css := style(attr(t, "style"))
	add := func(name, value string) {
		if v := strings.ToLower(strings.TrimSpace(value)); tint.MatchString(v) && !strings.Contains("; "+css, "; "+name+":") {
			css = strings.TrimPrefix(css+"; "+name+": "+v, "; ")
		}
	}
	add("background-color", attr(t, "bgcolor"))
	if t.Data == "font" {
		add("color", attr(t, "color"))
	}
	var b strings.Builder
	if css != "" {
		b.WriteString(` style="` + html.EscapeString(css) + `"`)
	}
	one := func(name string, re *regexp.Regexp) {
		if v := strings.ToLower(strings.TrimSpace(attr(t, name))); re.MatchString(v) {
			b.WriteString(" " + name + `="` + v + `"`)
		}
	}
	if t.Data == "td" || t.Data == "th" {
		one("colspan", span)
		one("rowspan", span)
	}
	if tableParts[t.Data] || t.Data == "p" || t.Data == "div" {
		one("align", align)
	}
	one("dir", direction)
	return b.String()
}

var (
	direction = whole(`ltr|rtl|auto`)
	classes   = whole(`mw-(?:removed|link|target|lie|odd|form)`)
	picture   = whole(`data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/]*=*`)
)

// policy is what bluemonday checks of the output: the same rules, said again to
// a program that others keep.
var policy = sync.OnceValue(func() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements(inlineNames...)
	p.AllowElements(blockNames...)
	p.AllowAttrs("colspan", "rowspan").Matching(span).OnElements("td", "th")
	p.AllowAttrs("align").Matching(align).OnElements("td", "th", "tr", "table", "thead", "tbody", "tfoot", "caption", "p", "div")
	p.AllowAttrs("dir").Matching(direction).Globally()
	p.AllowAttrs("class").Matching(classes).OnElements("span", "code", "div")
	for name, re := range properties {
		p.AllowStyles(name).Matching(re).Globally()
	}
	p.AllowAttrs("alt").Matching(whole("")).OnElements("img")
	p.AllowAttrs("src").Matching(picture).OnElements("img")
	p.RequireParseableURLs(true)
	p.AllowRelativeURLs(false)
	p.AllowURLSchemes("data")
	return p
})

// Style is the look of the frame's document, with those of our marks.
const Style = `:root{color-scheme:light}body{margin:16px;background:#fff;color:#151a22;font:14px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}` +
	`.mw-removed,.mw-odd,.mw-target,.mw-lie{unicode-bidi:isolate;direction:ltr}` +
	`.mw-removed{display:inline-block;padding:6px 10px;margin:2px 0;border:1px dashed #7b8798;border-radius:4px;background:#f3f5f8;color:#465060;font:12px/1.4 system-ui,sans-serif}` +
	`.mw-form{border:1px dashed #b42318;border-radius:4px;padding:8px}.mw-link{text-decoration:underline dotted}` +
	`code{font-size:12px;color:#465060}.mw-lie{background:#fef0ee;color:#b42318;font-weight:600}` +
	`.mw-odd{border:1px solid #b42318;color:#b42318;font:11px/1.2 monospace;padding:0 2px}img{max-width:100%;height:auto}table{max-width:100%}`

// Document is the whole document of the frame.
func Document(title, body string) []byte {
	return []byte("<!DOCTYPE html><html lang=\"\"><head><meta charset=\"utf-8\"><title>" + html.EscapeString(title) + "</title><style>" + Style +
		"</style></head><body>" + body + "</body></html>")
}
