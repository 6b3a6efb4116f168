package webui

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/internal/pg"
	"mailward/scanner/ruleset"
)

// postRulesBacktest asks for a trial on mails that the person may look into.
func (s *pages) postRulesBacktest(c echo.Context) error {
	who := s.person(c)
	return s.ruleAct(c, "", func(ctx context.Context, actor pg.Actor, set ruleset.Set, _ int64) (string, error) {
		mails := 0
		if c.FormValue("mails") != "" && c.FormValue("mails") != "0" {
			mails = min(pageNumber(c.FormValue("mails")), ruleset.MaxBacktestMails)
		}
		b, err := s.rules.StartBacktest(ctx, actor, set.ID, pageNumberOr(c.FormValue("number"), set.Latest), mails, who.WorkspacesWith(rightViewBody))
		return "/yara/" + set.ID.String() + "/backtests/" + b.ID.String(), err
	})
}

// ruleVersion is one version, beside the one in use.
type ruleVersion struct {
	Set  ruleset.Set
	This ruleset.SetVersion
	Used ruleset.SetVersion
	Diff []diffLine
}

func (s *pages) getRulesVersion(c echo.Context) error {
	set, err := s.ruleSet(c)
	if err != nil {
		return s.failure(c, err)
	}
	v := ruleVersion{Set: set}
	if v.This, err = s.rules.Source(c.Request().Context(), set.ID, pageNumber(c.Param("number"))); err != nil {
		return s.failure(c, err)
	}
	if v.Used, err = s.rules.Source(c.Request().Context(), set.ID, set.Number); err != nil {
		return s.failure(c, err)
	}
	v.Diff = sourceDiff(v.Used.Source, v.This.Source)
	return s.render(c, http.StatusOK, ruleVersionPage(s.frame(c, "rules"), v))
}

// diffAround is how many unchanged lines are shown beside a change.
const diffAround = 3

// sourceDiff compares two sources, and leaves out what lies between changes.
func sourceDiff(before, after string) []diffLine {
	if before == after {
		return nil
	}
	a, b := strings.Split(before, "\n"), strings.Split(after, "\n")
	head, tail := 0, 0
	for head < min(len(a), len(b)) && a[head] == b[head] {
		head++
	}
	for tail < min(len(a), len(b))-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	var all []diffLine
	for _, l := range a[:head] {
		all = append(all, diffLine{' ', l})
	}
	all = append(all, diffLines(a[head:len(a)-tail], b[head:len(b)-tail])...)
	for _, l := range a[len(a)-tail:] {
		all = append(all, diffLine{' ', l})
	}
	const most = 4000 // lines of one page
	var out []diffLine
	for i, l := range all {
		from, to := max(0, i-diffAround), min(len(all), i+diffAround+1)
		near := slices.ContainsFunc(all[from:to], func(x diffLine) bool { return x.Sign != ' ' })
		switch {
		case len(out) >= most:
			return append(out, diffLine{' ', "…"})
		case near:
			out = append(out, diffLine{l.Sign, plain(l.Text, 400)})
		case len(out) == 0 || out[len(out)-1].Text != "…":
			out = append(out, diffLine{' ', "…"})
		}
	}
	return out
}

// trialView is one trial, and its set.
type trialView struct {
	ruleset.Backtest
	Set    ruleset.Set
	Hits   []ruleset.MailHit // that the person may see
	Hidden int
}

func (s *pages) getBacktest(c echo.Context) error {
	set, err := s.ruleSet(c)
	if err != nil {
		return s.failure(c, err)
	}
	id, err := uuid.Parse(c.Param("backtest"))
	if err != nil {
		return s.failure(c, ruleset.ErrNotFound)
	}
	b, err := s.rules.Backtest(c.Request().Context(), id)
	if err == nil && b.SetID != set.ID {
		err = ruleset.ErrNotFound
	}
	if err != nil {
		return s.failure(c, err)
	}
	who := s.person(c)
	v := trialView{Backtest: b, Set: set, Hits: visibleHits(b.Result.Hits, func(w uuid.UUID) bool { return who.CanIn(rightViewMeta, w) })}
	v.Hidden = len(b.Result.Hits) - len(v.Hits)
	p := s.frame(c, "rules")
	if isFragment(c, "trial") {
		return s.render(c, http.StatusOK, trialBody(p, v))
	}
	return s.render(c, http.StatusOK, trialPage(p, v))
}

// trialTone colours a trial's state.
func trialTone(state string) string {
	switch state {
	case "done":
		return "ok"
	case "failed":
		return "crit"
	}
	return "info"
}

// cost says what a megabyte takes, beside the rules in force.
func (v trialView) cost(p *frame) string {
	trial, inForce := v.Result.PerMB()
	return p.T("trial.cost.text", p.Millis(float64(trial.Microseconds())/1000), p.Millis(float64(inForce.Microseconds())/1000))
}
