package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailward/audit/proof"
	"mailward/internal/testenv"
)

// goldenBundle is what an earlier build has exported.
func goldenBundle(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "audit", "bundle.zip.base64"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := base64.StdEncoding.DecodeString(string(text)) // which skips ends of lines
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// rezip makes a bundle anew with one file changed (or gone: nil), and checksums
// that fit.
func rezip(t *testing.T, name string, change func([]byte) []byte) string {
	t.Helper()
	good := goldenBundle(t)
	in, err := zip.NewReader(bytes.NewReader(good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, sums, done := zip.NewWriter(&out), "", false
	for _, f := range in.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		switch f.Name {
		case "SHA256SUMS":
			b = []byte(sums)
		case name:
			was := bytes.Clone(b)
			b = change(b)
			if done = !bytes.Equal(was, b); b == nil {
				continue
			}
		}
		sum := sha256.Sum256(b)
		sums += hex.EncodeToString(sum[:]) + "  " + f.Name + "\n"
		fw, err := w.Create(f.Name)
		if err != nil {
			t.Fatal(err)
		}
		fw.Write(b)
	}
	if err := w.Close(); err != nil || !done {
		t.Fatalf("%s is not changed, %v", name, err)
	}
	p := filepath.Join(t.TempDir(), "bundle.zip")
	if err := os.WriteFile(p, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// keyNamed is a key as C2SP writes it for the name that our bundle is signed under.
func keyNamed(t *testing.T, vkey string) string {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(vkey[strings.LastIndex(vkey, "+A")+1:])
	if err != nil {
		t.Fatal(err)
	}
	v, err := proof.Key{Algorithm: proof.AlgorithmEd25519, Public: raw[1:]}.VKey("mx.ours.example/audit")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestAuditVerify_ExitCodes checks a bundle that an earlier build has written (go
// test ./audit/seal -run Golden -golden FOLDER), with one bit changed in each kind
// of file. Nothing but the files is needed for it.
func TestAuditVerify_ExitCodes(t *testing.T) {
	t.Parallel()
	dir := filepath.Join("testdata", "audit")
	key, err := os.ReadFile(filepath.Join(dir, "key.txt"))
	if err != nil {
		t.Fatal(err)
	}
	verify := func(bundle string) (int, string, string) {
		return command(t, "", "audit", "verify", bundle, "--key", strings.TrimSpace(string(key)), "--tsa-ca", filepath.Join(dir, "tsa-ca.pem"), "--checkpoint", filepath.Join(dir, "kept.note"))
	}
	good := filepath.Join(t.TempDir(), "bundle.zip")
	if err := os.WriteFile(good, goldenBundle(t), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := verify(good)
	for _, want := range []string{"fit 2 signed checkpoints", "1 time stamps fit, 1 of them by a trusted authority", "1 personal values are erased or left out"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("the good one: %d, %q does not say %q; %s", code, out, want, errs)
		}
	}
	stranger := "mx.ours.example/audit+e1a2efba+AZo7eFb/WQnldLvprBIAxiMHhP885co79KE/n6gEGZjC" // of another installation, under our name
	for name, c := range map[string]struct {
		code int
		args []string
		want string
	}{
		"the key of another":        {1, []string{good, "--key", keyNamed(t, stranger)}, "CHANGED: the newest checkpoint is not signed by a key that you trust"},
		"no key, but a checkpoint":  {0, []string{good, "--checkpoint", filepath.Join(dir, "kept.note")}, ""},
		"what is no key":            {2, []string{good, "--key", "x"}, "is not the public key"},
		"what is no checkpoint":     {2, []string{good, "--checkpoint", filepath.Join(dir, "key.txt")}, "cannot be read"},
		"what is no bundle":         {2, []string{filepath.Join(dir, "key.txt")}, "no zip file"},
		"nothing at that path":      {2, []string{good + ".none"}, "open bundle"},
		"a flag that there is none": {2, []string{good, "--trust", "x"}, "unknown flag"},
	} {
		if code, out, errs := command(t, "", append([]string{"audit", "verify"}, c.args...)...); code != c.code || !strings.Contains(errs, c.want) {
			t.Errorf("%s: %d, %q %q, want %d, %q", name, code, out, errs, c.code, c.want)
		}
	}
	flip := func(after string, offset int) func([]byte) []byte {
		return func(b []byte) []byte {
			i := bytes.Index(b, []byte(after))
			if i < 0 {
				t.Fatalf("no %q", after)
			}
			b[i+len(after)+offset] ^= 1
			return b
		}
	}
	for name, c := range map[string]struct {
		file string
		do   func([]byte) []byte
		code int
		want string
	}{
		"a bit of an event":     {"events.ndjson", flip("auth.logou", 0), 1, "(number "},
		"a bit of a leaf":       {"leaves.bin", func(b []byte) []byte { b[40] ^= 1; return b }, 1, "event"},
		"a bit of a signature":  {"checkpoints.ndjson", flip("— mx.ours.example/audit ", 20), 1, "signature"},
		"a bit of a time stamp": {"anchors.ndjson", flip(`"receipt":"`, 600), 1, "time stamp"},
		"an event is gone":      {"events.ndjson", func(b []byte) []byte { return b[:bytes.LastIndexByte(b[:len(b)-1], '\n')+1] }, 1, "missing"},
		"a word to the reader":  {"README.txt", func(b []byte) []byte { return append(b, "All is well.\n"...) }, 1, "beside its events"},
		"no signature":          {"SHA256SUMS.note", func([]byte) []byte { return nil }, 2, "has no SHA256SUMS.note"},
		"no leaves":             {"leaves.bin", func([]byte) []byte { return nil }, 2, ""},
		"no keys":               {"keys.json", func([]byte) []byte { return nil }, 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, out, errs := verify(rezip(t, c.file, c.do))
			if code != c.code || !strings.Contains(errs, c.want) || c.code == 1 && !strings.Contains(errs, "CHANGED: ") {
				t.Errorf("exit code %d, %q %q; want %d, %q", code, out, errs, c.code, c.want)
			}
		})
	}
}

// TestServe_AsSuperuser: the program does not run over-privileged.
func TestServe_AsSuperuser(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	conf := writeFile(t, fmt.Sprintf("data_dir: %s\ndatabase: {url: %q}\nredis: {url: %q}\nclamav: {address: %q}\nscanner: {socket: /none}\n", shortDir(t), db.AdminURL, testenv.Redis(t), "127.0.0.1:1"))
	for _, args := range [][]string{{"serve", "--config", conf}, {"audit", "verify", "--config", conf}} {
		if code, out, errs := command(t, "", args...); code == 0 || !strings.Contains(errs, "is a superuser") {
			t.Errorf("%v: %d %q %q", args, code, out, errs)
		}
	}
}
