package ruleset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"mailward/internal/durable"
	"mailward/scanner"
)

const (
	// bundleName is where the sidecar looks.
	bundleName = "sets.json"
	// pollEvery bounds how old the file gets when a notification was lost.
	pollEvery = 5 * time.Second
	// takeover is how long the sidecar may need for new rules before it is a fault.
	takeover = 30 * time.Second
	// publishTries bounds how often a change in the middle of writing is followed.
	publishTries = 10
)

// RulesStatus says which rule sets should be in force, and which are.
type RulesStatus struct {
	Shared  bool   `json:"shared" doc:"the scanner gets managed sets at all"`
	Wanted  string `json:"wanted" doc:"fingerprint of the sets that are enabled"`
	Sets    int    `json:"sets" doc:"how many are enabled"`
	InForce string `json:"in_force" doc:"fingerprint of those that mails are scanned with; empty: not known"`
	// Version is that of all rules, also those of files, as mails have it on record.
	Version string `json:"rules_version"`
	Rules   int    `json:"rules"`
	// Late says that they have differed for longer than a takeover lasts.
	Late    bool   `json:"late"`
	Problem string `json:"problem,omitempty"`
	// Refused is what the scanner says of rules that it has not taken over.
	Refused string `json:"refused,omitempty"`
	// Files are the rules that are not kept here.
	Files []RuleFile `json:"files" nullable:"false"`
}

// Current says whether what should be in force is.
func (s RulesStatus) Current() bool { return s.InForce == s.Wanted || !s.Shared && s.Sets == 0 }

// CanSwitch says whether a file of rules can be switched off and on.
func (s RulesStatus) CanSwitch() bool { return s.Shared && s.InForce != "" }

// Run keeps the folder of the sidecar as the database says, and counts slow
// rules, until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.deps.DB.Listen(ctx, "mailward_yara", changed)
	}()
	defer func() { <-done }()
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	for {
		err := s.publish(ctx)
		s.noteProblem(err)
		if err != nil && ctx.Err() == nil {
			s.log.Error("rule sets not written for the scanner, the last ones stay in force", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		case <-changed:
			nudge(s.wake) // It may be a trial that was asked for elsewhere.
		case r := <-s.deps.Sidecar.Slow():
			if err := s.noteSlow(ctx, r); err != nil && ctx.Err() == nil {
				s.log.Error("slow rule not counted", "set", r.Space, "rule", r.Rule, "error", err)
			}
		}
	}
}

func nudge(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (s *Store) noteProblem(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problem = ""
	if err != nil {
		s.problem = "the rule sets could not be written for the scanner"
	}
}

// bundle reads what is to be in force.
func (s *Store) bundle(ctx context.Context) (scanner.RuleBundle, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	rows, err := s.deps.DB.Query(ctx, bundleSQL)
	if err != nil {
		return scanner.RuleBundle{}, fmt.Errorf("read rule sets: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (x scanner.RuleSet, err error) {
		err = row.Scan(&x.ID, &x.Name, &x.Version, &x.Class, &x.Score, &x.Source)
		return x, err
	})
	if err != nil {
		return scanner.RuleBundle{}, fmt.Errorf("read rule sets: %w", err)
	}
	off, err := s.filesOff(ctx)
	if err != nil {
		return scanner.RuleBundle{}, err
	}
	b := scanner.RuleBundle{Sets: list}
	for _, f := range off {
		b.Off = append(b.Off, f.Space)
	}
	return b, nil
}

// publish writes what is to be in force, unless it is there. It reads again
// after it has written: another process that was slower may have written what it
// read before, and whoever comes last has to have looked last.
func (s *Store) publish(ctx context.Context) error {
	if s.dir == "" {
		return nil
	}
	for range publishTries {
		b, err := s.bundle(ctx)
		if err != nil {
			return err
		}
		text, err := b.Encode()
		if err != nil {
			return err
		}
		wrote, err := writeFile(s.dir, bundleName, text)
		if err != nil || !wrote {
			return err
		}
		s.log.Info("rule sets written for the scanner", "sets", len(b.Sets), "fingerprint", b.Fingerprint())
	}
	return errors.New("rule sets change faster than they can be written")
}

// writeFile replaces a file whole, and durably. It says whether it had to.
func writeFile(dir, name string, text []byte) (bool, error) {
	path := filepath.Join(dir, name)
	old, err := os.ReadFile(path)
	if err == nil && bytes.Equal(old, text) {
		return false, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("read rule sets in force: %w", err)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return false, fmt.Errorf("make folder of rule sets: %w", err)
	}
	// Who may read it is for the folder to say: the scanner is another user.
	if err := durable.WriteFile(path, text, 0o644); err != nil {
		return false, fmt.Errorf("write rule sets: %w", err)
	}
	return true, nil
}

// Status compares what should be in force with what is.
func (s *Store) Status(ctx context.Context) (RulesStatus, error) {
	b, err := s.bundle(ctx)
	if err != nil {
		return RulesStatus{}, err
	}
	off, err := s.filesOff(ctx)
	if err != nil {
		return RulesStatus{}, err
	}
	st := RulesStatus{Shared: s.dir != "", Wanted: b.Fingerprint(), Sets: len(b.Sets)}
	spaces, info, err := s.deps.Sidecar.RulesInForce(ctx)
	if err != nil {
		st.Problem = "the scanner does not answer"
	} else {
		st.InForce, st.Version, st.Rules, st.Refused = info.Managed, info.Database, info.Rules, info.Detail
	}
	st.Files = filesOf(spaces, off)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.problem != "" {
		st.Problem = s.problem
	}
	switch {
	case st.Current():
		s.differs = time.Time{}
	case s.differs.IsZero():
		s.differs = s.now()
	default:
		st.Late = s.now().Sub(s.differs) > takeover
	}
	return st, nil
}
