package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/durable"
	"mailward/internal/pg"
)

const (
	// maxSpooled bounds what waits on the disk; beyond it no login is possible.
	maxSpooled = 10000
	spoolEvery = 5 * time.Second
	// recordWait is how long a login waits for the record before it is spooled.
	recordWait  = 5 * time.Second
	spoolSuffix = ".event"
)

// errUnrecorded wraps the failure of the record alone, as opposed to that of the act.
type errUnrecorded struct{ err error }

func (e *errUnrecorded) Error() string { return e.err.Error() }
func (e *errUnrecorded) Unwrap() error { return e.err }

// recorded does a login together with its events. Where only the record cannot
// be written, the events are kept on the disk first, and then the login is done:
// whoever mends the record has to get in.
func (s *Store) recorded(ctx context.Context, actor pg.Actor, events []audit.Event, fn func(context.Context, pgx.Tx) error) error {
	limited, cancel := context.WithTimeout(ctx, recordWait)
	defer cancel()
	err := s.db.Act(limited, actor, func(ctx context.Context, tx pgx.Tx) error {
		if err := fn(ctx, tx); err != nil {
			return err
		}
		for _, ev := range events {
			if _, err := s.record.Append(ctx, tx, ev); err != nil {
				return &errUnrecorded{err}
			}
		}
		return nil
	})
	var unrecorded *errUnrecorded
	if !errors.As(err, &unrecorded) || ctx.Err() != nil {
		return err
	}
	for _, ev := range events {
		if err := s.spoolEvent(ctx, ev, unrecorded); err != nil {
			return err
		}
	}
	return s.db.Act(ctx, actor, fn)
}

// recordOrSpool writes the event of a login that failed, or keeps it.
func (s *Store) recordOrSpool(ctx context.Context, ev audit.Event) error {
	limited, cancel := context.WithTimeout(ctx, recordWait)
	defer cancel()
	err := s.record.Record(limited, ev)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return s.spoolEvent(ctx, ev, err)
}

// spoolEvent keeps an event on the disk, encrypted and fsynced, with what the
// context says now. cause is why it is not in the record.
func (s *Store) spoolEvent(ctx context.Context, ev audit.Event, cause error) error {
	if s.spoolDir == "" || s.sealer == nil {
		return cause
	}
	ev.Time = s.now()
	if ev.Request == (pg.Request{}) {
		ev.Request, _ = pg.RequestFrom(ctx)
	}
	b, err := json.Marshal(ev)
	if err != nil {
		return fmt.Errorf("encode login for the spool: %w", errors.Join(err, cause))
	}
	id := uuid.New()
	if b, err = s.sealer.Wrap(ctx, b, []byte("login "+id.String())); err != nil {
		return fmt.Errorf("encrypt login for the spool: %w", errors.Join(err, cause))
	}
	names, err := s.spooledNames()
	if err == nil && len(names) >= maxSpooled {
		err = fmt.Errorf("%d logins wait for the record already", len(names))
	}
	if err == nil {
		// The name sorts by time.
		err = durable.WriteFile(filepath.Join(s.spoolDir, fmt.Sprintf("%020d-%s%s", ev.Time.UnixNano(), id, spoolSuffix)), b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("spool login: %w", errors.Join(err, cause))
	}
	s.spooled.Inc()
	s.waiting.Set(float64(len(names) + 1))
	s.log.Error("the audit cannot be written: a login is kept on the disk and recorded later", "action", ev.Action, "outcome", ev.Outcome, "waiting", len(names)+1, "error", cause)
	return nil
}

func (s *Store) spooledNames() ([]string, error) {
	entries, err := os.ReadDir(s.spoolDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), spoolSuffix) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// RunSpool puts spooled logins into the record as soon as that can be written.
func (s *Store) RunSpool(ctx context.Context) error {
	tick := time.NewTicker(spoolEvery)
	defer tick.Stop()
	for {
		s.drainSpool(ctx)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// drainSpool records what waits, the oldest first, and stops at the first
// failure. An event whose file could not be removed after it was recorded is
// recorded twice, and known by the name of the file in both.
func (s *Store) drainSpool(ctx context.Context) {
	names, err := s.spooledNames()
	if err != nil {
		s.log.Error("spooled logins not read", "error", err)
		return
	}
	s.waiting.Set(float64(len(names)))
	for i, name := range names {
		if err := s.recordSpooled(ctx, name); err != nil {
			if ctx.Err() == nil {
				s.log.Error("spooled logins still wait for the record", "waiting", len(names)-i, "error", err)
			}
			return
		}
		s.waiting.Set(float64(len(names) - i - 1))
	}
	if len(names) > 0 {
		s.log.Info("spooled logins are in the record now", "events", len(names))
	}
}

func (s *Store) recordSpooled(ctx context.Context, name string) error {
	path := filepath.Join(s.spoolDir, name)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // another process was faster
	}
	if err != nil {
		return err
	}
	_, id, _ := strings.Cut(strings.TrimSuffix(name, spoolSuffix), "-")
	if b, err = s.sealer.Unwrap(ctx, b, []byte("login "+id)); err != nil {
		return fmt.Errorf("read spooled login %s: %w", name, err)
	}
	var ev audit.Event
	if err := json.Unmarshal(b, &ev); err != nil {
		return fmt.Errorf("decode spooled login %s: %w", name, err)
	}
	// Its id is of now, its time that of the login.
	ev.ID, ev.ReasonCode, ev.Reason = uuid.Nil, "spooled", "kept on the disk while the audit could not be written"
	ev.Targets = append(ev.Targets, audit.Target{Type: "spooled_event", ID: id})
	if err := s.record.Record(ctx, ev); err != nil {
		return err
	}
	return os.Remove(path)
}
