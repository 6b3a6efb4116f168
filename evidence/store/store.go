// Package store keeps the files of an export: in an object storage with Object
// Lock, where nobody can change or remove them before their time, or in a folder,
// which is never called WORM. Package evidence calls it, long after a mail was held.
package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"strings"
	"time"

	"mailward/internal/worm"
)

// The modes, as a receipt names them.
const (
	ModeS3     = "s3-compliance"
	ModeFolder = "none"
)

// Object is a file that was put away.
type Object struct {
	Key     string     `json:"key"`
	Version string     `json:"version,omitempty"`
	Until   *time.Time `json:"retain_until,omitempty"`
	Hold    bool       `json:"legal_hold,omitempty"`
}

// Store keeps files under keys. It never writes over one.
type Store interface {
	// Put stores a file, reads it back, and confirms its lock.
	Put(ctx context.Context, key, contentType string, data []byte, l worm.Lock) (Object, error)
	Get(ctx context.Context, o Object) ([]byte, error)
	Mode() string
	URI(key string) string
}

// ErrReadBack means that a store gives back something else than it was given.
var ErrReadBack = errors.New("store: what was read back is not what was stored")

// Keys are for an object storage.
type Keys struct{ Access, Secret string }

// Parse reads an address: file:///folder or s3://bucket/prefix?endpoint=https://host:port.
func Parse(address string, k Keys) (Store, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("is no address")
	}
	q := u.Query()
	switch u.Scheme {
	case "file":
		for name := range q {
			if name != "immutable" {
				return nil, fmt.Errorf("has %s, which a folder does not know", name)
			}
		}
		if u.Host != "" || !filepath.IsAbs(u.Path) || u.Path == "/" {
			return nil, errors.New("must name a folder, as file:///var/lib/mailward/evidence")
		}
		return Folder{Dir: filepath.Clean(u.Path), Immutable: q.Get("immutable") == "yes"}, nil
	case "s3":
		for name := range q {
			if name != "endpoint" && name != "object_lock" {
				return nil, fmt.Errorf("has %s, which a bucket does not know", name)
			}
		}
		e, err := url.Parse(q.Get("endpoint"))
		if err != nil || e.Host == "" || e.Scheme != "http" && e.Scheme != "https" || u.Host == "" {
			return nil, errors.New("must be like s3://bucket/prefix?endpoint=https://host:port")
		}
		if m := q.Get("object_lock"); m != "" && m != "compliance" {
			return nil, errors.New("takes object_lock=compliance only: another mode can be taken back by who has the right")
		}
		if k.Access == "" || k.Secret == "" {
			return nil, errors.New("needs evidence.access_key and evidence.secret_key")
		}
		return S3{Bucket: worm.Bucket{Endpoint: e.Host, Name: u.Host, AccessKey: k.Access, SecretKey: k.Secret, PlainHTTP: e.Scheme == "http"}, Prefix: strings.Trim(u.Path, "/")}, nil
	}
	return nil, errors.New("must be file:///folder or s3://bucket?endpoint=https://host:port")
}

// S3 is a bucket with Object Lock.
type S3 struct {
	Bucket worm.Bucket
	Prefix string
}

// Mode implements [Store].
func (S3) Mode() string { return ModeS3 }

// URI implements [Store].
func (s S3) URI(key string) string { return "s3://" + s.Bucket.Name + "/" + path.Join(s.Prefix, key) }

// Put implements [Store]. The lock is confirmed by what the storage says of the
// stored version, the bytes by reading that version.
func (s S3) Put(ctx context.Context, key, contentType string, data []byte, l worm.Lock) (Object, error) {
	st, err := s.Bucket.Put(ctx, path.Join(s.Prefix, key), contentType, data, l)
	if err != nil {
		return Object{}, err
	}
	o := Object{Key: st.Key, Version: st.Version, Until: &st.Until, Hold: st.Hold}
	return o, readBack(ctx, s, o, data)
}

// Get implements [Store].
func (s S3) Get(ctx context.Context, o Object) ([]byte, error) {
	return s.Bucket.Get(ctx, o.Key, o.Version)
}

func readBack(ctx context.Context, s Store, o Object, data []byte) error {
	got, err := s.Get(ctx, o)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, data) {
		return fmt.Errorf("%w: %s", ErrReadBack, o.Key)
	}
	return nil
}
