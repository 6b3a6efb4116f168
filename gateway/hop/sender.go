package hop

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Config says how we deliver.
type Config struct {
	Hostname string // what we call ourselves in EHLO
}

// hosts are the hosts of a route, the best first.
func hosts(route string) (list []string) {
	for h := range strings.SplitSeq(route, ",") {
		list = append(list, strings.TrimSpace(h))
	}
	return list
}

func firstHost(route string) string { return hosts(route)[0] }

// Sender hands mails over, and keeps connections for the next ones.
type Sender struct {
	cfg    Config
	mu     sync.Mutex // guards idle, closed
	idle   map[string][]*conn
	closed bool
	known  memory
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
	c, err := p.dial(ctx, addr)
	if err != nil {
		return Result{Err: err}
	}
	res, _ := p.sendOn(ctx, addr, c, t)
	return res
}

// sendOn runs one transaction. started says that bytes of the mail, or more
// than its envelope, may have reached the hop.
func (p *Sender) sendOn(ctx context.Context, addr string, c *conn, t Transfer) (res Result, started bool) {
	stop := c.obey(ctx)
	res, started = c.transact(ctx, t)
	var no *Reply
	if stop() && (res.Err == nil || errors.As(res.Err, &no) && no.Code != 421) {
		p.put(addr, c)
	} else {
		c.Close()
	}
	return res, started
}

func (p *Sender) dial(ctx context.Context, addr string) (*conn, error) {
	c, err := dial(ctx, addr, p.cfg.Hostname)
	if err == nil {
		p.known.learn(addr, c.features)
	}
	return c, err
}

// obey ends whatever the connection waits for when ctx does, until stop is
// called, which says whether it came first.
func (c *conn) obey(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
}

// Check connects to each host of a route and says goodbye, for Health. It
// returns what the last one offers in a few words, and the failures of all.
func (p *Sender) Check(ctx context.Context, route string) (text string, err error) {
	var errs []error
	for _, addr := range hosts(route) {
		c, err := p.dial(ctx, addr)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", addr, err))
			continue
		}
		text = c.offers()
		c.command("QUIT")
		c.w.Flush()
		c.Close()
	}
	return text, errors.Join(errs...)
}

func (c *conn) offers() string {
	var names []string
	for _, n := range []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE", "STARTTLS", "DSN"} {
		if _, ok := c.features[n]; ok {
			names = append(names, n)
		}
	}
	return strings.Join(names, " ")
}
