package sidecar

import (
	"math/bits"
	"slices"
)

const (
	bufferMin  = 16 << 10 // bytes; smaller ones cost little
	bufferMost = 8 << 20  // bytes that a worker keeps between mails
)

// buffers are the large pieces of memory that a mail is decoded into. A worker
// uses them again for the next one: new ones have to be cleared and mapped first,
// which costs about as much as what is then put into them. Only one request at a
// time uses them.
type buffers struct {
	free, used [][]byte
}

// get returns n bytes of which nothing is known. They are the caller's until the
// mail is done with.
func (b *buffers) get(n int) []byte {
	if b == nil || n < bufferMin {
		return make([]byte, n)
	}
	class := 1 << bits.Len(uint(n-1)) // so that one mail's buffers fit the next one's parts
	i := slices.IndexFunc(b.free, func(f []byte) bool { return len(f) == class })
	if i < 0 {
		b.used = append(b.used, make([]byte, class))
	} else {
		b.used = append(b.used, b.free[i])
		b.free = slices.Delete(b.free, i, i+1)
	}
	return b.used[len(b.used)-1][:n:n]
}

// reset takes back what one mail has used. Nothing may point into it any more.
func (b *buffers) reset() {
	b.free = slices.Insert(b.free, 0, b.used...) // The newest first: they are kept.
	clear(b.used)
	b.used = b.used[:0]
	kept := 0
	b.free = slices.DeleteFunc(b.free, func(f []byte) bool {
		if kept+len(f) > bufferMost {
			return true
		}
		kept += len(f)
		return false
	})
}
