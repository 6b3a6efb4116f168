// Package alerting tells the right people once that something is broken or
// unusual. Package meter counts, in every process; the evaluation, which one
// process of the installation does at a time, asks the rules ten-second by
// ten-second ([mailward/alerting/rule] is the judge); and what is to be said
// goes out as durable jobs through package channel. It is beside a mail's path: a
// mail pays some additions, and hears of the reactions that are in force from package
// policy.
//
// Everything that a person decides (rules, channels, silences, who has an alert
// in hand) is a row whose change the database records.
package alerting

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"mailward/alerting/channel"
	"mailward/alerting/meter"
	"mailward/audit"
	"mailward/internal/pg"
)

//go:embed queries/*.sql
var queryFiles embed.FS

// What callers can be told.
var (
	ErrNotFound       = errors.New("alerting: not found")
	ErrConflict       = errors.New("alerting: somebody else has changed it meanwhile")
	ErrReasonRequired = errors.New("alerting: a reason of 3 to 500 characters is needed")
	ErrExists         = errors.New("alerting: a channel of this name exists already")
	ErrRunning        = errors.New("alerting: the same reaction is in force already")
	ErrNotFiring      = errors.New("alerting: it does not fire any more, or somebody has it in hand")
)

// Config is what an operator sets.
type Config struct {
	Node    string
	Secrets map[string]string // by the names that channels use
	Sandbox bool              // one is set up
}

// Deps of a Store.
type Deps struct {
	DB      *pg.DB
	Log     *slog.Logger
	Audit   *audit.Log // for acts that change no row of ours
	Sender  *channel.Sender
	Meter   *meter.Meter
	Lead    func(ctx context.Context, fn func(context.Context) error) error // runs fn in one process of the installation
	Metrics prometheus.Registerer                                           // may be nil
	// Late tells which mails were found bad after they were delivered, the newest
	// first: by the sandbox, or by a scan of what was missed. It may be nil.
	Late func(ctx context.Context, workspace uuid.UUID, domain string, sandbox bool, since time.Time) ([]channel.Hit, error)
}

// Store keeps rules, channels and alerts, and evaluates.
type Store struct {
	cfg     Config
	deps    Deps
	db      *pg.DB
	log     *slog.Logger
	jobs    *river.Client[pgx.Tx]
	metrics *metrics
	last    fallback
}

type metrics struct {
	firing        *prometheus.GaugeVec
	notifications *prometheus.CounterVec
	lag           prometheus.Gauge
	seconds       prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		firing:        prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "mailward_alerting_firing", Help: "Alerts that fire, as the evaluating process sees them."}, []string{"severity"}),
		notifications: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mailward_alerting_notifications_total", Help: "Tries to send a notification, by kind of channel."}, []string{"kind", "result"}),
		lag:           prometheus.NewGauge(prometheus.GaugeOpts{Name: "mailward_alerting_lag_seconds", Help: "How far the evaluation is behind, in the process that does it."}),
		seconds:       prometheus.NewHistogram(prometheus.HistogramOpts{Name: "mailward_alerting_evaluation_seconds", Help: "How long one evaluation of all rules takes.", Buckets: prometheus.ExponentialBuckets(0.002, 2, 12)}),
	}
	if reg != nil {
		reg.MustRegister(m.firing, m.notifications, m.lag, m.seconds)
	}
	return m
}

// New returns a Store. Nothing is evaluated before [Store.Run].
func New(cfg Config, deps Deps) (*Store, error) {
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	jobs, err := river.NewClient(riverpgxv5.New(deps.DB.Pool), &river.Config{Schema: pg.RiverSchema, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, fmt.Errorf("prepare job queue: %w", err)
	}
	return &Store{cfg: cfg, deps: deps, db: deps.DB, log: deps.Log, jobs: jobs, metrics: newMetrics(deps.Metrics)}, nil
}

// Person is who does something, for the columns that pages show. The record has
// its own way of knowing.
type Person struct {
	Actor pg.Actor
	Name  string
}

func (p Person) id() *uuid.UUID {
	if p.Actor.UserID == uuid.Nil {
		return nil
	}
	return &p.Actor.UserID
}

func orZero[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// goodReason says whether a reason says anything.
func goodReason(s string) bool { return len([]rune(s)) >= 3 && len([]rune(s)) <= 500 }

// changed turns "no row" into what it means where a version was given.
func changed(n int64, err error) error {
	if err == nil && n == 0 {
		return ErrConflict
	}
	return err
}
