package webui

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/audit"
	"mailward/gateway/ledger"
	"mailward/incident"
	"mailward/policy"
)

const (
	rightIncidentsRead  = "incidents_read"
	rightIncidentsWrite = "incidents_write"
)

func (s *pages) registerIncidents(r router) {
	const change = "incident.update" // by the triggers, as all of them
	r.page(http.MethodGet, "/incidents", rightIncidentsRead, audit.PageView, s.getIncidents)
	r.page(http.MethodGet, "/incidents/new", rightIncidentsWrite, audit.PageView, s.getIncidentNew)
	r.page(http.MethodPost, "/incidents", rightIncidentsWrite, "incident.create", s.postIncidentNew)
	r.page(http.MethodGet, "/incidents/:id", rightIncidentsRead, audit.PageView, s.getIncident)
	r.page(http.MethodGet, "/incidents/:id/edit", rightIncidentsWrite, audit.PageView, s.getIncidentEdit)
	r.page(http.MethodPost, "/incidents/:id/edit", rightIncidentsWrite, change, s.postIncidentEdit)
	r.page(http.MethodPost, "/incidents/:id/take", rightIncidentsWrite, change, s.postIncidentTake)
	r.page(http.MethodPost, "/incidents/:id/decide", rightIncidentsWrite, change, s.postIncidentDecide)
	r.page(http.MethodPost, "/incidents/:id/notes", rightIncidentsWrite, "incident.note.create", s.postIncidentNote)
	r.page(http.MethodPost, "/incidents/:id/mails", rightIncidentsWrite, "incident.mail.create", s.postIncidentMail)
	r.page(http.MethodPost, "/incidents/:id/mails/:mail/remove", rightIncidentsWrite, "incident.mail.delete", s.postIncidentMailRemove)
	r.page(http.MethodPost, "/incidents/:id/file", rightAuditExport, audit.IncidentExport, s.postIncidentFile)
	r.page(http.MethodGet, "/incidents/:id/reports/:stage", rightIncidentsRead, audit.PageView, s.getIncidentReport)
	r.page(http.MethodGet, "/incidents/:id/reports/:stage/sheet", rightIncidentsRead, audit.PageView, s.getIncidentSheet)
	r.page(http.MethodPost, "/incidents/:id/reports/:stage/fields", rightIncidentsWrite, change, s.postIncidentFields)
	r.page(http.MethodPost, "/incidents/:id/reports/:stage", rightIncidentsWrite, "incident.report.create", s.postIncidentReport)
}

// incidentsView is the list.
type incidentsView struct {
	Query, State, Severity string
	Mine                   bool
	Items                  []incident.Incident
	Zone                   *time.Location
	Link                   listLink
}

func (v incidentsView) filtered() bool {
	return v.Query != "" || v.State != "" || v.Severity != "" || v.Mine
}

// nextDue is the report of an incident that is due first.
func (v incidentsView) nextDue(p *frame, i incident.Incident) *incident.Stage {
	if i.Exercise {
		return nil
	}
	return i.NextDue(v.Zone, p.Now)
}

func (s *pages) getIncidents(c echo.Context) error {
	q, who := c.QueryParams(), s.person(c)
	v := incidentsView{Query: short(q.Get("q")), State: oneOf(q.Get("state"), append([]string{"unclosed"}, incident.States()...)...), Severity: oneOf(q.Get("severity"), incident.Severities()...), Mine: q.Get("mine") == "1", Zone: s.incidents.Zone()}
	f := incident.Filter{Workspaces: append([]uuid.UUID{}, who.WorkspacesWith(rightIncidentsRead)...), Query: v.Query, Cursor: q.Get("after"), Limit: pageSize}
	switch v.State {
	case "unclosed":
		f.States = []string{"open", "contained"}
	case "":
	default:
		f.States = []string{v.State}
	}
	if v.Severity != "" {
		f.Severities = []string{v.Severity}
	}
	if v.Mine {
		f.Owner = who.ID
	}
	got, err := s.incidents.List(c.Request().Context(), f)
	if err != nil {
		return s.incidentFailure(c, err)
	}
	v.Items = got.Items
	v.Link = listLink{path: "/incidents", set: url.Values{"q": {v.Query}, "state": {v.State}, "severity": {v.Severity}, "mine": {q.Get("mine")}}, size: pageSize, at: f.Cursor, page: pageNumber(q.Get("page")), next: got.Next}
	if f.Cursor == "" {
		v.Link.page = 1
	}
	p := s.frame(c, "incidents")
	s.flash(c, p)
	if isFragment(c, "results") {
		return s.render(c, http.StatusOK, incidentResults(p, v))
	}
	return s.render(c, http.StatusOK, incidentsPage(p, v))
}

// reportsDue is the number in the menu: reports that are due soon, or overdue.
func (s *pages) reportsDue(ctx context.Context, f *frame) (n int, tone string) {
	soon, overdue, err := s.incidents.Due(ctx, append([]uuid.UUID{}, f.User.WorkspacesWith(rightIncidentsRead)...))
	if err != nil {
		s.log.Warn("reports of incidents not counted", "error", err)
	}
	if overdue > 0 {
		return soon, "crit"
	}
	return soon, "warn"
}

// incidentFailure chooses the page for an error of package incident.
func (s *pages) incidentFailure(c echo.Context, err error) error {
	switch {
	case errors.Is(err, incident.ErrNotFound), errors.Is(err, incident.ErrNoMail):
		return s.fail(c, http.StatusNotFound, err)
	case errors.Is(err, incident.ErrConflict), errors.Is(err, incident.ErrFull):
		return s.fail(c, http.StatusConflict, err)
	case errors.Is(err, incident.ErrBadCursor):
		return s.fail(c, http.StatusBadRequest, err)
	}
	return s.failure(c, err)
}

// incidentMistakes is what a person can mend of an error.
func incidentMistakes(err error) (string, bool) {
	var m incident.Mistakes
	if errors.As(err, &m) {
		return strings.Join(m, " · "), true
	}
	return "", false
}

// incidentOf reads the one that the path names, where the person has a right on it.
func (s *pages) incidentOf(c echo.Context, right string) (incident.Incident, error) {
	id, err := paramID(c)
	if err != nil {
		return incident.Incident{}, incident.ErrNotFound
	}
	i, err := s.incidents.Get(c.Request().Context(), id)
	if err == nil && !s.person(c).CanIn(right, i.Workspace) {
		return incident.Incident{}, incident.ErrNotFound
	}
	return i, err
}

// incidentForm is what people write of an incident, with what was typed into it.
type incidentForm struct {
	incident.Incident
	New     bool
	Mail    uuid.UUID // that a new one begins with
	Wrong   string
	Changed bool // by somebody else meanwhile
	People  []incident.Person
}

func (f incidentForm) action() string {
	if f.New {
		return "/incidents"
	}
	return "/incidents/" + f.ID.String() + "/edit"
}

func (f incidentForm) owners(p *frame) []option {
	out := []option{{"", p.T("inc.owner.none")}}
	for _, x := range f.People {
		out = append(out, option{x.ID.String(), plain(x.Name, 100)})
	}
	return out
}

func (f incidentForm) title(p *frame) string {
	if f.New {
		return p.T("inc.new")
	}
	return p.T("inc.edit", f.Number)
}

func regimeOptions(p *frame) (out []option) {
	for _, r := range incident.Regimes() {
		out = append(out, option{string(r), p.T("inc.regime." + string(r))})
	}
	return out
}

// zoneName names the clocks of the page.
func (p *frame) zoneName() string {
	if name := p.zone.String(); name != "Local" {
		return name
	}
	return p.Now.In(p.zone).Format("MST")
}

func idText(id uuid.UUID) string {
	if id == uuid.Nil {
		return ""
	}
	return id.String()
}

// local is a time for a field of a form, on the clocks of the page.
func (p *frame) local(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(p.zone).Format("2006-01-02T15:04")
}

// formTime reads such a field. What was not touched keeps its seconds.
func (p *frame) formTime(value string, old time.Time) (time.Time, error) {
	value = strings.TrimSpace(value)
	if value == "" {
		return time.Time{}, nil
	}
	if value == p.local(old) {
		return old, nil
	}
	if len(value) == len("2006-01-02T15:04") {
		value = strings.Replace(value, "T", " ", 1)
	}
	return incident.ParseTime(value, p.zone)
}

// getIncidentNew begins one, with what a mail or an alert says.
func (s *pages) getIncidentNew(c echo.Context) error {
	p, who := s.frame(c, "incidents"), s.person(c)
	f := incidentForm{New: true, Incident: incident.Incident{Severity: "medium", Regime: incident.BSIG, DetectedAt: p.Now, Owner: who.ID}}
	ctx := c.Request().Context()
	if id := optionalID(c.QueryParam("mail")); id != uuid.Nil {
		row, _, err := s.mails.Get(ctx, id)
		if err != nil || !who.CanIn(rightViewMeta, row.Workspace) || !who.CanIn(rightIncidentsWrite, row.Workspace) {
			return s.failure(c, errors.Join(ledger.ErrNotFound, err))
		}
		f.Mail, f.Title, f.DetectedAt, f.Workspace = id, p.T("inc.title.mail", p.word("class", string(row.Class)), plain(row.Subject, 120)), row.ReceivedAt, row.Workspace
		f.Facts = factsOfMail(row.Class, row.ReceivedAt)
	}
	if id := optionalID(c.QueryParam("alert")); id != uuid.Nil && s.alerts != nil {
		a, err := s.alerts.Alert(ctx, s.alertFilter(c), id)
		if err != nil {
			return s.alertFailure(c, err)
		}
		f.Title, f.DetectedAt, f.AwareUnconfirmed = p.ruleName(a.Spec.Name), a.Since, a.AckedAt
		if a.Subject != "" {
			f.Title += ": " + plain(a.Subject, 120)
		}
	}
	return s.showIncidentForm(c, http.StatusOK, f)
}

// factsOfMail are what a mail's class says of the cause. People confirm them.
func factsOfMail(class policy.Class, at time.Time) incident.Facts {
	f := incident.Facts{"incidentOccurredAt": at.UTC().Truncate(time.Second).Format(time.RFC3339), "detectionMethod": "other"}
	switch class {
	case policy.Malware, policy.Phishing:
		f["rootCauseType"], f["suspectedUnlawfulOrMalicious"] = string(class), "suspected"
	}
	return f
}

func (s *pages) showIncidentForm(c echo.Context, status int, f incidentForm) error {
	if f.Workspace == uuid.Nil {
		f.Workspace, _ = s.person(c).Target(rightIncidentsWrite)
	}
	var err error
	if f.People, err = s.incidents.People(c.Request().Context(), f.Workspace); err != nil {
		return s.incidentFailure(c, err)
	}
	return s.render(c, status, incidentFormPage(s.frame(c, "incidents"), f))
}

// readIncident reads the form over an incident.
func (s *pages) readIncident(c echo.Context, p *frame, x incident.Incident) (incident.Incident, incident.Mistakes) {
	x.Title, x.Severity, x.Regime = strings.ToValidUTF8(c.FormValue("title"), ""), c.FormValue("severity"), incident.Regime(c.FormValue("regime"))
	x.Exercise, x.TrustService, x.Owner = c.FormValue("exercise") == "yes", c.FormValue("trust_service") == "yes", optionalID(c.FormValue("owner"))
	var m incident.Mistakes
	for name, t := range map[string]*time.Time{"detected": &x.DetectedAt, "aware": &x.AwareAt, "unconfirmed": &x.AwareUnconfirmed, "breach": &x.BreachAwareAt, "requested": &x.RequestedFor, "contained": &x.ContainedAt, "closed": &x.ClosedAt} {
		at, err := p.formTime(c.FormValue(name), *t)
		if err != nil {
			m = append(m, p.T("inc.time."+name)+": "+err.Error())
			continue
		}
		*t = at
	}
	slices.Sort(m)
	return x, m
}

func (s *pages) postIncidentNew(c echo.Context) error {
	p, who := s.frame(c, "incidents"), s.person(c)
	ctx := c.Request().Context()
	f := incidentForm{New: true, Mail: optionalID(c.FormValue("mail"))}
	var m incident.Mistakes
	f.Incident, m = s.readIncident(c, p, incident.Incident{})
	may := false
	if f.Mail != uuid.Nil {
		row, _, err := s.mails.Get(ctx, f.Mail)
		if err != nil || !who.CanIn(rightViewMeta, row.Workspace) {
			return s.failure(c, errors.Join(ledger.ErrNotFound, err))
		}
		f.Workspace, may = row.Workspace, who.CanIn(rightIncidentsWrite, row.Workspace)
		f.Facts = factsOfMail(row.Class, row.ReceivedAt)
	} else {
		f.Workspace, may = who.Target(rightIncidentsWrite)
	}
	if !may {
		return s.fail(c, http.StatusForbidden, nil)
	}
	if m != nil {
		f.Wrong = strings.Join(m, " · ")
		return s.showIncidentForm(c, http.StatusUnprocessableEntity, f)
	}
	var mails []uuid.UUID
	if f.Mail != uuid.Nil {
		mails = append(mails, f.Mail)
	}
	made, err := s.incidents.Create(ctx, who.Actor, f.Incident, mails...)
	if wrong, ok := incidentMistakes(err); ok {
		f.Wrong = wrong
		return s.showIncidentForm(c, http.StatusUnprocessableEntity, f)
	}
	if err != nil {
		return s.incidentFailure(c, err)
	}
	return s.done(c, "flash.incident.created", "/incidents/"+made.ID.String())
}

func (s *pages) getIncidentEdit(c echo.Context) error {
	i, err := s.incidentOf(c, rightIncidentsWrite)
	if err != nil {
		return s.incidentFailure(c, err)
	}
	return s.showIncidentForm(c, http.StatusOK, incidentForm{Incident: i})
}

func (s *pages) postIncidentEdit(c echo.Context) error {
	old, err := s.incidentOf(c, rightIncidentsWrite)
	if err != nil {
		return s.incidentFailure(c, err)
	}
	f := incidentForm{}
	var m incident.Mistakes
	f.Incident, m = s.readIncident(c, s.frame(c, "incidents"), old)
	f.Version = formVersion(c)
	if m != nil {
		f.Wrong = strings.Join(m, " · ")
		return s.showIncidentForm(c, http.StatusUnprocessableEntity, f)
	}
	_, err = s.incidents.Update(c.Request().Context(), s.person(c).Actor, f.Incident)
	if errors.Is(err, incident.ErrConflict) { // What was typed is shown; saved again, it wins.
		f.Changed, f.Version = true, old.Version
		return s.showIncidentForm(c, http.StatusConflict, f)
	}
	if wrong, ok := incidentMistakes(err); ok {
		f.Wrong = wrong
		return s.showIncidentForm(c, http.StatusUnprocessableEntity, f)
	}
	if err != nil {
		return s.incidentFailure(c, err)
	}
	return s.done(c, "flash.incident.saved", "/incidents/"+f.ID.String())
}

// formVersion is the version that a form began with.
func formVersion(c echo.Context) int64 {
	n, err := strconv.ParseInt(c.FormValue("version"), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
