package webui

import (
	"net/http"
	"net/url"
	"time"

	"github.com/labstack/echo/v4"

	"mailward/gateway/ledger"
)

// coverageRanges leaves out what the ledger would take long to read.
var coverageRanges = healthRanges[1:4]

// coverageView is which engines were missing when mails were decided.
type coverageView struct {
	Range  healthRange
	Total  int
	Missed int
	Gaps   []ledger.Gap
}

func (s *pages) getCoverage(c echo.Context) error {
	p := s.frame(c, "health")
	v := coverageView{Range: coverageRanges[0]}
	for _, r := range coverageRanges {
		if r.Key == c.QueryParam("range") {
			v.Range = r
		}
	}
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
	return s.render(c, http.StatusOK, coveragePage(p, v))
}

// during is the list of mails of a stretch.
func during(path string, g ledger.Gap) string {
	q := url.Values{"from": {g.From.UTC().Format(time.RFC3339)}, "to": {g.To.UTC().Add(time.Second).Format(time.RFC3339)}}
	return path + "?" + q.Encode()
}
