package seal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// Bucket puts checkpoints into object storage with Object Lock: nobody who has
// our credentials can change or remove one before its time. Its receipt is what
// the storage says about the stored version.
type Bucket struct {
	Endpoint, Name, Prefix string
	AccessKey, SecretKey   string
	PlainHTTP              bool
	Keep                   time.Duration // how long it is locked
	Now                    func() time.Time
}

// Kind implements [Anchor].
func (Bucket) Kind() string { return "bucket" }

// Target implements [Anchor].
func (b Bucket) Target() string { return "s3://" + b.Name + "/" + b.Prefix }

// lockSlack is by how much clocks may differ.
const lockSlack = 5 * time.Minute

// Send stores the note and asks what has become of it: a storage that took the
// object without the lock is a failure, not an anchor.
func (b Bucket) Send(ctx context.Context, c Signed) ([]byte, string, error) {
	client, err := minio.New(b.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(b.AccessKey, b.SecretKey, ""), Secure: !b.PlainHTTP, MaxRetries: 2})
	if err != nil {
		return nil, "", errors.New("the address of the bucket is none")
	}
	key := fmt.Sprintf("%s%s/%020d.note", b.Prefix, strings.ReplaceAll(c.Origin, "/", "_"), c.Size)
	until := b.Now().UTC().Add(b.Keep).Truncate(time.Second)
	put, err := client.PutObject(ctx, b.Name, key, strings.NewReader(c.Note), int64(len(c.Note)),
		minio.PutObjectOptions{ContentType: "text/plain; charset=utf-8", Mode: minio.Compliance, RetainUntilDate: until, SendContentMd5: true, DisableMultipart: true})
	if err != nil {
		return nil, "", fmt.Errorf("store checkpoint in bucket %s: %w", b.Name, storageError(err))
	}
	st, err := client.StatObject(ctx, b.Name, key, minio.StatObjectOptions{VersionID: put.VersionID})
	if err != nil {
		return nil, "", fmt.Errorf("ask bucket %s for the stored checkpoint: %w", b.Name, storageError(err))
	}
	mode := st.Metadata.Get("X-Amz-Object-Lock-Mode")
	locked, err := time.Parse(time.RFC3339, st.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
	if err != nil || mode != string(minio.Compliance) || locked.Before(until.Add(-lockSlack)) || put.VersionID == "" {
		return nil, "", fmt.Errorf("bucket %s has stored the checkpoint without locking it: Object Lock in compliance mode is needed", b.Name)
	}
	receipt, err := json.Marshal(map[string]any{"bucket": b.Name, "key": key, "version": put.VersionID, "etag": put.ETag, "mode": mode, "retain_until": locked.UTC().Format(time.RFC3339)})
	if err != nil {
		return nil, "", fmt.Errorf("keep answer of the bucket: %w", err)
	}
	return receipt, fmt.Sprintf("version %s of %s, locked until %s", put.VersionID, key, locked.UTC().Format(time.DateOnly)), nil
}

// storageError says what the storage said, without the request.
func storageError(err error) error {
	if r := minio.ToErrorResponse(err); r.Code != "" {
		return fmt.Errorf("%s (status %d)", r.Code, r.StatusCode)
	}
	return plain(err)
}
