package main

import (
	"fmt"
	"strings"
)

// What Mailward wants to reach, in ratios of one run.
const (
	goalClamd    = 1.0 // of the rate of clamd alone
	goalRepeated = 1.4 // the same with repeated attachments
	goalTail     = 1.5 // times the p99 of clamd alone at 32 connections
	goalPostfix  = 1.5 // of the rate of Postfix alone, with engines off
	goalCPU      = 6.0 // CPU seconds of gateway, sidecar and PostgreSQL for 1,000 mails
)

// goals says which ones were reached.
func (m measured) goals() string {
	var b strings.Builder
	say := func(reached bool, format string, args ...any) {
		word := "missed"
		if reached {
			word = "reached"
		}
		fmt.Fprintf(&b, "- %s: %s\n", word, fmt.Sprintf(format, args...))
	}
	for _, s := range m.settings() {
		if s.connections < 8 {
			continue
		}
		at := fmt.Sprintf("%d connections", s.connections)
		if s.per > 1 {
			at += fmt.Sprintf(", %d mails over each", s.per)
		}
		if r := m.ratios(mailwardOff, postfixAlone, s, rateOf); len(r) > 0 {
			say(r.median() >= goalPostfix, "engines off, %s: %s times the rate of Postfix alone (%.1f wanted)", at, r, goalPostfix)
		}
		for _, name := range []string{mailwardWhole, mailwardSplit} {
			if len(m.of(name, s)) > 0 {
				m.goalsOf(name, s, at, say)
			}
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return "\nGoals:\n\n" + b.String()
}

func (m measured) goalsOf(name string, s setting, at string, say func(bool, string, ...any)) {
	want := goalClamd
	if m.repeat > 0 {
		want = goalRepeated
	}
	if r := m.ratios(name, clamdAlone, s, rateOf); len(r) > 0 {
		say(r.median() >= want, "%s, %s: %s times the rate of clamd alone (%.1f wanted)", name, at, r, want)
	}
	if r := m.ratios(name, clamdAlone, s, p99Of); len(r) > 0 && s.connections == 32 {
		say(r.median() < goalTail, "%s, %s: %s times the p99 of clamd alone (under %.1f wanted)", name, at, r, goalTail)
	}
	cpu := m.each(name, s, gatewayCPUOf)
	say(cpu.median() < goalCPU, "%s, %s: %s CPU seconds of gateway, sidecar, PostgreSQL and Redis for 1,000 mails (under %.0f wanted)", name, at, cpu, goalCPU)
	for _, p := range m.peers {
		if !p.scans || p.name == clamdAlone || strings.HasPrefix(p.name, "mailward") || len(m.of(p.name, s)) == 0 {
			continue
		}
		total := perThousand(func(r result) float64 { return r.gatewayCPU() + r.CPU["clamd"] })
		rate, tail, work := m.ratios(name, p.name, s, rateOf), m.ratios(name, p.name, s, p99Of), m.ratios(name, p.name, s, total)
		if len(rate) > 0 && len(tail) > 0 && len(work) > 0 {
			say(rate.median() > 1 && tail.median() < 1 && work.median() < 1, "%s beside %s, %s: %.2f times its rate, %.2f times its p99, %.2f times its CPU", name, p.name, at, rate.median(), tail.median(), work.median())
		}
	}
}
