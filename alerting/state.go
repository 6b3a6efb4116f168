package alerting

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/alerting/rule"
	"mailward/audit"
	"mailward/internal/pg"
)

var (
	statesSQL      = pg.Query(queryFiles, "states")
	putStateSQL    = pg.Query(queryFiles, "put_state")
	insertEventSQL = pg.Query(queryFiles, "insert_event")
	acksSQL        = pg.Query(queryFiles, "acks")
)

// stored is the state of an alert with what the database knows of it.
type stored struct {
	id     uuid.UUID
	number int
	key    rule.AlertKey
	state  rule.State
	spec   rule.Spec
}

// columns of a state, in the order of the queries.
type columns struct {
	value, usual      *float64
	firedAt, notified *time.Time
}

func (x *stored) fields(c *columns) []any {
	s := &x.state
	return []any{&x.id, &x.key.Rule, &x.key.Workspace, &x.key.Subject, &x.number, &s.Phase, &s.Since, &s.Seen, &c.value, &c.usual, &s.Episode, &c.firedAt, &c.notified, &s.Alarmed, &s.Acked, &s.Silent, &s.Muted}
}

func (x *stored) take(c columns) {
	x.state.Value, x.state.Has, x.state.Usual = orZero(c.value), c.value != nil, orZero(c.usual)
	x.state.FiredAt, x.state.Notified = orZero(c.firedAt), orZero(c.notified)
}

// states reads what is remembered.
func (s *Store) states(ctx context.Context) (map[rule.AlertKey]stored, error) {
	rows, err := s.db.Query(ctx, statesSQL)
	if err != nil {
		return nil, fmt.Errorf("read states of alerts: %w", err)
	}
	out := map[rule.AlertKey]stored{}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (x stored, err error) {
		var c columns
		var spec []byte
		if err = row.Scan(append(x.fields(&c), &spec)...); err == nil {
			x.take(c)
			err = json.Unmarshal(spec, &x.spec)
		}
		return x, err
	})
	if err != nil {
		return nil, fmt.Errorf("read states of alerts: %w", err)
	}
	for _, x := range list {
		out[x.key] = x
	}
	return out, nil
}

// put remembers a state.
func (x stored) put(ctx context.Context, tx pgx.Tx) error {
	s := x.state
	var value, usual *float64
	if s.Has {
		value, usual = &s.Value, &s.Usual
	}
	_, err := tx.Exec(ctx, putStateSQL, x.id, x.key.Rule, x.key.Workspace, x.key.Subject, x.number, s.Phase, s.Since, s.Seen, value, usual, s.Episode,
		pg.NullTime(s.FiredAt), pg.NullTime(s.Notified), s.Alarmed, s.Acked, s.Silent, s.Muted)
	if err != nil {
		return fmt.Errorf("store state of alert: %w", err)
	}
	return nil
}

// event is a change of phase.
type event struct {
	key        rule.AlertKey
	at         time.Time
	phase, was rule.Phase
	value      *float64
	number     int
	episode    int64
	late       bool
}

func (e event) put(ctx context.Context, tx pgx.Tx, alert uuid.UUID) error {
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, insertEventSQL, id, alert, e.at, e.phase, e.was, e.value, e.number, e.episode, e.late); err != nil {
		return fmt.Errorf("store event of alert: %w", err)
	}
	return nil
}

// acked are the episodes that somebody has in hand.
func (s *Store) acked(ctx context.Context) (map[uuid.UUID]int64, error) {
	rows, err := s.db.Query(ctx, acksSQL)
	if err != nil {
		return nil, fmt.Errorf("read acknowledgements: %w", err)
	}
	type ack struct {
		Alert   uuid.UUID
		Episode int64
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[ack])
	out := map[uuid.UUID]int64{}
	for _, a := range list {
		out[a.Alert] = a.Episode
	}
	return out, err
}

// onRecord tells the audit which alerts began and ended: when somebody could know of an
// incident has to be as provable as what was done then. It is written as soon as the
// record can be, and holds up no alert: one of them says that the record cannot be written.
func (s *Store) onRecord(ctx context.Context, events []event, states map[rule.AlertKey]stored) {
	for _, e := range events {
		if e.phase == rule.Firing || e.was == rule.Firing {
			s.deps.Audit.RecordLater(ctx, e.onRecord(states[e.key]))
		}
	}
}

func (e event) onRecord(x stored) audit.Event {
	ev := audit.Event{Action: audit.AlertEnded, Workspace: e.key.Workspace, Retention: audit.Retention3Years,
		Actor: pg.System("alert rules", x.spec.Name), Correlation: audit.Correlation{AlertID: x.id.String()},
		Targets: []audit.Target{{Type: "alert", ID: x.id.String(), Label: e.key.Subject}, {Type: "alert_rule", ID: e.key.Rule.String()}},
		After: map[string]any{"state": string(e.phase), "metric": x.spec.Metric, "at": e.at.UTC().Format(time.RFC3339), "late": e.late, "rule_version": e.number,
			"threshold": strconv.FormatFloat(x.spec.Threshold, 'f', -1, 64)}}
	if e.phase == rule.Firing {
		ev.Action, ev.Severity = audit.AlertFired, map[rule.Severity]string{rule.Warn: "warning", rule.Critical: "critical"}[x.spec.Severity]
	}
	if e.value != nil {
		ev.After["value"] = strconv.FormatFloat(*e.value, 'f', -1, 64)
	}
	return ev
}
