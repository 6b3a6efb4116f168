package webui

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/identity"
	"mailward/policy"
)

func TestCoverage_ScanAgain(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	b := s.login()
	b.wants(b.get("/health/coverage", 200), "/health/coverage", "No engine was missing")
	if code, _, page := b.post("/health/coverage", url.Values{"range": {"24h"}, "reason": {"clamd was away"}}); code != http.StatusConflict || !strings.Contains(page, "coverage-wrong") {
		t.Errorf("nothing to do: %d", code)
	}
	it := s.hold("bob@ours.example")
	ctx, admin := t.Context(), s.db.Admin(t)
	_, err := admin.Exec(ctx, `UPDATE quarantine_item SET engines = '[{"engine": "clamav", "answered": false}]', subject = '<b>late</b>' WHERE id = $1`, it.ID)
	must(t, err)
	row := s.decided("bob@ours.example", policy.Clean)
	_, err = admin.Exec(ctx, `UPDATE mail SET engines = '[{"engine": "clamav", "answered": false}]', action = 'quarantine' WHERE id = $1`, row.ID)
	must(t, err)
	b.wants(b.get("/health/coverage", 200), "/health/coverage", "Scan these mails again")
	if code, _, _ := b.post("/health/coverage", url.Values{"reason": {"x"}}); code != http.StatusUnprocessableEntity {
		t.Errorf("without a reason: %d", code)
	}
	b.wants(b.get(b.save("/health/coverage", url.Values{"reason": {"clamd was away"}}), 200), "/health/coverage", "The mails are being scanned again.", "Under way", "clamd was away")

	// As the worker would have found it.
	_, err = admin.Exec(ctx, `UPDATE coverage_scan_item SET state = 'worse', class = 'malware', found = '[{"engine": "clamav", "name": "Win.Worm"}]', at = now()`)
	must(t, err)
	_, err = admin.Exec(ctx, "INSERT INTO mail_outcome (id, mail_id, recipient, state, at) VALUES ($1, $2, 'bob@ours.example', 'relayed', now() - interval '3 hours 5 minutes')", uuid.Must(uuid.NewV7()), it.MailID)
	must(t, err)
	b.wants(b.get("/health/coverage", 200), "/health/coverage", "Late hits", "&lt;b&gt;late&lt;/b&gt;", "Win.Worm", "bob@ours.example", "delivered 3 h before")
	req, err := http.NewRequest(http.MethodGet, s.URL+"/health/coverage", nil)
	must(t, err)
	req.AddCookie(&http.Cookie{Name: "mailward_lang", Value: "de"})
	code, h, page := b.send(req)
	if code != 200 || !strings.Contains(page, "Späte Treffer") || strings.Contains(page, ">coverage.") {
		t.Errorf("in German: %d", code)
	}
	wantSafe(t, "coverage", h, page)

	viewer, analyst := s.token(identity.Viewer), s.token(identity.Analyst)
	from, to := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	body := `{"from":"` + from + `","to":"` + to + `","reason":"clamd was away"}`
	for _, c := range []struct {
		who, method, path, body string
		want                    int
		has                     string
	}{
		{viewer, "POST", "/health/coverage/scans", body, 403, ""},
		{analyst, "POST", "/health/coverage/scans", body, 201, `"id"`},
		{analyst, "POST", "/health/coverage/scans", `{"from":"` + to + `","to":"` + from + `","reason":"clamd was away"}`, 409, ""},
		{viewer, "GET", "/health/coverage/scans", "", 200, `"state":"running"`},
		{viewer, "GET", "/health/coverage/hits", "", 200, `"address":"bob@ours.example"`},
	} {
		code, _, text := s.call(c.who, c.method, c.path, c.body)
		if code != c.want || !strings.Contains(text, c.has) {
			t.Errorf("%s %s: %d, want %d with %q\n%s", c.method, c.path, code, c.want, c.has, text)
		}
	}
}
