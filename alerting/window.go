package alerting

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/alerting/rule"
	"mailward/internal/pg"
)

var (
	windowSQL = pg.Query(queryFiles, "window")
	hoursSQL  = pg.Query(queryFiles, "hours")
	aliveSQL  = pg.Query(queryFiles, "alive")
	seriesSQL = pg.Query(queryFiles, "series")
)

const (
	stepSmall = 10
	stepMid   = 300
	stepHour  = 3600
	// longWindow is from when on a window is read in buckets of five minutes.
	longWindow = time.Hour
	// aliveFor is how long after a batch of any process silence means zero.
	aliveFor = time.Minute
	// usualDays is how far back the usual looks.
	usualDays = 28
)

// windows reads what the rules look at, at a time.
func (s *Store) windows(ctx context.Context, rules []rule.Rule, at time.Time) (rule.Windows, error) {
	alive, err := s.alive(ctx, stepSmall, at.Add(-aliveFor), at)
	if err != nil {
		return nil, err
	}
	type place struct {
		metric string
		window time.Duration
	}
	read, out := map[place]rule.Window{}, rule.Windows{}
	for _, r := range rules {
		p := place{r.Spec.Metric, r.Spec.Window}
		w, known := read[p]
		if !known {
			w.Alive = len(alive) > 0
			if w.Buckets, err = s.window(ctx, r.Spec, at); pg.IsUnavailable(err) || ctx.Err() != nil {
				return nil, fmt.Errorf("read buckets of %s: %w", r.Spec.Metric, err)
			} else if err != nil {
				s.log.Error("alert rule not evaluated", "metric", r.Spec.Metric, "error", err)
				w.Error = true
			}
			read[p] = w
		}
		if r.Spec.Compare == rule.Times && !w.Error {
			if w.Usual, err = s.usual(ctx, r, at); err != nil {
				return nil, err
			}
		}
		out[r.ID] = w
	}
	return out, nil
}

func (s *Store) window(ctx context.Context, spec rule.Spec, at time.Time) (map[rule.Key][]rule.Bucket, error) {
	step := stepSmall
	if spec.Window > longWindow {
		step = stepMid
	}
	rows, err := s.db.Query(ctx, windowSQL, spec.Metric, step, at.Add(-spec.Window), at)
	if err != nil {
		return nil, err
	}
	out := map[rule.Key][]rule.Bucket{}
	var b rule.Bucket
	_, err = pgx.ForEachRow(rows, []any{&b.Key.Workspace, &b.Key.Subject, &b.Slot, &b.Count, &b.Sum, &b.Max}, func() error {
		out[b.Key] = append(out[b.Key], b)
		return nil
	})
	return out, err
}

func (s *Store) alive(ctx context.Context, step int, from, to time.Time) ([]time.Time, error) {
	rows, err := s.db.Query(ctx, aliveSQL, step, from, to)
	if err != nil {
		return nil, fmt.Errorf("read signs of life: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	if err != nil {
		return nil, fmt.Errorf("read signs of life: %w", err)
	}
	return list, nil
}

// usual is the median of this hour of the day over four weeks, by key.
func (s *Store) usual(ctx context.Context, r rule.Rule, at time.Time) (map[rule.Key]float64, error) {
	hours := make([]time.Time, usualDays)
	for d := range hours {
		hours[d] = at.UTC().Truncate(time.Hour).AddDate(0, 0, -1-d)
	}
	seen, err := s.alive(ctx, stepHour, hours[usualDays-1], at.UTC().Truncate(time.Hour))
	if err != nil {
		return nil, err
	}
	var alive []time.Time
	for _, t := range seen {
		if t.UTC().Hour() == at.UTC().Hour() {
			alive = append(alive, t.UTC())
		}
	}
	rows, err := s.db.Query(ctx, hoursSQL, r.Spec.Metric, hours)
	if err != nil {
		return nil, fmt.Errorf("read the usual of %s: %w", r.Spec.Metric, err)
	}
	by := map[rule.Key]map[time.Time][]rule.Bucket{}
	var b rule.Bucket
	_, err = pgx.ForEachRow(rows, []any{&b.At, &b.Key.Workspace, &b.Key.Subject, &b.Slot, &b.Count, &b.Sum, &b.Max}, func() error {
		k := b.Key
		if !r.Spec.Each {
			if k.Subject != "" || r.Workspace != uuid.Nil && k.Workspace != r.Workspace {
				return nil
			}
			k = rule.Key{Workspace: r.Workspace}
		}
		if by[k] == nil {
			by[k] = map[time.Time][]rule.Bucket{}
		}
		by[k][b.At.UTC()] = append(by[k][b.At.UTC()], b)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the usual of %s: %w", r.Spec.Metric, err)
	}
	metric, _ := rule.MetricNamed(r.Spec.Metric)
	out := map[rule.Key]float64{}
	for k, h := range by {
		if v, ok := rule.Usual(metric, r.Spec.Window, h, alive); ok {
			out[k] = v
		}
	}
	return out, nil
}

// Past reads what a backtest looks at.
func (s *Store) past(ctx context.Context, r rule.Rule, from, to time.Time, step time.Duration) (rule.Past, error) {
	begin := from.Add(-max(r.Spec.Window, step))
	rows, err := s.db.Query(ctx, seriesSQL, pg.PlanAnew, r.Spec.Metric, int(step/time.Second), begin, to, r.Workspace, r.Spec.Each)
	if err != nil {
		return rule.Past{}, fmt.Errorf("read buckets of %s: %w", r.Spec.Metric, err)
	}
	p := rule.Past{From: from, To: to, Step: step}
	var b rule.Bucket
	_, err = pgx.ForEachRow(rows, []any{&b.At, &b.Key.Workspace, &b.Key.Subject, &b.Slot, &b.Count, &b.Sum, &b.Max}, func() error {
		p.Buckets = append(p.Buckets, b)
		return nil
	})
	if err != nil {
		return p, fmt.Errorf("read buckets of %s: %w", r.Spec.Metric, err)
	}
	p.Alive, err = s.alive(ctx, int(step/time.Second), begin, to)
	return p, err
}

// Backtest says what a rule would have done in the last days.
func (s *Store) Backtest(ctx context.Context, r Rule, days int) (rule.Backtest, error) {
	if err := r.Spec.Check(); err != nil {
		return rule.Backtest{}, err
	}
	if days < 1 || days > 30 {
		return rule.Backtest{}, &rule.InvalidError{Field: "days", Problem: "must be 1 to 30"}
	}
	step := stepMid * time.Second
	to := time.Now().UTC().Truncate(step)
	in := rule.Rule{ID: r.ID, Number: r.Number, Workspace: r.Workspace, Spec: r.Spec}
	p, err := s.past(ctx, in, to.AddDate(0, 0, -days), to, step)
	if err != nil {
		return rule.Backtest{}, err
	}
	if r.Spec.Compare == rule.Times {
		known := map[time.Time]map[rule.Key]float64{}
		p.Usual = func(k rule.Key, at time.Time) (float64, bool) {
			hour := at.Truncate(time.Hour)
			u, ok := known[hour]
			if !ok {
				if u, err = s.usual(ctx, in, hour); err != nil {
					return 0, false
				}
				known[hour] = u
			}
			v, ok := u[k]
			return v, ok
		}
	}
	out := rule.Try(in, p)
	return out, err
}

// Series is a metric over time, for the API: of all, or of one domain or component.
func (s *Store) Series(ctx context.Context, metric string, workspaces []uuid.UUID, all bool, subject string, from, to time.Time, step time.Duration) ([]rule.Point, error) {
	m, ok := rule.MetricNamed(metric)
	if !ok {
		return nil, ErrNotFound
	}
	level := stepSmall
	if step >= time.Hour {
		level = stepHour
	} else if step >= stepMid*time.Second {
		level = stepMid
	}
	if !from.Before(to) || step < rule.Step || step%(time.Duration(level)*time.Second) != 0 || to.Sub(from)/step > 10_000 {
		return nil, &rule.InvalidError{Field: "step", Problem: "must fit 10000 times between from and to at most, in whole buckets of 10s, 5m or 1h"}
	}
	from = from.UTC().Truncate(time.Duration(level) * time.Second)
	rows, err := s.db.Query(ctx, seriesSQL, pg.PlanAnew, metric, level, from, to, uuid.Nil, subject != "")
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", metric, err)
	}
	by := make([][]rule.Bucket, to.Sub(from)/step+1)
	var b rule.Bucket
	_, err = pgx.ForEachRow(rows, []any{&b.At, &b.Key.Workspace, &b.Key.Subject, &b.Slot, &b.Count, &b.Sum, &b.Max}, func() error {
		if b.Key.Subject == subject && (all || contains(workspaces, b.Key.Workspace)) {
			i := b.At.Sub(from) / step
			by[i] = append(by[i], b)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", metric, err)
	}
	var out []rule.Point
	for i, list := range by {
		if at := from.Add(time.Duration(i) * step); at.Before(to) {
			v, has := rule.Value(m.Kind, list)
			out = append(out, rule.Point{At: at, Value: v, Has: has})
		}
	}
	return out, nil
}
