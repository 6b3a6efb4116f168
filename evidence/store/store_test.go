package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"mailward/internal/testenv"
	"mailward/internal/worm"
)

// bucket makes one with Object Lock, or without.
func bucket(t *testing.T, s testenv.ObjectStore, name string, locks bool) (*minio.Client, S3) {
	t.Helper()
	c, err := minio.New(s.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(s.AccessKey, s.Secret, "")})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.MakeBucket(context.Background(), name, minio.MakeBucketOptions{ObjectLocking: locks}); err != nil {
		t.Fatal(err)
	}
	st, err := Parse("s3://"+name+"/cases?endpoint=http://"+s.Endpoint+"&object_lock=compliance", Keys{s.AccessKey, s.Secret})
	if err != nil {
		t.Fatal(err)
	}
	return c, st.(S3)
}

// TestS3_LocksAndConfirms runs against versitygw where it is installed.
func TestS3_LocksAndConfirms(t *testing.T) {
	t.Parallel()
	ctx, s := context.Background(), testenv.S3(t)
	t.Logf("real server: %v", s.Real)
	client, st := bucket(t, s, "evidence", true)
	until := time.Now().Add(48 * time.Hour)
	one, err := st.Put(ctx, "a/original.eml", "message/rfc822", []byte("first"), worm.Lock{Until: until})
	if err != nil {
		t.Fatal(err)
	}
	if one.Version == "" || one.Until == nil || one.Until.Before(until.Add(-time.Minute)) || one.Hold || one.Key != "cases/a/original.eml" || st.URI("a") != "s3://evidence/cases/a" {
		t.Errorf("%+v", one)
	}
	two, err := st.Put(ctx, "a/original.eml", "message/rfc822", []byte("second"), worm.Lock{Until: until, Hold: true})
	if err != nil || !two.Hold || two.Version == one.Version {
		t.Fatalf("%+v, %v", two, err)
	}
	if b, err := st.Get(ctx, one); err != nil || string(b) != "first" {
		t.Errorf("the first version is %q, %v", b, err)
	}
	for _, o := range []Object{one, two} {
		if err := client.RemoveObject(ctx, "evidence", o.Key, minio.RemoveObjectOptions{VersionID: o.Version, GovernanceBypass: true}); err == nil {
			t.Errorf("version %s can be removed", o.Version)
		}
		if _, err := st.Get(ctx, o); err != nil {
			t.Errorf("version %s is gone: %v", o.Version, err)
		}
	}
	// A bucket without Object Lock is an error and not a store.
	_, plain := bucket(t, s, "plain", false)
	if _, err := plain.Put(ctx, "x", "text/plain", []byte("x"), worm.Lock{Until: until}); err == nil {
		t.Error("a bucket that locks nothing is taken")
	}
	wrong := st
	wrong.Bucket.SecretKey, wrong.Bucket.AccessKey = "wrong", "nobody"
	if _, err := wrong.Put(ctx, "x", "text/plain", []byte("x"), worm.Lock{Until: until}); err == nil {
		t.Error("stored without a right to")
	}
}

func TestFolder_NeverWritesOver(t *testing.T) {
	t.Parallel()
	ctx, dir := context.Background(), t.TempDir()
	f := Folder{Dir: dir}
	o, err := f.Put(ctx, "case/EV-1/a.txt", "", []byte("one"), worm.Lock{})
	if err != nil || o.Until != nil || o.Version != "" || f.Mode() != "none" {
		t.Fatalf("%+v, %v: a folder claims a lock", o, err)
	}
	if _, err := f.Put(ctx, "case/EV-1/a.txt", "", []byte("one"), worm.Lock{}); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if _, err := f.Put(ctx, "case/EV-1/a.txt", "", []byte("two"), worm.Lock{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("written over: %v", err)
	}
	if b, err := f.Get(ctx, o); err != nil || string(b) != "one" {
		t.Errorf("%q, %v", b, err)
	}
	for _, bad := range []string{"../x", "/etc/x", "a/../../x"} {
		if _, err := f.Put(ctx, bad, "", nil, worm.Lock{}); err == nil {
			t.Errorf("%s leaves the folder", bad)
		}
	}
	if err := os.Symlink("/etc", filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Get(ctx, Object{Key: "out/passwd"}); err == nil {
		t.Error("a link leads out of the folder")
	}
}

// TestFolder_Immutable needs root and a file system that knows the attribute.
func TestFolder_Immutable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	probe := filepath.Join(dir, "probe")
	if err := os.WriteFile(probe, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := freeze(probe); err != nil {
		testenv.Missing(t, fmt.Errorf("make a file that cannot be changed: %w", err))
	}
	f := Folder{Dir: dir, Immutable: true}
	o, err := f.Put(context.Background(), "a.txt", "", []byte("one"), worm.Lock{})
	path := filepath.Join(dir, "a.txt")
	t.Cleanup(func() { errors.Join(attribute(probe, 0, immutable), attribute(path, 0, immutable)) })
	if err != nil || o.Until != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err == nil {
		t.Error("an immutable file can be removed")
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	k := Keys{"a", "s"}
	for address, ok := range map[string]bool{"file:///var/lib/x": true, "file:///var/lib/x?immutable=yes": true, "s3://b?endpoint=https://h:1": true, "s3://b/p?endpoint=http://h:1&object_lock=compliance": true,
		"file://x": false, "file:///": false, "file:///x?lock=1": false, "s3://b": false, "s3://b?endpoint=h:1": false, "s3://b?endpoint=https://h&object_lock=governance": false, "/var/x": false, "http://x": false, "s3://b?endpoint=https://h&x=1": false} {
		if _, err := Parse(address, k); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
	if _, err := Parse("s3://b?endpoint=https://h", Keys{}); err == nil {
		t.Error("a bucket without keys")
	}
}
