package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/user"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"mailward/audit"
	"mailward/gateway"
	"mailward/gateway/hop"
	"mailward/health"
	"mailward/identity"
	"mailward/intel"
	"mailward/internal/message"
	"mailward/internal/pg"
	"mailward/policy"
	"mailward/quarantine"
	"mailward/scanner"
	"mailward/scanner/phishing"
	"mailward/scanner/ruleset"
)

func nodeName() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "unknown"
	}
	return name
}

// operator is the person at the command line of this host.
func operator() pg.Actor {
	name := "uid " + strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return pg.Operator(name + "@" + nodeName())
}

func prefixes(list []string) (out []netip.Prefix) {
	for _, s := range list {
		// Validate tells of one that is none, and asks here before it has.
		if p, err := netip.ParsePrefix(s); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// bootstrap makes the first administrator, once.
func (p *program) bootstrap(ctx context.Context) (first identity.BootstrapResult, err error) {
	// Every host that serves the web has the same file.
	key, err := quarantine.OpenLocalKey(p.conf.subdir("keys", "identity.key"))
	if err != nil {
		return first, err
	}
	if p.identity, err = newIdentity(p.conf, p.db, p.audit, p.redis, p.log, key, p.metrics); err != nil {
		return first, err
	}
	return p.identity.Bootstrap(ctx, bootstrapOf(p.conf))
}

// demoDomain is what an installation without any next hop takes mail for. It
// is reserved for examples, so no real mail is ever kept here by mistake.
const demoDomain = "example.org"

// startSink runs the Maildir that is the next hop where none is configured.
func (p *program) startSink() (policy.StaticRoutes, error) {
	sink, err := gateway.NewSink(p.conf.subdir("sink"), p.log)
	if err != nil {
		return policy.StaticRoutes{}, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return policy.StaticRoutes{}, fmt.Errorf("listen for the sink: %w", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := sink.Serve(l); err != nil {
			p.log.Error("sink ended", "error", err)
		}
	}()
	p.onStop(func(context.Context) { sink.Close(); <-done })
	addr := l.Addr().String()
	return policy.StaticRoutes{Default: addr, Domains: map[string]string{demoDomain: addr}, Outbound: p.conf.Relay.Outbound}, nil
}

// newScanner puts the engines and judges together. served says which domains are
// ours, for judging who looks like them; nil: nobody asks.
func newScanner(b *backing, conf Config, served func(uuid.UUID) []string, log *slog.Logger) (*scanner.Scanner, *scanner.Clamd, *scanner.Sidecar, error) {
	clamd := scanner.NewClamd(scanner.ClamdConfig{Address: b.clamd, Database: b.signatures, MaxFile: b.clamdMaxFile})
	sidecar := scanner.NewSidecar(scanner.SidecarConfig{Socket: b.scanner})
	var engines []scanner.Engine
	if conf.Scanner.uses(sidecar.Name()) {
		engines = append(engines, sidecar)
	}
	if conf.Scanner.uses(clamd.Name()) {
		engines = append(engines, clamd)
	}
	if r := newRspamd(conf.Rspamd); r != nil {
		engines = append(engines, r)
	}
	cfg := scanner.DefaultConfig()
	cfg.Split = conf.ClamAV.Scan != "whole"
	if conf.Scanner.Slots > 0 {
		cfg.Slots = conf.Scanner.Slots
	}
	s, err := scanner.New(cfg, log, engines...)
	if err != nil {
		return nil, nil, nil, err
	}
	signs, err := phishing.New(phishing.Config{Hostname: conf.Hostname, Served: served, People: func(uuid.UUID) []string { return conf.Phishing.People }})
	if err != nil {
		return nil, nil, nil, err
	}
	return s.WithJudges(signs), clamd, sidecar, nil
}

// newRspamd is nil where none is set.
func newRspamd(c Rspamd) *scanner.Rspamd {
	if c.URL == "" {
		return nil
	}
	return scanner.NewRspamd(scanner.RspamdConfig{URL: c.URL, Password: c.Password.Value()})
}

// probeMail is what the scanner's health check has scanned: harmless, tiny,
// and through the same door as any mail.
const probeMail = "From: health@mailward.invalid\r\nTo: health@mailward.invalid\r\nSubject: health check\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\nMessage-ID: <health@mailward.invalid>\r\n\r\nNothing to find here.\r\n"

func engineInfo(check func(context.Context) (scanner.Info, error), rules bool) health.EngineCheck {
	return func(ctx context.Context) (health.EngineInfo, error) {
		i, err := check(ctx)
		info := health.EngineInfo{Version: i.Version, Database: i.Database, DatabaseTime: i.DatabaseTime, Detail: i.Detail}
		if i.Reach != nil {
			info.Facts = map[string]string{"tells_limits": strconv.FormatBool(i.Reach.Alerts), "reach_mb": strconv.FormatInt(i.Reach.File>>20, 10)}
		}
		if rules {
			info.Facts = map[string]string{"rules": strconv.Itoa(i.Rules)}
		}
		return info, err
	}
}

// components is everything that is always checked; next hops come and go.
func (p *program) components(smtp bool) ([]health.Component, error) {
	list := []health.Component{
		health.PostgreSQL(p.db), health.Replication(p.db), health.Redis(p.redis),
		p.proven(health.OrOff(health.ClamAV(engineInfo(p.clamd.Check, false), p.servers.testSignatures, time.Now), !p.conf.Scanner.uses("clamav")), "clamav"),
		p.proven(health.OrOff(health.Scanner(engineInfo(p.sidecar.Check, true), p.probe), !p.conf.Scanner.uses("yara")), "yara"),
		health.RuleSets(p.ruleSets), health.Audit(p.auditStatus), health.Seal(p.sealStatus), health.DeliveryQueue(p.db, time.Now),
		health.Disk(p.conf.DataDir, uint64(message.DefaultConfig().MinFree)),
	}
	if p.quarantine != nil {
		list = append(list, health.Blobs(p.blobStatus, time.Now))
	}
	if r := newRspamd(p.conf.Rspamd); r != nil {
		list = append(list, health.Rspamd(engineInfo(r.Check, false)))
	}
	if p.digests != nil {
		list = append(list, health.Digest(p.digestStatus))
	}
	list = append(list, p.keyComponents()...)
	list = append(list, p.sandboxComponent())
	list = append(list, p.feedComponents()...)
	if p.proofs != nil && p.conf.Scanner.uses("yara") {
		list = append(list, p.proven(health.Detection("phishing", "Phishing detection"), policy.PhishingEngine), p.proven(health.Detection("dlp", "Leak detection (DLP)"), policy.DLPEngine))
	}
	if smtp {
		list = append(list, health.Listener(func() error {
			if !p.accepting.Load() {
				return errors.New("no listener is open")
			}
			return nil
		}))
	}
	outside, err := p.outsideComponents()
	return append(list, outside...), err
}

// checkOnce is the checks of a running installation, for `mailward doctor`.
func checkOnce(ctx context.Context, conf Config, servers *backing, log *slog.Logger) (health.Report, error) {
	p := &program{conf: conf, servers: servers, log: log}
	defer p.stop()
	var err error
	if p.db, err = openDatabase(ctx, servers, log); err != nil {
		return health.Report{}, err
	}
	p.onStop(func(context.Context) { p.db.Close() })
	if err := p.openRedis(); err != nil {
		return health.Report{}, err
	}
	p.audit = audit.New(p.db, audit.Options{Observer: audit.Observer{Node: nodeName(), Version: version}, Log: log})
	if _, p.clamd, p.sidecar, err = newScanner(servers, conf, nil, log); err != nil {
		return health.Report{}, err
	}
	p.rules = ruleset.New(conf.managedRules(), ruleset.Deps{DB: p.db, Sidecar: p.sidecar, Log: log})
	dir, err := os.MkdirTemp("", "mailward-doctor")
	if err != nil {
		return health.Report{}, err
	}
	p.onStop(func(context.Context) { os.RemoveAll(dir) })
	spool := message.DefaultConfig()
	spool.Dir = dir
	if p.spooler, err = message.NewSpooler(spool); err != nil {
		return health.Report{}, err
	}
	if p.dns, err = conf.DNS.resolver(nil); err != nil {
		return health.Report{}, err
	}
	if err := p.openHops(); err != nil {
		return health.Report{}, err
	}
	if err := p.buildSigning(ctx); err != nil {
		return health.Report{}, err
	}
	if p.seal, err = p.newSealer(nil); err != nil {
		return health.Report{}, err
	}
	if conf.Sandbox.configured() {
		if p.cape, err = newCape(&p.conf.Sandbox); err != nil {
			return health.Report{}, err
		}
	}
	p.feeds = intel.NewFeeds(intel.NewStore(p.db, nil, log), conf.Intel.configs(), log)
	p.policies = policy.NewStore(p.db, conf.Relay.static(), log)
	if err := p.policies.Load(ctx); err != nil {
		return health.Report{}, err
	}
	list, err := p.components(false)
	if err != nil {
		return health.Report{}, err
	}
	return health.New(list, log, health.WithDynamic(p.moving)).Check(ctx), nil
}

// openRedis prepares the client. Redis holds only what may be lost, so nobody
// waits long for it.
func (p *program) openRedis() error {
	options, err := redis.ParseURL(p.servers.redisURL)
	if err != nil {
		return fmt.Errorf("redis.url: %w", err)
	}
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout, options.MaxRetries = time.Second, time.Second, time.Second, -1
	options.ContextTimeoutEnabled = true
	p.redis = redis.NewClient(options)
	p.onStop(func(context.Context) { p.redis.Close() })
	return nil
}

func (p *program) probe(ctx context.Context) error {
	spool, err := p.spooler.FromBytes([]byte(probeMail))
	if err != nil {
		return err
	}
	defer spool.Close()
	answer, err := p.sidecar.Scan(ctx, scanner.Job{Spool: spool})
	if err != nil {
		return err
	}
	if len(answer.Findings) > 0 {
		return fmt.Errorf("a harmless test message was called %s: a rule matches everything", answer.Findings[0].Name)
	}
	return nil
}

// moving are the components that come and go.
func (p *program) moving() []health.Component { return append(p.nextHops(), p.blockLists()...) }

func (p *program) nextHops() (list []health.Component) {
	for _, addr := range p.policies.NextHops() {
		if addr == "mx" {
			continue // the servers of the world are not ours to watch
		}
		list = append(list, health.NextHop(addr, p.checkHop))
	}
	return list
}

// openHops prepares what hands mail over.
func (p *program) openHops() error {
	conf, err := p.conf.hopConfig(p.dns)
	if err != nil {
		return err
	}
	conf.Shelf = hopShelf{p.redis}
	p.hops = hop.New(conf)
	p.onStop(func(context.Context) { p.hops.Close() })
	return nil
}

// certificateSoon is how long before its end a hop's certificate is spoken of.
const certificateSoon = 14 * 24 * time.Hour

// checkHop asks each host of a route. With one of them mail flows; the others'
// troubles, and certificates that end soon, are warnings.
func (p *program) checkHop(ctx context.Context, route string) (health.Hop, error) {
	list, err := p.hops.Check(ctx, route)
	var out health.Hop
	for _, c := range list {
		out.Hosts = append(out.Hosts, c.String())
	}
	out.Warnings = hopWarnings(list, time.Now())
	return out, err
}

func (p *program) ruleSets(ctx context.Context) (health.RuleSetStatus, error) {
	s, err := p.rules.Status(ctx)
	return health.RuleSetStatus{Shared: s.Shared, Sets: s.Sets, Wanted: s.Wanted, InForce: s.InForce, Late: s.Late, Problem: s.Problem}, err
}

func (p *program) auditStatus(ctx context.Context) (health.AuditStatus, error) {
	s, err := p.audit.Status(ctx)
	if err != nil {
		return health.AuditStatus{}, err
	}
	out := health.AuditStatus{Unsequenced: s.Waiting, LastSeq: s.LastSeq, TamperAttempts: s.TamperAttempts, GuardLevel: s.Guard}
	if !s.OldestWaiting.IsZero() {
		out.OldestAge = time.Since(s.OldestWaiting)
	}
	out.Findings, out.CheckedAt, err = p.audit.Checked(ctx)
	return out, err
}

// runWorkers starts what one process of an installation has to do: any number
// may run it, the database lets one at a time.
func (p *program) runWorkers(failed chan<- error, stream io.Writer) error {
	p.loop("audit sequencer", failed, p.audit.RunSequencer)
	if err := p.runSeal(failed, audit.Writer{To: stream}); err != nil {
		return err
	}
	p.loop("audit guard", failed, p.audit.RunGuard)
	p.loop("partitions", failed, p.audit.RunPartitions)
	p.loop("sweep of blobs", failed, p.sweep)
	if err := p.runJobs(); err != nil {
		return err
	}
	p.loop("delivery", failed, p.queue.Run)
	p.loop("digests", failed, p.digests.Run)
	p.loop("feeds of threat intelligence", failed, p.feeds.Run)
	p.loop("expired indicators", failed, p.intel.RunSweep)
	p.loop("exports of evidence", failed, p.evidence.Run)
	p.loop("acts on many held mails", failed, p.bulks.Run)
	p.loop("scans of mail without an engine", failed, p.coverage.Run)
	p.loop("index of held mail", failed, p.quarantine.RunIndex)
	p.loop("trials of rules", failed, p.rules.RunBacktests)
	p.runAlerts(failed)
	return nil
}

// sweepEvery is how often files without a row are looked for.
const sweepEvery = time.Hour

func (p *program) sweep(ctx context.Context) error {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		if n, err := p.quarantine.Sweep(ctx); err != nil && ctx.Err() == nil {
			p.log.Error("blobs not swept", "error", err)
		} else if n.Removed > 0 {
			p.log.Info("blobs that nothing needs removed", "count", n.Removed)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// reload reads the configuration again and takes over what can change while
// mail flows. A mistake changes nothing.
func (p *program) reload() {
	conf, err := loadConfig(p.confPath, p.environ)
	if err != nil {
		p.log.Error("not reloaded, the old configuration stays in force", "error", err)
		p.reloaded(nil)
		return
	}
	if err := p.cert.load(conf.SMTP.TLS); err != nil {
		p.log.Error("certificate not reloaded, the old one stays in force", "error", err)
	}
	if hops, err := conf.hopConfig(p.dns); err != nil {
		p.log.Error("routes not reloaded, the old ones stay in force", "error", err)
	} else {
		p.hops.Reload(hops)
	}
	if !conf.embeddedSink() && !p.conf.embeddedSink() {
		p.policies.SetStatic(conf.Relay.static())
	}
	p.reloadSigning(&conf)
	p.guard.Reload(conf.limitConfig(p.getenv))
	if err := p.lists.Load(conf.Relay.Recipients); err != nil {
		p.log.Error("lists of recipients not reloaded, the old ones stay in force", "error", err)
	}
	// A scanner of our own reads its rules again, and keeps the old ones when
	// they do not compile. One that runs by itself gets its own SIGHUP.
	p.servers.reloadRules()
	p.reloaded(&conf)
	p.log.Info("reloaded: routes, certificate, limits, recipients, rules")
}

// certificate is the one that is in force now.
type certificate struct {
	current atomic.Pointer[tls.Certificate]
}

func loadCertificate(files TLS) (*certificate, error) {
	c := &certificate{}
	return c, c.load(files)
}

func (c *certificate) load(files TLS) error {
	if files.CertFile == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
	if err != nil {
		return fmt.Errorf("smtp.tls: %w", err)
	}
	c.current.Store(&pair)
	return nil
}

// config is nil without a certificate: then STARTTLS is not offered.
func (c *certificate) config() *tls.Config {
	if c.current.Load() == nil {
		return nil
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
}
