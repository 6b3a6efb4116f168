package gateway

import (
	"context"
	"strings"
	"testing"

	"mailward/internal/pg"
	"mailward/internal/testenv"
	"mailward/policy"
	"mailward/quarantine"
)

// TestSandbox_Late: the verdict comes when the mail is delivered already. It is
// told once, and loudly, with who has the mail.
func TestSandbox_Late(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		onTimeout, severity, words string
		state                      quarantine.State
	}{
		"delivered": {policy.TimeoutDeliver, "critical", "out_for_seconds", quarantine.Released},
		"kept":      {policy.TimeoutQuarantine, "warning", "quarantined", quarantine.Quarantined},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSandboxed(t, nil)
			_, err := s.srv.deps.Policies.PutPolicy(context.Background(), pg.Operator("root"), policy.Policy{Workspace: policy.DefaultWorkspace, Domain: "*", Sandbox: []byte(`{"on_timeout": "` + tt.onTimeout + `"}`)}, nil)
			fatal(t, err)
			s.cape.Hold(true)
			s.work()
			kill := s.run(s.q)
			it := s.heldItem("clean script", "bob@ours.example", "carol@ours.example")
			other := s.heldItem("clean script of another kind")
			s.wait("submission", func() bool { return s.count("SELECT count(*) FROM sandbox_task WHERE state = 'submitted'") == 2 })
			s.late()
			it = s.wantState(it, tt.state)
			s.wantState(other, tt.state)
			s.cape.Result([]byte("clean script"), testenv.CapeResult{Score: 9, Family: "LateBot"})
			s.cape.Stick("reported")
			kill()
			// A process sweeps when it starts: the first tells, the second has nothing to tell.
			for range 2 {
				_, err = s.db.Admin(t).Exec(context.Background(), "DELETE FROM river.river_job WHERE kind = 'sandbox_sweep'")
				fatal(t, err)
				_, err = s.db.Admin(t).Exec(context.Background(), "UPDATE sandbox_task SET next_at = now(), lease_until = NULL WHERE state <> 'finished'")
				fatal(t, err)
				kill = s.run(s.newQueue())
				s.wait("sweep", func() bool {
					return s.count("SELECT count(*) FROM river.river_job WHERE kind = 'sandbox_sweep' AND state = 'completed'") > 0
				})
				kill()
				if n := s.count("SELECT count(*) FROM audit.event WHERE action = 'quarantine.sandbox.late'"); n != 1 {
					t.Errorf("told %d times", n)
				}
			}
			got, err := s.held.Get(context.Background(), it.ID)
			fatal(t, err)
			if got.MaliciousLateAt == nil || got.Class != policy.Malware || got.State != tt.state || len(got.Findings) != 1 || got.Findings[0].Name != "LateBot" || got.Sandbox[0].Verdict != policy.SandboxMalicious {
				t.Errorf("late %v, class %s, state %s, findings %+v, sandbox %+v", got.MaliciousLateAt, got.Class, got.State, got.Findings, got.Sandbox)
			}
			if left, err := s.held.Get(context.Background(), other.ID); err != nil || left.MaliciousLateAt != nil || left.Class != policy.Clean {
				t.Errorf("the other mail: %v, %s, %v", left.MaliciousLateAt, left.Class, err)
			}
			var event string
			fatal(t, s.db.Pool.QueryRow(context.Background(), "SELECT convert_from(bytes, 'UTF8') FROM audit.event WHERE action = 'quarantine.sandbox.late'").Scan(&event))
			for _, want := range []string{`"severity":"` + tt.severity + `"`, it.ID.String(), it.Recipients[0].ID.String(), it.Recipients[1].ID.String(), "LateBot", tt.words, `"type":"system"`} {
				if !strings.Contains(event, want) {
					t.Errorf("the event does not say %s: %s", want, event)
				}
			}
		})
	}
}

// TestSandbox_LateByAnother: a later mail has the same file, and there the
// sandbox says malicious; or a person asks anew.
func TestSandbox_LateByAnother(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]func(*sandboxed, quarantine.Item){
		"mail": func(s *sandboxed, _ quarantine.Item) { s.wantReply(s.send("clean script", "dave@ours.example"), 250) },
		"person": func(s *sandboxed, first quarantine.Item) {
			fatal(s.t, s.q.Send(context.Background(), s.analyst, nil, first, "it does odd things"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSandboxed(t, nil)
			s.work()
			kill := s.run(s.q)
			first := s.wantState(s.heldItem("clean script"), quarantine.Released)
			s.cape.Result(nil, testenv.CapeResult{Score: 9})
			// A verdict of today would be good for the file still.
			_, err := s.db.Admin(t).Exec(context.Background(), "UPDATE sandbox_task SET finished_at = now() - interval '2 days'")
			fatal(t, err)
			again(s, first)
			s.wait("a malicious verdict", func() bool { return s.count("SELECT count(*) FROM sandbox_hold WHERE verdict = 'malicious'") == 1 })
			kill()
			_, err = s.db.Admin(t).Exec(context.Background(), "DELETE FROM river.river_job WHERE kind = 'sandbox_sweep'")
			fatal(t, err)
			s.run(s.newQueue())
			s.wait("word of it", func() bool {
				return s.count("SELECT count(*) FROM audit.event WHERE action = 'quarantine.sandbox.late' AND convert_from(bytes, 'UTF8')::jsonb ->> 'severity' = 'critical'") == 1
			})
			if got, err := s.held.Get(context.Background(), first.ID); err != nil || got.MaliciousLateAt == nil || got.Class != policy.Malware {
				t.Errorf("late %v, class %s, %v", got.MaliciousLateAt, got.Class, err)
			}
		})
	}
}

// TestSandbox_AllowIsHeard: what an entry has set aside on arrival is set aside
// after the verdict too.
func TestSandbox_AllowIsHeard(t *testing.T) {
	t.Parallel()
	s := newSandboxed(t, nil)
	policies, ctx := s.srv.deps.Policies, context.Background()
	actions := policy.DefaultActions(policy.Inbound)
	actions[policy.Suspicious] = policy.Quarantine
	_, err := policies.PutPolicy(ctx, pg.Operator("root"), policy.Policy{Workspace: policy.DefaultWorkspace, Domain: "*", Actions: actions}, nil)
	fatal(t, err)
	s.work()
	s.run(s.q)
	if it := s.heldItem("suspicious script"); it.State != quarantine.Quarantined {
		t.Fatalf("state %s without an entry", it.State)
	}
	_, err = policies.PutEntry(ctx, pg.Operator("root"), policy.Entry{Workspace: policy.DefaultWorkspace, Domain: "*", Kind: policy.EntryAllow, Match: policy.MatchClient, Value: "127.0.0.1",
		Classes: []policy.Class{policy.Suspicious}, Owner: "soc", Reason: "our own scanner"})
	fatal(t, err)
	s.wantState(s.heldItem("suspicious script two"), quarantine.Released)
	s.cape.Result(nil, testenv.CapeResult{Score: 9})
	if it := s.decided(s.heldItem("suspicious script three"), policy.SandboxMalicious); it.State != quarantine.Quarantined {
		t.Errorf("state %s: an entry has let malware out", it.State)
	}
	s.wantHop(1)
}
