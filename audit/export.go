package audit

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strings"
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

// WriteCSV writes the selected events as CSV (RFC 4180).
func (l *Log) WriteCSV(ctx context.Context, f Filter, w io.Writer) error {
	cw := csv.NewWriter(w)
	cw.UseCRLF = true
	if err := cw.Write(csvColumns); err != nil {
		return err
	}
	err := l.Each(ctx, f, func(r Row) error {
		m := r.Fields()
		rec := []string{at(m, "seq"), at(m, "id"), at(m, "time"), at(m, "recorded_at"), at(m, "workspace_id"), at(m, "actor", "type"), at(m, "actor", "id"),
			at(m, "actor", "email"), at(m, "actor", "display"), at(m, "action"), at(m, "phase"), at(m, "outcome", "result"), targetList(m),
			at(m, "source", "ip"), at(m, "application", "name"), at(m, "request", "method"), at(m, "request", "path"), at(m, "request", "status"),
			at(m, "auth", "method"), at(m, "reason", "text"), at(m, "change", "before"), at(m, "change", "after"), at(m, "leaf_hash")}
		for i := range rec {
			rec[i] = safeCell(rec[i])
		}
		return cw.Write(rec)
	})
	cw.Flush()
	if err != nil {
		return err
	}
	return cw.Error()
}

// WriteNDJSON writes the selected events, one JSON object a line.
func (l *Log) WriteNDJSON(ctx context.Context, f Filter, w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return l.Each(ctx, f, func(r Row) error { return enc.Encode(r.Fields()) })
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
