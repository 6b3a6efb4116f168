package ruleset

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"mailward/policy"
	"mailward/scanner"
)

// Errors that a caller can act on.
var (
	ErrNotFound = errors.New("ruleset: not found")
	ErrExists   = errors.New("ruleset: a set of this name exists already")
	// ErrConflict means that somebody else changed the set since it was read.
	ErrConflict = errors.New("ruleset: changed by somebody else in the meantime")
	// ErrTooMany means that a bound of what is in force together is reached.
	ErrTooMany = errors.New("ruleset: too many sets are enabled, or they are too big together")
	// ErrBusy means that enough trials are under way.
	ErrBusy = errors.New("ruleset: too many trials are waiting")
)

// BrokenError says that a set cannot be used as it is, and why.
type BrokenError struct{ Compiled scanner.Compiled }

// Error is part of error.
func (e *BrokenError) Error() string {
	for _, i := range e.Compiled.Issues {
		if i.Error && i.Line > 0 {
			return fmt.Sprintf("line %d: %s", i.Line, i.Text)
		}
		if i.Error {
			return i.Text
		}
	}
	return "the rules do not compile"
}

// Set is a rule set, with the version of it that is in use.
type Set struct {
	ID          uuid.UUID    `json:"id"`
	Name        string       `json:"name"`
	Description string       `json:"description"`
	Class       policy.Class `json:"class" doc:"of hits whose rule says nothing else; sign: they count by their score only"`
	Score       float64      `json:"score" doc:"as well, 0 to 100"`
	Enabled     bool         `json:"enabled"`
	Number      int          `json:"number" doc:"the version in use"`
	Latest      int          `json:"latest" doc:"the newest version"`
	Rules       []string     `json:"rules" nullable:"false"`
	SHA256      string       `json:"sha256" doc:"of the source in use"`
	Version     int64        `json:"version" doc:"of this record, for changes"`
	CreatedAt   time.Time    `json:"created_at"`
	UpdatedAt   time.Time    `json:"updated_at"`
}

// SetVersion is one version of a set's source. It never changes.
type SetVersion struct {
	Number    int       `json:"number"`
	SHA256    string    `json:"sha256"`
	Rules     []string  `json:"rules" nullable:"false"`
	Comment   string    `json:"comment"`
	Author    string    `json:"author"`
	CreatedAt time.Time `json:"created_at"`
	Source    string    `json:"source,omitempty"`
}

// Draft is a set as somebody wants it.
type Draft struct {
	Name        string
	Description string
	Class       policy.Class // "": suspicious
	Score       float64
	Source      string
	Comment     string // on the new version
	// Later keeps the version in use that is: the new one is only stored.
	Later bool
}

// SlowCount is a rule that took too long on mails.
type SlowCount struct {
	Space  string    `json:"space" doc:"a file, or the id of a set"`
	Number int       `json:"number" doc:"version of the set; 0: a file"`
	Rule   string    `json:"rule" doc:"empty: no single one was to blame"`
	Times  int64     `json:"times"`
	LastAt time.Time `json:"last_at"`
}

func (d *Draft) check() error {
	d.Name, d.Description, d.Comment = strings.TrimSpace(d.Name), strings.TrimSpace(d.Description), strings.TrimSpace(d.Comment)
	d.Source = strings.ReplaceAll(d.Source, "\r\n", "\n")
	if d.Class == "" {
		d.Class = policy.Suspicious
	}
	for _, f := range []struct {
		field, text string
		most        int
	}{{"name", d.Name, 100}, {"description", d.Description, 2000}, {"comment", d.Comment, 500}} {
		if !utf8.ValidString(f.text) || strings.ContainsRune(f.text, 0) || utf8.RuneCountInString(f.text) > f.most {
			return &policy.InvalidError{Field: f.field, Problem: fmt.Sprintf("must be text of at most %d letters", f.most)}
		}
	}
	switch {
	case d.Name == "":
		return &policy.InvalidError{Field: "name", Problem: "is needed"}
	case !slices.Contains(scanner.RuleClasses(), d.Class):
		return &policy.InvalidError{Field: "class", Problem: fmt.Sprintf("%q is none that a rule set can give", d.Class)}
	case !(d.Score >= 0 && d.Score <= 100):
		return &policy.InvalidError{Field: "score", Problem: "must be between 0 and 100"}
	case len(d.Source) > scanner.MaxRuleSource:
		return &policy.InvalidError{Field: "source", Problem: fmt.Sprintf("must have at most %d bytes, has %d", scanner.MaxRuleSource, len(d.Source))}
	case !utf8.ValidString(d.Source):
		return &policy.InvalidError{Field: "source", Problem: "must be UTF-8"}
	case strings.ContainsRune(d.Source, 0):
		return &policy.InvalidError{Field: "source", Problem: "must not hold NUL bytes"}
	}
	return nil
}

// ruleSet is the draft as the sidecar takes it.
func (d *Draft) ruleSet(id uuid.UUID, number int) scanner.RuleSet {
	return scanner.RuleSet{ID: id.String(), Name: d.Name, Version: number, Class: d.Class, Score: d.Score, Source: d.Source}
}
