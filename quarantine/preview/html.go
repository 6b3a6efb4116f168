package preview

import (
	"html"
	"slices"
	"strings"

	nethtml "golang.org/x/net/html"
)

// Image is a picture that came with the mail.
type Image struct {
	CID  string // without < >
	Data []byte
}

// Kinds of marks that stand where something was taken away.
const (
	MarkImage = "image"
	MarkPixel = "pixel"
	MarkForm  = "form"
	MarkField = "field"
	MarkFrame = "frame"
)

// Options of [HTML].
type Options struct {
	Images []Image
	// Say puts a mark into words: one of the kinds, and what was there.
	Say func(kind, what string) string
}

// Removed counts what was taken away or made harmless.
type Removed struct {
	Scripts int  `json:"scripts"`  // elements, handlers, addresses that are script
	Forms   int  `json:"forms"`    // shown, but dead
	Frames  int  `json:"frames"`   // pages in the page
	Objects int  `json:"objects"`  // plug-ins, SVG, MathML, audio, video
	Images  int  `json:"images"`   // remote ones, replaced by a mark
	Pixels  int  `json:"pixels"`   // of them, too small to be seen
	Fetches int  `json:"fetches"`  // other things that would be loaded: style sheets, fonts, backgrounds
	Moves   int  `json:"moves"`    // that would lead to another page by themselves
	Links   int  `json:"links"`    // shown as text
	Cut     bool `json:"cut"`      // the end is missing
	Flat    bool `json:"flat"`     // nested deeper than is shown
	Unshown int  `json:"unmarked"` // taken away without a mark, since there were too many
}

// Any says whether anything was taken away.
func (r Removed) Any() bool {
	return r.Scripts+r.Forms+r.Frames+r.Objects+r.Images+r.Fetches+r.Moves+r.Links > 0 || r.Cut
}

// Result is HTML that does nothing.
type Result struct {
	HTML    string
	Removed Removed
	Links   []Link
}

// HTML returns the harmless remains of a mail's HTML, a fragment for a body.
func HTML(source string, opt Options) Result {
	r := rewriter{say: opt.Say, images: map[string][]byte{}}
	for _, im := range opt.Images {
		r.images[strings.Trim(im.CID, "<>")] = im.Data
	}
	if r.say == nil {
		r.say = func(kind, what string) string { return "[" + kind + " " + what + "]" }
	}
	if len(source) > maxSource {
		source, r.gone.Cut = strings.ToValidUTF8(source[:maxSource], ""), true
	}
	r.run(nethtml.NewTokenizer(strings.NewReader(source)))
	r.closeTo(0)
	return Result{HTML: policy().Sanitize(r.out.String()), Removed: r.gone, Links: r.links}
}

// element is one that stands open in the output.
type element struct {
	name string // as the mail calls it
	end  string
	link *openLink
}

type openLink struct {
	href string
	text strings.Builder
}

type rewriter struct {
	say    func(kind, what string) string
	images map[string][]byte // by content id

	out    strings.Builder
	open   []element
	over   int    // elements that are open in the mail and too deep for the output
	skip   string // element whose raw text is not shown
	full   bool
	places int
	bytes  int // of pictures
	gone   Removed
	links  []Link
}

func (r *rewriter) run(z *nethtml.Tokenizer) {
	for !r.full {
		switch z.Next() {
		case nethtml.ErrorToken:
			return
		case nethtml.TextToken:
			if r.skip == "" {
				r.text(string(z.Text()))
			}
		case nethtml.StartTagToken, nethtml.SelfClosingTagToken:
			r.skip = ""
			t := z.Token()
			if t.Data == "noscript" {
				z.NextIsNotRawText() // no mail client runs scripts: all show what is in it
			}
			r.start(t)
		case nethtml.EndTagToken:
			name, _ := z.TagName()
			r.skip = ""
			r.endTag(string(name))
		}
		// Comments go: what is one for this parser may be none for the next.
	}
}

// write adds markup of ours.
func (r *rewriter) write(s string) {
	if r.out.Len()-r.bytes*4/3+len(s) > maxOutput {
		r.full, r.gone.Cut = true, true
		return
	}
	r.out.WriteString(s)
}

func (r *rewriter) text(s string) {
	if n := len(r.open); n > 0 {
		for _, e := range slices.Backward(r.open) {
			if e.link != nil {
				if e.link.text.Len() < maxWords {
					e.link.text.WriteString(s[:min(len(s), maxWords)])
				}
				break
			}
		}
	}
	if !strings.ContainsAny(s, oddRunes) {
		r.write(html.EscapeString(s))
		return
	}
	for len(s) > 0 {
		i := strings.IndexAny(s, oddRunes)
		if i < 0 {
			r.write(html.EscapeString(s))
			return
		}
		c := []rune(s[i:min(len(s), i+4)])[0]
		r.write(html.EscapeString(s[:i]) + `<span class="mw-odd">` + runeName(c) + `</span>`)
		s = s[i+len(string(c)):]
	}
}

// marks are what counts before an element is looked at by its name.
func (r *rewriter) marks(t nethtml.Token) {
	for _, a := range t.Attr {
		switch {
		case strings.HasPrefix(a.Key, "on"):
			r.gone.Scripts++
		case a.Key == "style" && wouldLoad(a.Val):
			r.gone.Fetches++
		case slices.Contains(loading, a.Key), strings.HasSuffix(a.Key, "href") && t.Data != "a" && t.Data != "area" && t.Data != "base":
			r.gone.Fetches++
		}
	}
}

// loading are attributes for which a browser asks a server without being told to.
// Those of img, frames and forms are counted with their element.
var loading = []string{"background", "poster", "srcset", "lowsrc", "dynsrc", "data", "codebase", "archive", "manifest", "ping", "icon", "profile", "imagesrcset"}

func (r *rewriter) start(t nethtml.Token) {
	r.marks(t)
	if !r.special(t) {
		r.plain(t)
	}
}

// special deals with elements that would act.
func (r *rewriter) special(t nethtml.Token) bool {
	switch t.Data {
	case "script":
		r.gone.Scripts++
		r.skip = t.Data
	case "style":
		r.skip = t.Data
		r.gone.Fetches++
	case "title", "noembed", "noframes":
		r.skip = t.Data
	case "iframe", "frame", "portal", "fencedframe":
		r.gone.Frames++
		r.mark(MarkFrame, Defang(attr(t, "src")))
		if t.Data == "iframe" {
			r.skip = t.Data
		}
	case "svg", "math", "object", "embed", "applet", "video", "audio":
		r.gone.Objects++
	case "form":
		r.gone.Forms++
		r.push(element{name: "form", end: "</div>"}, `<div class="mw-form">`)
		r.mark(MarkForm, Defang(attr(t, "action")))
	case "input", "textarea", "select", "button":
		r.mark(MarkField, strings.Join(strings.Fields(t.Data+" "+visible(attr(t, "type"), 20)+" "+visible(attr(t, "name"), 60)), " "))
		if kind := strings.ToLower(attr(t, "type")); t.Data == "input" && (kind == "submit" || kind == "button" || kind == "reset") {
			r.text(visible(attr(t, "value"), 100))
		}
	case "img", "image":
		r.image(t)
	case "a", "area":
		r.link(t)
	case "meta":
		if strings.EqualFold(strings.TrimSpace(attr(t, "http-equiv")), "refresh") {
			r.gone.Moves++
		}
	case "base":
		r.gone.Moves++
	default:
		return false
	}
	return true
}

// plain writes an element that is only looks.
func (r *rewriter) plain(t nethtml.Token) {
	name := t.Data
	if !allowed[name] {
		return // its content stays
	}
	if name == "br" || name == "hr" {
		r.write("<" + name + ">")
		return
	}
	r.implied(name)
	r.push(element{name: name, end: "</" + name + ">"}, "<"+name+looks(t)+">")
}

// implied closes what a browser would close by itself, so that a long table
// without end tags is not a deep one.
func (r *rewriter) implied(name string) {
	n := len(r.open)
	if n == 0 {
		return
	}
	top := r.open[n-1].name
	cell := func(s string) bool { return s == "td" || s == "th" }
	item := func(s string) bool { return s == "dt" || s == "dd" }
	switch {
	case top == "p" && (name == "p" || !inline[name]), top == "li" && name == "li", cell(top) && cell(name), item(top) && item(name), top == "tr" && name == "tr":
		r.closeTo(n - 1)
	case cell(top) && name == "tr":
		r.closeTo(n - 1)
		r.implied(name)
	}
}

func (r *rewriter) push(e element, begin string) {
	if len(r.open) >= maxDepth {
		r.over, r.gone.Flat = r.over+1, true
		return
	}
	r.write(begin)
	r.open = append(r.open, e)
}

func (r *rewriter) endTag(name string) {
	if !allowed[name] && name != "form" && name != "a" {
		return
	}
	if r.over > 0 {
		r.over--
		return
	}
	for i, e := range slices.Backward(r.open) {
		if e.name == name {
			r.closeTo(i)
			return
		}
		// A cell keeps what is in it to itself (HTML, "has an element in scope").
		if (e.name == "td" || e.name == "th" || e.name == "caption") && !tableParts[name] {
			return
		}
	}
}

// closeTo leaves the first n elements open. It does not count against the
// bound: what was opened is closed.
func (r *rewriter) closeTo(n int) {
	for _, e := range slices.Backward(r.open[n:]) {
		r.out.WriteString(e.end)
		if e.link != nil {
			r.target(e.link)
		}
	}
	r.open = r.open[:n]
}

// mark says that something was here.
func (r *rewriter) mark(kind, what string) {
	if r.places++; r.places > maxPlaces {
		r.gone.Unshown++
		return
	}
	r.write(`<span class="mw-removed">` + html.EscapeString(r.say(kind, what)) + `</span>`)
}

// link leaves the words and puts the address behind them, where it cannot be
// clicked and cannot hide.
func (r *rewriter) link(t nethtml.Token) {
	r.endTag("a") // links do not nest
	href := strings.TrimSpace(attr(t, "href"))
	l := &openLink{href: href}
	if t.Data == "area" { // an element without content
		if href != "" {
			r.target(l)
		}
		return
	}
	if href == "" || strings.HasPrefix(href, "#") {
		l = nil
	}
	r.push(element{name: "a", end: "</span>", link: l}, `<span class="mw-link">`)
}

func (r *rewriter) target(l *openLink) {
	r.gone.Links++
	if scripted(l.href) {
		r.gone.Scripts++
	}
	k := linkOf(l.text.String(), l.href)
	if len(r.links) < maxLinks {
		r.links = append(r.links, k)
	}
	class := "mw-target"
	if k.Differs {
		class = "mw-lie"
	}
	r.write(` <code class="` + class + `">` + html.EscapeString(k.Target) + `</code>`)
}

func attr(t nethtml.Token, name string) string {
	for _, a := range t.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}
