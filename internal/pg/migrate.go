package pg

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"mailward/migrations"
)

// RiverSchema is where the job queue keeps its own tables.
const RiverSchema = "river"

// ErrChangedMigration means that a migration file is not the one that was
// applied. Files are never edited after a release.
var ErrChangedMigration = errors.New("pg: an applied migration file was changed")

// ErrNewerSchema means that a newer program has migrated this database.
var ErrNewerSchema = errors.New("pg: the database was migrated by a newer version of mailward")

// MigrateOptions are what Migrate needs beside the connection.
type MigrateOptions struct {
	// AppPassword becomes the password of the runtime role, where it logs in
	// with one. Empty: left as it is.
	AppPassword string
	// Version of the program, for the record.
	Version string
	// AcceptGuard takes what the self-check of the guards complains about as
	// right from now on, on record: a superuser that the installation added,
	// say. Never set it without having looked at Findings.
	AcceptGuard bool
}

// MigrateReport says what Migrate did.
type MigrateReport struct {
	Applied  []string // file names, in order
	Guard    string   // full, or reduced where the migrating role is no superuser
	Findings []string // what the self-check of the guards complains about
}

// migration is one run of Migrate.
type migration struct {
	url  string
	opt  MigrateOptions
	log  *slog.Logger
	conn *pgx.Conn // holds the lock
	rep  MigrateReport
}

// Migrate brings the schema up to date. adminURL logs in as a superuser (or,
// at the price of a reduced guard, as a role that may create roles, and objects
// in the database). It is safe to run at every start and by several processes
// at once.
func Migrate(ctx context.Context, adminURL string, opt MigrateOptions, log *slog.Logger) (MigrateReport, error) {
	conn, err := connectAdmin(ctx, adminURL)
	if err != nil {
		return MigrateReport{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if opt.Version == "" {
		opt.Version = "unknown"
	}
	m := &migration{url: adminURL, opt: opt, log: log, conn: conn}
	for _, step := range []func(context.Context) error{
		m.lock, m.checkFiles, m.applyFiles, m.noteFiles, m.river, m.passwords, m.partitions, m.seal, m.report,
	} {
		if err := step(ctx); err != nil {
			return m.rep, err
		}
	}
	return m.rep, nil
}

func connectAdmin(ctx context.Context, url string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		// pgx's message can hold the password; the URL is the operator's to look at.
		return nil, errors.New("the URL for migrations is not a PostgreSQL connection string")
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to migrate: %w", err)
	}
	return conn, nil
}

func (m *migration) lock(ctx context.Context) error {
	if _, err := m.conn.Exec(ctx, migrateLockSQL); err != nil {
		return fmt.Errorf("wait for other migrations: %w", err)
	}
	return nil
}

// checkFiles compares what was applied with the files of this program, before
// anything is changed: history that can be edited is none.
func (m *migration) checkFiles(ctx context.Context) error {
	if _, err := m.conn.Exec(ctx, migrationFileTableSQL); err != nil {
		return fmt.Errorf("create table of migration files: %w", err)
	}
	ours, err := fileHashes()
	if err != nil {
		return err
	}
	rows, err := m.conn.Query(ctx, migrationFilesSQL)
	if err != nil {
		return fmt.Errorf("read table of migration files: %w", err)
	}
	var changed, unknown []string
	var name, sum string
	_, err = pgx.ForEachRow(rows, []any{&name, &sum}, func() error {
		if have, ok := ours[name]; !ok {
			unknown = append(unknown, name)
		} else if have != sum {
			changed = append(changed, name)
		}
		return nil
	})
	switch {
	case err != nil:
		return fmt.Errorf("read table of migration files: %w", err)
	case len(changed) > 0:
		return fmt.Errorf("%w: %s", ErrChangedMigration, strings.Join(changed, ", "))
	case len(unknown) > 0:
		return fmt.Errorf("%w: it has %s", ErrNewerSchema, strings.Join(unknown, ", "))
	}
	return nil
}

func fileHashes() (map[string]string, error) {
	names, err := fs.Glob(migrations.Files, "*.sql")
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	sums := make(map[string]string, len(names))
	for _, n := range names {
		b, err := migrations.Files.ReadFile(n)
		if err != nil {
			return nil, fmt.Errorf("read migration %s: %w", n, err)
		}
		sum := sha256.Sum256(b)
		sums[n] = hex.EncodeToString(sum[:])
	}
	return sums, nil
}

// applyFiles runs the files that are new, each in one transaction.
func (m *migration) applyFiles(ctx context.Context) error {
	db := stdlib.OpenDB(*m.conn.Config())
	defer db.Close()
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return fmt.Errorf("prepare migration lock: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, migrations.Files, goose.WithSessionLocker(locker), goose.WithSlog(m.log))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	results, err := p.Up(ctx)
	for _, r := range results {
		m.rep.Applied = append(m.rep.Applied, r.Source.Path)
	}
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

func (m *migration) noteFiles(ctx context.Context) error {
	ours, err := fileHashes()
	if err != nil {
		return err
	}
	for name, sum := range ours {
		if _, err := m.conn.Exec(ctx, noteMigrationFileSQL, name, sum); err != nil {
			return fmt.Errorf("note migration file %s: %w", name, err)
		}
	}
	return nil
}

// river keeps the job queue's tables in a schema of their own.
func (m *migration) river(ctx context.Context) error {
	pool, err := pgxpool.New(ctx, m.url)
	if err != nil {
		return fmt.Errorf("connect for the job queue's schema: %w", err)
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, riverSchemaSQL); err != nil {
		return fmt.Errorf("create the job queue's schema: %w", err)
	}
	r, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Schema: RiverSchema, Logger: m.log})
	if err != nil {
		return fmt.Errorf("prepare the job queue's migrations: %w", err)
	}
	if _, err := r.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return fmt.Errorf("migrate the job queue's schema: %w", err)
	}
	var granted bool
	if err := pool.QueryRow(ctx, riverGrantedSQL, RiverSchema, AppRole).Scan(&granted); err != nil {
		return fmt.Errorf("read rights on the job queue's tables: %w", err)
	}
	if granted {
		return nil
	}
	if _, err := pool.Exec(ctx, riverGrantSQL); err != nil {
		return fmt.Errorf("grant the job queue's tables: %w", err)
	}
	return nil
}

// maintained runs fn in a transaction that may change what is guarded.
func (m *migration) maintained(ctx context.Context, reason string, fn func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, m.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, maintenanceSQL, m.opt.Version, reason); err != nil {
			return fmt.Errorf("open the guarded schemas: %w", err)
		}
		return fn(tx)
	})
}

// passwords gives the runtime role its password, and the trace role a new
// random one where its connection does not work: at the first time, and when
// the database was copied or moved.
func (m *migration) passwords(ctx context.Context) error {
	if m.opt.AppPassword != "" {
		if err := setPassword(ctx, m.conn, AppRole, m.opt.AppPassword); err != nil {
			return err
		}
	}
	var level string
	var works bool
	if err := m.conn.QueryRow(ctx, guardLevelSQL).Scan(&level, &works); err != nil {
		return fmt.Errorf("try the tamper trace: %w", err)
	}
	if level != "full" || works {
		return nil
	}
	err := m.maintained(ctx, "a new password for the tamper trace", func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, repointSQL); err != nil {
			return fmt.Errorf("point the tamper trace at this server: %w", err)
		}
		password := rand.Text()
		if err := setPassword(ctx, tx, "mailward_trace", password); err != nil {
			return err
		}
		return execBuilt(ctx, tx, "let the guard log in as mailward_trace", mapTraceSQL, password)
	})
	if err != nil {
		return err
	}
	if err := m.conn.QueryRow(ctx, guardLevelSQL).Scan(&level, &works); err != nil {
		return fmt.Errorf("try the tamper trace: %w", err)
	}
	if !works {
		return errors.New("the tamper trace cannot log in: let the role mailward_trace log in over the server's own unix socket with a password (pg_hba.conf, above the other lines: local all mailward_trace scram-sha-256)")
	}
	return nil
}

// execer is a connection or a transaction.
type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func setPassword(ctx context.Context, db execer, role, password string) error {
	return execBuilt(ctx, db, "set password of "+role, setPasswordSQL, role, password)
}

// execBuilt runs a statement that the database itself builds and quotes, since
// such statements take no parameters. It may hold a password: its error does not.
func execBuilt(ctx context.Context, db execer, what, builder string, args ...any) error {
	var stmt string
	if err := db.QueryRow(ctx, builder, args...).Scan(&stmt); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if _, err := db.Exec(ctx, stmt); err != nil {
		return fmt.Errorf("%s: refused by the database", what)
	}
	return nil
}

// partitions makes those of the coming days. Where an open transaction holds
// the tables it is left to the running program, which tries each hour.
func (m *migration) partitions(ctx context.Context) error {
	_, err := m.conn.Exec(ctx, makePartitionsSQL)
	if IsLockTimeout(err) {
		m.log.Warn("partitions not made now: an open transaction holds the table", "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("make partitions: %w", err)
	}
	return nil
}

// seal notes the guards as they stand after new files, so that the self-check
// has something to compare with. It never does so without a reason: that would
// forgive whatever was done in between.
func (m *migration) seal(ctx context.Context) error {
	if len(m.rep.Applied) == 0 && !m.opt.AcceptGuard {
		return nil
	}
	reason := "migrations applied: " + strings.Join(m.rep.Applied, ", ")
	if m.opt.AcceptGuard {
		found, err := m.findings(ctx)
		if err != nil {
			return err
		}
		reason = "accepted by the operator: " + strings.Join(found, "; ")
	}
	return m.maintained(ctx, reason, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sealSQL); err != nil {
			return fmt.Errorf("seal the guards: %w", err)
		}
		return nil
	})
}

func (m *migration) findings(ctx context.Context) ([]string, error) {
	rows, err := m.conn.Query(ctx, findingsSQL)
	if err != nil {
		return nil, fmt.Errorf("check the guards: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("check the guards: %w", err)
	}
	return slices.Clip(found), nil
}

func (m *migration) report(ctx context.Context) (err error) {
	var works bool
	if err := m.conn.QueryRow(ctx, guardLevelSQL).Scan(&m.rep.Guard, &works); err != nil {
		return fmt.Errorf("read guard level: %w", err)
	}
	m.rep.Findings, err = m.findings(ctx)
	return err
}
