package webui

import (
	"bytes"
	"context"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/audit"
	"mailward/identity"
	"mailward/internal/pg"
	"mailward/policy"
	"mailward/scanner"
)

// browser is somebody who is logged in.
type browser struct {
	*realSite
	client *http.Client
	lang   string
}

func (s *realSite) login() *browser {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	must(s.t, err)
	b := &browser{s, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, "en"}
	if status, _, body := b.post("/login", url.Values{"email": {"admin@ours.example"}, "password": {sitePassword}, "next": {"/"}}); status != http.StatusSeeOther {
		s.t.Fatalf("login: %d %s", status, body)
	}
	return b
}

func (b *browser) send(req *http.Request) (int, http.Header, string) {
	b.t.Helper()
	req.Header.Set("Accept-Language", b.lang)
	res, err := b.client.Do(req)
	must(b.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	must(b.t, err)
	return res.StatusCode, res.Header, string(body)
}

func (b *browser) get(path string, want int) string {
	b.t.Helper()
	req, err := http.NewRequest(http.MethodGet, b.URL+path, nil)
	must(b.t, err)
	status, header, body := b.send(req)
	if status != want {
		b.t.Errorf("GET %s: %d, want %d", path, status, want)
	}
	wantSafe(b.t, path, header, body)
	return body
}

func (b *browser) post(path string, form url.Values) (int, http.Header, string) {
	b.t.Helper()
	req, err := http.NewRequest(http.MethodPost, b.URL+path, strings.NewReader(form.Encode()))
	must(b.t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.send(req)
}

// save posts a form that has to end in a redirect.
func (b *browser) save(path string, form url.Values) string {
	b.t.Helper()
	status, header, body := b.post(path, form)
	if status != http.StatusSeeOther {
		b.t.Fatalf("POST %s: %d %s", path, status, text2(body))
	}
	return header.Get("Location")
}

// text2 is a page without its tags, for a message.
func text2(page string) string {
	_, page, _ = strings.Cut(page, "<main")
	return page[:min(len(page), 1500)]
}

func (b *browser) wants(page, where string, words ...string) {
	b.t.Helper()
	for _, w := range words {
		if !strings.Contains(page, w) {
			b.t.Errorf("%s lacks %q", where, w)
		}
	}
}

func TestPolicies_Pages(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	b := s.login()
	b.save("/policies/domains", url.Values{"name": {"Ours.example"}, "next_hop": {"10.0.0.5:25"}})
	b.wants(b.get("/policies/domains", 200), "the list of domains", "ours.example", "10.0.0.5:25")
	if status, _, page := b.post("/policies/domains", url.Values{"name": {"no domain"}}); status != 422 || !strings.Contains(page, "is not a domain name") {
		t.Errorf("a bad domain: %d", status)
	}
	b.save("/policies/domains/hop", url.Values{"name": {"ours.example"}, "next_hop": {"10.0.0.6:25"}, "version": {"1"}})
	if status, _, _ := b.post("/policies/domains/hop", url.Values{"name": {"ours.example"}, "next_hop": {"10.0.0.7:25"}, "version": {"1"}}); status != 409 {
		t.Errorf("a next hop with an old version: %d", status)
	}
	b.save("/policies/groups", url.Values{"name": {"Finance"}, "members": {"cfo@ours.example\nfin-*"}, "rank": {"3"}})
	groups, err := s.srv.deps.Policies.Groups(context.Background(), []uuid.UUID{policy.DefaultWorkspace})
	if err != nil || len(groups) != 1 || len(groups[0].Members) != 2 {
		t.Fatalf("%v, %v", groups, err)
	}
	g := groups[0].ID.String()
	edit := b.get("/policies/edit?scope=group:"+g+"&direction=inbound", 200)
	b.wants(edit, "the form", "inherited: tag and deliver (Workspace)", "inherited: 6 (built-in)", `name="version" value="0"`)
	form := url.Values{"scope": {"group:" + g}, "direction": {"inbound"}, "version": {"0"}, "action.spam": {"quarantine"}, "threshold.phishing": {"3,5"}, "weight.name": {"LINK_OTHER_DOMAIN", "MY_RULE", ""}, "weight.value": {"2,5", "1", ""},
		"engine.clamav": {"quarantine"}, "dmarc": {"honour"}, "sealers_set": {"yes"}, "sealers": {"list.example"}, "sandbox.timeout": {"10m"}, "dlp_set": {"yes"}, "dlp_sets": {"cards"}, "do": {"save"}}
	if status, _, page := b.post("/policies/edit", form); status != 422 || !strings.Contains(page, `value="3.5"`) {
		t.Errorf("saved without a reason: %d", status)
	}
	form.Set("reason", "asked for by the CFO")
	b.save("/policies/edit", form)
	page := b.get("/policies?address=CFO%40ours.example", 200)
	b.wants(page, "what is in force", "Group Finance", "3.5", "LINK_OTHER_DOMAIN", "MY_RULE", "quarantine", "list.example", "10m", "cards", "asked for by the CFO")
	form.Set("action.spam", "reject")
	if status, _, page := b.post("/policies/edit", form); status != 409 || !strings.Contains(page, "<td>quarantine</td><td>reject</td>") || !strings.Contains(page, "Somebody else has changed this policy") || !strings.Contains(page, `name="version" value="1"`) {
		t.Errorf("saved twice from one form: %d", status)
	}
	form.Set("version", "1")
	b.wants(b.get("/policies/edit?scope=group:"+g+"&direction=inbound", 200), "the signs", `<option value="LINK_OTHER_DOMAIN">a link shows one domain and leads to another (weighs 3.0)`,
		`value="LINK_OTHER_DOMAIN" aria-label="Sign"`, `value="2.5" aria-label="Weight" placeholder="3.0"`, `value="MY_RULE"`)
	for name, value := range map[string]string{"LINK_IP": "much", "two words": "1", "LINK_USERINFO": ""} {
		form["weight.name"], form["weight.value"] = []string{"LINK_OTHER_DOMAIN", name}, []string{"1", value}
		if status, _, page := b.post("/policies/edit", form); status != 422 || !strings.Contains(page, "is not a sign with a number") || !strings.Contains(page, `value="`+name+`"`) {
			t.Errorf("weight %q of %q: %d", value, name, status)
		}
	}
	b.wants(b.get("/policies?address=x%40else.example", 200), "an address of others", "No mail is taken for this address")
	b.get("/policies?scope=group:"+uuid.NewString(), 404)
	b.save("/policies/reset", url.Values{"scope": {"group:" + g}, "direction": {"inbound"}, "reason": {"no longer needed"}})
	b.lang = "de"
	for _, path := range []string{"/policies", "/policies?scope=domain:ours.example&direction=outbound", "/policies/edit?scope=workspace", "/policies/groups", "/policies/groups/" + g, "/policies/domains", "/policies/entries", "/policies/entries/new"} {
		if page := b.get(path, 200); !strings.Contains(page, `<html lang="de"`) || strings.Count(page, "<h1") != 1 {
			t.Errorf("%s: not a whole page in German", path)
		}
	}
	b.save("/policies/groups/"+g+"/delete", url.Values{"reason": {"not needed"}})
	b.save("/policies/domains/delete", url.Values{"name": {"ours.example"}, "reason": {"sold"}})
}

func TestPolicies_Entries(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	b := s.login()
	it := s.hold("bob@ours.example")
	b.wants(b.get("/quarantine/"+it.ID.String(), 200), "the item", "/policies/entries/new?kind=block")
	form := b.get("/policies/entries/new?kind=block&item="+it.ID.String(), 200)
	b.wants(form, "the form for the sender", `value="m@evil.example"`, `<option value="malware" selected`, `value="admin@ours.example"`)
	entry := url.Values{"kind": {"block"}, "match": {"sender"}, "value": {"m@evil.example"}, "class": {"malware"}, "action": {"reject"}, "domain": {"*"}, "direction": {"inbound"}, "owner": {"soc@ours.example"}, "version": {"0"}}
	if status, _, page := b.post("/policies/entries/new", entry); status != 422 || !strings.Contains(page, "reason must have") {
		t.Errorf("without a reason: %d", status)
	}
	entry.Set("reason", hostileSubject)
	path := b.save("/policies/entries/new", entry)
	b.wants(b.get(path, 200), "the entry", "m@evil.example", "soc@ours.example")
	b.wants(b.get("/policies/entries?q=evil&kind=block&match=sender", 200), "the list", "m@evil.example", "no end")
	b.wants(b.get("/policies/entries?q=nobody", 200), "a list without a hit", "No entry matches")
	entry.Set("version", "1")
	entry.Set("reason", "it goes on")
	b.save(path, entry)
	if status, _, page := b.post(path, entry); status != 409 || !strings.Contains(page, "Somebody else has changed this entry") {
		t.Errorf("with an old version: %d", status)
	}
	entry.Set("until", "yesterday")
	if status, _, _ := b.post(path, entry); status != 422 {
		t.Errorf("an end that is no date: %d", status)
	}
	if status, _, _ := b.post(path+"/delete", url.Values{}); status != 422 {
		t.Errorf("deleted without a reason: %d", status)
	}
	b.save(path+"/delete", url.Values{"reason": {"it is over"}})
	b.get(path, 404)
}

// scanned gives every uploaded mail one finding.
type scanned struct{ trials }

func (scanned) Scan(_ context.Context, raw []byte, q scanner.Question) (policy.Input, error) {
	return policy.Input{Mail: policy.Mail{EnvelopeFrom: q.EnvelopeFrom}, Report: policy.Report{Subject: string(raw[:9]), Findings: []policy.Finding{{Engine: "yara", Name: "junk", Class: policy.Spam}}}}, nil
}

func TestPolicies_TryOut(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	b := s.login()
	_, err := s.srv.deps.Policies.CreateDomain(context.Background(), pg.Operator("test"), policy.NewDomain{Name: "ours.example", NextHop: "10.0.0.5:25"})
	must(t, err)
	junk := s.decided("bob@ours.example", policy.Spam, policy.Finding{Engine: "yara", Name: "junk", Class: policy.Spam})
	form := url.Values{"scope": {"domain:ours.example"}, "direction": {"inbound"}, "version": {"0"}, "action.spam": {"reject"}, "try.what": {"7"}}
	status, _, page := b.post(tryPath, form)
	if status != 200 {
		t.Fatalf("%d %s", status, text2(page))
	}
	b.wants(page, "the trial", "1 copy would be treated in another way", "/messages/"+junk.ID.String(), `name="action.spam" value="reject"`)
	form.Set("try.what", "mail")
	form.Set("try.mail", junk.ID.String())
	_, _, page = b.post(tryPath, form)
	b.wants(page, "the trial of one mail", "tag and deliver", "the policy of ours.example says reject for spam mail", "the policy of the workspace says tag for spam mail")
	for _, bad := range []string{"nonsense", uuid.NewString()} {
		form.Set("try.mail", bad)
		if status, _, _ := b.post(tryPath, form); status != 422 {
			t.Errorf("mail %s: %d", bad, status)
		}
	}
	// Going on with what was found before.
	form.Set("try.what", "30")
	form.Set("try.so", `{"mails":41,"copies":41,"changed":9,"cells":[],"examples":[]}`)
	_, _, page = b.post(tryPath, form)
	b.wants(page, "the next step", "10 copies would be treated", "of 42 copies")
	form.Set("try.so", "nonsense")
	if status, _, _ := b.post(tryPath, form); status != 400 {
		t.Errorf("a result that is none: %d", status)
	}
	s.srv.pages.trials = scanned{s.srv.pages.trials}
	status, page = b.upload(form, "Subject: x\r\n\r\nbody\r\n", "bob@ours.example")
	if status != 200 {
		t.Errorf("upload: %d", status)
	}
	b.wants(page, "the trial of an upload", "says reject for spam mail", "cannot be checked")
	if status, _ := b.upload(form, strings.Repeat("x", maxUpload), "bob@ours.example"); status == 200 {
		t.Error("a mail that is too large was taken")
	}
	if ev := s.events(audit.PolicyTry); len(ev) < 4 {
		t.Errorf("%d trials on record", len(ev))
	}
	if _, err := s.srv.deps.Policies.Layer(context.Background(), policy.Policy{Workspace: policy.DefaultWorkspace, Domain: "ours.example", Direction: policy.Inbound}); err == nil {
		t.Error("a trial was saved")
	}
	form.Set("do", "edit")
	status, _, page = b.post("/policies/edit", form)
	if status != 200 || !strings.Contains(page, `<option value="reject" selected`) {
		t.Errorf("back to the form: %d", status)
	}
}

func (b *browser) upload(form url.Values, mail, to string) (int, string) {
	b.t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	form = url.Values{"scope": form["scope"], "direction": form["direction"], "version": form["version"], "action.spam": form["action.spam"], "try.what": {"file"}, "try.to": {to}}
	for name := range form {
		must(b.t, w.WriteField(name, form.Get(name)))
	}
	f, err := w.CreateFormFile("try.file", "a.eml")
	must(b.t, err)
	_, err = io.WriteString(f, mail)
	must(b.t, err)
	must(b.t, w.Close())
	req, err := http.NewRequest(http.MethodPost, b.URL+tryPath, &body)
	must(b.t, err)
	req.Header.Set("Content-Type", w.FormDataContentType())
	req.Header.Set("Accept-Language", b.lang)
	res, err := b.client.Do(req)
	if err != nil {
		return 0, "" // the server has hung up on a body that is too large
	}
	defer res.Body.Close()
	page, err := io.ReadAll(res.Body)
	must(b.t, err)
	return res.StatusCode, string(page)
}

// TestMessage_Explains shows how a decision came to be, and who passed the mail on.
func TestMessage_Explains(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	b := s.login()
	r := s.decided("bob@ours.example", policy.Spam)
	r.ID, r.ReceivedAt = uuid.Must(uuid.NewV7()), time.Now()
	r.Recipients = []policy.RecipientDecision{{Address: "bob@ours.example", Action: policy.Tag, Class: policy.Spam, Explain: []policy.Line{{Text: "its signs add up to 7.5", Layer: "group", Version: 3, ID: "signs", Args: []string{"class:spam", "number:7.5", ":LINK 7.5", "number:5", "origin:group:Finance"}}, {Text: "an entry", EntryID: id(4)}}},
		{Address: "eve@ours.example", Action: policy.Tag, Why: "an old record"}}
	r.Auth = []byte(`{"spf":{"result":"pass","domain":"x.example"},"dkim":[{"result":"pass","domain":"x.example","aligned":true}],"dmarc":{"result":"pass","spf_aligned":true},
		"arc":{"result":"pass","seen":[{"instance":1,"sealer":"list.example","spf":"fail","dkim":[{"result":"pass"}],"dmarc":"pass","from":"x.example"}]}}`)
	must(t, s.ledger.Decided(context.Background(), r))
	page := b.get("/messages/"+r.ID.String(), 200)
	b.wants(page, "the mail", "its signs of spam add up to 7.5: LINK 7.5; from 5 on it counts as spam; the threshold comes from the policy of the group Finance", "version 3", "/policies/entries/"+id(4).String(), "an old record", "ARC chain", "list.example", "saw SPF fail, DKIM pass, DMARC pass")
	b.lang = "de"
	b.wants(b.get("/messages/"+r.ID.String(), 200), "the mail in German", "Ihre Anzeichen für Spam ergeben zusammen 7,5: LINK 7.5. Ab 5 gilt sie als Spam. Die Schwelle bestimmt die Richtlinie der Gruppe Finance", "an entry")
	if n := strings.Count(page, "aligned"); n < 2 {
		t.Errorf("%d checks are shown as aligned", n)
	}
}
