package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"mailward/audit"
)

type quarantineCmd struct {
	Keys   quarantineKeysCmd   `cmd:"" help:"List the keys that wrap the keys of held mail, and how much each has wrapped. Exit code 1: one of them is not here."`
	Rewrap quarantineRewrapCmd `cmd:"" help:"Wrap the key of every held mail with the key in force, after that key was rotated or another was configured."`
	Sweep  quarantineSweepCmd  `cmd:"" help:"Compare held mail with its rows now: remove what nothing needs, report what is gone. Exit code 1: bytes are gone."`
}

type quarantineKeysCmd struct{}

// Run lists the keys.
func (quarantineKeysCmd) Run(ctx context.Context, c *cli, e *env) error {
	p, err := openQuarantine(ctx, c, e)
	if err != nil {
		return err
	}
	defer p.stop()
	uses, err := p.quarantine.KeyUses(ctx, p.blobKeys)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(e.out, 0, 8, 2, ' ', 0)
	code := 0
	for _, u := range uses {
		note := "older"
		switch {
		case u.Unknown:
			note, code = "NOT HERE: restore it from your backup", 1
		case u.Current:
			note = "in force"
		}
		fmt.Fprintf(w, "%s\t%d blobs\t%s\n", u.Name, u.Blobs, note)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if code != 0 {
		return exitCode{code, nil}
	}
	return nil
}

type quarantineRewrapCmd struct {
	Rotate bool   `help:"Make a new key first: a file beside the old one, which stays, or a new version in OpenBao."`
	Reason string `required:"" help:"Why."`
}

// Run rewraps. A running gateway sees a new local key by itself.
func (cmd *quarantineRewrapCmd) Run(ctx context.Context, c *cli, e *env) error {
	p, err := openQuarantine(ctx, c, e)
	if err != nil {
		return err
	}
	defer p.stop()
	if cmd.Rotate {
		now, err := p.quarantine.RotateKey(ctx, operator(), p.blobKeys, cmd.Reason)
		if err != nil {
			return err
		}
		fmt.Fprintf(e.out, "New keys are wrapped by %s from now on. Save data_dir/keys again where it is a local key.\n", now)
	}
	r, err := p.quarantine.Rewrap(ctx, operator(), p.blobKeys, cmd.Reason)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.out, "%d keys of held mail are wrapped by %s now.\n", r.Done, r.Key)
	for _, line := range r.Errors {
		fmt.Fprintln(e.err, "mailward:", line)
	}
	if r.Failed > 0 {
		return exitCode{1, fmt.Errorf("%d keys are as they were: run it again when that is mended", r.Failed)}
	}
	return nil
}

type quarantineSweepCmd struct{}

// Run sweeps.
func (quarantineSweepCmd) Run(ctx context.Context, c *cli, e *env) error {
	p, err := openQuarantine(ctx, c, e)
	if err != nil {
		return err
	}
	defer p.stop()
	if _, err := p.quarantine.Sweep(ctx); err != nil {
		return err
	}
	s, err := p.quarantine.BlobStatus(ctx, p.blobKeys)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(e.out, "Swept. The bytes of %d mails are gone.\n", s.Missing); err != nil {
		return err
	}
	if s.Refused > 0 {
		fmt.Fprintf(e.out, "%d files without a row were left, as they are too many to be believed: is this the right database?\n", s.Refused)
	}
	if s.Missing > 0 {
		return exitCode{1, nil}
	}
	return nil
}

// openQuarantine opens the store of held mail for a command.
func openQuarantine(ctx context.Context, c *cli, e *env) (*program, error) {
	conf, err := c.load(e)
	if err != nil {
		return nil, err
	}
	p := &program{conf: conf, log: quiet(e.err)}
	servers, err := findServers(ctx, conf, needs{database: true}, p.log)
	if err != nil {
		return nil, err
	}
	p.onStop(servers.stop)
	if p.db, err = openDatabase(ctx, servers, p.log); err == nil {
		p.onStop(func(context.Context) { p.db.Close() })
		p.audit = audit.New(p.db, audit.Options{Observer: audit.Observer{Node: nodeName(), Version: version}, Log: p.log})
		err = p.buildQuarantine()
	}
	if err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}
