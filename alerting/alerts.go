package alerting

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/alerting/channel"
	"mailward/alerting/rule"
	"mailward/internal/pg"
)

var (
	alertsSQL        = pg.Query(queryFiles, "alerts")
	eventsSQL        = pg.Query(queryFiles, "events")
	firingSQL        = pg.Query(queryFiles, "firing")
	notificationsSQL = pg.Query(queryFiles, "notifications")
)

// Alert is an alert as people see it.
type Alert struct {
	ID         uuid.UUID  `json:"id"`
	Rule       uuid.UUID  `json:"rule_id"`
	Workspace  uuid.UUID  `json:"workspace_id"`
	Subject    string     `json:"subject"`
	State      rule.Phase `json:"state"`
	Since      time.Time  `json:"since"`
	Seen       time.Time  `json:"evaluated_at"`
	Value      *float64   `json:"value"`
	Usual      *float64   `json:"usual,omitempty"`
	FiredAt    time.Time  `json:"fired_at,omitzero"`
	NotifiedAt time.Time  `json:"notified_at,omitzero"`
	Silent     string     `json:"silent,omitempty"` // why nobody is told now, though it fires
	Spec       rule.Spec  `json:"rule"`
	AckedBy    string     `json:"acknowledged_by,omitempty"`
	AckNote    string     `json:"acknowledge_note,omitempty"`
	AckedAt    time.Time  `json:"acknowledged_at,omitzero"`
	Firing     bool       `json:"firing"`
}

// AlertFilter narrows a list of alerts.
type AlertFilter struct {
	Workspaces []uuid.UUID // ignored where All is set
	All        bool        // also those of the installation
	Open       bool        // only those that are more than calm
	ID, Rule   uuid.UUID   // zero: any

	// Of the history; empty: any.
	Severity rule.Severity
	Phase    rule.Phase
	Text     string // a part of the rule's name or of what it concerns
}

func (f AlertFilter) workspaces() []uuid.UUID {
	if f.All {
		return nil
	}
	return append([]uuid.UUID{}, f.Workspaces...)
}

// Alerts lists alerts, those that fire first.
func (s *Store) Alerts(ctx context.Context, f AlertFilter) ([]Alert, error) {
	rows, err := s.db.Query(ctx, alertsSQL, pg.PlanAnew, f.workspaces(), f.Open, pg.NullID(f.ID), pg.NullID(f.Rule))
	if err != nil {
		return nil, fmt.Errorf("read alerts: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (a Alert, err error) {
		var x stored
		var c columns
		var spec []byte
		var by, note string
		var at *time.Time
		if err = row.Scan(append(x.fields(&c), &spec, &by, &note, &at)...); err != nil {
			return a, err
		}
		x.take(c)
		st := x.state
		a = Alert{ID: x.id, Rule: x.key.Rule, Workspace: x.key.Workspace, Subject: x.key.Subject, State: st.Shown(), Since: st.Since, Seen: st.Seen, Value: c.value, Usual: c.usual,
			FiredAt: st.FiredAt, NotifiedAt: st.Notified, Silent: st.Silent, Firing: st.Phase == rule.Firing}
		if a.Firing {
			a.AckedBy, a.AckNote, a.AckedAt = by, note, orZero(at)
		}
		return a, json.Unmarshal(spec, &a.Spec)
	})
}

// Alert finds one that the filter lets through.
func (s *Store) Alert(ctx context.Context, f AlertFilter, id uuid.UUID) (Alert, error) {
	f.ID, f.Open = id, false
	list, err := s.Alerts(ctx, f)
	if err == nil && len(list) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Alert{}, err
	}
	return list[0], nil
}

// Event is one change of an alert's phase.
type Event struct {
	ID        uuid.UUID  `json:"id"`
	Alert     uuid.UUID  `json:"alert_id"`
	At        time.Time  `json:"at"`
	Phase     rule.Phase `json:"state"`
	Before    rule.Phase `json:"before"`
	Value     *float64   `json:"value"`
	Number    int        `json:"rule_version"`
	Late      bool       `json:"late"`
	Rule      uuid.UUID  `json:"rule_id"`
	Workspace uuid.UUID  `json:"workspace_id"`
	Subject   string     `json:"subject"`
	Name      string     `json:"name"`
	Severity  string     `json:"severity"`
	Metric    string     `json:"metric"`
}

// ErrBadCursor says that a cursor is not one of ours.
var ErrBadCursor = errors.New("alerting: this is no cursor")

func cursorOf(s string) (*uuid.UUID, error) {
	if s == "" {
		return nil, nil
	}
	id, err := uuid.Parse(s)
	if err != nil {
		return nil, ErrBadCursor
	}
	return &id, nil
}

// Events lists what alerts went through, the newest first. The filter's ID is of
// one alert.
func (s *Store) Events(ctx context.Context, f AlertFilter, cursor string, limit int) (list []Event, next string, err error) {
	before, err := cursorOf(cursor)
	if err != nil {
		return nil, "", err
	}
	rows, err := s.db.Query(ctx, eventsSQL, pg.PlanAnew, f.workspaces(), pg.NullID(f.ID), before, limit+1, string(f.Severity), string(f.Phase), f.Text)
	if err != nil {
		return nil, "", fmt.Errorf("read events of alerts: %w", err)
	}
	if list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Event]); err != nil {
		return nil, "", fmt.Errorf("read events of alerts: %w", err)
	}
	if len(list) > limit {
		list = list[:limit]
		next = list[limit-1].ID.String()
	}
	return list, next, nil
}

// Firing counts the alerts that fire and that nobody has in hand yet, by severity.
func (s *Store) Firing(ctx context.Context, f AlertFilter) (map[rule.Severity]int, error) {
	rows, err := s.db.Query(ctx, firingSQL, f.workspaces())
	if err != nil {
		return nil, fmt.Errorf("count alerts: %w", err)
	}
	out := map[rule.Severity]int{}
	var sev rule.Severity
	var acked bool
	var n int
	_, err = pgx.ForEachRow(rows, []any{&sev, &acked, &n}, func() error {
		if !acked {
			out[sev] += n
		}
		return nil
	})
	return out, err
}

// Notification is one entry of a channel's log.
type Notification struct {
	ID          uuid.UUID       `json:"id"`
	Channel     uuid.UUID       `json:"channel_id"`
	ChannelName string          `json:"channel"`
	Kind        string          `json:"kind"`
	Message     channel.Message `json:"message"`
	State       string          `json:"state"`
	Tries       int             `json:"tries"`
	Error       string          `json:"error,omitempty"`
	CreatedAt   time.Time       `json:"created_at"`
	EndedAt     time.Time       `json:"ended_at,omitzero"`
}

// Notifications is the log of channels, the newest first.
func (s *Store) Notifications(ctx context.Context, channels []uuid.UUID, cursor string, limit int) (list []Notification, next string, err error) {
	before, err := cursorOf(cursor)
	if err != nil {
		return nil, "", err
	}
	rows, err := s.db.Query(ctx, notificationsSQL, pg.PlanAnew, channels, before, limit+1)
	if err != nil {
		return nil, "", fmt.Errorf("read notifications: %w", err)
	}
	list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (n Notification, err error) {
		var raw []byte
		var ended *time.Time
		if err = row.Scan(&n.ID, &n.Channel, &n.ChannelName, &n.Kind, &raw, &n.State, &n.Tries, &n.Error, &n.CreatedAt, &ended); err == nil {
			n.EndedAt, err = orZero(ended), json.Unmarshal(raw, &n.Message)
		}
		return n, err
	})
	if err != nil {
		return nil, "", fmt.Errorf("read notifications: %w", err)
	}
	if len(list) > limit {
		list = list[:limit]
		next = list[limit-1].ID.String()
	}
	return list, next, nil
}
