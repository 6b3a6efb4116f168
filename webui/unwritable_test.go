package webui

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"mailward/audit"
	"mailward/identity"
)

// TestUnwritableRecord_NothingHappens: the database takes no event any more, as with
// a full disk; it answers all else. A release, a change of policy, a look into a mail
// and an export are refused with words that say why, nothing has changed, and
// whoever mends it gets in.
func TestUnwritableRecord_NothingHappens(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	it := s.hold("bob@ours.example")
	item, admin, b := "/quarantine/"+it.ID.String(), s.token(identity.Admin), s.login()
	maintain := func(sql string) {
		t.Helper()
		_, err := s.db.Admin(t).Exec(context.Background(), "BEGIN; SELECT audit.maintenance('test', 'a full disk'); "+sql+"; COMMIT")
		must(t, err)
	}
	// What is deleted from here makes room again.
	maintain(`CREATE TABLE public.full_disk AS SELECT 1; GRANT SELECT ON public.full_disk TO PUBLIC;
		CREATE FUNCTION guard.full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF EXISTS (SELECT FROM public.full_disk) THEN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END IF; RETURN NULL; END $$;
		CREATE TRIGGER a_full BEFORE INSERT ON audit.event FOR EACH STATEMENT EXECUTE FUNCTION guard.full()`)
	acts := map[string]func() (int, string){
		"release": func() (int, string) {
			status, _, body := s.call(admin, "POST", item+"/release", `{"reason":"asked for by bob"}`)
			return status, body
		},
		"delete": func() (int, string) {
			status, _, body := s.call(admin, "POST", item+"/delete", `{"reason":"not wanted"}`)
			return status, body
		},
		"raw": func() (int, string) {
			status, _, body := s.call(admin, "GET", item+"/raw?reason=to+look", "")
			return status, body
		},
		"body": func() (int, string) {
			status, _, body := s.call(admin, "GET", item+"/body?purpose=test", "")
			return status, body
		},
		"raw on the page": func() (int, string) {
			status, _, body := b.post(item+"/raw", url.Values{"reason": {"to look"}, "purpose": {purposes[0]}})
			return status, body
		},
		"policy change": func() (int, string) {
			status, _, body := s.call(admin, "POST", "/domains", `{"name":"new.example","next_hop":"10.0.0.5:25"}`)
			return status, body
		},
		"export": func() (int, string) {
			status, _, body := s.call(admin, "GET", "/audit/events", "", "Accept", "text/csv")
			return status, body
		},
		"release on the page": func() (int, string) {
			status, _, body := b.post(item+"/release", url.Values{"reason": {"asked for by bob"}, "recipient": {"bob@ours.example"}})
			return status, body
		},
		"view on the page": func() (int, string) {
			status, _, body := b.post(item+"/view", url.Values{"purpose": {purposes[0]}, "reason": {"to look"}})
			return status, body
		},
		"policy change on the page": func() (int, string) {
			status, _, body := b.post("/policies/domains", url.Values{"name": {"new.example"}, "next_hop": {"10.0.0.5:25"}})
			return status, body
		},
		"export on the page": func() (int, string) { return 503, b.get("/audit/export.csv", 503) },
		"check on the page": func() (int, string) {
			status, _, body := b.post("/audit/integrity/verify", nil)
			return status, body
		},
		"erasure on the page": func() (int, string) {
			status, _, body := b.post("/audit/integrity/erase", url.Values{"value": {"bob@ours.example"}, "basis": {"x"}, "reason": {"asked"}, "do": {"erase"}})
			return status, body
		},
	}
	for name, act := range acts {
		status, body := act()
		if status != 503 || !strings.Contains(strings.ToLower(body), "the record cannot be written") {
			t.Errorf("%s: %d %s", name, status, body[:min(len(body), 300)])
		}
		if strings.Contains(body, "No space left") || strings.Contains(body, "bad things") {
			t.Errorf("%s tells too much: %s", name, body)
		}
	}
	b2 := s.login() // with the right password, spooled
	b2.get("/health", 200)
	_, err := s.db.Admin(t).Exec(context.Background(), "DELETE FROM public.full_disk")
	must(t, err)
	if got, err := s.held.Get(context.Background(), it.ID); err != nil || got.State != it.State {
		t.Errorf("the item is %s, %v", got.State, err)
	}
	if _, _, body := s.call(admin, "GET", "/domains", ""); strings.Contains(body, "new.example") {
		t.Error("the domain is there")
	}
	for _, action := range []string{audit.ReleaseExecute, audit.RawDownload, audit.ViewBody, audit.AuditExport} {
		for _, e := range s.events(action) {
			if o, _ := e["outcome"].(map[string]any); o["result"] == "success" && e["phase"] != "intent" && action != audit.AuditExport {
				t.Errorf("%s is on record as done: %v", action, e)
			}
		}
	}
}
