package scanner

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	verdictKept = time.Hour
	verdictMost = 50_000
	// settle is how long after a change of the signatures nothing is remembered:
	// clamd looks for new ones every 10 minutes (SelfCheck), so a verdict may still
	// be the old ones'.
	settle = 15 * time.Minute
	// lookEvery bounds how often the signatures' files are looked at.
	lookEvery = time.Second
)

// verdicts remembers which bytes an engine has called clean, with which
// signatures. Only complete, clean verdicts are kept: a hit is always looked at
// anew. The signatures are known by their files, since a clamd's version line
// does not change with a local database.
type verdicts struct {
	dir string // of the signatures; "": they are not known, so nothing is remembered
	now func() time.Time

	mu      sync.Mutex // guards all below
	print   string     // of the signatures' files
	looked  time.Time
	changed time.Time
	until   *simplelru.LRU[[sha256.Size]byte, time.Time]
}

func newVerdicts(dir string, now func() time.Time) *verdicts {
	until, _ := simplelru.NewLRU[[sha256.Size]byte, time.Time](verdictMost, nil) // the size is no mistake
	return &verdicts{dir: dir, now: now, until: until}
}

// key is the name of some bytes under today's signatures; false: they are not known.
func (v *verdicts) key(sum [sha256.Size]byte, mode string) (key [sha256.Size]byte, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	print := v.fingerprint()
	if print == "" {
		return key, false
	}
	return sha256.Sum256(fmt.Appendf(nil, "%x %s %s", sum, mode, print)), true
}

// clean says whether the bytes behind a key were called clean within the hour.
func (v *verdicts) clean(key [sha256.Size]byte) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	until, ok := v.until.Get(key)
	if ok && v.now().After(until) {
		v.until.Remove(key)
		return false
	}
	return ok
}

// remember notes a clean verdict, unless the signatures have changed lately or
// since the key was made.
func (v *verdicts) remember(key [sha256.Size]byte, sum [sha256.Size]byte, mode string) {
	if again, ok := v.key(sum, mode); !ok || again != key {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.now().Sub(v.changed) < settle {
		return
	}
	v.until.Add(key, v.now().Add(verdictKept))
}

// fingerprint is what the signatures' files look like. v.mu is held.
func (v *verdicts) fingerprint() string {
	if v.dir == "" {
		return ""
	}
	now := v.now()
	if !v.looked.IsZero() && now.Sub(v.looked) < lookEvery {
		return v.print
	}
	files, err := os.ReadDir(v.dir)
	var lines []string
	var newest time.Time
	for _, f := range files {
		st, serr := os.Stat(filepath.Join(v.dir, f.Name()))
		if serr != nil {
			err = serr
			break
		}
		if st.ModTime().After(newest) {
			newest = st.ModTime()
		}
		lines = append(lines, fmt.Sprintf("%s %d %d", f.Name(), st.Size(), st.ModTime().UnixNano()))
	}
	slices.Sort(lines)
	print := strings.Join(lines, "\n")
	if err != nil {
		print = ""
	}
	switch {
	case v.looked.IsZero():
		v.changed = newest // Whoever changed them may have done so just now.
	case print != v.print:
		v.changed = now
	}
	v.print, v.looked = print, now
	return print
}
