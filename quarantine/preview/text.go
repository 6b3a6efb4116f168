package preview

import (
	"strings"

	nethtml "golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// Text takes the words out of HTML, for a mail that has no text part: each line
// as a reader would see it, the targets of links beside their words.
func Text(source string) (text string, cut bool) {
	if len(source) > maxSource {
		source, cut = strings.ToValidUTF8(source[:maxSource], ""), true
	}
	z := nethtml.NewTokenizer(strings.NewReader(source))
	var b strings.Builder
	skip := false
	for {
		switch z.Next() {
		case nethtml.ErrorToken:
			return squeeze(b.String()), cut
		case nethtml.TextToken:
			if !skip {
				b.WriteString(strings.Join(strings.Fields(string(z.Text())), " ") + " ")
			}
		case nethtml.StartTagToken, nethtml.SelfClosingTagToken:
			t := z.Token()
			skip = false
			switch t.DataAtom {
			case atom.Script, atom.Style, atom.Title, atom.Iframe, atom.Noembed, atom.Noframes:
				skip = true
			case atom.Noscript:
				z.NextIsNotRawText()
			case atom.A:
				if href := attr(t, "href"); href != "" {
					b.WriteString("[" + Defang(href) + "] ")
				}
			default:
				if breaksLine(t.DataAtom) {
					b.WriteString("\n")
				}
			}
		case nethtml.EndTagToken:
			skip = false
			name, _ := z.TagName()
			if breaksLine(atom.Lookup(name)) {
				b.WriteString("\n")
			}
		}
	}
}

func breaksLine(a atom.Atom) bool {
	switch a {
	case atom.P, atom.Br, atom.Div, atom.Tr, atom.Li, atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6, atom.Table, atom.Blockquote, atom.Hr:
		return true
	}
	return false
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
