package policy

import (
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// served is the domains of each workspace and what they were collected from.
type served struct {
	static *StaticRoutes
	snap   *snapshot
	names  map[uuid.UUID][]string
}

// Served lists the domains that a workspace takes mail for, in lower case. The
// list is shared, as every mail asks for it. It is not to be changed.
func (s *Store) Served(workspace uuid.UUID) []string {
	static, snap := s.static.Load(), s.snap.Load()
	if last := s.served.Load(); last != nil && last.static == static && last.snap == snap {
		return last.names[workspace]
	}
	all := &served{static: static, snap: snap, names: map[uuid.UUID][]string{}}
	names := maps.Clone(static.Domains)
	if snap != nil {
		for n := range snap.domains {
			names[n] = ""
		}
	}
	for _, n := range slices.Sorted(maps.Keys(names)) {
		if r, ok := s.Lookup("postmaster@" + n); ok {
			w := r.Domain.Workspace
			all.names[w] = append(all.names[w], r.Domain.Name)
		}
	}
	s.served.Store(all)
	return all.names[workspace]
}

// Serves says whether an address is one that a workspace takes mail for.
func (s *Store) Serves(address string, workspace uuid.UUID) bool {
	local, _, ok := strings.Cut(address, "@")
	if !ok || local == "" || strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune("<>()[],;:\\\"", r) }) {
		return false
	}
	r, ok := s.Lookup(address)
	return ok && r.Domain.Workspace == workspace
}
