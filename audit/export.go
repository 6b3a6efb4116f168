package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"time"

	"github.com/google/uuid"
)

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
	CSV      Format = "csv"       // RFC 4180, with a closing that says what it came to
	CSVPlain Format = "csv-plain" // the same without the closing, for programs
	NDJSON   Format = "ndjson"    // one JSON object a line
	OCSF     Format = "ocsf"      // Open Cybersecurity Schema Framework, one object a line
	ECS      Format = "ecs"       // Elastic Common Schema, one object a line
	CEF      Format = "cef"       // Common Event Format
)

// Formats are those that a person can choose from.
func Formats() []Format { return []Format{CSV, NDJSON, OCSF, ECS, CEF} }

// MediaType is what the file is, and Ending how its name ends.
func (f Format) MediaType() string {
	switch f {
	case CSV, CSVPlain:
		return "text/csv; charset=utf-8"
	case CEF:
		return "text/plain; charset=utf-8"
	}
	return "application/x-ndjson; charset=utf-8"
}

// Ending is how the name of such a file ends.
func (f Format) Ending() string {
	switch f {
	case CSV, CSVPlain:
		return ".csv"
	case CEF:
		return ".cef"
	case OCSF, ECS:
		return "." + string(f) + ".ndjson"
	}
	return ".ndjson"
}

// writer writes the events of one format, and what comes after the last.
type writer struct {
	write func(Row, map[string]any) error
	close func(Event, Summary) error
}

func (f Format) writer(w io.Writer) (writer, error) {
	switch f {
	case CSV, CSVPlain:
		return table(w, f == CSV), nil
	case NDJSON:
		return lines(w, func(_ Row, m map[string]any) any { return m }), nil
	case OCSF:
		return lines(w, func(r Row, m map[string]any) any { return ocsf(r, m) }), nil
	case ECS:
		return lines(w, func(r Row, m map[string]any) any { return ecs(r, m) }), nil
	case CEF:
		return cefLines(w), nil
	}
	return writer{}, fmt.Errorf("audit: no format %q", f)
}

// lines writes one JSON object a line.
func lines(w io.Writer, form func(Row, map[string]any) any) writer {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return writer{write: func(r Row, m map[string]any) error { return enc.Encode(form(r, m)) }, close: func(Event, Summary) error { return nil }}
}

// TreeHead is a signed head of the tree of all events (package seal).
type TreeHead struct {
	Origin   string    `json:"origin"`
	Size     uint64    `json:"size"`
	Root     string    `json:"root"` // base64
	SignedAt time.Time `json:"signed_at"`
	Note     string    `json:"note"`
}

// Summary is what an export came to. Only CSV has a place for it in the file; for
// all formats it goes on record: whoever holds a file finds its SHA-256 there,
// with how many events it must have and which.
type Summary struct {
	Count   int64     `json:"events"`
	First   string    `json:"first"` // recorded time of the oldest event
	Last    string    `json:"last"`
	Lowest  *int64    `json:"lowest_seq"` // numbers among those that had one; nil: none had
	Highest *int64    `json:"highest_seq"`
	Head    int64     `json:"complete_below_seq"` // the number that the next event would have got when the export began
	SHA256  string    `json:"sha256,omitempty"`   // of the whole file; empty while it is not complete
	Tree    *TreeHead `json:"tree_head,omitempty"`
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
	if failed != nil {
		ev.Outcome, ev.OutcomeDetail = "failure", "the export was not written to its end"
		ev.After["count"] = s.Count
	} else if s.SHA256 != "" {
		maps.Copy(ev.After, map[string]any{"count": s.Count, "first": s.First, "last": s.Last, "lowest_seq": s.Lowest, "highest_seq": s.Highest, "tree_size": s.Head, "sha256": s.SHA256})
		if s.Tree != nil {
			ev.After["tree_head"] = map[string]any{"origin": s.Tree.Origin, "size": s.Tree.Size, "root": s.Tree.Root}
		}
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

// Selection is what an export takes and how it is written.
type Selection struct {
	Filter Filter
	Format Format
	// Head signs the tree when all events are written, so that the head covers
	// them. May be nil.
	Head func(context.Context) (*TreeHead, error)
}

// Export writes the selected events, newest first, for an export that
// [Log.BeginExport] has put on record, and puts on record how it ended. Its
// owner can follow it meanwhile: [Log.Exports].
func (l *Log) Export(ctx context.Context, begun Event, sel Selection, w io.Writer) error {
	job, err := l.startJob(ctx, begun, sel)
	if err != nil {
		return errors.Join(err, l.EndExport(ctx, begun, Summary{}, err))
	}
	if job == nil { // otherwise the job tells
		release, err := l.HoldMonths(ctx)
		if err != nil {
			return errors.Join(err, l.EndExport(ctx, begun, Summary{}, err))
		}
		defer release()
	}
	sum, err := l.write(ctx, begun, sel, w, job)
	return errors.Join(err, l.endJob(ctx, job, sum, err), l.EndExport(ctx, begun, sum, err))
}

func (l *Log) write(ctx context.Context, begun Event, sel Selection, w io.Writer, job *job) (sum Summary, err error) {
	st, err := l.Status(ctx)
	if err != nil {
		return sum, fmt.Errorf("read head of audit: %w", err)
	}
	sum.Head = st.LastSeq + 1
	hash := sha256.New()
	out, err := sel.Format.writer(io.MultiWriter(w, hash))
	if err != nil {
		return sum, err
	}
	err = l.Each(ctx, sel.Filter, func(r Row) error {
		sum.add(r)
		if err := out.write(r, r.Fields()); err != nil {
			return fmt.Errorf("write event %s: %w", r.ID, err)
		}
		return l.advance(ctx, job, sum.Count, r)
	})
	if err != nil {
		return sum, err
	}
	if sel.Head != nil {
		if sum.Tree, err = sel.Head(ctx); err != nil {
			return sum, fmt.Errorf("sign the head of the audit: %w", err)
		}
	}
	if err := out.close(begun, sum); err != nil {
		return sum, fmt.Errorf("end the export: %w", err)
	}
	sum.SHA256 = hex.EncodeToString(hash.Sum(nil))
	return sum, nil
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
