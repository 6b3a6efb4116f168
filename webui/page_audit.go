package webui

import (
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/audit"
)

// auditColumns is how many columns the table has.
func auditColumns(p *frame) string {
	if p.Several() {
		return "9"
	}
	return "8"
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
	if f.Cursor == "" && f.To.IsZero() {
		v.Newest = newestID(page, s.now())
	}
	found := v.Open == ""
	for _, row := range page.Items {
		v.Items = append(v.Items, auditRowOf(row))
		found = found || row.ID.String() == v.Open
	}
	if v.Status, err = s.record.Status(ctx); err != nil {
		return s.failure(c, err)
	}
	if v.Workspaces, err = s.record.Workspaces(ctx, f.Workspaces); err != nil {
		return s.failure(c, err)
	}
	if v.Views, err = s.record.Views(ctx, s.person(c).ID); err != nil {
		return s.failure(c, err)
	}
	if !found {
		s.addOpen(c, &v)
	}
	p := s.frame(c, "audit")
	if isFragment(c, "results") {
		return s.render(c, http.StatusOK, auditResults(p, v, true))
	}
	s.flash(c, p)
	return s.render(c, http.StatusOK, auditPage(p, v))
}

// addOpen puts the event that a permanent link names on top, when the page of
// the filter does not hold it.
func (s *pages) addOpen(c echo.Context, v *auditView) {
	if _, err := uuid.Parse(v.Open); err != nil {
		v.Open = ""
		return
	}
	one, err := s.record.List(c.Request().Context(), s.person(c).eventsWith(rightAuditRead, audit.Filter{Query: v.Open, Limit: 20}))
	if err != nil {
		return
	}
	for _, row := range one.Items {
		if row.ID.String() == v.Open {
			v.Items = append([]auditRow{auditRowOf(row)}, v.Items...)
		}
	}
}

// newestID is from where on events are new to whoever looks at this page. Without
// events it is now: an id of version 7 begins with its time.
func newestID(page audit.Page, now time.Time) string {
	if len(page.Items) > 0 {
		return page.Items[0].ID.String()
	}
	return timeID(now)
}

// timeID is the smallest id of version 7 of a moment.
func timeID(now time.Time) string {
	var id uuid.UUID
	ms := now.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (8 * (5 - i)))
	}
	id[6], id[8] = 0x70, 0x80
	return id.String()
}

// maxFresh is up to where new events are counted.
const maxFresh = 100

// getAuditFresh says how many events the filter selects that are newer than the
// page somebody looks at. The page itself never moves under its reader.
func (s *pages) getAuditFresh(c echo.Context) error {
	v, f, err := s.readAudit(c)
	if err != nil {
		return s.failure(c, err)
	}
	v.Newest = c.QueryParam("newer")
	if f.Newer, err = uuid.Parse(v.Newest); err != nil {
		return s.failure(c, errBadInput)
	}
	f.Cursor, f.Limit = "", maxFresh
	page, err := s.record.List(c.Request().Context(), f)
	if err != nil {
		return s.failure(c, err)
	}
	return s.render(c, http.StatusOK, auditFresh(s.frame(c, "audit"), v, len(page.Items)))
}

// postAuditView saves the filter under a name.
func (s *pages) postAuditView(c echo.Context) error {
	q, err := url.ParseQuery(c.FormValue("query"))
	if err != nil {
		return s.failure(c, errBadInput)
	}
	v, _, err := s.readAuditQuery(c, q, rightAuditRead)
	if err != nil {
		return s.failure(c, err)
	}
	if err := s.record.SaveView(c.Request().Context(), s.person(c).Actor, c.FormValue("name"), v.query()); err != nil {
		return s.failure(c, err)
	}
	return s.done(c, "flash.view.saved", v.Link.with())
}

func (s *pages) postAuditViewDelete(c echo.Context) error {
	id, err := paramID(c)
	if err != nil {
		return s.failure(c, audit.ErrNotFound)
	}
	if err := s.record.DeleteView(c.Request().Context(), s.person(c).Actor, id); err != nil {
		return s.failure(c, err)
	}
	return s.done(c, "flash.view.deleted", "/audit")
}
