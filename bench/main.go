// Command bench measures the gateway against clamd alone.
//
// It starts `mailward serve` with its embedded servers and a data folder of its
// own, sends a mixed load over real SMTP sockets, and counts at the next hop
// what arrived. Beside it the same kind of load goes straight into the same
// clamd. What counts is the ratio of the two: it moves less from machine to
// machine than messages per second do.
//
// Every mail, and every part of a mail, is unlike all others, so no cache of
// clamd or of the gateway can answer for a scan. Everything stays on the
// loopback and is bounded in number and time.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type options struct {
	binary      string
	connections []int
	count       int
	rounds      int
	seed        uint64
	limit       time.Duration
	json        string
}

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := mainErr(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	var list string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&o.binary, "mailward", "bin/mailward", "the binary; mailward-scanner is looked for beside it")
	f.StringVar(&list, "c", "1,8,32", "numbers of connections at a time")
	f.IntVar(&o.count, "n", 400, "mails in one run")
	f.IntVar(&o.rounds, "rounds", 3, "runs of each kind; the median counts")
	f.Uint64Var(&o.seed, "seed", 1, "seed of the mails")
	f.DurationVar(&o.limit, "limit", 15*time.Minute, "give up after this long")
	f.StringVar(&o.json, "json", "", "also write every run to this file")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	for _, s := range strings.Split(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < 1 || n > 256 {
			return o, fmt.Errorf("-c takes numbers from 1 to 256, not %q", s)
		}
		o.connections = append(o.connections, n)
	}
	if o.count < 10 || o.count > 20_000 || o.rounds < 1 || o.rounds > 20 {
		return o, errors.New("-n takes 10 to 20000, -rounds 1 to 20")
	}
	return o, nil
}

func mainErr(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, o.limit)
	defer cancel()
	hop, err := newSink()
	if err != nil {
		return err
	}
	defer hop.close()
	fmt.Fprintln(out, "starting mailward serve ...")
	resolver, closeResolver, err := emptyResolver()
	if err != nil {
		return err
	}
	defer closeResolver()
	g, err := startGateway(ctx, o.binary, hop.addr(), resolver)
	defer g.stop()
	if err != nil {
		return err
	}
	results, err := measure(ctx, o, g, hop, out)
	if err != nil {
		return err
	}
	if o.json != "" {
		if err := writeJSON(o.json, results); err != nil {
			return err
		}
	}
	return report(out, o, results)
}

// result is one run.
type result struct {
	Round       int            `json:"round"`
	Target      string         `json:"target"` // gateway or clamd
	Connections int            `json:"connections"`
	Mails       int            `json:"mails"`
	Rate        float64        `json:"rate"` // messages per second
	P50MS       float64        `json:"p50_ms"`
	P99MS       float64        `json:"p99_ms"`
	CPU         float64        `json:"cpu_seconds"` // of the gateway and all of its servers
	Counts      counts         `json:"counts"`
	Replies     map[string]int `json:"replies,omitempty"` // other than success
	Memory      map[string]int `json:"memory_mib,omitempty"`
}

// counts is what went wrong; all of it should be zero.
type counts struct {
	Lost      int `json:"lost"`      // accepted, and neither at the next hop nor in quarantine
	Duplicate int `json:"duplicate"` // arrived more than once
	Leaked    int `json:"leaked"`    // infected, and arrived
	Changed   int `json:"changed"`   // arrived with other bytes below our header lines
	Ghost     int `json:"ghost"`     // refused, and arrived all the same
	Held      int `json:"held"`      // harmless, and in quarantine
	Refused   int `json:"refused"`   // not accepted
}

func (c counts) bad() bool { return c != counts{} }

func measure(ctx context.Context, o options, g *gateway, hop *sink, out io.Writer) ([]result, error) {
	warm := newGenerator(o.seed, "w").batch(40)
	hop.expect(warm)
	run(ctx, warm, 4, smtpTo(g.smtp))
	run(ctx, newGenerator(o.seed, "v").batch(40), 4, clamdAt(g.clamd()))

	var results []result
	for round := range o.rounds {
		for _, c := range o.connections {
			for _, target := range []string{"clamd", "gateway"} {
				if err := ctx.Err(); err != nil {
					return nil, fmt.Errorf("stopped before the end: %w", err)
				}
				mails := newGenerator(o.seed, fmt.Sprintf("%s%dc%d", target[:1], round, c)).batch(o.count)
				runtime.GC()
				r, err := one(ctx, g, hop, target, c, mails)
				if err != nil {
					return nil, err
				}
				r.Round = round + 1
				results = append(results, r)
				fmt.Fprintf(out, "round %d  %-7s  c=%-3d  %7.1f/s  p50 %6.0f ms  p99 %6.0f ms  %v\n", r.Round, target, c, r.Rate, r.P50MS, r.P99MS, r.problems())
			}
		}
	}
	return results, nil
}

func one(ctx context.Context, g *gateway, hop *sink, target string, connections int, mails []mail) (result, error) {
	send := smtpTo(g.smtp)
	if target == "clamd" {
		send = clamdAt(g.clamd())
	} else {
		hop.expect(mails)
	}
	w := watch(ctx, g.cmd.Process.Pid)
	cpu := cpuSeconds(g.cmd.Process.Pid)
	o := run(ctx, mails, connections, send)
	cpu = cpuSeconds(g.cmd.Process.Pid) - cpu
	peaks, total := w.stop()
	r := result{
		Target: target, Connections: connections, Mails: len(mails), Rate: o.rate(), CPU: cpu,
		P50MS: float64(o.percentile(50).Microseconds()) / 1000, P99MS: float64(o.percentile(99).Microseconds()) / 1000,
		Replies: map[string]int{}, Memory: map[string]int{"all (PSS)": int(total.peakPSS >> 20), "all (RSS)": int(total.peakRSS >> 20)},
	}
	for name, u := range peaks {
		r.Memory[name] = int(u.peakPSS >> 20)
	}
	if target == "clamd" {
		r.Counts = countScans(mails, o, r.Replies)
		return r, nil
	}
	held, err := g.quarantined(ctx)
	if err != nil {
		return r, err
	}
	r.Counts = countMails(mails, o, held, hop.got, r.Replies)
	return r, nil
}

// countMails compares what the sender heard with what became of each mail.
func countMails(mails []mail, o outcome, held map[string]int, got func(token string) arrival, replies map[string]int) (c counts) {
	for i, m := range mails {
		a, accepted := got(m.token), o.answers[i].ok
		if !accepted {
			c.Refused++
			replies[short(o.answers[i].reply)]++
		}
		if a.times > 1 || held[m.token] > 1 {
			c.Duplicate++
		}
		if a.changed {
			c.Changed++
		}
		switch {
		case m.kind == eicar && a.times > 0:
			c.Leaked++
		case !accepted && a.times > 0:
			c.Ghost++
		case accepted && a.times == 0 && held[m.token] == 0:
			c.Lost++
		case m.kind != eicar && held[m.token] > 0:
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
			c.Refused++
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

func short(s string) string { return s[:min(len(s), 100)] }

func (r result) problems() string {
	if !r.Counts.bad() {
		return "nothing lost, duplicate or leaked"
	}
	b, _ := json.Marshal(r.Counts)
	replies, _ := json.Marshal(r.Replies)
	return string(b) + " " + string(replies)
}

func writeJSON(path string, results []result) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	e := json.NewEncoder(f)
	for _, r := range results {
		if err := e.Encode(r); err != nil {
			return err
		}
	}
	return f.Close()
}

// report prints the medians. It is an error when a mail was lost, duplicated,
// changed or leaked.
func report(out io.Writer, o options, results []result) error {
	fmt.Fprintf(out, "\nMedians of %d rounds of %d mails (40 %% text 4 KB, 35 %% HTML 30 KB, 15 %% attachment 300 KB, 8 %% zip 1 MB, 2 %% 5 MB; 1 %% EICAR):\n\n", o.rounds, o.count)
	fmt.Fprintln(out, "| connections | gateway/clamd | from - to | gateway per s | p50 ms | p99 ms | clamd per s | p50 ms | p99 ms | gateway CPU s per 1000 | clamd CPU s per 1000 | peak memory MiB (PSS) |")
	fmt.Fprintln(out, "|---|---|---|---|---|---|---|---|---|---|---|---|")
	var sum counts
	for _, c := range o.connections {
		of := func(target string, value func(result) float64) float64 {
			var all []float64
			for _, r := range results {
				if r.Target == target && r.Connections == c {
					all = append(all, value(r))
				}
			}
			slices.Sort(all)
			return all[len(all)/2]
		}
		rate := func(r result) float64 { return r.Rate }
		p50 := func(r result) float64 { return r.P50MS }
		p99 := func(r result) float64 { return r.P99MS }
		cpu := func(r result) float64 { return r.CPU / float64(r.Mails) * 1000 }
		memory := func(r result) float64 { return float64(r.Memory["all (PSS)"]) }
		r := ratios(results, c)
		fmt.Fprintf(out, "| %d | %.2f | %.2f - %.2f | %.1f | %.1f | %.0f | %.1f | %.1f | %.0f | %.1f | %.1f | %.0f |\n", c, r[len(r)/2], r[0], r[len(r)-1],
			of("gateway", rate), of("gateway", p50), of("gateway", p99), of("clamd", rate), of("clamd", p50), of("clamd", p99), of("gateway", cpu), of("clamd", cpu), of("gateway", memory))
	}
	peaks := map[string]int{}
	for _, r := range results {
		sum.Lost += r.Counts.Lost
		sum.Duplicate += r.Counts.Duplicate
		sum.Leaked += r.Counts.Leaked
		sum.Changed += r.Counts.Changed
		sum.Ghost += r.Counts.Ghost
		sum.Held += r.Counts.Held
		sum.Refused += r.Counts.Refused
		for name, m := range r.Memory {
			peaks[name] = max(peaks[name], m)
		}
	}
	b, _ := json.Marshal(sum)
	fmt.Fprintf(out, "\nOver all runs: %s\n", b)
	fmt.Fprintf(out, "Peak memory by process, MiB (PSS unless marked): %s\n", sorted(peaks))
	if sum.Lost+sum.Duplicate+sum.Leaked+sum.Changed+sum.Ghost > 0 {
		return errors.New("mail was lost, duplicated, changed or leaked")
	}
	if sum.Refused > 0 {
		return errors.New("mail was refused")
	}
	return nil
}

// ratios are gateway to clamd of each round, the least first. The two runs of a
// round follow each other, so that other work on the machine slows both.
func ratios(results []result, connections int) (list []float64) {
	alone := map[int]float64{}
	for _, r := range results {
		if r.Connections == connections && r.Target == "clamd" {
			alone[r.Round] = r.Rate
		}
	}
	for _, r := range results {
		if r.Connections == connections && r.Target == "gateway" && alone[r.Round] > 0 {
			list = append(list, r.Rate/alone[r.Round])
		}
	}
	slices.Sort(list)
	return list
}

func sorted(m map[string]int) string {
	var names []string
	for n := range m {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b string) int { return m[b] - m[a] })
	for i, n := range names {
		names[i] = fmt.Sprintf("%s %d", n, m[n])
	}
	return strings.Join(names, ", ")
}
