package webui

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/audit"
)

// exportsView is the page where a filter is taken away, and where exports are
// followed.
type exportsView struct {
	auditView
	Jobs  []exportRow
	Wrong string // key of a text: what was wrong with the signature
}

type exportRow struct {
	audit.ExportJob
	Sum audit.Summary
}

// Percent is how far it has come.
func (r exportRow) Percent() int { return int(r.Done * 100) }

// Tone colours its state.
func (r exportRow) Tone() string {
	switch r.State {
	case "complete":
		return "ok"
	case "failed":
		return "crit"
	case "silent":
		return "warn"
	}
	return "info"
}

// Running says whether one is under way, so that the page keeps asking.
func (v exportsView) Running() bool {
	return slices.ContainsFunc(v.Jobs, func(r exportRow) bool { return r.State == "running" })
}

// filterTerm is one part of a filter, to be read.
type filterTerm struct{ Name, Value string }

// terms are the filter in the order of its keys.
func (v exportsView) terms() (out []filterTerm) {
	out = append(out, filterTerm{"range", v.Range})
	for _, k := range []string{"from", "to", "q", "actor", "action", "target", "outcome", "workspace", "ip", "application", "route", "method", "provider", "approval", "link", "reads"} {
		if x := v.Link.set.Get(k); x != "" {
			out = append(out, filterTerm{k, x})
		}
	}
	return out
}

func (s *pages) exportsOf(c echo.Context) ([]exportRow, error) {
	jobs, err := s.record.Exports(c.Request().Context(), s.person(c).ID)
	if err != nil {
		return nil, err
	}
	out := make([]exportRow, len(jobs))
	for i, j := range jobs {
		out[i].ExportJob = j
		if len(j.Manifest) > 0 {
			if err := json.Unmarshal(j.Manifest, &out[i].Sum); err != nil {
				return nil, fmt.Errorf("read what export %s came to: %w", j.ID, err)
			}
		}
	}
	return out, nil
}

func (s *pages) getAuditExports(c echo.Context) error {
	return s.showAuditExports(c, c.QueryParams(), http.StatusOK, "")
}

func (s *pages) showAuditExports(c echo.Context, q url.Values, status int, wrong string) error {
	view, _, err := s.readAuditQuery(c, q, rightAuditExport)
	if err != nil {
		return s.failure(c, err)
	}
	v := exportsView{auditView: view, Wrong: wrong}
	if v.Jobs, err = s.exportsOf(c); err != nil {
		return s.failure(c, err)
	}
	p := s.frame(c, "audit")
	if isFragment(c, "exports") {
		return s.render(c, http.StatusOK, exportJobs(p, v))
	}
	return s.render(c, status, exportsPage(p, v))
}

// getAuditExport is for whoever has no passkey; others are led to where they sign.
// A link on another site or in a mail leads there, too: it takes nothing in anybody's
// name.
func (s *pages) getAuditExport(c echo.Context) error {
	must, err := s.signs(c, s.person(c))
	if err != nil {
		return s.failure(c, err)
	}
	if must || fromElsewhere(c.Request()) {
		return c.Redirect(http.StatusSeeOther, "/audit/exports?"+c.QueryString())
	}
	return s.sendAuditExport(c, c.QueryParams())
}

// postAuditExport is an export that is signed: the form is the filter.
func (s *pages) postAuditExport(c echo.Context) error {
	form, err := c.FormParams()
	if err != nil {
		return s.failure(c, fmt.Errorf("%w: %w", errBadInput, err))
	}
	_, wrong, err := s.attest(c)
	if err != nil {
		return s.failure(c, err)
	}
	if wrong != "" {
		return s.showAuditExports(c, form, http.StatusUnprocessableEntity, wrong)
	}
	return s.sendAuditExport(c, form)
}

// sendAuditExport writes the events of a filter as a file. The export is on record
// before its first line goes out, and again when it has ended, however it did.
func (s *pages) sendAuditExport(c echo.Context, q url.Values) error {
	format := audit.Format(q.Get("format"))
	if format == "" && strings.HasSuffix(c.Path(), ".csv") {
		format = audit.CSV
	}
	if !slices.Contains(audit.Formats(), format) {
		return s.failure(c, fmt.Errorf("%w: format %q", errBadInput, format))
	}
	v, f, err := s.readAuditQuery(c, q, rightAuditExport)
	if err != nil {
		return s.failure(c, err)
	}
	f.Cursor, f.Limit = "", 0
	who, ctx := s.person(c), c.Request().Context()
	ev, err := s.record.BeginExport(ctx, audit.Event{
		Action: audit.AuditExport, Actor: who.Actor, Roles: who.Roles, Workspace: f.Workspace, Retention: audit.Retention3Years,
		Targets: []audit.Target{{Type: "audit", ID: "event", Label: string(format)}},
		After:   map[string]any{"format": string(format), "range": v.Range, "from": recordedTime(f.From), "to": recordedTime(f.To), "filter": v.recorded()},
	})
	if err != nil {
		return s.failure(c, fmt.Errorf("record the export: %w", err))
	}
	h := c.Response().Header()
	h.Set(echo.HeaderContentType, format.MediaType())
	h.Set(echo.HeaderContentDisposition, `attachment; filename="mailward-audit-`+s.now().UTC().Format("20060102T150405Z")+format.Ending()+`"`)
	c.Response().WriteHeader(http.StatusOK)
	if err := s.record.Export(ctx, ev, audit.Selection{Filter: f, Format: format, Head: s.treeHead}, c.Response()); err != nil {
		s.log.Error("audit export broke off", "error", err)
		panic(http.ErrAbortHandler) // half a file must not look like a whole one
	}
	return nil
}

// recordedTime is nil where a span has no such end.
func recordedTime(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// recorded is the filter for the event of an export: what may be about a person is
// kept apart.
func (v auditView) recorded() map[string]any {
	out := map[string]any{}
	for k, list := range v.Link.set {
		if len(list) == 0 || list[0] == "" || k == "from" || k == "to" || k == "range" {
			continue
		}
		out[k] = list[0]
		if slices.Contains([]string{"q", "actor", "ip", "target"}, k) {
			out[k] = audit.Personal(list[0])
		}
	}
	return out
}

// getAuditManifest is what an export came to, as a file beside it: formats other
// than CSV have no place for it.
func (s *pages) getAuditManifest(c echo.Context) error {
	id, err := uuid.Parse(c.Param("id"))
	if err != nil {
		return s.failure(c, audit.ErrNotFound)
	}
	jobs, err := s.exportsOf(c)
	if err != nil {
		return s.failure(c, err)
	}
	i := slices.IndexFunc(jobs, func(r exportRow) bool { return r.ID == id && r.State == "complete" })
	if i < 0 {
		return s.failure(c, audit.ErrNotFound)
	}
	b, err := json.MarshalIndent(map[string]any{"export": id, "format": jobs[i].Format, "began": jobs[i].Began.UTC(), "result": jobs[i].Sum}, "", "  ")
	if err != nil {
		return s.failure(c, errors.Join(errBadInput, err))
	}
	c.Response().Header().Set(echo.HeaderContentDisposition, `attachment; filename="mailward-audit-`+jobs[i].Began.UTC().Format("20060102T150405Z")+`.manifest.json"`)
	return c.Blob(http.StatusOK, "application/json", append(b, '\n'))
}
