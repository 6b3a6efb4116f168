package webui

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"

	"mailward/alerting"
	"mailward/alerting/rule"
	"mailward/identity"
)

// mayAlert says whether somebody has a right on what belongs to a workspace, or,
// where that is zero, to the installation.
func mayAlert(p identity.Principal, right identity.Right, workspace uuid.UUID) bool {
	if workspace == uuid.Nil {
		_, all := p.Workspaces(right)
		return all
	}
	return p.Can(right, workspace)
}

// alertsOf keeps a list of alerts to what somebody may see.
func alertsOf(p identity.Principal) alerting.AlertFilter {
	list, all := p.Workspaces(identity.AlertsRead)
	return alerting.AlertFilter{Workspaces: list, All: all}
}

func whoActs(p identity.Principal) alerting.Person {
	name := p.User.Name
	if name == "" {
		name = p.User.Email
	}
	return alerting.Person{Actor: p.Actor(), Name: name}
}

// RuleBody is a rule as somebody writes one.
type RuleBody struct {
	Name      string        `json:"name" minLength:"1" maxLength:"100"`
	Metric    string        `json:"metric" doc:"one of GET /metrics"`
	Compare   rule.Compare  `json:"compare,omitempty" enum:"above,below,times" default:"above" doc:"times: more than so many times the median of this hour over four weeks"`
	Threshold float64       `json:"threshold" minimum:"0"`
	Window    string        `json:"window,omitempty" example:"5m" doc:"10s to 24h; default: that of the metric"`
	For       string        `json:"for,omitempty" example:"1m" default:"0s"`
	Cooldown  string        `json:"cooldown,omitempty" example:"1h" default:"1h"`
	Severity  rule.Severity `json:"severity,omitempty" enum:"info,warn,critical" default:"warn"`
	Missing   rule.Missing  `json:"missing,omitempty" enum:"keep,alarm,fine" default:"keep" doc:"what the lack of values means"`
	Each      bool          `json:"each,omitempty" doc:"an alert for each domain or component"`
	Subjects  []string      `json:"subjects,omitempty" doc:"only these domains or components"`
	Channels  []uuid.UUID   `json:"channels,omitempty" doc:"none: those that take everything"`
	Inhibits  []string      `json:"inhibits,omitempty" doc:"metrics whose alerts stay silent while this one fires; *: all"`
	Runbook   string        `json:"runbook,omitempty" format:"uri"`
	Schedule  rule.Schedule `json:"schedule,omitzero" doc:"when it may notify; minutes of the day, days from Sunday (0)"`
	Reaction  *ReactionBody `json:"reaction,omitempty" doc:"what is done for a time when it fires"`
}

// spec reads the lengths of time; a wrong one is an [rule.InvalidError].
func (b RuleBody) spec() (rule.Spec, error) {
	s := rule.Spec{Name: b.Name, Metric: b.Metric, Compare: b.Compare, Threshold: b.Threshold, Severity: b.Severity, Missing: b.Missing, Each: b.Each,
		Subjects: b.Subjects, Channels: b.Channels, Inhibits: b.Inhibits, Runbook: b.Runbook, Schedule: b.Schedule}
	for _, x := range []struct {
		field, text string
		to          *time.Duration
		otherwise   time.Duration
	}{{"window", b.Window, &s.Window, 0}, {"for", b.For, &s.For, 0}, {"cooldown", b.Cooldown, &s.Cooldown, time.Hour}} {
		*x.to = x.otherwise
		if x.text == "" {
			continue
		}
		d, err := time.ParseDuration(x.text)
		if err != nil {
			return s, &rule.InvalidError{Field: x.field, Problem: "must be a length of time such as 5m or 1h30m"}
		}
		*x.to = d
	}
	if b.Reaction != nil {
		r, err := b.Reaction.reaction()
		if err != nil {
			return s, err
		}
		s.Reaction = &r
	}
	return s, nil
}

func bodyOf(s rule.Spec) RuleBody {
	return RuleBody{s.Name, s.Metric, s.Compare, s.Threshold, s.Window.String(), s.For.String(), s.Cooldown.String(), s.Severity, s.Missing, s.Each, s.Subjects, s.Channels, s.Inhibits, s.Runbook, s.Schedule, reactionBodyOf(s.Reaction)}
}

// alertRule is a rule as the API shows it.
type alertRule struct {
	RuleBody
	ID        uuid.UUID `json:"id"`
	Workspace uuid.UUID `json:"workspace_id" doc:"zeros: the installation's, over all"`
	Pack      string    `json:"pack" doc:"its name in the default pack"`
	Enabled   bool      `json:"enabled"`
	Number    int       `json:"number" doc:"of the version in use"`
	Version   int64     `json:"version" doc:"of the row, for a change"`
	ChangedBy string    `json:"changed_by"`
	ChangedAt time.Time `json:"changed_at"`
	LastFired time.Time `json:"last_fired,omitzero"`
	Fired7d   int       `json:"fired_7d"`
}

func alertRuleOf(r alerting.Rule) alertRule {
	return alertRule{bodyOf(r.Spec), r.ID, r.Workspace, r.Pack, r.Enabled, r.Number, r.Version, r.ChangedBy, r.ChangedAt, r.LastFired, r.Fired7d}
}

// alertShown is an alert as the API shows it.
type alertShown struct {
	ID         uuid.UUID     `json:"id"`
	Rule       uuid.UUID     `json:"rule_id"`
	Name       string        `json:"name"`
	Severity   rule.Severity `json:"severity"`
	Metric     string        `json:"metric"`
	Threshold  float64       `json:"threshold"`
	Workspace  uuid.UUID     `json:"workspace_id"`
	Subject    string        `json:"subject" doc:"the domain or component; empty: all"`
	State      rule.Phase    `json:"state"`
	Firing     bool          `json:"firing"`
	Since      time.Time     `json:"since"`
	Value      *float64      `json:"value"`
	FiredAt    time.Time     `json:"fired_at,omitzero"`
	NotifiedAt time.Time     `json:"notified_at,omitzero"`
	Silent     string        `json:"silent" doc:"why nobody is told, though it fires"`
	AckedBy    string        `json:"acknowledged_by"`
}

func alertShownOf(a alerting.Alert) alertShown {
	return alertShown{a.ID, a.Rule, a.Spec.Name, a.Spec.Severity, a.Spec.Metric, a.Spec.Threshold, a.Workspace, a.Subject, a.State, a.Firing, a.Since, a.Value, a.FiredAt, a.NotifiedAt, a.Silent, a.AckedBy}
}

func mapped[A, B any](list []A, f func(A) B) []B {
	out := make([]B, 0, len(list))
	for _, x := range list {
		out = append(out, f(x))
	}
	return out
}

type alertList struct {
	Open bool `query:"open" doc:"only those that are more than calm"`
}

type alertEvents struct {
	Paging
	Query    string        `query:"q" maxLength:"200" doc:"a part of the rule's name or of what the alert concerns"`
	Severity rule.Severity `query:"severity" enum:"info,warn,critical"`
	State    rule.Phase    `query:"state" enum:"firing,pending,resolved,no_data,error,inactive"`
}

type alertAck struct {
	ByID
	Body struct {
		Note string `json:"note,omitempty" maxLength:"500"`
	}
}

func (s *Server) registerAlerts() {
	register(s, endpoint{http.MethodGet, "/alerts", "list-alerts", "Alerts, those that fire first", identity.AlertsRead, 0},
		func(ctx context.Context, p identity.Principal, in *alertList) (*list[alertShown], error) {
			f := alertsOf(p)
			f.Open = in.Open
			got, err := s.deps.Alerts.Alerts(ctx, f)
			return page(mapped(got, alertShownOf), ""), err
		})
	register(s, endpoint{http.MethodGet, "/alerts/{id}", "get-alert", "One alert", identity.AlertsRead, 0},
		func(ctx context.Context, p identity.Principal, in *ByID) (*one[alertShown], error) {
			a, err := s.deps.Alerts.Alert(ctx, alertsOf(p), in.uuid())
			return &one[alertShown]{alertShownOf(a)}, err
		})
	register(s, endpoint{http.MethodPost, "/alerts/{id}/ack", "ack-alert", "Takes an alert that fires in hand", identity.AlertsAct, 0},
		func(ctx context.Context, p identity.Principal, in *alertAck) (*one[alertShown], error) {
			a, err := s.deps.Alerts.Alert(ctx, alertsOf(p), in.uuid())
			if err == nil && !mayAlert(p, identity.AlertsAct, a.Workspace) {
				err = alerting.ErrNotFound
			}
			if err == nil {
				err = s.deps.Alerts.Ack(ctx, whoActs(p), a.ID, in.Body.Note)
			}
			if err != nil {
				return nil, err
			}
			a, err = s.deps.Alerts.Alert(ctx, alertsOf(p), a.ID)
			return &one[alertShown]{alertShownOf(a)}, err
		})
	register(s, endpoint{http.MethodGet, "/alerts/history", "list-alert-events", "What alerts went through, the newest first", identity.AlertsRead, 0},
		func(ctx context.Context, p identity.Principal, in *alertEvents) (*list[alerting.Event], error) {
			f := alertsOf(p)
			f.Text, f.Severity, f.Phase = in.Query, in.Severity, in.State
			got, next, err := s.deps.Alerts.Events(ctx, f, in.Cursor, in.Limit)
			return page(got, next), err
		})
	s.registerReactions()
	s.registerAlertRules()
	s.registerSilences()
	s.registerChannels()
	s.registerMetrics()
}

// findRule reads a rule that somebody has a right on.
func (s *Server) findRule(ctx context.Context, p identity.Principal, id uuid.UUID, right identity.Right) (alerting.Rule, error) {
	r, err := s.deps.Alerts.Rule(ctx, id)
	// Rules of the installation are no secret: their alerts reach everybody's mail.
	if err == nil && !mayAlert(p, right, r.Workspace) && (right != identity.AlertsRead || r.Workspace != uuid.Nil) {
		err = alerting.ErrNotFound
	}
	return r, err
}

type ruleInput struct {
	Body struct {
		RuleBody
		Workspace string `json:"workspace_id,omitempty" format:"uuid" doc:"empty: the installation's, over all workspaces"`
	}
}

type ruleChange struct {
	ByID
	Body struct {
		RuleBody
		Version int64  `json:"version" minimum:"1" doc:"the version that you have read"`
		Enabled *bool  `json:"enabled,omitempty"`
		Reason  string `json:"reason,omitempty" maxLength:"500" doc:"needed for critical rules"`
	}
}

type versioned struct {
	ByID
	Body struct {
		Version int64  `json:"version" minimum:"1"`
		Reason  string `json:"reason" minLength:"3" maxLength:"500"`
	}
}

type ruleTry struct {
	ByID
	Body struct {
		Days int       `json:"days,omitempty" minimum:"1" maximum:"30" default:"7"`
		Rule *RuleBody `json:"rule,omitempty" doc:"a change to be tried; left out: as it is"`
	}
}

type ruleRevert struct {
	ByID
	Body struct {
		Version int64  `json:"version" minimum:"1"`
		Number  int    `json:"number" minimum:"1"`
		Reason  string `json:"reason" minLength:"3" maxLength:"500"`
	}
}

type ruleVersionShown struct {
	RuleBody
	Number    int       `json:"number"`
	Reason    string    `json:"reason"`
	Author    string    `json:"author"`
	CreatedAt time.Time `json:"created_at"`
}

// tried is what a rule would have done.
type tried struct {
	Fired    int            `json:"fired"`
	Sent     int            `json:"sent" doc:"alarms, the cooldown kept"`
	Seconds  int64          `json:"seconds" doc:"time that it would have fired"`
	Episodes []triedEpisode `json:"episodes" nullable:"false"`
}

type triedEpisode struct {
	Subject string    `json:"subject"`
	From    time.Time `json:"from"`
	To      time.Time `json:"to,omitzero"`
	Peak    float64   `json:"peak"`
	Sent    int       `json:"sent"`
}

func triedOf(b rule.Backtest) tried {
	return tried{len(b.Episodes), b.Sent, int64(b.Over.Seconds()), mapped(b.Episodes, func(e rule.Episode) triedEpisode {
		return triedEpisode{e.Key.Subject, e.From, e.To, e.Peak, e.Sent}
	})}
}

func (s *Server) registerAlertRules() {
	store := s.deps.Alerts
	register(s, endpoint{http.MethodGet, "/alerts/rules", "list-alert-rules", "Rules of alerts", identity.AlertsRead, 0},
		func(ctx context.Context, p identity.Principal, _ *struct{}) (*list[alertRule], error) {
			all, err := store.Rules(ctx)
			all = slices.DeleteFunc(all, func(r alerting.Rule) bool { return r.Workspace != uuid.Nil && !p.Can(identity.AlertsRead, r.Workspace) })
			return page(mapped(all, alertRuleOf), ""), err
		})
	register(s, endpoint{http.MethodPost, "/alerts/rules", "create-alert-rule", "Adds a rule", identity.AlertsWrite, http.StatusCreated},
		func(ctx context.Context, p identity.Principal, in *ruleInput) (*one[alertRule], error) {
			w := uuid.Nil
			if in.Body.Workspace != "" {
				w = ByID{ID: in.Body.Workspace}.uuid()
			}
			spec, err := in.Body.spec()
			if err == nil && !mayAlert(p, identity.AlertsWrite, w) {
				err = alerting.ErrNotFound
			}
			if err != nil {
				return nil, err
			}
			r, err := store.PutRule(ctx, whoActs(p), alerting.Rule{Workspace: w, Spec: spec, Enabled: true}, "")
			return &one[alertRule]{alertRuleOf(r)}, err
		})
	register(s, endpoint{http.MethodGet, "/alerts/rules/{id}", "get-alert-rule", "One rule", identity.AlertsRead, 0},
		func(ctx context.Context, p identity.Principal, in *ByID) (*one[alertRule], error) {
			r, err := s.findRule(ctx, p, in.uuid(), identity.AlertsRead)
			return &one[alertRule]{alertRuleOf(r)}, err
		})
	register(s, endpoint{http.MethodPut, "/alerts/rules/{id}", "put-alert-rule", "Gives a rule a new version", identity.AlertsWrite, 0},
		func(ctx context.Context, p identity.Principal, in *ruleChange) (*one[alertRule], error) {
			r, err := s.findRule(ctx, p, in.uuid(), identity.AlertsWrite)
			if err != nil {
				return nil, err
			}
			if r.Spec, err = in.Body.spec(); err != nil {
				return nil, err
			}
			r.Version = in.Body.Version
			if in.Body.Enabled != nil {
				r.Enabled = *in.Body.Enabled
			}
			r, err = store.PutRule(ctx, whoActs(p), r, in.Body.Reason)
			return &one[alertRule]{alertRuleOf(r)}, err
		})
	register(s, endpoint{http.MethodDelete, "/alerts/rules/{id}", "delete-alert-rule", "Removes a rule", identity.AlertsWrite, http.StatusNoContent},
		func(ctx context.Context, p identity.Principal, in *versioned) (*nothing, error) {
			r, err := s.findRule(ctx, p, in.uuid(), identity.AlertsWrite)
			if err != nil {
				return nil, err
			}
			return &nothing{}, store.DeleteRule(ctx, whoActs(p), r.ID, in.Body.Version, in.Body.Reason)
		})
	s.registerRuleTools()
}

func (s *Server) registerRuleTools() {
	store := s.deps.Alerts
	register(s, endpoint{http.MethodPost, "/alerts/rules/{id}/backtest", "backtest-alert-rule", "What a rule, or a change of it, would have done in the last days", identity.AlertsRead, 0},
		func(ctx context.Context, p identity.Principal, in *ruleTry) (*one[tried], error) {
			r, err := s.findRule(ctx, p, in.uuid(), identity.AlertsWrite) // its values are of the rule's whole scope
			if err == nil && in.Body.Rule != nil {
				r.Spec, err = in.Body.Rule.spec()
			}
			if err != nil {
				return nil, err
			}
			b, err := store.Backtest(ctx, r, in.Body.Days)
			return &one[tried]{triedOf(b)}, err
		})
	register(s, endpoint{http.MethodGet, "/alerts/rules/{id}/versions", "list-alert-rule-versions", "Versions of a rule, the newest first", identity.AlertsRead, 0},
		func(ctx context.Context, p identity.Principal, in *ByID) (*list[ruleVersionShown], error) {
			r, err := s.findRule(ctx, p, in.uuid(), identity.AlertsRead)
			if err != nil {
				return nil, err
			}
			got, err := store.Versions(ctx, r.ID)
			return page(mapped(got, func(v alerting.Version) ruleVersionShown {
				return ruleVersionShown{bodyOf(v.Spec), v.Number, v.Reason, v.Author, v.CreatedAt}
			}), ""), err
		})
	register(s, endpoint{http.MethodPost, "/alerts/rules/{id}/revert", "revert-alert-rule", "Makes an old version of a rule its newest", identity.AlertsWrite, 0},
		func(ctx context.Context, p identity.Principal, in *ruleRevert) (*one[alertRule], error) {
			r, err := s.findRule(ctx, p, in.uuid(), identity.AlertsWrite)
			if err != nil {
				return nil, err
			}
			r, err = store.Revert(ctx, whoActs(p), r.ID, in.Body.Version, in.Body.Number, in.Body.Reason)
			return &one[alertRule]{alertRuleOf(r)}, err
		})
}
