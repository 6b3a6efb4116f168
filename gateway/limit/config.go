package limit

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Config holds the settings that an operator can change.
type Config struct {
	// Enabled switches limits, greet pause and DNSBL. Greylisting has a switch
	// of its own. Behind another MTA, which is then the only client, this
	// should be off. Default: true.
	Enabled bool

	// Trusted clients have no limits, no greet pause, no DNSBL and no
	// greylisting. Default: none.
	Trusted []netip.Prefix

	// Connections is how many connections one client (an IPv4 address or an
	// IPv6 /64) may have at a time, over all processes. 0 is no limit.
	// Default: 100.
	Connections int

	// PerMinute is what one client may do in a minute. Default: 1200
	// connections, 1200 mails, 6000 recipients, 4 GiB.
	PerMinute Rates

	// SenderPerMinute is what one envelope sender may do in a minute; the null
	// sender counts per client. Connections has no meaning here. Default: 600
	// mails, 6000 recipients.
	SenderPerMinute Rates

	// Relays are clients that may send to anywhere. They are trusted, but what they
	// send is counted, apart from that of others: one mailbox that was taken over
	// is enough to have the whole server on every block list. Default: none.
	Relays []netip.Prefix

	// RelayPerMinute is what one of the Relays may send in a minute. Default: no
	// limit. Connections has no meaning here.
	RelayPerMinute Rates

	// RelaySenderPerMinute is what one envelope sender may send through the Relays
	// in a minute. Default: 300 mails, 3000 recipients.
	RelaySenderPerMinute Rates

	// BadCommands is how many bad commands end a session. 0 is no limit.
	// Default: 10.
	BadCommands int

	// GreetPause is how long a new client waits for the greeting. Who talks
	// before it is no mail server (RFC 5321 §3.1). Default: 250ms.
	GreetPause time.Duration

	// DNSBL are the lists to ask. Default: none, because the well-known ones
	// refuse questions that come through public resolvers, and some want a key
	// or a contract: the operator has to choose.
	DNSBL []List

	// DNSBLThreshold is the sum of weights at which a client is refused.
	// Default: 1.
	DNSBLThreshold int

	// Greylist delays mail of unknown senders (RFC 6647). Default: off.
	Greylist Greylist

	// Secret keys the hashes. Empty: a random value that all processes share
	// through Redis. With a Secret, who reads Redis cannot find out addresses
	// by trying them all.
	Secret []byte
}

// Rates are limits a minute; 0 is no limit.
type Rates struct {
	Connections, Mails, Recipients int
	Bytes                          int64
}

// List is one DNSBL (RFC 5782).
type List struct {
	// Zone is the list's name, such as zen.spamhaus.org.
	Zone string

	// Weight is what a hit adds; below 0 for a list of good clients.
	Weight int

	// Codes says which answers mean something, and how much. Empty: for
	// Spamhaus 127.0.0.2 to 127.0.0.11, for others each of 127.0.0.0/8 that is
	// not known as an error; all with Weight.
	Codes []Code

	// Key gives the customer's key, which then stands before the zone's name
	// (Spamhaus DQS). It is asked for at each lookup, so it may change. nil: none.
	Key func() (string, error)
}

// Code is a range of answers of a list.
type Code struct {
	Low, High netip.Addr // High may be left out
	Weight    int        // 0: the list's
}

// Greylist are the times of greylisting (RFC 6647 §5).
type Greylist struct {
	Enabled bool
	// Delay is how long the first attempt is refused. Default: 5m.
	Delay time.Duration
	// Keep is how long a sender who came back stays known. Default: 35 days, so
	// that a monthly newsletter stays known.
	Keep time.Duration
	// Window is how long we wait for a sender to come back. Default: 48h.
	Window time.Duration
}

// DefaultConfig returns the settings used where the config file is silent.
func DefaultConfig() Config {
	return Config{
		Enabled:              true,
		Connections:          100,
		PerMinute:            Rates{Connections: 1200, Mails: 1200, Recipients: 6000, Bytes: 4 << 30},
		SenderPerMinute:      Rates{Mails: 600, Recipients: 6000},
		RelaySenderPerMinute: Rates{Mails: 300, Recipients: 3000},
		BadCommands:          10,
		GreetPause:           250 * time.Millisecond,
		DNSBLThreshold:       1,
		Greylist:             Greylist{Delay: 5 * time.Minute, Keep: 35 * 24 * time.Hour, Window: 48 * time.Hour},
	}
}

// Bounds of the settings.
const (
	maxGreetPause = 30 * time.Second // a client waits 5 minutes (RFC 5321 §4.5.3.2.1), an admin's test less
	maxLists      = 16
	maxZone       = 150 // leaves room for an IPv6 address (64) and a key (32) in 253
)

// Validate reports every setting that cannot work, not only the first.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for name, n := range map[string]int64{
		"connections": int64(c.Connections), "bad_commands": int64(c.BadCommands),
		"per_minute.connections": int64(c.PerMinute.Connections), "per_minute.mails": int64(c.PerMinute.Mails),
		"per_minute.recipients": int64(c.PerMinute.Recipients), "per_minute.bytes": c.PerMinute.Bytes,
		"sender_per_minute.mails": int64(c.SenderPerMinute.Mails), "sender_per_minute.recipients": int64(c.SenderPerMinute.Recipients),
		"sender_per_minute.bytes":   c.SenderPerMinute.Bytes,
		"outbound_per_minute.mails": int64(c.RelayPerMinute.Mails), "outbound_per_minute.recipients": int64(c.RelayPerMinute.Recipients), "outbound_per_minute.bytes": c.RelayPerMinute.Bytes,
		"outbound_sender_per_minute.mails": int64(c.RelaySenderPerMinute.Mails), "outbound_sender_per_minute.recipients": int64(c.RelaySenderPerMinute.Recipients),
		"outbound_sender_per_minute.bytes": c.RelaySenderPerMinute.Bytes,
	} {
		if n < 0 {
			bad("limits.%s must not be negative, is %d", name, n)
		}
	}
	if c.SenderPerMinute.Connections != 0 {
		bad("limits.sender_per_minute.connections has no meaning: a sender has no connections")
	}
	if c.GreetPause < 0 || c.GreetPause > maxGreetPause {
		bad("limits.greet_pause must be between 0 and %v, is %v", maxGreetPause, c.GreetPause)
	}
	for _, p := range c.Trusted {
		if !p.IsValid() {
			bad("limits.trusted holds a network that is none")
		}
	}
	if len(c.DNSBL) > maxLists {
		bad("limits.dnsbl: at most %d lists, are %d", maxLists, len(c.DNSBL))
	}
	if len(c.DNSBL) > 0 && c.DNSBLThreshold < 1 {
		bad("limits.dnsbl_threshold must be at least 1, is %d", c.DNSBLThreshold)
	}
	for _, l := range c.DNSBL {
		errs = append(errs, l.validate())
	}
	if g := c.Greylist; g.Enabled {
		if g.Delay <= 0 || g.Window <= g.Delay || g.Keep <= 0 {
			bad("greylisting: delay (%v) and keep (%v) must be positive and window (%v) longer than delay", g.Delay, g.Keep, g.Window)
		}
	}
	return errors.Join(errs...)
}

func (l List) validate() error {
	if _, ok := dns.IsDomainName(l.Zone); !ok || len(l.Zone) > maxZone || strings.Trim(l.Zone, ".") == "" || !harmless(l.Zone) {
		return fmt.Errorf("limits.dnsbl: %q is no zone", l.Zone)
	}
	if l.Weight == 0 && len(l.Codes) == 0 {
		return fmt.Errorf("limits.dnsbl: %s has no weight", l.Zone)
	}
	for _, c := range l.Codes {
		if !answers.Contains(c.Low) || (c.High.IsValid() && (!answers.Contains(c.High) || c.High.Less(c.Low))) {
			return fmt.Errorf("limits.dnsbl: %s: a code must be in 127.0.0.0/8, from low to high", l.Zone)
		}
	}
	return nil
}

// trusts says whether there are no limits for a client.
func (c *Config) trusts(client netip.Addr) bool {
	for _, p := range c.Trusted {
		if p.Contains(client) {
			return true
		}
	}
	return false
}

// rates are what a client and a sender may do; scope keeps the counts of relays
// apart from those of others. ok is false where nothing is counted.
type rates struct {
	scope          string
	client, sender Rates
}

func (g *Guard) rates(cfg *Config, client netip.Addr) (r rates, ok bool) {
	if !cfg.Enabled || !client.IsValid() {
		return r, false
	}
	for _, p := range cfg.Relays {
		if p.Contains(client) {
			return rates{"relay-", cfg.RelayPerMinute, cfg.RelaySenderPerMinute}, true
		}
	}
	return rates{"", cfg.PerMinute, cfg.SenderPerMinute}, !cfg.trusts(client)
}
