package webui

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/incident"
)

// reportView is one report of an incident: what it says, and what became of it.
type reportView struct {
	incident.Incident
	Name     incident.StageName
	Stage    *incident.Stage // nil: nobody is aware of the incident yet
	Fields   []incident.Field
	Gone     []string // required fields that say nothing
	Versions []incident.Report
	Figures  incident.Figures
	Wrong    string
	Typed    incident.Facts     // that could not be kept
	Sent     incident.NewReport // likewise
	May      bool
}

func (v reportView) path() string {
	return "/incidents/" + v.ID.String() + "/reports/" + string(v.Name)
}

func (v reportView) value(f incident.Field) string {
	if t, ok := v.Typed[f.Name]; ok {
		return t
	}
	return v.Value(f)
}

func (v reportView) misses(f incident.Field) bool { return slices.Contains(v.Gone, f.Name) }

// newest is what is on record now.
func (v reportView) newest() incident.Report { return v.Newest(v.Name) }

// sentAt is when it was handed in, as somebody typed it; at first: now.
func (v reportView) sentAt(now time.Time) time.Time {
	if v.Sent.SubmittedAt.IsZero() {
		return now
	}
	return v.Sent.SubmittedAt
}

// hint is what Mailward itself knows about a field.
func (v reportView) hint(p *frame, f incident.Field) string {
	switch {
	case f.Name == "affectedUsersCount" && v.Figures.Mails > 0:
		return p.T("inc.hint.users", v.Figures.Reached, v.Figures.Recipients)
	case f.Name == "incidentOccurredAt" && !v.Figures.First.IsZero():
		return p.T("inc.hint.first", p.Full(v.Figures.First))
	case f.Name == "affectedCountries":
		return p.T("inc.hint.countries")
	case f.Kind == incident.Money:
		return p.T("inc.hint.money")
	}
	return ""
}

func (s *pages) reportOf(c echo.Context, right string) (reportView, error) {
	i, err := s.incidentOf(c, right)
	name := incident.StageName(c.Param("stage"))
	if err == nil && !slices.Contains(incident.StageNames(), name) {
		err = incident.ErrNotFound
	}
	return reportView{Incident: i, Name: name}, err
}

func (s *pages) getIncidentReport(c echo.Context) error {
	v, err := s.reportOf(c, rightIncidentsRead)
	if err != nil {
		return s.incidentFailure(c, err)
	}
	return s.showReport(c, http.StatusOK, v)
}

func (s *pages) showReport(c echo.Context, status int, v reportView) error {
	p := s.frame(c, "incidents")
	s.flash(c, p)
	v.May = p.User.CanIn(rightIncidentsWrite, v.Workspace)
	v.Fields, v.Gone = incident.FieldsOf(v.Regime, v.Name), v.Missing(v.Name)
	stages, err := v.Stages(s.incidents.Zone(), p.Now)
	if err != nil && v.Wrong == "" {
		v.Wrong = err.Error()
	}
	for n, st := range stages {
		if st.Name == v.Name {
			v.Stage = &stages[n]
		}
	}
	for _, r := range v.Reports {
		if r.Stage == v.Name {
			v.Versions = append(v.Versions, r)
		}
	}
	if v.Figures, err = s.incidents.Figures(c.Request().Context(), v.ID); err != nil {
		return s.incidentFailure(c, err)
	}
	return s.render(c, status, reportPage(p, v))
}

// postIncidentFields saves what the report says. Fields that it does not ask for keep
// their values.
func (s *pages) postIncidentFields(c echo.Context) error {
	v, err := s.reportOf(c, rightIncidentsWrite)
	if err != nil {
		return s.incidentFailure(c, err)
	}
	form, err := c.FormParams()
	if err != nil {
		return s.failure(c, errBadInput)
	}
	p := s.frame(c, "incidents")
	facts, wrong := incident.Facts{}, incident.Mistakes(nil)
	for name, value := range v.Facts {
		facts[name] = value
	}
	for _, f := range incident.FieldsOf(v.Regime, v.Name) {
		if f.Derived() {
			continue
		}
		value := strings.ToValidUTF8(strings.Join(form["f."+f.Name], " "), "")
		if f.Kind == incident.Moment {
			old, _ := time.Parse(time.RFC3339, v.Facts[f.Name])
			at, err := p.formTime(value, old)
			if err != nil {
				wrong = append(wrong, p.T("inc.field."+f.Name)+": "+err.Error())
				continue
			}
			if value = ""; !at.IsZero() {
				value = at.UTC().Format(time.RFC3339)
			}
		}
		facts[f.Name] = value
	}
	i := v.Incident
	i.Facts, i.Version = facts, formVersion(c)
	if wrong == nil {
		_, err = s.incidents.Update(c.Request().Context(), s.person(c).Actor, i)
	} else {
		err = wrong
	}
	text, mendable := incidentMistakes(err)
	if errors.Is(err, incident.ErrConflict) {
		text, mendable = p.T("inc.changed"), true
	}
	if mendable {
		v.Wrong, v.Typed = text, facts
		return s.showReport(c, http.StatusUnprocessableEntity, v)
	}
	if err != nil {
		return s.incidentFailure(c, err)
	}
	return s.done(c, "flash.incident.saved", v.path())
}

// postIncidentReport notes what became of the report.
func (s *pages) postIncidentReport(c echo.Context) error {
	v, err := s.reportOf(c, rightIncidentsWrite)
	if err != nil {
		return s.incidentFailure(c, err)
	}
	p := s.frame(c, "incidents")
	r := incident.NewReport{Stage: v.Name, Seen: max(0, int(formVersion(c))), State: incident.ReportState(c.FormValue("state")),
		Channel: strings.ToValidUTF8(c.FormValue("channel"), ""), Reference: strings.ToValidUTF8(c.FormValue("reference"), ""), Reason: strings.ToValidUTF8(c.FormValue("reason"), "")}
	if r.State == incident.ReportSubmitted {
		r.SubmittedAt, err = p.formTime(c.FormValue("at"), time.Time{})
		if err == nil && r.SubmittedAt.IsZero() {
			err = incident.Mistakes{p.T("inc.report.at.wrong")}
		}
	}
	if err == nil {
		_, err = s.incidents.Report(c.Request().Context(), s.person(c).Actor, v.ID, r)
	}
	text, mendable := incidentMistakes(err)
	switch {
	case errors.Is(err, incident.ErrConflict):
		text, mendable = p.T("inc.changed"), true
	case err != nil && r.SubmittedAt.IsZero() && r.State == incident.ReportSubmitted && !mendable:
		text, mendable = err.Error(), true // of the time that was typed
	}
	if mendable {
		v.Wrong, v.Sent = text, r
		return s.showReport(c, http.StatusUnprocessableEntity, v)
	}
	if err != nil {
		return s.incidentFailure(c, err)
	}
	return s.done(c, "flash.incident.reported", v.path())
}

// getIncidentSheet is a report as JSON: what it says now, or as it was handed in.
func (s *pages) getIncidentSheet(c echo.Context) error {
	v, err := s.reportOf(c, rightIncidentsRead)
	if err != nil {
		return s.incidentFailure(c, err)
	}
	name := v.Number + "-" + string(v.Name)
	var content []byte
	if id := optionalID(c.QueryParam("version")); id != uuid.Nil {
		content, err = s.incidents.Content(c.Request().Context(), v.ID, id)
	} else {
		name += "-draft"
		content, err = json.MarshalIndent(v.Sheet(v.Name, s.now()), "", "  ")
	}
	if err != nil {
		return s.incidentFailure(c, err)
	}
	c.Response().Header().Set(echo.HeaderContentDisposition, `attachment; filename="`+name+`.json"`)
	return c.Blob(http.StatusOK, "application/json", content)
}
