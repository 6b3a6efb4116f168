package sidecar

import (
	"bytes"
	"io"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/html/charset"

	"mailward/scanner/content"
)

// Bounds of what is read of one mail beside those of package content.
const (
	maxHidden      = 64 << 10  // bytes that are hidden from the reader
	maxHeaderText  = 128 << 10 // bytes of all header fields
	maxHeaderValue = 4 << 10   // bytes of one field
	maxAddresses   = 200       // of one field
	maxForms       = 50
	maxImages      = 300
)

// collector gathers what a recipient would read and click, within bounds. What
// is beyond them is left out, and the content says so.
type collector struct {
	content.Content
	text, hidden int // bytes so far
	images       int
}

// addText takes what a part says. kind is plain, html or document.
func (w *walker) addText(part, name, kind, text string) {
	visible, salted := unsalt(text)
	w.said.add(content.Text{Part: part, Name: name, Kind: kind, Text: visible, Hidden: salted})
}

func (c *collector) add(t content.Text) {
	var cut bool
	t.Text, cut = clip(t.Text, content.MaxText-c.text)
	c.Truncated = c.Truncated || cut
	t.Hidden, cut = clip(t.Hidden, maxHidden-c.hidden)
	c.Truncated = c.Truncated || cut
	if strings.TrimSpace(t.Text) == "" && strings.TrimSpace(t.Hidden) == "" {
		return
	}
	c.text, c.hidden = c.text+len(t.Text), c.hidden+len(t.Hidden)
	c.Texts = append(c.Texts, t)
}

// addLink takes a link.
func (w *walker) addLink(l content.Link) { w.said.link(l) }

func (c *collector) link(l content.Link) {
	l.Target, _ = clip(strings.TrimSpace(l.Target), content.MaxURL)
	l.Text, _ = clip(strings.TrimSpace(l.Text), content.MaxURL)
	if l.Target == "" || strings.HasPrefix(l.Target, "#") {
		return
	}
	if l.Kind == content.LinkImage {
		if c.images++; c.images > maxImages {
			return // Nobody follows them, so they leave room for what is clicked.
		}
	}
	if len(c.Links) >= content.MaxLinks {
		c.Truncated = true
		return
	}
	c.Links = append(c.Links, l)
}

func (c *collector) form(f content.Form) {
	if len(c.Forms) >= maxForms {
		c.Truncated = true
		return
	}
	c.Forms = append(c.Forms, f)
}

// clip cuts valid UTF-8 to at most n bytes.
func clip(s string, n int) (string, bool) {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	if len(s) <= n {
		return s, false
	}
	n = max(n, 0)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n], true
}

// header hands on the header of the mail itself.
func (c *collector) header(h header) {
	total, beyond := 0, map[string]bool{}
	for _, f := range h {
		v, _ := clip(decodeWords(f.Value), maxHeaderValue)
		if total += len(f.Name) + len(v); total > maxHeaderText {
			// Who sends it is wanted from behind any number of fields, once.
			if c.Truncated = true; beyond[f.Name] {
				continue
			}
			beyond[f.Name] = true
		} else {
			name, _ := clip(f.Name, 200)
			c.Headers = append(c.Headers, content.Header{Name: name, Value: v})
		}
		switch f.Name {
		case "subject":
			if c.Subject == "" {
				c.Subject = v
			}
		case "from":
			c.From = append(c.From, addresses(f.Value)...)
		case "sender":
			c.Sender = append(c.Sender, addresses(f.Value)...)
		case "reply-to":
			c.ReplyTo = append(c.ReplyTo, addresses(f.Value)...)
		case "to", "cc":
			c.To = append(c.To, addresses(f.Value)...)
		}
	}
}

// addresses reads the mailboxes of a field as forgivingly as mail clients do:
// what is wrong is kept as it stands, for that is what the reader sees.
func addresses(field string) (list []content.Address) {
	for _, one := range splitAddresses(field) {
		if a, ok := address(one); ok && len(list) < maxAddresses {
			list = append(list, a)
		}
	}
	return list
}

// splitAddresses cuts at commas and semicolons outside of quotes, comments and
// angle brackets; what stands before a group's colon is dropped.
func splitAddresses(s string) (list []string) {
	quoted, comment, angle, start := false, 0, false, 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '(':
			comment++
		case c == ')':
			comment = max(0, comment-1)
		case comment > 0:
		case c == '<':
			angle = true
		case c == '>':
			angle = false
		case c == ':' && !angle && !strings.ContainsAny(s[start:i], "@<"):
			start = i + 1
		case (c == ',' || c == ';') && !angle:
			list, start = append(list, s[start:i]), i+1
		}
	}
	return append(list, s[start:])
}

// address reads one mailbox: what stands in the last angle brackets is the
// address, what is before it the name.
func address(s string) (a content.Address, ok bool) {
	s = strings.TrimSpace(s)
	if s == "" {
		return a, false
	}
	if i := strings.LastIndexByte(s, '<'); i >= 0 {
		mailbox, _, _ := strings.Cut(s[i+1:], ">")
		a.Name, a.Address = phrase(s[:i]), mailbox
	} else if name, rest, found := strings.Cut(s, "("); found && strings.Contains(name, "@") {
		a.Name, a.Address = phrase(strings.TrimSuffix(strings.TrimSpace(rest), ")")), name
	} else if strings.Contains(s, "@") && !strings.ContainsAny(s, " \t\"") {
		a.Address = s
	} else {
		a.Name = phrase(s)
	}
	a.Name, _ = clip(a.Name, 500)
	a.Address, _ = clip(strings.TrimSpace(decodeWords(a.Address)), 500)
	return a, a != content.Address{}
}

// phrase is a display name as it is shown: quotes and encoding gone. Encoded
// words in quotes are against RFC 2047 §5, and decoded by mail clients.
func phrase(s string) string {
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, `"`) && strings.HasSuffix(s, `"`) && len(s) > 1 {
		s = unquote(s)
	}
	return strings.TrimSpace(decodeWords(s))
}

// read hands on what a piece says, where it is text.
func (w *walker) read(p, name, ct, kind, label string, data []byte) {
	ext := strings.ToLower(path.Ext(name))
	before := len(w.said.Texts)
	defer func() {
		w.said.Truncated = w.said.Truncated || len(data) > viewText*2 && len(w.said.Texts) > before
	}()
	switch {
	case ct == "text/html" || ct == "application/xhtml+xml" || ext == ".htm" || ext == ".html" || ext == ".shtml" || ext == ".xhtml" || ext == ".svg",
		strings.HasPrefix(kind, "text/html") && ct != "text/plain", kind == "image/svg+xml":
		w.readHTML(p, name, toUTF8(data, htmlCharset(data, label)))
	case strings.HasPrefix(ct, "text/") || isText(kind):
		text := toUTF8(data, label)
		if kind == "text/calendar" || kind == "text/vcard" {
			text = unfold.Replace(text)
		}
		w.addText(p, name, "plain", text)
		plainLinks(text, func(target string) {
			w.addLink(content.Link{Part: p, Kind: content.LinkText, Target: target, Text: target})
		})
		if url, ok := drawnCode(text); ok {
			w.addLink(content.Link{Part: p, Kind: content.LinkCode, Target: url})
		}
	case kind == "image/png" || kind == "image/jpeg" || kind == "image/gif" || kind == "image/bmp" || kind == "image/webp":
		w.readPicture(p, data)
	}
}

// isText says whether what the bytes are is for reading as it stands: tables, cards,
// dates and data too, which come under many types.
func isText(kind string) bool {
	switch kind {
	case "application/json", "application/x-ndjson", "application/geo+json", "application/xml":
		return true
	}
	return strings.HasPrefix(kind, "text/") && kind != "text/rtf" || strings.HasSuffix(kind, "+xml")
}

// unfold undoes how lines of calendars and cards are cut (RFC 5545 §3.1).
var unfold = strings.NewReplacer("\r\n ", "", "\r\n\t", "", "\n ", "", "\n\t", "")

// plainLinks finds what mail clients make a link of in plain text.
func plainLinks(s string, found func(target string)) {
	for at := 0; at < len(s); {
		i := linkStart(s[at:])
		if i < 0 {
			return
		}
		i += at
		end := i
		for end < len(s) && s[end] > ' ' && strings.IndexByte("<>\"'`|", s[end]) < 0 {
			end++
		}
		target := strings.TrimRight(s[i:end], ".,;:!?)]}*_")
		if strings.Count(target, "(") > strings.Count(target, ")") && strings.HasPrefix(s[i+len(target):], ")") {
			target += ")"
		}
		if len(target) > len("www.a.b") {
			found(target)
		}
		at = max(end, i+1)
	}
}

// linkStart is where the next link begins; -1: there is none.
func linkStart(s string) int {
	for at := 0; ; {
		i := strings.IndexAny(s[at:], ":.")
		if i < 0 {
			return -1
		}
		i += at
		switch {
		case s[i] == ':' && strings.HasPrefix(s[i:], "://"):
			for _, scheme := range [...]string{"https", "http", "ftp"} {
				if b := i - len(scheme); b >= 0 && strings.EqualFold(s[b:i], scheme) {
					return b
				}
			}
		case s[i] == '.' && i >= 3 && strings.EqualFold(s[i-3:i], "www") && (i == 3 || !isWordByte(s[i-4])):
			return i - 3
		}
		at = i + 1
	}
}

func isWordByte(b byte) bool {
	return b >= 0x80 || b == '/' || b == '-' || b == '.' || b == '@' || b >= '0' && b <= '9' || b|0x20 >= 'a' && b|0x20 <= 'z'
}

// unsalt takes away the characters that nobody sees: zero width, soft hyphens,
// marks of direction. Words that were cut in two by them are returned beside the
// text, as they were.
func unsalt(s string) (visible, salted string) {
	ascii := 0 // of which there is much, and all of it is visible
	for ascii < len(s) && s[ascii] < utf8.RuneSelf {
		ascii++
	}
	if !strings.ContainsFunc(s[ascii:], invisible) {
		return s, ""
	}
	var out, words strings.Builder
	out.Grow(len(s))
	before := false // a letter or digit
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		if !invisible(r) {
			out.WriteRune(r)
			before = unicode.IsLetter(r) || unicode.IsDigit(r)
			continue
		}
		next, _ := utf8.DecodeRuneInString(s[i:])
		if before && unicode.IsLetter(next) && r != '\u00ad' && saltable(next) && words.Len() < maxHidden {
			words.WriteString(wordAt(s, i))
			words.WriteByte(' ')
		}
		before = false
	}
	return out.String(), words.String()
}

// saltable is a letter of a script that needs no joiners.
func saltable(r rune) bool { return unicode.In(r, unicode.Latin, unicode.Cyrillic, unicode.Greek) }

// wordAt is the word around a place in s, bounded.
func wordAt(s string, i int) string {
	const reach = 40
	from, to := max(0, i-reach), min(len(s), i+reach)
	if j := strings.LastIndexAny(s[from:i], " \t\r\n"); j >= 0 {
		from += j + 1
	}
	if j := strings.IndexAny(s[i:to], " \t\r\n"); j >= 0 {
		to = i + j
	}
	return strings.ToValidUTF8(s[from:to], "")
}

// invisible is a character without a width.
func invisible(r rune) bool {
	switch r {
	case '\u00ad', '\u034f', '\u061c', '\u180e', '\ufeff':
		return true
	}
	return r >= '\u200b' && r <= '\u200f' || r >= '\u202a' && r <= '\u202e' || r >= '\u2060' && r <= '\u2064' || r >= '\u2066' && r <= '\u2069' || r >= 0xe0000 && r <= 0xe007f
}

// htmlCharset is the charset of a page: what the mail says, else the page itself.
func htmlCharset(data []byte, label string) string {
	if label == "" && !utf8.Valid(data) {
		_, label, _ = charset.DetermineEncoding(data[:min(len(data), 1024)], "")
	}
	return label
}

// trueLabel is the charset that clients go by, which is not always the one that the
// mail names.
func trueLabel(b []byte, label string) string {
	switch {
	case bytes.HasPrefix(b, []byte{0xff, 0xfe}):
		return "utf-16le" // A mark at the front counts more (WHATWG Encoding §6).
	case bytes.HasPrefix(b, []byte{0xfe, 0xff}):
		return "utf-16be"
	case label == "":
		return ""
	}
	switch _, name := charset.Lookup(label); name {
	case "utf-16le", "utf-16be":
		if bytes.IndexByte(b, 0) < 0 { // no text with line ends or blanks in it
			return ""
		}
	case "replacement":
		// Browsers show nothing of these charsets (HZ, ISO 2022 of Korea and China), but
		// mail clients do, and what is ASCII in them reads as such.
		return ""
	}
	return label
}

// toUTF8 decodes text, up to a bound. A charset that is not known, and one that
// lies about plain UTF-8, changes nothing.
func toUTF8(b []byte, label string) string {
	b = b[:min(len(b), viewText*2)]
	label = trueLabel(b, label)
	if isUTF7(label) {
		return strings.ToValidUTF8(string(decodeUTF7(b)), "\uFFFD")
	}
	simple := label == "" || strings.EqualFold(label, "utf-8") || strings.EqualFold(label, "us-ascii")
	if simple && utf8.Valid(b) {
		return string(b)
	}
	if label == "" || strings.EqualFold(label, "us-ascii") {
		label = "windows-1252"
	}
	if r, err := charset.NewReaderLabel(label, bytes.NewReader(b)); err == nil {
		if out, err := io.ReadAll(io.LimitReader(r, viewText*2)); err == nil {
			return strings.ToValidUTF8(string(out), "\uFFFD")
		}
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}
