// Package health says what works, what does not, and what that means for mail
// right now.
//
// It stands beside the path of a mail, never on it: a mail does not wait for a
// check and no check decides about a mail. Each component has one check, a
// real question through the real client. A [Monitor] asks all of them at the
// same time, gives each its own time limit, and never waits for one that does
// not keep to it.
//
// A state is worth only as much as the sentence beside it, so every result
// carries a reason that says what it means for mail and what to do.
package health

import (
	"context"
	"time"
)

// State is the state of one component or of the whole.
type State string

// The states, the same words everywhere.
const (
	Up            State = "up"
	Degraded      State = "degraded"       // works, but less well or less safely than it should
	Down          State = "down"           // does not do its work
	NotAuthorised State = "not_authorised" // answers, but refuses us: an expired token is not green
	Unknown       State = "unknown"        // nothing is known: not checked yet, or the check could not tell
	NotConfigured State = "not_configured" // there is none, on purpose
	Maintenance   State = "maintenance"    // an operator said so
)

// States lists all states, best first.
func States() []State {
	return []State{Up, NotConfigured, Maintenance, Unknown, Degraded, NotAuthorised, Down}
}

// Works says whether a component in this state does its work for mail.
func (s State) Works() bool { return s == Up || s == Degraded }

// Effect is what the failure of a component means for the whole.
type Effect int

const (
	// Weakens: mail flows without it. Its failure makes the whole degraded.
	Weakens Effect = iota
	// Stops: no mail is accepted without it. Its failure makes the whole down.
	Stops
	// StopsAsGroup: one of several of a kind. The whole is down only when all
	// of its group are, and degraded when some are.
	StopsAsGroup
)

// Component is one thing that can work or fail.
type Component struct {
	Name  string // "clamav"; "next_hop:10.0.0.5:25"
	Title string // as a person reads it
	Group string // "stores", "engines", "delivery", "audit", "host"

	Effect Effect
	// Ready is set for what a gateway needs before it takes mail (/readyz).
	Ready bool
	// Meaning is the text for a check that hung or crashed: what its failure means
	// for mail, and what to do.
	Meaning Text

	// Every is how long an answer of the component stands: for what belongs to
	// others and wants to be asked seldom. The report says how old it is. Zero: it
	// is asked on each call.
	Every time.Duration

	// Check asks the component. It should return when ctx ends; if it does
	// not, it is left behind and not started again until it has returned.
	Check func(ctx context.Context) Result
}

// Result is the answer of one check.
type Result struct {
	State State
	// Code names the reason for programs and translations: "unreachable".
	Code string
	// Reason is one or two sentences: what it means for mail now, what to do.
	Reason Text
	// Detail is the technical cause, for people who are logged in.
	Detail string
	// Facts are values worth showing, by snake_case name.
	Facts map[string]string
	// Latency is the round trip; the time of the whole check when zero.
	Latency time.Duration
	// RetryAfter is how long the component must not be asked again, whatever its
	// pace: a server that locks out who comes with a wrong key.
	RetryAfter time.Duration

	at     time.Time // when it was found out
	reused bool      // it is the answer of an earlier run
}

// Report is what is known about all components at one moment.
type Report struct {
	At         time.Time `json:"at"`
	State      State     `json:"state"`
	Reason     string    `json:"reason"`
	DurationMS int64     `json:"duration_ms"`
	Components []Status  `json:"components"`
}

// Status is the state of one component within a report.
type Status struct {
	Name   string `json:"name"`
	Title  string `json:"title"`
	Group  string `json:"group"`
	State  State  `json:"state"`
	Code   string `json:"code,omitempty"`
	Reason string `json:"reason"` // in English; Says is for pages
	Detail string `json:"detail,omitempty"`
	Says   Text   `json:"-"`

	// Since is when the component came into its present state, as far as this
	// process or the one before it saw.
	Since time.Time `json:"since"`
	// LastGood is when a check last found it working (up or degraded).
	LastGood *time.Time `json:"last_good,omitempty"`
	// CheckedAt is when this was found out, AgeMS how long ago that was when
	// the report was handed over: a stale number shows its age.
	CheckedAt time.Time `json:"checked_at"`
	AgeMS     int64     `json:"age_ms"`

	LatencyMS float64           `json:"latency_ms"`
	Facts     map[string]string `json:"facts,omitempty"`

	Effect Effect `json:"-"`
	Ready  bool   `json:"-"`

	found State // by the check, where State is damped
}

// Component returns the status of the named component.
func (r Report) Component(name string) (Status, bool) {
	for _, s := range r.Components {
		if s.Name == name {
			return s, true
		}
	}
	return Status{}, false
}

// Ready says whether the gateway can take mail, and names what is missing.
func (r Report) Ready() (ready bool, missing []string) {
	for _, s := range r.Components {
		if s.Ready && !s.State.Works() && !s.found.Works() {
			missing = append(missing, s.Name)
		}
	}
	return len(missing) == 0 && len(r.Components) > 0, missing
}
