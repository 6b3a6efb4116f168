package sidecar

import (
	"crypto/sha256"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"mailward/policy"
)

const (
	rememberMin   = 16 << 10 // bytes; what is smaller is looked at about as fast as it is looked up
	rememberMost  = 20_000   // pieces
	rememberParts = 50_000   // of all of them, which are some 300 bytes each
	rememberFor   = time.Hour
)

// memory remembers the pieces in which nothing was found, with what is in them:
// the same attachment comes in many mails, and is then not opened again. It
// lives as long as its worker, whose rules and limits never change. Only one
// request at a time uses it.
type memory struct {
	now    func() time.Time
	pieces *simplelru.LRU[pieceKey, *clean]
	parts  int // of all pieces
}

// pieceKey is all that the look into a piece depends on: its bytes, and what
// rules may ask about it.
type pieceKey struct {
	sum               [sha256.Size]byte
	name, contentType string
	depth, archives   int
}

// clean is what the look into a piece left behind.
type clean struct {
	kind   string
	inside []policy.Part // their paths without the piece's own
	files  int           // unpacked
	total  int64         // bytes of those
	until  time.Time
}

func newMemory(now func() time.Time) *memory {
	m := &memory{now: now}
	m.pieces, _ = simplelru.NewLRU(rememberMost, func(_ pieceKey, c *clean) { m.parts -= len(c.inside) }) // the size is no mistake
	return m
}

func (m *memory) recall(key pieceKey, size int) (*clean, bool) {
	if m == nil || size < rememberMin {
		return nil, false
	}
	c, ok := m.pieces.Get(key)
	if ok && !m.now().Before(c.until) {
		m.pieces.Remove(key)
		return nil, false
	}
	return c, ok
}

func (m *memory) remember(key pieceKey, size int, c clean) {
	if m == nil || size < rememberMin || len(c.inside) > rememberParts/10 {
		return
	}
	m.pieces.Remove(key)
	c.until = m.now().Add(rememberFor)
	m.parts += len(c.inside)
	m.pieces.Add(key, &c)
	for m.parts > rememberParts {
		m.pieces.RemoveOldest()
	}
}

// mark is how far a walk has come.
type mark struct {
	findings, limits, parts, files, extra int
	total                                 int64
}

func (w *walker) mark() mark {
	return mark{len(w.resp.Findings), len(w.resp.Limits), len(w.resp.Parts), w.files, w.extra, w.total}
}

// since is what the look into a piece at path left behind since m; false: there
// is more to it than can be remembered.
func (w *walker) since(m mark, path, kind string) (clean, bool) {
	if len(w.resp.Findings) != m.findings || len(w.resp.Limits) != m.limits || w.extra != m.extra || len(w.resp.Parts) >= w.lim.Parts {
		return clean{}, false
	}
	inside := slices.Clone(w.resp.Parts[m.parts:])
	for i := range inside {
		inside[i].Path = strings.TrimPrefix(inside[i].Path, path)
	}
	return clean{kind: kind, inside: inside, files: w.files - m.files, total: w.total - m.total}, true
}

// again books a piece that is known, as if it had been looked into.
func (w *walker) again(c *clean, path string) error {
	for _, part := range c.inside {
		if len(w.resp.Parts) >= w.lim.Parts {
			break
		}
		part.Path = path + part.Path
		w.resp.Parts = append(w.resp.Parts, part)
	}
	if w.files += c.files; w.files > w.lim.Files {
		return errFilesLimit
	}
	if w.total += c.total; w.total > w.lim.TotalBytes {
		return errTotalLimit
	}
	return nil
}
