package intel

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"mailward/policy"
	"mailward/scanner"
	"mailward/scanner/content"
)

func TestFeed_OpenPhish(t *testing.T) {
	t.Parallel()
	f := newFeedTest(t, TypeOpenPhish, "/files/x")
	f.far.File("x", "http://evil.example/a\nhttps://google.com/\n")
	if st, got := f.sync(); got != "http://evil.example/a phishing 80" || st.Error != "" {
		t.Errorf("%s, %+v", got, st)
	}
}

func TestFeed_ThreatFoxCut(t *testing.T) {
	t.Parallel()
	f := newFeedTest(t, TypeThreatFox, "/files/x")
	f.far.File("x", "# \"first_seen_utc\",\"ioc_id\",\"ioc_value\",\"ioc_type\"\n\"2026-11-26 10:00:00\", \"1\", \"198.51.100.7:80\", \"ip:port\"\n# Number of entries: 2\n")
	if st, got := f.sync(); got != "" || st.Code != CodeCut {
		t.Errorf("%s, %+v", got, st)
	}
}

// TestFeed_Ransomware: the domain of a victim is a sign for people, whatever else
// is known, and never makes a mail bad; a page of the victim is none.
func TestFeed_Ransomware(t *testing.T) {
	t.Parallel()
	f := newFeedTest(t, TypeRansom, "/files/x")
	now := time.Now().UTC()
	list := []map[string]any{
		{"victim": "<b>Later</b> GmbH", "group": "akira", "domain": "later.example", "discovered": now.Format("2006-01-02T15:04:05.000000+00:00"), "url": "https://www.ransomware.live/id/1", "claim_url": "http://abc.onion/x", "infostealer": "", "duplicates": []string{}},
		{"post_title": "Old", "group_name": "x", "website": "https://www.evil.example/about", "published": now.Format("2006-01-02 15:04:05.000000"), "infostealer": map[string]any{"employees": 1}},
		{"victim": "no domain", "group": "x", "domain": "", "discovered": "nonsense"}, {"victim": "tor", "domain": "abc.onion"},
	}
	for name, body := range map[string]any{"free": list, "paid": map[string]any{"client": "us@example.org", "count": 4, "victims": list}} {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		f.far.File("x", string(b)+strings.Repeat(" ", len(name)))
		if st, got := f.sync(); got != "evil.example breach 80, later.example breach 80" || st.Error != "" {
			t.Errorf("%s: %s, %+v", name, got, st)
		}
	}
	if err := f.s.Load(context.Background()); err != nil {
		t.Fatal(err)
	}
	put(t, f.s, "other", policy.Phishing, 90, "evil.example")
	from := func(a string) scanner.Question {
		return scanner.Question{Workspace: policy.DefaultWorkspace, Content: &content.Content{From: []content.Address{{Address: a}}, Links: []content.Link{{Target: "https://later.example/"}}}}
	}
	signs, found := judge(t, f.s, from("a@mail.later.example"))
	if fmt.Sprint(signs) != "[INTEL_BREACH later.example]" || found[0].Score != 0 || found[0].Class != "" || !strings.Contains(found[0].Reason, "Later GmbH, claimed by akira") || found[0].Meta["reference"] != "https://www.ransomware.live/id/1" {
		t.Errorf("%v %+v", signs, found)
	}
	if signs, _ := judge(t, f.s, from("a@evil.example")); fmt.Sprint(signs) != "[INTEL_BREACH evil.example INTEL_SENDER evil.example]" {
		t.Errorf("%v", signs)
	}
	d := policy.Decide(policy.Input{Report: policy.Report{Findings: found}, Recipients: []policy.Recipient{{Address: "bob@ours.example"}}})
	if d.Class != policy.Clean {
		t.Errorf("a victim's mail is %s: %v", d.Class, d.Reasons)
	}
}

// TestFeed_Warninglist: what a list of MISP calls harmless is no indicator,
// whoever says so, before and after.
func TestFeed_Warninglist(t *testing.T) {
	t.Parallel()
	f := newFeedTest(t, TypeList, "/files/x")
	feeds := append(f.feeds.cfg, FeedConfig{Name: "harmless", Type: TypeWarning, URL: f.far.URL + "/files/w", Interval: time.Hour, Expiry: time.Hour, AllowPrivate: true},
		FeedConfig{Name: "nets", Type: TypeWarning, URL: f.far.URL + "/files/n", Interval: time.Hour, Expiry: time.Hour, AllowPrivate: true})
	f.far.File("x", "evil.example\nhttp://evil.example/a\n198.51.100.7\nlater.example\nhttp://www.later.example/\n203.0.113.5\n")
	f.far.File("w", `{"name":"Known","version":3,"description":"d","type":"hostname","list":["later.example"],"matching_attributes":["domain"]}`)
	f.far.File("n", `{"name":"Nets","version":"3","type":"cidr","list":["198.51.100.0/24","nonsense"]}`)
	run := func() (string, []FeedState) {
		t.Helper()
		if _, err := f.db.Admin(t).Exec(context.Background(), "UPDATE intel_feed SET due_at = now() - interval '1 hour', etag = CASE type WHEN 'list' THEN '' ELSE etag END"); err != nil {
			t.Fatal(err)
		}
		if err := f.feeds.runDue(context.Background()); err != nil {
			t.Fatal(err)
		}
		states, err := f.feeds.States(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		list, _, err := f.s.List(context.Background(), Filter{Limit: 500})
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]bool{}
		for _, i := range list {
			out[i.Value] = true
		}
		return fmt.Sprint(out), states
	}
	if got, _ := run(); !strings.Contains(got, "later.example") || !strings.Contains(got, "198.51.100.7") {
		t.Fatal(got)
	}
	f.feeds = NewFeeds(f.s, feeds, f.s.log)
	got, states := run()
	if strings.Contains(got, " later.example") {
		t.Errorf("harmless, and still there: %s", got)
	}
	for _, st := range states {
		if st.Error != "" || st.Rows == 0 {
			t.Errorf("%+v", st)
		}
	}
	if _, err := f.db.Admin(t).Exec(context.Background(), "DELETE FROM indicator"); err != nil {
		t.Fatal(err)
	}
	if got, _ = run(); got != "map[203.0.113.5:true evil.example:true http://evil.example/a:true]" {
		t.Error(got)
	}
	in, err := f.s.Import(context.Background(), someone, "mine", strings.NewReader(`[{"value":"later.example"},{"value":"http://later.example/login"}]`))
	if err != nil || in.Added != 1 || len(in.Errors) != 1 || !strings.Contains(in.Errors[0].Error, "Known") {
		t.Errorf("%+v, %v", in, err)
	}
	f.far.File("w", `{"name":"Known","version":4,"type":"regex","list":["later"]}`)
	if _, states = run(); states[1].Code != CodeNotAFeed || !states[1].Alarm {
		t.Errorf("%+v", states[1])
	}
}

// TestJudge_Trial: what is only looked at is counted nowhere, and told nobody.
func TestJudge_Trial(t *testing.T) {
	t.Parallel()
	s, _ := newTestStore(t)
	put(t, s, "feed", policy.Phishing, 90, "evil.example")
	q := question("http://evil.example/")
	q.Trial = true
	if signs, _ := judge(t, s, q); len(signs) != 1 || len(s.hits) != 0 {
		t.Errorf("%v, %v", signs, s.hits)
	}
}
