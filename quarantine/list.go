package quarantine

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/policy"
)

// Filter selects items. Empty fields select all; Workspaces must be given.
type Filter struct {
	Workspaces []uuid.UUID
	Query      string // part of subject, sender or recipient; or an id or hash
	Classes    []policy.Class
	States     []State
	Domain     string           // of a recipient
	Direction  policy.Direction // "": both
	From, To   time.Time
	Cursor     string
	Limit      int // default 50, at most 500
}

// Page is one page of items, newest first.
type Page struct {
	Items []Item
	Next  string // cursor of the next page, "" on the last one
}

// Counts says how many items the filter selects.
type Counts struct {
	Total   int // capped at CountCap
	Classes map[policy.Class]int
}

// CountCap is where exact counting ends: "10,000+" says enough.
const CountCap = 10_000

// ErrBadCursor means that a cursor is not one of ours.
var ErrBadCursor = errors.New("quarantine: bad cursor")

// List reads one page.
func (s *Store) List(ctx context.Context, f Filter) (Page, error) {
	if f.Limit <= 0 {
		f.Limit = 50
	}
	f.Limit = min(f.Limit, 500)
	at, id, err := decodeCursor(f.Cursor)
	if err != nil {
		return Page{}, err
	}
	rows, err := s.db.Query(ctx, listSQL, append(f.args(f.Classes), at, id, f.Limit+1, string(f.Direction))...)
	if err != nil {
		return Page{}, fmt.Errorf("list items: %w", err)
	}
	items, err := pgx.CollectRows(rows, scanItem)
	if err != nil {
		return Page{}, fmt.Errorf("list items: %w", err)
	}
	var p Page
	if len(items) > f.Limit {
		items = items[:f.Limit]
		last := items[f.Limit-1]
		p.Next = encodeCursor(last.ReceivedAt, last.ID)
	}
	p.Items = items
	return p, s.addRecipients(ctx, p.Items)
}

// Count says how many items there are for each class under the other filters.
func (s *Store) Count(ctx context.Context, f Filter) (Counts, error) {
	c := Counts{Classes: map[policy.Class]int{}}
	rows, err := s.db.Query(ctx, countsSQL, append(f.args(nil), CountCap, string(f.Direction))...)
	if err != nil {
		return c, fmt.Errorf("count items: %w", err)
	}
	var class policy.Class
	var n int
	_, err = pgx.ForEachRow(rows, []any{&class, &n}, func() error {
		c.Classes[class] = n
		return nil
	})
	for k, n := range c.Classes {
		for _, want := range f.Classes {
			if k == want {
				c.Total += n
			}
		}
		if len(f.Classes) == 0 {
			c.Total += n
		}
	}
	return c, err
}

// args are the first arguments of list.sql and counts.sql.
func (f Filter) args(classes []policy.Class) []any {
	var cs, ss []string
	for _, c := range classes {
		cs = append(cs, string(c))
	}
	for _, st := range f.States {
		ss = append(ss, string(st))
	}
	q := clean(strings.TrimSpace(f.Query))
	like := ""
	if q != "" {
		like = "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(strings.ToLower(q)) + "%"
	}
	ws := f.Workspaces
	if ws == nil {
		ws = []uuid.UUID{}
	}
	return []any{ws, q, like, cs, ss, strings.ToLower(clean(f.Domain)), nilTime(f.From), nilTime(f.To)}
}

func nilTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func encodeCursor(t time.Time, id uuid.UUID) string {
	return base64.RawURLEncoding.EncodeToString([]byte(t.UTC().Format(time.RFC3339Nano) + " " + id.String()))
}

func decodeCursor(c string) (*time.Time, *uuid.UUID, error) {
	if c == "" {
		return nil, nil, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(c)
	if err != nil {
		return nil, nil, ErrBadCursor
	}
	at, id, ok := strings.Cut(string(b), " ")
	t, err1 := time.Parse(time.RFC3339Nano, at)
	u, err2 := uuid.Parse(id)
	if !ok || err1 != nil || err2 != nil {
		return nil, nil, ErrBadCursor
	}
	return &t, &u, nil
}
