package mailauth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// refreshEvery is how soon a key that was published, a new version in
	// OpenBao or a record that went away is noticed. The resolver's cache stands before DNS.
	refreshEvery = time.Minute
	// lookupsAtOnce bounds what a refresh asks of the resolver: mail goes first.
	lookupsAtOnce = 4
)

// keySet is all keys at one moment. It is never changed, only replaced, so mail
// is signed without a lock.
type keySet struct {
	cfg     SignConfig
	domains map[string]*ring
	seal    *ring
}

// ring is the keys of one domain, the oldest first.
type ring struct {
	domain string
	files  []*signKey // of cfg order; read once
	keys   []*signKey // all
	err    error      // why some are missing
}

// readFiles opens the keys in files. Those in OpenBao follow with the first refresh.
func readFiles(cfg SignConfig) (*keySet, error) {
	s := &keySet{cfg: cfg, domains: map[string]*ring{}}
	var errs []error
	read := func(d DomainKeys) *ring {
		r := &ring{domain: strings.ToLower(d.Domain)}
		for _, c := range d.Keys {
			if !strings.HasPrefix(c.Source, "file:") {
				r.err = errors.New("OpenBao was not asked yet")
				continue
			}
			k, err := fileKey(d.Domain, c)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			r.files = append(r.files, k)
		}
		r.keys = byAge(slices.Clone(r.files))
		return r
	}
	for _, d := range cfg.Domains {
		s.domains[strings.ToLower(d.Domain)] = read(d)
	}
	if cfg.Seal != nil {
		s.seal = read(*cfg.Seal)
	}
	return s, errors.Join(errs...)
}

// byAge sorts the oldest first. Without dates the order of the configuration
// and of the versions stands.
func byAge(keys []*signKey) []*signKey {
	slices.SortStableFunc(keys, func(a, b *signKey) int { return a.notBefore.Compare(b.notBefore) })
	return keys
}

// all is every ring of the set.
func (s *keySet) all() []*ring {
	var rings []*ring
	for _, d := range s.cfg.Domains {
		if r := s.domains[strings.ToLower(d.Domain)]; r != nil {
			rings = append(rings, r)
		}
	}
	if s.seal != nil {
		rings = append(rings, s.seal)
	}
	return rings
}

// remember takes over what an earlier set knew of the same keys.
func (s *keySet) remember(old *keySet) {
	if old == nil {
		return
	}
	var known []*signKey
	for _, r := range old.all() {
		known = append(known, r.keys...)
	}
	for _, r := range s.all() {
		for i, k := range r.keys {
			if at := slices.IndexFunc(known, func(o *signKey) bool { return sameKey(k, o) }); at >= 0 {
				k := *k
				k.published, k.reason, k.checked = known[at].published, known[at].reason, known[at].checked
				r.keys[i] = &k
			}
		}
	}
}

// refreshed asks OpenBao and DNS and returns the set as it is now. Trouble with
// either keeps what was known.
func (s *keySet) refreshed(ctx context.Context) *keySet {
	next := &keySet{cfg: s.cfg, domains: map[string]*ring{}}
	for _, d := range s.cfg.Domains {
		name := strings.ToLower(d.Domain)
		next.domains[name] = s.domains[name].expanded(ctx, s.cfg.Transit, d)
	}
	if s.seal != nil {
		next.seal = s.seal.expanded(ctx, s.cfg.Transit, *s.cfg.Seal)
	}
	next.remember(s)
	next.lookUp(ctx)
	return next
}

// expanded is the ring with the versions that OpenBao has now.
func (r *ring) expanded(ctx context.Context, t Transit, d DomainKeys) *ring {
	next := &ring{domain: r.domain, files: r.files}
	var errs []error
	files := r.files
	for _, c := range d.Keys {
		if !strings.HasPrefix(c.Source, "bao:") {
			next.keys, files = append(next.keys, files[0]), files[1:]
			continue
		}
		keys, err := transitKeys(ctx, t, d.Domain, c)
		if err != nil {
			errs = append(errs, err)
			for _, k := range r.keys {
				if k.source == c.Source && strings.HasPrefix(k.selector, c.Selector+"v") {
					keys = append(keys, k)
				}
			}
		}
		next.keys = append(next.keys, keys...)
	}
	next.keys, next.err = byAge(next.keys), errors.Join(errs...)
	return next
}

// lookUp asks DNS for all keys. They are in nobody else's hands yet.
func (s *keySet) lookUp(ctx context.Context) {
	if s.cfg.DNS == nil {
		return
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, lookupsAtOnce)
	for _, r := range s.all() {
		for i := range r.keys {
			wg.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				r.keys[i] = r.keys[i].lookedUp(ctx, s.cfg.DNS, s.cfg.Now())
			})
		}
	}
	wg.Wait()
}

// lookedUp is the key with what DNS says of it. DNS trouble keeps the last answer.
func (k *signKey) lookedUp(ctx context.Context, dns Resolver, now time.Time) *signKey {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	pub, err := lookupKey(ctx, dns, k.domain, k.selector)
	next := *k
	switch {
	case errors.Is(err, errTemporary):
		if k.published != pubThere {
			next.reason = "DNS gave no answer"
		}
		return &next
	case err != nil:
		next.published, next.reason = pubMissing, note(err)
	default:
		next.published, next.reason = pubMissing, "another key is published"
		own, err := parseKeyRecord(k.record)
		if err == nil && own.alg == pub.alg && samePublic(own.key, pub.key) {
			next.published, next.reason = pubThere, ""
		}
	}
	next.checked = now
	return &next
}

// active is the keys to sign with now: of each algorithm the newest that is
// published. A key that nobody can look up is not used: its signatures would
// fail at every receiver. sure is false where none is known as published; then
// it is the oldest, which has had the longest time to be published.
func (r *ring) active(now time.Time) (keys []*signKey, sure bool) {
	for _, alg := range []string{algRSA, algEd25519} {
		var best *signKey
		for _, k := range r.keys {
			if k.alg != alg || k.published != pubThere || now.Before(k.notBefore) {
				continue
			}
			// Past its time, but published: better than nothing.
			if best == nil || !k.expired(now) || best.expired(now) {
				best = k
			}
		}
		if best != nil {
			keys = append(keys, best)
		}
	}
	// An expired key only signs where no other does.
	if slices.ContainsFunc(keys, func(k *signKey) bool { return !k.expired(now) }) {
		keys = slices.DeleteFunc(keys, func(k *signKey) bool { return k.expired(now) })
	}
	if len(keys) > 0 {
		return keys, true
	}
	for _, want := range []publication{pubUnknown, pubMissing} {
		for _, k := range r.keys {
			if k.published == want && !now.Before(k.notBefore) && !k.expired(now) {
				return []*signKey{k}, false
			}
		}
	}
	return nil, false
}

func (k *signKey) expired(now time.Time) bool { return !k.notAfter.IsZero() && !now.Before(k.notAfter) }

// KeyStatus is one key for an operator.
type KeyStatus struct {
	Domain    string    `json:"domain"`
	Selector  string    `json:"selector"`
	Use       string    `json:"use"` // dkim, arc
	Algorithm string    `json:"algorithm"`
	Active    bool      `json:"active"`    // signs now
	Published string    `json:"published"` // yes, no, unknown
	Reason    string    `json:"reason,omitempty"`
	Checked   time.Time `json:"checked,omitzero"` // when DNS answered last
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	Name      string    `json:"name"`   // where the record belongs
	Record    string    `json:"record"` // what to publish there
}

func (p publication) String() string {
	return [...]string{"unknown", "no", "yes"}[p]
}

// status lists a ring's keys. A ring whose keys OpenBao does not tell has one
// line that says so.
func (r *ring) status(use string, now time.Time) []KeyStatus {
	active, _ := r.active(now)
	var out []KeyStatus
	for _, k := range r.keys {
		out = append(out, KeyStatus{
			Domain: k.domain, Selector: k.selector, Use: use, Algorithm: k.alg, Active: slices.Contains(active, k),
			Published: k.published.String(), Reason: k.reason, Checked: k.checked, NotBefore: k.notBefore, NotAfter: k.notAfter,
			Name: fmt.Sprintf("%s._domainkey.%s.", k.selector, k.domain), Record: k.record,
		})
	}
	if r.err != nil {
		out = append(out, KeyStatus{Domain: r.domain, Use: use, Published: pubUnknown.String(), Reason: note(r.err)})
	}
	return out
}
