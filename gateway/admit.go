package gateway

import (
	"fmt"
	"net/netip"
	"slices"

	proxyproto "github.com/pires/go-proxyproto"

	"mailward/gateway/hop"
)

// greet decides whether a client gets a greeting, and when.
func (s *Server) greet(w *wire) error {
	if s.isClosing() {
		return errShuttingDown
	}
	if pc, ok := w.sock.Load().Conn.(*proxyproto.Conn); ok {
		// The header is read before anything is said, or there is no session.
		if _, err := pc.Read(nil); err != nil {
			s.log.Info("connection without the PROXY header that it owes", "error", err)
			return errNoGreeting
		}
	}
	if s.deps.Guard == nil || w.opt.lmtp {
		return nil
	}
	release, err := s.deps.Guard.Connect(s.base, w.client())
	if err != nil {
		s.log.Info("connection refused", "client", w.client(), "error", err)
		return err
	}
	w.onClose(release)
	return w.silent(s.deps.Guard.GreetPause(w.client()))
}

// badCommand counts a command that is no SMTP. An error ends the session: the
// n-th of it was one too many.
func (s *Server) badCommand(w *wire, n int) error {
	if s.deps.Guard == nil || w.opt.lmtp {
		if n > badCommandsMost {
			return errTooManyCommands
		}
		return nil
	}
	s.deps.Guard.BadCommand(s.base, w.client())
	if no := s.deps.Guard.BadCommands(w.client(), n); no != nil {
		return no
	}
	return nil
}

// badCommandsMost bounds a session that has no other limits.
const badCommandsMost = 100

// carries is what all routes can carry, as far as they are known: it is
// remembered from mails and from the health checks, which ask every next hop
// from the start on. What a route cannot carry is not offered, since a mail
// that needs it could not be passed on (DESIGN: extensions end at the weakest route).
func (s *Server) carries() hop.Features {
	all := hop.Features{SMTPUTF8: true, DSN: true}
	routes := s.deps.Policies.NextHops()
	for _, r := range routes {
		f, ok := s.deps.Hops.Features(r)
		all.SMTPUTF8 = all.SMTPUTF8 && ok && f.SMTPUTF8
		all.DSN = all.DSN && ok && f.DSN
	}
	if len(routes) == 0 {
		return hop.Features{}
	}
	return all
}

// largest is the size of the largest mail that can be passed on at all, as far
// as the routes are known. Where they differ it is the largest one's: what is too
// big for a recipient's own is refused at RCPT. Who may send to the world is told
// ours: its servers are not known beforehand.
func (s *Server) largest(client netip.Addr) int64 {
	routes := s.deps.Policies.NextHops()
	if len(routes) == 0 || s.relaysFor(client) {
		return s.cfg.MaxMessageSize
	}
	var most int64
	for _, r := range routes {
		f, ok := s.deps.Hops.Features(r)
		if !ok || f.Size == 0 {
			return s.cfg.MaxMessageSize
		}
		most = max(most, f.Size)
	}
	return min(most, s.cfg.MaxMessageSize)
}

// tooBig says whether a mail of a size, 0 where none is declared, is larger than
// what the client was offered.
func (s *Server) tooBig(client netip.Addr, size int64) bool {
	routes := s.deps.Policies.NextHops()
	if size > s.cfg.MaxMessageSize || size == 0 || len(routes) == 0 || s.relaysFor(client) {
		return size > s.cfg.MaxMessageSize
	}
	return !slices.ContainsFunc(routes, func(r string) bool { return !s.tooBigFor(r, size) }) // mostly the first one takes it
}

// tooBigFor says whether a route is known not to take a mail of a size.
func (s *Server) tooBigFor(route string, size int64) bool {
	if size == 0 {
		return false
	}
	f, ok := s.deps.Hops.Features(route)
	return ok && f.Size > 0 && size > f.Size
}

// tooManyFor says whether a route is known to take no more recipients than a mail has.
func (s *Server) tooManyFor(route string, have int) bool {
	f, ok := s.deps.Hops.Features(route)
	return ok && f.Recipients > 0 && have >= f.Recipients
}

// features are what EHLO offers now.
func (s *Server) features(c *wire) []string {
	list := []string{"PIPELINING", fmt.Sprintf("SIZE %d", s.largest(c.client())), "8BITMIME", "ENHANCEDSTATUSCODES", "CHUNKING"}
	can := s.carries()
	c.offered = can
	if can.SMTPUTF8 {
		list = append(list, "SMTPUTF8")
	}
	if can.DSN {
		list = append(list, "DSN")
	}
	if s.mayForward(c.client()) {
		list = append(list, xforwardOffer)
	}
	return append(list, fmt.Sprintf("LIMITS RCPTMAX=%d", s.cfg.MaxRecipients))
}
