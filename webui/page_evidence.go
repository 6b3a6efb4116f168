package webui

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/audit"
	"mailward/evidence"
	"mailward/quarantine"
)

func (s *pages) registerEvidence(r router) {
	r.page(http.MethodPost, "/quarantine/:id/export", rightDownloadRaw, audit.EvidenceRequest, s.postExport)
	r.page(http.MethodGet, "/evidence", rightViewMeta, audit.PageView, s.getExports)
	r.page(http.MethodGet, "/evidence/:id", rightViewMeta, audit.PageView, s.getExport)
	r.page(http.MethodPost, "/evidence/:id/download", rightDownloadRaw, audit.EvidenceDownload, s.postExportFile)
}

// exportForm is the dialog that asks for an export, with what was typed into it.
type exportForm struct {
	May                        bool
	Case, Title, Purpose, Lang string
	Cases                      []evidence.Case // to choose from
	Wrong                      string          // key of a text: what is wrong with the case
}

func (s *pages) exportForm(c echo.Context, p *frame, it quarantine.Item) (exportForm, error) {
	f := exportForm{May: true, Lang: p.Code()}
	if c.Request().Method == http.MethodPost {
		f.Case, f.Title, f.Purpose = short(c.FormValue("case")), c.FormValue("title"), c.FormValue("purpose")
		f.Lang = c.FormValue("language")
		f.Wrong, _ = c.Get("export-wrong").(string)
	}
	var err error
	f.Cases, err = s.exports.Cases(c.Request().Context(), []uuid.UUID{it.Workspace})
	return f, err
}

func (f exportForm) languages(p *frame) (out []option) {
	for _, l := range []string{"de", "en"} {
		out = append(out, option{l, p.T("evexport.language." + l)})
	}
	return out
}

func (s *pages) postExport(c echo.Context) error {
	it, form, err := s.actInput(c, rightDownloadRaw)
	if err != nil {
		return s.failure(c, err)
	}
	req := evidence.Request{Items: []uuid.UUID{it.ID}, Case: evidence.Case{Reference: short(c.FormValue("case")), Title: c.FormValue("title"), Purpose: c.FormValue("purpose")}, Reason: form.Reason,
		Language: oneOf(c.FormValue("language"), "en", "de")}
	if strings.TrimSpace(req.Case.Reference) == "" {
		return s.wrongExport(c, form, "act.wrong.case")
	}
	if form.Wrong == "" {
		if form, err = s.signOrStepUp(c, form); err != nil {
			return s.failure(c, err)
		}
	}
	if form.Wrong != "" || form.WrongPass != "" {
		return s.wrongExport(c, form, "")
	}
	v := s.person(c)
	e, err := s.exports.Ask(c.Request().Context(), v.Actor, v.Roles, req)
	if errors.Is(err, evidence.ErrInvalid) {
		return s.wrongExport(c, form, "act.wrong.newcase")
	}
	if err != nil {
		return s.failure(c, err)
	}
	message := "flash.evidence.made"
	if e.State == evidence.Requested {
		message = "flash.evidence.asked"
	}
	return s.done(c, message, "/evidence/"+e.ID.String())
}

func (s *pages) wrongExport(c echo.Context, form actForm, wrong string) error {
	c.Set("export-wrong", wrong)
	return s.showItem(c, http.StatusUnprocessableEntity, form, "export")
}

// caseExportsView is the list.
type caseExportsView struct {
	Query, State string
	Items        []evidence.Export
	Link         listLink
}

func (v caseExportsView) stateOptions(p *frame) []option {
	out := []option{{"", p.T("ev.state.any")}}
	for _, s := range evidence.States() {
		out = append(out, option{s, p.T("ev.state." + s)})
	}
	return out
}

func (s *pages) getExports(c echo.Context) error {
	q := c.QueryParams()
	v := caseExportsView{Query: short(q.Get("q")), State: oneOf(q.Get("state"), evidence.States()...)}
	f := evidence.Filter{Workspaces: s.person(c).Workspaces, Query: v.Query, State: v.State, Cursor: q.Get("after"), Limit: pageSize}
	got, err := s.exports.List(c.Request().Context(), f)
	if err != nil {
		return s.failure(c, err)
	}
	v.Items = got.Items
	v.Link = listLink{path: "/evidence", set: url.Values{"q": {v.Query}, "state": {v.State}}, size: pageSize, at: f.Cursor, page: pageNumber(q.Get("page")), next: got.Next}
	if f.Cursor == "" {
		v.Link.page = 1
	}
	p := s.frame(c, "evidence")
	s.flash(c, p)
	if isFragment(c, "results") {
		return s.render(c, http.StatusOK, exportResults(p, v))
	}
	return s.render(c, http.StatusOK, caseExportsPage(p, v))
}

// exportView is one export.
type exportView struct {
	evidence.Export
	Custody []evidence.Step
	May     bool // the files may be taken out
}

// Ended says whether nothing changes any more by itself.
func (v exportView) Ended() bool {
	return slices.Contains([]string{evidence.Done, evidence.Failed, evidence.Denied}, v.State)
}

func (s *pages) exportOf(c echo.Context, right string) (evidence.Export, error) {
	id, err := paramID(c)
	if err != nil {
		return evidence.Export{}, evidence.ErrNotFound
	}
	e, err := s.exports.Get(c.Request().Context(), id)
	if err == nil && !s.person(c).CanIn(right, e.Workspace) {
		return evidence.Export{}, evidence.ErrNotFound
	}
	return e, err
}

func (s *pages) getExport(c echo.Context) error {
	e, err := s.exportOf(c, rightViewMeta)
	if err != nil {
		return s.failure(c, err)
	}
	v := exportView{Export: e}
	if v.Custody, err = s.exports.Custody(c.Request().Context(), e.ID); err != nil {
		return s.failure(c, err)
	}
	p := s.frame(c, "evidence")
	v.May = e.State == evidence.Done && p.User.CanIn(rightDownloadRaw, e.Workspace)
	s.flash(c, p)
	if isFragment(c, "export") {
		return s.render(c, http.StatusOK, exportBody(p, v))
	}
	return s.render(c, http.StatusOK, exportPage(p, v))
}

// postExportFile sends a file, or all of them. It is a POST, so that nothing fetches
// evidence by following a link.
func (s *pages) postExportFile(c echo.Context) error {
	e, err := s.exportOf(c, rightDownloadRaw)
	if err != nil {
		return s.failure(c, err)
	}
	v := s.person(c)
	d, err := s.exports.Open(c.Request().Context(), v.Actor, v.Roles, e, c.FormValue("file"))
	if err != nil {
		return s.failure(c, err)
	}
	h := c.Response().Header()
	h.Set(echo.HeaderContentType, "application/octet-stream")
	h.Set(echo.HeaderContentDisposition, `attachment; filename="`+d.FileName()+`"`)
	c.Response().WriteHeader(http.StatusOK)
	if err := d.Send(c.Response()); err != nil {
		s.log.Warn("evidence not sent to its end", "export", e.ID, "error", err)
		panic(http.ErrAbortHandler) // the status is out already
	}
	return nil
}

func exportTone(state string) string {
	switch state {
	case evidence.Done:
		return "t-ok"
	case evidence.Failed:
		return "t-crit"
	case evidence.Requested:
		return "t-warn"
	case evidence.Running, evidence.Approved:
		return "t-info"
	}
	return ""
}

// mailsText names the mails of an export in one line.
func mailsText(p *frame, e evidence.Export) string {
	if len(e.Mails) == 1 {
		return plain(e.Mails[0].Subject, 200)
	}
	return p.N("ev.mails", len(e.Items))
}
