// Package evidence exports held mails as evidence: the exact bytes with everything
// that is on record of them, a report for people, and a receipt that can be checked
// without us.
//
// It is not on a mail's path. A person asks for an export for a case ([Store.Ask]),
// a second one agrees where the installation wants two ([Store.Decide]), and a
// worker makes it ([Store.Run]): it puts the reading on record, compares the bytes
// with the hash that was taken when the mail came in, stores original, report and
// manifest, puts that on record, has the audit sealed at once, and adds the receipt
// with the proof. Each later download is on record, and every file is compared with
// its hash before a byte of it goes out ([Store.Open]).
//
// Nothing is read for an export whose decision the audit does not have: a row that
// was written by hand fails and alarms.
package evidence

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/approval"
	"mailward/audit"
	"mailward/audit/seal"
	"mailward/evidence/store"
	"mailward/evidence/tsa"
	"mailward/gateway/ledger"
	"mailward/internal/pg"
	"mailward/quarantine"
)

//go:embed queries/*.sql
var queryFiles embed.FS

var (
	findCaseSQL      = pg.Query(queryFiles, "find_case")
	insertCaseSQL    = pg.Query(queryFiles, "insert_case")
	insertSQL        = pg.Query(queryFiles, "insert_export")
	listSQL          = pg.Query(queryFiles, "list")
	casesSQL         = pg.Query(queryFiles, "cases")
	ofRequestSQL     = pg.Query(queryFiles, "of_request")
	decideSQL        = pg.Query(queryFiles, "decide")
	claimSQL         = pg.Query(queryFiles, "claim")
	claimOneSQL      = pg.Query(queryFiles, "claim_one")
	setStepSQL       = pg.Query(queryFiles, "set_step")
	againSQL         = pg.Query(queryFiles, "again")
	failSQL          = pg.Query(queryFiles, "fail")
	finishSQL        = pg.Query(queryFiles, "finish")
	insertCustodySQL = pg.Query(queryFiles, "insert_custody")
	custodySQL       = pg.Query(queryFiles, "custody")
	decisionSQL      = pg.Query(queryFiles, "decision")
)

// What the package answers where it refuses.
var (
	ErrNotFound = errors.New("evidence: export not found")
	ErrState    = errors.New("evidence: not possible in this state")
	ErrInvalid  = errors.New("evidence: the request is incomplete")
	ErrTooMuch  = errors.New("evidence: too much for one export")
	ErrTwo      = errors.New("evidence: two people decide here: ask in the web UI or over the API")
	// ErrForged means that the audit has no decision for an export.
	ErrForged = errors.New("evidence: export without a matching decision")
	// ErrDamaged means that bytes are not those that were hashed.
	ErrDamaged = errors.New("evidence: the bytes are not those that were hashed")
)

// Limits of one export: all of it is held in memory for a moment.
const (
	MaxItems = 50
	maxBytes = 200 << 20
)

// Config holds what an operator can change.
type Config struct {
	Hostname     string
	Organisation string // as receipts name it; default: Hostname
	Version      string // of this program
	// Keep is how long files are locked. Default: 400 days.
	Keep time.Duration
}

// View is a mail that the sidecar has taken apart.
type View struct {
	Headers    []Header
	Text, HTML string
}

// Header is one field.
type Header struct{ Name, Value string }

// Deps are the parts that a Store works with.
type Deps struct {
	DB         *pg.DB
	Audit      *audit.Log
	Seal       *seal.Sealer
	Quarantine *quarantine.Store
	Ledger     *ledger.Ledger
	Approvals  *approval.Store
	Vault      store.Store // keeps the files
	TSA        tsa.Authority
	Signer     tsa.Pair  // signs reports
	Keys       seal.Keys // sign receipts
	// View opens a mail elsewhere: hostile bytes are not read here.
	View func(ctx context.Context, f *os.File) (View, error)
	Log  *slog.Logger
	Now  func() time.Time
}

// Store is the exports.
type Store struct {
	cfg Config
	Deps
}

// New returns a Store.
func New(cfg Config, d Deps) *Store {
	if cfg.Keep == 0 {
		cfg.Keep = 400 * 24 * time.Hour
	}
	if cfg.Organisation == "" {
		cfg.Organisation = cfg.Hostname
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	return &Store{cfg: cfg, Deps: d}
}

// Locks says whether nobody can change what is stored.
func (s *Store) Locks() bool { return s.Vault.Mode() == store.ModeS3 }

// name is how the chain of custody calls somebody.
func name(a pg.Actor) string {
	switch {
	case a.Display != "" && a.Email != "":
		return a.Display + " <" + a.Email + ">"
	case a.Email != "":
		return a.Email
	}
	return a.Display
}

func clean(s string) string {
	return strings.TrimSpace(pg.Text(s))
}

func newID() (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return id, fmt.Errorf("make id: %w", err)
	}
	return id, nil
}

// custody is one step of the chain, as it is kept.
type custody struct {
	Export, Workspace uuid.UUID
	At                time.Time
	Event             string
	Actor             pg.Actor
	Place, Reason     string
	AuditEvent        uuid.UUID
}

func (s *Store) custody(ctx context.Context, tx pgx.Tx, c custody) error {
	id, err := newID()
	if err != nil {
		return err
	}
	var actor *uuid.UUID
	if c.Actor.UserID != uuid.Nil {
		actor = &c.Actor.UserID
	}
	if c.At.IsZero() {
		c.At = s.Now()
	}
	if _, err := tx.Exec(ctx, insertCustodySQL, id, c.Workspace, c.Export, c.At, c.Event, actor, name(c.Actor), c.Place, c.Reason, c.AuditEvent); err != nil {
		return fmt.Errorf("write chain of custody: %w", err)
	}
	return nil
}
