package webui

import (
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
	Space                                                  string // only of this workspace
	Link                                                   listLink
	Items                                                  []auditRow
	Open                                                   string
	Reads                                                  bool // page views and API calls are shown too
	Hidden                                                 bool // they are left out
	Status                                                 audit.Status
}

const auditPageSize = 50

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

// auditColumns is how many columns the table has.
func auditColumns(p *frame) string {
	if p.Several() {
		return "9"
	}
	return "8"
}

func (v auditView) toggle(id string) string {
	if v.Open == id {
		return v.Link.here("")
	}
	return v.Link.here(id)
}

func (s *pages) readAudit(c echo.Context) (auditView, audit.Filter, error) {
	q := c.QueryParams()
	v := auditView{Query: short(q.Get("q")), Actor: short(q.Get("actor")), Action: short(q.Get("action")), Target: short(q.Get("target")), Open: q.Get("id")}
	for _, o := range []string{"success", "failure", "refused", "unknown"} {
		if q.Get("outcome") == o {
			v.Outcome = o
		}
	}
	f := s.person(c).auditFilter(audit.Filter{
		Actor: v.Actor, Action: v.Action, Target: v.Target, Outcome: v.Outcome,
		Query: v.Query, Cursor: q.Get("after"), Limit: auditPageSize,
	})
	if narrowed, chosen := inSpace(s.person(c).Workspaces, q.Get("space")); chosen != "" {
		v.Space, f.Workspaces, f.NoInstallation = chosen, narrowed, true
	}
	v.Reads = q.Get("reads") == "1"
	// Whoever asks for an action or an outcome gets all of it: refused calls
	// are among them.
	if v.Hidden = !v.Reads && v.Action == "" && v.Outcome == ""; v.Hidden {
		f.Skip = []string{audit.PageView, audit.APICall}
	}
	reads := ""
	if v.Reads {
		reads = "1"
	}
	set := url.Values{"reads": {reads}, "q": {v.Query}, "actor": {v.Actor}, "action": {v.Action}, "target": {v.Target}, "outcome": {v.Outcome}, "space": {v.Space}}
	var err error
	if f.From, v.From, err = instant(q.Get("from"), false); err != nil {
		return v, f, err
	}
	if f.To, v.To, err = instant(q.Get("to"), true); err != nil {
		return v, f, err
	}
	rangeGiven := q.Get("range")
	if (v.From != "" || v.To != "") && (rangeGiven == "" || rangeGiven == "custom") {
		v.Range = "custom"
		set["from"], set["to"] = []string{v.From}, []string{v.To}
	} else {
		var span time.Duration
		v.Range, span = rangeOf(rangeGiven, "7d")
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
	err = s.record.Record(ctx, audit.Event{
		Action: audit.AuditExport, Phase: "intent", Actor: who.Actor, Roles: who.Roles, After: map[string]any{"format": "csv", "filter": filter, "range": v.Range},
		Targets: []audit.Target{{Type: "audit", ID: "event"}},
	})
	if err != nil {
		return s.failure(c, fmt.Errorf("record the export: %w", err))
	}
	h := c.Response().Header()
	h.Set(echo.HeaderContentType, "text/csv; charset=utf-8")
	h.Set(echo.HeaderContentDisposition, `attachment; filename="mailward-audit-`+s.now().UTC().Format("20060102T150405Z")+`.csv"`)
	c.Response().WriteHeader(http.StatusOK)
	if err := s.record.WriteCSV(ctx, f, c.Response()); err != nil {
		s.log.Error("audit export broke off", "error", err)
		panic(http.ErrAbortHandler) // half a file must not look like a whole one
	}
	return nil
}
