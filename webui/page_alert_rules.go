package webui

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/alerting"
	"mailward/alerting/channel"
	"mailward/alerting/rule"
	"mailward/identity"
)

// visibleRules are those that the person may see.
func (s *pages) visibleRules(c echo.Context) ([]alerting.Rule, error) {
	all, err := s.alerts.Rules(c.Request().Context())
	return slices.DeleteFunc(all, func(r alerting.Rule) bool {
		return r.Workspace != uuid.Nil && !s.mayAlert(c, identity.AlertsRead, r.Workspace)
	}), err
}

// alertRulesView is the list of rules.
type alertRulesView struct {
	Query    string
	Severity string
	All      int
	Items    []alerting.Rule
	Channels map[uuid.UUID]string
}

func (s *pages) getAlertRules(c echo.Context) error {
	rules, err := s.visibleRules(c)
	if err != nil {
		return s.alertFailure(c, err)
	}
	v := alertRulesView{Query: short(c.QueryParam("q")), Severity: short(c.QueryParam("severity")), All: len(rules)}
	p := s.frame(c, "alerts")
	for _, r := range rules {
		text := strings.ToLower(r.Spec.Name + " " + r.Spec.Metric + " " + p.word("alert.metric", r.Spec.Metric))
		if strings.Contains(text, strings.ToLower(v.Query)) && (v.Severity == "" || v.Severity == string(r.Spec.Severity)) {
			v.Items = append(v.Items, r)
		}
	}
	if isFragment(c, "results") {
		return s.render(c, http.StatusOK, alertRulesResults(p, v))
	}
	s.flash(c, p)
	return s.render(c, http.StatusOK, alertRulesPage(p, v))
}

// alertRuleForm is one rule while somebody writes it.
type alertRuleForm struct {
	alerting.Rule
	// As they were typed.
	Threshold, Window, For, Cooldown, Subjects, Inhibits string
	From, To                                             string
	React                                                reactionForm
	Days                                                 int // of the preview
	Reason                                               string
	Wrong                                                string
	CanWrite                                             bool
	Channels                                             []alerting.Channel
	Versions                                             []alerting.Version
	Preview                                              alertPreview
	Spaces                                               []option // that a new rule may be of
}

// alertPreview is what a rule would have done.
type alertPreview struct {
	Tried bool
	Days  int
	Wrong string
	rule.Backtest
}

func clock(minute int) string { return fmt.Sprintf("%02d:%02d", minute/60%24, minute%60) }

func formOf(r alerting.Rule) alertRuleForm {
	f := alertRuleForm{Rule: r, Threshold: strconv.FormatFloat(r.Spec.Threshold, 'f', -1, 64), Window: lengthText(r.Spec.Window), For: lengthText(r.Spec.For), Cooldown: lengthText(r.Spec.Cooldown),
		Subjects: strings.Join(r.Spec.Subjects, "\n"), Inhibits: strings.Join(r.Spec.Inhibits, "\n"), Days: 7, React: reactionFormOf(r.Spec.Reaction)}
	if d := r.Spec.Schedule; d.From != d.To {
		f.From, f.To = clock(d.From), clock(d.To)
	}
	return f
}

// lengthText is a length of time as the form takes it: 5m, not 5m0s.
func lengthText(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// read takes what the form says. What cannot be read is the first problem.
func (f *alertRuleForm) read(q url.Values) error {
	s := &f.Spec
	get := func(k string) string { return strings.TrimSpace(strings.ToValidUTF8(q.Get(k), "")) }
	s.Name, s.Metric, s.Compare, s.Severity, s.Missing, s.Runbook = get("name"), get("metric"), rule.Compare(get("compare")), rule.Severity(get("severity")), rule.Missing(get("missing")), get("runbook")
	s.Each, s.Subjects, s.Inhibits, s.Channels = q.Get("each") != "", words(get("subjects")), words(get("inhibits")), nil
	f.Threshold, f.Window, f.For, f.Cooldown, f.Subjects, f.Inhibits, f.From, f.To, f.Reason = get("threshold"), get("window"), get("for"), get("cooldown"), get("subjects"), get("inhibits"), get("from"), get("to"), get("reason")
	for _, id := range q["channel"] {
		if u := optionalID(id); u != uuid.Nil {
			s.Channels = append(s.Channels, u)
		}
	}
	if f.Days = 7; q.Get("days") == "30" {
		f.Days = 30
	}
	s.Schedule = rule.Schedule{Zone: get("zone")}
	for _, d := range q["day"] {
		if n, err := strconv.Atoi(d); err == nil {
			s.Schedule.Days = append(s.Schedule.Days, time.Weekday(n))
		}
	}
	var err error
	if s.Threshold, err = strconv.ParseFloat(strings.ReplaceAll(f.Threshold, ",", "."), 64); err != nil {
		return &rule.InvalidError{Field: "threshold", Problem: "must be a number"}
	}
	for _, x := range []struct {
		field, text string
		to          *time.Duration
	}{{"window", f.Window, &s.Window}, {"for", f.For, &s.For}, {"cooldown", f.Cooldown, &s.Cooldown}} {
		if *x.to = 0; x.text == "" {
			continue
		}
		if *x.to, err = time.ParseDuration(strings.ReplaceAll(x.text, " ", "")); err != nil {
			return &rule.InvalidError{Field: x.field, Problem: "must be a length of time such as 30s, 5m or 1h30m"}
		}
	}
	if s.Reaction, err = f.React.read(q); err != nil {
		return err
	}
	return f.readHours()
}

func (f *alertRuleForm) readHours() error {
	if f.From == "" && f.To == "" {
		return nil
	}
	from, err1 := time.Parse("15:04", f.From)
	to, err2 := time.Parse("15:04", f.To)
	if err1 != nil || err2 != nil {
		return &rule.InvalidError{Field: "schedule", Problem: "needs two times such as 08:00 and 18:00"}
	}
	f.Spec.Schedule.From, f.Spec.Schedule.To = from.Hour()*60+from.Minute(), to.Hour()*60+to.Minute()
	return nil
}

// ruleScope is the workspace of a new rule: the one that is asked for, else the
// widest that the person may write to.
func (s *pages) ruleScope(c echo.Context) (uuid.UUID, error) {
	asked := c.FormValue("workspace")
	if asked == "" {
		return s.alertScope(c, identity.AlertsWrite)
	}
	w := uuid.Nil
	if asked != wholeInstallation {
		var err error
		if w, err = uuid.Parse(asked); err != nil || w == uuid.Nil {
			return uuid.Nil, alerting.ErrNotFound
		}
	}
	if !s.mayAlert(c, identity.AlertsWrite, w) {
		return uuid.Nil, alerting.ErrNotFound
	}
	return w, nil
}

// wholeInstallation stands for all of it, over all workspaces.
const wholeInstallation = "all"

// ruleSpaces are what a person may make a rule for; none where there is no choice.
func (s *pages) ruleSpaces(c echo.Context, p *frame) (list []option) {
	only, all := s.person(c).principal.Workspaces(identity.AlertsWrite)
	if all {
		list, only = append(list, option{Value: wholeInstallation, Text: p.T("alert.workspace.all")}), nil
	}
	if s.ids == nil {
		return nil
	}
	spaces, err := s.ids.ListWorkspaces(c.Request().Context(), only)
	if err != nil {
		s.log.Error("workspaces not read", "error", err)
		return nil
	}
	for _, w := range spaces {
		list = append(list, option{Value: w.ID.String(), Text: plain(w.Name, 100)})
	}
	if len(list) < 2 {
		return nil
	}
	return list
}

func (f alertRuleForm) space() string {
	if f.Workspace == uuid.Nil {
		return wholeInstallation
	}
	return f.Workspace.String()
}

// draft is the rule that the path names, or a new one.
func (s *pages) draft(c echo.Context, right identity.Right) (alertRuleForm, error) {
	if c.Param("id") == "" {
		w, err := s.ruleScope(c)
		return formOf(alerting.Rule{Workspace: w, Enabled: true, Spec: rule.Spec{Metric: "phishing_rate_5min", Compare: rule.Above, Threshold: 10, Window: 5 * time.Minute, Cooldown: time.Hour, Severity: rule.Warn, Missing: rule.Keep}}), err
	}
	id, err := paramID(c)
	if err != nil {
		return alertRuleForm{}, err
	}
	r, err := s.alerts.Rule(c.Request().Context(), id)
	if err == nil && !s.mayAlert(c, right, r.Workspace) && (right != identity.AlertsRead || r.Workspace != uuid.Nil) {
		err = alerting.ErrNotFound
	}
	return formOf(r), err
}

func (s *pages) getAlertRule(c echo.Context) error {
	f, err := s.draft(c, identity.AlertsRead)
	if err != nil {
		return s.alertFailure(c, err)
	}
	// A draft is an address that can be sent to a colleague.
	if c.QueryParam("metric") != "" {
		if err := f.read(c.QueryParams()); err != nil {
			f.Wrong = err.Error()
		}
	}
	return s.showAlertRule(c, http.StatusOK, f)
}

func (s *pages) showAlertRule(c echo.Context, status int, f alertRuleForm) error {
	ctx := c.Request().Context()
	f.CanWrite = s.mayAlert(c, identity.AlertsWrite, f.Workspace)
	var err error
	if f.Channels, err = s.channelsFor(ctx, f.Workspace); err != nil {
		return s.alertFailure(c, err)
	}
	if f.ID != uuid.Nil {
		if f.Versions, err = s.alerts.Versions(ctx, f.ID); err != nil {
			return s.alertFailure(c, err)
		}
	}
	p := s.frame(c, "alerts")
	if f.CanWrite {
		f.Preview = s.preview(ctx, p, f)
	}
	if f.ID == uuid.Nil {
		f.Spaces = s.ruleSpaces(c, p)
	}
	s.flash(c, p)
	return s.render(c, status, alertRulePage(p, f))
}

// channelsFor are the channels that a rule of a workspace can use.
func (s *pages) channelsFor(ctx context.Context, workspace uuid.UUID) ([]alerting.Channel, error) {
	all, err := s.alerts.Channels(ctx)
	return slices.DeleteFunc(all, func(x alerting.Channel) bool { return x.Workspace != uuid.Nil && x.Workspace != workspace }), err
}

// preview runs the rule over the last days.
func (s *pages) preview(ctx context.Context, p *frame, f alertRuleForm) alertPreview {
	v := alertPreview{Days: f.Days}
	if f.Spec.Name == "" {
		f.Spec.Name = "draft" // it needs none to be tried
	}
	b, err := s.alerts.Backtest(ctx, f.Rule, f.Days)
	var invalid *rule.InvalidError
	switch {
	case errors.As(err, &invalid):
		v.Wrong = invalid.Error()
	case err != nil:
		s.log.Error("rule not tried", "error", err)
		v.Wrong = p.T("alert.preview.failed")
	default:
		v.Tried, v.Backtest = true, b
	}
	return v
}

// getAlertPreview answers the form while somebody types.
func (s *pages) getAlertPreview(c echo.Context) error {
	w, err := s.ruleScope(c)
	if err != nil {
		return s.alertFailure(c, err)
	}
	f, p := formOf(alerting.Rule{Workspace: w}), s.frame(c, "alerts")
	if err := f.read(c.QueryParams()); err != nil {
		f.Preview.Wrong = err.Error()
	} else {
		f.Preview = s.preview(c.Request().Context(), p, f)
	}
	if f.Channels, err = s.channelsFor(c.Request().Context(), w); err != nil {
		return s.alertFailure(c, err)
	}
	return s.render(c, http.StatusOK, alertPreviewBox(p, f))
}

func (s *pages) postAlertRule(c echo.Context) error {
	f, err := s.draft(c, identity.AlertsWrite)
	if err != nil {
		return s.alertFailure(c, err)
	}
	params, err := c.FormParams()
	if err != nil {
		return s.failure(c, errBadInput)
	}
	if err = f.read(params); err == nil {
		if f.ID != uuid.Nil {
			if f.Version, err = strconv.ParseInt(params.Get("version"), 10, 64); err != nil {
				return s.failure(c, errBadInput)
			}
		}
		_, err = s.alerts.PutRule(c.Request().Context(), s.alertPerson(c), f.Rule, f.Reason)
	}
	var invalid *rule.InvalidError
	p := s.frame(c, "alerts")
	status := http.StatusUnprocessableEntity
	switch {
	case err == nil:
		return s.done(c, "flash.alert.rule.saved", "/alerts/rules")
	case errors.As(err, &invalid):
		f.Wrong = p.word("alert.field", invalid.Field) + ": " + invalid.Problem
	case errors.Is(err, alerting.ErrReasonRequired):
		f.Wrong = p.T("alert.wrong.reason")
	case errors.Is(err, alerting.ErrConflict):
		now, e := s.alerts.Rule(c.Request().Context(), f.ID)
		if e != nil {
			return s.alertFailure(c, e)
		}
		f.Version, f.Wrong, status = now.Version, p.T("alert.wrong.conflict", plain(now.ChangedBy, 100)), http.StatusConflict
	default:
		return s.alertFailure(c, err)
	}
	return s.showAlertRule(c, status, f)
}

// alertRuleAct is an act on a rule with a version and a reason.
func (s *pages) alertRuleAct(c echo.Context, message string, act func(r alerting.Rule, version int64, reason string) error) error {
	f, err := s.draft(c, identity.AlertsWrite)
	if err != nil {
		return s.alertFailure(c, err)
	}
	version, err := strconv.ParseInt(c.FormValue("version"), 10, 64)
	if err != nil {
		return s.failure(c, errBadInput)
	}
	if err := act(f.Rule, version, strings.ToValidUTF8(c.FormValue("reason"), "")); err != nil {
		return s.alertFailure(c, err)
	}
	return s.done(c, message, "/alerts/rules")
}

func (s *pages) postAlertSwitch(c echo.Context) error {
	on := c.FormValue("on") != ""
	return s.alertRuleAct(c, "flash.alert.rule.saved", func(r alerting.Rule, version int64, reason string) error {
		return s.alerts.SwitchRule(c.Request().Context(), s.alertPerson(c), r.ID, version, on, reason)
	})
}

func (s *pages) postAlertRevert(c echo.Context) error {
	number, err := strconv.Atoi(c.FormValue("number"))
	if err != nil {
		return s.failure(c, errBadInput)
	}
	return s.alertRuleAct(c, "flash.alert.rule.saved", func(r alerting.Rule, version int64, reason string) error {
		_, err := s.alerts.Revert(c.Request().Context(), s.alertPerson(c), r.ID, version, number, reason)
		return err
	})
}

func (s *pages) postAlertDelete(c echo.Context) error {
	return s.alertRuleAct(c, "flash.alert.rule.deleted", func(r alerting.Rule, version int64, reason string) error {
		return s.alerts.DeleteRule(c.Request().Context(), s.alertPerson(c), r.ID, version, reason)
	})
}

// ruleSentence says what a rule does.
func (p *frame) ruleSentence(s rule.Spec, channels []alerting.Channel) string {
	m, _ := rule.MetricNamed(s.Metric)
	out := p.T("alert.say.when", p.word("alert.metric", s.Metric), p.Span(s.Window), p.condition(s))
	if s.For > 0 {
		out += p.T("alert.say.for", p.Span(s.For))
	}
	switch {
	case len(s.Subjects) > 0:
		out += p.T("alert.say.only", plain(strings.Join(s.Subjects, ", "), 300))
	case s.Each && m.Of == "component":
		out += p.T("alert.say.components")
	case s.Each:
		out += p.T("alert.say.domains")
	}
	out += p.T("alert.say.then", p.word("alert.severity", string(s.Severity)), p.Span(s.Cooldown))
	var names []string
	for _, c := range channels {
		if slices.Contains(s.Channels, c.ID) {
			names = append(names, plain(c.Name, 100))
		}
	}
	if len(names) > 0 {
		return out + " " + p.T("alert.say.to", strings.Join(names, ", ")) + p.reactionSentence(s)
	}
	return out + " " + p.T("alert.say.all") + p.reactionSentence(s)
}

func metricOptions(p *frame) []option {
	var out []option
	for _, m := range rule.Metrics() {
		out = append(out, option{m.Name, p.word("alert.metric", m.Name) + " (" + m.Name + ")"})
	}
	return out
}

// optionsOf are the values of a fixed vocabulary in words.
func optionsOf[T ~string](list []T, word func(string) string) []option {
	var out []option
	for _, x := range list {
		out = append(out, option{string(x), word(string(x))})
	}
	return out
}

func severityOptions(p *frame) []option {
	return optionsOf(rule.Severities(), func(x string) string { return p.word("alert.severity", x) })
}

func compareOptions(p *frame) []option {
	return optionsOf(rule.Compares(), func(x string) string { return p.word("alert.compare", x) })
}

func missingOptions(p *frame) []option {
	return optionsOf(rule.Missings(), func(x string) string { return p.word("alert.missing", x) })
}

func kindOptions(p *frame) []option {
	return optionsOf(channel.Kinds(), func(x string) string { return p.word("alert.kind", x) })
}
