package webui

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/policy"
	"mailward/quarantine"
)

// quarantineView is the list of held mail with its filter.
type quarantineView struct {
	Range, State string
	From, To     string // days or times; they count before the range
	Space        string // only of this workspace
	Direction    string
	Sort         quarantine.Order
	Classes      []policy.Class
	Link         listLink
	Items        []quarantine.Item
	Counts       quarantine.Counts
	FirstUse     bool   // nothing was ever held
	Open         string // item in the drawer
	Newest       string // id of the newest item that the page can hold; empty on later pages
	Wrong        bool   // the filter cannot be searched for
	Sandbox      bool   // one is set up
	Bulk         bool   // acts on many are possible
	Keeping      bool   // there are pages of legal holds and of rules
}

// stateGroups are what the filter offers: one word for the states of one kind.
var stateGroups = []struct {
	Key    string
	States []quarantine.State
}{
	{"open", []quarantine.State{quarantine.Held, quarantine.Quarantined}},
	{"requested", []quarantine.State{quarantine.ReleaseRequested}},
	{"sending", []quarantine.State{quarantine.ReleaseScheduled, quarantine.Delivering}},
	{"released", []quarantine.State{quarantine.Released}},
	{"problem", []quarantine.State{quarantine.Failed, quarantine.OutcomeUnknown}},
	{"gone", []quarantine.State{quarantine.Denied, quarantine.Deleted, quarantine.Expired}},
}

func statesOf(key string) []quarantine.State {
	for _, g := range stateGroups {
		if g.Key == key {
			return g.States
		}
	}
	return nil
}

func (v quarantineView) stateOptions(p *frame) []option {
	out := []option{{"", p.T("q.state.any")}}
	for _, g := range stateGroups {
		out = append(out, option{g.Key, p.T("q.state." + g.Key)})
	}
	return out
}

func (v quarantineView) directionOptions(p *frame) []option {
	return []option{{"", p.T("q.direction.any")}, {"inbound", p.T("q.direction.inbound")}, {"outbound", p.T("q.direction.outbound")}}
}

func (v quarantineView) sortOptions(p *frame) []option {
	var out []option
	for _, o := range quarantine.Orders() {
		out = append(out, option{string(o), p.T("q.sort." + string(o))})
	}
	return out
}

func (v quarantineView) rangeOptions(p *frame) []option {
	out := rangeOptions(&frame{lang: p.lang})
	if v.Range == "custom" {
		out = append(out, option{"custom", p.T("range.custom", v.From, v.To)})
	}
	return out
}

// quarantineFields are the text filters behind "more", by their names in addresses.
var quarantineFields = []string{"sender", "recipient", "subject", "domain", "symbol", "rule", "signature", "hash", "url", "message_id", "shape"}

func (v quarantineView) fields(p *frame) []textField {
	var out []textField
	for _, name := range quarantineFields {
		if name != "shape" || v.Link.set.Get(name) != "" {
			out = append(out, textField{name, p.T("q.field." + name), v.Link.set.Get(name)})
		}
	}
	return out
}

// narrow says whether one of the filters behind "more" is set.
func (v quarantineView) narrow() bool {
	return v.Range == "custom" || slices.ContainsFunc(append([]string{"score_from", "score_to", "direction"}, quarantineFields...), func(k string) bool { return v.Link.set.Get(k) != "" })
}

// terms are the filters that can be taken away one by one.
func (v quarantineView) terms() (out []filterTerm) {
	for _, k := range append([]string{"q", "state", "from", "to", "score_from", "score_to", "direction"}, quarantineFields...) {
		if x := v.Link.set.Get(k); x != "" {
			out = append(out, filterTerm{k, x})
		}
	}
	return out
}

// termText is a filter in words.
func (v quarantineView) termText(p *frame, t filterTerm) string {
	switch t.Name {
	case "q":
		return "\u201c" + plain(t.Value, 60) + "\u201d"
	case "state":
		return p.T("q.state." + t.Value)
	case "direction":
		return p.T("q.direction." + t.Value)
	}
	return p.T("q.field."+t.Name) + ": " + plain(t.Value, 60)
}

func (v quarantineView) has(c policy.Class) bool { return slices.Contains(v.Classes, c) }

// chipCount is what a class's chip shows: nothing where counting has ended early.
func (v quarantineView) chipCount(c policy.Class) int {
	if n := v.Counts.Classes[c]; !v.Counts.Capped() || n == 0 {
		return n
	}
	return -1
}

// query is the filter as an address has it, without page and open row.
func (v quarantineView) query() string {
	_, q, _ := strings.Cut(v.Link.with(), "?")
	return q
}

// at is exactly this filter at another path.
func (v quarantineView) at(path string, pairs ...string) string {
	l := v.Link
	l.path = path
	return l.with(pairs...)
}

// bulkTotal is how many items an act on all that match takes.
func (v quarantineView) bulkTotal() int { return min(v.Counts.Total, quarantine.BulkMax) }

func (s *pages) readQuarantine(c echo.Context) (quarantineView, quarantine.Filter, error) {
	return s.readQuarantineQuery(c, c.QueryParams())
}

// readQuarantineQuery reads a filter, within the workspaces of the person.
func (s *pages) readQuarantineQuery(c echo.Context, q url.Values) (quarantineView, quarantine.Filter, error) {
	v := quarantineView{Classes: classesOf(q["class"]), Open: q.Get("id"), Sandbox: s.sandbox, Bulk: s.bulks != nil, Keeping: s.releases != nil, Sort: quarantine.Newest}
	set := url.Values{"q": {short(q.Get("q"))}}
	for _, name := range quarantineFields {
		set.Set(name, short(q.Get(name)))
	}
	states := statesOf(q.Get("state"))
	if states != nil {
		v.State = q.Get("state")
		set.Set("state", v.State)
	}
	if o := quarantine.Order(q.Get("sort")); slices.Contains(quarantine.Orders(), o) && o != quarantine.Newest {
		v.Sort = o
		set.Set("sort", string(o))
	}
	if d := q.Get("direction"); d == "inbound" || d == "outbound" {
		v.Direction = d
		set.Set("direction", d)
	}
	var spaces []uuid.UUID
	spaces, v.Space = inSpace(s.person(c).Workspaces, q.Get("space"))
	set.Set("space", v.Space)
	for _, class := range v.Classes {
		set.Add("class", string(class))
	}
	f := quarantine.Filter{
		Workspaces: spaces, Query: set.Get("q"), Domain: set.Get("domain"), Classes: v.Classes, States: states, Direction: policy.Direction(v.Direction),
		Sender: set.Get("sender"), Recipient: set.Get("recipient"), Subject: set.Get("subject"), Hash: set.Get("hash"), MessageID: set.Get("message_id"),
		Symbol: set.Get("symbol"), Rule: set.Get("rule"), Signature: set.Get("signature"), URL: set.Get("url"), Shape: set.Get("shape"),
		Order: v.Sort, Cursor: q.Get("after"), Limit: pageSize,
	}
	f.ScoreFrom = scoreOf(q, set, "score_from")
	f.ScoreTo = scoreOf(q, set, "score_to")
	err := s.readHeldSpan(q, set, &v, &f)
	v.Link = listLink{path: "/quarantine", set: set, size: pageSize, at: f.Cursor, page: pageNumber(q.Get("page"))}
	if f.Cursor == "" {
		v.Link.page = 1
	}
	return v, f, err
}

// scoreOf reads a bound of the score; what is no number is none.
func scoreOf(q, set url.Values, name string) *float64 {
	n, err := strconv.ParseFloat(strings.ReplaceAll(strings.TrimSpace(q.Get(name)), ",", "."), 64)
	if err != nil || n != n || n < -1e6 || n > 1e6 {
		return nil
	}
	set.Set(name, strconv.FormatFloat(n, 'f', -1, 64))
	return &n
}

// readHeldSpan reads the time: exact from and to count before a range.
func (s *pages) readHeldSpan(q, set url.Values, v *quarantineView, f *quarantine.Filter) (err error) {
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
	if v.Range, span = rangeOf(q.Get("range"), "30d"); v.Range != "30d" {
		set.Set("range", v.Range)
	}
	if span > 0 {
		f.From = s.now().Add(-span)
	}
	return nil
}

func (s *pages) getQuarantine(c echo.Context) error {
	v, f, err := s.readQuarantine(c)
	if err != nil {
		return s.failure(c, err)
	}
	p := s.frame(c, "quarantine")
	if isFragment(c, "drawer") {
		if v.Open == "" {
			return s.render(c, http.StatusOK, drawerSlot())
		}
		d, err := s.drawer(c, p, v.Open, v.Link)
		if err != nil {
			return s.failure(c, err)
		}
		return s.render(c, http.StatusOK, d)
	}
	if err := s.loadQuarantine(c, &v, f); err != nil {
		return s.failure(c, err)
	}
	s.flash(c, p)
	if isFragment(c, "results") {
		return s.render(c, http.StatusOK, quarantineResults(p, v, true))
	}
	if v.Open != "" {
		d, err := s.drawer(c, p, v.Open, v.Link)
		if err == nil {
			c.SetRequest(c.Request().WithContext(withDrawer(c.Request().Context(), d)))
		}
	}
	return s.render(c, http.StatusOK, quarantinePage(p, v))
}

func (s *pages) loadQuarantine(c echo.Context, v *quarantineView, f quarantine.Filter) error {
	ctx := c.Request().Context()
	now := s.now()
	page, counts, err := s.held.ListAndCount(ctx, f)
	if errors.Is(err, quarantine.ErrBadFilter) {
		v.Wrong = true
		return nil
	}
	if err != nil {
		return err
	}
	v.Counts = counts
	v.Items, v.Link.next = page.Items, page.Next
	if f.Cursor == "" && f.To.IsZero() {
		v.Newest = newestItem(page.Items, now)
	}
	if len(v.Items) == 0 && !slices.ContainsFunc(quarantine.HeldClasses(), func(cl policy.Class) bool { return v.Counts.Classes[cl] > 0 }) {
		any, err := s.held.List(ctx, quarantine.Filter{Workspaces: f.Workspaces, Limit: 1})
		if err != nil {
			return err
		}
		v.FirstUse = len(any.Items) == 0
	}
	return nil
}

// newestItem is from where on items are new to whoever looks at this page: after
// all on it, and after it was made.
func newestItem(items []quarantine.Item, now time.Time) string {
	newest := timeID(now)
	for _, it := range items {
		newest = max(newest, it.ID.String())
	}
	return newest
}

// getQuarantineFresh says how many items the filter selects that were held since
// the page was made. The page itself never moves under its reader.
func (s *pages) getQuarantineFresh(c echo.Context) error {
	v, f, err := s.readQuarantine(c)
	if err != nil {
		return s.failure(c, err)
	}
	v.Newest = c.QueryParam("newer")
	if f.Newer, err = uuid.Parse(v.Newest); err != nil {
		return s.failure(c, errBadInput)
	}
	f.Cursor, f.Limit, f.Order = "", maxFresh, quarantine.Newest
	page, err := s.held.List(c.Request().Context(), f)
	if err != nil {
		return s.failure(c, err)
	}
	return s.render(c, http.StatusOK, quarantineFresh(s.frame(c, "quarantine"), v, len(page.Items)))
}
