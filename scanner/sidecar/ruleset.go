package sidecar

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"mailward/policy"
)

// Bounds of rule sets. docs/standards.md has the same table.
const (
	MaxSource = 1 << 20  // bytes of one set
	MaxSets   = 100      // in force at a time
	maxBundle = 24 << 20 // bytes of all sets as JSON
	maxIssues = 200      // reported of one set
	maxListed = 10_000   // rules of one set
	maxOff    = 1000     // files that are switched off
	maxSpace  = 512      // bytes of a file's name
)

// SignClass is what a set or the meta data of a rule gives as its class so that
// its hits are signs: they count by their score, and decide nothing alone.
const SignClass policy.Class = "sign"

// RuleClasses are the classes that a rule may give to a mail, and [SignClass].
func RuleClasses() []policy.Class {
	return []policy.Class{policy.Malware, policy.Phishing, policy.DLP, policy.Suspicious, policy.Spam, SignClass}
}

// RuleSet is a set of rules that is kept as data, in the one version that counts.
type RuleSet struct {
	ID      string       `json:"id"`
	Name    string       `json:"name"`
	Version int          `json:"version"`
	Class   policy.Class `json:"class"` // of hits whose rule says nothing else
	Score   float64      `json:"score"` // as well
	Source  string       `json:"source"`
}

// Bundle are the rule sets that are in force together. It is the file that the
// gateway writes and the sidecar reads.
type Bundle struct {
	Sets []RuleSet `json:"sets"`
	Off  []string  `json:"off,omitempty"` // files of rules, by their [RuleSpace], that are not compiled
}

// Fingerprint names the bundle's content: the same sets in any order have the same.
func (b Bundle) Fingerprint() string {
	sets := slices.Clone(b.Sets)
	slices.SortFunc(sets, func(x, y RuleSet) int { return strings.Compare(x.ID, y.ID) })
	h := sha256.New()
	for _, s := range sets {
		fmt.Fprintf(h, "%q %q %d %q %g %q\n", s.ID, s.Name, s.Version, s.Class, s.Score, s.Source)
	}
	for _, space := range slices.Sorted(slices.Values(b.Off)) {
		fmt.Fprintf(h, "off %q\n", space)
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// Encode writes the bundle as the sidecar reads it.
func (b Bundle) Encode() ([]byte, error) {
	out, err := json.Marshal(b)
	if err == nil && len(out) > maxBundle {
		err = errBundle
	}
	if err != nil {
		return nil, fmt.Errorf("encode rule sets: %w", err)
	}
	return out, nil
}

var errBundle = errors.New("the rule sets are too big")

// ReadBundle reads what [Bundle.Encode] has written. The other side is not believed.
func ReadBundle(r io.Reader) (Bundle, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxBundle+1))
	if err != nil {
		return Bundle{}, fmt.Errorf("read rule sets: %w", err)
	}
	if len(raw) > maxBundle {
		return Bundle{}, errBundle
	}
	var b Bundle
	if err := json.Unmarshal(raw, &b); err != nil {
		return Bundle{}, fmt.Errorf("read rule sets: %w", err)
	}
	if len(b.Sets) > MaxSets || len(b.Off) > maxOff || slices.ContainsFunc(b.Off, func(s string) bool { return len(s) > maxSpace }) {
		return Bundle{}, errBundle
	}
	seen := map[string]bool{}
	for _, s := range b.Sets {
		switch {
		case len(s.Source) > MaxSource, len(s.Name) > 200, len(s.ID) > 64:
			return Bundle{}, errBundle
		case s.ID == "" || seen[s.ID]:
			return Bundle{}, errors.New("rule sets need ids of their own")
		case !slices.Contains(RuleClasses(), s.Class):
			return Bundle{}, fmt.Errorf("rule set %s: there is no class %q", s.ID, s.Class)
		case !(s.Score >= 0 && s.Score <= 100):
			return Bundle{}, fmt.Errorf("rule set %s: the score is not between 0 and 100", s.ID)
		}
		seen[s.ID] = true
	}
	return b, nil
}

// Issue is something that the compiler says of a set.
type Issue struct {
	Error bool   `json:"error"`          // else it is a warning
	Line  int    `json:"line,omitempty"` // 0: of no line in particular
	Rule  string `json:"rule,omitempty"`
	Text  string `json:"text"`
}

// RuleInfo is one rule of a set.
type RuleInfo struct {
	Name        string `json:"name"`
	Line        int    `json:"line,omitempty"`
	Private     bool   `json:"private,omitempty"` // it helps other rules and is no hit by itself
	Description string `json:"description,omitempty"`
}

// Compiled is what became of a set.
type Compiled struct {
	OK     bool       `json:"ok"`
	Rules  []RuleInfo `json:"rules,omitempty"`
	Issues []Issue    `json:"issues,omitempty"`
}

// Add notes an issue, as long as there are not too many.
func (c *Compiled) Add(i Issue) {
	if i.Error {
		c.OK = false
	}
	if len(c.Issues) < maxIssues {
		i.Text = strings.ToValidUTF8(i.Text, "\uFFFD")
		c.Issues = append(c.Issues, i)
	}
}

// RuleSpace is one file of rules, or one set, that is in force.
type RuleSpace struct {
	Space string   `json:"space"`
	Set   string   `json:"set,omitempty"` // id of a managed set
	Off   bool     `json:"off,omitempty"` // a file that is switched off, and has no rules then
	Rules []string `json:"rules" nullable:"false"`
}

// Candidate are rules that are tried, and not in force.
type Candidate interface {
	Matcher
	Close()
}

// Compiler compiles rule sets. cmd/mailward-scanner fills it with libyara.
type Compiler interface {
	// Compile compiles one set. Without errors the candidate is not nil, and is
	// the caller's to close.
	Compile(s RuleSet) (Candidate, Compiled)
	// InForce lists what the worker matches, and says why newer rules were not
	// taken over, if so.
	InForce() (spaces []RuleSpace, problem string)
}

// SlowRule is a rule that took longer than any may.
type SlowRule struct {
	Space   string `json:"space"`          // file, or name of the set
	Set     string `json:"set,omitempty"`  // id of a managed set
	Version int    `json:"version"`        // of the set
	Rule    string `json:"rule,omitempty"` // "": no single one is to blame
	Part    string `json:"part,omitempty"`
}

// Error is part of error.
func (s *SlowRule) Error() string {
	switch {
	case s.Space == "":
		return "the YARA rules took too long together"
	case s.Rule == "":
		return "the YARA rules in " + s.Space + " took too long"
	}
	return "the YARA rule " + s.Rule + " in " + s.Space + " took too long"
}
