package webui

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/approval"
	"mailward/audit"
	"mailward/identity"
	"mailward/internal/message"
	"mailward/policy"
	"mailward/quarantine"
)

// signedFor checks the signature of an event as somebody does who has only the event:
// that a passkey made it, under an act that has all of words.
func signedFor(t *testing.T, event map[string]any, words ...string) {
	t.Helper()
	a, _ := event["attestation"].(map[string]any)
	if a["by"] != "passkey" {
		t.Errorf("%v is attested by %v", event["action"], a["by"])
		return
	}
	raw := func(k string) []byte { return must1(base64.RawURLEncoding.DecodeString(a[k].(string))) }
	signed := audit.Attestation{Act: a["act"].(string), CredentialID: raw("credential_id"), PublicKey: raw("public_key"),
		AuthenticatorData: raw("authenticator_data"), ClientData: raw("client_data"), Signature: raw("signature")}
	if err := identity.VerifyAttestation(signed); err != nil {
		t.Errorf("%v: %v", event["action"], err)
	}
	for _, w := range words {
		if !strings.Contains(signed.Act, w) {
			t.Errorf("%v: %q is not in what was signed: %s", event["action"], w, signed.Act)
		}
	}
	signed.Act += " "
	if identity.VerifyAttestation(signed) == nil {
		t.Errorf("%v: the signature fits another act", event["action"])
	}
}

// TestEvidence_IsSigned: whoever has a passkey signs that mail leaves the house,
// alone or as the first and the second of two.
func TestEvidence_IsSigned(t *testing.T) {
	t.Parallel()
	form := url.Values{"case": {"INC-1"}, "title": {"Wave"}, "purpose": {"report"}, "reason": {"needed"}, "language": {"en"}}
	t.Run("alone", func(t *testing.T) {
		t.Parallel()
		s := newRealSite(t, identity.SingleOperator)
		item := "/quarantine/" + s.hold("bob@ours.example").ID.String()
		b := s.browser()
		b.login(s.admin.Email)
		key := b.passkey(s.admin.ID)
		b.want(200, "GET", item, nil, "You sign this with your passkey")
		b.want(422, "POST", item+"/export", form, "has to be signed")
		other := key.sign(item+"/export", form)
		other["case"] = []string{"INC-2"}
		b.want(422, "POST", item+"/export", other, "signature does not fit")
		if n := len(s.events(audit.EvidenceExecute)); n != 0 {
			t.Fatalf("%d exports", n)
		}
		b.want(303, "POST", item+"/export", key.sign(item+"/export", form))
		signedFor(t, s.events(audit.EvidenceExecute)[0], "INC-1", item+"/export", "needed")
	})
	t.Run("two", func(t *testing.T) {
		t.Parallel()
		s, ctx := newRealSite(t, identity.Required), context.Background()
		second, err := s.ids.CreateUser(ctx, pgOperator(), identity.NewUser{Email: "otto@ours.example", Password: sitePassword, Roles: []identity.Role{identity.Approver}})
		must(t, err)
		item := "/quarantine/" + s.hold("bob@ours.example").ID.String()
		if status, _, text := s.call(s.token(identity.Admin), "POST", item+"/export", exportBodyJSON); status != 202 {
			t.Fatalf("%d %s", status, text)
		}
		if a, _ := s.events(audit.EvidenceRequest)[0]["attestation"].(map[string]any); a["by"] != "server" {
			t.Errorf("asked for by a program: %v", a)
		}
		first := s.browser()
		first.login(s.admin.Email)
		first.want(303, "POST", item+"/export", first.passkey(s.admin.ID).sign(item+"/export", form))
		signedFor(t, s.events(audit.EvidenceRequest)[0], "INC-1", item+"/export")

		b := s.browser()
		b.login(second.Email)
		key := b.passkey(second.ID)
		waits, err := s.ids.Approvals().List(ctx, approval.Filter{Workspaces: []uuid.UUID{identity.DefaultWorkspace}, State: "requested"})
		must(t, err)
		words := []string{"approve", "deny"}
		for i, action := range []string{audit.EvidenceApprove, audit.EvidenceDeny} {
			path, why := "/approvals/"+waits.Items[i].ID.String()+"/"+words[i], url.Values{"reason": {"known to me"}}
			b.want(422, "POST", path, why, "has to be signed")
			if len(s.events(action)) != 0 {
				t.Fatalf("%s without a signature", action)
			}
			b.want(303, "POST", path, key.sign(path, why))
			signedFor(t, s.events(action)[0], path, "known to me")
		}
	})
}

// TestAuditExport_IsSigned: what is signed is the filter and the format. Without a
// passkey the record says that only the server attests it.
func TestAuditExport_IsSigned(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	b := s.browser()
	b.login(s.admin.Email)
	b.want(200, "GET", "/audit/export?format=csv&action=auth.*", nil, "auth.login")
	for _, e := range s.events(audit.AuditExport) {
		if a, _ := e["attestation"].(map[string]any); a["by"] != "server" {
			t.Errorf("without a passkey: %v", a)
		}
	}
	before := len(s.events(audit.AuditExport))
	key := b.passkey(s.admin.ID)
	form := url.Values{"format": {"csv"}, "action": {"auth.*"}, "range": {"7d"}}
	b.want(200, "GET", "/audit/exports?action=auth.*", nil, `data-passkey="sign"`, "You sign the export with your passkey", `value="auth.*"`)
	for _, path := range []string{"/audit/export?format=csv&action=auth.*", "/audit/export.csv?action=auth.*"} {
		if status, to, _ := b.do("GET", path, nil); status != 303 || !strings.HasPrefix(to, "/audit/exports?") || !strings.Contains(to, "action=auth.*") {
			t.Errorf("%s: %d to %s", path, status, to)
		}
	}
	b.want(422, "POST", "/audit/export", form, "has to be signed", `value="auth.*"`)
	wider := key.sign("/audit/export", form)
	wider["action"] = []string{""}
	b.want(422, "POST", "/audit/export", wider, "signature does not fit")
	if n := len(s.events(audit.AuditExport)); n != before {
		t.Fatalf("%d events of exports that were not signed", n-before)
	}
	b.want(200, "POST", "/audit/export", key.sign("/audit/export", form), "auth.login")
	events := s.events(audit.AuditExport)
	if len(events) != before+2 {
		t.Fatalf("%d events of the export", len(events)-before)
	}
	for _, e := range events[:2] {
		signedFor(t, e, "/audit/export", "auth.*", "csv")
	}
}

// TestActs_AreSigned: whoever has a passkey signs roles that they give, changes of
// how long the record is kept, and raw mails that they take away.
func TestActs_AreSigned(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	other, err := s.ids.CreateUser(context.Background(), pgOperator(), identity.NewUser{Email: "otto@ours.example", Password: sitePassword, Roles: []identity.Role{identity.Viewer}})
	must(t, err)
	user, item := "/users/"+other.ID.String(), "/quarantine/"+s.hold("bob@ours.example").ID.String()
	b := s.browser()
	b.login(s.admin.Email)
	key := b.passkey(s.admin.ID)
	for _, c := range []struct {
		page, path, action string
		form               url.Values
		status             int
	}{
		{user, user + "/grant", audit.RoleGrant, url.Values{"role": {"analyst"}, "workspace": {identity.DefaultWorkspace.String()}, "reason": {"new task"}}, 303},
		{"/audit/retention", "/audit/retention", audit.RetentionExecute, url.Values{"class": {"sec-400d"}, "days": {"500"}, "reason": {"the auditor asks"}}, 303},
		{item, item + "/raw", audit.RawDownload, url.Values{"purpose": {"analysis"}, "reason": {"for the lab"}}, 200},
	} {
		b.want(200, "GET", c.page, nil, `data-passkey="sign"`, "You sign this with your passkey")
		b.want(422, "POST", c.path, c.form, "has to be signed")
		changed := key.sign(c.path, c.form)
		changed["reason"] = []string{"another reason"}
		b.want(422, "POST", c.path, changed, "signature does not fit")
		if n := len(s.events(c.action)); n != 0 {
			t.Fatalf("%d events %s without a signature", n, c.action)
		}
		if status, _, text := b.do("POST", c.path, key.sign(c.path, c.form)); status != c.status {
			t.Errorf("%s: %d %s", c.path, status, text)
			continue
		}
		signedFor(t, s.events(c.action)[0], c.path, c.form.Get("reason"))
	}
}

// TestActs_OfEqualWeightAreSigned: an account with its first role, a role that is taken
// away, and one file of a held mail. What is signed has no password in it, and the bytes
// of the record nobody's address.
func TestActs_OfEqualWeightAreSigned(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	ctx, space := context.Background(), identity.DefaultWorkspace.String()
	other, err := s.ids.CreateUser(ctx, pgOperator(), identity.NewUser{Email: "otto@ours.example", Password: sitePassword, Roles: []identity.Role{identity.Viewer}})
	must(t, err)
	user, item := "/users/"+other.ID.String(), "/quarantine/"+s.holdWithPart().String()
	b := s.browser()
	b.login(s.admin.Email)
	key := b.passkey(s.admin.ID)
	for _, c := range []struct {
		page, path, action string
		form               url.Values
		statuses           []int
	}{
		{"/users", "/users", audit.RoleGrant, url.Values{"email": {"new@ours.example"}, "first": {sitePassword}, "role": {"analyst"}, "workspace": {space}, "reason": {"joins the SOC"}}, []int{303}},
		{user, user + "/revoke", audit.RoleRevoke, url.Values{"role": {"viewer"}, "workspace": {space}, "reason": {"leaves the SOC"}}, []int{303}},
		// There is no scanner here to take the file out: that somebody wanted it is on record first.
		{item + "?tab=parts", item + "/parts/1", audit.ViewPart, url.Values{"purpose": {"analysis"}, "reason": {"for the lab"}}, []int{500}},
	} {
		b.want(200, "GET", c.page, nil, `data-passkey="sign"`, "You sign this with your passkey")
		b.want(422, "POST", c.path+"?tab=parts", c.form, "has to be signed")
		changed := key.sign(c.path, c.form)
		changed["reason"] = []string{"another reason"}
		b.want(422, "POST", c.path+"?tab=parts", changed, "signature does not fit")
		if n := len(s.events(c.action)); n != 0 {
			t.Fatalf("%d events %s without a signature", n, c.action)
		}
		if status, _, text := b.do("POST", c.path, key.sign(c.path, c.form)); !slices.Contains(c.statuses, status) {
			t.Errorf("%s: %d %s", c.path, status, text)
			continue
		}
		events := s.events(c.action)
		signedFor(t, events[len(events)-1], c.path, c.form.Get("reason"))
	}
	p, err := s.audit.List(ctx, audit.Filter{Limit: 1000})
	must(t, err)
	for _, r := range p.Items {
		shown := fmt.Sprint(r.Fields())
		if strings.Contains(string(r.Bytes), "@ours.example") || strings.Contains(shown, sitePassword) {
			t.Errorf("an address is in the bytes, or a password on record: %s", shown)
		}
	}
}

// holdWithPart holds a mail with one part that can be taken out.
func (s *realSite) holdWithPart() uuid.UUID {
	s.t.Helper()
	sp, err := s.spool.FromBytes([]byte("Subject: x\r\n\r\nbad things\r\n"))
	must(s.t, err)
	defer sp.Close()
	id, err := s.held.Hold(context.Background(), quarantine.Hold{Envelope: message.Envelope{ID: uuid.Must(uuid.NewV7()), ReceivedAt: time.Now(), From: "m@evil.example", Recipients: []string{"bob@ours.example"}},
		Spool: sp, Workspace: policy.DefaultWorkspace, Class: policy.Malware, Report: policy.Report{Subject: "x", Parts: []policy.Part{{Path: "1", Name: "x.bin", SHA256: strings.Repeat("ab", 32)}}},
		Recipients: []policy.RecipientDecision{{Address: "bob@ours.example", Domain: "ours.example", Action: policy.Quarantine}}})
	must(s.t, err)
	return id
}
