package seal

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/audit/proof"
	"mailward/internal/pg"
)

//go:embed queries/*.sql
var queryFiles embed.FS

var (
	lockSQL          = pg.Query(queryFiles, "lock")
	sizeSQL          = pg.Query(queryFiles, "size")
	foldSQL          = pg.Query(queryFiles, "fold")
	leavesSQL        = pg.Query(queryFiles, "leaves")
	nodesSQL         = pg.Query(queryFiles, "nodes")
	newLeavesSQL     = pg.Query(queryFiles, "new_leaves")
	originSQL        = pg.Query(queryFiles, "origin")
	addOriginSQL     = pg.Query(queryFiles, "add_origin")
	keysSQL          = pg.Query(queryFiles, "keys")
	addKeySQL        = pg.Query(queryFiles, "add_key")
	lastSQL          = pg.Query(queryFiles, "last")
	addCheckpointSQL = pg.Query(queryFiles, "add_checkpoint")
	statusSQL        = pg.Query(queryFiles, "status")
	anchorsSQL       = pg.Query(queryFiles, "anchors")
	addAnchorSQL     = pg.Query(queryFiles, "add_anchor")
	receiptsSQL      = pg.Query(queryFiles, "receipts")
	seqSQL           = pg.Query(queryFiles, "seq")
)

const (
	// Every is how often new events are sealed: what is withheld until then
	// cannot be shown to be missing.
	Every = time.Minute
	// heartbeat is how long nothing may happen: then an event says so, and
	// silence can be told from events that were taken away.
	heartbeat = time.Hour
	foldBatch = 500
)

// Config is what a Sealer needs to know.
type Config struct {
	// Origin is the name of the tree, as in mx.example.org/audit. It counts for
	// the first checkpoint; after that the name stays what it is.
	Origin string
}

// Deps are the parts that a Sealer works with.
type Deps struct {
	DB      *pg.DB
	Audit   *audit.Log
	Keys    Keys
	Local   Memory // in data_dir
	Shared  Memory // nil: not set up
	Anchors []Named
	Log     *slog.Logger
	Now     func() time.Time // default time.Now
}

// Sealer signs checkpoints. Many processes may have one; the database lets one
// sign at a time.
type Sealer struct {
	cfg Config
	Deps

	mu      sync.Mutex // guards refused
	refused string     // why the tree is not signed; empty: it is
}

// New returns a Sealer.
func New(cfg Config, d Deps) *Sealer {
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	return &Sealer{cfg: cfg, Deps: d}
}

// RefusedError means that the tree does not contain what was signed before.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return "seal: not signed: " + e.Reason }

func refuse(format string, a ...any) error { return &RefusedError{fmt.Sprintf(format, a...)} }

// Run seals each minute until ctx ends.
func (s *Sealer) Run(ctx context.Context) error {
	t := time.NewTicker(Every)
	defer t.Stop()
	for {
		if _, err := s.Seal(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error("the audit is not sealed", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

var system = pg.System("audit seal", "schedule")

// Seal signs what is new, and returns the newest head. That a tree is refused is
// an event, once, and stays on Health.
func (s *Sealer) Seal(ctx context.Context) (h Head, err error) {
	err = s.DB.Act(ctx, system, func(ctx context.Context, tx pgx.Tx) error {
		h, err = s.seal(ctx, tx)
		return err
	})
	var no *RefusedError
	if !errors.As(err, &no) {
		if err == nil {
			s.mu.Lock()
			s.refused = ""
			s.mu.Unlock()
		}
		return h, err
	}
	s.mu.Lock()
	known := s.refused == no.Reason
	s.refused = no.Reason
	s.mu.Unlock()
	if known {
		return h, err
	}
	return h, errors.Join(err, s.Audit.Record(ctx, audit.Event{Action: audit.GuardViolation, Outcome: "failure", OutcomeCode: "seal_refused", OutcomeDetail: no.Reason,
		Severity: "critical", Retention: audit.Retention3Years, Actor: system}))
}

// seal is the whole of it, under a lock that ends with the transaction.
func (s *Sealer) seal(ctx context.Context, tx pgx.Tx) (Head, error) {
	if _, err := tx.Exec(ctx, lockSQL); err != nil {
		return Head{}, fmt.Errorf("wait for the seal: %w", err)
	}
	m, err := s.remember(ctx, tx)
	if err != nil {
		return Head{}, err
	}
	size, err := grown(ctx, tx)
	if err != nil {
		return Head{}, err
	}
	last, err := m.head.checkpoint()
	if err != nil {
		return Head{}, fmt.Errorf("read last checkpoint: %w", err)
	}
	if err := s.check(ctx, tx, last, size); err != nil {
		return Head{}, err
	}
	if err := s.reopen(ctx, tx, m.head); err != nil {
		return Head{}, err
	}
	keys, err := s.signers(ctx, tx, m.head)
	if err != nil {
		return Head{}, err
	}
	if m.head.Note != "" {
		// A crash may have kept the row away, and it may hand over to another key.
		if err := addCheckpoint(ctx, tx, last, m.head.Note); err != nil {
			return Head{}, err
		}
		// A new key waits until the event of it is numbered: each size is signed once.
		if size == last.Size {
			return m.head, s.beat(ctx, tx, m.head)
		}
	}
	root, err := (proof.Tree{Source: source{tx}}).Root(ctx, size)
	if err != nil {
		return Head{}, err
	}
	c := proof.Checkpoint{Origin: m.head.Origin, Size: size, Root: root}
	if len(keys) > 1 {
		if c.Next, err = keys[0].VKey(c.Origin); err != nil {
			return Head{}, err
		}
	}
	signed, err := proof.Sign(c, keys, func(k proof.Key, msg []byte) ([]byte, error) { return s.Keys.Sign(ctx, k, msg) })
	if err != nil {
		return Head{}, err
	}
	h := Head{Number: m.head.Number, Origin: c.Origin, Note: signed, SignedAt: s.Now().UTC()}
	if err := m.store(ctx, h); err != nil {
		return Head{}, err
	}
	return h, addCheckpoint(ctx, tx, c, signed)
}

// beat puts on record that nothing happened.
func (s *Sealer) beat(ctx context.Context, tx pgx.Tx, h Head) error {
	// A head of the future is one from before the clock was set right.
	if since := s.Now().Sub(h.SignedAt); since >= 0 && since < heartbeat {
		return nil
	}
	_, err := s.Audit.Append(ctx, tx, audit.Event{Action: audit.Heartbeat, Severity: "info", Actor: system})
	return err
}

// grown folds the leaves into nodes and says how many there are.
func grown(ctx context.Context, tx pgx.Tx) (size uint64, err error) {
	if err := tx.QueryRow(ctx, sizeSQL).Scan(&size); err != nil {
		return 0, fmt.Errorf("count leaves: %w", err)
	}
	for {
		var n int
		if err := tx.QueryRow(ctx, foldSQL, foldBatch).Scan(&n); err != nil {
			return 0, fmt.Errorf("fold leaves: %w", err)
		}
		if n >= 0 && n < foldBatch {
			return size, nil
		}
	}
}

// check refuses a tree that does not contain what was signed, and new events
// that are not what their leaves say.
func (s *Sealer) check(ctx context.Context, tx pgx.Tx, last proof.Checkpoint, size uint64) error {
	if last.Size > size {
		return refuse("the tree has %d events, and %d were signed: the database is older than its last checkpoint. After a lawful restore: mailward audit reanchor --reason ...", size, last.Size)
	}
	if last.Size > 0 {
		root, err := (proof.Tree{Source: source{tx}}).Root(ctx, last.Size)
		if err != nil {
			return refuse("the first %d events cannot be read any more: %v", last.Size, err)
		}
		if !bytes.Equal(root, last.Root) {
			return refuse("the first %d events are not those that were signed: their leaves were changed", last.Size)
		}
	}
	rows, err := tx.Query(ctx, newLeavesSQL, last.Size, size)
	if err != nil {
		return fmt.Errorf("read new events: %w", err)
	}
	var (
		seq         int64
		id          string
		leaf, event []byte
		at          *time.Time
	)
	_, err = pgx.ForEachRow(rows, []any{&seq, &id, &leaf, &at, &event}, func() error {
		if at == nil {
			return refuse("event %s (number %d) is gone", id, seq)
		}
		if h := proof.Leaf(seq, *at, event); !bytes.Equal(h[:], leaf) {
			return refuse("event %s (number %d) is not what was numbered", id, seq)
		}
		return nil
	})
	return err
}

// signers are the keys for the next checkpoint: the one in use, and with it once
// the one before, which signs that this is the next: whoever trusts it can trust that.
func (s *Sealer) signers(ctx context.Context, tx pgx.Tx, head Head) ([]proof.Key, error) {
	mine, err := s.Keys.List(ctx)
	if err != nil {
		return nil, err
	}
	known, err := readKeys(ctx, tx)
	if err != nil {
		return nil, err
	}
	use := mine[:1]
	var before []proof.Key
	if head.Note != "" {
		if _, before, err = proof.Open(head.Note, append(slices.Clone(known), mine...)); err != nil {
			return nil, refuse("the last checkpoint that is kept is signed by no key of ours: %v", err)
		}
	} else if !has(known, mine[0]) {
		before = known // a database from before the last change of keys was restored
	}
	if !has(before, mine[0]) {
		for _, k := range before {
			if has(mine[1:], k) {
				use = append(slices.Clone(use), k)
			}
		}
	}
	if has(known, mine[0]) {
		return use, nil
	}
	if _, err := tx.Exec(ctx, addKeySQL, mine[0].ID(), mine[0].Algorithm, []byte(mine[0].Public)); err != nil {
		return nil, fmt.Errorf("note sealing key: %w", err)
	}
	return use, s.recordKey(ctx, tx, head, mine[0], before, len(use) > 1 || len(before) > 1 && has(before, mine[0]))
}

func (s *Sealer) recordKey(ctx context.Context, tx pgx.Tx, head Head, now proof.Key, before []proof.Key, handover bool) error {
	v, err := now.VKey(head.Origin)
	if err != nil {
		return err
	}
	ids := []string{}
	for _, k := range before {
		ids = append(ids, k.ID())
	}
	_, err = s.Audit.Append(ctx, tx, audit.Event{Action: audit.SealKey, Severity: "warning", Retention: audit.Retention3Years, Actor: system,
		Targets: []audit.Target{{Type: "seal_key", ID: now.ID()}}, Before: map[string]any{"keys": ids},
		After: map[string]any{"key": now.ID(), "vkey": v, "algorithm": now.Algorithm, "old_key_signs_too": handover}})
	return err
}

func has(list []proof.Key, k proof.Key) bool {
	return slices.ContainsFunc(list, func(o proof.Key) bool { return o.ID() == k.ID() })
}

func readKeys(ctx context.Context, q querier) ([]proof.Key, error) {
	rows, err := q.Query(ctx, keysSQL)
	if err != nil {
		return nil, fmt.Errorf("read sealing keys: %w", err)
	}
	keys, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (k proof.Key, err error) {
		var public []byte
		err = r.Scan(&k.Algorithm, &public)
		k.Public = public
		return k, err
	})
	if err != nil {
		return nil, fmt.Errorf("read sealing keys: %w", err)
	}
	return keys, nil
}

func addCheckpoint(ctx context.Context, tx pgx.Tx, c proof.Checkpoint, signed string) error {
	if _, err := tx.Exec(ctx, addCheckpointSQL, c.Origin, c.Size, c.Root, signed); err != nil {
		return fmt.Errorf("store checkpoint: %w", err)
	}
	return nil
}

// memories is what is remembered, and where.
type memories struct {
	s       *Sealer
	head    Head
	version int // of the shared one
}

// remember reads what was signed last: the newest that data_dir or the shared
// store knows. The database is believed only where neither knows anything.
func (s *Sealer) remember(ctx context.Context, tx pgx.Tx) (m memories, err error) {
	m.s = s
	if m.head, _, err = s.Local.Load(ctx); err != nil {
		return m, err
	}
	if s.Shared != nil {
		shared, version, err := s.Shared.Load(ctx)
		if err != nil {
			return m, err
		}
		m.version = version
		if shared.newer(m.head) || m.head.Number == 0 {
			m.head = shared
		}
	}
	if m.head.Number > 0 {
		return m, nil
	}
	if m.head, err = newestOrigin(ctx, tx); err != nil || m.head.Number > 0 {
		return m, err
	}
	m.head, err = s.open(ctx, tx, Head{}, "the audit is sealed from here on", system)
	return m, err
}

// open begins a tree under a new name.
func (s *Sealer) open(ctx context.Context, tx pgx.Tx, old Head, reason string, who pg.Actor) (Head, error) {
	db, err := newestOrigin(ctx, tx)
	if err != nil {
		return Head{}, err
	}
	h := Head{Number: max(old.Number, db.Number) + 1, Origin: s.cfg.Origin, SignedAt: s.Now().UTC()}
	if h.Number > 1 {
		h.Origin += "/" + strconv.Itoa(h.Number)
	}
	return h, s.enter(ctx, tx, h, old, reason, who)
}

// reopen enters the origin of a head that the database does not know: a head is
// remembered before its transaction ends, and the end may have failed.
func (s *Sealer) reopen(ctx context.Context, tx pgx.Tx, h Head) error {
	db, err := newestOrigin(ctx, tx)
	if err != nil || db.Number >= h.Number {
		return err
	}
	return s.enter(ctx, tx, h, db, "the first try to write it down failed", system)
}

// newestOrigin is the zero Head where there is none.
func newestOrigin(ctx context.Context, tx pgx.Tx) (h Head, err error) {
	err = tx.QueryRow(ctx, originSQL).Scan(&h.Number, &h.Origin, &h.Note, &h.SignedAt)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return h, fmt.Errorf("read origin of the tree: %w", err)
	}
	return h, nil
}

// enter puts an origin into the database, and on record.
func (s *Sealer) enter(ctx context.Context, tx pgx.Tx, h, old Head, reason string, who pg.Actor) error {
	action := audit.SealOrigin
	if h.Number > 1 {
		action = audit.Reanchor
	}
	if _, err := tx.Exec(ctx, addOriginSQL, h.Number, h.Origin, old.Note, reason); err != nil {
		return fmt.Errorf("open origin of the tree: %w", err)
	}
	_, err := s.Audit.Append(ctx, tx, audit.Event{Action: action, Severity: "warning", Retention: audit.Retention3Years, Actor: who, Reason: reason,
		Targets: []audit.Target{{Type: "seal_origin", ID: h.Origin}}, Before: map[string]any{"origin": old.Origin, "checkpoint": old.Note}, After: map[string]any{"origin": h.Origin}})
	return err
}

// store remembers a head in all places, the shared one first: who loses there
// has signed nothing that anybody will see.
func (m memories) store(ctx context.Context, h Head) error {
	if m.s.Shared != nil {
		if err := m.s.Shared.Store(ctx, h, m.version); err != nil {
			return err
		}
	}
	return m.s.Local.Store(ctx, h, 0)
}

// Reanchor opens a new origin after a lawful restore. Its event names the last
// head that was signed before, so that everybody can see what is no longer
// covered, and why.
func (s *Sealer) Reanchor(ctx context.Context, who pg.Actor, reason string) (old, now Head, err error) {
	if reason == "" {
		return old, now, errors.New("a new origin needs a reason")
	}
	err = s.DB.Act(ctx, who, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockSQL); err != nil {
			return fmt.Errorf("wait for the seal: %w", err)
		}
		m, err := s.remember(ctx, tx)
		if err != nil {
			return err
		}
		old = m.head
		if now, err = s.open(ctx, tx, old, reason, who); err != nil {
			return err
		}
		return m.store(ctx, now)
	})
	if err != nil {
		return old, now, err
	}
	if err := s.Audit.SequenceAll(ctx); err != nil {
		return old, now, err
	}
	now, err = s.Seal(ctx)
	return old, now, err
}
