package dlp

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"mailward/policy"
)

// Directions of a set.
const (
	In   = "in"
	Out  = "out"
	Both = "both"
)

// Set is what is looked for together, and what a mail is that has it.
type Set struct {
	ID          uuid.UUID `json:"id"`
	Workspace   uuid.UUID `json:"workspace_id"`
	Name        string    `json:"name"`
	Description string    `json:"description"`
	Direction   string    `json:"direction"` // in, out or both
	Enabled     bool      `json:"enabled"`
	// Class is dlp; or empty for a sign, which counts Score against the
	// thresholds of each recipient's policy.
	Class     policy.Class `json:"class"`
	Score     float64      `json:"score"`
	Rules     Rules        `json:"rules"`
	Version   int64        `json:"version"`
	UpdatedAt time.Time    `json:"updated_at"`
	// Fingerprints are the documents that the set knows, without their hashes.
	Fingerprints []Fingerprint `json:"fingerprints"`
}

// Rules are what a set looks for. Each rule counts what differs: a number that
// a mail repeats counts once.
type Rules struct {
	// All says that every rule must be met; else one is enough.
	All       bool           `json:"all,omitempty"`
	Detectors []DetectorRule `json:"detectors,omitempty"`
	Keywords  []string       `json:"keywords,omitempty"`   // whole words or phrases; case does not matter, and ä is ae
	KeywordN  int            `json:"keyword_min,omitzero"` // how many of them
	Patterns  []string       `json:"patterns,omitempty"`   // RE2
	PatternN  int            `json:"pattern_min,omitzero"` // how many matches
	// Similarity is how much of a document, in percent, must be in a mail.
	Similarity int `json:"similarity,omitzero"`
}

// DetectorRule says from how many numbers of one kind on a set matches, by how
// sure they are; 0 is never.
type DetectorRule struct {
	Detector string `json:"detector"`
	High     int    `json:"high,omitzero"`   // of high confidence
	Medium   int    `json:"medium,omitzero"` // of medium confidence or higher
	Low      int    `json:"low,omitzero"`    // of any confidence
}

func (r DetectorRule) min(c Confidence) int { return [...]int{0, r.Low, r.Medium, r.High}[c] }

// Bounds of a set.
const (
	maxName        = 100 // characters
	maxDescription = 1000
	maxMin         = 1000 // of any count
	maxKeywords    = 500
	maxKeyword     = 200 // bytes of one
	maxKeywordLen  = 12  // words of one
	maxPatterns    = 20
	maxPattern     = 500 // bytes of one
	// maxProgram bounds what a pattern costs: RE2 takes time in proportion to
	// text times program.
	maxProgram = 300
	// DefaultSimilarity is used where a set says none.
	DefaultSimilarity = 50
)

func invalid(field, problem string, a ...any) error {
	return &policy.InvalidError{Field: field, Problem: fmt.Sprintf(problem, a...)}
}

// check completes a set and says what is wrong with it, as a
// *[policy.InvalidError] in words for people.
func (s *Set) check() error {
	s.Name, s.Description = strings.TrimSpace(s.Name), strings.TrimSpace(s.Description)
	if n := utf8.RuneCountInString(s.Name); n < 1 || n > maxName || !utf8.ValidString(s.Name) || strings.ContainsFunc(s.Name, control) {
		return invalid("name", "must have 1 to %d characters in one line", maxName)
	}
	if utf8.RuneCountInString(s.Description) > maxDescription || !utf8.ValidString(s.Description) || strings.ContainsRune(s.Description, 0) {
		return invalid("description", "must not have more than %d characters", maxDescription)
	}
	if s.Direction == "" {
		s.Direction = Out
	}
	if !slices.Contains([]string{In, Out, Both}, s.Direction) {
		return invalid("direction", "must be in, out or both, is %q", s.Direction)
	}
	if s.Class != "" && s.Class != policy.DLP {
		return invalid("class", "must be dlp, or empty for a sign")
	}
	if !(s.Score >= 0 && s.Score <= 100) {
		return invalid("score", "must be between 0 and 100")
	}
	if s.Workspace == uuid.Nil {
		s.Workspace = policy.DefaultWorkspace
	}
	return s.Rules.check()
}

func control(r rune) bool { return r < ' ' || r == 0x7F }

func (r *Rules) check() error {
	if r.KeywordN == 0 {
		r.KeywordN = 1
	}
	if r.PatternN == 0 {
		r.PatternN = 1
	}
	if r.Similarity == 0 {
		r.Similarity = DefaultSimilarity
	}
	seen := map[string]bool{}
	for _, d := range r.Detectors {
		switch {
		case detectorIndex(d.Detector) < 0:
			return invalid("detectors", "name %q, which does not exist", d.Detector)
		case seen[d.Detector]:
			return invalid("detectors", "name %q twice", d.Detector)
		case min(d.High, d.Medium, d.Low) < 0, max(d.High, d.Medium, d.Low) > maxMin, d.High+d.Medium+d.Low == 0:
			return invalid("detectors", "need a count between 1 and %d for %s", maxMin, d.Detector)
		}
		seen[d.Detector] = true
	}
	if r.KeywordN < 1 || r.KeywordN > maxMin || r.PatternN < 1 || r.PatternN > maxMin {
		return invalid("counts", "must be between 1 and %d", maxMin)
	}
	if r.Similarity < 10 || r.Similarity > 100 {
		return invalid("similarity", "must be between 10 and 100 percent")
	}
	if err := r.checkKeywords(); err != nil {
		return err
	}
	if len(r.Patterns) > maxPatterns {
		return invalid("patterns", "must not be more than %d", maxPatterns)
	}
	for _, p := range r.Patterns {
		if _, err := compilePattern(p); err != nil {
			return err
		}
	}
	return nil
}

func (r *Rules) checkKeywords() error {
	if len(r.Keywords) > maxKeywords {
		return invalid("keywords", "must not be more than %d", maxKeywords)
	}
	for _, k := range r.Keywords {
		n := len(words(normalise(k)))
		if len(k) > maxKeyword || !utf8.ValidString(k) || strings.ContainsFunc(k, control) || n == 0 || n > maxKeywordLen {
			return invalid("keywords", "must each have 1 to %d words and no more than %d bytes: %.40q", maxKeywordLen, maxKeyword, k)
		}
	}
	if r.KeywordN > len(r.Keywords) && len(r.Keywords) > 0 {
		return invalid("keyword_min", "must not be more than there are keywords")
	}
	return nil
}

// compilePattern takes patterns of RE2 whose cost is bounded.
func compilePattern(p string) (*regexp.Regexp, error) {
	if p == "" || len(p) > maxPattern || !utf8.ValidString(p) || strings.ContainsRune(p, 0) {
		return nil, invalid("patterns", "must each have 1 to %d bytes", maxPattern)
	}
	tree, err := syntax.Parse(p, syntax.Perl)
	if err != nil {
		return nil, invalid("patterns", "have a mistake: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil || len(prog.Inst) > maxProgram {
		return nil, invalid("patterns", "must be simpler, or repeat less: %.40q", p)
	}
	re, err := regexp.Compile(p)
	if err != nil {
		return nil, invalid("patterns", "have a mistake: %v", err)
	}
	if re.MatchString("") {
		return nil, invalid("patterns", "must not match nothing at all: %.40q", p)
	}
	return re, nil
}

// applies says whether a set is for mail of a direction.
func (s Set) applies(d policy.Direction) bool {
	return s.Enabled && (s.Direction == Both || (s.Direction == Out) == (d == policy.Outbound))
}

// symbol names a set's findings: "Payment cards" is DLP.PaymentCards.
func (s Set) symbol() string {
	var b strings.Builder
	for _, w := range strings.FieldsFunc(s.Name, func(r rune) bool { return !inValue(r) || r == '<' }) {
		r, n := utf8.DecodeRuneInString(w)
		b.WriteString(strings.ToUpper(string(r)) + w[n:])
	}
	if b.Len() == 0 {
		return "DLP.Set"
	}
	return "DLP." + b.String()
}
