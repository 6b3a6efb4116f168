package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Thresholds are the sums of signs from which a mail is of a class; 0 is as
// [DefaultThresholds] has it.
type Thresholds struct {
	Spam     float64 `json:"spam,omitempty"`
	Phishing float64 `json:"phishing,omitempty"`
}

// DefaultThresholds is what is in force where no policy says anything else.
func DefaultThresholds() Thresholds { return Thresholds{Spam: 5, Phishing: 6} }

// of is the threshold of one class; other classes have none.
func (t Thresholds) of(c Class) float64 {
	switch c {
	case Spam:
		return t.Spam
	case Phishing:
		return t.Phishing
	}
	return 0
}

// PhishingEngine is the engine whose signs count for phishing. All signs count
// for spam, which is the milder class.
const PhishingEngine = "phishing"

// counts says whether a finding is a sign of a class.
func counts(f Finding, c Class) bool {
	return f.Class == "" && (c == Spam || c == Phishing && f.Engine == PhishingEngine)
}

// weight is what a finding counts for one recipient.
func (p Policy) weight(f Finding) float64 {
	if w, ok := p.Weights[f.Name]; ok && f.Class == "" {
		return w
	}
	return f.Score
}

// score is what all findings weigh together.
func (p Policy) score(findings []Finding) (sum float64) {
	for _, f := range findings {
		sum += p.weight(f)
	}
	return sum
}

// threshold is the sum from which signs make a class.
func (p Policy) threshold(c Class) float64 {
	return cmp.Or(p.Thresholds.of(c), DefaultThresholds().of(c))
}

// classFor is the class of a mail for one recipient, and where signs have made
// it, in words.
func (p Policy) classFor(findings []Finding) (Class, []Line) {
	return p.classWithout(findings, nil)
}

// classWithout leaves out the signs of those classes that an entry has lifted.
func (p Policy) classWithout(findings []Finding, lifted []Class) (Class, []Line) {
	content := classOf(findings)
	for _, c := range []Class{Phishing, Spam} {
		if slices.Contains(lifted, c) || !graver(c, content) {
			continue
		}
		sum := 0.0
		for _, f := range findings {
			if counts(f, c) {
				sum += p.weight(f)
			}
		}
		if sum >= p.threshold(c) {
			return c, p.sumLines(c, sum, findings)
		}
	}
	return content, nil
}

// shownSigns bounds how many signs a sentence names.
const shownSigns = 6

// sumLines say how signs have made a class, and which policies weigh them.
func (p Policy) sumLines(c Class, sum float64, findings []Finding) []Line {
	var signs []Finding
	for _, f := range findings {
		if counts(f, c) && p.weight(f) != 0 {
			signs = append(signs, f)
		}
	}
	slices.SortStableFunc(signs, func(a, b Finding) int { return cmp.Compare(p.weight(b), p.weight(a)) })
	from := p.Origin(LineThreshold + string(c))
	args := []string{classArg(c), numberArg(sum), "", numberArg(p.threshold(c)), originArg(from)}
	id, more := "signs", len(signs)-shownSigns
	if more > 0 {
		id, signs = "signs.more", signs[:shownSigns]
		args = slices.Insert(args, 3, plainArg(strconv.Itoa(more)))
	}
	var names []string
	var weights []Line
	for _, f := range signs {
		names = append(names, f.Name+" "+number(p.weight(f)))
		if o := p.Origin(LineWeight + f.Name); o.Layer != LayerBuiltIn {
			weights = append(weights, say(o, "weight", plainArg(f.Name), originArg(o)))
		}
	}
	args[2] = plainArg(strings.Join(names, ", "))
	return append([]Line{say(from, id, args...)}, weights...)
}

// number writes a score: without decimals where it has none.
func number(f float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", f), ".0") }
