package quarantine

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/message"
	"mailward/internal/pg"
	"mailward/policy"
)

var (
	insertMarkSQL  = pg.Query(queryFiles, "insert_mark")
	findMarkSQL    = pg.Query(queryFiles, "find_mark")
	expireMarksSQL = pg.Query(queryFiles, "expire_marks")
)

// MarkHeader is the field that a released mail bears. It is the last of our own,
// so that what stands below it is the mail as we sent it.
const MarkHeader = "X-Mailward-Release"

// markFor is how long a released mail passes once more. A loop or a forwarding
// shows within that.
const markFor = 7 * 24 * time.Hour

var markText = base32.StdEncoding.WithPadding(base32.NoPadding)

// Mark makes the line by which a copy is known when it comes by again. The secret
// in it is in no other mail, and counts only on top of the very same bytes, for
// the recipient whom people released it to: so nobody else can make use of it.
func (s *Store) Mark(ctx context.Context, releaseID uuid.UUID, item Item, recipient uuid.UUID) ([]byte, error) {
	sum, err := s.sentSum(ctx, item)
	if err != nil {
		return nil, err
	}
	token := make([]byte, 20)
	rand.Read(token)
	kept := sha256.Sum256(token)
	err = s.db.Act(ctx, pg.System("delivery", "release "+releaseID.String()), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, insertMarkSQL, releaseID, recipient, kept[:], sum, s.now().Add(markFor))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("store mark of release: %w", err)
	}
	return []byte(MarkHeader + ": " + markText.EncodeToString(token) + "\r\n"), nil
}

// sentSum is the hash of an item's bytes as they are sent.
func (s *Store) sentSum(ctx context.Context, item Item) ([]byte, error) {
	if len(item.headerEdits) == 0 {
		sum, err := hex.DecodeString(item.SHA256)
		if err != nil {
			return nil, fmt.Errorf("read hash of item: %w", err)
		}
		return sum, nil
	}
	raw, err := s.Raw(ctx, item)
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	h := sha256.New()
	if _, err := io.Copy(h, message.WithoutStream(raw, item.headerEdits)); err != nil {
		return nil, fmt.Errorf("hash item %s: %w", item.ID, err)
	}
	return h.Sum(nil), nil
}

// marksLookedAt bounds what a header full of such fields can cost.
const marksLookedAt = 3

// ReleasedBefore says to whom a person has released the very mail that comes by
// now; nil: nobody has. Most mail has no such field, and is not asked about.
func (s *Store) ReleasedBefore(ctx context.Context, header []byte, body func(offset int64) io.Reader) (*policy.Released, error) {
	end, looked := 0, 0
	for f := range message.Fields(header) {
		end += len(f)
		name, value, _ := bytes.Cut(f, []byte(":"))
		if !strings.EqualFold(strings.TrimSpace(string(name)), MarkHeader) {
			continue
		}
		if looked++; looked > marksLookedAt {
			break
		}
		token, err := markText.DecodeString(strings.TrimSpace(string(value)))
		if err != nil {
			continue
		}
		kept, h := sha256.Sum256(token), sha256.New()
		if _, err := io.Copy(h, body(int64(end))); err != nil {
			return nil, fmt.Errorf("hash mail below its mark: %w", err)
		}
		var r policy.Released
		err = s.db.QueryRow(ctx, findMarkSQL, kept[:], h.Sum(nil), s.now()).Scan(&r.Release, &r.Recipients, &r.Class)
		if errors.Is(err, pgx.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look up mark of release: %w", err)
		}
		return &r, nil
	}
	return nil, nil
}

// ExpireMarks forgets marks whose time is over.
func (s *Store) ExpireMarks(ctx context.Context) error {
	return s.db.Act(ctx, pg.System("quarantine expiry", "end of a mark's time"), func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, expireMarksSQL, s.now()); err != nil {
			return fmt.Errorf("forget marks of releases: %w", err)
		}
		return nil
	})
}
