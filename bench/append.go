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

// plainSQL makes a table like that of events, with the same columns, indexes and
// storage and nothing else: no partitions, no triggers, no encryption, no numbering.
const plainSQL = `CREATE TABLE plain_event (LIKE audit.event INCLUDING DEFAULTS INCLUDING INDEXES INCLUDING STORAGE) WITH (toast_tuple_target = 8160);
	GRANT INSERT ON plain_event TO mailward_app`

const plainInsertSQL = `INSERT INTO plain_event (id, retention, recorded_at, db_role, bytes, action, phase, outcome, actor_type, actor_id, target_ids, actor_blind, ip_blind, facts, links)
	VALUES ($1, 'sec-400d', now(), 'mailward_app', $2, 'auth.login', 'result', 'success', 'user', $3, ARRAY['1'], $4, $5, $6, $7)`

// plainRow is the row of an event, to be written again as a plain one.
type plainRow struct {
	actor, facts         string
	bytes, blind, blind2 []byte
	links                []string
}

const plainRowSQL = `SELECT actor_id, facts::text, bytes, actor_blind, ip_blind, array_remove(links, id::text) FROM audit.event WHERE action = 'auth.login' LIMIT 1`

// readPlainRow has an event written and gives its row: what every column holds,
// ready made.
func readPlainRow(ctx context.Context, db *pg.DB, log *audit.Log, ev audit.Event) (r plainRow, err error) {
	if err := log.Record(ctx, ev); err != nil {
		return r, err
	}
	return r, db.QueryRow(ctx, plainRowSQL).Scan(&r.actor, &r.facts, &r.bytes, &r.blind, &r.blind2, &r.links)
}

func (r plainRow) insert(ctx context.Context, tx pgx.Tx) error {
	id := uuid.Must(uuid.NewV7())
	_, err := tx.Exec(ctx, plainInsertSQL, id, r.bytes, r.actor, r.blind, r.blind2, r.facts, append(slices.Clone(r.links), id.String()))
	return err
}

// measureAppend compares events of the audit with its own row as a plain one in
// a table with the same columns and indexes: an event in the transaction of an act
// (audit.append by [audit.Log.Append], the row by an INSERT, each in a transaction
// of the same four calls), and an event for itself ([audit.Log.Record], which
// shares transactions between writers and asks the server once). The sequencer runs
// beside the events, as it does in service.
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
	fmt.Fprintf(&text, "An event (login, with a mail address and an IP address to encrypt) against its own row, ready made, in an ordinary table with the same columns, indexes and storage, each in a transaction of its own, made of the same four calls; and events that are no part of another act, which share transactions. Medians of %d rounds of %s each; goal %.1f.\n\nThe processor's time is that of PostgreSQL and the writers for one commit; it says more than the rates where other work runs beside.\n\n| disk | writers | plain rows/s | events with an act/s | : plain | events alone/s | : plain | CPU us: plain | with an act | alone |\n|---|---|---|---|---|---|---|---|---|---|\n", o.rounds, appendRun, appendGoal)
	var errs []error
	for _, disk := range []struct {
		name string
		wait time.Duration
	}{{"as it is", 0}, {"5 ms for each flush", slowFlush}} {
		if _, err := admin.Exec(ctx, fmt.Sprintf("ALTER ROLE mailward_app SET commit_delay = %d; ALTER ROLE mailward_app SET commit_siblings = 0", disk.wait.Microseconds())); err != nil {
			return err
		}
		for _, writers := range o.connections {
			r, err := appendRounds(ctx, servers.PostgresURL, writers, o.rounds)
			if err != nil {
				return err
			}
			act, alone := r.act.rate/r.plain.rate, r.alone.rate/r.plain.rate
			fmt.Fprintf(&text, "| %s | %d | %.0f | %.0f | %.2f | %.0f | %.2f | %.0f | %.0f | %.0f |\n", disk.name, writers,
				r.plain.rate, r.act.rate, act, r.alone.rate, alone, r.plain.cpu, r.act.cpu, r.alone.cpu)
			fmt.Fprintf(out, "append, disk %s, %d writers: plain %.0f/s %.0f us, with an act %.0f/s (%.2f) %.0f us, alone %.0f/s (%.2f) %.0f us\n", disk.name, writers,
				r.plain.rate, r.plain.cpu, r.act.rate, act, r.act.cpu, r.alone.rate, alone, r.alone.cpu)
			if min(act, alone) < appendGoal {
				errs = append(errs, fmt.Errorf("%d writers, disk %s: %.2f of a plain insert, the goal is %.1f", writers, disk.name, min(act, alone), appendGoal))
			}
		}
	}
	rep.sections = append(rep.sections, section{"append", "An event of the audit beside a plain row", text.String()})
	return errors.Join(errs...)
}

// commits is how many there were in a second, and the processor's time for one, in
// microseconds.
type commits struct{ rate, cpu float64 }

type appendRates struct{ plain, act, alone commits }

// appendRounds measures all in turns and gives the medians.
func appendRounds(ctx context.Context, url string, writers, rounds int) (r appendRates, err error) {
	db, err := pg.Open(ctx, fmt.Sprintf("%s pool_max_conns=%d", url, writers+4), slog.New(slog.DiscardHandler))
	if err != nil {
		return r, err
	}
	defer db.Close()
	log := audit.New(db, audit.Options{Observer: audit.Observer{Node: "bench", Version: "1"}})
	who := pg.Actor{Type: pg.ActorUser, UserID: uuid.New(), Email: "bob@ours.example", AuthMethod: "password"}
	ctx = pg.WithRequest(ctx, pg.Request{ID: "r", Method: "POST", Path: "/login", Application: "web-ui", SourceIP: netip.MustParseAddr("192.0.2.7")})
	ev := audit.Event{Action: audit.Login, Actor: who, Targets: []audit.Target{{Type: "session", ID: "1"}}}
	row, err := readPlainRow(ctx, db, log, ev)
	if err != nil {
		return r, err
	}
	var plain, act, alone []commits
	for range rounds {
		err := errors.Join(
			atOnce(ctx, &plain, writers, func() error {
				return db.Act(ctx, who, row.insert)
			}),
			numbered(ctx, log, func() error {
				return atOnce(ctx, &act, writers, func() error {
					return db.Act(ctx, who, func(ctx context.Context, tx pgx.Tx) error {
						_, err := log.Append(ctx, tx, ev)
						return err
					})
				})
			}),
			numbered(ctx, log, func() error {
				return atOnce(ctx, &alone, writers, func() error { return log.Record(ctx, ev) })
			}))
		if err != nil {
			return r, err
		}
	}
	return appendRates{median(plain), median(act), median(alone)}, nil
}

func median(v []commits) commits {
	rates, cpu := make([]float64, len(v)), make([]float64, len(v))
	for i, c := range v {
		rates[i], cpu[i] = c.rate, c.cpu
	}
	slices.Sort(rates)
	slices.Sort(cpu)
	return commits{rates[len(v)/2], cpu[len(v)/2]}
}

// numbered runs fn beside the sequencer.
func numbered(ctx context.Context, log *audit.Log, fn func() error) error {
	ctx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- log.RunSequencer(ctx) }()
	err := fn()
	stop()
	return errors.Join(err, <-done)
}

// atOnce has writers call fn for a while and notes the calls per second.
func atOnce(ctx context.Context, rates *[]commits, writers int, fn func() error) error {
	var count atomic.Int64
	var first atomic.Pointer[error]
	var wg sync.WaitGroup
	self := []tree{{name: "all", root: os.Getpid()}} // PostgreSQL is our child
	before, began := cpuSeconds(self)["all"], time.Now()
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
		return *err
	}
	n := float64(count.Load())
	*rates = append(*rates, commits{n / time.Since(began).Seconds(), (cpuSeconds(self)["all"] - before) / max(n, 1) * 1e6})
	return ctx.Err()
}
