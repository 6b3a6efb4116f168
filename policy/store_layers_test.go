package policy

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/internal/pg"
	"mailward/internal/testenv"
)

func newTestStore(t *testing.T) (*Store, *testenv.DB) {
	t.Helper()
	db := testenv.Postgres(t)
	s := NewStore(db.DB, StaticRoutes{Default: "default:25", Outbound: "mx", Domains: map[string]string{"ours.example": "", "other.example": ""}}, slog.New(slog.DiscardHandler))
	if err := s.Load(context.Background()); err != nil {
		t.Fatal(err)
	}
	return s, db
}

func TestStore_Layers(t *testing.T) {
	t.Parallel()
	s, _ := newTestStore(t)
	ctx, op := context.Background(), pg.Operator("test")
	g, err := s.PutGroup(ctx, op, Group{Name: " Finance  team ", Members: []string{"CFO@ours.example", "fin-*"}})
	if err != nil || g.Name != "Finance team" || g.Version != 1 {
		t.Fatalf("%+v, %v", g, err)
	}
	if _, err := s.PutGroup(ctx, op, Group{Name: "FINANCE TEAM", Members: []string{"x"}}); !errors.Is(err, ErrGroupExists) {
		t.Errorf("the same name again: %v", err)
	}
	none := int64(0)
	p, err := s.PutPolicy(ctx, op, Policy{Domain: "*", Group: g.ID, Thresholds: Thresholds{Phishing: 3}, Weights: map[string]float64{"link": 2}}, &none)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutPolicy(ctx, op, Policy{Domain: "*", Group: g.ID, Thresholds: Thresholds{Phishing: 4}}, &none); !errors.Is(err, ErrConflict) {
		t.Errorf("made twice: %v", err)
	}
	if p, err = s.PutPolicy(ctx, op, Policy{Domain: "*", Group: g.ID, Thresholds: Thresholds{Phishing: 4}}, &p.Version); err != nil || p.Version != 2 || p.Weights != nil {
		t.Errorf("a line that was left out stays: %+v, %v", p, err)
	}
	for address, want := range map[string]float64{"cfo@ours.example": 4, "fin-1@other.example": 4, "bob@ours.example": 0} {
		if r, ok := s.Lookup(address); !ok || r.Policy.Thresholds.Phishing != want || (want != 0) != (len(r.Groups) == 1) || r.Policy.Actions[Spam] != Tag {
			t.Errorf("%s: %+v", address, r)
		}
	}
	if r, ok := s.Outbound("cfo@ours.example", "x@world.example"); !ok || len(r.Groups) != 1 || r.Policy.Thresholds.Phishing != 0 || r.Ours != "ours.example" {
		t.Errorf("the sender's group: %+v", r)
	}
	draft, err := s.With(Policy{Domain: "ours.example", Actions: map[Class]Action{Spam: Reject}})
	if err != nil {
		t.Fatal(err)
	}
	before, _ := s.Lookup("cfo@ours.example")
	after, _ := draft.Lookup("cfo@ours.example")
	if before.Policy.Actions[Spam] != Tag || after.Policy.Actions[Spam] != Reject || after.Policy.Thresholds.Phishing != 4 {
		t.Errorf("before %+v, drafted %+v", before.Policy, after.Policy)
	}
	var invalid *InvalidError
	for name, p := range map[string]Policy{
		"an unknown group":       {Domain: "*", Group: uuid.New()},
		"a group with a domain":  {Domain: "ours.example", Group: g.ID},
		"an engine that passes":  {Domain: "*", EngineFailure: map[string]Action{"clamav": Deliver}},
		"an engine that is held": {Domain: "*", EngineFailure: map[string]Action{"clamav": Hold}},
		"a huge threshold":       {Domain: "*", Thresholds: Thresholds{Spam: 5000}},
		"a negative threshold":   {Domain: "*", Thresholds: Thresholds{Spam: -1}},
		"a huge weight":          {Domain: "*", Weights: map[string]float64{"a": 1000}},
		"a symbol with a space":  {Domain: "*", Weights: map[string]float64{"a b": 1}},
		"a sandbox that is none": {Domain: "*", Sandbox: []byte(`[1]`)},
		"a nameless set":         {Domain: "*", DLPSets: []string{""}},
	} {
		if _, err := s.PutPolicy(ctx, op, p, nil); !errors.As(err, &invalid) && !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.DeleteLayer(ctx, op, Policy{Workspace: DefaultWorkspace, Domain: "*", Group: g.ID, Direction: Inbound}); err != nil {
		t.Fatal(err)
	}
	if r, _ := s.Lookup("cfo@ours.example"); r.Policy.Thresholds.Phishing != 0 {
		t.Errorf("after the layer is gone: %+v", r.Policy)
	}
	old := g.Version
	g.Members = append(g.Members, "bob@ours.example")
	if g, err = s.PutGroup(ctx, op, g); err != nil || g.Version != 2 {
		t.Fatalf("%+v, %v", g, err)
	}
	g.Version = old
	if _, err := s.PutGroup(ctx, op, g); !errors.Is(err, ErrConflict) {
		t.Errorf("with an old version: %v", err)
	}
}

// TestStore_AllLines: every line comes back as it was put.
func TestStore_AllLines(t *testing.T) {
	t.Parallel()
	s, _ := newTestStore(t)
	full := Policy{Domain: "Ours.example", Thresholds: Thresholds{Spam: 3}, Weights: map[string]float64{"a": 1}, EngineFailure: map[string]Action{AnyEngine: Quarantine},
		Sandbox: []byte(`{"timeout": "15m"}`), DLPSets: []string{"cards"}, Auth: &AuthSettings{DMARC: Honour}}
	if _, err := s.PutPolicy(context.Background(), pg.Operator("test"), full, nil); err != nil {
		t.Fatal(err)
	}
	p, err := s.Layer(context.Background(), Policy{Workspace: DefaultWorkspace, Domain: "ours.example.", Direction: Inbound})
	if err != nil || p.Thresholds.Spam != 3 || p.Weights["a"] != 1 || p.EngineFailure[AnyEngine] != Quarantine || len(p.DLPSets) != 1 || p.Auth.DMARC != Honour || !strings.Contains(string(p.Sandbox), "15m") || len(p.Actions) != 0 {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestStore_Entries(t *testing.T) {
	t.Parallel()
	s, db := newTestStore(t)
	ctx, op := context.Background(), pg.Operator("test")
	g, err := s.PutGroup(ctx, op, Group{Name: "Finance", Members: []string{"cfo@ours.example"}})
	if err != nil {
		t.Fatal(err)
	}
	soon := time.Now().Add(time.Hour)
	e, err := s.PutEntry(ctx, op, Entry{Kind: EntryBlock, Match: MatchDomain, Value: "Evil.example", Group: g.ID, Owner: "soc", Reason: "a wave of phishing", ExpiresAt: &soon})
	if err != nil || e.Value != "evil.example" || e.CreatedBy != "test" || e.Version != 1 {
		t.Fatalf("%+v, %v", e, err)
	}
	decide := func(to string) Decision {
		r, ok := s.Lookup(to)
		if !ok {
			t.Fatalf("no recipient %s", to)
		}
		return Decide(Input{Mail: Mail{EnvelopeFrom: "x@evil.example"}, Recipients: []Recipient{r}, Entries: s.Entries(DefaultWorkspace)})
	}
	if d := decide("cfo@ours.example"); d.Action != Quarantine {
		t.Errorf("%+v", d)
	} else {
		s.Used(d)
	}
	if d := decide("bob@ours.example"); d.Action != Deliver {
		t.Errorf("outside of the group: %+v", d)
	}
	s.saveUses(ctx)
	s.saveUses(ctx)
	if e, err = s.Entry(ctx, e.ID); err != nil || e.Hits != 1 || e.LastHitAt == nil {
		t.Errorf("%+v, %v", e, err)
	}
	if err := s.DeleteGroup(ctx, op, DefaultWorkspace, g.ID); !errors.Is(err, ErrGroupInUse) {
		t.Errorf("a group that an entry is for: %v", err)
	}
	old := e
	e.Reason = "still going on"
	if e, err = s.PutEntry(ctx, op, e); err != nil || e.Version != 2 || e.Hits != 1 {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := s.PutEntry(ctx, op, old); !errors.Is(err, ErrConflict) {
		t.Errorf("with an old version: %v", err)
	}
	// It ends on time, also when nobody reads the database again.
	s.now = func() time.Time { return soon.Add(time.Second) }
	if d := decide("cfo@ours.example"); d.Action != Deliver {
		t.Errorf("after its end: %+v", d)
	}
	s.now = time.Now
	list, next, err := s.ListEntries(ctx, EntryFilter{Workspaces: []uuid.UUID{DefaultWorkspace}, Query: "EVIL", Kind: EntryBlock, Match: MatchDomain, State: "active"})
	if err != nil || len(list) != 1 || next != "" {
		t.Errorf("%v, %q, %v", list, next, err)
	}
	for _, f := range []EntryFilter{{}, {Workspaces: []uuid.UUID{DefaultWorkspace}, State: "ended"}, {Workspaces: []uuid.UUID{DefaultWorkspace}, Kind: EntryAllow}, {Workspaces: []uuid.UUID{DefaultWorkspace}, Query: "%"}} {
		if list, _, err := s.ListEntries(ctx, f); err != nil || len(list) != 0 {
			t.Errorf("%+v: %v, %v", f, list, err)
		}
	}
	if err := s.DeleteEntry(ctx, op, DefaultWorkspace, e.ID, ""); !errors.Is(err, ErrReasonRequired) {
		t.Errorf("without a reason: %v", err)
	}
	if err := s.DeleteEntry(ctx, op, uuid.New(), e.ID, "not mine"); !errors.Is(err, ErrNotFound) {
		t.Errorf("of another workspace: %v", err)
	}
	if err := s.DeleteEntry(ctx, op, DefaultWorkspace, e.ID, "it is over"); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteGroup(ctx, op, DefaultWorkspace, g.ID); err != nil {
		t.Fatal(err)
	}
	var actions []string
	rows, err := db.Admin(t).Query(ctx, `SELECT convert_from(bytes, 'UTF8')::jsonb ->> 'action' FROM audit.event WHERE convert_from(bytes, 'UTF8')::jsonb ->> 'action' ~ '^(group|policy_entry)' ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var a string
		if err := rows.Scan(&a); err != nil {
			t.Fatal(err)
		}
		actions = append(actions, a)
	}
	if got := strings.Join(actions, " "); got != "group.create policy_entry.create policy_entry.update policy_entry.delete group.delete" {
		t.Errorf("on record: %s", got)
	}
	var clear int
	err = db.Admin(t).QueryRow(ctx, `SELECT count(*) FROM audit.event WHERE convert_from(bytes, 'UTF8') LIKE '%evil.example%' OR convert_from(bytes, 'UTF8') LIKE '%cfo@ours%'`).Scan(&clear)
	if err != nil || clear != 0 {
		t.Errorf("%d events hold personal values in the clear, %v", clear, err)
	}
}
