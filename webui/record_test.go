package webui

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/audit"
	"mailward/identity"
	"mailward/internal/pg"
)

// TestEveryAPICallIsOnRecord walks the API with a token that may nothing, with
// one that may everything, and without one: each call leaves an event with who,
// what, from where and how it ended.
func TestEveryAPICallIsOnRecord(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	// A viewer of no workspace: whatever takes a right is refused.
	u, err := s.ids.CreateUser(context.Background(), pgOperator(), identity.NewUser{Email: "none@ours.example", Password: sitePassword})
	must(t, err)
	nothing, _, err := s.ids.CreateToken(context.Background(), pgOperator(), identity.NewToken{Name: "t", Role: identity.Admin, OwnerID: u.ID})
	must(t, err)
	routes := 0
	for _, r := range s.srv.routes {
		if r.Public || !strings.HasPrefix(r.Path, apiPrefix) {
			continue
		}
		routes++
		path := pathWith(strings.TrimPrefix(r.Path, apiPrefix), uuid.NewString(), "nowhere.example")
		if status, _, body := s.call(nothing, r.Method, path, ""); status != http.StatusForbidden {
			t.Errorf("%s %s without a right: %d %s", r.Method, r.Path, status, body)
		}
	}
	eventually(t, "an event for each call", func() bool { return len(s.events(audit.APICall)) == routes })
	seen := map[string]bool{}
	for _, e := range s.events(audit.APICall) {
		req := e["request"].(map[string]any)
		seen[req["method"].(string)+" "+req["path"].(string)] = true
		if e["actor"].(map[string]any)["email"] != "none@ours.example" || req["status"] != 403.0 || e["outcome"].(map[string]any)["result"] != "refused" ||
			e["source"].(map[string]any)["ip"] != "127.0.0.1" || e["application"].(map[string]any)["name"] != "api" || e["application"].(map[string]any)["client_id"] == nil ||
			e["class"].(map[string]any)["retention"] != audit.Retention400Days {
			t.Fatalf("event %v", e)
		}
	}
	for _, r := range s.srv.routes {
		if !r.Public && strings.HasPrefix(r.Path, apiPrefix) && !seen[r.Method+" "+template(r.Path)] {
			t.Errorf("%s %s is not on record", r.Method, r.Path)
		}
	}
}

// TestStrangers_AreBounded sends more calls without a login than go on record
// one by one.
func TestStrangers_AreBounded(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	plain, tok, err := s.ids.CreateToken(context.Background(), pgOperator(), identity.NewToken{Name: "t", Role: identity.Viewer, OwnerID: s.admin.ID})
	must(t, err)
	must(t, s.ids.RevokeToken(context.Background(), pgOperator(), tok.ID))
	const calls = 60
	for range calls {
		if status, _, _ := s.call(plain, "GET", "/messages", ""); status != http.StatusUnauthorized {
			t.Fatal(status)
		}
	}
	eventually(t, "the first ones", func() bool { return len(s.events(audit.APICall)) == refusalsEach })
	e := s.events(audit.APICall)[0]
	if e["outcome"].(map[string]any)["code"] != "token_revoked" || e["targets"].([]any)[0].(map[string]any)["value"] != s.admin.Email {
		t.Errorf("event %v", e)
	}
	s.srv.refusals.mu.Lock()
	s.srv.refusals.until = time.Time{}
	s.srv.refusals.mu.Unlock()
	s.srv.refusals.end()
	eventually(t, "the summary", func() bool { return len(s.events(audit.APIRefused)) == 1 })
	if n := s.events(audit.APIRefused)[0]["change"].(map[string]any)["after"].(map[string]any)["calls"]; n != float64(calls-refusalsEach) {
		t.Errorf("%v calls summed up, want %d", n, calls-refusalsEach)
	}
	// Many networks do not take memory without end, and the sum still fits.
	sum := 0
	r := newRefusals(time.Now, func(_ netip.Prefix, n int) { sum += n })
	one := 0
	for i := range 3 * refusalNetworks {
		for range 2 {
			if r.one(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})) {
				one++
			}
		}
	}
	if one != refusalsTogether || len(r.count) > refusalNetworks+1 {
		t.Errorf("%d on record by themselves, %d networks", one, len(r.count))
	}
	r.until = time.Time{}
	r.end()
	if sum+one != 2*3*refusalNetworks {
		t.Errorf("%d on record and %d summed up, of %d", one, sum, 2*3*refusalNetworks)
	}
}

// TestNoAuditNoAction takes the audit away and tries what must not happen then.
func TestNoAuditNoAction(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	it := s.hold("bob@ours.example")
	admin := s.token(identity.Admin)
	operator := s.token(identity.Operator)
	s.call(operator, "GET", "/health", "")
	s.call(admin, "GET", "/messages", "") // its use is noted already
	// The program's own way into the audit, and the triggers' too, as on a full disk.
	_, err := s.db.Admin(t).Exec(context.Background(), `BEGIN; SELECT audit.maintenance('test', 'the audit cannot be written');
		CREATE FUNCTION audit.full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
		CREATE TRIGGER full_disk BEFORE INSERT ON audit.unsequenced FOR EACH ROW EXECUTE FUNCTION audit.full_disk(); COMMIT`)
	must(t, err)
	for _, c := range [][3]string{
		{"POST", "/quarantine/" + it.ID.String() + "/release", `{"reason":"false alarm"}`},
		{"POST", "/quarantine/" + it.ID.String() + "/delete", `{"reason":"no use"}`},
		{"GET", "/quarantine/" + it.ID.String() + "/raw", ""},
		{"PUT", "/policies/*", `{"actions":{"spam":"reject"}}`},
		{"POST", "/domains", `{"name":"x.example","next_hop":"10.0.0.5:25"}`},
		{"POST", "/users", `{"email":"eve@ours.example","password":"` + sitePassword + `","roles":["viewer"]}`},
		{"POST", "/tokens", `{"name":"ci","role":"viewer"}`},
		{"POST", "/workspaces", `{"name":"New"}`},
	} {
		who := admin
		if c[1] == "/workspaces" {
			who = operator
		}
		status, m, body := s.call(who, c[0], c[1], c[2])
		if detail, _ := m["detail"].(string); status != http.StatusServiceUnavailable || !strings.Contains(detail, "on record") {
			t.Errorf("%s %s with the audit away: %d %s", c[0], c[1], status, body)
		}
	}
	var n int
	must(t, s.db.Pool.QueryRow(context.Background(), `SELECT (SELECT count(*) FROM release) + (SELECT count(*) FROM domain) + (SELECT count(*) FROM user_account WHERE email LIKE 'eve@%')
		+ (SELECT count(*) FROM workspace WHERE name = 'New') + (SELECT count(*) FROM quarantine_recipient WHERE state <> 'quarantined')`).Scan(&n))
	if n != 0 {
		t.Errorf("%d rows changed without a record", n)
	}
	// Looking at lists, which changes nothing and shows no content, still works.
	if status, _, _ := s.call(admin, "GET", "/quarantine", ""); status != http.StatusOK {
		t.Errorf("the list: %d", status)
	}
}

func pgOperator() pg.Actor { return pg.Operator("root") }
