package quarantine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
	"mailward/policy"
)

var (
	coverageChooseSQL      = pg.Query(queryFiles, "coverage_choose")
	coverageInsertSQL      = pg.Query(queryFiles, "coverage_insert")
	coverageInsertItemsSQL = pg.Query(queryFiles, "coverage_insert_items")
	coverageScansSQL       = pg.Query(queryFiles, "coverage_scans")
	lateHitsSQL            = pg.Query(queryFiles, "late_hits")
)

// CoverageMax is how many mails one scan takes; the rest is scanned by another.
const CoverageMax = 5000

// ErrNothingUnseen says that there is no mail to be scanned again.
var ErrNothingUnseen = errors.New("quarantine: no mail of this time that is still here was decided without an engine")

// Coverage scans mail again that was decided without the answer of an engine, as
// far as its bytes are still here: what is held, and what was held.
type Coverage struct {
	s    *Store
	log  *slog.Logger
	late func(workspace uuid.UUID, domains []string)
}

// NewCoverage returns a Coverage over a store. late hears of each mail that turns
// out worse and is with a recipient, and of the domains of those who have it.
func NewCoverage(s *Store, log *slog.Logger, late func(workspace uuid.UUID, domains []string)) *Coverage {
	return &Coverage{s: s, log: log, late: late}
}

// CoverageAsk is what somebody wants scanned.
type CoverageAsk struct {
	Workspaces []uuid.UUID // in which they may
	From, To   time.Time
	Reason     string
	Author     string
}

// Start notes a scan. It is done a moment later.
func (c *Coverage) Start(ctx context.Context, actor pg.Actor, ask CoverageAsk) (id uuid.UUID, err error) {
	if ask.Reason = strings.TrimSpace(clean(ask.Reason)); len([]rune(ask.Reason)) < 3 || len([]rune(ask.Reason)) > 500 {
		return id, ErrReasonRequired
	}
	if !ask.To.After(ask.From) {
		return id, ErrNothingUnseen
	}
	if id, err = uuid.NewV7(); err != nil {
		return id, err
	}
	rows, err := c.s.db.Query(ctx, coverageChooseSQL, pg.PlanAnew, ask.Workspaces, ask.From, ask.To, CoverageMax+1)
	if err != nil {
		return id, fmt.Errorf("look for mail without an engine: %w", err)
	}
	var items, workspaces []uuid.UUID
	var item, workspace uuid.UUID
	if _, err = pgx.ForEachRow(rows, []any{&item, &workspace}, func() error {
		items, workspaces = append(items, item), append(workspaces, workspace)
		return nil
	}); err != nil {
		return id, fmt.Errorf("look for mail without an engine: %w", err)
	}
	if len(items) == 0 {
		return id, ErrNothingUnseen
	}
	n := min(len(items), CoverageMax)
	err = c.s.db.Act(pg.WithReason(ctx, ask.Reason), actor, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, coverageInsertSQL, id, ask.Workspaces, ask.From, ask.To, ask.Reason, pg.NullID(actor.UserID), ask.Author, n, len(items) > n); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, coverageInsertItemsSQL, id, items[:n], workspaces[:n])
		return err
	})
	if err != nil {
		return id, fmt.Errorf("note a scan of %d mails: %w", n, err)
	}
	return id, nil
}

// CoverageScan is one scan, and what it came to.
type CoverageScan struct {
	ID         uuid.UUID  `json:"id"`
	From       time.Time  `json:"from"`
	To         time.Time  `json:"to"`
	Reason     string     `json:"reason"`
	Author     string     `json:"author"`
	State      string     `json:"state" enum:"running,done,stopped"`
	Trouble    string     `json:"trouble" doc:"why it waits or was stopped"`
	Cut        bool       `json:"cut" doc:"there is more than one scan takes"`
	CreatedAt  time.Time  `json:"created_at"`
	FinishedAt *time.Time `json:"finished_at,omitempty"`
	Total      int        `json:"total"`
	Pending    int        `json:"pending"`
	Same       int        `json:"same"`
	Worse      int        `json:"worse" doc:"the late hits"`
	Gone       int        `json:"gone" doc:"its bytes were not here any more"`
	Failed     int        `json:"failed"`
}

// Scans lists the newest, as far as they are about some workspaces.
func (c *Coverage) Scans(ctx context.Context, workspaces []uuid.UUID, limit int) ([]CoverageScan, error) {
	rows, err := c.s.db.Query(ctx, coverageScansSQL, workspaces, limit)
	if err != nil {
		return nil, fmt.Errorf("read scans: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[CoverageScan])
}

// Holder is who has a mail, or may have it.
type Holder struct {
	Address string    `json:"address"`
	Since   time.Time `json:"since"`
}

// LateHit is a mail that a scan found to be worse than it was decided as.
type LateHit struct {
	Item      uuid.UUID        `json:"item_id"`
	Mail      uuid.UUID        `json:"mail_id"`
	Workspace uuid.UUID        `json:"workspace_id"`
	Class     policy.Class     `json:"class"`
	Found     []policy.Finding `json:"found" nullable:"false"`
	At        time.Time        `json:"at"`
	Subject   string           `json:"subject"`
	Holders   []Holder         `json:"holders" nullable:"false" doc:"who has it, since when; none: it is held"`
}

// Hits lists what scans have found late, the newest first.
func (c *Coverage) Hits(ctx context.Context, workspaces []uuid.UUID, limit int) ([]LateHit, error) {
	return c.s.LateHits(ctx, LateFilter{Workspaces: workspaces, Held: true, Limit: limit})
}

// LateFilter says which late hits somebody asks for.
type LateFilter struct {
	Since      time.Time
	All        bool // of all workspaces
	Workspaces []uuid.UUID
	Domain     string // of who has the mail; "": any
	Sandbox    bool   // what the sandbox said, not what a scan of missed mail found
	Held       bool   // also what nobody has
	Limit      int
}

// LateHits lists what was found bad after it was decided, the newest first.
func (s *Store) LateHits(ctx context.Context, f LateFilter) ([]LateHit, error) {
	spaces := append([]uuid.UUID{}, f.Workspaces...)
	if f.All {
		spaces = nil
	}
	rows, err := s.db.Query(ctx, lateHitsSQL, pg.PlanAnew, f.Since, spaces, f.Domain, f.Sandbox, f.Held, f.Limit)
	if err != nil {
		return nil, fmt.Errorf("read late hits: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (h LateHit, err error) {
		var found, holders []byte
		if err = row.Scan(&h.Item, &h.Mail, &h.Workspace, &h.Class, &found, &h.At, &h.Subject, &holders); err != nil {
			return h, err
		}
		return h, errors.Join(json.Unmarshal(found, &h.Found), json.Unmarshal(holders, &h.Holders))
	})
}
