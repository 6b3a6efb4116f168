package dlp

import (
	"context"
	"fmt"
	"slices"

	"mailward/policy"
	"mailward/scanner"
	"mailward/scanner/content"
)

// Truncated is the sign that not all text was looked into.
const Truncated = "DLP.Truncated"

// Judge says of a mail which sets of its workspace it matches.
type Judge struct {
	store *Store
	proof *matcher // of the one set that test mails of the gateway match
}

// ProofMark is what the text of such a test mail holds.
const ProofMark = "mailwardproofofleaks7qm2vxc9"

// NewJudge returns a judge that goes by the sets of a store.
func NewJudge(s *Store) *Judge {
	set := Set{Name: "proof of detection", Direction: "both", Enabled: true, Class: policy.DLP, Rules: Rules{Keywords: []string{ProofMark}, KeywordN: 1}}
	m, err := newMatcher([]Set{set}, nil)
	if err != nil {
		m = nil // then nothing is found, which is what the proof is there to say
	}
	return &Judge{store: s, proof: m}
}

// Name is the name of the engine.
func (*Judge) Name() string { return EngineName }

// Judge looks into subject, texts and names of attachments. Without sets for
// the mail's direction there is nothing to do. Before the sets were read once it
// gives no verdict.
func (j *Judge) Judge(ctx context.Context, q scanner.Question) ([]policy.Finding, scanner.Info, error) {
	snap := j.store.snap.Load()
	if snap == nil {
		return nil, scanner.Info{}, fmt.Errorf("dlp sets were never read: %w", scanner.ErrUnavailable)
	}
	info := scanner.Info{Version: detectorsVersion, Database: snap.revision.String(), DatabaseTime: snap.revision.changed}
	m := snap.matcher(q.Workspace, q.Direction)
	if q.Proof {
		m = j.proof
	}
	if m == nil {
		return nil, info, nil
	}
	f, err := m.look(ctx, textsOf(q.Content, q.Parts), q.Parts)
	if err != nil {
		return nil, info, fmt.Errorf("%w: %w", scanner.ErrUnavailable, err)
	}
	list := m.findings(f)
	if q.Content.Truncated || f.truncated {
		list = append(list, policy.Finding{Engine: EngineName, Name: Truncated, Reason: "the mail has more text than DLP looks into; what is beyond was not checked"})
	}
	return list, info, nil
}

// detectorsVersion is raised when detectors change what they find.
const detectorsVersion = "1"

// textsOf are all texts of a mail: subject first, since it is context for the rest.
func textsOf(c *content.Content, parts []policy.Part) []text {
	list := []text{{part: subjectPart, text: c.Subject}}
	for _, t := range c.Texts {
		list = append(list, text{part: t.Part, name: t.Name, text: t.Text})
		if t.Hidden != "" {
			list = append(list, text{part: t.Part, name: t.Name, text: t.Hidden})
		}
	}
	for _, p := range parts {
		if p.Name != "" {
			list = append(list, text{part: p.Path, name: p.Name, text: p.Name})
		}
	}
	return list
}

// Redact masks in a report what the sets that matched look for: in the subject,
// in names of attachments and in what all engines said. It is asked once all
// engines have answered, so that no record holds what a finding only hints at.
func (j *Judge) Redact(q scanner.Question, rep *policy.Report) {
	snap := j.store.snap.Load()
	if snap == nil {
		return
	}
	m := snap.matcher(q.Workspace, q.Direction)
	if m == nil {
		return
	}
	var hit []*compiled
	for _, c := range m.sets {
		if slices.ContainsFunc(rep.Findings, func(f policy.Finding) bool { return f.Engine == EngineName && f.Meta["set"] == c.ID.String() }) {
			hit = append(hit, c)
		}
	}
	if len(hit) == 0 {
		return
	}
	clean := func(s string) string { return m.redact(s, hit) }
	rep.Subject = clean(rep.Subject)
	rep.Parts, rep.Findings = slices.Clone(rep.Parts), slices.Clone(rep.Findings) // the scanner's cache may share them
	for i := range rep.Parts {
		rep.Parts[i].Name = clean(rep.Parts[i].Name)
	}
	for i := range rep.Findings {
		f := &rep.Findings[i]
		f.Reason, f.PartName = clean(f.Reason), clean(f.PartName)
		if f.Engine == EngineName {
			continue // its words are masked already, and name the set
		}
		meta := make(map[string]string, len(f.Meta))
		for k, v := range f.Meta {
			meta[k] = clean(v)
		}
		f.Meta = meta
	}
}

// redact masks in a short text what some sets look for. A text without any of it
// is returned as it is.
func (m *matcher) redact(s string, sets []*compiled) string {
	var spans []span
	plain := normalise(s)
	var want detectorMask
	chosen := map[int]bool{}
	for _, c := range sets {
		want |= c.want
		chosen[c.index] = true
		for _, re := range c.patterns {
			for _, at := range re.FindAllStringIndex(plain[:min(len(plain), chunk)], maxDistinct) {
				spans = append(spans, span{at[0], at[1]})
			}
		}
	}
	scan := numberScan{text: plain, want: want, found: func(h hit) bool {
		spans = append(spans, span{h.start, h.end})
		return true
	}}
	scan.run()
	m.keywordsIn(words(plain), func(p phrase, sp span) {
		if chosen[p.set] {
			spans = append(spans, sp)
		}
	})
	if len(spans) == 0 {
		return s
	}
	return maskSpans(plain, spans)
}

// Tested is what a text that somebody tries would come to.
type Tested struct {
	Numbers  []Match          `json:"numbers"`  // of all detectors, whatever the sets want
	Findings []policy.Finding `json:"findings"` // of the sets that would match
}

// Test looks into a text with all detectors and the given sets. prints are the
// fingerprints of those.
func Test(ctx context.Context, s string, sets []Set, prints []Fingerprint) (Tested, error) {
	m, err := newMatcher(sets, prints)
	if err != nil {
		return Tested{}, err
	}
	m.want = allMask
	f, err := m.look(ctx, []text{{text: s}}, nil)
	if err != nil {
		return Tested{}, err
	}
	out := Tested{Numbers: []Match{}, Findings: []policy.Finding{}}
	for i, d := range detectors {
		for _, c := range []Confidence{High, Medium, Low} {
			if n := f.numbers[i].count(c) - f.numbers[i].count(c+1); n > 0 {
				one := f.numbers[i].only(c).match(d.Name, d.Label, d.Many, c)
				one.Text += ", " + c.String() + " confidence"
				out.Numbers = append(out.Numbers, one)
			}
		}
	}
	out.Findings = append(out.Findings, m.findings(f)...)
	return out, nil
}

// only is a tally of one confidence.
func (t *tally) only(c Confidence) *tally {
	one := &tally{}
	for _, v := range t.list {
		if v.confidence == c {
			one.list = append(one.list, v)
		}
	}
	return one
}
