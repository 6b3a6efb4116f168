package limit

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/redis/go-redis/v9"
)

const (
	// greyEnough is after how many mails a client needs no greylisting: it has
	// shown that it has a queue.
	greyEnough = 5
	// greyMost bounds the triplets that a process without Redis remembers.
	greyMost = 100_000
)

// Exempt says whether mail to a recipient passes whatever lists say: the
// addresses that a refused sender writes to.
func Exempt(rcpt string) bool {
	user := rcpt
	if at := strings.LastIndexByte(rcpt, '@'); at >= 0 {
		user = rcpt[:at]
	}
	return strings.EqualFold(user, "postmaster") || strings.EqualFold(user, "abuse")
}

// greylist remembers who came back. With Redis configured it is in Redis or
// nowhere: a process that begins anew would delay senders who are long known.
type greylist struct {
	redis  *shared
	script *redis.Script
	ms     func() int64
	salt   salt
	now    func() time.Time

	mu       sync.Mutex // guards what follows
	triplets *simplelru.LRU[id, triplet]
	clients  *simplelru.LRU[id, int]
	// came holds the clients with a recipient that passed and a mail not yet
	// taken. Mail to exempt recipients alone earns nothing.
	came *simplelru.LRU[id, struct{}]
}

type triplet struct {
	first  time.Time
	passed bool
	until  time.Time // forgotten then
}

func newGreylist(r *shared, ms func() int64, s salt, now func() time.Time) *greylist {
	return &greylist{redis: r, script: script("greylist"), ms: ms, salt: s, now: now,
		triplets: newLRU[id, triplet](greyMost), clients: newLRU[id, int](greyMost), came: newLRU[id, struct{}](goodClients)}
}

// tripletOf is the subject of who sends to whom (RFC 6647 §2.3). The null
// sender is a sender like others.
func tripletOf(client netip.Addr, sender, rcpt string) string {
	return subject("grey", networkOf(client).String(), address(sender), address(rcpt))
}

// greyClient is the client itself, not its network: it has earned this alone.
func greyClient(client netip.Addr) string { return subject("grey-client", clientOf(client).String()) }

// ask gives how long the sender must wait, 0 for not at all. Without an answer
// the mail passes.
func (g *greylist) ask(ctx context.Context, cfg *Greylist, client netip.Addr, sender, rcpt string) time.Duration {
	who := g.salt.hash(greyClient(client))
	var wait time.Duration
	if g.redis.client == nil {
		wait = g.askLocal(cfg, g.salt.hash(tripletOf(client, sender, rcpt)), who)
	} else {
		wait = g.askRedis(ctx, cfg, client, sender, rcpt)
	}
	if wait == 0 {
		g.mu.Lock()
		g.came.Add(who, struct{}{})
		g.mu.Unlock()
	}
	return wait
}

func (g *greylist) askRedis(ctx context.Context, cfg *Greylist, client netip.Addr, sender, rcpt string) time.Duration {
	var left int64
	err := g.redis.do(ctx, func(ctx context.Context, c *redis.Client, salt salt) error {
		keys := []string{salt.key(tripletOf(client, sender, rcpt)), salt.key(greyClient(client))}
		n, err := g.script.Run(ctx, c, keys, g.ms(), cfg.Delay.Milliseconds(), cfg.Window.Milliseconds(), cfg.Keep.Milliseconds(), greyEnough).Int64()
		if err != nil {
			return fmt.Errorf("ask the greylist in Redis: %w", err)
		}
		left = n
		return nil
	})
	if err != nil {
		return 0
	}
	// A delay that was shortened since counts at once.
	return min(max(0, time.Duration(left)*time.Millisecond), cfg.Delay)
}

// askLocal does what scripts/greylist.lua does.
func (g *greylist) askLocal(cfg *Greylist, key, client id) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n, _ := g.clients.Get(client); n >= greyEnough {
		return 0
	}
	now := g.now()
	t, known := g.triplets.Get(key)
	switch {
	case !known || !now.Before(t.until):
		if !known && !g.room(now) {
			return 0
		}
		g.triplets.Add(key, triplet{first: now, until: now.Add(cfg.Window)})
		return cfg.Delay
	case !t.passed && now.Sub(t.first) < cfg.Delay:
		return cfg.Delay - now.Sub(t.first)
	}
	t.passed, t.until = true, now.Add(cfg.Keep)
	g.triplets.Add(key, t)
	return 0
}

// room makes room for one triplet, if the one not seen for longest has had its
// time. To drop one that still waits would make its sender wait for ever: when
// memory is full of those, nobody new is greylisted.
func (g *greylist) room(now time.Time) bool {
	if g.triplets.Len() < greyMost {
		return true
	}
	_, t, _ := g.triplets.GetOldest()
	return t.passed || !now.Before(t.until)
}

// sent counts a mail that was taken from a client.
func (g *greylist) sent(ctx context.Context, cfg *Greylist, client netip.Addr) {
	who := g.salt.hash(greyClient(client))
	g.mu.Lock()
	_, came := g.came.Get(who)
	if g.came.Remove(who); came && g.redis.client == nil {
		n, _ := g.clients.Get(who)
		g.clients.Add(who, min(n+1, greyEnough))
	}
	g.mu.Unlock()
	if !came || g.redis.client == nil {
		return
	}
	// An error costs the client one more wait at most.
	_ = g.redis.do(ctx, func(ctx context.Context, c *redis.Client, salt salt) error {
		key := salt.key(greyClient(client))
		_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
			p.Incr(ctx, key)
			p.PExpire(ctx, key, cfg.Keep)
			return nil
		})
		return err
	})
}
