package limit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/foxcpp/go-mockdns"
	"github.com/prometheus/client_golang/prometheus"
)

// resolver answers from zones, after a while and with faults if told so.
type resolver struct {
	mockdns.Resolver
	err   error
	hold  chan struct{} // lookups wait for it
	asked atomic.Int64

	mu    sync.Mutex
	names []string
}

func (r *resolver) LookupIPAddr(ctx context.Context, name string) ([]net.IPAddr, error) {
	r.asked.Add(1)
	r.mu.Lock()
	r.names = append(r.names, name)
	r.mu.Unlock()
	if r.hold != nil {
		select {
		case <-r.hold:
		case <-ctx.Done():
			return nil, &net.DNSError{Err: ctx.Err().Error(), Name: name, IsTimeout: true}
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	return r.Resolver.LookupIPAddr(ctx, name)
}

func zones(answers map[string][]string) *resolver {
	z := map[string]mockdns.Zone{}
	for name, a := range answers {
		z[name+"."] = mockdns.Zone{A: a}
	}
	return &resolver{Resolver: mockdns.Resolver{Zones: z}}
}

func dnsblGuard(t *testing.T, cfg Config, r Resolver, log *slog.Logger, c *clock) *Guard {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	g := newGuard(cfg, nil, r, log, prometheus.NewRegistry(), c.now)
	t.Cleanup(g.Close)
	return g
}

func lists(l ...List) Config { return Config{Enabled: true, DNSBL: l, DNSBLThreshold: 1} }

func TestDNSBL_Answers(t *testing.T) {
	t.Parallel()
	const zen = "zen.spamhaus.org"
	a := netip.MustParseAddr
	custom := List{Zone: "bl.example", Weight: 1, Codes: []Code{{Low: a("127.0.0.3")}, {Low: a("127.0.0.8"), High: a("127.0.0.9"), Weight: 5}, {Low: a("127.0.0.1")}}}
	tests := []struct {
		name   string
		list   List
		answer []string
		hit    bool
		status string
	}{
		{"not listed", List{Zone: zen, Weight: 1}, nil, false, "clear"},
		{"SBL", List{Zone: zen, Weight: 1}, []string{"127.0.0.2"}, true, "hit"},
		{"XBL", List{Zone: zen, Weight: 1}, []string{"127.0.0.4"}, true, "hit"},
		{"PBL", List{Zone: zen, Weight: 1}, []string{"127.0.0.10"}, true, "hit"},
		{"PBL of Spamhaus", List{Zone: zen, Weight: 1}, []string{"127.0.0.11"}, true, "hit"},
		{"a code that Spamhaus has not", List{Zone: zen, Weight: 1}, []string{"127.0.0.12"}, false, "clear"},
		{"typing error", List{Zone: zen, Weight: 1}, []string{"127.255.255.252"}, false, "unavailable"},
		{"public resolver", List{Zone: zen, Weight: 1}, []string{"127.255.255.254"}, false, "unavailable"},
		{"too many questions", List{Zone: zen, Weight: 1}, []string{"127.255.255.255"}, false, "unavailable"},
		{"error beside a hit", List{Zone: zen, Weight: 1}, []string{"127.0.0.2", "127.255.255.254"}, false, "unavailable"},
		{"another list, any code", List{Zone: "bl.example", Weight: 1}, []string{"127.0.0.99"}, true, "hit"},
		{"another list, error", List{Zone: "bl.example", Weight: 1}, []string{"127.255.255.254"}, false, "unavailable"},
		{"another list, refused", List{Zone: "bl.example", Weight: 1}, []string{"127.0.0.1"}, false, "unavailable"},
		{"a parked domain", List{Zone: "bl.example", Weight: 1}, []string{"203.0.113.80"}, false, "clear"},
		{"own codes, named", custom, []string{"127.0.0.3"}, true, "hit"},
		{"own codes, range", custom, []string{"127.0.0.9"}, true, "hit"},
		{"own codes, not named", custom, []string{"127.0.0.2"}, false, "clear"},
		{"own codes, 127.0.0.1 named", custom, []string{"127.0.0.1"}, true, "hit"},
		{"upper case and dot", List{Zone: "BL.example.", Weight: 1}, []string{"127.0.0.2"}, true, "hit"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			zone := strings.ToLower(strings.Trim(tt.list.Zone, "."))
			r := zones(map[string][]string{})
			if tt.answer != nil {
				r = zones(map[string][]string{"99.1.51.11." + zone: tt.answer})
			}
			g := dnsblGuard(t, lists(tt.list), r, quiet(), newClock())
			got := g.Listed(context.Background(), netip.MustParseAddr("::ffff:11.51.1.99"))
			if (got != nil) != tt.hit {
				t.Errorf("%v", got)
			}
			if got != nil && got.Error() != "550 5.7.1 Your address is listed by "+zone {
				t.Errorf("%q", got)
			}
			st := g.Status().Lists[0]
			what := map[string]int64{"hit": st.Hits, "clear": st.Asked - st.Hits - st.Unavailable - st.Errors, "unavailable": st.Unavailable}
			if what[tt.status] != 1 || st.Asked != 1 {
				t.Errorf("status %+v", st)
			}
		})
	}
}

func TestDNSBL_Weights(t *testing.T) {
	t.Parallel()
	r := zones(map[string][]string{"1.0.0.11.a.example": {"127.0.0.2"}, "1.0.0.11.b.example": {"127.0.0.2"}, "1.0.0.11.good.example": {"127.0.0.2"}})
	a, b := List{Zone: "a.example", Weight: 2}, List{Zone: "b.example", Weight: 3}
	good, none := List{Zone: "good.example", Weight: -2}, List{Zone: "none.example", Weight: 100}
	tests := []struct {
		lists     []List
		threshold int
		want      string
	}{
		{[]List{a}, 3, ""},
		{[]List{a, b}, 5, "b.example"},
		{[]List{a, b}, 6, ""},
		{[]List{a, b, good}, 4, ""},
		{[]List{a, b, good}, 3, "b.example"},
		{[]List{good}, 1, ""},
		{[]List{none, a}, 2, "a.example"},
	}
	for i, tt := range tests {
		cfg := lists(tt.lists...)
		cfg.DNSBLThreshold = tt.threshold
		got := dnsblGuard(t, cfg, r, quiet(), newClock()).Listed(context.Background(), netip.MustParseAddr("11.0.0.1"))
		if (got != nil) != (tt.want != "") || got != nil && !strings.HasSuffix(got.Text, tt.want) {
			t.Errorf("%d: %v, want %q", i, got, tt.want)
		}
	}
}

func TestDNSBL_IPv6AndReason(t *testing.T) {
	t.Parallel()
	name := "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.a.2.bl.example."
	r := &resolver{Resolver: mockdns.Resolver{Zones: map[string]mockdns.Zone{name: {A: []string{"127.0.0.2"}, TXT: []string{"https://bl.example/why"}}}}}
	g := dnsblGuard(t, lists(List{Zone: "bl.example", Weight: 1}), r, quiet(), newClock())
	got := g.Listed(context.Background(), netip.MustParseAddr("2a01:db8:1:2:3:4:567:89ab"))
	if got == nil || got.Error() != "550 5.7.1 Your address is listed by bl.example: https://bl.example/why" {
		t.Fatalf("%v; asked %v", got, r.names)
	}
	got.Text = "changed" // by a caller; the next one must not see it
	if again := g.Listed(context.Background(), netip.MustParseAddr("2a01:db8:1:2:3:4:567:89ab")); again.Text == "changed" {
		t.Error("the cache was changed from outside")
	}
}

func TestDNSBL_TroubleIsNoHit(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"SERVFAIL": &net.DNSError{Err: "server misbehaving", Name: "secret.name", IsTemporary: true},
		"timeout":  &net.DNSError{Err: "i/o timeout", Name: "secret.name", IsTimeout: true},
		"other":    errors.New("lookup secret.name: broken"),
	} {
		var logged bytes.Buffer
		c := newClock()
		r := zones(nil)
		r.err = err
		g := dnsblGuard(t, lists(List{Zone: "bl.example", Weight: 1}), r, slog.New(slog.NewTextHandler(&logged, nil)), c)
		for range 3 {
			if got := g.Listed(context.Background(), someone4()); got != nil {
				t.Errorf("%s: %v", name, got)
			}
		}
		if n := strings.Count(logged.String(), "\n"); n != 1 {
			t.Errorf("%s: %d warnings within an hour", name, n)
		}
		c.add(dnsblWarn)
		g.Listed(context.Background(), someone4())
		if n := strings.Count(logged.String(), "\n"); n != 2 {
			t.Errorf("%s: %d warnings after an hour", name, n)
		}
		st := g.Status().Lists[0]
		if st.Errors != 4 || st.LastTrouble.IsZero() {
			t.Errorf("%s: %+v", name, st)
		}
		if strings.Contains(logged.String()+st.LastError, "secret") {
			t.Errorf("%s: the name asked for is told: %s", name, logged.String())
		}
	}
}

func TestDNSBL_ASlowListIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	r := zones(map[string][]string{})
	r.hold = make(chan struct{})
	g := dnsblGuard(t, lists(List{Zone: "bl.example", Weight: 1}), r, quiet(), newClock())
	who := someone4()
	name := reversed(who) + "bl.example."
	r.Zones[name] = mockdns.Zone{A: []string{"127.0.0.2"}}
	if _, err := g.Connect(context.Background(), who); err != nil {
		t.Fatal(err)
	}
	eventually(t, "asked since Connect", func() bool { return r.asked.Load() == 1 })
	begin := time.Now()
	if got := g.Listed(context.Background(), who); got != nil {
		t.Errorf("no answer, and %v", got)
	}
	if d := time.Since(begin); d < dnsblWait || d > dnsblWait+time.Second {
		t.Errorf("waited %v", d)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	begin = time.Now()
	if g.Listed(ctx, who); time.Since(begin) > time.Second {
		t.Error("waits for a caller that has left")
	}
	close(r.hold)
	eventually(t, "the late answer counts", func() bool { return g.Listed(context.Background(), who) != nil })
	if n := r.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestDNSBL_AsksOnceAndForgets(t *testing.T) {
	t.Parallel()
	r, c, ctx, who := zones(map[string][]string{}), newClock(), context.Background(), someone4()
	g := dnsblGuard(t, lists(List{Zone: "bl.example", Weight: 1}), r, quiet(), c)
	for range 5 {
		release, _ := g.Connect(ctx, who)
		g.Listed(ctx, who)
		release()
	}
	if n := r.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	c.add(dnsblKeep)
	g.Listed(ctx, who)
	if n := r.asked.Load(); n != 2 {
		t.Errorf("asked %d times after the time was up", n)
	}
	g.Reload(lists(List{Zone: "other.example", Weight: 1}))
	g.Listed(ctx, who)
	if n := r.asked.Load(); n != 3 {
		t.Errorf("asked %d times after a reload", n)
	}
}

func TestDNSBL_IsBounded(t *testing.T) {
	t.Parallel()
	r := zones(map[string][]string{})
	r.hold = make(chan struct{})
	g := dnsblGuard(t, lists(List{Zone: "bl.example", Weight: 1}), r, quiet(), newClock())
	for range dnsblBusy + 50 {
		g.dnsbl.start(someone4())
	}
	begin := time.Now()
	if got := g.Listed(context.Background(), someone4()); got != nil || time.Since(begin) > time.Second {
		t.Errorf("busy: %v after %v", got, time.Since(begin))
	}
	if n := len(g.dnsbl.slots); n != dnsblBusy {
		t.Errorf("%d under way", n)
	}
	begin = time.Now()
	g.Close() // ends them all
	if d := time.Since(begin); d > 2*time.Second {
		t.Errorf("closing took %v", d)
	}
	if n := r.asked.Load(); n > dnsblBusy {
		t.Errorf("%d asked", n)
	}
}

func TestDNSBL_WhoIsNotAsked(t *testing.T) {
	t.Parallel()
	r := zones(map[string][]string{})
	cfg := lists(List{Zone: "bl.example", Weight: 1})
	cfg.Trusted = []netip.Prefix{netip.MustParsePrefix("11.0.0.0/8")}
	g := dnsblGuard(t, cfg, r, quiet(), newClock())
	for _, a := range []string{"127.0.0.1", "::1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.1.1", "100.64.0.1", "0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:10.0.0.1", "11.1.1.1"} {
		g.Listed(context.Background(), netip.MustParseAddr(a))
	}
	g.Listed(context.Background(), netip.Addr{})
	if n := r.asked.Load(); n != 0 {
		t.Errorf("asked for %v", r.names)
	}
	g.Listed(context.Background(), netip.MustParseAddr("12.1.1.1"))
	if n := r.asked.Load(); n != 1 {
		t.Error("a public client is not asked about")
	}
}

func TestDNSBL_KeyStaysSecret(t *testing.T) {
	t.Parallel()
	const key = "sEcReTkEy234"
	who := netip.MustParseAddr("11.0.0.1")
	name := "1.0.0.11." + key + ".zen.dq.spamhaus.net."
	r := &resolver{Resolver: mockdns.Resolver{Zones: map[string]mockdns.Zone{strings.ToLower(name): {A: []string{"127.0.0.2"}, TXT: []string{"see " + strings.ToUpper(key)}}}}}
	l := List{Zone: "zen.dq.spamhaus.net", Weight: 1, Key: func() (string, error) { return key + "\n", nil }}
	g := dnsblGuard(t, lists(l), r, quiet(), newClock())
	got := g.Listed(context.Background(), who)
	if got == nil || got.Error() != "550 5.7.1 Your address is listed by zen.dq.spamhaus.net" {
		t.Errorf("%v; asked for %v", got, r.names)
	}
	for _, bad := range []func() (string, error){
		func() (string, error) { return "", errors.New("no such file") },
		func() (string, error) { return "", nil },
		func() (string, error) { return "a.b", nil },
		func() (string, error) { return strings.Repeat("x", 64), nil },
	} {
		l.Key = bad
		r.asked.Store(0)
		g := dnsblGuard(t, lists(l), r, quiet(), newClock())
		if got := g.Listed(context.Background(), who); got != nil || r.asked.Load() != 0 {
			t.Errorf("%v, asked %d times", got, r.asked.Load())
		}
	}
}

func TestDNSBL_AListThatNamesEverybodyIsNotUsed(t *testing.T) {
	t.Parallel()
	r := zones(map[string][]string{"1.0.0.11.bl.example": {"127.0.0.2"}, "1.0.0.127.bl.example": {"127.0.0.2"}, "2.0.0.127.bl.example": {"127.0.0.2"}})
	c, ctx, who := newClock(), context.Background(), netip.MustParseAddr("11.0.0.1")
	g := dnsblGuard(t, lists(List{Zone: "bl.example", Weight: 1}), r, quiet(), c)
	g.dnsbl.checkList(g.dnsbl.lists[0])
	if got := g.Listed(ctx, who); got != nil {
		t.Errorf("%v", got)
	}
	if st := g.Status().Lists[0]; !st.Suspended || st.NoTestEntry {
		t.Errorf("%+v", st)
	}
	delete(r.Zones, "1.0.0.127.bl.example.")
	delete(r.Zones, "2.0.0.127.bl.example.")
	g.dnsbl.checkList(g.dnsbl.lists[0])
	c.add(dnsblKeep)
	if got := g.Listed(ctx, who); got == nil {
		t.Error("the list is not used again")
	}
	if st := g.Status().Lists[0]; st.Suspended || !st.NoTestEntry {
		t.Errorf("%+v", st)
	}
	// An error teaches nothing.
	g.dnsbl.lists[0].status.Suspended = true
	r.err = &net.DNSError{Err: "x", IsTemporary: true}
	g.dnsbl.checkList(g.dnsbl.lists[0])
	if !g.Status().Lists[0].Suspended {
		t.Error("an error ended the suspension")
	}
}

// The check runs by itself, at the start.
func TestDNSBL_ChecksItsLists(t *testing.T) {
	t.Parallel()
	r := zones(map[string][]string{"1.0.0.127.bl.example": {"127.0.0.2"}})
	g := New(lists(List{Zone: "bl.example", Weight: 1}), nil, r, quiet(), nil)
	defer g.Close()
	eventually(t, "suspended", func() bool { return g.Status().Lists[0].Suspended })
}

func TestRcpt_PostmasterAndAbuseReachUs(t *testing.T) {
	t.Parallel()
	ctx, who := context.Background(), netip.MustParseAddr("11.0.0.1")
	r := zones(map[string][]string{"1.0.0.11.bl.example": {"127.0.0.2"}})
	cfg := lists(List{Zone: "bl.example", Weight: 1})
	cfg.Greylist = DefaultConfig().Greylist
	cfg.Greylist.Enabled = true
	g := dnsblGuard(t, cfg, r, quiet(), newClock())
	for rcpt, want := range map[string]string{
		"postmaster@ours.example": "", "POSTMASTER@ours.example": "", "Postmaster": "", "abuse@ours.example": "", "Abuse@ours.example": "",
		"bob@ours.example": KindDNSBL, "postmaster.bob@ours.example": KindDNSBL, "bob@postmaster": KindDNSBL, "postmaster@x@ours.example": KindDNSBL,
	} {
		if k := kindOf(g.Rcpt(ctx, who, "a@a.example", rcpt)); k != want {
			t.Errorf("%s: %q, want %q", rcpt, k, want)
		}
	}
	if k := kindOf(g.Rcpt(ctx, netip.MustParseAddr("11.0.0.2"), "a@a.example", "bob@ours.example")); k != KindGreylist {
		t.Errorf("not listed: %q", k)
	}
}

func FuzzWeigh(f *testing.F) {
	f.Add([]byte{127, 0, 0, 2}, []byte{127, 255, 255, 254}, "zen.spamhaus.org")
	f.Add([]byte{127, 0, 0, 1}, []byte{8, 8, 8, 8}, "bl.example")
	f.Fuzz(func(t *testing.T, a, b []byte, zone string) {
		var all []netip.Addr
		trouble := false
		for _, s := range [][]byte{a, b} {
			if x, ok := netip.AddrFromSlice(s); ok {
				all = append(all, x.Unmap())
				trouble = trouble || troubles.Contains(x.Unmap())
			}
		}
		l := &listState{List: List{Zone: zone, Weight: 7}}
		w, err := l.weigh(all)
		if w != 0 && w != 7 || (err != nil && w != 0) || (trouble && err == nil) {
			t.Fatalf("%v: %d, %v", all, w, err)
		}
		for _, x := range all {
			if answers.Contains(x) {
				return
			}
		}
		if w != 0 {
			t.Fatal(fmt.Sprint("a hit from outside 127.0.0.0/8: ", all))
		}
	})
}
