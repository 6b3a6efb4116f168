package intel

import "sync/atomic"

// filter says of a key that it is not stored, or that it may be: a Bloom filter.
// Keys are parts of digests, so their bits are as good as any hash of them.
type filter struct {
	words []atomic.Uint64 // a power of two
	keys  int             // how many it was made for
	held  atomic.Int64    // how many were added, repeated ones too
}

const (
	filterProbes  = 6
	filterBitsKey = 16      // for each key: one of 15,000 that are not stored is asked of the database
	filterMinBits = 1 << 20 // 128 KiB
	filterMaxBits = 1 << 30 // 128 MiB, at 60 million keys
)

func newFilter(keys int) *filter {
	bits := filterMinBits
	for bits < keys*filterBitsKey && bits < filterMaxBits {
		bits <<= 1
	}
	return &filter{words: make([]atomic.Uint64, bits/64), keys: bits / filterBitsKey}
}

func (f *filter) add(key int64) {
	h, step := uint64(key), uint64(key)>>32|1
	mask := uint64(len(f.words)*64 - 1)
	for range filterProbes {
		f.words[h&mask/64].Or(1 << (h & 63))
		h += step
	}
	f.held.Add(1)
}

func (f *filter) has(key int64) bool {
	h, step := uint64(key), uint64(key)>>32|1
	mask := uint64(len(f.words)*64 - 1)
	for range filterProbes {
		if f.words[h&mask/64].Load()&(1<<(h&63)) == 0 {
			return false
		}
		h += step
	}
	return true
}

// full says that it has too many keys to tell much.
func (f *filter) full() bool { return f.held.Load() > int64(f.keys) && len(f.words)*64 < filterMaxBits }
