package evidence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/approval"
	"mailward/audit"
	"mailward/internal/pg"
	"mailward/quarantine"
)

// Case is what exports are made for.
type Case struct {
	Reference string `json:"reference"` // as people name it; a new one is made
	Title     string `json:"title"`
	Purpose   string `json:"purpose"`
}

// Request is what somebody wants exported.
type Request struct {
	Items     []uuid.UUID
	Case      Case
	Reason    string
	Language  string // of the report: en or de
	LegalHold bool   // also locked after its time, until somebody takes that away
}

func (r *Request) clean() error {
	r.Case.Reference, r.Case.Title, r.Case.Purpose, r.Reason = clean(r.Case.Reference), clean(r.Case.Title), clean(r.Case.Purpose), clean(r.Reason)
	if r.Language == "" {
		r.Language = "en"
	}
	seen := map[uuid.UUID]bool{}
	var items []uuid.UUID
	for _, id := range r.Items {
		if !seen[id] {
			items = append(items, id)
		}
		seen[id] = true
	}
	r.Items = items
	switch {
	case len(r.Items) == 0:
		return fmt.Errorf("%w: it names no mail", ErrInvalid)
	case len(r.Items) > MaxItems:
		return fmt.Errorf("%w: at most %d mails", ErrTooMuch, MaxItems)
	case r.Case.Reference == "" || len(r.Case.Reference) > 100:
		return fmt.Errorf("%w: it names no case", ErrInvalid)
	case len([]rune(r.Reason)) < 3 || len(r.Reason) > 2000:
		return fmt.Errorf("%w: it has no reason", ErrInvalid)
	case r.Language != "en" && r.Language != "de":
		return fmt.Errorf("%w: the report is written in en or de", ErrInvalid)
	}
	return nil
}

// Ask puts a request on record: for a second person where the installation wants
// two, else as the decision itself. Items must all be of one workspace; the caller
// has checked that the actor may have them.
func (s *Store) Ask(ctx context.Context, actor pg.Actor, roles []string, req Request) (Export, error) {
	if err := req.clean(); err != nil {
		return Export{}, err
	}
	items, err := s.items(ctx, req.Items)
	if err != nil {
		return Export{}, err
	}
	id, err := newID()
	if err != nil {
		return Export{}, err
	}
	err = s.DB.Act(pg.WithReason(ctx, req.Reason), actor, func(ctx context.Context, tx pgx.Tx) error {
		mode, err := approval.FourEyes(ctx, tx)
		if err != nil {
			return err
		}
		if mode == approval.Required && actor.UserID == uuid.Nil {
			return ErrTwo
		}
		caseID, err := s.caseFor(ctx, tx, actor, items[0].Workspace, req.Case)
		if err != nil {
			return err
		}
		return s.write(ctx, tx, actor, roles, ask{id: id, caseID: caseID, mode: mode, items: items, Request: req})
	})
	if err != nil {
		return Export{}, fmt.Errorf("ask for an export: %w", err)
	}
	return s.Get(ctx, id)
}

// items reads what is to be exported.
func (s *Store) items(ctx context.Context, ids []uuid.UUID) (items []quarantine.Item, err error) {
	var total int64
	for _, id := range ids {
		it, err := s.Quarantine.Get(ctx, id)
		if err != nil {
			return nil, err
		}
		if it.BlobRemovedAt != nil {
			return nil, quarantine.ErrGone
		}
		if total += it.Size; total > maxBytes {
			return nil, fmt.Errorf("%w: more than %d MB", ErrTooMuch, maxBytes>>20)
		}
		if items = append(items, it); it.Workspace != items[0].Workspace {
			return nil, fmt.Errorf("%w: mails of several workspaces", ErrInvalid)
		}
	}
	return items, nil
}

// caseFor finds a case, or makes one.
func (s *Store) caseFor(ctx context.Context, tx pgx.Tx, actor pg.Actor, ws uuid.UUID, c Case) (id uuid.UUID, err error) {
	err = tx.QueryRow(ctx, findCaseSQL, ws, c.Reference).Scan(&id)
	if err == nil || !errors.Is(err, pgx.ErrNoRows) {
		return id, err
	}
	if c.Title == "" || len([]rune(c.Purpose)) < 3 {
		return id, fmt.Errorf("%w: a new case needs a title and a purpose", ErrInvalid)
	}
	if id, err = newID(); err != nil {
		return id, err
	}
	if _, err := tx.Exec(ctx, insertCaseSQL, id, ws, c.Reference, c.Title, c.Purpose, userID(actor), name(actor)); err != nil {
		return id, fmt.Errorf("make case: %w", err)
	}
	return id, nil
}

func userID(a pg.Actor) *uuid.UUID {
	if a.UserID == uuid.Nil {
		return nil
	}
	return &a.UserID
}

// ask is a request that is being written.
type ask struct {
	id, caseID uuid.UUID
	mode       string
	items      []quarantine.Item
	Request
}

// detail is exactly what will be done, as the event of the decision and the row
// both have it.
func (a ask) detail() map[string]any {
	var ids, sums []string
	for _, it := range a.items {
		ids, sums = append(ids, it.ID.String()), append(sums, it.SHA256)
	}
	return map[string]any{"export_id": a.id.String(), "case_id": a.caseID.String(), "case": a.Case.Reference, "items": ids, "sha256": sums, "language": a.Language, "legal_hold": a.LegalHold}
}

func (a ask) targets() []audit.Target {
	list := []audit.Target{{Type: "evidence_export", ID: a.id.String(), Label: a.Case.Reference}}
	for _, it := range a.items {
		list = append(list, audit.Target{Type: "quarantine_item", ID: it.ID.String(), Label: string(it.Class)})
	}
	return list
}

func (s *Store) write(ctx context.Context, tx pgx.Tx, actor pg.Actor, roles []string, a ask) error {
	detail, ws := a.detail(), a.items[0].Workspace
	var request, intent *uuid.UUID
	event, state := uuid.Nil, "approved"
	if a.mode == approval.Required {
		id, err := s.Approvals.Ask(ctx, tx, actor, roles, approval.Ask{Workspace: &ws, Kind: approval.Export, Action: audit.EvidenceRequest, Detail: detail, Targets: a.targets(), Reason: a.Reason})
		if err != nil {
			return err
		}
		request, state = &id, "requested"
	} else {
		id, err := s.Audit.Append(ctx, tx, audit.Event{Action: audit.EvidenceExecute, Phase: "intent", Workspace: ws, Actor: actor, Roles: roles, Retention: audit.Retention3Years, Reason: a.Reason,
			Targets: a.targets(), After: detail, Approval: &audit.Approval{Mode: approval.SingleOperator, RequestedBy: a.by(actor), RequestedAt: s.Now()}})
		if err != nil {
			return err
		}
		intent, event = &id, id
	}
	b, err := json.Marshal(detail)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	ids := make([]uuid.UUID, len(a.items))
	for i, it := range a.items {
		ids[i] = it.ID
	}
	var asked uuid.UUID
	err = tx.QueryRow(ctx, insertSQL, a.id, ws, a.caseID, ids, a.Language, a.LegalHold, a.Reason, string(b), a.mode, userID(actor), name(actor), request, intent, state).Scan(&asked)
	if err != nil {
		return fmt.Errorf("insert export: %w", err)
	}
	if event == uuid.Nil {
		event = asked // the intent event of the request
	}
	return s.custody(ctx, tx, custody{Export: a.id, Workspace: ws, Event: "requested", Actor: actor, Reason: a.Reason, AuditEvent: event})
}

// by is who has asked, as an approval names people.
func (a ask) by(actor pg.Actor) string {
	if actor.UserID == uuid.Nil {
		return ""
	}
	return actor.UserID.String()
}

// Decide is a second person's word on an export that waits.
func (s *Store) Decide(ctx context.Context, actor pg.Actor, roles []string, request uuid.UUID, yes bool, comment string) error {
	comment = clean(comment)
	return s.DB.Act(pg.WithReason(ctx, comment), actor, func(ctx context.Context, tx pgx.Tx) error {
		w := approval.Word{Yes: yes, Comment: comment, Action: audit.EvidenceApprove}
		state, event := "approved", "approved"
		if !yes {
			w.Action, state, event = audit.EvidenceDeny, "denied", "denied"
		}
		p, err := s.Approvals.Decide(ctx, tx, actor, roles, request, w)
		if err != nil {
			return err
		}
		var id, ws, word uuid.UUID
		if p.Kind != approval.Export {
			return approval.ErrForged
		}
		err = tx.QueryRow(ctx, ofRequestSQL, request, actor.UserID).Scan(&id, &ws, &word)
		if errors.Is(err, pgx.ErrNoRows) {
			return approval.ErrForged
		}
		if err != nil {
			return fmt.Errorf("look for the export of a request: %w", err)
		}
		if _, err := tx.Exec(ctx, decideSQL, id, state); err != nil {
			return fmt.Errorf("decide export: %w", err)
		}
		return s.custody(ctx, tx, custody{Export: id, Workspace: ws, Event: event, Actor: actor, Reason: comment, AuditEvent: word})
	})
}
