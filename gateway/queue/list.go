package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

var (
	listSQL = pg.Query(queryFiles, "list")
	// The same list the other way round.
	oldestSQL   = strings.NewReplacer("d.id < $8", "d.id > $8", "d.id DESC", "d.id").Replace(listSQL)
	getSQL      = pg.Query(queryFiles, "get")
	attemptsSQL = pg.Query(queryFiles, "attempts")
	waitingSQL  = pg.Query(queryFiles, "waiting")
)

// Errors that a person can do something about.
var (
	ErrNotFound  = errors.New("queue: delivery not found")
	ErrBadCursor = errors.New("queue: bad cursor")
	// ErrState means that a delivery has come to its end.
	ErrState = errors.New("queue: the delivery does not wait any more")
	// ErrUnderWay means that a delivery is being tried at this moment.
	ErrUnderWay = errors.New("queue: the delivery is being tried at this moment; look again when that has ended")
	// ErrReasonRequired means that a person gave no reason for an act.
	ErrReasonRequired = errors.New("queue: a reason is required")
)

// Entry is a delivery as people see it.
type Entry struct {
	ID            uuid.UUID  `json:"id"`
	Workspace     uuid.UUID  `json:"workspace_id"`
	MailID        uuid.UUID  `json:"mail_id"`
	ItemID        *uuid.UUID `json:"item_id,omitempty"` // of a release
	Kind          string     `json:"kind" enum:"release,relay,dsn"`
	State         string     `json:"state" enum:"queued,delivering,delivered,failed,outcome_unknown,cancelled,deleted"`
	From          string     `json:"envelope_from"`
	To            string     `json:"recipient"`
	Destination   string     `json:"destination"`
	Size          int64      `json:"size"`
	Attempts      int        `json:"attempts"`
	CreatedAt     time.Time  `json:"created_at"`
	NextAttemptAt time.Time  `json:"next_attempt_at"`
	GiveUpAt      time.Time  `json:"give_up_at"`
	LastAttemptAt *time.Time `json:"last_attempt_at,omitempty"`
	Code          int        `json:"reply_code,omitempty"`
	Text          string     `json:"reply_text,omitempty"`
	// RestsUntil is when its destination is tried again that could not be reached.
	RestsUntil *time.Time `json:"rests_until,omitempty"`

	release, recipient *uuid.UUID
}

// Waits says whether a person can still retry or delete it.
func (e Entry) Waits() bool { return e.State == "queued" }

// Try is what one attempt came to.
type Try struct {
	Number      int       `json:"number"`
	At          time.Time `json:"at"`
	TookMS      int       `json:"took_ms"`
	Result      string    `json:"result" enum:"delivered,failed,put_off,outcome_unknown"`
	Destination string    `json:"destination"`
	Host        string    `json:"host,omitempty"`
	TLS         string    `json:"tls,omitempty"`
	Code        int       `json:"code,omitempty"`
	Text        string    `json:"text,omitempty"`
}

// Waiting is what waits for one destination.
type Waiting struct {
	Destination string     `json:"destination"`
	Count       int        `json:"count"`
	Oldest      time.Time  `json:"oldest"`
	NextAttempt time.Time  `json:"next_attempt_at"`
	DownSince   *time.Time `json:"down_since,omitempty"`
	RestsUntil  *time.Time `json:"rests_until,omitempty"`
	LastError   string     `json:"last_error,omitempty"`
}

// Filter selects deliveries. Empty fields select all; Workspaces must be given.
type Filter struct {
	Workspaces    []uuid.UUID
	States, Kinds []string
	Destination   string
	MailID        uuid.UUID // uuid.Nil: any
	Query         string    // part of an address or of the last reply, or an id
	Oldest        bool      // the oldest first
	Cursor        string
	Limit         int // default 50, at most 500
}

// Page is one page of deliveries, in the order that was asked for.
type Page struct {
	Items []Entry
	Next  string
}

// List reads one page.
func (q *Queue) List(ctx context.Context, f Filter) (Page, error) {
	var cursor, mail *uuid.UUID
	if f.Cursor != "" {
		id, err := uuid.Parse(f.Cursor)
		if err != nil {
			return Page{}, ErrBadCursor
		}
		cursor = &id
	}
	if f.MailID != uuid.Nil {
		mail = &f.MailID
	}
	if f.Limit <= 0 {
		f.Limit = 50
	}
	f.Limit = min(f.Limit, 500)
	if f.Workspaces == nil {
		f.Workspaces = []uuid.UUID{}
	}
	text := strings.ToValidUTF8(strings.ReplaceAll(strings.TrimSpace(f.Query), "\x00", ""), "")
	like := "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(strings.ToLower(text)) + "%"
	query := listSQL
	if f.Oldest {
		query = oldestSQL
	}
	rows, err := q.deps.DB.Query(ctx, query, pg.PlanAnew, f.Workspaces, f.States, f.Kinds, f.Destination, mail, text, like, cursor, f.Limit+1)
	if err != nil {
		return Page{}, fmt.Errorf("list deliveries: %w", err)
	}
	items, err := pgx.CollectRows(rows, scanEntry)
	if err != nil {
		return Page{}, fmt.Errorf("list deliveries: %w", err)
	}
	var p Page
	if len(items) > f.Limit {
		items = items[:f.Limit]
		p.Next = items[f.Limit-1].ID.String()
	}
	p.Items = items
	return p, nil
}

func scanEntry(row pgx.CollectableRow) (e Entry, err error) {
	err = row.Scan(&e.ID, &e.Workspace, &e.MailID, &e.ItemID, &e.Kind, &e.State, &e.From, &e.To, &e.Destination, &e.Size, &e.Attempts, &e.CreatedAt, &e.NextAttemptAt,
		&e.GiveUpAt, &e.LastAttemptAt, &e.Code, &e.Text, &e.RestsUntil, &e.release, &e.recipient)
	return e, err
}

// Get reads one delivery with its attempts, the last one first.
func (q *Queue) Get(ctx context.Context, id uuid.UUID) (Entry, []Try, error) {
	e, err := q.entry(ctx, q.deps.DB, id)
	if err != nil {
		return Entry{}, nil, err
	}
	rows, err := q.deps.DB.Query(ctx, attemptsSQL, id)
	if err != nil {
		return Entry{}, nil, fmt.Errorf("read attempts of delivery %s: %w", id, err)
	}
	tries, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Try])
	if err != nil {
		return Entry{}, nil, fmt.Errorf("read attempts of delivery %s: %w", id, err)
	}
	return e, tries, nil
}

// querier is the database, or a transaction on it.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func (q *Queue) entry(ctx context.Context, db querier, id uuid.UUID) (Entry, error) {
	rows, err := db.Query(ctx, getSQL, id)
	if err != nil {
		return Entry{}, fmt.Errorf("read delivery %s: %w", id, err)
	}
	e, err := pgx.CollectExactlyOneRow(rows, scanEntry)
	if errors.Is(err, pgx.ErrNoRows) {
		return Entry{}, ErrNotFound
	}
	if err != nil {
		return Entry{}, fmt.Errorf("read delivery %s: %w", id, err)
	}
	return e, nil
}

// Waiting says what waits where, the longest queue first, at most 100 of them.
func (q *Queue) Waiting(ctx context.Context, workspaces []uuid.UUID) ([]Waiting, error) {
	if workspaces == nil {
		workspaces = []uuid.UUID{}
	}
	rows, err := q.deps.DB.Query(ctx, waitingSQL, workspaces)
	if err != nil {
		return nil, fmt.Errorf("read destinations: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Waiting])
	if err != nil {
		return nil, fmt.Errorf("read destinations: %w", err)
	}
	return list, nil
}
