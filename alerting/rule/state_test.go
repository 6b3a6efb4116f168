package rule

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"
)

var noon = time.Date(2026, 3, 3, 12, 0, 0, 0, time.UTC) // a Tuesday

func spike() Spec {
	return Spec{Name: "spike", Metric: "phishing_rate_5min", Compare: Above, Threshold: 30, Window: 5 * time.Minute, For: 30 * time.Second,
		Cooldown: 10 * time.Minute, Severity: Critical, Missing: Keep}
}

func v(f float64) Reading { return Reading{Value: f, Has: true, Step: Step} }

// run plays readings, ten seconds apart, and returns the phases and the notices.
func run(r Spec, s State, readings ...Reading) (State, string, string) {
	phases, notices := "", ""
	for i, in := range readings {
		now := noon.Add(time.Duration(i) * Step)
		var ended bool
		s, ended = advance(r, s, in, now)
		n := notify(r, &s, in, ended, false, now)
		phases += map[Phase]string{Inactive: "-", Pending: "p", Firing: "F", Resolved: "r", NoData: "n", Failed: "e"}[s.Phase]
		notices += map[Notice]string{Nothing: ".", Alarmed: "A", Ended: "E"}[n]
	}
	return s, phases, notices
}

func TestStep(t *testing.T) {
	t.Parallel()
	none, fail := Reading{Step: Step}, Reading{Error: true, Step: Step}
	silenced := Reading{Value: 40, Has: true, Step: Step, Silenced: true}
	muted := Reading{Value: 40, Has: true, Step: Step, Muted: true}
	acked := Reading{Value: 40, Has: true, Step: Step, Acked: true}
	below, times, alarm, fine, now, below5 := spike(), spike(), spike(), spike(), spike(), spike()
	below.Compare, below.Threshold, below.For = Below, 1, 0
	below5.Compare, below5.Threshold, below5.For, below5.Cooldown = Below, 5, 0, time.Minute
	times.Compare, times.Threshold, times.For = Times, 3, 0
	alarm.Missing, fine.Missing, now.For = Alarm, Fine, 0
	usual := func(x, u float64) Reading { return Reading{Value: x, Has: true, Usual: u, HasUsual: true, Step: Step} }
	tests := []struct {
		name            string
		rule            Spec
		in              []Reading
		phases, notices string
	}{
		{"calm", spike(), []Reading{v(0), v(30), v(30)}, "---", "..."},
		{"fires after its time", spike(), []Reading{v(31), v(31), v(31), v(31), v(31)}, "pppFF", "...A."},
		{"a dip begins the wait anew", spike(), []Reading{v(31), v(31), v(3), v(31), v(31), v(31), v(31)}, "pp-pppF", "......A"},
		{"ends, and says so once", now, []Reading{v(31), v(1), v(1)}, "Frr", "AE."},
		{"back within the cooldown: silent, and so is its end", now, []Reading{v(31), v(1), v(31), v(1)}, "FrFr", "AE.."},
		{"no values: what fires goes on", now, []Reading{none, v(31), none, fail, v(1)}, "nFFFr", ".A..E"},
		{"no values count as alarm", alarm, []Reading{none, none, none, none}, "pppF", "...A"},
		{"no values count as fine", fine, []Reading{none, none}, "--", ".."},
		{"cannot be read", now, []Reading{fail, v(1), v(31)}, "e-F", "..A"},
		{"silenced: told when the silence is over", now, []Reading{silenced, silenced, v(40)}, "FFF", "..A"},
		{"muted: told when the hours begin", now, []Reading{muted, v(40)}, "FF", ".A"},
		{"end of a silenced one is silent too", now, []Reading{v(40), silenced, {Value: 1, Has: true, Step: Step, Silenced: true}}, "FFr", "A.."},
		{"never told, so its end is not either", now, []Reading{silenced, v(1)}, "Fr", ".."},
		{"below", below, []Reading{v(1), v(0)}, "-F", ".A"},
		{"below, no values", below5, []Reading{none, v(4)}, "nF", ".A"},
		{"times the usual", times, []Reading{usual(30, 10), usual(31, 10), usual(3, 0), usual(4, 0), v(100)}, "-FrFF", ".AE.."},
		{"the usual is not known yet", times, []Reading{v(100)}, "n", "."},
		{"acknowledged", now, []Reading{v(40), acked, acked}, "FFF", "A.."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, phases, notices := run(tt.rule, State{}, tt.in...)
			if phases != tt.phases || notices != tt.notices {
				t.Errorf("phases %s, notices %s; want %s, %s", phases, notices, tt.phases, tt.notices)
			}
		})
	}
}

func TestStep_RemindsAfterTheCooldown(t *testing.T) {
	t.Parallel()
	r := spike()
	r.For = 0
	s, _, _ := run(r, State{}, v(40))
	for i := range 200 {
		at := noon.Add(time.Duration(i+1) * Step)
		s, _ = advance(r, s, v(40), at)
		n := notify(r, &s, v(40), false, false, at)
		if due := at.Sub(noon)%r.Cooldown == 0; due != (n == Alarmed) {
			t.Fatalf("after %v: notice %q", at.Sub(noon), n)
		}
	}
}

// A clock that jumps makes nobody wait longer than one cooldown, wakes nobody
// twice within it, and does not stretch one look into a lasting condition.
func TestStep_ClockJumps(t *testing.T) {
	t.Parallel()
	r := spike()
	s := State{Phase: Firing, Episode: 1, Alarmed: true, Since: noon.Add(24 * time.Hour), FiredAt: noon.Add(24 * time.Hour), Notified: noon.Add(24 * time.Hour), Seen: noon.Add(24 * time.Hour)}
	s, ended := advance(r, s, v(40), noon) // set back by a day
	if n := notify(r, &s, v(40), ended, false, noon); n != Nothing || !s.Notified.Equal(noon) {
		t.Errorf("after a jump back: notice %q, notified %v", n, s.Notified)
	}
	later := noon.Add(r.Cooldown)
	s, ended = advance(r, s, v(40), later)
	if n := notify(r, &s, v(40), ended, false, later); n != Alarmed {
		t.Errorf("one cooldown after a jump back: notice %q", n)
	}
	p, _ := advance(r, State{}, v(40), noon)
	if p, _ = advance(r, p, v(40), noon.Add(24*time.Hour)); p.Phase != Pending {
		t.Errorf("two looks a day apart made it %s", p.Phase)
	}
}

// Whatever happens: two alarms are never closer than the cooldown; and whoever
// fires is heard, unless muted, silenced, inhibited, acknowledged or in cooldown.
func TestTick_Properties(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		rules := randomRules(rnd)
		states, last := map[AlertKey]State{}, map[AlertKey]time.Time{}
		now, silenced, acked := noon, false, map[int64]bool{}
		for i := range 400 {
			now = now.Add(Step)
			if rnd.IntN(60) == 0 {
				silenced = !silenced
			}
			if rnd.IntN(40) == 0 {
				acked[int64(rnd.IntN(5))] = true
			}
			windows := Windows{}
			for _, r := range rules {
				w := Window{Buckets: map[Key][]Bucket{}, Alive: rnd.IntN(10) > 0, Error: rnd.IntN(20) == 0}
				for _, subject := range []string{"", "a.example", "b.example"} {
					if rnd.IntN(3) > 0 {
						k := Key{Subject: subject}
						w.Buckets[k] = []Bucket{{At: now, Key: k, Sum: float64(rnd.IntN(8)), Count: 1, Max: float64(rnd.IntN(8))}}
					}
				}
				windows[r.ID] = w
			}
			m := Moment{Now: now, Step: Step, Silenced: func(Rule, Key) bool { return silenced }, Acked: func(_ AlertKey, e int64) bool { return acked[e] }}
			next, sent := Tick(rules, states, windows, m)
			got := map[AlertKey]bool{}
			for _, s := range sent {
				if s.Notice != Alarmed {
					continue
				}
				got[s.Alert] = true
				if was, ok := last[s.Alert]; ok && now.Sub(was) < s.Spec.Cooldown {
					t.Fatalf("seed %d, step %d: alarms %v apart, cooldown %v", seed, i, now.Sub(was), s.Spec.Cooldown)
				}
				last[s.Alert] = now
			}
			for k, s := range next {
				if s.Phase != Firing || got[k] {
					continue
				}
				spec := specOf(rules, k.Rule)
				was, told := last[k]
				if !silenced && !s.Acked && spec.Schedule.Active(now) && !explained(rules, next, k) && (!told || now.Sub(was) >= spec.Cooldown) {
					t.Fatalf("seed %d, step %d: %v fires and nobody hears of it (%+v)", seed, i, k, s)
				}
			}
			states = next
		}
	}
}

func randomRules(rnd *rand.Rand) []Rule {
	var rules []Rule
	for range 4 {
		s := Spec{Name: "r", Metric: "phishing_rate_5min", Compare: Compares()[rnd.IntN(2)], Threshold: float64(rnd.IntN(6)), Window: time.Minute,
			For: time.Duration(rnd.IntN(4)) * Step, Cooldown: time.Duration(1+rnd.IntN(5)) * time.Minute, Severity: Severities()[rnd.IntN(3)],
			Missing: Missings()[rnd.IntN(3)], Each: rnd.IntN(2) == 0}
		if rnd.IntN(4) == 0 {
			s.Inhibits = []string{"*"}
		}
		if rnd.IntN(3) == 0 {
			s.Schedule = Schedule{From: 12*60 + 10, To: 12*60 + 30}
		}
		rules = append(rules, Rule{ID: uuid.New(), Number: 1, Spec: s})
	}
	return rules
}

func specOf(rules []Rule, id uuid.UUID) Spec {
	for _, r := range rules {
		if r.ID == id {
			return r.Spec
		}
	}
	return Spec{}
}

// explained is inhibition said once more, in other words.
func explained(rules []Rule, states map[AlertKey]State, k AlertKey) bool {
	mine := specOf(rules, k.Rule)
	for other, s := range states {
		o := specOf(rules, other.Rule)
		if len(mine.Inhibits) == 0 && len(o.Inhibits) > 0 && (s.Phase == Firing || s.Phase == Pending) && o.Severity.AtLeast(mine.Severity) {
			return true
		}
	}
	return false
}

func TestCollapse(t *testing.T) {
	t.Parallel()
	a, b := AlertKey{Rule: uuid.New()}, AlertKey{Rule: uuid.New()}
	in := []Sent{{Alert: a, Notice: Alarmed}, {Alert: b, Notice: Alarmed}, {Alert: a, Notice: Ended}, {Alert: a, Notice: Alarmed, At: noon}, {Alert: b, Notice: Ended}}
	got := Collapse(in)
	if len(got) != 3 || got[0].Alert != b || !got[1].At.Equal(noon) || got[2].Notice != Ended {
		t.Errorf("got %+v", got)
	}
}
