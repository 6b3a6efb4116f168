// Package testenv gives tests the real servers: PostgreSQL, Redis, clamd and
// the scanner sidecar, started once per test binary, and a next hop that
// records what it gets and can be told to misbehave.
//
// A package that uses it runs its tests through [Main], which stops the servers
// again. A program that is not installed skips the test on a laptop and fails
// it where MAILWARD_TEST_REQUIRE is set.
package testenv

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
	"mailward/internal/standalone"
)

// environment is the servers of one test binary.
type environment struct {
	mu     sync.Mutex
	dirs   []string
	stacks []*standalone.Stack

	postgres  func() (*standalone.Stack, error)
	redis     func() (*standalone.Stack, error)
	sharedDir func() (string, error)
	clones    atomic.Int64
}

// env is the one global of this package: servers belong to the test binary.
var env = newEnvironment()

func newEnvironment() *environment {
	e := &environment{}
	e.postgres = sync.OnceValues(e.startPostgres)
	e.redis = sync.OnceValues(func() (*standalone.Stack, error) { return e.start(standalone.Config{Redis: true}) })
	e.sharedDir = sync.OnceValues(func() (string, error) {
		if d := os.Getenv(sharedEnv); d != "" {
			return d, nil
		}
		return e.tempDir()
	})
	return e
}

// Main runs a package's tests and stops the servers that they started.
func Main(m *testing.M) int {
	defer env.stop()
	return m.Run()
}

// Require skips the test when a program is missing, or fails it where
// MAILWARD_TEST_REQUIRE is set.
func Require(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			Missing(t, fmt.Errorf("%s is not installed", p))
		}
	}
}

// Missing skips a test that lacks something, or fails it where
// MAILWARD_TEST_REQUIRE is set.
func Missing(t testing.TB, err error) {
	t.Helper()
	if os.Getenv("MAILWARD_TEST_REQUIRE") != "" {
		t.Fatal(err)
	}
	t.Skip(err)
}

func (e *environment) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.stacks {
		s.Stop(context.Background())
	}
	for _, d := range e.dirs {
		os.RemoveAll(d)
	}
}

// tempDir makes a folder with a short path that every user can pass through.
func (e *environment) tempDir() (string, error) {
	d, err := os.MkdirTemp("", "mwt")
	if err != nil {
		return "", err
	}
	e.mu.Lock()
	e.dirs = append(e.dirs, d)
	e.mu.Unlock()
	return d, os.Chmod(d, 0o755)
}

// testConfig is what all servers of tests have in common.
func testConfig(cfg standalone.Config) standalone.Config {
	cfg.NoSync, cfg.TestSignaturesOnly, cfg.Log = true, true, slog.New(slog.DiscardHandler)
	return cfg
}

// start runs servers until the end of the test binary, in a folder of their own
// where cfg names none.
func (e *environment) start(cfg standalone.Config) (*standalone.Stack, error) {
	if cfg.DataDir == "" {
		d, err := e.tempDir()
		if err != nil {
			return nil, err
		}
		cfg.DataDir = filepath.Join(d, "d")
	}
	s, err := standalone.Start(context.Background(), testConfig(cfg))
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	e.stacks = append(e.stacks, s)
	e.mu.Unlock()
	return s, nil
}

func (e *environment) startPostgres() (*standalone.Stack, error) {
	d, err := e.tempDir()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(d, "d")
	if err := e.copyCluster(dir); err != nil {
		return nil, err
	}
	return e.start(standalone.Config{Postgres: true, DataDir: dir})
}

// errMigration is no lack of the machine but a fault of ours: it never skips.
var errMigration = errors.New("testenv: the migrations do not apply")

// DB is a migrated database of one test.
type DB struct {
	*pg.DB          // as the runtime role
	URL      string // of the runtime role
	AdminURL string // of the superuser
}

// Admin connects as the superuser.
func (d *DB) Admin(t testing.TB) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(context.Background(), d.AdminURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

// Postgres gives the test a database of its own: a copy of a migrated one.
func Postgres(t testing.TB) *DB {
	t.Helper()
	s, err := env.postgres()
	if errors.Is(err, errMigration) {
		t.Fatal(err)
	}
	if err != nil {
		Missing(t, err)
	}
	ctx := context.Background()
	name := fmt.Sprintf("t%d", env.clones.Add(1))
	admin, err := pgx.Connect(ctx, s.AdminURL+" dbname=postgres")
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(ctx)
	// Copies of one template are made one after the other; PostgreSQL refuses a
	// copy while somebody is connected to the template. Through its log, page by
	// page, a copy costs five times as much.
	env.mu.Lock()
	_, err = admin.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE mailward STRATEGY file_copy")
	env.mu.Unlock()
	if err != nil {
		t.Fatalf("copy template database: %v", err)
	}
	d := &DB{URL: s.PostgresURL + " dbname=" + name, AdminURL: s.AdminURL + " dbname=" + name}
	a, err := pgx.Connect(ctx, d.AdminURL)
	if err != nil {
		t.Fatal(err)
	}
	// The copy's tamper trace must reach the copy.
	if _, err := a.Exec(ctx, "SELECT guard.repoint()"); err != nil {
		t.Fatal(err)
	}
	a.Close(ctx)
	if d.DB, err = pg.Open(ctx, d.URL, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.DB.Close()
		drop(s, name)
	})
	return d
}

// PrepareQueries has PostgreSQL read every embedded query of a package, so that
// one that no longer fits the tables fails here and not at its first use.
func PrepareQueries(t testing.TB, files embed.FS) {
	t.Helper()
	list, err := files.ReadDir("queries")
	if err != nil || len(list) == 0 {
		t.Fatalf("no queries: %v", err)
	}
	conn := Postgres(t).Admin(t)
	for _, f := range list {
		if _, err := conn.Prepare(context.Background(), f.Name(), pg.Query(files, strings.TrimSuffix(f.Name(), ".sql"))); err != nil {
			t.Errorf("%s: %v", f.Name(), err)
		}
	}
}

func drop(s *standalone.Stack, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, s.AdminURL+" dbname=postgres")
	if err != nil {
		return
	}
	defer c.Close(ctx)
	c.Exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
}

// Redis gives the URL of a Redis that the whole test binary shares: use keys of your own.
func Redis(t testing.TB) string {
	t.Helper()
	s, err := env.redis()
	if err != nil {
		Missing(t, err)
	}
	return s.RedisURL
}

// Server is one server of one test, which may stop and start it.
type Server struct {
	t     testing.TB
	cfg   standalone.Config
	stack *standalone.Stack
	// Address is unix:/path of clamd, or the path of the sidecar's socket.
	Address string
}

// Clamd starts a real clamd that knows only the EICAR test file.
func Clamd(t testing.TB) *Server { return ownServer(t, standalone.Config{Clamd: true}) }

// Sidecar starts a real scanner sidecar with the rules in the given folders.
func Sidecar(t testing.TB, rules ...string) *Server {
	t.Helper()
	bin, err := Program("mailward-scanner")
	if err != nil {
		Missing(t, err)
	}
	cfg := standalone.Config{Scanner: true, ScannerBinary: bin}
	for _, r := range rules {
		abs, err := filepath.Abs(r)
		if err != nil {
			t.Fatal(err)
		}
		cfg.ScannerArgs = append(cfg.ScannerArgs, "--rules", abs)
	}
	return ownServer(t, cfg)
}

// SidecarWith starts a real scanner sidecar with arguments of its own.
func SidecarWith(t testing.TB, args ...string) *Server {
	t.Helper()
	bin, err := Program("mailward-scanner")
	if err != nil {
		Missing(t, err)
	}
	return ownServer(t, standalone.Config{Scanner: true, ScannerBinary: bin, ScannerArgs: args})
}

func ownServer(t testing.TB, cfg standalone.Config) *Server {
	t.Helper()
	d, err := env.tempDir()
	if err != nil {
		t.Fatal(err)
	}
	cfg.DataDir, cfg.TestSignaturesOnly, cfg.Log = filepath.Join(d, "d"), true, slog.New(slog.DiscardHandler)
	s := &Server{t: t, cfg: cfg}
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// Start starts the server again after Stop.
func (s *Server) Start() {
	s.t.Helper()
	st, err := standalone.Start(context.Background(), s.cfg)
	if err != nil {
		Missing(s.t, err)
	}
	s.stack = st
	if s.Address = st.ClamdAddress; s.cfg.Scanner {
		s.Address = st.ScannerSocket
	}
}

// Stop ends the server.
func (s *Server) Stop() {
	if s.stack != nil {
		s.stack.Stop(context.Background())
		s.stack = nil
	}
}
