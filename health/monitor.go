package health

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// CheckLimit is how long one check may take.
	CheckLimit = 2 * time.Second
	// grace lets a check that keeps to its context say itself what went wrong,
	// before it is written off. CheckLimit+grace stays well under the 2.5 s in
	// which the whole answer is promised.
	grace = 150 * time.Millisecond
	// ShareFor is how long an answer serves further calls.
	ShareFor = time.Second
	// askFailedAgain is how long a bad answer stands at most.
	askFailedAgain = 10 * time.Second
	// Interval is the time between two checks in the background. With
	// CheckLimit it keeps "a failure shows within 5 s" even for one that hangs.
	Interval = 2 * time.Second
)

// Monitor checks components and remembers what it saw.
type Monitor struct {
	fixed   []Component
	dynamic func() []Component
	log     *slog.Logger
	now     func() time.Time
	limit   time.Duration
	store   Store
	past    *Past // nil: only this process remembers

	mu       sync.Mutex // guards everything below
	current  *run
	inflight map[string]time.Time // check that has not returned, by component: when it began
	answers  map[string]Result    // of components with a pace of their own: the last one
	memory   map[string]*memory
	saved    map[string]Saved // what an earlier process stored; consumed by the first check of each component
	latest   Report
	waiting  unwritten
}

// run is one check of everything. Its report is set before done is closed.
type run struct {
	started  time.Time
	done     chan struct{}
	finished bool // guarded by Monitor.mu
	report   Report
}

// Option changes a Monitor at its making.
type Option func(*Monitor)

// WithClock replaces the clock by which states are dated.
func WithClock(now func() time.Time) Option { return func(m *Monitor) { m.now = now } }

// WithStore lets states survive a restart.
func WithStore(s Store) Option { return func(m *Monitor) { m.store = s } }

// WithDynamic adds components that come and go, such as the next hops of
// domains that are added in the UI. It is asked before each run and must not
// block.
func WithDynamic(list func() []Component) Option { return func(m *Monitor) { m.dynamic = list } }

// withLimit shortens the time limit of a check, for tests.
func withLimit(d time.Duration) Option { return func(m *Monitor) { m.limit = d } }

// New returns a Monitor of the components. It checks nothing by itself: see
// [Monitor.Check] and [Monitor.Run].
func New(components []Component, log *slog.Logger, options ...Option) *Monitor {
	m := &Monitor{
		fixed: components, log: log, now: time.Now, limit: CheckLimit,
		inflight: map[string]time.Time{}, answers: map[string]Result{}, memory: map[string]*memory{},
	}
	for _, o := range options {
		o(m)
	}
	m.latest = m.unchecked(m.now())
	return m
}

// Check asks all components at the same time and returns within 2.5 s, whatever
// they do. Calls within a second share one run. If ctx ends first, the answer
// is the latest that is known, with its age.
func (m *Monitor) Check(ctx context.Context) Report {
	r := m.join(ctx)
	select {
	case <-r.done:
		return m.aged(r.report)
	case <-ctx.Done():
		return m.Latest()
	}
}

// Latest returns the last report without asking anybody.
func (m *Monitor) Latest() Report {
	m.mu.Lock()
	latest := m.latest
	m.mu.Unlock()
	return m.aged(latest)
}

// join returns the run that answers a call made now: the one under way, the
// last one if it is young enough, or a new one.
func (m *Monitor) join(ctx context.Context) *run {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	if c := m.current; c != nil {
		// A clock that was set back must not freeze the answer.
		age := now.Sub(c.started)
		if !c.finished || age >= 0 && age < ShareFor {
			return c
		}
	}
	c := &run{started: now, done: make(chan struct{})}
	m.current = c
	// The run serves several callers, so none of them may end it.
	go m.perform(context.WithoutCancel(ctx), c)
	return c
}

// perform checks everything once. It ends within limit+grace, because each of
// its checks does.
func (m *Monitor) perform(ctx context.Context, r *run) {
	began := time.Now()
	list := m.components()
	results := make([]Result, len(list))
	var wg sync.WaitGroup
	for i, c := range list {
		wg.Go(func() { results[i] = m.one(ctx, c) })
	}
	wg.Wait()
	report := m.remember(r.started, list, results)
	report.DurationMS = time.Since(began).Milliseconds()

	m.mu.Lock()
	m.latest, r.report, r.finished = report, report, true
	m.mu.Unlock()
	close(r.done)
}

func (m *Monitor) components() []Component {
	if m.dynamic == nil {
		return m.fixed
	}
	seen := map[string]bool{}
	var list []Component
	for _, c := range append(append([]Component(nil), m.fixed...), m.dynamic()...) {
		if !seen[c.Name] {
			seen[c.Name] = true
			list = append(list, c)
		}
	}
	return list
}

// one runs one check. A check that does not return in time is left alone: its
// goroutine stays until it returns, and until then it is not started again.
func (m *Monitor) one(ctx context.Context, c Component) Result {
	began := time.Now()
	if r, ok := m.standing(c, began); ok {
		return r
	}
	if since, hangs := m.begin(c.Name, began); hangs {
		return hung(c, began.Sub(since))
	}
	answer := make(chan Result, 1)
	ctx, cancel := context.WithTimeout(ctx, m.limit)
	go func() {
		defer cancel()
		r := m.guarded(ctx, c)
		if r.Latency <= 0 {
			r.Latency = time.Since(began)
		}
		r.at = time.Now()
		m.mu.Lock()
		delete(m.inflight, c.Name)
		if c.Every > 0 || r.RetryAfter > 0 {
			m.answers[c.Name] = r
		}
		m.mu.Unlock()
		answer <- r
	}()
	timer := time.NewTimer(m.limit + grace)
	defer timer.Stop()
	select {
	case r := <-answer:
		return r
	case <-timer.C:
		return hung(c, time.Since(began))
	}
}

// standing is the last answer of a component that must not be asked again yet. A
// bad one stands for a short time only, so that its end is seen soon.
func (m *Monitor) standing(c Component, now time.Time) (Result, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.answers[c.Name]
	if !ok {
		return Result{}, false
	}
	stands := c.Every
	if r.State != Up && r.State != NotConfigured {
		stands = min(c.Every, askFailedAgain)
	}
	age := now.Sub(r.at)
	r.reused = true
	return r, age >= 0 && age < max(stands, r.RetryAfter)
}

// begin marks a check as under way, or says since when it has been already.
func (m *Monitor) begin(name string, now time.Time) (since time.Time, hangs bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if since, hangs = m.inflight[name]; !hangs {
		m.inflight[name] = now
	}
	return since, hangs
}

func hung(c Component, d time.Duration) Result {
	return Result{
		State: Down, Code: "timeout", Latency: d,
		Reason: say("hung", c.titled(), span(d)).with(c.Meaning),
		Detail: fmt.Sprintf("the check is still waiting after %s and is not started again before it returns", seconds(d)),
	}
}

// guarded runs the check; a crash in it counts as down and harms nobody else.
func (m *Monitor) guarded(ctx context.Context, c Component) (r Result) {
	defer func() {
		if p := recover(); p != nil {
			m.log.Error("health check panicked", "component", c.Name, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			r = Result{
				State: Down, Code: "check_crashed", Detail: fmt.Sprintf("panic: %v", p),
				Reason: say("crashed", c.titled()).with(c.Meaning).and("crashed.do"),
			}
		}
	}()
	r = c.Check(ctx)
	if !valid(r.State) {
		return Result{
			State: Unknown, Code: "check_invalid", Detail: fmt.Sprintf("the check returned state %q", r.State),
			Reason: say("no_usable", c.titled()),
		}
	}
	if len(r.Reason) == 0 {
		r.Reason = defaultReason(c, r.State)
	}
	return r
}

func valid(s State) bool {
	for _, v := range States() {
		if s == v {
			return true
		}
	}
	return false
}

func defaultReason(c Component, s State) Text {
	who := c.titled()
	switch s {
	case Up:
		return say("works", who)
	case NotConfigured:
		return say("unset", who)
	case Maintenance:
		return say("maintained", who)
	case Unknown:
		return say("unknown", who)
	case NotAuthorised:
		return say("refuses", who).with(c.Meaning)
	case Degraded:
		return say("works_badly", who)
	}
	return say("works_not", who).with(c.Meaning)
}

// unchecked is the report before the first run.
func (m *Monitor) unchecked(now time.Time) Report {
	r := Report{At: now, Components: []Status{}}
	for _, c := range m.fixed {
		says := say("unchecked", c.titled())
		r.Components = append(r.Components, Status{
			Name: c.Name, Title: c.Title, Group: c.Group, Effect: c.Effect, Ready: c.Ready, State: Unknown,
			Code: "unchecked", Reason: says.String(), Says: says, Since: now, CheckedAt: now,
		})
	}
	r.State, r.Reason = overall(r.Components)
	return r
}

// aged returns a copy of r, which is shared, with the ages of now.
func (m *Monitor) aged(r Report) Report {
	now := m.now()
	list := make([]Status, len(r.Components))
	for i, s := range r.Components {
		s.AgeMS = max(0, now.Sub(s.CheckedAt).Milliseconds())
		s.Facts = maps.Clone(s.Facts)
		list[i] = s
	}
	r.Components = list
	return r
}

// Run checks every Interval until ctx ends, so that a failure is noticed also
// when nobody looks, and keeps the stored states up to date.
func (m *Monitor) Run(ctx context.Context) error {
	keeper := newKeeper(m)
	tick := time.NewTicker(Interval)
	defer tick.Stop()
	for {
		m.Check(ctx)
		keeper.keep(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
