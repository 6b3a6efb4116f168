package webui

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/labstack/echo/v4"

	"mailward/approval"
	"mailward/audit"
)

// registerRetention is how long the record is kept. Whoever works here may know
// it; who runs the installation changes it.
func (s *pages) registerRetention(r router) {
	r.page(http.MethodGet, "/audit/retention", rightHealthRead, audit.PageView, s.getRetention)
	r.page(http.MethodPost, "/audit/retention", rightWorkspacesWrite, "retention.update", s.postRetention)
	r.page(http.MethodPost, "/audit/retention/purge", rightWorkspacesWrite, "audit.partition.purged", s.postPurge)
}

type retentionView struct {
	Classes []audit.RetentionClass
	Months  []audit.Month // whose time is over
	Wrong   string
	StepUp  bool
	Signs   bool // changes are signed with the person's passkey
}

func (s *pages) getRetention(c echo.Context) error { return s.showRetention(c, http.StatusOK, "") }

func (s *pages) showRetention(c echo.Context, status int, wrong string) (err error) {
	p, v := s.frame(c, "audit"), retentionView{Wrong: wrong}
	v.StepUp = s.needsPassword(p)
	if v.Signs, err = s.signs(c, p.User); err != nil {
		return s.failure(c, err)
	}
	if v.Classes, err = s.record.Retention(c.Request().Context()); err == nil {
		v.Months, err = s.record.Purgeable(c.Request().Context())
	}
	if err != nil {
		return s.failure(c, err)
	}
	s.flash(c, p)
	return s.render(c, status, retentionPage(p, v))
}

func (s *pages) postRetention(c echo.Context) error {
	days, err := strconv.Atoi(c.FormValue("days"))
	if err != nil {
		days = 0 // which is no time, and answered as such
	}
	return s.changeRetention(c, approval.RetentionChange{Class: short(c.FormValue("class")), KeepDays: days})
}

func (s *pages) postPurge(c echo.Context) error {
	return s.changeRetention(c, approval.RetentionChange{Partition: short(c.FormValue("partition"))})
}

func (s *pages) changeRetention(c echo.Context, change approval.RetentionChange) error {
	form, err := reasonForm(c)
	wrong, waiting := form.Wrong, false
	if err == nil && wrong == "" {
		wrong, err = s.signOrPassword(c)
	}
	if err == nil && wrong == "" {
		v := s.person(c)
		waiting, err = s.people.Approvals().ChangeRetention(c.Request().Context(), v.Actor, v.Roles, change, form.Reason)
	}
	var no *audit.RefusedError
	switch {
	case errors.As(err, &no):
		return s.showRetention(c, http.StatusConflict, no.Reason)
	case errors.Is(err, approval.ErrRetention):
		wrong = "act.wrong.retention"
	case err != nil:
		return s.failure(c, err)
	}
	switch {
	case wrong != "":
		return s.showRetention(c, http.StatusUnprocessableEntity, s.frame(c, "audit").T(wrong))
	case waiting:
		return s.done(c, "flash.retention.waiting", "/audit/retention")
	}
	return s.done(c, "flash.retention.saved", "/audit/retention")
}
