package quarantine

import (
	"bufio"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"mailward/internal/durable"

	"github.com/google/uuid"
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

// Ref is what a row keeps of its blob.
type Ref struct {
	Name string // path below the blob folder; ends in the blob's id
	Key  []byte // wrapped
}

// Blobs is a folder of encrypted mails.
type Blobs struct {
	dir  string
	wrap Wrapper
}

// NewBlobs prepares the folder.
func NewBlobs(dir string, w Wrapper) (*Blobs, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make blob folder: %w", err)
	}
	return &Blobs{dir: dir, wrap: w}, nil
}

// Put stores what r yields under a new id. When it returns, the blob is on the
// disk: file and folder are synced.
func (b *Blobs) Put(ctx context.Context, r io.Reader) (Ref, error) {
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
	ref := Ref{Name: filepath.Join(h[len(h)-2:], h), Key: wrapped}
	dir := filepath.Join(b.dir, h[len(h)-2:])
	if err := b.makeShard(dir); err != nil {
		return Ref{}, diskError("make blob folder", err)
	}
	if err := writeBlob(dir, h, key, id, r); err != nil {
		return Ref{}, diskError("store blob", err)
	}
	return ref, nil
}

func (b *Blobs) makeShard(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return durable.SyncDir(b.dir)
}

// writeBlob encrypts a mail into its file.
func writeBlob(dir, name string, key []byte, id uuid.UUID, r io.Reader) error {
	return durable.Write(filepath.Join(dir, name), 0o600, func(w io.Writer) error { return seal(w, key, id, r) })
}

func diskError(what string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
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
	id, err := uuid.Parse(filepath.Base(ref.Name))
	if err != nil {
		return nil, fmt.Errorf("%w: its name is no id", ErrBlobDamaged)
	}
	key, err := b.wrap.Unwrap(ctx, ref.Key, id[:])
	if err != nil {
		return nil, fmt.Errorf("unwrap key of blob %s: %w", id, err)
	}
	gcm, err := newGCM(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBlobDamaged, err)
	}
	f, err := os.Open(filepath.Join(b.dir, ref.Name))
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
	f     *os.File
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

// Remove deletes a blob. One that is gone already is fine.
func (b *Blobs) Remove(ref Ref) error {
	if !filepath.IsLocal(ref.Name) {
		return ErrBlobDamaged
	}
	if err := os.Remove(filepath.Join(b.dir, ref.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove blob: %w", err)
	}
	return nil
}

// Sweep removes the files that are older than age and that known does not know:
// blobs whose row was never written, and half-written ones.
func (b *Blobs) Sweep(ctx context.Context, age time.Duration, known func(ctx context.Context, names []string) (map[string]bool, error)) (removed int, err error) {
	shards, err := os.ReadDir(b.dir)
	if err != nil {
		return 0, fmt.Errorf("read blob folder: %w", err)
	}
	for _, sh := range shards {
		files, err := os.ReadDir(filepath.Join(b.dir, sh.Name()))
		if err != nil {
			return removed, fmt.Errorf("read blob folder: %w", err)
		}
		var old []string
		for _, f := range files {
			if info, err := f.Info(); err == nil && time.Since(info.ModTime()) > age {
				old = append(old, filepath.Join(sh.Name(), f.Name()))
			}
		}
		if len(old) == 0 {
			continue
		}
		keep, err := known(ctx, old)
		if err != nil {
			return removed, err
		}
		for _, name := range old {
			if !keep[name] && os.Remove(filepath.Join(b.dir, name)) == nil {
				removed++
			}
		}
	}
	return removed, nil
}

// LocalKey wraps blob keys with a key in a file of this host.
type LocalKey struct {
	id  [8]byte
	gcm cipher.AEAD
}

// OpenLocalKey reads the key file, and makes it where there is none. Whoever
// can read it can read the quarantine, so its mode must be 0600.
func OpenLocalKey(path string) (*LocalKey, error) {
	key, err := OpenSecret(path)
	if err != nil {
		return nil, err
	}
	gcm, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	k := &LocalKey{gcm: gcm}
	sum := sha256.Sum256(append([]byte("mailward blob key id"), key...))
	copy(k.id[:], sum[:])
	return k, nil
}

// OpenSecret reads the bytes of a key file, and makes it where there is none.
func OpenSecret(path string) ([]byte, error) {
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if key, err = makeKey(path); errors.Is(err, fs.ErrExist) {
			key, err = os.ReadFile(path) // Another process was first.
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read blob key: %w", err)
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read blob key: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("the blob key %s can be read by others (mode %04o): chmod 600 it", path, st.Mode().Perm())
	}
	if len(key) != keySize {
		return nil, fmt.Errorf("the blob key %s has %d bytes, not %d: restore it from your backup", path, len(key), keySize)
	}
	return key, nil
}

// makeKey writes a new key whole or not at all.
func makeKey(path string) ([]byte, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	key := make([]byte, keySize)
	rand.Read(key)
	f, err := os.CreateTemp(dir, ".key-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(key); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	// A link, not a rename: it fails if another process was first.
	if err := os.Link(f.Name(), path); err != nil {
		return nil, err
	}
	return key, durable.SyncDir(dir)
}

// Wrap implements [Wrapper]. The key's id stands in front, for rotation.
func (k *LocalKey) Wrap(_ context.Context, key, aad []byte) ([]byte, error) {
	nonce := make([]byte, 12)
	rand.Read(nonce)
	out := append(append([]byte{}, k.id[:]...), nonce...)
	return k.gcm.Seal(out, nonce, key, aad), nil
}

// Unwrap implements [Wrapper].
func (k *LocalKey) Unwrap(_ context.Context, wrapped, aad []byte) ([]byte, error) {
	if len(wrapped) < 8+12+tagSize {
		return nil, ErrBlobDamaged
	}
	if [8]byte(wrapped[:8]) != k.id {
		return nil, errors.New("quarantine: the blob was encrypted with another key file")
	}
	key, err := k.gcm.Open(nil, wrapped[8:20], wrapped[20:], aad)
	if err != nil {
		return nil, ErrBlobDamaged
	}
	return key, nil
}
