package webui

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/identity"
	"mailward/policy"
)

// ledgerMail is a mail as the ledger has it.
func (s *realSite) ledgerMail(workspace uuid.UUID, subject string) uuid.UUID {
	s.t.Helper()
	id := uuid.Must(uuid.NewV7())
	_, err := s.db.Admin(s.t).Exec(context.Background(), `INSERT INTO mail (id, workspace_id, received_at, node, envelope_from, recipients, header_from, subject, size, sha256, class, action)
		VALUES ($1, $2, now() - interval '1 hour', 'test', 'm@evil.example', '[{"address":"a@ours.example"}]', 'm@evil.example', $3, 10, '\x00', 'phishing', 'quarantine')`, id, workspace, subject)
	must(s.t, err)
	return id
}

// TestIncidents_FromMailToReport is the way of an analyst: a mail becomes an
// incident, somebody is aware and decides, the early warning is filled in, handed in
// and noted, and the record has all of it.
func TestIncidents_FromMailToReport(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	b := s.browser()
	b.login("admin@ours.example")
	mail := s.ledgerMail(policy.DefaultWorkspace, "Your parcel")
	b.want(200, "GET", "/incidents", nil, "No incidents yet", `href="/incidents/new"`)
	b.want(200, "GET", "/messages/"+mail.String(), nil, "/incidents/new?mail="+mail.String())
	b.want(200, "GET", "/incidents/new?mail="+mail.String(), nil, "Phishing: Your parcel")
	hour := func(ago time.Duration) string { return time.Now().Add(-ago).In(time.Local).Format("2006-01-02T15:04") }
	form := url.Values{"title": {"Phishing: Your parcel"}, "severity": {"high"}, "regime": {"bsig"}, "detected": {hour(5 * time.Hour)}, "mail": {mail.String()}}
	status, to, body := b.do("POST", "/incidents", form)
	if status != http.StatusSeeOther {
		t.Fatalf("%d %s", status, body)
	}
	b.want(200, "GET", to, nil, "INC-", "No deadline runs yet", "Your parcel", "0 of 1 reached", "Nobody has taken it")
	b.want(303, "POST", to+"/take", nil)
	form.Set("version", "2")
	form.Set("owner", s.admin.ID.String())
	form.Set("aware", hour(4*time.Hour))
	b.want(303, "POST", to+"/edit", form)
	b.want(200, "GET", to, nil, "Early warning", "§ 32(1) Nr. 1 BSIG", "left", "Running")
	b.want(409, "POST", to+"/edit", form, "Somebody else has changed it meanwhile")
	form.Set("aware", hour(6*time.Hour))
	b.want(422, "POST", to+"/edit", form, "before the first signal")
	b.want(422, "POST", to+"/decide", url.Values{"version": {"3"}, "significant": {"yes"}}, "say why it is significant")
	b.want(303, "POST", to+"/decide", url.Values{"version": {"3"}, "significant": {"yes"}, "reason": {"credentials were entered"}})
	b.want(303, "POST", to+"/notes", url.Values{"kind": {"containment"}, "text": {"Mailbox locked\n<b>at once</b>"}})
	b.want(422, "POST", to+"/notes", url.Values{"kind": {"containment"}, "text": {"x"}, "at": {"2999-01-01T00:00"}}, "must lie in the past")
	b.want(200, "GET", to, nil, "credentials were entered", "&lt;b&gt;at once&lt;/b&gt;", "Containment")

	report := to + "/reports/early_warning"
	b.want(200, "GET", report, nil, "required fields are empty", "suspected", "Melder-Kontakt")
	b.want(422, "POST", report+"/fields", url.Values{"version": {"4"}, "f.hasCrossBorderImpact": {"perhaps"}}, "must be one of yes, no, unknown")
	b.want(303, "POST", report+"/fields", url.Values{"version": {"4"}, "f.reporterName": {"SOC"}, "f.reporterEmail": {"soc@ours.example"}, "f.incidentSummary": {"Phishing"}, "f.suspectedUnlawfulOrMalicious": {"suspected"}, "f.hasCrossBorderImpact": {"no"}, "f.incidentOccurredAt": {hour(5 * time.Hour)}})
	b.want(200, "GET", report, nil, "All required fields are filled in")
	b.want(422, "POST", report, url.Values{"version": {"0"}, "state": {"submitted"}, "at": {hour(time.Hour)}}, "say how it was handed in")
	b.want(303, "POST", report, url.Values{"version": {"0"}, "state": {"submitted"}, "at": {hour(time.Hour)}, "channel": {"BSI portal"}, "reference": {"BSI-77"}})
	body = b.want(200, "GET", report, nil, "Handed in", "BSI-77", "SHA-256")
	file := regexp.MustCompile(`/sheet\?version=[0-9a-f-]{36}`).FindString(body)
	_, _, content := b.do("GET", report+file, nil)
	sum := sha256.Sum256([]byte(content))
	if !strings.Contains(body, hex.EncodeToString(sum[:])) || !strings.Contains(content, `"soc@ours.example"`) {
		t.Errorf("what is sent is not what is on record: %s", content)
	}
	// The fields go on; what was handed in stays.
	b.want(303, "POST", report+"/fields", url.Values{"version": {"5"}, "f.incidentSummary": {"Something else"}})
	if _, _, again := b.do("GET", report+file, nil); again != content {
		t.Error("a report that was handed in has changed")
	}
	b.want(422, "POST", report, url.Values{"version": {"0"}, "state": {"withdrawn"}, "reason": {"mistake"}}, "nothing to withdraw")
	b.want(303, "POST", report, url.Values{"version": {"1"}, "state": {"withdrawn"}, "reason": {"mistake"}})
	b.want(404, "GET", to+"/reports/rumour", nil)
	b.want(200, "GET", "/incidents?state=unclosed&severity=high&mine=1&q=parcel", nil, "Early warning", "left")
	b.want(200, "GET", "/incidents?state=closed", nil, "No incident matches")
	b.want(200, "GET", "/messages/"+mail.String(), nil, to)
	for action, n := range map[string]int{"incident.create": 1, "incident.update": 5, "incident.note.create": 1, "incident.mail.create": 1, "incident.report.create": 2} {
		list := s.events(action)
		if len(list) != n {
			t.Errorf("%d events %s, want %d", len(list), action, n)
			continue
		}
		if who := list[0]["actor"].(map[string]any)["id"]; who != s.admin.ID.String() {
			t.Errorf("%s was done by %v", action, who)
		}
	}
}

func TestIncidents_Mails(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	b := s.browser()
	b.login("admin@ours.example")
	status, m, text := s.call(s.token(identity.Analyst), "POST", "/incidents", `{"title":"A","detected_at":"2026-10-24T08:00:00Z","exercise":true}`)
	if status != 201 || m["state"] != "open" || m["significant"] != "undecided" {
		t.Fatalf("%d %s", status, text)
	}
	path := "/incidents/" + m["id"].(string)
	mail := s.ledgerMail(policy.DefaultWorkspace, `"><img src=x onerror=alert(1)>`)
	b.want(422, "POST", path+"/mails", url.Values{"mail": {"nonsense"}}, "There is no such mail")
	b.want(422, "POST", path+"/mails", url.Values{"mail": {uuid.NewString()}}, "There is no such mail")
	b.want(303, "POST", path+"/mails", url.Values{"mail": {mail.String()}})
	body := b.want(200, "GET", path, nil, "Exercise", "1 mail")
	if strings.Contains(body, "<img src=x") {
		t.Error("a subject is markup")
	}
	b.want(303, "POST", path+"/mails/"+mail.String()+"/remove", nil)
	b.want(404, "POST", path+"/mails/"+mail.String()+"/remove", nil)
	b.want(200, "GET", path, nil, "No mail belongs to it yet")
}

func TestIncidents_API(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	analyst, auditor, viewer := s.token(identity.Analyst), s.token(identity.Auditor), s.token(identity.Viewer)
	aware := time.Now().Add(-20 * time.Hour).UTC().Format(time.RFC3339)
	status, m, text := s.call(analyst, "POST", "/incidents", fmt.Sprintf(`{"title":"Leak","severity":"critical","detected_at":%q,"aware_at":%q}`, aware, aware))
	if status != 201 {
		t.Fatalf("%d %s", status, text)
	}
	path := "/incidents/" + m["id"].(string)
	lines := m["deadlines"].([]any)
	first := lines[0].(map[string]any)
	if len(lines) != 7 || first["stage"] != "early_warning" || first["state"] != "warn" {
		t.Errorf("%v", first)
	}
	for _, c := range []struct {
		token, method, path, body string
		want                      int
		has                       string
	}{
		{viewer, "GET", path, "", 403, "incidents_read"},
		{auditor, "GET", path, "", 200, "Leak"},
		{auditor, "POST", path + "/notes", `{"text":"x"}`, 403, "incidents_write"},
		{analyst, "POST", path + "/notes", `{"text":"x","kind":"lesson"}`, 201, "lesson"},
		{analyst, "GET", path + "/notes", "", 200, `"lesson"`},
		{analyst, "POST", path + "/mails", `{"mail_id":"` + uuid.NewString() + `"}`, 422, "no such mail"},
		{analyst, "GET", path + "/sheets/notification", "", 200, `"mailward-incident-report/1"`},
		{analyst, "GET", path + "/sheets/rumour", "", 422, ""},
		{analyst, "POST", path + "/reports", `{"stage":"early_warning","seen_version":0,"state":"submitted","submitted_at":"2999-01-01T00:00:00Z","channel":"x"}`, 422, "future"},
		{analyst, "POST", path + "/reports", `{"stage":"early_warning","seen_version":0,"state":"not_required","reason":"an exercise of the authority"}`, 201, "not_required"},
		{analyst, "POST", path + "/reports", `{"stage":"early_warning","seen_version":0,"state":"not_required","reason":"again"}`, 409, "somebody else"},
		{analyst, "PUT", path, `{"title":"","detected_at":"` + aware + `","version":1}`, 422, ""},
		{analyst, "PUT", path, `{"title":"Leak","detected_at":"` + aware + `","version":1,"facts":{"ciaImpact":"luck"}}`, 422, "ciaImpact"},
		{analyst, "PUT", path, `{"title":"Leak","detected_at":"` + aware + `","aware_at":"` + aware + `","version":1,"significant":"yes","significant_reason":"a customer's data","facts":{"personsAffected":"12"}}`, 200, "a customer's data"},
		// What is left out of a change stays.
		{analyst, "PUT", path, `{"title":"Bigger leak","detected_at":"` + aware + `","aware_at":"` + aware + `","version":2}`, 200, `"significant":"yes","significant_reason":"a customer's data"`},
		{analyst, "GET", path, "", 200, `"personsAffected":"12"`},
		{analyst, "PUT", path, `{"title":"Leak","detected_at":"` + aware + `","version":1}`, 409, ""},
		{analyst, "GET", "/incidents/" + uuid.NewString(), "", 404, ""},
		{analyst, "GET", "/incidents?q=bigger&state=open", "", 200, "Bigger leak"},
		{analyst, "GET", "/incidents?cursor=nonsense", "", 422, "cursor"},
		{analyst, "GET", path + "/reports/" + uuid.NewString(), "", 404, ""},
	} {
		if status, _, text := s.call(c.token, c.method, c.path, c.body); status != c.want || !strings.Contains(text, c.has) {
			t.Errorf("%s %s %s: %d, want %d with %q\n%s", c.method, c.path, c.body, status, c.want, c.has, text)
		}
	}
	// A report as it was handed in has exactly the bytes whose hash is on record.
	status, m, text = s.call(analyst, "POST", path+"/reports", fmt.Sprintf(`{"stage":"notification","seen_version":0,"state":"submitted","submitted_at":%q,"channel":"portal"}`, aware))
	if status != 201 {
		t.Fatalf("%d %s", status, text)
	}
	for _, r := range m["reports"].([]any) {
		r := r.(map[string]any)
		if r["stage"] != "notification" {
			continue
		}
		_, _, content := s.call(analyst, "GET", path+"/reports/"+r["id"].(string), "")
		sum := sha256.Sum256([]byte(content))
		if !json.Valid([]byte(content)) || r["content_sha256"] != hex.EncodeToString(sum[:]) {
			t.Errorf("%v\n%s", r, content)
		}
	}
}

// TestIncidents_Pages are safe and whole in both languages.
func TestIncidents_Pages(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	b := s.browser()
	b.login("admin@ours.example")
	must(t, s.ids.SetPreferences(context.Background(), s.principal(), "de", ""))
	_, m, _ := s.call(s.token(identity.Analyst), "POST", "/incidents", `{"title":"`+rtlSubject[:12]+` <b>x</b>","regime":"kritis","detected_at":"2026-10-24T08:00:00Z","aware_at":"2026-10-24T08:00:00Z"}`)
	path := "/incidents/" + m["id"].(string)
	for _, p := range []string{"/incidents", "/incidents/new", path, path + "/edit", path + "/reports/early_warning", path + "/reports/final", path + "/reports/gdpr33"} {
		body := b.want(200, "GET", p, nil, `<html lang="de"`)
		if strings.Contains(body, "<b>x</b>") || strings.Contains(body, "inc.") && regexp.MustCompile(`>inc\.[a-z.]+<`).MatchString(body) || strings.Contains(body, "%!") {
			t.Errorf("%s is not safe, or lacks a text", p)
		}
	}
	b.want(200, "GET", path, nil, "2 Meldungen sind überfällig", "Frühe Erstmeldung", "Überfällig")
	b.want(200, "GET", "/", nil, "Vorfälle")
}

// principal is the first admin, signed in.
func (s *realSite) principal() identity.Principal {
	s.t.Helper()
	_, p, err := s.ids.Login(context.Background(), s.admin.Email, sitePassword, netip.MustParseAddr("192.0.2.9"), "")
	must(s.t, err)
	return p
}
