package webui

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"mailward/identity"
	"mailward/intel"
)

func TestAPI_Intel(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	operator, viewer, analyst := s.token(identity.Operator), s.token(identity.Viewer), s.token(identity.Analyst)
	var in intel.Imported
	s.asked(operator, "POST", "/intel/indicators?source=mine", `[{"value":"hxxp://evil[.]example/a","class":"phishing"},{"value":"google.com"}]`, 200, &in)
	if in.Added != 1 || len(in.Errors) != 1 || in.Errors[0].Line != 2 {
		t.Errorf("%+v", in)
	}
	soon := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	var o intel.Override
	s.asked(analyst, "POST", "/intel/overrides", `{"effect":"allow","value":"evil[.]example","reason":"is ours","expires_at":"`+soon+`"}`, 201, &o)
	if o.Value != "evil.example" || o.Workspace == nil || o.Owner == "" {
		t.Errorf("%+v", o)
	}
	for _, c := range []struct {
		who, method, path, body string
		want                    int
		has                     string
	}{
		{viewer, "GET", "/intel/indicators?value=evil.example/a", "", 200, `"value":"http://evil.example/a"`},
		{viewer, "GET", "/intel/indicators?cursor=x", "", 422, "bad cursor"},
		{analyst, "POST", "/intel/indicators?source=mine", "[]", 403, ""},
		{viewer, "GET", "/intel/overrides", "", 200, "is ours"},
		{viewer, "POST", "/intel/overrides", `{"effect":"block","value":"a.example","reason":"because"}`, 403, ""},
		{analyst, "POST", "/intel/overrides", `{"effect":"block","value":"a.example","reason":"because","installation":true}`, 403, ""},
		{analyst, "POST", "/intel/overrides", `{"effect":"block","value":"google.com","reason":"because"}`, 422, "half of all mail"},
		{analyst, "GET", "/intel/feeds", "", 200, `"items":[]`},
		{operator, "POST", "/intel/feeds/none/sync", "", 404, ""},
		{viewer, "DELETE", "/intel/overrides/" + o.ID.String() + "?reason=done", "", 403, ""},
		{analyst, "DELETE", "/intel/overrides/" + o.ID.String() + "?reason=done", "", 204, ""},
		{analyst, "DELETE", "/intel/overrides/" + o.ID.String() + "?reason=done", "", 404, ""},
	} {
		if code, _, text := s.call(c.who, c.method, c.path, c.body); code != c.want || !strings.Contains(text, c.has) {
			t.Errorf("%s %s: %d, want %d with %q\n%s", c.method, c.path, code, c.want, c.has, text)
		}
	}
}

func TestPages_Intel(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	real := newRealSite(t, identity.SingleOperator)
	s.pages.intel, s.pages.feeds = real.intel, real.feeds
	form := url.Values{"effect": {"block"}, "value": {"hxxp://evil[.]example/<b>"}, "class": {"phishing"}, "reason": {"seen today"}, "scope": {"installation"}}
	if r := s.call(t, http.MethodPost, "/intel/overrides", form); r.Code != http.StatusSeeOther {
		t.Fatalf("%d %s", r.Code, r.Body)
	}
	form.Set("value", "nonsense")
	if r := s.call(t, http.MethodPost, "/intel/overrides", form); r.Code != http.StatusUnprocessableEntity || !strings.Contains(r.Body.String(), "seen today") {
		t.Errorf("%d %s", r.Code, r.Body)
	}
	for path, has := range map[string]string{"/intel": "No indicators yet", "/intel?q=evil.example": "Nothing is known", "/intel/feeds": "No feeds", "/intel/overrides": "hxxp://evil[.]example/%3Cb%3E"} {
		if !strings.Contains(s.get(t, path), has) {
			t.Errorf("%s: without %q", path, has)
		}
	}
}
