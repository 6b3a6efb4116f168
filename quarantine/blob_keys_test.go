package quarantine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"mailward/internal/bao"
	"mailward/internal/pg"
)

var _ Transit = (*bao.Client)(nil)

// transit is OpenBao as far as blobs ask for it: keys with versions, rewrap without
// associated data, a batch that is refused whole for one bad part.
type transit struct {
	mu      sync.Mutex
	latest  map[string]int
	refuse  string // a ciphertext with this in it
	batches int
	opened  int
}

var errTransit = errors.New("transit: refused")

func (tr *transit) seal(key string, version int, plain []byte) string {
	return fmt.Sprintf("vault:v%d:%s", version, base64.StdEncoding.EncodeToString(append([]byte(key+"|"), plain...)))
}

func (tr *transit) open(key, ct string) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(ct[strings.LastIndex(ct, ":")+1:])
	plain, ok := bytes.CutPrefix(raw, []byte(key+"|"))
	if err != nil || !ok || tr.refuse != "" && strings.Contains(ct, tr.refuse) {
		return nil, errTransit
	}
	return plain, nil
}

func (tr *transit) TransitEncrypt(_ context.Context, key string, plain, bound []byte) (string, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.latest[key] == 0 || bound != nil {
		return "", errTransit
	}
	return tr.seal(key, tr.latest[key], plain), nil
}

func (tr *transit) TransitDecrypt(_ context.Context, key, ct string, _ []byte) ([]byte, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.opened++
	return tr.open(key, ct)
}

func (tr *transit) TransitRewrap(_ context.Context, key, ct string) (string, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	plain, err := tr.open(key, ct)
	if err != nil {
		return "", err
	}
	return tr.seal(key, tr.latest[key], plain), nil
}

func (tr *transit) TransitRewrapAll(ctx context.Context, key string, cts []string) (out []string, err error) {
	tr.mu.Lock()
	tr.batches++
	tr.mu.Unlock()
	for _, ct := range cts {
		next, err := tr.TransitRewrap(ctx, key, ct)
		if err != nil {
			return nil, err
		}
		out = append(out, next)
	}
	return out, nil
}

func (tr *transit) TransitLatest(_ context.Context, key string) (int, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.latest[key], nil
}

func (tr *transit) TransitRotate(_ context.Context, key string) error {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.latest[key]++
	return nil
}

// TestKeys_RotateAndRewrap goes from one local key to the next, to OpenBao, to the
// next version there, and back: at every step every held mail can be read, by a
// process that knew the keys before and by one that is new.
func TestKeys_RotateAndRewrap(t *testing.T) {
	t.Parallel()
	f := newFixture(t, SingleOperator)
	ctx, actor := context.Background(), pg.Operator("root@host")
	tr := &transit{latest: map[string]int{"blobs": 1}}
	open := func(name string) *Keys {
		t.Helper()
		k, err := OpenKeys(f.keyFile(), tr, name)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	before := open("") // a process that goes on as it is
	var ids []uuid.UUID
	check := func(step string, k *Keys, count int) {
		t.Helper()
		f.blobs.wrap = k
		ids = append(ids, f.hold(t, fmt.Sprintf("mail %d", len(ids)), "bob@ours.example"))
		for name, w := range map[string]Wrapper{"the process": k, "one from before": before} {
			f.blobs.wrap = w
			for i, id := range ids {
				if got, err := f.read(t, id); err != nil || !strings.Contains(got, fmt.Sprintf("mail %d", i)) {
					t.Fatalf("%s: mail %d, %s: %q, %v", step, i, name, got, err)
				}
			}
		}
		f.blobs.wrap = k
		if n := f.count(t, "SELECT count(DISTINCT wrapped_by) FROM blob"); n != count {
			t.Errorf("%s: %d keys in use, want %d", step, n, count)
		}
	}
	rewrap := func(k *Keys, want int) {
		t.Helper()
		r, err := f.Rewrap(ctx, actor, k, "test")
		if err != nil || r.Done != want || r.Failed != 0 {
			t.Fatalf("%+v, %v; want %d", r, err, want)
		}
		if n := f.count(t, "SELECT count(*) FROM blob WHERE wrapped_by <> $1", r.Key); n != 0 {
			t.Errorf("%d blobs of other keys", n)
		}
	}
	check("first key", open(""), 1)
	local := open("")
	if _, err := f.RotateKey(ctx, actor, local, "yearly"); err != nil {
		t.Fatal(err)
	}
	check("second key", local, 2)
	check("second key, found by the process from before", before, 2)
	rewrap(local, 1)
	check("rewrapped", local, 1)
	remote := open("blobs")
	check("OpenBao", remote, 2)
	rewrap(remote, 4)
	opened := tr.opened
	if _, err := f.RotateKey(ctx, actor, remote, "yearly"); err != nil {
		t.Fatal(err)
	}
	rewrap(remote, 5)
	if tr.opened != opened || tr.batches != 1 {
		t.Errorf("%d keys came here, %d batches: the server can rewrap itself", tr.opened-opened, tr.batches)
	}
	check("second version", remote, 1)
	rewrap(local, 6)
	check("back", local, 1)
	for action, want := range map[string]int{"quarantine.blob.rewrap": 8, "quarantine.blob.rotate_key": 4} { // intent and result
		if n := f.count(t, "SELECT count(*) FROM audit.event WHERE action = $1", action); n != want {
			t.Errorf("%d events %s, want %d", n, action, want)
		}
	}
	if uses, err := f.KeyUses(ctx, local); err != nil || len(uses) != 1 || !uses[0].Current || uses[0].Unknown || uses[0].Blobs != int64(len(ids)) {
		t.Errorf("%+v, %v", uses, err)
	}
	if _, err := f.Rewrap(ctx, actor, local, " "); !errors.Is(err, ErrReasonRequired) {
		t.Errorf("without a reason: %v", err)
	}
}

// One key that cannot be opened leaves the others to be done, and is done by the
// next run.
func TestRewrap_OneFails(t *testing.T) {
	t.Parallel()
	f := newFixture(t, SingleOperator)
	ctx, actor := context.Background(), pg.Operator("root@host")
	tr := &transit{latest: map[string]int{"blobs": 1}}
	k, err := OpenKeys(f.keyFile(), tr, "blobs")
	if err != nil {
		t.Fatal(err)
	}
	f.blobs.wrap = k
	ids := []uuid.UUID{f.hold(t, "one", "a@ours.example"), f.hold(t, "two", "a@ours.example"), f.hold(t, "three", "a@ours.example")}
	it, err := f.Get(ctx, ids[1])
	if err != nil {
		t.Fatal(err)
	}
	_, ct, _ := splitBao(it.ref.Key)
	tr.refuse, tr.latest["blobs"] = ct, 2
	if r, err := f.Rewrap(ctx, actor, k, "test"); err != nil || r.Done != 2 || r.Failed != 1 || len(r.Errors) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if n := f.count(t, "SELECT count(*) FROM audit.event WHERE action = 'quarantine.blob.rewrap' AND outcome = 'failure'"); n != 1 {
		t.Errorf("%d events of the failure", n)
	}
	tr.refuse = ""
	if r, err := f.Rewrap(ctx, actor, k, "test"); err != nil || r.Done != 1 || r.Failed != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	for _, id := range ids {
		if _, err := f.read(t, id); err != nil {
			t.Error(err)
		}
	}
}

// TestRewrap_TheDatabaseFails: broken off at any transaction, whether that was done
// or not, all mail can be read, and a further run does the rest.
func TestRewrap_TheDatabaseFails(t *testing.T) {
	t.Parallel()
	lost := errors.New("connection lost")
	for at := 1; at <= 3; at++ { // intent, keys, result
		for _, done := range []bool{false, true} {
			t.Run(fmt.Sprintf("transaction %d, done %t", at, done), func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, SingleOperator)
				ctx, actor := context.Background(), pg.Operator("root@host")
				k := f.openKeys(t)
				f.blobs.wrap = k
				id := f.hold(t, "the same", "bob@ours.example")
				if err := k.Rotate(ctx); err != nil {
					t.Fatal(err)
				}
				faulty, n := *f.Store, 0
				faulty.db = f.db.DB.WithFaults(func(_ pg.Actor, after bool) error {
					if !after {
						n++
					}
					if n == at && after == done {
						return lost
					}
					return nil
				})
				if _, err := faulty.Rewrap(ctx, actor, k, "test"); !errors.Is(err, lost) {
					t.Fatal(err)
				}
				if got, err := f.read(t, id); err != nil || got != sameMail {
					t.Errorf("%q, %v", got, err)
				}
				if _, err := f.Rewrap(ctx, actor, k, "test"); err != nil {
					t.Fatal(err)
				}
				if got, err := f.read(t, id); err != nil || got != sameMail || f.count(t, "SELECT count(DISTINCT wrapped_by) FROM blob") != 1 {
					t.Errorf("%q, %v", got, err)
				}
			})
		}
	}
}

// Mail is held and released from while its keys are wrapped anew.
func TestRewrap_WhileMailComes(t *testing.T) {
	t.Parallel()
	f := newFixture(t, SingleOperator)
	ctx := context.Background()
	k := f.openKeys(t)
	f.blobs.wrap = k
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := range 8 {
				id := f.hold(t, fmt.Sprintf("mail %d", i), fmt.Sprintf("u%d@ours.example", w))
				if _, err := f.read(t, id); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 4 {
			if _, err := f.RotateKey(ctx, pg.Operator("x"), k, "test"); err != nil {
				t.Error(err)
			}
			if _, err := f.Rewrap(ctx, pg.Operator("x"), k, "test"); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	if _, err := f.Rewrap(ctx, pg.Operator("x"), k, "test"); err != nil {
		t.Fatal(err)
	}
	if n := f.count(t, "SELECT count(DISTINCT wrapped_by) FROM blob"); n != 1 || f.count(t, "SELECT count(*) FROM blob") != 8 {
		t.Errorf("%d keys", n)
	}
}

func TestKeys_Refuse(t *testing.T) {
	t.Parallel()
	ctx, id := context.Background(), uuid.New()
	path := filepath.Join(t.TempDir(), "keys", "blob.key")
	k, err := OpenKeys(path, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	secret := bytes.Repeat([]byte{7}, keySize)
	wrapped, err := k.Wrap(ctx, secret, id[:])
	if err != nil || len(wrapped) != localLen {
		t.Fatalf("%d bytes, %v", len(wrapped), err)
	}
	if err := k.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	old, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "blob-old", "*.key"))
	if len(old) != 1 {
		t.Fatalf("old keys: %v", old)
	}
	if st, err := os.Stat(old[0]); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	if got, err := k.Unwrap(ctx, wrapped, id[:]); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("an old key does not open: %v", err)
	}
	other := uuid.New()
	if _, err := k.Unwrap(ctx, wrapped, other[:]); !errors.Is(err, ErrBlobDamaged) {
		t.Errorf("for another blob: %v", err)
	}
	tr := &transit{latest: map[string]int{"blobs": 1}}
	remote, err := OpenKeys(path, tr, "blobs")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := remote.Wrap(ctx, secret, id[:])
	if err != nil || wrappedBy(theirs) != "bao:blobs:v1" {
		t.Fatalf("%q, %v", theirs, err)
	}
	if _, err := remote.Unwrap(ctx, theirs, other[:]); !errors.Is(err, ErrBlobDamaged) {
		t.Errorf("for another blob, OpenBao: %v", err)
	}
	if _, err := k.Unwrap(ctx, theirs, id[:]); !errors.Is(err, ErrKeyUnknown) {
		t.Errorf("without OpenBao: %v", err)
	}
	if got := k.Unknown([]string{"bao:blobs:v1", "local:0011223344556677", wrappedBy(wrapped)}); len(got) != 2 {
		t.Errorf("unknown: %v", got)
	}
	// The key in force is lost: no new one takes its place unseen.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKeys(path, nil, ""); err == nil {
		t.Error("a lost key was replaced")
	}
	if err := os.Remove(old[0]); err != nil {
		t.Fatal(err)
	}
	fresh, err := OpenRing(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fresh.Unwrap(ctx, wrapped, id[:]); !errors.Is(err, ErrKeyUnknown) {
		t.Errorf("a key that is gone: %v", err)
	}
	if _, err := OpenKeys(path, nil, "blobs"); err == nil {
		t.Error("a key in OpenBao without OpenBao")
	}
}

// TestRing_RotationBrokenOff: after each step of a rotation the old key is there.
func TestRing_RotationBrokenOff(t *testing.T) {
	t.Parallel()
	ctx, id := context.Background(), uuid.New()
	secret := bytes.Repeat([]byte{7}, keySize)
	for name, harm := range map[string]func(t *testing.T, dir string){
		"the folder of old keys cannot be made": func(t *testing.T, dir string) { os.WriteFile(filepath.Join(dir, "blob-old"), nil, 0o600) },
		"the copy is there already": func(t *testing.T, dir string) {
			b, err := os.ReadFile(filepath.Join(dir, "blob.key"))
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(append([]byte("mailward blob key id"), b...))
			os.Mkdir(filepath.Join(dir, "blob-old"), 0o700)
			os.WriteFile(filepath.Join(dir, "blob-old", fmt.Sprintf("%x.key", sum[:8])), b, 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			k, err := OpenKeys(filepath.Join(dir, "blob.key"), nil, "")
			if err != nil {
				t.Fatal(err)
			}
			wrapped, err := k.Wrap(ctx, secret, id[:])
			if err != nil {
				t.Fatal(err)
			}
			harm(t, dir)
			k.Rotate(ctx)
			again, err := OpenKeys(filepath.Join(dir, "blob.key"), nil, "")
			if err != nil {
				t.Fatal(err)
			}
			if got, err := again.Unwrap(ctx, wrapped, id[:]); err != nil || !bytes.Equal(got, secret) {
				t.Errorf("after a rotation that was broken off: %v", err)
			}
		})
	}
}
