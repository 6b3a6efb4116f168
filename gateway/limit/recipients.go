package limit

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/redis/go-redis/v9"
)

// Verifier asks a route's next hop about a recipient. reply is its answer where
// it said no. err is trouble on the way, from which nothing is learned.
type Verifier func(ctx context.Context, route, rcpt string) (known bool, reply *Refusal, err error)

const (
	knownKeep   = 2 * time.Hour
	unknownKeep = 10 * time.Minute // somebody new wants mail soon
	verifyTime  = 5 * time.Second
	// restAfter is how long a route is left alone whose hop gave no answer, so
	// that a dead one delays a RCPT once, and not each of them.
	restAfter  = 30 * time.Second
	restRoutes = 10_000
	// verifyMost bounds the answers of each kind: who guesses names must not
	// make us forget those that exist. verifyBusy bounds questions at a time.
	verifyMost = 50_000
	verifyBusy = 64
)

// Recipients answers whether a next hop knows a recipient. Without an answer
// the recipient counts as known: the relay step will hear the truth.
type Recipients struct {
	redis  *shared
	verify Verifier
	log    *slog.Logger
	now    func() time.Time
	salt   salt

	mu      sync.Mutex // guards what follows; wg.Go against Close
	known   *simplelru.LRU[id, time.Time]
	unknown *simplelru.LRU[id, time.Time]
	flights map[id]*flight
	resting *simplelru.LRU[string, time.Time] // routes, until when they are not asked
	closed  bool
	wg      sync.WaitGroup
	ctx     context.Context // of the questions, which outlive their first asker
	stop    context.CancelFunc
}

// flight is one question under way; known is set once done is closed.
type flight struct {
	done  chan struct{}
	known bool
}

// NewRecipients returns the cache before verify. rdb may be nil, or down. Close
// ends it.
func NewRecipients(rdb *redis.Client, verify Verifier, log *slog.Logger) *Recipients {
	r := &Recipients{redis: newShared(rdb, nil, log, time.Now), verify: verify, log: log, now: time.Now, salt: newSalt(nil),
		known: newLRU[id, time.Time](verifyMost), unknown: newLRU[id, time.Time](verifyMost), flights: map[id]*flight{}, resting: newLRU[string, time.Time](restRoutes)}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r
}

// Close ends the questions under way.
func (r *Recipients) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.stop()
	r.wg.Wait()
	r.redis.close()
}

// recipientOf is a recipient at a route. Case counts before the @ and does not
// after it (RFC 5321 §2.4): the next hop may tell Bob from bob.
func recipientOf(route, rcpt string) string {
	if at := strings.LastIndexByte(rcpt, '@'); at >= 0 {
		rcpt = rcpt[:at] + strings.ToLower(rcpt[at:])
	}
	return subject("rcpt", route, rcpt)
}

// Known is asked at RCPT. nil means: take it.
func (r *Recipients) Known(ctx context.Context, route, rcpt string) *Refusal {
	about := recipientOf(route, rcpt)
	key := r.salt.hash(about)
	f, known := r.begin(key, about, route, rcpt)
	if f != nil {
		t := time.NewTimer(verifyTime)
		defer t.Stop()
		select {
		case <-f.done:
			known = f.known
		case <-t.C:
		case <-ctx.Done():
		}
	}
	if known {
		return nil
	}
	return refuse(KindRecipient)
}

// begin gives what is remembered, or the question under way, begun here if need
// be. Without either the recipient counts as known.
func (r *Recipients) begin(key id, about, route, rcpt string) (*flight, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if until, ok := r.known.Get(key); ok && now.Before(until) {
		return nil, true
	}
	if until, ok := r.unknown.Get(key); ok && now.Before(until) {
		return nil, false
	}
	if f, ok := r.flights[key]; ok {
		return f, true
	}
	if until, ok := r.resting.Get(route); ok && now.Before(until) || r.closed || len(r.flights) >= verifyBusy {
		return nil, true
	}
	f := &flight{done: make(chan struct{}), known: true}
	r.flights[key] = f
	r.wg.Go(func() {
		f.known = r.find(key, about, route, rcpt)
		r.mu.Lock()
		delete(r.flights, key)
		r.mu.Unlock()
		close(f.done)
	})
	return f, true
}

// find asks the other processes' memory, then the next hop.
func (r *Recipients) find(key id, about, route, rcpt string) (known bool) {
	ctx, cancel := context.WithTimeout(r.ctx, verifyTime)
	defer cancel()
	if known, left := r.recall(ctx, about); left > 0 {
		r.remember(key, known, left)
		return known
	}
	known, reply, err := r.verify(ctx, route, rcpt)
	switch {
	case err != nil:
		r.log.Debug("recipient not checked", "route", route, "error", err)
		r.mu.Lock()
		r.resting.Add(route, r.now().Add(restAfter))
		r.mu.Unlock()
		return true
	case known:
		r.remember(key, true, knownKeep)
		r.tell(ctx, about, true, knownKeep)
		return true
	case !unknownRecipient(reply):
		return true
	}
	r.remember(key, false, unknownKeep)
	r.tell(ctx, about, false, unknownKeep)
	return false
}

// unknownRecipient says whether a refusal is about the recipient. Another one
// (our address is blocked, TLS is wanted, a full mailbox) is not the client's
// to hear from a cache: the relay step hands it on as it is.
func unknownRecipient(reply *Refusal) bool {
	if reply == nil || reply.Code < 500 || reply.Code > 599 {
		return false
	}
	switch e := reply.Enhanced; {
	case e == [3]int{}: // RFC 5321 §4.2.3: 550, 551 and 553 are about the mailbox
		return reply.Code == 550 || reply.Code == 551 || reply.Code == 553
	default: // RFC 3463 §3.2: bad mailbox, bad system, bad syntax, ambiguous, moved
		return e[0] == 5 && e[1] == 1 && (e[2] <= 4 || e[2] == 6 || e[2] == 10)
	}
}

func (r *Recipients) remember(key id, known bool, keep time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	until := r.now().Add(keep)
	if known {
		r.unknown.Remove(key)
		r.known.Add(key, until)
		return
	}
	r.known.Remove(key)
	r.unknown.Add(key, until)
}

// What Redis holds of a recipient.
const (
	saidYes = "1"
	saidNo  = "0"
)

// recall gives what another process learned, and how long that is good for.
func (r *Recipients) recall(ctx context.Context, about string) (known bool, left time.Duration) {
	err := r.redis.do(ctx, func(ctx context.Context, c *redis.Client, salt salt) error {
		key := salt.key(about)
		pipe := c.Pipeline()
		value, ttl := pipe.Get(ctx, key), pipe.PTTL(ctx, key)
		if _, err := pipe.Exec(ctx); err != nil {
			return fmt.Errorf("get a recipient from Redis: %w", err)
		}
		switch value.Val() {
		case saidYes:
			known, left = true, min(ttl.Val(), knownKeep)
		case saidNo:
			left = min(ttl.Val(), unknownKeep)
		}
		return nil
	})
	if err != nil {
		return false, 0
	}
	return known, left
}

// tell lets other processes know. An error costs them a question of their own.
func (r *Recipients) tell(ctx context.Context, about string, known bool, keep time.Duration) {
	value := saidNo
	if known {
		value = saidYes
	}
	_ = r.redis.do(ctx, func(ctx context.Context, c *redis.Client, salt salt) error {
		return c.Set(ctx, salt.key(about), value, keep).Err()
	})
}
