package limit

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	// redisTimeout is what one event may wait for Redis. A limit is not worth
	// more of a mail's time.
	redisTimeout = 50 * time.Millisecond
	// redisRetry is how long Redis is left alone after trouble.
	redisRetry = time.Second
	// redisWarn is how often trouble is logged at most.
	redisWarn = time.Minute
)

//go:embed scripts/*.lua
var scripts embed.FS

// script reads one script. The files are part of the binary.
func script(name string) *redis.Script {
	b, err := scripts.ReadFile("scripts/" + name + ".lua")
	if err != nil {
		panic(err)
	}
	return redis.NewScript(string(b))
}

// errRedisDown means that Redis is not asked: there is none, or it was in
// trouble a moment ago.
var errRedisDown = errors.New("limit: no Redis")

// shared is Redis behind a circuit breaker: after the first trouble nobody
// waits for it until a try in the background has succeeded.
type shared struct {
	client *redis.Client // of our own, with short times; nil where there is none
	log    *slog.Logger
	now    func() time.Time
	secret []byte

	up     atomic.Bool
	salt   atomic.Pointer[salt] // not nil once Redis was up
	trying atomic.Bool
	closed atomic.Bool

	mu     sync.Mutex // guards next, warned, and wg.Add against close
	next   time.Time
	warned time.Time
	wg     sync.WaitGroup
}

// newShared takes address and credentials of a client, not its patience: that
// one may retry and wait for seconds.
func newShared(rdb *redis.Client, secret []byte, log *slog.Logger, now func() time.Time) *shared {
	s := &shared{log: log, now: now, secret: secret}
	if rdb == nil {
		return s
	}
	opt := *rdb.Options()
	opt.MaxRetries = -1
	opt.ContextTimeoutEnabled = true
	opt.DialTimeout, opt.ReadTimeout, opt.WriteTimeout, opt.PoolTimeout = redisTimeout, redisTimeout, redisTimeout, redisTimeout
	opt.DialerRetries = 1
	opt.MinIdleConns = 0
	opt.PushNotificationProcessor = nil // the other client's own
	opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	s.client = redis.NewClient(&opt)
	s.connect(context.Background())
	return s
}

// close ends the client and waits for a try in the background.
func (s *shared) close() {
	if s.client == nil {
		return
	}
	s.mu.Lock()
	s.closed.Store(true)
	s.up.Store(false)
	s.mu.Unlock()
	s.wg.Wait()
	s.client.Close()
}

// state is for people.
func (s *shared) state() string {
	switch {
	case s.client == nil:
		return "none"
	case s.up.Load():
		return "up"
	}
	return "down"
}

// do runs one command, or starts a try in the background where Redis was down.
func (s *shared) do(ctx context.Context, fn func(ctx context.Context, c *redis.Client, salt salt) error) error {
	if s.client == nil {
		return errRedisDown
	}
	if !s.up.Load() {
		s.retry()
		return errRedisDown
	}
	// A client that goes away is no trouble of Redis: the time is our own.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTimeout)
	defer cancel()
	err := fn(ctx, s.client, *s.salt.Load())
	if err != nil && !errors.Is(err, redis.Nil) {
		s.trouble(err)
	}
	return err
}

// trouble opens the breaker.
func (s *shared) trouble(err error) {
	s.mu.Lock()
	now := s.now()
	s.next = now.Add(redisRetry)
	// A Redis that is slow now and then would fill the log.
	warn := now.Sub(s.warned) >= redisWarn
	if warn {
		s.warned = now
	}
	s.mu.Unlock()
	if s.up.CompareAndSwap(true, false) && warn && !s.closed.Load() {
		s.log.Warn("limits without Redis, this process counts alone", "error", err)
	}
}

// retry tries Redis in the background, one at a time and not too often.
func (s *shared) retry() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() || s.now().Before(s.next) || !s.trying.CompareAndSwap(false, true) {
		return
	}
	s.wg.Go(func() {
		defer s.trying.Store(false)
		s.connect(context.Background())
	})
}

// connect closes the breaker if Redis answers, and gets the salt.
func (s *shared) connect(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*redisTimeout)
	defer cancel()
	salt, err := s.loadSalt(ctx)
	if err != nil {
		s.mu.Lock()
		s.next = s.now().Add(redisRetry)
		s.mu.Unlock()
		s.log.Debug("Redis for limits does not answer", "error", err)
		return
	}
	s.salt.Store(&salt)
	if !s.closed.Load() && s.up.CompareAndSwap(false, true) {
		s.log.Debug("limits are shared through Redis")
	}
}

// loadSalt gets the salt of this installation; the first process makes it. With
// a configured secret Redis never sees it.
func (s *shared) loadSalt(ctx context.Context) (salt, error) {
	if len(s.secret) > 0 {
		return newSalt(s.secret), s.client.Ping(ctx).Err()
	}
	mine := newSalt(nil)
	if err := s.client.SetNX(ctx, keyPrefix+"salt", mine[:], 0).Err(); err != nil {
		return salt{}, fmt.Errorf("offer a salt to Redis: %w", err)
	}
	b, err := s.client.Get(ctx, keyPrefix+"salt").Bytes()
	if err != nil {
		return salt{}, fmt.Errorf("get the salt from Redis: %w", err)
	}
	if len(b) != len(mine) {
		return salt{}, fmt.Errorf("the salt in Redis has %d bytes", len(b))
	}
	return salt(b), nil
}

// lease is this process's connections of one client, as the others see them.
type lease struct {
	subject string
	process string
	mine    int
	limit   int
	length  time.Duration
}

// counts runs scripts/count.lua. ms is 0 for the server's own time, which all
// processes share.
type counts struct {
	*shared
	script *redis.Script
	ms     func() int64
}

// take counts an event and gives the index of the entry that refuses, len(entries)
// for the lease, or -1.
func (c *counts) take(ctx context.Context, entries []entry, l *lease) (int, error) {
	refused := -1
	err := c.do(ctx, func(ctx context.Context, client *redis.Client, salt salt) error {
		keys := make([]string, 0, len(entries)+1)
		args := make([]any, 0, 2+5*len(entries)+4)
		args = append(args, c.ms(), len(entries))
		for i := range entries {
			e := &entries[i]
			keys = append(keys, salt.key(e.subject))
			args = append(args, e.op, e.amount, e.limit, e.window.Milliseconds(), e.ban.Milliseconds())
		}
		if l != nil {
			keys = append(keys, salt.key(l.subject))
			args = append(args, l.process, strconv.Itoa(l.mine), l.limit, l.length.Milliseconds())
		}
		n, err := c.script.Run(ctx, client, keys, args...).Int()
		if err != nil {
			return fmt.Errorf("count in Redis: %w", err)
		}
		refused = n - 1
		return nil
	})
	if refused > len(entries) {
		return -1, fmt.Errorf("limit: Redis names counter %d of %d", refused, len(entries))
	}
	return refused, err
}
