package dlp

import (
	"slices"
	"strings"
)

// Confidence is how sure it is that a number is what it looks like.
type Confidence int

// Low: shape and check digits fit, as they do for some numbers of any kind.
// Medium: the shape itself says much. High: it is written as people write it,
// or a word beside it says what it is, or there are several check digits.
const (
	Low Confidence = iota + 1
	Medium
	High
)

func (c Confidence) String() string {
	return [...]string{"", "low", "medium", "high"}[c]
}

// form is one way to write a number: how many letters and digits stand together
// before the next separator, which is the same throughout.
type form struct {
	groups     []int
	confidence Confidence
}

func bare(n int, c Confidence) form { return form{[]int{n}, c} }

func grouped(c Confidence, groups ...int) form { return form{groups, c} }

// Detector finds numbers of one kind.
type Detector struct {
	Name  string // card, iban, de.tax_id, ...
	Label string // what one is, for people
	Many  string // what several are
	// context are folded words that, beside a number or in the subject, say what it is.
	context []string
	begins  byte // class of the first character; other: any
	forms   []form
	valid   func(v string) bool
	lines   bool // machine readable lines, which have a reader of their own
}

// hit is one number in a text.
type hit struct {
	detector   int // index into detectors
	value      string
	start, end int
	confidence Confidence
}

// entry is a form of a detector, found by the length of its first group.
type entry struct {
	detector int
	form
}

// longest is the longest run of letters and digits that may begin a number.
const longest = 34

// numberTable finds the forms that a run of letters and digits may begin.
type numberTable [longest + 1][]entry

var detectors = allDetectors()

var formsByLength = indexForms(detectors)

func indexForms(list []Detector) (t numberTable) {
	for i, d := range list {
		for _, f := range d.forms {
			t[f.groups[0]] = append(t[f.groups[0]], entry{i, f})
		}
	}
	return t
}

// Detectors lists all detectors there are.
func Detectors() []Detector { return slices.Clone(detectors) }

func detectorIndex(name string) int {
	return slices.IndexFunc(detectors, func(d Detector) bool { return d.Name == name })
}

// detectorMask is a set of detectors, by index.
type detectorMask uint32

func (m detectorMask) has(i int) bool { return m&(1<<i) != 0 }

const allMask = ^detectorMask(0)

// numberScan looks for numbers in one normalised text.
type numberScan struct {
	text    string
	subject string // of the mail, folded: it is context for all of it
	want    detectorMask
	found   func(hit) bool // false: enough
	lastEnd [32]int        // by detector: where its last hit ended
}

// run reports every number. It goes over the text once.
func (n *numberScan) run() {
	s := n.text
	for i := 0; i < len(s); {
		if byteClass[s[i]] == other {
			i++
			continue
		}
		start, digits := i, 0
		for i < len(s) && byteClass[s[i]] != other {
			if byteClass[s[i]] == digit {
				digits++
			}
			i++
		}
		if digits == 0 && i-start > 1 || i-start > longest { // X-2482300-W begins with one letter
			continue
		}
		for _, e := range formsByLength[i-start] {
			if b := detectors[e.detector].begins; !n.want.has(e.detector) || b != other && b != byteClass[s[start]] {
				continue
			}
			if h, ok := n.match(e, start); ok && !n.found(h) {
				return
			}
		}
	}
	n.machineReadable()
}

// match tries one form at the beginning of a run.
func (n *numberScan) match(e entry, start int) (hit, bool) {
	d := &detectors[e.detector]
	var buf [2 * longest]byte
	value, end, sep, ok := readGroups(n.text, start, e.groups, buf[:0])
	if !ok || !d.valid(string(value)) || !n.standsAlone(e, start, end, sep) || n.inAddress(start, end) {
		return hit{}, false
	}
	n.lastEnd[e.detector] = end
	return hit{e.detector, string(value), start, end, n.confidence(d, e.confidence, start, end)}, true
}

// separators may stand between the groups of a number.
const separators = " -./"

// readGroups reads groups of letters and digits of the given lengths, with one
// and the same separator between them.
func readGroups(s string, start int, groups []int, value []byte) (_ []byte, end int, sep byte, ok bool) {
	at := start
	for i, size := range groups {
		if i > 0 {
			if at >= len(s) || !strings.Contains(separators, s[at:at+1]) || sep != 0 && s[at] != sep {
				return nil, 0, 0, false
			}
			sep = s[at]
			at++
		}
		if at+size > len(s) || at+size < len(s) && byteClass[s[at+size]] != other {
			return nil, 0, 0, false
		}
		for _, c := range []byte(s[at : at+size]) {
			if c >= 'a' && c <= 'z' {
				c -= 0x20
			}
			if byteClass[c] == other || c >= 0x80 {
				return nil, 0, 0, false
			}
			value = append(value, c)
		}
		at += size
	}
	return value, at, sep, true
}

// standsAlone says that a number is no piece of a longer one: no decimal, no
// phone number, no part of a serial number, no cells of a table of numbers.
func (n *numberScan) standsAlone(e entry, start, end int, sep byte) bool {
	s := n.text
	if start > 0 && s[start-1] == '+' {
		return false
	}
	if start > 1 && (s[start-1] == '-' || s[start-1] == '.') && byteClass[s[start-2]] == digit {
		return false
	}
	if end+1 < len(s) && (s[end] == '-' || s[end] == '.') && byteClass[s[end+1]] == digit {
		return false
	}
	if len(e.groups) == 1 {
		return true
	}
	if e.confidence == Low && (start > 1 && s[start-1] == sep && byteClass[s[start-2]] == digit || end+1 < len(s) && s[end] == sep && byteClass[s[end+1]] == digit) {
		return false
	}
	// More groups of the same length follow or come before: that is a row of
	// numbers, unless the row is one valid number after the other.
	first, last := e.groups[0], e.groups[len(e.groups)-1]
	if start > first && s[start-1] == sep && start-1 != n.lastEnd[e.detector] && groupAt(s, start-1-first, start-1) {
		return false
	}
	if end < len(s) && s[end] == sep && groupAt(s, end+1, end+1+last) {
		var buf [2 * longest]byte
		next, _, _, ok := readGroups(s, end+1, e.groups, buf[:0])
		return ok && detectors[e.detector].valid(string(next))
	}
	return true
}

// groupAt says whether exactly these bytes are a group of digits.
func groupAt(s string, start, end int) bool {
	return start >= 0 && end <= len(s) && allDigits(s[start:end]) &&
		(start == 0 || byteClass[s[start-1]] == other) && (end == len(s) || byteClass[s[end]] == other)
}

// addressLook is how far the ends of an address are looked for.
const addressLook = 512

// inAddress says whether a number stands in a URL, a mail address or a
// Message-ID, where numbers of every kind occur.
func (n *numberScan) inAddress(start, end int) bool {
	const ends = " \t\r\n<>\"'()[]{},;|"
	from, to := start, end
	for from > 0 && start-from < addressLook && strings.IndexByte(ends, n.text[from-1]) < 0 {
		from--
	}
	for to < len(n.text) && to-end < addressLook && strings.IndexByte(ends, n.text[to]) < 0 {
		to++
	}
	around := n.text[from:to]
	return strings.IndexByte(around, '@') >= 0 || strings.Contains(around, "://") || len(around) > 4 && strings.EqualFold(around[:4], "www.")
}

// How far from a number a word is that speaks of it, in bytes.
const (
	contextBefore = 80
	contextAfter  = 30
)

// confidence of a number, with the words around it.
func (n *numberScan) confidence(d *Detector, c Confidence, start, end int) Confidence {
	if c == High {
		return c
	}
	near := fold(n.text[max(0, start-contextBefore):start]) + " " + fold(n.text[end:min(len(n.text), end+contextAfter)])
	for _, w := range d.context {
		if hasWord(near, w) || hasWord(n.subject, w) {
			return High
		}
	}
	return c
}

// hasWord finds a word, or the beginning of one: Kreditkartennummern counts for
// kreditkarte. A short one counts only whole.
func hasWord(s, w string) bool {
	for at := 0; ; {
		i := strings.Index(s[at:], w)
		if i < 0 {
			return false
		}
		i += at
		end := i + len(w)
		if (i == 0 || byteClass[s[i-1]] == other) && (len(w) > 4 || end == len(s) || byteClass[s[end]] == other) {
			return true
		}
		at = i + 1
	}
}
