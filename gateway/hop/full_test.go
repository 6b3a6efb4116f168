package hop

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailward/internal/message"
	"mailward/internal/testenv"
)

const full = "421 4.7.0 Error: too many connections from 192.0.2.1\r\n"

// hold sends a mail that does not end before the test says so, and returns when
// the hop waits for that.
func hold(t *testing.T, s *Sender, wg *sync.WaitGroup, route string) (end func()) {
	t.Helper()
	held, release := make(chan struct{}), make(chan struct{})
	tr := bob()
	tr.BeforeDot = func(map[string]*Reply) error { close(held); <-release; return nil }
	wg.Go(func() {
		if res := s.Send(context.Background(), route, tr); res.Err != nil {
			t.Error(res.Err)
		}
	})
	<-held
	return func() { close(release) }
}

// TestSend_HostIsFull: a host that takes fewer connections than we would make gets
// the mail over those that we have, and no more are tried for a while.
func TestSend_HostIsFull(t *testing.T) {
	t.Parallel()
	h := testenv.NextHop(t)
	s := sender(t, Config{})
	var wg sync.WaitGroup
	end := hold(t, s, &wg, h.Addr)
	h.Say("CONNECT", full)
	const others = 3
	for range others {
		wg.Go(func() {
			if res := s.Send(context.Background(), h.Addr, bob()); res.Err != nil {
				t.Error(res.Err)
			}
		})
	}
	pe := s.peers[h.Addr]
	eventually(t, func() bool {
		pe.mu.Lock()
		defer pe.mu.Unlock()
		return pe.blocked == cap(pe.slots)-1
	})
	tried := h.Connections()
	end()
	wg.Wait()
	if n := len(h.Messages()); n != 1+others || tried > 1+others {
		t.Errorf("%d mails, %d connections", n, tried)
	}
	end = hold(t, s, &wg, h.Addr)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if res := s.Send(ctx, h.Addr, bob()); !errors.Is(res.Err, ErrBusy) || h.Connections() != tried {
		t.Errorf("%+v, %d connections, before %d", res, h.Connections(), tried)
	}
	end()
	wg.Wait()
	h.SayNothingElse()
	pe.raise(pe.blocked)
	end = hold(t, s, &wg, h.Addr)
	if res := s.Send(context.Background(), h.Addr, bob()); res.Err != nil || h.Connections() != tried+1 {
		t.Errorf("once it takes more: %+v, %d connections", res, h.Connections())
	}
	end()
	wg.Wait()
	if len(pe.slots) != 0 || pe.used != 0 || len(pe.idle) != 2 {
		t.Errorf("%d slots, %d connections in use, %d kept", len(pe.slots), pe.used, len(pe.idle))
	}
}

// TestSend_HostIsFull_Another: another host of the route is not kept waiting for.
func TestSend_HostIsFull_Another(t *testing.T) {
	t.Parallel()
	one, two := testenv.NextHop(t), testenv.NextHop(t)
	s := sender(t, Config{})
	var wg sync.WaitGroup
	end := hold(t, s, &wg, one.Addr)
	one.Say("CONNECT", full)
	if res := s.Send(context.Background(), one.Addr+","+two.Addr, bob()); res.Err != nil || res.Host != two.Addr {
		t.Errorf("%+v", res)
	}
	two.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	var no *Reply
	if res := s.Send(ctx, one.Addr+","+two.Addr, bob()); res.Err == nil || errors.As(res.Err, &no) && no.Code != 421 {
		t.Errorf("none is free: %+v", res)
	}
	end()
	wg.Wait()
	if res := s.Send(context.Background(), one.Addr+","+two.Addr, bob()); res.Err != nil || res.Host != one.Addr {
		t.Errorf("%+v", res)
	}
}

// TestVerify_HostIsFull: questions wait as well.
func TestVerify_HostIsFull(t *testing.T) {
	t.Parallel()
	h := testenv.NextHop(t)
	s := sender(t, Config{})
	var wg sync.WaitGroup
	end := hold(t, s, &wg, h.Addr)
	h.Say("CONNECT", full)
	wg.Go(func() {
		if replies, err := s.Verify(context.Background(), h.Addr, "bob@ours.example"); err != nil || len(replies) != 1 {
			t.Errorf("%v, %v", replies, err)
		}
	})
	eventually(t, func() bool { return h.Connections() > 1 })
	if list, err := s.Check(context.Background(), h.Addr); err != nil || len(list) != 1 || list[0].Err != nil {
		t.Errorf("Health: %v, %v", list, err)
	}
	end()
	wg.Wait()
	s.Reload(Config{Hostname: "mx.ours.example"}) // gives up the kept connection
	if _, err := s.Check(context.Background(), h.Addr); err == nil {
		t.Error("a host that refuses us and has nothing of ours is well")
	}
}

func TestTooMany(t *testing.T) {
	t.Parallel()
	for no, want := range map[Reply]bool{
		{Code: 552, Enhanced: "5.5.3", Text: "no more"}: true, {Code: 552, Text: "Too many recipients"}: true,
		{Code: 552, Enhanced: "5.2.2", Text: "the recipients' mailbox is full"}: false, {Code: 552, Text: "mailbox full"}: false, {Code: 550, Enhanced: "5.5.3"}: false,
	} {
		if got := tooMany(&no); got != want {
			t.Errorf("%+v: %v", no, got)
		}
	}
}

// TestMAILMAX: RFC 9422 §4.1.
func TestMAILMAX(t *testing.T) {
	t.Parallel()
	h := testenv.NextHop(t)
	h.Features("PIPELINING", "LIMITS RCPTMAX=100 mailmax=2")
	s := sender(t, Config{})
	for range 4 {
		if res := s.Send(context.Background(), h.Addr, bob()); res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	if n := h.Connections(); n != 2 {
		t.Errorf("%d connections for 4 mails, 2 each", n)
	}
	for offered, want := range map[string]int{"": 100, "MAILMAX=": 100, "MAILMAX=0": 100, "MAILMAX=-1": 100, "MAILMAX=x": 100, "MAILMAX=1000": 100, "RCPTMAX=5 MAILMAX=7": 7} {
		c := &conn{features: map[string]string{"LIMITS": offered}}
		if got := c.mailsMost(100); got != want {
			t.Errorf("%q: %d", offered, got)
		}
	}
}

// TestSend_XFORWARD: a hop hears of the client where the route asks for that, by the
// attributes that it takes; its no is no reason to keep the mail.
func TestSend_XFORWARD(t *testing.T) {
	t.Parallel()
	h := testenv.NextHop(t)
	h.Features("PIPELINING", "XFORWARD name ADDR PROTO HELO SOURCE")
	s := sender(t, Config{Routes: map[string]Route{"told": {XForward: true, Hosts: []Host{{Address: h.Addr}}}}})
	send := func(route string, want ...string) {
		t.Helper()
		before := len(h.Commands())
		tr := bob()
		tr.Client = &Client{Addr: netip.MustParseAddr("2001:db8::7"), Helo: "a=b c\r\nDATA", Proto: "ESMTP", Source: "REMOTE", Ident: "not offered"}
		if res := s.Send(context.Background(), route, tr); res.Err != nil {
			t.Fatal(res.Err)
		}
		var got []string
		for _, c := range h.Commands()[before:] {
			if strings.HasPrefix(c, "XFORWARD") {
				got = append(got, c)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q", route, got)
		}
	}
	want := []string{"XFORWARD NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::7", "XFORWARD PROTO=ESMTP HELO=a+3Db+20c+20DATA SOURCE=REMOTE"}
	send("told", want...) // it says 500
	h.Say("XFORWARD", "250 2.0.0 ok\r\n")
	send("told", want...)
	send(h.Addr)
	h.Say("XFORWARD", "421 4.3.2 bye\r\n")
	var no *Reply
	tr := bob()
	tr.Client = &Client{}
	if res := s.Send(context.Background(), "told", tr); !errors.As(res.Err, &no) || no.Code != 421 {
		t.Errorf("%+v", res)
	}
	if n := len(h.Messages()); n != 3 {
		t.Errorf("%d mails", n)
	}
}

// TestBody_HiddenEnd: a line that is a dot once its NULs are gone does not leave,
// wherever a read cuts it.
func TestBody_HiddenEnd(t *testing.T) {
	t.Parallel()
	for text, bad := range map[string]bool{"a\r\n\x00.\r\nb\r\n": true, "a\r\n\x00.": true, "a\r\n.\x00\r\n": true, "a\r\n\x00\r\n.\r\n": false, "a\r\n\x00..\r\n": false} {
		for at := range text {
			if out, err := wire(t, Transfer{Body: cut([]byte(text), at)}); bad != errors.Is(err, message.ErrHiddenEnd) || !bad && err != nil {
				t.Errorf("%q, cut at %d, became %q: %v", text, at, out, err)
			}
		}
	}
}
