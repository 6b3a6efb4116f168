package webui

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/alerting"
	"mailward/alerting/rule"
	"mailward/audit"
	"mailward/identity"
	"mailward/policy"
)

func (s *pages) registerReactions(r router) {
	r.page(http.MethodGet, "/alerts/reactions", rightAlertsRead, audit.PageView, s.getReactions)
	r.page(http.MethodGet, "/alerts/reactions/:id", rightAlertsRead, audit.PageView, s.getReaction)
	r.page(http.MethodPost, "/alerts/reactions/:id/undo", rightAlertsAct, "alert.reaction.update", s.postReactionUndo)
	r.page(http.MethodPost, "/alerts/:id/react", rightAlertsAct, "alert.reaction.create", s.postReact)
}

// reactionForm is the reaction of a rule while somebody writes it.
type reactionForm struct {
	Kind, Lasts, Most, Direction, Match, Value, Divisor string
	DryRun                                              bool
}

func reactionFormOf(r *rule.Reaction) reactionForm {
	if r == nil {
		return reactionForm{Lasts: "1h", Most: "1000", Direction: "inbound", Divisor: "10", DryRun: true}
	}
	f := reactionForm{string(r.Kind), lengthText(r.Lasts), strconv.Itoa(r.Most), r.Direction, r.Match, r.Value, "10", r.DryRun}
	if r.Divisor > 0 {
		f.Divisor = strconv.Itoa(r.Divisor)
	}
	return f
}

// read takes what the form says; no kind is no reaction.
func (f *reactionForm) read(q url.Values) (*rule.Reaction, error) {
	get := func(k string) string { return strings.TrimSpace(strings.ToValidUTF8(q.Get("reaction_"+k), "")) }
	*f = reactionForm{get("kind"), get("lasts"), get("most"), get("direction"), get("match"), get("value"), get("divisor"), get("dry") != ""}
	if f.Kind == "" {
		return nil, nil
	}
	bad := func(problem string) error { return &rule.InvalidError{Field: "reaction", Problem: problem} }
	r := &rule.Reaction{Kind: rule.ReactionKind(f.Kind), DryRun: f.DryRun, Direction: f.Direction, Match: f.Match, Value: f.Value}
	var err error
	if r.Lasts, err = time.ParseDuration(strings.ReplaceAll(f.Lasts, " ", "")); err != nil {
		return nil, bad("must last a length of time such as 30m or 2h")
	}
	if r.Most, err = strconv.Atoi(f.Most); err != nil {
		return nil, bad("needs a number as its limit")
	}
	if r.Kind != rule.Tighten {
		return r, nil
	}
	if r.Divisor, err = strconv.Atoi(f.Divisor); err != nil {
		return nil, bad("needs the number that limits are divided by")
	}
	return r, nil
}

// reactionsView is reactions with where somebody may undo them.
type reactionsView struct {
	Items []alerting.Reaction
	May   func(workspace uuid.UUID) bool
}

func (s *pages) reactionsView(c echo.Context, f alerting.AlertFilter, alert uuid.UUID) (reactionsView, error) {
	list, err := s.alerts.Reactions(c.Request().Context(), f, alert)
	return reactionsView{list, func(w uuid.UUID) bool { return s.mayAlert(c, identity.AlertsAct, w) }}, err
}

func (s *pages) getReactions(c echo.Context) error {
	v, err := s.reactionsView(c, s.alertFilter(c), uuid.Nil)
	if err != nil {
		return s.alertFailure(c, err)
	}
	p := s.frame(c, "alerts")
	s.flash(c, p)
	return s.render(c, http.StatusOK, reactionsPage(p, v))
}

// reactionView is one reaction.
type reactionView struct {
	alerting.Reaction
	Mails  []alerting.Touch
	CanAct bool
	Wrong  string
}

func (s *pages) getReaction(c echo.Context) error { return s.showReaction(c, http.StatusOK, "") }

func (s *pages) showReaction(c echo.Context, status int, wrong string) error {
	id, err := paramID(c)
	if err != nil {
		return s.failure(c, err)
	}
	shown, err := shownReaction(c.Request().Context(), s.alerts, s.person(c).principal, id)
	if err != nil {
		return s.alertFailure(c, err)
	}
	v := reactionView{shown.Body.Reaction, shown.Body.Mails, s.mayAlert(c, identity.AlertsAct, shown.Body.Workspace), wrong}
	p := s.frame(c, "alerts")
	s.flash(c, p)
	return s.render(c, status, reactionPage(p, v))
}

func (s *pages) postReactionUndo(c echo.Context) error {
	id, err := paramID(c)
	if err != nil {
		return s.failure(c, err)
	}
	x, err := s.alerts.Reaction(c.Request().Context(), s.alertFilter(c), id)
	if err == nil && !s.mayAlert(c, identity.AlertsAct, x.Workspace) {
		err = alerting.ErrNotFound
	}
	if err == nil {
		err = s.alerts.UndoReaction(c.Request().Context(), s.alertPerson(c), id, strings.ToValidUTF8(c.FormValue("reason"), ""))
	}
	p := s.frame(c, "alerts")
	switch {
	case errors.Is(err, alerting.ErrReasonRequired):
		return s.showReaction(c, http.StatusUnprocessableEntity, p.T("act.wrong.reason"))
	case errors.Is(err, alerting.ErrConflict):
		return s.showReaction(c, http.StatusConflict, p.T("alert.react.wrong.over"))
	case err != nil:
		return s.alertFailure(c, err)
	}
	return s.done(c, "flash.alert.undone", "/alerts/reactions/"+id.String())
}

// postReact begins the reaction of an alert's rule by hand.
func (s *pages) postReact(c echo.Context) error {
	id, err := paramID(c)
	if err != nil {
		return s.failure(c, err)
	}
	a, err := s.alerts.Alert(c.Request().Context(), s.alertFilter(c), id)
	if err != nil {
		return s.alertFailure(c, err)
	}
	n, err := reactionFor(s.person(c).principal, a, c.FormValue("dry") != "")
	var begun uuid.UUID
	if err == nil {
		begun, err = s.alerts.StartReaction(c.Request().Context(), s.alertPerson(c), n, strings.ToValidUTF8(c.FormValue("reason"), ""))
	}
	p := s.frame(c, "alerts")
	var invalid *rule.InvalidError
	switch {
	case errors.Is(err, alerting.ErrReasonRequired):
		return s.showAlert(c, http.StatusUnprocessableEntity, p.T("act.wrong.reason"))
	case errors.Is(err, alerting.ErrRunning):
		return s.showAlert(c, http.StatusConflict, p.T("alert.react.wrong.running"))
	case errors.As(err, &invalid):
		return s.showAlert(c, http.StatusUnprocessableEntity, p.T("alert.field.reaction")+": "+invalid.Problem)
	case err != nil:
		return s.alertFailure(c, err)
	}
	return s.done(c, "flash.alert.begun", "/alerts/reactions/"+begun.String())
}

// reactionMail is the mail that a reaction is about, in words.
func (p *frame) reactionMail(direction, match, value, domain string) string {
	out := p.T("alert.react.mail." + direction)
	if domain != "" {
		out = p.T("alert.react.domain", out, plain(domain, 255))
	}
	switch match {
	case policy.MatchSender, policy.MatchDomain:
		return p.T("alert.react.from", out, plain(value, 320))
	case policy.MatchSubject:
		return p.T("alert.react.subject", out, plain(value, 320))
	}
	return out
}

// reactionSentence says what a rule does besides telling people.
func (p *frame) reactionSentence(s rule.Spec) string {
	r := s.Reaction
	if r == nil {
		return ""
	}
	domain := ""
	if m, _ := rule.MetricNamed(s.Metric); s.Each && m.Of == "domain" {
		domain = p.T("alert.react.thedomain")
	}
	return " " + p.reactionDoes(r.Kind, r.Direction, r.Match, r.Value, domain, r.Divisor) + " " + p.T("alert.react.bounds", p.Span(r.Lasts), p.Int(int64(r.Most))) + p.tried(r.DryRun)
}

func (p *frame) tried(dry bool) string {
	if dry {
		return " " + p.T("alert.react.dry")
	}
	return ""
}

// reactionDoes is what a reaction does, in a sentence.
func (p *frame) reactionDoes(kind rule.ReactionKind, direction, match, value, domain string, divisor int) string {
	switch kind {
	case rule.Lock, rule.Sandbox:
		if direction == "" {
			direction = "inbound"
		}
		return p.T("alert.react.do."+string(kind), p.reactionMail(direction, match, value, domain))
	case rule.Tighten:
		return p.T("alert.react.do.tighten", p.Int(int64(max(divisor, 2))))
	}
	if domain != "" {
		return p.T("alert.react.do.pause.domain", plain(domain, 255))
	}
	return p.T("alert.react.do.pause")
}

// does is the sentence of a reaction that was begun.
func (p *frame) does(x alerting.Reaction) string {
	return p.reactionDoes(x.Kind, x.Direction, x.Match, x.Value, x.Domain, x.Divisor) + p.tried(x.DryRun)
}

// touched says how much a reaction has done, or would have.
func (p *frame) touched(x alerting.Reaction) string {
	n, most := p.Int(int64(x.Touched)), p.Int(int64(x.Most))
	if x.DryRun {
		return p.T("alert.react.would."+string(x.Kind), n, most)
	}
	return p.T("alert.react.touched."+string(x.Kind), n, most)
}

// reactionState is the word for how a reaction stands, and its tone.
func reactionState(p *frame, x alerting.Reaction) (word, tone string) {
	switch {
	case x.Active(p.Now) && !x.FullAt.IsZero():
		return "full", "warn"
	case x.Active(p.Now) && x.DryRun:
		return "dry", "info"
	case x.Active(p.Now):
		return "active", "crit"
	case x.EndKind == "undo":
		return "undone", "none"
	}
	return "over", "none"
}

// lockedMail is the address of the mails that a lock holds; "": it holds none.
func lockedMail(x alerting.Reaction) string {
	if x.Kind != rule.Lock || x.DryRun || x.Touched == 0 {
		return ""
	}
	return listLink{path: "/quarantine"}.with("symbol", policy.LockName(x.ID))
}

func reactionOptions(p *frame) []option {
	return append([]option{{"", p.T("alert.react.kind.none")}}, optionsOf(rule.ReactionKinds(), func(x string) string { return p.word("alert.react.kind", x) })...)
}

func directionOptions(p *frame) []option {
	return optionsOf(rule.Directions(), func(x string) string { return p.word("alert.react.direction", x) })
}

func reactionMatchOptions(p *frame) []option {
	return optionsOf(rule.ReactionMatches(), func(x string) string {
		if x == "" {
			return p.T("alert.react.match.all")
		}
		return p.word("alert.react.match", x)
	})
}
