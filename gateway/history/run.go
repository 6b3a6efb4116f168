package history

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Run writes down what was told, and forgets who has not been seen for long,
// until ctx ends. What waits then is written first.
func (s *Store) Run(ctx context.Context) error {
	write, sweep := time.NewTicker(writeEvery), time.NewTicker(sweepEvery)
	defer write.Stop()
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			s.write(context.WithoutCancel(ctx))
			return ctx.Err()
		case <-write.C:
			s.write(ctx)
		case <-sweep.C:
			s.sweep(ctx)
		}
	}
}

// write saves what waits. What the database does not take waits on. A batch that
// was stored although the answer was lost is counted twice: these are numbers to
// go by, and a sender's good name does not hang on one of them.
func (s *Store) write(ctx context.Context) {
	s.mu.Lock()
	waiting := s.waiting
	s.waiting, s.full = map[key]change{}, false
	s.mu.Unlock()
	list := make([]key, 0, len(waiting))
	for k := range waiting {
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b key) int {
		if c := bytes.Compare(a.workspace[:], b.workspace[:]); c != 0 {
			return c
		}
		return bytes.Compare(a.digest[:], b.digest[:])
	})
	for batch := range slices.Chunk(list, batchMost) {
		if err := s.add(ctx, batch, waiting); err != nil {
			s.log.Warn("history of senders not written; it is tried again", "keys", len(batch), "error", err)
			s.putBack(batch, waiting)
		}
	}
}

func (s *Store) add(ctx context.Context, batch []key, changes map[key]change) error {
	ctx, cancel := context.WithTimeout(ctx, writeLimit)
	defer cancel()
	var (
		workspaces  []uuid.UUID
		digests     [][]byte
		mails, bad  []int64
		first, last []time.Time
	)
	for _, k := range batch {
		c := changes[k]
		workspaces, digests = append(workspaces, k.workspace), append(digests, k.digest[:])
		mails, bad = append(mails, c.mails), append(bad, c.bad)
		first, last = append(first, c.first), append(last, c.last)
	}
	if _, err := s.db.Exec(ctx, addSQL, workspaces, digests, mails, bad, first, last); err != nil {
		return fmt.Errorf("count mails of %d keys: %w", len(batch), err)
	}
	return nil
}

func (s *Store) putBack(batch []key, changes map[key]change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range batch {
		if !s.wait(k, changes[k]) {
			return
		}
	}
}

// sweep deletes a batch at a time, so that no lock is held for long.
func (s *Store) sweep(ctx context.Context) {
	for ctx.Err() == nil {
		tag, err := s.db.Exec(ctx, sweepSQL, s.now().Add(-keep), sweepMost)
		if err != nil {
			s.log.Warn("old history of senders not deleted", "error", err)
			return
		}
		if tag.RowsAffected() < sweepMost {
			return
		}
	}
}
