package rule

import (
	"cmp"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Rule is a spec that is in force.
type Rule struct {
	ID        uuid.UUID
	Number    int
	Workspace uuid.UUID // zero: all of them
	Spec      Spec
}

// AlertKey says which alert.
type AlertKey struct {
	Rule uuid.UUID
	Key
}

// Sent is a notice of an alert.
type Sent struct {
	Alert  AlertKey
	Notice Notice
	At     time.Time
	State  State
	Spec   Spec
}

// Windows has, for each rule, the buckets of its window by key.
type Windows map[uuid.UUID]Window

// Window is what one rule looks at, in one evaluation.
type Window struct {
	Buckets map[Key][]Bucket
	Usual   map[Key]float64 // only where it is known
	Error   bool
	Alive   bool // something measured in the last minute: silence then means zero
}

// Moment is one evaluation.
type Moment struct {
	Now      time.Time
	Step     time.Duration
	Silenced func(Rule, Key) bool       // nil: nothing is
	Acked    func(AlertKey, int64) bool // of an episode; nil: nothing is
}

// Tick moves all alerts of the rules on by one evaluation. Alerts that were never
// more than inactive have no state.
func Tick(rules []Rule, states map[AlertKey]State, windows Windows, m Moment) (map[AlertKey]State, []Sent) {
	type alert struct {
		rule  Rule
		key   AlertKey
		state State
		in    Reading
		ended bool
	}
	var list []alert
	for _, r := range rules {
		w := windows[r.ID]
		for _, k := range keysOf(r, w, states) {
			key := AlertKey{r.ID, k}
			in := r.reading(w, k, m)
			prev := states[key]
			if m.Acked != nil && prev.Phase == Firing {
				in.Acked = m.Acked(key, prev.Episode)
			}
			s, ended := advance(r.Spec, prev, in, m.Now)
			list = append(list, alert{r, key, s, in, ended})
		}
	}
	var sources []source
	for _, a := range list {
		if len(a.rule.Spec.Inhibits) > 0 && (a.state.Phase == Firing || a.state.Phase == Pending) {
			sources = append(sources, source{a.rule, a.key})
		}
	}
	next, sent := map[AlertKey]State{}, []Sent(nil)
	for _, a := range list {
		if n := notify(a.rule.Spec, &a.state, a.in, a.ended, inhibited(a.rule, a.key, sources), m.Now); n != Nothing {
			sent = append(sent, Sent{a.key, n, m.Now, a.state, a.rule.Spec})
		}
		if _, known := states[a.key]; known || a.state.Phase != Inactive {
			next[a.key] = a.state
		}
	}
	return next, sent
}

// source is an alert that keeps others silent.
type source struct {
	rule Rule
	key  AlertKey
}

// inhibited says whether one of the sources explains an alert. What explains
// others is never inhibited itself: two could keep each other silent.
func inhibited(r Rule, k AlertKey, sources []source) bool {
	if len(r.Spec.Inhibits) > 0 {
		return false
	}
	return slices.ContainsFunc(sources, func(s source) bool {
		return (s.key.Workspace == uuid.Nil || s.key.Workspace == k.Workspace) && s.rule.Spec.Severity.AtLeast(r.Spec.Severity) &&
			(slices.Contains(s.rule.Spec.Inhibits, "*") || slices.Contains(s.rule.Spec.Inhibits, r.Spec.Metric))
	})
}

// keysOf are the alerts of a rule: those with values, those with a state, and
// the one for all, which is there also while nothing happens.
func keysOf(r Rule, w Window, states map[AlertKey]State) []Key {
	set := map[Key]bool{}
	if !r.Spec.Each {
		set[Key{Workspace: r.Workspace}] = true
	}
	for k := range w.Buckets {
		if r.Spec.Each && r.Spec.wants(r.Workspace, k) {
			set[k] = true
		}
	}
	for k := range states {
		if k.Rule == r.ID && r.Spec.Each == (k.Subject != "") && (!r.Spec.Each || r.Spec.wants(r.Workspace, k.Key)) {
			set[k.Key] = true
		}
	}
	for _, subject := range r.Spec.Subjects {
		// A component that nothing was ever heard of is known by the rule's word.
		if m, _ := MetricNamed(r.Spec.Metric); m.Kind == Gauge {
			set[Key{r.Workspace, subject}] = true
		}
	}
	list := make([]Key, 0, len(set))
	for k := range set {
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b Key) int {
		return cmp.Or(slices.Compare(a.Workspace[:], b.Workspace[:]), cmp.Compare(a.Subject, b.Subject))
	})
	return list
}

// reading is what a rule hears of one key.
func (r Rule) reading(w Window, k Key, m Moment) Reading {
	metric, _ := MetricNamed(r.Spec.Metric)
	in := Reading{Error: w.Error, Step: m.Step, Muted: !r.Spec.Schedule.Active(m.Now)}
	if m.Silenced != nil {
		in.Silenced = m.Silenced(r, k)
	}
	buckets := w.Buckets[k]
	if !r.Spec.Each {
		buckets = nil
		for bk, list := range w.Buckets {
			if bk.Subject == "" && (r.Workspace == uuid.Nil || bk.Workspace == r.Workspace) {
				buckets = append(buckets, list...)
			}
		}
	}
	in.Value, in.Has = Value(metric.Kind, buckets)
	if metric.Kind == Count && metric.Missing == "" {
		in.Has = w.Alive // nothing counted is zero, if somebody counts
	}
	in.Usual, in.HasUsual = w.Usual[k]
	return in
}

// Collapse keeps, of the notices of several evaluations that were made up for,
// the last alarm of each alert and its end: nobody wants to hear now how often
// they would have heard before.
func Collapse(list []Sent) []Sent {
	type place struct{ alarm, end int }
	last := map[AlertKey]place{}
	for i, s := range list {
		p, ok := last[s.Alert]
		if !ok {
			p = place{-1, -1}
		}
		if s.Notice == Alarmed {
			p.alarm, p.end = i, -1
		} else {
			p.end = i
		}
		last[s.Alert] = p
	}
	var out []Sent
	for i, s := range list {
		if p := last[s.Alert]; i == p.alarm || i == p.end {
			out = append(out, s)
		}
	}
	return out
}
