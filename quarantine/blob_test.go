package quarantine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBlobs_TamperingIsFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key, err := OpenLocalKey(filepath.Join(dir, "k", "blob.key"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewBlobs(filepath.Join(dir, "b"), key)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	read := func(ref Ref) ([]byte, error) {
		r, err := b.Open(ctx, ref)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(r)
	}
	for _, size := range []int{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, 3*chunkSize + 7} {
		plain := make([]byte, size)
		rand.New(rand.NewSource(int64(size))).Read(plain)
		ref, err := b.Put(ctx, bytes.NewReader(plain))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := read(ref); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("size %d: %d bytes, %v", size, len(got), err)
		}
		path := filepath.Join(b.folder.(*Dir).path, ref.Name)
		sealed, _ := os.ReadFile(path)
		const c = chunkSize + tagSize
		for name, bad := range map[string][]byte{
			"truncated": sealed[:len(sealed)-1], "without its end": sealed[:len(blobMagic)+(len(sealed)-len(blobMagic))/c*c], "empty": {}, "longer": append(bytes.Clone(sealed), 0),
			"flipped": append(bytes.Clone(sealed[:len(sealed)-1]), sealed[len(sealed)-1]^1), "swapped": swapChunks(sealed, len(blobMagic), c),
		} {
			if bytes.Equal(bad, sealed) {
				continue
			}
			os.WriteFile(path, bad, 0o600)
			if got, err := read(ref); err == nil {
				t.Errorf("size %d, %s: read without an error", size, name)
			} else if !bytes.HasPrefix(plain, got) {
				t.Errorf("size %d, %s: bytes came out that were never in", size, name)
			}
		}
		os.WriteFile(path, sealed, 0o600)
		other, err := b.Put(ctx, bytes.NewReader([]byte("other")))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := read(Ref{Name: other.Name, Key: ref.Key}); err == nil {
			t.Error("a key opens another blob")
		}
	}
	if _, err := read(Ref{Name: "../../etc/passwd"}); !errors.Is(err, ErrBlobDamaged) {
		t.Errorf("a name that leaves the folder: %v", err)
	}
	if err := os.Chmod(filepath.Join(dir, "k", "blob.key"), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenLocalKey(filepath.Join(dir, "k", "blob.key")); err == nil {
		t.Error("a key that others can read was taken")
	}
}

func swapChunks(b []byte, head, c int) []byte {
	if len(b) < head+2*c {
		return b
	}
	out := bytes.Clone(b)
	copy(out[head:], b[head+c:head+2*c])
	copy(out[head+c:], b[head:head+c])
	return out
}

func FuzzBlobReader(f *testing.F) {
	dir := f.TempDir()
	key, err := OpenLocalKey(filepath.Join(dir, "k", "blob.key"))
	if err != nil {
		f.Fatal(err)
	}
	b, err := NewBlobs(filepath.Join(dir, "b"), key)
	if err != nil {
		f.Fatal(err)
	}
	ref, err := b.Put(context.Background(), strings.NewReader("plain"))
	if err != nil {
		f.Fatal(err)
	}
	good, _ := os.ReadFile(filepath.Join(b.folder.(*Dir).path, ref.Name))
	f.Add(good)
	f.Add([]byte(blobMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		os.WriteFile(filepath.Join(b.folder.(*Dir).path, ref.Name), data, 0o600)
		r, err := b.Open(context.Background(), ref)
		if err != nil {
			return
		}
		defer r.Close()
		if got, err := io.ReadAll(r); err == nil && !bytes.Equal(data, good) {
			t.Errorf("opened a blob that was never sealed: %q", got)
		}
	})
}
