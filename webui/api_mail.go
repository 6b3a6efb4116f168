package webui

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"mailward/audit"
	"mailward/gateway/ledger"
	"mailward/health"
	"mailward/identity"
	"mailward/policy"
	"mailward/quarantine"
)

func (s *Server) registerHealth() {
	register(s, endpoint{http.MethodGet, "/health", "get-health", "The state of every component, checked now", identity.HealthRead, 0},
		func(ctx context.Context, _ identity.Principal, _ *struct{}) (*one[health.Report], error) {
			return &one[health.Report]{Body: s.deps.Health.Check(ctx)}, nil
		})
}

type mailFilter struct {
	Paging
	Span
	Query     string           `query:"q" maxLength:"200" doc:"part of subject, sender or recipient; or an id or hash"`
	Class     []policy.Class   `query:"class"`
	Action    []policy.Action  `query:"action"`
	Direction policy.Direction `query:"direction" enum:"inbound,outbound"`
}

// mailDetail is a decision with what became of each copy.
type mailDetail struct {
	ledger.Row
	Outcomes []ledger.Outcome `json:"outcomes" nullable:"false"`
}

func (s *Server) registerMessages() {
	register(s, endpoint{http.MethodGet, "/messages", "list-messages", "Decisions on mails, newest first", identity.ViewMeta, 0},
		func(ctx context.Context, p identity.Principal, in *mailFilter) (*list[ledger.Row], error) {
			ws, _, err := s.deps.Identity.WorkspacesOf(ctx, p, identity.ViewMeta)
			if err != nil {
				return nil, err
			}
			got, err := s.deps.Ledger.List(ctx, ledger.Filter{Workspaces: ws, Query: in.Query, Classes: in.Class, Actions: in.Action, Direction: in.Direction, From: in.From, To: in.To, Cursor: in.Cursor, Limit: in.Limit})
			if err != nil {
				return nil, err
			}
			return page(got.Items, got.Next), nil
		})
	register(s, endpoint{http.MethodGet, "/messages/{id}", "get-message", "One decision and what became of each copy", identity.ViewMeta, 0},
		func(ctx context.Context, p identity.Principal, in *ByID) (*one[mailDetail], error) {
			row, outcomes, err := s.deps.Ledger.Get(ctx, in.uuid())
			if err != nil {
				return nil, err
			}
			if !p.Can(identity.ViewMeta, row.Workspace) {
				return nil, ledger.ErrNotFound
			}
			if outcomes == nil {
				outcomes = []ledger.Outcome{}
			}
			return &one[mailDetail]{Body: mailDetail{Row: row, Outcomes: outcomes}}, nil
		})
}

// decision is what a person says about an item.
type decision struct {
	ByID
	Body struct {
		Reason string `json:"reason" maxLength:"2000" doc:"why; it goes on record"`
	}
}

type releaseInput struct {
	ByID
	Body struct {
		Reason     string   `json:"reason" maxLength:"2000" doc:"why; it goes on record"`
		Recipients []string `json:"recipients,omitempty" maxItems:"1000" doc:"addresses; none here and in others: all that can be released"`
		ReasonCode string   `json:"reason_code,omitempty" enum:"false_positive,business_need,sender_confirmed,recipient_request,test,other" doc:"default: other"`
		Others     []string `json:"others,omitempty" maxItems:"20" doc:"further addresses, of domains that the mail's workspace serves"`
		Insist     bool     `json:"insist,omitempty" doc:"although a scan at an earlier release found worse; the password has to be given again first"`
		Again      bool     `json:"again,omitempty" doc:"also to copies of which nobody knows whether they arrived: the recipient may get them twice"`
	}
}

func (s *Server) registerQuarantine() {
	s.registerQuarantineList()
	register(s, endpoint{http.MethodGet, "/quarantine/{id}", "get-quarantine-item", "One held mail", identity.ViewMeta, 0},
		func(ctx context.Context, p identity.Principal, in *ByID) (*one[quarantine.Item], error) {
			it, err := s.item(ctx, p, in.uuid(), identity.ViewMeta)
			return &one[quarantine.Item]{Body: it}, err
		})
	register(s, endpoint{http.MethodGet, "/quarantine/{id}/raw", "get-quarantine-raw", "The exact bytes of a held mail; the download is on record before it begins", identity.DownloadRaw, 0},
		s.getRaw, func(op *huma.Operation) {
			op.Responses = map[string]*huma.Response{"200": {Description: "The mail", Content: map[string]*huma.MediaType{"application/octet-stream": {}}}}
		})
	s.registerLook()
	s.registerDecisions()
	s.registerReleases()
	if s.deps.Coverage != nil {
		s.registerCoverage()
	}
	s.registerKeeping()
	if s.deps.Digests != nil {
		s.registerDigestAPI()
	}
}

func (s *Server) registerDecisions() {
	register(s, endpoint{http.MethodPost, "/quarantine/{id}/release", "release", "Lets a held mail go, to all or some of its recipients", identity.Release, 0},
		func(ctx context.Context, p identity.Principal, in *releaseInput) (*one[quarantine.Item], error) {
			if _, err := s.item(ctx, p, in.uuid(), identity.Release); err != nil {
				return nil, err
			}
			if err := s.stepUp(ctx, p); err != nil {
				return nil, err
			}
			if b := in.Body; b.Insist && !s.shownLately(p) {
				return nil, errStepUp
			}
			it, err := s.deps.Quarantine.Release(ctx, p.Actor(), p.RoleNames(), in.uuid(), quarantine.ReleaseRequest{Reason: in.Body.Reason, Code: in.Body.ReasonCode,
				Recipients: in.Body.Recipients, Others: in.Body.Others, Insist: in.Body.Insist, Again: in.Body.Again})
			return &one[quarantine.Item]{Body: it}, err
		})
	type act func(context.Context, identity.Principal, uuid.UUID, string) (quarantine.Item, error)
	q := s.deps.Quarantine
	for _, d := range []struct {
		verb, summary string
		right         identity.Right
		alone         bool // done by one person where the installation allows that
		do            act
	}{
		{"approve", "Agrees to a release that another person asked for", identity.Approve, false, func(ctx context.Context, p identity.Principal, id uuid.UUID, why string) (quarantine.Item, error) {
			return q.Approve(ctx, p.Actor(), p.RoleNames(), id, why)
		}},
		{"deny", "Refuses a release that another person asked for", identity.Approve, false, func(ctx context.Context, p identity.Principal, id uuid.UUID, why string) (quarantine.Item, error) {
			return q.Deny(ctx, p.Actor(), p.RoleNames(), id, why)
		}},
		{"delete", "Deletes a held mail; its record stays", identity.Delete, true, func(ctx context.Context, p identity.Principal, id uuid.UUID, why string) (quarantine.Item, error) {
			return q.Delete(ctx, p.Actor(), p.RoleNames(), id, why)
		}},
		{"sandbox", "Asks the sandbox about the files of a held mail; nothing is released by the answer", identity.Release, false, func(ctx context.Context, p identity.Principal, id uuid.UUID, why string) (quarantine.Item, error) {
			return q.SendToSandbox(ctx, p.Actor(), p.RoleNames(), id, why)
		}},
	} {
		register(s, endpoint{http.MethodPost, "/quarantine/{id}/" + d.verb, d.verb, d.summary, d.right, 0},
			func(ctx context.Context, p identity.Principal, in *decision) (*one[quarantine.Item], error) {
				if _, err := s.item(ctx, p, in.uuid(), d.right); err != nil {
					return nil, err
				}
				if d.alone {
					if err := s.stepUp(ctx, p); err != nil {
						return nil, err
					}
				}
				it, err := d.do(ctx, p, in.uuid(), in.Body.Reason)
				return &one[quarantine.Item]{Body: it}, err
			})
	}
}

// stepUp wants the password to have been given lately for what one person does
// alone. A token has none; it was made for this.
func (s *Server) stepUp(ctx context.Context, p identity.Principal) error {
	if s.shownLately(p) {
		return nil
	}
	mode, err := s.deps.Quarantine.FourEyes(ctx)
	if err != nil {
		return err
	}
	if mode == quarantine.SingleOperator {
		return errStepUp
	}
	return nil
}

var errStepUp = huma.Error403Forbidden("step_up_required: confirm who you are first")

// shownLately says whether somebody has shown lately who they are.
func (s *Server) shownLately(p identity.Principal) bool {
	return p.TokenID != uuid.Nil || s.now().Sub(p.AuthenticatedAt) <= stepUpAge
}

// item reads an item that the caller has a right on; any other is not there.
func (s *Server) item(ctx context.Context, p identity.Principal, id uuid.UUID, right identity.Right) (quarantine.Item, error) {
	it, err := s.deps.Quarantine.Get(ctx, id)
	if err != nil {
		return it, err
	}
	if !p.Can(identity.ViewMeta, it.Workspace) {
		return quarantine.Item{}, quarantine.ErrNotFound
	}
	if !p.Can(right, it.Workspace) {
		return quarantine.Item{}, huma.Error403Forbidden("this needs the right " + string(right) + " in the mail's workspace")
	}
	return it, nil
}

type rawInput struct {
	ByID
	OwnWill
}

// getRaw sends the mail. The intent is committed before the first byte, the
// result follows.
func (s *Server) getRaw(ctx context.Context, p identity.Principal, in *rawInput) (*huma.StreamResponse, error) {
	if err := in.ownWill(); err != nil {
		return nil, err
	}
	it, err := s.item(ctx, p, in.uuid(), identity.DownloadRaw)
	if err != nil {
		return nil, err
	}
	raw, err := s.deps.Quarantine.Raw(ctx, it)
	if err != nil {
		return nil, err
	}
	ev := audit.Event{Workspace: it.Workspace, Action: audit.RawDownload, Phase: "intent", Actor: p.Actor(), Roles: p.RoleNames(), Retention: audit.Retention3Years,
		Targets:     []audit.Target{{Type: "quarantine_item", ID: it.ID.String(), Label: string(it.Class)}},
		Correlation: audit.Correlation{MailID: it.MailID.String(), ItemID: it.ID.String()}}
	if ev.ID, err = uuid.NewV7(); err == nil {
		err = s.deps.Audit.Record(ctx, ev)
	}
	if err != nil {
		raw.Close()
		return nil, fmt.Errorf("record the download: %w", err)
	}
	return &huma.StreamResponse{Body: func(c huma.Context) {
		defer raw.Close()
		c.SetHeader("Content-Type", "application/octet-stream")
		c.SetHeader("Content-Disposition", `attachment; filename="`+it.MailID.String()+`.eml"`)
		_, err := io.Copy(c.BodyWriter(), raw)
		ev.Correlation.CausationID, ev.ID, ev.Phase = ev.ID.String(), uuid.Nil, "result"
		if err != nil {
			ev.Outcome, ev.OutcomeDetail = "failure", "the content was not sent to its end"
		}
		s.deps.Audit.RecordLater(context.WithoutCancel(ctx), ev)
		if err != nil {
			// The status is out already: breaking off says that it is not whole.
			panic(http.ErrAbortHandler)
		}
	}}, nil
}
