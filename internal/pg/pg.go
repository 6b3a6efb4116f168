// Package pg is the way to PostgreSQL: one pool, one way to open a writing
// transaction, one way to change the schema.
//
// A writing transaction always has an actor ([DB.Act]). The row triggers of
// the database look the actor up when they record a change, so a write that
// went around Act shows up in the audit as made by a bare database role.
package pg

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sys/unix"
)

// AppRole is the role that the program runs as. It owns nothing.
const AppRole = "mailward_app"

// PlanAnew, as the first argument of a query, has it planned for its own arguments.
// Lists with many optional filters need it, as a plan for all of them suits none, and
// so do searches of tables with a partition for each day. What runs often and by a key
// does without: planning may cost ten times what it finds.
const PlanAnew = pgx.QueryExecModeCacheDescribe

// DB is the pool of connections of the runtime role.
type DB struct {
	*pgxpool.Pool
	log   *slog.Logger
	fault func(a Actor, stored bool) error
}

// WithFaults is the same database, where f can make each writing transaction
// fail: before it begins, and when it is committed (stored), as if its answer was
// lost. It is for tests of what a process leaves that dies between two of them.
func (db *DB) WithFaults(f func(a Actor, stored bool) error) *DB {
	return &DB{Pool: db.Pool, log: db.log, fault: f}
}

// Open prepares a pool for url. It does not connect: a database that is down
// shows up at the first query, and the pool recovers by itself when it is back.
func Open(ctx context.Context, url string, log *slog.Logger) (*DB, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		// pgx's message can hold the password; the URL is the operator's to look at.
		return nil, errors.New("database.url is not a PostgreSQL connection string")
	}
	// About ten of them are held for good: by whoever leads a loop, and by listeners.
	cfg.MaxConns = max(cfg.MaxConns, 20)
	cfg.MaxConnIdleTime = 5 * time.Minute
	cfg.HealthCheckPeriod = 15 * time.Second
	cfg.ConnConfig.ConnectTimeout = 5 * time.Second
	cfg.ConnConfig.DialFunc = dial
	params := cfg.ConnConfig.RuntimeParams
	params["timezone"] = "UTC"
	if params["application_name"] == "" {
		params["application_name"] = "mailward"
	}
	// A transaction that hangs would keep its row locks: better that it fails.
	params["idle_in_transaction_session_timeout"] = "60000"
	// Over many partitions a page of a list looks dear to the planner, and compiling
	// it costs 100 ms, ten times what the page needs.
	params["jit"] = "off"
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("prepare database pool: %w", err)
	}
	return &DB{Pool: pool, log: log}, nil
}

// unanswered is how long a server's machine may leave bytes unacknowledged, and
// nearly how long it may be silent while we wait: without it a call that goes to a
// machine that is gone hangs for a quarter of an hour, as nobody closes the connection.
const unanswered = 20 * time.Second

// dial connects so that a dead machine is noticed.
func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: unanswered / 2, Interval: unanswered / 4, Count: 2},
		Control: func(network, _ string, c syscall.RawConn) error {
			if !strings.HasPrefix(network, "tcp") {
				return nil
			}
			var set error
			err := c.Control(func(fd uintptr) {
				set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unanswered.Milliseconds()))
			})
			return errors.Join(err, set)
		},
	}
	return d.DialContext(ctx, network, addr)
}

// Query returns the text of one embedded query file. A name that is not there
// is a mistake in the program, so it panics at start, not at the first use.
func Query(fs embed.FS, name string) string {
	b, err := fs.ReadFile("queries/" + name + ".sql")
	if err != nil {
		panic(err)
	}
	return strings.TrimSpace(string(b))
}

// IsUnavailable says whether err means that the database could not be reached
// or is going down, as opposed to having refused what was asked.
func IsUnavailable(err error) bool {
	if err == nil {
		return false
	}
	var connErr *pgconn.ConnectError
	if errors.As(err, &connErr) {
		return true // Also where the server itself said no: nothing was asked yet.
	}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		// Class 57 (operator intervention), 53 (no resources), 08 (connection).
		return strings.HasPrefix(pgErr.Code, "57P") || strings.HasPrefix(pgErr.Code, "53") || strings.HasPrefix(pgErr.Code, "08")
	}
	return pgconn.SafeToRetry(err) || pgconn.Timeout(err) || errors.Is(err, context.DeadlineExceeded) ||
		// The server went away in the middle of a call: what was asked may have been done.
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, net.ErrClosed)
}

// IsDiskFull says whether err means that the database has no room.
func IsDiskFull(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == "53100"
}

// IsLockTimeout says whether err means that another transaction held a lock for
// longer than the statement was willing to wait.
func IsLockTimeout(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == "55P03"
}

// IsConflict says whether err means that the transaction lost against another
// one (serialization failure, deadlock) and may simply be tried again.
func IsConflict(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (pgErr.Code == "40001" || pgErr.Code == "40P01")
}

// IsUnique says whether err is a violation of the named unique index, or of
// any when name is empty.
func IsUnique(err error, name string) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == "23505" && (name == "" || pgErr.ConstraintName == name)
}

// IsBadText says whether err means that a text holds what PostgreSQL cannot: a NUL
// character, or bytes that are no UTF-8.
func IsBadText(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code == "22021" || e.Code == "22P05")
}

// IsForeignKey says whether err means that another row still names the one that
// was to go, or that a row names one that is not there.
func IsForeignKey(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "23503"
}
