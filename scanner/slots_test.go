package scanner

import (
	"context"
	"testing"
	"time"
)

func TestSlots(t *testing.T) {
	t.Parallel()
	now, cancel := context.WithCancel(context.Background())
	cancel()
	take := func(s *slots) (func(), bool) { // a free one wins over an ended context only by chance
		for range 100 {
			if release, ok := s.take(now); ok {
				return release, true
			}
		}
		return nil, false
	}

	s := newSlots(2, time.Hour)
	one, ok := take(s)
	if !ok {
		t.Fatal("the first slot is taken")
	}
	if _, ok := take(s); !ok {
		t.Fatal("the second slot is taken")
	}
	if _, ok := take(s); ok {
		t.Fatal("there are three of two slots")
	}
	one()
	if _, ok := take(s); !ok {
		t.Fatal("a slot that was given back is not free")
	}

	// Slow mails leave their slots, up to a bound, and give nothing back twice.
	s = newSlots(2, time.Nanosecond)
	wait, stop := context.WithTimeout(context.Background(), 20*time.Second)
	defer stop()
	var releases []func()
	for i := range slotsMost {
		release, ok := s.take(wait)
		if !ok {
			t.Fatalf("mail %d waits for slow ones", i)
		}
		releases = append(releases, release)
	}
	if _, ok := take(s); ok {
		t.Fatal("there is no bound to slow mails")
	}
	for _, r := range releases {
		r()
	}
	if len(s.free) != 0 || len(s.all) != 0 {
		t.Errorf("%d and %d slots are never given back", len(s.free), len(s.all))
	}
}
