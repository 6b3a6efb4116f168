package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Group is a named list of people of a workspace, who have a policy of their own.
type Group struct {
	ID        uuid.UUID `json:"id"`
	Workspace uuid.UUID `json:"workspace_id"`
	Name      string    `json:"name"`
	// Members are addresses, and patterns: cfo@example.org, sales-*@example.org,
	// or only a local part, for all domains: hr-*.
	Members   []string  `json:"members"`
	Rank      int       `json:"rank"` // of two groups with the same recipient, the higher one counts
	Version   int64     `json:"version"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// Bounds of groups.
const (
	maxGroups     = 200 // of a workspace
	maxMembers    = 2000
	maxGroupName  = 100
	maxRank       = 1000
	maxMemberSize = 320
)

// check brings a group into the form in which it is kept and compared.
func (g *Group) check() error {
	g.Name = strings.Join(strings.Fields(g.Name), " ")
	if g.Name == "" || len(g.Name) > maxGroupName {
		return &InvalidError{"name", fmt.Sprintf("must have 1 to %d characters", maxGroupName)}
	}
	if g.Rank < 0 || g.Rank > maxRank {
		return &InvalidError{"rank", fmt.Sprintf("must be 0 to %d, is %d", maxRank, g.Rank)}
	}
	members := []string{}
	for _, m := range g.Members {
		if m = strings.ToLower(strings.TrimSpace(m)); m == "" || slices.Contains(members, m) {
			continue
		}
		if len(m) > maxMemberSize || strings.ContainsAny(m, " \t\r\n,;<>\"\x00") || strings.Count(m, "@") > 1 || strings.Trim(m, "*@") == "" {
			return &InvalidError{"members", fmt.Sprintf("has %q, which is neither an address nor a pattern like sales-*@example.org", m)}
		}
		members = append(members, m)
	}
	if len(members) == 0 || len(members) > maxMembers {
		return &InvalidError{"members", fmt.Sprintf("must be 1 to %d, are %d", maxMembers, len(members))}
	}
	g.Members = members
	return nil
}

// groupIndex finds the groups of an address. It is never changed once made.
type groupIndex struct {
	exact    map[string][]int // address -> groups
	patterns []memberPattern
	groups   []Group // by rank, the highest last
}

type memberPattern struct {
	local, domain string // domain "" is any
	group         int
}

func indexGroups(groups []Group) *groupIndex {
	x := &groupIndex{exact: map[string][]int{}, groups: slices.Clone(groups)}
	slices.SortStableFunc(x.groups, func(a, b Group) int {
		if a.Rank != b.Rank {
			return a.Rank - b.Rank
		}
		return strings.Compare(b.Name, a.Name) // of two with one rank, the first by name counts
	})
	for i, g := range x.groups {
		for _, m := range g.Members {
			local, domain, full := strings.Cut(m, "@")
			if full && !strings.Contains(m, "*") {
				x.exact[m] = append(x.exact[m], i)
				continue
			}
			x.patterns = append(x.patterns, memberPattern{local, domain, i})
		}
	}
	return x
}

// of lists the groups of an address, the highest last. A detail after + is no
// part of who somebody is (RFC 5233): bob+news@ is in bob@'s groups.
func (x *groupIndex) of(address string) (list []Group) {
	if x == nil || len(x.groups) == 0 {
		return nil
	}
	local, domain, ok := cutAddress(address)
	if !ok {
		return nil
	}
	base, _, _ := strings.Cut(local, "+")
	in := map[int]bool{}
	for _, l := range []string{local, base} {
		for _, i := range x.exact[l+"@"+domain] {
			in[i] = true
		}
	}
	for _, p := range x.patterns {
		if (p.domain == "" || wildcard(p.domain, domain)) && (wildcard(p.local, local) || wildcard(p.local, base)) {
			in[p.group] = true
		}
	}
	for i, g := range x.groups {
		if in[i] {
			list = append(list, g)
		}
	}
	return list
}

// cutAddress splits an address into its local part and its domain, both in
// lower case, the domain in A-labels.
func cutAddress(address string) (local, domain string, ok bool) {
	i := strings.LastIndexByte(address, '@')
	if i < 1 {
		return "", "", false
	}
	domain, err := NormaliseDomain(address[i+1:])
	return strings.ToLower(address[:i]), domain, err == nil
}

// wildcard compares s with a pattern in which * stands for any characters. It
// goes back to the last star only, so its time is bounded by the product of
// both lengths.
func wildcard(pattern, s string) bool {
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && pattern[p] == s[i]:
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
