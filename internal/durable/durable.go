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
	return Disk().Write(path, mode, fill)
}

// SyncDir makes changes of names in a folder survive a crash.
func SyncDir(dir string) error { return Disk().SyncDir(dir) }

// File is what a file is written through.
type File interface {
	io.Writer
	Name() string
	Chmod(fs.FileMode) error
	Sync() error
	Close() error
}

// Steps are the calls of which a write is made, for tests in which each of them
// fails, or is done and fails nevertheless.
type Steps struct {
	Create  func(dir, pattern string) (File, error)
	Rename  func(from, to string) error
	Mkdir   func(dir string, mode fs.FileMode) error
	SyncDir func(dir string) error
}

// Disk is the real ones.
func Disk() Steps {
	return Steps{
		Create: func(dir, pattern string) (File, error) { return os.CreateTemp(dir, pattern) },
		Rename: os.Rename, Mkdir: os.Mkdir, SyncDir: syncDir,
	}
}

// Write is [Write] by these steps.
func (s Steps) Write(path string, mode fs.FileMode, fill func(io.Writer) error) error {
	dir := filepath.Dir(path)
	f, err := s.Create(dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // It has its name by then, or is of no use.
	if err = errors.Join(fill(f), f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := s.Rename(f.Name(), path); err != nil {
		return err
	}
	return s.SyncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
