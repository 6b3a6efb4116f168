package quarantine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/message"
	"mailward/internal/pg"
)

const sameMail = "Subject: x\r\n\r\nthe same\r\n"

// The same mail in several items is one file, which goes with the last of them.
func TestBlobs_SameMailIsStoredOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t, SingleOperator)
	ctx := context.Background()
	ids := make([]uuid.UUID, 12)
	var wg sync.WaitGroup
	for i := range ids { // at the same time, so that some are the first together
		h := f.request(t, "the same", fmt.Sprintf("u%d@ours.example", i))
		wg.Go(func() {
			var err error
			if ids[i], err = f.Hold(ctx, h); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if files, rows := f.files(t), f.count(t, "SELECT count(*) FROM blob"); len(files) != 1 || rows != 1 {
		t.Fatalf("%d files, %d rows for one mail: %v", len(files), rows, files)
	}
	for i, id := range ids {
		if got, err := f.read(t, id); err != nil || got != sameMail {
			t.Fatalf("item %d: %q, %v", i, got, err)
		}
		if i%2 == 0 {
			if _, err := f.Delete(ctx, f.users[0], nil, id, "done"); err != nil {
				t.Fatal(err)
			}
		} else {
			f.expireNow(t, id)
		}
		if _, err := f.read(t, id); !errors.Is(err, ErrGone) {
			t.Errorf("item %d can still be read: %v", i, err)
		}
		if n, want := len(f.files(t)), min(1, len(ids)-1-i); n != want {
			t.Fatalf("%d files after %d of %d are gone, want %d", n, i+1, len(ids), want)
		}
	}
	if n := f.count(t, "SELECT count(*) FROM blob"); n != 0 {
		t.Errorf("%d keys are left", n)
	}
}

func (f *fixture) expireNow(t *testing.T, id uuid.UUID) {
	t.Helper()
	if _, err := f.db.Admin(t).Exec(context.Background(), "UPDATE quarantine_item SET expires_at = now() - interval '1 day' WHERE id = $1", id); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Expire(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// Nothing is shared with another workspace: its data end when it wants.
func TestBlobs_WorkspacesShareNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, SingleOperator)
	other := uuid.New()
	if _, err := f.db.Admin(t).Exec(context.Background(), "INSERT INTO workspace (id, name) VALUES ($1, 'Other')", other); err != nil {
		t.Fatal(err)
	}
	mine := f.hold(t, "the same", "bob@ours.example")
	h := f.request(t, "the same", "bob@ours.example")
	h.Workspace = other
	theirs, err := f.Hold(context.Background(), h)
	if err != nil {
		t.Fatal(err)
	}
	if n := f.count(t, "SELECT count(DISTINCT wrapped_key) FROM blob"); n != 2 || len(f.files(t)) != 2 {
		t.Errorf("%d keys, %d files", n, len(f.files(t)))
	}
	if _, err := f.Delete(context.Background(), f.users[0], nil, mine, "erasure"); err != nil {
		t.Fatal(err)
	}
	if got, err := f.read(t, theirs); err != nil || got != sameMail {
		t.Errorf("%q, %v", got, err)
	}
}

// A legal hold on one item keeps the bytes, whatever becomes of the others.
func TestBlobs_LegalHoldKeepsTheBytes(t *testing.T) {
	t.Parallel()
	f := newFixture(t, SingleOperator)
	ctx := context.Background()
	kept, other := f.hold(t, "the same", "bob@ours.example"), f.hold(t, "the same", "carol@ours.example")
	if _, err := f.SetHold(ctx, f.users[0], nil, kept, "case 7"); err != nil {
		t.Fatal(err)
	}
	f.expireNow(t, other)
	f.expireNow(t, kept)
	if _, err := f.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if got, err := f.read(t, kept); err != nil || got != sameMail {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := f.read(t, other); !errors.Is(err, ErrGone) {
		t.Errorf("the expired one: %v", err)
	}
}

// What is stored and cannot be read is not what a 250 stands on.
func TestBlobs_DamagedIsNotShared(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(f *fixture, t *testing.T, file string){
		"gone":    func(_ *fixture, t *testing.T, file string) { os.Remove(file) },
		"cut off": func(_ *fixture, t *testing.T, file string) { os.Truncate(file, 20) },
		"key lost": func(f *fixture, t *testing.T, _ string) {
			if _, err := f.db.Admin(t).Exec(context.Background(), "UPDATE blob SET wrapped_key = '\\x00'"); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, SingleOperator)
			f.hold(t, "the same", "bob@ours.example")
			harm(f, t, f.files(t)[0])
			for _, who := range []string{"carol@ours.example", "dave@ours.example"} {
				id := f.hold(t, "the same", who)
				if got, err := f.read(t, id); err != nil || got != sameMail {
					t.Errorf("%s: %q, %v", who, got, err)
				}
			}
		})
	}
}

// The last reference goes while a new one comes: whoever is first, no item is
// without its bytes.
func TestBlobs_DropAgainstShare(t *testing.T) {
	t.Parallel()
	f := newFixture(t, SingleOperator)
	ctx := context.Background()
	last := f.hold(t, "the same", "first@ours.example")
	for i := range 25 {
		h := f.request(t, "the same", fmt.Sprintf("u%d@ours.example", i))
		var next uuid.UUID
		var wg sync.WaitGroup
		wg.Go(func() {
			var err error
			if next, err = f.Hold(ctx, h); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if _, err := f.Delete(ctx, f.users[0], nil, last, "done"); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if _, err := f.Sweep(ctx); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		if got, err := f.read(t, next); err != nil || got != sameMail {
			t.Fatalf("round %d: %q, %v", i, got, err)
		}
		last = next
	}
	if n := f.count(t, "SELECT count(*) FROM blob"); n != 1 {
		t.Errorf("%d blobs", n)
	}
}

// A blob that is dropped between being found and being claimed.
func TestBlobs_DroppedBeforeTheClaim(t *testing.T) {
	t.Parallel()
	f := newFixture(t, SingleOperator)
	ctx := context.Background()
	first := f.hold(t, "the same", "first@ours.example")
	h := f.request(t, "the same", "second@ours.example")
	sum := h.Spool.SHA256()
	tries, id := 0, uuid.Must(uuid.NewV7())
	err := f.Keep(ctx, Content{Workspace: h.Workspace, Sum: sum[:], Open: opener(h.Spool)}, func(k *Kept) error {
		if tries++; tries == 1 {
			if _, err := f.Delete(ctx, f.users[0], nil, first, "done"); err != nil {
				t.Error(err)
			}
		}
		return f.Store.db.Act(ctx, pg.System("test", "test"), func(ctx context.Context, tx pgx.Tx) error {
			name, err := f.Claim(ctx, tx, k)
			if err != nil {
				return err
			}
			return f.insert(ctx, tx, id, name, h)
		})
	})
	if err != nil || tries != 2 {
		t.Fatalf("%d tries, %v", tries, err)
	}
	if got, err := f.read(t, id); err != nil || got != sameMail {
		t.Errorf("%q, %v", got, err)
	}
}

func TestSweep_RowsWithoutFiles(t *testing.T) {
	t.Parallel()
	f := newFixture(t, SingleOperator)
	ctx := context.Background()
	id := f.hold(t, "x", "bob@ours.example")
	file := f.files(t)[0]
	away := filepath.Join(t.TempDir(), "away")
	if err := os.Rename(file, away); err != nil {
		t.Fatal(err)
	}
	if n, err := f.Sweep(ctx); err != nil || n.Missing != 0 {
		t.Errorf("a young one: %+v, %v", n, err)
	}
	if _, err := f.db.Admin(t).Exec(ctx, "UPDATE blob SET created_at = now() - interval '1 day'"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{1, 0} { // reported once
		if n, err := f.Sweep(ctx); err != nil || n.Missing != want {
			t.Errorf("%+v, %v, want %d", n, err, want)
		}
	}
	if n := f.count(t, "SELECT count(*) FROM audit.event WHERE action = 'quarantine.blob.missing'"); n != 1 {
		t.Errorf("%d events", n)
	}
	keys := f.openKeys(t)
	if st, err := f.BlobStatus(ctx, keys); err != nil || st.Missing != 1 || st.MissingSince.IsZero() || st.SweptAt.IsZero() {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := f.read(t, id); err == nil {
		t.Error("it can be read")
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(away, file); err != nil { // out of a backup
		t.Fatal(err)
	}
	if _, err := f.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if st, err := f.BlobStatus(ctx, keys); err != nil || st.Missing != 0 {
		t.Errorf("%+v, %v", st, err)
	}
	if n := f.count(t, "SELECT count(*) FROM audit.event WHERE action = 'quarantine.blob.found'"); n != 1 {
		t.Errorf("%d events of its return", n)
	}
}

// With the wrong database beside it, the folder is not emptied.
func TestSweep_TooManyToBelieve(t *testing.T) {
	t.Parallel()
	f := newFixture(t, SingleOperator)
	ctx := context.Background()
	f.hold(t, "x", "bob@ours.example")
	dir := filepath.Join(f.folder(), "aa")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var written []string
	for range tooManyOrphans {
		name := filepath.Join(dir, uuid.NewString())
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		f.age(t, name)
		written = append(written, name)
	}
	if n, err := f.Sweep(ctx); err != nil || n.Refused != tooManyOrphans || n.Removed != 0 {
		t.Errorf("%+v, %v", n, err)
	}
	if st, err := f.BlobStatus(ctx, f.openKeys(t)); err != nil || st.Refused != tooManyOrphans {
		t.Errorf("%+v, %v", st, err)
	}
	for _, name := range written[:5] {
		os.Remove(name)
	}
	if n, err := f.Sweep(ctx); err != nil || n.Refused != 0 || n.Removed == 0 || len(f.files(t)) != 1 {
		t.Errorf("%+v, %v", n, err)
	}
}

// A row that somebody changes past the program is on record.
func TestBlobs_ChangedByHand(t *testing.T) {
	t.Parallel()
	f := newFixture(t, SingleOperator)
	f.hold(t, "x", "bob@ours.example")
	ctx := context.Background()
	for _, c := range [][2]string{{"UPDATE blob SET wrapped_key = '\\x00'", "blob.update"}, {"DELETE FROM blob", "blob.delete"}} {
		sql, action := c[0], c[1]
		if _, err := f.db.Admin(t).Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
		if n := f.count(t, "SELECT count(*) FROM audit.event WHERE action = $1", action); n != 1 {
			t.Errorf("%s: %d events", sql, n)
		}
	}
	if _, err := f.db.Admin(t).Exec(ctx, "TRUNCATE blob"); err == nil {
		t.Error("the table could be emptied")
	}
	if _, err := f.db.Pool.Exec(ctx, "UPDATE blob SET name = 'x'"); err == nil {
		t.Error("the program may point a row to another file")
	}
}

func opener(sp *message.Spool) func(context.Context) (io.ReadCloser, error) {
	return func(context.Context) (io.ReadCloser, error) { return io.NopCloser(sp.NewReader()), nil }
}

// openKeys opens the keys of the fixture once more, as another process does.
func (f *fixture) openKeys(t *testing.T) *Keys {
	t.Helper()
	k, err := OpenKeys(f.keyFile(), nil, "")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (f *fixture) keyFile() string {
	return filepath.Join(filepath.Dir(f.folder()), "keys", "blob.key")
}
