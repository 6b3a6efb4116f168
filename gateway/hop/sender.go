package hop

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"
)

// Config says how we deliver.
type Config struct {
	Hostname string // what we call ourselves in EHLO
}

// firstHost is the host of a route that is tried first.
func firstHost(route string) string {
	first, _, _ := strings.Cut(route, ",")
	return strings.TrimSpace(first)
}

// Sender hands mails over, and keeps connections for the next ones.
type Sender struct {
	cfg    Config
	mu     sync.Mutex // guards idle, closed
	idle   map[string][]*conn
	closed bool
}

// New returns a Sender that connects to nothing yet.
func New(cfg Config) *Sender {
	return &Sender{cfg: cfg, idle: map[string][]*conn{}}
}

// Close ends the connections that are not in use.
func (p *Sender) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, cs := range p.idle {
		for _, c := range cs {
			c.Close()
		}
	}
	p.idle = map[string][]*conn{}
}

// take gives an unused connection, or nil.
func (p *Sender) take(addr string) *conn {
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

func (p *Sender) put(addr string, c *conn) {
	c.since = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle[addr]) >= idleMost {
		c.Close()
		return
	}
	p.idle[addr] = append(p.idle[addr], c)
}

// Send hands a mail to a next hop. An unused connection that turns out to be
// dead is replaced by a new one, as long as nothing of the mail has gone out.
func (p *Sender) Send(ctx context.Context, route string, t Transfer) Result {
	addr := firstHost(route)
	if c := p.take(addr); c != nil {
		res, started := p.sendOn(ctx, addr, c, t)
		if started || res.Err == nil || ctx.Err() != nil {
			return res
		}
		var no *Reply
		if errors.As(res.Err, &no) && no.Code != 421 {
			return res
		}
	}
	c, err := dial(ctx, addr, p.cfg.Hostname)
	if err != nil {
		return Result{Err: err}
	}
	res, _ := p.sendOn(ctx, addr, c, t)
	return res
}

// sendOn runs one transaction. started says that bytes of the mail, or more
// than its envelope, may have reached the hop.
func (p *Sender) sendOn(ctx context.Context, addr string, c *conn, t Transfer) (res Result, started bool) {
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	res, started = c.transact(ctx, t)
	var no *Reply
	if stop() && (res.Err == nil || errors.As(res.Err, &no) && no.Code != 421) {
		p.put(addr, c)
	} else {
		c.Close()
	}
	return res, started
}

// Check connects to a next hop and says goodbye, for Health. It returns the
// hop's features in a few words.
func (p *Sender) Check(ctx context.Context, route string) (string, error) {
	c, err := dial(ctx, firstHost(route), p.cfg.Hostname)
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
