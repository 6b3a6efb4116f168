package quarantine

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"mailward/internal/durable"
)

// Ring is the local keys that blobs were wrapped with: the one in force, in a file,
// and older ones in a folder beside it, which still open what they wrapped. All
// processes of an installation see the same files, and read them again when the
// one in force has changed.
type Ring struct {
	path string // of the key in force
	old  string // the folder of the others

	mu      sync.Mutex // guards all below
	current *LocalKey  // nil: there is none
	keys    map[[8]byte]*LocalKey
	seen    os.FileInfo // of the key in force when it was read
}

// ErrKeyUnknown means that a blob's key was wrapped with a key that is not here.
var ErrKeyUnknown = errors.New("quarantine: the blob was encrypted with another key file")

// OpenRing reads the keys. It makes none.
func OpenRing(path string) (*Ring, error) {
	r := &Ring{path: path, old: strings.TrimSuffix(path, filepath.Ext(path)) + "-old"}
	return r, r.load()
}

// Make makes the first key where there is none.
func (r *Ring) Make() error {
	if r.newest() != nil {
		return nil
	}
	if old, _ := filepath.Glob(filepath.Join(r.old, "*.key")); len(old) > 0 {
		// A new one would hide that the one in force is lost.
		return fmt.Errorf("the blob key %s is gone, and older ones are in %s: restore it from your backup", r.path, r.old)
	}
	if _, err := OpenSecret(r.path); err != nil {
		return err
	}
	return r.load()
}

func (r *Ring) newest() *LocalKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current
}

// load reads all keys.
func (r *Ring) load() error {
	files, err := filepath.Glob(filepath.Join(r.old, "*.key"))
	if err != nil {
		return fmt.Errorf("read old blob keys: %w", err)
	}
	keys := map[[8]byte]*LocalKey{}
	for _, f := range files {
		k, err := readLocalKey(f)
		if err != nil {
			return err
		}
		keys[k.id] = k
	}
	st, err := os.Stat(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.current, r.keys, r.seen = nil, keys, nil
		return nil
	}
	if err != nil {
		return fmt.Errorf("read blob key: %w", err)
	}
	k, err := readLocalKey(r.path)
	if err != nil {
		return err
	}
	keys[k.id] = k
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current, r.keys, r.seen = k, keys, st
	return nil
}

func readLocalKey(path string) (*LocalKey, error) {
	key, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	return newLocalKey(key)
}

// fresh reads the keys again where another process has changed the one in force.
// What cannot be read now leaves what was read before in force.
func (r *Ring) fresh() *LocalKey {
	st, err := os.Stat(r.path)
	r.mu.Lock()
	same := err != nil || r.seen != nil && os.SameFile(st, r.seen) && st.ModTime().Equal(r.seen.ModTime())
	r.mu.Unlock()
	if !same {
		_ = r.load() // Wrapping with the key before it is right too: it stays in the ring.
	}
	return r.newest()
}

// Wrap implements [Wrapper].
func (r *Ring) Wrap(ctx context.Context, key, aad []byte) ([]byte, error) {
	k := r.fresh()
	if k == nil {
		return nil, fmt.Errorf("%w: there is no blob key %s", ErrKeyUnknown, r.path)
	}
	return k.Wrap(ctx, key, aad)
}

// Unwrap implements [Wrapper].
func (r *Ring) Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error) {
	if len(wrapped) < 8 {
		return nil, ErrBlobDamaged
	}
	k := r.find([8]byte(wrapped))
	if k == nil {
		if err := r.load(); err != nil { // another process has rotated
			return nil, err
		}
		if k = r.find([8]byte(wrapped)); k == nil {
			return nil, fmt.Errorf("%w, %x", ErrKeyUnknown, wrapped[:8])
		}
	}
	return k.Unwrap(ctx, wrapped, aad)
}

func (r *Ring) find(id [8]byte) *LocalKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keys[id]
}

// IDs are the keys of the ring, as rows name them.
func (r *Ring) IDs() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]bool{}
	for id := range r.keys {
		out[localName(id)] = true
	}
	return out
}

func localName(id [8]byte) string { return "local:" + hex.EncodeToString(id[:]) }

// Rotate makes a new key the one in force. The old one is safe in its new place
// first, so that no moment is without it.
func (r *Ring) Rotate() error {
	lock, err := os.OpenFile(filepath.Join(filepath.Dir(r.path), ".rotate"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("rotate blob key: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("rotate blob key: %w", err)
	}
	if err := r.load(); err != nil {
		return err
	}
	if k := r.newest(); k != nil {
		secret, err := readSecret(r.path)
		if err != nil {
			return err
		}
		if err := durable.WriteFile(filepath.Join(r.old, hex.EncodeToString(k.id[:])+".key"), secret, 0o600); err != nil {
			return fmt.Errorf("keep old blob key: %w", err)
		}
		if err := durable.SyncDir(filepath.Dir(r.old)); err != nil {
			return fmt.Errorf("keep old blob key: %w", err)
		}
	}
	if err := durable.WriteFile(r.path, newSecret(), 0o600); err != nil {
		return fmt.Errorf("write new blob key: %w", err)
	}
	return r.load()
}
