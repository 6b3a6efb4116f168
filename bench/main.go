// Command bench measures the gateway beside clamd alone and beside its rivals,
// all of them doing the same work on the same machine in the same run.
//
// Each peer takes a mixed load over real SMTP sockets, has the whole of each
// mail scanned by the same clamd with the same signatures, and passes it on to
// the same next hop, which counts by a token in each mail what was lost,
// doubled, changed or let through infected. What counts is the ratios: they
// move less from machine to machine than mails per second do.
//
// Every mail, and every part of a mail, is unlike all others, so no cache can
// answer for a scan (-repeat lets some attachments repeat). Everything stays on
// the loopback and is bounded in number and time. Rivals that are not installed
// are named as such; -install installs them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type options struct {
	binary      string
	modes       []string
	peers       []peer
	connections []int
	per         []int
	count       int
	rounds      int
	repeat      float64
	signatures  []string
	seed        uint64
	limit       time.Duration
	runLimit    time.Duration
	install     bool
	haraka      string
	profiles    string
	profileFor  time.Duration
	rows        int
	json        string
	markdown    string
	updateDocs  bool
}

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := mainErr(ctx, os.Args[1:], os.Stdout); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// modes is what can be measured, in the order in which it is.
var modes = []string{"load", "off", "engines", "memory", "flat", "append"}

func parse(args []string) (o options, err error) {
	var mode, list, connections, per, signatures string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&mode, "mode", "load", "what to measure: load (everybody, engines on), off (engines off, beside Postfix), engines (one engine at a time), memory (500 connections with 20 MB each), flat (an empty ledger and a full one), append (an event of the audit beside a plain row), or all")
	f.StringVar(&o.binary, "mailward", "bin/mailward", "the binary; mailward-scanner is looked for beside it")
	f.StringVar(&list, "peers", "all", "who is measured under load: all, or some of clamd, mailward, mailward-split, postfix, clamav-milter, rspamd, amavisd, clamsmtp, haraka")
	f.StringVar(&connections, "c", "1,8,32", "numbers of connections at a time")
	f.StringVar(&per, "per", "1,10", "with engines off: mails over one connection")
	f.IntVar(&o.count, "n", 2000, "mails in one run; a quarter of that with one connection")
	f.IntVar(&o.rounds, "rounds", 3, "rounds; the medians count")
	f.Float64Var(&o.repeat, "repeat", 0, "share of the attachments that are repeated ones")
	f.StringVar(&signatures, "signatures", "light", "what clamd knows: light (EICAR alone), large (200,000 made-up signatures more), or light,large")
	f.Uint64Var(&o.seed, "seed", 1, "seed of the mails")
	f.DurationVar(&o.limit, "limit", 90*time.Minute, "start nothing new after this long, and report what there is")
	f.DurationVar(&o.runLimit, "run-limit", 4*time.Minute, "end one run after this long")
	f.BoolVar(&o.install, "install", false, "install the rivals: Debian packages (as root, their services are not started), Haraka from npm into a folder for this run")
	f.StringVar(&o.haraka, "haraka", "", "a folder with Haraka in node_modules, in place of -install")
	f.StringVar(&o.profiles, "profile", "", "write CPU profiles of mailward serve into this folder")
	f.DurationVar(&o.profileFor, "profile-for", 10*time.Second, "the length of each profile")
	f.IntVar(&o.rows, "rows", 1_000_000, "with flat: rows of the full ledger")
	f.StringVar(&o.json, "json", "", "also write every run to this file")
	f.StringVar(&o.markdown, "markdown", "", "also write the tables to this file")
	f.BoolVar(&o.updateDocs, "update-docs", false, "put the tables into docs/performance.md")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.connections, err = numbers("-c", connections); err != nil {
		return o, err
	}
	if o.per, err = numbers("-per", per); err != nil {
		return o, err
	}
	if o.peers, err = choose(list); err != nil {
		return o, err
	}
	if o.modes, err = words("-mode", mode, modes); err != nil {
		return o, err
	}
	if o.signatures, err = words("-signatures", signatures, []string{"light", "large"}); err != nil {
		return o, err
	}
	if o.count < 10 || o.count > 20_000 || o.rounds < 1 || o.rounds > 20 {
		return o, errors.New("-n takes 10 to 20000, -rounds 1 to 20")
	}
	if o.repeat < 0 || o.repeat > 1 {
		return o, errors.New("-repeat takes 0 to 1")
	}
	if o.rows < 1000 || o.rows > 10_000_000 {
		return o, errors.New("-rows takes 1000 to 10000000")
	}
	return o, nil
}

func numbers(name, list string) (out []int, err error) {
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < 1 || n > 256 {
			return nil, fmt.Errorf("%s takes numbers from 1 to 256, not %q", name, s)
		}
		out = append(out, n)
	}
	return out, nil
}

// words reads a list of known words; "all" is all of them.
func words(name, list string, known []string) (out []string, err error) {
	for s := range strings.SplitSeq(list, ",") {
		s = strings.TrimSpace(s)
		if s != "all" && !slices.Contains(known, s) {
			return nil, fmt.Errorf("%s takes %s, not %q", name, strings.Join(known, ", "), s)
		}
		out = append(out, s)
	}
	if slices.Contains(out, "all") {
		out = known
	}
	return out, nil
}

func mainErr(ctx context.Context, args []string, out io.Writer) error {
	if len(args) > 0 && args[0] == "corpus" {
		return measureCorpus(ctx, args[1:], out)
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	if _, err := os.Stat(o.binary); err != nil && !slices.Equal(o.modes, []string{"append"}) {
		return fmt.Errorf("%w: run `make build` first", err)
	}
	whole := ctx
	ctx, cancel := context.WithTimeout(ctx, o.limit)
	defer cancel()
	rep := &report{}
	var errs []error
	for _, mode := range modes {
		if !slices.Contains(o.modes, mode) || ctx.Err() != nil {
			continue
		}
		switch mode {
		case "load":
			err = measureLoad(ctx, o, rep, out)
		case "off":
			err = measureOff(ctx, o, rep, out)
		case "engines":
			err = measureEngines(ctx, o, rep, out)
		case "memory":
			err = measureMemory(ctx, o, rep, out)
		case "flat":
			err = measureFlat(ctx, o, rep, out)
		case "append":
			err = measureAppend(ctx, o, rep, out)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", mode, err))
		}
	}
	if ctx.Err() != nil && whole.Err() == nil {
		fmt.Fprintf(out, "\nThe time of -limit is over: what follows is what was measured until then.\n")
	}
	// The report is written whatever went wrong on the way to it.
	errs = append(errs, rep.write(context.WithoutCancel(ctx), o, out))
	return errors.Join(errs...)
}

// measureLoad is the comparison: everybody, engines on.
func measureLoad(ctx context.Context, o options, rep *report, out io.Writer) error {
	var errs []error
	for _, set := range o.signatures {
		c := campaign{name: "load-" + set, title: "Engines on, " + set + " signature set", large: set == "large", peers: o.peers, connections: o.connections, per: []int{1}, count: o.count, rounds: o.rounds, repeat: o.repeat}
		if o.repeat > 0 {
			c.name += "-repeat"
			c.title += fmt.Sprintf(", %.0f %% of the attachments repeated", o.repeat*100)
		}
		errs = append(errs, conduct(ctx, o, c, rep, out))
	}
	return errors.Join(errs...)
}

// measureOff is spool, hash, ledger and relay beside an MTA that does not scan.
func measureOff(ctx context.Context, o options, rep *report, out io.Writer) error {
	chosen, err := choose(mailwardOff + "," + postfixAlone)
	if err != nil {
		return err
	}
	var connections []int
	for _, n := range o.connections {
		if n > 1 {
			connections = append(connections, n)
		}
	}
	if len(connections) == 0 {
		connections = o.connections
	}
	return conduct(ctx, o, campaign{name: "off", title: "Engines off", peers: chosen, connections: connections, per: o.per, count: o.count, rounds: o.rounds}, rep, out)
}

// measureEngines is what each engine costs: none, one at a time, all.
func measureEngines(ctx context.Context, o options, rep *report, out io.Writer) error {
	chosen, err := choose(strings.Join([]string{mailwardOff, mailwardYara, mailwardClam, mailwardSplit}, ","))
	if err != nil {
		return err
	}
	return conduct(ctx, o, campaign{name: "engines", title: "One engine at a time", peers: chosen, connections: o.connections, per: []int{1}, count: o.count, rounds: o.rounds}, rep, out)
}

// conduct runs a campaign from clamd's start to its end.
func conduct(ctx context.Context, o options, c campaign, rep *report, out io.Writer) error {
	if ctx.Err() != nil {
		return nil
	}
	b, stop, err := startBed(ctx, o, c.large, out)
	defer stop()
	if err != nil {
		return err
	}
	if o.install {
		if err := install(ctx, b); err != nil {
			fmt.Fprintf(out, "not everything could be installed: %v\n", err)
		}
	}
	rep.versions(ctx, b)
	m, err := measure(ctx, o, b, c)
	rep.campaigns = append(rep.campaigns, m)
	return err
}
