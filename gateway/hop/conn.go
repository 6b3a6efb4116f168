package hop

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of what a hop may say.
const (
	replyLine  = 4096 // octets; RFC 5321 §4.5.3.1.5 says 512
	replyLines = 128
)

var (
	errNonsense = errors.New("no SMTP reply")
	errUnasked  = errors.New("the next hop replied to a command that was not sent")
	errTLS      = errors.New("no TLS with the next hop")
	errNobody   = errors.New("hop: a mail without recipients")
	// errSize is said for a hop that has told the size of what it takes.
	errSize    = &Reply{Code: 552, Enhanced: "5.3.4", Text: "Mail is too big for its destination", Ours: true}
	errAddress = errors.New("hop: an address or parameter that does not fit into a command")
)

// longAgo is the deadline of what must end now.
var longAgo = time.Unix(1, 0)

// conn is one SMTP connection of ours. One goroutine uses it at a time.
type conn struct {
	net.Conn          // with TLS, if there is TLS
	raw      net.Conn // without
	r        *bufio.Reader
	out      []byte // commands that wait to be sent
	owed     int    // replies that are to come
	clean    bool   // no transaction is open: fit for the next mail
	mails    int
	refusals int // commands refused since a mail was taken
	times    times
	limit    time.Duration // of one reply, as the step that goes on has it
	features map[string]string
	tls      *tls.ConnectionState
	verified string      // how the certificate was checked
	xforward bool        // the route wants it to hear of clients
	expiry   *time.Timer // ends it when it is not used
	stopped  atomic.Bool // the context that it obeys has ended
}

// connect makes a connection that meets the demands of an endpoint. Failures
// are [ErrConnect], or what the hop said.
func (p *Sender) connect(ctx context.Context, ep endpoint) (*conn, error) {
	s := p.settings.Load()
	c, err := s.open(ctx, ep, ep.demand)
	if errors.Is(err, errTLS) && ep.demand.mode == TLSMay && ctx.Err() == nil {
		// RFC 7435: better without than not at all, where nobody asked for more.
		c, err = s.open(ctx, ep, demand{mode: TLSNone})
	}
	if err != nil {
		p.remind(ctx, s, ep)
		return nil, err
	}
	p.learn(ctx, s, ep, c.features)
	return c, nil
}

func (s *settings) open(ctx context.Context, ep endpoint, d demand) (*conn, error) {
	dialer := net.Dialer{Timeout: ep.times.connect}
	if ep.route.Bind.IsValid() {
		dialer.LocalAddr = &net.TCPAddr{IP: ep.route.Bind.AsSlice(), Zone: ep.route.Bind.Zone()}
	}
	nc, err := dialer.DialContext(ctx, "tcp", ep.addr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConnect, err)
	}
	c := &conn{Conn: nc, raw: nc, r: bufio.NewReaderSize(nc, replyLine), times: ep.times, limit: ep.times.greeting}
	stop := c.obey(ctx)
	err = c.prepare(ctx, s, ep, d)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		c.Close()
		return nil, connectError(err)
	}
	c.clean = true
	return c, nil
}

// prepare takes a new connection to where mails can be sent.
func (c *conn) prepare(ctx context.Context, s *settings, ep endpoint, d demand) error {
	c.owed++ // the greeting
	if _, err := c.expect(ctx, 220); err != nil {
		return fmt.Errorf("greeting of next hop: %w", err)
	}
	if err := c.hello(ctx, s.Hostname); err != nil {
		return err
	}
	if err := c.secure(ctx, s, d); err != nil {
		return err
	}
	if c.tls != nil { // RFC 3207 §4.2: what was said before does not count
		if err := c.hello(ctx, s.Hostname); err != nil {
			return err
		}
	}
	if ep.route.Auth != nil {
		return c.login(ctx, ep.route.Auth)
	}
	return nil
}

func (c *conn) hello(ctx context.Context, hostname string) error {
	c.command("EHLO ", hostname)
	lines, err := c.expect(ctx, 250)
	var no *Reply
	if errors.As(err, &no) && no.Code/100 == 5 {
		c.command("HELO ", hostname) // RFC 5321 §3.2: an old server
		lines, err = c.expect(ctx, 250)
		lines = lines[:min(1, len(lines))]
	}
	if err != nil {
		return fmt.Errorf("EHLO to next hop: %w", err)
	}
	c.features = map[string]string{}
	for _, l := range lines[1:] {
		name, arg, _ := strings.Cut(l, " ")
		c.features[strings.ToUpper(name)] = arg
	}
	return nil
}

// mailsMost is how many mails one connection gets: as many as the route says, or
// the host where that is less (RFC 9422 §4.1, MAILMAX).
func (c *conn) mailsMost(route int) int {
	if n := limitOf(c.features, "MAILMAX"); n > 0 {
		return min(route, n)
	}
	return route
}

func (c *conn) has(feature string) bool { _, ok := c.features[feature]; return ok }

// connectError makes trouble before the envelope temporary: it says nothing
// about this mail, and the client should not bounce it.
func connectError(err error) error {
	var no *Reply
	switch {
	case errors.As(err, &no) && no.Code/100 == 4:
		return no
	case no == nil:
		return fmt.Errorf("%w: %w", ErrConnect, err)
	}
	// What it said is kept as text alone: a *Reply with 5xx would be its last word
	// on the mail.
	if errors.Is(err, errTLS) {
		return fmt.Errorf("%w: %w: %s", ErrConnect, errTLS, no)
	}
	return fmt.Errorf("%w: %s", ErrConnect, err)
}

// quit says goodbye without waiting for an answer.
func (c *conn) quit() {
	c.SetDeadline(time.Now().Add(time.Second))
	c.Write([]byte("QUIT\r\n"))
	c.Close()
}

// isQuiet says whether the hop has kept silent since its last reply, and is
// still there. Whatever it says unasked, goodbye or a reply to come, makes the
// connection unfit.
func (c *conn) isQuiet() bool {
	if c.r.Buffered() > 0 {
		return false
	}
	sc, ok := c.raw.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		quiet = err == unix.EAGAIN
	})
	return err == nil && quiet
}

// obey ends whatever the connection waits for when ctx does, until stop is
// called, which says whether it came first.
func (c *conn) obey(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		c.stopped.Store(true)
		c.raw.SetDeadline(longAgo) // c.Conn may be changing to TLS
	})
}

// within gives the hop d for what comes next, or less where ctx ends before.
func (c *conn) within(ctx context.Context, d time.Duration) {
	t := time.Now().Add(d)
	if end, ok := ctx.Deadline(); ok && end.Before(t) {
		t = end
	}
	c.SetDeadline(t)
	if c.stopped.Load() {
		c.SetDeadline(longAgo)
	}
}

// command puts one command where [conn.send] takes it from.
func (c *conn) command(parts ...string) {
	for _, p := range parts {
		c.out = append(c.out, p...)
	}
	c.out = append(c.out, '\r', '\n')
	c.owed++
}

// send sends the commands that wait. A hop that has said something before it
// was asked is out of step, or means to be.
func (c *conn) send(ctx context.Context) error {
	if len(c.out) == 0 {
		return nil
	}
	if c.r.Buffered() > 0 {
		return errUnasked
	}
	c.within(ctx, c.limit)
	_, err := c.Write(c.out)
	c.out = c.out[:0]
	return err
}

// expect sends what waits and reads one reply. Another code than the wanted
// one is a *Reply if it is a refusal, or else nonsense.
func (c *conn) expect(ctx context.Context, want ...int) ([]string, error) {
	if err := c.send(ctx); err != nil {
		return nil, err
	}
	c.within(ctx, c.limit)
	code, lines, err := c.readReply()
	if err != nil {
		return nil, err
	}
	for _, w := range want {
		if code == w {
			return lines, nil
		}
	}
	c.refusals++
	return nil, refusal(code, lines)
}

func refusal(code int, lines []string) error {
	if code/100 != 4 && code/100 != 5 {
		return fmt.Errorf("%w: %d is not the answer to this command", errNonsense, code)
	}
	h := newReply(code, lines)
	if code == 530 {
		// RFC 3207 §4, RFC 4954 §6: it wants TLS or a login. That is between the two of
		// us and says nothing about the mail, so it is not its last word (no *Reply).
		return fmt.Errorf("%w: it wants TLS or a login before mail: %s", ErrConnect, h.Error())
	}
	return &h
}

// readReply reads one reply, of one line or several. Its size is bounded.
func (c *conn) readReply() (code int, lines []string, err error) {
	c.owed--
	for range replyLines {
		b, err := c.r.ReadSlice('\n')
		if err != nil {
			return 0, nil, err
		}
		l := strings.TrimRight(string(b), "\r\n")
		if len(l) < 3 {
			return 0, nil, errNonsense
		}
		n, err := strconv.Atoi(l[:3])
		if err != nil || n < 200 || n > 599 || code != 0 && n != code || len(l) > 3 && l[3] != ' ' && l[3] != '-' {
			return 0, nil, errNonsense
		}
		code = n
		lines = append(lines, strings.TrimSpace(l[min(4, len(l)):]))
		if len(l) == 3 || l[3] == ' ' {
			return code, lines, nil
		}
	}
	return 0, nil, fmt.Errorf("%w: a reply without end", errNonsense)
}
