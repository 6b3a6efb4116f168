package incident

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
	"mailward/internal/testenv"
	"mailward/policy"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

var root = pg.Operator("root")

// noon is a moment at which nothing of a test lies in the future.
var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

type fixture struct {
	*Store
	t   *testing.T
	db  *testenv.DB
	now time.Time
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, db: testenv.Postgres(t), now: noon}
	s, err := NewStore(f.db.DB, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.now = func() time.Time { return f.now }
	f.Store = s
	return f
}

func (f *fixture) create(change func(*Incident)) Incident {
	f.t.Helper()
	x := Incident{Workspace: policy.DefaultWorkspace, Title: "Phishing wave", Severity: "high", Regime: BSIG, DetectedAt: noon.Add(-10 * time.Hour)}
	if change != nil {
		change(&x)
	}
	made, err := f.Create(context.Background(), root, x)
	if err != nil {
		f.t.Fatal(err)
	}
	return made
}

// mail puts a row into the ledger, with its copies that were delivered.
func (f *fixture) mail(workspace uuid.UUID, subject string, at time.Time, to ...string) uuid.UUID {
	f.t.Helper()
	ctx, admin := context.Background(), f.db.Admin(f.t)
	id := uuid.Must(uuid.NewV7())
	var list []string
	for _, a := range to {
		list = append(list, fmt.Sprintf(`{"address":%q}`, a))
	}
	_, err := admin.Exec(ctx, `INSERT INTO mail (id, workspace_id, received_at, node, envelope_from, recipients, header_from, subject, size, sha256, class, action)
		VALUES ($1, $2, $3, 'test', 'm@evil.example', $4, 'm@evil.example', $5, 10, '\x00', 'phishing', 'quarantine')`, id, workspace, at, "["+strings.Join(list, ",")+"]", subject)
	if err != nil {
		f.t.Fatal(err)
	}
	return id
}

func (f *fixture) delivered(mail uuid.UUID, to string) {
	f.t.Helper()
	if _, err := f.db.Admin(f.t).Exec(context.Background(), "INSERT INTO mail_outcome (id, mail_id, recipient, state) VALUES ($1, $2, $3, 'relayed')", uuid.Must(uuid.NewV7()), mail, to); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) report(i Incident, r NewReport) (Incident, error) {
	return f.Report(context.Background(), root, i.ID, r)
}

func TestStore_NumbersAreOneAfterTheOther(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { f.create(nil) })
	}
	wg.Wait()
	p, err := f.List(t.Context(), Filter{})
	if err != nil {
		t.Fatal(err)
	}
	var numbers []string
	for _, i := range p.Items {
		numbers = append(numbers, i.Number)
	}
	slices.Sort(numbers)
	for n, got := range numbers {
		if want := fmt.Sprintf("INC-2026-%04d", n+1); got != want {
			t.Fatalf("%v: no %s", numbers, want)
		}
	}
	// On the clocks of Berlin it is a new year already.
	f.now = time.Date(2026, 12, 31, 23, 30, 0, 0, time.UTC)
	if i := f.create(nil); i.Number != "INC-2027-0001" {
		t.Errorf("of a new year: %s", i.Number)
	}
}

func TestStore_ListsWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	other := uuid.Must(uuid.NewV7())
	if _, err := f.db.Admin(t).Exec(t.Context(), "INSERT INTO workspace (id, name) VALUES ($1, 'other')", other); err != nil {
		t.Fatal(err)
	}
	wave := f.create(nil)
	leak := f.create(func(i *Incident) {
		i.Title, i.Severity, i.ContainedAt = "A % leak_of data", "critical", noon.Add(-time.Hour)
	})
	theirs := f.create(func(i *Incident) { i.Workspace = other })
	for name, c := range map[string]struct {
		f    Filter
		want []Incident
	}{
		"all":           {Filter{}, []Incident{theirs, leak, wave}},
		"one workspace": {Filter{Workspaces: []uuid.UUID{policy.DefaultWorkspace}}, []Incident{leak, wave}},
		"none":          {Filter{Workspaces: []uuid.UUID{}}, nil},
		"by title":      {Filter{Query: "% LEAK_"}, []Incident{leak}},
		"by number":     {Filter{Query: "2026-0002"}, []Incident{leak}},
		"by state":      {Filter{States: []string{"contained"}}, []Incident{leak}},
		"by severity":   {Filter{Severities: []string{"high"}}, []Incident{theirs, wave}},
	} {
		p, err := f.List(t.Context(), c.f)
		if err != nil || !slices.EqualFunc(p.Items, c.want, func(a, b Incident) bool { return a.ID == b.ID }) {
			t.Errorf("%s: %d found, %v", name, len(p.Items), err)
		}
	}
	seen, cursor := []uuid.UUID{}, ""
	for {
		p, err := f.List(t.Context(), Filter{Cursor: cursor, Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range p.Items {
			seen = append(seen, i.ID)
		}
		if cursor = p.Next; cursor == "" {
			break
		}
	}
	if !slices.Equal(seen, []uuid.UUID{theirs.ID, leak.ID, wave.ID}) {
		t.Errorf("page by page: %v", seen)
	}
	for _, bad := range []string{"x", "!", "MTIz", strings.Repeat("A", 400)} {
		if _, err := f.List(t.Context(), Filter{Cursor: bad}); !errors.Is(err, ErrBadCursor) {
			t.Errorf("cursor %q: %v", bad, err)
		}
	}
}

func TestStore_Update(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	i := f.create(nil)
	stale := i
	i.Title, i.AwareAt, i.ContainedAt, i.Facts = "  Bigger wave ", noon.Add(-9*time.Hour), noon.Add(-time.Hour), Facts{"affectedUsersCount": "3"}
	i, err := f.Update(ctx, root, i)
	if err != nil || i.Title != "Bigger wave" || i.State != "contained" || i.Version != 2 || i.Facts["affectedUsersCount"] != "3" {
		t.Fatalf("%v: %+v", err, i)
	}
	if _, err := f.Update(ctx, root, stale); !errors.Is(err, ErrConflict) {
		t.Errorf("of an old version: %v", err)
	}
	for name, change := range map[string]func(*Incident){
		"no title":               func(i *Incident) { i.Title = " " },
		"no severity":            func(i *Incident) { i.Severity = "warn" },
		"a regime":               func(i *Incident) { i.Regime = "dora" },
		"no first signal":        func(i *Incident) { i.DetectedAt = time.Time{} },
		"aware before":           func(i *Incident) { i.AwareAt = i.DetectedAt.Add(-time.Hour) },
		"in the future":          func(i *Incident) { i.AwareAt = noon.Add(time.Hour) },
		"contained before":       func(i *Incident) { i.ContainedAt = i.DetectedAt.Add(-time.Hour) },
		"closed before":          func(i *Incident) { i.ClosedAt = i.DetectedAt },
		"far away":               func(i *Incident) { i.RequestedFor = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) },
		"decided without reason": func(i *Incident) { i.Significant = Significant },
		"decided oddly":          func(i *Incident) { i.Significant, i.SignificantReason = "maybe", "x" },
		"a wrong field":          func(i *Incident) { i.Facts = Facts{"affectedUsersCount": "many"} },
	} {
		x := i
		change(&x)
		var m Mistakes
		if _, err := f.Update(ctx, root, x); !errors.As(err, &m) {
			t.Errorf("%s: %v", name, err)
		}
	}
	i.Significant, i.SignificantReason, i.ClosedAt = NotSignificant, "held before anybody had it", noon
	if i, err = f.Update(ctx, root, i); err != nil || i.State != "closed" || i.SignificantAt.IsZero() {
		t.Fatalf("%v: %+v", err, i)
	}
	at := i.SignificantAt
	i.Title = "Closed wave"
	if i, err = f.Update(ctx, root, i); err != nil || !i.SignificantAt.Equal(at) {
		t.Errorf("%v: a change of the title moves the decision from %v to %v", err, at, i.SignificantAt)
	}
	stages, err := i.Stages(f.Zone(), noon)
	if err != nil || stages[0].State != NotRequired || !strings.Contains(stages[0].Reason, "held before anybody had it") {
		t.Errorf("%v: %+v", err, stages)
	}
	i.ID = uuid.Must(uuid.NewV7())
	if _, err := f.Update(ctx, root, i); !errors.Is(err, ErrNotFound) {
		t.Errorf("of nothing: %v", err)
	}
}

func TestStore_Reports(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	i := f.create(func(i *Incident) { i.Facts = Facts{"incidentSummary": "as it was"} })
	sent := NewReport{Stage: EarlyWarning, State: ReportSubmitted, SubmittedAt: noon.Add(-time.Hour), Channel: "BSI portal", Reference: "BSI-1"}
	var m Mistakes
	if _, err := f.report(i, sent); !errors.As(err, &m) || !strings.Contains(m.Error(), "awareness is missing") {
		t.Fatalf("before anybody was aware: %v", err)
	}
	i.AwareAt = noon.Add(-30 * time.Hour)
	i.DetectedAt = noon.Add(-31 * time.Hour)
	i, err := f.Update(ctx, root, i)
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]NewReport{
		"no channel":          {Stage: EarlyWarning, State: ReportSubmitted, SubmittedAt: noon},
		"no time":             {Stage: EarlyWarning, State: ReportSubmitted, Channel: "x"},
		"before awareness":    {Stage: EarlyWarning, State: ReportSubmitted, SubmittedAt: noon.Add(-40 * time.Hour), Channel: "x"},
		"in the future":       {Stage: EarlyWarning, State: ReportSubmitted, SubmittedAt: noon.Add(time.Hour), Channel: "x"},
		"final before":        {Stage: Final, State: ReportSubmitted, SubmittedAt: noon, Channel: "x"},
		"no such report":      {Stage: "rumour", State: ReportSubmitted, SubmittedAt: noon, Channel: "x"},
		"not owed, no reason": {Stage: Intermediate, State: ReportNotRequired},
		"nothing to withdraw": {Stage: EarlyWarning, State: ReportWithdrawn, Reason: "x"},
		"an odd state":        {Stage: EarlyWarning, State: "lost", Reason: "x"},
	} {
		if _, err := f.report(i, r); !errors.As(err, &m) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if i, err = f.report(i, sent); err != nil {
		t.Fatal(err)
	}
	stages, err := i.Stages(f.Zone(), noon)
	if err != nil || stages[0].State != Submitted || stages[0].SubmittedLateBy != 5*time.Hour {
		t.Fatalf("%v: %+v", err, stages)
	}
	if _, err := f.report(i, sent); !errors.Is(err, ErrConflict) {
		t.Errorf("by somebody who has not seen the first: %v", err)
	}
	i.Facts["incidentSummary"] = "as it is now"
	if i, err = f.Update(ctx, root, i); err != nil {
		t.Fatal(err)
	}
	kept := i.Newest(EarlyWarning)
	content, err := f.Content(ctx, i.ID, kept.ID)
	sum := sha256.Sum256(content)
	if err != nil || !strings.Contains(string(content), "as it was") || hex.EncodeToString(sum[:]) != kept.SHA256 {
		t.Errorf("%v: %s is not what was handed in (%s)", err, content, kept.SHA256)
	}
	corrected := sent
	corrected.Seen, corrected.SubmittedAt = 1, noon.Add(-20*time.Hour)
	if _, err := f.report(i, corrected); !errors.As(err, &m) {
		t.Errorf("a correction without a reason: %v", err)
	}
	corrected.Reason = "wrong time"
	if i, err = f.report(i, corrected); err != nil || i.Newest(EarlyWarning).Supersedes != kept.ID || len(i.Reports) != 2 {
		t.Fatalf("%v: %+v", err, i.Reports)
	}
	// A notification, a final report, and then no notification: that cannot be.
	for _, r := range []NewReport{{Stage: Notification, State: ReportSubmitted, SubmittedAt: noon.Add(-time.Hour), Channel: "x"}, {Stage: Final, State: ReportSubmitted, SubmittedAt: noon, Channel: "x"}} {
		if i, err = f.report(i, r); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.report(i, NewReport{Stage: Notification, Seen: 1, State: ReportWithdrawn, Reason: "never sent"}); !errors.As(err, &m) {
		t.Errorf("the notification before a final report is withdrawn: %v", err)
	}
	if i, err = f.report(i, NewReport{Stage: Final, Seen: 1, State: ReportWithdrawn, Reason: "never sent"}); err != nil {
		t.Fatal(err)
	}
	if st := i.Newest(Final).State; st != ReportWithdrawn || i.Case(f.Zone()).Submitted[Final] != (time.Time{}) {
		t.Errorf("withdrawn: %s", st)
	}
	i.AwareAt = time.Time{}
	if _, err := f.Update(ctx, root, i); !errors.As(err, &m) {
		t.Errorf("awareness is taken away after a report: %v", err)
	}
}

// TestStore_ReportAtOnce has two people note the same report: one version stands, the
// other person is told.
func TestStore_ReportAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	i := f.create(func(i *Incident) { i.AwareAt = noon.Add(-9 * time.Hour) })
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for n := range errs {
		wg.Go(func() {
			_, errs[n] = f.report(i, NewReport{Stage: EarlyWarning, State: ReportSubmitted, SubmittedAt: noon, Channel: "portal"})
		})
	}
	wg.Wait()
	good := 0
	for _, err := range errs {
		if err == nil {
			good++
		} else if !errors.Is(err, ErrConflict) {
			t.Error(err)
		}
	}
	if i, err := f.Get(t.Context(), i.ID); err != nil || good != 1 || len(i.Reports) != 1 {
		t.Errorf("%v: %d good, %d versions", err, good, len(i.Reports))
	}
}

func TestStore_Mails(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	other := uuid.Must(uuid.NewV7())
	if _, err := f.db.Admin(t).Exec(ctx, "INSERT INTO workspace (id, name) VALUES ($1, 'other')", other); err != nil {
		t.Fatal(err)
	}
	i := f.create(nil)
	first, second := f.mail(policy.DefaultWorkspace, "Invoice", noon.Add(-3*time.Hour), "a@ours.example", "B@ours.example"), f.mail(policy.DefaultWorkspace, "Reminder", noon.Add(-2*time.Hour), "b@ours.example")
	theirs := f.mail(other, "Secret", noon, "x@theirs.example")
	f.delivered(first, "b@ours.example")
	f.delivered(first, "b@ours.example")
	for _, m := range []uuid.UUID{first, second, first} {
		if err := f.AddMail(ctx, root, i.ID, m); err != nil {
			t.Fatal(err)
		}
	}
	for name, m := range map[string]uuid.UUID{"of others": theirs, "of nobody": uuid.Must(uuid.NewV7())} {
		if err := f.AddMail(ctx, root, i.ID, m); !errors.Is(err, ErrNoMail) {
			t.Errorf("a mail %s: %v", name, err)
		}
	}
	list, err := f.Mails(ctx, i.ID, 10)
	if err != nil || len(list) != 2 || list[1].Subject != "Invoice" || list[1].Recipients != 2 || list[1].Delivered != 1 {
		t.Errorf("%v: %+v", err, list)
	}
	fig, err := f.Figures(ctx, i.ID)
	if err != nil || fig != (Figures{Mails: 2, Recipients: 2, Reached: 1, First: noon.Add(-3 * time.Hour), Last: noon.Add(-2 * time.Hour)}) {
		t.Errorf("%v: %+v", err, fig)
	}
	p, err := f.List(ctx, Filter{Mail: second})
	if err != nil || len(p.Items) != 1 || p.Items[0].Mails != 2 {
		t.Errorf("%v: %+v", err, p.Items)
	}
	if err := f.RemoveMail(ctx, root, i.ID, second); err != nil {
		t.Fatal(err)
	}
	if err := f.RemoveMail(ctx, root, i.ID, second); !errors.Is(err, ErrNotFound) {
		t.Errorf("again: %v", err)
	}
	if _, err := f.db.Admin(t).Exec(ctx, "DELETE FROM mail WHERE id = $1", first); err != nil {
		t.Fatal(err)
	}
	if list, err = f.Mails(ctx, i.ID, 10); err != nil || len(list) != 1 || list[0].ID != first || !list[0].ReceivedAt.IsZero() {
		t.Errorf("%v: what the ledger no longer has: %+v", err, list)
	}
}

func TestStore_Due(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := func(what string, soon, overdue int) {
		t.Helper()
		if a, b, err := f.Due(t.Context(), nil); err != nil || a != soon || b != overdue {
			t.Errorf("%s: %d due, %d overdue, %v; want %d and %d", what, a, b, err, soon, overdue)
		}
	}
	f.create(nil)
	want("nobody is aware", 0, 0)
	i := f.create(func(i *Incident) { i.AwareAt = noon.Add(-9 * time.Hour) })
	f.create(func(i *Incident) { i.AwareAt, i.Exercise = noon.Add(-9*time.Hour), true })
	want("time enough", 0, 0)
	f.now = noon.Add(10 * time.Hour) // 19 of 24 hours
	want("the early warning is due", 1, 0)
	f.now = noon.Add(16 * time.Hour)
	want("overdue", 1, 1)
	if _, err := f.report(i, NewReport{Stage: EarlyWarning, State: ReportSubmitted, SubmittedAt: f.now, Channel: "portal"}); err != nil {
		t.Fatal(err)
	}
	want("handed in late", 0, 0)
}

// TestStore_IsOnRecord: every act is an event that names the incident, reports and
// notes cannot be changed, and a mail's own record says where it was put.
func TestStore_IsOnRecord(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	i := f.create(func(i *Incident) { i.AwareAt = noon.Add(-9 * time.Hour) })
	mail := f.mail(policy.DefaultWorkspace, "Invoice", noon, "a@ours.example")
	if err := f.AddMail(ctx, root, i.ID, mail); err != nil {
		t.Fatal(err)
	}
	if err := f.AddNote(ctx, root, i.ID, Note{Kind: "containment", Text: "mailbox locked"}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.report(i, NewReport{Stage: EarlyWarning, State: ReportSubmitted, SubmittedAt: noon, Channel: "portal"}); err != nil {
		t.Fatal(err)
	}
	if err := f.RemoveMail(ctx, root, i.ID, mail); err != nil {
		t.Fatal(err)
	}
	log := audit.New(f.db.DB, audit.Options{Observer: audit.Observer{Node: "test"}})
	actions := func(link uuid.UUID) (list []string) {
		t.Helper()
		p, err := log.List(ctx, audit.Filter{Link: link.String(), Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range slices.Backward(p.Items) {
			list = append(list, r.Fields()["action"].(string))
		}
		return list
	}
	if got := actions(i.ID); !slices.Equal(got, []string{"incident.create", "incident.mail.create", "incident.note.create", "incident.report.create", "incident.mail.delete"}) {
		t.Errorf("of the incident: %v", got)
	}
	if got := actions(mail); !slices.Equal(got, []string{"incident.mail.create", "incident.mail.delete"}) {
		t.Errorf("of the mail: %v", got)
	}
	// Names that reports and notes have are not in the bytes, and can be read.
	i.Facts = Facts{"reporterEmail": "sofia@ours.example"}
	if _, err := f.Update(ctx, root, i); err != nil {
		t.Fatal(err)
	}
	p, err := log.List(ctx, audit.Filter{Link: i.ID.String(), Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	shown := ""
	for _, r := range p.Items {
		shown += fmt.Sprint(r.Fields())
		if bytes.Contains(r.Bytes, []byte("sofia@")) || bytes.Contains(r.Bytes, []byte("mailbox locked")) {
			t.Errorf("for good: %s", r.Bytes)
		}
	}
	if !strings.Contains(shown, "sofia@ours.example") || !strings.Contains(shown, "mailbox locked") {
		t.Errorf("nobody can read it: %s", shown)
	}
	for _, sql := range []string{"UPDATE incident_stage SET channel = 'x'", "DELETE FROM incident_stage", "UPDATE incident_note SET text = 'x'", "DELETE FROM incident_note", "DELETE FROM incident"} {
		err := f.db.Act(ctx, root, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, sql)
			return err
		})
		if err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

// TestStore_BreachAlone: the 72 hours of the GDPR run, and its notice can be noted, also
// where nobody says that the incident may be significant.
func TestStore_BreachAlone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	i := f.create(func(i *Incident) { i.BreachAwareAt = noon.Add(-60 * time.Hour) })
	stages, err := i.Stages(f.Zone(), noon)
	if err != nil || len(stages) != 1 || stages[0].Name != GDPR33 || stages[0].State != Warn {
		t.Fatalf("%v: %+v", err, stages)
	}
	if soon, overdue, err := f.Due(t.Context(), nil); err != nil || soon != 1 || overdue != 0 {
		t.Errorf("%d, %d, %v", soon, overdue, err)
	}
	var m Mistakes
	for name, r := range map[string]NewReport{"before": {Stage: GDPR33, State: ReportSubmitted, SubmittedAt: noon.Add(-61 * time.Hour), Channel: "x"}, "in the future": {Stage: GDPR33, State: ReportSubmitted, SubmittedAt: noon.Add(time.Hour), Channel: "x"}, "another": {Stage: Notification, State: ReportSubmitted, SubmittedAt: noon, Channel: "x"}} {
		if _, err := f.report(i, r); !errors.As(err, &m) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if i, err = f.report(i, NewReport{Stage: GDPR33, State: ReportSubmitted, SubmittedAt: noon, Channel: "portal"}); err != nil || i.Newest(GDPR33).State != ReportSubmitted {
		t.Fatalf("%v: %+v", err, i.Reports)
	}
	i.BreachAwareAt = time.Time{}
	if _, err := f.Update(t.Context(), root, i); !errors.As(err, &m) {
		t.Errorf("what the notice follows is taken away: %v", err)
	}
}

// TestStore_Owner: an id that somebody knows does not tell them whose it is.
func TestStore_Owner(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx, admin := t.Context(), f.db.Admin(t)
	mine, theirs := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	for _, sql := range []string{
		"INSERT INTO user_account (id, email) VALUES ('" + mine.String() + "', 'mine@ours.example'), ('" + theirs.String() + "', 'theirs@other.example')",
		"INSERT INTO role_grant (id, user_id, workspace_id, role) VALUES (gen_random_uuid(), '" + mine.String() + "', '" + policy.DefaultWorkspace.String() + "', 'analyst')",
	} {
		if _, err := admin.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	i := f.create(func(i *Incident) { i.Owner = mine })
	if i.OwnerName != "mine@ours.example" {
		t.Errorf("owner %q", i.OwnerName)
	}
	var m Mistakes
	for _, owner := range []uuid.UUID{theirs, uuid.Must(uuid.NewV7())} {
		x := i
		x.Owner = owner
		if _, err := f.Update(ctx, root, x); !errors.As(err, &m) {
			t.Errorf("given to somebody else: %v", err)
		}
		if _, err := f.Create(ctx, root, x); !errors.As(err, &m) {
			t.Errorf("begun for somebody else: %v", err)
		}
	}
	// Who has lost their role since keeps what is theirs until somebody takes it.
	if _, err := admin.Exec(ctx, "DELETE FROM role_grant WHERE user_id = $1", mine); err != nil {
		t.Fatal(err)
	}
	i.Title = "Another title"
	if _, err := f.Update(ctx, root, i); err != nil {
		t.Error(err)
	}
}

// TestStore_CreateWithMail: a mail that is not there leaves no incident behind.
func TestStore_CreateWithMail(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	x := Incident{Workspace: policy.DefaultWorkspace, Title: "x", Severity: "low", Regime: BSIG, DetectedAt: noon}
	if _, err := f.Create(t.Context(), root, x, uuid.Must(uuid.NewV7())); !errors.Is(err, ErrNoMail) {
		t.Error(err)
	}
	made, err := f.Create(t.Context(), root, x, f.mail(policy.DefaultWorkspace, "Invoice", noon, "a@ours.example"))
	if err != nil || made.Mails != 1 || made.Number != "INC-2026-0001" {
		t.Errorf("%v: %+v", err, made)
	}
}

func TestStore_AddNote(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	i := f.create(nil)
	var m Mistakes
	for name, n := range map[string]Note{"empty": {Kind: "note", Text: " "}, "a kind": {Kind: "gossip", Text: "x"}, "in the future": {Kind: "note", Text: "x", At: noon.Add(time.Hour)}, "NUL": {Kind: "note", Text: "a\x00"}, "long": {Kind: "note", Text: strings.Repeat("x", maxText+1)}} {
		if err := f.AddNote(t.Context(), root, i.ID, n); !errors.As(err, &m) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, n := range []Note{{Kind: "lesson", Text: "later"}, {Kind: "note", Text: "earlier", At: noon.Add(-time.Hour)}} {
		if err := f.AddNote(t.Context(), root, i.ID, n); err != nil {
			t.Fatal(err)
		}
	}
	list, err := f.Notes(t.Context(), i.ID)
	if err != nil || len(list) != 2 || list[0].Text != "earlier" || !list[1].At.Equal(noon) {
		t.Errorf("%v: %+v", err, list)
	}
	if err := f.AddNote(t.Context(), root, uuid.Must(uuid.NewV7()), Note{Kind: "note", Text: "x"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("of nothing: %v", err)
	}
}
