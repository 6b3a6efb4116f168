package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"mailward/internal/testenv"
)

const zone = `
example.org.       300 IN SOA ns.example.org. h.example.org. 1 2 3 4 30
example.org.       300 IN TXT "one" " two"
example.org.       300 IN TXT "a\"b\009c\\d"
example.org.       300 IN MX 20 b.example.org.
example.org.       300 IN MX 10 a.example.org.
a.example.org.     300 IN A 192.0.2.1
a.example.org.     300 IN AAAA 2001:db8::1
b.example.org.     300 IN A 192.0.2.2
www.example.org.   300 IN CNAME a.example.org.
dangling.example.org. 300 IN CNAME gone.example.org.
empty.example.org. 300 IN CNAME example.org.
null.example.org.  300 IN MX 0 .
odd\ name.example.org. 300 IN A 192.0.2.9
1.2.0.192.in-addr.arpa. 300 IN PTR a.example.org.
`

// resolver asks the given servers, quickly.
func resolver(t *testing.T, servers ...*testenv.DNSServer) *Resolver {
	t.Helper()
	cfg := Config{Try: 250 * time.Millisecond}
	for _, s := range servers {
		cfg.Servers = append(cfg.Servers, s.Addr)
	}
	r, err := New(cfg, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestLookup(t *testing.T) {
	t.Parallel()
	r := resolver(t, testenv.DNS(t, zone))
	ctx := t.Context()
	for _, tt := range []struct {
		name string
		ask  func() (any, error)
		want string
	}{
		{"txt", func() (any, error) {
			v, err := r.LookupTXT(ctx, "EXAMPLE.org")
			slices.Sort(v)
			return fmt.Sprintf("%q", v), err
		}, `["a\"b\tc\\d" "one two"]`},
		{"mx", func() (any, error) {
			v, err := r.LookupMX(ctx, "example.org.")
			return len(v) == 2 && *v[0] == net.MX{Host: "a.example.org.", Pref: 10} && v[1].Pref == 20, err
		}, "true"},
		{"null mx", func() (any, error) { v, err := r.LookupMX(ctx, "null.example.org"); return v[0].Host, err }, "."},
		{"addresses", func() (any, error) { return r.LookupIPAddr(ctx, "a.example.org") }, "[{192.0.2.1 } {2001:db8::1 }]"},
		{"one family only", func() (any, error) { return r.LookupIPAddr(ctx, "b.example.org") }, "[{192.0.2.2 }]"},
		{"an address", func() (any, error) { return r.LookupIPAddr(ctx, "192.0.2.77") }, "[{192.0.2.77 }]"},
		{"through a CNAME", func() (any, error) { return r.LookupNetIP(ctx, "ip4", "www.example.org") }, "[192.0.2.1]"},
		{"family that is not there", func() (any, error) { return r.LookupNetIP(ctx, "ip6", "b.example.org") }, "no data"},
		{"odd bytes", func() (any, error) { return r.LookupNetIP(ctx, "ip4", "odd name.example.org") }, "[192.0.2.9]"},
		{"ptr", func() (any, error) { return r.LookupAddr(ctx, "192.0.2.1") }, "[a.example.org.]"},
		{"no such name", func() (any, error) { return r.LookupTXT(ctx, "nothing.example.org") }, "no name"},
		{"no such name behind a CNAME", func() (any, error) { return r.LookupTXT(ctx, "dangling.example.org") }, "no name"},
		{"no such record", func() (any, error) { return r.LookupMX(ctx, "a.example.org") }, "no data"},
		{"no such record behind a CNAME", func() (any, error) { return r.LookupMX(ctx, "www.example.org") }, "no data"},
		{"no record of a name with others below", func() (any, error) { return r.LookupMX(ctx, "org") }, "no data"},
		{"empty name", func() (any, error) { return r.LookupTXT(ctx, "") }, "no name"},
		{"empty label", func() (any, error) { return r.LookupTXT(ctx, "a..example.org") }, "no name"},
		{"long label", func() (any, error) { return r.LookupTXT(ctx, strings.Repeat("a", 64)+".org") }, "no name"},
		{"long name", func() (any, error) { return r.LookupTXT(ctx, strings.Repeat("a.", 130)+"org") }, "no name"},
		{"escape", func() (any, error) { return r.LookupTXT(ctx, `a\.example.org`) }, "no name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, err := tt.ask()
			got := fmt.Sprint(v)
			if err != nil {
				got = kind(t, err)
			}
			if got != tt.want {
				t.Errorf("got %s (%v), want %s", got, err, tt.want)
			}
		})
	}
}

// kind says what an error is to those who look at it as SPF does: by a type
// assertion on net.DNSError.
func kind(t *testing.T, err error) string {
	t.Helper()
	d, ok := err.(*net.DNSError)
	switch {
	case !ok:
		t.Fatalf("not a *net.DNSError: %T %v", err, err)
	case d.IsNotFound && (d.IsTemporary || d.IsTimeout):
		t.Fatalf("not found and temporary: %+v", d)
	case errors.Is(err, ErrNoName):
		return "no name"
	case errors.Is(err, ErrNoData):
		return "no data"
	case d.IsTimeout && d.Temporary():
		return "timeout"
	case d.Temporary():
		return "trouble"
	}
	return "permanent"
}

func TestLookup_Faults(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault testenv.DNSFault
		want  string
	}{
		"servfail":       {testenv.DNSServFail, "trouble"},
		"refused":        {testenv.DNSRefused, "trouble"},
		"no EDNS":        {testenv.DNSFormErr, "ok"},
		"silent":         {testenv.DNSSilent, "timeout"},
		"truncated":      {testenv.DNSTruncate, "ok"},
		"always cut off": {testenv.DNSTruncateAll, "trouble"},
		"wrong ID":       {testenv.DNSWrongID, "timeout"},
		"wrong question": {testenv.DNSWrongQuestion, "timeout"},
		"garbage":        {testenv.DNSGarbage, "trouble"},
		"stray answer":   {testenv.DNSStray, "ok"},
		"referral":       {testenv.DNSReferral, "trouble"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testenv.DNS(t, zone)
			s.Fail("example.org", tt.fault)
			r := resolver(t, s)
			got := "ok"
			v, err := r.LookupTXT(t.Context(), "example.org")
			if err != nil {
				got = kind(t, err)
			}
			if got != tt.want || err == nil && len(v) != 2 {
				t.Errorf("%v: got %s (%v), want %s", v, got, err, tt.want)
			}
			// One name's trouble is not another's.
			if _, err := r.LookupIPAddr(t.Context(), "a.example.org"); err != nil {
				t.Errorf("another name: %v", err)
			}
		})
	}
}

// A family that cannot be asked is no reason to say that there is no host.
func TestLookupIPAddr_OneFamilyInTrouble(t *testing.T) {
	t.Parallel()
	s := testenv.DNS(t, zone)
	s.Fail("AAAA a.example.org", testenv.DNSServFail)
	s.Fail("A b.example.org", testenv.DNSServFail)
	r := resolver(t, s)
	if v, err := r.LookupIPAddr(t.Context(), "a.example.org"); err != nil || len(v) != 1 {
		t.Errorf("%v %v", v, err)
	}
	if _, err := r.LookupIPAddr(t.Context(), "b.example.org"); err == nil || kind(t, err) != "trouble" {
		t.Errorf("trouble with A, no AAAA: %v", err)
	}
}

func TestLookup_SecondServer(t *testing.T) {
	t.Parallel()
	for _, fault := range []testenv.DNSFault{testenv.DNSServFail, testenv.DNSSilent} {
		first, second := testenv.DNS(t, zone), testenv.DNS(t, zone)
		first.Fail("", fault)
		if _, err := resolver(t, first, second).LookupTXT(t.Context(), "example.org"); err != nil {
			t.Errorf("fault %d: %v", fault, err)
		}
	}
}

func TestCache_FollowsTTLs(t *testing.T) {
	t.Parallel()
	s := testenv.DNS(t, zone)
	s.Fail("broken.example.org", testenv.DNSServFail)
	r := resolver(t, s)
	now := time.Now()
	r.now = func() time.Time { return now }
	for _, tt := range []struct {
		name string
		keep time.Duration
	}{
		{"example.org", 300 * time.Second},
		{"gone.example.org", 30 * time.Second}, // the SOA's minimum
		{"gone.example.net", minTTL},           // no SOA
		{"broken.example.org", troubleTTL},
	} {
		asked := func() int {
			r.LookupTXT(t.Context(), tt.name)
			n := 0
			for _, q := range s.Questions() {
				if q == "TXT "+tt.name+"." {
					n++
				}
			}
			return n
		}
		n := asked()
		now = now.Add(tt.keep - time.Second)
		if got := asked(); got != n {
			t.Errorf("%s: asked again before its time: %d", tt.name, got)
		}
		now = now.Add(2 * time.Second)
		if got := asked(); got <= n {
			t.Errorf("%s: not asked again after its time", tt.name)
		}
	}
}

func TestCache_IsBounded(t *testing.T) {
	t.Parallel()
	c, now := newCache(10, 5000), time.Now()
	for i := range 100 {
		c.put(key{fmt.Sprint(i), 1}, &answer{ttl: time.Minute, size: 100}, now)
		c.get(key{"0", 1}, now)
	}
	if n, bytes := c.len(); n != 10 || bytes != 10*(100+entryCost) {
		t.Errorf("%d entries, %d bytes", n, bytes)
	}
	if c.get(key{"0", 1}, now) == nil || c.get(key{"1", 1}, now) != nil {
		t.Error("not the ones used last are kept")
	}
	c.put(key{"big", 1}, &answer{ttl: time.Minute, size: 4000}, now)
	if _, bytes := c.len(); bytes > 5000 {
		t.Errorf("%d bytes", bytes)
	}
	c.put(key{"huge", 1}, &answer{ttl: time.Minute, size: 6000}, now)
	if n, bytes := c.len(); n != 0 || bytes != 0 {
		t.Errorf("an answer larger than the cache: %d entries, %d bytes", n, bytes)
	}
}

func TestLookup_AskedOnceForAll(t *testing.T) {
	t.Parallel()
	s := testenv.DNS(t, zone)
	r := resolver(t, s)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := r.LookupTXT(t.Context(), "example.org"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(s.Questions()); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestLookup_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := testenv.DNS(t, zone)
	s.Fail("", testenv.DNSSilent)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := resolver(t, s).LookupTXT(ctx, "example.org")
	if err == nil || kind(t, err) != "timeout" || time.Since(start) > 200*time.Millisecond {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

// Mail waits for a dead resolver a few times, not each time; and a sender's dead
// name servers do not make the resolver count as dead.
func TestLookup_DeadResolver(t *testing.T) {
	t.Parallel()
	s := testenv.DNS(t, zone)
	r := resolver(t, s)
	r.cfg.Try = 20 * time.Millisecond
	now := time.Now()
	var mu sync.Mutex
	r.now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	s.Fail("", testenv.DNSSilent)
	s.Fail(".", testenv.DNSServFail) // a resolver without a way out is still there
	for i := range 5 {
		r.LookupTXT(t.Context(), fmt.Sprintf("slow%d.example.net", i))
	}
	if r.servers[0].isQuiet(r.now()) {
		t.Fatal("a resolver that answers for the root counts as dead")
	}
	s.Fail(".", testenv.DNSSilent)
	r.LookupTXT(t.Context(), "a.example.net")
	r.LookupTXT(t.Context(), "b.example.net")
	before := len(s.Questions())
	if _, err := r.LookupTXT(t.Context(), "c.example.net"); err == nil || kind(t, err) != "timeout" {
		t.Errorf("a dead resolver: %v", err)
	}
	if n := len(s.Questions()) - before; n != 0 {
		t.Errorf("asked %d times while it is left alone", n)
	}
	mu.Lock()
	now = now.Add(silentQuiet + time.Second)
	mu.Unlock()
	s.Fail("", testenv.DNSFine)
	r.cfg.Try = time.Second
	if _, err := r.LookupTXT(t.Context(), "example.org"); err != nil {
		t.Errorf("not asked again after a while: %v", err)
	}
}

func TestSecure(t *testing.T) {
	t.Parallel()
	s := testenv.DNS(t, zone+`_25._tcp.a.example.org. IN TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef`)
	ask := func(r *Resolver, name string, qtype uint16) (int, bool, error) {
		rrs, secure, err := r.Secure(t.Context(), name, qtype)
		return len(rrs), secure, err
	}
	if n, secure, err := ask(resolver(t, s), "_25._tcp.a.example.org", miekg.TypeTLSA); n != 1 || secure || err != nil {
		t.Errorf("without AD: %d %v %v", n, secure, err)
	}
	s.SetAD(true)
	r := resolver(t, s)
	if n, secure, err := ask(r, "_25._tcp.a.example.org", miekg.TypeTLSA); n != 1 || !secure || err != nil {
		t.Errorf("with AD: %d %v %v", n, secure, err)
	}
	if n, secure, err := ask(r, "gone.example.org", miekg.TypeTLSA); n != 0 || !secure || !errors.Is(err, ErrNoName) {
		t.Errorf("proof that there is none: %d %v %v", n, secure, err)
	}
	far := resolver(t, s)
	far.servers[0].trusted = false // a resolver somewhere else
	if _, secure, err := ask(far, "_25._tcp.a.example.org", miekg.TypeTLSA); secure || err != nil {
		t.Errorf("AD of a resolver that is not trusted: %v %v", secure, err)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for addr, trusted := range map[string]bool{"127.0.0.1:53": true, "[::1]:53": true, "localhost:53": true, "192.0.2.1:53": false, "dns.example:53": false} {
		r, err := New(Config{Servers: []string{addr}}, nil)
		if err != nil || r.servers[0].trusted != trusted {
			t.Errorf("%s: %v", addr, err)
		}
	}
	if r, err := New(Config{Servers: []string{"192.0.2.1:53"}, TrustAD: true}, nil); err != nil || !r.servers[0].trusted {
		t.Errorf("trust_ad: %v", err)
	}
	if _, err := New(Config{Servers: []string{"192.0.2.1"}}, nil); err == nil {
		t.Error("a server without a port")
	}
	if got := systemServers("/nonexistent"); len(got) != 1 || got[0] != "127.0.0.1:53" {
		t.Errorf("%v", got)
	}
}

// FuzzReply: whatever a server sends, reading it ends and never invents records.
func FuzzReply(f *testing.F) {
	q := question(key{"example.org.", miekg.TypeTXT}, true)
	q.Id = 1
	m := new(miekg.Msg).SetReply(q)
	for _, s := range []string{`example.org. 1 IN TXT "x"`, "example.org. 1 IN CNAME a.example.org.", "a.example.org. 1 IN CNAME example.org."} {
		rr, err := miekg.NewRR(s)
		if err != nil {
			f.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
		raw, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := parseReply(raw, q)
		if err != nil {
			return
		}
		p := readAnswer(m, "example.org.", miekg.TypeTXT)
		for _, rr := range p.rrs {
			if txt, ok := rr.(*miekg.TXT); ok {
				unescape(strings.Join(txt.Txt, ""))
			}
		}
		if len(p.rrs) > len(m.Answer)*(maxChain+1) || p.ttl < 0 || negativeTTL(m) < minTTL {
			t.Errorf("%d records of %d, ttl %v", len(p.rrs), len(m.Answer), p.ttl)
		}
	})
}
