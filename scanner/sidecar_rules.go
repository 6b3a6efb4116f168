package scanner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"mailward/policy"
	"mailward/scanner/sidecar"
)

// What package ruleset manages and the sidecar compiles.
type (
	RuleSet    = sidecar.RuleSet
	RuleBundle = sidecar.Bundle
	RuleSpace  = sidecar.RuleSpace
	RuleIssue  = sidecar.Issue
	Compiled   = sidecar.Compiled
	Trial      = sidecar.Trial
	SlowRule   = sidecar.SlowRule
)

// Bounds of a rule set.
const (
	MaxRuleSource = sidecar.MaxSource
	MaxRuleSets   = sidecar.MaxSets
	SignClass     = sidecar.SignClass
)

// RuleClasses are the classes that hits of a set can get.
func RuleClasses() []policy.Class { return sidecar.RuleClasses() }

const (
	// compileLimit is for a worker that is free, and for libyara with a large set.
	compileLimit = 20 * time.Second
	// tryLimit is for one mail of a backtest: what a scan may take, and looking for
	// a slow rule.
	tryLimit = 40 * time.Second
)

// CompileRules has a set compiled by the sidecar, which is where hostile sources
// belong. An error means that nothing is known about the set.
func (s *Sidecar) CompileRules(ctx context.Context, set RuleSet) (Compiled, error) {
	ctx, cancel := context.WithTimeout(ctx, compileLimit)
	defer cancel()
	f, err := setFile(set)
	if err != nil {
		return Compiled{}, err
	}
	defer f.Close()
	resp, err := s.do(ctx, sidecar.Request{Op: sidecar.OpCompile}, f)
	if err != nil {
		return Compiled{}, err
	}
	if resp.Compiled == nil {
		return Compiled{}, fmt.Errorf("%w: no result of the compiler in its answer", ErrUnavailable)
	}
	return *resp.Compiled, nil
}

// TryRules matches a set that is not in force against one mail.
func (s *Sidecar) TryRules(ctx context.Context, mail *os.File, set RuleSet) (Trial, error) {
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	f, err := setFile(set)
	if err != nil {
		return Trial{}, err
	}
	defer f.Close()
	resp, err := s.do(ctx, sidecar.Request{Op: sidecar.OpTry}, mail, f)
	if err != nil {
		return Trial{}, err
	}
	if resp.Compiled != nil && !resp.Compiled.OK {
		return Trial{}, errors.New("scanner: the rule set does not compile")
	}
	if resp.Trial == nil {
		return Trial{}, fmt.Errorf("%w: no result of the trial in its answer", ErrUnavailable)
	}
	return *resp.Trial, nil
}

// RulesInForce lists the rules that mails are scanned with now. [Info.Detail] says
// why newer ones were not taken over, if so.
func (s *Sidecar) RulesInForce(ctx context.Context) ([]RuleSpace, Info, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	resp, err := s.do(ctx, sidecar.Request{Op: sidecar.OpRules})
	info := infoOf(resp)
	info.Detail = resp.Problem
	return resp.InForce, info, err
}

// setFile puts a set into memory that nobody can change, for the sidecar.
func setFile(set RuleSet) (*os.File, error) {
	b, err := RuleBundle{Sets: []RuleSet{set}}.Encode()
	if err != nil {
		return nil, err
	}
	return MemoryFile("rules", b)
}

// MemoryFile puts bytes into a file in memory that nobody can change, for the
// sidecar. The caller closes it.
func MemoryFile(name string, b []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make memory file: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err = f.Write(b); err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("fill memory file: %w", err)
	}
	return f, nil
}

// slowMail is a mail on which a rule took too long.
type slowMail struct {
	times int
	rules string // version of the rules then: others may be quicker
	why   string
}

// Slow tells of rules that took too long on a mail. What nobody takes is dropped.
func (s *Sidecar) Slow() <-chan SlowRule { return s.slow }

// noteSlow remembers that a rule took too long on a mail.
func (s *Sidecar) noteSlow(hash, rules string, r *SlowRule) {
	select {
	case s.slow <- *r:
	default:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.slowMails) >= maxDeaths {
		clear(s.slowMails)
	}
	m := s.slowMails[hash]
	if m.rules != rules {
		m = slowMail{rules: rules}
	}
	m.times, m.why = m.times+1, r.Error()
	s.slowMails[hash] = m
}

// tooSlow says whether the rules in force have failed twice on a mail, and why.
func (s *Sidecar) tooSlow(hash string) (why string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.slowMails[hash]
	return m.why, m.times >= 2 && m.rules == s.rules
}

// saw notes which rules the sidecar has answered with.
func (s *Sidecar) saw(rules string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = rules
}
