package sidecar

import (
	"container/list"
	"crypto/sha256"
	"time"

	"mailward/policy"
)

const (
	rememberMin  = 16 << 10 // bytes; what is smaller is matched about as fast as it is looked up
	rememberMost = 20_000
	rememberFor  = time.Hour
)

// memory is a [Matcher] that remembers which pieces no rule has hit: the same
// attachment comes in many mails. It lives as long as its worker, whose rules
// never change. What rules may ask about beside the bytes is part of the key;
// only Path is not, which no rule sees.
type memory struct {
	match Matcher
	now   func() time.Time
	order *list.List // of *clean, used last in front
	byKey map[pieceKey]*list.Element
}

type pieceKey struct {
	sum                              [sha256.Size]byte
	size                             int // of what is matched, which may be the head of the piece
	name, ext, contentType, trueType string
	depth                            int
	archived                         bool
}

type clean struct {
	key   pieceKey
	until time.Time
}

func newMemory(m Matcher, now func() time.Time) *memory {
	return &memory{match: m, now: now, order: list.New(), byKey: map[pieceKey]*list.Element{}}
}

// Match implements [Matcher].
func (m *memory) Match(data []byte, v Vars) ([]policy.Finding, error) {
	if len(data) < rememberMin || v.Sum == [sha256.Size]byte{} {
		return m.match.Match(data, v)
	}
	key := pieceKey{v.Sum, len(data), v.Name, v.Ext, v.ContentType, v.TrueType, v.Depth, v.Archived}
	if el, ok := m.byKey[key]; ok {
		if m.now().Before(el.Value.(*clean).until) {
			m.order.MoveToFront(el)
			return nil, nil
		}
		m.forget(el)
	}
	found, err := m.match.Match(data, v)
	if err == nil && len(found) == 0 {
		m.byKey[key] = m.order.PushFront(&clean{key, m.now().Add(rememberFor)})
		if m.order.Len() > rememberMost {
			m.forget(m.order.Back())
		}
	}
	return found, err
}

func (m *memory) forget(el *list.Element) {
	m.order.Remove(el)
	delete(m.byKey, el.Value.(*clean).key)
}
