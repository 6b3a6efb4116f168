// Package standalone runs the servers that Mailward needs as private children:
// PostgreSQL, Redis, clamd and the scanner sidecar, from the packages that are
// installed on the machine, on unix sockets below one data folder.
//
// It is not on a mail's path. It exists so that one command is enough to try
// or to run a small installation, with the same SQL, triggers and code as with
// servers of one's own.
//
// The folder is locked by the process that uses it. A child that dies is
// started again; when the process ends, the children end in reverse order. If
// it was killed, they were told to end by the kernel, and whatever is still
// there at the next start is ended first, so that no server ever runs twice.
package standalone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// Users that the servers run as when we are root. `make setup` makes them.
const (
	DatabaseUser = "mailward-db"
	ScanUser     = "mailward-scan"
)

// maxSocketPath leaves room below the 108 bytes that a unix socket path may
// have, for the names that the servers add.
const maxSocketPath = 90

// ErrLocked means that another process uses the data folder.
var ErrLocked = errors.New("standalone: the data folder is in use by another mailward")

// Config says which servers to run, and where.
type Config struct {
	DataDir  string
	Postgres bool
	Redis    bool
	Clamd    bool
	Scanner  bool
	// ScannerBinary is the path of mailward-scanner. Default: beside our own binary.
	ScannerBinary string
	// ScannerArgs are given to it after --socket.
	ScannerArgs []string
	// MaxMessageSize in bytes: clamd must take at least that much.
	MaxMessageSize int64
	// TestSignaturesOnly makes clamd use the EICAR test set even where real signatures are found.
	TestSignaturesOnly bool
	// NoSync trades safety for speed. For tests only.
	NoSync bool
	Log    *slog.Logger
}

// Stack is the set of servers that runs.
type Stack struct {
	cfg      Config
	lock     *os.File
	children []*child // in the order of their start
	scratch  string   // clamd's temporary files, in memory; removed at the end

	// Addresses of what was asked for; empty otherwise.
	PostgresURL    string // as the runtime role
	AdminURL       string // as the superuser
	RedisURL       string
	ClamdAddress   string
	Signatures     string // folder of the signatures that clamd uses
	ScannerSocket  string
	TestSignatures bool // clamd knows only the EICAR test file
}

// Start runs the servers and returns when they answer. On an error nothing is
// left running. The servers live until [Stack.Stop], whatever becomes of ctx.
func Start(ctx context.Context, cfg Config) (*Stack, error) {
	if !filepath.IsAbs(cfg.DataDir) {
		return nil, fmt.Errorf("data_dir must be an absolute path, is %q", cfg.DataDir)
	}
	if p := filepath.Join(cfg.DataDir, "run", "scan", ".s.PGSQL.5432"); len(p) > maxSocketPath {
		return nil, fmt.Errorf("data_dir is too long for unix sockets: %q has %d bytes, at most %d work", p, len(p), maxSocketPath)
	}
	s := &Stack{cfg: cfg}
	if err := s.prepare(); err != nil {
		return nil, err
	}
	if err := s.startAll(ctx); err != nil {
		s.Stop(context.WithoutCancel(ctx))
		return nil, err
	}
	return s, nil
}

// Running says whether some other process holds the data folder, so that a
// command can use its servers instead of starting them.
func Running(dataDir string) bool {
	f, err := os.OpenFile(lockPath(dataDir), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil
}

// Addresses are those of the servers under dataDir, for commands that find them running.
func Addresses(dataDir string) *Stack {
	run := filepath.Join(dataDir, "run")
	return &Stack{
		PostgresURL:   "host=" + run + " user=mailward_app dbname=mailward",
		AdminURL:      "host=" + run + " user=postgres dbname=mailward",
		RedisURL:      "unix://" + filepath.Join(run, "redis.sock"),
		ClamdAddress:  "unix:" + filepath.Join(run, "clamd.sock"),
		ScannerSocket: filepath.Join(run, "scanner.sock"),
	}
}

func lockPath(dataDir string) string { return filepath.Join(dataDir, "mailward.lock") }

// prepare makes the folders and takes the lock.
func (s *Stack) prepare() error {
	d := s.cfg.DataDir
	// Others must be able to pass through to their own folders below.
	if err := os.MkdirAll(d, 0o755); err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	for _, sub := range []struct {
		name string
		mode os.FileMode
	}{{"run", 0o755}, {"log", 0o755}, {"pids", 0o700}} {
		p := filepath.Join(d, sub.name)
		if err := os.MkdirAll(p, sub.mode); err != nil {
			return fmt.Errorf("make data folder: %w", err)
		}
		if err := os.Chmod(p, sub.mode); err != nil {
			return fmt.Errorf("set mode of %s: %w", p, err)
		}
	}
	f, err := os.OpenFile(lockPath(d), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open lock of data folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return fmt.Errorf("%w: %s", ErrLocked, d)
	}
	s.lock = f
	return endLeftovers(filepath.Join(d, "pids"), s.cfg.Log)
}

func (s *Stack) startAll(ctx context.Context) error {
	// PostgreSQL takes longest, so the others start beside it.
	type result struct{ err error }
	steps := []struct {
		on bool
		fn func(context.Context) (*child, error)
	}{{s.cfg.Postgres, s.startPostgres}, {s.cfg.Redis, s.startRedis}, {s.cfg.Clamd, s.startClamd}, {s.cfg.Scanner, s.startScanner}}
	results := make([]chan result, len(steps))
	kids := make([]*child, len(steps))
	for i, st := range steps {
		if !st.on {
			continue
		}
		results[i] = make(chan result, 1)
		go func() {
			c, err := st.fn(ctx)
			kids[i] = c
			results[i] <- result{err}
		}()
	}
	var errs []error
	for i, ch := range results {
		if ch == nil {
			continue
		}
		r := <-ch
		errs = append(errs, r.err)
		if kids[i] != nil {
			s.children = append(s.children, kids[i])
		}
	}
	return errors.Join(errs...)
}

// Stop ends the servers, the last started first, and frees the folder.
func (s *Stack) Stop(ctx context.Context) {
	for i := len(s.children) - 1; i >= 0; i-- {
		s.children[i].stop(ctx)
	}
	s.children = nil
	if s.scratch != "" {
		os.RemoveAll(s.scratch) // what is left is found at the next start
	}
	if s.lock != nil {
		s.lock.Close()
		s.lock = nil
	}
}

// Signal sends a signal to one server, if it runs.
func (s *Stack) Signal(server string, sig syscall.Signal) {
	for _, c := range s.children {
		if c.name != server {
			continue
		}
		c.mu.Lock()
		if c.proc != nil {
			c.proc.Signal(sig)
		}
		c.mu.Unlock()
	}
}

// account is the identity that a server runs under.
type account struct {
	name     string
	cred     *syscall.Credential // nil: our own
	uid, gid int
}

// accountFor finds the user that a server is to run as. Only root can change
// to another one; anybody else runs everything as themselves.
func accountFor(name string) (account, error) {
	if os.Geteuid() != 0 {
		u, err := user.Current()
		if err != nil {
			return account{}, fmt.Errorf("find the current user: %w", err)
		}
		return account{name: u.Username, uid: os.Geteuid(), gid: os.Getegid()}, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return account{}, fmt.Errorf("the user %s does not exist: run `make setup`, or `useradd --system %s`", name, name)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return account{}, fmt.Errorf("read ids of user %s: %w", name, err)
	}
	return account{name: name, uid: uid, gid: gid, cred: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

// ownDir makes a folder that only the account may enter.
func (a account) ownDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	return a.chown(path)
}

func (a account) chown(path string) error {
	if a.cred == nil {
		return nil
	}
	if err := os.Chown(path, a.uid, a.gid); err != nil {
		return fmt.Errorf("give %s to %s: %w", path, a.name, err)
	}
	return nil
}
