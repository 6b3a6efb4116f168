package health_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"mailward/health"
	"mailward/internal/testenv"
	"mailward/scanner/cape"
)

// TestSandbox asks the double over a real connection, as serve does.
func TestSandbox(t *testing.T) {
	t.Parallel()
	const meaning = "All other mail flows."
	ago := func(d time.Duration) func(*health.SandboxStatus) {
		return func(s *health.SandboxStatus) { s.Waiting, s.Oldest = 2, time.Now().Add(-d) }
	}
	for name, tt := range map[string]struct {
		fault testenv.CapeFault
		token string // that the sandbox wants; ours is "right"
		queue func(*health.SandboxStatus)
		state health.State
		code  string
		words string
	}{
		"up":                       {state: health.Up, words: "no mail waits"},
		"up, mail waits":           {queue: ago(29 * time.Minute), state: health.Up, words: "2 mails wait"},
		"up, mail waits long":      {queue: ago(31 * time.Minute), state: health.Degraded, code: "late", words: "31 min"},
		"up, the clock is off":     {queue: ago(-time.Hour), state: health.Up, words: "2 mails wait"},
		"token taken":              {token: "right", state: health.Up, words: "answers"},
		"401":                      {token: "another", state: health.NotAuthorised, code: "refused", words: "sandbox.token"},
		"401 while mail waits":     {token: "another", queue: ago(time.Hour), state: health.NotAuthorised, code: "refused", words: "sandbox.token"},
		"403":                      {fault: testenv.CapeForbidden, state: health.NotAuthorised, code: "refused", words: "sandbox.token"},
		"hangs":                    {fault: testenv.CapeHangs, state: health.Down, code: "unreachable", words: meaning},
		"breaks off":               {fault: testenv.CapeDown, state: health.Down, code: "unreachable", words: meaning},
		"500":                      {fault: testenv.Cape500, state: health.Down, code: "unreachable", words: meaning},
		"200 with an error inside": {fault: testenv.CapeDisabled, state: health.Down, code: "unreachable", words: meaning},
		"200 with a page":          {fault: testenv.CapePage, state: health.Down, code: "unreachable", words: meaning},
		"200 with nonsense":        {fault: testenv.CapeNonsense, state: health.Down, code: "unreachable", words: meaning},
		"throttled":                {fault: testenv.CapeThrottled, state: health.Down, code: "unreachable", words: meaning},
		"sends us elsewhere":       {fault: testenv.CapeRedirect, state: health.Down, code: "unreachable", words: meaning},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			double := testenv.NewCape(t)
			double.Fail(tt.fault)
			double.Token(tt.token)
			client, err := cape.New(cape.Config{URL: double.URL, Token: "right", CallTimeout: 500 * time.Millisecond, RetryPause: time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			began := time.Now()
			r := health.Sandbox(func(ctx context.Context) (s health.SandboxStatus, err error) {
				if tt.queue != nil {
					tt.queue(&s)
				}
				server, err := client.Server(ctx)
				s.Denied, s.Version, s.Machines, s.Free = errors.Is(err, cape.ErrUnauthorized), server.Version, server.Machines, server.Free
				return s, err
			}).Check(t.Context())
			if r.State != tt.state || r.Code != tt.code || !strings.Contains(r.Reason.String(), tt.words) {
				t.Errorf("%s %q: %s (%s); want %s %q with %q", r.State, r.Code, r.Reason, r.Detail, tt.state, tt.code, tt.words)
			}
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("the check took %v", took)
			}
			if r.State != health.Up && !strings.Contains(r.Reason.String(), meaning) {
				t.Errorf("%q does not say what it means for mail", r.Reason)
			}
			if up := r.State == health.Up || r.State == health.Degraded; up != (r.Facts["version"] == "2.5" && r.Facts["machines"] == "4" && r.Facts["machines_free"] == "2") {
				t.Errorf("facts %v", r.Facts)
			}
			if strings.Contains(r.Reason.String()+r.Detail, "right") || strings.Contains(r.Detail, double.URL) {
				t.Errorf("it tells our token or the address: %s %s", r.Reason, r.Detail)
			}
		})
	}
}

// TestSandbox_Said is what no double of CAPE says.
func TestSandbox_Said(t *testing.T) {
	for name, tt := range map[string]struct {
		ask   func(context.Context) (health.SandboxStatus, error)
		state health.State
		code  string
	}{
		"none set up": {nil, health.NotConfigured, ""},
		"no machine":  {func(context.Context) (health.SandboxStatus, error) { return health.SandboxStatus{Version: "2.5"}, nil }, health.Degraded, "no_machine"},
		"no database": {func(context.Context) (health.SandboxStatus, error) {
			return health.SandboxStatus{}, errors.New("connection refused")
		}, health.Down, "unreachable"},
	} {
		c := health.Sandbox(tt.ask)
		if r := c.Check(t.Context()); r.State != tt.state || r.Code != tt.code {
			t.Errorf("%s: %s %q: %s", name, r.State, r.Code, r.Reason)
		}
		if c.Effect != health.Weakens || c.Ready {
			t.Error("the sandbox must never stop mail")
		}
	}
}
