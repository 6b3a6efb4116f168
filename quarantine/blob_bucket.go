package quarantine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"mailward/internal/worm"
)

// Bucket is a folder of blobs in an object storage.
type Bucket struct {
	Objects *worm.Objects
	Prefix  string
	// Temp is where a blob is encrypted into before it goes over: its size has to be
	// known. The file has no name, and holds nothing that can be read.
	Temp string
}

func (b Bucket) key(name string) string { return path.Join(b.Prefix, name) }

// Put implements [Folder].
func (b Bucket) Put(ctx context.Context, name string, fill func(io.Writer) error) error {
	f, err := os.CreateTemp(b.Temp, ".blob-*")
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return err
	}
	if err := fill(f); err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	// A reader at a place: the client can send it once more.
	err = b.Objects.Put(ctx, b.key(name), io.NewSectionReader(f, 0, size), size)
	if errors.Is(err, worm.ErrFull) {
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	return err
}

// Open implements [Folder].
func (b Bucket) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	return b.Objects.Open(ctx, b.key(name))
}

// Has implements [Folder].
func (b Bucket) Has(ctx context.Context, name string) (bool, error) {
	return b.Objects.Has(ctx, b.key(name))
}

// Remove implements [Folder].
func (b Bucket) Remove(ctx context.Context, name string) error {
	return b.Objects.Remove(ctx, b.key(name))
}

// List implements [Folder].
func (b Bucket) List(ctx context.Context, shard string) (list []FolderEntry, err error) {
	base := b.key("")
	if base != "" {
		base += "/"
	}
	err = b.Objects.Each(ctx, base+shard+"/", func(key string, changed time.Time) {
		list = append(list, FolderEntry{Name: strings.TrimPrefix(key, base), Changed: changed})
	})
	return list, err
}
