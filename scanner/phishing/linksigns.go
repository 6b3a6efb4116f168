package phishing

import (
	"net/netip"
	"regexp"
	"strings"

	"mailward/scanner/content"
)

// rented is a name that hosters give to the servers of customers: the address is
// in it.
var rented = regexp.MustCompile(`(?:^|[^0-9])[0-9]{1,3}(?:[-.][0-9]{1,3}){3}[^0-9]`)

// linkSigns are those of what can be clicked.
func (m *mail) linkSigns() {
	all, opaque := 0, 0
	for _, t := range m.links {
		if t.Kind == content.LinkImage {
			continue
		}
		all++
		if t.opaque() {
			opaque++
		}
		m.linkSign(t)
		m.shownSign(t)
	}
	if opaque > 0 && opaque*2 >= all && !m.leave && !m.list {
		m.sign("LINK_OPAQUE", m.links[0].host)
	}
}

// linkSign looks at one link by itself.
func (m *mail) linkSign(t target) {
	if t.scheme == "javascript" || t.scheme == "data" || t.scheme == "vbscript" {
		if t.Kind == content.LinkAnchor || t.Kind == content.LinkMeta {
			if t.scheme != "javascript" || len(t.Target) > 40 {
				m.sign("LINK_SCRIPT", t.Target)
			}
		}
		return
	}
	if t.Kind == content.LinkCode {
		m.sign("LINK_CODE", t.host)
	}
	if t.user != "" && (strings.Contains(t.user, ".") || t.Kind != content.LinkText) {
		m.sign("LINK_USERINFO", t.Target)
	}
	if t.ip && !m.list {
		m.sign("LINK_IP", t.host)
		if _, err := netip.ParseAddr(t.host); err != nil {
			m.sign("LINK_HIDDEN_IP", t.host)
		}
	}
	h := m.about(t.host)
	if h.rented && !m.list && !h.senders {
		m.sign("LINK_RENTED", t.host)
	}
	if h.cheap && !m.list && !h.senders {
		m.sign("LINK_CHEAP", t.host)
	}
	if t.puny && !h.senders {
		m.sign("LINK_PUNYCODE", t.host)
	}
	if h.shortener && !m.list {
		m.sign("LINK_SHORTENED", t.host)
	}
	if h.freeHosting && !m.list && !h.served {
		m.sign("LINK_FREE_HOSTING", t.host)
	}
	if m.leave || m.list || h.tracker || h.senders {
		return
	}
	if to, ok := t.redirects(); ok && !same(to, m.domain) {
		m.sign("LINK_REDIRECT", t.host+" to "+to)
	}
}

// hostFacts is what is known of a host that links lead to.
type hostFacts struct {
	rented, cheap, shortener, freeHosting, tracker bool
	served                                         bool // it is the workspace's own
	senders                                        bool // it is the sender's
}

// about looks a host up. The links of a mail mostly lead to few hosts, so each is
// looked at once.
func (m *mail) about(host string) hostFacts {
	h, known := m.hosts[host]
	if !known {
		d := m.e.data
		h = hostFacts{rented: rented.MatchString(host), cheap: under(host, d.Cheap), shortener: under(host, d.Shorteners), freeHosting: under(host, d.FreeHosting), tracker: under(host, d.Trackers),
			served: under(host, m.served), senders: same(host, m.domain)}
		if m.hosts == nil {
			m.hosts = map[string]hostFacts{}
		}
		m.hosts[host] = h
	}
	return h
}

// shownSign holds a link's words against where it leads. Newsletters count
// clicks on a host of the sender or of who sends for it.
func (m *mail) shownSign(t target) {
	if t.Kind != content.LinkAnchor || m.list || t.ip && t.host == "" {
		return
	}
	shown, ok := shownHost(t.Text)
	if !ok || same(shown, t.host) {
		return
	}
	if h := m.about(t.host); h.tracker || h.served || m.domain != "" && h.senders {
		return
	}
	for i := range m.e.data.Brands {
		if b := &m.e.data.Brands[i]; b.own(shown) && b.own(t.host) {
			return
		}
	}
	m.sign("LINK_OTHER_DOMAIN", shown+" is "+t.host)
}
