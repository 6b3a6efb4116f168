package main

import (
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"mailward/internal/dns"
)

// DNS is the resolver.
type DNS struct {
	Server  string `yaml:"server"`
	Cache   bool   `yaml:"cache"`
	TrustAD bool   `yaml:"trust_ad"`
}

// servers is the addresses in dns.server.
func (d *DNS) servers() []string {
	var out []string
	for s := range strings.SplitSeq(d.Server, ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

func (d *DNS) validate(p *problems) {
	p.check(len(d.servers()) <= 3, "dns.server", "may name three resolvers, is %q", d.Server)
	for _, s := range d.servers() {
		p.check(validAddress(s), "dns.server", "must be host:port, is %q", s)
	}
}

// resolver is what everything is looked up with.
func (d *DNS) resolver(reg prometheus.Registerer) (*dns.Resolver, error) {
	r, err := dns.New(dns.Config{Servers: d.servers(), TrustAD: d.TrustAD, NoCache: !d.Cache}, reg)
	if err != nil {
		return nil, fmt.Errorf("dns: %w", err)
	}
	return r, nil
}
