package gateway

import (
	"bytes"
	"io"
	"time"

	"mailward/internal/message"
)

// drainLimit is how much of a body is read past that nobody wants any more, so
// that the client hears why.
const drainLimit = 256 << 20

// takeBody gets the wire ready for a body: go-smtp has said 354. c.mu is held,
// and go-smtp's goroutine is the one that reads.
func (c *wire) takeBody() {
	c.mode, c.dots, c.bodyEnd, c.verb = modeBody, dots{lineStart: true}, time.Now().Add(dataLimit), ""
	c.busy.Store(true)
	c.empty = 0
	c.grow()
}

// bodyReader is the body of the mail under way, as it was before dots were
// stuffed. Only CRLF.CRLF ends it (RFC 5321 §4.1.1.4).
type bodyReader struct {
	c    *wire
	rest []byte
}

// source is where a mail comes from that go-smtp has given r for: from r after
// BDAT, else from the wire. The wire's mode does not say it: go-smtp takes chunks
// in a goroutine of their own, and where that begins late, RSET and the next
// mail's DATA may have been said.
func (c *wire) source(r io.Reader) io.Reader {
	if _, ok := r.(*io.PipeReader); ok {
		return &chunks{r, c}
	}
	return c.body()
}

// chunks is the body of a mail that comes in chunks (RFC 3030), which may end
// before it is whole.
type chunks struct {
	io.Reader
	c *wire
}

// Read implements [io.Reader].
func (k *chunks) Read(p []byte) (int, error) {
	n, err := k.Reader.Read(p)
	if err == io.EOF && k.c.gaveUp.Load() {
		err = errGaveUp
	}
	return n, err
}

// body returns the reader of what follows a 354.
func (c *wire) body() *bodyReader { return &bodyReader{c: c} }

// WriteTo implements [io.WriterTo]: w gets the bytes where the socket has put them.
func (b *bodyReader) WriteTo(w io.Writer) (n int64, err error) {
	for {
		piece, err := b.c.bodyPiece()
		if len(piece) > 0 {
			m, werr := w.Write(piece)
			n += int64(m)
			if werr != nil {
				return n, werr
			}
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// Read implements [io.Reader].
func (b *bodyReader) Read(p []byte) (int, error) {
	for len(b.rest) == 0 {
		piece, err := b.c.bodyPiece()
		if len(piece) == 0 && err != nil {
			return 0, err
		}
		b.rest = piece
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// bodyPiece is the next piece of the body, good until the next call, and io.EOF
// after the last.
func (c *wire) bodyPiece() ([]byte, error) {
	switch {
	case c.mode != modeBody:
		// The 354 did not reach the client, so nothing of this mail is here, and
		// what dots has is of the one before.
		return nil, io.ErrUnexpectedEOF
	case c.dots.oddEnd:
		return nil, message.ErrBareNewline
	case c.dots.ended:
		return nil, io.EOF
	}
	for {
		if c.w > c.r {
			n, used := c.dots.unstuff(c.buf[c.r:c.w])
			piece := c.buf[c.r : c.r+n]
			c.r += used
			if n > 0 {
				return piece, nil
			}
			if c.dots.oddEnd {
				return nil, message.ErrBareNewline
			}
			if c.dots.ended {
				return nil, io.EOF
			}
		}
		if err := c.fill(c.bodyEnd); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// drainBody reads what the session has left of the body. A client that goes on
// for too long is cut off.
func (c *wire) drainBody() error {
	for left := int64(drainLimit); !c.dots.ended; {
		piece, err := c.bodyPiece()
		if c.dots.ended {
			break
		}
		if err != nil {
			return err
		}
		if left -= int64(len(piece)); left < 0 {
			return io.ErrUnexpectedEOF
		}
	}
	c.mode = modeCommand
	return nil
}

// dots undoes dot stuffing and finds the end of a body.
type dots struct {
	lineStart bool // the next byte starts a line: CRLF stands before it, or nothing
	odd       bool // that CRLF has another CR before it
	crs       int  // how many CRs were last
	ended     bool
	oddEnd    bool // CR CRLF.CRLF: some servers take it for an end, others do not
}

// unstuff moves the body's bytes to the front of b. It has made n of the first
// used bytes; the rest of b is to come again with more behind it, or, after the
// end, is no body any more.
//
// A line of a dot and something else loses the dot (RFC 5321 §4.5.2), also when
// what follows is a bare CR or LF: those stay, and the spool refuses them.
func (d *dots) unstuff(b []byte) (n, used int) {
	for used < len(b) {
		rest := b[used:]
		if d.lineStart && rest[0] == '.' {
			switch {
			case len(rest) == 1 || len(rest) == 2 && rest[1] == '\r':
				return n, used // more is needed to know
			case rest[1] == '\r' && rest[2] == '\n':
				d.ended, d.oddEnd = true, d.odd
				return n, used + 3
			}
			used++
			d.lineStart, d.crs = false, 0
			continue
		}
		take := len(rest)
		if d.crs > 0 && rest[0] == '\n' {
			take = 1
		} else if i := bytes.Index(rest, []byte("\r\n.")); i >= 0 {
			take = i + 2
		}
		d.note(rest[:take])
		if n != used {
			copy(b[n:], rest[:take])
		}
		n, used = n+take, used+take
	}
	return n, used
}

// note remembers how the bytes so far end.
func (d *dots) note(b []byte) {
	body := bytes.TrimSuffix(b, []byte("\n"))
	before := len(body) - len(bytes.TrimRight(body, "\r"))
	if before == len(body) {
		before += d.crs
	}
	d.lineStart, d.odd, d.crs = false, false, before
	if len(body) < len(b) {
		d.lineStart, d.odd, d.crs = before > 0, before > 1, 0
	}
}
