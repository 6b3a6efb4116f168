package limit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// dnsblWait is what RCPT waits for the lists; they are asked since accept.
	dnsblWait = 2 * time.Second
	// dnsblTime is when a list that does not answer is given up.
	dnsblTime = 5 * time.Second
	// dnsblKeep is how long the answer about a client stands: long enough for
	// its connections in a row, short enough for who is taken off a list.
	dnsblKeep = time.Minute
	// dnsblRetry is the same where a list did not answer.
	dnsblRetry = 10 * time.Second
	// dnsblMost bounds clients remembered, dnsblBusy those asked about at a time.
	dnsblMost = 20_000
	dnsblBusy = 256
	// listCheck is how often a list is checked to be one, and dnsblWarn how
	// often trouble with it is logged at most.
	listCheck = time.Hour
	dnsblWarn = time.Hour
)

// answers is the range of all answers (RFC 5782 §2.1). What is outside comes
// from a resolver or a registrar that sends lost names to its own pages.
var answers = netip.MustParsePrefix("127.0.0.0/8")

var (
	// trouble is what Spamhaus answers to who may not ask: 252 typing error in
	// the zone, 254 public resolver, 255 too many questions. Others follow.
	troubles = netip.MustParsePrefix("127.255.255.0/24")
	// RFC 5782 §5: 127.0.0.1 is never listed and never a hit; some lists say
	// "refused" with it, and with 127.0.0.255.
	refused1   = netip.MustParseAddr("127.0.0.1")
	refused255 = netip.MustParseAddr("127.0.0.255")

	zenLow  = netip.MustParseAddr("127.0.0.2")
	zenHigh = netip.MustParseAddr("127.0.0.11") // 10 and 11 are the PBL

	carrierNAT = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598
)

// errListTrouble means that a list answered, and that the answer says nothing
// about the client.
var errListTrouble = errors.New("limit: the list is not available to us")

// reversed is the client's name in a list (RFC 5782 §2.1, §2.4).
func reversed(a netip.Addr) string {
	var b strings.Builder
	if a = plain(a); a.Is4() {
		v4 := a.As4()
		for i := len(v4) - 1; i >= 0; i-- {
			fmt.Fprintf(&b, "%d.", v4[i])
		}
		return b.String()
	}
	const hex = "0123456789abcdef"
	v6 := a.As16()
	for i := len(v6) - 1; i >= 0; i-- {
		b.Write([]byte{hex[v6[i]&15], '.', hex[v6[i]>>4], '.'})
	}
	return b.String()
}

// public says whether lists can know an address.
func public(a netip.Addr) bool {
	return a.IsValid() && a.IsGlobalUnicast() && !a.IsPrivate() && !carrierNAT.Contains(a)
}

// dnsbl asks lists about clients, once a client, in the background.
type dnsbl struct {
	ctx   context.Context // ends with the Guard
	dns   Resolver
	log   *slog.Logger
	now   func() time.Time
	stats *stats
	slots chan struct{} // one for each client that is asked about

	mu        sync.Mutex // guards what follows; wg.Add against close
	lists     []*listState
	threshold int
	clients   *simplelru.LRU[netip.Addr, *question]
	closed    bool
	wg        sync.WaitGroup
	recheck   chan struct{}
}

// question is what is known of one client, once done is closed.
type question struct {
	done    chan struct{}
	refusal *Refusal
	until   time.Time // guarded by dnsbl.mu; zero while it runs
}

// listState is a list and how it does.
type listState struct {
	List
	mu     sync.Mutex // guards what follows
	status ListStatus
	warned time.Time
}

func newDNSBL(ctx context.Context, dns Resolver, log *slog.Logger, st *stats, now func() time.Time) *dnsbl {
	return &dnsbl{ctx: ctx, dns: dns, log: log, now: now, stats: st, slots: make(chan struct{}, dnsblBusy),
		clients: newLRU[netip.Addr, *question](dnsblMost), recheck: make(chan struct{}, 1)}
}

// reload takes new lists and forgets what the old ones said.
func (d *dnsbl) reload(lists []List, threshold int) {
	if d.dns == nil {
		lists = nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lists, d.threshold = nil, threshold
	for _, l := range lists {
		l.Zone = strings.ToLower(strings.Trim(l.Zone, "."))
		d.lists = append(d.lists, &listState{List: l, status: ListStatus{Zone: l.Zone}})
	}
	d.clients = newLRU[netip.Addr, *question](dnsblMost)
	select {
	case d.recheck <- struct{}{}:
	default:
	}
}

func (d *dnsbl) close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.wg.Wait()
}

// start asks about a client, unless that is known or under way. It returns
// nil where nothing is asked.
func (d *dnsbl) start(client netip.Addr) *question {
	if !public(client) {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.lists) == 0 || d.closed {
		return nil
	}
	if q, ok := d.clients.Get(client); ok && (q.until.IsZero() || d.now().Before(q.until)) {
		return q
	}
	select {
	case d.slots <- struct{}{}:
	default:
		d.stats.lookup("busy")
		return nil // more clients at a time than we ask about: not a hit
	}
	q := &question{done: make(chan struct{})}
	d.clients.Add(client, q)
	lists, threshold := d.lists, d.threshold
	d.wg.Go(func() { d.ask(q, client, lists, threshold) })
	return q
}

// wait gives the answer about a client.
func (d *dnsbl) wait(ctx context.Context, client netip.Addr) *Refusal {
	q := d.start(client)
	if q == nil {
		return nil
	}
	select { // most are done by now, and need no timer
	case <-q.done:
		return q.refusal.clone()
	default:
	}
	t := time.NewTimer(dnsblWait)
	defer t.Stop()
	select {
	case <-q.done:
		return q.refusal.clone()
	case <-t.C:
		d.stats.lookup("late")
	case <-ctx.Done():
	}
	return nil
}

// clone keeps the cached refusal from the hands of its many readers.
func (r *Refusal) clone() *Refusal {
	if r == nil {
		return nil
	}
	c := *r
	return &c
}

// ask asks all lists at the same time.
func (d *dnsbl) ask(q *question, client netip.Addr, lists []*listState, threshold int) {
	ctx, cancel := context.WithTimeout(d.ctx, dnsblTime)
	defer cancel()
	weights, errs := make([]int, len(lists)), make([]error, len(lists))
	var wg sync.WaitGroup
	for i, l := range lists {
		wg.Go(func() { weights[i], errs[i] = d.askList(ctx, l, client) })
	}
	wg.Wait()
	sum, keep, most := 0, dnsblKeep, -1
	for i, w := range weights {
		sum += w
		if errs[i] != nil {
			keep = dnsblRetry
		}
		if w > 0 && (most < 0 || w > weights[most]) {
			most = i
		}
	}
	if most >= 0 && sum >= threshold {
		q.refusal = blocked(lists[most].Zone, d.reason(ctx, lists[most], client))
	}
	d.mu.Lock()
	q.until = d.now().Add(keep)
	d.mu.Unlock()
	<-d.slots
	close(q.done)
}

// askList gives the weight of one list's answer. No answer weighs nothing.
func (d *dnsbl) askList(ctx context.Context, l *listState, client netip.Addr) (int, error) {
	if l.suspended() {
		return 0, errListTrouble
	}
	addrs, err := d.lookup(ctx, l, client)
	if err != nil {
		d.trouble(l, err)
		return 0, err
	}
	weight, err := l.weigh(addrs)
	if err != nil {
		d.trouble(l, err)
		return 0, err
	}
	result := "clear"
	if weight != 0 {
		result = "hit"
	}
	d.stats.lookup(result)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.status.Asked++
	if weight != 0 {
		l.status.Hits++
	}
	return weight, nil
}

// lookup gives the list's answers; none means that the client is not listed.
func (d *dnsbl) lookup(ctx context.Context, l *listState, client netip.Addr) ([]netip.Addr, error) {
	name, _, err := l.name(client)
	if err != nil {
		return nil, err
	}
	ips, err := d.dns.LookupIPAddr(ctx, name)
	var no *net.DNSError
	if errors.As(err, &no) && no.IsNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s: %s", l.Zone, safeError(err))
	}
	addrs := make([]netip.Addr, 0, len(ips))
	for _, ip := range ips {
		if a, ok := netip.AddrFromSlice(ip.IP); ok {
			addrs = append(addrs, a.Unmap())
		}
	}
	return addrs, nil
}

// safeError leaves out the name that was asked for: it may hold the key.
func safeError(err error) string {
	var d *net.DNSError
	switch {
	case errors.As(err, &d) && d.IsTimeout, errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, context.Canceled):
		return "canceled"
	}
	return "DNS failure"
}

// name is the name to ask for, with the dot that keeps search domains away.
func (l *listState) name(client netip.Addr) (name, key string, err error) {
	if l.Key != nil {
		if key, err = l.Key(); err != nil {
			return "", "", fmt.Errorf("get the key of %s: %w", l.Zone, err)
		}
		key = strings.TrimSpace(key)
		if key == "" || len(key) > 63 || strings.ContainsAny(key, ". ") || !harmless(key) {
			return "", "", fmt.Errorf("the key of %s is no DNS label", l.Zone)
		}
		return reversed(client) + key + "." + l.Zone + ".", key, nil
	}
	return reversed(client) + l.Zone + ".", "", nil
}

// weigh is the meaning of a list's answers: the heaviest of them.
func (l *listState) weigh(addrs []netip.Addr) (int, error) {
	for _, a := range addrs {
		if troubles.Contains(a) || ((a == refused1 || a == refused255) && !l.names(a)) {
			return 0, fmt.Errorf("%s answered %s: %w", l.Zone, a, errListTrouble)
		}
	}
	weight := 0
	for _, a := range addrs {
		if w := l.weightOf(a); w*w > weight*weight {
			weight = w
		}
	}
	return weight, nil
}

// names says whether the operator gave an answer a meaning.
func (l *listState) names(a netip.Addr) bool {
	for _, c := range l.Codes {
		if c.has(a) {
			return true
		}
	}
	return false
}

func (l *listState) weightOf(a netip.Addr) int {
	if !answers.Contains(a) {
		return 0
	}
	for _, c := range l.Codes {
		if c.has(a) {
			if c.Weight != 0 {
				return c.Weight
			}
			return l.Weight
		}
	}
	if len(l.Codes) > 0 {
		return 0
	}
	if strings.HasSuffix(l.Zone, "spamhaus.org") || strings.HasSuffix(l.Zone, "dq.spamhaus.net") {
		if (Code{Low: zenLow, High: zenHigh}).has(a) {
			return l.Weight
		}
		return 0
	}
	return l.Weight
}

func (c Code) has(a netip.Addr) bool {
	if !c.High.IsValid() {
		return a == c.Low
	}
	return c.Low.Compare(a) <= 0 && a.Compare(c.High) <= 0
}

// reason is what the list says about the client, never with our key in it.
func (d *dnsbl) reason(ctx context.Context, l *listState, client netip.Addr) string {
	name, key, err := l.name(client)
	if err != nil {
		return ""
	}
	texts, err := d.dns.LookupTXT(ctx, name)
	if err != nil || len(texts) == 0 {
		return ""
	}
	if key != "" && strings.Contains(strings.ToLower(texts[0]), strings.ToLower(key)) {
		return ""
	}
	return texts[0]
}
