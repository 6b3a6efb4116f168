package rule

import (
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Key says which alert of a rule: whose, and of which domain or component.
type Key struct {
	Workspace uuid.UUID // zero: the installation
	Subject   string    // "": all of them
}

// Bucket is what was measured in a stretch of time. Of latencies, each slot
// holds those of about one length.
type Bucket struct {
	At    time.Time // its begin
	Key   Key
	Slot  int
	Count int64
	Sum   float64
	Max   float64
}

// slotBase is how much longer the latencies of a slot are than those of the one
// before: a percentile is off by less than a tenth.
const slotBase = 1.1

// SlotOf is the slot of a latency in milliseconds.
func SlotOf(ms float64) int {
	if !(ms > 1) {
		return 0
	}
	return int(min(math.Ceil(math.Log(ms)/math.Log(slotBase)-1e-9), math.MaxInt16))
}

// slotTop is the longest latency of a slot.
func slotTop(slot int) float64 { return math.Pow(slotBase, float64(slot)) }

// Value makes one number of the buckets of one key; has is false where nothing
// was measured.
func Value(kind Kind, buckets []Bucket) (v float64, has bool) {
	switch kind {
	case Count:
		for _, b := range buckets {
			v += b.Sum
		}
		return v, len(buckets) > 0
	case Gauge:
		for i, b := range buckets {
			if i == 0 || b.Max > v {
				v = b.Max
			}
		}
		return v, len(buckets) > 0
	}
	return percentile(buckets)
}

func percentile(buckets []Bucket) (float64, bool) {
	slots, total := map[int]int64{}, int64(0)
	for _, b := range buckets {
		slots[b.Slot] += b.Count
		total += b.Count
	}
	if total == 0 {
		return 0, false
	}
	order := make([]int, 0, len(slots))
	for s := range slots {
		order = append(order, s)
	}
	slices.Sort(order)
	need, seen := int64(math.Ceil(float64(total)*0.95)), int64(0)
	for _, s := range order {
		if seen += slots[s]; seen >= need {
			return math.Round(slotTop(s)), true
		}
	}
	return 0, false
}

// median of a list; 0 of an empty one.
func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	l := slices.Clone(list)
	slices.Sort(l)
	if n := len(l); n%2 == 0 {
		return (l[n/2-1] + l[n/2]) / 2
	}
	return l[len(l)/2]
}

// minUsual is how many days have to be known before anything is called usual.
const minUsual = 7

// Usual is the median of the values that the hours have, scaled to a window. A
// day without a bucket in that hour counts as nothing happening, if the metric
// is a count and something measured then: that is what alive says.
func Usual(m Metric, window time.Duration, hours map[time.Time][]Bucket, alive []time.Time) (float64, bool) {
	var list []float64
	for _, h := range alive {
		v, has := Value(m.Kind, hours[h])
		if m.Kind == Count {
			list = append(list, v*window.Hours())
		} else if has {
			list = append(list, v)
		}
	}
	return median(list), len(list) >= minUsual
}
