package webui

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/audit"
)

// auditView is a page of the audit with its filter.
type auditView struct {
	Query, Actor, Action, Outcome, Target, Range, From, To string
	IP, Application, Route, Method, Provider, Approval     string
	Around                                                 string // an id that the events name
	Today                                                  time.Time
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
	return v.Target+v.IP+v.Application+v.Route+v.Method+v.Provider+v.Approval+v.Around != "" || v.Range == "custom"
}

// question is what auditors ask, as a filter.
type question struct{ Key, Href string }

// questions leave open what only the asker knows: the person, the mail.
func (v auditView) questions() []question {
	to := time.Date(v.Today.Year(), time.Month((int(v.Today.Month())-1)/3*3+1), 1, 0, 0, 0, 0, time.UTC)
	from, last := to.AddDate(0, -3, 0), to.AddDate(0, 0, -1)
	at := func(pairs ...string) string { return listLink{path: "/audit"}.with(pairs...) }
	return []question{
		{"releases", at("action", audit.ReleaseExecute+","+audit.SandboxRelease, "approval", "none", "range", "all")},
		{"policies", at("action", "policy.*,policy_entry.*,group.*,domain.*", "from", from.Format(time.DateOnly), "to", last.Format(time.DateOnly))},
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
var actionGroups = []string{"auth.*", "quarantine.*", "quarantine.release.*", "quarantine.view_body", "quarantine.raw_download",
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
	out := rangeOptions(p)
	if v.Range == "custom" {
		out = append(out, option{"custom", p.T("range.custom", v.From, v.To)})
	}
	return out
}

// csv is the export of exactly this filter.
func (v auditView) csv() string {
	l := v.Link
	l.path = "/audit/export.csv"
	return l.with()
}

func (v auditView) toggle(id string) string {
	if v.Open == id {
		return v.Link.here("")
	}
	return v.Link.here(id)
}

func (s *pages) readAudit(c echo.Context) (auditView, audit.Filter, error) {
	q := c.QueryParams()
	v := auditView{Query: short(q.Get("q")), Actor: short(q.Get("actor")), Action: short(q.Get("action")), Target: short(q.Get("target")), Open: q.Get("id"),
		IP: short(q.Get("ip")), Application: short(q.Get("application")), Route: short(q.Get("route")), Method: short(q.Get("method")),
		Provider: short(q.Get("provider")), Around: short(q.Get("link")), Today: s.now().UTC()}
	if a := q.Get("approval"); a == "none" || a == "given" {
		v.Approval = a
	}
	for _, o := range []string{"success", "failure", "refused", "unknown"} {
		if q.Get("outcome") == o {
			v.Outcome = o
		}
	}
	f := s.person(c).auditFilter(audit.Filter{
		Actor: v.Actor, Action: v.Action, Target: v.Target, Outcome: v.Outcome,
		IP: v.IP, Application: v.Application, Route: v.Route, Method: v.Method, Provider: v.Provider, Approval: v.Approval, Link: v.Around,
		Query: v.Query, Cursor: q.Get("after"), Limit: auditPageSize,
	})
	v.Reads = q.Get("reads") == "1"
	// Whoever asks for an action, an outcome or a route gets all of it: refused
	// calls are among them.
	if v.Hidden = !v.Reads && v.Action == "" && v.Outcome == "" && v.Route == "" && v.Around == ""; v.Hidden {
		f.Skip = []string{audit.PageView, audit.APICall}
	}
	reads := ""
	if v.Reads {
		reads = "1"
	}
	set := url.Values{"reads": {reads}, "q": {v.Query}, "actor": {v.Actor}, "action": {v.Action}, "target": {v.Target}, "outcome": {v.Outcome},
		"ip": {v.IP}, "application": {v.Application}, "route": {v.Route}, "method": {v.Method}, "provider": {v.Provider}, "approval": {v.Approval}, "link": {v.Around}}
	var err error
	if f.From, v.From, err = instant(q.Get("from"), false); err != nil {
		return v, f, err
	}
	if f.To, v.To, err = instant(q.Get("to"), true); err != nil {
		return v, f, err
	}
	if v.From != "" || v.To != "" {
		v.Range = "custom"
		set["from"], set["to"] = []string{v.From}, []string{v.To}
	} else {
		var span time.Duration
		v.Range, span = rangeOf(q.Get("range"), "7d")
		v.From, v.To, f.From, f.To = "", "", time.Time{}, time.Time{}
		if span > 0 {
			f.From = s.now().Add(-span)
		}
		if v.Range != "7d" {
			set.Set("range", v.Range)
		}
	}
	v.Link = listLink{path: "/audit", set: set, size: auditPageSize, at: f.Cursor, page: pageNumber(q.Get("page"))}
	if f.Cursor == "" {
		v.Link.page = 1
	}
	return v, f, nil
}

// instant reads a day or an exact time, in UTC. A day as an end is its end.
func instant(s string, end bool) (time.Time, string, error) {
	if s == "" {
		return time.Time{}, "", nil
	}
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		if end {
			return t.Add(24*time.Hour - time.Microsecond), s, nil
		}
		return t, s, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, "", fmt.Errorf("%w: time %q", errBadInput, s)
	}
	return t, s, nil
}

func (s *pages) getAudit(c echo.Context) error {
	v, f, err := s.readAudit(c)
	if err != nil {
		return s.failure(c, err)
	}
	ctx := c.Request().Context()
	page, err := s.record.List(ctx, f)
	if err != nil {
		return s.failure(c, err)
	}
	v.Link.next = page.Next
	found := v.Open == ""
	for _, row := range page.Items {
		v.Items = append(v.Items, auditRowOf(row))
		found = found || row.ID.String() == v.Open
	}
	if v.Status, err = s.record.Status(ctx); err != nil {
		return s.failure(c, err)
	}
	if !found {
		s.addOpen(c, &v)
	}
	p := s.frame(c, "audit")
	if isFragment(c, "results") {
		return s.render(c, http.StatusOK, auditResults(p, v, true))
	}
	return s.render(c, http.StatusOK, auditPage(p, v))
}

// addOpen puts the event that a permanent link names on top, when the page of
// the filter does not hold it.
func (s *pages) addOpen(c echo.Context, v *auditView) {
	if _, err := uuid.Parse(v.Open); err != nil {
		v.Open = ""
		return
	}
	one, err := s.record.List(c.Request().Context(), s.person(c).auditFilter(audit.Filter{Query: v.Open, Limit: 20}))
	if err != nil {
		return
	}
	for _, row := range one.Items {
		if row.ID.String() == v.Open {
			v.Items = append([]auditRow{auditRowOf(row)}, v.Items...)
		}
	}
}

// getAuditCSV writes the events of a filter as a table. The export is on record
// before its first line goes out.
func (s *pages) getAuditCSV(c echo.Context) error {
	v, f, err := s.readAudit(c)
	if err != nil {
		return s.failure(c, err)
	}
	f.Cursor, f.Limit = "", 0
	who := s.person(c)
	ctx := c.Request().Context()
	filter := map[string]any{}
	for k, list := range v.Link.set {
		if len(list) > 0 && list[0] != "" {
			filter[k] = list[0]
		}
	}
	ev := audit.Event{
		Action: audit.AuditExport, Actor: who.Actor, Roles: who.Roles, After: map[string]any{"format": "csv", "filter": filter, "range": v.Range},
		Targets: []audit.Target{{Type: "audit", ID: "event"}}, Retention: audit.Retention3Years,
	}
	if ev, err = s.record.BeginExport(ctx, ev); err != nil {
		return s.failure(c, fmt.Errorf("record the export: %w", err))
	}
	h := c.Response().Header()
	h.Set(echo.HeaderContentType, "text/csv; charset=utf-8")
	h.Set(echo.HeaderContentDisposition, `attachment; filename="mailward-audit-`+s.now().UTC().Format("20060102T150405Z")+`.csv"`)
	c.Response().WriteHeader(http.StatusOK)
	sum, err := s.record.Export(ctx, f, audit.CSV, c.Response())
	if err = errors.Join(err, s.record.EndExport(ctx, ev, sum, err)); err != nil {
		s.log.Error("audit export broke off", "error", err)
		panic(http.ErrAbortHandler) // half a file must not look like a whole one
	}
	return nil
}
