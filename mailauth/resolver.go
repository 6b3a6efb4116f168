package mailauth

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// Resolver is what the checks need of DNS. [*net.Resolver] is one.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error)
	LookupAddr(ctx context.Context, addr string) ([]string, error)
}

// Times and sizes of the cache.
const (
	keepAnswer  = 5 * time.Minute
	keepMissing = time.Minute
	keepTrouble = 10 * time.Second
	cacheMost   = 20_000
	// After so many lookups in a row without an answer the resolver counts as
	// dead, and is left alone for a while: mail must not wait for it.
	troubleMost  = 3
	troubleQuiet = 20 * time.Second
)

var errResolverDead = &net.DNSError{Err: "the resolver gave no answer before", IsTimeout: true, IsTemporary: true}

// cached remembers answers, also that there is none, and leaves a dead
// resolver alone.
type cached struct {
	next Resolver
	now  func() time.Time

	mu      sync.Mutex // guards all below
	entries map[string]entry
	trouble int
	quiet   time.Time // until then nothing is asked
}

type entry struct {
	value any
	err   error
	until time.Time
}

// NewResolver returns a cached resolver that asks server (host:port), or the
// system's where server is empty.
func NewResolver(server string) Resolver {
	r := &net.Resolver{PreferGo: true}
	if server != "" {
		r.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, server)
		}
	}
	return Cached(r)
}

// Cached puts the cache in front of another resolver.
func Cached(next Resolver) Resolver {
	return &cached{next: next, now: time.Now, entries: map[string]entry{}}
}

func (c *cached) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return lookup(c, "txt "+name, func() ([]string, error) { return c.next.LookupTXT(ctx, name) })
}

func (c *cached) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	return lookup(c, "mx "+name, func() ([]*net.MX, error) { return c.next.LookupMX(ctx, name) })
}

func (c *cached) LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error) {
	return lookup(c, "ip "+host, func() ([]net.IPAddr, error) { return c.next.LookupIPAddr(ctx, host) })
}

func (c *cached) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	return lookup(c, "ptr "+addr, func() ([]string, error) { return c.next.LookupAddr(ctx, addr) })
}

func lookup[T any](c *cached, key string, ask func() (T, error)) (T, error) {
	var zero T
	c.mu.Lock()
	now := c.now()
	if e, ok := c.entries[key]; ok && now.Before(e.until) {
		c.mu.Unlock()
		v, _ := e.value.(T)
		return v, e.err
	}
	if now.Before(c.quiet) {
		c.mu.Unlock()
		return zero, errResolverDead
	}
	c.mu.Unlock()
	v, err := ask()
	c.store(key, v, err)
	return v, err
}

func (c *cached) store(key string, v any, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	keep := keepAnswer
	var dns *net.DNSError
	switch {
	case err == nil:
		c.trouble = 0
	case errors.As(err, &dns) && dns.IsNotFound:
		c.trouble, keep = 0, keepMissing
	default:
		keep = keepTrouble
		if c.trouble++; c.trouble >= troubleMost {
			c.trouble, c.quiet = 0, now.Add(troubleQuiet)
		}
	}
	if len(c.entries) >= cacheMost {
		clear(c.entries)
	}
	c.entries[key] = entry{value: v, err: err, until: now.Add(keep)}
}
