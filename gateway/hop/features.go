package hop

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// Features is what a route can carry, as its hosts said in EHLO.
type Features struct {
	SMTPUTF8     bool
	DSN          bool
	EightBitMIME bool
	Chunking     bool
	Size         int64 // the largest mail in octets; 0: not said
}

// and is what both can carry.
func (f Features) and(g Features) Features {
	size := f.Size
	if size == 0 || g.Size != 0 && g.Size < size {
		size = g.Size
	}
	return Features{SMTPUTF8: f.SMTPUTF8 && g.SMTPUTF8, DSN: f.DSN && g.DSN, EightBitMIME: f.EightBitMIME && g.EightBitMIME,
		Chunking: f.Chunking && g.Chunking, Size: size}
}

func featuresOf(offered map[string]string) Features {
	has := func(name string) bool { _, ok := offered[name]; return ok }
	f := Features{SMTPUTF8: has("SMTPUTF8"), DSN: has("DSN"), EightBitMIME: has("8BITMIME"), Chunking: has("CHUNKING")}
	if n, err := strconv.ParseInt(strings.TrimSpace(offered["SIZE"]), 10, 64); err == nil && n > 0 {
		f.Size = n // RFC 1870 §4: 0 or nothing is no limit
	}
	return f
}

// knownMost bounds the hosts whose features are remembered.
const knownMost = 10_000

// memory remembers what hosts offered when they were last spoken to.
type memory struct {
	mu    sync.Mutex // guards hosts
	hosts map[string]Features
}

func (m *memory) learn(addr string, offered map[string]string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.hosts == nil {
		m.hosts = map[string]Features{}
	}
	if _, known := m.hosts[addr]; !known && len(m.hosts) >= knownMost {
		for some := range m.hosts {
			delete(m.hosts, some)
			break
		}
	}
	m.hosts[addr] = featuresOf(offered)
}

func (m *memory) recall(addr string) (Features, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, ok := m.hosts[addr]
	return f, ok
}

// Features says what a route can carry: what all of its hosts can that have
// been spoken to. It asks nobody; ok is false before the first connection, which
// a mail, [Sender.Verify] or [Sender.Check] makes.
func (p *Sender) Features(route string) (all Features, ok bool) {
	for _, addr := range hosts(route) {
		f, known := p.known.recall(addr)
		switch {
		case known && ok:
			all = all.and(f)
		case known:
			all, ok = f, true
		}
	}
	return all, ok
}

// Verify asks the hop whether it takes mail for an address, without sending
// any (call-forward). The reply is the one to RCPT; one that is temporary says
// nothing. An error means that the question could not be put.
func (p *Sender) Verify(ctx context.Context, route, rcpt string) (known bool, reply *Reply, err error) {
	addr := firstHost(route)
	if c := p.take(addr); c != nil {
		if reply, err = p.verifyOn(ctx, addr, c, rcpt); err == nil || ctx.Err() != nil {
			return reply != nil && reply.Code/100 == 2, reply, err
		}
	}
	c, err := p.dial(ctx, addr)
	if err != nil {
		return false, nil, err
	}
	reply, err = p.verifyOn(ctx, addr, c, rcpt)
	return reply != nil && reply.Code/100 == 2, reply, err
}

func (p *Sender) verifyOn(ctx context.Context, addr string, c *conn, rcpt string) (*Reply, error) {
	defer c.obey(ctx)()
	reply, err := c.verify(ctx, rcpt)
	if err != nil || reply.Code == 421 {
		c.Close()
	} else {
		p.put(addr, c)
	}
	return reply, err
}

// verify needs the null sender: anything else could be refused for its own sake.
func (c *conn) verify(ctx context.Context, rcpt string) (*Reply, error) {
	c.command("MAIL FROM:<>")
	if _, err := c.expect(ctx, 250); err != nil {
		return nil, fmt.Errorf("ask next hop about a recipient: %w", err)
	}
	c.command("RCPT TO:<%s>", rcpt)
	lines, err := c.expect(ctx, 250, 251)
	reply := &Reply{Code: 250, Text: Harmless(strings.Join(lines, " "), 200)}
	if err != nil && !errors.As(err, &reply) {
		return nil, fmt.Errorf("ask next hop about a recipient: %w", err)
	}
	c.command("RSET")
	if _, err := c.expect(ctx, 250); err != nil {
		return nil, fmt.Errorf("end a question to the next hop: %w", err)
	}
	return reply, nil
}
