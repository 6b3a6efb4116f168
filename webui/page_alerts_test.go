package webui

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/alerting"
	"mailward/alerting/rule"
	"mailward/identity"
)

// spikeNow has the phishing rule fire for a domain.
func (s *realSite) spikeNow(name string) alerting.Alert {
	s.t.Helper()
	ctx := s.t.Context()
	must(s.t, s.alerts.InstallPack(ctx))
	admin := s.db.Admin(s.t)
	at := time.Now().UTC().Add(-45 * time.Second)
	for _, step := range []int{10, 300, 3600} {
		for _, x := range [][2]string{{"phishing_rate_5min", name}, {"phishing_rate_5min", ""}, {"alive", "a"}} {
			_, err := admin.Exec(ctx, `INSERT INTO metric_bucket VALUES ($1, $2, $3, '00000000-0000-0000-0000-000000000001', $4, 0, 41, 41, 1)`, x[0], step, at.Truncate(time.Duration(step)*time.Second), x[1])
			must(s.t, err)
		}
	}
	_, err := admin.Exec(ctx, `INSERT INTO alert_clock VALUES (true, $1, 'test', 0)`, time.Now().UTC().Add(-20*time.Second).Truncate(10*time.Second))
	must(s.t, err)
	must(s.t, s.alerts.Evaluate(ctx))
	list, err := s.alerts.Alerts(ctx, alerting.AlertFilter{All: true, Open: true})
	must(s.t, err)
	for _, a := range list {
		if a.Firing && a.Subject == name {
			return a
		}
	}
	s.t.Fatalf("it does not fire: %+v", list)
	return alerting.Alert{}
}

func TestAlertPages(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	b := s.login()
	b.wants(b.get("/alerts", 200), "/alerts", "Nothing fires", "Nobody hears of alerts.")
	b.wants(b.get("/alerts/rules", 200), "/alerts/rules", "There are no rules yet")
	b.wants(b.get("/alerts/silences", 200), "/alerts/silences", "Nothing is silenced")
	b.wants(b.get("/alerts/channels", 200), "/alerts/channels", "There are no channels yet")
	b.wants(b.get("/alerts/history", 200), "/alerts/history", "Nothing has happened yet")

	a := s.spikeNow(`<img src=x>.example`)
	here := "/alerts/" + a.ID.String()
	b.wants(b.get("/alerts", 200), "/alerts", "Phishing spike", "&lt;img src=x&gt;.example", "41", `class="pill crit"`)
	b.wants(b.get(here, 200), here, "/quarantine?class=phishing&amp;domain=", "Take it in hand")
	b.wants(b.get(b.save(here+"/ack", url.Values{"note": {"looking into it"}}), 200), "acknowledged", "Acknowledged", "looking into it")
	if code, _, page := b.post(here+"/ack", url.Values{}); code != http.StatusConflict || !strings.Contains(page, "somebody has it in hand already") {
		t.Errorf("acknowledged twice: %d", code)
	}
	b.wants(b.get(b.save("/alerts/silences", url.Values{"rule": {a.Rule.String()}, "length": {"4h"}, "reason": {"campaign known"}}), 200), "silences", "campaign known", "In force", "Phishing spike")
	if code, _, page := b.post("/alerts/silences", url.Values{"length": {"4h"}, "reason": {"x"}}); code != http.StatusUnprocessableEntity || !strings.Contains(page, "silence-wrong") {
		t.Errorf("silence without a reason: %d", code)
	}
	b.wants(b.get(b.save("/alerts/channels", url.Values{"name": {"SOC"}, "kind": {"email"}, "target": {"soc@ours.example"}, "language": {"de"}, "severity": {"warn"}, "per_minute": {"6"}, "everything": {"yes"}, "enabled": {"yes"}}), 200), "channels", "SOC", "Not used yet")
	if code, _, page := b.post("/alerts/channels", url.Values{"name": {"S"}, "kind": {"slack"}, "target": {"https://hooks.slack.com/x"}}); code != http.StatusUnprocessableEntity || !strings.Contains(page, "channel-wrong") {
		t.Errorf("a secret address in the form: %d", code)
	}
	channels, err := s.alerts.Channels(t.Context())
	must(t, err)
	ch := "/alerts/channels/" + channels[0].ID.String()
	b.wants(b.get(b.save(ch+"/test", url.Values{}), 200), ch, "waits", "Test")
	for _, path := range []string{"/alerts", here, "/alerts/rules", "/alerts/rules?q=phish&severity=critical", "/alerts/rules?q=nothingfits", "/alerts/rules/new", "/alerts/rules/" + a.Rule.String(), "/alerts/silences", "/alerts/channels", ch, "/alerts/history"} {
		for _, lang := range []string{"en", "de"} {
			req, err := http.NewRequest(http.MethodGet, s.URL+path, nil)
			must(t, err)
			req.AddCookie(&http.Cookie{Name: "mailward_lang", Value: lang})
			code, h, page := b.send(req)
			if code != 200 || strings.Count(page, "<h1") != 1 || strings.Contains(page, ">alert.") {
				t.Errorf("%s %s: %d", lang, path, code)
			}
			wantSafe(t, lang+" "+path, h, page)
		}
	}
}

// TestDashboard_LeadsFromAnAlertToItsMails is the first minute of an incident: the
// dashboard names the alarm and the domain, and its page leads to the mails.
func TestDashboard_LeadsFromAnAlertToItsMails(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	b := s.login()
	a := s.spikeNow("ours.example")
	here := "/alerts/" + a.ID.String()
	b.wants(b.get("/", 200), "/", "Phishing spike: ours.example", "41 above 30", `href="`+here+`"`)
	b.wants(b.get(here, 200), here, "/quarantine?class=phishing&amp;domain=ours.example")
	b.save(here+"/ack", url.Values{"note": {"looking into it"}})
	b.wants(b.get("/", 200), "/", "Phishing spike: ours.example", "In hand: ")
	for _, other := range []string{"b.example", "c.example", "d.example"} {
		_, err := s.db.Admin(t).Exec(t.Context(), `INSERT INTO alert SELECT (jsonb_populate_record(x, jsonb_build_object('id', gen_random_uuid(), 'subject', $2::text))).* FROM alert x WHERE id = $1`, a.ID, other)
		must(t, err)
	}
	page := b.get("/", 200)
	b.wants(page, "/", "1 more alert", `href="/alerts"`)
	if n := strings.Count(page, "Phishing spike: "); n != alertLines {
		t.Errorf("%d alerts have a line of their own, not %d", n, alertLines)
	}
}

func TestAlertRules_EditPreviewRevert(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	a := s.spikeNow("ours.example")
	b := s.login()
	here := "/alerts/rules/" + a.Rule.String()
	b.wants(b.get(here, 200), here, "over 5 min, is above 30, for each domain by itself", "would have fired in the last 7 days", `<svg class="plot alert-plot"`, "It goes to the channels that take everything.")
	form := url.Values{"version": {"1"}, "name": {"Phishing spike"}, "metric": {"phishing_rate_5min"}, "compare": {"above"}, "threshold": {"12,5"}, "window": {"10m"}, "for": {"1m"}, "cooldown": {"2h"},
		"severity": {"critical"}, "missing": {"keep"}, "each": {"yes"}, "day": {"1", "2"}, "from": {"08:00"}, "to": {"18:00"}, "zone": {"Europe/Berlin"}}
	draft := b.get("/alerts/rules/preview?"+form.Encode(), 200)
	b.wants(draft, "preview", "is above 12.5, for at least 60 s, for each domain by itself", "every 2 h at most", `id="preview"`)
	b.wants(b.get(here+"?"+form.Encode(), 200), "draft", `value="12,5"`)
	if code, _, page := b.post(here, form); code != http.StatusUnprocessableEntity || !strings.Contains(page, "A critical rule is changed with a reason") || !strings.Contains(page, `value="12,5"`) {
		t.Errorf("a critical rule without a reason: %d", code)
	}
	form.Set("reason", "campaign under way")
	b.wants(b.get(b.save(here, form), 200), "/alerts/rules", "above 12.5")
	if code, _, page := b.post(here, form); code != http.StatusConflict || !strings.Contains(page, "has changed the rule meanwhile") {
		t.Errorf("of an old version: %d", code)
	}
	form.Set("window", "soon")
	if code, _, page := b.post(here, form); code != http.StatusUnprocessableEntity || !strings.Contains(page, "Window: must be a length of time") {
		t.Errorf("a window of no length: %d", code)
	}
	r, err := s.alerts.Rule(t.Context(), a.Rule)
	must(t, err)
	if d := r.Spec.Schedule; r.Number != 2 || r.Spec.Threshold != 12.5 || d.From != 480 || d.To != 1080 || d.Zone != "Europe/Berlin" || len(d.Days) != 2 || r.Spec.For != time.Minute {
		t.Errorf("%+v", r.Spec)
	}
	b.wants(b.get(here, 200), here, "campaign under way", "Use again", "Version 1")
	b.save(here+"/revert", url.Values{"version": {"2"}, "number": {"1"}, "reason": {"campaign over"}})
	b.save(here+"/switch", url.Values{"version": {"3"}, "reason": {"not needed"}})
	b.wants(b.get(here, 200), here, "Switch on")
	b.save(here+"/delete", url.Values{"version": {"4"}, "reason": {"not needed"}})
	b.get(here, 404)
	var reasons []string
	for _, e := range s.events("alert.rule.update") {
		if r, ok := e["reason"].(map[string]any); ok {
			reasons = append(reasons, r["text"].(string))
		}
	}
	if got := strings.Join(reasons, ";"); !strings.Contains(got, "campaign under way") || !strings.Contains(got, "campaign over") {
		t.Errorf("reasons on record: %q", got)
	}
}

// Nobody sees, changes or silences what belongs to another workspace.
func TestAPI_Alerts(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	a := s.spikeNow("ours.example")
	admin, viewer := s.token(identity.Admin), s.token(identity.Viewer)
	here := "/alerts/" + a.ID.String()
	ruleHere := "/alerts/rules/" + a.Rule.String()
	for _, c := range []struct {
		who, method, path, body string
		want                    int
		has                     string
	}{
		{viewer, "GET", "/alerts?open=true", "", 200, `"subject":"ours.example"`},
		{viewer, "GET", here, "", 200, `"state":"firing"`},
		{viewer, "POST", here + "/ack", `{}`, 403, ""},
		{admin, "POST", here + "/ack", `{"note":"mine"}`, 200, `"state":"acknowledged"`},
		{admin, "POST", here + "/ack", `{}`, 409, "somebody has it in hand"},
		{admin, "GET", "/alerts/" + uuid.NewString(), "", 404, ""},
		{viewer, "GET", "/alerts/history", "", 200, `"before":"inactive"`},
		{viewer, "GET", ruleHere, "", 200, `"window":"5m0s"`},
		{viewer, "PUT", ruleHere, `{}`, 403, ""},
		{admin, "PUT", ruleHere, `{"name":"P","metric":"phishing_rate_5min","threshold":3,"severity":"critical","version":1}`, 422, "a reason of 3 to 500"},
		{admin, "PUT", ruleHere, `{"name":"P","metric":"moon","threshold":3,"version":1}`, 422, "metric is not one that is measured"},
		{admin, "PUT", ruleHere, `{"name":"P","metric":"phishing_rate_5min","threshold":3,"window":"soon","version":1}`, 422, "window must be a length"},
		{admin, "PUT", ruleHere, `{"name":"P","metric":"phishing_rate_5min","threshold":3,"each":true,"version":1}`, 200, `"number":2`},
		{admin, "PUT", ruleHere, `{"name":"P","metric":"phishing_rate_5min","threshold":3,"version":1}`, 409, "meanwhile"},
		{admin, "POST", ruleHere + "/backtest", `{"days":7}`, 200, `"episodes"`},
		{admin, "POST", ruleHere + "/revert", `{"version":2,"number":1,"reason":"as it was"}`, 200, `"threshold":30`},
		{admin, "GET", ruleHere + "/versions", "", 200, `"reason":"as it was"`},
		{admin, "POST", "/alerts/channels", `{"name":"h","kind":"webhook","target":"https://hooks.example/x","secret":"nope"}`, 422, "secret must be the name"},
		{admin, "POST", "/alerts/channels", `{"name":"h","kind":"webhook","target":"https://hooks.example/x","secret":"hook"}`, 201, `"secret":"hook"`},
		{admin, "POST", "/alerts/channels", `{"name":"H","kind":"wazuh"}`, 409, "exists already"},
		{viewer, "GET", "/metrics", "", 200, `"cti_sync_lag_minutes"`},
		{viewer, "GET", "/metrics/phishing_rate_5min?step=10s&subject=ours.example", "", 200, `"value":41`},
		{viewer, "GET", "/metrics/moon", "", 404, ""},
		{viewer, "GET", "/metrics/mails_5min?step=7s", "", 422, ""},
	} {
		code, _, text := s.call(c.who, c.method, c.path, c.body)
		if code != c.want || !strings.Contains(text, c.has) {
			t.Errorf("%s %s %s: %d, want %d with %q\n%s", c.method, c.path, c.body, code, c.want, c.has, text)
		}
	}
	stranger := identity.Principal{Roles: map[uuid.UUID][]identity.Role{uuid.New(): {identity.Admin}}}
	if f := alertsOf(stranger); f.All || len(f.Workspaces) != 1 {
		t.Errorf("an administrator of one workspace sees %+v", f)
	}
	if mayAlert(stranger, identity.AlertsWrite, uuid.Nil) || mayAlert(stranger, identity.AlertsAct, a.Workspace) {
		t.Error("an administrator of one workspace may change what is the installation's, or another's")
	}
	list, err := s.alerts.Alerts(t.Context(), alertsOf(stranger))
	if err != nil || len(list) != 0 {
		t.Errorf("%v: %d alerts of others", err, len(list))
	}
	if r, err := s.alerts.Rule(t.Context(), a.Rule); err != nil || r.Spec.Severity != rule.Critical {
		t.Errorf("%v: %+v", err, r)
	}
}
