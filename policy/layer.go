package policy

import (
	"cmp"
	"maps"
	"strings"

	"github.com/google/uuid"
)

// The layers of a policy, the lowest first. A line that a layer leaves out
// comes from the one below.
const (
	LayerBuiltIn   = "built-in"
	LayerWorkspace = "workspace"
	LayerDomain    = "domain"
	LayerGroup     = "group"
)

// Names of lines, as [Policy.Origin] takes them. Actions, thresholds, weights
// and engines have a name after the dot: action.spam.
const (
	LineAction    = "action."
	LineThreshold = "threshold."
	LineWeight    = "weight."
	LineEngine    = "engine."
	LineDMARC     = "auth.dmarc"
	LineSealers   = "auth.trusted_arc_sealers"
	LineSandbox   = "sandbox"
	LineDLP       = "dlp_sets"
)

// Origin says which layer a line of a policy comes from.
type Origin struct {
	Layer    string    `json:"layer" enum:"built-in,workspace,domain,group"`
	Name     string    `json:"name,omitempty"` // of the domain or group
	PolicyID uuid.UUID `json:"policy_id,omitzero"`
	Version  int64     `json:"version,omitempty"`
}

// String is the layer in a sentence.
func (o Origin) String() string {
	switch o.Layer {
	case LayerWorkspace:
		return "the policy of the workspace"
	case LayerDomain:
		return "the policy of " + o.Name
	case LayerGroup:
		return "the policy of the group " + o.Name
	}
	return "the built-in default"
}

// origin is where a policy that is a layer itself stands.
func (p Policy) origin(group string) Origin {
	o := Origin{Layer: LayerWorkspace, PolicyID: p.ID, Version: p.Version}
	switch {
	case group != "":
		o.Layer, o.Name = LayerGroup, group
	case p.Domain != "" && p.Domain != "*":
		o.Layer, o.Name = LayerDomain, p.Domain
	}
	return o
}

// Origin says where a line comes from: the highest layer that has it.
func (p Policy) Origin(line string) Origin {
	if p.origins == nil && p.has(line) {
		return p.origin("")
	}
	if o, ok := p.origins[line]; ok {
		return o
	}
	return Origin{Layer: LayerBuiltIn}
}

// has says whether a policy has a line of its own.
func (p Policy) has(line string) bool {
	kind, name, named := strings.Cut(line, ".")
	kind += "."
	switch {
	case named && kind == LineAction:
		return p.Actions[Class(name)] != ""
	case named && kind == LineThreshold:
		return p.Thresholds.of(Class(name)) != 0
	case named && kind == LineWeight:
		_, ok := p.Weights[name]
		return ok
	case named && kind == LineEngine:
		return p.EngineFailure[name] != ""
	}
	switch line {
	case LineDMARC:
		return p.Auth != nil && p.Auth.DMARC != ""
	case LineSealers:
		return p.Auth != nil && p.Auth.TrustedARCSealers != nil
	case LineSandbox:
		return len(p.Sandbox) > 0
	case LineDLP:
		return p.DLPSets != nil
	}
	return false
}

// lines are the names of all lines that a policy has of its own.
func (p Policy) lines() (names []string) {
	for c := range p.Actions {
		names = append(names, LineAction+string(c))
	}
	for w := range p.Weights {
		names = append(names, LineWeight+w)
	}
	for e := range p.EngineFailure {
		names = append(names, LineEngine+e)
	}
	for _, n := range []string{LineThreshold + string(Spam), LineThreshold + string(Phishing), LineIntel, LineDMARC, LineSealers, LineSandbox, LineDLP} {
		if p.has(n) {
			names = append(names, n)
		}
	}
	return names
}

// layer is a policy with the name of its group, if it is a group's.
type layer struct {
	Policy
	group string
}

// layered makes one policy of several layers, the lowest first. It has the id
// and the version of the highest that is there.
func layered(dir Direction, layers ...layer) Policy {
	m := Policy{Domain: "*", Direction: dir, Actions: map[Class]Action{}, origins: map[string]Origin{}}
	for _, l := range layers {
		if l.ID == uuid.Nil {
			continue
		}
		m.ID, m.Workspace, m.Version, m.UpdatedAt = l.ID, l.Workspace, l.Version, l.UpdatedAt
		if l.group == "" {
			m.Domain = l.Domain
		}
		o := l.origin(l.group)
		for _, name := range l.lines() {
			m.origins[name] = o
		}
		m.inherit(l.Policy)
	}
	if m.Auth = m.Auth.over(nil); dir == Outbound {
		m.Auth = nil
	}
	return m
}

// inherit puts a layer's lines on top of those that are there.
func (p *Policy) inherit(l Policy) {
	maps.Copy(p.Actions, l.Actions)
	p.Auth = l.Auth.over(p.Auth)
	p.Thresholds.Spam = cmp.Or(l.Thresholds.Spam, p.Thresholds.Spam)
	p.Thresholds.Phishing = cmp.Or(l.Thresholds.Phishing, p.Thresholds.Phishing)
	p.Thresholds.Intel = cmp.Or(l.Thresholds.Intel, p.Thresholds.Intel)
	p.Weights = overlay(p.Weights, l.Weights)
	p.EngineFailure = overlay(p.EngineFailure, l.EngineFailure)
	if len(l.Sandbox) > 0 {
		p.Sandbox = l.Sandbox
	}
	if l.DLPSets != nil {
		p.DLPSets = l.DLPSets
	}
}

// overlay is a new map with what is in either, top first.
func overlay[V any](base, top map[string]V) map[string]V {
	if len(top) == 0 {
		return base
	}
	merged := maps.Clone(top)
	for k, v := range base {
		if _, is := top[k]; !is {
			merged[k] = v
		}
	}
	return merged
}
