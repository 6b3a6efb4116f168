package webui

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/incident"
)

// shownMails is how many mails of an incident its page lists.
const shownMails = 50

// incidentView is one incident.
type incidentView struct {
	incident.Incident
	Stages   []incident.Stage // none: nobody is aware of it yet
	Broken   string           // why they cannot be calculated
	Figures  incident.Figures
	Linked   []incident.Mail
	Timeline []incidentMoment
	Wrong    string // of the form that was sent
	Note     incident.Note
	Decision string // that was sent and could not be kept
	May      bool
	Audit    bool // the person may read the record
	File     bool // and take it away
	Signs    bool // which they sign with a passkey
}

// incidentMoment is one line of the timeline.
type incidentMoment struct {
	At         time.Time
	What, Text string // what: a name; text: words of people
	By         string
	Href       string
}

func (v incidentView) path() string { return "/incidents/" + v.ID.String() }

// overdue are the reports that nobody has handed in.
func (v incidentView) overdue() (n int) {
	for _, s := range v.Stages {
		if s.State == incident.Overdue && !v.Exercise {
			n++
		}
	}
	return n
}

func (s *pages) getIncident(c echo.Context) error {
	i, err := s.incidentOf(c, rightIncidentsRead)
	if err != nil {
		return s.incidentFailure(c, err)
	}
	return s.showIncident(c, http.StatusOK, incidentView{Incident: i})
}

func (s *pages) showIncident(c echo.Context, status int, v incidentView) error {
	ctx, p := c.Request().Context(), s.frame(c, "incidents")
	s.flash(c, p)
	v.May, v.Audit = p.User.CanIn(rightIncidentsWrite, v.Workspace), p.User.CanIn(rightAuditRead, v.Workspace)
	v.File = p.User.CanIn(rightAuditExport, v.Workspace)
	var err error
	if v.Signs, err = s.signs(c, p.User); err != nil {
		return s.failure(c, err)
	}
	if v.Stages, err = v.Incident.Stages(s.incidents.Zone(), p.Now); err != nil {
		v.Broken = err.Error()
	}
	if v.Figures, err = s.incidents.Figures(ctx, v.ID); err != nil {
		return s.incidentFailure(c, err)
	}
	if v.Linked, err = s.incidents.Mails(ctx, v.ID, shownMails); err != nil {
		return s.incidentFailure(c, err)
	}
	notes, err := s.incidents.Notes(ctx, v.ID)
	if err != nil {
		return s.incidentFailure(c, err)
	}
	v.Timeline = v.timeline(p, notes)
	return s.render(c, status, incidentPage(p, v))
}

// timeline is what happened, in the order in which it did.
func (v incidentView) timeline(p *frame, notes []incident.Note) (list []incidentMoment) {
	add := func(at time.Time, what, text, by string) {
		if !at.IsZero() {
			list = append(list, incidentMoment{At: at, What: what, Text: text, By: by})
		}
	}
	for name, at := range map[string]time.Time{"detected": v.DetectedAt, "aware": v.AwareAt, "unconfirmed": v.AwareUnconfirmed, "breach": v.BreachAwareAt, "contained": v.ContainedAt, "closed": v.ClosedAt} {
		add(at, p.T("inc.time."+name), "", "")
	}
	add(v.CreatedAt, p.T("inc.opened"), "", v.CreatedBy)
	if v.Significant != incident.Undecided {
		add(v.SignificantAt, p.T("inc.decided."+string(v.Significant)), v.SignificantReason, v.SignificantBy)
	}
	for _, r := range v.Reports {
		at := r.SubmittedAt
		if r.State != incident.ReportSubmitted {
			at = r.At
		}
		words := slices.DeleteFunc([]string{r.Channel, r.Reference, r.Reason}, func(x string) bool { return x == "" })
		list = append(list, incidentMoment{At: at, What: p.word("inc.stage", string(r.Stage)) + ": " + p.word("inc.report", string(r.State)), Text: strings.Join(words, " · "), By: r.By, Href: v.path() + "/reports/" + string(r.Stage)})
	}
	for _, n := range notes {
		list = append(list, incidentMoment{At: n.At, What: p.word("inc.note", n.Kind), Text: n.Text, By: n.By})
	}
	slices.SortFunc(list, func(a, b incidentMoment) int {
		return cmp.Or(cmp.Compare(a.At.UnixMicro(), b.At.UnixMicro()), cmp.Compare(a.What, b.What), cmp.Compare(a.Text, b.Text))
	})
	return list
}

// postIncidentTake makes the person its owner.
func (s *pages) postIncidentTake(c echo.Context) error {
	i, err := s.incidentOf(c, rightIncidentsWrite)
	if err == nil {
		i.Owner = s.person(c).ID
		_, err = s.incidents.Update(c.Request().Context(), s.person(c).Actor, i)
	}
	if err != nil {
		return s.incidentFailure(c, err)
	}
	return s.done(c, "flash.incident.taken", "/incidents/"+i.ID.String())
}

// postIncidentDecide notes whether it is significant.
func (s *pages) postIncidentDecide(c echo.Context) error {
	old, err := s.incidentOf(c, rightIncidentsWrite)
	if err != nil {
		return s.incidentFailure(c, err)
	}
	i := old
	i.Version, i.Significant, i.SignificantReason = formVersion(c), incident.Significance(c.FormValue("significant")), strings.ToValidUTF8(c.FormValue("reason"), "")
	_, err = s.incidents.Update(c.Request().Context(), s.person(c).Actor, i)
	wrong, mendable := incidentMistakes(err)
	if errors.Is(err, incident.ErrConflict) {
		wrong, mendable = s.frame(c, "incidents").T("inc.changed"), true
	}
	if mendable {
		return s.showIncident(c, http.StatusUnprocessableEntity, incidentView{Incident: old, Wrong: wrong, Decision: i.SignificantReason})
	}
	if err != nil {
		return s.incidentFailure(c, err)
	}
	return s.done(c, "flash.incident.saved", "/incidents/"+i.ID.String())
}

func (s *pages) postIncidentNote(c echo.Context) error {
	i, err := s.incidentOf(c, rightIncidentsWrite)
	if err != nil {
		return s.incidentFailure(c, err)
	}
	n := incident.Note{Kind: c.FormValue("kind"), Text: strings.ToValidUTF8(c.FormValue("text"), "")}
	if n.At, err = s.frame(c, "incidents").formTime(c.FormValue("at"), time.Time{}); err != nil {
		return s.showIncident(c, http.StatusUnprocessableEntity, incidentView{Incident: i, Wrong: err.Error(), Note: n})
	}
	err = s.incidents.AddNote(c.Request().Context(), s.person(c).Actor, i.ID, n)
	if wrong, ok := incidentMistakes(err); ok {
		return s.showIncident(c, http.StatusUnprocessableEntity, incidentView{Incident: i, Wrong: wrong, Note: n})
	}
	if err != nil {
		return s.incidentFailure(c, err)
	}
	return s.done(c, "flash.incident.noted", "/incidents/"+i.ID.String())
}

// postIncidentMail puts a mail in: its id, or an address of ours that ends in one.
func (s *pages) postIncidentMail(c echo.Context) error {
	i, err := s.incidentOf(c, rightIncidentsWrite)
	if err != nil {
		return s.incidentFailure(c, err)
	}
	id := optionalID(strings.TrimSpace(c.FormValue("mail")))
	if id == uuid.Nil {
		return s.showIncident(c, http.StatusUnprocessableEntity, incidentView{Incident: i, Wrong: s.frame(c, "incidents").T("inc.mail.wrong")})
	}
	err = s.incidents.AddMail(c.Request().Context(), s.person(c).Actor, i.ID, id)
	if errors.Is(err, incident.ErrNoMail) {
		return s.showIncident(c, http.StatusUnprocessableEntity, incidentView{Incident: i, Wrong: s.frame(c, "incidents").T("inc.mail.wrong")})
	}
	if err != nil {
		return s.incidentFailure(c, err)
	}
	return s.done(c, "flash.incident.mail", "/incidents/"+i.ID.String())
}

func (s *pages) postIncidentMailRemove(c echo.Context) error {
	i, err := s.incidentOf(c, rightIncidentsWrite)
	if err == nil {
		err = s.incidents.RemoveMail(c.Request().Context(), s.person(c).Actor, i.ID, optionalID(c.Param("mail")))
	}
	if err != nil {
		return s.incidentFailure(c, err)
	}
	return s.done(c, "flash.incident.unmail", "/incidents/"+i.ID.String())
}

// incidentsOf are the incidents that a mail belongs to, and those that are not
// closed, which it could be put into.
func (s *pages) incidentsOf(c echo.Context, workspace, mail uuid.UUID) (l incidentLinksView, err error) {
	who := s.person(c)
	if s.incidents == nil || !who.CanIn(rightIncidentsRead, workspace) {
		return l, nil
	}
	l.Show, l.May, l.Mail = true, who.CanIn(rightIncidentsWrite, workspace), mail
	ctx, here := c.Request().Context(), []uuid.UUID{workspace}
	p, err := s.incidents.List(ctx, incident.Filter{Workspaces: here, Mail: mail})
	if err != nil {
		return l, err
	}
	q, err := s.incidents.List(ctx, incident.Filter{Workspaces: here, States: []string{"open", "contained"}, Limit: 20})
	l.Has, l.unclosed = p.Items, q.Items
	return l, err
}

// incidentLinksView is what stands at a mail.
type incidentLinksView struct {
	Show, May bool
	Mail      uuid.UUID
	Has       []incident.Incident
	unclosed  []incident.Incident
}

// open are those that the mail can be put into, the newest few.
func (l incidentLinksView) open() (out []incident.Incident) {
	for _, i := range l.unclosed {
		if !slices.ContainsFunc(l.Has, func(h incident.Incident) bool { return h.ID == i.ID }) && len(out) < 3 {
			out = append(out, i)
		}
	}
	return out
}

func decisionOptions(p *frame) (out []option) {
	for _, x := range incident.Significances() {
		out = append(out, option{string(x), p.T("inc.decided." + string(x))})
	}
	return out
}

// reasonShown is what stands in the form.
func (v incidentView) reasonShown() string {
	if v.Decision != "" {
		return v.Decision
	}
	return v.SignificantReason
}

// Tones of an incident.

func incidentSeverityTone(sev string) string {
	return map[string]string{"critical": "crit", "high": "warn", "medium": "info"}[sev]
}

func incidentStateTone(state string) string {
	return map[string]string{"open": "crit", "contained": "warn", "closed": "ok"}[state]
}

func stageTone(st incident.State) string {
	switch st {
	case incident.Overdue:
		return "crit"
	case incident.Warn:
		return "warn"
	case incident.Running:
		return "info"
	case incident.Submitted:
		return "ok"
	}
	return "none"
}

// left is how long somebody still has for a report, or by how much it is late.
func (p *frame) left(s incident.Stage) string {
	switch {
	case s.Open() && s.Due.Before(p.Now):
		return p.T("inc.late", p.Span(p.Now.Sub(s.Due)))
	case s.Open():
		return p.T("inc.left", p.Span(s.Due.Sub(p.Now)))
	case s.SubmittedLateBy > 0:
		return p.T("inc.waslate", p.Span(s.SubmittedLateBy))
	}
	return ""
}
