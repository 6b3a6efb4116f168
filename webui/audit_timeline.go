package webui

import (
	"slices"

	"mailward/audit"
)

// timelineDay is one day of a timeline, its acts in the order of time.
type timelineDay struct {
	Name string
	Rows []auditRow
}

// days are the events of the page, the oldest first.
func (v auditView) days(p *frame) (out []timelineDay) {
	for _, r := range slices.Backward(v.Items) {
		if day := p.Day(r.At); len(out) == 0 || out[len(out)-1].Name != day {
			out = append(out, timelineDay{Name: day})
		}
		last := &out[len(out)-1]
		last.Rows = append(last.Rows, r)
	}
	return out
}

// maxOthers keeps the head of a timeline short.
const maxOthers = 8

// others are the ids beside the one asked for that the events of the page name:
// from a mail to its incident, from an act to its session.
func (v auditView) others() (out []idLink) {
	for _, r := range v.Items {
		for _, l := range r.Links() {
			if l.ID != v.Around && l.Key != "cause" && !slices.Contains(out, l) && len(out) < maxOthers {
				out = append(out, l)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b idLink) int {
		return slices.Index(linkOrder, a.Key) - slices.Index(linkOrder, b.Key)
	})
	return out
}

var linkOrder = []string{"incident", "item", "mail", "session", "token"}

func formatOptions(p *frame) (out []option) {
	for _, f := range audit.Formats() {
		out = append(out, option{string(f), p.T("export.format." + string(f))})
	}
	return out
}
