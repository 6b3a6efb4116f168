package sandbox

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
	"mailward/policy"
	"mailward/quarantine"
)

// lateFiles bounds what one sweep tells of; the next one goes on.
const lateFiles = 500

// late tells of mail that was decided, and perhaps delivered, before the sandbox
// called a file of it malicious: by the verdict on its own task, which came after
// the deadline, or on a later mail's with the same file.
func (q *Queue) late(ctx context.Context) error {
	rows, err := q.deps.DB.Query(ctx, lateSQL, lateFiles)
	if err != nil {
		return fmt.Errorf("read late verdicts: %w", err)
	}
	type file struct {
		Hold   uuid.UUID
		SHA256 []byte
		Task   uuid.UUID
	}
	files, err := pgx.CollectRows(rows, pgx.RowToStructByPos[file])
	if err != nil {
		return fmt.Errorf("read late verdicts: %w", err)
	}
	var holds []uuid.UUID
	for _, f := range files {
		// The file's own row says from now on what is known of it.
		err := q.deps.DB.Act(ctx, actor(f.Hold), func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, linkSQL, f.Hold, f.SHA256, f.Task)
			return err
		})
		if err != nil {
			return fmt.Errorf("link late verdict: %w", err)
		}
		if !slices.Contains(holds, f.Hold) {
			holds = append(holds, f.Hold)
		}
	}
	for _, id := range holds {
		if err := q.tellLate(ctx, id); err != nil {
			return fmt.Errorf("tell late verdict of hold %s: %w", id, err)
		}
	}
	return nil
}

func (q *Queue) tellLate(ctx context.Context, id uuid.UUID) error {
	h, err := q.load(ctx, id)
	if err != nil {
		return err
	}
	item, err := q.deps.Store.Get(ctx, h.item)
	if err != nil {
		return err
	}
	var told, gone bool
	by := pg.System("sandbox", "verdict after the decision of hold "+id.String())
	err = q.deps.DB.Act(ctx, by, func(ctx context.Context, tx pgx.Tx) error {
		told, gone, err = q.deps.Store.SandboxLate(ctx, tx, by, item, h.outcome(item, policy.SandboxMalicious))
		return err
	})
	if err != nil || !told {
		return err
	}
	q.countLate(item, gone)
	return nil
}

func (q *Queue) countLate(item quarantine.Item, gone bool) {
	q.metrics.late.WithLabelValues(strconv.FormatBool(gone)).Inc()
	q.log.Error("sandbox: malicious, and decided before that was known", "mail", item.MailID, "item", item.ID, "delivered", gone)
}
