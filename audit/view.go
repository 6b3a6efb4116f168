package audit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

var (
	viewsSQL      = pg.Query(queryFiles, "views")
	saveViewSQL   = pg.Query(queryFiles, "save_view")
	deleteViewSQL = pg.Query(queryFiles, "delete_view")
	workspacesSQL = pg.Query(queryFiles, "workspaces")
)

// View is a filter of the audit page that somebody has saved.
type View struct {
	ID        uuid.UUID
	Name      string
	Query     string // of the page's address
	CreatedAt time.Time
}

// Limits of views.
const (
	MaxViews     = 50 // of one person
	maxViewName  = 80
	maxViewQuery = 2000
)

// ErrBadView means that a view has no usable name or filter, or is one too many.
var ErrBadView = errors.New("audit: bad view")

// Views are what somebody has saved, by name.
func (l *Log) Views(ctx context.Context, owner uuid.UUID) ([]View, error) {
	rows, err := l.db.Query(ctx, viewsSQL, owner)
	if err != nil {
		return nil, fmt.Errorf("list saved views: %w", err)
	}
	views, err := pgx.CollectRows(rows, pgx.RowToStructByPos[View])
	if err != nil {
		return nil, fmt.Errorf("list saved views: %w", err)
	}
	return views, nil
}

// SaveView saves a view for the person who acts. One of the same name is replaced.
func (l *Log) SaveView(ctx context.Context, who pg.Actor, name, query string) error {
	name = strings.Join(strings.Fields(clean(name)), " ")
	if name == "" || utf8.RuneCountInString(name) > maxViewName || len(query) > maxViewQuery || who.UserID == uuid.Nil {
		return ErrBadView
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make a view's id: %w", err)
	}
	return l.db.Act(ctx, who, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, saveViewSQL, id, who.UserID, name, clean(query), MaxViews)
		if err != nil {
			return fmt.Errorf("save a view: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return ErrBadView
		}
		return nil
	})
}

// DeleteView removes a view of the person who acts, or says ErrNotFound.
func (l *Log) DeleteView(ctx context.Context, who pg.Actor, id uuid.UUID) error {
	return l.db.Act(ctx, who, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, deleteViewSQL, id, who.UserID)
		if err != nil {
			return fmt.Errorf("delete a view: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return ErrNotFound
		}
		return nil
	})
}

// Workspace is one that events can belong to.
type Workspace struct {
	ID   uuid.UUID
	Name string
}

// Workspaces are those that a filter can name, by name; only nil: all.
func (l *Log) Workspaces(ctx context.Context, only []uuid.UUID) ([]Workspace, error) {
	rows, err := l.db.Query(ctx, workspacesSQL, only)
	if err != nil {
		return nil, fmt.Errorf("list workspaces: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Workspace])
	if err != nil {
		return nil, fmt.Errorf("list workspaces: %w", err)
	}
	return list, nil
}
