package pg

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/jackc/pgx/v5/pgxpool"

	"mailward/migrations"
)

// RiverSchema is where the job queue keeps its own tables.
const RiverSchema = "river"

// ErrChangedMigration means that a migration file is not the one that was
// applied. Files are never edited after a release.
var ErrChangedMigration = errors.New("pg: an applied migration file was changed")

// MigrateOptions are what Migrate needs beside the connection.
type MigrateOptions struct {
	// AppPassword becomes the password of the runtime role, where it logs in
	// with one. Empty: left as it is.
	AppPassword string
	// Version of the program, for the record.
	Version string
}

// MigrateReport says what Migrate did.
type MigrateReport struct {
	Applied []string // file names, in order
	Guard   string   // full, or reduced where the migrating role is no superuser
}

// Migrate brings the schema up to date. adminURL logs in as a superuser (or,
// at the price of a reduced guard, as a role that may create roles and
// databases objects). It is safe to run at every start and by several processes
// at once.
func Migrate(ctx context.Context, adminURL string, opt MigrateOptions, log *slog.Logger) (MigrateReport, error) {
	var rep MigrateReport
	cfg, err := pgx.ParseConfig(adminURL)
	if err != nil {
		return rep, errors.New("the URL for migrations is not a PostgreSQL connection string")
	}
	db := stdlib.OpenDB(*cfg)
	defer db.Close()
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return rep, fmt.Errorf("prepare migration lock: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, migrations.Files, goose.WithSessionLocker(locker), goose.WithSlog(log))
	if err != nil {
		return rep, fmt.Errorf("read migrations: %w", err)
	}
	results, err := p.Up(ctx)
	if err != nil {
		return rep, fmt.Errorf("migrate: %w", err)
	}
	for _, r := range results {
		rep.Applied = append(rep.Applied, r.Source.Path)
	}
	if err := checkFiles(ctx, db); err != nil {
		return rep, err
	}
	if err := migrateRiver(ctx, adminURL); err != nil {
		return rep, err
	}
	if err := setPasswords(ctx, db, opt); err != nil {
		return rep, err
	}
	if _, err := db.ExecContext(ctx, "SELECT guard.make_partitions()"); err != nil {
		return rep, fmt.Errorf("make partitions: %w", err)
	}
	if err := db.QueryRowContext(ctx, "SELECT level FROM guard.level").Scan(&rep.Guard); err != nil {
		return rep, fmt.Errorf("read guard level: %w", err)
	}
	return rep, nil
}

// checkFiles remembers the hash of each file at its first use and compares
// later: history that can be edited is none.
func checkFiles(ctx context.Context, db *sql.DB) error {
	const create = `CREATE TABLE IF NOT EXISTS migration_file (name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())`
	if _, err := db.ExecContext(ctx, create); err != nil {
		return fmt.Errorf("create table of migration files: %w", err)
	}
	names, err := fs.Glob(migrations.Files, "*.sql")
	if err != nil {
		return err
	}
	var changed []string
	for _, n := range names {
		b, err := migrations.Files.ReadFile(n)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(b)
		var stored string
		err = db.QueryRowContext(ctx, `INSERT INTO migration_file (name, sha256) VALUES ($1, $2)
			ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING sha256`, n, hex.EncodeToString(sum[:])).Scan(&stored)
		if err != nil {
			return fmt.Errorf("note migration file %s: %w", n, err)
		}
		if stored != hex.EncodeToString(sum[:]) {
			changed = append(changed, n)
		}
	}
	if len(changed) > 0 {
		return fmt.Errorf("%w: %s", ErrChangedMigration, strings.Join(changed, ", "))
	}
	return nil
}

// migrateRiver keeps the job queue's tables in a schema of their own.
func migrateRiver(ctx context.Context, adminURL string) error {
	pool, err := pgxpool.New(ctx, adminURL)
	if err != nil {
		return fmt.Errorf("connect for the job queue's schema: %w", err)
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS "+RiverSchema); err != nil {
		return fmt.Errorf("create the job queue's schema: %w", err)
	}
	m, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Schema: RiverSchema})
	if err != nil {
		return fmt.Errorf("prepare the job queue's migrations: %w", err)
	}
	if _, err := m.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return fmt.Errorf("migrate the job queue's schema: %w", err)
	}
	grants := fmt.Sprintf(`GRANT USAGE ON SCHEMA %[1]s TO %[2]s;
		GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %[1]s TO %[2]s;
		GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA %[1]s TO %[2]s;
		GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA %[1]s TO %[2]s`, RiverSchema, AppRole)
	if _, err := pool.Exec(ctx, grants); err != nil {
		return fmt.Errorf("grant the job queue's tables: %w", err)
	}
	return nil
}

// setPasswords gives the runtime role its password, and the trace role a new
// random one where its connection does not work yet.
func setPasswords(ctx context.Context, db *sql.DB, opt MigrateOptions) error {
	if opt.AppPassword != "" {
		if err := setPassword(ctx, db, AppRole, opt.AppPassword); err != nil {
			return err
		}
	}
	var level string
	var works bool
	if err := db.QueryRowContext(ctx, "SELECT level, guard.trace_works() FROM guard.level").Scan(&level, &works); err != nil {
		return fmt.Errorf("try the tamper trace: %w", err)
	}
	if level != "full" || works {
		return nil
	}
	password := rand.Text()
	if err := setPassword(ctx, db, "mailward_trace", password); err != nil {
		return err
	}
	// The password stands in a user mapping, since everyone can read a function's source.
	_, err := db.ExecContext(ctx, fmt.Sprintf(`CREATE USER MAPPING IF NOT EXISTS FOR mailward_guard SERVER mailward_loopback OPTIONS (user 'mailward_trace', password '');
		ALTER USER MAPPING FOR mailward_guard SERVER mailward_loopback OPTIONS (SET password '%s')`, password))
	if err != nil {
		return fmt.Errorf("map the trace role: %w", err)
	}
	if err := db.QueryRowContext(ctx, "SELECT guard.trace_works()").Scan(&works); err != nil || !works {
		return fmt.Errorf("the tamper trace cannot log in: let the role mailward_trace log in over the server's own unix socket with a password (pg_hba: local all mailward_trace scram-sha-256): %v", err)
	}
	return nil
}

func setPassword(ctx context.Context, db *sql.DB, role, password string) error {
	var stmt string
	if err := db.QueryRowContext(ctx, "SELECT format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text)", role, password).Scan(&stmt); err != nil {
		return fmt.Errorf("set password of %s: %w", role, err)
	}
	if _, err := db.ExecContext(ctx, stmt); err != nil {
		// The statement holds the password: its error must not.
		return fmt.Errorf("set password of %s: refused by the database", role)
	}
	return nil
}
