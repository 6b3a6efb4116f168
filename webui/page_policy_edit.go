package webui

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/internal/pg"
	"mailward/policy"
	"mailward/scanner/phishing"
)

// policyForm is one layer while somebody changes it.
type policyForm struct {
	Ref       scopeRef
	Policy    policy.Policy // as it is in the form
	Below     policy.Policy // what is inherited
	Reason    string
	Wrong     string   // sentence about what is wrong
	Changed   bool     // by somebody else meanwhile
	Conflict  []theirs // lines in which the two differ
	Sandbox   sandboxForm
	Weights   []weightRow // as typed; nil: those of the policy
	Versioned string      // version that the form was made from
}

// theirs is a line that two people have changed.
type theirs struct{ Line, Theirs, Mine string }

// sandboxForm is the sandbox line in fields; what it does not know stays.
type sandboxForm struct{ Types, Timeout, OnTimeout string }

func withReason(c echo.Context, reason string) context.Context {
	return pg.WithReason(c.Request().Context(), reason)
}

// engines are those that a form has a line for.
func (f policyForm) engines() []string {
	list := []string{policy.AnyEngine, "clamav", "yara"}
	for _, e := range slices.Sorted(maps.Keys(f.Policy.EngineFailure)) {
		if !slices.Contains(list, e) {
			list = append(list, e)
		}
	}
	return list
}

// actionOptions are the actions that a class can get; the first is what is
// inherited.
func (f policyForm) actionOptions(p *frame, c policy.Class) []option {
	for _, s := range f.Below.Settings() {
		if s.Line == policy.LineAction+string(c) {
			out := []option{{"", f.inherited(p, p.word("act", s.Value), s.Origin)}}
			for _, a := range policy.Actions() {
				out = append(out, option{string(a), p.word("act", string(a))})
			}
			return out
		}
	}
	return nil
}

func (f policyForm) inherited(p *frame, value string, o policy.Origin) string {
	return p.T("pol.inherited", value, originText(p, o))
}

func (f policyForm) engineOptions(p *frame, engine string) []option {
	value, from := "defer", f.Below.Origin(policy.LineEngine+engine)
	if a := f.Below.EngineFailure[engine]; a != "" {
		value = string(a)
	} else if a := f.Below.EngineFailure[policy.AnyEngine]; a != "" && engine != policy.AnyEngine {
		value, from = string(a), f.Below.Origin(policy.LineEngine+policy.AnyEngine)
	}
	return []option{{"", f.inherited(p, p.word("act", value), from)}, {"defer", p.word("act", "defer")}, {"quarantine", p.word("act", "quarantine")}}
}

func (f policyForm) dmarcOptions(p *frame) []option {
	value := policy.QuarantineOnly
	if f.Below.Auth != nil && f.Below.Auth.DMARC != "" {
		value = f.Below.Auth.DMARC
	}
	out := []option{{"", f.inherited(p, p.word("dmarc", string(value)), f.Below.Origin(policy.LineDMARC))}}
	for _, m := range []policy.DMARCMode{policy.Honour, policy.QuarantineOnly, policy.ReportOnly} {
		out = append(out, option{string(m), p.word("dmarc", string(m))})
	}
	return out
}

func (f policyForm) dmarc() string {
	if f.Policy.Auth == nil {
		return ""
	}
	return string(f.Policy.Auth.DMARC)
}

// sealers are the trusted ones, one a line, and whether the layer says so at all.
func (f policyForm) sealers() (text string, set bool) {
	if f.Policy.Auth == nil || f.Policy.Auth.TrustedARCSealers == nil {
		return "", false
	}
	return strings.Join(f.Policy.Auth.TrustedARCSealers, "\n"), true
}

// weightRow is a sign and what it weighs, as somebody types it.
type weightRow struct{ Name, Value string }

// knownSigns are the named signs of phishing and spam. Others, of DLP sets and
// rules, may be weighed as well: a person types their names.
var knownSigns = sync.OnceValue(func() []phishing.Symbol {
	all := phishing.Symbols()
	return slices.Concat(all.Phishing, all.Spam)
})

// standard is what a sign weighs where no policy says anything else.
func (w weightRow) standard(p *frame) string {
	for _, s := range knownSigns() {
		if s.Name == w.Name {
			return p.Float(s.Weight, 1)
		}
	}
	return ""
}

// moreSigns is how many empty rows a form offers.
const moreSigns = 3

// weightRows are what was typed, or else what the layer has, and room for more.
func (f policyForm) weightRows() []weightRow {
	rows := slices.Clone(f.Weights)
	if rows == nil {
		for _, name := range slices.Sorted(maps.Keys(f.Policy.Weights)) {
			rows = append(rows, weightRow{name, strconv.FormatFloat(f.Policy.Weights[name], 'f', -1, 64)})
		}
	}
	return append(rows, make([]weightRow, moreSigns)...)
}

func threshold(f float64) string {
	if f == 0 {
		return ""
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}

// below is the policy that a layer's missing lines come from.
func (s *pages) below(ref scopeRef) (policy.Policy, error) {
	empty := ref.layer()
	without, err := s.policies.With(empty)
	if err != nil {
		return policy.Policy{}, err
	}
	eff, _, err := without.Effective(ref.Scope)
	return eff, err
}

func (s *pages) getPolicyEdit(c echo.Context) error {
	ref, err := s.scopeOf(c, rightPolicyWrite)
	if err != nil {
		return s.failure(c, err)
	}
	ref.Address = ""
	own, err := s.policies.Layer(c.Request().Context(), ref.layer())
	if err != nil && !errors.Is(err, policy.ErrNotFound) {
		return s.failure(c, err)
	}
	return s.showPolicyForm(c, http.StatusOK, policyForm{Ref: ref, Policy: own, Versioned: strconv.FormatInt(own.Version, 10)})
}

func (s *pages) showPolicyForm(c echo.Context, status int, f policyForm) (err error) {
	if f.Below, err = s.below(f.Ref); err != nil {
		return s.failure(c, err)
	}
	f.Sandbox = readSandbox(f.Policy.Sandbox)
	return s.render(c, status, policyEditPage(s.frame(c, "policies"), f))
}

// postPolicyEdit saves a layer, or shows its form again with what was typed.
func (s *pages) postPolicyEdit(c echo.Context) error {
	f, err := s.policyInput(c)
	if err != nil {
		return s.failure(c, err)
	}
	if c.FormValue("do") == "edit" {
		return s.showPolicyForm(c, http.StatusOK, f)
	}
	if n := len([]rune(f.Reason)); f.Wrong == "" && (n < 3 || n > 500) {
		f.Wrong = s.frame(c, "policies").T("act.wrong.reason")
	}
	if f.Wrong != "" {
		return s.showPolicyForm(c, http.StatusUnprocessableEntity, f)
	}
	version := f.Policy.Version
	_, err = s.policies.PutPolicy(withReason(c, f.Reason), s.person(c).Actor, f.Policy, &version)
	var invalid *policy.InvalidError
	switch {
	case errors.As(err, &invalid):
		f.Wrong = invalid.Error()
		return s.showPolicyForm(c, http.StatusUnprocessableEntity, f)
	case errors.Is(err, policy.ErrConflict):
		return s.showConflict(c, f)
	case err != nil:
		return s.failure(c, err)
	}
	return s.done(c, "flash.policy.saved", "/policies?"+f.Ref.query())
}

// showConflict shows what somebody else has made of the layer beside what the
// person wants. Saving again puts the person's own in its place.
func (s *pages) showConflict(c echo.Context, f policyForm) error {
	now, err := s.policies.Layer(c.Request().Context(), f.Ref.layer())
	if err != nil && !errors.Is(err, policy.ErrNotFound) {
		return s.failure(c, err)
	}
	p := s.frame(c, "policies")
	mine, their := ownLines(p, f.Policy), ownLines(p, now)
	for _, line := range slices.Sorted(maps.Keys(union(mine, their))) {
		if mine[line] != their[line] {
			f.Conflict = append(f.Conflict, theirs{line, their[line], mine[line]})
		}
	}
	f.Changed, f.Policy.Version, f.Versioned = true, now.Version, strconv.FormatInt(now.Version, 10)
	return s.showPolicyForm(c, http.StatusConflict, f)
}

func union(a, b map[string]string) map[string]string {
	m := maps.Clone(a)
	maps.Copy(m, b)
	return m
}

// ownLines are the lines that a layer sets itself, in words.
func ownLines(p *frame, pol policy.Policy) map[string]string {
	m := map[string]string{}
	for _, sec := range sections(p, pol, true) {
		for _, r := range sec.Rows {
			if r.Origin.Layer != policy.LayerBuiltIn {
				m[sec.Title+": "+r.Name] = r.Value
			}
		}
	}
	return m
}

// policyInput reads the form of a layer. What cannot be read is said in Wrong.
func (s *pages) policyInput(c echo.Context) (policyForm, error) {
	params, err := c.FormParams()
	if err != nil {
		return policyForm{}, errBadInput
	}
	ref, err := s.scopeOf(c, rightPolicyWrite)
	if err != nil {
		return policyForm{}, err
	}
	ref.Address = ""
	p := s.frame(c, "policies")
	f := policyForm{Ref: ref, Policy: ref.layer(), Reason: strings.TrimSpace(strings.ToValidUTF8(c.FormValue("reason"), "")), Versioned: c.FormValue("version")}
	pol := &f.Policy
	if pol.Version, err = strconv.ParseInt(f.Versioned, 10, 64); err != nil {
		return f, errBadInput
	}
	pol.Actions = map[policy.Class]policy.Action{}
	for _, cl := range policy.Classes() {
		if a := c.FormValue("action." + string(cl)); a != "" {
			pol.Actions[cl] = policy.Action(a)
		}
	}
	var wrong []string
	read := func(name string) float64 {
		v := strings.ReplaceAll(strings.TrimSpace(c.FormValue(name)), ",", ".")
		n, err := strconv.ParseFloat(v, 64)
		if v != "" && err != nil {
			wrong = append(wrong, p.T("pol.wrong.number", short(v)))
		}
		return n
	}
	pol.Thresholds = policy.Thresholds{Spam: read("threshold.spam"), Phishing: read("threshold.phishing"), Intel: read("threshold.intel")}
	if f.Weights, pol.Weights, err = readWeights(params["weight.name"], params["weight.value"]); err != nil {
		wrong = append(wrong, p.T("pol.wrong.weight", short(err.Error())))
	}
	pol.EngineFailure = readEngines(c)
	if ref.Direction == policy.Inbound {
		pol.Auth = &policy.AuthSettings{DMARC: policy.DMARCMode(c.FormValue("dmarc"))}
		if c.FormValue("sealers_set") != "" {
			pol.Auth.TrustedARCSealers = words(c.FormValue("sealers"))
		}
	}
	if c.FormValue("dlp_set") != "" {
		pol.DLPSets = []string{} // their names may have spaces
		for line := range strings.Lines(c.FormValue("dlp_sets")) {
			if line = strings.TrimSpace(line); line != "" {
				pol.DLPSets = append(pol.DLPSets, line)
			}
		}
	}
	if pol.Sandbox, err = s.sandboxInput(c, ref); err != nil {
		return f, err
	}
	f.Wrong = strings.Join(wrong, " ")
	return f, nil
}

func readEngines(c echo.Context) map[string]policy.Action {
	m := map[string]policy.Action{}
	params, err := c.FormParams()
	if err != nil {
		return nil
	}
	for name := range params {
		if e, ok := strings.CutPrefix(name, "engine."); ok && params.Get(name) != "" {
			m[e] = policy.Action(params.Get(name))
		}
	}
	return m
}

// readWeights reads rows of a sign and a number; the error is the first that is
// no such thing. Rows that are empty are left out.
func readWeights(names, values []string) (rows []weightRow, m map[string]float64, err error) {
	rows, m = []weightRow{}, map[string]float64{}
	for i, name := range names {
		row := weightRow{Name: strings.TrimSpace(short(name))}
		if i < len(values) {
			row.Value = strings.TrimSpace(short(values[i]))
		}
		if row == (weightRow{}) {
			continue
		}
		rows = append(rows, row)
		n, bad := strconv.ParseFloat(strings.ReplaceAll(row.Value, ",", "."), 64)
		if bad != nil || len(strings.Fields(row.Name)) != 1 {
			err = cmp.Or(err, errors.New(row.Name+" "+row.Value))
			continue
		}
		m[row.Name] = n
	}
	return rows, m, err
}

// words splits a list that somebody typed.
func words(text string) []string {
	return append([]string{}, strings.FieldsFunc(text, func(r rune) bool { return r <= ' ' || r == ',' || r == ';' })...)
}

func readSandbox(stored json.RawMessage) (f sandboxForm) {
	var v struct {
		Types     []string `json:"types"`
		Timeout   string   `json:"timeout"`
		OnTimeout string   `json:"on_timeout"`
	}
	if json.Unmarshal(stored, &v) != nil {
		return f
	}
	return sandboxForm{strings.Join(v.Types, ", "), v.Timeout, v.OnTimeout}
}

// sandboxInput puts the fields into what is stored, so that a setting that the
// form does not know stays.
func (s *pages) sandboxInput(c echo.Context, ref scopeRef) (json.RawMessage, error) {
	own, err := s.policies.Layer(c.Request().Context(), ref.layer())
	if err != nil && !errors.Is(err, policy.ErrNotFound) {
		return nil, err
	}
	m := map[string]any{}
	if len(own.Sandbox) > 0 {
		if err := json.Unmarshal(own.Sandbox, &m); err != nil {
			return nil, fmt.Errorf("sandbox line of the policy: %w", err)
		}
	}
	set := func(key string, v any, given bool) {
		if delete(m, key); given {
			m[key] = v
		}
	}
	types := words(c.FormValue("sandbox.types"))
	set("types", types, len(types) > 0)
	for _, key := range []string{"timeout", "on_timeout"} {
		v := short(c.FormValue("sandbox." + key))
		set(key, v, v != "")
	}
	if len(m) == 0 {
		return nil, nil
	}
	return json.Marshal(m)
}

// sandboxText is the line in words.
func sandboxText(p *frame, stored string) string {
	if stored == "" {
		return p.T("pol.sandbox.default")
	}
	f := readSandbox(json.RawMessage(stored))
	return p.T("pol.sandbox.text", f.Types, f.Timeout, f.OnTimeout)
}

// hiddenFields are what a form was sent with, to be sent again.
func hiddenFields(params url.Values) (out [][2]string) {
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if name == "do" || name == "reason" || strings.HasPrefix(name, "try.") {
			continue
		}
		for _, v := range params[name] {
			out = append(out, [2]string{name, v})
		}
	}
	return out
}

// refTitle names the layer that a page is about.
func refTitle(p *frame, r scopeRef) string {
	switch {
	case r.Group != uuid.Nil:
		return p.T("pol.scope.group", plain(r.Label, 100))
	case r.Domain != "*":
		return p.T("pol.scope.domain", r.Domain)
	}
	return p.T("pol.scope.workspace")
}

func engineName(p *frame, e string) string {
	if e == policy.AnyEngine {
		return p.T("pol.engine.any")
	}
	return plain(e, 100)
}

func orInherited(p *frame, v string) string {
	if v == "" {
		return p.T("pol.asbelow")
	}
	return plain(v, 500)
}

// intelThreshold stands beside the classes in the form: the confidence from which
// an indicator decides by itself.
const intelThreshold policy.Class = "intel"

func thresholdOf(pol policy.Policy, c policy.Class) string {
	if c == policy.Spam {
		return threshold(pol.Thresholds.Spam)
	}
	if c == intelThreshold {
		return threshold(pol.Thresholds.Intel)
	}
	return threshold(pol.Thresholds.Phishing)
}

func inheritedThreshold(p *frame, f policyForm, c policy.Class) string {
	for _, s := range f.Below.Settings() {
		if s.Line == policy.LineThreshold+string(c) {
			return f.inherited(p, s.Value, s.Origin)
		}
	}
	return ""
}

// The two lists of the form: sealers and sets of DLP rules.
func listSet(f policyForm, kind string) bool {
	if kind == "dlp" {
		return f.Policy.DLPSets != nil
	}
	_, set := f.sealers()
	return set
}

func listText(f policyForm, kind string) string {
	if kind == "dlp" {
		return strings.Join(f.Policy.DLPSets, "\n")
	}
	text, _ := f.sealers()
	return text
}

func listName(kind string) string {
	if kind == "dlp" {
		return "dlp_sets"
	}
	return kind
}
