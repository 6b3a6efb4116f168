package document

import (
	"bytes"
	"encoding/binary"
	"strings"
	"unicode/utf16"
)

// cfbMagic starts a compound file (MS-CFB §2.2).
var cfbMagic = []byte("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")

// Bounds of a compound file. A stream may be as long as the file, but all of
// them together no longer than that twice: only streams that share their
// sectors are, which no program writes.
const (
	maxCFBEntries = 20_000
	cfbEnd        = 0xfffffffa // from here on a sector number is none
)

// compound is a compound file. It is read as far as it goes: a chain that is
// broken ends there, an entry that no other one names is still one.
type compound struct {
	data    []byte
	sector  int
	fat     []uint32
	mini    []uint32
	ministr []byte
	entries []cfbEntry
	read    int // bytes of all streams so far
}

// cfbEntry is a storage or a stream.
type cfbEntry struct {
	Name    string
	Storage bool
	CLSID   [16]byte
	parent  int // entry of its storage; 0 is the root, also of those that nobody names
	start   uint32
	size    uint64
	left    uint32
	right   uint32
	child   uint32
}

// parseCFB reads header, tables and directory; false: there are none.
func parseCFB(data []byte) (*compound, bool) {
	if len(data) < 512 || !bytes.HasPrefix(data, cfbMagic) {
		return nil, false
	}
	c := &compound{data: data, sector: 512}
	if shift := binary.LittleEndian.Uint16(data[30:]); shift == 12 {
		c.sector = 4096
	}
	c.readFAT()
	dir := c.chain(binary.LittleEndian.Uint32(data[48:]), len(data))
	for n := 0; len(dir) >= 128 && n < maxCFBEntries; n++ {
		c.entries = append(c.entries, parseCFBEntry(dir[:128], c.sector == 512))
		dir = dir[128:]
	}
	if len(c.entries) == 0 {
		return nil, false
	}
	c.findParents()
	minifat := c.chain(binary.LittleEndian.Uint32(data[60:]), len(data))
	for ; len(minifat) >= 4; minifat = minifat[4:] {
		c.mini = append(c.mini, binary.LittleEndian.Uint32(minifat))
	}
	c.ministr = c.chain(c.entries[0].start, len(data))
	return c, true
}

func (c *compound) at(sector uint32) []byte {
	if sector >= cfbEnd {
		return nil
	}
	off := (int(sector) + 1) * c.sector
	if off >= len(c.data) {
		return nil
	}
	return c.data[off:min(off+c.sector, len(c.data))]
}

// readFAT follows the header and the DIFAT chain. There cannot be more sectors
// of the table than the file has, so that a ring ends.
func (c *compound) readFAT() {
	most := len(c.data)/c.sector + 1
	add := func(sector uint32) {
		s := c.at(sector)
		for ; len(s) >= 4 && len(c.fat) < most+c.sector; s = s[4:] {
			c.fat = append(c.fat, binary.LittleEndian.Uint32(s))
		}
	}
	for i := 76; i < 512; i += 4 {
		add(binary.LittleEndian.Uint32(c.data[i:]))
	}
	next := binary.LittleEndian.Uint32(c.data[68:])
	for n := 0; n < most; n++ {
		s := c.at(next)
		if len(s) < c.sector {
			return
		}
		for i := 0; i+8 <= len(s); i += 4 {
			add(binary.LittleEndian.Uint32(s[i:]))
		}
		next = binary.LittleEndian.Uint32(s[len(s)-4:])
	}
}

// chain joins the sectors from start on, at most size bytes of them.
func (c *compound) chain(start uint32, size int) []byte {
	var out []byte
	for n := 0; len(out) < size && n <= len(c.data)/c.sector; n++ {
		s := c.at(start)
		if s == nil {
			break
		}
		out = append(out, s...)
		if int(start) >= len(c.fat) {
			break
		}
		start = c.fat[start]
	}
	return out[:min(len(out), size)]
}

func parseCFBEntry(b []byte, short bool) cfbEntry {
	n := min(int(binary.LittleEndian.Uint16(b[64:])), 64)
	e := cfbEntry{
		Name: utf16String(b[:max(0, n-2)]), Storage: b[66] == 1 || b[66] == 5,
		left: binary.LittleEndian.Uint32(b[68:]), right: binary.LittleEndian.Uint32(b[72:]), child: binary.LittleEndian.Uint32(b[76:]),
		start: binary.LittleEndian.Uint32(b[116:]), size: binary.LittleEndian.Uint64(b[120:]),
	}
	copy(e.CLSID[:], b[80:96])
	if b[66] == 0 {
		e.size, e.Name = 0, ""
	}
	if short {
		e.size &= 0xffffffff // MS-CFB §2.6.3: the upper half may be anything
	}
	return e
}

// findParents walks the trees of siblings, each entry once.
func (c *compound) findParents() {
	seen := make([]bool, len(c.entries))
	seen[0] = true
	type step struct {
		entry  uint32
		parent int
	}
	todo := []step{{c.entries[0].child, 0}}
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if uint64(s.entry) >= uint64(len(c.entries)) || seen[s.entry] {
			continue
		}
		seen[s.entry] = true
		e := &c.entries[s.entry]
		e.parent = s.parent
		todo = append(todo, step{e.left, s.parent}, step{e.right, s.parent})
		if e.Storage {
			todo = append(todo, step{e.child, int(s.entry)})
		}
	}
}

// stream reads the bytes of entry n, as far as they are there; false: all
// streams together are longer than the file can be.
func (c *compound) stream(n int) ([]byte, bool) {
	e := c.entries[n]
	if e.Storage || e.size == 0 {
		return nil, true
	}
	size := int(min(e.size, uint64(len(c.data))))
	var b []byte
	if e.size >= 4096 {
		b = c.chain(e.start, size)
	} else {
		b = c.miniChain(e.start, size)
	}
	c.read += len(b)
	return b, c.read <= 2*len(c.data)+1<<20
}

func (c *compound) miniChain(start uint32, size int) []byte {
	var out []byte
	for n := 0; len(out) < size && n < 64; n++ { // a stream of under 4,096 bytes in pieces of 64
		off := int(start) * 64
		if start >= cfbEnd || off >= len(c.ministr) {
			break
		}
		out = append(out, c.ministr[off:min(off+64, len(c.ministr))]...)
		if int(start) >= len(c.mini) {
			break
		}
		start = c.mini[start]
	}
	return out[:min(len(out), size)]
}

// path is the storages above entry n, joined with slashes, in lower case.
func (c *compound) path(n int) string {
	var up []string
	for p := c.entries[n].parent; p > 0 && len(up) < 20; p = c.entries[p].parent {
		up = append([]string{c.entries[p].Name}, up...)
	}
	return strings.ToLower(strings.Join(up, "/"))
}

// find is the first stream of a name in the root, in any case; -1: none.
func (c *compound) find(name string) int {
	for i, e := range c.entries {
		if i > 0 && !e.Storage && e.parent == 0 && strings.EqualFold(e.Name, name) {
			return i
		}
	}
	return -1
}

// utf16String reads UTF-16LE up to its end.
func utf16String(b []byte) string {
	u := make([]uint16, 0, len(b)/2)
	for ; len(b) >= 2; b = b[2:] {
		u = append(u, binary.LittleEndian.Uint16(b))
	}
	return string(utf16.Decode(u))
}
