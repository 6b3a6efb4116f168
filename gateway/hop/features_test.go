package hop

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"mailward/internal/testenv"
)

func TestFeatures_WhatAllHostsOfARouteCarry(t *testing.T) {
	t.Parallel()
	one, two := testenv.NextHop(t), testenv.NextHop(t)
	one.Features("PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "SIZE 2000")
	two.Features("8bitmime", "DSN", "CHUNKING", "SIZE 1000")
	s := New(Config{Hostname: "mx.ours.example"})
	defer s.Close()
	route := one.Addr + ", " + two.Addr
	if f, ok := s.Features(route); ok {
		t.Errorf("known before it was asked: %+v", f)
	}
	if _, err := s.Check(context.Background(), one.Addr); err != nil {
		t.Fatal(err)
	}
	if f, ok := s.Features(route); !ok || f != (Features{SMTPUTF8: true, DSN: true, EightBitMIME: true, Size: 2000}) {
		t.Errorf("one host: %+v %v", f, ok)
	}
	if _, err := s.Check(context.Background(), route); err != nil {
		t.Fatal(err)
	}
	if f, ok := s.Features(route); !ok || f != (Features{DSN: true, EightBitMIME: true, Size: 2000}) {
		t.Errorf("both hosts: %+v %v", f, ok)
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	h := testenv.NextHop(t)
	h.RefuseRcpt("nobody@ours.example", 550)
	h.RefuseRcpt("later@ours.example", 451)
	s := New(Config{Hostname: "mx.ours.example"})
	defer s.Close()
	for _, c := range []struct {
		rcpt string
		code int
	}{{"bob@ours.example", 250}, {"nobody@ours.example", 550}, {"later@ours.example", 451}, {"bob@ours.example", 250}} {
		replies, err := s.Verify(context.Background(), h.Addr, c.rcpt)
		if err != nil || len(replies) != 1 || replies[0].Code != c.code {
			t.Errorf("%s: %v %v", c.rcpt, replies, err)
		}
	}
	h.Fail(testenv.DropAtMail)
	if replies, err := s.Verify(context.Background(), h.Addr, "bob@ours.example"); err == nil || len(replies) > 0 {
		t.Errorf("a hop that breaks off: %v %v", replies, err)
	}
	h.Close()
	if _, err := s.Verify(context.Background(), h.Addr, "bob@ours.example"); !errors.Is(err, ErrConnect) {
		t.Errorf("a hop that is down: %v", err)
	}
	if n := len(h.Messages()); n != 0 {
		t.Errorf("%d mails were sent", n)
	}
}

// TestVerify_Many: in few round trips, and on no connection until the hop has
// had enough of it, as Postfix has after ten refusals.
func TestVerify_Many(t *testing.T) {
	t.Parallel()
	for _, features := range []string{"PIPELINING", "8BITMIME"} {
		h := testenv.NextHop(t)
		h.Features(features)
		s := New(Config{Hostname: "mx.ours.example"})
		defer s.Close()
		var rcpts []string
		for i := range 40 {
			rcpts = append(rcpts, fmt.Sprintf("u%d@ours.example", i))
			if i >= 20 {
				h.RefuseRcpt(rcpts[i], 550)
			}
		}
		replies, err := s.Verify(t.Context(), h.Addr, rcpts...)
		if err != nil || len(replies) != len(rcpts) {
			t.Fatalf("%s: %d replies, %v", features, len(replies), err)
		}
		for i, r := range replies {
			if (r.Code == 250) != (i < 20) {
				t.Errorf("%s: %s: %v", features, rcpts[i], r)
			}
		}
		// 20 refusals, of which no connection has seen ten.
		if n := h.Connections(); n < 3 || n > 6 {
			t.Errorf("%s: %d connections", features, n)
		}
		if replies, err := s.Verify(t.Context(), h.Addr, rcpts[:12]...); err != nil || len(replies) != 12 {
			t.Errorf("%s: again: %v %v", features, replies, err)
		}
	}
}

// TestVerify_BreaksOff: what was heard before counts, and the rest is asked anew
// where the hop went on to answer.
func TestVerify_BreaksOff(t *testing.T) {
	t.Parallel()
	h := testenv.NextHop(t)
	h.RefuseRcpt("b@ours.example", 421)
	s := New(Config{Hostname: "mx.ours.example"})
	defer s.Close()
	replies, err := s.Verify(t.Context(), h.Addr, "a@ours.example", "b@ours.example", "c@ours.example")
	if err == nil || len(replies) != 1 || replies[0].Code != 250 {
		t.Errorf("%v %v", replies, err)
	}
}

// TestSend_RefusalsEndAConnection: a hop that has refused much of us gets the
// next mail on a connection that it has no grudge against.
func TestSend_RefusalsEndAConnection(t *testing.T) {
	t.Parallel()
	h := testenv.NextHop(t)
	s := New(Config{Hostname: "mx.ours.example"})
	defer s.Close()
	h.Features("SIZE") // With PIPELINING, DATA is refused as well.
	h.RefuseRcpt("bob@ours.example", 550)
	for range 2 * refusalsMost {
		s.Send(t.Context(), h.Addr, bob())
	}
	if n := h.Connections(); n != 2 {
		t.Errorf("%d connections for %d refusals", n, 2*refusalsMost)
	}
}

// TestSend_WantsTLS: a hop that wants TLS or a login first has not refused the mail.
func TestSend_WantsTLS(t *testing.T) {
	t.Parallel()
	h := testenv.NextHop(t)
	h.Say("MAIL", "530 5.7.0 Must issue a STARTTLS command first\r\n")
	s := New(Config{Hostname: "mx.ours.example"})
	defer s.Close()
	var no *Reply
	if res := s.Send(t.Context(), h.Addr, bob()); !errors.Is(res.Err, ErrConnect) || errors.As(res.Err, &no) {
		t.Errorf("%+v", res)
	}
}

// TestSend_AnotherHostCarriesIt: what one host of a route cannot carry is offered
// to the others, and is not refused for good while one of them is away.
func TestSend_AnotherHostCarriesIt(t *testing.T) {
	t.Parallel()
	small, large := testenv.NextHop(t), testenv.NextHop(t)
	small.Features("PIPELINING", "SIZE 1000")
	large.Features("PIPELINING", "8BITMIME")
	s := New(Config{Hostname: "mx.ours.example"})
	defer s.Close()
	big := func() Transfer { m := bob(); m.Size = 5000; return m }
	route := small.Addr + ", " + large.Addr
	if res := s.Send(t.Context(), route, big()); res.Err != nil || res.Host != large.Addr {
		t.Errorf("%+v", res)
	}
	large.Close()
	if res := s.Send(t.Context(), route, big()); !errors.Is(res.Err, ErrConnect) {
		t.Errorf("the other one is away: %+v", res)
	}
	var no *Reply
	if res := s.Send(t.Context(), small.Addr, big()); !errors.As(res.Err, &no) || no.Code != 552 {
		t.Errorf("no other one: %+v", res)
	}
}

// TestRoute_FewerConnectionsThanPostfixTakes: with both defaults, a Postfix behind
// us turns no connection of ours away (421).
func TestRoute_FewerConnectionsThanPostfixTakes(t *testing.T) {
	t.Parallel()
	const takes = 50 // smtpd_client_connection_count_limit
	r, err := parseHosts("10.0.0.5:25")
	if err != nil || r.MaxConnections >= takes {
		t.Errorf("%d connections, %v", r.MaxConnections, err)
	}
}
