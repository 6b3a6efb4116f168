package limit

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
)

// maxListed bounds one list of recipients.
const maxListed = 1_000_000

// Lists are the recipients of domains whose admin has written them down, so
// that no next hop has to be asked. The zero value has none.
type Lists struct {
	domains atomic.Pointer[map[string]map[string]bool]
	learned atomic.Pointer[map[string]map[string]bool]
}

// Learn takes what another system says exists: local parts by domain, in lower
// case, "*" for everybody. Whom it does not name is asked about as before. The
// map is the list's from then on; nil forgets.
func (l *Lists) Learn(known map[string]map[string]bool) { l.learned.Store(&known) }

// Load reads one file for each domain: an address or a local part a line, with
// empty lines and lines that begin with # left out. "*" takes everybody. Where
// one cannot be read the old lists stay.
func (l *Lists) Load(files map[string]string) error {
	all := map[string]map[string]bool{}
	var errs []error
	for _, domain := range slices.Sorted(maps.Keys(files)) {
		list, err := readList(strings.ToLower(domain), files[domain])
		if err != nil {
			errs = append(errs, fmt.Errorf("recipients of %s: %w", domain, err))
			continue
		}
		all[strings.ToLower(domain)] = list
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	l.domains.Store(&all)
	return nil
}

func readList(domain, path string) (map[string]bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read list: %w", err)
	}
	defer f.Close()
	list := map[string]bool{}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		entry := strings.ToLower(strings.TrimSpace(lines.Text()))
		if entry == "" || strings.HasPrefix(entry, "#") {
			continue
		}
		local, rest, whole := cutAddress(entry)
		switch {
		case whole && rest != domain:
			return nil, fmt.Errorf("%s:%d: %q is not of this domain", path, n, entry)
		case local == "" || strings.ContainsAny(local, " \t"):
			return nil, fmt.Errorf("%s:%d: %q is no address", path, n, entry)
		case len(list) >= maxListed:
			return nil, fmt.Errorf("%s: more than %d addresses", path, maxListed)
		}
		list[local] = true
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return list, nil
}

// Known says whether a recipient is on the list of its domain. listed is false
// where the domain has no list, and where only another system's list does not
// name it. A detail behind + belongs to the same mailbox
// (RFC 5233).
func (l *Lists) Known(address string) (known, listed bool) {
	if l == nil {
		return false, false
	}
	local, domain, _ := cutAddress(strings.ToLower(address))
	base, _, _ := strings.Cut(local, "+")
	in := func(list map[string]bool) bool { return list[local] || list[base] || list["*"] }
	if all := l.domains.Load(); all != nil {
		if list, listed := (*all)[domain]; listed {
			return in(list), true
		}
	}
	if all := l.learned.Load(); all != nil && in((*all)[domain]) {
		return true, true
	}
	return false, false
}

func cutAddress(a string) (local, domain string, whole bool) {
	if i := strings.LastIndexByte(a, '@'); i >= 0 {
		return a[:i], a[i+1:], true
	}
	return a, "", false
}
