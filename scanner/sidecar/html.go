package sidecar

import (
	"bytes"
	"encoding/base64"
	"net/url"
	"regexp"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"mailward/policy"
	"mailward/scanner/content"
	"mailward/scanner/sidecar/document"
)

// Bounds of one page. They are far beyond what any mail program writes.
const (
	maxOpen    = 300       // elements that are open at a time
	maxTags    = 200_000   // elements
	maxScript  = 256 << 10 // bytes of scripts that are looked through
	anchorText = 1 << 10   // bytes of what stands for a link
)

// page is one HTML part that is being read, as a mail client would show it.
type page struct {
	w            *walker
	part         string
	text, hidden strings.Builder
	open         []element
	base         *url.URL
	anchor       *content.Link // an <a> that is open
	form         *content.Form // a <form> that is open
	grid         grid          // of the innermost table
	script       int           // bytes looked through
	shared       bool          // it leads to a network share, see share
	nested       int           // pages that stand in this one
	attributes   attributes    // of the tag that is being read
}

// element is what an open tag passes on to what is in it.
type element struct {
	tag           string
	hidden        bool
	color, ground int // 0xRRGGBB; -1: not known
}

// readHTML reads a page.
func (w *walker) readHTML(part, name, text string) {
	p := &page{w: w, part: part, attributes: attributes{}}
	p.text.Grow(min(len(text)/2, content.MaxText))
	p.read(text)
	p.endAnchor()
	p.endForm()
	visible, salted := unsalt(p.text.String())
	w.said.add(content.Text{Part: part, Name: name, Kind: "html", Text: visible, Hidden: strings.TrimSpace(p.hidden.String() + " " + salted)})
	if target, ok := drawnCode(visible); ok {
		p.link(content.LinkCode, target, "")
	}
}

func (p *page) read(text string) {
	z := html.NewTokenizer(strings.NewReader(text))
	z.SetMaxBuf(viewText * 2)
	raw := ""
	for tags := 0; ; {
		switch z.Next() {
		case html.ErrorToken:
			return
		case html.TextToken:
			p.words(raw, string(z.Text()))
			raw = ""
		case html.StartTagToken, html.SelfClosingTagToken:
			if tags++; tags > maxTags {
				p.w.said.Truncated = true
				return
			}
			raw = p.start(z)
		case html.EndTagToken:
			p.end(tagName(z))
			raw = ""
		case html.CommentToken:
			if code, ok := conditional(string(z.Text())); ok {
				p.inner(code)
			}
		}
	}
}

// maxNested bounds pages in pages.
const maxNested = 3

// inner reads HTML that stands in the page in a way of its own.
func (p *page) inner(code string) {
	if p.nested < maxNested {
		p.nested++
		p.read(code)
		p.nested--
	}
}

// conditional is what a comment holds for Outlook: <!--[if mso]>...<![endif]-->.
func conditional(comment string) (code string, ok bool) {
	rest, ok := strings.CutPrefix(comment, "[if")
	if !ok {
		return "", false
	}
	when, code, ok := strings.Cut(rest, "]>")
	if !ok || strings.Contains(when, "!") {
		return "", false
	}
	if before, settings, found := strings.Cut(code, "<xml"); found { // of Word, which nobody sees
		_, after, _ := strings.Cut(settings, "</xml>")
		code = before + after
	}
	return strings.TrimSuffix(strings.TrimSpace(code), "<![endif]"), true
}

// tagName is the name of a tag. Those that HTML knows are nearly all, and are read
// where they stand: the tokenizer makes a copy of each.
func tagName(z *html.Tokenizer) string {
	name := bytes.TrimLeft(z.Raw(), "</")
	if i := bytes.IndexFunc(name, endsName); i >= 0 {
		name = name[:i]
	}
	if a := atom.Lookup(name); a != 0 {
		return a.String()
	}
	name, _ = z.TagName()
	return string(name)
}

// endsName is what stands behind the name of a tag (WHATWG HTML §13.2.5.8).
func endsName(r rune) bool {
	switch r {
	case ' ', '\n', '\r', '\t', '\f', '/', '>':
		return true
	}
	return false
}

// words takes text between tags, which belongs to the element raw where that
// one's text is not for reading.
func (p *page) words(raw, s string) {
	switch raw {
	case "script":
		p.scripts(s)
		return
	case "style", "title", "iframe", "noframes", "noembed":
		return
	case "noscript": // Mail clients run no scripts, so this is what they show.
		p.inner(s)
		return
	}
	if p.anchor != nil && len(p.anchor.Text) < anchorText {
		p.anchor.Text = collapse(p.anchor.Text, s)
	}
	top := p.top()
	if top.hidden || top.color >= 0 && top.ground >= 0 && alike(top.color, top.ground) {
		if p.hidden.Len() < maxHidden {
			appendCollapsed(&p.hidden, s)
		}
		return
	}
	appendCollapsed(&p.text, s)
	if p.anchor == nil && len(s) > 7 {
		plainLinks(s, func(target string) { p.link(content.LinkText, target, target) })
	}
}

// top is the innermost element that is open.
func (p *page) top() element {
	if len(p.open) == 0 {
		return element{color: 0, ground: 0xffffff}
	}
	return p.open[len(p.open)-1]
}

// attributes are those of one tag that matter here, by their names.
type attributes map[string]string

// relevant are the attributes that are looked at.
var relevant = map[string]bool{"href": true, "src": true, "action": true, "formaction": true, "style": true, "hidden": true, "bgcolor": true, "color": true, "alt": true, "type": true, "name": true,
	"background": true, "http-equiv": true, "content": true, "colspan": true, "onclick": true, "onload": true, "onerror": true, "onmouseover": true, "onfocus": true, "ontoggle": true, "onpageshow": true, "data": true, "width": true, "height": true, "xlink:href": true, "srcdoc": true}

// read takes those of a tag, in place of those of the one before.
func (a attributes) read(z *html.Tokenizer) {
	clear(a)
	for n, more := 0, true; more && n < 100; n++ {
		var k, v []byte
		k, v, more = z.TagAttr()
		if !relevant[string(k)] {
			continue
		}
		if _, twice := a[string(k)]; !twice { // HTML: the first one counts.
			a[string(k)] = string(v)
		}
	}
}

// start opens an element, and returns its name where its text is raw.
func (p *page) start(z *html.Tokenizer) (raw string) {
	tag := tagName(z)
	p.attributes.read(z)
	a := p.attributes
	p.layout(tag)
	p.closeImplied(tag)
	e := p.styled(tag, a)
	switch tag {
	case "script", "style", "title", "iframe", "noframes", "noembed", "noscript":
		raw = tag
	case "td", "th":
		p.grid.cell(e.ground, a["colspan"])
	case "tr":
		p.grid.row()
	case "table":
		p.grid = grid{}
	}
	p.targets(tag, a)
	if !void[tag] && len(p.open) < maxOpen {
		p.open = append(p.open, e)
	}
	if doc := a["srcdoc"]; doc != "" && tag == "iframe" {
		p.inner(doc)
	}
	return raw
}

// targets takes what a tag leads to.
func (p *page) targets(tag string, a attributes) {
	switch tag {
	case "a":
		p.endAnchor()
		if href := first(a["href"], a["xlink:href"]); href != "" {
			p.anchor = &content.Link{Part: p.part, Kind: content.LinkAnchor, Target: p.absolute(href)}
			p.share(content.LinkAnchor, p.anchor.Target)
		}
	case "base":
		if u, err := url.Parse(strings.TrimSpace(a["href"])); err == nil && u.IsAbs() && p.base == nil {
			p.base = u
		}
	case "form":
		p.endForm()
		p.form = &content.Form{Part: p.part, Action: p.absolute(a["action"])}
		p.link(content.LinkForm, a["action"], "")
	case "input", "textarea", "select", "button":
		p.input(tag, a)
	case "img":
		p.link(content.LinkImage, first(a["src"], a["data"]), "")
		if p.anchor != nil && len(p.anchor.Text) < anchorText {
			p.anchor.Text = collapse(p.anchor.Text, " "+a["alt"]+" ")
		}
	case "meta":
		if strings.EqualFold(strings.TrimSpace(a["http-equiv"]), "refresh") {
			p.link(content.LinkMeta, refreshTarget(a["content"]), "")
		}
	case "iframe", "embed", "frame", "object":
		p.link(content.LinkMeta, first(a["src"], a["data"]), "")
	case "image", "feimage": // of SVG
		p.link(content.LinkImage, first(a["href"], a["xlink:href"]), "")
	case "link":
	default: // <area>, and the buttons that Outlook draws: <v:rect href>
		p.link(content.LinkAnchor, first(a["href"], a["xlink:href"]), "")
	}
	p.link(content.LinkImage, a["background"], "")
	for k, code := range a {
		if strings.HasPrefix(k, "on") {
			p.scripts(code)
		}
	}
}

func first(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}

// input takes a field, also one that stands outside of any form.
func (p *page) input(tag string, a attributes) {
	p.link(content.LinkForm, a["formaction"], "")
	if tag == "button" {
		return
	}
	if p.form == nil {
		p.form = &content.Form{Part: p.part}
	}
	kind := strings.ToLower(first(a["type"], map[bool]string{true: "text", false: tag}[tag == "input"]))
	p.form.Password = p.form.Password || kind == "password"
	if len(p.form.Inputs) < 100 {
		text, _ := clip(strings.TrimSpace(kind+" "+strings.ToLower(a["name"])), 100)
		p.form.Inputs = append(p.form.Inputs, text)
	}
}

func (p *page) endForm() {
	if p.form != nil {
		p.form.Action, _ = clip(p.form.Action, content.MaxURL)
		p.w.said.form(*p.form)
		p.form = nil
	}
}

func (p *page) endAnchor() {
	if p.anchor != nil {
		p.anchor.Text, _ = unsalt(p.anchor.Text)
		p.w.addLink(*p.anchor)
		p.anchor = nil
	}
}

func (p *page) link(kind, target, text string) {
	if target != "" {
		target = p.absolute(target)
		p.w.addLink(content.Link{Part: p.part, Kind: kind, Target: target, Text: text})
		p.share(kind, target)
	}
}

// share notes an address on a network share, where a client sends the password hash
// of its user. A link to one is usual among colleagues; what is fetched as soon as
// the mail is shown, from a host that has a domain or an address, is not. Neither is
// a link with an exclamation mark, which Outlook follows without asking
// (CVE-2024-21413).
func (p *page) share(kind, target string) {
	if p.shared || !strings.HasPrefix(target, `\\`) && !hasPrefixFold(target, "file:") || !document.IsShare(target) {
		return
	}
	path := strings.TrimLeft(strings.ReplaceAll(target, `\`, "/"), "/")
	if hasPrefixFold(path, "file:") {
		path = strings.TrimLeft(path[len("file:"):], "/")
	}
	host, file, _ := strings.Cut(path, "/")
	short, _ := clip(target, 120)
	switch {
	case strings.Contains(file, "!"):
		p.shared = true
		p.w.report("HTML.ShareLink", policy.Suspicious, 8, p.part, "", "a link in it makes Outlook open a file of a network share without asking: "+short)
	case kind != content.LinkAnchor && kind != content.LinkText && strings.ContainsAny(host, ".@:"):
		p.shared = true
		p.w.report("HTML.Share", policy.Suspicious, 8, p.part, "", "it fetches something from a foreign network share as soon as it is shown: "+short)
	}
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// absolute is a link as a client follows it: line ends and tabs in it do not
// count (WHATWG URL §4.4), and a base goes before what is relative.
func (p *page) absolute(s string) string {
	s = strings.TrimFunc(strings.TrimSpace(s), func(r rune) bool { return r <= ' ' })
	if strings.ContainsAny(s, "\t\r\n") {
		s = strings.NewReplacer("\t", "", "\r", "", "\n", "").Replace(s)
	}
	if p.base == nil || s == "" || len(s) > content.MaxURL {
		return s
	}
	u, err := p.base.Parse(s)
	if err != nil {
		return s
	}
	return u.String()
}

// end closes an element with all that is open in it. A stray end tag in a table
// cell closes nothing outside of it.
func (p *page) end(tag string) {
	switch tag {
	case "a":
		p.endAnchor()
	case "form":
		p.endForm()
	case "table":
		if target, ok := p.grid.code(); ok {
			p.link(content.LinkCode, target, "")
		}
		p.grid = grid{}
	}
	p.layout(tag)
	for i := len(p.open) - 1; i >= 0; i-- {
		if p.open[i].tag == tag {
			p.open = p.open[:i]
			return
		}
		if t := p.open[i].tag; (t == "td" || t == "th" || t == "table") && tag != "tr" && tag != "table" && tag != "tbody" {
			return
		}
	}
}

// closeImplied closes what a start tag ends without an end tag.
func (p *page) closeImplied(tag string) {
	for len(p.open) > 0 && ends(tag, p.open[len(p.open)-1].tag) {
		p.open = p.open[:len(p.open)-1]
	}
}

// ends says whether a start tag ends an element that is open.
func ends(tag, open string) bool {
	switch tag {
	case "p", "div", "table", "ul", "ol", "h1", "h2", "h3", "blockquote":
		return open == "p"
	case "td", "th":
		return open == "td" || open == "th"
	case "tr":
		return open == "td" || open == "th" || open == "tr"
	case "li", "option", "dd", "dt":
		return open == tag
	}
	return false
}

var void = map[string]bool{"area": true, "base": true, "br": true, "col": true, "embed": true, "hr": true, "img": true, "input": true, "link": true, "meta": true, "param": true, "source": true, "track": true, "wbr": true}

// layout writes the line ends and gaps that tags make.
func (p *page) layout(tag string) {
	switch tag {
	case "br", "p", "div", "tr", "li", "table", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "blockquote", "ul", "ol", "pre", "center", "title":
		if s := p.text.String(); s != "" && !strings.HasSuffix(s, "\n") {
			p.text.WriteByte('\n')
		}
	case "td", "th", "option", "button":
		appendCollapsed(&p.text, " ")
	}
}

// appendCollapsed writes s with each run of blanks as one.
func appendCollapsed(b *strings.Builder, s string) {
	have := b.String()
	gap := have == "" || have[len(have)-1] == ' ' || have[len(have)-1] == '\n'
	for i := 0; i < len(s); {
		j := i
		for j < len(s) && s[j] > ' ' {
			j++
		}
		if j > i {
			b.WriteString(s[i:j])
			gap = false
		}
		if j < len(s) && !gap {
			b.WriteByte(' ')
			gap = true
		}
		i = j + 1
	}
}

func collapse(have, more string) string {
	var b strings.Builder
	b.WriteString(have)
	appendCollapsed(&b, more)
	return b.String()
}

// refreshTarget is where <meta http-equiv=refresh content="0; url=..."> leads. "url="
// may be left out (WHATWG HTML §4.2.5.3).
func refreshTarget(s string) string {
	s = strings.TrimLeft(strings.TrimLeft(s, "0123456789. \t\r\n"), ";, \t\r\n")
	if hasPrefixFold(s, "url") {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(s[len("url"):]), "="); ok {
			s = rest
		}
	}
	return strings.Trim(s, "\"' \t\r\n")
}

// Where scripts send their reader: an assignment to location, a call, or an
// address that is put down in base64.
var (
	scriptGoes = regexp.MustCompile(`(?i)(?:\blocation(?:["']\s*\])?(?:\s*\.\s*href|\[\s*["']href["']\s*\])?\s*=\s*|\blocation\.(?:replace|assign)\s*\(\s*|\bwindow\.open\s*\(\s*|\baction\s*=\s*)["'` + "`" + `]([^"'` + "`" + `\s]{8,800})["'` + "`" + `]`)
	scriptAtob = regexp.MustCompile(`\batob\s*\(\s*["']([A-Za-z0-9+/=]{12,900})["']`)
)

// scripts finds where a script leads to.
func (p *page) scripts(code string) {
	if len(code) < 12 || p.script >= maxScript {
		return
	}
	code = code[:min(len(code), maxScript-p.script)]
	p.script += len(code)
	for _, m := range scriptGoes.FindAllStringSubmatch(code, 20) {
		p.link(content.LinkMeta, m[1], "")
	}
	for _, m := range scriptAtob.FindAllStringSubmatch(code, 20) {
		b, err := base64.StdEncoding.DecodeString(m[1])
		if err == nil && strings.HasPrefix(strings.ToLower(string(b)), "http") {
			p.link(content.LinkMeta, string(b), "")
		}
	}
}
