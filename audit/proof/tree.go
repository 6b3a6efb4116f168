package proof

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
)

// stride is how many levels lie between those that are stored: leaves, and
// nodes over 256, 65,536, ... of them.
const stride = 8

// Source gives stored hashes: level 0 are leaves, level 8, 16, ... nodes of
// complete subtrees. It returns exactly n of them, or an error.
type Source interface {
	Hashes(ctx context.Context, level uint, first uint64, n int) ([][]byte, error)
}

// Tree is the Merkle tree over a source.
type Tree struct{ Source Source }

// ErrTooShort means that a tree has fewer leaves than are asked about.
var ErrTooShort = errors.New("proof: the tree has fewer leaves")

// node is the hash of a complete subtree, whose hashes are read from the
// stored level below it.
func (t Tree) node(ctx context.Context, id compact.NodeID) ([]byte, error) {
	level := id.Level / stride * stride
	over := id.Level - level
	h, err := t.Source.Hashes(ctx, level, id.Index<<over, 1<<over)
	if err != nil {
		return nil, err
	}
	for len(h) > 1 {
		for i := range len(h) / 2 {
			h[i] = rfc6962.DefaultHasher.HashChildren(h[2*i], h[2*i+1])
		}
		h = h[:len(h)/2]
	}
	return h[0], nil
}

func (t Tree) nodes(ctx context.Context, ids []compact.NodeID) ([][]byte, error) {
	out := make([][]byte, len(ids))
	for i, id := range ids {
		var err error
		if out[i], err = t.node(ctx, id); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Root is the root of the first size leaves.
func (t Tree) Root(ctx context.Context, size uint64) ([]byte, error) {
	if size == 0 {
		return rfc6962.DefaultHasher.EmptyRoot(), nil
	}
	h, err := t.nodes(ctx, compact.RangeNodes(0, size, nil))
	if err != nil {
		return nil, err
	}
	root := h[len(h)-1]
	for i := len(h) - 2; i >= 0; i-- {
		root = rfc6962.DefaultHasher.HashChildren(h[i], root)
	}
	return root, nil
}

// Inclusion proves that a leaf is in the tree of size leaves (RFC 6962 §2.1.1).
func (t Tree) Inclusion(ctx context.Context, index, size uint64) ([][]byte, error) {
	n, err := proof.Inclusion(index, size)
	if err != nil {
		return nil, ErrTooShort
	}
	return t.prove(ctx, n)
}

// Consistency proves that a tree has grown out of an earlier one (§2.1.2).
func (t Tree) Consistency(ctx context.Context, from, to uint64) ([][]byte, error) {
	n, err := proof.Consistency(from, to)
	if err != nil {
		return nil, ErrTooShort
	}
	return t.prove(ctx, n)
}

func (t Tree) prove(ctx context.Context, n proof.Nodes) ([][]byte, error) {
	h, err := t.nodes(ctx, n.IDs)
	if err != nil {
		return nil, err
	}
	if h, err = n.Rehash(h, rfc6962.DefaultHasher.HashChildren); err != nil {
		return nil, fmt.Errorf("proof: put hashes together: %w", err)
	}
	return h, nil
}

// CheckInclusion says whether a proof shows a leaf under a checkpoint.
func CheckInclusion(c Checkpoint, index uint64, leaf []byte, path [][]byte) error {
	return proof.VerifyInclusion(rfc6962.DefaultHasher, index, c.Size, leaf, path, c.Root)
}

// Text is an inclusion proof as a file (c2sp.org/tlog-proof), which needs
// nothing but the log's public key to be checked.
func Text(index uint64, path [][]byte, signed string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "c2sp.org/tlog-proof@v1\nindex %d\n", index)
	for _, h := range path {
		b.WriteString(base64.StdEncoding.EncodeToString(h) + "\n")
	}
	b.WriteString("\n" + signed)
	return b.String()
}

// Grower computes roots while leaves come in, one after the other.
type Grower struct{ r *compact.Range }

// NewGrower begins with the empty tree.
func NewGrower() *Grower {
	f := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	return &Grower{f.NewEmptyRange(0)}
}

// Add takes the next leaf.
func (g *Grower) Add(leaf []byte) error { return g.r.Append(bytes.Clone(leaf), nil) }

// Size is how many leaves have come.
func (g *Grower) Size() uint64 { return g.r.End() }

// Root is the root of the leaves so far.
func (g *Grower) Root() ([]byte, error) {
	if g.r.End() == 0 {
		return rfc6962.DefaultHasher.EmptyRoot(), nil
	}
	return g.r.GetRootHash(nil)
}
