package webui

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"mailward/audit"
)

func TestView_ContentIsOnRecordFirst(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	path := "/quarantine/" + id(2).String()
	if body := s.get(t, path); strings.Contains(body, "Dear colleague") || strings.Contains(body, "<iframe") {
		t.Fatal("content is shown without a reason")
	}
	if rec := s.call(t, http.MethodGet, path+"/preview", nil); rec.Code != http.StatusForbidden {
		t.Errorf("preview without a reason: %d, want 403", rec.Code)
	}
	s.record.fail = errors.New("the audit cannot be written")
	if rec := s.call(t, http.MethodPost, path+"/view", url.Values{"purpose": {"analysis"}}); rec.Code != http.StatusInternalServerError {
		t.Errorf("view with an unwritable audit: %d, want it refused", rec.Code)
	}
	if rec := s.call(t, http.MethodPost, path+"/raw", url.Values{"reason": {"for the lab"}, "purpose": {"analysis"}}); rec.Code != http.StatusInternalServerError || strings.Contains(rec.Body.String(), "Subject: raw") {
		t.Errorf("download with an unwritable audit: %d", rec.Code)
	}
	s.record.fail = nil
	if body := s.get(t, path); strings.Contains(body, "Dear colleague") {
		t.Fatal("content is shown although its record failed")
	}
	rec := s.call(t, http.MethodPost, path+"/view", url.Values{"purpose": {"release"}, "reason": {"ticket 7"}, "next": {"https://evil.example/"}})
	if rec.Code != http.StatusSeeOther || !strings.HasPrefix(rec.Header().Get("Location"), path) {
		t.Fatalf("%d to %q", rec.Code, rec.Header().Get("Location"))
	}
	if ev := s.record.events[0]; ev.Action != audit.ViewBody || ev.Phase != "intent" || ev.ReasonCode != "release" || ev.Reason != "ticket 7" || ev.Targets[0].ID != id(2).String() || ev.Retention != audit.Retention3Years {
		t.Errorf("intent %+v", ev)
	}
	if body := s.get(t, path); !strings.Contains(body, "Dear colleague") || !strings.Contains(body, "U+202E") {
		t.Error("the text is not shown after the reason was given")
	}
	if ev := s.record.events[1]; ev.Action != audit.ViewBody || ev.Phase != "result" || ev.Correlation.CausationID == "" {
		t.Errorf("result %+v", ev)
	}
	if body := s.get(t, path+"?as=html"); !strings.Contains(body, `<iframe class="preview" sandbox="" referrerpolicy="no-referrer"`) || !strings.Contains(body, "5 scripts") {
		t.Error("no frame for the HTML")
	}
	// Another session's reason is not mine.
	s.accounts.person.Actor.SessionID = id(902)
	if rec := s.call(t, http.MethodGet, path+"/preview", nil); rec.Code != http.StatusForbidden {
		t.Errorf("preview in another session: %d, want 403", rec.Code)
	}
}

func TestPreview_Document(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	path := "/quarantine/" + id(2).String()
	s.call(t, http.MethodPost, path+"/view", url.Values{"purpose": {"analysis"}})
	rec := s.call(t, http.MethodGet, path+"/preview", nil)
	if rec.Code != http.StatusOK {
		t.Fatal(rec.Code)
	}
	if got := rec.Header().Get("Content-Security-Policy"); got != previewCSP {
		t.Errorf("Content-Security-Policy %q", got)
	}
	body := rec.Body.String()
	for _, bad := range []string{"<script", "<form", "<input", "<iframe", "<object", "<svg", "<meta http", "<base", "onclick", "onerror", "href=", "<a ", "position", "background-image", "http://", "javascript:alert(1)\"", "<button"} {
		if strings.Contains(strings.ToLower(body), bad) {
			t.Errorf("the preview contains %q", bad)
		}
	}
	for _, want := range []string{"Your password expires", "hxxp://login[.]evil[.]example/verify?a=1", "Form, dead. It would send to: hxxp://login[.]evil[.]example/", "Remote image: hxxp://tracker[.]example/p.gif (160 × 42)", `src="data:image/png;base64,`, "color: red"} {
		if !strings.Contains(body, want) {
			t.Errorf("the preview lacks %q:\n%s", want, body)
		}
	}
}
