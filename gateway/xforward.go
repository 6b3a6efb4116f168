package gateway

import (
	"bytes"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/google/uuid"

	"mailward/gateway/hop"
	"mailward/internal/message"
)

// xforwardOffer is what EHLO says to upstreams whose XFORWARD is believed
// (Postfix, XFORWARD_README), with the attributes that are taken.
const xforwardOffer = "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"

// mayForward says whether an upstream's word on its client is believed.
func (s *Server) mayForward(client netip.Addr) bool {
	return client.IsValid() && slices.ContainsFunc(s.cfg.XForwardFrom, func(p netip.Prefix) bool { return p.Contains(client) })
}

// xforward takes what an upstream says of its client. It holds for one mail, and
// may come in several commands.
func (c *wire) xforward(line []byte) error {
	if c.opt.forwards == nil || !c.opt.forwards(c.client()) {
		return c.refuse(errXForward)
	}
	err := errXForwardMail
	if c.inMail == nil || !c.inMail() {
		var have hop.Client
		if c.told != nil {
			have = *c.told
		}
		if have, err = parseXFORWARD(line, have); err == nil {
			c.told = &have
			c.say("250 2.0.0 Ok\r\n")
			return nil
		}
	}
	c.say(replyFor(err).line()) // no bad command: its words may be those of a client of the upstream
	return nil
}

// hostLimit is the longest name of a host that is kept. Longer ones are cut: the
// client of the upstream can say anything.
const hostLimit = 255

// parseXFORWARD reads one command, and adds what it says to what is known. A command
// with a mistake in it says nothing.
func parseXFORWARD(line []byte, have hop.Client) (hop.Client, error) {
	words := bytes.Fields(line)
	if len(words) < 2 {
		return have, errXForwardSyntax
	}
	var seen []string
	for _, w := range words[1:] {
		name, value, _ := strings.Cut(string(w), "=")
		name = strings.ToUpper(name)
		if slices.Contains(seen, name) {
			return have, errTwice
		}
		seen = append(seen, name)
		v, ok := message.FromXtext(value)
		if !ok || v == "" || strings.ContainsFunc(v, unicode.IsControl) {
			return have, errXForwardSyntax
		}
		if v == "[UNAVAILABLE]" || v == "[TEMPUNAVAIL]" {
			v = ""
		}
		if !setAttribute(&have, name, v) {
			return have, errXForwardSyntax
		}
	}
	return have, nil
}

// setAttribute says whether there is such an attribute, and such a value of it;
// "" is none.
func setAttribute(c *hop.Client, name, v string) (ok bool) {
	switch name {
	case "NAME":
		c.Name = cutHost(v)
		return true
	case "HELO":
		c.Helo = cutHost(v)
		return true
	case "IDENT":
		c.Ident = v
		return len(v) <= hostLimit && message.IsASCII(v)
	case "PROTO":
		c.Proto = v
		return len(v) <= 64 && strings.Trim(v, letters) == ""
	case "SOURCE":
		c.Source = strings.ToUpper(v)
		return c.Source == "" || c.Source == "LOCAL" || c.Source == "REMOTE"
	case "PORT":
		c.Port = 0
		if v == "" {
			return true
		}
		n, err := strconv.ParseUint(v, 10, 16)
		c.Port = uint16(n)
		return err == nil
	case "ADDR":
		c.Addr = netip.Addr{}
		if v == "" {
			return true
		}
		if prefix := "IPV6:"; len(v) > len(prefix) && strings.EqualFold(v[:len(prefix)], prefix) {
			v = v[len(prefix):]
		}
		a, err := netip.ParseAddr(v)
		c.Addr = a.Unmap()
		return err == nil && a.Zone() == ""
	}
	return false
}

func cutHost(v string) string { return strings.ToValidUTF8(v[:min(len(v), hostLimit)], "") }

// forwarded is what the upstream has told of the client, or nil where it has told
// no address: then it stands for itself.
func (ss *session) forwarded() *hop.Client {
	if t := ss.wire.told; t != nil && t.Addr.IsValid() {
		return t
	}
	return nil
}

// helo is what the client called itself.
func (ss *session) helo() string {
	if t := ss.forwarded(); t != nil {
		return t.Helo
	}
	return ss.conn.Hostname()
}

// mayRelay says whether the client may send to anywhere. An upstream that may has
// decided so of its own clients.
func (ss *session) mayRelay() bool { return ss.s.relaysFor(ss.clientIP) || ss.s.relaysFor(ss.peer) }

// client is who sends a mail, as a next hop may hear of it.
func (ss *session) client(id uuid.UUID) *hop.Client {
	c := hop.Client{Addr: ss.clientIP, Helo: ss.helo(), Proto: "ESMTP", Source: "REMOTE"}
	if !ss.wire.extended.Load() {
		c.Proto = "SMTP"
	}
	if t := ss.forwarded(); t != nil {
		c = *t
	} else if ap, err := netip.ParseAddrPort(ss.wire.RemoteAddr().String()); err == nil {
		c.Port = ap.Port()
	}
	c.Ident = id.String()
	return &c
}
