package limit

import (
	"context"
	"net/netip"
	"strings"
)

// Tried is a list, asked for its two test entries (RFC 5782 §5).
type Tried struct {
	Zone    string
	Listed  bool   // the address that every list names
	World   bool   // the address that none may name
	Code    string // with which it says that it is not available to us
	Meaning string // of that code
	Err     error
}

// Zones are the lists that are in use.
func (g *Guard) Zones() (zones []string) {
	for _, l := range g.dnsbl.status() {
		zones = append(zones, l.Zone)
	}
	return zones
}

// Try asks a list now, for Health.
func (g *Guard) Try(ctx context.Context, zone string) Tried {
	t := Tried{Zone: zone}
	g.dnsbl.mu.Lock()
	lists := g.dnsbl.lists
	g.dnsbl.mu.Unlock()
	for _, l := range lists {
		if l.Zone == zone {
			g.dnsbl.try(ctx, l, &t)
		}
	}
	return t
}

func (d *dnsbl) try(ctx context.Context, l *listState, t *Tried) {
	for _, test := range []struct {
		address netip.Addr
		named   *bool
	}{{alwaysListed, &t.Listed}, {neverListed, &t.World}} {
		addrs, err := d.lookup(ctx, l, test.address)
		if err != nil {
			t.Err = err
			return
		}
		for _, a := range addrs {
			if what := unavailable(l, a); what != "" {
				t.Code, t.Meaning = a.String(), what
				return
			}
			*test.named = *test.named || answers.Contains(a)
		}
	}
}

// unavailable says what a list means with an answer that says nothing about the
// client; "" for every other answer.
func unavailable(l *listState, a netip.Addr) string {
	switch {
	case a == netip.MustParseAddr("127.255.255.252"):
		return "the name of the list is misspelled"
	case a == netip.MustParseAddr("127.255.255.254"):
		if strings.HasSuffix(l.Zone, "spamhaus.org") {
			return "it is asked through a public resolver, which it does not answer: use a resolver of your own, or its query service with a key"
		}
		return "it is asked through a public resolver, which it does not answer: use a resolver of your own"
	case a == netip.MustParseAddr("127.255.255.255"):
		return "it is asked too often"
	case troubles.Contains(a):
		return "it is not available to us"
	case (a == refused1 || a == refused255) && !l.names(a):
		return "it refuses to answer us"
	case !answers.Contains(a):
		return "that is no answer of a list: a resolver or a registrar answers in its place"
	}
	return ""
}
