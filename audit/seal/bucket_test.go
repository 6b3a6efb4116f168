package seal

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"mailward/audit/proof"
	"mailward/internal/testenv"
	"mailward/internal/worm"
)

// objectStorage starts a real S3 server with Object Lock.
func objectStorage(t *testing.T) string {
	t.Helper()
	testenv.Require(t, "versitygw")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	data, versions := t.TempDir(), t.TempDir()
	out, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command("versitygw", "--port", addr, "posix", "--versioning-dir", versions, data)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY=root", "ROOT_SECRET_KEY=secret-of-the-test")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get("http://" + addr)
		if err == nil {
			resp.Body.Close()
			return addr
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(out.Name())
			t.Fatalf("the object storage does not answer: %v\n%s", err, log)
		}
	}
}

// TestAnchor_BucketOfARealServer: what is anchored there cannot be deleted, nor
// replaced, nor its time shortened, with the storage's own root key.
func TestAnchor_BucketOfARealServer(t *testing.T) {
	t.Parallel()
	addr, ctx := objectStorage(t), context.Background()
	root, err := minio.New(addr, &minio.Options{Creds: credentials.NewStaticV4("root", "secret-of-the-test", "")})
	if err != nil {
		t.Fatal(err)
	}
	for name, lock := range map[string]bool{"worm": true, "plain": false} {
		if err := root.MakeBucket(ctx, name, minio.MakeBucketOptions{ObjectLocking: lock}); err != nil {
			t.Fatal(err)
		}
	}
	if err := root.EnableVersioning(ctx, "worm"); err != nil {
		t.Fatal(err)
	}
	b := Bucket{Bucket: worm.Bucket{Endpoint: addr, PlainHTTP: true, Name: "worm", AccessKey: "root", SecretKey: "secret-of-the-test"}, Prefix: "mailward/", Keep: 24 * time.Hour, Now: time.Now}
	signed := Signed{Checkpoint: proof.Checkpoint{Origin: origin, Size: 7}, Note: "a note\n"}
	receipt, _, err := b.Send(ctx, signed)
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Key, Version, Mode string }
	if err := json.Unmarshal(receipt, &got); err != nil || got.Mode != "COMPLIANCE" || got.Version == "" {
		t.Fatalf("%s, %v", receipt, err)
	}
	for _, bypass := range []bool{false, true} {
		if err := root.RemoveObject(ctx, "worm", got.Key, minio.RemoveObjectOptions{VersionID: got.Version, GovernanceBypass: bypass}); err == nil || !strings.Contains(err.Error(), "object lock") {
			t.Errorf("the checkpoint is deleted (bypass %v): %v", bypass, err)
		}
	}
	soon, mode := time.Now().Add(time.Second), minio.Compliance
	if err := root.PutObjectRetention(ctx, "worm", got.Key, minio.PutObjectRetentionOptions{VersionID: got.Version, Mode: &mode, RetainUntilDate: &soon, GovernanceBypass: true}); err == nil {
		t.Error("its time is shortened")
	}
	if _, err := root.PutObject(ctx, "worm", got.Key, strings.NewReader("forged"), 6, minio.PutObjectOptions{}); err != nil {
		t.Errorf("another version beside it: %v", err)
	}
	obj, err := root.GetObject(ctx, "worm", got.Key, minio.GetObjectOptions{VersionID: got.Version})
	if err != nil {
		t.Fatal(err)
	}
	var old bytes.Buffer
	if _, err := old.ReadFrom(obj); err != nil || old.String() != signed.Note {
		t.Errorf("the version that was anchored: %q, %v", old.String(), err)
	}
	b.Name = "plain"
	if _, _, err := b.Send(ctx, signed); err == nil {
		t.Error("a bucket without Object Lock counts as an anchor")
	}
}

func TestQueries_Prepare(t *testing.T) {
	t.Parallel()
	testenv.PrepareQueries(t, queryFiles)
}
