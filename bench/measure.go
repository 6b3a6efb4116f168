package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// campaign is one table: peers that do the same work, measured in rounds.
type campaign struct {
	name        string // of its block in the documentation
	title       string
	large       bool // signatures
	peers       []peer
	connections []int
	per         []int // mails over one connection
	count       int
	rounds      int
	repeat      float64
}

// result is one run.
type result struct {
	Campaign    string             `json:"campaign"`
	Round       int                `json:"round"`
	Peer        string             `json:"peer"`
	Connections int                `json:"connections"`
	Per         int                `json:"mails_per_connection"`
	Mails       int                `json:"mails"`
	Rate        float64            `json:"rate"` // mails per second, until the last one was at the next hop
	P50MS       float64            `json:"p50_ms"`
	P99MS       float64            `json:"p99_ms"`
	CPU         map[string]float64 `json:"cpu_seconds"`
	Others      float64            `json:"others"` // share of the machine's work that is none of ours
	Memory      map[string]int     `json:"pss_mib"`
	Counts      counts             `json:"counts"`
	Replies     map[string]int     `json:"replies,omitempty"` // other than success
}

// gatewayCPU is all that is neither clamd nor this program.
func (r result) gatewayCPU() (sum float64) {
	for name, s := range r.CPU {
		if name != "clamd" && name != "bench" {
			sum += s
		}
	}
	return sum
}

// counts is what went wrong; all of it should be zero.
type counts struct {
	Lost      int `json:"lost"`      // accepted, and neither at the next hop nor in quarantine
	Duplicate int `json:"duplicate"` // arrived more than once
	Leaked    int `json:"leaked"`    // infected, and arrived
	Changed   int `json:"changed"`   // arrived with other bytes below the gateway's header lines
	Ghost     int `json:"ghost"`     // refused, and arrived all the same
	Held      int `json:"held"`      // harmless, and in quarantine or refused as infected
	Refused   int `json:"refused"`   // answered with 4xx or, harmless, 5xx
	Errors    int `json:"errors"`    // no answer
}

func (c counts) bad() bool { return c != counts{} }

// wrong is what must never happen to a mail.
func (c counts) wrong() int { return c.Lost + c.Duplicate + c.Leaked + c.Changed + c.Ghost }

func (c *counts) add(o counts) {
	c.Lost += o.Lost
	c.Duplicate += o.Duplicate
	c.Leaked += o.Leaked
	c.Changed += o.Changed
	c.Ghost += o.Ghost
	c.Held += o.Held
	c.Refused += o.Refused
	c.Errors += o.Errors
}

const (
	warmMails = 60
	// stallLimit is how long a next hop waits for mail that was accepted.
	stallLimit = 20 * time.Second
)

// measured is what came out of a campaign.
type measured struct {
	campaign
	results []result
	absent  map[string]string // peer -> why it is not there
}

// measure runs a campaign. When the time is over it returns what it has.
func measure(ctx context.Context, o options, b *bed, c campaign) (measured, error) {
	m := measured{campaign: c, absent: map[string]string{}}
	for round := 1; round <= c.rounds && ctx.Err() == nil; round++ {
		batches := c.batches(o.seed, round)
		order := slices.Clone(c.peers)
		if round%2 == 0 { // what drifts with time meets them in turn
			slices.Reverse(order)
		}
		for _, p := range order {
			if m.absent[p.name] != "" || ctx.Err() != nil {
				continue
			}
			results, err := c.peer(ctx, o, b, p, round, batches)
			m.results = append(m.results, results...)
			if err != nil && ctx.Err() == nil {
				m.absent[p.name] = err.Error()
				fmt.Fprintf(b.out, "%s: not measured: %v\n", p.name, err)
			}
		}
	}
	if len(m.results) == 0 {
		return m, errors.Join(errors.New("nothing could be measured"), ctx.Err())
	}
	return m, nil
}

// batches makes the mails of a round. Every peer gets the same ones. One
// connection gets a quarter: it takes that much longer for each.
func (c campaign) batches(seed uint64, round int) map[[2]int][]mail {
	all := map[[2]int][]mail{}
	for _, n := range c.connections {
		for _, per := range c.per {
			g := newGenerator(seed, fmt.Sprintf("%sr%dc%dp%d", strings.ReplaceAll(c.name, "-", ""), round, n, per))
			g.repeat = c.repeat
			count := c.count
			if n == 1 {
				count = max(10, count/4)
			}
			all[[2]int{n, per}] = g.batch(count)
		}
	}
	return all
}

// peer starts a peer, warms it up, measures it at each number of connections,
// and stops it: the others have the machine to themselves.
func (c campaign) peer(ctx context.Context, o options, b *bed, p peer, round int, batches map[[2]int][]mail) (list []result, err error) {
	hop, err := newSink()
	if err != nil {
		return nil, err
	}
	defer hop.close()
	r, err := p.begin(ctx, b, hop.addr())
	if err != nil {
		return nil, err
	}
	defer r.stop()
	warm := newGenerator(o.seed, fmt.Sprintf("w%d", round)).batch(warmMails)
	hop.expect(warm)
	w := run(ctx, warm, 8, r.open(1))
	if p.name != clamdAlone {
		hop.wait(shouldArrive(warm, w), stallLimit)
	}
	for _, n := range c.connections {
		for _, per := range c.per {
			if ctx.Err() != nil {
				return list, nil
			}
			profiled := takeProfile(ctx, b, r.gateway, fmt.Sprintf("%s-%s-c%d-per%d-round%d", c.name, p.name, n, per, round), o.profileFor)
			res, err := c.one(ctx, o, b, p, r, hop, n, per, batches[[2]int{n, per}])
			profiled()
			if err != nil {
				return list, err
			}
			res.Round = round
			list = append(list, res)
			fmt.Fprintf(b.out, "%s round %d  %-14s c=%-3d per=%-3d %7.1f/s  p50 %6.1f  p99 %7.1f ms  CPU s/1000: gateway %5.1f clamd %5.1f  others %2.0f%%  %s\n",
				c.name, round, p.name, n, per, res.Rate, res.P50MS, res.P99MS, res.gatewayCPU()/float64(res.Mails)*1000, res.CPU["clamd"]/float64(res.Mails)*1000, res.Others*100, res.problems())
		}
	}
	return list, nil
}

// takeProfile takes a CPU profile beside a run, where that is wanted; wait waits
// for its end.
func takeProfile(ctx context.Context, b *bed, g *gateway, name string, length time.Duration) (wait func()) {
	if b.profiles == "" || g == nil {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := g.profile(ctx, b.profiles, name, length); err != nil {
			fmt.Fprintf(b.out, "profile %s: %v\n", name, err)
		}
	}()
	return func() { <-done }
}

// one is one run, from the first connection until the last mail has arrived.
func (c campaign) one(ctx context.Context, o options, b *bed, p peer, r *running, hop *sink, connections, per int, mails []mail) (result, error) {
	hop.expect(mails)
	trees := append(slices.Clone(r.trees), b.clamdTree)
	runtime.GC()
	limited, cancel := context.WithTimeout(ctx, o.runLimit)
	defer cancel()
	w := watch(ctx, r.trees, memoryInterval, false)
	cpu, own, machine := cpuSeconds(trees), ownSeconds(), machineSeconds()
	out := run(limited, mails, connections, r.open(per))
	if p.name != clamdAlone {
		if last := hop.wait(shouldArrive(mails, out), stallLimit); last.After(out.began) {
			out.took = max(out.took, last.Sub(out.began))
		}
	}
	res := result{Campaign: c.name, Peer: p.name, Connections: connections, Per: per, Mails: len(out.answers), Rate: out.rate(),
		P50MS: milliseconds(out.percentile(50)), P99MS: milliseconds(out.percentile(99)), CPU: map[string]float64{}, Memory: map[string]int{}, Replies: map[string]int{}}
	ours := 0.0
	for name, s := range cpuSeconds(trees) {
		res.CPU[name] = s - cpu[name]
		ours += s - cpu[name]
	}
	res.CPU["bench"] = ownSeconds() - own
	busy := machineSeconds() - machine
	if busy > 0 {
		res.Others = max(0, (busy-ours-res.CPU["bench"])/busy)
	}
	for name, m := range w.stop() {
		res.Memory[name] = int(m.pss >> 20)
	}
	if ctx.Err() != nil {
		return res, ctx.Err()
	}
	if len(out.answers) == 0 {
		return res, errors.New("not a mail could be sent")
	}
	mails = mails[:len(out.answers)]
	if p.name == clamdAlone {
		res.Counts = countScans(mails, out, res.Replies)
		return res, nil
	}
	held := map[string]int{}
	if r.held != nil {
		var err error
		if held, err = r.held(ctx); err != nil {
			return res, err
		}
	}
	res.Counts = countMails(mails, out, held, hop.got, res.Replies)
	if !p.scans {
		res.Counts.Leaked = 0 // it does not look
	}
	return res, nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// shouldArrive is the tokens of the harmless mails that were accepted.
func shouldArrive(mails []mail, o outcome) (tokens []string) {
	for i, a := range o.answers {
		if a.ok && mails[i].kind != eicar {
			tokens = append(tokens, mails[i].token)
		}
	}
	return tokens
}

// ownSeconds is the processor time of this program: load and next hop.
func ownSeconds() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

// countMails compares what the sender heard with what became of each mail.
func countMails(mails []mail, o outcome, held map[string]int, got func(token string) arrival, replies map[string]int) (c counts) {
	for i, m := range mails {
		a, reply := got(m.token), o.answers[i]
		kept := held[m.token]
		if kept == 0 && a.times == 0 && reply.ok {
			sum := sha256.Sum256(m.raw)
			kept = held[string(sum[:])]
		}
		refusedForGood := strings.HasPrefix(reply.reply, "5")
		switch {
		case reply.ok, m.kind == eicar && refusedForGood:
		case reply.reply != "" && reply.reply[0] >= '4' && reply.reply[0] <= '5':
			c.Refused++
			replies[short(reply.reply)]++
		default:
			c.Errors++
			replies[short(reply.reply)]++
		}
		if a.times > 1 || kept > 1 {
			c.Duplicate++
		}
		if a.changed {
			c.Changed++
		}
		switch {
		case m.kind == eicar && a.times > 0:
			c.Leaked++
		case !reply.ok && a.times > 0:
			c.Ghost++
		case reply.ok && a.times == 0 && kept == 0:
			c.Lost++
		case m.kind != eicar && kept > 0:
			c.Held++
		}
	}
	return c
}

// countScans checks that clamd itself found what it should: a rate without
// detection would be no measure.
func countScans(mails []mail, o outcome, replies map[string]int) (c counts) {
	for i, m := range mails {
		a := o.answers[i]
		found := strings.HasSuffix(a.reply, "FOUND")
		switch {
		case !a.ok:
			c.Errors++
			replies[short(a.reply)]++
		case m.kind == eicar && !found:
			c.Leaked++
		case m.kind != eicar && found:
			c.Held++
			replies[short(a.reply)]++
		}
	}
	return c
}

func short(s string) string { return s[:min(len(s), 200)] }

func (r result) problems() string {
	if !r.Counts.bad() {
		return "all well"
	}
	b, _ := json.Marshal(r.Counts)
	replies, _ := json.Marshal(r.Replies)
	return string(b) + " " + short(string(replies))
}

func writeJSON(path string, all []measured) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return encodeJSON(f, all)
}

func encodeJSON(w io.Writer, all []measured) error {
	e := json.NewEncoder(w)
	for _, m := range all {
		for _, r := range m.results {
			if err := e.Encode(r); err != nil {
				return err
			}
		}
	}
	return nil
}
