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
	"mailward/policy"
)

type silenceInput struct {
	Body struct {
		Workspace string `json:"workspace_id,omitempty" format:"uuid" doc:"empty: everywhere"`
		Rule      string `json:"rule_id,omitempty" format:"uuid" doc:"empty: all rules"`
		Subject   string `json:"subject,omitempty" maxLength:"255" doc:"a domain or component; empty: all"`
		Reason    string `json:"reason" minLength:"3" maxLength:"500"`
		Seconds   int64  `json:"seconds" minimum:"60" maximum:"7776000"`
	}
}

func optionalID(s string) uuid.UUID {
	if s == "" {
		return uuid.Nil
	}
	return ByID{ID: s}.uuid()
}

func (s *Server) registerSilences() {
	store := s.deps.Alerts
	register(s, endpoint{http.MethodGet, "/alerts/silences", "list-silences", "Silences of the last 30 days", identity.AlertsRead, 0},
		func(ctx context.Context, p identity.Principal, _ *struct{}) (*list[alerting.Silence], error) {
			all, err := store.Silences(ctx, false)
			return page(slices.DeleteFunc(all, func(x alerting.Silence) bool { return !seesSilence(p, s.deps.Policies, x) }), ""), err
		})
	register(s, endpoint{http.MethodPost, "/alerts/silences", "create-silence", "Keeps alerts from being sent for a time", identity.AlertsAct, http.StatusCreated},
		func(ctx context.Context, p identity.Principal, in *silenceInput) (*one[alerting.Silence], error) {
			x := alerting.Silence{Workspace: optionalID(in.Body.Workspace), Rule: optionalID(in.Body.Rule), Subject: in.Body.Subject, Reason: in.Body.Reason}
			if !mayAlert(p, identity.AlertsAct, x.Workspace) {
				return nil, alerting.ErrNotFound
			}
			id, err := store.Silence(ctx, whoActs(p), x, time.Duration(in.Body.Seconds)*time.Second)
			if err != nil {
				return nil, err
			}
			x, err = s.silence(ctx, p, id)
			return &one[alerting.Silence]{x}, err
		})
	register(s, endpoint{http.MethodDelete, "/alerts/silences/{id}", "end-silence", "Ends a silence before its time", identity.AlertsAct, http.StatusNoContent},
		func(ctx context.Context, p identity.Principal, in *ByID) (*nothing, error) {
			x, err := s.silence(ctx, p, in.uuid())
			if err != nil {
				return nil, err
			}
			return &nothing{}, store.EndSilence(ctx, whoActs(p), x.ID)
		})
}

// seesSilence says whether somebody is shown a silence. One of the installation keeps
// everybody's alerts silent, but not where it is about a domain of others.
func seesSilence(p identity.Principal, policies *policy.Store, x alerting.Silence) bool {
	if x.Workspace != uuid.Nil {
		return p.Can(identity.AlertsRead, x.Workspace)
	}
	r, ok := policies.Lookup("postmaster@" + x.Subject)
	return !ok || p.Can(identity.AlertsRead, r.Domain.Workspace)
}

// silence finds one that somebody may end.
func (s *Server) silence(ctx context.Context, p identity.Principal, id uuid.UUID) (alerting.Silence, error) {
	all, err := s.deps.Alerts.Silences(ctx, false)
	if err != nil {
		return alerting.Silence{}, err
	}
	i := slices.IndexFunc(all, func(x alerting.Silence) bool { return x.ID == id && mayAlert(p, identity.AlertsAct, x.Workspace) })
	if i < 0 {
		return alerting.Silence{}, alerting.ErrNotFound
	}
	return all[i], nil
}

// ChannelBody is a channel as somebody writes one.
type ChannelBody struct {
	Name       string        `json:"name" minLength:"1" maxLength:"100"`
	Kind       string        `json:"kind" enum:"email,slack,teams,webhook,pagerduty,syslog,wazuh"`
	Target     string        `json:"target,omitempty" maxLength:"2000" doc:"addresses, https://... or tls://host:port; never a secret"`
	Secret     string        `json:"secret,omitempty" maxLength:"100" doc:"the name of one of alerts.secrets in the configuration"`
	Language   string        `json:"language,omitempty" enum:"en,de" default:"en"`
	Everything bool          `json:"everything,omitempty" doc:"also alerts of rules that name no channel"`
	Severity   rule.Severity `json:"severity,omitempty" enum:"info,warn,critical" default:"info" doc:"the mildest that it takes"`
	PerMinute  int           `json:"per_minute,omitempty" minimum:"1" maximum:"600" default:"6"`
	Enabled    *bool         `json:"enabled,omitempty" doc:"default true"`
}

func (b ChannelBody) channel() alerting.Channel {
	return alerting.Channel{Name: b.Name, Kind: b.Kind, Target: b.Target, Secret: b.Secret, Language: b.Language, Everything: b.Everything, Severity: b.Severity, PerMinute: b.PerMinute, Enabled: b.Enabled == nil || *b.Enabled}
}

type channelInput struct {
	Body struct {
		ChannelBody
		Workspace string `json:"workspace_id,omitempty" format:"uuid" doc:"empty: the installation's"`
	}
}

type channelChange struct {
	ByID
	Body struct {
		ChannelBody
		Version int64 `json:"version" minimum:"1"`
	}
}

type channelLog struct {
	ByID
	Paging
}

type testSent struct {
	Notification uuid.UUID `json:"notification_id"`
}

// findChannel reads a channel that somebody has a right on.
func (s *Server) findChannel(ctx context.Context, p identity.Principal, id uuid.UUID) (alerting.Channel, error) {
	c, err := s.deps.Alerts.Channel(ctx, id)
	if err == nil && !mayAlert(p, identity.AlertsWrite, c.Workspace) {
		err = alerting.ErrNotFound
	}
	return c, err
}

func (s *Server) registerChannels() {
	store := s.deps.Alerts
	register(s, endpoint{http.MethodGet, "/alerts/channels", "list-alert-channels", "Where notifications go", identity.AlertsWrite, 0},
		func(ctx context.Context, p identity.Principal, _ *struct{}) (*list[alerting.Channel], error) {
			all, err := store.Channels(ctx)
			return page(slices.DeleteFunc(all, func(c alerting.Channel) bool { return !mayAlert(p, identity.AlertsWrite, c.Workspace) }), ""), err
		})
	register(s, endpoint{http.MethodPost, "/alerts/channels", "create-alert-channel", "Adds a channel", identity.AlertsWrite, http.StatusCreated},
		func(ctx context.Context, p identity.Principal, in *channelInput) (*one[alerting.Channel], error) {
			c := in.Body.channel()
			if c.Workspace = optionalID(in.Body.Workspace); !mayAlert(p, identity.AlertsWrite, c.Workspace) {
				return nil, alerting.ErrNotFound
			}
			c, err := store.PutChannel(ctx, whoActs(p), c)
			return &one[alerting.Channel]{c}, err
		})
	register(s, endpoint{http.MethodPut, "/alerts/channels/{id}", "put-alert-channel", "Changes a channel; its kind stays", identity.AlertsWrite, 0},
		func(ctx context.Context, p identity.Principal, in *channelChange) (*one[alerting.Channel], error) {
			was, err := s.findChannel(ctx, p, in.uuid())
			if err != nil {
				return nil, err
			}
			c := in.Body.channel()
			c.ID, c.Workspace, c.Kind, c.Version = was.ID, was.Workspace, was.Kind, in.Body.Version
			c, err = store.PutChannel(ctx, whoActs(p), c)
			return &one[alerting.Channel]{c}, err
		})
	register(s, endpoint{http.MethodDelete, "/alerts/channels/{id}", "delete-alert-channel", "Removes a channel; its log stays", identity.AlertsWrite, http.StatusNoContent},
		func(ctx context.Context, p identity.Principal, in *versioned) (*nothing, error) {
			c, err := s.findChannel(ctx, p, in.uuid())
			if err != nil {
				return nil, err
			}
			return &nothing{}, store.DeleteChannel(ctx, whoActs(p), c.ID, in.Body.Version, in.Body.Reason)
		})
	register(s, endpoint{http.MethodPost, "/alerts/channels/{id}/test", "test-alert-channel", "Sends a message that says it is a test", identity.AlertsWrite, http.StatusAccepted},
		func(ctx context.Context, p identity.Principal, in *ByID) (*one[testSent], error) {
			c, err := s.findChannel(ctx, p, in.uuid())
			if err != nil {
				return nil, err
			}
			id, err := store.Test(ctx, whoActs(p), c.ID)
			return &one[testSent]{testSent{id}}, err
		})
	register(s, endpoint{http.MethodGet, "/alerts/channels/{id}/log", "list-notifications", "What went out by a channel, and what became of it", identity.AlertsWrite, 0},
		func(ctx context.Context, p identity.Principal, in *channelLog) (*list[alerting.Notification], error) {
			c, err := s.findChannel(ctx, p, in.uuid())
			if err != nil {
				return nil, err
			}
			got, next, err := store.Notifications(ctx, []uuid.UUID{c.ID}, in.Cursor, in.Limit)
			return page(got, next), err
		})
}

// metricInfo is something that can be watched.
type metricInfo struct {
	Name   string `json:"name"`
	Kind   string `json:"kind" enum:"count,gauge,p95"`
	Unit   string `json:"unit"`
	Of     string `json:"of" doc:"what it is told apart by: domain, component, or nothing"`
	Window string `json:"window" doc:"of a rule that names none"`
}

type metricQuery struct {
	Name    string    `path:"name"`
	From    time.Time `query:"from" doc:"default: an hour before to"`
	To      time.Time `query:"to" doc:"default: now"`
	Step    string    `query:"step" default:"5m" doc:"in whole buckets of 10s, 5m or 1h"`
	Subject string    `query:"subject" doc:"a domain or component; empty: all"`
}

type metricPoint struct {
	At    time.Time `json:"at"`
	Value *float64  `json:"value"`
}

func (s *Server) registerMetrics() {
	register(s, endpoint{http.MethodGet, "/metrics", "list-metrics", "What rules of alerts can watch", identity.AlertsRead, 0},
		func(context.Context, identity.Principal, *struct{}) (*list[metricInfo], error) {
			return page(mapped(rule.Metrics(), func(m rule.Metric) metricInfo {
				return metricInfo{m.Name, string(m.Kind), m.Unit, m.Of, m.Window.String()}
			}), ""), nil
		})
	register(s, endpoint{http.MethodGet, "/metrics/{name}", "get-metric", "A metric over time", identity.AlertsRead, 0},
		func(ctx context.Context, p identity.Principal, in *metricQuery) (*list[metricPoint], error) {
			step, err := time.ParseDuration(in.Step)
			if err != nil {
				return nil, &rule.InvalidError{Field: "step", Problem: "must be a length of time such as 5m"}
			}
			if in.To.IsZero() {
				in.To = s.now()
			}
			if in.From.IsZero() {
				in.From = in.To.Add(-time.Hour)
			}
			f := alertsOf(p)
			got, err := s.deps.Alerts.Series(ctx, in.Name, f.Workspaces, f.All, in.Subject, in.From, in.To, step)
			return page(mapped(got, func(x rule.Point) metricPoint {
				if !x.Has {
					return metricPoint{At: x.At}
				}
				return metricPoint{x.At, &x.Value}
			}), ""), err
		})
}
