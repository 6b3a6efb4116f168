package audit

import (
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Columns of the CSV export, in order.
var csvColumns = []string{"seq", "id", "time", "recorded_at", "workspace_id", "actor_type", "actor_id", "actor_email", "actor_display",
	"action", "phase", "outcome", "targets", "source_ip", "application", "request_method", "request_path", "request_status",
	"auth_method", "reason", "before", "after", "leaf_hash"}

// Each calls fn for every event that the filter selects, newest first, without
// holding more than a page in memory.
func (l *Log) Each(ctx context.Context, f Filter, fn func(Row) error) error {
	f.Limit, f.Cursor = 500, ""
	for {
		p, err := l.List(ctx, f)
		if err != nil {
			return err
		}
		for _, r := range p.Items {
			if err := fn(r); err != nil {
				return err
			}
		}
		if p.Next == "" {
			return nil
		}
		f.Cursor = p.Next
	}
}

// Format is how an export is written.
type Format string

// The formats.
const (
	CSV    Format = "csv"    // RFC 4180
	NDJSON Format = "ndjson" // one JSON object a line
)

// Summary is what an export came to. RFC 4180 has no place for it in a file, so
// it goes on record: whoever holds a file finds its SHA-256 there, with how many
// events it must have and which.
type Summary struct {
	Count           int64
	First, Last     string // recorded times of the oldest and the newest event
	Lowest, Highest *int64 // numbers among those that had one; nil: none had
	Head            int64  // the number that the next event would have got when the export began
	SHA256          string
}

// BeginExport puts on record that an export is about to begin, and returns the
// event to end it with. Without it nothing may go out.
func (l *Log) BeginExport(ctx context.Context, ev Event) (Event, error) {
	var err error
	if ev.ID, err = uuid.NewV7(); err != nil {
		return ev, fmt.Errorf("make an event id: %w", err)
	}
	ev.Phase = "intent"
	return ev, l.Record(ctx, ev)
}

// EndExport puts on record how an export ended, also where the reader has gone:
// what it came to, or that it broke off and after how many events.
func (l *Log) EndExport(ctx context.Context, begun Event, s Summary, failed error) error {
	ev := begun
	ev.ID, ev.Time, ev.Phase, ev.After = uuid.Nil, time.Time{}, "result", maps.Clone(begun.After)
	ev.Correlation.CausationID = begun.ID.String()
	if ev.After == nil {
		ev.After = map[string]any{}
	}
	if s.SHA256 != "" {
		ev.After["count"] = s.Count
	}
	if failed != nil {
		ev.Outcome, ev.OutcomeDetail = "failure", "the export was not written to its end"
	} else if s.SHA256 != "" {
		maps.Copy(ev.After, map[string]any{"first": s.First, "last": s.Last, "lowest_seq": s.Lowest, "highest_seq": s.Highest, "tree_size": s.Head, "sha256": s.SHA256})
	}
	return l.Record(context.WithoutCancel(ctx), ev)
}

// add counts one more event; they come newest first.
func (s *Summary) add(r Row) {
	s.Count++
	s.First = r.RecordedAt.UTC().Format(time.RFC3339Nano)
	if s.Last == "" {
		s.Last = s.First
	}
	if r.Seq == nil {
		return
	}
	if s.Lowest == nil || *r.Seq < *s.Lowest {
		s.Lowest = r.Seq
	}
	if s.Highest == nil || *r.Seq > *s.Highest {
		s.Highest = r.Seq
	}
}

// Export writes the selected events, newest first, and says what it came to.
func (l *Log) Export(ctx context.Context, f Filter, format Format, w io.Writer) (sum Summary, err error) {
	st, err := l.Status(ctx)
	if err != nil {
		return sum, fmt.Errorf("read head of audit: %w", err)
	}
	sum.Head = st.LastSeq + 1
	hash := sha256.New()
	w = io.MultiWriter(w, hash)
	write, flush := ndjson(w)
	if format == CSV {
		write, flush = table(w)
	}
	err = l.Each(ctx, f, func(r Row) error {
		sum.add(r)
		return write(r.Fields())
	})
	if err == nil {
		err = flush()
	}
	sum.SHA256 = hex.EncodeToString(hash.Sum(nil))
	return sum, err
}

// table writes CSV.
func table(w io.Writer) (write func(map[string]any) error, flush func() error) {
	cw := csv.NewWriter(w)
	cw.UseCRLF = true
	headed := false
	head := func() error {
		if headed {
			return nil
		}
		headed = true
		return cw.Write(csvColumns)
	}
	write = func(m map[string]any) error {
		rec := []string{at(m, "seq"), at(m, "id"), at(m, "time"), at(m, "recorded_at"), at(m, "workspace_id"), at(m, "actor", "type"), at(m, "actor", "id"),
			at(m, "actor", "email"), at(m, "actor", "display"), at(m, "action"), at(m, "phase"), at(m, "outcome", "result"), targetList(m),
			at(m, "source", "ip"), at(m, "application", "name"), at(m, "request", "method"), at(m, "request", "path"), at(m, "request", "status"),
			at(m, "auth", "method"), at(m, "reason", "text"), at(m, "change", "before"), at(m, "change", "after"), at(m, "leaf_hash")}
		for i := range rec {
			rec[i] = safeCell(rec[i])
		}
		return errors.Join(head(), cw.Write(rec))
	}
	flush = func() error {
		err := head() // also a file without events has its columns
		cw.Flush()
		return errors.Join(err, cw.Error())
	}
	return write, flush
}

// ndjson writes one JSON object a line.
func ndjson(w io.Writer) (write func(map[string]any) error, flush func() error) {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return func(m map[string]any) error { return enc.Encode(m) }, func() error { return nil }
}

// safeCell keeps a spreadsheet from taking a cell for a formula.
func safeCell(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

// at reads a value deep in an event, as text.
func at(m map[string]any, path ...string) string {
	var v any = m
	for _, p := range path {
		x, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		v = x[p]
	}
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case float64:
		return fmt.Sprintf("%.0f", v)
	case map[string]any, []any:
		b, err := json.Marshal(v)
		if err != nil {
			return ""
		}
		return string(b)
	default:
		return fmt.Sprint(v)
	}
}

func targetList(m map[string]any) string {
	ts, _ := m["targets"].([]any)
	var out []string
	for _, t := range ts {
		x, _ := t.(map[string]any)
		s := at(x, "type") + ":" + at(x, "id")
		if v := at(x, "value"); v != "" {
			s += " (" + v + ")"
		}
		out = append(out, s)
	}
	return strings.Join(out, "; ")
}
