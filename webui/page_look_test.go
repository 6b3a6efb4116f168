package webui

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"mailward/audit"
	"mailward/identity"
	"mailward/internal/aezip"
	"mailward/internal/pg"
	"mailward/scanner/sidecar"
)

// inProcess is the sidecar's parser without its process.
type inProcess struct{}

func (inProcess) View(_ context.Context, raw io.Reader) (mailView, error) {
	b, err := io.ReadAll(raw)
	if err != nil {
		return mailView{}, err
	}
	v := sidecar.Look(b, sidecar.DefaultLimits())
	out := mailView{Text: v.Text, HTML: v.HTML, Truncated: v.Truncated}
	for _, h := range v.Headers {
		out.Headers = append(out.Headers, headerField{h.Name, h.Value, h.Raw})
	}
	return out, nil
}

func (inProcess) Part(context.Context, io.Reader, string) ([]byte, error) {
	return []byte("a file"), nil
}

func (inProcess) Zip(_ context.Context, name string, raw io.Reader, at time.Time) ([]byte, error) {
	b, err := io.ReadAll(raw)
	if err != nil {
		return nil, err
	}
	return aezip.Pack(name, b, at)
}

// TestLadder climbs the rights as each role, of the mail's workspace and of
// another one: no rung gives what the next one does.
func TestLadder(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	s.srv.pages.opener = inProcess{}
	it := s.hold("bob@ours.example")
	item := "/quarantine/" + it.ID.String()
	_, p, err := s.ids.Login(context.Background(), s.admin.Email, sitePassword, netip.MustParseAddr("192.0.2.1"), "")
	must(t, err)
	other, err := s.ids.CreateWorkspace(context.Background(), p, "Other", "test")
	must(t, err)
	stranger, err := s.ids.CreateUser(context.Background(), pg.Operator("root"), identity.NewUser{Email: "x@other.example", Password: sitePassword, Roles: []identity.Role{identity.Admin}, Workspace: other.ID})
	must(t, err)
	foreign, _, err := s.ids.CreateToken(context.Background(), pg.Operator("root"), identity.NewToken{Name: "t", Role: identity.Admin, OwnerID: stranger.ID})
	must(t, err)
	rungs := []struct {
		path string
		want map[identity.Role]int
	}{
		{item, map[identity.Role]int{identity.Viewer: 200, identity.Auditor: 200, identity.Approver: 200, identity.Analyst: 200, identity.Admin: 200}},
		{item + "/headers", map[identity.Role]int{identity.Viewer: 403, identity.Auditor: 200, identity.Approver: 200, identity.Analyst: 200, identity.Admin: 200}},
		{item + "/body?purpose=analysis", map[identity.Role]int{identity.Viewer: 403, identity.Auditor: 403, identity.Approver: 200, identity.Analyst: 200, identity.Admin: 200}},
		// The item that is held here has no parts: who may ask is told so.
		{item + "/parts/1?purpose=analysis", map[identity.Role]int{identity.Viewer: 403, identity.Auditor: 403, identity.Approver: 403, identity.Analyst: 404, identity.Admin: 404}},
		{item + "/raw", map[identity.Role]int{identity.Viewer: 403, identity.Auditor: 403, identity.Approver: 403, identity.Analyst: 200, identity.Admin: 200}},
	}
	for role := range rungs[0].want {
		token := s.token(role)
		for _, r := range rungs {
			if status, _, body := s.call(token, "GET", r.path, ""); status != r.want[role] || status != 200 && strings.Contains(body, "bad things") {
				t.Errorf("%s %s: %d, want %d: %.200s", role, r.path, status, r.want[role], body)
			}
		}
	}
	for _, r := range rungs {
		if status, _, body := s.call(foreign, "GET", r.path, ""); status != 404 || strings.Contains(body, "bad things") {
			t.Errorf("another workspace's admin %s: %d %.200s", r.path, status, body)
		}
	}
	// Each look stands in the record: the intent with its purpose, then what became of it.
	phases := func() (intents, results int) {
		for _, e := range s.events(audit.ViewBody) {
			switch {
			case e["phase"] == "intent" && text(e, "reason", "code") == "analysis":
				intents++
			case e["phase"] == "result" && text(e, "correlation", "causation_id") != "":
				results++
			}
		}
		return
	}
	eventually(t, "three looks on record", func() bool { i, r := phases(); return i == 3 && r == 3 })
}

func TestBodyCall(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	s.srv.pages.opener = inProcess{}
	item, token := "/quarantine/"+s.hold("bob@ours.example").ID.String(), s.token(identity.Analyst)
	for path, want := range map[string]int{"/body": 422, "/body?purpose=fun": 422, "/body?purpose=test&format=raw": 422, "/parts/1": 422, "/parts/x?purpose=test": 422} {
		if status, _, body := s.call(token, "GET", item+path, ""); status != want || strings.Contains(body, "bad things") {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
	// A link in a mail, opened in a browser that is logged in, states nobody's purpose.
	for _, site := range []string{"none", "cross-site", "same-site"} {
		if status, _, body := s.call(token, "GET", item+"/body?purpose=test", "", "Sec-Fetch-Site", site); status != 403 || strings.Contains(body, "bad things") {
			t.Errorf("a call from %s: %d", site, status)
		}
	}
	if n := len(s.events(audit.ViewBody)); n != 0 {
		t.Errorf("%d looks are on record that were none", n)
	}
	if _, m, body := s.call(token, "GET", item+"/body?purpose=test&reason=a+drill", ""); m["content"] != "bad things\r\n" || m["format"] != "text" {
		t.Errorf("the body: %s", body)
	}
	if _, m, body := s.call(token, "GET", item+"/headers", ""); text(m, "fields") == "" || !strings.Contains(body, `"raw":"Subject: x\r\n"`) || !strings.Contains(body, `"ours":true`) {
		t.Errorf("the headers: %s", body)
	}
}

func TestParts_TakenOut(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	path := "/quarantine/" + id(2).String()
	page := s.get(t, path+"?tab=parts")
	for _, want := range []string{"really text/javascript", strings.Repeat("cd", 32), "nothing found: ", "Take out…", "Its password is: infected"} {
		if !strings.Contains(page, want) {
			t.Errorf("the parts lack %q", want)
		}
	}
	if rec := s.call(t, http.MethodPost, path+"/parts/2", nil); rec.Code != http.StatusSeeOther || len(s.record.events) > 0 {
		t.Errorf("without a purpose: %d", rec.Code)
	}
	for _, n := range []string{"0", "3", "x", "-1"} {
		if rec := s.call(t, http.MethodPost, path+"/parts/"+n, url.Values{"purpose": {"test"}}); rec.Code != http.StatusNotFound {
			t.Errorf("part %s: %d", n, rec.Code)
		}
	}
	rec := s.call(t, http.MethodPost, path+"/parts/2", url.Values{"purpose": {"analysis"}, "reason": {"for the lab"}})
	if rec.Code != http.StatusOK || rec.Header().Get("Content-Disposition") != `attachment; filename="`+strings.Repeat("cd", 32)+`.zip"` || bytes.Contains(rec.Body.Bytes(), []byte("the file")) {
		t.Errorf("%d %v %q", rec.Code, rec.Header(), rec.Body.String()[:60])
	}
	if !strings.Contains(rec.Body.String(), "part-1.2-Rechnung_fdp.js") {
		t.Error("the name inside is not the safe one")
	}
	if evs := s.record.events; len(evs) != 2 || evs[0].Action != audit.ViewPart || evs[0].Phase != "intent" || evs[0].ReasonCode != "analysis" || evs[0].Targets[1].ID != strings.Repeat("cd", 32) || evs[1].Phase != "result" || evs[1].Correlation.CausationID != evs[0].ID.String() {
		t.Errorf("on record: %+v", evs)
	}
	if rec := s.call(t, http.MethodPost, path+"/parts/1", url.Values{"purpose": {"analysis"}}); rec.Code != http.StatusGone || s.record.events[3].Outcome != "failure" {
		t.Errorf("a part that is not found again: %d", rec.Code)
	}
}

func TestRaw_IsAZip(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	path := "/quarantine/" + id(2).String() + "/raw"
	if rec := s.call(t, http.MethodPost, path, url.Values{"reason": {"for the lab"}}); rec.Code != http.StatusUnprocessableEntity || len(s.record.events) > 0 {
		t.Errorf("without a purpose: %d", rec.Code)
	}
	rec := s.call(t, http.MethodPost, path, url.Values{"reason": {"for the lab"}, "purpose": {"analysis"}})
	if rec.Code != http.StatusOK || rec.Header().Get("Content-Type") != "application/zip" || !bytes.HasPrefix(rec.Body.Bytes(), []byte("PK\x03\x04")) || strings.Contains(rec.Body.String(), "Subject: raw") {
		t.Errorf("%d %q", rec.Code, rec.Body.String()[:40])
	}
	if evs := s.record.events; len(evs) != 2 || evs[0].Action != audit.RawDownload || evs[0].Reason != "for the lab" || evs[0].ReasonCode != "analysis" || evs[1].Correlation.CausationID == "" {
		t.Errorf("on record: %+v", evs)
	}
}

func TestHeaders_AsTheyCameAndTheirPath(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	path := "/quarantine/" + id(2).String()
	page := s.get(t, path+"?tab=headers")
	for _, want := range []string{"=?utf-8?q?IT?=\r\n &lt;it@sender.example&gt;", "reads:", "4 of 4 fields", "U+202E"} {
		if !strings.Contains(page, want) {
			t.Errorf("the header lacks %q", want)
		}
	}
	if page = s.get(t, path+"?tab=headers&h=SENDER.example"); !strings.Contains(page, "2 of 4 fields") || strings.Contains(page, "X-Bad") {
		t.Error("the search finds something else")
	}
	page = s.get(t, path+"?tab=path")
	for _, want := range []string{"relay.sender.example", "198.51.100.9", "seen by us", "TLS"} {
		if !strings.Contains(page, want) {
			t.Errorf("the path lacks %q", want)
		}
	}
}

func TestLinks_AfterTheReason(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	path := "/quarantine/" + id(2).String()
	if page := s.get(t, path+"?tab=links"); strings.Contains(page, "evil") || !strings.Contains(page, `value="`+path+`?tab=links"`) {
		t.Error("links are shown without a reason, or one does not come back to them")
	}
	s.call(t, http.MethodPost, path+"/view", url.Values{"purpose": {"analysis"}})
	page := s.get(t, path+"?tab=links")
	if !strings.Contains(page, "<code>hxxp://login[.]evil[.]example/verify?a=1</code>") || strings.Contains(page, "http://login") {
		t.Errorf("the links: %s", page)
	}
	if ev := s.record.events[len(s.record.events)-1]; ev.OutcomeCode != "links" || ev.Correlation.CausationID == "" {
		t.Errorf("on record: %+v", ev)
	}
	if page := s.get(t, path+"?tab=history"); !strings.Contains(page, `href="/audit?range=all&amp;target=`+id(2).String()) {
		t.Error("the history does not lead to the record")
	}
}

func TestSafeName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"a.pdf": "part-1.2-a.pdf", "../../etc/passwd": "part-1.2-etc_passwd", "x\u202efdp.exe\r\n\"": "part-1.2-x_fdp.exe", "": "part-1.2-file", "日本": "part-1.2-file", ".bashrc": "part-1.2-bashrc"} {
		it := testItems()[0].Parts[1]
		it.Name = name
		if got := safeName(it); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
