package seal

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"mailward/audit"
	"mailward/audit/proof"
	"mailward/internal/bao"
	"mailward/internal/pg"
	"mailward/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

const origin = "mx.ours.example/audit"

type rig struct {
	*Sealer
	t   *testing.T
	db  *testenv.DB
	dir string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	db := testenv.Postgres(t)
	dir := t.TempDir()
	log := audit.New(db.DB, audit.Options{Observer: audit.Observer{Node: "test", Version: "1"}})
	s := New(Config{Origin: origin}, Deps{DB: db.DB, Audit: log, Keys: Local{filepath.Join(dir, "keys")}, Local: File{filepath.Join(dir, "seal", "head.json")}})
	return &rig{s, t, db, dir}
}

// act puts n events on record and numbers them.
func (r *rig) act(n int, action string) {
	r.t.Helper()
	for range n {
		if err := r.Audit.Record(context.Background(), audit.Event{Action: action, Actor: pg.System("x", "y")}); err != nil {
			r.t.Fatal(err)
		}
	}
	for n := 1; n > 0; {
		var err error
		if n, err = r.Audit.Sequence(context.Background()); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *rig) seal() proof.Checkpoint {
	r.t.Helper()
	h, err := r.Seal(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	keys, err := r.PublicKeys(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	c, _, err := proof.Open(h.Note, keys)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *rig) refused(want string) {
	r.t.Helper()
	var no *RefusedError
	if _, err := r.Seal(context.Background()); !errors.As(err, &no) || !strings.Contains(no.Reason, want) {
		r.t.Fatalf("sealed: %v, want it refused: %s", err, want)
	}
}

// disarm is a superuser who takes the guards down first.
const disarm = `ALTER EVENT TRIGGER mailward_ddl DISABLE; ALTER EVENT TRIGGER mailward_drop DISABLE;
	DO $$ DECLARE r record; BEGIN FOR r IN SELECT c.oid::regclass AS t FROM pg_class c WHERE c.relnamespace = 'audit'::regnamespace AND c.relkind IN ('r', 'p')
		LOOP EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER', r.t); END LOOP; END $$; `

func (r *rig) attack(sql string) {
	r.t.Helper()
	if _, err := r.db.Admin(r.t).Exec(context.Background(), disarm+sql); err != nil {
		r.t.Fatal(err)
	}
}

func TestSeal_GrowsAndProves(t *testing.T) {
	t.Parallel()
	r, ctx := newRig(t), context.Background()
	if _, err := r.Last(ctx); !errors.Is(err, ErrNotSealed) {
		t.Errorf("before the first one: %v", err)
	}
	if c := r.seal(); c.Size != 0 { // a fresh installation seals before anything is numbered
		t.Errorf("%+v", c)
	}
	r.act(3, audit.Login)
	first := r.seal()
	if again := r.seal(); again.Size != first.Size {
		t.Errorf("sealed again at %d, nothing was new after %d but what sealing records", again.Size, first.Size)
	}
	r.act(700, audit.APICall) // over two nodes of 256
	second := r.seal()
	if second.Origin != origin || second.Size < first.Size+700 {
		t.Fatalf("%+v after %+v", second, first)
	}
	// With the code of the Go checksum database, which is not ours.
	a, b, path, err := r.Consist(ctx, first.Size, 0)
	if err != nil || string(a.Root) != string(first.Root) || string(b.Root) != string(second.Root) {
		t.Fatalf("%+v, %+v, %v", a, b, err)
	}
	var tree tlog.TreeProof
	for _, h := range path {
		tree = append(tree, tlog.Hash(h))
	}
	if err := tlog.CheckTree(tree, int64(b.Size), tlog.Hash(b.Root), int64(a.Size), tlog.Hash(a.Root)); err != nil {
		t.Error(err)
	}
	page, err := r.Audit.List(ctx, audit.Filter{Action: audit.Login})
	if err != nil || len(page.Items) != 3 {
		t.Fatal(err)
	}
	for _, ev := range page.Items {
		p, err := r.Include(ctx, ev.ID)
		if err != nil {
			t.Fatal(err)
		}
		var rec tlog.RecordProof
		for _, h := range p.Path {
			rec = append(rec, tlog.Hash(h))
		}
		leaf := proof.Leaf(*ev.Seq, ev.RecordedAt, ev.Bytes)
		if err := tlog.CheckRecord(rec, int64(p.Size), tlog.Hash(p.Root), int64(p.Seq), tlog.Hash(leaf)); err != nil {
			t.Error(err)
		}
	}
	if f, err := r.Audit.Findings(ctx); err != nil || len(f) > 0 {
		t.Errorf("guards after sealing: %v, %v", f, err)
	}
	if v, err := r.VerifyDatabase(ctx, ""); err != nil || v.Problem != "" || v.Checkpoints < 3 {
		t.Errorf("%+v, %v", v, err)
	}
	if rep := r.verify(r.bundle(Part{}), proof.Options{}); rep.Problem != "" {
		t.Errorf("%+v", rep)
	}
	if st, err := r.Status(ctx); err != nil || st.Size != second.Size || st.Unsealed != 0 || st.Refused != "" {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestSeal_RefusesWhatWasChanged(t *testing.T) {
	t.Parallel()
	const cut = `DELETE FROM audit.leaf WHERE seq >= (SELECT max(seq) - 1 FROM audit.leaf);`
	for name, c := range map[string]struct{ do, want string }{
		"a leaf of the sealed part": {"UPDATE audit.leaf SET leaf_hash = sha256('x') WHERE seq = 2", "not those that were signed"},
		// New leaves behind the cut hide that the tree is short, not what was cut.
		"the tail, and new events":     {cut + `INSERT INTO audit.leaf SELECT max(seq) + g, gen_random_uuid(), 'sec-400d', sha256(g::text::bytea) FROM audit.leaf, generate_series(1, 9) g GROUP BY g`, "not those that were signed"},
		"the tail":                     {cut, "older than its last checkpoint"},
		"an event that is not sealed":  {"UPDATE audit.event SET bytes = replace(convert_from(bytes, 'UTF8'), 'auth.logout', 'auth.logon')::bytea WHERE action = 'auth.logout'", "not what was numbered"},
		"an event gone before sealing": {"DELETE FROM audit.event WHERE action = 'auth.logout'", "is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.act(5, audit.Login)
			r.seal()
			r.act(0, "") // what sealing itself has recorded
			r.seal()
			if strings.Contains(name, "seal") && !strings.Contains(name, "leaf") {
				r.act(1, audit.Logout)
			}
			r.attack(c.do)
			r.refused(c.want)
			r.refused(c.want)
			p, err := r.Audit.List(context.Background(), audit.Filter{Action: audit.GuardViolation, Query: ""})
			n := 0
			for _, e := range p.Items {
				if strings.Contains(string(e.Bytes), "seal_refused") {
					n++
				}
			}
			if err != nil || n != 1 {
				t.Errorf("%d events of it, want 1 (%v)", n, err)
			}
			if st, err := r.Status(context.Background()); err != nil || !strings.Contains(st.Refused, c.want) {
				t.Errorf("status says %q, %v", st.Refused, err)
			}
		})
	}
}

// TestSeal_RestoredDatabase is a backup that is played back: the sealer refuses,
// a new origin names the old head, and the old one cannot go on.
func TestSeal_RestoredDatabase(t *testing.T) {
	t.Parallel()
	r, ctx := newRig(t), context.Background()
	r.act(5, audit.Login)
	r.seal()
	head := r.seal()
	r.attack("DELETE FROM audit.checkpoint; DELETE FROM audit.leaf WHERE seq > 3") // as it was before
	r.refused("older than its last checkpoint")
	if _, _, err := r.Reanchor(ctx, pg.Operator("erika@host"), ""); err == nil {
		t.Error("a new origin without a reason")
	}
	old, now, err := r.Reanchor(ctx, pg.Operator("erika@host"), "restored from the backup of Monday, ticket 7")
	if err != nil || old.Origin != origin || now.Origin != origin+"/2" {
		t.Fatalf("%+v, %+v, %v", old, now, err)
	}
	p, err := r.Audit.List(ctx, audit.Filter{Action: audit.Reanchor})
	if err != nil || len(p.Items) != 1 || !strings.Contains(string(p.Items[0].Bytes), strings.Split(head.Text(), "\n")[2]) || !strings.Contains(string(p.Items[0].Bytes), "ticket 7") {
		t.Fatalf("the event does not name the old head: %v", err)
	}
	r.act(1, audit.Login)
	if c := r.seal(); c.Origin != origin+"/2" {
		t.Errorf("%+v", c)
	}
}

func TestSeal_KeyRotation(t *testing.T) {
	t.Parallel()
	r, ctx := newRig(t), context.Background()
	r.act(1, audit.Login)
	r.seal()
	before, after, err := r.Keys.(Local).Rotate()
	if err != nil || before.ID() == after.ID() {
		t.Fatal(err)
	}
	signedBy := func() []string {
		r.act(1, audit.Login)
		h, err := r.Seal(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_, by, err := proof.Open(h.Note, []proof.Key{before, after})
		if err != nil {
			t.Fatal(err)
		}
		ids := []string{}
		for _, k := range by {
			ids = append(ids, k.ID())
		}
		return ids
	}
	if got := signedBy(); len(got) != 2 {
		t.Errorf("the checkpoint of the change is signed by %v", got)
	}
	if got := signedBy(); len(got) != 1 || got[0] != after.ID() {
		t.Errorf("the next one is signed by %v", got)
	}
	if rep := r.verify(r.bundle(Part{}), proof.Options{Trusted: []proof.Key{before}}); rep.Problem != "" {
		t.Errorf("who trusts the old key cannot check what the new one has signed: %+v", rep)
	}
	p, err := r.Audit.List(ctx, audit.Filter{Action: audit.SealKey})
	if err != nil || len(p.Items) != 2 || !strings.Contains(string(p.Items[0].Bytes), after.ID()) || !strings.Contains(string(p.Items[0].Bytes), "ed25519") {
		t.Errorf("%d events of keys, %v", len(p.Items), err)
	}
	// A key that nobody knows cannot take over.
	if err := os.Remove(filepath.Join(r.dir, "keys", "seal.key")); err != nil {
		t.Fatal(err)
	}
	r.act(1, audit.Login)
	if _, err := r.Seal(ctx); err != nil {
		t.Fatal(err)
	}
	p, err = r.Audit.List(ctx, audit.Filter{Action: audit.SealKey})
	if err != nil || len(p.Items) != 3 || !strings.Contains(string(p.Items[0].Bytes), `"old_key_signs_too":false`) {
		t.Errorf("a key without hand-over is not on record as one: %v", err)
	}
}

func TestSeal_Heartbeat(t *testing.T) {
	t.Parallel()
	r, ctx := newRig(t), context.Background()
	now := time.Now()
	r.Now = func() time.Time { return now }
	r.act(1, audit.Login)
	r.seal()
	r.act(0, "")
	first := r.seal()
	r.seal()
	now = now.Add(61 * time.Minute)
	r.seal()
	r.act(0, "")
	if c := r.seal(); c.Size != first.Size+1 {
		t.Errorf("%d events after an hour of silence, want one more than %d", c.Size, first.Size)
	}
	if p, err := r.Audit.List(ctx, audit.Filter{Action: audit.Heartbeat}); err != nil || len(p.Items) != 1 {
		t.Errorf("%d heartbeats, %v", len(p.Items), err)
	}
	now = now.Add(-48 * time.Hour) // the clock was wrong, and is set back
	r.seal()
	if p, err := r.Audit.List(ctx, audit.Filter{Action: audit.Heartbeat}); err != nil || len(p.Items) != 2 {
		t.Errorf("%d heartbeats after the clock was set back, %v", len(p.Items), err)
	}
}

// TestSeal_SharedMemory is two machines, of which the second has a database that
// was rolled back and a data_dir that knows nothing.
func TestSeal_SharedMemory(t *testing.T) {
	t.Parallel()
	r, ctx := newRig(t), context.Background()
	kv := &store{}
	r.Shared = Shared{kv, "mailward/seal"}
	r.act(5, audit.Login)
	r.seal()
	r.act(0, "")
	r.seal()
	r.Local = File{filepath.Join(t.TempDir(), "head.json")}
	r.attack("DELETE FROM audit.leaf WHERE seq > 3; DELETE FROM audit.checkpoint")
	r.refused("older than its last checkpoint")
	// Somebody else signed in between.
	kv.lose = true
	r2 := newRig(t)
	r2.Shared = Shared{&store{lose: true}, "mailward/seal"}
	r2.act(1, audit.Login)
	if _, err := r2.Seal(ctx); !errors.Is(err, bao.ErrConflict) {
		t.Errorf("two sealers at once: %v", err)
	}
	if _, err := r2.Last(ctx); !errors.Is(err, ErrNotSealed) {
		t.Error("a checkpoint is there that the shared store has refused")
	}
}

// store is a key-value store with check-and-set.
type store struct {
	data    map[string]any
	version int
	lose    bool
}

func (s *store) KVGet(context.Context, string) (map[string]any, int, error) {
	if s.version == 0 {
		return nil, 0, bao.ErrNotFound
	}
	return s.data, s.version, nil
}

func (s *store) KVPutCAS(_ context.Context, _ string, data map[string]any, version int) (int, error) {
	if version != s.version || s.lose {
		return 0, bao.ErrConflict
	}
	s.data, s.version = data, version+1
	return s.version, nil
}

// transit has the versions of one key.
type transit []ed25519.PrivateKey

func (tr transit) TransitKeys(context.Context, string) (map[int]crypto.PublicKey, error) {
	out := map[int]crypto.PublicKey{}
	for i, k := range tr {
		out[i+1] = k.Public()
	}
	return out, nil
}

func (tr transit) TransitSign(_ context.Context, _ string, version int, input []byte, alg string) ([]byte, error) {
	if alg != bao.Ed25519 || version < 1 || version > len(tr) {
		return nil, bao.ErrBadRequest
	}
	return ed25519.Sign(tr[version-1], input), nil
}

func TestSeal_KeyInOpenBao(t *testing.T) {
	t.Parallel()
	r, ctx := newRig(t), context.Background()
	_, one, _ := ed25519.GenerateKey(nil)
	_, two, _ := ed25519.GenerateKey(nil)
	r.Keys = Remote{transit{one}, "audit"}
	r.act(1, audit.Login)
	r.seal()
	r.Keys = Remote{transit{one, two}, "audit"} // a new version
	r.act(1, audit.Login)
	h, err := r.Seal(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, by, err := proof.Open(h.Note, []proof.Key{publicOf(one), publicOf(two)}); err != nil || len(by) != 2 {
		t.Errorf("signed by %v, %v", by, err)
	}
}

// forgetful keeps a head and then says that it has failed: what a crash between
// the memory and the end of the transaction leaves.
type forgetful struct {
	Memory
	fail bool
}

var errLost = errors.New("the answer was lost")

func (f *forgetful) Store(ctx context.Context, h Head, version int) error {
	if err := f.Memory.Store(ctx, h, version); err != nil || !f.fail {
		return err
	}
	return errLost
}

// TestSeal_FailedButRemembered: a head that is remembered and not in the database
// does not keep the next one from being signed, also where its origin is new.
func TestSeal_FailedButRemembered(t *testing.T) {
	t.Parallel()
	r, ctx := newRig(t), context.Background()
	memory := &forgetful{Memory: r.Local}
	r.Local = memory
	lost := func() {
		t.Helper()
		memory.fail = true
		if _, err := r.Seal(ctx); !errors.Is(err, errLost) {
			t.Fatalf("sealed: %v", err)
		}
		memory.fail = false
	}
	r.act(3, audit.Login)
	lost() // the first of all
	if c := r.seal(); c.Origin != origin {
		t.Errorf("after the first: %+v", c)
	}
	r.act(2, audit.Login)
	lost()
	r.seal()
	memory.fail = true
	if _, _, err := r.Reanchor(ctx, pg.Operator("test"), "a restore"); !errors.Is(err, errLost) {
		t.Fatalf("opened: %v", err)
	}
	memory.fail = false
	if c := r.seal(); c.Origin != origin+"/2" {
		t.Errorf("after a new origin: %+v", c)
	}
	if p, err := r.Audit.List(ctx, audit.Filter{Action: audit.Reanchor}); err != nil || len(p.Items) != 1 {
		t.Errorf("%d events of the new origin, %v", len(p.Items), err)
	}
	if v, err := r.VerifyDatabase(ctx, ""); err != nil || v.Problem != "" {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestSeal_KeyRotationOfASilentRecord: between the two keys nothing is numbered.
// The hand-over is not signed twice under one size, of which only the first would be kept.
func TestSeal_KeyRotationOfASilentRecord(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.act(1, audit.Login)
	r.seal()
	r.act(0, "") // what sealing has recorded
	first := r.seal()
	before, after, err := r.Keys.(Local).Rotate()
	if err != nil {
		t.Fatal(err)
	}
	if c := r.seal(); c.Size != first.Size || c.Next != "" {
		t.Errorf("%+v after %+v", c, first)
	}
	r.act(0, "")
	if c := r.seal(); c.Size == first.Size || !strings.HasPrefix(c.Next, origin) {
		t.Errorf("%+v", c)
	}
	r.act(2, audit.Login)
	rep := r.verify(r.bundle(Part{}), proof.Options{Trusted: []proof.Key{before}})
	if rep.Problem != "" || len(rep.SignedBy) != 1 || rep.SignedBy[0].ID() != after.ID() {
		t.Errorf("%+v", rep)
	}
}

// TestSeal_HandOverWhoseRowIsLost: the head was kept outside, and the transaction
// that writes it down did not end well.
func TestSeal_HandOverWhoseRowIsLost(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.act(1, audit.Login)
	r.seal()
	before, _, err := r.Keys.(Local).Rotate()
	if err != nil {
		t.Fatal(err)
	}
	r.act(1, audit.Login)
	if c := r.seal(); c.Next == "" {
		t.Fatalf("%+v", c)
	}
	r.attack("DELETE FROM audit.checkpoint WHERE size = (SELECT max(size) FROM audit.checkpoint)")
	r.act(2, audit.Login)
	r.seal()
	if rep := r.verify(r.bundle(Part{}), proof.Options{Trusted: []proof.Key{before}}); rep.Problem != "" {
		t.Errorf("%+v", rep)
	}
}
