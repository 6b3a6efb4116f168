package webui

import (
	"bytes"
	"context"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/internal/pg"
	"mailward/policy"
	"mailward/scanner"
	"mailward/scanner/ruleset"
)

// fakeRules holds sets in memory. A source with "broken" in it does not compile.
type fakeRules struct {
	sets     []ruleset.Set
	versions map[uuid.UUID][]ruleset.SetVersion
	trials   []ruleset.Backtest
	acts     []string
	files    []ruleset.RuleFile
}

func newFakeRules() *fakeRules {
	since := testNow.Add(-time.Hour)
	f := &fakeRules{versions: map[uuid.UUID][]ruleset.SetVersion{}, files: []ruleset.RuleFile{{RuleSpace: scanner.RuleSpace{Space: "mailward/html.yar", Rules: []string{"HTML_Smuggling"}}}, {RuleSpace: scanner.RuleSpace{Space: "yara/x.yar", Rules: []string{"X"}}},
		{RuleSpace: scanner.RuleSpace{Space: "yara/<b>.yar", Off: true}, Reason: "too many <i>false</i> alarms", Actor: "Ann", Since: &since}}}
	for i, name := range []string{"Campaign <b>2026</b>", "Macros", "Old ones"} {
		set := ruleset.Set{ID: id(700 + i), Name: name, Description: "Found by the SOC", Class: policy.Malware, Score: 8, Enabled: i == 0, Number: 1, Latest: 2, Rules: []string{"One", "Two"}, SHA256: strings.Repeat("ab", 32),
			Version: 3, CreatedAt: testNow.Add(-48 * time.Hour), UpdatedAt: testNow.Add(-time.Hour)}
		if i == 1 {
			set.Class = scanner.SignClass
		}
		f.sets = append(f.sets, set)
		for n := 1; n <= 2; n++ {
			f.versions[set.ID] = append(f.versions[set.ID], ruleset.SetVersion{Number: n, SHA256: set.SHA256, Rules: set.Rules, Comment: "why\u202e", Author: "Ann\u202e", CreatedAt: testNow.Add(-time.Hour),
				Source: fmt.Sprintf("rule One {\n  condition:\n    true // %d\n}\nrule Two { condition: false }\n", n)})
		}
	}
	item, ws := id(2), policy.DefaultWorkspace
	other := uuid.MustParse("00000000-0000-7000-8000-0000000000ff")
	done := ruleset.BacktestResult{Mails: 2, Samples: 5, HitMails: 1, HitSamples: 1, Bytes: 1_000_000, TookNS: 4e6, InForceNS: 8e6, Rules: []ruleset.RuleHits{{Rule: "One", Mails: 1, Samples: 1}},
		Hits: []ruleset.MailHit{{Sample: "01-clean-text.eml", Rules: []string{"One"}}, {Item: &item, Workspace: &ws, Class: policy.Malware, Rules: []string{"One"}}, {Item: &item, Workspace: &other, Rules: []string{"One"}}}}
	slow := done
	slow.Slow = &scanner.SlowRule{Rule: "Two"}
	for i, b := range []ruleset.Backtest{{State: "queued"}, {State: "running", Total: 100, Done: 41}, {State: "done", Total: 7, Done: 7, Result: done}, {State: "failed", Error: "the scanner did not answer", Result: slow}} {
		b.ID, b.SetID, b.Number, b.Requester, b.CreatedAt = id(720+i), id(700), 2, "Ann", testNow.Add(-time.Minute)
		f.trials = append(f.trials, b)
	}
	return f
}

func (f *fakeRules) List(context.Context) ([]ruleset.Set, error) { return f.sets, nil }

func (f *fakeRules) Get(_ context.Context, id uuid.UUID) (ruleset.Set, error) {
	for _, s := range f.sets {
		if s.ID == id {
			return s, nil
		}
	}
	return ruleset.Set{}, ruleset.ErrNotFound
}

func (f *fakeRules) Versions(_ context.Context, id uuid.UUID) ([]ruleset.SetVersion, error) {
	list := slices.Clone(f.versions[id])
	slices.Reverse(list)
	return list, nil
}

func (f *fakeRules) Source(_ context.Context, id uuid.UUID, n int) (ruleset.SetVersion, error) {
	if list := f.versions[id]; n >= 1 && n <= len(list) {
		return list[n-1], nil
	}
	return ruleset.SetVersion{}, ruleset.ErrNotFound
}

func (f *fakeRules) Check(_ context.Context, _ uuid.UUID, d ruleset.Draft) (scanner.Compiled, error) {
	if strings.Contains(d.Source, "silent") {
		return scanner.Compiled{}, fmt.Errorf("compile: %w", scanner.ErrUnavailable)
	}
	if strings.Contains(d.Source, "broken") {
		return scanner.Compiled{Issues: []scanner.RuleIssue{{Error: true, Line: 2, Rule: "One", Text: "syntax error, unexpected <true>"}, {Line: 1, Text: "slow"}}}, nil
	}
	return scanner.Compiled{OK: true, Rules: nil}, nil
}

func (f *fakeRules) do(act string, version int64, d ruleset.Draft) error {
	c, err := f.Check(context.Background(), uuid.Nil, d)
	switch {
	case err != nil:
		return err
	case !c.OK:
		return &ruleset.BrokenError{Compiled: c}
	case d.Name == "Macros":
		return ruleset.ErrExists
	case version != 3:
		return ruleset.ErrConflict
	}
	f.acts = append(f.acts, act)
	return nil
}

func (f *fakeRules) Create(_ context.Context, _ pg.Actor, d ruleset.Draft) (ruleset.Set, scanner.Compiled, error) {
	return f.sets[0], scanner.Compiled{}, f.do(fmt.Sprintf("create %s %s %g %q", d.Name, d.Class, d.Score, d.Source), 3, d)
}

func (f *fakeRules) Update(_ context.Context, _ pg.Actor, id uuid.UUID, version int64, d ruleset.Draft) (ruleset.Set, scanner.Compiled, error) {
	return f.sets[0], scanner.Compiled{}, f.do(fmt.Sprintf("update %s later=%v", d.Name, d.Later), version, d)
}

func (f *fakeRules) Use(_ context.Context, _ pg.Actor, id uuid.UUID, version int64, n int) (ruleset.Set, error) {
	return f.sets[0], f.do(fmt.Sprint("use ", n), version, ruleset.Draft{})
}

func (f *fakeRules) Enable(_ context.Context, _ pg.Actor, id uuid.UUID, version int64, on bool) (ruleset.Set, error) {
	return f.sets[0], f.do(fmt.Sprint("enable ", on), version, ruleset.Draft{})
}

func (f *fakeRules) Delete(_ context.Context, _ pg.Actor, id uuid.UUID, version int64) error {
	return f.do("delete", version, ruleset.Draft{})
}

func (f *fakeRules) Slow(context.Context) ([]ruleset.SlowCount, error) {
	return []ruleset.SlowCount{{Space: id(700).String(), Number: 1, Rule: "Two", Times: 3, LastAt: testNow.Add(-time.Hour)}, {Space: "yara/x.yar", Times: 1, LastAt: testNow}}, nil
}

func (f *fakeRules) Status(context.Context) (ruleset.RulesStatus, error) {
	return ruleset.RulesStatus{Shared: true, Wanted: "0123456789ab", InForce: "0123456789ab", Sets: 1, Version: "ba9876543210", Rules: 17,
		Files: f.files}, nil
}

func (f *fakeRules) SwitchFile(_ context.Context, _ pg.Actor, space string, on bool, reason string) error {
	f.acts = append(f.acts, fmt.Sprintf("file %s %t %s", space, on, reason))
	return nil
}

func (f *fakeRules) StartBacktest(_ context.Context, _ pg.Actor, _ uuid.UUID, n, mails int, ws []uuid.UUID) (ruleset.Backtest, error) {
	f.acts = append(f.acts, fmt.Sprintf("backtest %d %d %d", n, mails, len(ws)))
	return f.trials[0], nil
}

func (f *fakeRules) Backtest(_ context.Context, id uuid.UUID) (ruleset.Backtest, error) {
	for _, b := range f.trials {
		if b.ID == id {
			return b, nil
		}
	}
	return ruleset.Backtest{}, ruleset.ErrNotFound
}

func (f *fakeRules) Backtests(context.Context, uuid.UUID) ([]ruleset.Backtest, error) {
	return f.trials, nil
}

// rulesViews are the pages about rules in all their shapes.
func rulesViews() []string {
	set := "/yara/" + id(700).String()
	list := []string{"/yara", "/yara?q=macro&state=disabled", "/yara?q=nothingfits", "/yara/new", set, set + "?version=1", set + "?act=delete", set + "?act=backtest", "/yara/" + id(701).String(), set + "/versions/1", set + "/versions/2"}
	for i := range 4 {
		list = append(list, set+"/backtests/"+id(720+i).String())
	}
	return list
}

func TestRulesPages_Act(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	set := "/yara/" + id(700).String()
	form := func(more ...string) url.Values {
		v := url.Values{"name": {"New"}, "class": {"spam"}, "score": {"2,5"}, "source": {"rule New {\r\n}"}, "version": {"3"}}
		for i := 0; i < len(more); i += 2 {
			v.Set(more[i], more[i+1])
		}
		return v
	}
	for _, tt := range []struct {
		target string
		form   url.Values
		status int
		has    string // on the page; with a redirect: where to
		act    string
	}{
		{"/yara", form(), 303, set, `create New spam 2.5 "rule New {\n}"`},
		{"/yara", form("score", "many"), 422, "A number from 0 to 100", ""},
		{"/yara", form("name", "Macros"), 422, "Another set has this name", ""},
		{"/yara", form("source", "rule\nbroken"), 422, "2  broken", ""},
		{"/yara", form("source", "silent"), 503, "does not answer", ""},
		{"/yara/check", form("source", "rule\nbroken"), 200, "Line 2", ""},
		{"/yara/check", form(), 200, "The rules compile", ""},
		{set + "/check", form(), 200, "The rules compile", ""},
		{set, form(), 303, set, "update New later=false"},
		{set, form("do", "later"), 303, set, "update New later=true"},
		{set, form("version", "2"), 409, "somebody else", ""},
		{set + "/enable", form("on", "yes"), 303, set, "enable true"},
		{set + "/enable", form("on", "no"), 303, set, "enable false"},
		{set + "/enable", form("version", "1"), 409, "somebody else", ""},
		{set + "/enable", form("version", "x"), 400, "", ""},
		{set + "/use", form("number", "1"), 303, set, "use 1"},
		{set + "/delete", form(), 303, "/yara", "delete"},
		{set + "/backtest", form("number", "1", "mails", "5000"), 303, set + "/backtests/" + id(720).String(), "backtest 1 1000 1"},
		{set + "/backtest", form("mails", "0"), 303, set + "/backtests/" + id(720).String(), "backtest 2 0 1"},
		{"/yara/files", url.Values{"space": {"yara/x.yar"}, "reason": {"too many hits"}}, 303, "/yara", "file yara/x.yar false too many hits"},
		{"/yara/files", url.Values{"space": {"yara/x.yar"}, "on": {"yes"}, "reason": {"mended"}}, 303, "/yara", "file yara/x.yar true mended"},
		{"/yara/files", url.Values{"space": {"yara/x.yar"}, "reason": {" "}}, 400, "", ""},
		{"/yara/" + id(999).String(), form(), 404, "", ""},
	} {
		s.rules.acts = nil
		rec := s.call(t, http.MethodPost, tt.target, tt.form)
		if rec.Code != tt.status || strings.Join(s.rules.acts, ",") != tt.act {
			t.Errorf("POST %s %v: %d with %v, want %d with %s", tt.target, tt.form, rec.Code, s.rules.acts, tt.status, tt.act)
		}
		if got := rec.Header().Get("Location"); tt.status == 303 && got != tt.has {
			t.Errorf("POST %s: to %s, want %s", tt.target, got, tt.has)
		}
		if tt.status != 303 && !strings.Contains(rec.Body.String(), tt.has) {
			t.Errorf("POST %s: no %q on the page", tt.target, tt.has)
		}
	}
}

// A file that is uploaded is the source, whatever is in the text.
func TestRulesPages_TakeAFile(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for k, v := range map[string]string{"class": "spam", "score": "1", "source": "old"} {
		must(t, w.WriteField(k, v))
	}
	f, err := w.CreateFormFile("file", "new.yar")
	must(t, err)
	_, err = f.Write([]byte("rule File { condition: true }\r\n"))
	must(t, err)
	must(t, w.Close())
	req := httptest.NewRequest(http.MethodPost, "/yara", &body)
	req.Header.Set("Content-Type", w.FormDataContentType())
	req.AddCookie(&http.Cookie{Name: "mailward_session", Value: "token"})
	rec := httptest.NewRecorder()
	s.echo.ServeHTTP(rec, req)
	if want := `create new spam 1 "rule File { condition: true }\n"`; rec.Code != 303 || len(s.rules.acts) != 1 || s.rules.acts[0] != want {
		t.Errorf("%d with %v, want %s", rec.Code, s.rules.acts, want)
	}
}

// Who may only read sees no form, and mails of other workspaces are not named.
func TestRulesPages_ForReaders(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.accounts.person.can = func(right string, ws uuid.UUID) bool {
		return right != rightRulesWrite && (ws == uuid.Nil || ws == policy.DefaultWorkspace)
	}
	page := s.get(t, "/yara/"+id(700).String())
	if strings.Contains(page, `method="post" action="/yara`) || !strings.Contains(page, "rule One {") {
		t.Error("a reader gets a form, or no source")
	}
	page = s.get(t, "/yara/"+id(700).String()+"/backtests/"+id(722).String())
	if strings.Count(page, "/quarantine/"+id(2).String()) != 1 || !strings.Contains(page, "1 mail is not yours to see") {
		t.Error("a mail of another workspace is named, or none is")
	}
	if rec := s.call(t, http.MethodGet, "/yara/"+id(701).String()+"/backtests/"+id(722).String(), nil); rec.Code != 404 {
		t.Errorf("a trial of another set: %d", rec.Code)
	}
}

func TestSourceDiff(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("same\n", 100)
	for name, tt := range map[string]struct{ a, b, want string }{
		"same":     {"x\ny", "x\ny", ""},
		"middle":   {long + "a\n" + long, long + "b\n" + long, " … same same same-a+b same same same …"},
		"added":    {"a", "a\nb", " a+b"},
		"all else": {"a", "b", "-a+b"},
	} {
		var got strings.Builder
		for _, l := range sourceDiff(tt.a, tt.b) {
			got.WriteByte(l.Sign)
			got.WriteString(l.Text)
		}
		if got.String() != tt.want {
			t.Errorf("%s: %q, want %q", name, got.String(), tt.want)
		}
	}
}
