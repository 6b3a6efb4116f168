package ledger

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
	"mailward/policy"
)

// Filter selects mails. Empty fields select all; Workspaces must be given.
type Filter struct {
	Workspaces []uuid.UUID
	Query      string // part of subject, sender or recipient; or an id, message id or hash
	Classes    []policy.Class
	Actions    []policy.Action
	Direction  policy.Direction // "": both
	From, To   time.Time
	Cursor     string
	Limit      int // default 50, at most 500
}

// Page is one page of mails, newest first.
type Page struct {
	Items []Row
	Next  string
}

// List reads one page.
func (l *Ledger) List(ctx context.Context, f Filter) (Page, error) {
	var cursor *uuid.UUID
	if f.Cursor != "" {
		id, err := uuid.Parse(f.Cursor)
		if err != nil {
			return Page{}, ErrBadCursor
		}
		cursor = &id
	}
	if f.Limit <= 0 {
		f.Limit = 50
	}
	f.Limit = min(f.Limit, 500)
	q := clean(strings.TrimSpace(f.Query))
	like := ""
	if q != "" {
		like = "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(strings.ToLower(q)) + "%"
	}
	var classes, actions []string
	for _, c := range f.Classes {
		classes = append(classes, string(c))
	}
	for _, a := range f.Actions {
		actions = append(actions, string(a))
	}
	if f.Workspaces == nil {
		f.Workspaces = []uuid.UUID{}
	}
	rows, err := l.db.Query(ctx, listSQL, pg.PlanAnew, f.Workspaces, q, like, classes, actions, pg.NullTime(f.From), pg.NullTime(f.To), cursor, f.Limit+1, string(f.Direction))
	if err != nil {
		return Page{}, fmt.Errorf("list mails: %w", err)
	}
	items, err := pgx.CollectRows(rows, scanRow)
	if err != nil {
		return Page{}, fmt.Errorf("list mails: %w", err)
	}
	var p Page
	if len(items) > f.Limit {
		items = items[:f.Limit]
		p.Next = items[f.Limit-1].ID.String()
	}
	p.Items = items
	return p, nil
}

// Get reads one mail and what became of its copies, in the order of events.
func (l *Ledger) Get(ctx context.Context, id uuid.UUID) (Row, []Outcome, error) {
	rows, err := l.db.Query(ctx, getSQL, id)
	if err != nil {
		return Row{}, nil, fmt.Errorf("read mail: %w", err)
	}
	items, err := pgx.CollectRows(rows, scanRow)
	if err != nil {
		return Row{}, nil, fmt.Errorf("read mail: %w", err)
	}
	if len(items) == 0 {
		return Row{}, nil, ErrNotFound
	}
	rows, err = l.db.Query(ctx, outcomesSQL, id)
	if err != nil {
		return Row{}, nil, fmt.Errorf("read outcomes of mail: %w", err)
	}
	outcomes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Outcome])
	return items[0], outcomes, err
}

// Decisions reads what was decided since from, newest first, without the raw
// headers: up to limit rows that are older than the cursor, uuid.Nil for the
// first ones.
func (l *Ledger) Decisions(ctx context.Context, workspaces []uuid.UUID, from time.Time, cursor uuid.UUID, limit int) ([]Row, error) {
	var before *uuid.UUID
	if cursor != uuid.Nil {
		before = &cursor
	}
	rows, err := l.db.Query(ctx, decisionsSQL, pg.PlanAnew, workspaces, from, before, limit)
	if err != nil {
		return nil, fmt.Errorf("read decisions: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanRow)
	if err != nil {
		return nil, fmt.Errorf("read decisions: %w", err)
	}
	return list, nil
}

func scanRow(row pgx.CollectableRow) (r Row, err error) {
	var ip *string
	var sum, recipients, reasons, findings, engines, parts []byte
	err = row.Scan(&r.ID, &r.Workspace, &r.ReceivedAt, &r.Node, &ip, &r.Helo, &r.TLS, &r.EnvelopeFrom, &recipients, &r.HeaderFrom, &r.Subject, &r.MessageID,
		&r.Size, &sum, &r.Class, &r.Action, &r.Score, &reasons, &findings, &engines, &parts, &r.Auth, &r.RawHeader, &r.ScanMS, &r.Direction, &r.LinkDomains)
	if err != nil {
		return r, err
	}
	if ip != nil {
		r.ClientIP = *ip
	}
	r.SHA256 = hex.EncodeToString(sum)
	return r, errors.Join(json.Unmarshal(recipients, &r.Recipients), json.Unmarshal(reasons, &r.Reasons), json.Unmarshal(findings, &r.Findings),
		json.Unmarshal(engines, &r.Engines), json.Unmarshal(parts, &r.Parts))
}

// Bucket is what was decided in one stretch of time.
type Bucket struct {
	At          time.Time
	Delivered   int
	Quarantined int // and held
	Rejected    int
	Deferred    int
	Threats     int // malware and phishing
	Total       int
	ScanP95MS   float64
}

// Stats counts decisions from `from` to `to`, in steps. Steps without mail are
// there too.
func (l *Ledger) Stats(ctx context.Context, workspaces []uuid.UUID, from, to time.Time, step time.Duration) ([]Bucket, error) {
	if step < time.Second || to.Sub(from)/step > 2000 {
		return nil, fmt.Errorf("ledger: %v in steps of %v is too much", to.Sub(from), step)
	}
	rows, err := l.db.Query(ctx, statsSQL, pg.PlanAnew, workspaces, from, to, step)
	if err != nil {
		return nil, fmt.Errorf("count mails: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Bucket])
}
