package seal

import (
	"bytes"
	"context"
	"fmt"

	"mailward/audit/proof"
)

// Verified is what a check of the database found.
type Verified struct {
	Leaves      uint64
	Checkpoints int
	Head        proof.Checkpoint
	Problem     string // "": none
}

// VerifyDatabase computes the tree anew from all leaves and compares it with
// every checkpoint that is stored, with the one that is remembered outside, and
// with one that somebody has kept (a signed note; "": none). That the leaves are
// those of the events is what [audit.Log.Verify] checks.
func (s *Sealer) VerifyDatabase(ctx context.Context, kept string) (v Verified, err error) {
	keys, err := s.PublicKeys(ctx)
	if err != nil {
		return v, err
	}
	points, err := rowsOf[proof.BundleCheckpoint](ctx, s.DB, bundleCheckpointsSQL, 1<<30, int64(1)<<62)
	if err != nil {
		return v, err
	}
	want := map[uint64][]proof.Checkpoint{}
	for _, p := range points {
		c, _, err := proof.Open(p.Note, keys)
		if err != nil {
			v.Problem = fmt.Sprintf("a stored checkpoint has a bad signature: %v", err)
			return v, nil
		}
		want[c.Size] = append(want[c.Size], c)
		v.Head = c
	}
	head, err := s.outside(ctx)
	if err != nil {
		return v, err
	}
	if c, err := head.checkpoint(); err == nil && c.Size > 0 {
		want[c.Size] = append(want[c.Size], c)
	}
	grow := proof.NewGrower()
	roots, err := s.regrow(ctx, grow, want, kept)
	if err != nil {
		return v, err
	}
	v.Leaves = grow.Size()
	for size, list := range want {
		for _, c := range list {
			switch {
			case size > v.Leaves:
				v.Problem = fmt.Sprintf("%d events were signed under %s, and there are only %d", size, c.Origin, v.Leaves)
			case !bytes.Equal(roots[size], c.Root):
				v.Problem = fmt.Sprintf("the first %d events are not those that were signed under %s", size, c.Origin)
			default:
				v.Checkpoints++
			}
		}
	}
	if kept == "" {
		return v, nil
	}
	c, _, err := proof.Open(kept, keys)
	if err != nil {
		return v, fmt.Errorf("the checkpoint that was kept is not signed by a key of this record: %w", err)
	}
	if why := proof.Contradicts(c, v.Leaves, roots[c.Size]); why != "" {
		told, err := s.restored(ctx, c.Origin)
		v.Problem = why + told
		return v, err
	}
	return v, nil
}

// outside is the newest head that is kept outside of the database.
func (s *Sealer) outside(ctx context.Context) (Head, error) {
	head, _, err := s.Local.Load(ctx)
	if err != nil || s.Shared == nil {
		return head, err
	}
	shared, _, err := s.Shared.Load(ctx)
	if err == nil && (shared.newer(head) || head.Number == 0) {
		head = shared
	}
	return head, err
}

// restored tells of a restore that gave up the origin of a checkpoint.
func (s *Sealer) restored(ctx context.Context, origin string) (string, error) {
	origins, err := rowsOf[proof.BundleOrigin](ctx, s.DB, bundleOriginsSQL)
	return proof.GivenUp(origins, origin), err
}

// regrow reads all leaves and gives the roots of the sizes that are asked for.
func (s *Sealer) regrow(ctx context.Context, grow *proof.Grower, want map[uint64][]proof.Checkpoint, kept string) (map[uint64][]byte, error) {
	roots := map[uint64][]byte{}
	for size := range want {
		roots[size] = nil
	}
	if c, err := proof.Read(kept); err == nil {
		roots[c.Size] = nil
	} else if kept != "" {
		return nil, fmt.Errorf("the checkpoint that was kept cannot be read: %w", err)
	}
	if _, asked := roots[0]; asked { // sealed before the first event
		var err error
		if roots[0], err = grow.Root(); err != nil {
			return nil, fmt.Errorf("build the tree: %w", err)
		}
	}
	var size uint64
	if err := s.DB.QueryRow(ctx, sizeSQL).Scan(&size); err != nil {
		return nil, fmt.Errorf("count leaves: %w", err)
	}
	for first := uint64(0); first < size; first += leafBatch {
		h, err := source{s.DB}.Hashes(ctx, 0, first, int(min(leafBatch, size-first)))
		if err != nil {
			return nil, err
		}
		for _, leaf := range h {
			if err := grow.Add(leaf); err != nil {
				return nil, fmt.Errorf("build the tree: %w", err)
			}
			if _, asked := roots[grow.Size()]; !asked {
				continue
			}
			if roots[grow.Size()], err = grow.Root(); err != nil {
				return nil, fmt.Errorf("build the tree: %w", err)
			}
		}
	}
	return roots, nil
}
