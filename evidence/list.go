package evidence

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/evidence/store"
	"mailward/internal/pg"
)

// The states of an export.
const (
	Requested = "requested" // waits for a second person
	Approved  = "approved"  // waits for the worker
	Running   = "running"
	Done      = "done"
	Failed    = "failed"
	Denied    = "denied"
)

// States are all of them.
func States() []string { return []string{Requested, Approved, Running, Done, Failed, Denied} }

// File is one file of a finished export.
type File struct {
	Name   string       `json:"name"`
	Bytes  int64        `json:"bytes"`
	SHA256 string       `json:"sha256"`
	Object store.Object `json:"object"`
}

// Mail is what the list shows of one.
type Mail struct {
	ID      uuid.UUID `json:"id"`
	Subject string    `json:"subject"`
	From    string    `json:"from"`
	Class   string    `json:"class"`
	SHA256  string    `json:"sha256"`
}

// Export is one export.
type Export struct {
	ID            uuid.UUID   `json:"id"`
	EvidenceID    string      `json:"evidence_id"`
	Workspace     uuid.UUID   `json:"workspace_id"`
	CaseID        uuid.UUID   `json:"case_id"`
	Reference     string      `json:"case"`
	Title         string      `json:"case_title"`
	Purpose       string      `json:"purpose"`
	Items         []uuid.UUID `json:"item_ids"`
	Language      string      `json:"language"`
	LegalHold     bool        `json:"legal_hold"`
	Reason        string      `json:"reason"`
	Mode          string      `json:"four_eyes"`
	RequestedBy   *uuid.UUID  `json:"requested_by"`
	RequestedName string      `json:"requested_name"`
	RequestID     *uuid.UUID  `json:"request_id" doc:"of the request that a second person decides on"`
	Intent        uuid.UUID   `json:"intent_event_id"`
	State         string      `json:"state" enum:"requested,approved,running,done,failed,denied"`
	Step          string      `json:"step" doc:"of one that runs: read, report, store, seal, receipt"`
	Error         string      `json:"error"`
	ReceiptID     string      `json:"receipt_id"`
	URI           string      `json:"uri"`
	WORM          string      `json:"worm" doc:"s3-compliance, or none: whoever is root where it lies can change it"`
	RetainUntil   *time.Time  `json:"retain_until"`
	Files         []File      `json:"files"`
	CreatedAt     time.Time   `json:"created_at"`
	FinishedAt    *time.Time  `json:"finished_at"`
	ApproverEmail string      `json:"approver_email"`
	ApproverName  string      `json:"-"`
	Approver      *uuid.UUID  `json:"approver_id"`
	DecidedAt     *time.Time  `json:"decided_at"`
	Mails         []Mail      `json:"mails"`
}

// approver is the second person, as people read it.
func (e Export) approver() string {
	if e.State == Denied || e.State == Requested {
		return ""
	}
	if e.ApproverName != "" && e.ApproverEmail != "" {
		return e.ApproverName + " <" + e.ApproverEmail + ">"
	}
	return e.ApproverEmail
}

// Filter selects exports. Nil workspaces are all.
type Filter struct {
	Workspaces []uuid.UUID
	Query      string
	State      string
	Item       uuid.UUID
	Cursor     string
	Limit      int
	id         uuid.UUID
}

// Page is a part of the list, the newest first.
type Page struct {
	Items []Export
	Next  string
}

// List reads a page.
func (s *Store) List(ctx context.Context, f Filter) (Page, error) {
	if f.Limit <= 0 || f.Limit > 500 {
		f.Limit = 50
	}
	ptr := func(id uuid.UUID) *uuid.UUID {
		if id == uuid.Nil {
			return nil
		}
		return &id
	}
	var after *uuid.UUID
	if f.Cursor != "" {
		id, err := uuid.Parse(f.Cursor)
		if err != nil {
			return Page{}, fmt.Errorf("%w: no such page", ErrNotFound)
		}
		after = &id
	}
	rows, err := s.DB.Query(ctx, listSQL, pg.PlanAnew, f.Workspaces, clean(f.Query), f.State, after, f.Limit+1, ptr(f.id), ptr(f.Item))
	if err != nil {
		return Page{}, fmt.Errorf("list exports: %w", err)
	}
	items, err := pgx.CollectRows(rows, scanExport)
	if err != nil {
		return Page{}, fmt.Errorf("list exports: %w", err)
	}
	p := Page{Items: items}
	if len(items) > f.Limit {
		p.Items = items[:f.Limit]
		p.Next = p.Items[f.Limit-1].ID.String()
	}
	return p, nil
}

func scanExport(row pgx.CollectableRow) (e Export, err error) {
	var files, mails []byte
	err = row.Scan(&e.ID, &e.EvidenceID, &e.Workspace, &e.CaseID, &e.Reference, &e.Title, &e.Purpose, &e.Items, &e.Language, &e.LegalHold, &e.Reason, &e.Mode, &e.RequestedBy, &e.RequestedName,
		&e.RequestID, &e.Intent, &e.State, &e.Step, &e.Error, &e.ReceiptID, &e.URI, &e.WORM, &e.RetainUntil, &files, &e.CreatedAt, &e.FinishedAt, &e.ApproverEmail, &e.ApproverName, &e.Approver, &e.DecidedAt, &mails)
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal(files, &e.Files); err != nil {
		return e, err
	}
	return e, json.Unmarshal(mails, &e.Mails)
}

// Get reads one export.
func (s *Store) Get(ctx context.Context, id uuid.UUID) (Export, error) {
	p, err := s.List(ctx, Filter{id: id, Limit: 1})
	if err != nil {
		return Export{}, err
	}
	if len(p.Items) == 0 {
		return Export{}, ErrNotFound
	}
	return p.Items[0], nil
}

// Cases lists the newest cases, for choosing one.
func (s *Store) Cases(ctx context.Context, workspaces []uuid.UUID) ([]Case, error) {
	rows, err := s.DB.Query(ctx, casesSQL, workspaces, 100)
	if err != nil {
		return nil, fmt.Errorf("list cases: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Case])
	if err != nil {
		return nil, fmt.Errorf("list cases: %w", err)
	}
	return list, nil
}

// Step is one of the chain of custody.
type Step struct {
	At      time.Time `json:"at"`
	Event   string    `json:"event"`
	ActorID string    `json:"actor_id"`
	Actor   string    `json:"actor"`
	Place   string    `json:"place"`
	Reason  string    `json:"reason"`
	EventID uuid.UUID `json:"audit_event_id"`
	Seq     *uint64   `json:"audit_seq"`
}

// Custody is the chain of an export, the first step first.
func (s *Store) Custody(ctx context.Context, export uuid.UUID) ([]Step, error) {
	rows, err := s.DB.Query(ctx, custodySQL, export)
	if err != nil {
		return nil, fmt.Errorf("read chain of custody: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Step])
	if err != nil {
		return nil, fmt.Errorf("read chain of custody: %w", err)
	}
	return list, nil
}
