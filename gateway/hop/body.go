package hop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"mailward/internal/message"
)

const (
	// bufferSize is how much of a mail goes out in one write. Most mails fit.
	bufferSize = 128 << 10
	// roomLeast is how much room another read is worth.
	roomLeast = 32 << 10
	// lastWordsLimit is how long a hop that broke off is listened to.
	lastWordsLimit = time.Second
)

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// errLocal is trouble with the mail's source, not with the hop.
var errLocal = errors.New("read the mail")

// body sends a mail with dots stuffed (RFC 5321 §4.5.2). It reads into the
// buffer that it writes from, so that bytes move only where a line begins with a
// dot.
//
// What leaves has no CR or LF but in CRLF, whatever came in: each way in which
// some server may end a mail elsewhere than at CRLF.CRLF needs one, or NULs around
// the dot.
type body struct {
	c   *conn
	raw bool
	buf *[bufferSize]byte
	n   int

	lineStart bool // the next byte starts a line
	cr        bool // the last byte was a CR
	hidden    message.HiddenEnd
}

func newBody(c *conn, raw bool) *body {
	return &body{c: c, raw: raw, buf: buffers.Get().(*[bufferSize]byte), lineStart: true}
}

// free gives the buffer back; a second time does nothing.
func (b *body) free() {
	if b.buf != nil {
		buffers.Put(b.buf)
		b.buf = nil
	}
}

// fill takes head and body of the mail, and sends what does not fit into the
// buffer.
func (b *body) fill(ctx context.Context, t *Transfer) error {
	for head := t.Head; len(head) > 0; {
		room, err := b.room(ctx)
		if err != nil {
			return err
		}
		n := copy(room, head)
		head = head[n:]
		if err := b.take(n); err != nil {
			return err
		}
	}
	for {
		room, err := b.room(ctx)
		if err != nil {
			return err
		}
		n, rerr := t.Body.Read(room)
		if err := b.take(n); err != nil {
			return err
		}
		if rerr == io.EOF {
			switch {
			case b.raw:
			case b.cr:
				return errBare
			case b.hidden.AtEnd():
				return errHidden
			}
			return nil
		}
		if rerr != nil {
			return fmt.Errorf("%w: %w", errLocal, rerr)
		}
	}
}

// room is where the next bytes go: so many that they fit with a dot before each
// line.
func (b *body) room(ctx context.Context) ([]byte, error) {
	if bufferSize-b.n < roomLeast {
		if err := b.flush(ctx); err != nil {
			return nil, err
		}
	}
	return b.buf[b.n : b.n+(bufferSize-b.n-endRoom)/2], nil
}

// endRoom is for CRLF.CRLF, and a dot.
const endRoom = 8

// take checks the next n bytes of the buffer and doubles the dots that start
// lines.
func (b *body) take(n int) error {
	if n == 0 {
		return nil
	}
	piece := b.buf[b.n : b.n+n]
	if !b.raw && b.hidden.Find(piece) {
		return errHidden
	}
	dots := 0
	if piece[0] == '.' && b.lineStart {
		dots++
	}
	if b.cr && piece[0] != '\n' && !b.raw {
		return errBare
	}
	lines := 0
	for i := 0; ; {
		j := bytes.IndexByte(piece[i:], '\n')
		if j < 0 {
			break
		}
		i += j
		if (i == 0 && !b.cr || i > 0 && piece[i-1] != '\r') && !b.raw {
			return errBare
		}
		lines++
		if i++; i < n && piece[i] == '.' {
			dots++
		}
	}
	last := piece[n-1]
	if !b.raw {
		crs := bytes.Count(piece, cr)
		if b.cr {
			crs++
		}
		if last == '\r' {
			crs-- // its LF is to come
		}
		if crs != lines {
			return errBare
		}
	}
	if dots > 0 {
		b.stuff(n, dots)
	}
	b.n += n + dots
	b.lineStart, b.cr = last == '\n', last == '\r'
	return nil
}

var (
	cr      = []byte{'\r'}
	dotLine = []byte("\n.")
	errBare = fmt.Errorf("%w: %w", errLocal, ErrBareNewline)
	// errHidden is for mails that were stored before the spool refused them.
	errHidden = fmt.Errorf("%w: %w", errLocal, message.ErrHiddenEnd)
)

// stuff makes room for dots in the next n bytes of the buffer, from the end, so
// that each byte moves once.
func (b *body) stuff(n, dots int) {
	piece := b.buf[b.n : b.n+n+dots]
	for end := n; dots > 0; dots-- {
		at := bytes.LastIndex(piece[:end], dotLine) + 1 // 0: the first byte is the dot
		copy(piece[at+dots:], piece[at:end])
		piece[at+dots-1] = '.'
		end = at
	}
}

// flush sends the buffer.
func (b *body) flush(ctx context.Context) error {
	b.c.within(ctx, b.c.times.block)
	_, err := b.c.Write(b.buf[:b.n])
	b.n = 0
	return err
}

// end sends the rest of the mail and its end. A mail whose last line has no
// CRLF gets one.
func (b *body) end(ctx context.Context) error {
	if !b.lineStart {
		b.n += copy(b.buf[b.n:], "\r\n")
	}
	b.n += copy(b.buf[b.n:], ".\r\n")
	return b.flush(ctx)
}
