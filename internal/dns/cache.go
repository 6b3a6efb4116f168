package dns

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// How long answers are kept, whatever they ask for, and how many.
const (
	minTTL         = 5 * time.Second // one mail asks the same more than once
	maxTTL         = time.Hour
	maxNegativeTTL = 15 * time.Minute // RFC 2308 §5 allows hours; a new record should be seen sooner
	troubleTTL     = 5 * time.Second  // RFC 2308 §7.1: at most five minutes
	maxEntries     = 20_000
	maxBytes       = 16 << 20
	entryCost      = 300 // bytes of an entry besides its records, about
)

// cache keeps the answers used last.
type cache struct {
	mostBytes int

	mu      sync.Mutex // guards all below
	answers *simplelru.LRU[key, entry]
	bytes   int
}

type entry struct {
	answer *answer
	until  time.Time
}

func newCache(most, mostBytes int) *cache {
	c := &cache{mostBytes: mostBytes}
	c.answers, _ = simplelru.NewLRU(most, func(_ key, e entry) { c.bytes -= e.answer.size + entryCost }) // the size is no mistake
	return c
}

func (c *cache) get(k key, now time.Time) *answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.answers.Get(k)
	if !ok {
		return nil
	}
	if !now.Before(e.until) {
		c.answers.Remove(k)
		return nil
	}
	return e.answer
}

func (c *cache) put(k key, a *answer, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers.Remove(k) // so that its bytes are no longer counted
	c.answers.Add(k, entry{answer: a, until: now.Add(a.ttl)})
	c.bytes += a.size + entryCost
	for c.bytes > c.mostBytes {
		c.answers.RemoveOldest()
	}
}

func (c *cache) len() (entries, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answers.Len(), c.bytes
}
