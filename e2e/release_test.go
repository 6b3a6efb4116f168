package e2e

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"mailward/internal/testenv"
)

func TestReleaseToOneOfTwo(t *testing.T) {
	hop := testenv.NextHop(t)
	s := startServer(t, hop.Addr, "")
	a := s.api("analyst")
	msg := yaraOnly("two-recipients")
	if r := s.sendMail("mallory@sender.example", []string{"bob@ours.example", "carol@ours.example"}, msg); code(r) != 250 {
		t.Fatalf("reply %q", r)
	}
	it := a.itemBySubject("two-recipients")

	if c := a.do("POST", "quarantine/"+it.ID+"/release", map[string]any{"reason": ""}, nil); c < 400 || c >= 500 {
		t.Errorf("release without a reason: %d, want 4xx", c)
	}
	if c := a.do("POST", "quarantine/"+it.ID+"/release", map[string]any{"reason": "x", "recipients": []string{"eve@ours.example"}}, nil); c < 400 || c >= 500 {
		t.Errorf("release to a stranger: %d, want 4xx", c)
	}
	// Two browsers, one click each, many times.
	var clicks sync.WaitGroup
	for range 10 {
		clicks.Go(func() {
			a.do("POST", "quarantine/"+it.ID+"/release", map[string]any{"reason": "confirmed by phone", "recipients": []string{"carol@ours.example"}}, nil)
		})
	}
	clicks.Wait()
	got := waitForMail(t, hop, "two-recipients")
	wantBelowOurHeaders(t, got, msg)
	eventually(t, 15*time.Second, "state released for carol", func() bool {
		var raw []byte
		a.do("GET", "quarantine/"+it.ID, nil, &raw)
		return strings.Contains(string(raw), `"released"`)
	})
	n := 0
	for _, m := range hop.Messages() {
		if strings.Contains(string(m.Data), "two-recipients") {
			n++
			if strings.Join(m.To, ",") != "carol@ours.example" {
				t.Errorf("delivered to %v, want carol alone", m.To)
			}
		}
	}
	if n != 1 {
		t.Errorf("%d deliveries, want 1", n)
	}
	wantReleaseOnRecord(t, s, a, it.ID)
	wantEvidence(t, s, it.ID)
}

func wantReleaseOnRecord(t *testing.T, s *server, a *api, itemID string) {
	t.Helper()
	eventually(t, 10*time.Second, "intent and result of the release in the audit, sequenced", func() bool {
		var page struct {
			Items []struct {
				Action, Phase string
				Seq           *int64
				LeafHash      *string `json:"leaf_hash"`
				Actor         struct{ Type, Email string }
				Reason        struct{ Text string }
			} `json:"items"`
		}
		a2 := s.api("auditor")
		if c := a2.do("GET", "audit/events?target="+itemID, nil, &page); c != 200 {
			return false
		}
		intent, result := false, false
		for _, e := range page.Items {
			intent = intent || e.Action == "quarantine.release.execute" && e.Phase == "intent" && e.Reason.Text == "confirmed by phone" && e.Actor.Email == adminEmail && e.Seq != nil && e.LeafHash != nil
			result = result || strings.HasPrefix(e.Action, "quarantine.release") && e.Phase == "result" && e.Actor.Type == "system"
		}
		return intent && result
	})
	// The same on standard output, one JSON line an event.
	eventually(t, 10*time.Second, "release event on standard output", func() bool {
		for _, l := range strings.Split(s.stdout(), "\n") {
			if strings.Contains(l, "quarantine.release.execute") && json.Valid([]byte(l)) {
				return true
			}
		}
		return false
	})
}

func TestReleaseRowMadeByHandIsNotDelivered(t *testing.T) {
	hop := testenv.NextHop(t)
	s := startServer(t, hop.Addr, "")
	s.sendMail("mallory@sender.example", []string{"bob@ours.example"}, text("forged-release", string(eicar())))
	it := s.api("admin").itemBySubject("forged-release")
	ctx := context.Background()
	db := s.db()
	_, err := db.Exec(ctx, `WITH r AS (
		INSERT INTO release (id, workspace_id, item_id, recipient_ids, intent_event_id, requested_by, reason, mode, state)
		SELECT gen_random_uuid(), i.workspace_id, i.id, array_agg(q.id), gen_random_uuid(), (SELECT id FROM user_account LIMIT 1), 'because', 'single_operator', 'approved'
		FROM quarantine_item i JOIN quarantine_recipient q ON q.item_id = i.id WHERE i.id = $1 GROUP BY i.id RETURNING *)
		INSERT INTO delivery (id, workspace_id, kind, mail_id, item_id, release_id, recipient_id, envelope_from, recipient, blob_name, header_edits, trace_header, give_up_at)
		SELECT gen_random_uuid(), i.workspace_id, 'release', i.mail_id, i.id, r.id, q.id, i.envelope_from, q.address, i.blob_name, i.header_edits, i.trace_header, now() + interval '1 day'
		FROM r JOIN quarantine_item i ON i.id = r.item_id JOIN quarantine_recipient q ON q.item_id = i.id`, it.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(ctx, "NOTIFY mailward_delivery"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "failed delivery", func() bool {
		var state string
		db.QueryRow(ctx, "SELECT state FROM delivery WHERE item_id = $1", it.ID).Scan(&state)
		return state == "failed"
	})
	wantNotAtHop(t, hop, "forged-release")
}
