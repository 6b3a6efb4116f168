package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/uuid"

	"mailward/audit"
	"mailward/audit/proof"
	"mailward/audit/seal"
	"mailward/identity"
	"mailward/internal/durable"
)

type auditCmd struct {
	Verify    auditVerifyCmd    `cmd:"" help:"Check a bundle, offline, or the database. Exit code 0: all fits, 1: something was changed or is not signed by the key that was given, 2: it could not be checked."`
	Export    auditExportCmd    `cmd:"" help:"Write a bundle that can be checked without us, or print events."`
	Reanchor  auditReanchorCmd  `cmd:"" help:"After a lawful restore of the database: seal under a new name, which tells of the old head."`
	RotateKey auditRotateKeyCmd `cmd:"" name:"rotate-key" help:"Sign checkpoints with a new key from now on."`
	Erase     auditEraseCmd     `cmd:"" help:"Erase a personal value (an address) from all events. Every proof stays valid."`
	Purge     auditPurgeCmd     `cmd:"" help:"List months of events whose time is over, or delete one."`
}

type auditVerifyCmd struct {
	Bundle     string   `arg:"" optional:"" help:"A bundle of mailward audit export. Without: the database is checked." type:"path"`
	Key        []string `help:"Public key that you trust (NAME+ID+BASE64). Without: the keys in the bundle are believed." placeholder:"VKEY"`
	Checkpoint string   `help:"A checkpoint that was kept earlier: what is checked must have grown out of it." placeholder:"FILE" type:"path"`
	TSACA      string   `name:"tsa-ca" help:"Certificates of time stamp authorities that you trust, in PEM." placeholder:"FILE" type:"path"`
}

// Exit codes of verify.
const (
	codeTampered = 1
	codeNoCheck  = 2
)

// Run checks a bundle or the database.
func (cmd *auditVerifyCmd) Run(ctx context.Context, c *cli, e *env) error {
	kept, err := cmd.kept()
	if err != nil {
		return exitCode{codeNoCheck, err}
	}
	if cmd.Bundle == "" {
		return cmd.database(ctx, c, e, kept)
	}
	opt := proof.Options{Earlier: kept, Signature: identity.VerifySigned}
	for _, s := range cmd.Key {
		k, err := proof.ParseVKey(s)
		if err != nil {
			return exitCode{codeNoCheck, err}
		}
		opt.Trusted = append(opt.Trusted, k)
	}
	if opt.Roots, err = cmd.roots(); err != nil {
		return exitCode{codeNoCheck, err}
	}
	rep, err := verifyFile(cmd.Bundle, opt)
	if err != nil {
		return exitCode{codeNoCheck, err}
	}
	for _, n := range rep.Notices {
		fmt.Fprintln(e.out, "Note:", n)
	}
	if rep.Problem != "" {
		return exitCode{codeTampered, fmt.Errorf("CHANGED: %s", rep.Problem)}
	}
	fmt.Fprintf(e.out, "%d events under %d leaves fit %d signed checkpoints, the newest of %d events under %s.\n", rep.Events, rep.Leaves, rep.Checkpoints, rep.Head.Size, rep.Head.Origin)
	for _, k := range rep.SignedBy {
		v, err := k.VKey(rep.Head.Origin)
		if err != nil {
			return exitCode{codeNoCheck, err}
		}
		fmt.Fprintln(e.out, "Signed by", v)
	}
	_, err = fmt.Fprintf(e.out, "%d receipts of others; %d time stamps fit, %d of them by a trusted authority. %d personal values are erased or left out, %d events deleted after their time.\n"+
		"%d acts are signed by the passkey of who did them; of %d more the signed text is erased or left out; %d of the same kinds stand on the server's word alone.\n",
		rep.Receipts, rep.Stamps, rep.Trusted, rep.Erased, rep.Purged, rep.Signed, rep.SignedErased, rep.Unsigned)
	return err
}

func (cmd *auditVerifyCmd) kept() (string, error) {
	if cmd.Checkpoint == "" {
		return "", nil
	}
	b, err := os.ReadFile(cmd.Checkpoint)
	if err != nil {
		return "", fmt.Errorf("read the checkpoint that was kept: %w", err)
	}
	return string(b), nil
}

func (cmd *auditVerifyCmd) roots() (*x509.CertPool, error) {
	roots, err := pool(cmd.TSACA)
	if err != nil {
		return nil, fmt.Errorf("--tsa-ca %w", err)
	}
	return roots, nil
}

func verifyFile(path string, opt proof.Options) (proof.Report, error) {
	f, err := os.Open(path)
	if err != nil {
		return proof.Report{}, fmt.Errorf("open bundle: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return proof.Report{}, fmt.Errorf("open bundle: %w", err)
	}
	return proof.Verify(f, st.Size(), opt)
}

// database checks the stored bytes against their leaves, and the leaves against
// every checkpoint.
func (cmd *auditVerifyCmd) database(ctx context.Context, c *cli, e *env, kept string) error {
	log, sealer, done, err := openAudit(ctx, c, e)
	if err != nil {
		return exitCode{codeNoCheck, err}
	}
	defer done()
	res, err := log.Verify(ctx)
	if err != nil {
		return exitCode{codeNoCheck, err}
	}
	if res.Problem != "" {
		return exitCode{codeTampered, fmt.Errorf("CHANGED: %d events fit, then: %s", res.Events, res.Problem)}
	}
	tree, err := sealer.VerifyDatabase(ctx, kept)
	if err != nil {
		return exitCode{codeNoCheck, err}
	}
	if tree.Problem != "" {
		return exitCode{codeTampered, fmt.Errorf("CHANGED: %s", tree.Problem)}
	}
	_, err = fmt.Fprintf(e.out, "%d events, all as they were recorded, none missing between them; %d signed checkpoints fit.\n", res.Events, tree.Checkpoints)
	return err
}

type auditExportCmd struct {
	File      string    `arg:"" optional:"" help:"Where the bundle goes. Without: events are printed." type:"path"`
	Workspace string    `help:"Bundle: only this workspace (id)."`
	From      time.Time `help:"Bundle: from this time on (2026-11-01T00:00:00Z)."`
	To        time.Time `help:"Bundle: to before this time."`
	Anonymous bool      `help:"Bundle: leave personal values out; the commitments to them stay."`
	Format    string    `default:"ndjson" enum:"ndjson,csv,csv-plain,ocsf,ecs,cef" help:"Printed: ndjson, csv (ends in records that say what it came to), csv-plain, ocsf, ecs or cef."`
	Action    string    `help:"Printed: only this action; a * at the end stands for anything."`
	Actor     string    `help:"Printed: only this actor (id or e-mail address)."`
}

// Run writes or prints. That is an act itself, and goes on record first.
func (cmd *auditExportCmd) Run(ctx context.Context, c *cli, e *env) error {
	var ws uuid.UUID
	if cmd.Workspace != "" {
		var err error
		if ws, err = uuid.Parse(cmd.Workspace); err != nil {
			return fmt.Errorf("--workspace must be the id of a workspace, is %q", cmd.Workspace)
		}
	}
	log, sealer, done, err := openAudit(ctx, c, e)
	if err != nil {
		return err
	}
	defer done()
	what := map[string]any{"format": cmd.Format, "from": cmd.From, "to": cmd.To, "anonymous": cmd.Anonymous, "action": cmd.Action, "actor": audit.Personal(cmd.Actor)}
	if cmd.File != "" {
		what["format"] = "bundle"
	}
	ev := audit.Event{Action: audit.AuditExport, Actor: operator(), Phase: "intent", ReasonCode: "command_line", Workspace: ws, Retention: audit.Retention3Years, After: what}
	if ev, err = log.BeginExport(ctx, ev); err != nil {
		return fmt.Errorf("the export cannot be put on record, so it is refused: %w", err)
	}
	if cmd.File != "" {
		err = cmd.bundle(ctx, sealer, e, ws)
		return errors.Join(err, log.EndExport(ctx, ev, audit.Summary{}, err))
	}
	return log.Export(ctx, ev, audit.Selection{Filter: audit.Filter{Action: cmd.Action, Actor: cmd.Actor}, Format: audit.Format(cmd.Format)}, e.out)
}

// bundle writes beside the target and renames, so that half of one is never
// taken for one.
func (cmd *auditExportCmd) bundle(ctx context.Context, sealer *seal.Sealer, e *env, ws uuid.UUID) (err error) {
	var man proof.Manifest
	err = durable.Write(cmd.File, 0o600, func(w io.Writer) (err error) {
		man, err = sealer.WriteBundle(ctx, w, seal.Part{Workspace: ws, From: cmd.From, To: cmd.To, Anonymous: cmd.Anonymous, Version: version})
		return err
	})
	if err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	_, err = fmt.Fprintf(e.out, "%s: %d events (numbers %d to %d) under a checkpoint of %d. Check it with: mailward audit verify %s\n", cmd.File, man.Events, man.FirstSeq, max(man.EndSeq, 1)-1, man.Size, cmd.File)
	return err
}

type auditReanchorCmd struct {
	Reason string `required:"" help:"Why the database is older than its last checkpoint: what was restored, by whom, which ticket."`
}

// Run opens a new origin.
func (cmd *auditReanchorCmd) Run(ctx context.Context, c *cli, e *env) error {
	_, sealer, done, err := openAudit(ctx, c, e)
	if err != nil {
		return err
	}
	defer done()
	old, now, err := sealer.Reanchor(ctx, operator(), cmd.Reason)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.out, "Sealed as %s from now on. The last head of %s is on record:\n\n%s", now.Origin, old.Origin, old.Note)
	return err
}

type auditRotateKeyCmd struct {
	Reason string `required:"" help:"Why."`
}

// Run makes a new key and has it signed in by the old one.
func (cmd *auditRotateKeyCmd) Run(ctx context.Context, c *cli, e *env) error {
	log, sealer, done, err := openAudit(ctx, c, e)
	if err != nil {
		return err
	}
	defer done()
	keys, ok := sealer.Keys.(seal.Local)
	if !ok {
		return errors.New("the sealing key is in OpenBao: make a new version of it there")
	}
	if err := log.Record(ctx, audit.Event{Action: audit.SealKey, Phase: "intent", Actor: operator(), Reason: cmd.Reason, Retention: audit.Retention3Years, Severity: "warning"}); err != nil {
		return fmt.Errorf("the rotation cannot be put on record, so it is refused: %w", err)
	}
	if _, err := sealer.Seal(ctx); err != nil { // the old key signs what is there
		return err
	}
	_, after, err := keys.Rotate()
	if err != nil {
		return err
	}
	if _, err := sealer.Seal(ctx); err != nil { // puts the new key on record
		return err
	}
	if err := log.SequenceAll(ctx); err != nil {
		return err
	}
	head, err := sealer.Seal(ctx)
	if err != nil {
		return err
	}
	v, err := after.VKey(head.Origin)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.out, "Checkpoints are signed by a new key from now on; the first of them by the old key too, which hands over to it. Tell the new key to those who check:\n%s\n", v)
	return err
}

type auditEraseCmd struct {
	Value      string `arg:"" help:"The address (mail or IP) to erase."`
	LegalBasis string `required:"" help:"As in: Art. 17(1)(a) GDPR."`
	Reason     string `required:"" help:"Who asked, which ticket."`
}

// Run erases a value.
func (cmd *auditEraseCmd) Run(ctx context.Context, c *cli, e *env) error {
	log, _, done, err := openAudit(ctx, c, e)
	if err != nil {
		return err
	}
	defer done()
	n, err := log.Erase(ctx, operator(), cmd.Value, cmd.LegalBasis, cmd.Reason)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.out, "%d values erased. Streams, exports and backups made before still have them: see docs/security.md.\n", n)
	return err
}

type auditPurgeCmd struct {
	Partition string `arg:"" optional:"" help:"Month to delete, as the list names it. Without: the list."`
	Reason    string `help:"Why."`
	Approval  string `help:"Approval of a second person (id), where the installation asks for it."`
}

// Run lists or deletes.
func (cmd *auditPurgeCmd) Run(ctx context.Context, c *cli, e *env) error {
	log, _, done, err := openAudit(ctx, c, e)
	if err != nil {
		return err
	}
	defer done()
	if cmd.Partition == "" {
		return cmd.list(ctx, log, e)
	}
	var approval *uuid.UUID
	if cmd.Approval != "" {
		id, err := uuid.Parse(cmd.Approval)
		if err != nil {
			return fmt.Errorf("--approval must be the id of an approval, is %q", cmd.Approval)
		}
		approval = &id
	}
	protocol, err := log.Purge(ctx, operator(), cmd.Partition, cmd.Reason, approval)
	if errors.Is(err, audit.ErrIncomplete) {
		return errors.New("a month is not deleted without --reason")
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.out, "%s deleted; the protocol is event %s.\n", cmd.Partition, protocol)
	return err
}

func (cmd *auditPurgeCmd) list(ctx context.Context, log *audit.Log, e *env) error {
	classes, err := log.Retention(ctx)
	if err != nil {
		return err
	}
	for _, r := range classes {
		fmt.Fprintf(e.out, "%s: kept %s; %s\n", r.Class, r.Keep, r.LegalBasis)
	}
	months, err := log.Purgeable(ctx)
	if err != nil {
		return err
	}
	for _, m := range months {
		state := "can be deleted"
		if m.WhyNot != "" {
			state = m.WhyNot
		}
		fmt.Fprintf(e.out, "%s: time over since %s; %s\n", m.Partition, m.KeptUntil.UTC().Format(time.DateOnly), state)
	}
	return nil
}

// openAudit opens the record and its seal for a command.
func openAudit(ctx context.Context, c *cli, e *env) (*audit.Log, *seal.Sealer, func(), error) {
	conf, err := c.load(e)
	if err != nil {
		return nil, nil, nil, err
	}
	p := &program{conf: conf, log: quiet(e.err)}
	db, done, err := databaseFor(ctx, conf, p.log)
	if err != nil {
		return nil, nil, nil, err
	}
	p.db = db
	p.audit = audit.New(db, audit.Options{Observer: audit.Observer{Node: nodeName(), Version: version}, Log: p.log})
	if err = p.openBao(); err == nil {
		p.seal, err = p.newSealer(nil)
	}
	if err != nil {
		done()
		return nil, nil, nil, err
	}
	return p.audit, p.seal, done, nil
}
