package evidence

import (
	"regexp"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"mailward/evidence/pdf"
)

const maxLinks = 1000

var address = regexp.MustCompile(`(?i)\b(?:https?|ftp)://[^\s<>"']+|\bwww\.[^\s<>"']+`)

// readable is the text of a mail and where its links lead. note is the key of the
// sentence that says how the text was come by.
func readable(v View, opened bool) (text, note string, links []pdf.Link) {
	if !opened {
		return "", "text.unopened", nil
	}
	plain, found := fromHTML(v.HTML)
	for _, l := range address.FindAllString(v.Text, maxLinks) {
		found = append(found, pdf.Link{Target: strings.TrimRight(l, ".,;:!?)]}")})
	}
	seen := map[pdf.Link]bool{}
	for _, l := range found {
		if !seen[l] && len(links) < maxLinks {
			links = append(links, l)
		}
		seen[l] = true
	}
	switch {
	case strings.TrimSpace(v.Text) != "":
		return v.Text, "text.plain", links
	case plain != "":
		return plain, "text.html", links
	}
	return "", "text.empty", links
}

// blocks begin a line of their own.
var blocks = map[atom.Atom]bool{atom.P: true, atom.Div: true, atom.Br: true, atom.Tr: true, atom.Li: true, atom.H1: true, atom.H2: true, atom.H3: true, atom.H4: true, atom.Table: true, atom.Ul: true, atom.Ol: true, atom.Blockquote: true, atom.Hr: true}

// hidden hold no text for people. All of them end where a browser ends them: what
// one that is left open swallows, a browser does not show either.
var hidden = map[atom.Atom]bool{atom.Script: true, atom.Style: true, atom.Title: true}

// fromHTML takes text and links out of HTML, token by token: nothing is built, so
// nothing can be nested too deep.
func fromHTML(source string) (string, []pdf.Link) {
	z := html.NewTokenizer(strings.NewReader(source))
	var out, label strings.Builder
	var links []pdf.Link
	skip, href := 0, ""
	end := func() {
		if href != "" && len(links) < maxLinks {
			links = append(links, pdf.Link{Target: href, Text: strings.Join(strings.Fields(label.String()), " ")})
		}
		href = ""
		label.Reset()
	}
	for {
		switch z.Next() {
		case html.ErrorToken:
			end()
			return squeeze(out.String()), links
		case html.TextToken:
			if skip == 0 {
				text := string(z.Text())
				out.WriteString(html.UnescapeString(text))
				if href != "" {
					label.WriteString(html.UnescapeString(text))
				}
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			t := z.Token()
			switch {
			case hidden[t.DataAtom] && t.Type == html.StartTagToken:
				skip++
			case blocks[t.DataAtom]:
				out.WriteByte('\n')
			case t.DataAtom == atom.A || t.DataAtom == atom.Area || t.DataAtom == atom.Form:
				end()
				href = target(t)
			}
		case html.EndTagToken:
			t := z.Token()
			switch {
			case hidden[t.DataAtom]:
				skip = max(0, skip-1)
			case blocks[t.DataAtom]:
				out.WriteByte('\n')
			case t.DataAtom == atom.A || t.DataAtom == atom.Form:
				end()
			}
		}
	}
}

func target(t html.Token) string {
	for _, a := range t.Attr {
		if a.Key == "href" || a.Key == "action" {
			return strings.TrimSpace(a.Val)
		}
	}
	return ""
}

// squeeze leaves one space and one empty line where there are many.
func squeeze(s string) string {
	var lines []string
	for line := range strings.Lines(s) {
		line = strings.Join(strings.Fields(line), " ")
		if line == "" && (len(lines) == 0 || lines[len(lines)-1] == "") {
			continue
		}
		lines = append(lines, line)
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}
