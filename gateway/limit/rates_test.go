package limit

import (
	"context"
	crand "crypto/rand"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestRates(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	tests := []struct {
		name string
		set  func(*Config)
		act  func(g *Guard, who netip.Addr) error
		want string
	}{
		{"connections", func(c *Config) { c.PerMinute.Connections = 3 }, func(g *Guard, who netip.Addr) error {
			release, err := g.Connect(ctx, who)
			release()
			return err
		}, KindConnectionRate},
		{"mails", func(c *Config) { c.PerMinute.Mails = 3 }, func(g *Guard, who netip.Addr) error {
			return g.Mail(ctx, who, crand.Text()+"@a.example", 0)
		}, KindMailRate},
		{"recipients", func(c *Config) { c.PerMinute.Recipients = 3 }, func(g *Guard, who netip.Addr) error {
			return g.Rcpt(ctx, who, crand.Text()+"@a.example", "postmaster@ours.example")
		}, KindRecipientRate},
		{"bytes", func(c *Config) { c.PerMinute.Bytes = 3000 }, func(g *Guard, who netip.Addr) error {
			from := crand.Text() + "@a.example"
			err := g.Mail(ctx, who, from, 1000)
			if err == nil {
				g.Sent(ctx, who, from, 1000)
			}
			return err
		}, KindByteRate},
		{"a sender through a relay", func(c *Config) {
			c.Trusted, c.Relays, c.RelaySenderPerMinute.Mails = everybody(), everybody(), 3
			c.SenderPerMinute.Mails, c.PerMinute.Mails = 1, 1 // those of others mean nothing here
		}, func(g *Guard, who netip.Addr) error {
			return g.Mail(ctx, someone(), mailbox(who), 0)
		}, KindSenderRate},
		{"recipients of a relay", func(c *Config) {
			c.Trusted, c.Relays, c.RelayPerMinute.Recipients = everybody(), everybody(), 3
		}, func(g *Guard, who netip.Addr) error {
			return g.Rcpt(ctx, who, crand.Text()+"@ours.example", "x@world.example")
		}, KindRecipientRate},
		{"bytes of a sender through a relay", func(c *Config) {
			c.Trusted, c.Relays, c.RelaySenderPerMinute.Bytes = everybody(), everybody(), 3000
		}, func(g *Guard, who netip.Addr) error {
			err := g.Mail(ctx, who, mailbox(who), 1000)
			if err == nil {
				g.Sent(ctx, someone(), mailbox(who), 1000)
			}
			return err
		}, KindSenderRate},
		{"null sender of one client", func(c *Config) { c.SenderPerMinute.Mails = 3 }, func(g *Guard, who netip.Addr) error {
			if err := g.Mail(ctx, someone(), "", 0); err != nil {
				return errors.New("another client's null sender is refused")
			}
			return g.Mail(ctx, who, "", 0)
		}, KindSenderRate},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stores(t, func(t *testing.T, rdb *redis.Client) {
				c, cfg, who := newClock(), off(), someone()
				tt.set(&cfg)
				g := guard(t, cfg, rdb, c)
				for i := range 3 {
					if err := tt.act(g, who); err != nil {
						t.Fatalf("event %d: %v", i+1, err)
					}
				}
				for range 10 { // what is refused does not count
					if k := kindOf(tt.act(g, who)); k != tt.want {
						t.Fatalf("event over the limit: %q, want %q", k, tt.want)
					}
				}
				if err := tt.act(g, someone()); err != nil {
					t.Fatalf("another client: %v", err)
				}
				c.add(2 * window)
				if err := tt.act(g, who); err != nil {
					t.Fatalf("two minutes later: %v", err)
				}
			})
		})
	}
}

func TestRates_OfASenderOverAllClients(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, rdb *redis.Client) {
		cfg, ctx, from := off(), context.Background(), crand.Text()+"@a.example"
		cfg.SenderPerMinute = Rates{Mails: 2, Recipients: 2, Bytes: 5000}
		g := guard(t, cfg, rdb, newClock())
		for _, s := range []string{from, strings.ToUpper(from)} {
			if err := g.Mail(ctx, someone(), s, 0); err != nil {
				t.Fatal(err)
			}
			if err := g.Rcpt(ctx, someone(), s, "abuse@ours.example"); err != nil {
				t.Fatal(err)
			}
		}
		if k := kindOf(g.Mail(ctx, someone(), from, 0)); k != KindSenderRate {
			t.Errorf("third mail: %q", k)
		}
		if k := kindOf(g.Rcpt(ctx, someone(), from, "abuse@ours.example")); k != KindSenderRate {
			t.Errorf("third recipient: %q", k)
		}
		other := crand.Text() + "@a.example"
		g.Sent(ctx, someone(), other, 5000)
		if k := kindOf(g.Mail(ctx, someone(), other, 0)); k != KindSenderRate {
			t.Errorf("after its bytes: %q", k)
		}
	})
}

func TestRates_ABigMailIsNotRefusedForItsSize(t *testing.T) {
	t.Parallel()
	cfg := off()
	cfg.PerMinute.Bytes = 1000
	g := guard(t, cfg, nil, newClock())
	if err := g.Mail(context.Background(), someone(), "a@a.example", 1_000_000); err != nil {
		t.Error(err)
	}
}

func TestRates_SharedByProcesses(t *testing.T) {
	t.Parallel()
	c, rdb, ctx, who := newClock(), redisClient(t), context.Background(), someone()
	cfg := off()
	cfg.PerMinute.Mails = 4
	a, b := guard(t, cfg, rdb, c), guard(t, cfg, rdb, c)
	for range 2 {
		if err := errors.Join(a.Mail(ctx, who, "x@a.example", 0), b.Mail(ctx, who, "y@a.example", 0)); err != nil {
			t.Fatal(err)
		}
	}
	for _, g := range []*Guard{a, b} {
		if k := kindOf(g.Mail(ctx, who, "z@a.example", 0)); k != KindMailRate {
			t.Errorf("fifth mail: %q", k)
		}
	}
}

// The real clock of Redis, as in production.
func TestRates_ByTheClockOfRedis(t *testing.T) {
	t.Parallel()
	cfg, ctx, who := off(), context.Background(), someone()
	cfg.PerMinute.Mails = 5
	g := New(cfg, redisClient(t), nil, quiet(), nil)
	t.Cleanup(g.Close)
	for i := range 5 {
		if err := g.Mail(ctx, who, "", 0); err != nil {
			t.Fatalf("mail %d: %v", i+1, err)
		}
	}
	if k := kindOf(g.Mail(ctx, who, "", 0)); k != KindMailRate {
		t.Errorf("sixth mail: %q", k)
	}
	if s := g.Status().Redis; s != "up" {
		t.Errorf("Redis is %q", s)
	}
}

func TestBadCommands_BanAClientForAWhile(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, rdb *redis.Client) {
		c, ctx, who := newClock(), context.Background(), someone()
		g := guard(t, off(), rdb, c)
		for range badMost - 1 {
			g.BadCommand(ctx, who)
		}
		if _, err := g.Connect(ctx, who); err != nil {
			t.Fatalf("before the last: %v", err)
		}
		g.BadCommand(ctx, who)
		c.add(badBan - time.Second)
		if _, err := g.Connect(ctx, who); kindOf(err) != KindBanned {
			t.Fatalf("within the ban: %v", err)
		}
		if _, err := g.Connect(ctx, someone()); err != nil {
			t.Fatalf("another client: %v", err)
		}
		c.add(2 * time.Second)
		if _, err := g.Connect(ctx, who); err != nil {
			t.Fatalf("after the ban: %v", err)
		}
	})
}

func TestBadCommands_OfASession(t *testing.T) {
	t.Parallel()
	cfg := off()
	cfg.BadCommands = 10
	g, who := guard(t, cfg, nil, newClock()), someone()
	if r := g.BadCommands(who, 9); r != nil {
		t.Errorf("9: %v", r)
	}
	if r := g.BadCommands(who, 10); r == nil || r.Code != 421 {
		t.Errorf("10: %v", r)
	}
}

// mailbox is a sender of its own for each client of a test.
func mailbox(who netip.Addr) string {
	return strings.ReplaceAll(who.String(), ":", "-") + "@ours.example"
}

// everybody is all clients of IPv4 and IPv6.
func everybody() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
}

// TestRates_TrustedIsNoRelay: who is trusted and is no relay has no limits.
func TestRates_TrustedIsNoRelay(t *testing.T) {
	t.Parallel()
	cfg := off()
	cfg.Trusted, cfg.RelayPerMinute, cfg.RelaySenderPerMinute = everybody(), Rates{Mails: 1}, Rates{Mails: 1}
	g := guard(t, cfg, nil, newClock())
	for range 5 {
		if err := g.Mail(context.Background(), someone(), "a@ours.example", 0); err != nil {
			t.Fatal(err)
		}
	}
}
