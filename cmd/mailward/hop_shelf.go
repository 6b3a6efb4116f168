package main

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// shelfTime is what a mail waits for Redis at most.
const shelfTime = 200 * time.Millisecond

// hopShelf keeps in Redis what was learned of next hops and domains.
type hopShelf struct{ redis *redis.Client }

// Get implements [hop.Shelf].
func (s hopShelf) Get(ctx context.Context, key string) ([]byte, bool) {
	ctx, cancel := context.WithTimeout(ctx, shelfTime)
	defer cancel()
	b, err := s.redis.Get(ctx, "mailward:hop:"+key).Bytes()
	return b, err == nil
}

// Put implements [hop.Shelf]. What cannot be kept is learned again.
func (s hopShelf) Put(ctx context.Context, key string, value []byte, keep time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, shelfTime)
	defer cancel()
	_ = s.redis.Set(ctx, "mailward:hop:"+key, value, keep).Err()
}
