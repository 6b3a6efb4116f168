package webui

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"

	"mailward/alerting"
	"mailward/alerting/rule"
	"mailward/audit"
	"mailward/identity"
	"mailward/intel"
	"mailward/internal/pg"
	"mailward/quarantine"
)

// asBrowser makes a call with a cookie and headers, and follows no redirect.
func (s *realSite) asBrowser(cookie, path string, header ...string) (status int, to, body string) {
	s.t.Helper()
	req, err := http.NewRequest(http.MethodGet, s.URL+path, nil)
	must(s.t, err)
	req.AddCookie(&http.Cookie{Name: "mailward_session", Value: cookie})
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := c.Do(req)
	must(s.t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	must(s.t, err)
	return res.StatusCode, res.Header.Get("Location"), string(b)
}

// TestAbuse_ALinkTakesNothingInSomebodysName: a link on another site or in a mail is
// followed with the cookie. It must not put into the record that its reader took mail,
// evidence or the record itself.
func TestAbuse_ALinkTakesNothingInSomebodysName(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	item := apiPrefix + "/quarantine/" + s.hold("bob@ours.example").ID.String()
	cookie := s.person(s.admin.Email).cookie
	for _, site := range []string{"cross-site", "same-site", "none"} {
		for _, path := range []string{item + "/raw", apiPrefix + "/exports/" + uuid.NewString() + "/files/bundle.zip", apiPrefix + "/audit/events?format=csv", apiPrefix + "/audit/events?format=ndjson"} {
			if status, _, body := s.asBrowser(cookie, path, "Sec-Fetch-Site", site); status != http.StatusForbidden || strings.Contains(body, "bad things") {
				t.Errorf("%s, %s: %d", path, site, status)
			}
		}
		for _, path := range []string{"/audit/export?format=csv&actor=x", "/audit/export.csv?actor=x"} {
			if status, to, _ := s.asBrowser(cookie, path, "Sec-Fetch-Site", site); status != http.StatusSeeOther || !strings.HasPrefix(to, "/audit/exports?") || !strings.Contains(to, "actor=x") {
				t.Errorf("%s, %s: %d %s", path, site, status, to)
			}
		}
	}
	if status, to, _ := s.asBrowser(cookie, "/audit/export.csv", "Referer", "https://evil.example/"); status != http.StatusSeeOther {
		t.Errorf("from another page, over plain http: %d %s", status, to)
	}
	if n := len(s.events(audit.RawDownload)) + len(s.events(audit.AuditExport)); n != 0 {
		t.Fatalf("%d downloads on record that nobody wanted", n)
	}
	// A page of ours, and a program.
	for _, path := range []string{item + "/raw", apiPrefix + "/audit/events?format=csv", "/audit/export.csv"} {
		for _, header := range [][]string{{"Sec-Fetch-Site", "same-origin"}, {"Referer", s.URL + "/audit"}, nil} {
			if status, to, _ := s.asBrowser(cookie, path, header...); status != http.StatusOK {
				t.Errorf("%s %v: %d %s", path, header, status, to)
			}
		}
	}
	if status, _, _ := s.asBrowser(cookie, apiPrefix+"/audit/events", "Sec-Fetch-Site", "none"); status != http.StatusOK {
		t.Errorf("a list that is only looked at: %d", status)
	}
}

// TestAbuse_AccountsAreLinkedFromOurPageOnly: a link that leads to a provider at which
// somebody else is signed in would make their account there open this one.
func TestAbuse_AccountsAreLinkedFromOurPageOnly(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	cookie := s.person(s.admin.Email).cookie
	for _, c := range []struct {
		header []string
		want   int
	}{
		{[]string{"Sec-Fetch-Site", "cross-site"}, 403}, {[]string{"Sec-Fetch-Site", "none"}, 403}, {nil, 403}, {[]string{"Referer", "https://evil.example/"}, 403},
		{[]string{"Sec-Fetch-Site", "cross-site", "Referer", s.URL + "/settings"}, 403},
		// It goes on, to find that there is no such provider here.
		{[]string{"Sec-Fetch-Site", "same-origin"}, 404}, {[]string{"Referer", s.URL + "/settings"}, 404},
	} {
		if status, _, _ := s.asBrowser(cookie, "/login/sso/none?for=link", c.header...); status != c.want {
			t.Errorf("%q: %d, want %d", c.header, status, c.want)
		}
	}
	if _, _, body := s.asBrowser(cookie, "/login/sso/none?for=link"); !strings.Contains(body, "Accounts are linked from this page only") {
		t.Error("the page does not say what to do")
	}
}

// TestAbuse_OneNetworkUsesUpItsOwnLinksOnly: whoever has a network of IPv6 has
// countless addresses.
func TestAbuse_OneNetworkUsesUpItsOwnLinksOnly(t *testing.T) {
	t.Parallel()
	s := newDigestSite(t)
	ask := func(from string) int {
		req := httptest.NewRequest(http.MethodGet, "/digest/nothing", nil)
		req.RemoteAddr = from
		rec := httptest.NewRecorder()
		s.srv.Handler().ServeHTTP(rec, req)
		return rec.Code
	}
	last := 0
	for i := range 2 * linksPerMinute { // a new minute may begin on the way
		last = ask(fmt.Sprintf("[2001:db8::%x]:4711", i+1))
		if last == http.StatusTooManyRequests {
			break
		}
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("the last of %d addresses of one network: %d", 2*linksPerMinute, last)
	}
	if got := ask("[2001:db8:1::1]:4711"); got != http.StatusGone {
		t.Errorf("another network: %d", got)
	}
}

func TestAbuse_ATokenBecomesNobody(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	ctx := context.Background()
	bob, err := s.ids.CreateUser(ctx, pg.Operator("root"), identity.NewUser{Email: "bob@ours.example", Password: sitePassword, Roles: []identity.Role{identity.Analyst}})
	must(t, err)
	narrow, _, err := s.ids.CreateToken(ctx, pg.Operator("root"), identity.NewToken{Role: identity.Admin, Scopes: []identity.Right{identity.UsersWrite}, OwnerID: s.admin.ID})
	must(t, err)
	for _, c := range [][2]string{{"POST", "/users/" + bob.ID.String() + "/password"}, {"DELETE", "/users/" + bob.ID.String() + "/factors"}} {
		if status, _, body := s.call(narrow, c[0], c[1], ""); status != http.StatusForbidden || strings.Contains(body, `"password"`) {
			t.Errorf("%s %s: %d %s", c[0], c[1], status, body)
		}
	}
	if status, _, body := s.call(narrow, "POST", "/users", `{"email":"eve@ours.example","password":"`+sitePassword+`","roles":["admin"]}`); status != http.StatusForbidden || !strings.Contains(body, "a token gives nobody a right") {
		t.Errorf("an administrator made by a token that may only make accounts: %d %s", status, body)
	}
	if status, _, _ := s.call(narrow, "GET", "/users/"+bob.ID.String()+"/sessions", ""); status != http.StatusOK {
		t.Errorf("what it may: %d", status)
	}
}

// otherSpace is a second workspace, whose maker is its administrator, with one person
// more who has a role there alone.
func (s *realSite) otherSpace(role identity.Role) (id uuid.UUID, email string) {
	s.t.Helper()
	ctx := context.Background()
	_, p, err := s.ids.Login(ctx, s.admin.Email, sitePassword, netip.MustParseAddr("192.0.2.1"), "")
	must(s.t, err)
	w, err := s.ids.CreateWorkspace(ctx, p, "Other", "test")
	must(s.t, err)
	u, err := s.ids.CreateUser(ctx, pg.Operator("root"), identity.NewUser{Email: "zoe@other.example", Password: sitePassword, Roles: []identity.Role{role}, Workspace: w.ID})
	must(s.t, err)
	return w.ID, u.Email
}

// TestSpaces_WhatIsMadeGoesToTheChosenOne, also where somebody runs the installation,
// and where they have a role in no other.
func TestSpaces_WhatIsMadeGoesToTheChosenOne(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	other, email := s.otherSpace(identity.Admin)
	b := s.browser()
	b.login(s.admin.Email)
	b.want(303, "POST", "/prefs", url.Values{"space": {other.String()}, "next": {"/"}})
	b.want(303, "POST", "/alerts/silences", url.Values{"length": {"4h"}, "reason": {"maintenance there"}})
	b.want(303, "POST", "/alerts/channels", url.Values{"name": {"SOC"}, "kind": {"email"}, "target": {"soc@other.example"}, "language": {"en"}, "severity": {"info"}, "per_minute": {"6"}})
	b.want(303, "POST", "/intel/overrides", url.Values{"effect": {"block"}, "value": {"evil.example"}, "class": {"phishing"}, "reason": {"seen today"}})
	z := s.browser()
	z.login(email)
	z.want(303, "POST", "/intel/overrides", url.Values{"effect": {"block"}, "value": {"worse.example"}, "class": {"phishing"}, "reason": {"seen today"}})

	silences, err := s.alerts.Silences(t.Context(), false)
	must(t, err)
	channels, err := s.alerts.Channels(t.Context())
	must(t, err)
	overrides, _, err := s.intel.Overrides(t.Context(), intel.OverrideFilter{Workspaces: []uuid.UUID{other}, Limit: 10})
	must(t, err)
	if len(silences) != 1 || silences[0].Workspace != other || len(channels) != 1 || channels[0].Workspace != other {
		t.Errorf("silences %+v, channels %+v, want those of %s", silences, channels, other)
	}
	for _, o := range overrides {
		if o.Workspace == nil || *o.Workspace != other {
			t.Errorf("%+v", o)
		}
	}
	if len(overrides) != 2 {
		t.Errorf("%d overrides of the chosen workspace, want 2", len(overrides))
	}
}

// TestAlerts_OthersAreNotTold: what the installation does about one client's domain is
// no business of another's.
func TestAlerts_OthersAreNotTold(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	_, email := s.otherSpace(identity.Admin)
	u, err := s.ids.UserByEmail(t.Context(), email)
	must(t, err)
	theirs, _, err := s.ids.CreateToken(t.Context(), pg.Operator("root"), identity.NewToken{Role: identity.Admin, OwnerID: u.ID})
	must(t, err)
	vera, err := s.ids.CreateUser(t.Context(), pg.Operator("root"), identity.NewUser{Email: "vera@ours.example", Password: sitePassword, Roles: []identity.Role{identity.Viewer}})
	must(t, err)
	ours, _, err := s.ids.CreateToken(t.Context(), pg.Operator("root"), identity.NewToken{Role: identity.Viewer, OwnerID: vera.ID})
	must(t, err)
	admin, operator := s.token(identity.Admin), s.token(identity.Operator)
	for _, c := range [][3]string{
		{admin, "/domains", `{"name":"` + marker + `.example","next_hop":"10.0.0.5:25"}`},
		{operator, "/alerts/reactions", `{"reaction":{"kind":"lock"},"domain":"` + marker + `.example","reason":"` + marker + ` was taken over"}`},
		{operator, "/alerts/reactions", `{"reaction":{"kind":"pause"},"reason":"all of us wait"}`},
		{operator, "/alerts/silences", `{"subject":"` + marker + `.example","reason":"` + marker + ` is loud","seconds":3600}`},
		{operator, "/alerts/silences", `{"reason":"all of us are loud","seconds":3600}`},
	} {
		if status, _, body := s.call(c[0], "POST", c[1], c[2]); status != http.StatusCreated {
			t.Fatalf("POST %s: %d %s", c[1], status, body)
		}
	}
	list, err := s.alerts.Reactions(t.Context(), alerting.AlertFilter{All: true}, uuid.Nil)
	must(t, err)
	for _, x := range list {
		if status, _, _ := s.call(theirs, "GET", "/alerts/reactions/"+x.ID.String(), ""); (status == http.StatusOK) != (x.Domain == "") {
			t.Errorf("the reaction about %q: %d", x.Domain, status)
		}
	}
	z := s.browser()
	z.login(email)
	for _, path := range []string{"/alerts/reactions", "/alerts/silences"} {
		_, _, got := s.call(theirs, "GET", path, "")
		if strings.Contains(got, marker) || !strings.Contains(got, "all of us") {
			t.Errorf("%s tells others: %s", path, got)
		}
		if got := z.want(200, "GET", path, nil); strings.Contains(got, marker) {
			t.Errorf("the page %s tells others", path)
		}
		if _, _, got := s.call(ours, "GET", path, ""); !strings.Contains(got, marker) || !strings.Contains(got, "all of us") {
			t.Errorf("%s does not tell those whose domain it is: %s", path, got)
		}
	}
	// Nor does the preview of a rule name a channel of others.
	status, m, body := s.call(admin, "POST", "/alerts/channels", `{"name":"`+marker+`","kind":"email","target":"soc@ours.example","workspace_id":"`+identity.DefaultWorkspace.String()+`"}`)
	if status != http.StatusCreated {
		t.Fatalf("%d %s", status, body)
	}
	form := url.Values{"name": {"x"}, "metric": {"phishing_rate_5min"}, "compare": {"above"}, "threshold": {"3"}, "window": {"5m"}, "cooldown": {"1h"}, "severity": {"warn"}, "missing": {"keep"}, "channel": {m["id"].(string)}}
	if got := z.want(200, "GET", "/alerts/rules/preview?"+form.Encode(), nil); strings.Contains(got, marker) {
		t.Error("the preview names a channel of others")
	}
}

// TestAPI_ImportsAsMuchAsItSays: the bound of all other bodies is lower.
func TestAPI_ImportsAsMuchAsItSays(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	body := `[{"value":"hxxp://evil[.]example/a","class":"phishing"}` + strings.Repeat(" ", 2*maxBody) + `]`
	if status, m, text := s.call(s.token(identity.Operator), "POST", "/intel/indicators?source=mine", body); status != http.StatusOK || m["added"] != 1.0 {
		t.Errorf("%d %s", status, text)
	}
}

// TestNavigation_EachKeyLeadsToOnePage: the second entry with a key could not be reached.
func TestNavigation_EachKeyLeadsToOnePage(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	b := s.browser()
	b.login(s.admin.Email)
	seen := map[string]string{}
	for _, m := range regexp.MustCompile(`<a href="([^"]+)" data-key="(.)"`).FindAllStringSubmatch(b.want(200, "GET", "/health", nil), -1) {
		if was := seen[m[2]]; was != "" && was != m[1] { // the menu is there twice, for phones
			t.Errorf("%s leads to %s and %s", m[2], was, m[1])
		}
		seen[m[2]] = m[1]
	}
	if len(seen) < 10 {
		t.Fatalf("only %d keys: %v", len(seen), seen)
	}
}

// TestLists_AreSearched: the short lists of settings, by a part of a name.
func TestLists_AreSearched(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	s.otherSpace(identity.Viewer)
	admin := s.token(identity.Admin)
	for _, c := range [][2]string{{"/domains", `{"name":"first.example","next_hop":"10.0.0.5:25"}`}, {"/domains", `{"name":"second.example","next_hop":"10.0.0.6:25"}`},
		{"/policy-groups", `{"name":"Board","members":["cfo@first.example"]}`}, {"/policy-groups", `{"name":"Sales","members":["x@first.example"]}`}} {
		if status, _, body := s.call(admin, "POST", c[0], c[1]); status != http.StatusCreated {
			t.Fatalf("%s: %d %s", c[0], status, body)
		}
	}
	b := s.browser()
	b.login(s.admin.Email)
	for _, c := range []struct{ path, query, has, not string }{
		{"/policies/domains", "FIRST", "scope=domain%3Afirst.example", "scope=domain%3Asecond.example"},
		{"/policies/domains", "10.0.0.6", "scope=domain%3Asecond.example", "scope=domain%3Afirst.example"},
		{"/policies/groups", "cfo@", "<h2>Board", "<h2>Sales"},
		{"/workspaces", "oth", "<h2>Other", "<h2>Default"},
	} {
		if got := b.want(200, "GET", c.path+"?q="+c.query, nil, c.has); strings.Contains(got, c.not) {
			t.Errorf("%s?q=%s shows %s", c.path, c.query, c.not)
		}
		b.want(200, "GET", c.path+"?q=nothingfits", nil, "Nothing matches", `href="`+c.path+`"`)
		b.want(200, "GET", c.path, nil, c.has, c.not)
	}
}

// TestKeys_CanBeSwitchedOff: WCAG 2.1.4.
func TestKeys_CanBeSwitchedOff(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	b := s.browser()
	b.login(s.admin.Email)
	if got := b.want(200, "GET", "/settings", nil, "Switch single keys off", "<kbd>g q</kbd>"); strings.Contains(got, "data-keys") {
		t.Error("they are off already")
	}
	b.want(303, "POST", "/prefs", url.Values{"keys": {"off"}, "next": {"/settings"}})
	b.want(200, "GET", "/settings", nil, `<body data-keys="off">`, "Switch single keys on")
	b.want(200, "GET", "/health", nil, `<body data-keys="off">`)
	b.want(303, "POST", "/prefs", url.Values{"keys": {"on"}, "next": {"/settings"}})
	if got := b.want(200, "GET", "/health", nil); strings.Contains(got, "data-keys") {
		t.Error("they are still off")
	}
}

// TestAlertHistory_IsFiltered: by severity, state and a part of the name, on the page
// and over the API.
func TestAlertHistory_IsFiltered(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	s.spikeNow("ours.example")
	b, admin := s.browser(), s.token(identity.Admin)
	b.login(s.admin.Email)
	for query, has := range map[string]bool{"": true, "?severity=critical&state=firing&q=PHISHING": true, "?q=ours.exa": true, "?severity=info": false, "?state=resolved": false, "?q=nothingfits": false} {
		got := b.want(200, "GET", "/alerts/history"+query, nil)
		if strings.Contains(got, "<td class=\"wrap\">ours.example") != has || strings.Contains(got, "Nothing matches") == has {
			t.Errorf("/alerts/history%s: shown %v", query, !has)
		}
	}
	owner, _, err := s.ids.CreateToken(t.Context(), pg.Operator("root"), identity.NewToken{Role: identity.Operator, OwnerID: s.admin.ID})
	must(t, err)
	for query, n := range map[string]int{"?state=firing": 1, "?state=resolved": 0, "?severity=info": 0} {
		if status, m, body := s.call(owner, "GET", "/alerts/history"+query, ""); status != http.StatusOK || (len(m["items"].([]any)) > 0) != (n > 0) {
			t.Errorf("%s: %d %s", query, status, body)
		}
	}
	if status, _, _ := s.call(admin, "GET", "/alerts/history?state=odd", ""); status != http.StatusUnprocessableEntity {
		t.Errorf("a state that is none: %d", status)
	}
}

// TestPassword_RenewsTheCookie: a copy of it ends with the old password.
func TestPassword_RenewsTheCookie(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	b := s.browser()
	b.login(s.admin.Email)
	at := must1(url.Parse(s.URL))
	copied := b.c.Jar.Cookies(at)[0].Value
	const next = "a new horse battery"
	b.want(303, "POST", "/password", url.Values{"old": {sitePassword}, "new": {next}, "again": {next}})
	// As much later as calls that are under way may take.
	_, err := s.db.Admin(t).Exec(t.Context(), "UPDATE session SET rotated_at = rotated_at - interval '2 minutes'")
	must(t, err)
	if status, _, _ := s.asBrowser(copied, "/settings"); status != http.StatusSeeOther {
		t.Errorf("the copied cookie: %d", status)
	}
	b.want(200, "GET", "/settings", nil)
}

// TestBulk_ATokenSeesItsOwnWorkspaceOnly: an act belongs to a person, and a token of
// theirs may be for one workspace.
func TestBulk_ATokenSeesItsOwnWorkspaceOnly(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	other, _ := s.otherSpace(identity.Viewer)
	it := s.hold("bob@ours.example")
	_, err := s.db.Admin(t).Exec(t.Context(), "UPDATE quarantine_item SET subject = $1 WHERE id = $2", marker, it.ID)
	must(t, err)
	full := s.token(identity.Admin)
	status, m, body := s.call(full, "POST", "/quarantine/bulk", `{"act":"sandbox","reason":"look again","items":["`+it.ID.String()+`"]}`)
	if status != http.StatusAccepted {
		t.Fatalf("%d %s", status, body)
	}
	path := "/quarantine/bulk/" + m["id"].(string)
	narrow, _, err := s.ids.CreateToken(t.Context(), pg.Operator("root"), identity.NewToken{Role: identity.Admin, OwnerID: s.admin.ID, Workspace: other})
	must(t, err)
	for token, sees := range map[string]bool{full: true, narrow: false} {
		if status, _, body := s.call(token, "GET", path, ""); status != http.StatusOK || strings.Contains(body, marker) != sees {
			t.Errorf("sees it: %v; %d %s", sees, status, body)
		}
	}
}

// TestMetricValue_HasItsUnit: a number alone says nothing to who is on call.
func TestMetricValue_HasItsUnit(t *testing.T) {
	t.Parallel()
	texts, err := newCatalog()
	must(t, err)
	p := &frame{lang: texts.pick("de")}
	for _, c := range []struct {
		metric string
		value  float64
		want   string
	}{{"sandbox_queue_age_minutes", 12, "12 min"}, {"scan_latency_p95_ms", 41.5, "41,5 ms"}, {"audit_seal_lag_seconds", 6, "6 s"}, {"phishing_rate_5min", 41, "41"}, {"of a later version", 1, "1"}} {
		if got := p.metricValue(c.metric, &c.value); got != c.want {
			t.Errorf("%s: %q, want %q", c.metric, got, c.want)
		}
	}
	if got := p.condition(rule.Spec{Metric: "scan_latency_p95_ms", Compare: rule.Times, Threshold: 3}); strings.Contains(got, "ms") {
		t.Errorf("a factor has no unit: %q", got)
	}
}

// TestApprovals_SayWhatIsAsked: an approver sees in the inbox that it is malware, until
// when there is time, and that somebody insists.
func TestApprovals_SayWhatIsAsked(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.Required)
	it := s.hold("bob@ours.example")
	_, err := s.held.Release(t.Context(), pg.Actor{Type: pg.ActorUser, UserID: s.admin.ID}, nil, it.ID, quarantine.ReleaseRequest{Reason: "wanted by the customer"})
	must(t, err)
	b := s.browser()
	b.login(s.admin.Email)
	if got := b.want(200, "GET", "/approvals", nil, `class="badge c-malware"`, "The request ends on "); strings.Contains(got, "found worse") || strings.Contains(got, "twice") {
		t.Error("it says what is not so")
	}
	_, err = s.db.Admin(t).Exec(t.Context(), "UPDATE release SET insisted = true, again = true")
	must(t, err)
	b.want(200, "GET", "/approvals", nil, "although the engines found worse", "may get the mail twice")
}
