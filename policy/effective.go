package policy

import (
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// Setting is one line of a policy that is in force, and where it comes from.
type Setting struct {
	Line   string `json:"line"`
	Value  string `json:"value"`
	Origin Origin `json:"origin"`
}

// Settings lists all lines that are in force by a policy made of layers: also
// those that no layer sets, with the built-in default.
func (p Policy) Settings() (list []Setting) {
	add := func(line, value string) { list = append(list, Setting{line, value, p.Origin(line)}) }
	for _, c := range Classes() {
		a, from := p.action(c, p.Direction)
		list = append(list, Setting{LineAction + string(c), string(a), from})
	}
	for _, c := range []Class{Spam, Phishing} {
		add(LineThreshold+string(c), number(p.threshold(c)))
	}
	add(LineIntel, number(p.intelFrom()))
	for _, w := range slices.Sorted(maps.Keys(p.Weights)) {
		add(LineWeight+w, number(p.Weights[w]))
	}
	engines := slices.DeleteFunc(slices.Sorted(maps.Keys(p.EngineFailure)), func(e string) bool { return e == AnyEngine })
	for _, e := range append([]string{AnyEngine}, engines...) {
		a, from := p.failureAction([]string{e})
		list = append(list, Setting{LineEngine + e, string(a), from})
	}
	if p.Direction != Outbound {
		settings := p.Auth.over(nil)
		add(LineDMARC, string(settings.DMARC))
		add(LineSealers, strings.Join(settings.TrustedARCSealers, ", "))
	}
	add(LineSandbox, string(p.Sandbox))
	sets := strings.Join(p.DLPSets, ", ")
	if p.DLPSets == nil {
		sets = AllSets
	}
	add(LineDLP, sets)
	return list
}

// AllSets stands for all sets of DLP rules that are enabled.
const AllSets = "*"

// Scope is whose policy is asked for: of a workspace, of one of its domains, of a
// group, or of one address of ours with all that counts for it.
type Scope struct {
	Workspace uuid.UUID
	Domain    string // "" and "*": the workspace's
	Group     uuid.UUID
	Address   string // wins over the others
	Direction Direction
}

// Effective is the policy that is in force in a scope, with the groups of an
// address, the highest last.
func (s *Store) Effective(sc Scope) (Policy, []Group, error) {
	snap := s.snap.Load()
	if snap == nil {
		return Policy{}, nil, ErrNotFound
	}
	if sc.Address != "" {
		r, ok := s.Lookup(sc.Address)
		if !ok || r.Domain.Workspace != sc.Workspace {
			return Policy{}, nil, ErrNotFound
		}
		p, _ := snap.policyFor(r.Domain, sc.Direction, sc.Address)
		return p, snap.groups[sc.Workspace].of(sc.Address), nil
	}
	if sc.Group != uuid.Nil {
		g, ok := s.Group(sc.Group)
		if !ok || g.Workspace != sc.Workspace {
			return Policy{}, nil, ErrNotFound
		}
		base := snap.policies[policyKey{sc.Workspace, "*", uuid.Nil, sc.Direction}]
		own := snap.policies[policyKey{sc.Workspace, "*", g.ID, sc.Direction}]
		return layered(sc.Direction, layer{Policy: base}, layer{own, g.Name}), []Group{g}, nil
	}
	d := Domain{Workspace: sc.Workspace, Name: "*"}
	if sc.Domain != "" && sc.Domain != "*" {
		r, ok := s.Lookup("postmaster@" + sc.Domain)
		if !ok || r.Domain.Workspace != sc.Workspace {
			return Policy{}, nil, ErrNotFound
		}
		d = r.Domain
	}
	p, _ := snap.policyFor(d, sc.Direction, "")
	return p, nil, nil
}
