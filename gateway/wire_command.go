package gateway

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"time"

	"mailward/internal/message"
)

// next takes one command off the wire. Those that are none, or that go-smtp
// would not answer as it should, are answered here.
func (c *wire) next() error {
	if c.dots.oddEnd {
		// What comes now may be text to the server before us, and not commands.
		c.flush()
		return io.EOF
	}
	if err := c.answered(); err != nil {
		return err
	}
	if len(c.after) > 0 {
		c.line, c.after = c.after, nil
		return nil
	}
	if err := c.countBad(); err != nil {
		return err
	}
	line, err := c.readLine()
	if errors.Is(err, errLongCommand) {
		return c.refuse(err)
	}
	if err != nil {
		return err
	}
	if why := badLine(line); why != nil {
		return c.refuse(why)
	}
	verb := verbOf(line)
	if err := c.sequence(verb, line); err != nil {
		return c.refuse(err)
	}
	switch verb {
	case "STARTTLS":
		return c.startTLS(line)
	case "XFORWARD":
		return c.xforward(line)
	case "EHLO", "HELO", "LHLO":
		c.hello = true
		c.extended.Store(verb != "HELO")
	case "BDAT":
		size, err := chunkSize(line)
		if err != nil {
			// Nobody knows where the chunk ends, so nothing after it can be a command.
			return c.hangUp(err)
		}
		if c.opt.largest > 0 && size > c.opt.largest+drainLimit {
			return c.hangUp(message.ErrTooBig)
		}
		if now := time.Now(); c.bodyEnd.IsZero() {
			c.bodyEnd = now.Add(dataLimit)
		} else if now.After(c.bodyEnd) {
			return c.hangUp(errSlowBody)
		}
		c.mode, c.chunk, c.last = modeChunk, size, len(bytes.Fields(line)) > 2
		if size > commandLimit {
			c.grow()
		}
	case "MAIL", "RCPT":
		switch err := badParameter(line); {
		case errors.Is(err, message.ErrTooBig):
			c.say(replyFor(err).line())
			return nil
		case err != nil:
			return c.refuse(err)
		}
	}
	line = bytes.TrimRight(line, blanks) // RFC 5321 §4.1.1 tolerates blanks; go-smtp does not.
	if verb == "RCPT" {
		line, c.orcpt = takeORCPT(c.wholePostmaster(line))
	}
	return c.give(verb, append(line, '\r', '\n'))
}

// give has go-smtp read a command.
func (c *wire) give(verb string, line []byte) error {
	c.mu.Lock()
	c.verb, c.line = verb, line
	if verb == "BDAT" {
		c.busy.Store(true)
		if !c.chunked {
			c.gaveUp.Store(false)
		}
	} else if c.chunked && slices.Contains(givesUp, verb) {
		c.giveUp()
	}
	c.mu.Unlock()
	if c.dead.Load() {
		return io.EOF // [wire.hangUpIfIdle] was here first.
	}
	return nil
}

// givesUp are the commands after which there is no mail under way.
var givesUp = []string{"RSET", "EHLO", "HELO", "LHLO", "STARTTLS", "QUIT"}

// endChunks has go-smtp wait for the end of a mail in chunks.
const endChunks = "BDAT 0 LAST\r\n"

// giveUp ends a mail in chunks whose last one does not come. go-smtp would leave
// the goroutine alone that takes it, and hear its result as that of the next mail. So
// it is made to wait for it, and [chunks] says that this is no end. c.mu is held.
func (c *wire) giveUp() {
	c.gaveUp.Store(true)
	c.chunked, c.swallow = false, true
	c.line, c.after = []byte(endChunks), c.line
}

// answered is called when go-smtp has said all that it has to say to a command,
// and wants the next one.
func (c *wire) answered() error {
	c.mu.Lock()
	c.swallow = false
	c.mu.Unlock()
	if c.dead.Load() {
		// It would go on with what is in the buffer, for nobody.
		return io.EOF
	}
	if !c.busy.Load() || c.chunked {
		return nil
	}
	// The reply to a mail is out before the session counts as idle: who does not
	// hear it sends the mail again.
	if err := c.flush(); err != nil {
		return err
	}
	c.busy.Store(false)
	if c.opt.closing != nil && c.opt.closing() {
		return c.hangUp(errShuttingDown)
	}
	return nil
}

// sequence checks what may follow what.
func (c *wire) sequence(verb string, line []byte) error {
	if c.empty++; c.empty > emptyCommands {
		return errTooManyCommands
	}
	if !c.hello && slices.Contains([]string{"MAIL", "RCPT", "DATA", "BDAT", "STARTTLS", "XFORWARD"}, verb) {
		if verb == "BDAT" {
			return errNotSMTP // Its chunk would be read as commands.
		}
		return errNoHello
	}
	// RFC 2920 §3.1: these must be the last of a group. Who does not wait for the
	// reply to EHLO or DATA does not care what it says.
	if c.opt.strict && c.w > c.r && slices.Contains([]string{"EHLO", "HELO", "LHLO", "DATA"}, verb) {
		return errPipelining
	}
	return nil
}

// refuse answers a line that go-smtp never sees.
func (c *wire) refuse(why error) error {
	if fatalCommand(why) {
		return c.hangUp(why)
	}
	c.say(replyFor(why).line())
	c.mu.Lock()
	c.badSeen++
	c.mu.Unlock()
	return nil
}

// countBad looks for commands that were refused as no SMTP. Too many end the session.
func (c *wire) countBad() error {
	c.mu.Lock()
	seen := c.badSeen
	c.mu.Unlock()
	for c.badTold < seen {
		c.badTold++
		if err := c.opt.bad(c, c.badTold); err != nil {
			return c.hangUp(err)
		}
	}
	return nil
}

// hangUp says why and ends the session.
func (c *wire) hangUp(why error) error {
	c.say(replyFor(why).line())
	c.flush()
	c.Close()
	return io.EOF
}

// readLine takes one line, with its end, off the wire. What has begun has to end in
// time: a client must not hold a connection with an octet now and then.
func (c *wire) readLine() ([]byte, error) {
	var end time.Time
	for {
		if i := bytes.IndexByte(c.buf[c.r:c.w], '\n'); i >= 0 {
			line := c.buf[c.r : c.r+i+1]
			c.r += i + 1
			if len(line) > commandLimit {
				return nil, errLongCommand
			}
			return slices.Clone(line), nil
		}
		if end.IsZero() && c.w > c.r {
			end = time.Now().Add(c.opt.patience())
		}
		if c.w-c.r > commandLimit {
			return nil, c.skipLine(end)
		}
		if err := c.fill(end); err != nil {
			return nil, err
		}
	}
}

// skipLine reads past a line that is too long.
func (c *wire) skipLine(end time.Time) error {
	for seen := 0; seen < skipLimit; {
		if i := bytes.IndexByte(c.buf[c.r:c.w], '\n'); i >= 0 {
			c.r += i + 1
			return errLongCommand
		}
		seen += c.w - c.r
		c.r, c.w = 0, 0
		if err := c.fill(end); err != nil {
			return err
		}
	}
	return c.hangUp(errLongCommand)
}
