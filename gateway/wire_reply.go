package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// Write takes go-smtp's replies. They leave together, when the client has
// nothing more to say for now (RFC 2920 §3.2).
func (c *wire) Write(b []byte) (int, error) {
	if err := c.greetOnce(); err != nil {
		return 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead.Load() {
		return 0, net.ErrClosed
	}
	c.part = append(c.part, b...)
	for {
		i := bytes.IndexByte(c.part, '\n')
		if i < 0 {
			break
		}
		c.replyLine(c.part[:i+1])
		c.part = c.part[i+1:]
	}
	if len(c.out) > flushAt {
		return len(b), c.flushLocked()
	}
	return len(b), nil
}

// greetOnce asks whether the client may have a greeting, and lets it wait for it.
func (c *wire) greetOnce() error {
	c.mu.Lock()
	done := c.greeted
	c.greeted = true
	c.mu.Unlock()
	if done || c.dead.Load() {
		return nil
	}
	if c.opt.greet != nil {
		if err := c.opt.greet(c); err != nil {
			if !errors.Is(err, errNoGreeting) {
				c.say(replyFor(err).line())
				c.flush()
			}
			c.Close()
			return err
		}
	}
	c.welcome.Store(true)
	return nil
}

// silent waits for d and fails when the client talks before it was greeted
// (RFC 5321 §3.1: it waits for the greeting).
func (c *wire) silent(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	sock := c.sock.Load()
	sock.SetReadDeadline(time.Now().Add(d))
	n, err := sock.Read(c.buf[c.w:])
	c.w += n
	var timeout net.Error
	switch {
	case n > 0:
		return errEarlyTalker
	case errors.As(err, &timeout) && timeout.Timeout():
		return nil
	}
	return errNoGreeting
}

// replyLine passes one line of a reply on, as it should be said. c.mu is held.
func (c *wire) replyLine(l []byte) {
	if c.swallow {
		return
	}
	last := len(l) < 4 || l[3] != '-'
	code := string(l[:min(3, len(l))])
	if c.verb == "BDAT" {
		if c.chunked = code == "250" && !c.last; code == "250" {
			c.empty = 0
		}
	}
	switch {
	case (c.verb == "EHLO" || c.verb == "LHLO") && code == "250":
		if last {
			c.out = append(c.out, c.helloReply()...)
			c.verb = ""
		}
		return
	case c.verb == "HELO" && code == "250":
		// RFC 5321 §4.1.1.1: who we are; RFC 2034 §4: without a status code.
		c.out = append(c.out, "250 "+c.opt.hostname+"\r\n"...)
		return
	case code == "354":
		c.takeBody()
	case c.verb == "RCPT" && code == "250":
		c.empty-- // It brings a mail forward.
	case c.verb == "RCPT" && code == "452" && c.full < fullCommands:
		c.full++
		c.empty--
	case c.verb == "MAIL" && code == "250":
		c.bodyEnd = time.Time{}
	case code == "500" || code == "501":
		c.badSeen++
	}
	c.out = append(c.out, standardReply(c.verb, code, l)...)
}

// helloReply is the answer to EHLO: what we offer now.
func (c *wire) helloReply() string {
	var b strings.Builder
	fmt.Fprintf(&b, "250-%s\r\n", c.opt.hostname)
	words := c.opt.features(c)
	if c.opt.tls != nil && c.tls == "" {
		words = append(words, "STARTTLS")
	}
	for i, w := range words {
		sep := "-"
		if i == len(words)-1 {
			sep = " "
		}
		b.WriteString("250" + sep + w + "\r\n")
	}
	return b.String()
}

// standardReply puts right what go-smtp says in its own way. RFC 5321 §4.2.4 has
// 503 for a bad sequence and §4.1.1.11 555 for a parameter that is not known; RFC
// 3463 §3.2 has codes of their own for sender and recipient.
func standardReply(verb, code string, l []byte) []byte {
	envelope := verb == "MAIL" || verb == "RCPT"
	switch {
	case verb == "MAIL" && code == "250":
		return []byte("250 2.1.0 Sender ok\r\n")
	case verb == "RCPT" && code == "250":
		return []byte("250 2.1.5 Recipient ok\r\n")
	case code == "502" && (envelope || verb == "DATA" || verb == "BDAT"):
		return append([]byte("503"), l[3:]...)
	case envelope && (code == "504" || code == "500") && bytes.Contains(l, []byte(" 5.5.4 ")):
		return append([]byte("555"), l[3:]...)
	case verb == "NOOP" && code == "250":
		return []byte("250 2.0.0 Ok\r\n")
	}
	return l
}

// say adds a reply of our own.
func (c *wire) say(line string) {
	c.mu.Lock()
	c.out = append(c.out, line...)
	c.mu.Unlock()
}

func (c *wire) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flushLocked()
}

func (c *wire) flushLocked() error {
	if len(c.out) == 0 {
		return nil
	}
	sock := c.sock.Load()
	sock.SetWriteDeadline(time.Now().Add(time.Minute))
	_, err := sock.Write(c.out)
	c.out = c.out[:0]
	if err != nil {
		c.dead.Store(true)
	}
	return err
}

// tlsName is version and cipher, or "".
func (c *wire) tlsName() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tls
}

// hangUpIfIdle ends a session that is not in the middle of a mail. One that is ends
// with its reply, see [wire.answered].
func (c *wire) hangUpIfIdle() {
	if c.busy.Load() {
		return
	}
	sock := c.sock.Load()
	if !c.welcome.Load() {
		// It waits for its greeting, or we do for its PROXY header.
		c.dead.Store(true)
		sock.Close()
		return
	}
	sock.SetWriteDeadline(time.Now().Add(time.Second)) // Also ends a write that hangs.
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy.Load() {
		return
	}
	c.dead.Store(true)
	sock.Write(append(c.out, replyFor(errShuttingDown).line()...))
	c.out = nil
	sock.Close()
}
