package policy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

var (
	entriesInForceSQL = pg.Query(queryFiles, "entries_in_force")
	getEntrySQL       = pg.Query(queryFiles, "get_entry")
	listEntriesSQL    = pg.Query(queryFiles, "list_entries")
	insertEntrySQL    = pg.Query(queryFiles, "insert_entry")
	updateEntrySQL    = pg.Query(queryFiles, "update_entry")
	deleteEntrySQL    = pg.Query(queryFiles, "delete_entry")
	countUsesSQL      = pg.Query(queryFiles, "count_entry_uses")
)

// Errors of entries.
var (
	ErrBadCursor      = errors.New("policy: bad cursor")
	ErrReasonRequired = errors.New("policy: a reason is required")
)

func (s *Store) entriesInForce(ctx context.Context) ([]Entry, error) {
	rows, err := s.db.Query(ctx, entriesInForceSQL)
	if err != nil {
		return nil, fmt.Errorf("read entries: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Entry, error) { return scanEntry(row) })
}

func scanEntry(row pgx.Row) (e Entry, err error) {
	var group *uuid.UUID
	var classes []string
	err = row.Scan(&e.ID, &e.Workspace, &e.Domain, &group, &e.Direction, &e.Kind, &e.Match, &e.Value, &classes, &e.Class, &e.Action, &e.Owner, &e.Reason, &e.ExpiresAt,
		&e.CreatedBy, &e.Version, &e.CreatedAt, &e.UpdatedAt, &e.Hits, &e.LastHitAt)
	if err != nil {
		return e, err
	}
	if group != nil {
		e.Group = *group
	}
	e.Classes = []Class{}
	for _, c := range classes {
		e.Classes = append(e.Classes, Class(c))
	}
	if err := e.compile(); err != nil {
		return e, fmt.Errorf("entry %s: %w", e.ID, err)
	}
	return e, nil
}

// setEntries puts entries into a snapshot that nobody uses yet.
func (s *snapshot) setEntries(entries map[uuid.UUID][]Entry, now time.Time) {
	s.entries, s.sets, s.ends = entries, map[uuid.UUID]*EntrySet{}, time.Time{}
	for w, list := range entries {
		var valid []Entry
		for _, e := range list {
			if e.ExpiresAt != nil {
				if !e.ExpiresAt.After(now) {
					continue
				}
				if s.ends.IsZero() || e.ExpiresAt.Before(s.ends) {
					s.ends = *e.ExpiresAt
				}
			}
			valid = append(valid, e)
		}
		s.sets[w] = NewEntrySet(valid)
	}
}

// Entries are those of a workspace that are in force now. It reads memory only:
// an entry ends on time, also while the database is away.
func (s *Store) Entries(workspace uuid.UUID) *EntrySet {
	snap := s.snap.Load()
	if snap == nil {
		return nil
	}
	if now := s.now(); !snap.ends.IsZero() && !now.Before(snap.ends) {
		fresh := *snap
		fresh.setEntries(snap.entries, now)
		s.snap.CompareAndSwap(snap, &fresh)
		snap = &fresh
	}
	return snap.sets[workspace]
}

// EntryFilter selects entries. Empty fields select all; Workspaces must be given.
type EntryFilter struct {
	Workspaces []uuid.UUID
	Query      string // part of value, reason, owner or domain
	Kind       string
	Match      string
	State      string // active, ended or ""
	Cursor     string
	Limit      int // default 50, at most 500
}

// ListEntries reads one page, newest first.
func (s *Store) ListEntries(ctx context.Context, f EntryFilter) (list []Entry, next string, err error) {
	var cursor *uuid.UUID
	if f.Cursor != "" {
		id, err := uuid.Parse(f.Cursor)
		if err != nil {
			return nil, "", ErrBadCursor
		}
		cursor = &id
	}
	if f.Limit <= 0 {
		f.Limit = 50
	}
	f.Limit = min(f.Limit, 500)
	like := ""
	if q := strings.ToValidUTF8(strings.ReplaceAll(strings.TrimSpace(f.Query), "\x00", ""), ""); q != "" {
		like = "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(strings.ToLower(q)) + "%"
	}
	if f.Workspaces == nil {
		f.Workspaces = []uuid.UUID{}
	}
	rows, err := s.db.Query(ctx, listEntriesSQL, pg.PlanAnew, f.Workspaces, like, f.Kind, f.Match, f.State, cursor, f.Limit+1)
	if err != nil {
		return nil, "", fmt.Errorf("list entries: %w", err)
	}
	list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Entry, error) { return scanEntry(row) })
	if err != nil {
		return nil, "", fmt.Errorf("list entries: %w", err)
	}
	if len(list) > f.Limit {
		list = list[:f.Limit]
		next = list[f.Limit-1].ID.String()
	}
	return list, next, nil
}

// Entry reads one entry.
func (s *Store) Entry(ctx context.Context, id uuid.UUID) (Entry, error) {
	e, err := scanEntry(s.db.QueryRow(ctx, getEntrySQL, id))
	if errors.Is(err, pgx.ErrNoRows) {
		return Entry{}, ErrNotFound
	}
	if err != nil {
		return Entry{}, fmt.Errorf("read entry %s: %w", id, err)
	}
	return e, nil
}

// PutEntry makes an entry, or changes the one with its id that is still of its
// version: else it is [ErrConflict].
func (s *Store) PutEntry(ctx context.Context, actor pg.Actor, e Entry) (Entry, error) {
	if err := s.checkEntry(&e); err != nil {
		return Entry{}, err
	}
	classes := make([]string, len(e.Classes))
	for i, c := range e.Classes {
		classes[i] = string(c)
	}
	known := e.ID != uuid.Nil
	if !known {
		var err error
		if e.ID, err = uuid.NewV7(); err != nil {
			return Entry{}, fmt.Errorf("make entry id: %w", err)
		}
	}
	args := []any{e.ID, e.Workspace, e.Domain, pg.NullID(e.Group), e.Direction, e.Kind, e.Match, e.Value, classes, e.Class, e.Action, e.Owner, e.Reason, e.ExpiresAt}
	err := s.db.Act(pg.WithReason(ctx, e.Reason), actor, func(ctx context.Context, tx pgx.Tx) error {
		if known {
			tag, err := tx.Exec(ctx, updateEntrySQL, append(args, e.Version)...)
			if err == nil && tag.RowsAffected() == 0 {
				return ErrConflict
			}
			return err
		}
		tag, err := tx.Exec(ctx, insertEntrySQL, append(args, cmp.Or(actor.Email, actor.Display, string(actor.Type)), maxEntries)...)
		if err == nil && tag.RowsAffected() == 0 {
			return &InvalidError{"value", fmt.Sprintf("cannot be added: a workspace has %d entries at most", maxEntries)}
		}
		return err
	})
	if err != nil {
		return Entry{}, fmt.Errorf("store entry %s: %w", e.ID, err)
	}
	if err := s.Load(ctx); err != nil {
		return Entry{}, err
	}
	return s.Entry(ctx, e.ID)
}

// checkEntry checks an entry, and that its scope is there.
func (s *Store) checkEntry(e *Entry) (err error) {
	if e.Workspace == uuid.Nil {
		e.Workspace = DefaultWorkspace
	}
	if e.Domain == "" {
		e.Domain = "*"
	}
	if e.Domain, err = keptName(e.Domain); err != nil {
		return &InvalidError{"domain", "is not a domain name"}
	}
	if e.Domain != "*" {
		if r, ok := s.Lookup("x@" + e.Domain); !ok || r.Domain.Workspace != e.Workspace {
			return &InvalidError{"domain", "is none of ours"}
		}
	}
	if e.Group != uuid.Nil {
		if g, ok := s.Group(e.Group); !ok || g.Workspace != e.Workspace {
			return &InvalidError{"group_id", "is no group of the workspace"}
		}
	}
	return e.check(s.now())
}

// DeleteEntry removes an entry. The reason goes on record.
func (s *Store) DeleteEntry(ctx context.Context, actor pg.Actor, workspace, id uuid.UUID, reason string) error {
	if len(strings.TrimSpace(reason)) < 3 {
		return ErrReasonRequired
	}
	err := s.db.Act(pg.WithReason(ctx, reason), actor, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, deleteEntrySQL, id, workspace)
		if err == nil && tag.RowsAffected() == 0 {
			return ErrNotFound
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("delete entry %s: %w", id, err)
	}
	return s.Load(ctx)
}

// uses counts how often entries were used since they were last saved. What is
// not saved when the process dies is lost: it is a number for people.
type uses struct {
	mu     sync.Mutex
	counts map[uuid.UUID]int64 // guarded by mu
}

// Used counts the entries that a decision rests on.
func (s *Store) Used(d Decision) {
	seen := map[uuid.UUID]bool{}
	for _, r := range d.Recipients {
		for _, l := range r.Explain {
			if l.EntryID != uuid.Nil {
				seen[l.EntryID] = true
			}
		}
	}
	if len(seen) == 0 {
		return
	}
	s.uses.mu.Lock()
	defer s.uses.mu.Unlock()
	if s.uses.counts == nil {
		s.uses.counts = map[uuid.UUID]int64{}
	}
	for id := range seen {
		s.uses.counts[id]++
	}
}

// saveUses writes the counts down.
func (s *Store) saveUses(ctx context.Context) {
	s.uses.mu.Lock()
	counts := s.uses.counts
	s.uses.counts = nil
	s.uses.mu.Unlock()
	if len(counts) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var ids []uuid.UUID
	var numbers []int64
	for id, n := range counts {
		ids, numbers = append(ids, id), append(numbers, n)
	}
	if _, err := s.db.Exec(ctx, countUsesSQL, ids, numbers, s.now()); err != nil {
		s.log.Warn("uses of policy entries not counted", "entries", len(ids), "error", err)
	}
}
