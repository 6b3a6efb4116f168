package sandbox

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"mailward/policy"
	"mailward/scanner/cape"
)

// JobQueue is the name of our queue of jobs, which has workers of its own: a
// slow sandbox holds up nothing else.
const JobQueue = "sandbox"

// holdArgs is the job that sees to one question until it is decided.
type holdArgs struct {
	Hold uuid.UUID `json:"hold"`
	// After is the job that this one stands in for: its process was killed.
	After int64 `json:"after,omitempty"`
}

// Kind names the job in the queue.
func (holdArgs) Kind() string { return "sandbox_hold" }

// InsertOpts makes one job for each question, as long as that one lives.
func (holdArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: JobQueue, UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: []rivertype.JobState{
		rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRunning, rivertype.JobStateRetryable, rivertype.JobStateScheduled}}}
}

type holdWorker struct {
	river.WorkerDefaults[holdArgs]
	q *Queue
}

// Work does what can be done now, and comes again. A failure is no end: the
// deadline is.
func (w *holdWorker) Work(ctx context.Context, job *river.Job[holdArgs]) error {
	again, err := w.q.Step(ctx, job.Args.Hold)
	if err != nil {
		w.q.metrics.failures.Inc()
		w.q.log.Warn("sandbox: no step forward", "hold", job.Args.Hold, "error", err)
		again = w.q.cfg.PollEvery
	}
	if again <= 0 {
		return nil
	}
	return river.JobSnooze(again)
}

// sweepArgs is the job that looks for questions that lost theirs.
type sweepArgs struct{}

// Kind names the job in the queue.
func (sweepArgs) Kind() string { return "sandbox_sweep" }

// InsertOpts is part of river.JobArgsWithInsertOpts.
func (sweepArgs) InsertOpts() river.InsertOpts { return river.InsertOpts{Queue: JobQueue} }

type sweepWorker struct {
	river.WorkerDefaults[sweepArgs]
	q *Queue
}

// Work puts a job in for each open question; one that has one is left alone.
// Then it follows what nobody waits for, and tells what came too late.
func (w *sweepWorker) Work(ctx context.Context, _ *river.Job[sweepArgs]) error {
	rows, err := w.q.deps.DB.Query(ctx, waitingSQL, 1000)
	if err != nil {
		return fmt.Errorf("read open holds: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return fmt.Errorf("read open holds: %w", err)
	}
	for _, id := range ids {
		if err := w.q.revive(ctx, holdArgs{Hold: id}); err != nil {
			return fmt.Errorf("insert job: %w", err)
		}
	}
	if err := w.q.orphans(ctx); err != nil {
		return err
	}
	return w.q.late(ctx)
}

// ghostAfter is from when on a job that is said to run is not believed. A job
// that does run so long gets company, which does no harm: tasks are leased, and
// a question is decided once.
const ghostAfter = 10 * time.Second

// revive puts a job in, unless one lives. A killed process leaves its job behind
// as running, and River would believe that for an hour, past any deadline.
func (q *Queue) revive(ctx context.Context, args holdArgs) error {
	res, err := q.jobs.Insert(ctx, args, nil)
	if err != nil || !res.UniqueSkippedAsDuplicate {
		return err
	}
	ghost := res.Job.State == rivertype.JobStateRunning && res.Job.AttemptedAt != nil && time.Since(*res.Job.AttemptedAt) > ghostAfter
	if !ghost || args.After == res.Job.ID {
		return nil
	}
	return q.revive(ctx, holdArgs{Hold: args.Hold, After: res.Job.ID})
}

// orphans sees to tasks that nobody waits for any more. What CAPE has still ends
// with a verdict, which is good for the next mail with the same file.
func (q *Queue) orphans(ctx context.Context) error {
	type orphan struct {
		ID    uuid.UUID
		State string
		Old   bool
	}
	rows, err := q.deps.DB.Query(ctx, orphansSQL)
	if err != nil {
		return fmt.Errorf("read tasks that nobody waits for: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[orphan])
	if err != nil {
		return fmt.Errorf("read tasks that nobody waits for: %w", err)
	}
	for _, o := range list {
		if o.State == "submitted" && !o.Old {
			err = q.advance(ctx, o.ID, part{})
		} else {
			err = q.finish(ctx, task{id: o.ID}, cape.Report{}, policy.NoVerdict, "nobody waited for it any more")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

const sweepEvery = time.Minute

// Jobs adds our jobs to those of the program.
func (q *Queue) Jobs(workers *river.Workers, conf *river.Config) error {
	if err := river.AddWorkerSafely(workers, &holdWorker{q: q}); err != nil {
		return err
	}
	if err := river.AddWorkerSafely(workers, &sweepWorker{q: q}); err != nil {
		return err
	}
	conf.Queues[JobQueue] = river.QueueConfig{MaxWorkers: 8}
	conf.PeriodicJobs = append(conf.PeriodicJobs, river.NewPeriodicJob(river.PeriodicInterval(sweepEvery),
		func() (river.JobArgs, *river.InsertOpts) { return sweepArgs{}, nil }, &river.PeriodicJobOpts{RunOnStart: true}))
	return nil
}
