package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	miekg "github.com/miekg/dns"
)

const (
	// udpSize avoids fragments on all usual paths (DNS flag day 2020).
	udpSize = 1232
	// maxStray is how many packets that are no answer to our question are
	// read over before a try is given up: someone is guessing.
	maxStray = 50
	// After so many silent tries in a row a server is asked for the root, which
	// every living one knows: only if that stays without an answer too, mail
	// does not wait for it for a while. Dead servers of a sender are not enough.
	silentMost  = 3
	silentQuiet = 20 * time.Second
)

var (
	errSilent   = errors.New("dns: no answer")
	errMismatch = errors.New("dns: the answer is for another question")
)

// server is one recursive resolver.
type server struct {
	addr    string
	trusted bool // its AD bit is believed

	mu     sync.Mutex // guards all below
	silent int
	quiet  time.Time // until then it is asked last
}

func (s *server) isQuiet(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Before(s.quiet)
}

// ask puts a question to one server after the other. The servers' errors count
// as no answer, so the next one is asked; NXDOMAIN is an answer.
func (r *Resolver) ask(ctx context.Context, k key) (m *miekg.Msg, trusted bool, err error) {
	select {
	case r.wire <- struct{}{}:
		defer func() { <-r.wire }()
	case <-ctx.Done():
		r.metrics.queries.WithLabelValues("refused").Inc()
		return nil, false, fmt.Errorf("%w: too many questions at a time", errSilent)
	}
	err = errSilent
	now := r.now()
	tries := 0
	for tries < maxTries && ctx.Err() == nil {
		asked := false
		for _, s := range r.servers {
			if s.isQuiet(now) || tries >= maxTries {
				continue
			}
			asked = true
			tries++
			if m, err = r.try(ctx, s, k); err == nil {
				return m, s.trusted, nil
			}
		}
		if !asked {
			r.metrics.queries.WithLabelValues("quiet").Inc()
			return nil, false, fmt.Errorf("%w: the resolver did not answer before", errSilent)
		}
		// A second round is for what got lost, not to have the same said twice.
		if !errors.Is(err, errSilent) && tries >= len(r.servers) {
			break
		}
	}
	return nil, false, err
}

// try asks one server: UDP, and TCP where the answer does not fit.
func (r *Resolver) try(ctx context.Context, s *server, k key) (*miekg.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Try)
	defer cancel()
	m, err := r.exchange(ctx, s.addr, "udp", question(k, true))
	// RFC 6891 §7: an old server may not know EDNS.
	if err == nil && (m.Rcode == miekg.RcodeFormatError || m.Rcode == miekg.RcodeNotImplemented) {
		m, err = r.exchange(ctx, s.addr, "udp", question(k, false))
	}
	if err == nil && m.Truncated {
		m, err = r.exchange(ctx, s.addr, "tcp", question(k, true))
	}
	r.heard(ctx, s, err)
	if err != nil {
		r.metrics.queries.WithLabelValues(label(err)).Inc()
		return nil, err
	}
	r.metrics.queries.WithLabelValues(strings.ToLower(miekg.RcodeToString[m.Rcode])).Inc()
	if m.Rcode != miekg.RcodeSuccess && m.Rcode != miekg.RcodeNameError {
		return nil, fmt.Errorf("dns: the resolver answers %s", miekg.RcodeToString[m.Rcode])
	}
	if m.Truncated {
		return nil, errors.New("dns: truncated over TCP")
	}
	return m, nil
}

func label(err error) string {
	if errors.Is(err, errSilent) {
		return "timeout"
	}
	return "error"
}

func question(k key, edns bool) *miekg.Msg {
	m := new(miekg.Msg)
	m.SetQuestion(k.name, k.qtype)
	m.AuthenticatedData = true // RFC 6840 §5.7: we want to know, without the signatures
	if edns {
		m.SetEdns0(udpSize, false)
	}
	return m
}

// exchange sends a question from a port of its own and waits for its answer.
func (r *Resolver) exchange(ctx context.Context, addr, network string, q *miekg.Msg) (*miekg.Msg, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSilent, err)
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return nil, fmt.Errorf("ask the resolver: %w", err)
		}
	}
	conn := &miekg.Conn{Conn: c, UDPSize: 4096}
	if err := conn.WriteMsg(q); err != nil {
		return nil, fmt.Errorf("%w: %w", errSilent, err)
	}
	for range maxStray {
		raw, err := conn.ReadMsgHeader(nil)
		if errors.Is(err, miekg.ErrShortRead) && network == "udp" {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errSilent, err)
		}
		m, err := parseReply(raw, q)
		if errors.Is(err, errMismatch) && network == "udp" {
			continue
		}
		return m, err
	}
	return nil, errMismatch
}

// parseReply reads a packet as the answer to q. A packet with another ID or
// question is a mismatch: a late answer or a guess.
func parseReply(raw []byte, q *miekg.Msg) (*miekg.Msg, error) {
	if len(raw) < 12 || uint16(raw[0])<<8|uint16(raw[1]) != q.Id {
		return nil, errMismatch
	}
	m := new(miekg.Msg)
	if err := m.Unpack(raw); err != nil {
		// A server that cut the packet short still says so in its header.
		if m.Response && m.Truncated && m.Id == q.Id {
			return m, nil
		}
		return nil, fmt.Errorf("dns: malformed answer: %w", err)
	}
	if !m.Response || m.Opcode != miekg.OpcodeQuery {
		return nil, errMismatch
	}
	if len(m.Question) == 0 && (m.Rcode == miekg.RcodeFormatError || m.Rcode == miekg.RcodeNotImplemented || m.Rcode == miekg.RcodeServerFailure || m.Rcode == miekg.RcodeRefused) {
		return m, nil // servers that did not get as far as the question
	}
	if len(m.Question) != 1 || m.Question[0].Qtype != q.Question[0].Qtype || m.Question[0].Qclass != q.Question[0].Qclass ||
		!strings.EqualFold(m.Question[0].Name, q.Question[0].Name) {
		return nil, errMismatch
	}
	return m, nil
}

// heard notes whether a server is alive.
func (r *Resolver) heard(ctx context.Context, s *server, err error) {
	s.mu.Lock()
	if !errors.Is(err, errSilent) {
		s.silent, s.quiet = 0, time.Time{}
		s.mu.Unlock()
		return
	}
	s.silent++
	probe := s.silent >= silentMost
	if probe {
		s.silent = 0
	}
	s.mu.Unlock()
	if !probe {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.Try)
	defer cancel()
	if _, err := r.exchange(ctx, s.addr, "udp", question(key{".", miekg.TypeNS}, true)); !errors.Is(err, errSilent) {
		return
	}
	r.metrics.dead.Inc()
	s.mu.Lock()
	s.quiet = r.now().Add(silentQuiet)
	s.mu.Unlock()
}
