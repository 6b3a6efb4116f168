package webui

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/internal/pg"
	"mailward/policy"
	"mailward/scanner"
	"mailward/scanner/ruleset"
)

// rightRulesRead and rightRulesWrite are about YARA rule sets.
const (
	rightRulesRead  = "rules_read"
	rightRulesWrite = "rules_write"
)

// ruleSets is package ruleset as the pages use it.
type ruleSets interface {
	List(ctx context.Context) ([]ruleset.Set, error)
	Get(ctx context.Context, id uuid.UUID) (ruleset.Set, error)
	Versions(ctx context.Context, id uuid.UUID) ([]ruleset.SetVersion, error)
	Source(ctx context.Context, id uuid.UUID, number int) (ruleset.SetVersion, error)
	Check(ctx context.Context, id uuid.UUID, d ruleset.Draft) (scanner.Compiled, error)
	Create(ctx context.Context, actor pg.Actor, d ruleset.Draft) (ruleset.Set, scanner.Compiled, error)
	Update(ctx context.Context, actor pg.Actor, id uuid.UUID, version int64, d ruleset.Draft) (ruleset.Set, scanner.Compiled, error)
	Use(ctx context.Context, actor pg.Actor, id uuid.UUID, version int64, number int) (ruleset.Set, error)
	Enable(ctx context.Context, actor pg.Actor, id uuid.UUID, version int64, on bool) (ruleset.Set, error)
	Delete(ctx context.Context, actor pg.Actor, id uuid.UUID, version int64) error
	Slow(ctx context.Context) ([]ruleset.SlowCount, error)
	Status(ctx context.Context) (ruleset.RulesStatus, error)
	SwitchFile(ctx context.Context, actor pg.Actor, space string, on bool, reason string) error
	StartBacktest(ctx context.Context, actor pg.Actor, id uuid.UUID, number, mails int, workspaces []uuid.UUID) (ruleset.Backtest, error)
	Backtest(ctx context.Context, id uuid.UUID) (ruleset.Backtest, error)
	Backtests(ctx context.Context, set uuid.UUID) ([]ruleset.Backtest, error)
}

// rulesView is the list of sets.
type rulesView struct {
	Query, State string
	All          int
	Sets         []ruleset.Set
	Slow         []ruleset.SlowCount
	Status       ruleset.RulesStatus
}

var ruleStates = []string{"all", "enabled", "disabled"}

func (v rulesView) stateOptions(p *frame) (out []option) {
	for _, s := range ruleStates {
		out = append(out, option{s, p.T("rules.state." + s)})
	}
	return out
}

// slow is how often rules of a set took too long.
func (v rulesView) slow(id uuid.UUID) (n int64) {
	for _, x := range slowOf(v.Slow, id) {
		n += x.Times
	}
	return n
}

// fileSlow is how often rules of a file took too long.
func (v rulesView) fileSlow(space string) (n int64) {
	for _, x := range v.Slow {
		if x.Space == space {
			n += x.Times
		}
	}
	return n
}

func (s *pages) getRules(c echo.Context) error {
	q, ctx := c.QueryParams(), c.Request().Context()
	v := rulesView{Query: short(q.Get("q")), State: "all"}
	if slices.Contains(ruleStates, q.Get("state")) {
		v.State = q.Get("state")
	}
	list, err := s.rules.List(ctx)
	if err != nil {
		return s.failure(c, err)
	}
	v.All = len(list)
	for _, set := range list {
		if (v.State == "all" || (v.State == "enabled") == set.Enabled) && setMatches(set, v.Query) {
			v.Sets = append(v.Sets, set)
		}
	}
	if v.Slow, err = s.rules.Slow(ctx); err != nil {
		return s.failure(c, err)
	}
	p := s.frame(c, "rules")
	if isFragment(c, "results") {
		return s.render(c, http.StatusOK, rulesResults(p, v))
	}
	if v.Status, err = s.rules.Status(ctx); err != nil {
		return s.failure(c, err)
	}
	return s.render(c, http.StatusOK, rulesPage(p, v))
}

// setMatches says whether a set's name, description or one of its rules has the text.
func setMatches(set ruleset.Set, query string) bool {
	for _, text := range append([]string{set.Name, set.Description}, set.Rules...) {
		if strings.Contains(strings.ToLower(text), strings.ToLower(query)) {
			return true
		}
	}
	return false
}

// rulesForm is what somebody typed.
type rulesForm struct {
	Name, Description, Class, Score, Source, Comment string
	Version                                          int64 // of the set, as it was when the form was made
}

// ruleEditor is one set, or a new one.
type ruleEditor struct {
	Set       ruleset.Set // without an id: a new one
	Form      rulesForm
	Number    int               // of the version whose source the form began with
	Wrong     map[string]string // field -> key of a text
	Problem   string            // key of a text about all of it
	Checked   *scanner.Compiled // nil: not checked
	Versions  []ruleset.SetVersion
	Backtests []ruleset.Backtest
	Slow      []ruleset.SlowCount
	Dialog    string
	MayTry    bool // held mails of some workspace
}

// IsNew says whether there is no such set yet.
func (v ruleEditor) IsNew() bool { return v.Set.ID == uuid.Nil }

func (v ruleEditor) base() string {
	if v.IsNew() {
		return "/yara"
	}
	return "/yara/" + v.Set.ID.String()
}

func (v ruleEditor) check() string {
	if v.IsNew() {
		return "/yara/check"
	}
	return v.base() + "/check"
}

// line is a line of the source, for showing it beside an issue.
func (v ruleEditor) line(n int) string {
	for i, l := 1, v.Form.Source; n > 0; i++ {
		text, rest, more := strings.Cut(l, "\n")
		if i == n {
			return plain(text, 160)
		}
		if !more {
			break
		}
		l = rest
	}
	return ""
}

func ruleClassOptions(p *frame) (out []option) {
	for _, c := range scanner.RuleClasses() {
		out = append(out, option{string(c), p.word("class", string(c))})
	}
	return out
}

func (s *pages) getNewRules(c echo.Context) error {
	return s.showRules(c, http.StatusOK, ruleEditor{Form: rulesForm{Class: string(policy.Suspicious), Score: "5"}})
}

func (s *pages) getRuleSet(c echo.Context) error {
	set, err := s.ruleSet(c)
	if err != nil {
		return s.failure(c, err)
	}
	v, err := s.editor(c, set, pageNumberOr(c.QueryParam("version"), set.Latest))
	if err != nil {
		return s.failure(c, err)
	}
	if slices.Contains([]string{"delete", "backtest"}, c.QueryParam("act")) {
		v.Dialog = c.QueryParam("act")
	}
	return s.showRules(c, http.StatusOK, v)
}

func pageNumberOr(text string, dflt int) int {
	if text == "" {
		return dflt
	}
	return pageNumber(text)
}

func (s *pages) ruleSet(c echo.Context) (ruleset.Set, error) {
	id, err := paramID(c)
	if err != nil {
		return ruleset.Set{}, ruleset.ErrNotFound
	}
	return s.rules.Get(c.Request().Context(), id)
}

// editor is a set with the source of one version in its form.
func (s *pages) editor(c echo.Context, set ruleset.Set, number int) (ruleEditor, error) {
	src, err := s.rules.Source(c.Request().Context(), set.ID, number)
	if err != nil {
		return ruleEditor{}, err
	}
	return ruleEditor{Set: set, Number: number, Form: rulesForm{Name: set.Name, Description: set.Description, Class: string(set.Class),
		Score: strconv.FormatFloat(set.Score, 'f', -1, 64), Source: src.Source, Version: set.Version}}, nil
}

// showRules shows the editor with what is known of the set.
func (s *pages) showRules(c echo.Context, status int, v ruleEditor) (err error) {
	ctx, who := c.Request().Context(), s.person(c)
	v.MayTry = len(who.WorkspacesWith(rightViewBody)) > 0
	if !v.IsNew() {
		if v.Versions, err = s.rules.Versions(ctx, v.Set.ID); err != nil {
			return s.failure(c, err)
		}
		if v.Backtests, err = s.rules.Backtests(ctx, v.Set.ID); err != nil {
			return s.failure(c, err)
		}
		slow, err := s.rules.Slow(ctx)
		if err != nil {
			return s.failure(c, err)
		}
		v.Slow = slowOf(slow, v.Set.ID)
	}
	return s.render(c, status, ruleEditorPage(s.frame(c, "rules"), v))
}

// readRules reads the form. A file that came with it is the source.
func readRules(c echo.Context) (rulesForm, error) {
	if _, err := c.FormParams(); err != nil {
		return rulesForm{}, fmt.Errorf("%w: %w", errBadInput, err)
	}
	f := rulesForm{Name: short(c.FormValue("name")), Description: strings.TrimSpace(strings.ToValidUTF8(c.FormValue("description"), "")), Class: c.FormValue("class"),
		Score: strings.TrimSpace(c.FormValue("score")), Source: strings.ReplaceAll(c.FormValue("source"), "\r\n", "\n"), Comment: short(c.FormValue("comment"))}
	f.Version, _ = strconv.ParseInt(c.FormValue("version"), 10, 64) // none is that of no set
	file, err := c.FormFile("file")
	if errors.Is(err, http.ErrMissingFile) || errors.Is(err, http.ErrNotMultipart) || err == nil && file.Size == 0 {
		return f, nil
	}
	if err != nil {
		return f, fmt.Errorf("%w: %w", errBadInput, err)
	}
	r, err := file.Open()
	if err != nil {
		return f, fmt.Errorf("read uploaded rules: %w", err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, scanner.MaxRuleSource+1))
	if err != nil {
		return f, fmt.Errorf("read uploaded rules: %w", err)
	}
	f.Source = strings.ReplaceAll(string(b), "\r\n", "\n")
	if f.Name == "" {
		f.Name = short(strings.TrimSuffix(strings.TrimSuffix(file.Filename, ".yar"), ".yara"))
	}
	return f, nil
}

func (f rulesForm) draft() (ruleset.Draft, map[string]string) {
	d := ruleset.Draft{Name: f.Name, Description: f.Description, Class: policy.Class(f.Class), Source: f.Source, Comment: f.Comment}
	score, err := strconv.ParseFloat(strings.Replace(cmp.Or(f.Score, "x"), ",", ".", 1), 64)
	if err != nil {
		return d, map[string]string{"score": "rules.wrong.score"}
	}
	d.Score = score
	return d, nil
}

// refusedRules shows the form again, with what is wrong with it; false: the error
// is none of a form.
func refusedRules(v *ruleEditor, err error) (status int, ok bool) {
	var broken *ruleset.BrokenError
	var invalid *policy.InvalidError
	switch {
	case errors.As(err, &broken):
		v.Checked, v.Problem = &broken.Compiled, "rules.broken"
	case errors.As(err, &invalid):
		v.Wrong = map[string]string{invalid.Field: "rules.wrong." + invalid.Field}
	case errors.Is(err, ruleset.ErrExists):
		v.Wrong = map[string]string{"name": "rules.wrong.exists"}
	case errors.Is(err, ruleset.ErrConflict):
		v.Problem = "rules.conflict"
		return http.StatusConflict, true
	case errors.Is(err, ruleset.ErrTooMany):
		v.Problem = "rules.toomany"
	case errors.Is(err, ruleset.ErrBusy):
		v.Problem = "rules.busy"
	case errors.Is(err, scanner.ErrUnavailable):
		v.Problem = "rules.noscanner"
		return http.StatusServiceUnavailable, true
	default:
		return 0, false
	}
	return http.StatusUnprocessableEntity, true
}

// filled reads the form over what is stored.
func (s *pages) filled(c echo.Context, set ruleset.Set) (v ruleEditor, d ruleset.Draft, err error) {
	v = ruleEditor{Set: set, Number: set.Latest}
	if v.Form, err = readRules(c); err != nil {
		return v, d, err
	}
	d, v.Wrong = v.Form.draft()
	if !utf8.ValidString(v.Form.Source) {
		v.Form.Source, v.Wrong = strings.ToValidUTF8(v.Form.Source, "\uFFFD"), map[string]string{"source": "rules.wrong.source"}
	}
	return v, d, nil
}

func (s *pages) postNewRules(c echo.Context) error {
	v, d, err := s.filled(c, ruleset.Set{})
	if err != nil {
		return s.failure(c, err)
	}
	if v.Wrong != nil {
		return s.showRules(c, http.StatusUnprocessableEntity, v)
	}
	set, _, err := s.rules.Create(c.Request().Context(), s.person(c).Actor, d)
	if status, ok := refusedRules(&v, err); ok {
		return s.showRules(c, status, v)
	}
	if err != nil {
		return s.failure(c, err)
	}
	return s.done(c, "flash.rules.created", "/yara/"+set.ID.String())
}

func (s *pages) postRuleSet(c echo.Context) error {
	set, err := s.ruleSet(c)
	if err != nil {
		return s.failure(c, err)
	}
	v, d, err := s.filled(c, set)
	if err != nil {
		return s.failure(c, err)
	}
	if v.Wrong != nil {
		return s.showRules(c, http.StatusUnprocessableEntity, v)
	}
	d.Later = c.FormValue("do") == "later"
	_, _, err = s.rules.Update(c.Request().Context(), s.person(c).Actor, set.ID, v.Form.Version, d)
	if status, ok := refusedRules(&v, err); ok {
		return s.showRules(c, status, v)
	}
	if err != nil {
		return s.failure(c, err)
	}
	return s.done(c, "flash.rules.saved", v.base())
}

// postRulesCheck compiles what is in the form, and stores nothing.
func (s *pages) postRulesCheck(c echo.Context) error {
	var set ruleset.Set
	if c.Param("id") != "" {
		var err error
		if set, err = s.ruleSet(c); err != nil {
			return s.failure(c, err)
		}
	}
	v, d, err := s.filled(c, set)
	if err != nil {
		return s.failure(c, err)
	}
	if v.Wrong != nil {
		return s.showRules(c, http.StatusUnprocessableEntity, v)
	}
	checked, err := s.rules.Check(c.Request().Context(), set.ID, d)
	if status, ok := refusedRules(&v, err); ok {
		return s.showRules(c, status, v)
	}
	if err != nil {
		return s.failure(c, err)
	}
	v.Checked = &checked
	return s.showRules(c, http.StatusOK, v)
}

// ruleAct does one of the acts that are a button, and shows why it was not done.
func (s *pages) ruleAct(c echo.Context, flash string, do func(ctx context.Context, actor pg.Actor, set ruleset.Set, version int64) (to string, err error)) error {
	set, err := s.ruleSet(c)
	if err != nil {
		return s.failure(c, err)
	}
	version, err := strconv.ParseInt(c.FormValue("version"), 10, 64)
	if err != nil {
		return s.failure(c, fmt.Errorf("%w: version: %w", errBadInput, err))
	}
	to, err := do(c.Request().Context(), s.person(c).Actor, set, version)
	if err == nil {
		return s.done(c, flash, to)
	}
	v, eerr := s.editor(c, set, set.Latest)
	if eerr != nil {
		return s.failure(c, eerr)
	}
	if status, ok := refusedRules(&v, err); ok {
		return s.showRules(c, status, v)
	}
	return s.failure(c, err)
}

func (s *pages) postRulesEnable(c echo.Context) error {
	on := c.FormValue("on") == "yes"
	flash := "flash.rules.disabled"
	if on {
		flash = "flash.rules.enabled"
	}
	return s.ruleAct(c, flash, func(ctx context.Context, actor pg.Actor, set ruleset.Set, version int64) (string, error) {
		_, err := s.rules.Enable(ctx, actor, set.ID, version, on)
		return "/yara/" + set.ID.String(), err
	})
}

func (s *pages) postRulesUse(c echo.Context) error {
	return s.ruleAct(c, "flash.rules.used", func(ctx context.Context, actor pg.Actor, set ruleset.Set, version int64) (string, error) {
		_, err := s.rules.Use(ctx, actor, set.ID, version, pageNumber(c.FormValue("number")))
		return "/yara/" + set.ID.String(), err
	})
}

func (s *pages) postRulesDelete(c echo.Context) error {
	return s.ruleAct(c, "flash.rules.deleted", func(ctx context.Context, actor pg.Actor, set ruleset.Set, version int64) (string, error) {
		return "/yara", s.rules.Delete(ctx, actor, set.ID, version)
	})
}

// rulesTone colours whether what should be in force is.
func rulesTone(st ruleset.RulesStatus) string {
	switch {
	case !st.Shared && st.Sets == 0:
		return "none"
	case !st.Shared || st.Late || st.Problem != "" || st.Refused != "":
		return "warn"
	case !st.Current():
		return "info"
	}
	return "ok"
}

// rulesText says it in words, as a key of the catalogue.
func rulesText(st ruleset.RulesStatus) string {
	switch {
	case !st.Shared:
		return "rules.status.notshared"
	case st.InForce == "":
		return "rules.status.unknown"
	case st.Late || st.Problem != "" || st.Refused != "":
		return "rules.status.late"
	case !st.Current():
		return "rules.status.takingover"
	}
	return "rules.status.current"
}

func (v ruleEditor) title(p *frame) string {
	if v.IsNew() {
		return p.T("rules.new")
	}
	return plain(v.Set.Name, 100)
}

// numbers are the versions that can be tried.
func (v ruleEditor) numbers(p *frame) (out []option) {
	for _, x := range v.Versions {
		out = append(out, option{strconv.Itoa(x.Number), p.T("rules.v", strconv.Itoa(x.Number))})
	}
	return out
}

func (v ruleEditor) slowName(p *frame, s ruleset.SlowCount) string {
	return plain(cmp.Or(s.Rule, p.T("rules.slow.some")), 120)
}

// ruleLimit is how long the text of a field may be.
func ruleLimit(field string) string {
	return map[string]string{"name": "100", "description": "2000", "score": "10", "comment": "500"}[field]
}
