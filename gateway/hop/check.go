package hop

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"mailward/internal/message"
)

// Checked is what one host of a route is like.
type Checked struct {
	Host     string
	Offers   string // its features, in a few words
	TLS      string // version and cipher, or "": mail goes in clear
	Verified string // as in Result
	Expires  time.Time
	Err      error
}

// String is one line for people.
func (c Checked) String() string {
	if c.Err != nil {
		return c.Host + ": " + c.Err.Error()
	}
	parts := []string{c.Host + ": " + c.Offers}
	if c.TLS != "" {
		parts = append(parts, c.TLS)
	}
	if c.Verified != "" {
		parts = append(parts, "certificate verified ("+c.Verified+")")
	}
	if !c.Expires.IsZero() {
		parts = append(parts, "certificate until "+c.Expires.UTC().Format(time.DateOnly))
	}
	return strings.Join(parts, ", ")
}

// Check connects to each host of a route anew and says goodbye, for Health. The
// error is that of the route: that no host of it can be used.
func (p *Sender) Check(ctx context.Context, route string) (list []Checked, err error) {
	var errs []error
	usable := false
	for ep, err := range p.preferred(ctx, route) {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		one := p.check(ctx, ep)
		list = append(list, one)
		if one.Err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", ep.addr, one.Err))
		}
		usable = usable || one.Err == nil
	}
	if usable {
		return list, nil
	}
	return list, errors.Join(errs...)
}

func (p *Sender) check(ctx context.Context, ep endpoint) Checked {
	out := Checked{Host: ep.addr}
	c, err := p.connect(ctx, ep)
	if err != nil {
		if wantsFewer(err) && p.holds(ep.key) {
			out.Offers = "has as many connections of ours as it takes"
			return out
		}
		out.Err = err
		return out
	}
	defer c.quit()
	var names []string
	for _, n := range []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE", "STARTTLS", "DSN", "CHUNKING"} {
		if c.has(n) {
			names = append(names, n)
		}
	}
	out.Offers, out.Verified = strings.Join(names, " "), c.verified
	if c.tls != nil {
		out.TLS, out.Expires = describeTLS(c.tls), c.tls.PeerCertificates[0].NotAfter
	}
	return out
}

// askedMost is how many addresses are asked about before the replies are read.
// With those that a kept connection may have had refused, a hop's patience is not at
// its end (see refusalsMost) when it knows none of them.
const askedMost = 6

// Verify asks the route whether it takes mail for addresses, without sending any
// (call-forward). The replies are those to RCPT, in the same order; one that is
// temporary says nothing. An error means that the question could not be put, or
// no further: the replies are to the first addresses then.
func (p *Sender) Verify(ctx context.Context, route string, rcpts ...string) (replies []Reply, err error) {
	for _, r := range rcpts {
		if !fits(r) {
			return nil, errAddress
		}
	}
	last := ErrNoRoute
	for ep, err := range p.endpoints(ctx, route) {
		if err != nil {
			last = err
			continue
		}
		for had := -1; had < len(replies) && ctx.Err() == nil; {
			had = len(replies)
			err := p.with(ctx, ep, func(c *conn) (how stage) {
				var more []Reply
				more, how, last = c.verify(ctx, rcpts[had:])
				replies = append(replies[:had], more...)
				return how
			})
			if err != nil {
				last = err
			}
			if errors.Is(err, errFull) {
				had = -1 // one of our own connections will be free in a while
			}
			if len(replies) == len(rcpts) {
				return replies, nil
			}
		}
		if ctx.Err() != nil {
			break
		}
	}
	return replies, fmt.Errorf("ask next hop about a recipient: %w", last)
}

// verify asks about as many as the connection is good for. It needs the null
// sender: any other could be refused for its own sake.
func (c *conn) verify(ctx context.Context, rcpts []string) (replies []Reply, how stage, err error) {
	utf8 := ""
	if !message.IsASCII(strings.Join(rcpts, "")) {
		if !c.has("SMTPUTF8") {
			return nil, open, ErrUTF8
		}
		utf8 = " SMTPUTF8"
	}
	c.clean = false
	c.command("MAIL FROM:<>", utf8)
	group := 1
	if c.has("PIPELINING") {
		group = askedMost
	} else if err := c.asker(ctx, &how); err != nil {
		return nil, how, err
	}
	for rest := rcpts; len(rest) > 0 && (len(replies) == 0 || c.refusals < refusalsMost); {
		these := rest[:min(group, len(rest))]
		rest = rest[len(these):]
		for _, r := range these {
			c.command("RCPT TO:<", r, ">")
		}
		done := group > 1 && len(rest) == 0
		if done {
			c.command("RSET") // in the same group: one round trip
		}
		if group > 1 && len(replies) == 0 {
			if err := c.asker(ctx, &how); err != nil {
				return nil, how, err
			}
		}
		for range these {
			reply, err := c.known(ctx)
			if err != nil {
				return replies, open, err
			}
			replies = append(replies, reply)
		}
		if done {
			_, err := c.expect(ctx, 250)
			c.clean = err == nil
			return replies, open, nil
		}
	}
	c.settle(ctx)
	return replies, open, nil
}

// asker reads the reply to the MAIL of a question.
func (c *conn) asker(ctx context.Context, how *stage) error {
	err := c.sender(ctx, how)
	var no *Reply
	if errors.As(err, &no) && no.Code != 421 {
		c.settle(ctx)
	}
	return err
}

// known reads the reply to the RCPT of a question. The end of the session is none.
func (c *conn) known(ctx context.Context) (Reply, error) {
	lines, err := c.expect(ctx, 250, 251, 252)
	var no *Reply
	switch {
	case err == nil:
		return newReply(250, lines), nil
	case errors.As(err, &no) && no.Code != 421:
		return *no, nil
	}
	return Reply{}, err
}
