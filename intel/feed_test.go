package intel

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailward/internal/testenv"
	"mailward/policy"
)

type feedTest struct {
	*testing.T
	s     *Store
	feeds *Feeds
	far   *testenv.Feeds
	db    *testenv.DB
}

func newFeedTest(t *testing.T, typ, path string, more ...func(*FeedConfig)) *feedTest {
	t.Helper()
	s, db := newTestStore(t)
	far := testenv.NewFeeds(t)
	cfg := FeedConfig{Name: "far", Type: typ, URL: far.URL + path, Interval: time.Hour, Class: policy.Phishing, Confidence: 80, Expiry: 240 * time.Hour, AllowPrivate: true}
	for _, m := range more {
		m(&cfg)
	}
	return &feedTest{t, s, NewFeeds(s, []FeedConfig{cfg}, s.log), far, db}
}

// due has the feed taken up by the next run, without a record of it.
func (f *feedTest) due() {
	f.Helper()
	if _, err := f.s.db.Exec(context.Background(), syncNowSQL, "far", f.s.now()); err != nil {
		f.Fatal(err)
	}
}

// sync runs the feed and returns its state and all values.
func (f *feedTest) sync() (FeedState, string) {
	f.Helper()
	ctx := context.Background()
	f.due()
	if err := f.feeds.runDue(ctx); err != nil {
		f.Fatal(err)
	}
	states, err := f.feeds.States(ctx)
	if err != nil || len(states) != 1 {
		f.Fatal(states, err)
	}
	list, _, err := f.s.List(ctx, Filter{Limit: 500})
	if err != nil {
		f.Fatal(err)
	}
	var values []string
	for _, v := range []string{"evil.example", "http://evil.example/a", "198.51.100.7", "203.0.113.5", "mallory@evil.example", strings.Repeat("ab", 32), "later.example"} {
		for _, i := range list {
			if i.Value == v {
				values = append(values, fmt.Sprintf("%s %s %d", v[:min(len(v), 24)], i.Class, i.Confidence))
			}
		}
	}
	return states[0], strings.Join(values, ", ")
}

func TestFeed_Files(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC().Format("2006-01-02 15:04:05")
	for typ, tt := range map[string]struct{ text, want string }{
		TypeList:      {"# comment\r\nhxxp://evil.example/a\n\ngoogle.com\n", "http://evil.example/a phishing 80"},
		TypeCSV:       {"value,class,confidence\nevil[.]example,malware,95\nnonsense,,\n", "evil.example malware 95"},
		TypeURLhaus:   {"# abuse.ch\r\n#\r\n# id,dateadded,url,url_status,last_online,threat,tags,urlhaus_link,reporter\r\n\"1\",\"" + now + "\",\"http://evil.example/a\",\"online\",\"\",\"malware_download\",\"a,b\",\"https://urlhaus.abuse.ch/url/1/\",\"x\"\r\n", "http://evil.example/a malware 80"},
		TypeBazaar:    {"# x\n# \"first_seen_utc\",\"sha256_hash\",\"md5_hash\"\n\"" + now + "\", \"" + strings.Repeat("ab", 32) + "\", \"n/a\", \"more\"\n", strings.Repeat("ab", 12) + " malware 80"},
		TypeThreatFox: {"# \"first_seen_utc\",\"ioc_id\",\"ioc_value\",\"ioc_type\",\"confidence_level\",\"is_compromised\"\n\"" + now + "\", \"1\", \"198.51.100.7:80\", \"ip:port\", \"90\", \"False\"\n\"" + now + "\", \"2\", \"evil.example\", \"domain\", \"100\", \"True\"\n# Number of entries: 2\n", "198.51.100.7 malware 90"},
	} {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			f := newFeedTest(t, typ, "/files/x")
			f.far.File("x", tt.text)
			st, got := f.sync()
			if got != tt.want || st.Error != "" || st.LastGoodAt == nil || st.LagMinutes > 1 {
				t.Errorf("%s, %+v", got, st)
			}
			if st, got = f.sync(); got != tt.want || st.Error != "" || f.far.Asked() != 1 {
				t.Errorf("again: %s, %+v, sent %d times", got, st, f.far.Asked())
			}
		})
	}
}

func TestFeed_Refused(t *testing.T) {
	t.Parallel()
	f := newFeedTest(t, TypeList, "/files/x")
	list := func(n int) (s string) {
		for i := range n {
			s += "http://bad" + strconv.Itoa(i) + ".example/x\n"
		}
		return s
	}
	f.far.File("x", list(100))
	if st, _ := f.sync(); st.Rows != 100 || st.Error != "" {
		t.Fatalf("%+v", st)
	}
	for _, tt := range []struct {
		text, error string
		alarm       bool
	}{{list(49), "less than half", true}, {"", "is empty", false}, {"<html>", "web page", false}} {
		f.far.File("x", tt.text)
		if st, _ := f.sync(); !strings.Contains(st.Error, tt.error) || st.Rows != 100 || st.Alarm != tt.alarm || !st.NextRunAt.Before(time.Now().Add(16*time.Minute)) {
			t.Errorf("%.10q: %+v", tt.text, st)
		}
	}
	f.far.File("x", list(51))
	if st, _ := f.sync(); st.Rows != 51 || st.Error != "" || st.Alarm {
		t.Errorf("%+v", st)
	}
	for name, tt := range map[string]struct {
		change func(*FeedConfig)
		want   string
	}{
		"private":  {func(c *FeedConfig) { c.AllowPrivate = false }, "private network"},
		"redirect": {func(c *FeedConfig) { c.URL = strings.Replace(c.URL, "/files/x", "/away", 1) }, "redirects"},
		"missing":  {func(c *FeedConfig) { c.URL += "y" }, "404"},
	} {
		g := *f
		cfg := f.feeds.cfg[0]
		tt.change(&cfg)
		g.feeds = NewFeeds(f.s, []FeedConfig{cfg}, f.s.log)
		if st, _ := g.sync(); !strings.Contains(st.Error, tt.want) || strings.Contains(st.Error, "127.0.0.1") {
			t.Errorf("%s: %+v", name, st)
		}
	}
}

func TestFeed_OneRunner(t *testing.T) {
	t.Parallel()
	f := newFeedTest(t, TypeList, "/files/x")
	f.far.File("x", "http://evil.example/a\n")
	errs := make(chan error, 5)
	for range 5 {
		go func() { errs <- NewFeeds(f.s, f.feeds.cfg, f.s.log).runDue(context.Background()) }()
	}
	for range 5 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if f.far.Asked() != 1 {
		t.Errorf("the feed was read %d times", f.far.Asked())
	}
}

func TestFeed_MISP(t *testing.T) {
	t.Parallel()
	f := newFeedTest(t, TypeMISP, "/misp", func(c *FeedConfig) { c.Key, c.Sightings = testenv.MISPKey, true })
	at := strconv.FormatInt(time.Now().Unix(), 10)
	attr := func(typ, value string, ids, deleted bool) map[string]any {
		return map[string]any{"type": typ, "value": value, "to_ids": ids, "deleted": deleted, "timestamp": at, "Event": map[string]any{"id": "10", "info": "campaign"}}
	}
	evil := attr("hostname", "Evil.example", true, false)
	f.far.Attributes(evil, attr("ip-dst|port", "198.51.100.7|80", true, false), attr("filename|sha256", "a|b.exe|"+strings.Repeat("AB", 32), true, false),
		attr("email-dst", "victim@evil.example", true, false), attr("link", "http://evil.example/a", true, false), attr("url", "evil.example/a", false, false), attr("email-src", "mallory@evil.example", true, false), attr("url", "HTTPS://Kit.example:443/x/../pay", true, false))
	st, got := f.sync()
	want := "evil.example phishing 80, 198.51.100.7 phishing 80, mallory@evil.example phishing 80, " + strings.Repeat("ab", 12) + " phishing 80"
	if got != want || st.Error != "" {
		t.Errorf("%s, %+v", got, st)
	}
	if q := f.far.Queries()[0]; q["limit"] == nil || q["to_ids"] != 1.0 || q["published"] != 1.0 || q["enforceWarninglist"] != 1.0 {
		t.Errorf("asked %v", q)
	}
	if err := f.s.Load(context.Background()); err != nil {
		t.Fatal(err)
	}
	judge(t, f.s, question("http://www.evil.example/"))
	f.s.writeHits(context.Background())
	evil["to_ids"] = false // taken back
	st, got = f.sync()
	if strings.HasPrefix(got, "evil.example") || st.Error != "" {
		t.Errorf("%s, %+v", got, st)
	}
	judge(t, f.s, question("http://198.51.100.7/", "http://kit.example/pay"))
	f.s.writeHits(context.Background())
	f.sync()
	f.sync()
	if s := f.far.Sighted(); len(s) != 2 || !slices.Contains(s, "198.51.100.7") || !slices.Contains(s, "HTTPS://Kit.example:443/x/../pay") {
		t.Errorf("told of %v", s)
	}
	f.feeds.cfg[0].Key = "wrong"
	if st, _ = f.sync(); !strings.Contains(st.Error, "key is not accepted") || !st.Alarm {
		t.Errorf("%+v", st)
	}
}

func TestFeed_TAXII(t *testing.T) {
	t.Parallel()
	f := newFeedTest(t, TypeTAXII, "/taxii")
	object := func(pattern string, more ...any) map[string]any {
		o := map[string]any{"type": "indicator", "pattern_type": "stix", "pattern": pattern, "indicator_types": []string{"malicious-activity"}, "modified": time.Now().UTC().Format(time.RFC3339)}
		for i := 0; i < len(more); i += 2 {
			o[more[i].(string)] = more[i+1]
		}
		return o
	}
	f.far.STIX(object("[domain-name:value = 'evil.example' OR ipv4-addr:value = '198.51.100.7']", "confidence", 91), object("[url:value = 'http://evil.example/a' AND x:y = 1]"),
		object("[email-addr:value = 'mallory@evil.example']", "revoked", true), object("[file:hashes.'SHA-256' = '"+strings.Repeat("ab", 32)+"']"))
	st, got := f.sync()
	if want := "evil.example malware 91, 198.51.100.7 malware 91, " + strings.Repeat("ab", 12) + " malware 80"; got != want || st.Error != "" {
		t.Errorf("%s, %+v", got, st)
	}
	if st, again := f.sync(); again != got || st.Error != "" {
		t.Errorf("%s, %+v", again, st)
	}
}
