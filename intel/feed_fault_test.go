package intel

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"mailward/audit"
	"mailward/internal/testenv"
	"mailward/policy"
)

// TestFeed_Traps: whatever a server does in place of an answer, what it said
// before stays in force, and the state says what is wrong.
func TestFeed_Traps(t *testing.T) {
	t.Parallel()
	want := map[string]string{"down": CodeUnreachable, "401": CodeDenied, "403": CodeDenied, "429": CodeLimited, "500": CodeStatus, "html": CodeNotAFeed, "empty": CodeNotAFeed,
		"cut": CodeCut, "endless": CodeTooMuch, "gzip bomb": CodeTooMuch, "silent": CodeTimeout, "wrong key with 200": CodeDenied, "no result with 200": CodeNotAFeed}
	files := []string{"html", "wrong key with 200", "no result with 200"} // the rest is as of lists
	for typ, tt := range map[string]struct {
		path  string
		traps []string
	}{TypeList: {"/files/x", testenv.Traps()}, TypeURLhaus: {"/files/u", files}, TypeSTIX: {"/files/s", files}, TypeMISP: {"/misp", testenv.Traps()}, TypeTAXII: {"/taxii", testenv.Traps()}} {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			f := newFeedTest(t, typ, tt.path, func(c *FeedConfig) { c.Key, c.most, c.limit = testenv.MISPKey, 3<<20, 20*time.Second })
			f.fill()
			if st, got := f.sync(); !strings.HasPrefix(got, "evil.example") && !strings.HasPrefix(got, "http://evil.example/a") || st.Error != "" {
				t.Fatalf("%s, %+v", got, st)
			}
			for _, trap := range tt.traps {
				code := want[trap]
				if strings.Contains(trap, "with 200") && (typ == TypeMISP || typ == TypeTAXII) {
					continue // abuse.ch does that
				}
				f.feeds.cfg[0].limit = 20 * time.Second
				if trap == "silent" {
					f.feeds.cfg[0].limit = 100 * time.Millisecond
				}
				f.far.Trap(trap)
				st, got := f.sync()
				if st.Code != code || st.Error == "" || strings.Contains(st.Error, f.far.URL) || strings.Contains(st.Error, testenv.MISPKey) || got == "" || st.Running {
					t.Errorf("%s: %s, %+v", trap, got, st)
				}
				if at := time.Until(st.NextRunAt); (trap == "429") != (at > time.Hour) {
					t.Errorf("%s: the next run is in %v", trap, at)
				}
			}
			f.far.Trap("")
			if st, _ := f.sync(); st.Error != "" || st.Code != "" || st.Alarm {
				t.Errorf("once it is well: %+v", st)
			}
		})
	}
}

// fill has one bad name or page in each feed of the double.
func (f *feedTest) fill() {
	now := time.Now().UTC()
	f.far.File("x", "http://evil.example/a\n")
	f.far.File("u", "# id,dateadded,url,url_status,last_online,threat,tags,urlhaus_link,reporter\r\n\"1\",\""+now.Format(time.DateTime)+"\",\"http://evil.example/a\",\"online\",\"\",\"malware_download\",\"\",\"\",\"x\"\r\n")
	f.far.File("s", `{"type":"bundle","id":"bundle--1","objects":[{"type":"identity","name":5},{"type":"indicator","pattern_type":"stix","pattern":"[url:value = 'http://evil.example/a']","modified":"`+now.Format(time.RFC3339)+`"}]}`)
	f.far.Attributes(map[string]any{"type": "hostname", "value": "evil.example", "to_ids": true, "deleted": false, "timestamp": strconv.FormatInt(now.Unix(), 10), "Event": map[string]any{"id": "10"}})
	f.far.STIX(map[string]any{"type": "indicator", "pattern_type": "stix", "pattern": "[domain-name:value = 'evil.example']", "modified": now.Format(time.RFC3339)})
}

// TestFeed_Down: the last indicators are used on, and the lag is shown until
// they expire.
func TestFeed_Down(t *testing.T) {
	t.Parallel()
	f := newFeedTest(t, TypeList, "/files/x", func(c *FeedConfig) { c.Expiry = 24 * time.Hour })
	f.fill()
	f.sync()
	f.far.Trap("down")
	lag := func() float64 {
		t.Helper()
		reg := prometheus.NewRegistry()
		reg.MustRegister(f.feeds)
		if n, err := testutil.GatherAndCount(reg, "mailward_cti_sync_lag_minutes"); err != nil || n != 1 {
			t.Fatal(n, err)
		}
		return testutil.ToFloat64(f.feeds)
	}
	for _, tt := range []struct {
		after time.Duration
		late  bool
		signs int
	}{{30 * time.Minute, false, 1}, {3 * time.Hour, true, 1}, {25 * time.Hour, true, 0}} {
		f.s.now = func() time.Time { return time.Now().Add(tt.after) }
		st, _ := f.sync()
		if st.Code != CodeUnreachable || st.Late != tt.late || st.LagMinutes < tt.after.Minutes() || lag() < tt.after.Minutes() || lag() > tt.after.Minutes()+2 {
			t.Errorf("after %v: %+v, lag %v", tt.after, st, lag())
		}
		if err := f.s.Load(context.Background()); err != nil {
			t.Fatal(err)
		}
		if signs, _ := judge(t, f.s, question("http://evil.example/a")); len(signs) != tt.signs {
			t.Errorf("after %v: %v", tt.after, signs)
		}
	}
	f.far.Trap("")
	if st, _ := f.sync(); st.Error != "" || lag() > 2 {
		t.Errorf("once it is back: %+v", st)
	}
}

// TestFeed_Together: what a run stores, how it went and the record of it stand
// or fall together; so does an import.
func TestFeed_Together(t *testing.T) {
	t.Parallel()
	f := newFeedTest(t, TypeList, "/files/x")
	f.fill()
	ctx := context.Background()
	db := f.db
	events := func(action string) (n int) {
		t.Helper()
		if err := db.Admin(t).QueryRow(ctx, "SELECT count(*) FROM audit.event WHERE convert_from(bytes, 'UTF8')::jsonb ->> 'action' = $1", action).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	forbid := func(what string) {
		t.Helper()
		if _, err := db.Admin(t).Exec(ctx, "BEGIN; SELECT audit.maintenance('test', 'appends'); "+what+" mailward_app; COMMIT"); err != nil {
			t.Fatal(err)
		}
	}
	forbid("REVOKE EXECUTE ON FUNCTION audit.append(uuid, bytea, jsonb) FROM")
	st, got := f.sync()
	if got != "" || st.LastGoodAt != nil || st.Code != CodeNotStored || st.Running {
		t.Errorf("without the audit: %s, %+v", got, st)
	}
	if _, err := f.s.Import(ctx, someone, "mine", strings.NewReader(`[{"value":"evil.example"}]`)); err == nil {
		t.Error("an import went through unrecorded")
	}
	if list, _, err := f.s.List(ctx, Filter{}); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
	forbid("GRANT EXECUTE ON FUNCTION audit.append(uuid, bytea, jsonb) TO")
	f.due()
	if st, got = f.sync(); got == "" || st.Error != "" || events(audit.IntelSync) != 1 {
		t.Errorf("%s, %+v, %d events", got, st, events(audit.IntelSync))
	}
	if f.sync(); events(audit.IntelSync) != 1 {
		t.Errorf("nothing has changed, and there are %d events", events(audit.IntelSync))
	}
	if _, err := f.s.Import(ctx, someone, "mine", strings.NewReader(`[{"value":"evil.example"}]`)); err != nil || events(audit.IntelImport) != 1 {
		t.Error(err, events(audit.IntelImport))
	}
}

// TestFeed_TakenOver: a run that lasted too long stores nothing once another
// process has the feed.
func TestFeed_TakenOver(t *testing.T) {
	t.Parallel()
	f := newFeedTest(t, TypeList, "/files/x")
	f.fill()
	f.sync()
	ctx := context.Background()
	if _, err := f.db.Admin(t).Exec(ctx, "UPDATE intel_feed SET claimed_until = now() + interval '1 hour'"); err != nil {
		t.Fatal(err)
	}
	f.far.File("x", "http://later.example/a\n")
	if err := f.feeds.run(ctx, f.feeds.cfg[0], feedState{claim: time.Now()}); err == nil {
		t.Error("a run that had lost its feed went through")
	}
	if list, _, _ := f.s.List(ctx, Filter{Value: "http://later.example/a"}); len(list) != 0 {
		t.Error(list)
	}
}

// TestLoad_LongTransaction: what a slow transaction adds is found however long it
// took, also where others were read in between.
func TestLoad_LongTransaction(t *testing.T) {
	t.Parallel()
	s, _ := newTestStore(t)
	ctx := context.Background()
	err := s.db.Act(ctx, operator, func(ctx context.Context, tx pgx.Tx) error {
		i := Indicator{Value: "slow.example", Class: policy.Phishing, Confidence: 90}
		if err := i.fill(time.Now(), defaultLife); err != nil {
			return err
		}
		if _, err := s.put(ctx, tx, "feed", []Indicator{i}); err != nil {
			return err
		}
		put(t, s, "feed", policy.Phishing, 90, "quick.example") // commits, and is loaded
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Load(ctx); err != nil {
		t.Fatal(err)
	}
	if signs, _ := judge(t, s, question("http://slow.example/", "http://quick.example/")); len(signs) != 2 {
		t.Errorf("%v", signs)
	}
}

func TestMayDial(t *testing.T) {
	t.Parallel()
	for address, want := range map[string][2]bool{ // by itself, with allow_private
		"93.184.216.34:443": {true, true}, "[2606:2800:220:1::1]:443": {true, true}, "10.0.0.5:443": {false, true}, "127.0.0.1:80": {false, true}, "[::1]:80": {false, true}, "[fd00::1]:80": {false, true},
		"[::ffff:10.0.0.5]:80": {false, true}, "100.64.0.1:80": {false, true}, "169.254.169.254:80": {false, false}, "[fe80::1]:80": {false, false}, "0.0.0.0:80": {false, false}, "224.0.0.1:80": {false, false},
		"[64:ff9b::a00:5]:80": {false, false}, "[2002:a00:5::1]:80": {false, false}, "255.255.255.255:80": {false, false}, "nonsense": {false, false},
	} {
		if got := [2]bool{mayDial(address, false), mayDial(address, true)}; got != want {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	request := func(url string) *http.Request {
		r, err := http.NewRequest("GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, tt := range []struct {
		typ, key, from, to string
		ok                 bool
	}{
		{TypeList, "", "https://a.example/x", "https://a.example/y", true},
		{TypeList, "", "https://a.example/x", "https://b.example/y", false},
		{TypeList, "", "https://a.example/x", "http://a.example/y", false},
		{TypeOpenPhish, "", "https://openphish.com/feed.txt", "https://raw.githubusercontent.com/openphish/public_feed/refs/heads/main/feed.txt", true},
		{TypeOpenPhish, "k", "https://openphish.com/feed.txt", "https://raw.githubusercontent.com/x", false},
		{TypeOpenPhish, "", "https://openphish.com/feed.txt", "https://b.example/x", false},
	} {
		err := newClient(FeedConfig{Type: tt.typ, Key: tt.key}).http.CheckRedirect(request(tt.to), []*http.Request{request(tt.from)})
		if (err == nil) != tt.ok {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}

func TestQueries_Prepare(t *testing.T) {
	t.Parallel()
	testenv.PrepareQueries(t, queryFiles)
}
