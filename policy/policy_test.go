package policy

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/internal/pg"
	"mailward/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func TestDecide(t *testing.T) {
	hit := func(c Class) []Finding { return []Finding{{Engine: "e", Name: "n", Class: c, Score: 5}} }
	down := []EngineAnswer{{Engine: "clamav"}, {Engine: "yara", Answered: true}}
	up := []EngineAnswer{{Engine: "clamav", Answered: true}, {Engine: "yara", Answered: true}}
	pol := func(actions map[Class]Action) Recipient {
		return Recipient{Address: "a@x.example", Domain: Domain{Name: "x.example"}, Policy: Policy{Actions: actions}}
	}
	standard, strict := pol(nil), pol(map[Class]Action{Malware: Reject, Clean: Deliver})
	lenient, deaf := pol(nil), pol(nil)
	lenient.Policy.Thresholds, deaf.Policy.Weights = Thresholds{Spam: 10, Phishing: 10}, map[string]float64{"S": 0}
	sign := func(scores ...float64) (list []Finding) {
		for _, s := range scores {
			list = append(list, Finding{Engine: PhishingEngine, Name: "S", Score: s})
		}
		return list
	}
	tests := []struct {
		name    string
		in      Input
		class   Class
		action  Action
		actions []Action
	}{
		{"clean", Input{Report: Report{Engines: up}, Recipients: []Recipient{standard}}, Clean, Deliver, []Action{Deliver}},
		{"malware", Input{Report: Report{Engines: up, Findings: hit(Malware)}, Recipients: []Recipient{standard}}, Malware, Quarantine, []Action{Quarantine}},
		{"spam is tagged", Input{Report: Report{Engines: up, Findings: hit(Spam)}, Recipients: []Recipient{standard}}, Spam, Tag, []Action{Tag}},
		{"the gravest class counts", Input{Report: Report{Engines: up, Findings: append(hit(Spam), hit(Malware)...)}, Recipients: []Recipient{standard}}, Malware, Quarantine, []Action{Quarantine}},

		{"a sign alone changes nothing", Input{Report: Report{Engines: up, Findings: sign(4.9)}, Recipients: []Recipient{standard}}, Clean, Deliver, []Action{Deliver}},
		{"signs add up to spam", Input{Report: Report{Engines: up, Findings: sign(3, 2)}, Recipients: []Recipient{standard}}, Spam, Tag, []Action{Tag}},
		{"signs add up to phishing", Input{Report: Report{Engines: up, Findings: sign(3, 3)}, Recipients: []Recipient{standard}}, Phishing, Quarantine, []Action{Quarantine}},
		{"a threshold of its own", Input{Report: Report{Engines: up, Findings: sign(3, 3)}, Recipients: []Recipient{lenient}}, Clean, Deliver, []Action{Deliver}},
		{"each recipient its own", Input{Report: Report{Engines: up, Findings: sign(3, 3)}, Recipients: []Recipient{lenient, standard}}, Phishing, Mixed, []Action{Deliver, Quarantine}},
		{"a weight of its own", Input{Report: Report{Engines: up, Findings: sign(6)}, Recipients: []Recipient{deaf}}, Clean, Deliver, []Action{Deliver}},
		{"signs for a scan without recipients", Input{Report: Report{Engines: up, Findings: sign(6)}}, Phishing, Defer, nil},

		// One engine silent: the others' silence does not count.
		{"clean, clamav down", Input{Report: Report{Engines: down}, Recipients: []Recipient{standard}}, Clean, Defer, []Action{Defer}},
		{"spam, clamav down", Input{Report: Report{Engines: down, Findings: hit(Spam)}, Recipients: []Recipient{standard}}, Spam, Defer, []Action{Defer}},
		// A hit stays a hit, whoever else is down.
		{"malware, clamav down", Input{Report: Report{Engines: down, Findings: hit(Malware)}, Recipients: []Recipient{standard}}, Malware, Quarantine, []Action{Quarantine}},
		{"malware, clamav down, one would get it", Input{Report: Report{Engines: down, Findings: hit(Malware)}, Recipients: []Recipient{standard, pol(map[Class]Action{Malware: Deliver})}}, Malware, Defer, []Action{Defer, Defer}},

		{"held without a sandbox is quarantined", Input{Report: Report{Engines: up, Findings: hit(Suspicious)}, Recipients: []Recipient{standard}}, Suspicious, Quarantine, []Action{Quarantine}},
		{"held with a sandbox", Input{Report: Report{Engines: up, Findings: hit(Suspicious), Parts: []Part{{Path: "1.2", Name: "a.exe", SHA256: "00", Size: 1}}}, Recipients: []Recipient{standard}, SandboxConfigured: true}, Suspicious, Hold, []Action{Hold}},

		{"all reject", Input{Report: Report{Engines: up, Findings: hit(Malware)}, Recipients: []Recipient{strict, strict}}, Malware, Reject, []Action{Reject, Reject}},
		{"a mixed reject becomes quarantine", Input{Report: Report{Engines: up, Findings: hit(Malware)}, Recipients: []Recipient{strict, pol(map[Class]Action{Malware: Deliver})}}, Malware, Mixed, []Action{Quarantine, Deliver}},
		{"one deferred defers all", Input{Report: Report{Engines: up, Findings: hit(Spam)}, Recipients: []Recipient{pol(map[Class]Action{Spam: Defer}), standard}}, Spam, Defer, []Action{Defer, Defer}},
		{"an unknown action in the policy falls back", Input{Report: Report{Engines: up, Findings: hit(Malware)}, Recipients: []Recipient{pol(map[Class]Action{Malware: "explode"})}}, Malware, Quarantine, []Action{Quarantine}},
		{"nobody", Input{Report: Report{Engines: up}}, Clean, Defer, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := Decide(tt.in)
			var got []Action
			for _, r := range d.Recipients {
				got = append(got, r.Action)
				if r.Why == "" {
					t.Error("a decision without a reason")
				}
			}
			if d.Class != tt.class || d.Action != tt.action || !reflect.DeepEqual(got, tt.actions) {
				t.Errorf("got %s, %s, %v; want %s, %s, %v", d.Class, d.Action, got, tt.class, tt.action, tt.actions)
			}
			if !reflect.DeepEqual(d, Decide(tt.in)) {
				t.Error("the same input gave two decisions")
			}
		})
	}
}

// TestDecide_EveryClassHasADefault keeps a new class from being delivered by accident.
func TestDecide_EveryClassHasADefault(t *testing.T) {
	for _, c := range Classes() {
		for _, d := range []Direction{Inbound, Outbound} {
			if DefaultActions(d)[c] == "" {
				t.Errorf("class %s has no default action %s", c, d)
			}
		}
	}
}

func TestNormaliseDomain(t *testing.T) {
	for in, want := range map[string]string{"Ours.Example": "ours.example", "ours.example.": "ours.example", "bücher.example": "xn--bcher-kva.example"} {
		if got, err := NormaliseDomain(in); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", "localhost", "a b.example", "192.0.2.1", "..", "x..example", strings.Repeat("a", 64) + ".example", "ex\x00ample.org", "a@b.example"} {
		if got, err := NormaliseDomain(in); err == nil {
			t.Errorf("%q was taken as %q", in, got)
		}
	}
}

func TestCheckNextHop(t *testing.T) {
	for hop, ok := range map[string]bool{"": true, "10.0.0.5:25": true, "[::1]:25": true, "mx.example:2525": true, "mx.example": false, ":25": false, "a b:25": false, "x:0": false, "x:99999": false, "x:smtp": false,
		"a:25,b:25": true, "a:25, [::1]:2525": true, "a:25,": false, "a:25,b": false, "exchange": true, "other": false, "exchange,a:25": false, "mx:example.org": false} {
		if err := CheckNextHop(hop, "exchange"); (err == nil) != ok {
			t.Errorf("%q: %v", hop, err)
		}
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	ctx := context.Background()
	s := NewStore(db.DB, StaticRoutes{Default: "default:25", Domains: map[string]string{"Fixed.example": "fixed:25"}}, slog.New(slog.DiscardHandler))
	if _, ok := s.Lookup("a@fixed.example"); ok || s.Ready() {
		t.Error("a store without policies takes mail")
	}
	if err := s.Load(ctx); err != nil {
		t.Fatal(err)
	}
	op := pg.Operator("test")
	d, err := s.CreateDomain(ctx, op, NewDomain{Name: "New.Example"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateDomain(ctx, op, NewDomain{Name: "new.example"}); !errors.Is(err, ErrExists) {
		t.Errorf("a second time: %v", err)
	}
	if _, err := s.CreateDomain(ctx, op, NewDomain{Name: "fixed.example"}); !errors.Is(err, ErrStatic) {
		t.Errorf("a domain of the file: %v", err)
	}
	for addr, hop := range map[string]string{"a@NEW.example": "default:25", "a@fixed.example": "fixed:25", "a@sub.new.example": "", "a": "", "a@": ""} {
		r, ok := s.Lookup(addr)
		if ok != (hop != "") || r.Domain.NextHop != hop {
			t.Errorf("%s: %v %q, want %q", addr, ok, r.Domain.NextHop, hop)
		}
	}
	if got := s.Served(DefaultWorkspace); !slices.Equal(got, []string{"fixed.example", "new.example"}) || s.Served(uuid.New()) != nil {
		t.Errorf("it serves %v", got)
	}
	if p, err := s.Policy(ctx, DefaultWorkspace, "new.example", Inbound); err != nil || !p.Inherited || p.Actions[Spam] != Tag {
		t.Errorf("a domain without a policy of its own: %+v, %v", p, err)
	}
	if _, err := s.Policy(ctx, DefaultWorkspace, "else.example", Inbound); !errors.Is(err, ErrNotFound) {
		t.Errorf("a domain that we do not serve: %v", err)
	}
	none := int64(0)
	if _, err := s.PutPolicy(ctx, op, Policy{Domain: "new.example", Actions: map[Class]Action{Malware: Tag}}, &none); err != nil {
		t.Fatal(err)
	}
	p, err := s.PutPolicy(ctx, op, Policy{Domain: "new.example", Actions: map[Class]Action{Malware: Reject}}, nil)
	if p.Version != 2 {
		t.Errorf("the second one has version %d", p.Version)
	}
	if err != nil {
		t.Fatal(err)
	}
	r, _ := s.Lookup("a@new.example")
	if r.Policy.Actions[Malware] != Reject || r.Policy.Actions[Phishing] != Quarantine {
		t.Errorf("merged policy %v", r.Policy.Actions)
	}
	if _, err := s.PutPolicy(ctx, op, Policy{Domain: "new.example", Actions: map[Class]Action{Malware: Tag}}, &none); !errors.Is(err, ErrConflict) {
		t.Errorf("a first one where somebody has just made it: %v", err)
	}
	never := p.Version + 1
	if _, err := s.PutPolicy(ctx, op, Policy{Domain: "new.example", Actions: map[Class]Action{Malware: Tag}}, &never); !errors.Is(err, ErrConflict) {
		t.Errorf("with a version that was never there: %v", err)
	}
	var invalid *InvalidError
	if _, err := s.PutPolicy(ctx, op, Policy{Domain: "*", Actions: map[Class]Action{"nice": Tag}}, nil); !errors.As(err, &invalid) {
		t.Errorf("an unknown class: %v", err)
	}
	if _, err := s.PutPolicy(ctx, op, Policy{Domain: "else.example", Actions: map[Class]Action{Spam: Tag}}, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("a domain that we do not serve: %v", err)
	}
	if p, err := s.Policy(ctx, DefaultWorkspace, "New.Example.", Inbound); err != nil || p.Inherited {
		t.Errorf("its policy under another spelling: %+v, %v", p, err)
	}
	if err := s.DeletePolicy(ctx, op, DefaultWorkspace, "New.example.", Inbound); err != nil {
		t.Fatal(err)
	}
	if p, err := s.Policy(ctx, DefaultWorkspace, "new.example", Inbound); err != nil || !p.Inherited || p.Actions[Malware] != Quarantine {
		t.Errorf("back to the default policy: %+v, %v", p, err)
	}
	if err := s.DeletePolicy(ctx, op, DefaultWorkspace, "new.example", Inbound); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	if err := s.DeletePolicy(ctx, op, DefaultWorkspace, "*", Inbound); !errors.As(err, &invalid) {
		t.Errorf("the default policy deleted: %v", err)
	}
	if got, want := s.NextHops(), []string{"default:25", "fixed:25"}; !slices.Equal(got, want) {
		t.Errorf("next hops %v, want %v", got, want)
	}
	if err := s.DeleteDomain(ctx, op, d.Name); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Lookup("a@new.example"); ok {
		t.Error("mail is still taken for a deleted domain")
	}
	if got := s.NextHops(); !slices.Equal(got, []string{"fixed:25"}) {
		t.Errorf("next hops %v after the last domain of one is gone", got)
	}
	if err := s.DeleteDomain(ctx, op, "fixed.example"); !errors.Is(err, ErrStatic) {
		t.Errorf("deleting a domain of the file: %v", err)
	}
}

// TestStore_SeesAChangeAtPsql also shows that an open transaction delays nobody.
func TestStore_SeesAChangeAtPsql(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s := NewStore(db.DB, StaticRoutes{Domains: map[string]string{"fixed.example": "fixed:25"}}, slog.New(slog.DiscardHandler))
	if err := s.Load(ctx); err != nil {
		t.Fatal(err)
	}
	go s.Run(ctx)
	admin := db.Admin(t)
	if _, err := admin.Exec(ctx, `BEGIN; UPDATE policy SET actions = actions || '{"spam": "reject"}'`); err != nil {
		t.Fatal(err)
	}
	if err := s.Load(ctx); err != nil {
		t.Fatal(err)
	}
	if r, _ := s.Lookup("a@fixed.example"); r.Policy.Actions[Spam] != Tag {
		t.Error("an open transaction shows")
	}
	if _, err := admin.Exec(ctx, "COMMIT"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if r, _ := s.Lookup("a@fixed.example"); r.Policy.Actions[Spam] == Reject {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the change was not seen")
		}
	}
}

func TestQueries_Prepare(t *testing.T) {
	t.Parallel()
	testenv.PrepareQueries(t, queryFiles)
}

func TestStore_Directions(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	ctx := context.Background()
	routes := StaticRoutes{Default: "default:25", Domains: map[string]string{"ours.example": "", "other.example": "other:25"}}
	s := NewStore(db.DB, routes, slog.New(slog.DiscardHandler))
	if err := s.Load(ctx); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Outbound("a@ours.example", "x@world.example"); ok {
		t.Error("mail goes out without a route")
	}
	routes.Outbound = "mx"
	s.SetStatic(routes)
	op := pg.Operator("test")
	put := func(p Policy) (Policy, error) { return s.PutPolicy(ctx, op, p, nil) }
	if _, err := put(Policy{Domain: "ours.example", Direction: Outbound, Actions: map[Class]Action{DLP: Reject}}); err != nil {
		t.Fatal(err)
	}
	p, err := put(Policy{Domain: "ours.example", Actions: map[Class]Action{DLP: Tag}, Auth: &AuthSettings{DMARC: Honour, TrustedARCSealers: []string{"List.Example."}}})
	if err != nil || p.Auth.DMARC != Honour || p.Auth.TrustedARCSealers[0] != "list.example" {
		t.Fatalf("%+v, %v", p, err)
	}
	in, _ := s.Lookup("a@ours.example")
	out, ok := s.Outbound("a@ours.example", "x@World.example")
	if !ok || in.Direction != Inbound || out.Direction != Outbound || in.Policy.Actions[DLP] != Tag || out.Policy.Actions[DLP] != Reject || out.Policy.Actions[Spam] != Quarantine {
		t.Errorf("in %+v, out %+v", in.Policy, out.Policy)
	}
	if out.Domain.NextHop != "mx:world.example" || out.Policy.Auth != nil || in.Policy.Auth.DMARC != Honour {
		t.Errorf("out %+v, in %+v", out, in)
	}
	if _, err := put(Policy{Domain: "*", Actions: map[Class]Action{DLP: Tag}, Auth: &AuthSettings{TrustedARCSealers: []string{"trusted.example"}}}); err != nil {
		t.Fatal(err)
	}
	if p, err = put(Policy{Domain: "ours.example", Actions: map[Class]Action{DLP: Tag}, Auth: &AuthSettings{TrustedARCSealers: []string{}}}); err != nil || p.Auth.TrustedARCSealers == nil {
		t.Errorf("a domain that trusts nobody: %+v, %v", p.Auth, err)
	}
	for addr, want := range map[string]int{"a@ours.example": 0, "a@other.example": 1} {
		if r, _ := s.Lookup(addr); len(r.Policy.Auth.TrustedARCSealers) != want {
			t.Errorf("sealers for %s: %v", addr, r.Policy.Auth.TrustedARCSealers)
		}
	}
	if r, _ := s.Lookup("a@other.example"); r.Policy.Auth.DMARC != QuarantineOnly {
		t.Errorf("a domain without settings: %+v", r.Policy.Auth)
	}
	if r, _ := s.Outbound("stranger@else.example", "x@world.example"); r.Policy.Actions[DLP] != Quarantine {
		t.Errorf("a sender that is not ours: %+v", r.Policy)
	}
	for to, want := range map[string]string{"a@other.example": "other:25", "x@world.example": "mx:world.example", "x@[192.0.2.1]": "default:25"} {
		if got := s.Route(to); got != want {
			t.Errorf("route to %s is %q, want %q", to, got, want)
		}
	}
	for _, to := range []string{"x@[192.0.2.1]", "x", "@world.example", "x@localhost"} {
		if _, ok := s.Outbound("a@ours.example", to); ok {
			t.Errorf("mail to %q goes out", to)
		}
	}
	var invalid *InvalidError
	for _, p := range []Policy{
		{Domain: "*", Direction: "sideways", Actions: map[Class]Action{DLP: Tag}},
		{Domain: "*", Direction: Outbound, Actions: map[Class]Action{DLP: Tag}, Auth: &AuthSettings{}},
		{Domain: "*", Actions: map[Class]Action{DLP: Tag}, Auth: &AuthSettings{DMARC: "strict"}},
		{Domain: "*", Actions: map[Class]Action{DLP: Tag}, Auth: &AuthSettings{TrustedARCSealers: []string{"no domain"}}},
	} {
		if _, err := put(p); !errors.As(err, &invalid) {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

// TestPolicy_AuthChangesAtPsqlAreOnRecord: the trigger knows the new column.
func TestPolicy_AuthChangesAtPsqlAreOnRecord(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	ctx := context.Background()
	if _, err := db.Admin(t).Exec(ctx, `UPDATE policy SET auth = '{"dmarc": "report"}' WHERE direction = 'inbound'`); err != nil {
		t.Fatal(err)
	}
	var n int
	err := db.Admin(t).QueryRow(ctx, `SELECT count(*) FROM audit.event WHERE action = 'policy.update' AND convert_from(bytes, 'UTF8')::jsonb #>> '{change,after,auth,dmarc}' = 'report'`).Scan(&n)
	if err != nil || n != 1 {
		t.Errorf("%d records, %v", n, err)
	}
}
