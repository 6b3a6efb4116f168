package webui

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"

	"mailward/alerting"
	"mailward/identity"
)

// spikeHere is a spike in a workspace that there is.
func (s *realSite) spikeHere() alerting.Alert {
	s.t.Helper()
	_, err := s.db.Admin(s.t).Exec(s.t.Context(), "INSERT INTO workspace (id, name) VALUES ('00000000-0000-0000-0000-000000000001', 'one')")
	must(s.t, err)
	return s.spikeNow("ours.example")
}

func TestReactions_FormBeginUndo(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	a := s.spikeHere()
	b := s.login()
	b.wants(b.get("/alerts/reactions", 200), "/alerts/reactions", "There was no reaction yet")
	rules := "/alerts/rules/" + a.Rule.String()
	form := url.Values{"version": {"1"}, "name": {"Phishing spike"}, "metric": {"phishing_rate_5min"}, "compare": {"above"}, "threshold": {"30"}, "window": {"5m"}, "cooldown": {"1h"}, "severity": {"critical"},
		"missing": {"keep"}, "each": {"yes"}, "reason": {"campaign under way"},
		"reaction_kind": {"lock"}, "reaction_dry": {"yes"}, "reaction_lasts": {"30m"}, "reaction_most": {"50"}, "reaction_direction": {"inbound"}}
	b.wants(b.get("/alerts/rules/preview?"+form.Encode(), 200), "preview", "All incoming mail of the alert’s domain is quarantined, whatever was found. It lasts 30 min, with a limit of 50 mails. This is a dry run")
	form.Set("reaction_match", "subject")
	form.Set("reaction_value", ".*")
	if code, _, page := b.post(rules, form); code != http.StatusUnprocessableEntity || !strings.Contains(page, "Reaction: looks for what cannot be found") {
		t.Errorf("a pattern that matches everything: %d", code)
	}
	form.Set("reaction_value", "(?i)invoice")
	b.save(rules, form)
	b.wants(b.get(rules, 200), rules, `value="(?i)invoice"`, `value="30m"`, "with a subject like (?i)invoice")

	here := "/alerts/" + a.ID.String()
	b.wants(b.get(here, 200), here, "Begin now", "This is a dry run")
	if code, _, _ := b.post(here+"/react", url.Values{"reason": {"x"}}); code != http.StatusUnprocessableEntity {
		t.Errorf("begun without a reason: %d", code)
	}
	at := b.save(here+"/react", url.Values{"reason": {"seen by myself"}, "dry": {"yes"}})
	b.wants(b.get(at, 200), at, "Dry run", "Mails that would be held: 0, at most 50", "seen by myself")
	at = b.save(here+"/react", url.Values{"reason": {"it is real"}})
	id := uuid.MustParse(at[strings.LastIndexByte(at, '/')+1:])
	if code, _, _ := b.post(here+"/react", url.Values{"reason": {"it is real"}}); code != http.StatusConflict {
		t.Errorf("begun twice: %d", code)
	}
	mail := uuid.New()
	_, err := s.db.Admin(t).Exec(t.Context(), "INSERT INTO alert_reaction_touch (reaction_id, thing_id) VALUES ($1, $2)", id, mail)
	must(t, err)
	b.wants(b.get(at, 200), at, "In force", "Mails held: 1, at most 50", "/messages/"+mail.String(), "/quarantine?symbol=Locked."+id.String(), "stays in the quarantine until somebody releases it")
	b.get("/quarantine?symbol=Locked."+id.String(), 200)
	b.wants(b.get(here, 200), here, "Mails held: 1", at+"/undo")
	b.wants(b.get("/alerts", 200), "/alerts", "A reaction is in force.")
	for _, path := range []string{"/alerts", "/alerts/reactions", at, here, rules, "/alerts/rules/new"} {
		for _, lang := range []string{"en", "de"} {
			req, err := http.NewRequest(http.MethodGet, s.URL+path, nil)
			must(t, err)
			req.AddCookie(&http.Cookie{Name: "mailward_lang", Value: lang})
			code, h, page := b.send(req)
			if code != 200 || strings.Count(page, "<h1") != 1 || strings.Contains(page, ">alert.") || strings.Contains(page, "alert.react.") {
				t.Errorf("%s %s: %d", lang, path, code)
			}
			wantSafe(t, lang+" "+path, h, page)
		}
	}
	if code, _, page := b.post(at+"/undo", url.Values{"reason": {" "}}); code != http.StatusUnprocessableEntity || !strings.Contains(page, "Undo") {
		t.Errorf("undone without a reason: %d", code)
	}
	b.wants(b.get(b.save(at+"/undo", url.Values{"reason": {"a newsletter of ours"}}), 200), at, "Undone", "a newsletter of ours", "The reaction was undone.")
	if code, _, page := b.post(at+"/undo", url.Values{"reason": {"a newsletter of ours"}}); code != http.StatusConflict || !strings.Contains(page, "It was over already.") {
		t.Errorf("undone twice: %d", code)
	}
	// Each step is on record as that person.
	for action, want := range map[string]string{"alert.reaction.create": "it is real", "alert.reaction.update": "a newsletter of ours"} {
		found := false
		for _, e := range s.events(action) {
			r, _ := e["reason"].(map[string]any)
			found = found || r["text"] == want && e["actor"].(map[string]any)["type"] == "user"
		}
		if !found {
			t.Errorf("%s with %q is not on record as a person", action, want)
		}
	}
}

func TestAPI_Reactions(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	a := s.spikeHere()
	admin, analyst, viewer := s.token(identity.Admin), s.token(identity.Analyst), s.token(identity.Viewer)
	rules := "/alerts/rules/" + a.Rule.String()
	byAlert := `"alert_id":"` + a.ID.String() + `"`
	for _, c := range []struct {
		who, method, path, body string
		want                    int
		has                     string
	}{
		{viewer, "GET", "/alerts/reactions", "", 200, `"items":[]`},
		{viewer, "POST", "/alerts/reactions", `{` + byAlert + `,"reason":"by hand"}`, 403, ""},
		{analyst, "POST", "/alerts/reactions", `{` + byAlert + `,"reason":"by hand"}`, 422, "is of a rule that has no reaction"},
		{admin, "PUT", rules, `{"name":"P","metric":"phishing_rate_5min","threshold":30,"each":true,"version":1,"reaction":{"kind":"burn"}}`, 422, ""},
		{admin, "PUT", rules, `{"name":"P","metric":"phishing_rate_5min","threshold":30,"version":1,"reaction":{"kind":"lock"}}`, 422, "would lock all mail there is"},
		{admin, "PUT", rules, `{"name":"P","metric":"phishing_rate_5min","threshold":30,"each":true,"version":1,"reaction":{"kind":"sandbox"}}`, 422, "none is set up"},
		{admin, "PUT", rules, `{"name":"P","metric":"phishing_rate_5min","threshold":30,"each":true,"version":1,"reaction":{"kind":"lock","lasts":"20m"}}`, 200, `"dry_run":true`},
		{analyst, "POST", "/alerts/reactions", `{` + byAlert + `,"reason":"by hand","dry_run":false}`, 404, ""},
		{analyst, "POST", "/alerts/reactions", `{` + byAlert + `,"reason":"by hand"}`, 201, `"domain":"ours.example"`},
		{analyst, "POST", "/alerts/reactions", `{` + byAlert + `,"reason":"by hand"}`, 409, "in force already"},
		{analyst, "POST", "/alerts/reactions", `{"reaction":{"kind":"pause"},"reason":"by hand"}`, 404, ""},
		{admin, "POST", "/alerts/reactions", `{"reason":"by hand"}`, 422, "is needed where no alert is named"},
		{admin, "POST", "/alerts/reactions", `{"reaction":{"kind":"pause","dry_run":false,"lasts":"2h"},"reason":"by hand"}`, 201, `"mails":[]`},
		{admin, "POST", "/alerts/reactions", `{"reaction":{"kind":"pause"},"domain":"x.example","workspace_id":"` + uuid.NewString() + `","reason":"by hand"}`, 404, ""},
		{viewer, "GET", "/alerts/reactions?active=true&alert=" + a.ID.String(), "", 200, `"kind":"lock"`},
		{viewer, "GET", "/alerts/reactions/" + uuid.NewString(), "", 404, ""},
	} {
		code, _, text := s.call(c.who, c.method, c.path, c.body)
		if code != c.want || !strings.Contains(text, c.has) {
			t.Errorf("%s %s %s: %d, want %d with %q\n%s", c.method, c.path, c.body, code, c.want, c.has, text)
		}
	}
	list, err := s.alerts.Reactions(t.Context(), alerting.AlertFilter{All: true, Open: true}, uuid.Nil)
	must(t, err)
	if len(list) != 2 {
		t.Fatalf("%+v", list)
	}
	for _, x := range list {
		undo := "/alerts/reactions/" + x.ID.String() + "/undo"
		if code, _, _ := s.call(viewer, "POST", undo, `{"reason":"no more"}`); code != 403 {
			t.Errorf("a viewer undoes: %d", code)
		}
		if code, _, text := s.call(admin, "POST", undo, `{"reason":"no more"}`); code != 200 || !strings.Contains(text, `"end_kind":"undo"`) {
			t.Errorf("undo: %d %s", code, text)
		}
		if code, _, _ := s.call(admin, "POST", undo, `{"reason":"no more"}`); code != 409 {
			t.Errorf("undo twice: %d", code)
		}
	}
}
