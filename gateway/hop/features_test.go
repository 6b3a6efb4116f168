package hop

import (
	"context"
	"errors"
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
	if f, ok := s.Features(route); !ok || f != (Features{DSN: true, EightBitMIME: true, Size: 1000}) {
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
		rcpt  string
		known bool
		code  int
	}{{"bob@ours.example", true, 250}, {"nobody@ours.example", false, 550}, {"later@ours.example", false, 451}, {"bob@ours.example", true, 250}} {
		known, reply, err := s.Verify(context.Background(), h.Addr, c.rcpt)
		if err != nil || known != c.known || reply.Code != c.code {
			t.Errorf("%s: %v %v %v", c.rcpt, known, reply, err)
		}
	}
	h.Fail(testenv.DropAtMail)
	if known, reply, err := s.Verify(context.Background(), h.Addr, "bob@ours.example"); err == nil || known || reply != nil {
		t.Errorf("a hop that breaks off: %v %v %v", known, reply, err)
	}
	h.Close()
	if _, _, err := s.Verify(context.Background(), h.Addr, "bob@ours.example"); !errors.Is(err, ErrConnect) {
		t.Errorf("a hop that is down: %v", err)
	}
	if n := len(h.Messages()); n != 0 {
		t.Errorf("%d mails were sent", n)
	}
}
