package webui

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"mailward/evidence"
	"mailward/identity"
	"mailward/quarantine"
)

type exportInput struct {
	ByID
	Body struct {
		Case      string   `json:"case" minLength:"1" maxLength:"100" doc:"as people name it; a new one needs case_title and purpose"`
		Title     string   `json:"case_title,omitempty" maxLength:"300"`
		Purpose   string   `json:"purpose,omitempty" maxLength:"500"`
		Reason    string   `json:"reason" minLength:"3" maxLength:"2000" doc:"why; it goes on record and into the report"`
		Language  string   `json:"language,omitempty" enum:"en,de" default:"en" doc:"of the report"`
		LegalHold bool     `json:"legal_hold,omitempty" doc:"locked also after its time (Object Lock only)"`
		Items     []string `json:"items,omitempty" maxItems:"49" doc:"more held mails of the same workspace, for one export of a set"`
	}
}

type exportFilter struct {
	Paging
	Query string `query:"q" maxLength:"200" doc:"part of evidence id, case, reason, requester, subject, sender, hash or receipt"`
	State string `query:"state" enum:"requested,approved,running,done,failed,denied"`
	Item  string `query:"item" format:"uuid" doc:"exports of this held mail"`
}

// exportDetail is an export with its chain of custody.
type exportDetail struct {
	evidence.Export
	Custody []evidence.Step `json:"custody" nullable:"false"`
}

type exportFile struct {
	ByID
	OwnWill
	Name string `path:"name" maxLength:"200" doc:"of a file, with / as %2F; bundle.zip for all of them"`
}

// export reads an export that the caller has a right on; any other is not there.
func (s *Server) export(ctx context.Context, p identity.Principal, id uuid.UUID, right identity.Right) (evidence.Export, error) {
	e, err := s.deps.Evidence.Get(ctx, id)
	if err != nil {
		return e, err
	}
	if !p.Can(identity.ViewMeta, e.Workspace) {
		return evidence.Export{}, evidence.ErrNotFound
	}
	if !p.Can(right, e.Workspace) {
		return evidence.Export{}, huma.Error403Forbidden("this needs the right " + string(right) + " in the export's workspace")
	}
	return e, nil
}

func (s *Server) registerEvidence() {
	register(s, endpoint{http.MethodPost, "/quarantine/{id}/export", "export-evidence", "Exports held mail as evidence for a case; a second person has to agree where the installation wants two", identity.DownloadRaw, http.StatusAccepted}, s.postExport)
	register(s, endpoint{http.MethodGet, "/exports", "list-exports", "Exports of evidence, newest first", identity.ViewMeta, 0},
		func(ctx context.Context, p identity.Principal, in *exportFilter) (*list[evidence.Export], error) {
			ws, _, err := s.deps.Identity.WorkspacesOf(ctx, p, identity.ViewMeta)
			if err != nil {
				return nil, err
			}
			f := evidence.Filter{Workspaces: append([]uuid.UUID{}, ws...), Query: in.Query, State: in.State, Cursor: in.Cursor, Limit: in.Limit}
			if id, err := uuid.Parse(in.Item); err == nil {
				f.Item = id
			}
			got, err := s.deps.Evidence.List(ctx, f)
			return page(got.Items, got.Next), err
		})
	register(s, endpoint{http.MethodGet, "/exports/{id}", "get-export", "One export with its chain of custody", identity.ViewMeta, 0},
		func(ctx context.Context, p identity.Principal, in *ByID) (*one[exportDetail], error) {
			e, err := s.export(ctx, p, in.uuid(), identity.ViewMeta)
			if err != nil {
				return nil, err
			}
			chain, err := s.deps.Evidence.Custody(ctx, e.ID)
			if chain == nil {
				chain = []evidence.Step{}
			}
			return &one[exportDetail]{Body: exportDetail{e, chain}}, err
		})
	register(s, endpoint{http.MethodGet, "/exports/{id}/files/{name}", "get-export-file", "A file of an export, or all; the download is on record and the hash compared before it begins", identity.DownloadRaw, 0},
		s.getExportFile, func(op *huma.Operation) {
			op.Responses = map[string]*huma.Response{"200": {Description: "The file", Content: map[string]*huma.MediaType{"application/octet-stream": {}}}}
		})
}

func (s *Server) postExport(ctx context.Context, p identity.Principal, in *exportInput) (*one[evidence.Export], error) {
	req := evidence.Request{Items: []uuid.UUID{in.uuid()}, Case: evidence.Case{Reference: in.Body.Case, Title: in.Body.Title, Purpose: in.Body.Purpose}, Reason: in.Body.Reason, Language: in.Body.Language, LegalHold: in.Body.LegalHold}
	for _, more := range in.Body.Items {
		id, err := uuid.Parse(more)
		if err != nil {
			return nil, quarantine.ErrNotFound
		}
		req.Items = append(req.Items, id)
	}
	for _, id := range req.Items {
		if _, err := s.item(ctx, p, id, identity.DownloadRaw); err != nil {
			return nil, err
		}
	}
	if err := s.stepUp(ctx, p); err != nil {
		return nil, err
	}
	e, err := s.deps.Evidence.Ask(ctx, p.Actor(), p.RoleNames(), req)
	return &one[evidence.Export]{Body: e}, err
}

// bundleName stands for all files.
const bundleName = "bundle.zip"

func (s *Server) getExportFile(ctx context.Context, p identity.Principal, in *exportFile) (*huma.StreamResponse, error) {
	if err := in.ownWill(); err != nil {
		return nil, err
	}
	e, err := s.export(ctx, p, in.uuid(), identity.DownloadRaw)
	if err != nil {
		return nil, err
	}
	name, err := url.PathUnescape(in.Name) // a name with / comes as %2F
	if err != nil {
		return nil, evidence.ErrNotFound
	}
	if name == bundleName {
		name = ""
	}
	d, err := s.deps.Evidence.Open(ctx, p.Actor(), p.RoleNames(), e, name)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(c huma.Context) {
		c.SetHeader("Content-Type", "application/octet-stream")
		c.SetHeader("Content-Disposition", `attachment; filename="`+d.FileName()+`"`)
		if d.Bytes > 0 {
			c.SetHeader("Content-Length", strconv.FormatInt(d.Bytes, 10))
		}
		if err := d.Send(c.BodyWriter()); err != nil {
			s.log.Warn("evidence not sent to its end", "export", e.ID, "error", err)
			panic(http.ErrAbortHandler) // the status is out already
		}
	}}, nil
}

// evidenceProblem is the status of an error of the exports; nil: it is none.
func evidenceProblem(err error) error {
	switch {
	case errors.Is(err, evidence.ErrNotFound):
		return huma.Error404NotFound("there is no such thing, or it is not yours to see")
	case errors.Is(err, evidence.ErrState):
		return huma.Error409Conflict("the export is not done")
	case errors.Is(err, evidence.ErrDamaged):
		return huma.Error409Conflict("a stored file is not what was exported; this is on record, and nothing of it is given out")
	case errors.Is(err, evidence.ErrTooMuch), errors.Is(err, evidence.ErrInvalid):
		return huma.Error422UnprocessableEntity(publicText(err))
	}
	return nil
}
