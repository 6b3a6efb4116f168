package limit

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func greyConfig() Config {
	cfg := Config{Greylist: DefaultConfig().Greylist} // without the limits
	cfg.Greylist.Enabled = true
	return cfg
}

func neighbour(a netip.Addr) netip.Addr {
	b := a.As4()
	b[3] ^= 1
	return netip.AddrFrom4(b)
}

func TestGreylist_LetsInWhoComesBack(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, rdb *redis.Client) {
		c, ctx, who := newClock(), context.Background(), someone4()
		g := guard(t, greyConfig(), rdb, c)
		ask := func(what string, a netip.Addr, from, to, want string) {
			t.Helper()
			if k := kindOf(g.Rcpt(ctx, a, from, to)); k != want {
				t.Errorf("%s: %q, want %q", what, k, want)
			}
		}
		const to = "bob@ours.example"
		for _, from := range []string{"alice@a.example", ""} { // the null sender, too
			ask("first", who, from, to, KindGreylist)
			c.add(4 * time.Minute)
			err := g.Rcpt(ctx, who, from, to)
			if err == nil || err.Error() != "450 4.7.1 Greylisted, try again in 60 seconds" {
				t.Errorf("too early: %v", err)
			}
			c.add(time.Minute)
			ask("after the delay, from another address of the network", neighbour(who), from, to, "")
			ask("now known", who, from, to, "")
			ask("another recipient", who, from, "carol@ours.example", KindGreylist)
			ask("another sender", who, from+"x", to, KindGreylist)
			ask("another network", someone4(), from, to, KindGreylist)
		}
		ask("case is no matter", who, "ALICE@a.example", "BOB@ours.example", "")
		if rdb != nil {
			return // Redis forgets by its own clock
		}
		c.add(30 * 24 * time.Hour)
		ask("a month later", who, "alice@a.example", to, "")
		c.add(30 * 24 * time.Hour)
		ask("known since, as it came", who, "alice@a.example", to, "")
		c.add(36 * 24 * time.Hour)
		ask("forgotten", who, "alice@a.example", to, KindGreylist)
	})
}

func TestGreylist_WhoComesBackTooLateBeginsAnew(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, rdb *redis.Client) {
		c, ctx, who := newClock(), context.Background(), someone4()
		g := guard(t, greyConfig(), rdb, c)
		for range 2 {
			if k := kindOf(g.Rcpt(ctx, who, "a@a.example", "b@ours.example")); k != KindGreylist {
				t.Errorf("%q", k)
			}
			c.add(49 * time.Hour)
		}
	})
}

func TestGreylist_AClientWithAQueueNeedsNoMore(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, rdb *redis.Client) {
		c, ctx, who := newClock(), context.Background(), someone4()
		g := guard(t, greyConfig(), rdb, c)
		// Mail to postmaster passes, and earns nothing.
		for range 2 * greyEnough {
			if err := g.Rcpt(ctx, who, "a@a.example", "postmaster@ours.example"); err != nil {
				t.Fatal(err)
			}
			g.Sent(ctx, who, "a@a.example", 1)
		}
		for i := range greyEnough {
			from := crand.Text() + "@a.example"
			if k := kindOf(g.Rcpt(ctx, who, from, "b@ours.example")); k != KindGreylist {
				t.Fatalf("mail %d: %q", i, k)
			}
			c.add(5 * time.Minute)
			if err := g.Rcpt(ctx, who, from, "b@ours.example"); err != nil {
				t.Fatal(err)
			}
			g.Sent(ctx, who, from, 1)
		}
		if err := g.Rcpt(ctx, who, "new@a.example", "new@ours.example"); err != nil {
			t.Errorf("after %d mails: %v", greyEnough, err)
		}
		if k := kindOf(g.Rcpt(ctx, neighbour(who), "new2@a.example", "new@ours.example")); k != KindGreylist {
			t.Errorf("its neighbour has earned nothing: %q", k)
		}
	})
}

func TestGreylist_SharedByProcesses(t *testing.T) {
	t.Parallel()
	c, rdb, ctx, who := newClock(), redisClient(t), context.Background(), someone4()
	a, b := guard(t, greyConfig(), rdb, c), guard(t, greyConfig(), rdb, c)
	if k := kindOf(a.Rcpt(ctx, who, "a@a.example", "b@ours.example")); k != KindGreylist {
		t.Fatalf("%q", k)
	}
	c.add(5 * time.Minute)
	if err := b.Rcpt(ctx, who, "a@a.example", "b@ours.example"); err != nil {
		t.Errorf("the other process does not know: %v", err)
	}
}

func TestGreylist_WithoutItsStoreMailPasses(t *testing.T) {
	t.Parallel()
	r := newOwnRedis(t)
	g := guard(t, greyConfig(), r.client(), newClock())
	ctx := context.Background()
	if k := kindOf(g.Rcpt(ctx, someone4(), "a@a.example", "b@ours.example")); k != KindGreylist {
		t.Fatalf("%q", k)
	}
	r.stop()
	for range 3 {
		if err := g.Rcpt(ctx, someone4(), "a@a.example", "b@ours.example"); err != nil {
			t.Error(err)
		}
	}
}

// A flood must not push out those who wait: they would wait for ever.
func TestGreylist_FullOfWaitingSenders(t *testing.T) {
	t.Parallel()
	c, ctx, who := newClock(), context.Background(), someone4()
	g := guard(t, greyConfig(), nil, c)
	cfg := greyConfig().Greylist
	g.Rcpt(ctx, who, "a@a.example", "b@ours.example")
	for i := range greyMost + 10 {
		var k id
		binary.BigEndian.PutUint64(k[:], uint64(i))
		g.grey.askLocal(&cfg, k, id{1})
	}
	if n := g.grey.triplets.Len(); n != greyMost {
		t.Errorf("%d triplets", n)
	}
	if err := g.Rcpt(ctx, someone4(), "x@a.example", "b@ours.example"); err != nil {
		t.Errorf("a new sender must pass now: %v", err)
	}
	c.add(5 * time.Minute)
	if err := g.Rcpt(ctx, who, "a@a.example", "b@ours.example"); err != nil {
		t.Errorf("the first one was forgotten: %v", err)
	}
	c.add(72 * time.Hour)
	if k := kindOf(g.Rcpt(ctx, someone4(), "y@a.example", "b@ours.example")); k != KindGreylist {
		t.Errorf("when the flood is over: %q", k)
	}
}
