package webui

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"mailward/alerting"
	"mailward/alerting/rule"
	"mailward/audit"
	"mailward/gateway/ledger"
	"mailward/health"
	"mailward/quarantine"
)

// dashView is the first look of the day: does mail flow, what needs me, what
// was decided.
type dashView struct {
	Range      string
	From, To   time.Time
	Step       time.Duration
	Tiles      []kpiTile
	Flow       []series
	Top        float64
	Buckets    []ledger.Bucket
	Attention  []attention
	Decisions  []act
	Total      int
	Empty      bool // no mail ever
	SMTP       string
	TestSet    bool // ClamAV knows only the test file
	AuditShown bool
}

type attention struct {
	Icon, Tone, Title, Text, Href string
	At                            time.Time
}

// slots of the plot, by range.
var flowSteps = map[string]time.Duration{"24h": 30 * time.Minute, "7d": 3 * time.Hour, "30d": 12 * time.Hour}

func (s *pages) getDashboard(c echo.Context) error {
	p := s.frame(c, "dashboard")
	s.flash(c, p)
	key, span := rangeOf(c.QueryParam("range"), "24h")
	if key == "all" {
		key, span = "24h", 24*time.Hour
	}
	v := dashView{Range: key, To: s.now(), From: s.now().Add(-span), Step: flowSteps[key], SMTP: s.smtpAddr, AuditShown: p.Can(rightAuditRead)}
	if err := s.loadFlow(c, p, &v, span); err != nil {
		return s.failure(c, err)
	}
	if err := s.loadAttention(c, p, &v); err != nil {
		return s.failure(c, err)
	}
	if v.AuditShown {
		page, err := s.record.List(c.Request().Context(), p.User.auditFilter(audit.Filter{Skip: []string{audit.PageView, audit.APICall}, Limit: 300, From: s.now().Add(-30 * 24 * time.Hour)}))
		if err != nil {
			return s.failure(c, err)
		}
		v.Decisions = decisions(p, page.Items, 6)
	}
	return s.render(c, http.StatusOK, dashboardPage(p, v))
}

// loadFlow counts the range and the one before it.
func (s *pages) loadFlow(c echo.Context, p *frame, v *dashView, span time.Duration) error {
	ctx := c.Request().Context()
	ws := p.User.Workspaces
	var err error
	if v.Buckets, err = s.mails.Stats(ctx, ws, v.From, v.To, v.Step); err != nil {
		return err
	}
	whole, err := s.mails.Stats(ctx, ws, v.From, v.To, span)
	if err != nil {
		return err
	}
	before, err := s.mails.Stats(ctx, ws, v.From.Add(-span), v.From, span)
	if err != nil {
		return err
	}
	now, then := sum(whole), sum(before)
	v.Total = now.Total
	if v.Total == 0 {
		any, err := s.mails.List(ctx, ledger.Filter{Workspaces: ws, Limit: 1})
		if err != nil {
			return err
		}
		v.Empty = len(any.Items) == 0
	}
	v.Tiles = tiles(p, v, now, then)
	v.Flow = []series{{p.T("flow.delivered"), "f1", nil}, {p.T("flow.deferred"), "f4", nil}, {p.T("flow.rejected"), "f2", nil}, {p.T("flow.quarantined"), "f3", nil}}
	for _, b := range v.Buckets {
		for i, n := range []int{b.Delivered, b.Deferred, b.Rejected, b.Quarantined} {
			v.Flow[i].Values = append(v.Flow[i].Values, float64(n))
		}
	}
	v.Top = niceTop(v.Flow)
	return nil
}

func sum(list []ledger.Bucket) (t ledger.Bucket) {
	for _, b := range list {
		t.Delivered += b.Delivered
		t.Quarantined += b.Quarantined
		t.Rejected += b.Rejected
		t.Deferred += b.Deferred
		t.Threats += b.Threats
		t.Total += b.Total
		t.ScanP95MS = max(t.ScanP95MS, b.ScanP95MS)
	}
	return t
}

func tiles(p *frame, v *dashView, now, then ledger.Bucket) []kpiTile {
	line := func(pick func(ledger.Bucket) float64) []float64 {
		var out []float64
		for _, b := range v.Buckets {
			out = append(out, pick(b))
		}
		return out
	}
	to := func(path string, pairs ...string) string {
		q := url.Values{"range": {v.Range}}
		for i := 0; i+1 < len(pairs); i += 2 {
			q.Add(pairs[i], pairs[i+1])
		}
		return path + "?" + q.Encode()
	}
	share := p.T("kpi.nomail")
	if now.Total > 0 {
		share = p.T("kpi.share", p.Percent(float64(now.Quarantined)/float64(now.Total), 1))
	}
	scan := kpiTile{Title: p.T("kpi.scan"), Href: "/health", Value: "–", Note: p.T("kpi.nomail"), Series: line(func(b ledger.Bucket) float64 { return b.ScanP95MS })}
	if now.Total > 0 {
		scan.Value, scan.Note = p.Millis(now.ScanP95MS), p.T("kpi.scan.note")
		if then.Total > 0 {
			scan.Note = p.T("kpi.before", p.Millis(then.ScanP95MS))
		}
	}
	return []kpiTile{
		{Title: p.T("kpi.processed"), Value: p.Int(int64(now.Total)), Href: to("/messages"), Note: change(p, now.Total, then.Total), Series: line(func(b ledger.Bucket) float64 { return float64(b.Total) })},
		{Title: p.T("kpi.quarantined"), Value: p.Int(int64(now.Quarantined)), Href: to("/quarantine"), Note: share, Series: line(func(b ledger.Bucket) float64 { return float64(b.Quarantined) })},
		{Title: p.T("kpi.threats"), Value: p.Int(int64(now.Threats)), Href: to("/quarantine", "class", "malware", "class", "phishing"), Note: change(p, now.Threats, then.Threats),
			Worse: then.Threats > 0 && now.Threats > then.Threats*5/4, Series: line(func(b ledger.Bucket) float64 { return float64(b.Threats) })},
		{Title: p.T("kpi.deferred"), Value: p.Int(int64(now.Deferred)), Href: to("/messages", "action", "defer"), Note: change(p, now.Deferred, then.Deferred),
			Worse: now.Deferred > then.Deferred && now.Deferred > 0, Series: line(func(b ledger.Bucket) float64 { return float64(b.Deferred) })},
		scan,
	}
}

// change compares with the range before.
func change(p *frame, now, then int) string {
	switch {
	case then == 0 && now == 0:
		return p.T("kpi.same")
	case then == 0:
		return p.T("kpi.none.before")
	}
	rel := float64(now-then) / float64(then)
	sign := "+"
	if rel < 0 {
		sign, rel = "−", -rel
	}
	return p.T("kpi.change", sign+p.Percent(rel, 0))
}

// attentions are the lines about what somebody should look at.
type attentions struct{ crit, warn []attention }

func (a *attentions) add(x attention, critical bool) {
	if critical {
		a.crit = append(a.crit, x)
		return
	}
	a.warn = append(a.warn, x)
}

// attentionLines bounds the list.
const attentionLines = 7

// loadAttention lists what somebody should look at, the gravest first.
func (s *pages) loadAttention(c echo.Context, p *frame, v *dashView) error {
	var list attentions
	if a := reportsAttention(p); a.Tone != "" {
		list.add(a, a.Tone == "crit")
	}
	if err := s.alertAttention(c, p, &list); err != nil {
		return err
	}
	s.healthAttention(p, v, &list)
	if err := s.releaseAttention(c, p, &list); err != nil {
		return err
	}
	if p.Can(rightAuditRead) {
		st, err := s.record.Status(c.Request().Context())
		if err != nil {
			return fmt.Errorf("state of the audit: %w", err)
		}
		if st.TamperAttempts > 0 {
			list.add(attention{Icon: "scroll-text", Tone: "crit", Title: p.N("audit.tamper", st.TamperAttempts), Text: p.T("attention.tamper"), Href: "/audit?action=guard.*", At: s.now()}, true)
		}
	}
	v.Attention = append(list.crit, list.warn...)
	v.Attention = v.Attention[:min(len(v.Attention), attentionLines)]
	return nil
}

// alertLines is how many alerts have a line of their own.
const alertLines = 3

// alertAttention names the alerts that fire and what they are about, the critical
// ones first: the way from here to the mails that an alarm speaks of. What has a line of
// its own is left out: states of components, and reports of incidents that are due.
func (s *pages) alertAttention(c echo.Context, p *frame, list *attentions) error {
	if s.alerts == nil || !p.Can(rightAlertsRead) {
		return nil
	}
	f := s.alertFilter(c)
	f.Open = true
	all, err := s.alerts.Alerts(c.Request().Context(), f)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(a alerting.Alert) bool {
		return !a.Firing || strings.HasPrefix(a.Spec.Metric, "component_") || strings.HasPrefix(a.Spec.Metric, "incident_")
	})
	slices.SortStableFunc(all, func(a, b alerting.Alert) int { return cmp.Compare(alertRank(a), alertRank(b)) })
	for _, a := range all[:min(len(all), alertLines)] {
		title := p.ruleName(a.Spec.Name)
		if a.Subject != "" {
			title = p.T("attention.alert", title, plain(a.Subject, 255))
		}
		text := p.metricValue(a.Spec.Metric, a.Value) + " " + p.condition(a.Spec)
		if a.AckedBy != "" {
			text = p.T("attention.acked", plain(a.AckedBy, 120))
		}
		list.add(attention{Icon: "bell", Tone: severityTone(a.Spec.Severity), Title: title, Text: text, At: a.Since, Href: "/alerts/" + a.ID.String()}, alertRank(a) == 0)
	}
	if more := len(all) - alertLines; more > 0 {
		list.add(attention{Icon: "bell", Tone: "warn", Title: p.N("attention.alerts", more), Text: p.T("attention.alerts.text"), Href: "/alerts"}, alertRank(all[alertLines]) == 0)
	}
	return nil
}

// alertRank is 0 for what is critical and in nobody's hand.
func alertRank(a alerting.Alert) int {
	if a.Spec.Severity == rule.Critical && a.AckedBy == "" {
		return 0
	}
	return 1
}

func (s *pages) healthAttention(p *frame, v *dashView, list *attentions) {
	for _, st := range s.monitor.Latest().Components {
		tone := healthTone(st.State)
		if tone != "crit" && tone != "warn" {
			continue
		}
		if st.Name == "clamav" && st.Code == "test_signatures" && st.State == health.Degraded {
			v.TestSet = true // has a banner of its own
			continue
		}
		text, _ := healthText(p, st.Says, st.Reason)
		a := attention{Icon: componentIcon(st.Name), Tone: tone, Title: p.T("attention.health", componentTitle(p, st), p.word("health.state", string(st.State))), Text: text, At: st.Since, Href: "/health"}
		if !p.Can(rightHealthRead) {
			a.Href = ""
		}
		list.add(a, tone == "crit")
	}
}

// releaseAttention counts releases that went wrong, and those that wait for a
// second person.
func (s *pages) releaseAttention(c echo.Context, p *frame, list *attentions) error {
	ctx := c.Request().Context()
	for _, q := range []struct {
		key    string
		states []quarantine.State
		tone   string
		href   string
	}{
		{"unknown", []quarantine.State{quarantine.OutcomeUnknown}, "crit", "/quarantine?range=all&state=problem"},
		{"failed", []quarantine.State{quarantine.Failed}, "crit", "/quarantine?range=all&state=problem"},
		{"requested", []quarantine.State{quarantine.ReleaseRequested}, "info", "/quarantine?range=all&state=requested"},
	} {
		f := quarantine.Filter{Workspaces: p.User.Workspaces, States: q.states}
		n, err := s.held.Count(ctx, f)
		if err != nil {
			return err
		}
		if n.Total == 0 {
			continue
		}
		f.Limit = 1
		newest, err := s.held.List(ctx, f)
		if err != nil {
			return err
		}
		a := attention{Icon: "send", Tone: q.tone, Title: p.N("attention."+q.key, n.Total), Text: p.T("attention." + q.key + ".text"), Href: q.href}
		if n.Capped() {
			a.Title = p.T("attention."+q.key+".many", quarantine.CountCap)
		}
		if len(newest.Items) > 0 {
			a.At = newest.Items[0].ReceivedAt
		}
		list.add(a, q.tone == "crit")
	}
	return nil
}

// reportsAttention is about reports of incidents that are due soon, or overdue; empty
// where there are none.
func reportsAttention(p *frame) attention {
	if p.ReportsDue == 0 {
		return attention{}
	}
	return attention{Icon: "file-text", Tone: p.ReportsTone, Title: p.N("attention.incidents", p.ReportsDue), Text: p.T("attention.incidents.text"), Href: "/incidents", At: p.Now}
}

// scale is the text beside the plot, from the top down.
func (v dashView) scale(p *frame) []string {
	var out []string
	for i := 4; i >= 0; i-- {
		out = append(out, p.Int(int64(v.Top*float64(i)/4)))
	}
	return out
}

// axis is the text under the plot.
func (v dashView) axis(p *frame) []string {
	var out []string
	for i := range 5 {
		t := v.From.Add(v.To.Sub(v.From) * time.Duration(i) / 4)
		if v.Range == "24h" {
			out = append(out, t.In(p.zone).Format("15:04"))
		} else {
			out = append(out, t.In(p.zone).Format(p.T("format.daymonth")))
		}
	}
	return out
}

// label says in a sentence what the plot shows.
func (v dashView) label(p *frame) string {
	t := sum(v.Buckets)
	return p.T("dash.flow.label", p.T("range."+v.Range), t.Delivered, t.Quarantined, t.Rejected, t.Deferred)
}
