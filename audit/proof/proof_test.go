package proof

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// stored is a tree in memory: leaves, and what the database would keep of it.
type stored map[uint][][]byte

func (s stored) Hashes(_ context.Context, level uint, first uint64, n int) ([][]byte, error) {
	if first+uint64(n) > uint64(len(s[level])) {
		return nil, fmt.Errorf("level %d has %d hashes, not %d", level, len(s[level]), first+uint64(n))
	}
	out := make([][]byte, n)
	copy(out, s[level][first:])
	return out, nil
}

func grow(n int) (stored, []tlog.Hash) {
	s, plain := stored{}, []tlog.Hash{}
	reader := tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(at))
		for i, x := range at {
			out[i] = plain[x]
		}
		return out, nil
	})
	for i := range n {
		h := tlog.RecordHash(fmt.Appendf(nil, "event %d", i))
		s[0] = append(s[0], h[:])
		more, err := tlog.StoredHashesForRecordHash(int64(i), h, reader)
		if err != nil {
			panic(err)
		}
		plain = append(plain, more...)
		for level := uint(8); level <= 16 && (i+1)%(1<<level) == 0; level += 8 {
			node := more[level]
			s[level] = append(s[level], node[:])
		}
	}
	return s, plain
}

// TestTree_AgreesWithAnother compares roots and proofs with the implementation
// of the Go checksum database, which shares no code with ours.
func TestTree_AgreesWithAnother(t *testing.T) {
	t.Parallel()
	const n = 66_000
	s, plain := grow(n)
	reader := tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(at))
		for i, x := range at {
			out[i] = plain[x]
		}
		return out, nil
	})
	tree, ctx := Tree{s}, context.Background()
	sizes := []int64{1, 2, 3, 7, 255, 256, 257, 511, 1000, 65_535, 65_536, 65_537, n}
	heads := map[int64]Checkpoint{}
	for _, size := range sizes {
		want, err := tlog.TreeHash(size, reader)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tree.Root(ctx, uint64(size))
		if err != nil || string(got) != string(want[:]) {
			t.Fatalf("root of %d: %x, %v, want %x", size, got, err, want)
		}
		heads[size] = Checkpoint{Origin: "x", Size: uint64(size), Root: got}
		for _, i := range []int64{0, 1, size / 2, size - 2, size - 1} {
			if i < 0 || i >= size {
				continue
			}
			path, err := tree.Inclusion(ctx, uint64(i), uint64(size))
			if err != nil {
				t.Fatal(err)
			}
			if err := tlog.CheckRecord(hashes(path), size, want, i, tlog.Hash(s[0][i])); err != nil {
				t.Errorf("leaf %d of %d: %v", i, size, err)
			}
			if err := CheckInclusion(heads[size], uint64(i), s[0][i], path); err != nil {
				t.Errorf("leaf %d of %d: %v", i, size, err)
			}
			if err := CheckInclusion(heads[size], uint64(i), make([]byte, 32), path); err == nil {
				t.Errorf("another leaf passes at %d of %d", i, size)
			}
		}
	}
	for _, from := range sizes {
		for _, to := range sizes {
			if from > to {
				continue
			}
			path, err := tree.Consistency(ctx, uint64(from), uint64(to))
			if err != nil {
				t.Fatal(err)
			}
			if err := tlog.CheckTree(hashes(path), to, tlog.Hash(heads[to].Root), from, tlog.Hash(heads[from].Root)); err != nil {
				t.Errorf("%d to %d: %v", from, to, err)
			}
		}
	}
	if _, err := tree.Inclusion(ctx, 5, 5); err == nil {
		t.Error("a leaf behind the end was proved")
	}
}

func hashes(path [][]byte) (out []tlog.Hash) {
	for _, h := range path {
		out = append(out, tlog.Hash(h))
	}
	return out
}

func TestGrower(t *testing.T) {
	t.Parallel()
	s, _ := grow(300)
	g := NewGrower()
	for i, leaf := range s[0] {
		want, err := (Tree{s}).Root(context.Background(), uint64(i))
		got, gotErr := g.Root()
		if err != nil || gotErr != nil || string(got) != string(want) || g.Size() != uint64(i) {
			t.Fatalf("root of %d: %x, %v; want %x, %v", i, got, gotErr, want, err)
		}
		if err := g.Add(leaf); err != nil {
			t.Fatal(err)
		}
	}
}

func newKey(t *testing.T) (Key, func(Key, []byte) ([]byte, error)) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return Key{AlgorithmEd25519, public}, func(_ Key, msg []byte) ([]byte, error) { return ed25519.Sign(private, msg), nil }
}

func TestCheckpoint_SignedNote(t *testing.T) {
	t.Parallel()
	key, sign := newKey(t)
	other, _ := newKey(t)
	c := Checkpoint{Origin: "mx.example.org/audit", Size: 7, Root: make([]byte, 32)}
	signed, err := Sign(c, []Key{key}, sign)
	if err != nil {
		t.Fatal(err)
	}
	vkey, err := key.VKey(c.Origin)
	if err != nil {
		t.Fatal(err)
	}
	// Whoever knows the format can read it, without us.
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open([]byte(signed), note.VerifierList(v))
	if err != nil || n.Text != "mx.example.org/audit\n7\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n" {
		t.Errorf("%q, %v", n.Text, err)
	}
	if back, err := ParseVKey(vkey); err != nil || back.ID() != key.ID() {
		t.Errorf("the key read back is %v, %v", back, err)
	}
	got, by, err := Open(signed, []Key{other, key, key})
	if err != nil || got.Size != 7 || len(by) != 1 || by[0].ID() != key.ID() {
		t.Errorf("%+v signed by %v, %v", got, by, err)
	}
	for name, bad := range map[string]string{
		"another size":   strings.Replace(signed, "\n7\n", "\n8\n", 1),
		"another origin": strings.Replace(signed, "mx.example.org/audit\n", "my.example.org/audit\n", 1),
		"leading zero":   strings.Replace(signed, "\n7\n", "\n07\n", 1),
		"more lines":     strings.Replace(signed, "=\n\n", "=\nmore\n\n", 1),
		"no signature":   c.Text() + "\n",
		"nothing":        "",
	} {
		if _, _, err := Open(bad, []Key{key}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, _, err := Open(signed, []Key{other}); err == nil {
		t.Error("taken without a signature of a known key")
	}
}

// TestVerify_TextOfAStranger: what a bundle says of itself commands no terminal.
func TestVerify_TextOfAStranger(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	note := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for name, text := range map[string]string{FileManifest: `{"schema": "` + BundleSchema + `"}`, FileKeys: "[]", FilePurged: "", FileLeaves: "", FileEvents: "",
		FileCheckpoints: `{"note": "\u001b]0;all fits\u0007\u202e\n0\n` + note + `\n\nx"}`} {
		f, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		f.Write([]byte(text))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	rep, err := Verify(bytes.NewReader(b.Bytes()), int64(b.Len()), Options{})
	if err != nil || !strings.Contains(rep.Problem, "under ?]0;all fits??: bad signature") {
		t.Errorf("%q, %v", rep.Problem, err)
	}
}

// TestEvent_OddNumbers: what the database takes can be checked, and nothing stands behind it.
func TestEvent_OddNumbers(t *testing.T) {
	t.Parallel()
	at := time.Now()
	for text, want := range map[string]string{
		`{"id": "x", "class": {"retention": "r"}, "n": 1e999, "m": -123456789012345678901234567890}`: "",
		`{"id": "x", "class": {"retention": "r"}} {}`:                                                "more behind it",
		`{"id": "x", "class": {"retention": "r"}`:                                                    "not readable",
		`{"id": "x", "id": "y", "class": {"retention": "r"}}`:                                        "another id",
	} {
		leaf := Leaf(3, at, []byte(text))
		err := (&verifier{}).event(BundleEvent{Seq: 3, ID: "x", RecordedAt: at, Retention: "r", Event: text}, leaf[:])
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestTold: a protocol that is not in a bundle may have gone when its own time was over.
func TestTold(t *testing.T) {
	t.Parallel()
	n := func(v uint64) *uint64 { return &v }
	for name, c := range map[string]struct {
		purged map[string]purge
		dead   map[uint64]string
		want   bool
	}{
		"it is here":                  {map[string]purge{"a": {want: "x"}}, nil, true},
		"it went with others":         {map[string]purge{"a": {number: n(9), last: 3}, "b": {want: "x"}}, map[uint64]string{9: "b"}, true},
		"it has no number":            {map[string]purge{"a": {last: 3}, "b": {want: "x"}}, map[uint64]string{9: "b"}, false},
		"its number is not deleted":   {map[string]purge{"a": {number: n(8), last: 3}, "b": {want: "x"}}, map[uint64]string{9: "b"}, false},
		"it is older than the events": {map[string]purge{"a": {number: n(2), last: 3}, "b": {want: "x"}}, map[uint64]string{2: "b"}, false},
		"each by the other":           {map[string]purge{"a": {number: n(9)}, "b": {number: n(8)}}, map[uint64]string{9: "b", 8: "a"}, false},
	} {
		v := &verifier{purged: c.purged, dead: c.dead}
		if got := v.told("a"); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
