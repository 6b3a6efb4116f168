package webui

import (
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"

	"mailward/quarantine"
)

// call asks the site as somebody who is logged in, unless a header says else.
func (s *site) call(t *testing.T, method, target string, body url.Values, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	var r io.Reader
	if body != nil {
		r = strings.NewReader(body.Encode())
	}
	req := httptest.NewRequest(method, target, r)
	if body != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.AddCookie(&http.Cookie{Name: "mailward_session", Value: "token"})
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "anonymous" {
			req.Header.Del("Cookie")
			continue
		}
		if headers[i] == "Cookie" {
			req.Header.Add("Cookie", headers[i+1])
			continue
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	s.echo.ServeHTTP(rec, req)
	return rec
}

func (s *site) get(t *testing.T, target string, headers ...string) string {
	t.Helper()
	rec := s.call(t, http.MethodGet, target, nil, headers...)
	if rec.Code != http.StatusOK {
		t.Fatalf("GET %s: %d\n%s", target, rec.Code, rec.Body)
	}
	return rec.Body.String()
}

// views are all pages in all their shapes.
func views() []string {
	item, waits := "/quarantine/"+id(2).String(), "/queue/"+id(901).String()
	return append(rulesViews(), []string{
		"/queue", "/queue?state=all", "/queue?q=nobody", "/queue?mail_id=" + id(1).String(), waits, waits + "?act=retry", waits + "?act=delete", "/queue/" + id(903).String(),
		"/", "/?range=7d", "/?range=30d", "/quarantine", "/quarantine?class=malware&class=phishing&state=open&q=rechnung&range=all", "/quarantine?q=nothingfits",
		"/quarantine?id=" + id(2).String(), "/quarantine?id=" + id(7).String() + "&tab=history", item, item + "?tab=headers", item + "?tab=parts", item + "?tab=history", item + "?act=release", item + "?act=delete",
		"/quarantine/" + id(5).String(), "/quarantine/" + id(7).String(), "/quarantine/" + id(8).String(), "/quarantine/" + id(9).String() + "?tab=parts",
		"/messages", "/messages?action=defer&class=clean&q=x", "/messages/" + id(500).String(), "/messages/" + id(506).String(),
		"/health", "/health?range=30d", "/health/clamav", "/health/coverage?range=7d", "/health/next_hop:10.0.0.5:25?range=1h", "/audit", "/audit?action=quarantine.*&outcome=success&q=release&actor=s.lang@ours.example", "/audit?from=2026-11-01&to=2026-11-30", "/audit?q=nothingfits", "/audit?ip=192.0.2.7&application=web-ui&route=/x&method=password&provider=local&approval=none&link=" + id(1).String() + "&target=x", "/audit?range=all&as=timeline&link=" + id(1).String(), "/audit?range=last_quarter&workspace=" + id(1).String(), "/audit/exports?range=last_month&actor=x&reads=1", "/password",
		"/policies/dlp", "/policies/dlp?q=falke&state=on", "/policies/dlp?q=nothingfits", "/policies/dlp/new", "/policies/dlp/" + id(702).String(), "/policies/dlp/" + id(703).String() + "?act=delete",
	}...)
}

var (
	styleAttr    = regexp.MustCompile(`(?i)<[^>]*\sstyle\s*=`)
	handlerAttr  = regexp.MustCompile(`(?i)<[a-z][^>"]*("[^"]*"[^>"]*)*\son[a-z]+\s*=`)
	inlineScript = regexp.MustCompile(`(?i)<script(?:\s+type="module")?\s*>|<script[^>]*>[^<]`)
)

// wantSafe asserts what the Content-Security-Policy relies on.
func wantSafe(t *testing.T, where string, h http.Header, body string) {
	t.Helper()
	if got := h.Get("Content-Security-Policy"); got != pageCSP {
		t.Errorf("%s: Content-Security-Policy %q", where, got)
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin", "Cache-Control": "no-store"} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: %s is %q, want %q", where, name, got, want)
		}
	}
	for name, re := range map[string]*regexp.Regexp{"a style attribute": styleAttr, "an event handler": handlerAttr, "an inline script": inlineScript} {
		if m := re.FindString(body); m != "" {
			t.Errorf("%s: %s: %s", where, name, m)
		}
	}
	for _, bad := range []string{"<img src=x", "\u202e", "\xff", "(erased", "%!"} {
		if strings.Contains(body, bad) {
			t.Errorf("%s: the page contains %q", where, bad)
		}
	}
}

func TestPages_AreSafeInEveryLanguageAndShape(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, view := range views() {
		for _, lang := range []string{"en", "de"} {
			rec := s.call(t, http.MethodGet, view, nil, "Cookie", "mailward_lang="+lang)
			if rec.Code != http.StatusOK {
				t.Errorf("GET %s: %d", view, rec.Code)
				continue
			}
			body := rec.Body.String()
			wantSafe(t, lang+" "+view, rec.Header(), body)
			if !strings.Contains(body, `<html lang="`+lang+`"`) || strings.Count(body, "<h1") != 1 || strings.Count(body, "<main") != 1 {
				t.Errorf("%s %s: not a whole page", lang, view)
			}
		}
	}
	for _, c := range []struct {
		target string
		status int
	}{{"/quarantine/nonsense", 404}, {"/quarantine/" + id(999).String(), 404}, {"/nothing", 404}, {"/audit?from=nonsense", 400}, {"/quarantine?after=nonsense", 400}, {"/messages/" + id(1).String(), 404}} {
		rec := s.call(t, http.MethodGet, c.target, nil)
		if rec.Code != c.status {
			t.Errorf("GET %s: %d, want %d", c.target, rec.Code, c.status)
		}
		wantSafe(t, c.target, rec.Header(), rec.Body.String())
	}
}

func TestPages_Fragments(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for target, part := range map[string]string{
		"/quarantine?q=rechnung": "results", "/messages?q=rechnung": "results", "/audit?action=auth.*": "results", "/health": "health",
		"/quarantine?id=" + id(2).String(): "drawer",
	} {
		rec := s.call(t, http.MethodGet, target, nil, "HX-Request", "true", "HX-Target", "div#"+part)
		body := rec.Body.String()
		if rec.Code != http.StatusOK || strings.Contains(body, "<html") || strings.Contains(body, "<script") {
			t.Errorf("%s for #%s: %d, not a fragment", target, part, rec.Code)
		}
		if part != "drawer" && !strings.Contains(body, `id="`+part+`"`) {
			t.Errorf("%s: the fragment does not hold #%s", target, part)
		}
		wantSafe(t, target+" fragment", rec.Header(), body)
		if v := rec.Header().Get("Vary"); !strings.Contains(v, "HX-Target") {
			t.Errorf("%s: Vary %q: Back would show a bare fragment", target, v)
		}
	}
	// The export link names the filter that is shown, also after a swap.
	body := s.call(t, http.MethodGet, "/audit?action=auth.*", nil, "HX-Request", "true", "HX-Target", "div#results").Body.String()
	if !strings.Contains(body, `/audit/export.csv?action=auth.%2A`) {
		t.Error("the export link was not renewed with the filter")
	}
}

func TestPages_EveryRouteAsksForItsRight(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.accounts.person.can = func(string, uuid.UUID) bool { return false }
	for _, route := range s.routes {
		method, path, _ := strings.Cut(route, " ")
		path = strings.ReplaceAll(path, ":id", id(2).String())
		rec := s.call(t, method, path, url.Values{"reason": {"because"}})
		if rec.Code != http.StatusForbidden && !strings.HasPrefix(path, "/password") && path != "/logout" {
			t.Errorf("%s without rights: %d, want 403", route, rec.Code)
		}
		rec = s.call(t, method, path, url.Values{"reason": {"because"}}, "anonymous", "")
		if rec.Code != http.StatusSeeOther || !strings.HasPrefix(rec.Header().Get("Location"), "/login") {
			t.Errorf("%s without a session: %d to %q", route, rec.Code, rec.Header().Get("Location"))
		}
	}
	if len(s.held.items[1].Recipients) == 0 || s.held.items[1].State != quarantine.Quarantined || len(s.record.events) > 0 {
		t.Error("something happened without a right")
	}
}

// Mail of a workspace that is not the person's is not there, whatever is asked.
func TestItem_OfAnotherWorkspaceIsNotThere(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.held.items[1].Workspace = id(77)
	s.accounts.person.can = func(_ string, ws uuid.UUID) bool { return ws != id(77) }
	path := "/quarantine/" + id(2).String()
	for _, c := range []struct{ method, path string }{
		{"GET", path}, {"GET", path + "/preview"}, {"POST", path + "/release"}, {"POST", path + "/delete"}, {"POST", path + "/raw"}, {"POST", path + "/view"},
	} {
		if rec := s.call(t, c.method, c.path, url.Values{"reason": {"because"}, "purpose": {"analysis"}, "recipient": {"buchhaltung@ours.example"}}); rec.Code != http.StatusNotFound {
			t.Errorf("%s %s: %d, want 404", c.method, c.path, rec.Code)
		}
	}
	if len(s.record.events) > 0 || s.held.items[1].State != quarantine.Quarantined {
		t.Error("something happened to it")
	}
}

// Buttons that a person may not press are not there.
func TestItem_ButtonsFollowRightsAndState(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	path := "/quarantine/" + id(2).String()
	if body := s.get(t, path); !strings.Contains(body, `action="`+path+`/release"`) || !strings.Contains(body, `action="`+path+`/delete"`) {
		t.Error("a person with all rights has no buttons")
	}
	s.accounts.person.can = func(r string, _ uuid.UUID) bool { return r == rightViewMeta }
	body := s.get(t, path)
	for _, no := range []string{"/release", "/delete", "/raw", "/view", "tab=headers", "tab=history", `href="/audit"`, `href="/health"`} {
		if strings.Contains(body, no) {
			t.Errorf("a reader without the right sees %s", no)
		}
	}
	s.accounts.person.can = allRights
	if body := s.get(t, "/quarantine/"+id(9).String()); strings.Contains(body, "/release") {
		t.Error("deleted mail can be released")
	}
}

func TestRelease(t *testing.T) {
	t.Parallel()
	path := "/quarantine/" + id(2).String()
	ok := url.Values{"reason": {"verified by phone"}, "recipient": {"buchhaltung@ours.example"}}
	with := func(pairs ...string) url.Values {
		v := url.Values{"reason": ok["reason"], "recipient": ok["recipient"]}
		for i := 0; i+1 < len(pairs); i += 2 {
			v.Del(pairs[i])
			if pairs[i+1] != "" {
				v.Set(pairs[i], pairs[i+1])
			}
		}
		return v
	}
	t.Run("to one of three", func(t *testing.T) {
		s := newSite(t)
		rec := s.call(t, http.MethodPost, path+"/release", ok)
		if rec.Code != http.StatusSeeOther || rec.Header().Get("Location") != path {
			t.Fatalf("%d to %q", rec.Code, rec.Header().Get("Location"))
		}
		if got := s.held.last; got.Reason != "verified by phone" || len(got.Recipients) != 1 || got.Recipients[0] != "buchhaltung@ours.example" {
			t.Errorf("released %+v", got)
		}
	})
	for name, form := range map[string]url.Values{"no reason": with("reason", ""), "a blank reason": with("reason", " \t "), "an endless reason": with("reason", strings.Repeat("x", 501)), "nobody": with("recipient", "")} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			rec := s.call(t, http.MethodPost, path+"/release", form)
			if rec.Code != http.StatusUnprocessableEntity || !strings.Contains(rec.Body.String(), `<dialog id="release" aria-labelledby="release-title" open`) || !strings.Contains(rec.Body.String(), `class="wrong"`) {
				t.Errorf("%d, want the form again with what is wrong", rec.Code)
			}
			if s.held.items[1].State != quarantine.Quarantined {
				t.Error("released all the same")
			}
		})
	}
	t.Run("alone, the password is asked for when it is old", func(t *testing.T) {
		s := newSite(t)
		s.accounts.person.AuthenticatedAt = testNow.Add(-stepUpAge - 1)
		if body := s.get(t, path); !strings.Contains(body, `name="password"`) {
			t.Error("the dialog does not ask for the password")
		}
		for _, password := range []string{"", "wrong"} {
			if rec := s.call(t, http.MethodPost, path+"/release", with("password", password)); rec.Code != http.StatusUnprocessableEntity {
				t.Errorf("password %q: %d", password, rec.Code)
			}
		}
		if s.held.items[1].State != quarantine.Quarantined {
			t.Error("released without the password")
		}
		if rec := s.call(t, http.MethodPost, path+"/release", with("password", testPassword)); rec.Code != http.StatusSeeOther {
			t.Errorf("with the password: %d", rec.Code)
		}
	})
	t.Run("with four eyes it is a request", func(t *testing.T) {
		s := newSite(t)
		s.held.mode = quarantine.Required
		if body := s.get(t, path); !strings.Contains(body, "Request release") {
			t.Error("the button does not say that it is a request")
		}
		rec := s.call(t, http.MethodPost, path+"/release", ok)
		if !strings.Contains(rec.Header().Get("Set-Cookie"), "flash.requested") {
			t.Errorf("%d, %q", rec.Code, rec.Header().Get("Set-Cookie"))
		}
	})
}

func TestLogin(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.accounts.person.MustChangePassword = false
	wrong := ""
	for _, form := range []url.Values{{"email": {"nobody@ours.example"}, "password": {"x"}}, {"email": {"s.lang@ours.example"}, "password": {"x"}}} {
		rec := s.call(t, http.MethodPost, "/login", form, "anonymous", "")
		said := regexp.MustCompile(`role="alert">.*?</p>`).FindString(strings.ReplaceAll(rec.Body.String(), "\n", ""))
		if rec.Code != http.StatusUnauthorized || said == "" || wrong != "" && said != wrong {
			t.Errorf("%v: %d, says %q; before %q", form, rec.Code, said, wrong)
		}
		wrong = said
		wantSafe(t, "login", rec.Header(), rec.Body.String())
	}
	rec := s.call(t, http.MethodPost, "/login", url.Values{"email": {"locked@ours.example"}, "password": {"x"}}, "anonymous", "")
	if rec.Code != http.StatusTooManyRequests || !strings.Contains(rec.Body.String(), "09:46") || rec.Header().Get("Retry-After") == "" {
		t.Errorf("locked: %d, Retry-After %q", rec.Code, rec.Header().Get("Retry-After"))
	}
	good := func(next string) string {
		return s.call(t, http.MethodPost, "/login", url.Values{"email": {"s.lang@ours.example"}, "password": {testPassword}, "next": {next}}, "anonymous", "").Header().Get("Location")
	}
	for next, want := range map[string]string{
		"/quarantine?class=malware": "/quarantine?class=malware", "": "/", "//evil.example/": "/", "https://evil.example/": "/", `/\evil.example`: "/", "/\t/evil.example": "/",
		"javascript:alert(1)": "/", "/login": "/", "/%2f/evil.example": "/",
	} {
		if got := good(next); got != want && !(next == "/%2f/evil.example" && strings.HasPrefix(got, "/") && !strings.HasPrefix(got, "//")) {
			t.Errorf("next %q: sent to %q, want %q", next, got, want)
		}
	}
	s.accounts.person.MustChangePassword = true
	if got := good("/quarantine"); got != "/password" {
		t.Errorf("one-time password: sent to %q", got)
	}
}

func TestPassword(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	form := func(old, fresh, again string) url.Values {
		return url.Values{"old": {old}, "new": {fresh}, "again": {again}}
	}
	for name, f := range map[string]url.Values{
		"short": form(testPassword, "short", "short"), "different": form(testPassword, "a long new password", "another long one"),
		"the same": form(testPassword, testPassword, testPassword), "old wrong": form("x", "a long new password", "a long new password"),
	} {
		rec := s.call(t, http.MethodPost, "/password", f)
		if rec.Code != http.StatusUnprocessableEntity || !strings.Contains(rec.Body.String(), `class="wrong"`) {
			t.Errorf("%s: %d", name, rec.Code)
		}
		if strings.Contains(rec.Body.String(), "a long new password") {
			t.Errorf("%s: the page repeats the password", name)
		}
	}
	if rec := s.call(t, http.MethodPost, "/password", form(testPassword, "a long new password", "a long new password")); rec.Code != http.StatusSeeOther {
		t.Errorf("good: %d", rec.Code)
	}
}

func TestPrefs(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	rec := s.call(t, http.MethodPost, "/prefs", url.Values{"theme": {"dark"}, "next": {"//evil.example"}}, "anonymous", "")
	if rec.Code != http.StatusSeeOther || rec.Header().Get("Location") != "/" || !strings.Contains(rec.Header().Get("Set-Cookie"), "mailward_theme=dark") {
		t.Errorf("%d to %q, %q", rec.Code, rec.Header().Get("Location"), rec.Header().Get("Set-Cookie"))
	}
	if got := s.call(t, http.MethodPost, "/prefs", url.Values{"lang": {"de"}, "next": {"/login?next=/quarantine"}}, "anonymous", "").Header().Get("Location"); got != "/login?next=%2Fquarantine" {
		t.Errorf("back to %q", got)
	}
	if rec := s.call(t, http.MethodPost, "/prefs", url.Values{"theme": {`"><script>`}, "lang": {"xx"}}); rec.Header().Get("Set-Cookie") != "" {
		t.Errorf("stored %q", rec.Header().Get("Set-Cookie"))
	}
	if body := s.get(t, "/health", "Cookie", `mailward_theme=dark`); !strings.Contains(body, `data-theme="dark"`) {
		t.Error("the theme is not in the page")
	}
	// A stranger's flash cookie puts no words on a page.
	if body := s.get(t, "/quarantine", "Cookie", "mailward_flash=you+are+hacked"); strings.Contains(body, "hacked") {
		t.Error("a cookie wrote on the page")
	}
}

func TestDashboard_Empty(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.held.items, s.pages.mails = nil, fakeMails{empty: true}
	body := s.get(t, "/")
	for _, want := range []string{"make demo", "mailward send --to 127.0.0.1:2525", "Test signatures only", "One person decides alone"} {
		if !strings.Contains(body, want) {
			t.Errorf("the empty dashboard lacks %q", want)
		}
	}
	if body := s.get(t, "/quarantine"); !strings.Contains(body, "Nothing is held back") {
		t.Error("no first-use text in the quarantine")
	}
	s.pages.monitor = fakeMonitor{bad: true}
	if body := s.get(t, "/health"); !strings.Contains(body, "Mail is not passed on") || !strings.Contains(body, "no such file or directory") {
		t.Error("the health page does not say what is down")
	}
}

// What failed inside is not told to the person, its number is.
func TestErrors_TellNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.held.fail = errors.New("dial tcp 10.9.8.7:5432: password authentication failed")
	for _, h := range [][]string{nil, {"HX-Request", "true", "HX-Target", "div#results"}} {
		rec := s.call(t, http.MethodGet, "/quarantine", nil, h...)
		if rec.Code != http.StatusInternalServerError || strings.Contains(rec.Body.String(), "10.9.8.7") {
			t.Errorf("%d %s", rec.Code, rec.Body)
		}
	}
}

// A page of a full list stays small on the line.
func TestPages_CompressedWithinBudget(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for n := 0; len(s.held.items) < pageSize+5; n++ {
		it := testItems()[n%30]
		it.ID = uuid.Must(uuid.NewV7())
		s.held.items = append(s.held.items, it)
	}
	rec := s.call(t, http.MethodGet, "/quarantine?range=all", nil, "Accept-Encoding", "gzip, br")
	if rec.Header().Get("Content-Encoding") != "gzip" || !strings.Contains(rec.Header().Get("Vary"), "Accept-Encoding") {
		t.Fatalf("not compressed: %v", rec.Header())
	}
	if n := rec.Body.Len(); n > 16_000 {
		t.Errorf("a list of %d is %d bytes, at most 16,000", pageSize, n)
	}
	z, err := gzip.NewReader(rec.Body)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(z)
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(body)), "</html>") {
		t.Errorf("not a whole page: %v", err)
	}
	// The next page goes on after the last row and says which rows these are.
	next := regexp.MustCompile(`rel="next" href="([^"]+)"`).FindStringSubmatch(string(body))
	if next == nil {
		t.Fatal("no next page")
	}
	if body := s.get(t, strings.ReplaceAll(next[1], "&amp;", "&")); !strings.Contains(body, ">101–105<") {
		t.Error("the second page does not say 101–105")
	}
}

// What the sandbox saw stands on the item, and a person may ask it.
func TestItem_Sandbox(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	path := "/quarantine/" + id(1).String()
	page := s.get(t, path)
	for _, want := range []string{"malicious", "Emotet&lt;b&gt;", "score 9.4 of 10", "no verdict in time", "&lt;i&gt;process", "Ask the sandbox"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}
