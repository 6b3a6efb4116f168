package worm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"time"

	"github.com/minio/minio-go/v7"
)

// Objects are objects of a bucket without a lock: what may be removed at any time,
// as the blobs of held mail. The bucket should keep no versions, or what was removed
// stays there.
type Objects struct {
	name   string
	client *minio.Client
}

// NewObjects makes a client. It connects to nothing.
func NewObjects(b Bucket) (*Objects, error) {
	c, err := b.client()
	if err != nil {
		return nil, err
	}
	return &Objects{name: b.Name, client: c}, nil
}

// ErrFull means that the storage has no room.
var (
	ErrFull   = errors.New("worm: the storage is full")
	fullCodes = []string{"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientStorage", "InsufficientCapacity"}
)

func (o *Objects) failed(what string, err error) error {
	r := minio.ToErrorResponse(err)
	switch {
	case r.Code == "NoSuchKey":
		return fmt.Errorf("%s bucket %s: %w", what, o.name, fs.ErrNotExist)
	case slices.Contains(fullCodes, r.Code), r.StatusCode == http.StatusInsufficientStorage:
		return fmt.Errorf("%s bucket %s: %w: %w", what, o.name, ErrFull, said(err))
	}
	return fmt.Errorf("%s bucket %s: %w", what, o.name, said(err))
}

// Put stores an object of a known size. It is there whole when this returns nil.
func (o *Objects) Put(ctx context.Context, key string, r io.Reader, size int64) error {
	put, err := o.client.PutObject(ctx, o.name, key, r, size, minio.PutObjectOptions{ContentType: "application/octet-stream", SendContentMd5: true, DisableMultipart: true})
	if err != nil {
		return o.failed("store in", err)
	}
	if put.Size != size {
		return fmt.Errorf("store in bucket %s: %d of %d bytes", o.name, put.Size, size)
	}
	return nil
}

// Open reads an object. One that is not there is fs.ErrNotExist.
func (o *Objects) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	r, err := o.client.GetObject(ctx, o.name, key, minio.GetObjectOptions{})
	if err == nil {
		if _, err = r.Stat(); err == nil { // the call is made here
			return r, nil
		}
		r.Close()
	}
	return nil, o.failed("read from", err)
}

// Has says whether an object is there.
func (o *Objects) Has(ctx context.Context, key string) (bool, error) {
	_, err := o.client.StatObject(ctx, o.name, key, minio.StatObjectOptions{})
	if err == nil {
		return true, nil
	}
	if err = o.failed("ask", err); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return false, err
}

// Remove deletes an object. One that is gone already is fine.
func (o *Objects) Remove(ctx context.Context, key string) error {
	err := o.client.RemoveObject(ctx, o.name, key, minio.RemoveObjectOptions{})
	if err == nil {
		return nil
	}
	if err = o.failed("remove from", err); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Each calls fn for each object under a prefix.
func (o *Objects) Each(ctx context.Context, prefix string, fn func(key string, changed time.Time)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for obj := range o.client.ListObjects(ctx, o.name, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if obj.Err != nil {
			return o.failed("list", obj.Err)
		}
		fn(obj.Key, obj.LastModified)
	}
	return ctx.Err()
}
