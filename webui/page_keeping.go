package webui

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/audit"
	"mailward/policy"
	"mailward/quarantine"
)

// registerKeeping has what is kept whatever its time, and what a workspace wants of
// each class of held mail.
func (s *pages) registerKeeping(r router) {
	r.page(http.MethodGet, "/quarantine/holds", rightViewMeta, audit.PageView, s.getHolds)
	r.page(http.MethodPost, "/quarantine/:id/hold", rightDelete, audit.LegalHoldSet, s.postHold)
	r.page(http.MethodPost, "/quarantine/:id/lift-hold", rightDelete, audit.LegalHoldLift, s.postLiftHold)
	r.page(http.MethodGet, "/quarantine/rules", rightViewMeta, audit.PageView, s.getKeepRules)
	r.page(http.MethodPost, "/quarantine/rules", rightPolicy, "quarantine.rule.update", s.postKeepRule)
}

// holdsShown is how many legal holds a page has.
const holdsShown = 50

type holdsView struct {
	Items []quarantine.Item
	Next  string // address of what comes after
}

func (s *pages) getHolds(c echo.Context) error {
	p := s.frame(c, "quarantine")
	after, err := holdPlace(c.QueryParams())
	if err != nil {
		return s.failure(c, err)
	}
	list, next, err := s.releases.Holds(c.Request().Context(), p.User.WorkspacesWith(rightViewMeta), after, holdsShown)
	if err != nil {
		return s.failure(c, err)
	}
	v := holdsView{Items: list}
	if next != nil {
		v.Next = "/quarantine/holds?" + url.Values{"at": {next.At.UTC().Format(time.RFC3339Nano)}, "id": {next.ID.String()}}.Encode()
	}
	s.flash(c, p)
	return s.render(c, http.StatusOK, holdsPage(p, v))
}

func holdPlace(q url.Values) (after quarantine.HoldPlace, err error) {
	if q.Get("at") == "" {
		return after, nil
	}
	if after.At, err = time.Parse(time.RFC3339Nano, q.Get("at")); err == nil {
		after.ID, err = uuid.Parse(q.Get("id"))
	}
	if err != nil {
		return after, errBadInput
	}
	return after, nil
}

// mayHold says whether the person may keep this mail whatever its time.
func (v itemView) mayHold(p *frame) bool {
	return v.CanHold && v.hasBytes() && v.LegalHoldAt == nil && p.User.CanIn(rightDelete, v.Workspace)
}

// mayLift says whether the person may end that, or ask for it.
func (v itemView) mayLift(p *frame) bool {
	return v.CanHold && v.LegalHoldAt != nil && p.User.CanIn(rightDelete, v.Workspace)
}

func (s *pages) postHold(c echo.Context) error {
	it, form, err := s.actInput(c, rightDelete)
	if err != nil {
		return s.failure(c, err)
	}
	if form.Wrong != "" {
		return s.showItem(c, http.StatusUnprocessableEntity, form, "hold")
	}
	v := s.person(c)
	if _, err := s.releases.SetHold(c.Request().Context(), v.Actor, v.Roles, it.ID, form.Reason); err != nil {
		return s.failure(c, err)
	}
	return s.done(c, "flash.hold.set", "/quarantine/"+it.ID.String())
}

func (s *pages) postLiftHold(c echo.Context) error {
	it, form, err := s.actInput(c, rightDelete)
	if err != nil {
		return s.failure(c, err)
	}
	if form.Wrong == "" {
		if form.WrongPass, err = s.stepUp(c); err != nil {
			return s.failure(c, err)
		}
	}
	if form.Wrong != "" || form.WrongPass != "" {
		return s.showItem(c, http.StatusUnprocessableEntity, form, "lift-hold")
	}
	v := s.person(c)
	waiting, err := s.releases.LiftHold(c.Request().Context(), v.Actor, v.Roles, it.ID, form.Reason)
	if err != nil {
		return s.failure(c, err)
	}
	if waiting {
		return s.done(c, "flash.hold.waiting", "/quarantine/"+it.ID.String())
	}
	return s.done(c, "flash.hold.lifted", "/quarantine/"+it.ID.String())
}

// keepRulesView is what a workspace wants of each class.
type keepRulesView struct {
	Space  string
	Spaces []spaceOption
	Rules  []quarantine.Rule
	Days   int // how long held mail is kept without a rule
	May    bool
	StepUp bool
	Wrong  string // key of what is wrong with what was sent
	Class  policy.Class
}

func (keepRulesView) people(p *frame) []option {
	return []option{{"0", p.T("keep.people.0")}, {"1", p.T("keep.people.1")}, {"2", p.T("keep.people.2")}}
}

func (s *pages) getKeepRules(c echo.Context) error {
	return s.showKeepRules(c, http.StatusOK, "", quarantine.Rule{})
}

// showKeepRules shows the rules, one of them as it was typed where something was
// wrong with it.
func (s *pages) showKeepRules(c echo.Context, status int, wrong string, typed quarantine.Rule) error {
	space, err := s.digestSpace(c, rightViewMeta)
	if err != nil {
		return s.failure(c, err)
	}
	p := s.frame(c, "quarantine")
	v := keepRulesView{Space: space.String(), Days: int(s.retention.Hours() / 24), May: p.User.CanIn(rightPolicy, space), StepUp: s.needsPassword(p), Wrong: wrong, Class: typed.Class}
	if v.Rules, err = s.releases.Rules(c.Request().Context(), space); err != nil {
		return s.failure(c, err)
	}
	for i, r := range v.Rules {
		if r.Class == typed.Class && wrong != "keep.wrong.conflict" {
			typed.Version, typed.Mode = r.Version, r.Mode
			v.Rules[i] = typed
		}
	}
	for _, w := range p.Spaces {
		v.Spaces = append(v.Spaces, spaceOption{w.ID.String(), w.Name})
	}
	s.flash(c, p)
	return s.render(c, status, keepRulesPage(p, v))
}

func (s *pages) postKeepRule(c echo.Context) error {
	space, err := s.digestSpace(c, rightPolicy)
	if err != nil {
		return s.failure(c, err)
	}
	reason, wrong, err := s.reasonAndPassword(c)
	if err != nil {
		return s.failure(c, err)
	}
	r, ok := keepRuleOf(c)
	if wrong == "" && !ok {
		wrong = "keep.wrong.input"
	}
	status, waiting := http.StatusUnprocessableEntity, false
	if wrong == "" {
		v := s.person(c)
		waiting, err = s.releases.ChangeRule(c.Request().Context(), v.Actor, v.Roles, space, r, reason)
		switch {
		case errors.Is(err, quarantine.ErrBadRule):
			wrong = "keep.wrong.input"
		case errors.Is(err, quarantine.ErrState):
			wrong, status = "keep.wrong.conflict", http.StatusConflict
		case err != nil:
			return s.failure(c, err)
		}
	}
	to := "/quarantine/rules?space=" + space.String()
	switch {
	case wrong != "":
		return s.showKeepRules(c, status, wrong, r)
	case waiting:
		return s.done(c, "flash.keep.waiting", to)
	}
	return s.done(c, "flash.keep.saved", to)
}

// keepRuleOf reads a rule from the form; an empty field follows the installation.
func keepRuleOf(c echo.Context) (r quarantine.Rule, ok bool) {
	number := func(name string) int {
		text := c.FormValue(name)
		if text == "" {
			return 0
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			return -1 // which no rule takes
		}
		return n
	}
	r = quarantine.Rule{Class: policy.Class(short(c.FormValue("class"))), People: number("people"), RequestHours: number("hours"), KeepDays: number("days")}
	r.Version = int64(number("version"))
	return r, slices.Contains(quarantine.HeldClasses(), r.Class) && r.People >= 0 && r.RequestHours >= 0 && r.KeepDays >= 0
}

// orEmpty is a number for a field that is empty where the installation counts.
func orEmpty(n int) string {
	if n <= 0 {
		return ""
	}
	return strconv.Itoa(n)
}
