package pg

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Listen sends a signal for every notification on a channel of the database,
// until ctx ends. With the database away it tries again each second; what is
// missed meanwhile is missed, so listeners also look by themselves now and then.
func (db *DB) Listen(ctx context.Context, channel string, changed chan<- struct{}) {
	for ctx.Err() == nil {
		if err := db.listenOnce(ctx, channel, changed); err != nil && ctx.Err() == nil {
			db.log.Debug("no notifications for now", "channel", channel, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (db *DB) listenOnce(ctx context.Context, channel string, changed chan<- struct{}) error {
	conn, err := db.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	defer conn.Conn().Close(context.WithoutCancel(ctx)) // it would go on listening
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
		return err
	}
	for {
		if _, err := conn.Conn().WaitForNotification(ctx); err != nil {
			return err
		}
		select {
		case changed <- struct{}{}:
		default:
		}
	}
}
