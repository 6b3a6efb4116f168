package quarantine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"mailward/internal/durable"
	"mailward/internal/pg"
	"mailward/internal/testenv"
)

// stepFault has one step of storing a blob fail: instead of being done, or after it
// was done.
type stepFault struct {
	step string
	done bool
	err  error
	hits int
}

func (s *stepFault) at(step string, do func() error) error {
	if s.step != step {
		return do()
	}
	s.hits++
	if s.done {
		if err := do(); err != nil {
			return err
		}
	}
	return s.err
}

// faultFile is a file of which a call fails.
type faultFile struct {
	durable.File
	f *stepFault
}

func (f faultFile) Write(p []byte) (n int, err error) {
	err = f.f.at("write", func() error { n, err = f.File.Write(p); return err })
	if err != nil && !f.f.done && len(p) > 1 { // a full disk takes a part
		n, _ = f.File.Write(p[:len(p)/2])
	}
	return n, err
}

func (f faultFile) Chmod(m fs.FileMode) error {
	return f.f.at("chmod", func() error { return f.File.Chmod(m) })
}
func (f faultFile) Sync() error { return f.f.at("fsync", f.File.Sync) }
func (f faultFile) Close() error {
	return errors.Join(f.f.at("close", func() error { return nil }), f.File.Close())
}

// steps are those of the disk with the fault in them.
func (s *stepFault) steps() durable.Steps {
	disk := durable.Disk()
	return durable.Steps{
		Create: func(dir, pattern string) (f durable.File, err error) {
			err = s.at("create", func() error { f, err = disk.Create(dir, pattern); return err })
			if err != nil {
				return nil, err // where it was made, it stays as a file with no name of a blob
			}
			return faultFile{f, s}, nil
		},
		Rename: func(from, to string) error { return s.at("rename", func() error { return disk.Rename(from, to) }) },
		Mkdir: func(dir string, m fs.FileMode) error {
			return s.at("mkdir", func() error { return disk.Mkdir(dir, m) })
		},
		SyncDir: func(dir string) error {
			step := "fsync of the part"
			if filepath.Base(dir) == "blobs" {
				step = "fsync of the folder"
			}
			return s.at(step, func() error { return disk.SyncDir(dir) })
		},
	}
}

// TestHold_EachStepFails: with any step of storing a mail out of room, whether it
// was done or not, the mail is refused for now, nothing of it is half there, and the
// next try holds it whole.
func TestHold_EachStepFails(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"mkdir", "fsync of the folder", "create", "write", "chmod", "fsync", "close", "rename", "fsync of the part"} {
		for _, done := range []bool{false, true} {
			name := step + ", not done"
			if done {
				name = step + ", done"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, SingleOperator)
				ctx := context.Background()
				dir := f.blobs.folder.(*Dir)
				fault := &stepFault{step: step, done: done, err: &fs.PathError{Op: step, Err: syscall.ENOSPC}}
				dir.steps = fault.steps()
				h := f.request(t, "the same", "bob@ours.example")
				if _, err := f.Hold(ctx, h); !errors.Is(err, ErrDiskFull) || fault.hits == 0 {
					t.Fatalf("%v, after %d faults", err, fault.hits)
				}
				if tr := f.blobs.Trouble(); !tr.Full || tr.Since.IsZero() {
					t.Errorf("the trouble is not known: %+v", tr)
				}
				if n := f.count(t, "SELECT (SELECT count(*) FROM quarantine_item) + (SELECT count(*) FROM blob)"); n != 0 {
					t.Errorf("%d rows", n)
				}
				half := f.files(t)
				if step != "create" && len(half) != 0 {
					t.Errorf("left on the disk: %v", half)
				}
				dir.steps = durable.Disk()
				id, err := f.Hold(ctx, h)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := f.read(t, id); err != nil || got != sameMail {
					t.Errorf("%q, %v", got, err)
				}
				if tr := f.blobs.Trouble(); !tr.Since.IsZero() {
					t.Errorf("still in trouble: %+v", tr)
				}
				f.age(t, f.files(t)...)
				if n, err := f.Sweep(ctx); err != nil || n.Removed != len(half) || len(f.files(t)) != 1 {
					t.Errorf("%+v, %v; %v", n, err, f.files(t))
				}
			})
		}
	}
}

// TestHold_TheDatabaseFails: the rows are written or not, and the program hears no
// both times. The client's next try ends with one item and one file.
func TestHold_TheDatabaseFails(t *testing.T) {
	t.Parallel()
	lost := errors.New("connection lost")
	for name, done := range map[string]bool{"not written": false, "written": true} {
		for what, earlier := range map[string]bool{"first of its kind": false, "held before": true} {
			t.Run(name+", "+what, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, SingleOperator)
				ctx := context.Background()
				if earlier {
					f.hold(t, "the same", "before@ours.example")
				}
				faulty := *f.Store
				faulty.db = f.db.DB.WithFaults(func(_ pg.Actor, after bool) error {
					if after == done {
						return lost
					}
					return nil
				})
				h := f.request(t, "the same", "bob@ours.example")
				if _, err := faulty.Hold(ctx, h); !errors.Is(err, lost) {
					t.Fatal(err)
				}
				id, err := f.Hold(ctx, h)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := f.read(t, id); err != nil || got != sameMail {
					t.Errorf("%q, %v", got, err)
				}
				want := 1
				if earlier {
					want = 2
				}
				if n := f.count(t, "SELECT count(*) FROM quarantine_item"); n != want {
					t.Errorf("%d items", n)
				}
				f.age(t, f.files(t)...)
				if _, err := f.Sweep(ctx); err != nil || len(f.files(t)) != 1 {
					t.Errorf("%v, %v", f.files(t), err)
				}
			})
		}
	}
}

// TestDelete_EachEndFails: the item is gone or is not, and in no case are the bytes
// gone while a row says that they are there.
func TestDelete_EachEndFails(t *testing.T) {
	t.Parallel()
	lost := errors.New("connection lost")
	for name, done := range map[string]bool{"not written": false, "written": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, SingleOperator)
			ctx := context.Background()
			id := f.hold(t, "the same", "bob@ours.example")
			faulty := *f.Store
			faulty.db = f.db.DB.WithFaults(func(_ pg.Actor, after bool) error {
				if after == done {
					return lost
				}
				return nil
			})
			if _, err := faulty.Delete(ctx, f.users[0], nil, id, "done"); !errors.Is(err, lost) {
				t.Fatal(err)
			}
			f.age(t, f.files(t)...)
			if _, err := f.Sweep(ctx); err != nil {
				t.Fatal(err)
			}
			got, err := f.read(t, id)
			if done && (!errors.Is(err, ErrGone) || len(f.files(t)) != 0) || !done && (err != nil || got != sameMail) {
				t.Errorf("%q, %v, %v", got, err, f.files(t))
			}
		})
	}
}

// TestBlobs_RealFullDisk stores on a disk that is full.
func TestBlobs_RealFullDisk(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		testenv.Missing(t, errors.New("mounting a small disk takes root"))
	}
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=512k"); err != nil {
		testenv.Missing(t, fmt.Errorf("mount a small disk: %w", err))
	}
	t.Cleanup(func() { unix.Unmount(disk, unix.MNT_DETACH) })
	f := newFixture(t, SingleOperator)
	dir, err := NewDir(filepath.Join(disk, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	f.blobs.folder = dir
	ctx := context.Background()
	held := map[string]bool{}
	for range 20 {
		body := strings.Repeat(string(rune('a'+len(held))), 100<<10)
		id, err := f.Hold(ctx, f.request(t, body, "bob@ours.example"))
		if err != nil {
			if !errors.Is(err, ErrDiskFull) {
				t.Fatal(err)
			}
			break
		}
		held[id.String()] = true
		if got, err := f.read(t, id); err != nil || !strings.Contains(got, body) {
			t.Fatal(err)
		}
	}
	if len(held) == 0 || !f.blobs.Trouble().Full {
		t.Fatalf("%d held, %+v", len(held), f.blobs.Trouble())
	}
	if n := f.count(t, "SELECT count(*) FROM quarantine_item"); n != len(held) || len(f.files(t)) != n {
		t.Errorf("%d items, %d held, %v", n, len(held), f.files(t))
	}
	if tr := f.blobs.prove(ctx); tr.Since.IsZero() {
		t.Error("it is said to have room")
	}
	for _, name := range f.files(t) {
		os.Remove(name)
	}
	if tr := f.blobs.prove(ctx); !tr.Since.IsZero() || len(f.files(t)) != 0 {
		t.Errorf("with room again: %+v, %v", tr, f.files(t))
	}
}

// A folder that is not there is trouble that passes, not a mail that is lost.
func TestBlobs_FolderNotMounted(t *testing.T) {
	t.Parallel()
	f := newFixture(t, SingleOperator)
	id := f.hold(t, "the same", "bob@ours.example")
	away := f.folder() + "-away"
	if err := os.Rename(f.folder(), away); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(f.folder(), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := f.read(t, id); err == nil || errors.Is(err, ErrBlobMissing) {
		t.Errorf("an empty folder: %v", err)
	}
	// What the mail itself fails with is no trouble of the store.
	if _, err := f.blobs.Put(context.Background(), io.MultiReader(strings.NewReader("x"), broken{})); err == nil || !f.blobs.Trouble().Since.IsZero() {
		t.Errorf("%v, %+v", err, f.blobs.Trouble())
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
