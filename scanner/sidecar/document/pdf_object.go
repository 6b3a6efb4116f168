package document

import (
	"bytes"
	"errors"
	"strconv"
)

// Bounds of a PDF file.
const (
	maxPDFObjects = 200_000
	maxPDFDepth   = 50
	maxPDFItems   = 100_000 // of one array or dictionary
	pdfHeadMost   = 300     // bytes in which an object's number is looked for
)

// Values of PDF beside float64, bool and nil.
type (
	pdfName   string
	pdfString []byte
	pdfRef    int
	pdfArray  []any
	pdfDict   map[string]any
)

// pdfObject is an object, with its stream where it has one.
type pdfObject struct {
	num, gen int
	val      any
	stream   []byte // as it stands there
	from     int    // where the stream begins in the file
	inner    bool   // it stands in another one's string or stream
	packed   bool   // it came out of an object stream, and so is not encrypted by itself
}

func (o *pdfObject) dict() pdfDict {
	d, _ := o.val.(pdfDict)
	return d
}

// hasPDF says whether readers of PDF take bytes for one: the head may stand
// anywhere in the first 1,024.
func hasPDF(b []byte) bool { return bytes.Contains(b[:min(len(b), 1024)], []byte("%PDF-")) }

// errPDFLimit: a file has more objects, larger or deeper ones than are read, or
// reading those that stand inside of others costs too much. What was not read may
// be what a reader shows.
var errPDFLimit = errors.New("a PDF file in it has more objects, or deeper ones, than are read")

// scanPDF finds all objects by looking for them, also those that no table lists:
// tables lie, and readers mend them in just this way. An object may begin inside
// of another's string or stream, as a table may point there. trailers are the
// dictionaries that follow the word.
func scanPDF(data []byte, late func() error) (objects []*pdfObject, trailers []pdfDict, hashed bool, err error) {
	outer, left := 0, 4*len(data)+1<<20
	for at := 0; left >= 0 && len(objects) < maxPDFObjects; {
		if len(objects)%200 == 0 {
			if err := late(); err != nil {
				return nil, nil, false, err
			}
		}
		i := nextKeyword(data, at)
		if i < 0 {
			return objects, trailers, hashed, nil
		}
		if data[i] == 't' {
			l := pdfLexer{data: data, at: i + len("trailer")}
			if d, ok := l.value(0).(pdfDict); ok && len(trailers) < 1000 {
				trailers = append(trailers, d)
			}
			at = i + len("trailer")
			left -= l.at - at
			continue
		}
		at = i + len("obj")
		num, gen, ok := pdfHead(data, i, i < outer)
		if !ok {
			continue
		}
		l := pdfLexer{data: data, at: at}
		o := &pdfObject{num: num, gen: gen, inner: i < outer, val: l.value(0)}
		end := l.at
		if d := o.dict(); d != nil {
			o.stream, o.from = pdfStream(data, end, d)
			end = max(end, o.from+len(o.stream))
		}
		outer = max(outer, end)
		hashed = hashed || l.hashed
		objects = append(objects, o)
		left -= end - at
		if l.over {
			break
		}
	}
	return nil, nil, false, errPDFLimit
}

// pdfHead is the number and generation before the word obj at i. Where there are
// none, as with a comment between, an object that stands by itself is one all the
// same, without a number.
func pdfHead(data []byte, i int, inner bool) (num, gen int, ok bool) {
	before := data[max(0, i-pdfHeadMost):i]
	rest, second := lastNumber(before)
	_, first := lastNumber(rest)
	if len(first) > 0 && len(second) > 0 && len(second) <= 5 {
		num, _ = strconv.Atoi(string(first))
		gen, _ = strconv.Atoi(string(second))
		return num, gen, true
	}
	if inner || len(before) == 0 {
		return 0, 0, false
	}
	c := before[len(before)-1]
	return -1, 0, pdfSpace(c) || pdfDelim(c) || c >= '0' && c <= '9'
}

// lastNumber is the number at the end of b, with space behind it, and what stands
// before it; nothing where there is none.
func lastNumber(b []byte) (rest, digits []byte) {
	end := len(b)
	for end > 0 && pdfSpace(b[end-1]) {
		end--
	}
	from := end
	for from > 0 && b[from-1] >= '0' && b[from-1] <= '9' {
		from--
	}
	if end == len(b) {
		return nil, nil
	}
	return b[:from], b[from:end]
}

// nextKeyword is where the next "obj" or "trailer" stands; -1: nowhere.
func nextKeyword(data []byte, at int) int {
	if at >= len(data) {
		return -1
	}
	o := bytes.Index(data[at:], []byte("obj"))
	end := len(data)
	if o >= 0 {
		end = at + o
	}
	if t := bytes.Index(data[at:end], []byte("trailer")); t >= 0 {
		return at + t
	}
	if o < 0 {
		return -1
	}
	return at + o
}

// pdfStream is the stream that follows a dictionary, and where it begins.
func pdfStream(data []byte, at int, d pdfDict) (stream []byte, from int) {
	l := pdfLexer{data: data, at: at}
	l.space()
	if !bytes.HasPrefix(data[l.at:], []byte("stream")) {
		return nil, at
	}
	at = l.at + len("stream")
	if bytes.HasPrefix(data[at:], []byte("\r\n")) {
		at += 2
	} else if at < len(data) && (data[at] == '\n' || data[at] == '\r') {
		at++
	}
	if n, ok := d["Length"].(float64); ok {
		if b := pdfStreamOfLength(data, at, n); b != nil {
			return b, at
		}
	}
	end := bytes.Index(data[at:], []byte("endstream"))
	if end < 0 {
		return data[at:], at
	}
	return data[at : at+end], at
}

// pdfStreamOfLength is the stream of n bytes; nil where it does not end there.
func pdfStreamOfLength(data []byte, at int, n float64) []byte {
	if n < 0 || n > float64(len(data)-at) {
		return nil
	}
	end := at + int(n)
	if !bytes.HasPrefix(bytes.TrimLeft(data[end:min(len(data), end+16)], " \r\n\t"), []byte("endstream")) {
		return nil
	}
	return data[at:end:end]
}

// pdfLexer reads values (ISO 32000-1 §7.3).
type pdfLexer struct {
	data   []byte
	at     int
	hashed bool // a name had letters written as #xx, which nobody needs
	over   bool // a value was larger or deeper than is read
}

func pdfSpace(c byte) bool {
	return c == ' ' || c == '\n' || c == '\r' || c == '\t' || c == 0 || c == '\f'
}

func pdfDelim(c byte) bool { return bytes.IndexByte([]byte("()<>[]{}/%"), c) >= 0 }

func (l *pdfLexer) space() {
	for l.at < len(l.data) {
		switch c := l.data[l.at]; {
		case pdfSpace(c):
			l.at++
		case c == '%':
			for l.at < len(l.data) && l.data[l.at] != '\n' && l.data[l.at] != '\r' {
				l.at++
			}
		default:
			return
		}
	}
}

// pdfWord is a bare word that is no value: an operator, or the end of something.
type pdfWord string

func (l *pdfLexer) value(depth int) any {
	l.space()
	l.over = l.over || depth > maxPDFDepth
	if l.at >= len(l.data) || depth > maxPDFDepth {
		return pdfWord("")
	}
	rest := l.data[l.at:]
	switch c := rest[0]; {
	case c == '/':
		return l.name()
	case c == '(':
		return l.literal()
	case bytes.HasPrefix(rest, []byte("<<")):
		l.at += 2
		return l.dict(depth)
	case c == '<':
		return l.hex()
	case c == '[':
		l.at++
		return l.array(depth)
	case bytes.HasPrefix(rest, []byte(">>")):
		l.at += 2
		return pdfWord(">>")
	case pdfDelim(c):
		l.at++
		return pdfWord(rest[:1])
	}
	return l.word()
}

func (l *pdfLexer) word() any {
	from := l.at
	for l.at < len(l.data) && !pdfSpace(l.data[l.at]) && !pdfDelim(l.data[l.at]) {
		l.at++
	}
	w := string(l.data[from:min(l.at, from+64)])
	if c := w[0]; c >= '0' && c <= '9' || c == '-' || c == '+' || c == '.' {
		if f, err := strconv.ParseFloat(w, 64); err == nil {
			return l.ref(f)
		}
	}
	switch w {
	case "true":
		return true
	case "false":
		return false
	case "null":
		return nil
	}
	return pdfWord(w)
}

// ref sees whether a number begins a reference: 12 0 R.
func (l *pdfLexer) ref(f float64) any {
	if f != float64(int(f)) || f < 0 {
		return f
	}
	i := l.at
	skip := func(ok func(byte) bool) int {
		n := 0
		for i < len(l.data) && n < 20 && ok(l.data[i]) {
			i, n = i+1, n+1
		}
		return n
	}
	if skip(pdfSpace) > 0 && skip(func(c byte) bool { return c >= '0' && c <= '9' }) > 0 && skip(pdfSpace) > 0 && i < len(l.data) && l.data[i] == 'R' {
		l.at = i + 1
		return pdfRef(int(f))
	}
	return f
}

func (l *pdfLexer) name() pdfName {
	l.at++
	var out []byte
	for l.at < len(l.data) && !pdfSpace(l.data[l.at]) && !pdfDelim(l.data[l.at]) {
		c := l.data[l.at]
		if c == '#' && l.at+2 < len(l.data) {
			if v, err := strconv.ParseUint(string(l.data[l.at+1:l.at+3]), 16, 8); err == nil {
				c = byte(v)
				l.at += 2
				l.hashed = l.hashed || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
			}
		}
		if len(out) < 1000 {
			out = append(out, c)
		}
		l.at++
	}
	return pdfName(out)
}

func (l *pdfLexer) literal() pdfString {
	l.at++
	out := pdfString{}
	for depth := 1; l.at < len(l.data); l.at++ {
		c := l.data[l.at]
		switch c {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				l.at++
				return out
			}
		case '\\':
			var ok bool
			if c, ok = l.escape(); !ok {
				continue
			}
		}
		out = append(out, c)
	}
	return out
}

// escape reads what follows a backslash; false: nothing comes of it.
func (l *pdfLexer) escape() (byte, bool) {
	if l.at+1 >= len(l.data) {
		return 0, false
	}
	l.at++
	switch c := l.data[l.at]; c {
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case '\r':
		if l.at+1 < len(l.data) && l.data[l.at+1] == '\n' {
			l.at++
		}
		return 0, false
	case '\n':
		return 0, false
	case '0', '1', '2', '3', '4', '5', '6', '7':
		v := 0
		for n := 0; n < 3 && l.at < len(l.data) && l.data[l.at] >= '0' && l.data[l.at] <= '7'; n++ {
			v = v*8 + int(l.data[l.at]-'0')
			l.at++
		}
		l.at--
		return byte(v), true
	default:
		return c, true
	}
}

func (l *pdfLexer) hex() pdfString {
	l.at++
	end := bytes.IndexByte(l.data[l.at:], '>')
	if end < 0 {
		end = len(l.data) - l.at
	}
	out := unhex(l.data[l.at : l.at+end])
	l.at = min(len(l.data), l.at+end+1)
	return out
}

// unhex reads hex digits, and leaves out what is none.
func unhex(b []byte) []byte {
	out := make([]byte, 0, len(b)/2)
	acc, half := byte(0), false
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			continue
		}
		if half {
			out = append(out, acc<<4|c)
		}
		acc, half = c, !half
	}
	if half {
		out = append(out, acc<<4)
	}
	return out
}

func (l *pdfLexer) array(depth int) pdfArray {
	out := pdfArray{}
	for len(out) < maxPDFItems {
		before := l.at
		v := l.value(depth + 1)
		if w, ok := v.(pdfWord); ok {
			if w == "]" || w == "" || w == ">>" || w == "endobj" || l.at == before {
				return out
			}
			continue
		}
		out = append(out, v)
	}
	l.over = true
	return out
}

func (l *pdfLexer) dict(depth int) pdfDict {
	d := pdfDict{}
	for len(d) < maxPDFItems {
		before := l.at
		key := l.value(depth + 1)
		name, ok := key.(pdfName)
		if !ok {
			if w, is := key.(pdfWord); is && (w == ">>" || w == "" || w == "endobj" || w == "stream" || l.at == before) {
				if w == "stream" {
					l.at = before
				}
				return d
			}
			continue
		}
		v := l.value(depth + 1)
		if w, is := v.(pdfWord); is {
			if w == ">>" || w == "" {
				return d
			}
			v = nil
		}
		d[string(name)] = v
	}
	l.over = true
	return d
}
