package webui

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/a-h/templ"
	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/alerting"
	"mailward/approval"
	"mailward/audit"
	"mailward/audit/seal"
	"mailward/evidence"
	"mailward/gateway/ledger"
	"mailward/gateway/queue"
	"mailward/identity"
	"mailward/incident"
	"mailward/intel"
	"mailward/internal/pg"
	"mailward/mailcow"
	"mailward/policy"
	"mailward/quarantine"
	"mailward/quarantine/digest"
	"mailward/scanner/dlp"
	"mailward/scanner/ruleset"
)

// Rights that pages ask for, as package identity names them.
const (
	rightAny         = ""
	rightViewMeta    = "view_meta"
	rightViewHeaders = "view_headers"
	rightViewBody    = "view_body"
	rightDownloadRaw = "download_raw"
	rightRelease     = "release"
	rightDelete      = "delete"
	rightAuditRead   = "audit_read"
	rightAuditExport = "audit_export"
	rightAuditErase  = "audit_erase"
	rightHealthRead  = "health_read"
)

// stepUpAge is how long ago the password may have been given for an act that
// one person does alone.
const stepUpAge = 10 * time.Minute

// pages serves everything that a browser shows.
type pages struct {
	host      string // name of this gateway
	smtpAddr  string // where a first mail can be sent, for the empty dashboard
	log       *slog.Logger
	now       func() time.Time
	secure    bool // served over https
	publicURL string
	retention time.Duration

	assets    *assets
	catalog   *catalog
	accounts  accounts
	ids       *identity.Store // nil in tests of pages alone
	held      held
	opener    opener
	mails     mails
	record    record
	seal      *seal.Sealer // nil in tests of pages alone
	checking  checking
	queue     deliveries
	leaks     leaks
	monitor   monitor
	pastOf    pastCache
	policies  *policy.Store
	trials    trials
	sandbox   bool // a sandbox is set up
	rules     ruleSets
	people    *identity.Store
	releases  *quarantine.Store    // for decisions on releases
	bulks     *quarantine.Bulks    // nil in tests of pages alone
	coverage  *quarantine.Coverage // likewise
	links     linkLimit
	digests   *digest.Store // nil in tests of other pages
	intel     *intel.Store
	feeds     *intel.Feeds
	mailcow   *mailcow.Directory                                 // nil: there is none
	treeHead  func(ctx context.Context) (*audit.TreeHead, error) // signs the audit; nil in tests of pages alone
	exports   *evidence.Store                                    // nil in tests of pages alone
	alerts    *alerting.Store                                    // nil in tests of other pages
	incidents *incident.Store                                    // nil in tests of other pages
	files     incidentFiles

	// session sets and clears the cookie; person reads who calls.
	setSession   func(c echo.Context, token string)
	clearSession func(c echo.Context)
	person       func(c echo.Context) *Person
}

// router is how pages are registered: each with the right that it takes and
// the audit action that a call is recorded under.
type router interface {
	page(method, path, right, action string, h echo.HandlerFunc)
	public(method, path, action string, h echo.HandlerFunc)
}

func (s *pages) register(r router) {
	r.public(http.MethodGet, "/assets/*", "", s.assets.serve)
	r.public(http.MethodGet, "/login", "", s.getLogin)
	r.public(http.MethodPost, "/login", "", s.postLogin) // identity records it
	r.public(http.MethodPost, "/prefs", "", s.postPrefs)
	if s.ids != nil {
		s.registerSignIn(r)
	}
	r.page(http.MethodPost, "/logout", rightAny, audit.Logout, s.postLogout)
	r.page(http.MethodGet, "/password", rightAny, audit.PageView, s.getPassword)
	r.page(http.MethodPost, "/password", rightAny, audit.PasswordChange, s.postPassword)
	r.page(http.MethodGet, "/", rightViewMeta, audit.PageView, s.getDashboard)
	r.page(http.MethodGet, "/quarantine", rightViewMeta, audit.PageView, s.getQuarantine)
	r.page(http.MethodGet, "/quarantine/fresh", rightViewMeta, audit.PageView, s.getQuarantineFresh)
	if s.bulks != nil {
		s.registerBulk(r)
	}
	r.page(http.MethodGet, "/quarantine/:id", rightViewMeta, audit.PageView, s.getItem)
	s.registerLook(r)
	r.page(http.MethodPost, "/quarantine/:id/release", rightRelease, audit.ReleaseExecute, s.postRelease)
	r.page(http.MethodPost, "/quarantine/:id/sandbox", rightRelease, audit.SandboxRequest, s.postSandbox)
	r.page(http.MethodPost, "/quarantine/:id/delete", rightDelete, audit.ItemDelete, s.postDelete)
	if s.releases != nil {
		s.registerReleases(r)
		s.registerKeeping(r)
	}
	if s.digests != nil {
		s.registerDigests(r)
	}
	r.page(http.MethodGet, "/messages", rightViewMeta, audit.PageView, s.getMessages)
	r.page(http.MethodGet, "/messages/:id", rightViewMeta, audit.PageView, s.getMessage)
	r.page(http.MethodGet, "/queue", rightViewMeta, audit.PageView, s.getQueue)
	r.page(http.MethodPost, "/queue/retry", rightRelease, audit.QueueRetry, s.postQueueRetry)
	r.page(http.MethodGet, "/queue/:id", rightViewMeta, audit.PageView, s.getDelivery)
	r.page(http.MethodPost, "/queue/:id/retry", rightRelease, audit.QueueRetry, s.postDeliveryRetry)
	r.page(http.MethodPost, "/queue/:id/delete", rightDelete, audit.QueueDelete, s.postDeliveryDelete)
	r.page(http.MethodGet, "/health", rightHealthRead, audit.PageView, s.getHealth)
	r.page(http.MethodGet, "/health/coverage", rightViewMeta, audit.PageView, s.getCoverage)
	if s.coverage != nil {
		r.page(http.MethodPost, "/health/coverage", rightRelease, "coverage.scan.create", s.postCoverage)
	}
	r.page(http.MethodGet, "/health/:component", rightHealthRead, audit.PageView, s.getComponent)
	s.registerRules(r)
	s.registerAlerts(r)
	r.page(http.MethodGet, "/audit", rightAuditRead, audit.PageView, s.getAudit)
	if s.seal != nil {
		s.registerIntegrity(r)
	}
	s.registerAudit(r)
	s.registerPolicies(r)
	s.registerDLP(r)
	s.registerPeople(r)
	s.registerWorkspaces(r)
	s.registerRetention(r)
	s.registerIntel(r)
	if s.exports != nil {
		s.registerEvidence(r)
	}
	if s.incidents != nil {
		s.registerIncidents(r)
	}
}

func (s *pages) registerAudit(r router) {
	r.page(http.MethodGet, "/audit/fresh", rightAuditRead, audit.PageView, s.getAuditFresh)
	r.page(http.MethodPost, "/audit/views", rightAuditRead, "audit.saved_view.create", s.postAuditView)
	r.page(http.MethodPost, "/audit/views/:id/delete", rightAuditRead, "audit.saved_view.delete", s.postAuditViewDelete)
	r.page(http.MethodGet, "/audit/exports", rightAuditExport, audit.PageView, s.getAuditExports)
	r.page(http.MethodGet, "/audit/exports/:id/manifest", rightAuditExport, audit.PageView, s.getAuditManifest)
	r.page(http.MethodGet, "/audit/export", rightAuditExport, audit.AuditExport, s.getAuditExport)
	r.page(http.MethodPost, "/audit/export", rightAuditExport, audit.AuditExport, s.postAuditExport)
	r.page(http.MethodGet, "/audit/export.csv", rightAuditExport, audit.AuditExport, s.getAuditExport)
}

func (s *pages) registerRules(r router) {
	r.page(http.MethodGet, "/yara", rightRulesRead, audit.PageView, s.getRules)
	r.page(http.MethodGet, "/yara/new", rightRulesWrite, audit.PageView, s.getNewRules)
	r.page(http.MethodPost, "/yara", rightRulesWrite, "yara.set.create", s.postNewRules)
	r.page(http.MethodPost, "/yara/check", rightRulesWrite, audit.PageView, s.postRulesCheck)
	r.page(http.MethodPost, "/yara/files", rightRulesWrite, "yara.file.create", s.postRulesFile)
	r.page(http.MethodGet, "/yara/:id", rightRulesRead, audit.PageView, s.getRuleSet)
	r.page(http.MethodPost, "/yara/:id", rightRulesWrite, "yara.set.update", s.postRuleSet)
	r.page(http.MethodPost, "/yara/:id/check", rightRulesWrite, audit.PageView, s.postRulesCheck)
	r.page(http.MethodPost, "/yara/:id/enable", rightRulesWrite, "yara.set.update", s.postRulesEnable)
	r.page(http.MethodPost, "/yara/:id/use", rightRulesWrite, "yara.set.update", s.postRulesUse)
	r.page(http.MethodPost, "/yara/:id/delete", rightRulesWrite, "yara.set.update", s.postRulesDelete)
	r.page(http.MethodPost, "/yara/:id/backtest", rightRulesWrite, "yara.backtest.create", s.postRulesBacktest)
	r.page(http.MethodGet, "/yara/:id/versions/:number", rightRulesRead, audit.PageView, s.getRulesVersion)
	r.page(http.MethodGet, "/yara/:id/backtests/:backtest", rightRulesRead, audit.PageView, s.getBacktest)
}

// frame gathers what every page shows.
func (s *pages) frame(c echo.Context, section string) *frame {
	v := s.person(c)
	r := c.Request()
	f := &frame{
		Host: s.host, Path: r.URL.RequestURI(), Section: section, User: v, Built: s.assets.built(),
		Now: s.now(), assets: s.assets, Theme: cookieValue(c, themeCookie), KeysOff: cookieValue(c, keysCookie) == "off",
	}
	wishes := []string{cookieValue(c, langCookie), r.Header.Get("Accept-Language")}
	if v != nil {
		wishes = append([]string{wishes[0], v.Locale}, wishes[1:]...)
		if f.Theme == "" {
			f.Theme = v.Theme
		}
	}
	f.lang = s.catalog.pick(wishes...)
	if f.Theme != "light" && f.Theme != "dark" {
		f.Theme = ""
	}
	if r.Method != http.MethodGet {
		f.Path = ownPath(r.Header.Get("Referer-Path"))
	}
	if v != nil {
		f.Nav = s.navigation(r.Context(), f)
		f.Spaces = s.spaceNames(r.Context(), v)
		if mode, err := s.held.FourEyes(r.Context()); err == nil {
			f.SingleOperator = mode == "single_operator"
		}
	}
	return f
}

// spaceNames are the workspaces of somebody who has several.
func (s *pages) spaceNames(ctx context.Context, v *Person) []identity.Space {
	if len(v.Mine) < 2 || s.people == nil {
		return nil
	}
	list, err := s.people.Spaces(ctx, v.Mine)
	if err != nil {
		s.log.Warn("names of workspaces not read", "error", err)
	}
	return list
}

// navigation lists the pages that exist and that the person may read.
func (s *pages) navigation(ctx context.Context, f *frame) []navGroup {
	var watch, look, rules navGroup
	watch.Title, look.Title, rules.Title = f.T("nav.monitor"), f.T("nav.investigate"), f.T("nav.configure")
	if f.Can(rightViewMeta) {
		watch.Items = append(watch.Items, navItem{Key: "d", Section: "dashboard", Href: "/", Icon: "layout-dashboard", Title: f.T("nav.dashboard")})
		look.Items = append(look.Items,
			navItem{Key: "q", Section: "quarantine", Href: "/quarantine", Icon: "shield-alert", Title: f.T("nav.quarantine")},
			navItem{Key: "m", Section: "messages", Href: "/messages", Icon: "mail", Title: f.T("nav.messages")},
			navItem{Key: "e", Section: "queue", Href: "/queue", Icon: "send", Title: f.T("nav.queue")})
	}
	if f.Can(rightHealthRead) {
		n := 0
		for _, c := range s.monitor.Latest().Components {
			if t := healthTone(c.State); t == "warn" || t == "crit" {
				n++
			}
		}
		watch.Items = append(watch.Items, navItem{Key: "h", Section: "health", Href: "/health", Icon: "activity", Title: f.T("nav.health"),
			Count: n, Tone: "warn", CountLabel: f.T("nav.health.count")})
	}
	if s.alerts != nil && f.Can(rightAlertsRead) {
		n, tone := s.firing(ctx, f)
		watch.Items = append(watch.Items, navItem{Key: "a", Section: "alerts", Href: "/alerts", Icon: "bell", Title: f.T("nav.alerts"), Count: n, Tone: tone, CountLabel: f.T("nav.alerts.count")})
	}
	if f.Can(rightViewMeta) {
		rules.Items = append(rules.Items, navItem{Key: "p", Section: "policies", Href: "/policies", Icon: "scroll-text", Title: f.T("nav.policies")})
	}
	if s.incidents != nil && f.Can(rightIncidentsRead) {
		f.ReportsDue, f.ReportsTone = s.reportsDue(ctx, f)
		look.Items = append(look.Items, navItem{Key: "n", Section: "incidents", Href: "/incidents", Icon: "file-text", Title: f.T("nav.incidents"), Count: f.ReportsDue, Tone: f.ReportsTone, CountLabel: f.T("nav.incidents.count")})
	}
	if f.Can(rightViewMeta) {
		look.Items = append(look.Items, navItem{Key: "i", Section: "intel", Href: "/intel", Icon: "search", Title: f.T("nav.intel")})
	}
	if f.Can(rightAuditRead) {
		look.Items = append(look.Items, navItem{Key: "l", Section: "audit", Href: "/audit", Icon: "scroll-text", Title: f.T("nav.audit")})
	}
	if f.Can(rightRulesRead) {
		rules.Items = append(rules.Items, navItem{Key: "y", Section: "rules", Href: "/yara", Icon: "scan-search", Title: f.T("nav.rules")})
	}
	if f.Can(rightHealthRead) && s.people != nil {
		see := approvalFilterOf(f.User)
		n, err := s.people.Approvals().Waiting(ctx, f.User.ID, see.Workspaces, see.Installation)
		if err != nil {
			s.log.Warn("waiting requests not counted", "error", err)
		}
		look.Items = append(look.Items, navItem{Key: "r", Section: "approvals", Href: "/approvals", Icon: "circle-check", Title: f.T("nav.approvals"), Count: n, Tone: "warn", CountLabel: f.T("nav.approvals.count")})
	}
	if f.Can(rightViewMeta) && s.exports != nil {
		look.Items = append(look.Items, navItem{Key: "v", Section: "evidence", Href: "/evidence", Icon: "file-lock", Title: f.T("nav.evidence")})
	}
	if f.Can(rightUsersWrite) {
		rules.Items = append(rules.Items, navItem{Key: "u", Section: "users", Href: "/users", Icon: "user", Title: f.T("nav.users")})
	}
	if f.User.CanInstall(rightWorkspacesWrite) || f.User != nil && len(f.User.Mine) > 1 {
		rules.Items = append(rules.Items, navItem{Key: "w", Section: "workspaces", Href: "/workspaces", Icon: "network", Title: f.T("nav.workspaces")})
	}
	var out []navGroup
	for _, g := range []navGroup{watch, look, rules} {
		if len(g.Items) > 0 {
			out = append(out, g)
		}
	}
	return out
}

// flash takes the message that a redirect left.
func (s *pages) flash(c echo.Context, f *frame) {
	key := cookieValue(c, flashCookie)
	if key == "" {
		return
	}
	setCookie(c, flashCookie, "", -1, s.secure)
	for _, known := range flashes {
		if key == known {
			f.Flash = key
		}
	}
}

// done redirects after an act, with a message for the next page.
func (s *pages) done(c echo.Context, message, to string) error {
	if message != "" {
		setCookie(c, flashCookie, message, time.Minute, s.secure)
	}
	return c.Redirect(http.StatusSeeOther, to)
}

// render sends a page, whole or not at all: it is made in memory first, so that
// a failure half way is an error page and not half a page.
func (s *pages) render(c echo.Context, status int, t templ.Component) error {
	var page bytes.Buffer
	// Also a call whose time is over is told so in a page.
	if err := t.Render(context.WithoutCancel(c.Request().Context()), &page); err != nil {
		return fmt.Errorf("render %s: %w", c.Path(), err)
	}
	h := c.Response().Header()
	h.Set(echo.HeaderContentType, "text/html; charset=utf-8")
	if page.Len() < 1400 || !accepts(c.Request().Header.Get("Accept-Encoding"), "gzip") {
		return c.Blob(status, "text/html; charset=utf-8", page.Bytes())
	}
	// No secret stands in a page beside text of a stranger's choice, so that its
	// length gives none away (BREACH): forms are guarded by their origin.
	h.Set(echo.HeaderContentEncoding, "gzip")
	c.Response().WriteHeader(status)
	z := gzip.NewWriter(c.Response())
	if _, err := z.Write(page.Bytes()); err != nil {
		return fmt.Errorf("send page: %w", err)
	}
	return z.Close()
}

// fail shows an error as a page, or as a part of one. What went wrong inside
// goes to the log; the person gets words that we chose and the request's id.
func (s *pages) fail(c echo.Context, status int, err error) error {
	if c.Response().Committed {
		return nil
	}
	key := map[int]string{
		http.StatusNotFound: "error.404", http.StatusForbidden: "error.403", http.StatusConflict: "error.409",
		http.StatusBadRequest: "error.400", http.StatusMethodNotAllowed: "error.404", http.StatusGone: "error.410",
		http.StatusRequestEntityTooLarge: "error.400", http.StatusServiceUnavailable: "error.503", http.StatusTooManyRequests: "error.429",
	}[status]
	switch {
	case audit.IsUnwritable(err):
		status, key = http.StatusServiceUnavailable, "error.record"
		s.log.Error("refused: the record cannot be written", "path", c.Path(), "error", err)
	case pg.IsBadText(err):
		status, key = http.StatusBadRequest, "error.400"
	case status == http.StatusInternalServerError && pg.IsUnavailable(err):
		status, key = http.StatusServiceUnavailable, "error.503"
		s.log.Error("page failed: the database does not answer", "path", c.Path(), "error", err)
	}
	id := ""
	if req, ok := pg.RequestFrom(c.Request().Context()); ok {
		id = req.ID
	}
	if key == "" {
		key = "error.500"
		if status < 500 {
			status = http.StatusInternalServerError
		}
		s.log.Error("page failed", "path", c.Path(), "request", id, "error", err)
	}
	f := s.frame(c, "")
	title, text := f.T(key+".title"), f.T(key+".text")
	if isFragment(c, "results") {
		return s.render(c, status, errorBox(f, title, text, id))
	}
	return s.render(c, status, errorPage(f, title, text, id))
}

// failure chooses the status for an error of the packages below.
func (s *pages) failure(c echo.Context, err error) error {
	switch {
	case releaseStatus(err) != 0:
		return s.fail(c, releaseStatus(err), err)
	case errors.Is(err, quarantine.ErrNotFound), errors.Is(err, ledger.ErrNotFound), errors.Is(err, audit.ErrNotFound), errors.Is(err, queue.ErrNotFound), errors.Is(err, policy.ErrNotFound), errors.Is(err, dlp.ErrNotFound), errors.Is(err, ruleset.ErrNotFound), errors.Is(err, identity.ErrNotFound), errors.Is(err, approval.ErrNotFound), errors.Is(err, intel.ErrNotFound), errors.Is(err, evidence.ErrNotFound):
		return s.fail(c, http.StatusNotFound, err)
	case errors.Is(err, quarantine.ErrState), errors.Is(err, approval.ErrSamePerson), errors.Is(err, approval.ErrState), errors.Is(err, approval.ErrForged), errors.Is(err, identity.ErrLastAdmin), errors.Is(err, identity.ErrInUse), errors.Is(err, identity.ErrNameTaken), errors.Is(err, identity.ErrArchived), errors.Is(err, queue.ErrState), errors.Is(err, queue.ErrUnderWay), errors.Is(err, policy.ErrConflict),
		errors.Is(err, policy.ErrStatic), errors.Is(err, policy.ErrGroupInUse), errors.Is(err, evidence.ErrState), errors.Is(err, evidence.ErrDamaged):
		return s.fail(c, http.StatusConflict, err)
	case errors.Is(err, quarantine.ErrGone):
		return s.fail(c, http.StatusGone, err)
	case errors.Is(err, errTooMany):
		return s.fail(c, http.StatusTooManyRequests, err)
	case errors.Is(err, quarantine.ErrNoRecipient), errors.Is(err, quarantine.ErrReasonRequired), errors.Is(err, audit.ErrBadCursor), errors.Is(err, audit.ErrBadFilter), errors.Is(err, audit.ErrBadView),
		errors.Is(err, quarantine.ErrBadCursor), errors.Is(err, ledger.ErrBadCursor), errors.Is(err, queue.ErrBadCursor), errors.Is(err, queue.ErrReasonRequired), errors.Is(err, errBadInput),
		errors.Is(err, policy.ErrBadCursor), errors.Is(err, policy.ErrReasonRequired), errors.Is(err, intel.ErrBadCursor), errors.Is(err, intel.ErrReasonRequired):
		return s.fail(c, http.StatusBadRequest, err)
	case errors.Is(err, context.Canceled):
		return nil
	case audit.IsUnwritable(err):
		return s.fail(c, http.StatusServiceUnavailable, err)
	}
	return s.fail(c, http.StatusInternalServerError, err)
}

var (
	errBadInput = errors.New("webui: bad input")
	errTooMany  = errors.New("webui: too many requests")
)

func paramID(c echo.Context) (uuid.UUID, error) {
	id, err := uuid.Parse(c.Param("id"))
	if err != nil || len(c.Param("id")) != 36 {
		return uuid.Nil, quarantine.ErrNotFound
	}
	return id, nil
}

// ranges are the spans of time that a list can show.
var ranges = []struct {
	Key  string
	Span time.Duration
}{{"24h", 24 * time.Hour}, {"7d", 7 * 24 * time.Hour}, {"30d", 30 * 24 * time.Hour}}

// rangeOf reads the range of a list; all is a range too.
func rangeOf(value, dflt string) (key string, span time.Duration) {
	if value == "all" {
		return value, 0
	}
	for _, r := range ranges {
		if r.Key == value {
			return r.Key, r.Span
		}
	}
	for _, r := range ranges {
		if r.Key == dflt {
			return r.Key, r.Span
		}
	}
	return "all", 0
}

func rangeOptions(f *frame) []option {
	var out []option
	for _, r := range ranges {
		out = append(out, option{r.Key, f.T("range." + r.Key)})
	}
	return append(out, option{"all", f.T("range.all")})
}

const pageSize = 100

func pageNumber(s string) int {
	n := 0
	for _, r := range s {
		if r < '0' || r > '9' || n > 1_000_000 {
			return 1
		}
		n = n*10 + int(r-'0')
	}
	return max(1, n)
}

// short cuts what a person typed to something that a query can take.
func short(s string) string {
	s = strings.TrimSpace(strings.ToValidUTF8(s, ""))
	if r := []rune(s); len(r) > 200 {
		s = string(r[:200])
	}
	return s
}

func classesOf(values []string) []policy.Class {
	var out []policy.Class
	for _, c := range policy.Classes() {
		for _, v := range values {
			if v == string(c) {
				out = append(out, c)
				break
			}
		}
	}
	return out
}
