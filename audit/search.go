package audit

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"mailward/internal/pg"
)

// search is a filter as list.sql takes it. What can be one of several values
// (tokens of an address, meanings of a text) makes several of them, each with
// one value to look up: so every one has an index that ends after a page.
type search struct {
	workspaces   []uuid.UUID
	installation bool
	workspace    *uuid.UUID
	actions      []string // nil: all
	skip         []string
	actorID      string
	actorType    string
	actor, ip    []byte      // tokens
	value        []byte      // token of another personal value
	ids          []uuid.UUID // nil: any; with a value, those that [search.holding] gave
	target, link string
	outcome      string
	application  string
	route        string
	method       string
	provider     string
	approval     string
	from, to     *time.Time
	cursor       *uuid.UUID
	newer        *uuid.UUID
	limit        int
}

// perAction makes a search for each action: with a list of them in one query the
// planner does not know how often each occurs, and walks through months of events
// for one that is not there.
func (s search) perAction() []search {
	if len(s.actions) < 2 {
		return []search{s}
	}
	out := make([]search, len(s.actions))
	for i, a := range s.actions {
		out[i] = s
		out[i].actions = []string{a}
	}
	return out
}

// run gives the newest events of a search, at most as many as its limit.
func (s search) run(ctx context.Context, l *Log) ([]Row, error) {
	if s.value == nil {
		return s.page(ctx, l)
	}
	// Somebody's address can be in any share of all events. They are looked through
	// newest first, more of them at a time, until a page is full.
	var found []Row
	for n := 4 * s.limit; ; n = min(4*n, holdingMost) {
		if err := s.holding(ctx, l, n); err != nil || len(s.ids) == 0 {
			return found, err
		}
		more, err := s.page(ctx, l)
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
		if len(found) >= s.limit || len(s.ids) < n {
			return found[:min(len(found), s.limit)], nil
		}
		s.cursor = &s.ids[len(s.ids)-1]
	}
}

// holdingMost bounds how many events that hold a value are looked at at once.
const holdingMost = 20_000

// holding sets ids to the newest n events that hold the value.
func (s *search) holding(ctx context.Context, l *Log, n int) error {
	rows, err := l.db.Query(ctx, holdingSQL, pg.PlanAnew, s.value, s.from, s.to, s.cursor, s.newer, n)
	if err != nil {
		return fmt.Errorf("list audit events that hold a value: %w", err)
	}
	if s.ids, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID]); err != nil {
		return fmt.Errorf("list audit events that hold a value: %w", err)
	}
	return nil
}

func (s search) page(ctx context.Context, l *Log) ([]Row, error) {
	action := any(nil)
	if len(s.actions) > 0 {
		action = s.actions[0]
	}
	rows, err := l.db.Query(ctx, listSQL, append([]any{pg.PlanAnew}, s.args(action)...)...)
	if err != nil {
		return nil, fmt.Errorf("list audit events: %w", err)
	}
	items, err := pgx.CollectRows(rows, scanRow)
	if err != nil {
		return nil, fmt.Errorf("list audit events: %w", err)
	}
	return items, nil
}

// searchesAtOnce is how many of a page's searches run beside each other. Most of
// their time is planning, one processor each.
const searchesAtOnce = 4

// runAll runs searches, a few at a time.
func (l *Log) runAll(ctx context.Context, searches []search) ([][]Row, error) {
	found := make([][]Row, len(searches))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(searchesAtOnce)
	for i, one := range searches {
		g.Go(func() (err error) {
			found[i], err = one.run(ctx, l)
			return err
		})
	}
	return found, g.Wait()
}

func (s search) args(action any) []any {
	return []any{s.workspaces, s.installation, s.workspace, action, s.skip, s.actorID, s.actorType, s.actor, s.target, s.outcome, s.ip,
		s.application, s.route, s.method, s.provider, s.approval, s.link, s.ids, s.from, s.to, s.cursor, s.newer, s.limit}
}

// searches are what a filter comes to; none where it can select nothing.
func (l *Log) searches(ctx context.Context, f Filter) ([]search, error) {
	if err := f.Check(); err != nil {
		return nil, err
	}
	s := search{workspaces: f.Workspaces, installation: !f.NoInstallation, skip: f.Skip, target: clean(f.Target), link: strings.ToLower(clean(f.Link)),
		outcome: clean(f.Outcome), application: clean(f.Application), route: clean(f.Route), method: clean(f.Method), provider: clean(f.Provider),
		approval: clean(f.Approval), from: pg.NullTime(f.From), to: pg.NullTime(f.To), limit: f.Limit + 1}
	if f.Cursor != "" {
		if s.cursor = parseID(f.Cursor); s.cursor == nil {
			return nil, ErrBadCursor
		}
	}
	if f.Newer != uuid.Nil {
		s.newer = &f.Newer
	}
	if f.Workspace != uuid.Nil {
		s.workspace = &f.Workspace
	}
	var err error
	if s.actions, err = l.actions(ctx, f.Action); err != nil || s.actions != nil && len(s.actions) == 0 {
		return nil, err
	}
	all := []search{s}
	if actor := strings.ToLower(strings.TrimSpace(clean(f.Actor))); strings.Contains(actor, "@") {
		all, err = l.perToken(ctx, all, actor, func(s *search, token []byte) { s.actor = token })
	} else if parseID(actor) != nil {
		all[0].actorID = actor
	} else {
		all[0].actorType = actor
	}
	if err == nil && f.IP != "" {
		all, err = l.perToken(ctx, all, ipText(f.IP), func(s *search, token []byte) { s.ip = token })
	}
	if err == nil && f.Query != "" {
		all, err = l.meanings(ctx, all, strings.TrimSpace(clean(f.Query)))
	}
	var out []search
	for _, s := range all {
		out = append(out, s.perAction()...)
	}
	return out, err
}

// perToken makes a search for each token of a personal value.
func (l *Log) perToken(ctx context.Context, in []search, value string, set func(*search, []byte)) ([]search, error) {
	rows, err := l.db.Query(ctx, tokensSQL, clean(value))
	if err != nil {
		return nil, fmt.Errorf("look up a personal value: %w", err)
	}
	tokens, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		return nil, fmt.Errorf("look up a personal value: %w", err)
	}
	var out []search
	for _, s := range in {
		for _, t := range tokens {
			one := s
			set(&one, t)
			out = append(out, one)
		}
	}
	return out, nil
}

// meanings makes the searches for a free text: an id that events name, a
// personal value wherever it stands, or a target or a part of the action.
func (l *Log) meanings(ctx context.Context, in []search, text string) (out []search, err error) {
	if parseID(text) != nil {
		for _, s := range in {
			if id := strings.ToLower(text); s.link == "" || s.link == id {
				s.link = id
				out = append(out, s)
			}
		}
		return out, nil
	}
	if _, err := netip.ParseAddr(text); err == nil || strings.Contains(text, "@") {
		for _, set := range []func(*search, []byte){
			func(s *search, t []byte) { s.actor = t }, func(s *search, t []byte) { s.ip = t }, func(s *search, t []byte) { s.value = t },
		} {
			more, err := l.perToken(ctx, in, ipText(text), func(s *search, t []byte) {
				before := *s
				if set(s, t); before.actor != nil && !bytes.Equal(before.actor, s.actor) || before.ip != nil && !bytes.Equal(before.ip, s.ip) {
					s.limit = 0 // the event cannot have both
				}
			})
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		}
		return slices.DeleteFunc(out, func(s search) bool { return s.limit == 0 }), nil
	}
	names, err := l.Actions(ctx, "")
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(a string) bool { return !strings.Contains(a, strings.ToLower(text)) })
	for _, s := range in {
		if s.target == "" || s.target == text {
			one := s
			one.target = text
			out = append(out, one)
		}
		if s.actions != nil {
			names = slices.DeleteFunc(slices.Clone(names), func(a string) bool { return !slices.Contains(s.actions, a) })
		}
		if len(names) > 0 {
			s.actions = names
			out = append(out, s)
		}
	}
	return out, nil
}

// newest merges what several searches found: each event once, newest first.
func newest(found [][]Row, limit int) []Row {
	all := slices.Concat(found...)
	slices.SortFunc(all, func(a, b Row) int { return bytes.Compare(b.ID[:], a.ID[:]) })
	all = slices.CompactFunc(all, func(a, b Row) bool { return a.ID == b.ID })
	return all[:min(len(all), limit)]
}

// actions are the names that a filter's text stands for; nil where it says
// nothing.
func (l *Log) actions(ctx context.Context, text string) ([]string, error) {
	var out []string
	for _, a := range strings.Split(clean(text), ",") {
		a = strings.TrimSpace(a)
		prefix, is := strings.CutSuffix(a, "*")
		switch {
		case a == "":
		case !is:
			out = append(out, a)
		default:
			found, err := l.Actions(ctx, prefix)
			if err != nil {
				return nil, err
			}
			out = append(append([]string{}, out...), found...)
		}
	}
	return out, nil
}

// Actions are the actions that begin so and have happened, in order.
func (l *Log) Actions(ctx context.Context, prefix string) ([]string, error) {
	rows, err := l.db.Query(ctx, actionsSQL, clean(prefix))
	if err != nil {
		return nil, fmt.Errorf("list audit actions: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list audit actions: %w", err)
	}
	return names, nil
}

// ipText writes an IP address as events hold it; other text stays.
func ipText(s string) string {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap().String()
	}
	return s
}

func parseID(s string) *uuid.UUID {
	id, err := uuid.Parse(s)
	if err != nil || len(s) != 36 {
		return nil
	}
	return &id
}
