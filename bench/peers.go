package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// bed is what all peers of a run share: the clamd that scans, the resolver, and
// a folder.
type bed struct {
	dir       string
	binary    string // mailward
	clamd     string // its socket
	clamdTree tree
	resolver  string
	haraka    string // the folder with its node_modules
	profiles  string // the folder for profiles; empty: none
	out       io.Writer
}

// peer is one way to take, scan and pass on mail.
type peer struct {
	name  string
	what  string
	scans bool
	start func(ctx context.Context, b *bed, dir, hop string) (*running, error)
}

// running is a started peer.
type running struct {
	open     func(per int) func() sender
	trees    []tree
	gateway  *gateway // only of Mailward
	held     func(ctx context.Context) (map[string]int, error)
	services []*service // in the order of their start
}

// stop ends the peer, the last started server first.
func (r *running) stop() {
	if r == nil {
		return
	}
	r.gateway.stop()
	for _, s := range slices.Backward(r.services) {
		s.stop(10 * time.Second)
	}
}

// Names of the peers.
const (
	clamdAlone    = "clamd alone"
	mailwardWhole = "mailward"
	mailwardSplit = "mailward-split"
	mailwardOff   = "mailward-off"
	mailwardYara  = "mailward-yara"
	mailwardClam  = "mailward-clamav"
	postfixAlone  = "postfix"
)

// peers is everybody, in the order of the tables.
var peers = []peer{
	{clamdAlone, "INSTREAM of the raw mails over its unix socket, no gateway: the ceiling of whoever scans whole mails", true, startClamdAlone},
	{mailwardWhole, "`mailward serve` with its own PostgreSQL, Redis and sidecar, `clamav.scan: whole`", true, mailwardWith("clamav: {address: %[1]q, scan: whole}\n")},
	{mailwardSplit, "the same with `clamav.scan: split`, which remembers clean parts", true, mailwardWith("clamav: {address: %[1]q, scan: split, database: %[2]q}\n")},
	{postfixAlone, "no filter: takes the mail into its queue and passes it on", false, startPostfixAlone},
	{"clamav-milter", "Postfix with clamav-milter", true, startClamavMilter},
	{"rspamd", "Postfix with rspamd's proxy as milter (2 workers), antivirus module with the whole mail, what is not antivirus switched off where it asks others", true, startRspamd},
	{"amavisd", "Postfix with amavisd as before-queue filter (4 children), without SpamAssassin; it takes mails and archives apart itself and gives clamd the files", true, startAmavis},
	{"clamsmtp", "SMTP proxy in front of the next hop", true, startClamsmtp},
	{"haraka", "2 workers, its clamd plugin, queue/smtp_forward", true, startHaraka},
	{mailwardOff, "`mailward serve` with `scanner.engines: []`: spool, hash, sender checks, ledger, relay", false, mailwardWith("clamav: {address: %[1]q}\nscanner: {engines: []}\n")},
	{mailwardYara, "`mailward serve` with `scanner.engines: [yara]`: the sidecar, its rules, and what judges by what it has read", false, mailwardWith("clamav: {address: %[1]q}\nscanner: {engines: [yara]}\n")},
	{mailwardClam, "`mailward serve` with `scanner.engines: [clamav]`, which scans whole mails then", true, mailwardWith("clamav: {address: %[1]q}\nscanner: {engines: [clamav]}\n")},
}

// choose finds peers by name. "all" is everybody who scans, and Postfix alone.
func choose(list string) (chosen []peer, err error) {
	names := strings.Split(list, ",")
	for i, n := range names {
		names[i] = strings.TrimSpace(n)
	}
	for _, p := range peers {
		if slices.Contains(names, "all") && !slices.Contains([]string{mailwardOff, mailwardYara, mailwardClam}, p.name) || slices.Contains(names, p.name) || p.name == clamdAlone && slices.Contains(names, "clamd") {
			chosen = append(chosen, p)
		}
	}
	for _, n := range names {
		if n != "all" && n != "clamd" && !slices.ContainsFunc(peers, func(p peer) bool { return p.name == n }) {
			return nil, fmt.Errorf("-peers: nobody is called %q", n)
		}
	}
	return chosen, nil
}

// startBed starts clamd on a database of our own, and the resolver.
func startBed(ctx context.Context, o options, large bool, out io.Writer) (b *bed, stop func(), err error) {
	var stops []func()
	stop = func() {
		for _, f := range slices.Backward(stops) {
			f()
		}
	}
	// Unix sockets live below: the path has to be short, and other users of the
	// servers have to pass through it.
	dir, err := os.MkdirTemp("", "mwb")
	if err != nil {
		return nil, stop, err
	}
	stops = append(stops, func() { os.RemoveAll(dir) })
	b = &bed{dir: dir, binary: o.binary, haraka: o.haraka, profiles: o.profiles, clamd: filepath.Join(dir, "clamd.sock"), out: out}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, stop, err
	}
	resolver, closeResolver, err := emptyResolver()
	if err != nil {
		return nil, stop, err
	}
	b.resolver = resolver
	stops = append(stops, closeResolver)
	if err := writeSignatures(filepath.Join(dir, "db"), large); err != nil {
		return nil, stop, err
	}
	// They are of an hour ago: Mailward remembers nothing while signatures may be
	// newer than those that clamd has loaded.
	if err := age(filepath.Join(dir, "db"), time.Now().Add(-time.Hour)); err != nil {
		return nil, stop, err
	}
	tmp, err := os.MkdirTemp(clamdTemp, "mwb")
	if err != nil {
		return nil, stop, fmt.Errorf("make folder for clamd's temporary files: %w", err)
	}
	stops = append(stops, func() { os.RemoveAll(tmp) })
	s, err := startClamd(ctx, dir, tmp, b.clamd)
	if s != nil {
		stops = append(stops, func() { s.stop(10 * time.Second) })
		b.clamdTree = tree{name: "clamd", root: s.pid()}
	}
	return b, stop, err
}

// age sets the time of all files in a folder.
func age(dir string, to time.Time) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := os.Chtimes(filepath.Join(dir, f.Name()), to, to); err != nil {
			return err
		}
	}
	return nil
}

// clamdTemp is where clamd keeps its temporary files: in memory, for everybody.
// A folder and some files for each scan, made and removed on a disk, would
// measure the file system.
const clamdTemp = "/dev/shm"

// startClamd runs the clamd that scans for everybody. It keeps no cache: a
// made-up load repeats what real mail does not.
func startClamd(ctx context.Context, dir, tmp, socket string) (*service, error) {
	user := ""
	if os.Getuid() == 0 {
		user = "User root\n"
	}
	conf := fmt.Sprintf(`DatabaseDirectory %s
LocalSocket %s
LocalSocketMode 666
FixStaleSocket yes
%sForeground yes
TemporaryDirectory %s
MaxThreads 12
MaxQueue 200
ReadTimeout 120
StreamMaxLength 100M
DisableCache yes
SelfCheck 0
`, filepath.Join(dir, "db"), socket, user, tmp)
	file := filepath.Join(dir, "clamd.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		return nil, err
	}
	s, err := startService(dir, "clamd", "/usr/sbin/clamd", "-c", file)
	if err != nil {
		return nil, err
	}
	return s, s.waitFor(ctx, time.Minute, listening("unix", socket))
}

func startClamdAlone(_ context.Context, b *bed, _, _ string) (*running, error) {
	return &running{open: func(int) func() sender { return clamdAt(b.clamd) }}, nil
}

// mailwardWith starts `mailward serve` with some lines of its configuration.
func mailwardWith(conf string) func(context.Context, *bed, string, string) (*running, error) {
	return func(ctx context.Context, b *bed, _, hop string) (*running, error) {
		g, err := startGateway(ctx, b, hop, fmt.Sprintf(conf, "unix:"+b.clamd, filepath.Join(b.dir, "db")))
		if err != nil {
			g.stop()
			return nil, err
		}
		return &running{open: func(per int) func() sender { return smtpTo(g.smtp, per) }, trees: []tree{g.tree()}, gateway: g, held: g.quarantined}, nil
	}
}

// begin starts a peer in a folder of its own. What was started is stopped again
// when not all of it starts.
func (p peer) begin(ctx context.Context, b *bed, hop string) (*running, error) {
	dir := filepath.Join(b.dir, strings.ReplaceAll(p.name, " ", "-"))
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	r, err := p.start(ctx, b, dir, hop)
	if err != nil {
		r.stop()
		return nil, err
	}
	return r, nil
}

// add remembers a server that was started, or the reason why it was not.
func (r *running) add(s *service, err error) error {
	if s != nil {
		r.services = append(r.services, s)
		r.trees = append(r.trees, tree{name: "gateway", root: s.pid()})
	}
	return err
}

var errNeedsRoot = errors.New("needs root")
