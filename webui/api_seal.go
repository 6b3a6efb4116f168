package webui

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"mailward/audit"
	"mailward/audit/proof"
	"mailward/audit/seal"
	"mailward/identity"
)

// Checkpoint is a signed head of the audit's tree.
type Checkpoint struct {
	Origin   string    `json:"origin"`
	Size     uint64    `json:"size" doc:"how many events it covers"`
	Root     []byte    `json:"root"`
	SignedAt time.Time `json:"signed_at"`
	Note     string    `json:"note" doc:"C2SP signed note"`
	Keys     []SealKey `json:"keys" doc:"every key that has signed, the oldest first"`
}

// SealKey is a public key of checkpoints.
type SealKey struct {
	ID        string `json:"id"`
	Algorithm string `json:"algorithm"`
	VKey      string `json:"vkey" doc:"as C2SP writes it: NAME+ID+BASE64"`
}

// InclusionProof shows that one event is under a checkpoint (RFC 6962 §2.1.1).
type InclusionProof struct {
	Event    uuid.UUID `json:"event"`
	Seq      uint64    `json:"seq"`
	LeafHash string    `json:"leaf_hash"`
	Size     uint64    `json:"size"`
	Root     []byte    `json:"root"`
	Proof    [][]byte  `json:"proof"`
	Note     string    `json:"note"`
	Text     string    `json:"text" doc:"all of it as a file (c2sp.org/tlog-proof)"`
}

// ConsistencyProof shows that one tree has grown out of another (RFC 6962 §2.1.2).
type ConsistencyProof struct {
	Origin   string   `json:"origin"`
	From     uint64   `json:"from"`
	FromRoot []byte   `json:"from_root"`
	To       uint64   `json:"to"`
	ToRoot   []byte   `json:"to_root"`
	Proof    [][]byte `json:"proof"`
}

type body[T any] struct{ Body T }

func (s *Server) registerSeal() {
	register(s, endpoint{http.MethodGet, "/audit/checkpoint", "get-audit-checkpoint", "The newest signed head of the audit", identity.AuditRead, 0}, s.getCheckpoint)
	register(s, endpoint{http.MethodGet, "/audit/proof", "get-audit-proof", "Proof that an event is under the newest checkpoint; 409 while it is not sealed yet (a minute at most)", identity.AuditRead, 0}, s.getInclusion)
	register(s, endpoint{http.MethodGet, "/audit/consistency", "get-audit-consistency", "Proof that the record of one size is the beginning of that of another", identity.AuditRead, 0}, s.getConsistency)
	register(s, endpoint{http.MethodGet, "/audit/anchors", "list-audit-anchors", "Receipts of those who were given checkpoints, newest first", identity.AuditRead, 0}, s.getAnchors)
}

func (s *Server) getCheckpoint(ctx context.Context, _ identity.Principal, _ *struct{}) (*body[Checkpoint], error) {
	c, err := s.deps.Seal.Last(ctx)
	if err != nil {
		return nil, sealProblem(err)
	}
	out := Checkpoint{Origin: c.Origin, Size: c.Size, Root: c.Root, SignedAt: c.SignedAt.UTC(), Note: c.Note}
	if out.Keys, err = sealKeys(ctx, s.deps.Seal, c.Origin); err != nil {
		return nil, err
	}
	return &body[Checkpoint]{out}, nil
}

// sealKeys are all keys that have signed, the oldest first.
func sealKeys(ctx context.Context, sealer *seal.Sealer, origin string) (out []SealKey, err error) {
	keys, err := sealer.PublicKeys(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		v, err := k.VKey(origin)
		if err != nil {
			return nil, err
		}
		out = append(out, SealKey{ID: k.ID(), Algorithm: k.Algorithm, VKey: v})
	}
	return out, nil
}

// getInclusion is for events that the caller may see.
func (s *Server) getInclusion(ctx context.Context, p identity.Principal, in *struct {
	Event uuid.UUID `query:"event" required:"true" doc:"id of the event"`
}) (*body[InclusionProof], error) {
	row, err := s.deps.Audit.Get(ctx, in.Event)
	if err != nil {
		return nil, err
	}
	if list, all := p.Workspaces(identity.AuditRead); !all && !inWorkspaces(row, list) {
		return nil, audit.ErrNotFound
	}
	got, err := s.deps.Seal.Include(ctx, in.Event)
	if err != nil {
		return nil, sealProblem(err)
	}
	return &body[InclusionProof]{InclusionProof{Event: in.Event, Seq: got.Seq, LeafHash: hex.EncodeToString(got.Leaf), Size: got.Size, Root: got.Root,
		Proof: notNil(got.Path), Note: got.Note, Text: proof.Text(got.Seq, got.Path, got.Note)}}, nil
}

// inWorkspaces says whether an event belongs to one of them.
func inWorkspaces(row audit.Row, list []uuid.UUID) bool {
	ws, _ := row.Fields()["workspace_id"].(string)
	for _, id := range list {
		if ws == id.String() {
			return true
		}
	}
	return false
}

// notNil has JSON say [] and not null.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func (s *Server) getConsistency(ctx context.Context, _ identity.Principal, in *struct {
	From uint64 `query:"from" required:"true" minimum:"1" doc:"size of the earlier tree"`
	To   uint64 `query:"to" doc:"size of the later tree; default: the newest checkpoint"`
}) (*body[ConsistencyProof], error) {
	a, b, path, err := s.deps.Seal.Consist(ctx, in.From, in.To)
	if err != nil {
		return nil, sealProblem(err)
	}
	return &body[ConsistencyProof]{ConsistencyProof{Origin: b.Origin, From: a.Size, FromRoot: a.Root, To: b.Size, ToRoot: b.Root, Proof: notNil(path)}}, nil
}

type anchorPage struct {
	Items      []seal.Receipt `json:"items"`
	NextCursor string         `json:"next_cursor"`
}

func (s *Server) getAnchors(ctx context.Context, p identity.Principal, in *struct {
	Cursor string `query:"cursor" maxLength:"36"`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
}) (*body[anchorPage], error) {
	// Where checkpoints go is the installation's business.
	if _, all := p.Workspaces(identity.AuditRead); !all {
		return nil, huma.Error403Forbidden("this needs the right audit_read for the whole installation")
	}
	var before *uuid.UUID
	if in.Cursor != "" {
		id, err := uuid.Parse(in.Cursor)
		if err != nil {
			return nil, audit.ErrBadCursor
		}
		before = &id
	}
	list, err := s.deps.Seal.Receipts(ctx, before, in.Limit+1, false)
	if err != nil {
		return nil, err
	}
	page := anchorPage{Items: notNil(list)}
	if len(list) > in.Limit {
		page.Items = list[:in.Limit]
		page.NextCursor = page.Items[in.Limit-1].ID.String()
	}
	return &body[anchorPage]{page}, nil
}

// sealProblem chooses the answers of this file.
func sealProblem(err error) error {
	switch {
	case errors.Is(err, seal.ErrNotSealed):
		return huma.Error409Conflict("this is not sealed yet: a checkpoint is signed each minute")
	case errors.Is(err, proof.ErrTooShort):
		return huma.Error422UnprocessableEntity("the sizes must be 1 or more, in order, and not beyond the newest checkpoint")
	}
	return err
}
