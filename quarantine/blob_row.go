package quarantine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

var (
	blobSharedSQL = pg.Query(queryFiles, "blob_shared")
	blobInsertSQL = pg.Query(queryFiles, "blob_insert")
	blobShareSQL  = pg.Query(queryFiles, "blob_share")
	blobSameSQL   = pg.Query(queryFiles, "blob_same")
	blobLockSQL   = pg.Query(queryFiles, "blob_lock")
	blobDropSQL   = pg.Query(queryFiles, "blob_drop")
)

// errBlobDropped means that the blob a writer wanted to share was dropped before
// the writer could refer to it. It stores the mail itself then.
var errBlobDropped = errors.New("quarantine: the shared blob is gone")

// Content is a mail that is to be stored.
type Content struct {
	Workspace uuid.UUID
	// Sum is the SHA-256 of the bytes, by which the same mail of the same workspace is
	// stored once. Nil: it is stored in any case.
	Sum []byte
	// Open gives the bytes, each time from their beginning.
	Open func(context.Context) (io.ReadCloser, error)
}

// Kept is a mail whose bytes are durable. Nothing refers to them yet: a row that
// does is written in the same transaction as [Store.Claim].
type Kept struct {
	ref       Ref
	workspace uuid.UUID
	sum       []byte
	shared    bool // the blob of an earlier mail
	alone     bool // not to be shared: the one that is there is not trusted
	claimed   string
}

// Keep stores a mail, or finds it stored, and calls refer, which writes the rows
// that need it in one transaction of its own, together with [Store.Claim].
//
// A file whose transaction failed stays: the commit may have been done. The sweep
// finds out.
func (s *Store) Keep(ctx context.Context, c Content, refer func(k *Kept) error) error {
	k, trusted, err := s.share(ctx, c)
	if err != nil {
		return err
	}
	if k != nil {
		if err := refer(k); !errors.Is(err, errBlobDropped) {
			return s.noteFull(err)
		}
	}
	if k, err = s.store(ctx, c); err != nil {
		return err
	}
	k.alone = !trusted
	if err := refer(k); err != nil {
		return s.noteFull(err)
	}
	if k.claimed != k.ref.Name { // another process was first
		if err := s.blobs.remove(ctx, k.ref.Name); err != nil {
			s.log.Warn("a file that nothing needs stays until the next sweep", "blob", k.ref.Name, "error", err)
		}
	}
	return nil
}

// noteFull has a database without room counted as a store without room.
func (s *Store) noteFull(err error) error {
	if !pg.IsDiskFull(err) {
		return err
	}
	err = diskError("write rows of a mail", err)
	s.blobs.note(err)
	return err
}

// Store stores a mail that is like no other, as a mail of ours is. The caller
// claims it.
func (s *Store) Store(ctx context.Context, workspace uuid.UUID, r io.Reader) (*Kept, error) {
	ref, err := s.blobs.Put(ctx, r)
	if err != nil {
		return nil, err
	}
	return &Kept{ref: ref, workspace: workspace}, nil
}

func (s *Store) store(ctx context.Context, c Content) (*Kept, error) {
	r, err := c.Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("read mail to store it: %w", err)
	}
	defer r.Close()
	k, err := s.Store(ctx, c.Workspace, r)
	if err != nil {
		return nil, err
	}
	k.sum = c.Sum
	return k, nil
}

// share finds the blob of the same mail. It is read to its end: a 250 must not
// stand on a file that somebody has damaged. Such a one is not trusted, and the mail
// gets a blob of its own.
func (s *Store) share(ctx context.Context, c Content) (k *Kept, trusted bool, err error) {
	if c.Sum == nil {
		return nil, true, nil
	}
	k = &Kept{workspace: c.Workspace, sum: c.Sum, shared: true}
	err = s.db.QueryRow(ctx, blobSharedSQL, c.Workspace, c.Sum).Scan(&k.ref.Name, &k.ref.Key)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("look for the same mail: %w", err)
	}
	if err := s.verify(ctx, k.ref, c.Sum); err != nil {
		if ctx.Err() != nil {
			return nil, false, err
		}
		s.log.Error("a stored mail cannot be read, and may be lost", "blob", k.ref.Name, "error", err)
		return nil, false, nil
	}
	return k, true, nil
}

// verify reads a blob to its end and compares it with a hash.
func (s *Store) verify(ctx context.Context, ref Ref, sum []byte) error {
	r, err := s.blobs.Open(ctx, ref)
	if err != nil {
		return err
	}
	defer r.Close()
	var h hash.Hash = sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return err
	}
	if string(h.Sum(nil)) != string(sum) {
		return fmt.Errorf("%w: it holds another mail", ErrBlobDamaged)
	}
	return nil
}

// Claim writes the row of a blob, or takes hold of the row of the same mail, and
// returns the name to refer to. Whoever drops blobs waits for the caller's
// transaction and then sees what refers to it.
func (s *Store) Claim(ctx context.Context, tx pgx.Tx, k *Kept) (name string, err error) {
	if k.claimed, err = s.claim(ctx, tx, k); err != nil && !errors.Is(err, errBlobDropped) {
		return "", fmt.Errorf("write row of blob: %w", err)
	}
	return k.claimed, err
}

func (s *Store) claim(ctx context.Context, tx pgx.Tx, k *Kept) (name string, err error) {
	if !k.shared {
		if done, err := insertBlob(ctx, tx, k, !k.alone); err != nil || done {
			return k.ref.Name, err
		}
	}
	// Its own row is there where the caller writes several rows for one mail.
	err = tx.QueryRow(ctx, blobShareSQL, k.ref.Name).Scan(&name)
	if !errors.Is(err, pgx.ErrNoRows) {
		return name, err
	}
	if k.shared {
		return "", errBlobDropped
	}
	if err = tx.QueryRow(ctx, blobSameSQL, k.workspace, k.sum).Scan(&name); err == nil {
		if there, err := s.blobs.folder.Has(ctx, name); err == nil && there {
			return name, nil
		}
	} else if !errors.Is(err, pgx.ErrNoRows) {
		return "", err
	}
	// The other one was dropped since, or its file is gone: this one is not shared.
	_, err = insertBlob(ctx, tx, k, false)
	return k.ref.Name, err
}

func insertBlob(ctx context.Context, tx pgx.Tx, k *Kept, shared bool) (bool, error) {
	id, err := k.ref.id()
	if err != nil {
		return false, err
	}
	var sum []byte
	if shared {
		sum = k.sum
	}
	tag, err := tx.Exec(ctx, blobInsertSQL, id, k.ref.Name, k.workspace, sum, k.ref.Key, wrappedBy(k.ref.Key))
	return err == nil && tag.RowsAffected() == 1, err
}

// dropBlob takes a blob's row away, and with it the key, if nothing needs it any
// more. The caller removes the file once that is committed.
func dropBlob(ctx context.Context, tx pgx.Tx, name string) (gone bool, err error) {
	if err := tx.QueryRow(ctx, blobLockSQL, name).Scan(&name); err != nil {
		if errors.Is(err, pgx.ErrNoRows) {
			return true, nil
		}
		return false, fmt.Errorf("lock blob: %w", err)
	}
	tag, err := tx.Exec(ctx, blobDropSQL, name)
	if err != nil {
		return false, fmt.Errorf("drop blob: %w", err)
	}
	return tag.RowsAffected() == 1, nil
}

// removeItemBlob notes that an item has no bytes any more, and says whether the
// file can go: it stays as long as the same mail is held in another item.
func removeItemBlob(ctx context.Context, tx pgx.Tx, i Item) (gone bool, err error) {
	if _, err := tx.Exec(ctx, blobRemovedSQL, i.ID); err != nil {
		return false, fmt.Errorf("note that the bytes of the item are gone: %w", err)
	}
	return dropBlob(ctx, tx, i.ref.Name)
}
