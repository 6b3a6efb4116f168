package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"syscall"
	"time"

	"mailward/internal/pg"
	"mailward/internal/standalone"
)

// needs is which servers a command works with.
type needs struct {
	database, redis, clamd, scanner bool
	// exclusive: never use the servers of another process, as `mailward serve`
	// does, which is to fail when it is started twice.
	exclusive bool
}

// backing is where those servers are: the configured ones, those of a running
// `mailward serve`, or some that were started for this command.
type backing struct {
	databaseURL    string
	adminURL       string // only of an embedded database
	redisURL       string
	clamd          string
	signatures     string // folder of clamd's signatures, where it is known
	clamdMaxFile   int64  // bytes; 0: not known
	scanner        string
	testSignatures func() bool
	stack          *standalone.Stack
}

// findServers starts what is needed, not configured and not running already.
func findServers(ctx context.Context, conf Config, n needs, log *slog.Logger) (*backing, error) {
	b := &backing{databaseURL: conf.Database.URL.Value(), redisURL: conf.Redis.URL.Value(), clamd: conf.ClamAV.Address, signatures: conf.ClamAV.Database, scanner: conf.Scanner.Socket,
		testSignatures: func() bool { return false }}
	own := standalone.Config{
		DataDir: conf.DataDir, Log: log, MaxMessageSize: int64(conf.SMTP.MaxMessageSize),
		Postgres: n.database && b.databaseURL == "", Redis: n.redis && b.redisURL == "",
		Clamd: n.clamd && b.clamd == "", Scanner: n.scanner && b.scanner == "",
	}
	for _, dir := range conf.Scanner.YaraRules {
		own.ScannerArgs = append(own.ScannerArgs, "--rules", dir) // it need not be there yet
	}
	if dir := conf.managedRules(); dir != "" {
		own.ScannerArgs = append(own.ScannerArgs, "--managed", dir)
	}
	if !own.Postgres && !own.Redis && !own.Clamd && !own.Scanner {
		return b, nil
	}
	stack := standalone.Addresses(conf.DataDir)
	if n.exclusive || !standalone.Running(conf.DataDir) {
		started, err := standalone.Start(ctx, own)
		if err != nil {
			return nil, err
		}
		stack, b.stack = started, started
		b.testSignatures = func() bool { return started.TestSignatures }
	}
	if own.Postgres {
		b.databaseURL, b.adminURL = stack.PostgresURL, stack.AdminURL
	}
	if own.Redis {
		b.redisURL = stack.RedisURL
	}
	if own.Clamd {
		b.clamd, b.signatures, b.clamdMaxFile = stack.ClamdAddress, stack.Signatures, standalone.ClamdMaxFile(own.MaxMessageSize)
	}
	if own.Scanner {
		b.scanner = stack.ScannerSocket
	}
	return b, nil
}

// stop ends what was started here.
func (b *backing) stop(ctx context.Context) {
	if b.stack != nil {
		b.stack.Stop(context.WithoutCancel(ctx))
	}
}

// reloadRules has a scanner of our own read its rules again.
func (b *backing) reloadRules() {
	if b.stack != nil {
		b.stack.Signal("scanner", syscall.SIGHUP)
	}
}

// openDatabase migrates an embedded database, opens the pool as the runtime
// role, and refuses one that may do too much.
func openDatabase(ctx context.Context, b *backing, log *slog.Logger) (*pg.DB, error) {
	if b.adminURL != "" && b.stack != nil {
		report, err := pg.Migrate(ctx, b.adminURL, pg.MigrateOptions{Version: version}, log)
		if err != nil {
			return nil, err
		}
		if len(report.Applied) > 0 {
			log.Info("database migrated", "files", report.Applied, "guard", report.Guard)
		}
	}
	db, err := pg.Open(ctx, b.databaseURL, log)
	if err != nil {
		return nil, err
	}
	if err := reachDatabase(ctx, db); err != nil {
		db.Close()
		return nil, err
	}
	if err := db.CheckPrivileges(ctx); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// reachLimit is how long a command waits for a database that is just starting.
const reachLimit = 20 * time.Second

// reachDatabase waits until the database answers and has our tables.
func reachDatabase(ctx context.Context, db *pg.DB) error {
	ctx, cancel := context.WithTimeout(ctx, reachLimit)
	defer cancel()
	for {
		err := hasTables(ctx, db)
		if err == nil || errors.Is(err, errNoTables) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("reach the database: %w; check that it runs and that database.url is right", err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

var errNoTables = errors.New("the database has no tables yet: run `mailward migrate` as a database superuser first")

func hasTables(ctx context.Context, db *pg.DB) error {
	attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := db.Acquire(attempt)
	if err != nil {
		return err
	}
	defer conn.Release()
	// Describing a statement needs the table, and no right to read it.
	_, err = conn.Conn().Prepare(attempt, "", pg.Query(queryFiles, "has_tables"))
	if err != nil && !pg.IsUnavailable(err) {
		return fmt.Errorf("%w (%v)", errNoTables, err)
	}
	return err
}

// databaseFor is findServers and openDatabase for a command that needs nothing else.
func databaseFor(ctx context.Context, conf Config, log *slog.Logger) (*pg.DB, func(), error) {
	b, err := findServers(ctx, conf, needs{database: true}, log)
	if err != nil {
		return nil, nil, err
	}
	db, err := openDatabase(ctx, b, log)
	if err != nil {
		b.stop(ctx)
		return nil, nil, err
	}
	return db, func() { db.Close(); b.stop(ctx) }, nil
}

// managedRules is the folder of the rule sets of the web UI; "": none is shared
// with the scanner.
func (c *Config) managedRules() string {
	if c.Scanner.ManagedRules == "" && c.Scanner.Socket == "" {
		return c.subdir("yara")
	}
	return c.Scanner.ManagedRules
}

// subdir is a folder below data_dir.
func (c *Config) subdir(name ...string) string {
	return filepath.Join(append([]string{c.DataDir}, name...)...)
}
