package scanner

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// slots bounds how many mails are scanned at a time. First come, first served,
// with about as many at a time as there are processors: each is done sooner
// than if all of them shared the processors, and a big mail waits no longer
// than a small one.
//
// A scan that takes long leaves its slot to the next mail, so that a few hostile
// mails, or an engine that hangs, do not hold up the rest. How many are under
// way, with those, is bounded too.
type slots struct {
	free, all chan struct{} // filled by who has one
	patience  time.Duration
}

const (
	// slotsMost is how many mails are scanned at a time, the slow ones included.
	// clamd has as many threads.
	slotsMost = 8
	// slotPatience is how long a mail keeps its slot. The scan of 5 MB takes about
	// a third of a second.
	slotPatience = 2 * time.Second
)

// defaultSlots is one more than the processors, since a mail also waits for
// other processes.
func defaultSlots() int { return min(max(runtime.NumCPU()+1, 3), slotsMost) }

func newSlots(n int, patience time.Duration) *slots {
	return &slots{free: make(chan struct{}, n), all: make(chan struct{}, max(n, slotsMost)), patience: patience}
}

// take waits for a slot until ctx ends. Whoever gets one calls release.
func (s *slots) take(ctx context.Context) (release func(), ok bool) {
	for _, c := range []chan struct{}{s.all, s.free} {
		select {
		case c <- struct{}{}:
		case <-ctx.Done():
			if c == s.free {
				<-s.all
			}
			return nil, false
		}
	}
	leave := sync.OnceFunc(func() { <-s.free })
	slow := time.AfterFunc(s.patience, leave)
	return func() {
		slow.Stop()
		leave()
		<-s.all
	}, true
}
