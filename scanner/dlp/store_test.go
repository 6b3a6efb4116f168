package dlp

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/internal/pg"
	"mailward/internal/testenv"
	"mailward/policy"
	"mailward/scanner"
	"mailward/scanner/content"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func newTestStore(t *testing.T) (*Store, *testenv.DB) {
	t.Helper()
	db := testenv.Postgres(t)
	s := NewStore(db.DB, slog.New(slog.DiscardHandler))
	if err := s.Load(context.Background()); err != nil {
		t.Fatal(err)
	}
	return s, db
}

var operator = pg.Operator("test")

func TestStore_BuiltInSets(t *testing.T) {
	t.Parallel()
	s, db := newTestStore(t)
	ctx := context.Background()
	list, err := s.Sets(ctx)
	if err != nil {
		t.Fatal(err)
	}
	on := map[string]bool{}
	for _, x := range list {
		if x.Direction != Out || x.Class != policy.DLP || x.Workspace != policy.DefaultWorkspace || x.Version != 1 {
			t.Errorf("built-in set %+v", x)
		}
		on[x.Name] = x.Enabled
	}
	if len(on) != 5 || !on["Payment cards"] || !on["Bank accounts"] || !on["German personal ids"] || on["European personal ids"] || on["Confidential markings"] {
		t.Errorf("built-in sets %v", on)
	}
	w := uuid.Must(uuid.NewV7())
	if _, err := db.Admin(t).Exec(ctx, "INSERT INTO workspace (id, name) VALUES ($1, 'second')", w); err != nil {
		t.Fatal(err)
	}
	if list, err = s.Sets(ctx); err != nil || len(list) != 10 {
		t.Errorf("%d sets with a second workspace, %v", len(list), err)
	}
}

func TestStore_Changes(t *testing.T) {
	t.Parallel()
	s, db := newTestStore(t)
	ctx := context.Background()
	x, err := s.Create(ctx, operator, Set{Name: " Projekt Falke ", Direction: Both, Enabled: true, Class: policy.DLP, Score: 5, Rules: Rules{Keywords: []string{"Projekt Falke"}}})
	if err != nil || x.Name != "Projekt Falke" || x.Version != 1 {
		t.Fatalf("%+v, %v", x, err)
	}
	if _, err := s.Create(ctx, operator, Set{Name: "PROJEKT falke"}); !errors.Is(err, ErrExists) {
		t.Errorf("a second one of the name: %v", err)
	}
	x.Rules.Keywords = append(x.Rules.Keywords, "Falkenhorst")
	read := x.Version
	if x, err = s.Update(ctx, operator, x, &read); err != nil || x.Version != 2 || len(x.Rules.Keywords) != 2 {
		t.Fatalf("%+v, %v", x, err)
	}
	if _, err := s.Update(ctx, operator, x, &read); !errors.Is(err, ErrConflict) {
		t.Errorf("as it was read before the last change: %v", err)
	}
	if _, err := s.Update(ctx, operator, Set{ID: uuid.New(), Name: "x"}, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("one that is not there: %v", err)
	}
	f, err := s.AddFingerprint(ctx, operator, x.ID, Document{Name: "plan.txt", File: []byte(plan)})
	if err != nil || f.SHA256 == "" || f.Words < 60 {
		t.Fatalf("%+v, %v", f, err)
	}
	if _, err := s.AddFingerprint(ctx, operator, uuid.New(), Document{Name: "plan.txt", File: []byte(plan)}); !errors.Is(err, ErrNotFound) {
		t.Errorf("a document for a set that is not there: %v", err)
	}
	if x, err = s.Get(ctx, x.ID); err != nil || len(x.Fingerprints) != 1 || x.Version != 3 {
		t.Errorf("%+v, %v", x, err)
	}
	got, err := s.Test(ctx, plan[60:], func(o Set) bool { return o.ID == x.ID })
	if err != nil || len(got.Findings) != 1 || got.Findings[0].Meta["document"] != "1" || got.Findings[0].Meta["keyword"] != "" {
		t.Errorf("most of a document, without its keyword: %+v, %v", got, err)
	}
	if err := s.DeleteFingerprint(ctx, operator, x.ID, f.ID); err != nil {
		t.Error(err)
	}
	if err := s.DeleteFingerprint(ctx, operator, x.ID, f.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("twice: %v", err)
	}
	if _, err := s.AddFingerprint(ctx, operator, x.ID, Document{Name: "again", Text: plan}); err != nil {
		t.Error(err)
	}
	if err := s.Delete(ctx, operator, x.ID); err != nil {
		t.Error(err)
	}
	if err := s.Delete(ctx, operator, x.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("twice: %v", err)
	}
	want := map[string]int{"dlp.set.create": 1, "dlp.set.update": 4, "dlp.fingerprint.create": 2, "dlp.fingerprint.delete": 2, "dlp.set.delete": 1}
	if got := recorded(t, db); !maps.Equal(got, want) {
		t.Errorf("on record: %v, want %v", got, want)
	}
}

// recorded counts the events of this package.
func recorded(t *testing.T, db *testenv.DB) map[string]int {
	t.Helper()
	rows, err := db.Admin(t).Query(context.Background(), "SELECT action FROM audit.event WHERE action LIKE 'dlp.%'")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := map[string]int{}
	for rows.Next() {
		var a string
		if err := rows.Scan(&a); err != nil {
			t.Fatal(err)
		}
		n[a]++
	}
	return n
}

// What somebody changes past the program is in force within moments too.
func TestStore_Run(t *testing.T) {
	t.Parallel()
	s, db := newTestStore(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	if _, err := db.Admin(t).Exec(ctx, "UPDATE dlp_set SET enabled = false, version = version + 1, updated_at = now()"); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(15 * time.Second); s.snap.Load().matcher(policy.DefaultWorkspace, policy.Outbound) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the change was not taken over")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestSet_Mistakes(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 600)
	for name, x := range map[string]Set{
		"no name":            {},
		"a name of lines":    {Name: "a\nb"},
		"a direction":        {Name: "a", Direction: "up"},
		"a class":            {Name: "a", Class: policy.Malware},
		"a score":            {Name: "a", Score: -1},
		"a detector":         {Name: "a", Rules: Rules{Detectors: []DetectorRule{{Detector: "us.ssn", High: 1}}}},
		"a detector twice":   {Name: "a", Rules: Rules{Detectors: []DetectorRule{{Detector: "card", High: 1}, {Detector: "card", Low: 1}}}},
		"no count":           {Name: "a", Rules: Rules{Detectors: []DetectorRule{{Detector: "card"}}}},
		"an empty keyword":   {Name: "a", Rules: Rules{Keywords: []string{" - "}}},
		"too many keywords":  {Name: "a", Rules: Rules{Keywords: slices.Repeat([]string{"x"}, 501)}},
		"a min of keywords":  {Name: "a", Rules: Rules{Keywords: []string{"x"}, KeywordN: 2}},
		"a long pattern":     {Name: "a", Rules: Rules{Patterns: []string{long}}},
		"a broken pattern":   {Name: "a", Rules: Rules{Patterns: []string{"(a"}}},
		"backreferences":     {Name: "a", Rules: Rules{Patterns: []string{`(a)\1`}}},
		"an empty match":     {Name: "a", Rules: Rules{Patterns: []string{"a*"}}},
		"a costly pattern":   {Name: "a", Rules: Rules{Patterns: []string{"(a{1,30}){1,30}b"}}},
		"a small similarity": {Name: "a", Rules: Rules{Similarity: 5}},
	} {
		var invalid *policy.InvalidError
		if err := x.check(); !errors.As(err, &invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (Document{Name: "short", Text: "only a few words"}).fingerprint(); err == nil {
		t.Error("a document of four words was taken")
	}
	if _, err := (Document{Name: "sum", SHA256: "abc"}).fingerprint(); err == nil {
		t.Error("a sum of three digits was taken")
	}
	if f, err := (Document{Name: "sum", SHA256: strings.Repeat("AB", 32)}).fingerprint(); err != nil || f.SHA256 != strings.Repeat("ab", 32) {
		t.Errorf("a sum alone: %+v, %v", f, err)
	}
	if _, err := (Document{Name: "binary", File: []byte{1, 0, 2}}).fingerprint(); err != nil {
		t.Errorf("a file that is no text: %v", err)
	}
}

// question is a mail with a subject and one text.
func question(d policy.Direction, subject, body string) scanner.Question {
	return scanner.Question{Workspace: policy.DefaultWorkspace, Direction: d, Content: &content.Content{Subject: subject, Texts: []content.Text{{Part: "1", Kind: "plain", Text: body}}}}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	s, _ := newTestStore(t)
	ctx := context.Background()
	j := NewJudge(s)
	five := "DE89370400440532013000 GB82WEST12345698765432 AT611904300234573201 CH9300762011623852957 NO9386011117947"
	tests := []struct {
		name string
		q    scanner.Question
		want string // name, class and a part of the reason
	}{
		{"a card that leaves", question(policy.Outbound, "Order", "My card is 5555555555554444, thanks"), "DLP.PaymentCards dlp 1 card number (5555**********44) in part 1"},
		{"a card that comes in", question(policy.Inbound, "Order", "My card is 5555555555554444, thanks"), ""},
		{"a number that may be one", question(policy.Outbound, "Order", "Your number is 5555555555554444"), ""},
		{"its word is the subject", question(policy.Outbound, "Kreditkarten", "5555555555554444"), "1 card number"},
		{"one number five times", question(policy.Outbound, "", strings.Repeat("5555555555554444\n", 5)), ""},
		{"five numbers", question(policy.Outbound, "", "5555555555554444\n4111111111111111\n378282246310005\n6011111111111117\n3566002020360505"), "5 card numbers (5555**********44, 4111**********11, 3782*********05)"},
		{"an invoice", question(policy.Outbound, "Rechnung", "IBAN DE89 3704 0044 0532 0130 00"), ""},
		{"a list of accounts", question(policy.Outbound, "Konten", five), "DLP.BankAccounts dlp 5 IBANs"},
		{"somebody's own tax id", question(policy.Outbound, "Finanzamt", "Steuer-ID 86 095 742 719"), ""},
		{"tax ids of a staff", question(policy.Outbound, "Steuer-IDs", "86095742719\n47036892816\n65929970489"), "DLP.GermanPersonalIds dlp 3 German tax ids"},
		{"a card in the subject", question(policy.Outbound, "4111 1111 1111 1111", "see above"), "1 card number (4111 **** **** **11) in the subject"},
	}
	for _, tt := range tests {
		list, info, err := j.Judge(ctx, tt.q)
		if err != nil || info.Database == "" {
			t.Fatalf("%s: %+v, %v", tt.name, info, err)
		}
		got := ""
		for _, f := range list {
			got += f.Name + " " + string(f.Class) + " " + strings.TrimPrefix(f.Reason, `the DLP set "`+f.Meta["set_name"]+`" matches: `) + "\n"
		}
		if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}

	q := question(policy.Outbound, "", "nothing")
	q.Content.Truncated = true
	if list, _, err := j.Judge(ctx, q); err != nil || len(list) != 1 || list[0].Name != Truncated || list[0].Class != "" || list[0].Score != 0 {
		t.Errorf("a text that was cut: %+v, %v", list, err)
	}
	if _, _, err := NewJudge(NewStore(nil, nil)).Judge(ctx, q); !errors.Is(err, scanner.ErrUnavailable) {
		t.Errorf("without sets: %v", err)
	}
}

// TestRedact: what a finding is about stands nowhere in the report.
func TestRedact(t *testing.T) {
	t.Parallel()
	s, _ := newTestStore(t)
	ctx := context.Background()
	x, err := s.Create(ctx, operator, Set{Name: "Falke", Direction: Out, Enabled: true, Class: policy.DLP, Rules: Rules{Keywords: []string{"Projekt Falke"}, Patterns: []string{`FK-\d{4}`}}})
	if err != nil {
		t.Fatal(err)
	}
	j := NewJudge(s)
	q := question(policy.Outbound, "Karte 4111 1111 1111 1111, Projekt Falke FK-1234", "see attachment")
	q.Parts = []policy.Part{{Path: "2", Name: "5555 5555 5555 4444 FK-9876.txt"}}
	rep := policy.Report{Subject: q.Content.Subject, Parts: q.Parts, Findings: []policy.Finding{
		{Engine: "phishing", Name: "X", Reason: "the subject says 4111 1111 1111 1111", Meta: map[string]string{"text": "FK-1234"}}}}
	list, _, err := j.Judge(ctx, q)
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	rep.Findings = append(rep.Findings, list...)
	j.Redact(q, &rep)
	if rep.Subject != "Karte 4111 **** **** **11, Pr***** ****e F*-****" || rep.Parts[0].Name != "5555 **** **** **44 F*-****.txt" || rep.Findings[0].Meta["text"] != "F*-****" ||
		rep.Findings[0].Reason != "the subject says 4111 **** **** **11" {
		t.Errorf("%+v", rep)
	}
	for _, f := range rep.Findings[1:] {
		if f.Meta["set"] == x.ID.String() && f.Meta["set_name"] != "Falke" {
			t.Errorf("%+v", f)
		}
	}
	if q.Parts[0].Name != "5555 5555 5555 4444 FK-9876.txt" {
		t.Error("the question was changed")
	}
}

func TestQueries_Prepare(t *testing.T) {
	t.Parallel()
	testenv.PrepareQueries(t, queryFiles)
}
