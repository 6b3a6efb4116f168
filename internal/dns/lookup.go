package dns

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	miekg "github.com/miekg/dns"
)

// key is a question.
type key struct {
	name  string // lower case, with its final dot
	qtype uint16
}

// answer is what is known about a question. It is shared and never changed.
type answer struct {
	rrs    []miekg.RR // of the type asked for, at the end of any CNAMEs
	secure bool
	err    *net.DNSError
	ttl    time.Duration
	size   int // bytes, about
}

func (a *answer) result() (*answer, error) {
	if a.err != nil {
		return a, a.err
	}
	return a, nil
}

// lookup answers from the cache or asks. What comes back besides an error is
// nil, or the answer that there is nothing.
func (r *Resolver) lookup(ctx context.Context, name string, qtype uint16) (*answer, error) {
	fqdn, ok := canonical(name)
	if !ok {
		return nil, &net.DNSError{Err: "no domain name", Name: name, IsNotFound: true, UnwrapErr: ErrNoName}
	}
	k := key{fqdn, qtype}
	if a := r.cache.get(k, r.now()); a != nil {
		r.metrics.hits.Inc()
		return a.result()
	}
	if err := ctx.Err(); err != nil {
		return nil, timeout(name, err)
	}
	f, leader := r.flights.join(k)
	if f == nil {
		r.metrics.queries.WithLabelValues("refused").Inc()
		return nil, &net.DNSError{Err: "too many questions at a time", Name: name, IsTemporary: true}
	}
	if leader {
		// The flight outlives a caller that gives up: its answer is for the
		// others, and for the mail's next try.
		go r.fly(context.WithoutCancel(ctx), k, f)
	}
	select {
	case <-f.done:
		return f.answer.result()
	case <-ctx.Done():
		return nil, timeout(name, ctx.Err())
	}
}

func timeout(name string, cause error) *net.DNSError {
	return &net.DNSError{Err: "no time left", Name: name, IsTimeout: true, IsTemporary: true, UnwrapErr: cause}
}

// canonical is a name as it is asked for; false for what can be no name.
func canonical(name string) (string, bool) {
	if name == "" || len(name) > 254 || strings.Contains(name, `\`) {
		return "", false
	}
	return normal(miekg.Fqdn(name))
}

// normal writes a name the way an answer will have it: in lower case (RFC 4343:
// ASCII only), odd bytes escaped.
func normal(name string) (string, bool) {
	var wire [256]byte
	if _, err := miekg.PackDomainName(name, wire[:], 0, nil, false); err != nil {
		return "", false
	}
	name, _, err := miekg.UnpackDomainName(wire[:], 0)
	if err != nil {
		return "", false
	}
	b := []byte(name)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b), true
}

// fly asks for all who wait for this question.
func (r *Resolver) fly(ctx context.Context, k key, f *flight) {
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	a := r.resolve(ctx, k)
	if !r.cfg.NoCache {
		r.cache.put(k, a, r.now())
	}
	f.answer = a
	r.flights.leave(k)
	close(f.done)
}

// resolve asks, and follows CNAMEs that the resolver did not follow itself.
func (r *Resolver) resolve(ctx context.Context, k key) *answer {
	secure, ttl, size := true, maxTTL, 0
	name := k.name
	for range maxChain {
		m, trusted, err := r.ask(ctx, key{name, k.qtype})
		if err != nil {
			return &answer{err: trouble(k.name, err), ttl: troubleTTL}
		}
		secure = secure && trusted && m.AuthenticatedData
		size += m.Len()
		p := readAnswer(m, name, k.qtype)
		ttl = min(ttl, p.ttl)
		switch {
		case p.bad:
			return &answer{err: &net.DNSError{Err: "bad CNAMEs in the answer", Name: k.name, IsTemporary: true}, ttl: troubleTTL}
		case len(p.rrs) > 0:
			return &answer{rrs: p.rrs, secure: secure, ttl: max(ttl, minTTL), size: size}
		case m.Rcode == miekg.RcodeNameError:
			return &answer{err: notFound(k.name, ErrNoName), secure: secure, ttl: max(min(ttl, negativeTTL(m)), minTTL), size: size}
		case isReferral(m):
			// It knows who could be asked, and did not: it resolves nothing.
			return &answer{err: &net.DNSError{Err: "the resolver answers with a referral", Name: k.name, IsTemporary: true}, ttl: troubleTTL}
		case p.end == name || isReferralEnd(m):
			return &answer{err: notFound(k.name, ErrNoData), secure: secure, ttl: max(min(ttl, negativeTTL(m)), minTTL), size: size}
		}
		name = p.end
	}
	return &answer{err: &net.DNSError{Err: "too many CNAMEs", Name: k.name, IsTemporary: true}, ttl: troubleTTL}
}

// isReferralEnd: with a SOA the resolver followed the chain itself, and says
// that its end has nothing of this kind (RFC 2308 §2.2).
func isReferralEnd(m *miekg.Msg) bool {
	return slices.ContainsFunc(m.Ns, func(rr miekg.RR) bool { return rr.Header().Rrtype == miekg.TypeSOA })
}

// isReferral: nothing but the names of other servers (RFC 2308 §2.2).
func isReferral(m *miekg.Msg) bool {
	return len(m.Answer) == 0 && !m.Authoritative && !m.RecursionAvailable && !isReferralEnd(m) &&
		slices.ContainsFunc(m.Ns, func(rr miekg.RR) bool { return rr.Header().Rrtype == miekg.TypeNS })
}

func notFound(name string, why error) *net.DNSError {
	return &net.DNSError{Err: "no such host", Name: name, IsNotFound: true, UnwrapErr: why}
}

func trouble(name string, err error) *net.DNSError {
	d := &net.DNSError{Err: err.Error(), Name: name, IsTemporary: true, UnwrapErr: err}
	var ne net.Error
	if errors.Is(err, errSilent) || errors.As(err, &ne) && ne.Timeout() {
		d.IsTimeout = true
	}
	return d
}

// picked is what an answer section says about one name.
type picked struct {
	rrs []miekg.RR
	end string // the last name of the chain of CNAMEs
	ttl time.Duration
	bad bool
}

// readAnswer follows the CNAMEs of a section from name on. Records that do not
// belong to the chain are not looked at: nobody asked for them.
func readAnswer(m *miekg.Msg, name string, qtype uint16) picked {
	p := picked{end: name, ttl: maxTTL}
	for range maxChain + 1 {
		var next string
		for _, rr := range m.Answer {
			h := rr.Header()
			if h.Class != miekg.ClassINET || !strings.EqualFold(h.Name, p.end) {
				continue
			}
			ttl := time.Duration(h.Ttl) * time.Second
			if h.Rrtype == qtype {
				p.rrs, p.ttl = append(p.rrs, rr), min(p.ttl, ttl)
			} else if c, ok := rr.(*miekg.CNAME); ok && next == "" {
				next, p.ttl = c.Target, min(p.ttl, ttl)
			}
		}
		if len(p.rrs) > 0 || next == "" {
			return p
		}
		if p.end, _ = normal(next); p.end == "" {
			return picked{bad: true}
		}
	}
	return picked{bad: true}
}

// negativeTTL is how long "there is none" may be believed (RFC 2308 §5). An
// answer without a SOA is not worth keeping, but one mail asks often.
func negativeTTL(m *miekg.Msg) time.Duration {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*miekg.SOA); ok {
			ttl := time.Duration(min(soa.Hdr.Ttl, soa.Minttl)) * time.Second
			return min(max(ttl, minTTL), maxNegativeTTL)
		}
	}
	return minTTL
}

// sortMX sorts by preference, and mixes those of one preference (RFC 5321 §5.1).
func sortMX(list []*net.MX) {
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	slices.SortStableFunc(list, func(a, b *net.MX) int { return int(a.Pref) - int(b.Pref) })
}

// unescape turns the presentation form, in which miekg keeps TXT, into bytes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '\\' || i+1 >= len(s):
			b.WriteByte(s[i])
		case i+3 < len(s) && isDigits(s[i+1:i+4]):
			b.WriteByte((s[i+1]-'0')*100 + (s[i+2]-'0')*10 + s[i+3] - '0')
			i += 3
		default:
			i++
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func isDigits(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) < 0
}

// flights are the questions that are being asked, each once for all who wait.
type flights struct {
	mu   sync.Mutex // guards list
	list map[key]*flight
}

type flight struct {
	done   chan struct{} // closed once answer is set
	answer *answer
}

// join returns the flight for k and whether the caller has to start it; nil
// where too many are under way.
func (f *flights) join(k key) (*flight, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl, ok := f.list[k]; ok {
		return fl, false
	}
	if len(f.list) >= maxWaiting {
		return nil, false
	}
	if f.list == nil {
		f.list = map[key]*flight{}
	}
	fl := &flight{done: make(chan struct{})}
	f.list[k] = fl
	return fl, true
}

func (f *flights) leave(k key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.list, k)
}
