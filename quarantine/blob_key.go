package quarantine

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"mailward/internal/durable"
)

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
	return newLocalKey(key)
}

func newLocalKey(key []byte) (*LocalKey, error) {
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
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		// Where another process was first, its key is read.
		if err := makeKey(path); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make blob key: %w", err)
		}
	}
	return readSecret(path)
}

// readSecret reads the bytes of a key file.
func readSecret(path string) ([]byte, error) {
	key, err := os.ReadFile(path)
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
func makeKey(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".key-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(newSecret()); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	// A link, not a rename: it fails if another process was first.
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return durable.SyncDir(dir)
}

func newSecret() []byte {
	key := make([]byte, keySize)
	rand.Read(key)
	return key
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
		return nil, ErrKeyUnknown
	}
	key, err := k.gcm.Open(nil, wrapped[8:20], wrapped[20:], aad)
	if err != nil {
		return nil, ErrBlobDamaged
	}
	return key, nil
}
