package hop

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Sender hands mails over, and keeps connections for the next ones.
type Sender struct {
	settings atomic.Pointer[settings]
	known    memory
	policies stsCache

	mu     sync.Mutex // guards all below
	peers  map[string]*peer
	closed bool
}

// settings are a Config made ready for use.
type settings struct {
	Config
	sessions tls.ClientSessionCache
}

// New returns a Sender that connects to nothing yet.
func New(cfg Config) *Sender {
	p := &Sender{}
	p.Reload(cfg)
	return p
}

// Reload puts other settings in force. Mails under way end by the old ones;
// unused connections are given up.
func (p *Sender) Reload(cfg Config) {
	s := &settings{Config: cfg.withDefaults(), sessions: tls.NewLRUClientSessionCache(256)}
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.peers
	p.settings.Store(s)
	p.peers = map[string]*peer{}
	for _, pe := range old {
		pe.close()
	}
}

// Close ends the connections that are not in use, and the others when they are
// done.
func (p *Sender) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, pe := range p.peers {
		pe.close()
	}
}

// endpoints gives the hosts of a route in the order in which they are to be
// tried: by preference, but those that could not be reached a moment ago last.
// An error stands for a host that cannot be tried, or for all.
func (p *Sender) endpoints(ctx context.Context, route string) iter.Seq2[endpoint, error] {
	return func(yield func(endpoint, error) bool) {
		var aside []endpoint
		for ep, err := range p.preferred(ctx, route) {
			if err == nil && p.isAside(ep.key) {
				aside = append(aside, ep)
			} else if !yield(ep, err) {
				return
			}
		}
		for _, ep := range aside {
			if !yield(ep, nil) {
				return
			}
		}
	}
}

func (p *Sender) preferred(ctx context.Context, route string) iter.Seq2[endpoint, error] {
	s := p.settings.Load()
	if domain, ok := strings.CutPrefix(route, mxPrefix); ok {
		return p.direct(ctx, s, domain)
	}
	return func(yield func(endpoint, error) bool) {
		list, err := s.listed(route)
		if err != nil {
			yield(endpoint{}, err)
			return
		}
		for _, ep := range list {
			if !yield(ep, nil) {
				return
			}
		}
	}
}

// stage is how far a transaction came, which says what may still be done.
type stage int

const (
	untouched stage = iota // the hop has not answered to it: a kept connection may have died before
	open                   // nothing of the mail is out: another host may be tried
	final                  // it is decided, or the mail has begun to go out
)

// refusalsMost is how many commands a hop may refuse on a connection that is
// kept. Postfix slows down all its replies from the tenth on, to whomever they
// are, and breaks off at the twentieth (smtpd_soft_error_limit and
// smtpd_hard_error_limit); a mail that it takes begins the count anew.
const refusalsMost = 4

// Send hands a mail to a route.
//
// It fails over to the next host only as long as no byte of the mail is out,
// so that no mail is doubled by us: when a host cannot be reached, does not
// greet us, does not meet the demands on TLS or our login, breaks off, or
// answers MAIL or DATA with 4xx, or RCPT with 421, which are about the host and its
// state, or cannot carry the mail. Where it takes no more connections than it has of
// ours and nobody else takes the mail, one of those is waited for. Final
// are a 5xx to anything, which is about the mail; the refusal of all recipients,
// also with 4xx, which is about them (a full mailbox, greylisting) and would only
// be asked again elsewhere; and any trouble once the mail has begun to go out.
// The caller tries again later then, or knows from ReplyLost that he must not.
func (p *Sender) Send(ctx context.Context, route string, t Transfer) Result {
	ctx, cancel := t.within(ctx)
	defer cancel(nil)
	last := Result{Err: ErrNoRoute}
	var full []endpoint
	try := func(ep endpoint) (res Result, done bool) {
		if res, done = p.sendTo(ctx, ep, &t); !done {
			if errors.Is(res.Err, errFull) {
				full = append(full, ep)
			}
			last.worsen(res)
		}
		return res, done
	}
	for ep, err := range p.endpoints(ctx, route) {
		if err != nil {
			last.worsen(Result{Err: err})
		} else if res, done := try(ep); done {
			return res
		}
	}
	// Nobody else takes it: one of our own connections will be free in a while.
	for len(full) > 0 && ctx.Err() == nil {
		ep := full[0]
		full = full[1:]
		if res, done := try(ep); done && !errors.Is(res.Err, ErrBusy) {
			return res
		}
	}
	return last
}

// sendTo hands a mail to one host. done says that no other one is to be tried.
func (p *Sender) sendTo(ctx context.Context, ep endpoint, t *Transfer) (res Result, done bool) {
	if t.Patient {
		ep.times = ep.route.Timeouts.steps(true)
	}
	how := open
	if err := p.with(ctx, ep, func(c *conn) stage {
		res, how = c.transact(ctx, t)
		return how
	}); err != nil {
		res.Err = err
	}
	res.Host = ep.addr
	return res, how == final || ctx.Err() != nil
}

// within ends the context when the dot should be out and is not. Once onTime has
// said that it can go out, that time means nothing any more.
func (t *Transfer) within(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	if t.DotBy.IsZero() {
		return ctx, cancel
	}
	timer := time.AfterFunc(time.Until(t.DotBy), func() { cancel(context.DeadlineExceeded) })
	t.onTime = timer.Stop
	return ctx, func(err error) { timer.Stop(); cancel(err) }
}

// patience is how long the reply to the final dot may take.
func (t *Transfer) patience(final time.Duration) time.Duration {
	switch {
	case final > 0:
		return final
	case !t.DotBy.IsZero():
		return time.Until(t.DotBy)
	}
	return finalLimit
}

// worsen keeps what tells the most when all hosts have failed: a hop's own words
// before our trouble, that before what a hop cannot carry (one that was away may be
// able to), and the later before the earlier.
func (r *Result) worsen(next Result) {
	if weight(next.Err) >= weight(r.Err) {
		*r = next
	}
}

func weight(err error) int {
	var no *Reply
	switch {
	case err == ErrNoRoute:
		return 0
	case errors.Is(err, ErrEightBit), errors.Is(err, ErrUTF8), errors.Is(err, errSize):
		return 1
	case errors.As(err, &no):
		return 3
	}
	return 2
}

// with runs f on a connection to a host. A kept one that turns out to be dead
// is replaced by a new one.
func (p *Sender) with(ctx context.Context, ep endpoint, f func(*conn) stage) error {
	pe, err := p.acquire(ctx, ep)
	if err != nil {
		return err
	}
	giveBack := p.release
	defer func() { giveBack(pe) }()
	for c := pe.take(); c != nil; c = pe.take() {
		if p.run(ctx, ep, pe, c, f) != untouched || ctx.Err() != nil {
			return nil
		}
	}
	c, err := p.connect(ctx, ep)
	if !errors.Is(context.Cause(ctx), context.Canceled) { // else it had no time to answer
		pe.saw(err)
	}
	if err != nil {
		if !wantsFewer(err) {
			return err
		}
		keepsRight, others := pe.lower()
		if keepsRight {
			giveBack = p.leave
		}
		if !others {
			return err
		}
		return fmt.Errorf("%w: %w", errFull, err)
	}
	pe.made()
	p.run(ctx, ep, pe, c, f)
	return nil
}

// run lets f use a connection, and keeps it when it is fit for another mail.
func (p *Sender) run(ctx context.Context, ep endpoint, pe *peer, c *conn, f func(*conn) stage) stage {
	c.times, c.limit, c.xforward = ep.times, ep.times.command, ep.route.XForward
	stop := c.obey(ctx)
	how := f(c)
	c.mails++
	switch {
	case !stop() || !c.clean || c.owed != 0 || c.r.Buffered() > 0:
		c.Close()
	case c.mails >= c.mailsMost(ep.route.MaxMailsPerConnection), c.refusals >= refusalsMost:
		c.quit()
	default:
		pe.keep(c, ep.route.Idle)
	}
	pe.done()
	return how
}
