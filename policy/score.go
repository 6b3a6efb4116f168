package policy

import "fmt"

// Thresholds are the sums of signs from which a mail is of a class; 0 is as
// [DefaultThresholds] has it.
type Thresholds struct {
	Spam     float64 `json:"spam,omitempty"`
	Phishing float64 `json:"phishing,omitempty"`
}

// DefaultThresholds is what is in force where no policy says anything else.
func DefaultThresholds() Thresholds { return Thresholds{Spam: 5, Phishing: 6} }

// PhishingEngine is the engine whose signs count for phishing. All signs count
// for spam, which is the milder class.
const PhishingEngine = "phishing"

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

// sums adds up the signs among findings, as one policy weighs them.
func (p Policy) sums(findings []Finding) (s Thresholds) {
	for _, f := range findings {
		if f.Class != "" {
			continue
		}
		s.Spam += p.weight(f)
		if f.Engine == PhishingEngine {
			s.Phishing += p.weight(f)
		}
	}
	return s
}

// classFor is the class of a mail for one recipient, and where signs have made
// it, in words.
func (p Policy) classFor(findings []Finding) (Class, string) {
	content := classOf(findings)
	limits, s := DefaultThresholds(), p.sums(findings)
	if p.Thresholds.Spam != 0 {
		limits.Spam = p.Thresholds.Spam
	}
	if p.Thresholds.Phishing != 0 {
		limits.Phishing = p.Thresholds.Phishing
	}
	switch {
	case s.Phishing >= limits.Phishing && graver(Phishing, content):
		return Phishing, fmt.Sprintf("its signs of phishing add up to %.1f; from %.1f on it counts as phishing", s.Phishing, limits.Phishing)
	case s.Spam >= limits.Spam && graver(Spam, content):
		return Spam, fmt.Sprintf("its signs add up to %.1f; from %.1f on it counts as spam", s.Spam, limits.Spam)
	default:
		return content, ""
	}
}
