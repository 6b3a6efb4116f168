package quarantine

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

var (
	blobKeyNamesSQL = pg.Query(queryFiles, "blob_key_names")
	blobHealthSQL   = pg.Query(queryFiles, "blob_health")
)

// proofSize is about that of a mail, so that room for it is room for mail.
const proofSize = 256 << 10

// prove stores and removes something where the last mail could not be stored: no
// mail may come for a while to show that it can be again.
func (b *Blobs) prove(ctx context.Context) Trouble {
	t := b.Trouble()
	if t.Since.IsZero() {
		return t
	}
	if ref, err := b.Put(ctx, strings.NewReader(strings.Repeat("\x00", proofSize))); err == nil {
		b.remove(ctx, ref.Name) // where this fails the sweep finds it
	}
	return b.Trouble()
}

// BlobStatus is how the store of blobs is.
type BlobStatus struct {
	Trouble      Trouble
	Missing      int
	MissingSince time.Time
	SweptAt      time.Time // zero: never
	Refused      int       // files without a row that a sweep left
	SweepTrouble string
	UnknownKeys  []string
}

// BlobStatus reads it.
func (s *Store) BlobStatus(ctx context.Context, k *Keys) (st BlobStatus, err error) {
	st.Trouble = s.blobs.prove(ctx)
	var since, swept *time.Time
	if err := s.db.QueryRow(ctx, blobHealthSQL).Scan(&swept, &st.Refused, &st.SweepTrouble, &st.Missing, &since); err != nil {
		return st, fmt.Errorf("read how the store of blobs is: %w", err)
	}
	if since != nil {
		st.MissingSince = *since
	}
	if swept != nil {
		st.SweptAt = *swept
	}
	rows, err := s.db.Query(ctx, blobKeyNamesSQL)
	if err != nil {
		return st, fmt.Errorf("read keys of blobs: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return st, fmt.Errorf("read keys of blobs: %w", err)
	}
	st.UnknownKeys = k.Unknown(names)
	return st, nil
}
