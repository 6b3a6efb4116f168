package health

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// fixedState is a component that is always in one state.
func fixedState(name string, s State) Component {
	return Component{Name: name, Title: strings.ToUpper(name), Group: "test", Check: func(context.Context) Result { return Result{State: s} }}
}

// slow is a component that takes d to answer and ignores its context.
func slow(name string, d time.Duration) Component {
	return Component{Name: name, Title: name, Meaning: Plain("Mail waits."), Check: func(context.Context) Result {
		time.Sleep(d)
		return Result{State: Up}
	}}
}

func component(t *testing.T, r Report, name string) Status {
	t.Helper()
	s, ok := r.Component(name)
	if !ok {
		t.Fatalf("no component %q in %+v", name, r)
	}
	return s
}

func TestCheck_AsksAllAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var list []Component
		for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
			list = append(list, slow(name, 1500*time.Millisecond)) // together 9 s
		}
		m := New(list, quiet())
		began := time.Now()
		r := m.Check(t.Context())
		if took := time.Since(began); took != 1500*time.Millisecond {
			t.Errorf("six checks of 1.5 s took %v", took)
		}
		if r.State != Up || r.DurationMS != 1500 {
			t.Errorf("state %s after %d ms, want up after 1500", r.State, r.DurationMS)
		}
		for _, s := range r.Components {
			if s.State != Up || s.LatencyMS != 1500 {
				t.Errorf("%s: %s in %v ms", s.Name, s.State, s.LatencyMS)
			}
		}
	})
}

func TestCheck_DoesNotWaitForOneThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, started atomic.Int32
		release := make(chan struct{})
		stuck := Component{Name: "stuck", Title: "Stuck", Meaning: Plain("Mail waits."), Effect: Stops, Check: func(context.Context) Result {
			started.Add(1)
			if running.Add(1) > 1 {
				t.Error("a hung check was started a second time")
			}
			defer running.Add(-1)
			<-release // ignores its context
			return Result{State: Up}
		}}
		m := New([]Component{stuck, fixedState("fine", Up)}, quiet())

		began := time.Now()
		r := m.Check(t.Context())
		if took := time.Since(began); took > 2500*time.Millisecond {
			t.Errorf("first answer took %v", took)
		}
		s := component(t, r, "stuck")
		if s.State != Down || s.Code != "timeout" || !strings.Contains(s.Reason, "Mail waits.") || r.State != Down {
			t.Errorf("stuck: %+v, whole %s", s, r.State)
		}
		if component(t, r, "fine").State != Up {
			t.Error("the other component suffers from the hung one")
		}

		for range 5 {
			time.Sleep(2 * time.Second)
			began := time.Now()
			r = m.Check(t.Context())
			if took := time.Since(began); took != 0 {
				t.Errorf("a check known to hang was waited for again, %v", took)
			}
		}
		if s := component(t, r, "stuck"); s.State != Down || !strings.Contains(s.Reason, "12 s") {
			t.Errorf("after 12 s: %s, %q", s.State, s.Reason)
		}
		if started.Load() != 1 {
			t.Errorf("started %d times", started.Load())
		}

		close(release)
		synctest.Wait()
		time.Sleep(2 * time.Second)
		if s := component(t, m.Check(t.Context()), "stuck"); s.State != Up {
			t.Errorf("after the hung check returned: %s, %q", s.State, s.Reason)
		}
		if started.Load() != 2 {
			t.Errorf("started %d times, want 2", started.Load())
		}
	})
}

func TestCheck_LetsACheckThatKeepsItsLimitExplainItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Component{Name: "polite", Title: "Polite", Check: func(ctx context.Context) Result {
			<-ctx.Done()
			return Result{State: Down, Code: "mine", Reason: Plain("My own words.")}
		}}
		m := New([]Component{c}, quiet())
		began := time.Now()
		s := component(t, m.Check(t.Context()), "polite")
		if s.Code != "mine" || time.Since(began) != CheckLimit {
			t.Errorf("%q after %v", s.Code, time.Since(began))
		}
	})
}

func TestCheck_PanicIsDownAndHurtsNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := Component{Name: "bad", Title: "Bad", Meaning: Plain("Mail waits."), Check: func(context.Context) Result {
			var p *Result
			return *p
		}}
		m := New([]Component{bad, fixedState("fine", Up)}, quiet())
		r := m.Check(t.Context())
		if s := component(t, r, "bad"); s.State != Down || s.Code != "check_crashed" || !strings.Contains(s.Detail, "nil pointer") {
			t.Errorf("%+v", s)
		}
		if component(t, r, "fine").State != Up {
			t.Error("the other component suffers from the crash")
		}
		time.Sleep(2 * time.Second)
		if s := component(t, m.Check(t.Context()), "bad"); s.Code != "check_crashed" {
			t.Errorf("second check after a crash: %q, want to be run again", s.Code)
		}
	})
}

func TestCheck_InvalidStateIsUnknown(t *testing.T) {
	m := New([]Component{fixedState("odd", "green")}, quiet())
	if s := component(t, m.Check(t.Context()), "odd"); s.State != Unknown || s.Code != "check_invalid" {
		t.Errorf("%+v", s)
	}
}

func TestCheck_SharesOneRunForASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int32
		c := Component{Name: "a", Title: "A", Check: func(context.Context) Result {
			runs.Add(1)
			time.Sleep(300 * time.Millisecond)
			return Result{State: Up}
		}}
		m := New([]Component{c}, quiet())
		var wg sync.WaitGroup
		for range 50 { // at the same time: all join the run under way
			wg.Go(func() {
				if r := m.Check(t.Context()); r.State != Up {
					t.Errorf("state %s", r.State)
				}
			})
		}
		wg.Wait()
		if runs.Load() != 1 {
			t.Fatalf("50 calls at once made %d runs", runs.Load())
		}
		time.Sleep(600 * time.Millisecond) // 0.9 s after the run began
		r := m.Check(t.Context())
		if runs.Load() != 1 {
			t.Errorf("a call within the second made another run")
		}
		if age := r.Components[0].AgeMS; age != 900 {
			t.Errorf("shared answer says age %d ms, want 900", age)
		}
		time.Sleep(100 * time.Millisecond)
		m.Check(t.Context())
		if runs.Load() != 2 {
			t.Errorf("after a second: %d runs, want 2", runs.Load())
		}
	})
}

func TestCheck_ClockSetBackDoesNotFreezeTheAnswer(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	var runs int
	c := Component{Name: "a", Title: "A", Check: func(context.Context) Result { runs++; return Result{State: Up} }}
	m := New([]Component{c}, quiet(), WithClock(func() time.Time { return now }))
	m.Check(t.Context())
	now = now.Add(-time.Hour)
	m.Check(t.Context())
	if runs != 2 {
		t.Errorf("%d runs, want 2", runs)
	}
}

func TestCheck_CallerThatLeavesSpoilsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Component{Name: "a", Title: "A", Check: func(ctx context.Context) Result {
			select {
			case <-time.After(time.Second):
				return Result{State: Up}
			case <-ctx.Done():
				return Result{State: Down}
			}
		}}
		m := New([]Component{c}, quiet())
		hasty, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if r := m.Check(hasty); r.State != Unknown {
				t.Errorf("the caller that left got %s, want unknown", r.State)
			}
		})
		synctest.Wait()
		cancel()
		if r := m.Check(t.Context()); r.State != Up {
			t.Errorf("the caller that stayed got %s", r.State)
		}
		wg.Wait()
	})
}

func TestCheck_AnswerIsTheCallersOwn(t *testing.T) {
	c := Component{Name: "a", Title: "A", Check: func(context.Context) Result {
		return Result{State: Up, Facts: map[string]string{"k": "v"}}
	}}
	m := New([]Component{c}, quiet())
	m.Check(t.Context()).Components[0].Facts["k"] = "spoiled"
	if v := m.Latest().Components[0].Facts["k"]; v != "v" {
		t.Errorf("one caller changed the answer of the next: %q", v)
	}
}

func TestSinceAndLastGood(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	start := now
	state := Down
	c := Component{Name: "a", Title: "A", Check: func(context.Context) Result { return Result{State: state} }}
	m := New([]Component{c}, quiet(), WithClock(func() time.Time { return now }))

	steps := []struct {
		state    State
		after    time.Duration
		since    time.Duration // from start
		lastGood time.Duration // from start; -1: never
	}{
		{Down, 0, 0, -1},
		{Down, 10 * time.Second, 0, -1},
		{Up, 10 * time.Second, 20 * time.Second, 20 * time.Second},
		{Up, 10 * time.Second, 20 * time.Second, 30 * time.Second},
		{Degraded, 10 * time.Second, 40 * time.Second, 40 * time.Second}, // degraded still does its work
		{Down, 10 * time.Second, 50 * time.Second, 40 * time.Second},
		{NotAuthorised, 10 * time.Second, 60 * time.Second, 40 * time.Second},
		{NotAuthorised, 10 * time.Second, 60 * time.Second, 40 * time.Second},
	}
	for i, s := range steps {
		now, state = now.Add(s.after), s.state
		got := m.Check(t.Context()).Components[0]
		if !got.Since.Equal(start.Add(s.since)) {
			t.Errorf("step %d: since %v, want %v", i, got.Since.Sub(start), s.since)
		}
		switch {
		case s.lastGood < 0 && got.LastGood != nil:
			t.Errorf("step %d: last good %v, want never", i, got.LastGood)
		case s.lastGood >= 0 && (got.LastGood == nil || !got.LastGood.Equal(start.Add(s.lastGood))):
			t.Errorf("step %d: last good %v, want %v", i, got.LastGood, s.lastGood)
		}
	}
	h := m.History("a")
	if len(h.Samples) != len(steps) {
		t.Errorf("%d samples, want %d", len(h.Samples), len(steps))
	}
	var words []string
	for _, c := range h.Changes {
		words = append(words, string(c.From)+">"+string(c.To))
	}
	if got := strings.Join(words, " "); got != "down>up up>degraded degraded>down down>not_authorised" {
		t.Errorf("changes: %s", got)
	}
}

func TestHistory_KeepsTheLast(t *testing.T) {
	r := ring[int]{limit: 3}
	for i := range 5 {
		r.add(i)
	}
	if l := r.list(); len(l) != 3 || l[0] != 2 || l[2] != 4 {
		t.Errorf("%v", l)
	}
	m := New([]Component{fixedState("a", Up)}, quiet())
	if h := m.History("nobody"); h.Samples == nil || len(h.Samples) != 0 {
		t.Errorf("%+v", h)
	}
}

func TestDynamicComponents_ComeAndGo(t *testing.T) {
	now := time.Now()
	var hops []Component
	m := New([]Component{fixedState("a", Up)}, quiet(), WithClock(func() time.Time { return now }), WithDynamic(func() []Component { return hops }))
	m.Check(t.Context())
	now, hops = now.Add(2*time.Second), []Component{fixedState("next_hop:x", Down), fixedState("a", Down)}
	r := m.Check(t.Context())
	if len(r.Components) != 2 || component(t, r, "a").State != Up {
		t.Errorf("a dynamic component took the name of a fixed one: %+v", r.Components)
	}
	first := component(t, r, "next_hop:x").Since
	now, hops = now.Add(2*time.Second), nil
	if r := m.Check(t.Context()); len(r.Components) != 1 {
		t.Errorf("%+v", r.Components)
	}
	now, hops = now.Add(2*time.Second), []Component{fixedState("next_hop:x", Down)}
	if s := component(t, m.Check(t.Context()), "next_hop:x"); !s.Since.After(first) {
		t.Error("a component that was away remembers its old state")
	}
}

func TestRun_NoticesByItselfWithinFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		c := Component{Name: "clamav", Title: "ClamAV", Check: func(ctx context.Context) Result {
			if broken.Load() {
				time.Sleep(10 * time.Second) // the worst case: it hangs
			}
			return Result{State: Up}
		}}
		m := New([]Component{c}, quiet())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { m.Run(ctx); close(done) }()
		time.Sleep(7100 * time.Millisecond)
		if s := m.Latest().State; s != Up {
			t.Fatalf("before: %s", s)
		}
		broken.Store(true)
		time.Sleep(5 * time.Second)
		if s := component(t, m.Latest(), "clamav").State; s != Down {
			t.Errorf("5 s after the failure: %s", s)
		}
		cancel()
		<-done
		time.Sleep(20 * time.Second) // the hung check returns; synctest fails if a goroutine stays
	})
}

func TestReady(t *testing.T) {
	need := func(name string, s State) Component { c := fixedState(name, s); c.Ready = true; return c }
	for _, c := range []struct {
		list    []Component
		ready   bool
		missing string
	}{
		{[]Component{need("a", Up), need("b", Degraded), fixedState("c", Down)}, true, ""},
		{[]Component{need("a", Down), need("b", Unknown), need("c", NotAuthorised)}, false, "a b c"},
		{nil, false, ""},
	} {
		ready, missing := New(c.list, quiet()).Check(t.Context()).Ready()
		if ready != c.ready || strings.Join(missing, " ") != c.missing {
			t.Errorf("%v, missing %v; want %v, %q", ready, missing, c.ready, c.missing)
		}
	}
	m := New([]Component{need("a", Up)}, quiet())
	if ready, _ := m.Latest().Ready(); ready {
		t.Error("ready before the first check")
	}
}
