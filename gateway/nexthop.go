package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Times and limits towards a next hop.
const (
	connectTimeout = 10 * time.Second
	stepTimeout    = 30 * time.Second // for one reply before the mail, and for each piece of the mail
	idleLimit      = 10 * time.Second // how long an unused connection is kept
	idleMost       = 16               // unused connections to one host
	replyLine      = 4096             // octets; RFC 5321 §4.5.3.1.5 says 512
	replyLines     = 128
)

// transfer is one mail to one next hop.
type transfer struct {
	from     string
	to       []string
	size     int64
	eightBit bool
	head     []byte    // our lines, sent before body
	body     io.Reader // lines end in CRLF
	// beforeDot is called when all is sent but the dot that makes it the next
	// hop's, with the recipients that it has refused. On an error nothing is handed over.
	beforeDot func(refused map[string]*hopReply) error
}

// result is how a transfer went.
type result struct {
	reply     hopReply             // to the final dot, when err is nil
	refused   map[string]*hopReply // recipients that the hop did not take, others were taken
	replyLost bool                 // the dot is out and no reply came: the hop may have the mail
	err       error                // nil: accepted. A *hopReply: refused as a whole
}

// hopPool keeps connections to next hops for the next mail.
type hopPool struct {
	hostname string
	mu       sync.Mutex // guards idle, closed
	idle     map[string][]*hopConn
	closed   bool
}

func newHopPool(hostname string) *hopPool {
	return &hopPool{hostname: hostname, idle: map[string][]*hopConn{}}
}

// hopConn is one SMTP connection of ours. One goroutine uses it at a time.
type hopConn struct {
	net.Conn
	r        *bufio.Reader
	w        *bufio.Writer
	features map[string]string
	since    time.Time // since when it is idle
}

func (p *hopPool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, cs := range p.idle {
		for _, c := range cs {
			c.Close()
		}
	}
	p.idle = map[string][]*hopConn{}
}

// take gives an unused connection, or nil.
func (p *hopPool) take(addr string) *hopConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.idle[addr]) > 0 {
		cs := p.idle[addr]
		c := cs[len(cs)-1]
		p.idle[addr] = cs[:len(cs)-1]
		if time.Since(c.since) < idleLimit {
			return c
		}
		c.Close()
	}
	return nil
}

func (p *hopPool) put(addr string, c *hopConn) {
	c.since = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle[addr]) >= idleMost {
		c.Close()
		return
	}
	p.idle[addr] = append(p.idle[addr], c)
}

// send hands a mail to a next hop. An unused connection that turns out to be
// dead is replaced by a new one, as long as nothing of the mail has gone out.
func (p *hopPool) send(ctx context.Context, addr string, t transfer) result {
	if c := p.take(addr); c != nil {
		res, started := p.sendOn(ctx, addr, c, t)
		if started || res.err == nil || ctx.Err() != nil {
			return res
		}
		var no *hopReply
		if errors.As(res.err, &no) && no.Code != 421 {
			return res
		}
	}
	c, err := dialHop(ctx, addr, p.hostname)
	if err != nil {
		return result{err: err}
	}
	res, _ := p.sendOn(ctx, addr, c, t)
	return res
}

// sendOn runs one transaction. started says that bytes of the mail, or more
// than its envelope, may have reached the hop.
func (p *hopPool) sendOn(ctx context.Context, addr string, c *hopConn, t transfer) (res result, started bool) {
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	res, started = c.transact(ctx, t)
	var no *hopReply
	if stop() && (res.err == nil || errors.As(res.err, &no) && no.Code != 421) {
		p.put(addr, c)
	} else {
		c.Close()
	}
	return res, started
}

// dialHop connects and says EHLO. Failures are [errConnect], or what the hop said.
func dialHop(ctx context.Context, addr, hostname string) (*hopConn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errConnect, err)
	}
	c := &hopConn{Conn: conn, r: bufio.NewReaderSize(conn, replyLine), w: bufio.NewWriterSize(conn, 64<<10)}
	if err := c.hello(ctx, hostname); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *hopConn) hello(ctx context.Context, hostname string) error {
	if _, err := c.expect(ctx, 220); err != nil {
		return fmt.Errorf("greeting of next hop: %w", connectError(err))
	}
	c.command("EHLO %s", hostname)
	lines, err := c.expect(ctx, 250)
	var no *hopReply
	if errors.As(err, &no) && no.Code/100 == 5 {
		c.command("HELO %s", hostname) // RFC 5321 §3.2: an old server
		lines, err = c.expect(ctx, 250)
	}
	if err != nil {
		return fmt.Errorf("EHLO to next hop: %w", connectError(err))
	}
	c.features = map[string]string{}
	for _, l := range lines[1:] {
		name, arg, _ := strings.Cut(l, " ")
		c.features[strings.ToUpper(name)] = arg
	}
	return nil
}

// connectError makes a refusal before the envelope temporary: it says nothing
// about this mail, and the client should not bounce it.
func connectError(err error) error {
	var no *hopReply
	if errors.As(err, &no) && no.Code/100 == 4 {
		return no
	}
	return fmt.Errorf("%w: %w", errConnect, err)
}

// transact sends one mail over the connection.
func (c *hopConn) transact(ctx context.Context, t transfer) (res result, started bool) {
	_, eightBitOK := c.features["8BITMIME"]
	if t.eightBit && !eightBitOK {
		return result{err: errEightBit}, true
	}
	refused, started, err := c.envelope(ctx, t)
	if err != nil {
		return result{err: err}, started
	}
	if err := c.data(ctx, t); err != nil {
		return result{err: fmt.Errorf("send mail to next hop: %w", err)}, true
	}
	if t.beforeDot != nil {
		if err := t.beforeDot(refused); err != nil {
			return result{err: err}, true // The connection is closed without the dot.
		}
	}
	c.SetDeadline(deadline(ctx, 10*time.Minute)) // RFC 5321 §4.5.3.2.6
	c.w.WriteString(".\r\n")
	if err := c.w.Flush(); err != nil {
		return result{err: fmt.Errorf("end mail to next hop: %w", err), replyLost: true}, true
	}
	code, lines, err := c.readReply()
	if err != nil {
		return result{err: fmt.Errorf("last reply of next hop: %w", err), replyLost: true}, true
	}
	h := newHopReply(code, lines)
	if code/100 != 2 {
		return result{err: &h}, true
	}
	return result{reply: h, refused: refused}, true
}

// envelope gives sender and recipients, and DATA, in one go where the hop
// offers PIPELINING (RFC 2920).
func (c *hopConn) envelope(ctx context.Context, t transfer) (refused map[string]*hopReply, started bool, err error) {
	c.SetDeadline(deadline(ctx, stepTimeout))
	c.command("MAIL FROM:<%s>%s", t.from, c.mailParams(t))
	_, pipelined := c.features["PIPELINING"]
	if !pipelined {
		if _, err := c.expect(ctx, 250); err != nil {
			return nil, false, err
		}
		started = true
	}
	refused = map[string]*hopReply{}
	if pipelined {
		for _, to := range t.to {
			c.command("RCPT TO:<%s>", to)
		}
		c.command("DATA")
		if _, err := c.expect(ctx, 250); err != nil {
			var no *hopReply
			if errors.As(err, &no) {
				c.drain(ctx, len(t.to)+1)
			}
			return nil, false, err
		}
		started = true
	}
	var last *hopReply
	for _, to := range t.to {
		if !pipelined {
			c.command("RCPT TO:<%s>", to)
		}
		_, err := c.expect(ctx, 250, 251, 252)
		var no *hopReply
		switch {
		case errors.As(err, &no):
			refused[to], last = no, no
		case err != nil:
			return nil, started, err
		}
	}
	if !pipelined {
		if len(refused) == len(t.to) {
			c.command("RSET")
			c.expect(ctx, 250)
			return nil, started, last
		}
		c.command("DATA")
	}
	_, err = c.expect(ctx, 354)
	if len(refused) == len(t.to) {
		if err == nil {
			// RFC 2920 §3.1: it takes DATA although it took nobody; send an empty mail to nobody.
			c.w.WriteString(".\r\n")
			c.expect(ctx, 250)
		}
		return nil, started, last
	}
	return refused, started, err
}

func (c *hopConn) mailParams(t transfer) string {
	var p string
	if _, ok := c.features["SIZE"]; ok {
		p += " SIZE=" + strconv.FormatInt(t.size, 10)
	}
	if t.eightBit {
		p += " BODY=8BITMIME"
	}
	return p
}

// drain reads the replies to commands that were sent together with a failed
// one. A 354 among them would leave the hop waiting for a mail.
func (c *hopConn) drain(ctx context.Context, n int) {
	for range n {
		code, _, err := c.readReply()
		if err != nil {
			return
		}
		if code == 354 {
			c.w.WriteString(".\r\n")
			c.w.Flush()
			c.readReply()
		}
	}
}

// data streams the mail with dots stuffed (RFC 5321 §4.5.2), and makes sure that
// it ends in CRLF.
func (c *hopConn) data(ctx context.Context, t transfer) error {
	s := stuffer{w: c.w, lineStart: true}
	if err := s.write(t.head); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := t.body.Read(buf)
		if n > 0 {
			c.SetDeadline(deadline(ctx, stepTimeout))
			if werr := s.write(buf[:n]); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if !s.lineStart {
		if _, err := c.w.WriteString("\r\n"); err != nil {
			return err
		}
	}
	// Out with it: what is lost after the dot is to be the reply alone.
	return c.w.Flush()
}

// stuffer doubles the dots that start lines.
type stuffer struct {
	w         *bufio.Writer
	lineStart bool
}

func (s *stuffer) write(b []byte) error {
	for len(b) > 0 {
		if s.lineStart && b[0] == '.' {
			if err := s.w.WriteByte('.'); err != nil {
				return err
			}
		}
		i := bytes.Index(b, []byte("\n."))
		end := len(b)
		if i >= 0 {
			end = i + 1
		}
		if _, err := s.w.Write(b[:end]); err != nil {
			return err
		}
		s.lineStart = b[end-1] == '\n'
		b = b[end:]
	}
	return nil
}

// command puts one line into the buffer; expect sends it. Addresses come from
// parsed SMTP paths, but no line end may ever get in here.
func (c *hopConn) command(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	line = strings.NewReplacer("\r", "", "\n", "").Replace(line)
	c.w.WriteString(line + "\r\n")
}

// expect sends what waits and reads one reply. Another code than the wanted
// ones is a *hopReply.
func (c *hopConn) expect(ctx context.Context, want ...int) ([]string, error) {
	c.SetDeadline(deadline(ctx, stepTimeout))
	if err := c.w.Flush(); err != nil {
		return nil, err
	}
	code, lines, err := c.readReply()
	if err != nil {
		return nil, err
	}
	for _, w := range want {
		if code == w {
			return lines, nil
		}
	}
	h := newHopReply(code, lines)
	return nil, &h
}

var errNonsense = errors.New("no SMTP reply")

// readReply reads one reply, of one line or several. Its size is bounded.
func (c *hopConn) readReply() (code int, lines []string, err error) {
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

// newHopReply takes the enhanced code (RFC 2034) off the text.
func newHopReply(code int, lines []string) hopReply {
	h := hopReply{Code: code}
	for i, l := range lines {
		first, rest, _ := strings.Cut(l, " ")
		var a, b, c int
		if n, _ := fmt.Sscanf(first, "%d.%d.%d", &a, &b, &c); n == 3 && a == code/100 {
			h.Enhanced, lines[i] = first, rest
		}
	}
	h.Text = harmless(strings.Join(lines, " "), 200)
	return h
}

func deadline(ctx context.Context, d time.Duration) time.Time {
	t := time.Now().Add(d)
	if end, ok := ctx.Deadline(); ok && end.Before(t) {
		return end
	}
	return t
}

// CheckNextHop connects to a next hop and says goodbye, for Health. It returns
// the hop's greeting features in a few words.
func CheckNextHop(ctx context.Context, addr, hostname string) (string, error) {
	c, err := dialHop(ctx, addr, hostname)
	if err != nil {
		return "", err
	}
	defer c.Close()
	var names []string
	for _, n := range []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE", "STARTTLS", "DSN"} {
		if _, ok := c.features[n]; ok {
			names = append(names, n)
		}
	}
	c.command("QUIT")
	c.w.Flush()
	return strings.Join(names, " "), nil
}

// Send hands one mail to a mail server, for the command line.
func Send(ctx context.Context, addr, hostname, from string, to []string, size int64, eightBit bool, body io.Reader) (string, error) {
	p := newHopPool(hostname)
	defer p.close()
	res := p.send(ctx, addr, transfer{from: from, to: to, size: size, eightBit: eightBit, body: body})
	if res.err != nil {
		return "", res.err
	}
	for addr, no := range res.refused {
		return "", fmt.Errorf("recipient %s: %w", addr, no)
	}
	return fmt.Sprintf("%d %s %s", res.reply.Code, res.reply.Enhanced, res.reply.Text), nil
}
