package document

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Records of a workbook of old (MS-XLS §2.3) that are looked at.
const (
	recFormula   = 0x0006
	recName      = 0x0018
	recFilePass  = 0x002f
	recContinue  = 0x003c
	recSheet     = 0x0085
	recMulRK     = 0x00bd
	recStrings   = 0x00fc
	recSupBook   = 0x01ae
	recHyperlink = 0x01b8
	recNumber    = 0x0203
	recLabel     = 0x0204
	recString    = 0x0207
	recRK        = 0x027e
	recBegin     = 0x0809
)

// xlmCalls are the functions of Excel 4 macros that reach out of the workbook.
var xlmCalls = map[uint16]string{
	0x0001: "GOTO", 0x0011: "RUN", 0x0060: "FORMULA", 0x006e: "EXEC", 0x0084: "FOPEN", 0x0089: "FWRITE",
	0x008a: "FWRITELN", 0x0095: "REGISTER", 0x0096: "CALL", 0x00ba: "GET.WORKSPACE", 0x8060: "FORMULA", 0x8095: "REGISTER",
}

// xlmDanger are those that no macro needs that only computes.
var xlmDanger = map[string]bool{"EXEC": true, "FOPEN": true, "FWRITE": true, "FWRITELN": true, "REGISTER": true, "CALL": true}

// biff is the look through one workbook.
type biff struct {
	r       *reader
	sheets  map[uint32]sheet // by where they begin
	at      sheet            // the one that is being read
	macros  bool
	hidden  bool // a macro sheet is
	auto    bool
	calls   map[string]bool
	strings strings.Builder // of macro sheets
}

type sheet struct {
	macro, hidden bool
	name          string
}

// workbook reads a workbook.
func (r *reader) workbook(_ *compound, b []byte) error {
	if key := filePass(b); key != nil {
		plain, err := r.decryptBIFF(b, key)
		if err != nil || plain == nil {
			return err
		}
		b = plain
	}
	x := &biff{r: r, sheets: map[uint32]sheet{}, calls: map[string]bool{}}
	total := len(b)
	for n := 0; len(b) >= 4; n++ {
		if n%1000 == 0 {
			if err := r.late(); err != nil {
				return err
			}
		}
		at := uint32(total - len(b))
		kind, size := binary.LittleEndian.Uint16(b), int(binary.LittleEndian.Uint16(b[2:]))
		body := b[4:min(len(b), 4+size)]
		b = b[4+len(body):]
		switch kind {
		case recBegin:
			x.at = x.sheets[at]
		case recStrings:
			var more [][]byte
			body, more, b = continued(body, b)
			x.shared(append([][]byte{body}, more...))
		default:
			x.record(kind, body)
		}
	}
	x.conclude()
	return nil
}

// continued takes the records that continue one.
func continued(body, rest []byte) (first []byte, more [][]byte, left []byte) {
	for len(rest) >= 4 && binary.LittleEndian.Uint16(rest) == recContinue && len(more) < 20_000 {
		n := min(len(rest), 4+int(binary.LittleEndian.Uint16(rest[2:])))
		more = append(more, rest[4:n])
		rest = rest[n:]
	}
	return body, more, rest
}

// filePass is the record that says how a workbook is encrypted; nil: it is not.
func filePass(b []byte) []byte {
	for n := 0; len(b) >= 4 && n < 50; n++ {
		kind, size := binary.LittleEndian.Uint16(b), int(binary.LittleEndian.Uint16(b[2:]))
		end := min(len(b), 4+size)
		if kind == recFilePass {
			return b[4:end]
		}
		b = b[end:]
	}
	return nil
}

func (x *biff) record(kind uint16, b []byte) {
	switch {
	case kind == recSheet && len(b) >= 8:
		s := sheet{macro: b[5] == 1, hidden: b[4]&3 != 0, name: shortString(b[6:])}
		x.macros, x.hidden = x.macros || s.macro, x.hidden || s.macro && s.hidden
		if len(x.sheets) < 10_000 {
			x.sheets[binary.LittleEndian.Uint32(b)] = s
		}
	case kind == recName && len(b) > 15:
		// A built-in name 1 is Auto_Open, 2 Auto_Close.
		name := shortString(append([]byte{b[3]}, b[14:]...))
		builtin := binary.LittleEndian.Uint16(b)&0x20 != 0
		if builtin && (name == "\x01" || name == "\x02" || name == "\x0a") || strings.HasPrefix(strings.ToLower(name), "auto_") {
			x.auto = true
		}
	case kind == recSupBook && len(b) > 4:
		x.link(b)
	case kind == recFormula && len(b) > 22 && x.at.macro:
		x.formula(b[22:])
	case kind == recString && x.at.macro && len(b) > 3:
		fmt.Fprintln(&x.strings, wideString(b))
	case kind == recHyperlink:
		x.hyperlink(b)
	case kind == recLabel && len(b) > 8:
		x.r.say("\n", wideString(b[6:]))
	case kind == recNumber && len(b) >= 14:
		x.r.say("\n", number(math.Float64frombits(binary.LittleEndian.Uint64(b[6:]))))
	case kind == recRK && len(b) >= 10:
		x.r.say("\n", number(rk(binary.LittleEndian.Uint32(b[6:]))))
	case kind == recMulRK:
		for i := 4; i+8 <= len(b); i += 6 {
			x.r.say("\n", number(rk(binary.LittleEndian.Uint32(b[i+2:]))))
		}
	}
}

// formula looks for calls in a formula of a macro sheet. Its tokens are not
// followed one by one: in a macro sheet a false hit harms nobody.
func (x *biff) formula(b []byte) {
	for i := 0; i+4 <= len(b); i++ {
		switch b[i] {
		case 0x22, 0x42, 0x62:
			if name := xlmCalls[binary.LittleEndian.Uint16(b[i+2:])]; name != "" && b[i+1]&0x7f <= 30 {
				x.calls[name] = true
			}
		case 0x17:
			if x.strings.Len() < maxMacro {
				fmt.Fprintln(&x.strings, shortString(b[i+1:]))
			}
		}
	}
}

// link looks at where a workbook takes values from (MS-XLS §2.4.271): another
// program by DDE has its name and topic there.
func (x *biff) link(b []byte) {
	path := wideString(b[2:])
	if app, topic, ok := strings.Cut(path, "\x03"); ok && binary.LittleEndian.Uint16(b) == 0 {
		x.r.dde("DDE " + app + " " + topic)
		return
	}
	if target := strings.TrimPrefix(strings.TrimLeft(path, "\x01\x02\x05\x06\x07\x08"), "URL:"); isWeb(target) || IsShare(target) {
		x.r.sign("Document.ExternalLink", 0.5, "it takes values from another workbook", "target", target)
	}
}

func (x *biff) hyperlink(b []byte) {
	for i := 0; i+20 < len(b); i++ {
		// The class of the URL moniker, then a length, then the address.
		if b[i] == 0xe0 && string(b[i:i+16]) == "\xe0\xc9\xea\x79\xf9\xba\xce\x11\x8c\x82\x00\xaa\x00\x4b\xa9\x0b" {
			target, _, _ := strings.Cut(utf16String(b[i+20:]), "\x00")
			x.r.link(target, "")
			return
		}
	}
}

// conclude judges the macro sheets.
func (x *biff) conclude() {
	x.r.code("xlm", []byte(x.strings.String()))
	x.r.xlm(x.macros, x.auto, x.hidden, x.calls, x.strings.String())
}

// xlm judges Excel 4 macros, which Excel does not run any more unless told to.
func (r *reader) xlm(macros, auto, hidden bool, calls map[string]bool, text string) {
	if !macros {
		return
	}
	var bad []string
	for name := range calls {
		if xlmDanger[name] {
			bad = append(bad, name)
		}
	}
	if cmd := commands.FindString(text[:min(len(text), maxJudged)]); cmd != "" {
		bad = append(bad, cmd)
	}
	list := joined(bad)
	switch {
	case list != "" && (auto || hidden):
		r.suspect("Document.XLM.AutoExec", 9, "an Excel 4 macro in it starts by itself or is hidden, and reaches out of the workbook", "calls", list)
	case auto && hidden:
		r.suspect("Document.XLM.Hidden", 7, "an Excel 4 macro in it starts by itself from a hidden sheet")
	default:
		r.sign("Document.XLM", 3, "there are Excel 4 macros in it", "calls", list)
	}
}

// shared reads the strings of all cells (MS-XLS §2.4.265). Where a string goes
// over the end of a record, the next one starts with its flags anew.
func (x *biff) shared(chunks [][]byte) {
	if len(chunks[0]) < 8 {
		return
	}
	chunks[0] = chunks[0][8:]
	s := sharedStrings{chunks: chunks}
	for x.r.text.Len() < maxText {
		text, ok := s.next()
		if !ok {
			return
		}
		x.r.say("\n", text)
	}
}

type sharedStrings struct{ chunks [][]byte }

func (s *sharedStrings) take(n int) []byte {
	for len(s.chunks) > 0 && len(s.chunks[0]) == 0 {
		s.chunks = s.chunks[1:]
	}
	if len(s.chunks) == 0 {
		return nil
	}
	b := s.chunks[0][:min(n, len(s.chunks[0]))]
	s.chunks[0] = s.chunks[0][len(b):]
	return b
}

func (s *sharedStrings) skip(n int) {
	for n > 0 {
		b := s.take(n)
		if len(b) == 0 {
			return
		}
		n -= len(b)
	}
}

func (s *sharedStrings) next() (string, bool) {
	head := s.take(3)
	if len(head) < 3 {
		return "", false
	}
	chars, flags := int(binary.LittleEndian.Uint16(head)), head[2]
	runs, ext := 0, 0
	if flags&8 != 0 {
		if b := s.take(2); len(b) == 2 {
			runs = 4 * int(binary.LittleEndian.Uint16(b))
		}
	}
	if flags&4 != 0 {
		if b := s.take(4); len(b) == 4 {
			ext = int(binary.LittleEndian.Uint32(b) & 0xffffff)
		}
	}
	var out strings.Builder
	for {
		width := 1 + int(flags&1)
		b := s.take(chars * width)
		if width == 2 {
			out.WriteString(utf16String(b))
		} else {
			out.WriteString(latin1(b))
		}
		if chars -= len(b) / width; chars <= 0 || len(b) == 0 {
			break
		}
		f := s.take(1)
		if len(f) == 0 {
			break
		}
		flags = f[0]
	}
	s.skip(runs + ext)
	return out.String(), true
}

// shortString reads a string with a length of one byte and flags.
func shortString(b []byte) string {
	if len(b) < 2 {
		return ""
	}
	return chars(b[2:], int(b[0]), b[1])
}

// wideString reads a string with a length of two bytes and flags.
func wideString(b []byte) string {
	if len(b) < 3 {
		return ""
	}
	return chars(b[3:], int(binary.LittleEndian.Uint16(b)), b[2])
}

func chars(b []byte, n int, flags byte) string {
	if flags&1 != 0 {
		return utf16String(b[:min(len(b), 2*n)])
	}
	return latin1(b[:min(len(b), n)])
}

// rk reads the short form of a number (MS-XLS §2.5.217).
func rk(v uint32) float64 {
	var f float64
	if v&2 != 0 {
		f = float64(int32(v) >> 2)
	} else {
		f = math.Float64frombits(uint64(v&^3) << 32)
	}
	if v&1 != 0 {
		f /= 100
	}
	return f
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
