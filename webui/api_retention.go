package webui

import (
	"context"
	"net/http"
	"time"

	"mailward/approval"
	"mailward/identity"
)

// retentionState is how long the record is kept, and what may go.
type retentionState struct {
	Classes []retentionClass `json:"classes" nullable:"false"`
	Over    []monthOver      `json:"over" nullable:"false" doc:"months whose time is over, the oldest first"`
}

type retentionClass struct {
	Class      string `json:"class"`
	Keep       string `json:"keep"`
	YearEnd    bool   `json:"year_end" doc:"kept to the end of the year in which the time ends"`
	LegalBasis string `json:"legal_basis"`
}

type monthOver struct {
	Partition  string    `json:"partition"`
	Class      string    `json:"class"`
	Events     int64     `json:"events" doc:"that would go"`
	Values     int64     `json:"personal_values" doc:"that would go"`
	LegalBasis string    `json:"legal_basis"`
	KeptUntil  time.Time `json:"kept_until"`
	WhyNot     string    `json:"why_not" doc:"why it cannot be deleted yet; empty: it can"`
}

type retentionInput struct {
	Body struct {
		Class     string `json:"class,omitempty" maxLength:"40" doc:"whose time changes"`
		KeepDays  int    `json:"keep_days,omitempty" minimum:"90" maximum:"3600"`
		Partition string `json:"partition,omitempty" maxLength:"80" doc:"or the month that is deleted"`
		Reason    string `json:"reason" minLength:"3" maxLength:"500" doc:"why; it goes on record"`
	}
}

type retentionAnswer struct {
	Waiting bool `json:"waiting" doc:"for a second person"`
}

func (s *Server) registerRetention() {
	register(s, endpoint{http.MethodGet, "/audit/retention", "get-retention", "How long events are kept, and which months may be deleted", identity.HealthRead, 0},
		func(ctx context.Context, _ identity.Principal, _ *struct{}) (*one[retentionState], error) {
			out := retentionState{Classes: []retentionClass{}, Over: []monthOver{}}
			classes, err := s.deps.Audit.Retention(ctx)
			if err != nil {
				return nil, err
			}
			for _, c := range classes {
				out.Classes = append(out.Classes, retentionClass(c))
			}
			months, err := s.deps.Audit.Purgeable(ctx)
			for _, m := range months {
				out.Over = append(out.Over, monthOver{m.Partition, m.Class, m.Events, m.Values, m.LegalBasis, m.KeptUntil.UTC(), m.WhyNot})
			}
			return &one[retentionState]{Body: out}, err
		})
	register(s, endpoint{http.MethodPost, "/audit/retention", "change-retention", "Changes how long a class of events is kept, or deletes a month whose time is over; it may wait for a second person", identity.WorkspacesWrite, 0},
		func(ctx context.Context, p identity.Principal, in *retentionInput) (*one[retentionAnswer], error) {
			if err := s.stepUp(ctx, p); err != nil {
				return nil, err
			}
			waiting, err := s.deps.Identity.Approvals().ChangeRetention(ctx, p.Actor(), p.RoleNames(), approval.RetentionChange{Class: in.Body.Class, KeepDays: in.Body.KeepDays, Partition: in.Body.Partition}, in.Body.Reason)
			return &one[retentionAnswer]{Body: retentionAnswer{waiting}}, err
		})
}
