package rule

import (
	"time"

	"github.com/google/uuid"
)

// Point is one value of a plot.
type Point struct {
	At    time.Time
	Value float64
	Has   bool
}

// Episode is one time that a rule would have fired.
type Episode struct {
	Key      Key
	From, To time.Time // To zero: still
	Peak     float64
	Sent     int // alarms, the cooldown kept
}

// Backtest is what a rule would have done.
type Backtest struct {
	Points   []Point // of all its keys, the most extreme one
	Episodes []Episode
	Sent     int
	Over     time.Duration // time that at least one alert was firing
}

// Past is what a backtest looks at: the buckets from From less the window up to
// To, each Step long, in the order of time.
type Past struct {
	From, To time.Time
	Step     time.Duration
	Buckets  []Bucket
	Alive    []time.Time                               // begins of steps in which something measured
	Usual    func(Key, time.Time) (v float64, ok bool) // nil: not known
}

// Try runs the rule over the past with the code that judges the present. Its
// steps are longer than those of the present, so a short spike is seen smeared
// over one of them.
func Try(r Rule, p Past) Backtest {
	if r.ID == uuid.Nil {
		r.ID = uuid.Max // a draft
	}
	window := max(r.Spec.Window, p.Step)
	alive := map[int64]bool{}
	for _, t := range p.Alive {
		alive[t.Unix()] = true
	}
	var out Backtest
	states, open := map[AlertKey]State{}, map[AlertKey]*Episode{}
	first := 0
	for now := p.From; !now.After(p.To); now = now.Add(p.Step) {
		begin := now.Add(-window)
		for first < len(p.Buckets) && p.Buckets[first].At.Before(begin) {
			first++
		}
		w := Window{Buckets: map[Key][]Bucket{}, Usual: map[Key]float64{}, Alive: alive[now.Add(-p.Step).Unix()]}
		for _, b := range p.Buckets[first:] {
			if !b.At.Before(now) {
				break
			}
			w.Buckets[b.Key] = append(w.Buckets[b.Key], b)
		}
		if r.Spec.Compare == Times && p.Usual != nil {
			for _, k := range append(keysOf(r, w, states), Key{Workspace: r.Workspace}) {
				if v, ok := p.Usual(k, now); ok {
					w.Usual[k] = v
				}
			}
		}
		var sent []Sent
		states, sent = Tick([]Rule{r}, states, Windows{r.ID: w}, Moment{Now: now, Step: p.Step})
		out.Points = append(out.Points, extreme(r, w, now))
		out.note(states, sent, open, now, p.Step)
	}
	for _, e := range open {
		out.Episodes = append(out.Episodes, *e)
	}
	return out
}

// note keeps the episodes up to date with one step.
func (b *Backtest) note(states map[AlertKey]State, sent []Sent, open map[AlertKey]*Episode, now time.Time, step time.Duration) {
	firing := false
	for k, s := range states {
		e := open[k]
		switch {
		case s.Phase == Firing && e == nil:
			open[k] = &Episode{Key: k.Key, From: now, Peak: s.Value}
			firing = true
		case s.Phase == Firing:
			e.Peak = max(e.Peak, s.Value)
			firing = true
		case e != nil:
			e.To = now
			b.Episodes = append(b.Episodes, *e)
			delete(open, k)
		}
	}
	if firing {
		b.Over += step
	}
	for _, s := range sent {
		if s.Notice != Alarmed {
			continue
		}
		b.Sent++
		if e := open[s.Alert]; e != nil {
			e.Sent++
		}
	}
}

// extreme is the value nearest to firing, of all keys.
func extreme(r Rule, w Window, now time.Time) Point {
	p := Point{At: now}
	for _, k := range keysOf(r, w, nil) {
		in := r.reading(w, k, Moment{Now: now})
		if in.Has && (!p.Has || (in.Value > p.Value) == (r.Spec.Compare != Below)) {
			p.Value, p.Has = in.Value, true
		}
	}
	if !p.Has && r.Spec.Each && w.Alive {
		if m, _ := MetricNamed(r.Spec.Metric); m.Kind == Count {
			p.Has = true
		}
	}
	return p
}
