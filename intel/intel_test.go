package intel

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
	"mailward/internal/testenv"
	"mailward/policy"
	"mailward/scanner"
	"mailward/scanner/content"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

var (
	operator = pg.Operator("test")
	someone  = Person{Actor: operator}
)

func newTestStore(t testing.TB) (*Store, *testenv.DB) {
	t.Helper()
	db := testenv.Postgres(t)
	s := NewStore(db.DB, audit.New(db.DB, audit.Options{Observer: audit.Observer{Node: "test", Version: "test"}, Log: slog.New(slog.DiscardHandler)}), slog.New(slog.DiscardHandler))
	if err := s.Load(context.Background()); err != nil {
		t.Fatal(err)
	}
	return s, db
}

func put(t testing.TB, s *Store, source string, class policy.Class, confidence int, values ...string) {
	t.Helper()
	var list []Indicator
	for _, v := range values {
		i := Indicator{Value: v, Class: class, Confidence: confidence, Reference: "https://intel.example/" + v}
		if err := i.fill(time.Now(), defaultLife); err != nil {
			t.Fatal(v, err)
		}
		list = append(list, i)
	}
	var n counts
	err := s.db.Act(context.Background(), operator, func(ctx context.Context, tx pgx.Tx) (err error) {
		n, err = s.put(ctx, tx, source, list)
		return err
	})
	if err != nil || int(n.added) != len(values) {
		t.Fatal(n, err)
	}
	if err := s.Load(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func question(links ...string) scanner.Question {
	q := scanner.Question{Workspace: policy.DefaultWorkspace, Content: &content.Content{From: []content.Address{{Address: "friend@good.example"}}}}
	for _, l := range links {
		q.Content.Links = append(q.Content.Links, content.Link{Target: l, Part: "1"})
	}
	return q
}

func judge(t testing.TB, s *Store, q scanner.Question) (signs []string, found []policy.Finding) {
	t.Helper()
	found, _, err := NewJudge(s).Judge(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		signs = append(signs, f.Name+" "+f.Meta["value"])
	}
	slices.Sort(signs)
	return signs, found
}

func TestJudge_Kinds(t *testing.T) {
	t.Parallel()
	s, _ := newTestStore(t)
	sum := strings.Repeat("ab", 32)
	put(t, s, "feed", policy.Malware, 90, "evil.example", "http://host.example/pay?id=1", "http://host.example/kit", "mallory@free.example", "bad-sender.example", "198.51.100.7", sum)
	for name, tt := range map[string]struct {
		q    scanner.Question
		want string
	}{
		"nothing":             {question("https://good.example/"), ""},
		"name above a link":   {question("https://a.b.EVIL.example:8443/x"), "INTEL_DOMAIN evil.example"},
		"page":                {question("HTTPS://user@host.example:443/./pay?id=1#top"), "INTEL_URL http://host.example/pay?id=1"},
		"page with a query":   {question("http://host.example/kit?victim=7"), "INTEL_URL http://host.example/kit"},
		"another page":        {question("http://host.example/pay?id=2"), ""},
		"address as a number": {question("http://0xc6336407/"), "INTEL_IP 198.51.100.7"},
		"client":              {scanner.Question{Client: netip.MustParseAddr("::ffff:198.51.100.7")}, "INTEL_IP 198.51.100.7"},
		"envelope":            {scanner.Question{EnvelopeFrom: "Mallory@free.example"}, "INTEL_SENDER mallory@free.example"},
		"author's domain":     {scanner.Question{Content: &content.Content{From: []content.Address{{Address: "x@mail.bad-sender.example"}}}}, "INTEL_SENDER bad-sender.example"},
		"answers":             {scanner.Question{Content: &content.Content{ReplyTo: []content.Address{{Address: "mallory@free.example"}}}}, "INTEL_SENDER mallory@free.example"},
		"mail":                {scanner.Question{SHA256: sum}, "INTEL_HASH " + sum},
		"part":                {scanner.Question{Parts: []policy.Part{{Path: "1.2", SHA256: sum}}}, "INTEL_HASH " + sum},
	} {
		if signs, _ := judge(t, s, tt.q); strings.Join(signs, ",") != tt.want {
			t.Errorf("%s: %v, want %s", name, signs, tt.want)
		}
	}
	_, found := judge(t, s, question("http://evil.example/"))
	if len(found) != 1 || found[0].Class != "" || found[0].Score != 4.5 || found[0].Part != "1" || !strings.Contains(found[0].Reason, "evil[.]example, which feed lists as malware: last seen today, confidence 90") {
		t.Errorf("%+v", found)
	}
}

func TestJudge_Overrides(t *testing.T) {
	t.Parallel()
	s, db := newTestStore(t)
	ctx := context.Background()
	put(t, s, "feed", policy.Phishing, 90, "listed.example", "deep.listed.example")
	second := uuid.Must(uuid.NewV7())
	if _, err := db.Admin(t).Exec(ctx, "INSERT INTO workspace (id, name) VALUES ($1, 'second')", second); err != nil {
		t.Fatal(err)
	}
	soon := time.Now().Add(time.Hour)
	add := func(o Override) Override {
		t.Helper()
		o.Owner, o.Reason = "soc@example.org", "looked at"
		o, err := s.AddOverride(ctx, operator, o)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	want := func(q scanner.Question, w string) {
		t.Helper()
		if signs, _ := judge(t, s, q); strings.Join(signs, ",") != w {
			t.Errorf("%v, want %s", signs, w)
		}
	}
	mine := policy.DefaultWorkspace
	allow := add(Override{Workspace: &mine, Effect: Allow, Value: "listed[.]example", ExpiresAt: &soon})
	want(question("http://listed.example/"), "")
	want(question("http://a.listed.example/"), "")
	want(question("http://deep.listed.example/"), "INTEL_DOMAIN deep.listed.example") // more exact than the allow
	other := question("http://listed.example/")
	other.Workspace = second
	want(other, "INTEL_DOMAIN listed.example") // the allow is not its
	block := add(Override{Effect: Block, Kind: Domain, Value: "listed.example", Class: policy.Malware})
	want(question("http://a.listed.example/"), "INTEL_DOMAIN listed.example")
	if _, found := judge(t, s, question("http://listed.example/")); found[0].Class != policy.Malware || found[0].Meta["override"] != block.ID.String() {
		t.Errorf("a block gives %+v", found)
	}
	if err := s.EndOverride(ctx, operator, block.ID, "no"); err == nil {
		t.Error("an override ends without a reason")
	}
	if err := s.EndOverride(ctx, operator, block.ID, "was a mistake"); err != nil {
		t.Fatal(err)
	}
	s.now = func() time.Time { return soon.Add(time.Minute) }
	want(question("http://listed.example/"), "INTEL_DOMAIN listed.example") // the allow has ended, also without being read again
	var events int
	if err := db.Admin(t).QueryRow(ctx, "SELECT count(*) FROM audit.event WHERE action LIKE 'intel_override.%'").Scan(&events); err != nil || events != 3 {
		t.Errorf("%d events of overrides, %v", events, err)
	}
	for name, o := range map[string]Override{
		"everybody's domain": {Effect: Block, Value: "google.com"}, "no end": {Effect: Allow, Value: "a.example"}, "nonsense": {Effect: Block, Value: "nonsense"}, "effect": {Effect: "maybe", Value: "a.example"},
	} {
		o.Owner, o.Reason = "soc", "because"
		if _, err := s.AddOverride(ctx, operator, o); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if list, next, err := s.Overrides(ctx, OverrideFilter{Workspaces: []uuid.UUID{second}}); err != nil || len(list) != 0 || next != "" {
		t.Errorf("another workspace sees %v, %v", list, err)
	}
	if list, _, err := s.Overrides(ctx, OverrideFilter{Workspaces: []uuid.UUID{mine}}); err != nil || len(list) != 1 || list[0].ID != allow.ID {
		t.Errorf("overrides %v, %v", list, err)
	}
}

func TestJudge_NoDatabase(t *testing.T) {
	t.Parallel()
	s, _ := newTestStore(t)
	put(t, s, "feed", policy.Phishing, 90, "listed.example")
	s.db.Close()
	if signs, _ := judge(t, s, question("http://good.example/")); len(signs) != 0 {
		t.Errorf("a mail without hits asks the database: %v", signs)
	}
	if signs, found := judge(t, s, question("http://listed.example/")); len(signs) != 1 || found[0].Name != SignUnknown || found[0].Class != "" || found[0].Score != 0 {
		t.Errorf("%+v", found)
	}
}

func TestStore_Notified(t *testing.T) {
	t.Parallel()
	s, _ := newTestStore(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	defer func() { cancel(); <-done }()
	other := NewStore(s.db, s.record, s.log)
	until := time.Now().Add(pollEvery - 5*time.Second)
	for n := 0; ; n++ {
		name := fmt.Sprintf("new%d.example", n)
		put(t, other, "feed", policy.Phishing, 90, name)
		time.Sleep(50 * time.Millisecond)
		if signs, _ := judge(t, s, question("http://new0.example/")); len(signs) == 1 {
			return
		}
		if time.Now().After(until) {
			t.Fatal("a new indicator is not seen")
		}
	}
}

func TestStore_Import(t *testing.T) {
	t.Parallel()
	s, _ := newTestStore(t)
	ctx := context.Background()
	in := "value,kind,class,confidence,note\nevil[.]example,,phishing,80,one\nnonsense,,,,\ngoogle.com,domain,malware,90,\n192.0.2.1,ip,malware,200,\n198.51.100.3,ip,malware,abc,\nhxxp://x.example/a,url,malware,,\"two, three\"\n"
	got, err := s.Import(ctx, someone, "mine", strings.NewReader(in))
	if err != nil || got.Read != 6 || got.Added != 2 || got.Refused != 4 || len(got.Errors) != 4 || got.Errors[0].Line != 3 || !strings.Contains(got.Errors[1].Error, "nearly everybody") {
		t.Errorf("%+v, %v", got, err)
	}
	got, err = s.Import(ctx, someone, "mine", strings.NewReader(`[{"value":"evil.example","class":"malware","confidence":10},{"value":7}]`))
	if err != nil || got.Added != 0 || got.Refused != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	list, next, err := s.List(ctx, Filter{Value: "hxxps://www.evil.example/x", Limit: 1})
	if err != nil || len(list) != 1 || next != "" || list[0].Class != policy.Malware || list[0].Confidence != 10 {
		t.Errorf("%+v, %v", list, err)
	}
	first, next, err := s.List(ctx, Filter{Source: "mine", Limit: 1})
	if err != nil || next == "" {
		t.Fatal(first, err)
	}
	rest, next, err := s.List(ctx, Filter{Source: "mine", Limit: 1, Cursor: next})
	if err != nil || next != "" || len(rest) != 1 || rest[0].Value == first[0].Value {
		t.Errorf("%+v, %v", rest, err)
	}
	if _, err := s.Import(ctx, someone, "mine", strings.NewReader("a,b\n1,2\n")); err == nil {
		t.Error("a file without a column of values was taken")
	}
}

func TestStore_HitsAndSweep(t *testing.T) {
	t.Parallel()
	s, _ := newTestStore(t)
	ctx := context.Background()
	put(t, s, "feed", policy.Phishing, 90, "listed.example")
	judge(t, s, question("http://listed.example/"))
	judge(t, s, question("http://listed.example/"))
	s.writeHits(ctx)
	list, _, err := s.List(ctx, Filter{})
	if err != nil || len(list) != 1 || list[0].Hits != 2 || list[0].LastHitAt == nil {
		t.Errorf("%+v, %v", list, err)
	}
	s.now = func() time.Time { return time.Now().Add(2 * defaultLife) }
	if signs, _ := judge(t, s, question("http://listed.example/")); len(signs) != 0 {
		t.Errorf("an expired indicator counts: %v", signs)
	}
	if err := s.sweep(ctx); err != nil {
		t.Fatal(err)
	}
	s.now = time.Now
	if list, _, err = s.List(ctx, Filter{}); err != nil || len(list) != 0 {
		t.Errorf("left after the sweep: %v, %v", list, err)
	}
}

// BenchmarkJudge measures look-ups among 5 million indicators:
// MAILWARD_BENCH_INDICATORS=5000000 go test -bench Judge ./intel
func BenchmarkJudge(b *testing.B) {
	rows := 100_000
	if n := os.Getenv("MAILWARD_BENCH_INDICATORS"); n != "" {
		fmt.Sscan(n, &rows)
	}
	s, db := newTestStore(b)
	ctx := context.Background()
	// The database makes the rows, with the keys as Go would.
	_, err := db.Admin(b).Exec(ctx, `INSERT INTO indicator (key, source, kind, value, class, confidence, first_seen, last_seen, expires_at)
		SELECT ('x' || left(encode(sha256(convert_to('domain', 'UTF8') || '\x00'::bytea || convert_to(d, 'UTF8')), 'hex'), 16))::bit(64)::bigint, 'bench', 'domain', d, 'phishing', 90, now(), now(), now() + interval '1 day'
		FROM generate_series(1, $1) n, LATERAL (SELECT 'host' || n || '.example') x (d)`, rows)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := db.Admin(b).Exec(ctx, "VACUUM ANALYZE indicator"); err != nil {
		b.Fatal(err)
	}
	begin := time.Now()
	s.filter.Store(nil)
	if err := s.Load(ctx); err != nil {
		b.Fatal(err)
	}
	b.Logf("%d keys read in %v, filter of %d MiB", rows, time.Since(begin).Round(time.Millisecond), len(s.filter.Load().words)*8>>20)
	run := func(name string, link func(n int) string) {
		b.Run(name, func(b *testing.B) {
			took := make([]time.Duration, 0, b.N)
			for n := 0; b.Loop(); n++ {
				links := make([]string, 20)
				for i := range links {
					links[i] = fmt.Sprintf("https://www.good%d.example/path/%d?x=%d", n*20+i, i, n)
				}
				links[10] = link(n)
				q := question(links...)
				begin := time.Now()
				if _, _, err := NewJudge(s).Judge(ctx, q); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(begin))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
	run("miss", func(int) string { return "https://good.example/" })
	run("hit", func(n int) string { return fmt.Sprintf("https://a.host%d.example/x", n*7919%rows+1) })
}
