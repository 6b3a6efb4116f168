package pg

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Listen calls notify for each notification on a channel, until ctx ends. While
// the database is away it tries again every second; what was sent meanwhile is
// lost, so callers look by themselves from time to time, too.
func (db *DB) Listen(ctx context.Context, channel string, notify func()) {
	for ctx.Err() == nil {
		if conn, err := db.Acquire(ctx); err == nil {
			_, err = conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize())
			for err == nil {
				if _, err = conn.Conn().WaitForNotification(ctx); err == nil {
					notify()
				}
			}
			conn.Conn().Close(context.WithoutCancel(ctx))
			conn.Release()
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}
