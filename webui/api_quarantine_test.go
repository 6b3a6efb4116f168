package webui

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"mailward/identity"
)

// TestAPI_QuarantineFilters goes through every filter of the list: the one that
// fits finds the mail, another does not.
func TestAPI_QuarantineFilters(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	token, it := s.token(identity.Analyst), s.hold("bob@ours.example")
	for name, v := range map[string][2]string{
		"q": {"eicar", "nothing"}, "sender": {"@evil.example", "@good.example"}, "recipient": {"bob@ours.example", "eve@ours.example"}, "domain": {"ours.example", "other.example"},
		"signature": {"Eicar", "Other"}, "symbol": {"", "Eicar"}, "rule": {"", "Eicar"}, "hash": {it.SHA256, "00" + it.SHA256[2:]}, "message_id": {"", "m@x.example"}, "url": {"", "https://evil.example/x"},
		"subject": {"", "invoice"}, "score_from": {"-1", "7"}, "score_to": {"5", "-5"}, "class": {"malware", "spam"}, "state": {"quarantined", "released"}, "sort": {"score", ""}, "direction": {"inbound", "outbound"},
	} {
		for i, want := range []int{1, 0} {
			if v[i] == "" {
				continue
			}
			status, m, text := s.call(token, "GET", "/quarantine?"+url.Values{name: {v[i]}}.Encode(), "")
			if items, _ := m["items"].([]any); status != 200 || len(items) != want {
				t.Errorf("%s=%s: %d, %d items, want %d\n%.300s", name, v[i], status, len(items), want, text)
			}
		}
	}
	for _, bad := range []string{"q=ab", "hash=abc", "cursor=x", "sort=size", "url=x"} {
		if status, _, _ := s.call(token, "GET", "/quarantine?"+bad, ""); status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", bad, status)
		}
	}
}

func TestAPI_Bulk(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	token, ctx := s.token(identity.Analyst), context.Background()
	one, two := s.hold("a@ours.example"), s.hold("b@ours.example")
	body := fmt.Sprintf(`{"id":"019ab000-0000-7000-8000-000000000001","act":"release","reason":"false alarm","items":[%q,%q]}`, one.ID, two.ID)
	for range 2 { // the same id again is the same act
		if status, m, text := s.call(token, "POST", "/quarantine/bulk", body); status != http.StatusAccepted || m["total"] != 2.0 {
			t.Fatalf("%d %s", status, text)
		}
	}
	if _, err := s.bulks.Next(ctx); err != nil {
		t.Fatal(err)
	}
	status, m, text := s.call(token, "GET", "/quarantine/bulk/019ab000-0000-7000-8000-000000000001", "")
	if status != 200 || m["state"] != "done" || m["done"] != 2.0 {
		t.Fatalf("%d %s", status, text)
	}
	if n := len(s.events("quarantine.release.execute")); n != 2 {
		t.Errorf("%d releases on record", n)
	}
	if status, m, _ = s.call(token, "GET", "/quarantine/bulk", ""); status != 200 || len(m["items"].([]any)) != 1 {
		t.Errorf("list: %d %v", status, m)
	}
	for name, c := range map[string]struct {
		token, body string
		want        int
	}{
		"a role that may not": {s.token(identity.Viewer), body, http.StatusForbidden},
		"no such act":         {token, `{"act":"eat","reason":"x","items":["` + one.ID.String() + `"]}`, 422},
		"nothing chosen":      {token, `{"act":"sandbox","reason":"x"}`, 422},
		"no reason":           {token, `{"act":"sandbox","reason":" ","items":["` + one.ID.String() + `"]}`, 422},
		"another number":      {token, `{"act":"sandbox","reason":"x","filter":{"sender":"@evil.example","expected":5}}`, 409},
		"of nobody's":         {token, `{"act":"sandbox","reason":"x","items":["019ab000-0000-7000-8000-000000000009"]}`, 422},
	} {
		if status, _, text := s.call(c.token, "POST", "/quarantine/bulk", c.body); status != c.want {
			t.Errorf("%s: %d, want %d\n%.200s", name, status, c.want, text)
		}
	}
	// By filter, with the number that it selects; the token is revoked before it is done.
	status, _, text = s.call(token, "POST", "/quarantine/bulk", `{"act":"sandbox","reason":"look again","filter":{"sender":"@evil.example","expected":2}}`)
	if status != http.StatusAccepted {
		t.Fatalf("by filter: %d %s", status, text)
	}
	if _, err := s.db.Admin(t).Exec(ctx, "UPDATE api_token SET revoked_at = now() WHERE role = 'analyst'"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.bulks.Next(ctx); err != nil {
		t.Fatal(err)
	}
	k, err := s.bulks.List(ctx, s.admin.ID)
	if err != nil || k[0].State != "stopped" || k[0].Trouble != "session" || k[0].Refused != 2 {
		t.Errorf("after the token was revoked: %+v, %v", k, err)
	}
}
