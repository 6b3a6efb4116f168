package limit

import "container/list"

// lru is a map of bounded size: the entry not used for longest goes first. It
// is not safe for use by several goroutines; its owner's lock guards it.
type lru[K comparable, V any] struct {
	most  int
	order list.List // of *pair[K, V], the last used in front
	items map[K]*list.Element
}

type pair[K comparable, V any] struct {
	key   K
	value V
}

func newLRU[K comparable, V any](most int) *lru[K, V] {
	return &lru[K, V]{most: most, items: map[K]*list.Element{}}
}

// get finds an entry and marks it as used.
func (l *lru[K, V]) get(k K) (V, bool) {
	e, ok := l.items[k]
	if !ok {
		var zero V
		return zero, false
	}
	l.order.MoveToFront(e)
	return e.Value.(*pair[K, V]).value, true
}

// put stores an entry, in the place of the oldest where there is no room.
func (l *lru[K, V]) put(k K, v V) {
	if e, ok := l.items[k]; ok {
		e.Value.(*pair[K, V]).value = v
		l.order.MoveToFront(e)
		return
	}
	for len(l.items) >= l.most {
		last := l.order.Back()
		delete(l.items, l.order.Remove(last).(*pair[K, V]).key)
	}
	l.items[k] = l.order.PushFront(&pair[K, V]{k, v})
}

func (l *lru[K, V]) remove(k K) {
	if e, ok := l.items[k]; ok {
		l.order.Remove(e)
		delete(l.items, k)
	}
}

// oldest is the entry not used for longest.
func (l *lru[K, V]) oldest() (k K, v V, ok bool) {
	e := l.order.Back()
	if e == nil {
		return k, v, false
	}
	p := e.Value.(*pair[K, V])
	return p.key, p.value, true
}

func (l *lru[K, V]) len() int { return len(l.items) }
