package health

import (
	"context"
	"log/slog"
	"slices"
	"time"
)

const (
	// keptSamples is an hour at one check every two seconds.
	keptSamples = 1800
	// keptChanges is enough to see a component flap.
	keptChanges = 100
)

// Sample is one past check.
type Sample struct {
	At        time.Time `json:"at"`
	State     State     `json:"state"`
	LatencyMS float64   `json:"latency_ms"`
}

// Change is one change of state.
type Change struct {
	At     time.Time `json:"at"`
	From   State     `json:"from"`
	To     State     `json:"to"`
	Reason string    `json:"reason"`
	Says   Text      `json:"-"`
}

// History is what this process remembers of a component, oldest first.
type History struct {
	Samples []Sample `json:"samples"`
	Changes []Change `json:"changes"`
}

// memory is what is kept of one component between checks.
type memory struct {
	state    State
	since    time.Time
	lastGood time.Time
	reason   string
	samples  ring[Sample]
	changes  ring[Change]
	minute   minute // of the history
	raw      State  // as the check said, where flapping is damped
	turns    []turn
	flaps    bool
}

// ring keeps the last values, up to its limit.
type ring[T any] struct {
	limit  int
	values []T
	next   int // where the next value goes once the ring is full
}

func (r *ring[T]) add(v T) {
	if len(r.values) < r.limit {
		r.values = append(r.values, v)
		return
	}
	r.values[r.next] = v
	r.next = (r.next + 1) % r.limit
}

// list returns the values, oldest first.
func (r *ring[T]) list() []T {
	return append(slices.Clone(r.values[r.next:]), r.values[:r.next]...)
}

// History returns the past checks of a component; nothing for an unknown name.
func (m *Monitor) History(name string) History {
	m.mu.Lock()
	defer m.mu.Unlock()
	mem, ok := m.memory[name]
	if !ok {
		return History{Samples: []Sample{}, Changes: []Change{}}
	}
	return History{Samples: mem.samples.list(), Changes: mem.changes.list()}
}

// remember turns results into a report and adds them to the history.
func (m *Monitor) remember(at time.Time, list []Component, results []Result) Report {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := Report{At: at, Components: make([]Status, 0, len(list))}
	present := make(map[string]bool, len(list))
	for i, c := range list {
		present[c.Name] = true
		r.Components = append(r.Components, m.rememberOne(at, c, results[i]))
	}
	for name := range m.memory {
		if !present[name] { // a next hop that no domain has any more
			delete(m.memory, name)
			delete(m.answers, name)
		}
	}
	r.State, r.Reason = overall(r.Components)
	return r
}

// rememberOne needs m.mu.
func (m *Monitor) rememberOne(at time.Time, c Component, res Result) Status {
	mem, known := m.memory[c.Name]
	if !known {
		mem = m.firstMemory(c.Name, res.State, at)
		m.memory[c.Name] = mem
	}
	found := res.State
	res = mem.damped(at, c, res)
	if mem.state != res.State {
		m.note(c, at, mem.state, res)
		mem.changes.add(Change{At: at, From: mem.state, To: res.State, Reason: res.Reason.String(), Says: res.Reason})
		m.logChange(c, mem.state, res)
		mem.state, mem.since = res.State, at
	}
	mem.reason = res.Reason.String()
	checked := at
	if res.reused {
		checked = at.Add(-time.Since(res.at))
	}
	if found.Works() {
		mem.lastGood = checked
	}
	latency := float64(res.Latency.Microseconds()) / 1000
	if !res.reused {
		mem.samples.add(Sample{At: at, State: found, LatencyMS: latency})
		m.count(mem, c.Name, at, found, latency)
	}
	s := Status{
		Name: c.Name, Title: c.Title, Group: c.Group, Effect: c.Effect, Ready: c.Ready,
		State: res.State, found: found, Code: res.Code, Reason: mem.reason, Says: res.Reason, Detail: res.Detail, Facts: res.Facts,
		Since: mem.since, CheckedAt: checked, LatencyMS: latency,
	}
	if !mem.lastGood.IsZero() {
		good := mem.lastGood
		s.LastGood = &good
	}
	return s
}

// firstMemory begins the memory of a component. What an earlier process stored
// is believed about the past; its "since" only if that process was still
// looking a moment ago, for nobody knows what happened in a longer gap.
func (m *Monitor) firstMemory(name string, state State, at time.Time) *memory {
	mem := &memory{state: state, raw: state, since: at, samples: ring[Sample]{limit: keptSamples}, changes: ring[Change]{limit: keptChanges}}
	old, ok := m.saved[name]
	delete(m.saved, name)
	if !ok {
		return mem
	}
	mem.lastGood = old.LastGood
	gap := at.Sub(old.UpdatedAt)
	if gap < 0 || gap > trustGap || old.Since.After(at) {
		return mem
	}
	mem.state, mem.since = old.State, old.Since
	return mem
}

func (m *Monitor) logChange(c Component, from State, res Result) {
	level := slog.LevelWarn
	if res.State == Up || res.State == NotConfigured || res.State == Maintenance {
		level = slog.LevelInfo
	}
	m.log.Log(context.Background(), level, "component changed state", "component", c.Name, "from", from, "to", res.State, "reason", res.Reason.String(), "detail", res.Detail)
}
