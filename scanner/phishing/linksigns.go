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
	d := m.e.data
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
	if rented.MatchString(t.host) && !m.list && !same(t.host, m.domain) {
		m.sign("LINK_RENTED", t.host)
	}
	if under(t.host, d.Cheap) && !m.list && !same(t.host, m.domain) {
		m.sign("LINK_CHEAP", t.host)
	}
	if t.puny && !same(t.host, m.domain) {
		m.sign("LINK_PUNYCODE", t.host)
	}
	if under(t.host, d.Shorteners) && !m.list {
		m.sign("LINK_SHORTENED", t.host)
	}
	if under(t.host, d.FreeHosting) && !m.list && !under(t.host, m.served) {
		m.sign("LINK_FREE_HOSTING", t.host)
	}
	if to, ok := t.redirects(); ok && !m.leave && !m.list && !under(t.host, d.Trackers) && !same(t.host, m.domain) && !same(to, m.domain) {
		m.sign("LINK_REDIRECT", t.host+" to "+to)
	}
}

// shownSign holds a link's words against where it leads. Newsletters count
// clicks on a host of the sender or of who sends for it.
func (m *mail) shownSign(t target) {
	if t.Kind != content.LinkAnchor || m.list || t.ip && t.host == "" {
		return
	}
	shown, ok := shownHost(t.Text)
	if !ok || same(shown, t.host) || under(t.host, m.e.data.Trackers) || under(t.host, m.served) || m.domain != "" && same(t.host, m.domain) {
		return
	}
	for i := range m.e.data.Brands {
		if b := &m.e.data.Brands[i]; b.own(shown) && b.own(t.host) {
			return
		}
	}
	m.sign("LINK_OTHER_DOMAIN", shown+" is "+t.host)
}
