package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mailward/internal/testenv"
)

// script is a file that every policy sends to the sandbox, and no engine minds.
func script(name string) []byte { return []byte("#!/bin/sh\n# " + name + "\necho good morning\n") }

func scriptMail(name string) []byte {
	return attachment(name, name+".sh", "application/x-sh", script(name))
}

// copyOf is an item as the API tells it, with what the sandbox was asked.
type copyOf struct {
	item
	MaliciousLateAt *time.Time `json:"malicious_late_at"`
	Sandbox         []struct{ State, Verdict, Error string }
}

func (a *api) copyOf(id string) (c copyOf) {
	a.s.t.Helper()
	if code := a.do("GET", "quarantine/"+id, nil, &c); code != 200 {
		a.s.t.Fatalf("GET quarantine/%s: %d", id, code)
	}
	return c
}

// sandboxEvent is what the audit says of an item.
type sandboxEvent struct {
	Action, Severity string
	Actor            struct {
		Type string
		Job  struct{ Name, Trigger string }
	}
	Change  struct{ After map[string]any }
	Targets []struct{ Type, Label string }
}

func (a *api) eventOf(itemID, action string) sandboxEvent {
	a.s.t.Helper()
	var found sandboxEvent
	eventually(a.s.t, 15*time.Second, "event "+action, func() bool {
		var page struct{ Items []sandboxEvent }
		a.do("GET", "audit/events?limit=200&target="+itemID, nil, &page)
		for _, e := range page.Items {
			if e.Action == action {
				found = e
				return true
			}
		}
		return false
	})
	return found
}

// wantBySystem says that the sandbox's job is on record as who did it, and why.
func wantBySystem(t *testing.T, e sandboxEvent) {
	t.Helper()
	if e.Actor.Type != "system" || e.Actor.Job.Name != "sandbox" || !strings.Contains(e.Actor.Job.Trigger, "hold ") {
		t.Errorf("%s was done by %+v, want the job sandbox of System, with its cause", e.Action, e.Actor)
	}
}

// TestSandbox holds mail for the sandbox in a whole installation: gateway,
// sidecar, PostgreSQL, the queue of jobs, and a double of CAPE.
func TestSandbox(t *testing.T) {
	t.Parallel()
	hop, cape := testenv.NextHop(t), testenv.NewCape(t)
	cape.Token("sesame")
	s := startServer(t, hop.Addr, fmt.Sprintf("sandbox: {url: %q, token: sesame, poll_every: 200ms, tasks_per_minute: 100}\n", cape.URL))
	a := s.api("admin")
	policy := map[string]any{"actions": map[string]string{}, "sandbox": map[string]any{"timeout": "1m", "on_timeout": "deliver"}}
	if c := a.do("PUT", "policies/"+ourDomain, policy, nil); c != 200 {
		t.Fatalf("PUT policy: %d", c)
	}
	hold := func(t *testing.T, name string, r testenv.CapeResult) copyOf {
		t.Helper()
		cape.Result(script(name), r)
		if r := s.sendMail("erika@sender.example", []string{"bob@ours.example"}, scriptMail(name)); code(r) != 250 {
			t.Fatalf("reply %q, want 250 (held)", r)
		}
		it := a.copyOf(a.itemBySubject(name).ID)
		if r.Endless && (it.State != "held" || it.Class == "malware") {
			t.Fatalf("item is %s/%s, want it held, and no malware", it.Class, it.State)
		}
		return it
	}
	state := func(t *testing.T, it copyOf, want string, limit time.Duration) (now copyOf) {
		t.Helper()
		eventually(t, limit, "item in state "+want, func() bool { now = a.copyOf(it.ID); return now.State == want })
		return now
	}
	endless := testenv.CapeResult{Endless: true}
	late := hold(t, "too-late", endless) // its minute runs while the others are seen to
	began := time.Now()

	t.Run("cleared, so it is delivered", func(t *testing.T) {
		it := hold(t, "cleared", endless)
		time.Sleep(time.Second)
		wantNotAtHop(t, hop, "cleared")
		cape.Result(script("cleared"), testenv.CapeResult{Score: 0.4})
		wantBelowOurHeaders(t, waitForMail(t, hop, "cleared"), scriptMail("cleared"))
		state(t, it, "released", 10*time.Second)
		wantBySystem(t, a.eventOf(it.ID, "quarantine.sandbox.verdict"))
		wantBySystem(t, a.eventOf(it.ID, "quarantine.release.sandbox"))
	})
	t.Run("malicious, so it is kept", func(t *testing.T) {
		it := hold(t, "emotet", testenv.CapeResult{Score: 9.1, Family: "Emotet"})
		now := state(t, it, "quarantined", 15*time.Second)
		if last := now.Findings[len(now.Findings)-1]; now.Class != "malware" || last.Engine != "sandbox" || last.Name != "Emotet" {
			t.Errorf("class %s, findings %+v", now.Class, now.Findings)
		}
		wantBySystem(t, a.eventOf(it.ID, "quarantine.sandbox.verdict"))
		wantNotAtHop(t, hop, "emotet")
	})
	t.Run("killed between submission and verdict", func(t *testing.T) {
		good, bad := hold(t, "killed-good", endless), hold(t, "killed-bad", endless)
		for _, it := range []copyOf{good, bad} {
			eventually(t, 15*time.Second, "submission", func() bool { got := a.copyOf(it.ID).Sandbox; return len(got) == 1 && got[0].State == "submitted" })
		}
		s.kill()
		cape.Result(script("killed-good"), testenv.CapeResult{Score: 0.1})
		cape.Result(script("killed-bad"), testenv.CapeResult{Score: 8})
		s.start()
		// The next process leads the queue when the dead one's time is over.
		state(t, good, "released", 90*time.Second)
		state(t, bad, "quarantined", 90*time.Second)
		waitForMail(t, hop, "killed-good")
		wantNotAtHop(t, hop, "killed-bad")
	})
	t.Run("no verdict in time, so the policy decides", func(t *testing.T) {
		now := state(t, late, "released", 90*time.Second)
		if waited := time.Since(began); waited < 55*time.Second {
			t.Errorf("delivered after %v, its policy waits a minute", waited)
		}
		if len(now.Sandbox) != 1 || now.Sandbox[0].Verdict != "" || now.Sandbox[0].State != "given_up" || now.Class != late.Class {
			t.Errorf("class %s, sandbox %+v; no verdict must not look like one", now.Class, now.Sandbox)
		}
		waitForMail(t, hop, "too-late")
		e := a.eventOf(late.ID, "quarantine.sandbox.verdict")
		wantBySystem(t, e)
		if e.Change.After["verdict"] != "none" {
			t.Errorf("verdict on record: %v", e.Change.After)
		}
	})
	t.Run("malicious after it was delivered", func(t *testing.T) {
		cape.Result(script("too-late"), testenv.CapeResult{Score: 9.9, Family: "LateBot"})
		var now copyOf
		// The sweep comes each minute.
		eventually(t, 150*time.Second, "word that it is malicious", func() bool { now = a.copyOf(late.ID); return now.MaliciousLateAt != nil })
		if now.Class != "malware" || now.State != "released" || len(now.Sandbox) != 1 || now.Sandbox[0].Verdict != "malicious" {
			t.Errorf("class %s, state %s, sandbox %+v", now.Class, now.State, now.Sandbox)
		}
		e := a.eventOf(late.ID, "quarantine.sandbox.late")
		wantBySystem(t, e)
		said := fmt.Sprint(e.Change.After)
		if e.Severity != "critical" || !strings.Contains(said, "LateBot") || !strings.Contains(said, "out_for_seconds") {
			t.Errorf("severity %s: %s", e.Severity, said)
		}
	})
	if n := len(cape.Tasks()); n != 5 {
		t.Errorf("%d tasks for 5 files", n)
	}
}
