package quarantine

import (
	"bufio"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"mailward/internal/pg"
)

// A blob is a header and chunks. Each chunk is AES-256-GCM of up to 64 KiB with
// the chunk's number and whether it is the last one as nonce: the key is used
// for this blob alone, so no nonce comes twice. The blob's id is bound to every
// chunk. So a chunk that was changed, moved, left out or added does not open.
const (
	blobMagic = "MWBLOB1\n"
	chunkSize = 64 << 10
	tagSize   = 16
	keySize   = 32
)

var (
	// ErrBlobDamaged means that a blob is not what was written.
	ErrBlobDamaged = errors.New("quarantine: blob damaged")
	// ErrBlobMissing means that a blob's file is gone.
	ErrBlobMissing = errors.New("quarantine: blob missing")
	// ErrDiskFull means that there is no room for another blob.
	ErrDiskFull = errors.New("quarantine: disk full")
)

// Wrapper encrypts the key of one blob, so that blobs without it are worthless.
type Wrapper interface {
	Wrap(ctx context.Context, key, context []byte) ([]byte, error)
	Unwrap(ctx context.Context, wrapped, context []byte) ([]byte, error)
}

// Ref is what it takes to read a blob.
type Ref struct {
	Name string // path below the blob folder; ends in the blob's id
	Key  []byte // wrapped; its row has it
}

func (r Ref) id() (uuid.UUID, error) {
	id, err := uuid.Parse(path.Base(r.Name))
	if err != nil {
		return id, fmt.Errorf("%w: its name is no id", ErrBlobDamaged)
	}
	return id, nil
}

// Blobs are encrypted mails in a folder or a bucket.
type Blobs struct {
	folder Folder
	wrap   Wrapper

	mu      sync.Mutex // guards trouble
	trouble Trouble
}

// Trouble is why blobs cannot be stored now.
type Trouble struct {
	Since time.Time // zero: the last one was stored
	Last  time.Time
	Full  bool // there is no room
	Err   error
}

// NewBlobs prepares a folder of this host.
func NewBlobs(dir string, w Wrapper) (*Blobs, error) {
	d, err := NewDir(dir)
	if err != nil {
		return nil, err
	}
	return NewBlobsIn(d, w), nil
}

// NewBlobsIn keeps blobs in any folder.
func NewBlobsIn(f Folder, w Wrapper) *Blobs { return &Blobs{folder: f, wrap: w} }

// Trouble says whether the last blob could be stored.
func (b *Blobs) Trouble() Trouble {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.trouble
}

func (b *Blobs) note(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		b.trouble = Trouble{}
		return
	}
	now := time.Now()
	if b.trouble.Since.IsZero() {
		b.trouble.Since = now
	}
	b.trouble.Last, b.trouble.Full, b.trouble.Err = now, errors.Is(err, ErrDiskFull), err
}

// Put stores what r yields under a new id. When it returns, the blob is on the
// disk: file and folder are synced. What r itself fails with is no trouble of ours.
func (b *Blobs) Put(ctx context.Context, r io.Reader) (Ref, error) {
	in := &source{r: r}
	ref, err := b.put(ctx, in)
	if in.err == nil && ctx.Err() == nil {
		b.note(err)
	}
	return ref, err
}

func (b *Blobs) put(ctx context.Context, r io.Reader) (Ref, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Ref{}, fmt.Errorf("make blob id: %w", err)
	}
	key := make([]byte, keySize)
	rand.Read(key)
	wrapped, err := b.wrap.Wrap(ctx, key, id[:])
	if err != nil {
		return Ref{}, fmt.Errorf("wrap key of blob: %w", err)
	}
	h := id.String()
	ref := Ref{Name: path.Join(h[len(h)-2:], h), Key: wrapped}
	err = b.folder.Put(ctx, ref.Name, func(w io.Writer) error { return seal(w, key, id, r) })
	if err != nil {
		return Ref{}, diskError("store blob", err)
	}
	return ref, nil
}

// source remembers whether reading failed.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func diskError(what string, err error) error {
	if errors.Is(err, ErrDiskFull) {
		return fmt.Errorf("%s: %w", what, err)
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) || pg.IsDiskFull(err) {
		return fmt.Errorf("%s: %w: %w", what, ErrDiskFull, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func chunkNonce(n uint64, last bool) []byte {
	nonce := make([]byte, 12)
	binary.BigEndian.PutUint64(nonce, n)
	if last {
		nonce[11] = 1
	}
	return nonce
}

func seal(w io.Writer, key []byte, id uuid.UUID, r io.Reader) error {
	gcm, err := newGCM(key)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, blobMagic); err != nil {
		return err
	}
	br := bufio.NewReaderSize(r, chunkSize+1)
	buf, out := make([]byte, chunkSize), make([]byte, 0, chunkSize+tagSize)
	for n := uint64(0); ; n++ {
		m, err := io.ReadFull(br, buf)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return err
		}
		_, more := br.Peek(1)
		if more != nil && more != io.EOF {
			return more
		}
		last := more == io.EOF
		out = gcm.Seal(out[:0], chunkNonce(n, last), buf[:m], id[:])
		if _, err := w.Write(out); err != nil {
			return err
		}
		if last {
			return nil
		}
	}
}

// Open reads a blob. Every chunk is verified before any byte of it is handed
// out; a blob that lacks its end is an error before the end.
func (b *Blobs) Open(ctx context.Context, ref Ref) (io.ReadCloser, error) {
	if !filepath.IsLocal(ref.Name) {
		return nil, fmt.Errorf("%w: its name leaves the folder", ErrBlobDamaged)
	}
	id, err := ref.id()
	if err != nil {
		return nil, err
	}
	if len(ref.Key) == 0 {
		return nil, fmt.Errorf("%w: it has no row, and so no key", ErrBlobMissing)
	}
	key, err := b.wrap.Unwrap(ctx, ref.Key, id[:])
	if err != nil {
		return nil, fmt.Errorf("unwrap key of blob %s: %w", id, err)
	}
	gcm, err := newGCM(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBlobDamaged, err)
	}
	f, err := b.folder.Open(ctx, ref.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrBlobMissing
	}
	if err != nil {
		return nil, fmt.Errorf("open blob: %w", err)
	}
	r := &blobReader{f: f, br: bufio.NewReaderSize(f, chunkSize+tagSize+1), gcm: gcm, id: id, buf: make([]byte, chunkSize+tagSize)}
	magic := make([]byte, len(blobMagic))
	if _, err := io.ReadFull(r.br, magic); err != nil || string(magic) != blobMagic {
		f.Close()
		return nil, ErrBlobDamaged
	}
	return r, nil
}

type blobReader struct {
	f     io.ReadCloser
	br    *bufio.Reader
	gcm   cipher.AEAD
	id    uuid.UUID
	n     uint64
	buf   []byte
	plain []byte
	done  bool
}

func (r *blobReader) Read(p []byte) (int, error) {
	for len(r.plain) == 0 {
		if r.done {
			return 0, io.EOF
		}
		m, err := io.ReadFull(r.br, r.buf)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return 0, fmt.Errorf("read blob: %w", err)
		}
		_, more := r.br.Peek(1)
		last := more == io.EOF
		if m < tagSize {
			return 0, ErrBlobDamaged
		}
		if r.plain, err = r.gcm.Open(r.buf[:0], chunkNonce(r.n, last), r.buf[:m], r.id[:]); err != nil {
			return 0, ErrBlobDamaged
		}
		r.n++
		r.done = last
	}
	n := copy(p, r.plain)
	r.plain = r.plain[n:]
	return n, nil
}

func (r *blobReader) Close() error { return r.f.Close() }

// remove deletes a blob's file. One that is gone already is fine.
func (b *Blobs) remove(ctx context.Context, name string) error {
	if !filepath.IsLocal(name) {
		return ErrBlobDamaged
	}
	if err := b.folder.Remove(ctx, name); err != nil {
		return fmt.Errorf("remove blob: %w", err)
	}
	return nil
}
