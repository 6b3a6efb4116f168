package ruleset

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/audit"
	"mailward/internal/message"
	"mailward/internal/pg"
	"mailward/internal/testenv"
	"mailward/policy"
	"mailward/quarantine"
	"mailward/scanner"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

type fixture struct {
	*Store
	t       *testing.T
	db      *testenv.DB
	audit   *audit.Log
	sidecar *scanner.Sidecar
	held    *quarantine.Store
	user    pg.Actor
	spool   *message.Spooler
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	db, dir, rules := testenv.Postgres(t), t.TempDir(), t.TempDir()
	key, err := quarantine.OpenLocalKey(filepath.Join(dir, "blob.key"))
	must(t, err)
	blobs, err := quarantine.NewBlobs(filepath.Join(dir, "blobs"), key)
	must(t, err)
	cfg := message.DefaultConfig()
	cfg.Dir, cfg.MinFree = filepath.Join(dir, "spool"), 0
	spool, err := message.NewSpooler(cfg)
	must(t, err)
	log := slog.New(slog.DiscardHandler)
	al := audit.New(db.DB, audit.Options{})
	f := &fixture{t: t, db: db, audit: al, spool: spool,
		sidecar: scanner.NewSidecar(scanner.SidecarConfig{Socket: testenv.SidecarWith(t, "--workers", "2", "--managed", rules).Address}),
		held:    quarantine.New(quarantine.DefaultConfig(), db.DB, blobs, al, log)}
	id, sid := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	_, err = db.Admin(t).Exec(context.Background(), `WITH u AS (INSERT INTO user_account (id, email, name) VALUES ($1, 'ann@ours.example', 'Ann') RETURNING id)
		INSERT INTO session (id, token_hash, user_id, expires_at) SELECT $2, sha256($3), u.id, now() + interval '1 day' FROM u`, id, sid, sid[:])
	must(t, err)
	f.user = pg.Actor{Type: pg.ActorUser, UserID: id, Email: "ann@ours.example", SessionID: sid, AuthMethod: "password"}
	f.Store = New(rules, Deps{DB: db.DB, Sidecar: f.sidecar, Quarantine: f.held, Audit: al, Log: log})
	return f
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run starts a loop that ends with the test.
func (f *fixture) run(loop func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { loop(ctx) })
	f.t.Cleanup(func() { cancel(); wg.Wait() })
}

func (f *fixture) create(name, source string) Set {
	f.t.Helper()
	set, _, err := f.Create(context.Background(), f.user, Draft{Name: name, Class: policy.Phishing, Score: 7, Source: source})
	must(f.t, err)
	return set
}

func rule(name, condition string) string {
	return "rule " + name + " {\n  condition:\n    " + condition + "\n}\n"
}

// wait waits until cond holds.
func wait(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !cond(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not in time: " + what)
		}
	}
}

func TestStore_KeepsVersions(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), context.Background()
	set := f.create("Campaign", rule("First", "false"))
	if set.Enabled || set.Number != 1 || set.Latest != 1 || !slices.Equal(set.Rules, []string{"First"}) {
		t.Fatalf("%+v", set)
	}
	second := Draft{Name: "Campaign", Class: policy.Malware, Score: 9, Source: rule("Second", "false"), Comment: "better", Later: true}
	set, _, err := f.Update(ctx, f.user, set.ID, set.Version, second)
	if err != nil || set.Number != 1 || set.Latest != 2 || set.Class != policy.Malware {
		t.Fatalf("%+v, error %v", set, err)
	}
	if _, _, err := f.Update(ctx, f.user, set.ID, set.Version-1, second); !errors.Is(err, ErrConflict) {
		t.Errorf("an old version: %v", err)
	}
	second.Later = false
	if set, _, err = f.Update(ctx, f.user, set.ID, set.Version, second); err != nil || set.Number != 2 || set.Latest != 2 {
		t.Fatalf("the same source: %+v, error %v", set, err)
	}
	if set, err = f.Use(ctx, f.user, set.ID, set.Version, 1); err != nil || set.Number != 1 || set.Rules[0] != "First" {
		t.Fatalf("back: %+v, error %v", set, err)
	}
	list, err := f.Versions(ctx, set.ID)
	if err != nil || len(list) != 2 || list[0].Author != "Ann" || list[0].Comment != "better" || list[0].Source != "" {
		t.Errorf("%+v, error %v", list, err)
	}
	if _, err := f.Source(ctx, set.ID, 3); !errors.Is(err, ErrNotFound) {
		t.Errorf("version 3: %v", err)
	}
	must(t, f.Delete(ctx, f.user, set.ID, set.Version))
	if _, err := f.Get(ctx, set.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("a deleted set: %v", err)
	}
	f.create("Campaign", rule("First", "false")) // name and rules are free again
}

// What is changed is on record with the source's hash, and never the source.
func TestStore_ChangesAreOnRecord(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), context.Background()
	set := f.create("On record", "// a secret word\n"+rule("Rec", "false"))
	set, err := f.Enable(ctx, f.user, set.ID, set.Version, true)
	must(t, err)
	must(t, f.Delete(ctx, f.user, set.ID, set.Version))
	p, err := f.audit.List(ctx, audit.Filter{Limit: 100})
	must(t, err)
	var actions []string
	for _, row := range p.Items {
		if text := fmt.Sprint(row.Fields()); strings.Contains(text, "secret word") {
			t.Errorf("the source is in an event: %s", text)
		} else if strings.Contains(text, "yara.version.create") && (!strings.Contains(text, set.SHA256) || !strings.Contains(text, f.user.UserID.String())) {
			t.Errorf("no hash or author in %s", text)
		}
		actions = append(actions, row.Fields()["action"].(string))
	}
	for _, want := range []string{"yara.set.create", "yara.version.create", "yara.set.update"} {
		if !slices.Contains(actions, want) {
			t.Errorf("no %s in %v", want, actions)
		}
	}
	for _, sql := range []string{"UPDATE yara_set_version SET comment = 'x'", "DELETE FROM yara_set_version", "DELETE FROM yara_set"} {
		if _, err := f.db.DB.Exec(ctx, sql); err == nil {
			t.Errorf("the program may %s", sql)
		}
	}
}

func TestStore_RefusesWhatCannotBeUsed(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), context.Background()
	f.create("Other", rule("Taken", "false"))
	var invalid *policy.InvalidError
	var broken *BrokenError
	good := Draft{Name: "New", Class: policy.Spam, Score: 1, Source: rule("Free", "false")}
	for name, tt := range map[string]struct {
		change  func(*Draft)
		invalid string // field
		line    int    // of the first error
		text    string
		is      error
	}{
		"no name":      {change: func(d *Draft) { d.Name = " " }, invalid: "name"},
		"long name":    {change: func(d *Draft) { d.Name = strings.Repeat("x", 101) }, invalid: "name"},
		"class":        {change: func(d *Draft) { d.Class = policy.Clean }, invalid: "class"},
		"score":        {change: func(d *Draft) { d.Score = 100.5 }, invalid: "score"},
		"big":          {change: func(d *Draft) { d.Source = strings.Repeat("/", scanner.MaxRuleSource+1) }, invalid: "source"},
		"not UTF-8":    {change: func(d *Draft) { d.Source = "\xff" }, invalid: "source"},
		"broken":       {change: func(d *Draft) { d.Source = "rule a {\n condition: nothing }" }, line: 2, text: "nothing"},
		"taken":        {change: func(d *Draft) { d.Source += rule("Taken", "true") }, line: 5, text: "the set Other has a rule of this name"},
		"in a file":    {change: func(d *Draft) { d.Source = rule("HTML_Smuggling", "true") }, line: 1, text: "the file mailward/html.yar"},
		"name of ours": {change: func(d *Draft) { d.Name = "OTHER" }, is: ErrExists},
	} {
		d := good
		tt.change(&d)
		_, _, err := f.Create(ctx, f.user, d)
		switch {
		case tt.invalid != "" && (!errors.As(err, &invalid) || invalid.Field != tt.invalid):
			t.Errorf("%s: %v", name, err)
		case tt.text != "" && (!errors.As(err, &broken) || !strings.Contains(broken.Error(), tt.text) || broken.Compiled.Issues[0].Line != tt.line):
			t.Errorf("%s: %v", name, err)
		case tt.is != nil && !errors.Is(err, tt.is):
			t.Errorf("%s: %v", name, err)
		}
	}
	if c, err := f.Check(ctx, uuid.Nil, Draft{Source: rule("Taken", "true")}); err != nil || c.OK || len(c.Issues) != 1 {
		t.Errorf("check: %+v, error %v", c, err)
	}
	if list, err := f.List(ctx); err != nil || len(list) != 1 {
		t.Errorf("%d sets are there, error %v", len(list), err)
	}
}

// Two people who save rules of the same name at the same time do not both do it.
func TestStore_NamesClashAlsoAtTheSameTime(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), context.Background()
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() {
			_, _, errs[i] = f.Create(ctx, f.user, Draft{Name: fmt.Sprint("set ", i), Score: 1, Source: rule("Same", "false")})
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		}
	}
	if won != 1 {
		t.Errorf("%d of 4 were stored: %v", won, errs)
	}
}

// What is enabled comes into force in the sidecar, and goes again; several
// processes write the same file.
func TestStore_PublishesWhatIsEnabled(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), context.Background()
	f.run(f.Run)
	f.run(New(f.dir, f.deps).Run)
	set := f.create("Live", rule("Live", `part_name == "header"`))
	current := func() RulesStatus {
		st, err := f.Status(ctx)
		must(t, err)
		return st
	}
	wait(t, "nothing in force", func() bool { return current().Current() })
	set, err := f.Enable(ctx, f.user, set.ID, set.Version, true)
	must(t, err)
	wait(t, "the set in force", func() bool { st := current(); return st.Current() && st.Sets == 1 })
	if st := current(); st.Late || st.Problem != "" || len(st.Files) < 3 || st.Version == "" {
		t.Errorf("%+v", st)
	}
	sp, err := f.spool.FromBytes([]byte("From: a@b.example\r\nSubject: x\r\n\r\nhello\r\n"))
	must(t, err)
	defer sp.Close()
	var a scanner.Answer
	wait(t, "a hit of the set", func() bool { // workers with the old rules answer beside the new ones for a moment
		a, err = f.sidecar.Scan(ctx, scanner.Job{MailID: uuid.New(), Spool: sp})
		return err != nil || len(a.Findings) > 0
	})
	if err != nil || len(a.Findings) != 1 || a.Findings[0].Class != policy.Phishing || a.Findings[0].Score != 7 || a.Findings[0].Meta["set"] != "Live" {
		t.Errorf("%+v, error %v", a.Findings, err)
	}
	_, err = f.Enable(ctx, f.user, set.ID, set.Version, false)
	must(t, err)
	wait(t, "nothing in force again", func() bool { st := current(); return st.Current() && st.Sets == 0 })
}

// TestStore_SwitchesFiles: a file that is switched off is not matched with, and
// says why; one that is not there cannot be.
func TestStore_SwitchesFiles(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), context.Background()
	f.run(f.Run)
	file := func() RuleFile {
		st, err := f.Status(ctx)
		must(t, err)
		if i := slices.IndexFunc(st.Files, func(x RuleFile) bool { return x.Space == "mailward/html.yar" }); i >= 0 && st.Current() {
			return st.Files[i]
		}
		return RuleFile{}
	}
	wait(t, "the file in force", func() bool { return len(file().Rules) > 0 })
	if err := f.SwitchFile(ctx, f.user, "mailward/none.yar", false, "no such file"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a file that is not there: %v", err)
	}
	must(t, f.SwitchFile(ctx, f.user, "mailward/html.yar", false, "false alarms on Monday"))
	must(t, f.SwitchFile(ctx, f.user, "mailward/html.yar", false, "twice"))
	// Workers with the old rules answer beside those with the new ones for a moment.
	var x RuleFile
	wait(t, "the file off", func() bool { x = file(); return x.Off && len(x.Rules) == 0 })
	if x.Reason != "false alarms on Monday" || x.Actor != "ann@ours.example" || x.Since == nil {
		t.Errorf("%+v", x)
	}
	must(t, f.SwitchFile(ctx, f.user, "mailward/html.yar", true, "mended"))
	wait(t, "the file on again", func() bool { x := file(); return !x.Off && len(x.Rules) > 0 })
	p, err := f.audit.List(ctx, audit.Filter{Limit: 100})
	must(t, err)
	var said []string
	for _, row := range p.Items {
		if action := row.Fields()["action"].(string); strings.HasPrefix(action, "yara.file.") {
			text := fmt.Sprint(row.Fields())
			said = append(said, fmt.Sprintf("%s %t %t %t", action, strings.Contains(text, "false alarms on Monday"), strings.Contains(text, "mended"), strings.Contains(text, f.user.UserID.String())))
		}
	}
	if want := []string{"yara.file.delete true true true", "yara.file.create true false true"}; !slices.Equal(said, want) {
		t.Errorf("on record: %v", said)
	}
}

func TestWriteFile_IsWholeAndOnlyWhereNeeded(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new")
	for _, tt := range []struct {
		text  string
		wrote bool
	}{{"one", true}, {"one", false}, {"two", true}} {
		wrote, err := writeFile(dir, "f", []byte(tt.text))
		if err != nil || wrote != tt.wrote {
			t.Fatalf("%q: wrote %v, error %v", tt.text, wrote, err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(got) != tt.text {
			t.Errorf("%q is there, error %v", got, err)
		}
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("%d files are left, error %v", len(list), err)
	}
}

func TestStore_CountsSlowRules(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), context.Background()
	set := f.create("Slow", rule("Slow", "false"))
	for range 3 {
		must(t, f.noteSlow(ctx, scanner.SlowRule{Space: "Slow", Set: set.ID.String(), Version: 1, Rule: "Slow"}))
	}
	must(t, f.noteSlow(ctx, scanner.SlowRule{Space: "yara/x.yar", Rule: "X"}))
	list, err := f.Slow(ctx)
	if err != nil || len(list) != 2 || list[0].Times != 3 || list[0].Space != set.ID.String() || list[1].Rule != "X" {
		t.Fatalf("%+v, error %v", list, err)
	}
	_, _, err = f.Update(ctx, f.user, set.ID, set.Version, Draft{Name: "Slow", Score: 1, Source: rule("Quicker", "false")})
	must(t, err)
	if list, err = f.Slow(ctx); err != nil || len(list) != 1 {
		t.Errorf("after a new version: %+v, error %v", list, err)
	}
}

func (f *fixture) hold(body string) uuid.UUID {
	f.t.Helper()
	sp, err := f.spool.FromBytes([]byte("From: a@b.example\r\nSubject: x\r\n\r\n" + body + "\r\n"))
	must(f.t, err)
	defer sp.Close()
	id, err := f.held.Hold(context.Background(), quarantine.Hold{Envelope: message.Envelope{ID: uuid.Must(uuid.NewV7()), ReceivedAt: time.Now(), From: "m@evil.example"}, Spool: sp,
		Workspace: policy.DefaultWorkspace, Class: policy.Malware, Recipients: []policy.RecipientDecision{{Address: "bob@ours.example", Domain: "ours.example", Action: policy.Quarantine}}})
	must(f.t, err)
	return id
}

func TestBacktest_TriesHeldMailsAndSamples(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), context.Background()
	f.hold("an old one")
	hit, miss := f.hold("pay the ransom"), f.hold("nothing")
	set := f.create("Ransom", "rule Ransom { strings: $r = \"ransom\" condition: $r }\n"+rule("Alarm", `part_type == "text/rfc822-headers"`))
	f.run(f.RunBacktests)
	b, err := f.StartBacktest(ctx, f.user, set.ID, 1, 2, []uuid.UUID{policy.DefaultWorkspace})
	must(t, err)
	wait(t, "the trial's end", func() bool { b, err = f.Backtest(ctx, b.ID); must(t, err); return b.Ended() })
	r := b.Result
	if b.State != "done" || b.Total != 7 || b.Done != 7 || r.Mails != 2 || r.Samples != 5 || r.HitMails != 2 || r.HitSamples != 5 || r.Bytes == 0 || r.TookNS == 0 || r.InForceNS == 0 || b.Requester != "Ann" {
		t.Errorf("%+v", b)
	}
	if !slices.Equal(r.Rules, []RuleHits{{"Alarm", 2, 5}, {"Ransom", 1, 0}}) {
		t.Errorf("rules: %+v", r.Rules)
	}
	for _, h := range r.Hits {
		want := []string{"Alarm"}
		if h.Item != nil && *h.Item == hit {
			want = []string{"Alarm", "Ransom"}
		} else if h.Item != nil && *h.Item != miss {
			t.Errorf("the oldest mail was tried")
		}
		slices.Sort(h.Rules)
		if !slices.Equal(h.Rules, want) {
			t.Errorf("%+v, want %v", h, want)
		}
	}
	p, err := f.audit.List(ctx, audit.Filter{Action: audit.BacktestResult, Limit: 10})
	if err != nil || len(p.Items) != 1 || !strings.Contains(fmt.Sprint(p.Items[0].Fields()), "hit_mails:2") {
		t.Errorf("on record: %+v, error %v", p.Items, err)
	}
	// Who may look into no mail tries the samples alone.
	b, err = f.StartBacktest(ctx, f.user, set.ID, 1, 100, nil)
	must(t, err)
	wait(t, "the second trial's end", func() bool { b, err = f.Backtest(ctx, b.ID); must(t, err); return b.Ended() })
	if b.Result.Mails != 0 || b.Result.Samples != 5 {
		t.Errorf("%+v", b.Result)
	}
	if list, err := f.Backtests(ctx, set.ID); err != nil || len(list) != 2 {
		t.Errorf("%d trials, error %v", len(list), err)
	}
}

// A trial whose process died is begun anew, and given up in the end.
func TestBacktest_OutlivesItsProcess(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), context.Background()
	set := f.create("X", rule("X", "false"))
	b, err := f.StartBacktest(ctx, f.user, set.ID, 1, 0, nil)
	must(t, err)
	died := "UPDATE yara_backtest SET state = 'running', lease_owner = gen_random_uuid(), lease_until = now() - interval '1 minute', tries = $2 WHERE id = $1"
	_, err = f.db.Admin(t).Exec(ctx, died, b.ID, 1)
	must(t, err)
	if ran, err := f.runNext(ctx); !ran || err != nil {
		t.Fatal(ran, err)
	}
	if b, err = f.Backtest(ctx, b.ID); err != nil || b.State != "done" || b.Result.Samples != 5 {
		t.Errorf("%+v, error %v", b, err)
	}
	_, err = f.db.Admin(t).Exec(ctx, died, b.ID, maxTries)
	must(t, err)
	if ran, err := f.runNext(ctx); !ran || err != nil {
		t.Fatal(ran, err)
	}
	if b, err = f.Backtest(ctx, b.ID); err != nil || b.State != "failed" || b.Error != errDied.Error() {
		t.Errorf("%+v, error %v", b, err)
	}
	for range maxOpen {
		_, err = f.StartBacktest(ctx, f.user, set.ID, 1, 0, nil)
		must(t, err)
	}
	if _, err := f.StartBacktest(ctx, f.user, set.ID, 1, 0, nil); !errors.Is(err, ErrBusy) {
		t.Errorf("one more: %v", err)
	}
}

func TestQueries_Prepare(t *testing.T) {
	t.Parallel()
	testenv.PrepareQueries(t, queryFiles)
}
