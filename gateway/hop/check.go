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

// Verify asks the route whether it takes mail for an address, without sending
// any (call-forward). The reply is the one to RCPT; one that is temporary says
// nothing. An error means that the question could not be put.
func (p *Sender) Verify(ctx context.Context, route, rcpt string) (known bool, reply *Reply, err error) {
	if !fits(rcpt) {
		return false, nil, errAddress
	}
	last := ErrNoRoute
	for ep, err := range p.endpoints(ctx, route) {
		if err != nil {
			last = err
			continue
		}
		var how stage
		if err := p.with(ctx, ep, func(c *conn) stage {
			reply, how, last = c.verify(ctx, rcpt)
			return how
		}); err != nil {
			last = err
			continue
		}
		if last == nil {
			return reply.Code/100 == 2, reply, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return false, nil, fmt.Errorf("ask next hop about a recipient: %w", last)
}

// verify needs the null sender: any other could be refused for its own sake.
func (c *conn) verify(ctx context.Context, rcpt string) (*Reply, stage, error) {
	utf8 := ""
	if !message.IsASCII(rcpt) {
		if !c.has("SMTPUTF8") {
			return nil, open, ErrUTF8
		}
		utf8 = " SMTPUTF8"
	}
	c.clean = false
	c.command("MAIL FROM:<>", utf8)
	pipelined := c.has("PIPELINING")
	if pipelined {
		c.command("RCPT TO:<", rcpt, ">")
	}
	var how stage
	if err := c.sender(ctx, &how); err != nil {
		var no *Reply
		if errors.As(err, &no) && no.Code != 421 {
			c.settle(ctx)
		}
		return nil, how, err
	}
	if !pipelined {
		c.command("RCPT TO:<", rcpt, ">")
	}
	lines, err := c.expect(ctx, 250, 251, 252)
	reply := &Reply{Code: 250}
	if err == nil {
		*reply = newReply(250, lines)
	} else if !errors.As(err, &reply) {
		return nil, open, err
	}
	if reply.Code != 421 {
		c.settle(ctx)
	}
	return reply, open, nil
}
