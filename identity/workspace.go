package identity

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
	listWorkspacesSQL   = pg.Query(queryFiles, "list_workspaces")
	insertWorkspaceSQL  = pg.Query(queryFiles, "insert_workspace")
	insertDefaultSQL    = pg.Query(queryFiles, "insert_default_policy")
	renameWorkspaceSQL  = pg.Query(queryFiles, "rename_workspace")
	archiveWorkspaceSQL = pg.Query(queryFiles, "archive_workspace")
	lockWorkspaceSQL    = pg.Query(queryFiles, "lock_workspace")
	spaceNamesSQL       = pg.Query(queryFiles, "space_names")
)

// Workspace is a client of a provider, or a part of a company: what belongs to
// it is seen by nobody who has no role in it.
type Workspace struct {
	ID         uuid.UUID  `json:"id"`
	Name       string     `json:"name"`
	CreatedAt  time.Time  `json:"created_at"`
	ArchivedAt *time.Time `json:"archived_at"`
	Domains    int        `json:"domains"`
	People     int        `json:"people"`
}

// ListWorkspaces lists workspaces by name, the archived ones last. only is nil
// for all.
func (s *Store) ListWorkspaces(ctx context.Context, only []uuid.UUID) ([]Workspace, error) {
	rows, err := s.db.Query(ctx, listWorkspacesSQL, only)
	if err != nil {
		return nil, fmt.Errorf("list workspaces: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Workspace])
	if err != nil {
		return nil, fmt.Errorf("list workspaces: %w", err)
	}
	return list, nil
}

// Space is a workspace by name alone.
type Space struct {
	ID   uuid.UUID
	Name string
}

// Spaces are the names of workspaces, by name.
func (s *Store) Spaces(ctx context.Context, ids []uuid.UUID) ([]Space, error) {
	rows, err := s.db.Query(ctx, spaceNamesSQL, ids)
	if err != nil {
		return nil, fmt.Errorf("read names of workspaces: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Space])
	if err != nil {
		return nil, fmt.Errorf("read names of workspaces: %w", err)
	}
	return list, nil
}

func workspaceName(name string) (string, error) {
	name = strings.TrimSpace(name)
	if n := utf8.RuneCountInString(name); n == 0 || n > 100 || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", fmt.Errorf("%w: a workspace has a name of 1 to 100 letters", ErrInvalid)
	}
	return name, nil
}

// CreateWorkspace makes a workspace with the default policies, and its maker an
// administrator of it: else nobody could do anything there. It gives no access
// to what others have.
func (s *Store) CreateWorkspace(ctx context.Context, p Principal, name, reason string) (Workspace, error) {
	name, err := workspaceName(name)
	if err != nil {
		return Workspace{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Workspace{}, fmt.Errorf("make workspace id: %w", err)
	}
	err = s.db.Act(pg.WithReason(ctx, reason), p.Actor(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, insertWorkspaceSQL, id, name)
		if pg.IsUnique(err, "workspace_name_idx") {
			return ErrNameTaken
		}
		if err != nil {
			return fmt.Errorf("insert workspace: %w", err)
		}
		for _, direction := range []string{"inbound", "outbound"} {
			policy, err := uuid.NewV7()
			if err != nil {
				return fmt.Errorf("make policy id: %w", err)
			}
			if _, err := tx.Exec(ctx, insertDefaultSQL, policy, id, DefaultWorkspace, direction); err != nil {
				return fmt.Errorf("insert default policy: %w", err)
			}
		}
		return s.grant(ctx, tx, p.User.ID, &id, []Role{Admin}, maker(p.Actor()))
	})
	if err != nil {
		return Workspace{}, err
	}
	return s.workspace(ctx, id)
}

func (s *Store) workspace(ctx context.Context, id uuid.UUID) (Workspace, error) {
	list, err := s.ListWorkspaces(ctx, []uuid.UUID{id})
	if err != nil {
		return Workspace{}, err
	}
	if len(list) != 1 {
		return Workspace{}, ErrNotFound
	}
	return list[0], nil
}

// RenameWorkspace gives a workspace another name.
func (s *Store) RenameWorkspace(ctx context.Context, p Principal, id uuid.UUID, name, reason string) (Workspace, error) {
	name, err := workspaceName(name)
	if err != nil {
		return Workspace{}, err
	}
	err = s.db.Act(pg.WithReason(ctx, reason), p.Actor(), func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, renameWorkspaceSQL, id, name)
		switch {
		case pg.IsUnique(err, "workspace_name_idx"):
			return ErrNameTaken
		case err != nil:
			return fmt.Errorf("rename workspace: %w", err)
		case tag.RowsAffected() == 0:
			return ErrNotFound
		}
		return nil
	})
	if err != nil {
		return Workspace{}, err
	}
	return s.workspace(ctx, id)
}

// ArchiveWorkspace closes a workspace that serves no domain any more, or opens
// it again. Nothing new is made in a closed one; what it holds stays to be read
// by who has a role in it. The first workspace stays open.
func (s *Store) ArchiveWorkspace(ctx context.Context, p Principal, id uuid.UUID, archive bool, reason string) (Workspace, error) {
	if strings.TrimSpace(reason) == "" {
		return Workspace{}, ErrReasonRequired
	}
	err := s.db.Act(pg.WithReason(ctx, reason), p.Actor(), func(ctx context.Context, tx pgx.Tx) error {
		var was *time.Time
		var serves bool
		err := tx.QueryRow(ctx, lockWorkspaceSQL, id).Scan(&was, &serves)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return ErrNotFound
		case err != nil:
			return fmt.Errorf("read workspace: %w", err)
		case archive && (serves || id == DefaultWorkspace):
			return ErrInUse
		}
		var at *time.Time
		if archive {
			now := s.now()
			at = &now
		}
		if _, err := tx.Exec(ctx, archiveWorkspaceSQL, id, at); err != nil {
			return fmt.Errorf("archive workspace: %w", err)
		}
		return nil
	})
	if err != nil {
		return Workspace{}, err
	}
	return s.workspace(ctx, id)
}

// openWorkspace refuses an archived workspace; zero is the installation, which is
// always open.
func (s *Store) openWorkspace(ctx context.Context, tx pgx.Tx, id uuid.UUID) error {
	if id == uuid.Nil {
		return nil
	}
	var archived *time.Time
	var serves bool
	err := tx.QueryRow(ctx, lockWorkspaceSQL, id).Scan(&archived, &serves)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return ErrNotFound
	case err != nil:
		return fmt.Errorf("read workspace: %w", err)
	case archived != nil:
		return ErrArchived
	}
	return nil
}
