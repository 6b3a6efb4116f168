package message

import (
	"bytes"
	"encoding/binary"
)

// strictCRLF passes text whose lines end in CRLF and nothing else. RFC 5321
// §2.3.8: CR and LF must not stand alone. Smuggling lives from servers that
// disagree on that.
type strictCRLF struct {
	normalise bool
	maxLine   int
	cr        bool   // the last byte was a CR
	line      int    // octets of the line that is not at its end yet
	mended    []byte // what normalising makes of a piece
}

// filter checks src and returns what is to be kept of it: src itself, or, where
// line ends may be mended, a copy that is good until the next call. A CR at the
// end of src that has to be mended is held back.
func (l *strictCRLF) filter(src []byte) ([]byte, error) {
	if l.normalise {
		return l.mend(src)
	}
	if l.cr && len(src) > 0 && src[0] != '\n' {
		return nil, ErrBareNewline
	}
	lines := 0
	for at := 0; ; lines++ {
		i := bytes.IndexByte(src[at:], '\n')
		if i < 0 {
			l.line += len(src) - at
			break
		}
		if l.line += i; l.line > l.maxLine+1 { // Its CR counts here.
			return nil, ErrLongLine
		}
		if at+i > 0 && src[at+i-1] != '\r' || at+i == 0 && !l.cr {
			return nil, ErrBareNewline
		}
		at, l.line = at+i+1, 0
	}
	if l.line > l.maxLine+1 {
		return nil, ErrLongLine
	}
	// Each LF has its CR; as many CRs as LFs means that each CR has its LF.
	crs := bytes.Count(src, []byte{'\r'})
	if l.cr {
		crs++
	}
	l.cr = len(src) > 0 && src[len(src)-1] == '\r' || len(src) == 0 && l.cr
	if l.cr {
		crs--
	}
	if crs != lines {
		return nil, ErrBareNewline
	}
	return src, nil
}

// mend turns every bare CR and LF into CRLF.
func (l *strictCRLF) mend(src []byte) ([]byte, error) {
	dst := l.mended[:0]
	for len(src) > 0 {
		if l.cr {
			dst, l.cr, l.line = append(dst, '\r', '\n'), false, 0
			if src[0] == '\n' {
				src = src[1:]
			}
			continue
		}
		i := bytes.IndexAny(src, "\r\n")
		if i < 0 {
			dst, l.line = append(dst, src...), l.line+len(src)
			break
		}
		dst, l.line = append(dst, src[:i]...), l.line+i
		if l.line > l.maxLine {
			return nil, ErrLongLine
		}
		if src[i] == '\r' {
			l.cr = true
		} else {
			dst, l.line = append(dst, '\r', '\n'), 0
		}
		src = src[i+1:]
	}
	l.mended = dst
	if l.line > l.maxLine {
		return nil, ErrLongLine
	}
	return dst, nil
}

// end says what is left to write when the mail is over.
func (l *strictCRLF) end() ([]byte, error) {
	switch {
	case !l.cr:
		return nil, nil
	case l.normalise:
		return []byte("\r\n"), nil
	default:
		return nil, ErrBareNewline
	}
}

// HiddenEnd finds lines of a dot and NULs. Servers that drop NULs take such a line
// for the end of a mail, and what follows for commands.
type HiddenEnd int

// What a line has had so far.
const (
	nothing HiddenEnd = iota
	nulsAlone
	dotAlone
	dotAndNULs
	other
)

// AtEnd says whether the last line, which has no line end yet, is such a line.
func (h HiddenEnd) AtEnd() bool { return h == dotAndNULs }

// Find says whether one of the lines that b goes on with is such a line.
func (h *HiddenEnd) Find(b []byte) bool {
	if (*h == nulsAlone || *h == dotAndNULs) || bytes.IndexByte(b, 0) >= 0 {
		for _, c := range b {
			if *h == dotAndNULs && c == '\n' {
				return true
			}
			*h = h.next(c)
		}
		return false
	}
	// Only the last line can become one.
	if i := bytes.LastIndexByte(b, '\n'); i >= 0 {
		*h, b = nothing, b[i+1:]
	}
	if len(b) > len(".\r") {
		*h, b = other, nil
	}
	for _, c := range b {
		*h = h.next(c)
	}
	return false
}

func (h HiddenEnd) next(c byte) HiddenEnd {
	switch {
	case c == '\n':
		return nothing
	case c == '\r': // its LF is to come
		return h
	case c == 0 && (h == nothing || h == nulsAlone):
		return nulsAlone
	case c == '.' && h == nothing:
		return dotAlone
	case c == 0 && h != other, c == '.' && h == nulsAlone:
		return dotAndNULs
	}
	return other
}

// headScanner finds the end of the header and counts while the bytes go by.
type headScanner struct {
	n        int64
	line     []byte // start of the current header line, at most a few bytes of it
	lineLen  int
	done     bool
	end      int64
	received int
	eightBit bool
}

const maxLineStart = 16 // enough to know a field's name from "Received:"

func (h *headScanner) scan(b []byte) {
	h.eightBit = h.eightBit || hasEightBit(b)
	for i := 0; i < len(b) && !h.done; i++ {
		h.n++
		if b[i] != '\n' {
			if len(h.line) < maxLineStart {
				h.line = append(h.line, b[i])
			}
			h.lineLen++
			continue
		}
		if h.lineLen <= 1 { // just the CR: the empty line
			h.done, h.end = true, h.n
			return
		}
		if len(h.line) >= 9 && bytes.EqualFold(h.line[:9], []byte("Received:")) {
			h.received++
		}
		h.line, h.lineLen = h.line[:0], 0
	}
}

// hasEightBit looks at eight bytes at a time: it reads all of every mail.
func hasEightBit(b []byte) bool {
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b)&0x8080808080808080 != 0 {
			return true
		}
		b = b[8:]
	}
	for _, c := range b {
		if c >= 0x80 {
			return true
		}
	}
	return false
}

// IsASCII says whether an address or a header value is no more than US-ASCII.
func IsASCII(s string) bool { return !hasEightBit([]byte(s)) }

// length is where the body starts; the whole mail where there is none.
func (h *headScanner) length() int {
	if h.done {
		return int(h.end)
	}
	return int(h.n)
}
