package hop

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// asideFor is how long a host that could not be reached is tried last.
	asideFor = 30 * time.Second
	// peersMost bounds the hosts that are remembered beside those in use.
	peersMost = 4096
)

// peer is one host that we have to do with: its connections and its limits.
type peer struct {
	slots chan struct{} // one token for each connection in use
	pace  *rate.Limiter // nil: as fast as it goes
	users int           // guarded by Sender.mu

	mu     sync.Mutex // guards all below
	idle   []*conn    // the last used one is at the end
	closed bool
	aside  time.Time // tried last until then
}

// peer finds or makes the peer of an endpoint, and counts its user in.
func (p *Sender) peer(ep endpoint) *peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	pe := p.peers[ep.key]
	if pe == nil {
		if len(p.peers) >= peersMost {
			p.forget()
		}
		pe = &peer{slots: make(chan struct{}, ep.route.MaxConnections), closed: p.closed}
		if n := ep.route.MaxMailsPerMinute; n > 0 {
			pe.pace = rate.NewLimiter(rate.Limit(float64(n)/60), max(1, n/60))
		}
		p.peers[ep.key] = pe
	}
	pe.users++
	return pe
}

// forget drops the peers that nobody uses. p.mu is held.
func (p *Sender) forget() {
	for key, pe := range p.peers {
		if pe.users == 0 && pe.isQuiet() {
			delete(p.peers, key)
		}
	}
}

func (pe *peer) isQuiet() bool {
	pe.mu.Lock()
	defer pe.mu.Unlock()
	return len(pe.idle) == 0 && time.Now().After(pe.aside)
}

// acquire waits for the right to one connection. A peer that it returns has to
// be given to release.
func (p *Sender) acquire(ctx context.Context, ep endpoint) (*peer, error) {
	pe := p.peer(ep)
	select {
	case pe.slots <- struct{}{}:
	case <-ctx.Done():
		p.leave(pe)
		return nil, fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
	}
	if pe.pace != nil {
		if err := pe.pace.Wait(ctx); err != nil {
			p.release(pe)
			return nil, fmt.Errorf("%w: too many mails a minute: %w", ErrBusy, err)
		}
	}
	return pe, nil
}

func (p *Sender) release(pe *peer) {
	<-pe.slots
	p.leave(pe)
}

func (p *Sender) leave(pe *peer) {
	p.mu.Lock()
	pe.users--
	p.mu.Unlock()
}

// take gives an unused connection that is alive, or nil.
func (pe *peer) take() *conn {
	for {
		pe.mu.Lock()
		n := len(pe.idle) - 1
		if n < 0 {
			pe.mu.Unlock()
			return nil
		}
		c := pe.idle[n]
		pe.idle = pe.idle[:n]
		pe.mu.Unlock()
		if c.expiry.Stop() && c.isQuiet() {
			return c
		}
		c.Close()
	}
}

// keep puts a connection away for the next mail. There are never more than the
// slots: a connection is only made where none is put away.
func (pe *peer) keep(c *conn, idle time.Duration) {
	pe.mu.Lock()
	defer pe.mu.Unlock()
	if pe.closed {
		c.quit()
		return
	}
	c.expiry = time.AfterFunc(idle, func() {
		if pe.drop(c) {
			c.quit()
		}
	})
	pe.idle = append(pe.idle, c)
}

func (pe *peer) drop(c *conn) bool {
	pe.mu.Lock()
	defer pe.mu.Unlock()
	for i := range pe.idle {
		if pe.idle[i] == c {
			pe.idle = append(pe.idle[:i], pe.idle[i+1:]...)
			return true
		}
	}
	return false
}

func (pe *peer) close() {
	pe.mu.Lock()
	defer pe.mu.Unlock()
	pe.closed = true
	for _, c := range pe.idle {
		if c.expiry.Stop() {
			c.quit()
		} else {
			c.Close()
		}
	}
	pe.idle = nil
}

// saw notes whether a connection could be had.
func (pe *peer) saw(err error) {
	pe.mu.Lock()
	defer pe.mu.Unlock()
	pe.aside = time.Time{}
	if err != nil {
		pe.aside = time.Now().Add(asideFor)
	}
}

// isAside says whether a host had better be tried last.
func (p *Sender) isAside(key string) bool {
	p.mu.Lock()
	pe := p.peers[key]
	p.mu.Unlock()
	if pe == nil {
		return false
	}
	pe.mu.Lock()
	defer pe.mu.Unlock()
	return time.Now().Before(pe.aside)
}
