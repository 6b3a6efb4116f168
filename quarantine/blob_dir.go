package quarantine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"mailward/internal/durable"
)

// Folder is where blobs are: a folder of this host, or a bucket. Names are of two
// parts, with the last two digits of the second one first.
type Folder interface {
	// Put stores what fill writes. When it returns nil, it survives a crash; after an
	// error nothing of it may be left that is taken for a blob.
	Put(ctx context.Context, name string, fill func(io.Writer) error) error
	// Open is fs.ErrNotExist where there is none.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
	Has(ctx context.Context, name string) (bool, error)
	// Remove is fine with what is gone already.
	Remove(ctx context.Context, name string) error
	// List gives all that is in one of the 256 parts, half-written files too.
	List(ctx context.Context, shard string) ([]FolderEntry, error)
}

// FolderEntry is a file of a folder.
type FolderEntry struct {
	Name    string
	Changed time.Time
}

// Dir is a folder of this host.
type Dir struct {
	path  string
	steps durable.Steps
}

// NewDir makes the folder where it is not there.
func NewDir(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make blob folder: %w", err)
	}
	return &Dir{path: path, steps: durable.Disk()}, nil
}

// Put implements [Folder].
func (d *Dir) Put(_ context.Context, name string, fill func(io.Writer) error) error {
	file := filepath.Join(d.path, name)
	if err := d.makeShard(filepath.Dir(file)); err != nil {
		return fmt.Errorf("make part of blob folder: %w", err)
	}
	if err := d.steps.Write(file, 0o600, fill); err != nil {
		// It may have its name and not be safe under it. Nobody will ask for it; where
		// this fails too the sweep finds it.
		os.Remove(file)
		return err
	}
	return nil
}

func (d *Dir) makeShard(dir string) error {
	err := d.steps.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := d.steps.SyncDir(d.path); err != nil {
		os.Remove(dir) // the next mail makes it again, and syncs it
		return err
	}
	return nil
}

// Open implements [Folder]. In a folder with nothing in it a file is not missing:
// the folder is, as where its disk is not mounted, and may come back.
func (d *Dir) Open(_ context.Context, name string) (io.ReadCloser, error) {
	f, err := os.Open(filepath.Join(d.path, name))
	if errors.Is(err, fs.ErrNotExist) && d.empty() {
		return nil, errUnmounted
	}
	return f, err
}

// errUnmounted keeps a disk that is not there from being taken for lost mail.
var errUnmounted = errors.New("the blob folder is empty: is its disk mounted?")

func (d *Dir) empty() bool {
	f, err := os.Open(d.path)
	if err != nil {
		return true
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	return err == io.EOF
}

// Has implements [Folder].
func (d *Dir) Has(_ context.Context, name string) (bool, error) {
	_, err := os.Stat(filepath.Join(d.path, name))
	if errors.Is(err, fs.ErrNotExist) {
		if d.empty() {
			return false, errUnmounted
		}
		return false, nil
	}
	return err == nil, err
}

// Remove implements [Folder].
func (d *Dir) Remove(_ context.Context, name string) error {
	if err := os.Remove(filepath.Join(d.path, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// List implements [Folder].
func (d *Dir) List(_ context.Context, shard string) (list []FolderEntry, err error) {
	files, err := os.ReadDir(filepath.Join(d.path, shard))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read blob folder: %w", err)
	}
	for _, f := range files {
		if info, err := f.Info(); err == nil { // one that is gone meanwhile is none
			list = append(list, FolderEntry{Name: filepath.Join(shard, f.Name()), Changed: info.ModTime()})
		}
	}
	return list, nil
}
