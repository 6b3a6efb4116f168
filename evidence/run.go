package evidence

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/approval"
	"mailward/audit"
	"mailward/internal/pg"
	"mailward/quarantine"
)

const (
	lookEvery = time.Second
	lease     = 2 * time.Minute // a worker that is silent for longer has died
	makeLimit = 10 * time.Minute
	maxTries  = 5
	tryAgain  = 30 * time.Second
)

func worker(id uuid.UUID) pg.Actor { return pg.System("evidence export", "export "+id.String()) }

// Run makes exports that are decided, until ctx ends. Any number of processes may
// run it.
func (s *Store) Run(ctx context.Context) error {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		for {
			again, err := s.Next(ctx)
			if err != nil && ctx.Err() == nil {
				s.Log.Error("exports of evidence stand still", "error", err)
			}
			if !again || ctx.Err() != nil {
				break
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// Next makes one export, if one waits.
func (s *Store) Next(ctx context.Context) (more bool, err error) {
	return s.next(ctx, claimSQL, int(lease/time.Second))
}

// Make makes one export now; one that another process makes is left to it.
func (s *Store) Make(ctx context.Context, id uuid.UUID) error {
	_, err := s.next(ctx, claimOneSQL, int(lease/time.Second), id)
	return err
}

// next claims an export and puts on record, in the same transaction, that its mails
// are read from here on. If that cannot be written, nothing is read.
func (s *Store) next(ctx context.Context, claim string, args ...any) (bool, error) {
	var id uuid.UUID
	var tries int
	var read readEvent
	err := s.DB.Act(ctx, pg.System("evidence export", "decision"), func(ctx context.Context, tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, claim, args...).Scan(&id, &tries); err != nil {
			return err
		}
		var err error
		read, err = s.begin(ctx, tx, id)
		return err
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, nil
	case errors.Is(err, ErrForged):
		return true, s.giveUp(ctx, id, 0, err)
	case err != nil:
		return false, fmt.Errorf("begin an export: %w", err)
	}
	try, cancel := context.WithTimeout(ctx, makeLimit)
	defer cancel()
	err = s.kept(try, id, tries, lease/8, func(ctx context.Context) error { return s.make(ctx, id, tries, read) })
	if err == nil {
		return true, nil
	}
	return true, s.failed(context.WithoutCancel(ctx), id, tries, err)
}

// kept does work of a try, and keeps the export for it meanwhile: one step may take
// longer than the lease. Where another worker has taken it, the work is ended.
func (s *Store) kept(ctx context.Context, id uuid.UUID, tries int, every time.Duration, work func(context.Context) error) error {
	renew := func(ctx context.Context) error {
		err := s.step(ctx, id, tries, "")
		if errors.Is(err, ErrState) {
			return pg.ErrLeaseLost
		}
		return err
	}
	kept, stop := pg.KeepLease(ctx, every, renew, func(err error) {
		s.Log.Warn("an export that is being made could not be kept", "export", id, "error", err)
	})
	defer stop()
	err := work(kept)
	if cause := context.Cause(kept); errors.Is(cause, pg.ErrLeaseLost) {
		return cause
	}
	return err
}

// readEvent is the event under which the mails are read.
type readEvent struct {
	ID uuid.UUID
	At time.Time
}

func (s *Store) begin(ctx context.Context, tx pgx.Tx, id uuid.UUID) (readEvent, error) {
	detail, err := decided(ctx, tx, id)
	if err != nil {
		return readEvent{}, err
	}
	e, err := s.Get(ctx, id)
	if err != nil {
		return readEvent{}, err
	}
	at, actor := s.Now(), worker(id)
	event, err := s.Audit.Append(ctx, tx, audit.Event{Action: audit.EvidenceRead, Phase: "intent", Workspace: e.Workspace, Actor: actor, Retention: audit.Retention3Years, Reason: e.Reason,
		Targets: exportTargets(e), After: detail, Correlation: audit.Correlation{CausationID: e.Intent.String()}})
	if err != nil {
		return readEvent{}, err
	}
	return readEvent{event, at}, s.custody(ctx, tx, custody{Export: id, Workspace: e.Workspace, At: at, Event: "read", Actor: actor, Place: s.cfg.Hostname, AuditEvent: event})
}

func exportTargets(e Export) []audit.Target {
	list := []audit.Target{{Type: "evidence_export", ID: e.ID.String(), Label: e.EvidenceID}}
	for _, m := range e.Mails {
		list = append(list, audit.Target{Type: "quarantine_item", ID: m.ID.String(), Label: m.Class})
	}
	return list
}

// decided compares an export with what the audit has of its decision: who asked
// has asked for just this, and where two people are needed another one agreed.
func decided(ctx context.Context, tx pgx.Tx, id uuid.UUID) (map[string]any, error) {
	var mode string
	var row, asked, agreed []byte
	var by, approver *uuid.UUID
	var subject uuid.UUID
	var items []uuid.UUID
	if err := tx.QueryRow(ctx, decisionSQL, id).Scan(&mode, &row, &by, &subject, &asked, &agreed, &approver, &items); err != nil {
		return nil, fmt.Errorf("read decision on an export: %w", err)
	}
	installed, err := approval.FourEyes(ctx, tx)
	if err != nil {
		return nil, err
	}
	type event struct {
		Action  string
		Actor   struct{ ID string }
		Targets []struct{ ID string }
		Change  struct{ After any }
	}
	var a, b event
	var detail map[string]any
	if json.Unmarshal(row, &detail) != nil || detail["export_id"] != id.String() || !sameItems(detail["items"], items) || json.Unmarshal(asked, &a) != nil {
		return nil, fmt.Errorf("%w: the audit has no event for it", ErrForged)
	}
	want, first := audit.EvidenceExecute, id
	if mode == approval.Required {
		want, first = audit.EvidenceRequest, subject
	} else if installed == approval.Required {
		return nil, fmt.Errorf("%w: it skips the second person that is needed", ErrForged)
	}
	was, err1 := json.Marshal(a.Change.After)
	is, err2 := json.Marshal(detail)
	actor := ""
	if by != nil {
		actor = by.String()
	}
	if err1 != nil || err2 != nil || !bytes.Equal(was, is) || a.Action != want || a.Actor.ID != actor || len(a.Targets) == 0 || a.Targets[0].ID != first.String() {
		return nil, fmt.Errorf("%w: its event tells of something else", ErrForged)
	}
	if mode == approval.Required {
		ok := json.Unmarshal(agreed, &b) == nil && approver != nil && by != nil && *approver != *by && b.Action == audit.EvidenceApprove && b.Actor.ID == approver.String() &&
			len(b.Targets) > 0 && b.Targets[0].ID == subject.String()
		if !ok {
			return nil, fmt.Errorf("%w: no second person agreed", ErrForged)
		}
	}
	return detail, nil
}

// sameItems compares the mails of the decision with those of the row.
func sameItems(decided any, items []uuid.UUID) bool {
	list, _ := decided.([]any)
	if len(list) != len(items) {
		return false
	}
	for i, id := range items {
		if list[i] != id.String() {
			return false
		}
	}
	return true
}

// failed puts off what may work later, and gives up what will not.
func (s *Store) failed(ctx context.Context, id uuid.UUID, tries int, err error) error {
	s.Log.Error("export of evidence has failed", "export", id, "try", tries, "error", err)
	final := errors.Is(err, ErrDamaged) || errors.Is(err, ErrForged) || errors.Is(err, quarantine.ErrGone) || errors.Is(err, quarantine.ErrBlobMissing) || errors.Is(err, quarantine.ErrBlobDamaged)
	if final || tries >= maxTries {
		return s.giveUp(ctx, id, tries, err)
	}
	return s.DB.Act(ctx, worker(id), func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, againSQL, id, publicError(err), int(tryAgain/time.Second)*tries, tries); err != nil {
			return fmt.Errorf("put off export: %w", err)
		}
		return nil
	})
}

// publicError is what people are told; the cause is in the log.
func publicError(err error) string {
	switch {
	case errors.Is(err, ErrDamaged), errors.Is(err, quarantine.ErrBlobDamaged):
		return "damaged"
	case errors.Is(err, ErrForged):
		return "forged"
	case errors.Is(err, quarantine.ErrGone), errors.Is(err, quarantine.ErrBlobMissing):
		return "gone"
	case errors.Is(err, audit.ErrUnwritable):
		return "audit"
	case errors.Is(err, errStamp):
		return "stamp"
	case errors.Is(err, errStore):
		return "store"
	}
	return "internal"
}

// giveUp ends an export, on record, if it is still this try's.
func (s *Store) giveUp(ctx context.Context, id uuid.UUID, tries int, cause error) error {
	e, err := s.Get(ctx, id)
	if err != nil {
		return err
	}
	why := publicError(cause)
	ev := audit.Event{Action: audit.EvidenceFailed, Outcome: "failure", OutcomeCode: why, Severity: "warning", Workspace: e.Workspace, Actor: worker(id), Retention: audit.Retention3Years,
		Targets: exportTargets(e), Correlation: audit.Correlation{CausationID: e.Intent.String()}}
	if errors.Is(cause, ErrDamaged) || errors.Is(cause, ErrForged) || errors.Is(cause, quarantine.ErrBlobDamaged) {
		ev.Severity = "critical"
	}
	return s.DB.Act(ctx, ev.Actor, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, failSQL, id, why, tries)
		if err != nil {
			return fmt.Errorf("end export: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return nil
		}
		_, err = s.Audit.Append(ctx, tx, ev)
		return err
	})
}

// step notes what a try does now, "" that it goes on, and keeps the export for it.
// [ErrState] is that of another worker.
func (s *Store) step(ctx context.Context, id uuid.UUID, tries int, step string) error {
	return s.DB.Act(ctx, worker(id), func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, setStepSQL, id, step, int(lease/time.Second), tries)
		if err != nil {
			return fmt.Errorf("note step of an export: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return ErrState
		}
		return nil
	})
}
