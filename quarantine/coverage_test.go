package quarantine

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/policy"
)

// today is engines that know more than when the mail came: who says "worm" is one.
type today struct {
	mu    sync.Mutex
	quiet func(raw string) bool // no answer on such mail; nil: all are answered
}

func (e *today) Rescan(_ context.Context, _ uuid.UUID, raw io.Reader) (policy.Report, error) {
	b, err := io.ReadAll(raw)
	if err != nil {
		return policy.Report{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	answered := e.quiet == nil || !e.quiet(string(b))
	r := policy.Report{Engines: []policy.EngineAnswer{{Engine: "clamav", Version: "2", Answered: answered}}}
	if answered && strings.Contains(string(b), "worm") {
		r.Findings = []policy.Finding{{Engine: "clamav", Name: "Win.Worm", Class: policy.Malware}}
	}
	return r, nil
}

// unseen holds a mail that an engine has not seen.
func (f *fixture) unseen(t *testing.T, body string, to ...string) (item, mail uuid.UUID) {
	t.Helper()
	h := f.request(t, body, to...)
	h.Class, h.Report.Findings = policy.Clean, nil
	h.Report.Engines = []policy.EngineAnswer{{Engine: "clamav", Answered: false}}
	id, err := f.Hold(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	return id, h.Envelope.ID
}

// delivered notes in the ledger that somebody has a mail.
func (f *fixture) delivered(t *testing.T, mail uuid.UUID, to string, ago time.Duration) {
	t.Helper()
	if _, err := f.db.Admin(t).Exec(t.Context(), "INSERT INTO mail_outcome (id, mail_id, recipient, state, at) VALUES ($1, $2, $3, 'relayed', $4)", uuid.Must(uuid.NewV7()), mail, to, time.Now().Add(-ago)); err != nil {
		t.Fatal(err)
	}
}

type lateCalls struct {
	mu   sync.Mutex
	list []string
}

func (l *lateCalls) hear(_ uuid.UUID, domains []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, strings.Join(domains, "+"))
}

// Mail that came without an engine is scanned again; what is worse is told with
// who has it and for how long.
func TestCoverage_LateHits(t *testing.T) {
	t.Parallel()
	f := newFixture(t, SingleOperator)
	f.UseEngines(&today{})
	late := &lateCalls{}
	c := NewCoverage(f.Store, slog.New(slog.DiscardHandler), late.hear)
	ctx, ask := t.Context(), CoverageAsk{Workspaces: []uuid.UUID{policy.DefaultWorkspace}, From: time.Now().Add(-time.Hour), To: time.Now().Add(time.Hour), Reason: "clamd was away", Author: "SOC"}
	f.hold(t, "seen by all", "a@ours.example")
	if _, err := c.Start(ctx, f.users[0], ask); !errors.Is(err, ErrNothingUnseen) {
		t.Errorf("nothing to do: %v", err)
	}
	calm, _ := f.unseen(t, "calm", "a@ours.example")
	held, _ := f.unseen(t, "a worm, held", "a@ours.example")
	out, mail := f.unseen(t, "a worm, delivered", "a@ours.example", "b@ours.example")
	f.delivered(t, mail, "b@ours.example", 90*time.Minute)
	gone, _ := f.unseen(t, "its bytes are gone", "a@ours.example")
	if _, err := c.Start(ctx, f.users[0], CoverageAsk{Workspaces: ask.Workspaces, From: ask.From, To: ask.To, Reason: " "}); !errors.Is(err, ErrReasonRequired) {
		t.Errorf("without a reason: %v", err)
	}
	if _, err := c.Start(ctx, f.users[0], CoverageAsk{Workspaces: []uuid.UUID{uuid.New()}, From: ask.From, To: ask.To, Reason: "of another workspace"}); !errors.Is(err, ErrNothingUnseen) {
		t.Errorf("of another workspace: %v", err)
	}
	id, err := c.Start(ctx, f.users[0], ask)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.db.Admin(t).Exec(ctx, "UPDATE quarantine_item SET blob_removed_at = now() WHERE id = $1", gone); err != nil {
		t.Fatal(err)
	}
	if more, err := c.Next(ctx); err != nil || !more {
		t.Fatal(more, err)
	}
	if more, err := c.Next(ctx); err != nil || more {
		t.Error("it is done", more, err)
	}
	scans, err := c.Scans(ctx, ask.Workspaces, 10)
	if err != nil || len(scans) != 1 {
		t.Fatal(scans, err)
	}
	if x := scans[0]; x.ID != id || x.State != "done" || x.Total != 4 || x.Same != 1 || x.Worse != 2 || x.Gone != 1 || x.Pending != 0 || x.Author != "SOC" || x.FinishedAt == nil {
		t.Errorf("%+v", x)
	}
	hits, err := c.Hits(ctx, ask.Workspaces, 10)
	if err != nil || len(hits) != 2 {
		t.Fatal(hits, err)
	}
	slices.SortFunc(hits, func(a, b LateHit) int { return len(a.Holders) - len(b.Holders) })
	if h := hits[0]; h.Item != held || len(h.Holders) != 0 || h.Class != policy.Malware {
		t.Errorf("%+v", h)
	}
	if h := hits[1]; h.Item != out || len(h.Holders) != 1 || h.Holders[0].Address != "b@ours.example" || h.At.Sub(h.Holders[0].Since).Round(time.Minute) != 90*time.Minute || h.Found[0].Name != "Win.Worm" {
		t.Errorf("%+v", h)
	}
	f.wantLateHits(t, out)
	if !slices.Equal(late.list, []string{"ours.example"}) {
		t.Errorf("alerts for %q", late.list)
	}
	if it, err := f.Get(ctx, held); err != nil || it.Class != policy.Malware {
		t.Errorf("%v: the item is %s", err, it.Class)
	}
	if it, err := f.Get(ctx, calm); err != nil || it.Class != policy.Clean || it.Rescan == nil {
		t.Errorf("%v: %+v", err, it.Rescan)
	}
	if got := f.late(t); !slices.Equal(got, []string{"critical 1", "warning 0"}) {
		t.Errorf("late hits on record: %q", got)
	}
	if n := f.count(t, "SELECT count(*) FROM audit.event WHERE action = 'coverage.scan.create'"); n != 1 {
		t.Errorf("%d begins on record", n)
	}
	if n := f.count(t, "SELECT count(*) FROM audit.event WHERE action = 'quarantine.rescan'"); n != 3 {
		t.Errorf("%d scans on record", n)
	}
}

// wantLateHits asks as an alert does: only for what somebody of a domain has.
func (f *fixture) wantLateHits(t *testing.T, item uuid.UUID) {
	t.Helper()
	since := time.Now().Add(-time.Hour)
	for _, tt := range []struct {
		f    LateFilter
		want int
	}{
		{LateFilter{Since: since, All: true}, 1}, {LateFilter{Since: since, Workspaces: []uuid.UUID{policy.DefaultWorkspace}, Domain: "OURS.example"}, 1},
		{LateFilter{Since: since}, 0}, {LateFilter{Since: since, Workspaces: []uuid.UUID{uuid.New()}}, 0}, // without a workspace one sees none
		{LateFilter{Since: since, All: true, Domain: "theirs.example"}, 0}, {LateFilter{Since: time.Now().Add(time.Minute), All: true}, 0},
		{LateFilter{Since: since, All: true, Sandbox: true}, 0},
	} {
		tt.f.Limit = 10
		got, err := f.LateHits(t.Context(), tt.f)
		if err != nil || len(got) != tt.want || tt.want == 1 && (got[0].Item != item || got[0].Holders[0].Address != "b@ours.example") {
			t.Errorf("%+v: %+v, %v", tt.f, got, err)
		}
	}
	_, err := f.db.Admin(t).Exec(t.Context(), `WITH i AS (UPDATE quarantine_item SET malicious_late_at = now(), findings = '[{"engine": "sandbox", "name": "Emotet"}, {"engine": "yara", "name": "x"}]' WHERE id = $1 RETURNING id)
		UPDATE quarantine_recipient r SET state = 'released' FROM i WHERE r.item_id = i.id AND r.address LIKE 'a@%'`, item)
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.LateHits(t.Context(), LateFilter{Since: since, All: true, Sandbox: true, Domain: "ours.example", Limit: 10})
	if err != nil || len(got) != 1 || len(got[0].Found) != 1 || got[0].Found[0].Name != "Emotet" || len(got[0].Holders) != 1 || got[0].Holders[0].Address != "a@ours.example" {
		t.Errorf("of the sandbox: %+v, %v", got, err)
	}
}

// late is severity and number of copies of the events of late hits.
func (f *fixture) late(t *testing.T) (list []string) {
	t.Helper()
	rows, err := f.db.Admin(t).Query(t.Context(), `SELECT concat(e->>'severity', ' ', (SELECT count(*) FROM jsonb_object_keys(e->'change'->'after'->'copies'))) s
		FROM (SELECT convert_from(bytes, 'UTF8')::jsonb e FROM audit.event WHERE action = 'quarantine.coverage.late') x ORDER BY s`)
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

// A silent engine holds up only what it does not answer on, and the scan goes on
// when it is back; after a day it is given up. A process that takes over does
// nothing twice.
func TestCoverage_WaitsForTheEngine(t *testing.T) {
	t.Parallel()
	f := newFixture(t, SingleOperator)
	engines := &today{quiet: func(raw string) bool { return strings.Contains(raw, "awkward") }}
	f.UseEngines(engines)
	c := NewCoverage(f.Store, slog.New(slog.DiscardHandler), (&lateCalls{}).hear)
	ctx := t.Context()
	f.unseen(t, "awkward", "a@ours.example")
	f.unseen(t, "calm", "a@ours.example")
	ask := CoverageAsk{Workspaces: []uuid.UUID{policy.DefaultWorkspace}, From: time.Now().Add(-time.Hour), To: time.Now().Add(time.Hour), Reason: "clamd was away", Author: "SOC"}
	if _, err := c.Start(ctx, f.users[0], ask); err != nil {
		t.Fatal(err)
	}
	state := func() CoverageScan {
		t.Helper()
		scans, err := c.Scans(ctx, ask.Workspaces, 1)
		if err != nil || len(scans) != 1 {
			t.Fatal(scans, err)
		}
		return scans[0]
	}
	again := func() {
		t.Helper()
		if _, err := f.db.Admin(t).Exec(ctx, "UPDATE coverage_scan SET next_try_at = now(), lease_until = NULL"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Next(ctx); err != nil {
			t.Fatal(err)
		}
	}
	again()
	if x := state(); x.State != "running" || x.Trouble != "engines" || x.Same != 1 || x.Pending != 1 {
		t.Errorf("%+v", x)
	}
	if more, err := c.Next(ctx); err != nil || more {
		t.Error("it waits", more, err)
	}
	f.now = func() time.Time { return time.Now().Add(25 * time.Hour) }
	again()
	if x := state(); x.State != "stopped" || x.Pending != 1 {
		t.Errorf("%+v", x)
	}
	f.now = time.Now
	if _, err := f.db.Admin(t).Exec(ctx, "UPDATE coverage_scan SET state = 'running'"); err != nil {
		t.Fatal(err)
	}
	engines.mu.Lock()
	engines.quiet = nil
	engines.mu.Unlock()
	again()
	if x := state(); x.State != "done" || x.Trouble != "" || x.Same != 2 {
		t.Errorf("%+v", x)
	}
	if n := f.count(t, "SELECT count(*) FROM audit.event WHERE action = 'quarantine.rescan'"); n != 2 {
		t.Errorf("%d scans on record", n)
	}
}
