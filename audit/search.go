package audit

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// errNothing means that a filter cannot select any event.
var errNothing = errors.New("audit: the filter selects nothing")

// listArgs turns a filter into the parameters of list.sql. Addresses become
// their blind indexes and prefixes the names that there are, so that the
// planner sees values that it knows how often they occur.
func (l *Log) listArgs(ctx context.Context, f Filter) ([]any, error) {
	var cursor, workspace, link *uuid.UUID
	var err error
	if f.Cursor != "" {
		if cursor = parseID(f.Cursor); cursor == nil {
			return nil, ErrBadCursor
		}
	}
	if f.Workspace != uuid.Nil {
		workspace = &f.Workspace
	}
	if f.Link != "" {
		if link = parseID(f.Link); link == nil {
			return nil, errNothing
		}
	}
	actions, err := l.actions(ctx, f.Action)
	if err != nil {
		return nil, err
	}
	if actions != nil && len(actions) == 0 {
		return nil, errNothing
	}
	actor, actorBlind := clean(f.Actor), []byte(nil)
	if strings.Contains(actor, "@") {
		if actorBlind, err = l.blind(ctx, actor); err != nil {
			return nil, err
		}
		actor = ""
	}
	var ipBlind []byte
	if f.IP != "" {
		if ipBlind, err = l.blind(ctx, ipText(f.IP)); err != nil {
			return nil, err
		}
	}
	q, err := l.query(ctx, f.Query)
	if err != nil {
		return nil, err
	}
	if q.id != nil {
		if link != nil && *link != *q.id {
			return nil, errNothing
		}
		link = q.id
	}
	return []any{f.Workspaces, !f.NoInstallation, workspace, actions, f.Skip, actor, actorBlind, clean(f.Target), clean(f.Outcome),
		ipBlind, clean(f.Application), clean(f.Route), clean(f.Method), clean(f.Provider), clean(f.Approval), link, q.blind, q.text, q.actions,
		nilTime(f.From), nilTime(f.To), cursor, f.Limit + 1}, nil
}

// query is what a free text can mean. One of the fields is set.
type query struct {
	id      *uuid.UUID
	blind   []byte // of an e-mail or IP address
	text    string
	actions []string // that contain the text
}

func (l *Log) query(ctx context.Context, text string) (q query, err error) {
	text = strings.TrimSpace(clean(text))
	if text == "" {
		return q, nil
	}
	if q.id = parseID(text); q.id != nil {
		return q, nil
	}
	if _, err := netip.ParseAddr(text); err == nil || strings.Contains(text, "@") {
		q.blind, err = l.blind(ctx, ipText(text))
		return q, err
	}
	all, err := l.Actions(ctx, "")
	if err != nil {
		return q, err
	}
	q.text = text
	q.actions = slices.DeleteFunc(all, func(a string) bool { return !strings.Contains(a, strings.ToLower(text)) })
	return q, nil
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

func (l *Log) blind(ctx context.Context, value string) (b []byte, err error) {
	if err := l.db.QueryRow(ctx, blindSQL, clean(value)).Scan(&b); err != nil {
		return nil, fmt.Errorf("look up a personal value: %w", err)
	}
	return b, nil
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
