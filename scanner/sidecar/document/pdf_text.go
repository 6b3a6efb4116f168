package document

import (
	"bytes"
	"strings"
)

// Bounds of the pages whose text is read: drawings have pages of many megabytes
// that say nothing.
const (
	maxPages     = 500
	maxPageBytes = 32 << 20 // of all pages
)

// pages reads the text of all pages, in the order in which they stand in the
// file, until there is enough of it.
func (p *pdf) pages() error {
	n := 0
	begin := p.r.out.Bytes
	for _, o := range p.objects {
		d := o.dict()
		if d["Type"] != pdfName("Page") && d["Subtype"] != pdfName("Form") || p.r.text.Len() >= maxText {
			continue
		}
		if n++; n > maxPages || p.r.out.Bytes-begin > maxPageBytes {
			return nil
		}
		if err := p.page(o, d); err != nil {
			return err
		}
	}
	return nil
}

func (p *pdf) page(o *pdfObject, d pdfDict) error {
	var streams []*pdfObject
	if d["Subtype"] == pdfName("Form") {
		streams = []*pdfObject{o}
	} else if c := p.object(d["Contents"]); c != nil && c.stream != nil {
		streams = []*pdfObject{c}
	} else if list, ok := p.resolve(d["Contents"]).(pdfArray); ok {
		for _, x := range list[:min(len(list), 100)] {
			if c := p.object(x); c != nil && c.stream != nil {
				streams = append(streams, c)
			}
		}
	}
	var content bytes.Buffer
	for _, s := range streams {
		if p.taken[s] {
			continue // A stream that many pages share says its text once.
		}
		p.taken[s] = true
		b, err := p.decode(s)
		if err != nil {
			return err
		}
		content.Write(b)
		content.WriteByte('\n')
	}
	if content.Len() == 0 {
		return nil
	}
	return p.show(content.Bytes(), p.fonts(d))
}

// fonts are the fonts of a page, also those that it has from the tree above it.
func (p *pdf) fonts(d pdfDict) map[string]*cmap {
	for range 20 {
		res, _ := p.resolve(d["Resources"]).(pdfDict)
		if list, ok := p.resolve(res["Font"]).(pdfDict); ok {
			out := map[string]*cmap{}
			for name, f := range list {
				if len(out) < 200 {
					out[name] = p.font(f)
				}
			}
			return out
		}
		parent, ok := p.resolve(d["Parent"]).(pdfDict)
		if !ok {
			return nil
		}
		d = parent
	}
	return nil
}

// cmap says which text the codes of a font stand for.
type cmap struct {
	wide   bool // two bytes a code
	chars  map[int]string
	opaque bool // nothing says what its codes mean
}

func (p *pdf) font(v any) *cmap {
	o := p.object(v)
	if o != nil && p.maps[o] != nil {
		return p.maps[o]
	}
	d, _ := p.resolve(v).(pdfDict)
	m := &cmap{wide: d["Subtype"] == pdfName("Type0")}
	if u := p.object(d["ToUnicode"]); u != nil && u.stream != nil {
		if b, err := p.decode(u); err == nil {
			m.read(b)
		}
	}
	m.opaque = m.wide && len(m.chars) == 0
	if o != nil {
		p.maps[o] = m
	}
	return m
}

// read takes the two kinds of lines of a ToUnicode map (ISO 32000-1 §9.10.3).
func (m *cmap) read(b []byte) {
	m.chars = map[int]string{}
	l := pdfLexer{data: b}
	var args []any
	for len(m.chars) < 70_000 && l.at < len(b) {
		v := l.value(0)
		w, ok := v.(pdfWord)
		if !ok {
			if args = append(args, v); len(args) > 1000 {
				args = args[1:]
			}
			continue
		}
		switch w {
		case "endbfchar":
			for i := 0; i+1 < len(args); i += 2 {
				m.set(code(args[i]), args[i+1], 0)
			}
		case "endbfrange":
			for i := 0; i+2 < len(args); i += 3 {
				from, to := code(args[i]), code(args[i+1])
				for c := from; c >= 0 && c <= to && c < from+65536 && len(m.chars) < 70_000; c++ {
					if list, ok := args[i+2].(pdfArray); ok {
						if c-from < len(list) {
							m.set(c, list[c-from], 0)
						}
						continue
					}
					m.set(c, args[i+2], c-from)
				}
			}
		case "":
			if l.at >= len(b) {
				return
			}
		}
		args = args[:0]
	}
}

func code(v any) int {
	s, ok := v.(pdfString)
	if !ok || len(s) > 4 {
		return -1
	}
	n := 0
	for _, c := range s {
		n = n<<8 | int(c)
	}
	return n
}

func (m *cmap) set(c int, v any, plus int) {
	s, ok := v.(pdfString)
	if !ok || c < 0 || len(s) > 64 {
		return
	}
	text := []rune(utf16BE(s))
	if len(text) > 0 {
		text[len(text)-1] += rune(plus)
		m.chars[c] = string(text)
	}
}

func (m *cmap) text(s []byte) string {
	if m == nil {
		return latin1(s)
	}
	if m.opaque {
		return ""
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		c := int(s[i])
		if m.wide && i+1 < len(s) {
			c = c<<8 | int(s[i+1])
			i++
		}
		switch t, ok := m.chars[c]; {
		case ok:
			out.WriteString(t)
		case !m.wide && c >= ' ':
			out.WriteRune(rune(c))
		}
	}
	return out.String()
}

// wordGap is from how far on a shift in a line is a blank, in thousandths.
const wordGap = -180

// show follows the operators that write text (ISO 32000-1 §9.4.3).
func (p *pdf) show(b []byte, fonts map[string]*cmap) error {
	l := pdfLexer{data: b}
	var args []any
	var font *cmap
	var line strings.Builder
	draw := newDrawing()
	defer func() {
		if len(p.r.out.Pictures) >= maxPictures {
			return
		}
		if img := draw.code(); img != nil {
			p.r.out.Pictures = append(p.r.out.Pictures, Picture{Pixels: img})
		}
	}()
	end := func() {
		p.r.say("\n", strings.TrimSpace(line.String()))
		line.Reset()
	}
	for n := 0; l.at < len(b) && p.r.text.Len() < maxText; n++ {
		if n%5000 == 0 {
			if err := p.r.late(); err != nil {
				return err
			}
		}
		v := l.value(0)
		w, ok := v.(pdfWord)
		if !ok {
			if args = append(args, v); len(args) > 100 {
				args = args[1:]
			}
			continue
		}
		draw.op(string(w), args)
		switch w {
		case "Tf":
			if len(args) >= 2 {
				name, _ := args[len(args)-2].(pdfName)
				font = fonts[string(name)]
			}
		case "Tj", "'", `"`, "TJ":
			if w == "'" || w == `"` {
				end()
			}
			if len(args) > 0 {
				if line.WriteString(shown(font, args[len(args)-1])); line.Len() > maxText {
					end()
				}
			}
		case "Td", "TD":
			if y, ok := last(args).(float64); ok && y == 0 {
				line.WriteByte(' ')
			} else {
				end()
			}
		case "T*", "Tm", "ET":
			end()
		case "ID": // An inline picture.
			if i := bytes.Index(b[l.at:], []byte("EI")); i >= 0 {
				l.at += i + 2
			}
		}
		args = args[:0]
	}
	end()
	return nil
}

func last(args []any) any {
	if len(args) == 0 {
		return nil
	}
	return args[len(args)-1]
}

// shown is the text of one string, or of an array of strings and shifts.
func shown(font *cmap, v any) string {
	switch v := v.(type) {
	case pdfString:
		return font.text(v)
	case pdfArray:
		var out strings.Builder
		for _, x := range v {
			switch x := x.(type) {
			case pdfString:
				out.WriteString(font.text(x))
			case float64:
				if x < wordGap {
					out.WriteByte(' ')
				}
			}
		}
		return out.String()
	}
	return ""
}
