package limit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/redis/go-redis/v9"
)

// Verifier asks a route's next hop about recipients. A reply is its answer where
// it said no, or nil. err is trouble on the way: there are replies to the first
// recipients alone then, or none.
type Verifier func(ctx context.Context, route string, rcpts []string) (replies []*Refusal, err error)

const (
	knownKeep   = 2 * time.Hour
	unknownKeep = 10 * time.Minute // somebody new wants mail soon
	verifyTime  = 5 * time.Second
	// restAfter is how long a route is left alone whose hop gave no answer, so
	// that a dead one delays a RCPT once, and not each of them.
	restAfter  = 30 * time.Second
	restRoutes = 10_000
	// verifyMost bounds the answers of each kind: who guesses names must not
	// make us forget those that exist. verifyBusy bounds questions at a time, each
	// about one recipient or several.
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
	busy    int                               // questions under way
	closed  bool
	wg      sync.WaitGroup
	ctx     context.Context // of the questions, which outlive their first asker
	stop    context.CancelFunc
}

// flight is one question under way; known is set once done is closed.
type flight struct {
	key         id
	about, rcpt string
	done        chan struct{}
	known       bool
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
	r.Expect(route, rcpt)
	r.mu.Lock()
	f, known, _ := r.answer(r.salt.hash(recipientOf(route, rcpt)))
	r.mu.Unlock()
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

// Expect has a route asked about recipients of whom [Recipients.Known] is going
// to hear, all of them together. It waits for nothing.
func (r *Recipients) Expect(route string, rcpts ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if until, ok := r.resting.Get(route); ok && r.now().Before(until) || r.closed || r.busy >= verifyBusy {
		return
	}
	var ask []*flight
	for _, rcpt := range rcpts {
		about := recipientOf(route, rcpt)
		key := r.salt.hash(about)
		if _, _, ok := r.answer(key); ok {
			continue
		}
		f := &flight{key: key, about: about, rcpt: rcpt, done: make(chan struct{}), known: true}
		r.flights[key] = f
		ask = append(ask, f)
	}
	if len(ask) > 0 {
		r.busy++
		r.wg.Go(func() { r.find(route, ask) })
	}
}

// answer gives what is remembered, or the question under way. Without either the
// recipient counts as known, and ok is false. r.mu is held.
func (r *Recipients) answer(key id) (f *flight, known, ok bool) {
	now := r.now()
	if until, ok := r.known.Get(key); ok && now.Before(until) {
		return nil, true, true
	}
	if until, ok := r.unknown.Get(key); ok && now.Before(until) {
		return nil, false, true
	}
	f = r.flights[key]
	return f, true, f != nil
}

// find asks the other processes' memory, then the next hop.
func (r *Recipients) find(route string, ask []*flight) {
	ctx, cancel := context.WithTimeout(r.ctx, verifyTime)
	defer cancel()
	defer func() { // Whatever has no answer counts as known.
		r.mu.Lock()
		defer r.mu.Unlock()
		r.busy--
		for _, f := range ask {
			delete(r.flights, f.key)
			close(f.done)
		}
	}()
	var open []*flight
	var rcpts []string
	for i, a := range r.recall(ctx, ask) {
		f := ask[i]
		if a.left <= 0 {
			open, rcpts = append(open, f), append(rcpts, f.rcpt)
			continue
		}
		f.known = a.known
		r.remember(f.key, a.known, a.left)
	}
	if len(open) == 0 {
		return
	}
	replies, err := r.verify(ctx, route, rcpts)
	if err != nil {
		r.log.Debug("recipients not checked", "route", route, "asked", len(rcpts), "answered", len(replies), "error", err)
		r.mu.Lock()
		r.resting.Add(route, r.now().Add(restAfter))
		r.mu.Unlock()
	}
	for i, no := range replies[:min(len(replies), len(open))] {
		r.learn(ctx, open[i], no)
	}
}

// learn remembers what a next hop said of a recipient.
func (r *Recipients) learn(ctx context.Context, f *flight, no *Refusal) {
	switch {
	case no == nil:
		r.remember(f.key, true, knownKeep)
		r.tell(ctx, f.about, true, knownKeep)
	case unknownRecipient(no):
		f.known = false
		r.remember(f.key, false, unknownKeep)
		r.tell(ctx, f.about, false, unknownKeep)
	}
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

// recalled is what another process learned, and how long that is good for; not
// at all: nothing.
type recalled struct {
	known bool
	left  time.Duration
}

// recall asks Redis about recipients, in one go.
func (r *Recipients) recall(ctx context.Context, ask []*flight) []recalled {
	list := make([]recalled, len(ask))
	_ = r.redis.do(ctx, func(ctx context.Context, c *redis.Client, salt salt) error {
		pipe := c.Pipeline()
		values, ttls := make([]*redis.StringCmd, len(ask)), make([]*redis.DurationCmd, len(ask))
		for i, f := range ask {
			key := salt.key(f.about)
			values[i], ttls[i] = pipe.Get(ctx, key), pipe.PTTL(ctx, key)
		}
		if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
			return fmt.Errorf("get recipients from Redis: %w", err)
		}
		for i := range ask {
			switch values[i].Val() {
			case saidYes:
				list[i] = recalled{true, min(ttls[i].Val(), knownKeep)}
			case saidNo:
				list[i] = recalled{false, min(ttls[i].Val(), unknownKeep)}
			}
		}
		return nil
	})
	return list
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
