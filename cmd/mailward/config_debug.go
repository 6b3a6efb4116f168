package main

import (
	"net"
	"net/netip"
)

// Debug is the listener for whoever looks into a running process.
type Debug struct {
	Listen string `yaml:"listen"`
}

// validate holds the listener on the loopback: it asks for no password.
func (d *Debug) validate(p *problems) {
	if d.Listen == "" {
		return
	}
	host, _, err := net.SplitHostPort(d.Listen)
	p.check(err == nil && validAddress(d.Listen) && isLoopback(host), "debug.listen", "must be host:port on the loopback, is %q", d.Listen)
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
