package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
	"mailward/internal/standalone"
)

const (
	appendRun = 3 * time.Second
	// appendGoal is what an event may cost beside a plain row.
	appendGoal = 0.6
	// slowFlush stands for a disk that takes this long to flush.
	slowFlush = 5 * time.Millisecond
)

// plainSQL makes a table like that of events, with the same columns and indexes
// and nothing else: no partitions, no triggers, no encryption, no numbering.
const plainSQL = `CREATE TABLE plain_event (LIKE audit.event INCLUDING DEFAULTS INCLUDING INDEXES);
	GRANT INSERT ON plain_event TO mailward_app`

const plainInsertSQL = `INSERT INTO plain_event (id, retention, recorded_at, db_role, bytes, action, phase, outcome, actor_type, actor_id, target_ids, actor_blind, ip_blind)
	VALUES ($1, 'sec-400d', now(), 'mailward_app', $2, 'auth.login', 'result', 'success', 'user', $3, ARRAY[$3], sha256($2), sha256($2))`

// measureAppend compares an event of the audit, in a transaction of its own, with
// a plain row of the same size in the same kind of transaction. The sequencer
// runs beside the events, as it does in service.
func measureAppend(ctx context.Context, o options, rep *report, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "mwb")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	quiet := slog.New(slog.DiscardHandler)
	servers, err := standalone.Start(ctx, standalone.Config{Postgres: true, DataDir: filepath.Join(dir, "d"), Log: quiet})
	if err != nil {
		return err
	}
	defer servers.Stop(context.WithoutCancel(ctx))
	if _, err := pg.Migrate(ctx, servers.AdminURL, pg.MigrateOptions{Version: "bench"}, quiet); err != nil {
		return err
	}
	admin, err := pgx.Connect(ctx, servers.AdminURL)
	if err != nil {
		return err
	}
	defer admin.Close(context.WithoutCancel(ctx))
	if _, err := admin.Exec(ctx, plainSQL); err != nil {
		return err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "An event (login, with a mail address and an IP address to encrypt) in a transaction of its own against a row of the same size and indexes in an ordinary table. Medians of %d rounds of %s each; goal %.1f.\n\n| disk | writers | plain rows/s | events/s | events : plain |\n|---|---|---|---|---|\n", o.rounds, appendRun, appendGoal)
	var errs []error
	for _, disk := range []struct {
		name string
		wait time.Duration
	}{{"as it is", 0}, {"5 ms for each flush", slowFlush}} {
		if _, err := admin.Exec(ctx, fmt.Sprintf("ALTER ROLE mailward_app SET commit_delay = %d; ALTER ROLE mailward_app SET commit_siblings = 0", disk.wait.Microseconds())); err != nil {
			return err
		}
		for _, writers := range o.connections {
			plain, events, err := appendRounds(ctx, servers.PostgresURL, writers, o.rounds)
			if err != nil {
				return err
			}
			ratio := events / plain
			fmt.Fprintf(&text, "| %s | %d | %.0f | %.0f | %.2f |\n", disk.name, writers, plain, events, ratio)
			fmt.Fprintf(out, "append, disk %s, %d writers: plain %.0f/s, events %.0f/s, ratio %.2f\n", disk.name, writers, plain, events, ratio)
			if ratio < appendGoal {
				errs = append(errs, fmt.Errorf("%d writers, disk %s: %.2f of a plain insert, the goal is %.1f", writers, disk.name, ratio, appendGoal))
			}
		}
	}
	rep.sections = append(rep.sections, section{"append", "An event of the audit beside a plain row", text.String()})
	return errors.Join(errs...)
}

// appendRounds measures both in turns and gives the medians.
func appendRounds(ctx context.Context, url string, writers, rounds int) (plain, events float64, err error) {
	db, err := pg.Open(ctx, fmt.Sprintf("%s pool_max_conns=%d", url, writers+4), slog.New(slog.DiscardHandler))
	if err != nil {
		return 0, 0, err
	}
	defer db.Close()
	log := audit.New(db, audit.Options{Observer: audit.Observer{Node: "bench", Version: "1"}})
	who := pg.Actor{Type: pg.ActorUser, UserID: uuid.New(), Email: "bob@ours.example", AuthMethod: "password"}
	act := pg.WithRequest(ctx, pg.Request{ID: "r", Method: "POST", Path: "/login", Application: "web-ui", SourceIP: netip.MustParseAddr("192.0.2.7")})
	ev := audit.Event{Action: audit.Login, Actor: who, Targets: []audit.Target{{Type: "session", ID: "1"}}}
	row := []byte(strings.Repeat("x", 1400))
	var p, e []float64
	for range rounds {
		n, err := atOnce(ctx, writers, func() error {
			return db.Act(ctx, who, func(ctx context.Context, tx pgx.Tx) error {
				_, err := tx.Exec(ctx, plainInsertSQL, uuid.Must(uuid.NewV7()), row, "1")
				return err
			})
		})
		if err != nil {
			return 0, 0, err
		}
		p = append(p, n)
		numbering, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- log.RunSequencer(numbering) }()
		n, err = atOnce(ctx, writers, func() error { return log.Record(act, ev) })
		stop()
		if err := errors.Join(err, <-done); err != nil {
			return 0, 0, err
		}
		e = append(e, n)
	}
	slices.Sort(p)
	slices.Sort(e)
	return p[len(p)/2], e[len(e)/2], nil
}

// atOnce has writers call fn for a while and gives the calls per second.
func atOnce(ctx context.Context, writers int, fn func() error) (float64, error) {
	var count atomic.Int64
	var first atomic.Pointer[error]
	var wg sync.WaitGroup
	began := time.Now()
	for range writers {
		wg.Go(func() {
			for time.Since(began) < appendRun && ctx.Err() == nil {
				if err := fn(); err != nil {
					first.CompareAndSwap(nil, &err)
					return
				}
				count.Add(1)
			}
		})
	}
	wg.Wait()
	if err := first.Load(); err != nil {
		return 0, *err
	}
	return float64(count.Load()) / time.Since(began).Seconds(), ctx.Err()
}
