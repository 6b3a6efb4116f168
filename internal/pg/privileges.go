package pg

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// ErrOverPrivileged means that the role in database.url may do more than the
// program needs. A program that could change its own audit proves nothing.
var ErrOverPrivileged = errors.New("pg: the runtime role has too many rights")

// CheckPrivileges refuses a runtime role that could change the audit: a
// superuser, an owner, a member of the owner, or one with write rights there.
func (db *DB) CheckPrivileges(ctx context.Context) error {
	rows, err := db.Pool.Query(ctx, privilegesSQL, AppRole)
	if err != nil {
		return fmt.Errorf("read rights of the runtime role: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("read rights of the runtime role: %w", err)
	}
	if len(found) > 0 {
		return fmt.Errorf("%w: it %s; use the role %s that `mailward migrate` makes", ErrOverPrivileged, strings.Join(found, ", "), AppRole)
	}
	return nil
}
