package webui

import (
	"bytes"
	"context"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"

	"mailward/internal/pg"
	"mailward/policy"
	"mailward/scanner/dlp"
)

// fakeLeaks are sets in memory. What a set finds is the real thing.
type fakeLeaks struct {
	sets []dlp.Set
	docs []dlp.Document
}

func newFakeLeaks() *fakeLeaks {
	set := func(n int, name string, on bool, rules dlp.Rules) dlp.Set {
		rules.KeywordN, rules.PatternN, rules.Similarity = 1, 1, dlp.DefaultSimilarity
		return dlp.Set{ID: id(700 + n), Workspace: policy.DefaultWorkspace, Name: name, Description: "What " + name + " is for.", Direction: dlp.Out, Enabled: on, Class: policy.DLP, Score: 5, Version: 3, Rules: rules, UpdatedAt: testNow}
	}
	cards := set(1, "Payment cards", true, dlp.Rules{Detectors: []dlp.DetectorRule{{Detector: "card", High: 1, Low: 5}}})
	falcon := set(2, "Projekt Falke", true, dlp.Rules{Keywords: []string{"Projekt Falke", "Falkenhorst"}, Patterns: []string{`FK-\d{4}`}})
	falcon.Fingerprints = []dlp.Fingerprint{{ID: id(750), Set: falcon.ID, Name: "plan.docx", SHA256: strings.Repeat("ab", 32), Words: 4711}}
	hostile := set(3, hostileSubject, false, dlp.Rules{})
	hostile.Class, hostile.Score, hostile.Direction = "", 2.5, dlp.Both
	foreign := set(4, "of another workspace", true, dlp.Rules{})
	foreign.Workspace = id(66)
	return &fakeLeaks{sets: []dlp.Set{cards, falcon, hostile, foreign}}
}

func (f *fakeLeaks) Sets(context.Context) ([]dlp.Set, error) { return f.sets, nil }

func (f *fakeLeaks) find(want uuid.UUID) (*dlp.Set, error) {
	for i := range f.sets {
		if f.sets[i].ID == want {
			return &f.sets[i], nil
		}
	}
	return &dlp.Set{}, dlp.ErrNotFound
}

func (f *fakeLeaks) Get(_ context.Context, want uuid.UUID) (dlp.Set, error) {
	x, err := f.find(want)
	return *x, err
}

func (f *fakeLeaks) Create(_ context.Context, _ pg.Actor, x dlp.Set) (dlp.Set, error) {
	if x.Name == "" {
		return x, &policy.InvalidError{Field: "name", Problem: "must have some characters"}
	}
	x.ID, x.Version = id(790), 1
	f.sets = append(f.sets, x)
	return x, nil
}

func (f *fakeLeaks) Update(_ context.Context, _ pg.Actor, x dlp.Set, version *int64) (dlp.Set, error) {
	old, err := f.find(x.ID)
	if err != nil {
		return x, err
	}
	if *version != old.Version {
		return x, dlp.ErrConflict
	}
	x.Version++
	*old = x
	return x, nil
}

func (f *fakeLeaks) Delete(_ context.Context, _ pg.Actor, want uuid.UUID) error {
	x, err := f.find(want)
	x.Name = "deleted"
	return err
}

func (f *fakeLeaks) AddFingerprint(_ context.Context, _ pg.Actor, _ uuid.UUID, d dlp.Document) (dlp.Fingerprint, error) {
	if d.Text == "" && d.File == nil {
		return dlp.Fingerprint{}, &policy.InvalidError{Field: "text", Problem: "must have words"}
	}
	f.docs = append(f.docs, d)
	return dlp.Fingerprint{}, nil
}

func (f *fakeLeaks) DeleteFingerprint(_ context.Context, _ pg.Actor, set, doc uuid.UUID) error {
	x, err := f.find(set)
	if err == nil && doc == x.Fingerprints[0].ID {
		x.Fingerprints = nil
		return nil
	}
	return dlp.ErrNotFound
}

func (f *fakeLeaks) Test(ctx context.Context, text string, want func(dlp.Set) bool) (dlp.Tested, error) {
	var mine []dlp.Set
	for _, x := range f.sets {
		if want(x) {
			mine = append(mine, x)
		}
	}
	return dlp.Test(ctx, text, mine, nil)
}

func TestDLP_Pages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.accounts.person.can = func(_ string, w uuid.UUID) bool { return w == uuid.Nil || w == policy.DefaultWorkspace }
	list := s.get(t, "/policies/dlp")
	for _, want := range []string{"Payment cards", "Projekt Falke", "/policies/dlp/" + id(701).String(), "Sign, 2.5", `href="/policies/dlp/new"`} {
		if !strings.Contains(list, want) {
			t.Errorf("the list lacks %q", want)
		}
	}
	if strings.Contains(list, "another workspace") {
		t.Error("another workspace's set in the list")
	}
	if some := s.get(t, "/policies/dlp?q=falkenhorst&state=on"); strings.Contains(some, "Payment cards") || !strings.Contains(some, "Projekt Falke") {
		t.Error("the search by keyword does not narrow the list")
	}
	if none := s.get(t, "/policies/dlp?q=nothing+of+the+kind"); !strings.Contains(none, "No set fits") {
		t.Error("no words where nothing fits")
	}
	one := s.get(t, "/policies/dlp/"+id(702).String())
	for _, want := range []string{"Falkenhorst", `FK-\d{4}`, "plan.docx", "4,711 words", "act=delete", `name="high:card"`} {
		if !strings.Contains(one, want) {
			t.Errorf("the set lacks %q", want)
		}
	}
	for _, path := range []string{id(704).String(), id(5).String(), "nonsense"} {
		if r := s.call(t, http.MethodGet, "/policies/dlp/"+path, nil); r.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, r.Code)
		}
	}
}

func TestDLP_Test(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r := s.call(t, http.MethodPost, "/policies/dlp/test", url.Values{"text": {"card 4111 1111 1111 1111, FK-1234"}})
	page := r.Body.String()
	_, shown, _ := strings.Cut(page, `role="status"`) // behind the box itself
	if r.Code != http.StatusOK || !strings.Contains(shown, "DLP.PaymentCards") || !strings.Contains(shown, "4111 **** **** **11") || !strings.Contains(shown, "DLP.ProjektFalke") || strings.Contains(shown, "4111 1111") {
		t.Errorf("%d %s", r.Code, shown)
	}
	if r := s.call(t, http.MethodPost, "/policies/dlp/test", url.Values{"text": {strings.Repeat("x", maxTestText+1)}}); r.Code != http.StatusBadRequest {
		t.Errorf("a text that is too long: %d", r.Code)
	}
}

func TestDLP_Acts(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	path := "/policies/dlp/" + id(702).String()
	form := url.Values{"name": {"Falke"}, "direction": {"both"}, "class": {"dlp"}, "score": {"2,5"}, "enabled": {"yes"}, "match": {"all"}, "keywords": {"a b\r\n\r\n c \r\n"}, "patterns": {`x\d+`},
		"keyword_min": {"2"}, "pattern_min": {"1"}, "similarity": {"70"}, "high:card": {"1"}, "low:iban": {"5"}, "version": {"3"}}
	if r := s.call(t, http.MethodPost, path, form); r.Code != http.StatusSeeOther {
		t.Fatalf("save: %d", r.Code)
	}
	x, _ := s.leaks.find(id(702))
	if x.Name != "Falke" || x.Direction != dlp.Both || x.Score != 2.5 || !x.Rules.All || strings.Join(x.Rules.Keywords, "|") != "a b|c" || x.Rules.KeywordN != 2 || x.Rules.Similarity != 70 ||
		len(x.Rules.Detectors) != 2 || x.Rules.Detectors[0].High != 1 || x.Rules.Detectors[1].Low != 5 || len(x.Fingerprints) != 1 {
		t.Errorf("saved %+v", x)
	}
	if r := s.call(t, http.MethodPost, path, form); r.Code != http.StatusConflict || !strings.Contains(r.Body.String(), "Somebody else") || !strings.Contains(r.Body.String(), `name="version" value="4"`) {
		t.Errorf("with the old version: %d", r.Code)
	}
	if r := s.call(t, http.MethodPost, "/policies/dlp/new", url.Values{"keywords": {"kept word"}}); r.Code != http.StatusUnprocessableEntity || !strings.Contains(r.Body.String(), "kept word") {
		t.Errorf("without a name: %d", r.Code)
	}
	if r := s.call(t, http.MethodPost, "/policies/dlp/new", form); r.Code != http.StatusSeeOther || r.Header().Get("Location") != "/policies/dlp/"+id(790).String() {
		t.Errorf("a new one: %d", r.Code)
	}
	x, _ = s.leaks.find(id(702)) // the new one may have moved it
	if r := s.call(t, http.MethodPost, path+"/documents", url.Values{"name": {"x"}}); r.Code != http.StatusUnprocessableEntity {
		t.Errorf("a document of nothing: %d", r.Code)
	}
	if r := s.call(t, http.MethodPost, path+"/documents/"+id(750).String()+"/delete", nil); r.Code != http.StatusSeeOther || x.Fingerprints != nil {
		t.Errorf("forget: %d", r.Code)
	}
	if r := s.call(t, http.MethodPost, path+"/documents/"+id(750).String()[:8]+"/delete", nil); r.Code != http.StatusNotFound {
		t.Errorf("forget nothing: %d", r.Code)
	}
	if r := s.call(t, http.MethodPost, path+"/delete", nil); r.Code != http.StatusSeeOther || x.Name != "deleted" {
		t.Errorf("delete: %d", r.Code)
	}
	// Without the right there is no button, and no act behind it.
	s.accounts.person.can = func(right string, _ uuid.UUID) bool { return right == rightViewMeta }
	if one := s.get(t, path); strings.Contains(one, "act=delete") || strings.Contains(one, "multipart") || !strings.Contains(one, "disabled") {
		t.Error("buttons without the right")
	}
	for _, p := range []string{path, path + "/delete", path + "/documents", "/policies/dlp/new", path + "/documents/" + id(750).String() + "/delete"} {
		if r := s.call(t, http.MethodPost, p, form); r.Code != http.StatusForbidden {
			t.Errorf("%s without the right: %d", p, r.Code)
		}
	}
}

func TestDLP_Upload(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	part, err := w.CreateFormFile("file", "plan.bin")
	if err != nil {
		t.Fatal(err)
	}
	part.Write([]byte{0, 1, 2})
	w.Close()
	r := httptest.NewRequest(http.MethodPost, "/policies/dlp/"+id(701).String()+"/documents", &body)
	r.Header.Set("Content-Type", w.FormDataContentType())
	r.AddCookie(&http.Cookie{Name: "mailward_session", Value: "token"})
	answer := httptest.NewRecorder()
	s.echo.ServeHTTP(answer, r)
	if answer.Code != http.StatusSeeOther || len(s.leaks.docs) != 1 || s.leaks.docs[0].Name != "plan.bin" || !bytes.Equal(s.leaks.docs[0].File, []byte{0, 1, 2}) {
		t.Errorf("%d %+v", answer.Code, s.leaks.docs)
	}
}
