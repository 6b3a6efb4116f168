package webui

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/audit"
	"mailward/identity"
	"mailward/internal/pg"
)

const (
	// maxBody bounds what a form or a call may send; no mail comes in here, but
	// where a policy is tried with one.
	maxBody   = 1 << 20
	maxUpload = 12 << 20
	// maxRulesBody is for a rule set, which may have a megabyte, as JSON or a form.
	maxRulesBody = 5 << 20
	// bearerScheme is RFC 6750 §2.1.
	bearerScheme = "Bearer "
)

type principalKey struct{}
type personKey struct{}
type deadTokenKey struct{}
type methodKey struct{} // as the caller sent it; see serve

// principalFrom is who calls, if somebody is logged in.
func principalFrom(ctx context.Context) (identity.Principal, bool) {
	p, ok := ctx.Value(principalKey{}).(identity.Principal)
	return p, ok
}

// cookieName has the prefix that makes browsers refuse a cookie set by a
// neighbour or over plain http.
func (s *Server) cookieName() string {
	if s.secure {
		return "__Host-mailward_session"
	}
	return "mailward_session"
}

func (s *Server) setSession(c echo.Context, token string) {
	setCookie(c, s.cookieName(), token, s.deps.Identity.SessionLife(), s.secure)
}

func (s *Server) clearSession(c echo.Context) { setCookie(c, s.cookieName(), "", -1, s.secure) }

func (s *Server) person(c echo.Context) *Person {
	v, _ := c.Request().Context().Value(personKey{}).(*Person)
	return v
}

func bodyLimit(path string) int64 {
	switch path {
	case tryPath:
		return maxUpload
	case apiPrefix + "/intel/indicators":
		return maxImport
	}
	if strings.HasPrefix(path, "/yara") || strings.HasPrefix(path, apiPrefix+"/yara/") {
		return maxRulesBody
	}
	return maxBody
}

// open is the first thing for every call: headers, limits, and what the call
// will be known as.
func (s *Server) open(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		setSecurityHeaders(c, s.secure)
		r := c.Request()
		if r.Body != nil {
			r.Body = http.MaxBytesReader(c.Response(), r.Body, bodyLimit(c.Path()))
		}
		id := uuid.NewString()
		c.Response().Header().Set("X-Request-Id", id)
		method, ok := r.Context().Value(methodKey{}).(string)
		if !ok {
			method = r.Method
		}
		req := pg.Request{ID: id, Method: method, Path: template(c.Path()), Application: "web-ui", TraceID: traceID(r.Header.Get("Traceparent")), UserAgentClass: identity.AgentClass(r.UserAgent()), SourceIP: clientIP(c), TrustedProxy: proxyOf(c)}
		if isAPI(r) {
			req.Application = "api"
		}
		ctx, stop := withPatience(r.Context(), c, limitOf(c.Path()))
		defer stop()
		c.SetRequest(r.WithContext(pg.WithRequest(ctx, req)))
		defer func() {
			// A handler that breaks off on purpose says so; anything else is our mistake.
			if x := recover(); x != nil {
				if x == http.ErrAbortHandler {
					panic(x)
				}
				s.log.Error("handler crashed", "method", r.Method, "path", c.Path(), "panic", x)
				err = echo.NewHTTPError(http.StatusInternalServerError)
			}
		}()
		return next(c)
	}
}

// template is a route as the record and the API's document write it: /x/{id}.
func template(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if name, ok := strings.CutPrefix(p, ":"); ok {
			parts[i] = "{" + name + "}"
		}
	}
	return strings.Join(parts, "/")
}

// authenticate finds out who calls, by bearer token or by cookie. A token that
// counts for nothing is refused, even where no login is needed.
func (s *Server) authenticate(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if strings.HasPrefix(c.Path(), "/assets/") || c.Path() == "/livez" {
			return next(c)
		}
		quick, cancel := context.WithTimeout(c.Request().Context(), identifyLimit)
		defer cancel()
		p, ok, err := s.identify(quick, c)
		switch {
		case errors.Is(err, identity.ErrNoSession) && bearer(c.Request()) != "":
			c.Response().Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
			c.SetRequest(c.Request().WithContext(context.WithValue(c.Request().Context(), deadTokenKey{}, err)))
			return s.refused(c, http.StatusUnauthorized, "the token is not valid")
		case errors.Is(err, identity.ErrNoSession):
			s.clearSession(c)
		case err != nil:
			if r, known := s.find(c.Request().Method, c.Path()); known && r.Public {
				break // the login page and probes say what is wrong themselves
			}
			return err
		}
		if !ok {
			return next(c)
		}
		ctx := context.WithValue(c.Request().Context(), principalKey{}, p)
		list, _, err := s.deps.Identity.WorkspacesOf(quick, p, identity.ViewMeta)
		if err != nil {
			return err
		}
		_, auditAll := p.Workspaces(identity.AuditRead)
		who := personOf(p, list)
		who.AuditAll = auditAll
		if !isAPI(c.Request()) {
			who.choose(cookieValue(c, spaceCookie))
		}
		c.SetRequest(c.Request().WithContext(context.WithValue(ctx, personKey{}, who)))
		return next(c)
	}
}

func (s *Server) identify(ctx context.Context, c echo.Context) (p identity.Principal, ok bool, err error) {
	r := c.Request()
	if b := bearer(r); b != "" {
		if !isAPI(r) {
			return p, false, nil // pages are for people
		}
		p, err = s.deps.Identity.Token(ctx, b)
		return p, err == nil, err
	}
	cookie, err := r.Cookie(s.cookieName())
	if err != nil || cookie.Value == "" {
		return p, false, nil
	}
	p, err = s.deps.Identity.Session(ctx, cookie.Value)
	return p, err == nil, err
}

func bearer(r *http.Request) string {
	h := r.Header.Get("Authorization")
	if len(h) > len(bearerScheme) && strings.EqualFold(h[:len(bearerScheme)], bearerScheme) {
		return strings.TrimSpace(h[len(bearerScheme):])
	}
	return ""
}

// bodyTimeout is how long a program may take to send a call.
const bodyTimeout = 30 * time.Second

// wholeBody reads what a program sends before the call begins, and says what is
// wrong if it breaks off: the library would call that a failure of ours. A body that
// is too big stays to be dealt with there.
func wholeBody(w http.ResponseWriter, r *http.Request) (status int, text string) {
	if r.Body == nil || r.Body == http.NoBody {
		return 0, ""
	}
	// Where there is no connection (in tests), there is nothing to wait for.
	if rc := http.NewResponseController(w); rc.SetReadDeadline(time.Now().Add(bodyTimeout)) == nil {
		defer rc.SetReadDeadline(time.Time{})
	}
	b, err := io.ReadAll(r.Body)
	var big *http.MaxBytesError
	switch {
	case err == nil:
		r.Body = io.NopCloser(bytes.NewReader(b))
	case errors.As(err, &big):
		r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(b), failing{err}))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return http.StatusRequestTimeout, "the body took too long to come"
	default:
		return http.StatusBadRequest, "the body broke off before its end"
	}
	return 0, ""
}

// failing is a body that ends with an error.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// refused answers a call that may not be made, and puts it on record.
func (s *Server) refused(c echo.Context, status int, text string) error {
	s.note(c, status, time.Time{})
	s.fail(echo.NewHTTPError(status, text), c)
	return nil
}

// needLogin lets only those through who are logged in and have the right
// somewhere; which mail they may see is decided where it is read.
func (s *Server) needLogin(right identity.Right, h echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		p, ok := principalFrom(c.Request().Context())
		if !ok {
			login := "/login"
			if c.Request().Method == http.MethodGet && c.Request().URL.Path != "/" {
				login += "?next=" + url.QueryEscape(c.Request().URL.RequestURI())
			}
			if c.Request().Header.Get("HX-Request") != "" {
				c.Response().Header().Set("HX-Redirect", login)
				return c.NoContent(http.StatusUnauthorized)
			}
			return c.Redirect(http.StatusSeeOther, login)
		}
		if p.User.MustChangePassword && c.Path() != "/password" && c.Path() != "/logout" {
			return c.Redirect(http.StatusSeeOther, "/password")
		}
		if p.MustEnrol && right != "" {
			return c.Redirect(http.StatusSeeOther, "/settings")
		}
		if right != "" && !p.Can(right, uuid.Nil) {
			return echo.NewHTTPError(http.StatusForbidden, "this takes another role")
		}
		return h(c)
	}
}

// recordCall puts each call on record, with its result. Content is on record
// before it is shown, by the handler itself.
func (s *Server) recordCall(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		start := s.now()
		defer func() {
			if x := recover(); x != nil {
				status := c.Response().Status
				if !c.Response().Committed {
					status = http.StatusInternalServerError
				}
				s.note(c, status, start)
				panic(x) // open answers
			}
		}()
		err := next(c)
		if err != nil {
			// Written now, so that the status is known.
			s.fail(err, c)
		}
		s.note(c, c.Response().Status, start)
		return nil
	}
}

// note records one call. Left out: what everybody may fetch, and the polling of
// a page that is open.
func (s *Server) note(c echo.Context, status int, start time.Time) {
	r := c.Request()
	rt, known := s.find(r.Method, c.Path())
	api := forPrograms(r.URL.Path)
	if known && rt.Public || !known && !api || polling(c) {
		return
	}
	ok := status < 400
	if ok && !api && rt.Action != audit.PageView {
		return // the act itself is on record
	}
	req, _ := pg.RequestFrom(r.Context())
	req.Status = status
	if !start.IsZero() {
		req.DurationMS = s.now().Sub(start).Milliseconds()
	}
	ev := audit.Event{Action: audit.PageView, Severity: "info", Actor: pg.Actor{Type: pg.ActorAnonymous, AuthMethod: "none"}, Request: req}
	if api {
		ev.Action = audit.APICall
	}
	p, in := principalFrom(r.Context())
	if in {
		ev.Actor, ev.Roles = p.Actor(), p.RoleNames()
	}
	switch {
	case ok && !in:
		ev.Outcome, ev.OutcomeCode = "refused", "login_required"
	case status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusTooManyRequests:
		ev.Outcome, ev.Severity = "refused", "warning"
	case !ok:
		ev.Outcome = "failure"
	}
	// Only an id goes into the clear: in its place a caller can put anything.
	if id, err := uuid.Parse(c.Param("id")); err == nil {
		ev.Targets = []audit.Target{{Type: "object", ID: id.String()}}
	}
	if !in {
		s.noteStranger(r, &ev)
		if !s.refusals.one(req.SourceIP) {
			return // counted; a summary says how many
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 2*time.Second)
	defer cancel()
	s.deps.Audit.RecordLater(ctx, ev)
}

// noteStranger says of a call that nobody made what it claimed to be: whose
// token it was, once, or that it had none.
func (s *Server) noteStranger(r *http.Request, ev *audit.Event) {
	var dead *identity.DeadTokenError
	err, _ := r.Context().Value(deadTokenKey{}).(error)
	switch {
	case errors.As(err, &dead):
		ev.OutcomeCode = "token_" + dead.Why
		ev.Targets = append(ev.Targets, audit.Target{Type: "api_token", ID: dead.TokenID.String(), PII: dead.Owner})
	case err != nil:
		ev.OutcomeCode = "token_unknown"
	case ev.OutcomeCode == "":
		ev.OutcomeCode = "login_required"
	}
}

// polled are the parts of pages that ask by themselves, by the routes that have
// them: elsewhere the same header hides nothing.
var polled = map[string]string{"/health": "health", "/yara/:id/backtests/:backtest": "trial", "/audit/fresh": "fresh", "/audit/exports": "exports"}

func polling(c echo.Context) bool {
	part, ok := polled[c.Path()]
	return ok && isFragment(c, part)
}

// writeProblem answers with RFC 9457 problem details.
func writeProblem(c echo.Context, status int, detail string) {
	body := map[string]any{"title": http.StatusText(status), "status": status}
	if detail != "" && detail != http.StatusText(status) {
		body["detail"] = detail
	}
	b, err := json.Marshal(body)
	if err != nil {
		b = []byte("{}")
	}
	if err := c.Blob(status, "application/problem+json", b); err != nil {
		return // the caller is gone
	}
}
