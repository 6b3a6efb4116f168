package health

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

//go:embed queries/*.sql
var queries embed.FS

const (
	// heartbeat is how often unchanged states are stored again, so that the
	// next process can tell a short restart from a long silence.
	heartbeat = time.Minute
	// trustGap is how old a stored state may be for its "since" to be believed.
	trustGap = 3 * time.Minute
	// storeLimit bounds one write: the database may be what is broken.
	storeLimit = 2 * time.Second
)

// Saved is the stored state of a component.
type Saved struct {
	Component string
	State     State
	Since     time.Time
	LastGood  time.Time // zero: never seen working
	Detail    string
	UpdatedAt time.Time
}

// Store keeps states across restarts.
type Store interface {
	Load(ctx context.Context) ([]Saved, error)
	Save(ctx context.Context, list []Saved) error
}

// keeper writes states to the store: at once when one changes, otherwise once
// per heartbeat. It works beside the checks, so a broken database delays no
// answer; what could not be written is written when it is back.
type keeper struct {
	m       *Monitor
	written map[string]Saved
	beat    time.Time
	rolled  time.Time // when hours were made of minutes
	failing bool
}

func newKeeper(m *Monitor) *keeper { return &keeper{m: m, written: map[string]Saved{}} }

func (k *keeper) keep(ctx context.Context) {
	if k.m.store == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeLimit)
	defer cancel()
	if err := errors.Join(k.once(ctx), k.m.keepPast(ctx, &k.rolled)); err != nil {
		if !k.failing && ctx.Err() != context.Canceled {
			k.m.log.Warn("store health states", "err", err)
		}
		k.failing = true
		return
	}
	k.failing = false
}

func (k *keeper) once(ctx context.Context) error {
	now := k.m.now()
	due := now.Sub(k.beat) >= heartbeat || now.Before(k.beat)
	var list []Saved
	for _, s := range k.m.states(now) {
		old, ok := k.written[s.Component]
		if due || !ok || old.State != s.State || !old.Since.Equal(s.Since) {
			list = append(list, s)
		}
	}
	if len(list) == 0 {
		return nil
	}
	if err := k.m.store.Save(ctx, list); err != nil {
		return err
	}
	for _, s := range list {
		k.written[s.Component] = s
	}
	if due {
		k.beat = now
	}
	return nil
}

// Restore reads what an earlier process stored, so that "since" and "last
// good" survive a restart. Call it before the first check; without it, or
// when it fails, they begin anew.
func (m *Monitor) Restore(ctx context.Context) error {
	if m.store == nil {
		return nil
	}
	list, err := m.store.Load(ctx)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.saved = make(map[string]Saved, len(list))
	for _, s := range list {
		m.saved[s.Component] = s
	}
	return nil
}

// states returns what is to be stored now.
func (m *Monitor) states(now time.Time) []Saved {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]Saved, 0, len(m.memory))
	for name, mem := range m.memory {
		list = append(list, Saved{Component: name, State: mem.state, Since: mem.since, LastGood: mem.lastGood, Detail: mem.reason, UpdatedAt: now})
	}
	return list
}

// DBStore keeps states in the table health_state.
type DBStore struct{ db *pg.DB }

// NewDBStore returns a Store over the database.
func NewDBStore(db *pg.DB) *DBStore { return &DBStore{db: db} }

// Load reads all stored states.
func (s *DBStore) Load(ctx context.Context) ([]Saved, error) {
	rows, err := s.db.Query(ctx, pg.Query(queries, "load_states"))
	if err != nil {
		return nil, fmt.Errorf("read health states: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Saved, error) {
		var v Saved
		var good *time.Time
		err := row.Scan(&v.Component, &v.State, &v.Since, &good, &v.Detail, &v.UpdatedAt)
		if good != nil {
			v.LastGood = *good
		}
		return v, err
	})
	if err != nil {
		return nil, fmt.Errorf("read health states: %w", err)
	}
	return list, nil
}

// Save writes the states of a list.
func (s *DBStore) Save(ctx context.Context, list []Saved) error {
	query := pg.Query(queries, "save_state")
	err := s.db.Act(ctx, pg.System("health", "state of a component"), func(ctx context.Context, tx pgx.Tx) error {
		for _, v := range list {
			var good *time.Time
			if !v.LastGood.IsZero() {
				good = &v.LastGood
			}
			if _, err := tx.Exec(ctx, query, v.Component, v.State, v.Since, good, v.Detail, v.UpdatedAt); err != nil {
				return fmt.Errorf("component %s: %w", v.Component, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store health states: %w", err)
	}
	return nil
}
