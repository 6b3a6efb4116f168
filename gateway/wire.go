package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"mailward/gateway/hop"
)

// Sizes of one client's dialog.
const (
	// RFC 5321 §4.5.3.1.4 gives a command 512 octets, its extensions more; 2,048 is
	// what other servers take.
	commandLimit = 2048
	// skipLimit is how much of a line that is too long is read past.
	skipLimit = 1 << 20
	// emptyCommands is how many commands may come that bring no mail forward.
	emptyCommands = 200
	// fullCommands is how many recipients may be told to come in another mail (452)
	// before they count as such. A client that has asked for too many at once
	// sends to those that were taken (RFC 5321 §4.5.3.1.10).
	fullCommands = 10_000
	bodyBuffer   = 64 << 10
	flushAt      = 16 << 10
)

// wireOptions are what all connections of one listener share.
type wireOptions struct {
	hostname string
	lmtp     bool
	tls      *tls.Config // nil: STARTTLS is not offered
	strict   bool        // pipelining that RFC 2920 does not allow ends the session
	// greet is asked before the greeting. An error is the reply that ends the session.
	greet func(*wire) error
	// features are the EHLO keywords, STARTTLS apart.
	features func(c *wire) []string
	// patience is how long a client may be silent.
	patience func() time.Duration
	// largest is the size of a mail that is too big by itself. 0: none.
	largest int64
	// bad is told of the n-th command that was refused as no SMTP. An error is the
	// reply that ends the session.
	bad func(w *wire, n int) error
	// forwards says whose XFORWARD is believed. May be nil: nobody's.
	forwards func(client netip.Addr) bool
	// closing says whether we shut down: no session begins another mail. May be nil.
	closing func() bool
}

// wire is one client's connection, below go-smtp: what go-smtp reads has been
// checked here, and what it writes leaves through here.
//
// It exists because go-smtp reads ahead and byte by byte. A wire gives it one
// command at a time, so that after DATA the body is still here and is taken in
// large pieces by [wire.body]; go-smtp sees the end of it alone. That is also
// the place to refuse what must never be a command (what comes before the
// greeting, behind STARTTLS or between commands that may not be pipelined), to
// end replies together, and to offer in EHLO what the routes can carry at the
// moment.
type wire struct {
	opt *wireOptions

	// Only the goroutine that reads uses these.
	buf     []byte
	r, w    int    // buf[r:w] is not taken yet
	line    []byte // what go-smtp has yet to read of a command
	after   []byte // the command that comes next, behind one that we made up
	mode    wireMode
	chunk   int64        // octets of a BDAT chunk that go-smtp has yet to read
	last    bool         // that chunk is the last one
	chunked bool         // chunks of a mail were taken, and its last one is to come
	cut     error        // why no more of it comes
	orcpt   string       // of a RCPT, as it was said
	told    *hop.Client  // what XFORWARD said, for the next mail
	inMail  func() bool  // whether MAIL was taken; nil: no session yet
	offered hop.Features // by the last EHLO
	dots    dots
	bodyEnd time.Time // zero: no octet of it is there
	hello   bool      // EHLO was said since the connection, or TLS, began
	empty   int
	full    int // of RCPTs that were answered 452
	badTold int // of badSeen, how many were counted

	sock atomic.Pointer[socket] // the connection, or TLS on it
	dead atomic.Bool
	// extended says that the client said EHLO and not HELO.
	extended atomic.Bool
	welcome  atomic.Bool // the client may be talked to
	// busy says that a mail is being taken or handled, or its reply is not with the
	// client yet. It begins under mu, so that [wire.hangUpIfIdle] knows.
	busy   atomic.Bool
	gaveUp atomic.Bool // the client does not go on with its chunks

	mu      sync.Mutex // guards all below
	tls     string
	greeted bool
	verb    string // the command that go-smtp is answering
	part    []byte // a reply line without its end
	out     []byte
	swallow bool // what go-smtp says is to commands that we made up
	badSeen int

	endMu   sync.Mutex // guards all below
	endings []func()   // to be called when the connection ends
	ended   bool
}

type socket struct{ net.Conn }

type wireMode int

const (
	modeCommand wireMode = iota
	modeBody             // after a 354
	modeChunk            // inside of a BDAT chunk
)

var bodyBuffers = sync.Pool{New: func() any { b := make([]byte, bodyBuffer); return &b }}

// newWire wraps a connection. closed is called when it ends.
func newWire(c net.Conn, opt *wireOptions, closed func()) *wire {
	w := &wire{opt: opt, endings: []func(){closed}, buf: make([]byte, commandLimit+2)}
	w.sock.Store(&socket{c})
	return w
}

// Read gives go-smtp the next command, or the bytes that it expects.
func (c *wire) Read(p []byte) (int, error) {
	for len(c.line) == 0 {
		switch c.mode {
		case modeChunk:
			if c.chunk > 0 {
				return c.readChunk(p)
			}
			c.mode = modeCommand
		case modeBody:
			// The session has taken the body, or not all of it. go-smtp reads on until
			// the end of it, which is all that it gets to see.
			if err := c.drainBody(); err != nil {
				return 0, err
			}
			c.line = []byte(".\r\n")
		default:
			if err := c.next(); err != nil {
				return 0, err
			}
		}
	}
	n := copy(p, c.line)
	c.line = c.line[n:]
	return n, nil
}

// fill reads more from the client. What waits to be said is said first: the
// client may be waiting for it. A zero end is none.
func (c *wire) fill(end time.Time) error {
	if c.r > 0 {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	c.release()
	if err := c.flush(); err != nil {
		return err
	}
	if c.dead.Load() {
		return io.EOF
	}
	until := time.Now().Add(c.opt.patience())
	if !end.IsZero() && end.Before(until) {
		until = end
	}
	sock := c.sock.Load()
	sock.SetReadDeadline(until)
	n, err := sock.Read(c.buf[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// grow takes a large buffer, for a body.
func (c *wire) grow() {
	if len(c.buf) < bodyBuffer {
		big := *bodyBuffers.Get().(*[]byte)
		c.w = copy(big, c.buf[c.r:c.w])
		c.r, c.buf = 0, big
	}
}

// release gives a body's buffer back once what is left fits into a small one.
func (c *wire) release() {
	if c.mode == modeCommand && len(c.buf) == bodyBuffer && c.w <= commandLimit {
		big := c.buf
		c.buf = make([]byte, commandLimit+2)
		copy(c.buf, big[:c.w])
		bodyBuffers.Put(&big)
	}
}

// readChunk gives go-smtp a piece of a BDAT chunk (RFC 3030), as it is.
func (c *wire) readChunk(p []byte) (int, error) {
	if c.cut != nil {
		// go-smtp reads on. Nobody is there, or nobody is to be waited for again.
		return 0, c.cut
	}
	if c.r == c.w {
		if err := c.fill(c.bodyEnd); err != nil {
			// An error that is no reply would be 554 to go-smtp, for good.
			c.cut = reply(fmt.Errorf("the rest of a chunk: %w", err))
			return 0, c.cut
		}
	}
	n := copy(p[:min(int64(len(p)), c.chunk)], c.buf[c.r:c.w])
	c.r += n
	c.chunk -= int64(n)
	return n, nil
}

// startTLS begins TLS below go-smtp, which is told to forget what was said.
func (c *wire) startTLS(line []byte) error {
	switch {
	case c.tls != "":
		return c.refuse(errTLSAlready)
	case c.opt.tls == nil:
		return c.refuse(errUnknownCommand)
	case len(bytes.Fields(line)) > 1:
		return c.refuse(errTLSArgument)
	case c.w > c.r:
		// RFC 3207 §4.2: what stands behind STARTTLS in the clear was put there by
		// somebody in the middle.
		return c.hangUp(errPipelining)
	}
	c.say("220 2.0.0 Ready to start TLS\r\n")
	if err := c.flush(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tc := tls.Server(c.sock.Load().Conn, c.opt.tls)
	if err := tc.HandshakeContext(ctx); err != nil {
		c.Close()
		return fmt.Errorf("TLS with client: %w", err)
	}
	st := tc.ConnectionState()
	c.sock.Store(&socket{tc})
	c.mu.Lock()
	c.tls = tls.VersionName(st.Version) + " " + tls.CipherSuiteName(st.CipherSuite)
	c.swallow = true
	c.mu.Unlock()
	c.hello, c.line = false, []byte("RSET\r\n")
	if c.chunked { // see giveUp; go-smtp reads both before it asks for more
		c.gaveUp.Store(true)
		c.chunked, c.line = false, []byte(endChunks+"RSET\r\n")
	}
	return nil
}

// Close implements [net.Conn]. What waits to be said goes out first, such as the
// reply to QUIT; a client that does not take it does not hold us up.
func (c *wire) Close() error {
	if !c.dead.Swap(true) && c.mu.TryLock() {
		if sock := c.sock.Load(); len(c.out) > 0 {
			sock.SetWriteDeadline(time.Now().Add(time.Second))
			sock.Write(c.out)
			c.out = nil
		}
		c.mu.Unlock()
	}
	defer c.end()
	return c.sock.Load().Close()
}

// onClose has f called when the connection ends, at once where it has.
func (c *wire) onClose(f func()) {
	c.endMu.Lock()
	gone := c.ended
	if !gone {
		c.endings = append(c.endings, f)
	}
	c.endMu.Unlock()
	if gone {
		f()
	}
}

func (c *wire) end() {
	c.endMu.Lock()
	list := c.endings
	c.endings, c.ended = nil, true
	c.endMu.Unlock()
	for _, f := range list {
		f()
	}
}

// client is the address that the client has, or the proxy before us says it has.
func (c *wire) client() netip.Addr {
	ap, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{} // a Unix socket
	}
	return ap.Addr().Unmap()
}

// LocalAddr implements [net.Conn].
func (c *wire) LocalAddr() net.Addr { return c.sock.Load().LocalAddr() }

// RemoteAddr implements [net.Conn].
func (c *wire) RemoteAddr() net.Addr { return c.sock.Load().RemoteAddr() }

// SetDeadline implements [net.Conn]. A wire keeps its own times.
func (c *wire) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements [net.Conn].
func (c *wire) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements [net.Conn].
func (c *wire) SetWriteDeadline(time.Time) error { return nil }
