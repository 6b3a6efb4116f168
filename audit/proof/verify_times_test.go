package proof

import (
	"strings"
	"testing"
	"time"
)

// TestTimes: a clock that was set back, hours without a word, and a time stamp that is
// older than what it covers are told, and no more often than somebody reads.
func TestTimes(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	v := &verifier{roots: map[uint64][]byte{3: nil}}
	for i, d := range []time.Duration{0, time.Minute, 0, time.Hour, 4 * time.Hour, time.Hour} {
		v.tell(BundleEvent{Seq: uint64(i), ID: "e", RecordedAt: at.Add(d)})
	}
	v.tell(BundleEvent{Seq: 9, ID: "e", RecordedAt: at.Add(9 * time.Hour)}) // what is between was deleted
	v.stamped(3, at.Add(time.Minute))
	v.stamped(3, at.Add(-time.Hour))
	want := []string{"nothing is on record for 3h0m0s before event e (number 4)", "number 5) was recorded 3h0m0s before", "event number 2 was recorded at 2026-11-28T12:00:00Z, and a time stamp has covered it at 2026-11-28T11:00:00Z"}
	if len(v.rep.Notices) != len(want) {
		t.Fatalf("%q", v.rep.Notices)
	}
	for i, w := range want {
		if !strings.Contains(v.rep.Notices[i], w) {
			t.Errorf("%q, want %q", v.rep.Notices[i], w)
		}
	}
	for range 100 {
		v.stamped(3, at.Add(-time.Hour))
	}
	if n := len(v.rep.Notices); n != toldTimes+1 {
		t.Errorf("%d notices", n)
	}
}
