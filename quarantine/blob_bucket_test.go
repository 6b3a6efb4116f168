package quarantine

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"mailward/internal/testenv"
	"mailward/internal/worm"
)

// The store of held mail in a bucket.
func TestBlobs_InABucket(t *testing.T) {
	t.Parallel()
	f := newFixture(t, SingleOperator)
	ctx := context.Background()
	s3 := testenv.S3(t)
	root, err := minio.New(s3.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(s3.AccessKey, s3.Secret, "")})
	if err != nil {
		t.Fatal(err)
	}
	if err := root.MakeBucket(ctx, "held", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	objects, err := worm.NewObjects(worm.Bucket{Endpoint: s3.Endpoint, Name: "held", AccessKey: s3.AccessKey, SecretKey: s3.Secret, PlainHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	b := Bucket{Objects: objects, Prefix: "mx1/blobs", Temp: temp}
	f.blobs.folder = b
	one, two := f.hold(t, "the same", "bob@ours.example"), f.hold(t, "the same", "carol@ours.example")
	big := f.request(t, strings.Repeat("0123456789\r\n", 300_000), "bob@ours.example")
	large, err := f.Hold(ctx, big)
	if err != nil {
		t.Fatal(err)
	}
	stored := func() (keys []string) {
		t.Helper()
		if err := objects.Each(ctx, "", func(key string, _ time.Time) { keys = append(keys, key) }); err != nil {
			t.Fatal(err)
		}
		return keys
	}
	if keys := stored(); len(keys) != 2 || filepath.Dir(filepath.Dir(keys[0])) != "mx1/blobs" {
		t.Errorf("%v", keys)
	}
	if got, err := f.read(t, two); err != nil || got != sameMail {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := f.read(t, large); err != nil || len(got) < 3_000_000 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if n, err := f.Sweep(ctx); err != nil || n.Files != 2 || n.Removed+n.Missing+n.Refused != 0 {
		t.Errorf("%+v, %v", n, err)
	}
	if _, err := f.Delete(ctx, f.users[0], nil, one, "done"); err != nil {
		t.Fatal(err)
	}
	if got, err := f.read(t, two); err != nil || got != sameMail {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := f.Delete(ctx, f.users[0], nil, two, "done"); err != nil || len(stored()) != 1 {
		t.Errorf("%v, %v", stored(), err)
	}
	// A file without a row, and a row without a file.
	f.now = func() time.Time { return time.Now().Add(2 * sweepAge) }
	if err := b.Put(ctx, "aa/orphan", func(w io.Writer) error { _, err := w.Write([]byte("x")); return err }); err != nil {
		t.Fatal(err)
	}
	it, err := f.Get(ctx, large)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Remove(ctx, it.ref.Name); err != nil {
		t.Fatal(err)
	}
	if n, err := f.Sweep(ctx); err != nil || n.Removed != 1 || n.Missing != 1 || len(stored()) != 0 {
		t.Errorf("%+v, %v, %v", n, err, stored())
	}
	if _, err := f.read(t, large); !errors.Is(err, ErrBlobMissing) {
		t.Errorf("its bytes are gone: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(temp, "*")); len(left) != 0 {
		t.Errorf("left in the temporary folder: %v", left)
	}
	bad := b
	if bad.Objects, err = worm.NewObjects(worm.Bucket{Endpoint: s3.Endpoint, Name: "nothing", AccessKey: s3.AccessKey, SecretKey: s3.Secret, PlainHTTP: true}); err != nil {
		t.Fatal(err)
	}
	f.blobs.folder = bad
	if _, err := f.Hold(ctx, f.request(t, "y", "bob@ours.example")); err == nil {
		t.Error("held in a bucket that is not there")
	}
	if n, err := f.Sweep(ctx); err == nil {
		t.Errorf("swept a bucket that is not there: %+v", n)
	}
}
