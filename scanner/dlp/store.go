package dlp

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
	"mailward/policy"
)

//go:embed queries/*.sql
var queryFiles embed.FS

var (
	revisionSQL          = pg.Query(queryFiles, "revision")
	setsSQL              = pg.Query(queryFiles, "sets")
	fingerprintsSQL      = pg.Query(queryFiles, "fingerprints")
	insertSetSQL         = pg.Query(queryFiles, "insert_set")
	updateSetSQL         = pg.Query(queryFiles, "update_set")
	deleteSetSQL         = pg.Query(queryFiles, "delete_set")
	touchSetSQL          = pg.Query(queryFiles, "touch_set")
	insertFingerprintSQL = pg.Query(queryFiles, "insert_fingerprint")
	deleteFingerprintSQL = pg.Query(queryFiles, "delete_fingerprint")
)

// Errors of the store.
var (
	ErrNotFound = errors.New("dlp: not found")
	ErrExists   = errors.New("dlp: there is a set with this name already")
	// ErrConflict means that somebody else changed it since it was read.
	ErrConflict = errors.New("dlp: changed by somebody else in the meantime")
	// ErrFull means that there are as many as there may be.
	ErrFull = errors.New("dlp: there are too many already")
)

const (
	// pollEvery bounds how old the snapshot gets when a notification was lost.
	pollEvery = 5 * time.Second
	maxSets   = 100 // of one workspace
)

// revision says which sets a snapshot has.
type revision struct {
	sets, versions int64
	changed        time.Time
}

func (r revision) equal(o revision) bool {
	return r.sets == o.sets && r.versions == o.versions && r.changed.Equal(o.changed)
}

func (r revision) String() string {
	return strconv.FormatInt(r.sets, 10) + " sets, revision " + strconv.FormatInt(r.versions, 10)
}

// traffic is a workspace's mail of one direction.
type traffic struct {
	workspace uuid.UUID
	direction policy.Direction
}

// snapshot is what the judge reads. It is never changed, only replaced.
type snapshot struct {
	revision revision
	sets     []Set
	prints   []Fingerprint // with their hashes
	matchers map[traffic]*matcher
}

// matcher is nil where nothing is looked for.
func (s *snapshot) matcher(workspace uuid.UUID, d policy.Direction) *matcher {
	return s.matchers[traffic{workspace, d}]
}

// Store keeps the sets, and a snapshot of them in memory.
type Store struct {
	db   *pg.DB
	log  *slog.Logger
	snap atomic.Pointer[snapshot]
}

// NewStore returns a Store that knows nothing until [Store.Load] or [Store.Run].
func NewStore(db *pg.DB, log *slog.Logger) *Store { return &Store{db: db, log: log} }

// Run keeps the snapshot fresh: at once when the database says that something
// changed, every few seconds otherwise. It returns when ctx ends.
func (s *Store) Run(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.db.Listen(ctx, "mailward_dlp", changed)
	}()
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	for {
		if err := s.Load(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("dlp sets not read, the last ones stay in force", "error", err)
		}
		select {
		case <-ctx.Done():
			<-done
			return nil
		case <-t.C:
		case <-changed:
		}
	}
}

// Load reads a new snapshot, where there is something new.
func (s *Store) Load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var r revision
	if err := s.db.QueryRow(ctx, revisionSQL).Scan(&r.sets, &r.versions, &r.changed); err != nil {
		return fmt.Errorf("read revision of dlp sets: %w", err)
	}
	if last := s.snap.Load(); last != nil && last.revision.equal(r) {
		return nil
	}
	sets, err := s.Sets(ctx)
	if err != nil {
		return err
	}
	prints, err := s.fingerprints(ctx, true)
	if err != nil {
		return err
	}
	snap, err := newSnapshot(r, sets, prints)
	if err != nil {
		return err
	}
	s.snap.Store(snap)
	return nil
}

// newSnapshot makes a matcher for each workspace and direction that has sets.
func newSnapshot(r revision, sets []Set, prints []Fingerprint) (*snapshot, error) {
	snap := &snapshot{revision: r, sets: sets, prints: prints, matchers: map[traffic]*matcher{}}
	for _, d := range []policy.Direction{policy.Inbound, policy.Outbound} {
		mine := map[uuid.UUID][]Set{}
		for _, x := range sets {
			if x.applies(d) {
				mine[x.Workspace] = append(mine[x.Workspace], x)
			}
		}
		for w, list := range mine {
			m, err := newMatcher(list, prints)
			if err != nil {
				return nil, err
			}
			snap.matchers[traffic{w, d}] = m
		}
	}
	return snap, nil
}

// Sets lists all sets by name, with their fingerprints.
func (s *Store) Sets(ctx context.Context) ([]Set, error) {
	rows, err := s.db.Query(ctx, setsSQL)
	if err != nil {
		return nil, fmt.Errorf("read dlp sets: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (x Set, err error) {
		var rules []byte
		if err = row.Scan(&x.ID, &x.Workspace, &x.Name, &x.Description, &x.Direction, &x.Enabled, &x.Class, &x.Score, &rules, &x.Version, &x.UpdatedAt); err != nil {
			return x, err
		}
		if err := json.Unmarshal(rules, &x.Rules); err != nil {
			return x, fmt.Errorf("rules of %s: %w", x.Name, err)
		}
		// What a migration or an older version has left out.
		return x, x.Rules.check()
	})
	if err != nil {
		return nil, fmt.Errorf("read dlp sets: %w", err)
	}
	prints, err := s.fingerprints(ctx, false)
	if err != nil {
		return nil, err
	}
	for i := range list {
		list[i].Fingerprints = []Fingerprint{}
		for _, f := range prints {
			if f.Set == list[i].ID {
				list[i].Fingerprints = append(list[i].Fingerprints, f)
			}
		}
	}
	return list, nil
}

// Get reads one set.
func (s *Store) Get(ctx context.Context, id uuid.UUID) (Set, error) {
	list, err := s.Sets(ctx)
	if err != nil {
		return Set{}, err
	}
	i := slices.IndexFunc(list, func(x Set) bool { return x.ID == id })
	if i < 0 {
		return Set{}, ErrNotFound
	}
	return list[i], nil
}

func (s *Store) fingerprints(ctx context.Context, hashes bool) ([]Fingerprint, error) {
	rows, err := s.db.Query(ctx, fingerprintsSQL, hashes)
	if err != nil {
		return nil, fmt.Errorf("read dlp fingerprints: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (f Fingerprint, err error) {
		var kept []int64
		err = row.Scan(&f.ID, &f.Set, &f.Name, &f.SHA256, &f.Words, &kept, &f.CreatedAt)
		for _, h := range kept {
			f.Hashes = append(f.Hashes, uint64(h))
		}
		return f, err
	})
	if err != nil {
		return nil, fmt.Errorf("read dlp fingerprints: %w", err)
	}
	return list, nil
}

// Create adds a set; it is in force from then on. A mistake in it is a
// *[policy.InvalidError].
func (s *Store) Create(ctx context.Context, actor pg.Actor, x Set) (Set, error) {
	if err := x.check(); err != nil {
		return Set{}, err
	}
	rules, err := json.Marshal(x.Rules)
	if err != nil {
		return Set{}, fmt.Errorf("encode dlp set: %w", err)
	}
	if x.ID, err = uuid.NewV7(); err != nil {
		return Set{}, fmt.Errorf("make id of dlp set: %w", err)
	}
	x.Fingerprints = []Fingerprint{}
	err = s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, insertSetSQL, x.ID, x.Workspace, x.Name, x.Description, x.Direction, x.Enabled, x.Class, x.Score, rules, maxSets).Scan(&x.Version, &x.UpdatedAt)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Set{}, ErrFull
	case pg.IsUnique(err, "dlp_set_name_idx"):
		return Set{}, ErrExists
	case err != nil:
		return Set{}, fmt.Errorf("create dlp set: %w", err)
	}
	return x, s.Load(ctx)
}

// Update changes a set. version is the one that the caller has read: when
// somebody else has changed it since, it is [ErrConflict]. nil is for who wants
// it so whatever was there. Workspace and fingerprints stay.
func (s *Store) Update(ctx context.Context, actor pg.Actor, x Set, version *int64) (Set, error) {
	if err := x.check(); err != nil {
		return Set{}, err
	}
	rules, err := json.Marshal(x.Rules)
	if err != nil {
		return Set{}, fmt.Errorf("encode dlp set: %w", err)
	}
	err = s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, updateSetSQL, x.ID, x.Name, x.Description, x.Direction, x.Enabled, x.Class, x.Score, rules, version).Scan(&x.Version, &x.UpdatedAt)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows) && version == nil:
		return Set{}, ErrNotFound
	case errors.Is(err, pgx.ErrNoRows):
		return Set{}, ErrConflict
	case pg.IsUnique(err, "dlp_set_name_idx"):
		return Set{}, ErrExists
	case err != nil:
		return Set{}, fmt.Errorf("change dlp set %s: %w", x.ID, err)
	}
	if err := s.Load(ctx); err != nil {
		return Set{}, err
	}
	return s.Get(ctx, x.ID)
}

// Delete takes a set away, with its fingerprints.
func (s *Store) Delete(ctx context.Context, actor pg.Actor, id uuid.UUID) error {
	err := s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, deleteSetSQL, id)
		if err == nil && tag.RowsAffected() == 0 {
			return ErrNotFound
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("delete dlp set %s: %w", id, err)
	}
	return s.Load(ctx)
}

// AddFingerprint teaches a set a document. Its text is not kept.
func (s *Store) AddFingerprint(ctx context.Context, actor pg.Actor, set uuid.UUID, d Document) (Fingerprint, error) {
	f, err := d.fingerprint()
	if err != nil {
		return f, err
	}
	if f.ID, err = uuid.NewV7(); err != nil {
		return f, fmt.Errorf("make id of fingerprint: %w", err)
	}
	f.Set = set
	hashes := make([]int64, len(f.Hashes))
	for i, h := range f.Hashes {
		hashes[i] = int64(h)
	}
	err = s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		var workspace uuid.UUID
		if err := tx.QueryRow(ctx, touchSetSQL, set).Scan(&workspace); errors.Is(err, pgx.ErrNoRows) {
			return ErrNotFound
		} else if err != nil {
			return err
		}
		err := tx.QueryRow(ctx, insertFingerprintSQL, f.ID, set, workspace, f.Name, f.SHA256, f.Words, hashes, MaxFingerprints).Scan(&f.CreatedAt)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrFull
		}
		return err
	})
	if err != nil {
		return f, fmt.Errorf("add fingerprint to dlp set %s: %w", set, err)
	}
	return f, s.Load(ctx)
}

// DeleteFingerprint makes a set forget a document.
func (s *Store) DeleteFingerprint(ctx context.Context, actor pg.Actor, set, id uuid.UUID) error {
	err := s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, deleteFingerprintSQL, set, id)
		if err == nil && tag.RowsAffected() == 0 {
			return ErrNotFound
		}
		if err == nil {
			_, err = tx.Exec(ctx, touchSetSQL, set)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("delete fingerprint of dlp set %s: %w", set, err)
	}
	return s.Load(ctx)
}

// Test says what a text would come to, by all detectors and those sets that
// want takes, enabled or not.
func (s *Store) Test(ctx context.Context, text string, want func(Set) bool) (Tested, error) {
	snap := s.snap.Load()
	if snap == nil {
		return Tested{}, errors.New("dlp: sets were never read")
	}
	var mine []Set
	for _, x := range snap.sets {
		if want(x) {
			mine = append(mine, x)
		}
	}
	return Test(ctx, text, mine, snap.prints)
}
