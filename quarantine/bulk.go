package quarantine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
)

// BulkMax is how many items one act takes. More than that nobody has looked at;
// the page says so, and the rest is selected again.
const BulkMax = 1000

// BulkAct is what is done with many items.
type BulkAct string

// The acts. Each does what the act on one item does, with all its checks.
const (
	BulkRelease BulkAct = "release" // or the request for one, where two people decide
	BulkDelete  BulkAct = "delete"
	BulkDeny    BulkAct = "deny" // of releases that others have asked for
	BulkSandbox BulkAct = "sandbox"
)

// BulkActs lists them.
func BulkActs() []BulkAct { return []BulkAct{BulkRelease, BulkDelete, BulkDeny, BulkSandbox} }

// What is wrong with an act on many items.
var (
	ErrBulkEmpty   = errors.New("quarantine: no item is selected")
	ErrBulkChanged = errors.New("quarantine: the filter selects another number of items now")
	ErrBulkAct     = errors.New("quarantine: no such act")
)

// Asker is somebody in whose name an act is done, as they stand at that moment.
type Asker struct {
	Actor pg.Actor
	Roles []string
	May   func(act BulkAct, workspace uuid.UUID) bool
}

// ErrAskerGone means that nothing may be done in somebody's name any more.
var ErrAskerGone = errors.New("quarantine: the one who asked has left")

// Bulks does acts on many items. An act is a row with one for each item, so that
// one that breaks off goes on elsewhere, and each item is done at most once: what
// became of it is written in the transaction of its act.
type Bulks struct {
	s    *Store
	log  *slog.Logger
	who  func(ctx context.Context, a pg.Actor) (Asker, error)
	wake chan struct{}
}

// NewBulks returns Bulks over a store. who says what somebody may do now who has
// asked before; [ErrAskerGone] where they have logged out since.
func NewBulks(s *Store, log *slog.Logger, who func(ctx context.Context, a pg.Actor) (Asker, error)) *Bulks {
	return &Bulks{s: s, log: log, who: who, wake: make(chan struct{}, 1)}
}

// BulkAsk is what somebody wants done.
type BulkAsk struct {
	ID         uuid.UUID // chosen by who asks: the same one again is the same act
	Act        BulkAct
	Reason     string
	Workspaces []uuid.UUID // in which the person has the right
	Items      []uuid.UUID // these; none: what the filter selects
	Filter     Filter
	Expected   int    // how many the person saw that the filter selects
	Query      string // the filter as an address has it
}

// asked is what the events of the items need of the call.
type asked struct {
	Request     pg.Request         `json:"request"`
	Attestation *audit.Attestation `json:"attestation,omitempty"`
}

// Start notes an act, and what it is to be done with. It is done a moment later.
func (b *Bulks) Start(ctx context.Context, who Asker, ask BulkAsk) (Bulk, error) {
	ask.Reason = strings.TrimSpace(clean(ask.Reason))
	switch {
	case !slices.Contains(BulkActs(), ask.Act):
		return Bulk{}, ErrBulkAct
	case ask.Reason == "":
		return Bulk{}, ErrReasonRequired
	}
	if old, err := b.Get(ctx, who.Actor.UserID, ask.ID); err == nil {
		return old, nil
	}
	items, cut, err := b.choose(ctx, ask)
	if err != nil {
		return Bulk{}, err
	}
	err = b.s.db.Act(pg.WithReason(ctx, ask.Reason), who.Actor, func(ctx context.Context, tx pgx.Tx) error {
		return b.note(ctx, tx, who, ask, items, cut)
	})
	// A form that was sent twice: the other one was quicker.
	if err != nil && !pg.IsUnique(err, "quarantine_bulk_pkey") {
		return Bulk{}, fmt.Errorf("note an act on %d items: %w", len(items), err)
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return b.Get(ctx, who.Actor.UserID, ask.ID)
}

// choose finds the items of an act; cut says that the filter selects more.
func (b *Bulks) choose(ctx context.Context, ask BulkAsk) (items []uuid.UUID, cut bool, err error) {
	if len(ask.Items) > 0 {
		items = ask.Items[:min(len(ask.Items), BulkMax)]
		rows, err := b.s.db.Query(ctx, bulkChooseSQL, pg.PlanAnew, items, ask.Workspaces)
		if err != nil {
			return nil, false, fmt.Errorf("read selected items: %w", err)
		}
		if items, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID]); err != nil {
			return nil, false, fmt.Errorf("read selected items: %w", err)
		}
	} else {
		f := ask.Filter
		f.Workspaces = slices.DeleteFunc(slices.Clone(f.Workspaces), func(w uuid.UUID) bool { return !slices.Contains(ask.Workspaces, w) })
		f.Cursor, f.Limit = "", BulkMax
		n, err := b.s.Matching(ctx, f, CountCap+1)
		if err != nil {
			return nil, false, err
		}
		// Mail comes in meanwhile; another number is another decision.
		if diff := max(n-ask.Expected, ask.Expected-n); diff*100 > max(ask.Expected, 1) {
			return nil, false, fmt.Errorf("%w: %d, not %d", ErrBulkChanged, n, ask.Expected)
		}
		places, err := b.s.find(ctx, f)
		if err != nil {
			return nil, false, err
		}
		cut = len(places) > BulkMax
		for _, p := range places[:min(len(places), BulkMax)] {
			items = append(items, p.id)
		}
	}
	if len(items) == 0 {
		return nil, false, ErrBulkEmpty
	}
	return items, cut, nil
}

func (b *Bulks) note(ctx context.Context, tx pgx.Tx, who Asker, ask BulkAsk, items []uuid.UUID, cut bool) error {
	call := asked{Attestation: audit.AttestationFrom(ctx)}
	call.Request, _ = pg.RequestFrom(ctx)
	text, err := json.Marshal(call)
	if err != nil {
		return fmt.Errorf("encode the call: %w", err)
	}
	ev := audit.Event{Action: audit.BulkStart, Phase: "intent", Actor: who.Actor, Roles: who.Roles, Reason: ask.Reason, Retention: audit.Retention3Years,
		Targets: []audit.Target{{Type: "quarantine_bulk", ID: ask.ID.String(), Label: string(ask.Act)}},
		After:   map[string]any{"act": string(ask.Act), "items": len(items), "items_sha256": itemsHash(items)}}
	if ask.Query != "" && len(ask.Items) == 0 {
		ev.After["filter"] = audit.Personal(ask.Query)
	}
	if len(ask.Workspaces) == 1 {
		ev.Workspace = ask.Workspaces[0]
	}
	event, err := b.s.audit.Append(ctx, tx, ev)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, bulkInsertSQL, ask.ID, who.Actor.UserID, pg.NullID(who.Actor.SessionID), pg.NullID(who.Actor.TokenID), string(ask.Act), ask.Reason,
		clean(ask.Query), cut, text, event, len(items)); err != nil {
		return fmt.Errorf("insert act: %w", err)
	}
	if _, err := tx.Exec(ctx, bulkInsertItemsSQL, ask.ID, items); err != nil {
		return fmt.Errorf("insert items of act: %w", err)
	}
	return nil
}

// itemsHash ties the items to the event of the start.
func itemsHash(items []uuid.UUID) string {
	h := sha256.New()
	for _, id := range items {
		h.Write(id[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Bulk is an act on many items and how far it has come.
type Bulk struct {
	ID         uuid.UUID  `json:"id"`
	Owner      uuid.UUID  `json:"owner_id"`
	Act        BulkAct    `json:"act" enum:"release,delete,deny,sandbox"`
	Reason     string     `json:"reason"`
	Query      string     `json:"query,omitempty" doc:"the filter that selected the items"`
	Cut        bool       `json:"cut" doc:"the filter selected more than one act takes; the rest was left alone"`
	State      string     `json:"state" enum:"running,done,stopped"`
	Trouble    string     `json:"trouble,omitempty" doc:"why it waits or was stopped: record, session, forged"`
	Total      int        `json:"total"`
	Done       int        `json:"done"`
	Waiting    int        `json:"waiting" doc:"of those, that wait for a second person"`
	Refused    int        `json:"refused"`
	Failed     int        `json:"failed"`
	EventID    uuid.UUID  `json:"event_id" doc:"of the audit; the events of the items name it as their cause"`
	CreatedAt  time.Time  `json:"created_at"`
	FinishedAt *time.Time `json:"finished_at,omitempty"`
	Items      []BulkItem `json:"items,omitempty"`
}

// Handled is how many items have an answer.
func (b Bulk) Handled() int { return b.Done + b.Waiting + b.Refused + b.Failed }

// BulkItem is what became of one item.
type BulkItem struct {
	ID      uuid.UUID  `json:"id"`
	State   string     `json:"state" enum:"pending,done,waiting,refused,failed"`
	Detail  string     `json:"detail,omitempty" doc:"why it was refused: state, gone, not_found, forbidden, nothing_to_run, no_sandbox, same_person, session, not_done"`
	At      *time.Time `json:"at,omitempty"`
	Subject string     `json:"subject"`
	From    string     `json:"header_from"`

	Workspace uuid.UUID `json:"workspace_id"`
}

// Get reads an act of its owner, with its items.
func (b *Bulks) Get(ctx context.Context, owner, id uuid.UUID) (Bulk, error) {
	list, err := b.list(ctx, owner, &id)
	if err != nil {
		return Bulk{}, err
	}
	if len(list) == 0 {
		return Bulk{}, ErrNotFound
	}
	rows, err := b.s.db.Query(ctx, bulkItemsSQL, id)
	if err != nil {
		return Bulk{}, fmt.Errorf("read items of act: %w", err)
	}
	list[0].Items, err = pgx.CollectRows(rows, pgx.RowToStructByPos[BulkItem])
	return list[0], err
}

// List reads the last acts of somebody, the newest first, without their items.
func (b *Bulks) List(ctx context.Context, owner uuid.UUID) ([]Bulk, error) {
	return b.list(ctx, owner, nil)
}

func (b *Bulks) list(ctx context.Context, owner uuid.UUID, id *uuid.UUID) ([]Bulk, error) {
	rows, err := b.s.db.Query(ctx, bulkListSQL, pg.PlanAnew, owner, id)
	if err != nil {
		return nil, fmt.Errorf("read acts on many items: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (k Bulk, err error) {
		err = row.Scan(&k.ID, &k.Owner, &k.Act, &k.Reason, &k.Query, &k.Cut, &k.State, &k.Trouble, &k.Total, &k.Done, &k.Waiting, &k.Refused, &k.Failed, &k.EventID, &k.CreatedAt, &k.FinishedAt)
		return k, err
	})
}
