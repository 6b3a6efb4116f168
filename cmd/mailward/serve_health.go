package main

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"strings"
	"time"

	"mailward/evidence/store"
	"mailward/evidence/tsa"
	"mailward/gateway"
	"mailward/gateway/hop"
	"mailward/health"
	"mailward/identity/sso"
	"mailward/intel"
	"mailward/internal/worm"
	"mailward/policy"
	"mailward/scanner"
	"mailward/scanner/dlp"
)

// outsideComponents are the servers of others that we stand on, as far as they are
// set up: services, MISP, the store of evidence, the authority of time stamps,
// providers of sign-in, resolvers, clocks and channels.
func (p *program) outsideComponents() ([]health.Component, error) {
	list, err := p.conf.Health.components()
	if err != nil {
		return nil, err
	}
	cow, err := p.conf.Mailcow.component()
	if err != nil {
		return nil, err
	}
	list = append(append(list, cow...), health.DNS(p.resolvers), health.Clock(p.clocks()))
	for _, f := range p.conf.Intel.configs() {
		if f.Type == intel.TypeMISP {
			list = append(list, health.MISP(f.Name, f.URL, f.Key, nil))
		}
	}
	for _, one := range p.conf.providers() {
		list = append(list, health.Provider(one.Provider.Name(), one.Provider.Title(), func(ctx context.Context) (int, error) {
			keys, err := one.Provider.Check(ctx)
			return keys, providerError(err)
		}))
	}
	vault, err := p.conf.vault()
	if err != nil {
		return nil, err
	}
	list = append(list, health.EvidenceStore(func(ctx context.Context) (health.Vault, error) { return checkVault(ctx, vault) }))
	if t := p.conf.Evidence.TSA; t.URL != "" {
		c, err := p.conf.tsaComponent()
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	if p.alerts != nil {
		list = append(list, health.Channels(p.channels, time.Now))
	}
	if p.sandbox != nil {
		list = append(list, health.SandboxQueue(func(ctx context.Context) (health.Waits, error) {
			q, err := p.sandbox.Status(ctx)
			return health.Waits{Waiting: q.Waiting, InFlight: q.InFlight, NoVerdict: q.NoVerdict, Oldest: q.Oldest}, err
		}, time.Now))
	}
	return list, nil
}

func (p *program) resolvers(ctx context.Context) (list []health.Resolver) {
	for _, a := range p.dns.Check(ctx) {
		list = append(list, health.Resolver{Address: a.Server, Latency: a.Latency, Err: a.Err})
	}
	return list
}

func (p *program) clocks() (list []health.ClockSource) {
	for _, s := range p.conf.Health.NTP {
		list = append(list, health.NTP(s))
	}
	return append(list, health.DatabaseClock(p.db))
}

// blockLists are the DNSBLs in use: they change at SIGHUP.
func (p *program) blockLists() (list []health.Component) {
	if p.guard == nil {
		return nil
	}
	for _, zone := range p.guard.Zones() {
		list = append(list, health.DNSBL(zone, func(ctx context.Context) health.List {
			t := p.guard.Try(ctx, zone)
			l := health.List{Zone: zone, Listed: t.Listed, World: t.World, Trouble: t.Code, Meaning: t.Meaning}
			if t.Err != nil {
				l.Problem = t.Err.Error()
				l.TimedOut = errors.Is(ctx.Err(), context.DeadlineExceeded)
			}
			return l
		}))
	}
	return list
}

func providerError(err error) error {
	var status *sso.StatusError
	switch {
	case errors.As(err, &status):
		return &health.StatusError{Status: status.Status}
	case errors.Is(err, sso.ErrInvalid):
		return errors.Join(health.ErrWrongBody, err)
	}
	return err
}

func checkVault(ctx context.Context, s store.Store) (health.Vault, error) {
	switch s := s.(type) {
	case store.S3:
		err := s.Bucket.Check(ctx)
		return health.Vault{Bucket: s.Bucket.Name, Locked: err == nil, Denied: errors.Is(err, worm.ErrDenied), NoLock: errors.Is(err, worm.ErrNoLock)}, err
	case store.Folder:
		return health.Vault{}, s.Check(ctx)
	}
	return health.Vault{}, nil
}

func (c *Config) tsaComponent() (health.Component, error) {
	roots, err := certificates(c.Evidence.TSA.CAFile)
	if err != nil {
		return health.Component{}, err
	}
	r := tsa.Remote{URL: c.Evidence.TSA.URL, Trust: roots, Client: health.Client(nil)}
	return health.TSA(hostOf(r.URL), func(ctx context.Context) (health.Stamped, error) {
		began := time.Now()
		st, err := r.Stamp(ctx, []byte("mailward health check "+rand.Text()))
		var no *tsa.AnswerError
		switch {
		case errors.As(err, &no) && no.Status != 200:
			err = &health.StatusError{Status: no.Status}
		case no != nil, errors.Is(err, tsa.ErrAnswer):
			err = errors.Join(health.ErrWrongBody, err)
		}
		out := health.Stamped{Trusted: st.Trusted}
		if err == nil {
			out.Offset = st.Time.Sub(began)
			if st.Signer != nil {
				out.NotAfter = st.Signer.NotAfter
			}
		}
		return out, err
	}, time.Now), nil
}

// hostOf is an address without what may be secret in it.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

func (p *program) channels(ctx context.Context) (list []health.Told, err error) {
	all, err := p.alerts.Channels(ctx)
	for _, c := range all {
		list = append(list, health.Told{Name: c.Name, Enabled: c.Enabled, LastSent: c.LastSent, LastError: c.LastError, Waiting: c.Waiting})
	}
	return list, err
}

// hopWarnings is what is not right about the hosts of a route, though mail flows.
func hopWarnings(list []hop.Checked, now time.Time) (warnings health.Text) {
	for _, c := range list {
		switch {
		case c.Err != nil:
			warnings = append(warnings, health.HostUnused(c.Host)...)
		case c.Expires.IsZero() || c.Verified == "dane": // RFC 7672 §3.1.1: with DANE-EE the dates do not count
		case c.Expires.Before(now):
			warnings = append(warnings, health.CertificateEnded(c.Host, c.Expires)...)
		case c.Expires.Sub(now) < certificateSoon:
			warnings = append(warnings, health.CertificateEnds(c.Host, c.Expires)...)
		}
	}
	return warnings
}

// marks are the test mails of the engines that are in use.
func (p *program) marks() (list []gateway.Mark) {
	if p.conf.Scanner.uses("yara") {
		list = append(list, gateway.TextMark("yara", "mailward-proof-of-detection-7Qm2vXc9LrT4", "Mailward_Proof"))
	}
	if p.conf.Scanner.uses("clamav") {
		list = append(list, gateway.EICARMark("clamav", scanner.TestFile()))
	}
	// What judges reads content that the sidecar has taken out.
	if p.conf.Scanner.uses("yara") {
		list = append(list, gateway.PhishingMark(policy.PhishingEngine), gateway.TextMark(policy.DLPEngine, dlp.ProofMark, ""))
	}
	return list
}

const (
	// proofBegin is how soon after the start the first test mails are sent.
	proofBegin = 10 * time.Second
	// proofAgain is how soon they are sent again after one was not found, so that an
	// engine that is back is not doubted for long.
	proofAgain = 20 * time.Second
)

// runProofs has the engines prove that they detect, again and again.
func (p *program) runProofs(ctx context.Context) error {
	t := time.NewTimer(proofBegin)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		var round []health.Proof
		next := health.ProofEvery
		for _, x := range p.gateway.Prove(ctx, p.marks()) {
			if ctx.Err() != nil {
				return nil
			}
			if !x.Detected {
				next = proofAgain
				p.log.Warn("an engine has not proven that it detects", "engine", x.Engine, "answered", x.Answered, "detail", x.Detail)
			}
			round = append(round, health.Proof{Engine: x.Engine, TriedAt: x.At, Detected: x.Detected, Answered: x.Answered, Detail: x.Detail})
		}
		if err := p.proofs.Keep(ctx, round); err != nil && ctx.Err() == nil {
			p.log.Warn("proofs of detection not stored", "error", err)
		}
		t.Reset(next)
	}
}

// proofsRead is how often a process looks at what the others have proven.
const proofsRead = 20 * time.Second

func (p *program) readProofs(ctx context.Context) error {
	t := time.NewTicker(proofsRead)
	defer t.Stop()
	for {
		if err := p.proofs.Load(ctx); err != nil && ctx.Err() == nil {
			p.log.Debug("proofs of detection not read", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// proven wraps an engine's component where test mails are sent.
func (p *program) proven(c health.Component, engine string) health.Component {
	if p.proofs == nil {
		return c
	}
	return health.Proven(c, engine, p.proofs.Of, time.Now)
}

// countProofs notes which engines have not found the last test mail.
func (p *program) countProofs(_ context.Context, at time.Time) {
	for _, x := range p.proofs.Latest(at) {
		blind := 1.0
		if x.Detected {
			blind = 0
		}
		p.meter.Gauge(at, "detection_failed", x.Engine, blind)
	}
}

// countLag notes how long ago feeds were read well.
func (p *program) countLag(ctx context.Context, at time.Time) {
	list, err := p.feeds.States(ctx)
	if err != nil {
		p.log.Debug("lag of feeds not known", "error", err)
		return
	}
	for _, f := range list {
		p.meter.Gauge(at, "cti_sync_lag_minutes", "cti:"+strings.ToLower(f.Name), max(0, f.LagMinutes))
	}
}

// countReports notes reports of incidents that are due soon, and those overdue.
func (p *program) countReports(ctx context.Context, at time.Time) {
	soon, overdue, err := p.incidents.Due(ctx, nil)
	if err != nil {
		p.log.Error("deadlines of incidents not known", "error", err)
		if soon == 0 {
			return // which is not the same as none
		}
	}
	p.meter.Gauge(at, "incident_reports_due", "", float64(soon))
	p.meter.Gauge(at, "incident_reports_overdue", "", float64(overdue))
}
