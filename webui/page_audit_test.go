package webui

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"mailward/audit"
)

func TestAuditPage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var open string
	for _, r := range s.record.rows {
		if text(r.Fields(), "action") == "policy.update" {
			open = r.ID.String()
		}
	}
	body := s.get(t, "/audit?id="+open)
	for _, want := range []string{`class="del"`, `class="add"`, `&#34;spam&#34;: &#34;tag&#34;`, "SEC-2291", "not yet sequenced", open, "2026-11-24T09:37:30.000Z"} {
		if !strings.Contains(body, want) {
			t.Errorf("the open entry lacks %q", want)
		}
	}
	// Page views are left out unless somebody asks for them, in the file as on the page.
	s.record.add(audit.Event{Action: audit.PageView}, testNow)
	for target, shown := range map[string]bool{"/audit": false, "/audit?reads=1": true, "/audit?action=web.*": true, "/audit?outcome=success": true, "/audit/export.csv": false, "/audit/export.csv?reads=1": true} {
		if got := strings.Contains(strings.ReplaceAll(s.get(t, target), `value="web.`, ""), audit.PageView); got != shown {
			t.Errorf("%s: page views shown: %v, want %v", target, got, shown)
		}
	}
	if body := s.get(t, "/audit?as=timeline&range=all&link="+open); !strings.Contains(body, `class="tl"`) || !strings.Contains(body, "/audit?range=all&amp;id="+open) || !strings.Contains(body, `class="del"`) {
		t.Error("the timeline does not tell of the act, with its change")
	}
	s.record.events = nil
	rec := s.call(t, http.MethodGet, "/audit/export.csv?action=auth.*", nil)
	if rec.Code != http.StatusOK || !strings.HasPrefix(rec.Header().Get("Content-Disposition"), "attachment") || !strings.Contains(rec.Body.String(), "auth.login") {
		t.Errorf("export: %d %q", rec.Code, rec.Header().Get("Content-Disposition"))
	}
	if n := len(s.record.events); n != 2 || s.record.events[0].Action != audit.AuditExport || s.record.events[0].Phase != "intent" ||
		s.record.events[1].Phase != "result" || s.record.events[1].After["count"] == nil {
		t.Errorf("the export is not on record: %+v", s.record.events)
	}
	for target, status := range map[string]int{"/audit/export?format=cef": 200, "/audit/export?format=exe": 400, "/audit/export": 400, "/audit/exports/" + id(62).String() + "/manifest": 200,
		"/audit/exports/" + id(63).String() + "/manifest": 404, "/audit/fresh?newer=x": 400, "/audit/fresh?newer=" + id(1).String(): 200} {
		if rec := s.call(t, http.MethodGet, target, nil); rec.Code != status {
			t.Errorf("%s: %d, want %d", target, rec.Code, status)
		}
	}
	s.record.fail = errors.New("unwritable")
	if rec := s.call(t, http.MethodGet, "/audit/export.csv", nil); rec.Code != http.StatusInternalServerError {
		t.Errorf("export with an unwritable audit: %d", rec.Code)
	}
}

func TestAudit_SavedViews(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	rec := s.call(t, http.MethodPost, "/audit/views", url.Values{"name": {"Failed <logins>"}, "query": {"action=auth.*&outcome=failure&after=x&id=y&unknown=1&range=last_month"}})
	if rec.Code != http.StatusSeeOther || rec.Header().Get("Location") != "/audit?action=auth.%2A&outcome=failure&range=last_month" {
		t.Fatalf("save: %d %q", rec.Code, rec.Header().Get("Location"))
	}
	if v := s.record.views; len(v) != 1 || v[0].Query != "action=auth.%2A&outcome=failure&range=last_month" {
		t.Fatalf("saved: %+v", v)
	}
	if body := s.get(t, "/audit"); !strings.Contains(body, `href="/audit?action=auth.%2A&amp;outcome=failure&amp;range=last_month"`) || !strings.Contains(body, "Failed &lt;logins&gt;") {
		t.Error("the page does not offer the view")
	}
	if rec := s.call(t, http.MethodPost, "/audit/views/"+id(1).String()+"/delete", nil); rec.Code != http.StatusNotFound {
		t.Errorf("delete what is not there: %d", rec.Code)
	}
	if rec := s.call(t, http.MethodPost, "/audit/views/"+s.record.views[0].ID.String()+"/delete", nil); rec.Code != http.StatusSeeOther || len(s.record.views) != 0 {
		t.Errorf("delete: %d", rec.Code)
	}
}

func TestAuditRange(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 2, 14, 10, 30, 0, 0, time.FixedZone("CET", 3600))
	day := func(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, time.UTC) }
	for key, want := range map[string][2]time.Time{
		"today": {day(2026, 2, 14)}, "yesterday": {day(2026, 2, 13), day(2026, 2, 14)}, "this_month": {day(2026, 2, 1)}, "last_month": {day(2026, 1, 1), day(2026, 2, 1)},
		"this_quarter": {day(2026, 1, 1)}, "last_quarter": {day(2025, 10, 1), day(2026, 1, 1)}, "this_year": {day(2026, 1, 1)}, "last_year": {day(2025, 1, 1), day(2026, 1, 1)},
		"24h": {now.Add(-24 * time.Hour)}, "1h": {now.Add(-time.Hour)}, "all": {},
	} {
		from, to, ok := auditRange(key, now)
		if !ok || !from.Equal(want[0]) || !to.Equal(want[1]) {
			t.Errorf("%s: %v to %v, want %v", key, from, to, want)
		}
	}
	for _, key := range auditRanges {
		if _, _, ok := auditRange(key, now); !ok {
			t.Errorf("%s is offered and not known", key)
		}
	}
	if _, _, ok := auditRange("no such", now); ok {
		t.Error("a range that there is not was taken")
	}
}
