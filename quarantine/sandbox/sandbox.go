// Package sandbox is the hold queue: it asks CAPE about the files of held mail,
// and lets the answer decide.
//
// On a mail's path it comes after the reply. The gateway holds a mail (250), and
// in the same transaction [Queue.Held] notes which files are in question and
// puts a job into the queue. The job has the sidecar hand out the files, gives
// each distinct one to CAPE within a budget, looks for the report, and decides
// by the policies of that moment. Without a verdict until the deadline the
// policy's word for that counts; it is on record as no verdict, never as clean.
//
// All that matters is in the database, so any process may go on where another
// one was killed: a task is leased, and one that was being submitted is looked
// for in CAPE before it is submitted again. No mail is opened here, and none is
// sent: a release is rows that the gateway's worker takes up.
package sandbox

import (
	"context"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"mailward/audit"
	"mailward/internal/pg"
	"mailward/policy"
	"mailward/quarantine"
	"mailward/scanner/cape"
)

//go:embed queries/*.sql
var queryFiles embed.FS

var (
	insertHoldSQL = pg.Query(queryFiles, "insert_hold")
	insertPartSQL = pg.Query(queryFiles, "insert_part")
	holdSQL       = pg.Query(queryFiles, "hold")
	lockHoldSQL   = pg.Query(queryFiles, "lock_hold")
	partsSQL      = pg.Query(queryFiles, "parts")
	cachedSQL     = pg.Query(queryFiles, "cached")
	insertTaskSQL = pg.Query(queryFiles, "insert_task")
	linkOpenSQL   = pg.Query(queryFiles, "link_open")
	linkSQL       = pg.Query(queryFiles, "link")
	claimSQL      = pg.Query(queryFiles, "claim")
	budgetLockSQL = pg.Query(queryFiles, "budget_lock")
	budgetSQL     = pg.Query(queryFiles, "budget")
	submittingSQL = pg.Query(queryFiles, "submitting")
	submittedSQL  = pg.Query(queryFiles, "submitted")
	putOffSQL     = pg.Query(queryFiles, "put_off")
	finishSQL     = pg.Query(queryFiles, "finish")
	holdersSQL    = pg.Query(queryFiles, "holders")
	decideSQL     = pg.Query(queryFiles, "decide")
	waitingSQL    = pg.Query(queryFiles, "waiting")
	orphansSQL    = pg.Query(queryFiles, "orphans")
	lateSQL       = pg.Query(queryFiles, "late")
	statusSQL     = pg.Query(queryFiles, "status")
)

// Config holds the settings of the queue.
type Config struct {
	// TasksPerMinute and InFlight bound what CAPE gets, of all processes together.
	// Default: 10 and 10.
	TasksPerMinute, InFlight int
	// MaxFile is the largest file that is sent, in bytes. Default: 30,000,000, as CAPE has it.
	MaxFile int64
	// CacheFor is how long a verdict holds for the same file. Default: 24 h.
	CacheFor time.Duration
	// PollEvery is how often a task is looked at. CAPE's default limit of calls is
	// low. Default: 20 s.
	PollEvery time.Duration
	// Lease is how long a process may be busy with a task before another one takes
	// it over. It must be longer than a call to CAPE. Default: 3 min.
	Lease time.Duration
}

// DefaultConfig returns the settings used where nothing else is said.
func DefaultConfig() Config {
	return Config{TasksPerMinute: 10, InFlight: 10, MaxFile: 30_000_000, CacheFor: 24 * time.Hour, PollEvery: 20 * time.Second, Lease: 3 * time.Minute}
}

// maxFiles bounds the files of one mail that are sent. A mail with more has no
// verdict, since nobody has seen the rest.
const maxFiles = 20

// Parts hands out a decoded part of a mail: the sidecar.
type Parts interface {
	Part(ctx context.Context, mail *os.File, sha256 string) ([]byte, error)
}

// Policies finds what is wanted for a recipient now.
type Policies interface {
	Lookup(address string) (policy.Recipient, bool)
	Outbound(sender, to string) (policy.Recipient, bool)
	Entries(workspace uuid.UUID) *policy.EntrySet
}

// Deps are the parts that the queue works with.
type Deps struct {
	Log      *slog.Logger
	DB       *pg.DB
	Store    *quarantine.Store
	Audit    *audit.Log
	Cape     *cape.Client
	Parts    Parts
	Policies Policies
	// Heard is what the decision on arrival was told of an item.
	Heard func(ctx context.Context, item quarantine.Item) (policy.Input, error)
	// NoPart is the error of Parts for a part that the mail does not have.
	NoPart  error
	Metrics prometheus.Registerer // may be nil
}

// Queue is the hold queue.
type Queue struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	jobs    *river.Client[pgx.Tx]
	metrics *metrics

	mu      sync.Mutex // guards version and asked
	version string
	asked   time.Time
}

// New returns a queue. Only [Queue.Jobs] makes it work; without it mail is
// queued for other processes.
func New(cfg Config, deps Deps) (*Queue, error) {
	jobs, err := river.NewClient(riverpgxv5.New(deps.DB.Pool), &river.Config{Schema: pg.RiverSchema, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, fmt.Errorf("sandbox: prepare jobs: %w", err)
	}
	q := &Queue{cfg: cfg, deps: deps, log: deps.Log, jobs: jobs}
	q.metrics = newMetrics(deps.Metrics, q)
	return q, nil
}

// Held implements [quarantine.SandboxQueue].
func (q *Queue) Held(ctx context.Context, tx pgx.Tx, item uuid.UUID, h quarantine.Hold) error {
	type bound struct {
		Address string    `json:"address"`
		Policy  uuid.UUID `json:"policy_id"`
		Version int64     `json:"policy_version"`
	}
	var by []bound
	var parts []policy.Part
	var wait time.Duration
	for _, r := range h.Recipients {
		if r.Action != policy.Hold {
			continue
		}
		by = append(by, bound{r.Address, r.PolicyID, r.PolicyVersion})
		parts, wait = append(parts, r.Detonate...), max(wait, r.Wait)
	}
	policies, err := json.Marshal(by)
	if err != nil {
		return fmt.Errorf("encode policies of hold: %w", err)
	}
	return q.ask(ctx, tx, question{item: item, workspace: h.Workspace, cause: "policy", policies: policies, parts: parts, wait: wait})
}

type question struct {
	item, workspace uuid.UUID
	cause           string
	policies        []byte
	parts           []policy.Part
	wait            time.Duration
}

// ask writes a question and the job that sees to it.
func (q *Queue) ask(ctx context.Context, tx pgx.Tx, a question) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make hold id: %w", err)
	}
	if _, err := tx.Exec(ctx, insertHoldSQL, id, a.workspace, a.item, a.cause, a.policies, time.Now().Add(a.wait)); err != nil {
		return fmt.Errorf("insert hold: %w", err)
	}
	for i, p := range a.parts {
		sum, err := hex.DecodeString(p.SHA256)
		if err != nil {
			return fmt.Errorf("hash of part %s: %w", p.Path, err)
		}
		skipped := ""
		switch {
		case p.Size > q.cfg.MaxFile:
			skipped = fmt.Sprintf("it has over %d bytes", q.cfg.MaxFile)
		case i >= maxFiles:
			skipped = fmt.Sprintf("the mail has over %d files for the sandbox", maxFiles)
		}
		if i >= 5*maxFiles {
			break // one that is left out is enough for there to be no verdict
		}
		if _, err := tx.Exec(ctx, insertPartSQL, id, sum, p.Path, clean(p.Name), p.Size, skipped); err != nil {
			return fmt.Errorf("insert part of hold: %w", err)
		}
	}
	if _, err := q.jobs.InsertTx(ctx, tx, holdArgs{Hold: id}, nil); err != nil {
		return fmt.Errorf("insert job: %w", err)
	}
	return nil
}

// Send asks the sandbox about an item because a person wants it. The answer is
// shown, and what is malicious is called so; nothing is released by it.
func (q *Queue) Send(ctx context.Context, actor pg.Actor, roles []string, item quarantine.Item, reason string) error {
	if item.BlobRemovedAt != nil {
		return quarantine.ErrGone
	}
	if reason == "" {
		return quarantine.ErrReasonRequired
	}
	all, err := policy.AnyKind()
	if err != nil {
		return fmt.Errorf("encode kinds of files: %w", err)
	}
	parts := all.ForSandbox(policy.Report{Parts: item.Parts, Findings: item.Findings})
	if len(parts) == 0 {
		return quarantine.ErrNothingToRun
	}
	err = q.deps.DB.Act(pg.WithReason(ctx, reason), actor, func(ctx context.Context, tx pgx.Tx) error {
		if err := q.ask(ctx, tx, question{item: item.ID, workspace: item.Workspace, cause: "person", policies: []byte("[]"), parts: parts, wait: all.SandboxTimeout()}); err != nil {
			return err
		}
		_, err := q.deps.Audit.Append(ctx, tx, audit.Event{Action: audit.SandboxRequest, Workspace: item.Workspace, Actor: actor, Roles: roles, Reason: reason, Retention: audit.Retention3Years,
			Targets:     []audit.Target{{Type: "quarantine_item", ID: item.ID.String(), Label: string(item.Class)}},
			Correlation: audit.Correlation{MailID: item.MailID.String(), ItemID: item.ID.String()}})
		return err
	})
	if pg.IsUnique(err, "sandbox_hold_open_idx") {
		return quarantine.ErrState
	}
	if err != nil {
		return fmt.Errorf("send item %s to the sandbox: %w", item.ID, err)
	}
	return nil
}

// Status is how the queue is.
type Status struct {
	Waiting, InFlight int
	Oldest            time.Time // zero: nothing waits
	NoVerdict         int       // questions that ended without one in the last hour
}

// Status reads how the queue is.
func (q *Queue) Status(ctx context.Context) (s Status, err error) {
	var oldest *time.Time
	if err = q.deps.DB.QueryRow(ctx, statusSQL).Scan(&s.Waiting, &oldest, &s.InFlight, &s.NoVerdict); err != nil {
		return s, fmt.Errorf("read the sandbox queue: %w", err)
	}
	if oldest != nil {
		s.Oldest = *oldest
	}
	return s, nil
}
