package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"mailward/approval"
	"mailward/identity"
	"mailward/quarantine"
	"mailward/webui"
)

// serveWeb opens the web UI and the API.
func (p *program) serveWeb(failed chan<- error) error {
	ui, err := webui.New(webui.Config{
		Hostname: p.conf.Hostname, PublicURL: webAddress(p.conf), TrustedProxies: prefixes(p.conf.HTTP.TrustedProxies), SMTPAddress: dialable(p.conf.SMTP.Listen[0]), Version: version,
		Retention: quarantine.DefaultConfig().KeepFor, Sandbox: p.conf.Sandbox.URL != "",
	}, webui.Deps{
		Log: p.log, Audit: p.audit, Seal: p.seal, Identity: p.identity, Quarantine: p.quarantine, Bulks: p.bulks, Coverage: p.coverage, Digests: p.digests, Ledger: p.ledger, Queue: p.queue, Policies: p.policies, DLP: p.dlp, Incidents: p.incidents,
		Health: p.health, Sidecar: p.sidecar, Scanner: p.scanner, Spooler: p.spooler, Rules: p.rules, Alerts: p.alerts, Evidence: p.evidence, Intel: p.intel, Feeds: p.feeds, Mailcow: p.mailcow, Metrics: p.metrics, Now: time.Now,
	})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", p.conf.HTTP.Listen)
	if err != nil {
		return fmt.Errorf("listen for HTTP: %w", err)
	}
	srv := &http.Server{
		Handler:           ui.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		// An export of the audit, or a raw mail to a slow reader, takes its time.
		WriteTimeout:   10 * time.Minute,
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: 64 << 10,
		ErrorLog:       slog.NewLogLogger(p.log.Handler(), slog.LevelWarn),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("web server: %w", err)
		}
	}()
	p.onStop(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if srv.Shutdown(ctx) != nil {
			srv.Close()
		}
		<-done
	})
	return nil
}

// tellDeciders writes to those who can decide on what waits for a second person.
func (p *program) tellDeciders(ctx context.Context) error {
	compose, err := webui.ApprovalMail(p.conf.Hostname, p.conf.HTTP.PublicURL)
	if err != nil {
		return err
	}
	return p.identity.Approvals().RunNotices(ctx, approval.Notices{Postman: p.queue, Compose: compose, Log: p.log,
		Deciders: identity.RolesWith(identity.Approve), InstallDeciders: identity.RolesWith(identity.WorkspacesWrite)})
}
