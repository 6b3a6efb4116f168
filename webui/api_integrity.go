package webui

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"mailward/audit/seal"
	"mailward/identity"
)

// SealState is how the record is kept.
type SealState struct {
	Origin    string       `json:"origin"`
	Size      uint64       `json:"size" doc:"events under the newest checkpoint"`
	SignedAt  *time.Time   `json:"signed_at"`
	Unsealed  int64        `json:"unsealed" doc:"events that are numbered and not under a checkpoint yet"`
	Refused   string       `json:"refused" doc:"why nothing is signed any more; empty: it is"`
	Anchors   []AnchorInfo `json:"anchors"`
	Findings  []string     `json:"findings" doc:"what the self-check of the guards found"`
	CheckedAt time.Time    `json:"checked_at" doc:"when the guards were looked at"`
}

// AnchorInfo is somebody who is given checkpoints.
type AnchorInfo struct {
	Name         string     `json:"name"`
	Kind         string     `json:"kind"`
	Target       string     `json:"target"`
	LastOK       *time.Time `json:"last_ok"`
	NextDue      *time.Time `json:"next_due" doc:"null: with the next checkpoint"`
	FailingSince *time.Time `json:"failing_since"`
	Late         bool       `json:"late"`
	Detail       string     `json:"detail"`
}

// CheckInfo is a check of the whole record.
type CheckInfo struct {
	State       string     `json:"state" enum:"none,running,good,changed,unknown"`
	Events      int64      `json:"events" doc:"checked so far"`
	Total       int64      `json:"total"`
	Checkpoints int        `json:"checkpoints"`
	Problem     string     `json:"problem" doc:"the first thing that does not fit"`
	StartedAt   *time.Time `json:"started_at"`
	EndedAt     *time.Time `json:"ended_at"`
}

// Erasure is what an erasure has done, or would do.
type Erasure struct {
	Erased bool  `json:"erased"`
	Values int64 `json:"values"`
	Events int64 `json:"events,omitempty"`
}

func (s *Server) registerIntegrityAPI() {
	register(s, endpoint{http.MethodGet, "/audit/seal", "get-audit-seal", "How the record is sealed: head, anchors with what is due, guards", identity.AuditRead, 0}, s.getSealState)
	register(s, endpoint{http.MethodGet, "/audit/verify", "get-audit-verify", "How far the check of the whole record is (of this process)", identity.AuditRead, 0}, s.getCheck)
	register(s, endpoint{http.MethodPost, "/audit/verify", "start-audit-verify", "Check the whole record, unless that is under way already", identity.AuditRead, http.StatusAccepted}, s.postCheck)
	register(s, endpoint{http.MethodPost, "/audit/erasures", "erase-personal-value", "Erase an address from all events, or say what that would do", identity.AuditErase, 0}, s.postErasure)
}

// everywhere wants the right for the whole installation.
func everywhere(p identity.Principal, right identity.Right) error {
	if _, all := p.Workspaces(right); !all {
		return huma.Error403Forbidden("this needs the right " + string(right) + " for the whole installation")
	}
	return nil
}

func (s *Server) disposes(ctx context.Context, p identity.Principal) error {
	ok, err := disposesOf(ctx, s.deps.Identity, p)
	if err == nil && !ok {
		err = huma.Error403Forbidden("this needs the rights audit_read for the whole installation and audit_erase in each workspace")
	}
	return err
}

func (s *Server) getSealState(ctx context.Context, p identity.Principal, _ *struct{}) (*body[SealState], error) {
	if err := everywhere(p, identity.AuditRead); err != nil {
		return nil, err
	}
	st, err := s.deps.Seal.Status(ctx)
	if err != nil {
		return nil, err
	}
	out := SealState{Origin: st.Origin, Size: st.Size, SignedAt: st.SignedAt, Unsealed: st.Unsealed, Refused: st.Refused, Anchors: []AnchorInfo{}}
	for _, a := range st.Anchors {
		out.Anchors = append(out.Anchors, anchorInfo(a))
	}
	found, at, err := s.deps.Audit.Checked(ctx)
	if err != nil {
		return nil, err
	}
	out.Findings, out.CheckedAt = notNil(found), at.UTC()
	return &body[SealState]{out}, nil
}

func anchorInfo(a seal.AnchorStatus) AnchorInfo {
	i := AnchorInfo{Name: a.Name, Kind: a.Kind, Target: a.Target, LastOK: a.LastOK, FailingSince: a.FailingSince, Late: a.Late, Detail: a.Detail}
	if !a.Next.IsZero() {
		i.NextDue = &a.Next
	}
	return i
}

func (s *Server) getCheck(_ context.Context, p identity.Principal, _ *struct{}) (*body[CheckInfo], error) {
	if err := everywhere(p, identity.AuditRead); err != nil {
		return nil, err
	}
	c := s.pages.checking.get()
	out := CheckInfo{State: "good", Events: c.Events, Total: c.Total, Checkpoints: c.Checkpoints, Problem: c.Problem}
	switch {
	case c.Running:
		out.State = "running"
	case c.Started.IsZero():
		out.State = "none"
	case c.Problem != "":
		out.State = "changed"
	case c.Failed != "":
		out.State = "unknown"
	}
	if !c.Started.IsZero() {
		out.StartedAt = &c.Started
	}
	if !c.Ended.IsZero() {
		out.EndedAt = &c.Ended
	}
	return &body[CheckInfo]{out}, nil
}

func (s *Server) postCheck(ctx context.Context, p identity.Principal, _ *struct{}) (*body[CheckInfo], error) {
	if err := everywhere(p, identity.AuditRead); err != nil {
		return nil, err
	}
	if err := s.pages.checking.startCheck(ctx, s.deps.Audit, s.deps.Seal, p.Actor(), p.RoleNames(), s.now); err != nil {
		return nil, err
	}
	return s.getCheck(ctx, p, nil)
}

func (s *Server) postErasure(ctx context.Context, p identity.Principal, in *struct {
	Body struct {
		Value      string `json:"value" minLength:"1" maxLength:"320" doc:"mail or IP address"`
		LegalBasis string `json:"legal_basis" minLength:"1" maxLength:"200"`
		Reason     string `json:"reason" minLength:"3" maxLength:"500"`
		DryRun     bool   `json:"dry_run,omitempty" doc:"say what would go, and erase nothing"`
	}
}) (*body[Erasure], error) {
	if err := s.disposes(ctx, p); err != nil {
		return nil, err
	}
	b := in.Body
	if b.DryRun {
		values, events, err := s.deps.Audit.CountPersonal(ctx, b.Value)
		return &body[Erasure]{Erasure{Values: values, Events: events}}, err
	}
	if err := s.fresh(p); err != nil {
		return nil, err
	}
	n, err := s.deps.Audit.Erase(ctx, p.Actor(), b.Value, b.LegalBasis, b.Reason)
	return &body[Erasure]{Erasure{Erased: true, Values: n}}, err
}
