package quarantine

import (
	"context"
	"fmt"
	"path"
	"time"

	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
)

var (
	blobShardSQL   = pg.Query(queryFiles, "blob_shard")
	blobMissingSQL = pg.Query(queryFiles, "blob_missing")
	blobSweptSQL   = pg.Query(queryFiles, "blob_swept")
)

// sweepAge is how old a file without a row must be before it counts as garbage:
// far longer than a transaction takes.
const sweepAge = time.Hour

// A sweep that would take this many files, and more than it knows, takes none: the
// database is more likely the wrong one, or an old copy, than the files garbage.
const tooManyOrphans = 100

// Swept is what a sweep found.
type Swept struct {
	Files   int // in the store
	Removed int // files without a row, and blobs that nothing needs any more
	Missing int // blobs whose file is gone, found for the first time
	Refused int // files without a row that were left: too many to be believed
}

// Sweep compares the files with the rows. Blobs that nothing needs go, and files
// that no row knows; a row without its file is reported. It is the end of the bytes
// of relayed mail, too.
func (s *Store) Sweep(ctx context.Context) (Swept, error) {
	w := sweep{Store: s, began: s.now()}
	err := w.run(ctx)
	trouble := ""
	if err != nil {
		trouble = clean(err.Error())
	}
	f := w.found
	if _, err2 := s.db.Exec(ctx, blobSweptSQL, w.began, f.Files, f.Removed, f.Missing, f.Refused, trouble); err == nil && err2 != nil {
		err = fmt.Errorf("note what the sweep found: %w", err2)
	}
	return f, err
}

// sweep is one run.
type sweep struct {
	*Store
	began   time.Time
	found   Swept
	known   int      // files with a row
	orphans []string // files that are old and have none
}

func (w *sweep) run(ctx context.Context) error {
	for n := range 256 {
		if err := w.shard(ctx, fmt.Sprintf("%02x", n)); err != nil {
			return err
		}
	}
	if len(w.orphans) >= tooManyOrphans && len(w.orphans) > w.known {
		w.found.Refused = len(w.orphans)
		w.log.Error("files without a row are left, as they are more than those with one: is this the right database?", "files", len(w.orphans), "known", w.known)
		return nil
	}
	for _, name := range w.orphans {
		if err := w.blobs.remove(ctx, name); err != nil {
			return err
		}
		w.found.Removed++
	}
	return nil
}

type blobRow struct {
	name      string
	created   time.Time
	missingAt *time.Time
	needed    bool
}

// shard does one part of the folder. The files are listed before the rows: a blob
// that comes while we look has its file first.
func (w *sweep) shard(ctx context.Context, shard string) error {
	files, err := w.blobs.folder.List(ctx, shard)
	if err != nil {
		return fmt.Errorf("list blobs: %w", err)
	}
	rows, err := w.rows(ctx, shard)
	if err != nil {
		return err
	}
	w.found.Files += len(files)
	there := make(map[string]bool, len(files))
	for _, f := range files {
		there[f.Name] = true
		if _, ok := rows[f.Name]; ok {
			w.known++
		} else if w.began.Sub(f.Changed) > sweepAge {
			w.orphans = append(w.orphans, f.Name)
		}
	}
	for _, r := range rows {
		if err := w.row(ctx, r, there[r.name]); err != nil {
			return err
		}
	}
	return nil
}

func (w *sweep) rows(ctx context.Context, shard string) (map[string]blobRow, error) {
	rows, err := w.db.Query(ctx, blobShardSQL, shard+"/")
	if err != nil {
		return nil, fmt.Errorf("read blobs: %w", err)
	}
	out := map[string]blobRow{}
	var r blobRow
	_, err = pgx.ForEachRow(rows, []any{&r.name, &r.created, &r.missingAt, &r.needed}, func() error {
		out[r.name] = r
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read blobs: %w", err)
	}
	return out, nil
}

func (w *sweep) row(ctx context.Context, r blobRow, there bool) error {
	switch {
	case !r.needed:
		return w.drop(ctx, r.name)
	case there == (r.missingAt == nil):
		return nil // as it was known
	case !there && w.began.Sub(r.created) <= sweepAge:
		return nil
	}
	there, err := w.blobs.folder.Has(ctx, r.name) // also one that came since the files were listed
	if err != nil {
		return fmt.Errorf("look for blob: %w", err)
	}
	return w.mark(ctx, r.name, !there)
}

func (w *sweep) drop(ctx context.Context, name string) error {
	var gone bool
	err := w.db.Act(ctx, pg.System("sweep of blobs", "nothing needs the blob"), func(ctx context.Context, tx pgx.Tx) (err error) {
		gone, err = dropBlob(ctx, tx, name)
		return err
	})
	if err != nil || !gone {
		return err
	}
	if err := w.blobs.remove(ctx, name); err != nil {
		return err
	}
	w.found.Removed++
	return nil
}

// mark puts on record that the bytes of a mail are gone, or are back.
func (w *sweep) mark(ctx context.Context, name string, gone bool) error {
	actor := pg.System("sweep of blobs", "comparison of files and rows")
	err := w.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, blobMissingSQL, name, gone)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		ev := audit.Event{Action: audit.BlobFound, Actor: actor, Retention: audit.Retention3Years, Targets: []audit.Target{{Type: "blob", ID: path.Base(name)}}}
		if gone {
			w.found.Missing++
			ev.Action, ev.Outcome, ev.Severity, ev.OutcomeCode = audit.BlobMissing, "failure", "critical", "missing"
		}
		_, err = w.audit.Append(ctx, tx, ev)
		return err
	})
	if err != nil {
		return fmt.Errorf("note whether blob %s is there: %w", name, err)
	}
	if gone {
		w.log.Error("the bytes of a stored mail are gone", "blob", name)
	}
	return nil
}
