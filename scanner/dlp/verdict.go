package dlp

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"mailward/policy"
)

// EngineName is the engine of this package's findings.
const EngineName = policy.DLPEngine

// Match is one rule of a set that a mail meets.
type Match struct {
	Kind    string   `json:"kind"` // name of a detector, or keyword, pattern, document
	Text    string   `json:"text"` // 2 card numbers
	Count   int      `json:"count"`
	Samples []string `json:"samples,omitempty"` // masked, a few
	at      int
	part    string
	name    string
}

// maxSamples bounds how many matches a finding shows.
const maxSamples = 3

// matches are the rules of a set that are met; false where the set as a whole is not.
func (m *matcher) matches(c *compiled, f *found) (list []Match, met bool) {
	rules := 0
	add := func(ok bool, one Match) {
		if rules++; ok {
			list = append(list, one)
		}
	}
	for _, r := range c.Rules.Detectors {
		i := detectorIndex(r.Detector)
		if i < 0 {
			rules++ // a detector of a later version: it is never met
			continue
		}
		one, ok := numberMatch(r, i, &f.numbers[i])
		add(ok, one)
	}
	if len(c.Rules.Keywords) > 0 {
		t := &f.keywords[c.index]
		add(len(t.list) >= c.Rules.KeywordN, t.match("keyword", "keyword", "keywords", Low))
	}
	if len(c.patterns) > 0 {
		t := &f.patterns[c.index]
		add(len(t.list) >= c.Rules.PatternN, t.match("pattern", "match of a pattern", "matches of patterns", Low))
	}
	if slices.ContainsFunc(m.docs, func(d document) bool { return d.set == c.index }) {
		one := Match{Kind: "document"}
		for _, s := range f.similar {
			if d := m.docs[s.doc]; d.set == c.index {
				one.add(d, s)
			}
		}
		add(one.Count > 0, one)
	}
	return list, len(list) > 0 && (!c.Rules.All || len(list) == rules)
}

// numberMatch says whether there are enough numbers of a kind, by the surest
// rule that is met.
func numberMatch(r DetectorRule, detector int, t *tally) (Match, bool) {
	d := detectors[detector]
	for _, c := range []Confidence{High, Medium, Low} {
		if least := r.min(c); least > 0 && t.count(c) >= least {
			return t.match(d.Name, d.Label, d.Many, c), true
		}
	}
	return Match{}, false
}

// match describes what was counted, from a confidence on.
func (t *tally) match(kind, label, many string, least Confidence) Match {
	one := Match{Kind: kind, Count: t.count(least), at: -1}
	if one.Text = fmt.Sprint(one.Count, " ", many); one.Count == 1 {
		one.Text = "1 " + label
	}
	for _, v := range t.list {
		if v.confidence >= least && len(one.Samples) < maxSamples {
			if one.at < 0 {
				one.at = v.at
			}
			one.Samples = append(one.Samples, cut(v.masked, 60))
		}
	}
	return one
}

// add tells of one more document. Its name is the administrator's.
func (one *Match) add(d document, s similar) {
	if one.Count == 0 {
		one.at, one.part, one.name = s.at, s.part, s.name
	}
	one.Count++
	if one.Count <= maxSamples {
		if one.Text != "" {
			one.Text += ", "
		}
		one.Text += fmt.Sprintf("%d %% of the document %q", s.percent, d.Name)
	}
}

func cut(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// findings are one for each set that a mail matches.
func (m *matcher) findings(f *found) (list []policy.Finding) {
	for _, c := range m.sets {
		if matches, met := m.matches(c, f); met {
			list = append(list, c.finding(matches, f))
		}
	}
	return list
}

// finding says what of a set was found, without what it was.
func (c *compiled) finding(matches []Match, f *found) policy.Finding {
	out := policy.Finding{Engine: EngineName, Name: c.symbol(), Class: c.Class, Score: c.Score,
		Meta: map[string]string{"set": c.ID.String(), "set_name": c.Name, "set_version": strconv.FormatInt(c.Version, 10)}}
	var said, samples []string
	for i, one := range matches {
		s := one.Text
		if len(one.Samples) > 0 {
			s += " (" + strings.Join(one.Samples, ", ") + ")"
			samples = append(samples, one.Samples...)
		}
		said = append(said, s)
		out.Meta[one.Kind] = strconv.Itoa(one.Count)
		if i == 0 {
			out.Part, out.PartName = one.part, one.name
			if one.at >= 0 && one.at < len(f.texts) {
				out.Part, out.PartName = f.texts[one.at].part, f.texts[one.at].name
			}
		}
	}
	if len(samples) > 0 {
		out.Meta["samples"] = strings.Join(samples, ", ")
	}
	out.Reason = fmt.Sprintf("the DLP set %q matches: %s", c.Name, strings.Join(said, "; "))
	switch {
	case out.Part == subjectPart:
		out.Reason += " in the subject"
	case out.PartName != "":
		out.Reason += fmt.Sprintf(" in part %s (%s)", out.Part, cut(out.PartName, 80))
	case out.Part != "":
		out.Reason += " in part " + out.Part
	}
	return out
}
