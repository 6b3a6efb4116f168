package seal

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

// Anchor leaves a checkpoint with somebody else.
type Anchor interface {
	// Send returns what the other side answered, to be kept as it is, and a line
	// that says it to people. An error means that nobody may rely on it.
	Send(ctx context.Context, c Signed) (receipt []byte, detail string, err error)
	Kind() string   // tsa, email, webhook, bucket
	Target() string // where to, without secrets
}

// Named is an anchor of the configuration.
type Named struct {
	Anchor
	Name  string
	Every time.Duration // between two checkpoints that it takes
}

const (
	anchorLook    = 15 * time.Second
	anchorLimit   = time.Minute // of one try
	anchorBackoff = time.Minute // after the first failure; doubled each time
	anchorMost    = time.Hour   // between two tries
	anchorLock    = 8           // of [audit.Log.Lead]
)

// anchorState is how an anchor does.
type anchorState struct {
	Name         string
	OK           bool // of the last try
	At           time.Time
	Detail       string
	Size         uint64 // of the checkpoint that was tried last
	LastOK       *time.Time
	FailingSince *time.Time
	Failures     int
}

// due says whether an anchor has to be tried now.
func (st anchorState) due(now time.Time, every time.Duration) bool {
	return !now.Before(st.next(every))
}

// next is when it has to be tried again; zero: with the next checkpoint.
func (st anchorState) next(every time.Duration) time.Time {
	switch {
	case st.At.IsZero():
		return time.Time{}
	case st.Failures == 0:
		return st.At.Add(every)
	}
	return st.At.Add(min(anchorBackoff<<min(st.Failures-1, 6), anchorMost))
}

// RunAnchors hands checkpoints out until ctx ends. One process at a time does.
func (s *Sealer) RunAnchors(ctx context.Context) error {
	if len(s.Anchors) == 0 {
		<-ctx.Done()
		return nil
	}
	return s.Audit.Lead(ctx, anchorLock, func(ctx context.Context) error {
		t := time.NewTicker(anchorLook)
		defer t.Stop()
		for {
			if err := s.AnchorDue(ctx); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return nil
			case <-t.C:
			}
		}
	})
}

// AnchorDue tries each anchor whose time has come with the newest checkpoint.
func (s *Sealer) AnchorDue(ctx context.Context) error {
	states, err := s.anchorStates(ctx)
	if err != nil {
		return err
	}
	last, err := s.Last(ctx)
	if errors.Is(err, ErrNotSealed) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, a := range s.Anchors {
		if st := states[a.Name]; st.due(s.Now(), a.Every) && !(st.OK && st.Size == last.Size) {
			if err := s.anchor(ctx, a, last, st); err != nil {
				return err
			}
		}
	}
	return nil
}

// anchor tries one and keeps what came of it. A failure is an event when it
// begins and when it ends, not at each try.
func (s *Sealer) anchor(ctx context.Context, a Named, c Signed, before anchorState) error {
	try, cancel := context.WithTimeout(ctx, anchorLimit)
	receipt, detail, err := a.Send(try, c)
	cancel()
	if ctx.Err() != nil {
		return nil
	}
	if receipt == nil {
		receipt = []byte{}
	}
	ev := audit.Event{Actor: pg.System("audit anchors", "schedule"), Retention: audit.Retention3Years, Targets: []audit.Target{{Type: "anchor", ID: a.Name, Label: a.Kind()}}}
	switch {
	case err != nil:
		detail = err.Error()
		s.Log.Error("checkpoint not anchored, trying again", "anchor", a.Name, "kind", a.Kind(), "size", c.Size, "error", err)
		if before.Failures == 0 {
			ev.Action, ev.Outcome, ev.Severity, ev.OutcomeDetail = audit.AnchorFailed, "failure", "critical", detail
		}
	case before.Failures > 0:
		ev.Action, ev.OutcomeDetail = audit.AnchorRecovered, detail
	}
	id, idErr := uuid.NewV7()
	if idErr != nil {
		return fmt.Errorf("make anchor id: %w", idErr)
	}
	return s.DB.Act(ctx, ev.Actor, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, addAnchorSQL, id, c.Origin, c.Size, a.Name, a.Kind(), a.Target(), err == nil, receipt, detail); err != nil {
			return fmt.Errorf("keep receipt of anchor %s: %w", a.Name, err)
		}
		if ev.Action == "" {
			return nil
		}
		_, err := s.Audit.Append(ctx, tx, ev)
		return err
	})
}

func (s *Sealer) anchorStates(ctx context.Context) (map[string]anchorState, error) {
	rows, err := s.DB.Query(ctx, anchorsSQL)
	if err != nil {
		return nil, fmt.Errorf("read anchors: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[anchorState])
	if err != nil {
		return nil, fmt.Errorf("read anchors: %w", err)
	}
	out := map[string]anchorState{}
	for _, st := range list {
		out[st.Name] = st
	}
	return out, nil
}

// Receipt is one try to anchor.
type Receipt struct {
	ID      uuid.UUID `json:"id"`
	Origin  string    `json:"origin"`
	Size    uint64    `json:"size"`
	Name    string    `json:"name"`
	Kind    string    `json:"kind"`
	Target  string    `json:"target"`
	OK      bool      `json:"ok"`
	Receipt []byte    `json:"receipt"`
	Detail  string    `json:"detail"`
	At      time.Time `json:"at"`
}

// Receipts lists tries, newest first, before the one with the id (nil: from the
// newest on).
func (s *Sealer) Receipts(ctx context.Context, before *uuid.UUID, most int, onlyOK bool) ([]Receipt, error) {
	rows, err := s.DB.Query(ctx, receiptsSQL, pg.PlanAnew, most, before, onlyOK)
	if err != nil {
		return nil, fmt.Errorf("read receipts of anchors: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Receipt])
	if err != nil {
		return nil, fmt.Errorf("read receipts of anchors: %w", err)
	}
	return list, nil
}

// AnchorStatus is how one anchor of the configuration does.
type AnchorStatus struct {
	Name, Kind, Target string
	LastOK             *time.Time
	FailingSince       *time.Time
	Detail             string
	Late               bool // it has taken nothing for twice its interval
	Every              time.Duration
	Next               time.Time // when it is tried again, if there is something new; zero: with the next checkpoint
}

// Status is how sealing does.
type Status struct {
	Origin   string
	Size     uint64
	SignedAt *time.Time
	Unsealed int64      // events that are numbered and not sealed
	Oldest   *time.Time // of those
	Refused  string     // why nothing is signed
	Anchors  []AnchorStatus
}

// Status reads what Health shows.
func (s *Sealer) Status(ctx context.Context) (st Status, err error) {
	if err := s.DB.QueryRow(ctx, statusSQL).Scan(&st.Origin, &st.Size, &st.SignedAt, &st.Unsealed, &st.Oldest); err != nil {
		return st, fmt.Errorf("read state of the seal: %w", err)
	}
	s.mu.Lock()
	st.Refused = s.refused
	s.mu.Unlock()
	states, err := s.anchorStates(ctx)
	if err != nil {
		return st, err
	}
	for _, a := range s.Anchors {
		have := states[a.Name]
		as := AnchorStatus{Name: a.Name, Kind: a.Kind(), Target: a.Target(), LastOK: have.LastOK, FailingSince: have.FailingSince, Detail: have.Detail, Every: a.Every, Next: have.next(a.Every)}
		// An idle tree grows by its heartbeat only.
		as.Late = have.LastOK != nil && s.Now().Sub(*have.LastOK) > 2*a.Every+2*heartbeat
		st.Anchors = append(st.Anchors, as)
	}
	return st, nil
}
