package alerting

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/alerting/rule"
)

// reacting gives the rule of the phishing spike a reaction.
func (f *fixture) reacting(r rule.Reaction) Rule {
	f.t.Helper()
	rules, err := f.Rules(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	for _, x := range rules {
		if x.Pack == "phishing_spike" {
			x.Spec.Reaction = &r
			if x, err = f.PutRule(f.t.Context(), admin, x, "a campaign is expected"); err != nil {
				f.t.Fatal(err)
			}
			return x
		}
	}
	f.t.Fatal("no such rule")
	return Rule{}
}

// tick is what the loop does each second.
func (f *fixture) tick() []Reaction {
	f.t.Helper()
	f.evaluate(20 * time.Second)
	return f.reacted()
}

func (f *fixture) reacted() []Reaction {
	f.t.Helper()
	if err := f.react(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	list, err := f.Reactions(f.t.Context(), AlertFilter{All: true}, uuid.Nil)
	if err != nil {
		f.t.Fatal(err)
	}
	return list
}

// onRecord is actor and reason of the events of an action, the oldest first.
func (f *fixture) onRecord(action string) (list []string) {
	f.t.Helper()
	rows, err := f.db.Admin(f.t).Query(f.t.Context(), `SELECT concat_ws(' | ', e->'actor'->>'type', e->'actor'->'job'->>'name', e->'actor'->'job'->>'trigger', e->'reason'->>'text')
		FROM (SELECT id, convert_from(bytes, 'UTF8')::jsonb e FROM audit.event WHERE action = $1) x ORDER BY id`, action)
	if err != nil {
		f.t.Fatal(err)
	}
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			f.t.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

// The story: a spike fires, its domain is locked as System with the rule that
// caused it, once, and the lock ends by itself.
func TestReact_LockBeginsOnceAndEnds(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.reacting(rule.Reaction{Kind: rule.Lock, Lasts: time.Hour, Most: 2})
	f.bucket("phishing_rate_5min", "ours.example", 45*time.Second, 31)
	list := f.tick()
	if len(list) != 1 {
		t.Fatalf("%+v", list)
	}
	x := list[0]
	if x.Kind != rule.Lock || x.DryRun || x.Domain != "ours.example" || x.Direction != "inbound" || x.Most != 2 || x.Rule != r.ID || x.Alert != f.alert("Phishing spike").ID ||
		x.Author != "System" || x.Cause != "Phishing spike" || x.EndsAt.Sub(x.StartsAt) != time.Hour || !x.Active(time.Now()) {
		t.Errorf("%+v", x)
	}
	if again := f.tick(); len(again) != 1 {
		t.Errorf("%d reactions to one episode", len(again))
	}
	cause := fmt.Sprintf(`system | alert reaction | rule "Phishing spike" (%s) | `, r.ID)
	if got := f.onRecord("alert.reaction.create"); len(got) != 1 || got[0] != cause+`the alert of the rule "Phishing spike" fires for ours.example` {
		t.Errorf("on record: %q", got)
	}
	f.exec("INSERT INTO alert_reaction_touch (reaction_id, thing_id) SELECT $1, gen_random_uuid() FROM generate_series(1, 2)", x.ID)
	if x := f.reacted()[0]; x.FullAt.IsZero() || x.Touched != 2 || !x.EndedAt.IsZero() {
		t.Errorf("it is full: %+v", x)
	}
	f.exec("UPDATE alert_reaction SET starts_at = now() - interval '2 hours', ends_at = now() - interval '1 second'")
	if x := f.reacted()[0]; x.EndKind != "time" || x.EndedBy != "System" || x.EndedAt.IsZero() {
		t.Errorf("its time is over: %+v", x)
	}
	got := f.onRecord("alert.reaction.update")
	if want := []string{cause + "it has touched as much as it may", cause + "its time is over"}; len(got) != 3 || got[0] != want[0] || got[2] != want[1] { // the second is the test's own
		t.Errorf("on record: %q", got)
	}
	touched, err := f.Touched(t.Context(), x.ID, 10)
	if err != nil || len(touched) != 2 {
		t.Errorf("%v: %+v", err, touched)
	}
}

func TestReact_NotWhen(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		before func(f *fixture, r Rule)
		want   int
	}{
		"it fires": {func(*fixture, Rule) {}, 1},
		"somebody silenced it": {func(f *fixture, r Rule) {
			if _, err := f.Silence(f.t.Context(), admin, Silence{Rule: r.ID, Reason: "an exercise"}, time.Hour); err != nil {
				f.t.Fatal(err)
			}
		}, 0},
		"the same is in force": {func(f *fixture, _ Rule) {
			n := NewReaction{Reaction: rule.Reaction{Kind: rule.Lock}, Domain: "Ours.Example"}
			if _, err := f.StartReaction(f.t.Context(), admin, n, "seen by myself"); err != nil {
				f.t.Fatal(err)
			}
		}, 1},
		"so many are in force already": {func(f *fixture, r Rule) {
			f.exec(`INSERT INTO alert_reaction (id, rule_id, kind, dry_run, domain, most, cause, reason, author, ends_at)
				SELECT gen_random_uuid(), $1, 'lock', false, n || '.example', 1, 'x', 'test', 'System', now() + interval '1 hour' FROM generate_series(1, 20) n`, r.ID)
		}, 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			tt.before(f, f.reacting(rule.Reaction{Kind: rule.Lock}))
			f.bucket("phishing_rate_5min", "ours.example", 45*time.Second, 31)
			if got := f.tick(); len(got) != tt.want {
				t.Errorf("%d reactions, want %d: %+v", len(got), tt.want, got)
			}
		})
	}
}

// A spike that comes and goes does not begin what a person has undone, before the
// cooldown is over; what was seen late begins nothing.
func TestReact_UndoneStaysUndone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.reacting(rule.Reaction{Kind: rule.Lock, DryRun: true})
	f.bucket("phishing_rate_5min", "ours.example", 45*time.Second, 31)
	x := f.tick()[0]
	if !x.DryRun {
		t.Fatalf("%+v", x)
	}
	if err := f.UndoReaction(t.Context(), admin, x.ID, " "); !errors.Is(err, ErrReasonRequired) {
		t.Errorf("undone without a reason: %v", err)
	}
	if err := f.UndoReaction(t.Context(), admin, x.ID, "a newsletter of ours"); err != nil {
		t.Fatal(err)
	}
	if err := f.UndoReaction(t.Context(), admin, x.ID, "a newsletter of ours"); !errors.Is(err, ErrConflict) {
		t.Errorf("undone twice: %v", err)
	}
	if got := f.onRecord("alert.reaction.update"); len(got) != 1 || !strings.HasPrefix(got[0], "operator") || !strings.HasSuffix(got[0], "a newsletter of ours") {
		t.Errorf("on record: %q", got)
	}
	episode := func() {
		f.exec("UPDATE alert SET episode = episode + 1, fired_at = now()")
	}
	episode()
	if got := f.reacted(); len(got) != 1 || got[0].EndedBy != "Root" || got[0].EndReason != "a newsletter of ours" {
		t.Errorf("%+v", got)
	}
	f.exec("UPDATE alert_reaction SET starts_at = starts_at - interval '2 hours'")
	f.exec("UPDATE alert SET fired_at = now() - interval '6 minutes'")
	if got := f.reacted(); len(got) != 1 {
		t.Error("what fires for long begins nothing")
	}
	episode()
	if got := f.reacted(); len(got) != 2 {
		t.Errorf("after the cooldown a new episode begins it again: %+v", got)
	}
}

// What cannot be is refused, in words for people, when a rule is stored and when
// a person begins it.
func TestReaction_Refused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("INSERT INTO workspace (id, name) VALUES ('00000000-0000-7000-8000-000000000002', 'two')")
	two := uuid.MustParse("00000000-0000-7000-8000-000000000002")
	for _, c := range []struct {
		n    NewReaction
		want string
	}{
		{NewReaction{Reaction: rule.Reaction{Kind: "burn"}}, "must be lock, sandbox"},
		{NewReaction{Reaction: rule.Reaction{Kind: rule.Lock}}, "would lock all mail there is"},
		{NewReaction{Reaction: rule.Reaction{Kind: rule.Lock, Match: "sender"}}, "or neither"},
		{NewReaction{Reaction: rule.Reaction{Kind: rule.Lock, Match: "sender", Value: "nobody"}}, "is not an address"},
		{NewReaction{Reaction: rule.Reaction{Kind: rule.Lock, Match: "subject", Value: ".*"}}, "matches every subject"},
		{NewReaction{Reaction: rule.Reaction{Kind: rule.Lock, Match: "link_domain", Value: "a.example"}}, "must look for"},
		{NewReaction{Reaction: rule.Reaction{Kind: rule.Pause, Lasts: 25 * time.Hour}}, "must last"},
		{NewReaction{Reaction: rule.Reaction{Kind: rule.Pause, Most: -1}}, "must have a limit"},
		{NewReaction{Reaction: rule.Reaction{Kind: rule.Sandbox}}, "none is set up"},
		{NewReaction{Reaction: rule.Reaction{Kind: rule.Tighten, Divisor: 1}}, "times tighter"},
		{NewReaction{Reaction: rule.Reaction{Kind: rule.Tighten}, Workspace: two}, "whole installation only"},
	} {
		_, err := f.StartReaction(t.Context(), admin, c.n, "by hand")
		var invalid *rule.InvalidError
		if !errors.As(err, &invalid) || invalid.Field != "reaction" || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.n.Reaction, err, c.want)
		}
	}
	if _, err := f.StartReaction(t.Context(), admin, NewReaction{Reaction: rule.Reaction{Kind: rule.Pause}, Workspace: uuid.New()}, "by hand"); !errors.Is(err, ErrNotFound) {
		t.Errorf("of a workspace that there is not: %v", err)
	}
	var invalid *rule.InvalidError
	if _, err := f.StartReaction(t.Context(), admin, NewReaction{Reaction: rule.Reaction{Kind: rule.Pause}, Domain: "not a domain"}, "by hand"); !errors.As(err, &invalid) || invalid.Field != "domain" {
		t.Errorf("for no domain: %v", err)
	}
	id, err := f.StartReaction(t.Context(), admin, NewReaction{Reaction: rule.Reaction{Kind: rule.Pause}, Domain: "Bücher.example"}, "by hand")
	if x, gerr := f.Reaction(t.Context(), AlertFilter{All: true}, id); err != nil || gerr != nil || x.Domain != "xn--bcher-kva.example" {
		t.Errorf("%v, %v: for %q", err, gerr, x.Domain)
	}
	ok := NewReaction{Reaction: rule.Reaction{Kind: rule.Lock, Match: "sender_domain", Value: "EVIL.example", Direction: "both"}, Workspace: two}
	id, err = f.StartReaction(t.Context(), admin, ok, "seen by myself")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.StartReaction(t.Context(), admin, ok, "seen by myself"); !errors.Is(err, ErrRunning) {
		t.Errorf("begun twice: %v", err)
	}
	x, err := f.Reaction(t.Context(), AlertFilter{Workspaces: []uuid.UUID{two}}, id)
	if err != nil || x.Value != "evil.example" || x.Direction != "both" || x.Cause != "Root" || x.Author != "Root" {
		t.Errorf("%v: %+v", err, x)
	}
	if _, err := f.Reaction(t.Context(), AlertFilter{Workspaces: []uuid.UUID{uuid.New()}}, id); !errors.Is(err, ErrNotFound) {
		t.Errorf("seen from another workspace: %v", err)
	}
	rules, err := f.Rules(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		if r.Pack == "mails_put_off" {
			r.Spec.Reaction = &rule.Reaction{Kind: rule.Lock}
			if _, err := f.PutRule(t.Context(), admin, r, "a try"); err == nil || !strings.Contains(err.Error(), "would lock all mail") {
				t.Errorf("a rule that would lock everything: %v", err)
			}
		}
	}
}

// With the process killed between the alarm and its reaction, the next one that
// evaluates begins it, and only once with two of them.
func TestReact_AnotherProcess(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.reacting(rule.Reaction{Kind: rule.Pause})
	f.bucket("phishing_rate_5min", "ours.example", 45*time.Second, 31)
	f.evaluate(20 * time.Second)
	done := make(chan error)
	for _, node := range []string{"b", "c", "d"} {
		s := newStore(t, f.db, node)
		go func() { done <- s.react(t.Context()) }()
	}
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := f.one("SELECT count(*) FROM alert_reaction"); n != 1 {
		t.Errorf("%d reactions", n)
	}
}
