package policy

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/internal/pg"
	"mailward/internal/testenv"
)

// process is one of several on a database; it counts how often it asks about limits.
func process(t *testing.T, db *testenv.DB, fault func() error) (s *Store, asked *atomic.Int64) {
	t.Helper()
	asked = &atomic.Int64{}
	s = NewStore(db.DB.WithFaults(func(a pg.Actor, stored bool) error {
		if !stored {
			asked.Add(1)
			return fault()
		}
		return nil
	}), StaticRoutes{}, slog.New(slog.DiscardHandler))
	if err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, asked
}

func noFault() error { return nil }

func written(t *testing.T, db *testenv.DB, reaction uuid.UUID) (n int) {
	t.Helper()
	if err := db.QueryRow(t.Context(), "SELECT count(*) FROM alert_reaction_touch WHERE reaction_id = $1", reaction).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestStore_LimitOfSeveralProcesses: processes that touch mail at the same time, and
// write it down meanwhile, never touch more than the limit, and all of it.
func TestStore_LimitOfSeveralProcesses(t *testing.T) {
	t.Parallel()
	for _, most := range []int{1, 7, 1000} {
		db := testenv.Postgres(t)
		id := begin(t, db, MeasureLock, most, false)
		var total, asked atomic.Int64
		var running sync.WaitGroup
		for range 2 {
			s, questions := process(t, db, noFault)
			ctx, stop := context.WithCancel(t.Context())
			var saving sync.WaitGroup
			saving.Go(func() {
				for ctx.Err() == nil {
					s.saveTouches(t.Context(), false)
					if err := s.Load(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
			var mails sync.WaitGroup
			for range 8 {
				mails.Go(func() {
					for full := 0; full < 3; { // a share of the other one may come back
						list := s.Measures(DefaultWorkspace)
						if len(list) > 0 && touched(t, s, uuid.New(), list) {
							total.Add(1)
						} else {
							full++
						}
					}
				})
			}
			running.Go(func() {
				mails.Wait()
				stop()
				saving.Wait()
				s.saveTouches(t.Context(), true)
				asked.Add(questions.Load())
			})
		}
		running.Wait()
		if n := written(t, db, id); int(total.Load()) > most || n != int(total.Load()) || most < 10 && n == 0 {
			t.Errorf("of %d there were %d touched and %d written", most, total.Load(), n)
		}
		// What one gave up on while the other still had some is there for the next.
		rest, _ := process(t, db, noFault)
		for list := rest.Measures(DefaultWorkspace); len(list) > 0 && touched(t, rest, uuid.New(), list); list = rest.Measures(DefaultWorkspace) {
			total.Add(1)
		}
		rest.saveTouches(t.Context(), true)
		if n := written(t, db, id); int(total.Load()) != most || n != most {
			t.Errorf("of %d there were %d touched and %d written in the end", most, total.Load(), n)
		}
	}
}

// TestStore_SharesSpareTheDatabase: far from the limit one question serves many mails.
func TestStore_SharesSpareTheDatabase(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	id := begin(t, db, MeasureLock, 10_000, false)
	s, asked := process(t, db, noFault)
	list := s.Measures(DefaultWorkspace)
	for range 640 {
		if !touched(t, s, uuid.New(), list) {
			t.Fatal("there is room")
		}
	}
	if n := asked.Load(); n != 10 {
		t.Errorf("asked %d times", n)
	}
	s.saveTouches(t.Context(), true)
	if n := written(t, db, id); n != 640 {
		t.Errorf("%d written", n)
	}
}

// TestStore_SharesComeBack: what a process has and does not use is there for others:
// when it ends, when it is idle, and when it is gone.
func TestStore_SharesComeBack(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	id := begin(t, db, MeasureLock, 16, false)
	a, _ := process(t, db, noFault)
	list := a.Measures(DefaultWorkspace)
	if !touched(t, a, uuid.New(), list) { // it has two of 16 now, and uses one
		t.Fatal("there is room")
	}
	drain := func(want int, why string) {
		t.Helper()
		b, _ := process(t, db, noFault)
		n := 0
		for touched(t, b, uuid.New(), list) {
			n++
		}
		if n != want {
			t.Errorf("%s: %d more, want %d", why, n, want)
		}
		b.saveTouches(t.Context(), true)
	}
	drain(14, "the first one has two")
	a.saveTouches(t.Context(), false)
	drain(0, "and keeps one")
	a.now = func() time.Time { return time.Now().Add(shareIdle + time.Second) }
	a.saveTouches(t.Context(), false)
	drain(1, "which it does not use")
	if n := written(t, db, id); n != 16 {
		t.Errorf("%d written", n)
	}

	second := begin(t, db, MeasureSandbox, 16, false)
	if _, err := db.Exec(t.Context(), "UPDATE alert_reaction SET ended_at = now(), end_kind = 'undo', ended_by = 'Bob' WHERE id = $1", id); err != nil {
		t.Fatal(err)
	}
	c, _ := process(t, db, noFault)
	if list = c.Measures(DefaultWorkspace); len(list) != 1 || list[0].ID != second || !touched(t, c, uuid.New(), list) {
		t.Fatalf("%+v", list)
	}
	if _, err := db.Admin(t).Exec(t.Context(), "UPDATE alert_reaction_share SET until = now() - interval '1 second'"); err != nil {
		t.Fatal(err)
	}
	drain(16, "it is gone, with what it had not written down")
	c.saveTouches(t.Context(), false) // it is back
	if c.touches.shares[second].has(time.Now()) || touched(t, c, uuid.New(), list) {
		t.Error("it uses what others have got meanwhile")
	}
}

// TestStore_LimitWithoutDatabase: a limit that cannot be asked for puts a mail off, but
// not for a reaction that is only tried; who comes next does not wait for long.
func TestStore_LimitWithoutDatabase(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	begin(t, db, MeasureLock, 100, false)
	begin(t, db, MeasureSandbox, 100, true)
	begin(t, db, MeasureTighten, 100, false)
	away := errors.New("connection refused")
	s, asked := process(t, db, func() error { return away })
	var lock, trial []*Measure
	for _, m := range s.Measures(DefaultWorkspace) {
		switch m.Kind {
		case MeasureLock:
			lock = append(lock, m)
		case MeasureSandbox:
			trial = append(trial, m)
		}
	}
	if ok, err := s.Touch(t.Context(), uuid.New(), lock); ok || !errors.Is(err, away) {
		t.Errorf("%v %v", ok, err)
	}
	if ok, err := s.Touch(t.Context(), uuid.New(), trial); !ok || err != nil {
		t.Errorf("only tried: %v %v", ok, err)
	}
	if s.Refused() {
		t.Error("it refuses more than anybody may know of")
	}
	if asked.Load() != 1 {
		t.Errorf("asked %d times at once", asked.Load())
	}
	away = nil
	s.now = func() time.Time { return time.Now().Add(2 * shareAgain) }
	if !touched(t, s, uuid.New(), lock) || !s.Refused() {
		t.Error("the database is back")
	}
}

// TestStore_TouchOfNothing: a mail that no reaction touches, as nearly all are, and
// one that is touched already have nothing written down or read anew.
func TestStore_TouchOfNothing(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	begin(t, db, MeasureLock, 5, false)
	s, asked := process(t, db, noFault)
	quiet := func(what string, want int64) {
		t.Helper()
		if len(s.touches.signal) != 0 || asked.Load() != want {
			t.Errorf("%s: %d signals, %d questions", what, len(s.touches.signal), asked.Load())
		}
	}
	mail := uuid.New()
	if ok, err := s.Touch(t.Context(), mail, nil); !ok || err != nil {
		t.Fatal(ok, err)
	}
	quiet("nothing", 0)
	list := s.Measures(DefaultWorkspace)
	if ok, err := s.Touch(t.Context(), mail, list); !ok || err != nil || len(list) != 1 {
		t.Fatal(ok, err, list)
	}
	<-s.touches.signal
	if ok, err := s.Touch(t.Context(), mail, list); !ok || err != nil {
		t.Fatal(ok, err)
	}
	quiet("the same mail again", 1)
}
