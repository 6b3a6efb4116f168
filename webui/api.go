package webui

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humaecho"
	"github.com/google/uuid"

	"mailward/alerting"
	"mailward/alerting/rule"
	"mailward/approval"
	"mailward/audit"
	"mailward/gateway/ledger"
	"mailward/gateway/queue"
	"mailward/identity"
	"mailward/incident"
	"mailward/intel"
	"mailward/internal/pg"
	"mailward/policy"
	"mailward/quarantine"
	"mailward/scanner"
	"mailward/scanner/dlp"
	"mailward/scanner/ruleset"
)

// apiPrefix is before every path of the API.
const apiPrefix = "/api/v1"

// registerAPI describes and serves the HTTP API. The document at openapi.json
// is made from the same types that the calls use.
func (s *Server) registerAPI() {
	cfg := huma.DefaultConfig("Mailward", s.cfg.Version)
	cfg.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	cfg.DocsPath, cfg.SchemasPath, cfg.CreateHooks = "", "", nil
	cfg.Servers = []*huma.Server{{URL: apiPrefix}}
	cfg.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token":   {Type: "http", Scheme: "bearer", Description: "An API token (mailward token create)."},
		"session": {Type: "apiKey", In: "cookie", Name: s.cookieName(), Description: "The cookie of a login in the browser."},
	}
	cfg.Security = []map[string][]string{{"token": {}}, {"session": {}}}
	s.api = humaecho.NewWithGroup(s.echo, s.echo.Group(apiPrefix), cfg)
	s.routes = append(s.routes, route{Method: http.MethodGet, Path: apiPrefix + "/openapi.json", Public: true}, route{Method: http.MethodGet, Path: apiPrefix + "/openapi.yaml", Public: true})
	s.registerHealth()
	s.registerMessages()
	s.registerQuarantine()
	s.registerQueue()
	s.registerAudit()
	s.registerSeal()
	s.registerRetention()
	s.registerIntegrityAPI()
	s.registerPolicy()
	s.registerGroups()
	s.registerEntries()
	s.registerWhatIf()
	s.registerDLP()
	s.registerRules()
	s.registerIntel()
	s.registerMailcow()
	s.registerAlerts()
	s.registerAccounts()
	s.registerSignInAPI()
	s.registerTokens()
	s.registerWorkspaces()
	s.registerApprovals()
	if s.deps.Evidence != nil {
		s.registerEvidence()
	}
	if s.deps.Incidents != nil {
		s.registerIncidents()
	}
}

// endpoint is one call of the API.
type endpoint struct {
	Method, Path, ID, Summary string
	Right                     identity.Right
	Status                    int // of success; default 200
}

// register adds one call. It is refused without a login (401) and without the
// right (403) before its input is even looked at.
func register[I, O any](s *Server, e endpoint, h func(context.Context, identity.Principal, *I) (*O, error), more ...func(*huma.Operation)) {
	op := huma.Operation{OperationID: e.ID, Method: e.Method, Path: e.Path, Summary: e.Summary, DefaultStatus: e.Status, MaxBodyBytes: maxBody,
		Tags: []string{strings.Split(strings.TrimPrefix(e.Path, "/"), "/")[0]}, Errors: []int{http.StatusUnauthorized, http.StatusForbidden},
		Description: "Needs the right `" + string(e.Right) + "`.", Middlewares: huma.Middlewares{s.needRight(e.Right)}}
	for _, m := range more {
		m(&op)
	}
	s.routes = append(s.routes, route{Method: e.Method, Path: apiPrefix + echoPath(e.Path), Right: e.Right, Action: audit.APICall})
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*O, error) {
		p, _ := principalFrom(ctx)
		out, err := h(ctx, p, in)
		if err != nil {
			return nil, s.problem(err)
		}
		return out, nil
	})
}

// echoPath is a path as the router writes it.
func echoPath(p string) string { return strings.NewReplacer("{", ":", "}", "").Replace(p) }

func (s *Server) needRight(right identity.Right) func(huma.Context, func(huma.Context)) {
	return func(c huma.Context, next func(huma.Context)) {
		p, ok := principalFrom(c.Context())
		status, text := 0, ""
		switch {
		case !ok:
			c.SetHeader("WWW-Authenticate", "Bearer")
			status, text = http.StatusUnauthorized, "log in, or send an API token"
		case p.User.MustChangePassword && p.TokenID == uuid.Nil:
			status, text = http.StatusForbidden, "set a password of your own first"
		case !p.Can(right, uuid.Nil):
			status, text = http.StatusForbidden, "this needs the right "+string(right)
		}
		if status == 0 {
			status, text = wholeBody(humaecho.Unwrap(c).Response(), humaecho.Unwrap(c).Request())
		}
		if status == 0 {
			next(c)
			return
		}
		if err := huma.WriteErr(s.api, c, status, text); err != nil {
			s.log.Debug("answer not sent", "error", err)
		}
	}
}

// schemaName tells types of the same name apart: sets of package dlp and ruleset, notes
// and reports of package incident and others.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	switch t.PkgPath() {
	case reflect.TypeFor[dlp.Set]().PkgPath():
		return "DLP" + name
	case reflect.TypeFor[incident.Note]().PkgPath():
		return "Incident" + strings.TrimPrefix(name, "Incident")
	}
	return name
}

// problem turns an error of the packages below into the answer. Every status of
// the API is chosen here; what we do not know is a 500 without words.
func (s *Server) problem(err error) error {
	var invalid *policy.InvalidError
	var throttled *identity.ThrottledError
	var broken *ruleset.BrokenError
	var refused *audit.RefusedError
	var wrongRule *rule.InvalidError
	var known huma.StatusError
	if p := evidenceProblem(err); p != nil {
		return p
	}
	if p := releaseProblem(err); p != nil {
		return p
	}
	if p := incidentProblem(err); p != nil {
		return p
	}
	switch {
	case errors.As(err, &known):
		return err
	case errors.Is(err, quarantine.ErrNotFound), errors.Is(err, ledger.ErrNotFound), errors.Is(err, queue.ErrNotFound), errors.Is(err, audit.ErrNotFound), errors.Is(err, policy.ErrNotFound), errors.Is(err, ruleset.ErrNotFound), errors.Is(err, dlp.ErrNotFound), errors.Is(err, identity.ErrNotFound), errors.Is(err, approval.ErrNotFound), errors.Is(err, intel.ErrNotFound), errors.Is(err, alerting.ErrNotFound):
		return huma.Error404NotFound("there is no such thing, or it is not yours to see")
	case errors.Is(err, quarantine.ErrState), errors.Is(err, quarantine.ErrNothingUnseen), errors.Is(err, quarantine.ErrNoSandbox), errors.Is(err, quarantine.ErrNothingToRun), errors.Is(err, queue.ErrState), errors.Is(err, queue.ErrUnderWay), errors.Is(err, approval.ErrSamePerson), errors.Is(err, approval.ErrState), errors.Is(err, approval.ErrForged), errors.Is(err, identity.ErrLastAdmin), errors.Is(err, identity.ErrInUse), errors.Is(err, identity.ErrNameTaken), errors.Is(err, identity.ErrArchived), errors.Is(err, policy.ErrExists), errors.Is(err, policy.ErrConflict), errors.Is(err, policy.ErrGroupExists), errors.Is(err, policy.ErrGroupInUse),
		errors.Is(err, policy.ErrStatic), errors.Is(err, ruleset.ErrExists), errors.Is(err, ruleset.ErrConflict), errors.Is(err, ruleset.ErrTooMany), errors.Is(err, dlp.ErrExists), errors.Is(err, dlp.ErrConflict), errors.Is(err, dlp.ErrFull), errors.Is(err, identity.ErrExists),
		errors.Is(err, alerting.ErrConflict), errors.Is(err, alerting.ErrExists), errors.Is(err, alerting.ErrRunning), errors.Is(err, alerting.ErrNotFiring):
		return huma.Error409Conflict(publicText(err))
	case errors.Is(err, identity.ErrBeyondToken):
		return huma.Error403Forbidden(publicText(err))
	case errors.Is(err, quarantine.ErrGone):
		return huma.Error410Gone("the mail's bytes are gone")
	case errors.Is(err, intel.ErrBadCursor), errors.Is(err, intel.ErrReasonRequired), errors.Is(err, quarantine.ErrReasonRequired), errors.Is(err, quarantine.ErrNoRecipient), errors.Is(err, quarantine.ErrBadCursor), errors.Is(err, quarantine.ErrBadFilter), errors.Is(err, quarantine.ErrBulkAct), errors.Is(err, ledger.ErrBadCursor), errors.Is(err, queue.ErrBadCursor), errors.Is(err, queue.ErrReasonRequired), errors.Is(err, policy.ErrBadCursor), errors.Is(err, policy.ErrReasonRequired),
		errors.Is(err, audit.ErrBadCursor), errors.Is(err, audit.ErrBadFilter), errors.Is(err, identity.ErrWeakPassword), errors.Is(err, identity.ErrReasonRequired), errors.Is(err, approval.ErrReasonRequired), errors.Is(err, approval.ErrRetention), errors.Is(err, identity.ErrInvalid), errors.Is(err, alerting.ErrReasonRequired), errors.Is(err, alerting.ErrBadCursor):
		return huma.Error422UnprocessableEntity(publicText(err))
	case errors.As(err, &refused):
		return huma.Error409Conflict(refused.Reason)
	case errors.As(err, &broken):
		return brokenRules(broken)
	case errors.Is(err, ruleset.ErrBusy):
		return huma.Error429TooManyRequests(publicText(err))
	case errors.Is(err, scanner.ErrUnavailable):
		return huma.Error503ServiceUnavailable("the scanner does not answer")
	case errors.As(err, &invalid):
		return huma.Error422UnprocessableEntity(invalid.Error())
	case errors.As(err, &wrongRule):
		return huma.Error422UnprocessableEntity(wrongRule.Error())
	case errors.As(err, &throttled):
		return huma.Error429TooManyRequests("too many tries")
	case errors.Is(err, context.Canceled):
		return huma.NewError(499, "the caller left")
	case pg.IsBadText(err):
		return huma.Error422UnprocessableEntity(badText)
	}
	s.log.Error("API call failed", "error", err)
	if audit.IsUnwritable(err) {
		return huma.Error503ServiceUnavailable("the record cannot be written, so this was refused: nothing is done that is not on record")
	}
	if pg.IsUnavailable(err) {
		return huma.Error503ServiceUnavailable("the database does not answer; nothing was done that is not on record")
	}
	return huma.Error500InternalServerError("")
}

const badText = "a text holds a NUL character, which cannot be stored or looked for"

// publicText are words of ours for errors whose text we wrote ourselves.
func publicText(err error) string {
	for _, known := range []error{policy.ErrConflict, queue.ErrState, queue.ErrUnderWay, queue.ErrReasonRequired, queue.ErrBadCursor, dlp.ErrFull, ruleset.ErrExists, ruleset.ErrConflict, ruleset.ErrTooMany, ruleset.ErrBusy,
		alerting.ErrConflict, alerting.ErrExists, alerting.ErrRunning, alerting.ErrNotFiring, alerting.ErrReasonRequired, alerting.ErrBadCursor} {
		if errors.Is(err, known) {
			err = known // What was tried is ours to know.
		}
	}
	t := err.Error()
	for _, pkg := range []string{"quarantine: ", "policy: ", "ledger: ", "audit: ", "identity: ", "queue: ", "approval: ", "dlp: ", "ruleset: ", "ask for an export: ", "evidence: ", "alerting: "} {
		t = strings.Replace(t, pkg, "", 1)
	}
	return t
}

// Paging is the input of every list.
type Paging struct {
	Cursor string `query:"cursor" doc:"next_cursor of the page before" maxLength:"500"`
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
}

// Span is a stretch of time.
type Span struct {
	From time.Time `query:"from" doc:"not before (RFC 3339)"`
	To   time.Time `query:"to" doc:"before (RFC 3339)"`
}

// ByID is the input of every call on one thing.
type ByID struct {
	ID string `path:"id" format:"uuid"`
}

func (b ByID) uuid() uuid.UUID {
	id, err := uuid.Parse(b.ID)
	if err != nil {
		return uuid.Nil // there is no such thing
	}
	return id
}

// list is a page of things.
type list[T any] struct {
	Body struct {
		Items      []T    `json:"items" nullable:"false"`
		NextCursor string `json:"next_cursor" doc:"empty on the last page"`
	}
}

func page[T any](items []T, next string) *list[T] {
	l := &list[T]{}
	if l.Body.Items = items; items == nil {
		l.Body.Items = []T{}
	}
	l.Body.NextCursor = next
	return l
}

// one is a single thing.
type one[T any] struct{ Body T }

// nothing is an answer without a body.
type nothing struct{}
