// Package worm puts objects into an object storage with Object Lock, and asks
// it what has become of them.
//
// It is plumbing of the anchors of the audit and of the store of evidence: both
// believe nothing of a storage but what it says about the stored version. The blobs
// of held mail may be in a bucket too, without a lock ([Objects]).
package worm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// Bucket is a bucket that was made with Object Lock.
type Bucket struct {
	Endpoint, Name       string // host:port, and the bucket's name
	AccessKey, SecretKey string
	PlainHTTP            bool
}

// Lock is for how long nobody may change or remove an object.
type Lock struct {
	Until time.Time
	Hold  bool // also after that, until somebody takes the hold away (legal hold)
}

// Stored is what the storage says of an object that it has locked.
type Stored struct {
	Key, Version, ETag, Mode string
	Until                    time.Time
	Hold                     bool
}

// ErrNotLocked means that the storage took an object and did not lock it.
var ErrNotLocked = errors.New("worm: stored without the lock: Object Lock in compliance mode is needed")

// slack is by how much clocks may differ.
const slack = 5 * time.Minute

func (b Bucket) client() (*minio.Client, error) {
	c, err := minio.New(b.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(b.AccessKey, b.SecretKey, ""), Secure: !b.PlainHTTP, MaxRetries: 2})
	if err != nil {
		return nil, errors.New("the address of the bucket is none")
	}
	return c, nil
}

// Put stores an object in compliance mode and confirms the lock: what the
// storage took without it is a failure.
func (b Bucket) Put(ctx context.Context, key, contentType string, data []byte, l Lock) (Stored, error) {
	client, err := b.client()
	if err != nil {
		return Stored{}, err
	}
	until := l.Until.UTC().Truncate(time.Second)
	opt := minio.PutObjectOptions{ContentType: contentType, Mode: minio.Compliance, RetainUntilDate: until, SendContentMd5: true, DisableMultipart: true}
	if l.Hold {
		opt.LegalHold = minio.LegalHoldEnabled
	}
	put, err := client.PutObject(ctx, b.Name, key, bytes.NewReader(data), int64(len(data)), opt)
	if err != nil {
		return Stored{}, fmt.Errorf("store in bucket %s: %w", b.Name, said(err))
	}
	st, err := b.stat(ctx, client, key, put.VersionID)
	if err != nil {
		return Stored{}, err
	}
	if st.Mode != string(minio.Compliance) || st.Until.Before(until.Add(-slack)) || put.VersionID == "" || l.Hold && !st.Hold {
		return Stored{}, fmt.Errorf("bucket %s, %s: %w", b.Name, key, ErrNotLocked)
	}
	st.ETag = put.ETag
	return st, nil
}

// stat asks for the lock with HEAD: some servers answer the calls for retention
// in XML that the client cannot read.
func (b Bucket) stat(ctx context.Context, client *minio.Client, key, version string) (Stored, error) {
	st, err := client.StatObject(ctx, b.Name, key, minio.StatObjectOptions{VersionID: version})
	if err != nil {
		return Stored{}, fmt.Errorf("ask bucket %s for the stored object: %w", b.Name, said(err))
	}
	out := Stored{Key: key, Version: version, ETag: st.ETag, Mode: st.Metadata.Get("X-Amz-Object-Lock-Mode"), Hold: st.Metadata.Get("X-Amz-Object-Lock-Legal-Hold") == "ON"}
	if t, err := time.Parse(time.RFC3339, st.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date")); err == nil {
		out.Until = t.UTC()
	}
	return out, nil
}

// Get reads one version of an object.
func (b Bucket) Get(ctx context.Context, key, version string) ([]byte, error) {
	client, err := b.client()
	if err != nil {
		return nil, err
	}
	o, err := client.GetObject(ctx, b.Name, key, minio.GetObjectOptions{VersionID: version})
	if err != nil {
		return nil, fmt.Errorf("read from bucket %s: %w", b.Name, said(err))
	}
	defer o.Close()
	data, err := io.ReadAll(o)
	if err != nil {
		return nil, fmt.Errorf("read from bucket %s: %w", b.Name, said(err))
	}
	return data, nil
}

// What a check can find.
var (
	ErrDenied  = errors.New("worm: the storage does not take our key")
	ErrNoLock  = errors.New("worm: the bucket was made without Object Lock")
	ErrGone    = errors.New("worm: there is no such bucket")
	deniedCode = []string{"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "AccountProblem"}
)

// Check asks whether the bucket is there and locks what is put into it.
func (b Bucket) Check(ctx context.Context) error {
	client, err := b.client()
	if err != nil {
		return err
	}
	state, _, _, _, err := client.GetObjectLockConfig(ctx, b.Name)
	r := minio.ToErrorResponse(err)
	switch {
	case err == nil && state == "Enabled":
		return nil
	case err == nil, r.Code == "ObjectLockConfigurationNotFoundError":
		return fmt.Errorf("bucket %s: %w", b.Name, ErrNoLock)
	case r.Code == "NoSuchBucket":
		return fmt.Errorf("bucket %s: %w", b.Name, ErrGone)
	case slices.Contains(deniedCode, r.Code), r.StatusCode == http.StatusForbidden, r.StatusCode == http.StatusUnauthorized:
		return fmt.Errorf("ask bucket %s for its lock: %w: %w", b.Name, ErrDenied, said(err))
	}
	return fmt.Errorf("ask bucket %s for its lock: %w", b.Name, said(err))
}

// said is what the storage said, without the request: an address can hold a secret.
func said(err error) error {
	if r := minio.ToErrorResponse(err); r.Code != "" {
		return fmt.Errorf("%s (status %d)", r.Code, r.StatusCode)
	}
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
