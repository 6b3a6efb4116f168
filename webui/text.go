package webui

import (
	"context"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/a-h/templ"
)

// foreign shows text that a stranger wrote: subjects, senders, file names. It
// stands in an element of its own for the direction of writing, and characters
// that turn text around, hide or break it are shown by name. A name that reads
// "exe.fdp" backwards is an old trick.
//
// It is the one place that writes HTML without templ; everything from outside
// goes through templ.EscapeString.
func foreign(s string, limit int) templ.Component {
	return templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
		var b strings.Builder
		b.WriteString(`<bdi lang="" dir="auto">`)
		writeForeign(&b, s, limit)
		b.WriteString(`</bdi>`)
		_, err := io.WriteString(w, b.String())
		return err
	})
}

func writeForeign(b *strings.Builder, s string, limit int) {
	n, start := 0, 0
	var before rune
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if n++; limit > 0 && n > limit {
			b.WriteString(templ.EscapeString(s[start:i]))
			b.WriteString("…")
			return
		}
		if name, odd := oddName(r, size); odd && !joinsPicture(r, before) {
			b.WriteString(templ.EscapeString(s[start:i]))
			b.WriteString(`<span class="oddchar">` + name + `</span>`)
			start = i + size
		}
		i += size
		before = r
	}
	b.WriteString(templ.EscapeString(s[start:]))
}

// joinsPicture says whether r is the joiner inside an emoji such as a family.
func joinsPicture(r, before rune) bool {
	return r == '\u200D' && (before == '\uFE0F' || unicode.Is(unicode.So, before) || unicode.Is(unicode.Sk, before))
}

// oddName names a character that must not act inside a page.
func oddName(r rune, size int) (string, bool) {
	switch {
	case r == utf8.RuneError && size <= 1:
		return "?", true
	case r == '\n', r == '\t', r == '\r':
		return "", false
	case unicode.Is(unicode.Cc, r), unicode.Is(unicode.Cf, r), r == '\u2028', r == '\u2029', r == '\u115F', r == '\u1160', r == '\u3164', r == '\uFFA0':
		return fmt.Sprintf("U+%04X", r), true
	}
	return "", false
}

// plain is foreign text for an attribute: the odd characters are named in it.
func plain(s string, limit int) string {
	var b strings.Builder
	n := 0
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if n++; limit > 0 && n > limit {
			b.WriteString("…")
			break
		}
		if name, odd := oddName(r, size); odd {
			b.WriteString("[" + name + "]")
		} else {
			b.WriteRune(r)
		}
		i += size
	}
	return b.String()
}

// sender splits a From field into the name and the address that it shows. What
// does not look like `Name <address>` is taken as an address.
func sender(header string) (name, address string) {
	header = strings.TrimSpace(header)
	at := strings.LastIndexByte(header, '<')
	if at < 0 || !strings.HasSuffix(header, ">") {
		return "", header
	}
	name = strings.Trim(strings.TrimSpace(header[:at]), `"`)
	return name, strings.TrimSuffix(header[at+1:], ">")
}
