package message

import "bytes"

// strictCRLF passes text whose lines end in CRLF and nothing else. RFC 5321
// §2.3.8: CR and LF must not stand alone. Smuggling lives from servers that
// disagree on that.
type strictCRLF struct {
	normalise bool
	cr        bool // the last byte was a CR that is not written yet
}

// filter appends src to dst. It returns ErrBareNewline at the first line end
// that is none, unless it may mend it.
func (l *strictCRLF) filter(dst, src []byte) ([]byte, error) {
	for len(src) > 0 {
		if l.cr {
			if src[0] != '\n' && !l.normalise {
				return dst, ErrBareNewline
			}
			dst = append(dst, '\r', '\n')
			if src[0] == '\n' {
				src = src[1:]
			}
			l.cr = false
			continue
		}
		i := bytes.IndexAny(src, "\r\n")
		if i < 0 {
			return append(dst, src...), nil
		}
		dst = append(dst, src[:i]...)
		if src[i] == '\r' {
			l.cr = true
		} else if !l.normalise {
			return dst, ErrBareNewline
		} else {
			dst = append(dst, '\r', '\n')
		}
		src = src[i+1:]
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
	if !h.eightBit {
		for _, c := range b {
			if c >= 0x80 {
				h.eightBit = true
				break
			}
		}
	}
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
	if h.done {
		return
	}
}

// length is where the body starts; the whole mail where there is none.
func (h *headScanner) length() int {
	if h.done {
		return int(h.end)
	}
	return int(h.n)
}
