package health

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"mailward/internal/testenv"
)

func TestPast_IsKeptRolledUpAndCleaned(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	p := NewPast(db.DB, "one")
	hour := time.Now().UTC().Truncate(time.Hour)
	x := func(at time.Time, checks, bad int, worst State, p50 float64) Minute {
		return Minute{Component: "clamav", At: at, Checks: checks, Good: checks - bad, Bad: bad, Worst: worst, P50: p50, P95: p50 * 2}
	}
	w := unwritten{minutes: []Minute{x(hour, 30, 0, Up, 1), x(hour.Add(time.Minute), 30, 10, Down, 3), x(hour.Add(2*time.Minute), 30, 0, Up, 5), x(hour.Add(-40*24*time.Hour), 30, 0, Up, 1)}}
	if err := p.save(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	// A second time, as after a lost answer, and with the part of a minute before a restart.
	w.minutes = append(w.minutes, x(hour, 2, 2, Down, 9))
	if err := p.save(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	if err := p.RollUp(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := p.RollUp(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	for name, span := range map[string]time.Duration{"minutes": time.Hour, "hours": 7 * 24 * time.Hour} {
		got, err := p.Read(t.Context(), "", hour, time.Hour, span)
		if err != nil {
			t.Fatal(err)
		}
		s := got["clamav"]
		if len(s) != 1 || s[0].Checks != 90 || s[0].Good != 80 || s[0].Bad != 10 || s[0].Worst != Down || s[0].P50 != 3 {
			t.Errorf("%s: %+v", name, s)
		}
	}
	old, err := p.Read(t.Context(), "clamav", hour.Add(-50*24*time.Hour), 24*time.Hour, time.Hour)
	if err != nil || len(old["clamav"]) != 1 {
		t.Errorf("minutes of 40 days ago are still there: %+v %v", old, err)
	}
}

func TestMonitor_KeepsWhatTheDatabaseDoesNotTake(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	now := time.Now().UTC().Truncate(time.Minute)
	state := Up
	m := New([]Component{{Name: "x", Title: "X", Check: func(context.Context) Result { return Result{State: state, Reason: Plain("Mail " + string(state))} }}}, quiet(),
		WithPast(NewPast(db.DB, "one")), WithClock(func() time.Time { return now }))
	var rolled time.Time
	for i := range 4 {
		if i == 2 {
			state = Down
		}
		m.Check(t.Context())
		now = now.Add(30 * time.Second)
	}
	now = now.Add(time.Minute)
	m.Check(t.Context())
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.keepPast(gone, &rolled); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := m.keepPast(t.Context(), &rolled); err != nil {
		t.Fatal(err)
	}
	got, err := m.past.Read(t.Context(), "x", now.Add(-time.Hour), time.Hour, time.Hour)
	if err != nil || len(got["x"]) != 1 || got["x"][0].Checks != 4 || got["x"][0].Bad != 2 || got["x"][0].Worst != Down {
		t.Errorf("%+v %v", got, err)
	}
	list, err := m.past.Changes(t.Context(), "x", 10)
	if err != nil || len(list) != 1 || list[0].Before != Up || list[0].State != Down || list[0].Reason != "Mail down" || !reflect.DeepEqual(list[0].Says, Plain("Mail down")) {
		t.Errorf("%+v %v", list, err)
	}
	// One of before texts had names.
	if _, err := db.DB.Exec(t.Context(), "INSERT INTO health_change (id, component, node, at, before, state, code, reason) VALUES (gen_random_uuid(), 'x', 'one', now() + interval '1 hour', 'up', 'down', '', 'Mail of old')"); err != nil {
		t.Fatal(err)
	}
	if list, err = m.past.Changes(t.Context(), "x", 1); err != nil || len(list) != 1 || list[0].Reason != "Mail of old" || list[0].Says != nil {
		t.Errorf("%+v %v", list, err)
	}
}

func TestFlapping_IsOneStateUntilItIsCalm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := Up
		m := New([]Component{{Name: "x", Title: "X", Ready: true, Check: func(context.Context) Result { return Result{State: state, Reason: Plain("Mail flows.")} }}}, quiet())
		changes := 0
		var last State
		for i := range 40 {
			if state = Up; i%2 == 1 {
				state = Down
			}
			r := m.Check(t.Context())
			s := r.Components[0]
			if s.State != last {
				changes, last = changes+1, s.State
			}
			if ready, _ := r.Ready(); i > 20 && ready != (state == Up) {
				t.Errorf("ready is %t while the check says %s", ready, state)
			}
			if i > 20 && (s.State != Down || s.Code != "flapping") {
				t.Errorf("round %d: %s %s", i, s.State, s.Code)
			}
			time.Sleep(2 * time.Second)
		}
		if changes > flapChanges+2 {
			t.Errorf("%d changes were shown", changes)
		}
		state = Up
		for range 40 {
			time.Sleep(2 * time.Second)
			m.Check(t.Context())
		}
		if s := m.Check(t.Context()).Components[0]; s.State != Up || s.Code == "flapping" {
			t.Errorf("after it was calm: %s %s", s.State, s.Reason)
		}
	})
}

func TestProofs(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	now := time.Now()
	engine := Component{Name: "clamav", Title: "ClamAV", Check: func(context.Context) Result { return Result{State: Up, Reason: Plain("ClamAV answers; mail flows.")} }}
	here, there := NewProofs(db.DB, "here"), NewProofs(db.DB, "there")
	c := Proven(engine, "clamav", there.Of, func() time.Time { return now })
	want{Up, "", "answers"}.check(t, "nothing tried yet", c.Check(t.Context()))
	keep := func(detected, answered bool) {
		t.Helper()
		if err := here.Keep(t.Context(), []Proof{{Engine: "clamav", TriedAt: now, Detected: detected, Answered: answered, Detail: "nothing found"}}); err != nil {
			t.Fatal(err)
		}
		if err := there.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	keep(true, true)
	r := c.Check(t.Context())
	want{Up, "", "answers"}.check(t, "proven elsewhere", r)
	if r.Facts["last_proven_at"] == "" {
		t.Errorf("facts %v", r.Facts)
	}
	now = now.Add(3 * time.Minute)
	keep(false, true)
	want{Down, "not_detecting", "last found one 3 min ago"}.check(t, "answers and does not detect", c.Check(t.Context()))
	now = now.Add(3 * time.Minute)
	keep(false, false)
	want{Degraded, "proof_failed", "tried again"}.check(t, "test mail not sent", c.Check(t.Context()))
	now = now.Add(time.Hour)
	want{Degraded, "proof_old", "gateway part"}.check(t, "nobody tries any more", c.Check(t.Context()))
	now = now.Add(3 * time.Minute)
	keep(true, true)
	want{Up, "", "answers"}.check(t, "proven again", c.Check(t.Context()))
}
