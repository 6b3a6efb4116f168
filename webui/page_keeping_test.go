package webui

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"

	"mailward/audit"
	"mailward/identity"
	"mailward/policy"
)

// TestHolds_OnThePages: a hold is set with a reason and keeps the mail; lifting it
// takes two people where four eyes are wanted; each act is on record; nobody sees or
// touches the holds of another workspace, nor sets one without the right to delete.
func TestHolds_OnThePages(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.Required)
	ctx := context.Background()
	second, err := s.ids.CreateUser(ctx, pgOperator(), identity.NewUser{Email: "second@ours.example", Password: sitePassword, Roles: []identity.Role{identity.Admin}})
	must(t, err)
	reader, err := s.ids.CreateUser(ctx, pgOperator(), identity.NewUser{Email: "reader@ours.example", Password: sitePassword, Roles: []identity.Role{identity.Viewer}})
	must(t, err)
	b, o, r := s.browser(), s.browser(), s.browser()
	b.login(s.admin.Email)
	o.login(second.Email)
	r.login(reader.Email)
	it, foreign := s.hold("bob@ours.example"), s.hold("eve@theirs.example")
	other := uuid.New()
	_, err = s.db.Admin(t).Exec(ctx, "INSERT INTO workspace (id, name) VALUES ($1, 'Theirs')", other)
	must(t, err)
	_, err = s.db.Admin(t).Exec(ctx, "UPDATE quarantine_item SET workspace_id = $2, legal_hold_at = now(), legal_hold_reason = 'their secret case' WHERE id = $1", foreign.ID, other)
	must(t, err)
	path := "/quarantine/" + it.ID.String()

	// The first administrator may look into all workspaces, the second one not.
	b.want(200, "GET", "/quarantine/holds", nil, "their secret case")
	o.want(200, "GET", "/quarantine/holds", nil, "No mail is under a legal hold")
	b.want(422, "POST", path+"/hold", url.Values{"reason": {"x"}}, "at least three characters")
	r.want(403, "POST", path+"/hold", url.Values{"reason": {"I am curious"}})
	b.want(404, "POST", "/quarantine/"+foreign.ID.String()+"/lift-hold", url.Values{"reason": {"I am curious"}})
	b.want(303, "POST", path+"/hold", url.Values{"reason": {"case 7 <b>of</b> the court"}})
	page := o.want(200, "GET", "/quarantine/holds", nil, "case 7 &lt;b&gt;of&lt;/b&gt; the court", path, "act=lift-hold")
	if strings.Contains(page, "their secret case") {
		t.Error("a hold of another workspace is shown")
	}
	if page := r.want(200, "GET", "/quarantine/holds", nil, "case 7"); strings.Contains(page, "act=lift-hold") {
		t.Error("who may not lift it is offered to")
	}
	if page := b.want(200, "GET", path, nil, "Under a legal hold since", "/lift-hold"); strings.Contains(page, path+"/delete\"") {
		t.Error("a mail under a hold can be deleted")
	}
	b.want(409, "POST", path+"/hold", url.Values{"reason": {"once more"}})
	b.want(409, "POST", path+"/delete", url.Values{"reason": {"away with it"}})
	b.want(303, "POST", path+"/lift-hold", url.Values{"reason": {"the case is over"}})
	b.want(200, "GET", "/quarantine/holds", nil, "case 7") // it waits
	id := regexp.MustCompile(`/approvals/([0-9a-f-]{36})/approve`).FindStringSubmatch(o.want(200, "GET", "/approvals", nil, "the case is over"))[1]
	b.want(409, "POST", "/approvals/"+id+"/approve", url.Values{"reason": {"me too"}})
	o.want(303, "POST", "/approvals/"+id+"/approve", url.Values{"reason": {"agreed with them"}})
	o.want(200, "GET", "/quarantine/holds", nil, "No mail is under a legal hold")
	for _, action := range []string{audit.LegalHoldSet, audit.LegalHoldAsk, audit.LegalHoldApprove, audit.LegalHoldLift} {
		if n := len(s.events(action)); n != 1 {
			t.Errorf("%d events %s", n, action)
		}
	}
	b.want(400, "GET", "/quarantine/holds?at=nonsense&id=x", nil)
}

// TestKeepRules_OnThePage: a rule for each class; one that lets fewer people decide
// waits for a second person; who may not change policies reads them.
func TestKeepRules_OnThePage(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.Required)
	ctx := context.Background()
	second, err := s.ids.CreateUser(ctx, pgOperator(), identity.NewUser{Email: "second@ours.example", Password: sitePassword, Roles: []identity.Role{identity.Admin}})
	must(t, err)
	reader, err := s.ids.CreateUser(ctx, pgOperator(), identity.NewUser{Email: "reader@ours.example", Password: sitePassword, Roles: []identity.Role{identity.Viewer}})
	must(t, err)
	b, o, r := s.browser(), s.browser(), s.browser()
	b.login(s.admin.Email)
	o.login(second.Email)
	r.login(reader.Email)
	rule := func(class policy.Class) (people, hours, days int) {
		rules, err := s.held.Rules(ctx, policy.DefaultWorkspace)
		must(t, err)
		for _, x := range rules {
			if x.Class == class {
				return x.People, x.RequestHours, x.KeepDays
			}
		}
		return -1, -1, -1
	}
	form := func(class, people, hours, days, version string) url.Values {
		return url.Values{"class": {class}, "people": {people}, "hours": {hours}, "days": {days}, "version": {version}, "reason": {"as the board wants"}}
	}
	b.want(200, "GET", "/quarantine/rules", nil, "data-class=\"malware\"", "two people", "72 hours")
	b.want(303, "POST", "/quarantine/rules", form("spam", "2", "24", "7", "0"))
	if p, h, d := rule(policy.Spam); p != 2 || h != 24 || d != 7 {
		t.Errorf("spam: %d %d %d", p, h, d)
	}
	b.want(200, "GET", "/quarantine/rules", nil, "24 hours", "7 days")
	for _, people := range []string{"0", "2"} { // also where it would have to be asked for
		b.want(409, "POST", "/quarantine/rules", form("spam", people, "", "8", "0"), "Somebody else has changed")
	}
	for name, bad := range map[string]url.Values{"class": form("clean", "0", "", "", "0"), "days": form("dlp", "0", "", "9999", "0"), "hours": form("dlp", "0", "many", "", "0"), "people": form("dlp", "3", "", "", "0"),
		"reason": {"class": {"dlp"}, "reason": {"x"}}} {
		if page := b.want(422, "POST", "/quarantine/rules", bad); !strings.Contains(page, "This was not saved") {
			t.Errorf("%s: it is not said that it was not saved", name)
		}
	}
	b.want(303, "POST", "/quarantine/rules", form("malware", "1", "", "", "0"))
	if p, _, _ := rule(policy.Malware); p != 0 {
		t.Errorf("one person has loosened the rule: %d", p)
	}
	id := regexp.MustCompile(`/approvals/([0-9a-f-]{36})/approve`).FindStringSubmatch(o.want(200, "GET", "/approvals", nil, "as the board wants"))[1]
	o.want(303, "POST", "/approvals/"+id+"/approve", url.Values{"reason": {"agreed with them"}})
	if p, _, _ := rule(policy.Malware); p != 1 {
		t.Errorf("after two people: %d", p)
	}
	if page := r.want(200, "GET", "/quarantine/rules", nil, "7 days"); strings.Contains(page, "<form method=\"post\" action=\"/quarantine/rules\"") {
		t.Error("who may not change a rule is offered to")
	}
	r.want(http.StatusForbidden, "POST", "/quarantine/rules", form("spam", "0", "", "", "1"))
	b.want(404, "GET", "/quarantine/rules?space="+uuid.NewString(), nil)
	for action, want := range map[string]int{"quarantine.rule.create": 2, audit.ReleaseRuleAsk: 1, audit.ReleaseRuleApprove: 1} {
		if n := len(s.events(action)); n != want {
			t.Errorf("%d events %s, want %d", n, action, want)
		}
	}
}
