package quarantine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Transit wraps with keys that never leave OpenBao. bao.Client is one.
type Transit interface {
	TransitEncrypt(ctx context.Context, key string, plain, bound []byte) (string, error)
	TransitDecrypt(ctx context.Context, key, ciphertext string, bound []byte) ([]byte, error)
	TransitRewrap(ctx context.Context, key, ciphertext string) (string, error)
	TransitRewrapAll(ctx context.Context, key string, ciphertexts []string) ([]string, error)
	TransitLatest(ctx context.Context, key string) (int, error)
	TransitRotate(ctx context.Context, key string) error
}

// Keys wraps the data keys of blobs: with a key in OpenBao where one is named, else
// with the local key in force. It opens what any of them has wrapped, so that an
// installation can move from one to the other.
type Keys struct {
	ring    *Ring
	transit Transit // nil: there is no OpenBao
	name    string  // of the key in OpenBao; "": the local key
}

// OpenKeys reads the local keys, and makes the first one where that is what is used.
func OpenKeys(path string, transit Transit, name string) (*Keys, error) {
	if name != "" && transit == nil {
		return nil, errors.New("the key of blobs is in OpenBao, which is not set up")
	}
	ring, err := OpenRing(path)
	if err != nil {
		return nil, err
	}
	if name == "" {
		if err := ring.Make(); err != nil {
			return nil, err
		}
	}
	return &Keys{ring: ring, transit: transit, name: name}, nil
}

// What OpenBao wrapped says so itself, with the name of the key: the name in the
// configuration may be another one by then.
const baoMark = "bao:"

// localLen is the length of what a local key makes, by which it is told apart.
const localLen = 8 + 12 + keySize + tagSize

func splitBao(wrapped []byte) (name, ciphertext string, ok bool) {
	rest, ok := bytes.CutPrefix(wrapped, []byte(baoMark))
	if !ok || len(wrapped) == localLen {
		return "", "", false
	}
	name, ciphertext, ok = strings.Cut(string(rest), ":")
	return name, ciphertext, ok && name != "" && strings.HasPrefix(ciphertext, "vault:v")
}

// wrappedBy is the key that has wrapped: local:ID, or bao:NAME:vN.
func wrappedBy(wrapped []byte) string {
	if name, ct, ok := splitBao(wrapped); ok {
		version, _, _ := strings.Cut(strings.TrimPrefix(ct, "vault:"), ":")
		return baoMark + name + ":" + version
	}
	if len(wrapped) < 8 {
		return "unknown"
	}
	return localName([8]byte(wrapped))
}

// Wrap implements [Wrapper]. What a blob's key is bound to goes into what OpenBao
// encrypts, not into its associated data: with that it could not be rewrapped there.
func (k *Keys) Wrap(ctx context.Context, key, bound []byte) ([]byte, error) {
	if k.name == "" {
		return k.ring.Wrap(ctx, key, bound)
	}
	ct, err := k.transit.TransitEncrypt(ctx, k.name, append(bytes.Clone(bound), key...), nil)
	if err != nil {
		return nil, err
	}
	return []byte(baoMark + k.name + ":" + ct), nil
}

// Unwrap implements [Wrapper].
func (k *Keys) Unwrap(ctx context.Context, wrapped, bound []byte) ([]byte, error) {
	name, ct, ok := splitBao(wrapped)
	if !ok {
		return k.ring.Unwrap(ctx, wrapped, bound)
	}
	if k.transit == nil {
		return nil, fmt.Errorf("%w: it is in OpenBao, which is not set up", ErrKeyUnknown)
	}
	plain, err := k.transit.TransitDecrypt(ctx, name, ct, nil)
	if err != nil {
		return nil, err
	}
	key, ok := bytes.CutPrefix(plain, bound)
	if !ok || len(key) != keySize {
		return nil, fmt.Errorf("%w: the key is another blob's", ErrBlobDamaged)
	}
	return key, nil
}

// Current is the key in force, as rows name it.
func (k *Keys) Current(ctx context.Context) (string, error) {
	if k.name == "" {
		l := k.ring.fresh()
		if l == nil {
			return "", ErrKeyUnknown
		}
		return localName(l.id), nil
	}
	v, err := k.transit.TransitLatest(ctx, k.name)
	if err != nil {
		return "", err
	}
	return baoMark + k.name + ":v" + strconv.Itoa(v), nil
}

// Rotate makes a new key the one in force; old ones still open what they wrapped.
func (k *Keys) Rotate(ctx context.Context) error {
	if k.name == "" {
		return k.ring.Rotate()
	}
	return k.transit.TransitRotate(ctx, k.name)
}

// Unknown are those of these names whose key is not here. What is in OpenBao is
// OpenBao's to answer for.
func (k *Keys) Unknown(names []string) (out []string) {
	have := k.ring.IDs()
	for _, n := range names {
		if !have[n] && (k.transit == nil || !strings.HasPrefix(n, baoMark)) {
			out = append(out, n)
		}
	}
	return out
}

// rewrap wraps the keys of blobs with the key in force. What OpenBao can do itself
// it does, and the keys never come here. An answer that is nil failed.
func (k *Keys) rewrap(ctx context.Context, refs []Ref) (out [][]byte, errs []error) {
	out = make([][]byte, len(refs))
	var at []int // of those that OpenBao can do
	var cts []string
	for i, r := range refs {
		if name, ct, ok := splitBao(r.Key); ok && k.name == name {
			at, cts = append(at, i), append(cts, ct)
			continue
		}
		var err error
		if out[i], err = k.rewrapHere(ctx, r); err != nil {
			errs = append(errs, fmt.Errorf("blob %s: %w", r.Name, err))
		}
	}
	if len(at) == 0 {
		return out, errs
	}
	all, err := k.transit.TransitRewrapAll(ctx, k.name, cts)
	for n, i := range at {
		next := ""
		if err == nil {
			next = all[n]
		} else {
			// One of them may be at fault: each for itself.
			var err error
			if next, err = k.transit.TransitRewrap(ctx, k.name, cts[n]); err != nil {
				errs = append(errs, fmt.Errorf("blob %s: %w", refs[i].Name, err))
				continue
			}
		}
		out[i] = []byte(baoMark + k.name + ":" + next)
	}
	return out, errs
}

func (k *Keys) rewrapHere(ctx context.Context, r Ref) ([]byte, error) {
	id, err := r.id()
	if err != nil {
		return nil, err
	}
	key, err := k.Unwrap(ctx, r.Key, id[:])
	if err != nil {
		return nil, err
	}
	return k.Wrap(ctx, key, id[:])
}
