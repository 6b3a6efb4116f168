package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"mailward/internal/worm"
)

// Folder is a folder of this host. Whoever is root here can change it: only the
// receipt shows that it was.
type Folder struct {
	Dir       string
	Immutable bool // set the attribute that chattr +i sets, where that is allowed
}

// Mode implements [Store].
func (Folder) Mode() string { return ModeFolder }

// URI implements [Store].
func (f Folder) URI(key string) string { return "file://" + filepath.Join(f.Dir, key) }

// Put implements [Store]. There is no lock to confirm, and so none is claimed.
func (f Folder) Put(ctx context.Context, key, _ string, data []byte, _ worm.Lock) (Object, error) {
	if !filepath.IsLocal(key) {
		return Object{}, fmt.Errorf("store %q: its name leaves the folder", key)
	}
	path := filepath.Join(f.Dir, key)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return Object{}, fmt.Errorf("make folder of evidence: %w", err)
	}
	if err := write(path, data); err != nil {
		return Object{}, fmt.Errorf("store %s: %w", key, err)
	}
	o := Object{Key: key}
	if err := readBack(ctx, f, o, data); err != nil {
		return Object{}, err
	}
	if f.Immutable {
		if err := freeze(path); err != nil {
			return Object{}, fmt.Errorf("make %s immutable (take ?immutable=yes away where that is not allowed): %w", key, err)
		}
	}
	return o, nil
}

// Get implements [Store].
func (f Folder) Get(_ context.Context, o Object) ([]byte, error) {
	root, err := os.OpenRoot(f.Dir)
	if err != nil {
		return nil, fmt.Errorf("read evidence: %w", err)
	}
	defer root.Close()
	b, err := root.ReadFile(o.Key)
	if err != nil {
		return nil, fmt.Errorf("read evidence: %w", err)
	}
	return b, nil
}

// write makes the file whole or not at all, and never over another one. The same
// bytes again are a second try.
func write(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(0o400), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
		if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, data) {
			return nil
		}
		return err
	} else if err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// immutable is FS_IMMUTABLE_FL of linux/fs.h.
const immutable = 0x10

// freeze is chattr +i.
func freeze(path string) error { return attribute(path, immutable, 0) }

func attribute(path string, set, clear int) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	have, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return err
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, have&^clear|set)
}

// Check says whether the folder can be written to.
func (f Folder) Check(context.Context) error {
	if err := os.MkdirAll(f.Dir, 0o700); err != nil {
		return fmt.Errorf("make folder of evidence: %w", err)
	}
	t, err := os.CreateTemp(f.Dir, ".check-*")
	if err != nil {
		return fmt.Errorf("write to the folder of evidence: %w", err)
	}
	defer os.Remove(t.Name())
	_, err = t.WriteString("can this be written to?\n")
	if err := errors.Join(err, t.Close()); err != nil {
		return fmt.Errorf("write to the folder of evidence: %w", err)
	}
	return nil
}
