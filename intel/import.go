package intel

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
	"mailward/policy"
)

// ImportMost bounds one import.
const ImportMost = 100_000

const lineErrorsMost = 100

// LineError says what is wrong with one line of an import.
type LineError struct {
	Line  int    `json:"line"`
	Error string `json:"error"`
}

// Imported is what became of an import.
type Imported struct {
	Read    int         `json:"read"`
	Added   int         `json:"added"`
	Refused int         `json:"refused"`
	Errors  []LineError `json:"errors" nullable:"false" doc:"the first 100"`
}

// importRow is a line of JSON.
type importRow struct {
	Value      string       `json:"value"`
	Kind       Kind         `json:"kind"`
	Class      policy.Class `json:"class"`
	Confidence *int         `json:"confidence"`
	FirstSeen  time.Time    `json:"first_seen"`
	LastSeen   time.Time    `json:"last_seen"`
	ExpiresAt  time.Time    `json:"expires_at"`
	Note       string       `json:"note"`
	Reference  string       `json:"reference"`
}

func (r importRow) indicator() Indicator {
	i := Indicator{Value: r.Value, Kind: r.Kind, Class: r.Class, Confidence: 75, FirstSeen: r.FirstSeen, LastSeen: r.LastSeen, ExpiresAt: r.ExpiresAt, Note: r.Note, Reference: r.Reference}
	if r.Confidence != nil {
		i.Confidence = *r.Confidence
	}
	return i
}

// Person is who acts.
type Person struct {
	Actor pg.Actor
	Roles []string
}

// Import stores what somebody has gathered: a JSON list, or CSV with the names
// of its columns in the first line. Lines that cannot be used are named, and the
// others count. All of them are stored together with the record of it, or none.
func (s *Store) Import(ctx context.Context, who Person, source string, r io.Reader) (Imported, error) {
	if source = strings.TrimSpace(source); source == "" || len(source) > 60 || source != plainText(source) {
		return Imported{}, invalid("source", "must be a name of up to 60 bytes")
	}
	body, err := io.ReadAll(r)
	if err != nil {
		return Imported{}, fmt.Errorf("read import: %w", err)
	}
	rows, errs, err := importRows(body)
	if err != nil {
		return Imported{}, invalid("body", "%s", err)
	}
	harmless, err := s.harmlessLists(ctx)
	if err != nil {
		return Imported{}, err
	}
	now := s.now()
	out := Imported{Read: len(rows) + len(errs)}
	var list []Indicator
	for line, row := range rows {
		i := row.indicator()
		if err := i.fill(now, defaultLife); err != nil {
			errs[line] = err
			continue
		}
		if title := harmless.has(Value{i.Kind, i.Value}); title != "" {
			errs[line] = bad("%s is harmless, says the list %q", Defang(i.Value), title)
			continue
		}
		list = append(list, i)
	}
	out.Errors, out.Refused = lineErrors(errs), len(errs)
	err = s.db.Act(ctx, who.Actor, func(ctx context.Context, tx pgx.Tx) error {
		n, err := s.put(ctx, tx, source, list)
		if err != nil {
			return err
		}
		out.Added = int(n.added)
		_, err = s.record.Append(ctx, tx, audit.Event{Action: audit.IntelImport, Actor: who.Actor, Roles: who.Roles, Retention: audit.Retention3Years, Targets: []audit.Target{{Type: "indicators", ID: source}},
			After: map[string]any{"read": out.Read, "added": n.added, "updated": n.updated, "refused": out.Refused}})
		return err
	})
	if err != nil {
		return Imported{}, fmt.Errorf("import indicators of %s: %w", source, err)
	}
	return out, nil
}

func lineErrors(errs map[int]error) []LineError {
	list := []LineError{}
	for line, err := range errs {
		list = append(list, LineError{line, strings.TrimPrefix(err.Error(), errValue.Error()+": ")})
	}
	slices.SortFunc(list, func(a, b LineError) int { return a.Line - b.Line })
	return list[:min(len(list), lineErrorsMost)]
}

// importRows reads lines by their number.
func importRows(body []byte) (rows map[int]importRow, errs map[int]error, err error) {
	rows, errs = map[int]importRow{}, map[int]error{}
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	if t := bytes.TrimSpace(body); len(t) > 0 && t[0] == '[' {
		var list []json.RawMessage
		if err := json.Unmarshal(t, &list); err != nil {
			return nil, nil, errors.New("is no JSON list")
		}
		if len(list) > ImportMost {
			return nil, nil, fmt.Errorf("has more than %d entries", ImportMost)
		}
		for n, raw := range list {
			var r importRow
			if err := json.Unmarshal(raw, &r); err != nil {
				errs[n+1] = errors.New("is no entry as it should be")
				continue
			}
			rows[n+1] = r
		}
		return rows, errs, nil
	}
	return csvRows(body)
}

func csvRows(body []byte) (rows map[int]importRow, errs map[int]error, err error) {
	rows, errs = map[int]importRow{}, map[int]error{}
	c := csv.NewReader(bytes.NewReader(body))
	c.FieldsPerRecord, c.TrimLeadingSpace, c.LazyQuotes, c.Comment = -1, true, true, '#'
	head, err := c.Read()
	if err != nil {
		return nil, nil, errors.New("has no first line with the names of its columns")
	}
	column := map[string]int{}
	for i, h := range head {
		column[strings.ToLower(strings.TrimSpace(h))] = i
	}
	if _, ok := column["value"]; !ok {
		return nil, nil, errors.New("has no column named value")
	}
	for {
		fields, err := c.Read()
		if err == io.EOF {
			return rows, errs, nil
		}
		line, _ := c.FieldPos(0)
		if len(rows)+len(errs) >= ImportMost {
			return nil, nil, fmt.Errorf("has more than %d lines", ImportMost)
		}
		if err != nil {
			errs[line] = errors.New("is no line of CSV")
			continue
		}
		get := func(name string) string {
			if i, ok := column[name]; ok && i < len(fields) {
				return strings.TrimSpace(fields[i])
			}
			return ""
		}
		r := importRow{Value: get("value"), Kind: Kind(get("kind")), Class: policy.Class(get("class")), Note: get("note"), Reference: get("reference"),
			FirstSeen: readTime(get("first_seen")), LastSeen: readTime(get("last_seen")), ExpiresAt: readTime(get("expires_at"))}
		if t := get("confidence"); t != "" {
			n, err := strconv.Atoi(t)
			if err != nil {
				errs[line] = bad("the confidence %.20q is no number", t)
				continue
			}
			r.Confidence = &n
		}
		rows[line] = r
	}
}

// readTime reads the ways in which feeds write a time; zero where it is none.
func readTime(s string) time.Time {
	s = strings.TrimSuffix(strings.TrimSpace(s), " UTC")
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02 15:04:05.999999", "2006-01-02T15:04:05", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC()
		}
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n > 0 && n < 1<<33 {
		return time.Unix(n, 0).UTC()
	}
	return time.Time{}
}
