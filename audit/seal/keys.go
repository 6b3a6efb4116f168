package seal

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"crypto"

	"mailward/audit/proof"
	"mailward/internal/bao"
	"mailward/internal/durable"
)

// Keys signs. The first key is the one in use; others are those before it, as
// far as they can still sign, which they do once to hand over.
type Keys interface {
	List(ctx context.Context) ([]proof.Key, error)
	Sign(ctx context.Context, k proof.Key, msg []byte) ([]byte, error)
}

// Local keeps private keys in files of data_dir, readable for us alone: seal.key,
// and seal-ID.key of those before.
type Local struct{ Dir string }

const currentKey = "seal.key"

// List reads the keys; it makes the first one where there is none.
func (l Local) List(context.Context) ([]proof.Key, error) {
	if _, err := os.Stat(filepath.Join(l.Dir, currentKey)); errors.Is(err, fs.ErrNotExist) {
		if err := l.generate(); err != nil {
			return nil, err
		}
	}
	old, err := filepath.Glob(filepath.Join(l.Dir, "seal-*.key"))
	if err != nil {
		return nil, fmt.Errorf("look for sealing keys: %w", err)
	}
	var list []proof.Key
	for _, path := range append([]string{filepath.Join(l.Dir, currentKey)}, old...) {
		k, err := readKey(path)
		if err != nil {
			return nil, err
		}
		list = append(list, publicOf(k))
	}
	return list, nil
}

func publicOf(k ed25519.PrivateKey) proof.Key {
	return proof.Key{Algorithm: proof.AlgorithmEd25519, Public: k.Public().(ed25519.PublicKey)}
}

func readKey(path string) (ed25519.PrivateKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read sealing key: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("sealing key %s is not PEM", path)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("sealing key %s cannot be read", path) // the cause may quote it
	}
	ed, ok := k.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("sealing key %s is not Ed25519", path)
	}
	return ed, nil
}

func (l Local) generate() error {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make sealing key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return fmt.Errorf("make sealing key: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(l.Dir, currentKey), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("keep sealing key: %w", err)
	}
	return nil
}

// Rotate puts a new key in use. The old one stays, to hand over.
func (l Local) Rotate() (before, after proof.Key, err error) {
	k, err := readKey(filepath.Join(l.Dir, currentKey))
	if err != nil {
		return before, after, err
	}
	before = publicOf(k)
	if err := os.Link(filepath.Join(l.Dir, currentKey), filepath.Join(l.Dir, "seal-"+before.ID()+".key")); err != nil && !errors.Is(err, fs.ErrExist) {
		return before, after, fmt.Errorf("keep old sealing key: %w", err)
	}
	if err := l.generate(); err != nil {
		return before, after, err
	}
	if k, err = readKey(filepath.Join(l.Dir, currentKey)); err != nil {
		return before, after, err
	}
	return before, publicOf(k), nil
}

// Sign signs with the file of a key.
func (l Local) Sign(_ context.Context, k proof.Key, msg []byte) ([]byte, error) {
	for _, name := range []string{currentKey, "seal-" + k.ID() + ".key"} {
		private, err := readKey(filepath.Join(l.Dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if publicOf(private).ID() == k.ID() {
			return ed25519.Sign(private, msg), nil
		}
	}
	return nil, fmt.Errorf("sealing key %s is not here", k.ID())
}

// Transit is OpenBao's engine that signs with keys nobody gets to see.
type Transit interface {
	TransitKeys(ctx context.Context, key string) (map[int]crypto.PublicKey, error)
	TransitSign(ctx context.Context, key string, version int, input []byte, alg string) ([]byte, error)
}

// Remote signs in OpenBao. A rotation there is a new version of the key.
type Remote struct {
	Transit Transit
	Name    string
}

// List reads the versions, the newest first.
func (r Remote) List(ctx context.Context) (list []proof.Key, err error) {
	versions, err := r.versions(ctx)
	if err != nil {
		return nil, err
	}
	for _, v := range slices.Backward(slices.Sorted(maps.Keys(versions))) {
		list = append(list, versions[v])
	}
	return list, nil
}

func (r Remote) versions(ctx context.Context) (map[int]proof.Key, error) {
	keys, err := r.Transit.TransitKeys(ctx, r.Name)
	if err != nil {
		return nil, err
	}
	out := map[int]proof.Key{}
	for v, k := range keys {
		ed, ok := k.(ed25519.PublicKey)
		if !ok {
			return nil, fmt.Errorf("the key %s in OpenBao is not Ed25519", r.Name)
		}
		out[v] = proof.Key{Algorithm: proof.AlgorithmEd25519, Public: ed}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("the key %s in OpenBao has no version that signs", r.Name)
	}
	return out, nil
}

// Sign signs with the version that has this public key.
func (r Remote) Sign(ctx context.Context, k proof.Key, msg []byte) ([]byte, error) {
	versions, err := r.versions(ctx)
	if err != nil {
		return nil, err
	}
	for v, have := range versions {
		if have.ID() == k.ID() {
			return r.Transit.TransitSign(ctx, r.Name, v, msg, bao.Ed25519)
		}
	}
	return nil, fmt.Errorf("the key %s in OpenBao has no version %s", r.Name, k.ID())
}
