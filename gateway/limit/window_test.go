package limit

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"mailward/internal/standalone"
	"mailward/internal/testenv"
)

// The script and the Go code are the same sums: any row of events gets the same
// answers.
func TestWindow_ScriptAndProcessAgree(t *testing.T) {
	t.Parallel()
	c := newClock()
	g := guard(t, off(), redisClient(t), c)
	for round := range 20 {
		rng := rand.New(rand.NewPCG(uint64(round), 1))
		l, who := newLocal(), someone().String()
		for step := range 200 {
			// Also a clock that goes back a little.
			c.add(time.Duration(rng.IntN(20_000)-2_000) * time.Millisecond)
			ops := []string{opAdd, opPeek, opForce}
			var entries []entry
			for _, name := range []string{"a", "b", "c"}[:1+rng.IntN(3)] {
				entries = append(entries, entry{subject: subject(name, who), op: ops[rng.IntN(3)], amount: int64(rng.IntN(7)),
					limit: int64(rng.IntN(40)), window: time.Minute, ban: time.Duration(rng.IntN(2)) * 90 * time.Second})
			}
			ids := make([]id, len(entries))
			for i := range entries {
				ids[i] = g.salt.hash(entries[i].subject)
			}
			here := l.take(ids, entries, c.now().UnixMilli())
			there, err := g.counts.take(context.Background(), entries, nil)
			if err != nil {
				t.Fatal(err)
			}
			if here != there {
				t.Fatalf("round %d step %d: process says %d, Redis %d, for %+v", round, step, here, there, entries)
			}
		}
	}
}

// The window slides: what was in the minute before counts by its share.
func TestWindow_Slides(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, rdb *redis.Client) {
		cfg, c, ctx, who := off(), newClock(), context.Background(), someone()
		cfg.PerMinute.Mails = 60
		g := guard(t, cfg, rdb, c)
		c.t = c.t.Truncate(time.Minute).Add(59 * time.Second)
		for i := range 60 {
			if err := g.Mail(ctx, who, "", 0); err != nil {
				t.Fatalf("mail %d: %v", i, err)
			}
		}
		c.add(2 * time.Second) // a new bucket: with fixed windows all 60 would be free
		for i, want := range []string{"", KindMailRate} {
			if k := kindOf(g.Mail(ctx, who, "", 0)); k != want {
				t.Errorf("mail %d after the turn: %q, want %q", i+1, k, want)
			}
		}
		c.add(29 * time.Second) // half of them are gone
		free := 0
		for g.Mail(ctx, who, "", 0) == nil {
			free++
		}
		if free != 29 {
			t.Errorf("half a minute later %d mails are free, want 29", free)
		}
	})
}

func TestLocal_IsBounded(t *testing.T) {
	t.Parallel()
	l := newLocal()
	for i := range maxCounters + 500 {
		var k id
		k[0], k[1], k[2] = byte(i), byte(i>>8), byte(i>>16)
		l.take([]id{k}, []entry{{op: opAdd, amount: 1, limit: 10, window: time.Minute}}, 1)
	}
	if n := l.len(); n != maxCounters {
		t.Errorf("%d counters", n)
	}
	before := l.len()
	l.take([]id{{0xff, 0xff, 0xff, 0xff}}, []entry{{op: opPeek, limit: 1, window: time.Minute}}, 1)
	if l.len() != before {
		t.Error("a look made a counter")
	}
}

// ownRedis is a Redis that this test stops and starts.
type ownRedis struct {
	t     *testing.T
	dir   string
	stack *standalone.Stack
}

func newOwnRedis(t *testing.T) *ownRedis {
	t.Helper()
	testenv.Require(t, "redis-server")
	// A short path, for the socket, that the server's own user may pass through.
	d, err := os.MkdirTemp("", "mwl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(d) })
	if err := os.Chmod(d, 0o755); err != nil {
		t.Fatal(err)
	}
	r := &ownRedis{t: t, dir: filepath.Join(d, "d")}
	r.start()
	t.Cleanup(r.stop)
	return r
}

func (r *ownRedis) start() {
	r.t.Helper()
	s, err := standalone.Start(context.Background(), standalone.Config{DataDir: r.dir, Redis: true, NoSync: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		r.t.Fatal(err)
	}
	r.stack = s
}

func (r *ownRedis) stop() {
	if r.stack != nil {
		r.stack.Stop(context.Background())
		r.stack = nil
	}
}

func (r *ownRedis) client() *redis.Client {
	r.t.Helper()
	opt, err := redis.ParseURL(r.stack.RedisURL)
	if err != nil {
		r.t.Fatal(err)
	}
	c := redis.NewClient(opt)
	r.t.Cleanup(func() { c.Close() })
	return c
}

// eventually waits for a condition, and says what it waited for.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

func TestRedisStopsInTheMiddle(t *testing.T) {
	t.Parallel()
	r := newOwnRedis(t)
	cfg, c, ctx, who := off(), newClock(), context.Background(), someone()
	cfg.PerMinute.Mails, cfg.Connections = 10, 2
	g := guard(t, cfg, r.client(), c)
	mail := func() error { return g.Mail(ctx, who, "", 0) }
	release, err := g.Connect(ctx, who)
	if err != nil {
		t.Fatal(err)
	}
	for range 6 {
		if err := mail(); err != nil {
			t.Fatal(err)
		}
	}
	r.stop()
	for i := range 4 {
		if err := mail(); err != nil {
			t.Fatalf("mail %d without Redis: %v", i, err)
		}
	}
	if k := kindOf(mail()); k != KindMailRate {
		t.Errorf("the process forgot what it counted while Redis was up: %q", k)
	}
	if s := g.Status().Redis; s != "down" {
		t.Errorf("Redis is %q", s)
	}
	second, err := g.Connect(ctx, who)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Connect(ctx, who); kindOf(err) != KindConnections {
		t.Errorf("third connection without Redis: %v", err)
	}
	second()
	r.start()
	eventually(t, "Redis is used again", func() bool { g.Mail(ctx, someone(), "", 0); return g.Status().Redis == "up" })
	g.renew()
	other := guard(t, cfg, r.client(), c)
	if _, err := other.Connect(ctx, who); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Connect(ctx, who); kindOf(err) != KindConnections {
		t.Errorf("the first process' connection is not known again: %v", err)
	}
	release()
	if _, err := other.Connect(ctx, who); err != nil {
		t.Error(err)
	}
}

// proxy is a Redis that can be made to answer never.
type proxy struct{ stalled atomic.Bool }

type proxyConn struct {
	net.Conn
	p *proxy
}

// Write drops what is asked, so no answer will come.
func (c proxyConn) Write(b []byte) (int, error) {
	if c.p.stalled.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func TestRedisHangs(t *testing.T) {
	t.Parallel()
	opt, err := redis.ParseURL(testenv.Redis(t))
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{}
	opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, opt.Network, opt.Addr)
		if err != nil {
			return nil, err
		}
		return proxyConn{c, p}, nil
	}
	rdb := redis.NewClient(opt)
	t.Cleanup(func() { rdb.Close() })
	cfg, ctx := off(), context.Background()
	cfg.PerMinute.Mails = 1000
	cfg.Greylist = DefaultConfig().Greylist
	cfg.Greylist.Enabled = true
	g := guard(t, cfg, rdb, newClock())
	if s := g.Status().Redis; s != "up" {
		t.Fatalf("Redis is %q", s)
	}
	who, known := someone(), someone()
	if k := kindOf(g.Rcpt(ctx, known, "a@a.example", "b@ours.example")); k != KindGreylist {
		t.Fatalf("greylisting in Redis: %q", k)
	}
	p.stalled.Store(true)
	var wg sync.WaitGroup
	begin := time.Now()
	for range 8 {
		wg.Go(func() {
			for range 100 {
				if err := g.Mail(ctx, who, "", 0); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	// 800 events at 50 ms each would be 5 s each worker; the breaker leaves
	// one wait for each retry.
	if d := time.Since(begin); d > 2*time.Second {
		t.Errorf("800 events took %v", d)
	}
	if err := g.Rcpt(ctx, known, "a@a.example", "b@ours.example"); err != nil {
		t.Errorf("without the store nobody is greylisted: %v", err)
	}
	p.stalled.Store(false)
	eventually(t, "Redis is used again", func() bool { g.Mail(ctx, who, "", 0); return g.Status().Redis == "up" })
}

func TestNoRedisAtAll(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	t.Cleanup(func() { rdb.Close() })
	cfg, ctx, who := off(), context.Background(), someone()
	cfg.PerMinute.Mails = 2
	begin := time.Now()
	g := New(cfg, rdb, nil, quiet(), nil)
	defer g.Close()
	for i, want := range []string{"", "", KindMailRate} {
		if k := kindOf(g.Mail(ctx, who, "", 0)); k != want {
			t.Errorf("mail %d: %q, want %q", i, k, want)
		}
	}
	if d := time.Since(begin); d > time.Second {
		t.Errorf("took %v", d)
	}
}

// A caller that leaves is not Redis' trouble.
func TestCanceledCallersDoNotOpenTheBreaker(t *testing.T) {
	t.Parallel()
	g := guard(t, DefaultConfig(), redisClient(t), newClock())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := g.Mail(ctx, someone(), "", 0); err != nil {
		t.Fatal(err)
	}
	if s := g.Status().Redis; s != "up" {
		t.Errorf("Redis is %q", s)
	}
}

func FuzzReversed(f *testing.F) {
	f.Add([]byte{192, 0, 2, 99})
	f.Add(netip.MustParseAddr("2001:db8:1:2:3:4:567:89ab").AsSlice())
	f.Add(netip.MustParseAddr("::ffff:192.0.2.1").AsSlice())
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := netip.AddrFromSlice(b)
		if !ok {
			return
		}
		name := reversed(a)
		if len(name)+maxZone+64 > 340 || !strings.HasSuffix(name, ".") {
			t.Fatalf("%s gives %q", a, name)
		}
		labels := strings.Split(strings.TrimSuffix(name, "."), ".")
		// Read it back.
		for i, j := 0, len(labels)-1; i < j; i, j = i+1, j-1 {
			labels[i], labels[j] = labels[j], labels[i]
		}
		text := strings.Join(labels, ".")
		if len(labels) == 32 {
			text = ""
			for i, l := range labels {
				if i > 0 && i%4 == 0 {
					text += ":"
				}
				text += l
			}
		}
		if back, err := netip.ParseAddr(text); err != nil || back != a.Unmap() {
			t.Fatalf("%s gives %q, which is %v, %v", a, name, back, err)
		}
	})
}

func FuzzSubject(f *testing.F) {
	f.Add("a", "b", "c", "d")
	f.Add("a\x00b", "", "a", "b\x00")
	f.Add("\x01a", "", "\x00", "")
	f.Fuzz(func(t *testing.T, a, b, c, d string) {
		same := a == c && b == d
		if (subject("s", a, b) == subject("s", c, d)) != same {
			t.Fatalf("(%q, %q) and (%q, %q)", a, b, c, d)
		}
		if subject("s", a, b) == subject("s", a+b) {
			t.Fatalf("one part and two: %q, %q", a, b)
		}
		key := newSalt([]byte("x")).key(subject("s", a, b))
		if len(key) != len(keyPrefix)+22 || !harmless(key) {
			t.Fatalf("key %q", key)
		}
	})
}

func FuzzRefusalText(f *testing.F) {
	f.Add("bl.example", "https://bl.example/?1.2.3.4")
	f.Add("bl.example", "x\r\n250 ok")
	f.Fuzz(func(t *testing.T, zone, reason string) {
		if (List{Zone: zone, Weight: 1}).validate() != nil {
			return
		}
		if s := blocked(zone, reason).Error(); !harmless(s) || len(s) > 510 {
			t.Fatalf("%q", s)
		}
	})
}

func FuzzExempt(f *testing.F) {
	f.Add("Postmaster")
	f.Add("abuse@a.example")
	f.Fuzz(func(t *testing.T, rcpt string) {
		l := strings.ToLower(rcpt)
		if Exempt(rcpt) && !strings.HasPrefix(l, "postmaster") && !strings.HasPrefix(l, "abuse") {
			t.Fatalf("%q", rcpt)
		}
	})
}
