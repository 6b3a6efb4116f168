package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/redis/go-redis/v9"

	"mailward/alerting"
	"mailward/alerting/meter"
	"mailward/audit"
	"mailward/audit/seal"
	"mailward/evidence"
	"mailward/gateway"
	"mailward/gateway/history"
	"mailward/gateway/hop"
	"mailward/gateway/ledger"
	"mailward/gateway/limit"
	"mailward/gateway/queue"
	"mailward/health"
	"mailward/identity"
	"mailward/incident"
	"mailward/intel"
	"mailward/internal/bao"
	"mailward/internal/dns"
	"mailward/internal/message"
	"mailward/internal/pg"
	"mailward/mailauth"
	"mailward/mailcow"
	"mailward/policy"
	"mailward/quarantine"
	"mailward/quarantine/digest"
	"mailward/quarantine/rescan"
	"mailward/quarantine/sandbox"
	"mailward/scanner"
	"mailward/scanner/cape"
	"mailward/scanner/dlp"
	"mailward/scanner/ruleset"
	"mailward/webui"
)

type serveCmd struct {
	Only []string `help:"Run only these parts: gateway, web, worker." placeholder:"PART"`
}

// parts of the program that may run in processes of their own.
var parts = []string{"gateway", "web", "worker"}

func (cmd *serveCmd) runs(part string) bool {
	return len(cmd.Only) == 0 || slices.Contains(cmd.Only, part)
}

// program is everything that runs, in the order in which it is built.
type program struct {
	conf     Config
	confPath string
	environ  []string
	log      *slog.Logger

	servers    *backing
	db         *pg.DB
	redis      *redis.Client
	metrics    *prometheus.Registry
	dns        *dns.Resolver
	audit      *audit.Log
	seal       *seal.Sealer
	identity   *identity.Store
	policies   *policy.Store
	dlp        *dlp.Store
	history    *history.Store
	intel      *intel.Store
	feeds      *intel.Feeds
	mailcow    *mailcow.Directory // nil: none is set
	ledger     *ledger.Ledger
	quarantine *quarantine.Store
	blobKeys   *quarantine.Keys
	evidence   *evidence.Store
	incidents  *incident.Store
	bulks      *quarantine.Bulks
	coverage   *quarantine.Coverage
	spooler    *message.Spooler
	scanner    *scanner.Scanner
	clamd      *scanner.Clamd
	sidecar    *scanner.Sidecar
	rules      *ruleset.Store
	cert       *certificate
	hops       *hop.Sender
	guard      *limit.Guard
	recipients *limit.Recipients // nil: next hops are not asked
	lists      *limit.Lists
	queue      *queue.Queue
	digests    *digest.Store
	cape       *cape.Client // nil: no sandbox is set up, as for the next
	sandbox    *sandbox.Queue
	bao        *bao.Client      // nil: not set up
	signer     *mailauth.Signer // nil: nothing is signed
	gateway    *gateway.Server
	meter      *meter.Meter
	alerts     *alerting.Store
	health     *health.Monitor
	proofs     *health.Proofs // nil: engines are not asked to prove that they detect
	past       *health.Past
	accepting  atomic.Bool // SMTP connections are taken
	only       string      // the parts that run here

	stops []func(context.Context) // what has to be stopped, in the order of its start
}

// Run builds the program top to bottom, runs it until a signal or a failure,
// and stops it in reverse order.
func (cmd *serveCmd) Run(ctx context.Context, c *cli, e *env) (err error) {
	for _, part := range cmd.Only {
		if !slices.Contains(parts, part) {
			return fmt.Errorf("--only takes %s, not %q", strings.Join(parts, ", "), part)
		}
	}
	conf, err := c.load(e)
	if err != nil {
		return err
	}
	p := &program{conf: conf, confPath: c.Config, environ: e.environ, log: logger(e.err), metrics: prometheus.NewRegistry()}
	p.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	defer func() { p.stop() }()

	first, err := p.build(ctx, cmd.runs)
	if err != nil {
		return err
	}
	failed := make(chan error, 16)
	p.runLoops(failed)
	if err := p.serveDebug(failed); err != nil {
		return err
	}
	if cmd.runs("worker") {
		if err := p.runWorkers(failed, e.out); err != nil {
			return err
		}
	}
	p.onRecord(ctx, cmd.Only)
	if cmd.runs("web") {
		if err := p.serveWeb(failed); err != nil {
			return err
		}
	}
	if cmd.runs("gateway") {
		if err := p.serveSMTP(failed); err != nil {
			return err
		}
	}
	p.loop("proofs of detection of others", failed, p.readProofs)
	if cmd.runs("gateway") {
		p.loop("proof of detection", failed, p.runProofs)
	}
	p.loop("health", failed, p.health.Run) // last, so that it finds everything there
	if first.OneTimePassword != "" {
		p.quiet(ctx)
	}
	banner(e.err, conf, first, p.servers.testSignatures())

	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			p.log.Info("stopping: what is under way is finished first")
			return nil
		case err := <-failed:
			return err
		case <-hangup:
			p.reload()
		}
	}
}

// build makes every part. Nothing takes mail or requests yet.
func (p *program) build(ctx context.Context, runs func(part string) bool) (first identity.BootstrapResult, err error) {
	if p.servers, err = findServers(ctx, p.conf, needs{database: true, redis: true, clamd: true, scanner: true, exclusive: true}, p.log); err != nil {
		return first, err
	}
	p.onStop(p.servers.stop)
	if p.db, err = openDatabase(ctx, p.servers, p.log); err != nil {
		return first, err
	}
	p.onStop(func(context.Context) { p.db.Close() })
	if err := p.openRedis(); err != nil {
		return first, err
	}
	p.audit = audit.New(p.db, audit.Options{Observer: audit.Observer{Node: nodeName(), Version: version}, Log: p.log})
	if first, err = p.bootstrap(ctx); err != nil {
		return first, err
	}
	if err := p.buildMeter(); err != nil {
		return first, err
	}
	if err := p.buildMail(ctx); err != nil {
		return first, err
	}
	p.bulks = quarantine.NewBulks(p.quarantine, p.log, webui.NewBulkAskers(p.identity))
	p.coverage = quarantine.NewCoverage(p.quarantine, p.log, func(workspace uuid.UUID, domains []string) {
		for _, d := range domains {
			p.meter.Count("coverage_late_hits", workspace, d, 1)
		}
	})
	if err := p.buildAlerts(runs("worker")); err != nil {
		return first, err
	}
	p.proofs, p.past = health.NewProofs(p.db, nodeName()), health.NewPast(p.db, nodeName())
	components, err := p.components(runs("gateway"))
	if err != nil {
		return first, err
	}
	p.health = health.New(components, p.log, health.WithStore(health.NewDBStore(p.db)), health.WithDynamic(p.moving), health.WithPast(p.past))
	if err := p.health.Restore(ctx); err != nil {
		p.log.Warn("earlier health states not read", "error", err)
	}
	return first, p.metrics.Register(p.health)
}

// buildHandover makes what stands between us and other mail servers: who may come in,
// where mail goes, what waits and what is signed.
func (p *program) buildHandover(ctx context.Context) (err error) {
	if p.cert, err = loadCertificate(p.conf.SMTP.TLS); err != nil {
		return err
	}
	if p.dns, err = p.conf.DNS.resolver(p.metrics); err != nil {
		return err
	}
	if err := p.openHops(); err != nil {
		return err
	}
	if err := p.buildEdge(); err != nil {
		return err
	}
	p.queue = queue.New(p.conf.queueConfig(), queue.Deps{
		Log: p.log, DB: p.db, Policies: p.policies, Ledger: p.ledger, Quarantine: p.quarantine, Audit: p.audit, Hops: p.hops, Metrics: p.metrics,
	})
	return p.buildSigning(ctx)
}

// buildMail makes the parts on the path of a mail.
func (p *program) buildMail(ctx context.Context) (err error) {
	routes := p.conf.Relay.static()
	if p.conf.embeddedSink() {
		if routes, err = p.startSink(); err != nil {
			return err
		}
	}
	p.policies = policy.NewStore(p.db, routes, p.log)
	if err := p.policies.Load(ctx); err != nil {
		return err
	}
	p.ledger = ledger.New(p.db, p.log)
	p.onStop(func(context.Context) { p.ledger.Close() })
	if err := p.buildQuarantine(); err != nil {
		return err
	}
	spool := message.DefaultConfig()
	spool.Dir, spool.MaxSize, spool.Normalise = p.conf.subdir("spool"), int64(p.conf.SMTP.MaxMessageSize), p.conf.SMTP.BareNewline == "normalise"
	if p.spooler, err = message.NewSpooler(spool); err != nil {
		return err
	}
	if p.scanner, p.clamd, p.sidecar, err = newScanner(p.servers, p.conf, p.policies.Served, p.log); err != nil {
		return err
	}
	p.history = history.New(p.db, p.log)
	if p.incidents, err = incident.NewStore(p.db, nil); err != nil {
		return err
	}
	p.dlp = dlp.NewStore(p.db, p.log)
	if err := p.dlp.Load(ctx); err != nil {
		return err
	}
	if err := p.buildIntel(); err != nil {
		return err
	}
	p.scanner = p.scanner.WithJudges(dlp.NewJudge(p.dlp), intel.NewJudge(p.intel))
	p.quarantine.UseEngines(rescan.New(p.scanner, p.spooler))
	p.quarantine.UseRoutes(p.policies.Serves)
	if err := p.buildSandbox(); err != nil {
		return err
	}
	p.rules = ruleset.New(p.conf.managedRules(), ruleset.Deps{DB: p.db, Sidecar: p.sidecar, Quarantine: p.quarantine, Audit: p.audit, Log: p.log})
	if err := p.buildHandover(ctx); err != nil {
		return err
	}
	if err := p.buildDigests(); err != nil {
		return err
	}
	if p.seal, err = p.newSealer(p.queue); err != nil {
		return err
	}
	if err := p.buildEvidence(); err != nil {
		return err
	}
	if err := p.buildMailcow(); err != nil {
		return err
	}
	p.gateway, err = gateway.New(gateway.Config{
		Hostname: p.conf.Hostname, Node: nodeName(), MaxMessageSize: int64(p.conf.SMTP.MaxMessageSize),
		MaxRecipients: p.conf.SMTP.MaxRecipients, MaxConnections: p.conf.SMTP.MaxConnections, Limits: p.conf.Limits.Enabled, TLS: p.cert.config(), ProxyFrom: prefixes(p.conf.SMTP.ProxyProtocolFrom), XForwardFrom: prefixes(p.conf.SMTP.XForwardFrom),
		OutboundFrom: prefixes(p.conf.Relay.OutboundFrom), AnySender: p.conf.Relay.OutboundSenders == "any",
		SandboxConfigured: p.conf.Sandbox.configured(),
	}, gateway.Deps{
		Log: p.log, DB: p.db, Spooler: p.spooler, Scanner: p.scanner, Policies: p.policies, Ledger: p.ledger, Quarantine: p.quarantine, Audit: p.audit, Queue: p.queue, Hops: p.hops, Metrics: p.metrics,
		History: p.history, Guard: p.guard, Recipients: p.recipients, Lists: p.lists, Auth: mailauth.New(p.dns), Signer: p.gatewaySigner(), Counter: p.meter,
	})
	return err
}

// runLoops starts what every process needs.
func (p *program) runLoops(failed chan<- error) {
	p.loop("policies", failed, p.policies.Run)
	p.loop("dlp sets", failed, p.dlp.Run)
	p.loop("history of senders", failed, p.history.Run)
	p.loop("threat intelligence", failed, p.intel.Run)
	p.loop("audit of API calls", failed, p.audit.RunLater)
	p.loop("logins that wait for the audit", failed, p.identity.RunSpool)
	p.loop("rule sets", failed, p.rules.Run)
	p.loop("notices of requests", failed, p.tellDeciders)
	p.loop("counts for alerts", failed, p.meter.Run)
	if p.bao != nil {
		p.loop("token of OpenBao", failed, p.bao.Run)
	}
	if p.signer != nil {
		p.loop("signing keys", failed, p.signer.Run)
	}
}

// shutdownLimit is for the mails that are under way: a mail takes 60 s at most.
const shutdownLimit = 75 * time.Second

// serveSMTP opens all listeners before the first connection is taken, so that
// an address in use is a failure to start.
func (p *program) serveSMTP(failed chan<- error) error {
	listeners, err := p.openListeners()
	if err != nil {
		return err
	}
	p.onStop(func(ctx context.Context) {
		p.accepting.Store(false)
		ctx, cancel := context.WithTimeout(ctx, shutdownLimit)
		defer cancel()
		if err := p.gateway.Shutdown(ctx); err != nil {
			p.log.Warn("SMTP broken off", "error", err)
		}
	})
	meetRoutes(p.hops, p.policies.NextHops())
	p.accepting.Store(true)
	if p.mailcow != nil && p.conf.Mailcow.Recipients {
		p.loop("recipients of mailcow", failed, p.learnRecipients)
	}
	for _, l := range listeners {
		go func() {
			if err := l.serve(l.Listener); err != nil && p.accepting.Load() {
				p.accepting.Store(false)
				failed <- err
			}
		}()
	}
	return nil
}

// onStop remembers how to stop what was just started.
func (p *program) onStop(f func(context.Context)) { p.stops = append(p.stops, f) }

// stop ends everything, the last started first.
func (p *program) stop() {
	ctx := context.Background()
	for i := len(p.stops) - 1; i >= 0; i-- {
		p.stops[i](ctx)
	}
	p.stops = nil
}

// loop runs f until the program stops; its early end ends the program.
func (p *program) loop(name string, failed chan<- error, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f(ctx); ctx.Err() == nil {
			failed <- fmt.Errorf("%s ended: %w", name, err)
		}
	}()
	p.onStop(func(context.Context) { cancel(); <-done })
}
