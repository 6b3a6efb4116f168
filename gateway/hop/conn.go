package hop

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

// conn is one SMTP connection of ours. One goroutine uses it at a time.
type conn struct {
	net.Conn
	r        *bufio.Reader
	w        *bufio.Writer
	features map[string]string
	since    time.Time // since when it is idle
}

// dial connects and says EHLO. Failures are [ErrConnect], or what the hop said.
func dial(ctx context.Context, addr, hostname string) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConnect, err)
	}
	c := &conn{Conn: nc, r: bufio.NewReaderSize(nc, replyLine), w: bufio.NewWriterSize(nc, 64<<10)}
	if err := c.hello(ctx, hostname); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *conn) hello(ctx context.Context, hostname string) error {
	if _, err := c.expect(ctx, 220); err != nil {
		return fmt.Errorf("greeting of next hop: %w", connectError(err))
	}
	c.command("EHLO %s", hostname)
	lines, err := c.expect(ctx, 250)
	var no *Reply
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
	var no *Reply
	if errors.As(err, &no) && no.Code/100 == 4 {
		return no
	}
	return fmt.Errorf("%w: %w", ErrConnect, err)
}

// transact sends one mail over the connection.
func (c *conn) transact(ctx context.Context, t Transfer) (res Result, started bool) {
	_, eightBitOK := c.features["8BITMIME"]
	if t.EightBit && !eightBitOK {
		return Result{Err: ErrEightBit}, true
	}
	refused, started, err := c.envelope(ctx, t)
	if err != nil {
		return Result{Err: err}, started
	}
	if err := c.data(ctx, t); err != nil {
		return Result{Err: fmt.Errorf("send mail to next hop: %w", err)}, true
	}
	if t.BeforeDot != nil {
		if err := t.BeforeDot(refused); err != nil {
			return Result{Err: err}, true // The connection is closed without the dot.
		}
	}
	c.SetDeadline(deadline(ctx, 10*time.Minute)) // RFC 5321 §4.5.3.2.6
	c.w.WriteString(".\r\n")
	if err := c.w.Flush(); err != nil {
		return Result{Err: fmt.Errorf("end mail to next hop: %w", err), ReplyLost: true}, true
	}
	code, lines, err := c.readReply()
	if err != nil {
		return Result{Err: fmt.Errorf("last reply of next hop: %w", err), ReplyLost: true}, true
	}
	h := newReply(code, lines)
	if code/100 != 2 {
		return Result{Err: &h}, true
	}
	return Result{Reply: h, Refused: refused}, true
}

// envelope gives sender and recipients, and DATA, in one go where the hop
// offers PIPELINING (RFC 2920).
func (c *conn) envelope(ctx context.Context, t Transfer) (refused map[string]*Reply, started bool, err error) {
	c.SetDeadline(deadline(ctx, stepTimeout))
	c.command("MAIL FROM:<%s>%s", t.From, c.mailParams(t))
	_, pipelined := c.features["PIPELINING"]
	if !pipelined {
		if _, err := c.expect(ctx, 250); err != nil {
			return nil, false, err
		}
		started = true
	}
	refused = map[string]*Reply{}
	if pipelined {
		for _, to := range t.To {
			c.command("RCPT TO:<%s>", to.Address)
		}
		c.command("DATA")
		if _, err := c.expect(ctx, 250); err != nil {
			var no *Reply
			if errors.As(err, &no) {
				c.drain(ctx, len(t.To)+1)
			}
			return nil, false, err
		}
		started = true
	}
	var last *Reply
	for _, to := range t.To {
		if !pipelined {
			c.command("RCPT TO:<%s>", to.Address)
		}
		_, err := c.expect(ctx, 250, 251, 252)
		var no *Reply
		switch {
		case errors.As(err, &no):
			refused[to.Address], last = no, no
		case err != nil:
			return nil, started, err
		}
	}
	if !pipelined {
		if len(refused) == len(t.To) {
			c.command("RSET")
			c.expect(ctx, 250)
			return nil, started, last
		}
		c.command("DATA")
	}
	_, err = c.expect(ctx, 354)
	if len(refused) == len(t.To) {
		if err == nil {
			// RFC 2920 §3.1: it takes DATA although it took nobody; send an empty mail to nobody.
			c.w.WriteString(".\r\n")
			c.expect(ctx, 250)
		}
		return nil, started, last
	}
	return refused, started, err
}

func (c *conn) mailParams(t Transfer) string {
	var p string
	if _, ok := c.features["SIZE"]; ok {
		p += " SIZE=" + strconv.FormatInt(t.Size, 10)
	}
	if t.EightBit {
		p += " BODY=8BITMIME"
	}
	return p
}

// drain reads the replies to commands that were sent together with a failed
// one. A 354 among them would leave the hop waiting for a mail.
func (c *conn) drain(ctx context.Context, n int) {
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
func (c *conn) data(ctx context.Context, t Transfer) error {
	s := stuffer{w: c.w, lineStart: true}
	if err := s.write(t.Head); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := t.Body.Read(buf)
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
func (c *conn) command(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	line = strings.NewReplacer("\r", "", "\n", "").Replace(line)
	c.w.WriteString(line + "\r\n")
}

// expect sends what waits and reads one reply. Another code than the wanted
// ones is a *Reply.
func (c *conn) expect(ctx context.Context, want ...int) ([]string, error) {
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
	h := newReply(code, lines)
	return nil, &h
}

var errNonsense = errors.New("no SMTP reply")

// readReply reads one reply, of one line or several. Its size is bounded.
func (c *conn) readReply() (code int, lines []string, err error) {
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

func deadline(ctx context.Context, d time.Duration) time.Time {
	t := time.Now().Add(d)
	if end, ok := ctx.Deadline(); ok && end.Before(t) {
		return end
	}
	return t
}
