package webui

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/audit"
	"mailward/identity"
	"mailward/internal/pg"
	"mailward/quarantine"
)

func (s *pages) registerBulk(r router) {
	r.page(http.MethodGet, "/quarantine/bulk", rightViewMeta, audit.PageView, s.getBulks)
	r.page(http.MethodGet, "/quarantine/bulk/new", rightViewMeta, audit.PageView, s.getBulkNew)
	r.page(http.MethodPost, "/quarantine/bulk", rightViewMeta, audit.BulkStart, s.postBulk)
	r.page(http.MethodGet, "/quarantine/bulk/:id", rightViewMeta, audit.PageView, s.getBulk)
}

// bulkRights are what each act takes, the same as on one item.
var bulkRights = map[quarantine.BulkAct]identity.Right{quarantine.BulkRelease: identity.Release, quarantine.BulkDelete: identity.Delete,
	quarantine.BulkDeny: identity.Approve, quarantine.BulkSandbox: identity.Release}

// NewBulkAskers says for acts on many items what those may do now who have asked.
func NewBulkAskers(ids *identity.Store) func(ctx context.Context, a pg.Actor) (quarantine.Asker, error) {
	return func(ctx context.Context, a pg.Actor) (quarantine.Asker, error) {
		p, err := ids.Resume(ctx, a)
		if errors.Is(err, identity.ErrNoSession) {
			return quarantine.Asker{}, quarantine.ErrAskerGone
		}
		return bulkAsker(p), err
	}
}

func bulkAsker(p identity.Principal) quarantine.Asker {
	return quarantine.Asker{Actor: p.Actor(), Roles: p.RoleNames(), May: func(act quarantine.BulkAct, workspace uuid.UUID) bool {
		right, ok := bulkRights[act]
		return ok && p.Can(right, workspace)
	}}
}

// bulkActs are the acts that the person can do on some of these items.
func (v quarantineView) bulkActs(p *frame) (out []quarantine.BulkAct) {
	if !v.Bulk {
		return nil
	}
	for _, act := range quarantine.BulkActs() {
		if p.Can(string(bulkRights[act])) && (act != quarantine.BulkSandbox || v.Sandbox) {
			out = append(out, act)
		}
	}
	return out
}

func (v quarantineView) mayBulk(p *frame) bool { return len(v.bulkActs(p)) > 0 }

// bulkForm is what is about to be done with many items.
type bulkForm struct {
	ID      uuid.UUID
	Act     quarantine.BulkAct
	List    quarantineView
	Items   []string // chosen by hand; none: all that the filter selects
	Total   int      // how many that are
	Capped  bool     // more than can be counted
	Sample  []quarantine.Item
	Form    actForm
	Four    string
	StepUp  bool
	Signs   bool
	Nothing bool
	Changed bool // the filter selects another number now
}

// Takes is how many items the act takes.
func (b bulkForm) Takes() int { return min(b.Total, quarantine.BulkMax) }

// buttonClass warns of what cannot be taken back.
func (b bulkForm) buttonClass() string {
	if b.Act == quarantine.BulkDelete {
		return "btn danger primary"
	}
	return "btn primary"
}

// readBulk reads what is asked for, from a form or an address.
func (s *pages) readBulk(c echo.Context, in url.Values) (bulkForm, quarantine.Filter, error) {
	b := bulkForm{Act: quarantine.BulkAct(in.Get("act"))}
	right, ok := bulkRights[b.Act]
	if !ok {
		return b, quarantine.Filter{}, errBadInput
	}
	if !s.person(c).Can(string(right)) {
		return b, quarantine.Filter{}, echo.NewHTTPError(http.StatusForbidden)
	}
	q, err := url.ParseQuery(in.Get("query"))
	if err != nil {
		return b, quarantine.Filter{}, errBadInput
	}
	var f quarantine.Filter
	if b.List, f, err = s.readQuarantineQuery(c, q); err != nil {
		return b, f, err
	}
	f.Cursor = ""
	if in.Get("all") == "" {
		b.Items = in["item"]
	}
	// Nothing picked is not the same as all.
	b.Nothing = len(b.Items) == 0 && in.Get("all") == ""
	if len(b.Items) > quarantine.BulkMax {
		return b, f, errBadInput
	}
	return b, f, nil
}

func (s *pages) getBulkNew(c echo.Context) error {
	b, f, err := s.readBulk(c, c.QueryParams())
	if err != nil {
		return s.failure(c, err)
	}
	return s.showBulkForm(c, http.StatusOK, b, f)
}

// showBulkForm asks before anything is done: how many, what happens, and why.
func (s *pages) showBulkForm(c echo.Context, status int, b bulkForm, f quarantine.Filter) error {
	ctx, who := c.Request().Context(), s.person(c)
	var err error
	if b.ID == uuid.Nil {
		if b.ID, err = uuid.NewV7(); err != nil {
			return fmt.Errorf("make id of act: %w", err)
		}
	}
	if !b.Nothing {
		if err := s.countBulk(c, &b, f); err != nil {
			return s.failure(c, err)
		}
	}
	if b.Four, err = s.held.FourEyes(ctx); err != nil {
		return s.failure(c, err)
	}
	alone := b.Act == quarantine.BulkRelease || b.Act == quarantine.BulkDelete
	b.StepUp = alone && b.Four == quarantine.SingleOperator && s.now().Sub(who.AuthenticatedAt) > stepUpAge
	if b.Act == quarantine.BulkRelease || b.Act == quarantine.BulkDeny {
		if b.Signs, err = s.signs(c, who); err != nil {
			return s.failure(c, err)
		}
	}
	return s.render(c, status, bulkNewPage(s.frame(c, "quarantine"), b))
}

// countBulk finds how many items an act is about and shows the first of them.
func (s *pages) countBulk(c echo.Context, b *bulkForm, f quarantine.Filter) error {
	const shown = 8
	ctx := c.Request().Context()
	if len(b.Items) > 0 {
		for _, text := range b.Items {
			id, err := uuid.Parse(text)
			if err != nil {
				return errBadInput
			}
			if len(b.Sample) < shown {
				it, err := s.item(c, id, rightViewMeta)
				if err != nil {
					return err
				}
				b.Sample = append(b.Sample, it)
			}
		}
		b.Total = len(b.Items)
		return nil
	}
	f.Workspaces = s.bulkWorkspaces(c, b.Act, f.Workspaces)
	n, err := s.releases.Matching(ctx, f, quarantine.CountCap+1)
	if err != nil {
		return err
	}
	f.Limit = shown
	page, err := s.held.List(ctx, f)
	if err != nil {
		return err
	}
	b.Total, b.Capped, b.Sample, b.Nothing = n, n > quarantine.CountCap, page.Items, n == 0
	return nil
}

// bulkWorkspaces are those in which the person may do an act.
func (s *pages) bulkWorkspaces(c echo.Context, act quarantine.BulkAct, of []uuid.UUID) []uuid.UUID {
	v := s.person(c)
	return slices.DeleteFunc(slices.Clone(of), func(w uuid.UUID) bool { return !v.CanIn(string(bulkRights[act]), w) })
}

// postBulk starts an act, once the person has said why and shown who they are, as
// for the act on one item.
func (s *pages) postBulk(c echo.Context) error {
	form, err := reasonForm(c)
	if err != nil {
		return s.failure(c, err)
	}
	in, err := c.FormParams()
	if err != nil {
		return s.failure(c, err)
	}
	b, f, err := s.readBulk(c, in)
	if err != nil {
		return s.failure(c, err)
	}
	if b.ID, err = uuid.Parse(in.Get("id")); err != nil {
		return s.failure(c, errBadInput)
	}
	if b.Nothing {
		return s.showBulkForm(c, http.StatusUnprocessableEntity, b, f)
	}
	if form.Wrong == "" {
		if form, err = s.bulkProof(c, b.Act, form); err != nil {
			return s.failure(c, err)
		}
	}
	b.Form = form
	if form.Wrong != "" || form.WrongPass != "" {
		return s.showBulkForm(c, http.StatusUnprocessableEntity, b, f)
	}
	ask := quarantine.BulkAsk{ID: b.ID, Act: b.Act, Reason: form.Reason, Filter: f, Query: b.List.query(), Workspaces: s.bulkWorkspaces(c, b.Act, s.person(c).Mine)}
	for _, text := range b.Items {
		id, err := uuid.Parse(text)
		if err != nil {
			return s.failure(c, errBadInput)
		}
		ask.Items = append(ask.Items, id)
	}
	ask.Expected, _ = strconv.Atoi(in.Get("total"))
	k, err := s.bulks.Start(c.Request().Context(), bulkAsker(s.person(c).principal), ask)
	switch {
	case errors.Is(err, quarantine.ErrBulkChanged):
		b.Changed = true
		return s.showBulkForm(c, http.StatusConflict, b, f)
	case errors.Is(err, quarantine.ErrBulkEmpty):
		b.Nothing = true
		return s.showBulkForm(c, http.StatusUnprocessableEntity, b, f)
	case err != nil:
		return s.failure(c, err)
	}
	return s.done(c, "", "/quarantine/bulk/"+k.ID.String())
}

// bulkProof has the person show who they are, as the act on one item does.
func (s *pages) bulkProof(c echo.Context, act quarantine.BulkAct, form actForm) (actForm, error) {
	var err error
	switch act {
	case quarantine.BulkRelease:
		return s.signOrStepUp(c, form)
	case quarantine.BulkDelete:
		form.WrongPass, err = s.stepUp(c)
	case quarantine.BulkDeny:
		_, form.Wrong, err = s.attest(c)
	}
	return form, err
}

func (s *pages) getBulks(c echo.Context) error {
	list, err := s.bulks.List(c.Request().Context(), s.person(c).ID)
	if err != nil {
		return s.failure(c, err)
	}
	return s.render(c, http.StatusOK, bulksPage(s.frame(c, "quarantine"), list))
}

func (s *pages) getBulk(c echo.Context) error {
	id, err := paramID(c)
	if err != nil {
		return s.failure(c, err)
	}
	k, err := s.bulks.Get(c.Request().Context(), s.person(c).ID, id)
	if err != nil {
		return s.failure(c, err)
	}
	hideItems(k, s.person(c).principal)
	p := s.frame(c, "quarantine")
	if isFragment(c, "bulk") {
		return s.render(c, http.StatusOK, bulkResult(p, k))
	}
	return s.render(c, http.StatusOK, bulkPage(p, k))
}

// hideItems leaves out of an act what is said of mails that its owner may see no more,
// or not with this token.
func hideItems(k quarantine.Bulk, p identity.Principal) {
	for i, it := range k.Items {
		if !p.Can(identity.ViewMeta, it.Workspace) {
			k.Items[i].Subject, k.Items[i].From = "", ""
		}
	}
}

func bulkTone(state string) string {
	return map[string]string{"done": "ok", "waiting": "info", "refused": "warn", "failed": "crit", "stopped": "crit", "running": "info"}[state]
}

// ariaSort says how a column is sorted.
func (v quarantineView) ariaSort(column string) string {
	switch {
	case column == "at" && v.Sort == quarantine.Newest, column == "score" && v.Sort == quarantine.ByScore:
		return "descending"
	case column == "at" && v.Sort == quarantine.Oldest:
		return "ascending"
	}
	return "none"
}

// sortBy is the address of the list, sorted by a column; by time it turns round.
func (v quarantineView) sortBy(column string) string {
	switch {
	case column == "score":
		return v.Link.with("sort", string(quarantine.ByScore))
	case v.Sort == quarantine.Newest:
		return v.Link.with("sort", string(quarantine.Oldest))
	}
	return v.Link.with("sort", "")
}

// topFinding is the name of the finding that weighs most.
func topFinding(it quarantine.Item) string {
	name, best := "", 0.0
	for _, f := range it.Findings {
		if f.Name != "" && (name == "" || f.Score > best || f.Class == it.Class && f.Score == best) {
			name, best = f.Name, f.Score
		}
	}
	return name
}

// bulkActText is the name of an act; where two people decide, a release is only
// asked for.
func bulkActText(p *frame, act quarantine.BulkAct) string {
	if act == quarantine.BulkRelease && !p.SingleOperator {
		return p.T("bulk.act.request")
	}
	return p.T("bulk.act." + string(act))
}

func bulkTitle(p *frame, b bulkForm) string {
	if b.Nothing {
		return bulkActText(p, b.Act)
	}
	return p.N("bulk.title."+string(b.Act), b.Takes())
}

// fourSuffix chooses the text that says what a release needs.
func fourSuffix(b bulkForm) string {
	if b.Act == quarantine.BulkRelease && b.Four != quarantine.SingleOperator {
		return ".required"
	}
	return ""
}

type bulkCount struct {
	State string
	N     int
}

func bulkCounts(k quarantine.Bulk) []bulkCount {
	return []bulkCount{{"done", k.Done}, {"waiting", k.Waiting}, {"refused", k.Refused}, {"failed", k.Failed}}
}
