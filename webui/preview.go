package webui

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/microcosm-cc/bluemonday"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// A mail's HTML was written to deceive the person who reads it here. What is
// shown of it has no script, no form, no link that leads anywhere and nothing
// that is fetched; it stands in a frame of opaque origin with a
// Content-Security-Policy of its own. Each of these would do alone.

const (
	maxPreview     = 2 << 20 // of HTML; more is cut, and said so
	maxInlineImage = 1 << 20
	maxInlineTotal = 6 << 20
	maxText        = 400_000
)

// removed counts what a preview left out.
type removed struct {
	Scripts, Forms, Frames, Images, Links, Objects int
	Cut                                            bool
}

// Any says whether anything was left out.
func (r removed) Any() bool {
	return r.Scripts+r.Forms+r.Frames+r.Images+r.Links+r.Objects > 0 || r.Cut
}

// defang writes an address so that no program makes a link of it.
func defang(raw string) string {
	raw = strings.TrimSpace(plain(raw, 500))
	scheme, rest, ok := strings.Cut(raw, ":")
	if !ok {
		return strings.ReplaceAll(raw, ".", "[.]")
	}
	rest = strings.TrimPrefix(rest, "//")
	host, path, slash := strings.Cut(rest, "/")
	out := strings.NewReplacer("http", "hxxp", "HTTP", "hxxp").Replace(scheme) + "://" + strings.ReplaceAll(host, ".", "[.]")
	if slash {
		out += "/" + path
	}
	return out
}

// sanitize returns the harmless remains of a mail's HTML.
func sanitize(source string, inline []inlineImage, label func(removedImage string) string) (string, removed, error) {
	var gone removed
	if len(source) > maxPreview {
		source, gone.Cut = strings.ToValidUTF8(source[:maxPreview], ""), true
	}
	doc, err := html.Parse(strings.NewReader(source))
	if err != nil {
		return "", gone, fmt.Errorf("parse HTML of a mail: %w", err)
	}
	t := taming{gone: &gone, images: map[string]inlineImage{}, label: label}
	for _, im := range inline {
		t.images[strings.Trim(im.CID, "<>")] = im
	}
	t.walk(doc)
	var b bytes.Buffer
	if err := html.Render(&b, doc); err != nil {
		return "", gone, fmt.Errorf("render HTML of a mail: %w", err)
	}
	return previewPolicy().Sanitize(b.String()), gone, nil
}

// taming turns what would act into text, before the sanitiser drops the rest.
type taming struct {
	gone   *removed
	images map[string]inlineImage
	bytes  int
	label  func(string) string
}

// dropped are the elements of which nothing is shown.
var dropped = map[atom.Atom]bool{
	atom.Script: true, atom.Style: true, atom.Template: true, atom.Noscript: true, atom.Iframe: true, atom.Frame: true, atom.Frameset: true, atom.Noframes: true,
	atom.Noembed: true, atom.Object: true, atom.Embed: true, atom.Applet: true, atom.Svg: true, atom.Math: true, atom.Video: true, atom.Audio: true,
	atom.Xmp: true, atom.Plaintext: true, atom.Title: true, atom.Meta: true, atom.Link: true, atom.Base: true,
}

func (t *taming) walk(n *html.Node) {
	for c := n.FirstChild; c != nil; {
		next := c.NextSibling
		if c.Type == html.ElementNode {
			t.element(c)
		}
		// What is raw text or foreign to one parser and markup to the next one
		// goes whole, comments too: that is how harmless text becomes a tag.
		if c.Type == html.CommentNode || c.Type == html.ElementNode && (c.Namespace != "" || dropped[c.DataAtom]) {
			n.RemoveChild(c)
		} else {
			t.walk(c)
		}
		c = next
	}
}

func (t *taming) element(n *html.Node) {
	n.Attr = slices.DeleteFunc(n.Attr, func(a html.Attribute) bool { return a.Key == "class" || a.Key == "id" })
	switch n.DataAtom {
	case atom.Script:
		t.gone.Scripts++
	case atom.Form:
		t.gone.Forms++
	case atom.Iframe, atom.Frame:
		t.gone.Frames++
	case atom.Object, atom.Embed, atom.Applet, atom.Svg, atom.Math, atom.Video, atom.Audio:
		t.gone.Objects++
	case atom.Input, atom.Button, atom.Textarea, atom.Select:
		t.replace(n, "mw-removed", "["+n.Data+" "+attr(n, "type")+" "+attr(n, "name")+"]")
	case atom.Img:
		t.image(n)
	case atom.A, atom.Area:
		t.link(n)
	}
}

func (t *taming) image(n *html.Node) {
	src := attr(n, "src")
	if cid, ok := strings.CutPrefix(src, "cid:"); ok {
		if dec, err := url.PathUnescape(cid); err == nil {
			cid = dec
		}
		if im, ok := t.images[cid]; ok && rasterType(im.ContentType) && len(im.Data) <= maxInlineImage && t.bytes+len(im.Data) <= maxInlineTotal {
			t.bytes += len(im.Data)
			n.Attr = []html.Attribute{{Key: "src", Val: "data:" + im.ContentType + ";base64," + base64.StdEncoding.EncodeToString(im.Data)}, {Key: "alt", Val: attr(n, "alt")}}
			return
		}
	}
	t.gone.Images++
	size := ""
	if w, h := attr(n, "width"), attr(n, "height"); w != "" && h != "" {
		size = " (" + plain(w, 8) + " × " + plain(h, 8) + ")"
	}
	shown := "data:"
	if !strings.HasPrefix(src, "data:") {
		shown = defang(src)
	}
	t.replace(n, "mw-removed", t.label(shown+size))
}

// link leaves the words and puts the address behind them, where it cannot be
// clicked and cannot hide.
func (t *taming) link(n *html.Node) {
	href := attr(n, "href")
	n.Data, n.DataAtom, n.Attr = "span", atom.Span, []html.Attribute{{Key: "class", Val: "mw-link"}}
	if href == "" || strings.HasPrefix(href, "#") {
		return
	}
	t.gone.Links++
	code := &html.Node{Type: html.ElementNode, Data: "code", DataAtom: atom.Code}
	code.AppendChild(&html.Node{Type: html.TextNode, Data: defang(href)})
	n.AppendChild(&html.Node{Type: html.TextNode, Data: " "})
	n.AppendChild(code)
}

func (t *taming) replace(n *html.Node, class, text string) {
	for n.FirstChild != nil {
		n.RemoveChild(n.FirstChild)
	}
	n.Data, n.DataAtom, n.Attr = "span", atom.Span, []html.Attribute{{Key: "class", Val: class}}
	n.AppendChild(&html.Node{Type: html.TextNode, Data: plain(text, 600)})
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name && a.Namespace == "" {
			return a.Val
		}
	}
	return ""
}

func rasterType(t string) bool {
	return slices.Contains([]string{"image/png", "image/jpeg", "image/gif", "image/webp"}, t)
}

// previewPolicy allows words, tables, and harmless looks.
func previewPolicy() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("p", "br", "hr", "div", "span", "b", "strong", "i", "em", "u", "s", "small", "sub", "sup", "blockquote", "pre", "code",
		"h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "dl", "dt", "dd", "table", "thead", "tbody", "tfoot", "tr", "td", "th", "caption", "center", "font")
	p.AllowAttrs("colspan", "rowspan").Matching(bluemonday.Integer).OnElements("td", "th")
	p.AllowAttrs("align").Matching(bluemonday.CellAlign).OnElements("td", "th", "tr", "table", "p", "div")
	p.AllowAttrs("dir").Matching(bluemonday.Direction).Globally()
	p.AllowAttrs("class").Matching(ourClasses).OnElements("span")
	p.AllowStyles("color", "background-color", "font-size", "font-weight", "font-style", "text-align", "text-decoration").Globally()
	p.AllowAttrs("alt").OnElements("img")
	p.AllowAttrs("src").Matching(ourImages).OnElements("img")
	p.RequireParseableURLs(true)
	p.AllowRelativeURLs(false)
	p.AllowURLSchemes("data")
	return p
}

// plainText takes the words out of HTML, for a mail that has no text part.
func plainText(source string) string {
	if len(source) > maxPreview {
		source = strings.ToValidUTF8(source[:maxPreview], "")
	}
	z := html.NewTokenizer(strings.NewReader(source))
	var b strings.Builder
	skip := 0
	for {
		switch z.Next() {
		case html.ErrorToken:
			return squeeze(b.String())
		case html.TextToken:
			if skip == 0 {
				b.WriteString(strings.Join(strings.Fields(string(z.Text())), " ") + " ")
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			t := z.Token()
			switch t.DataAtom {
			case atom.Script, atom.Style, atom.Title:
				if t.Type == html.StartTagToken {
					skip++
				}
			case atom.P, atom.Br, atom.Div, atom.Tr, atom.Li, atom.H1, atom.H2, atom.H3, atom.H4, atom.Table:
				b.WriteString("\n")
			case atom.A:
				for _, a := range t.Attr {
					if a.Key == "href" {
						b.WriteString("[" + defang(a.Val) + "] ")
					}
				}
			}
		case html.EndTagToken:
			switch z.Token().DataAtom {
			case atom.Script, atom.Style, atom.Title:
				skip = max(0, skip-1)
			case atom.P, atom.Div, atom.Tr, atom.H1, atom.H2, atom.H3:
				b.WriteString("\n")
			}
		}
	}
}

func squeeze(s string) string {
	var out []string
	blank := false
	for line := range strings.SplitSeq(s, "\n") {
		line = strings.TrimSpace(line)
		if line == "" && blank {
			continue
		}
		blank = line == ""
		out = append(out, line)
	}
	return strings.TrimSpace(strings.Join(out, "\n"))
}

const previewStyle = `:root{color-scheme:light}body{margin:16px;background:#fff;color:#151a22;font:14px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}` +
	`.mw-removed{display:inline-block;padding:6px 10px;border:1px dashed #7b8798;border-radius:4px;background:#f3f5f8;color:#465060;font:12px/1.4 system-ui,sans-serif}` +
	`.mw-link{text-decoration:underline dotted}code{font-size:12px;color:#465060}img{max-width:100%;height:auto}table{max-width:100%}`

// previewDocument is the whole document of the frame.
func previewDocument(title, body string) []byte {
	return []byte("<!DOCTYPE html><html lang=\"\"><head><meta charset=\"utf-8\"><title>" + html.EscapeString(title) + "</title><style>" + previewStyle +
		"</style></head><body>" + body + "</body></html>")
}
