package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
	"mailward/policy"
	"mailward/quarantine"
	"mailward/scanner/cape"
)

// task is one file that CAPE is asked about, leased by us.
type task struct {
	id       uuid.UUID
	sha256   string
	state    string
	ids      []int64 // CAPE's
	attempts int
	name     string // of one part with these bytes, for its kind
}

// maxAttempts bounds the submissions of one file.
const maxAttempts = 50

// maxPause bounds the pause between two of them.
const maxPause = 2 * time.Minute

// advance does what can be done about a task now. An error is of our own making
// (the database); CAPE's are put into the task.
func (q *Queue) advance(ctx context.Context, id uuid.UUID, p part) error {
	t := task{name: p.name}
	err := q.act(ctx, id, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, claimSQL, id, time.Now().Add(q.cfg.Lease)).Scan(&t.id, &t.sha256, &t.state, &t.ids, &t.attempts)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // somebody is at it, or it is not its time
	}
	if err != nil {
		return fmt.Errorf("claim task: %w", err)
	}
	// Whoever takes the task over after the lease must not meet us.
	ctx, cancel := context.WithTimeout(ctx, q.cfg.Lease)
	defer cancel()
	if t.state == "submitted" {
		return q.poll(ctx, t)
	}
	return q.submit(ctx, t)
}

func (q *Queue) act(ctx context.Context, id uuid.UUID, fn func(context.Context, pgx.Tx) error) error {
	return q.deps.DB.Act(ctx, pg.System("sandbox", "task "+id.String()), fn)
}

func (q *Queue) exec(ctx context.Context, id uuid.UUID, what, sql string, args ...any) error {
	// What is known must be written, also when the time of the call is over.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := q.act(ctx, id, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql, append([]any{id}, args...)...)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s task %s: %w", what, id, err)
	}
	return nil
}

// submit gives a file to CAPE, where the budget allows it. From the moment that
// the row says submitting, CAPE may have the file: so a second attempt looks
// for it first.
func (q *Queue) submit(ctx context.Context, t task) error {
	if t.attempts >= maxAttempts {
		return q.finish(ctx, t, cape.Report{}, policy.NoVerdict, "it could not be submitted")
	}
	ok, err := q.spend(ctx, t)
	if err != nil {
		return err
	}
	if !ok {
		return q.exec(ctx, t.id, "put off", putOffSQL, "queued", time.Now().Add(q.cfg.PollEvery), "")
	}
	t.attempts++
	ids, err := q.give(ctx, t)
	switch {
	case err == nil:
		return q.exec(ctx, t.id, "note", submittedSQL, ids, time.Now().Add(q.cfg.PollEvery), q.capeVersion(ctx))
	case errors.Is(err, cape.ErrRefused), errors.Is(err, q.deps.NoPart), errors.Is(err, quarantine.ErrGone):
		return q.finish(ctx, t, cape.Report{}, policy.NoVerdict, short(err))
	}
	return q.putOff(ctx, t, "queued", err)
}

// spend takes one task out of the budget, for all processes together.
func (q *Queue) spend(ctx context.Context, t task) (ok bool, err error) {
	err = q.act(ctx, t.id, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, budgetLockSQL); err != nil {
			return err
		}
		var flying, lately int
		if err := tx.QueryRow(ctx, budgetSQL, t.id, time.Now().Add(-time.Minute)).Scan(&flying, &lately); err != nil {
			return err
		}
		if ok = flying < q.cfg.InFlight && lately < q.cfg.TasksPerMinute; !ok {
			return nil
		}
		_, err := tx.Exec(ctx, submittingSQL, t.id)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("look at the budget: %w", err)
	}
	return ok, nil
}

// give finds the file with CAPE, or submits it.
func (q *Queue) give(ctx context.Context, t task) ([]int64, error) {
	if t.attempts > 1 {
		if ids, err := q.deps.Cape.Search(ctx, t.sha256); err != nil || len(ids) > 0 {
			return newest(ids), err
		}
	}
	data, err := q.bytes(ctx, t)
	if err != nil {
		return nil, err
	}
	ids, err := q.deps.Cape.Submit(ctx, cape.File{Name: cape.FileName(t.sha256, t.name), Data: data}, "mailward "+t.id.String())
	if errors.Is(err, cape.ErrDuplicate) {
		if ids, err = q.deps.Cape.Search(ctx, t.sha256); err == nil && len(ids) == 0 {
			err = fmt.Errorf("%w: it knows the file, and has no task for it", cape.ErrUnavailable)
		}
		return newest(ids), err
	}
	return ids, err
}

// newest is the last task that CAPE has for a file. A container's others are
// about the files in it, which have their own hash there.
func newest(ids []int64) []int64 { return ids[:min(1, len(ids))] }

// bytes has the sidecar take the file out of a mail that has it.
func (q *Queue) bytes(ctx context.Context, t task) ([]byte, error) {
	rows, err := q.deps.DB.Query(ctx, holdersSQL, t.id)
	if err != nil {
		return nil, fmt.Errorf("find mails with the file: %w", err)
	}
	items, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("find mails with the file: %w", err)
	}
	err = quarantine.ErrGone
	for _, id := range items {
		var b []byte
		if b, err = q.bytesOf(ctx, id, t.sha256); err == nil {
			return b, nil
		}
	}
	return nil, err
}

func (q *Queue) bytesOf(ctx context.Context, item uuid.UUID, sum string) ([]byte, error) {
	it, err := q.deps.Store.Get(ctx, item)
	if err != nil {
		return nil, err
	}
	f, err := q.deps.Store.File(ctx, it)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return q.deps.Parts.Part(ctx, f, sum)
}

// poll looks how CAPE's tasks are, and reads their reports when all have ended.
func (q *Queue) poll(ctx context.Context, t task) error {
	var worst cape.Report
	verdicts := []policy.SandboxVerdict{}
	for _, id := range t.ids {
		state, err := q.deps.Cape.State(ctx, id)
		switch {
		case errors.Is(err, cape.ErrNotFound):
			return q.putOff(ctx, t, "queued", fmt.Errorf("the sandbox has lost its task: %w", err))
		case err != nil:
			return q.putOff(ctx, t, "submitted", err)
		case state == cape.Running:
			return q.exec(ctx, t.id, "put off", putOffSQL, "submitted", time.Now().Add(q.cfg.PollEvery), "")
		case state == cape.Failed:
			verdicts = append(verdicts, policy.NoVerdict)
			continue
		}
		r, err := q.deps.Cape.Report(ctx, id)
		switch {
		case errors.Is(err, cape.ErrNoReport):
			verdicts = append(verdicts, policy.NoVerdict)
			continue
		case err != nil:
			return q.putOff(ctx, t, "submitted", err)
		}
		verdicts = append(verdicts, policy.SandboxVerdict(r.Verdict()))
		if r.Score >= worst.Score {
			r.Families = append(worst.Families, r.Families...)
			worst = r
		}
	}
	v, why := policy.WorstVerdict(verdicts...), ""
	if v == policy.NoVerdict {
		why = "the analysis failed, or nothing ran"
	}
	return q.finish(ctx, t, worst, v, why)
}

// putOff notes a failure, and when to try again: later each time, and not before
// CAPE wants to hear of us.
func (q *Queue) putOff(ctx context.Context, t task, state string, cause error) error {
	q.metrics.failures.Inc()
	q.log.Warn("sandbox: no answer", "task", t.id, "state", t.state, "error", cause)
	pause := min(q.cfg.PollEvery*time.Duration(max(1, t.attempts)), maxPause)
	var slow *cape.ThrottledError
	if errors.As(cause, &slow) {
		pause = max(pause, slow.After)
	}
	return q.exec(ctx, t.id, "put off", putOffSQL, state, time.Now().Add(pause), short(cause))
}

func (q *Queue) finish(ctx context.Context, t task, r cape.Report, v policy.SandboxVerdict, why string) error {
	if v == policy.NoVerdict {
		q.metrics.failures.Inc()
	}
	list := make([]quarantine.SandboxSignature, len(r.Signatures))
	for i, s := range r.Signatures {
		list[i] = quarantine.SandboxSignature{Name: s.Name, Description: s.Description, Severity: s.Severity}
	}
	signatures, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("encode signatures: %w", err)
	}
	q.metrics.tasks.WithLabelValues(string(v)).Inc()
	return q.exec(ctx, t.id, "finish", finishSQL, string(v), r.Score, strings.Join(r.Families, ", "), strings.ReplaceAll(string(signatures), `\u0000`, ""), why, r.Version)
}

// short is what the record keeps of a failure: what kind it was, without
// addresses of ours.
func short(err error) string {
	var slow *cape.ThrottledError
	switch {
	case errors.As(err, &slow):
		return "the sandbox takes no more calls for now"
	case errors.Is(err, cape.ErrUnauthorized):
		return "the sandbox does not take our token"
	case errors.Is(err, cape.ErrRefused):
		return "the sandbox does not take this file"
	case errors.Is(err, cape.ErrNotReady):
		return "its report is not ready"
	case errors.Is(err, cape.ErrNotFound):
		return "the sandbox has lost its task"
	case errors.Is(err, cape.ErrUnavailable):
		return "the sandbox gave no usable answer"
	case errors.Is(err, quarantine.ErrGone):
		return "the mail is gone"
	default:
		return "the file could not be taken out of the mail"
	}
}
