package main

import (
	"slices"
	"time"

	"github.com/hillu/go-yara/v4"

	"mailward/scanner/sidecar"
)

// culpritStep is for one look at a part of the rules: the least that libyara can.
const culpritStep = time.Second

// culprit finds the rule of a group that takes so long on data, by matching with
// fewer and fewer of them. libyara keeps no books of what a rule costs, unless it
// is built to, at the cost of every scan.
//
// First the namespaces are halved, since no rule depends on one of another. Of
// what is left the rules are halved; those that others build on (private, global)
// stay on meanwhile. Whoever is found has to be slow alone, or nobody is named.
func (m *matcher) culprit(g *group, data []byte, until time.Time) *sidecar.SlowRule {
	all := g.rules.GetRules()
	defer enable(all, func(yara.Rule) bool { return true })
	slow := func(on func(yara.Rule) bool) bool {
		enable(all, on)
		return isTimeout(g.scan(data, culpritStep, time.Time{}, &hits{}))
	}
	var spaces []string
	for _, r := range all {
		if !slices.Contains(spaces, r.Namespace()) {
			spaces = append(spaces, r.Namespace())
		}
	}
	spaces = halve(spaces, until, func(half []string) bool {
		return slow(func(r yara.Rule) bool { return slices.Contains(half, r.Namespace()) })
	})
	if len(spaces) != 1 {
		return &sidecar.SlowRule{}
	}
	out := m.slowSpace(spaces[0])
	inside := func(r yara.Rule) bool { return r.Namespace() == spaces[0] }
	helper := func(r yara.Rule) bool { return r.IsPrivate() || r.IsGlobal() }
	if time.Now().After(until) || !slow(inside) {
		return &sidecar.SlowRule{}
	}
	var names []string
	helpersSlow := slow(func(r yara.Rule) bool { return inside(r) && helper(r) })
	for _, r := range all {
		if inside(r) && helper(r) == helpersSlow {
			names = append(names, r.Identifier())
		}
	}
	with := func(half []string) func(yara.Rule) bool {
		return func(r yara.Rule) bool {
			return inside(r) && (slices.Contains(half, r.Identifier()) || helper(r) && !helpersSlow)
		}
	}
	names = halve(names, until, func(half []string) bool { return slow(with(half)) })
	if len(names) == 1 && time.Now().Before(until) && slow(with(names)) {
		out.Rule = names[0]
	}
	return out
}

// halve narrows a list down to the one that is slow, as far as the time goes.
func halve(list []string, until time.Time, slow func([]string) bool) []string {
	for len(list) > 1 && time.Now().Before(until) {
		half := list[:len(list)/2]
		if slow(half) {
			list = half
		} else {
			list = list[len(list)/2:]
		}
	}
	return list
}

// enable leaves on only the rules that are wanted.
func enable(all []yara.Rule, on func(yara.Rule) bool) {
	for _, r := range all {
		if on(r) {
			r.Enable()
		} else {
			r.Disable()
		}
	}
}

func (m *matcher) slowSpace(space string) *sidecar.SlowRule {
	if set, ok := m.managed[space]; ok {
		return &sidecar.SlowRule{Space: set.Name, Set: set.ID, Version: set.Version}
	}
	return &sidecar.SlowRule{Space: space}
}
