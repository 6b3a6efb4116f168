package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

var (
	addExportSQL     = pg.Query(queryFiles, "add_export")
	advanceExportSQL = pg.Query(queryFiles, "advance_export")
	endExportSQL     = pg.Query(queryFiles, "end_export")
	exportsSQL       = pg.Query(queryFiles, "exports")
	firstSQL         = pg.Query(queryFiles, "first")
)

// advanceEvery is how often the progress of an export is written down.
const advanceEvery = time.Second

// silentAfter is how long an export may say nothing before it counts as given up:
// its process has died, or its reader has stopped reading.
const silentAfter = 2 * time.Minute

// ExportJob is one export of somebody, under way or over.
type ExportJob struct {
	ID        uuid.UUID // of the event that announced it
	Format    Format
	State     string // running, silent, complete, failed
	Written   int64
	Done      float64 // 0 to 1, by the span of time that is behind it
	Manifest  json.RawMessage
	Began     time.Time
	UpdatedAt time.Time
}

// job is an export of a person, as its writer sees it.
type job struct {
	id         uuid.UUID
	owner      uuid.UUID
	actor      pg.Actor
	newest     time.Time
	oldest     time.Time
	lastUpdate time.Time
}

// startJob notes an export. One without an account behind it (the command line)
// has nobody who would look: nil.
func (l *Log) startJob(ctx context.Context, begun Event, sel Selection) (*job, error) {
	if begun.Actor.UserID == uuid.Nil {
		return nil, nil
	}
	j := &job{id: begun.ID, owner: begun.Actor.UserID, actor: begun.Actor, newest: l.now(), oldest: sel.Filter.From, lastUpdate: l.now()}
	if !sel.Filter.To.IsZero() && sel.Filter.To.Before(j.newest) {
		j.newest = sel.Filter.To
	}
	if j.oldest.IsZero() {
		var first *time.Time
		if err := l.db.QueryRow(ctx, firstSQL).Scan(&first); err != nil {
			return nil, fmt.Errorf("read time of the first event: %w", err)
		}
		if first != nil {
			j.oldest = *first
		}
	}
	err := l.db.Act(ctx, j.actor, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, addExportSQL, j.id, j.owner, sel.Format)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("note an export: %w", err)
	}
	return j, nil
}

// advance notes how far an export has come, now and then.
func (l *Log) advance(ctx context.Context, j *job, written int64, r Row) error {
	if j == nil || l.now().Sub(j.lastUpdate) < advanceEvery {
		return nil
	}
	j.lastUpdate = l.now()
	err := l.db.Act(ctx, j.actor, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, advanceExportSQL, j.id, written, j.part(r.RecordedAt))
		return err
	})
	if err != nil {
		return fmt.Errorf("note the progress of an export: %w", err)
	}
	return nil
}

// part is how much of the span of time lies behind an export that is at t.
func (j *job) part(t time.Time) float64 {
	span := j.newest.Sub(j.oldest)
	if span <= 0 {
		return 0
	}
	return min(1, max(0, float64(j.newest.Sub(t))/float64(span)))
}

func (l *Log) endJob(ctx context.Context, j *job, s Summary, failed error) error {
	if j == nil {
		return nil
	}
	state := "complete"
	if failed != nil {
		state = "failed"
	}
	man, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode what an export came to: %w", err)
	}
	ctx = context.WithoutCancel(ctx)
	err = l.db.Act(ctx, j.actor, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, endExportSQL, j.id, state, s.Count, man)
		return err
	})
	if err != nil {
		return fmt.Errorf("note the end of an export: %w", err)
	}
	return nil
}

// Exports are the exports of somebody in the last month, the newest first.
func (l *Log) Exports(ctx context.Context, owner uuid.UUID) ([]ExportJob, error) {
	rows, err := l.db.Query(ctx, exportsSQL, owner)
	if err != nil {
		return nil, fmt.Errorf("list exports: %w", err)
	}
	jobs, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (j ExportJob, err error) {
		err = row.Scan(&j.ID, &j.Format, &j.State, &j.Written, &j.Done, &j.Manifest, &j.Began, &j.UpdatedAt)
		if j.State == "running" && l.now().Sub(j.UpdatedAt) > silentAfter {
			j.State = "silent"
		}
		return j, err
	})
	if err != nil {
		return nil, fmt.Errorf("list exports: %w", err)
	}
	return jobs, nil
}
