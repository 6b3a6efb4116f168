package gateway

import (
	"net/netip"
	"strings"
	"testing"

	"mailward/gateway/hop"
)

func forwarding(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t, false)
	f.listen(func(c *Config) { c.XForwardFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	return f
}

// TestXFORWARD: what a trusted upstream says of its client holds for one mail, in
// our Received line as in all else that goes by the client.
func TestXFORWARD(t *testing.T) {
	t.Parallel()
	f := forwarding(t)
	c := f.dial()
	if r := c.say("EHLO postfix.ours.example"); !strings.Contains(r, xforwardOffer) {
		t.Fatalf("not offered: %q", r)
	}
	send := func(subject, want string) {
		t.Helper()
		f.wantReply(c.send("erika@sender.example", []string{"bob@ours.example"}, "Subject: "+subject+"\r\n\r\nx\r\n"), 250)
		all := f.hop.Messages()
		if got := string(all[len(all)-1].Data); !strings.Contains(got, "Received: from "+want+"\r\n") {
			t.Errorf("%s: not from %s:\n%s", subject, want, got)
		}
	}
	f.wantReply(c.say("XFORWARD NAME=client.example ADDR=203.0.113.7 PORT=4000"), 250)
	f.wantReply(c.say("XFORWARD PROTO=ESMTP HELO=he+20lo.example IDENT=4XYZ SOURCE=REMOTE"), 250)
	send("told", "helo.example ([203.0.113.7])")
	send("not told any more", "postfix.ours.example ([127.0.0.1])")
	f.wantReply(c.say("XFORWARD ADDR=IPV6:2001:db8::7 HELO=[UNAVAILABLE]"), 250)
	send("IPv6", "unknown ([IPv6:2001:db8::7])")
	f.wantReply(c.say("XFORWARD NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE] HELO=x.example"), 250)
	send("no address", "postfix.ours.example ([127.0.0.1])")
	f.wantReply(c.say("XFORWARD ADDR=203.0.113.7"), 250)
	f.wantReply(c.say("RSET"), 250)
	send("taken back", "postfix.ours.example ([127.0.0.1])")
	f.wantReply(c.say("MAIL FROM:<erika@sender.example>"), 250)
	f.wantReply(c.say("XFORWARD ADDR=203.0.113.7"), 503)
}

// TestXFORWARD_Strangers: nobody else can say who he is.
func TestXFORWARD_Strangers(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	f.listen(func(c *Config) { c.XForwardFrom = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")} })
	c := f.dial()
	if r := c.say("EHLO c.example"); strings.Contains(r, "XFORWARD") {
		t.Errorf("offered: %q", r)
	}
	f.wantReply(c.say("XFORWARD ADDR=203.0.113.7"), 550)
	f.wantReply(c.send("erika@sender.example", []string{"bob@ours.example"}, "Subject: x\r\n\r\nx\r\n"), 250)
	if got := string(f.wantHop(1)[0].Data); !strings.Contains(got, "([127.0.0.1])") {
		t.Error(got)
	}
}

// TestXFORWARD_Relay: that an upstream may send to anywhere makes its clients no
// people of ours, and a client of it that may is one.
func TestXFORWARD_Relay(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	f.listen(func(c *Config) {
		c.XForwardFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		c.OutboundFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	c := f.dial()
	f.wantReply(c.say("XFORWARD ADDR=203.0.113.7"), 250)
	f.wantReply(c.say("MAIL FROM:<erika@sender.example>"), 250)
	f.wantReply(c.say("RCPT TO:<x%foreign.example@ours.example>"), 550)
	f.wantReply(c.say("RCPT TO:<bob@ours.example>"), 250)
}

var xforwards = map[string]hop.Client{
	"XFORWARD NAME=a.example ADDR=192.0.2.1 PORT=25 PROTO=SMTP HELO=b IDENT=c SOURCE=LOCAL": {Name: "a.example", Addr: netip.MustParseAddr("192.0.2.1"), Port: 25, Proto: "SMTP", Helo: "b", Ident: "c", Source: "LOCAL"},
	"xforward name=a+2Bb source=remote":                                                     {Name: "a+b", Source: "REMOTE"},
	"XFORWARD ADDR=ipv6:2001:db8::1":                                                        {Addr: netip.MustParseAddr("2001:db8::1")},
	"XFORWARD ADDR=2001:db8::1":                                                             {Addr: netip.MustParseAddr("2001:db8::1")},
	"XFORWARD ADDR=::ffff:192.0.2.1":                                                        {Addr: netip.MustParseAddr("192.0.2.1")},
	"XFORWARD HELO=" + strings.Repeat("h", 300):                                             {Helo: strings.Repeat("h", hostLimit)},
	"XFORWARD HELO=j+C3+BCrgen+FF":                                                          {Helo: "jürgen"},
	"XFORWARD NAME=[TEMPUNAVAIL] PORT=[UNAVAILABLE]":                                        {},
	"XFORWARD ADDR=[UNAVAILABLE] IDENT=[UNAVAILABLE] ":                                      {},
}

func TestParseXFORWARD(t *testing.T) {
	t.Parallel()
	for line, want := range xforwards {
		if got, err := parseXFORWARD([]byte(line+"\r\n"), hop.Client{}); err != nil || got != want {
			t.Errorf("%s: %+v, %v", line, got, err)
		}
	}
	have := hop.Client{Name: "kept", Helo: "kept"}
	if got, err := parseXFORWARD([]byte("XFORWARD HELO=[UNAVAILABLE]"), have); err != nil || got.Name != "kept" || got.Helo != "" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"XFORWARD", "XFORWARD ", "XFORWARD ADDR", "XFORWARD ADDR=", "XFORWARD LOGIN=a", "XFORWARD ADDR=192.0.2.1 ADDR=192.0.2.2", "XFORWARD ADDR=[192.0.2.1]", "XFORWARD ADDR=192.0.2",
		"XFORWARD ADDR=fe80::1%25eth0", "XFORWARD ADDR=fe80::1%eth0", "XFORWARD ADDR=unix", "XFORWARD ADDR=IPV6:", "XFORWARD PORT=65536", "XFORWARD PORT=-1", "XFORWARD SOURCE=MARS", "XFORWARD PROTO=a/b", "XFORWARD PROTO=" + strings.Repeat("a", 65),
		"XFORWARD IDENT=" + strings.Repeat("a", 300), "XFORWARD HELO=a+0D+0A", "XFORWARD HELO=a+00", "XFORWARD HELO=a+2", "XFORWARD HELO=a+2b", "XFORWARD HELO=a=b", "XFORWARD NAME=ok ADDR=bad"} {
		if got, err := parseXFORWARD([]byte(bad), have); err == nil {
			t.Errorf("%s: %+v", bad, got)
		}
	}
}

// FuzzXFORWARD: what is read of a command can be said again, and is the same then.
func FuzzXFORWARD(f *testing.F) {
	for line := range xforwards {
		f.Add([]byte(line))
	}
	f.Add([]byte("XFORWARD HELO=a+0Db ADDR=fe80::1%1"))
	f.Fuzz(func(t *testing.T, line []byte) {
		c, err := parseXFORWARD(line, hop.Client{})
		if err != nil {
			return
		}
		if len(c.Name) > hostLimit || len(c.Helo) > hostLimit || strings.ContainsAny(c.Name+c.Helo+c.Ident+c.Proto+c.Source, "\r\n\x00") || c.Addr.Is4In6() || c.Addr.Zone() != "" {
			t.Fatalf("%q: %+v", line, c)
		}
		if strings.Contains(string(line), "UNAVAIL") {
			return // some spellings of it become it
		}
		c.Name, c.Helo, c.Ident = hop.Harmless(c.Name, hostLimit), hop.Harmless(c.Helo, hostLimit), hop.Harmless(c.Ident, hostLimit)
		var again hop.Client
		for _, said := range c.Commands(strings.Fields(xforwardOffer)) {
			if again, err = parseXFORWARD([]byte(said), again); err != nil || len(said) > commandLimit {
				t.Fatalf("%q became %q: %v", line, said, err)
			}
		}
		if again != c {
			t.Fatalf("%q: %+v became %+v", line, c, again)
		}
	})
}
