package webui

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"mailward/audit"
	"mailward/audit/proof"
	"mailward/identity"
	"mailward/internal/pg"
)

// sealed puts an act of somebody on record and seals it.
func (s *realSite) sealed(email string) {
	s.t.Helper()
	ctx := context.Background()
	must(s.t, s.audit.Record(ctx, audit.Event{Action: audit.ViewBody, Actor: pg.System("x", "y"), Targets: []audit.Target{{Type: "mailbox", ID: "1", PII: email}}}))
	for n := 1; n > 0; {
		var err error
		n, err = s.audit.Sequence(ctx)
		must(s.t, err)
	}
	_, err := s.seal.Seal(ctx)
	must(s.t, err)
}

func TestIntegrity_Page(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	b := s.login()
	b.wants(b.get("/audit/integrity", 200), "before the first seal", "Nothing is sealed yet", "Nobody outside holds a checkpoint", "All guards stand")
	s.sealed("erika@ours.example")
	b.wants(b.get("/audit/integrity", 200), "when sealed", "mx.ours.example/audit", "mx.ours.example/audit+")

	b.save("/audit/integrity/verify", nil)
	var page string
	eventually(t, "the check has ended", func() bool {
		page = b.get("/audit/integrity", 200)
		return !strings.Contains(page, "<progress")
	})
	b.wants(page, "after the check", "events as they were recorded", "signed checkpoints fit")
	eventually(t, "the check on record", func() bool { return len(s.events(audit.VerifyRun)) == 2 })

	// Somebody else's browser sees what an erasure would do; then it is done.
	form := url.Values{"value": {"Erika@ours.example"}, "basis": {"Art. 17(1)(a) GDPR"}, "reason": {"letter of 3 November"}, "do": {"look"}}
	if status, _, page := b.post("/audit/integrity/erase", form); status != 200 || !strings.Contains(page, "1 values in 1 events would be erased") || len(s.events(audit.PIIErased)) != 0 {
		t.Errorf("the preview: %d %s", status, text2(page))
	}
	form.Set("do", "erase")
	must(t, s.db.Admin(t).QueryRow(context.Background(), "UPDATE session SET authenticated_at = now() - interval '1 hour' RETURNING 1").Scan(new(int)))
	if to := b.save("/audit/integrity/erase", form); to != "/confirm?next=%2Faudit%2Fintegrity" {
		t.Errorf("without a fresh proof of who it is: %s", to)
	}
	b.save("/confirm", url.Values{"password": {sitePassword}, "next": {"/audit/integrity"}})
	b.save("/audit/integrity/erase", form)
	b.wants(b.get("/audit/integrity", 200), "after the erasure", "The value is erased")
	if ev := s.events(audit.PIIErased); len(ev) != 1 {
		t.Fatalf("%d erasures on record", len(ev))
	}
	form.Set("basis", "")
	if status, _, page := b.post("/audit/integrity/erase", form); status != 422 || !strings.Contains(page, "a legal basis and a reason are needed") {
		t.Errorf("without a legal basis: %d", status)
	}
	b.lang = "de"
	b.wants(b.get("/audit/integrity", 200), "in German", "Signierter Kopf")
	b.wants(b.get("/audit/retention", 200), "in German", "sec-3y", "3 Jahre", "BGB")
}

// TestIntegrity_CheckFindsAChange: a flipped byte is named on the page, in the API
// and on record.
func TestIntegrity_CheckFindsAChange(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	s.sealed("erika@ours.example")
	_, err := s.db.Admin(t).Exec(context.Background(), `ALTER EVENT TRIGGER mailward_ddl DISABLE; DO $$ DECLARE r record; BEGIN FOR r IN SELECT c.oid::regclass t FROM pg_class c WHERE c.relnamespace = 'audit'::regnamespace AND c.relname LIKE 'event%' AND c.relkind IN ('r', 'p')
		LOOP EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER', r.t); END LOOP; END $$; UPDATE audit.event SET bytes = set_byte(bytes, 40, 33) WHERE action = 'quarantine.view_body'`)
	must(t, err)
	token := s.token(identity.Auditor)
	if status, m, body := s.call(token, "POST", "/audit/verify", ""); status != http.StatusAccepted || m["state"] == "none" {
		t.Fatalf("%d %s", status, body)
	}
	eventually(t, "the check names the event", func() bool {
		_, m, _ := s.call(token, "GET", "/audit/verify", "")
		problem, _ := m["problem"].(string)
		return m["state"] == "changed" && strings.Contains(problem, "was changed")
	})
	page := s.login().get("/audit/integrity", 200)
	if !strings.Contains(page, "The record was changed: event ") || !strings.Contains(page, "Something that protects the record is missing") {
		t.Errorf("%s", text2(page))
	}
	eventually(t, "it is on record", func() bool {
		for _, e := range s.events(audit.VerifyRun) {
			if o, _ := e["outcome"].(map[string]any); o["result"] == "failure" {
				return true
			}
		}
		return false
	})
}

func TestIntegrity_API(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	s.sealed("erika@ours.example")
	auditor, admin := s.token(identity.Auditor), s.token(identity.Admin)
	status, m, body := s.call(auditor, "GET", "/audit/seal", "")
	if at, err := time.Parse(time.RFC3339Nano, m["checked_at"].(string)); status != 200 || m["origin"] != "mx.ours.example/audit" || m["size"].(float64) < 1 || len(m["findings"].([]any)) != 0 || err != nil || time.Since(at) > time.Minute {
		t.Errorf("%d %s", status, body)
	}
	ask := `{"value":"erika@ours.example","legal_basis":"Art. 17 GDPR","reason":"asked for","dry_run":`
	if status, _, body := s.call(auditor, "POST", "/audit/erasures", ask+"true}"); status != 403 {
		t.Errorf("an auditor erases: %d %s", status, body)
	}
	if status, m, body := s.call(admin, "POST", "/audit/erasures", ask+"true}"); status != 200 || m["values"] != 1.0 || m["erased"] != false {
		t.Errorf("what would go: %d %s", status, body)
	}
	if status, m, body := s.call(admin, "POST", "/audit/erasures", ask+"false}"); status != 200 || m["values"] != 1.0 || m["erased"] != true {
		t.Errorf("the erasure: %d %s", status, body)
	}
	if status, m, body := s.call(admin, "POST", "/audit/erasures", ask+"true}"); status != 200 || m["values"] != 0.0 {
		t.Errorf("after it: %d %s", status, body)
	}
}

// TestIntegrity_ProofOfAnEvent: the link at an event's detail leads to a proof that
// a stranger's program reads.
func TestIntegrity_ProofOfAnEvent(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	s.sealed("erika@ours.example")
	b, id := s.login(), s.events(audit.ViewBody)[0]["id"].(string)
	b.wants(b.get("/audit?range=all&id="+id, 200), "the detail", `href="/audit/events/`+id+`/proof"`)
	text := b.get("/audit/events/"+id+"/proof", 200)
	if _, n, ok := strings.Cut(text, "\n\n"); !strings.HasPrefix(text, "c2sp.org/tlog-proof@v1\nindex ") || !ok {
		t.Errorf("%s", text)
	} else if c, err := proof.Read(n); err != nil || c.Origin != "mx.ours.example/audit" {
		t.Errorf("the note in it: %v, %v", c, err)
	}
	must(t, s.audit.Record(context.Background(), audit.Event{Action: audit.RawDownload, Actor: pg.System("x", "y")}))
	b.get("/audit/events/"+s.events(audit.RawDownload)[0]["id"].(string)+"/proof", 409)
	b.get("/audit/events/00000000-0000-7000-8000-000000000009/proof", 404)
}
