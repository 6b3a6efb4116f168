package webui

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"mailward/identity"
	"mailward/quarantine"
)

// Bounds of how many scans and late hits are listed.
const (
	scansShown = 20
	hitsShown  = 100
)

type coverageAsk struct {
	Body struct {
		From   time.Time `json:"from" doc:"mail that came not before"`
		To     time.Time `json:"to" doc:"and before"`
		Reason string    `json:"reason" minLength:"3" maxLength:"500"`
	}
}

type coverageBegun struct {
	ID uuid.UUID `json:"id"`
}

// spacesWith are the workspaces in which somebody has a right.
func (s *Server) spacesWith(ctx context.Context, p identity.Principal, right identity.Right) ([]uuid.UUID, error) {
	list, all := p.Workspaces(right)
	if !all {
		return list, nil
	}
	spaces, err := s.deps.Identity.ListWorkspaces(ctx, nil)
	return mapped(spaces, func(w identity.Workspace) uuid.UUID { return w.ID }), err
}

func (s *Server) registerCoverage() {
	c := s.deps.Coverage
	register(s, endpoint{http.MethodPost, "/health/coverage/scans", "start-coverage-scan", "Scans mail again that was decided without an engine and is still here", identity.Release, http.StatusCreated},
		func(ctx context.Context, p identity.Principal, in *coverageAsk) (*one[coverageBegun], error) {
			spaces, err := s.spacesWith(ctx, p, identity.Release)
			if err != nil {
				return nil, err
			}
			id, err := c.Start(ctx, p.Actor(), quarantine.CoverageAsk{Workspaces: spaces, From: in.Body.From, To: in.Body.To, Reason: in.Body.Reason, Author: whoActs(p).Name})
			return &one[coverageBegun]{coverageBegun{id}}, err
		})
	register(s, endpoint{http.MethodGet, "/health/coverage/scans", "list-coverage-scans", "The newest of these scans", identity.ViewMeta, 0},
		func(ctx context.Context, p identity.Principal, _ *struct{}) (*list[quarantine.CoverageScan], error) {
			spaces, err := s.spacesWith(ctx, p, identity.ViewMeta)
			if err != nil {
				return nil, err
			}
			got, err := c.Scans(ctx, spaces, scansShown)
			return page(got, ""), err
		})
	register(s, endpoint{http.MethodGet, "/health/coverage/hits", "list-coverage-hits", "Mail that these scans found to be worse, with who has it since when", identity.ViewMeta, 0},
		func(ctx context.Context, p identity.Principal, _ *struct{}) (*list[quarantine.LateHit], error) {
			spaces, err := s.spacesWith(ctx, p, identity.ViewMeta)
			if err != nil {
				return nil, err
			}
			got, err := c.Hits(ctx, spaces, hitsShown)
			return page(got, ""), err
		})
}
