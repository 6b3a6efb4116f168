package document

import (
	"encoding/binary"
	"strings"
)

// word reads a Word document of old (MS-DOC): is it encrypted, what does it say,
// which fields does it hold.
func (r *reader) word(c *compound, b []byte) error {
	if len(b) < 0x1aa || binary.LittleEndian.Uint16(b) != 0xa5ec {
		return nil
	}
	flags := binary.LittleEndian.Uint16(b[10:])
	if flags&0x0100 != 0 {
		r.locked("a document in it is encrypted: %s", r.file.Name)
		return nil
	}
	table := "0Table"
	if flags&0x0200 != 0 {
		table = "1Table"
	}
	n := c.find(table)
	if n < 0 {
		return nil
	}
	t, _ := c.stream(n)
	fc, lcb := binary.LittleEndian.Uint32(b[0x1a2:]), binary.LittleEndian.Uint32(b[0x1a6:])
	if uint64(fc)+uint64(lcb) > uint64(len(t)) {
		return nil
	}
	text := pieces(t[fc:fc+lcb], b)
	r.fields(text)
	r.say("\n", plainWord(text))
	return r.took(len(text))
}

// pieces joins a document's text by its piece table (MS-DOC §2.9.38).
func pieces(clx, doc []byte) string {
	for len(clx) >= 3 && clx[0] == 1 { // Prc: formatting
		n := 3 + int(binary.LittleEndian.Uint16(clx[1:]))
		clx = clx[min(n, len(clx)):]
	}
	if len(clx) < 5 || clx[0] != 2 {
		return ""
	}
	plc := clx[5:min(uint64(len(clx)), 5+uint64(binary.LittleEndian.Uint32(clx[1:])))]
	n := (len(plc) - 4) / 12
	var out strings.Builder
	for i := 0; i < n && out.Len() < maxText; i++ {
		from, to := binary.LittleEndian.Uint32(plc[4*i:]), binary.LittleEndian.Uint32(plc[4*i+4:])
		if to < from {
			break
		}
		fc := binary.LittleEndian.Uint32(plc[4*(n+1)+8*i+2:])
		chars := uint64(to - from)
		if fc&0x40000000 != 0 {
			at := uint64(fc&0x3fffffff) / 2
			out.WriteString(latin1(part(doc, at, min(chars, maxText))))
		} else {
			out.WriteString(utf16String(part(doc, uint64(fc), min(2*chars, maxText))))
		}
	}
	return out.String()
}

func part(b []byte, at, n uint64) []byte {
	if at >= uint64(len(b)) {
		return nil
	}
	return b[at:min(at+n, uint64(len(b)))]
}

// Marks in the text of a Word document.
const (
	fieldBegin, fieldSep, fieldEnd = '\x13', '\x14', '\x15'
)

// fields looks at the instructions of the fields in a text.
func (r *reader) fields(text string) {
	for n := 0; n < 10_000; n++ {
		i := strings.IndexRune(text, fieldBegin)
		if i < 0 {
			return
		}
		text = text[i+1:]
		code := text
		if j := strings.IndexAny(text, "\x14\x15"); j >= 0 {
			code = text[:j]
		}
		r.field(clip(strings.ReplaceAll(code, "\x13", " "), 2000))
	}
}

// plainWord is the text as it is shown: without the instructions of fields.
func plainWord(s string) string {
	var out strings.Builder
	depth, hidden := 0, make([]bool, 0, 8)
	for _, c := range s {
		switch {
		case c == fieldBegin:
			depth++
			if depth < 1000 {
				hidden = append(hidden, true)
			}
		case c == fieldSep:
			if len(hidden) > 0 {
				hidden[len(hidden)-1] = false
			}
		case c == fieldEnd:
			if depth = max(0, depth-1); len(hidden) > depth {
				hidden = hidden[:depth]
			}
		case len(hidden) > 0 && hidden[len(hidden)-1]:
		case c == '\r' || c == '\x0b' || c == '\x0c':
			out.WriteByte('\n')
		case c == '\x07':
			out.WriteByte('\t')
		case c >= ' ' || c == '\t' || c == '\n':
			out.WriteRune(c)
		}
	}
	return out.String()
}
