package hop

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"mailward/internal/message"
)

// Client is who gave us a mail, as XFORWARD tells of it (Postfix, XFORWARD_README).
// What is empty is not known.
type Client struct {
	Name   string // of the host, by DNS
	Addr   netip.Addr
	Port   uint16
	Proto  string // SMTP, ESMTP
	Helo   string
	Ident  string // of the mail, at whom it comes from
	Source string // LOCAL or REMOTE
}

// groups are the attributes that one command has: all in one could be longer than
// 512 octets.
var groups = [][]string{{"NAME", "ADDR", "PORT"}, {"PROTO", "HELO", "IDENT", "SOURCE"}}

// Commands are what tells a hop of the client, by the attributes that it takes.
func (c *Client) Commands(offered []string) (list []string) {
	for _, group := range groups {
		line := ""
		for _, name := range group {
			if slices.Contains(offered, name) {
				line += " " + name + "=" + c.attribute(name)
			}
		}
		if line != "" {
			list = append(list, "XFORWARD"+line)
		}
	}
	return list
}

func (c *Client) attribute(name string) string {
	v := map[string]string{"NAME": c.Name, "PROTO": c.Proto, "HELO": c.Helo, "IDENT": c.Ident, "SOURCE": c.Source}[name]
	switch {
	case name == "PORT" && c.Port > 0:
		v = strconv.Itoa(int(c.Port))
	case name == "ADDR" && c.Addr.IsValid():
		if v = c.Addr.WithZone("").String(); c.Addr.Is6() {
			v = "IPV6:" + v
		}
	}
	if v = Harmless(v, 255); v == "" {
		v = "[UNAVAILABLE]"
	}
	return message.Xtext(v)
}

// introduce tells the hop of the mail's client, where the route asks for it. What
// the hop does not take of that is no reason to keep the mail.
func (c *conn) introduce(ctx context.Context, t *Transfer) error {
	if !c.xforward || t.Client == nil {
		return nil
	}
	for _, line := range t.Client.Commands(strings.Fields(strings.ToUpper(c.features["XFORWARD"]))) {
		c.command(line)
		_, err := c.expect(ctx, 250)
		var no *Reply
		if err != nil && (!errors.As(err, &no) || no.Code == 421) {
			return err
		}
	}
	return nil
}
