package hop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"mailward/internal/testenv"
)

// TestSend_FailsOver: to the next host as long as nothing of the mail is out,
// and never after.
func TestSend_FailsOver(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spoil func(h *testenv.Hop)
		code  int // what the caller hears; 0: the second host took the mail
		lost  bool
	}{
		{"it is down", func(h *testenv.Hop) { h.Close() }, 0, false},
		{"it breaks off at once", func(h *testenv.Hop) { h.Fail(testenv.RefuseConnect) }, 0, false},
		{"it greets with 4xx", func(h *testenv.Hop) { h.Say("CONNECT", "421 4.3.2 busy\r\n") }, 0, false},
		{"it greets with 5xx", func(h *testenv.Hop) { h.Say("CONNECT", "554 5.3.2 no mail here\r\n") }, 0, false},
		{"it refuses EHLO", func(h *testenv.Hop) { h.Say("EHLO", "421 4.7.0 no\r\n") }, 0, false},
		{"MAIL 4xx", func(h *testenv.Hop) { h.Say("MAIL", "452 4.3.1 disk full\r\n") }, 0, false},
		{"MAIL 421", func(h *testenv.Hop) { h.Say("MAIL", "421 4.3.1 bye\r\n") }, 0, false},
		{"MAIL 530", func(h *testenv.Hop) { h.Say("MAIL", "530 5.7.0 Must issue a STARTTLS command first\r\n") }, 0, false},
		{"RCPT 530", func(h *testenv.Hop) { h.Say("RCPT", "530 5.7.1 Client was not authenticated\r\n") }, 0, false},
		{"MAIL breaks off", func(h *testenv.Hop) { h.Fail(testenv.DropAtMail) }, 0, false},
		{"MAIL 5xx", func(h *testenv.Hop) { h.Say("MAIL", "550 5.7.1 not you\r\n") }, 550, false},
		{"RCPT 4xx", func(h *testenv.Hop) { h.RefuseRcpt("bob@ours.example", 450) }, 450, false},
		{"RCPT 5xx", func(h *testenv.Hop) { h.RefuseRcpt("bob@ours.example", 550) }, 550, false},
		{"RCPT 421", func(h *testenv.Hop) { h.Say("RCPT", "421 4.7.0 too many errors\r\n") }, 0, false},
		{"RCPT breaks off", func(h *testenv.Hop) { h.Say("RCPT", "") }, 0, false},
		{"DATA 4xx", func(h *testenv.Hop) { h.Say("DATA", "451 4.3.0 later\r\n") }, 0, false},
		{"DATA 5xx", func(h *testenv.Hop) { h.Say("DATA", "554 5.3.0 no\r\n") }, 554, false},
		{"DATA breaks off", func(h *testenv.Hop) { h.Say("DATA", "") }, 0, false},
		{"dot 4xx", func(h *testenv.Hop) { h.Refuse(451) }, 451, false},
		{"dot 5xx", func(h *testenv.Hop) { h.Refuse(554) }, 554, false},
		{"dot breaks off", func(h *testenv.Hop) { h.Fail(testenv.DropAfterDot) }, -1, true},
	} {
		for _, features := range []string{"PIPELINING", "SIZE"} {
			t.Run(c.name+" "+features, func(t *testing.T) {
				t.Parallel()
				one, two := testenv.NextHop(t), testenv.NextHop(t)
				one.Features(features)
				c.spoil(one)
				res := sender(t, Config{}).Send(context.Background(), one.Addr+","+two.Addr, bob())
				var no *Reply
				code := 0
				if errors.As(res.Err, &no) {
					code = no.Code
				} else if res.Err != nil {
					code = -1
				}
				if code != c.code || res.ReplyLost != c.lost {
					t.Errorf("%+v, want %d", res, c.code)
				}
				taken, host := 1, two.Addr
				if c.code != 0 {
					taken, host = 0, one.Addr
				}
				if n := len(two.Messages()); n != taken || res.Host != host {
					t.Errorf("%d mails at the second host, %s answered", n, res.Host)
				}
			})
		}
	}
}

// TestSend_AllHostsFail: what a host said tells more than that another is down.
func TestSend_AllHostsFail(t *testing.T) {
	t.Parallel()
	one, two := testenv.NextHop(t), testenv.NextHop(t)
	one.Say("MAIL", "452 4.3.1 full\r\n")
	two.Close()
	s := sender(t, Config{})
	for _, route := range []string{one.Addr + "," + two.Addr, two.Addr + "," + one.Addr} {
		var no *Reply
		if res := s.Send(context.Background(), route, bob()); !errors.As(res.Err, &no) || no.Code != 452 {
			t.Errorf("%+v", res)
		}
	}
	if res := s.Send(context.Background(), two.Addr, bob()); !errors.Is(res.Err, ErrConnect) {
		t.Errorf("%+v", res)
	}
	for _, route := range []string{"", "unknown", "10.0.0.1", "a:25,,b:25", ":25", "mx:example.org"} {
		if res := s.Send(context.Background(), route, bob()); !errors.Is(res.Err, ErrNoRoute) {
			t.Errorf("%q: %v", route, res.Err)
		}
	}
}

// TestSend_NothingSaidOfTheMail: what a hop says before MAIL is never its last
// word on the mail, and goes before no other host's trouble.
func TestSend_NothingSaidOfTheMail(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		says   map[string]string
		demand TLSMode
	}{
		{"greeting", map[string]string{"CONNECT": "554 5.3.2 no mail here\r\n"}, TLSMay},
		{"EHLO and HELO", map[string]string{"EHLO": "550 5.7.1 not you\r\n", "HELO": "550 5.7.1 not you\r\n"}, TLSMay},
		{"STARTTLS", map[string]string{"STARTTLS": "554 5.7.3 no keys\r\n"}, TLSRequire},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			one, two := testenv.NextHop(t), testenv.NextHop(t)
			one.Features("PIPELINING", "STARTTLS")
			for step, says := range c.says {
				one.Say(step, says)
			}
			two.Close()
			s := sender(t, Config{Routes: map[string]Route{"r": {TLS: c.demand, Hosts: []Host{{Address: one.Addr}, {Address: two.Addr, Priority: 1}}}}})
			res := s.Send(context.Background(), "r", bob())
			var no *Reply
			if errors.As(res.Err, &no) || !errors.Is(res.Err, ErrConnect) {
				t.Errorf("%+v", res.Err)
			}
		})
	}
}

// TestRoute_Priorities: hosts of one priority share the mail, the next priority
// waits until they are gone, and a host that came back is used again.
func TestRoute_Priorities(t *testing.T) {
	t.Parallel()
	a, b, spare := testenv.NextHop(t), testenv.NextHop(t), testenv.NextHop(t)
	s := sender(t, Config{Routes: map[string]Route{"exchange": {Hosts: []Host{{spare.Addr, 20}, {a.Addr, 10}, {b.Addr, 10}}}}})
	send := func() {
		t.Helper()
		if res := s.Send(context.Background(), "exchange", bob()); res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	for range 40 {
		send()
	}
	if len(a.Messages()) < 5 || len(b.Messages()) < 5 || len(spare.Messages()) != 0 {
		t.Errorf("%d and %d mails, and %d at the spare host", len(a.Messages()), len(b.Messages()), len(spare.Messages()))
	}
	a.Fail(testenv.RefuseConnect)
	b.Fail(testenv.RefuseConnect)
	s.Reload(s.settings.Load().Config) // gives up the kept connections
	tried := a.Connections() + b.Connections()
	for range 10 {
		send()
	}
	if n := a.Connections() + b.Connections() - tried; n != 2 || len(spare.Messages()) != 10 {
		t.Errorf("the hosts that are down were tried %d times, want once each; %d mails at the spare host", n, len(spare.Messages()))
	}
	a.Fail(testenv.NoFault)
	for _, pe := range s.peers {
		pe.aside = time.Now()
	}
	before := len(a.Messages())
	for range 20 {
		send()
	}
	if len(a.Messages()) == before {
		t.Error("the host that came back gets no mail")
	}
}

func TestRoute_ConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	h := testenv.NextHop(t)
	s := sender(t, Config{Routes: map[string]Route{"two": {Hosts: []Host{{Address: h.Addr}}, MaxConnections: 2, MaxMailsPerConnection: 5}}})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if res := s.Send(context.Background(), "two", bob()); res.Err != nil {
				t.Error(res.Err)
			}
		})
	}
	wg.Wait()
	if n := h.Connections(); n < 4 || n > 6 {
		t.Errorf("%d connections for 20 mails, 5 each", n)
	}
	held := make(chan struct{})
	release := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			tr := bob()
			tr.BeforeDot = func(map[string]*Reply) error { held <- struct{}{}; <-release; return nil }
			s.Send(context.Background(), "two", tr)
		})
	}
	<-held
	<-held
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if res := s.Send(ctx, "two", bob()); !errors.Is(res.Err, ErrBusy) {
		t.Errorf("a third connection: %+v", res)
	}
	close(release)
	wg.Wait()
	if n := len(h.Messages()); n != 22 {
		t.Errorf("%d mails", n)
	}
}

func TestRoute_MailsPerMinute(t *testing.T) {
	t.Parallel()
	h := testenv.NextHop(t)
	s := sender(t, Config{Routes: map[string]Route{"slow": {Hosts: []Host{{Address: h.Addr}}, MaxMailsPerMinute: 2}}})
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if res := s.Send(ctx, "slow", bob()); res.Err != nil {
		t.Fatal(res.Err)
	}
	if res := s.Send(ctx, "slow", bob()); !errors.Is(res.Err, ErrBusy) {
		t.Errorf("the second at once: %+v", res)
	}
	other := testenv.NextHop(t)
	s.Reload(Config{Routes: map[string]Route{"two": {Hosts: []Host{{h.Addr, 1}, {other.Addr, 2}}, MaxMailsPerMinute: 2}}})
	for range 2 {
		if res := s.Send(ctx, "two", bob()); res.Err != nil {
			t.Error(res.Err)
		}
	}
	if len(h.Messages()) != 2 || len(other.Messages()) != 1 {
		t.Errorf("%d and %d mails, want the second host to help", len(h.Messages()), len(other.Messages()))
	}
}

// TestSend_CallerGone: a caller that does not wait says nothing about the host.
func TestSend_CallerGone(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and never greets
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := sender(t, Config{})
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	if res := s.Send(ctx, l.Addr().String(), bob()); !errors.Is(res.Err, ErrConnect) || s.isAside(l.Addr().String()) {
		t.Errorf("%+v", res)
	}
	ctx, cancel = context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if res := s.Send(ctx, l.Addr().String(), bob()); !errors.Is(res.Err, ErrConnect) || !s.isAside(l.Addr().String()) {
		t.Errorf("%+v", res)
	}
}

// TestPeers_AreBounded: a gateway that sends to the world must not remember all
// of it.
func TestPeers_AreBounded(t *testing.T) {
	t.Parallel()
	s := sender(t, Config{})
	r := Route{}.withDefaults()
	for i := range peersMost + 100 {
		s.leave(s.peer(endpoint{key: fmt.Sprint(i), route: &r}))
	}
	if n := len(s.peers); n > peersMost {
		t.Errorf("%d peers", n)
	}
}

// TestKeep_Idle: what nobody uses is closed after its time, with a goodbye.
func TestKeep_Idle(t *testing.T) {
	t.Parallel()
	h := testenv.NextHop(t)
	s := sender(t, Config{Routes: map[string]Route{"r": {Hosts: []Host{{Address: h.Addr}}, Idle: time.Millisecond}}})
	if res := s.Send(context.Background(), "r", bob()); res.Err != nil {
		t.Fatal(res.Err)
	}
	eventually(t, func() bool { c := h.Commands(); return c[len(c)-1] == "QUIT" })
	pe := s.peers["r "+h.Addr]
	pe.mu.Lock()
	defer pe.mu.Unlock()
	if len(pe.idle) != 0 {
		t.Error("it is still kept")
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not in time")
		}
	}
}
