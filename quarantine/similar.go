package quarantine

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"mailward/internal/pg"
)

var linksSQL = pg.Query(queryFiles, "links")

// SimilarCap is up to where similar mails are counted.
const SimilarCap = 1000

// maxLike bounds how many links and parts of one mail are compared.
const maxLike = 4

// Likeness is something that a mail has in common with others.
type Likeness struct {
	Field string // of the list's filter: hash, url, sender, shape
	Value string
	Count int // of mails that have it, this one too; up to SimilarCap + 1
}

// Others is how many other mails have it.
func (l Likeness) Others() int { return max(0, l.Count-1) }

// Similar says what an item has in common with others in some workspaces: its
// bytes, a file in it, a link, the sender, the shape of its subject. What nobody
// else has is left out.
func (s *Store) Similar(ctx context.Context, i Item, workspaces []uuid.UUID) ([]Likeness, error) {
	var links []string
	if err := s.db.QueryRow(ctx, linksSQL, i.ID).Scan(&links); err != nil {
		return nil, fmt.Errorf("read links of item %s: %w", i.ID, err)
	}
	var out []Likeness
	for _, l := range i.likenesses(links) {
		f := Filter{Workspaces: workspaces}
		switch l.Field {
		case "hash":
			f.Hash = l.Value
		case "url":
			f.URL = l.Value
		case "sender":
			f.Sender = l.Value
		case "shape":
			f.Shape = l.Value
		}
		n, err := s.Matching(ctx, f, SimilarCap+1)
		if err != nil {
			return nil, fmt.Errorf("count mails like item %s: %w", i.ID, err)
		}
		if l.Count = n; n > 1 {
			out = append(out, l)
		}
	}
	return out, nil
}

// likenesses are what is compared.
func (i Item) likenesses(links []string) []Likeness {
	out := []Likeness{{Field: "hash", Value: i.SHA256}}
	n := 0
	for _, p := range i.Parts {
		if p.SHA256 != "" && p.SHA256 != i.SHA256 && p.Name != "" && n < maxLike {
			out = append(out, Likeness{Field: "hash", Value: p.SHA256})
			n++
		}
	}
	for _, l := range links[:min(len(links), maxLike)] {
		out = append(out, Likeness{Field: "url", Value: l})
	}
	for _, a := range headerAddresses(i.HeaderFrom) {
		if _, domain, ok := cutLast(a, "@"); ok && domain != "" {
			out = append(out, Likeness{Field: "sender", Value: a})
			break
		}
	}
	if shape := Shape(i.Subject); shape != "" {
		out = append(out, Likeness{Field: "shape", Value: shape})
	}
	return out
}
