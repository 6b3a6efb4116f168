package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hillu/go-yara/v4"

	"mailward/policy"
	"mailward/scanner/rules"
	"mailward/scanner/sidecar"
)

// matcher matches all rules, group by group.
type matcher struct {
	groups  []*group
	managed map[string]sidecar.RuleSet // by namespace
}

// group is rules that are matched together, with one libyara scanner that is used
// again for each piece.
type group struct {
	rules *yara.Rules
	s     *yara.Scanner
	own   string       // as in [ruleFile]; "": they are matched with everything
	vars  sidecar.Vars // as s has them
	fresh bool         // vars are true
}

// ruleTimeout is for one piece. libyara counts in whole seconds; less than one
// would be no limit at all.
const ruleTimeout = 8 * time.Second

func newMatcher(list []compiledRules, managed map[string]sidecar.RuleSet) (*matcher, error) {
	m := &matcher{managed: managed}
	for _, r := range list {
		s, err := yara.NewScanner(r.rules)
		if err != nil {
			return nil, fmt.Errorf("make YARA scanner: %w", err)
		}
		s.SetFlags(yara.ScanFlagsFastMode)
		m.groups = append(m.groups, &group{rules: r.rules, s: s, own: r.own, fresh: true}) // A scanner begins with the values of [externals].
	}
	return m, nil
}

// Close implements [sidecar.Candidate].
func (m *matcher) Close() {
	for _, g := range m.groups {
		g.s.Destroy()
		g.rules.Destroy()
	}
}

// Match implements [sidecar.Matcher]. A piece that takes too long is an error
// that names the rule.
func (m *matcher) Match(data []byte, v sidecar.Vars) ([]policy.Finding, error) {
	for _, s := range []*string{&v.Name, &v.Ext, &v.ContentType, &v.TrueType} {
		*s = strings.ReplaceAll(*s, "\x00", "")
	}
	if len(data) == 0 {
		data = []byte{'\n'} // Rules about names work on an empty piece too.
	}
	end := time.Now().Add(ruleTimeout)
	var hits hits
	for _, g := range m.groups {
		part, ok := rules.Reach(g.own, data, v.Ext, v.TrueType)
		if !ok {
			continue
		}
		if err := g.define(v); err != nil {
			return nil, err
		}
		err := g.scan(part, time.Until(end), v.Until, &hits)
		if isTimeout(err) {
			return nil, m.culprit(g, part, v.Until.Add(sidecar.SlowGrace))
		}
		if err != nil {
			return nil, err
		}
	}
	var out []policy.Finding
	for _, h := range hits {
		out = append(out, m.finding(h))
	}
	return out, nil
}

// define sets the variables that are not what they were at the last piece.
func (g *group) define(v sidecar.Vars) error {
	old, fresh := g.vars, g.fresh
	g.vars, g.fresh = v, false
	for _, x := range []struct {
		name    string
		old, is any
	}{
		{"part_name", old.Name, v.Name}, {"part_ext", old.Ext, v.Ext}, {"part_type", old.ContentType, v.ContentType}, {"true_type", old.TrueType, v.TrueType},
		{"part_depth", int64(old.Depth), int64(v.Depth)}, {"in_archive", old.Archived, v.Archived},
	} {
		if fresh && x.old == x.is {
			continue
		}
		if err := g.s.DefineVariable(x.name, x.is); err != nil {
			return fmt.Errorf("set %s: %w", x.name, err)
		}
	}
	g.fresh = true
	return nil
}

// scan matches for at most limit, and not much longer than until.
func (g *group) scan(data []byte, limit time.Duration, until time.Time, cb yara.ScanCallback) error {
	if !until.IsZero() {
		limit = min(limit, time.Until(until))
	}
	return g.s.SetTimeout(max(limit, time.Second)).SetCallback(cb).ScanMem(data)
}

func isTimeout(err error) bool {
	var e yara.Error
	return errors.As(err, &e) && e.Code == yara.ERROR_SCAN_TIMEOUT
}

// hit is a rule that matches, with the first places of its strings.
type hit struct {
	rule    yara.Rule
	strings []string
}

type hits []hit

// Bounds of what a hit says of its strings.
const (
	maxHitStrings = 8
	maxHitOffsets = 3
	maxHitBytes   = 64 // of content, escaped
)

// RuleMatching implements [yara.ScanCallbackMatch].
func (h *hits) RuleMatching(sc *yara.ScanContext, r *yara.Rule) (bool, error) {
	x := hit{rule: *r}
	for _, s := range r.Strings() {
		if len(x.strings) == maxHitStrings {
			break
		}
		if list := s.Matches(sc); len(list) > 0 {
			x.strings = append(x.strings, placeOf(s.Identifier(), list))
		}
	}
	*h = append(*h, x)
	return false, nil
}

// placeOf says where a string matches, and how it begins there.
func placeOf(name string, list []yara.Match) string {
	var at []string
	for _, m := range list[:min(len(list), maxHitOffsets)] {
		at = append(at, fmt.Sprintf("%d", m.Base()+m.Offset()))
	}
	if len(list) > maxHitOffsets {
		at = append(at, fmt.Sprintf("… (%d)", len(list)))
	}
	data := list[0].Data()
	text := strconv.QuoteToASCII(string(data[:min(len(data), maxHitBytes/2)]))
	if len(text) > maxHitBytes {
		text = text[:maxHitBytes] + `…"`
	}
	return fmt.Sprintf("%s @ %s: %s", name, strings.Join(at, ", "), text)
}

// Bounds of what a rule may say of itself.
const (
	maxMetas     = 20
	maxMetaRunes = 300
)

func metaOf(r yara.Rule) map[string]string {
	meta := map[string]string{}
	for _, m := range r.Metas() {
		if len(meta) == maxMetas {
			break
		}
		v := []rune(strings.ToValidUTF8(fmt.Sprint(m.Value), "\uFFFD"))
		meta[m.Identifier] = string(v[:min(len(v), maxMetaRunes)])
	}
	return meta
}

func isRuleClass(c string) bool {
	k := policy.Class(c)
	return k == sidecar.SignClass || slices.Contains(policy.Classes(), k) && k != policy.Clean
}

func scoreOf(s string) (float64, bool) {
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil && n >= 0 && n <= 100
}

// finding reads what a rule says of itself. Where it says nothing, its set
// decides; a rule in a file without a class is suspicious.
func (m *matcher) finding(h hit) policy.Finding {
	f := policy.Finding{Name: h.rule.Identifier(), Class: policy.Suspicious, Score: 5, Meta: metaOf(h.rule)}
	if set, ok := m.managed[h.rule.Namespace()]; ok {
		f.Class, f.Score = set.Class, set.Score
		maps.Copy(f.Meta, map[string]string{"set": set.Name, "set_id": set.ID, "set_version": strconv.Itoa(set.Version)})
	} else {
		f.Meta["file"] = h.rule.Namespace()
	}
	if isRuleClass(f.Meta["class"]) {
		f.Class = policy.Class(f.Meta["class"])
	}
	if f.Class == sidecar.SignClass {
		f.Class = ""
	}
	if n, ok := scoreOf(f.Meta["score"]); ok {
		f.Score = n
	}
	if len(h.strings) > 0 {
		f.Meta["strings"] = strings.Join(h.strings, "; ")
	}
	f.Reason = cmp.Or(f.Meta["description"], "the YARA rule "+f.Name+" matches")
	return f
}
