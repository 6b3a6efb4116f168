package policy

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/internal/testenv"
)

func TestDecide_Measures(t *testing.T) {
	t.Parallel()
	docx := filePart("1.2", "a.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document")
	files := func(in *Input) { in.Report.Parts, in.SandboxConfigured = []Part{docx}, true }
	lock := Measure{Kind: MeasureLock, Domain: "ours.example", Direction: Inbound}
	box := Measure{Kind: MeasureSandbox, Domain: "ours.example"}
	trial := func(m Measure) Measure { m.Trial = true; return m }
	with := func(match, value string) Measure { return Measure{Kind: MeasureLock, Match: match, Value: value} }
	for name, tt := range map[string]struct {
		m       Measure
		change  func(*Input)
		want    Action
		touched bool
		why     string
	}{
		"a lock of the domain":                 {lock, nil, Quarantine, true, "a reaction to an alert (Spike) quarantines it for now"},
		"a lock that is only tried":            {trial(lock), nil, Deliver, true, ""},
		"a lock of another domain":             {Measure{Kind: MeasureLock, Domain: "other.example"}, nil, Deliver, false, ""},
		"a lock of what goes out":              {Measure{Kind: MeasureLock, Domain: "ours.example", Direction: Outbound}, nil, Deliver, false, ""},
		"what is quarantined anyway":           {lock, func(in *Input) { in.Report.Findings = []Finding{{Engine: "x", Name: "y", Class: Malware}} }, Quarantine, false, ""},
		"the envelope's sender":                {with(MatchSender, "bad@evil.example"), nil, Quarantine, true, ""},
		"the author's domain and those below":  {with(MatchDomain, "author.example"), nil, Quarantine, true, ""},
		"another sender":                       {with(MatchSender, "good@evil.example"), nil, Deliver, false, ""},
		"a subject":                            {with(MatchSubject, "(?i)invoice"), nil, Quarantine, true, ""},
		"another subject":                      {with(MatchSubject, "^Re:"), nil, Deliver, false, ""},
		"a release of the past does not help":  {lock, func(in *Input) { in.Released = &Released{Recipients: []string{"bob@ours.example"}, Class: Clean} }, Quarantine, true, ""},
		"all files into the sandbox":           {box, files, Hold, true, "has the sandbox run every file first"},
		"only tried":                           {trial(box), files, Deliver, true, ""},
		"no file in it":                        {box, func(in *Input) { in.SandboxConfigured = true }, Deliver, false, ""},
		"no sandbox there":                     {box, func(in *Input) { files(in); in.SandboxConfigured = false }, Deliver, false, ""},
		"a file that goes there anyway":        {box, func(in *Input) { files(in); in.Report.Parts[0].Name = "a.exe" }, Hold, false, "is of a kind that"},
		"tightened limits are nothing to mail": {Measure{Kind: MeasureTighten}, nil, Deliver, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tt.m.ID, tt.m.Cause = uuid.New(), "Spike"
			if err := tt.m.compile(); err != nil {
				t.Fatal(err)
			}
			in := Input{Measures: []*Measure{&tt.m}, Report: Report{Subject: "Your INVOICE"}, Mail: Mail{EnvelopeFrom: "Bad@EVIL.example", From: []string{"x@news.author.example"}},
				Recipients: []Recipient{{Address: "bob@ours.example", Direction: Inbound, Domain: Domain{Name: "ours.example"}, Ours: "ours.example"}}}
			if tt.change != nil {
				tt.change(&in)
			}
			d := Decide(in)
			r := d.Recipients[0]
			if r.Action != tt.want || (len(d.Touched) == 1) != tt.touched || !strings.Contains(r.Why, tt.why) {
				t.Errorf("%s because %q, %d touched", r.Action, r.Why, len(d.Touched))
			}
			locked := tt.touched && tt.m.Kind == MeasureLock && !tt.m.Trial
			if r.Locked != locked || d.Class == Clean && len(d.Findings) != map[bool]int{true: 1}[locked] {
				t.Errorf("locked %v, findings %+v", r.Locked, d.Findings)
			}
		})
	}
}

func TestCheckMatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ match, value, want string }{
		{MatchSender, " Bob@Evil.Example ", "bob@evil.example"}, {MatchDomain, "@EVIL.example", "evil.example"}, {MatchSubject, "(?i)rechnung", "(?i)rechnung"},
		{MatchSubject, ".*", "!"}, {MatchSubject, "(", "!"}, {MatchSender, "evil", "!"}, {MatchLink, "evil.example", "!"}, {"", "x", "!"},
	} {
		got, err := CheckMatch(c.match, c.value)
		var invalid *InvalidError
		if (c.want == "!") != errors.As(err, &invalid) || err == nil && got != c.want {
			t.Errorf("%s %q: %q, %v", c.match, c.value, got, err)
		}
	}
}

// begin puts a reaction in, as package alerting does.
func begin(t *testing.T, db *testenv.DB, kind MeasureKind, most int, trial bool) uuid.UUID {
	t.Helper()
	id := uuid.Must(uuid.NewV7())
	domain := map[MeasureKind]string{MeasureLock: "ours.example", MeasurePause: "ours.example"}[kind]
	if _, err := db.Exec(t.Context(), `INSERT INTO alert_reaction (id, kind, dry_run, domain, divisor, most, cause, reason, author, ends_at)
		VALUES ($1, $2, $3, $4, 10, $5, 'Spike', 'it fires', 'System', now() + interval '1 hour')`, id, kind, trial, domain, most); err != nil {
		t.Fatal(err)
	}
	return id
}

// touched is [Store.Touch] with a database that answers.
func touched(t *testing.T, s *Store, mail uuid.UUID, list []*Measure) bool {
	t.Helper()
	ok, err := s.Touch(t.Context(), mail, list)
	if err != nil {
		t.Error(err)
	}
	return ok
}

func TestStore_Measures(t *testing.T) {
	t.Parallel()
	s, db := newTestStore(t)
	ctx := t.Context()
	if got := s.Measures(DefaultWorkspace); got != nil {
		t.Fatalf("%+v", got)
	}
	id := begin(t, db, MeasureLock, 3, false)
	load := func() {
		t.Helper()
		if err := s.Load(ctx); err != nil {
			t.Fatal(err)
		}
	}
	load()
	list := s.Measures(DefaultWorkspace)
	if len(list) != 1 || list[0].ID != id || list[0].Domain != "ours.example" {
		t.Fatalf("%+v", list)
	}
	mail := uuid.New()
	for _, id := range []uuid.UUID{mail, mail, uuid.New()} {
		if !touched(t, s, id, list) {
			t.Fatal("there is room")
		}
	}
	if len(s.Measures(DefaultWorkspace)) != 1 {
		t.Fatal("a mail counts once, and there is room for three")
	}
	s.saveTouches(ctx, false)
	if len(s.Measures(DefaultWorkspace)) != 1 {
		t.Error("what is saved and not in the snapshot counts once")
	}
	load()
	if !touched(t, s, mail, list) {
		t.Error("what an older snapshot found has room in this one")
	}
	s.saveTouches(ctx, false) // it is there already
	load()
	var n int
	if err := db.QueryRow(ctx, "SELECT count(*) FROM alert_reaction_touch").Scan(&n); err != nil || n != 2 || len(s.touches.pending) != 0 {
		t.Errorf("%v: %d written, %+v pending", err, n, s.touches.pending)
	}
	if list = s.Measures(DefaultWorkspace); len(list) != 1 || !touched(t, s, uuid.New(), list) {
		t.Fatal("there is room for a third")
	}
	s.saveTouches(ctx, false)
	load()
	if touched(t, s, uuid.New(), []*Measure{{ID: id, Most: 3}}) {
		t.Error("a list of an older snapshot made room that is not there")
	}
	if touched(t, s, uuid.New(), list) || len(s.Measures(DefaultWorkspace)) != 0 {
		t.Error("it is full")
	}
	if _, err := db.Exec(ctx, "UPDATE alert_reaction SET ended_at = now(), end_kind = 'undo', ended_by = 'Bob' WHERE id = $1", id); err != nil {
		t.Fatal(err)
	}
	begin(t, db, MeasureLock, 3, true)
	load()
	s.now = func() time.Time { return time.Now().Add(59 * time.Minute) }
	if got := s.Measures(DefaultWorkspace); len(got) != 1 || !got[0].Trial {
		t.Errorf("the one that was undone is gone: %+v", got)
	}
	s.now = func() time.Time { return time.Now().Add(61 * time.Minute) }
	if got := s.Measures(DefaultWorkspace); len(got) != 0 {
		t.Error("it ends on time without the database")
	}
}

// Whoever begins a reaction wakes every process; what it touches is written down
// within seconds.
func TestStore_MeasuresArriveByNotification(t *testing.T) {
	t.Parallel()
	s, db := newTestStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	begin(t, db, MeasureLock, 3, false)
	eventually(t, "the reaction", func() bool { return len(s.Measures(DefaultWorkspace)) == 1 })
	touched(t, s, uuid.New(), s.Measures(DefaultWorkspace))
	eventually(t, "the mail", func() (ok bool) {
		_ = db.QueryRow(t.Context(), "SELECT count(*) = 1 FROM alert_reaction_touch").Scan(&ok)
		return ok
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("still waiting for " + what)
		}
	}
}

func TestStore_PausedAndTighter(t *testing.T) {
	t.Parallel()
	s, db := newTestStore(t)
	ctx := t.Context()
	if by, _ := s.Tighter(); by != 1 {
		t.Errorf("divided by %d", by)
	}
	begin(t, db, MeasurePause, 1, false)
	begin(t, db, MeasureTighten, 2, false)
	if err := s.Load(ctx); err != nil {
		t.Fatal(err)
	}
	mail := uuid.New()
	var got []string
	for _, c := range []struct {
		domain string
		mail   uuid.UUID
	}{{"other.example", mail}, {"ours.example", mail}, {"ours.example", mail}, {"ours.example", uuid.New()}} {
		why, err := s.Paused(ctx, DefaultWorkspace, c.domain, c.mail)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, why)
	}
	if want := []string{"", "Spike", "Spike", ""}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q: another domain, the first, the same again, one too many", got)
	}
	by, trial := s.Tighter()
	s.Refused()
	s.Refused()
	if after, _ := s.Tighter(); by != 10 || trial || after != 1 {
		t.Errorf("divided by %d (trial %v), full by %d", by, trial, after)
	}
	// The program may end a reaction, and change nothing else of it.
	if _, err := db.Exec(ctx, "UPDATE alert_reaction SET most = 10000"); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("its limit can be raised: %v", err)
	}
}
