package hop

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// asideFor is how long a host that could not be reached is tried last.
	asideFor = 30 * time.Second
	// lowerFor is how long a host gets no more connections than it had when it said
	// that there are too many.
	lowerFor = 5 * time.Minute
	// peersMost bounds the hosts that are remembered beside those in use.
	peersMost = 4096
)

// peer is one host that we have to do with: its connections and its limits.
type peer struct {
	slots chan struct{} // one token for each connection in use
	pace  *rate.Limiter // nil: as fast as it goes
	users int           // guarded by Sender.mu

	mu      sync.Mutex // guards all below
	idle    []*conn    // the last used one is at the end
	used    int        // connections that somebody uses; not those that are being made
	blocked int        // slots that nobody gets for now, see lower
	closed  bool
	aside   time.Time // tried last until then
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
	return len(pe.idle) == 0 && pe.blocked == 0 && time.Now().After(pe.aside)
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
		pe.used++
		pe.mu.Unlock()
		if c.expiry.Stop() && c.isQuiet() {
			return c
		}
		c.Close()
		pe.done()
	}
}

// made counts a new connection that is in use, and done one that is not any more.
func (pe *peer) made() {
	pe.mu.Lock()
	defer pe.mu.Unlock()
	pe.used++
}

func (pe *peer) done() {
	pe.mu.Lock()
	defer pe.mu.Unlock()
	pe.used--
}

// errFull means that a host takes no more connections of ours than it has.
var errFull = errors.New("hop: the next hop takes no more connections")

// wantsFewer says whether a host has refused a connection for their number, or its
// load: 421 is all that a greeting can say for now (RFC 5321 §3.1 and §3.8).
func wantsFewer(err error) bool {
	var no *Reply
	return errors.As(err, &no) && no.Code == 421
}

// lower lets a host have no more connections than it has of ours, for a while: it
// has refused one more. Whoever wants one waits for one of those. ours says that
// the caller's own right to a connection is among those that nobody gets; others,
// that there is a connection to wait for.
func (pe *peer) lower() (ours, others bool) {
	pe.mu.Lock()
	defer pe.mu.Unlock()
	have := pe.used + len(pe.idle)
	if have == 0 {
		return false, false
	}
	n := 0
	for most := cap(pe.slots) - pe.blocked - have; n < most; n++ {
		if n == 0 {
			continue // the caller's own
		}
		select {
		case pe.slots <- struct{}{}:
			continue
		default:
		}
		break
	}
	if n == 0 {
		return false, true
	}
	pe.blocked += n
	time.AfterFunc(lowerFor, func() { pe.raise(n) })
	return true, true
}

// raise gives slots back that [peer.lower] has taken.
func (pe *peer) raise(n int) {
	pe.mu.Lock()
	defer pe.mu.Unlock()
	pe.blocked -= n
	for range n {
		<-pe.slots
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

// holds says whether there are connections to a host.
func (p *Sender) holds(key string) bool {
	p.mu.Lock()
	pe := p.peers[key]
	p.mu.Unlock()
	if pe == nil {
		return false
	}
	pe.mu.Lock()
	defer pe.mu.Unlock()
	return pe.used+len(pe.idle) > 0
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
