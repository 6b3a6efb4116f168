package webui

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"mailward/identity"
	"mailward/policy"
	"mailward/scanner/dlp"
)

// dlpSetBody is a set as somebody writes one.
type dlpSetBody struct {
	Name        string    `json:"name" minLength:"1" maxLength:"100"`
	Description string    `json:"description,omitempty" maxLength:"1000"`
	Direction   string    `json:"direction,omitempty" enum:"in,out,both" default:"out" doc:"of the mails that it looks into"`
	Enabled     *bool     `json:"enabled,omitempty" doc:"default true"`
	Class       *string   `json:"class,omitempty" enum:"dlp," doc:"dlp, also when left out; empty: a sign, whose score counts against each recipient's thresholds"`
	Score       *float64  `json:"score,omitempty" minimum:"0" maximum:"100" doc:"default 5"`
	Rules       dlp.Rules `json:"rules" doc:"what it looks for"`
	Workspace   string    `json:"workspace_id,omitempty" format:"uuid" doc:"of a new set; empty: the default workspace"`
	Version     *int64    `json:"version,omitempty" minimum:"1" doc:"of a change: the version that you have read; left out: whatever was there"`
}

func (b dlpSetBody) set() dlp.Set {
	x := dlp.Set{Name: b.Name, Description: b.Description, Direction: b.Direction, Enabled: b.Enabled == nil || *b.Enabled, Class: policy.DLP, Score: 5, Rules: b.Rules}
	if b.Class != nil {
		x.Class = policy.Class(*b.Class)
	}
	if b.Score != nil {
		x.Score = *b.Score
	}
	return x
}

type dlpSetInput struct{ Body dlpSetBody }

type dlpSetChange struct {
	ByID
	Body dlpSetBody
}

type dlpDocument struct {
	ByID
	Body struct {
		Name   string `json:"name" minLength:"1" maxLength:"100"`
		Text   string `json:"text,omitempty" doc:"what the document says; only hashes of it are kept"`
		File   []byte `json:"file,omitempty" doc:"the document's bytes, in base64, to know the file itself; they are not kept"`
		SHA256 string `json:"sha256,omitempty" doc:"in place of a file that is too big to send: its SHA-256"`
	}
}

type byFingerprint struct {
	ByID
	Fingerprint string `path:"fingerprint" format:"uuid"`
}

type dlpTest struct {
	Body struct {
		Text string `json:"text" maxLength:"262144"`
	}
}

// dlpSet reads a set that somebody has a right on.
func (s *Server) dlpSet(ctx context.Context, p identity.Principal, id uuid.UUID, right identity.Right) (dlp.Set, error) {
	x, err := s.deps.DLP.Get(ctx, id)
	if err == nil && !p.Can(right, x.Workspace) {
		err = dlp.ErrNotFound
	}
	return x, err
}

func (s *Server) registerDLP() {
	register(s, endpoint{http.MethodGet, "/dlp/sets", "list-dlp-sets", "What must not leave, or must not come in", identity.ViewMeta, 0},
		func(ctx context.Context, p identity.Principal, _ *struct{}) (*list[dlp.Set], error) {
			all, err := s.deps.DLP.Sets(ctx)
			if err != nil {
				return nil, err
			}
			var mine []dlp.Set
			for _, x := range all {
				if p.Can(identity.ViewMeta, x.Workspace) {
					mine = append(mine, x)
				}
			}
			return page(mine, ""), nil
		})
	register(s, endpoint{http.MethodPost, "/dlp/sets", "create-dlp-set", "Adds a set of DLP rules", identity.PolicyWrite, http.StatusCreated},
		func(ctx context.Context, p identity.Principal, in *dlpSetInput) (*one[dlp.Set], error) {
			w, err := workspaceFor(p, in.Body.Workspace, identity.PolicyWrite)
			if err != nil {
				return nil, err
			}
			x := in.Body.set()
			x.Workspace = w
			x, err = s.deps.DLP.Create(ctx, p.Actor(), x)
			return &one[dlp.Set]{Body: x}, err
		})
	register(s, endpoint{http.MethodGet, "/dlp/sets/{id}", "get-dlp-set", "One set of DLP rules", identity.ViewMeta, 0},
		func(ctx context.Context, p identity.Principal, in *ByID) (*one[dlp.Set], error) {
			x, err := s.dlpSet(ctx, p, in.uuid(), identity.ViewMeta)
			return &one[dlp.Set]{Body: x}, err
		})
	register(s, endpoint{http.MethodPut, "/dlp/sets/{id}", "put-dlp-set", "Changes a set of DLP rules", identity.PolicyWrite, 0},
		func(ctx context.Context, p identity.Principal, in *dlpSetChange) (*one[dlp.Set], error) {
			old, err := s.dlpSet(ctx, p, in.uuid(), identity.PolicyWrite)
			if err != nil {
				return nil, err
			}
			x := in.Body.set()
			x.ID, x.Workspace = old.ID, old.Workspace
			x, err = s.deps.DLP.Update(ctx, p.Actor(), x, in.Body.Version)
			return &one[dlp.Set]{Body: x}, err
		})
	register(s, endpoint{http.MethodDelete, "/dlp/sets/{id}", "delete-dlp-set", "Takes a set of DLP rules away, with the documents that it knows", identity.PolicyWrite, http.StatusNoContent},
		func(ctx context.Context, p identity.Principal, in *ByID) (*nothing, error) {
			x, err := s.dlpSet(ctx, p, in.uuid(), identity.PolicyWrite)
			if err != nil {
				return nil, err
			}
			return &nothing{}, s.deps.DLP.Delete(ctx, p.Actor(), x.ID)
		})
	s.registerDLPDocuments()
}

func (s *Server) registerDLPDocuments() {
	register(s, endpoint{http.MethodPost, "/dlp/sets/{id}/fingerprints", "add-dlp-fingerprint", "Teaches a set a document; of it only hashes are kept", identity.PolicyWrite, http.StatusCreated},
		func(ctx context.Context, p identity.Principal, in *dlpDocument) (*one[dlp.Fingerprint], error) {
			x, err := s.dlpSet(ctx, p, in.uuid(), identity.PolicyWrite)
			if err != nil {
				return nil, err
			}
			f, err := s.deps.DLP.AddFingerprint(ctx, p.Actor(), x.ID, dlp.Document{Name: in.Body.Name, Text: in.Body.Text, File: in.Body.File, SHA256: in.Body.SHA256})
			return &one[dlp.Fingerprint]{Body: f}, err
		})
	register(s, endpoint{http.MethodDelete, "/dlp/sets/{id}/fingerprints/{fingerprint}", "delete-dlp-fingerprint", "Has a set forget a document", identity.PolicyWrite, http.StatusNoContent},
		func(ctx context.Context, p identity.Principal, in *byFingerprint) (*nothing, error) {
			x, err := s.dlpSet(ctx, p, in.uuid(), identity.PolicyWrite)
			if err != nil {
				return nil, err
			}
			return &nothing{}, s.deps.DLP.DeleteFingerprint(ctx, p.Actor(), x.ID, ByID{ID: in.Fingerprint}.uuid())
		})
	register(s, endpoint{http.MethodPost, "/dlp/test", "test-dlp", "What a text would come to: numbers that all detectors find, and sets that match, enabled or not; masked, and kept nowhere", identity.ViewMeta, 0},
		func(ctx context.Context, p identity.Principal, in *dlpTest) (*one[dlp.Tested], error) {
			t, err := s.deps.DLP.Test(ctx, in.Body.Text, func(x dlp.Set) bool { return p.Can(identity.ViewMeta, x.Workspace) })
			return &one[dlp.Tested]{Body: t}, err
		})
}
