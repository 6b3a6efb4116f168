package quarantine

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"mailward/internal/pg"
	"mailward/policy"
)

// Filter selects items. Empty fields select all; Workspaces must be given.
type Filter struct {
	Workspaces []uuid.UUID
	Query      string // part of subject, sender, recipient or a finding's name; or an id, a hash or a message id
	Classes    []policy.Class
	States     []State
	Domain     string           // of a recipient
	Direction  policy.Direction // "": both
	From, To   time.Time

	Sender    string // an address, @domain with those below it, or a part of it; header and envelope
	Recipient string // the same, without domains below
	Subject   string // a part of it
	Hash      string // SHA-256 of the mail or of a part
	MessageID string
	Symbol    string // a sign, by its name
	Rule      string // of YARA
	Signature string // of ClamAV
	URL       string // a link in it; scheme and query do not count
	Shape     string // of the subject, see [Shape]

	ScoreFrom, ScoreTo *float64

	Newer  uuid.UUID // only items held later than this one
	Order  Order
	Cursor string
	Limit  int // default 50, at most 500
}

// Order is how a list is sorted.
type Order string

// The orders. The empty one is Newest.
const (
	Newest  Order = "newest"
	Oldest  Order = "oldest"
	ByScore Order = "score" // highest first, then newest
)

// Orders lists them.
func Orders() []Order { return []Order{Newest, Oldest, ByScore} }

// Page is one page of items, in the filter's order.
type Page struct {
	Items []Item
	Next  string // cursor of the next page, "" on the last one
}

// Counts says how many items the filter selects.
type Counts struct {
	Total   int // capped at CountCap
	Classes map[policy.Class]int
}

// Capped says whether there are more than were counted.
func (c Counts) Capped() bool { return c.Total > CountCap }

// CountCap is where exact counting ends: "more than 2,000" says enough.
const CountCap = 2_000

// What is wrong with a filter.
var (
	// ErrBadCursor means that a cursor is not one of ours, or of another order.
	ErrBadCursor = errors.New("quarantine: bad cursor")
	// ErrBadFilter means that a filter cannot be searched for: a part of a text
	// with fewer than three letters or digits, or no hash.
	ErrBadFilter = errors.New("quarantine: bad filter")
)

// place is where a page begins or ends.
type place struct {
	id    uuid.UUID
	at    time.Time
	score float32
}

// searchesAtOnce is how many of a page's searches run beside each other.
const searchesAtOnce = 4

// List reads one page.
func (s *Store) List(ctx context.Context, f Filter) (Page, error) {
	if f.Limit <= 0 {
		f.Limit = 50
	}
	f.Limit = min(f.Limit, 500)
	places, err := s.find(ctx, f)
	if err != nil {
		return Page{}, fmt.Errorf("list items: %w", err)
	}
	var p Page
	if len(places) > f.Limit {
		places = places[:f.Limit]
		p.Next = f.cursor(places[f.Limit-1])
	}
	p.Items, err = s.items(ctx, places)
	return p, err
}

// ListAndCount reads a page and counts what its filter selects, at the same time.
func (s *Store) ListAndCount(ctx context.Context, f Filter) (Page, Counts, error) {
	var p Page
	var n Counts
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		p, err = s.List(gctx, f)
		return err
	})
	g.Go(func() (err error) {
		n, err = s.Count(gctx, f)
		return err
	})
	err := g.Wait() // both are set from here on
	return p, n, err
}

// find gives the places of a page's items and of one more.
func (s *Store) find(ctx context.Context, f Filter) ([]place, error) {
	searches, err := f.searches()
	if err != nil {
		return nil, err
	}
	found, short := make([][]place, len(searches)), make([]bool, len(searches))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(searchesAtOnce)
	for i, one := range searches {
		g.Go(func() (err error) {
			found[i], short[i], err = one.run(gctx, s.db)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var rest []uuid.UUID
	for i, one := range searches {
		if short[i] {
			rest = append(rest, one.workspace)
			found[i] = nil
		}
	}
	if len(rest) > 0 {
		more, err := searches[0].gather(ctx, s.db, rest)
		if err != nil {
			return nil, err
		}
		found = append(found, more)
	}
	all := slices.Concat(found...)
	slices.SortFunc(all, f.Order.compare)
	return all[:min(len(all), f.Limit+1)], nil
}

// items reads items in the order of their places.
func (s *Store) items(ctx context.Context, places []place) ([]Item, error) {
	ids, at := make([]uuid.UUID, len(places)), map[uuid.UUID]int{}
	for i, p := range places {
		ids[i], at[p.id] = p.id, i
	}
	rows, err := s.db.Query(ctx, itemsSQL, ids)
	if err != nil {
		return nil, fmt.Errorf("read items: %w", err)
	}
	items, err := pgx.CollectRows(rows, scanItem)
	if err != nil {
		return nil, fmt.Errorf("read items: %w", err)
	}
	slices.SortFunc(items, func(a, b Item) int { return at[a.ID] - at[b.ID] })
	return items, s.addRecipients(ctx, items)
}

// Count says how many items there are for each class under the other filters.
func (s *Store) Count(ctx context.Context, f Filter) (Counts, error) {
	chosen := f.Classes
	f.Classes = nil
	c, err := s.count(ctx, f, CountCap+1)
	if err != nil || len(chosen) == 0 {
		return c, err
	}
	if !c.Capped() {
		c.Total = 0
		for _, class := range chosen {
			c.Total += c.Classes[class]
		}
		return c, nil
	}
	// The others have used the cap up.
	f.Classes = chosen
	mine, err := s.count(ctx, f, CountCap+1)
	c.Total = mine.Total
	for _, class := range chosen {
		c.Classes[class] = mine.Classes[class]
	}
	return c, err
}

// Matching counts what a filter selects, up to a limit.
func (s *Store) Matching(ctx context.Context, f Filter, limit int) (int, error) {
	c, err := s.count(ctx, f, limit)
	return c.Total, err
}

func (s *Store) count(ctx context.Context, f Filter, limit int) (Counts, error) {
	c := Counts{Classes: map[policy.Class]int{}}
	f.Cursor = ""
	searches, err := f.perWorkspace()
	if err != nil {
		return c, err
	}
	for i, one := range searches {
		if c.Total >= limit {
			break
		}
		args, here := one.args(), []uuid.UUID{one.workspace}
		if one.indexed() { // by indexes that know no workspace: once for all
			if here = f.Workspaces; i > 0 {
				break
			}
		}
		args[0] = here
		rows, err := s.db.Query(ctx, countsSQL, append(append([]any{pg.PlanAnew}, args...), limit-c.Total)...)
		if err != nil {
			return c, fmt.Errorf("count items: %w", err)
		}
		var class policy.Class
		var n int
		_, err = pgx.ForEachRow(rows, []any{&class, &n}, func() error {
			c.Classes[class] += n
			c.Total += n
			return nil
		})
		if err != nil {
			return c, fmt.Errorf("count items: %w", err)
		}
	}
	return c, nil
}

// cursor names a place in the filter's order.
func (f Filter) cursor(p place) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%s %s %s %s", f.order(), p.at.UTC().Format(time.RFC3339Nano), p.id, strconv.FormatFloat(float64(p.score), 'g', -1, 32)))
}

// place reads a cursor; nil where there is none.
func (f Filter) place() (*place, error) {
	if f.Cursor == "" {
		return nil, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(f.Cursor)
	if err != nil {
		return nil, ErrBadCursor
	}
	word := strings.Split(string(b), " ")
	if len(word) != 4 || Order(word[0]) != f.order() {
		return nil, ErrBadCursor
	}
	at, err1 := time.Parse(time.RFC3339Nano, word[1])
	id, err2 := uuid.Parse(word[2])
	score, err3 := strconv.ParseFloat(word[3], 32)
	if err1 != nil || err2 != nil || err3 != nil {
		return nil, ErrBadCursor
	}
	return &place{id: id, at: at, score: float32(score)}, nil
}

func (f Filter) order() Order {
	if f.Order == "" {
		return Newest
	}
	return f.Order
}
