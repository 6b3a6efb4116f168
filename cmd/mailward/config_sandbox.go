package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mailward/gateway/facts"
	"mailward/gateway/ledger"
	"mailward/policy"
	"mailward/quarantine"
	"mailward/quarantine/sandbox"
	"mailward/scanner"
	"mailward/scanner/cape"
)

// Sandbox is CAPE.
type Sandbox struct {
	URL            string        `yaml:"url"`
	Token          Secret        `yaml:"token"`
	CAFile         string        `yaml:"ca_file"`
	TasksPerMinute int           `yaml:"tasks_per_minute"`
	InFlight       int           `yaml:"in_flight"`
	MaxFile        Size          `yaml:"max_file"`
	CacheFor       time.Duration `yaml:"cache_for"`
	PollEvery      time.Duration `yaml:"poll_every"`
}

func defaultSandbox() Sandbox {
	d := sandbox.DefaultConfig()
	return Sandbox{TasksPerMinute: d.TasksPerMinute, InFlight: d.InFlight, MaxFile: Size(d.MaxFile), CacheFor: d.CacheFor, PollEvery: d.PollEvery}
}

// configured says whether there is a sandbox.
func (s *Sandbox) configured() bool { return s.URL != "" }

func (s *Sandbox) validate(p *problems) {
	p.check(s.URL != "" || s.Token.Value() == "", "sandbox.token", "needs sandbox.url")
	if s.URL != "" {
		_, err := cape.New(cape.Config{URL: s.URL, CAFile: s.CAFile})
		p.check(err == nil, "sandbox", "cannot be used: %v", err)
	}
	p.check(s.TasksPerMinute >= 1 && s.TasksPerMinute <= 10_000, "sandbox.tasks_per_minute", "must be 1 to 10000, is %d", s.TasksPerMinute)
	p.check(s.InFlight >= 1 && s.InFlight <= 1000, "sandbox.in_flight", "must be 1 to 1000, is %d", s.InFlight)
	p.check(s.MaxFile >= 1 && s.MaxFile <= 30_000_000, "sandbox.max_file", "must be 1 to 30000000 bytes, is %s", s.MaxFile)
	p.check(s.CacheFor >= 0 && s.CacheFor <= 30*24*time.Hour, "sandbox.cache_for", "must be 0 to 720h, is %s", s.CacheFor)
	p.check(s.PollEvery >= 100*time.Millisecond && s.PollEvery <= 10*time.Minute, "sandbox.poll_every", "must be 100ms to 10m, is %s", s.PollEvery)
}

// buildSandbox makes the queue that asks the sandbox about held mail.
func (p *program) buildSandbox() (err error) {
	c := &p.conf.Sandbox
	if !c.configured() {
		return nil
	}
	if p.cape, err = newCape(c); err != nil {
		return err
	}
	cfg := sandbox.DefaultConfig()
	cfg.TasksPerMinute, cfg.InFlight, cfg.MaxFile, cfg.CacheFor, cfg.PollEvery = c.TasksPerMinute, c.InFlight, int64(c.MaxFile), c.CacheFor, c.PollEvery
	p.sandbox, err = sandbox.New(cfg, sandbox.Deps{Log: p.log, DB: p.db, Store: p.quarantine, Audit: p.audit, Cape: p.cape, Parts: p.sidecar, NoPart: scanner.ErrNoPart, Policies: p.policies, Heard: p.heard, Metrics: p.metrics})
	if err != nil {
		return err
	}
	p.quarantine.UseSandbox(p.sandbox)
	return nil
}

// heard is what the first decision on a held mail was told of it. An item may
// outlive its row in the ledger, and has the same but for where links lead.
func (p *program) heard(ctx context.Context, i quarantine.Item) (policy.Input, error) {
	row, _, err := p.ledger.Get(ctx, i.MailID)
	if errors.Is(err, ledger.ErrNotFound) {
		row, err = ledger.Row{Direction: i.Direction, ClientIP: i.ClientIP, EnvelopeFrom: i.EnvelopeFrom, HeaderFrom: i.HeaderFrom, Subject: i.Subject,
			Findings: i.Findings, Engines: i.Engines, Parts: i.Parts, Auth: i.Auth}, nil
	}
	return facts.Stored(row), err
}

func newCape(c *Sandbox) (*cape.Client, error) {
	client, err := cape.New(cape.Config{URL: c.URL, Token: c.Token.Value(), CAFile: c.CAFile})
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	return client, nil
}
