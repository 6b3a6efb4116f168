package ruleset

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
	"mailward/policy"
	"mailward/quarantine"
	"mailward/scanner"
)

//go:embed queries/*.sql
var queryFiles embed.FS

var (
	setsSQL             = pg.Query(queryFiles, "sets")
	bundleSQL           = pg.Query(queryFiles, "bundle")
	versionsSQL         = pg.Query(queryFiles, "versions")
	versionSQL          = pg.Query(queryFiles, "version")
	insertSetSQL        = pg.Query(queryFiles, "insert_set")
	insertVersionSQL    = pg.Query(queryFiles, "insert_version")
	lockSQL             = pg.Query(queryFiles, "lock")
	namesSQL            = pg.Query(queryFiles, "names")
	updateSetSQL        = pg.Query(queryFiles, "update_set")
	deleteSetSQL        = pg.Query(queryFiles, "delete_set")
	filesOffSQL         = pg.Query(queryFiles, "files_off")
	switchOffSQL        = pg.Query(queryFiles, "switch_off")
	switchOnSQL         = pg.Query(queryFiles, "switch_on")
	enabledCountSQL     = pg.Query(queryFiles, "enabled_count")
	noteSlowSQL         = pg.Query(queryFiles, "note_slow")
	slowSQL             = pg.Query(queryFiles, "slow")
	insertBacktestSQL   = pg.Query(queryFiles, "insert_backtest")
	backtestsSQL        = pg.Query(queryFiles, "backtests")
	openBacktestsSQL    = pg.Query(queryFiles, "open_backtests")
	claimBacktestSQL    = pg.Query(queryFiles, "claim_backtest")
	progressBacktestSQL = pg.Query(queryFiles, "progress_backtest")
	finishBacktestSQL   = pg.Query(queryFiles, "finish_backtest")
)

// Bounds of what is in force together.
const (
	maxEnabled = scanner.MaxRuleSets
	maxTotal   = 10 << 20 // bytes of source
)

// Deps are what a Store stands on.
type Deps struct {
	DB         *pg.DB
	Sidecar    *scanner.Sidecar
	Quarantine *quarantine.Store
	Audit      *audit.Log
	Log        *slog.Logger
}

// Store keeps the rule sets.
type Store struct {
	dir   string // that the sidecar watches; "": it cannot be reached that way
	deps  Deps
	log   *slog.Logger
	now   func() time.Time
	owner uuid.UUID // of the trials that run here
	wake  chan struct{}

	// compiling lets one set at a time be compiled for a person: mails need the
	// sidecar's workers too.
	compiling chan struct{}

	mu      sync.Mutex // guards all below
	problem string     // why the last try to write failed
	differs time.Time  // since when other rules are in force than should be
}

// New returns a Store that writes what is to be in force into dir. An empty dir
// is for a sidecar that no folder is shared with: sets are kept, and never used.
func New(dir string, deps Deps) *Store {
	return &Store{dir: dir, deps: deps, log: deps.Log, now: time.Now, owner: uuid.New(), wake: make(chan struct{}, 1), compiling: make(chan struct{}, 1)}
}

// List reads all sets, by name.
func (s *Store) List(ctx context.Context) ([]Set, error) { return s.sets(ctx, nil) }

// Get reads one set.
func (s *Store) Get(ctx context.Context, id uuid.UUID) (Set, error) {
	list, err := s.sets(ctx, &id)
	if err == nil && len(list) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Set{}, err
	}
	return list[0], nil
}

func (s *Store) sets(ctx context.Context, id *uuid.UUID) ([]Set, error) {
	rows, err := s.deps.DB.Query(ctx, setsSQL, id)
	if err != nil {
		return nil, fmt.Errorf("read rule sets: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (x Set, err error) {
		err = row.Scan(&x.ID, &x.Name, &x.Description, &x.Class, &x.Score, &x.Enabled, &x.Number, &x.Latest, &x.Rules, &x.SHA256, &x.Version, &x.CreatedAt, &x.UpdatedAt)
		return x, err
	})
	if err != nil {
		return nil, fmt.Errorf("read rule sets: %w", err)
	}
	return list, nil
}

// Versions lists the last 200 versions of a set, the newest first, without their sources.
func (s *Store) Versions(ctx context.Context, id uuid.UUID) ([]SetVersion, error) {
	rows, err := s.deps.DB.Query(ctx, versionsSQL, id)
	if err != nil {
		return nil, fmt.Errorf("read versions of rule set %s: %w", id, err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (v SetVersion, err error) {
		err = row.Scan(&v.Number, &v.SHA256, &v.Rules, &v.Comment, &v.Author, &v.CreatedAt)
		return v, err
	})
}

// Source reads one version with its source.
func (s *Store) Source(ctx context.Context, id uuid.UUID, number int) (v SetVersion, err error) {
	err = s.deps.DB.QueryRow(ctx, versionSQL, id, number).Scan(&v.Number, &v.SHA256, &v.Rules, &v.Comment, &v.Author, &v.CreatedAt, &v.Source)
	if err == pgx.ErrNoRows {
		return v, ErrNotFound
	}
	if err != nil {
		return v, fmt.Errorf("read version %d of rule set %s: %w", number, id, err)
	}
	return v, nil
}

// Check compiles a draft in the sidecar, and looks for rules whose names others
// have. id is the set that the draft is of; zero: a new one.
func (s *Store) Check(ctx context.Context, id uuid.UUID, d Draft) (scanner.Compiled, error) {
	if d.Name == "" {
		d.Name = "draft" // It may get its name later.
	}
	if err := d.check(); err != nil {
		return scanner.Compiled{}, err
	}
	c, err := s.compile(ctx, id, d)
	if err != nil || !c.OK {
		return c, err
	}
	err = pgx.BeginTxFunc(ctx, s.deps.DB, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error { return s.clashes(ctx, tx, id, &c) })
	return c, err
}

// compile has a draft compiled, one at a time.
func (s *Store) compile(ctx context.Context, id uuid.UUID, d Draft) (scanner.Compiled, error) {
	select {
	case s.compiling <- struct{}{}:
		defer func() { <-s.compiling }()
	case <-ctx.Done():
		return scanner.Compiled{}, ctx.Err()
	}
	c, err := s.deps.Sidecar.CompileRules(ctx, d.ruleSet(id, 1))
	if err != nil || !c.OK {
		return c, err
	}
	spaces, _, err := s.deps.Sidecar.RulesInForce(ctx)
	if err != nil {
		return c, err
	}
	files := map[string]string{}
	for _, space := range spaces {
		for _, r := range space.Rules {
			if space.Set == "" {
				files[r] = space.Space
			}
		}
	}
	for _, r := range c.Rules {
		if file, ok := files[r.Name]; ok {
			c.Add(scanner.RuleIssue{Error: true, Line: r.Line, Rule: r.Name, Text: "the file " + file + " has a rule of this name"})
		}
	}
	return c, nil
}

// clashes adds an issue for each rule whose name another set has.
func (s *Store) clashes(ctx context.Context, tx pgx.Tx, id uuid.UUID, c *scanner.Compiled) error {
	rows, err := tx.Query(ctx, namesSQL, id)
	if err != nil {
		return fmt.Errorf("read names of rules: %w", err)
	}
	names := map[string]string{}
	var rule, set string
	if _, err := pgx.ForEachRow(rows, []any{&rule, &set}, func() error { names[rule] = set; return nil }); err != nil {
		return fmt.Errorf("read names of rules: %w", err)
	}
	for _, r := range c.Rules {
		if other, ok := names[r.Name]; ok {
			c.Add(scanner.RuleIssue{Error: true, Line: r.Line, Rule: r.Name, Text: "the set " + other + " has a rule of this name"})
		}
	}
	return nil
}

// Create adds a set. It is not enabled: that is a step of its own.
func (s *Store) Create(ctx context.Context, actor pg.Actor, d Draft) (Set, scanner.Compiled, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Set{}, scanner.Compiled{}, fmt.Errorf("make id of rule set: %w", err)
	}
	if err := d.check(); err != nil {
		return Set{}, scanner.Compiled{}, err
	}
	c, err := s.compile(ctx, id, d)
	if err != nil {
		return Set{}, c, fmt.Errorf("check rule set %s: %w", d.Name, err)
	}
	err = s.act(ctx, actor, id, &c, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, insertSetSQL, id, d.Name, d.Description, string(d.Class), d.Score); err != nil {
			return err
		}
		_, err := addVersion(ctx, tx, actor, id, d, c)
		return err
	})
	if err != nil {
		return Set{}, c, fmt.Errorf("create rule set %s: %w", d.Name, err)
	}
	set, err := s.Get(ctx, id)
	return set, c, err
}

// act changes sets in one transaction, after a look for rules of the same name.
func (s *Store) act(ctx context.Context, actor pg.Actor, id uuid.UUID, c *scanner.Compiled, fn func(context.Context, pgx.Tx) error) error {
	if !c.OK {
		return &BrokenError{*c}
	}
	err := s.deps.DB.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockSQL); err != nil {
			return fmt.Errorf("wait for another change of rule sets: %w", err)
		}
		if err := s.clashes(ctx, tx, id, c); err != nil {
			return err
		}
		if !c.OK {
			return &BrokenError{*c}
		}
		return fn(ctx, tx)
	})
	if pg.IsUnique(err, "yara_set_name_idx") {
		return ErrExists
	}
	return err
}

func addVersion(ctx context.Context, tx pgx.Tx, actor pg.Actor, id uuid.UUID, d Draft, c scanner.Compiled) (number int, err error) {
	vid, err := uuid.NewV7()
	if err != nil {
		return 0, fmt.Errorf("make id of version: %w", err)
	}
	var author *uuid.UUID
	if actor.UserID != uuid.Nil {
		author = &actor.UserID
	}
	sum := sha256.Sum256([]byte(d.Source))
	err = tx.QueryRow(ctx, insertVersionSQL, vid, id, d.Source, hex.EncodeToString(sum[:]), ruleNames(c), d.Comment, author, actor.Display).Scan(&number)
	if err != nil {
		return 0, fmt.Errorf("add version: %w", err)
	}
	return number, nil
}

func ruleNames(c scanner.Compiled) []string {
	names := []string{}
	for _, r := range c.Rules {
		names = append(names, r.Name)
	}
	return names
}

// change is what one act does to a set, beside a new version.
type change struct {
	set     Set // as it shall be
	version int64
}

// Update changes a set that is still in the version that the caller has read. A
// source that differs from the newest version makes a new one, which is put to
// use at once unless the draft says later.
func (s *Store) Update(ctx context.Context, actor pg.Actor, id uuid.UUID, version int64, d Draft) (Set, scanner.Compiled, error) {
	if err := d.check(); err != nil {
		return Set{}, scanner.Compiled{}, err
	}
	set, err := s.Get(ctx, id)
	if err != nil {
		return Set{}, scanner.Compiled{}, err
	}
	latest, err := s.Source(ctx, id, set.Latest)
	if err != nil {
		return Set{}, scanner.Compiled{}, err
	}
	c, err := s.compile(ctx, id, d)
	if err != nil {
		return Set{}, c, fmt.Errorf("check rule set %s: %w", d.Name, err)
	}
	err = s.act(ctx, actor, id, &c, func(ctx context.Context, tx pgx.Tx) error {
		number := set.Latest
		if d.Source != latest.Source {
			if number, err = addVersion(ctx, tx, actor, id, d, c); err != nil {
				return err
			}
		}
		set.Name, set.Description, set.Class, set.Score = d.Name, d.Description, d.Class, d.Score
		if !d.Later {
			set.Number = number
		}
		return store(ctx, tx, change{set, version})
	})
	if err != nil {
		return Set{}, c, fmt.Errorf("change rule set %s: %w", id, err)
	}
	set, err = s.Get(ctx, id)
	return set, c, err
}

// Use puts another version of a set to use: an older one, or one that was only stored.
func (s *Store) Use(ctx context.Context, actor pg.Actor, id uuid.UUID, version int64, number int) (Set, error) {
	return s.switchTo(ctx, actor, id, version, func(set *Set) { set.Number = number })
}

// Enable puts a set into force, or takes it out.
func (s *Store) Enable(ctx context.Context, actor pg.Actor, id uuid.UUID, version int64, on bool) (Set, error) {
	return s.switchTo(ctx, actor, id, version, func(set *Set) { set.Enabled = on })
}

// switchTo changes which rules are in force. What comes into force is compiled
// once more: libyara may be another one than when it was stored.
func (s *Store) switchTo(ctx context.Context, actor pg.Actor, id uuid.UUID, version int64, to func(*Set)) (Set, error) {
	set, err := s.Get(ctx, id)
	if err != nil {
		return Set{}, err
	}
	to(&set)
	src, err := s.Source(ctx, id, set.Number)
	if err != nil {
		return Set{}, err
	}
	c := scanner.Compiled{OK: true}
	if set.Enabled {
		d := Draft{Name: set.Name, Class: set.Class, Score: set.Score, Source: src.Source}
		if c, err = s.compile(ctx, id, d); err != nil {
			return Set{}, fmt.Errorf("check rule set %s: %w", set.Name, err)
		}
	}
	err = s.act(ctx, actor, id, &c, func(ctx context.Context, tx pgx.Tx) error { return store(ctx, tx, change{set, version}) })
	if err != nil {
		return Set{}, fmt.Errorf("change rule set %s: %w", id, err)
	}
	return s.Get(ctx, id)
}

func store(ctx context.Context, tx pgx.Tx, ch change) error {
	set := ch.set
	if set.Enabled {
		var count int
		var bytes int64
		if err := tx.QueryRow(ctx, enabledCountSQL, set.ID).Scan(&count, &bytes); err != nil {
			return fmt.Errorf("count enabled sets: %w", err)
		}
		if count >= maxEnabled || bytes > maxTotal-scanner.MaxRuleSource {
			return ErrTooMany
		}
	}
	tag, err := tx.Exec(ctx, updateSetSQL, set.ID, ch.version, set.Name, set.Description, string(set.Class), set.Score, set.Number, set.Enabled)
	if err == nil && tag.RowsAffected() == 0 {
		return ErrConflict
	}
	return err
}

// Delete takes a set out of use for good. Its versions stay, since hits name them.
func (s *Store) Delete(ctx context.Context, actor pg.Actor, id uuid.UUID, version int64) error {
	if _, err := s.Get(ctx, id); err != nil {
		return err
	}
	err := s.deps.DB.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, deleteSetSQL, id, version)
		if err == nil && tag.RowsAffected() == 0 {
			return ErrConflict
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("delete rule set %s: %w", id, err)
	}
	return nil
}

// slowFor is how long a rule that took too long is spoken of.
const slowFor = 30 * 24 * time.Hour

// Slow lists the rules that took too long on mails in the last 30 days.
func (s *Store) Slow(ctx context.Context) ([]SlowCount, error) {
	rows, err := s.deps.DB.Query(ctx, slowSQL, s.now().Add(-slowFor))
	if err != nil {
		return nil, fmt.Errorf("read slow rules: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (x SlowCount, err error) {
		err = row.Scan(&x.Space, &x.Number, &x.Rule, &x.Times, &x.LastAt)
		return x, err
	})
}

// noteSlow counts a rule that the sidecar has named.
func (s *Store) noteSlow(ctx context.Context, r scanner.SlowRule) error {
	space, number := r.Space, 0
	if r.Set != "" {
		space, number = r.Set, r.Version
	}
	return s.deps.DB.Act(ctx, pg.System("scanner", "slow rule"), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, noteSlowSQL, space, number, r.Rule)
		return err
	})
}

// ruleSet is a stored version as the sidecar takes it.
func ruleSet(set Set, v SetVersion) scanner.RuleSet {
	return scanner.RuleSet{ID: set.ID.String(), Name: set.Name, Version: v.Number, Class: policy.Class(set.Class), Score: set.Score, Source: v.Source}
}
