package limit

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// A counter is a sliding window made of two buckets: this one, and the one
// before by the share of it that the window still covers. scripts/count.lua
// does the same sums in Redis; a test compares the two.
type counter struct {
	bucket    int64 // number of the current bucket since 1970
	now, prev float64
	until     int64 // banned until then, in ms
}

// The ways to count.
const (
	opAdd   = "add"   // count, or refuse where it would be more than the limit
	opPeek  = "peek"  // refuse where the limit is reached, count nothing
	opForce = "force" // count whatever the limit, and ban where it is reached
)

// entry is one counter's part in an event.
type entry struct {
	subject string
	kind    string // of the refusal
	op      string
	amount  int64
	limit   int64 // 0: none
	window  time.Duration
	ban     time.Duration
}

// turn moves the counter on to a time. A clock that goes back changes nothing.
func (c *counter) turn(ms, window int64) {
	b := ms / window
	switch {
	case b <= c.bucket:
	case b == c.bucket+1:
		c.bucket, c.prev, c.now = b, c.now, 0
	default:
		c.bucket, c.prev, c.now = b, 0, 0
	}
}

// rate is what the window holds now.
func (c *counter) rate(ms, window int64) float64 {
	left := window - (ms - c.bucket*window)
	return c.now + c.prev*float64(min(max(left, 0), window))/float64(window)
}

// refuses says whether the entry's limit stands against the event.
func (c *counter) refuses(e *entry, ms int64) bool {
	if c.until > ms {
		return e.op != opForce
	}
	if e.limit <= 0 {
		return false
	}
	rate := c.rate(ms, e.window.Milliseconds())
	switch e.op {
	case opAdd:
		return rate+float64(e.amount) > float64(e.limit)
	case opPeek:
		return rate >= float64(e.limit)
	}
	return false
}

// add counts the event.
func (c *counter) add(e *entry, ms int64) {
	if e.op == opPeek {
		return
	}
	c.now += float64(e.amount)
	if e.op == opForce && e.ban > 0 && e.limit > 0 && c.rate(ms, e.window.Milliseconds()) >= float64(e.limit) {
		c.until = ms + e.ban.Milliseconds()
	}
}

// maxCounters bounds this process's counters. An attack from more places than
// this makes the oldest forget, which gives more room, never less.
const maxCounters = 100_000

// local counts in this process.
type local struct {
	mu       sync.Mutex // guards counters
	counters *simplelru.LRU[id, *counter]
}

// newLRU makes a map of bounded size: the entry not used for longest goes first.
// It is not safe for use by several goroutines; its owner's lock guards it.
func newLRU[K comparable, V any](most int) *simplelru.LRU[K, V] {
	l, err := simplelru.NewLRU[K, V](most, nil)
	if err != nil {
		panic(err) // A size below 1, and all sizes are constants.
	}
	return l
}

func newLocal() *local { return &local{counters: newLRU[id, *counter](maxCounters)} }

func (l *local) at(i id, e *entry, ms int64) *counter {
	c, ok := l.counters.Get(i)
	if !ok {
		c = &counter{}
	}
	c.turn(ms, e.window.Milliseconds())
	return c
}

// take counts an event with all its entries, or none of them and gives the
// index of the entry that refuses.
func (l *local) take(ids []id, entries []entry, ms int64) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range entries {
		if l.at(ids[i], &entries[i], ms).refuses(&entries[i], ms) {
			return i
		}
	}
	for i := range entries {
		e := &entries[i]
		if e.op == opPeek {
			continue // makes no entry for who only looks
		}
		c := l.at(ids[i], e, ms)
		c.add(e, ms)
		l.counters.Add(ids[i], c)
	}
	return -1
}

// undo takes an event back that Redis refused: who was refused did nothing.
func (l *local) undo(ids []id, entries []entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range entries {
		if c, ok := l.counters.Get(ids[i]); ok && entries[i].op == opAdd {
			c.now = max(0, c.now-float64(entries[i].amount))
		}
	}
}

func (l *local) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counters.Len()
}
