package seal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/audit/proof"
)

// querier reads, in a transaction or without.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// source reads the tree's hashes from the database.
type source struct{ q querier }

// Hashes implements [proof.Source].
func (s source) Hashes(ctx context.Context, level uint, first uint64, n int) ([][]byte, error) {
	sql, args := leavesSQL, []any{first, n}
	if level > 0 {
		sql, args = nodesSQL, []any{first, n, level}
	}
	rows, err := s.q.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read hashes of the tree: %w", err)
	}
	h, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		return nil, fmt.Errorf("read hashes of the tree: %w", err)
	}
	if len(h) != n {
		return nil, fmt.Errorf("level %d has %d of %d hashes from %d on", level, len(h), n, first)
	}
	return h, nil
}

// ErrNotSealed means that no checkpoint covers an event yet.
var ErrNotSealed = errors.New("seal: not sealed yet")

// Signed is a checkpoint as it was signed.
type Signed struct {
	proof.Checkpoint
	Note     string
	SignedAt time.Time
}

// Last is the newest checkpoint, or ErrNotSealed.
func (s *Sealer) Last(ctx context.Context) (c Signed, err error) {
	err = s.DB.QueryRow(ctx, lastSQL).Scan(&c.Origin, &c.Size, &c.Root, &c.Note, &c.SignedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return c, ErrNotSealed
	}
	if err != nil {
		return c, fmt.Errorf("read last checkpoint: %w", err)
	}
	if signed, err := proof.Read(c.Note); err == nil {
		c.Next = signed.Next
	}
	return c, nil
}

// PublicKeys are all keys that have ever signed.
func (s *Sealer) PublicKeys(ctx context.Context) ([]proof.Key, error) { return readKeys(ctx, s.DB) }

// Inclusion shows that an event is under the newest checkpoint.
type Inclusion struct {
	Seq  uint64
	Leaf []byte
	Path [][]byte
	Signed
}

// Include proves an event, or says ErrNotSealed or [audit.ErrNotFound].
func (s *Sealer) Include(ctx context.Context, id uuid.UUID) (p Inclusion, err error) {
	if p.Signed, err = s.Last(ctx); err != nil {
		return p, err
	}
	err = s.DB.QueryRow(ctx, seqSQL, id).Scan(&p.Seq, &p.Leaf)
	if errors.Is(err, pgx.ErrNoRows) {
		return p, audit.ErrNotFound
	}
	if err != nil {
		return p, fmt.Errorf("look for the leaf of an event: %w", err)
	}
	if p.Seq >= p.Size {
		return p, ErrNotSealed
	}
	p.Path, err = (proof.Tree{Source: source{s.DB}}).Inclusion(ctx, p.Seq, p.Size)
	return p, err
}

// Consist proves that the tree of from events is the beginning of that of to;
// to 0 is the newest checkpoint.
func (s *Sealer) Consist(ctx context.Context, from, to uint64) (a, b proof.Checkpoint, path [][]byte, err error) {
	last, err := s.Last(ctx)
	if err != nil {
		return a, b, nil, err
	}
	if to == 0 {
		to = last.Size
	}
	if from == 0 || from > to || to > last.Size {
		return a, b, nil, proof.ErrTooShort
	}
	t := proof.Tree{Source: source{s.DB}}
	a, b = proof.Checkpoint{Origin: last.Origin, Size: from}, proof.Checkpoint{Origin: last.Origin, Size: to}
	if a.Root, err = t.Root(ctx, from); err != nil {
		return a, b, nil, err
	}
	if b.Root, err = t.Root(ctx, to); err != nil {
		return a, b, nil, err
	}
	path, err = t.Consistency(ctx, from, to)
	return a, b, path, err
}
