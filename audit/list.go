package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Filter selects events. Empty fields select all.
type Filter struct {
	Workspaces []uuid.UUID // nil: everything
	// NoInstallation leaves out what belongs to no workspace (logins, users,
	// settings), for somebody whose roles are in some workspaces only.
	NoInstallation bool
	Workspace      uuid.UUID // one of those above
	Actor          string    // e-mail address, user id, or actor type
	Action         string    // names or prefixes that end in *, with commas between
	Skip           []string  // actions that are left out
	Target         string    // id of a target
	Outcome        string
	IP             string // source address
	Application    string
	Route          string // template of the path, as /quarantine/{id}
	Method         string // way of signing in: password, token, ...
	Provider       string // of the identity: local, or a name of single sign-on
	Approval       string // none or given, of acts that a second person can approve
	Link           string // an id: of the event, its actor, a target, a session, an incident, a cause
	Query          string // id, e-mail address or IP address that an event holds, or a part of the action
	From, To       time.Time
	Newer          uuid.UUID // only events with a higher id
	Cursor         string    // of the page before
	Limit          int       // default 50, at most 1000
}

// Row is one event as it is stored, with its place in the sequence.
type Row struct {
	ID         uuid.UUID
	Seq        *int64 // nil until the sequencer has numbered it
	LeafHash   []byte
	RecordedAt time.Time
	DBRole     string
	Bytes      []byte
	pii        map[string]personal
}

// personal is a clear value and the salt of the commitment to it.
type personal struct {
	value string
	salt  []byte
}

// Page is one page of a list, newest first.
type Page struct {
	Items []Row
	Next  string // cursor of the next page, "" on the last one
}

// ErrBadCursor means that a cursor is not one of ours.
var ErrBadCursor = errors.New("audit: bad cursor")

// ErrBadFilter means that a filter was given in which nothing is left to look for.
// It must not count as none: that would select everything.
var ErrBadFilter = errors.New("audit: a filter holds nothing that can be looked for, only space or NUL characters")

// Check finds filters that are there and empty.
func (f Filter) Check() error {
	for _, v := range []string{f.Actor, f.Action, f.Target, f.Outcome, f.IP, f.Application, f.Route, f.Method, f.Provider, f.Approval, f.Link, f.Query} {
		if v != "" && strings.TrimSpace(clean(v)) == "" {
			return ErrBadFilter
		}
	}
	return nil
}

// List reads a page of events.
func (l *Log) List(ctx context.Context, f Filter) (Page, error) {
	if f.Limit <= 0 {
		f.Limit = 50
	}
	f.Limit = min(f.Limit, 1000)
	searches, err := l.searches(ctx, f)
	if err != nil {
		return Page{}, err
	}
	found, err := l.runAll(ctx, searches)
	if err != nil {
		return Page{}, err
	}
	items := newest(found, f.Limit+1)
	var p Page
	if len(items) > f.Limit {
		items = items[:f.Limit]
		p.Next = items[f.Limit-1].ID.String()
	}
	p.Items = items
	return p, l.resolve(ctx, p.Items)
}

// Get reads one event.
func (l *Log) Get(ctx context.Context, id uuid.UUID) (Row, error) {
	rows, err := l.db.Query(ctx, getSQL, id)
	if err != nil {
		return Row{}, fmt.Errorf("read audit event: %w", err)
	}
	items, err := pgx.CollectRows(rows, scanRow)
	if err != nil {
		return Row{}, fmt.Errorf("read audit event: %w", err)
	}
	if len(items) == 0 {
		return Row{}, ErrNotFound
	}
	return items[0], l.resolve(ctx, items)
}

func scanRow(row pgx.CollectableRow) (r Row, err error) {
	err = row.Scan(&r.ID, &r.RecordedAt, &r.DBRole, &r.Bytes, &r.Seq, &r.LeafHash)
	return r, err
}

// resolve fetches the personal values that are still there.
func (l *Log) resolve(ctx context.Context, items []Row) error {
	if len(items) == 0 {
		return nil
	}
	ids := make([]uuid.UUID, len(items))
	at := make(map[uuid.UUID]int, len(items))
	for i := range items {
		ids[i], at[items[i].ID] = items[i].ID, i
		items[i].pii = map[string]personal{}
	}
	rows, err := l.db.Query(ctx, piiSQL, ids)
	if err != nil {
		return fmt.Errorf("read personal values of audit events: %w", err)
	}
	var id uuid.UUID
	var path, value string
	var salt []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &path, &value, &salt}, func() error {
		items[at[id]].pii[path] = personal{value: value, salt: slices.Clone(salt)}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read personal values of audit events: %w", err)
	}
	return nil
}

// Fields is the event as people and programs read it: the JSON of the record
// with the personal values in their places, and its place in the sequence.
func (r Row) Fields() map[string]any {
	var m map[string]any
	if err := json.Unmarshal(r.Bytes, &m); err != nil {
		// The database takes numbers that no float holds: they hide no event.
		d := json.NewDecoder(bytes.NewReader(r.Bytes))
		d.UseNumber()
		if m = nil; d.Decode(&m) != nil {
			m = map[string]any{"id": r.ID.String(), "unreadable": err.Error()}
		}
	}
	r.fill(m)
	if a, _ := m["actor"].(map[string]any); a["type"] == "user" && a["display"] == "" {
		a["display"] = at(m, "actor", "email") // the bytes name nobody
	}
	m["recorded_at"] = r.RecordedAt.UTC().Format("2006-01-02T15:04:05.000000Z")
	m["db_role"] = r.DBRole
	m["seq"], m["leaf_hash"] = nil, nil
	if r.Seq != nil {
		m["seq"], m["leaf_hash"] = *r.Seq, hex.EncodeToString(r.LeafHash)
	}
	return m
}

// Texts that stand where a personal value should.
const (
	Erased   = "(erased)"                        // the value was erased, the commitment stays
	Mismatch = "(does not match its commitment)" // somebody changed the value
)

// fill replaces commitments by the values that they commit to.
func (r Row) fill(v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			if s, is := r.value(x); is {
				v[k] = s
			}
		}
	case []any:
		for i, x := range v {
			if s, is := r.value(x); is {
				v[i] = s
			}
		}
	}
}

// value is what a commitment commits to. Anything else is filled where it stands.
func (r Row) value(x any) (string, bool) {
	if c, ok := x.(map[string]any); ok && len(c) == 2 {
		ref, isRef := c["ref"].(string)
		sum, isSum := c["c"].(string)
		if isRef && isSum {
			return r.reveal(strings.TrimPrefix(ref, "pii:"), sum), true
		}
	}
	r.fill(x)
	return "", false
}

func (r Row) reveal(path, commitment string) string {
	p, ok := r.pii[path]
	if !ok {
		return Erased
	}
	sum := sha256.Sum256(append(slices.Clone(p.salt), p.value...))
	if commitment != "sha256:"+hex.EncodeToString(sum[:]) {
		return Mismatch
	}
	return p.value
}
