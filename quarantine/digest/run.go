package digest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
)

var (
	claimSQL  = pg.Query(queryFiles, "claim")
	endRunSQL = pg.Query(queryFiles, "end_run")
	dueSQL    = pg.Query(queryFiles, "due")
	heldSQL   = pg.Query(queryFiles, "held")
	toldSQL   = pg.Query(queryFiles, "told")
	statusSQL = pg.Query(queryFiles, "status")
)

const (
	lookEvery  = 30 * time.Second
	claimFor   = 10 * time.Minute
	linesMost  = 50                 // mails that one digest lists
	rcptsMost  = 5000               // recipients of one run; the rest comes with the next
	lookBack   = 7 * 24 * time.Hour // for somebody who was never told
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
	err := s.deps.DB.Act(ctx, job, func(ctx context.Context, tx pgx.Tx) error {
		err := tx.QueryRow(ctx, claimSQL, workspace, slot, s.now(), s.now().Add(claimFor)).Scan(&mine)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil || !mine {
		return err
	}
	sent, failed, err := s.sendAll(ctx, workspace, set)
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
		_, err := tx.Exec(ctx, endRunSQL, workspace, done, s.now(), sent, failed, text)
		return err
	})
	return errors.Join(err, end)
}

func (s *Store) sendAll(ctx context.Context, workspace uuid.UUID, set Timetable) (sent, failed int, err error) {
	rows, err := s.deps.DB.Query(ctx, dueSQL, workspace, set.classes(), s.now().Add(-lookBack), rcptsMost)
	if err != nil {
		return 0, 0, fmt.Errorf("look who has something new: %w", err)
	}
	due, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return 0, 0, fmt.Errorf("look who has something new: %w", err)
	}
	for _, address := range due {
		if ctx.Err() != nil {
			return sent, failed, ctx.Err()
		}
		if err := s.Send(ctx, job, workspace, set, address, false); err != nil {
			s.deps.Log.Warn("digest not sent", "workspace", workspace, "error", err)
			failed++
			continue
		}
		sent++
	}
	return sent, failed, nil
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

// Send tells one recipient what is held: links, mail and the note that it was
// told are one transaction. all tells also of what was told before.
func (s *Store) Send(ctx context.Context, actor pg.Actor, workspace uuid.UUID, set Timetable, address string, all bool) error {
	return s.deps.DB.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		lines, err := s.lines(ctx, tx, workspace, set, address, all)
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
		raw, err := s.compose(set, address, lines)
		if err != nil {
			return err
		}
		delivery, err := s.deps.Postman.Post(ctx, tx, workspace, address, raw)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, toldSQL, workspace, address, lines[0].At, s.now(), delivery); err != nil {
			return fmt.Errorf("note who was told: %w", err)
		}
		_, err = s.deps.Audit.Append(ctx, tx, audit.Event{Action: audit.DigestSend, Workspace: workspace, Actor: actor, Retention: audit.Retention400Days,
			Targets: []audit.Target{{Type: "mailbox", ID: delivery.String(), PII: address}}, After: map[string]any{"mails": len(lines)}})
		return err
	})
}

func (s *Store) lines(ctx context.Context, tx pgx.Tx, workspace uuid.UUID, set Timetable, address string, all bool) ([]line, error) {
	rows, err := tx.Query(ctx, heldSQL, workspace, address, set.classes(), s.now().Add(-lookBack), all, linesMost)
	if err != nil {
		return nil, fmt.Errorf("read what is held for a recipient: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (l line, err error) {
		return l, row.Scan(&l.Item, &l.Recipient, &l.Class, &l.From, &l.Subject, &l.At)
	})
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
		_, err := tx.Exec(ctx, expireLinksSQL, s.now().Add(-24*time.Hour))
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
	rows, err := s.deps.DB.Query(ctx, heldSQL, workspace, address, set.classes(), s.now().Add(-lookBack), true, linesMost)
	if err != nil {
		return "", "", fmt.Errorf("read what is held for a recipient: %w", err)
	}
	lines, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l line, err error) {
		return l, row.Scan(&l.Item, &l.Recipient, &l.Class, &l.From, &l.Subject, &l.At)
	})
	if err != nil {
		return "", "", fmt.Errorf("read what is held for a recipient: %w", err)
	}
	for i := range lines {
		lines[i].Link = s.cfg.PublicURL + "/digest/…"
	}
	return s.bodies(set, lines)
}
