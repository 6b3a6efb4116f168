package limit

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// Resolver is what DNSBLs need of DNS.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error)
}

const (
	// A lease is what a process holds of a client's connections in Redis. One
	// that was killed gives them back when it runs out.
	leaseLength = time.Minute
	leaseRenew  = 20 * time.Second

	window = time.Minute

	// Bad commands of a client over all its sessions.
	badWindow = 10 * time.Minute
	badMost   = 100
	badBan    = 10 * time.Minute

	// A client whose mail we took does not wait for the greeting for so long.
	goodClient  = time.Hour
	goodClients = 20_000
)

// Guard counts and refuses. It is safe for use by many goroutines.
type Guard struct {
	cfg    atomic.Pointer[Config]
	log    *slog.Logger
	now    func() time.Time
	salt   salt   // of this process's own counters
	name   string // of this process in the leases
	local  *local
	redis  *shared
	counts counts
	dnsbl  *dnsbl
	grey   *greylist
	stats  *stats
	// tighter is who says that the limits are tighter for now; nil: nobody.
	tighter atomic.Pointer[Tighter]

	mu    sync.Mutex // guards open and good; never held while Redis is asked
	open  map[netip.Prefix]int
	good  *simplelru.LRU[netip.Prefix, time.Time]
	ctx   context.Context // of what runs in the background; ends with Close
	stop  context.CancelFunc
	wg    sync.WaitGroup
	close sync.Once
}

// New returns a Guard. rdb may be nil, or down; its address is used with a
// connection pool and time limits of the Guard's own. Close ends it.
func New(cfg Config, rdb *redis.Client, dns Resolver, log *slog.Logger, reg prometheus.Registerer) *Guard {
	g := newGuard(cfg, rdb, dns, log, reg, nil)
	g.wg.Go(g.renewLeases)
	g.wg.Go(g.dnsbl.checkLists)
	return g
}

// newGuard does not start what runs by the clock. A clock of a test also rules
// the windows in Redis; without one Redis' own clock does, the one that all
// processes share.
func newGuard(cfg Config, rdb *redis.Client, dns Resolver, log *slog.Logger, reg prometheus.Registerer, clock func() time.Time) *Guard {
	g := &Guard{log: log, now: time.Now, salt: newSalt(nil), name: rand.Text(), local: newLocal(),
		open: map[netip.Prefix]int{}, good: newLRU[netip.Prefix, time.Time](goodClients)}
	redisTime := func() int64 { return 0 }
	if clock != nil {
		g.now = clock
		redisTime = func() int64 { return clock().UnixMilli() }
	}
	// The context is kept, against habit: lookups begin in Connect, and live
	// longer than that call.
	g.ctx, g.stop = context.WithCancel(context.Background())
	g.redis = newShared(rdb, cfg.Secret, log, time.Now)
	g.counts = counts{shared: g.redis, script: script("count"), ms: redisTime}
	g.stats = newStats(reg, g)
	g.dnsbl = newDNSBL(g.ctx, dns, log, g.stats, g.now)
	g.grey = newGreylist(g.redis, redisTime, g.salt, g.now)
	g.Reload(cfg)
	return g
}

// Reload takes new settings. What was counted stays. A new Secret needs a restart.
func (g *Guard) Reload(cfg Config) {
	g.cfg.Store(&cfg)
	g.dnsbl.reload(cfg.DNSBL, cfg.DNSBLThreshold)
}

// Close ends what runs in the background and gives back the leases.
func (g *Guard) Close() {
	g.close.Do(func() {
		g.stop()
		g.wg.Wait()
		g.dnsbl.close()
		g.redis.close()
	})
}

// free says whether there are no limits for a client. One without an address
// came over a Unix socket, from this machine.
func (g *Guard) free(cfg *Config, client netip.Addr) bool {
	return !cfg.Enabled || !client.IsValid() || cfg.trusts(client)
}

// Connect is asked before the greeting. release, which is never nil, is to be
// called when the connection ends. A refusal is a *Refusal.
func (g *Guard) Connect(ctx context.Context, client netip.Addr) (release func(), err error) {
	cfg, client := g.cfg.Load(), plain(client)
	if g.free(cfg, client) {
		return func() {}, nil
	}
	who := clientOf(client)
	mine, ok := g.takeSlot(who, cfg.Connections)
	if !ok {
		return func() {}, g.refuse(KindConnections)
	}
	entries := []entry{
		{subject: subject("bad", who.String()), kind: KindBanned, op: opPeek, window: badWindow},
		{subject: subject("connections", who.String()), kind: KindConnectionRate, op: opAdd, amount: 1, limit: int64(cfg.PerMinute.Connections), window: window},
	}
	if kind := g.count(ctx, entries, g.lease(who, mine, cfg.Connections)); kind != "" {
		g.giveSlot(who)
		return func() {}, g.refuse(kind)
	}
	g.dnsbl.start(client)
	return sync.OnceFunc(func() {
		left := g.giveSlot(who)
		// An error is no matter: the lease runs out.
		_, _ = g.counts.take(context.Background(), nil, g.lease(who, left, 0))
	}), nil
}

func (g *Guard) lease(who netip.Prefix, mine, limit int) *lease {
	return &lease{subject: subject("open", who.String()), process: g.name, mine: mine, limit: limit, length: leaseLength}
}

// takeSlot counts a connection of this process and says how many there are.
func (g *Guard) takeSlot(who netip.Prefix, limit int) (int, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if limit > 0 && g.open[who] >= limit {
		return 0, false
	}
	g.open[who]++
	return g.open[who], true
}

func (g *Guard) giveSlot(who netip.Prefix) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open[who]--; g.open[who] <= 0 {
		delete(g.open, who)
		return 0
	}
	return g.open[who]
}

// renewLeases keeps this process's connections known in Redis.
func (g *Guard) renewLeases() {
	tick := time.NewTicker(leaseRenew)
	defer tick.Stop()
	for {
		select {
		case <-g.ctx.Done():
			return
		case <-tick.C:
			g.renew()
		}
	}
}

// renew tells Redis of every client that is connected. It also brings Redis
// back into use where nobody asks for it.
func (g *Guard) renew() {
	g.mu.Lock()
	open := make(map[netip.Prefix]int, len(g.open))
	for who, n := range g.open {
		open[who] = n
	}
	g.mu.Unlock()
	if g.redis.client != nil && !g.redis.up.Load() {
		g.redis.retry()
	}
	for who, n := range open {
		if _, err := g.counts.take(g.ctx, nil, g.lease(who, n, 0)); err != nil || g.ctx.Err() != nil {
			return // they count again from the next renewal on
		}
	}
}

// count counts an event here and in Redis, and gives the kind of the refusal,
// or "". This process counts although Redis does: when Redis fails, nothing
// starts anew.
func (g *Guard) count(ctx context.Context, entries []entry, l *lease) string {
	used := entries[:0:0]
	for _, e := range entries {
		if e.limit > 0 || e.op == opPeek && e.kind == KindBanned {
			used = append(used, e)
		}
	}
	if len(used) == 0 && l == nil {
		return ""
	}
	ids := make([]id, len(used))
	for i := range used {
		ids[i] = g.salt.hash(used[i].subject)
	}
	if i := g.local.take(ids, used, g.now().UnixMilli()); i >= 0 {
		return used[i].kind
	}
	// After an error this process's own counters are the answer.
	switch i, _ := g.counts.take(ctx, used, l); {
	case i < 0:
		return ""
	case i == len(used):
		g.local.undo(ids, used)
		return KindConnections
	default:
		g.local.undo(ids, used)
		return used[i].kind
	}
}

func (g *Guard) refuse(kind string) *Refusal {
	g.stats.refused(kind)
	return refuse(kind)
}

// GreetPause is how long the client waits for its greeting.
func (g *Guard) GreetPause(client netip.Addr) time.Duration {
	cfg, client := g.cfg.Load(), plain(client)
	if g.free(cfg, client) {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if until, ok := g.good.Get(clientOf(client)); ok && g.now().Before(until) {
		return 0
	}
	return cfg.GreetPause
}

// Mail is asked at MAIL. The size that the client declares is not held against
// it, only what it sent before: a mail bigger than what is left of a minute
// would otherwise never come through.
func (g *Guard) Mail(ctx context.Context, client netip.Addr, sender string, size int64) error {
	cfg, client := g.cfg.Load(), plain(client)
	r, counted := g.rates(cfg, client)
	if !counted {
		return nil
	}
	who, from := clientOf(client).String(), senderOf(client, sender)
	entries := []entry{
		{subject: subject(r.scope+"bytes", who), kind: KindByteRate, op: opPeek, limit: r.client.Bytes, window: window},
		{subject: subject(r.scope+"sender-bytes", from), kind: KindSenderRate, op: opPeek, limit: r.sender.Bytes, window: window},
		{subject: subject(r.scope+"mails", who), kind: KindMailRate, op: opAdd, amount: 1, limit: int64(r.client.Mails), window: window},
		{subject: subject(r.scope+"sender-mails", from), kind: KindSenderRate, op: opAdd, amount: 1, limit: int64(r.sender.Mails), window: window},
	}
	if kind := g.tightened(func(e []entry) string { return g.count(ctx, e, nil) }, entries); kind != "" {
		return g.refuse(kind)
	}
	return nil
}

// senderOf is whose mails are counted. The null sender is everybody's: it
// counts per client (RFC 5321 §4.5.5).
func senderOf(client netip.Addr, sender string) string {
	if sender == "" {
		return subject("null", clientOf(client).String())
	}
	return address(sender)
}

// Rcpt is asked at RCPT, for a recipient that we serve: rates, then DNSBL, then
// greylisting. Postmaster and abuse are reached by who is listed, too: there
// they ask why (RFC 5321 §4.5.1, RFC 2142 §4).
func (g *Guard) Rcpt(ctx context.Context, client netip.Addr, sender, rcpt string) error {
	cfg, client := g.cfg.Load(), plain(client)
	if r, counted := g.rates(cfg, client); counted {
		entries := []entry{
			{subject: subject(r.scope+"recipients", clientOf(client).String()), kind: KindRecipientRate, op: opAdd, amount: 1, limit: int64(r.client.Recipients), window: window},
			{subject: subject(r.scope+"sender-recipients", senderOf(client, sender)), kind: KindSenderRate, op: opAdd, amount: 1, limit: int64(r.sender.Recipients), window: window},
		}
		if kind := g.tightened(func(e []entry) string { return g.count(ctx, e, nil) }, entries); kind != "" {
			return g.refuse(kind)
		}
	}
	if Exempt(rcpt) {
		return nil
	}
	if r := g.Listed(ctx, client); r != nil {
		g.stats.refused(KindDNSBL)
		return r
	}
	if !g.greylists(cfg, client) {
		return nil
	}
	if wait := g.grey.ask(ctx, &cfg.Greylist, client, sender, rcpt); wait > 0 {
		g.stats.refused(KindGreylist)
		return greylisted(wait)
	}
	return nil
}

func (g *Guard) greylists(cfg *Config, client netip.Addr) bool {
	return cfg.Greylist.Enabled && client.IsValid() && !cfg.trusts(client)
}

// Listed says whether DNSBLs name the client: a refusal, or nil. The question
// runs since Connect; this waits for it, but not for long. No answer is no hit.
func (g *Guard) Listed(ctx context.Context, client netip.Addr) *Refusal {
	cfg, client := g.cfg.Load(), plain(client)
	if g.free(cfg, client) {
		return nil
	}
	return g.dnsbl.wait(ctx, client)
}

// Sent tells that a mail was taken.
func (g *Guard) Sent(ctx context.Context, client netip.Addr, sender string, bytes int64) {
	cfg, client := g.cfg.Load(), plain(client)
	if !g.free(cfg, client) {
		g.mu.Lock()
		g.good.Add(clientOf(client), g.now().Add(goodClient))
		g.mu.Unlock()
	}
	if r, counted := g.rates(cfg, client); counted {
		g.count(ctx, []entry{
			{subject: subject(r.scope+"bytes", clientOf(client).String()), op: opForce, amount: bytes, limit: r.client.Bytes, window: window},
			{subject: subject(r.scope+"sender-bytes", senderOf(client, sender)), op: opForce, amount: bytes, limit: r.sender.Bytes, window: window},
		}, nil)
	}
	if g.greylists(cfg, client) {
		g.grey.sent(ctx, &cfg.Greylist, client)
	}
}

// BadCommand counts a command that makes no sense. Many of them ban the client
// for a while, from its next Connect on.
func (g *Guard) BadCommand(ctx context.Context, client netip.Addr) {
	cfg, client := g.cfg.Load(), plain(client)
	if g.free(cfg, client) {
		return
	}
	who := clientOf(client)
	g.mu.Lock()
	g.good.Remove(who)
	g.mu.Unlock()
	g.count(ctx, []entry{{subject: subject("bad", who.String()), kind: KindBanned, op: opForce, amount: 1, limit: badMost, window: badWindow, ban: badBan}}, nil)
}

// BadCommands judges a session with n bad commands: nil, or the answer that
// ends it.
func (g *Guard) BadCommands(client netip.Addr, n int) *Refusal {
	cfg, client := g.cfg.Load(), plain(client)
	if g.free(cfg, client) || cfg.BadCommands <= 0 || n < cfg.BadCommands {
		return nil
	}
	return g.refuse(KindBadCommands)
}
