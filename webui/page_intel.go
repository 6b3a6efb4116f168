package webui

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"
	"golang.org/x/text/language"

	"mailward/audit"
	"mailward/identity"
	"mailward/intel"
	"mailward/policy"
)

// rightIntelWrite is about overrides of a workspace; those of the installation,
// and its feeds, are for who keeps its rules.
const rightIntelWrite = "intel_write"

func (s *pages) registerIntel(r router) {
	r.page(http.MethodGet, "/intel", rightViewMeta, audit.PageView, s.getIndicators)
	r.page(http.MethodGet, "/intel/feeds", rightViewMeta, audit.PageView, s.getFeeds)
	r.page(http.MethodPost, "/intel/feeds/sync", rightRulesWrite, audit.IntelSyncNow, s.postFeedSync)
	r.page(http.MethodGet, "/intel/overrides", rightViewMeta, audit.PageView, s.getOverrides)
	r.page(http.MethodPost, "/intel/overrides", rightIntelWrite, "intel_override.create", s.postOverride)
	r.page(http.MethodPost, "/intel/overrides/:id/end", rightIntelWrite, "intel_override.delete", s.postOverrideEnd)
}

// indicatorsView is the list of indicators.
type indicatorsView struct {
	Query, Kind, Source, Class string
	Sources                    []string
	Link                       listLink
	Items                      []intel.Indicator
}

func (v indicatorsView) filtered() bool {
	return v.Query != "" || v.Kind != "" || v.Source != "" || v.Class != ""
}

func (v indicatorsView) sourceOptions(p *frame) []option {
	out := []option{{"", p.T("intel.source.any")}}
	for _, n := range v.Sources {
		out = append(out, option{n, plain(n, 60)})
	}
	return out
}

func (s *pages) getIndicators(c echo.Context) error {
	q, ctx := c.QueryParams(), c.Request().Context()
	v := indicatorsView{Query: short(q.Get("q")), Kind: oneOf(q.Get("kind"), intel.Kinds()...), Class: oneOf(q.Get("class"), "malware", "phishing", "suspicious", "spam", string(intel.Breach))}
	var err error
	if v.Sources, err = s.intel.Sources(ctx); err != nil {
		return s.failure(c, err)
	}
	v.Source = oneOf(q.Get("source"), v.Sources...)
	v.Link = listLink{path: "/intel", set: url.Values{"q": {v.Query}, "kind": {v.Kind}, "source": {v.Source}, "class": {v.Class}}, size: pageSize, at: q.Get("after"), page: pageNumber(q.Get("page"))}
	if v.Link.at == "" {
		v.Link.page = 1
	}
	v.Items, v.Link.next, err = s.intel.List(ctx, intel.Filter{Value: v.Query, Kind: v.Kind, Source: v.Source, Class: v.Class, Cursor: v.Link.at, Limit: pageSize})
	if err != nil {
		return s.failure(c, err)
	}
	p := s.frame(c, "intel")
	if isFragment(c, "results") {
		return s.render(c, http.StatusOK, indicatorResults(p, v))
	}
	s.flash(c, p)
	return s.render(c, http.StatusOK, indicatorsPage(p, v))
}

func (s *pages) getFeeds(c echo.Context) error {
	states, err := s.feeds.States(c.Request().Context())
	if err != nil {
		return s.failure(c, err)
	}
	p := s.frame(c, "intel")
	s.flash(c, p)
	return s.render(c, http.StatusOK, feedsPage(p, states))
}

// feedTone is how bad the state of a feed is, and its word.
func feedTone(f intel.FeedState) (tone, word string) {
	switch {
	case f.Running:
		return "info", "running"
	case f.Error != "" && f.Alarm:
		return "crit", "alarm"
	case f.Error != "":
		return "warn", "failed"
	case f.LastGoodAt == nil:
		return "none", "never"
	case f.Late:
		return "warn", "late"
	}
	return "ok", "ok"
}

// feedError is what is wrong with a feed in the language of the page, and in the
// words of the record where there is more in them.
func feedError(p *frame, f intel.FeedState) string {
	if p.tag == language.English || !p.Has("intel.error."+f.Code) {
		return plain(f.Error, 300)
	}
	return p.T("intel.error." + f.Code)
}

func (s *pages) postFeedSync(c echo.Context) error {
	who := s.person(c)
	if err := s.feeds.SyncNow(c.Request().Context(), intel.Person{Actor: who.Actor, Roles: who.Roles}, c.FormValue("name")); err != nil {
		return s.failure(c, err)
	}
	return s.done(c, "flash.intel.sync", "/intel/feeds")
}

// overridesView is the list of overrides, with the form for a new one.
type overridesView struct {
	Query, State string
	Link         listLink
	Items        []intel.Override
	Form         intel.Override
	Everybody    bool
	Until        string
	Wrong        string
}

func (s *pages) getOverrides(c echo.Context) error {
	v := overridesView{Form: intel.Override{Effect: intel.Block, Class: policy.Phishing, Value: short(c.QueryParam("value"))}, Until: s.now().AddDate(0, 0, 30).UTC().Format(time.DateOnly)}
	return s.showOverrides(c, http.StatusOK, v)
}

func (s *pages) showOverrides(c echo.Context, status int, v overridesView) error {
	q := c.QueryParams()
	if v.Query, v.State = short(q.Get("q")), "active"; oneOf(q.Get("state"), "ended", "all") != "" {
		v.State = q.Get("state")
	}
	v.Link = listLink{path: "/intel/overrides", set: url.Values{"q": {v.Query}, "state": {v.State}}, size: pageSize, at: q.Get("after"), page: pageNumber(q.Get("page"))}
	if v.Link.at == "" {
		v.Link.page = 1
	}
	var err error
	v.Items, v.Link.next, err = s.intel.Overrides(c.Request().Context(), intel.OverrideFilter{Workspaces: s.person(c).Workspaces, Query: v.Query, State: oneOf(v.State, "active", "ended"), Cursor: v.Link.at, Limit: pageSize})
	if err != nil {
		return s.failure(c, err)
	}
	p := s.frame(c, "intel")
	if isFragment(c, "results") {
		return s.render(c, status, overrideResults(p, v))
	}
	s.flash(c, p)
	return s.render(c, status, overridesPage(p, v))
}

func (v Person) mayOverride(workspace *uuid.UUID) bool {
	return mayOverride(func(r identity.Right, w uuid.UUID) bool { return v.CanIn(string(r), w) }, workspace)
}

func (s *pages) postOverride(c echo.Context) error {
	who := s.person(c)
	v := overridesView{Until: c.FormValue("until"), Everybody: c.FormValue("scope") == "installation"}
	w, may := who.Target(rightIntelWrite)
	v.Form = intel.Override{Workspace: &w, Effect: c.FormValue("effect"), Kind: intel.Kind(oneOf(c.FormValue("kind"), intel.Kinds()...)), Value: strings.ToValidUTF8(c.FormValue("value"), ""),
		Class: policy.Class(c.FormValue("class")), Owner: who.Email, Reason: strings.ToValidUTF8(c.FormValue("reason"), "")}
	if v.Everybody {
		v.Form.Workspace, may = nil, true
	}
	if !may || !who.mayOverride(v.Form.Workspace) {
		return s.fail(c, http.StatusForbidden, errBadInput)
	}
	if v.Until != "" {
		day, err := time.Parse(time.DateOnly, v.Until)
		if err != nil {
			v.Wrong = s.frame(c, "").T("entry.wrong.date")
			return s.showOverrides(c, http.StatusUnprocessableEntity, v)
		}
		end := day.Add(24*time.Hour - time.Second) // the end of that day, UTC
		v.Form.ExpiresAt = &end
	}
	_, err := s.intel.AddOverride(c.Request().Context(), who.Actor, v.Form)
	var invalid *policy.InvalidError
	if errors.As(err, &invalid) {
		v.Wrong = invalid.Error()
		return s.showOverrides(c, http.StatusUnprocessableEntity, v)
	}
	if err != nil {
		return s.failure(c, err)
	}
	return s.done(c, "flash.intel.saved", "/intel/overrides")
}

func (s *pages) postOverrideEnd(c echo.Context) error {
	id, err := paramID(c)
	if err != nil {
		return s.failure(c, err)
	}
	o, err := s.intel.Override(c.Request().Context(), id)
	if err == nil && !s.person(c).mayOverride(o.Workspace) {
		err = intel.ErrNotFound
	}
	if err == nil {
		err = s.intel.EndOverride(c.Request().Context(), s.person(c).Actor, id, strings.ToValidUTF8(c.FormValue("reason"), ""))
	}
	if err != nil {
		return s.failure(c, err)
	}
	return s.done(c, "flash.intel.ended", "/intel/overrides")
}
