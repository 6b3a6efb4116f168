package webui

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
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

// TestIncidents_File: the archive holds the case, its events with proofs that can be
// checked, and sums that fit; its own sum is on record.
func TestIncidents_File(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	ctx := context.Background()
	analyst, auditor, admin := s.token(identity.Analyst), s.token(identity.Auditor), s.token(identity.Admin)
	_, m, _ := s.call(analyst, "POST", "/incidents", `{"title":"=cmd()\u001b[2J","detected_at":"2026-10-24T08:00:00Z","aware_at":"2026-10-24T08:00:00Z"}`)
	path, number := "/incidents/"+m["id"].(string), m["number"].(string)
	s.call(analyst, "POST", path+"/notes", `{"text":"mailbox locked"}`)
	s.call(analyst, "POST", path+"/reports", `{"stage":"early_warning","seen_version":0,"state":"submitted","submitted_at":"2026-10-24T09:00:00Z","channel":"portal"}`)
	s.call(analyst, "POST", path+"/mails", `{"mail_id":"`+s.ledgerMail(policy.DefaultWorkspace, "=HYPERLINK(1)").String()+`"}`)
	if status, _, text := s.call(analyst, "POST", path+"/file", ""); status != 403 {
		t.Errorf("without audit_export: %d %s", status, text)
	}
	must(t, s.audit.SequenceAll(ctx))
	status, _, text := s.call(auditor, "POST", path+"/file", "")
	if status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	z, err := zip.NewReader(strings.NewReader(text), int64(len(text)))
	must(t, err)
	files := map[string]string{}
	for _, f := range z.File {
		r, err := f.Open()
		must(t, err)
		b, err := io.ReadAll(r)
		must(t, err)
		name, ok := strings.CutPrefix(f.Name, number+"/")
		if !ok || files[name] != "" {
			t.Errorf("%s is not in its folder, or there twice", f.Name)
		}
		files[name] = string(b)
	}
	lines := 0
	for line := range strings.Lines(files["SHA256SUMS"]) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		if got := sha256.Sum256([]byte(files[name])); hex.EncodeToString(got[:]) != sum {
			t.Errorf("the sum of %s does not fit", name)
		}
		lines++
	}
	if lines != len(files)-1 {
		t.Errorf("%d sums of %d files", lines, len(files))
	}
	if !strings.Contains(files["mails.csv"], "'=HYPERLINK(1)") || !strings.Contains(files["README.txt"], "early_warning          submitted") || strings.Contains(files["README.txt"], "\x1b") || !strings.Contains(files["reports/early_warning-1.json"], "mailward-incident-report/1") || !strings.Contains(files["notes.json"], "mailbox locked") {
		t.Errorf("%v", files)
	}
	proofs := 0
	for name, text := range files {
		id, ok := strings.CutPrefix(strings.TrimSuffix(name, ".tlog-proof"), "audit/")
		if !ok || !strings.HasSuffix(name, ".tlog-proof") {
			continue
		}
		proofs++
		if !strings.HasPrefix(text, "c2sp.org/tlog-proof@v1\n") || files["audit/"+id+".json"] == "" || !strings.Contains(text, strings.TrimSpace(files["checkpoint.txt"])) {
			t.Errorf("%s is no proof under the head: %s", name, text)
		}
	}
	if proofs != 4 || strings.Count(files["audit.jsonl"], "\n") < 4 {
		t.Errorf("%d proofs, events:\n%s", proofs, files["audit.jsonl"])
	}
	sum := sha256.Sum256([]byte(text))
	events := s.events("incident.export")
	if len(events) != 2 || !strings.Contains(fmt.Sprint(events[0]), hex.EncodeToString(sum[:])) || events[1]["phase"] != "intent" {
		t.Errorf("on record: %v", events)
	}
	// In a browser it is a form, which is signed where there is a passkey.
	b := s.browser()
	b.login("admin@ours.example")
	b.want(200, "GET", path, nil, path+"/file")
	if status, _, body := b.do("POST", path+"/file", nil); status != 200 || !strings.HasPrefix(body, "PK") {
		t.Errorf("%d %.100s", status, body)
	}
	key := b.passkey(s.admin.ID)
	b.want(422, "POST", path+"/file", nil, "has to be signed")
	b.want(200, "POST", path+"/file", key.sign(path+"/file", url.Values{}), "PK")
	signedFor(t, s.events("incident.export")[0], path+"/file")
	if status, _, _ := s.call(admin, "POST", "/incidents/"+uuid.NewString()+"/file", ""); status != 404 {
		t.Errorf("of nothing: %d", status)
	}
}
