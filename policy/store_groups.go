package policy

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

var (
	groupsSQL              = pg.Query(queryFiles, "groups")
	insertGroupSQL         = pg.Query(queryFiles, "insert_group")
	updateGroupSQL         = pg.Query(queryFiles, "update_group")
	deleteGroupSQL         = pg.Query(queryFiles, "delete_group")
	deleteGroupPoliciesSQL = pg.Query(queryFiles, "delete_group_policies")
)

// ErrGroupInUse means that allow or block entries are for the group.
var ErrGroupInUse = errors.New("policy: entries are for this group: remove them first")

// ErrGroupExists means that the workspace has a group of this name.
var ErrGroupExists = errors.New("policy: a group of this name exists already")

func (s *Store) allGroups(ctx context.Context) ([]Group, error) {
	rows, err := s.db.Query(ctx, groupsSQL)
	if err != nil {
		return nil, fmt.Errorf("read groups: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Group, error) { return scanGroup(row) })
}

func scanGroup(row pgx.Row) (g Group, err error) {
	err = row.Scan(&g.ID, &g.Workspace, &g.Name, &g.Members, &g.Rank, &g.Version, &g.CreatedAt, &g.UpdatedAt)
	return g, err
}

// Groups lists the groups of the workspaces.
func (s *Store) Groups(ctx context.Context, workspaces []uuid.UUID) ([]Group, error) {
	all, err := s.allGroups(ctx)
	if err != nil {
		return nil, err
	}
	return keepOf(all, workspaces, func(g Group) uuid.UUID { return g.Workspace }), nil
}

func keepOf[T any](list []T, workspaces []uuid.UUID, of func(T) uuid.UUID) (out []T) {
	in := map[uuid.UUID]bool{}
	for _, w := range workspaces {
		in[w] = true
	}
	for _, t := range list {
		if in[of(t)] {
			out = append(out, t)
		}
	}
	return out
}

// Group finds a group in memory.
func (s *Store) Group(id uuid.UUID) (Group, bool) {
	if snap := s.snap.Load(); snap != nil {
		for _, x := range snap.groups {
			for _, g := range x.groups {
				if g.ID == id {
					return g, true
				}
			}
		}
	}
	return Group{}, false
}

// PutGroup makes a group, or changes the one with its id that is still of its
// version: else it is [ErrConflict].
func (s *Store) PutGroup(ctx context.Context, actor pg.Actor, g Group) (Group, error) {
	if g.Workspace == uuid.Nil {
		g.Workspace = DefaultWorkspace
	}
	if err := g.check(); err != nil {
		return Group{}, err
	}
	var stored Group
	err := s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) (err error) {
		if g.ID != uuid.Nil {
			stored, err = scanGroup(tx.QueryRow(ctx, updateGroupSQL, g.ID, g.Workspace, g.Name, g.Members, g.Rank, g.Version))
			return err
		}
		if snap := s.snap.Load(); snap != nil && snap.groups[g.Workspace] != nil && len(snap.groups[g.Workspace].groups) >= maxGroups {
			return &InvalidError{"name", fmt.Sprintf("cannot be added: a workspace has %d groups at most", maxGroups)}
		}
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		stored, err = scanGroup(tx.QueryRow(ctx, insertGroupSQL, id, g.Workspace, g.Name, g.Members, g.Rank))
		return err
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Group{}, ErrConflict
	case pg.IsUnique(err, "recipient_group_name_idx"):
		return Group{}, ErrGroupExists
	case err != nil:
		return Group{}, fmt.Errorf("store group %s: %w", g.Name, err)
	}
	return stored, s.Load(ctx)
}

// DeleteGroup removes a group with its policies.
func (s *Store) DeleteGroup(ctx context.Context, actor pg.Actor, workspace, id uuid.UUID) error {
	err := s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, deleteGroupPoliciesSQL, id); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, deleteGroupSQL, id, workspace)
		if err == nil && tag.RowsAffected() == 0 {
			return ErrNotFound
		}
		return err
	})
	if pg.IsForeignKey(err) {
		return ErrGroupInUse
	}
	if err != nil {
		return fmt.Errorf("delete group %s: %w", id, err)
	}
	return s.Load(ctx)
}
