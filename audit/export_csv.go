package audit

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Columns of the CSV export, in order. New ones come at the end.
var csvColumns = []string{"seq", "id", "time", "recorded_at", "workspace_id", "actor_type", "actor_id", "actor_email", "actor_display",
	"action", "phase", "outcome", "targets", "source_ip", "application", "request_method", "request_path", "request_status",
	"auth_method", "reason", "before", "after", "leaf_hash",
	"auth_provider", "auth_mfa", "approval_mode", "requested_by", "approvers", "attested_by", "ticket", "mail_id"}

// table writes CSV (RFC 4180). With a closing, what the export came to stands in
// records at its end, whose first field begins with #: a file that was cut off
// lacks them. They have as many fields as the others.
func table(w io.Writer, closing bool) writer {
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
	return writer{
		write: func(_ Row, m map[string]any) error {
			rec := []string{at(m, "seq"), at(m, "id"), at(m, "time"), at(m, "recorded_at"), at(m, "workspace_id"), at(m, "actor", "type"), at(m, "actor", "id"),
				at(m, "actor", "email"), at(m, "actor", "display"), at(m, "action"), at(m, "phase"), at(m, "outcome", "result"), targetList(m),
				at(m, "source", "ip"), at(m, "application", "name"), at(m, "request", "method"), at(m, "request", "path"), at(m, "request", "status"),
				at(m, "auth", "method"), at(m, "reason", "text"), at(m, "change", "before"), at(m, "change", "after"), at(m, "leaf_hash"),
				at(m, "auth", "provider"), at(m, "auth", "mfa"), at(m, "approval", "mode"), at(m, "approval", "requested_by"), approverList(m), at(m, "attestation", "by"),
				at(m, "reason", "ticket"), at(m, "correlation", "mail_id")}
			for i := range rec {
				rec[i] = SafeCell(rec[i])
			}
			return errors.Join(head(), cw.Write(rec))
		},
		close: func(begun Event, s Summary) error {
			err := head() // also a file without events has its columns
			if closing {
				for _, rec := range closingRecords(begun, s) {
					err = errors.Join(err, cw.Write(append(rec, make([]string, len(csvColumns)-len(rec))...)))
				}
			}
			cw.Flush()
			return errors.Join(err, cw.Error())
		},
	}
}

func closingRecords(begun Event, s Summary) [][]string {
	what, err := json.Marshal(begun.After)
	if err != nil {
		what = nil
	}
	number := func(n *int64) string {
		if n == nil {
			return ""
		}
		return fmt.Sprint(*n)
	}
	out := [][]string{
		{"#export", begun.ID.String()},
		{"#selected", string(what)},
		{"#events", fmt.Sprint(s.Count)},
		{"#recorded", s.First, s.Last},
		{"#numbers", number(s.Lowest), number(s.Highest)},
		{"#complete_below_number", fmt.Sprint(s.Head)},
	}
	if t := s.Tree; t != nil {
		out = append(out, []string{"#tree_head", t.Origin, fmt.Sprint(t.Size), t.Root, t.SignedAt.UTC().Format(time.RFC3339)}, []string{"#checkpoint", t.Note})
	}
	return out
}

// SafeCell keeps a spreadsheet from taking a cell for a formula, also one that drops
// space before it, or reads the wide signs of East Asian keyboards as the plain ones.
func SafeCell(s string) string {
	if s == "" {
		return s
	}
	text := strings.TrimLeftFunc(s, func(r rune) bool { return unicode.IsSpace(r) || r == '\ufeff' })
	if first, _ := utf8.DecodeRuneInString(text); strings.ContainsRune("\t\r\n", rune(s[0])) || text != "" && strings.ContainsRune("=+-@＝＋－＠", first) {
		return "'" + s
	}
	return s
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

// approverList is who else decided, and how.
func approverList(m map[string]any) string {
	a, _ := m["approval"].(map[string]any)
	list, _ := a["approvers"].([]any)
	var out []string
	for _, x := range list {
		who, _ := x.(map[string]any)
		out = append(out, strings.Join(strings.Fields(at(who, "id")+" "+at(who, "decision")+" "+at(who, "at")), " "))
	}
	return strings.Join(out, "; ")
}
