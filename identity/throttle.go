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
	perPair        = 5    // one account from one address
	perAccount     = 50   // one account from anywhere: a wide attack; its owner gets in from where they were before
	perAddress     = 100  // one address on any account: an office behind one address must get in
	begunEach      = 1000 // sign-ins that one address begins: each is a row until its time is over
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
	name string // pair, account or address
	key  string
	max  int
}

// networkOf is what one customer has: an address, or a /64 at least.
func networkOf(from netip.Addr) string {
	addr := from.Unmap().WithZone("")
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.String()
		}
	}
	if !addr.IsValid() {
		return "::/128" // nobody comes from there
	}
	return addr.String()
}

func limits(account string, from netip.Addr) []limit {
	network := networkOf(from)
	// Redis is no place for addresses of people.
	sum := sha256.Sum256([]byte(account))
	acc := hex.EncodeToString(sum[:16])
	return []limit{
		{"pair", "mailward:login:pair:" + acc + ":" + network, perPair},
		{"address", "mailward:login:address:" + network, perAddress},
		{"account", "mailward:login:account:" + acc, perAccount},
	}
}

// Verdict is what became of an attempt.
type Verdict struct {
	Until time.Time // no login is allowed; zero: it is
	Limit string    // that is spent: pair, account or address
	First bool      // this very attempt was the first beyond it
	Flood bool      // one address goes on and on: that it does is on record already
}

// OK says whether the login may be tried.
func (v Verdict) OK() bool { return v.Until.IsZero() }

// Attempt counts one login. known, which may be nil, says whether the account's
// owner comes from there: then failures from elsewhere do not count, so that
// nobody can lock another out by trying on and on. What the limits of an address
// refuse does not count against the account either: one address alone cannot use
// that up.
func (t *Throttle) Attempt(ctx context.Context, account string, from netip.Addr, known func() bool) (v Verdict) {
	for _, l := range limits(account, from) {
		if l.name == "account" && !v.OK() {
			break
		}
		n, ttl := t.count(ctx, l.key)
		if n <= l.max || l.name == "account" && known != nil && known() {
			continue
		}
		if end := t.now().Add(max(ttl, time.Second)); end.After(v.Until) {
			v.Until = end
		}
		first := n == l.max+1
		if first || v.Limit == "" {
			v.Limit = l.name
		}
		v.First, v.Flood = v.First || first, l.name == "address" && !first
	}
	return v
}

// Address counts what one network did wrong, beside logins with a password.
func (t *Throttle) Address(ctx context.Context, what string, from netip.Addr) Verdict {
	return t.network(ctx, what, from, perAddress)
}

// Begun counts a sign-in that a network begins.
func (t *Throttle) Begun(ctx context.Context, from netip.Addr) Verdict {
	return t.network(ctx, "begun", from, begunEach)
}

func (t *Throttle) network(ctx context.Context, what string, from netip.Addr, most int) (v Verdict) {
	n, ttl := t.count(ctx, "mailward:login:"+what+":"+networkOf(from))
	if n > most {
		v = Verdict{Until: t.now().Add(max(ttl, time.Second)), Limit: "address", First: n == most+1}
	}
	return v
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
