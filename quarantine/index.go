package quarantine

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

// indexBatch is how many items one call of Index sees to.
const indexBatch = 500

const (
	indexPause = 100 * time.Millisecond // between batches, so that mail goes first
	indexEvery = time.Minute            // an old process beside us may hold mail without terms
)

// RunIndex makes all items searchable, until ctx ends.
func (s *Store) RunIndex(ctx context.Context) error {
	for {
		n, err := s.Index(ctx)
		wait := indexPause
		if err != nil && ctx.Err() == nil {
			s.log.Error("held mail is not indexed", "error", err)
		}
		if err != nil || n == 0 {
			wait = indexEvery
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// Index makes items searchable that were held before there were terms. It does
// one batch, the newest first, and says how many they were; none: all are done.
// What a mail links to is known only from when it was held, so such items are
// not found by it.
func (s *Store) Index(ctx context.Context) (int, error) {
	rows, err := s.db.Query(ctx, unindexedSQL, indexBatch)
	if err != nil {
		return 0, fmt.Errorf("read items without terms: %w", err)
	}
	items, err := pgx.CollectRows(rows, scanItem)
	if err != nil {
		return 0, fmt.Errorf("read items without terms: %w", err)
	}
	if len(items) == 0 {
		return 0, nil
	}
	if err := s.addRecipients(ctx, items); err != nil {
		return 0, err
	}
	err = s.db.Act(ctx, pg.System("quarantine_index", "items without terms"), func(ctx context.Context, tx pgx.Tx) error {
		b := &pgx.Batch{}
		for _, i := range items {
			b.Queue(setTermsSQL, i.ID, i.terms(nil), i.words())
		}
		return tx.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return 0, fmt.Errorf("index items: %w", err)
	}
	return len(items), nil
}
