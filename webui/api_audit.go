package webui

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
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
	OwnWill
	Actor string `query:"actor" maxLength:"254" doc:"mail address or id of an account, or a type of actor"`
	EventKind
	Target      string `query:"target" maxLength:"200" doc:"id of what was acted on"`
	Workspace   string `query:"workspace" format:"uuid"`
	IP          string `query:"ip" maxLength:"45" doc:"source address"`
	Application string `query:"application" maxLength:"100"`
	Route       string `query:"route" maxLength:"200" doc:"template of the path, as /quarantine/{id}"`
	Method      string `query:"method" maxLength:"50" doc:"way of signing in: password, token, ..."`
	Provider    string `query:"provider" maxLength:"100" doc:"of the identity: local, or a name of single sign-on"`
	Approval    string `query:"approval" enum:"none,given" doc:"of acts that a second person can approve"`
	Link        string `query:"link" format:"uuid" doc:"an id that the event names: its own, its actor, session, request, object, incident or cause"`
	Query       string `query:"q" maxLength:"200" doc:"an id, a mail address, an IP address, or a part of the action"`
	Accept      string `header:"Accept" doc:"application/json, text/csv or application/x-ndjson"`
	Format      string `query:"format" enum:"csv,csv-plain,ndjson,ocsf,ecs,cef" doc:"all that the filter selects as a file of this kind; csv ends in records that begin with # and say what it came to"`
}

// EventKind is what both the list and the feed can be filtered by.
type EventKind struct {
	Action  string `query:"action" maxLength:"300" doc:"auth.login, or quarantine.* for all that begin so; several with commas between"`
	Outcome string `query:"outcome" enum:"success,failure,refused,unknown"`
}

// feedInput is one step of a program that copies the audit.
type feedInput struct {
	EventKind
	Cursor int64 `query:"cursor" minimum:"0" doc:"next_cursor of the step before; 0, or nothing, for the first event"`
	Limit  int   `query:"limit" minimum:"1" maximum:"1000" default:"500"`
}

// feed is the answer to it.
type feed struct {
	Body struct {
		Items      []map[string]any `json:"items" nullable:"false" doc:"numbered events, oldest first, each with seq"`
		NextCursor int64            `json:"next_cursor" doc:"where to go on; every event that the filter selects and whose seq is lower has been handed out"`
		Gone       []audit.GoneRun  `json:"gone" nullable:"false" doc:"without a filter, for those who read everything: numbers before next_cursor whose events were deleted when their time was over, with the protocol; without one somebody took them away"`
		Head       int64            `json:"head" doc:"the number that the next event will get; there is more at once while next_cursor is lower"`
	}
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
				typeCSV: {}, typeNDJSON: {}, "text/plain": {},
			}}}
		})
	register(s, endpoint{http.MethodGet, "/audit/feed", "feed-audit-events", "What was done, in the order of the numbers, for programs that copy it: nothing is skipped, also not what commits late", identity.AuditExport, 0}, s.getFeed)
}

// auditFilter is what the caller asked for, within what the caller may see.
func (s *Server) auditFilter(p identity.Principal, in *eventFilter, right identity.Right) audit.Filter {
	f := audit.Filter{Actor: in.Actor, Action: in.Action, Target: in.Target, Outcome: in.Outcome, Query: in.Query, IP: in.IP,
		Application: in.Application, Route: in.Route, Method: in.Method, Provider: in.Provider, Approval: in.Approval, Link: in.Link,
		From: in.From, To: in.To, Cursor: in.Cursor, Limit: in.Limit}
	if in.Workspace != "" {
		f.Workspace = ByID{ID: in.Workspace}.uuid()
	}
	ws, all := p.Workspaces(right)
	if !all {
		f.Workspaces, f.NoInstallation = ws, true
	}
	return f
}

// getFeed hands out what is new since the cursor. Its calls are on record like
// every call of the API; an event for each step would never let it end.
func (s *Server) getFeed(ctx context.Context, p identity.Principal, in *feedInput) (*feed, error) {
	f := audit.Filter{Action: in.Action, Outcome: in.Outcome, Limit: in.Limit}
	if ws, all := p.Workspaces(identity.AuditExport); !all {
		f.Workspaces, f.NoInstallation = ws, true
	}
	got, err := s.deps.Audit.Feed(ctx, in.Cursor, f)
	if err != nil {
		return nil, err
	}
	out := &feed{}
	out.Body.Items, out.Body.NextCursor, out.Body.Head = make([]map[string]any, len(got.Items)), got.Next, got.Head
	out.Body.Gone = notNil(got.Gone)
	for i, r := range got.Items {
		out.Body.Items[i] = r.Fields()
	}
	return out, nil
}

func (s *Server) getEvents(ctx context.Context, p identity.Principal, in *eventFilter) (*huma.StreamResponse, error) {
	format := audit.Format(in.Format)
	if format == "" && strings.Contains(in.Accept, typeCSV) {
		format = audit.CSVPlain
	} else if format == "" && strings.Contains(in.Accept, typeNDJSON) {
		format = audit.NDJSON
	}
	if format != "" {
		return s.exportEvents(ctx, p, in, format)
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
func (s *Server) exportEvents(ctx context.Context, p identity.Principal, in *eventFilter, format audit.Format) (*huma.StreamResponse, error) {
	if !p.Can(identity.AuditExport, uuid.Nil) {
		return nil, huma.Error403Forbidden("this needs the right audit_export")
	}
	if err := in.ownWill(); err != nil {
		return nil, err
	}
	f := s.auditFilter(p, in, identity.AuditExport)
	if err := f.Check(); err != nil {
		return nil, err // before the export is begun on record
	}
	ev := audit.Event{Action: audit.AuditExport, Actor: p.Actor(), Roles: p.RoleNames(), Retention: audit.Retention3Years,
		Targets: []audit.Target{{Type: "audit", ID: "events", Label: string(format)}},
		After: map[string]any{"actor": audit.Personal(f.Actor), "action": f.Action, "target": f.Target, "outcome": f.Outcome,
			"workspace": in.Workspace, "ip": audit.Personal(f.IP), "application": f.Application, "route": f.Route, "method": f.Method, "provider": f.Provider,
			"approval": f.Approval, "link": f.Link, "q": audit.Personal(f.Query), "from": recordedTime(f.From), "to": recordedTime(f.To), "format": string(format)}}
	ev, err := s.deps.Audit.BeginExport(ctx, ev)
	if err != nil {
		return nil, fmt.Errorf("record the export: %w", err)
	}
	sel := audit.Selection{Filter: f, Format: format, Head: s.treeHead}
	return &huma.StreamResponse{Body: func(c huma.Context) {
		c.SetHeader("Content-Type", format.MediaType())
		c.SetHeader("Content-Disposition", `attachment; filename="audit`+format.Ending()+`"`)
		if err := s.deps.Audit.Export(ctx, ev, sel, c.BodyWriter()); err != nil {
			s.log.Error("export broke off", "error", err)
			panic(http.ErrAbortHandler) // half a file must not look like a whole one
		}
	}}, nil
}

// treeHead signs the audit for an export, so that a head covers what it holds.
func (s *Server) treeHead(ctx context.Context) (*audit.TreeHead, error) {
	if s.deps.Seal == nil {
		return nil, nil
	}
	if _, err := s.deps.Seal.Seal(ctx); err != nil {
		return nil, err
	}
	c, err := s.deps.Seal.Last(ctx)
	if err != nil {
		return nil, err
	}
	return &audit.TreeHead{Origin: c.Origin, Size: c.Size, Root: base64.StdEncoding.EncodeToString(c.Root), SignedAt: c.SignedAt, Note: c.Note}, nil
}
