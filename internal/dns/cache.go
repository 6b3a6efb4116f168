package dns

import (
	"container/list"
	"sync"
	"time"
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
	most, mostBytes int

	mu    sync.Mutex // guards all below
	order *list.List // of *entry, used last in front
	byKey map[key]*list.Element
	bytes int
}

type entry struct {
	key    key
	answer *answer
	until  time.Time
}

func newCache(most, mostBytes int) *cache {
	return &cache{most: most, mostBytes: mostBytes, order: list.New(), byKey: map[key]*list.Element{}}
}

func (c *cache) get(k key, now time.Time) *answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.byKey[k]
	if !ok {
		return nil
	}
	e := el.Value.(*entry)
	if !now.Before(e.until) {
		c.drop(el)
		return nil
	}
	c.order.MoveToFront(el)
	return e.answer
}

func (c *cache) put(k key, a *answer, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.byKey[k]; ok {
		c.drop(el)
	}
	c.byKey[k] = c.order.PushFront(&entry{key: k, answer: a, until: now.Add(a.ttl)})
	c.bytes += a.size + entryCost
	for c.order.Len() > c.most || c.bytes > c.mostBytes {
		c.drop(c.order.Back())
	}
}

// drop takes an entry out. The caller holds the lock.
func (c *cache) drop(el *list.Element) {
	e := el.Value.(*entry)
	c.order.Remove(el)
	delete(c.byKey, e.key)
	c.bytes -= e.answer.size + entryCost
}

func (c *cache) len() (entries, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.order.Len(), c.bytes
}
