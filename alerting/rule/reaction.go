package rule

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ReactionKind is what a rule has done while its alert fires.
type ReactionKind string

// The reactions.
const (
	Lock    ReactionKind = "lock"    // mail is quarantined, whatever was found
	Sandbox ReactionKind = "sandbox" // every file goes to the sandbox first
	Tighten ReactionKind = "tighten" // limits of clients and senders are tighter
	Pause   ReactionKind = "pause"   // nothing leaves the quarantine
)

// ReactionKinds are all of them.
func ReactionKinds() []ReactionKind { return []ReactionKind{Lock, Sandbox, Tighten, Pause} }

// Reaction is what a rule does besides telling people. It ends by itself.
type Reaction struct {
	Kind   ReactionKind  `json:"kind"`
	DryRun bool          `json:"dry_run"` // it only counts what it would do
	Lasts  time.Duration `json:"lasts"`
	Most   int           `json:"most"` // mails that it may touch
	// Direction is of the mail that a lock or the sandbox is about.
	Direction string `json:"direction,omitempty"` // inbound, outbound or both
	// Match and Value narrow these two to mail of a sender, of a sender's domain, or
	// with a subject.
	Match   string `json:"match,omitempty"`
	Value   string `json:"value,omitempty"`
	Divisor int    `json:"divisor,omitempty"` // limits are so many times tighter
}

// Directions are what a reaction can be about.
func Directions() []string { return []string{"inbound", "outbound", "both"} }

// ReactionMatches are what a reaction can look for; "" is all mail.
func ReactionMatches() []string { return []string{"", "sender", "sender_domain", "subject"} }

// Bounds of a reaction.
const (
	MinLasts   = time.Minute
	MaxLasts   = 24 * time.Hour
	MaxTouched = 10_000
	MaxDivisor = 100
)

// Check brings a reaction into the form in which it is kept, or says what is
// wrong. scoped: it is for one domain of ours.
func (r *Reaction) Check(scoped bool) error {
	orElse(&r.Lasts, time.Hour)
	orElse(&r.Most, 1000)
	r.Value = strings.TrimSpace(r.Value)
	bad := func(format string, args ...any) error { return &InvalidError{"reaction", fmt.Sprintf(format, args...)} }
	switch {
	case !slices.Contains(ReactionKinds(), r.Kind):
		return bad("must be lock, sandbox, tighten or pause")
	case r.Lasts < MinLasts || r.Lasts > MaxLasts:
		return bad("must last %s to %s", MinLasts, MaxLasts)
	case r.Most < 1 || r.Most > MaxTouched:
		return bad("must have a limit of 1 to %d", MaxTouched)
	}
	if r.Kind == Tighten {
		orElse(&r.Divisor, 10)
		if r.Divisor < 2 || r.Divisor > MaxDivisor {
			return bad("must make limits 2 to %d times tighter", MaxDivisor)
		}
	} else {
		r.Divisor = 0
	}
	if r.Kind == Tighten || r.Kind == Pause {
		r.Direction, r.Match, r.Value = "", "", ""
		return nil
	}
	orElse(&r.Direction, "inbound")
	switch {
	case !slices.Contains(Directions(), r.Direction):
		return bad("must be about inbound or outbound mail, or both")
	case !slices.Contains(ReactionMatches(), r.Match):
		return bad("must look for a sender, a sender_domain, a subject, or nothing")
	case (r.Match == "") != (r.Value == ""):
		return bad("needs both what it looks for and its value, or neither")
	case r.Kind == Lock && r.Match == "" && !scoped:
		return bad("would lock all mail there is: have an alert for each domain, or name a sender or a subject")
	}
	return nil
}

// writtenReaction has the length of time as people write it.
type writtenReaction struct {
	*plainReaction
	Lasts string `json:"lasts"`
}

type plainReaction Reaction

// MarshalJSON implements [json.Marshaler].
func (r Reaction) MarshalJSON() ([]byte, error) {
	p := plainReaction(r)
	return json.Marshal(writtenReaction{&p, r.Lasts.String()})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (r *Reaction) UnmarshalJSON(b []byte) error {
	w := writtenReaction{plainReaction: (*plainReaction)(r)}
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	d, err := time.ParseDuration(w.Lasts)
	if err != nil {
		return fmt.Errorf("length of time %q: %w", w.Lasts, err)
	}
	r.Lasts = d
	return nil
}
