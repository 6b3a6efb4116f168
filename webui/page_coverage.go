package webui

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/gateway/ledger"
	"mailward/policy"
	"mailward/quarantine"
)

// coverageRanges leaves out what the ledger would take long to read.
var coverageRanges = healthRanges[1:4]

// coverageView is which engines were missing when mails were decided.
type coverageView struct {
	Range  healthRange
	Total  int
	Missed int
	Gaps   []ledger.Gap
	Scans  []quarantine.CoverageScan
	Hits   []quarantine.LateHit
	Can    bool // scan again
	Wrong  string
}

// held is how many mails of the time can be looked at again.
func (v coverageView) held() (n int) {
	for _, g := range v.Gaps {
		n += g.Held
	}
	return n
}

func (s *pages) getCoverage(c echo.Context) error { return s.showCoverage(c, http.StatusOK, "") }

// coverageRange is the one that is asked for.
func coverageRange(key string) healthRange {
	for _, r := range coverageRanges {
		if r.Key == key {
			return r
		}
	}
	return coverageRanges[0]
}

func (s *pages) showCoverage(c echo.Context, status int, wrong string) error {
	p := s.frame(c, "health")
	v := coverageView{Range: coverageRange(c.FormValue("range")), Wrong: wrong}
	ctx, to := c.Request().Context(), p.Now.UTC()
	from := to.Add(-v.Range.Span)
	var err error
	if v.Gaps, err = s.mails.Coverage(ctx, p.User.Workspaces, from, to); err != nil {
		return s.failure(c, err)
	}
	all, err := s.mails.Stats(ctx, p.User.Workspaces, from, to, v.Range.Span)
	if err != nil {
		return s.failure(c, err)
	}
	for _, b := range all {
		v.Total += b.Total
	}
	for _, g := range v.Gaps {
		v.Missed += g.Mails
	}
	if s.coverage != nil {
		v.Can = p.Can(rightRelease)
		if v.Scans, err = s.coverage.Scans(ctx, p.User.Workspaces, scansShown); err != nil {
			return s.failure(c, err)
		}
		if v.Hits, err = s.coverage.Hits(ctx, p.User.Workspaces, hitsShown); err != nil {
			return s.failure(c, err)
		}
	}
	s.flash(c, p)
	return s.render(c, status, coveragePage(p, v))
}

// postCoverage has mail scanned again that was decided without an engine.
func (s *pages) postCoverage(c echo.Context) error {
	p := s.frame(c, "health")
	var spaces []uuid.UUID
	for _, w := range p.User.Workspaces {
		if p.User.CanIn(rightRelease, w) {
			spaces = append(spaces, w)
		}
	}
	r, to := coverageRange(c.FormValue("range")), p.Now.UTC()
	_, err := s.coverage.Start(c.Request().Context(), p.User.Actor, quarantine.CoverageAsk{Workspaces: spaces, From: to.Add(-r.Span), To: to,
		Reason: strings.ToValidUTF8(c.FormValue("reason"), ""), Author: s.alertPerson(c).Name})
	switch {
	case errors.Is(err, quarantine.ErrReasonRequired):
		return s.showCoverage(c, http.StatusUnprocessableEntity, p.T("act.wrong.reason"))
	case errors.Is(err, quarantine.ErrNothingUnseen):
		return s.showCoverage(c, http.StatusConflict, p.T("coverage.wrong.nothing"))
	case err != nil:
		return s.failure(c, err)
	}
	return s.done(c, "flash.coverage", "/health/coverage?range="+r.Key)
}

// scanState says how a scan stands.
func (p *frame) scanState(x quarantine.CoverageScan) string {
	if x.State == "running" && x.Trouble != "" {
		return p.T("coverage.scan.waits")
	}
	return p.word("coverage.scan", x.State)
}

func scanTone(x quarantine.CoverageScan) string {
	switch {
	case x.State == "stopped" || x.Trouble != "":
		return "warn"
	case x.Worse > 0:
		return "crit"
	case x.State == "running":
		return "info"
	}
	return "ok"
}

// foundNames are the names of what was found.
func foundNames(list []policy.Finding) string {
	var names []string
	for _, f := range list {
		names = append(names, f.Name)
	}
	return plain(strings.Join(names, ", "), 300)
}

// during is the list of mails of a stretch.
func during(path string, g ledger.Gap) string {
	q := url.Values{"from": {g.From.UTC().Format(time.RFC3339)}, "to": {g.To.UTC().Add(time.Second).Format(time.RFC3339)}}
	return path + "?" + q.Encode()
}
