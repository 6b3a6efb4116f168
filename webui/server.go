package webui

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"mailward/alerting"
	"mailward/audit"
	"mailward/audit/seal"
	"mailward/evidence"
	"mailward/gateway/ledger"
	"mailward/gateway/queue"
	"mailward/health"
	"mailward/identity"
	"mailward/incident"
	"mailward/intel"
	"mailward/internal/message"
	"mailward/internal/pg"
	"mailward/mailcow"
	"mailward/policy"
	"mailward/quarantine"
	"mailward/quarantine/digest"
	"mailward/scanner"
	"mailward/scanner/dlp"
	"mailward/scanner/ruleset"
)

// Config is what an operator can change about the web.
type Config struct {
	Hostname    string
	PublicURL   string // https://... makes cookies Secure
	SMTPAddress string // shown where there is no mail yet
	Version     string
	Retention   time.Duration // of held mails, for the pages that say so
	Sandbox     bool          // a sandbox is set up, for what a policy would do
	// TrustedProxies are the proxies in front of us whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
}

// Deps are the parts that pages and API stand on.
type Deps struct {
	Log        *slog.Logger
	Audit      *audit.Log
	Seal       *seal.Sealer
	Identity   *identity.Store
	Quarantine *quarantine.Store
	Bulks      *quarantine.Bulks
	Coverage   *quarantine.Coverage // nil in tests of other things
	Digests    *digest.Store
	Ledger     *ledger.Ledger
	Queue      *queue.Queue
	Policies   *policy.Store
	DLP        *dlp.Store
	Health     *health.Monitor
	Sidecar    *scanner.Sidecar
	Scanner    *scanner.Scanner // for mail that a policy is tried with
	Spooler    *message.Spooler
	Rules      *ruleset.Store
	Intel      *intel.Store
	Feeds      *intel.Feeds
	Mailcow    *mailcow.Directory // nil: there is none
	Evidence   *evidence.Store
	Alerts     *alerting.Store
	Incidents  *incident.Store
	Metrics    *prometheus.Registry
	Now        func() time.Time // default time.Now
}

// route is one entry of the table of everything that can be called.
type route struct {
	Method, Path string
	Right        identity.Right // "" for public ones and for those that only need a login
	Action       string         // under which a call is on record; "" only for public ones
	Public       bool
}

// Server answers browsers and programs.
type Server struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	now     func() time.Time
	secure  bool
	echo    *echo.Echo
	pages   *pages
	api     huma.API
	routes  []route
	handler http.Handler

	refusals *refusals
}

// New builds the table of routes. It opens nothing.
func New(cfg Config, deps Deps) (*Server, error) {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, deps: deps, log: deps.Log, now: deps.Now, secure: strings.HasPrefix(cfg.PublicURL, "https://"), echo: echo.New()}
	s.refusals = newRefusals(s.now, s.recordRefusals)
	s.echo.HideBanner, s.echo.HidePort = true, true
	s.echo.HTTPErrorHandler = s.fail
	s.echo.IPExtractor = behind(cfg.TrustedProxies)
	if err := s.newPages(); err != nil {
		return nil, err
	}
	s.echo.Use(s.open, s.authenticate, s.recordCall)
	s.public(http.MethodGet, "/livez", "", func(c echo.Context) error { return c.String(http.StatusOK, "ok\n") })
	s.public(http.MethodGet, "/healthz", "", s.getHealthz)
	s.public(http.MethodGet, "/readyz", "", s.getReadyz)
	if deps.Metrics != nil {
		s.public(http.MethodGet, "/metrics", "", echo.WrapHandler(promhttp.HandlerFor(deps.Metrics, promhttp.HandlerOpts{})))
	}
	s.registerAPI()
	s.pages.register(s)
	return s, s.protect()
}

func (s *Server) newPages() error {
	texts, err := newCatalog()
	if err != nil {
		return fmt.Errorf("read texts: %w", err)
	}
	s.pages = &pages{
		host: s.cfg.Hostname, smtpAddr: s.cfg.SMTPAddress, log: s.log, now: s.now, secure: s.secure, retention: s.cfg.Retention,
		assets: newAssets(), catalog: texts, accounts: newAccounts(s.deps.Identity), ids: s.deps.Identity, publicURL: strings.TrimRight(s.cfg.PublicURL, "/"), held: newHeld(s.deps.Quarantine), queue: s.deps.Queue, leaks: s.deps.DLP, opener: newOpener(s.deps.Sidecar),
		mails: s.deps.Ledger, record: s.deps.Audit, seal: s.deps.Seal, monitor: s.deps.Health,
		policies: s.deps.Policies, trials: newTrials(s.deps), sandbox: s.cfg.Sandbox, rules: s.deps.Rules, people: s.deps.Identity, releases: s.deps.Quarantine, bulks: s.deps.Bulks, coverage: s.deps.Coverage, digests: s.deps.Digests, intel: s.deps.Intel, feeds: s.deps.Feeds, mailcow: s.deps.Mailcow, treeHead: s.treeHead, exports: s.deps.Evidence, alerts: s.deps.Alerts, incidents: s.deps.Incidents,
		files:      incidentFiles{store: s.deps.Incidents, log: s.deps.Audit, now: s.now, seal: s.deps.Seal, exports: s.deps.Evidence, treeHead: s.treeHead},
		setSession: s.setSession, clearSession: s.clearSession, person: s.person,
	}
	return nil
}

// protect puts the guard against requests that other sites make a browser send
// around everything.
func (s *Server) protect() error {
	p := http.NewCrossOriginProtection()
	if s.cfg.PublicURL != "" {
		u, err := url.Parse(s.cfg.PublicURL)
		if err != nil || u.Host == "" {
			return fmt.Errorf("http.public_url %q is no address", s.cfg.PublicURL)
		}
		if err := p.AddTrustedOrigin(u.Scheme + "://" + u.Host); err != nil {
			return fmt.Errorf("http.public_url: %w", err)
		}
	}
	p.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.log.Warn("request from another site refused", "path", r.URL.Path, "origin", r.Header.Get("Origin"))
		// It goes the way of all calls, up to the record.
		c := s.echo.NewContext(r, w)
		s.echo.Router().Find(r.Method, echo.GetPath(r), c)
		refuse := func(c echo.Context) error {
			return s.refused(c, http.StatusForbidden, "this request came from another site")
		}
		if err := s.open(s.authenticate(refuse))(c); err != nil {
			s.fail(err, c)
		}
	}))
	s.handler = p.Handler(http.HandlerFunc(s.serve))
	return nil
}

// serve answers HEAD wherever there is a GET: net/http leaves the body out.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		r = r.WithContext(context.WithValue(r.Context(), methodKey{}, r.Method)) // net/http's own copy keeps its method
		r.Method = http.MethodGet
	}
	s.echo.ServeHTTP(w, r)
}

// Handler serves everything.
func (s *Server) Handler() http.Handler { return s.handler }

// page registers a page that needs a login. It is part of router.
func (s *Server) page(method, path, right, action string, h echo.HandlerFunc) {
	s.routes = append(s.routes, route{Method: method, Path: path, Right: identity.Right(right), Action: action})
	s.echo.Add(method, path, s.needLogin(identity.Right(right), h))
}

// public registers what everybody may call. It is part of router.
func (s *Server) public(method, path, action string, h echo.HandlerFunc) {
	s.routes = append(s.routes, route{Method: method, Path: path, Action: action, Public: true})
	s.echo.Add(method, path, h)
}

// find is the entry of the table for a call.
func (s *Server) find(method, path string) (route, bool) {
	i := slices.IndexFunc(s.routes, func(r route) bool { return r.Method == method && r.Path == path })
	if i < 0 {
		return route{}, false
	}
	return s.routes[i], true
}

// statusClientGone is what the record says of a call whose client did not wait for
// the answer; nginx's number, as there is none in RFC 9110.
const statusClientGone = 499

// fail answers an error that no handler has dealt with: as a problem for
// programs, as a page for people. What went wrong inside stays in the log.
func (s *Server) fail(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	if errors.Is(c.Request().Context().Err(), context.Canceled) {
		c.Response().Status = statusClientGone
		return
	}
	status, text := http.StatusInternalServerError, ""
	var he *echo.HTTPError
	if errors.As(err, &he) {
		status = he.Code
		text, _ = he.Message.(string)
	} else if pg.IsUnavailable(err) {
		status = http.StatusServiceUnavailable
		c.Response().Header().Set(echo.HeaderRetryAfter, "5")
	} else if pg.IsBadText(err) {
		status, text = http.StatusUnprocessableEntity, badText
	}
	if isAPI(c.Request()) {
		if status >= http.StatusInternalServerError {
			s.log.Error("API call failed", "method", c.Request().Method, "path", c.Path(), "error", err)
			text = ""
		}
		writeProblem(c, status, text)
		return
	}
	if err := s.pages.fail(c, status, err); err != nil {
		s.log.Error("error page not sent", "error", err)
	}
}

func isAPI(r *http.Request) bool {
	p := r.URL.Path
	return forPrograms(p) || p == "/healthz" || p == "/readyz" || p == "/livez" || p == "/metrics"
}

// forPrograms says whether a path is meant to be one of the API, whether it leads
// somewhere or not: //api/v1/x and /API/v1/x are a program's mistake, and are
// answered and recorded as such.
func forPrograms(p string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(path.Clean("/"+p), "/"), "/")
	return strings.EqualFold(first, "api")
}

// getHealthz is for monitors: the state alone.
func (s *Server) getHealthz(c echo.Context) error {
	code, body := s.deps.Health.Check(c.Request().Context()).HealthJSON(false)
	return c.Blob(code, health.ContentType, body)
}

// getReadyz says whether mail can be taken: listener, database, ClamAV, sidecar.
func (s *Server) getReadyz(c echo.Context) error {
	ready, missing := s.deps.Health.Check(c.Request().Context()).Ready()
	if !ready {
		s.log.Debug("not ready", "missing", missing)
		return c.String(http.StatusServiceUnavailable, "not ready\n")
	}
	return c.String(http.StatusOK, "ready\n")
}
