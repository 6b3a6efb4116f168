package digest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
)

var (
	claimSQL  = pg.Query(queryFiles, "claim")
	endRunSQL = pg.Query(queryFiles, "end_run")
	renewSQL  = pg.Query(queryFiles, "renew")
	dueSQL    = pg.Query(queryFiles, "due")
	heldSQL   = pg.Query(queryFiles, "held")
	lockSQL   = pg.Query(queryFiles, "lock")
	statusSQL = pg.Query(queryFiles, "status")
)

const (
	lookEvery  = 30 * time.Second
	claimFor   = 10 * time.Minute
	linesMost  = 50                 // mails that one digest lists; the next one tells of the rest
	rcptsPage  = 1000               // recipients that are told between two renewals of the claim
	lookBack   = 7 * 24 * time.Hour // what is older is not told of
	failedText = "some recipients could not be told; the log of the worker says why"
)

// Run sends digests by their schedules until ctx ends. Any number of processes
// may run it.
func (s *Store) Run(ctx context.Context) error {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		if err := s.Due(ctx); err != nil && ctx.Err() == nil {
			s.deps.Log.Error("digests not sent", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// Due sends what the schedules want by now.
func (s *Store) Due(ctx context.Context) error {
	rows, err := s.deps.DB.Query(ctx, settingsSQL)
	if err != nil {
		return fmt.Errorf("read schedules of digests: %w", err)
	}
	type one struct {
		workspace uuid.UUID
		set       Timetable
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o one, err error) {
		err = row.Scan(&o.workspace, &o.set.Enabled, &o.set.Hours, &o.set.Weekdays, &o.set.TimeZone, &o.set.Language, &o.set.Release, &o.set.Request, &o.set.Version)
		return o, err
	})
	if err != nil {
		return fmt.Errorf("read schedules of digests: %w", err)
	}
	var errs []error
	for _, o := range list {
		errs = append(errs, s.runOne(ctx, o.workspace, o.set))
	}
	errs = append(errs, s.expire(ctx))
	return errors.Join(errs...)
}

var job = pg.System("digest", "schedule")

// runOne sends a workspace's digests for the last time of its schedule, unless
// that is done or another process is at it.
func (s *Store) runOne(ctx context.Context, workspace uuid.UUID, set Timetable) error {
	slot, mine := set.Last(s.now()), false
	if slot.IsZero() {
		return nil
	}
	began := s.now().Truncate(time.Microsecond) // as the database keeps it
	err := s.deps.DB.Act(ctx, job, func(ctx context.Context, tx pgx.Tx) error {
		err := tx.QueryRow(ctx, claimSQL, workspace, slot, began, began.Add(claimFor)).Scan(&mine)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil || !mine {
		return err
	}
	sent, failed, err := s.sendAll(ctx, workspace, set, began)
	text := ""
	switch {
	case err != nil:
		text = "the recipients could not be looked up"
	case failed > 0:
		text = failedText
	}
	end := s.deps.DB.Act(context.WithoutCancel(ctx), job, func(ctx context.Context, tx pgx.Tx) error {
		done := &slot
		if err != nil {
			done = nil // The next look tries again.
		}
		_, err := tx.Exec(ctx, endRunSQL, workspace, done, s.now(), sent, failed, text, began)
		return err
	})
	return errors.Join(err, end)
}

// sendAll tells all who have something new, a page of them at a time. A run that
// another process has taken over, since this one was away too long, ends.
func (s *Store) sendAll(ctx context.Context, workspace uuid.UUID, set Timetable, began time.Time) (sent, failed int, err error) {
	for after := ""; ; {
		due, err := s.due(ctx, workspace, set, after)
		if err != nil || len(due) == 0 {
			return sent, failed, err
		}
		for _, address := range due {
			if ctx.Err() != nil {
				return sent, failed, ctx.Err()
			}
			switch err := s.Send(ctx, job, workspace, set, address, false); {
			case errors.Is(err, ErrNothing): // told or released in the meantime
			case err != nil:
				s.deps.Log.Warn("digest not sent", "workspace", workspace, "error", err)
				failed++
			default:
				sent++
			}
		}
		after = due[len(due)-1]
		if err := s.renew(ctx, workspace, began); err != nil {
			return sent, failed, err
		}
	}
}

func (s *Store) due(ctx context.Context, workspace uuid.UUID, set Timetable, after string) ([]string, error) {
	rows, err := s.deps.DB.Query(ctx, dueSQL, pg.PlanAnew, workspace, set.classes(), s.now().Add(-lookBack), after, rcptsPage)
	if err != nil {
		return nil, fmt.Errorf("look who has something new: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look who has something new: %w", err)
	}
	return list, nil
}

func (s *Store) renew(ctx context.Context, workspace uuid.UUID, began time.Time) error {
	return s.deps.DB.Act(ctx, job, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, renewSQL, workspace, began, s.now().Add(claimFor))
		if err != nil {
			return fmt.Errorf("renew claim of a run of digests: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return pg.ErrLeaseLost
		}
		return nil
	})
}

// line is a held mail in a digest.
type line struct {
	Item, Recipient uuid.UUID
	Class           string
	From, Subject   string
	At              time.Time
	Link            string
	Ask             bool
}

// Send tells one recipient what is held: links, by which it is known that it was
// told, and mail are one transaction. all tells also of what was told before.
func (s *Store) Send(ctx context.Context, actor pg.Actor, workspace uuid.UUID, set Timetable, address string, all bool) error {
	return s.deps.DB.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockSQL, workspace.String()+" "+strings.ToLower(address)); err != nil {
			return fmt.Errorf("lock a recipient: %w", err)
		}
		lines, more, err := s.lines(ctx, tx, workspace, set, address, all)
		if err != nil {
			return err
		}
		if len(lines) == 0 {
			return ErrNothing
		}
		for i := range lines {
			if err := s.addLink(ctx, tx, workspace, set, &lines[i]); err != nil {
				return err
			}
		}
		raw, err := s.compose(set, address, lines, more)
		if err != nil {
			return err
		}
		delivery, err := s.deps.Postman.Post(ctx, tx, workspace, address, raw)
		if err != nil {
			return err
		}
		_, err = s.deps.Audit.Append(ctx, tx, audit.Event{Action: audit.DigestSend, Workspace: workspace, Actor: actor, Retention: audit.Retention400Days,
			Targets: []audit.Target{{Type: "mailbox", ID: delivery.String(), PII: address}}, After: map[string]any{"mails": len(lines)}})
		return err
	})
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// lines are the newest held mails, and whether there are more.
func (s *Store) lines(ctx context.Context, q querier, workspace uuid.UUID, set Timetable, address string, all bool) (list []line, more bool, err error) {
	rows, err := q.Query(ctx, heldSQL, workspace, address, set.classes(), s.now().Add(-lookBack), all, linesMost+1)
	if err != nil {
		return nil, false, fmt.Errorf("read what is held for a recipient: %w", err)
	}
	list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (l line, err error) {
		return l, row.Scan(&l.Item, &l.Recipient, &l.Class, &l.From, &l.Subject, &l.At)
	})
	if err != nil {
		return nil, false, fmt.Errorf("read what is held for a recipient: %w", err)
	}
	return list[:min(len(list), linesMost)], len(list) > linesMost, nil
}

func (s *Store) addLink(ctx context.Context, tx pgx.Tx, workspace uuid.UUID, set Timetable, l *line) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make link id: %w", err)
	}
	k := Link{ID: id, Item: l.Item, Recipient: l.Recipient, ExpiresAt: s.now().Add(s.cfg.LinkFor).Truncate(time.Second)}
	if _, err := tx.Exec(ctx, insertLinkSQL, k.ID, workspace, k.Item, k.Recipient, k.ExpiresAt); err != nil {
		return fmt.Errorf("store link of a digest: %w", err)
	}
	l.Link, l.Ask = s.cfg.PublicURL+"/digest/"+s.token(k), true
	for _, c := range set.Release {
		l.Ask = l.Ask && string(c) != l.Class
	}
	return nil
}

func (s *Store) expire(ctx context.Context) error {
	return s.deps.DB.Act(ctx, job, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, expireLinksSQL, s.now().Add(-lookBack-24*time.Hour))
		return err
	})
}

// Status is how the digests are.
type Status struct {
	Enabled int       // workspaces that want them
	Last    time.Time // when a run ended last; zero: never
	Failed  int       // recipients of the last runs that could not be told
	Late    time.Duration
	Error   string
}

// Status reads it. Late is for how long a workspace waits for a run that its
// schedule wants.
func (s *Store) Status(ctx context.Context) (out Status, err error) {
	rows, err := s.deps.DB.Query(ctx, statusSQL)
	if err != nil {
		return out, fmt.Errorf("read state of digests: %w", err)
	}
	var set Timetable
	var slot, ended *time.Time
	var failed int
	var text string
	_, err = pgx.ForEachRow(rows, []any{&set.Hours, &set.Weekdays, &set.TimeZone, &slot, &ended, &failed, &text}, func() error {
		out.Enabled++
		out.Failed += failed
		if text != "" {
			out.Error = text
		}
		if ended != nil && ended.After(out.Last) {
			out.Last = *ended
		}
		if want := set.Last(s.now()); slot != nil && want.After(*slot) {
			out.Late = max(out.Late, s.now().Sub(want))
		}
		return nil
	})
	return out, err
}

// Preview is the digest that a recipient would get now, with links that lead
// nowhere. nil: there is nothing to tell.
func (s *Store) Preview(ctx context.Context, workspace uuid.UUID, set Timetable, address string) (text, html string, err error) {
	lines, more, err := s.lines(ctx, s.deps.DB, workspace, set, address, true)
	if err != nil {
		return "", "", err
	}
	for i := range lines {
		lines[i].Link = s.cfg.PublicURL + "/digest/…"
	}
	return s.bodies(set, lines, more)
}
