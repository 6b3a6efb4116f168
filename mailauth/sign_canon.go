package mailauth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
)

// The two canonicalisations of RFC 6376 §3.4, written as streams: a body is
// read once, whatever number of signatures is made or checked, and never held.

// field is one header field as it came, its CRLF included.
type field struct {
	name string // lower case; "" where it is none of those that we look at
	raw  []byte
}

// fields is a header, with an index of the names that were asked for: one of all
// names would be forty times as large as a header of tiny fields.
type fields struct {
	list   []field
	byName map[string][]int
}

// splitFields takes a header apart. It ends at the empty line; lines without a
// colon become fields without a name, which nobody can ask for.
func splitFields(parts ...[]byte) *fields {
	f := &fields{byName: map[string][]int{}}
	for _, header := range parts {
		for len(header) > 0 {
			end := fieldEnd(header)
			raw := header[:end]
			header = header[end:]
			if len(trimCRLF(raw)) == 0 {
				break
			}
			f.add(raw)
		}
	}
	f.index("from", nameDKIM, nameAAR, nameAMS, nameAS)
	return f
}

func (f *fields) add(raw []byte) { f.list = append(f.list, field{raw: raw}) }

// index looks for the fields of the names, in lower case, that nobody has asked
// for yet.
func (f *fields) index(names ...string) {
	var fresh map[string]string
	for _, n := range names {
		if _, known := f.byName[n]; known {
			continue
		}
		if fresh == nil {
			fresh = make(map[string]string, len(names))
		}
		f.byName[n], fresh[n] = nil, n
	}
	if len(fresh) == 0 {
		return
	}
	var buf [maxFieldName]byte
	for i := range f.list {
		if n, ok := fresh[string(lowerName(buf[:0], f.list[i].raw))]; ok {
			f.list[i].name = n
			f.byName[n] = append(f.byName[n], i)
		}
	}
}

// named is where the fields of a name are.
func (f *fields) named(name string) []int {
	f.index(name)
	return f.byName[name]
}

// maxFieldName is more than the longest name that anybody asks for.
const maxFieldName = 256

// lowerName appends the name of a field, in lower case and without white space
// around it; nothing where it has none, or one that is longer than any.
func lowerName(to, raw []byte) []byte {
	i := bytes.IndexByte(raw, ':')
	if i <= 0 {
		return to
	}
	name := bytes.Trim(raw[:i], fws)
	if len(name) > maxFieldName {
		return to
	}
	for _, c := range name {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		to = append(to, c)
	}
	return to
}

// fieldEnd is the length of the first field, its folded lines included.
func fieldEnd(h []byte) int {
	at := 0
	for {
		i := bytes.IndexByte(h[at:], '\n')
		if i < 0 {
			return len(h)
		}
		line := h[at : at+i+1]
		at += i + 1
		if len(trimCRLF(line)) == 0 || at >= len(h) || h[at] != ' ' && h[at] != '\t' {
			return at
		}
	}
}

// pick is the fields named, each name taking the last field of it that is not
// taken yet (RFC 6376 §5.4.2). A name with none left stands for nothing. own is
// the signature that is checked, nil while it is made: it is not there for
// itself (RFC 6376 §3.5, h=).
func (f *fields) pick(names []string, own []byte) []field {
	f.index(names...)
	taken := make(map[string]int, len(names))
	out := make([]field, 0, len(names))
	for _, n := range names {
		have := f.byName[n]
		at := len(have) - 1 - taken[n]
		if at >= 0 && len(own) > 0 && &f.list[have[at]].raw[0] == &own[0] {
			taken[n]++
			at--
		}
		if at >= 0 {
			taken[n]++
			out = append(out, f.list[have[at]])
		}
	}
	return out
}

// relaxedHeader is a field after RFC 6376 §3.4.2, without its CRLF.
func relaxedHeader(raw []byte) []byte {
	name, value, _ := bytes.Cut(raw, []byte(":"))
	out := make([]byte, 0, len(raw))
	out = append(out, bytes.ToLower(bytes.Trim(name, fws))...)
	out = append(out, ':')
	space := false
	for _, c := range bytes.Trim(value, fws) {
		if c == ' ' || c == '\t' || c == '\r' || c == '\n' {
			space = true
			continue
		}
		if space {
			out, space = append(out, ' '), false
		}
		out = append(out, c)
	}
	return out
}

// simpleHeader is a field after RFC 6376 §3.4.1, without its CRLF.
func simpleHeader(raw []byte) []byte { return trimCRLF(raw) }

func trimCRLF(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
	}
	if n := len(b); n > 0 && b[n-1] == '\r' {
		b = b[:n-1]
	}
	return b
}

// hashFields hashes the fields and then the signature's own field without its
// b= value, which has no CRLF after it (RFC 6376 §3.7).
func hashFields(canon func([]byte) []byte, signed []field, own []byte) []byte {
	h := sha256.New()
	for _, f := range signed {
		h.Write(canon(f.raw))
		h.Write([]byte("\r\n"))
	}
	h.Write(canon(withoutSignature(own)))
	return h.Sum(nil)
}

// bodyHash takes a body in, in pieces, and hashes its canonical form. Empty
// lines are held back as a number, so that a body of nothing else needs no memory.
type bodyHash struct {
	h       hash.Hash
	relaxed bool
	out     []byte
	lines   int  // line ends seen and not written
	space   bool // relaxed: white space seen and not written
	cr      bool // the last byte was a CR
	any     bool // something other than empty lines came

	limit int64 // l=: how much of the canonical form is hashed; or noLimit
	total int64 // how much there is
}

// noLimit: the whole body.
const noLimit = -1

func newBodyHash(relaxed bool) *bodyHash {
	return &bodyHash{h: sha256.New(), relaxed: relaxed, out: make([]byte, 0, outSize), limit: noLimit}
}

const outSize = 16 << 10

func (b *bodyHash) write(p []byte) {
	for i := 0; i < len(p); i++ {
		c := p[i]
		if c == '\n' { // a bare LF counts as a line end, as every signer sees it
			b.cr, b.space = false, false
			b.lines++
			continue
		}
		if b.cr {
			b.cr = false
			b.put('\r')
		}
		switch {
		case c == '\r':
			b.cr = true
		case b.relaxed && (c == ' ' || c == '\t'):
			b.space = true
		default:
			b.put(c)
			i += b.run(p[i+1:])
		}
	}
}

// run copies what needs no thought, up to the next white space: nearly all of a mail.
func (b *bodyHash) run(p []byte) int {
	n := 0
	for n < len(p) {
		c := p[n]
		if c == '\n' || c == '\r' || b.relaxed && (c == ' ' || c == '\t') {
			break
		}
		n++
	}
	if n > 0 {
		b.emit(p[:n])
	}
	return n
}

func (b *bodyHash) put(c byte) {
	for ; b.lines > 0; b.lines-- {
		b.emit([]byte("\r\n"))
	}
	if b.space {
		b.space = false
		b.emit([]byte{' '})
	}
	b.any = true
	b.emit([]byte{c})
}

func (b *bodyHash) emit(p []byte) {
	before := b.total
	b.total += int64(len(p))
	if b.limit != noLimit && b.total > b.limit {
		p = p[:max(0, b.limit-before)]
	}
	for len(p) > 0 { // copied, so that a short p can live on the stack
		n := copy(b.out[len(b.out):outSize], p)
		b.out, p = b.out[:len(b.out)+n], p[n:]
		if len(b.out) == outSize {
			b.h.Write(b.out)
			b.out = b.out[:0]
		}
	}
}

// sum ends the body. Simple: it ends with one CRLF, also when it is empty;
// relaxed: an empty body is nothing at all (RFC 6376 §3.4.3, §3.4.4).
func (b *bodyHash) sum() []byte {
	if b.cr {
		b.cr = false
		b.put('\r')
	}
	if b.any || !b.relaxed {
		b.emit([]byte("\r\n"))
	}
	b.h.Write(b.out)
	b.out = b.out[:0]
	return b.h.Sum(nil)
}

// hashBody reads a body once for all the forms asked for.
func hashBody(ctx context.Context, r io.Reader, hashes ...*bodyHash) error {
	buf := make([]byte, 32<<10)
	for {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("hash body: %w", err)
		}
		n, err := r.Read(buf)
		for _, h := range hashes {
			h.write(buf[:n])
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("hash body: %w", err)
		}
	}
}
