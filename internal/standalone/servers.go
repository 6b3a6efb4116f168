package standalone

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// startPostgres runs a cluster of its own under <data_dir>/postgres.
func (s *Stack) startPostgres(ctx context.Context) (*child, error) {
	bin, err := postgresBin()
	if err != nil {
		return nil, err
	}
	acc, err := accountFor(DatabaseUser)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(s.cfg.DataDir, "postgres")
	if err := acc.ownDir(dir); err != nil {
		return nil, err
	}
	run, err := s.socketDir("db", acc, ".s.PGSQL.5432")
	if err != nil {
		return nil, err
	}
	if err := s.initCluster(ctx, bin, dir, acc); err != nil {
		return nil, err
	}
	if err := s.writePostgresConf(dir, acc); err != nil {
		return nil, err
	}
	a := Addresses(s.cfg.DataDir)
	s.PostgresURL, s.AdminURL = a.PostgresURL, a.AdminURL
	c := s.child("postgres", syscall.SIGINT, acc, filepath.Join(bin, "postgres"), "-D", dir, "-k", run)
	c.ready = func(ctx context.Context) error { return ensureDatabase(ctx, run) }
	if err := c.run(ctx); err != nil {
		return c, err
	}
	return c, nil
}

// postgresBin finds the newest PostgreSQL that the distribution has installed.
func postgresBin() (string, error) {
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(dirs) == 0 {
		if p, err := exec.LookPath("postgres"); err == nil {
			return filepath.Dir(p), nil
		}
		return "", errors.New("PostgreSQL is not installed: run `make setup`, or set database.url")
	}
	return filepath.Dir(dirs[len(dirs)-1]), nil
}

func (s *Stack) initCluster(ctx context.Context, bin, dir string, acc account) error {
	if _, err := os.Stat(filepath.Join(dir, "PG_VERSION")); err == nil {
		return nil
	}
	// A first start that was killed leaves a folder that initdb refuses.
	tmp := dir + ".new"
	if err := os.RemoveAll(tmp); err != nil {
		return fmt.Errorf("remove half-made cluster: %w", err)
	}
	if err := acc.ownDir(tmp); err != nil {
		return err
	}
	args := []string{"-D", tmp, "-U", "postgres", "-A", "peer", "-E", "UTF8", "--locale=C.UTF-8", "--data-checksums"}
	if s.cfg.NoSync {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: acc.cred}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make database cluster: %w: %s", err, bytes.TrimSpace(out))
	}
	if err := os.Remove(dir); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("replace empty cluster folder: %w", err)
	}
	return os.Rename(tmp, dir)
}

// writePostgresConf writes the settings anew at each start. Everybody comes in
// over the unix socket: we and root as superuser and as the runtime role by
// peer, the tamper trace with its password.
func (s *Stack) writePostgresConf(dir string, acc account) error {
	hba := "local all postgres peer map=mailward\nlocal all mailward_app peer map=mailward\nlocal all mailward_trace scram-sha-256\n"
	var ident strings.Builder
	for _, u := range []string{"root", acc.name, currentUser()} {
		if u != "" {
			fmt.Fprintf(&ident, "mailward %s postgres\nmailward %s mailward_app\n", u, u)
		}
	}
	conf := `# Written by mailward at each start.
listen_addresses = ''
port = 5432
max_connections = 100
shared_buffers = 128MB
max_wal_size = 1GB
wal_compression = on
password_encryption = scram-sha-256
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %u@%d '
log_min_error_statement = error
unix_socket_permissions = 0700
`
	if s.cfg.NoSync {
		conf += "fsync = off\nfull_page_writes = off\nsynchronous_commit = off\nmax_connections = 300\n"
	}
	for name, text := range map[string]string{"pg_hba.conf": hba, "pg_ident.conf": ident.String(), "postgresql.conf": conf} {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		if err := acc.chown(p); err != nil {
			return err
		}
	}
	return nil
}

// ensureDatabase succeeds once the server takes connections and our database is there.
func ensureDatabase(ctx context.Context, run string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, "host="+run+" user=postgres dbname=postgres")
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var there bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = 'mailward')").Scan(&there); err != nil || there {
		return err
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE mailward")
	return err
}

// startRedis runs a Redis that keeps nothing: it holds only what may be lost.
func (s *Stack) startRedis(ctx context.Context) (*child, error) {
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errors.New("redis-server is not installed: run `make setup`, or set redis.url")
	}
	acc, err := accountFor(DatabaseUser)
	if err != nil {
		return nil, err
	}
	run, err := s.socketDir("db", acc, "redis.sock")
	if err != nil {
		return nil, err
	}
	sock := filepath.Join(run, "redis.sock")
	s.RedisURL = Addresses(s.cfg.DataDir).RedisURL
	c := s.child("redis", syscall.SIGTERM, acc, bin, "--port", "0", "--unixsocket", sock, "--unixsocketperm", "700",
		"--save", "", "--appendonly", "no", "--maxmemory", "256mb", "--maxmemory-policy", "allkeys-lru", "--dir", run)
	c.ready = func(ctx context.Context) error { return ask(sock, "PING\r\n", "+PONG") }
	return c, c.run(ctx)
}

// startScanner runs the sidecar. It drops to its own user by itself, after it
// has closed the network off.
func (s *Stack) startScanner(ctx context.Context) (*child, error) {
	bin := s.cfg.ScannerBinary
	if bin == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find our own binary: %w", err)
		}
		bin = filepath.Join(filepath.Dir(self), "mailward-scanner")
	}
	if _, err := os.Stat(bin); err != nil {
		return nil, fmt.Errorf("the scanner is not there: %w; run `make build`, or set scanner.socket", err)
	}
	sock := filepath.Join(s.cfg.DataDir, "run", "scanner.sock")
	args := []string{"--socket", sock, "--socket-mode", "0600"}
	if os.Geteuid() == 0 {
		if _, err := accountFor(ScanUser); err != nil {
			return nil, err
		}
		args = append(args, "--user", ScanUser)
	}
	s.ScannerSocket = sock
	c := s.child("scanner", syscall.SIGTERM, account{}, bin, append(args, s.cfg.ScannerArgs...)...)
	c.ready = func(context.Context) error {
		conn, err := net.DialTimeout("unix", sock, time.Second)
		if err == nil {
			conn.Close()
		}
		return err
	}
	return c, c.run(ctx)
}

// child prepares a server that runs as acc.
func (s *Stack) child(name string, stopWith syscall.Signal, acc account, bin string, args ...string) *child {
	return &child{
		name: name, log: s.cfg.Log, stopWith: stopWith,
		pidFile: filepath.Join(s.cfg.DataDir, "pids", name+".pid"),
		logFile: filepath.Join(s.cfg.DataDir, "log", name+".log"),
		command: func() *exec.Cmd {
			cmd := exec.Command(bin, args...)
			cmd.Dir = "/"
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: acc.cred}
			return cmd
		},
	}
}

// socketDir makes the folder for the sockets of one user's servers, which only
// that user and root may enter, and a link to each socket in run/, which only
// we may write to. So nobody else on the machine can reach a server that asks
// for no password, or put a socket of their own in the place of one: a false
// clamd would call everything clean.
func (s *Stack) socketDir(name string, acc account, sockets ...string) (string, error) {
	run := filepath.Join(s.cfg.DataDir, "run")
	dir := filepath.Join(run, name)
	if err := acc.ownDir(dir); err != nil {
		return "", err
	}
	for _, sock := range sockets {
		link, target := filepath.Join(run, sock), filepath.Join(name, sock)
		if old, err := os.Readlink(link); err == nil && old == target {
			continue
		}
		if err := os.Remove(link); err != nil && !os.IsNotExist(err) {
			return "", fmt.Errorf("replace socket link: %w", err)
		}
		if err := os.Symlink(target, link); err != nil && !os.IsExist(err) {
			return "", fmt.Errorf("make socket link: %w", err)
		}
	}
	return dir, nil
}

func currentUser() string {
	a, err := accountFor("")
	if err != nil {
		return ""
	}
	return a.name
}

// ask sends one line to a unix socket and looks for the wanted answer.
func ask(sock, question, want string) error {
	conn, err := net.DialTimeout("unix", sock, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := conn.Write([]byte(question)); err != nil {
		return err
	}
	b := make([]byte, 256)
	n, err := conn.Read(b)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(string(b[:n]), want) {
		return fmt.Errorf("it answers %q", b[:n])
	}
	return nil
}
