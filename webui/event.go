package webui

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/audit"
	"mailward/audit/proof"
	"mailward/quarantine"
)

// text reads a value deep in an event, as text.
func text(m map[string]any, path ...string) string {
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
	default:
		return fmt.Sprint(v)
	}
}

// auditRow is one event as the audit page shows it.
type auditRow struct {
	ID                           string
	At, Recorded                 time.Time
	Actor, Email, Kind, Role     string
	Action, Phase                string
	Outcome, Code, Detail        string
	Reason, ReasonCode           string
	IP, Agent, Method, Session   string
	Request, Route, Status       string
	Mail, Item, DBRole, Severity string
	Targets                      []auditTarget
	Seq                          *int64
	Leaf                         string
	Diff                         []diffLine
	JSON                         string
	Workspace                    uuid.UUID // zero: the installation
	Raw                          string    // the bytes as they are stored
	Cause, Incident, Token       string
	Proven                       bool // the leaf is what the bytes make
}

// idLink is an id of an event that others may share.
type idLink struct{ Key, ID string }

// Links are the ids that lead to what belongs together.
func (r auditRow) Links() (out []idLink) {
	for _, l := range []idLink{{"session", r.Session}, {"token", r.Token}, {"mail", r.Mail}, {"item", r.Item}, {"incident", r.Incident}, {"cause", r.Cause}} {
		if isID(l.ID) {
			out = append(out, l)
		}
	}
	return out
}

func isID(s string) bool {
	_, err := uuid.Parse(s)
	return err == nil && len(s) == 36
}

// day is the day of a time in a filter.
func day(s string) string { return s[:min(len(s), len(time.DateOnly))] }

type auditTarget struct{ Type, ID, Label, Value string }

func (r auditRow) Target() string {
	if r.Action == audit.PageView || r.Action == audit.APICall {
		return r.Route // what was looked at says more than its id
	}
	if len(r.Targets) == 0 {
		return ""
	}
	t := r.Targets[0]
	switch {
	case t.Value != "":
		return t.Type + "/" + t.Value
	case t.Label != "":
		return t.Type + "/" + t.Label
	case len(t.ID) > 13:
		return t.Type + "/" + t.ID[:8] + "…"
	}
	return t.Type + "/" + t.ID
}

func (r auditRow) Tone() string {
	switch r.Outcome {
	case "success":
		return "ok"
	case "failure", "refused":
		return "crit"
	}
	return "none"
}

// ActionTone colours what is more than looking.
func (r auditRow) ActionTone() string {
	switch {
	case strings.HasPrefix(r.Action, "guard."), r.Action == audit.LoginFailed:
		return "crit"
	case strings.HasPrefix(r.Action, "quarantine.release"):
		return "info"
	case strings.HasSuffix(r.Action, ".delete"), strings.HasPrefix(r.Action, "role."), strings.HasPrefix(r.Action, "user."), strings.HasPrefix(r.Action, "token."):
		return "warn"
	}
	return "none"
}

func auditRowOf(row audit.Row) auditRow {
	f := row.Fields()
	r := auditRow{
		ID: row.ID.String(), Recorded: row.RecordedAt, DBRole: row.DBRole, Seq: row.Seq, Leaf: text(f, "leaf_hash"),
		Actor: text(f, "actor", "display"), Email: text(f, "actor", "email"), Kind: text(f, "actor", "type"),
		Action: text(f, "action"), Phase: text(f, "phase"), Severity: text(f, "severity"),
		Outcome: text(f, "outcome", "result"), Code: text(f, "outcome", "code"), Detail: text(f, "outcome", "detail"),
		Reason: text(f, "reason", "text"), ReasonCode: text(f, "reason", "code"),
		IP: text(f, "source", "ip"), Agent: text(f, "source", "user_agent_class"), Method: text(f, "auth", "method"), Session: text(f, "auth", "session_id"),
		Request: text(f, "request", "id"), Route: strings.TrimSpace(text(f, "request", "method") + " " + text(f, "request", "path")), Status: text(f, "request", "status"),
		Mail: text(f, "correlation", "mail_id"), Item: text(f, "correlation", "item_id"),
	}
	r.Raw, r.Token, r.Cause, r.Incident = string(row.Bytes), text(f, "auth", "credential_id"), text(f, "correlation", "causation_id"), text(f, "correlation", "incident_id")
	if row.Seq != nil {
		leaf := proof.Leaf(*row.Seq, row.RecordedAt, row.Bytes)
		r.Proven = bytes.Equal(leaf[:], row.LeafHash)
	}
	at, err := time.Parse(time.RFC3339Nano, text(f, "time"))
	if err != nil {
		at = row.RecordedAt
	}
	r.At = at
	if r.Actor == "" {
		r.Actor = r.Email
	}
	if job := text(f, "actor", "job", "name"); job != "" {
		r.Role = job
	} else if actor, ok := f["actor"].(map[string]any); ok {
		if roles, ok := actor["roles"].([]any); ok && len(roles) > 0 {
			r.Role = fmt.Sprint(roles[0])
		}
	}
	if list, ok := f["targets"].([]any); ok {
		for _, t := range list {
			if m, ok := t.(map[string]any); ok {
				r.Targets = append(r.Targets, auditTarget{text(m, "type"), text(m, "id"), text(m, "label"), text(m, "value")})
			}
		}
	}
	if change, ok := f["change"].(map[string]any); ok {
		r.Diff = diff(change["before"], change["after"])
	}
	if w, err := uuid.Parse(text(f, "workspace_id")); err == nil {
		r.Workspace = w
	}
	if b, err := json.MarshalIndent(f, "", "  "); err == nil {
		r.JSON = string(b)
	}
	return r
}

// diffLine is a line of a change: '-' went, '+' came, ' ' stayed.
type diffLine struct {
	Sign byte
	Text string
}

// diff compares two values of an event line by line.
func diff(before, after any) []diffLine {
	a, b := jsonLines(before), jsonLines(after)
	if len(a) == 0 && len(b) == 0 {
		return nil
	}
	return diffLines(a, b)
}

func diffLines(a, b []string) []diffLine {
	if len(a)*len(b) > 1_000_000 { // far more than our rows have
		var out []diffLine
		for _, l := range a {
			out = append(out, diffLine{'-', l})
		}
		for _, l := range b {
			out = append(out, diffLine{'+', l})
		}
		return out
	}
	return lcs(a, b)
}

// lcs lists the lines of a and b along their longest common subsequence.
func lcs(a, b []string) []diffLine {
	n := make([][]int, len(a)+1)
	for i := range n {
		n[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				n[i][j] = n[i+1][j+1] + 1
			} else {
				n[i][j] = max(n[i+1][j], n[i][j+1])
			}
		}
	}
	var out []diffLine
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out = append(out, diffLine{' ', a[i]})
			i, j = i+1, j+1
		case i < len(a) && (j == len(b) || n[i+1][j] >= n[i][j+1]):
			out = append(out, diffLine{'-', a[i]})
			i++
		default:
			out = append(out, diffLine{'+', b[j]})
			j++
		}
	}
	return out
}

func jsonLines(v any) []string {
	if v == nil {
		return nil
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil
	}
	lines := strings.Split(string(b), "\n")
	for i, l := range lines {
		lines[i] = plain(strings.TrimSuffix(l, ","), 2000)
	}
	return lines
}

// act is one line of "who did what", for a history or the dashboard.
type act struct {
	At                              time.Time
	Who, What, Detail, Reason, Href string
	Icon, Tone                      string
}

func actOf(p *frame, r auditRow) act {
	a := act{At: r.At, Who: r.Actor, Reason: r.Reason, Tone: "none", Icon: "history", What: r.Action}
	if a.Who == "" {
		a.Who = p.word("actor", r.Kind)
	}
	key := "did." + r.Action
	if r.Phase == "intent" && p.Has(key+".intent") {
		key += ".intent"
	}
	if p.Has(key) {
		a.What = p.T(key)
	}
	switch {
	case r.Action == audit.ItemDelete:
		a.Icon, a.Tone = "trash-2", "warn"
	case strings.HasPrefix(r.Action, "quarantine.release"):
		a.Icon, a.Tone = "send", "info"
	case r.Action == audit.ViewBody, r.Action == audit.RawDownload:
		a.Icon = "eye"
	case r.Action == audit.ItemCreate:
		a.Icon, a.Tone = "shield-alert", "warn"
	case strings.HasPrefix(r.Action, "guard."):
		a.Icon, a.Tone = "circle-x", "crit"
	}
	if r.Outcome == "failure" || r.Outcome == "refused" {
		a.Tone, a.Icon = "crit", "circle-x"
		a.Detail = p.word("outcome", r.Outcome)
	}
	if r.Action == audit.ReleaseResult {
		r.Detail = strings.TrimSpace(strings.TrimPrefix(r.Code, "0") + " " + r.Detail) // the next hop's reply
	}
	if r.Detail != "" {
		a.Detail = strings.TrimSpace(a.Detail + " " + r.Detail)
	}
	if r.Item != "" {
		a.Href = "/quarantine/" + r.Item
	}
	return a
}

// itemActs is what was done with a held mail, newest first.
func (s *pages) itemActs(c echo.Context, p *frame, it quarantine.Item) ([]act, error) {
	page, err := s.record.List(c.Request().Context(), p.User.auditFilter(audit.Filter{Target: it.ID.String(), Skip: []string{audit.PageView, audit.APICall}, Limit: 100}))
	if err != nil {
		return nil, err
	}
	var out []act
	for _, row := range page.Items {
		out = append(out, actOf(p, auditRowOf(row)))
	}
	return out, nil
}

// decisions are the acts on mail and settings that people made.
func decisions(p *frame, rows []audit.Row, limit int) []act {
	var out []act
	for _, row := range rows {
		r := auditRowOf(row)
		decided := r.Phase != "intent" || strings.HasPrefix(r.Action, "quarantine.release")
		if r.Kind != "user" && r.Kind != "operator" && r.Kind != "service" || !decided || !slices.ContainsFunc(decisionPrefixes, func(s string) bool { return strings.HasPrefix(r.Action, s) }) {
			continue
		}
		out = append(out, actOf(p, r))
		if len(out) == limit {
			break
		}
	}
	return out
}

var decisionPrefixes = []string{"quarantine.release", "quarantine.delete", "policy.", "domain.", "user.", "role.", "token.", "setting."}

func actorName(p *frame, r auditRow) string {
	if r.Actor != "" {
		return r.Actor
	}
	return p.word("actor", r.Kind)
}

func actorFilter(r auditRow) string {
	if r.Email != "" {
		return r.Email
	}
	return r.Kind
}
