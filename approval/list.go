package approval

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

// Request is one act that waits or waited, as the inbox shows it.
type Request struct {
	ID               uuid.UUID       `json:"id"`
	Workspace        *uuid.UUID      `json:"workspace_id" doc:"null: the whole installation"`
	WorkspaceName    string          `json:"workspace"`
	Kind             Kind            `json:"kind" enum:"release,role_grant,export,retention,legal_hold,release_rule"`
	State            string          `json:"state" enum:"requested,approved,denied,expired"`
	ItemID           *uuid.UUID      `json:"item_id" doc:"of a release"`
	Detail           json.RawMessage `json:"detail" doc:"exactly what will be done"`
	RequestedBy      uuid.UUID       `json:"requested_by"`
	RequestedByEmail string          `json:"requested_by_email"`
	Reason           string          `json:"reason"`
	CreatedAt        time.Time       `json:"created_at"`
	DecidedBy        *uuid.UUID      `json:"decided_by"`
	DecidedByEmail   string          `json:"decided_by_email"`
	Comment          string          `json:"comment"`
	DecidedAt        *time.Time      `json:"decided_at"`
}

// Filter selects requests.
type Filter struct {
	ID           uuid.UUID   // only this one
	Workspaces   []uuid.UUID // only of these
	Installation bool        // and those of no workspace
	Kind         Kind
	State        string // requested, decided or "" for all
	Query        string // a part of the reason, of who asked, or of what will be done
	Cursor       string // id of the last one of the page before
	Limit        int
}

// Page is a part of a list, the newest first.
type Page struct {
	Items []Request
	Next  string
}

// List is the inbox.
func (s *Store) List(ctx context.Context, f Filter) (Page, error) {
	var after *uuid.UUID
	if id, err := uuid.Parse(f.Cursor); err == nil {
		after = &id
	} else if f.Cursor != "" {
		return Page{}, fmt.Errorf("%w: no such page", ErrNotFound)
	}
	if f.Limit <= 0 {
		f.Limit = 50
	}
	var only *uuid.UUID
	if f.ID != uuid.Nil {
		only = &f.ID
	}
	rows, err := s.db.Query(ctx, listSQL, pg.PlanAnew, f.Workspaces, f.Installation, string(f.Kind), f.State, f.Query, after, f.Limit+1, only)
	if err != nil {
		return Page{}, fmt.Errorf("list requests: %w", err)
	}
	items, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Request])
	if err != nil {
		return Page{}, fmt.Errorf("list requests: %w", err)
	}
	p := Page{Items: items}
	if len(items) > f.Limit {
		p.Items = items[:f.Limit]
		p.Next = p.Items[f.Limit-1].ID.String()
	}
	return p, nil
}

// Get reads one request that the filter lets through.
func (s *Store) Get(ctx context.Context, f Filter) (Request, error) {
	p, err := s.List(ctx, f)
	if err != nil {
		return Request{}, err
	}
	if f.ID == uuid.Nil || len(p.Items) != 1 {
		return Request{}, ErrNotFound
	}
	return p.Items[0], nil
}

// Waiting counts what somebody could decide on now: open requests of others.
func (s *Store) Waiting(ctx context.Context, person uuid.UUID, workspaces []uuid.UUID, installation bool) (n int, err error) {
	if err := s.db.QueryRow(ctx, countSQL, workspaces, installation, person).Scan(&n); err != nil {
		return 0, fmt.Errorf("count requests: %w", err)
	}
	return n, nil
}
