package quarantine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
)

var (
	blobOldSQL       = pg.Query(queryFiles, "blob_old")
	blobRewrappedSQL = pg.Query(queryFiles, "blob_rewrapped")
	blobKeysSQL      = pg.Query(queryFiles, "blob_keys")
)

// rewrapBatch is how many keys are wrapped anew in one transaction.
const rewrapBatch = 500

// rewrapErrors is how many failures a result tells of in words.
const rewrapErrors = 5

// KeyUse is a key that wraps keys of blobs.
type KeyUse struct {
	Name    string // local:ID, or bao:NAME:vN
	Blobs   int64
	Current bool
	Unknown bool // it is not here: what it wrapped cannot be read
}

// KeyUses lists the keys that wrap blobs, and the one in force.
func (s *Store) KeyUses(ctx context.Context, k *Keys) ([]KeyUse, error) {
	now, err := k.Current(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask for the blob key in force: %w", err)
	}
	rows, err := s.db.Query(ctx, blobKeysSQL)
	if err != nil {
		return nil, fmt.Errorf("read keys of blobs: %w", err)
	}
	var out []KeyUse
	var u KeyUse
	found := false
	_, err = pgx.ForEachRow(rows, []any{&u.Name, &u.Blobs}, func() error {
		u.Current, u.Unknown = u.Name == now, len(k.Unknown([]string{u.Name})) > 0
		found = found || u.Current
		out = append(out, u)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read keys of blobs: %w", err)
	}
	if !found {
		out = append(out, KeyUse{Name: now, Current: true})
	}
	return out, nil
}

// Rewrapped is what became of the keys of blobs.
type Rewrapped struct {
	Key    string // the one in force
	Done   int
	Failed int
	Errors []string // of the first failures
}

// RotateKey makes a new key the one that wraps from now on. Older ones stay, and
// open what they wrapped.
func (s *Store) RotateKey(ctx context.Context, actor pg.Actor, k *Keys, reason string) (now string, err error) {
	if reason = strings.TrimSpace(clean(reason)); reason == "" {
		return "", ErrReasonRequired
	}
	before, err := k.Current(ctx)
	if err != nil {
		return "", fmt.Errorf("ask for the blob key in force: %w", err)
	}
	ev := audit.Event{Action: audit.BlobKeyRotate, Actor: actor, Reason: reason, Retention: audit.Retention3Years, Before: map[string]any{"key": before}}
	intent, err := s.intend(ctx, ev)
	if err != nil {
		return "", err
	}
	if err = k.Rotate(ctx); err == nil {
		now, err = k.Current(ctx)
	}
	ev.After = map[string]any{"key": now}
	return now, errors.Join(err, s.result(ctx, ev, intent, err))
}

// Rewrap wraps the key of every blob that another key wraps with the one in force.
// The blobs themselves are not touched. It can be broken off and begun again: what
// is done stays done.
func (s *Store) Rewrap(ctx context.Context, actor pg.Actor, k *Keys, reason string) (Rewrapped, error) {
	if reason = strings.TrimSpace(clean(reason)); reason == "" {
		return Rewrapped{}, ErrReasonRequired
	}
	r := Rewrapped{}
	var err error
	if r.Key, err = k.Current(ctx); err != nil {
		return r, fmt.Errorf("ask for the blob key in force: %w", err)
	}
	ev := audit.Event{Action: audit.BlobRewrap, Actor: actor, Reason: reason, Retention: audit.Retention3Years, After: map[string]any{"key": r.Key}}
	intent, err := s.intend(ctx, ev)
	if err != nil {
		return r, err
	}
	last := ""
	for err == nil {
		var n int
		if n, last, err = s.rewrapSome(ctx, actor, k, &r, last); n < rewrapBatch {
			break
		}
	}
	ev.After = map[string]any{"key": r.Key, "rewrapped": r.Done, "failed": r.Failed}
	failed := err
	if err == nil && r.Failed > 0 {
		failed = errors.New("some keys are as they were")
	}
	return r, errors.Join(err, s.result(ctx, ev, intent, failed))
}

// rewrapSome does one batch, and says how many it saw and the last one's name.
func (s *Store) rewrapSome(ctx context.Context, actor pg.Actor, k *Keys, r *Rewrapped, after string) (n int, last string, err error) {
	rows, err := s.db.Query(ctx, blobOldSQL, r.Key, after, rewrapBatch)
	if err != nil {
		return 0, "", fmt.Errorf("read blobs of older keys: %w", err)
	}
	refs, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (ref Ref, err error) {
		return ref, row.Scan(&ref.Name, &ref.Key)
	})
	if err != nil || len(refs) == 0 {
		return 0, "", err
	}
	next, errs := k.rewrap(ctx, refs)
	if ctx.Err() != nil {
		return 0, "", ctx.Err()
	}
	err = s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		b := &pgx.Batch{}
		for i, ref := range refs {
			if next[i] != nil {
				b.Queue(blobRewrappedSQL, ref.Name, ref.Key, next[i], wrappedBy(next[i]))
			}
		}
		return tx.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return 0, "", fmt.Errorf("write keys that were wrapped anew: %w", err)
	}
	r.Done, r.Failed = r.Done+len(refs)-len(errs), r.Failed+len(errs)
	for _, e := range errs {
		if len(r.Errors) < rewrapErrors {
			r.Errors = append(r.Errors, e.Error())
		}
	}
	return len(refs), refs[len(refs)-1].Name, nil
}

// intend commits that something is about to be done to the keys.
func (s *Store) intend(ctx context.Context, ev audit.Event) (id uuid.UUID, err error) {
	ev.Phase = "intent"
	err = s.db.Act(ctx, ev.Actor, func(ctx context.Context, tx pgx.Tx) error {
		id, err = s.audit.Append(ctx, tx, ev)
		return err
	})
	if err != nil {
		return id, fmt.Errorf("put on record what is about to be done: %w", err)
	}
	return id, nil
}

// resultTime is how long the result of something that was broken off is tried to
// be put on record.
const resultTime = 10 * time.Second

func (s *Store) result(ctx context.Context, ev audit.Event, intent uuid.UUID, failed error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resultTime)
	defer cancel()
	ev.Correlation.CausationID = intent.String()
	if failed != nil {
		ev.Outcome, ev.OutcomeCode = "failure", "failed"
	}
	err := s.db.Act(ctx, ev.Actor, func(ctx context.Context, tx pgx.Tx) error {
		_, err := s.audit.Append(ctx, tx, ev)
		return err
	})
	if err != nil {
		return fmt.Errorf("put on record what was done: %w", err)
	}
	return nil
}
