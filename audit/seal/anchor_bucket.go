package seal

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"mailward/internal/worm"
)

// Bucket puts checkpoints into object storage with Object Lock: nobody who has
// our credentials can change or remove one before its time. Its receipt is what
// the storage says about the stored version.
type Bucket struct {
	worm.Bucket
	Prefix string
	Keep   time.Duration // how long it is locked
	Now    func() time.Time
}

// Kind implements [Anchor].
func (Bucket) Kind() string { return "bucket" }

// Target implements [Anchor].
func (b Bucket) Target() string { return "s3://" + b.Name + "/" + b.Prefix }

// Send stores the note and asks what has become of it: a storage that took the
// object without the lock is a failure, not an anchor.
func (b Bucket) Send(ctx context.Context, c Signed) ([]byte, string, error) {
	key := fmt.Sprintf("%s%s/%020d.note", b.Prefix, strings.ReplaceAll(c.Origin, "/", "_"), c.Size)
	st, err := b.Put(ctx, key, "text/plain; charset=utf-8", []byte(c.Note), worm.Lock{Until: b.Now().Add(b.Keep)})
	if err != nil {
		return nil, "", fmt.Errorf("store checkpoint: %w", err)
	}
	receipt, err := json.Marshal(map[string]any{"bucket": b.Name, "key": key, "version": st.Version, "etag": st.ETag, "mode": st.Mode, "retain_until": st.Until.Format(time.RFC3339)})
	if err != nil {
		return nil, "", fmt.Errorf("keep answer of the bucket: %w", err)
	}
	return receipt, fmt.Sprintf("version %s of %s, locked until %s", st.Version, key, st.Until.Format(time.DateOnly)), nil
}
