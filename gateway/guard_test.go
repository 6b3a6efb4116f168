package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"mailward/gateway/limit"
)

// guarded serves the fixture's gateway with limits.
func (f *fixture) guarded(change func(*limit.Config)) {
	f.t.Helper()
	cfg := limit.DefaultConfig()
	cfg.GreetPause = 0
	change(&cfg)
	g := limit.New(cfg, nil, nil, slog.New(slog.DiscardHandler), nil)
	f.t.Cleanup(g.Close)
	f.srv.deps.Guard = g
	f.listen(func(c *Config) { c.Limits = true })
}

// knock connects and returns the first reply.
func (f *fixture) knock(first string) (*client, string) {
	f.t.Helper()
	c, err := net.Dial("tcp", f.addr)
	fatal(f.t, err)
	f.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(c, first)
	cl := &client{c, bufio.NewReader(c)}
	return cl, cl.reply()
}

func TestGuard_Connections(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	f.guarded(func(c *limit.Config) { c.Connections = 2 })
	a, r := f.knock("")
	f.wantReply(r, 220)
	_, r = f.knock("")
	f.wantReply(r, 220)
	third, r := f.knock("")
	f.wantReply(r, 421)
	if r := third.reply(); r != "EOF" {
		t.Errorf("the refused connection goes on: %q", r)
	}
	// One that ends makes room, whatever way it ends.
	a.Close()
	for end := time.Now().Add(30 * time.Second); ; {
		if _, r = f.knock(""); strings.HasPrefix(r, "220") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("still %q after a connection ended", r)
		}
	}
}

func TestGuard_EarlyTalker(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	f.guarded(func(c *limit.Config) { c.GreetPause = 200 * time.Millisecond })
	c, r := f.knock("EHLO spam.example\r\n")
	f.wantReply(r, 554)
	if r := c.reply(); r != "EOF" {
		t.Errorf("the session goes on: %q", r)
	}
	// A client that waits is greeted, and after a mail it waits no more.
	begin := time.Now()
	f.wantReply(f.send("clean"), 250)
	if took := time.Since(begin); took < 200*time.Millisecond {
		t.Errorf("greeted after %v", took)
	}
	f.wantReply(f.send("clean again"), 250)
}

func TestGuard_PipeliningAbuse(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	f.guarded(func(*limit.Config) {})
	_, r := f.knock("")
	f.wantReply(r, 220)
	for name, said := range map[string]string{
		"behind EHLO": "EHLO client.example\r\nMAIL FROM:<a@sender.example>\r\n",
		"behind DATA": "EHLO client.example\r\n",
	} {
		c, r := f.knock("")
		f.wantReply(r, 220)
		io.WriteString(c, said)
		r = c.reply()
		if name == "behind DATA" {
			f.wantReply(r, 250)
			c.say("MAIL FROM:<a@sender.example>")
			c.say("RCPT TO:<bob@ours.example>")
			io.WriteString(c, "DATA\r\nSubject: clean\r\n\r\nx\r\n.\r\n")
			r = c.reply()
		}
		f.wantReply(r, 503)
		if r := c.reply(); r != "EOF" {
			t.Errorf("%s: the session goes on: %q", name, r)
		}
	}
	f.wantHop(0)
}

func TestGuard_BadCommands(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	f.guarded(func(c *limit.Config) { c.BadCommands = 3 })
	c := f.dial()
	for range 2 {
		f.wantReply(c.say("FROBNICATE"), 500)
	}
	f.wantReply(c.say("FROBNICATE"), 500)
	f.wantReply(c.reply(), 421)
	if r := c.reply(); r != "EOF" {
		t.Errorf("the session goes on: %q", r)
	}
}

func TestGuard_Rates(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	f.guarded(func(c *limit.Config) { c.PerMinute.Mails, c.SenderPerMinute.Recipients = 2, 3 })
	c := f.dial()
	to := []string{"bob@ours.example"}
	f.wantReply(c.send("a@sender.example", to, "Subject: clean\r\n\r\nx\r\n"), 250)
	f.wantReply(c.say("MAIL FROM:<a@sender.example>"), 250)
	f.wantReply(c.say("RCPT TO:<bob@ours.example>"), 250)
	f.wantReply(c.say("RCPT TO:<eve@ours.example>"), 250)
	// RFC 5321 §4.5.3.1.10: those taken so far still get their mail.
	f.wantReply(c.say("RCPT TO:<ann@ours.example>"), 450)
	f.wantReply(c.say("RSET"), 250)
	f.wantReply(c.say("MAIL FROM:<b@sender.example>"), 450)
}

func TestGuard_Greylisting(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	f.guarded(func(c *limit.Config) { c.Greylist.Enabled = true })
	c := f.dial()
	c.say("MAIL FROM:<a@sender.example>")
	r := c.say("RCPT TO:<bob@ours.example>")
	f.wantReply(r, 450)
	if !strings.Contains(r, "4.7.1") {
		t.Errorf("%q", r)
	}
	f.wantReply(c.say("RCPT TO:<postmaster@ours.example>"), 250)
}

func TestRecipients(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	list := filepath.Join(t.TempDir(), "list")
	fatal(t, os.WriteFile(list, []byte("erika\n"), 0o600))
	lists := &limit.Lists{}
	fatal(t, lists.Load(map[string]string{"sender.example": list}))
	f.srv.deps.Lists = lists
	asked := 0
	f.srv.deps.Recipients = limit.NewRecipients(nil, func(_ context.Context, _ string, rcpts []string) (replies []*limit.Refusal, err error) {
		asked++
		for _, rcpt := range rcpts {
			switch rcpt {
			case "gone@ours.example":
				replies = append(replies, &limit.Refusal{Code: 550, Enhanced: [3]int{5, 1, 1}})
			case "slow@ours.example":
				return replies, errors.New("no answer")
			default:
				replies = append(replies, nil)
			}
		}
		return replies, nil
	}, slog.New(slog.DiscardHandler))
	t.Cleanup(f.srv.deps.Recipients.Close)
	f.listen(func(*Config) {})
	c := f.dial()
	c.say("MAIL FROM:<a@sender.example>")
	f.wantReply(c.say("RCPT TO:<gone@ours.example>"), 550)
	f.wantReply(c.say("RCPT TO:<gone@ours.example>"), 550)
	f.wantReply(c.say("RCPT TO:<bob@ours.example>"), 250)
	f.wantReply(c.say("RCPT TO:<postmaster@ours.example>"), 250)
	f.wantReply(c.say("RCPT TO:<slow@ours.example>"), 250)
	if asked != 3 {
		t.Errorf("asked %d times, want 3: once for each that is no postmaster", asked)
	}
	c.say("RSET")
	c.say("MAIL FROM:<a@sender.example>")
	f.wantReply(c.say("RCPT TO:<erika@sender.example>"), 250)
	f.wantReply(c.say("RCPT TO:<max@sender.example>"), 550)
}

// TestRecipients_Pipelined: the next hop is asked once about recipients that come
// together, and each gets its own reply.
func TestRecipients_Pipelined(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	var mu sync.Mutex
	var asked [][]string
	f.srv.deps.Recipients = limit.NewRecipients(nil, func(_ context.Context, _ string, rcpts []string) ([]*limit.Refusal, error) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, rcpts)
		replies := make([]*limit.Refusal, len(rcpts))
		for i, r := range rcpts {
			if strings.HasPrefix(r, "gone") {
				replies[i] = &limit.Refusal{Code: 550, Enhanced: [3]int{5, 1, 1}}
			}
		}
		return replies, nil
	}, slog.New(slog.DiscardHandler))
	t.Cleanup(f.srv.deps.Recipients.Close)
	f.listen(func(*Config) {})
	c := f.dial()
	var lines strings.Builder
	lines.WriteString("MAIL FROM:<a@sender.example>\r\n")
	rcpts := []string{"<al@ours.example>", "<gone1@ours.example>", "<postmaster@ours.example>", "<x@elsewhere.example>", "<y@other.example>", `<"b o"@ours.example>`, "<gone2@OURS.example>", "<di@ours.example> NOTIFY"}
	for _, r := range rcpts {
		lines.WriteString("RCPT TO:" + r + "\r\n")
	}
	lines.WriteString("RSET\r\nMAIL FROM:<a@sender.example>\r\nRCPT TO:<later@ours.example>\r\n")
	io.WriteString(c, lines.String())
	for i, want := range []int{250, 250, 550, 250, 550, 452, 250, 550, 501, 250, 250, 250} {
		if r := c.reply(); !strings.HasPrefix(r, strconv.Itoa(want)) {
			t.Errorf("reply %d: %q, want %d", i, r, want)
		}
	}
	want := "[[al@ours.example gone1@ours.example gone2@OURS.example di@ours.example] [\"b o\"@ours.example] [later@ours.example]]"
	if got := fmt.Sprint(asked); got != want {
		t.Errorf("asked %s, want %s", got, want)
	}
}

// TestSize_OfTheRoutes: what is offered is what some route takes, and a mail that
// is too big for its own is refused before it is sent.
func TestSize_OfTheRoutes(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	f.hop.Features("PIPELINING", "8BITMIME", "SIZE 5000")
	c := f.dial()
	f.wantReply(c.say("MAIL FROM:<a@sender.example> SIZE=6000"), 250)
	f.wantReply(c.say("RCPT TO:<bob@ours.example>"), 250) // The hop has not been spoken to.
	_, err := f.srv.deps.Hops.Check(t.Context(), f.hop.Addr)
	fatal(t, err)
	if r := c.say("RCPT TO:<al@ours.example>"); !strings.HasPrefix(r, "552 5.3.4 Mail is too big for its destination") {
		t.Errorf("%q", r)
	}
	f.wantReply(c.say("RSET"), 250)
	if r := c.say("EHLO x"); !strings.Contains(r, "SIZE 8388608\n") {
		t.Errorf("a route that nobody knows may take more: %q", r)
	}
	f.wantReply(c.say("MAIL FROM:<a@sender.example> SIZE=6000"), 250)
	f.wantReply(c.say("RCPT TO:<x@other.example>"), 250)
	f.wantReply(c.say("RSET"), 250)

	f.srv.deps.Policies.SetStatic(routesTo(f.hop.Addr))
	if r := c.say("EHLO x"); !strings.Contains(r, "SIZE 5000\n") {
		t.Errorf("all routes are known: %q", r)
	}
	f.wantReply(c.say("MAIL FROM:<a@sender.example> SIZE=5001"), 552)
	f.wantReply(c.say("MAIL FROM:<a@sender.example> SIZE=5000"), 250)
	f.wantReply(c.say("RCPT TO:<bob@ours.example>"), 250)

	f.listen(func(c *Config) { c.OutboundFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	c = f.dial()
	if r := c.say("EHLO x"); !strings.Contains(r, "SIZE 8388608\n") {
		t.Errorf("who may send to the world: %q", r)
	}
	f.wantReply(c.say("MAIL FROM:<a@sender.example> SIZE=6000"), 250)
	f.wantReply(c.say("RCPT TO:<bob@ours.example>"), 552)
}
