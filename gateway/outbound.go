package gateway

import (
	"net/netip"
	"slices"
	"strings"

	"mailward/mailauth"
	"mailward/policy"
	"mailward/scanner"
)

// relaysFor says whether a client may send to anywhere. Nobody may that was not
// named.
func (s *Server) relaysFor(client netip.Addr) bool {
	return client.IsValid() && slices.ContainsFunc(s.cfg.OutboundFrom, func(p netip.Prefix) bool { return p.Contains(client) })
}

// recipientFor finds out whether the client may send to an address, and where it
// goes. Mail for our domains comes in, whoever sends it; mail for others goes
// out, and only from the clients that may relay, in the name of our own domains.
func (ss *session) recipientFor(to string) (policy.Recipient, error) {
	s := ss.s
	if !s.relaysFor(ss.clientIP) && routed(to) {
		s.metrics.relayDenied.Inc()
		return policy.Recipient{}, errRelayDenied
	}
	if r, err := s.route(to); err != errRelayDenied || !ss.mayRelay() {
		return r, err
	}
	if _, own := s.deps.Policies.Lookup(ss.from); !own && ss.from != "" && !s.cfg.AnySender {
		return policy.Recipient{}, errForeignSender
	}
	r, ok := s.deps.Policies.Outbound(ss.from, to)
	if !ok {
		return r, errRelayDenied
	}
	return r, nil
}

// routed says whether the local part of an address names another host, as in
// user%host@ours, "user@host"@ours or host!user@ours (RFC 5321 §4.4.1, appendix F.2).
// A next hop that trusts us could follow it: that would be an open relay in two
// steps.
func routed(address string) bool {
	i := strings.LastIndexByte(address, '@')
	return i >= 0 && strings.ContainsAny(address[:i], "%!@:")
}

// sameWay says whether two recipients can have one transaction: the reply to
// DATA comes from one next hop, and what goes out looks unlike what comes in.
func sameWay(a, b policy.Recipient) bool {
	return a.Domain.NextHop == b.Domain.NextHop && a.Domain.Workspace == b.Domain.Workspace && a.Direction == b.Direction
}

// sender is what the judges hear of a check of the sender.
func sender(r mailauth.Result) scanner.Sender {
	s := scanner.Sender{SPF: r.SPF.Result, DMARC: r.DMARC.Result, Domain: r.From}
	for _, k := range r.DKIM {
		if s.DKIM = k.Result; k.Result == mailauth.Pass {
			break
		}
	}
	return s
}
