package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// What is allowed within a window. An attempt counts before the password is
// looked at, so that many at once are not all let through.
const (
	throttleWindow = 15 * time.Minute
	perPair        = 5   // one account from one address
	perAccount     = 50  // one account from anywhere: a wide attack; high, since it also locks out its owner
	perAddress     = 100 // one address on any account: an office behind one address must get in
	redisTimeout   = 300 * time.Millisecond
	maxLocalKeys   = 20000
)

// Throttle counts login attempts, in Redis for all processes together, and in
// this process where Redis does not answer.
type Throttle struct {
	client *redis.Client // may be nil
	log    *slog.Logger
	now    func() time.Time

	mu    sync.Mutex // guards local
	local map[string]counter
}

type counter struct {
	n     int
	until time.Time
}

// NewThrottle returns a Throttle; client may be nil or down.
func NewThrottle(client *redis.Client, log *slog.Logger) *Throttle {
	return &Throttle{client: client, log: log, now: time.Now, local: map[string]counter{}}
}

type limit struct {
	key string
	max int
}

func limits(account string, from netip.Addr) []limit {
	addr := from.Unmap()
	network := addr.String()
	if addr.Is6() {
		// One customer has a /64 at least.
		if p, err := addr.Prefix(64); err == nil {
			network = p.String()
		}
	}
	// Redis is no place for addresses of people.
	sum := sha256.Sum256([]byte(account))
	acc := hex.EncodeToString(sum[:16])
	return []limit{
		{"mailward:login:pair:" + acc + ":" + network, perPair},
		{"mailward:login:account:" + acc, perAccount},
		{"mailward:login:address:" + network, perAddress},
	}
}

// Attempt counts one login and says until when none is allowed, if so.
func (t *Throttle) Attempt(ctx context.Context, account string, from netip.Addr) (until time.Time, ok bool) {
	ok = true
	for _, l := range limits(account, from) {
		n, ttl := t.count(ctx, l.key)
		if n > l.max {
			ok = false
			if end := t.now().Add(ttl); end.After(until) {
				until = end
			}
		}
	}
	return until, ok
}

// Succeeded forgets the failures of an account from one address.
func (t *Throttle) Succeeded(ctx context.Context, account string, from netip.Addr) {
	key := limits(account, from)[0].key
	if t.client != nil {
		ctx, cancel := context.WithTimeout(ctx, redisTimeout)
		defer cancel()
		if err := t.client.Del(ctx, key).Err(); err != nil {
			t.log.Warn("login counter not cleared in Redis", "error", err)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.local, key)
}

func (t *Throttle) count(ctx context.Context, key string) (int, time.Duration) {
	// The local counter counts too: a Redis that comes and goes resets nothing.
	n, ttl := t.countLocal(key)
	if t.client == nil {
		return n, ttl
	}
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	pipe := t.client.TxPipeline()
	incr := pipe.Incr(ctx, key)
	pipe.ExpireNX(ctx, key, throttleWindow)
	left := pipe.PTTL(ctx, key)
	if _, err := pipe.Exec(ctx); err != nil {
		t.log.Warn("login counter not in Redis, this process counts alone", "error", err)
		return n, ttl
	}
	if shared := int(incr.Val()); shared > n {
		return shared, max(left.Val(), 0)
	}
	return n, ttl
}

func (t *Throttle) countLocal(key string) (int, time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if len(t.local) >= maxLocalKeys {
		for k, c := range t.local {
			if !now.Before(c.until) {
				delete(t.local, k)
			}
		}
		// Still full means an attack from everywhere: start anew, the limits per
		// account will be counted again soon.
		if len(t.local) >= maxLocalKeys {
			clear(t.local)
		}
	}
	c := t.local[key]
	if !now.Before(c.until) {
		c = counter{until: now.Add(throttleWindow)}
	}
	c.n++
	t.local[key] = c
	return c.n, c.until.Sub(now)
}
