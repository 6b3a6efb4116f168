package webui

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"mailward/identity"
	"mailward/incident"
)

// incidentBody is an incident as somebody writes one.
type incidentBody struct {
	Title             string         `json:"title" minLength:"1" maxLength:"300"`
	Severity          string         `json:"severity,omitempty" enum:"low,medium,high,critical" default:"medium"`
	Exercise          bool           `json:"exercise,omitempty" doc:"nothing is owed, and no alarm is raised"`
	Owner             string         `json:"owner_id,omitempty" format:"uuid"`
	Regime            string         `json:"regime,omitempty" enum:"bsig,cir2690,kritis" default:"bsig"`
	TrustService      bool           `json:"trust_service,omitempty"`
	DetectedAt        time.Time      `json:"detected_at,omitzero" doc:"first signal; of a new one: default now"`
	AwareAt           time.Time      `json:"aware_at,omitzero" doc:"when a person knew that it is significant, or may be: deadlines run from here"`
	AwareUnconfirmed  time.Time      `json:"aware_unconfirmed_at,omitzero" doc:"another time of that, which nobody has confirmed: the earlier one counts"`
	BreachAwareAt     time.Time      `json:"breach_aware_at,omitzero" doc:"of a breach of personal data"`
	RequestedFor      time.Time      `json:"requested_for,omitzero" doc:"date that the authority set for an intermediate report"`
	ContainedAt       time.Time      `json:"contained_at,omitzero"`
	ClosedAt          time.Time      `json:"closed_at,omitzero" doc:"when handling it was completed"`
	Significant       string         `json:"significant,omitempty" enum:"undecided,yes,no" doc:"of a change: the decision, with its reason; left out: what was decided stays. A new one is undecided"`
	SignificantReason string         `json:"significant_reason,omitempty" maxLength:"10000"`
	Facts             incident.Facts `json:"facts,omitempty" doc:"what its reports say, by field; left out of a change: they stay"`
	Workspace         string         `json:"workspace_id,omitempty" format:"uuid" doc:"of a new one; empty: the default workspace"`
	Version           int64          `json:"version,omitempty" minimum:"1" doc:"of a change: the version that you have read"`
}

// over puts what was written over an incident.
func (b incidentBody) over(x incident.Incident) incident.Incident {
	x.Title, x.Severity, x.Exercise, x.Owner, x.Regime, x.TrustService = b.Title, b.Severity, b.Exercise, optionalID(b.Owner), incident.Regime(b.Regime), b.TrustService
	x.DetectedAt, x.AwareAt, x.AwareUnconfirmed, x.BreachAwareAt, x.RequestedFor, x.ContainedAt, x.ClosedAt = b.DetectedAt, b.AwareAt, b.AwareUnconfirmed, b.BreachAwareAt, b.RequestedFor, b.ContainedAt, b.ClosedAt
	if x.Version = b.Version; b.Significant != "" {
		x.Significant, x.SignificantReason = incident.Significance(b.Significant), b.SignificantReason
	}
	if b.Facts != nil {
		x.Facts = b.Facts
	}
	return x
}

type incidentList struct {
	Paging
	Query    string   `query:"q" maxLength:"200" doc:"part of number or title"`
	State    []string `query:"state" enum:"open,contained,closed"`
	Severity []string `query:"severity" enum:"low,medium,high,critical"`
	Mail     string   `query:"mail_id" format:"uuid" doc:"that it has"`
}

type incidentInput struct{ Body incidentBody }

type incidentChange struct {
	ByID
	Body incidentBody
}

// incidentShown is an incident with how its reports stand.
type incidentShown struct {
	incident.Incident
	Deadlines []incidentDeadline `json:"deadlines" nullable:"false" doc:"none as long as nobody is aware of it"`
}

// incidentDeadline is a report at this moment.
type incidentDeadline struct {
	Stage       incident.StageName `json:"stage"`
	Law         string             `json:"law"`
	State       incident.State     `json:"state"`
	Due         time.Time          `json:"due,omitzero"`
	Target      time.Time          `json:"target,omitzero"`
	SubmittedAt time.Time          `json:"submitted_at,omitzero"`
	LateSeconds int64              `json:"submitted_late_by_seconds,omitempty"`
	Reason      string             `json:"reason,omitempty"`
	Missing     []string           `json:"missing" nullable:"false" doc:"required fields that say nothing"`
}

func (s *Server) shownIncident(i incident.Incident) incidentShown {
	out := incidentShown{Incident: i, Deadlines: []incidentDeadline{}}
	stages, err := i.Stages(s.deps.Incidents.Zone(), s.now())
	if err != nil {
		s.log.Warn("deadlines not calculated", "incident", i.ID, "error", err)
	}
	for _, st := range stages {
		missing := i.Missing(st.Name)
		if missing == nil {
			missing = []string{}
		}
		out.Deadlines = append(out.Deadlines, incidentDeadline{st.Name, st.Law, st.State, st.Due, st.Target, st.SubmittedAt, int64(st.SubmittedLateBy / time.Second), st.Reason, missing})
	}
	return out
}

type incidentReport struct {
	ByID
	Body struct {
		Stage       string    `json:"stage" enum:"early_warning,notification,intermediate,final,progress,final_after_progress,gdpr33"`
		Seen        int       `json:"seen_version" minimum:"0" doc:"the newest version of this report that you know of; 0: none"`
		State       string    `json:"state" enum:"submitted,not_required,withdrawn"`
		SubmittedAt time.Time `json:"submitted_at,omitzero"`
		Channel     string    `json:"channel,omitempty" maxLength:"300" doc:"how it was handed in"`
		Reference   string    `json:"reference,omitempty" maxLength:"300" doc:"of the authority"`
		Reason      string    `json:"reason,omitempty" maxLength:"10000" doc:"of everything but a first submission"`
	}
}

type incidentSheet struct {
	ByID
	Stage string `path:"stage" enum:"early_warning,notification,intermediate,final,progress,final_after_progress,gdpr33"`
}

type incidentContent struct {
	ByID
	Report string `path:"report" format:"uuid"`
}

type incidentNote struct {
	ByID
	Body struct {
		Kind string    `json:"kind,omitempty" enum:"note,containment,eradication,recovery,communication,lesson" default:"note"`
		At   time.Time `json:"at,omitzero" doc:"when it happened; default now"`
		Text string    `json:"text" minLength:"1" maxLength:"10000"`
	}
}

type incidentMail struct {
	ByID
	Body struct {
		Mail string `json:"mail_id" format:"uuid"`
	}
}

type incidentMailPath struct {
	ByID
	Mail string `path:"mail" format:"uuid"`
}

// rawJSON is a document that is sent as it is kept.
type rawJSON struct {
	ContentType string `header:"Content-Type"`
	Body        []byte
}

// findIncident reads one that somebody has a right on.
func (s *Server) findIncident(ctx context.Context, p identity.Principal, id uuid.UUID, right identity.Right) (incident.Incident, error) {
	i, err := s.deps.Incidents.Get(ctx, id)
	if err == nil && !p.Can(right, i.Workspace) {
		return incident.Incident{}, incident.ErrNotFound
	}
	return i, err
}

// incidentProblem is the answer to an error of package incident; nil: it is none.
func incidentProblem(err error) huma.StatusError {
	var m incident.Mistakes
	switch {
	case errors.Is(err, incident.ErrNotFound):
		return huma.Error404NotFound("there is no such thing, or it is not yours to see")
	case errors.Is(err, incident.ErrConflict):
		return huma.Error409Conflict("changed by somebody else in the meantime")
	case errors.Is(err, incident.ErrFull):
		return huma.Error409Conflict("the incident has as many mails as it may have")
	case errors.Is(err, incident.ErrNoMail):
		return huma.Error422UnprocessableEntity("there is no such mail in the workspace of the incident")
	case errors.Is(err, incident.ErrBadCursor):
		return huma.Error422UnprocessableEntity("this is no cursor")
	case errors.As(err, &m):
		return huma.Error422UnprocessableEntity(m.Error())
	}
	return nil
}

func (s *Server) registerIncidents() {
	register(s, endpoint{http.MethodGet, "/incidents", "list-incidents", "Incidents, the newest first", identity.IncidentsRead, 0},
		func(ctx context.Context, p identity.Principal, in *incidentList) (*list[incidentShown], error) {
			f := incident.Filter{Query: in.Query, States: in.State, Severities: in.Severity, Mail: optionalID(in.Mail), Cursor: in.Cursor, Limit: in.Limit}
			if mine, all := p.Workspaces(identity.IncidentsRead); !all {
				f.Workspaces = append([]uuid.UUID{}, mine...)
			}
			got, err := s.deps.Incidents.List(ctx, f)
			return page(mapped(got.Items, s.shownIncident), got.Next), err
		})
	register(s, endpoint{http.MethodPost, "/incidents", "create-incident", "Puts an incident on record", identity.IncidentsWrite, http.StatusCreated},
		func(ctx context.Context, p identity.Principal, in *incidentInput) (*one[incidentShown], error) {
			w, err := workspaceFor(p, in.Body.Workspace, identity.IncidentsWrite)
			if err != nil {
				return nil, err
			}
			x := in.Body.over(incident.Incident{})
			if x.Workspace = w; x.DetectedAt.IsZero() {
				x.DetectedAt = s.now()
			}
			x, err = s.deps.Incidents.Create(ctx, p.Actor(), x)
			return &one[incidentShown]{s.shownIncident(x)}, err
		})
	register(s, endpoint{http.MethodGet, "/incidents/{id}", "get-incident", "One incident, with all versions of its reports", identity.IncidentsRead, 0},
		func(ctx context.Context, p identity.Principal, in *ByID) (*one[incidentShown], error) {
			x, err := s.findIncident(ctx, p, in.uuid(), identity.IncidentsRead)
			return &one[incidentShown]{s.shownIncident(x)}, err
		})
	register(s, endpoint{http.MethodPut, "/incidents/{id}", "put-incident", "Changes an incident", identity.IncidentsWrite, 0},
		func(ctx context.Context, p identity.Principal, in *incidentChange) (*one[incidentShown], error) {
			old, err := s.findIncident(ctx, p, in.uuid(), identity.IncidentsWrite)
			if err != nil {
				return nil, err
			}
			x, err := s.deps.Incidents.Update(ctx, p.Actor(), in.Body.over(old))
			return &one[incidentShown]{s.shownIncident(x)}, err
		})
	s.registerIncidentReports()
	s.registerIncidentParts()
	s.registerIncidentFile()
}

func (s *Server) registerIncidentReports() {
	register(s, endpoint{http.MethodPost, "/incidents/{id}/reports", "add-incident-report", "Notes that a report was handed in, is not owed, or that what is on record of it is not so", identity.IncidentsWrite, http.StatusCreated},
		func(ctx context.Context, p identity.Principal, in *incidentReport) (*one[incidentShown], error) {
			x, err := s.findIncident(ctx, p, in.uuid(), identity.IncidentsWrite)
			if err != nil {
				return nil, err
			}
			b := in.Body
			x, err = s.deps.Incidents.Report(ctx, p.Actor(), x.ID, incident.NewReport{Stage: incident.StageName(b.Stage), Seen: b.Seen, State: incident.ReportState(b.State), SubmittedAt: b.SubmittedAt, Channel: b.Channel, Reference: b.Reference, Reason: b.Reason})
			return &one[incidentShown]{s.shownIncident(x)}, err
		})
	register(s, endpoint{http.MethodGet, "/incidents/{id}/sheets/{stage}", "get-incident-sheet", "What a report says now, in the order of the authority's form", identity.IncidentsRead, 0},
		func(ctx context.Context, p identity.Principal, in *incidentSheet) (*one[incident.Sheet], error) {
			x, err := s.findIncident(ctx, p, in.uuid(), identity.IncidentsRead)
			return &one[incident.Sheet]{x.Sheet(incident.StageName(in.Stage), s.now())}, err
		})
	register(s, endpoint{http.MethodGet, "/incidents/{id}/reports/{report}", "get-incident-report", "A report as it was handed in: the very bytes whose SHA-256 is on record", identity.IncidentsRead, 0},
		func(ctx context.Context, p identity.Principal, in *incidentContent) (*rawJSON, error) {
			x, err := s.findIncident(ctx, p, in.uuid(), identity.IncidentsRead)
			if err != nil {
				return nil, err
			}
			content, err := s.deps.Incidents.Content(ctx, x.ID, optionalID(in.Report))
			return &rawJSON{"application/json", content}, err
		})
}

func (s *Server) registerIncidentParts() {
	register(s, endpoint{http.MethodGet, "/incidents/{id}/notes", "list-incident-notes", "What was noted, in the order in which it happened", identity.IncidentsRead, 0},
		func(ctx context.Context, p identity.Principal, in *ByID) (*list[incident.Note], error) {
			x, err := s.findIncident(ctx, p, in.uuid(), identity.IncidentsRead)
			if err != nil {
				return nil, err
			}
			got, err := s.deps.Incidents.Notes(ctx, x.ID)
			return page(got, ""), err
		})
	register(s, endpoint{http.MethodPost, "/incidents/{id}/notes", "add-incident-note", "Notes something that was done or said; a note cannot be changed", identity.IncidentsWrite, http.StatusCreated},
		func(ctx context.Context, p identity.Principal, in *incidentNote) (*list[incident.Note], error) {
			x, err := s.findIncident(ctx, p, in.uuid(), identity.IncidentsWrite)
			if err != nil {
				return nil, err
			}
			if err := s.deps.Incidents.AddNote(ctx, p.Actor(), x.ID, incident.Note{Kind: in.Body.Kind, At: in.Body.At, Text: in.Body.Text}); err != nil {
				return nil, err
			}
			got, err := s.deps.Incidents.Notes(ctx, x.ID)
			slices.Reverse(got)
			return page(got, ""), err
		})
	register(s, endpoint{http.MethodGet, "/incidents/{id}/mails", "list-incident-mails", "The mails of an incident, the newest first", identity.IncidentsRead, 0},
		func(ctx context.Context, p identity.Principal, in *ByID) (*list[incident.Mail], error) {
			x, err := s.findIncident(ctx, p, in.uuid(), identity.IncidentsRead)
			if err != nil {
				return nil, err
			}
			got, err := s.deps.Incidents.Mails(ctx, x.ID, incident.MaxMails)
			return page(got, ""), err
		})
	register(s, endpoint{http.MethodPost, "/incidents/{id}/mails", "add-incident-mail", "Puts a mail of the same workspace into an incident", identity.IncidentsWrite, http.StatusNoContent},
		func(ctx context.Context, p identity.Principal, in *incidentMail) (*nothing, error) {
			x, err := s.findIncident(ctx, p, in.uuid(), identity.IncidentsWrite)
			if err != nil {
				return nil, err
			}
			return &nothing{}, s.deps.Incidents.AddMail(ctx, p.Actor(), x.ID, optionalID(in.Body.Mail))
		})
	register(s, endpoint{http.MethodDelete, "/incidents/{id}/mails/{mail}", "delete-incident-mail", "Takes a mail out of an incident", identity.IncidentsWrite, http.StatusNoContent},
		func(ctx context.Context, p identity.Principal, in *incidentMailPath) (*nothing, error) {
			x, err := s.findIncident(ctx, p, in.uuid(), identity.IncidentsWrite)
			if err != nil {
				return nil, err
			}
			return &nothing{}, s.deps.Incidents.RemoveMail(ctx, p.Actor(), x.ID, optionalID(in.Mail))
		})
}
