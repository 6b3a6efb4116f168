package main

import (
	"maps"
	"net/netip"
	"slices"

	"mailward/policy"
)

// validateOutbound checks the way out. Clients that may use one need one, and a
// network of everybody would be an open relay.
func (r *Relay) validateOutbound(p *problems) {
	for _, cidr := range r.OutboundFrom {
		n, err := netip.ParsePrefix(cidr)
		p.check(err == nil, "relay.outbound_from", "must hold CIDRs such as 10.0.0.5/32, has %q", cidr)
		p.check(err != nil || n.Bits() > 0, "relay.outbound_from", "has %q: the whole world could send mail through here", cidr)
	}
	p.check(r.OutboundSenders == "own" || r.OutboundSenders == "any", "relay.outbound_senders", "must be own or any, is %q", r.OutboundSenders)
	if r.Outbound != "" && r.Outbound != "mx" {
		p.check(policy.CheckNextHop(r.Outbound, slices.Collect(maps.Keys(r.Routes))...) == nil, "relay.outbound", "must be mx, host:port, a list of those, or the name of one of relay.routes, is %q", r.Outbound)
	}
	p.check(len(r.OutboundFrom) == 0 || r.Outbound != "", "relay.outbound", "is needed, since relay.outbound_from lets clients send to anywhere: mx, or a smarthost")
}
