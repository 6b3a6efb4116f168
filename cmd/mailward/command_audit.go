package main

import (
	"context"
	"fmt"

	"mailward/audit"
)

type auditCmd struct {
	Verify auditVerifyCmd `cmd:"" help:"Recompute the hash of every event and look for gaps. Exit code 1: something does not fit."`
	Export auditExportCmd `cmd:"" help:"Print events, newest first."`
}

type auditVerifyCmd struct{}

// Run checks the stored bytes against their leaves.
func (cmd *auditVerifyCmd) Run(ctx context.Context, c *cli, e *env) error {
	log, done, err := openAudit(ctx, c, e)
	if err != nil {
		return err
	}
	defer done()
	res, err := log.Verify(ctx)
	if err != nil {
		return err
	}
	if res.Problem != "" {
		return exitCode{1, fmt.Errorf("%d events fit, then: %s", res.Events, res.Problem)}
	}
	_, err = fmt.Fprintf(e.out, "%d events, all as they were recorded, none missing between them.\n", res.Events)
	return err
}

type auditExportCmd struct {
	Format string `default:"ndjson" enum:"ndjson,csv" help:"ndjson or csv."`
	Action string `help:"Only this action; a * at the end stands for anything."`
	Actor  string `help:"Only this actor (id or e-mail address)."`
}

// Run prints events. That is an act itself, and goes on record first.
func (cmd *auditExportCmd) Run(ctx context.Context, c *cli, e *env) error {
	log, done, err := openAudit(ctx, c, e)
	if err != nil {
		return err
	}
	defer done()
	f := audit.Filter{Action: cmd.Action, Actor: cmd.Actor}
	if err := log.Record(ctx, audit.Event{Action: audit.AuditExport, Actor: operator(), Phase: "intent", ReasonCode: "command_line"}); err != nil {
		return fmt.Errorf("the export cannot be put on record, so it is refused: %w", err)
	}
	if cmd.Format == "csv" {
		return log.WriteCSV(ctx, f, e.out)
	}
	return log.WriteNDJSON(ctx, f, e.out)
}

func openAudit(ctx context.Context, c *cli, e *env) (*audit.Log, func(), error) {
	conf, err := c.load(e)
	if err != nil {
		return nil, nil, err
	}
	log := quiet(e.err)
	db, done, err := databaseFor(ctx, conf, log)
	if err != nil {
		return nil, nil, err
	}
	return audit.New(db, audit.Options{Observer: audit.Observer{Node: nodeName(), Version: version}, Log: log}), done, nil
}
