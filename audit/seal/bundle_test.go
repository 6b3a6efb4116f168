package seal

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/audit"
	"mailward/audit/proof"
	"mailward/internal/pg"
)

func (r *rig) bundle(p Part) []byte {
	r.t.Helper()
	var b bytes.Buffer
	if _, err := r.WriteBundle(context.Background(), &b, p); err != nil {
		r.t.Fatal(err)
	}
	return b.Bytes()
}

func (r *rig) verify(b []byte, opt proof.Options) proof.Report {
	r.t.Helper()
	rep, err := proof.Verify(bytes.NewReader(b), int64(len(b)), opt)
	if err != nil {
		r.t.Fatal(err)
	}
	return rep
}

// rewrite makes the bundle anew with other contents, and with checksums that
// fit: whoever changes a bundle can make those too.
func rewrite(t *testing.T, bundle []byte, change func(name string, b []byte) []byte) []byte {
	t.Helper()
	in, err := zip.NewReader(bytes.NewReader(bundle), int64(len(bundle)))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	sums := ""
	for _, f := range in.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if f.Name == proof.FileSums {
			b = []byte(sums)
		} else if b = change(f.Name, b); b == nil {
			continue
		}
		sum := sha256.Sum256(b)
		sums += hex.EncodeToString(sum[:]) + "  " + f.Name + "\n"
		fw, err := w.Create(f.Name)
		if err != nil {
			t.Fatal(err)
		}
		fw.Write(b)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// inFile changes one file of a bundle.
func inFile(name string, f func([]byte) []byte) func(string, []byte) []byte {
	return func(n string, b []byte) []byte {
		if n == name {
			return f(b)
		}
		return b
	}
}

func TestBundle_ChecksOffline(t *testing.T) {
	t.Parallel()
	r, ctx := newRig(t), context.Background()
	who := pg.Actor{Type: pg.ActorUser, UserID: uuid.New(), Email: "erika@ours.example"}
	ws := uuid.MustParse("00000000-0000-7000-8000-000000000001")
	for i := range 6 {
		ev := audit.Event{Action: audit.Login, Actor: who}
		if i%2 == 0 {
			ev.Workspace = ws
		}
		if err := r.Audit.Record(ctx, ev); err != nil {
			t.Fatal(err)
		}
	}
	r.act(0, "")
	early, err := r.Seal(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r.act(300, audit.APICall)
	all := r.bundle(Part{Version: "1"})
	keys, err := r.PublicKeys(ctx)
	if err != nil {
		t.Fatal(err)
	}
	rep := r.verify(all, proof.Options{Trusted: keys, Earlier: early.Note})
	if rep.Problem != "" || rep.Events != rep.Leaves || rep.Events < 306 || rep.Checkpoints < 2 || rep.Erased != 0 || len(rep.Notices) != 0 {
		t.Errorf("%+v", rep)
	}
	if rep := r.verify(all, proof.Options{}); rep.Problem != "" || len(rep.Notices) != 1 {
		t.Errorf("without a key: %+v", rep)
	}
	stranger := proof.Key{Algorithm: proof.AlgorithmEd25519, Public: make([]byte, 32)}
	if rep := r.verify(all, proof.Options{Trusted: []proof.Key{stranger}}); !strings.Contains(rep.Problem, "not signed by a key that you trust") {
		t.Errorf("with another key: %+v", rep)
	}
	if b := r.bundle(Part{Anonymous: true}); bytes.Contains(unzip(t, b, proof.FileEvents), []byte("erika@")) {
		t.Error("personal values are in a bundle without them")
	} else if rep := r.verify(b, proof.Options{}); rep.Problem != "" || rep.Erased != 6 {
		t.Errorf("%+v", rep)
	}
	part := r.bundle(Part{Workspace: ws})
	if rep := r.verify(part, proof.Options{Trusted: keys, Earlier: early.Note}); rep.Problem != "" || rep.Events != 3 || rep.Leaves < 306 {
		t.Errorf("of a workspace: %+v", rep)
	}
	page, err := r.Audit.List(ctx, audit.Filter{Action: audit.APICall})
	if err != nil {
		t.Fatal(err)
	}
	from := page.Items[49].RecordedAt.Truncate(time.Millisecond)
	some := r.bundle(Part{From: from})
	if rep := r.verify(some, proof.Options{Trusted: keys}); rep.Problem != "" || rep.Events < 49 || rep.Events > 120 {
		t.Errorf("of a time: %+v", rep)
	}
	if n, err := r.Audit.Erase(ctx, pg.Operator("x"), "erika@ours.example", "Art. 17 GDPR", "asked for"); err != nil || n != 6 {
		t.Fatal(n, err)
	}
	if rep := r.verify(r.bundle(Part{}), proof.Options{Trusted: keys, Earlier: early.Note}); rep.Problem != "" || rep.Erased != 6 {
		t.Errorf("after an erasure: %+v", rep)
	}
}

func unzip(t *testing.T, bundle []byte, name string) (out []byte) {
	t.Helper()
	rewrite(t, bundle, inFile(name, func(b []byte) []byte { out = bytes.Clone(b); return b }))
	return out
}

// TestBundle_Tampered changes each kind of file, as somebody would who can write
// whole bundles, and wants the change named.
func TestBundle_Tampered(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.act(3, audit.Login)
	r.seal()
	r.act(3, audit.Logout)
	good := r.bundle(Part{})
	keys, err := r.PublicKeys(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	dropLine := func(n int) func([]byte) []byte {
		return func(b []byte) []byte {
			l := bytes.SplitAfter(b, []byte("\n"))
			return bytes.Join(append(l[:n:n], l[n+1:]...), nil)
		}
	}
	for name, c := range map[string]struct {
		file string
		do   func([]byte) []byte
		want string
	}{
		"a word of an event": {proof.FileEvents, func(b []byte) []byte { return bytes.Replace(b, []byte("auth.logout"), []byte("auth.login "), 1) }, "was changed"},
		"its time": {proof.FileEvents, func(b []byte) []byte {
			return bytes.Replace(b, []byte(`"recorded_at":"2`), []byte(`"recorded_at":"3`), 1)
		}, "was changed"},
		"an event gone": {proof.FileEvents, dropLine(4), "event number 4 is missing"},
		"two events swapped": {proof.FileEvents, func(b []byte) []byte {
			l := bytes.SplitAfter(b, []byte("\n"))
			l[1], l[2] = l[2], l[1]
			return bytes.Join(l, nil)
		}, "is missing"},
		"a bit of a leaf":      {proof.FileLeaves, func(b []byte) []byte { b[33] ^= 1; return b }, "event"},
		"the tail":             {proof.FileLeaves, func(b []byte) []byte { return b[:len(b)-32] }, "ends after"},
		"a bit of a signature": {proof.FileCheckpoints, func(b []byte) []byte { b[bytes.LastIndex(b, []byte(`\n"`))-10] ^= 1; return b }, "bad signature"},
		"a root":               {proof.FileCheckpoints, func(b []byte) []byte { i := bytes.Index(b, []byte(`\n\n`)); b[i-5] ^= 1; return b }, "checkpoint"},
		"a receipt":            {proof.FileAnchors, func([]byte) []byte { return []byte(`{"kind":"tsa","origin":"x","size":1}` + "\n") }, "is not here"},
		"the class of an event": {proof.FileEvents, func(b []byte) []byte {
			return bytes.Replace(b, []byte(`"retention":"sec-400d"`), []byte(`"retention":"incident"`), 1)
		}, "another retention"},
		"an unknown field": {proof.FileEvents, func(b []byte) []byte {
			return bytes.Replace(b, []byte(`{"seq":3,`), []byte(`{"reviewed":true,"seq":3,`), 1)
		}, "beside its events"},
		"a field twice": {proof.FileEvents, func(b []byte) []byte {
			return bytes.Replace(b, []byte(`{"seq":3,`), []byte(`{"EVENT":"{\"action\":\"nothing\"}","seq":3,`), 1)
		}, "beside its events"},
		"another way to write it": {proof.FileEvents, func(b []byte) []byte { return bytes.Replace(b, []byte("auth.login"), []byte(`\u0061uth.login`), 1) }, "beside its events"},
		"when it was made":        {proof.FileManifest, func(b []byte) []byte { return bytes.Replace(b, []byte(`"made_at": "2`), []byte(`"made_at": "3`), 1) }, "beside its events"},
		"the text for people":     {proof.FileReadme, func(b []byte) []byte { return append(b, "All is well.\n"...) }, "beside its events"},
		"a reason of a restore":   {proof.FileOrigins, func(b []byte) []byte { return bytes.Replace(b, []byte(`"reason": "`), []byte(`"reason": "x`), 1) }, "beside its events"},
		"a made-up receipt":       {proof.FileAnchors, func([]byte) []byte { return []byte(`{"kind":"email","origin":"x","size":1}` + "\n") }, "beside its events"},
		"the manifest":            {proof.FileManifest, func(b []byte) []byte { return bytes.Replace(b, []byte(`"first_seq": 0`), []byte(`"first_seq": 1`), 1) }, "order"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := rewrite(t, good, inFile(c.file, c.do))
			rep, err := proof.Verify(bytes.NewReader(bad), int64(len(bad)), proof.Options{Trusted: keys})
			if err != nil || rep.Problem == "" || !strings.Contains(rep.Problem, c.want) {
				t.Errorf("%+v, %v, want %q", rep, err, c.want)
			}
		})
	}
	// A byte on disk, without anybody fixing the rest.
	for i := 40; i < len(good); i += len(good) / 50 {
		bad := bytes.Clone(good)
		bad[i] ^= 0x20
		if rep, err := proof.Verify(bytes.NewReader(bad), int64(len(bad)), proof.Options{Trusted: keys}); err == nil && rep.Problem == "" && !bytes.Equal(unzipAll(t, good), unzipAll(t, bad)) {
			t.Errorf("byte %d is changed and not found", i)
		}
	}
	// What is not there cannot be checked: that is not "changed".
	for _, name := range []string{proof.FileLeaves, proof.FileKeys, proof.FileManifest, proof.FileCheckpoints, proof.FileSigned} {
		bad := rewrite(t, good, func(n string, b []byte) []byte {
			if n == name {
				return nil
			}
			return b
		})
		if rep, err := proof.Verify(bytes.NewReader(bad), int64(len(bad)), proof.Options{}); err == nil {
			t.Errorf("without %s: %+v", name, rep)
		}
	}
}

func unzipAll(t *testing.T, b []byte) []byte {
	var out []byte
	rewrite(t, b, func(name string, b []byte) []byte { out = fmt.Appendf(out, "%s %s", name, b); return b })
	return out
}
