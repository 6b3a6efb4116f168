package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/mail"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"mailward/alerting"
	"mailward/alerting/channel"
	"mailward/alerting/meter"
	"mailward/audit"
	"mailward/gateway/hop"
	"mailward/health"
	"mailward/quarantine"
)

// Alerts is what channels need that must not be in the database.
type Alerts struct {
	From         string            `yaml:"from"`
	Secrets      map[string]Secret `yaml:"secrets"`
	AllowPrivate []string          `yaml:"allow_private"`
	CAFile       string            `yaml:"ca_file"`
	File         string            `yaml:"file"`
}

func (a *Alerts) validate(p *problems) {
	if a.From != "" {
		from, err := mail.ParseAddress(a.From)
		p.check(err == nil && from.Address == a.From, "alerts.from", "must be a mail address, is %q", a.From)
	}
	for _, cidr := range a.AllowPrivate {
		_, err := netip.ParsePrefix(cidr)
		p.check(err == nil, "alerts.allow_private", "must hold CIDRs such as 10.0.0.5/32, has %q", cidr)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Secrets)) {
		p.check(name != "" && len(name) <= 100 && strings.Trim(name, " \t\r\n") == name, "alerts.secrets", "has a name that cannot be used: %q", name)
		_, err := alerting.SecretOf(name)
		p.check(err == nil, "alerts.secrets."+name, "has a slash: the id of a workspace must stand before it")
		p.check(a.Secrets[name].Value() != "" || strings.HasPrefix(a.Secrets[name].reference, "bao:"), "alerts.secrets."+name, "is empty")
	}
	if _, err := pool(a.CAFile); err != nil {
		p.add("alerts.ca_file", "%v", err)
	}
	p.check(a.File == "" || filepath.IsAbs(a.File), "alerts.file", "must be an absolute path, is %q", a.File)
}

// resolveSecrets looks the secrets up; those in OpenBao are put into kept.
func (a *Alerts) resolveSecrets(getenv func(string) (string, bool), kept map[string]*Secret) (done func(), errs []error) {
	names := slices.Sorted(maps.Keys(a.Secrets))
	in := map[string]*Secret{}
	for _, name := range names {
		s := a.Secrets[name]
		in[name] = &s
		if strings.HasPrefix(s.reference, "bao:") {
			kept["alerts.secrets."+name] = &s
		} else if err := s.resolve(getenv); err != nil {
			errs = append(errs, fmt.Errorf("alerts.secrets.%s: %w", name, err))
		}
	}
	return func() {
		for name, s := range in {
			a.Secrets[name] = *s
		}
	}, errs
}

// watched are the metrics of Prometheus that rules of alerts look at.
var watched = map[string]meter.Watched{
	"mailward_sandbox_failures_total":        {Metric: "sandbox_failures"},
	"mailward_sandbox_queue_age_minutes":     {Metric: "sandbox_queue_age_minutes"},
	"mailward_sandbox_late_malicious_total":  {Metric: "sandbox_late_malicious"},
	"mailward_queue_age_seconds":             {Metric: "delivery_queue_age_minutes", Scale: 1.0 / 60},
	"mailward_gateway_forged_releases_total": {Metric: "forged_releases"},
	"mailward_logins_waiting":                {Metric: "logins_waiting_for_audit"},
}

// What an alarm has of mail that was found bad after it was delivered, at most.
const (
	hitsMost    = 10
	holdersMost = 10 // of one mail, and as many names of what was found
)

// lateHits is what alerts say of mail that was found bad after it was delivered.
func (p *program) lateHits(ctx context.Context, workspace uuid.UUID, domain string, sandbox bool, since time.Time) (list []channel.Hit, err error) {
	late, err := p.quarantine.LateHits(ctx, quarantine.LateFilter{Since: since, All: workspace == uuid.Nil, Workspaces: []uuid.UUID{workspace}, Domain: domain, Sandbox: sandbox, Limit: hitsMost})
	for _, l := range late {
		h := channel.Hit{Item: l.Item, Class: string(l.Class), More: max(len(l.Holders)-holdersMost, 0)}
		for _, f := range l.Found[:min(len(l.Found), holdersMost)] {
			h.Found = append(h.Found, f.Name)
		}
		for _, x := range l.Holders[:min(len(l.Holders), holdersMost)] {
			h.Holders = append(h.Holders, channel.HitHolder{Address: x.Address, Since: x.Since, Seconds: int64(l.At.Sub(x.Since).Seconds())})
		}
		list = append(list, h)
	}
	return list, err
}

// buildMeter makes what counts; it comes before all that counts.
func (p *program) buildMeter() (err error) {
	p.meter, err = meter.New(p.db, meter.Options{Node: nodeName(), Metrics: p.metrics, Log: p.log})
	return err
}

// buildAlerts makes the store of rules and alerts, and tells the meter what to
// ask besides what it is told.
func (p *program) buildAlerts(worker bool) error {
	c := p.conf.Alerts
	roots, err := pool(c.CAFile)
	if err != nil {
		return fmt.Errorf("alerts.ca_file %w", err)
	}
	from := c.From
	if from == "" {
		from = "mailward@" + p.conf.Hostname
	}
	secrets := map[string]string{}
	for name, s := range c.Secrets {
		secrets[name] = s.Value()
	}
	sender := channel.NewSender(channel.Config{Hostname: p.conf.Hostname, PublicURL: webAddress(p.conf), From: from, AllowPrivate: prefixes(c.AllowPrivate), Roots: roots, File: c.File, Mailer: mailer{p}})
	p.onStop(func(context.Context) { sender.Close() })
	p.alerts, err = alerting.New(alerting.Config{Node: nodeName(), Secrets: secrets, Sandbox: p.conf.Sandbox.configured()}, alerting.Deps{DB: p.db, Log: p.log, Audit: p.audit, Sender: sender, Meter: p.meter, Metrics: p.metrics,
		Lead: func(ctx context.Context, fn func(context.Context) error) error {
			return p.audit.Lead(ctx, audit.LockRules, fn)
		}, Late: p.lateHits})
	if err != nil {
		return err
	}
	p.meter.Ask(meter.Watch(p.meter, p.metrics, watched, p.log))
	p.meter.Ask(p.countHealth)
	p.meter.Ask(p.countAuditFailures())
	p.meter.Ask(p.countProofs)
	if worker {
		p.meter.Ask(p.countSealLag)
		p.meter.Ask(p.countLag)
		p.meter.Ask(p.countReports)
	}
	return nil
}

// countHealth notes which components are down.
func (p *program) countHealth(_ context.Context, at time.Time) {
	for _, c := range p.health.Latest().Components {
		down, degraded := 0.0, 0.0
		switch c.State {
		case health.Down:
			down = 1
		case health.Degraded, health.NotAuthorised:
			degraded = 1
		case health.Up:
		default:
			continue // nothing is known, or somebody knows better
		}
		p.meter.Gauge(at, "component_down", strings.ToLower(c.Name), down)
		p.meter.Gauge(at, "component_degraded", strings.ToLower(c.Name), degraded)
	}
}

func (p *program) countAuditFailures() meter.Source {
	last := int64(0)
	return func(_ context.Context, at time.Time) {
		if n := p.audit.Failures(); n > last {
			p.meter.CountAt(at, "audit_write_failures", uuid.Nil, "", float64(n-last))
			last = n
		}
	}
}

func (p *program) countSealLag(ctx context.Context, at time.Time) {
	s, err := p.sealStatus(ctx)
	if err != nil {
		p.log.Debug("lag of the seal not known", "error", err)
		return
	}
	p.meter.Gauge(at, "audit_seal_lag_seconds", "", max(0, s.OldestAge.Seconds()))
}

// runAlerts starts what one process of an installation does.
func (p *program) runAlerts(failed chan<- error) {
	p.loop("alert rules", failed, p.alerts.Run)
	p.loop("alerts without a database", failed, p.alerts.RunFallback)
	p.loop("audit to alerts", failed, func(ctx context.Context) error { return p.audit.RunSink(ctx, alerting.Record{Meter: p.meter}) })
}

// mailer hands alerts over to the next hops, as only the gateway's part for that
// knows how to reach them. They do not pass the delivery queue: it may be what
// the alert is about.
type mailer struct{ p *program }

// Mail implements [channel.Mailer]. A recipient that is refused for good is no
// reason to send to the others again.
func (m mailer) Mail(ctx context.Context, from string, to []string, raw []byte) error {
	routes := map[string][]hop.Recipient{}
	for _, a := range to {
		r := m.p.policies.Route(a)
		if r == "" {
			return &channel.FailedError{Text: "there is no route to " + a + ": serve its domain, or set relay.outbound", Permanent: true}
		}
		routes[r] = append(routes[r], hop.Recipient{Address: a})
	}
	head := m.signature(ctx, from, raw)
	var errs []error
	for _, r := range slices.Sorted(maps.Keys(routes)) {
		res := m.p.hops.Send(ctx, r, hop.Transfer{From: from, To: routes[r], Size: int64(len(head) + len(raw)), Head: head, Body: bytes.NewReader(raw)})
		if res.Err != nil {
			errs = append(errs, failure(res.Err))
			continue
		}
		for _, a := range slices.Sorted(maps.Keys(res.Refused)) {
			errs = append(errs, failure(res.Refused[a]))
		}
	}
	return worst(errs)
}

func failure(err error) error {
	f := &channel.FailedError{Text: hop.Harmless(err.Error(), 300)}
	var no *hop.Reply
	f.Permanent = errors.As(err, &no) && !no.Temporary()
	return f
}

// worst is one error for several recipients: it passes if one of them does.
func worst(errs []error) error {
	for _, err := range errs {
		var f *channel.FailedError
		if errors.As(err, &f) && !f.Permanent {
			return f
		}
	}
	if len(errs) > 0 {
		return errs[0]
	}
	return nil
}

// signature is our DKIM signature; nil where we have no key for the domain.
func (m mailer) signature(ctx context.Context, from string, raw []byte) []byte {
	if m.p.signer == nil {
		return nil
	}
	_, domain, _ := strings.Cut(from, "@")
	header, body, _ := bytes.Cut(raw, []byte("\r\n\r\n"))
	header = append(bytes.Clone(header), "\r\n"...)
	sig, err := m.p.signer.DKIM(ctx, domain, nil, header, func() io.Reader { return bytes.NewReader(body) })
	if err != nil {
		m.p.log.Log(ctx, slog.LevelDebug, "alert not signed", "domain", domain, "error", err)
		return nil
	}
	return sig
}
