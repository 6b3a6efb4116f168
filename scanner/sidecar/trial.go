package sidecar

import (
	"crypto/sha256"
	"errors"
	"os"
	"time"

	"mailward/policy"
)

// Trial is what rules that are not in force would find in one mail, and what
// they cost beside those that are.
type Trial struct {
	Findings  []policy.Finding `json:"findings,omitempty"`
	Bytes     int64            `json:"bytes"` // of all pieces that were matched
	TookNS    int64            `json:"took_ns"`
	InForceNS int64            `json:"in_force_ns"` // of the rules in force, on the same pieces
	Slow      *SlowRule        `json:"slow,omitempty"`
}

// tried is the candidate that a worker keeps between the mails of a backtest.
type tried struct {
	sum       [sha256.Size]byte
	candidate Candidate
	compiled  Compiled
}

// trialMatcher matches both the rules in force and the candidate. The hits of
// the former do not count.
type trialMatcher struct {
	inForce, candidate Matcher
	trial              *Trial
}

// Match implements [Matcher].
func (m *trialMatcher) Match(data []byte, v Vars) ([]policy.Finding, error) {
	m.trial.Bytes += int64(len(data))
	begin := time.Now()
	_, err := m.inForce.Match(data, v)
	m.trial.InForceNS += time.Since(begin).Nanoseconds()
	if err != nil {
		return nil, err
	}
	begin = time.Now()
	found, err := m.candidate.Match(data, v)
	m.trial.TookNS += time.Since(begin).Nanoseconds()
	var slow *SlowRule
	if errors.As(err, &slow) {
		slow.Part = v.Path
		m.trial.Slow = slow
	}
	for i := range found {
		found[i].Engine, found[i].Part, found[i].PartName = "yara", v.Path, v.Name
	}
	m.trial.Findings = append(m.trial.Findings, found...)
	return nil, err
}

// compile compiles the set that came with the request.
func (w *Worker) compile(f *os.File) (Candidate, Compiled, error) {
	if w.Compiler == nil {
		return nil, Compiled{}, errors.New("this scanner compiles no rules")
	}
	s, sum, err := oneSet(f)
	if err != nil {
		return nil, Compiled{}, err
	}
	if w.tried != nil && w.tried.sum == sum {
		return w.tried.candidate, w.tried.compiled, nil
	}
	if w.tried != nil && w.tried.candidate != nil {
		w.tried.candidate.Close()
	}
	w.tried = nil
	c, compiled := w.Compiler.Compile(s)
	w.tried = &tried{sum: sum, candidate: c, compiled: compiled}
	return c, compiled, nil
}

// oneSet reads a bundle of one set.
func oneSet(f *os.File) (RuleSet, [sha256.Size]byte, error) {
	data, done, err := mapped(f)
	if err != nil {
		return RuleSet{}, [sha256.Size]byte{}, err
	}
	defer done()
	if len(data) > maxBundle {
		return RuleSet{}, [sha256.Size]byte{}, errBundle
	}
	b, err := ReadBundle(bytesReader(data))
	if err == nil && len(b.Sets) != 1 {
		err = errors.New("one set at a time")
	}
	if err != nil {
		return RuleSet{}, [sha256.Size]byte{}, err
	}
	return b.Sets[0], sha256.Sum256(data), nil
}

// try matches a candidate against one mail, as a scan would.
func (w *Worker) try(data []byte, c Candidate) (*Trial, error) {
	t := &Trial{}
	walk := w.walker(data)
	walk.match, walk.known = &trialMatcher{inForce: w.Matcher, candidate: c, trial: t}, nil
	if err := walk.entity("1", data, 0, true); err != nil && !isLimit(err) && t.Slow == nil {
		return nil, err
	}
	const most = 1000 // hits of one mail that are told
	t.Findings = t.Findings[:min(len(t.Findings), most)]
	return t, nil
}
