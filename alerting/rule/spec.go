package rule

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Severity of an alert.
type Severity string

// The severities.
const (
	Info     Severity = "info"
	Warn     Severity = "warn"
	Critical Severity = "critical"
)

// Severities are all of them, the mildest first.
func Severities() []Severity { return []Severity{Info, Warn, Critical} }

// AtLeast says whether s is not milder than other.
func (s Severity) AtLeast(other Severity) bool {
	return slices.Index(Severities(), s) >= slices.Index(Severities(), other)
}

// Compare is how a value is held against the threshold.
type Compare string

// The comparisons.
const (
	Above Compare = "above"
	Below Compare = "below"
	Times Compare = "times" // more than so many times the usual of this hour
)

// Compares are all of them.
func Compares() []Compare { return []Compare{Above, Below, Times} }

// Missing is what the lack of values means.
type Missing string

// What the lack of values can mean.
const (
	Keep  Missing = "keep"  // nothing new: what fires goes on firing
	Alarm Missing = "alarm" // as if the condition held
	Fine  Missing = "fine"  // as if it did not
)

// Missings are all of them.
func Missings() []Missing { return []Missing{Keep, Alarm, Fine} }

// Schedule is when a rule may notify; outside of it, its alerts are muted. The
// zero value is always.
type Schedule struct {
	Days []time.Weekday `json:"days,omitempty"` // none: all
	From int            `json:"from,omitempty"` // minute of the day
	To   int            `json:"to,omitempty"`   // minute after the last; not above From: over midnight. Both 0: all day
	Zone string         `json:"zone,omitempty"` // as in the IANA database; "": UTC
}

// Active says whether the rule may notify at t.
func (s Schedule) Active(t time.Time) bool {
	zone, err := time.LoadLocation(s.Zone)
	if err != nil {
		return true // a zone that is gone must not make anything silent
	}
	t = t.In(zone)
	minute, day := t.Hour()*60+t.Minute(), t.Weekday()
	if s.From != s.To {
		switch {
		case s.From < s.To && (minute < s.From || minute >= s.To):
			return false
		case s.From > s.To && minute >= s.To && minute < s.From:
			return false
		case s.From > s.To && minute < s.To:
			day = (day + 6) % 7 // the night belongs to the day on which it began
		}
	}
	return len(s.Days) == 0 || slices.Contains(s.Days, day)
}

// Spec is what a rule says. A changed rule is a new spec with a new number.
type Spec struct {
	Name      string        `json:"name"`
	Metric    string        `json:"metric"`
	Compare   Compare       `json:"compare"`
	Threshold float64       `json:"threshold"`
	Window    time.Duration `json:"window"`
	For       time.Duration `json:"for"`
	Cooldown  time.Duration `json:"cooldown"`
	Severity  Severity      `json:"severity"`
	Missing   Missing       `json:"missing"`
	Each      bool          `json:"each"`               // an alert for each domain or component, not one for all
	Subjects  []string      `json:"subjects,omitempty"` // only these; needs Each
	Channels  []uuid.UUID   `json:"channels,omitempty"` // none: those that take everything
	Inhibits  []string      `json:"inhibits,omitempty"` // metrics whose alerts stay silent meanwhile; *: all
	Runbook   string        `json:"runbook,omitempty"`
	Schedule  Schedule      `json:"schedule,omitzero"`
	Reaction  *Reaction     `json:"reaction,omitempty"` // nil: it only tells people
}

// Bounds of a rule.
const (
	MaxWindow   = 24 * time.Hour
	MaxFor      = 24 * time.Hour
	MinCooldown = time.Minute
	MaxCooldown = 7 * 24 * time.Hour
	maxName     = 100
	maxSubjects = 100
	maxURL      = 1000
	// Step is the length of the smallest bucket, and the time between two evaluations.
	Step = 10 * time.Second
)

// InvalidError says which field cannot be as it is, and why.
type InvalidError struct{ Field, Problem string }

func (e *InvalidError) Error() string { return e.Field + " " + e.Problem }

func (s *Spec) bad(field, format string, args ...any) error {
	return &InvalidError{field, fmt.Sprintf(format, args...)}
}

// Check brings a spec into the form in which it is kept, or says what is wrong.
func (s *Spec) Check() error {
	s.Name = strings.Join(strings.Fields(s.Name), " ")
	m, ok := MetricNamed(s.Metric)
	orElse(&s.Compare, Above)
	orElse(&s.Missing, Keep)
	orElse(&s.Window, m.Window)
	orElse(&s.Severity, Warn)
	switch {
	case s.Name == "" || len(s.Name) > maxName:
		return s.bad("name", "must have 1 to %d characters", maxName)
	case !ok:
		return s.bad("metric", "is not one that is measured")
	case !slices.Contains(Compares(), s.Compare):
		return s.bad("compare", "must be above, below or times")
	case !slices.Contains(Severities(), s.Severity):
		return s.bad("severity", "must be info, warn or critical")
	case !slices.Contains(Missings(), s.Missing):
		return s.bad("missing", "must be keep, alarm or fine")
	case !(s.Threshold >= 0 && s.Threshold <= 1e12) || s.Compare == Times && s.Threshold < 1:
		return s.bad("threshold", "must be a number that is not negative, and 1 or more for times the usual")
	case s.Window < Step || s.Window > MaxWindow || s.Window%Step != 0:
		return s.bad("window", "must be 10s to %s, in steps of 10s", MaxWindow)
	case s.For < 0 || s.For > MaxFor:
		return s.bad("for", "must be 0s to %s", MaxFor)
	case s.Cooldown < MinCooldown || s.Cooldown > MaxCooldown:
		return s.bad("cooldown", "must be %s to %s", MinCooldown, MaxCooldown)
	case s.Each && m.Of == "":
		return s.bad("each", "cannot be: %s is not told apart", m.Name)
	}
	return s.checkRest(m)
}

func (s *Spec) checkRest(m Metric) error {
	subjects := []string{}
	for _, x := range s.Subjects {
		if x = strings.ToLower(strings.TrimSpace(x)); x != "" && !slices.Contains(subjects, x) {
			subjects = append(subjects, x)
		}
	}
	if s.Subjects = subjects; len(subjects) > 0 && !s.Each {
		return s.bad("subjects", "need an alert for each %s", m.Of)
	}
	if len(subjects) > maxSubjects || slices.ContainsFunc(subjects, func(x string) bool { return len(x) > 255 }) {
		return s.bad("subjects", "can be %d at most, of 255 characters", maxSubjects)
	}
	for _, name := range s.Inhibits {
		if _, ok := MetricNamed(name); !ok && name != "*" {
			return s.bad("inhibits", "has %q, which is not measured", name)
		}
	}
	if s.Runbook != "" {
		u, err := url.Parse(s.Runbook)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || len(s.Runbook) > maxURL {
			return s.bad("runbook", "must be an address such as https://wiki.example.org/phishing")
		}
	}
	d := s.Schedule
	if _, err := time.LoadLocation(d.Zone); err != nil || d.Zone == "Local" {
		return s.bad("schedule", "has a time zone that is not known: %q", d.Zone)
	}
	if d.From < 0 || d.From > 1439 || d.To < 0 || d.To > 1440 || slices.ContainsFunc(d.Days, func(w time.Weekday) bool { return w < 0 || w > 6 }) {
		return s.bad("schedule", "has times or days that there are not")
	}
	if s.Reaction == nil {
		return nil
	}
	own := *s.Reaction // others may have the same one
	s.Reaction = &own
	if s.Reaction.Kind == Tighten && s.Each {
		return &InvalidError{"reaction", "cannot tighten limits for one domain or component: have one alert for all"}
	}
	return s.Reaction.Check(s.Each && m.Of == "domain")
}

func orElse[T comparable](v *T, other T) {
	var zero T
	if *v == zero {
		*v = other
	}
}

// wants says whether a key of the metric is the rule's matter. A rule of a
// workspace sees no other; one for all looks at the sums alone.
func (s Spec) wants(workspace uuid.UUID, k Key) bool {
	if workspace != uuid.Nil && k.Workspace != workspace {
		return false
	}
	if s.Each != (k.Subject != "") {
		return false
	}
	return len(s.Subjects) == 0 || slices.Contains(s.Subjects, k.Subject)
}
