package alerting

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"mailward/alerting/channel"
	"mailward/alerting/rule"
	"mailward/internal/pg"
)

var (
	insertNotificationSQL = pg.Query(queryFiles, "insert_notification")
	notificationSQL       = pg.Query(queryFiles, "notification")
	claimSlotSQL          = pg.Query(queryFiles, "claim_slot")
	endNotificationSQL    = pg.Query(queryFiles, "end_notification")
	stuckSQL              = pg.Query(queryFiles, "stuck")
)

// JobQueue is the name of our queue of jobs: a slow channel holds up nothing else.
const JobQueue = "alerts"

const (
	maxTries = 12
	// tooOld is from when on a notification helps nobody.
	tooOld = 24 * time.Hour
	// slotWait is how long one waits that would be too many in a minute.
	slotWait = 10 * time.Second
	// reviveEvery and deadAfter find notifications whose job died with its process.
	reviveEvery = 30 * time.Second
	deadAfter   = time.Minute
)

// retries are the waits between tries, about fourteen hours in all.
var retries = []time.Duration{5 * time.Second, 15 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour, 6 * time.Hour}

// dispatch makes one notification for each channel of all that is to be said:
// what happens at the same time comes in one message.
func (s *Store) dispatch(ctx context.Context, tx pgx.Tx, o outcome) error {
	if len(o.sent) == 0 {
		return nil
	}
	channels, err := s.Channels(ctx)
	if err != nil {
		return err
	}
	messages := map[uuid.UUID]*channel.Message{}
	for _, m := range o.sent {
		to := route(channels, m.Spec, m.Alert.Workspace)
		if len(to) == 0 {
			s.log.Warn("an alert fires and no channel takes it", "rule", m.Spec.Name, "subject", m.Alert.Subject, "severity", m.Spec.Severity)
		}
		for _, c := range to {
			if messages[c.ID] == nil {
				messages[c.ID] = &channel.Message{}
			}
			messages[c.ID].Alerts = append(messages[c.ID].Alerts, said(m, o.states[m.Alert].id, o.latest()))
		}
	}
	for _, c := range channels {
		if m := messages[c.ID]; m != nil {
			slices.SortStableFunc(m.Alerts, func(a, b channel.Alert) int {
				return slices.Index(rule.Severities(), b.Severity) - slices.Index(rule.Severities(), a.Severity)
			})
			if _, err := s.enqueue(ctx, tx, c.ID, *m); err != nil {
				return err
			}
		}
	}
	return nil
}

// latest is the newest time of what is to be said.
func (o outcome) latest() (t time.Time) {
	for _, x := range o.states {
		if x.state.Seen.After(t) {
			t = x.state.Seen
		}
	}
	return t
}

// route gives the channels of an alert. Where those that a rule names are gone
// or off, the ones that take everything get it: an alert is not lost with them.
func route(channels []Channel, spec rule.Spec, workspace uuid.UUID) (to []Channel) {
	fits := func(c Channel) bool { return c.Enabled && c.serves(workspace) && spec.Severity.AtLeast(c.Severity) }
	for _, c := range channels {
		if fits(c) && slices.Contains(spec.Channels, c.ID) {
			to = append(to, c)
		}
	}
	if len(to) > 0 {
		return to
	}
	for _, c := range channels {
		if fits(c) && c.Everything {
			to = append(to, c)
		}
	}
	return to
}

// said is a notice as a message has it.
func said(m rule.Sent, id uuid.UUID, now time.Time) channel.Alert {
	since := m.State.FiredAt
	if since.IsZero() {
		since = m.State.Since
	}
	return channel.Alert{ID: id, Rule: m.Alert.Rule, Name: m.Spec.Name, Notice: m.Notice, Severity: m.Spec.Severity, Workspace: m.Alert.Workspace, Subject: m.Alert.Subject,
		Metric: m.Spec.Metric, Compare: m.Spec.Compare, Threshold: m.Spec.Threshold, Value: m.State.Value, Has: m.State.Has, Usual: m.State.Usual,
		Since: since, At: m.At, Runbook: m.Spec.Runbook, Late: now.Sub(m.At) > lateAfter}
}

// enqueue stores a notification with the job that sends it.
func (s *Store) enqueue(ctx context.Context, tx pgx.Tx, to uuid.UUID, m channel.Message) (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return id, err
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return id, fmt.Errorf("encode notification: %w", err)
	}
	if _, err := tx.Exec(ctx, insertNotificationSQL, id, to, raw); err != nil {
		return id, fmt.Errorf("store notification: %w", err)
	}
	if _, err := s.jobs.InsertTx(ctx, tx, notifyArgs{Notification: id}, nil); err != nil {
		return id, fmt.Errorf("insert job: %w", err)
	}
	return id, nil
}

// notifyArgs is the job that sends one notification.
type notifyArgs struct {
	Notification uuid.UUID `json:"notification"`
	// After is the job that this one stands in for: its process was killed.
	After int64 `json:"after,omitempty"`
}

// Kind names the job in the queue.
func (notifyArgs) Kind() string { return "alert_notify" }

// InsertOpts makes one job for each notification, as long as that one lives.
func (notifyArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: JobQueue, MaxAttempts: maxTries, UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: []rivertype.JobState{
		rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRunning, rivertype.JobStateRetryable, rivertype.JobStateScheduled}}}
}

type notifyWorker struct {
	river.WorkerDefaults[notifyArgs]
	s *Store
}

// NextRetry is part of river.Worker.
func (w *notifyWorker) NextRetry(job *river.Job[notifyArgs]) time.Time {
	return time.Now().Add(retries[min(max(job.Attempt, 1), len(retries))-1])
}

// Timeout is part of river.Worker: the sender has a shorter limit of its own.
func (w *notifyWorker) Timeout(*river.Job[notifyArgs]) time.Duration { return deadAfter }

// Work makes one try.
func (w *notifyWorker) Work(ctx context.Context, job *river.Job[notifyArgs]) error {
	again, err := w.s.send(ctx, job.Args.Notification, job.Attempt >= job.MaxAttempts)
	if err == nil && again > 0 {
		return river.JobSnooze(again)
	}
	return err
}

// revive puts jobs in for notifications that nobody works on. A killed process
// leaves its job behind as running, and River would believe that for long.
func (s *Store) revive(ctx context.Context) error {
	rows, err := s.db.Query(ctx, stuckSQL, deadAfter)
	if err != nil {
		return fmt.Errorf("read waiting notifications: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return fmt.Errorf("read waiting notifications: %w", err)
	}
	for _, id := range ids {
		if err := s.reviveOne(ctx, notifyArgs{Notification: id}); err != nil {
			return fmt.Errorf("insert job: %w", err)
		}
	}
	return nil
}

func (s *Store) reviveOne(ctx context.Context, args notifyArgs) error {
	res, err := s.jobs.Insert(ctx, args, nil)
	if err != nil || !res.UniqueSkippedAsDuplicate {
		return err
	}
	ghost := res.Job.State == rivertype.JobStateRunning && res.Job.AttemptedAt != nil && time.Since(*res.Job.AttemptedAt) > deadAfter
	if !ghost || args.After == res.Job.ID {
		return nil
	}
	return s.reviveOne(ctx, notifyArgs{Notification: args.Notification, After: res.Job.ID})
}

// Jobs adds ours to those of the program.
func (s *Store) Jobs(workers *river.Workers, conf *river.Config) error {
	if err := river.AddWorkerSafely(workers, &notifyWorker{s: s}); err != nil {
		return err
	}
	conf.Queues[JobQueue] = river.QueueConfig{MaxWorkers: 4}
	return nil
}

// send makes one try with a notification, and says when to come again; last: a
// failure is the end.
func (s *Store) send(ctx context.Context, id uuid.UUID, last bool) (again time.Duration, err error) {
	var raw []byte
	var state, secret string
	var tries, perMinute int
	var created time.Time
	var to uuid.UUID
	var c channel.Channel
	var on bool
	err = s.db.QueryRow(ctx, notificationSQL, id).Scan(&raw, &state, &tries, &created, &to, &c.Name, &c.Kind, &c.Target, &secret, &c.Language, &perMinute, &on)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && state != "queued" {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read notification: %w", err)
	}
	c.Secret = s.cfg.Secrets[secret]
	var m channel.Message
	switch {
	case !on && !isTest(raw):
		return 0, s.ended(ctx, id, "failed", "the channel is switched off")
	case time.Since(created) > tooOld:
		return 0, s.ended(ctx, id, "failed", "given up after a day")
	case json.Unmarshal(raw, &m) != nil:
		return 0, s.ended(ctx, id, "failed", "the message cannot be read")
	}
	claimed, err := s.claim(ctx, to, id)
	if err != nil || !claimed {
		return slotWait, err
	}
	s.addHits(ctx, m)
	err = s.deps.Sender.Send(ctx, c, id, m)
	return s.tried(context.WithoutCancel(ctx), id, c.Kind, err, last)
}

const (
	// hitsBack is how long before an alarm a mail was found that it is about, at most.
	hitsBack = time.Hour
	// hitsLimit is for looking all of them up.
	hitsLimit = 5 * time.Second
)

// addHits says in an alarm about late hits who has which mail. It is looked up for
// each try and not stored: addresses of people stand where they can be erased.
// Without it the alarm goes out all the same.
func (s *Store) addHits(ctx context.Context, m channel.Message) {
	if s.deps.Late == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, hitsLimit)
	defer cancel()
	for i := range m.Alerts {
		a := &m.Alerts[i]
		sandbox := a.Metric == "sandbox_late_malicious"
		if a.Notice == rule.Ended || !sandbox && a.Metric != "coverage_late_hits" {
			continue
		}
		var err error
		if a.Hits, err = s.deps.Late(ctx, a.Workspace, a.Subject, sandbox, a.Since.Add(-hitsBack)); err != nil {
			s.log.Warn("an alert does not say who has the mail", "alert", a.ID, "error", err)
		}
	}
}

func isTest(raw []byte) bool {
	var m channel.Message
	return json.Unmarshal(raw, &m) == nil && m.Test
}

// claim takes one of the channel's sendings of this minute.
func (s *Store) claim(ctx context.Context, to, id uuid.UUID) (ok bool, err error) {
	err = s.db.Act(ctx, pg.System("alert notification", "job"), func(ctx context.Context, tx pgx.Tx) error {
		var tries int
		err := tx.QueryRow(ctx, claimSlotSQL, to, id).Scan(&tries)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		ok = err == nil
		return err
	})
	if err != nil {
		return false, fmt.Errorf("take a sending of the channel: %w", err)
	}
	return ok, nil
}

// tried notes what became of a try.
func (s *Store) tried(ctx context.Context, id uuid.UUID, kind string, err error, last bool) (time.Duration, error) {
	if err == nil {
		s.metrics.notifications.WithLabelValues(kind, "sent").Inc()
		return 0, s.ended(ctx, id, "sent", "")
	}
	s.metrics.notifications.WithLabelValues(kind, "failed").Inc()
	if s.deps.Meter != nil {
		s.deps.Meter.Count("notification_failures", uuid.Nil, "", 1)
	}
	s.log.Warn("notification not sent", "notification", id, "kind", kind, "error", err)
	var f *channel.FailedError
	errors.As(err, &f)
	if last || f != nil && f.Permanent {
		return 0, s.ended(ctx, id, "failed", err.Error())
	}
	if e := s.ended(ctx, id, "queued", err.Error()); e != nil {
		return 0, e
	}
	if f != nil && f.After > 0 {
		return f.After, nil
	}
	return 0, err
}

func (s *Store) ended(ctx context.Context, id uuid.UUID, state, text string) error {
	return s.db.Act(ctx, pg.System("alert notification", "job"), func(ctx context.Context, tx pgx.Tx) error {
		if len(text) > 1000 {
			text = text[:1000]
		}
		if _, err := tx.Exec(ctx, endNotificationSQL, id, state, text); err != nil {
			return fmt.Errorf("note end of notification: %w", err)
		}
		return nil
	})
}
