package dlp

import (
	"context"
	"fmt"
	"regexp"
	"slices"

	"mailward/policy"
)

// matcher is what the sets of one workspace look for, made ready. It is never
// changed.
type matcher struct {
	sets    []*compiled
	phrases map[uint64][]phrase // by the hash of the first word
	known   map[uint64][]int    // of fingerprints: hash -> indexes of documents
	docs    []document
	want    detectorMask
}

// compiled is a set with its patterns.
type compiled struct {
	Set
	index    int
	want     detectorMask
	patterns []*regexp.Regexp
}

// phrase is a keyword of a set.
type phrase struct {
	set, keyword int
	hashes       []uint64
}

// document is a fingerprint of a set.
type document struct {
	set int
	Fingerprint
}

// newMatcher makes sets ready. prints are those of the sets, with their hashes.
func newMatcher(sets []Set, prints []Fingerprint) (*matcher, error) {
	m := &matcher{phrases: map[uint64][]phrase{}, known: map[uint64][]int{}}
	for i, s := range sets {
		c := &compiled{Set: s, index: i}
		for _, d := range s.Rules.Detectors {
			if n := detectorIndex(d.Detector); n >= 0 {
				c.want |= 1 << n
			}
		}
		for _, p := range s.Rules.Patterns {
			re, err := compilePattern(p)
			if err != nil {
				return nil, fmt.Errorf("set %s: %w", s.Name, err)
			}
			c.patterns = append(c.patterns, re)
		}
		for n, k := range s.Rules.Keywords {
			list := words(normalise(k))
			if len(list) == 0 {
				continue
			}
			p := phrase{set: i, keyword: n}
			for _, w := range list {
				p.hashes = append(p.hashes, w.hash)
			}
			m.phrases[p.hashes[0]] = append(m.phrases[p.hashes[0]], p)
		}
		m.want |= c.want
		m.sets = append(m.sets, c)
	}
	for _, f := range prints {
		if i := slices.IndexFunc(sets, func(s Set) bool { return s.ID == f.Set }); i >= 0 {
			for _, h := range f.Hashes {
				m.known[h] = append(m.known[h], len(m.docs))
			}
			m.docs = append(m.docs, document{i, f})
		}
	}
	return m, nil
}

// text is one thing to look into.
type text struct {
	part, name string // path and file name of the part; part is "subject" for the subject
	text       string
}

const subjectPart = "subject"

// Bounds of one mail.
const (
	maxMailText = 4 << 20 // bytes of all texts that are looked into
	maxDistinct = maxMin  // values of one kind that are counted
	chunk       = 64 << 10
	overlap     = 1 << 10 // no match of a pattern is longer
)

// value is what one match is known by.
type value struct {
	confidence Confidence
	masked     string
	at         int // index of the text that it stands in first
}

// tally counts what differs, in the order in which it was found.
type tally struct {
	seen map[string]int
	list []value
}

func (t *tally) add(key, matched string, c Confidence, at int) {
	if i, ok := t.seen[key]; ok {
		t.list[i].confidence = max(t.list[i].confidence, c)
		return
	}
	if len(t.list) >= maxDistinct {
		return
	}
	if t.seen == nil {
		t.seen = map[string]int{}
	}
	t.seen[key] = len(t.list)
	t.list = append(t.list, value{c, mask(matched), at})
}

func (t *tally) count(least Confidence) (n int) {
	for _, v := range t.list {
		if v.confidence >= least {
			n++
		}
	}
	return n
}

// found is all that a mail holds of what a matcher looks for.
type found struct {
	texts     []text
	numbers   []tally // by detector
	keywords  []tally // by set
	patterns  []tally // by set
	similar   []similar
	truncated bool
}

// similar is a document that a mail has a part of.
type similar struct {
	doc     int
	percent int
	at      int // the text, or -1: the file itself
	part    string
	name    string
}

// look goes over all texts once. parts are those of the mail, for documents that
// are attached as they are. It ends early with ctx.
func (m *matcher) look(ctx context.Context, texts []text, parts []policy.Part) (*found, error) {
	f := &found{texts: texts, numbers: make([]tally, len(detectors)), keywords: make([]tally, len(m.sets)), patterns: make([]tally, len(m.sets))}
	hits := map[uint64]int{} // hashes of documents -> the text
	subject, left := "", maxMailText
	for i := range texts {
		if len(texts[i].text) > left {
			texts[i].text, f.truncated = texts[i].text[:left], true
		}
		left -= len(texts[i].text)
		s := normalise(texts[i].text)
		if texts[i].part == subjectPart {
			subject = fold(s)
		}
		m.numbersIn(s, subject, func(h hit) bool {
			f.numbers[h.detector].add(h.value, s[h.start:h.end], h.confidence, i)
			return true
		})
		if len(m.phrases)+len(m.known) > 0 {
			list := words(s)
			m.keywordsIn(list, func(p phrase, sp span) {
				f.keywords[p.set].add(fmt.Sprint(p.keyword), s[sp.start:sp.end], High, i)
			})
			if len(m.known) > 0 {
				winnow(list, func(h uint64) {
					if _, ok := m.known[h]; ok {
						hits[h] = i
					}
				})
			}
		}
		for _, c := range m.sets {
			if err := c.patternsIn(ctx, s, func(sp span) {
				f.patterns[c.index].add(s[sp.start:sp.end], s[sp.start:sp.end], High, i)
			}); err != nil {
				return nil, err
			}
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("look for what must not leave: %w", err)
		}
	}
	f.similar = m.compare(hits, parts)
	return f, nil
}

func (m *matcher) numbersIn(s, subject string, add func(hit) bool) {
	if m.want == 0 {
		return
	}
	scan := numberScan{text: s, subject: subject, want: m.want, found: add}
	scan.run()
}

// keywordsIn finds phrases of whole words.
func (m *matcher) keywordsIn(list []word, add func(phrase, span)) {
	if len(m.phrases) == 0 {
		return
	}
	for i, w := range list {
		for _, p := range m.phrases[w.hash] {
			if i+len(p.hashes) <= len(list) && follows(list[i:], p.hashes) {
				add(p, span{w.start, list[i+len(p.hashes)-1].end})
			}
		}
	}
}

func follows(list []word, hashes []uint64) bool {
	for i, h := range hashes {
		if list[i].hash != h {
			return false
		}
	}
	return true
}

// patternsIn finds matches of a set's patterns, in pieces, so that no pattern
// holds a mail up for longer than a piece takes.
func (c *compiled) patternsIn(ctx context.Context, s string, add func(span)) error {
	for _, re := range c.patterns {
		n := 0
		for at := 0; at < len(s) && n < maxDistinct; at += chunk {
			piece := s[at:min(len(s), at+chunk+overlap)]
			for _, m := range re.FindAllStringIndex(piece, maxDistinct) {
				if m[0] < chunk && m[1] > m[0] { // the rest is the next piece's
					add(span{at + m[0], at + m[1]})
					n++
				}
			}
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("patterns of the set %q took too long: %w", c.Name, err)
			}
		}
	}
	return nil
}

// compare says which documents are in the mail, and how much of each.
func (m *matcher) compare(hits map[uint64]int, parts []policy.Part) (list []similar) {
	count, where := make([]int, len(m.docs)), make([]int, len(m.docs))
	for h, at := range hits {
		for _, d := range m.known[h] {
			count[d]++
			where[d] = max(where[d], at)
		}
	}
	for i, d := range m.docs {
		sim := similar{doc: i, at: where[i]}
		if len(d.Hashes) > 0 {
			sim.percent = count[i] * 100 / len(d.Hashes)
		}
		if j := slices.IndexFunc(parts, func(p policy.Part) bool { return d.SHA256 != "" && p.SHA256 == d.SHA256 }); j >= 0 {
			sim.percent, sim.at, sim.part, sim.name = 100, -1, parts[j].Path, parts[j].Name
		}
		if sim.percent >= m.sets[d.set].Rules.Similarity {
			list = append(list, sim)
		}
	}
	return list
}
