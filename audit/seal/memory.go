package seal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"mailward/audit/proof"
	"mailward/internal/bao"
	"mailward/internal/durable"
)

// Head is the last tree head that was signed. With an empty note its origin was
// opened and nothing is signed yet.
type Head struct {
	Number   int       `json:"number"` // of the origin
	Origin   string    `json:"origin"`
	Note     string    `json:"note"`
	SignedAt time.Time `json:"signed_at"`
}

// checkpoint is the head without its signatures.
func (h Head) checkpoint() (proof.Checkpoint, error) {
	if h.Note == "" {
		return proof.Checkpoint{Origin: h.Origin}, nil
	}
	c, err := proof.Read(h.Note)
	if err == nil && c.Origin != h.Origin {
		err = proof.ErrNoCheckpoint
	}
	return c, err
}

// newer says whether h is further on than o.
func (h Head) newer(o Head) bool {
	if h.Number != o.Number {
		return h.Number > o.Number
	}
	a, _ := h.checkpoint()
	b, _ := o.checkpoint()
	return a.Size > b.Size
}

// Memory keeps the last signed head where the database's owner does not reach.
// Store replaces only what Load has shown (version); otherwise it is a conflict.
type Memory interface {
	Load(ctx context.Context) (h Head, version int, err error) // the zero Head: nothing yet
	Store(ctx context.Context, h Head, version int) error
}

// File keeps the head in data_dir.
type File struct{ Path string }

// Load reads the file.
func (f File) Load(context.Context) (h Head, version int, err error) {
	b, err := os.ReadFile(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return Head{}, 0, nil
	}
	if err != nil {
		return Head{}, 0, fmt.Errorf("read last checkpoint: %w", err)
	}
	if err := json.Unmarshal(b, &h); err != nil {
		return Head{}, 0, fmt.Errorf("read last checkpoint in %s: %w", f.Path, err)
	}
	return h, 1, nil
}

// Store writes the file so that a crash leaves the old or the new one.
func (f File) Store(_ context.Context, h Head, _ int) error {
	b, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return fmt.Errorf("encode last checkpoint: %w", err)
	}
	if err := durable.WriteFile(f.Path, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("keep last checkpoint: %w", err)
	}
	return nil
}

// KV is OpenBao's key-value store.
type KV interface {
	KVGet(ctx context.Context, path string) (map[string]any, int, error)
	KVPutCAS(ctx context.Context, path string, data map[string]any, version int) (int, error)
}

// Shared keeps the head in OpenBao, for all processes of an installation: two
// that sign at once cannot both be taken.
type Shared struct {
	KV   KV
	Path string
}

// Load reads the secret.
func (s Shared) Load(ctx context.Context) (h Head, version int, err error) {
	data, version, err := s.KV.KVGet(ctx, s.Path)
	if errors.Is(err, bao.ErrNotFound) {
		return Head{}, version, nil
	}
	if err != nil {
		return Head{}, 0, fmt.Errorf("read last checkpoint: %w", err)
	}
	text, _ := data["head"].(string)
	if err := json.Unmarshal([]byte(text), &h); err != nil {
		return Head{}, 0, fmt.Errorf("read last checkpoint in OpenBao: %w", err)
	}
	return h, version, nil
}

// Store writes the secret if nobody else did since Load.
func (s Shared) Store(ctx context.Context, h Head, version int) error {
	b, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("encode last checkpoint: %w", err)
	}
	if _, err := s.KV.KVPutCAS(ctx, s.Path, map[string]any{"head": string(b)}, version); err != nil {
		return fmt.Errorf("keep last checkpoint: %w", err)
	}
	return nil
}
