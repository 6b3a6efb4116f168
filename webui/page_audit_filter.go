package webui

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/audit"
)

// auditView is a page of the audit with its filter.
type auditView struct {
	Query, Actor, Action, Outcome, Target, Range, From, To string
	IP, Application, Route, Method, Provider, Approval     string
	Workspace                                              string
	Around                                                 string // an id that the events name
	Timeline                                               bool   // what names it, in the order of time
	Signs                                                  bool   // the person has a passkey, and signs what they take away
	Workspaces                                             []audit.Workspace
	Views                                                  []audit.View
	Newest                                                 string // id of the newest event there is; empty on later pages
	Link                                                   listLink
	Items                                                  []auditRow
	Open                                                   string
	Reads                                                  bool // page views and API calls are shown too
	Hidden                                                 bool // they are left out
	Status                                                 audit.Status
}

const auditPageSize = 50

// narrow says whether one of the filters behind "more" is set.
func (v auditView) narrow() bool {
	return v.Target+v.IP+v.Application+v.Route+v.Method+v.Provider+v.Approval+v.Around+v.Workspace != "" || v.Range == "custom"
}

// question is what auditors ask, as a filter.
type question struct{ Key, Href string }

// questions leave open what only the asker knows: the person, the mail.
func (v auditView) questions() []question {
	at := func(pairs ...string) string { return listLink{path: "/audit"}.with(pairs...) }
	return []question{
		{"releases", at("action", audit.ReleaseExecute+","+audit.SandboxRelease, "approval", "none", "range", "all")},
		{"policies", at("action", "policy.*,policy_entry.*,group.*,domain.*", "range", "last_quarter")},
		{"opened", at("action", audit.ViewBody+","+audit.RawDownload, "range", "all")},
		{"roles", at("action", "role.*", "range", "all")},
		{"gaps", at("action", "guard.*,logging.*,audit.seal.*,audit.partition.*,audit.anchor.*", "range", "all")},
		{"complete", at("action", audit.AuditExport, "outcome", "success", "range", "all")},
		{"exports", at("action", "audit.export*,evidence.*", "range", "all")},
	}
}

func (v auditView) approvalOptions(p *frame) []option {
	return []option{{"", p.T("audit.approval.any")}, {"none", p.T("audit.approval.none")}, {"given", p.T("audit.approval.given")}}
}

// moreFields are the text filters behind "more".
func (v auditView) moreFields(p *frame) []textField {
	return []textField{{"target", p.T("col.target"), v.Target}, {"link", p.T("audit.around"), v.Around}, {"ip", p.T("col.address"), v.IP}, {"application", p.T("audit.application"), v.Application},
		{"route", p.T("audit.route"), v.Route}, {"method", p.T("audit.method"), v.Method}, {"provider", p.T("audit.provider"), v.Provider}}
}

type textField struct{ Name, Label, Value string }

// actionGroups are what the filter offers; a full name can be given in the
// address or by a click on one.
var actionGroups = []string{"auth.*", "quarantine.*", "quarantine.release.*", "quarantine.view_body", "quarantine.view_part", "quarantine.raw_download",
	"policy.*", "domain.*", "user.*", "role.*", "token.*", "setting.*", "audit.*", "guard.*", "api.*", "web.*"}

func (v auditView) actionOptions(p *frame) []option {
	out := []option{{"", p.T("audit.action.any")}}
	found := v.Action == ""
	for _, a := range actionGroups {
		out = append(out, option{a, a})
		found = found || a == v.Action
	}
	if !found {
		out = append(out, option{v.Action, plain(v.Action, 60)})
	}
	return out
}

func (v auditView) outcomeOptions(p *frame) []option {
	out := []option{{"", p.T("audit.outcome.any")}}
	for _, o := range []string{"success", "failure", "refused", "unknown"} {
		out = append(out, option{o, p.T("outcome." + o)})
	}
	return out
}

func (v auditView) rangeOptions(p *frame) []option {
	var out []option
	for _, r := range auditRanges {
		out = append(out, option{r, p.T("range." + r)})
	}
	if v.Range == "custom" {
		out = append(out, option{"custom", p.T("range.custom", v.From, v.To)})
	}
	return out
}

// workspaceOptions are the workspaces whose events the person may read.
func (v auditView) workspaceOptions(p *frame) []option {
	out := []option{{"", p.T("audit.workspace.any")}}
	for _, w := range v.Workspaces {
		out = append(out, option{w.ID.String(), w.Name})
	}
	return out
}

// at is exactly this filter at another path.
func (v auditView) at(path string, pairs ...string) string {
	l := v.Link
	l.path = path
	return l.with(pairs...)
}

// query is the filter as a saved view keeps it.
func (v auditView) query() string {
	_, q, _ := strings.Cut(v.Link.with(), "?")
	return q
}

// auditRanges are the spans that the page offers. They stay relative in links and
// saved views; days, months and quarters are those of UTC.
var auditRanges = []string{"1h", "24h", "7d", "30d", "90d", "today", "yesterday", "this_month", "last_month", "this_quarter", "last_quarter", "this_year", "last_year", "all"}

// auditRange reads a span: from its begin to before its end, zero where it has none.
func auditRange(key string, now time.Time) (from, to time.Time, ok bool) {
	now = now.UTC()
	day := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, time.UTC)
	month := day.AddDate(0, 0, 1-day.Day())
	quarter := month.AddDate(0, -(int(month.Month())-1)%3, 0)
	year := time.Date(now.Year(), 1, 1, 0, 0, 0, 0, time.UTC)
	switch key {
	case "all":
		return from, to, true
	case "1h":
		return now.Add(-time.Hour), to, true
	case "90d":
		return now.AddDate(0, 0, -90), to, true
	case "today":
		return day, to, true
	case "yesterday":
		return day.AddDate(0, 0, -1), day, true
	case "this_month":
		return month, to, true
	case "last_month":
		return month.AddDate(0, -1, 0), month, true
	case "this_quarter":
		return quarter, to, true
	case "last_quarter":
		return quarter.AddDate(0, -3, 0), quarter, true
	case "this_year":
		return year, to, true
	case "last_year":
		return year.AddDate(-1, 0, 0), year, true
	}
	for _, r := range ranges {
		if r.Key == key {
			return now.Add(-r.Span), to, true
		}
	}
	return from, to, false
}

func (v auditView) toggle(id string) string {
	if v.Open == id {
		return v.Link.here("")
	}
	return v.Link.here(id)
}

func (s *pages) readAudit(c echo.Context) (auditView, audit.Filter, error) {
	return s.readAuditQuery(c, c.QueryParams(), rightAuditRead)
}

// readAuditQuery reads a filter, within what the person may do with events.
func (s *pages) readAuditQuery(c echo.Context, q url.Values, right string) (auditView, audit.Filter, error) {
	v := auditView{Query: short(q.Get("q")), Actor: short(q.Get("actor")), Action: short(q.Get("action")), Target: short(q.Get("target")), Open: q.Get("id"),
		IP: short(q.Get("ip")), Application: short(q.Get("application")), Route: short(q.Get("route")), Method: short(q.Get("method")),
		Provider: short(q.Get("provider")), Around: short(q.Get("link"))}
	v.Timeline = v.Around != "" && q.Get("as") == "timeline"
	if a := q.Get("approval"); a == "none" || a == "given" {
		v.Approval = a
	}
	for _, o := range []string{"success", "failure", "refused", "unknown"} {
		if q.Get("outcome") == o {
			v.Outcome = o
		}
	}
	f := s.person(c).chosen(s.person(c).eventsWith(right, audit.Filter{
		Actor: v.Actor, Action: v.Action, Target: v.Target, Outcome: v.Outcome,
		IP: v.IP, Application: v.Application, Route: v.Route, Method: v.Method, Provider: v.Provider, Approval: v.Approval, Link: v.Around,
		Query: v.Query, Cursor: q.Get("after"), Limit: auditPageSize,
	}))
	if id, err := uuid.Parse(q.Get("workspace")); err == nil {
		v.Workspace, f.Workspace = id.String(), id
	}
	v.Reads = q.Get("reads") == "1"
	// Whoever asks for an action, an outcome or a route gets all of it: refused
	// calls are among them.
	if v.Hidden = !v.Reads && v.Action == "" && v.Outcome == "" && v.Route == "" && v.Around == ""; v.Hidden {
		f.Skip = []string{audit.PageView, audit.APICall}
	}
	set := url.Values{"q": {v.Query}, "actor": {v.Actor}, "action": {v.Action}, "target": {v.Target}, "outcome": {v.Outcome}, "workspace": {v.Workspace},
		"ip": {v.IP}, "application": {v.Application}, "route": {v.Route}, "method": {v.Method}, "provider": {v.Provider}, "approval": {v.Approval}, "link": {v.Around}}
	if v.Reads {
		set.Set("reads", "1")
	}
	if v.Timeline {
		set.Set("as", "timeline")
	}
	err := f.Check()
	if err != nil {
		return v, f, err
	}
	if v.Signs, err = s.signs(c, s.person(c)); err != nil {
		return v, f, err
	}
	err = s.readSpan(q, &v, &f, set)
	v.Link = listLink{path: "/audit", set: set, size: auditPageSize, at: f.Cursor, page: pageNumber(q.Get("page"))}
	if f.Cursor == "" {
		v.Link.page = 1
	}
	return v, f, err
}

// readSpan reads the time: exact from and to count before a range.
func (s *pages) readSpan(q url.Values, v *auditView, f *audit.Filter, set url.Values) (err error) {
	if f.From, v.From, err = instant(q.Get("from"), false); err != nil {
		return err
	}
	if f.To, v.To, err = instant(q.Get("to"), true); err != nil {
		return err
	}
	if v.From != "" || v.To != "" {
		v.Range = "custom"
		set["from"], set["to"] = []string{v.From}, []string{v.To}
		return nil
	}
	from, to, ok := auditRange(q.Get("range"), s.now())
	if v.Range = q.Get("range"); !ok {
		v.Range = "7d"
		from, to, _ = auditRange(v.Range, s.now())
	}
	f.From, f.To = from, to
	if v.Range != "7d" {
		set.Set("range", v.Range)
	}
	return nil
}

// instant reads a day or an exact time, in UTC. A day as an end is
// included: the end is where the next one begins.
func instant(s string, end bool) (time.Time, string, error) {
	if s == "" {
		return time.Time{}, "", nil
	}
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		if end {
			return t.AddDate(0, 0, 1), s, nil
		}
		return t, s, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, "", fmt.Errorf("%w: time %q", errBadInput, s)
	}
	return t, s, nil
}
