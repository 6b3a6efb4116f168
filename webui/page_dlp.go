package webui

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/audit"
	"mailward/internal/pg"
	"mailward/policy"
	"mailward/scanner/dlp"
)

// leaks are the sets of DLP rules.
type leaks interface {
	Sets(ctx context.Context) ([]dlp.Set, error)
	Get(ctx context.Context, id uuid.UUID) (dlp.Set, error)
	Create(ctx context.Context, actor pg.Actor, x dlp.Set) (dlp.Set, error)
	Update(ctx context.Context, actor pg.Actor, x dlp.Set, version *int64) (dlp.Set, error)
	Delete(ctx context.Context, actor pg.Actor, id uuid.UUID) error
	AddFingerprint(ctx context.Context, actor pg.Actor, set uuid.UUID, d dlp.Document) (dlp.Fingerprint, error)
	DeleteFingerprint(ctx context.Context, actor pg.Actor, set, id uuid.UUID) error
	Test(ctx context.Context, text string, want func(dlp.Set) bool) (dlp.Tested, error)
}

const dlpPath = "/policies/dlp"

// maxTestText bounds what the test box takes.
const maxTestText = 256 << 10

func (s *pages) registerDLP(r router) {
	const change = "dlp.set.update" // by the triggers
	r.page(http.MethodGet, dlpPath, rightViewMeta, audit.PageView, s.getDLP)
	r.page(http.MethodGet, dlpPath+"/new", rightPolicyWrite, audit.PageView, s.getDLPNew)
	r.page(http.MethodPost, dlpPath+"/new", rightPolicyWrite, change, s.postDLPNew)
	r.page(http.MethodPost, dlpPath+"/test", rightViewMeta, audit.PageView, s.postDLPTest)
	r.page(http.MethodGet, dlpPath+"/:id", rightViewMeta, audit.PageView, s.getDLPSet)
	r.page(http.MethodPost, dlpPath+"/:id", rightPolicyWrite, change, s.postDLPSet)
	r.page(http.MethodPost, dlpPath+"/:id/delete", rightPolicyWrite, change, s.postDLPDelete)
	r.page(http.MethodPost, dlpPath+"/:id/documents", rightPolicyWrite, change, s.postDLPDocument)
	r.page(http.MethodPost, dlpPath+"/:id/documents/:document/delete", rightPolicyWrite, change, s.postDLPForget)
}

// dlpView is the list of sets, with the test box.
type dlpView struct {
	Query, State string // state: on, off or ""
	Items        []dlp.Set
	All          int // sets there are, whatever the filter
	Test         *dlp.Tested
	Text         string // that was tested
	MayWrite     bool
}

func (v dlpView) stateOptions(p *frame) []option {
	return []option{{"", p.T("dlp.state.all")}, {"on", p.T("dlp.on")}, {"off", p.T("dlp.off")}}
}

func (v dlpView) shows(x dlp.Set) bool {
	text := strings.ToLower(x.Name + "\n" + x.Description + "\n" + strings.Join(x.Rules.Keywords, "\n"))
	return strings.Contains(text, strings.ToLower(v.Query)) && (v.State == "" || (v.State == "on") == x.Enabled)
}

func (s *pages) getDLP(c echo.Context) error { return s.showDLP(c, http.StatusOK, dlpView{}) }

func (s *pages) showDLP(c echo.Context, status int, v dlpView) error {
	q, who := c.QueryParams(), s.person(c)
	v.Query, v.MayWrite = short(q.Get("q")), who.Can(rightPolicyWrite)
	if slices.Contains([]string{"on", "off"}, q.Get("state")) {
		v.State = q.Get("state")
	}
	all, err := s.leaks.Sets(c.Request().Context())
	if err != nil {
		return s.failure(c, err)
	}
	for _, x := range all {
		if !who.CanIn(rightViewMeta, x.Workspace) {
			continue
		}
		v.All++
		if v.shows(x) {
			v.Items = append(v.Items, x)
		}
	}
	p := s.frame(c, "policies")
	s.flash(c, p)
	if isFragment(c, "results") {
		return s.render(c, status, dlpResults(p, v))
	}
	return s.render(c, status, dlpPage(p, v))
}

// postDLPTest says what a text would come to. It is kept nowhere, but shown
// again in the box of the one who gave it.
func (s *pages) postDLPTest(c echo.Context) error {
	who, text := s.person(c), strings.ToValidUTF8(c.FormValue("text"), "")
	if len(text) > maxTestText {
		return s.failure(c, errBadInput)
	}
	t, err := s.leaks.Test(c.Request().Context(), text, func(x dlp.Set) bool { return who.CanIn(rightViewMeta, x.Workspace) })
	if err != nil {
		return s.failure(c, err)
	}
	return s.showDLP(c, http.StatusOK, dlpView{Test: &t, Text: text})
}

// dlpSetView is one set, and a form with what somebody was about to make of it.
type dlpSetView struct {
	dlp.Set
	New      bool
	Wrong    string // what is wrong with the form, in words
	Changed  bool   // somebody else has changed it meanwhile
	Dialog   string // delete or ""
	MayWrite bool
}

func (v dlpSetView) path() string {
	if v.New {
		return dlpPath + "/new"
	}
	return dlpPath + "/" + v.ID.String()
}

// count is what a detector's field shows.
func (v dlpSetView) count(detector, confidence string) string {
	for _, r := range v.Rules.Detectors {
		if r.Detector == detector {
			if n := map[string]int{"high": r.High, "medium": r.Medium, "low": r.Low}[confidence]; n > 0 {
				return strconv.Itoa(n)
			}
		}
	}
	return ""
}

func dlpDirections(p *frame) []option {
	return []option{{dlp.Out, p.T("dlp.direction.out")}, {dlp.In, p.T("dlp.direction.in")}, {dlp.Both, p.T("dlp.direction.both")}}
}

func dlpClasses(p *frame) []option {
	return []option{{string(policy.DLP), p.T("dlp.class.dlp")}, {"", p.T("dlp.class.sign")}}
}

func (s *pages) getDLPNew(c echo.Context) error {
	v := dlpSetView{New: true, Set: dlp.Set{Direction: dlp.Out, Enabled: true, Class: policy.DLP, Score: 5, Rules: dlp.Rules{KeywordN: 1, PatternN: 1, Similarity: dlp.DefaultSimilarity}}}
	return s.showDLPSet(c, http.StatusOK, v)
}

func (s *pages) getDLPSet(c echo.Context) error {
	x, err := s.dlpSet(c, rightViewMeta)
	if err != nil {
		return s.failure(c, err)
	}
	v := dlpSetView{Set: x}
	if c.QueryParam("act") == "delete" {
		v.Dialog = "delete"
	}
	return s.showDLPSet(c, http.StatusOK, v)
}

func (s *pages) showDLPSet(c echo.Context, status int, v dlpSetView) error {
	who := s.person(c)
	v.MayWrite = who.CanIn(rightPolicyWrite, v.Workspace)
	if v.New {
		v.MayWrite = who.Can(rightPolicyWrite)
	}
	p := s.frame(c, "policies")
	s.flash(c, p)
	return s.render(c, status, dlpSetPage(p, v))
}

// dlpSet reads the one that the path names, where the person has a right on it.
func (s *pages) dlpSet(c echo.Context, right string) (dlp.Set, error) {
	id, err := paramID(c)
	if err != nil {
		return dlp.Set{}, err
	}
	x, err := s.leaks.Get(c.Request().Context(), id)
	if err == nil && !s.person(c).CanIn(right, x.Workspace) {
		err = dlp.ErrNotFound
	}
	return x, err
}

func (s *pages) postDLPNew(c echo.Context) error {
	x, _, err := dlpForm(c, dlp.Set{})
	if err != nil {
		return s.failure(c, err)
	}
	who := s.person(c)
	var may bool
	if x.Workspace, may = who.Target(rightPolicyWrite); !may {
		return s.fail(c, http.StatusForbidden, nil)
	}
	made, err := s.leaks.Create(c.Request().Context(), who.Actor, x)
	if wrong, ok := dlpMistake(err); ok {
		return s.showDLPSet(c, http.StatusUnprocessableEntity, dlpSetView{Set: x, New: true, Wrong: wrong})
	}
	if err != nil {
		return s.failure(c, err)
	}
	return s.done(c, "flash.dlp.saved", dlpPath+"/"+made.ID.String())
}

func (s *pages) postDLPSet(c echo.Context) error {
	old, err := s.dlpSet(c, rightPolicyWrite)
	if err != nil {
		return s.failure(c, err)
	}
	x, version, err := dlpForm(c, old)
	if err != nil {
		return s.failure(c, err)
	}
	_, err = s.leaks.Update(c.Request().Context(), s.person(c).Actor, x, &version)
	if errors.Is(err, dlp.ErrConflict) { // What was typed is shown; saved again, it wins.
		return s.showDLPSet(c, http.StatusConflict, dlpSetView{Set: x, Changed: true})
	}
	if wrong, ok := dlpMistake(err); ok {
		x.Version = version
		return s.showDLPSet(c, http.StatusUnprocessableEntity, dlpSetView{Set: x, Wrong: wrong})
	}
	if err != nil {
		return s.failure(c, err)
	}
	return s.done(c, "flash.dlp.saved", dlpPath+"/"+x.ID.String())
}

// dlpMistake is an error that the person who filled in the form can mend.
func dlpMistake(err error) (string, bool) {
	var invalid *policy.InvalidError
	switch {
	case errors.As(err, &invalid):
		return invalid.Error(), true
	case errors.Is(err, dlp.ErrExists), errors.Is(err, dlp.ErrFull):
		return publicText(err), true
	}
	return "", false
}

// dlpForm reads the editor's form over a set, and the version that it began with.
func dlpForm(c echo.Context, x dlp.Set) (dlp.Set, int64, error) {
	form, err := c.FormParams()
	if err != nil {
		return x, 0, errBadInput
	}
	x.Name, x.Description, x.Direction = form.Get("name"), form.Get("description"), form.Get("direction")
	x.Enabled, x.Class = form.Get("enabled") == "yes", policy.Class(form.Get("class"))
	if x.Score, err = strconv.ParseFloat(strings.Replace(form.Get("score"), ",", ".", 1), 64); err != nil {
		x.Score = -1 // the store says what it may be
	}
	x.Rules = dlp.Rules{All: form.Get("match") == "all", Keywords: lines(form.Get("keywords")), Patterns: lines(form.Get("patterns")),
		KeywordN: countOf(form, "keyword_min"), PatternN: countOf(form, "pattern_min"), Similarity: countOf(form, "similarity")}
	for _, d := range dlp.Detectors() {
		r := dlp.DetectorRule{Detector: d.Name, High: countOf(form, "high:"+d.Name), Medium: countOf(form, "medium:"+d.Name), Low: countOf(form, "low:"+d.Name)}
		if r.High != 0 || r.Medium != 0 || r.Low != 0 {
			x.Rules.Detectors = append(x.Rules.Detectors, r)
		}
	}
	version, err := strconv.ParseInt(form.Get("version"), 10, 64)
	if err != nil {
		version = 0
	}
	return x, version, nil
}

// countOf is a number of a form: 0 where there is none, -1 where it is no number.
func countOf(form url.Values, name string) int {
	v := strings.TrimSpace(form.Get(name))
	if v == "" {
		return 0
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		return -1
	}
	return n
}

// lines are the lines of a text box that say something.
func lines(s string) (list []string) {
	for l := range strings.Lines(s) {
		if l = strings.TrimSpace(l); l != "" {
			list = append(list, l)
		}
	}
	return list
}

func (s *pages) postDLPDelete(c echo.Context) error {
	x, err := s.dlpSet(c, rightPolicyWrite)
	if err == nil {
		err = s.leaks.Delete(c.Request().Context(), s.person(c).Actor, x.ID)
	}
	if err != nil {
		return s.failure(c, err)
	}
	return s.done(c, "flash.dlp.deleted", dlpPath)
}

// postDLPDocument teaches a set a document: a file, a text, or both.
func (s *pages) postDLPDocument(c echo.Context) error {
	x, err := s.dlpSet(c, rightPolicyWrite)
	if err != nil {
		return s.failure(c, err)
	}
	d := dlp.Document{Name: c.FormValue("name"), Text: strings.ToValidUTF8(c.FormValue("text"), ""), SHA256: c.FormValue("sha256")}
	if up, err := c.FormFile("file"); err == nil && up.Size > 0 {
		f, err := up.Open()
		if err != nil {
			return s.failure(c, errBadInput)
		}
		defer f.Close()
		if d.File, err = io.ReadAll(f); err != nil {
			return s.failure(c, errBadInput)
		}
		if strings.TrimSpace(d.Name) == "" {
			d.Name = short(up.Filename)
		}
	}
	_, err = s.leaks.AddFingerprint(c.Request().Context(), s.person(c).Actor, x.ID, d)
	if wrong, ok := dlpMistake(err); ok {
		return s.showDLPSet(c, http.StatusUnprocessableEntity, dlpSetView{Set: x, Wrong: wrong})
	}
	if err != nil {
		return s.failure(c, err)
	}
	return s.done(c, "flash.dlp.document", dlpPath+"/"+x.ID.String())
}

func (s *pages) postDLPForget(c echo.Context) error {
	x, err := s.dlpSet(c, rightPolicyWrite)
	if err != nil {
		return s.failure(c, err)
	}
	doc, err := uuid.Parse(c.Param("document"))
	if err != nil {
		return s.failure(c, dlp.ErrNotFound)
	}
	if err := s.leaks.DeleteFingerprint(c.Request().Context(), s.person(c).Actor, x.ID, doc); err != nil {
		return s.failure(c, err)
	}
	return s.done(c, "flash.dlp.forgotten", dlpPath+"/"+x.ID.String())
}
