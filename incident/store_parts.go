package incident

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

// NewReport is what somebody says of a report: that it was handed in, that it is not
// owed, or that what stands there is not so.
type NewReport struct {
	Stage StageName
	// Seen is the version that the person has before them, 0: none. When there is a
	// newer one, it is [ErrConflict].
	Seen        int
	State       ReportState
	SubmittedAt time.Time
	Channel     string // how it was handed in
	Reference   string // that the authority gave
	Reason      string // of everything but a first submission
}

// check is what is wrong with it.
func (r *NewReport) check(i Incident, zone *time.Location, now time.Time) error {
	r.Channel, r.Reference, r.Reason = strings.TrimSpace(r.Channel), strings.TrimSpace(r.Reference), strings.TrimSpace(r.Reason)
	r.SubmittedAt = r.SubmittedAt.UTC().Truncate(time.Second)
	var m Mistakes
	if !slices.Contains(StageNames(), r.Stage) {
		return Mistakes{unknownStage(r.Stage)}
	}
	if !goodText(r.Channel, maxLine) || !goodText(r.Reference, maxLine) || !goodText(r.Reason, maxText) {
		m = append(m, fmt.Sprintf("channel and reference are texts of at most %d bytes", maxLine))
	}
	switch {
	case r.State == ReportWithdrawn && (r.Seen == 0 || i.Newest(r.Stage).State == ReportWithdrawn):
		m = append(m, "there is nothing to withdraw")
	case r.State == ReportSubmitted && r.Channel == "":
		m = append(m, "say how it was handed in")
	case r.State != ReportSubmitted && r.State != ReportNotRequired && r.State != ReportWithdrawn:
		m = append(m, "state must be submitted, not_required or withdrawn")
	}
	if r.Reason == "" && (r.State != ReportSubmitted || r.Seen > 0) {
		m = append(m, "say why")
	}
	if m != nil {
		return m
	}
	if r.State != ReportSubmitted {
		r.SubmittedAt = time.Time{}
	}
	// Withdrawn, it must not leave others without the one that they follow.
	i.Reports = append([]Report{{Stage: r.Stage, State: r.State, SubmittedAt: r.SubmittedAt, Reason: r.Reason}}, i.Reports...)
	c := i.Case(zone)
	if !i.Aware().IsZero() {
		return c.Validate(now)
	}
	if r.Stage != GDPR33 {
		return Mistakes{"the time of awareness is missing: give it before a report"}
	}
	if m = c.future(now); r.State == ReportSubmitted {
		m = append(m, c.submission(GDPR33)...)
	}
	if m != nil {
		return m
	}
	return nil
}

// Report puts on record what became of a report. What it said is kept as it is then;
// fields that are missing do not stop what has happened from being noted.
func (s *Store) Report(ctx context.Context, actor pg.Actor, id uuid.UUID, r NewReport) (Incident, error) {
	err := s.part(ctx, actor, id, func(ctx context.Context, tx pgx.Tx, workspace uuid.UUID) error {
		i, err := get(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := r.check(i, s.zone, s.now()); err != nil {
			return err
		}
		var content []byte
		var sum string
		if r.State == ReportSubmitted {
			if content, sum, err = i.Sheet(r.Stage, s.now()).encode(); err != nil {
				return err
			}
		}
		version, err := uuid.NewV7()
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, insertReportSQL, version, id, workspace, r.Stage, r.Seen, r.State, pg.NullTime(r.SubmittedAt), r.Channel, r.Reference, r.Reason, content, sum, pg.NullID(actor.UserID))
		if err == nil && tag.RowsAffected() == 0 {
			return ErrConflict
		}
		return err
	})
	if err != nil {
		return Incident{}, err
	}
	return s.Get(ctx, id)
}

// Content is a report as it was handed in.
func (s *Store) Content(ctx context.Context, incident, report uuid.UUID) (content []byte, err error) {
	err = s.db.QueryRow(ctx, contentSQL, incident, report).Scan(&content)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	return content, nil
}

// Notes are what was noted, in the order in which it happened.
func (s *Store) Notes(ctx context.Context, id uuid.UUID) ([]Note, error) {
	rows, err := s.db.Query(ctx, notesSQL, id)
	if err != nil {
		return nil, fmt.Errorf("read notes of incident: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Note])
}

// AddNote notes something that was done or said; at zero: now.
func (s *Store) AddNote(ctx context.Context, actor pg.Actor, id uuid.UUID, n Note) error {
	n.Text = strings.TrimSpace(n.Text)
	if n.At.IsZero() {
		n.At = s.now()
	}
	n.At = n.At.UTC().Truncate(time.Second)
	var m Mistakes
	if n.Text == "" || !goodText(n.Text, maxText) {
		m = append(m, fmt.Sprintf("a note must be text of 1 to %d bytes", maxText))
	}
	if !slices.Contains(NoteKinds(), n.Kind) {
		m = append(m, "the kind of a note must be one of "+strings.Join(NoteKinds(), ", "))
	}
	if n.At.After(s.now()) || n.At.Year() < 2000 {
		m = append(m, "the time of a note must lie in the past: check date, zone and offset")
	}
	if m != nil {
		return m
	}
	var err error
	if n.ID, err = uuid.NewV7(); err != nil {
		return fmt.Errorf("make id of note: %w", err)
	}
	return s.part(ctx, actor, id, func(ctx context.Context, tx pgx.Tx, workspace uuid.UUID) error {
		_, err := tx.Exec(ctx, insertNoteSQL, n.ID, id, workspace, n.Kind, n.At, n.Text, pg.NullID(actor.UserID))
		return err
	})
}

// part changes an incident that is there, or what belongs to it, one act after the
// other.
func (s *Store) part(ctx context.Context, actor pg.Actor, id uuid.UUID, fn func(ctx context.Context, tx pgx.Tx, workspace uuid.UUID) error) error {
	err := s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		var workspace uuid.UUID
		if err := tx.QueryRow(ctx, lockSQL, id).Scan(&workspace); errors.Is(err, pgx.ErrNoRows) {
			return ErrNotFound
		} else if err != nil {
			return err
		}
		return fn(ctx, tx, workspace)
	})
	if err != nil {
		return fmt.Errorf("change incident %s: %w", id, err)
	}
	return nil
}

// Mails are the mails of an incident, the newest first.
func (s *Store) Mails(ctx context.Context, id uuid.UUID, limit int) ([]Mail, error) {
	rows, err := s.db.Query(ctx, mailsSQL, id, limit)
	if err != nil {
		return nil, fmt.Errorf("read mails of incident: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (m Mail, err error) {
		var at *time.Time
		var item *uuid.UUID
		err = row.Scan(&m.ID, &at, &m.From, &m.Subject, &m.Class, &m.Action, &m.Recipients, &m.Delivered, &item)
		m.ReceivedAt = orZero(at)
		if item != nil {
			m.Item = *item
		}
		return m, err
	})
}

// Figures are what its mails come to.
func (s *Store) Figures(ctx context.Context, id uuid.UUID) (f Figures, err error) {
	var first, last *time.Time
	if err = s.db.QueryRow(ctx, figuresSQL, id).Scan(&f.Mails, &f.Recipients, &f.Reached, &first, &last); err != nil {
		return f, fmt.Errorf("count mails of incident: %w", err)
	}
	f.First, f.Last = orZero(first), orZero(last)
	return f, nil
}

// AddMail puts a mail of the same workspace into an incident. That it is there
// already is no mistake.
func (s *Store) AddMail(ctx context.Context, actor pg.Actor, id, mail uuid.UUID) error {
	return s.part(ctx, actor, id, func(ctx context.Context, tx pgx.Tx, workspace uuid.UUID) error {
		return putMail(ctx, tx, id, workspace, mail)
	})
}

func putMail(ctx context.Context, tx pgx.Tx, id, workspace, mail uuid.UUID) error {
	link, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make id of link: %w", err)
	}
	var there bool
	var n int
	if err := tx.QueryRow(ctx, hasMailSQL, mail, workspace, id).Scan(&there, &n); err != nil {
		return err
	}
	switch {
	case !there:
		return ErrNoMail
	case n >= MaxMails:
		return ErrFull
	}
	_, err = tx.Exec(ctx, insertMailSQL, link, id, workspace, mail)
	return err
}

// RemoveMail takes a mail out of an incident.
func (s *Store) RemoveMail(ctx context.Context, actor pg.Actor, id, mail uuid.UUID) error {
	return s.part(ctx, actor, id, func(ctx context.Context, tx pgx.Tx, _ uuid.UUID) error {
		tag, err := tx.Exec(ctx, deleteMailSQL, id, mail)
		if err == nil && tag.RowsAffected() == 0 {
			return ErrNotFound
		}
		return err
	})
}
