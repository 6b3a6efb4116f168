package incident

import (
	"context"
	"embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

//go:embed queries/*.sql
var queryFiles embed.FS

var (
	listSQL         = pg.Query(queryFiles, "list")
	lockNumbersSQL  = pg.Query(queryFiles, "lock_numbers")
	insertSQL       = pg.Query(queryFiles, "insert")
	updateSQL       = pg.Query(queryFiles, "update")
	reportsSQL      = pg.Query(queryFiles, "reports")
	contentSQL      = pg.Query(queryFiles, "content")
	lockSQL         = pg.Query(queryFiles, "lock")
	insertReportSQL = pg.Query(queryFiles, "insert_report")
	notesSQL        = pg.Query(queryFiles, "notes")
	insertNoteSQL   = pg.Query(queryFiles, "insert_note")
	mailsSQL        = pg.Query(queryFiles, "mails")
	figuresSQL      = pg.Query(queryFiles, "figures")
	hasMailSQL      = pg.Query(queryFiles, "has_mail")
	insertMailSQL   = pg.Query(queryFiles, "insert_mail")
	deleteMailSQL   = pg.Query(queryFiles, "delete_mail")
	peopleSQL       = pg.Query(queryFiles, "people")
	canOwnSQL       = pg.Query(queryFiles, "can_own")
)

// Errors of the store. What is wrong with an incident is [Mistakes].
var (
	ErrNotFound = errors.New("incident: not found")
	// ErrConflict means that somebody else changed it since it was read.
	ErrConflict  = errors.New("incident: changed by somebody else in the meantime")
	ErrFull      = errors.New("incident: it has as many mails as it may have")
	ErrNoMail    = errors.New("incident: there is no such mail in its workspace")
	ErrBadCursor = errors.New("incident: this is no cursor")
)

// MaxMails bounds one incident: a campaign is shown by its mails, not archived here.
const MaxMails = 1000

// Store keeps incidents. Each of its acts is on record by triggers.
type Store struct {
	db   *pg.DB
	zone *time.Location
	now  func() time.Time
}

// NewStore returns a Store. zone is where months are counted; nil: [DefaultZone].
func NewStore(db *pg.DB, zone *time.Location) (*Store, error) {
	if zone == nil {
		var err error
		if zone, err = time.LoadLocation(DefaultZone); err != nil {
			return nil, fmt.Errorf("load time zone: %w", err)
		}
	}
	return &Store{db: db, zone: zone, now: time.Now}, nil
}

// Zone is where months are counted.
func (s *Store) Zone() *time.Location { return s.zone }

// Filter selects incidents. Empty fields select all.
type Filter struct {
	Workspaces []uuid.UUID // nil: all
	ID         uuid.UUID
	Query      string // part of number or title
	States     []string
	Severities []string
	Owner      uuid.UUID
	Mail       uuid.UUID // that it has
	Cursor     string
	Limit      int // default 50, at most 500
}

// Page is one page of incidents, the newest first.
type Page struct {
	Items []Incident
	Next  string // "" on the last one
}

// List reads one page, with the reports of each.
func (s *Store) List(ctx context.Context, f Filter) (Page, error) { return list(ctx, s.db, f) }

// querier is the database, or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func list(ctx context.Context, q querier, f Filter) (Page, error) {
	at, after, err := place(f.Cursor)
	if err != nil {
		return Page{}, err
	}
	if f.Limit <= 0 {
		f.Limit = 50
	}
	f.Limit = min(f.Limit, 500)
	rows, err := q.Query(ctx, listSQL, pg.PlanAnew, f.Workspaces, pg.NullID(f.ID), strings.TrimSpace(f.Query), f.States, f.Severities, pg.NullID(f.Owner), pg.NullID(f.Mail), at, after, f.Limit+1)
	if err != nil {
		return Page{}, fmt.Errorf("list incidents: %w", err)
	}
	items, err := pgx.CollectRows(rows, scanIncident)
	if err != nil {
		return Page{}, fmt.Errorf("list incidents: %w", err)
	}
	p := Page{Items: items}
	if len(items) > f.Limit {
		last := items[f.Limit-1]
		p.Items, p.Next = items[:f.Limit], cursor(last.CreatedAt, last.ID)
	}
	return p, addReports(ctx, q, p.Items)
}

// Get reads one.
func (s *Store) Get(ctx context.Context, id uuid.UUID) (Incident, error) { return get(ctx, s.db, id) }

func get(ctx context.Context, q querier, id uuid.UUID) (Incident, error) {
	p, err := list(ctx, q, Filter{ID: id, Limit: 1})
	if err == nil && len(p.Items) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Incident{}, err
	}
	return p.Items[0], nil
}

func scanIncident(row pgx.CollectableRow) (i Incident, err error) {
	var owner *uuid.UUID
	var aware, unconfirmed, breach, requested, contained, closed, decided *time.Time
	var facts []byte
	if err := row.Scan(&i.ID, &i.Workspace, &i.Number, &i.Title, &i.Severity, &i.State, &i.Exercise, &owner, &i.OwnerName, &i.Regime, &i.TrustService,
		&i.DetectedAt, &aware, &unconfirmed, &breach, &requested, &contained, &closed,
		&i.Significant, &i.SignificantReason, &decided, &i.SignificantBy, &facts, &i.Version, &i.CreatedBy, &i.CreatedAt, &i.UpdatedAt, &i.Mails); err != nil {
		return i, err
	}
	if owner != nil {
		i.Owner = *owner
	}
	i.AwareAt, i.AwareUnconfirmed, i.BreachAwareAt, i.RequestedFor = orZero(aware), orZero(unconfirmed), orZero(breach), orZero(requested)
	i.ContainedAt, i.ClosedAt, i.SignificantAt = orZero(contained), orZero(closed), orZero(decided)
	i.DetectedAt, i.Reports = i.DetectedAt.UTC(), []Report{}
	return i, json.Unmarshal(facts, &i.Facts)
}

func addReports(ctx context.Context, q querier, items []Incident) error {
	if len(items) == 0 {
		return nil
	}
	ids := make([]uuid.UUID, len(items))
	for n, i := range items {
		ids[n] = i.ID
	}
	rows, err := q.Query(ctx, reportsSQL, ids)
	if err != nil {
		return fmt.Errorf("read reports of incidents: %w", err)
	}
	reports, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r Report, err error) {
		var before *uuid.UUID
		var at *time.Time
		err = row.Scan(&r.ID, &r.Incident, &r.Stage, &r.Version, &before, &r.State, &at, &r.Channel, &r.Reference, &r.Reason, &r.SHA256, &r.By, &r.At)
		if before != nil {
			r.Supersedes = *before
		}
		r.SubmittedAt = orZero(at)
		return r, err
	})
	if err != nil {
		return fmt.Errorf("read reports of incidents: %w", err)
	}
	for _, r := range reports {
		n := slices.Index(ids, r.Incident)
		items[n].Reports = append(items[n].Reports, r)
	}
	return nil
}

// Create adds an incident, with the mails that it begins with; its number is given here.
func (s *Store) Create(ctx context.Context, actor pg.Actor, x Incident, mails ...uuid.UUID) (Incident, error) {
	now := s.now()
	x.Significant, x.SignificantReason, x.Reports = Undecided, "", nil
	if err := x.settle(s.zone, now); err != nil {
		return Incident{}, err
	}
	facts, err := json.Marshal(x.Facts)
	if err != nil {
		return Incident{}, fmt.Errorf("encode incident: %w", err)
	}
	if x.ID, err = uuid.NewV7(); err != nil {
		return Incident{}, fmt.Errorf("make id of incident: %w", err)
	}
	err = s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		if err := mayOwn(ctx, tx, x.Workspace, x.Owner); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, lockNumbersSQL, x.Workspace); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, insertSQL, x.ID, x.Workspace, x.Title, x.Severity, x.State, x.Exercise, pg.NullID(x.Owner), x.Regime, x.TrustService, x.DetectedAt, pg.NullTime(x.AwareAt), pg.NullTime(x.AwareUnconfirmed),
			pg.NullTime(x.BreachAwareAt), pg.NullTime(x.RequestedFor), pg.NullTime(x.ContainedAt), pg.NullTime(x.ClosedAt), facts, pg.NullID(actor.UserID), strconv.Itoa(now.In(s.zone).Year()))
		for _, mail := range mails {
			if err == nil {
				err = putMail(ctx, tx, x.ID, x.Workspace, mail)
			}
		}
		return err
	})
	if err != nil {
		return Incident{}, fmt.Errorf("create incident: %w", err)
	}
	return s.Get(ctx, x.ID)
}

// Update changes what people write of an incident, whose Version is the one that was
// read: when somebody else has changed it since, it is [ErrConflict]. Workspace,
// number and reports stay. Who decides on its significance is noted when that changes.
func (s *Store) Update(ctx context.Context, actor pg.Actor, x Incident) (Incident, error) {
	err := s.part(ctx, actor, x.ID, func(ctx context.Context, tx pgx.Tx, workspace uuid.UUID) error {
		old, err := get(ctx, tx, x.ID)
		if err != nil {
			return err
		}
		x.Reports = old.Reports // whose times the others have to fit
		if err := x.settle(s.zone, s.now()); err != nil {
			return err
		}
		if x.Owner != old.Owner {
			if err := mayOwn(ctx, tx, workspace, x.Owner); err != nil {
				return err
			}
		}
		facts, err := json.Marshal(x.Facts)
		if err != nil {
			return fmt.Errorf("encode incident: %w", err)
		}
		tag, err := tx.Exec(ctx, updateSQL, x.ID, x.Version, x.Title, x.Severity, x.State, x.Exercise, pg.NullID(x.Owner), x.Regime, x.TrustService, x.DetectedAt, pg.NullTime(x.AwareAt), pg.NullTime(x.AwareUnconfirmed),
			pg.NullTime(x.BreachAwareAt), pg.NullTime(x.RequestedFor), pg.NullTime(x.ContainedAt), pg.NullTime(x.ClosedAt), x.Significant, x.SignificantReason, facts, pg.NullID(actor.UserID))
		if err == nil && tag.RowsAffected() == 0 {
			return ErrConflict
		}
		return err
	})
	if err != nil {
		return Incident{}, err
	}
	return s.Get(ctx, x.ID)
}

// mayOwn refuses an owner who has no part in the workspace: an id that somebody knows
// must not tell them whose it is.
func mayOwn(ctx context.Context, tx pgx.Tx, workspace, owner uuid.UUID) error {
	if owner == uuid.Nil {
		return nil
	}
	var may bool
	if err := tx.QueryRow(ctx, canOwnSQL, workspace, owner).Scan(&may); err != nil {
		return err
	}
	if !may {
		return Mistakes{"the owner must be somebody who can sign in and has a role in the workspace"}
	}
	return nil
}

// Person is somebody who can own an incident.
type Person struct {
	ID   uuid.UUID
	Name string
}

// People are those with a role in a workspace.
func (s *Store) People(ctx context.Context, workspace uuid.UUID) ([]Person, error) {
	rows, err := s.db.Query(ctx, peopleSQL, workspace)
	if err != nil {
		return nil, fmt.Errorf("read people of workspace: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Person])
}

// Due counts the reports of incidents that are no exercises: those that are overdue,
// and with them those of whose time a quarter or less is left. With an error they are
// those of the incidents whose deadlines could be calculated.
func (s *Store) Due(ctx context.Context, workspaces []uuid.UUID) (soon, overdue int, err error) {
	now := s.now()
	var wrong error
	for f := (Filter{Workspaces: workspaces, Limit: 500}); ; {
		p, err := s.List(ctx, f)
		if err != nil {
			return 0, 0, err
		}
		for _, i := range p.Items {
			if i.Exercise {
				continue
			}
			stages, err := i.Stages(s.zone, now)
			if err != nil {
				wrong = errors.Join(wrong, fmt.Errorf("deadlines of %s: %w", i.Number, err))
			}
			for _, st := range stages {
				if st.State == Overdue {
					overdue++
				}
				if st.State == Overdue || st.State == Warn {
					soon++
				}
			}
		}
		if f.Cursor = p.Next; f.Cursor == "" {
			return soon, overdue, wrong
		}
	}
}

// cursor names a place in the list.
func cursor(at time.Time, id uuid.UUID) string {
	return base64.RawURLEncoding.EncodeToString(append(strconv.AppendInt(nil, at.UnixMicro(), 10), "/"+id.String()...))
}

func place(c string) (at *time.Time, id uuid.UUID, err error) {
	if c == "" {
		return nil, uuid.Nil, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(c)
	if err != nil {
		return nil, uuid.Nil, ErrBadCursor
	}
	micros, rest, _ := strings.Cut(string(b), "/")
	n, err := strconv.ParseInt(micros, 10, 64)
	if err != nil || n < 0 || n > 1<<53 {
		return nil, uuid.Nil, ErrBadCursor
	}
	if id, err = uuid.Parse(rest); err != nil {
		return nil, uuid.Nil, ErrBadCursor
	}
	t := time.UnixMicro(n)
	return &t, id, nil
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}
