package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailward/internal/testenv"
)

// paused stops the processes of one engine for the length of fn: dead, but
// with the supervisor unable to bring them back, as on a host that has run out
// of memory. (A killed engine is restarted within a second, which is tested on
// its own.)
func (s *server) paused(pattern string, fn func()) {
	s.t.Helper()
	var pids []int
	// Again until nobody new is found: a supervisor may have been starting one.
	for more := true; more; {
		more = false
		for _, p := range withChildren(s.childPIDs(pattern)) {
			if !slices.Contains(pids, p) {
				syscall.Kill(p, syscall.SIGSTOP)
				pids, more = append(pids, p), true
			}
		}
	}
	if len(pids) == 0 {
		s.t.Fatalf("no process matches %q", pattern)
	}
	defer func() {
		for _, p := range pids {
			syscall.Kill(p, syscall.SIGCONT)
		}
	}()
	fn()
}

// component reads one component from the health API.
func (a *api) component(name string) (state string) {
	var report struct {
		Components []struct {
			Name  string `json:"name"`
			State string `json:"state"`
		} `json:"components"`
	}
	a.do("GET", "health", nil, &report)
	for _, c := range report.Components {
		if c.Name == name {
			return c.State
		}
	}
	return "(missing)"
}

func TestEnginesDown(t *testing.T) {
	t.Parallel()
	hop := testenv.NextHop(t)
	s := startServer(t, hop.Addr, "")
	a := s.api("admin")
	to := []string{"bob@ours.example"}

	for _, engine := range []struct{ name, component, pattern string }{
		{"clamav", "clamav", `clamd`},
		{"yara", "scanner", `mailward-scanner`},
	} {
		t.Run(engine.name+" down", func(t *testing.T) {
			subject := "down-" + engine.name
			s.paused(engine.pattern, func() {
				if r := s.sendMail("erika@sender.example", to, text(subject, "x")); code(r) != 451 {
					t.Errorf("with %s down: %q, want 451", engine.name, r)
				}
				eventually(t, 5*time.Second, engine.name+" down on the health page", func() bool { return a.component(engine.component) == "down" })
			})
			wantNotAtHop(t, hop, subject)
			wantLedgerSaysDown(t, a, subject, engine.name)
			eventually(t, 20*time.Second, "mail flowing again", func() bool {
				return code(s.sendMail("erika@sender.example", to, text(subject+"-again", "x"))) == 250
			})
			waitForMail(t, hop, subject+"-again")
		})
		t.Run(engine.name+" killed comes back by itself", func(t *testing.T) {
			for _, p := range s.childPIDs(engine.pattern) {
				syscall.Kill(p, syscall.SIGKILL)
			}
			eventually(t, 30*time.Second, "mail flowing again", func() bool {
				return code(s.sendMail("erika@sender.example", to, text("back-"+engine.name, "x"))) == 250
			})
		})
	}

	t.Run("redis killed: mail flows", func(t *testing.T) {
		s.paused(`redis-server`, func() {
			if r := s.sendMail("erika@sender.example", to, text("no-redis", "x")); code(r) != 250 {
				t.Errorf("with redis down: %q, want 250", r)
			}
		})
		waitForMail(t, hop, "no-redis")
	})
	t.Run("postgres killed: 451, then mail flows", func(t *testing.T) {
		pids := s.childPIDs(`bin/postgres -D`)
		if len(pids) == 0 {
			t.Fatal("no postgres process found")
		}
		for _, p := range pids {
			syscall.Kill(p, syscall.SIGKILL)
		}
		if r := s.sendMail("erika@sender.example", to, text("no-postgres", "x")); code(r) != 451 && code(r) != 250 {
			t.Errorf("with postgres down: %q, want 451 (or 250 if it is back already)", r)
		} else if code(r) == 451 {
			wantNotAtHop(t, hop, "no-postgres")
		}
		eventually(t, 45*time.Second, "mail flowing again", func() bool {
			return code(s.sendMail("erika@sender.example", to, text("postgres-back", "x"))) == 250
		})
	})
}

func wantLedgerSaysDown(t *testing.T, a *api, subject, engine string) {
	t.Helper()
	eventually(t, 10*time.Second, "ledger row for the deferred mail", func() bool {
		var page struct {
			Items []struct {
				Subject string `json:"subject"`
				Action  string `json:"action"`
				Engines []struct {
					Engine   string `json:"engine"`
					Answered bool   `json:"answered"`
				} `json:"engines"`
			} `json:"items"`
		}
		a.do("GET", "messages?limit=200&action=defer", nil, &page)
		for _, m := range page.Items {
			for _, e := range m.Engines {
				// With the sidecar down nobody reads headers, so there is no subject.
				if (m.Subject == subject || engine == "yara") && m.Action == "defer" && e.Engine == engine && !e.Answered {
					return true
				}
			}
		}
		return false
	})
}

func TestNextHopTrouble(t *testing.T) {
	t.Parallel()
	hop := testenv.NextHop(t)
	s := startServer(t, hop.Addr, "")
	to := []string{"bob@ours.example"}
	for _, want := range []int{421, 451, 452, 550, 552, 554} {
		t.Run(fmt.Sprintf("its %d is ours", want), func(t *testing.T) {
			hop.Refuse(want)
			defer hop.Refuse(0)
			got := code(s.sendMail("erika@sender.example", to, text("refused", "x")))
			if got != want && !(want == 421 && got == 451) {
				t.Errorf("next hop says %d, we say %d", want, got)
			}
		})
	}
	t.Run("connection refused is 451", func(t *testing.T) {
		s := startServer(t, testenv.FreeAddr(t), "")
		if r := s.sendMail("erika@sender.example", to, text("nobody", "x")); code(r) != 451 {
			t.Errorf("reply %q, want 451", r)
		}
	})
	t.Run("flows again", func(t *testing.T) {
		if r := s.sendMail("erika@sender.example", to, text("after-trouble", "x")); code(r) != 250 {
			t.Fatalf("reply %q, want 250", r)
		}
		waitForMail(t, hop, "after-trouble")
	})
}

// TestStopLeavesNothingBehind also proves that a second start over the same
// folder finds what the first one left, and that no server runs twice.
func TestStopLeavesNothingBehind(t *testing.T) {
	hop := testenv.NextHop(t)
	s := startServer(t, hop.Addr, "")
	if n := len(s.childPIDs(`postgres -D`)); n != 1 {
		t.Errorf("%d postgres servers, want 1", n)
	}
	s.kill()
	s.start()
	if n := len(s.childPIDs(`postgres -D`)); n != 1 {
		t.Errorf("after kill -9 and start: %d postgres servers, want 1", n)
	}
	if n := len(s.childPIDs(`clamd`)); n != 1 {
		t.Errorf("after kill -9 and start: %d clamd, want 1", n)
	}
	s.stop()
	eventually(t, 10*time.Second, "end of all children", func() bool { return len(s.childPIDs(`.`)) == 0 })
}

func TestHealthEndpoints(t *testing.T) {
	s := startServer(t, testenv.NextHop(t).Addr, "")
	for _, p := range []string{"/healthz", "/livez", "/readyz"} {
		if c, body := s.get(p); c != 200 {
			t.Errorf("GET %s: %d %s", p, c, body)
		}
	}
	if c, body := s.get("/metrics"); c != 200 || !strings.Contains(body, "mailward_") {
		t.Errorf("GET /metrics: %d without a mailward_ metric", c)
	}
	var doc struct {
		OpenAPI string         `json:"openapi"`
		Paths   map[string]any `json:"paths"`
	}
	_, body := s.get("/api/v1/openapi.json")
	if err := json.Unmarshal([]byte(body), &doc); err != nil || len(doc.Paths) < 10 {
		t.Errorf("openapi.json: %v, %d paths", err, len(doc.Paths))
	}
}
