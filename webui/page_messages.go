package webui

import (
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"mailward/gateway/ledger"
	"mailward/policy"
	"mailward/quarantine"
)

// messagesView is the list of all mail that was decided on.
type messagesView struct {
	Query, Range string
	From, To     string // days or times; they count before the range
	Action       policy.Action
	Classes      []policy.Class
	Link         listLink
	Items        []ledger.Row
	FirstUse     bool
}

func (v messagesView) has(c policy.Class) bool { return slices.Contains(v.Classes, c) }

func (v messagesView) actionOptions(p *frame) []option {
	out := []option{{"", p.T("m.action.any")}}
	for _, a := range append(policy.Actions(), policy.Mixed) {
		out = append(out, option{string(a), p.T("action." + string(a))})
	}
	return out
}

func (s *pages) getMessages(c echo.Context) error {
	q := c.QueryParams()
	v := messagesView{Query: short(q.Get("q")), Classes: classesOf(q["class"])}
	for _, a := range append(policy.Actions(), policy.Mixed) {
		if q.Get("action") == string(a) {
			v.Action = a
		}
	}
	f := ledger.Filter{Workspaces: s.person(c).Workspaces, Query: v.Query, Classes: v.Classes, Cursor: q.Get("after"), Limit: pageSize}
	if v.Action != "" {
		f.Actions = []policy.Action{v.Action}
	}
	set := url.Values{"q": {v.Query}, "action": {string(v.Action)}}
	for _, class := range v.Classes {
		set.Add("class", string(class))
	}
	if err := s.readMailSpan(q, set, &v, &f); err != nil {
		return s.failure(c, err)
	}
	v.Link = listLink{path: "/messages", set: set, size: pageSize, at: f.Cursor, page: pageNumber(q.Get("page"))}
	if f.Cursor == "" {
		v.Link.page = 1
	}
	ctx := c.Request().Context()
	page, err := s.mails.List(ctx, f)
	if err != nil {
		return s.failure(c, err)
	}
	v.Items, v.Link.next = page.Items, page.Next
	if len(v.Items) == 0 {
		any, err := s.mails.List(ctx, ledger.Filter{Workspaces: f.Workspaces, Limit: 1})
		if err != nil {
			return s.failure(c, err)
		}
		v.FirstUse = len(any.Items) == 0
	}
	p := s.frame(c, "messages")
	if isFragment(c, "results") {
		return s.render(c, http.StatusOK, messagesResults(p, v))
	}
	return s.render(c, http.StatusOK, messagesPage(p, v))
}

// readMailSpan reads the time: exact from and to count before a range.
func (s *pages) readMailSpan(q, set url.Values, v *messagesView, f *ledger.Filter) (err error) {
	if f.From, v.From, err = instant(q.Get("from"), false); err != nil {
		return err
	}
	if f.To, v.To, err = instant(q.Get("to"), true); err != nil {
		return err
	}
	if v.From != "" || v.To != "" {
		v.Range = "custom"
		set["from"], set["to"] = []string{v.From}, []string{v.To}
		return nil
	}
	var span time.Duration
	if v.Range, span = rangeOf(q.Get("range"), "7d"); v.Range != "7d" {
		set.Set("range", v.Range)
	}
	if span > 0 {
		f.From = s.now().Add(-span)
	}
	return nil
}

func (v messagesView) rangeOptions(p *frame) []option {
	out := rangeOptions(p)
	if v.Range == "custom" {
		out = append(out, option{"custom", p.T("range.custom", v.From, v.To)})
	}
	return out
}

// messageView is the story of one mail.
type messageView struct {
	ledger.Row
	Outcomes []ledger.Outcome
	Held     *quarantine.Item
	Cases    incidentLinksView
}

// last is the latest outcome of a recipient's copy.
func (v messageView) last(address string) *ledger.Outcome {
	for _, o := range slices.Backward(v.Outcomes) {
		if o.Recipient == address {
			return &o
		}
	}
	return nil
}

func (s *pages) getMessage(c echo.Context) error {
	id, err := paramID(c)
	if err != nil {
		return s.failure(c, err)
	}
	ctx := c.Request().Context()
	row, outcomes, err := s.mails.Get(ctx, id)
	if err != nil {
		return s.failure(c, err)
	}
	who := s.person(c)
	if !who.CanIn(rightViewMeta, row.Workspace) {
		return s.failure(c, ledger.ErrNotFound)
	}
	v := messageView{Row: row, Outcomes: outcomes}
	held, err := s.held.List(ctx, quarantine.Filter{Workspaces: who.Mine, Query: row.ID.String(), Limit: 5})
	if err != nil {
		return s.failure(c, err)
	}
	for _, it := range held.Items {
		if it.MailID == row.ID {
			v.Held = &it
		}
	}
	if v.Cases, err = s.incidentsOf(c, row.Workspace, row.ID); err != nil {
		return s.failure(c, err)
	}
	return s.render(c, http.StatusOK, messagePage(s.frame(c, "messages"), v))
}

// outcomeTone colours what became of a copy.
func outcomeTone(st ledger.OutcomeState) string {
	switch st {
	case ledger.Relayed:
		return "ok"
	case ledger.Quarantined, ledger.Deferred:
		return "warn"
	case ledger.Refused, ledger.Rejected, ledger.Failed, ledger.OutcomeUnknown:
		return "crit"
	case ledger.Queued:
		return "info"
	}
	return "none"
}

func actionTone(a policy.Action) string {
	switch a {
	case policy.Deliver:
		return "ok"
	case policy.Reject:
		return "crit"
	case policy.Tag:
		return "info"
	}
	return "warn"
}
