package sidecar

import (
	"crypto/sha256"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"mailward/policy"
	"mailward/scanner/content"
)

const (
	rememberMin   = 16 << 10 // bytes; what is smaller is looked at about as fast as it is looked up
	rememberMost  = 20_000   // pieces
	rememberParts = 50_000   // of all of them, which are some 300 bytes each
	rememberText  = 16 << 20 // bytes of what all of them say
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
	text   int // bytes of what all pieces say
}

// pieceKey is all that the look into a piece depends on: its bytes, and what
// rules may ask about it.
type pieceKey struct {
	sum               [sha256.Size]byte
	name, contentType string
	charset           string
	depth, archives   int
}

// clean is what the look into a piece left behind.
type clean struct {
	kind   string
	inside []policy.Part // their paths without the piece's own
	files  int           // unpacked
	total  int64         // bytes of those
	said   content.Content
	text   int // bytes of what is said
	until  time.Time
}

func newMemory(now func() time.Time) *memory {
	m := &memory{now: now}
	m.pieces, _ = simplelru.NewLRU(rememberMost, func(_ pieceKey, c *clean) { m.parts, m.text = m.parts-len(c.inside), m.text-c.text }) // the size is no mistake
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
	if m == nil || size < rememberMin || len(c.inside) > rememberParts/10 || c.text > rememberText/50 {
		return
	}
	m.pieces.Remove(key)
	c.until = m.now().Add(rememberFor)
	m.parts, m.text = m.parts+len(c.inside), m.text+c.text
	m.pieces.Add(key, &c)
	for m.parts > rememberParts || m.text > rememberText {
		m.pieces.RemoveOldest()
	}
}

// mark is how far a walk has come.
type mark struct {
	findings, limits, parts, files, extra, oddities, entities int
	total                                                     int64
	texts, links, forms, hands                                int
}

func (w *walker) mark() mark {
	return mark{len(w.resp.Findings), len(w.resp.Limits), len(w.resp.Parts), w.files, w.extra, w.oddities, w.parts, w.total, len(w.said.Texts), len(w.said.Links), len(w.said.Forms), w.hands}
}

// since is what the look into a piece at path left behind since m; false: there
// is more to it than can be remembered.
func (w *walker) since(m mark, path, kind string) (clean, bool) {
	if len(w.resp.Findings) != m.findings || len(w.resp.Limits) != m.limits || w.extra != m.extra || w.oddities != m.oddities || w.parts != m.entities || len(w.resp.Parts) >= w.lim.Parts || w.said.Truncated || w.unseen || w.hands != m.hands {
		return clean{}, false
	}
	said, text := w.said.since(m, path)
	inside := slices.Clone(w.resp.Parts[m.parts:])
	for i := range inside {
		inside[i].Path = strings.TrimPrefix(inside[i].Path, path)
	}
	return clean{kind: kind, inside: inside, files: w.files - m.files, total: w.total - m.total, said: said, text: text}, true
}

// since is what was said since m, with paths from the piece at path on, and its
// size in bytes.
func (c *collector) since(m mark, path string) (said content.Content, size int) {
	said = content.Content{Texts: slices.Clone(c.Texts[m.texts:]), Links: slices.Clone(c.Links[m.links:]), Forms: slices.Clone(c.Forms[m.forms:])}
	for i := range said.Texts {
		t := &said.Texts[i]
		t.Part = strings.TrimPrefix(t.Part, path)
		size += len(t.Text) + len(t.Hidden) + 100
	}
	for i := range said.Links {
		l := &said.Links[i]
		l.Part = strings.TrimPrefix(l.Part, path)
		size += len(l.Target) + len(l.Text) + 100
	}
	for i := range said.Forms {
		f := &said.Forms[i]
		f.Part = strings.TrimPrefix(f.Part, path)
		size += len(f.Action) + 100*len(f.Inputs) + 100
	}
	return said, size
}

// again says what a known piece at path says.
func (c *collector) again(said content.Content, path string) {
	for _, t := range said.Texts {
		t.Part = path + t.Part
		c.add(t)
	}
	for _, l := range said.Links {
		l.Part = path + l.Part
		c.link(l)
	}
	for _, f := range said.Forms {
		f.Part = path + f.Part
		c.form(f)
	}
}

// again books a piece that is known, as if it had been looked into.
func (w *walker) again(c *clean, path string) error {
	w.said.again(c.said, path)
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
