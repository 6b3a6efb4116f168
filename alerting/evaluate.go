package alerting

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/alerting/rule"
	"mailward/internal/pg"
)

var (
	nowSQL          = pg.Query(queryFiles, "now")
	startClockSQL   = pg.Query(queryFiles, "start_clock")
	moveClockSQL    = pg.Query(queryFiles, "move_clock")
	cleanBucketsSQL = pg.Query(queryFiles, "clean_buckets")
	cleanRestSQL    = pg.Query(queryFiles, "clean_rest")
)

const (
	// evaluateEvery is how often it is looked whether a bucket is over.
	evaluateEvery = time.Second
	// delay leaves the processes time to write a bucket after its end.
	delay = 3 * time.Second
	// fineSteps is how much is made up for in steps of ten seconds; more than that, in
	// longer ones.
	fineSteps = 60
	// forgetAfter is how much is not made up for at all.
	forgetAfter = 24 * time.Hour
	// lateAfter is from when on something counts as seen late.
	lateAfter = time.Minute

	cleanEvery = 10 * time.Minute
	keepEvents = 400 * 24 * time.Hour
)

// keepBuckets is how long buckets are kept, by their length.
var keepBuckets = map[int]time.Duration{stepSmall: 48 * time.Hour, stepMid: 35 * 24 * time.Hour, stepHour: 400 * 24 * time.Hour}

var system = pg.System("alert rules", "schedule")

// Run evaluates until ctx ends, in one process of the installation at a time.
func (s *Store) Run(ctx context.Context) error {
	return s.deps.Lead(ctx, func(ctx context.Context) error {
		if err := s.InstallPack(ctx); err != nil {
			return err
		}
		t := time.NewTicker(evaluateEvery)
		defer t.Stop()
		var cleaned, revived time.Time
		for {
			if err := s.Evaluate(ctx); err != nil {
				return err
			}
			if err := s.react(ctx); err != nil {
				return err
			}
			if time.Since(revived) >= reviveEvery {
				revived = time.Now()
				if err := s.revive(ctx); err != nil {
					return err
				}
			}
			if time.Since(cleaned) >= cleanEvery {
				cleaned = time.Now()
				if err := s.clean(ctx); err != nil {
					return err
				}
			}
			select {
			case <-ctx.Done():
				return nil
			case <-t.C:
			}
		}
	})
}

// clean removes what is past its time.
func (s *Store) clean(ctx context.Context) error {
	return s.db.Act(ctx, pg.System("alert rules", "retention"), func(ctx context.Context, tx pgx.Tx) error {
		for step, keep := range keepBuckets {
			if _, err := tx.Exec(ctx, cleanBucketsSQL, step, keep); err != nil {
				return fmt.Errorf("remove old buckets: %w", err)
			}
		}
		if _, err := tx.Exec(ctx, cleanRestSQL, keepEvents); err != nil {
			return fmt.Errorf("remove old events of alerts: %w", err)
		}
		return nil
	})
}

// Evaluate judges what has ended since the last time, whoever did that. The time
// is the database's, so that it is the same for all processes.
func (s *Store) Evaluate(ctx context.Context) error {
	var now time.Time
	var evaluated *time.Time
	if err := s.db.QueryRow(ctx, nowSQL).Scan(&now, &evaluated); err != nil {
		return fmt.Errorf("read the time of evaluation: %w", err)
	}
	end := now.UTC().Add(-delay).Truncate(rule.Step)
	if evaluated == nil {
		return s.db.Act(ctx, system, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, startClockSQL, end, s.cfg.Node)
			return err
		})
	}
	s.metrics.lag.Set(max(0, now.Sub(*evaluated).Seconds()))
	// A clock that went back: what was judged is not judged again.
	if evaluated.After(now) {
		s.log.Warn("the clock of the database went back", "evaluated", evaluated, "now", now)
		return s.db.Act(ctx, system, func(ctx context.Context, tx pgx.Tx) error {
			return s.moveClock(ctx, tx, *evaluated, end, 0)
		})
	}
	if !end.After(*evaluated) {
		return nil
	}
	return s.evaluate(ctx, *evaluated, moments(evaluated.UTC(), end))
}

// moments are the times that are judged between two: every ten seconds, or sixty
// of them after a long pause. The last is the end.
func moments(from, end time.Time) (list []time.Time) {
	if end.Sub(from) > forgetAfter {
		from = end.Add(-forgetAfter)
	}
	step := rule.Step
	for end.Sub(from) > fineSteps*step {
		step += rule.Step
	}
	for t := end; t.After(from); t = t.Add(-step) {
		list = append(list, t)
	}
	slices.Reverse(list)
	return list
}

func (s *Store) moveClock(ctx context.Context, tx pgx.Tx, from, to time.Time, took time.Duration) error {
	tag, err := tx.Exec(ctx, moveClockSQL, from, to, s.cfg.Node, took.Milliseconds())
	if err == nil && tag.RowsAffected() == 0 {
		return errOvertaken
	}
	return err
}

// errOvertaken says that another process has judged this time: nothing of what
// was found is stored or sent.
var errOvertaken = fmt.Errorf("alerting: another process evaluates, too: %w", ErrConflict)

// outcome is all that an evaluation has found.
type outcome struct {
	states map[rule.AlertKey]stored
	dirty  map[rule.AlertKey]bool
	events []event
	sent   []rule.Sent
}

func (s *Store) evaluate(ctx context.Context, from time.Time, at []time.Time) error {
	began := time.Now()
	end := at[len(at)-1]
	rules, err := s.activeRules(ctx)
	if err != nil {
		return err
	}
	o := outcome{dirty: map[rule.AlertKey]bool{}}
	if o.states, err = s.states(ctx); err != nil {
		return err
	}
	silences, err := s.Silences(ctx, true)
	if err != nil {
		return err
	}
	acked, err := s.acked(ctx)
	if err != nil {
		return err
	}
	moment := rule.Moment{
		Silenced: func(r rule.Rule, k rule.Key) bool {
			return slices.ContainsFunc(silences, func(x Silence) bool { return x.covers(r, k) })
		},
		Acked: func(k rule.AlertKey, episode int64) bool {
			x, ok := o.states[k]
			e, is := acked[x.id]
			return ok && is && e == episode
		},
	}
	for i, t := range at {
		windows, err := s.windows(ctx, rules, t)
		if err != nil {
			return err
		}
		moment.Now, moment.Step = t, rule.Step
		if i > 0 {
			moment.Step = t.Sub(at[i-1])
		}
		if err := o.tick(rules, windows, moment, end); err != nil {
			return err
		}
	}
	o.finish(end, len(at) > 1)
	took := time.Since(began)
	s.metrics.seconds.Observe(took.Seconds())
	s.showFiring(o)
	err = s.db.Act(ctx, system, func(ctx context.Context, tx pgx.Tx) error {
		if err := s.moveClock(ctx, tx, from, end, took); err != nil {
			return err
		}
		return s.store(ctx, tx, o)
	})
	if err == nil {
		s.onRecord(ctx, o.events, o.states)
	}
	return err
}

// tick takes one moment in.
func (o *outcome) tick(rules []rule.Rule, windows rule.Windows, m rule.Moment, end time.Time) error {
	before := map[rule.AlertKey]rule.State{}
	for k, x := range o.states {
		before[k] = x.state
	}
	next, sent := rule.Tick(rules, before, windows, m)
	of := map[uuid.UUID]rule.Rule{}
	for _, r := range rules {
		of[r.ID] = r
	}
	late := end.Sub(m.Now) > lateAfter
	for k, st := range next {
		x, known := o.states[k]
		if !known {
			id, err := uuid.NewV7()
			if err != nil {
				return err
			}
			x = stored{id: id, key: k, state: rule.State{Phase: rule.Inactive}}
		}
		x.spec, x.number = of[k.Rule].Spec, of[k.Rule].Number
		o.change(x, st, m.Now, late)
	}
	// Alerts of rules that are gone, or that are about something else now.
	for k, st := range before {
		if _, there := next[k]; there || st.Phase == rule.Inactive {
			continue
		}
		x := o.states[k]
		if st.Phase == rule.Firing && st.Alarmed {
			sent = append(sent, rule.Sent{Alert: k, Notice: rule.Ended, At: m.Now, State: st, Spec: x.spec})
		}
		st.Phase, st.Since, st.Seen, st.Alarmed, st.Acked, st.Silent = rule.Inactive, m.Now, m.Now, false, false, ""
		o.change(x, st, m.Now, late)
	}
	o.sent = append(o.sent, sent...)
	return nil
}

// change notes the new state of an alert, and an event where its phase is new.
func (o *outcome) change(x stored, st rule.State, at time.Time, late bool) {
	if st.Phase != x.state.Phase || st.Episode != x.state.Episode {
		e := event{key: x.key, at: at, phase: st.Phase, was: x.state.Phase, number: x.number, episode: st.Episode, late: late}
		if st.Has {
			e.value = &st.Value
		}
		o.events = append(o.events, e)
	}
	// What is calm and stays calm need not be written each time.
	if st.Phase != rule.Inactive || x.state.Phase != rule.Inactive {
		o.dirty[x.key] = true
	}
	x.state = st
	o.states[x.key] = x
}

// finish brings the notices of a time that was made up for down to what is worth
// hearing now. Who is told now is not told again before the cooldown is over.
func (o *outcome) finish(end time.Time, several bool) {
	if !several {
		return
	}
	o.sent = rule.Collapse(o.sent)
	for _, m := range o.sent {
		if x, ok := o.states[m.Alert]; ok && m.Notice == rule.Alarmed {
			x.state.Notified = end
			o.states[m.Alert] = x
		}
	}
}

func (s *Store) showFiring(o outcome) {
	n := map[rule.Severity]int{}
	for _, x := range o.states {
		if x.state.Phase == rule.Firing {
			n[x.spec.Severity]++
		}
	}
	for _, sev := range rule.Severities() {
		s.metrics.firing.WithLabelValues(string(sev)).Set(float64(n[sev]))
	}
}

// store writes everything, and what is to be sent, in one transaction.
func (s *Store) store(ctx context.Context, tx pgx.Tx, o outcome) error {
	for k := range o.dirty {
		if err := o.states[k].put(ctx, tx); err != nil {
			return err
		}
	}
	for _, e := range o.events {
		if err := e.put(ctx, tx, o.states[e.key].id); err != nil {
			return err
		}
	}
	return s.dispatch(ctx, tx, o)
}

func contains(list []uuid.UUID, id uuid.UUID) bool { return slices.Contains(list, id) }
