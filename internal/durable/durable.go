// Package durable writes files that are there whole or not at all, also after a
// crash. What holds keys, blobs, checkpoints, rule sets and spooled logins on the
// disk goes through it; mails that are only passed on do not.
package durable

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile replaces a file by b; see [Write]. A folder that is not there is made,
// for the program's own user.
func WriteFile(path string, b []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return Write(path, mode, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}

// Write replaces a file by what fill writes: into a temporary file beside it,
// fsync, rename, fsync of the folder (rename(2): the change is in the folder).
// Until all of that is done the old file is there, if there was one. The folder
// has to exist.
func Write(path string, mode fs.FileMode, fill func(io.Writer) error) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // It has its name by then, or is of no use.
	if err = errors.Join(fill(f), f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(dir)
}

// SyncDir makes changes of names in a folder survive a crash.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
