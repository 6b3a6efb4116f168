package rule

import "time"

// Phase of an alert. What people see is [State.Shown].
type Phase string

// The phases.
const (
	Inactive Phase = "inactive"
	Pending  Phase = "pending" // the condition holds, not long enough yet
	Firing   Phase = "firing"
	Resolved Phase = "resolved" // was firing a moment ago
	NoData   Phase = "no_data"
	Failed   Phase = "error"

	// Only shown, never a phase.
	Muted        Phase = "muted"
	Acknowledged Phase = "acknowledged"
)

// Phases are those that an alert can be in.
func Phases() []Phase { return []Phase{Firing, Pending, Resolved, NoData, Failed, Inactive} }

// resolvedFor is how long an alert that has ended is still shown as such.
const resolvedFor = 15 * time.Minute

// State is what is remembered of one alert between two evaluations.
type State struct {
	Phase    Phase
	Since    time.Time // of the phase
	Seen     time.Time // the last evaluation
	Value    float64
	Has      bool // there is a value
	Usual    float64
	Episode  int64     // counts how often it has fired
	FiredAt  time.Time // of the episode
	Notified time.Time // the last alarm, of any episode
	Alarmed  bool      // an alarm of this episode was sent
	Acked    bool      // somebody has this episode in hand
	// Why the last evaluation sent nothing though it fires; for people.
	Silent string
	Muted  bool // outside of the rule's schedule
}

// Shown is the state for people.
func (s State) Shown() Phase {
	switch {
	case s.Phase == Firing && s.Acked:
		return Acknowledged
	case s.Muted && (s.Phase == Firing || s.Phase == Pending):
		return Muted
	}
	return s.Phase
}

// Reading is what one evaluation hears.
type Reading struct {
	Value    float64
	Has      bool
	Usual    float64
	HasUsual bool
	Error    bool          // the buckets could not be read
	Step     time.Duration // time to the evaluation before
	Muted    bool
	Silenced bool
	Acked    bool
}

// Notice is a message to be sent.
type Notice string

// The notices.
const (
	Alarmed Notice = "alarm"
	Ended   Notice = "resolved"
	Nothing Notice = ""
)

// verdict of a condition.
type verdict int

const (
	unknown verdict = iota
	broken
	holds
	not
)

func (s Spec) judge(in Reading) verdict {
	has := in.Has && (s.Compare != Times || in.HasUsual)
	switch {
	case in.Error:
		return broken
	case !has && s.Missing == Alarm:
		return holds
	case !has && s.Missing == Fine:
		return not
	case !has:
		return unknown
	}
	hit := in.Value > s.Threshold
	switch s.Compare {
	case Below:
		hit = in.Value < s.Threshold
	case Times:
		hit = in.Value > s.Threshold*max(in.Usual, 1) // from nothing, everything is many times as much
	}
	if hit {
		return holds
	}
	return not
}

// clamp brings times of the future, left behind by a clock that went wrong, to
// now: a wait begins anew at worst.
func (s *State) clamp(now time.Time) {
	for _, t := range []*time.Time{&s.Since, &s.Seen, &s.FiredAt, &s.Notified} {
		if t.After(now) {
			*t = now
		}
	}
}

func (s *State) enter(p Phase, now time.Time) {
	if s.Phase != p {
		s.Phase, s.Since = p, now
	}
}

// advance moves an alert on by one evaluation. Ended is true at the end of an
// episode of which an alarm was sent.
func advance(r Spec, prev State, in Reading, now time.Time) (s State, ended bool) {
	s = prev
	s.clamp(now)
	if s.Phase == "" {
		s.Phase, s.Since = Inactive, now
	}
	// A condition holds for a time only if it was seen to: after a gap it has to
	// be seen again.
	gap := !s.Seen.IsZero() && now.Sub(s.Seen) > 2*max(in.Step, Step)
	s.Seen, s.Value, s.Has, s.Usual, s.Muted = now, in.Value, in.Has, in.Usual, in.Muted
	switch r.judge(in) {
	case holds:
		if s.Phase != Firing && (s.Phase != Pending || gap) {
			s.Phase, s.Since = Pending, now
		}
		if s.Phase == Pending && now.Sub(s.Since) >= r.For {
			s.Phase, s.Since, s.FiredAt, s.Alarmed, s.Acked = Firing, now, now, false, false
			s.Episode++
		}
	case not:
		switch {
		case s.Phase == Firing:
			ended = s.Alarmed
			s.Phase, s.Since, s.Alarmed, s.Acked = Resolved, now, false, false
		case s.Phase != Resolved || now.Sub(s.Since) >= resolvedFor:
			s.enter(Inactive, now)
		}
	case unknown:
		if s.Phase != Firing {
			s.enter(NoData, now)
		}
	case broken:
		if s.Phase != Firing {
			s.enter(Failed, now)
		}
	}
	return s, ended
}

// notify says what is to be sent for an alert after [advance].
func notify(r Spec, s *State, in Reading, ended, inhibited bool, now time.Time) Notice {
	s.Silent = ""
	s.Acked = s.Phase == Firing && in.Acked
	switch {
	case ended && !in.Muted && !in.Silenced:
		return Ended
	case s.Phase != Firing:
		return Nothing
	case s.Acked:
		s.Silent = "acknowledged"
	case in.Muted:
		s.Silent = "muted"
	case in.Silenced:
		s.Silent = "silenced"
	case inhibited:
		s.Silent = "inhibited"
	case !s.Notified.IsZero() && now.Sub(s.Notified) < r.Cooldown:
		s.Silent = "cooldown"
	default:
		s.Notified, s.Alarmed = now, true
		return Alarmed
	}
	return Nothing
}
