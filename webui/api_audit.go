package webui

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"mailward/audit"
	"mailward/identity"
)

type eventFilter struct {
	Paging
	Span
	Actor   string `query:"actor" maxLength:"254" doc:"mail address or id of an account, or a type of actor"`
	Action  string `query:"action" maxLength:"100" doc:"auth.login, or quarantine.* for all that begin so"`
	Target  string `query:"target" maxLength:"200" doc:"id of what was acted on"`
	Outcome string `query:"outcome" enum:"success,failure,refused,unknown"`
	Query   string `query:"q" maxLength:"200" doc:"an id, a mail address, an IP address, or a part of the action"`
	Accept  string `header:"Accept" doc:"application/json, text/csv or application/x-ndjson"`
}

// Media types of the list of events.
const (
	typeCSV    = "text/csv"
	typeNDJSON = "application/x-ndjson"
)

func (s *Server) registerAudit() {
	register(s, endpoint{http.MethodGet, "/audit/events", "list-audit-events", "What was done, newest first; with Accept text/csv or application/x-ndjson all that the filter selects", identity.AuditRead, 0},
		s.getEvents, func(op *huma.Operation) {
			event := &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true, Description: "An audit event with seq and leaf_hash"}
			op.Responses = map[string]*huma.Response{"200": {Description: "Events", Content: map[string]*huma.MediaType{
				"application/json": {Schema: &huma.Schema{Type: huma.TypeObject, Required: []string{"items", "next_cursor"}, Properties: map[string]*huma.Schema{
					"items": {Type: huma.TypeArray, Items: event}, "next_cursor": {Type: huma.TypeString}}}},
				typeCSV: {}, typeNDJSON: {},
			}}}
		})
}

// auditFilter is what the caller asked for, within what the caller may see.
func (s *Server) auditFilter(p identity.Principal, in *eventFilter, right identity.Right) audit.Filter {
	f := audit.Filter{Actor: in.Actor, Action: in.Action, Target: in.Target, Outcome: in.Outcome, Query: in.Query,
		From: in.From, To: in.To, Cursor: in.Cursor, Limit: in.Limit}
	ws, all := p.Workspaces(right)
	if !all {
		f.Workspaces, f.NoInstallation = ws, true
	}
	return f
}

func (s *Server) getEvents(ctx context.Context, p identity.Principal, in *eventFilter) (*huma.StreamResponse, error) {
	kind := ""
	for _, t := range []string{typeCSV, typeNDJSON} {
		if strings.Contains(in.Accept, t) {
			kind = t
		}
	}
	if kind != "" {
		return s.exportEvents(ctx, p, in, kind)
	}
	got, err := s.deps.Audit.List(ctx, s.auditFilter(p, in, identity.AuditRead))
	if err != nil {
		return nil, err
	}
	items := make([]map[string]any, len(got.Items))
	for i, r := range got.Items {
		items[i] = r.Fields()
	}
	b, err := json.Marshal(map[string]any{"items": items, "next_cursor": got.Next})
	if err != nil {
		return nil, fmt.Errorf("encode events: %w", err)
	}
	return &huma.StreamResponse{Body: func(c huma.Context) {
		c.SetHeader("Content-Type", "application/json")
		if _, err := c.BodyWriter().Write(b); err != nil {
			s.log.Debug("answer not sent", "error", err)
		}
	}}, nil
}

// exportEvents streams everything that the filter selects. That it is taken
// away is on record first.
func (s *Server) exportEvents(ctx context.Context, p identity.Principal, in *eventFilter, kind string) (*huma.StreamResponse, error) {
	if !p.Can(identity.AuditExport, uuid.Nil) {
		return nil, huma.Error403Forbidden("this needs the right audit_export")
	}
	f := s.auditFilter(p, in, identity.AuditExport)
	ev := audit.Event{Action: audit.AuditExport, Phase: "intent", Actor: p.Actor(), Roles: p.RoleNames(), Retention: audit.Retention3Years,
		Targets: []audit.Target{{Type: "audit", ID: "events", Label: kind}},
		After: map[string]any{"actor": audit.Personal(f.Actor), "action": f.Action, "target": f.Target, "outcome": f.Outcome,
			"q": audit.Personal(f.Query), "from": f.From, "to": f.To, "format": kind}}
	if err := s.deps.Audit.Record(ctx, ev); err != nil {
		return nil, fmt.Errorf("record the export: %w", err)
	}
	write, name := s.deps.Audit.WriteCSV, "audit.csv"
	if kind == typeNDJSON {
		write, name = s.deps.Audit.WriteNDJSON, "audit.ndjson"
	}
	return &huma.StreamResponse{Body: func(c huma.Context) {
		c.SetHeader("Content-Type", kind+"; charset=utf-8")
		c.SetHeader("Content-Disposition", `attachment; filename="`+name+`"`)
		if err := write(ctx, f, io.Writer(c.BodyWriter())); err != nil {
			s.log.Error("export broke off", "error", err)
			panic(http.ErrAbortHandler)
		}
	}}, nil
}
