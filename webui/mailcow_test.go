package webui

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"mailward/audit"
	"mailward/identity"
)

func TestMailcow_OverTheAPI(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	admin, operator := s.token(identity.Admin), s.token(identity.Operator)
	if status, _, _ := s.call(admin, "GET", "/mailcow/domains", ""); status != http.StatusForbidden {
		t.Errorf("an admin of a workspace lists mailcow's domains: %d", status)
	}
	status, _, text := s.call(operator, "GET", "/mailcow/domains", "")
	if status != http.StatusOK || !strings.Contains(text, `"name":"`+marker+`.example"`) {
		t.Errorf("list: %d %s", status, text)
	}
	if status, _, text := s.call(operator, "POST", "/mailcow/domains", `{"name":"new.example"}`); status != http.StatusNotFound {
		t.Errorf("a domain that we do not serve: %d %s", status, text)
	}
	if status, _, text := s.call(admin, "POST", "/domains", `{"name":"new.example"}`); status != http.StatusCreated {
		t.Fatalf("%d %s", status, text)
	}
	if status, _, text := s.call(operator, "POST", "/mailcow/domains", `{"name":"New.example","mailboxes":5}`); status != http.StatusNoContent || !slices.Contains(s.mailcow.Domains(), "new.example") {
		t.Errorf("make: %d %s, mailcow has %v", status, text, s.mailcow.Domains())
	}
	if status, _, text := s.call(operator, "POST", "/mailcow/domains", `{"name":"new.example"}`); status != http.StatusConflict {
		t.Errorf("make it again: %d %s", status, text)
	}
	s.mailcow.Break(func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) })
	if status, _, text := s.call(operator, "GET", "/mailcow/domains", ""); status != http.StatusBadGateway {
		t.Errorf("list, with mailcow broken: %d %s", status, text)
	}
	eventually(t, "four events", func() bool { return len(s.events(audit.MailcowDomain)) == 4 })
	phases := map[string]int{}
	for _, e := range s.events(audit.MailcowDomain) {
		phases[e["phase"].(string)+" "+e["outcome"].(map[string]any)["result"].(string)]++
	}
	if phases["intent success"] != 2 || phases["result success"] != 1 || phases["result failure"] != 1 {
		t.Errorf("on record: %v", phases)
	}
}

// TestMailcow_Page: the page shows both sides, says what is wrong, and loses
// nothing of what was typed.
func TestMailcow_Page(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	admin := s.token(identity.Admin)
	if status, _, text := s.call(admin, "POST", "/domains", `{"name":"new.example"}`); status != http.StatusCreated {
		t.Fatalf("%d %s", status, text)
	}
	b := s.login()
	b.wants(b.get("/policies/domains", http.StatusOK), "the page", `id="mailcow"`, marker+".example", `value="10.0.0.9:25"`, `<option value="new.example"`, "0 of 10 mailboxes")
	form := url.Values{"name": {"new.example"}, "description": {"our new one"}, "mailboxes": {"7"}, "aliases": {"8"}, "quota_gib": {"9"}}
	s.mailcow.Break(func(http.ResponseWriter) { panic(http.ErrAbortHandler) })
	if status, _, page := b.post("/policies/domains/mailcow", form); status != http.StatusBadGateway || !strings.Contains(page, "may have been made") {
		t.Errorf("an answer that got lost: %d %s", status, text2(page))
	}
	b.wants(b.get("/policies/domains", http.StatusOK), "the page without mailcow", "does not answer as its API should", "new.example")
	s.mailcow.Break(nil)
	if status, _, page := b.post("/policies/domains/mailcow", form); status != http.StatusBadGateway || !strings.Contains(page, "has this domain already") {
		t.Errorf("the same again: %d %s", status, text2(page))
	}
	if page := b.get("/policies/domains", http.StatusOK); strings.Contains(page, `action="/policies/domains/mailcow"`) {
		t.Error("there is nothing left to make, and the page still offers it")
	}
	if status, _, _ := b.post("/policies/domains/mailcow", url.Values{"name": {"new.example"}, "mailboxes": {"many"}}); status != http.StatusBadRequest {
		t.Errorf("a number that is none: %d", status)
	}
	b.save("/policies/domains", url.Values{"name": {marker + ".example"}, "next_hop": {"10.0.0.9:25"}})
	b.wants(b.get("/policies/domains", http.StatusOK), "the page", "served here")
}
