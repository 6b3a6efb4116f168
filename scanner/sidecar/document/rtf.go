package document

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"strings"
)

// Bounds of an RTF file.
const (
	maxRTFGroups  = 10_000 // open at a time
	maxRTFObjects = 100
)

// Where the words of a group go.
type rtfPlace int

const (
	rtfText rtfPlace = iota
	rtfSkip
	rtfObject
	rtfField
	rtfTemplate
	rtfPage // a tag of the web page that the file was made of
)

type rtfGroup struct {
	place rtfPlace
	skip  int // characters that stand for one of Unicode, for old readers
	owner bool
}

// rtf is the look into one RTF file. Word reads it with much patience, and so
// must we: what is no hexadecimal digit in an object is passed over, unknown
// words are none.
type rtf struct {
	r       *reader
	data    []byte
	at      int
	groups  []rtfGroup
	star    bool
	object  []byte
	odd     bool // an object holds more than digits and blanks
	digit   int  // half a byte, -1: none
	field   strings.Builder
	targets strings.Builder
	unskip  int
	update  bool
	objects int
	isPage  bool            // it was made of a web page, as Outlook keeps one
	page    strings.Builder // that page, near enough
}

func (r *reader) rtf() error {
	x := &rtf{r: r, data: r.file.Data, groups: []rtfGroup{{skip: 1}}, digit: -1}
	if i := bytes.Index(x.data, []byte(`{\rt`)); !bytes.HasPrefix(x.data[i:], []byte(`{\rtf`)) {
		r.sign("RTF.Malformed", 2, "its head is that of no RTF file, but Word opens it")
	}
	for n := 0; x.at < len(x.data); n++ {
		if n%10_000 == 0 {
			if err := r.late(); err != nil {
				return err
			}
		}
		if err := x.step(); err != nil {
			return err
		}
	}
	for len(x.groups) > 1 { // What is not closed counts all the same.
		if err := x.close(); err != nil {
			return err
		}
	}
	if x.update && x.objects > 0 {
		r.suspect("RTF.ObjectUpdate", 7, "it makes Word load the objects in it without being asked")
	}
	if x.page.Len() > 0 {
		if err := r.embed("body.html", "text/html", []byte(x.page.String())); err != nil {
			return err
		}
	}
	if x.odd {
		r.sign("RTF.ObfuscatedObject", 3, "an object in it is written in a way that hides it from scanners")
	}
	return nil
}

func (x *rtf) top() *rtfGroup { return &x.groups[len(x.groups)-1] }

func (x *rtf) step() error {
	c := x.data[x.at]
	x.at++
	switch c {
	case '{':
		if len(x.groups) < maxRTFGroups {
			g := *x.top()
			g.owner = false
			x.groups = append(x.groups, g)
		}
		x.star = false
	case '}':
		return x.close()
	case '\\':
		x.control()
	case '\r', '\n':
	default:
		x.char(rune(c))
	}
	return nil
}

// close ends a group; the one that an object or field began in ends that too.
func (x *rtf) close() error {
	if len(x.groups) == 1 {
		return nil
	}
	g := *x.top()
	x.groups = x.groups[:len(x.groups)-1]
	if !g.owner {
		return nil
	}
	switch g.place {
	case rtfObject:
		data := x.object
		x.object, x.digit = nil, -1
		if len(data) > 8 {
			return x.done(data)
		}
	case rtfField:
		x.r.field(clip(x.field.String(), 4000))
		x.field.Reset()
	case rtfTemplate:
		x.template(strings.TrimSpace(x.targets.String()))
		x.targets.Reset()
	}
	return nil
}

func (x *rtf) template(target string) {
	if isWeb(target) || IsShare(target) || IsShare(strings.ReplaceAll(target, `\\`, `\`)) {
		x.r.link(target, "")
		x.r.suspect("Document.RemoteTemplate", 8, "when it is opened, it loads a template, which may hold macros, from elsewhere: "+clip(target, 150), "target", target)
	}
}

// char takes one character.
func (x *rtf) char(c rune) {
	if x.unskip > 0 {
		x.unskip--
		return
	}
	switch x.top().place {
	case rtfText:
		if x.r.text.Len() < maxText {
			x.r.text.WriteRune(c)
		}
		if x.isPage {
			x.tag(c)
		}
	case rtfPage:
		x.tag(c)
	case rtfObject:
		x.hex(c)
	case rtfField:
		if x.field.Len() < 8000 {
			x.field.WriteRune(c)
		}
	case rtfTemplate:
		if x.targets.Len() < 8000 {
			x.targets.WriteRune(c)
		}
	}
}

// tag takes a character of the web page that the file was made of (MS-OXRTFEX).
func (x *rtf) tag(c rune) {
	if x.page.Len() < maxText {
		x.page.WriteRune(c)
	}
}

func (x *rtf) hex(c rune) {
	v, err := strconv.ParseUint(string(c), 16, 8)
	if err != nil {
		x.odd = x.odd || c != ' ' && c != '\t'
		return
	}
	if x.digit < 0 {
		x.digit = int(v)
		return
	}
	x.object = append(x.object, byte(x.digit<<4)|byte(v))
	x.digit = -1
}

// control reads a control word or symbol.
func (x *rtf) control() {
	if x.at >= len(x.data) {
		return
	}
	c := x.data[x.at]
	if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
		x.word()
		return
	}
	x.at++
	switch c {
	case '\'':
		if x.at+2 <= len(x.data) {
			if v, err := strconv.ParseUint(string(x.data[x.at:x.at+2]), 16, 8); err == nil {
				x.at += 2
				if x.top().place != rtfObject {
					x.char(rune(v))
				} else {
					x.odd = true
				}
			}
		}
	case '*':
		x.star = true
	case '~':
		x.char(' ')
	case '\\', '{', '}':
		x.char(rune(c))
	case '\r', '\n':
		x.char('\n')
	}
}

func (x *rtf) word() {
	from := x.at
	for x.at < len(x.data) && (x.data[x.at] >= 'a' && x.data[x.at] <= 'z' || x.data[x.at] >= 'A' && x.data[x.at] <= 'Z') {
		x.at++
	}
	name := string(x.data[from:min(x.at, from+40)])
	from = x.at
	if x.at < len(x.data) && x.data[x.at] == '-' {
		x.at++
	}
	for x.at < len(x.data) && x.data[x.at] >= '0' && x.data[x.at] <= '9' && x.at < from+12 {
		x.at++
	}
	param, err := strconv.Atoi(string(x.data[from:x.at]))
	if x.at < len(x.data) && x.data[x.at] == ' ' {
		x.at++
	}
	star := x.star
	x.star = false
	x.apply(name, param, err == nil, star)
}

func (x *rtf) apply(name string, param int, has, star bool) {
	begin := func(p rtfPlace) { *x.top() = rtfGroup{place: p, skip: x.top().skip, owner: true} }
	place := x.top().place
	switch name {
	case "objdata":
		begin(rtfObject)
		x.object, x.digit = nil, -1
	case "fldinst":
		begin(rtfField)
	case "template":
		begin(rtfTemplate)
	case "fromhtml":
		x.isPage = true
	case "htmltag":
		x.top().place = rtfPage
	case "objupdate":
		x.update = true
	case "bin":
		x.binary(param)
	case "fonttbl", "colortbl", "stylesheet", "info", "pict", "themedata", "datastore", "listtable", "generator", "xmlnstbl":
		x.top().place = rtfSkip
	case "uc":
		x.top().skip = max(0, min(param, 10))
	case "u":
		if has && place != rtfObject {
			x.unskip = 0
			x.char(rune(uint16(param)))
			x.unskip = x.top().skip
		}
	case "par", "line", "row", "sect", "page":
		if place == rtfText {
			x.char('\n')
		}
	case "tab", "cell":
		if place == rtfText {
			x.char('\t')
		}
	default:
		if place == rtfObject {
			x.odd = true
		}
		if star && (place == rtfText || place == rtfObject) && name != "shppict" && name != "objclass" {
			x.top().place = rtfSkip
		}
	}
}

// binary takes raw bytes.
func (x *rtf) binary(n int) {
	n = max(0, min(n, len(x.data)-x.at))
	if x.top().place == rtfObject {
		x.object = append(x.object, x.data[x.at:x.at+n]...)
	}
	x.at += n
}

// done looks into an object (MS-OLEDS §2.2.4): its class, and what it holds.
func (x *rtf) done(b []byte) error {
	if x.objects++; x.objects > maxRTFObjects {
		return ErrBytes
	}
	if err := x.r.took(len(b)); err != nil {
		return err
	}
	class, native := parseOLE1(b)
	switch {
	case strings.EqualFold(class, "package"):
		if name, data := parsePackage(native); data != nil {
			return x.r.embed(name, "", data)
		}
	case strings.EqualFold(class, "ole2link"):
		x.r.suspect("RTF.LinkedObject", 6, "an object in it is loaded from elsewhere when it is opened")
	case strings.HasPrefix(strings.ToLower(class), "equation") && !bytes.Contains(b, cfbMagic):
		x.r.equation(native)
	}
	if i := bytes.Index(b, cfbMagic); i >= 0 {
		return x.r.embed("object.ole", "", b[i:])
	}
	if len(native) > 0 {
		b = native
	}
	return x.r.embed("object.bin", "", b)
}

// parseOLE1 reads the head of an object.
func parseOLE1(b []byte) (class string, native []byte) {
	word := func() (uint32, bool) {
		if len(b) < 4 {
			return 0, false
		}
		v := binary.LittleEndian.Uint32(b)
		b = b[4:]
		return v, true
	}
	word()
	if format, ok := word(); !ok || format != 1 && format != 2 {
		return "", nil
	}
	for i := range 3 { // class, topic, item
		n, ok := word()
		if !ok || uint64(n) > uint64(len(b)) {
			return class, nil
		}
		if i == 0 {
			class = clip(strings.TrimRight(string(b[:min(n, 100)]), "\x00"), 100)
		}
		b = b[n:]
	}
	if n, ok := word(); ok {
		return class, b[:min(uint64(n), uint64(len(b)))]
	}
	return class, nil
}
