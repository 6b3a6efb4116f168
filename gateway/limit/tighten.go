package limit

// Tighter says how much tighter the limits are for a while than what is set: the
// answer to an alert. It reads memory only.
type Tighter interface {
	// Tighter gives the number that limits are divided by, 1 for as they are set.
	// trial: nobody is refused for it, it is only counted.
	Tighter() (by int, trial bool)
	// Refused hears of a refusal that only the tighter limits make, or would make.
	// False: they may make no more of them.
	Refused() bool
}

// Tighten has the Guard ask t from now on.
func (g *Guard) Tighten(t Tighter) { g.tighter.Store(&t) }

// tightened counts entries under the limits of now. What is refused although the
// limits that are set would let it pass is told to the Tighter.
func (g *Guard) tightened(count func([]entry) string, entries []entry) string {
	t := g.tighter.Load()
	if t == nil {
		return count(entries)
	}
	by, trial := (*t).Tighter()
	if by <= 1 {
		return count(entries)
	}
	over := g.over(divided(entries, by))
	switch {
	case over == "":
		return count(entries)
	case !trial && (*t).Refused():
		return over
	case !trial:
		return count(entries)
	}
	kind := count(entries)
	if kind == "" {
		(*t).Refused()
	}
	return kind
}

// divided are the entries under tighter limits. What has no limit gets none.
func divided(entries []entry, by int) []entry {
	out := make([]entry, 0, len(entries))
	for _, e := range entries {
		if e.limit > 0 {
			e.limit = max(1, e.limit/int64(by))
			out = append(out, e)
		}
	}
	return out
}

// over says which entry would be refused by what this process has counted, and
// counts nothing: several processes let that much more through.
func (g *Guard) over(entries []entry) string {
	g.local.mu.Lock()
	defer g.local.mu.Unlock()
	ms := g.now().UnixMilli()
	for i := range entries {
		e := &entries[i]
		if g.local.at(g.salt.hash(e.subject), e, ms).refuses(e, ms) {
			return e.kind
		}
	}
	return ""
}
