package approval

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
)

//go:embed queries/*.sql
var queryFiles embed.FS

var (
	fourEyesSQL       = pg.Query(queryFiles, "four_eyes")
	freshlyGrantedSQL = pg.Query(queryFiles, "freshly_granted")
	insertSQL         = pg.Query(queryFiles, "insert_request")
	lockSQL           = pg.Query(queryFiles, "lock_request")
	eventSQL          = pg.Query(queryFiles, "event_bytes")
	decideSQL         = pg.Query(queryFiles, "decide_request")
	insertWordSQL     = pg.Query(queryFiles, "insert_approval")
	listSQL           = pg.Query(queryFiles, "list")
	countSQL          = pg.Query(queryFiles, "count")
)

// The four-eyes setting of an installation.
const (
	SingleOperator = "single_operator" // one person is enough, and the record says so
	Required       = "required"        // a second person has to agree
)

// freshFor is how long an account that the one who asks has made, or given a
// role, does not count as a second person.
const freshFor = 24 * time.Hour

// What the package answers where it refuses.
var (
	ErrNotFound       = errors.New("approval: request not found")
	ErrState          = errors.New("approval: already decided")
	ErrSamePerson     = errors.New("approval: the second person must be somebody else")
	ErrReasonRequired = errors.New("approval: a reason is required")
	ErrForged         = errors.New("approval: the request is not what the record says")
)

// Kind is what sort of act waits.
type Kind string

// The kinds. A release is listed here and kept in package quarantine.
const (
	Release     Kind = "release"
	RoleGrant   Kind = "role_grant"
	Export      Kind = "export"       // of held mails as evidence
	LegalHold   Kind = "legal_hold"   // that is to be lifted
	ReleaseRule Kind = "release_rule" // that lets fewer people decide on releases
	Retention   Kind = "retention"    // of the record: how long it is kept, and the deletion of a month
)

// Kinds are all that can wait.
func Kinds() []Kind { return []Kind{Release, RoleGrant, Export, Retention, LegalHold, ReleaseRule} }

// querier is a pool or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// FourEyes reads the installation's setting. Where nobody was asked yet, it is
// the careful one.
func FourEyes(ctx context.Context, q querier) (string, error) {
	var mode string
	err := q.QueryRow(ctx, fourEyesSQL).Scan(&mode)
	if errors.Is(err, pgx.ErrNoRows) {
		return Required, nil
	}
	if err != nil {
		return "", fmt.Errorf("read the four-eyes setting: %w", err)
	}
	return mode, nil
}

// SecondPerson makes sure that two humans are behind an act: not the one who
// asked, and not an account that the one who asked has made or given a role in
// the last day, nor one of two of which one has set the other's password then.
func SecondPerson(ctx context.Context, tx pgx.Tx, actor pg.Actor, requestedBy uuid.UUID, now time.Time) error {
	if actor.UserID == uuid.Nil || actor.UserID == requestedBy {
		return ErrSamePerson
	}
	var fresh bool
	if err := tx.QueryRow(ctx, freshlyGrantedSQL, actor.UserID, requestedBy.String(), now.Add(-freshFor)).Scan(&fresh); err != nil {
		return fmt.Errorf("check the second person: %w", err)
	}
	if fresh {
		return ErrSamePerson
	}
	return nil
}

// Store is the requests.
type Store struct {
	db     *pg.DB
	record *audit.Log
	now    func() time.Time
}

// New returns a Store.
func New(db *pg.DB, record *audit.Log, now func() time.Time) *Store {
	if now == nil {
		now = time.Now
	}
	return &Store{db: db, record: record, now: now}
}

// Ask is what somebody wants done.
type Ask struct {
	Workspace *uuid.UUID // nil: the installation
	Kind      Kind
	Action    string         // of the intent event, as role.grant.request
	Detail    map[string]any // exactly what will be done; ids, no personal values
	Targets   []audit.Target
	Reason    string
}

// Ask writes a request and its intent event in the caller's transaction.
func (s *Store) Ask(ctx context.Context, tx pgx.Tx, actor pg.Actor, roles []string, a Ask) (uuid.UUID, error) {
	if a.Reason == "" {
		return uuid.Nil, ErrReasonRequired
	}
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, fmt.Errorf("make request id: %w", err)
	}
	detail, err := json.Marshal(a.Detail)
	if err != nil {
		return uuid.Nil, fmt.Errorf("encode request: %w", err)
	}
	ev := audit.Event{Action: a.Action, Phase: "intent", Actor: actor, Roles: roles, Retention: audit.Retention3Years, Reason: a.Reason, After: a.Detail,
		Targets:  append([]audit.Target{{Type: "approval_request", ID: id.String(), Label: string(a.Kind)}}, a.Targets...),
		Approval: &audit.Approval{Mode: Required, RequestedBy: actor.UserID.String(), RequestedAt: s.now(), Required: 1}}
	if a.Workspace != nil {
		ev.Workspace = *a.Workspace
	}
	intent, err := s.record.Append(ctx, tx, ev)
	if err != nil {
		return uuid.Nil, err
	}
	if _, err := tx.Exec(ctx, insertSQL, id, a.Workspace, a.Kind, string(detail), actor.UserID, a.Reason, intent); err != nil {
		return uuid.Nil, fmt.Errorf("insert request: %w", err)
	}
	return id, nil
}

// Pending is a request that is about to be decided.
type Pending struct {
	ID, RequestedBy, Intent uuid.UUID
	Workspace               *uuid.UUID
	Kind                    Kind
	Detail                  json.RawMessage
	Reason, State           string
	CreatedAt               time.Time
}

// Word is a second person's.
type Word struct {
	Yes     bool
	Comment string
	Action  string // of the event, as role.grant.approve
}

// Decide puts a second person's word on record, in the transaction in which the
// caller then does what was asked. The request must be what its intent event
// says: a row that was written by hand is refused.
func (s *Store) Decide(ctx context.Context, tx pgx.Tx, actor pg.Actor, roles []string, id uuid.UUID, w Word) (Pending, error) {
	if !w.Yes && w.Comment == "" {
		return Pending{}, ErrReasonRequired
	}
	p, err := s.lock(ctx, tx, id)
	if err != nil {
		return Pending{}, err
	}
	if err := SecondPerson(ctx, tx, actor, p.RequestedBy, s.now()); err != nil {
		return Pending{}, err
	}
	if err := matches(ctx, tx, p); err != nil {
		return Pending{}, err
	}
	state := "approved"
	if !w.Yes {
		state = "denied"
	}
	ev := audit.Event{Action: w.Action, Actor: actor, Roles: roles, Reason: w.Comment, Retention: audit.Retention3Years,
		Targets: []audit.Target{{Type: "approval_request", ID: p.ID.String(), Label: string(p.Kind)}},
		Approval: &audit.Approval{Mode: Required, RequestedBy: p.RequestedBy.String(), RequestedAt: p.CreatedAt, Required: 1,
			Approvers: []string{actor.UserID.String()}, Decision: state, DecidedAt: s.now(), Comment: w.Comment},
		Correlation: audit.Correlation{CausationID: p.Intent.String()}}
	if p.Workspace != nil {
		ev.Workspace = *p.Workspace
	}
	event, err := s.record.Append(ctx, tx, ev)
	if err != nil {
		return Pending{}, err
	}
	word, err := uuid.NewV7()
	if err != nil {
		return Pending{}, fmt.Errorf("make approval id: %w", err)
	}
	if _, err := tx.Exec(ctx, insertWordSQL, word, p.Workspace, string(p.Kind), p.ID, p.RequestedBy, actor.UserID, state, storedComment(p, w), event); err != nil {
		return Pending{}, fmt.Errorf("insert approval: %w", err)
	}
	if _, err := tx.Exec(ctx, decideSQL, p.ID, state); err != nil {
		return Pending{}, fmt.Errorf("decide request: %w", err)
	}
	p.State = state
	return p, nil
}

func (s *Store) lock(ctx context.Context, tx pgx.Tx, id uuid.UUID) (p Pending, err error) {
	err = tx.QueryRow(ctx, lockSQL, id).Scan(&p.ID, &p.Workspace, &p.Kind, &p.Detail, &p.RequestedBy, &p.Reason, &p.Intent, &p.State, &p.CreatedAt)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return p, ErrNotFound
	case err != nil:
		return p, fmt.Errorf("read request: %w", err)
	case p.State != "requested":
		return p, ErrState
	}
	return p, nil
}

// matches compares a request with its intent event: the same person, the same
// request, the same act.
func matches(ctx context.Context, tx pgx.Tx, p Pending) error {
	var b []byte
	if err := tx.QueryRow(ctx, eventSQL, p.Intent).Scan(&b); errors.Is(err, pgx.ErrNoRows) {
		return ErrForged
	} else if err != nil {
		return fmt.Errorf("read audit event: %w", err)
	}
	var e struct {
		Workspace *uuid.UUID `json:"workspace_id"`
		Actor     struct{ ID string }
		Targets   []struct{ ID string }
		Change    struct{ After any }
	}
	var detail any
	if json.Unmarshal(b, &e) != nil || json.Unmarshal(p.Detail, &detail) != nil {
		return ErrForged
	}
	was, err1 := json.Marshal(e.Change.After)
	is, err2 := json.Marshal(detail)
	sameSpace := (e.Workspace == nil) == (p.Workspace == nil) && (p.Workspace == nil || *e.Workspace == *p.Workspace)
	if err1 != nil || err2 != nil || !bytes.Equal(was, is) || !sameSpace || e.Actor.ID != p.RequestedBy.String() || len(e.Targets) == 0 || e.Targets[0].ID != p.ID.String() {
		return ErrForged
	}
	return nil
}
