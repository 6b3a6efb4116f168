package webui

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/descope/virtualwebauthn"
	"github.com/google/uuid"

	"mailward/approval"
	"mailward/audit"
	"mailward/identity"
)

func (b *testBrowser) login(email string) {
	b.s.t.Helper()
	if status, to, body := b.do("POST", "/login", url.Values{"email": {email}, "password": {sitePassword}}); status != http.StatusSeeOther {
		b.s.t.Fatalf("login of %s: %d %s %s", email, status, to, body)
	}
}

// want asks for a page and looks at its status and for words on it.
func (b *testBrowser) want(status int, method, path string, form url.Values, words ...string) string {
	b.s.t.Helper()
	got, to, body := b.do(method, path, form)
	if got != status {
		b.s.t.Fatalf("%s %s: %d %s, want %d\n%.600s", method, path, got, to, status, body)
	}
	for _, w := range words {
		if !strings.Contains(body, w) {
			b.s.t.Errorf("%s %s lacks %q", method, path, w)
		}
	}
	return body
}

// signer is a passkey that a person added.
type signer struct {
	b      *testBrowser
	rp     virtualwebauthn.RelyingParty
	device virtualwebauthn.Authenticator
	key    virtualwebauthn.Credential
}

func (b *testBrowser) begin(path string, form url.Values) (options, step string) {
	b.s.t.Helper()
	var c struct {
		Options json.RawMessage `json:"options"`
		Step    string          `json:"step"`
	}
	must(b.s.t, json.Unmarshal([]byte(b.want(200, "POST", path, form)), &c))
	return string(c.Options), c.Step
}

func (b *testBrowser) passkey(user uuid.UUID) *signer {
	b.s.t.Helper()
	p := &signer{b, virtualwebauthn.RelyingParty{Name: "Mailward", ID: "mailward.ours.example", Origin: "https://mailward.ours.example"},
		virtualwebauthn.NewAuthenticatorWithOptions(virtualwebauthn.AuthenticatorOptions{UserHandle: user[:]}), virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2)}
	options, step := b.begin("/settings/passkeys/begin", nil)
	made := must1(virtualwebauthn.ParseAttestationOptions(options))
	b.want(200, "POST", "/settings/passkeys", url.Values{"step": {step}, "name": {"key"}, "answer": {virtualwebauthn.CreateAttestationResponse(p.rp, p.device, p.key, *made)}})
	return p
}

// sign signs a form that is sent to path.
func (p *signer) sign(path string, form url.Values) url.Values {
	options, step := p.b.begin("/sign", url.Values{"act": {path}, "fields": {string(must1(json.Marshal(form)))}})
	p.key.Counter++
	out := url.Values{"step": {step}, "answer": {virtualwebauthn.CreateAssertionResponse(p.rp, p.device, p.key, *must1(virtualwebauthn.ParseAssertionOptions(options)))}}
	for k, v := range form {
		out[k] = v
	}
	return out
}

// TestApproval_IsSigned: whoever has a passkey signs a decision, and a signature
// to refuse is none to agree.
func TestApproval_IsSigned(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.Required)
	ctx := context.Background()
	second, err := s.ids.CreateUser(ctx, pgOperator(), identity.NewUser{Email: "second@ours.example", Password: sitePassword, Roles: []identity.Role{identity.Approver}})
	must(t, err)
	if status, _, body := s.call(s.token(identity.Admin), "POST", "/users", `{"email":"new@ours.example","password":"`+sitePassword+`","roles":["viewer"]}`); status != 201 {
		t.Fatalf("%d %s", status, body)
	}
	waits, err := s.ids.Approvals().List(ctx, approval.Filter{Workspaces: []uuid.UUID{identity.DefaultWorkspace}, State: "requested"})
	must(t, err)
	path, form := "/approvals/"+waits.Items[0].ID.String(), url.Values{"reason": {"known to me"}}
	b := s.browser()
	b.login(second.Email)
	key := b.passkey(second.ID)
	b.want(200, "GET", "/approvals", nil, `data-passkey="sign"`, "You sign your decision")
	b.want(422, "POST", path+"/approve", form, "has to be signed")
	b.want(422, "POST", path+"/approve", key.sign(path+"/deny", form), "signature does not fit")
	if n := len(s.events(audit.RoleApprove)) + len(s.events(audit.RoleDeny)); n != 0 {
		t.Fatalf("%d decisions", n)
	}
	b.want(303, "POST", path+"/approve", key.sign(path+"/approve", form))
	if a, _ := s.events(audit.RoleApprove)[0]["attestation"].(map[string]any); a["by"] != "passkey" || !strings.Contains(a["act"].(string), path+"/approve") {
		t.Errorf("on record: %v", a)
	}
	if a, _ := s.events(audit.RoleRequest)[0]["attestation"].(map[string]any); a["by"] != "server" {
		t.Errorf("the request by a program: %v", a)
	}
}

func TestWorkspaces_Pages(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	ctx := context.Background()
	b := s.browser()
	b.login(s.admin.Email)
	b.want(422, "POST", "/workspaces", url.Values{"name": {" "}, "reason": {"a new client"}}, "1 to 100 letters")
	b.want(422, "POST", "/workspaces", url.Values{"name": {"Client"}})
	b.want(303, "POST", "/workspaces", url.Values{"name": {"Client"}, "reason": {"a new client"}})
	b.want(409, "POST", "/workspaces", url.Values{"name": {"client"}, "reason": {"again"}}, "has this name already")
	list, err := s.ids.ListWorkspaces(ctx, nil)
	must(t, err)
	client := list[0]
	if client.Name != "Client" {
		client = list[1]
	}
	path := "/workspaces/" + client.ID.String()
	b.want(303, "POST", path+"/rename", url.Values{"name": {"Client Ltd"}, "reason": {"as registered"}})
	b.want(404, "POST", path+"/destroy", url.Values{"reason": {"as registered"}})
	b.want(200, "GET", "/workspaces", nil, "Client Ltd", "0 domains", "1 person")

	// Two workspaces: a column and a filter, and one can be chosen.
	it := s.hold("bob@ours.example")
	b.want(200, "GET", "/quarantine", nil, `name="space"`, `class="space"`, it.ID.String())
	b.want(200, "GET", "/audit", nil, `name="space"`)
	if got := b.want(200, "GET", "/quarantine?space="+client.ID.String(), nil, "selected"); strings.Contains(got, it.ID.String()) {
		t.Error("the filter shows another workspace's mail")
	}
	b.want(303, "POST", "/prefs", url.Values{"space": {client.ID.String()}, "next": {"/quarantine"}})
	if got := b.want(200, "GET", "/quarantine", nil); strings.Contains(got, it.ID.String()) || strings.Contains(got, `class="space"`) {
		t.Error("the chosen workspace shows another's mail")
	}
	b.want(200, "GET", "/quarantine/"+it.ID.String(), nil) // opened by its address
	// What is made goes where one is.
	b.want(303, "POST", "/policies/domains", url.Values{"name": {"client.example"}, "next_hop": {"10.0.0.5:25"}})
	b.want(409, "POST", path+"/archive", url.Values{"reason": {"left us"}}, "cannot be archived")
	b.want(303, "POST", "/policies/domains/delete", url.Values{"name": {"client.example"}, "reason": {"left us"}})
	b.want(303, "POST", path+"/archive", url.Values{"reason": {"left us"}})
	b.want(422, "POST", "/policies/domains", url.Values{"name": {"client.example"}, "next_hop": {"10.0.0.5:25"}}, "archived")
	b.want(303, "POST", path+"/open", url.Values{"reason": {"came back"}})
	for action, n := range map[string]int{"workspace.create": 1, "workspace.update": 3} {
		if got := s.events(action); len(got) != n || got[0]["workspace_id"] != client.ID.String() {
			t.Errorf("%d events %s, want %d", len(got), action, n)
		}
	}

	_, err = s.ids.CreateUser(ctx, pgOperator(), identity.NewUser{Email: "vera@ours.example", Password: sitePassword, Roles: []identity.Role{identity.Viewer}})
	must(t, err)
	v := s.browser()
	v.login("vera@ours.example")
	if got := v.want(200, "GET", "/workspaces", nil); strings.Contains(got, "Client Ltd") || strings.Contains(got, `class="acts"`) {
		t.Error("a viewer sees another workspace, or can change one")
	}
	v.want(403, "POST", "/workspaces", url.Values{"name": {"Mine"}, "reason": {"I want one"}})
}

func TestTokens_Pages(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	ctx := context.Background()
	b := s.browser()
	b.login(s.admin.Email)
	secretRe := regexp.MustCompile(`data-secret>(mw_[0-9a-f]{64})<`)
	form := url.Values{"name": {"nightly report"}, "workspace": {identity.DefaultWorkspace.String()}, "role": {"analyst"}, "days": {"30"}, "scope": {"view_meta"}}
	secret := secretRe.FindStringSubmatch(b.want(200, "POST", "/settings/tokens", form))[1]
	if got := b.want(200, "GET", "/settings", nil, "nightly report", "view_meta", "never used", "owner "+s.admin.Email); strings.Contains(got, secret) {
		t.Error("the secret is shown again")
	}
	if status, _, _ := s.call(secret, "GET", "/quarantine", ""); status != 200 {
		t.Errorf("within its scope: %d", status)
	}
	if status, _, _ := s.call(secret, "POST", "/quarantine/"+uuid.NewString()+"/release", `{"reason":"because"}`); status != http.StatusForbidden {
		t.Errorf("outside its scope: %d", status)
	}
	b.want(200, "GET", "/settings", nil, "last used", "127.0.0.1")
	for name, change := range map[string]url.Values{"no such right of the role": {"scope": {"users_write"}}, "no such right": {"scope": {"everything"}}, "no end": {"days": {"0"}}, "no name": {"name": {""}}} {
		bad := url.Values{}
		for k, v := range form {
			bad[k] = v
		}
		for k, v := range change {
			bad[k] = v
		}
		if body := b.want(422, "POST", "/settings/tokens", bad, "The token was not made"); strings.Contains(body, "mw_") {
			t.Errorf("%s: a secret", name)
		}
	}
	list, err := s.ids.Tokens(ctx)
	must(t, err)
	path := "/settings/tokens/" + list[0].ID.String()
	next := secretRe.FindStringSubmatch(b.want(200, "POST", path+"/rotate", url.Values{"grace": {"0"}}))[1]
	if status, _, _ := s.call(secret, "GET", "/quarantine", ""); status != http.StatusUnauthorized {
		t.Errorf("the old secret: %d", status)
	}
	if status, _, _ := s.call(next, "GET", "/quarantine", ""); status != 200 {
		t.Errorf("the new secret: %d", status)
	}

	// Another administrator sees it and can end it, but not have its secret.
	_, err = s.ids.CreateUser(ctx, pgOperator(), identity.NewUser{Email: "eve@ours.example", Password: sitePassword, Roles: []identity.Role{identity.Admin}})
	must(t, err)
	o := s.browser()
	o.login("eve@ours.example")
	o.want(200, "GET", "/settings", nil, "nightly report", "owner "+s.admin.Email)
	o.want(404, "POST", path+"/rotate", url.Values{"grace": {"0"}})
	o.want(404, "POST", "/settings/tokens", url.Values{"name": {"all"}, "workspace": {""}, "role": {"admin"}, "days": {"30"}})
	o.want(303, "POST", path+"/revoke", nil)
	if status, _, _ := s.call(next, "GET", "/quarantine", ""); status != http.StatusUnauthorized {
		t.Errorf("revoked: %d", status)
	}
	_, err = s.db.Admin(t).Exec(ctx, "UPDATE session SET authenticated_at = now() - interval '1 hour'")
	must(t, err)
	b.want(303, "POST", "/settings/tokens", form)
	if n := len(s.events("token.create")); n != 1 {
		t.Errorf("%d tokens made, want 1", n)
	}
}

func TestRetention_TakesTwo(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.Required)
	ctx := context.Background()
	second, err := s.ids.CreateUser(ctx, pgOperator(), identity.NewUser{Email: "second@ours.example", Password: sitePassword, InstallRoles: []identity.Role{identity.Operator}})
	must(t, err)
	keep := func() (days string) {
		must(t, s.db.Pool.QueryRow(ctx, "SELECT keep::text FROM audit_retention WHERE class = 'sec-400d'").Scan(&days))
		return days
	}
	b, o := s.browser(), s.browser()
	b.login(s.admin.Email)
	o.login(second.Email)
	b.want(200, "GET", "/audit/retention", nil, "sec-400d", "400 days", "No month is past its time")
	b.want(422, "POST", "/audit/retention", url.Values{"class": {"sec-400d"}, "days": {"30"}, "reason": {"less is more"}}, "90 to 3600")
	b.want(303, "POST", "/audit/retention", url.Values{"class": {"sec-400d"}, "days": {"500"}, "reason": {"the auditor asks"}})
	if got := keep(); got != "400 days" {
		t.Fatalf("changed by one person: %s", got)
	}
	id := regexp.MustCompile(`/approvals/([0-9a-f-]{36})/approve`).FindStringSubmatch(o.want(200, "GET", "/approvals", nil, "sec-400d", "500 days", "the auditor asks"))[1]
	b.want(409, "POST", "/approvals/"+id+"/approve", url.Values{"reason": {"me too"}})
	o.want(303, "POST", "/approvals/"+id+"/approve", url.Values{"reason": {"agreed with them"}})
	if got := keep(); got != "500 days" {
		t.Errorf("after two people: %s", got)
	}
	for _, action := range []string{audit.RetentionRequest, audit.RetentionApprove, "retention.update"} {
		if n := len(s.events(action)); n != 1 {
			t.Errorf("%d events %s", n, action)
		}
	}
	// Over the API, by somebody who sees no mail at all; and who may not is refused.
	operator := s.token(identity.Operator)
	if status, m, _ := s.call(operator, "POST", "/audit/retention", `{"partition":"event_sec_400d_2020_01","reason":"long over"}`); status != 200 || m["waiting"] != true {
		t.Errorf("a deletion: %d %v", status, m)
	}
	if status, m, _ := s.call(operator, "GET", "/approvals?kind=retention&state=requested", ""); status != 200 || len(m["items"].([]any)) != 1 {
		t.Errorf("what waits: %d %v", status, m)
	}
	if status, _, _ := s.call(s.token(identity.Admin), "POST", "/audit/retention", `{"class":"sec-3y","keep_days":100,"reason":"long over"}`); status != http.StatusForbidden {
		t.Errorf("by the administrator of a workspace: %d", status)
	}
}
