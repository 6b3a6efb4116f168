package health

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"

	"mailward/internal/pg"
)

const (
	// slowStore is a round trip at which every mail begins to feel the store.
	slowStore = 500 * time.Millisecond
	// busyConnections is the share of the server's connections at which the
	// next burst may be refused.
	busyConnections = 0.9
)

// Database is what the checks need of the pool.
type Database interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// PostgreSQL checks the database with a query of its own.
func PostgreSQL(db Database) Component {
	query := pg.Query(queries, "check_postgresql")
	return Component{
		Name: "postgresql", Title: "PostgreSQL", Group: "stores", Effect: Stops, Ready: true, Meaning: say("m.postgresql"),
		Check: func(ctx context.Context) Result { return checkDatabase(ctx, db, query) },
	}
}

func checkDatabase(ctx context.Context, db Database, query string) Result {
	var (
		version            string
		standby, readOnly  bool
		used, max, reserve int
		started            time.Time
	)
	began := time.Now()
	err := db.QueryRow(ctx, query).Scan(&version, &standby, &readOnly, &used, &max, &reserve, &started)
	r := Result{State: Up, Latency: time.Since(began)}
	if err != nil {
		return databaseFailed(err, r.Latency)
	}
	r.Facts = map[string]string{
		"version": version, "connections": strconv.Itoa(used), "connections_max": strconv.Itoa(max),
		"started_at": started.UTC().Format(time.RFC3339),
	}
	free := max - reserve
	switch {
	case standby || readOnly:
		r.State, r.Code = Down, "read_only"
		r.Reason = say("postgresql.read_only")
	case float64(used) >= busyConnections*float64(free):
		r.State, r.Code = Degraded, "connections"
		r.Reason = say("postgresql.connections", num(used), num(free))
	case r.Latency > slowStore:
		r.State, r.Code = Degraded, "slow"
		r.Reason = say("postgresql.slow", span(r.Latency))
	default:
		r.Reason = say("postgresql.ok", plain(version))
	}
	return r
}

func databaseFailed(err error, latency time.Duration) Result {
	r := Result{State: Down, Code: "unreachable", Latency: latency, Detail: err.Error(), Reason: say("answers_not", plain("PostgreSQL")).and("m.postgresql")}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		r.Detail = pgErr.Code + ": " + pgErr.Message
		switch {
		case strings.HasPrefix(pgErr.Code, "28"), pgErr.Code == "42501":
			r.State, r.Code = NotAuthorised, "refused"
			r.Reason = say("postgresql.refused")
		case pgErr.Code == "53300":
			r.Code, r.Reason = "connections", say("postgresql.none_left")
		}
	}
	return r
}

// RedisClient is what the check needs of the client.
type RedisClient interface {
	Ping(ctx context.Context) *redis.StatusCmd
	Info(ctx context.Context, sections ...string) *redis.StringCmd
}

// Redis checks the round trip. Redis holds nothing that may not be lost, so
// its failure never stops mail.
func Redis(client RedisClient) Component {
	return Component{
		Name: "redis", Title: "Redis", Group: "stores", Effect: Weakens, Meaning: say("m.redis"),
		Check: func(ctx context.Context) Result { return checkRedis(ctx, client) },
	}
}

func checkRedis(ctx context.Context, client RedisClient) Result {
	began := time.Now()
	pong, err := client.Ping(ctx).Result()
	r := Result{State: Up, Latency: time.Since(began)}
	switch {
	case err != nil && refusedByRedis(err):
		r.State, r.Code, r.Detail = NotAuthorised, "refused", err.Error()
		r.Reason = say("redis.refused")
		return r
	case err != nil:
		r.State, r.Code, r.Detail = Down, "unreachable", err.Error()
		r.Reason = say("answers_not", plain("Redis")).and("m.redis")
		return r
	case pong != "PONG":
		r.State, r.Code, r.Detail = Down, "wrong_answer", fmt.Sprintf("PING was answered with %q", pong)
		r.Reason = say("redis.wrong").and("m.redis")
		return r
	}
	if info, err := client.Info(ctx, "server", "memory").Result(); err == nil {
		r.Facts = redisFacts(info)
	}
	if r.Latency > slowStore {
		r.State, r.Code = Degraded, "slow"
		r.Reason = say("redis.slow", span(r.Latency))
		return r
	}
	r.Reason = say("redis.ok")
	return r
}

func refusedByRedis(err error) bool {
	text := err.Error()
	for _, prefix := range []string{"NOAUTH", "WRONGPASS", "NOPERM", "ERR AUTH", "ERR invalid password"} {
		if strings.HasPrefix(text, prefix) {
			return true
		}
	}
	return false
}

func redisFacts(info string) map[string]string {
	facts := map[string]string{}
	for line := range strings.Lines(info) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		switch key {
		case "redis_version":
			facts["version"] = value
		case "used_memory_human":
			facts["memory"] = value
		case "uptime_in_seconds":
			if n, err := strconv.Atoi(value); err == nil {
				facts["started_at"] = time.Now().Add(-time.Duration(n) * time.Second).UTC().Format(time.RFC3339)
			}
		}
	}
	return facts
}

const (
	// fullShare and fullBytes are where a disk begins to be a worry: whichever
	// is less, so that a large disk is not reported at 100 GiB free.
	fullShare = 0.10
	fullBytes = 5 << 30
)

// Disk checks the space where held mail, the spool and, with the embedded
// default, the database are. Below stopBytes the gateway takes no mail (452).
func Disk(path string, stopBytes uint64) Component {
	return Component{
		Name: "disk", Title: "Disk", Group: "host", Effect: Stops, Meaning: say("m.disk"),
		Check: func(context.Context) Result {
			var st syscall.Statfs_t
			if err := syscall.Statfs(path, &st); err != nil {
				return Result{State: Down, Code: "unreadable", Detail: err.Error(), Reason: say("disk.unreadable")}
			}
			block := uint64(st.Bsize)
			return judgeDisk(diskSpace{free: st.Bavail * block, total: st.Blocks * block, inodes: st.Files, freeInodes: st.Ffree, readOnly: st.Flags&syscall.MS_RDONLY != 0}, stopBytes)
		},
	}
}

type diskSpace struct {
	free, total, inodes, freeInodes uint64
	readOnly                        bool
}

func judgeDisk(d diskSpace, stopBytes uint64) Result {
	r := Result{State: Up, Facts: map[string]string{"free": size(d.free), "total": size(d.total)}}
	if d.inodes > 0 {
		r.Facts["inodes_free"] = strconv.FormatUint(d.freeInodes, 10)
	}
	worry := min(uint64(fullShare*float64(d.total)), fullBytes)
	switch {
	case d.readOnly:
		r.State, r.Code, r.Reason = Down, "read_only", say("disk.read_only")
	case d.free < stopBytes:
		r.State, r.Code = Down, "full"
		r.Reason = say("disk.full", amount(d.free))
	case d.inodes > 0 && d.freeInodes < 1000:
		r.State, r.Code, r.Reason = Down, "no_inodes", say("disk.no_inodes")
	case d.free < worry:
		r.State, r.Code = Degraded, "low"
		r.Reason = say("disk.low", amount(d.free), amount(d.total), amount(stopBytes))
	default:
		r.Reason = say("disk.ok", amount(d.free), amount(d.total))
	}
	return r
}

const (
	// oldDelivery is when a released or queued mail has waited long enough for
	// its recipient to ask about it.
	oldDelivery = 30 * time.Minute
	// overdueDelivery is when a due delivery that nobody took up shows that no
	// worker runs.
	overdueDelivery = 2 * time.Minute
	// countMost is where counting the queue ends: more is a lot.
	countMost = 1_000_000
)

// DeliveryQueue checks the age of mail that we answer for and still have to
// pass on.
func DeliveryQueue(db Database, now func() time.Time) Component {
	query := pg.Query(queries, "check_delivery_queue")
	return Component{
		Name: "delivery_queue", Title: "Delivery queue", Group: "delivery", Effect: Weakens,
		Meaning: say("m.queue"),
		Check: func(ctx context.Context) Result {
			var waiting int
			var oldest, due *time.Time
			if err := db.QueryRow(ctx, query, countMost).Scan(&waiting, &oldest, &due); err != nil {
				return lookupFailed("queue", err)
			}
			return judgeQueue(now(), waiting, oldest, due)
		},
	}
}

func judgeQueue(now time.Time, waiting int, oldest, due *time.Time) Result {
	r := Result{State: Up, Facts: map[string]string{"waiting": strconv.Itoa(waiting)}}
	if waiting == 0 || oldest == nil {
		r.Reason = say("queue.empty")
		return r
	}
	age := max(0, now.Sub(*oldest))
	r.Facts["oldest_seconds"] = strconv.Itoa(int(age.Seconds()))
	switch {
	case due != nil && now.Sub(*due) > overdueDelivery:
		r.State, r.Code = Degraded, "no_worker"
		r.Reason = say("queue.no_worker", span(now.Sub(*due)))
	case age > oldDelivery:
		r.State, r.Code = Degraded, "old"
		r.Reason = say("queue.old", span(age), num(waiting))
	default:
		r.Reason = say("queue.ok", num(waiting), span(age))
	}
	return r
}

// lookupFailed is the answer of a check that only reads the database: with the
// database down it knows nothing, and the database's own check says the rest.
func lookupFailed(what string, err error) Result {
	return Result{State: Unknown, Code: "lookup_failed", Detail: err.Error(),
		Reason: say("lookup_failed", noun(what))}
}
