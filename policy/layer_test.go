package policy

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
)

func TestLayered(t *testing.T) {
	t.Parallel()
	id := func(n byte) uuid.UUID { return uuid.UUID{15: n} }
	workspace := Policy{ID: id(1), Domain: "*", Version: 3, Actions: map[Class]Action{Spam: Tag, Phishing: Quarantine}, Thresholds: Thresholds{Spam: 4},
		Weights: map[string]float64{"A": 1, "B": 2}, EngineFailure: map[string]Action{AnyEngine: Quarantine}, Auth: &AuthSettings{DMARC: Honour, TrustedARCSealers: []string{"list.example"}}}
	domain := Policy{ID: id(2), Domain: "x.example", Version: 7, Actions: map[Class]Action{Spam: Quarantine}, Weights: map[string]float64{"B": 3}, Auth: &AuthSettings{TrustedARCSealers: []string{}}}
	finance := Policy{ID: id(3), Domain: "*", Group: id(9), Version: 2, Thresholds: Thresholds{Phishing: 2}, Sandbox: json.RawMessage(`{"timeout":"15m"}`), DLPSets: []string{}, EngineFailure: map[string]Action{"clamav": Defer}}
	p := layered(Inbound, layer{Policy: workspace}, layer{Policy: domain}, layer{Policy{}, "empty"}, layer{finance, "Finance"})
	if p.ID != id(3) || p.Version != 2 || p.Domain != "x.example" {
		t.Errorf("id %s, version %d, domain %s", p.ID, p.Version, p.Domain)
	}
	if want := map[Class]Action{Spam: Quarantine, Phishing: Quarantine}; !reflect.DeepEqual(p.Actions, want) {
		t.Errorf("actions %v", p.Actions)
	}
	if p.Thresholds != (Thresholds{Spam: 4, Phishing: 2}) || !reflect.DeepEqual(p.Weights, map[string]float64{"A": 1, "B": 3}) || p.DLPSets == nil || p.Auth.DMARC != Honour || len(p.Auth.TrustedARCSealers) != 0 {
		t.Errorf("%+v, auth %+v", p, p.Auth)
	}
	for line, want := range map[string]string{
		LineAction + "spam": "the policy of x.example", LineAction + "phishing": "the policy of the workspace", LineAction + "malware": "the built-in default",
		LineThreshold + "spam": "the policy of the workspace", LineThreshold + "phishing": "the policy of the group Finance", LineWeight + "A": "the policy of the workspace",
		LineWeight + "B": "the policy of x.example", LineEngine + AnyEngine: "the policy of the workspace", LineEngine + "clamav": "the policy of the group Finance", LineDMARC: "the policy of the workspace",
		LineSealers: "the policy of x.example", LineSandbox: "the policy of the group Finance", LineDLP: "the policy of the group Finance", "nonsense": "the built-in default",
	} {
		if got := p.Origin(line); got.String() != want {
			t.Errorf("%s comes from %s, want %s", line, got, want)
		}
	}
	if workspace.Weights["B"] != 2 || workspace.Actions[Spam] != Tag || domain.Actions[Phishing] != "" {
		t.Error("a layer was changed")
	}
	if out := layered(Outbound, layer{Policy: workspace}); out.Auth != nil {
		t.Errorf("outbound has settings for senders: %+v", out.Auth)
	}
	if none := layered(Inbound); none.Auth.DMARC != QuarantineOnly || none.Origin(LineDMARC).Layer != LayerBuiltIn {
		t.Errorf("no layer at all: %+v", none)
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	groups := []Group{
		{ID: uuid.UUID{1}, Name: "Board", Rank: 10, Members: []string{"CEO@Ours.example", "cfo@ours.example"}},
		{ID: uuid.UUID{2}, Name: "Finance", Members: []string{"fin-*@ours.example", "cfo@ours.example", "hr-*"}},
		{ID: uuid.UUID{3}, Name: "All", Members: []string{"*@ours.example"}},
	}
	for i := range groups {
		if err := groups[i].check(); err != nil {
			t.Fatal(err)
		}
	}
	x := indexGroups(groups)
	for address, want := range map[string]string{
		"ceo@ours.example": "All,Board", "Ceo+News@OURS.example": "All,Board", "cfo@ours.example": "Finance,All,Board", "fin-1@ours.example": "Finance,All",
		"hr-1@other.example": "Finance", "fin-1@other.example": "", "nobody": "", "@ours.example": "", "bob@ours.example.": "All",
	} {
		var got []string
		for _, g := range x.of(address) {
			got = append(got, g.Name)
		}
		if !sameSet(got, strings.Split(want, ",")) || len(got) > 0 && strings.Contains(want, "Board") && got[len(got)-1] != "Board" {
			t.Errorf("%s is in %v, want %s", address, got, want)
		}
	}
	for _, members := range [][]string{nil, {"a b@x.example"}, {"a@b@c"}, {"*"}, {"*@*"}, {strings.Repeat("a", 400)}, {"\x00"}} {
		g := Group{Name: "x", Members: members}
		if g.check() == nil {
			t.Errorf("members %q were taken", members)
		}
	}
}

func sameSet(got, want []string) bool {
	want = slices.DeleteFunc(want, func(s string) bool { return s == "" })
	got = slices.Clone(got)
	slices.Sort(got)
	slices.Sort(want)
	return slices.Equal(got, want)
}

func TestWildcard(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pattern, s string
		want       bool
	}{
		{"a*", "abc", true}, {"*c", "abc", true}, {"a*c", "abc", true}, {"a*c", "ab", false}, {"", "", true}, {"", "a", false}, {"*", "", true}, {"a*b*c", "aXbYbZc", true},
		{"a*b*c", "aXcYb", false}, {"abc", "abc", true}, {"abc", "abcd", false}, {"**a", "bba", true}, {"a**", "a", true}, {"[a]", "a", false}, {"?", "a", false},
	} {
		if got := wildcard(tt.pattern, tt.s); got != tt.want {
			t.Errorf("%q of %q: %v", tt.s, tt.pattern, got)
		}
	}
	// As slow as it gets: no time that explodes.
	if wildcard(strings.Repeat("*a", 100)+"b", strings.Repeat("a", 300)) {
		t.Error("matched")
	}
}
