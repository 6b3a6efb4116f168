package main

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mailward/gateway/limit"
	"mailward/policy"
)

// Limits are what a client and a sender may do.
type Limits struct {
	Enabled         bool          `yaml:"enabled"`
	Trusted         []string      `yaml:"trusted"`
	Connections     int           `yaml:"connections"`
	PerMinute       ClientRates   `yaml:"per_minute"`
	SenderPerMinute SenderRates   `yaml:"sender_per_minute"`
	Outbound        SenderRates   `yaml:"outbound_per_minute"`
	OutboundSender  SenderRates   `yaml:"outbound_sender_per_minute"`
	BadCommands     int           `yaml:"bad_commands"`
	GreetPause      time.Duration `yaml:"greet_pause"`
	DNSBL           []DNSBL       `yaml:"dnsbl"`
	DNSBLThreshold  int           `yaml:"dnsbl_threshold"`
}

// ClientRates are what one client may do in a minute.
type ClientRates struct {
	Connections int  `yaml:"connections"`
	Mails       int  `yaml:"mails"`
	Recipients  int  `yaml:"recipients"`
	Bytes       Size `yaml:"bytes"`
}

// SenderRates are what one envelope sender may do in a minute.
type SenderRates struct {
	Mails      int  `yaml:"mails"`
	Recipients int  `yaml:"recipients"`
	Bytes      Size `yaml:"bytes"`
}

func ratesOf(r limit.Rates) SenderRates {
	return SenderRates{Mails: r.Mails, Recipients: r.Recipients, Bytes: Size(r.Bytes)}
}

func (r SenderRates) limit() limit.Rates {
	return limit.Rates{Mails: r.Mails, Recipients: r.Recipients, Bytes: int64(r.Bytes)}
}

// DNSBL is a list that clients are looked up in.
type DNSBL struct {
	Zone   string      `yaml:"zone"`
	Weight int         `yaml:"weight"`
	Codes  []DNSBLCode `yaml:"codes"`
	Key    string      `yaml:"key"` // a reference; the key itself is read at each lookup
}

// DNSBLCode is a range of answers of a list.
type DNSBLCode struct {
	Low    netip.Addr `yaml:"low"`
	High   netip.Addr `yaml:"high"`
	Weight int        `yaml:"weight"`
}

// Greylisting delays mail of unknown senders.
type Greylisting struct {
	Enabled bool          `yaml:"enabled"`
	Delay   time.Duration `yaml:"delay"`
	Keep    time.Duration `yaml:"keep"`
	Window  time.Duration `yaml:"window"`
}

func defaultLimits() (Limits, Greylisting) {
	d := limit.DefaultConfig()
	return Limits{Enabled: d.Enabled, Trusted: []string{"127.0.0.0/8", "::1/128"}, Connections: d.Connections,
			PerMinute:       ClientRates{Connections: d.PerMinute.Connections, Mails: d.PerMinute.Mails, Recipients: d.PerMinute.Recipients, Bytes: Size(d.PerMinute.Bytes)},
			SenderPerMinute: SenderRates{Mails: d.SenderPerMinute.Mails, Recipients: d.SenderPerMinute.Recipients, Bytes: Size(d.SenderPerMinute.Bytes)},
			Outbound:        ratesOf(d.RelayPerMinute), OutboundSender: ratesOf(d.RelaySenderPerMinute),
			BadCommands: d.BadCommands, GreetPause: d.GreetPause, DNSBLThreshold: d.DNSBLThreshold},
		Greylisting{Delay: d.Greylist.Delay, Keep: d.Greylist.Keep, Window: d.Greylist.Window}
}

func (c *Config) validateLimits(p *problems) {
	for _, cidr := range c.Limits.Trusted {
		if _, err := netip.ParsePrefix(cidr); err != nil {
			p.add("limits.trusted", "must hold CIDRs such as 10.0.0.5/32, has %q", cidr)
			return
		}
	}
	for _, l := range c.Limits.DNSBL {
		if l.Key != "" && !strings.HasPrefix(l.Key, "file:") && !strings.HasPrefix(l.Key, "env:") {
			p.add("limits.dnsbl", "the key of %s must be a reference: file:/path or env:NAME", l.Zone)
		}
	}
	if err := c.limitConfig(nil).Validate(); err != nil {
		p.list = append(p.list, err)
	}
}

// limitConfig is the settings as package limit knows them. getenv resolves the
// keys of lists.
func (c *Config) limitConfig(getenv func(string) (string, bool)) limit.Config {
	l, g := c.Limits, c.Greylisting
	cfg := limit.Config{Enabled: l.Enabled, Trusted: append(prefixes(l.Trusted), prefixes(c.Relay.OutboundFrom)...), Connections: l.Connections, BadCommands: l.BadCommands, GreetPause: l.GreetPause, DNSBLThreshold: l.DNSBLThreshold,
		PerMinute:       limit.Rates{Connections: l.PerMinute.Connections, Mails: l.PerMinute.Mails, Recipients: l.PerMinute.Recipients, Bytes: int64(l.PerMinute.Bytes)},
		SenderPerMinute: limit.Rates{Mails: l.SenderPerMinute.Mails, Recipients: l.SenderPerMinute.Recipients, Bytes: int64(l.SenderPerMinute.Bytes)},
		Relays:          prefixes(c.Relay.OutboundFrom), RelayPerMinute: l.Outbound.limit(), RelaySenderPerMinute: l.OutboundSender.limit(),
		Greylist: limit.Greylist{Enabled: g.Enabled, Delay: g.Delay, Keep: g.Keep, Window: g.Window}}
	for _, b := range l.DNSBL {
		one := limit.List{Zone: b.Zone, Weight: b.Weight}
		for _, code := range b.Codes {
			one.Codes = append(one.Codes, limit.Code{Low: code.Low, High: code.High, Weight: code.Weight})
		}
		if key := (Secret{reference: b.Key}); b.Key != "" {
			one.Key = func() (string, error) {
				err := key.resolve(getenv)
				return key.value, err
			}
		}
		cfg.DNSBL = append(cfg.DNSBL, one)
	}
	return cfg
}

// validateRecipients checks how recipients are looked for.
func (r *Relay) validateRecipients(p *problems) {
	p.check(r.RecipientCheck == "next_hop" || r.RecipientCheck == "none", "relay.recipient_check", "must be next_hop or none, is %q", r.RecipientCheck)
	for _, name := range slices.Sorted(maps.Keys(r.Recipients)) {
		clean, err := policy.NormaliseDomain(name)
		p.check(err == nil && clean == name, "relay.recipients", "has %q, which is no domain in small letters", name)
		path := r.Recipients[name]
		if !filepath.IsAbs(path) {
			p.add("relay.recipients."+name, "must be an absolute path, is %q", path)
		} else if _, err := os.Stat(path); err != nil {
			p.add("relay.recipients."+name, "cannot be read: %v", err)
		}
	}
}

// validateListeners checks where mail comes in, and how much of it.
func (s *SMTP) validateListeners(p *problems) {
	for _, a := range s.LMTPListen {
		path, unix := strings.CutPrefix(a, "unix:")
		p.check(unix && filepath.IsAbs(path) && len(path) <= 90 || !unix && validAddress(a), "smtp.lmtp_listen", "must be host:port or unix:/path of at most 90 bytes, is %q", a)
	}
	p.check(s.MaxRecipients >= 100 && s.MaxRecipients <= 10_000, "smtp.max_recipients", "must be between 100 (RFC 5321) and 10000, is %s", fmt.Sprint(s.MaxRecipients))
	p.check(s.MaxConnections >= 1 && s.MaxConnections <= 50_000, "smtp.max_connections", "must be between 1 and 50000, is %s", fmt.Sprint(s.MaxConnections))
}
