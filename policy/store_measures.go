package policy

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

var (
	measuresSQL     = pg.Query(queryFiles, "measures")
	putTouchesSQL   = pg.Query(queryFiles, "put_touches")
	pauseReleaseSQL = pg.Query(queryFiles, "pause_release")
)

// saveTouchesAfter is how long what reactions touch is collected before it is
// written down.
const saveTouchesAfter = time.Second

func (s *Store) measuresInForce(ctx context.Context) ([]*Measure, error) {
	rows, err := s.db.Query(ctx, measuresSQL)
	if err != nil {
		return nil, fmt.Errorf("read reactions: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*Measure, error) {
		m := &Measure{}
		err := row.Scan(&m.ID, &m.Workspace, &m.Kind, &m.Trial, &m.Domain, &m.Direction, &m.Match, &m.Value, &m.Divisor, &m.Most, &m.Cause, &m.Ends, &m.Touched)
		return m, err
	})
	if err != nil {
		return nil, fmt.Errorf("read reactions: %w", err)
	}
	return slices.DeleteFunc(list, func(m *Measure) bool {
		err := m.compile() // was checked when it began: somebody has been at the table
		if err != nil {
			s.log.Error("a reaction cannot be used", "reaction", m.ID, "error", err)
		}
		return err != nil
	}), nil
}

// touch is one thing that a reaction has touched.
type touch struct{ reaction, thing uuid.UUID }

// touches are those that are not in the snapshot yet. What is not saved when the
// process dies is lost: each held mail has its own record.
type touches struct {
	mu      sync.Mutex                          // held, too, while a snapshot is put in place: each touch counts in one of both
	pending map[uuid.UUID]map[uuid.UUID]pending // by reaction and thing; guarded by mu
	signal  chan struct{}                       // something was added
}

type pending struct {
	at    time.Time
	saved bool // a snapshot that is read from now on counts it
}

// room says whether a reaction of the snapshot may touch one thing more. mu is held.
func (t *touches) room(m *Measure) bool {
	return m.Touched+len(t.pending[m.ID]) < m.Most
}

// add counts a thing. mu is held.
func (t *touches) add(x touch, at time.Time) {
	if t.pending == nil {
		t.pending = map[uuid.UUID]map[uuid.UUID]pending{}
	}
	if t.pending[x.reaction] == nil {
		t.pending[x.reaction] = map[uuid.UUID]pending{}
	}
	if _, known := t.pending[x.reaction][x.thing]; known {
		return
	}
	t.pending[x.reaction][x.thing] = pending{at: at}
	select {
	case t.signal <- struct{}{}:
	default:
	}
}

// list gives the pending ones that are saved, or that are not.
func (t *touches) list(saved bool) (list []touch, times []time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for reaction, things := range t.pending {
		for thing, p := range things {
			if p.saved == saved {
				list, times = append(list, touch{reaction, thing}), append(times, p.at)
			}
		}
	}
	return list, times
}

// Measures are the reactions in force that may still touch mail of a workspace.
// It reads memory only: one ends on time, also while the database is away. What
// several processes touch within a second of each other they do not know.
func (s *Store) Measures(workspace uuid.UUID) (list []*Measure) {
	snap := s.snap.Load()
	if snap == nil || len(snap.measures) == 0 {
		return nil
	}
	now := s.now()
	s.touches.mu.Lock()
	defer s.touches.mu.Unlock()
	for _, m := range snap.measures {
		if (m.Workspace == uuid.Nil || m.Workspace == workspace) && now.Before(m.Ends) && s.touches.room(m) {
			list = append(list, m)
		}
	}
	return list
}

// Touch counts a mail for the reactions that touch it. False means that one of
// them has become full or has ended in the meantime, and nothing is counted: the
// decision is to be made anew.
func (s *Store) Touch(mail uuid.UUID, list []*Measure) bool {
	if len(list) == 0 {
		return true
	}
	s.touches.mu.Lock()
	defer s.touches.mu.Unlock()
	snap := s.snap.Load()
	for _, m := range list {
		// The list may be of an earlier snapshot, which counts less.
		i := slices.IndexFunc(snap.measures, func(now *Measure) bool { return now.ID == m.ID })
		if i < 0 || !s.touches.room(snap.measures[i]) {
			return false
		}
	}
	for _, m := range list {
		s.touches.add(touch{m.ID, mail}, s.now())
	}
	return true
}

// saveTouches writes down what is pending: it stays so until a snapshot counts it.
func (s *Store) saveTouches(ctx context.Context) {
	list, times := s.touches.list(false)
	if len(list) == 0 {
		return
	}
	var reactions, things []uuid.UUID
	for _, x := range list {
		reactions, things = append(reactions, x.reaction), append(things, x.thing)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := s.db.Exec(ctx, putTouchesSQL, reactions, things, times); err != nil {
		s.log.Warn("mails that reactions touch not written down yet", "mails", len(list), "error", err)
		return
	}
	s.touches.mu.Lock()
	defer s.touches.mu.Unlock()
	for i, x := range list {
		s.touches.pending[x.reaction][x.thing] = pending{at: times[i], saved: true}
	}
}

// publish puts a snapshot in place, and forgets the touches that it counts.
func (s *Store) publish(snap *snapshot, counted []touch) {
	s.touches.mu.Lock()
	defer s.touches.mu.Unlock()
	s.snap.Store(snap)
	for _, x := range counted {
		if delete(s.touches.pending[x.reaction], x.thing); len(s.touches.pending[x.reaction]) == 0 {
			delete(s.touches.pending, x.reaction)
		}
	}
}

// Paused says whether a reaction holds a release back, for a worker that may ask
// the database: what is held back once is so until the reaction ends. why names it.
func (s *Store) Paused(ctx context.Context, workspace uuid.UUID, domain string, mail uuid.UUID) (why string, err error) {
	snap := s.snap.Load()
	if snap == nil {
		return "", nil
	}
	for _, m := range snap.measures {
		if m.Kind != MeasurePause || m.Workspace != uuid.Nil && m.Workspace != workspace || m.Domain != "" && m.Domain != domain || !s.now().Before(m.Ends) {
			continue
		}
		var paused bool
		if err := s.db.QueryRow(ctx, pauseReleaseSQL, m.ID, mail).Scan(&paused); err != nil {
			return "", fmt.Errorf("ask whether releases are paused: %w", err)
		}
		if paused && !m.Trial {
			why = m.Cause
		}
	}
	return why, nil
}

// Tighter says how many times tighter the limits of clients and senders are for
// now; trial: that it is only to be counted.
func (s *Store) Tighter() (by int, trial bool) {
	m := s.tightening()
	if m == nil {
		return 1, false
	}
	return m.Divisor, m.Trial
}

// Refused counts a refusal that only the tighter limits have made, or would have.
func (s *Store) Refused() {
	if m := s.tightening(); m != nil {
		if id, err := uuid.NewV7(); err == nil {
			s.Touch(id, []*Measure{m})
		}
	}
}

// tightening is the strictest of those in force; one that is meant counts before
// one that is tried.
func (s *Store) tightening() (best *Measure) {
	for _, m := range s.Measures(uuid.Nil) {
		if m.Kind == MeasureTighten && (best == nil || best.Trial && !m.Trial || best.Trial == m.Trial && m.Divisor > best.Divisor) {
			best = m
		}
	}
	return best
}
