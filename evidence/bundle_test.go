package evidence

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"mailward/approval"
	"mailward/evidence/receipt"
	"mailward/evidence/store"
	"mailward/internal/testenv"
	"mailward/policy"
	"mailward/scanner"
)

// sidecar opens mails as the program does.
func sidecar(t *testing.T) func(context.Context, *os.File) (View, error) {
	s := scanner.NewSidecar(scanner.SidecarConfig{Socket: testenv.Sidecar(t).Address})
	return func(ctx context.Context, f *os.File) (View, error) {
		v, err := s.View(ctx, f)
		out := View{Text: v.Text, HTML: v.HTML}
		for _, h := range v.Headers {
			out.Headers = append(out.Headers, Header{h.Name, h.Value})
		}
		return out, err
	}
}

func sh(t *testing.T, dir, line string) (string, error) {
	t.Helper()
	c := exec.Command("sh", "-c", line)
	c.Dir, c.Env = dir, append(os.Environ(), "LC_ALL=C")
	out, err := c.CombinedOutput()
	return string(out), err
}

// withTools checks a bundle with nothing but the programs of any Debian, by the
// commands that its receipt names. It returns what they object to.
func withTools(t *testing.T, dir string, commands []string) (wrong []string) {
	t.Helper()
	for _, line := range commands {
		if strings.HasPrefix(line, "mailward") {
			continue
		}
		if strings.HasPrefix(line, "pdfdetach") {
			line = "rm -rf ../embedded && mkdir ../embedded && " + line
		}
		out, err := sh(t, dir, line)
		bad := err != nil
		switch {
		case strings.HasPrefix(line, "pdfsig"):
			bad = !strings.Contains(out, "Signature is Valid") || !strings.Contains(out, "  - Total document signed") || !strings.Contains(out, "ETSI.CAdES.detached")
		case strings.HasPrefix(line, "openssl ts"):
			bad = bad || !strings.Contains(out, "Verification: OK")
		case strings.HasPrefix(line, "openssl"):
			bad = bad || !strings.Contains(out, "Signature Verified Successfully")
		}
		if bad {
			wrong = append(wrong, line+": "+out)
		}
	}
	return wrong
}

func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(dir), ".", func(p string, d fs.DirEntry, err error) error {
		if !d.IsDir() {
			list = append(list, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func readReceipt(t *testing.T, dir string) (r receipt.Receipt) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, receipt.FileReceipt))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestBundle_StandsWithoutUs: everything is checked by standard tools alone and by
// our own verifier, and every single file that is changed is found by both.
func TestBundle_StandsWithoutUs(t *testing.T) {
	t.Parallel()
	testenv.Require(t, "sha256sum", "openssl", "pdfsig", "pdfdetach", "pdftotext", "7zz")
	f := newFixture(t, approval.SingleOperator)
	f.View = sidecar(t)
	start := time.Now()
	e := f.export(request(f.hold(policy.Malware, original)))
	if e.State != Done || time.Since(start) > time.Minute {
		t.Fatalf("%s after %v: %s", e.State, time.Since(start), e.Error)
	}
	dir := f.unpacked(e)
	r := readReceipt(t, dir)
	if wrong := withTools(t, dir, r.Verify); len(wrong) > 0 {
		t.Fatalf("standard tools object: %s", strings.Join(wrong, "\n"))
	}
	if b, err := os.ReadFile(filepath.Join(dir, "original.eml")); err != nil || string(b) != original {
		t.Errorf("the original is %q, %v", b, err)
	}
	if out, err := sh(t, dir, "mkdir x && pdfdetach -saveall -o x report.pdf && 7zz x -pinfected x/original.zip -so 2>/dev/null | sha256sum && rm -r x"); err != nil || !strings.Contains(out, r.Original.SHA256) {
		t.Errorf("the mail in the report: %s, %v", out, err)
	}
	text, err := sh(t, dir, "pdftotext -layout report.pdf -")
	for _, want := range []string{"hxxps://evil[.]example/login", "‹U+202E›", "Pay https", "anna@ours.example", r.ID, r.Original.SHA256, "held back", "not write-once storage"} {
		if want == "Pay https" {
			want = "Pay hxxps://bank[.]example"
		}
		if err != nil || !strings.Contains(text, want) {
			t.Errorf("the report lacks %q (%v)", want, err)
		}
	}
	if strings.Contains(text, "alert(1)") {
		t.Error("the report shows a script as text")
	}
	rep, err := receipt.Verify(os.DirFS(dir), receipt.Options{})
	if err != nil || rep.Problem != "" || rep.Receipt.Original.Ingest == nil || !rep.Receipt.Original.Ingest.HoldsHash {
		t.Fatalf("%+v, %v", rep, err)
	}
	if zipped, closer, err := receipt.Open(filepath.Join(f.dir, "bundle.zip")); err != nil {
		t.Error(err)
	} else {
		if rep, err := receipt.Verify(zipped, receipt.Options{}); err != nil || rep.Problem != "" {
			t.Errorf("as a zip: %+v, %v", rep, err)
		}
		closer.Close()
	}
	tampered(t, dir, r)
}

// tampered changes, takes away and adds each file in turn.
func tampered(t *testing.T, dir string, r receipt.Receipt) {
	all := names(t, dir)
	if len(all) < 17 {
		t.Errorf("the bundle has the files %v", all)
	}
	for _, name := range all {
		path := filepath.Join(dir, name)
		was, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for how, now := range map[string][]byte{"a bit": flip(was), "longer": append(bytes.Clone(was), '\n'), "shorter": was[:len(was)-1], "gone": nil} {
			if now == nil {
				os.Remove(path)
			} else if err := os.WriteFile(path, now, 0o600); err != nil {
				t.Fatal(err)
			}
			rep, err := receipt.Verify(os.DirFS(dir), receipt.Options{})
			if rep.File != name && !(err != nil && name == receipt.FileSums && how == "gone") {
				t.Errorf("%s, %s: our verifier names %q (%s), %v", name, how, rep.File, rep.Problem, err)
			}
			if how != "a bit" {
				restore(t, path, was)
				continue
			}
			if wrong := withTools(t, dir, r.Verify[:2]); len(wrong) == 0 {
				t.Errorf("%s, %s: standard tools find nothing", name, how)
			}
			restore(t, path, was)
		}
	}
	extra := filepath.Join(dir, "log", "more.json")
	if err := os.WriteFile(extra, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if rep, err := receipt.Verify(os.DirFS(dir), receipt.Options{}); err != nil || rep.File != "log/more.json" {
		t.Errorf("a file more: %+v, %v", rep, err)
	}
	os.Remove(extra)
	resigned(t, dir, r)
}

func restore(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func flip(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 1
	return b
}

// resigned is somebody who signs a changed bundle anew, with a key of their own. The
// log gives them away; who knows the right key sees it at once.
func resigned(t *testing.T, dir string, r receipt.Receipt) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := receipt.PEM(public)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	evil := []byte(strings.Replace(original, "Invoice", "Nothing", 1))
	core, err := os.ReadFile(filepath.Join(dir, receipt.FileCore))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, receipt.FileReceipt))
	if err != nil {
		t.Fatal(err)
	}
	swap := func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(r.Original.SHA256), []byte(sumOf(evil))) }
	write("original.eml", evil)
	write(receipt.FileKey, pem)
	write(receipt.FileCore, swap(core))
	write(receipt.FileReceipt, swap(whole))
	write(receipt.FileSignature, ed25519.Sign(private, swap(core)))
	if out, err := sh(t, dir, "find . -type f ! -name 'SHA256SUMS*' | sed 's,^./,,' | LC_ALL=C sort | xargs sha256sum > SHA256SUMS"); err != nil {
		t.Fatal(out, err)
	}
	sums, err := os.ReadFile(filepath.Join(dir, receipt.FileSums))
	if err != nil {
		t.Fatal(err)
	}
	write(receipt.FileSumsSigned, ed25519.Sign(private, sums))
	if wrong := withTools(t, dir, r.Verify); len(wrong) == 0 {
		t.Error("standard tools take a receipt that was signed anew: the time stamp is over another")
	}
	if rep, err := receipt.Verify(os.DirFS(dir), receipt.Options{}); err != nil || rep.Problem == "" {
		t.Errorf("%+v, %v", rep, err)
	}
	if rep, err := receipt.Verify(os.DirFS(dir), receipt.Options{Key: r.Signature.Fingerprint}); err != nil || rep.File != receipt.FileKey {
		t.Errorf("%+v, %v", rep, err)
	}
}

// TestBundle_ASetInALockedBucket: several mails in one export, in German, into a
// bucket with Object Lock under legal hold.
func TestBundle_ASetInALockedBucket(t *testing.T) {
	t.Parallel()
	testenv.Require(t, "sha256sum", "openssl", "pdfsig", "pdfdetach", "pdftotext")
	ctx, s3 := context.Background(), testenv.S3(t)
	client, err := minio.New(s3.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(s3.AccessKey, s3.Secret, "")})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.MakeBucket(ctx, "evidence", minio.MakeBucketOptions{ObjectLocking: true}); err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, approval.SingleOperator)
	if f.Vault, err = store.Parse("s3://evidence/mx?endpoint=http://"+s3.Endpoint, store.Keys{Access: s3.AccessKey, Secret: s3.Secret}); err != nil {
		t.Fatal(err)
	}
	req := request(f.hold(policy.Phishing, original), f.hold(policy.Malware, original+"second\r\n"))
	req.Language, req.LegalHold = "de", true
	e := f.export(req)
	if e.State != Done || e.WORM != store.ModeS3 || e.RetainUntil == nil {
		t.Fatalf("%+v", e)
	}
	dir := f.unpacked(e)
	r := readReceipt(t, dir)
	if wrong := withTools(t, dir, r.Verify); len(wrong) > 0 {
		t.Errorf("standard tools object: %s", strings.Join(wrong, "\n"))
	}
	if rep, err := receipt.Verify(os.DirFS(dir), receipt.Options{Key: r.Signature.Fingerprint}); err != nil || rep.Problem != "" {
		t.Errorf("%+v, %v", rep, err)
	}
	w := r.Storage.WORM
	if len(r.Originals) != 2 || w.Mode != store.ModeS3 || !w.LegalHold || w.RetainUntil == nil || r.Storage.Version["original-02.eml"] == "" {
		t.Errorf("%+v", r.Storage)
	}
	text, err := sh(t, dir, "pdftotext -layout report.pdf -")
	if err != nil || !strings.Contains(text, "2 Mails") || strings.Count(text, r.Originals[1].SHA256) == 0 || !strings.Contains(text, "gesperrt bis") {
		t.Errorf("the report of a set: %v", err)
	}
	for _, file := range e.Files { // each of them is locked
		if err := client.RemoveObject(ctx, "evidence", file.Object.Key, minio.RemoveObjectOptions{VersionID: file.Object.Version, GovernanceBypass: true}); err == nil {
			t.Errorf("%s can be removed", file.Name)
		}
	}
	if keep := os.Getenv("MAILWARD_TEST_KEEP"); keep != "" {
		if err := os.CopyFS(filepath.Join(keep, "set"), os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
	}
}
