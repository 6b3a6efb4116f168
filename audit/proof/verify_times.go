package proof

import (
	"fmt"
	"time"
)

const (
	// backBy is how much earlier than the one before it an event may be recorded: a
	// transaction that waits gets its number late, and lasts 10 minutes at most.
	backBy = 15 * time.Minute
	// silent is longer than a record is while it runs: each hour an event says so.
	silent = 2 * time.Hour
	// apart is how far two clocks may differ that are both right.
	apart = 5 * time.Minute
	// toldTimes bounds what is told of times.
	toldTimes = 20
)

// clock is what the times of a bundle's events say. That a clock was wrong or nothing ran
// is no proof of a change, so it is told and does not fail.
type clock struct {
	last  time.Time
	seq   uint64
	ends  map[uint64]time.Time // of the last event under a checkpoint, by its size
	count int
}

func (v *verifier) note(format string, a ...any) {
	switch v.clock.count++; {
	case v.clock.count <= toldTimes:
		v.rep.Notices = append(v.rep.Notices, fmt.Sprintf(format, a...))
	case v.clock.count == toldTimes+1:
		v.rep.Notices = append(v.rep.Notices, "there is more to say of times, which is left out")
	}
}

// tell looks at an event's time. In a bundle of one workspace, and where events were
// deleted, those between are not there, so that silence says nothing.
func (v *verifier) tell(e BundleEvent) {
	c := &v.clock
	if d := e.RecordedAt.Sub(c.last); !c.last.IsZero() {
		next := v.man.Workspace == "" && e.Seq == c.seq+1
		switch {
		case d < -backBy:
			v.note("event %s (number %d) was recorded %v before the one before it: the clock of the database was set back, or stood wrong before", e.ID, e.Seq, -d.Round(time.Second))
		case d > silent && next:
			v.note("nothing is on record for %v before event %s (number %d): the program did not run, or could not record", d.Round(time.Second), e.ID, e.Seq)
		}
	}
	c.last, c.seq = e.RecordedAt, e.Seq
	if _, asked := v.roots[e.Seq+1]; asked {
		if c.ends == nil {
			c.ends = map[uint64]time.Time{}
		}
		c.ends[e.Seq+1] = e.RecordedAt
	}
}

// stamped compares a time stamp with the last event that it covers.
func (v *verifier) stamped(size uint64, at time.Time) {
	if end, here := v.clock.ends[size]; here && end.Sub(at) > apart {
		v.note("event number %d was recorded at %s, and a time stamp has covered it at %s already: one of the two clocks was wrong", size-1, end.UTC().Format(time.RFC3339), at.UTC().Format(time.RFC3339))
	}
}
