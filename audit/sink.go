package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

var (
	sinksSQL      = pg.Query(queryFiles, "sinks")
	lastOfSinkSQL = pg.Query(queryFiles, "last_of_sink")
)

// Line is one event on its way to a sink.
type Line struct {
	Seq      int64
	Time     time.Time
	Action   string
	Severity string
	Fields   map[string]any // as people and programs read it, values resolved
}

// Sink takes a copy of every event, elsewhere. Send returns nil only when the
// events are out of this process's hands: they are not sent again after that,
// and after an error they are, so a sink can see an event twice, with the same
// number, but misses none.
type Sink interface {
	Name() string // of its cursor
	Lock() int    // of [Log.Lead]: one process at a time feeds it
	Send(ctx context.Context, lines []Line) error
}

// Locks of the sinks. A number has one use in the whole program: a test of
// internal/pg sees to it.
const (
	LockStdout = 3
	LockSyslog = 9
	LockFile   = 10
	LockAlerts = 14
	LockRules  = 13 // not of a sink: who evaluates the rules of alerts
)

const (
	sinkBatch = 500
	sinkAgain = 5 * time.Second // after a failure
)

// RunSink feeds a sink with every numbered event, in order and at least once,
// also over restarts: the place is kept in the database.
func (l *Log) RunSink(ctx context.Context, s Sink) error {
	return l.Lead(ctx, s.Lock(), func(ctx context.Context) error {
		st := sinkState{log: l, sink: s}
		return everyErr(ctx, sequenceEvery, func() error {
			for {
				n, err := l.sinkBatch(ctx, s)
				if ctx.Err() != nil {
					return nil
				}
				st.note(ctx, n, err)
				if err != nil {
					select {
					case <-ctx.Done():
					case <-time.After(sinkAgain):
					}
					return nil
				}
				if n == 0 {
					return nil
				}
			}
		})
	})
}

// sinkState is what one leader knows of how a sink does.
type sinkState struct {
	log     *Log
	sink    Sink
	failing bool
	known   bool // whether the record says the same; at first it can tell of a failure under another leader
}

// note puts on record that a sink takes nothing, or takes again. A failure of the
// leader before us, before a restart for one, ends with the first batch that is
// taken: that failure's own event is in it, if nothing else is.
func (s *sinkState) note(ctx context.Context, sent int, err error) {
	if !s.known && err == nil && sent > 0 && !s.failing {
		var action string
		switch err := s.log.db.QueryRow(ctx, lastOfSinkSQL, []string{SinkFailed, SinkRecovered}, s.sink.Name()).Scan(&action); {
		case err == nil:
			s.failing = action == SinkFailed
		case !errors.Is(err, pgx.ErrNoRows):
			return // looked for again at the next batch
		}
		s.known = true
	}
	if (err != nil) != s.failing {
		s.failing = err != nil
		s.known = s.log.reportSink(ctx, s.sink, err)
	}
}

// reportSink says whether the state of a sink is on record.
func (l *Log) reportSink(ctx context.Context, s Sink, err error) bool {
	ev := Event{Action: SinkRecovered, Actor: pg.System("audit stream", "schedule"), Targets: []Target{{Type: "audit_sink", ID: s.Name()}}}
	if err != nil {
		l.log.Error("audit stream held up, trying again", "sink", s.Name(), "error", err)
		ev.Action, ev.Outcome, ev.Severity, ev.OutcomeDetail = SinkFailed, "failure", "critical", err.Error()
	}
	if err := l.Record(ctx, ev); err != nil {
		l.log.Error("state of an audit stream not recorded", "sink", s.Name(), "error", err)
		return false
	}
	return true
}

// sinkBatch sends the events after the cursor. The cursor moves only after that.
func (l *Log) sinkBatch(ctx context.Context, s Sink) (int, error) {
	var next int64
	var waiting bool
	if err := l.db.QueryRow(ctx, cursorSQL, s.Name()).Scan(&next, &waiting); err != nil {
		return 0, fmt.Errorf("read cursor of audit stream: %w", err)
	}
	if !waiting {
		return 0, nil
	}
	rows, err := l.db.Query(ctx, streamSQL, next, sinkBatch)
	if err != nil {
		return 0, fmt.Errorf("read events to stream: %w", err)
	}
	items, err := pgx.CollectRows(rows, scanRow)
	if err != nil {
		return 0, fmt.Errorf("read events to stream: %w", err)
	}
	if len(items) == 0 {
		return 0, nil
	}
	if err := l.resolve(ctx, items); err != nil {
		return 0, err
	}
	lines := make([]Line, len(items))
	for i, r := range items {
		m := r.Fields()
		lines[i] = Line{Seq: *r.Seq, Time: r.RecordedAt, Action: at(m, "action"), Severity: at(m, "severity"), Fields: m}
	}
	if err := s.Send(ctx, lines); err != nil {
		return 0, err
	}
	err = l.db.Act(ctx, pg.System("audit stream", "schedule"), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, streamedSQL, s.Name(), lines[len(lines)-1].Seq+1)
		return err
	})
	return len(items), err
}

// Writer is a sink of JSON lines, as standard output is one.
type Writer struct{ To io.Writer }

// Name implements [Sink].
func (Writer) Name() string { return "stdout" }

// Lock implements [Sink].
func (Writer) Lock() int { return LockStdout }

// Send writes one line an event.
func (w Writer) Send(_ context.Context, lines []Line) error {
	for _, line := range lines {
		line.Fields["type"], line.Fields["timestamp"] = "audit", line.Fields["time"]
		b, err := json.Marshal(line.Fields)
		if err != nil {
			return fmt.Errorf("encode event %d: %w", line.Seq, err)
		}
		if _, err := w.To.Write(append(b, '\n')); err != nil {
			return fmt.Errorf("write audit stream: %w", err)
		}
	}
	return nil
}

// SinkStatus is how far a sink is.
type SinkStatus struct {
	Name    string
	Next    int64
	Moved   time.Time
	Waiting int64
	Oldest  *time.Time // of those that wait
}

// Sinks says how far each stream is that has ever moved.
func (l *Log) Sinks(ctx context.Context) ([]SinkStatus, error) {
	rows, err := l.db.Query(ctx, sinksSQL)
	if err != nil {
		return nil, fmt.Errorf("read state of audit streams: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[SinkStatus])
	if err != nil {
		return nil, fmt.Errorf("read state of audit streams: %w", err)
	}
	return list, nil
}
