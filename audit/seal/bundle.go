package seal

import (
	"archive/zip"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit/proof"
	"mailward/internal/pg"
)

var (
	bundleEventsSQL      = pg.Query(queryFiles, "bundle_events")
	bundleValuesSQL      = pg.Query(queryFiles, "bundle_values")
	bundleRangeSQL       = pg.Query(queryFiles, "bundle_range")
	bundleCheckpointsSQL = pg.Query(queryFiles, "bundle_checkpoints")
	bundleOriginsSQL     = pg.Query(queryFiles, "bundle_origins")
	bundleKeysSQL        = pg.Query(queryFiles, "bundle_keys")
	bundleAnchorsSQL     = pg.Query(queryFiles, "bundle_anchors")
	bundlePurgedSQL      = pg.Query(queryFiles, "bundle_purged")
)

// Part is what a bundle is made of.
type Part struct {
	Workspace uuid.UUID // zero: all
	From, To  time.Time // zero: no bound
	// Anonymous leaves personal values out. The commitments to them stay.
	Anonymous bool
	Version   string
}

const (
	eventBatch = 1000
	leafBatch  = 20_000
)

// WriteBundle seals what is new and writes a bundle: events, all leaves,
// checkpoints, keys and receipts. Whoever calls it has put that on record before.
func (s *Sealer) WriteBundle(ctx context.Context, w io.Writer, part Part) (proof.Manifest, error) {
	release, err := s.Audit.HoldMonths(ctx)
	if err != nil {
		return proof.Manifest{}, err
	}
	defer release()
	if err := s.Audit.SequenceAll(ctx); err != nil {
		return proof.Manifest{}, err
	}
	head, err := s.Seal(ctx)
	if err != nil {
		return proof.Manifest{}, err
	}
	c, err := head.checkpoint()
	if err != nil {
		return proof.Manifest{}, fmt.Errorf("read last checkpoint: %w", err)
	}
	b := &bundle{s: s, part: part, head: head, zip: zip.NewWriter(w), man: proof.Manifest{Schema: proof.BundleSchema, Origin: c.Origin, Size: c.Size,
		From: text(part.From), To: text(part.To), Personal: !part.Anonymous, MadeAt: s.Now().UTC(), Version: part.Version}}
	if part.Workspace != uuid.Nil {
		b.man.Workspace = part.Workspace.String()
	}
	for _, step := range []func(context.Context) error{b.bounds, b.events, b.leaves, b.rest} {
		if err := step(ctx); err != nil {
			return b.man, err
		}
	}
	return b.man, b.close(ctx)
}

func text(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// bundle is one that is being written.
type bundle struct {
	s    *Sealer
	part Part
	head Head
	man  proof.Manifest
	zip  *zip.Writer
	sums []string
}

// file writes one file and notes its checksum.
func (b *bundle) file(name string, fn func(io.Writer) error) error {
	w, err := b.zip.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: b.man.MadeAt})
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	h := summer{sha256.New(), w}
	buf := bufio.NewWriterSize(h, 64<<10)
	if err := fn(buf); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := buf.Flush(); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	b.sums = append(b.sums, hex.EncodeToString(h.Hash.Sum(nil))+"  "+name)
	return nil
}

// summer hashes what is written through it.
type summer struct {
	hash.Hash
	to io.Writer
}

func (s summer) Write(p []byte) (int, error) {
	s.Hash.Write(p)
	return s.to.Write(p)
}

func (b *bundle) json(name string, v any) error {
	return b.file(name, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(v)
	})
}

// bounds turns the time that was asked for into numbers: all events between the
// first and the last of it are in the bundle, so that none can be missing unseen.
func (b *bundle) bounds(ctx context.Context) error {
	if b.part.From.IsZero() && b.part.To.IsZero() {
		b.man.EndSeq = b.man.Size
		return nil
	}
	var first, end *uint64
	if err := b.s.DB.QueryRow(ctx, bundleRangeSQL, pg.PlanAnew, bound(b.part.From), bound(b.part.To), b.man.Size).Scan(&first, &end); err != nil {
		return fmt.Errorf("look for the first and last event: %w", err)
	}
	if first != nil {
		b.man.FirstSeq, b.man.EndSeq = *first, *end
	}
	return nil
}

func bound(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func (b *bundle) events(ctx context.Context) error {
	var ws *uuid.UUID
	if b.part.Workspace != uuid.Nil {
		ws = &b.part.Workspace
	}
	return b.file(proof.FileEvents, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		for next := b.man.FirstSeq; ; {
			page, ids, err := b.page(ctx, next, ws)
			if err != nil {
				return err
			}
			if !b.part.Anonymous {
				if err := b.values(ctx, page, ids); err != nil {
					return err
				}
			}
			for _, e := range page {
				if err := enc.Encode(e); err != nil {
					return err
				}
			}
			b.man.Events += uint64(len(page))
			if len(page) < eventBatch {
				return nil
			}
			next = page[len(page)-1].Seq + 1
		}
	})
}

func (b *bundle) page(ctx context.Context, from uint64, ws *uuid.UUID) (page []*proof.BundleEvent, ids []uuid.UUID, err error) {
	rows, err := b.s.DB.Query(ctx, bundleEventsSQL, pg.PlanAnew, from, b.man.EndSeq, ws, eventBatch)
	if err != nil {
		return nil, nil, fmt.Errorf("read events: %w", err)
	}
	page, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (*proof.BundleEvent, error) {
		var e proof.BundleEvent
		var id uuid.UUID
		err := r.Scan(&e.Seq, &e.ID, &e.RecordedAt, &e.Retention, &e.Event, &id)
		e.RecordedAt, ids = e.RecordedAt.UTC(), append(ids, id)
		return &e, err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read events: %w", err)
	}
	return page, ids, nil
}

// values adds the personal values to a page of events.
func (b *bundle) values(ctx context.Context, page []*proof.BundleEvent, ids []uuid.UUID) error {
	at := map[uuid.UUID]*proof.BundleEvent{}
	for i, id := range ids {
		at[id] = page[i]
	}
	rows, err := b.s.DB.Query(ctx, bundleValuesSQL, ids)
	if err != nil {
		return fmt.Errorf("read personal values: %w", err)
	}
	var id uuid.UUID
	var p proof.PII
	_, err = pgx.ForEachRow(rows, []any{&id, &p.Path, &p.Value, &p.Salt}, func() error {
		at[id].PII = append(at[id].PII, p)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read personal values: %w", err)
	}
	return nil
}

func (b *bundle) leaves(ctx context.Context) error {
	return b.file(proof.FileLeaves, func(w io.Writer) error {
		for first := uint64(0); first < b.man.Size; first += leafBatch {
			h, err := source{b.s.DB}.Hashes(ctx, 0, first, int(min(leafBatch, b.man.Size-first)))
			if err != nil {
				return err
			}
			for _, leaf := range h {
				if _, err := w.Write(leaf); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// rest writes what is small.
func (b *bundle) rest(ctx context.Context) error {
	origins, err := rowsOf[proof.BundleOrigin](ctx, b.s.DB, bundleOriginsSQL)
	if err != nil {
		return err
	}
	keys, err := b.keys(ctx, origins)
	if err != nil {
		return err
	}
	points, err := rowsOf[proof.BundleCheckpoint](ctx, b.s.DB, bundleCheckpointsSQL, b.head.Number, b.man.Size)
	if err != nil {
		return err
	}
	anchors, err := rowsOf[proof.BundleAnchor](ctx, b.s.DB, bundleAnchorsSQL, b.head.Number, b.man.Size)
	if err != nil {
		return err
	}
	purged, err := rowsOf[proof.BundlePurge](ctx, b.s.DB, bundlePurgedSQL, b.man.Size)
	if err != nil {
		return err
	}
	return errors.Join(
		lines(b, proof.FileCheckpoints, points), lines(b, proof.FileAnchors, anchors), lines(b, proof.FilePurged, inLines(purged, purgedLine)),
		b.json(proof.FileOrigins, origins), b.json(proof.FileKeys, keys), b.json(proof.FileManifest, b.man),
		b.file(proof.FileReadme, func(w io.Writer) error { _, err := io.WriteString(w, proof.Readme); return err }))
}

// purgedLine is how many numbers stand in one line: who checks reads no line without end.
const purgedLine = 100_000

// inLines has at most that many numbers in each.
func inLines(list []proof.BundlePurge, most int) (out []proof.BundlePurge) {
	for _, p := range list {
		for part := range slices.Chunk(p.Seqs, most) {
			out = append(out, proof.BundlePurge{Event: p.Event, Seqs: part, Number: p.Number})
		}
	}
	return out
}

func (b *bundle) keys(ctx context.Context, origins []proof.BundleOrigin) ([]proof.BundleKey, error) {
	rows, err := b.s.DB.Query(ctx, bundleKeysSQL)
	if err != nil {
		return nil, fmt.Errorf("read sealing keys: %w", err)
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (k proof.BundleKey, err error) {
		if err := r.Scan(&k.ID, &k.Algorithm, &k.Public, &k.AddedAt); err != nil {
			return k, err
		}
		for _, o := range origins {
			v, err := proof.Key{Algorithm: k.Algorithm, Public: k.Public}.VKey(o.Name)
			if err != nil {
				return k, err
			}
			k.VKeys = append(k.VKeys, v)
		}
		return k, nil
	})
}

func rowsOf[T any](ctx context.Context, q querier, sql string, args ...any) ([]T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read for a bundle: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[T])
	if err != nil {
		return nil, fmt.Errorf("read for a bundle: %w", err)
	}
	return list, nil
}

func lines[T any](b *bundle, name string, list []T) error {
	return b.file(name, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		for _, v := range list {
			if err := enc.Encode(v); err != nil {
				return err
			}
		}
		return nil
	})
}

// close writes the checksums, signs them and ends the file.
func (b *bundle) close(ctx context.Context) error {
	sums := strings.Join(b.sums, "\n") + "\n"
	keys, err := b.s.Keys.List(ctx)
	if err != nil {
		return err
	}
	key, err := b.signer(keys)
	if err != nil {
		return err
	}
	signed, err := proof.SignSums(b.man.Origin, []byte(sums), key, func(k proof.Key, msg []byte) ([]byte, error) { return b.s.Keys.Sign(ctx, k, msg) })
	if err != nil {
		return err
	}
	for _, f := range [][2]string{{proof.FileSums, sums}, {proof.FileSigned, signed}} {
		if err := b.file(f[0], func(w io.Writer) error { _, err := io.WriteString(w, f[1]); return err }); err != nil {
			return err
		}
	}
	if err := b.zip.Close(); err != nil {
		return fmt.Errorf("end the bundle: %w", err)
	}
	return nil
}

// signer is the key of the newest checkpoint: one that is only in use since then
// is known to nobody yet.
func (b *bundle) signer(keys []proof.Key) (proof.Key, error) {
	_, by, err := proof.Open(b.head.Note, keys)
	if err != nil {
		return proof.Key{}, fmt.Errorf("the newest checkpoint is signed by no key that is still here: %w", err)
	}
	return by[0], nil
}
