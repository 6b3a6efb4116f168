package durable

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// A write that fails leaves what was there, and nothing beside it.
func TestWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	want := func(text string, mode os.FileMode) {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil || string(b) != text {
			t.Errorf("the file holds %q, %v", b, err)
		}
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != mode {
			t.Errorf("mode %v, %v", st.Mode(), err)
		}
		if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
			t.Errorf("%d files, %v", len(all), err)
		}
	}
	if err := WriteFile(path, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	want("one", 0o600)
	full := errors.New("disk full")
	if err := Write(path, 0o600, func(w io.Writer) error { w.Write([]byte("tw")); return full }); !errors.Is(err, full) {
		t.Errorf("half a write: %v", err)
	}
	want("one", 0o600)
	if err := WriteFile(path, []byte("two"), 0o644); err != nil {
		t.Fatal(err)
	}
	want("two", 0o644)
	if err := WriteFile(filepath.Join(dir, "new", "file"), nil, 0o600); err != nil {
		t.Errorf("a folder that has to be made: %v", err)
	}
	if err := WriteFile(filepath.Join(path, "file"), nil, 0o600); err == nil {
		t.Error("a file has become a folder")
	}
}
