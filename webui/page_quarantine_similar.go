package webui

import (
	"github.com/labstack/echo/v4"

	"mailward/quarantine"
)

// similar finds what a mail has in common with others that the person may see.
func (s *pages) similar(c echo.Context, it quarantine.Item) ([]quarantine.Likeness, error) {
	if s.releases == nil {
		return nil, nil
	}
	return s.releases.Similar(c.Request().Context(), it, s.person(c).Mine)
}

// likeLink is the list of all mails that have something in common.
func likeLink(l quarantine.Likeness) listLink {
	return listLink{path: "/quarantine", set: map[string][]string{"range": {"all"}, l.Field: {l.Value}}}
}

// likeQuery is the same as a filter for an act on all of them.
func likeQuery(l quarantine.Likeness) string {
	return quarantineView{Link: likeLink(l)}.query()
}

func likeText(p *frame, l quarantine.Likeness) string {
	return p.T("similar."+l.Field) + ": " + plain(l.Value, 70)
}

// likeCount is how many others have it.
func likeCount(p *frame, l quarantine.Likeness) string {
	if l.Count > quarantine.SimilarCap {
		return p.T("similar.many", quarantine.SimilarCap)
	}
	return p.N("similar.count", l.Others())
}
