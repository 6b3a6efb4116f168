package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"mailward/internal/pg"
	"mailward/quarantine"
)

// expireArgs is the job that ends held mail whose time is over.
type expireArgs struct{}

// Kind names the job in the queue.
func (expireArgs) Kind() string { return "quarantine_expire" }

type expireWorker struct {
	river.WorkerDefaults[expireArgs]
	store *quarantine.Store
	log   *slog.Logger
}

// Work ends one batch; the next run takes the next one.
func (w *expireWorker) Work(ctx context.Context, _ *river.Job[expireArgs]) error {
	n, err := w.store.Expire(ctx)
	if n > 0 {
		w.log.Info("held mail expired", "count", n)
	}
	m, err2 := w.store.ExpireRequests(ctx)
	if m > 0 {
		w.log.Info("requests that nobody answered ended", "count", m)
	}
	return errors.Join(err, err2)
}

// expireEvery is short against the 30 days that mail is kept.
const expireEvery = 15 * time.Minute

// runJobs starts the job queue. Its periodic jobs are inserted by one process
// of the installation, whoever leads.
func (p *program) runJobs() error {
	workers := river.NewWorkers()
	if err := river.AddWorkerSafely(workers, &expireWorker{store: p.quarantine, log: p.log}); err != nil {
		return fmt.Errorf("prepare job queue: %w", err)
	}
	conf := &river.Config{
		Schema: pg.RiverSchema, Workers: workers, Logger: slog.New(levelFrom{slog.LevelWarn, p.log.Handler()}),
		Queues:        map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 4}},
		FetchCooldown: 5 * time.Millisecond, JobTimeout: 10 * time.Minute, RescueStuckJobsAfter: 15 * time.Minute,
		PeriodicJobs: []*river.PeriodicJob{river.NewPeriodicJob(river.PeriodicInterval(expireEvery),
			func() (river.JobArgs, *river.InsertOpts) { return expireArgs{}, nil }, &river.PeriodicJobOpts{RunOnStart: true})},
	}
	if err := p.alerts.Jobs(workers, conf); err != nil {
		return fmt.Errorf("prepare job queue: %w", err)
	}
	if p.sandbox != nil {
		if err := p.sandbox.Jobs(workers, conf); err != nil {
			return fmt.Errorf("prepare job queue: %w", err)
		}
	}
	client, err := river.NewClient(riverpgxv5.New(p.db.Pool), conf)
	if err != nil {
		return fmt.Errorf("prepare job queue: %w", err)
	}
	if err := client.Start(context.Background()); err != nil {
		return fmt.Errorf("start job queue: %w", err)
	}
	p.onStop(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if err := client.Stop(ctx); err != nil {
			p.log.Warn("job queue broken off", "error", err)
		}
	})
	return nil
}

// levelFrom drops what is below a level: the queue talks a lot.
type levelFrom struct {
	min slog.Level
	slog.Handler
}

// Enabled is part of slog.Handler.
func (l levelFrom) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= l.min && l.Handler.Enabled(ctx, level)
}
