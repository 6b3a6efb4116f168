package webui

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/alerting"
	"mailward/alerting/rule"
	"mailward/audit"
	"mailward/identity"
)

// Rights about alerts.
const (
	rightAlertsRead  = "alerts_read"
	rightAlertsAct   = "alerts_act"
	rightAlertsWrite = "alerts_write"
)

func (s *pages) registerAlerts(r router) {
	if s.alerts == nil {
		return // tests of other pages
	}
	r.page(http.MethodGet, "/alerts", rightAlertsRead, audit.PageView, s.getAlerts)
	r.page(http.MethodGet, "/alerts/history", rightAlertsRead, audit.PageView, s.getAlertHistory)
	r.page(http.MethodGet, "/alerts/rules", rightAlertsRead, audit.PageView, s.getAlertRules)
	r.page(http.MethodGet, "/alerts/rules/new", rightAlertsWrite, audit.PageView, s.getAlertRule)
	r.page(http.MethodGet, "/alerts/rules/preview", rightAlertsWrite, audit.PageView, s.getAlertPreview)
	r.page(http.MethodPost, "/alerts/rules", rightAlertsWrite, "alert.rule.create", s.postAlertRule)
	r.page(http.MethodGet, "/alerts/rules/:id", rightAlertsRead, audit.PageView, s.getAlertRule)
	r.page(http.MethodPost, "/alerts/rules/:id", rightAlertsWrite, "alert.rule.update", s.postAlertRule)
	r.page(http.MethodPost, "/alerts/rules/:id/switch", rightAlertsWrite, "alert.rule.update", s.postAlertSwitch)
	r.page(http.MethodPost, "/alerts/rules/:id/revert", rightAlertsWrite, "alert.rule.update", s.postAlertRevert)
	r.page(http.MethodPost, "/alerts/rules/:id/delete", rightAlertsWrite, "alert.rule.update", s.postAlertDelete)
	r.page(http.MethodGet, "/alerts/silences", rightAlertsRead, audit.PageView, s.getSilences)
	r.page(http.MethodPost, "/alerts/silences", rightAlertsAct, "alert.silence.create", s.postSilence)
	r.page(http.MethodPost, "/alerts/silences/:id/end", rightAlertsAct, "alert.silence.update", s.postSilenceEnd)
	r.page(http.MethodGet, "/alerts/channels", rightAlertsWrite, audit.PageView, s.getChannels)
	r.page(http.MethodPost, "/alerts/channels", rightAlertsWrite, "alert.channel.create", s.postChannel)
	r.page(http.MethodGet, "/alerts/channels/:id", rightAlertsWrite, audit.PageView, s.getChannel)
	r.page(http.MethodPost, "/alerts/channels/:id", rightAlertsWrite, "alert.channel.update", s.postChannel)
	r.page(http.MethodPost, "/alerts/channels/:id/test", rightAlertsWrite, audit.ChannelTest, s.postChannelTest)
	r.page(http.MethodPost, "/alerts/channels/:id/delete", rightAlertsWrite, "alert.channel.update", s.postChannelDelete)
	s.registerReactions(r)
	r.page(http.MethodGet, "/alerts/:id", rightAlertsRead, audit.PageView, s.getAlert)
	r.page(http.MethodPost, "/alerts/:id/ack", rightAlertsAct, "alert.ack.create", s.postAck)
}

// alertsView is what fires and what is not calm.
type alertsView struct {
	Firing, Other []alerting.Alert
	NoChannel     bool // nobody hears of anything
	Reacting      int  // reactions in force that are not only tried
}

func (s *pages) alertFilter(c echo.Context) alerting.AlertFilter {
	return alertsOf(s.person(c).principal)
}

func (s *pages) alertPerson(c echo.Context) alerting.Person {
	return whoActs(s.person(c).principal)
}

func (s *pages) mayAlert(c echo.Context, right identity.Right, workspace uuid.UUID) bool {
	return mayAlert(s.person(c).principal, right, workspace)
}

func (s *pages) getAlerts(c echo.Context) error {
	ctx := c.Request().Context()
	f := s.alertFilter(c)
	f.Open = true
	list, err := s.alerts.Alerts(ctx, f)
	if err != nil {
		return s.alertFailure(c, err)
	}
	channels, err := s.alerts.Channels(ctx)
	if err != nil {
		return s.alertFailure(c, err)
	}
	v := alertsView{NoChannel: !slices.ContainsFunc(channels, func(c alerting.Channel) bool { return c.Enabled })}
	reactions, err := s.alerts.Reactions(ctx, f, uuid.Nil)
	if err != nil {
		return s.alertFailure(c, err)
	}
	for _, x := range reactions {
		if !x.DryRun {
			v.Reacting++
		}
	}
	for _, a := range list {
		if a.Firing {
			v.Firing = append(v.Firing, a)
		} else {
			v.Other = append(v.Other, a)
		}
	}
	p := s.frame(c, "alerts")
	s.flash(c, p)
	return s.render(c, http.StatusOK, alertsPage(p, v))
}

// alertView is one alert.
type alertView struct {
	alerting.Alert
	Events           []alerting.Event
	Reactions        reactionsView
	CanAct, CanWrite bool
	Wrong            string
}

// reacts says whether a reaction to the alert is in force.
func (v alertView) reacts(p *frame) bool {
	return slices.ContainsFunc(v.Reactions.Items, func(x alerting.Reaction) bool { return x.Active(p.Now) })
}

func (s *pages) getAlert(c echo.Context) error { return s.showAlert(c, http.StatusOK, "") }

func (s *pages) showAlert(c echo.Context, status int, wrong string) error {
	id, err := paramID(c)
	if err != nil {
		return s.failure(c, err)
	}
	a, err := s.alerts.Alert(c.Request().Context(), s.alertFilter(c), id)
	if err != nil {
		return s.alertFailure(c, err)
	}
	f := s.alertFilter(c)
	f.ID = id
	events, _, err := s.alerts.Events(c.Request().Context(), f, "", 50)
	if err != nil {
		return s.alertFailure(c, err)
	}
	reactions, err := s.reactionsView(c, s.alertFilter(c), id)
	if err != nil {
		return s.alertFailure(c, err)
	}
	p := s.frame(c, "alerts")
	s.flash(c, p)
	return s.render(c, status, alertPage(p, alertView{a, events, reactions, s.mayAlert(c, identity.AlertsAct, a.Workspace), s.mayAlert(c, identity.AlertsWrite, a.Workspace), wrong}))
}

func (s *pages) postAck(c echo.Context) error {
	id, err := paramID(c)
	if err != nil {
		return s.failure(c, err)
	}
	a, err := s.alerts.Alert(c.Request().Context(), s.alertFilter(c), id)
	if err == nil && !s.mayAlert(c, identity.AlertsAct, a.Workspace) {
		err = alerting.ErrNotFound
	}
	if err == nil {
		err = s.alerts.Ack(c.Request().Context(), s.alertPerson(c), id, short(c.FormValue("note")))
	}
	if errors.Is(err, alerting.ErrNotFiring) {
		return s.showAlert(c, http.StatusConflict, s.frame(c, "alerts").T("alert.wrong.ack"))
	}
	if err != nil {
		return s.alertFailure(c, err)
	}
	return s.done(c, "flash.alert.acked", "/alerts/"+id.String())
}

// alertFailure chooses the status for an error of package alerting.
func (s *pages) alertFailure(c echo.Context, err error) error {
	var invalid *rule.InvalidError
	switch {
	case errors.Is(err, alerting.ErrNotFound):
		return s.fail(c, http.StatusNotFound, err)
	case errors.Is(err, alerting.ErrConflict), errors.Is(err, alerting.ErrNotFiring):
		return s.fail(c, http.StatusConflict, err)
	case errors.Is(err, alerting.ErrReasonRequired), errors.Is(err, alerting.ErrBadCursor), errors.As(err, &invalid):
		return s.fail(c, http.StatusBadRequest, err)
	}
	return s.failure(c, err)
}

// alertHistory is what alerts went through.
type alertHistory struct {
	Query, Severity, State string
	Events                 []alerting.Event
	Link                   listLink
}

func (v alertHistory) filtered() bool { return v.Query+v.Severity+v.State != "" }

func (v alertHistory) stateOptions(p *frame) []option {
	return append([]option{{"", p.T("alert.state.any")}}, optionsOf(rule.Phases(), func(x string) string { return p.word("alert.state", x) })...)
}

func (s *pages) getAlertHistory(c echo.Context) error {
	q := c.QueryParams()
	v := alertHistory{Query: short(q.Get("q"))}
	if sev := rule.Severity(q.Get("severity")); slices.Contains(rule.Severities(), sev) {
		v.Severity = string(sev)
	}
	if ph := rule.Phase(q.Get("state")); slices.Contains(rule.Phases(), ph) {
		v.State = string(ph)
	}
	v.Link = listLink{path: "/alerts/history", set: url.Values{"q": {v.Query}, "severity": {v.Severity}, "state": {v.State}}, size: pageSize, at: q.Get("after"), page: pageNumber(q.Get("page"))}
	f := s.alertFilter(c)
	f.Text, f.Severity, f.Phase = v.Query, rule.Severity(v.Severity), rule.Phase(v.State)
	var err error
	if v.Events, v.Link.next, err = s.alerts.Events(c.Request().Context(), f, v.Link.at, pageSize); err != nil {
		return s.alertFailure(c, err)
	}
	p := s.frame(c, "alerts")
	if isFragment(c, "results") {
		return s.render(c, http.StatusOK, alertHistoryResults(p, v))
	}
	return s.render(c, http.StatusOK, alertHistoryPage(p, v))
}

// silencesView is silences, and a new one.
type silencesView struct {
	Items           []alerting.Silence
	Rules           map[uuid.UUID]string
	Rule            uuid.UUID
	Subject, Reason string
	Wrong           string
}

// silenceLengths are the choices of the form.
var silenceLengths = []struct {
	key  string
	span time.Duration
}{{"1h", time.Hour}, {"4h", 4 * time.Hour}, {"24h", 24 * time.Hour}, {"7d", 7 * 24 * time.Hour}, {"30d", 30 * 24 * time.Hour}}

func (s *pages) getSilences(c echo.Context) error {
	return s.showSilences(c, http.StatusOK, silencesView{Rule: optionalID(c.QueryParam("rule")), Subject: short(c.QueryParam("subject"))})
}

func (s *pages) showSilences(c echo.Context, status int, v silencesView) error {
	ctx := c.Request().Context()
	all, err := s.alerts.Silences(ctx, false)
	if err != nil {
		return s.alertFailure(c, err)
	}
	for _, x := range all {
		if seesSilence(s.person(c).principal, s.policies, x) {
			v.Items = append(v.Items, x)
		}
	}
	rules, err := s.visibleRules(c)
	if err != nil {
		return s.alertFailure(c, err)
	}
	p := s.frame(c, "alerts")
	v.Rules = map[uuid.UUID]string{}
	for _, r := range rules {
		v.Rules[r.ID] = p.ruleName(r.Spec.Name)
	}
	s.flash(c, p)
	return s.render(c, status, silencesPage(p, v))
}

// ruleOptions are the rules that a silence can be about.
func (v silencesView) ruleOptions(p *frame) []option {
	var out []option
	for id, name := range v.Rules {
		out = append(out, option{id.String(), plain(name, 100)})
	}
	slices.SortFunc(out, func(a, b option) int { return strings.Compare(strings.ToLower(a.Text), strings.ToLower(b.Text)) })
	return append([]option{{"", p.T("alert.silence.all")}}, out...)
}

// alertScope is what somebody's new rule, channel or silence belongs to: the
// workspace that they have chosen in the frame, else the installation where they
// may, else the first workspace where they may.
func (s *pages) alertScope(c echo.Context, right identity.Right) (uuid.UUID, error) {
	v := s.person(c)
	if v.Space != uuid.Nil && s.mayAlert(c, right, v.Space) {
		return v.Space, nil
	}
	list, all := v.principal.Workspaces(right)
	if all {
		return uuid.Nil, nil
	}
	if w, may := v.Target(string(right)); may {
		return w, nil
	}
	if len(list) == 0 {
		return uuid.Nil, alerting.ErrNotFound
	}
	slices.SortFunc(list, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	return list[0], nil
}

// ruleName is the name of a rule; that of a default rule in the page's language.
func (p *frame) ruleName(name string) string {
	if key := alerting.PackKey(name); key != "" {
		return p.T("alert.pack." + key)
	}
	return plain(name, 100)
}

func (s *pages) postSilence(c echo.Context) error {
	v := silencesView{Rule: optionalID(c.FormValue("rule")), Subject: short(c.FormValue("subject")), Reason: strings.ToValidUTF8(c.FormValue("reason"), "")}
	w, err := s.alertScope(c, identity.AlertsAct)
	if err != nil {
		return s.alertFailure(c, err)
	}
	length := time.Duration(0)
	for _, l := range silenceLengths {
		if l.key == c.FormValue("length") {
			length = l.span
		}
	}
	_, err = s.alerts.Silence(c.Request().Context(), s.alertPerson(c), alerting.Silence{Workspace: w, Rule: v.Rule, Subject: v.Subject, Reason: v.Reason}, length)
	var invalid *rule.InvalidError
	if errors.Is(err, alerting.ErrReasonRequired) || errors.As(err, &invalid) {
		v.Wrong = s.frame(c, "alerts").T("act.wrong.reason")
		return s.showSilences(c, http.StatusUnprocessableEntity, v)
	}
	if err != nil {
		return s.alertFailure(c, err)
	}
	return s.done(c, "flash.alert.silenced", "/alerts/silences")
}

func (s *pages) postSilenceEnd(c echo.Context) error {
	id, err := paramID(c)
	if err != nil {
		return s.failure(c, err)
	}
	all, err := s.alerts.Silences(c.Request().Context(), false)
	if err != nil {
		return s.alertFailure(c, err)
	}
	if !slices.ContainsFunc(all, func(x alerting.Silence) bool { return x.ID == id && s.mayAlert(c, identity.AlertsAct, x.Workspace) }) {
		return s.alertFailure(c, alerting.ErrNotFound)
	}
	if err := s.alerts.EndSilence(c.Request().Context(), s.alertPerson(c), id); err != nil {
		return s.alertFailure(c, err)
	}
	return s.done(c, "flash.alert.unsilenced", "/alerts/silences")
}

func phaseTone(ph rule.Phase, sev rule.Severity) string {
	switch ph {
	case rule.Firing:
		return severityTone(sev)
	case rule.Pending, rule.Failed:
		return "warn"
	case rule.Resolved:
		return "ok"
	case rule.Acknowledged:
		return "info"
	}
	return "none"
}

func severityTone(sev rule.Severity) string {
	switch sev {
	case rule.Critical:
		return "crit"
	case rule.Warn:
		return "warn"
	}
	return "info"
}

// metricUnits are the units that a number is written with; the others are counted.
var metricUnits = map[string]string{"minutes": "unit.min", "seconds": "unit.s", "milliseconds": "unit.ms"}

// metricValue writes a value of a metric with its unit.
func (p *frame) metricValue(metric string, v *float64) string {
	if v == nil {
		return p.T("alert.novalue")
	}
	m, _ := rule.MetricNamed(metric)
	if key := metricUnits[m.Unit]; key != "" {
		return p.T(key, p.decimal(*v))
	}
	return p.decimal(*v)
}

// decimal writes a number with a place behind the point where it needs one.
func (p *frame) decimal(v float64) string {
	if v == float64(int64(v)) {
		return p.Float(v, 0)
	}
	return p.Float(v, 1)
}

// condition is what a rule waits for.
func (p *frame) condition(s rule.Spec) string {
	n := p.metricValue(s.Metric, &s.Threshold)
	switch s.Compare {
	case rule.Below:
		return p.T("alert.cond.below", n)
	case rule.Times:
		return p.T("alert.cond.times", p.decimal(s.Threshold))
	}
	return p.T("alert.cond.above", n)
}

// quarantineOf is the address of the mails that an alert is about; "": none.
func quarantineOf(a alerting.Alert) string {
	class, ok := map[string]string{"phishing_rate_5min": "phishing", "malware_hits_5min": "malware", "dlp_hits_per_hour": "dlp", "quarantine_rate_5min": ""}[a.Spec.Metric]
	if !ok {
		return ""
	}
	return listLink{path: "/quarantine"}.with("class", class, "domain", a.Subject)
}

func (v silencesView) ruleValue() string {
	if v.Rule == uuid.Nil {
		return ""
	}
	return v.Rule.String()
}

// about is what a silence keeps silent.
func (v silencesView) about(p *frame, x alerting.Silence) string {
	name := p.T("alert.silence.all")
	if x.Rule != uuid.Nil {
		if name = plain(v.Rules[x.Rule], 100); name == "" {
			name = p.T("alert.silence.gone")
		}
	}
	if x.Subject != "" {
		name += " – " + plain(x.Subject, 255)
	}
	return name
}

func lengthOptions(p *frame) []option {
	var out []option
	for _, l := range silenceLengths {
		out = append(out, option{l.key, p.Span(l.span)})
	}
	return out
}

// firing is how many alerts fire that nobody has in hand, for the menu.
func (s *pages) firing(ctx context.Context, f *frame) (n int, tone string) {
	by, err := s.alerts.Firing(ctx, alertsOf(f.User.principal))
	if err != nil {
		return 0, "" // the page itself says what is wrong
	}
	for _, count := range by {
		n += count
	}
	if by[rule.Critical] > 0 {
		return n, "crit"
	}
	return n, "warn"
}
